/* reduction_pairs.c - reductions whose running result is a pair of numbers: variance (sums of x - shift and of its square,
 * the shift being a line's first element), logsumexp (the largest so far and the sum of exp(x - largest)), argmax and
 * argmin (the best and where it is). One pass; the rest is as in reduction.c. */
#include "cpu/reduction.h"
#include "cpu/simd.h"
#include <math.h>

enum { SHORT_LINE = 64, SHORT = 16 /* elements whose largest is found before the sum of exponentials is scaled to it */ };

typedef enum kind { VARIANCE, LOGSUMEXP, ARGMAX, ARGMIN } pair_kind;
typedef struct pair {
    double a, b;
} pair;

typedef struct pair_run {
    const fv_task *task;
    pair_kind kind;
    block block;
    const float *x;
    int64_t strips, chunks;
    pair *partial; /* [chunk][outer * inner] */
} pair_run;

/* Many short lines: rather one beside the other than one after the other. */
static void lay_side_by_side(block *b, const fv_tensor *x, uint32_t axes) {
    if (b->inner > 1 || b->reduced > SHORT_LINE || b->outer < 4 * LANES) return;
    int place = 0;
    for (int in = 1; in >= 0; in--)
        for (int axis = 0; axis < x->rank; axis++)
            if ((int)(axes >> axis & 1) == in) b->order[place++] = axis;
    b->inner = b->outer;
    b->outer = 1;
    b->turned = true;
}

static pair_run make_run(const fv_task *task) {
    pair_run run = { .task = task, .x = task->input[0].data, .partial = task->scratch };
    run.kind = task->op == FV_OP_variance    ? VARIANCE
               : task->op == FV_OP_logsumexp ? LOGSUMEXP
               : task->op == FV_OP_argmax    ? ARGMAX
                                             : ARGMIN;
    run.block = make_block(&task->input[0], task->attributes->reduce.axes);
    lay_side_by_side(&run.block, &task->input[0], task->attributes->reduce.axes);
    run.strips = div_up(run.block.inner, LANES);
    run.chunks = chunks_of(&run.block);
    return run;
}
static int64_t partials_of(const pair_run *run) {
    return run->chunks > 1 ? run->chunks * run->block.outer * run->block.inner : 0;
}
static int pair_prepare(fv_device *device, fv_task *task) {
    (void)device;
    pair_run run = make_run(task);
    int64_t turned = run.block.turned ? fv_elements(&task->input[0]) : 0;
    task->scratch_bytes = sizeof(pair) * (size_t)partials_of(&run) + sizeof(float) * (size_t)turned;
    return FV_OK;
}

/* ---- Two pairs into one ------------------------------------------------------------------------------------------ */
/* Not infinite: what may be subtracted from another without a NaN. */
static double finite_of(double x) { return isinf(x) ? 0 : x; }

static pair combine(pair p, pair q, pair_kind kind) {
    if (kind == VARIANCE) return (pair){ p.a + q.a, p.b + q.b };
    if (kind == LOGSUMEXP) {
        double top = p.a > q.a || p.a != p.a ? p.a : q.a, base = finite_of(top);
        return (pair){ top, p.b * exp(p.a - base) + q.b * exp(q.a - base) };
    }
    bool same = p.a == q.a || (p.a != p.a && q.a != q.a);
    if (same) return p.b < q.b ? p : q;
    return q.a > p.a || q.a != q.a ? q : p;
}
static void finish(const pair_run *run, int64_t i, pair p, double shift) {
    void *out = run->task->output[0].data;
    double n = (double)run->block.reduced;
    if (run->kind == LOGSUMEXP) {
        ((float *)out)[i] = (float)(finite_of(p.a) + log(p.b));
    } else if (run->kind == VARIANCE) {
        double squares = p.b - p.a * p.a / n;
        if (out) ((float *)out)[i] = (float)((squares < 0 ? 0 : squares) / (n - run->task->attributes->reduce.correction));
        if (run->task->output[1].data) ((float *)run->task->output[1].data)[i] = (float)(shift + p.a / n);
    } else {
        ((int32_t *)out)[i] = (int32_t)p.b;
    }
}
static float shift_of(const pair_run *run, int64_t i) {
    const block *b = &run->block;
    float first = run->x[i / b->inner * b->reduced * b->inner + i % b->inner];
    return isfinite(first) ? first : 0;
}

/* ---- One line, a pair in all, or lines side by side, a pair a lane: elements first .. last-1 ------------------------------------- */
#define EACH_VECTOR(i, at, left, first, last)                                                                          \
    for (int64_t i = first, at, left; at = along ? i : i * step, left = along ? (last) - i : lanes, i < (last);        \
         i += along ? LANES : 1)

INLINE void lanes_variance(const float *x, int64_t step, int64_t first, int64_t last, int64_t lanes, vf shift,
                           const bool along, pair out[LANES]) {
    vd sum = splat_double(0), squares = sum, base = widen(shift);
    double a[LANES], b[LANES];
    EACH_VECTOR(i, at, left, first, last) {
        vf v = load_up_to(x + at, left);
        if (along && left < LANES) v = choose(lane_numbers() < (int32_t)left, v, shift);
        vd d = subtract_double(widen(v), base);
        sum = add_double(sum, d);
        squares = add_double(squares, multiply_double(d, d));
    }
    if (along) {
        out[0] = (pair){ sum_lanes_double(sum), sum_lanes_double(squares) };
        return;
    }
    store_double(a, sum), store_double(b, squares);
    for (int l = 0; l < LANES; l++) out[l] = (pair){ a[l], b[l] };
}
INLINE vf larger(vf best, vf x) { return choose((x > best) | (x != x), x, best); }
INLINE void lanes_logsumexp(const float *x, int64_t step, int64_t first, int64_t last, int64_t lanes, const bool along,
                            pair out[LANES]) {
    const float lowest = -__builtin_inff();
    vf top = splat(lowest);
    vd sum = splat_double(0);
    double b[LANES];
    for (int64_t from = first, to; from < last; from = to) {
        to = least(last, from + (along ? SHORT * LANES : SHORT));
        vf before = top, some = { 0 };
        EACH_VECTOR(i, at, left, from, to) {
            vf v = load_up_to(x + at, left);
            top = larger(top, along ? pad_lanes(v, left, lowest) : v);
        }
        vf base = choose(absolute(top) == -lowest, (vf){ 0 }, top);
        EACH_VECTOR(i, at, left, from, to) {
            vf v = load_up_to(x + at, left);
            some += exponential((along ? pad_lanes(v, left, lowest) : v) - base);
        }
        sum = add_double(multiply_double(sum, widen(exponential(before - base))), widen(some));
    }
    if (along) {
        float peak = largest_lane(top);
        vf factor = exponential(top - (float)finite_of(peak));
        out[0] = (pair){ peak, sum_lanes_double(multiply_double(sum, widen(factor))) };
        return;
    }
    store_double(b, sum);
    for (int l = 0; l < LANES; l++) out[l] = (pair){ top[l], b[l] };
}
/* sign: -1 for the smallest */
INLINE void lanes_best(const float *x, int64_t step, int64_t first, int64_t last, int64_t lanes, const float sign,
                       const bool along, pair out[LANES]) {
    vf best = splat(-__builtin_inff());
    vi place = splat_int((int32_t)first) + (along ? lane_numbers() : splat_int(0)), here = place;
    EACH_VECTOR(i, at, left, first, last) {
        vf v = load_up_to(x + at, left) * sign;
        if (along) v = pad_lanes(v, left, -__builtin_inff());
        vi better = (v > best) | ((v != v) & (best == best));
        best = choose(better, v, best);
        place = choose_int(better, here, place);
        here += along ? LANES : 1;
    }
    if (along) { /* the first of the lanes that hold the best */
        float peak = largest_lane(best);
        place = choose_int(peak != peak ? best != best : best == peak, place, splat_int(INT32_MAX));
        out[0] = (pair){ peak, INT32_MAX };
        for (int l = 0; l < LANES; l++)
            if (place[l] < out[0].b) out[0].b = place[l];
        return;
    }
    for (int l = 0; l < LANES; l++) out[l] = (pair){ best[l], place[l] };
}

INLINE void pair_unit(const pair_run *run, int64_t unit, const pair_kind kind, const bool along) {
    const block *b = &run->block;
    int64_t chunk = unit % run->chunks, strip = unit / run->chunks % run->strips, o = unit / run->chunks / run->strips;
    int64_t first = b->reduced * chunk / run->chunks, last = b->reduced * (chunk + 1) / run->chunks;
    int64_t column = strip * LANES, lanes = least(LANES, b->inner - column), at = o * b->inner + column;
    const float *x = run->x + o * b->reduced * b->inner + column;
    pair result[LANES] = { { 0, 0 } };
    float shift[LANES] = { 0 };
    for (int64_t l = 0; l < lanes && kind == VARIANCE; l++) shift[l] = shift_of(run, at + l);
    switch (kind) {
    case VARIANCE:
        lanes_variance(x, b->inner, first, last, lanes, along ? splat(*shift) : load(shift), along, result);
        break;
    case LOGSUMEXP: lanes_logsumexp(x, b->inner, first, last, lanes, along, result); break;
    case ARGMAX: lanes_best(x, b->inner, first, last, lanes, 1, along, result); break;
    case ARGMIN: lanes_best(x, b->inner, first, last, lanes, -1, along, result); break;
    }
    for (int64_t l = 0; l < lanes; l++)
        if (run->chunks > 1)
            run->partial[chunk * b->outer * b->inner + at + l] = result[l];
        else
            finish(run, at + l, result[l], shift[l]);
}
static void pair_units(const void *argument, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const pair_run *run = argument;
    for (int64_t unit = begin; unit < end; unit++)
        switch (run->kind * 2 + (run->block.inner == 1)) {
        case VARIANCE * 2: pair_unit(run, unit, VARIANCE, false); break;
        case VARIANCE * 2 + 1: pair_unit(run, unit, VARIANCE, true); break;
        case LOGSUMEXP * 2: pair_unit(run, unit, LOGSUMEXP, false); break;
        case LOGSUMEXP * 2 + 1: pair_unit(run, unit, LOGSUMEXP, true); break;
        case ARGMAX * 2: pair_unit(run, unit, ARGMAX, false); break;
        case ARGMAX * 2 + 1: pair_unit(run, unit, ARGMAX, true); break;
        case ARGMIN * 2: pair_unit(run, unit, ARGMIN, false); break;
        case ARGMIN * 2 + 1: pair_unit(run, unit, ARGMIN, true); break;
        }
}

static int pair_run_task(fv_device *device, const fv_task *task) {
    pair_run run = make_run(task);
    const block *b = &run.block;
    if (b->turned) {
        float *turned = (float *)(run.partial + partials_of(&run));
        turn_axes(device, &task->input[0], b->order, turned);
        run.x = turned;
    }
    int64_t results = b->outer * b->inner, units = b->outer * run.strips * run.chunks;
    fv_parallel(device, units, 8192 * units / (results * b->reduced + 1) + 1, pair_units, &run);
    for (int64_t i = 0; i < results && run.chunks > 1; i++) {
        pair p = run.partial[i];
        for (int64_t chunk = 1; chunk < run.chunks; chunk++)
            p = combine(p, run.partial[chunk * results + i], run.kind);
        finish(&run, i, p, run.kind == VARIANCE ? shift_of(&run, i) : 0);
    }
    return FV_OK;
}
#define PAIRS                                                                                                          \
    { { .prepare = pair_prepare, .run = pair_run_task }, NULL }
const fv_cpu_kernel KERNEL(variance) = PAIRS;
const fv_cpu_kernel KERNEL(logsumexp) = PAIRS;
const fv_cpu_kernel KERNEL(argmax) = PAIRS;
const fv_cpu_kernel KERNEL(argmin) = PAIRS;
