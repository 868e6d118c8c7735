/* sample_norm.c - layer, group, RMS and unit norm. An input is samples x positions x channels; each group of channels of
 * each sample has its own mean and deviation. Two forms: rows (one position, one group: vectors run along the row, which
 * stays in the cache for all passes) and strips of whole groups of channels, whose sums are taken channel by channel and
 * then folded. Statistics are taken in two passes, so a large mean costs no digits. Gradients of gamma and beta are sums
 * over a fixed number of chunks of samples, added in order. */
#include "cpu/cpu.h"
#include "cpu/simd.h"
#include <math.h>

enum { CHUNKS = 32, STRIP = 64, WIDE = 4, SHORT = 16, BLOCK = 8, PARTIALS = 1 << 18 };

typedef struct norm_run {
    const fv_task *task;
    const float *x, *dy, *gamma, *beta, *means, *inverses;
    float *y; /* or dx */
    int64_t samples, positions, channels, groups, width;
    int64_t strip, strips; /* channels worked on at once: whole groups */
    int64_t chunks;
    double *partial; /* [chunk][2][channels]: sums of dy x^ and dy; NULL: not wanted */
    char *arrays;    /* of each thread: see strip_arrays */
    bool centred, unit;
} norm_run;

static const float *floats(const fv_task *task, int input) { return task->input[input].data; }

static norm_run make_run(const fv_task *task) {
    const fv_sample_norm_attributes *a = &task->attributes->sample_norm;
    const fv_tensor *x = &task->input[0];
    const bool grouped = task->op == FV_OP_group_norm || task->op == FV_OP_group_norm_gradient;
    norm_run run = { .task = task, .positions = 1, .groups = 1, .channels = 1, .samples = 1 };
    run.centred = grouped || task->op == FV_OP_layer_norm || task->op == FV_OP_layer_norm_gradient;
    run.unit = task->op == FV_OP_unit_norm || task->op == FV_OP_unit_norm_gradient;
    for (int axis = 0; axis < x->rank; axis++)
        *(axis >= x->rank - a->axes   ? &run.channels
          : !grouped || axis == 0 ? &run.samples
                                  : &run.positions) *= x->dim[axis];
    if (grouped) run.groups = a->groups;
    run.width = run.channels / run.groups;
    run.strip = run.groups == 1 ? run.channels : least(run.channels, run.width * div_up(STRIP, run.width));
    run.strips = div_up(run.channels, run.strip);
    run.chunks = most(1, least(least(CHUNKS, run.samples), PARTIALS / run.channels));
    run.x = x->data;
    run.y = task->output[0].data;
    return run;
}
static bool by_rows(const norm_run *run) { return run->positions == 1 && run->groups == 1; }

/* Sums of a strip's channels, and their factors in the last pass: y = (x - mean) scale + shift, or
 * dx = dy scale - shift - (x - mean) slope. */
typedef struct strip_arrays {
    double *sum[2];
    float *mean, *scale, *shift, *slope;
} strip_arrays;

static size_t arrays_bytes(const norm_run *run) {
    return (2 * sizeof(double) + 4 * sizeof(float)) * (size_t)round_up(run->strip, 16);
}
static strip_arrays arrays_of(const norm_run *run, int thread) {
    int64_t n = round_up(run->strip, 16);
    double *sums = (double *)(void *)(run->arrays + (size_t)thread * arrays_bytes(run));
    float *factors = (float *)(sums + 2 * n);
    return (strip_arrays){ { sums, sums + n }, factors, factors + n, factors + 2 * n, factors + 3 * n };
}
static size_t partial_bytes(const norm_run *run) {
    return run->unit ? 0 : (size_t)round_up((int64_t)sizeof(double) * 2 * run->chunks * run->channels, 64);
}
static int norm_prepare(fv_device *device, fv_task *task) {
    norm_run run = make_run(task);
    task->algorithm = by_rows(&run) ? "rows" : "strips of channels";
    task->scratch_bytes = by_rows(&run) ? 0 : arrays_bytes(&run) * (size_t)device->threads;
    return FV_OK;
}
static int gradient_prepare(fv_device *device, fv_task *task) {
    norm_run run = make_run(task);
    norm_prepare(device, task);
    task->scratch_bytes += partial_bytes(&run);
    return FV_OK;
}

/* ---- Rows -------------------------------------------------------------------------------------------------------- */
typedef enum terms { VALUES, SQUARES, INNER, PRODUCTS } terms;

/* A vector of terms: x, (x - mean)^2, gamma dy, or gamma dy (x - mean). */
INLINE vf term(const terms kind, const float *x, const float *dy, const float *gamma, float mean, int64_t i,
               int64_t left) {
    vf t = kind == INNER ? splat(1.0f) : load_up_to(x + i, left) - mean;
    if (kind == VALUES) return load_up_to(x + i, left);
    if (kind == SQUARES) return left < LANES ? pad_lanes(t * t, left, 0.0f) : t * t;
    vf d = load_up_to(dy + i, left);
    if (gamma) d *= load_up_to(gamma + i, left);
    return kind == INNER ? d : d * t;
}
/* Short runs are added as floats, which costs no digit that the result could hold, and those in double. */
INLINE double row_sum(const terms kind, const float *x, const float *dy, const float *gamma, float mean, int64_t n) {
    vd total = { { 0 }, { 0 } };
    for (int64_t i = 0; i < n;) {
        int64_t stop = least(n, i + SHORT * WIDE * LANES);
        vf s[WIDE] = { { 0 } };
        for (; i + WIDE * LANES <= stop; i += WIDE * LANES) {
            UNROLL(4)
            for (int v = 0; v < WIDE; v++) s[v] += term(kind, x, dy, gamma, mean, i + v * LANES, LANES);
        }
        for (; i < stop; i += LANES) s[0] += term(kind, x, dy, gamma, mean, i, stop - i);
        i = stop;
        total = add_double(total, widen((s[0] + s[1]) + (s[2] + s[3])));
    }
    return sum_lanes_double(total);
}
static double inverse_of(const norm_run *run, double squares, double members) {
    double epsilon = run->task->attributes->sample_norm.epsilon, length = sqrt(squares);
    if (run->unit) return 1 / (length < epsilon ? epsilon : length);
    return 1 / sqrt(squares / members + epsilon);
}
static void keep_statistics(const norm_run *run, int64_t at, double mean, double inverse) {
    const fv_tensor *output = run->task->output;
    if (run->centred && output[1].data) ((float *)output[1].data)[at] = (float)mean;
    if (output[1 + run->centred].data) ((float *)output[1 + run->centred].data)[at] = (float)inverse;
}
static void forward_rows(const void *argument, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const norm_run *run = argument;
    int64_t n = run->channels;
    for (int64_t row = begin; row < end; row++) {
        const float *x = run->x + row * n;
        double mean = run->centred ? row_sum(VALUES, x, NULL, NULL, 0, n) / (double)n : 0;
        float m = (float)mean;
        double inverse = inverse_of(run, row_sum(SQUARES, x, NULL, NULL, m, n), (double)n);
        float scale = (float)inverse;
        keep_statistics(run, row, mean, inverse);
        for (int64_t i = 0; run->y && i < n; i += LANES) {
            vf y = (load_up_to(x + i, n - i) - m) * scale;
            if (run->gamma) y *= load_up_to(run->gamma + i, n - i);
            if (run->beta) y += load_up_to(run->beta + i, n - i);
            store_up_to(run->y + row * n + i, y, n - i);
        }
    }
}

/* Of dx: the mean of dx^ and the mean of dx^ x^ (their form for each operation), times 1 / deviation. */
static void pulls(const norm_run *run, double inner, double product, double inverse, float *level, float *slope) {
    double members = run->unit ? 1 : (double)(run->positions * run->width);
    bool clamped = run->unit && (float)inverse >= (float)(1 / (double)run->task->attributes->sample_norm.epsilon);
    *level = run->centred ? (float)(inner / members * inverse) : 0;
    *slope = clamped ? 0 : (float)(product * inverse / members * inverse * inverse);
}
static void gradient_row(const norm_run *run, int64_t row, float mean, float inverse) {
    int64_t n = run->channels;
    const float *x = run->x + row * n, *dy = run->dy + row * n;
    float level, slope, *dx = run->y + row * n;
    double inner = run->centred ? row_sum(INNER, x, dy, run->gamma, mean, n) : 0;
    pulls(run, inner, row_sum(PRODUCTS, x, dy, run->gamma, mean, n), inverse, &level, &slope);
    for (int64_t i = 0; i < n; i += LANES) {
        vf d = load_up_to(dy + i, n - i) * inverse;
        if (run->gamma) d *= load_up_to(run->gamma + i, n - i);
        store_up_to(dx + i, d - level - (load_up_to(x + i, n - i) - mean) * slope, n - i);
    }
}
INLINE void add_up_to(double *sum, vf x, int64_t n) {
    double wide[LANES];
    if (n >= LANES) {
        store_double(sum, add_double(load_double(sum), widen(x)));
        return;
    }
    store_double(wide, widen(x));
    for (int64_t l = 0; l < n; l++) sum[l] += wide[l];
}
/* Adds dy x^ and dy of up to BLOCK rows to the sums of their chunk. */
static void add_rows(const norm_run *run, int64_t first, int64_t last, double *partial) {
    int64_t n = run->channels;
    for (int64_t i = 0; i < n; i += LANES) {
        vf s[2] = { { 0 }, { 0 } };
        for (int64_t row = first; row < last; row++) {
            vf d = load_up_to(run->dy + row * n + i, n - i);
            float mean = run->means ? run->means[row] : 0;
            s[0] += d * ((load_up_to(run->x + row * n + i, n - i) - mean) * run->inverses[row]);
            s[1] += d;
        }
        for (int k = 0; k < 2; k++) add_up_to(partial + k * n + i, s[k], n - i);
    }
}
static void gradient_rows(const void *argument, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const norm_run *run = argument;
    for (int64_t chunk = begin; chunk < end; chunk++) {
        int64_t first = run->samples * chunk / run->chunks, last = run->samples * (chunk + 1) / run->chunks;
        double *partial = run->partial ? run->partial + chunk * 2 * run->channels : NULL;
        if (partial) memset(partial, 0, sizeof(double) * 2 * (size_t)run->channels);
        for (int64_t row = first; row < last; row += BLOCK) {
            int64_t stop = least(last, row + BLOCK);
            for (int64_t r = row; run->y && r < stop; r++)
                gradient_row(run, r, run->means ? run->means[r] : 0, run->inverses[r]);
            if (partial) add_rows(run, row, stop, partial);
        }
    }
}

/* ---- Strips of channels ------------------------------------------------------------------------------------------ */
/* Sums over the positions of a sample, for so many vectors of channels: of x, of (x - mean)^2, or of dy and
 * dy (x - mean). x and dy point to the first position, c counts from the strip's first channel. */
INLINE void sum_columns(const norm_run *run, const terms kind, const float *x, const float *dy, int64_t c, int64_t left,
                        const int vectors, const strip_arrays *a) {
    vd total[2][WIDE];
    vf mean[WIDE];
    for (int v = 0; v < vectors; v++) {
        total[0][v] = total[1][v] = (vd){ { 0 }, { 0 } };
        mean[v] = kind == VALUES ? (vf){ 0 } : load(a->mean + c + v * LANES);
    }
    for (int64_t p = 0; p < run->positions;) {
        int64_t stop = least(run->positions, p + SHORT);
        vf s[WIDE], t[WIDE];
        for (int v = 0; v < vectors; v++) s[v] = t[v] = (vf){ 0 };
        for (; p < stop; p++) {
            UNROLL(4)
            for (int v = 0; v < vectors; v++) {
                int64_t at = p * run->channels + c + v * LANES;
                vf z = (vectors > 1 ? load(x + at) : load_up_to(x + at, left)) - mean[v];
                vf d = kind != PRODUCTS ? z : vectors > 1 ? load(dy + at) : load_up_to(dy + at, left);
                s[v] += d;
                if (kind != VALUES) t[v] += d * z;
            }
        }
        for (int v = 0; v < vectors; v++) {
            total[0][v] = add_double(total[0][v], widen(s[v]));
            total[1][v] = add_double(total[1][v], widen(t[v]));
        }
    }
    for (int k = 0; k < 2; k++)
        for (int v = 0; v < vectors; v++) store_double(a->sum[k] + c + v * LANES, total[k][v]);
}
INLINE void sum_strip(const norm_run *run, const terms kind, const float *x, const float *dy, int64_t n,
                      const strip_arrays *a) {
    int64_t c = 0;
    for (; c + WIDE * LANES <= n; c += WIDE * LANES) sum_columns(run, kind, x, dy, c, n - c, WIDE, a);
    for (; c < n; c += LANES) sum_columns(run, kind, x, dy, c, n - c, 1, a);
}
static double fold(const double *sum, int64_t first, int64_t width) {
    double total = 0;
    for (int64_t c = first; c < first + width; c++) total += sum[c];
    return total;
}

static void forward_strips(const void *argument, int64_t begin, int64_t end, int thread) {
    const norm_run *run = argument;
    const strip_arrays a = arrays_of(run, thread);
    const double members = (double)(run->positions * run->width);
    for (int64_t unit = begin; unit < end; unit++) {
        int64_t sample = unit / run->strips, c0 = unit % run->strips * run->strip;
        int64_t n = least(run->strip, run->channels - c0), at = sample * run->positions * run->channels + c0;
        sum_strip(run, VALUES, run->x + at, NULL, n, &a);
        for (int64_t g = 0; g < n; g += run->width) {
            double mean = fold(a.sum[0], g, run->width) / members;
            for (int64_t c = g; c < g + run->width; c++) a.mean[c] = (float)mean;
        }
        sum_strip(run, SQUARES, run->x + at, NULL, n, &a);
        for (int64_t g = 0; g < n; g += run->width) {
            double inverse = inverse_of(run, fold(a.sum[1], g, run->width), members);
            keep_statistics(run, sample * run->groups + (c0 + g) / run->width, (double)a.mean[g], inverse);
            for (int64_t c = g; c < g + run->width; c++) {
                a.scale[c] = (float)(inverse * (run->gamma ? run->gamma[c0 + c] : 1));
                a.shift[c] = run->beta ? run->beta[c0 + c] : 0;
            }
        }
        for (int64_t p = 0; run->y && p < run->positions; p++, at += run->channels)
            for (int64_t c = 0; c < n; c += LANES)
                store_up_to(run->y + at + c,
                            (load_up_to(run->x + at + c, n - c) - load(a.mean + c)) * load(a.scale + c) +
                                load(a.shift + c),
                            n - c);
    }
}

static void gradient_strip(const norm_run *run, int64_t sample, int64_t c0, double *partial, const strip_arrays *a) {
    int64_t n = least(run->strip, run->channels - c0), at = sample * run->positions * run->channels + c0;
    const float *mean = run->means + sample * run->groups + c0 / run->width,
                *inverse = run->inverses + sample * run->groups + c0 / run->width;
    for (int64_t c = 0; c < n; c++) a->mean[c] = mean[c / run->width];
    sum_strip(run, PRODUCTS, run->x + at, run->dy + at, n, a);
    for (int64_t g = 0, i = 0; g < n; g += run->width, i++) {
        double inner = 0, product = 0;
        float level, slope;
        for (int64_t c = g; c < g + run->width; c++) {
            double gamma = run->gamma ? run->gamma[c0 + c] : 1;
            inner += gamma * a->sum[0][c];
            product += gamma * a->sum[1][c];
            partial[c0 + c] += a->sum[1][c] * inverse[i];
            partial[run->channels + c0 + c] += a->sum[0][c];
        }
        pulls(run, inner, product, inverse[i], &level, &slope);
        for (int64_t c = g; c < g + run->width; c++) {
            a->scale[c] = inverse[i] * (run->gamma ? run->gamma[c0 + c] : 1);
            a->shift[c] = level;
            a->slope[c] = slope;
        }
    }
    for (int64_t p = 0; run->y && p < run->positions; p++, at += run->channels)
        for (int64_t c = 0; c < n; c += LANES) {
            vf t = load_up_to(run->x + at + c, n - c) - load(a->mean + c);
            vf d = load_up_to(run->dy + at + c, n - c) * load(a->scale + c);
            store_up_to(run->y + at + c, d - load(a->shift + c) - t * load(a->slope + c), n - c);
        }
}
static void gradient_strips(const void *argument, int64_t begin, int64_t end, int thread) {
    const norm_run *run = argument;
    const strip_arrays a = arrays_of(run, thread);
    for (int64_t unit = begin; unit < end; unit++) {
        int64_t chunk = unit / run->strips, c0 = unit % run->strips * run->strip;
        double *partial = run->partial + chunk * 2 * run->channels;
        size_t bytes = sizeof(double) * (size_t)least(run->strip, run->channels - c0);
        memset(partial + c0, 0, bytes);
        memset(partial + run->channels + c0, 0, bytes);
        for (int64_t s = run->samples * chunk / run->chunks; s < run->samples * (chunk + 1) / run->chunks; s++)
            gradient_strip(run, s, c0, partial, &a);
    }
}

/* ---- Both -------------------------------------------------------------------------------------------------------- */
/* Units of so many elements each: fewest of them that are worth a piece of their own. */
static int64_t grain(const norm_run *run, int64_t units) {
    return 16384 * units / (run->samples * run->positions * run->channels + 1) + 1;
}
static int forward_run(fv_device *device, const fv_task *task) {
    norm_run run = make_run(task);
    run.arrays = task->scratch;
    if (!run.unit) run.gamma = floats(task, 1);
    if (run.centred) run.beta = floats(task, 2);
    int64_t units = run.samples * run.strips;
    fv_parallel(device, units, grain(&run, units), by_rows(&run) ? forward_rows : forward_strips, &run);
    return FV_OK;
}
static int gradient_run(fv_device *device, const fv_task *task) {
    norm_run run = make_run(task);
    bool wanted = !by_rows(&run);
    for (int o = 1; o < task->output_count; o++) wanted |= task->output[o].data != NULL;
    run.partial = wanted ? task->scratch : NULL;
    run.arrays = (char *)task->scratch + partial_bytes(&run);
    run.dy = floats(task, 1);
    if (!run.unit) run.gamma = floats(task, 2);
    if (run.centred) run.means = floats(task, 3);
    run.inverses = floats(task, task->input_count - 1);
    int64_t units = run.chunks * run.strips;
    fv_parallel(device, units, grain(&run, units), by_rows(&run) ? gradient_rows : gradient_strips, &run);
    for (int64_t chunk = 1; wanted && chunk < run.chunks; chunk++)
        for (int64_t c = 0; c < 2 * run.channels; c++) run.partial[c] += run.partial[chunk * 2 * run.channels + c];
    for (int o = 1; o < task->output_count; o++)
        for (int64_t c = 0; task->output[o].data && c < run.channels; c++)
            ((float *)task->output[o].data)[c] = (float)run.partial[(o - 1) * run.channels + c];
    return FV_OK;
}

#define NORM(name)                                                                                                     \
    const fv_cpu_kernel KERNEL(name) = { { .prepare = norm_prepare, .run = forward_run }, NULL };                      \
    const fv_cpu_kernel KERNEL(name##_gradient) = { { .prepare = gradient_prepare, .run = gradient_run }, NULL };
NORM(layer_norm)
NORM(group_norm)
NORM(rms_norm)
NORM(unit_norm)
