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

/* ---- Slice: a box of a larger tensor ----------------------------------------------------------------------------- */
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

/* ---- Pad: the last axis that is padded is a row of stretches, of which the middle one lies in the input -------------- */
typedef struct pad_run {
    const fv_task *task;
    int axis;
    int64_t size, before, after; /* of that axis in the input, and around it */
    size_t inner;                /* bytes of one position of it */
} pad_run;

static void fill_stretch(char *to, const fv_tensor *y, float value, size_t bytes) {
    int32_t word = (int32_t)value;
    if (y->type == FV_F32) memcpy(&word, &value, sizeof word);
    if (type_bytes(y->type) < 4 || word == 0)
        memset(to, (int)value, bytes);
    else
        for (size_t i = 0; i < bytes; i += 4) memcpy(to + i, &word, 4);
}
/* Where position i of the padded axis, counted from the input's first, comes from; -1: from nowhere. */
static int64_t pad_source(int mode, int64_t i, int64_t size) {
    if (i >= 0 && i < size) return i;
    switch (mode) {
    case FV_PAD_REFLECT: return i < 0 ? -i : 2 * (size - 1) - i;
    case FV_PAD_REPLICATE: return i < 0 ? 0 : size - 1;
    case FV_PAD_CIRCULAR: return i < 0 ? i + size : i - size;
    default: return -1;
    }
}
/* The input's row that row i of the result shows; -1: none. */
static int64_t source_row(const pad_run *run, int64_t i) {
    const fv_pad_attributes *a = &run->task->attributes->pad;
    const fv_tensor *x = &run->task->input[0], *y = &run->task->output[0];
    int64_t row = 0, stride = 1;
    for (int axis = run->axis - 1; axis >= 0; axis--) {
        int64_t source = pad_source(a->mode, i % y->dim[axis] - a->before[axis], x->dim[axis]);
        if (source < 0) return -1;
        row += source * stride;
        stride *= x->dim[axis];
        i /= y->dim[axis];
    }
    return row;
}
static void pad_rows(const void *argument, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const pad_run *run = argument;
    const fv_tensor *x = &run->task->input[0], *y = &run->task->output[0];
    const fv_pad_attributes *a = &run->task->attributes->pad;
    size_t inner = run->inner, left = (size_t)run->before * inner, right = (size_t)run->after * inner,
           middle = (size_t)run->size * inner, row = left + middle + right;
    for (int64_t i = begin; i < end; i++) {
        int64_t source = source_row(run, i);
        char *to = (char *)y->data + (size_t)i * row;
        const char *from = (const char *)x->data + (size_t)most(source, 0) * middle;
        if (source < 0) {
            fill_stretch(to, y, a->value, row);
            continue;
        }
        copy_stretch(to + left, from, middle);
        if (a->mode == FV_PAD_CONSTANT) {
            fill_stretch(to, y, a->value, left);
            fill_stretch(to + left + middle, y, a->value, right);
            continue;
        }
        for (int64_t p = -run->before; p < 0; p++)
            copy_stretch(to + left + p * (int64_t)inner, from + (size_t)pad_source(a->mode, p, run->size) * inner,
                         inner);
        for (int64_t p = run->size; p < run->size + run->after; p++)
            copy_stretch(to + left + (size_t)p * inner, from + (size_t)pad_source(a->mode, p, run->size) * inner,
                         inner);
    }
}
static int pad_run_all(fv_device *device, const fv_task *task) {
    const fv_tensor *x = &task->input[0], *y = &task->output[0];
    const fv_pad_attributes *a = &task->attributes->pad;
    pad_run run = { .task = task, .axis = x->rank - 1, .size = 1, .inner = type_bytes(x->type) };
    while (run.axis > 0 && !a->before[run.axis] && !a->after[run.axis]) run.axis--;
    if (run.axis >= 0) {
        run.size = x->dim[run.axis], run.before = a->before[run.axis], run.after = a->after[run.axis];
        run.inner *= (size_t)span(x, run.axis + 1, x->rank);
    }
    fv_parallel(device, span(y, 0, run.axis), grain_of((size_t)(run.size + run.before + run.after) * run.inner),
                pad_rows, &run);
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
const fv_cpu_kernel KERNEL(pad) = { { .run = pad_run_all }, NULL };
const fv_cpu_kernel KERNEL(broadcast) = { { .run = broadcast_run }, NULL };
