/* shaping.cu - operations that move elements and compute nothing. One mechanism: each element of the result has a place in the source
 * that is a sum over its coordinates; outside the source there is a value, or what surrounds it by reflection, the edge or repetition. */
#include "core/half.h"
#include "cuda/device.h"
#include <string.h>

namespace {
/* I: as wide as the numbers need. */
template <class I> struct walker {
    int rank;
    I size[FV_RANK];  /* of the result                                     */
    I step[FV_RANK];  /* of the source, for one coordinate of the result   */
    I begin[FV_RANK]; /* source coordinate of the result's first           */
    I limit[FV_RANK]; /* size of the source along it                       */
    I every[FV_RANK]; /* only places that it divides come from the source, which lies that much apart */
    I first;          /* where the source begins                           */
    int surrounding;  /* fv_pad_mode                                       */

    /* Where a position outside the source comes from; -1: from nowhere. */
    __device__ I source(int axis, I at) const {
        const I size_ = limit[axis];
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
    /* Every place comes from the source, at even distances. */
    bool even(int axis) const { return begin[axis] == 0 && limit[axis] == size[axis] && every[axis] == 1; }
};
typedef walker<int64_t> mover;
} // namespace

template <class T, class I> __global__ void move(walker<I> m, T *y, const T *x, T outside, int64_t count) {
    GRID_STRIDE(i, count) {
        I rest = (I)i, from = m.first;
        bool inside = true;
        for (int axis = m.rank - 1; axis >= 0; axis--) {
            const I next = rest / m.size[axis];
            const I at = m.source(axis, rest - next * m.size[axis] + m.begin[axis]);
            rest = next;
            inside = inside && at >= 0;
            from += at * m.step[axis];
        }
        y[i] = inside ? x[from] : outside;
    }
}

/* ---- Axes that change places: squares through shared memory, that both sides are walked along their neighbours ---------------------- */

namespace {
enum { SIDE = 32 };
struct squares {
    int rank; /* of the axes outside the squares */
    int64_t size[FV_RANK], step[FV_RANK], place[FV_RANK]; /* place: in the result, for one coordinate of it */
    int64_t first, rows, columns;                         /* rows: along the source's neighbours */
    int64_t column_step, row_place, down, across, count;
};
} // namespace

template <class T> __global__ void move_squares(squares g, T *y, const T *x) {
    SHARED(T, part, [SIDE][SIDE + 1]);
    for (int64_t square = blockIdx.x; square < g.count; square += gridDim.x) {
        const int64_t column = square % g.across * SIDE, row = square / g.across % g.down * SIDE;
        int64_t rest = square / g.across / g.down, from = g.first, to = 0;
        for (int axis = 0; axis < g.rank; axis++) {
            from += rest % g.size[axis] * g.step[axis];
            to += rest % g.size[axis] * g.place[axis];
            rest /= g.size[axis];
        }
        for (int k = threadIdx.y; k < SIDE; k += blockDim.y)
            if (row + threadIdx.x < g.rows && column + k < g.columns)
                part[k][threadIdx.x] = x[from + row + threadIdx.x + (column + k) * g.column_step];
        __syncthreads();
        for (int k = threadIdx.y; k < SIDE; k += blockDim.y)
            if (row + k < g.rows && column + threadIdx.x < g.columns)
                y[to + (row + k) * g.row_place + column + threadIdx.x] = part[threadIdx.x][k];
        __syncthreads();
    }
}

/* ---- Host side: fewer axes, wider words, smaller numbers ------------------------------------------------------------------------ */

/* Only the size of an element matters; neighbours that stay neighbours move as one word. */
template <class F> static int with_word(int bytes, F f) {
    switch (bytes) {
    case 1: return f(uint8_t());
    case 2: return f(uint16_t());
    case 4: return f(uint32_t());
    case 8: return f(uint64_t());
    default: return f(uint4());
    }
}
static int element_bytes(fv_type type) { return type == FV_U8 ? 1 : type == FV_BF16 || type == FV_F16 ? 2 : 4; }
static bool divides(int64_t n, const void *address) { return (uintptr_t)address % (uintptr_t)n == 0; }

static void join_axes(mover *m) {
    const mover old = *m;
    m->rank = 0;
    for (int axis = 0; axis < old.rank; axis++) {
        const int to = m->rank, last = to - 1;
        m->size[to] = old.size[axis], m->step[to] = old.step[axis], m->begin[to] = old.begin[axis];
        m->limit[to] = old.limit[axis], m->every[to] = old.every[axis];
        if (m->every[to] == 1 && m->begin[to] >= 0 && m->begin[to] + m->size[to] <= m->limit[to]) {
            m->first += m->begin[to] * m->step[to];
            m->begin[to] = 0;
            m->limit[to] = m->size[to];
        }
        if (m->even(to) && m->size[to] == 1) continue;
        if (last >= 0 && m->even(to) && m->even(last) && m->step[last] == m->step[to] * m->size[to]) {
            m->limit[last] = m->size[last] *= m->size[to];
            m->step[last] = m->step[to];
            continue;
        }
        m->rank++;
    }
}

/* The bytes of the largest word that moves as one; the walk then counts words. */
static int widen(mover *m, int bytes, const void *y, const void *x) {
    const int last = m->rank - 1;
    if (last < 0 || m->step[last] != 1 || !m->even(last)) return bytes;
    for (int word = 16; word > bytes; word /= 2) {
        const int64_t n = word / bytes;
        bool fits = m->size[last] % n == 0 && m->first % n == 0 && divides(word, y) && divides(word, x);
        for (int axis = 0; axis < last; axis++) fits = fits && m->step[axis] % n == 0;
        if (!fits) continue;
        for (int axis = 0; axis < last; axis++) m->step[axis] /= n;
        m->limit[last] = m->size[last] /= n;
        m->first /= n;
        return word;
    }
    return bytes;
}

/* False: some number needs 64 bits. */
static bool narrow(walker<int32_t> *to, const mover &m, int64_t of_result, int64_t of_source) {
    int64_t most = of_result > of_source ? of_result : of_source;
    const auto taken = [&](int64_t v) {
        const int64_t size = v < 0 ? -v : v;
        most = size > most ? size : most;
        return (int32_t)v;
    };
    to->rank = m.rank;
    to->surrounding = m.surrounding;
    to->first = taken(m.first);
    for (int axis = 0; axis < m.rank; axis++) {
        to->size[axis] = taken(m.size[axis]), to->step[axis] = taken(m.step[axis]), to->begin[axis] = taken(m.begin[axis]);
        to->limit[axis] = taken(m.limit[axis]), to->every[axis] = taken(m.every[axis]);
    }
    return most < 1 << 30; /* a position outside is at most twice that */
}

/* The bits of a value in a type. */
static uint32_t bits_of(fv_type type, float value) {
    uint32_t bits = 0;
    const int32_t whole = (int32_t)value;
    if (type == FV_F32)
        memcpy(&bits, &value, sizeof bits);
    else if (type == FV_I32)
        memcpy(&bits, &whole, sizeof bits);
    else if (type == FV_U8)
        bits = (uint8_t)value;
    else
        bits = type == FV_BF16 ? fv_to_bf16(value) : fv_to_f16(value);
    return bits;
}

/* Are squares worth while: all axes even, the last one of the result another than that of the source, both long enough? */
static bool cut_squares(squares *g, const mover &m) {
    const int last = m.rank - 1;
    int64_t place = 1;
    bool found = false;
    if (last < 0 || m.step[last] == 1) return false;
    g->first = m.first;
    g->columns = m.size[last], g->column_step = m.step[last];
    for (int axis = last; axis >= 0; place *= m.size[axis--]) {
        if (!m.even(axis)) return false;
        if (axis == last) continue;
        if (m.step[axis] == 1 && !found)
            found = true, g->rows = m.size[axis], g->row_place = place;
        else
            g->size[g->rank] = m.size[axis], g->step[g->rank] = m.step[axis], g->place[g->rank++] = place;
    }
    g->down = (g->rows + SIDE - 1) / SIDE, g->across = (g->columns + SIDE - 1) / SIDE;
    g->count = g->down * g->across;
    for (int axis = 0; axis < g->rank; axis++) g->count *= g->size[axis];
    return found && g->rows >= SIDE / 4 && g->columns >= SIDE / 4;
}

static int run_mover(fv_device *device, const fv_task *task, mover m, float outside) {
    const fv_tensor *x = &task->input[0], *y = &task->output[0];
    const int bytes = element_bytes(y->type);
    const uint32_t bits = bits_of(y->type, outside);
    join_axes(&m);
    const int word = widen(&m, bytes, y->data, x->data);
    const int64_t count = fv_elements(y) * bytes / word;
    return with_word(word, [&](auto fill) {
        using T = decltype(fill);
        walker<int32_t> small = {};
        squares g = {};
        for (size_t at = 0; at < sizeof fill; at += (size_t)bytes)
            memcpy(reinterpret_cast<char *>(&fill) + at, &bits, (size_t)bytes);
        T *to = static_cast<T *>(y->data);
        const T *from = static_cast<const T *>(x->data);
        if constexpr (sizeof(T) <= 4) /* wider words are neighbours on both sides */
            if (cut_squares(&g, m)) {
                LAUNCH(move_squares<T>, blocks_for(device, g.count * BLOCK), dim3(SIDE, BLOCK / SIDE), 0, device->stream, g,
                       to, from);
                return fv_cuda_launched(device, task);
            }
        if (narrow(&small, m, count, fv_elements(x)))
            LAUNCH((move<T, int32_t>), blocks_for(device, count), BLOCK, 0, device->stream, small, to, from, fill, count);
        else
            LAUNCH((move<T, int64_t>), blocks_for(device, count), BLOCK, 0, device->stream, m, to, from, fill, count);
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

/* In the largest words that divide all rows and their beginnings. */
static int run_concat(fv_device *device, const fv_task *task) {
    const fv_tensor *y = &task->output[0];
    const int axis = task->attributes->axis.axis;
    const int64_t inner = span(y, axis + 1, y->rank) * element_bytes(y->type), row = y->dim[axis] * inner;
    int word = 16;
    while (!divides(word, y->data)) word /= 2;
    for (int i = 0; i < task->input_count; i++)
        while (task->input[i].dim[axis] * inner % word || !divides(word, task->input[i].data)) word /= 2;
    return with_word(word, [&](auto example) {
        using T = decltype(example);
        int64_t begin = 0;
        for (int i = 0; i < task->input_count; i++) {
            const fv_tensor *x = &task->input[i];
            const int64_t width = x->dim[axis] * inner / word, count = span(x, 0, axis) * width;
            LAUNCH(place_columns<T>, blocks_for(device, count), BLOCK, 0, device->stream, static_cast<T *>(y->data),
                   static_cast<const T *>(x->data), width, row / word, begin, count);
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
