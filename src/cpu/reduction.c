/* reduction.c - sums, means, products, maxima and minima. Vectors run along inner, or along the reduced axis when that is
 * the last. Where there are few results the reduced axis is cut into a fixed number of chunks, which depends on shapes
 * alone, and the chunks' results are combined in order. Axes that are not neighbours are brought together first. A
 * minimum is the maximum of what is negated when loaded. */
#include "cpu/reduction.h"
#include "cpu/simd.h"
#include <math.h>

enum { WIDE = 4 /* vectors side by side */, SHORT = 16 /* terms added as floats */ };

typedef enum kind { SUM, SQUARES, MAGNITUDES, PRODUCT, MAXIMUM, MINIMUM } reduce_kind;

typedef struct reduce_run {
    const fv_task *task;
    reduce_kind kind;
    block block;
    const float *x;
    int64_t strips; /* of WIDE vectors along inner, or 1 */
    int64_t chunks;
    double *partial; /* [chunk][outer * inner] */
    double scale;
} reduce_run;

/* Axes of size 1 belong to either side. */
block make_block(const fv_tensor *x, uint32_t axes) {
    block b = { 1, 1, 1, .order = { 0 } };
    int state = 0, place = 0;
    for (int axis = 0; axis < x->rank; axis++) {
        if (x->dim[axis] == 1) continue;
        bool in = axes >> axis & 1;
        b.turned = b.turned || (in && state == 2);
        state = in ? 1 : state ? 2 : 0;
        *(state == 0 ? &b.outer : state == 1 ? &b.reduced : &b.inner) *= x->dim[axis];
    }
    if (!b.turned) return b;
    b.outer = b.reduced = b.inner = 1;
    for (int in = 0; in < 2; in++)
        for (int axis = 0; axis < x->rank; axis++) {
            if ((int)(axes >> axis & 1) != in) continue;
            b.order[place++] = axis;
            *(in ? &b.reduced : &b.outer) *= x->dim[axis];
        }
    return b;
}

static reduce_run make_run(const fv_task *task) {
    static const uint8_t kinds[FV_OP_COUNT] = {
        [FV_OP_sum_squares] = SQUARES, [FV_OP_sum_abs] = MAGNITUDES, [FV_OP_prod] = PRODUCT,
        [FV_OP_max] = MAXIMUM,         [FV_OP_min] = MINIMUM,
    };
    bool all = task->op == FV_OP_sum_squares || task->op == FV_OP_sum_abs;
    reduce_run run = { .task = task, .kind = kinds[task->op], .x = task->input[0].data, .partial = task->scratch };
    run.block = make_block(&task->input[0], all ? ~0u : task->attributes->reduce.axes);
    run.scale = task->op == FV_OP_mean ? 1.0 / (double)run.block.reduced : run.kind == MINIMUM ? -1 : 1;
    run.strips = div_up(run.block.inner, WIDE * LANES);
    run.chunks = chunks_of(&run.block);
    return run;
}
static int64_t partials_of(const reduce_run *run) {
    return run->chunks > 1 ? run->chunks * run->block.outer * run->block.inner : 0;
}
static int reduce_prepare(fv_device *device, fv_task *task) {
    (void)device;
    reduce_run run = make_run(task);
    int64_t turned = run.block.turned ? fv_elements(&task->input[0]) : 0;
    task->scratch_bytes = sizeof(double) * (size_t)partials_of(&run) + sizeof(float) * (size_t)turned;
    return FV_OK;
}

/* ---- Blocks ------------------------------------------------------------------------------------------------------ */
INLINE vf larger(vf best, vf x) { return choose((x > best) | (x != x), x, best); }
INLINE bool is_extreme(const reduce_kind kind) { return kind == MAXIMUM || kind == MINIMUM; }
/* What is added or compared: short sums of floats keep every digit that the result can hold. */
INLINE vf term_of(vf x, const reduce_kind kind) {
    return kind == SQUARES ? x * x : kind == MAGNITUDES ? absolute(x) : kind == MINIMUM ? -x : x;
}
INLINE vd add_term(vd sum, vf x, const reduce_kind kind) {
    if (kind == SQUARES) return add_double(sum, multiply_double(widen(x), widen(x)));
    if (kind == PRODUCT) return multiply_double(sum, widen(x));
    return add_double(sum, widen(term_of(x, kind)));
}

/* One line along the reduced axis, elements first .. last-1. */
INLINE double reduce_line(const float *x, int64_t first, int64_t last, const reduce_kind kind) {
    vd sum = splat_double(kind == PRODUCT);
    vf best = splat(-__builtin_inff());
    for (int64_t i = first; i < last; i += LANES) {
        vf v = load_up_to(x + i, last - i);
        if (kind == PRODUCT) v = pad_lanes(v, last - i, 1);
        if (is_extreme(kind))
            best = larger(best, pad_lanes(term_of(v, kind), last - i, -__builtin_inff()));
        else
            sum = add_term(sum, v, kind);
    }
    if (kind == PRODUCT) return product_lanes_double(sum);
    return is_extreme(kind) ? largest_lane(best) : sum_lanes_double(sum);
}
/* Neighbouring lines, `step` floats from element to element, in so many vectors; left: lines that are wanted. Short
 * runs are added as floats, which costs no digit that the result could hold, and those in double. */
INLINE void reduce_lines(const float *x, int64_t step, int64_t first, int64_t last, int64_t left, const int vectors,
                         const reduce_kind kind, double *out) {
    vd sum[WIDE];
    vf best[WIDE];
    for (int v = 0; v < vectors; v++) sum[v] = splat_double(kind == PRODUCT), best[v] = splat(-__builtin_inff());
    for (int64_t i = first; i < last;) {
        int64_t stop = least(last, i + SHORT);
        vf some[WIDE];
        for (int v = 0; v < vectors; v++) some[v] = (vf){ 0 };
        for (; i < stop; i++) {
            UNROLL(4)
            for (int v = 0; v < vectors; v++) {
                vf value = vectors > 1 ? load(x + i * step + v * LANES) : load_up_to(x + i * step, left);
                if (is_extreme(kind))
                    best[v] = larger(best[v], term_of(value, kind));
                else if (kind == PRODUCT)
                    sum[v] = multiply_double(sum[v], widen(value));
                else
                    some[v] += term_of(value, kind);
            }
        }
        for (int v = 0; v < vectors && kind != PRODUCT; v++) sum[v] = add_double(sum[v], widen(some[v]));
    }
    for (int v = 0; v < vectors; v++) {
        if (is_extreme(kind)) sum[v] = widen(best[v]);
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
                some += term_of(value, kind);
            }
            store_double(sum + phase * LANES, add_double(load_double(sum + phase * LANES), widen(some)));
        }
    for (int64_t line = 0; line < lines; line++) {
        out[line] = 0;
        for (int64_t i = line; i < period * LANES; i += lines) out[line] += sum[i];
    }
}

INLINE void reduce_unit(const reduce_run *run, int64_t unit, const reduce_kind kind) {
    const block *b = &run->block;
    int64_t chunk = unit % run->chunks, strip = unit / run->chunks % run->strips, o = unit / run->chunks / run->strips;
    int64_t first = b->reduced * chunk / run->chunks, last = b->reduced * (chunk + 1) / run->chunks,
            column = strip * WIDE * LANES;
    const float *x = run->x + o * b->reduced * b->inner + column;
    int64_t lines = least(WIDE * LANES, b->inner - column), at = o * b->inner + column;
    double result[WIDE * LANES];
    if (b->inner == 1)
        result[0] = reduce_line(x, first, last, kind);
    else if (b->inner < LANES && !is_extreme(kind) && kind != PRODUCT)
        reduce_narrow(x, first, last, b->inner, kind, result);
    else if (lines == WIDE * LANES)
        reduce_lines(x, b->inner, first, last, lines, WIDE, kind, result);
    else
        for (int64_t i = 0; i < lines; i += LANES)
            reduce_lines(x + i, b->inner, first, last, lines - i, 1, kind, result + i);
    for (int64_t i = 0; i < lines; i++) {
        if (run->chunks > 1)
            run->partial[chunk * b->outer * b->inner + at + i] = result[i];
        else
            ((float *)run->task->output[0].data)[at + i] = (float)(result[i] * run->scale);
    }
}
static void reduce_units(const void *argument, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const reduce_run *run = argument;
    for (int64_t unit = begin; unit < end; unit++)
        switch (run->kind) {
        case SUM: reduce_unit(run, unit, SUM); break;
        case SQUARES: reduce_unit(run, unit, SQUARES); break;
        case MAGNITUDES: reduce_unit(run, unit, MAGNITUDES); break;
        case PRODUCT: reduce_unit(run, unit, PRODUCT); break;
        case MAXIMUM: reduce_unit(run, unit, MAXIMUM); break;
        case MINIMUM: reduce_unit(run, unit, MINIMUM); break;
        }
}
static void combine_chunks(const reduce_run *run) {
    int64_t n = run->block.outer * run->block.inner;
    for (int64_t i = 0; i < n; i++) {
        double result = run->partial[i];
        for (int64_t chunk = 1; chunk < run->chunks; chunk++) {
            double next = run->partial[chunk * n + i];
            if (run->kind == PRODUCT)
                result *= next;
            else if (!is_extreme(run->kind))
                result += next;
            else if (next > result || next != next)
                result = next;
        }
        ((float *)run->task->output[0].data)[i] = (float)(result * run->scale);
    }
}

static int reduce_run_task(fv_device *device, const fv_task *task) {
    reduce_run run = make_run(task);
    const block *b = &run.block;
    if (b->turned) {
        float *turned = (float *)(run.partial + partials_of(&run));
        turn_axes(device, &task->input[0], b->order, turned);
        run.x = turned;
    }
    int64_t units = b->outer * run.strips * run.chunks;
    fv_parallel(device, units, 16384 * units / (b->outer * b->inner * b->reduced + 1) + 1, reduce_units, &run);
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
const fv_cpu_kernel KERNEL(min) = REDUCTION;
const fv_cpu_kernel KERNEL(prod) = REDUCTION;
