/* local_convolution.cu - unshared convolution and its gradients, one element of the result a thread: the filters w[p,q,r,s,c,k] belong to an output
 * position, so nothing is shared that a library could use. */
#include "cuda/device.h"

namespace {
struct local {
    int h, w, c, oh, ow, k, r, s;
    int stride[2], dilation[2], pad[2];
    __device__ int met(int axis, int p, int tap) const { return p * stride[axis] + tap * dilation[axis] - pad[axis]; }
    __device__ int met_by(int axis, int i, int tap, int outputs) const {
        const int distance = i + pad[axis] - tap * dilation[axis];
        if (distance < 0 || distance % stride[axis]) return -1;
        return distance / stride[axis] < outputs ? distance / stride[axis] : -1;
    }
    __device__ int64_t weight(int p, int q, int r_, int s_, int c_) const {
        return (((((int64_t)p * ow + q) * r + r_) * s + s_) * c + c_) * k;
    }
};
} // namespace

static local local_of(const fv_task *task, const fv_tensor *x, const fv_tensor *w) {
    const fv_local_attributes *a = &task->attributes->local;
    local l = {};
    l.h = (int)x->dim[1], l.w = (int)x->dim[2], l.c = (int)x->dim[3];
    l.oh = (int)w->dim[0], l.ow = (int)w->dim[1], l.r = (int)w->dim[2], l.s = (int)w->dim[3], l.k = (int)w->dim[5];
    for (int i = 0; i < 2; i++) l.stride[i] = a->stride[i], l.dilation[i] = a->dilation[i], l.pad[i] = a->pad[2 * i];
    return l;
}

template <class T> __global__ void local_forward(local l, T *y, const T *x, const T *w, int64_t count) {
    GRID_STRIDE(at, count) {
        const int k = (int)(at % l.k), q = (int)(at / l.k % l.ow), p = (int)(at / l.k / l.ow % l.oh);
        const int64_t n = at / l.k / l.ow / l.oh;
        float sum = 0;
        for (int r = 0; r < l.r; r++)
            for (int s = 0; s < l.s; s++) {
                const int i = l.met(0, p, r), j = l.met(1, q, s);
                if (i < 0 || i >= l.h || j < 0 || j >= l.w) continue;
                const T *in = x + ((n * l.h + i) * l.w + j) * l.c, *filter = w + l.weight(p, q, r, s, 0) + k;
                for (int c = 0; c < l.c; c++) sum += to_float(in[c]) * to_float(filter[(int64_t)c * l.k]);
            }
        y[at] = from_float<T>(sum);
    }
}

template <class T> __global__ void local_data(local l, T *dx, const T *dy, const T *w, int64_t count) {
    GRID_STRIDE(at, count) {
        const int c = (int)(at % l.c), j = (int)(at / l.c % l.w), i = (int)(at / l.c / l.w % l.h);
        const int64_t n = at / l.c / l.w / l.h;
        float sum = 0;
        for (int r = 0; r < l.r; r++)
            for (int s = 0; s < l.s; s++) {
                const int p = l.met_by(0, i, r, l.oh), q = l.met_by(1, j, s, l.ow);
                if (p < 0 || q < 0) continue;
                const T *out = dy + ((n * l.oh + p) * l.ow + q) * l.k, *filter = w + l.weight(p, q, r, s, c);
                for (int k = 0; k < l.k; k++) sum += to_float(out[k]) * to_float(filter[k]);
            }
        dx[at] = from_float<T>(sum);
    }
}

template <class T>
__global__ void local_weights(local l, float *dw, const T *x, const T *dy, int64_t images, int64_t count) {
    GRID_STRIDE(at, count) {
        const int k = (int)(at % l.k), c = (int)(at / l.k % l.c), s = (int)(at / l.k / l.c % l.s),
                  r = (int)(at / l.k / l.c / l.s % l.r);
        const int64_t place = at / l.k / l.c / l.s / l.r;
        const int q = (int)(place % l.ow), p = (int)(place / l.ow), i = l.met(0, p, r), j = l.met(1, q, s);
        const bool meet = i >= 0 && i < l.h && j >= 0 && j < l.w;
        float sum = 0;
        for (int64_t n = 0; meet && n < images; n++)
            sum +=
                to_float(x[((n * l.h + i) * l.w + j) * l.c + c]) * to_float(dy[((n * l.oh + p) * l.ow + q) * l.k + k]);
        dw[at] = sum;
    }
}

static int run_local(fv_device *device, const fv_task *task) {
    const fv_tensor *in = task->input, *out = &task->output[0];
    const int64_t count = fv_elements(out);
    return with_real(&in[0], [&](auto example) {
        using T = decltype(example);
        T *to = static_cast<T *>(out->data);
        const T *first = static_cast<const T *>(in[0].data), *second = static_cast<const T *>(in[1].data);
        const unsigned blocks = blocks_for(device, count);
        if (task->op == FV_OP_local_conv2d)
            LAUNCH(local_forward<T>, blocks, BLOCK, 0, device->stream, local_of(task, &in[0], &in[1]), to, first,
                   second, count);
        else if (task->op == FV_OP_local_conv2d_data_gradient)
            LAUNCH(local_data<T>, blocks, BLOCK, 0, device->stream, local_of(task, out, &in[1]), to, first, second,
                   count);
        else
            LAUNCH(local_weights<T>, blocks, BLOCK, 0, device->stream, local_of(task, &in[0], out),
                   static_cast<float *>(out->data), first, second, in[0].dim[0], count);
        return fv_cuda_launched(device, task);
    });
}

extern "C" const fv_kernel KERNEL(local_conv2d) = { NULL, NULL, run_local, NULL };
extern "C" const fv_kernel KERNEL(local_conv2d_data_gradient) = { NULL, NULL, run_local, NULL };
extern "C" const fv_kernel KERNEL(local_conv2d_weight_gradient) = { NULL, NULL, run_local, NULL };
