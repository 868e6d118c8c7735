/* elementwise.c - operations of two or three operands with broadcasting; affine, abs, sign, copy. Equal shapes and
 * single numbers go through ranges of elements; other broadcasts are rows of vectors: axes that all operands step
 * through alike are merged first, after which the last axis of each is either contiguous or one number. */
#include "cpu/functions.h"

/* ---- Several operands -------------------------------------------------------------------------------------------- */
enum { MOST_INPUTS = 3, MOST_OUTPUTS = 2 };
/* A stretch of the outputs. Operand k is read at in[k] + (i & mask[k]): the mask of a number that serves all is 0, and
 * the number lies there LANES times. */
typedef struct row {
    const float *in[MOST_INPUTS];
    int64_t mask[MOST_INPUTS];
    float *out[MOST_OUTPUTS]; /* NULL: nobody reads it */
    int64_t n;
} row;
typedef void row_fn(const row *);

INLINE vf whole(const row *r, const int k, int64_t i) { return load(r->in[k] + (i & r->mask[k])); }
INLINE vf part(const row *r, const int k, int64_t i) {
    return load_part(r->in[k] + (i & r->mask[k]), (int)(r->n - i));
}
#define COMBINE(name, expression)                                                                                      \
    INLINE vf name##_of(vf a, vf b, vf c) {                                                                            \
        (void)c;                                                                                                       \
        return expression;                                                                                             \
    }                                                                                                                  \
    static void row_##name(const row *of) {                                                                            \
        const row r = *of; /* a copy: stores cannot change it */                                                       \
        int64_t i = 0;                                                                                                 \
        for (; i + LANES <= r.n; i += LANES)                                                                           \
            store(r.out[0] + i, name##_of(whole(&r, 0, i), whole(&r, 1, i), whole(&r, 2, i)));                         \
        if (i < r.n)                                                                                                   \
            store_part(r.out[0] + i, name##_of(part(&r, 0, i), part(&r, 1, i), part(&r, 2, i)), (int)(r.n - i));       \
    }
/* The same with two outputs. */
#define COMBINE_TWICE(name, first, second)                                                                             \
    static void row_##name(const row *of) {                                                                            \
        const row r = *of;                                                                                             \
        for (int64_t i = 0; i < r.n; i += LANES) {                                                                     \
            bool all = i + LANES <= r.n;                                                                               \
            vf a = all ? whole(&r, 0, i) : part(&r, 0, i), b = all ? whole(&r, 1, i) : part(&r, 1, i),                 \
               c = all ? whole(&r, 2, i) : part(&r, 2, i);                                                             \
            if (r.out[0]) store_up_to(r.out[0] + i, first, r.n - i);                                                   \
            if (r.out[1]) store_up_to(r.out[1] + i, second, r.n - i);                                                  \
        }                                                                                                              \
    }

INLINE vf one_if(vi mask) { return keep_if(mask, splat(1.0f)); }
COMBINE(add, a + b)
COMBINE(sub, a - b)
COMBINE(mul, a *b)
COMBINE(div, a / b)
COMBINE(power, raised(a, b))
COMBINE(maximum, choose(a != a, a, maximum(a, b)))
COMBINE(minimum, choose(a != a, a, minimum(a, b)))
COMBINE(maximum_gradient, choose(a == b, c * 0.5f, keep_if(a > b, c)))
COMBINE(equal, one_if(a == b))
COMBINE(not_equal, one_if(a != b))
COMBINE(less, one_if(a < b))
COMBINE(less_equal, one_if(a <= b))
COMBINE(where, choose(a != 0.0f, b, c))
COMBINE(prelu, choose(a < 0.0f, a * b, a))
COMBINE_TWICE(prelu_gradient, choose(a > 0.0f, c, b * c), keep_if(~(a > 0.0f), a *c))
COMBINE_TWICE(power_gradient, keep_if(b != 0.0f, c * b * raised(a, b - 1.0f)),
              keep_if(~((a == 0.0f) & (b >= 0.0f)), c * raised(a, b) * natural_logarithm(a)))

#define FOR_ALL(X)                                                                                                     \
    X(add) X(sub) X(mul) X(div) X(power) X(power_gradient) X(maximum) X(minimum) X(maximum_gradient) X(equal)          \
    X(not_equal) X(less) X(less_equal) X(where) X(prelu) X(prelu_gradient)
static row_fn *row_for(const fv_task *task) {
    static row_fn *const rows[FV_OP_COUNT] = {
#define ROW(name) [FV_OP_##name] = row_##name,
        FOR_ALL(ROW)
#undef ROW
    };
    return rows[task->op];
}

/* Starts the row at these elements of the operands; a number that serves all goes to `single`. */
INLINE void begin_row(row *r, const fv_task *task, const int64_t *at, const bool *repeated, float (*single)[LANES]) {
    for (int k = 0; k < MOST_INPUTS; k++) {
        const float *in = k < task->input_count ? (const float *)task->input[k].data + at[k] : single[k];
        bool one = k >= task->input_count || repeated[k];
        if (one) store(single[k], splat(k < task->input_count ? *in : 0.0f));
        r->in[k] = one ? single[k] : in;
        r->mask[k] = one ? 0 : -1;
    }
}
INLINE void place_row(row *r, const fv_task *task, int64_t first, int64_t n) {
    for (int o = 0; o < MOST_OUTPUTS; o++) {
        float *data = o < task->output_count ? task->output[o].data : NULL;
        r->out[o] = data ? data + first : NULL;
    }
    r->n = n;
}

/* Equal shapes and single numbers. */
static void combine_range(const fv_task *task, int64_t begin, int64_t end) {
    float single[MOST_INPUTS][LANES];
    int64_t at[MOST_INPUTS];
    bool repeated[MOST_INPUTS];
    for (int k = 0; k < task->input_count; k++) {
        repeated[k] = fv_elements(&task->input[k]) == 1;
        at[k] = repeated[k] ? 0 : begin;
    }
    row r;
    begin_row(&r, task, at, repeated, single);
    place_row(&r, task, begin, end - begin);
    row_for(task)(&r);
}

/* The loop over a broadcast: merged axes, outermost first. */
typedef struct loops {
    int rank;
    int64_t size[FV_RANK], step[MOST_INPUTS][FV_RANK];
} loops;

static loops merge_axes(const fv_task *task) {
    const fv_tensor *y = &task->output[0];
    loops l = { 0 };
    int64_t stride[MOST_INPUTS] = { 1, 1, 1 }, size[FV_RANK], step[MOST_INPUTS][FV_RANK];
    for (int axis = y->rank - 1; axis >= 0; axis--) {
        size[axis] = y->dim[axis];
        for (int i = 0; i < task->input_count; i++) {
            int own = axis - (y->rank - task->input[i].rank);
            int64_t length = own < 0 ? 1 : task->input[i].dim[own];
            step[i][axis] = length == 1 ? 0 : stride[i];
            stride[i] *= length;
        }
    }
    for (int axis = 0; axis < y->rank; axis++) {
        if (size[axis] == 1) continue;
        int last = l.rank - 1;
        bool joins = l.rank > 0;
        for (int i = 0; joins && i < task->input_count; i++) joins = l.step[i][last] == step[i][axis] * size[axis];
        int at = joins ? last : l.rank++;
        l.size[at] = joins ? l.size[last] * size[axis] : size[axis];
        for (int i = 0; i < task->input_count; i++) l.step[i][at] = step[i][axis];
    }
    if (!l.rank) l = (loops){ .rank = 1, .size = { 1 } };
    return l;
}

typedef struct broadcast_run {
    const fv_task *task;
    loops loops;
} broadcast_run;

static void broadcast_rows(const void *argument, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const broadcast_run *run = argument;
    const loops *l = &run->loops;
    int inner = l->rank - 1, inputs = run->task->input_count;
    row_fn *combine = row_for(run->task);
    float single[MOST_INPUTS][LANES];
    bool repeated[MOST_INPUTS];
    for (int k = 0; k < inputs; k++) repeated[k] = l->step[k][inner] == 0;
    for (int64_t i = begin; i < end; i++) {
        int64_t rest = i, at[MOST_INPUTS] = { 0 };
        for (int axis = inner - 1; axis >= 0; axis--) {
            int64_t index = rest % l->size[axis];
            rest /= l->size[axis];
            for (int k = 0; k < inputs; k++) at[k] += index * l->step[k][axis];
        }
        row r;
        begin_row(&r, run->task, at, repeated, single);
        place_row(&r, run->task, i * l->size[inner], l->size[inner]);
        combine(&r);
    }
}

static int combine_run(fv_device *device, const fv_task *task) {
    broadcast_run run = { task, merge_axes(task) };
    if (run.loops.rank == 1) return fv_run_ranges(device, task);
    int64_t inner = run.loops.size[run.loops.rank - 1];
    fv_parallel(device, fv_elements(&task->output[0]) / inner, 8192 / inner + 1, broadcast_rows, &run);
    return FV_OK;
}
#define COMBINATION(name) const fv_cpu_kernel KERNEL(name) = { { .run = combine_run }, combine_range };
FOR_ALL(COMBINATION)

/* ---- One operand ------------------------------------------------------------------------------------------------- */
INLINE vf sign_of(vf x) {
    return choose(x != x, x, choose(x > 0.0f, splat(1.0f), choose(x < 0.0f, splat(-1.0f), splat(0.0f))));
}

#define UNARY_RANGE(name, expression)                                                                                  \
    static void name(const fv_task *task, int64_t begin, int64_t end) {                                                \
        const fv_affine_attributes *affine = &task->attributes->affine;                                                \
        (void)affine;                                                                                                  \
        const float *in = task->input[0].data;                                                                         \
        float *out = task->output[0].data;                                                                             \
        for (int64_t i = begin; i < end; i += LANES) {                                                                 \
            vf x = load_up_to(in + i, end - i);                                                                        \
            store_up_to(out + i, expression, end - i);                                                                 \
        }                                                                                                              \
    }
UNARY_RANGE(affine_range, x * affine->a + affine->b)
UNARY_RANGE(abs_range, absolute(x))
UNARY_RANGE(sign_range, sign_of(x))

static void copy_range(const fv_task *task, int64_t begin, int64_t end) {
    size_t size = type_bytes(task->input[0].type);
    const char *in = task->input[0].data;
    char *out = task->output[0].data;
    if (in != out) memmove(out + (size_t)begin * size, in + (size_t)begin * size, (size_t)(end - begin) * size);
}
const fv_cpu_kernel KERNEL(affine) = { { .run = fv_run_ranges }, affine_range };
const fv_cpu_kernel KERNEL(abs) = { { .run = fv_run_ranges }, abs_range };
const fv_cpu_kernel KERNEL(sign) = { { .run = fv_run_ranges }, sign_range };
const fv_cpu_kernel KERNEL(copy) = { { .run = fv_run_ranges }, copy_range };
const fv_cpu_kernel KERNEL(reshape) = { { .run = fv_run_ranges },
                                        copy_range }; /* an alias: runs only where no planner is */
