/* sample_norm.cu - normalisation within a sample: layer, group, RMS and unit norm. A block takes a group of a sample; gamma's and beta's gradients
 * are sums of columns. Formulas and views as in src/cpu/reference/sample_norm.c. */
#include "cuda/columns.h"

namespace {
struct view {
    int64_t samples, positions, channels, width; /* width: channels of a group */
    int groups;
    float epsilon;
    bool centred, unit;
    __device__ int64_t channel(int64_t g, int64_t k) const { return g * width + k % width; }
    __device__ int64_t place(int64_t n, int64_t g, int64_t k) const {
        return (n * positions + k / width) * channels + channel(g, k);
    }
};

/* dy and dy x^, for the sums over samples and positions. */
template <class T> struct scale_gradients {
    view v;
    const T *x, *dy;
    const float *mean, *inverse; /* mean: NULL where none was subtracted */
    __device__ void operator()(int64_t i, int64_t c, float &a, float &b) const {
        const int64_t group = i / v.channels / v.positions * v.groups + c / v.width;
        const float g = to_float(dy[i]);
        a += g;
        b += g * (to_float(x[i]) - (mean ? mean[group] : 0)) * inverse[group];
    }
};
} // namespace

static view view_of(const fv_task *task, bool centred) {
    const fv_sample_norm_attributes *a = &task->attributes->sample_norm;
    const fv_tensor *x = &task->input[0];
    const bool grouped = task->op == FV_OP_group_norm || task->op == FV_OP_group_norm_gradient;
    view v = {};
    v.channels = grouped ? last_dim(x) : span(x, x->rank - a->axes, x->rank);
    v.samples = grouped ? x->dim[0] : span(x, 0, x->rank - a->axes);
    v.positions = grouped ? span(x, 1, x->rank - 1) : 1;
    v.groups = grouped ? a->groups : 1;
    v.width = v.channels / v.groups;
    v.epsilon = a->epsilon;
    v.centred = centred;
    v.unit = task->op == FV_OP_unit_norm || task->op == FV_OP_unit_norm_gradient;
    return v;
}

template <class T>
__global__ void normalize_group(view v, T *y, float *means, float *inverses, const T *x, const float *gamma,
                                const float *beta) {
    const int64_t m = v.positions * v.width;
    for (int64_t group = blockIdx.x; group < v.samples * v.groups; group += gridDim.x) {
        const int64_t n = group / v.groups, g = group % v.groups;
        float mean = 0, squares = 0;
        if (v.centred) {
            for (int64_t k = threadIdx.x; k < m; k += blockDim.x) mean += to_float(x[v.place(n, g, k)]);
            mean = block_reduce(mean, add_floats(), 0) / (float)m;
        }
        for (int64_t k = threadIdx.x; k < m; k += blockDim.x) {
            const float d = to_float(x[v.place(n, g, k)]) - mean;
            squares += d * d;
        }
        squares = block_reduce(squares, add_floats(), 0);
        const float length = sqrtf(squares);
        const float inverse =
            v.unit ? 1 / (length < v.epsilon ? v.epsilon : length) : 1 / sqrtf(squares / (float)m + v.epsilon);
        for (int64_t k = threadIdx.x; y && k < m; k += blockDim.x) {
            const int64_t i = v.place(n, g, k), c = v.channel(g, k);
            y[i] = from_float<T>((gamma ? gamma[c] : 1) * ((to_float(x[i]) - mean) * inverse) + (beta ? beta[c] : 0));
        }
        if (threadIdx.x) continue;
        if (means) means[group] = mean;
        if (inverses) inverses[group] = inverse;
    }
}

template <class T>
__global__ void group_gradient(view v, T *dx, const T *x, const T *dy, const float *gamma, const float *means,
                               const float *inverses) {
    const int64_t m = v.positions * v.width;
    for (int64_t group = blockIdx.x; group < v.samples * v.groups; group += gridDim.x) {
        const int64_t n = group / v.groups, g = group % v.groups;
        const float mean = means ? means[group] : 0, inverse = inverses[group];
        const bool clamped = v.unit && inverse >= (float)(1 / (double)v.epsilon);
        float level = 0, slope = 0;
        for (int64_t k = threadIdx.x; k < m; k += blockDim.x) {
            const int64_t i = v.place(n, g, k);
            const float inner = (gamma ? gamma[v.channel(g, k)] : 1) * to_float(dy[i]);
            level += inner;
            slope += inner * (to_float(x[i]) - mean) * inverse;
        }
        level = block_reduce(level, add_floats(), 0);
        slope = block_reduce(slope, add_floats(), 0);
        level = v.centred ? level / (float)m : 0;
        slope = clamped ? 0 : v.unit ? slope : slope / (float)m;
        for (int64_t k = threadIdx.x; k < m; k += blockDim.x) {
            const int64_t i = v.place(n, g, k);
            const float inner = (gamma ? gamma[v.channel(g, k)] : 1) * to_float(dy[i]);
            dx[i] = from_float<T>(inverse * (inner - level - (to_float(x[i]) - mean) * inverse * slope));
        }
    }
}

static float *floats(const fv_tensor *t) { return t ? static_cast<float *>(t->data) : nullptr; }

static unsigned blocks_of(const view &v) {
    const int64_t groups = v.samples * v.groups;
    return (unsigned)(groups < 65535 ? groups : 65535);
}

static int run_forward(fv_device *device, const fv_task *task, bool centred) {
    const view v = view_of(task, centred);
    const fv_tensor *in = task->input, *out = task->output;
    return with_real(&in[0], [&](auto example) {
        using T = decltype(example);
        LAUNCH(normalize_group<T>, blocks_of(v), BLOCK, 0, device->stream, v, static_cast<T *>(out[0].data),
               centred ? floats(&out[1]) : nullptr, floats(&out[1 + centred]), static_cast<const T *>(in[0].data),
               task->input_count > 1 ? floats(&in[1]) : nullptr, centred ? floats(&in[2]) : nullptr);
        return fv_cuda_launched(device, task);
    });
}

__global__ void finish_columns(cut g, const float *sums, float *dgamma, float *dbeta) {
    GRID_STRIDE(c, g.channels) {
        if (dbeta) dbeta[c] = (float)chunk_sum(g, sums, 0, c);
        if (dgamma) dgamma[c] = (float)chunk_sum(g, sums, 1, c);
    }
}

static int prepare_backward(fv_device *, fv_task *task) {
    const view v = view_of(task, false);
    task->scratch_bytes = scratch_bytes(cut_columns(v.samples * v.positions, v.channels));
    return FV_OK;
}

static int run_backward(fv_device *device, const fv_task *task, bool centred) {
    const view v = view_of(task, centred);
    const fv_tensor *in = task->input, *out = task->output, *dgamma = v.unit ? NULL : &out[1],
                    *dbeta = centred ? &out[2] : NULL;
    const float *means = centred ? floats(&in[3]) : nullptr, *inverses = floats(&in[task->input_count - 1]);
    return with_real(&in[0], [&](auto example) {
        using T = decltype(example);
        const T *x = static_cast<const T *>(in[0].data), *dy = static_cast<const T *>(in[1].data);
        if (floats(dgamma) || floats(dbeta)) {
            const cut g = cut_columns(v.samples * v.positions, v.channels);
            float *sums = static_cast<float *>(task->scratch);
            scale_gradients<T> f;
            f.v = v, f.x = x, f.dy = dy, f.mean = means, f.inverse = inverses;
            launch_sums(device, g, f, sums);
            LAUNCH(finish_columns, blocks_for(device, g.channels), BLOCK, 0, device->stream, g, sums, floats(dgamma),
                   floats(dbeta));
        }
        if (out[0].data)
            LAUNCH(group_gradient<T>, blocks_of(v), BLOCK, 0, device->stream, v, static_cast<T *>(out[0].data), x, dy,
                   v.unit ? nullptr : floats(&in[2]), means, inverses);
        return fv_cuda_launched(device, task);
    });
}

#define NORM(name, centred)                                                                                            \
    static int run_##name(fv_device *device, const fv_task *task) { return run_forward(device, task, centred); }       \
    static int run_##name##_gradient(fv_device *device, const fv_task *task) {                                         \
        return run_backward(device, task, centred);                                                                    \
    }                                                                                                                  \
    RUN(name)                                                                                                          \
    extern "C" const fv_kernel KERNEL(name##_gradient) = { NULL, prepare_backward, run_##name##_gradient, NULL };
NORM(layer_norm, true)
NORM(group_norm, true)
NORM(rms_norm, false)
NORM(unit_norm, false)
