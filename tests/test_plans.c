/* test_plans.c - plans of the real cuDNN for GPUs that are not here. Every convolution of the networks, forward with what is fused to
 * it and backward, in f32 (TF32 and strict) and bf16, is prepared by the CUDA backend's own code in the emulated plugin, whose
 * cuDNN is NVIDIA's and plans for the properties of tests/cuda/devices.h. Each must get an engine whose results repeat, within the
 * limit of workspace; none may fall to the plain kernel. The log has a line a plan. FOVEA_PLANS=all takes every net and GPU, else a
 * selection; skipped where the plugin was not built, because there is no toolkit or no cuDNN. */
#define _GNU_SOURCE
#include "cuda/devices.h"
#include "support/emulated.h"
#include "net/net.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

enum { MOST_WORK = 600, OPERANDS = 4, WORKSPACE_LIMIT = (256 << 20) + (64 << 20) /* and a filter turned round */ };

static fake_control *gpu; /* of the emulated plugin */
static bool all;          /* FOVEA_PLANS=all */

/* A convolution with its operands' shapes; addresses play no part. */
typedef struct work {
    fv_op op;
    int inputs;
    fv_attributes attributes;
    fv_tensor operand[OPERANDS]; /* inputs, then the output */
    char net[32];
} work;
static work list[MOST_WORK];
static int count;

/* ---- The networks -------------------------------------------------------------------------------------------------------- */

/* ResNet-50 for ImageNet (He et al. 2015, table 1; the stride is in the 3x3 convolution, as everybody trains it). */
static fv_node convolve(fv_net *net, fv_node x, int filters, int kernel, int stride, fv_activation activation) {
    x = fv_conv2d(net, x, .filters = filters, .kernel = kernel, .stride = stride, .padding = kernel / 2,
                  .no_bias = true);
    return fv_batch_norm(net, x, .activation = activation);
}

static void build_resnet50(fv_net *net) {
    static const int blocks[4] = { 3, 4, 6, 3 };
    fv_node x = convolve(net, fv_input(net, 224, 224, 3), 64, 7, 2, FV_RELU);
    x = fv_max_pool2d(net, x, .size = 3, .stride = 2, .padding = 1);
    for (int stage = 0; stage < 4; stage++)
        for (int i = 0; i < blocks[stage]; i++) {
            const int stride = stage && !i ? 2 : 1, filters = 64 << stage;
            fv_node y = convolve(net, convolve(net, x, filters, 1, 1, FV_RELU), filters, 3, stride, FV_RELU);
            y = convolve(net, y, 4 * filters, 1, 1, FV_LINEAR);
            if (!i) x = convolve(net, x, 4 * filters, 1, stride, FV_LINEAR);
            x = fv_add(net, FV_NODES(y, x), .activation = FV_RELU);
        }
    fv_output(net, fv_dense(net, fv_global_avg_pool(net, x), .units = 1000));
}

/* Convolutions with every epilogue that a layer may ask for. */
static void build_epilogues(fv_net *net) {
    fv_node x = fv_input(net, 32, 32, 16);
    for (int activation = FV_LINEAR; activation <= FV_EXPONENTIAL; activation++)
        if (activation != FV_SOFTMAX)
            x = fv_conv2d(net, x, .filters = 16, .kernel = 3, .padding = FV_SAME,
                          .activation = (fv_activation)activation);
    x = fv_conv2d_transpose(net, x, .filters = 8, .kernel = 4, .stride = 2, .padding = 1, .activation = FV_RELU);
    x = fv_conv2d_transpose(net, x, .filters = 8, .kernel = 3, .stride = 2, .activation = FV_LEAKY_RELU);
    fv_output(net, fv_dense(net, fv_global_avg_pool(net, x), .units = 10));
}

static const struct {
    const char *name;
    int batch;
    bool quick;
    void (*build)(fv_net *); /* NULL: a net of the catalogue */
} networks[] = {
    { "lenet5", 128, true, NULL },
    { "lenet5_modern", 128, false, NULL },
    { "alexnet_cifar", 128, true, NULL },
    { "vgg16_bn_cifar", 128, false, NULL },
    { "resnet18_cifar", 128, false, NULL },
    { "mobilenet_cifar", 128, false, NULL },
    { "alexnet", 64, false, NULL },
    { "alexnet_2012", 64, false, NULL },
    { "vgg16", 64, false, NULL },
    { "resnet50", 64, false, build_resnet50 },
    { "epilogues", 32, true, build_epilogues },
};
enum { NETWORKS = sizeof networks / sizeof *networks };

/* ---- Their convolutions ------------------------------------------------------------------------------------------------ */

static bool is_convolution(fv_op op) {
    return op == FV_OP_conv2d || op == FV_OP_conv2d_bias_activation || op == FV_OP_conv2d_data_gradient ||
           op == FV_OP_conv2d_weight_gradient || op == FV_OP_conv2d_transpose_bias_activation;
}

static void remember(const fv_tape *tape, int32_t index, const char *net) {
    const fv_operation *o = &tape->operation[index];
    work w;
    memset(&w, 0, sizeof w);
    fv_task task = { .input = w.operand, .output = w.operand + OPERANDS - 1 };
    if (o->input_count >= OPERANDS) fail_msg("%s: a convolution with %d inputs", net, o->input_count);
    fv_task_describe(tape, index, &task);
    for (int i = 0; i < OPERANDS; i++) { /* which value it is and how long it lives play no part */
        fv_tensor *t = &w.operand[i];
        fv_tensor plain = { .type = t->type, .rank = t->rank };
        memcpy(plain.dim, t->dim, sizeof plain.dim);
        memcpy(t, &plain, sizeof plain);
    }
    w.op = task.op;
    w.inputs = task.input_count;
    w.attributes.conv = task.attributes->conv;
    for (int i = 0; i < count; i++)
        if (!memcmp(&list[i], &w, offsetof(work, net))) return;
    if (count == MOST_WORK) fail_msg("more than %d convolutions", MOST_WORK);
    snprintf(w.net, sizeof w.net, "%s", net);
    list[count++] = w;
}

/* What a step of training (else inference) convolves, fused as a program would. */
static void collect(fv_context *c, fv_net *net, const char *name, int64_t batch, bool train) {
    net->measuring = true; /* no weight is drawn */
    fv_tape *tape = fv_tape_new(c);
    int64_t in[FV_RANK], out[FV_RANK];
    const int rank = fv_node_shape(net, fv_net_input(net, 0), in);
    fv_node_shape(net, fv_net_output(net, 0), out);
    in[0] = batch;
    fv_value y =
        fv_record(tape, net, FV_VALUES(fv_op_input(tape, in, rank, FV_F32)), train ? FV_MODE_TRAIN : FV_MODE_INFER);
    if (train) {
        fv_value loss = fv_op_mean(tape, fv_op_softmax_cross_entropy(tape, y, fv_op_input(tape, &batch, 1, FV_I32), 0));
        fv_backward(tape, loss);
        fv_op_update(tape, net, fv_sgd(.learning_rate = 0.1f));
        y = loss;
    }
    fv_keep(tape, y);
    if (fv_error(c) || fv_tape_remove_dead(tape) || fv_tape_fuse(tape, c)) fail_msg("%s: %s", name, fv_error(c));
    for (int32_t i = 0; i < tape->operation_count; i++)
        if (is_convolution(tape->operation[i].op)) remember(tape, i, name);
    fv_tape_free(tape);
}

static void collect_all(void) {
    fv_context *c = fv_open("cuda");
    for (int n = 0; n < NETWORKS; n++) {
        if (!all && !networks[n].quick) continue;
        fv_net *net = networks[n].build ? fv_net_new(c, networks[n].name) : fv_model(c, networks[n].name);
        if (net && networks[n].build) networks[n].build(net);
        if (!net || fv_error(c)) fail_msg("%s: %s", networks[n].name, fv_error(c));
        collect(c, net, networks[n].name, networks[n].batch, true);
        if (all) collect(c, net, networks[n].name, 1, false);
        fv_net_free(net);
    }
    fv_close(c);
}

/* ---- Planning ---------------------------------------------------------------------------------------------------------- */

static const char *describe(const work *w, char text[160]) {
    const fv_conv_attributes *a = &w->attributes.conv;
    const fv_tensor *x = &w->operand[0], *f = &w->operand[w->op == FV_OP_conv2d_weight_gradient ? OPERANDS - 1 : 1];
    snprintf(text, 160, "%s %s: %lldx%lldx%lldx%lld, filters %lldx%lldx%lldx%lld, stride %d, activation %d", w->net,
             fv_op_name(w->op), (long long)x->dim[0], (long long)x->dim[1], (long long)x->dim[2], (long long)x->dim[3],
             (long long)f->dim[0], (long long)f->dim[1], (long long)f->dim[2], (long long)f->dim[3], a->stride[0],
             a->activation);
    return text;
}

typedef struct sums {
    int plans, plain, passes;
    double seconds;
    size_t most;
} sums;

static void plan_one(fv_context *c, const work *w, fv_type type, const char *precision, sums *s) {
    work own = *w;
    char text[160];
    for (int i = 0; i < OPERANDS; i++) own.operand[i].type = type;
    fv_task task = { .op = own.op,
                     .input_count = own.inputs,
                     .output_count = 1,
                     .attributes = &own.attributes,
                     .input = own.operand,
                     .output = own.operand + OPERANDS - 1 };
    const fv_kernel *kernel = &c->backend->kernels[own.op];
    struct timespec from, to;
    clock_gettime(CLOCK_MONOTONIC, &from);
    if (kernel->prepare(c->device, &task)) fail_msg("%s: %s", describe(w, text), fv_error(c));
    clock_gettime(CLOCK_MONOTONIC, &to);
    const double seconds = (double)(to.tv_sec - from.tv_sec) + 1e-9 * (double)(to.tv_nsec - from.tv_nsec);
    print_message("%s, %s: %s: %s (%.0f ms)\n", fake_devices[gpu->device].name, precision, describe(w, text),
                  task.algorithm, 1e3 * seconds);
    s->plans++;
    s->plain += !strncmp(task.algorithm, "plain kernel", 12);
    s->passes += strstr(task.algorithm, "in a pass") != NULL;
    s->seconds += seconds;
    if (task.scratch_bytes > s->most) s->most = task.scratch_bytes;
    kernel->release(c->device, &task);
}

enum { TF32, STRICT, BF16, PRECISIONS };
static const char *const precision_names[] = { "f32 (TF32)", "f32 (strict)", "bf16" };

/* Tensor cores round f32 factors to TF32 from capability 8.0 on, and know bf16 from there. */
static bool has(const fake_device *d, int precision) { return d->capability >= 80 || precision == STRICT; }

static void plan_all(int device) {
    gpu->device = device;
    for (int precision = 0; precision < PRECISIONS; precision++) {
        if (!has(&fake_devices[device], precision)) continue;
        setenv("FOVEA_TF32", precision == STRICT ? "0" : "1", 1);
        fv_context *c = fv_open("cuda");
        if (fv_error(c)) fail_msg("%s", fv_error(c));
        sums s = { 0 };
        gpu->plans = gpu->varying_plans = gpu->tensor_core_plans = gpu->narrowing_plans = 0;
        for (int i = 0; i < count; i++)
            plan_one(c, &list[i], precision == BF16 ? FV_BF16 : FV_F32, precision_names[precision], &s);
        fv_close(c);
        unsetenv("FOVEA_TF32");
        print_message(
            "== %s, %s: %d convolutions: %d with a pass behind, %d by the plain kernel, at most %.1f MiB of workspace; "
            "%ld plans made: %ld do not repeat, %ld on tensor cores, %ld narrow their inputs; %.1f s\n",
            fake_devices[device].name, precision_names[precision], s.plans, s.passes, s.plain,
            (double)s.most / (1 << 20), gpu->plans, gpu->varying_plans, gpu->tensor_core_plans, gpu->narrowing_plans,
            s.seconds);
        assert_int_equal(s.plain, 0);
        assert_true(s.most <= WORKSPACE_LIMIT);
        assert_int_equal(gpu->varying_plans, 0);
        if (precision == STRICT) assert_int_equal(gpu->tensor_core_plans, 0);
        if (precision == BF16) assert_true(gpu->tensor_core_plans > 0);
    }
    gpu->device = 0;
    assert_int_equal(gpu->used, 0);
    assert_int_equal(gpu->objects, 0);
    assert_int_equal(gpu->complaints, 0);
}

#define PLANS(name, device)                                                                                            \
    static void name(void **state) {                                                                                   \
        if (!gpu) skip();                                                                                              \
        plan_all(device);                                                                                              \
    }
PLANS(plans_for_an_h200, 0)
PLANS(plans_for_an_a100, 1)
PLANS(plans_for_a_b200, 2)
PLANS(plans_for_an_l40s, 3)
PLANS(plans_for_an_rtx_5090, 4)
PLANS(plans_for_a_t4, 5)

int main(void) {
    const char *wanted = getenv("FOVEA_PLANS");
    all = wanted && !strcmp(wanted, "all");
    gpu = find_emulated();
    if (gpu)
        collect_all();
    else
        print_message("no plans are made: there is no CUDA toolkit with cuDNN here, so the plugin was not built\n");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plans_for_an_h200),     cmocka_unit_test(plans_for_an_a100),
        cmocka_unit_test(plans_for_a_b200),      cmocka_unit_test(plans_for_an_l40s),
        cmocka_unit_test(plans_for_an_rtx_5090), cmocka_unit_test(plans_for_a_t4),
    };
    const struct CMUnitTest one[] = { tests[0] };
    return all ? cmocka_run_group_tests_name("plans", tests, NULL, NULL)
               : cmocka_run_group_tests_name("plans", one, NULL, NULL);
}
