/* launch.h - the only words of CUDA C that .cu files may not use as they are, because the same files also run on the CPU
 * (tests/cuda/emulator.h) where there is no GPU to test on:
 *   LAUNCH(kernel, grid, block, shared_bytes, stream, arguments...)   for kernel<<<...>>>(...)
 *   SHARED(float, tile, [32][33]);                                    for __shared__ float tile[32][33];
 *   DYN_SHARED(float, name);                                          for extern __shared__ float name[];
 * Inline PTX, tensor cores and anything that relies on lock-step warps would need a plain twin. */
#ifndef FV_LAUNCH_H
#define FV_LAUNCH_H
#ifdef __CUDACC__
#include <cuda_runtime.h>
#define LAUNCH(kernel, grid, block, shared, stream, ...) (kernel)<<<(grid), (block), (shared), (stream)>>>(__VA_ARGS__)
#define SHARED(T, name, dims)                            __shared__ T name dims
#define DYN_SHARED(T, name)                                                                                            \
    extern __shared__ __align__(16) unsigned char dynamic_shared_[];                                                   \
    T *name = reinterpret_cast<T *>(dynamic_shared_)
#else
#include "emulator.h"
#endif
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#endif
