/* resampling.cu - images [n,h,w,c] at another size: each pixel of the result is a weighted sum of at most two rows and two columns; the gradient
 * gathers from the pixels that an input is a neighbour of. Coordinates are in double, as in src/cpu/reference/resampling.c: a rounding
 * would choose another neighbour. */
#include "cuda/device.h"

namespace {
struct neighbours {
    int index[2];
    float weight[2];
};

struct resampler {
    int in[2], out[2], channels;
    int interpolation, corners;

    __device__ double coordinate(int axis, int p) const {
        const double size = in[axis], pixels = out[axis];
        switch (corners) {
        case FV_ALIGN_CORNERS: return pixels > 1 ? p * (size - 1) / (pixels - 1) : 0;
        case FV_ASYMMETRIC: return p * size / pixels;
        default: return ((2.0 * p + 1) * size - pixels) / (2 * pixels);
        }
    }
    __device__ neighbours find(int axis, int p) const {
        const double last = in[axis] - 1, x = coordinate(axis, p), shifted = corners == FV_ASYMMETRIC ? x : x + 0.5;
        double low = x < 0 ? 0 : x > last ? last : x;
        if (interpolation == FV_NEAREST) low = floor(shifted < 0 ? 0 : shifted > last ? last : shifted);
        neighbours n;
        n.index[0] = (int)low;
        n.index[1] = n.index[0] < in[axis] - 1 ? n.index[0] + 1 : n.index[0];
        n.weight[1] = (float)(low - (double)n.index[0]);
        n.weight[0] = (float)(1 - (low - (double)n.index[0]));
        return n;
    }
    /* The weight with which input i is in pixel p. */
    __device__ float weight_of(int axis, int p, int i) const {
        const neighbours n = find(axis, p);
        return (n.index[0] == i ? n.weight[0] : 0) + (n.index[1] == i ? n.weight[1] : 0);
    }
    /* Pixels that input i may be a neighbour of, generously: coordinates grow with the pixel. */
    __device__ int first_pixel(int axis, int i) const {
        const double pixels = in[axis] > 1 ? (i - 1) * step(axis) - 2 : 0;
        return pixels < 0 || i == 0 ? 0 : (int)pixels;
    }
    __device__ int last_pixel(int axis, int i) const {
        const double pixels = in[axis] > 1 ? (i + 2) * step(axis) + 3 : out[axis];
        return pixels > out[axis] || i == in[axis] - 1 ? out[axis] : (int)pixels;
    }
    __device__ double step(int axis) const {
        return corners == FV_ALIGN_CORNERS ? (out[axis] - 1.0) / (in[axis] - 1.0) : (double)out[axis] / in[axis];
    }
};
} // namespace

static resampler resampler_of(const fv_task *task, const fv_tensor *x, const fv_tensor *y) {
    resampler r = {};
    for (int i = 0; i < 2; i++) r.in[i] = (int)x->dim[1 + i], r.out[i] = (int)y->dim[1 + i];
    r.channels = (int)x->dim[3];
    r.interpolation = task->attributes->resize.interpolation;
    r.corners = task->attributes->resize.corners;
    return r;
}

template <class T> __global__ void resize_elements(resampler g, T *y, const T *x, int64_t count) {
    GRID_STRIDE(at, count) {
        const int c = (int)(at % g.channels), q = (int)(at / g.channels % g.out[1]),
                  p = (int)(at / g.channels / g.out[1] % g.out[0]);
        const int64_t n = at / g.channels / g.out[1] / g.out[0];
        const neighbours v = g.find(0, p), h = g.find(1, q);
        float sum = 0;
        for (int r = 0; r < 2; r++)
            for (int s = 0; s < 2; s++)
                if (v.weight[r] * h.weight[s] != 0)
                    sum += v.weight[r] * h.weight[s] *
                           to_float(x[((n * g.in[0] + v.index[r]) * g.in[1] + h.index[s]) * g.channels + c]);
        y[at] = from_float<T>(sum);
    }
}

template <class T> __global__ void resize_gradient_elements(resampler g, T *dx, const T *dy, int64_t count) {
    GRID_STRIDE(at, count) {
        const int c = (int)(at % g.channels), j = (int)(at / g.channels % g.in[1]),
                  i = (int)(at / g.channels / g.in[1] % g.in[0]);
        const int64_t n = at / g.channels / g.in[1] / g.in[0];
        float sum = 0;
        for (int p = g.first_pixel(0, i); p < g.last_pixel(0, i); p++) {
            const float v = g.weight_of(0, p, i);
            for (int q = g.first_pixel(1, j); v != 0 && q < g.last_pixel(1, j); q++) {
                const float h = g.weight_of(1, q, j);
                if (h != 0) sum += v * h * to_float(dy[((n * g.out[0] + p) * g.out[1] + q) * g.channels + c]);
            }
        }
        dx[at] = from_float<T>(sum);
    }
}

static int run_resize(fv_device *device, const fv_task *task) {
    const fv_tensor *x = &task->input[0], *y = &task->output[0];
    const int64_t count = fv_elements(y);
    return with_real(y, [&](auto example) {
        using T = decltype(example);
        LAUNCH(resize_elements<T>, blocks_for(device, count), BLOCK, 0, device->stream, resampler_of(task, x, y),
               static_cast<T *>(y->data), static_cast<const T *>(x->data), count);
        return fv_cuda_launched(device, task);
    });
}

static int run_resize_gradient(fv_device *device, const fv_task *task) {
    const fv_tensor *dy = &task->input[0], *dx = &task->output[0];
    const int64_t count = fv_elements(dx);
    return with_real(dx, [&](auto example) {
        using T = decltype(example);
        LAUNCH(resize_gradient_elements<T>, blocks_for(device, count), BLOCK, 0, device->stream,
               resampler_of(task, dx, dy), static_cast<T *>(dx->data), static_cast<const T *>(dy->data), count);
        return fv_cuda_launched(device, task);
    });
}

RUN(resize)
RUN(resize_gradient)
