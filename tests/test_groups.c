/* test_groups.c - groups of tasks on the CPU backend: small nets give the same, within rounding, when their tasks go
 * through by blocks of images and when each runs by itself on the reference, outputs, losses and all gradients; bit for
 * bit the same on one thread and on two. (That single operations do is test_operations with FOVEA_GROUPS=all.) */
#include "net/net.h"
#include "program/program.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { CLASSES = 5 };

/* ---- Nets -------------------------------------------------------------------------------------------------------- */

static fv_node finish(fv_net *net, fv_node x) {
    return fv_dense(net, fv_flatten(net, x), .units = CLASSES, .name = "scores");
}

static fv_node lenet5(fv_net *net, fv_node x) {
    x = fv_conv2d(net, x, .filters = 6, .kernel = 5, .padding = FV_SAME, .activation = FV_TANH);
    x = fv_avg_pool2d(net, x, .size = 2);
    x = fv_conv2d(net, x, .filters = 16, .kernel = 5, .activation = FV_TANH);
    x = fv_avg_pool2d(net, x, .size = 2);
    x = fv_conv2d(net, x, .filters = 120, .kernel = 5, .activation = FV_TANH);
    return finish(net, fv_dense(net, fv_flatten(net, x), .units = 84, .activation = FV_TANH));
}

/* Channels that fill no vector, strides, padding on one side, windows that overlap. */
static fv_node odd(fv_net *net, fv_node x) {
    x = fv_conv2d(net, x, .filters = 7, .kernel_hw = { 3, 2 }, .stride_hw = { 2, 1 }, .pad = { 1, 2, 0, 1 },
                  .activation = FV_RELU);
    x = fv_max_pool2d(net, x, .size = 3, .stride = 2, .padding = 1);
    x = fv_conv2d(net, x, .filters = 5, .kernel = 3, .dilation = 2, .padding = 2, .activation = FV_ELU);
    return finish(net, fv_avg_pool2d(net, x, .size = 2, .stride = 1));
}

/* A sum of two branches, activations whose gradient uses the input, a data gradient with stride and dilation. */
static fv_node branches(fv_net *net, fv_node x) {
    fv_node a = fv_conv2d(net, x, .filters = 9, .kernel = 3, .padding = 1, .activation = FV_SILU);
    fv_node b = fv_conv2d(net, a, .filters = 9, .kernel = 3, .padding = 1, .no_bias = true);
    x = fv_relu(net, fv_add(net, FV_NODES(a, b)));
    x = fv_conv2d(net, x, .filters = 4, .kernel = 2, .stride = 3, .dilation = 2, .activation = FV_SIGMOID);
    return finish(net, x);
}

/* Upwards again, and the mean of each channel. */
static fv_node upwards(fv_net *net, fv_node x) {
    x = fv_conv2d(net, x, .filters = 3, .kernel = 3, .stride = 2, .padding = 1, .activation = FV_LEAKY_RELU);
    x = fv_conv2d_transpose(net, x, .filters = 17, .kernel = 3, .stride = 2, .activation = FV_RELU);
    x = fv_max_pool2d(net, x, .size = 2);
    return finish(net, fv_global_avg_pool(net, fv_conv2d(net, x, .filters = 6, .kernel = 3)));
}

/* Nothing below the frozen layer gets a gradient. */
static fv_node frozen(fv_net *net, fv_node x) {
    x = fv_conv2d(net, x, .filters = 6, .kernel = 3, .activation = FV_RELU, .frozen = true, .name = "first");
    x = fv_max_pool2d(net, x, .size = 2);
    x = fv_conv2d(net, x, .filters = 10, .kernel = 3, .activation = FV_RELU);
    return finish(net, fv_max_pool2d(net, x, .size = 3));
}

static const struct {
    const char *name;
    fv_node (*make)(fv_net *, fv_node x);
    int64_t input[3];
} nets[] = { { "lenet5", lenet5, { 28, 28, 1 } },
             { "odd", odd, { 13, 11, 3 } },
             { "branches", branches, { 10, 12, 2 } },
             { "upwards", upwards, { 9, 8, 1 } },
             { "frozen", frozen, { 12, 12, 1 } } };
enum { NETS = sizeof nets / sizeof *nets };

/* ---- A program and what it gives --------------------------------------------------------------------------------- */

typedef struct run {
    fv_context *context;
    fv_net *net;
    fv_program *program;
    fv_tape *names; /* the tape as recorded, with what is kept */
    fv_value x, target;
} run;

/* groups: as FOVEA_GROUPS has it, or NULL; middle: every value may be read, not only those at the ends. */
static run start(const char *device, const char *groups, int threads, int net, int64_t images, bool train,
                 bool middle) {
    if (groups)
        setenv("FOVEA_GROUPS", groups, 1);
    else
        unsetenv("FOVEA_GROUPS");
    run r = { .context = fv_open_with(&(fv_open_options){
                  .struct_size = sizeof(fv_open_options), .device = device, .threads = threads, .seed = 5 }) };
    unsetenv("FOVEA_GROUPS");
    r.net = fv_net_new(r.context, nets[net].name);
    const int64_t *input = nets[net].input, dims[] = { images, input[0], input[1], input[2] };
    fv_output(r.net, nets[net].make(r.net, fv_input(r.net, (int)input[0], (int)input[1], (int)input[2])));
    fv_tape *t = fv_tape_new(r.context);
    r.x = fv_op_input(t, dims, 4, FV_F32);
    r.target = fv_op_input(t, dims, 1, FV_I32);
    fv_value y = fv_record(t, r.net, FV_VALUES(r.x), train ? FV_MODE_TRAIN : FV_MODE_INFER);
    fv_keep(t, y);
    if (train) {
        int32_t recorded = t->value_count;
        fv_value loss = fv_op_mean(t, fv_op_softmax_cross_entropy(t, y, r.target, 0));
        fv_keep(t, loss);
        assert_int_equal(fv_backward(t, loss), 0);
        for (int32_t v = 1; v < recorded; v++) {
            fv_value gradient = fv_gradient(t, (fv_value){ v });
            if (gradient.id && (middle || t->value[v].kind == FV_VALUE_STATE)) fv_keep(t, gradient);
            if (middle && t->value[v].kind == FV_VALUE_TEMPORARY && v % 3 == 0) fv_keep(t, (fv_value){ v });
        }
    }
    r.names = fv_tape_copy(t);
    r.program = fv_compile(t);
    if (!r.program) fail_msg("%s: %s", nets[net].name, fv_error(r.context));
    return r;
}

static void execute(run *r, int64_t images) {
    const int64_t elements = fv_shape_elements(&r->names->value[r->x.id].shape);
    float *x = malloc((size_t)elements * sizeof *x);
    int32_t *label = malloc((size_t)images * sizeof *label);
    fv_random random = fv_random_make(11, 3);
    for (int64_t i = 0; i < elements; i++) x[i] = (float)fv_random_normal(&random);
    for (int64_t i = 0; i < images; i++) label[i] = (int32_t)fv_random_below(&random, CLASSES);
    assert_int_equal(fv_write(r->program, r->x, x, (size_t)elements * sizeof *x), 0);
    assert_int_equal(fv_write(r->program, r->target, label, (size_t)images * sizeof *label), 0);
    for (int i = 0; i < 2; i++)
        if (fv_run(r->program)) fail_msg("%s", fv_error(r->context));
    free(x);
    free(label);
}

static void stop(run *r) {
    fv_program_free(r->program);
    fv_tape_free(r->names);
    assert_null(fv_error(r->context));
    assert_int_equal(fv_close(r->context), 0);
}

static int groups_by_blocks(const run *r) {
    int count = 0;
    for (int32_t g = 0; g < r->program->group_count; g++)
        count += r->program->group[g].algorithm && !strncmp(r->program->group[g].algorithm, "by blocks", 9);
    return count;
}

/* Every value kept: the largest difference, relative to the largest element. */
static double difference(run *a, run *b, const char *what) {
    double worst = 0;
    int compared = 0;
    for (int32_t v = 1; v < a->names->value_count; v++) {
        if (!a->names->value[v].kept || a->names->value[v].type != FV_F32) continue;
        const size_t elements = (size_t)fv_shape_elements(&a->names->value[v].shape);
        float *x = malloc(elements * sizeof *x), *y = malloc(elements * sizeof *y);
        if (fv_read(a->program, (fv_value){ v }, x, elements * sizeof *x) ||
            fv_read(b->program, (fv_value){ v }, y, elements * sizeof *y))
            fail_msg("%s: value %d: %s", what, v, fv_error(a->context) ? fv_error(a->context) : fv_error(b->context));
        double largest = 1e-6, off = 0;
        for (size_t i = 0; i < elements; i++) {
            assert_true(isfinite(x[i]) && isfinite(y[i]));
            largest = fmax(largest, fabs((double)x[i]));
            off = fmax(off, fabs((double)x[i] - (double)y[i]));
        }
        if (off > 2e-5 * largest) fail_msg("%s: value %d differs by %g of %g", what, v, off, largest);
        worst = fmax(worst, off / largest);
        free(x);
        free(y);
        compared++;
    }
    assert_true(compared > 0);
    return worst;
}

/* ---- Tests ------------------------------------------------------------------------------------------------------- */

static void check(int net, int64_t images, bool train, bool middle) {
    char what[64];
    snprintf(what, sizeof what, "%s, %d images, %s", nets[net].name, (int)images, train ? "training" : "inference");
    run plain = start("reference", NULL, 1, net, images, train, middle),
        one = start("cpu", "all", 1, net, images, train, middle),
        two = start("cpu", "all", 2, net, images, train, middle);
    execute(&plain, images);
    execute(&one, images);
    execute(&two, images);
    assert_int_equal(groups_by_blocks(&plain), 0);
    assert_true(groups_by_blocks(&one) >= 1 + train);
    difference(&plain, &one, what);
    if (difference(&one, &two, what) != 0) fail_msg("%s: differs on two threads", what);
    stop(&plain);
    stop(&one);
    stop(&two);
}

/* Complete blocks and incomplete ones, one image, several blocks a unit of sums. */
static void groups_agree_with_the_reference(void **state) {
    (void)state;
    static const int64_t batches[] = { 1, 16, 37 };
    for (int net = 0; net < NETS; net++)
        for (size_t i = 0; i < sizeof batches / sizeof *batches; i++)
            for (int train = 0; train < 2; train++) check(net, batches[i], train, false);
    check(4, 16 * 35 + 3, true, false);
}

/* What somebody reads lies where the program says. */
static void values_in_the_middle_can_be_read(void **state) {
    (void)state;
    for (int net = 0; net < NETS; net++) check(net, 21, true, true);
}

/* Without being told to, LeNet-5 is taken, forwards and backwards, at a usual batch; FOVEA_GROUPS=none takes nothing. */
static void useful_groups_are_taken(void **state) {
    (void)state;
    run useful = start("cpu", NULL, 2, 0, 128, true, false), none = start("cpu", "none", 2, 0, 128, true, false);
    execute(&useful, 128);
    execute(&none, 128);
    assert_int_equal(groups_by_blocks(&useful), 2);
    assert_int_equal(groups_by_blocks(&none), 0);
    difference(&none, &useful, "lenet5");
    stop(&useful);
    stop(&none);
}

/* Weights that a group has packed for inference are packed again when they change. */
static void weights_may_change(void **state) {
    (void)state;
    run one = start("cpu", "all", 1, 4, 20, false, false), plain = start("reference", NULL, 1, 4, 20, false, false);
    for (int change = 0; change < 3; change++) {
        float kernel[6 * 9];
        for (int i = 0; i < 6 * 9; i++) kernel[i] = (float)((i * 7 + change * 5) % 11) / 20 - 0.25f;
        assert_int_equal(fv_set_weights(one.net, "first", 0, FV_NATIVE, kernel, sizeof kernel), 0);
        assert_int_equal(fv_set_weights(plain.net, "first", 0, FV_NATIVE, kernel, sizeof kernel), 0);
        execute(&one, 20);
        execute(&plain, 20);
        difference(&plain, &one, "changed weights");
    }
    stop(&one);
    stop(&plain);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(groups_agree_with_the_reference),
        cmocka_unit_test(values_in_the_middle_can_be_read),
        cmocka_unit_test(useful_groups_are_taken),
        cmocka_unit_test(weights_may_change),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
