/* indexing.cu - operations that go by numbers along an axis, seen as [batch, outer, axis, inner] with numbers [batch, count]. Numbers outside the
 * axis read zeros and write nothing. */
#include "cuda/device.h"

namespace {
struct frame {
    int64_t outer, inner, size, count;
};
} // namespace

/* y[b, o, k, i] = x[b, o, number[b, k], i] */
template <class T>
__global__ void gather_elements(frame f, T *y, const T *x, const int32_t *numbers, int64_t elements) {
    GRID_STRIDE(at, elements) {
        const int64_t i = at % f.inner, k = at / f.inner % f.count, row = at / f.inner / f.count;
        const int32_t number = numbers[row / f.outer * f.count + k];
        y[at] = number >= 0 && number < f.size ? x[(row * f.size + number) * f.inner + i] : T(0);
    }
}

static int run_gather(fv_device *device, const fv_task *task) {
    const fv_gather_attributes *a = &task->attributes->gather;
    const fv_tensor *x = &task->input[0], *numbers = &task->input[1], *y = &task->output[0];
    const frame f = { span(x, a->batch, a->axis), span(x, a->axis + 1, x->rank), x->dim[a->axis],
                      span(numbers, a->batch, numbers->rank) };
    const int64_t elements = fv_elements(y);
    const auto launch = [&](auto example) {
        using T = decltype(example);
        LAUNCH(gather_elements<T>, blocks_for(device, elements), BLOCK, 0, device->stream, f, static_cast<T *>(y->data),
               static_cast<const T *>(x->data), static_cast<const int32_t *>(numbers->data), elements);
        return fv_cuda_launched(device, task);
    };
    switch (y->type) { /* only the size of an element matters */
    case FV_U8: return launch(uint8_t());
    case FV_BF16:
    case FV_F16: return launch(uint16_t());
    default: return launch(uint32_t());
    }
}

template <class T> __global__ void set_zero(T *y, int64_t count) { GRID_STRIDE(i, count) y[i] = from_float<T>(0); }

/* A thread owns what lies at one place of the axes about, and goes through the numbers in their order: a sum's order is fixed whatever
 * numbers repeat, which atomic additions would not give. */
template <class T>
__global__ void scatter_columns(frame f, T *y, const int32_t *numbers, const T *values, int64_t columns) {
    GRID_STRIDE(at, columns) {
        const int64_t i = at % f.inner, row = at / f.inner;
        for (int64_t k = 0; k < f.count; k++) {
            const int32_t number = numbers[row / f.outer * f.count + k];
            if (number < 0 || number >= f.size) continue;
            T *to = y + (row * f.size + number) * f.inner + i;
            *to = from_float<T>(to_float(*to) + to_float(values[(row * f.count + k) * f.inner + i]));
        }
    }
}

static int run_scatter_add(fv_device *device, const fv_task *task) {
    const fv_gather_attributes *a = &task->attributes->gather;
    const fv_tensor *numbers = &task->input[0], *values = &task->input[1], *y = &task->output[0];
    const frame f = { span(y, a->batch, a->axis), span(y, a->axis + 1, y->rank), a->size,
                      span(numbers, a->batch, numbers->rank) };
    const int64_t elements = fv_elements(y), columns = elements / f.size;
    return with_real(y, [&](auto example) {
        using T = decltype(example);
        T *to = static_cast<T *>(y->data);
        LAUNCH(set_zero<T>, blocks_for(device, elements), BLOCK, 0, device->stream, to, elements);
        LAUNCH(scatter_columns<T>, blocks_for(device, columns), BLOCK, 0, device->stream, f, to,
               static_cast<const int32_t *>(numbers->data), static_cast<const T *>(values->data), columns);
        return fv_cuda_launched(device, task);
    });
}

template <class T> __global__ void one_hot_elements(T *y, const int32_t *numbers, int64_t size, int64_t elements) {
    GRID_STRIDE(i, elements) y[i] = from_float<T>(numbers[i / size] == i % size ? 1 : 0);
}

static int run_one_hot(fv_device *device, const fv_task *task) {
    const fv_tensor *y = &task->output[0];
    const int64_t elements = fv_elements(y);
    return with_real(y, [&](auto example) {
        using T = decltype(example);
        LAUNCH(one_hot_elements<T>, blocks_for(device, elements), BLOCK, 0, device->stream, static_cast<T *>(y->data),
               static_cast<const int32_t *>(task->input[0].data), task->attributes->gather.size, elements);
        return fv_cuda_launched(device, task);
    });
}

/* An element's place is the number of elements that come before it: NaN is larger than every number, equal ones stay in order. */
template <class T>
__global__ void place_largest(T *values, int32_t *numbers, const T *x, int64_t n, int64_t k, int64_t elements) {
    GRID_STRIDE(at, elements) {
        const int64_t i = at % n, row = at / n;
        const float own = to_float(x[at]);
        int64_t place = 0;
        for (int64_t j = 0; j < n && place < k; j++) {
            const float other = to_float(x[row * n + j]);
            if (isnan(own) || isnan(other))
                place += isnan(other) && (!isnan(own) || j < i);
            else
                place += other > own || (other == own && j < i);
        }
        if (place >= k) continue;
        if (values) values[row * k + place] = x[at];
        if (numbers) numbers[row * k + place] = (int32_t)i;
    }
}

static int run_top_k(fv_device *device, const fv_task *task) {
    const fv_tensor *x = &task->input[0], *values = &task->output[0], *numbers = &task->output[1];
    const int64_t elements = fv_elements(x);
    return with_real(x, [&](auto example) {
        using T = decltype(example);
        LAUNCH(place_largest<T>, blocks_for(device, elements), BLOCK, 0, device->stream, static_cast<T *>(values->data),
               static_cast<int32_t *>(numbers->data), static_cast<const T *>(x->data), last_dim(x),
               (int64_t)task->attributes->top_k.k, elements);
        return fv_cuda_launched(device, task);
    });
}

RUN(gather)
RUN(scatter_add)
RUN(one_hot)
RUN(top_k)
