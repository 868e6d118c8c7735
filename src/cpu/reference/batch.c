/* batch.c - the gathering of a batch, flips and shifted crops, normalisation of pixels. Random numbers come from
 * Philox4x32-10 under the key control.seed; the counters below are part of the specification: every backend draws the
 * same bits. */
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

/* ---- Augmentation of images [n,h,w,c] of any type, keyed by epoch and sample ------------------------------------- */

static void draw(const fv_control *control, uint32_t stream, int32_t sample, uint32_t word[4]) {
    const uint32_t counter[4] = { (uint32_t)sample, stream, control->epoch, 0 };
    fv_philox(counter, control->seed, word);
}

static void copy_element(const fv_tensor *y, int64_t to, const fv_tensor *x, int64_t from) {
    memcpy(element(y, to), element(x, from), element_bytes(y->type));
}

/* Mirrored left to right when the first bit drawn is set. */
KERNEL(flip) {
    const fv_tensor *x = &task->input[0], *y = &task->output[0];
    const int32_t *samples = task->input[1].data;

    EACH(n, y->dim[0]) {
        uint32_t word[4];
        draw(task->input[2].data, FV_STREAM_FLIP, samples[n], word);
        const bool mirrored = word[0] >> 31;
        EACH(i, y->dim[1]) EACH(j, y->dim[2]) EACH(c, y->dim[3])
            copy_element(y, at4(y, n, i, j, c), x, at4(x, n, i, mirrored ? y->dim[2] - 1 - j : j, c));
    }
    return FV_OK;
}

/* y[n,i,j,c] = x[n, i + dy, j + dx, c], zero outside; dy and dx are drawn from -crop .. crop */
KERNEL(pad_crop) {
    const fv_tensor *x = &task->input[0], *y = &task->output[0];
    const int32_t *samples = task->input[1].data;
    const int32_t crop = task->attributes->random.crop;

    EACH(n, y->dim[0]) {
        uint32_t word[4];
        draw(task->input[2].data, FV_STREAM_CROP, samples[n], word);
        const int64_t dy = (int64_t)(word[0] % (2 * (uint32_t)crop + 1)) - crop;
        const int64_t dx = (int64_t)(word[1] % (2 * (uint32_t)crop + 1)) - crop;
        EACH(i, y->dim[1]) EACH(j, y->dim[2]) EACH(c, y->dim[3]) {
            if (inside(i + dy, x->dim[1]) && inside(j + dx, x->dim[2]))
                copy_element(y, at4(y, n, i, j, c), x, at4(x, n, i + dy, j + dx, c));
            else
                memset(element(y, at4(y, n, i, j, c)), 0, element_bytes(y->type));
        }
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
