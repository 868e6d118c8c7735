/* reduction.cu - reductions over a set of axes, their gradients, and running sums. A reduction is a matrix: outputs times what each is made
 * from. Long ones are cut into parts whose states are joined in order, so that results repeat. */
#include "cuda/device.h"

enum { MOST_PARTS = 64, LEAST_PART = 1024 };

namespace {
/* Places of a walk over some axes, innermost first. */
struct places {
    int rank;
    int64_t size[FV_RANK], stride[FV_RANK];
    void add(int64_t along, int64_t apart, bool merge) {
        if (merge)
            size[rank - 1] *= along;
        else
            size[rank] = along, stride[rank] = apart, rank++;
    }
    __device__ int64_t operator()(int64_t i) const {
        int64_t at = 0;
        for (int axis = 0; axis < rank; axis++) {
            const int64_t rest = i / size[axis];
            at += (i - rest * size[axis]) * stride[axis];
            i = rest;
        }
        return at;
    }
};
struct reduction {
    places kept, reduced; /* of x: where an output's elements begin, and where they lie from there */
    places owner;         /* the output that an element of x belongs to */
    int64_t outputs, length, per_part;
    int parts;
};

/* ---- Rules: a state, how element i of those reduced is added to it (note: a number that belongs to the output, which may use
 * the first of its elements), how the states of two stretches are joined, and what is written. ---------------------------------- */

/* The state is one number, and the result, of type Y, but for a factor. */
template <class T, class STATE, class Y = T> struct number {
    typedef T element;
    typedef STATE state;
    Y *y;
    float factor;
    __device__ float note(int64_t, float) const { return 0; }
    __device__ void finish(int64_t o, STATE s, float) const { y[o] = from_float<Y>((float)(s * factor)); }
};
template <class T> struct summing : number<T, float, float> { /* sums of 16-bit numbers are f32 */
    static __device__ float start() { return 0; }
    static __device__ void add(float &s, float x, int64_t, float) { s += x; }
    static __device__ float join(float a, float b) { return a + b; }
};
template <class T> struct squaring : summing<T> {
    static __device__ void add(float &s, float x, int64_t, float) { s += x * x; }
};
template <class T> struct absolute_sum : summing<T> {
    static __device__ void add(float &s, float x, int64_t, float) { s += fabsf(x); }
};
template <class T> struct largest : number<T, float> {
    static __device__ float start() { return -INFINITY; }
    static __device__ float join(float a, float b) { return a > b || isnan(a) ? a : b; }
    static __device__ void add(float &s, float x, int64_t, float) { s = join(s, x); }
};
template <class T> struct smallest : number<T, float> {
    static __device__ float start() { return INFINITY; }
    static __device__ float join(float a, float b) { return a < b || isnan(a) ? a : b; }
    static __device__ void add(float &s, float x, int64_t, float) { s = join(s, x); }
};
template <class T> struct multiplying : number<T, double> { /* in double: roundings of factors add up */
    static __device__ double start() { return 1; }
    static __device__ double join(double a, double b) { return a * b; }
    static __device__ void add(double &s, float x, int64_t, float) { s *= (double)x; }
};

/* Where the largest is (of the smallest: signs turned); the first of equal ones, NaN above all. */
template <class T> struct foremost {
    typedef T element;
    struct state {
        float value;
        int32_t index;
    };
    int32_t *y;
    float sign;
    __device__ float note(int64_t, float) const { return 0; }
    static __device__ state start() { return { -INFINITY, INT32_MAX }; }
    static __device__ state join(const state &a, const state &b) {
        const bool above = a.value > b.value || (isnan(a.value) && !isnan(b.value));
        const bool below = b.value > a.value || (isnan(b.value) && !isnan(a.value));
        return above || (!below && a.index < b.index) ? a : b;
    }
    __device__ void add(state &s, float x, int64_t i, float) const { s = join(s, { sign * x, (int32_t)i }); }
    __device__ void finish(int64_t o, const state &s, float) const { y[o] = s.index; }
};

/* Chan et al. 1979: mean and squares about it of two stretches. All numbers are less the output's first, that a large mean costs no
 * digits; the plain sum gives the mean where that is not finite. */
template <class T> struct spreading {
    typedef T element;
    struct state {
        float count, mean, squares, sum;
    };
    T *variance, *mean; /* either may be absent */
    float correction;
    __device__ float note(int64_t, float first) const { return first; }
    static __device__ state start() { return { 0, 0, 0, 0 }; }
    static __device__ void add(state &s, float x, int64_t, float first) {
        const float d = x - first - s.mean;
        s.count++;
        s.mean += d / s.count;
        s.squares += d * (x - first - s.mean);
        s.sum += x;
    }
    static __device__ state join(const state &a, const state &b) {
        const float count = a.count + b.count, d = b.mean - a.mean;
        if (count == 0) return a;
        return { count, a.mean + d * (b.count / count), a.squares + b.squares + d * d * (a.count * b.count / count),
                 a.sum + b.sum };
    }
    __device__ void finish(int64_t o, const state &s, float first) const {
        if (variance) variance[o] = from_float<T>(s.squares / (s.count - correction));
        if (mean) mean[o] = from_float<T>(isfinite(s.mean) ? first + s.mean : s.sum / s.count);
    }
};

template <class T> struct logsum {
    typedef T element;
    struct state {
        float most, sum; /* of exp(x - most) */
    };
    T *y;
    __device__ float note(int64_t, float) const { return 0; }
    static __device__ state start() { return { -INFINITY, 0 }; }
    static __device__ state join(const state &a, const state &b) {
        const bool first = a.most > b.most || isnan(a.most);
        const float most = first ? a.most : b.most, less = first ? b.most : a.most;
        if (!isfinite(most)) return { most, 0 };
        return { most, (first ? a.sum : b.sum) + (first ? b.sum : a.sum) * expf(less - most) };
    }
    static __device__ void add(state &s, float x, int64_t, float) { s = join(s, { x, 1 }); }
    __device__ void finish(int64_t o, const state &s, float) const {
        y[o] = from_float<T>(isfinite(s.most) ? s.most + logf(s.sum) : s.most);
    }
};

/* How many elements equal the output's number. */
template <class T> struct counting : summing<T> {
    const T *of;
    float *count;
    __device__ float note(int64_t o, float) const { return to_float(of[o]); }
    static __device__ void add(float &s, float x, int64_t, float note) { s += x == note ? 1 : 0; }
    __device__ void finish(int64_t o, float s, float) const { count[o] = s; }
};

/* The product of what is not zero, and how many zeros there are. */
struct factors {
    double product, zeros;
};
template <class T> struct multiplying_factors {
    typedef T element;
    typedef factors state;
    factors *y;
    __device__ float note(int64_t, float) const { return 0; }
    static __device__ state start() { return { 1, 0 }; }
    static __device__ state join(const state &a, const state &b) { return { a.product * b.product, a.zeros + b.zeros }; }
    static __device__ void add(state &s, float x, int64_t, float) {
        s.product *= x == 0 ? 1 : (double)x;
        s.zeros += x == 0 ? 1 : 0;
    }
    __device__ void finish(int64_t o, const state &s, float) const { y[o] = s; }
};
} // namespace

/* ---- Launching a rule ---------------------------------------------------------------------------------------------------------- */

static reduction reduction_of(const fv_tensor *x, uint32_t axes) {
    reduction r = {};
    r.outputs = r.length = 1;
    int64_t stride = 1;
    int last = -1; /* which of the two walks the axis before belongs to: neighbours merge */
    for (int axis = x->rank - 1; axis >= 0; axis--) {
        const int side = axes >> axis & 1;
        if (x->dim[axis] > 1) {
            (side ? r.reduced : r.kept).add(x->dim[axis], stride, last == side);
            r.owner.add(x->dim[axis], side ? 0 : r.outputs, last == side);
            last = side;
        }
        (side ? r.length : r.outputs) *= x->dim[axis];
        stride *= x->dim[axis];
    }
    const int64_t wanted = (r.length + LEAST_PART - 1) / LEAST_PART;
    r.parts = wanted < MOST_PARTS ? (int)wanted : (int)MOST_PARTS;
    r.per_part = (r.length + r.parts - 1) / r.parts;
    return r;
}

/* The value of the lane that differs from this one's number in bit d. */
template <class S> __device__ __forceinline__ S exchange(S v, int d) {
    uint32_t words[sizeof(S) / 4];
    memcpy(words, &v, sizeof v);
    for (unsigned k = 0; k < sizeof(S) / 4; k++) words[k] = __shfl_xor_sync(0xffffffffu, words[k], d);
    memcpy(&v, words, sizeof v);
    return v;
}

/* A warp takes one part of one output. parts: where states go if there are several of an output. */
template <class F>
__global__ void reduce_parts(F f, reduction r, typename F::state *parts, const typename F::element *x) {
    const int lane = threadIdx.x % WARP;
    const int64_t teams = (int64_t)gridDim.x * blockDim.x / WARP;
    for (int64_t v = ((int64_t)blockIdx.x * blockDim.x + threadIdx.x) / WARP; v < r.outputs * r.parts; v += teams) {
        const int64_t o = v / r.parts, first = v % r.parts * r.per_part;
        const int64_t last = first + r.per_part < r.length ? first + r.per_part : r.length, from = r.kept(o);
        const float note = f.note(o, to_float(x[from]));
        typename F::state s = f.start();
        for (int64_t i = first + lane; i < last; i += WARP) f.add(s, to_float(x[from + r.reduced(i)]), i, note);
        for (int d = WARP / 2; d > 0; d >>= 1) s = f.join(s, exchange(s, d));
        if (lane == 0 && r.parts > 1) parts[v] = s;
        if (lane == 0 && r.parts == 1) f.finish(o, s, note);
    }
}

/* A thread takes one part of one output: neighbours read neighbouring elements where the last axis is kept. */
template <class F>
__global__ void reduce_columns(F f, reduction r, typename F::state *parts, const typename F::element *x) {
    GRID_STRIDE(v, r.outputs * r.parts) {
        const int64_t o = v % r.outputs, part = v / r.outputs, first = part * r.per_part;
        const int64_t last = first + r.per_part < r.length ? first + r.per_part : r.length, from = r.kept(o);
        const float note = f.note(o, to_float(x[from]));
        typename F::state s = f.start();
        for (int64_t i = first; i < last; i++) f.add(s, to_float(x[from + r.reduced(i)]), i, note);
        if (r.parts > 1)
            parts[o * r.parts + part] = s;
        else
            f.finish(o, s, note);
    }
}

template <class F>
__global__ void join_parts(F f, reduction r, const typename F::state *parts, const typename F::element *x) {
    GRID_STRIDE(o, r.outputs) {
        typename F::state s = f.start();
        for (int part = 0; part < r.parts; part++) s = f.join(s, parts[o * r.parts + part]);
        f.finish(o, s, f.note(o, to_float(x[r.kept(o)])));
    }
}

template <class F> static void reduce(fv_device *device, const F &f, const reduction &r, const void *x, void *scratch) {
    const typename F::element *in = static_cast<const typename F::element *>(x);
    typename F::state *parts = static_cast<typename F::state *>(scratch);
    const int64_t work = r.outputs * r.parts;
    if (r.kept.rank && r.kept.stride[0] == 1 && r.outputs >= WARP)
        LAUNCH(reduce_columns<F>, blocks_for(device, work), BLOCK, 0, device->stream, f, r, parts, in);
    else
        LAUNCH(reduce_parts<F>, blocks_for(device, work * WARP), BLOCK, 0, device->stream, f, r, parts, in);
    if (r.parts > 1)
        LAUNCH(join_parts<F>, blocks_for(device, r.outputs), BLOCK, 0, device->stream, f, r, parts, in);
}

static uint32_t axes_of(const fv_task *task) {
    return task->op == FV_OP_sum_squares || task->op == FV_OP_sum_abs ? ~0u : task->attributes->reduce.axes;
}
template <class T> static T *data_of(const fv_tensor &t) { return static_cast<T *>(t.data); }

enum { STATE_BYTES = 16 }; /* of the largest state */
static size_t parts_bytes(const reduction &r) { return r.parts > 1 ? (size_t)(r.outputs * r.parts) * STATE_BYTES : 0; }

static int prepare_reduction(fv_device *, fv_task *task) {
    task->scratch_bytes = parts_bytes(reduction_of(&task->input[0], axes_of(task)));
    return FV_OK;
}

/* RULE<T> with the members that `set` gives it, over the axes of the task. */
template <template <class> class RULE, class S> static int run_rule(fv_device *device, const fv_task *task, S set) {
    const fv_tensor *x = &task->input[0];
    const reduction r = reduction_of(x, axes_of(task));
    return with_real(x, [&](auto example) {
        RULE<decltype(example)> rule = {};
        static_assert(sizeof(typename RULE<decltype(example)>::state) <= STATE_BYTES, "scratch is too small");
        set(rule, example, r);
        reduce(device, rule, r, x->data, task->scratch);
        return fv_cuda_launched(device, task);
    });
}

template <template <class> class RULE> static int run_number(fv_device *device, const fv_task *task) {
    return run_rule<RULE>(device, task, [&](auto &rule, auto, const reduction &r) {
        rule.y = static_cast<decltype(rule.y)>(task->output[0].data);
        rule.factor = task->op == FV_OP_mean ? 1 / (float)r.length : 1.0f;
    });
}
static int run_place(fv_device *device, const fv_task *task) {
    return run_rule<foremost>(device, task, [&](auto &rule, auto, const reduction &) {
        rule.y = data_of<int32_t>(task->output[0]);
        rule.sign = task->op == FV_OP_argmax ? 1.0f : -1.0f;
    });
}
static int run_variance(fv_device *device, const fv_task *task) {
    return run_rule<spreading>(device, task, [&](auto &rule, auto example, const reduction &) {
        rule.variance = data_of<decltype(example)>(task->output[0]);
        rule.mean = data_of<decltype(example)>(task->output[1]);
        rule.correction = (float)task->attributes->reduce.correction;
    });
}
static int run_logsumexp(fv_device *device, const fv_task *task) {
    return run_rule<logsum>(device, task, [&](auto &rule, auto example, const reduction &) {
        rule.y = data_of<decltype(example)>(task->output[0]);
    });
}

#define REDUCTION(operation, run)                                                                                      \
    extern "C" const fv_kernel KERNEL(operation) = { NULL, prepare_reduction, run, NULL };
REDUCTION(sum, run_number<summing>)
REDUCTION(mean, run_number<summing>)
REDUCTION(sum_squares, run_number<squaring>)
REDUCTION(sum_abs, run_number<absolute_sum>)
REDUCTION(max, run_number<largest>)
REDUCTION(min, run_number<smallest>)
REDUCTION(prod, run_number<multiplying>)
REDUCTION(argmax, run_place)
REDUCTION(argmin, run_place)
REDUCTION(variance, run_variance)
REDUCTION(logsumexp, run_logsumexp)

/* ---- Gradients: each element of x with the numbers of the output that it went into ----------------------------------------------- */

namespace {
/* dy / number of equal extremes where x = y, else 0 */
template <class T> struct shared_out {
    const T *y, *dy;
    const float *equal;
    __device__ float operator()(float x, int64_t o) const { return x == to_float(y[o]) ? to_float(dy[o]) / equal[o] : 0; }
};
/* dy times the product of the others */
template <class T> struct others {
    const T *dy;
    const factors *of;
    __device__ float operator()(float x, int64_t o) const {
        const factors f = of[o];
        const double product = f.zeros == 0 ? f.product / (double)x : f.zeros == 1 && x == 0 ? f.product : 0;
        return (float)((double)to_float(dy[o]) * product);
    }
};
template <class T> struct weighted {
    const T *y, *dy;
    __device__ float operator()(float x, int64_t o) const { return to_float(dy[o]) * expf(x - to_float(y[o])); }
};
} // namespace

template <class T, class G> __global__ void spread(G g, reduction r, T *dx, const T *x, int64_t count) {
    GRID_STRIDE(i, count) dx[i] = from_float<T>(g(to_float(x[i]), r.owner(i)));
}

template <class T, class G> static int run_spread(fv_device *device, const fv_task *task, const reduction &r, const G &g) {
    const int64_t count = r.outputs * r.length;
    LAUNCH((spread<T, G>), blocks_for(device, count), BLOCK, 0, device->stream, g, r,
           data_of<T>(task->output[0]), data_of<const T>(task->input[0]), count);
    return fv_cuda_launched(device, task);
}

/* Scratch: parts, then what the reduction gives each output. */
static int prepare_shares(fv_device *, fv_task *task) {
    const reduction r = reduction_of(&task->input[0], axes_of(task));
    task->scratch_bytes = parts_bytes(r) + (size_t)r.outputs * sizeof(factors);
    return FV_OK;
}
template <class T> static T *shares(const fv_task *task, const reduction &r) {
    return reinterpret_cast<T *>(static_cast<char *>(task->scratch) + parts_bytes(r));
}

static int run_max_gradient(fv_device *device, const fv_task *task) {
    const fv_tensor *in = task->input;
    const reduction r = reduction_of(&in[0], axes_of(task));
    return with_real(&in[0], [&](auto example) {
        using T = decltype(example);
        counting<T> rule = {};
        rule.of = data_of<const T>(in[1]);
        rule.count = shares<float>(task, r);
        reduce(device, rule, r, in[0].data, task->scratch);
        return run_spread<T>(device, task, r, shared_out<T>{ rule.of, data_of<const T>(in[2]), rule.count });
    });
}
static int run_prod_gradient(fv_device *device, const fv_task *task) {
    const fv_tensor *in = task->input;
    const reduction r = reduction_of(&in[0], axes_of(task));
    return with_real(&in[0], [&](auto example) {
        using T = decltype(example);
        const multiplying_factors<T> rule = { shares<factors>(task, r) };
        reduce(device, rule, r, in[0].data, task->scratch);
        return run_spread<T>(device, task, r, others<T>{ data_of<const T>(in[1]), rule.y });
    });
}
static int run_logsumexp_gradient(fv_device *device, const fv_task *task) {
    const fv_tensor *in = task->input;
    return with_real(&in[0], [&](auto example) {
        using T = decltype(example);
        return run_spread<T>(device, task, reduction_of(&in[0], axes_of(task)),
                             weighted<T>{ data_of<const T>(in[1]), data_of<const T>(in[2]) });
    });
}
extern "C" const fv_kernel KERNEL(max_gradient) = { NULL, prepare_shares, run_max_gradient, NULL };
extern "C" const fv_kernel KERNEL(prod_gradient) = { NULL, prepare_shares, run_prod_gradient, NULL };
RUN(logsumexp_gradient)

/* ---- Running sums, kept in double --------------------------------------------------------------------------------------------------- */

namespace {
struct lines {
    int64_t count, length, inner;
    int exclusive, reverse;
    __device__ int64_t operator()(int64_t line, int64_t i) const {
        return (line / inner * length + (reverse ? length - 1 - i : i)) * inner + line % inner;
    }
};
} // namespace

/* A thread takes a line: neighbours read neighbouring elements where other axes follow. */
template <class T> __global__ void sum_lines(lines l, T *y, const T *x) {
    GRID_STRIDE(line, l.count) {
        double sum = 0;
        for (int64_t i = 0; i < l.length; i++) {
            const int64_t at = l(line, i);
            const double before = sum;
            sum += (double)to_float(x[at]);
            y[at] = from_float<T>((float)(l.exclusive ? before : sum));
        }
    }
}

/* A block takes a line, BLOCK elements at a time. */
template <class T> __global__ void sum_long_lines(lines l, T *y, const T *x) {
    SHARED(double, totals, [BLOCK / WARP]);
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    for (int64_t line = blockIdx.x; line < l.count; line += gridDim.x) {
        double carried = 0;
        for (int64_t first = 0; first < l.length; first += BLOCK) {
            const int64_t i = first + threadIdx.x;
            double sum = i < l.length ? (double)to_float(x[l(line, i)]) : 0;
            for (int d = 1; d < WARP; d <<= 1) {
                const double other = __shfl_up_sync(0xffffffffu, sum, d);
                if (lane >= d) sum += other;
            }
            double before = __shfl_up_sync(0xffffffffu, sum, 1);
            if (lane == 0) before = 0;
            if (lane == WARP - 1) totals[warp] = sum;
            __syncthreads();
            double base = carried;
            for (int w = 0; w < BLOCK / WARP; w++) {
                if (w < warp) base += totals[w];
                carried += totals[w];
            }
            if (i < l.length) y[l(line, i)] = from_float<T>((float)(base + (l.exclusive ? before : sum)));
            __syncthreads();
        }
    }
}

static int run_cumsum(fv_device *device, const fv_task *task) {
    const fv_cumsum_attributes *a = &task->attributes->cumsum;
    const fv_tensor *x = &task->input[0];
    const int64_t inner = span(x, a->axis + 1, x->rank), length = x->dim[a->axis];
    const lines l = { span(x, 0, a->axis) * inner, length, inner, a->exclusive, a->reverse };
    const bool few = l.count < (int64_t)device->properties.multiProcessorCount * BLOCK;
    return with_real(x, [&](auto example) {
        using T = decltype(example);
        T *y = data_of<T>(task->output[0]);
        if (length > 2 * WARP && (inner == 1 || few))
            LAUNCH(sum_long_lines<T>, blocks_for(device, l.count * BLOCK), BLOCK, 0, device->stream, l, y,
                   data_of<const T>(*x));
        else
            LAUNCH(sum_lines<T>, blocks_for(device, l.count), BLOCK, 0, device->stream, l, y, data_of<const T>(*x));
        return fv_cuda_launched(device, task);
    });
}
RUN(cumsum)
