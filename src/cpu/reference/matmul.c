/* matmul.c - products of matrices, for all indices of the axes before them, along which a size of 1 is repeated. */
#include "cpu/reference/reference.h"

/* Where the matrix of x lies that belongs to the i-th one of y. */
static int64_t matrix_of(const fv_tensor *x, const fv_tensor *y, int64_t i) {
    int64_t offset = 0, stride = span(x, x->rank - 2, x->rank);
    for (int axis = y->rank - 3, own = x->rank - 3; own >= 0; axis--, own--) {
        if (x->dim[own] != 1) offset += i % y->dim[axis] * stride;
        stride *= x->dim[own];
        i /= y->dim[axis];
    }
    return offset;
}

/* y[r, c] = sum over j of a[r, j] b[j, c] */
KERNEL(matmul) {
    const fv_matmul_attributes *o = &task->attributes->matmul;
    const fv_tensor *a = &task->input[0], *b = &task->input[1], *y = &task->output[0];
    const int64_t m = y->dim[y->rank - 2], n = last_dim(y), k = a->dim[a->rank - (o->transpose_a ? 2 : 1)];

    EACH(i, span(y, 0, y->rank - 2)) EACH(r, m) EACH(c, n) {
        const REAL *at_a = real(a) + matrix_of(a, y, i), *at_b = real(b) + matrix_of(b, y, i);
        double sum = 0;
        EACH(j, k) sum += (double)at_a[o->transpose_a ? j * m + r : r * k + j] * at_b[o->transpose_b ? c * k + j : j * n + c];
        real(y)[(i * m + r) * n + c] = (REAL)sum;
    }
    return FV_OK;
}
