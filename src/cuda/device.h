/* device.h - what kernels share: element types, 16-byte accesses, how many blocks to launch, sums over a block. Kernels compute
 * in float whatever the type of the elements; `real` types are float, __nv_bfloat16 and __half. */
#ifndef FV_DEVICE_H
#define FV_DEVICE_H
#include "cuda/cuda.h"
#include "cuda/launch.h"

enum { BLOCK = 256, WARP = 32 };

/* RUN(softmax): the kernel of operation softmax is run_softmax(device, task). */
#define RUN(operation) extern "C" const fv_kernel KERNEL(operation) = { NULL, NULL, run_##operation, NULL };
#define RUN_PREPARED(operation)                                                                                        \
    extern "C" const fv_kernel KERNEL(operation) = { NULL, prepare_##operation, run_##operation, NULL };

/* ---- Host side: sizes and types --------------------------------------------------------------------------------------- */

/* Enough blocks of BLOCK threads for `work` items, but no more than the GPU holds at once a few times over: kernels stride. */
static inline unsigned blocks_for(const fv_device *device, int64_t work) {
    const int64_t most = 16 * (int64_t)device->properties.multiProcessorCount, wanted = (work + BLOCK - 1) / BLOCK;
    return (unsigned)(wanted < 1 ? 1 : wanted < most ? wanted : most);
}

/* Calls f with a value of the element type of t (only the type counts): f32, bf16 or f16. Operations whose tensors may have
 * other types say so themselves. */
template <class F> static inline int with_real(const fv_tensor *t, F f) {
    switch (t->type) {
    case FV_BF16: return f(__nv_bfloat16());
    case FV_F16: return f(__half());
    default: return f(float());
    }
}

static inline bool aligned16(const void *p) { return ((uintptr_t)p & 15) == 0; }

/* Product of the sizes of the axes first .. last - 1. */
static inline int64_t span(const fv_tensor *t, int first, int last) {
    int64_t product = 1;
    for (int axis = first; axis < last; axis++) product *= t->dim[axis];
    return product;
}
static inline int64_t last_dim(const fv_tensor *t) { return t->rank ? t->dim[t->rank - 1] : 1; }

/* ---- Device side --------------------------------------------------------------------------------------------------------- */

__device__ __forceinline__ float to_float(float x) { return x; }
__device__ __forceinline__ float to_float(__nv_bfloat16 x) { return __bfloat162float(x); }
__device__ __forceinline__ float to_float(__half x) { return __half2float(x); }
template <class T> __device__ __forceinline__ T from_float(float x);
template <> __device__ __forceinline__ float from_float<float>(float x) { return x; }
template <> __device__ __forceinline__ __nv_bfloat16 from_float<__nv_bfloat16>(float x) { return __float2bfloat16(x); }
template <> __device__ __forceinline__ __half from_float<__half>(float x) { return __float2half(x); }

/* Sixteen bytes of elements, read and written as one. */
template <class T> struct __align__(16) pack {
    enum { N = 16 / sizeof(T) };
    T at[N];
};
template <class T> __device__ __forceinline__ pack<T> load_pack(const T *p) {
    return *reinterpret_cast<const pack<T> *>(p);
}
template <class T> __device__ __forceinline__ void store_pack(T *p, const pack<T> &v) {
    *reinterpret_cast<pack<T> *>(p) = v;
}

/* First item and stride of this thread in a grid-stride loop over 64-bit counts. */
#define GRID_STRIDE(i, count)                                                                                          \
    for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x, stride_##i = (int64_t)gridDim.x * blockDim.x,     \
                 end_##i = (count);                                                                                    \
         i < end_##i; i += stride_##i)

struct add_floats {
    __device__ float operator()(float a, float b) const { return a + b; }
};
struct max_floats {
    __device__ float operator()(float a, float b) const { return a > b || isnan(a) ? a : b; }
};

template <class F> __device__ __forceinline__ float warp_reduce(float v, F f) {
    for (int d = WARP / 2; d > 0; d >>= 1) v = f(v, __shfl_xor_sync(0xffffffffu, v, d));
    return v;
}

/* f over the values of all threads of a block whose size is a multiple of 32, in a fixed order; every thread gets the result.
 * May be called several times: the second barrier keeps the next call from overwriting what is still read. */
template <class F> __device__ __forceinline__ float block_reduce(float v, F f, float identity) {
    SHARED(float, part, [WARP]);
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, warps = blockDim.x / WARP;
    v = warp_reduce(v, f);
    if (lane == 0) part[warp] = v;
    __syncthreads();
    v = warp_reduce(lane < warps ? part[lane] : identity, f);
    __syncthreads();
    return v;
}
#endif
