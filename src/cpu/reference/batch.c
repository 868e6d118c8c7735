/* batch.c - the gathering of a batch, normalisation of pixels. */
#include "core/control.h"
#include "cpu/reference/reference.h"

/* The sample numbers of this batch: row i is order[batch size + i]. Beyond the end the order begins again. */
KERNEL(batch_samples) {
    const fv_batch_attributes *a = &task->attributes->batch;
    const int32_t *order = task->input[0].data;
    const fv_control *control = task->input[1].data;
    int32_t *rows = task->output[0].data;
    const int64_t samples = fv_elements(&task->input[0]);

    EACH(i, fv_elements(&task->output[0])) rows[i] = samples ? order[(control->batch * a->size + i) % samples] : 0;
    return FV_OK;
}

/* y[i] = data[samples[i]]; zero where there is no such sample */
KERNEL(gather_batch) {
    const fv_tensor *data = &task->input[0], *y = &task->output[0];
    const int32_t *samples = task->input[1].data;
    const int64_t elements = span(data, 1, data->rank);
    const size_t bytes = (size_t)elements * element_bytes(data->type);

    EACH(i, y->dim[0]) {
        if (!bytes) break;
        if (inside(samples[i], data->dim[0]))
            memcpy(element(y, i * elements), element(data, samples[i] * elements), bytes);
        else
            memset(element(y, i * elements), 0, bytes);
    }
    return FV_OK;
}

/* y = (x scale - mean[c]) / deviation[c]; channels beyond the fourth use the fourth's figures */
KERNEL(normalize) {
    const fv_normalize_attributes *a = &task->attributes->normalize;
    const fv_tensor *x = &task->input[0], *y = &task->output[0];
    const int64_t channels = last_dim(y);

    EACH(i, fv_elements(y)) {
        const int64_t c = i % channels < 3 ? i % channels : 3;
        const double value = x->type == FV_U8 ? ((const uint8_t *)x->data)[i] : real(x)[i];
        real(y)[i] = (REAL)((value * a->scale - a->mean[c]) / a->deviation[c]);
    }
    return FV_OK;
}
