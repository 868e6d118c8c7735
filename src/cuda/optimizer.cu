/* optimizer.cu - one step of the optimiser over all parameters of a store in one launch, and what surrounds it. The gradients are ranges of
 * the gradient region; a table of tiles on the device says where they lie, a block takes a tile. What changes from step to step is
 * read from the control block. Formulas as in src/cpu/reference/optimizer.c; while the sticky flag is set nothing is written. */
#include "cuda/device.h"
#include <string.h>

enum { TILE = 4 * BLOCK };

/* ---- Tiles ----------------------------------------------------------------------------------------------------------------- */

namespace {
struct tile {
    int64_t offset, length;
};
/* The inputs first .. of a task that lie in the region input, cut into tiles. */
struct tiles {
    int64_t count;
    tile *host, *device;
    bool placed;
    const void **seen; /* addresses for which the table on the device holds */
};
} // namespace

static int64_t tile_count(const fv_task *task, int first) {
    int64_t count = 0;
    for (int i = first; i < task->input_count; i++)
        if (task->input[i].rank >= 0) count += (fv_elements(&task->input[i]) + TILE - 1) / TILE;
    return count;
}

static int prepare_tiles(fv_device *device, fv_task *task, int first) {
    const int64_t count = tile_count(task, first);
    const size_t bytes =
        sizeof(tiles) + (size_t)count * sizeof(tile) + (size_t)(task->input_count + 1) * sizeof(void *);
    tiles *t = static_cast<tiles *>(device->host.alloc(device->host.context, bytes, "the tiles of an update"));
    if (!t) return FV_ERROR_MEMORY;
    task->kept = t;
    t->count = count;
    t->host = reinterpret_cast<tile *>(t + 1);
    t->seen = reinterpret_cast<const void **>(t->host + count);
    if (count) CUDA_TRY(device, cudaMalloc(&t->device, (size_t)count * sizeof(tile)));
    return FV_OK;
}

enum { NOWHERE = -1 }; /* instead of a region: offsets count from address 0 */

/* Addresses are the same in every run of a program, so this copies once, before any capture. */
static int place_tiles(fv_device *device, const fv_task *task, int first, int region) {
    tiles *t = static_cast<tiles *>(task->kept);
    const float *base = region == NOWHERE ? nullptr : static_cast<const float *>(task->input[region].data);
    bool same = t->placed && t->seen[0] == base;
    for (int i = first; i < task->input_count; i++) same = same && t->seen[1 + i - first] == task->input[i].data;
    if (same || !t->count) return FV_OK;
    int64_t next = 0;
    t->seen[0] = base;
    for (int i = first; i < task->input_count; i++) {
        const fv_tensor *g = &task->input[i];
        t->seen[1 + i - first] = g->data;
        if (g->rank < 0) continue;
        const int64_t begin = (int64_t)((uintptr_t)g->data - (uintptr_t)base) / (int64_t)sizeof(float);
        const int64_t length = fv_elements(g);
        for (int64_t at = 0; at < length; at += TILE)
            t->host[next++] = { begin + at, length - at < TILE ? length - at : (int64_t)TILE };
    }
    CUDA_TRY(device, cudaMemcpyAsync(t->device, t->host, (size_t)t->count * sizeof(tile), cudaMemcpyHostToDevice,
                                     device->stream));
    t->placed = true;
    return FV_OK;
}

static void release_tiles(fv_device *device, fv_task *task) {
    tiles *t = static_cast<tiles *>(task->kept);
    if (!t) return;
    if (t->device) cudaFree(t->device);
    device->host.free(t);
    task->kept = NULL;
}

/* ---- Updates --------------------------------------------------------------------------------------------------------------- */

namespace {
enum { CONTROL, RATES, SEGMENTS, NORM, GRADIENTS, PARAMETERS, SLOT0 };

struct operands {
    const fv_control *control;
    const float *rates, *norm, *gradients;
    const fv_segment *segments;
    float *parameters, *slot[3];
    int64_t rate_count;
    int segment_count;
};

/* What a step does in one segment; numbers that all elements share. */
struct step {
    float rate, decay, scale, limit;
    float first, second; /* of the rule: corrections of Adam's means */
    bool decoupled;
};

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

__device__ __forceinline__ float running_mean(float *slot, float kept, float x) {
    return *slot = kept * *slot + (1 - kept) * x;
}

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

template <class RULE> __global__ void update_tiles(RULE rule, fv_update_attributes a, operands o, const tile *tiles) {
    SHARED(int, found, [1]);
    SHARED(step, shared, [1]);
    const tile t = tiles[blockIdx.x];
    if (o.control->nonfinite) return; /* all threads alike */
    if (threadIdx.x == 0) found[0] = -1;
    __syncthreads();
    for (int i = threadIdx.x; i < o.segment_count; i += blockDim.x)
        if (t.offset >= o.segments[i].offset && t.offset < o.segments[i].offset + o.segments[i].length) found[0] = i;
    __syncthreads();
    if (found[0] < 0 || o.segments[found[0]].frozen) return;
    if (threadIdx.x == 0) {
        const fv_segment segment = o.segments[found[0]];
        step s = {};
        s.rate = (o.rates ? o.rates[o.control->batch % o.rate_count] : a.value[FV_RATE]) * segment.rate;
        s.decay = a.value[FV_DECAY] * segment.decay;
        s.limit = a.clip_value;
        s.scale = a.clip_norm > 0 && o.norm && o.norm[0] > a.clip_norm ? a.clip_norm / o.norm[0] : 1;
        s.decoupled = a.kind == FV_OPTIMIZER_ADAMW || a.value[FV_DECOUPLED] != 0;
        rule.begin(s, (double)(o.control->step + 1));
        shared[0] = s;
    }
    __syncthreads();
    const step s = shared[0];
    for (int64_t i = t.offset + threadIdx.x; i < t.offset + t.length; i += blockDim.x) {
        float g = o.gradients[i], w = o.parameters[i];
        if (s.limit > 0) g = g > s.limit ? s.limit : g < -s.limit ? -s.limit : g;
        g *= s.scale;
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

template <class RULE> static int run_update(fv_device *device, const fv_task *task) {
    const int slots = task->output_count - 1;
    const fv_tensor *in = task->input, *out = task->output;
    const tiles *t = static_cast<const tiles *>(task->kept);
    const int status = place_tiles(device, task, SLOT0 + slots, GRADIENTS);
    if (status || !t->count) return status;
    operands o = {};
    o.control = static_cast<const fv_control *>(in[CONTROL].data);
    o.rates = static_cast<const float *>(in[RATES].data);
    o.rate_count = o.rates ? fv_elements(&in[RATES]) : 1;
    o.segments = static_cast<const fv_segment *>(in[SEGMENTS].data);
    o.segment_count = (int)(fv_elements(&in[SEGMENTS]) / (int64_t)sizeof(fv_segment));
    o.norm = static_cast<const float *>(in[NORM].data);
    o.gradients = static_cast<const float *>(in[GRADIENTS].data);
    o.parameters = static_cast<float *>(out[0].data);
    for (int s = 0; s < slots; s++) o.slot[s] = static_cast<float *>(out[1 + s].data);
    const fv_update_attributes *a = &task->attributes->update;
    LAUNCH(update_tiles<RULE>, (unsigned)t->count, BLOCK, 0, device->stream, RULE(a), *a, o, t->device);
    return fv_cuda_launched(device, task);
}

static int prepare_update(fv_device *d, fv_task *task) { return prepare_tiles(d, task, SLOT0 + task->output_count - 1); }
#define UPDATE(rule)                                                                                                   \
    static int run_##rule(fv_device *d, const fv_task *task) { return run_update<rule>(d, task); }                     \
    extern "C" const fv_kernel KERNEL(rule##_update) = { NULL, prepare_update, run_##rule, release_tiles };
UPDATE(sgd)
UPDATE(adam)
UPDATE(rmsprop)
UPDATE(adagrad)
UPDATE(adadelta)
UPDATE(lion)

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
    if (bad) atomicMax(&control->nonfinite, 1u);
    sum = block_reduce(sum, add_floats(), 0);
    if (threadIdx.x == 0) squares[blockIdx.x] = (int)blockIdx.x < loss ? 0 : (double)sum;
}

__global__ void finish_norm(float *norm, const double *squares, int64_t count) {
    SHARED(double, part, [BLOCK]);
    double sum = 0;
    for (int64_t i = threadIdx.x; i < count; i += blockDim.x) sum += squares[i];
    part[threadIdx.x] = sum;
    __syncthreads();
    for (int half = BLOCK / 2; half; half /= 2) {
        if ((int)threadIdx.x < half) part[threadIdx.x] += part[threadIdx.x + half];
        __syncthreads();
    }
    if (threadIdx.x == 0) norm[0] = (float)sqrt(part[0]);
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
    if (task->output[1].data)
        LAUNCH(finish_norm, 1, BLOCK, 0, device->stream, static_cast<float *>(task->output[1].data), squares, t->count);
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
    if (control->nonfinite) return;
    control->batch++;
    if (!batch_only) control->step++;
}

static int run_advance(fv_device *device, const fv_task *task) {
    LAUNCH(advance_control, 1, 1, 0, device->stream, static_cast<fv_control *>(task->output[0].data),
           task->attributes->advance.batch_only);
    return fv_cuda_launched(device, task);
}
RUN(advance)
