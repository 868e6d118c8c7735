/* augment.c - the draws of augmentation: boxes and factors as torchvision draws them (RandomResizedCrop, RandomAffine,
 * ColorJitter, RandomErasing), cutout (DeVries & Taylor 2017), mixup (Zhang et al. 2018), cutmix (Yun et al. 2019).
 * C that is CUDA as well: the code of the device includes this text. */
#include "core/augment.h"
#ifndef FV_DRAWN_ON_DEVICE
#include "core/core.h"
#endif
#include <math.h>

FV_DRAW fv_draws fv_draws_make(const fv_control *control, uint32_t stream, int32_t sample) {
    fv_draws d = { { control->seed[0], control->seed[1] }, { (uint32_t)sample, stream, control->epoch, 0 }, { 0 }, 0 };
    return d;
}

FV_DRAW uint32_t fv_draws_word(fv_draws *d) {
    if (!d->left) {
        fv_philox(d->counter, d->key, d->word);
        d->counter[3]++;
        d->left = 4;
    }
    return d->word[4 - d->left--];
}

FV_DRAW double fv_draws_uniform(fv_draws *d) { return (fv_draws_word(d) >> 8) * 0x1p-24; }
FV_DRAW double fv_draws_between(fv_draws *d, double low, double high) { return low + (high - low) * fv_draws_uniform(d); }
FV_DRAW int64_t fv_draws_below(fv_draws *d, int64_t n) {
    return (int64_t)((uint64_t)fv_draws_word(d) * (uint64_t)n >> 32);
}
FV_DRAW_LOCAL double symmetric(fv_draws *d, double limit) { return fv_draws_between(d, -limit, limit); }

FV_DRAW_LOCAL double draw_normal(fv_draws *d) {
    double radius = sqrt(-2 * log(1 - fv_draws_uniform(d))); /* 1 - u lies in (0, 1] */
    return radius * cos(2 * M_PI * fv_draws_uniform(d));
}

/* Logarithm of a number of the gamma distribution (Marsaglia & Tsang 2000; of a shape below 1 by Gamma(a) =
 * Gamma(a + 1) u^(1/a), whose logarithm does not vanish). */
FV_DRAW_LOCAL double log_gamma(fv_draws *d, double shape) {
    double boost = 0;
    if (shape < 1) {
        boost = log(1 - fv_draws_uniform(d)) / shape;
        shape += 1;
    }
    const double a = shape - 1.0 / 3, c = 1 / sqrt(9 * a);
    for (int attempt = 0; attempt < 100; attempt++) {
        const double x = draw_normal(d), t = 1 + c * x, v = t * t * t, u = 1 - fv_draws_uniform(d);
        if (t > 0 && log(u) < 0.5 * x * x + a - a * v + a * log(v)) return boost + log(a * v);
    }
    return boost + log(a);
}

FV_DRAW double fv_draws_beta(fv_draws *d, double alpha) {
    const double x = log_gamma(d, alpha), y = log_gamma(d, alpha);
    return 1 / (1 + exp(y - x));
}

/* ---- Geometry ---------------------------------------------------------------------------------------------------- */

/* A box of a random part of the area and a random width / height within the image: ten attempts, as in torchvision. */
FV_DRAW_LOCAL bool draw_box(fv_draws *d, const float scale[2], const float ratio[2], int64_t height, int64_t width,
                            fv_box *box) {
    for (int attempt = 0; attempt < 10; attempt++) {
        const double area = (double)height * (double)width * fv_draws_between(d, scale[0], scale[1]);
        const double aspect = exp(fv_draws_between(d, log((double)ratio[0]), log((double)ratio[1])));
        const int64_t w = llround(sqrt(area * aspect)), h = llround(sqrt(area / aspect));
        const uint32_t down = fv_draws_word(d), right = fv_draws_word(d); /* four words an attempt */
        if (w < 1 || w > width || h < 1 || h > height) continue;
        box->top = (int64_t)((uint64_t)down * (uint64_t)(height - h + 1) >> 32);
        box->left = (int64_t)((uint64_t)right * (uint64_t)(width - w + 1) >> 32);
        box->bottom = box->top + h;
        box->right = box->left + w;
        return true;
    }
    return false;
}

/* Where no attempt fits: the whole image, cut to the nearest ratio that is allowed, about its centre. */
FV_DRAW_LOCAL fv_box central_box(const float ratio[2], int64_t height, int64_t width) {
    int64_t h = height, w = width;
    const double own = (double)width / (double)height;
    if (own < ratio[0]) h = llround((double)width / ratio[0]);
    if (own > ratio[1]) w = llround((double)height * ratio[1]);
    h = h < 1 ? 1 : h;
    w = w < 1 ? 1 : w;
    const int64_t top = (height - h) / 2, left = (width - w) / 2;
    const fv_box box = { top, top + h, left, left + w };
    return box;
}

FV_DRAW_LOCAL int64_t fixed(double value) { return llround(ldexp(value, FV_WARP_FRACTION)); }

/* torchvision's affine map (rotation, then zoom, shear and shift about the centre), read backwards: from a place of the
 * output to one of the cropped image, and from there to the image. */
FV_DRAW fv_warp fv_warp_draw(const fv_warp_attributes *a, const fv_control *control, int32_t sample, int64_t height,
                             int64_t width) {
    const double degree = M_PI / 180;
    fv_draws d = fv_draws_make(control, FV_STREAM_WARP, sample);
    const double angle = symmetric(&d, a->rotation) * degree;
    const double down = symmetric(&d, a->shift[0]) * (double)height, right = symmetric(&d, a->shift[1]) * (double)width;
    const double zoom = a->zoom[0] > 0 ? fv_draws_between(&d, a->zoom[0], a->zoom[1]) : 1;
    const double shear_y = symmetric(&d, a->shear[0]) * degree, shear_x = symmetric(&d, a->shear[1]) * degree;
    fv_draws_word(&d), fv_draws_word(&d); /* the box begins with a counter of its own */
    fv_box box = { 0, height, 0, width };
    if (a->scale[1] > 0 && !draw_box(&d, a->scale, a->ratio, height, width, &box))
        box = central_box(a->ratio, height, width);

    /* forward: x' = p x + q y, y' = r x + s y, of determinant 1 before the zoom */
    const double p = cos(angle - shear_y) / cos(shear_y), r = sin(angle - shear_y) / cos(shear_y);
    const double q = -p * tan(shear_x) - sin(angle), s = -r * tan(shear_x) + cos(angle);
    const double wide = (double)(box.right - box.left) / (double)width / zoom;
    const double high = (double)(box.bottom - box.top) / (double)height / zoom;
    const double y0 = 0.5 - (double)height / 2 - down, x0 = 0.5 - (double)width / 2 - right; /* of pixel 0, 0 */
    const double middle_y = (double)(box.top + box.bottom) / 2 - 0.5, middle_x = (double)(box.left + box.right) / 2 - 0.5;
    const fv_warp warp = { { fixed(high * p), fixed(-high * r), fixed(middle_y + high * (p * y0 - r * x0)) },
                           { fixed(-wide * q), fixed(wide * s), fixed(middle_x + wide * (s * x0 - q * y0)) } };
    return warp;
}

/* ---- Colours, boxes, mixtures ------------------------------------------------------------------------------------ */

FV_DRAW fv_color fv_color_draw(const fv_color_attributes *a, const fv_control *control, int32_t sample) {
    fv_draws d = fv_draws_make(control, FV_STREAM_COLOR, sample);
    fv_color color;
    for (int i = 0; i < FV_HUE; i++)
        color.factor[i] = (float)fv_draws_between(&d, fmax(0.0, 1 - (double)a->strength[i]), 1 + (double)a->strength[i]);
    color.factor[FV_HUE] = (float)symmetric(&d, a->strength[FV_HUE]);
    for (int i = 0; i < FV_COLOR_STEPS; i++) color.order[i] = i;
    for (int i = FV_COLOR_STEPS - 1; i > 0; i--) { /* a random order */
        const int64_t j = fv_draws_below(&d, i + 1);
        const int other = color.order[j];
        color.order[j] = color.order[i];
        color.order[i] = other;
    }
    color.grey = fv_draws_uniform(&d) < a->grey;
    return color;
}

FV_DRAW_LOCAL int64_t clamp(int64_t value, int64_t low, int64_t high) {
    return value < low ? low : value > high ? high : value;
}

FV_DRAW_LOCAL fv_box box_about(int64_t y, int64_t x, int64_t h, int64_t w, int64_t height, int64_t width) {
    const fv_box box = { clamp(y - h / 2, 0, height), clamp(y - h / 2 + h, 0, height), clamp(x - w / 2, 0, width),
                         clamp(x - w / 2 + w, 0, width) };
    return box;
}

FV_DRAW fv_box fv_erase_draw(const fv_erase_attributes *a, const fv_control *control, int32_t sample, int64_t height,
                             int64_t width) {
    fv_draws d = fv_draws_make(control, FV_STREAM_ERASE, sample);
    fv_box box = { 0, 0, 0, 0 };
    if (!(fv_draws_uniform(&d) < a->probability)) return box;
    const int64_t y = fv_draws_below(&d, height), x = fv_draws_below(&d, width);
    if (a->size > 0) return box_about(y, x, a->size, a->size, height, width);
    fv_draws_word(&d);
    draw_box(&d, a->scale, a->ratio, height, width, &box); /* left empty where nothing fits */
    return box;
}

FV_DRAW fv_mix fv_mix_draw(const fv_mix_attributes *a, const fv_control *control, int32_t sample, int64_t height,
                           int64_t width) {
    fv_draws d = fv_draws_make(control, FV_STREAM_MIX, sample);
    fv_mix mix = { 1, { 0, 0, 0, 0 } };
    const bool happens = fv_draws_uniform(&d) < a->probability, second = fv_draws_uniform(&d) < 0.5;
    const int64_t y = fv_draws_below(&d, height), x = fv_draws_below(&d, width);
    if (!happens || !(a->mixup > 0 || a->cutmix > 0)) return mix;
    const bool cut = a->cutmix > 0 && (second || !(a->mixup > 0));
    mix.part = fv_draws_beta(&d, cut ? a->cutmix : a->mixup);
    if (!cut) return mix;
    const double side = sqrt(1 - mix.part);
    mix.box = box_about(y, x, (int64_t)(side * (double)height), (int64_t)(side * (double)width), height, width);
    const double area = (double)(mix.box.bottom - mix.box.top) * (double)(mix.box.right - mix.box.left);
    mix.part = 1 - area / ((double)height * (double)width);
    return mix;
}
