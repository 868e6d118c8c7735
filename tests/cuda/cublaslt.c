/* cublaslt.c - cublasLtMatmul with its epilogues on the CPU. Descriptors, layouts and preferences are the real library's: they work
 * without a GPU and answer when asked. Only the handle, the heuristic and the product are made here. */
#include "shadow.h"
#include <cublasLt.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

struct cublasLtContext {
    uint32_t magic;
};
static int handle_ok(cublasLtHandle_t h) {
    if (h && ((struct cublasLtContext *)h)->magic == 0xB1A5) return 1;
    fake_complain("cublasLt: not a live handle");
    return 0;
}
cublasStatus_t cublasLtCreate(cublasLtHandle_t *h) {
    if (fake_fails("cublasLtCreate")) return CUBLAS_STATUS_NOT_INITIALIZED;
    struct cublasLtContext *c = calloc(1, sizeof *c);
    c->magic = 0xB1A5;
    *h = (cublasLtHandle_t)c;
    fake.objects++;
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtDestroy(cublasLtHandle_t h) {
    if (!handle_ok(h)) return CUBLAS_STATUS_INVALID_VALUE;
    ((struct cublasLtContext *)h)->magic = 0;
    free(h);
    fake.objects--;
    return CUBLAS_STATUS_SUCCESS;
}

typedef struct Matrix {
    uint64_t rows, cols;
    int64_t ld, batch_stride;
    int32_t order, batch;
    cudnnDataType_t type;
} Matrix;
typedef struct Problem {
    Matrix A, B, C, D;
    int32_t ta, tb, epilogue;
    int64_t aux_ld;
    cudnnDataType_t bias_type, aux_type;
} Problem; /* compared as bytes: always zeroed first */
typedef struct Call {
    Problem p;
    const void *a, *b, *c;
    void *d, *bias, *aux, *workspace;
    size_t workspace_size;
    float alpha, beta;
    const float *alpha_device, *beta_device;
} Call;
typedef struct Algorithm {
    uint64_t magic, problem;
    uint32_t workspace, alignment[4];
} Algorithm; /* what our heuristic writes into the 64 opaque bytes */
enum { AUX = 128, GRAD_OF_BIAS = 16, RELU = 2, BIAS = 4, DRELU = 8, GELU = 32, DGELU = 64 };

static cudnnDataType_t type_of(int32_t t) {
    return t == CUDA_R_32F    ? CUDNN_DATA_FLOAT
           : t == CUDA_R_16BF ? CUDNN_DATA_BFLOAT16
           : t == CUDA_R_16F  ? CUDNN_DATA_HALF
                              : (cudnnDataType_t)-1;
}
static int matrix(cublasLtMatrixLayout_t l, Matrix *m) {
    int32_t type, mode = 0;
    size_t w;
#define GET(name, to)                                                                                                  \
    (cublasLtMatrixLayoutGetAttribute(l, CUBLASLT_MATRIX_LAYOUT_##name, to, sizeof *(to), &w) != CUBLAS_STATUS_SUCCESS)
    if (!l || GET(TYPE, &type) || GET(ORDER, &m->order) || GET(ROWS, &m->rows) || GET(COLS, &m->cols) ||
        GET(LD, &m->ld) || GET(BATCH_COUNT, &m->batch) || GET(STRIDED_BATCH_OFFSET, &m->batch_stride))
        return 0;
#undef GET
    (void)mode;
    m->type = type_of(type);
    if ((int)m->type < 0 || (m->order != CUBLASLT_ORDER_COL && m->order != CUBLASLT_ORDER_ROW)) {
        fake_complain("cublasLt: this data type or order is not modelled");
        return 0;
    }
    if (m->ld < (int64_t)(m->order == CUBLASLT_ORDER_COL ? m->rows : m->cols)) {
        fake_complain("cublasLt: leading dimension %d is too small", (int)m->ld);
        return 0;
    } /* the real constructor accepts it */
    return 1;
}
/* Reads the whole problem back from the real descriptors; refuses what it cannot compute. */
static int problem(cublasLtMatmulDesc_t d, cublasLtMatrixLayout_t A, cublasLtMatrixLayout_t B, cublasLtMatrixLayout_t C,
                   cublasLtMatrixLayout_t D, Problem *p, Call *call) {
    size_t w;
    int32_t compute, scale, mode, tc, bias_type = -1, aux_type = -1;
    void *unused;
    memset(p, 0, sizeof *p);
#define GET(name, to)                                                                                                  \
    (cublasLtMatmulDescGetAttribute(d, CUBLASLT_MATMUL_DESC_##name, to, sizeof *(to), &w) != CUBLAS_STATUS_SUCCESS)
    if (!d || !matrix(A, &p->A) || !matrix(B, &p->B) || !matrix(C, &p->C) || !matrix(D, &p->D)) return 0;
    if (GET(COMPUTE_TYPE, &compute) || GET(SCALE_TYPE, &scale) || GET(POINTER_MODE, &mode) || GET(TRANSA, &p->ta) ||
        GET(TRANSB, &p->tb) || GET(TRANSC, &tc) || GET(EPILOGUE, &p->epilogue) || GET(EPILOGUE_AUX_LD, &p->aux_ld) ||
        GET(BIAS_DATA_TYPE, &bias_type) || GET(EPILOGUE_AUX_DATA_TYPE, &aux_type))
        return 0;
    if (call && (GET(BIAS_POINTER, &call->bias) || GET(EPILOGUE_AUX_POINTER, &call->aux))) return 0;
    if (!GET(A_SCALE_POINTER, &unused) && unused) {
        fake_complain("cublasLt: scale pointers are not modelled");
        return 0;
    }
#undef GET
    if (compute < CUBLAS_COMPUTE_32F || compute > CUBLAS_COMPUTE_32F_FAST_TF32 || scale != CUDA_R_32F ||
        tc != CUBLAS_OP_N || mode > CUBLASLT_POINTER_MODE_DEVICE) {
        fake_complain("cublasLt: compute type, scale type, pointer mode or transposed C is not modelled");
        return 0;
    }
    uint64_t m = p->ta ? p->A.cols : p->A.rows, k = p->ta ? p->A.rows : p->A.cols, k2 = p->tb ? p->B.cols : p->B.rows,
             n = p->tb ? p->B.rows : p->B.cols;
    if (k != k2 || p->D.rows != m || p->D.cols != n || p->C.rows != m || p->C.cols != n || p->A.batch != p->D.batch ||
        p->B.batch != p->D.batch || p->C.batch != p->D.batch || p->C.type != p->D.type) {
        fake_complain("cublasLt: shapes, batches or types of A, B, C, D do not agree");
        return 0;
    }
    int e = p->epilogue, relu_mask = e & AUX && e & (RELU | DRELU);
    static const int allowed[] = { 1, 2, 4, 6, 130, 134, 136, 152, 32, 36, 160, 164, 192, 208, 256, 512 };
    size_t i = 0;
    while (i < sizeof allowed / sizeof *allowed && allowed[i] != e) i++;
    if (i == sizeof allowed / sizeof *allowed) {
        fake_complain("cublasLt: %d is not an epilogue", e);
        return 0;
    } /* the real setter accepts any number */
    if (e != CUBLASLT_EPILOGUE_DEFAULT && p->D.order != CUBLASLT_ORDER_COL) {
        fake_complain("cublasLt: epilogues need a column-major D");
        return 0;
    }
    if (e & AUX && (p->aux_ld < (int64_t)m || p->aux_ld % (relu_mask ? 128 : 8))) {
        fake_complain("cublasLt: EPILOGUE_AUX_LD %d must be a multiple of %d and not below %d rows", (int)p->aux_ld,
                      relu_mask ? 128 : 8, (int)m);
        return 0;
    }
    if (e & AUX && p->D.batch > 1) {
        fake_complain("cublasLt: batches with auxiliary buffers are not modelled");
        return 0;
    }
    p->bias_type = bias_type == -1 ? p->D.type : type_of(bias_type);
    p->aux_type = aux_type == -1 ? p->D.type : type_of(aux_type);
    return 1;
}
static uint64_t hash(const Problem *p) {
    uint64_t h = 14695981039346656037u;
    for (size_t i = 0; i < sizeof *p; i++) h = (h ^ ((const unsigned char *)p)[i]) * 1099511628211u;
    return h;
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t h, cublasLtMatmulDesc_t d, cublasLtMatrixLayout_t A,
                                              cublasLtMatrixLayout_t B, cublasLtMatrixLayout_t C,
                                              cublasLtMatrixLayout_t D, cublasLtMatmulPreference_t pref, int wanted,
                                              cublasLtMatmulHeuristicResult_t *result, int *found) {
    Problem p;
    *found = 0;
    if (!handle_ok(h) || wanted < 1) return CUBLAS_STATUS_INVALID_VALUE;
    if (fake_fails("cublasLtMatmulAlgoGetHeuristic")) return CUBLAS_STATUS_NOT_SUPPORTED;
    if (!problem(d, A, B, C, D, &p, NULL)) return CUBLAS_STATUS_NOT_SUPPORTED;
    Algorithm a = { .magic = 0x464F564541, .problem = hash(&p) };
    uint64_t most = 0;
    size_t w;
    cublasLtMatmulPreferenceGetAttribute(pref, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &most, sizeof most, &w);
    static const cublasLtMatmulPreferenceAttributes_t al[4] = { CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES,
                                                                CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
                                                                CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES,
                                                                CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES };
    for (int i = 0; i < 4; i++)
        cublasLtMatmulPreferenceGetAttribute(pref, al[i], &a.alignment[i], sizeof a.alignment[i], &w);
    memset(result, 0, (size_t)wanted * sizeof *result);
    for (int i = 0; i < wanted && i < 2; i++) { /* best first: one that wants workspace, then one that does not */
        a.workspace = i == 0 && most >= 4096 ? 4096 : 0;
        memcpy(result[i].algo.data, &a, sizeof a);
        result[i].workspaceSize = a.workspace;
        result[i].state = CUBLAS_STATUS_SUCCESS;
        result[i].wavesCount = 1;
        ++*found;
    }
    return CUBLAS_STATUS_SUCCESS;
}

static int64_t at(const Matrix *m, int64_t i, int64_t j) {
    return m->order == CUBLASLT_ORDER_COL ? i + j * m->ld : i * m->ld + j;
}
static size_t bytes(const Matrix *m) {
    if (!m->rows || !m->cols) return 0;
    return (size_t)(at(m, (int64_t)m->rows - 1, (int64_t)m->cols - 1) + 1 + (m->batch - 1) * m->batch_stride) *
           (size_t)fake_type_size(m->type);
}
static int call_ok(const Call *c) {
    const Problem *p = &c->p;
    int e = p->epilogue, reads_c = c->beta_device || c->beta != 0;
    int ok = fake_on_device(c->a, bytes(&p->A), "matmul: A") & fake_on_device(c->b, bytes(&p->B), "matmul: B") &
             fake_on_device(c->d, bytes(&p->D), "matmul: D") &
             (!reads_c || fake_on_device(c->c, bytes(&p->C), "matmul: C"));
    size_t vector =
        (size_t)(e == CUBLASLT_EPILOGUE_BGRADB ? p->D.cols : p->D.rows) * (size_t)fake_type_size(p->bias_type);
    if (e & (BIAS | GRAD_OF_BIAS | CUBLASLT_EPILOGUE_BGRADA | CUBLASLT_EPILOGUE_BGRADB))
        ok &= fake_on_device(c->bias, vector, "matmul: bias vector");
    if (e & AUX)
        ok &= fake_on_device(c->aux,
                             e & (RELU | DRELU) ? (size_t)p->aux_ld / 8 * p->D.cols
                                                : (size_t)p->aux_ld * p->D.cols * (size_t)fake_type_size(p->aux_type),
                             "matmul: auxiliary buffer");
    if (e & AUX && (uintptr_t)c->aux % 16) {
        fake_complain("matmul: auxiliary buffer is not 16-byte aligned");
        ok = 0;
    }
    if (c->workspace_size) ok &= fake_on_device(c->workspace, c->workspace_size, "matmul: workspace");
    if (c->alpha_device)
        ok &= fake_on_device(c->alpha_device, 4, "matmul: alpha") & fake_on_device(c->beta_device, 4, "matmul: beta");
    return ok;
}
static double gelu(double x) {
    return 0.5 * x * (1 + tanh(0.7978845608028654 * (x + 0.044715 * x * x * x)));
} /* cublasLt uses the tanh form */
static double gelu_slope(double x) {
    double u = 0.7978845608028654 * (x + 0.044715 * x * x * x), t = tanh(u);
    return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * 0.7978845608028654 * (1 + 3 * 0.044715 * x * x);
}

static void matmul_run(void *args) {
    const Call *c = args;
    const Problem *p = &c->p;
    int e = p->epilogue;
    if (!call_ok(c)) return;
    if (c->workspace_size) memset(c->workspace, 0xA5, c->workspace_size);
    double alpha = c->alpha_device ? *c->alpha_device : c->alpha, beta = c->beta_device ? *c->beta_device : c->beta;
    int64_t M = (int64_t)p->D.rows, N = (int64_t)p->D.cols, K = (int64_t)(p->ta ? p->A.rows : p->A.cols);
    double *gradient = calloc((size_t)(M > N ? M : N) + 1, sizeof *gradient);
    for (int64_t q = 0; q < p->D.batch; q++)
        for (int64_t j = 0; j < N; j++)
            for (int64_t i = 0; i < M; i++) {
                double s = 0;
                for (int64_t l = 0; l < K; l++) {
                    double a = fake_load(c->a, q * p->A.batch_stride + (p->ta ? at(&p->A, l, i) : at(&p->A, i, l)),
                                         p->A.type),
                           b = fake_load(c->b, q * p->B.batch_stride + (p->tb ? at(&p->B, j, l) : at(&p->B, l, j)),
                                         p->B.type);
                    s += a * b;
                    if (e == CUBLASLT_EPILOGUE_BGRADA && j == 0) gradient[i] += a;
                    if (e == CUBLASLT_EPILOGUE_BGRADB && i == 0) gradient[j] += b;
                }
                double v = alpha * (float)s +
                           (beta != 0 ? beta * fake_load(c->c, q * p->C.batch_stride + at(&p->C, i, j), p->C.type) : 0);
                if (e & BIAS) v += fake_load(c->bias, i, p->bias_type);
                int64_t cell = i + j * p->aux_ld;
                unsigned char *byte = (unsigned char *)c->aux + cell / 8, bit = (unsigned char)(1u << cell % 8);
                if (e & RELU) {
                    if (e & AUX) *byte = v > 0 ? *byte | bit : *byte & (unsigned char)~bit;
                    v = v > 0 || isnan(v) ? v : 0;
                }
                if (e & DRELU) v = *byte & bit ? v : 0;
                if (e & GELU) {
                    if (e & AUX) fake_store(c->aux, cell, p->aux_type, v);
                    v = gelu(v);
                }
                if (e & DGELU) v *= gelu_slope(fake_load(c->aux, cell, p->aux_type));
                if (e & GRAD_OF_BIAS) gradient[i] += v; /* over the columns of D, which are the batch */
                fake_store(c->d, q * p->D.batch_stride + at(&p->D, i, j), p->D.type, v);
            }
    if (e & (GRAD_OF_BIAS | CUBLASLT_EPILOGUE_BGRADA | CUBLASLT_EPILOGUE_BGRADB))
        for (int64_t i = 0; i < (e == CUBLASLT_EPILOGUE_BGRADB ? N : M); i++)
            fake_store(c->bias, i, p->bias_type, gradient[i]);
    free(gradient);
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t h, cublasLtMatmulDesc_t d, const void *alpha, const void *A,
                              cublasLtMatrixLayout_t Ad, const void *B, cublasLtMatrixLayout_t Bd, const void *beta,
                              const void *C, cublasLtMatrixLayout_t Cd, void *D, cublasLtMatrixLayout_t Dd,
                              const cublasLtMatmulAlgo_t *algo, void *workspace, size_t workspace_size,
                              cudaStream_t stream) {
    Call c;
    memset(&c, 0, sizeof c);
    size_t w;
    int32_t mode = 0;
    if (!handle_ok(h) || !fake_stream_ok(stream, "cublasLtMatmul") || !alpha || !beta)
        return CUBLAS_STATUS_INVALID_VALUE;
    if (fake_fails("cublasLtMatmul")) return CUBLAS_STATUS_EXECUTION_FAILED;
    if (!problem(d, Ad, Bd, Cd, Dd, &c.p, &c)) return CUBLAS_STATUS_NOT_SUPPORTED;
    c.a = A;
    c.b = B;
    c.c = C;
    c.d = D;
    if (algo) {
        Algorithm a;
        memcpy(&a, algo->data, sizeof a);
        const void *pointers[4] = { A, B, C, D };
        if (a.magic != 0x464F564541 || a.problem != hash(&c.p)) {
            fake_complain("matmul: this algorithm was chosen for another problem");
            return CUBLAS_STATUS_INVALID_VALUE;
        }
        if (workspace_size < a.workspace) {
            fake_complain("matmul: workspace of %zu bytes, the algorithm needs %u", workspace_size, a.workspace);
            return CUBLAS_STATUS_INVALID_VALUE;
        }
        for (int i = 0; i < 4; i++)
            if (a.alignment[i] && (uintptr_t)pointers[i] % a.alignment[i]) {
                fake_complain("matmul: %c is not aligned to the %u bytes that the preference promised", "ABCD"[i],
                              a.alignment[i]);
                return CUBLAS_STATUS_INVALID_VALUE;
            }
        c.workspace = workspace;
        c.workspace_size = a.workspace;
    }
    cublasLtMatmulDescGetAttribute(d, CUBLASLT_MATMUL_DESC_POINTER_MODE, &mode, sizeof mode, &w);
    if (mode == CUBLASLT_POINTER_MODE_DEVICE) {
        c.alpha_device = alpha;
        c.beta_device = beta;
    } else if (fake_is_device(alpha) || fake_is_device(beta)) {
        fake_complain("matmul: alpha or beta is a device pointer in host pointer mode");
        return CUBLAS_STATUS_INVALID_VALUE;
    } else {
        c.alpha = *(const float *)alpha;
        c.beta = *(const float *)beta;
    } /* by value from here on: a replay keeps them */
    if (!call_ok(&c)) return CUBLAS_STATUS_INVALID_VALUE;
    return fake_submit(stream, "cublasLtMatmul", matmul_run, NULL, &c, sizeof c) ? CUBLAS_STATUS_EXECUTION_FAILED
                                                                                 : CUBLAS_STATUS_SUCCESS;
}
