/* pooling.c - maximum and average over windows of an image [n,h,w,c], and their gradients. The window of output row p
 * begins at input row p stride - padding, an adaptive one at floor(p h / outputs). Padding never wins a maximum: a
 * window that lies in the padding as a whole gives minus infinity (maximum) or zero (average without padding). */
#include "cpu/reference/reference.h"

typedef const fv_pool_attributes settings;

/* Window p along one axis, first .. last-1; it may reach beyond the image. */
static int64_t window_begin(settings *a, int axis, int64_t p, int64_t size) {
    return a->output[axis] ? p * size / a->output[axis] : p * a->stride[axis] - a->pad[2 * axis];
}
static int64_t window_end(settings *a, int axis, int64_t p, int64_t size) {
    const int64_t outputs = a->output[axis];
    return outputs ? ((p + 1) * size + outputs - 1) / outputs : window_begin(a, axis, p, size) + a->kernel[axis];
}

/* The first window that ends behind input position i. */
static int64_t first_holder(settings *a, int axis, int64_t i, int64_t size) {
    if (a->output[axis]) return i * a->output[axis] / size;
    const int64_t before = i + a->pad[2 * axis] - a->kernel[axis];
    return before < 0 ? 0 : before / a->stride[axis] + 1;
}

/* WINDOW(i, ..): i runs over the cells of window p that lie in the image; HOLDERS(p, ..): p over the windows that hold
 * position i. */
#define WINDOW(i, axis, p, size)                                                                                       \
    for (int64_t i = clamp(window_begin(a, axis, p, size), size), i##_end = clamp(window_end(a, axis, p, size), size); \
         i < i##_end; i++)
#define HOLDERS(p, axis, i, size, count)                                                                               \
    for (int64_t p = first_holder(a, axis, i, size); p < (count) && window_begin(a, axis, p, size) <= i; p++)

static int64_t clamp(int64_t i, int64_t size) { return i < 0 ? 0 : i > size ? size : i; }

/* Cells of a window along one axis that count in an average: those of the input, or of the input and its padding. In
 * ceil mode a window may reach beyond the padding; what lies there never counts. */
static int64_t window_cells(settings *a, int axis, int64_t p, int64_t size) {
    int64_t begin = window_begin(a, axis, p, size), end = window_end(a, axis, p, size);
    const int64_t first = a->exclude_padding ? 0 : -a->pad[2 * axis];
    const int64_t last = a->exclude_padding ? size : size + a->pad[2 * axis + 1];
    if (begin < first) begin = first;
    if (end > last) end = last;
    return end > begin ? end - begin : 0;
}

/* The number of cell (i, j) in window (p, q), or in the whole image. */
static int64_t cell(settings *a, const fv_tensor *x, int64_t p, int64_t q, int64_t i, int64_t j) {
    if (a->flat) return i * x->dim[2] + j;
    return (i - window_begin(a, 0, p, x->dim[1])) * a->kernel[1] + j - window_begin(a, 1, q, x->dim[2]);
}

static void set_index(const fv_tensor *index, int64_t i, int64_t value) {
    if (index->type == FV_U8) ((uint8_t *)index->data)[i] = (uint8_t)value;
    else ((int32_t *)index->data)[i] = (int32_t)value;
}

static int64_t get_index(const fv_tensor *index, int64_t i) {
    return index->type == FV_U8 ? ((const uint8_t *)index->data)[i] : ((const int32_t *)index->data)[i];
}

/* y[n,p,q,c] = max of x[n,i,j,c] over the cells (i,j) of window (p,q). The first maximum in row-major order wins, a NaN
 * wins over every number. */
KERNEL(max_pool2d) {
    settings *a = &task->attributes->pool;
    const fv_tensor *x = &task->input[0], *y = &task->output[0], *index = &task->output[1];

    EACH(n, y->dim[0]) EACH(p, y->dim[1]) EACH(q, y->dim[2]) EACH(c, y->dim[3]) {
        REAL best = (REAL)-INFINITY;
        int64_t where = -1;
        WINDOW(i, 0, p, x->dim[1]) WINDOW(j, 1, q, x->dim[2]) {
            const REAL value = AT(x, n, i, j, c);
            if (where < 0 || value > best || (isnan(value) && !isnan(best))) {
                best = value;
                where = cell(a, x, p, q, i, j);
            }
        }
        if (y->data) AT(y, n, p, q, c) = best;
        if (index->data) set_index(index, at4(y, n, p, q, c), where < 0 ? 0 : where);
    }
    return FV_OK;
}

/* dx[n,i,j,c] = sum of dy over the windows that have their maximum in (i,j) */
KERNEL(max_pool2d_gradient) {
    settings *a = &task->attributes->pool;
    const fv_tensor *index = &task->input[0], *dy = &task->input[1], *dx = &task->output[0];

    EACH(n, dx->dim[0]) EACH(i, dx->dim[1]) EACH(j, dx->dim[2]) EACH(c, dx->dim[3]) {
        double sum = 0;
        HOLDERS(p, 0, i, dx->dim[1], dy->dim[1]) HOLDERS(q, 1, j, dx->dim[2], dy->dim[2])
            if (get_index(index, at4(dy, n, p, q, c)) == cell(a, dx, p, q, i, j)) sum += AT(dy, n, p, q, c);
        AT(dx, n, i, j, c) = (REAL)sum;
    }
    return FV_OK;
}

/* dx[n,p,q,c] = dy at the cell where window (p,q) has its maximum; zero for a window without cells */
KERNEL(max_unpool2d_gradient) {
    settings *a = &task->attributes->pool;
    const fv_tensor *index = &task->input[0], *dy = &task->input[1], *dx = &task->output[0];

    EACH(n, dx->dim[0]) EACH(p, dx->dim[1]) EACH(q, dx->dim[2]) EACH(c, dx->dim[3]) {
        REAL found = 0;
        WINDOW(i, 0, p, dy->dim[1]) WINDOW(j, 1, q, dy->dim[2])
            if (get_index(index, at4(dx, n, p, q, c)) == cell(a, dy, p, q, i, j)) found = AT(dy, n, i, j, c);
        AT(dx, n, p, q, c) = found;
    }
    return FV_OK;
}

/* y[n,p,q,c] = sum of x[n,i,j,c] over the cells of window (p,q) / their number */
KERNEL(avg_pool2d) {
    settings *a = &task->attributes->pool;
    const fv_tensor *x = &task->input[0], *y = &task->output[0];

    EACH(n, y->dim[0]) EACH(p, y->dim[1]) EACH(q, y->dim[2]) EACH(c, y->dim[3]) {
        const int64_t cells = window_cells(a, 0, p, x->dim[1]) * window_cells(a, 1, q, x->dim[2]);
        double sum = 0;
        WINDOW(i, 0, p, x->dim[1]) WINDOW(j, 1, q, x->dim[2]) sum += AT(x, n, i, j, c);
        AT(y, n, p, q, c) = cells ? (REAL)(sum / (double)cells) : 0;
    }
    return FV_OK;
}

/* dx[n,i,j,c] = sum over the windows that hold (i,j) of dy / cells of the window */
KERNEL(avg_pool2d_gradient) {
    settings *a = &task->attributes->pool;
    const fv_tensor *dy = &task->input[0], *dx = &task->output[0];

    EACH(n, dx->dim[0]) EACH(i, dx->dim[1]) EACH(j, dx->dim[2]) EACH(c, dx->dim[3]) {
        double sum = 0;
        HOLDERS(p, 0, i, dx->dim[1], dy->dim[1]) HOLDERS(q, 1, j, dx->dim[2], dy->dim[2]) {
            const int64_t cells = window_cells(a, 0, p, dx->dim[1]) * window_cells(a, 1, q, dx->dim[2]);
            sum += AT(dy, n, p, q, c) / (double)cells;
        }
        AT(dx, n, i, j, c) = (REAL)sum;
    }
    return FV_OK;
}
