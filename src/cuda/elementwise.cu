/* elementwise.cu - arithmetic with NumPy's broadcasting, small functions of one tensor, conversions between types. */
#include "cuda/broadcast.h"

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

COMBINE(add, 2, 1, a + b)
COMBINE(sub, 2, 1, a - b)
COMBINE(mul, 2, 1, a *b)
COMBINE(div, 2, 1, a / b)
COMBINE(power, 2, 1, powf(a, b))
COMBINE(maximum, 2, 1, isnan(a) || a > b ? a : b)
COMBINE(minimum, 2, 1, isnan(a) || a < b ? a : b)
COMBINE(maximum_gradient, 3, 1, a > b ? c : a == b ? c / 2 : 0)
COMBINE(equal, 2, 1, a == b)
COMBINE(not_equal, 2, 1, a != b)
COMBINE(less, 2, 1, a < b)
COMBINE(less_equal, 2, 1, a <= b)
COMBINE(where, 3, 1, a != 0 ? b : c)
/* da = dy b a^(b-1), db = dy a^b log a; where a factor b or a^b is zero, so is the gradient. */
COMBINE(power_gradient, 3, 2,
        two{ b == 0 ? 0 : c * b * powf(a, b - 1), a == 0 && b >= 0 ? 0 : c *powf(a, b) * logf(a) })

/* WIDTH neighbours at a time, of types of which only the size matters. */
template <class T, int WIDTH>
__global__ void repeat(T *y, const T *x, const __grid_constant__ axes<1> a, int64_t pieces) {
    typedef piece<T, WIDTH> part;
    GRID_STRIDE(i, pieces) {
        int64_t at[1];
        places(a, i * WIDTH, at);
        part v;
        if (WIDTH == 1 || a.step[0][0] != 0)
            v = *reinterpret_cast<const part *>(x + at[0]);
        else
            for (int e = 0; e < WIDTH; e++) v.at[e] = x[at[0]];
        reinterpret_cast<part *>(y)[i] = v;
    }
}

template <class T> static int launch_repeat(fv_device *device, const fv_task *task) {
    enum { WIDE = 16 / sizeof(T) };
    const fv_tensor *x = &task->input[0], *y = &task->output[0];
    const axes<1> a = merge_axes<1>(y, x);
    const int64_t count = fv_elements(y);
    T *to = static_cast<T *>(y->data);
    const T *from = static_cast<const T *>(x->data);
    if (a.rank > 0 && a.size[0] % WIDE == 0 && aligned16(to) && (!a.step[0][0] || aligned16(from)))
        LAUNCH((repeat<T, WIDE>), blocks_for(device, count / WIDE), BLOCK, 0, device->stream, to, from, a,
               count / WIDE);
    else
        LAUNCH((repeat<T, 1>), blocks_for(device, count), BLOCK, 0, device->stream, to, from, a, count);
    return fv_cuda_launched(device, task);
}

static int run_broadcast(fv_device *device, const fv_task *task) {
    switch (task->output[0].type) {
    case FV_U8: return launch_repeat<uint8_t>(device, task);
    case FV_BF16:
    case FV_F16: return launch_repeat<uint16_t>(device, task);
    default: return launch_repeat<uint32_t>(device, task);
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
            TO *results = static_cast<TO *>(y->data); /* not to be looked for when a captured launch is replayed */
            const FROM *numbers = static_cast<const FROM *>(x->data);
            LAUNCH((convert<TO, FROM>), blocks_for(device, count), BLOCK, 0, device->stream, results, numbers, count);
            return fv_cuda_launched(device, task);
        });
    });
}
RUN(cast)

extern "C" int fv_cuda_convert(fv_device *device, const fv_tensor *to, const fv_tensor *from) {
    fv_tensor x = *from, y = *to;
    fv_task task = {};
    task.op = FV_OP_cast;
    task.input = &x, task.output = &y;
    task.input_count = task.output_count = 1;
    return run_cast(device, &task);
}
