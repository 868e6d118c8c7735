/* update.h - what the updates of weights share: the tiles that a launch takes, what a step reads, the segment of an offset. The
 * gradients are ranges of the gradient region; a table of tiles on the device says where they lie. */
#ifndef FV_CUDA_UPDATE_H
#define FV_CUDA_UPDATE_H
#include "cuda/device.h"
#include <string.h>

enum { TILE = 4 * BLOCK };

/* ---- Tiles ----------------------------------------------------------------------------------------------------------------- */

namespace {
struct tile {
    int64_t offset, length;
    int32_t input, matrix; /* of the task: which gradient, and is it more than a vector? */
};
/* The inputs first .. of a task that lie in the region input, cut into tiles. */
struct tiles {
    int64_t count;
    tile *host, *device;
    bool placed;
    const void **seen; /* addresses for which the table on the device holds */
};
} // namespace

static inline int64_t tile_count(const fv_task *task, int first) {
    int64_t count = 0;
    for (int i = first; i < task->input_count; i++)
        if (task->input[i].rank >= 0) count += (fv_elements(&task->input[i]) + TILE - 1) / TILE;
    return count;
}

static inline int prepare_tiles(fv_device *device, fv_task *task, int first) {
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
static inline int place_tiles(fv_device *device, const fv_task *task, int first, int region) {
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
            t->host[next++] = { begin + at, length - at < TILE ? length - at : (int64_t)TILE, i, g->rank > 1 };
    }
    CUDA_TRY(device, cudaMemcpyAsync(t->device, t->host, (size_t)t->count * sizeof(tile), cudaMemcpyHostToDevice,
                                     device->stream));
    t->placed = true;
    return FV_OK;
}

static inline void release_tiles(fv_device *device, fv_task *task) {
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
} // namespace

/* What all threads of a block know of the segment that holds an offset; false: nothing is to be written there. */
static __device__ __forceinline__ bool begin_step(const operands &o, const fv_update_attributes &a, int64_t offset, step &s) {
    SHARED(int, found, [1]);
    if (o.control->nonfinite) return false; /* all threads alike */
    if (threadIdx.x == 0) found[0] = -1;
    __syncthreads();
    for (int i = threadIdx.x; i < o.segment_count; i += blockDim.x)
        if (offset >= o.segments[i].offset && offset < o.segments[i].offset + o.segments[i].length) found[0] = i;
    __syncthreads();
    if (found[0] < 0 || o.segments[found[0]].frozen) return false;
    const fv_segment segment = o.segments[found[0]];
    s.rate = (o.rates ? o.rates[o.control->batch % o.rate_count] : a.value[FV_RATE]) * segment.rate;
    s.decay = a.value[FV_DECAY] * segment.decay;
    const float unscale = fv_control_unscale(o.control);
    s.limit = a.clip_value / unscale;
    s.scale = (a.clip_norm > 0 && o.norm && o.norm[0] > a.clip_norm ? a.clip_norm / o.norm[0] : 1) * unscale;
    s.decoupled = a.kind == FV_OPTIMIZER_ADAMW || a.value[FV_DECOUPLED] != 0;
    return true;
}

static __device__ __forceinline__ float limited(const step &s, float g) {
    if (s.limit > 0) g = g > s.limit ? s.limit : g < -s.limit ? -s.limit : g;
    return g * s.scale;
}

static __device__ __forceinline__ float running_mean(float *slot, float kept, float x) {
    return *slot = kept * *slot + (1 - kept) * x;
}

/* The sum of all threads' values, in double and in a fixed order; every thread gets it. */
static __device__ __forceinline__ double block_sum(double value) {
    SHARED(double, part, [BLOCK]);
    part[threadIdx.x] = value;
    __syncthreads();
    for (int half = BLOCK / 2; half; half /= 2) {
        if ((int)threadIdx.x < half) part[threadIdx.x] += part[threadIdx.x + half];
        __syncthreads();
    }
    const double sum = part[0];
    __syncthreads();
    return sum;
}

static inline operands operands_of(const fv_task *task) {
    const fv_tensor *in = task->input, *out = task->output;
    operands o = {};
    o.control = static_cast<const fv_control *>(in[CONTROL].data);
    o.rates = static_cast<const float *>(in[RATES].data);
    o.rate_count = o.rates ? fv_elements(&in[RATES]) : 1;
    o.segments = static_cast<const fv_segment *>(in[SEGMENTS].data);
    o.segment_count = (int)(fv_elements(&in[SEGMENTS]) / (int64_t)sizeof(fv_segment));
    o.norm = static_cast<const float *>(in[NORM].data);
    o.gradients = static_cast<const float *>(in[GRADIENTS].data);
    o.parameters = static_cast<float *>(out[0].data);
    for (int s = 0; s + 1 < task->output_count; s++) o.slot[s] = static_cast<float *>(out[1 + s].data);
    return o;
}
#endif
