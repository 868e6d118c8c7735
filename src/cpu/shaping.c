/* shaping.c - operations that move elements of any type: concat, slice, pad, broadcast. Each is a list of stretches
 * of memory, as long as the trailing axes that are taken whole allow. */
#include "cpu/cpu.h"
#include "cpu/simd.h"

static int64_t span(const fv_tensor *t, int first, int last) {
    int64_t n = 1;
    for (int i = first; i < last; i++) n *= t->dim[i];
    return n;
}
static void copy_stretch(char *to, const char *from, size_t bytes) {
    if (bytes <= 1024 && (bytes | (uintptr_t)to | (uintptr_t)from) % 4 == 0)
        copy_floats((float *)to, (const float *)from, (int64_t)bytes / 4);
    else
        memcpy(to, from, bytes);
}
static int64_t grain_of(size_t bytes) { return 32768 / (int64_t)(bytes + 1) + 1; }

/* ---- Concat: for every index of the axes before, the inputs one after the other ---------------------------------- */
static void concat_outer(const void *argument, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const fv_task *task = argument;
    const fv_tensor *y = &task->output[0];
    int axis = task->attributes->axis.axis;
    size_t element = type_bytes(y->type), row = (size_t)span(y, axis, y->rank) * element;
    for (int64_t o = begin; o < end; o++) {
        char *to = (char *)y->data + (size_t)o * row;
        for (int i = 0; i < task->input_count; i++) {
            size_t bytes = (size_t)span(&task->input[i], axis, y->rank) * element;
            copy_stretch(to, (const char *)task->input[i].data + (size_t)o * bytes, bytes);
            to += bytes;
        }
    }
}
static int concat_run(fv_device *device, const fv_task *task) {
    const fv_tensor *y = &task->output[0];
    int axis = task->attributes->axis.axis;
    fv_parallel(device, span(y, 0, axis), grain_of((size_t)span(y, axis, y->rank) * type_bytes(y->type)), concat_outer,
                task);
    return FV_OK;
}

/* ---- Slice and pad: a box of a larger tensor, read or written ---------------------------------------------------- */
/* Rows of the box: its axes up to `axis`; the rest of a row is one stretch. */
typedef struct box_run {
    const fv_task *task;
    const fv_tensor *whole, *box;
    int64_t begin[FV_RANK];
    int axis;
    int64_t rows;
    size_t bytes;
} box_run;

static box_run make_box(const fv_task *task, const fv_tensor *whole, const fv_tensor *box, const int64_t *begin) {
    box_run run = { .task = task, .whole = whole, .box = box, .axis = box->rank - 1 };
    for (int i = 0; i < box->rank; i++) run.begin[i] = begin[i];
    while (run.axis > 0 && box->dim[run.axis] == whole->dim[run.axis]) run.axis--;
    if (run.axis < 0) run.axis = 0;
    run.rows = span(box, 0, run.axis);
    run.bytes = (size_t)span(box, run.axis, box->rank) * type_bytes(box->type);
    return run;
}
/* Where row i of the box lies in the whole, in elements. */
static int64_t box_offset(const box_run *run, int64_t i) {
    int64_t stride = span(run->whole, run->axis, run->whole->rank);
    int64_t offset = run->whole->rank ? run->begin[run->axis] * span(run->whole, run->axis + 1, run->whole->rank) : 0;
    for (int axis = run->axis - 1; axis >= 0; axis--) {
        offset += (i % run->box->dim[axis] + run->begin[axis]) * stride;
        i /= run->box->dim[axis];
        stride *= run->whole->dim[axis];
    }
    return offset;
}
static void slice_rows(const void *argument, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const box_run *run = argument;
    size_t element = type_bytes(run->box->type);
    for (int64_t i = begin; i < end; i++)
        copy_stretch((char *)run->box->data + (size_t)i * run->bytes,
                     (const char *)run->whole->data + (size_t)box_offset(run, i) * element, run->bytes);
}
static int slice_run(fv_device *device, const fv_task *task) {
    box_run run = make_box(task, &task->input[0], &task->output[0], task->attributes->slice.begin);
    fv_parallel(device, run.rows, grain_of(run.bytes), slice_rows, &run);
    return FV_OK;
}

static void zero_rows(const void *argument, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const fv_tensor *y = argument;
    size_t row = (size_t)span(y, 1, y->rank) * type_bytes(y->type);
    memset((char *)y->data + (size_t)begin * row, 0, (size_t)(end - begin) * row);
}
static void pad_rows(const void *argument, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const box_run *run = argument;
    size_t element = type_bytes(run->box->type);
    for (int64_t i = begin; i < end; i++)
        copy_stretch((char *)run->whole->data + (size_t)box_offset(run, i) * element,
                     (const char *)run->box->data + (size_t)i * run->bytes, run->bytes);
}
static int pad_run(fv_device *device, const fv_task *task) {
    const fv_tensor *y = &task->output[0];
    box_run run = make_box(task, y, &task->input[0], task->attributes->pad.before);
    if (y->rank)
        fv_parallel(device, y->dim[0], grain_of((size_t)span(y, 1, y->rank) * type_bytes(y->type)), zero_rows, y);
    fv_parallel(device, run.rows, grain_of(run.bytes), pad_rows, &run);
    return FV_OK;
}

/* ---- Broadcast: along the last axis a stretch is copied, or one element repeated --------------------------------- */
static void broadcast_rows(const void *argument, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const fv_task *task = argument;
    const fv_tensor *x = &task->input[0], *y = &task->output[0];
    size_t element = type_bytes(y->type);
    int64_t n = columns_of(y);
    bool repeated = x->rank < 1 || x->dim[x->rank - 1] != n;
    for (int64_t row = begin; row < end; row++) {
        int64_t rest = row, offset = 0, stride = columns_of(x);
        for (int axis = y->rank - 2, own = x->rank - 2; own >= 0; axis--, own--) {
            if (x->dim[own] != 1) offset += rest % y->dim[axis] * stride;
            stride *= x->dim[own];
            rest /= y->dim[axis];
        }
        char *to = (char *)y->data + (size_t)(row * n) * element;
        const char *from = (const char *)x->data + (size_t)offset * element;
        if (!repeated) {
            copy_stretch(to, from, (size_t)n * element);
        } else if (element == 4) {
            vf value = splat(*(const float *)from);
            for (int64_t i = 0; i < n; i += LANES) store_up_to((float *)to + i, value, n - i);
        } else {
            for (int64_t i = 0; i < n; i++) memcpy(to + (size_t)i * element, from, element);
        }
    }
}
static int broadcast_run(fv_device *device, const fv_task *task) {
    fv_parallel(device, rows_of(&task->output[0]), grain_of((size_t)columns_of(&task->output[0]) * 4), broadcast_rows,
                task);
    return FV_OK;
}
const fv_cpu_kernel KERNEL(concat) = { { .run = concat_run }, NULL };
const fv_cpu_kernel KERNEL(slice) = { { .run = slice_run }, NULL };
const fv_cpu_kernel KERNEL(pad) = { { .run = pad_run }, NULL };
const fv_cpu_kernel KERNEL(broadcast) = { { .run = broadcast_run }, NULL };
