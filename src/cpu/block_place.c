/* block_place.c - the values of a group and where they lie: in a thread's scratch for the time between the steps that
 * make and read them, or, if tasks of another group read them, in blocks in the program's memory. Rows of images are
 * read and written only where tasks outside of groups see them. */
#include "cpu/block.h"
#include <string.h>

/* ---- What the program knows of a value --------------------------------------------------------------------------- */
static const fv_task *maker_of(const block_claims *claims, int32_t value, int32_t *number) {
    for (int32_t t = 0; t < claims->count; t++)
        for (int o = 0; o < claims->task[t].output_count; o++)
            if (claims->task[t].output[o].value == value) {
                *number = t;
                return &claims->task[t];
            }
    return NULL;
}
static bool is_read_elsewhere(const block_claims *claims, int32_t value, int32_t run) {
    for (int32_t t = 0; t < claims->count; t++)
        for (int i = 0; i < claims->task[t].input_count; i++)
            if (claims->run[t] != run && claims->task[t].input[i].value == value) return true;
    return false;
}

static bool overlap(const fv_tensor *a, const fv_tensor *b) {
    const char *p = a->data, *q = b->data;
    return p && q && p < q + (size_t)fv_elements(b) * type_bytes(b->type) &&
           q < p + (size_t)fv_elements(a) * type_bytes(a->type);
}
/* Does the run that makes a value also read, from outside, something that lies where the value goes? Blocks go one after
 * the other through the whole run, so that would be lost. */
static bool in_the_way(const block_claims *claims, const fv_tensor *made, int32_t run) {
    for (int32_t t = 0; t < claims->count; t++)
        for (int i = 0; i < claims->task[t].input_count && claims->run[t] == run; i++) {
            const fv_tensor *in = &claims->task[t].input[i];
            int32_t maker = -1;
            if (in->value != made->value && overlap(in, made) &&
                !(maker_of(claims, in->value, &maker) && claims->run[maker] == run))
                return true;
        }
    return false;
}
/* Only tasks of groups read it, as images; not only those of its own. */
static bool crosses(const fv_device *device, const block_claims *claims, const fv_tensor *value) {
    int32_t maker = -1;
    const fv_task *task = maker_of(claims, value->value, &maker);
    if (!task || claims->run[maker] < 0 || block_kernel_of(device, task)->sums || value->kept) return false;
    bool elsewhere = false;
    for (int32_t t = 0; t < claims->count; t++)
        for (int i = 0; i < claims->task[t].input_count; i++) {
            if (claims->task[t].input[i].value != value->value) continue;
            if (claims->run[t] < 0 || !(block_kernel_of(device, &claims->task[t])->images >> i & 1)) return false;
            elsewhere = elsewhere || claims->run[t] != claims->run[maker];
        }
    return elsewhere && !in_the_way(claims, value, claims->run[maker]);
}

/* ---- Values and operands ----------------------------------------------------------------------------------------- */
static int32_t value_of(const fv_device *device, const block_claims *claims, block_group *group, int32_t run,
                        const fv_tensor *tensor, int32_t step, bool made) {
    for (int32_t v = 0; v < group->value_count; v++)
        if (group->value[v].tensor.value == tensor->value) {
            group->value[v].last = step;
            return v;
        }
    block_value *value = &group->value[group->value_count];
    *value = (block_value){ .tensor = *tensor,
                            .cells = fv_elements(tensor) / group->images,
                            .first = step,
                            .last = step,
                            .made = made,
                            .crosses = crosses(device, claims, tensor) };
    value->enters = !made && !value->crosses;
    value->leaves = made && !value->crosses && (tensor->kept || is_read_elsewhere(claims, tensor->value, run));
    return group->value_count++;
}

/* Images as operands of a step: pixels of channels * LANES channels, or a row of elements. */
static fv_tensor in_a_block(const fv_tensor *t, int64_t images) {
    fv_tensor local = *t;
    local.data = NULL;
    if (t->rank == 4) {
        local.dim[0] = 1;
        local.dim[3] *= LANES;
        return local;
    }
    local.rank = 1;
    local.dim[0] = fv_elements(t) / images * LANES;
    return local;
}

static void make_step(const fv_device *device, const block_claims *claims, block_group *group, int32_t number,
                      int32_t first) {
    block_step *step = &group->step[number];
    const fv_task *task = &claims->task[first + number];
    const int32_t run = claims->run[first];
    *step = (block_step){ .task = task, .kernel = block_kernel_of(device, task) };
    for (int i = 0; i < task->input_count; i++) {
        bool images = step->kernel->images >> i & 1;
        step->read[i] = images ? value_of(device, claims, group, run, &task->input[i], number, false) : -1;
        step->input[i] = images ? in_a_block(&task->input[i], group->images) : task->input[i];
    }
    for (int o = 0; o < task->output_count; o++) {
        bool made = !step->kernel->sums && task->output[o].data;
        step->made[o] = made ? value_of(device, claims, group, run, &task->output[o], number, true) : -1;
        step->output[o] = made ? in_a_block(&task->output[o], group->images) : task->output[o];
    }
}

/* ---- Offsets ----------------------------------------------------------------------------------------------------- */
enum { LINE = 64 };

static bool needs_scratch(const block_group *group, const block_value *v) {
    return !v->crosses || group->images % LANES;
}
static int64_t value_bytes(const block_value *v) { return round_up(v->cells * (int64_t)block_cell_bytes(v), LINE); }

/* The place of an operand that dies where an elementwise operation makes this value. */
static int64_t place_of_operand(const block_group *group, int32_t number) {
    const block_value *value = &group->value[number];
    const block_step *step = &group->step[value->first];
    if (!value->made || step->kernel->images != ~0u) return -1;
    for (int i = 0; i < step->task->input_count; i++) {
        const block_value *operand = &group->value[step->read[i]];
        if (operand->last == value->first && operand->cells == value->cells && operand->offset >= 0 &&
            step->made[0] == number)
            return operand->offset;
    }
    return -1;
}

/* The lowest place that is free while the value lives. Values come in the order in which they begin. */
static int64_t free_place(const block_group *group, int32_t number) {
    const block_value *value = &group->value[number];
    int64_t offset = 0;
    for (bool moved = true; moved;) {
        moved = false;
        for (int32_t v = 0; v < number; v++) {
            const block_value *other = &group->value[v];
            if (other->offset < 0 || other->last < value->first || value->last < other->first) continue;
            if (offset < other->offset + value_bytes(other) && other->offset < offset + value_bytes(value)) {
                offset = other->offset + value_bytes(other);
                moved = true;
            }
        }
    }
    return offset;
}

/* Returns the bytes of a thread's scratch. */
static size_t place_values(block_group *group) {
    int64_t end = 0, step_bytes = 0, sums = 0;
    for (int32_t v = 0; v < group->value_count; v++) {
        block_value *value = &group->value[v];
        value->offset = -1;
        if (!needs_scratch(group, value)) continue;
        value->offset = place_of_operand(group, v);
        if (value->offset < 0) value->offset = free_place(group, v);
        end = most(end, value->offset + value_bytes(value));
    }
    for (int32_t s = 0; s < group->step_count; s++) {
        block_step *step = &group->step[s];
        step_bytes = most(step_bytes, round_up((int64_t)step->scratch_bytes, LINE));
        if (!step->kernel->sums) continue;
        step->sums = fv_elements(&step->output[0]);
        step->sums_offset = sums;
        step->unit_offset = group->unit_floats;
        sums += step->sums * LANES * (int64_t)sizeof(float);
        group->unit_floats += round_up(step->sums, LANES);
    }
    group->step_offset = end;
    group->sums_offset = round_up(end + step_bytes, LINE);
    return group->thread_bytes = (size_t)round_up(group->sums_offset + sums, LINE);
}

/* ---- Memory ------------------------------------------------------------------------------------------------------ */
static void *take(fv_device *device, size_t bytes) {
    return device->host.alloc(device->host.context, bytes, "a group of tasks");
}

static int take_memory(fv_device *device, const block_claims *claims, int32_t run, block_group *group) {
    size_t packed = 0;
    for (int32_t s = 0; s < group->step_count; s++)
        packed += (size_t)round_up((int64_t)group->step[s].packed_bytes, LINE);
    group->scratch = take(device, group->thread_bytes * (size_t)device->threads);
    group->packed = packed ? take(device, packed) : NULL;
    group->partial =
        group->unit_floats ? take(device, sizeof(float) * (size_t)(group->units * group->unit_floats)) : NULL;
    if (!group->scratch || (packed && !group->packed) || (group->unit_floats && !group->partial))
        return FV_ERROR_MEMORY;
    char *at = group->packed;
    for (int32_t s = 0; s < group->step_count; s++) {
        if (group->step[s].packed_bytes) group->step[s].packed = (float *)(void *)at;
        at += round_up((int64_t)group->step[s].packed_bytes, LINE);
    }
    for (int32_t v = 0; v < group->value_count; v++) {
        block_value *value = &group->value[v];
        if (!value->leaves || !in_the_way(claims, &value->tensor, run)) continue;
        value->aside = take(device, (size_t)fv_elements(&value->tensor) * type_bytes(value->tensor.type));
        if (!value->aside) return FV_ERROR_MEMORY;
    }
    return FV_OK;
}

int block_place(fv_device *device, const block_claims *claims, int32_t first, block_group *group) {
    const fv_task *tasks = claims->task + first;
    group->images = tasks[0].input[0].dim[0];
    group->blocks = div_up(group->images, LANES);
    group->units = least(group->blocks, BLOCK_UNITS);
    group->alone = *device;
    group->alone.threads = 1;
    group->alone.pool = NULL;
    size_t operands = 0;
    for (int32_t s = 0; s < group->step_count; s++) operands += (size_t)(tasks[s].input_count + tasks[s].output_count);
    group->step = take(device, (size_t)group->step_count * sizeof *group->step);
    group->value = take(device, operands * sizeof *group->value);
    if (!group->step || !group->value) return FV_ERROR_MEMORY;
    for (int32_t s = 0; s < group->step_count; s++) {
        make_step(device, claims, group, s, first);
        int status = group->step[s].kernel->prepare ? group->step[s].kernel->prepare(device, &group->step[s]) : FV_OK;
        if (status) return status;
    }
    if (place_values(group) > BLOCK_BUDGET) return 0;
    int status = take_memory(device, claims, claims->run[first], group);
    return status ? status : 1;
}

void block_group_free(fv_device *device, block_group *group) {
    if (!group) return;
    for (int32_t s = 0; group->step && s < group->step_count; s++) device->host.free(group->step[s].own);
    for (int32_t v = 0; group->value && v < group->value_count; v++) device->host.free(group->value[v].aside);
    device->host.free(group->step);
    device->host.free(group->value);
    device->host.free(group->scratch);
    device->host.free(group->packed);
    device->host.free(group->partial);
    device->host.free(group);
}
