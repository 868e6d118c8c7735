/* philox.h - Philox4x32-10 on the device: the same words as fv_philox (src/core/random.c). */
#ifndef FV_CUDA_PHILOX_H
#define FV_CUDA_PHILOX_H
#include "cuda/launch.h"
#include <stdint.h>

struct philox_words {
    uint32_t w[4];
};

__device__ __forceinline__ philox_words philox(uint32_t c0, uint32_t c1, uint32_t c2, uint32_t c3,
                                               const uint32_t *key) {
    uint32_t k0 = key[0], k1 = key[1];
    for (int round = 0; round < 10; round++) {
        const uint64_t even = (uint64_t)0xD2511F53u * c0, odd = (uint64_t)0xCD9E8D57u * c2;
        c0 = (uint32_t)(odd >> 32) ^ c1 ^ k0;
        c2 = (uint32_t)(even >> 32) ^ c3 ^ k1;
        c1 = (uint32_t)odd;
        c3 = (uint32_t)even;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    philox_words out = { { c0, c1, c2, c3 } };
    return out;
}
#endif
