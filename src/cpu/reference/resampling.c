/* resampling.c - images [n,h,w,c] at another size: each pixel of the result is a weighted sum of at most two rows and two
 * columns. A neighbour of weight zero takes no part, whatever its value. */
#include "cpu/reference/reference.h"

typedef struct neighbours {
    int64_t index[2];
    double weight[2];
} neighbours;

static double coordinate(const fv_resize_attributes *a, double p, double in, double out) {
    switch (a->corners) {
    case FV_ALIGN_CORNERS: return out > 1 ? p * (in - 1) / (out - 1) : 0;
    case FV_ASYMMETRIC: return p * in / out;
    default: return ((2 * p + 1) * in - out) / (2 * out);
    }
}

/* Of pixel p along one axis: both are the same where there is but one. */
static neighbours find(const fv_resize_attributes *a, int axis, int64_t p, int64_t size) {
    const double last = (double)(size - 1), x = coordinate(a, (double)p, (double)size, (double)a->output[axis]);
    double low = x < 0 ? 0 : x > last ? last : x;
    if (a->interpolation == FV_NEAREST) low = floor(fmin(last, fmax(0, a->corners == FV_ASYMMETRIC ? x : x + 0.5)));
    const int64_t index = (int64_t)low;
    const double above = low - (double)index;
    return (neighbours){ { index, index < size - 1 ? index + 1 : index }, { 1 - above, above } };
}

/* y[n,p,q,c] = sum of wa wb x[n,i,j,c] over the neighbours i of p and j of q */
KERNEL(resize) {
    const fv_resize_attributes *a = &task->attributes->resize;
    const fv_tensor *x = &task->input[0], *y = &task->output[0];

    EACH(n, y->dim[0]) EACH(p, y->dim[1]) EACH(q, y->dim[2]) {
        const neighbours v = find(a, 0, p, x->dim[1]), h = find(a, 1, q, x->dim[2]);
        EACH(c, y->dim[3]) {
            double sum = 0;
            EACH(r, 2) EACH(s, 2)
                if (v.weight[r] * h.weight[s] != 0)
                    sum += v.weight[r] * h.weight[s] * AT(x, n, v.index[r], h.index[s], c);
            AT(y, n, p, q, c) = (REAL)sum;
        }
    }
    return FV_OK;
}

/* The weight with which input i is in pixel p. */
static double weight_of(const fv_resize_attributes *a, int axis, int64_t p, int64_t i, int64_t size) {
    const neighbours k = find(a, axis, p, size);
    return (k.index[0] == i ? k.weight[0] : 0) + (k.index[1] == i ? k.weight[1] : 0);
}

/* dx[n,i,j,c] = sum of wa wb dy[n,p,q,c] over all pixels that (i,j) is a neighbour of */
KERNEL(resize_gradient) {
    const fv_resize_attributes *a = &task->attributes->resize;
    const fv_tensor *dy = &task->input[0], *dx = &task->output[0];

    EACH(i, dx->dim[1]) EACH(j, dx->dim[2]) EACH(n, dx->dim[0]) EACH(c, dx->dim[3]) {
        double sum = 0;
        EACH(p, dy->dim[1]) {
            const double v = weight_of(a, 0, p, i, dx->dim[1]);
            if (v == 0) continue;
            EACH(q, dy->dim[2]) {
                const double h = weight_of(a, 1, q, j, dx->dim[2]);
                if (h != 0) sum += v * h * AT(dy, n, p, q, c);
            }
        }
        AT(dx, n, i, j, c) = (REAL)sum;
    }
    return FV_OK;
}
