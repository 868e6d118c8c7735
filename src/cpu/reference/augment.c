/* augment.c - augmentation of images [n,h,w,c]: geometry, colours, erased boxes, mixtures. What is drawn for a sample
 * stands in core/augment.h. */
#include "core/augment.h"
#include "cpu/reference/reference.h"

static const fv_control *control_of(const fv_task *task) { return task->input[2].data; }
static int32_t sample_of(const fv_task *task, int64_t n) { return ((const int32_t *)task->input[1].data)[n]; }

static void copy_element(const fv_tensor *y, int64_t to, const fv_tensor *x, int64_t from) {
    memcpy(element(y, to), element(x, from), element_bytes(y->type));
}
static void set_element(const fv_tensor *y, int64_t i, double value) {
    if (y->type == FV_F32) real(y)[i] = (REAL)value;
    else if (y->type == FV_U8) ((uint8_t *)y->data)[i] = (uint8_t)(value < 0 ? 0 : value > 255 ? 255 : value + 0.5);
    else if (y->type == FV_I32) ((int32_t *)y->data)[i] = (int32_t)value;
    else memset(element(y, i), 0, element_bytes(y->type)); /* 16-bit: infer lets nothing but zero come here */
}
static double get_element(const fv_tensor *x, int64_t i) {
    return x->type == FV_U8 ? ((const uint8_t *)x->data)[i] : (double)real(x)[i];
}

/* ---- Flips and shifts ----------------------------------------------------------------------------------------------- */

static void draw(const fv_control *control, uint32_t stream, int32_t sample, uint32_t word[4]) {
    const uint32_t counter[4] = { (uint32_t)sample, stream, control->epoch, 0 };
    fv_philox(counter, control->seed, word);
}

/* Mirrored left to right (vertical: top to bottom) when the first bit drawn is set. */
KERNEL(flip) {
    const fv_tensor *x = &task->input[0], *y = &task->output[0];
    const int32_t *samples = task->input[1].data;

    EACH(n, y->dim[0]) {
        uint32_t word[4];
        const bool vertical = task->attributes->random.vertical;
        draw(control_of(task), vertical ? FV_STREAM_FLIP_VERTICAL : FV_STREAM_FLIP, samples[n], word);
        const bool across = word[0] >> 31 && !vertical, down = word[0] >> 31 && vertical;
        EACH(i, y->dim[1]) EACH(j, y->dim[2]) EACH(c, y->dim[3])
            copy_element(y, at4(y, n, i, j, c), x,
                         at4(x, n, down ? y->dim[1] - 1 - i : i, across ? y->dim[2] - 1 - j : j, c));
    }
    return FV_OK;
}

/* y[n,i,j,c] = x[n, i + dy, j + dx, c], rate outside; dy and dx are drawn from -crop .. crop */
KERNEL(pad_crop) {
    const fv_tensor *x = &task->input[0], *y = &task->output[0];
    const int32_t *samples = task->input[1].data;
    const int32_t crop = task->attributes->random.crop;

    EACH(n, y->dim[0]) {
        uint32_t word[4];
        draw(control_of(task), FV_STREAM_CROP, samples[n], word);
        const int64_t dy = (int64_t)(word[0] % (2 * (uint32_t)crop + 1)) - crop;
        const int64_t dx = (int64_t)(word[1] % (2 * (uint32_t)crop + 1)) - crop;
        EACH(i, y->dim[1]) EACH(j, y->dim[2]) EACH(c, y->dim[3]) {
            if (inside(i + dy, x->dim[1]) && inside(j + dx, x->dim[2]))
                copy_element(y, at4(y, n, i, j, c), x, at4(x, n, i + dy, j + dx, c));
            else
                set_element(y, at4(y, n, i, j, c), task->attributes->random.rate);
        }
    }
    return FV_OK;
}

/* ---- Geometry ---------------------------------------------------------------------------------------------------- */

/* The four neighbours of a place, weighted: wy and wx (of 2048) are the weights of the second row and column. Bytes are
 * rounded to the nearest, halves upwards. */
static void interpolate(const fv_tensor *y, int64_t to, const fv_tensor *x, int64_t n, fv_tap row, fv_tap column,
                        int64_t c) {
    const int64_t from[2][2] = {
        { at4(x, n, row.first, column.first, c), at4(x, n, row.first, column.second, c) },
        { at4(x, n, row.second, column.first, c), at4(x, n, row.second, column.second, c) },
    };
    const double one = 1 << FV_WARP_WEIGHT, wy = row.weight / one, wx = column.weight / one;
    const double above = (1 - wx) * get_element(x, from[0][0]) + wx * get_element(x, from[0][1]);
    const double below = (1 - wx) * get_element(x, from[1][0]) + wx * get_element(x, from[1][1]);
    const double value = (1 - wy) * above + wy * below;
    if (y->type == FV_U8) ((uint8_t *)y->data)[to] = (uint8_t)floor(value + 0.5);
    else real(y)[to] = (REAL)value;
}

/* y[n,i,j] = x at the place that the map of sample n gives for (i, j) */
KERNEL(warp) {
    const fv_warp_attributes *a = &task->attributes->warp;
    const fv_tensor *x = &task->input[0], *y = &task->output[0];

    EACH(n, y->dim[0]) {
        const fv_warp map = fv_warp_draw(a, control_of(task), sample_of(task, n), y->dim[1], y->dim[2]);
        EACH(i, y->dim[1]) EACH(j, y->dim[2]) EACH(c, y->dim[3]) {
            fv_tap row, column;
            const int64_t to = at4(y, n, i, j, c);
            if (!fv_warp_tap(map.y[0] * i + map.y[1] * j + map.y[2], x->dim[1], (fv_border)a->border, a->nearest, &row) ||
                !fv_warp_tap(map.x[0] * i + map.x[1] * j + map.x[2], x->dim[2], (fv_border)a->border, a->nearest, &column))
                set_element(y, to, a->fill);
            else if (a->nearest)
                copy_element(y, to, x, at4(x, n, row.first, column.first, c));
            else
                interpolate(y, to, x, n, row, column, c);
        }
    }
    return FV_OK;
}

/* ---- Colours ----------------------------------------------------------------------------------------------------- */

static double bounded(double value, double limit) { return value < 0 ? 0 : value > limit ? limit : value; }
static double luma(const double *p, int64_t channels) {
    return channels == 1 ? p[0] : 0.2989 * p[0] + 0.587 * p[1] + 0.114 * p[2];
}

/* Hue by so many turns: value (the largest) and chroma (largest less smallest) stay. */
static void turn_hue(double *p, double turns) {
    const double value = fmax(p[0], fmax(p[1], p[2])), chroma = value - fmin(p[0], fmin(p[1], p[2]));
    if (chroma == 0) return;
    double sixths = value == p[0]   ? (p[1] - p[2]) / chroma
                    : value == p[1] ? 2 + (p[2] - p[0]) / chroma
                                    : 4 + (p[0] - p[1]) / chroma;
    sixths += 6 * turns;
    for (int c = 0; c < 3; c++) { /* red is full about 0 sixths, green about 2, blue about 4 */
        double k = fmod(sixths + 5 - 2 * c + 12, 6);
        p[c] = value - chroma * fmax(0, fmin(fmin(k, 4 - k), 1));
    }
}

static void change_pixel(double *p, int64_t channels, int step, double factor, double mean, double limit) {
    const double grey = luma(p, channels);
    for (int64_t c = 0; c < channels; c++) {
        if (step == FV_BRIGHTNESS) p[c] = bounded(factor * p[c], limit);
        if (step == FV_CONTRAST) p[c] = bounded(factor * p[c] + (1 - factor) * mean, limit);
        if (step == FV_SATURATION) p[c] = bounded(factor * p[c] + (1 - factor) * grey, limit);
    }
    if (step == FV_HUE && channels == 3) turn_hue(p, factor);
}

/* Contrast is about the mean luma of the image as the steps before it left it. */
KERNEL(color_jitter) {
    const fv_color_attributes *a = &task->attributes->color;
    const fv_tensor *x = &task->input[0], *y = &task->output[0];
    const int64_t channels = y->dim[3], pixels = y->dim[1] * y->dim[2];

    EACH(n, y->dim[0]) {
        const fv_color color = fv_color_draw(a, control_of(task), sample_of(task, n));
        REAL *image = real(y) + n * pixels * channels;
        double p[3];
        EACH(i, pixels * channels) image[i] = (REAL)get_element(x, n * pixels * channels + i);
        for (int s = 0; s < FV_COLOR_STEPS; s++) {
            const int step = color.order[s];
            double mean = 0;
            if (a->strength[step] == 0) continue;
            EACH(i, pixels) {
                EACH(c, channels) p[c] = image[i * channels + c];
                mean += luma(p, channels) / (double)pixels;
            }
            EACH(i, pixels) {
                EACH(c, channels) p[c] = image[i * channels + c];
                change_pixel(p, channels, step, color.factor[step], mean, a->limit);
                EACH(c, channels) image[i * channels + c] = (REAL)p[c];
            }
        }
        EACH(i, color.grey ? pixels : 0) {
            EACH(c, channels) p[c] = image[i * channels + c];
            EACH(c, channels) image[i * channels + c] = (REAL)luma(p, channels);
        }
    }
    return FV_OK;
}

/* ---- Boxes and mixtures ------------------------------------------------------------------------------------------ */

static bool within(const fv_box *box, int64_t i, int64_t j) {
    return i >= box->top && i < box->bottom && j >= box->left && j < box->right;
}

KERNEL(erase) {
    const fv_erase_attributes *a = &task->attributes->erase;
    const fv_tensor *x = &task->input[0], *y = &task->output[0];
    EACH(n, y->dim[0]) {
        const fv_box box = fv_erase_draw(a, control_of(task), sample_of(task, n), y->dim[1], y->dim[2]);
        EACH(i, y->dim[1]) EACH(j, y->dim[2]) EACH(c, y->dim[3]) {
            const int64_t at = at4(y, n, i, j, c);
            if (within(&box, i, j)) set_element(y, at, a->fill);
            else copy_element(y, at, x, at);
        }
    }
    return FV_OK;
}

/* The partner of row n is the next row of the batch, of the last the first. */
KERNEL(mix) {
    const fv_tensor *x = &task->input[0], *y = &task->output[0];
    EACH(n, y->dim[0]) {
        const fv_mix m = fv_mix_draw(&task->attributes->mix, control_of(task), sample_of(task, n), y->dim[1], y->dim[2]);
        const int64_t other = (n + 1) % y->dim[0];
        const bool blended = m.part < 1 && m.box.top == m.box.bottom;
        EACH(i, y->dim[1]) EACH(j, y->dim[2]) EACH(c, y->dim[3]) {
            const int64_t at = at4(y, n, i, j, c), next = at4(x, other, i, j, c);
            if (blended) real(y)[at] = (REAL)(m.part * real(x)[at] + (1 - m.part) * real(x)[next]);
            else copy_element(y, at, x, within(&m.box, i, j) ? next : at);
        }
    }
    return FV_OK;
}

/* y[n] = part target[n] + (1 - part) target[n + 1]; a label is 1 in its class, and nowhere if there is no such class */
KERNEL(mix_targets) {
    const fv_mix_attributes *a = &task->attributes->mix;
    const fv_tensor *target = &task->input[0], *y = &task->output[0];
    const int64_t columns = span(y, 1, y->rank);
    EACH(n, y->dim[0]) {
        const fv_mix m = fv_mix_draw(a, control_of(task), sample_of(task, n), a->height, a->width);
        const int64_t other = (n + 1) % y->dim[0];
        EACH(k, columns) {
            const double own = target->type == FV_I32 ? ((const int32_t *)target->data)[n] == k : real(target)[n * columns + k];
            const double next =
                target->type == FV_I32 ? ((const int32_t *)target->data)[other] == k : real(target)[other * columns + k];
            real(y)[n * columns + k] = (REAL)(m.part * own + (1 - m.part) * next);
        }
    }
    return FV_OK;
}
