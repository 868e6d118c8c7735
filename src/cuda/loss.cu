/* loss.cu - losses over classes, one value a row of [.., classes], and how they are counted. A warp takes a row. Formulas as in
 * src/cpu/reference/loss.c: class weights multiply a target, label smoothing spreads it, a number that is no class gives NaN and one that is
 * to be ignored gives zero. */
#include "cuda/device.h"

#define LEAST_PROBABILITY 1e-7f

namespace {
/* The targets of a batch, in either form. */
struct targets {
    const int32_t *labels; /* or   */
    const float *dense;
    const float *weights; /* of the classes; NULL: 1 */
    int64_t classes;
    float smoothing, gamma, margin;
    bool ignore, squared;
    int32_t label;

    __device__ bool ignored(int64_t row) const { return ignore && labels && labels[row] == label; }
    __device__ float weight(int64_t j) const { return weights ? weights[j] : 1; }
    __device__ bool inside(int32_t number) const { return number >= 0 && number < classes; }
    /* w_j t_j, smoothed */
    __device__ float at(int64_t row, int64_t j) const {
        if (ignored(row)) return 0;
        const float t = dense ? dense[row * classes + j] : inside(labels[row]) ? (labels[row] == j ? 1.0f : 0.0f) : NAN;
        return weight(j) * ((1 - smoothing) * t + smoothing / (float)classes);
    }
    /* What class j lacks of being `margin` below the target's score. */
    template <class T> __device__ float lack(const T *x, int64_t row, int64_t j) const {
        const int32_t own = labels[row];
        if (!inside(own)) return NAN;
        const float missing = margin + to_float(x[j]) - to_float(x[own]);
        return j == own || missing <= 0 ? 0 : missing;
    }
};
} // namespace

static targets targets_of(const fv_task *task, int weights) {
    const fv_loss_attributes *a = &task->attributes->loss;
    const fv_tensor *target = &task->input[1];
    targets t = {};
    if (target->type == FV_I32)
        t.labels = static_cast<const int32_t *>(target->data);
    else
        t.dense = static_cast<const float *>(target->data);
    if (task->input_count > weights) t.weights = static_cast<const float *>(task->input[weights].data);
    t.classes = last_dim(&task->input[0]);
    t.smoothing = a->smoothing, t.gamma = a->gamma, t.margin = a->margin;
    t.ignore = a->ignore, t.squared = a->squared, t.label = a->label;
    return t;
}

/* - (1 - p)^gamma log p, and p times its slope in p. */
__device__ __forceinline__ float focal(float log_p, float gamma) {
    return gamma == 0 ? -log_p : powf(-expm1f(log_p), gamma) * -log_p;
}
__device__ __forceinline__ float focal_slope(float log_p, float gamma) {
    const float q = -expm1f(log_p);
    if (gamma == 0) return -1;
    return powf(q, gamma) * (gamma * (q == 0 ? -1 : expf(log_p) * log_p / q) - 1);
}

#define EACH_ROW(row, rows)                                                                                            \
    const int lane = threadIdx.x % WARP;                                                                               \
    for (int64_t row = ((int64_t)blockIdx.x * blockDim.x + threadIdx.x) / WARP; row < (rows);                          \
         row += (int64_t)gridDim.x * blockDim.x / WARP)
#define EACH_CLASS(j, classes) for (int64_t j = lane; j < (classes); j += WARP)

template <class T> __device__ __forceinline__ float row_log_sum_exp(const T *x, int64_t classes, int lane) {
    float most = -INFINITY, sum = 0;
    EACH_CLASS(j, classes) most = max_floats()(to_float(x[j]), most);
    most = warp_reduce(most, max_floats());
    EACH_CLASS(j, classes) sum += expf(to_float(x[j]) - most);
    return most + logf(warp_reduce(sum, add_floats()));
}

/* ---- Softmax and cross-entropy: the loss, its gradient, or both in one pass over the scores ------------------------------- */

template <class T>
__global__ void softmax_rows(targets t, float *loss, T *dx, const T *scores, const float *dloss, int64_t rows) {
    EACH_ROW(row, rows) {
        const T *x = scores + row * t.classes;
        const float log_sum = row_log_sum_exp(x, t.classes, lane);
        float value = 0, slope = 0;
        EACH_CLASS(j, t.classes) {
            const float target = t.at(row, j), log_p = to_float(x[j]) - log_sum;
            if (target != 0) value += target * focal(log_p, t.gamma);
            if (dx) slope += target * focal_slope(log_p, t.gamma);
        }
        if (loss) {
            value = warp_reduce(value, add_floats());
            if (lane == 0) loss[row] = value;
        }
        if (!dx) continue;
        slope = warp_reduce(slope, add_floats());
        const bool off = t.ignored(row);
        EACH_CLASS(j, t.classes) {
            const float log_p = to_float(x[j]) - log_sum, own = t.at(row, j) * focal_slope(log_p, t.gamma);
            dx[row * t.classes + j] = from_float<T>(off ? 0 : dloss[row] * (own - expf(log_p) * slope));
        }
    }
}

/* Inputs: scores, target, [dloss,] class weights */
static int run_softmax_rows(fv_device *device, const fv_task *task, const fv_tensor *loss, const fv_tensor *dx) {
    const fv_tensor *x = &task->input[0];
    const int64_t rows = fv_elements(x) / last_dim(x);
    const targets t = targets_of(task, dx ? 3 : 2);
    return with_real(x, [&](auto example) {
        using T = decltype(example);
        LAUNCH(softmax_rows<T>, blocks_for(device, rows * WARP), BLOCK, 0, device->stream, t,
               loss ? static_cast<float *>(loss->data) : nullptr, dx ? static_cast<T *>(dx->data) : nullptr,
               static_cast<const T *>(x->data), dx ? static_cast<const float *>(task->input[2].data) : nullptr, rows);
        return fv_cuda_launched(device, task);
    });
}
static int run_softmax_cross_entropy(fv_device *d, const fv_task *t) {
    return run_softmax_rows(d, t, &t->output[0], NULL);
}
static int run_softmax_cross_entropy_gradient(fv_device *d, const fv_task *t) {
    return run_softmax_rows(d, t, NULL, &t->output[0]);
}
static int run_softmax_cross_entropy_train(fv_device *d, const fv_task *t) {
    return run_softmax_rows(d, t, &t->output[0], &t->output[1]);
}
RUN(softmax_cross_entropy)
RUN(softmax_cross_entropy_gradient)
RUN(softmax_cross_entropy_train)

/* ---- Cross-entropy of probabilities, clipped --------------------------------------------------------------------------------- */

template <class T> __global__ void cross_entropy_rows(targets t, float *loss, const T *p, int64_t rows) {
    EACH_ROW(row, rows) {
        float value = 0;
        EACH_CLASS(j, t.classes) {
            const float target = t.at(row, j), own = to_float(p[row * t.classes + j]);
            const float clipped = own < LEAST_PROBABILITY ? LEAST_PROBABILITY : own;
            const float log_p = clipped > 1 - LEAST_PROBABILITY ? -LEAST_PROBABILITY : logf(clipped);
            if (target != 0) value += target * focal(log_p, t.gamma);
        }
        value = warp_reduce(value, add_floats());
        if (lane == 0) loss[row] = value;
    }
}

template <class T>
__global__ void cross_entropy_slopes(targets t, T *dp, const T *p, const float *dloss, int64_t count) {
    GRID_STRIDE(i, count) {
        const int64_t row = i / t.classes;
        const float target = t.at(row, i % t.classes), own = to_float(p[i]);
        const bool clipped = own < LEAST_PROBABILITY || own > 1 - LEAST_PROBABILITY;
        const bool none = t.ignored(row) || (clipped && !isnan(target));
        dp[i] = from_float<T>(none ? 0 : dloss[row] * target * focal_slope(logf(own), t.gamma) / own);
    }
}

static int run_cross_entropy(fv_device *device, const fv_task *task) {
    const fv_tensor *p = &task->input[0], *loss = &task->output[0];
    const int64_t rows = fv_elements(loss);
    return with_real(p, [&](auto example) {
        using T = decltype(example);
        LAUNCH(cross_entropy_rows<T>, blocks_for(device, rows * WARP), BLOCK, 0, device->stream, targets_of(task, 2),
               static_cast<float *>(loss->data), static_cast<const T *>(p->data), rows);
        return fv_cuda_launched(device, task);
    });
}
static int run_cross_entropy_gradient(fv_device *device, const fv_task *task) {
    const fv_tensor *p = &task->input[0], *dp = &task->output[0];
    const int64_t count = fv_elements(p);
    return with_real(p, [&](auto example) {
        using T = decltype(example);
        LAUNCH(cross_entropy_slopes<T>, blocks_for(device, count), BLOCK, 0, device->stream, targets_of(task, 3),
               static_cast<T *>(dp->data), static_cast<const T *>(p->data),
               static_cast<const float *>(task->input[2].data), count);
        return fv_cuda_launched(device, task);
    });
}
RUN(cross_entropy)
RUN(cross_entropy_gradient)

/* ---- From sums to means ------------------------------------------------------------------------------------------------------- */

__global__ void scale_of_targets(targets t, float *scale, int64_t rows) {
    float sum = 0;
    for (int64_t row = threadIdx.x; row < rows; row += blockDim.x)
        if (!t.ignored(row)) sum += t.inside(t.labels[row]) ? t.weight(t.labels[row]) : NAN;
    sum = block_reduce(sum, add_floats(), 0);
    if (threadIdx.x == 0) scale[0] = sum == 0 ? 0 : 1 / sum;
}

/* Inputs: target, class weights */
static int run_target_scale(fv_device *device, const fv_task *task) {
    const fv_loss_attributes *a = &task->attributes->loss;
    targets t = {};
    t.labels = static_cast<const int32_t *>(task->input[0].data);
    if (task->input_count > 1) t.weights = static_cast<const float *>(task->input[1].data);
    t.classes = t.weights ? fv_elements(&task->input[1]) : INT32_MAX;
    t.ignore = a->ignore, t.label = a->label;
    LAUNCH(scale_of_targets, 1, BLOCK, 0, device->stream, t, static_cast<float *>(task->output[0].data),
           fv_elements(&task->input[0]));
    return fv_cuda_launched(device, task);
}
RUN(target_scale)

/* ---- Margins -------------------------------------------------------------------------------------------------------------------- */

template <class T> __global__ void margin_rows(targets t, float *loss, const T *scores, int64_t rows) {
    EACH_ROW(row, rows) {
        float sum = 0;
        EACH_CLASS(j, t.classes) {
            const float missing = t.lack(scores + row * t.classes, row, j);
            sum += t.squared ? missing * missing : missing;
        }
        sum = warp_reduce(sum, add_floats());
        if (t.inside(t.labels[row])) sum *= t.weight(t.labels[row]);
        if (lane == 0) loss[row] = t.ignored(row) ? 0 : sum / (float)t.classes;
    }
}

template <class T> __global__ void margin_slopes(targets t, T *dx, const T *scores, const float *dloss, int64_t rows) {
    EACH_ROW(row, rows) {
        const int32_t label = t.labels[row];
        const bool off = t.ignored(row);
        const float scale = dloss[row] / (float)t.classes * (t.inside(label) ? t.weight(label) : 1);
        float sum = 0;
        EACH_CLASS(j, t.classes) {
            const float missing = t.lack(scores + row * t.classes, row, j), slope = t.squared     ? 2 * missing
                                                                                    : missing > 0 ? 1
                                                                                                  : missing;
            if (j != label) dx[row * t.classes + j] = from_float<T>(off ? 0 : scale * slope);
            sum += slope;
        }
        sum = warp_reduce(sum, add_floats());
        if (lane == 0 && t.inside(label)) dx[row * t.classes + label] = from_float<T>(off ? 0 : -scale * sum);
    }
}

static int run_multi_margin(fv_device *device, const fv_task *task) {
    const fv_tensor *x = &task->input[0], *loss = &task->output[0];
    const int64_t rows = fv_elements(loss);
    return with_real(x, [&](auto example) {
        using T = decltype(example);
        LAUNCH(margin_rows<T>, blocks_for(device, rows * WARP), BLOCK, 0, device->stream, targets_of(task, 2),
               static_cast<float *>(loss->data), static_cast<const T *>(x->data), rows);
        return fv_cuda_launched(device, task);
    });
}
static int run_multi_margin_gradient(fv_device *device, const fv_task *task) {
    const fv_tensor *x = &task->input[0], *dx = &task->output[0];
    const int64_t rows = fv_elements(&task->input[2]);
    return with_real(x, [&](auto example) {
        using T = decltype(example);
        LAUNCH(margin_slopes<T>, blocks_for(device, rows * WARP), BLOCK, 0, device->stream, targets_of(task, 3),
               static_cast<T *>(dx->data), static_cast<const T *>(x->data),
               static_cast<const float *>(task->input[2].data), rows);
        return fv_cuda_launched(device, task);
    });
}
RUN(multi_margin)
RUN(multi_margin_gradient)

/* ---- Angles --------------------------------------------------------------------------------------------------------------------- */

/* loss, or (dx) its gradient; vectors shorter than 1e-6 count as being that long */
template <class T>
__global__ void cosine_rows(float *loss, T *dx, const T *xs, const T *ts, const float *dloss, int64_t n, int64_t rows) {
    EACH_ROW(row, rows) {
        const T *x = xs + row * n, *t = ts + row * n;
        float xx = 0, tt = 0, xt = 0;
        EACH_CLASS(j, n) {
            const float a = to_float(x[j]), b = to_float(t[j]);
            xx += a * a, tt += b * b, xt += a * b;
        }
        xx = warp_reduce(xx, add_floats());
        tt = warp_reduce(tt, add_floats());
        xt = warp_reduce(xt, add_floats());
        const float squares = xx < 1e-12f ? 1e-12f : xx, lengths = sqrtf(squares) * sqrtf(tt < 1e-12f ? 1e-12f : tt);
        if (loss && lane == 0) loss[row] = -xt / lengths;
        if (!dx) continue;
        const float along = xx < 1e-12f ? 0 : xt / squares;
        EACH_CLASS(j, n)
        dx[row * n + j] = from_float<T>(dloss[row] * (to_float(x[j]) * along - to_float(t[j])) / lengths);
    }
}

static int run_cosine(fv_device *device, const fv_task *task, bool gradient) {
    const fv_tensor *in = task->input, *out = &task->output[0];
    const int64_t n = last_dim(&in[0]), rows = fv_elements(&in[0]) / n;
    return with_real(&in[0], [&](auto example) {
        using T = decltype(example);
        LAUNCH(cosine_rows<T>, blocks_for(device, rows * WARP), BLOCK, 0, device->stream,
               gradient ? nullptr : static_cast<float *>(out->data), gradient ? static_cast<T *>(out->data) : nullptr,
               static_cast<const T *>(in[0].data), static_cast<const T *>(in[1].data),
               gradient ? static_cast<const float *>(in[2].data) : nullptr, n, rows);
        return fv_cuda_launched(device, task);
    });
}
static int run_cosine_similarity(fv_device *d, const fv_task *t) { return run_cosine(d, t, false); }
static int run_cosine_similarity_gradient(fv_device *d, const fv_task *t) { return run_cosine(d, t, true); }
RUN(cosine_similarity)
RUN(cosine_similarity_gradient)

/* ---- Metrics -------------------------------------------------------------------------------------------------------------------- */

/* 1 where fewer than k classes come before the target: higher scores, or equal ones of a lower class. A thread takes a row. */
template <class T> __global__ void top_k_rows(targets t, float *y, const T *scores, int64_t k, int64_t rows) {
    GRID_STRIDE(row, rows) {
        const T *x = scores + row * t.classes;
        int64_t label = t.dense ? 0 : t.labels[row], before = 0;
        for (int64_t j = 1; t.dense && j < t.classes; j++)
            if (t.dense[row * t.classes + j] > t.dense[row * t.classes + label]) label = j;
        bool counts = label >= 0 && label < t.classes && !t.ignored(row);
        for (int64_t j = 0; j < t.classes; j++) {
            const float score = to_float(x[j]);
            if (isnan(score)) counts = false;
            if (counts) before += score > to_float(x[label]) || (score == to_float(x[label]) && j < label);
        }
        y[row] = counts && before < k ? 1 : 0;
    }
}

static int run_in_top_k(fv_device *device, const fv_task *task) {
    const fv_top_k_attributes *a = &task->attributes->top_k;
    const fv_tensor *x = &task->input[0], *target = &task->input[1], *y = &task->output[0];
    const int64_t rows = fv_elements(y);
    targets t = {};
    if (target->type == FV_I32)
        t.labels = static_cast<const int32_t *>(target->data);
    else
        t.dense = static_cast<const float *>(target->data);
    t.classes = last_dim(x);
    t.ignore = a->ignore, t.label = a->label;
    return with_real(x, [&](auto example) {
        using T = decltype(example);
        LAUNCH(top_k_rows<T>, blocks_for(device, rows), BLOCK, 0, device->stream, t, static_cast<float *>(y->data),
               static_cast<const T *>(x->data), (int64_t)a->k, rows);
        return fv_cuda_launched(device, task);
    });
}
RUN(in_top_k)

/* Kahan's summation: state[0] is the sum, state[1] what the last additions put into it too much. Threads add their share in the same
 * way, and one adds the shares in order. */
__device__ __forceinline__ void kahan_add(float &sum, float &excess, float value) {
    const float corrected = value - excess, next = sum + corrected;
    excess = (next - sum) - corrected;
    sum = next;
}

__global__ void add_to_metric(float *state, const float *values, int64_t count) {
    SHARED(float, sums, [BLOCK]);
    SHARED(float, excesses, [BLOCK]);
    float sum = 0, excess = 0;
    for (int64_t i = threadIdx.x; i < count; i += blockDim.x) kahan_add(sum, excess, values[i]);
    sums[threadIdx.x] = sum;
    excesses[threadIdx.x] = excess;
    __syncthreads();
    if (threadIdx.x) return;
    sum = state[0], excess = state[1];
    for (int i = 0; i < (int)blockDim.x; i++) {
        kahan_add(sum, excess, sums[i]);
        kahan_add(sum, excess, -excesses[i]);
    }
    state[0] = sum;
    state[1] = excess;
}

static int run_metric_add(fv_device *device, const fv_task *task) {
    LAUNCH(add_to_metric, 1, BLOCK, 0, device->stream, static_cast<float *>(task->output[0].data),
           static_cast<const float *>(task->input[1].data), fv_elements(&task->input[1]));
    return fv_cuda_launched(device, task);
}
RUN(metric_add)
