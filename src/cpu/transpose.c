/* transpose.c - axes in another order. Axes of size 1 are dropped and axes that stay neighbours become one. If the last
 * axis stays the last, whole stretches are copied; otherwise the two axes that are contiguous in x and in y span
 * planes, which are turned tile by tile in registers, in blocks that keep both sides in the caches. */
#include "cpu/reduction.h"
#include "cpu/simd.h"

enum { BLOCK = 128, LONG_BLOCK = 512, THIN = 4 /* tiles of fewer vectors are turned element by element */ };

/* Axes in the order of y, with their strides in x and y. */
typedef struct turn_run {
    const char *x;
    char *y;
    int rank, bytes; /* bytes: of an element */
    int64_t dim[FV_RANK], from[FV_RANK], to[FV_RANK];
    int inner;                 /* the axis that is contiguous in x */
    int64_t blocks_p, blocks_q; /* along it and along the last axis */
} turn_run;

static turn_run make_turn(const fv_tensor *x, const int32_t order[FV_RANK], void *y) {
    turn_run run = { .x = x->data, .y = y, .bytes = (int)type_bytes(x->type) };
    int64_t stride[FV_RANK], step = 1;
    for (int i = x->rank - 1; i >= 0; step *= x->dim[i--]) stride[i] = step;
    for (int i = 0; i < x->rank; i++) {
        int64_t dim = x->dim[order[i]], from = stride[order[i]];
        if (dim == 1) continue;
        if (run.rank && run.from[run.rank - 1] == from * dim) {
            run.dim[run.rank - 1] *= dim;
            run.from[run.rank - 1] = from;
        } else {
            run.dim[run.rank] = dim;
            run.from[run.rank++] = from;
        }
    }
    if (!run.rank) run.dim[run.rank] = 1, run.from[run.rank++] = 1;
    step = 1;
    for (int i = run.rank - 1; i >= 0; step *= run.dim[i--]) run.to[i] = step;
    while (run.from[run.inner] != 1) run.inner++;
    run.blocks_p = div_up(run.dim[run.inner], BLOCK);
    run.blocks_q = div_up(run.dim[run.rank - 1], LONG_BLOCK);
    return run;
}
/* Position i of the axes but the last and `inner`, as offsets in x and y. */
static void offsets_of(const turn_run *run, int64_t i, int64_t *from, int64_t *to) {
    *from = *to = 0;
    for (int axis = run->rank - 2; axis >= 0; axis--) {
        if (axis == run->inner) continue;
        int64_t at = i % run->dim[axis];
        i /= run->dim[axis];
        *from += at * run->from[axis];
        *to += at * run->to[axis];
    }
}

/* ---- The last axis stays ----------------------------------------------------------------------------------------- */
static void copy_rows(const void *argument, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const turn_run *run = argument;
    int64_t n = run->dim[run->rank - 1];
    for (int64_t i = begin; i < end; i++) {
        int64_t from, to;
        offsets_of(run, i, &from, &to);
        if (run->bytes == 4)
            copy_floats((float *)run->y + to, (const float *)run->x + from, n);
        else
            memcpy(run->y + to * run->bytes, run->x + from * run->bytes, (size_t)(n * run->bytes));
    }
}

/* ---- Planes: y[p ldy + q] = x[q ldx + p] ------------------------------------------------------------------------- */
INLINE void turn_elements(const char *x, int64_t ldx, char *y, int64_t ldy, int64_t p, int64_t q, const int bytes) {
    for (int64_t i = 0; i < p; i++)
        for (int64_t j = 0; j < q; j++)
            memcpy(y + (i * ldy + j) * bytes, x + (j * ldx + i) * bytes, (size_t)bytes);
}
INLINE void turn_tile(const float *x, int64_t ldx, float *y, int64_t ldy, int64_t p, int64_t q) {
    vf r[LANES];
    if (p >= LANES && q >= LANES) {
        for (int j = 0; j < LANES; j++) r[j] = load(x + j * ldx);
        transpose_lanes(r);
        for (int i = 0; i < LANES; i++) store(y + i * ldy, r[i]);
        return;
    }
    for (int j = 0; j < LANES; j++) r[j] = j < q ? load_up_to(x + j * ldx, p) : (vf){ 0 };
    transpose_lanes(r);
    for (int i = 0; i < LANES; i++)
        if (i < p) store_up_to(y + i * ldy, r[i], q);
}
static void turn_block(const turn_run *run, const char *x, char *y, int64_t p, int64_t q) {
    int64_t ldx = run->from[run->rank - 1], ldy = run->to[run->inner];
    if (run->bytes == 1) {
        turn_elements(x, ldx, y, ldy, p, q, 1);
    } else if (run->bytes == 2) {
        turn_elements(x, ldx, y, ldy, p, q, 2);
    } else if (least(p, LANES) * least(q, LANES) < THIN * LANES) {
        turn_elements(x, ldx, y, ldy, p, q, 4);
    } else {
        for (int64_t j = 0; j < q; j += LANES)
            for (int64_t i = 0; i < p; i += LANES)
                turn_tile((const float *)x + j * ldx + i, ldx, (float *)y + i * ldy + j, ldy, p - i, q - j);
    }
}
static void turn_blocks(const void *argument, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const turn_run *run = argument;
    int64_t last = run->rank - 1;
    for (int64_t unit = begin; unit < end; unit++) {
        int64_t q = unit % run->blocks_q * LONG_BLOCK, p = unit / run->blocks_q % run->blocks_p * BLOCK, from, to;
        offsets_of(run, unit / run->blocks_q / run->blocks_p, &from, &to);
        from += p + q * run->from[last];
        to += p * run->to[run->inner] + q;
        turn_block(run, run->x + from * run->bytes, run->y + to * run->bytes, least(BLOCK, run->dim[run->inner] - p),
                   least(LONG_BLOCK, run->dim[last] - q));
    }
}

void turn_axes(fv_device *device, const fv_tensor *x, const int32_t order[FV_RANK], void *y) {
    turn_run run = make_turn(x, order, y);
    int last = run.rank - 1;
    int64_t elements = fv_elements(x);
    if (run.inner == last) {
        fv_parallel(device, elements / run.dim[last], 8192 / run.dim[last] + 1, copy_rows, &run);
        return;
    }
    int64_t units = elements / run.dim[last] / run.dim[run.inner] * run.blocks_p * run.blocks_q;
    fv_parallel(device, units, 8192 * units / elements + 1, turn_blocks, &run);
}
static int transpose_run(fv_device *device, const fv_task *task) {
    turn_axes(device, &task->input[0], task->attributes->transpose.axes, task->output[0].data);
    return FV_OK;
}
const fv_cpu_kernel KERNEL(transpose) = { { .run = transpose_run }, NULL };
