/* normalization.cu - batch normalisation, whose statistics run over every axis but the last, and local response normalisation. Sums over
 * the rows of a channel are taken in a fixed number of chunks, then over the chunks in order: results repeat. A sum of squares
 * is taken about the channel's first value, so that a mean far from zero costs no digits. */
#include "cuda/activate.h"
#include "cuda/columns.h"

namespace {
/* Two numbers of each row and channel, to be summed: of x about its pivot; of a gradient. */
template <class T> struct moments {
    const T *x;
    __device__ void operator()(int64_t i, int64_t c, float &a, float &b) const {
        const float d = to_float(x[i]) - to_float(x[c]);
        a += d;
        b += d * d;
    }
};
template <class T> struct gradients {
    const T *x, *y, *dy;         /* y: NULL, or the activated output that masks dy */
    const float *mean, *inverse; /* inverse: 1/deviation                            */
    int activation;
    float alpha;
    __device__ float masked(int64_t i) const {
        return y ? activate_gradient(activation, alpha, to_float(y[i]), to_float(dy[i])) : to_float(dy[i]);
    }
    __device__ void operator()(int64_t i, int64_t c, float &a, float &b) const {
        const float g = masked(i);
        a += g;
        b += g * (to_float(x[i]) - mean[c]) * inverse[c];
    }
};
} // namespace

static cut cut_rows(const fv_tensor *x) { return cut_columns(fv_elements(x) / last_dim(x), last_dim(x)); }

/* ---- Training ------------------------------------------------------------------------------------------------------------ */

namespace {
struct statistics {
    const float *running_mean, *running_variance;
    float *mean, *inverse, *new_mean, *new_variance; /* any but the scratch pair may be NULL */
    float *kept_mean, *kept_inverse;
    float epsilon, momentum;
};
} // namespace

template <class T> __global__ void finish_statistics(cut g, const float *sums, const T *x, statistics s) {
    GRID_STRIDE(c, g.channels) {
        const double off = chunk_sum(g, sums, 0, c) / (double)g.rows;
        const double mean = (double)to_float(x[c]) + off;
        double variance = chunk_sum(g, sums, 1, c) / (double)g.rows - off * off;
        if (variance < 0) variance = 0;
        const double inverse = 1 / sqrt(variance + (double)s.epsilon), kept = s.momentum;
        s.kept_mean[c] = (float)mean;
        s.kept_inverse[c] = (float)inverse;
        if (s.mean) s.mean[c] = (float)mean;
        if (s.inverse) s.inverse[c] = (float)inverse;
        if (s.new_mean) s.new_mean[c] = (float)(kept * s.running_mean[c] + (1 - kept) * mean);
        if (s.new_variance) s.new_variance[c] = (float)(kept * s.running_variance[c] + (1 - kept) * variance);
    }
}

/* y = activation(gamma (x - mean) inverse + beta); SQUARED: `inverse` is a variance */
template <class T, bool SQUARED>
__global__ void apply_norm(T *y, const T *x, const float *gamma, const float *beta, const float *mean,
                           const float *inverse, float epsilon, int activation, float alpha, int64_t channels,
                           int64_t count) {
    GRID_STRIDE(i, count) {
        const int64_t c = i % channels;
        const float scale = SQUARED ? 1 / sqrtf(inverse[c] + epsilon) : inverse[c];
        const float v = (gamma ? gamma[c] : 1) * ((to_float(x[i]) - mean[c]) * scale) + (beta ? beta[c] : 0);
        y[i] = from_float<T>(activate(activation, alpha, v));
    }
}

static float *floats(const fv_tensor *t) { return static_cast<float *>(t->data); }

static int prepare_norm(fv_device *, fv_task *task) {
    task->scratch_bytes = scratch_bytes(cut_rows(&task->input[0]));
    return FV_OK;
}

static int run_batch_norm_train(fv_device *device, const fv_task *task) {
    const fv_norm_attributes *a = &task->attributes->norm;
    const fv_tensor *in = task->input, *out = task->output;
    const cut g = cut_rows(&in[0]);
    float *sums = static_cast<float *>(task->scratch), *vectors = sums + 2 * g.channels * g.chunks;
    const statistics s = { floats(&in[3]),  floats(&in[4]), floats(&out[1]),      floats(&out[2]), floats(&out[3]),
                           floats(&out[4]), vectors,        vectors + g.channels, a->epsilon,      a->momentum };
    return with_real(&in[0], [&](auto example) {
        using T = decltype(example);
        const T *x = static_cast<const T *>(in[0].data);
        moments<T> f;
        f.x = x;
        launch_sums(device, g, f, sums);
        LAUNCH(finish_statistics<T>, blocks_for(device, g.channels), BLOCK, 0, device->stream, g, sums, x, s);
        if (out[0].data)
            LAUNCH((apply_norm<T, false>), blocks_for(device, g.rows * g.channels), BLOCK, 0, device->stream,
                   static_cast<T *>(out[0].data), x, floats(&in[1]), floats(&in[2]), s.kept_mean, s.kept_inverse,
                   a->epsilon, a->activation, a->alpha, g.channels, g.rows * g.channels);
        return fv_cuda_launched(device, task);
    });
}

static int run_batch_norm_infer(fv_device *device, const fv_task *task) {
    const fv_norm_attributes *a = &task->attributes->norm;
    const fv_tensor *in = task->input, *y = &task->output[0];
    const int64_t count = fv_elements(y);
    return with_real(y, [&](auto example) {
        using T = decltype(example);
        LAUNCH((apply_norm<T, true>), blocks_for(device, count), BLOCK, 0, device->stream, static_cast<T *>(y->data),
               static_cast<const T *>(in[0].data), floats(&in[1]), floats(&in[2]), floats(&in[3]), floats(&in[4]),
               a->epsilon, a->activation, a->alpha, last_dim(y), count);
        return fv_cuda_launched(device, task);
    });
}

/* ---- Gradients ----------------------------------------------------------------------------------------------------------- */

__global__ void inverse_deviations(float *inverse, const float *variance, float epsilon, int64_t channels) {
    GRID_STRIDE(c, channels) inverse[c] = (float)(1 / sqrt((double)variance[c] + (double)epsilon));
}

/* totals: dbeta, then dgamma */
__global__ void finish_gradients(cut g, const float *sums, float *totals, float *dgamma, float *dbeta) {
    GRID_STRIDE(c, g.channels) {
        const float beta = (float)chunk_sum(g, sums, 0, c), gamma = (float)chunk_sum(g, sums, 1, c);
        totals[c] = beta;
        totals[g.channels + c] = gamma;
        if (dbeta) dbeta[c] = beta;
        if (dgamma) dgamma[c] = gamma;
    }
}

/* dx = gamma / deviation (dy - dbeta / m - x^ dgamma / m); without statistics of the batch only the first term */
template <class T>
__global__ void apply_gradient(cut g, gradients<T> f, T *dx, const float *gamma, const float *totals, bool pulled) {
    GRID_STRIDE(i, g.rows * g.channels) {
        const int64_t c = i % g.channels;
        float v = f.masked(i);
        if (pulled) {
            const float normal = (to_float(f.x[i]) - f.mean[c]) * f.inverse[c];
            v -= (totals[c] + normal * totals[g.channels + c]) / (float)g.rows;
        }
        dx[i] = from_float<T>((gamma ? gamma[c] : 1) * f.inverse[c] * v);
    }
}

/* Inputs: x, [y,] dy, gamma, mean, and 1/deviation or (FROM_VARIANCE) the variance. */
static int run_gradient(fv_device *device, const fv_task *task, bool masked, bool from_variance) {
    const fv_tensor *in = task->input, *out = task->output, *dy = &in[1 + masked], *gamma = dy + 1, *mean = dy + 2,
                    *inverse = dy + 3;
    const fv_norm_attributes *a = &task->attributes->norm;
    const cut g = cut_rows(&in[0]);
    float *sums = static_cast<float *>(task->scratch), *totals = sums + 2 * g.channels * g.chunks;
    return with_real(&in[0], [&](auto example) {
        using T = decltype(example);
        gradients<T> f;
        f.x = static_cast<const T *>(in[0].data);
        f.y = masked ? static_cast<const T *>(in[1].data) : nullptr;
        f.dy = static_cast<const T *>(dy->data);
        f.mean = floats(mean);
        f.inverse = from_variance ? totals + 2 * g.channels : floats(inverse);
        f.activation = a->activation;
        f.alpha = a->alpha;
        if (from_variance)
            LAUNCH(inverse_deviations, blocks_for(device, g.channels), BLOCK, 0, device->stream,
                   totals + 2 * g.channels, floats(inverse), a->epsilon, g.channels);
        launch_sums(device, g, f, sums);
        LAUNCH(finish_gradients, blocks_for(device, g.channels), BLOCK, 0, device->stream, g, sums, totals,
               floats(&out[1]), floats(&out[2]));
        if (out[0].data)
            LAUNCH(apply_gradient<T>, blocks_for(device, g.rows * g.channels), BLOCK, 0, device->stream, g, f,
                   static_cast<T *>(out[0].data), floats(gamma), totals, !from_variance);
        return fv_cuda_launched(device, task);
    });
}

static int prepare_gradient(fv_device *, fv_task *task) {
    const cut g = cut_rows(&task->input[0]);
    task->scratch_bytes = scratch_bytes(g) + (size_t)g.channels * sizeof(float);
    return FV_OK;
}
static int run_batch_norm_gradient(fv_device *d, const fv_task *task) { return run_gradient(d, task, false, false); }
static int run_batch_norm_infer_gradient(fv_device *d, const fv_task *task) {
    return run_gradient(d, task, false, true);
}
static int run_batch_norm_activation_gradient(fv_device *d, const fv_task *task) {
    return run_gradient(d, task, true, false);
}

extern "C" const fv_kernel KERNEL(batch_norm_train) = { NULL, prepare_norm, run_batch_norm_train, NULL };
extern "C" const fv_kernel KERNEL(batch_norm_train_activation) = { NULL, prepare_norm, run_batch_norm_train, NULL };
extern "C" const fv_kernel KERNEL(batch_norm_infer_activation) = { NULL, NULL, run_batch_norm_infer, NULL };
extern "C" const fv_kernel KERNEL(batch_norm_gradient) = { NULL, prepare_gradient, run_batch_norm_gradient, NULL };
extern "C" const fv_kernel KERNEL(batch_norm_infer_gradient) = { NULL, prepare_gradient, run_batch_norm_infer_gradient,
                                                                 NULL };
extern "C" const fv_kernel KERNEL(batch_norm_activation_gradient) = { NULL, prepare_gradient,
                                                                      run_batch_norm_activation_gradient, NULL };
RUN(batch_norm_infer)

/* ---- Local response normalisation ---------------------------------------------------------------------------------------- */

template <class T>
__device__ __forceinline__ float lrn_scale(const fv_lrn_attributes &a, const T *x, int c, int channels) {
    float sum = 0;
    for (int j = c - a.size / 2; j <= c + (a.size - 1) / 2; j++)
        if (j >= 0 && j < channels) sum += to_float(x[j]) * to_float(x[j]);
    return a.k + a.alpha * sum;
}

template <class T> __global__ void lrn_elements(fv_lrn_attributes a, T *y, const T *x, int channels, int64_t count) {
    GRID_STRIDE(i, count) {
        const int c = (int)(i % channels);
        y[i] = from_float<T>(to_float(x[i]) * powf(lrn_scale(a, x + i - c, c, channels), -a.beta));
    }
}

template <class T>
__global__ void lrn_gradient_elements(fv_lrn_attributes a, T *dx, const T *x, const T *y, const T *dy, int channels,
                                      int64_t count) {
    GRID_STRIDE(i, count) {
        const int c = (int)(i % channels);
        const T *xs = x + i - c, *ys = y + i - c, *dys = dy + i - c;
        float sum = 0;
        for (int j = c - (a.size - 1) / 2; j <= c + a.size / 2; j++)
            if (j >= 0 && j < channels) sum += to_float(dys[j]) * to_float(ys[j]) / lrn_scale(a, xs, j, channels);
        const float direct = to_float(dys[c]) * powf(lrn_scale(a, xs, c, channels), -a.beta);
        dx[i] = from_float<T>(direct - 2 * a.alpha * a.beta * to_float(xs[c]) * sum);
    }
}

static int run_lrn(fv_device *device, const fv_task *task) {
    const fv_tensor *y = &task->output[0];
    const int64_t count = fv_elements(y);
    return with_real(y, [&](auto example) {
        using T = decltype(example);
        LAUNCH(lrn_elements<T>, blocks_for(device, count), BLOCK, 0, device->stream, task->attributes->lrn,
               static_cast<T *>(y->data), static_cast<const T *>(task->input[0].data), (int)last_dim(y), count);
        return fv_cuda_launched(device, task);
    });
}

static int run_lrn_gradient(fv_device *device, const fv_task *task) {
    const fv_tensor *dx = &task->output[0], *in = task->input;
    const int64_t count = fv_elements(dx);
    return with_real(dx, [&](auto example) {
        using T = decltype(example);
        LAUNCH(lrn_gradient_elements<T>, blocks_for(device, count), BLOCK, 0, device->stream, task->attributes->lrn,
               static_cast<T *>(dx->data), static_cast<const T *>(in[0].data), static_cast<const T *>(in[1].data),
               static_cast<const T *>(in[2].data), (int)last_dim(dx), count);
        return fv_cuda_launched(device, task);
    });
}
RUN(lrn)
RUN(lrn_gradient)
