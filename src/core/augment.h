/* augment.h - what augmentation draws for one sample: a map of coordinates, factors of colours, a box, a share. The draws are
 * a function of seed, epoch and sample alone, so an image and its mask, asked with equal settings, draw alike. Backends on
 * the host call these functions; the code of a device has its own, of the same text (cuda/augment.cu). From the fixed-point
 * form of the map every backend takes the same pixels with the same weights. */
#ifndef FV_AUGMENT_H
#define FV_AUGMENT_H
#include "core/control.h"
#include "ops/ops.h"

#ifdef FV_DRAWN_ON_DEVICE
#define FV_DRAW       static inline __device__
#define FV_DRAW_LOCAL static inline __device__
#else
#define FV_DRAW
#define FV_DRAW_LOCAL static inline
#endif

/* Words drawn one after another under counters (sample, stream, epoch, 0), (.., 1), ... */
typedef struct fv_draws {
    uint32_t key[2], counter[4], word[4];
    int left;
} fv_draws;
FV_DRAW fv_draws fv_draws_make(const fv_control *, uint32_t stream, int32_t sample);
FV_DRAW uint32_t fv_draws_word(fv_draws *);
FV_DRAW double fv_draws_uniform(fv_draws *);                           /* [0, 1), 24 bits */
FV_DRAW double fv_draws_between(fv_draws *, double low, double high);
FV_DRAW int64_t fv_draws_below(fv_draws *, int64_t n);                 /* 0 .. n - 1 */
FV_DRAW double fv_draws_beta(fv_draws *, double alpha);                /* Beta(alpha, alpha) */

/* Output pixel (i, j) shows the input at row y[0] i + y[1] j + y[2] and column x[0] i + x[1] j + x[2], whole numbers being
 * centres of pixels; 32 bits of fraction. */
enum { FV_WARP_FRACTION = 32, FV_WARP_WEIGHT = 11 /* bits of the weights between two pixels */ };
typedef struct fv_warp { int64_t y[3], x[3]; } fv_warp;
FV_DRAW fv_warp fv_warp_draw(const fv_warp_attributes *, const fv_control *, int32_t sample, int64_t height, int64_t width);
/* Which pixel a coordinate c (fixed point) lies on, along an axis of n pixels: two neighbours, the weight of the second.
 * False: outside the image and to be filled. */
typedef struct fv_tap { int64_t first, second; int32_t weight; } fv_tap;
FV_DRAW_LOCAL int64_t fv_warp_reflected(int64_t i, int64_t n) {
    int64_t period = i % (2 * n);
    if (period < 0) period += 2 * n;
    return period < n ? period : 2 * n - 1 - period;
}
FV_DRAW_LOCAL bool fv_warp_tap(int64_t c, int64_t n, fv_border border, bool nearest, fv_tap *tap) {
    const int64_t half = (int64_t)1 << (FV_WARP_FRACTION - 1);
    const int step = FV_WARP_FRACTION - FV_WARP_WEIGHT;
    if (border == FV_BORDER_FILL && (c < -half || c >= (n << FV_WARP_FRACTION) - half)) return false;
    const int64_t rounded = nearest ? c + half : c + ((int64_t)1 << (step - 1));
    int64_t i = rounded >> FV_WARP_FRACTION, k = nearest ? i : i + 1;
    tap->weight = nearest ? 0 : (int32_t)(rounded >> step & ((1 << FV_WARP_WEIGHT) - 1));
    if (border == FV_BORDER_REFLECT && (i < 0 || k >= n)) {
        i = fv_warp_reflected(i, n);
        k = fv_warp_reflected(k, n);
    }
    tap->first = i < 0 ? 0 : i < n ? i : n - 1;
    tap->second = k < 0 ? 0 : k < n ? k : n - 1;
    return true;
}

enum { FV_BRIGHTNESS, FV_CONTRAST, FV_SATURATION, FV_HUE, FV_COLOR_STEPS };
typedef struct fv_color { float factor[FV_COLOR_STEPS]; int order[FV_COLOR_STEPS]; bool grey; } fv_color; /* hue: turns */
FV_DRAW fv_color fv_color_draw(const fv_color_attributes *, const fv_control *, int32_t sample);

typedef struct fv_box { int64_t top, bottom, left, right; } fv_box; /* rows top .. bottom - 1; empty: none */
FV_DRAW fv_box fv_erase_draw(const fv_erase_attributes *, const fv_control *, int32_t sample, int64_t height, int64_t width);

/* The sample keeps `part` of itself; the rest comes from the batch's next one: a box of it, or everywhere (box empty). */
typedef struct fv_mix { double part; fv_box box; } fv_mix;
FV_DRAW fv_mix fv_mix_draw(const fv_mix_attributes *, const fv_control *, int32_t sample, int64_t height, int64_t width);
#endif
