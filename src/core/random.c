/* random.c - Philox4x32-10, a counter-based generator (Salmon, Moraes, Dror and Shaw, SC 2011): the same counter and
 * key give the same four words on every machine, in any order. Streams of the host draw from it one word after
 * another. */
#include "core/core.h"
#include <math.h>

void fv_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]) {
    uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3];
    uint32_t k0 = key[0], k1 = key[1];
    for (int round = 0; round < 10; round++) {
        uint64_t even = (uint64_t)0xD2511F53u * c0, odd = (uint64_t)0xCD9E8D57u * c2;
        c0 = (uint32_t)(odd >> 32) ^ c1 ^ k0;
        c2 = (uint32_t)(even >> 32) ^ c3 ^ k1;
        c1 = (uint32_t)odd;
        c3 = (uint32_t)even;
        k0 += 0x9E3779B9u; /* Weyl sequences of the golden ratio and of sqrt(3) - 1 */
        k1 += 0xBB67AE85u;
    }
    out[0] = c0, out[1] = c1, out[2] = c2, out[3] = c3;
}

fv_random fv_random_make(uint64_t seed, uint64_t stream) {
    return (fv_random){ .key = { (uint32_t)seed, (uint32_t)(seed >> 32) },
                        .counter = { 0, 0, (uint32_t)stream, (uint32_t)(stream >> 32) } };
}

uint32_t fv_random_u32(fv_random *random) {
    if (!random->left) {
        fv_philox(random->counter, random->key, random->word);
        if (!++random->counter[0]) random->counter[1]++;
        random->left = 4;
    }
    return random->word[4 - random->left--];
}

/* Multiply and shift, with the few words refused that would make some results likelier (Lemire 2019). */
uint32_t fv_random_below(fv_random *random, uint32_t n) {
    if (n < 2) return 0;
    uint64_t product = (uint64_t)fv_random_u32(random) * n;
    uint32_t refused = (uint32_t)-n % n;
    while ((uint32_t)product < refused) product = (uint64_t)fv_random_u32(random) * n;
    return (uint32_t)(product >> 32);
}

double fv_random_uniform(fv_random *random) {
    uint64_t high = fv_random_u32(random), low = fv_random_u32(random);
    return (double)((high << 32 | low) >> 11) * 0x1p-53;
}

double fv_random_normal(fv_random *random) {
    double radius = sqrt(-2 * log(1 - fv_random_uniform(random))); /* 1 - u lies in (0, 1] */
    return radius * cos(2 * M_PI * fv_random_uniform(random));
}
