/* local_convolution.c - unshared convolution and its two gradients: as convolution, but the filters w[p,q,r,s,c,k]
 * belong to an output position (p, q). */
#include "cpu/reference/reference.h"

/* Where output position p (axis 0: row, 1: column) and kernel position r meet in the input; may lie outside it. */
static int64_t met(const fv_local_attributes *a, int axis, int64_t p, int64_t r) {
    return p * a->stride[axis] + r * a->dilation[axis] - a->pad[2 * axis];
}

/* The output position whose kernel position r meets input position i, or -1 when none does. */
static int64_t met_by(const fv_local_attributes *a, int axis, int64_t i, int64_t r, int64_t outputs) {
    const int64_t distance = i + a->pad[2 * axis] - r * a->dilation[axis];
    if (distance < 0 || distance % a->stride[axis] != 0) return -1;
    return distance / a->stride[axis] < outputs ? distance / a->stride[axis] : -1;
}

/* w[p,q,r,s,c,0] */
static REAL *weights(const fv_tensor *w, int64_t p, int64_t q, int64_t r, int64_t s, int64_t c) {
    return real(w) + ((((p * w->dim[1] + q) * w->dim[2] + r) * w->dim[3] + s) * w->dim[4] + c) * w->dim[5];
}

/* y[n,p,q,k] = sum over r, s, c of x[n, met(p,r), met(q,s), c] w[p,q,r,s,c,k] */
KERNEL(local_conv2d) {
    const fv_local_attributes *a = &task->attributes->local;
    const fv_tensor *x = &task->input[0], *w = &task->input[1], *y = &task->output[0];

    EACH(n, y->dim[0]) EACH(p, y->dim[1]) EACH(q, y->dim[2]) EACH(k, y->dim[3]) {
        double sum = 0;
        EACH(r, w->dim[2]) EACH(s, w->dim[3]) {
            const int64_t i = met(a, 0, p, r), j = met(a, 1, q, s);
            if (!inside(i, x->dim[1]) || !inside(j, x->dim[2])) continue;
            EACH(c, x->dim[3]) sum += (double)AT(x, n, i, j, c) * weights(w, p, q, r, s, c)[k];
        }
        AT(y, n, p, q, k) = (REAL)sum;
    }
    return FV_OK;
}

/* dx[n,i,j,c] = sum over r, s, k of dy[n,p,q,k] w[p,q,r,s,c,k], where (p,q) meets (i,j) in (r,s) */
KERNEL(local_conv2d_data_gradient) {
    const fv_local_attributes *a = &task->attributes->local;
    const fv_tensor *dy = &task->input[0], *w = &task->input[1], *dx = &task->output[0];

    EACH(n, dx->dim[0]) EACH(i, dx->dim[1]) EACH(j, dx->dim[2]) EACH(c, dx->dim[3]) {
        double sum = 0;
        EACH(r, w->dim[2]) EACH(s, w->dim[3]) {
            const int64_t p = met_by(a, 0, i, r, dy->dim[1]), q = met_by(a, 1, j, s, dy->dim[2]);
            if (p < 0 || q < 0) continue;
            EACH(k, dy->dim[3]) sum += (double)AT(dy, n, p, q, k) * weights(w, p, q, r, s, c)[k];
        }
        AT(dx, n, i, j, c) = (REAL)sum;
    }
    return FV_OK;
}

/* dw[p,q,r,s,c,k] = sum over n of x[n, met(p,r), met(q,s), c] dy[n,p,q,k] */
KERNEL(local_conv2d_weight_gradient) {
    const fv_local_attributes *a = &task->attributes->local;
    const fv_tensor *x = &task->input[0], *dy = &task->input[1], *dw = &task->output[0];

    EACH(p, dw->dim[0]) EACH(q, dw->dim[1]) EACH(r, dw->dim[2]) EACH(s, dw->dim[3]) {
        const int64_t i = met(a, 0, p, r), j = met(a, 1, q, s);
        const bool meet = inside(i, x->dim[1]) && inside(j, x->dim[2]);
        EACH(c, dw->dim[4]) EACH(k, dw->dim[5]) {
            double sum = 0;
            EACH(n, meet ? x->dim[0] : 0) sum += (double)AT(x, n, i, j, c) * AT(dy, n, p, q, k);
            weights(dw, p, q, r, s, c)[k] = (REAL)sum;
        }
    }
    return FV_OK;
}
