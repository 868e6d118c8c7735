/* pooling.c - maximum and average over windows, and their gradients, vectors running across the channels. Gradients
 * are gathered: every cell of the image asks the windows that hold it, so nothing is written twice and rows may be
 * worked on in any order. */
#include "cpu/cpu.h"
#include "cpu/simd.h"

/* Cells of window o that lie in the image, along one axis: first .. last-1, counted from `begin` on (which may be
 * negative). */
typedef struct window {
    int64_t begin, first, last;
} window;

static window window_at(const fv_pool_attributes *a, int axis, int64_t o, int64_t size) {
    int64_t outputs = a->output[axis]; /* adaptive */
    if (outputs) return (window){ o * size / outputs, o * size / outputs, div_up((o + 1) * size, outputs) };
    int64_t begin = o * a->stride[axis] - a->pad[2 * axis];
    return (window){ begin, most(begin, 0), least(begin + a->kernel[axis], size) };
}
/* Cells that count in an average: those of the image, or of the image and its padding. */
static int64_t counted_cells(const fv_pool_attributes *a, int axis, int64_t o, int64_t size) {
    if (a->output[axis]) {
        window w = window_at(a, axis, o, size);
        return w.last - w.first;
    }
    int64_t begin = o * a->stride[axis] - a->pad[2 * axis], end = begin + a->kernel[axis];
    begin = most(begin, a->exclude_padding ? 0 : -a->pad[2 * axis]);
    return most(0, least(end, a->exclude_padding ? size : size + a->pad[2 * axis + 1]) - begin);
}
/* Windows that hold coordinate i of the image: first .. last-1. */
static window holders(const fv_pool_attributes *a, int axis, int64_t i, int64_t outputs, int64_t size) {
    if (a->output[axis]) return (window){ 0, i * outputs / size, div_up((i + 1) * outputs, size) };
    int64_t reach = i + a->pad[2 * axis], before = reach - a->kernel[axis];
    return (window){ 0, before < 0 ? 0 : before / a->stride[axis] + 1, least(outputs, reach / a->stride[axis] + 1) };
}
/* The same for the coordinate after the one that w is for; strided windows need no division. */
INLINE void next_holders(const fv_pool_attributes *a, int axis, int64_t i, int64_t outputs, int64_t size, window *w) {
    if (a->output[axis]) {
        *w = holders(a, axis, i, outputs, size);
        return;
    }
    int64_t reach = i + a->pad[2 * axis];
    while (w->first < outputs && w->first * a->stride[axis] + a->kernel[axis] <= reach) w->first++;
    while (w->last < outputs && w->last * a->stride[axis] <= reach) w->last++;
}

/* Rows of the result: [images * height], with the work of a row for the grain. */
static void for_rows(fv_device *device, const fv_task *task, const fv_tensor *result, fv_part *part) {
    int64_t row = result->dim[2] * result->dim[3];
    fv_parallel(device, result->dim[0] * result->dim[1], 4096 / (row + 1) + 1, part, task);
}

/* ---- Maximum ----------------------------------------------------------------------------------------------------- */
INLINE void store_index(const fv_tensor *index, int64_t at, vi where, int64_t left) {
    if (index->type == FV_U8)
        store_bytes_up_to((uint8_t *)index->data + at, where, left);
    else
        store_int_up_to((int32_t *)index->data + at, where, left);
}
INLINE vi load_index(const fv_tensor *index, int64_t at, const fv_type type, int64_t left) {
    return type == FV_U8 ? load_bytes_up_to((const uint8_t *)index->data + at, left)
                         : load_int_up_to((const int32_t *)index->data + at, left);
}

/* Of cell (i, j): in its window, or in an image so wide. The next cell of the row has the next number. */
INLINE int32_t cell_number(const fv_pool_attributes *a, window v, window h, int64_t i, int64_t j, int64_t width) {
    return (int32_t)(a->flat ? i * width + j : (i - v.begin) * a->kernel[1] + j - h.begin);
}

/* Channels c .. of one window: the largest value and the cell it lies in. whole: all lanes are channels. */
INLINE void max_window(const fv_task *task, const float *image, window v, window h, int64_t at, int64_t c,
                       const bool whole) {
    const fv_pool_attributes *a = &task->attributes->pool;
    int64_t channels = task->input[0].dim[3], row = task->input[0].dim[2] * channels,
            left = whole ? LANES : channels - c;
    vf best = splat(-__builtin_inff());
    vi where = { 0 };
    bool first = true;
    for (int64_t i = v.first; i < v.last; i++) {
        const float *from = image + i * row + h.first * channels + c;
        int32_t cell = cell_number(a, v, h, i, h.first, task->input[0].dim[2]);
        for (int64_t j = h.first; j < h.last; j++, from += channels, cell++) {
            vf value = whole ? load(from) : load_part(from, (int)left);
            vi wins = ~(value <= best) & (best == best); /* larger, or the first that is not a number */
            if (first) wins = ~(vi){ 0 };
            first = false;
            best = choose(wins, value, best);
            where = choose_int(wins, splat_int(cell), where);
        }
    }
    if (task->output[0].data) store_up_to((float *)task->output[0].data + at + c, best, left);
    if (task->output[1].data) store_index(&task->output[1], at + c, where, left);
}
static void max_rows(const void *argument, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const fv_task *task = argument;
    const fv_pool_attributes *a = &task->attributes->pool;
    const fv_tensor *x = &task->input[0], *y = &task->output[0];
    int64_t channels = x->dim[3], width = x->dim[2];
    for (int64_t row = begin; row < end; row++) {
        window v = window_at(a, 0, row % y->dim[1], x->dim[1]);
        const float *image = (const float *)x->data + row / y->dim[1] * x->dim[1] * width * channels;
        for (int64_t q = 0; q < y->dim[2]; q++) {
            window h = window_at(a, 1, q, width);
            int64_t at = (row * y->dim[2] + q) * channels, c = 0;
            for (; c + LANES <= channels; c += LANES) max_window(task, image, v, h, at, c, true);
            if (c < channels) max_window(task, image, v, h, at, c, false);
        }
    }
}
static int max_run(fv_device *device, const fv_task *task) {
    for_rows(device, task, &task->output[0], max_rows);
    return FV_OK;
}

/* Channels c .. of one cell (i, j): what comes from the windows that hold it. */
INLINE vf held_maxima(const fv_task *task, int64_t image, int64_t i, int64_t j, window v, window h, int64_t c,
                      const fv_type type, int64_t left) {
    const fv_pool_attributes *a = &task->attributes->pool;
    const fv_tensor *dy = &task->input[1];
    int64_t channels = dy->dim[3];
    const int32_t step = a->flat ? 0 : a->stride[1]; /* from one window to the next */
    vf sum = { 0 };
    for (int64_t p = v.first; p < v.last; p++) {
        int64_t at = ((image + p) * dy->dim[2] + h.first) * channels + c;
        window up = { p * a->stride[0] - a->pad[0], 0, 0 }, along = { h.first * a->stride[1] - a->pad[2], 0, 0 };
        int32_t cell = cell_number(a, up, along, i, j, task->output[0].dim[2]);
        for (int64_t q = h.first; q < h.last; q++, at += channels, cell -= step) {
            vi mine = load_index(&task->input[0], at, type, left) == cell;
            sum += keep_if(mine, load_up_to((const float *)dy->data + at, left));
        }
    }
    return sum;
}
INLINE void max_gradient_row(const fv_task *task, int64_t row, const fv_type type) {
    const fv_pool_attributes *a = &task->attributes->pool;
    const fv_tensor *dy = &task->input[1], *dx = &task->output[0];
    int64_t channels = dx->dim[3], i = row % dx->dim[1], image = row / dx->dim[1] * dy->dim[1];
    window v = holders(a, 0, i, dy->dim[1], dx->dim[1]), h = holders(a, 1, 0, dy->dim[2], dx->dim[2]);
    for (int64_t j = 0; j < dx->dim[2]; j++) {
        next_holders(a, 1, j, dy->dim[2], dx->dim[2], &h);
        float *out = (float *)dx->data + (row * dx->dim[2] + j) * channels;
        int64_t c = 0;
        for (; c + LANES <= channels; c += LANES) store(out + c, held_maxima(task, image, i, j, v, h, c, type, LANES));
        if (c < channels)
            store_part(out + c, held_maxima(task, image, i, j, v, h, c, type, channels - c), (int)(channels - c));
    }
}
static void max_gradient_rows(const void *argument, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const fv_task *task = argument;
    for (int64_t row = begin; row < end; row++) {
        if (task->input[0].type == FV_U8)
            max_gradient_row(task, row, FV_U8);
        else
            max_gradient_row(task, row, FV_I32);
    }
}
static int max_gradient_run(fv_device *device, const fv_task *task) {
    for_rows(device, task, &task->output[0], max_gradient_rows);
    return FV_OK;
}

/* Channels c .. of one window: what lies in the cell that the index names. */
INLINE vf picked(const fv_task *task, const float *image, window v, window h, int64_t at, const fv_type type,
                 int64_t left) {
    const fv_tensor *dy = &task->input[1];
    int64_t channels = dy->dim[3];
    vi where = load_index(&task->input[0], at, type, left);
    vf found = { 0 };
    for (int64_t i = v.first; i < v.last; i++) {
        const float *from = image + (i * dy->dim[2] + h.first) * channels;
        int32_t cell = cell_number(&task->attributes->pool, v, h, i, h.first, dy->dim[2]);
        for (int64_t j = h.first; j < h.last; j++, from += channels, cell++)
            found = choose(where == cell, load_up_to(from, left), found);
    }
    return found;
}
INLINE void unpool_gradient_row(const fv_task *task, int64_t row, const fv_type type) {
    const fv_pool_attributes *a = &task->attributes->pool;
    const fv_tensor *dy = &task->input[1], *dx = &task->output[0];
    int64_t channels = dx->dim[3], image = row / dx->dim[1] * dy->dim[1] * dy->dim[2] * channels;
    window v = window_at(a, 0, row % dx->dim[1], dy->dim[1]);
    for (int64_t q = 0; q < dx->dim[2]; q++) {
        window h = window_at(a, 1, q, dy->dim[2]);
        int64_t at = (row * dx->dim[2] + q) * channels;
        for (int64_t c = 0; c < channels; c += LANES) {
            const float *from = (const float *)dy->data + image + c;
            store_up_to((float *)dx->data + at + c, picked(task, from, v, h, at + c, type, channels - c), channels - c);
        }
    }
}
static void unpool_gradient_rows(const void *argument, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const fv_task *task = argument;
    for (int64_t row = begin; row < end; row++) {
        if (task->input[0].type == FV_U8)
            unpool_gradient_row(task, row, FV_U8);
        else
            unpool_gradient_row(task, row, FV_I32);
    }
}
static int unpool_gradient_run(fv_device *device, const fv_task *task) {
    for_rows(device, task, &task->output[0], unpool_gradient_rows);
    return FV_OK;
}

/* ---- Average ----------------------------------------------------------------------------------------------------- */
INLINE vf window_sum(const float *image, int64_t row, int64_t channels, window v, window h, int64_t left) {
    vf sum = { 0 };
    if (v.last - v.first == 2 && h.last - h.first == 2) { /* the usual case, without loops */
        const float *at = image + v.first * row + h.first * channels;
        return load_up_to(at, left) + load_up_to(at + channels, left) + load_up_to(at + row, left) +
               load_up_to(at + row + channels, left);
    }
    for (int64_t i = v.first; i < v.last; i++)
        for (int64_t j = h.first; j < h.last; j++) sum += load_up_to(image + i * row + j * channels, left);
    return sum;
}
static void avg_rows(const void *argument, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const fv_task *task = argument;
    const fv_pool_attributes *a = &task->attributes->pool;
    const fv_tensor *x = &task->input[0], *y = &task->output[0];
    int64_t channels = x->dim[3], width = x->dim[2];
    for (int64_t row = begin; row < end; row++) {
        int64_t p = row % y->dim[1], cells = counted_cells(a, 0, p, x->dim[1]);
        window v = window_at(a, 0, p, x->dim[1]);
        const float *image = (const float *)x->data + row / y->dim[1] * x->dim[1] * width * channels;
        for (int64_t q = 0; q < y->dim[2]; q++) {
            window h = window_at(a, 1, q, width);
            float *out = (float *)y->data + (row * y->dim[2] + q) * channels;
            float scale = 1.0f / (float)most(1, cells * counted_cells(a, 1, q, width));
            int64_t c = 0;
            for (; c + LANES <= channels; c += LANES)
                store(out + c, window_sum(image + c, width * channels, channels, v, h, LANES) * scale);
            if (c < channels)
                store_part(out + c, window_sum(image + c, width * channels, channels, v, h, channels - c) * scale,
                           (int)(channels - c));
        }
    }
}
static int avg_run(fv_device *device, const fv_task *task) {
    for_rows(device, task, &task->output[0], avg_rows);
    return FV_OK;
}

/* Windows side by side: each writes its own stretch of the row. */
static void avg_gradient_apart(const fv_task *task, int64_t row, int64_t p, float *out) {
    const fv_pool_attributes *a = &task->attributes->pool;
    const fv_tensor *dy = &task->input[0], *dx = &task->output[0];
    int64_t channels = dx->dim[3], cells = counted_cells(a, 0, p, dx->dim[1]), done = 0;
    const float *from = (const float *)dy->data + (row / dx->dim[1] * dy->dim[1] + p) * dy->dim[2] * channels;
    for (int64_t q = 0; q < dy->dim[2]; q++, from += channels) {
        window h = window_at(a, 1, q, dx->dim[2]);
        if (h.first > done) zero_floats(out + done * channels, (h.first - done) * channels);
        float scale = 1.0f / (float)most(1, cells * counted_cells(a, 1, q, dx->dim[2]));
        for (int64_t c = 0; c < channels; c += LANES) {
            vf g = load_up_to(from + c, channels - c) * scale;
            for (int64_t j = h.first; j < h.last; j++) store_up_to(out + j * channels + c, g, channels - c);
        }
        done = most(done, h.last);
    }
    zero_floats(out + done * channels, (dx->dim[2] - done) * channels);
}
static void avg_gradient_row(const fv_task *task, int64_t row, window v, float *out) {
    const fv_pool_attributes *a = &task->attributes->pool;
    const fv_tensor *dy = &task->input[0], *dx = &task->output[0];
    int64_t channels = dx->dim[3], image = row / dx->dim[1] * dy->dim[1];
    window h = holders(a, 1, 0, dy->dim[2], dx->dim[2]);
    for (int64_t j = 0; j < dx->dim[2]; j++) {
        next_holders(a, 1, j, dy->dim[2], dx->dim[2], &h);
        for (int64_t c = 0; c < channels; c += LANES) {
            vf sum = { 0 };
            for (int64_t p = v.first; p < v.last; p++)
                for (int64_t q = h.first; q < h.last; q++) {
                    int64_t cells = counted_cells(a, 0, p, dx->dim[1]) * counted_cells(a, 1, q, dx->dim[2]);
                    const float *from = (const float *)dy->data + ((image + p) * dy->dim[2] + q) * channels + c;
                    sum += load_up_to(from, channels - c) * (1.0f / (float)cells);
                }
            store_up_to(out + j * channels + c, sum, channels - c);
        }
    }
}
static void avg_gradient_rows(const void *argument, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const fv_task *task = argument;
    const fv_pool_attributes *a = &task->attributes->pool;
    const fv_tensor *dx = &task->output[0];
    int64_t floats = dx->dim[2] * dx->dim[3];
    bool apart = !a->output[1] && a->stride[1] >= a->kernel[1];
    window before = { 0, -1, -1 };
    for (int64_t row = begin; row < end; row++) { /* rows held by the same windows are the same */
        window v = holders(a, 0, row % dx->dim[1], task->input[0].dim[1], dx->dim[1]);
        float *out = (float *)dx->data + row * floats;
        if (row > begin && row % dx->dim[1] && v.first == before.first && v.last == before.last)
            copy_floats(out, out - floats, floats);
        else if (apart && v.last == v.first + 1)
            avg_gradient_apart(task, row, v.first, out);
        else
            avg_gradient_row(task, row, v, out);
        before = v;
    }
}
static int avg_gradient_run(fv_device *device, const fv_task *task) {
    for_rows(device, task, &task->output[0], avg_gradient_rows);
    return FV_OK;
}
const fv_cpu_kernel KERNEL(max_pool2d) = { { .run = max_run }, NULL };
const fv_cpu_kernel KERNEL(max_pool2d_gradient) = { { .run = max_gradient_run }, NULL };
const fv_cpu_kernel KERNEL(max_unpool2d_gradient) = { { .run = unpool_gradient_run }, NULL };
const fv_cpu_kernel KERNEL(avg_pool2d) = { { .run = avg_run }, NULL };
const fv_cpu_kernel KERNEL(avg_pool2d_gradient) = { { .run = avg_gradient_run }, NULL };
