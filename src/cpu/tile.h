/* tile.h - the register tile that every product is made of: up to TILE_ROWS x TILE_COLUMNS sums stay in registers
 * while the reduction runs. B comes in panels of one or two vectors a row, A either as rows (element (m, k) at a[m
 * lda + k]) or as columns (at a[k lda + m]). Each sum is one chain of multiply-adds in the order of k, so results do
 * not depend on the tile's height. */
#ifndef FV_CPU_TILE_H
#define FV_CPU_TILE_H
#include "cpu/cpu.h"
#include "cpu/simd.h"

/* Global names, so with the suffix of the instruction set. */
#define tile_rows             ISA(tile_rows)
#define tile_columns          ISA(tile_columns)
#define tile_apply            ISA(tile_apply)
#define tile_apply_transposed ISA(tile_apply_transposed)
#define pack_rows             ISA(pack_rows)
#define pack_columns          ISA(pack_columns)

#if LANES == 16 || defined(__aarch64__)
enum { TILE_ROWS = 14 }; /* 28 sums in 32 registers */
#else
enum { TILE_ROWS = 6 }; /* 12 sums in 16 registers */
#endif
enum { TILE_COLUMNS = 2 * LANES, TILE_STRIDE = TILE_ROWS > 8 ? 16 : 8 /* of A packed by columns */ };

/* A stretch of the reduction: how far from a (in floats) and from b (in rows of the panel) it begins. */
typedef struct tile_segment {
    int64_t length, a, b;
} tile_segment;
typedef void tile_fn(const float *a, int64_t lda, const float *b, const tile_segment *, int segments, float *c,
                     int64_t ldc, bool accumulate);

/* [vectors of a panel - 1][rows]; c is written in full width */
extern tile_fn *const tile_rows[2][TILE_ROWS + 1];
extern tile_fn *const tile_columns[2][TILE_ROWS + 1];

/* n columns lie in panels of TILE_COLUMNS, the last of which has one vector where that suffices. */
static inline int64_t panel_count(int64_t n) { return div_up(n, TILE_COLUMNS); }
static inline int panel_vectors(int64_t left) { return left <= LANES ? 1 : 2; } /* left: columns from this panel on */
static inline int64_t padded_columns(int64_t n) { return round_up(n, LANES); }

typedef struct tile_finish {
    const float *bias; /* of the tile's first column, or NULL */
    int activation;
    float alpha; /* its parameter */
} tile_finish;

/* One tile into columns 0 .. columns-1 of c: never writes past them. finish: after the last contribution, or NULL. */
void tile_apply(tile_fn *const kernel[2][TILE_ROWS + 1], int rows, int64_t columns, const float *a, int64_t lda,
                const float *b, const tile_segment *, int segments, float *c, int64_t ldc, bool accumulate,
                const tile_finish *finish);
/* The same into a transposed c: element (row, column) at c[column ldc + row]; bias runs along the rows. */
void tile_apply_transposed(tile_fn *const kernel[2][TILE_ROWS + 1], int rows, int64_t columns, const float *a,
                           int64_t lda, const float *b, const tile_segment *, int segments, float *c, int64_t ldc,
                           bool accumulate, const tile_finish *finish);
/* One panel of k rows x `columns` of a matrix, padded with zeros to whole vectors: from rows (source[k ld + column])
 * or from columns (source[column ld + k]). */
void pack_rows(const float *source, int64_t ld, int64_t k, int64_t columns, float *out);
void pack_columns(const float *source, int64_t ld, int64_t k, int64_t columns, float *out);
#endif
