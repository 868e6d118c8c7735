/* batch.cu - the gathering of a batch, normalisation of pixels. What changes from step to step is read from the control block on the
 * device. */
#include "cuda/device.h"

__global__ void pick_samples(int32_t *rows, const int32_t *order, const fv_control *control, int64_t samples,
                             int64_t size, int64_t count) {
    GRID_STRIDE(i, count) rows[i] = order[(control->batch * size + i) % samples];
}

static int run_batch_samples(fv_device *device, const fv_task *task) {
    const int64_t count = fv_elements(&task->output[0]), samples = fv_elements(&task->input[0]);
    LAUNCH(pick_samples, blocks_for(device, count), BLOCK, 0, device->stream,
           static_cast<int32_t *>(task->output[0].data), static_cast<const int32_t *>(task->input[0].data),
           static_cast<const fv_control *>(task->input[1].data), samples, task->attributes->batch.size, count);
    return fv_cuda_launched(device, task);
}

template <class T>
__global__ void gather_rows(T *y, const T *data, const int32_t *samples, int64_t width, int64_t most, int64_t count) {
    GRID_STRIDE(i, count) {
        const int32_t sample = samples[i / width];
        y[i] = sample >= 0 && sample < most ? data[sample * width + i % width] : T(0);
    }
}

static int64_t element_bytes(fv_type type) { return type == FV_U8 ? 1 : type == FV_BF16 || type == FV_F16 ? 2 : 4; }

/* Rows are copied in the largest words that divide them. */
static int run_gather_batch(fv_device *device, const fv_task *task) {
    const fv_tensor *data = &task->input[0], *y = &task->output[0];
    const int64_t bytes = span(data, 1, data->rank) * element_bytes(data->type), all = bytes * y->dim[0];
    const auto launch = [&](auto example) {
        using T = decltype(example);
        const int64_t count = all / (int64_t)sizeof(T);
        LAUNCH(gather_rows<T>, blocks_for(device, count), BLOCK, 0, device->stream, static_cast<T *>(y->data),
               static_cast<const T *>(data->data), static_cast<const int32_t *>(task->input[1].data),
               bytes / (int64_t)sizeof(T), data->dim[0], count);
        return fv_cuda_launched(device, task);
    };
    const bool aligned = aligned16(y->data) && aligned16(data->data);
    if (aligned && bytes % 8 == 0) return launch(uint64_t());
    if (bytes % 4 == 0) return launch(uint32_t());
    return launch(uint8_t());
}

template <class T, class U>
__global__ void normalize_elements(fv_normalize_attributes a, T *y, const U *x, int64_t channels, int64_t count) {
    GRID_STRIDE(i, count) {
        const int c = (int)(i % channels < 3 ? i % channels : 3);
        y[i] = from_float<T>(((float)x[i] * a.scale - a.mean[c]) / a.deviation[c]);
    }
}

static int run_normalize(fv_device *device, const fv_task *task) {
    const fv_tensor *x = &task->input[0], *y = &task->output[0];
    const int64_t count = fv_elements(y);
    return with_real(y, [&](auto example) {
        using T = decltype(example);
        const auto launch = [&](auto source) {
            using U = decltype(source);
            LAUNCH((normalize_elements<T, U>), blocks_for(device, count), BLOCK, 0, device->stream,
                   task->attributes->normalize, static_cast<T *>(y->data), static_cast<const U *>(x->data), last_dim(y),
                   count);
            return fv_cuda_launched(device, task);
        };
        return x->type == FV_U8 ? launch(uint8_t()) : launch(float());
    });
}

RUN(batch_samples)
RUN(gather_batch)
RUN(normalize)
