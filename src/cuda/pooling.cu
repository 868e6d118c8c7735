/* pooling.cu - maximum and average over windows of an image [n,h,w,c], and their gradients: one thread an element of the result, which
 * gathers, so that sums are taken in a fixed order. Conventions as in src/cpu/reference/pooling.c. */
#include "cuda/device.h"

namespace {
struct pool {
    int size[2], outputs[2], channels;
    int kernel[2], stride[2], pad[4];
    bool exclude_padding, adaptive[2], flat;

    /* Window p along one axis, first .. last - 1; it may reach beyond the image. */
    __device__ int begin(int axis, int p) const {
        return adaptive[axis] ? (int)((int64_t)p * size[axis] / outputs[axis]) : p * stride[axis] - pad[2 * axis];
    }
    __device__ int end(int axis, int p) const {
        return adaptive[axis] ? (int)(((int64_t)(p + 1) * size[axis] + outputs[axis] - 1) / outputs[axis])
                              : begin(axis, p) + kernel[axis];
    }
    /* The first window that ends behind position i. */
    __device__ int first_holder(int axis, int i) const {
        if (adaptive[axis]) return (int)((int64_t)i * outputs[axis] / size[axis]);
        const int before = i + pad[2 * axis] - kernel[axis];
        return before < 0 ? 0 : before / stride[axis] + 1;
    }
    __device__ int clamp(int axis, int i) const { return i < 0 ? 0 : i > size[axis] ? size[axis] : i; }
    /* Cells of a window along one axis that count in an average. */
    __device__ int cells(int axis, int p) const {
        const int first = exclude_padding ? 0 : -pad[2 * axis],
                  last = exclude_padding ? size[axis] : size[axis] + pad[2 * axis + 1];
        const int from = begin(axis, p) < first ? first : begin(axis, p),
                  to = end(axis, p) > last ? last : end(axis, p);
        return to > from ? to - from : 0;
    }
    /* The number of cell (i, j) in window (p, q), or in the whole image. */
    __device__ int cell(int p, int q, int i, int j) const {
        return flat ? i * size[1] + j : (i - begin(0, p)) * kernel[1] + j - begin(1, q);
    }
    __device__ int64_t at(const int *sizes, int64_t n, int i, int j, int c) const {
        return ((n * sizes[0] + i) * sizes[1] + j) * channels + c;
    }
};

struct element {
    int64_t n;
    int row, column, channel;
};
} // namespace

/* i runs over the cells of window p that lie in the image; p over the windows that hold position i. */
#define WINDOW(i, g, axis, p)                                                                                          \
    for (int i = (g).clamp(axis, (g).begin(axis, p)), i##_end = (g).clamp(axis, (g).end(axis, p)); i < i##_end; i++)
#define HOLDERS(p, g, axis, i)                                                                                         \
    for (int p = (g).first_holder(axis, i); p < (g).outputs[axis] && (g).begin(axis, p) <= i; p++)

static pool pool_of(const fv_task *task, const fv_tensor *x, const fv_tensor *y) {
    const fv_pool_attributes *a = &task->attributes->pool;
    pool p = {};
    for (int i = 0; i < 2; i++) {
        p.size[i] = (int)x->dim[1 + i], p.outputs[i] = (int)y->dim[1 + i];
        p.kernel[i] = a->kernel[i], p.stride[i] = a->stride[i], p.adaptive[i] = a->output[i] != 0;
    }
    for (int i = 0; i < 4; i++) p.pad[i] = a->pad[i];
    p.channels = (int)x->dim[3];
    p.exclude_padding = a->exclude_padding;
    p.flat = a->flat;
    return p;
}

__device__ __forceinline__ element element_of(int64_t i, const int *sizes, int channels) {
    element e;
    e.channel = (int)(i % channels);
    i /= channels;
    e.column = (int)(i % sizes[1]);
    i /= sizes[1];
    e.row = (int)(i % sizes[0]);
    e.n = i / sizes[0];
    return e;
}

template <class T, class I> __global__ void max_pool(pool g, T *y, I *index, const T *x, int64_t count) {
    GRID_STRIDE(o, count) {
        const element e = element_of(o, g.outputs, g.channels);
        float best = -INFINITY;
        int where = -1;
        WINDOW(i, g, 0, e.row) WINDOW(j, g, 1, e.column) {
            const float value = to_float(x[g.at(g.size, e.n, i, j, e.channel)]);
            if (where < 0 || value > best || (isnan(value) && !isnan(best))) {
                best = value;
                where = g.cell(e.row, e.column, i, j);
            }
        }
        if (y) y[o] = from_float<T>(best);
        if (index) index[o] = (I)(where < 0 ? 0 : where);
    }
}

template <class T, class I>
__global__ void max_pool_gradient(pool g, T *dx, const I *index, const T *dy, int64_t count) {
    GRID_STRIDE(at, count) {
        const element e = element_of(at, g.size, g.channels);
        float sum = 0;
        HOLDERS(p, g, 0, e.row) HOLDERS(q, g, 1, e.column) {
            const int64_t o = g.at(g.outputs, e.n, p, q, e.channel);
            if ((int)index[o] == g.cell(p, q, e.row, e.column)) sum += to_float(dy[o]);
        }
        dx[at] = from_float<T>(sum);
    }
}

template <class T, class I>
__global__ void max_unpool_gradient(pool g, T *dx, const I *index, const T *dy, int64_t count) {
    GRID_STRIDE(o, count) {
        const element e = element_of(o, g.outputs, g.channels);
        T found = from_float<T>(0);
        WINDOW(i, g, 0, e.row)
        WINDOW(j, g, 1, e.column)
        if ((int)index[o] == g.cell(e.row, e.column, i, j)) found = dy[g.at(g.size, e.n, i, j, e.channel)];
        dx[o] = found;
    }
}

template <class T> __global__ void avg_pool(pool g, T *y, const T *x, int64_t count) {
    GRID_STRIDE(o, count) {
        const element e = element_of(o, g.outputs, g.channels);
        const int cells = g.cells(0, e.row) * g.cells(1, e.column);
        float sum = 0;
        WINDOW(i, g, 0, e.row) WINDOW(j, g, 1, e.column) sum += to_float(x[g.at(g.size, e.n, i, j, e.channel)]);
        y[o] = from_float<T>(cells ? sum / (float)cells : 0);
    }
}

template <class T> __global__ void avg_pool_gradient(pool g, T *dx, const T *dy, int64_t count) {
    GRID_STRIDE(at, count) {
        const element e = element_of(at, g.size, g.channels);
        float sum = 0;
        HOLDERS(p, g, 0, e.row)
        HOLDERS(q, g, 1, e.column)
        sum += to_float(dy[g.at(g.outputs, e.n, p, q, e.channel)]) / (float)(g.cells(0, p) * g.cells(1, q));
        dx[at] = from_float<T>(sum);
    }
}

/* Indices are u8, or i32 for large windows. */
template <class F> static int with_index(const fv_tensor *index, F f) {
    return index->type == FV_U8 ? f(uint8_t()) : f(int32_t());
}

static int run_max_pool2d(fv_device *device, const fv_task *task) {
    const fv_tensor *x = &task->input[0], *y = &task->output[0], *index = &task->output[1];
    const pool p = pool_of(task, x, y);
    const int64_t count = fv_elements(y);
    return with_real(y, [&](auto real) {
        return with_index(index, [&](auto whole) {
            using T = decltype(real);
            using I = decltype(whole);
            LAUNCH((max_pool<T, I>), blocks_for(device, count), BLOCK, 0, device->stream, p, static_cast<T *>(y->data),
                   static_cast<I *>(index->data), static_cast<const T *>(x->data), count);
            return fv_cuda_launched(device, task);
        });
    });
}

static int run_max_pool2d_gradient(fv_device *device, const fv_task *task) {
    const fv_tensor *index = &task->input[0], *dy = &task->input[1], *dx = &task->output[0];
    const pool p = pool_of(task, dx, dy);
    const int64_t count = fv_elements(dx);
    return with_real(dx, [&](auto real) {
        return with_index(index, [&](auto whole) {
            using T = decltype(real);
            using I = decltype(whole);
            LAUNCH((max_pool_gradient<T, I>), blocks_for(device, count), BLOCK, 0, device->stream, p,
                   static_cast<T *>(dx->data), static_cast<const I *>(index->data), static_cast<const T *>(dy->data),
                   count);
            return fv_cuda_launched(device, task);
        });
    });
}

static int run_max_unpool2d_gradient(fv_device *device, const fv_task *task) {
    const fv_tensor *index = &task->input[0], *dy = &task->input[1], *dx = &task->output[0];
    const pool p = pool_of(task, dy, dx);
    const int64_t count = fv_elements(dx);
    return with_real(dx, [&](auto real) {
        return with_index(index, [&](auto whole) {
            using T = decltype(real);
            using I = decltype(whole);
            LAUNCH((max_unpool_gradient<T, I>), blocks_for(device, count), BLOCK, 0, device->stream, p,
                   static_cast<T *>(dx->data), static_cast<const I *>(index->data), static_cast<const T *>(dy->data),
                   count);
            return fv_cuda_launched(device, task);
        });
    });
}

static int run_avg_pool2d(fv_device *device, const fv_task *task) {
    const fv_tensor *x = &task->input[0], *y = &task->output[0];
    const pool p = pool_of(task, x, y);
    const int64_t count = fv_elements(y);
    return with_real(y, [&](auto real) {
        using T = decltype(real);
        LAUNCH(avg_pool<T>, blocks_for(device, count), BLOCK, 0, device->stream, p, static_cast<T *>(y->data),
               static_cast<const T *>(x->data), count);
        return fv_cuda_launched(device, task);
    });
}

static int run_avg_pool2d_gradient(fv_device *device, const fv_task *task) {
    const fv_tensor *dy = &task->input[0], *dx = &task->output[0];
    const pool p = pool_of(task, dx, dy);
    const int64_t count = fv_elements(dx);
    return with_real(dx, [&](auto real) {
        using T = decltype(real);
        LAUNCH(avg_pool_gradient<T>, blocks_for(device, count), BLOCK, 0, device->stream, p, static_cast<T *>(dx->data),
               static_cast<const T *>(dy->data), count);
        return fv_cuda_launched(device, task);
    });
}

RUN(max_pool2d)
RUN(max_pool2d_gradient)
RUN(max_unpool2d_gradient)
RUN(avg_pool2d)
RUN(avg_pool2d_gradient)
