/* augment.cu - augmentation of images [n,h,w,c]: geometry, colours, erased boxes, mixtures. First a thread for each sample draws what
 * core/augment.h says, in double as the host does, into scratch: the sample's plan. Then the pixels are made by the plans. */
#include "cuda/device.h"
#include "cuda/philox.h"

#define FV_DRAWN_ON_DEVICE
__device__ static inline void fv_philox(const uint32_t *counter, const uint32_t *key, uint32_t *word) {
    const philox_words drawn = philox(counter[0], counter[1], counter[2], counter[3], key);
    for (int i = 0; i < 4; i++) word[i] = drawn.w[i];
}
#include "core/augment.c"

namespace {
struct image {
    int64_t n, h, w, c;
    int64_t pixels;
};
/* Where a pixel comes from: of which sample, and where there. */
struct origin {
    int64_t n, row, column;
};

/* ---- What is drawn, and which pixel comes from where (false: from nowhere) ------------------------------------------------- */

struct flips {
    bool vertical;
    typedef uint32_t plan; /* not 0: mirrored */
    explicit flips(const fv_attributes *a) : vertical(a->random.vertical != 0) {}
    static float fill(const fv_attributes *) { return 0; }
    __device__ plan draw(const fv_control *control, int32_t sample, const image &) const {
        fv_draws d = fv_draws_make(control, vertical ? FV_STREAM_FLIP_VERTICAL : FV_STREAM_FLIP, sample);
        return fv_draws_word(&d) >> 31;
    }
    __device__ bool source(const plan &mirrored, const image &g, origin &p) const {
        if (mirrored && vertical) p.row = g.h - 1 - p.row;
        if (mirrored && !vertical) p.column = g.w - 1 - p.column;
        return true;
    }
};

struct crops {
    int32_t crop;
    struct plan {
        int32_t down, right;
    };
    explicit crops(const fv_attributes *a) : crop(a->random.crop) {}
    static float fill(const fv_attributes *a) { return a->random.rate; }
    __device__ plan draw(const fv_control *control, int32_t sample, const image &) const {
        const uint32_t shifts = 2 * (uint32_t)crop + 1;
        fv_draws d = fv_draws_make(control, FV_STREAM_CROP, sample);
        const uint32_t down = fv_draws_word(&d) % shifts, right = fv_draws_word(&d) % shifts;
        return { (int32_t)down - crop, (int32_t)right - crop };
    }
    __device__ bool source(const plan &p, const image &g, origin &at) const {
        at.row += p.down;
        at.column += p.right;
        return at.row >= 0 && at.row < g.h && at.column >= 0 && at.column < g.w;
    }
};

struct warps {
    fv_warp_attributes a;
    typedef fv_warp plan;
    explicit warps(const fv_attributes *all) : a(all->warp) {}
    static float fill(const fv_attributes *all) { return all->warp.fill; }
    __device__ plan draw(const fv_control *control, int32_t sample, const image &g) const {
        return fv_warp_draw(&a, control, sample, g.h, g.w);
    }
    __device__ bool taps(const plan &p, const image &g, const origin &at, fv_tap &row, fv_tap &column) const {
        const int64_t down = p.y[0] * at.row + p.y[1] * at.column + p.y[2];
        const int64_t right = p.x[0] * at.row + p.x[1] * at.column + p.x[2];
        return fv_warp_tap(down, g.h, (fv_border)a.border, a.nearest != 0, &row) &&
               fv_warp_tap(right, g.w, (fv_border)a.border, a.nearest != 0, &column);
    }
    __device__ bool source(const plan &p, const image &g, origin &at) const {
        fv_tap row = {}, column = {};
        if (!taps(p, g, at, row, column)) return false;
        at.row = row.first;
        at.column = column.first;
        return true;
    }
};

__device__ __forceinline__ bool within(const fv_box &box, const origin &at) {
    return at.row >= box.top && at.row < box.bottom && at.column >= box.left && at.column < box.right;
}

struct erasures {
    fv_erase_attributes a;
    typedef fv_box plan;
    explicit erasures(const fv_attributes *all) : a(all->erase) {}
    static float fill(const fv_attributes *all) { return all->erase.fill; }
    __device__ plan draw(const fv_control *control, int32_t sample, const image &g) const {
        return fv_erase_draw(&a, control, sample, g.h, g.w);
    }
    __device__ bool source(const plan &box, const image &, origin &at) const { return !within(box, at); }
};

/* The partner of a sample is the batch's next, of the last the first. */
struct mixtures {
    fv_mix_attributes a;
    typedef fv_mix plan;
    explicit mixtures(const fv_attributes *all) : a(all->mix) {}
    static float fill(const fv_attributes *) { return 0; }
    __device__ plan draw(const fv_control *control, int32_t sample, const image &g) const {
        return fv_mix_draw(&a, control, sample, g.h, g.w);
    }
    __device__ bool source(const plan &p, const image &g, origin &at) const {
        if (within(p.box, at)) at.n = (at.n + 1) % g.n;
        return true;
    }
};

struct colors {
    fv_color_attributes a;
    typedef fv_color plan;
    explicit colors(const fv_attributes *all) : a(all->color) {}
    __device__ plan draw(const fv_control *control, int32_t sample, const image &) const {
        return fv_color_draw(&a, control, sample);
    }
};
} // namespace

template <class M>
__global__ void draw_plans(M m, image g, typename M::plan *plans, const int32_t *samples, const fv_control *control) {
    GRID_STRIDE(n, g.n) plans[n] = m.draw(control, samples[n], g);
}

template <class M> static typename M::plan *draw(fv_device *device, const fv_task *task, const M &m, const image &g) {
    typename M::plan *plans = static_cast<typename M::plan *>(task->scratch);
    LAUNCH(draw_plans<M>, blocks_for(device, g.n), BLOCK, 0, device->stream, m, g, plans,
           static_cast<const int32_t *>(task->input[1].data), static_cast<const fv_control *>(task->input[2].data));
    return plans;
}

template <class M> static int prepare_plans(fv_device *, fv_task *task) {
    task->scratch_bytes = (size_t)task->input[0].dim[0] * sizeof(typename M::plan);
    return FV_OK;
}

static image image_of(const fv_tensor *t) { return { t->dim[0], t->dim[1], t->dim[2], t->dim[3], t->dim[1] * t->dim[2] }; }

/* A row of blocks for each sample; beyond so many samples they stride. */
static dim3 blocks_for_images(const fv_device *device, const image &g) {
    const int64_t rows = g.n < 65535 ? g.n : 65535;
    const int64_t most = (blocks_for(device, g.n * g.pixels) + rows - 1) / rows, wanted = (g.pixels + BLOCK - 1) / BLOCK;
    return dim3((unsigned)(wanted < most ? wanted : most), (unsigned)rows);
}
#define EACH_IMAGE(n, g) for (int64_t n = blockIdx.y; n < (g).n; n += gridDim.y)

/* ---- Pixels that are moved ---------------------------------------------------------------------------------------------------- */

/* Mixtures of two pixels exist of floats only. */
template <class M, class T>
__device__ __forceinline__ T taken(const M &, const typename M::plan &, const image &, const T *x, int64_t from, int64_t) {
    return x[from];
}
__device__ __forceinline__ float taken(const mixtures &, const fv_mix &p, const image &g, const float *x, int64_t from,
                                       int64_t n) {
    if (!(p.part < 1 && p.box.top == p.box.bottom)) return x[from];
    const int64_t size = g.pixels * g.c, next = n + 1 < g.n ? from + size : from - n * size;
    return (float)p.part * x[from] + (float)(1 - p.part) * x[next];
}

template <class M, class T>
__global__ void move_pixels(M m, image g, T *y, const T *x, T fill, const typename M::plan *plans) {
    EACH_IMAGE(n, g) {
        const typename M::plan p = plans[n];
        GRID_STRIDE(i, g.pixels) {
            origin at = { n, i / g.w, i % g.w };
            const bool found = m.source(p, g, at);
            const int64_t to = (n * g.pixels + i) * g.c, from = ((at.n * g.h + at.row) * g.w + at.column) * g.c;
            for (int c = 0; c < g.c; c++) y[to + c] = found ? taken(m, p, g, x, from + c, n) : fill;
        }
    }
}

template <class M> static int run_pixels(fv_device *device, const fv_task *task) {
    const fv_tensor *x = &task->input[0], *y = &task->output[0];
    const image g = image_of(y);
    const M m(task->attributes);
    const float fill = M::fill(task->attributes);
    const typename M::plan *plans = draw(device, task, m, g);
    const auto launch = [&](auto value) {
        using T = decltype(value);
        LAUNCH((move_pixels<M, T>), blocks_for_images(device, g), BLOCK, 0, device->stream, m, g,
               static_cast<T *>(y->data), static_cast<const T *>(x->data), value, plans);
        return fv_cuda_launched(device, task);
    };
    switch (y->type) {
    case FV_U8: return launch((uint8_t)(fill < 0 ? 0 : fill > 255 ? 255 : fill + 0.5f));
    case FV_I32: return launch((int32_t)fill);
    case FV_BF16:
    case FV_F16: return launch((uint16_t)0); /* infer lets no other fill come here */
    default: return launch(fill);
    }
}

#define PIXELS(operation, M)                                                                                           \
    extern "C" const fv_kernel KERNEL(operation) = { NULL, prepare_plans<M>, run_pixels<M>, NULL };
PIXELS(flip, flips)
PIXELS(pad_crop, crops)
PIXELS(erase, erasures)
PIXELS(mix, mixtures)

/* ---- Pixels between four others --------------------------------------------------------------------------------------------------- */

/* above and below, each left and right, and the weights of the second ones of each pair */
__device__ __forceinline__ float blend(const float (&v)[4], int wy, int wx) {
    const float one = 1 << FV_WARP_WEIGHT, right = (float)wx / one, down = (float)wy / one;
    return (1 - down) * ((1 - right) * v[0] + right * v[1]) + down * ((1 - right) * v[2] + right * v[3]);
}
__device__ __forceinline__ uint8_t blend(const uint8_t (&v)[4], int wy, int wx) { /* exactly, halves upwards */
    const int one = 1 << FV_WARP_WEIGHT;
    const int sum = (one - wy) * ((one - wx) * v[0] + wx * v[1]) + wy * ((one - wx) * v[2] + wx * v[3]);
    return (uint8_t)((sum + (one * one >> 1)) >> (2 * FV_WARP_WEIGHT));
}

template <class T>
__global__ void interpolate_pixels(warps m, image g, T *y, const T *x, T fill, const fv_warp *plans) {
    EACH_IMAGE(n, g) {
        const fv_warp p = plans[n];
        GRID_STRIDE(i, g.pixels) {
            const origin at = { n, i / g.w, i % g.w };
            fv_tap row = {}, column = {};
            const bool found = m.taps(p, g, at, row, column);
            const int64_t to = (n * g.pixels + i) * g.c, above = (n * g.h + row.first) * g.w,
                          below = (n * g.h + row.second) * g.w;
            for (int c = 0; c < g.c; c++) {
                T value = fill;
                if (found) {
                    const T v[4] = { x[(above + column.first) * g.c + c], x[(above + column.second) * g.c + c],
                                     x[(below + column.first) * g.c + c], x[(below + column.second) * g.c + c] };
                    value = blend(v, row.weight, column.weight);
                }
                y[to + c] = value;
            }
        }
    }
}

static int run_warp(fv_device *device, const fv_task *task) {
    if (task->attributes->warp.nearest) return run_pixels<warps>(device, task);
    const fv_tensor *x = &task->input[0], *y = &task->output[0];
    const image g = image_of(y);
    const warps m(task->attributes);
    const float fill = m.a.fill;
    const fv_warp *plans = draw(device, task, m, g);
    const auto launch = [&](auto value) {
        using T = decltype(value);
        LAUNCH(interpolate_pixels<T>, blocks_for_images(device, g), BLOCK, 0, device->stream, m, g,
               static_cast<T *>(y->data), static_cast<const T *>(x->data), value, plans);
        return fv_cuda_launched(device, task);
    };
    if (y->type == FV_U8) return launch((uint8_t)(fill < 0 ? 0 : fill > 255 ? 255 : fill + 0.5f));
    return launch(fill);
}
extern "C" const fv_kernel KERNEL(warp) = { NULL, prepare_plans<warps>, run_warp, NULL };

/* ---- Colours ------------------------------------------------------------------------------------------------------------------------ */

namespace {
struct pixel {
    float v[3];
};
} // namespace

__device__ __forceinline__ float luma(const pixel &p, int channels) {
    return channels == 1 ? p.v[0] : 0.2989f * p.v[0] + 0.587f * p.v[1] + 0.114f * p.v[2];
}

/* Hue by so many turns: value (the largest) and chroma (largest less smallest) stay. */
__device__ __forceinline__ void turn_hue(pixel &p, float turns) {
    const float red = p.v[0], green = p.v[1], blue = p.v[2];
    const float value = fmaxf(red, fmaxf(green, blue)), chroma = value - fminf(red, fminf(green, blue));
    if (chroma == 0) return;
    const float sixths = 6 * turns + (value == red     ? (green - blue) / chroma
                                      : value == green ? 2 + (blue - red) / chroma
                                                       : 4 + (red - green) / chroma);
    for (int c = 0; c < 3; c++) { /* red is full about 0 sixths, green about 2, blue about 4 */
        const float k = fmodf(sixths + (float)(17 - 2 * c), 6);
        p.v[c] = value - chroma * fmaxf(0, fminf(fminf(k, 4 - k), 1));
    }
}

__device__ __forceinline__ float bounded(float v, float limit) { return v < 0 ? 0 : v > limit ? limit : v; }

/* The steps of a plan before number `steps`; a step of strength 0 is none. */
__device__ __forceinline__ void change_pixel(pixel &p, int channels, const fv_color_attributes &a, const fv_color &color,
                                             int steps, float mean) {
    for (int s = 0; s < steps; s++) {
        const int step = color.order[s];
        const float factor = color.factor[step];
        if (a.strength[step] == 0) continue;
        if (step == FV_HUE) {
            if (channels == 3) turn_hue(p, factor);
            continue;
        }
        const float towards = step == FV_BRIGHTNESS ? 0 : step == FV_CONTRAST ? mean : luma(p, channels);
        for (int c = 0; c < 3; c++) /* one channel: the others are not looked at */
            p.v[c] = bounded(step == FV_BRIGHTNESS ? factor * p.v[c] : factor * p.v[c] + (1 - factor) * towards, a.limit);
    }
}

template <class T> __device__ __forceinline__ pixel load_pixel(const T *x, int channels) {
    pixel p = { { (float)x[0], 0, 0 } };
    if (channels == 3) p.v[1] = (float)x[1], p.v[2] = (float)x[2];
    return p;
}

enum { COLOR_CHUNKS = WARP };

/* The contrast is about the mean luma of the image as the steps before it left it: sums of chunks of the image. */
template <class T>
__global__ void sum_luma(fv_color_attributes a, image g, float *sums, const T *x, const fv_color *plans) {
    EACH_IMAGE(n, g) {
        const fv_color color = plans[n];
        int before = 0;
        while (color.order[before] != FV_CONTRAST) before++;
        float sum = 0;
        GRID_STRIDE(i, g.pixels) {
            pixel p = load_pixel(x + (n * g.pixels + i) * g.c, (int)g.c);
            change_pixel(p, (int)g.c, a, color, before, 0);
            sum += luma(p, (int)g.c);
        }
        sum = block_reduce(sum, add_floats(), 0);
        if (threadIdx.x == 0) sums[n * COLOR_CHUNKS + blockIdx.x] = sum;
    }
}

template <class T>
__global__ void change_colors(fv_color_attributes a, image g, float *y, const T *x, const fv_color *plans,
                              const float *sums, int chunks) {
    EACH_IMAGE(n, g) {
        const fv_color color = plans[n];
        float mean = 0;
        for (int chunk = 0; chunk < chunks; chunk++) mean += sums[n * COLOR_CHUNKS + chunk];
        mean /= (float)g.pixels;
        GRID_STRIDE(i, g.pixels) {
            const int64_t at = (n * g.pixels + i) * g.c;
            pixel p = load_pixel(x + at, (int)g.c);
            change_pixel(p, (int)g.c, a, color, FV_COLOR_STEPS, mean);
            const float grey = luma(p, (int)g.c);
            for (int c = 0; c < g.c; c++) y[at + c] = color.grey ? grey : p.v[c];
        }
    }
}

static size_t color_plans(const fv_task *task) {
    return ((size_t)task->input[0].dim[0] * sizeof(fv_color) + 15) / 16 * 16;
}

static int prepare_color_jitter(fv_device *, fv_task *task) {
    task->scratch_bytes = color_plans(task) + (size_t)task->input[0].dim[0] * COLOR_CHUNKS * sizeof(float);
    return FV_OK;
}

static int run_color_jitter(fv_device *device, const fv_task *task) {
    const fv_tensor *x = &task->input[0], *y = &task->output[0];
    const image g = image_of(y);
    const colors m(task->attributes);
    const fv_color *plans = draw(device, task, m, g);
    float *sums = reinterpret_cast<float *>(static_cast<char *>(task->scratch) + color_plans(task));
    const dim3 blocks = blocks_for_images(device, g);
    const int64_t wanted = (g.pixels + 4 * BLOCK - 1) / (4 * BLOCK); /* the same on every GPU: sums repeat */
    const int chunks = m.a.strength[FV_CONTRAST] == 0 ? 0 : wanted < COLOR_CHUNKS ? (int)wanted : (int)COLOR_CHUNKS;
    const auto launch = [&](auto example) {
        using T = decltype(example);
        const T *in = static_cast<const T *>(x->data);
        if (chunks)
            LAUNCH(sum_luma<T>, dim3((unsigned)chunks, blocks.y), BLOCK, 0, device->stream, m.a, g, sums, in, plans);
        LAUNCH(change_colors<T>, blocks, BLOCK, 0, device->stream, m.a, g, static_cast<float *>(y->data), in, plans,
               sums, chunks);
        return fv_cuda_launched(device, task);
    };
    return x->type == FV_U8 ? launch(uint8_t()) : launch(float());
}
RUN_PREPARED(color_jitter)

/* ---- Targets in the shares of the mixture -------------------------------------------------------------------------------------------- */

__device__ __forceinline__ float target_of(const int32_t *labels, int64_t row, int64_t column, int64_t) {
    return labels[row] == column ? 1 : 0;
}
__device__ __forceinline__ float target_of(const float *targets, int64_t row, int64_t column, int64_t columns) {
    return targets[row * columns + column];
}

template <class T>
__global__ void mix_rows(float *y, const T *targets, const fv_mix *plans, int64_t rows, int64_t columns) {
    GRID_STRIDE(i, rows * columns) {
        const int64_t n = i / columns, column = i % columns;
        const double part = plans[n].part;
        y[i] = (float)part * target_of(targets, n, column, columns) +
               (float)(1 - part) * target_of(targets, (n + 1) % rows, column, columns);
    }
}

static int run_mix_targets(fv_device *device, const fv_task *task) {
    const fv_tensor *target = &task->input[0], *y = &task->output[0];
    const mixtures m(task->attributes);
    const image g = { y->dim[0], m.a.height, m.a.width, 1, 0 };
    const fv_mix *plans = draw(device, task, m, g);
    const int64_t columns = span(y, 1, y->rank);
    const auto launch = [&](auto example) {
        using T = decltype(example);
        LAUNCH(mix_rows<T>, blocks_for(device, g.n * columns), BLOCK, 0, device->stream, static_cast<float *>(y->data),
               static_cast<const T *>(target->data), plans, g.n, columns);
        return fv_cuda_launched(device, task);
    };
    return target->type == FV_I32 ? launch(int32_t()) : launch(float());
}
extern "C" const fv_kernel KERNEL(mix_targets) = { NULL, prepare_plans<mixtures>, run_mix_targets, NULL };
