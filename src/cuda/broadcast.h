/* broadcast.h - launching a function of two or three elements over tensors that broadcast as NumPy's do. Axes along which every
 * operand steps alike are merged; where the innermost is a whole number of sixteen bytes they are read and written as such.
 * A function of two results returns a `two`; either output may be absent. */
#ifndef FV_CUDA_BROADCAST_H
#define FV_CUDA_BROADCAST_H
#include "cuda/elementwise.h"

/* Innermost first; a step of 0 repeats. The innermost step is 0 or 1. */
template <int INPUTS> struct axes {
    int rank;
    bool narrow; /* all elements are counted in 32 bits: cheap divisions */
    int64_t size[FV_RANK], step[INPUTS][FV_RANK];
};

template <int INPUTS> static axes<INPUTS> merge_axes(const fv_tensor *y, const fv_tensor *in) {
    axes<INPUTS> a = {};
    int64_t stride[INPUTS];
    a.narrow = fv_elements(y) <= UINT32_MAX;
    for (int k = 0; k < INPUTS; k++) stride[k] = 1;
    for (int axis = y->rank - 1, back = 0; axis >= 0; axis--, back++) {
        int64_t step[INPUTS];
        bool joins = a.rank > 0;
        for (int k = 0; k < INPUTS; k++) {
            const int own = in[k].rank - 1 - back;
            const int64_t length = own < 0 ? 1 : in[k].dim[own];
            step[k] = length == 1 ? 0 : stride[k];
            stride[k] *= length;
            joins = joins && step[k] == a.step[k][a.rank - 1] * a.size[a.rank - 1];
        }
        if (y->dim[axis] == 1) continue;
        if (joins) {
            a.size[a.rank - 1] *= y->dim[axis];
            continue;
        }
        a.size[a.rank] = y->dim[axis];
        for (int k = 0; k < INPUTS; k++) a.step[k][a.rank] = step[k];
        a.rank++;
    }
    return a;
}

/* Where the operands of element i of the result lie. */
template <int INPUTS> __device__ __forceinline__ void places(const axes<INPUTS> &a, int64_t i, int64_t (&at)[INPUTS]) {
    for (int k = 0; k < INPUTS; k++) at[k] = 0;
    for (int axis = 0; axis < a.rank; axis++) {
        const int64_t rest = a.narrow ? (int64_t)((uint32_t)i / (uint32_t)a.size[axis]) : i / a.size[axis];
        const int64_t index = i - rest * a.size[axis];
        for (int k = 0; k < INPUTS; k++) at[k] += index * a.step[k][axis];
        i = rest;
    }
}

struct two {
    float first, second;
};
template <class T> __device__ __forceinline__ void keep(float v, T (&out)[1]) { out[0] = from_float<T>(v); }
template <class T> __device__ __forceinline__ void keep(two v, T (&out)[2]) {
    out[0] = from_float<T>(v.first);
    out[1] = from_float<T>(v.second);
}

template <int OUTPUTS> struct results { void *p[OUTPUTS]; };
template <class T, int WIDTH> struct __align__(WIDTH * sizeof(T)) piece { T at[WIDTH]; };

/* WIDTH neighbours of the result at a time, which lie along the innermost axis. */
template <class T, int WIDTH, int INPUTS, int OUTPUTS, class F>
__global__ void combine(F f, results<OUTPUTS> y, sources<INPUTS> in, const __grid_constant__ axes<INPUTS> a,
                        int64_t pieces) {
    typedef piece<T, WIDTH> part;
    GRID_STRIDE(i, pieces) {
        int64_t at[INPUTS];
        places(a, i * WIDTH, at);
        part x[INPUTS], out[OUTPUTS];
        for (int k = 0; k < INPUTS; k++) {
            const T *from = static_cast<const T *>(in.p[k]) + at[k];
            if (WIDTH == 1 || a.step[k][0] != 0)
                x[k] = *reinterpret_cast<const part *>(from);
            else
                for (int e = 0; e < WIDTH; e++) x[k].at[e] = *from;
        }
        for (int e = 0; e < WIDTH; e++) {
            float v[INPUTS];
            T both[OUTPUTS];
            for (int k = 0; k < INPUTS; k++) v[k] = to_float(x[k].at[e]);
            keep(apply(f, v), both);
            for (int o = 0; o < OUTPUTS; o++) out[o].at[e] = both[o];
        }
        for (int o = 0; o < OUTPUTS; o++)
            if (y.p[o]) reinterpret_cast<part *>(y.p[o])[i] = out[o];
    }
}

/* output = f(inputs), the inputs repeated to the shape of the output. */
template <int INPUTS, int OUTPUTS, class F> int run_combined(fv_device *device, const fv_task *task, F f) {
    const fv_tensor *y = &task->output[0];
    if (!y->data) y = &task->output[OUTPUTS - 1];
    const axes<INPUTS> a = merge_axes<INPUTS>(y, task->input);
    return with_real(y, [&](auto example) {
        using T = decltype(example);
        sources<INPUTS> in;
        results<OUTPUTS> out;
        const int64_t count = fv_elements(y);
        bool wide = a.rank > 0 && a.size[0] % pack<T>::N == 0;
        for (int k = 0; k < INPUTS; k++) in.p[k] = task->input[k].data, wide &= !a.step[k][0] || aligned16(in.p[k]);
        for (int o = 0; o < OUTPUTS; o++) out.p[o] = task->output[o].data, wide &= aligned16(out.p[o]);
        if (wide)
            LAUNCH((combine<T, pack<T>::N, INPUTS, OUTPUTS, F>), blocks_for(device, count / pack<T>::N), BLOCK, 0,
                   device->stream, f, out, in, a, count / pack<T>::N);
        else
            LAUNCH((combine<T, 1, INPUTS, OUTPUTS, F>), blocks_for(device, count), BLOCK, 0, device->stream, f, out, in,
                   a, count);
        return fv_cuda_launched(device, task);
    });
}

/* COMBINE(add, 2, 1, a + b) defines the kernel of operation add: of inputs a, b (and c), with so many results. */
#define COMBINE(operation, inputs, outputs, ...)                                                                       \
    namespace {                                                                                                        \
    struct operation##_of {                                                                                            \
        __device__ FV_RESULT_##outputs operator()(FV_OPERANDS_##inputs) const { return __VA_ARGS__; }                  \
    };                                                                                                                 \
    }                                                                                                                  \
    static int run_##operation(fv_device *device, const fv_task *task) {                                               \
        return run_combined<inputs, outputs>(device, task, operation##_of());                                          \
    }                                                                                                                  \
    RUN(operation)
#define FV_RESULT_1   float
#define FV_RESULT_2   two
#define FV_OPERANDS_2 float a, float b
#define FV_OPERANDS_3 float a, float b, float c
#endif
