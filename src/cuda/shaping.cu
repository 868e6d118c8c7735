/* shaping.cu - operations that move elements and compute nothing. One mechanism: each element of the result has a place in the source
 * that is a sum over its coordinates; outside the source there is a value, or what surrounds it by reflection, the edge or repetition. */
#include "cuda/device.h"
#include <string.h>

namespace {
struct mover {
    int rank;
    int64_t size[FV_RANK];  /* of the result                                     */
    int64_t step[FV_RANK];  /* of the source, for one coordinate of the result   */
    int64_t begin[FV_RANK]; /* source coordinate of the result's first           */
    int64_t limit[FV_RANK]; /* size of the source along it                       */
    int64_t every[FV_RANK]; /* only places that it divides come from the source, which lies that much apart */
    int64_t first;          /* where the source begins                           */
    int surrounding;        /* fv_pad_mode                                       */

    /* Where a position outside the source comes from; -1: from nowhere. */
    __device__ int64_t source(int axis, int64_t at) const {
        const int64_t size_ = limit[axis];
        if (every[axis] != 1) {
            if (at % every[axis]) return -1;
            at /= every[axis];
        }
        if (at >= 0 && at < size_) return at;
        switch (surrounding) {
        case FV_PAD_REFLECT: return at < 0 ? -at : 2 * (size_ - 1) - at;
        case FV_PAD_REPLICATE: return at < 0 ? 0 : size_ - 1;
        case FV_PAD_CIRCULAR: return at < 0 ? at + size_ : at - size_;
        default: return -1;
        }
    }
};
} // namespace

template <class T> __global__ void move(mover m, T *y, const T *x, T outside, int64_t count) {
    GRID_STRIDE(i, count) {
        int64_t rest = i, from = m.first;
        bool inside = true;
        for (int axis = m.rank - 1; axis >= 0; axis--) {
            const int64_t at = m.source(axis, rest % m.size[axis] + m.begin[axis]);
            rest /= m.size[axis];
            inside = inside && at >= 0;
            from += at * m.step[axis];
        }
        y[i] = inside ? x[from] : outside;
    }
}

/* Only the size of an element matters. */
template <class F> static int with_bytes(fv_type type, F f) {
    switch (type) {
    case FV_U8: return f(uint8_t());
    case FV_BF16:
    case FV_F16: return f(uint16_t());
    default: return f(uint32_t());
    }
}

/* The bits of a value in a type; 16-bit ones know only zero. */
static uint32_t bits_of(fv_type type, float value) {
    uint32_t bits = 0;
    const int32_t whole = (int32_t)value;
    if (type == FV_F32)
        memcpy(&bits, &value, sizeof bits);
    else if (type == FV_I32)
        memcpy(&bits, &whole, sizeof bits);
    else if (type == FV_U8)
        bits = (uint8_t)value;
    return bits;
}

static int run_mover(fv_device *device, const fv_task *task, const mover &m, float outside) {
    const fv_tensor *x = &task->input[0], *y = &task->output[0];
    const int64_t count = fv_elements(y);
    return with_bytes(y->type, [&](auto example) {
        using T = decltype(example);
        LAUNCH(move<T>, blocks_for(device, count), BLOCK, 0, device->stream, m, static_cast<T *>(y->data),
               static_cast<const T *>(x->data), (T)bits_of(y->type, outside), count);
        return fv_cuda_launched(device, task);
    });
}

/* Axis `axis` of the result walks along axis `from` of the source. */
static void walk(mover *m, int axis, const fv_tensor *y, const fv_tensor *x, int from, int64_t begin) {
    m->rank = y->rank;
    m->size[axis] = y->dim[axis];
    m->step[axis] = span(x, from + 1, x->rank);
    m->begin[axis] = begin;
    m->limit[axis] = x->dim[from];
    m->every[axis] = 1;
}

static int run_slice(fv_device *device, const fv_task *task) {
    mover m = {};
    for (int axis = 0; axis < task->output[0].rank; axis++)
        walk(&m, axis, &task->output[0], &task->input[0], axis, task->attributes->slice.begin[axis]);
    return run_mover(device, task, m, 0);
}

/* Steps belong to the places in the source, of which there are as many as in the result. */
static int run_strided_slice(fv_device *device, const fv_task *task) {
    const fv_strided_attributes *a = &task->attributes->strided;
    const fv_tensor *x = &task->input[0], *y = &task->output[0];
    mover m = {};
    for (int axis = 0; axis < y->rank; axis++) {
        walk(&m, axis, y, x, axis, 0);
        m.first += a->begin[axis] * m.step[axis];
        m.step[axis] *= y->dim[axis] > 1 ? a->step[axis] : 0;
        m.limit[axis] = y->dim[axis];
    }
    return run_mover(device, task, m, 0);
}

static int run_strided_slice_gradient(fv_device *device, const fv_task *task) {
    const fv_strided_attributes *a = &task->attributes->strided;
    mover m = {};
    for (int axis = 0; axis < task->output[0].rank; axis++) {
        walk(&m, axis, &task->output[0], &task->input[0], axis, -a->begin[axis]);
        m.every[axis] = a->step[axis];
    }
    return run_mover(device, task, m, 0);
}

static int run_pad(fv_device *device, const fv_task *task) {
    mover m = {};
    m.surrounding = task->attributes->pad.mode;
    for (int axis = 0; axis < task->output[0].rank; axis++)
        walk(&m, axis, &task->output[0], &task->input[0], axis, -task->attributes->pad.before[axis]);
    return run_mover(device, task, m, task->attributes->pad.value);
}

static int run_transpose(fv_device *device, const fv_task *task) {
    mover m = {};
    for (int axis = 0; axis < task->output[0].rank; axis++)
        walk(&m, axis, &task->output[0], &task->input[0], task->attributes->transpose.axes[axis], 0);
    return run_mover(device, task, m, 0);
}

/* ---- Padding folded back: an element of the source gathers from all that came from it; at most two axes were padded ------------ */

namespace {
struct folding {
    mover m;                 /* of the padding: from dx to dy */
    int axis[2];             /* the padded ones; the same twice if there is but one */
    int64_t stride[FV_RANK]; /* of dy */
};
} // namespace

/* The candidates are the position itself and the margins; most margins are a few wide. */
#define EACH_SOURCE(p, f, k, at)                                                                                       \
    for (int64_t p = 0; p < (f).m.size[(f).axis[k]]; p = next_candidate((f).m, (f).axis[k], at, p))                    \
        if ((f).m.source((f).axis[k], p + (f).m.begin[(f).axis[k]]) == (at))

__device__ __forceinline__ int64_t next_candidate(const mover &m, int axis, int64_t at, int64_t p) {
    const int64_t before = -m.begin[axis], own = at + before, behind = before + m.limit[axis];
    if (p + 1 < before || p + 1 >= behind) return p + 1;
    return p < own && own < behind ? own : behind;
}

template <class T> __global__ void fold_elements(folding f, T *dx, const T *dy, int64_t count) {
    GRID_STRIDE(i, count) {
        int64_t rest = i, offset = 0, at[2] = { 0, 0 };
        for (int axis = f.m.rank - 1; axis >= 0; axis--) {
            const int64_t position = rest % f.m.limit[axis];
            rest /= f.m.limit[axis];
            if (axis == f.axis[0]) at[0] = position;
            if (axis == f.axis[1]) at[1] = position;
            if (axis != f.axis[0] && axis != f.axis[1]) offset += position * f.stride[axis];
        }
        float sum = 0;
        EACH_SOURCE(p, f, 0, at[0]) {
            if (f.axis[0] == f.axis[1])
                sum += to_float(dy[offset + p * f.stride[f.axis[0]]]);
            else
                EACH_SOURCE(q, f, 1, at[1])
                sum += to_float(dy[offset + p * f.stride[f.axis[0]] + q * f.stride[f.axis[1]]]);
        }
        dx[i] = from_float<T>(sum);
    }
}

static int run_pad_gradient(fv_device *device, const fv_task *task) {
    const fv_pad_attributes *a = &task->attributes->pad;
    const fv_tensor *dy = &task->input[0], *dx = &task->output[0];
    folding f = {};
    int found = 0;
    f.m.surrounding = a->mode;
    for (int axis = 0; axis < dx->rank; axis++) {
        walk(&f.m, axis, dy, dx, axis, -a->before[axis]);
        f.stride[axis] = span(dy, axis + 1, dy->rank);
        if (a->before[axis] || a->after[axis]) f.axis[found++] = axis;
    }
    if (found < 2) f.axis[1] = f.axis[0];
    const int64_t count = fv_elements(dx);
    return with_real(dx, [&](auto example) {
        using T = decltype(example);
        LAUNCH(fold_elements<T>, blocks_for(device, count), BLOCK, 0, device->stream, f, static_cast<T *>(dx->data),
               static_cast<const T *>(dy->data), count);
        return fv_cuda_launched(device, task);
    });
}
RUN(pad_gradient)

/* An input of a concatenation fills columns begin .. begin + width of rows of `row` elements. */
template <class T>
__global__ void place_columns(T *y, const T *x, int64_t width, int64_t row, int64_t begin, int64_t count) {
    GRID_STRIDE(i, count) y[i / width * row + begin + i % width] = x[i];
}

static int run_concat(fv_device *device, const fv_task *task) {
    const fv_tensor *y = &task->output[0];
    const int axis = task->attributes->axis.axis;
    const int64_t row = span(y, axis, y->rank), inner = span(y, axis + 1, y->rank);
    return with_bytes(y->type, [&](auto example) {
        using T = decltype(example);
        int64_t begin = 0;
        for (int i = 0; i < task->input_count; i++) {
            const fv_tensor *x = &task->input[i];
            const int64_t count = fv_elements(x), width = x->dim[axis] * inner;
            LAUNCH(place_columns<T>, blocks_for(device, count), BLOCK, 0, device->stream, static_cast<T *>(y->data),
                   static_cast<const T *>(x->data), width, row, begin, count);
            begin += width;
        }
        return fv_cuda_launched(device, task);
    });
}

RUN(slice)
RUN(strided_slice)
RUN(strided_slice_gradient)
RUN(pad)
RUN(transpose)
RUN(concat)
