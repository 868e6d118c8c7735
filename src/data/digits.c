/* digits.c - a data set that needs no file: digits drawn as a hand would, 28 x 28 grey, any number of them. A glyph
 * is a few strokes through control points; every image moves the points, bends, slants, turns, stretches and shifts
 * the whole, and draws it with a pen of its own. Image i depends on (seed, i) alone, so a longer set begins with the
 * shorter one. */
#include "data/data.h"
#include <math.h>

enum {
    SIDE = 28,
    PIXELS = SIDE * SIDE,
    CLASSES = 10,
    STROKES = 4,
    POINTS = 14,
    PIECES = 6,
    STREAM_DIGITS = 0x64696769
};

/* Strokes pass smoothly through their points, given in percent of the glyph's box, y downwards; a corner ends one
 * stroke and begins the next. Several ways to write a digit are several rows. */
typedef struct glyph {
    uint8_t digit;
    struct {
        uint8_t count, at[POINTS][2];
    } stroke[STROKES];
} glyph;
/* clang-format off */
static const glyph glyphs[] = {
    { 0, { { 9, { { 55, 8 }, { 31, 17 }, { 20, 50 }, { 31, 83 }, { 50, 92 }, { 71, 82 }, { 80, 50 },
                  { 70, 18 }, { 52, 8 } } } } },
    { 0, { { 9, { { 44, 10 }, { 28, 30 }, { 26, 62 }, { 38, 88 }, { 56, 92 }, { 72, 74 }, { 74, 38 },
                  { 60, 12 }, { 38, 12 } } } } },
    { 1, { { 3, { { 52, 8 }, { 51, 50 }, { 49, 92 } } } } },
    { 1, { { 2, { { 32, 28 }, { 54, 8 } } },
           { 3, { { 54, 8 }, { 53, 50 }, { 52, 92 } } } } },
    { 1, { { 2, { { 34, 24 }, { 54, 8 } } },
           { 2, { { 54, 8 }, { 52, 91 } } },
           { 2, { { 32, 92 }, { 74, 91 } } } } },
    { 2, { { 7, { { 22, 28 }, { 36, 10 }, { 60, 9 }, { 73, 27 }, { 63, 50 }, { 40, 74 }, { 20, 90 } } },
           { 3, { { 20, 90 }, { 50, 89 }, { 80, 90 } } } } },
    { 2, { { 11, { { 24, 26 }, { 40, 9 }, { 66, 12 }, { 72, 34 }, { 52, 62 }, { 30, 86 }, { 18, 84 },
                  { 27, 73 }, { 46, 83 }, { 66, 92 }, { 84, 85 } } } } },
    { 3, { { 6, { { 24, 17 }, { 46, 8 }, { 69, 15 }, { 71, 32 }, { 58, 43 }, { 42, 46 } } },
           { 6, { { 42, 46 }, { 70, 53 }, { 78, 72 }, { 60, 90 }, { 36, 91 }, { 20, 80 } } } } },
    { 3, { { 2, { { 22, 11 }, { 74, 10 } } },
           { 2, { { 74, 10 }, { 45, 42 } } },
           { 6, { { 45, 42 }, { 70, 50 }, { 78, 70 }, { 61, 90 }, { 37, 92 }, { 20, 82 } } } } },
    { 4, { { 3, { { 30, 8 }, { 25, 36 }, { 22, 57 } } },
           { 2, { { 22, 57 }, { 80, 54 } } },
           { 3, { { 68, 12 }, { 66, 50 }, { 64, 92 } } } } },
    { 4, { { 2, { { 62, 8 }, { 19, 63 } } },
           { 2, { { 19, 63 }, { 84, 61 } } },
           { 2, { { 62, 8 }, { 62, 92 } } } } },
    { 5, { { 2, { { 73, 10 }, { 33, 10 } } },
           { 2, { { 33, 10 }, { 28, 45 } } },
           { 7, { { 28, 45 }, { 50, 38 }, { 71, 47 }, { 76, 67 }, { 61, 87 }, { 39, 92 }, { 20, 84 } } } } },
    { 5, { { 9, { { 75, 10 }, { 42, 12 }, { 30, 27 }, { 36, 42 }, { 57, 47 }, { 74, 61 }, { 68, 82 },
                  { 45, 92 }, { 22, 86 } } } } },
    { 6, { { 10, { { 68, 8 }, { 44, 22 }, { 27, 48 }, { 24, 72 }, { 38, 90 }, { 60, 90 }, { 74, 74 },
                  { 64, 56 }, { 44, 54 }, { 27, 69 } } } } },
    { 6, { { 9, { { 54, 6 }, { 34, 36 }, { 24, 66 }, { 34, 89 }, { 56, 92 }, { 71, 78 }, { 65, 61 },
                  { 46, 59 }, { 28, 72 } } } } },
    { 7, { { 2, { { 20, 14 }, { 78, 12 } } },
           { 3, { { 78, 12 }, { 58, 46 }, { 44, 92 } } } } },
    { 7, { { 2, { { 21, 13 }, { 76, 12 } } },
           { 3, { { 76, 12 }, { 60, 46 }, { 46, 92 } } },
           { 2, { { 36, 51 }, { 72, 48 } } } } },
    { 7, { { 2, { { 22, 27 }, { 23, 12 } } },
           { 2, { { 23, 12 }, { 78, 12 } } },
           { 2, { { 78, 12 }, { 42, 92 } } } } },
    { 8, { { 13, { { 70, 20 }, { 48, 8 }, { 28, 20 }, { 34, 38 }, { 53, 48 }, { 72, 63 }, { 71, 83 },
                  { 50, 92 }, { 28, 82 }, { 29, 63 }, { 48, 48 }, { 68, 36 }, { 70, 19 } } } } },
    { 8, { { 6, { { 52, 46 }, { 31, 32 }, { 38, 11 }, { 62, 10 }, { 70, 30 }, { 50, 46 } } },
           { 7, { { 50, 46 }, { 27, 62 }, { 29, 86 }, { 52, 93 }, { 74, 82 }, { 72, 60 }, { 50, 46 } } } } },
    { 9, { { 7, { { 71, 26 }, { 53, 8 }, { 31, 17 }, { 28, 38 }, { 45, 50 }, { 65, 41 }, { 72, 22 } } },
           { 3, { { 72, 22 }, { 70, 56 }, { 64, 92 } } } } },
    { 9, { { 11, { { 72, 28 }, { 54, 8 }, { 31, 16 }, { 28, 38 }, { 48, 49 }, { 67, 37 }, { 72, 21 },
                  { 74, 50 }, { 66, 78 }, { 45, 92 }, { 26, 84 } } } } },
};
/* clang-format on */

/* What is drawn by chance once an image: a linear map of the box to pixels, a wave along the glyph, and the pen. */
typedef struct hand {
    double xx, xy, yx, yy, dx, dy;
    double wave, wave_length, wave_phase;
    double wobble;                        /* of each control point, in parts of the box */
    double pen, pressure, pressure_phase; /* half width in pixels, how it changes along the strokes */
    double ink, noise;
} hand;

static double between(fv_random *random, double low, double high) {
    return low + (high - low) * fv_random_uniform(random);
}

static hand draw_hand(fv_random *random) {
    double height = between(random, 15, 23), width = height * between(random, 0.62, 1.08);
    double slant = between(random, -0.25, 0.5), turn = between(random, -0.25, 0.25);
    double c = cos(turn), s = sin(turn);
    hand h = { .dx = SIDE / 2.0 + between(random, -2.5, 2.5), .dy = SIDE / 2.0 + between(random, -2.5, 2.5) };
    h.xx = c * width;
    h.xy = -(c * slant * height + s * height); /* the top goes to the right */
    h.yx = s * width;
    h.yy = -s * slant * height + c * height;
    h.wave = between(random, 0, 0.05);
    h.wave_length = between(random, 3, 8);
    h.wave_phase = between(random, 0, 2 * M_PI);
    h.wobble = between(random, 0.01, 0.045);
    h.pen = between(random, 0.6, 1.7);
    h.pressure = between(random, 0, 0.3);
    h.pressure_phase = between(random, 0, 2 * M_PI);
    h.ink = between(random, 0.7, 1);
    h.noise = between(random, 0, 0.1);
    return h;
}

typedef struct point {
    double x, y;
} point;

/* From the box to pixels. */
static point place(const hand *h, double x, double y) {
    x += h->wave * sin(h->wave_length * y + h->wave_phase) - 0.5;
    y += h->wave * sin(h->wave_length * x + 2 * h->wave_phase) - 0.5;
    return (point){ h->dx + h->xx * x + h->xy * y, h->dy + h->yx * x + h->yy * y };
}

/* Covers pixels by their distance to the segment: one within the pen, zero half a pixel outside it, linear between. */
static void draw_segment(float *pixel, point a, point b, double pen) {
    double reach = pen + 1, ux = b.x - a.x, uy = b.y - a.y, length = ux * ux + uy * uy;
    int left = (int)floor(fmin(a.x, b.x) - reach), right = (int)ceil(fmax(a.x, b.x) + reach);
    int top = (int)floor(fmin(a.y, b.y) - reach), bottom = (int)ceil(fmax(a.y, b.y) + reach);
    for (int y = top < 0 ? 0 : top; y <= bottom && y < SIDE; y++)
        for (int x = left < 0 ? 0 : left; x <= right && x < SIDE; x++) {
            double px = x + 0.5 - a.x, py = y + 0.5 - a.y, along = length > 0 ? (px * ux + py * uy) / length : 0;
            along = along < 0 ? 0 : along > 1 ? 1 : along;
            double qx = px - along * ux, qy = py - along * uy, cover = pen + 0.5 - sqrt(qx * qx + qy * qy);
            cover = cover > 1 ? 1 : cover;
            if (cover > pixel[SIDE * y + x]) pixel[SIDE * y + x] = (float)cover;
        }
}

/* One coordinate of the Catmull-Rom spline through b (t = 0) and c (t = 1). */
static double spline(double a, double b, double c, double d, double t) {
    return b + 0.5 * t * (c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a)));
}

static void draw_stroke(float *pixel, const hand *h, const point *control, int count) {
    point last = place(h, control[0].x, control[0].y);
    for (int i = 0; i + 1 < count; i++) {
        point a = control[i ? i - 1 : 0], b = control[i], c = control[i + 1],
              d = control[i + 2 < count ? i + 2 : i + 1];
        for (int k = 1; k <= PIECES; k++) {
            double t = (double)k / PIECES;
            point next = place(h, spline(a.x, b.x, c.x, d.x, t), spline(a.y, b.y, c.y, d.y, t));
            draw_segment(pixel, last, next, h->pen * (1 + h->pressure * sin(1.3 * (i + t) + h->pressure_phase)));
            last = next;
        }
    }
}

static void draw_glyph(float *pixel, const glyph *g, const hand *h, fv_random *random) {
    point end = { 0 };
    for (int s = 0; s < STROKES && g->stroke[s].count; s++) {
        point control[POINTS];
        for (int i = 0; i < g->stroke[s].count; i++) {
            const uint8_t *at = g->stroke[s].at[i];
            const uint8_t *before = s ? g->stroke[s - 1].at[g->stroke[s - 1].count - 1] : NULL;
            control[i].x = at[0] / 100.0 + h->wobble * fv_random_normal(random);
            control[i].y = at[1] / 100.0 + h->wobble * fv_random_normal(random);
            if (!i && before && before[0] == at[0] && before[1] == at[1]) control[i] = end; /* a corner stays closed */
        }
        draw_stroke(pixel, h, control, g->stroke[s].count);
        end = control[g->stroke[s].count - 1];
    }
}

static const glyph *draw_way(int digit, fv_random *random) {
    const glyph *way = NULL;
    uint32_t seen = 0;
    for (size_t i = 0; i < sizeof glyphs / sizeof *glyphs; i++)
        if (glyphs[i].digit == digit && !fv_random_below(random, ++seen))
            way = &glyphs[i]; /* the k-th takes the place with probability 1/k: all are equally likely */
    return way;
}

static int draw_digit(uint64_t seed, int64_t index, unsigned char *image) {
    fv_random random = fv_random_make(seed, (uint64_t)STREAM_DIGITS << 32 | (uint64_t)index);
    float pixel[PIXELS] = { 0 };
    int digit = (int)fv_random_below(&random, CLASSES);
    const glyph *way = draw_way(digit, &random);
    hand h = draw_hand(&random);
    draw_glyph(pixel, way, &h, &random);
    for (int i = 0; i < PIXELS; i++) {
        double value = h.ink * (double)pixel[i] + h.noise * (between(&random, 0, 1) + between(&random, 0, 1) - 1);
        image[i] = (unsigned char)(255 * (value < 0 ? 0 : value > 1 ? 1 : value) + 0.5);
    }
    return digit;
}

fv_dataset *fv_digits(fv_context *context, int64_t count, uint64_t seed) {
    static const char *const names[CLASSES] = { "0", "1", "2", "3", "4", "5", "6", "7", "8", "9" };
    if (!fv_ok(context)) return NULL;
    if (count < 1 || count > INT32_MAX) {
        fv_fail(context, FV_ERROR_ARGUMENT, "fv_digits: %lld digits, of which 1 to %d are possible", (long long)count,
                INT32_MAX);
        return NULL;
    }
    fv_dataset *set = fv_dataset_new(context);
    unsigned char *image = set ? fv_alloc(context, (size_t)count, PIXELS, "drawn digits") : NULL;
    if (image) fv_dataset_own(set, image);
    int32_t *label = image ? fv_alloc(context, (size_t)count, sizeof *label, "labels of drawn digits") : NULL;
    if (!label) {
        fv_dataset_free(set);
        return NULL;
    }
    fv_dataset_own(set, label);
    for (int64_t i = 0; i < count; i++) label[i] = draw_digit(seed, i, image + i * PIXELS);
    fv_shape shape = { .rank = 4, .dim = { count, SIDE, SIDE, 1 } }, label_shape = { .rank = 1, .dim = { count } };
    fv_dataset_add(set, false, FV_U8, &shape, image);
    fv_dataset_add(set, true, FV_I32, &label_shape, label);
    return fv_dataset_finish(set, CLASSES, names);
}
