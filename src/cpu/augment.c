/* augment.c - augmentation of images [n,h,w,c], a piece of work a sample. Maps are walked in fixed point, so pixels and
 * weights are those of the specification; colours are changed LANES pixels at a time, in one pass, or two where the
 * contrast needs the mean of what comes before it. */
#include "core/augment.h"
#include "core/core.h"
#include "cpu/cpu.h"
#include "cpu/simd.h"

static const fv_control *control_of(const fv_task *task) { return task->input[2].data; }
static int32_t sample_of(const fv_task *task, int64_t n) { return ((const int32_t *)task->input[1].data)[n]; }
static size_t image_bytes(const fv_tensor *t) {
    return (size_t)(t->dim[1] * t->dim[2] * t->dim[3]) * type_bytes(t->type);
}
static int run_images(fv_device *device, const fv_task *task, fv_part *part) {
    const fv_tensor *y = &task->output[0];
    fv_parallel(device, y->dim[0], 8192 / (y->dim[1] * y->dim[2] * y->dim[3] + 1) + 1, part, task);
    return FV_OK;
}

/* So many elements of one value, as the specification rounds it. */
static void fill(void *to, int64_t count, fv_type type, float value) {
    if (type == FV_F32)
        for (int64_t i = 0; i < count; i++) ((float *)to)[i] = value;
    else if (type == FV_I32)
        for (int64_t i = 0; i < count; i++) ((int32_t *)to)[i] = (int32_t)value;
    else if (type == FV_U8)
        memset(to, (int)(value < 0 ? 0 : value > 255 ? 255 : value + 0.5), (size_t)count);
    else
        memset(to, 0, (size_t)count * type_bytes(type));
}

/* ---- Flips and shifts ----------------------------------------------------------------------------------------------- */
static void draw(const fv_control *control, uint32_t stream, int32_t sample, uint32_t word[4]) {
    uint32_t counter[4] = { (uint32_t)sample, stream, control->epoch, 0 };
    fv_philox(counter, control->seed, word);
}
static void flip_images(const void *argument, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const fv_task *task = argument;
    const fv_tensor *x = &task->input[0];
    size_t pixel = (size_t)x->dim[3] * type_bytes(x->type), row = (size_t)x->dim[2] * pixel,
           image = (size_t)x->dim[1] * row;
    for (int64_t n = begin; n < end; n++) {
        uint32_t word[4];
        bool vertical = task->attributes->random.vertical;
        draw(control_of(task), vertical ? FV_STREAM_FLIP_VERTICAL : FV_STREAM_FLIP,
             sample_of(task, n), word);
        const char *from = (const char *)x->data + (size_t)n * image;
        char *to = (char *)task->output[0].data + (size_t)n * image;
        if (!(word[0] >> 31)) {
            memcpy(to, from, image);
            continue;
        }
        for (int64_t y = 0; vertical && y < x->dim[1]; y++, from += row)
            memcpy(to + (size_t)(x->dim[1] - 1 - y) * row, from, row);
        for (int64_t y = 0; !vertical && y < x->dim[1]; y++, from += row, to += row)
            for (int64_t i = 0; i < x->dim[2]; i++)
                memcpy(to + (size_t)i * pixel, from + (size_t)(x->dim[2] - 1 - i) * pixel, pixel);
    }
}
static void crop_images(const void *argument, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const fv_task *task = argument;
    const fv_tensor *x = &task->input[0];
    int64_t height = x->dim[1], width = x->dim[2];
    size_t pixel = (size_t)x->dim[3] * type_bytes(x->type), row = (size_t)width * pixel, image = (size_t)height * row;
    float outside = task->attributes->random.rate;
    uint32_t choices = 2 * (uint32_t)task->attributes->random.crop + 1;
    for (int64_t n = begin; n < end; n++) {
        uint32_t word[4];
        draw(control_of(task), FV_STREAM_CROP, sample_of(task, n), word);
        int64_t down = (int64_t)(word[0] % choices) - task->attributes->random.crop;
        int64_t right = (int64_t)(word[1] % choices) - task->attributes->random.crop;
        int64_t first = least(width, most(0, -right)), last = most(first, least(width, width - right));
        const char *from = (const char *)x->data + (size_t)n * image;
        char *to = (char *)task->output[0].data + (size_t)n * image;
        for (int64_t y = 0; y < height; y++, to += row) {
            bool inside = y + down >= 0 && y + down < height && last > first;
            if (!inside) {
                fill(to, width * x->dim[3], x->type, outside);
                continue;
            }
            fill(to, first * x->dim[3], x->type, outside);
            memcpy(to + (size_t)first * pixel, from + (size_t)(y + down) * row + (size_t)(first + right) * pixel,
                   (size_t)(last - first) * pixel);
            fill(to + (size_t)last * pixel, (width - last) * x->dim[3], x->type, outside);
        }
    }
}
static int flip_run(fv_device *device, const fv_task *task) { return run_images(device, task, flip_images); }
static int crop_run(fv_device *device, const fv_task *task) { return run_images(device, task, crop_images); }

/* ---- Geometry ---------------------------------------------------------------------------------------------------- */
INLINE void blend_bytes(uint8_t *to, const uint8_t *const p[4], int32_t wy, int32_t wx, const int64_t channels) {
    const int32_t one = 1 << FV_WARP_WEIGHT;
    for (int64_t c = 0; c < channels; c++) {
        int32_t above = (one - wx) * p[0][c] + wx * p[1][c], below = (one - wx) * p[2][c] + wx * p[3][c];
        to[c] = (uint8_t)(((one - wy) * above + wy * below + (1 << (2 * FV_WARP_WEIGHT - 1))) >> (2 * FV_WARP_WEIGHT));
    }
}
INLINE void blend_floats(float *to, const float *const p[4], int32_t wy, int32_t wx, const int64_t channels) {
    const float unit = 1.0f / (1 << FV_WARP_WEIGHT), y = (float)wy * unit, x = (float)wx * unit;
    for (int64_t c = 0; c < channels; c++) {
        float above = (1 - x) * p[0][c] + x * p[1][c], below = (1 - x) * p[2][c] + x * p[3][c];
        to[c] = (1 - y) * above + y * below;
    }
}
/* fv_warp_tap where neither neighbour lies beyond an edge; false elsewhere. */
INLINE bool inner_tap(int64_t c, int64_t n, const bool nearest, fv_tap *tap) {
    const int step = FV_WARP_FRACTION - FV_WARP_WEIGHT;
    int64_t rounded = c + ((int64_t)1 << (nearest ? FV_WARP_FRACTION - 1 : step - 1)), i = rounded >> FV_WARP_FRACTION;
    if (i < 0 || i >= n - 1) return false;
    *tap = (fv_tap){ i, nearest ? i : i + 1, nearest ? 0 : (int32_t)(rounded >> step & ((1 << FV_WARP_WEIGHT) - 1)) };
    return true;
}
enum { COPIED, BYTES, FLOATS };
INLINE void warp_image(const fv_task *task, int64_t n, const int kind, const int64_t channels) {
    const fv_warp_attributes *a = &task->attributes->warp;
    const fv_tensor *x = &task->input[0], *y = &task->output[0];
    const int64_t height = x->dim[1], width = x->dim[2];
    const fv_border border = (fv_border)a->border;
    const fv_warp map = fv_warp_draw(a, control_of(task), sample_of(task, n), height, width);
    const size_t element = type_bytes(x->type), pixel = (size_t)channels * element;
    const char *from = (const char *)x->data + (size_t)n * image_bytes(x);
    char *to = (char *)y->data + (size_t)n * image_bytes(y);
    for (int64_t i = 0; i < height; i++) {
        int64_t cy = map.y[0] * i + map.y[2], cx = map.x[0] * i + map.x[2];
        for (int64_t j = 0; j < width; j++, cy += map.y[1], cx += map.x[1], to += pixel) {
            fv_tap row, column;
            if (!(inner_tap(cy, height, kind == COPIED, &row) && inner_tap(cx, width, kind == COPIED, &column)) &&
                !(fv_warp_tap(cy, height, border, kind == COPIED, &row) &&
                  fv_warp_tap(cx, width, border, kind == COPIED, &column))) {
                fill(to, channels, x->type, a->fill);
                continue;
            }
            const char *first = from + (size_t)(row.first * width) * pixel,
                       *second = from + (size_t)(row.second * width) * pixel;
            size_t left = (size_t)column.first * pixel, right = (size_t)column.second * pixel;
            if (kind == COPIED)
                memcpy(to, first + left, pixel);
            else if (kind == BYTES)
                blend_bytes((uint8_t *)to,
                            (const uint8_t *const[]){ (const uint8_t *)first + left, (const uint8_t *)first + right,
                                                      (const uint8_t *)second + left, (const uint8_t *)second + right },
                            row.weight, column.weight, channels);
            else
                blend_floats((float *)(void *)to,
                             (const float *const[]){ (const float *)(const void *)(first + left),
                                                     (const float *)(const void *)(first + right),
                                                     (const float *)(const void *)(second + left),
                                                     (const float *)(const void *)(second + right) },
                             row.weight, column.weight, channels);
        }
    }
}
static void warp_images(const void *argument, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const fv_task *task = argument;
    const int64_t channels = task->input[0].dim[3];
    const int kind = task->attributes->warp.nearest ? COPIED : task->input[0].type == FV_U8 ? BYTES : FLOATS;
    for (int64_t n = begin; n < end; n++) switch (channels == 3 ? kind : kind + 3) {
        case BYTES: warp_image(task, n, BYTES, 3); break;
        case FLOATS: warp_image(task, n, FLOATS, 3); break;
        case BYTES + 3: warp_image(task, n, BYTES, channels); break;
        case FLOATS + 3: warp_image(task, n, FLOATS, channels); break;
        default: warp_image(task, n, COPIED, channels);
        }
}
static int warp_run(fv_device *device, const fv_task *task) { return run_images(device, task, warp_images); }

/* ---- Colours ----------------------------------------------------------------------------------------------------- */
typedef struct pixels {
    vf p[3];
} pixels;

INLINE vf luma(const pixels *v, const int channels) {
    return channels == 1 ? v->p[0] : v->p[0] * 0.2989f + v->p[1] * 0.587f + v->p[2] * 0.114f;
}
/* Value (the largest) and chroma (largest less smallest) stay; a grey pixel has no hue, and its chroma is 0. */
INLINE void turn_hue(pixels *v, float turns) {
    vf r = v->p[0], g = v->p[1], b = v->p[2];
    vf value = maximum(r, maximum(g, b)), chroma = value - minimum(r, minimum(g, b));
    vf inverse = 1.0f / choose(chroma == 0.0f, splat(1.0f), chroma);
    vf sixths = choose(value == r, (g - b) * inverse,
                       choose(value == g, (b - r) * inverse + 2.0f, (r - g) * inverse + 4.0f)) +
                (6 * turns + 17.0f);
    for (int c = 0; c < 3; c++) {
        vf k = sixths - (float)(2 * c);
        k -= __builtin_convertvector(__builtin_convertvector(k * (1.0f / 6), vi), vf) * 6.0f;
        v->p[c] = value - chroma * maximum(splat(0.0f), minimum(minimum(k, 4.0f - k), splat(1.0f)));
    }
}
INLINE void change(pixels *v, const int channels, int step, float factor, float mean, float limit) {
    if (step == FV_HUE) {
        if (channels == 3) turn_hue(v, factor);
        return;
    }
    vf about = { 0 };
    if (step == FV_CONTRAST) about = splat((1 - factor) * mean);
    if (step == FV_SATURATION) about = luma(v, channels) * (1 - factor);
    for (int c = 0; c < channels; c++)
        v->p[c] = minimum(splat(limit), maximum(splat(0.0f), v->p[c] * factor + about));
}
INLINE pixels load_pixels(const void *from, bool bytes, int64_t at, int64_t count, const int channels) {
    float plane[3][LANES] = { { 0 } };
    for (int64_t i = 0; i < count; i++)
        for (int c = 0; c < channels; c++)
            plane[c][i] = bytes ? ((const uint8_t *)from)[at + i * channels + c] : ((const float *)from)[at + i * channels + c];
    pixels v;
    for (int c = 0; c < channels; c++) v.p[c] = load(plane[c]);
    return v;
}
INLINE void store_pixels(float *to, const pixels *v, int64_t count, const int channels) {
    float plane[3][LANES];
    for (int c = 0; c < channels; c++) store(plane[c], v->p[c]);
    for (int64_t i = 0; i < count; i++)
        for (int c = 0; c < channels; c++) to[i * channels + c] = plane[c][i];
}
/* Steps first .. last - 1 of the order on a whole image; the mean luma of the result. */
INLINE double change_image(const fv_task *task, const fv_color *color, int first, int last, float mean, const void *from,
                           bool bytes, float *to, const int channels) {
    const fv_color_attributes *a = &task->attributes->color;
    const int64_t count = task->output[0].dim[1] * task->output[0].dim[2];
    vd sum = { { 0 }, { 0 } };
    for (int64_t i = 0; i < count; i += LANES) {
        int64_t left = least(LANES, count - i);
        pixels v = load_pixels(from, bytes, i * channels, left, channels);
        for (int s = first; s < last; s++)
            if (a->strength[color->order[s]] != 0)
                change(&v, channels, color->order[s], color->factor[color->order[s]], mean, a->limit);
        vf grey = luma(&v, channels);
        sum = add_double(sum, widen(pad_lanes(grey, left, 0.0f)));
        if (last == FV_COLOR_STEPS && color->grey)
            for (int c = 0; c < channels; c++) v.p[c] = grey;
        store_pixels(to + i * channels, &v, left, channels);
    }
    return sum_lanes_double(sum) / (double)count;
}
INLINE void color_image(const fv_task *task, int64_t n, const int channels) {
    const fv_tensor *x = &task->input[0];
    const fv_color color = fv_color_draw(&task->attributes->color, control_of(task), sample_of(task, n));
    const char *from = (const char *)x->data + (size_t)n * image_bytes(x);
    float *to = (float *)task->output[0].data + n * x->dim[1] * x->dim[2] * channels;
    const bool bytes = x->type == FV_U8;
    int at = 0;
    while (color.order[at] != FV_CONTRAST) at++;
    if (task->attributes->color.strength[FV_CONTRAST] == 0) {
        change_image(task, &color, 0, FV_COLOR_STEPS, 0, from, bytes, to, channels);
        return;
    }
    double mean = change_image(task, &color, 0, at, 0, from, bytes, to, channels);
    change_image(task, &color, at, FV_COLOR_STEPS, (float)mean, to, false, to, channels);
}
static void color_images(const void *argument, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const fv_task *task = argument;
    for (int64_t n = begin; n < end; n++)
        if (task->input[0].dim[3] == 3)
            color_image(task, n, 3);
        else
            color_image(task, n, 1);
}
static int color_run(fv_device *device, const fv_task *task) { return run_images(device, task, color_images); }

/* ---- Boxes and mixtures ------------------------------------------------------------------------------------------ */
static void erase_images(const void *argument, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const fv_task *task = argument;
    const fv_erase_attributes *a = &task->attributes->erase;
    const fv_tensor *y = &task->output[0];
    const size_t bytes = image_bytes(y), pixel = (size_t)y->dim[3] * type_bytes(y->type);
    for (int64_t n = begin; n < end; n++) {
        const fv_box box = fv_erase_draw(a, control_of(task), sample_of(task, n), y->dim[1], y->dim[2]);
        char *to = (char *)y->data + (size_t)n * bytes;
        memcpy(to, (const char *)task->input[0].data + (size_t)n * bytes, bytes);
        for (int64_t i = box.top; i < box.bottom; i++)
            fill(to + (size_t)(i * y->dim[2] + box.left) * pixel, (box.right - box.left) * y->dim[3], y->type, a->fill);
    }
}
static int erase_run(fv_device *device, const fv_task *task) { return run_images(device, task, erase_images); }

static void blend(const float *own, const float *next, float *to, int64_t count, double part) {
    float a = (float)part, b = (float)(1 - part);
    for (int64_t i = 0; i < count; i += LANES)
        store_up_to(to + i, load_up_to(own + i, count - i) * a + load_up_to(next + i, count - i) * b, count - i);
}
static void mix_images(const void *argument, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const fv_task *task = argument;
    const fv_tensor *y = &task->output[0];
    const size_t bytes = image_bytes(y), pixel = (size_t)y->dim[3] * type_bytes(y->type);
    for (int64_t n = begin; n < end; n++) {
        const fv_mix m = fv_mix_draw(&task->attributes->mix, control_of(task), sample_of(task, n), y->dim[1], y->dim[2]);
        const char *own = (const char *)task->input[0].data + (size_t)n * bytes,
                   *next = (const char *)task->input[0].data + (size_t)((n + 1) % y->dim[0]) * bytes;
        char *to = (char *)y->data + (size_t)n * bytes;
        if (m.part < 1 && m.box.top == m.box.bottom) {
            blend((const float *)(const void *)own, (const float *)(const void *)next, (float *)(void *)to,
                  y->dim[1] * y->dim[2] * y->dim[3], m.part);
            continue;
        }
        memcpy(to, own, bytes);
        for (int64_t i = m.box.top; i < m.box.bottom; i++) {
            size_t at = (size_t)(i * y->dim[2] + m.box.left) * pixel;
            memcpy(to + at, next + at, (size_t)(m.box.right - m.box.left) * pixel);
        }
    }
}
static int mix_run(fv_device *device, const fv_task *task) { return run_images(device, task, mix_images); }

static void mix_rows(const void *argument, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const fv_task *task = argument;
    const fv_mix_attributes *a = &task->attributes->mix;
    const int64_t rows = task->output[0].dim[0], columns = fv_elements(&task->output[0]) / rows;
    for (int64_t n = begin; n < end; n++) {
        const fv_mix m = fv_mix_draw(a, control_of(task), sample_of(task, n), a->height, a->width);
        float *y = (float *)task->output[0].data + n * columns;
        const int64_t other = (n + 1) % rows;
        if (task->input[0].type == FV_F32) {
            const float *target = task->input[0].data;
            blend(target + n * columns, target + other * columns, y, columns, m.part);
            continue;
        }
        const int32_t *label = task->input[0].data, pair[2] = { label[n], label[other] };
        double share[2] = { m.part, 1 - m.part };
        if (pair[0] == pair[1]) share[0] = share[1] = 1;
        memset(y, 0, sizeof *y * (size_t)columns);
        for (int k = 0; k < 2; k++)
            if (pair[k] >= 0 && pair[k] < columns) y[pair[k]] = (float)share[k];
    }
}
static int targets_run(fv_device *device, const fv_task *task) {
    const int64_t rows = task->output[0].dim[0];
    fv_parallel(device, rows, 8192 / (fv_elements(&task->output[0]) / rows + 1) + 1, mix_rows, task);
    return FV_OK;
}

const fv_cpu_kernel KERNEL(flip) = { { .run = flip_run }, NULL };
const fv_cpu_kernel KERNEL(pad_crop) = { { .run = crop_run }, NULL };
const fv_cpu_kernel KERNEL(warp) = { { .run = warp_run }, NULL };
const fv_cpu_kernel KERNEL(color_jitter) = { { .run = color_run }, NULL };
const fv_cpu_kernel KERNEL(erase) = { { .run = erase_run }, NULL };
const fv_cpu_kernel KERNEL(mix) = { { .run = mix_run }, NULL };
const fv_cpu_kernel KERNEL(mix_targets) = { { .run = targets_run }, NULL };
