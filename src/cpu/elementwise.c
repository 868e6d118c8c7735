/* elementwise.c - add, sub, mul, div with broadcasting; affine, abs, sign, copy, cast. Equal shapes and single
 * numbers go through ranges of elements; other broadcasts are rows of vectors: axes that both operands step through
 * alike are merged first, after which the last axis of each is either contiguous or one number. */
#include "cpu/cpu.h"
#include "cpu/simd.h"

/* ---- Two operands ------------------------------------------------------------------------------------------------ */
INLINE vf combine(const fv_op op, vf a, vf b) {
    switch (op) {
    case FV_OP_add: return a + b;
    case FV_OP_sub: return a - b;
    case FV_OP_mul: return a * b;
    default: return a / b;
    }
}
/* a_step, b_step: 1, or 0 for one number that serves all */
INLINE void combine_row(const fv_op op, const float *a, const int a_step, const float *b, const int b_step, float *y,
                        int64_t n) {
    vf x = a_step ? (vf){ 0 } : splat(*a), z = b_step ? (vf){ 0 } : splat(*b);
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES) store(y + i, combine(op, a_step ? load(a + i) : x, b_step ? load(b + i) : z));
    int rest = (int)(n - i);
    if (rest)
        store_part(y + i, combine(op, a_step ? load_part(a + i, rest) : x, b_step ? load_part(b + i, rest) : z), rest);
}
typedef void row_fn(const float *a, int a_step, const float *b, int b_step, float *y, int64_t n);
#define ROW(op)                                                                                                        \
    static void row_##op(const float *a, int a_step, const float *b, int b_step, float *y, int64_t n) {                \
        if (a_step && b_step)                                                                                          \
            combine_row(FV_OP_##op, a, 1, b, 1, y, n);                                                                 \
        else if (a_step)                                                                                               \
            combine_row(FV_OP_##op, a, 1, b, 0, y, n);                                                                 \
        else if (b_step)                                                                                               \
            combine_row(FV_OP_##op, a, 0, b, 1, y, n);                                                                 \
        else                                                                                                           \
            combine_row(FV_OP_##op, a, 0, b, 0, y, n);                                                                 \
    }
ROW(add)
ROW(sub)
ROW(mul)
ROW(div)
static row_fn *const row_of[] = { row_add, row_sub, row_mul, row_div };
static row_fn *row_for(const fv_task *task) { return row_of[task->op - FV_OP_add]; }

static void binary_range(const fv_task *task, int64_t begin, int64_t end) {
    int a_step = fv_elements(&task->input[0]) > 1, b_step = fv_elements(&task->input[1]) > 1;
    const float *a = task->input[0].data, *b = task->input[1].data;
    row_for(task)(a + (a_step ? begin : 0), a_step, b + (b_step ? begin : 0), b_step,
                  (float *)task->output[0].data + begin, end - begin);
}

/* The loop over a broadcast: merged axes, outermost first. */
typedef struct loops {
    int rank;
    int64_t size[FV_RANK], step[2][FV_RANK];
} loops;

static loops merge_axes(const fv_task *task) {
    const fv_tensor *y = &task->output[0];
    loops l = { 0 };
    int64_t stride[2] = { 1, 1 }, size[FV_RANK], step[2][FV_RANK];
    for (int axis = y->rank - 1; axis >= 0; axis--) {
        size[axis] = y->dim[axis];
        for (int i = 0; i < 2; i++) {
            int own = axis - (y->rank - task->input[i].rank);
            int64_t length = own < 0 ? 1 : task->input[i].dim[own];
            step[i][axis] = length == 1 ? 0 : stride[i];
            stride[i] *= length;
        }
    }
    for (int axis = 0; axis < y->rank; axis++) {
        if (size[axis] == 1) continue;
        int last = l.rank - 1;
        bool joins = l.rank > 0 && l.step[0][last] == step[0][axis] * size[axis] &&
                     l.step[1][last] == step[1][axis] * size[axis];
        int at = joins ? last : l.rank++;
        l.size[at] = joins ? l.size[last] * size[axis] : size[axis];
        for (int i = 0; i < 2; i++) l.step[i][at] = step[i][axis];
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
    const float *a = run->task->input[0].data, *b = run->task->input[1].data;
    int inner = l->rank - 1;
    row_fn *row = row_for(run->task);
    for (int64_t i = begin; i < end; i++) {
        int64_t rest = i, at[2] = { 0, 0 };
        for (int axis = inner - 1; axis >= 0; axis--) {
            int64_t index = rest % l->size[axis];
            rest /= l->size[axis];
            at[0] += index * l->step[0][axis];
            at[1] += index * l->step[1][axis];
        }
        row(a + at[0], l->step[0][inner] != 0, b + at[1], l->step[1][inner] != 0,
            (float *)run->task->output[0].data + i * l->size[inner], l->size[inner]);
    }
}

static int binary_run(fv_device *device, const fv_task *task) {
    broadcast_run run = { task, merge_axes(task) };
    if (run.loops.rank == 1) return fv_run_ranges(device, task);
    int64_t inner = run.loops.size[run.loops.rank - 1];
    fv_parallel(device, fv_elements(&task->output[0]) / inner, 8192 / inner + 1, broadcast_rows, &run);
    return FV_OK;
}
const fv_cpu_kernel KERNEL(add) = { { .run = binary_run }, binary_range };
const fv_cpu_kernel KERNEL(sub) = { { .run = binary_run }, binary_range };
const fv_cpu_kernel KERNEL(mul) = { { .run = binary_run }, binary_range };
const fv_cpu_kernel KERNEL(div) = { { .run = binary_run }, binary_range };

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
