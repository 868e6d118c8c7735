/* softmax.cu - softmax and log-softmax along an axis, and their gradients. A line along the axis is shared by the lanes of a warp; where
 * the axis is not the last one, a thread takes a line of its own, so that neighbours read neighbouring elements. */
#include "cuda/device.h"

namespace {
struct lines {
    int64_t count, length, stride;
};

/* WIDTH threads share a line: 32, or 1. */
template <int WIDTH> struct team {
    template <class F> static __device__ float reduce(float v, F f) { return WIDTH == 1 ? v : warp_reduce(v, f); }
};
} // namespace

static lines lines_along(const fv_tensor *t, int axis) {
    lines l = { 1, 1, 1 };
    if (t->rank) l = { span(t, 0, axis) * span(t, axis + 1, t->rank), t->dim[axis], span(t, axis + 1, t->rank) };
    return l;
}

__device__ __forceinline__ int64_t line_first(const lines &l, int64_t v) {
    return v / l.stride * l.length * l.stride + v % l.stride;
}

#define EACH_LINE(v, WIDTH, lines_)                                                                                    \
    const int lane = WIDTH == 1 ? 0 : threadIdx.x % WIDTH;                                                             \
    for (int64_t v = ((int64_t)blockIdx.x * blockDim.x + threadIdx.x) / WIDTH; v < (lines_).count;                     \
         v += (int64_t)gridDim.x * blockDim.x / WIDTH)
#define EACH_OF_LINE(j, WIDTH, lines_) for (int64_t j = lane; j < (lines_).length; j += WIDTH)

template <class T, int WIDTH, bool LOGARITHM> __global__ void softmax_lines(lines l, T *y, const T *x) {
    EACH_LINE(v, WIDTH, l) {
        const int64_t first = line_first(l, v);
        float most = -INFINITY, sum = 0;
        EACH_OF_LINE(j, WIDTH, l) most = max_floats()(to_float(x[first + j * l.stride]), most);
        most = team<WIDTH>::reduce(most, max_floats());
        EACH_OF_LINE(j, WIDTH, l) sum += expf(to_float(x[first + j * l.stride]) - most);
        sum = team<WIDTH>::reduce(sum, add_floats());
        const float log_sum = logf(sum);
        EACH_OF_LINE(j, WIDTH, l) {
            const float z = to_float(x[first + j * l.stride]) - most;
            y[first + j * l.stride] = from_float<T>(LOGARITHM ? z - log_sum : expf(z) / sum);
        }
    }
}

template <class T, int WIDTH, bool LOGARITHM>
__global__ void softmax_gradient_lines(lines l, T *dx, const T *y, const T *dy) {
    EACH_LINE(v, WIDTH, l) {
        const int64_t first = line_first(l, v);
        float sum = 0;
        EACH_OF_LINE(j, WIDTH, l) {
            const int64_t i = first + j * l.stride;
            sum += LOGARITHM ? to_float(dy[i]) : to_float(y[i]) * to_float(dy[i]);
        }
        sum = team<WIDTH>::reduce(sum, add_floats());
        EACH_OF_LINE(j, WIDTH, l) {
            const int64_t i = first + j * l.stride;
            const float g = to_float(dy[i]), out = to_float(y[i]);
            dx[i] = from_float<T>(LOGARITHM ? g - expf(out) * sum : out * (g - sum));
        }
    }
}

template <bool LOGARITHM> static int run_softmax_(fv_device *device, const fv_task *task) {
    const fv_tensor *x = &task->input[0], *y = &task->output[0];
    const lines l = lines_along(y, task->attributes->axis.axis);
    return with_real(y, [&](auto real) {
        using T = decltype(real);
        T *out = static_cast<T *>(y->data);
        const T *in = static_cast<const T *>(x->data);
        if (l.stride == 1)
            LAUNCH((softmax_lines<T, WARP, LOGARITHM>), blocks_for(device, l.count * WARP), BLOCK, 0, device->stream, l,
                   out, in);
        else
            LAUNCH((softmax_lines<T, 1, LOGARITHM>), blocks_for(device, l.count), BLOCK, 0, device->stream, l, out, in);
        return fv_cuda_launched(device, task);
    });
}

template <bool LOGARITHM> static int run_softmax_gradient_(fv_device *device, const fv_task *task) {
    const fv_tensor *dx = &task->output[0];
    const lines l = lines_along(dx, task->attributes->axis.axis);
    return with_real(dx, [&](auto real) {
        using T = decltype(real);
        T *out = static_cast<T *>(dx->data);
        const T *y = static_cast<const T *>(task->input[0].data), *dy = static_cast<const T *>(task->input[1].data);
        if (l.stride == 1)
            LAUNCH((softmax_gradient_lines<T, WARP, LOGARITHM>), blocks_for(device, l.count * WARP), BLOCK, 0,
                   device->stream, l, out, y, dy);
        else
            LAUNCH((softmax_gradient_lines<T, 1, LOGARITHM>), blocks_for(device, l.count), BLOCK, 0, device->stream, l,
                   out, y, dy);
        return fv_cuda_launched(device, task);
    });
}

static int run_softmax(fv_device *d, const fv_task *task) { return run_softmax_<false>(d, task); }
static int run_log_softmax(fv_device *d, const fv_task *task) { return run_softmax_<true>(d, task); }
static int run_softmax_gradient(fv_device *d, const fv_task *task) { return run_softmax_gradient_<false>(d, task); }
static int run_log_softmax_gradient(fv_device *d, const fv_task *task) { return run_softmax_gradient_<true>(d, task); }
RUN(softmax)
RUN(softmax_gradient)
RUN(log_softmax)
RUN(log_softmax_gradient)
