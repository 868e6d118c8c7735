/* gemm.c - C = A B. The rows of A form tiles, the columns of B panels. A unit of work is a range of tiles times a range
 * of panels: whoever takes it packs its panels into memory of its own, as many at a time as stay in the second cache, and
 * runs the tiles over them, so that threads share only what they read. Rows of A are read where they lie, unless their
 * distance would make them compete for the same places of the nearest cache. When A has fewer rows than B has columns and B is
 * stored by columns (a dense layer: few images, many units), the product is turned round, C' = B' A', so that the smaller
 * operand is the one that is packed. Very few rows are plain dot products. Outputs are partitioned, never the reduction,
 * but for long sums into few results (weight gradients of 1x1 convolutions), which are a number of partial sums that the
 * shape alone decides. */
#include "cpu/functions.h"
#include "cpu/gemm.h"

enum {
    DEPTH = 800,        /* of the reduction in one visit of a tile, at most */
    BLOCK_DEPTH = 512,  /* where it needs several: then packed B stays in the second cache for more columns */
    STRIP = 1 << 18,    /* floats of packed B that stay in the second cache */
    CONFLICT = 1024,    /* rows of A so many floats apart fall into one set of the nearest cache */
    ROW_SLACK = 16,     /* keeps rows of the copy of A from doing so */
    WORTH = 60000,      /* multiply-adds that are worth a thread */
    PART_ROWS = 128,    /* that a thread should have, so that packing B for them costs little */
    PART_PANELS = 16,   /* that a unit should have where tiles of A are copied, or gathered from columns, for them */
    SLICES = 16,        /* partial sums at most */
    SLICE_DEPTH = 1024, /* of each at least */
    SLICE_FLOATS = 1 << 16, /* results at most */
    DOT_ROWS = 4
};

typedef struct plan {
    gemm g;                              /* turned round already */
    bool turned, in_place, packed_once;  /* packed_once: all of B is one strip */
    int64_t tiles, panels, depth, strip; /* strip: panels that are packed at a time */
    int64_t slices, row_parts, panel_parts;
    int64_t packed_floats, copy_floats; /* of one thread */
    float *partial, *buffer;
    int64_t *packed; /* by thread: 1 + the range of panels that its memory holds */
} plan;

static bool by_dots(const gemm *g) { return g->m <= DOT_ROWS && g->b_columns && !g->a_columns && g->k >= LANES; }
static bool is_turned(const gemm *g) { return !g->packed && g->b_columns && !g->a_columns && g->m < g->n; }
/* Few columns side by side are a panel as they stand. */
static bool is_panel(const gemm *g) {
    return !g->b_columns && g->ldb == g->n && (g->n == LANES || g->n == TILE_COLUMNS);
}

/* How evenly `parts` pieces load the threads: 1 is best. */
static double balance(int64_t parts, int threads) { return (double)parts / (double)(threads * div_up(parts, threads)); }

/* Into ranges of rows where that means little packing: what a thread packs serves all its tiles. Else, where A is not much larger
 * than B, into ranges of panels, so that a thread packs its own part of B only. */
static void divide(plan *p, int threads) {
    const gemm *g = &p->g;
    threads = (int)least(threads, (int64_t)((double)g->m * (double)g->n * (double)g->k / WORTH));
    p->row_parts = p->panel_parts = 1;
    if (threads <= 1 || p->slices > 1) return;
    if (!(p->packed_once && g->m >= PART_ROWS * threads) && g->m <= 4 * g->n && balance(p->panels, threads) > 0.85)
        p->panel_parts =
            threads * most(1, least(4, p->panels / ((p->in_place && !g->a_columns ? 1 : PART_PANELS) * threads)));
    else if (p->tiles >= threads)
        p->row_parts = least(p->tiles, 4 * threads);
    else
        p->row_parts = p->tiles, p->panel_parts = least(p->panels, threads);
}

static plan make_plan(const fv_device *device, const gemm *g) {
    plan p = { .g = *g, .turned = is_turned(g), .slices = 1 };
    if (p.turned) { /* the storages fit: rows of B are what columns of B' are */
        p.g.m = g->n, p.g.n = g->m;
        p.g.a = g->b, p.g.lda = g->ldb;
        p.g.b = g->a, p.g.ldb = g->lda;
    }
    if (!p.g.packed && is_panel(&p.g)) p.g.packed = p.g.b;
    bool plain = !g->finish.bias && g->finish.activation == FV_LINEAR;
    if (g->a_columns && !g->b_columns && plain && g->k >= SLICE_DEPTH * SLICES / 2 && g->m * g->n <= SLICE_FLOATS)
        p.slices = least(SLICES, g->k / SLICE_DEPTH);
    int64_t depth = div_up(g->k, p.slices);
    p.depth = most(1, depth <= DEPTH ? depth : div_up(depth, div_up(depth, BLOCK_DEPTH)));
    p.tiles = div_up(p.g.m, TILE_ROWS);
    p.panels = panel_count(p.g.n);
    p.strip = least(p.panels, most(1, STRIP / (p.depth * TILE_COLUMNS)));
    p.strip = div_up(p.panels, div_up(p.panels, p.strip)); /* evenly */
    p.in_place = p.g.lda % CONFLICT != 0;
    p.packed_floats = p.g.packed ? 0 : round_up(p.strip * p.depth * TILE_COLUMNS, 16);
    p.copy_floats = p.in_place ? 0 : round_up(most(TILE_ROWS * (p.depth + ROW_SLACK), TILE_STRIDE * p.depth), 16);
    p.packed_once = !p.g.packed && p.strip == p.panels && p.depth == g->k;
    divide(&p, device->threads);
    return p;
}

static int64_t partial_floats(const plan *p) { return p->slices > 1 ? round_up(p->slices * p->g.m * p->g.n, 16) : 0; }
size_t gemm_scratch(const fv_device *device, const gemm *g) {
    if (by_dots(g)) return 0;
    plan p = make_plan(device, g);
    int64_t floats = partial_floats(&p) + (p.packed_floats + p.copy_floats) * device->threads;
    return sizeof(float) * (size_t)floats + sizeof *p.packed * (size_t)device->threads;
}
const char *gemm_algorithm(const gemm *g) {
    if (by_dots(g)) return "dot products (few rows)";
    if (g->packed) return "weights packed once";
    return is_turned(g) ? "packed panels of images, weights in place" : "packed panels";
}

/* ---- Packing ----------------------------------------------------------------------------------------------------- */
static void pack_panel(const gemm *g, int64_t panel, int64_t k, int64_t depth, float *out) {
    int64_t n = panel * TILE_COLUMNS, width = least(TILE_COLUMNS, g->n - n);
    if (g->b_columns)
        pack_columns(g->b + n * g->ldb + k, g->ldb, depth, width, out);
    else
        pack_rows(g->b + k * g->ldb + n, g->ldb, depth, width, out);
}

typedef struct packing {
    const gemm *g;
    float *out;
} packing;
static void pack_whole(const void *argument, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const packing *p = argument;
    for (int64_t panel = begin; panel < end; panel++)
        pack_panel(p->g, panel, 0, p->g->k, p->out + panel * TILE_COLUMNS * p->g->k);
}
static void pack_b(fv_device *device, const gemm *g, float *out) {
    packing p = { g, out };
    fv_parallel(device, panel_count(g->n), 8192 / (g->k * TILE_COLUMNS + 1) + 1, pack_whole, &p);
}

/* Weights that stay are packed once; a product with them is not turned. */
void gemm_prepare(fv_device *device, fv_task *task, const gemm *g) {
    static const float somewhere;
    gemm own = *g;
    bool pays = task->version && !by_dots(g) && !is_panel(g);
    task->packed_bytes = pays ? sizeof(float) * (size_t)(panel_count(g->n) * TILE_COLUMNS * g->k) : 0;
    if (pays) own.packed = &somewhere;
    task->scratch_bytes = gemm_scratch(device, &own);
    task->algorithm = gemm_algorithm(&own);
}
void gemm_run_task(fv_device *device, const fv_task *task, gemm *g, uint64_t *version) {
    if (task->packed) {
        if (*version != *task->version) pack_b(device, g, task->packed);
        *version = *task->version;
        g->packed = task->packed;
    }
    gemm_run(device, g, task->scratch);
}

static void copy_a(const gemm *g, int64_t m, int rows, int64_t k, int64_t depth, float *out, int64_t stride) {
    if (g->a_columns)
        for (int64_t i = 0; i < depth; i++) copy_floats(out + i * TILE_STRIDE, g->a + (k + i) * g->lda + m, rows);
    else
        for (int i = 0; i < rows; i++) copy_floats(out + i * stride, g->a + (m + i) * g->lda + k, depth);
}

/* ---- The product ------------------------------------------------------------------------------------------------- */
/* Tiles over panels: a part of the result and of the reduction, what is done at a time. */
typedef struct block {
    int64_t first_tile, last_tile, first_panel, last_panel;
    int64_t k, depth;
    const float *b; /* packed: from panel b_panel and row b_k of the reduction on */
    int64_t b_panel, b_k, panel_floats;
    float *c; /* of the whole product, or of a partial sum */
    int64_t ldc;
    bool accumulate;
    const tile_finish *finish;
} block;

static void run_block(const plan *p, const block *at, float *copy) {
    const gemm *g = &p->g;
    tile_fn *const(*kernel)[TILE_ROWS + 1] = g->a_columns ? tile_columns : tile_rows;
    tile_segment whole = { at->depth, 0, 0 };
    for (int64_t t = at->first_tile; t < at->last_tile; t++) {
        int64_t m = g->m * t / p->tiles, lda = g->lda;
        int rows = (int)(g->m * (t + 1) / p->tiles - m);
        const float *a = g->a_columns ? g->a + at->k * lda + m : g->a + m * lda + at->k;
        if (!p->in_place) {
            lda = g->a_columns ? TILE_STRIDE : p->depth + ROW_SLACK;
            copy_a(g, m, rows, at->k, at->depth, copy, lda);
            a = copy;
        }
        for (int64_t panel = at->first_panel; panel < at->last_panel; panel++) {
            int64_t n = panel * TILE_COLUMNS, columns = least(TILE_COLUMNS, g->n - n);
            const float *b =
                at->b + (panel - at->b_panel) * at->panel_floats + (at->k - at->b_k) * padded_columns(columns);
            tile_finish finish = g->finish;
            if (finish.bias) finish.bias += p->turned ? m : n;
            if (p->turned)
                tile_apply_transposed(kernel, rows, columns, a, lda, b, &whole, 1, at->c + n * at->ldc + m, at->ldc,
                                      at->accumulate, at->finish ? &finish : NULL);
            else
                tile_apply(kernel, rows, columns, a, lda, b, &whole, 1, at->c + m * at->ldc + n, at->ldc,
                           at->accumulate, at->finish ? &finish : NULL);
        }
    }
}

/* The block's tiles and panels over its whole stretch k .. k + depth, strip by strip. */
static void run_range(const plan *p, const block *whole, float *packed, bool is_packed) {
    const gemm *g = &p->g;
    int64_t end = whole->k + whole->depth;
    block at = *whole;
    for (int64_t first = whole->first_panel; first < whole->last_panel; first += p->strip)
        for (int64_t k = whole->k; k < end || k == whole->k; k += p->depth) {
            at.first_panel = first, at.last_panel = least(whole->last_panel, first + p->strip);
            at.k = k, at.depth = least(p->depth, end - k);
            at.b = g->packed, at.b_panel = 0, at.b_k = 0, at.panel_floats = TILE_COLUMNS * g->k;
            if (!g->packed) {
                at.b = packed, at.b_panel = first, at.b_k = k, at.panel_floats = TILE_COLUMNS * at.depth;
                for (int64_t panel = first; panel < at.last_panel && !is_packed; panel++)
                    pack_panel(g, panel, k, at.depth, packed + (panel - first) * at.panel_floats);
            }
            at.accumulate = k > whole->k;
            at.finish = k + at.depth == g->k ? &g->finish : NULL;
            run_block(p, &at, packed + p->packed_floats);
        }
}

/* Units: ranges of tiles within ranges of panels. */
static void run_units(const void *argument, int64_t begin, int64_t end, int thread) {
    const plan *p = argument;
    const gemm *g = &p->g;
    float *own = p->buffer + thread * (p->packed_floats + p->copy_floats);
    for (int64_t u = begin, next; u < end; u = next) {
        int64_t group = u / p->row_parts, part = u % p->row_parts;
        next = least(end, (group + 1) * p->row_parts);
        block whole = { .first_tile = p->tiles * part / p->row_parts,
                        .last_tile = p->tiles * (part + next - u) / p->row_parts,
                        .first_panel = p->panels * group / p->panel_parts,
                        .last_panel = p->panels * (group + 1) / p->panel_parts,
                        .depth = g->k,
                        .c = g->c,
                        .ldc = g->ldc };
        run_range(p, &whole, own, p->packed_once && p->packed[thread] == 1 + group);
        p->packed[thread] = 1 + group;
    }
}

/* ---- Partial sums ------------------------------------------------------------------------------------------------ */
static void run_slices(const void *argument, int64_t begin, int64_t end, int thread) {
    const plan *p = argument;
    const gemm *g = &p->g;
    float *own = p->buffer + thread * (p->packed_floats + p->copy_floats);
    for (int64_t slice = begin; slice < end; slice++) {
        int64_t k = g->k * slice / p->slices;
        block whole = { .last_tile = p->tiles,
                        .last_panel = p->panels,
                        .k = k,
                        .depth = g->k * (slice + 1) / p->slices - k,
                        .c = p->partial + slice * g->m * g->n,
                        .ldc = g->n };
        run_range(p, &whole, own, false);
    }
}
static void add_slices(const void *argument, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const plan *p = argument;
    const gemm *g = &p->g;
    for (int64_t m = begin; m < end; m++)
        for (int64_t n = 0; n < g->n; n += LANES) {
            const float *at = p->partial + m * g->n + n;
            vf sum = load_up_to(at, g->n - n);
            for (int64_t slice = 1; slice < p->slices; slice++) sum += load_up_to(at + slice * g->m * g->n, g->n - n);
            store_up_to(g->c + m * g->ldc + n, sum, g->n - n);
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
    p.partial = scratch;
    p.buffer = p.partial + partial_floats(&p);
    p.packed = (int64_t *)(p.buffer + (p.packed_floats + p.copy_floats) * device->threads);
    memset(p.packed, 0, sizeof *p.packed * (size_t)device->threads);
    if (p.slices == 1) {
        fv_parallel(device, p.row_parts * p.panel_parts, 1, run_units, &p);
        return;
    }
    fv_parallel(device, p.slices, 1, run_slices, &p);
    fv_parallel(device, g->m, 2048 / g->n + 1, add_slices, &p);
}
