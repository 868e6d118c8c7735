/* batch.c - the gathering of a batch, normalisation of pixels. */
#include "core/core.h"
#include "cpu/cpu.h"
#include "cpu/simd.h"

/* ---- A batch ----------------------------------------------------------------------------------------------------- */
static int batch_run(fv_device *device, const fv_task *task) {
    (void)device;
    const int32_t *order = task->input[0].data;
    const fv_control *control = task->input[1].data;
    int32_t *rows = task->output[0].data;
    int64_t samples = fv_elements(&task->input[0]), first = control->batch * task->attributes->batch.size;
    for (int64_t i = 0; i < fv_elements(&task->output[0]); i++) rows[i] = samples ? order[(first + i) % samples] : 0;
    return FV_OK;
}

static int64_t sample_elements(const fv_tensor *t) {
    int64_t n = 1;
    for (int i = 1; i < t->rank; i++) n *= t->dim[i];
    return n;
}
static void gather_rows(const void *argument, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const fv_task *task = argument;
    const fv_tensor *data = &task->input[0];
    const int32_t *samples = task->input[1].data;
    size_t bytes = (size_t)sample_elements(data) * type_bytes(data->type);
    for (int64_t i = begin; i < end; i++) {
        char *to = (char *)task->output[0].data + (size_t)i * bytes;
        if (samples[i] >= 0 && samples[i] < data->dim[0])
            memcpy(to, (const char *)data->data + (size_t)samples[i] * bytes, bytes);
        else
            memset(to, 0, bytes);
    }
}
static int gather_run(fv_device *device, const fv_task *task) {
    fv_parallel(device, task->output[0].dim[0], 32768 / (sample_elements(&task->input[0]) + 1) + 1, gather_rows, task);
    return FV_OK;
}

/* (x scale - mean) / deviation = x a + b, with a and b of channel min(c, 3). Up to four channels the factors of the
 * elements repeat after as many vectors as there are channels; beyond, rows of channels are walked. */
typedef struct factors {
    float a[4 * LANES], b[4 * LANES];
} factors;

static factors factors_of(const fv_normalize_attributes *n, int64_t channels) {
    factors f;
    for (int i = 0; i < 4 * LANES; i++) {
        int64_t c = channels <= 4 ? i % channels : i < 3 ? i : 3;
        f.a[i] = (float)((double)n->scale / n->deviation[c]);
        f.b[i] = (float)(-(double)n->mean[c] / n->deviation[c]);
    }
    return f;
}
static void normalize_range(const fv_task *task, int64_t begin, int64_t end) {
    const fv_tensor *x = &task->input[0];
    int64_t channels = columns_of(x), row = channels <= 4 ? channels * LANES : channels;
    factors f = factors_of(&task->attributes->normalize, channels);
    float *y = task->output[0].data;
    for (int64_t i = begin; i < end;) {
        int64_t phase = i % row, left = least(end - i, row - phase), at = channels <= 4 ? phase : least(phase, 3);
        vf value = x->type == FV_U8 ? __builtin_convertvector(load_bytes_up_to((const uint8_t *)x->data + i, left), vf)
                                    : load_up_to((const float *)x->data + i, left);
        store_up_to(y + i, value * load(f.a + at) + load(f.b + at), left);
        i += least(left, LANES);
    }
}
const fv_cpu_kernel KERNEL(batch_samples) = { { .run = batch_run }, NULL };
const fv_cpu_kernel KERNEL(gather_batch) = { { .run = gather_run }, NULL };
const fv_cpu_kernel KERNEL(normalize) = { { .run = fv_run_ranges }, normalize_range };
