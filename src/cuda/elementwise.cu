/* elementwise.cu - arithmetic with NumPy's broadcasting, small functions of one tensor, conversions between types. */
#include "cuda/elementwise.h"

/* ---- Probe ------------------------------------------------------------------------------------------------------------ */

__global__ void nothing() {}
extern "C" cudaError_t fv_cuda_probe(cudaStream_t stream) {
    LAUNCH(nothing, 1, 1, 0, stream);
    return cudaGetLastError();
}

/* ---- Functions of one tensor -------------------------------------------------------------------------------------------- */
namespace {
struct affine {
    float a, b;
    explicit affine(const fv_task *task) : a(task->attributes->affine.a), b(task->attributes->affine.b) {}
    __device__ float operator()(float x) const { return a * x + b; }
};
struct absolute {
    __device__ float operator()(float x) const { return fabsf(x); }
};
struct sign_of {
    __device__ float operator()(float x) const { return isnan(x) ? x : (float)((x > 0) - (x < 0)); }
};
} // namespace

MAP(affine, 1, affine(task))
MAP(abs, 1, absolute())
MAP(sign, 1, sign_of())

static int run_copy(fv_device *device, const fv_task *task) {
    const fv_tensor *x = &task->input[0], *y = &task->output[0];
    static const int bytes[] = { 4, 2, 2, 1, 4 }; /* by fv_type */
    if (x->data != y->data)
        CUDA_TRY(device, cudaMemcpyAsync(y->data, x->data, (size_t)(fv_elements(y) * bytes[y->type]),
                                         cudaMemcpyDeviceToDevice, device->stream));
    return FV_OK;
}
RUN(copy)
extern "C" const fv_kernel KERNEL(reshape) = { NULL, NULL, run_copy,
                                               NULL }; /* an alias: runs only where no planner is */

/* ---- Broadcasting ------------------------------------------------------------------------------------------------------- */

/* Axes that both operands step through alike, merged, innermost first; a step of 0 repeats. */
struct axes {
    int rank;
    int64_t size[FV_RANK], step[2][FV_RANK];
};

static axes merge_axes(const fv_tensor *y, const fv_tensor *const *in, int inputs) {
    axes a = {};
    int64_t stride[2] = { 1, 1 };
    for (int axis = y->rank - 1, back = 0; axis >= 0; axis--, back++) {
        int64_t step[2] = { 0, 0 };
        for (int i = 0; i < inputs; i++) {
            const int own = in[i]->rank - 1 - back;
            const int64_t length = own < 0 ? 1 : in[i]->dim[own];
            step[i] = length == 1 ? 0 : stride[i];
            stride[i] *= length;
        }
        if (y->dim[axis] == 1) continue;
        const int last = a.rank - 1;
        const bool joins =
            a.rank > 0 && step[0] == a.step[0][last] * a.size[last] && step[1] == a.step[1][last] * a.size[last];
        if (joins) {
            a.size[last] *= y->dim[axis];
            continue;
        }
        a.size[a.rank] = y->dim[axis];
        for (int i = 0; i < 2; i++) a.step[i][a.rank] = step[i];
        a.rank++;
    }
    return a;
}

__device__ __forceinline__ void places(const axes &a, int64_t i, int64_t &x, int64_t &b) {
    x = b = 0;
    for (int axis = 0; axis < a.rank; axis++) {
        const int64_t rest = i / a.size[axis], index = i - rest * a.size[axis];
        x += index * a.step[0][axis];
        b += index * a.step[1][axis];
        i = rest;
    }
}

template <class T, class F>
__global__ void combine_broadcast(F f, T *y, const T *x, const T *b, axes a, int64_t count) {
    GRID_STRIDE(i, count) {
        int64_t at_x, at_b;
        places(a, i, at_x, at_b);
        y[i] = from_float<T>(f(to_float(x[at_x]), to_float(b[at_b])));
    }
}

template <class F> static int run_binary(fv_device *device, const fv_task *task, F f) {
    const fv_tensor *y = &task->output[0], *in[2] = { &task->input[0], &task->input[1] };
    const axes a = merge_axes(y, in, 2);
    if (a.rank == 0 || (a.rank == 1 && a.step[0][0] && a.step[1][0])) return run_map<2>(device, task, f);
    return with_real(y, [&](auto example) {
        using T = decltype(example);
        const int64_t count = fv_elements(y);
        LAUNCH((combine_broadcast<T, F>), blocks_for(device, count), BLOCK, 0, device->stream, f,
               static_cast<T *>(y->data), static_cast<const T *>(in[0]->data), static_cast<const T *>(in[1]->data), a,
               count);
        return fv_cuda_launched(device, task);
    });
}

#define BINARY(operation, expression)                                                                                  \
    namespace {                                                                                                        \
    struct operation##_of {                                                                                            \
        __device__ float operator()(float a, float b) const { return expression; }                                     \
    };                                                                                                                 \
    }                                                                                                                  \
    static int run_##operation(fv_device *device, const fv_task *task) {                                               \
        return run_binary(device, task, operation##_of());                                                             \
    }                                                                                                                  \
    extern "C" const fv_kernel KERNEL(operation) = { NULL, NULL, run_##operation, NULL };
BINARY(add, a + b)
BINARY(sub, a - b)
BINARY(mul, a *b)
BINARY(div, a / b)

template <class T> __global__ void repeat(T *y, const T *x, axes a, int64_t count) {
    GRID_STRIDE(i, count) {
        int64_t at, unused;
        places(a, i, at, unused);
        y[i] = x[at];
    }
}

static int run_broadcast(fv_device *device, const fv_task *task) {
    const fv_tensor *y = &task->output[0], *in[2] = { &task->input[0], &task->input[0] };
    const axes a = merge_axes(y, in, 1);
    const int64_t count = fv_elements(y);
    const auto launch = [&](auto example) {
        using T = decltype(example);
        LAUNCH((repeat<T>), blocks_for(device, count), BLOCK, 0, device->stream, static_cast<T *>(y->data),
               static_cast<const T *>(in[0]->data), a, count);
        return fv_cuda_launched(device, task);
    };
    switch (y->type) { /* only the size of an element matters */
    case FV_U8: return launch(uint8_t());
    case FV_BF16:
    case FV_F16: return launch(uint16_t());
    default: return launch(uint32_t());
    }
}
RUN(broadcast)

/* ---- Conversion: integers truncate towards zero and saturate, NaN becomes 0 --------------------------------------------- */

template <class TO> struct into {
    template <class FROM> __device__ static TO from(FROM x) { return from_float<TO>((float)x); }
};
template <> struct into<int32_t> {
    __device__ static int32_t from(int32_t x) { return x; }
    template <class FROM> __device__ static int32_t from(FROM x) {
        const float v = (float)x;
        return isnan(v) ? 0 : v <= -2147483648.0f ? INT32_MIN : v >= 2147483648.0f ? INT32_MAX : (int32_t)v;
    }
};
template <> struct into<uint8_t> {
    __device__ static uint8_t from(int32_t x) { return (uint8_t)(x < 0 ? 0 : x > 255 ? 255 : x); }
    template <class FROM> __device__ static uint8_t from(FROM x) {
        const float v = (float)x;
        return (uint8_t)(!(v > 0) ? 0 : v >= 255 ? 255 : v);
    }
};

template <class TO, class FROM> __global__ void convert(TO *y, const FROM *x, int64_t count) {
    GRID_STRIDE(i, count) y[i] = into<TO>::from(x[i]);
}

template <class F> static int with_any(const fv_tensor *t, F f) {
    return t->type == FV_U8 ? f(uint8_t()) : t->type == FV_I32 ? f(int32_t()) : with_real(t, f);
}

static int run_cast(fv_device *device, const fv_task *task) {
    const fv_tensor *x = &task->input[0], *y = &task->output[0];
    return with_any(x, [&](auto from) {
        return with_any(y, [&](auto to) {
            using FROM = decltype(from);
            using TO = decltype(to);
            const int64_t count = fv_elements(y);
            LAUNCH((convert<TO, FROM>), blocks_for(device, count), BLOCK, 0, device->stream, static_cast<TO *>(y->data),
                   static_cast<const FROM *>(x->data), count);
            return fv_cuda_launched(device, task);
        });
    });
}
RUN(cast)
