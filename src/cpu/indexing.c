/* indexing.c - gather, scatter_add, one_hot, top_k. The axes about the one indexed are [batch, outer, axis, inner], the
 * numbers [batch, count]. */
#include "cpu/cpu.h"
#include "cpu/simd.h"

typedef struct index_run {
    const fv_task *task;
    const int32_t *number;
    int64_t rows, outer, size, inner, count; /* rows: batch x outer */
    int64_t parts;                           /* of the axis that scatter_add fills */
} index_run;

static int64_t span(const fv_tensor *t, int first, int last) {
    int64_t n = 1;
    for (int i = first; i < last; i++) n *= t->dim[i];
    return n;
}
/* whole: the tensor that has the axis in full. */
static index_run make_index(const fv_task *task, const fv_tensor *whole, const fv_tensor *numbers) {
    const fv_gather_attributes *a = &task->attributes->gather;
    return (index_run){ .task = task,
                        .number = numbers->data,
                        .rows = span(whole, 0, a->axis),
                        .outer = span(whole, a->batch, a->axis),
                        .size = whole->dim[a->axis],
                        .inner = span(whole, a->axis + 1, whole->rank),
                        .count = span(numbers, a->batch, numbers->rank) };
}
static bool is_within(int32_t number, int64_t size) { return number >= 0 && number < size; }

/* ---- Gather ------------------------------------------------------------------------------------------------------ */
/* From element `from` of the row and count on. One element each is a loop of its own. */
static void gather_floats(const index_run *run, int64_t begin, int64_t end) {
    const float *x = run->task->input[0].data;
    float *y = run->task->output[0].data;
    for (int64_t u = begin; u < end;) {
        int64_t row = u / run->count, k = u % run->count, stop = least(run->count, k + end - u);
        const int32_t *number = run->number + row / run->outer * run->count;
        const float *from = x + row * run->size * run->inner;
        for (; k < stop; k++, u++) {
            float *to = y + u * run->inner;
            if (run->inner == 1)
                *to = is_within(number[k], run->size) ? from[number[k]] : 0.0f;
            else if (is_within(number[k], run->size))
                copy_floats(to, from + number[k] * run->inner, run->inner);
            else
                zero_floats(to, run->inner);
        }
    }
}
static void gather_bytes(const index_run *run, int64_t begin, int64_t end, size_t element) {
    size_t bytes = (size_t)run->inner * element;
    for (int64_t u = begin; u < end; u++) {
        int64_t row = u / run->count;
        int32_t number = run->number[row / run->outer * run->count + u % run->count];
        char *to = (char *)run->task->output[0].data + (size_t)u * bytes;
        if (is_within(number, run->size))
            memcpy(to, (const char *)run->task->input[0].data + (size_t)(row * run->size + number) * bytes, bytes);
        else
            memset(to, 0, bytes);
    }
}
static void gather_units(const void *argument, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const index_run *run = argument;
    size_t element = type_bytes(run->task->input[0].type);
    if (element == 4)
        gather_floats(run, begin, end);
    else
        gather_bytes(run, begin, end, element);
}
static int gather_run(fv_device *device, const fv_task *task) {
    index_run run = make_index(task, &task->input[0], &task->input[1]);
    fv_parallel(device, run.rows * run.count, 8192 / run.inner + 1, gather_units, &run);
    return FV_OK;
}
const fv_cpu_kernel KERNEL(gather) = { { .run = gather_run }, NULL };

/* ---- Scatter: each part of the axis looks through all numbers and adds those that are its own, in their order ---- */
static void scatter_parts(const void *argument, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const index_run *run = argument;
    for (int64_t u = begin; u < end; u++) {
        int64_t row = u / run->parts, part = u % run->parts;
        int64_t first = run->size * part / run->parts, last = run->size * (part + 1) / run->parts;
        const int32_t *number = run->number + row / run->outer * run->count;
        const float *values = (const float *)run->task->input[1].data + row * run->count * run->inner;
        float *y = (float *)run->task->output[0].data + row * run->size * run->inner;
        zero_floats(y + first * run->inner, (last - first) * run->inner);
        for (int64_t k = 0; k < run->count; k++) {
            if (number[k] < first || number[k] >= last) continue;
            float *to = y + number[k] * run->inner;
            const float *from = values + k * run->inner;
            int64_t i = 0;
            for (; i + LANES <= run->inner; i += LANES) store(to + i, load(to + i) + load(from + i));
            for (; i < run->inner; i++) to[i] += from[i];
        }
    }
}
static int scatter_run(fv_device *device, const fv_task *task) {
    index_run run = make_index(task, &task->output[0], &task->input[0]);
    run.parts = least(run.size, most(1, least(64, run.inner / 4))); /* looking costs little beside adding */
    int64_t units = run.rows * run.parts, work = run.rows * (run.size + run.count) * run.inner;
    fv_parallel(device, units, 8192 * units / work + 1, scatter_parts, &run);
    return FV_OK;
}
const fv_cpu_kernel KERNEL(scatter_add) = { { .run = scatter_run }, NULL };

/* ---- One-hot ----------------------------------------------------------------------------------------------------- */
static void one_hot_rows(const void *argument, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const fv_task *task = argument;
    const int32_t *number = task->input[0].data;
    int64_t size = task->attributes->gather.size;
    float *y = (float *)task->output[0].data + begin * size;
    zero_floats(y, (end - begin) * size);
    for (int64_t k = begin; k < end; k++, y += size)
        if (is_within(number[k], size)) y[number[k]] = 1;
}
static int one_hot_run(fv_device *device, const fv_task *task) {
    fv_parallel(device, fv_elements(&task->input[0]), 16384 / task->attributes->gather.size + 1, one_hot_rows, task);
    return FV_OK;
}
const fv_cpu_kernel KERNEL(one_hot) = { { .run = one_hot_run }, NULL };

/* ---- The k largest: a heap of those found so far, the least of them on top --------------------------------------- */
/* Floats as integers of the same order: NaN largest, the two zeros equal. */
typedef struct ranked {
    int32_t key, number;
} ranked;

static int32_t key_of(float x) {
    int32_t bits;
    memcpy(&bits, &x, 4);
    return x != x ? INT32_MAX : x == 0.0f ? 0 : bits ^ (bits >> 31 & INT32_MAX);
}
static bool is_below(ranked a, ranked b) { return a.key < b.key || (a.key == b.key && a.number > b.number); }

/* Puts `item` at place i of a heap and lets it sink. */
static void sink(ranked *heap, int64_t count, int64_t i, ranked item) {
    for (int64_t child; (child = 2 * i + 1) < count; i = child) {
        if (child + 1 < count && is_below(heap[child + 1], heap[child])) child++;
        if (!is_below(heap[child], item)) break;
        heap[i] = heap[child];
    }
    heap[i] = item;
}
static void find_largest(const float *x, int64_t n, int64_t k, ranked *heap) {
    for (int64_t i = 0; i < k; i++) heap[i] = (ranked){ key_of(x[i]), (int32_t)i };
    for (int64_t i = k / 2 - 1; i >= 0; i--) sink(heap, k, i, heap[i]);
    for (int64_t i = k; i < n;) {
        float least_one = x[heap[0].number];
        for (; i + LANES <= n && none_of((load(x + i) > least_one) | (load(x + i) != load(x + i))); i += LANES) {}
        for (int64_t stop = least(n, i + LANES); i < stop; i++) {
            ranked item = { key_of(x[i]), (int32_t)i };
            if (item.key > heap[0].key) sink(heap, k, 0, item);
        }
    }
    for (int64_t count = k - 1; count > 0; count--) { /* the least goes last */
        ranked least_one = heap[0];
        sink(heap, count, 0, heap[count]);
        heap[count] = least_one;
    }
}
static void top_k_rows(const void *argument, int64_t begin, int64_t end, int thread) {
    const fv_task *task = argument;
    int64_t n = columns_of(&task->input[0]), k = task->attributes->top_k.k;
    ranked *heap = (ranked *)task->scratch + thread * k;
    for (int64_t row = begin; row < end; row++) {
        const float *x = (const float *)task->input[0].data + row * n;
        float *values = task->output[0].data;
        int32_t *numbers = task->output[1].data;
        find_largest(x, n, k, heap);
        for (int64_t i = 0; i < k && values; i++) values[row * k + i] = x[heap[i].number];
        for (int64_t i = 0; i < k && numbers; i++) numbers[row * k + i] = heap[i].number;
    }
}
static int top_k_prepare(fv_device *device, fv_task *task) {
    task->scratch_bytes = (size_t)device->threads * (size_t)task->attributes->top_k.k * sizeof(ranked);
    return FV_OK;
}
static int top_k_run(fv_device *device, const fv_task *task) {
    fv_parallel(device, rows_of(&task->input[0]), 4096 / columns_of(&task->input[0]) + 1, top_k_rows, task);
    return FV_OK;
}
const fv_cpu_kernel KERNEL(top_k) = { { .prepare = top_k_prepare, .run = top_k_run }, NULL };
