/* dense.c - the fully connected layer and its gradients: every axis of x but the last counts as rows, w is [o, i]. */
#include "cpu/reference/reference.h"

/* y[row,o] = sum over i of x[row,i] w[o,i] */
KERNEL(dense) {
    const fv_tensor *x = &task->input[0], *w = &task->input[1], *y = &task->output[0];
    const int64_t inputs = w->dim[1], outputs = w->dim[0];

    EACH(row, span(y, 0, y->rank - 1)) EACH(o, outputs) {
        double sum = 0;
        EACH(i, inputs) sum += (double)real(x)[row * inputs + i] * real(w)[o * inputs + i];
        real(y)[row * outputs + o] = (REAL)sum;
    }
    return FV_OK;
}

/* dx[row,i] = sum over o of dy[row,o] w[o,i] */
KERNEL(dense_data_gradient) {
    const fv_tensor *dy = &task->input[0], *w = &task->input[1], *dx = &task->output[0];
    const int64_t inputs = w->dim[1], outputs = w->dim[0];

    EACH(row, span(dx, 0, dx->rank - 1)) EACH(i, inputs) {
        double sum = 0;
        EACH(o, outputs) sum += (double)real(dy)[row * outputs + o] * real(w)[o * inputs + i];
        real(dx)[row * inputs + i] = (REAL)sum;
    }
    return FV_OK;
}

/* dw[o,i] = sum over the rows of dy[row,o] x[row,i] */
KERNEL(dense_weight_gradient) {
    const fv_tensor *x = &task->input[0], *dy = &task->input[1], *dw = &task->output[0];
    const int64_t inputs = dw->dim[1], outputs = dw->dim[0];

    EACH(o, outputs) EACH(i, inputs) {
        double sum = 0;
        EACH(row, span(x, 0, x->rank - 1)) sum += (double)real(dy)[row * outputs + o] * real(x)[row * inputs + i];
        real(dw)[o * inputs + i] = (REAL)sum;
    }
    return FV_OK;
}
