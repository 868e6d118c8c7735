/* reduction.c - sums, means and maxima. A reduction over neighbouring axes is outer x reduced x inner; vectors run
 * along inner, or along the reduced axis when that is the last. Where there are few results the reduced axis is cut
 * into a fixed number of chunks, which depends on shapes alone, and the chunks' results are combined in order. Other
 * sets of axes are walked index by index. */
#include "cpu/cpu.h"
#include "cpu/simd.h"
#include <math.h>

enum { CHUNKS = 32, FEW = 64, WIDE = 4 /* vectors side by side */, SHORT = 16 /* terms added as floats */ };

typedef enum kind { SUM, SQUARES, MAGNITUDES, MAXIMUM } reduce_kind;

typedef struct reduce_run {
    const fv_task *task;
    reduce_kind kind;
    int64_t outer, reduced, inner, strips; /* strips: of WIDE vectors along inner, or 1 */
    int64_t chunks;
    double *partial; /* [chunk][outer * inner] */
    double scale;
    uint32_t axes; /* when walked index by index */
} reduce_run;

static uint32_t axes_of(const fv_task *task) {
    bool all = task->op == FV_OP_sum_squares || task->op == FV_OP_sum_abs;
    return all ? ~0u : task->attributes->reduce.axes;
}
/* False when the axes are not neighbours. Axes of size 1 belong to either side. */
static bool as_block(const fv_tensor *x, uint32_t axes, int64_t *outer, int64_t *reduced, int64_t *inner) {
    *outer = *reduced = *inner = 1;
    int state = 0;
    for (int axis = 0; axis < x->rank; axis++) {
        if (x->dim[axis] == 1) continue;
        bool in = axes >> axis & 1;
        if (in && state == 2) return false;
        state = in ? 1 : state ? 2 : 0;
        *(state == 0 ? outer : state == 1 ? reduced : inner) *= x->dim[axis];
    }
    return true;
}

static reduce_run make_run(const fv_task *task) {
    const fv_tensor *x = &task->input[0];
    reduce_run run = { .task = task, .axes = axes_of(task), .scale = 1, .chunks = 1, .partial = task->scratch };
    run.kind = task->op == FV_OP_sum_squares ? SQUARES
               : task->op == FV_OP_sum_abs   ? MAGNITUDES
               : task->op == FV_OP_max       ? MAXIMUM
                                             : SUM;
    if (task->op == FV_OP_mean) {
        int64_t count = 1;
        for (int i = 0; i < x->rank; i++)
            if (run.axes >> i & 1) count *= x->dim[i];
        run.scale = 1.0 / (double)count;
    }
    if (!as_block(x, run.axes, &run.outer, &run.reduced, &run.inner)) {
        run.outer = 0;
        return run;
    }
    run.strips = div_up(run.inner, WIDE * LANES);
    if (run.outer * div_up(run.inner, 16) < FEW && run.reduced > CHUNKS && run.outer * run.inner * run.reduced > 8192)
        run.chunks = CHUNKS;
    return run;
}
static int reduce_prepare(fv_device *device, fv_task *task) {
    (void)device;
    reduce_run run = make_run(task);
    if (run.outer && run.chunks > 1)
        task->scratch_bytes = sizeof(double) * (size_t)(run.chunks * run.outer * run.inner);
    return FV_OK;
}

/* ---- Blocks ------------------------------------------------------------------------------------------------------ */
INLINE vf larger(vf best, vf x) { return choose((x > best) | (x != x), x, best); }
INLINE vd add_term(vd sum, vf x, const reduce_kind kind) {
    if (kind == SQUARES) return add_double(sum, multiply_double(widen(x), widen(x)));
    return add_double(sum, widen(kind == MAGNITUDES ? absolute(x) : x));
}

/* One line along the reduced axis, elements first .. last-1. */
INLINE double reduce_line(const float *x, int64_t first, int64_t last, const reduce_kind kind) {
    vd sum = { { 0 }, { 0 } };
    vf best = splat(-__builtin_inff());
    for (int64_t i = first; i < last; i += LANES) {
        vf v = load_up_to(x + i, last - i);
        if (kind != MAXIMUM) {
            sum = add_term(sum, v, kind);
            continue;
        }
        best = larger(best, pad_lanes(v, last - i, -__builtin_inff()));
    }
    return kind == MAXIMUM ? largest_lane(best) : sum_lanes_double(sum);
}
/* Neighbouring lines, `step` floats from element to element, in so many vectors; left: lines that are wanted. Short
 * runs are added as floats, which costs no digit that the result could hold, and those in double. */
INLINE void reduce_lines(const float *x, int64_t step, int64_t first, int64_t last, int64_t left, const int vectors,
                         const reduce_kind kind, double *out) {
    vd sum[WIDE];
    vf best[WIDE];
    for (int v = 0; v < vectors; v++) sum[v] = (vd){ { 0 }, { 0 } }, best[v] = splat(-__builtin_inff());
    for (int64_t i = first; i < last;) {
        int64_t stop = least(last, i + SHORT);
        vf some[WIDE];
        for (int v = 0; v < vectors; v++) some[v] = (vf){ 0 };
        for (; i < stop; i++) {
            UNROLL(4)
            for (int v = 0; v < vectors; v++) {
                vf value = vectors > 1 ? load(x + i * step + v * LANES) : load_up_to(x + i * step, left);
                if (kind == MAXIMUM)
                    best[v] = larger(best[v], value);
                else
                    some[v] += kind == SQUARES ? value * value : kind == MAGNITUDES ? absolute(value) : value;
            }
        }
        for (int v = 0; v < vectors; v++) sum[v] = add_double(sum[v], widen(some[v]));
    }
    for (int v = 0; v < vectors; v++) {
        if (kind == MAXIMUM) sum[v] = widen(best[v]);
        double lane[LANES];
        store_double(lane, sum[v]);
        for (int64_t i = 0; i < least(left, LANES); i++) out[v * LANES + i] = lane[i];
    }
}
/* Fewer lines than lanes, lying as close as they can: the vectors run over all of them, and what a lane belongs to
 * repeats after `period` vectors. */
INLINE void reduce_narrow(const float *x, int64_t first, int64_t last, int64_t lines, const reduce_kind kind,
                          double *out) {
    int64_t period = lines, common = LANES, count = (last - first) * lines;
    for (int64_t r; (r = period % common) != 0; common = r) period = common;
    period = lines / common;
    double sum[LANES * LANES];
    for (int64_t i = 0; i < period * LANES; i++) sum[i] = 0;
    x += first * lines;
    for (int64_t i = 0; i < count; i += SHORT * period * LANES)
        for (int64_t phase = 0; phase < period; phase++) {
            vf some = { 0 };
            for (int64_t j = i + phase * LANES; j < least(count, i + SHORT * period * LANES); j += period * LANES) {
                vf value = load_up_to(x + j, count - j);
                some += kind == SQUARES ? value * value : kind == MAGNITUDES ? absolute(value) : value;
            }
            store_double(sum + phase * LANES, add_double(load_double(sum + phase * LANES), widen(some)));
        }
    for (int64_t line = 0; line < lines; line++) {
        out[line] = 0;
        for (int64_t i = line; i < period * LANES; i += lines) out[line] += sum[i];
    }
}

INLINE void reduce_unit(const reduce_run *run, int64_t unit, const reduce_kind kind) {
    int64_t chunk = unit % run->chunks, strip = unit / run->chunks % run->strips, o = unit / run->chunks / run->strips;
    int64_t first = run->reduced * chunk / run->chunks, last = run->reduced * (chunk + 1) / run->chunks,
            column = strip * WIDE * LANES;
    const float *x = (const float *)run->task->input[0].data + o * run->reduced * run->inner + column;
    int64_t lines = least(WIDE * LANES, run->inner - column), at = o * run->inner + column;
    double result[WIDE * LANES];
    if (run->inner == 1)
        result[0] = reduce_line(x, first, last, kind);
    else if (run->inner < LANES && kind != MAXIMUM)
        reduce_narrow(x, first, last, run->inner, kind, result);
    else if (lines == WIDE * LANES)
        reduce_lines(x, run->inner, first, last, lines, WIDE, kind, result);
    else
        for (int64_t i = 0; i < lines; i += LANES)
            reduce_lines(x + i, run->inner, first, last, lines - i, 1, kind, result + i);
    for (int64_t i = 0; i < lines; i++) {
        if (run->chunks > 1)
            run->partial[chunk * run->outer * run->inner + at + i] = result[i];
        else
            ((float *)run->task->output[0].data)[at + i] = (float)(result[i] * run->scale);
    }
}
static void reduce_units(const void *argument, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const reduce_run *run = argument;
    for (int64_t unit = begin; unit < end; unit++) switch (run->kind) {
        case SUM: reduce_unit(run, unit, SUM); break;
        case SQUARES: reduce_unit(run, unit, SQUARES); break;
        case MAGNITUDES: reduce_unit(run, unit, MAGNITUDES); break;
        case MAXIMUM: reduce_unit(run, unit, MAXIMUM); break;
        }
}
static void combine_chunks(const reduce_run *run) {
    int64_t n = run->outer * run->inner;
    for (int64_t i = 0; i < n; i++) {
        double result = run->partial[i];
        for (int64_t chunk = 1; chunk < run->chunks; chunk++) {
            double next = run->partial[chunk * n + i];
            if (run->kind != MAXIMUM)
                result += next;
            else if (next > result || next != next)
                result = next;
        }
        ((float *)run->task->output[0].data)[i] = (float)(result * run->scale);
    }
}

/* ---- Any set of axes: result o is made of the elements at offset(kept, o) + offset(reduced, r) ------------------- */
static int64_t count_along(const fv_tensor *x, uint32_t axes) {
    int64_t count = 1;
    for (int axis = 0; axis < x->rank; axis++)
        if (axes >> axis & 1) count *= x->dim[axis];
    return count;
}
static int64_t offset_along(const fv_tensor *x, uint32_t axes, int64_t i) {
    int64_t offset = 0, stride = 1;
    for (int axis = x->rank - 1; axis >= 0; axis--) {
        if (axes >> axis & 1) {
            offset += i % x->dim[axis] * stride;
            i /= x->dim[axis];
        }
        stride *= x->dim[axis];
    }
    return offset;
}
static void reduce_anywhere(const void *argument, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const reduce_run *run = argument;
    const fv_tensor *x = &run->task->input[0];
    int64_t count = count_along(x, run->axes);
    for (int64_t o = begin; o < end; o++) {
        const float *from = (const float *)x->data + offset_along(x, ~run->axes, o);
        double result = run->kind == MAXIMUM ? -INFINITY : 0;
        for (int64_t r = 0; r < count; r++) {
            double value = from[offset_along(x, run->axes, r)];
            if (run->kind != MAXIMUM)
                result += value;
            else if (value > result || value != value)
                result = value;
        }
        ((float *)run->task->output[0].data)[o] = (float)(result * run->scale);
    }
}

static int reduce_run_task(fv_device *device, const fv_task *task) {
    reduce_run run = make_run(task);
    if (!run.outer) {
        int64_t results = fv_elements(&task->output[0]);
        fv_parallel(device, results, 1024 / (fv_elements(&task->input[0]) / most(results, 1) + 1) + 1, reduce_anywhere,
                    &run);
        return FV_OK;
    }
    int64_t units = run.outer * run.strips * run.chunks;
    fv_parallel(device, units, 16384 * units / (run.outer * run.inner * run.reduced + 1) + 1, reduce_units, &run);
    if (run.chunks > 1) combine_chunks(&run);
    return FV_OK;
}
#define REDUCTION                                                                                                      \
    { { .prepare = reduce_prepare, .run = reduce_run_task }, NULL }
const fv_cpu_kernel KERNEL(sum) = REDUCTION;
const fv_cpu_kernel KERNEL(mean) = REDUCTION;
const fv_cpu_kernel KERNEL(sum_squares) = REDUCTION;
const fv_cpu_kernel KERNEL(sum_abs) = REDUCTION;
const fv_cpu_kernel KERNEL(max) = REDUCTION;

/* ---- Gradient of the maximum ------------------------------------------------------------------------------------- */
typedef struct max_run {
    const fv_task *task;
    int64_t outer, reduced, inner;
    uint32_t axes;
} max_run;

static void share_lines(const void *argument, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const max_run *run = argument;
    const fv_task *task = run->task;
    int64_t strips = div_up(run->inner, LANES);
    for (int64_t u = begin; u < end; u++) {
        int64_t column = u % strips * LANES, o = u / strips, lanes = run->inner - column,
                at = o * run->reduced * run->inner + column;
        const float *x = (const float *)task->input[0].data + at;
        vf y = load_up_to((const float *)task->input[1].data + o * run->inner + column, lanes);
        vf dy = load_up_to((const float *)task->input[2].data + o * run->inner + column, lanes), equal = { 0 };
        float *dx = (float *)task->output[0].data + at;
        for (int64_t i = 0; i < run->reduced; i++)
            equal += keep_if(load_up_to(x + i * run->inner, lanes) == y, splat(1.0f));
        vf share = dy / maximum(splat(1.0f), equal);
        for (int64_t i = 0; i < run->reduced; i++)
            store_up_to(dx + i * run->inner, keep_if(load_up_to(x + i * run->inner, lanes) == y, share), lanes);
    }
}
static void share_anywhere(const void *argument, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const max_run *run = argument;
    const fv_tensor *x = &run->task->input[0];
    int64_t count = count_along(x, run->axes);
    for (int64_t o = begin; o < end; o++) {
        int64_t base = offset_along(x, ~run->axes, o), equal = 0;
        const float *from = (const float *)x->data + base;
        float y = ((const float *)run->task->input[1].data)[o], *to = (float *)run->task->output[0].data + base;
        for (int64_t r = 0; r < count; r++) equal += from[offset_along(x, run->axes, r)] == y;
        float share = ((const float *)run->task->input[2].data)[o] / (float)most(equal, 1);
        for (int64_t r = 0; r < count; r++) {
            int64_t i = offset_along(x, run->axes, r);
            to[i] = from[i] == y ? share : 0;
        }
    }
}
static int max_gradient_run(fv_device *device, const fv_task *task) {
    max_run run = { .task = task, .axes = axes_of(task) };
    const fv_tensor *x = &task->input[0];
    int64_t results = fv_elements(&task->input[1]), grain = 4096 / (fv_elements(x) / most(results, 1) + 1) + 1;
    if (as_block(x, run.axes, &run.outer, &run.reduced, &run.inner) && run.inner > 1)
        fv_parallel(device, run.outer * div_up(run.inner, LANES), grain / LANES + 1, share_lines, &run);
    else
        fv_parallel(device, results, grain, share_anywhere, &run);
    return FV_OK;
}
const fv_cpu_kernel KERNEL(max_gradient) = { { .run = max_gradient_run }, NULL };
