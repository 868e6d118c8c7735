/* gemm.c - C = A B. B is packed into panels once per call, by all threads; then every thread takes tiles of rows,
 * copies its rows of A near the core and runs them over the panels. When A has fewer rows than B has columns and B
 * is stored by columns (a dense layer: few images, many units), the product is turned round, C' = B' A', so that the
 * smaller operand is the one that is packed. Very few rows are plain dot products. Outputs are partitioned, never
 * the reduction. */
#include "cpu/functions.h"
#include "cpu/gemm.h"

enum {
    DEPTH = 512,      /* of the reduction in one visit of a tile */
    STRIP = 512,      /* columns whose panels of that depth stay in the second cache */
    PACKED = 2 << 20, /* floats of packed B at most, roughly */
    DOT_ROWS = 4,
    ROW_SLACK = 16 /* keeps rows of the copy of A off powers of two */
};

typedef struct plan {
    gemm g; /* turned round already */
    bool turned;
    int64_t tiles, depth, strip_k, strip_n; /* strip_k, strip_n: extent of B that is packed at a time */
    int64_t groups;                         /* of panels: further units where there are few tiles */
    float *packed, *buffer;
    int64_t buffer_floats;               /* of one thread */
    int64_t n0, k0, columns, depth_here; /* the strip at work */
} plan;

static bool by_dots(const gemm *g) { return g->m <= DOT_ROWS && g->b_columns && !g->a_columns && g->k >= LANES; }

static plan make_plan(const fv_device *device, const gemm *g) {
    plan p = { .g = *g, .turned = g->b_columns && !g->a_columns && g->m < g->n };
    if (p.turned) { /* the storages fit: rows of B are what columns of B' are */
        p.g.m = g->n, p.g.n = g->m;
        p.g.a = g->b, p.g.lda = g->ldb;
        p.g.b = g->a, p.g.ldb = g->lda;
    }
    int64_t blocks = most(1, div_up(p.g.k, DEPTH));
    p.depth = div_up(p.g.k, blocks);
    p.strip_n = least(round_up(p.g.n, LANES), 4 * STRIP);
    p.strip_k = least(blocks, most(1, PACKED / (p.strip_n * most(p.depth, 1)))) * p.depth;
    p.tiles = div_up(p.g.m, TILE_ROWS);
    p.groups = least(panel_count(p.strip_n), div_up(8 * device->threads, most(p.tiles, 1)));
    p.buffer_floats = round_up(most(TILE_ROWS * (p.depth + ROW_SLACK), TILE_STRIDE * p.depth), 16);
    return p;
}

size_t gemm_scratch(const fv_device *device, const gemm *g) {
    if (by_dots(g)) return 0;
    plan p = make_plan(device, g);
    return sizeof(float) * (size_t)(round_up(p.strip_n * p.strip_k, 16) + p.buffer_floats * device->threads);
}
const char *gemm_algorithm(const gemm *g) {
    if (by_dots(g)) return "dot products (few rows)";
    return g->b_columns && !g->a_columns && g->m < g->n ? "packed panels of images, weights in place" : "packed panels";
}

/* ---- Packing ----------------------------------------------------------------------------------------------------- */
static void pack_panels(const void *argument, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const plan *p = argument;
    const gemm *g = &p->g;
    for (int64_t panel = begin; panel < end; panel++) {
        int64_t n = p->n0 + panel * TILE_COLUMNS, width = least(TILE_COLUMNS, p->columns - panel * TILE_COLUMNS);
        float *out = p->packed + panel * TILE_COLUMNS * p->depth_here;
        if (g->b_columns)
            pack_columns(g->b + n * g->ldb + p->k0, g->ldb, p->depth_here, width, out);
        else
            pack_rows(g->b + p->k0 * g->ldb + n, g->ldb, p->depth_here, width, out);
    }
}

static void copy_a(const gemm *g, int64_t m, int rows, int64_t k, int64_t depth, float *out, int64_t stride) {
    if (g->a_columns)
        for (int64_t i = 0; i < depth; i++) copy_floats(out + i * TILE_STRIDE, g->a + (k + i) * g->lda + m, rows);
    else
        for (int i = 0; i < rows; i++) copy_floats(out + i * stride, g->a + (m + i) * g->lda + k, depth);
}

/* ---- The product ------------------------------------------------------------------------------------------------- */
/* Tiles t0..t1-1 over panels p0..p1-1 of the strip. */
static void run_block(const plan *p, int64_t t0, int64_t t1, int64_t p0, int64_t p1, float *a) {
    const gemm *g = &p->g;
    int64_t stride = p->depth + ROW_SLACK;
    tile_fn *const(*kernel)[TILE_ROWS + 1] = g->a_columns ? tile_columns : tile_rows;
    for (int64_t k = 0; k < p->depth_here; k += p->depth) {
        int64_t depth = least(p->depth, p->depth_here - k), at = p->k0 + k;
        bool last = at + depth == g->k, accumulate = at > 0;
        for (int64_t t = t0; t < t1; t++) {
            int64_t m = g->m * t / p->tiles;
            int rows = (int)(g->m * (t + 1) / p->tiles - m);
            copy_a(g, m, rows, at, depth, a, stride);
            for (int64_t panel = p0; panel < p1; panel++) {
                int64_t columns = least(TILE_COLUMNS, p->columns - panel * TILE_COLUMNS),
                        n = p->n0 + panel * TILE_COLUMNS;
                const float *b = p->packed + panel * TILE_COLUMNS * p->depth_here + k * padded_columns(columns);
                tile_segment whole = { depth, 0, 0 };
                tile_finish finish = g->finish;
                if (finish.bias) finish.bias += p->turned ? m : n;
                if (p->turned)
                    tile_apply_transposed(kernel, rows, columns, a, stride, b, &whole, 1, g->c + n * g->ldc + m, g->ldc,
                                          accumulate, last ? &finish : NULL);
                else
                    tile_apply(kernel, rows, columns, a, g->a_columns ? TILE_STRIDE : stride, b, &whole, 1,
                               g->c + m * g->ldc + n, g->ldc, accumulate, last ? &finish : NULL);
            }
        }
    }
}

/* units: tiles within groups of panels */
static void run_units(const void *argument, int64_t begin, int64_t end, int thread) {
    const plan *p = argument;
    int64_t panels = panel_count(p->columns), strip = STRIP / TILE_COLUMNS;
    for (int64_t u = begin; u < end;) {
        int64_t group = u / p->tiles, t0 = u % p->tiles, t1 = least(p->tiles, t0 + end - u);
        int64_t first = panels * group / p->groups, last = panels * (group + 1) / p->groups;
        for (int64_t panel = first; panel < last; panel += strip)
            run_block(p, t0, t1, panel, least(last, panel + strip), p->buffer + thread * p->buffer_floats);
        u += t1 - t0;
    }
}

/* ---- Dot products: vectors run along the reduction --------------------------------------------------------------- */
INLINE void dots(const gemm *g, const int rows, const int columns, int64_t n) {
    vf sum[DOT_ROWS][4];
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < columns; j++) sum[i][j] = (vf){ 0 };
    for (int64_t k = 0; k < g->k; k += LANES) {
        vf x[DOT_ROWS];
        for (int i = 0; i < rows; i++) x[i] = load_up_to(g->a + i * g->lda + k, g->k - k);
        for (int j = 0; j < columns; j++) {
            vf w = load_up_to(g->b + (n + j) * g->ldb + k, g->k - k);
            for (int i = 0; i < rows; i++) sum[i][j] += x[i] * w;
        }
    }
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < columns; j++) {
            float y = sum_lanes(sum[i][j]) + (g->finish.bias ? g->finish.bias[n + j] : 0.0f);
            g->c[i * g->ldc + n + j] = activate_any(splat(y), g->finish.activation)[0];
        }
    for (int i = 0; i < rows && !is_inline(g->finish.activation); i++)
        activate_line(g->c + i * g->ldc + n, columns, g->finish.activation, g->finish.alpha);
}
static void run_dots(const void *argument, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const gemm *g = argument;
    for (int64_t n = begin * 4; n < least(end * 4, g->n); n += 4)
        for (int64_t j = n; j < least(n + 4, g->n); j += n + 4 <= g->n ? 4 : 1)
            switch ((int)g->m * 2 + (n + 4 <= g->n)) {
            case 2: dots(g, 1, 1, j); break;
            case 3: dots(g, 1, 4, j); break;
            case 4: dots(g, 2, 1, j); break;
            case 5: dots(g, 2, 4, j); break;
            case 6: dots(g, 3, 1, j); break;
            case 7: dots(g, 3, 4, j); break;
            case 8: dots(g, 4, 1, j); break;
            default: dots(g, 4, 4, j); break;
            }
}

void gemm_run(fv_device *device, const gemm *g, void *scratch) {
    if (!g->m || !g->n) return;
    if (by_dots(g)) {
        fv_parallel(device, div_up(g->n, 4), 20000 / (g->k * 4) + 1, run_dots, g);
        return;
    }
    plan p = make_plan(device, g);
    p.packed = scratch;
    p.buffer = p.packed + round_up(p.strip_n * p.strip_k, 16);
    for (p.n0 = 0; p.n0 < p.g.n; p.n0 += p.strip_n)
        for (p.k0 = 0; p.k0 < p.g.k; p.k0 += p.strip_k) {
            p.columns = least(p.strip_n, p.g.n - p.n0);
            p.depth_here = least(p.strip_k, p.g.k - p.k0);
            fv_parallel(device, panel_count(p.columns), 8192 / (p.depth_here * TILE_COLUMNS) + 1, pack_panels, &p);
            fv_parallel(device, p.tiles * p.groups, 40000 / (p.depth_here * TILE_COLUMNS * TILE_ROWS) + 1, run_units,
                        &p);
        }
}
