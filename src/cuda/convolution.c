/* convolution.c - conv2d, its gradients and its fused form through cuDNN's graphs. What cuDNN has no plan for (padding beyond the
 * kernel, say), the plain kernels of direct.cu do; the profile says so. */
#include "cuda/activate_tensor.h"
#include "cuda/convolution.h"
#include <stdio.h>
#include <string.h>

typedef cudnnBackendDescriptor_t descriptor;

typedef struct conv_state {
    fv_plan plan;
    bool planned;
    bool bias; /* what the plan leaves to do, and */
    int32_t activation;
    size_t filter_bytes; /* of a filter turned round, in front of the workspace; 0: none */
    size_t bias_bytes;   /* of a bias in 16 bits, behind it */
    size_t result_bytes; /* of a filter gradient in 16 bits, behind that */
    char text[420];
} conv_state;

/* A bias and an activation follow. */
static bool is_fused(fv_op op) {
    return op == FV_OP_conv2d_bias_activation || op == FV_OP_conv2d_transpose_bias_activation;
}

/* x, w, y of the convolution that an operation belongs to. */
static void roles(const fv_task *task, const fv_tensor *out[3]) {
    const fv_tensor *in = task->input, *result = &task->output[0];
    switch (task->op) {
    case FV_OP_conv2d_transpose_bias_activation:
    case FV_OP_conv2d_data_gradient: out[0] = result, out[1] = &in[1], out[2] = &in[0]; break;
    case FV_OP_conv2d_weight_gradient: out[0] = &in[0], out[1] = result, out[2] = &in[1]; break;
    default: out[0] = &in[0], out[1] = &in[1], out[2] = result; break;
    }
}

/* ---- The graph --------------------------------------------------------------------------------------------------------- */

/* Names of one thing in the three passes. */
typedef struct pass {
    cudnnBackendDescriptorType_t type;
    int x, w, y, convolution, alpha, beta;
} pass;
#define PASS(type, P, X, W, Y)                                                                                         \
    {                                                                                                                  \
        CUDNN_BACKEND_OPERATION_CONVOLUTION_##type##_DESCRIPTOR, CUDNN_ATTR_OPERATION_CONVOLUTION_##P##_##X,           \
            CUDNN_ATTR_OPERATION_CONVOLUTION_##P##_##W, CUDNN_ATTR_OPERATION_CONVOLUTION_##P##_##Y,                    \
            CUDNN_ATTR_OPERATION_CONVOLUTION_##P##_CONV_DESC, CUDNN_ATTR_OPERATION_CONVOLUTION_##P##_ALPHA,            \
            CUDNN_ATTR_OPERATION_CONVOLUTION_##P##_BETA                                                                \
    }
static const pass forward = PASS(FORWARD, FORWARD, X, W, Y), data_gradient = PASS(BACKWARD_DATA, BWD_DATA, DX, W, DY),
                  weight_gradient = PASS(BACKWARD_FILTER, BWD_FILTER, X, DW, DY);

static const pass *pass_of(fv_op op) {
    switch ((int)op) {
    case FV_OP_conv2d_data_gradient:
    case FV_OP_conv2d_transpose_bias_activation: return &data_gradient;
    case FV_OP_conv2d_weight_gradient: return &weight_gradient;
    default: return &forward;
    }
}

/* NHWC to cuDNN's order of names; OHWI filters are k, c, r, s in the same way. */
static void in_order(const fv_tensor *t, int64_t nchw[4]) {
    nchw[0] = t->dim[0], nchw[1] = t->dim[3], nchw[2] = t->dim[1], nchw[3] = t->dim[2];
}

static descriptor geometry(fv_planner *p, const fv_conv_attributes *a) {
    const int64_t two = 2, before[2] = { a->pad[0], a->pad[2] }, after[2] = { a->pad[1], a->pad[3] },
                  stride[2] = { a->stride[0], a->stride[1] }, dilation[2] = { a->dilation[0], a->dilation[1] };
    const cudnnDataType_t computing = CUDNN_DATA_FLOAT;
    const cudnnConvolutionMode_t mode = CUDNN_CROSS_CORRELATION;
    descriptor c = fv_plan_create(p, CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR);
    fv_plan_set(p, c, CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &computing);
    fv_plan_set(p, c, CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE, 1, &mode);
    fv_plan_set(p, c, CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, CUDNN_TYPE_INT64, 1, &two);
    fv_plan_set(p, c, CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, CUDNN_TYPE_INT64, 2, before);
    fv_plan_set(p, c, CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, CUDNN_TYPE_INT64, 2, after);
    fv_plan_set(p, c, CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, CUDNN_TYPE_INT64, 2, stride);
    fv_plan_set(p, c, CUDNN_ATTR_CONVOLUTION_DILATIONS, CUDNN_TYPE_INT64, 2, dilation);
    fv_plan_finalize(p, c);
    return c;
}

/* What cuDNN has for what follows a convolution, and what it leaves to a pass over the result. Its softplus is left out: how it
 * treats large numbers is not written down. */
static bool has_mode(const fv_conv_attributes *a, fv_pointwise *f) {
    static const fv_pointwise modes[] = {
        [FV_RELU] = { CUDNN_POINTWISE_RELU_FWD, 0, 0 },
        [FV_TANH] = { CUDNN_POINTWISE_TANH_FWD, 0, 0 },
        [FV_SIGMOID] = { CUDNN_POINTWISE_SIGMOID_FWD, 0, 0 },
        [FV_LEAKY_RELU] = { CUDNN_POINTWISE_RELU_FWD, CUDNN_ATTR_POINTWISE_RELU_LOWER_CLIP_SLOPE, 0 /* alpha */ },
        [FV_ELU] = { CUDNN_POINTWISE_ELU_FWD, CUDNN_ATTR_POINTWISE_ELU_ALPHA, 0 /* alpha */ },
        [FV_RELU6] = { CUDNN_POINTWISE_RELU_FWD, CUDNN_ATTR_POINTWISE_RELU_UPPER_CLIP, 6 },
        [FV_GELU] = { CUDNN_POINTWISE_GELU_FWD, 0, 0 },
        [FV_GELU_TANH] = { CUDNN_POINTWISE_GELU_APPROX_TANH_FWD, 0, 0 },
        [FV_SILU] = { CUDNN_POINTWISE_SWISH_FWD, CUDNN_ATTR_POINTWISE_SWISH_BETA, 1 },
        [FV_EXPONENTIAL] = { CUDNN_POINTWISE_EXP, 0, 0 },
    };
    *f = modes[a->activation];
    if (a->activation == FV_LEAKY_RELU || a->activation == FV_ELU) f->value = a->alpha;
    return f->mode != CUDNN_POINTWISE_ADD; /* 0 */
}

/* Everything that cuDNN sees is of the type of the first operand: it makes no f32 filter gradient of 16-bit factors, and its
 * engines take a bias of the other operands' type. Operands in the order x, w, y, bias. What follows the convolution works on the tensor that it writes. */
static int make_plan(fv_planner *p, const fv_task *task, bool has_bias, const fv_pointwise *activation) {
    const pass *names = pass_of(task->op);
    const double one = 1, zero = 0;
    const int written = names == &forward ? 2 : names == &data_gradient ? 0 : 1;
    const cudnnDataType_t type = fv_dnn_type(task->input[0].type);
    const fv_tensor *t[3];
    roles(task, t);
    int64_t dims[3][4];
    descriptor tensor[3], operations[3];
    for (int i = 0; i < 3; i++) {
        in_order(t[i], dims[i]);
        tensor[i] = fv_plan_tensor(p, type, dims[i], false);
    }
    const int64_t *result = dims[written];
    descriptor response = has_bias || activation ? fv_plan_tensor(p, CUDNN_DATA_FLOAT, result, true) : tensor[written];
    descriptor conv = fv_plan_create(p, names->type);
    fv_plan_set_descriptor(p, conv, names->convolution, geometry(p, &task->attributes->conv));
    fv_plan_set_descriptor(p, conv, names->x, written == 0 ? response : tensor[0]);
    fv_plan_set_descriptor(p, conv, names->w, written == 1 ? response : tensor[1]);
    fv_plan_set_descriptor(p, conv, names->y, written == 2 ? response : tensor[2]);
    fv_plan_set(p, conv, names->alpha, CUDNN_TYPE_DOUBLE, 1, &one);
    fv_plan_set(p, conv, names->beta, CUDNN_TYPE_DOUBLE, 1, &zero);
    fv_plan_finalize(p, conv);
    int64_t count = 0;
    operations[count++] = conv;
    if (has_bias) {
        const int64_t vector[4] = { 1, result[1], 1, 1 };
        const fv_pointwise add = { CUDNN_POINTWISE_ADD, 0, 0 };
        descriptor b = fv_plan_tensor(p, type, vector, false);
        descriptor sum = activation ? fv_plan_tensor(p, CUDNN_DATA_FLOAT, result, true) : tensor[written];
        operations[count++] = fv_plan_pointwise(p, add, response, b, sum);
        response = sum;
    }
    if (activation) operations[count++] = fv_plan_pointwise(p, *activation, response, NULL, tensor[written]);
    return fv_plan_choose(p, operations, count);
}

/* ---- The kernels --------------------------------------------------------------------------------------------------------- */

/* Of scratch, for t in a type. */
static size_t bytes_of(const fv_tensor *t, fv_type type) {
    return ((size_t)fv_elements(t) * (type == FV_F32 ? 4 : 2) + 255) / 256 * 256;
}

static char *behind(char *scratch, size_t bytes) { return scratch ? scratch + bytes : NULL; }

static bool try_plan(fv_planner *p, fv_device *device, const fv_task *task, bool bias, const fv_pointwise *activation) {
    conv_state *s = task->kept;
    fv_plan_begin(p, device, &s->plan);
    p->strict = task->input[0].type == FV_F32 && fv_cuda_strict(device, task);
    p->choice = task->choice;
    if (!p->failed && !make_plan(p, task, bias, activation)) return true;
    fv_plan_release(&s->plan);
    return false;
}

/* The plan that does most: with bias and activation, with the bias, of the convolution alone. A choice counts the engines of the first of
 * these that has any. */
static void choose_plan(fv_planner *p, fv_device *device, const fv_task *task) {
    conv_state *s = task->kept;
    const fv_conv_attributes *a = &task->attributes->conv;
    const bool has_bias = is_fused(task->op) && task->input[2].rank == 1; /* absent: rank -1 */
    fv_pointwise mode;
    s->activation = is_fused(task->op) ? a->activation : FV_LINEAR;
    if (s->activation != FV_LINEAR && has_mode(a, &mode)) {
        s->planned = try_plan(p, device, task, has_bias, &mode);
        if (s->planned) s->activation = FV_LINEAR;
        if (s->planned || p->seen || p->fatal) return;
    }
    s->planned = try_plan(p, device, task, has_bias, NULL);
    if (s->planned || p->seen || !has_bias || p->fatal) return;
    s->planned = s->bias = try_plan(p, device, task, false, NULL);
}

static int prepare(fv_device *device, fv_task *task) {
    conv_state *s = device->host.alloc(device->host.context, sizeof *s, "the plan of a convolution");
    if (!s) return FV_ERROR_MEMORY;
    task->kept = s;
    fv_planner planner;
    choose_plan(&planner, device, task);
    if (planner.fatal) return FV_ERROR_DEVICE;                    /* said already; release frees the rest */
    if (!s->planned && task->choice) return FV_ERROR_UNSUPPORTED; /* there are fewer engines; release frees the rest */
    if (!s->planned) {
        snprintf(s->text, sizeof s->text, "plain kernel: cuDNN has no plan (%s)", planner.why);
    } else {
        const fv_type type = task->input[0].type;
        const fv_tensor *t[3];
        roles(task, t);
        s->filter_bytes = task->attributes->conv.flip ? bytes_of(t[1], type) : 0;
        if (is_fused(task->op) && task->input[2].rank == 1 && type != FV_F32)
            s->bias_bytes = bytes_of(&task->input[2], type);
        if (task->output[0].type != type) s->result_bytes = bytes_of(&task->output[0], type);
        task->scratch_bytes = s->filter_bytes + s->bias_bytes + s->result_bytes + (size_t)s->plan.workspace;
        snprintf(s->text, sizeof s->text, "%s%s", s->plan.text,
                 !s->bias && s->activation == FV_LINEAR ? ""
                 : s->activation == FV_LINEAR           ? "; the bias in a pass of its own"
                 : s->bias                              ? "; bias and activation in a pass of their own"
                                                        : "; the activation in a pass of its own");
    }
    task->algorithm = s->text;
    return FV_OK;
}

static int run(fv_device *device, const fv_task *task) {
    conv_state *s = task->kept;
    if (!s->planned) return fv_conv_direct(device, task);
    const fv_tensor *t[3];
    roles(task, t);
    char *turned = task->scratch, *own_bias = behind(turned, s->filter_bytes),
         *own_result = behind(own_bias, s->bias_bytes), *workspace = behind(own_result, s->result_bytes);
    const bool writes_filter = task->op == FV_OP_conv2d_weight_gradient;
    fv_tensor filter = *t[1], bias = { 0 };
    filter.type = task->input[0].type;
    if (s->result_bytes) filter.data = own_result;
    if (is_fused(task->op)) bias = task->input[2];
    int status = FV_OK;
    if (s->bias_bytes) {
        bias.type = filter.type;
        bias.data = own_bias;
        status = fv_cuda_convert(device, &bias, &task->input[2]);
    }
    void *addresses[4] = { t[0]->data, s->filter_bytes ? turned : filter.data, t[2]->data, s->bias ? NULL : bias.data };
    /* cuDNN correlates; a true convolution is that with the filter turned round. */
    if (!status && s->filter_bytes && !writes_filter) status = fv_conv_turn(device, task, &filter, filter.data, turned);
    if (!status) status = fv_plan_run(device, &s->plan, addresses, s->plan.workspace ? workspace : NULL);
    if (!status && s->filter_bytes && writes_filter) status = fv_conv_turn(device, task, &filter, turned, filter.data);
    if (!status && s->result_bytes) status = fv_cuda_convert(device, &task->output[0], &filter);
    if (!status && (s->bias || s->activation != FV_LINEAR))
        status = fv_finish_tensor(device, task, s->bias ? &bias : NULL, s->activation, task->attributes->conv.alpha,
                                  &task->output[0]);
    return status;
}

static void release(fv_device *device, fv_task *task) {
    conv_state *s = task->kept;
    if (!s) return;
    if (s->planned) {
        cudaStreamSynchronize(device->stream); /* a plan must outlive the work that uses it */
        fv_plan_release(&s->plan);
    }
    device->host.free(s);
    task->kept = NULL;
}

const fv_kernel KERNEL(conv2d) = { NULL, prepare, run, release };
const fv_kernel KERNEL(conv2d_data_gradient) = { NULL, prepare, run, release };
const fv_kernel KERNEL(conv2d_weight_gradient) = { NULL, prepare, run, release };
const fv_kernel KERNEL(conv2d_bias_activation) = { NULL, prepare, run, release };
const fv_kernel KERNEL(conv2d_transpose_bias_activation) = { NULL, prepare, run, release };
