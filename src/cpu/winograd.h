/* winograd.h - Winograd's convolution (Lavin & Gray 2015), F(4x4, 3x3) and F(4x4, 5x5): patches of 6x6 or 8x8 values and
 * the filters are evaluated at 36 or 64 points, multiplied there for all channels at once (as many products of matrices),
 * and brought back to 4x4 results. 36 multiplications do the work of 144, 64 that of 400. The points on each axis are 0, 1,
 * -1, 2, -2, for filters of 5 taps also 1/2 and -1/2, and infinity. conv_winograd.c has forward and data gradient,
 * conv_winograd_weights.c the weight gradient. What is not finite in a patch spoils all of its results, not only those
 * that a direct sum would. */
#ifndef FV_CPU_WINOGRAD_H
#define FV_CPU_WINOGRAD_H
#include "cpu/conv.h"

enum {
    OUT = 4, /* results of a patch on each axis */
    TAPS_MOST = 5,
    SIDE_MOST = OUT + TAPS_MOST - 1,
    SLACK_FLOATS = 16 /* keep strides off powers of two */
};
#define SIDE(taps) ((taps) + OUT - 1) /* of a patch; as many points on each axis */

/* A filter at the points: G. */
static const float winograd_3[6][3] = { { 1 / 4.0f },
                                        { -1 / 6.0f, -1 / 6.0f, -1 / 6.0f },
                                        { -1 / 6.0f, 1 / 6.0f, -1 / 6.0f },
                                        { 1 / 24.0f, 1 / 12.0f, 1 / 6.0f },
                                        { 1 / 24.0f, -1 / 12.0f, 1 / 6.0f },
                                        { 0, 0, 1 } };
static const float winograd_5[8][5] = { { 1 },
                                        { -2 / 9.0f, -2 / 9.0f, -2 / 9.0f, -2 / 9.0f, -2 / 9.0f },
                                        { -2 / 9.0f, 2 / 9.0f, -2 / 9.0f, 2 / 9.0f, -2 / 9.0f },
                                        { 1 / 90.0f, 1 / 45.0f, 2 / 45.0f, 4 / 45.0f, 8 / 45.0f },
                                        { 1 / 90.0f, -1 / 45.0f, 2 / 45.0f, -4 / 45.0f, 8 / 45.0f },
                                        { 32 / 45.0f, 16 / 45.0f, 8 / 45.0f, 4 / 45.0f, 2 / 45.0f },
                                        { 32 / 45.0f, -16 / 45.0f, 8 / 45.0f, -4 / 45.0f, 2 / 45.0f },
                                        { 0, 0, 0, 0, 1 } };
#define WINOGRAD_FILTER(taps, point, t) ((taps) == 3 ? winograd_3[(point) % 6][(t) % 3] : winograd_5[point][t])

/* The values of a patch at the points: B'. */
INLINE void to_points(const int taps, const vf *d, const int step, vf *o) {
    vf d0 = d[0], d1 = d[step], d2 = d[2 * step], d3 = d[3 * step], d4 = d[4 * step], d5 = d[5 * step];
    if (taps == 3) {
        vf s = d4 - 4.0f * d2, t = d3 - 4.0f * d1, u = d4 - d2, v = 2.0f * (d3 - d1);
        o[0] = 4.0f * d0 - 5.0f * d2 + d4;
        o[1] = s + t, o[2] = s - t;
        o[3] = u + v, o[4] = u - v;
        o[5] = 4.0f * d1 - 5.0f * d3 + d5;
    } else {
        vf d6 = d[6 * step], d7 = d[7 * step];
        vf s = d2 + d6 - 4.25f * d4, t = d1 + d5 - 4.25f * d3;
        vf u = d6 + 0.25f * d2 - 1.25f * d4, v = 0.5f * d1 - 2.5f * d3 + 2.0f * d5;
        vf w = d6 + 4.0f * d2 - 5.0f * d4, x = 2.0f * d1 - 2.5f * d3 + 0.5f * d5;
        o[0] = d0 - d6 + 5.25f * (d4 - d2);
        o[1] = s + t, o[2] = s - t;
        o[3] = u + v, o[4] = u - v;
        o[5] = w + x, o[6] = w - x;
        o[7] = d7 - d1 + 5.25f * (d3 - d5);
    }
}
/* Back to OUT results: A'. */
INLINE void from_points(const int taps, const vf *m, const int step, vf *o, const int to) {
    vf p = m[step] + m[2 * step], q = m[step] - m[2 * step], r = m[3 * step] + m[4 * step],
       s = m[3 * step] - m[4 * step];
    if (taps == 3) {
        o[0] = m[0] + p + r;
        o[to] = q + 2.0f * s;
        o[2 * to] = p + 4.0f * r;
        o[3 * to] = q + 8.0f * s + m[5 * step];
    } else {
        vf t = m[5 * step] + m[6 * step], u = m[5 * step] - m[6 * step];
        o[0] = m[0] + p + (r + t);
        o[to] = q + 2.0f * s + 0.5f * u;
        o[2 * to] = p + 4.0f * r + 0.25f * t;
        o[3 * to] = q + 8.0f * s + 0.125f * u + m[7 * step];
    }
}
/* Its adjoint: gradients of OUT results at the points: A. */
INLINE void spread_to_points(const int taps, const vf *d, const int step, vf *o) {
    vf a = d[0], b = d[step], c = d[2 * step], e = d[3 * step];
    vf p = a + c, q = b + e, r = a + 4.0f * c, s = 2.0f * b + 8.0f * e;
    o[0] = a;
    o[1] = p + q, o[2] = p - q;
    o[3] = r + s, o[4] = r - s;
    if (taps == 3) {
        o[5] = e;
    } else {
        vf t = a + 0.25f * c, u = 0.5f * b + 0.125f * e;
        o[5] = t + u, o[6] = t - u;
        o[7] = e;
    }
}

/* ---- Where the patches lie --------------------------------------------------------------------------------------- */
typedef struct winograd_grid {
    int taps, points;  /* of the filter on each axis; of a patch */
    int64_t size[2];   /* of the results */
    int64_t source[2]; /* of what the patches are cut from */
    int64_t shift[2];  /* result o reads from o - shift on */
    int64_t tiles[2], count;
} winograd_grid;

static inline winograd_grid winograd_grid_of(const conv_problem *p, bool gradient) {
    const int taps = (int)p->taps[0];
    winograd_grid g = { .taps = taps, .points = SIDE(taps) * SIDE(taps), .count = p->images };
    for (int axis = 0; axis < 2; axis++) {
        g.size[axis] = gradient ? p->x_size[axis] : p->y_size[axis];
        g.source[axis] = gradient ? p->y_size[axis] : p->x_size[axis];
        g.shift[axis] = gradient ? p->taps[axis] - 1 - p->pad[axis] : p->pad[axis];
        g.tiles[axis] = div_up(g.size[axis], OUT);
        g.count *= g.tiles[axis];
    }
    return g;
}
typedef struct winograd_tile {
    int64_t image, y, x; /* of its first result */
} winograd_tile;
static inline winograd_tile winograd_tile_of(const winograd_grid *g, int64_t index) {
    return (winograd_tile){ index / (g->tiles[0] * g->tiles[1]), index / g->tiles[1] % g->tiles[0] * OUT,
                            index % g->tiles[1] * OUT };
}

/* ---- Patches at the points --------------------------------------------------------------------------------------- */
typedef struct winograd_patch {
    const float *line[SIDE_MOST];
    int64_t column[SIDE_MOST];
    vi line_there[SIDE_MOST], column_there[SIDE_MOST]; /* all ones, or zero outside the map */
    bool edge;
} winograd_patch;

/* Coordinates outside are drawn in, to an address that exists; what is read there is masked. */
static inline winograd_patch winograd_patch_of(const winograd_grid *g, const float *source, int64_t channels,
                                               winograd_tile t) {
    const int64_t *size = g->source, y = t.y - g->shift[0], x = t.x - g->shift[1];
    const int side = SIDE(g->taps);
    winograd_patch p = { .edge = y < 0 || x < 0 || y + side > size[0] || x + side > size[1] };
    for (int i = 0; i < side; i++) {
        int64_t row = least(most(y + i, 0), size[0] - 1), column = least(most(x + i, 0), size[1] - 1);
        p.line[i] = source + (t.image * size[0] + row) * size[1] * channels;
        p.column[i] = column * channels;
        p.line_there[i] = splat_int(row == y + i ? -1 : 0);
        p.column_there[i] = splat_int(column == x + i ? -1 : 0);
    }
    return p;
}
INLINE void patch_vector(const winograd_patch *p, const int taps, const bool edge, const int part, int64_t c,
                         float *out, int64_t stride) {
    const int side = SIDE(taps);
    vf t[SIDE_MOST * SIDE_MOST];
    UNROLL(8)
    for (int i = 0; i < side; i++) {
        vf d[SIDE_MOST];
        UNROLL(8)
        for (int j = 0; j < side; j++) {
            const float *at = p->line[i] + p->column[j] + c;
            d[j] = part ? load_part(at, part) : load(at);
            if (edge) d[j] = keep_if(p->line_there[i] & p->column_there[j], d[j]);
        }
        to_points(taps, d, 1, t + i * side);
    }
    UNROLL(8)
    for (int j = 0; j < side; j++) {
        vf o[SIDE_MOST];
        to_points(taps, t + j, side, o);
        UNROLL(8)
        for (int i = 0; i < side; i++) store(out + (i * side + j) * stride, o[i]);
    }
}
/* The channels that begin at c: LANES of them, or as many as are left. */
INLINE void winograd_patch_points(const winograd_patch *p, const int taps, int64_t c, int64_t channels, float *out,
                                  int64_t stride) {
    if (channels - c < LANES)
        patch_vector(p, taps, true, (int)(channels - c), c, out, stride);
    else if (p->edge)
        patch_vector(p, taps, true, 0, c, out, stride);
    else
        patch_vector(p, taps, false, 0, c, out, stride);
}

/* ---- The choice -------------------------------------------------------------------------------------------------- */
/* Both ways in multiply-adds. The weights of the terms come from measurements (docs/architecture.md); transforms are
 * bound by the cache between them, so an instruction set matters little. */
static inline double winograd_estimate(const conv_problem *p, bool gradient, double direct, double products,
                                       double transforms, double filters) {
    winograd_grid g = winograd_grid_of(p, gradient);
    double depth = (double)(gradient ? p->filters : p->channels),
           columns = (double)(gradient ? p->channels : p->filters);
    double reach = (double)p->images, width = (double)padded_columns((int64_t)columns);
    for (int axis = 0; axis < 2; axis++) {
        int64_t taps = 0; /* that do not fall into the padding */
        for (int64_t o = 0; o < g.size[axis]; o++)
            for (int64_t t = 0; t < p->taps[axis]; t++) taps += conv_reads(p, gradient, axis, o, t) >= 0;
        reach *= (double)taps;
    }
    double ours = (double)g.count * (g.points * depth * width * products + (depth + width) * transforms) +
                  depth * width * filters;
    return ours / (reach * depth * width * direct);
}
static inline const char *winograd_does_not_fit(const conv_problem *p) {
    if (p->groups != 1) return "groups";
    if (p->taps[0] != p->taps[1] || (p->taps[0] != 3 && p->taps[0] != 5)) return "neither 3x3 nor 5x5";
    if (p->stride[0] != 1 || p->stride[1] != 1) return "stride";
    if (p->dilation[0] != 1 || p->dilation[1] != 1) return "dilation";
    return p->channels < 8 || p->filters < 8 ? "few channels" : NULL;
}
#endif
