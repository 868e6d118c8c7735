/* convolution.c - two-dimensional convolution and its two gradients, for images [n,h,w,c] and filters
 * [k,r,s,c/groups]. Output row p and kernel row r meet in input row p stride + r dilation - padding; columns
 * likewise. Cells of the padding are zero and are left out of the sums. */
#include "cpu/reference/reference.h"

/* Where output position p (axis 0: row, 1: column) and kernel position r meet in the input; may lie outside it. */
static int64_t met(const fv_conv_attributes *a, int axis, int64_t p, int64_t r) {
    return p * a->stride[axis] + r * a->dilation[axis] - a->pad[2 * axis];
}

/* The output position whose kernel position r meets input position i, or -1 when none does. */
static int64_t met_by(const fv_conv_attributes *a, int axis, int64_t i, int64_t r, int64_t outputs) {
    const int64_t distance = i + a->pad[2 * axis] - r * a->dilation[axis];
    if (distance < 0 || distance % a->stride[axis] != 0) return -1;
    return distance / a->stride[axis] < outputs ? distance / a->stride[axis] : -1;
}

/* A true convolution reads its kernel from the end. */
static int64_t kernel_position(const fv_conv_attributes *a, int64_t r, int64_t size) {
    return a->flip ? size - 1 - r : r;
}

/* y[n,p,q,k] = sum over r, s, c of x[n, met(p,r), met(q,s), group(k) + c] w[k,r,s,c] */
KERNEL(conv2d) {
    const fv_conv_attributes *a = &task->attributes->conv;
    const fv_tensor *x = &task->input[0], *w = &task->input[1], *y = &task->output[0];
    const int64_t channels = w->dim[3], filters = w->dim[0] / a->groups; /* of one group */

    EACH(n, y->dim[0]) EACH(p, y->dim[1]) EACH(q, y->dim[2]) EACH(k, y->dim[3]) {
        const int64_t group = k / filters * channels;
        double sum = 0;
        EACH(r, w->dim[1]) EACH(s, w->dim[2]) {
            const int64_t i = met(a, 0, p, r), j = met(a, 1, q, s);
            if (!inside(i, x->dim[1]) || !inside(j, x->dim[2])) continue;
            const int64_t row = kernel_position(a, r, w->dim[1]), column = kernel_position(a, s, w->dim[2]);
            const REAL *cell = &AT(x, n, i, j, group), *weight = &AT(w, k, row, column, 0);
            EACH(c, channels) sum += (double)cell[c] * weight[c];
        }
        AT(y, n, p, q, k) = (REAL)sum;
    }
    return FV_OK;
}

/* dx[n,i,j,c] = sum over r, s and the filters k of c's group of dy[n,p,q,k] w[k,r,s,c], where (p,q) meets (i,j) in
 * (r,s) */
KERNEL(conv2d_data_gradient) {
    const fv_conv_attributes *a = &task->attributes->conv;
    const fv_tensor *dy = &task->input[0], *w = &task->input[1], *dx = &task->output[0];
    const int64_t channels = w->dim[3], filters = w->dim[0] / a->groups; /* of one group */

    EACH(n, dx->dim[0]) EACH(i, dx->dim[1]) EACH(j, dx->dim[2]) EACH(c, dx->dim[3]) {
        const int64_t group = c / channels * filters;
        double sum = 0;
        EACH(r, w->dim[1]) EACH(s, w->dim[2]) {
            const int64_t p = met_by(a, 0, i, r, dy->dim[1]), q = met_by(a, 1, j, s, dy->dim[2]);
            const int64_t row = kernel_position(a, r, w->dim[1]), column = kernel_position(a, s, w->dim[2]);
            if (p < 0 || q < 0) continue;
            EACH(k, filters) sum += (double)AT(dy, n, p, q, group + k) * AT(w, group + k, row, column, c % channels);
        }
        AT(dx, n, i, j, c) = (REAL)sum;
    }
    return FV_OK;
}

/* dw[k,r,s,c] = sum over n, p, q of x[n, met(p,r), met(q,s), group(k) + c] dy[n,p,q,k] */
KERNEL(conv2d_weight_gradient) {
    const fv_conv_attributes *a = &task->attributes->conv;
    const fv_tensor *x = &task->input[0], *dy = &task->input[1], *dw = &task->output[0];
    const int64_t channels = dw->dim[3], filters = dw->dim[0] / a->groups; /* of one group */

    EACH(k, dw->dim[0]) EACH(r, dw->dim[1]) EACH(s, dw->dim[2]) EACH(c, channels) {
        const int64_t group = k / filters * channels;
        double sum = 0;
        EACH(n, dy->dim[0]) EACH(p, dy->dim[1]) EACH(q, dy->dim[2]) {
            const int64_t i = met(a, 0, p, r), j = met(a, 1, q, s);
            if (!inside(i, x->dim[1]) || !inside(j, x->dim[2])) continue;
            sum += (double)AT(x, n, i, j, group + c) * AT(dy, n, p, q, k);
        }
        AT(dw, k, kernel_position(a, r, dw->dim[1]), kernel_position(a, s, dw->dim[2]), c) = (REAL)sum;
    }
    return FV_OK;
}
