/* pooling.c - maximum and average over windows of an image [n,h,w,c], and their gradients. The window of output row p
 * begins at input row p stride - padding. Padding never wins a maximum: a window that lies in the padding as a whole
 * gives minus infinity (maximum) or zero (average without padding). */
#include "cpu/reference/reference.h"

static int64_t window_begin(const fv_pool_attributes *a, int axis, int64_t p) {
    return p * a->stride[axis] - a->pad[2 * axis];
}

/* The output position in whose window input position i is cell r, or -1 when there is none. */
static int64_t window_of(const fv_pool_attributes *a, int axis, int64_t i, int64_t r, int64_t outputs) {
    const int64_t distance = i + a->pad[2 * axis] - r;
    if (distance < 0 || distance % a->stride[axis] != 0) return -1;
    return distance / a->stride[axis] < outputs ? distance / a->stride[axis] : -1;
}

/* Cells of a window along one axis that count in an average: those of the input, or of the input and its padding. In
 * ceil mode a window may reach beyond the padding; what lies there never counts. */
static int64_t window_cells(const fv_pool_attributes *a, int axis, int64_t p, int64_t size) {
    int64_t begin = window_begin(a, axis, p), end = begin + a->kernel[axis];
    const int64_t first = a->exclude_padding ? 0 : -a->pad[2 * axis];
    const int64_t last = a->exclude_padding ? size : size + a->pad[2 * axis + 1];
    if (begin < first) begin = first;
    if (end > last) end = last;
    return end > begin ? end - begin : 0;
}

static void set_index(const fv_tensor *index, int64_t i, int64_t value) {
    if (index->type == FV_U8) ((uint8_t *)index->data)[i] = (uint8_t)value;
    else ((int32_t *)index->data)[i] = (int32_t)value;
}

static int64_t get_index(const fv_tensor *index, int64_t i) {
    return index->type == FV_U8 ? ((const uint8_t *)index->data)[i] : ((const int32_t *)index->data)[i];
}

/* y[n,p,q,c] = max over r, s of x[n, begin(p) + r, begin(q) + s, c]. The first maximum in the window's row-major order
 * wins, a NaN wins over every number; index = r kernel width + s. */
KERNEL(max_pool2d) {
    const fv_pool_attributes *a = &task->attributes->pool;
    const fv_tensor *x = &task->input[0], *y = &task->output[0], *index = &task->output[1];

    EACH(n, y->dim[0]) EACH(p, y->dim[1]) EACH(q, y->dim[2]) EACH(c, y->dim[3]) {
        REAL best = (REAL)-INFINITY;
        int64_t where = -1;
        EACH(r, a->kernel[0]) EACH(s, a->kernel[1]) {
            const int64_t i = window_begin(a, 0, p) + r, j = window_begin(a, 1, q) + s;
            if (!inside(i, x->dim[1]) || !inside(j, x->dim[2])) continue;
            const REAL value = AT(x, n, i, j, c);
            if (where < 0 || value > best || (isnan(value) && !isnan(best))) {
                best = value;
                where = r * a->kernel[1] + s;
            }
        }
        if (y->data) AT(y, n, p, q, c) = best;
        if (index->data) set_index(index, at4(y, n, p, q, c), where < 0 ? 0 : where);
    }
    return FV_OK;
}

/* dx[n,i,j,c] = sum of dy over the windows that have their maximum in (i,j) */
KERNEL(max_pool2d_gradient) {
    const fv_pool_attributes *a = &task->attributes->pool;
    const fv_tensor *index = &task->input[0], *dy = &task->input[1], *dx = &task->output[0];

    EACH(n, dx->dim[0]) EACH(i, dx->dim[1]) EACH(j, dx->dim[2]) EACH(c, dx->dim[3]) {
        double sum = 0;
        EACH(r, a->kernel[0]) EACH(s, a->kernel[1]) {
            const int64_t p = window_of(a, 0, i, r, dy->dim[1]), q = window_of(a, 1, j, s, dy->dim[2]);
            if (p < 0 || q < 0) continue;
            if (get_index(index, at4(dy, n, p, q, c)) == r * a->kernel[1] + s) sum += AT(dy, n, p, q, c);
        }
        AT(dx, n, i, j, c) = (REAL)sum;
    }
    return FV_OK;
}

/* y[n,p,q,c] = sum over r, s of x[n, begin(p) + r, begin(q) + s, c] / cells of the window */
KERNEL(avg_pool2d) {
    const fv_pool_attributes *a = &task->attributes->pool;
    const fv_tensor *x = &task->input[0], *y = &task->output[0];

    EACH(n, y->dim[0]) EACH(p, y->dim[1]) EACH(q, y->dim[2]) EACH(c, y->dim[3]) {
        const int64_t cells = window_cells(a, 0, p, x->dim[1]) * window_cells(a, 1, q, x->dim[2]);
        double sum = 0;
        EACH(r, a->kernel[0]) EACH(s, a->kernel[1]) {
            const int64_t i = window_begin(a, 0, p) + r, j = window_begin(a, 1, q) + s;
            if (inside(i, x->dim[1]) && inside(j, x->dim[2])) sum += AT(x, n, i, j, c);
        }
        AT(y, n, p, q, c) = cells ? (REAL)(sum / (double)cells) : 0;
    }
    return FV_OK;
}

/* dx[n,i,j,c] = sum over the windows that hold (i,j) of dy / cells of the window */
KERNEL(avg_pool2d_gradient) {
    const fv_pool_attributes *a = &task->attributes->pool;
    const fv_tensor *dy = &task->input[0], *dx = &task->output[0];

    EACH(n, dx->dim[0]) EACH(i, dx->dim[1]) EACH(j, dx->dim[2]) EACH(c, dx->dim[3]) {
        double sum = 0;
        EACH(r, a->kernel[0]) EACH(s, a->kernel[1]) {
            const int64_t p = window_of(a, 0, i, r, dy->dim[1]), q = window_of(a, 1, j, s, dy->dim[2]);
            if (p < 0 || q < 0) continue;
            const int64_t cells = window_cells(a, 0, p, dx->dim[1]) * window_cells(a, 1, q, dx->dim[2]);
            sum += AT(dy, n, p, q, c) / (double)cells;
        }
        AT(dx, n, i, j, c) = (REAL)sum;
    }
    return FV_OK;
}
