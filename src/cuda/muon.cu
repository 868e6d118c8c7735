/* muon.cu - Muon: vectors by AdamW (optimizer.cu), then matrix after matrix made orthogonal by products of cuBLASLt. The library
 * thinks in columns: a matrix [rows, columns] of ours is its transpose there. Formulas as in src/cpu/reference/optimizer.c. */
#include "cuda/product.h"
#include "cuda/update.h"

int fv_cuda_update_vectors(fv_device *, const fv_task *);

namespace {
enum { GRAM, SQUARE, PRODUCT, PRODUCTS };
struct matrix {
    int input;
    int64_t rows, columns, side; /* side: the shorter one */
    fv_product product[PRODUCTS];
};
struct muon_state {
    fv_task vectors; /* with the tiles */
    int count;
    int64_t elements, square, blocks; /* the largest of all matrices */
    size_t workspace;
    matrix *at;
};
} // namespace

/* ---- Elementwise steps ----------------------------------------------------------------------------------------------------- */

__global__ void muon_begin(fv_update_attributes a, operands o, int64_t offset, int64_t count, float *x, double *squares) {
    step s = {};
    double sum = 0;
    const bool used = begin_step(o, a, offset, s);
    const float momentum = a.value[FV_MUON_MOMENTUM];
    const int64_t first = (int64_t)blockIdx.x * TILE, last = first + TILE < count ? first + TILE : count;
    for (int64_t i = first + threadIdx.x; i < last; i += blockDim.x) {
        if (used) {
            const float g = limited(s, o.gradients[offset + i]), m = running_mean(o.slot[0] + offset + i, momentum, g);
            x[i] = a.value[FV_MUON_PLAIN] != 0 ? m : (1 - momentum) * g + momentum * m;
        } else {
            x[i] = 0;
        }
        sum += (double)x[i] * x[i];
    }
    sum = block_sum(sum);
    if (threadIdx.x == 0) squares[blockIdx.x] = sum;
}

/* Every block adds the squares for itself, in the same order. */
__global__ void muon_scale(float *x, int64_t count, const double *squares, int64_t blocks) {
    double sum = 0;
    for (int64_t i = threadIdx.x; i < blocks; i += blockDim.x) sum += squares[i];
    const float factor = (float)(1 / (sqrt(block_sum(sum)) + 1e-7));
    GRID_STRIDE(i, count) x[i] *= factor;
}

/* y = a x + b y */
__global__ void muon_add(float a, const float *x, float b, float *y, int64_t count) {
    GRID_STRIDE(i, count) y[i] = a * x[i] + b * y[i];
}

__global__ void muon_step(fv_update_attributes a, operands o, int64_t offset, int64_t count, float scale, const float *x) {
    step s = {};
    if (!begin_step(o, a, offset, s)) return;
    GRID_STRIDE(i, count) {
        const float w = o.parameters[offset + i];
        o.parameters[offset + i] = w - s.rate * (s.decay * w + scale * x[i]);
    }
}

/* ---- Products -------------------------------------------------------------------------------------------------------------- */

/* x x' (of a tall matrix x' x); its square; that times x. */
static fv_product_shape shape_of(const matrix *m, int which) {
    const bool wide = m->rows <= m->columns;
    fv_product_shape s = {};
    s.type = s.result = FV_F32;
    s.batch = 1;
    s.epilogue = CUBLASLT_EPILOGUE_DEFAULT;
    s.m = s.n = s.k = m->side;
    if (which == GRAM) {
        s.k = wide ? m->columns : m->rows;
        s.transpose_a = wide, s.transpose_b = !wide;
    } else if (which == PRODUCT) {
        s.m = m->columns, s.n = m->rows;
    }
    return s;
}

static int orthogonalise(fv_device *device, matrix *m, int steps, float *x, float *y, float *gram, float *square, void *workspace) {
    const bool wide = m->rows <= m->columns;
    const int64_t count = m->rows * m->columns, squares = m->side * m->side;
    int status = FV_OK;
    for (int i = 0; i < steps && !status; i++) {
        status = fv_product_run(device, &m->product[GRAM], x, x, gram, NULL, workspace);
        if (!status) status = fv_product_run(device, &m->product[SQUARE], gram, gram, square, NULL, workspace);
        if (status) break;
        LAUNCH(muon_add, blocks_for(device, squares), BLOCK, 0, device->stream, 2.0315f, square, -4.7750f, gram, squares);
        status = fv_product_run(device, &m->product[PRODUCT], wide ? x : gram, wide ? gram : x, y, NULL, workspace);
        if (!status) LAUNCH(muon_add, blocks_for(device, count), BLOCK, 0, device->stream, 1.0f, y, 3.4445f, x, count);
    }
    return status;
}

/* ---- The operation --------------------------------------------------------------------------------------------------------- */

static size_t up(size_t bytes) { return (bytes + 255) / 256 * 256; }

static void release_muon(fv_device *device, fv_task *task) {
    muon_state *state = static_cast<muon_state *>(task->kept);
    if (!state) return;
    for (int i = 0; i < state->count; i++)
        for (int k = 0; k < PRODUCTS; k++) fv_product_release(&state->at[i].product[k]);
    release_tiles(device, &state->vectors);
    device->host.free(state);
    task->kept = NULL;
}

static int prepare_muon(fv_device *device, fv_task *task) {
    const size_t bytes = sizeof(muon_state) + (size_t)task->input_count * sizeof(matrix);
    muon_state *state = static_cast<muon_state *>(device->host.alloc(device->host.context, bytes, "the plan of an update"));
    if (!state) return FV_ERROR_MEMORY;
    task->kept = state;
    state->at = reinterpret_cast<matrix *>(state + 1);
    state->vectors = *task;
    state->vectors.kept = NULL;
    int status = prepare_tiles(device, &state->vectors, SLOT0 + 2);
    for (int i = SLOT0 + 2; i < task->input_count && !status; i++) {
        const fv_tensor *g = &task->input[i];
        if (g->rank < 2) continue;
        matrix *m = &state->at[state->count++];
        m->input = i;
        m->rows = g->dim[0];
        m->columns = fv_elements(g) / m->rows;
        m->side = m->rows < m->columns ? m->rows : m->columns;
        const int64_t elements = fv_elements(g), square = m->side * m->side, blocks = (elements + TILE - 1) / TILE;
        if (elements > state->elements) state->elements = elements;
        if (square > state->square) state->square = square;
        if (blocks > state->blocks) state->blocks = blocks;
        for (int k = 0; k < PRODUCTS && !status; k++) {
            fv_product_shape shape = shape_of(m, k);
            shape.strict = fv_cuda_strict(device, task);
            status = fv_product_prepare(device, &m->product[k], &shape);
            if (m->product[k].workspace > state->workspace) state->workspace = m->product[k].workspace;
        }
    }
    task->scratch_bytes = up((size_t)state->blocks * sizeof(double)) + 2 * up((size_t)state->elements * sizeof(float)) +
                          2 * up((size_t)state->square * sizeof(float)) + state->workspace;
    task->algorithm = "cuBLASLt: five rounds of products for each matrix";
    if (status) release_muon(device, task);
    return status;
}

static int run_muon(fv_device *device, const fv_task *task) {
    muon_state *state = static_cast<muon_state *>(task->kept);
    const fv_update_attributes a = task->attributes->update;
    const operands o = operands_of(task);
    fv_task vectors = *task;
    vectors.kept = state->vectors.kept;
    int status = fv_cuda_update_vectors(device, &vectors);
    unsigned char *scratch = static_cast<unsigned char *>(task->scratch);
    double *squares = reinterpret_cast<double *>(scratch);
    float *x = reinterpret_cast<float *>(scratch + up((size_t)state->blocks * sizeof(double)));
    float *y = x + up((size_t)state->elements * sizeof(float)) / sizeof(float);
    float *gram = y + up((size_t)state->elements * sizeof(float)) / sizeof(float);
    float *square = gram + up((size_t)state->square * sizeof(float)) / sizeof(float);
    void *workspace = square + up((size_t)state->square * sizeof(float)) / sizeof(float);
    for (int i = 0; i < state->count && !status; i++) {
        matrix *m = &state->at[i];
        const int64_t count = m->rows * m->columns, blocks = (count + TILE - 1) / TILE;
        const int64_t offset = static_cast<const float *>(task->input[m->input].data) - o.gradients;
        const float scale = m->rows > m->columns ? sqrtf((float)m->rows / (float)m->columns) : 1;
        LAUNCH(muon_begin, (unsigned)blocks, BLOCK, 0, device->stream, a, o, offset, count, x, squares);
        LAUNCH(muon_scale, blocks_for(device, count), BLOCK, 0, device->stream, x, count, squares, blocks);
        status = orthogonalise(device, m, (int)a.value[FV_MUON_STEPS], x, y, gram, square, workspace);
        if (!status) LAUNCH(muon_step, blocks_for(device, count), BLOCK, 0, device->stream, a, o, offset, count, scale, x);
    }
    return status ? status : fv_cuda_launched(device, task);
}
extern "C" const fv_kernel KERNEL(muon_update) = { NULL, prepare_muon, run_muon, release_muon };
