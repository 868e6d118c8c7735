/* pointwise_loss.cu - losses that sum a function f(p, t) of prediction and target over the elements of a row, and their gradients by f's slope
 * in p. Formulas as in src/cpu/reference/pointwise_loss.c. A warp takes a row. */
#include "cuda/device.h"

typedef fv_pointwise_attributes settings;

__device__ __forceinline__ float clip(float x, float low, float high) { return x < low ? low : x > high ? high : x; }
__device__ __forceinline__ float sigmoid(float x) { return 1 / (1 + expf(-x)); }
__device__ __forceinline__ float softplus(float x) { return (x > 0 ? x : 0) + log1pf(expf(-fabsf(x))); }
#define LEAST 1e-7f

/* name: f(p, t) and its slope */
#define LOSS(name, value_, slope_)                                                                                     \
    struct name##_loss {                                                                                               \
        static __device__ float value(const settings &a, float p, float t) { return value_; }                          \
        static __device__ float slope(const settings &a, float p, float t) { return slope_; }                          \
    };
namespace {
__device__ __forceinline__ float focal_wrong(float p, float t) { return (1 - t) * sigmoid(p) + t * sigmoid(-p); }
__device__ __forceinline__ float focal_entropy(float p, float t) { return t * softplus(-p) + (1 - t) * softplus(p); }
__device__ __forceinline__ float focal_balance(const settings &a, float t) {
    return a.alpha > 0 ? a.alpha * t + (1 - a.alpha) * (1 - t) : 1;
}
__device__ __forceinline__ float focal_slope(const settings &a, float p, float t) {
    const float q = focal_wrong(p, t), dq = (1 - 2 * t) * sigmoid(p) * sigmoid(-p);
    return focal_balance(a, t) * powf(q, a.gamma) *
           (a.gamma * dq / q * focal_entropy(p, t) + (1 - t) * sigmoid(p) - t * sigmoid(-p));
}
__device__ __forceinline__ float huber_value(float delta, float d) {
    return d <= delta ? d * d / 2 : delta * (d - delta / 2);
}
__device__ __forceinline__ float hinge_value(float p, float t) { return 1 - t * p <= 0 ? 0 : 1 - t * p; }
LOSS(mean_squared_error, (p - t) * (p - t), 2 * (p - t))
LOSS(mean_absolute_error, fabsf(p - t), p > t ? 1 : p < t ? -1 : (p - t) * 0)
LOSS(huber, huber_value(a.delta, fabsf(p - t)), clip(p - t, -a.delta, a.delta))
LOSS(log_cosh, softplus(2 * (p - t)) - (p - t) - 0.6931471805599453f, tanhf(p - t))
LOSS(binary_cross_entropy_logits, a.weight *t *softplus(-p) + (1 - t) * softplus(p),
     (1 - t) * sigmoid(p) - a.weight * t * sigmoid(-p))
LOSS(binary_cross_entropy, -t *logf(clip(p, LEAST, 1 - LEAST)) - (1 - t) * logf(clip(1 - p, LEAST, 1 - LEAST)),
     p<LEAST || p> 1 - LEAST ? 0 : (1 - t) / (1 - p) - t / p)
LOSS(sigmoid_focal, focal_balance(a, t) * powf(focal_wrong(p, t), a.gamma) * focal_entropy(p, t), focal_slope(a, p, t))
LOSS(hinge, hinge_value(p, t), 1 - t * p <= 0 ? 0 : -t)
LOSS(squared_hinge, hinge_value(p, t) * hinge_value(p, t), -2 * t * hinge_value(p, t))
LOSS(kl_divergence, clip(t, LEAST, 1) * (logf(clip(t, LEAST, 1)) - logf(clip(p, LEAST, 1))),
     p<LEAST || p> 1 ? 0 : -clip(t, LEAST, 1) / p)
LOSS(poisson, p - t * logf(p + LEAST), 1 - t / (p + LEAST))
struct binary_accuracy_loss {
    static __device__ float value(const settings &a, float p, float t) {
        return isnan(p) || isnan(t) ? 0 : (p > a.threshold) == (t > 0.5f);
    }
};
} // namespace

template <class T, class F>
__global__ void sum_of_rows(settings a, T *loss, const T *p, const T *t, int64_t rows, int64_t width, float part) {
    const int lane = threadIdx.x % WARP;
    const int64_t teams = (int64_t)gridDim.x * blockDim.x / WARP;
    for (int64_t row = ((int64_t)blockIdx.x * blockDim.x + threadIdx.x) / WARP; row < rows; row += teams) {
        float sum = 0;
        for (int64_t i = lane; i < width; i += WARP)
            sum += F::value(a, to_float(p[row * width + i]), to_float(t[row * width + i]));
        sum = warp_reduce(sum, add_floats());
        if (lane == 0) loss[row] = from_float<T>(sum * part);
    }
}

template <class T, class F>
__global__ void slopes_of_rows(settings a, T *dp, const T *p, const T *t, const T *dloss, int64_t width, float part,
                               int64_t count) {
    GRID_STRIDE(i, count)
    dp[i] = from_float<T>(to_float(dloss[i / width]) * part * F::slope(a, to_float(p[i]), to_float(t[i])));
}

/* What the sum over a row is divided by: its elements, or (KL) its distributions, which lie along the last axis. */
static float part_of(const fv_task *task, int64_t width) {
    const bool kl = task->op == FV_OP_kl_divergence || task->op == FV_OP_kl_divergence_gradient;
    return kl ? (float)last_dim(&task->input[0]) / (float)width : 1 / (float)width;
}

template <class F> static int run_loss(fv_device *device, const fv_task *task) {
    const fv_tensor *p = &task->input[0], *t = &task->input[1], *loss = &task->output[0];
    const int64_t rows = p->dim[0], width = fv_elements(p) / rows;
    return with_real(p, [&](auto example) {
        using T = decltype(example);
        LAUNCH((sum_of_rows<T, F>), blocks_for(device, rows * WARP), BLOCK, 0, device->stream,
               task->attributes->pointwise, static_cast<T *>(loss->data), static_cast<const T *>(p->data),
               static_cast<const T *>(t->data), rows, width, part_of(task, width));
        return fv_cuda_launched(device, task);
    });
}

template <class F> static int run_slope(fv_device *device, const fv_task *task) {
    const fv_tensor *p = &task->input[0], *dp = &task->output[0];
    const int64_t count = fv_elements(p), width = count / p->dim[0];
    return with_real(p, [&](auto example) {
        using T = decltype(example);
        LAUNCH((slopes_of_rows<T, F>), blocks_for(device, count), BLOCK, 0, device->stream, task->attributes->pointwise,
               static_cast<T *>(dp->data), static_cast<const T *>(p->data), static_cast<const T *>(task->input[1].data),
               static_cast<const T *>(task->input[2].data), width, part_of(task, width), count);
        return fv_cuda_launched(device, task);
    });
}

#define POINTWISE(name)                                                                                                \
    static int run_##name(fv_device *device, const fv_task *task) { return run_loss<name##_loss>(device, task); }      \
    static int run_##name##_gradient(fv_device *device, const fv_task *task) {                                         \
        return run_slope<name##_loss>(device, task);                                                                   \
    }                                                                                                                  \
    RUN(name)                                                                                                          \
    RUN(name##_gradient)
POINTWISE(mean_squared_error)
POINTWISE(mean_absolute_error)
POINTWISE(huber)
POINTWISE(log_cosh)
POINTWISE(binary_cross_entropy_logits)
POINTWISE(binary_cross_entropy)
POINTWISE(sigmoid_focal)
POINTWISE(hinge)
POINTWISE(squared_hinge)
POINTWISE(kl_divergence)
POINTWISE(poisson)
static int run_binary_accuracy(fv_device *device, const fv_task *task) {
    return run_loss<binary_accuracy_loss>(device, task);
}
RUN(binary_accuracy)
