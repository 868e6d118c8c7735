/* reduction_gradient.c - gradients of reductions that need x: what comes in for one result is spread over the elements
 * that it was made of. Axes that are not neighbours are brought together, and dx is taken apart again. */
#include "cpu/reduction.h"
#include "cpu/simd.h"

typedef struct spread_run {
    const fv_task *task;
    block block;
    const float *x, *y, *dy; /* y: what x was reduced to; prod_gradient does without */
    float *dx;
} spread_run;

/* A line of n elements, or, side by side, so many lines as there are lanes, `step` floats from element to element. */
typedef struct lines {
    const float *x;
    float *dx;
    int64_t n, step, lanes;
} lines;
#define EACH_VECTOR(i, at, left)                                                                                       \
    for (int64_t i = 0, at = 0, left = along ? l.n : l.lanes; i < l.n;                                                \
         i += along ? LANES : 1, at = along ? i : i * l.step, left = along ? l.n - i : left)

/* Evenly among the elements that equal the result. */
INLINE void spread_extreme(const lines l, vf y, vf dy, const bool along) {
    vf equal = { 0 };
    EACH_VECTOR(i, at, left) {
        vf x = load_up_to(l.x + at, left);
        if (along) x = pad_lanes(x, left, __builtin_nanf(""));
        equal += keep_if(x == y, splat(1.0f));
    }
    if (along) equal = splat(sum_lanes(equal));
    vf share = dy / maximum(splat(1.0f), equal);
    EACH_VECTOR(i, at, left) store_up_to(l.dx + at, keep_if(load_up_to(l.x + at, left) == y, share), left);
}
INLINE void spread_exponential(const lines l, vf y, vf dy, const bool along) {
    EACH_VECTOR(i, at, left) store_up_to(l.dx + at, dy * exponential(load_up_to(l.x + at, left) - y), left);
}
/* dy P / x, P being the product of the elements that are not zero; with one zero, dy P there; with more, nothing. */
INLINE void spread_product(const lines l, vf dy, const bool along) {
    const vf one = splat(1.0f);
    vd product = splat_double(1);
    vf zeros = { 0 };
    EACH_VECTOR(i, at, left) {
        vf x = load_up_to(l.x + at, left);
        if (along) x = pad_lanes(x, left, 1);
        product = multiply_double(product, widen(choose(x == 0.0f, one, x)));
        zeros += keep_if(x == 0.0f, one);
    }
    if (along) {
        product = splat_double(product_lanes_double(product));
        zeros = splat(sum_lanes(zeros));
    }
    product = multiply_double(product, widen(dy));
    vf alone = narrow(product);
    EACH_VECTOR(i, at, left) {
        vf x = load_up_to(l.x + at, left);
        vf whole = narrow(divide_double(product, widen(choose(x == 0.0f, one, x))));
        store_up_to(l.dx + at, choose(zeros == 0.0f, whole, keep_if((x == 0.0f) & (zeros == 1.0f), alone)), left);
    }
}

INLINE void spread_unit(const spread_run *run, int64_t unit, const bool along) {
    const block *b = &run->block;
    int64_t strips = div_up(b->inner, LANES), column = unit % strips * LANES, o = unit / strips;
    int64_t at = o * b->reduced * b->inner + column, result = o * b->inner + column, lanes = b->inner - column;
    const lines l = { run->x + at, run->dx + at, b->reduced, b->inner, lanes };
    vf y = { 0 }, dy = along ? splat(run->dy[result]) : load_up_to(run->dy + result, lanes);
    if (run->y) y = along ? splat(run->y[result]) : load_up_to(run->y + result, lanes);
    switch (run->task->op) {
    case FV_OP_prod_gradient: spread_product(l, dy, along); break;
    case FV_OP_logsumexp_gradient: spread_exponential(l, y, dy, along); break;
    default: spread_extreme(l, y, dy, along);
    }
}
static void spread_units(const void *argument, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const spread_run *run = argument;
    for (int64_t unit = begin; unit < end; unit++)
        if (run->block.inner == 1)
            spread_unit(run, unit, true);
        else
            spread_unit(run, unit, false);
}

static int spread_prepare(fv_device *device, fv_task *task) {
    (void)device;
    block b = make_block(&task->input[0], task->attributes->reduce.axes);
    if (b.turned) task->scratch_bytes = 2 * sizeof(float) * (size_t)fv_elements(&task->input[0]);
    return FV_OK;
}
static int spread_run_task(fv_device *device, const fv_task *task) {
    const fv_tensor *x = &task->input[0];
    bool product = task->op == FV_OP_prod_gradient;
    spread_run run = { .task = task,
                       .block = make_block(x, task->attributes->reduce.axes),
                       .x = x->data,
                       .y = product ? NULL : task->input[1].data,
                       .dy = task->input[product ? 1 : 2].data,
                       .dx = task->output[0].data };
    const block *b = &run.block;
    fv_tensor turned = { .type = FV_F32, .rank = x->rank };
    if (b->turned) {
        turn_axes(device, x, b->order, task->scratch);
        run.x = task->scratch;
        turned.data = run.dx = (float *)task->scratch + fv_elements(x);
    }
    int64_t units = b->outer * div_up(b->inner, LANES);
    fv_parallel(device, units, 4096 * units / (b->outer * b->inner * b->reduced + 1) + 1, spread_units, &run);
    if (!b->turned) return FV_OK;
    int32_t back[FV_RANK];
    for (int i = 0; i < x->rank; i++) turned.dim[i] = x->dim[b->order[i]], back[b->order[i]] = i;
    turn_axes(device, &turned, back, task->output[0].data);
    return FV_OK;
}
#define SPREAD                                                                                                         \
    { { .prepare = spread_prepare, .run = spread_run_task }, NULL }
const fv_cpu_kernel KERNEL(max_gradient) = SPREAD;
const fv_cpu_kernel KERNEL(logsumexp_gradient) = SPREAD;
const fv_cpu_kernel KERNEL(prod_gradient) = SPREAD;
