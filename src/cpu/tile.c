/* tile.c - the register tile in all its heights, and the packing of its operands. The compiler keeps all sums in
 * registers only while the loop over k is not unrolled. */
#include "cpu/functions.h"
#include "cpu/tile.h"

enum { AHEAD = 16 }; /* rows of B fetched ahead */

INLINE void tile(const int rows, const int vectors, const int by_columns, const float *a, int64_t lda, const float *b,
                 const tile_segment *segment, int segments, float *c, int64_t ldc, bool accumulate) {
    vf sum[TILE_ROWS][2];
    if (accumulate) {
        UNROLL(16)
        for (int m = 0; m < rows; m++) {
            __builtin_prefetch(c + m * ldc);
            if (vectors > 1) __builtin_prefetch(c + m * ldc + LANES);
        }
    }
    UNROLL(16)
    for (int m = 0; m < rows; m++) sum[m][0] = sum[m][1] = (vf){ 0 };
    ROLLED
    for (int s = 0; s < segments; s++) {
        const float *q = b + segment[s].b * LANES * vectors, *p0 = a + segment[s].a;
        const float *p1 = p0 + 3 * lda, *p2 = p0 + 6 * lda, *p3 = p0 + 9 * lda, *p4 = p0 + 12 * lda;
        ROLLED
        for (int64_t k = segment[s].length; k > 0; k--) {
            vf b0 = load(q), b1 = vectors > 1 ? load(q + LANES) : (vf){ 0 };
            __builtin_prefetch(q + AHEAD * LANES * vectors);
            if (vectors > 1) __builtin_prefetch(q + AHEAD * LANES * vectors + LANES);
            q += LANES * vectors;
            if (by_columns) __builtin_prefetch(p0 + 8 * lda);
            UNROLL(16)
            for (int m = 0; m < rows; m++) {
                const float *p = m < 3 ? p0 : m < 6 ? p1 : m < 9 ? p2 : m < 12 ? p3 : p4;
                vf x = splat(by_columns ? p0[m] : p[m % 3 * lda]);
                sum[m][0] += x * b0;
                if (vectors > 1) sum[m][1] += x * b1;
            }
            if (by_columns)
                p0 += lda;
            else
                p0++, p1++, p2++, p3++, p4++;
        }
    }
    UNROLL(16)
    for (int m = 0; m < rows; m++) {
        UNROLL(2)
        for (int v = 0; v < vectors; v++) {
            float *at = c + m * ldc + v * LANES;
            store(at, accumulate ? load(at) + sum[m][v] : sum[m][v]);
        }
    }
}

/* clang-format off */
#define TILE(name, m, vectors, by_columns)                                                                             \
    static void name##m(const float *a, int64_t lda, const float *b, const tile_segment *s, int n, float *c,          \
                        int64_t ldc, bool accumulate) {                                                                \
        tile(m, vectors, by_columns, a, lda, b, s, n, c, ldc, accumulate);                                             \
    }
#define TILES(m) TILE(rows_1_, m, 1, 0) TILE(rows_2_, m, 2, 0) TILE(columns_1_, m, 1, 1) TILE(columns_2_, m, 2, 1)
TILES(1) TILES(2) TILES(3) TILES(4) TILES(5) TILES(6)
#define SIX(family) NULL, family##1, family##2, family##3, family##4, family##5, family##6
#if LANES == 16 || defined(__aarch64__)
TILES(7) TILES(8) TILES(9) TILES(10) TILES(11) TILES(12) TILES(13) TILES(14)
#define ALL(family) \
    SIX(family), family##7, family##8, family##9, family##10, family##11, family##12, family##13, family##14
#else
#define ALL(family) SIX(family)
#endif
    /* clang-format on */
    tile_fn *const tile_rows[2][TILE_ROWS + 1] = { { ALL(rows_1_) }, { ALL(rows_2_) } };
tile_fn *const tile_columns[2][TILE_ROWS + 1] = { { ALL(columns_1_) }, { ALL(columns_2_) } };

/* ---- Edges and what follows the sum ------------------------------------------------------------------------------ */
/* Whole vectors: c has room for them. Reading back a part just stored would stall. */
INLINE void finish_with(float *c, int64_t ldc, int rows, int64_t columns, const float *bias, const int activation) {
    for (int64_t j = 0; j < columns; j += LANES) {
        vf shift = bias ? load_up_to(bias + j, columns - j) : (vf){ 0 };
        for (int m = 0; m < rows; m++) store(c + m * ldc + j, activate(load(c + m * ldc + j) + shift, activation));
    }
}
static void finish_tile(float *c, int64_t ldc, int rows, int64_t columns, const tile_finish *finish) {
    const float *bias = finish->bias;
    switch (finish->activation) {
    case FV_RELU: finish_with(c, ldc, rows, columns, bias, FV_RELU); break;
    case FV_TANH: finish_with(c, ldc, rows, columns, bias, FV_TANH); break;
    case FV_SIGMOID: finish_with(c, ldc, rows, columns, bias, FV_SIGMOID); break;
    default:
        if (bias) finish_with(c, ldc, rows, columns, bias, FV_LINEAR);
        for (int m = 0; m < rows && !is_inline(finish->activation); m++)
            activate_line(c + m * ldc, round_up(columns, LANES), finish->activation, finish->alpha);
    }
}

void tile_apply(tile_fn *const kernel[2][TILE_ROWS + 1], int rows, int64_t columns, const float *a, int64_t lda,
                const float *b, const tile_segment *segment, int segments, float *c, int64_t ldc, bool accumulate,
                const tile_finish *finish) {
    int vectors = columns <= LANES ? 1 : 2, width = vectors * LANES;
    if (columns == width) {
        kernel[vectors - 1][rows](a, lda, b, segment, segments, c, ldc, accumulate);
        if (finish) finish_tile(c, ldc, rows, columns, finish);
        return;
    }
    float edge[TILE_ROWS * TILE_COLUMNS] __attribute__((aligned(64)));
    int64_t whole = vectors == 2 ? LANES : 0, part = columns - whole; /* part: of the last vector */
    kernel[vectors - 1][rows](a, lda, b, segment, segments, edge, width, false);
    for (int m = 0; m < rows && accumulate; m++) {
        float *at = edge + m * width;
        if (whole) store(at, load(at) + load(c + m * ldc));
        store(at + whole, load(at + whole) + load_part(c + m * ldc + whole, (int)part));
    }
    if (finish) finish_tile(edge, width, rows, columns, finish);
    for (int m = 0; m < rows; m++) {
        if (whole) store(c + m * ldc, load(edge + m * width));
        store_part(c + m * ldc + whole, load(edge + m * width + whole), (int)part);
    }
}

INLINE void store_turned(const float *tile, int width, int rows, int64_t columns, float *c, int64_t ldc,
                         bool accumulate, const tile_finish *finish, const int activation) {
    for (int m0 = 0; m0 < rows; m0 += LANES)
        for (int j0 = 0; j0 < columns; j0 += LANES) {
            vf r[LANES];
            for (int i = 0; i < LANES; i++) r[i] = m0 + i < rows ? load(tile + (m0 + i) * width + j0) : (vf){ 0 };
            transpose_lanes(r);
            int n = rows - m0 < LANES ? rows - m0 : LANES, count = columns - j0 < LANES ? (int)columns - j0 : LANES;
            vf shift = finish && finish->bias ? load_up_to(finish->bias + m0, n) : (vf){ 0 };
            for (int j = 0; j < count; j++) {
                float *at = c + (j0 + j) * ldc + m0;
                vf x = r[j];
                if (accumulate) x += load_up_to(at, n);
                if (finish) x = activate(x + shift, activation);
                store_up_to(at, x, n);
            }
        }
}
void tile_apply_transposed(tile_fn *const kernel[2][TILE_ROWS + 1], int rows, int64_t columns, const float *a,
                           int64_t lda, const float *b, const tile_segment *segment, int segments, float *c,
                           int64_t ldc, bool accumulate, const tile_finish *finish) {
    float turned[TILE_ROWS * TILE_COLUMNS] __attribute__((aligned(64)));
    int vectors = columns <= LANES ? 1 : 2, width = vectors * LANES;
    kernel[vectors - 1][rows](a, lda, b, segment, segments, turned, width, false);
    switch (finish ? finish->activation : FV_LINEAR) {
    case FV_RELU: store_turned(turned, width, rows, columns, c, ldc, accumulate, finish, FV_RELU); break;
    case FV_TANH: store_turned(turned, width, rows, columns, c, ldc, accumulate, finish, FV_TANH); break;
    case FV_SIGMOID: store_turned(turned, width, rows, columns, c, ldc, accumulate, finish, FV_SIGMOID); break;
    default:
        store_turned(turned, width, rows, columns, c, ldc, accumulate, finish, FV_LINEAR);
        for (int64_t j = 0; j < columns && finish && !is_inline(finish->activation); j++)
            activate_line(c + j * ldc, rows, finish->activation, finish->alpha);
    }
}

/* ---- Packing ----------------------------------------------------------------------------------------------------- */
void pack_rows(const float *source, int64_t ld, int64_t k, int64_t columns, float *out) {
    int64_t width = padded_columns(columns);
    for (int64_t i = 0; i < k; i++)
        for (int64_t j = 0; j < width; j += LANES)
            store(out + i * width + j, load_up_to(source + i * ld + j, columns - j));
}

void pack_columns(const float *source, int64_t ld, int64_t k, int64_t columns, float *out) {
    int64_t width = padded_columns(columns);
    for (int64_t j0 = 0; j0 < width; j0 += LANES)
        for (int64_t i0 = 0; i0 < k; i0 += LANES) {
            vf r[LANES];
            int64_t n = least(LANES, k - i0);
            for (int j = 0; j < LANES; j++)
                r[j] = j0 + j < columns ? load_up_to(source + (j0 + j) * ld + i0, n) : (vf){ 0 };
            transpose_lanes(r);
            for (int i = 0; i < n; i++) store(out + (i0 + i) * width + j0, r[i]);
        }
}
