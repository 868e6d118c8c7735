/* indexing.c - operations that go by numbers along an axis. The axes about it are seen as [batch, outer, axis, inner],
 * and the numbers as [batch, count]. Numbers outside the axis read zeros and write nothing. */
#include "cpu/reference/reference.h"

/* y[b, o, k, i] = x[b, o, number[b, k], i] */
KERNEL(gather) {
    const fv_gather_attributes *a = &task->attributes->gather;
    const fv_tensor *x = &task->input[0], *numbers = &task->input[1], *y = &task->output[0];
    const int64_t outer = span(x, a->batch, a->axis), inner = span(x, a->axis + 1, x->rank), n = x->dim[a->axis];
    const int64_t count = span(numbers, a->batch, numbers->rank);
    const size_t bytes = element_bytes(x->type);

    EACH(b, span(x, 0, a->batch)) EACH(o, outer) EACH(k, count) {
        const int32_t number = ((const int32_t *)numbers->data)[b * count + k];
        const int64_t row = b * outer + o;
        EACH(i, inner) {
            unsigned char *to = element(y, (row * count + k) * inner + i);
            if (inside(number, n)) memcpy(to, element(x, (row * n + number) * inner + i), bytes);
            else memset(to, 0, bytes);
        }
    }
    return FV_OK;
}

/* y[b, o, j, i] = sum of values[b, o, k, i] over the k whose number[b, k] is j */
KERNEL(scatter_add) {
    const fv_gather_attributes *a = &task->attributes->gather;
    const fv_tensor *numbers = &task->input[0], *values = &task->input[1], *y = &task->output[0];
    const int64_t outer = span(y, a->batch, a->axis), inner = span(y, a->axis + 1, y->rank);
    const int64_t count = span(numbers, a->batch, numbers->rank);

    EACH(b, span(y, 0, a->batch)) EACH(o, outer) EACH(j, a->size) EACH(i, inner) {
        const int64_t row = b * outer + o;
        double sum = 0;
        EACH(k, count)
            if (((const int32_t *)numbers->data)[b * count + k] == j)
                sum += real(values)[(row * count + k) * inner + i];
        real(y)[(row * a->size + j) * inner + i] = (REAL)sum;
    }
    return FV_OK;
}

KERNEL(one_hot) {
    const fv_tensor *numbers = &task->input[0], *y = &task->output[0];
    const int64_t size = task->attributes->gather.size;
    EACH(k, fv_elements(numbers)) EACH(j, size)
        real(y)[k * size + j] = ((const int32_t *)numbers->data)[k] == j;
    return FV_OK;
}

/* Does element i of the row come before element j? NaN is larger than every number; equal ones stay in order. */
static bool comes_before(const REAL *x, int64_t i, int64_t j) {
    if (isnan(x[i]) || isnan(x[j])) return isnan(x[i]) && (!isnan(x[j]) || i < j);
    return x[i] > x[j] || (x[i] == x[j] && i < j);
}

/* Element i goes to the place that is the number of elements before it. */
KERNEL(top_k) {
    const fv_tensor *x = &task->input[0], *values = &task->output[0], *numbers = &task->output[1];
    const int64_t n = last_dim(x), k = task->attributes->top_k.k;
    EACH(row, fv_elements(x) / n) EACH(i, n) {
        const REAL *from = real(x) + row * n;
        int64_t place = 0;
        EACH(j, n) place += comes_before(from, j, i);
        if (place >= k) continue;
        if (values->data) real(values)[row * k + place] = from[i];
        if (numbers->data) ((int32_t *)numbers->data)[row * k + place] = (int32_t)i;
    }
    return FV_OK;
}
