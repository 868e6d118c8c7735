/* matmul.c - products of matrices by strided batches of cuBLASLt. Of the axes before the matrices, neighbours along which both operands
 * go on evenly are one; the longest that results is the library's batch, each index of the others a call. Where one b meets many
 * a that lie behind each other, they are one long a. */
#include "cuda/product.h"

typedef struct batch_axis {
    int64_t size, a, b, y; /* steps in elements; 0: the matrix is repeated */
} batch_axis;

typedef struct matmul_plan {
    fv_product product;
    batch_axis axis[FV_RANK]; /* of the calls */
    int axes;
    int64_t calls;
} matmul_plan;

static int64_t matrix_size(const fv_tensor *t) { return t->dim[t->rank - 2] * t->dim[t->rank - 1]; }

/* The size of the axis i places before the matrix. */
static int64_t before(const fv_tensor *t, int i) { return t->rank - 3 - i >= 0 ? t->dim[t->rank - 3 - i] : 1; }

/* The axes before the matrices, innermost first. */
static int batch_axes(const fv_tensor *a, const fv_tensor *b, const fv_tensor *y, batch_axis *axis) {
    batch_axis next = { 1, matrix_size(a), matrix_size(b), matrix_size(y) };
    int count = 0;
    for (int i = 0; i < y->rank - 2; i++) {
        const int64_t of_a = before(a, i), of_b = before(b, i), size = before(y, i);
        const batch_axis now = { size, of_a > 1 ? next.a : 0, of_b > 1 ? next.b : 0, next.y };
        next = (batch_axis){ 1, next.a * of_a, next.b * of_b, next.y * size };
        if (size == 1) continue;
        batch_axis *last = count ? &axis[count - 1] : NULL;
        if (last && now.a == last->a * last->size && now.b == last->b * last->size)
            last->size *= size;
        else
            axis[count++] = now;
    }
    return count;
}

static batch_axis take(matmul_plan *plan, int which) {
    const batch_axis taken = plan->axis[which];
    for (int i = which; i < plan->axes - 1; i++) plan->axis[i] = plan->axis[i + 1];
    plan->axes--;
    return taken;
}

/* What every matrix's address is a multiple of: 16 bytes, or less where calls begin at any matrix. */
static uint32_t alignment_of(const matmul_plan *plan, size_t element_bytes) {
    uint64_t bits = 16;
    for (int i = 0; i < plan->axes; i++)
        bits |= (uint64_t)(plan->axis[i].a | plan->axis[i].b | plan->axis[i].y) * element_bytes;
    return (uint32_t)(bits & -bits);
}

/* y = a b in rows is y' = b' a' in the library's columns. */
static int prepare(fv_device *device, fv_task *task) {
    const fv_matmul_attributes *o = &task->attributes->matmul;
    const fv_tensor *a = &task->input[0], *b = &task->input[1], *y = &task->output[0];
    matmul_plan *plan = task->kept = device->host.alloc(device->host.context, sizeof *plan, "the plan of a product");
    if (!plan) return FV_ERROR_MEMORY;
    plan->axes = batch_axes(a, b, y, plan->axis);
    fv_product_shape s = { .m = y->dim[y->rank - 1], .n = y->dim[y->rank - 2], .k = a->dim[a->rank - (o->transpose_a ? 2 : 1)],
                           .transpose_a = o->transpose_b, .transpose_b = o->transpose_a, .type = y->type, .result = y->type,
                           .epilogue = CUBLASLT_EPILOGUE_DEFAULT, .batch = 1 };
    if (plan->axes && !plan->axis[0].b && plan->axis[0].a && !o->transpose_a) s.n *= take(plan, 0).size;
    int longest = 0;
    for (int i = 1; i < plan->axes; i++)
        if (plan->axis[i].size > plan->axis[longest].size) longest = i;
    if (plan->axes && plan->axis[longest].size <= INT32_MAX) {
        const batch_axis batch = take(plan, longest);
        s.batch = (int32_t)batch.size, s.stride_a = batch.b, s.stride_b = batch.a, s.stride_d = batch.y;
    }
    plan->calls = 1;
    for (int i = 0; i < plan->axes; i++) plan->calls *= plan->axis[i].size;
    s.strict = fv_cuda_strict(device, task);
    s.choice = task->choice;
    s.alignment = alignment_of(plan, y->type == FV_F32 ? 4 : 2);
    const int status = fv_product_prepare(device, &plan->product, &s);
    task->scratch_bytes = plan->product.workspace;
    task->algorithm = plan->product.text;
    return status;
}

static int run(fv_device *device, const fv_task *task) {
    matmul_plan *plan = task->kept;
    const size_t bytes = task->output[0].type == FV_F32 ? 4 : 2;
    const char *a = task->input[0].data, *b = task->input[1].data;
    char *y = task->output[0].data;
    int status = FV_OK;
    for (int64_t call = 0; call < plan->calls && !status; call++) {
        int64_t rest = call, at_a = 0, at_b = 0, at_y = 0;
        for (int i = 0; i < plan->axes; i++) {
            const batch_axis *axis = &plan->axis[i];
            const int64_t index = rest % axis->size;
            at_a += index * axis->a, at_b += index * axis->b, at_y += index * axis->y;
            rest /= axis->size;
        }
        status = fv_product_run(device, &plan->product, b + (size_t)at_b * bytes, a + (size_t)at_a * bytes,
                                y + (size_t)at_y * bytes, NULL, task->scratch);
    }
    return status;
}

static void release(fv_device *device, fv_task *task) {
    matmul_plan *plan = task->kept;
    if (!plan) return;
    fv_product_release(&plan->product);
    device->host.free(plan);
    task->kept = NULL;
}

const fv_kernel KERNEL(matmul) = { NULL, prepare, run, release };
