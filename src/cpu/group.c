/* group.c - groups: runs of tasks of a small net, by blocks of images (block.h), and, elsewhere, runs of elementwise
 * operations of equal size, which go through by blocks of elements, so that what one leaves the next finds in the
 * nearest cache. There each element is computed by the same instructions either way: the same bits. */
#include "cpu/group.h"
#include <stdlib.h>

enum { BLOCK = 4096, BLOCK_GRAIN = 2, FEWEST = 2 };

static const uint8_t flags_of[FV_OP_COUNT] = {
#define FV_OP(name, least, most, outputs, flags, ...) [FV_OP_##name] = flags,
#include "ops.def"
#undef FV_OP
};

/* Every operand is f32 with as many elements as the first task's output; one of two may be a single number. */
static bool groupable(const fv_device *device, const fv_task *task, int64_t elements) {
    if (!(flags_of[task->op] & FV_SAME_SHAPE) || !device->set->kernel[task->op]->range || task->output_count != 1)
        return false;
    int whole = 0;
    for (int i = 0; i < task->input_count; i++) {
        int64_t own = fv_elements(&task->input[i]);
        if (task->input[i].type != FV_F32 || !task->input[i].data || (own != elements && own != 1)) return false;
        whole += own == elements;
    }
    return whole > 0 && task->output[0].type == FV_F32 && fv_elements(&task->output[0]) == elements;
}

/* Elementwise runs among the tasks first .. end-1 go behind the groups found so far; returns their number with these. */
static int group_elementwise(const fv_device *device, const fv_task *tasks, int first, int end, fv_group *groups,
                             int found) {
    while (first < end) {
        int64_t elements = tasks[first].output_count ? fv_elements(&tasks[first].output[0]) : 0;
        int last = first;
        while (last < end && elements > 0 && groupable(device, &tasks[last], elements)) last++;
        if (last - first >= FEWEST)
            groups[found++] = (fv_group){ .first = first,
                                          .count = last - first,
                                          .algorithm = "elementwise, by blocks of 4096 elements" };
        first = last > first ? last : first + 1;
    }
    return found;
}

static int compare_groups(const void *a, const void *b) {
    return ((const fv_group *)a)->first < ((const fv_group *)b)->first ? -1 : 1;
}

/* There is room for as many groups as tasks. */
int fv_cpu_group(fv_device *device, const fv_task *tasks, int count, fv_group *groups, int capacity) {
    if (device->groups == FV_GROUPS_NONE || capacity < count) return 0;
    int blocks = device->set->blocks->claim(device, tasks, count, groups);
    if (blocks < 0) return blocks;
    int found = blocks, first = 0;
    for (int b = 0; b < blocks; b++) {
        found = group_elementwise(device, tasks, first, groups[b].first, groups, found);
        first = groups[b].first + groups[b].count;
    }
    found = group_elementwise(device, tasks, first, count, groups, found);
    qsort(groups, (size_t)found, sizeof *groups, compare_groups);
    return found;
}

/* Two operands may lie in the same place or apart. If they overlap otherwise (the planner gave a later value part of
 * the room of one that dies within the run), a block would overwrite what the next block still reads. */
static bool overlap(const fv_tensor *a, const fv_tensor *b) {
    const float *p = a->data, *q = b->data;
    return p && q && p != q && p < q + fv_elements(b) && q < p + fv_elements(a);
}
static bool independent(const fv_task *tasks, const fv_group *group) {
    for (int writer = group->first; writer < group->first + group->count; writer++)
        for (int other = group->first; other < group->first + group->count; other++) {
            if (overlap(&tasks[writer].output[0], &tasks[other].output[0])) return false;
            for (int i = 0; i < tasks[other].input_count; i++)
                if (overlap(&tasks[writer].output[0], &tasks[other].input[i])) return false;
        }
    return true;
}

typedef struct group_run {
    const fv_device *device;
    const fv_task *tasks;
    int count;
    int64_t elements;
} group_run;

static void run_blocks(const void *argument, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const group_run *run = argument;
    for (int64_t block = begin; block < end; block++)
        for (int i = 0; i < run->count; i++)
            if (run->tasks[i].output[0].data)
                run->device->set->kernel[run->tasks[i].op]->range(&run->tasks[i], block * BLOCK,
                                                                  least((block + 1) * BLOCK, run->elements));
}

int fv_cpu_group_run(fv_device *device, const fv_task *tasks, const fv_group *group) {
    if (group->kept) return device->set->blocks->run(device, group);
    group_run run = { device, tasks + group->first, group->count, fv_elements(&tasks[group->first].output[0]) };
    if (independent(tasks, group)) {
        fv_parallel(device, div_up(run.elements, BLOCK), BLOCK_GRAIN, run_blocks, &run);
        return FV_OK;
    }
    int status = FV_OK;
    for (int i = 0; i < run.count && !status; i++)
        status = device->set->kernel[run.tasks[i].op]->kernel.run(device, &run.tasks[i]);
    return status;
}

void fv_cpu_group_release(fv_device *device, fv_group *group) {
    if (group->kept) device->set->blocks->release(device, group);
}
