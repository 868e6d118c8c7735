/* product.h - matrix products through cuBLASLt. The library thinks in columns: a row-major matrix is its transpose there, so y = x w'
 * is asked for as y' = w x'. */
#ifndef FV_CUDA_PRODUCT_H
#define FV_CUDA_PRODUCT_H
#include "cuda/libraries.h"
#ifdef __cplusplus
extern "C" {
#endif

/* d[m, n] = op(a) op(b), all in columns; strides in elements between the matrices of a batch (0: one for all). */
typedef struct fv_product_shape {
    int64_t m, n, k;
    bool transpose_a, transpose_b;
    fv_type type, result; /* of a and b; of d */
    bool strict;          /* f32 factors keep all their digits */
    cublasLtEpilogue_t epilogue;
    int32_t batch;
    int64_t stride_a, stride_b, stride_d;
    uint32_t alignment; /* of all addresses, in bytes; 0: 16, what the framework keeps */
    int choice;         /* which of the heuristics' algorithms, from 1 on; 0: the first */
} fv_product_shape;

typedef struct fv_product {
    cublasLtMatmulDesc_t description;
    cublasLtMatrixLayout_t a, b, d;
    cublasLtMatmulAlgo_t algorithm;
    size_t workspace;
    const void *bias; /* as the description has it now */
    char text[64];    /* which algorithm, for the profile */
} fv_product;

enum { FV_PRODUCT_CHOICES = 8 };
/* FV_ERROR_UNSUPPORTED without an error recorded: there are fewer algorithms than the choice. */
int fv_product_prepare(fv_device *, fv_product *, const fv_product_shape *);
int fv_product_run(fv_device *, fv_product *, const void *a, const void *b, void *d, const void *bias, void *workspace);
void fv_product_release(fv_product *);
#ifdef __cplusplus
}
#endif
#endif
