/* elementwise.h - launching a function of one, two or three elements over whole tensors of equal shape, sixteen bytes at a time
 * where addresses allow it. A function is a struct with its settings as members and a __device__ operator(). */
#ifndef FV_CUDA_ELEMENTWISE_H
#define FV_CUDA_ELEMENTWISE_H
#include "cuda/device.h"

template <int INPUTS> struct sources { const void *p[INPUTS]; };

template <class F> __device__ __forceinline__ auto apply(F f, const float (&v)[1]) { return f(v[0]); }
template <class F> __device__ __forceinline__ auto apply(F f, const float (&v)[2]) { return f(v[0], v[1]); }
template <class F> __device__ __forceinline__ auto apply(F f, const float (&v)[3]) { return f(v[0], v[1], v[2]); }

template <class T, int INPUTS, class F> __global__ void map_packs(F f, T *y, sources<INPUTS> in, int64_t packs) {
    GRID_STRIDE(i, packs) {
        pack<T> x[INPUTS], out;
        for (int k = 0; k < INPUTS; k++) x[k] = load_pack(static_cast<const T *>(in.p[k]) + i * pack<T>::N);
        for (int e = 0; e < pack<T>::N; e++) {
            float v[INPUTS];
            for (int k = 0; k < INPUTS; k++) v[k] = to_float(x[k].at[e]);
            out.at[e] = from_float<T>(apply(f, v));
        }
        store_pack(y + i * pack<T>::N, out);
    }
}

template <class T, int INPUTS, class F>
__global__ void map_elements(F f, T *y, sources<INPUTS> in, int64_t begin, int64_t end) {
    GRID_STRIDE(i, end - begin) {
        float v[INPUTS];
        for (int k = 0; k < INPUTS; k++) v[k] = to_float(static_cast<const T *>(in.p[k])[begin + i]);
        y[begin + i] = from_float<T>(apply(f, v));
    }
}

/* y = f(inputs), element by element; y may lie where an input lies. */
template <int INPUTS, class F> int run_map(fv_device *device, const fv_task *task, F f) {
    const fv_tensor *y = &task->output[0];
    return with_real(y, [&](auto example) {
        using T = decltype(example);
        sources<INPUTS> in;
        bool aligned = aligned16(y->data);
        for (int k = 0; k < INPUTS; k++) {
            in.p[k] = task->input[k].data;
            aligned &= aligned16(in.p[k]);
        }
        const int64_t count = fv_elements(y), packs = aligned ? count / pack<T>::N : 0, done = packs * pack<T>::N;
        T *out = static_cast<T *>(y->data);
        if (packs)
            LAUNCH((map_packs<T, INPUTS, F>), blocks_for(device, packs), BLOCK, 0, device->stream, f, out, in, packs);
        if (done < count)
            LAUNCH((map_elements<T, INPUTS, F>), blocks_for(device, count - done), BLOCK, 0, device->stream, f, out, in,
                   done, count);
        return fv_cuda_launched(device, task);
    });
}

/* MAP(affine, 1, affine(task)) defines the kernel of operation affine: a function of one input, which may take its settings from
 * the task. */
#define MAP(operation, inputs, ...)                                                                                    \
    static int run_##operation(fv_device *device, const fv_task *task) {                                               \
        return run_map<inputs>(device, task, __VA_ARGS__);                                                             \
    }                                                                                                                  \
    extern "C" const fv_kernel KERNEL(operation) = { NULL, NULL, run_##operation, NULL };
#endif
