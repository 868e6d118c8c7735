/* resampling.c - results whose elements are weighted sums of a few rows and a few columns of an image: resize, its
 * gradient, and the gradient of padding by what is there already. They differ only in the two lists of sources, one an
 * axis, which prepare makes: those of a gradient are the forward ones turned round. Vectors run across the channels, or, where those are few
 * and the columns of an element at most two, along the row. */
#include "cpu/cpu.h"
#include "cpu/simd.h"

/* What each position of one axis of the result is made of: entries first[p] .. first[p + 1] - 1. */
typedef struct sources {
    int64_t *first, *index;
    float *weight;
} sources;

/* The input is [outer, in[0], between, in[1], inner], the result [outer, out[0], between, out[1], inner]. */
typedef struct plan {
    int64_t outer, between, inner, in[2], out[2];
    sources along[2];
    /* Along the row: of each element of a row of the result, where in the row of sources it comes from, -1: nowhere,
       and with which weight. Two lists of `reach` numbers; NULL: across the channels. */
    int64_t reach;
    int32_t *place;
    float *part;
    int64_t memory[];
} plan;

/* ---- The lists of an axis ---------------------------------------------------------------------------------------- */
/* Adds the sources of position p: at most two. */
typedef int add_sources(const fv_attributes *, int axis, int64_t p, int64_t size, int64_t index[2], float weight[2]);

static int resize_sources(const fv_attributes *attributes, int axis, int64_t p, int64_t size, int64_t index[2],
                          float weight[2]) {
    const fv_resize_attributes *a = &attributes->resize;
    int64_t out = a->output[axis], last = size - 1, over, under; /* coordinate over / under */
    if (a->corners == FV_HALF_PIXEL) over = (2 * p + 1) * size - out, under = 2 * out;
    else if (a->corners == FV_ALIGN_CORNERS) over = p * last, under = most(1, out - 1);
    else over = p * size, under = out;
    if (a->interpolation == FV_NEAREST) {
        if (a->corners != FV_ASYMMETRIC) over = 2 * over + under, under *= 2;
        index[0] = least(last, most(0, over) / under);
        weight[0] = 1;
        return 1;
    }
    over = least(most(0, over), last * under);
    index[0] = over / under;
    index[1] = index[0] + 1;
    weight[1] = (float)((double)(over % under) / (double)under);
    weight[0] = (float)((double)(under - over % under) / (double)under);
    return over % under ? 2 : 1;
}

/* axis: of the tensor; -1: not padded. */
static int pad_sources(const fv_attributes *attributes, int axis, int64_t p, int64_t size, int64_t index[2],
                       float weight[2]) {
    int64_t i = axis < 0 ? p : p - attributes->pad.before[axis];
    if (i < 0 || i >= size) switch (attributes->pad.mode) {
        case FV_PAD_REFLECT: i = i < 0 ? -i : 2 * (size - 1) - i; break;
        case FV_PAD_REPLICATE: i = i < 0 ? 0 : size - 1; break;
        default: i = i < 0 ? i + size : i - size;
        }
    index[0] = i;
    weight[0] = 1;
    return 1;
}

/* The lists of `out` positions of an axis of `in`; those that go back: of the `in` positions. Returns what follows in
 * memory; room for size_of_lists. */
static size_t size_of_lists(int64_t in, int64_t out) { return (size_t)(most(in, out) + 2 + 3 * out); }
static int64_t *make_lists(sources *s, int64_t *memory, const fv_attributes *a, int axis, int64_t in, int64_t out,
                           add_sources *add, bool back) {
    int64_t count = back ? in : out, index[2];
    float weight[2];
    s->first = memory;
    s->index = s->first + most(in, out) + 2;
    s->weight = (float *)(s->index + 2 * out);
    for (int64_t p = 0; p < out; p++) /* how long each list is, two places further on */
        for (int k = add(a, axis, p, in, index, weight); k-- > 0;) s->first[(back ? index[k] : p) + 2]++;
    for (int64_t p = 2; p <= count + 1; p++) s->first[p] += s->first[p - 1];
    for (int64_t p = 0; p < out; p++)
        for (int k = 0, n = add(a, axis, p, in, index, weight); k < n; k++) {
            int64_t at = s->first[(back ? index[k] : p) + 1]++;
            s->index[at] = back ? p : index[k];
            s->weight[at] = weight[k];
        }
    return s->index + 3 * out;
}

/* ---- The sums ---------------------------------------------------------------------------------------------------- */
enum { NEAR = 4 }; /* sources of one element that are gathered before the channels are gone through */

INLINE void blend(const float *const *from, const float *weight, const int count, int64_t channels, float *out) {
    for (int64_t c = 0; c < channels; c += LANES) {
        int64_t left = channels - c;
        vf sum = load_up_to(from[0] + c, left) * weight[0];
        UNROLL(4)
        for (int k = 1; k < count; k++) sum += load_up_to(from[k] + c, left) * weight[k];
        store_up_to(out + c, sum, left);
    }
}
static void sum_all(const float *from, const plan *p, int64_t i, int64_t j, float *out) {
    const sources *v = &p->along[0], *h = &p->along[1];
    int64_t row = p->between * p->in[1] * p->inner;
    for (int64_t c = 0; c < p->inner; c += LANES) {
        vf sum = { 0 };
        for (int64_t r = v->first[i]; r < v->first[i + 1]; r++)
            for (int64_t s = h->first[j]; s < h->first[j + 1]; s++)
                sum += load_up_to(from + v->index[r] * row + h->index[s] * p->inner + c, p->inner - c) *
                       (v->weight[r] * h->weight[s]);
        store_up_to(out + c, sum, p->inner - c);
    }
}

/* One element of the result in all channels. */
INLINE void sum_sources(const plan *p, const float *image, int64_t i, int64_t j, float *out) {
    const sources *v = &p->along[0], *h = &p->along[1];
    int64_t row = p->between * p->in[1] * p->inner, rows = v->first[i + 1] - v->first[i],
            columns = h->first[j + 1] - h->first[j];
    const float *from[NEAR];
    float weight[NEAR];
    if (rows * columns > NEAR) {
        sum_all(image, p, i, j, out);
        return;
    }
    int count = 0;
    for (int64_t r = v->first[i]; r < v->first[i + 1]; r++)
        for (int64_t s = h->first[j]; s < h->first[j + 1]; s++, count++) {
            from[count] = image + v->index[r] * row + h->index[s] * p->inner;
            weight[count] = v->weight[r] * h->weight[s];
        }
    switch (count) {
    case 0: zero_floats(out, p->inner); break;
    case 1:
        if (weight[0] == 1) copy_floats(out, from[0], p->inner);
        else blend(from, weight, 1, p->inner, out);
        break;
    case 2: blend(from, weight, 2, p->inner, out); break;
    case 3: blend(from, weight, 3, p->inner, out); break;
    default: blend(from, weight, 4, p->inner, out);
    }
}

/* ---- Along the row ----------------------------------------------------------------------------------------------- */
/* A row of sources: one of the image's, or the sum of several. */
static const float *sum_of_rows(const plan *p, const float *image, int64_t i, float *own) {
    const sources *v = &p->along[0];
    int64_t from = v->first[i], to = v->first[i + 1], width = p->in[1] * p->inner, row = p->between * width;
    if (to - from == 1 && v->weight[from] == 1) return image + v->index[from] * row;
    for (int64_t e = 0; e < width; e += LANES) {
        vf sum = { 0 };
        for (int64_t r = from; r < to; r++)
            sum += load_up_to(image + v->index[r] * row + e, width - e) * v->weight[r];
        store_up_to(own + e, sum, width - e);
    }
    return own;
}
static void gather_row(const plan *p, const float *row, float *out) {
    for (int64_t e = 0, width = p->out[1] * p->inner; e < width; e += LANES) {
        vf sum = { 0 };
        for (int k = 0; k < 2; k++) {
            vi place = load_int(p->place + k * p->reach + e), there = place >= 0;
            sum += keep_if(there, load_scattered(row, place & there)) * load(p->part + k * p->reach + e);
        }
        store_up_to(out + e, sum, width - e);
    }
}
static void make_places(plan *p, int64_t *memory) {
    const sources *h = &p->along[1];
    p->place = (int32_t *)memory;
    p->part = (float *)memory + 2 * p->reach;
    for (int64_t e = 0; e < p->reach; e++)
        for (int k = 0; k < 2; k++) {
            int64_t j = least(e / p->inner, p->out[1] - 1), s = h->first[j] + k;
            bool there = e < p->out[1] * p->inner && s < h->first[j + 1];
            p->place[k * p->reach + e] = there ? (int32_t)(h->index[s] * p->inner + e % p->inner) : -1;
            p->part[k * p->reach + e] = there ? h->weight[s] : 0;
        }
}

/* Do two rows of the result have the same sources? */
static bool same_sources(const sources *s, int64_t a, int64_t b) {
    int64_t n = s->first[a + 1] - s->first[a];
    if (s->first[b + 1] - s->first[b] != n) return false;
    for (int64_t k = 0; k < n; k++)
        if (s->index[s->first[a] + k] != s->index[s->first[b] + k] ||
            s->weight[s->first[a] + k] != s->weight[s->first[b] + k])
            return false;
    return true;
}

static void sum_rows(const void *argument, int64_t begin, int64_t end, int thread) {
    const fv_task *task = argument;
    const plan *p = task->kept;
    const sources *v = &p->along[0];
    int64_t width = p->out[1] * p->inner;
    for (int64_t row = begin; row < end; row++) {
        int64_t i = row / p->between % p->out[0], o = row / p->between / p->out[0];
        float *out = (float *)task->output[0].data + row * width;
        if (row - begin >= p->between && i && same_sources(v, i, i - 1)) {
            copy_floats(out, out - p->between * width, width);
            continue;
        }
        const float *image = (const float *)task->input[0].data +
                             (o * p->in[0] * p->between + row % p->between) * p->in[1] * p->inner;
        if (p->place) {
            float *own = (float *)task->scratch + thread * round_up(p->in[1] * p->inner, 16);
            gather_row(p, sum_of_rows(p, image, i, own), out);
            continue;
        }
        for (int64_t j = 0; j < p->out[1]; j++) sum_sources(p, image, i, j, out + j * p->inner);
    }
}
static int sum_run(fv_device *device, const fv_task *task) {
    const plan *p = task->kept;
    fv_parallel(device, p->outer * p->out[0] * p->between, 8192 / (p->out[1] * p->inner + 1) + 1, sum_rows, task);
    return FV_OK;
}

/* ---- Plans ------------------------------------------------------------------------------------------------------- */
static int64_t product(const fv_tensor *t, int first, int last) {
    int64_t n = 1;
    for (int i = first; i < last; i++) n *= t->dim[i];
    return n;
}

/* axes: the two of the tensors, or -1 in place of the first or of both; named: what `add` calls them; back: the input has
 * the sizes that `add` gives positions of. */
static int prepare_axes(fv_device *device, fv_task *task, const int axes[2], const int named[2], add_sources *add,
                        bool back) {
    const fv_tensor *x = &task->input[0], *y = &task->output[0];
    int first = axes[0] < 0 ? axes[1] : axes[0];
    plan sizes = { .outer = product(x, 0, first), .between = product(x, first + 1, axes[1]),
                   .inner = product(x, axes[1] + 1, x->rank) };
    size_t words = 0;
    for (int k = 0; k < 2; k++) {
        sizes.in[k] = axes[k] < 0 ? 1 : x->dim[axes[k]];
        sizes.out[k] = axes[k] < 0 ? 1 : y->dim[axes[k]];
        words += back ? size_of_lists(sizes.out[k], sizes.in[k]) : size_of_lists(sizes.in[k], sizes.out[k]);
    }
    /* A list turned round has no bound on its length. */
    bool along = sizes.inner < LANES && !back && sizes.in[1] <= INT32_MAX / LANES;
    sizes.reach = round_up(sizes.out[1] * sizes.inner, LANES);
    if (along) words += 2 * (size_t)sizes.reach;
    plan *p = device->host.alloc(device->host.context, sizeof *p + words * sizeof *p->memory, "sources of an image");
    if (!p) return FV_ERROR_MEMORY;
    *p = sizes;
    task->kept = p;
    int64_t *memory = p->memory;
    for (int k = 0; k < 2; k++)
        memory = make_lists(&p->along[k], memory, task->attributes, named[k], back ? p->out[k] : p->in[k],
                            back ? p->in[k] : p->out[k], add, back);
    task->algorithm = along ? "along the row" : "across the channels";
    if (!along) return FV_OK;
    make_places(p, memory);
    task->scratch_bytes = (size_t)device->threads * (size_t)round_up(p->in[1] * p->inner, 16) * sizeof(float);
    return FV_OK;
}

static int resize_prepare(fv_device *device, fv_task *task) {
    return prepare_axes(device, task, (const int[]){ 1, 2 }, (const int[]){ 0, 1 }, resize_sources,
                        task->op == FV_OP_resize_gradient);
}

static int pad_gradient_prepare(fv_device *device, fv_task *task) {
    const fv_pad_attributes *a = &task->attributes->pad;
    int axes[2] = { -1, -1 };
    for (int i = 0; i < task->input[0].rank; i++)
        if (a->before[i] || a->after[i]) axes[0] = axes[1], axes[1] = i;
    return prepare_axes(device, task, axes, axes, pad_sources, true);
}

static void release(fv_device *device, fv_task *task) {
    device->host.free(task->kept);
    task->kept = NULL;
}
const fv_cpu_kernel KERNEL(resize) = { { NULL, resize_prepare, sum_run, release }, NULL };
const fv_cpu_kernel KERNEL(resize_gradient) = { { NULL, resize_prepare, sum_run, release }, NULL };
const fv_cpu_kernel KERNEL(pad_gradient) = { { NULL, pad_gradient_prepare, sum_run, release }, NULL };
