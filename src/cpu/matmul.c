/* matmul.c - batched products of matrices (gemm.c). Axes that b is repeated along become rows of a where a is not
 * transposed. Large products are divided among the threads one by one; of many small ones every thread takes some. */
#include "cpu/gemm.h"

enum { SMALL = 1 << 18 /* multiply-adds: too few to be worth dividing */ };

typedef struct matmul_run {
    gemm g; /* of the first product */
    const fv_tensor *a, *b, *y;
    int axes;        /* of y that count products */
    int64_t batch;
    char *scratch;
    bool each;       /* threads run products of their own */
    fv_device alone; /* the device with one thread, for those */
    size_t bytes;    /* and the scratch of each */
} matmul_run;

static matmul_run make_run(fv_device *device, const fv_task *task) {
    const fv_matmul_attributes *o = &task->attributes->matmul;
    const fv_tensor *a = &task->input[0], *b = &task->input[1], *y = &task->output[0];
    matmul_run run = { .a = a, .b = b, .y = y, .axes = y->rank - 2, .batch = 1, .scratch = task->scratch };
    int64_t m = y->dim[y->rank - 2], n = columns_of(y), k = a->dim[a->rank - (o->transpose_a ? 2 : 1)];
    run.g = (gemm){ .a = a->data, .b = b->data, .c = y->data, .m = m, .n = n, .k = k, .ldc = n,
                    .lda = columns_of(a), .ldb = columns_of(b), .a_columns = o->transpose_a, .b_columns = o->transpose_b };
    while (run.axes > 0 && !o->transpose_a) { /* the last axis before: repeated in b, whole in a? */
        int own_a = a->rank - (y->rank - run.axes) - 1, own_b = b->rank - (y->rank - run.axes) - 1;
        int64_t dim = y->dim[run.axes - 1];
        if ((own_b >= 0 && b->dim[own_b] != 1) || (own_a < 0 ? 1 : a->dim[own_a]) != dim) break;
        run.g.m *= dim;
        run.axes--;
    }
    for (int i = 0; i < run.axes; i++) run.batch *= y->dim[i];
    run.each = run.batch > 1 && run.g.m * n * k <= SMALL;
    run.alone = *device;
    run.alone.threads = 1;
    run.alone.pool = NULL;
    run.bytes = (size_t)round_up((int64_t)gemm_scratch(&run.alone, &run.g), 64);
    return run;
}
/* Elements before the matrix of x that belongs to product i. */
static int64_t matrix_of(const matmul_run *run, const fv_tensor *x, int64_t i) {
    int64_t offset = 0, stride = 1;
    for (int own = x->rank - 1, axis = run->y->rank - 1; own >= 0; own--, axis--) {
        if (axis < run->axes) {
            if (x->dim[own] != 1) offset += i % run->y->dim[axis] * stride;
            i /= run->y->dim[axis];
        }
        stride *= x->dim[own];
    }
    return offset;
}
static gemm product_of(const matmul_run *run, int64_t i) {
    gemm g = run->g;
    g.a += matrix_of(run, run->a, i);
    g.b += matrix_of(run, run->b, i);
    g.c += i * g.m * g.n;
    return g;
}
static void run_products(const void *argument, int64_t begin, int64_t end, int thread) {
    const matmul_run *run = argument;
    fv_device alone = run->alone;
    for (int64_t i = begin; i < end; i++) {
        gemm g = product_of(run, i);
        gemm_run(&alone, &g, run->scratch + (size_t)thread * run->bytes);
    }
}

static int matmul_prepare(fv_device *device, fv_task *task) {
    matmul_run run = make_run(device, task);
    task->scratch_bytes = run.each ? run.bytes * (size_t)device->threads : gemm_scratch(device, &run.g);
    task->algorithm = gemm_algorithm(&run.g);
    return FV_OK;
}
static int matmul_run_task(fv_device *device, const fv_task *task) {
    matmul_run run = make_run(device, task);
    if (run.each) {
        fv_parallel(device, run.batch, 40000 / (run.g.m * run.g.n * run.g.k + 1) + 1, run_products, &run);
        return FV_OK;
    }
    for (int64_t i = 0; i < run.batch; i++) {
        gemm g = product_of(&run, i);
        gemm_run(device, &g, task->scratch);
    }
    return FV_OK;
}
const fv_cpu_kernel KERNEL(matmul) = { { .prepare = matmul_prepare, .run = matmul_run_task }, NULL };
