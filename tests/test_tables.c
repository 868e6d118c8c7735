/* test_tables.c - losses, optimisers, schedules and constraints against numbers of PyTorch and Keras (tests/tables/training.h, made by
 * scripts/make_training_tables.py), on both backends of the host. */
#include "core/core.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>
#include "tables/training.h"

static const char *const devices[] = { "reference", "cpu" };
enum { DEVICES = 2, MOST = 64 };

static void assert_near(const char *what, const char *device, int64_t i, double value, double wanted, double bound) {
    if (fabs(value - wanted) <= bound) return;
    fail_msg("%s on %s: element %lld is %.9g, the table says %.9g", what, device, (long long)i, value, wanted);
}

static int64_t product(int rank, const int64_t *dims) {
    int64_t count = 1;
    for (int i = 0; i < rank; i++) count *= dims[i];
    return count;
}

/* ---- Losses ------------------------------------------------------------------------------------------------------ */

static void check_loss(fv_context *context, const char *device, const struct loss_case *c) {
    const int64_t count = product(c->rank, c->shape), targets = product(c->target_rank, c->shape);
    fv_tape *tape = fv_tape_new(context);
    fv_value x = fv_op_input(tape, c->shape, c->rank, FV_F32);
    fv_value target = fv_op_input(tape, c->shape, c->target_rank, c->labels ? FV_I32 : FV_F32);
    fv_watch(tape, x);
    fv_value loss = fv_op_loss(tape, c->kind, x, target, &c->options);
    fv_keep(tape, loss);
    fv_backward(tape, loss);
    fv_keep(tape, fv_gradient(tape, x));
    fv_program *program = fv_compile(tape);
    fv_write(program, x, c->x, sizeof(float) * (size_t)count);
    fv_write(program, target, c->labels ? (const void *)c->labels : c->target, sizeof(float) * (size_t)targets);
    fv_run(program);
    float value = 0, gradient[MOST];
    assert_true(count <= MOST);
    fv_read(program, loss, &value, sizeof value);
    fv_read(program, fv_gradient(tape, x), gradient, sizeof(float) * (size_t)count);
    if (fv_error(context)) fail_msg("%s on %s: %s", c->name, device, fv_error(context));
    assert_near(c->name, device, -1, (double)value, c->loss, 2e-6 * (1 + fabs(c->loss)));
    for (int64_t i = 0; i < count; i++)
        assert_near(c->name, device, i, (double)gradient[i], (double)c->gradient[i],
                    2e-6 * (0.1 + fabs((double)c->gradient[i])));
    fv_program_free(program);
    fv_tape_free(tape);
}

static void losses_are_pytorchs(void **state) {
    (void)state;
    for (int d = 0; d < DEVICES; d++) {
        fv_context *context = fv_open(devices[d]);
        for (size_t i = 0; i < sizeof loss_cases / sizeof *loss_cases; i++)
            check_loss(context, devices[d], &loss_cases[i]);
        assert_int_equal(fv_close(context), 0);
    }
}

/* An option that a loss does not know is refused by name. */
static void losses_refuse_what_they_do_not_know(void **state) {
    (void)state;
    fv_context *context = fv_open("reference");
    fv_tape *tape = fv_tape_new(context);
    const int64_t shape[2] = { 4, 5 };
    const float weights[3] = { 1, 2, 3 };
    fv_value x = fv_op_input(tape, shape, 2, FV_F32), y = fv_op_input(tape, shape, 1, FV_I32);
    fv_value t = fv_op_input(tape, shape, 2, FV_F32);
    const struct {
        fv_loss kind;
        fv_value target;
        fv_loss_options options;
        const char *says;
    } cases[] = {
        { FV_MEAN_SQUARED_ERROR, t, { .delta = 2 }, "delta" },
        { FV_HUBER, t, { .gamma = 2 }, "gamma" },
        { FV_BINARY_CROSS_ENTROPY, t, { .positive_weight = 2, .from_probabilities = true }, "positive_weight" },
        { FV_CROSS_ENTROPY, y, { .margin = 1 }, "margin" },
        { FV_HINGE, t, { .class_weights = weights, .class_count = 3 }, "class_weights" },
        { FV_FOCAL, y, { .squared = true }, "squared" },
        { FV_MEAN_ABSOLUTE_ERROR, t, { .ignore = true }, "ignore" },
        { FV_MULTI_CLASS_HINGE, y, { .from_probabilities = true }, "from_probabilities" },
        { FV_CROSS_ENTROPY, y, { .class_weights = weights, .class_count = 3 }, "3 class weights for 5" },
        { FV_CROSS_ENTROPY, t, { .ignore = true }, "class numbers" },
        { FV_MEAN_SQUARED_ERROR, y, { .delta = 0 }, "f32 targets" },
        { FV_MULTI_CLASS_HINGE, t, { .delta = 0 }, "i32" },
        { FV_CROSS_ENTROPY, y, { .label_smoothing = 2 }, "smoothing" },
        { (fv_loss)99, t, { .delta = 0 }, "99" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        fv_loss_options o = cases[i].options;
        o.struct_size = sizeof o;
        assert_int_equal(fv_op_loss(tape, cases[i].kind, x, cases[i].target, &o).id, 0);
        if (!fv_error(context) || !strstr(fv_error(context), cases[i].says))
            fail_msg("case %zu says %s, not %s", i, fv_error(context), cases[i].says);
        fv_clear_error(context);
    }
    assert_int_equal(fv_close(context), 0);
}

/* ---- Optimisers -------------------------------------------------------------------------------------------------- */

struct optimizer_case {
    const char *name;
    fv_optimizer optimizer;
    const float *matrix, *vector;
};

/* Five steps of a dense layer whose gradients are given: the loss is the sum of weights times gradients. */
static void check_optimizer(fv_context *context, const char *device, const struct optimizer_case *c) {
    const int64_t shapes[2][2] = { { 3, 4 }, { 3 } };
    const size_t bytes[2] = { 12 * sizeof(float), 3 * sizeof(float) };
    fv_net *net = fv_net_new(context, c->name);
    fv_output(net, fv_dense(net, fv_input(net, 4), .units = 3, .name = "d"));
    fv_tape *tape = fv_tape_new(context);
    fv_value given[2], loss = { 0 };
    for (int w = 0; w < 2; w++) {
        fv_set_weights(net, "d", w, FV_NATIVE, first_weights[w], bytes[w]);
        given[w] = fv_op_input(tape, shapes[w], 2 - w, FV_F32);
        fv_value product = fv_op_mul(tape, fv_weight_value(tape, net, "d", w), given[w]);
        fv_value sum = fv_op_sum(tape, product, NULL, 0, false);
        loss = w ? fv_op_add(tape, loss, sum) : sum;
    }
    fv_backward(tape, loss);
    fv_op_update(tape, net, c->optimizer);
    fv_program *program = fv_compile(tape);
    for (int step = 0; step < 5; step++) {
        for (int w = 0; w < 2; w++) fv_write(program, given[w], gradients[step][w], bytes[w]);
        fv_run(program);
    }
    float weights[12];
    for (int w = 0; w < 2; w++) {
        const float *wanted = w ? c->vector : c->matrix;
        fv_get_weights(net, "d", w, FV_NATIVE, weights, bytes[w]);
        if (fv_error(context)) fail_msg("%s on %s: %s", c->name, device, fv_error(context));
        for (int i = 0; i < (w ? 3 : 12); i++) assert_near(c->name, device, i, (double)weights[i], (double)wanted[i], 3e-6);
    }
    fv_program_free(program);
    fv_tape_free(tape);
    fv_net_free(net);
}

static void optimizers_are_pytorchs(void **state) {
    (void)state;
    const struct optimizer_case cases[] = { OPTIMIZER_CASES };
    for (int d = 0; d < DEVICES; d++) {
        fv_context *context = fv_open(devices[d]);
        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) check_optimizer(context, devices[d], &cases[i]);
        assert_int_equal(fv_close(context), 0);
    }
}

/* ---- Schedules --------------------------------------------------------------------------------------------------- */

typedef struct schedule_case {
    const char *name;
    fv_schedule schedule;
    const float *factor;
} schedule_case;

static void schedules_are_pytorchs(void **state) {
    (void)state;
    const schedule_case cases[] = { SCHEDULE_CASES ONE_CYCLE_CASES };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (int batch = 0; batch < 40; batch++)
            assert_near(cases[i].name, "the host", batch, (double)fv_schedule_factor(cases[i].schedule, batch / 10.0, 4),
                        (double)cases[i].factor[batch], 2e-6);
}

/* ---- Constraints ------------------------------------------------------------------------------------------------- */

typedef struct constraint_case {
    const char *name;
    fv_constraint constraint;
    uint32_t axes; /* ours; 0: as they are */
    int rank;
    int64_t shape[4]; /* Keras's */
    const float *before, *after;
} constraint_case;

/* An update that changes nothing, and what the constraint then does. */
static void check_constraint(fv_context *context, const char *device, const constraint_case *c) {
    const int64_t *d = c->shape, count = product(c->rank, d);
    fv_constraint constraint = c->constraint;
    if (c->axes) constraint.axes = c->axes;
    fv_net *net = fv_net_new(context, "constrained");
    if (c->rank == 2)
        fv_output(net, fv_dense(net, fv_input(net, d[0]), .units = (int32_t)d[1], .kernel_constraint = constraint, .name = "w"));
    else
        fv_output(net, fv_conv2d(net, fv_input(net, 8, 8, d[2]), .filters = (int32_t)d[3],
                                 .kernel_hw = { (int32_t)d[0], (int32_t)d[1] }, .kernel_constraint = constraint, .name = "w"));
    fv_set_weights(net, "w", 0, FV_KERAS, c->before, sizeof(float) * (size_t)count);
    fv_tape *tape = fv_tape_new(context);
    fv_backward(tape, fv_op_sum(tape, fv_weight_value(tape, net, "w", 0), NULL, 0, false));
    fv_op_update(tape, net, fv_sgd(.learning_rate = FV_ZERO));
    fv_program *program = fv_compile(tape);
    fv_run(program);
    float after[MOST];
    fv_get_weights(net, "w", 0, FV_KERAS, after, sizeof(float) * (size_t)count);
    if (fv_error(context)) fail_msg("%s on %s: %s", c->name, device, fv_error(context));
    for (int64_t i = 0; i < count; i++) assert_near(c->name, device, i, (double)after[i], (double)c->after[i], 1e-6);
    fv_program_free(program);
    fv_tape_free(tape);
}

static void constraints_are_keras(void **state) {
    (void)state;
    const constraint_case cases[] = { CONSTRAINT_CASES };
    for (int d = 0; d < DEVICES; d++) {
        fv_context *context = fv_open(devices[d]);
        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) check_constraint(context, devices[d], &cases[i]);
        assert_int_equal(fv_close(context), 0);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(losses_are_pytorchs),
        cmocka_unit_test(optimizers_are_pytorchs),
        cmocka_unit_test(schedules_are_pytorchs),
        cmocka_unit_test(constraints_are_keras),
        cmocka_unit_test(losses_refuse_what_they_do_not_know),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
