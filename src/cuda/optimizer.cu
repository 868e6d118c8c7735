/* optimizer.cu - one step of the optimiser over all parameters of a store, and what surrounds it. A block takes a tile (update.h). What
 * changes from step to step is read from the control block. Formulas as in src/cpu/reference/optimizer.c; while the sticky flag is set
 * nothing is written. */
#include "cuda/update.h"

namespace {
/* A rule changes w by a prepared gradient g; slot[i] points to the element's own, or is NULL. */
struct sgd {
    float momentum;
    bool nesterov;
    explicit sgd(const fv_update_attributes *a)
        : momentum(a->value[FV_MOMENTUM]), nesterov(a->value[FV_NESTEROV] != 0) {}
    __device__ void begin(step &, double) const {}
    __device__ void operator()(const step &s, float g, float &w, float *const *slot) const {
        float v = g;
        if (slot[0]) *slot[0] = v = momentum * *slot[0] + g;
        w -= s.rate * (nesterov ? g + momentum * v : v);
    }
};

struct adam {
    float beta1, beta2, epsilon;
    explicit adam(const fv_update_attributes *a)
        : beta1(a->value[FV_BETA1]), beta2(a->value[FV_BETA2]), epsilon(a->value[FV_EPSILON]) {}
    __device__ void begin(step &s, double number) const {
        s.first = (float)(1 / (1 - pow((double)beta1, number)));
        s.second = (float)(1 / sqrt(1 - pow((double)beta2, number)));
    }
    __device__ void operator()(const step &s, float g, float &w, float *const *slot) const {
        const float m = running_mean(slot[0], beta1, g);
        float v = running_mean(slot[1], beta2, g * g);
        if (slot[2]) v = *slot[2] = *slot[2] > v ? *slot[2] : v; /* AMSGrad */
        w -= s.rate * (m * s.first) / (sqrtf(v) * s.second + epsilon);
    }
};

struct rmsprop {
    float rho, momentum, epsilon;
    explicit rmsprop(const fv_update_attributes *a)
        : rho(a->value[FV_RHO]), momentum(a->value[FV_MOMENTUM]), epsilon(a->value[FV_EPSILON]) {}
    __device__ void begin(step &, double) const {}
    __device__ void operator()(const step &s, float g, float &w, float *const *slot) const {
        float squares = running_mean(slot[0], rho, g * g);
        if (slot[2]) {
            const float mean = running_mean(slot[2], rho, g);
            squares = fmaxf(squares - mean * mean, 0);
        }
        float change = g / (sqrtf(squares) + epsilon);
        if (slot[1]) *slot[1] = change += momentum * *slot[1];
        w -= s.rate * change;
    }
};

struct adagrad {
    float initial, slower, epsilon;
    explicit adagrad(const fv_update_attributes *a)
        : initial(a->value[FV_INITIAL]), slower(a->value[FV_RATE_DECAY]), epsilon(a->value[FV_EPSILON]) {}
    __device__ void begin(step &s, double number) const {
        s.first = number == 1;
        s.second = (float)(1 / (1 + (number - 1) * slower));
    }
    __device__ void operator()(const step &s, float g, float &w, float *const *slot) const {
        const float sum = *slot[0] = (s.first ? initial : *slot[0]) + g * g;
        w -= s.rate * s.second * g / (sqrtf(sum) + epsilon);
    }
};

struct adadelta {
    float rho, epsilon;
    explicit adadelta(const fv_update_attributes *a) : rho(a->value[FV_RHO]), epsilon(a->value[FV_EPSILON]) {}
    __device__ void begin(step &, double) const {}
    __device__ void operator()(const step &s, float g, float &w, float *const *slot) const {
        const float squares = running_mean(slot[0], rho, g * g);
        const float change = sqrtf((*slot[1] + epsilon) / (squares + epsilon)) * g;
        running_mean(slot[1], rho, change * change);
        w -= s.rate * change;
    }
};

struct lion {
    float beta1, beta2;
    explicit lion(const fv_update_attributes *a) : beta1(a->value[FV_BETA1]), beta2(a->value[FV_BETA2]) {}
    __device__ void begin(step &, double) const {}
    __device__ void operator()(const step &s, float g, float &w, float *const *slot) const {
        const float mean = beta1 * *slot[0] + (1 - beta1) * g;
        running_mean(slot[0], beta2, g);
        w -= s.rate * (mean > 0 ? 1 : mean < 0 ? -1 : mean);
    }
};
} // namespace

/* VECTORS: matrices are somebody else's. */
template <class RULE, bool VECTORS>
__global__ void update_tiles(RULE rule, fv_update_attributes a, operands o, const tile *tiles) {
    const tile t = tiles[blockIdx.x];
    step s = {};
    if ((VECTORS && t.matrix) || !begin_step(o, a, t.offset, s)) return; /* all threads alike */
    rule.begin(s, (double)(o.control->step + 1));
    for (int64_t i = t.offset + threadIdx.x; i < t.offset + t.length; i += blockDim.x) {
        float g = limited(s, o.gradients[i]), w = o.parameters[i];
        if (s.decoupled)
            w -= s.rate * s.decay * w;
        else
            g += s.decay * w;
        float *const slot[3] = { o.slot[0] ? o.slot[0] + i : nullptr, o.slot[1] ? o.slot[1] + i : nullptr,
                                 o.slot[2] ? o.slot[2] + i : nullptr };
        rule(s, g, w, slot);
        o.parameters[i] = w;
    }
}

template <class RULE, bool VECTORS> static int run_update(fv_device *device, const fv_task *task) {
    const tiles *t = static_cast<const tiles *>(task->kept);
    const int status = place_tiles(device, task, SLOT0 + task->output_count - 1, GRADIENTS);
    if (status || !t->count) return status;
    const fv_update_attributes *a = &task->attributes->update;
    LAUNCH((update_tiles<RULE, VECTORS>), (unsigned)t->count, BLOCK, 0, device->stream, RULE(a), *a, operands_of(task),
           t->device);
    return fv_cuda_launched(device, task);
}

static int prepare_update(fv_device *d, fv_task *task) { return prepare_tiles(d, task, SLOT0 + task->output_count - 1); }
#define UPDATE(rule)                                                                                                   \
    static int run_##rule(fv_device *d, const fv_task *task) { return run_update<rule, false>(d, task); }                     \
    extern "C" const fv_kernel KERNEL(rule##_update) = { NULL, prepare_update, run_##rule, release_tiles };
UPDATE(sgd)
UPDATE(adam)
UPDATE(rmsprop)
UPDATE(adagrad)
UPDATE(adadelta)
UPDATE(lion)

/* Muon's vectors: AdamW at a rate of their own. (muon.cu) */
namespace {
struct muon_vector : adam {
    float ratio;
    explicit muon_vector(const fv_update_attributes *a) : adam(a), ratio(a->value[FV_ADAM_RATIO]) {}
    __device__ void begin(step &s, double number) const {
        adam::begin(s, number);
        s.rate *= ratio;
        s.decoupled = true;
    }
};
} // namespace
int fv_cuda_update_vectors(fv_device *device, const fv_task *task) { return run_update<muon_vector, true>(device, task); }

/* ---- Updates that look at a whole weight: LAMB, LARS ------------------------------------------------------------------------- */

/* Three launches: squares of each tile (of w and of the step), a factor for each gradient, the step. */
__device__ __forceinline__ float lamb_step(const fv_update_attributes &a, const step &s, float w, float m, float v) {
    return m * s.first / (sqrtf(v) * s.second + a.value[FV_EPSILON]) + s.decay * w;
}

template <bool LAMB> __device__ __forceinline__ bool begin_trust(const operands &o, const fv_update_attributes &a, const tile &t, step &s) {
    if (!begin_step(o, a, t.offset, s)) return false;
    if (LAMB) {
        const double number = (double)(o.control->step + 1);
        s.first = (float)(1 / (1 - pow((double)a.value[FV_BETA1], number)));
        s.second = (float)(1 / sqrt(1 - pow((double)a.value[FV_BETA2], number)));
    }
    return true;
}

template <bool LAMB>
__global__ void measure_tiles(fv_update_attributes a, operands o, const tile *tiles, double *squares) {
    const tile t = tiles[blockIdx.x];
    step s = {};
    double weights = 0, steps = 0;
    if (begin_trust<LAMB>(o, a, t, s))
        for (int64_t i = t.offset + threadIdx.x; i < t.offset + t.length; i += blockDim.x) {
            const float w = o.parameters[i];
            float r = limited(s, o.gradients[i]);
            if (LAMB) {
                const float m = running_mean(o.slot[0] + i, a.value[FV_BETA1], r);
                r = lamb_step(a, s, w, m, running_mean(o.slot[1] + i, a.value[FV_BETA2], r * r));
            }
            weights += (double)w * w;
            steps += (double)r * r;
        }
    weights = block_sum(weights);
    steps = block_sum(steps);
    if (threadIdx.x == 0) squares[2 * blockIdx.x] = weights, squares[2 * blockIdx.x + 1] = steps;
}

/* One block a gradient; its number among the inputs is first + the block's. */
template <bool LAMB>
__global__ void find_trust(fv_update_attributes a, operands o, const tile *tiles, int64_t count, int first,
                           const double *squares, float *trust) {
    double weights = 0, steps = 0;
    int64_t offset = -1;
    int matrix = 0;
    for (int64_t i = threadIdx.x; i < count; i += blockDim.x)
        if (tiles[i].input == first + (int)blockIdx.x) weights += squares[2 * i], steps += squares[2 * i + 1];
    for (int64_t i = 0; i < count && offset < 0; i++)
        if (tiles[i].input == first + (int)blockIdx.x) offset = tiles[i].offset, matrix = tiles[i].matrix;
    weights = block_sum(weights);
    steps = block_sum(steps);
    step s = {};
    const bool used = offset >= 0 && begin_step(o, a, offset, s);
    if (threadIdx.x) return;
    float q = 1;
    if (used && weights > 0 && steps > 0 && (LAMB || matrix))
        q = (float)(LAMB ? sqrt(weights / steps)
                         : a.value[FV_TRUST] * sqrt(weights) / (sqrt(steps) + s.decay * sqrt(weights) + a.value[FV_EPSILON]));
    trust[blockIdx.x] = q;
}

template <bool LAMB>
__global__ void step_tiles(fv_update_attributes a, operands o, const tile *tiles, int first, const float *trust) {
    const tile t = tiles[blockIdx.x];
    step s = {};
    if (!begin_trust<LAMB>(o, a, t, s)) return;
    const float rate = s.rate * trust[t.input - first];
    for (int64_t i = t.offset + threadIdx.x; i < t.offset + t.length; i += blockDim.x) {
        const float w = o.parameters[i];
        float v = LAMB ? lamb_step(a, s, w, o.slot[0][i], o.slot[1][i]) : limited(s, o.gradients[i]) + s.decay * w;
        v *= rate;
        if (!LAMB && o.slot[0]) o.slot[0][i] = v = a.value[FV_MOMENTUM] * o.slot[0][i] + v;
        o.parameters[i] = w - v;
    }
}

static int prepare_trust(fv_device *device, fv_task *task) {
    const int first = SLOT0 + task->output_count - 1;
    task->scratch_bytes = 2 * sizeof(double) * (size_t)tile_count(task, first) + sizeof(float) * (size_t)task->input_count;
    return prepare_tiles(device, task, first);
}

template <bool LAMB> static int run_trust(fv_device *device, const fv_task *task) {
    const tiles *t = static_cast<const tiles *>(task->kept);
    const int first = SLOT0 + task->output_count - 1;
    const int status = place_tiles(device, task, first, GRADIENTS);
    if (status || !t->count) return status;
    const fv_update_attributes a = task->attributes->update;
    const operands o = operands_of(task);
    double *squares = static_cast<double *>(task->scratch);
    float *trust = reinterpret_cast<float *>(squares + 2 * t->count);
    LAUNCH(measure_tiles<LAMB>, (unsigned)t->count, BLOCK, 0, device->stream, a, o, t->device, squares);
    LAUNCH(find_trust<LAMB>, (unsigned)(task->input_count - first), BLOCK, 0, device->stream, a, o, t->device, t->count,
           first, squares, trust);
    LAUNCH(step_tiles<LAMB>, (unsigned)t->count, BLOCK, 0, device->stream, a, o, t->device, first, trust);
    return fv_cuda_launched(device, task);
}

static int run_lamb(fv_device *d, const fv_task *task) { return run_trust<true>(d, task); }
static int run_lars(fv_device *d, const fv_task *task) { return run_trust<false>(d, task); }
extern "C" const fv_kernel KERNEL(lamb_update) = { NULL, prepare_trust, run_lamb, release_tiles };
extern "C" const fv_kernel KERNEL(lars_update) = { NULL, prepare_trust, run_lars, release_tiles };

/* ---- The search for values that are not finite, and the norm ------------------------------------------------------------------ */

/* The gradients may lie anywhere, so their tiles are relative to address 0. */
__global__ void square_tiles(fv_control *control, double *squares, const tile *tiles, int loss) {
    const tile t = tiles[blockIdx.x];
    const float *values = reinterpret_cast<const float *>(static_cast<uintptr_t>(t.offset) * sizeof(float));
    float sum = 0;
    int bad = 0;
    for (int64_t i = threadIdx.x; i < t.length; i += blockDim.x) {
        const float g = values[i];
        bad |= !isfinite(g);
        sum += g * g;
    }
    if (bad) atomicMax(&control->overflow, (int)blockIdx.x < loss ? 2u : 1u);
    sum = block_reduce(sum, add_floats(), 0);
    if (threadIdx.x == 0) squares[blockIdx.x] = (int)blockIdx.x < loss ? 0 : (double)sum;
}

/* overflow: 1 some gradient, 2 the loss */
__global__ void finish_check(fv_control *control, float *norm, const double *squares, int64_t count) {
    double sum = 0;
    for (int64_t i = threadIdx.x; i < count; i += blockDim.x) sum += squares[i];
    sum = block_sum(sum);
    if (threadIdx.x) return;
    if (norm) norm[0] = (float)(sqrt(sum) * (double)fv_control_unscale(control));
    fv_control_judge(control, control->overflow == 2, control->overflow == 1);
    control->overflow = 0;
}

static int prepare_check_gradients(fv_device *device, fv_task *task) {
    const int status = prepare_tiles(device, task, 1);
    if (!status) task->scratch_bytes = (size_t)tile_count(task, 1) * sizeof(double);
    return status;
}

static int run_check_gradients(fv_device *device, const fv_task *task) {
    const tiles *t = static_cast<const tiles *>(task->kept);
    const int status = place_tiles(device, task, 1, NOWHERE);
    if (status) return status;
    const bool loss = task->input[1].rank >= 0;
    double *squares = static_cast<double *>(task->scratch);
    if (t->count)
        LAUNCH(square_tiles, (unsigned)t->count, BLOCK, 0, device->stream,
               static_cast<fv_control *>(task->output[0].data), squares, t->device, loss ? 1 : 0);
    LAUNCH(finish_check, 1, BLOCK, 0, device->stream, static_cast<fv_control *>(task->output[0].data),
           static_cast<float *>(task->output[1].data), squares, task->output[1].data ? t->count : 0);
    return fv_cuda_launched(device, task);
}
extern "C" const fv_kernel KERNEL(check_gradients) = { NULL, prepare_check_gradients, run_check_gradients,
                                                       release_tiles };

/* ---- The end of a step --------------------------------------------------------------------------------------------------------- */

__global__ void commit_tiles(float *statistics, const float *next, const fv_control *control, const tile *tiles) {
    const tile t = tiles[blockIdx.x];
    if (control->nonfinite) return;
    for (int64_t i = t.offset + threadIdx.x; i < t.offset + t.length; i += blockDim.x) statistics[i] = next[i];
}

static int prepare_commit(fv_device *d, fv_task *task) { return prepare_tiles(d, task, 3); }
static int run_commit(fv_device *device, const fv_task *task) {
    const tiles *t = static_cast<const tiles *>(task->kept);
    const int status = place_tiles(device, task, 3, 2);
    if (status || !t->count) return status;
    LAUNCH(commit_tiles, (unsigned)t->count, BLOCK, 0, device->stream, static_cast<float *>(task->output[0].data),
           static_cast<const float *>(task->input[2].data), static_cast<const fv_control *>(task->input[0].data),
           t->device);
    return fv_cuda_launched(device, task);
}
extern "C" const fv_kernel KERNEL(commit) = { NULL, prepare_commit, run_commit, release_tiles };

__global__ void advance_control(fv_control *control, int batch_only) {
    fv_control_advance(control, batch_only);
}

static int run_advance(fv_device *device, const fv_task *task) {
    LAUNCH(advance_control, 1, 1, 0, device->stream, static_cast<fv_control *>(task->output[0].data),
           task->attributes->advance.batch_only);
    return fv_cuda_launched(device, task);
}
RUN(advance)

__global__ void tell_scale(float *scale, const fv_control *control) { scale[0] = 1 / fv_control_unscale(control); }

static int run_loss_scale(fv_device *device, const fv_task *task) {
    LAUNCH(tell_scale, 1, 1, 0, device->stream, static_cast<float *>(task->output[0].data),
           static_cast<const fv_control *>(task->input[0].data));
    return fv_cuda_launched(device, task);
}
RUN(loss_scale)
