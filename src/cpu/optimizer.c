/* optimizer.c - one step of the optimiser over the parameters of a store: one pass over each gradient's range, all
 * ranges being one list of blocks, so that small layers cost no more than their bytes. check_gradients adds the
 * squares of fixed blocks in order; their sum in double is finite exactly when every gradient is. While the sticky
 * flag is set nothing is written. */
#include "cpu/cpu.h"
#include "cpu/simd.h"
#include <math.h>

enum { BLOCK = 8192 };

/* Inputs that all updates have in common; the gradients follow the slots. */
enum { CONTROL, RATES, SEGMENTS, NORM, GRADIENT_REGION, PARAMETERS, FIRST_SLOT };

static int64_t blocks_of(const fv_tensor *t) { return t->rank < 0 ? 0 : div_up(fv_elements(t), BLOCK); }
static int64_t count_blocks(const fv_task *task, int first) {
    int64_t blocks = 0;
    for (int i = first; i < task->input_count; i++) blocks += blocks_of(&task->input[i]);
    return blocks;
}
/* Calls each block of begin .. end-1 with its tensor and its elements. */
typedef void block_fn(void *state, int input, int64_t block, int64_t first, int64_t last);
static void for_blocks(const fv_task *task, int first_input, int64_t begin, int64_t end, block_fn *each, void *state) {
    int64_t base = 0;
    for (int i = first_input; i < task->input_count && base < end; i++) {
        int64_t blocks = blocks_of(&task->input[i]), elements = blocks ? fv_elements(&task->input[i]) : 0;
        for (int64_t b = most(0, begin - base); b < least(blocks, end - base); b++)
            each(state, i, base + b, b * BLOCK, least(elements, (b + 1) * BLOCK));
        base += blocks;
    }
}

/* ---- Check ------------------------------------------------------------------------------------------------------- */
static int check_prepare(fv_device *device, fv_task *task) {
    (void)device;
    task->scratch_bytes = sizeof(double) * (size_t)count_blocks(task, 1);
    return FV_OK;
}
static void check_block(void *state, int input, int64_t block, int64_t first, int64_t last) {
    const fv_task *task = state;
    const float *g = task->input[input].data;
    vd sum = { { 0 }, { 0 } };
    for (int64_t i = first; g && i < last; i += LANES) {
        vd x = widen(load_up_to(g + i, last - i));
        sum = add_double(sum, multiply_double(x, x));
    }
    ((double *)task->scratch)[block] = sum_lanes_double(sum);
}
static void check_blocks(const void *argument, int64_t begin, int64_t end, int thread) {
    (void)thread;
    union {
        const void *constant;
        void *any;
    } task = { argument };
    for_blocks(argument, 1, begin, end, check_block, task.any);
}
static int check_run(fv_device *device, const fv_task *task) {
    fv_control *control = task->output[0].data;
    const double *squares = task->scratch;
    double sum = 0;
    int64_t blocks = count_blocks(task, 1), of_loss = task->input_count > 1 ? blocks_of(&task->input[1]) : 0;
    fv_parallel(device, blocks, 2, check_blocks, task);
    for (int64_t i = 0; i < blocks; i++) {
        if (!isfinite(squares[i])) control->nonfinite = 1;
        if (i >= of_loss) sum += squares[i];
    }
    if (task->output[1].data) *(float *)task->output[1].data = (float)sqrt(sum);
    return FV_OK;
}
const fv_cpu_kernel KERNEL(check_gradients) = { { .prepare = check_prepare, .run = check_run }, NULL };

/* ---- Updates ----------------------------------------------------------------------------------------------------- */
typedef struct update {
    const fv_task *task;
    int slots;
    bool adam, decoupled, nesterov;
    float base_rate, base_decay, limit, scale; /* of all segments; limit 0: none */
    float momentum, beta1, beta2, epsilon;
    float mean_factor, deviation_factor; /* Adam's corrections of this step */
} update;

static const fv_segment *segment_at(const fv_tensor *segments, int64_t offset) {
    const fv_segment *s = segments->data;
    int64_t low = 0, high = fv_elements(segments) / (int64_t)sizeof *s; /* segments ascend */
    while (low < high) {
        int64_t middle = (low + high) / 2;
        if (s[middle].offset + s[middle].length <= offset)
            low = middle + 1;
        else
            high = middle;
    }
    return low < fv_elements(segments) / (int64_t)sizeof *s && s[low].offset <= offset ? &s[low] : NULL;
}

/* Limited, scaled, and with the coupled part of the decay; decoupled decay shrinks w itself. */
INLINE vf prepared_gradient(const update *u, vf g, vf *w, float rate, float decay) {
    if (u->limit > 0) g = choose(g > u->limit, splat(u->limit), choose(g < -u->limit, splat(-u->limit), g));
    g *= u->scale;
    if (!u->decoupled) return decay != 0 ? g + *w * decay : g;
    *w -= *w * (rate * decay);
    return g;
}
INLINE vf sgd_rule(const update *u, vf g, vf w, float rate, vf *velocity) {
    vf v = g;
    if (velocity) *velocity = v = *velocity * u->momentum + g;
    return w - (u->nesterov ? g + v * u->momentum : v) * rate;
}
INLINE vf adam_rule(const update *u, vf g, vf w, float rate, vf *m, vf *v) {
    *m = *m * u->beta1 + g * (1.0f - u->beta1);
    *v = *v * u->beta2 + g * g * (1.0f - u->beta2);
    return w - *m * (rate * u->mean_factor) / (square_root(*v) * u->deviation_factor + u->epsilon);
}

static void update_block(void *state, int input, int64_t block, int64_t first, int64_t last) {
    (void)block;
    const update *u = state;
    const fv_task *task = u->task;
    const float *gradient = task->input[input].data;
    if (!gradient) return;
    int64_t offset = gradient - (const float *)task->input[GRADIENT_REGION].data;
    const fv_segment *segment = segment_at(&task->input[SEGMENTS], offset);
    if (!segment || segment->frozen) return;
    float rate = u->base_rate * segment->rate, decay = u->base_decay * segment->decay;
    float *w = (float *)task->output[0].data + offset, *slot[2] = { NULL, NULL };
    for (int s = 0; s < u->slots; s++)
        if (task->output[1 + s].data) slot[s] = (float *)task->output[1 + s].data + offset;
    for (int64_t i = first; i < last; i += LANES) {
        int64_t left = last - i;
        vf weight = load_up_to(w + i, left), a = slot[0] ? load_up_to(slot[0] + i, left) : (vf){ 0 };
        vf b = slot[1] ? load_up_to(slot[1] + i, left) : (vf){ 0 };
        vf g = prepared_gradient(u, load_up_to(gradient + i, left), &weight, rate, decay);
        weight = u->adam ? adam_rule(u, g, weight, rate, &a, &b) : sgd_rule(u, g, weight, rate, slot[0] ? &a : NULL);
        store_up_to(w + i, weight, left);
        if (slot[0]) store_up_to(slot[0] + i, a, left);
        if (slot[1]) store_up_to(slot[1] + i, b, left);
    }
}
static void update_blocks(const void *argument, int64_t begin, int64_t end, int thread) {
    (void)thread;
    update u = *(const update *)argument;
    for_blocks(u.task, FIRST_SLOT + u.slots, begin, end, update_block, &u);
}

static int update_run(fv_device *device, const fv_task *task) {
    const fv_control *control = task->input[CONTROL].data;
    const fv_update_attributes *a = &task->attributes->update;
    const fv_tensor *rates = &task->input[RATES], *norm = &task->input[NORM];
    if (control->nonfinite) return FV_OK;
    update u = { .task = task,
                 .adam = task->op == FV_OP_adam_update,
                 .base_decay = a->value[FV_DECAY],
                 .limit = a->clip_value,
                 .scale = 1 };
    u.slots = u.adam ? 2 : 1;
    u.decoupled = a->kind == FV_OPTIMIZER_ADAMW || a->value[FV_DECOUPLED] != 0;
    u.base_rate = rates->data ? ((const float *)rates->data)[control->batch % fv_elements(rates)] : a->value[FV_RATE];
    if (a->clip_norm > 0 && norm->data && *(const float *)norm->data > a->clip_norm)
        u.scale = a->clip_norm / *(const float *)norm->data;
    if (u.adam) {
        double step = (double)(control->step + 1);
        u.beta1 = a->value[FV_BETA1], u.beta2 = a->value[FV_BETA2], u.epsilon = a->value[FV_EPSILON];
        u.mean_factor = (float)(1 / (1 - pow(u.beta1, step)));
        u.deviation_factor = (float)(1 / sqrt(1 - pow(u.beta2, step)));
    } else {
        u.momentum = a->value[FV_MOMENTUM];
        u.nesterov = a->value[FV_NESTEROV] != 0;
    }
    fv_parallel(device, count_blocks(task, FIRST_SLOT + u.slots), 2, update_blocks, &u);
    return FV_OK;
}
const fv_cpu_kernel KERNEL(sgd_update) = { { .run = update_run }, NULL };
const fv_cpu_kernel KERNEL(adam_update) = { { .run = update_run }, NULL };

/* ---- The end of a step ------------------------------------------------------------------------------------------- */
static int commit_run(fv_device *device, const fv_task *task) {
    (void)device;
    const fv_control *control = task->input[0].data;
    if (control->nonfinite) return FV_OK;
    for (int t = 3; t < task->input_count; t++) {
        const float *from = task->input[t].data;
        int64_t offset = from - (const float *)task->input[2].data;
        copy_floats((float *)task->output[0].data + offset, from, fv_elements(&task->input[t]));
    }
    return FV_OK;
}
static int advance_run(fv_device *device, const fv_task *task) {
    (void)device;
    fv_control *control = task->output[0].data;
    if (control->nonfinite) return FV_OK;
    control->batch++;
    if (!task->attributes->advance.batch_only) control->step++;
    return FV_OK;
}
const fv_cpu_kernel KERNEL(commit) = { { .run = commit_run }, NULL };
const fv_cpu_kernel KERNEL(advance) = { { .run = advance_run }, NULL };
