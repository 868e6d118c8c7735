/* dense.c - dense layers as matrix products of cuBLASLt, bias and relu in its epilogue; other activations pass over the result. */
#include "cuda/activate_tensor.h"
#include "cuda/product.h"

typedef struct dense_state {
    fv_product product;
    int32_t activation; /* what the epilogue leaves to do */
    float alpha;
    size_t
        bias_bytes; /* of a bias in 16 bits, which the epilogue wants with a 16-bit result; behind it the workspace */
} dense_state;

static bool biased(const fv_task *task) { return task->op == FV_OP_dense_bias_activation && task->input[2].rank == 1; }

/* Rows of the tensors are columns of the matrices: x is [inputs, rows], w [inputs, units], y [units, rows]. */
static fv_product_shape shape_of(const fv_task *task) {
    const fv_tensor *in = task->input, *out = &task->output[0];
    const bool data = task->op == FV_OP_dense_data_gradient, weights = task->op == FV_OP_dense_weight_gradient;
    const fv_tensor *w = weights ? out : &in[1], *y = data ? &in[0] : weights ? &in[1] : out;
    const int64_t units = w->dim[0], inputs = w->dim[1], rows = fv_elements(y) / units;
    fv_product_shape s = { .type = in[0].type, .result = out->type, .batch = 1, .epilogue = CUBLASLT_EPILOGUE_DEFAULT };
    if (data)
        s.m = inputs, s.n = rows, s.k = units; /* dx = w dy      */
    else if (weights)
        s.m = inputs, s.n = units, s.k = rows, s.transpose_b = true; /* dw = x dy'     */
    else
        s.m = units, s.n = rows, s.k = inputs, s.transpose_a = true; /* y = w' x       */
    if (task->op != FV_OP_dense_bias_activation) return s;
    const bool relu = task->attributes->dense.activation == FV_RELU;
    s.epilogue = biased(task) ? (relu ? CUBLASLT_EPILOGUE_RELU_BIAS : CUBLASLT_EPILOGUE_BIAS)
                              : (relu ? CUBLASLT_EPILOGUE_RELU : CUBLASLT_EPILOGUE_DEFAULT);
    return s;
}

static int prepare(fv_device *device, fv_task *task) {
    dense_state *s = task->kept = device->host.alloc(device->host.context, sizeof *s, "the plan of a dense layer");
    if (!s) return FV_ERROR_MEMORY;
    fv_product_shape shape = shape_of(task);
    shape.strict = fv_cuda_strict(device, task);
    shape.choice = task->choice;
    const int32_t activation = task->op == FV_OP_dense_bias_activation ? task->attributes->dense.activation : FV_LINEAR;
    s->activation = activation == FV_RELU ? FV_LINEAR : activation;
    s->alpha = task->attributes->dense.alpha;
    const int status = fv_product_prepare(device, &s->product, &shape);
    if (biased(task) && task->output[0].type != FV_F32)
        s->bias_bytes = ((size_t)fv_elements(&task->input[2]) * 2 + 255) / 256 * 256;
    task->scratch_bytes = s->bias_bytes + s->product.workspace;
    task->algorithm = s->product.text;
    return status;
}

static int run(fv_device *device, const fv_task *task) {
    dense_state *s = task->kept;
    const fv_tensor *in = task->input, *out = &task->output[0];
    /* the product's a and b: w x, w dy, or x dy */
    const bool weights = task->op == FV_OP_dense_weight_gradient;
    const void *a = weights ? in[0].data : in[1].data, *b = weights ? in[1].data : in[0].data;
    fv_tensor bias = { 0 };
    int status = FV_OK;
    if (biased(task)) bias = in[2];
    if (s->bias_bytes) {
        bias.type = out->type;
        bias.data = task->scratch;
        status = fv_cuda_convert(device, &bias, &in[2]);
    }
    if (!status)
        status = fv_product_run(device, &s->product, a, b, out->data, bias.data,
                                s->product.workspace ? (char *)task->scratch + s->bias_bytes : NULL);
    if (!status && s->activation != FV_LINEAR)
        status = fv_finish_tensor(device, task, NULL, s->activation, s->alpha, out);
    return status;
}

static void release(fv_device *device, fv_task *task) {
    dense_state *s = task->kept;
    if (!s) return;
    fv_product_release(&s->product);
    device->host.free(s);
    task->kept = NULL;
}

const fv_kernel KERNEL(dense) = { NULL, prepare, run, release };
const fv_kernel KERNEL(dense_data_gradient) = { NULL, prepare, run, release };
const fv_kernel KERNEL(dense_weight_gradient) = { NULL, prepare, run, release };
const fv_kernel KERNEL(dense_bias_activation) = { NULL, prepare, run, release };
