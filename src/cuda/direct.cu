/* direct.cu - convolutions by plain loops, one output element a thread: for what cuDNN has no plan for. Each sum is taken in a fixed
 * order, so results repeat. */
#include "cuda/convolution.h"
#include "cuda/activate.h"
#include "cuda/device.h"

namespace {
struct window {
    int h, w, c;       /* of the image                       */
    int oh, ow, k;     /* of the response                    */
    int r, s, c_group; /* of the filters                     */
    int k_group;       /* filters of a group                 */
    int stride[2], dilation[2], pad[2];
    bool flip;
    int activation;
    float alpha; /* of the activation */
    __host__ __device__ int tap(int r_, int s_) const { return flip ? (r - 1 - r_) * s + (s - 1 - s_) : r_ * s + s_; }
};
} // namespace

template <class T> __global__ void conv_forward(window g, T *y, const T *x, const T *w, const float *b, int64_t count) {
    GRID_STRIDE(i, count) {
        const int k = (int)(i % g.k), group = k / g.k_group;
        const int64_t pixel = i / g.k;
        const int ox = (int)(pixel % g.ow), oy = (int)(pixel / g.ow % g.oh);
        const int64_t n = pixel / g.ow / g.oh;
        float sum = 0;
        for (int r = 0; r < g.r; r++)
            for (int s = 0; s < g.s; s++) {
                const int iy = oy * g.stride[0] - g.pad[0] + r * g.dilation[0],
                          ix = ox * g.stride[1] - g.pad[1] + s * g.dilation[1];
                if (iy < 0 || iy >= g.h || ix < 0 || ix >= g.w) continue;
                const T *in = x + ((n * g.h + iy) * g.w + ix) * g.c + group * g.c_group;
                const T *filter = w + ((int64_t)k * g.r * g.s + g.tap(r, s)) * g.c_group;
                for (int c = 0; c < g.c_group; c++) sum += to_float(in[c]) * to_float(filter[c]);
            }
        if (b) sum += b[k];
        y[i] = from_float<T>(activate(g.activation, g.alpha, sum));
    }
}

/* The output pixel that reads input pixel `at` through tap `t`, or -1. */
__device__ __forceinline__ int reader(int at, int t, int pad, int dilation, int stride, int size) {
    const int shifted = at + pad - t * dilation;
    if (shifted < 0 || shifted % stride) return -1;
    return shifted / stride < size ? shifted / stride : -1;
}

template <class T> __global__ void conv_data(window g, T *dx, const T *dy, const T *w, const float *b, int64_t count) {
    GRID_STRIDE(i, count) {
        const int channel = (int)(i % g.c), group = channel / g.c_group, c = channel % g.c_group;
        const int64_t pixel = i / g.c;
        const int ix = (int)(pixel % g.w), iy = (int)(pixel / g.w % g.h);
        const int64_t n = pixel / g.w / g.h;
        float sum = 0;
        for (int r = 0; r < g.r; r++)
            for (int s = 0; s < g.s; s++) {
                const int oy = reader(iy, r, g.pad[0], g.dilation[0], g.stride[0], g.oh);
                const int ox = reader(ix, s, g.pad[1], g.dilation[1], g.stride[1], g.ow);
                if (oy < 0 || ox < 0) continue;
                const T *out = dy + ((n * g.oh + oy) * g.ow + ox) * g.k + group * g.k_group;
                const T *filter = w + ((int64_t)group * g.k_group * g.r * g.s + g.tap(r, s)) * g.c_group + c;
                for (int k = 0; k < g.k_group; k++)
                    sum += to_float(out[k]) * to_float(filter[(int64_t)k * g.r * g.s * g.c_group]);
            }
        if (b) sum += b[channel];
        dx[i] = from_float<T>(activate(g.activation, g.alpha, sum));
    }
}

/* A block for each filter element: its threads share the images and pixels. */
template <class T>
__global__ void conv_weights(window g, float *dw, const T *x, const T *dy, int64_t images, int64_t count) {
    for (int64_t i = blockIdx.x; i < count; i += gridDim.x) {
        const int c = (int)(i % g.c_group), tap = (int)(i / g.c_group % (g.r * g.s));
        const int k = (int)(i / g.c_group / (g.r * g.s)), group = k / g.k_group;
        const int r = g.flip ? g.r - 1 - tap / g.s : tap / g.s, s = g.flip ? g.s - 1 - tap % g.s : tap % g.s;
        float sum = 0;
        for (int64_t pixel = threadIdx.x; pixel < images * g.oh * g.ow; pixel += blockDim.x) {
            const int ox = (int)(pixel % g.ow), oy = (int)(pixel / g.ow % g.oh);
            const int64_t n = pixel / g.ow / g.oh;
            const int iy = oy * g.stride[0] - g.pad[0] + r * g.dilation[0],
                      ix = ox * g.stride[1] - g.pad[1] + s * g.dilation[1];
            if (iy < 0 || iy >= g.h || ix < 0 || ix >= g.w) continue;
            sum +=
                to_float(x[((n * g.h + iy) * g.w + ix) * g.c + group * g.c_group + c]) * to_float(dy[pixel * g.k + k]);
        }
        sum = block_reduce(sum, add_floats(), 0);
        if (threadIdx.x == 0) dw[i] = sum;
    }
}

static window window_of(const fv_task *task, const fv_tensor *x, const fv_tensor *w, const fv_tensor *y) {
    const fv_conv_attributes *a = &task->attributes->conv;
    window g = {};
    g.h = (int)x->dim[1], g.w = (int)x->dim[2], g.c = (int)x->dim[3];
    g.oh = (int)y->dim[1], g.ow = (int)y->dim[2], g.k = (int)y->dim[3];
    g.r = (int)w->dim[1], g.s = (int)w->dim[2], g.c_group = (int)w->dim[3];
    g.k_group = g.k / (g.c / g.c_group);
    for (int i = 0; i < 2; i++) g.stride[i] = a->stride[i], g.dilation[i] = a->dilation[i], g.pad[i] = a->pad[2 * i];
    g.flip = a->flip;
    g.activation = task->input_count > 2 ? a->activation : FV_LINEAR;
    g.alpha = a->alpha;
    return g;
}

extern "C" int fv_conv_direct(fv_device *device, const fv_task *task) {
    const fv_tensor *in = task->input, *out = &task->output[0];
    const int64_t count = fv_elements(out);
    return with_real(&in[0], [&](auto example) {
        using T = decltype(example);
        T *to = static_cast<T *>(out->data);
        const T *first = static_cast<const T *>(in[0].data), *second = static_cast<const T *>(in[1].data);
        const float *b = task->input_count > 2 ? static_cast<const float *>(in[2].data) : nullptr;
        if (task->op == FV_OP_conv2d_data_gradient || task->op == FV_OP_conv2d_transpose_bias_activation) {
            const window g = window_of(task, out, &in[1], &in[0]);
            LAUNCH(conv_data<T>, blocks_for(device, count), BLOCK, 0, device->stream, g, to, first, second, b, count);
        } else if (task->op == FV_OP_conv2d_weight_gradient) {
            const window g = window_of(task, &in[0], out, &in[1]);
            const unsigned blocks = (unsigned)(count < 65535 ? count : 65535);
            LAUNCH(conv_weights<T>, blocks, BLOCK, 0, device->stream, g, static_cast<float *>(out->data), first, second,
                   in[0].dim[0], count);
        } else {
            const window g = window_of(task, &in[0], &in[1], out);
            LAUNCH(conv_forward<T>, blocks_for(device, count), BLOCK, 0, device->stream, g, to, first, second, b,
                   count);
        }
        return fv_cuda_launched(device, task);
    });
}

/* ---- Turning filters round ------------------------------------------------------------------------------------------------ */

template <class T> __global__ void turn(T *to, const T *from, int taps, int channels, int64_t count) {
    GRID_STRIDE(i, count) {
        const int64_t c = i % channels, tap = i / channels % taps, k = i / channels / taps;
        to[i] = from[(k * taps + taps - 1 - tap) * channels + c];
    }
}

extern "C" int fv_conv_turn(fv_device *device, const fv_task *task, const fv_tensor *w, const void *from, void *to) {
    const int64_t count = fv_elements(w);
    const int taps = (int)(w->dim[1] * w->dim[2]), channels = (int)w->dim[3];
    return with_real(w, [&](auto example) {
        using T = decltype(example);
        LAUNCH(turn<T>, blocks_for(device, count), BLOCK, 0, device->stream, static_cast<T *>(to),
               static_cast<const T *>(from), taps, channels, count);
        return fv_cuda_launched(device, task);
    });
}
