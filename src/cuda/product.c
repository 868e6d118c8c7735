/* product.c - see product.h */
#include "cuda/product.h"
#include <stdio.h>
#include <string.h>

static const size_t workspace_limit = 32 << 20;

static cudaDataType_t data_type(fv_type type) {
    return type == FV_BF16 ? CUDA_R_16BF : type == FV_F16 ? CUDA_R_16F : CUDA_R_32F;
}

static cublasStatus_t layout(cublasLtMatrixLayout_t *out, const fv_product_shape *s, fv_type type, int64_t rows,
                             int64_t columns, int64_t stride) {
    cublasStatus_t status = cublasLtMatrixLayoutCreate(out, data_type(type), (uint64_t)rows, (uint64_t)columns, rows);
    if (!status && s->batch > 1)
        status = cublasLtMatrixLayoutSetAttribute(*out, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &s->batch, sizeof s->batch);
    if (!status && s->batch > 1)
        status =
            cublasLtMatrixLayoutSetAttribute(*out, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &stride, sizeof stride);
    return status;
}

static cublasStatus_t describe(fv_product *p, const fv_product_shape *s) {
    const cublasOperation_t a = s->transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N,
                            b = s->transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N;
    const cublasComputeType_t compute =
        s->type == FV_F32 && !s->strict ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F;
    cublasStatus_t status = cublasLtMatmulDescCreate(&p->description, compute, CUDA_R_32F);
    if (!status) status = cublasLtMatmulDescSetAttribute(p->description, CUBLASLT_MATMUL_DESC_TRANSA, &a, sizeof a);
    if (!status) status = cublasLtMatmulDescSetAttribute(p->description, CUBLASLT_MATMUL_DESC_TRANSB, &b, sizeof b);
    if (!status)
        status = cublasLtMatmulDescSetAttribute(p->description, CUBLASLT_MATMUL_DESC_EPILOGUE, &s->epilogue,
                                                sizeof s->epilogue);
    if (!status)
        status = layout(&p->a, s, s->type, s->transpose_a ? s->k : s->m, s->transpose_a ? s->m : s->k, s->stride_a);
    if (!status)
        status = layout(&p->b, s, s->type, s->transpose_b ? s->n : s->k, s->transpose_b ? s->k : s->n, s->stride_b);
    if (!status) status = layout(&p->d, s, s->result, s->m, s->n, s->stride_d);
    return status;
}

/* The heuristics' first algorithm, or the one asked for. Sums that several blocks share go through the workspace in a fixed order, never into the result
 * at once, so that results repeat bit for bit. */
static cublasStatus_t choose(fv_libraries *l, fv_product *p, const fv_product_shape *s) {
    static const cublasLtMatmulPreferenceAttributes_t alignments[] = { CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES,
                                                                       CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
                                                                       CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES,
                                                                       CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES };
    const uint32_t alignment = s->alignment ? s->alignment : 16, schemes = CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
    cublasLtMatmulPreferenceOpaque_t preference; /* on the stack: nothing to free */
    cublasLtMatmulHeuristicResult_t result[FV_PRODUCT_CHOICES];
    const int wanted = s->choice ? s->choice : 1;
    int found = 0;
    cublasStatus_t status = cublasLtMatmulPreferenceInit(&preference);
    if (!status)
        status = cublasLtMatmulPreferenceSetAttribute(&preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                                      &workspace_limit, sizeof workspace_limit);
    if (!status)
        status = cublasLtMatmulPreferenceSetAttribute(&preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &schemes,
                                                      sizeof schemes);
    for (int i = 0; i < 4 && !status; i++)
        status = cublasLtMatmulPreferenceSetAttribute(&preference, alignments[i], &alignment, sizeof alignment);
    if (!status)
        status = cublasLtMatmulAlgoGetHeuristic(l->lt, p->description, p->a, p->b, p->d, p->d, &preference,
                                                s->choice ? FV_PRODUCT_CHOICES : 1, result, &found);
    if (!status && (found < wanted || result[wanted - 1].state)) status = CUBLAS_STATUS_NOT_SUPPORTED;
    if (status) return status;
    p->algorithm = result[wanted - 1].algo;
    p->workspace = result[wanted - 1].workspaceSize;
    snprintf(p->text, sizeof p->text,
             s->choice ? "cuBLASLt: the heuristics' algorithm %d, as tuned"
                       : "cuBLASLt: the heuristics' first algorithm",
             s->choice);
    return status;
}

int fv_product_prepare(fv_device *device, fv_product *p, const fv_product_shape *s) {
    fv_libraries *l;
    memset(p, 0, sizeof *p);
    int status = fv_cuda_lt(device, &l);
    if (status) return status;
    cublasStatus_t error = describe(p, s);
    if (!error) error = choose(l, p, s);
    if (error) fv_product_release(p);
    if (error == CUBLAS_STATUS_NOT_SUPPORTED && s->choice) return FV_ERROR_UNSUPPORTED;
    return fv_cuda_lt_check(device, error, "planning a matrix product");
}

int fv_product_run(fv_device *device, fv_product *p, const void *a, const void *b, void *d, const void *bias,
                   void *workspace) {
    fv_libraries *l;
    const float one = 1, zero = 0;
    const int status = fv_cuda_lt(device, &l);
    if (status) return status;
    cublasStatus_t error = CUBLAS_STATUS_SUCCESS;
    if (bias != p->bias)
        error = cublasLtMatmulDescSetAttribute(p->description, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias, sizeof bias);
    p->bias = bias;
    if (!error)
        error = cublasLtMatmul(l->lt, p->description, &one, a, p->a, b, p->b, &zero, d, p->d, d, p->d, &p->algorithm,
                               workspace, p->workspace, device->stream);
    return fv_cuda_lt_check(device, error, "a matrix product");
}

void fv_product_release(fv_product *p) {
    if (p->description) cublasLtMatmulDescDestroy(p->description);
    if (p->a) cublasLtMatrixLayoutDestroy(p->a);
    if (p->b) cublasLtMatrixLayoutDestroy(p->b);
    if (p->d) cublasLtMatrixLayoutDestroy(p->d);
    memset(p, 0, sizeof *p);
}
