/* noise.cu - dropout, alpha dropout, Gaussian noise and Gaussian dropout, drawing the words that src/cpu/reference/noise.c specifies: four
 * elements share the counter (element / 4, stream, step). A thread takes those four. */
#include "cuda/device.h"
#include "cuda/philox.h"

namespace {
__device__ __forceinline__ bool kept(const uint32_t *words, int k, float rate) {
    return (float)(words[k] >> 8) * 0x1p-24f >= rate;
}

/* Box and Muller: two words make two numbers. */
__device__ __forceinline__ float normal(const uint32_t *words, int k) {
    const uint32_t *pair = words + k / 2 * 2;
    const float u = (float)((pair[0] >> 8) + 1) * 0x1p-24f, turn = 2 * (float)(pair[1] >> 8) * 0x1p-24f;
    return sqrtf(-2 * logf(u)) * (k % 2 ? sinpif(turn) : cospif(turn));
}

/* What becomes of element k of four: f(words, k, x). */
struct dropping {
    float rate, factor;
    explicit dropping(float r) : rate(r), factor((float)(1 / (1 - (double)r))) {}
    __device__ float operator()(const uint32_t *words, int k, float x) const {
        return kept(words, k, rate) ? x * factor : 0;
    }
};
const double dropped_value = -1.6732632423543772848170429916717 * 1.0507009873554804934193349852946;
struct alpha_dropping {
    float rate, a, b, dropped;
    bool gradient;
    alpha_dropping(float r, bool g) : rate(r), gradient(g) {
        const double scale = 1 / sqrt((1 - (double)r) * (1 + (double)r * dropped_value * dropped_value));
        a = (float)scale, b = (float)(-scale * dropped_value * r),
        dropped = (float)(scale * dropped_value - scale * dropped_value * r);
    }
    __device__ float operator()(const uint32_t *words, int k, float x) const {
        const bool keep = kept(words, k, rate);
        return gradient ? (keep ? a * x : 0) : keep ? a * x + b : dropped;
    }
};
struct noise {
    float deviation;
    bool factor; /* of x, and not added to it */
    __device__ float operator()(const uint32_t *words, int k, float x) const {
        const float z = deviation * normal(words, k);
        return factor ? x * (1 + z) : x + z;
    }
};
} // namespace

template <class T, class F>
__global__ void draw_quads(F f, T *y, const T *x, const fv_control *control, uint32_t stream, int64_t count) {
    GRID_STRIDE(quad, (count + 3) / 4) {
        const philox_words draw =
            philox((uint32_t)quad, stream, (uint32_t)control->step,
                   (uint32_t)((uint64_t)quad >> 32) ^ (uint32_t)(control->step >> 32), control->seed);
        for (int k = 0; k < 4 && 4 * quad + k < count; k++)
            y[4 * quad + k] = from_float<T>(f(draw.w, k, to_float(x[4 * quad + k])));
    }
}

template <class F> static int run_draws(fv_device *device, const fv_task *task, F f) {
    const fv_tensor *y = &task->output[0];
    const int64_t count = fv_elements(y);
    return with_real(y, [&](auto example) {
        using T = decltype(example);
        LAUNCH((draw_quads<T, F>), blocks_for(device, (count + 3) / 4), BLOCK, 0, device->stream, f,
               static_cast<T *>(y->data), static_cast<const T *>(task->input[0].data),
               static_cast<const fv_control *>(task->input[1].data), task->attributes->random.stream, count);
        return fv_cuda_launched(device, task);
    });
}

static float rate_of(const fv_task *task) { return task->attributes->random.rate; }
static int run_dropout(fv_device *d, const fv_task *t) { return run_draws(d, t, dropping(rate_of(t))); }
static int run_alpha_dropout(fv_device *d, const fv_task *t) {
    return run_draws(d, t, alpha_dropping(rate_of(t), false));
}
static int run_alpha_dropout_gradient(fv_device *d, const fv_task *t) {
    return run_draws(d, t, alpha_dropping(rate_of(t), true));
}
static int run_gaussian_noise(fv_device *d, const fv_task *t) { return run_draws(d, t, noise{ rate_of(t), false }); }
static int run_gaussian_dropout(fv_device *d, const fv_task *t) {
    const double rate = rate_of(t);
    return run_draws(d, t, noise{ (float)sqrt(rate / (1 - rate)), true });
}

RUN(dropout)
RUN(alpha_dropout)
RUN(alpha_dropout_gradient)
RUN(gaussian_noise)
RUN(gaussian_dropout)
