/* block.c - which tasks go through by blocks. A run is as long as there are tasks with a kernel for blocks and equally
 * many images; it is taken where an estimate says that full vectors save more than it costs to bring images into the
 * order of blocks and back. The estimate knows shapes alone, so the choice is the same on every run. */
#include "cpu/block.h"
#include <stdio.h>

/* ---- Estimates: cycles an image, on one thread ------------------------------------------------------------------- */
static const double PRODUCTS = 1.5;                /* multiply-adds of vectors a cycle; 2 are the most */
static const double NEAR = 2, FAR = 4, TURNED = 6; /* a vector read and written: in near caches, in memory, turned */

/* How much more work there is where channels must fill vectors by themselves. */
static double filled(int64_t channels) { return (double)(div_up(channels, LANES) * LANES) / (double)channels; }

double ISA(block_conv_gain)(const fv_task *task) {
    const conv_problem p = conv_problem_of(task);
    const conv_plan *plan = task->kept;
    const double other = plan && plan->algorithm->estimate ? plan->algorithm->estimate(&p) : 1;
    const int64_t side = conv_is_data(task) ? p.channels : p.filters;
    return (double)conv_macs(&p) / (double)p.images / LANES / PRODUCTS * (filled(side) * other - 1);
}
static double vectors_of(const fv_tensor *x) { return (double)fv_elements(x) / (double)x->dim[0] / LANES; }
static double value_gain(const fv_task *task) { return vectors_of(&task->output[0]) * (FAR - NEAR); }
static double pooling_gain(const fv_task *task) {
    const fv_tensor *x = &task->input[0], *y = &task->output[0];
    return most(vectors_of(x), vectors_of(y)) * (FAR * filled(columns_of(x)) - NEAR);
}

/* ---- Tasks ------------------------------------------------------------------------------------------------------- */
/* Ordinary kernels, for which a block is an image of channels * LANES channels, or so many elements. */
static void run_ordinary(const block_call *call) {
    call->alone->set->kernel[call->task->op]->kernel.run(call->alone, call->task);
}
static const block_kernel pooling = { .run = run_ordinary, .gain = pooling_gain, .images = 3 };
static const block_kernel elementwise = { .run = run_ordinary, .gain = value_gain, .images = ~0u };

static const uint8_t flags_of[FV_OP_COUNT] = {
#define FV_OP(name, least, most, outputs, flags, ...) [FV_OP_##name] = flags,
#include "ops.def"
#undef FV_OP
};

static const block_kernel *kernel_by_name(const fv_task *task) {
    switch (task->op) {
    case FV_OP_conv2d:
    case FV_OP_conv2d_bias_activation:
    case FV_OP_conv2d_data_gradient:
    case FV_OP_conv2d_transpose_bias_activation: return &ISA(block_convolution);
    case FV_OP_conv2d_weight_gradient: return &ISA(block_weight_gradient);
    case FV_OP_sum: return &ISA(block_sum);
    case FV_OP_max_pool2d:
    case FV_OP_max_pool2d_gradient:
    case FV_OP_avg_pool2d:
    case FV_OP_avg_pool2d_gradient: return &pooling;
    default: return flags_of[task->op] & FV_SAME_SHAPE ? &elementwise : NULL;
    }
}

static bool holds_images(const fv_tensor *t, int64_t images) {
    return t->rank > 0 && t->dim[0] == images && t->value && fv_elements(t) > 0;
}
const block_kernel *block_kernel_of(const fv_device *device, const fv_task *task) {
    const block_kernel *kernel = kernel_by_name(task);
    if (!kernel || task->input_count > BLOCK_INPUTS || task->output_count > BLOCK_OUTPUTS) return NULL;
    if (kernel == &elementwise && !device->set->kernel[task->op]->range) return NULL;
    if (kernel->why_not && kernel->why_not(task)) return NULL;
    const int64_t images = task->input[0].rank > 0 ? task->input[0].dim[0] : 0;
    for (int i = 0; i < task->input_count; i++) {
        const fv_tensor *in = &task->input[i];
        const bool numbers = i == 0 && task->op == FV_OP_max_pool2d_gradient; /* of the maxima */
        if (in->type != FV_F32 && !numbers) return NULL;
        if (!(kernel->images >> i & 1)) continue;
        if (!holds_images(in, images) || !in->data) return NULL;
        if (kernel == &elementwise && fv_elements(in) != fv_elements(&task->input[0])) return NULL;
    }
    for (int i = 0; i < task->output_count; i++)
        if (!kernel->sums && task->output[i].data &&
            (!holds_images(&task->output[i], images) ||
             (kernel == &elementwise && fv_elements(&task->output[i]) != fv_elements(&task->input[0]))))
            return NULL;
    return task->output[0].data && task->output[0].type == FV_F32 ? kernel : NULL;
}

/* ---- Runs -------------------------------------------------------------------------------------------------------- */
/* Is operand i of a task made by a task of the run in a way that the task cannot read within a block? */
static bool reads_what_is_not_there(const fv_device *device, const fv_task *tasks, int32_t first, int32_t end) {
    const block_kernel *kernel = block_kernel_of(device, &tasks[end]);
    for (int32_t t = first; t < end; t++)
        for (int o = 0; o < tasks[t].output_count; o++)
            for (int i = 0; i < tasks[end].input_count; i++)
                if (tasks[t].output[o].value == tasks[end].input[i].value && tasks[end].input[i].value &&
                    (block_kernel_of(device, &tasks[t])->sums || !(kernel->images >> i & 1)))
                    return true;
    return false;
}

static int32_t run_from(const fv_device *device, const fv_task *tasks, int32_t count, int32_t first) {
    int32_t end = first;
    while (end < count && block_kernel_of(device, &tasks[end]) &&
           tasks[end].input[0].dim[0] == tasks[first].input[0].dim[0] &&
           !reads_what_is_not_there(device, tasks, first, end))
        end++;
    return end;
}

/* What the run saves, less what its edges cost; those between groups cost nothing. */
static bool pays(const fv_device *device, const block_claims *claims, int32_t run, const block_group *group) {
    double gain = 0;
    bool product = false;
    for (int32_t t = 0; t < claims->count; t++) {
        if (claims->run[t] != run) continue;
        const block_kernel *kernel = block_kernel_of(device, &claims->task[t]);
        gain += kernel->gain ? kernel->gain(&claims->task[t]) : 0;
        product = product || kernel->gain == ISA(block_conv_gain);
    }
    for (int32_t v = 0; v < group->value_count; v++) {
        const block_value *value = &group->value[v];
        gain -= TURNED * (double)(value->enters + value->leaves) * (double)value->cells / LANES;
    }
    return product && gain > 0;
}

static void describe(block_group *group) {
    int used = snprintf(group->text, BLOCK_TEXT, "by blocks of %d images:", LANES);
    for (int32_t s = 0; s < group->step_count && used < BLOCK_TEXT; s++) {
        const fv_task *task = group->step[s].task;
        static const char *const names[FV_OP_COUNT] = {
#define FV_OP(name, least, most, outputs, flags, ...) [FV_OP_##name] = #name,
#include "ops.def"
#undef FV_OP
        };
        used += snprintf(group->text + used, (size_t)(BLOCK_TEXT - used), "%s %s", s ? "," : "", names[task->op]);
    }
}

/* Groups of the runs as marked. A run that does not pay or does not fit is unmarked, and 1 returned: what it would have
 * handed to others they must take from rows, so all are made anew. */
static int make_groups(fv_device *device, const block_claims *claims, int32_t *marks, fv_group *groups, int *found) {
    *found = 0;
    for (int32_t first = 0, end; first < claims->count; first = end) {
        const int32_t run = claims->run[first];
        for (end = first + 1; end < claims->count && claims->run[end] == run; end++) {}
        if (run < 0) continue;
        block_group *group = device->host.alloc(device->host.context, sizeof *group, "a group of tasks");
        if (!group) return FV_ERROR_MEMORY;
        group->step_count = end - first;
        groups[(*found)++] =
            (fv_group){ .first = first, .count = end - first, .kept = group, .algorithm = group->text };
        int fits = block_place(device, claims, first, group);
        if (fits < 0) return fits;
        describe(group);
        if (fits && (device->groups == FV_GROUPS_ALL || pays(device, claims, run, group))) continue;
        for (int32_t t = first; t < end; t++) marks[t] = -1;
        return 1;
    }
    return 0;
}

static void free_groups(fv_device *device, fv_group *groups, int count) {
    for (int g = 0; g < count; g++) block_group_free(device, groups[g].kept);
}

/* The groups of a program, in order; their number or a status. */
static int claim(fv_device *device, const fv_task *tasks, int count, fv_group *groups) {
    int32_t *marks = device->host.alloc(device->host.context, (size_t)count * sizeof *marks, "groups of tasks");
    if (!marks) return FV_ERROR_MEMORY;
    int32_t runs = 0;
    for (int32_t first = 0; first < count;) {
        int32_t end = run_from(device, tasks, count, first);
        bool taken = end > first && (device->groups == FV_GROUPS_ALL || tasks[first].input[0].dim[0] >= BLOCK_LEAST);
        for (int32_t t = first; t < end; t++) marks[t] = taken ? runs : -1;
        runs += taken;
        if (end == first)
            marks[first++] = -1;
        else
            first = end;
    }
    const block_claims claims = { tasks, count, marks };
    int found = 0, again;
    while ((again = make_groups(device, &claims, marks, groups, &found)) == 1) free_groups(device, groups, found);
    if (again < 0) free_groups(device, groups, found);
    device->host.free(marks);
    return again < 0 ? again : found;
}

static void release(fv_device *device, fv_group *group) {
    block_group_free(device, group->kept);
    group->kept = NULL;
}

const fv_cpu_blocks ISA(cpu_blocks) = { claim, block_run, release };
