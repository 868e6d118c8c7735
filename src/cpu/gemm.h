/* gemm.h - C = A B on packed panels, for dense layers and convolutions that are products. */
#ifndef FV_CPU_GEMM_H
#define FV_CPU_GEMM_H
#include "cpu/tile.h"

#define gemm_run       ISA(gemm_run)
#define gemm_scratch   ISA(gemm_scratch)
#define gemm_algorithm ISA(gemm_algorithm)
#define gemm_prepare   ISA(gemm_prepare)
#define gemm_run_task  ISA(gemm_run_task)

typedef struct gemm {
    int64_t m, n, k;
    const float *a, *b;
    float *c;
    int64_t lda, ldb, ldc;
    bool a_columns;      /* element (m, k) of A at a[k lda + m], else at a[m lda + k] */
    bool b_columns;      /* element (k, n) of B at b[n ldb + k], else at b[k ldb + n] */
    tile_finish finish;  /* bias along n */
    const float *packed; /* B in panels already; or NULL */
} gemm;

size_t gemm_scratch(const fv_device *, const gemm *);
void gemm_run(fv_device *, const gemm *, void *scratch);
const char *gemm_algorithm(const gemm *);
/* The product that a task is: prepare asks for scratch and, where B is a weight that stays, for memory to keep it packed. version: of
 * the weight as it is packed, 0 at first. */
void gemm_prepare(fv_device *, fv_task *, const gemm *);
void gemm_run_task(fv_device *, const fv_task *, gemm *, uint64_t *version);
#endif
