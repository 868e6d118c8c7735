/* reduction.cu - sums, means and maxima over a set of axes, and sums over everything. A reduction is a matrix: outputs times what each is made
 * from. Long ones are cut into chunks whose results are combined in order, so that results repeat. */
#include "cuda/device.h"

enum { MOST_PARTS = 64, LEAST_PART = 1024 };

namespace {
/* Places of a walk over some axes, innermost first. */
struct places {
    int rank;
    int64_t size[FV_RANK], stride[FV_RANK];
    __device__ int64_t operator()(int64_t i) const {
        int64_t at = 0;
        for (int axis = 0; axis < rank; axis++) {
            const int64_t rest = i / size[axis];
            at += (i - rest * size[axis]) * stride[axis];
            i = rest;
        }
        return at;
    }
};
struct reduction {
    places kept, reduced;
    int64_t outputs, length, per_part;
    int parts;
};

struct summing {
    static __device__ float of(float x) { return x; }
    static __device__ float identity() { return 0; }
    typedef add_floats combine;
};
struct squaring {
    static __device__ float of(float x) { return x * x; }
    static __device__ float identity() { return 0; }
    typedef add_floats combine;
};
struct absolute_sum {
    static __device__ float of(float x) { return fabsf(x); }
    static __device__ float identity() { return 0; }
    typedef add_floats combine;
};
struct largest {
    static __device__ float of(float x) { return x; }
    static __device__ float identity() { return -INFINITY; }
    typedef max_floats combine;
};
} // namespace

static reduction reduction_of(const fv_tensor *x, uint32_t axes) {
    reduction r = {};
    r.outputs = r.length = 1;
    int64_t stride = 1;
    int last = -1; /* which of the two walks the axis before belongs to: neighbours merge */
    for (int axis = x->rank - 1; axis >= 0; axis--) {
        const int side = axes >> axis & 1;
        places *p = side ? &r.reduced : &r.kept;
        (side ? r.length : r.outputs) *= x->dim[axis];
        if (x->dim[axis] > 1) {
            if (last == side)
                p->size[p->rank - 1] *= x->dim[axis];
            else
                p->size[p->rank] = x->dim[axis], p->stride[p->rank] = stride, p->rank++;
            last = side;
        }
        stride *= x->dim[axis];
    }
    const int64_t wanted = (r.length + LEAST_PART - 1) / LEAST_PART;
    r.parts = wanted < MOST_PARTS ? (int)wanted : (int)MOST_PARTS;
    r.per_part = (r.length + r.parts - 1) / r.parts;
    return r;
}

/* A warp takes one part of one output. */
template <class T, class F> __global__ void reduce_parts(reduction r, float *out, const T *x) {
    const int lane = threadIdx.x % WARP;
    const int64_t teams = (int64_t)gridDim.x * blockDim.x / WARP;
    for (int64_t v = ((int64_t)blockIdx.x * blockDim.x + threadIdx.x) / WARP; v < r.outputs * r.parts; v += teams) {
        const int64_t o = v / r.parts, first = v % r.parts * r.per_part;
        const int64_t last = first + r.per_part < r.length ? first + r.per_part : r.length, from = r.kept(o);
        float value = F::identity();
        for (int64_t i = first + lane; i < last; i += WARP)
            value = typename F::combine()(value, F::of(to_float(x[from + r.reduced(i)])));
        value = warp_reduce(value, typename F::combine());
        if (lane == 0) out[v] = value;
    }
}

/* A thread takes one part of one output: neighbours read neighbouring elements where the last axis is kept. */
template <class T, class F> __global__ void reduce_columns(reduction r, float *out, const T *x) {
    GRID_STRIDE(v, r.outputs * r.parts) {
        const int64_t o = v % r.outputs, part = v / r.outputs, first = part * r.per_part;
        const int64_t last = first + r.per_part < r.length ? first + r.per_part : r.length, from = r.kept(o);
        float value = F::identity();
        for (int64_t i = first; i < last; i++)
            value = typename F::combine()(value, F::of(to_float(x[from + r.reduced(i)])));
        out[o * r.parts + part] = value;
    }
}

template <class T, class F>
__global__ void combine_parts(T *y, const float *parts, int count, float factor, int64_t outputs) {
    GRID_STRIDE(o, outputs) {
        float value = F::identity();
        for (int part = 0; part < count; part++) value = typename F::combine()(value, parts[o * count + part]);
        y[o] = from_float<T>(value * factor);
    }
}

static uint32_t axes_of(const fv_task *task) {
    return task->op == FV_OP_sum_squares || task->op == FV_OP_sum_abs ? ~0u : task->attributes->reduce.axes;
}

static int prepare_reduction(fv_device *, fv_task *task) {
    const reduction r = reduction_of(&task->input[0], axes_of(task));
    task->scratch_bytes = (size_t)(r.outputs * r.parts) * sizeof(float);
    return FV_OK;
}

template <class F> static int run_reduction(fv_device *device, const fv_task *task, bool mean) {
    const fv_tensor *x = &task->input[0], *y = &task->output[0];
    const reduction r = reduction_of(x, axes_of(task));
    float *parts = static_cast<float *>(task->scratch);
    return with_real(x, [&](auto example) {
        using T = decltype(example);
        const T *in = static_cast<const T *>(x->data);
        const int64_t work = r.outputs * r.parts;
        if (r.kept.rank && r.kept.stride[0] == 1 && r.outputs >= WARP)
            LAUNCH((reduce_columns<T, F>), blocks_for(device, work), BLOCK, 0, device->stream, r, parts, in);
        else
            LAUNCH((reduce_parts<T, F>), blocks_for(device, work * WARP), BLOCK, 0, device->stream, r, parts, in);
        LAUNCH((combine_parts<T, F>), blocks_for(device, r.outputs), BLOCK, 0, device->stream,
               static_cast<T *>(y->data), parts, r.parts, mean ? 1 / (float)r.length : 1.0f, r.outputs);
        return fv_cuda_launched(device, task);
    });
}

#define REDUCTION(operation, function, mean)                                                                           \
    static int run_##operation(fv_device *device, const fv_task *task) {                                               \
        return run_reduction<function>(device, task, mean);                                                            \
    }                                                                                                                  \
    extern "C" const fv_kernel KERNEL(operation) = { NULL, prepare_reduction, run_##operation, NULL };
REDUCTION(sum, summing, false)
REDUCTION(mean, summing, true)
REDUCTION(sum_squares, squaring, false)
REDUCTION(sum_abs, absolute_sum, false)
REDUCTION(max, largest, false)

/* ---- The gradient of a maximum: dy / number of equal maxima where x = y, else 0 -------------------------------------------- */

template <class T> __global__ void share_maxima(reduction r, T *dx, const T *x, const T *y, const T *dy) {
    const int lane = threadIdx.x % WARP;
    const int64_t teams = (int64_t)gridDim.x * blockDim.x / WARP;
    for (int64_t o = ((int64_t)blockIdx.x * blockDim.x + threadIdx.x) / WARP; o < r.outputs; o += teams) {
        const int64_t from = r.kept(o);
        const float most = to_float(y[o]);
        float equal = 0;
        for (int64_t i = lane; i < r.length; i += WARP) equal += to_float(x[from + r.reduced(i)]) == most ? 1 : 0;
        equal = warp_reduce(equal, add_floats());
        for (int64_t i = lane; i < r.length; i += WARP) {
            const int64_t at = from + r.reduced(i);
            dx[at] = from_float<T>(to_float(x[at]) == most ? to_float(dy[o]) / equal : 0);
        }
    }
}

static int run_max_gradient(fv_device *device, const fv_task *task) {
    const fv_tensor *x = &task->input[0], *dx = &task->output[0];
    const reduction r = reduction_of(x, task->attributes->reduce.axes);
    return with_real(x, [&](auto example) {
        using T = decltype(example);
        LAUNCH(share_maxima<T>, blocks_for(device, r.outputs * WARP), BLOCK, 0, device->stream, r,
               static_cast<T *>(dx->data), static_cast<const T *>(x->data), static_cast<const T *>(task->input[1].data),
               static_cast<const T *>(task->input[2].data));
        return fv_cuda_launched(device, task);
    });
}
RUN(max_gradient)
