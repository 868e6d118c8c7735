/* dense.c - fully connected layers: three products of matrices (gemm.c). */
#include "cpu/gemm.h"

static gemm product_of(const fv_task *task) {
    const fv_tensor *a = &task->input[0], *b = &task->input[1], *c = &task->output[0];
    gemm g = { .a = a->data, .b = b->data, .c = c->data, .n = columns_of(c), .ldc = columns_of(c) };
    switch (task->op) {
    case FV_OP_dense_weight_gradient: /* dw = dy' x: inputs are x, dy */
        g.a = b->data, g.b = a->data;
        g.m = columns_of(b), g.k = rows_of(b);
        g.lda = columns_of(b), g.ldb = columns_of(a);
        g.a_columns = true;
        break;
    case FV_OP_dense_data_gradient: /* dx = dy w */
        g.m = rows_of(a), g.k = columns_of(a);
        g.lda = columns_of(a), g.ldb = columns_of(b);
        break;
    default: /* y = x w' */
        g.m = rows_of(a), g.k = columns_of(a);
        g.lda = columns_of(a), g.ldb = columns_of(b);
        g.b_columns = true;
    }
    if (task->op == FV_OP_dense_bias_activation)
        g.finish =
            (tile_finish){ task->input[2].data, task->attributes->dense.activation, task->attributes->dense.alpha };
    return g;
}

static int dense_prepare(fv_device *device, fv_task *task) {
    gemm g = product_of(task);
    task->kept = device->host.alloc(device->host.context, sizeof(uint64_t),
                                    "a dense layer's plan"); /* version of the packed weights */
    if (!task->kept) return FV_ERROR_MEMORY;
    gemm_prepare(device, task, &g);
    return FV_OK;
}
static void dense_release(fv_device *device, fv_task *task) {
    device->host.free(task->kept);
    task->kept = NULL;
}
static int dense_run(fv_device *device, const fv_task *task) {
    gemm g = product_of(task);
    gemm_run_task(device, task, &g, task->kept);
    return FV_OK;
}
#define DENSE                                                                                                          \
    { { NULL, dense_prepare, dense_run, dense_release }, NULL }
const fv_cpu_kernel KERNEL(dense) = DENSE;
const fv_cpu_kernel KERNEL(dense_data_gradient) = DENSE;
const fv_cpu_kernel KERNEL(dense_weight_gradient) = DENSE;
const fv_cpu_kernel KERNEL(dense_bias_activation) = DENSE;
