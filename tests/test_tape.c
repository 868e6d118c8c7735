/* test_tape.c - recording and differentiation, without running anything: values and versions, the structure of
 * gradients, hashes, dumps, and what happens when memory ends. */
#include "support/recording.h"
#include <stdlib.h>

/* ---- Recording --------------------------------------------------------------------------------------------------- */

static void constants_are_one_value(void **state) {
    (void)state;
    fv_tape *t = fv_tape_new(context);
    const float numbers[] = { 1, 2, 3 };
    fv_value one = fv_op_scalar(t, 1), minus = fv_op_scalar(t, -0.0f), list = fv_op_constant(t, DIMS(3), numbers);
    assert_int_equal(one.id, fv_op_scalar(t, 1).id);
    assert_int_not_equal(minus.id, fv_op_scalar(t, 0.0f).id);
    assert_int_not_equal(one.id, fv_op_constant(t, DIMS(1), numbers).id); /* another shape */
    assert_int_equal(list.id, fv_op_constant(t, DIMS(3), numbers).id);
    assert_memory_equal(t->bytes + fv_tape_value_of(t, list)->constant, numbers, sizeof numbers);
    for (int i = 0; i < 1000; i++) {
        fv_value v = fv_op_scalar(t, (float)(i + 10));
        assert_int_equal(fv_tape_value_of(t, v)->constant % 64, 0);
    }
    assert_memory_equal(t->bytes + fv_tape_value_of(t, list)->constant, numbers, sizeof numbers);
    assert_ssa(t);
}

static void states_have_versions(void **state) {
    (void)state;
    fv_tape *t = fv_tape_new(context);
    fv_value metric = region_of(t, FV_METRICS, FV_F32, 2), values = INPUT(t, 8);
    assert_int_equal(metric.id, region_of(t, FV_METRICS, FV_F32, 2).id);
    fv_value second = FV_APPLY(t, FV_OP_metric_add, NULL, metric, values);
    const fv_tape_value *v = fv_tape_value_of(t, second);
    assert_int_equal(v->kind, FV_VALUE_STATE);
    assert_int_equal(v->previous, metric.id);
    assert_true(v->store == &store && v->region == FV_METRICS && v->offset == 0);
    assert_int_equal(region_of(t, FV_METRICS, FV_F32, 2).id, second.id); /* the newest */
    assert_refused(FV_APPLY(t, FV_OP_metric_add, NULL, metric, values), ARGUMENT, "old version");
    fv_value third = FV_APPLY(t, FV_OP_metric_add, NULL, second, values);
    assert_int_equal(fv_tape_value_of(t, third)->previous, second.id);
    /* Another store, offset or region is another state. */
    static fv_store other;
    const fv_shape pair = { 1, { 2 } };
    assert_int_not_equal(fv_tape_state(t, &other, FV_METRICS, 0, FV_F32, &pair, false).id, third.id);
    assert_int_not_equal(fv_tape_state(t, &store, FV_METRICS, 2, FV_F32, &pair, false).id, third.id);
    assert_int_not_equal(fv_tape_state(t, &store, FV_STATISTICS, 0, FV_F32, &pair, false).id, third.id);
    assert_ssa(t);
}

static void labels_are_kept_once(void **state) {
    (void)state;
    fv_tape *t = fv_tape_new(context);
    fv_value x = INPUT(t, 3);
    const char *const names[] = { "c1", "c2", NULL, "c1", "" };
    const char *const wanted[] = { "c1", "c2", "", "c1", "" };
    for (int i = 0; i < 5; i++) {
        fv_tape_label(t, names[i]);
        x = fv_op_relu(t, x);
        assert_string_equal(t->label[t->operation[i].label], wanted[i]);
    }
    assert_int_equal(t->label_count, 3);
}

/* ---- Gradients --------------------------------------------------------------------------------------------------- */

typedef struct small_net {
    fv_tape *tape;
    fv_value x, c1, b1, c2, b2, w, logits, loss;
} small_net;

/* conv - relu - pool - conv - batch norm - dense - softmax cross-entropy - mean, with parts frozen on request. */
static small_net record_small_net(bool freeze_first, bool freeze_all) {
    small_net n = { .tape = fv_tape_new(context) };
    fv_tape *t = n.tape;
    next_offset = 0;
    n.x = INPUT(t, 4, 12, 12, 1);
    n.c1 = weight_of(t, !freeze_first && !freeze_all, DIMS(6, 3, 3, 1));
    n.b1 = weight_of(t, !freeze_first && !freeze_all, DIMS(6));
    n.c2 = weight_of(t, !freeze_all, DIMS(8, 3, 3, 6));
    n.b2 = weight_of(t, !freeze_all, DIMS(8));
    n.w = weight_of(t, !freeze_all, DIMS(10, 72));
    fv_tape_label(t, "c1");
    fv_value y = fv_op_relu(t, fv_op_add(t, conv(t, n.x, n.c1, 1, 1, 1, 0, 0, 0, 0), n.b1));
    fv_tape_label(t, "p1");
    fv_attributes pool = { .pool = { .kernel = { 2, 2 } } };
    y = FV_APPLY(t, FV_OP_max_pool2d, &pool, y);
    fv_tape_label(t, "c2");
    y = fv_op_tanh(t, fv_op_add(t, conv(t, y, n.c2, 1, 1, 1, 0, 0, 0, 0), n.b2));
    fv_tape_label(t, "out");
    n.logits = fv_op_dense(t, fv_op_reshape(t, y, DIMS(4, -1)), n.w);
    fv_tape_label(t, NULL);
    n.loss = fv_op_mean(t, fv_op_softmax_cross_entropy(t, n.logits, LABELS(t, 4), 0));
    return n;
}

static void only_wanted_gradients(void **state) {
    (void)state;
    /* All trainable: two weight gradients, but one data gradient, because nothing below c1 needs one. */
    small_net n = record_small_net(false, false);
    const int32_t forward = n.tape->operation_count;
    assert_int_equal(fv_backward(n.tape, n.loss), FV_OK);
    assert_int_equal(count_of(n.tape, FV_OP_conv2d_weight_gradient), 2);
    assert_int_equal(count_of(n.tape, FV_OP_conv2d_data_gradient), 1);
    assert_int_equal(count_of(n.tape, FV_OP_dense_data_gradient), 1);
    assert_int_equal(count_of(n.tape, FV_OP_max_pool2d_gradient), 1);
    assert_int_equal(fv_gradient(n.tape, n.x).id, 0);
    const fv_value parameters[] = { n.c1, n.b1, n.c2, n.b2, n.w };
    for (int i = 0; i < 5; i++) {
        const fv_tape_value *p = fv_tape_value_of(n.tape, parameters[i]),
                            *g = fv_tape_value_of(n.tape, fv_gradient(n.tape, parameters[i]));
        assert_int_equal(g->kind, FV_VALUE_TEMPORARY);
        assert_int_equal(g->region, FV_GRADIENTS);
        assert_true(g->offset == p->offset && g->store == &store && fv_shape_equal(&g->shape, &p->shape));
    }
    assert_int_equal(count_of(n.tape, FV_OP_copy), 0); /* placed where they are made */
    assert_int_equal(count_of(n.tape, FV_OP_broadcast) + count_of(n.tape, FV_OP_affine),
                     0); /* the mean's gradient is a constant */
    for (int32_t i = 0; i < n.tape->operation_count; i++) assert_int_equal(n.tape->operation[i].backward, i >= forward);
    for (int32_t i = 0; i < n.tape->operation_count; i++)
        if (n.tape->operation[i].op == FV_OP_conv2d_data_gradient)
            assert_string_equal(n.tape->label[n.tape->operation[i].label], "c2");
    assert_ssa(n.tape);
    /* First layer frozen: nothing below the second. */
    n = record_small_net(true, false);
    assert_int_equal(fv_backward(n.tape, n.loss), FV_OK);
    assert_int_equal(count_of(n.tape, FV_OP_conv2d_weight_gradient), 1);
    assert_int_equal(count_of(n.tape, FV_OP_conv2d_data_gradient), 0);
    assert_int_equal(count_of(n.tape, FV_OP_max_pool2d_gradient), 0);
    assert_int_equal(fv_gradient(n.tape, n.c1).id, 0);
    assert_int_not_equal(fv_gradient(n.tape, n.c2).id, 0);
    /* Everything frozen: nothing at all, and no error. */
    n = record_small_net(false, true);
    assert_int_equal(fv_backward(n.tape, n.loss), FV_OK);
    assert_int_equal(n.tape->operation_count, forward);
    assert_int_equal(fv_gradient(n.tape, n.w).id, 0);
}

static void contributions_are_added_in_order(void **state) {
    (void)state;
    fv_tape *t = fv_tape_new(context);
    fv_value w = WEIGHT(t, 5), side = WEIGHT(t, 5);
    fv_value a = fv_op_relu(t, w), b = fv_op_tanh(t, w), c = fv_op_sigmoid(t, w);
    fv_op_relu(t, side); /* leads nowhere */
    fv_value loss = fv_op_sum(t, fv_op_add(t, fv_op_add(t, a, b), fv_op_mul(t, c, c)), NULL, 0, false);
    const int32_t forward = t->operation_count;
    assert_int_equal(fv_backward(t, loss), FV_OK);
    assert_int_equal(fv_gradient(t, side).id, 0);
    int adds = 0;
    for (int32_t i = forward; i < t->operation_count; i++) adds += t->operation[i].op == FV_OP_add;
    assert_int_equal(adds, 1 + 2); /* the two factors c, and three ways to w */
    /* Last recorded, first reached: sigmoid's, plus tanh's, plus relu's. */
    const fv_operation *last = &t->operation[fv_tape_value_of(t, fv_gradient(t, w))->producer];
    assert_int_equal(last->op, FV_OP_add);
    assert_int_equal(t->operation[t->value[t->operand[last->input + 1]].producer].op, FV_OP_relu_gradient);
    const fv_operation *first = &t->operation[t->value[t->operand[last->input]].producer];
    assert_int_equal(t->operation[t->value[t->operand[first->input]].producer].op, FV_OP_sigmoid_gradient);
    assert_int_equal(t->operation[t->value[t->operand[first->input + 1]].producer].op, FV_OP_tanh_gradient);
    assert_int_equal(count_of(t, FV_OP_relu_gradient), 1);
    assert_ssa(t);
}

static void gradients_are_placed(void **state) {
    (void)state;
    /* Two parameters with one and the same gradient: the second gets a copy. */
    fv_tape *t = fv_tape_new(context);
    fv_value p = WEIGHT(t, 4, 3), q = WEIGHT(t, 4, 3), x = INPUT(t, 4, 3);
    assert_int_equal(fv_backward(t, fv_op_sum(t, fv_op_mul(t, fv_op_add(t, p, q), x), NULL, 0, false)), FV_OK);
    assert_int_not_equal(fv_gradient(t, p).id, fv_gradient(t, q).id);
    assert_int_equal(count_of(t, FV_OP_copy), 1);
    for (int i = 0; i < 2; i++)
        assert_true(fv_tape_value_of(t, fv_gradient(t, i ? q : p))->offset == fv_tape_value_of(t, i ? q : p)->offset);
    /* A constant gradient has its own place already. */
    t = fv_tape_new(context);
    p = WEIGHT(t, 3);
    assert_int_equal(fv_backward(t, fv_op_sum(t, p, NULL, 0, false)), FV_OK);
    assert_int_equal(count_of(t, FV_OP_copy), 1);
    assert_int_equal(fv_tape_value_of(t, fv_gradient(t, p))->region, FV_GRADIENTS);
    /* Behind a reshape both names of the memory are placed. */
    t = fv_tape_new(context);
    p = WEIGHT(t, 6);
    fv_value loss = fv_op_sum(t, fv_op_mul(t, fv_op_reshape(t, p, DIMS(2, 3)), INPUT(t, 2, 3)), NULL, 0, false);
    assert_int_equal(fv_backward(t, loss), FV_OK);
    const fv_tape_value *g = fv_tape_value_of(t, fv_gradient(t, p));
    const fv_operation *alias = &t->operation[g->producer];
    assert_int_equal(alias->op, FV_OP_reshape);
    assert_int_equal(t->value[t->operand[alias->input]].region, FV_GRADIENTS);
    assert_int_equal(t->value[t->operand[alias->input]].offset, g->offset);
    assert_int_equal(count_of(t, FV_OP_copy), 0);
    /* Places asked for by hand. */
    fv_value y = fv_op_relu(t, INPUT(t, 3)), placed = fv_tape_place(t, y, &store, FV_NEXT_STATISTICS, 16);
    assert_int_equal(placed.id, y.id);
    assert_int_equal(fv_tape_place(t, y, &store, FV_NEXT_STATISTICS, 16).id, y.id); /* it lies there already */
    placed = fv_tape_place(t, y, &store, FV_NEXT_STATISTICS, 32);
    assert_int_not_equal(placed.id, y.id);
    assert_int_equal(fv_tape_value_of(t, y)->offset, 16);
    assert_int_not_equal(fv_tape_place(t, p, &store, FV_NEXT_STATISTICS, 48).id, p.id);
    assert_refused(fv_tape_place(t, (fv_value){ 0 }, &store, FV_GRADIENTS, 0), ARGUMENT, "placed");
    assert_refused(fv_tape_place(t, y, &store, FV_REGION_NONE, 0), ARGUMENT, "placed");
    assert_ssa(t);
}

static void loss_is_checked(void **state) {
    (void)state;
    fv_tape *t = fv_tape_new(context);
    fv_value w = WEIGHT(t, 3), y = fv_op_relu(t, w);
    assert_true(fv_backward(t, y) == FV_ERROR_SHAPE && strstr(fv_error(context), "[3]"));
    fv_clear_error(context);
    assert_int_equal(fv_backward(t, (fv_value){ 77 }), FV_ERROR_ARGUMENT);
    fv_clear_error(context);
    assert_int_equal(fv_backward(t, LABELS(t, 1)), FV_ERROR_SHAPE);
    fv_clear_error(context);
    fv_value loss = fv_op_sum(t, y, NULL, 0, true); /* [1] is a scalar too */
    assert_int_equal(fv_gradient(t, w).id, 0);
    assert_int_equal(fv_backward(t, loss), FV_OK);
    assert_int_not_equal(fv_gradient(t, w).id, 0);
    assert_int_equal(fv_gradient(t, fv_gradient(t, w)).id, 0);
    assert_true(fv_backward(t, loss) == FV_ERROR_ARGUMENT && strstr(fv_error(context), "already"));
    fv_clear_error(context);
    /* The loss may be a parameter itself. */
    t = fv_tape_new(context);
    w = WEIGHT(t, 1);
    assert_int_equal(fv_backward(t, w), FV_OK);
    assert_shape(t, fv_gradient(t, w), 1);
    assert_ssa(t);
}

static void inputs_can_be_watched(void **state) {
    (void)state;
    fv_tape *t = fv_tape_new(context);
    fv_value x = INPUT(t, 2, 3), used = INPUT(t, 3);
    fv_op_relu(t, used);
    assert_int_equal(fv_watch(t, x), FV_OK);
    assert_int_equal(fv_watch(t, used), FV_ERROR_ARGUMENT);
    fv_clear_error(context);
    assert_int_equal(fv_watch(t, LABELS(t, 2)), FV_ERROR_ARGUMENT);
    fv_clear_error(context);
    assert_int_equal(fv_watch(t, WEIGHT(t, 2)), FV_ERROR_ARGUMENT);
    fv_clear_error(context);
    assert_int_equal(fv_backward(t, fv_op_mean(t, fv_op_sigmoid(t, x))), FV_OK);
    const fv_tape_value *g = fv_tape_value_of(t, fv_gradient(t, x));
    assert_int_equal(g->region, FV_REGION_NONE);
    assert_ssa(t);
}

/* What is not differentiable stops the gradient: its output needs none, so nothing runs above it either. */
static void undifferentiable_operations_stop(void **state) {
    (void)state;
    fv_tape *t = fv_tape_new(context);
    fv_value w = WEIGHT(t, 3), s = FV_APPLY(t, FV_OP_sign, NULL, w);
    assert_false(fv_tape_value_of(t, s)->needs_gradient);
    fv_value loss = fv_op_mean(t, fv_op_tanh(t, s));
    const int32_t forward = t->operation_count;
    assert_int_equal(fv_backward(t, loss), FV_OK);
    assert_int_equal(t->operation_count, forward);
}

static void gradients_of_penalties_and_dropout(void **state) {
    (void)state;
    fv_tape *t = fv_tape_new(context);
    fv_value w = WEIGHT(t, 4, 4), control = control_of(t);
    fv_attributes a = { .affine = { 0.01f, 0 } }, drop = { .random = { .rate = 0.25f, .stream = 1025 } };
    fv_value penalty = FV_APPLY(t, FV_OP_affine, &a, FV_APPLY(t, FV_OP_sum_squares, NULL, w));
    fv_value y = FV_APPLY(t, FV_OP_dropout, &drop, w, control);
    assert_int_equal(fv_backward(t, fv_op_add(t, fv_op_mean(t, y), penalty)), FV_OK);
    int dropouts = 0;
    for (int32_t i = 0; i < t->operation_count; i++) {
        const fv_operation *o = &t->operation[i];
        if (o->op == FV_OP_dropout && ++dropouts) {
            assert_true(o->attributes.random.rate == 0.25f && o->attributes.random.stream == 1025);
            assert_int_equal(t->operand[o->input + 1], control.id);
        }
        if (o->op == FV_OP_mul) { /* w times the number 2 l2 */
            const fv_tape_value *factor = &t->value[t->operand[o->input + 1]];
            float number;
            assert_int_equal(t->operand[o->input], w.id);
            assert_int_equal(factor->kind, FV_VALUE_CONSTANT);
            memcpy(&number, t->bytes + factor->constant, sizeof number);
            assert_true(number == 0.02f);
        }
    }
    assert_int_equal(dropouts, 2);
    for (int32_t i = 0; i < t->operation_count; i++) /* nothing is differentiated twice, though w needs a gradient */
        if (t->operation[i].backward) assert_false(t->value[t->operation[i].output].needs_gradient);
    assert_ssa(t);
}

/* The operations that the small net has not, each once, in whatever order fits. */
static fv_tape *record_zoo(void) {
    fv_tape *t = fv_tape_new(context);
    const fv_value control = control_of(t), none = { 0 };
    fv_attributes norm = { .norm = { .epsilon = 1e-3f, .momentum = 0.9f } }, lrn = { .lrn = { 5, 1e-4f, 0.75f, 2 } };
    fv_attributes pool = { .pool = { .kernel = { 2, 2 } } }, drop = { .random = { .rate = 0.5f } },
                  one = { .axis = { 1 } };
    fv_attributes pad = { .pad = { { 0, 1 }, { 0, 2 } } }, smooth = { .loss = { 0.1f } }, type = { .cast = { FV_U8 } };
    fv_value c = WEIGHT(t, 4), mean = FROZEN(t, 4),
             x = conv(t, INPUT(t, 2, 9, 9, 4), WEIGHT(t, 4, 3, 3, 2), 1, 1, 2, 1, 1, 1, 1);
    x = FV_APPLY(t, FV_OP_batch_norm_train, &norm, x, c, WEIGHT(t, 4), mean, mean);
    x = FV_APPLY(t, FV_OP_batch_norm_infer, &norm, x, none, c, mean, mean);
    x = fv_op_sigmoid(t, FV_APPLY(t, FV_OP_lrn, &lrn, x));
    x = fv_op_log_softmax(t, FV_APPLY(t, FV_OP_avg_pool2d, &pool, FV_APPLY(t, FV_OP_dropout, &drop, x, control)), -1);
    x = fv_op_div(t, fv_op_mul(t, x, c), fv_op_sub(t, x, c));
    x = fv_op_reshape(t, FV_APPLY(t, FV_OP_abs, NULL, x), DIMS(2, -1));
    x = FV_APPLY(t, FV_OP_copy, NULL, FV_APPLY(t, FV_OP_pad, &pad, x));
    x = fv_op_slice(t, x, (int64_t[]){ 0, 1 }, (int64_t[]){ 2, 10 });
    x = fv_op_concat(t, FV_VALUES(x, fv_op_softmax(t, x, 1)), 1);
    FV_APPLY(t, FV_OP_cast, &type, x);
    FV_APPLY(t, FV_OP_in_top_k, NULL, x, LABELS(t, 2));
    FV_APPLY(t, FV_OP_metric_add, NULL, region_of(t, FV_METRICS, FV_F32, 2), x);
    FV_APPLY(t, FV_OP_commit, NULL, control, region_of(t, FV_STATISTICS, FV_F32, 64),
             region_of(t, FV_NEXT_STATISTICS, FV_F32, 64), mean);
    fv_attributes reduce = { .reduce = { 2, 0 } }, wide = { .shape = { 3, { 3, 2, 20 } } };
    fv_value loss = fv_op_mean(t, FV_APPLY(t, FV_OP_cross_entropy, &smooth, fv_op_softmax(t, x, 1), LABELS(t, 2)));
    loss = fv_op_add(t, loss, fv_op_mean(t, fv_op_mean_squared_error(t, x, fv_op_tanh(t, x))));
    loss = fv_op_add(t, loss, fv_op_mean(t, FV_APPLY(t, FV_OP_broadcast, &wide, x)));
    loss = fv_op_add(t, loss, fv_op_sum(t, FV_APPLY(t, FV_OP_max, &reduce, x), NULL, 0, false));
    loss = fv_op_add(t, loss, fv_op_sum(t, FV_APPLY(t, FV_OP_mean, &reduce, x), NULL, 0, false));
    loss = fv_op_add(t, loss, FV_APPLY(t, FV_OP_sum_abs, NULL, c));
    loss = fv_op_add(t, loss, fv_op_mean(t, fv_op_tanh(t, fv_op_sum(t, x, (int[]){ 1 }, 1, false))));
    loss = fv_op_add(t, loss, fv_op_sum(t, FV_APPLY(t, FV_OP_softmax, &one, x), NULL, 0, false));
    fv_backward(t, loss);
    return t;
}

static void every_gradient_is_appended(void **state) {
    (void)state;
    fv_tape *t = record_zoo();
    assert_null(fv_error(context));
    assert_ssa(t);
    static const fv_op gradients[] = { FV_OP_conv2d_weight_gradient,
                                       FV_OP_batch_norm_gradient,
                                       FV_OP_batch_norm_infer_gradient,
                                       FV_OP_lrn_gradient,
                                       FV_OP_sigmoid_gradient,
                                       FV_OP_avg_pool2d_gradient,
                                       FV_OP_log_softmax_gradient,
                                       FV_OP_softmax_gradient,
                                       FV_OP_tanh_gradient,
                                       FV_OP_cross_entropy_gradient,
                                       FV_OP_mean_squared_error_gradient,
                                       FV_OP_max_gradient };
    for (size_t i = 0; i < sizeof gradients / sizeof *gradients; i++)
        if (!count_of(t, gradients[i])) fail_msg("no %s", fv_op_name(gradients[i]));
    /* Of both sides, the target's with the two exchanged. */
    const fv_operation *sides[2];
    int found = 0;
    for (int32_t i = 0; i < t->operation_count; i++)
        if (t->operation[i].op == FV_OP_mean_squared_error_gradient && found < 2) sides[found++] = &t->operation[i];
    assert_int_equal(found, 2);
    assert_int_equal(t->operand[sides[0]->input], t->operand[sides[1]->input + 1]);
    assert_int_equal(t->operand[sides[1]->input], t->operand[sides[0]->input + 1]);
    assert_int_equal(count_of(t, FV_OP_sign), 2);
    int64_t begin = 0; /* the parts of a concatenation lie one behind the other */
    for (int32_t i = 0; i < t->operation_count; i++) {
        const fv_operation *o = &t->operation[i];
        if (o->op != FV_OP_slice || !o->backward || begin > 10) continue;
        assert_int_equal(o->attributes.slice.begin[1], begin);
        begin += 10;
    }
    assert_int_equal(begin, 20);
    /* The forward one and that of the sum before tanh: the gradients of all other sums and means are constants. */
    assert_int_equal(count_of(t, FV_OP_broadcast), 2);
    for (int32_t v = 1; v < t->gradient_count; v++) /* every trainable weight is reached */
        assert_true(t->value[v].kind != FV_VALUE_STATE || !t->value[v].needs_gradient || t->gradient[v]);
}

/* ---- A whole step, hashes, dumps --------------------------------------------------------------------------------- */

/* Forward, backward and the optimiser, as fv_fit records them. */
static small_net record_step(float rate) {
    small_net n = record_small_net(false, false);
    fv_tape *t = n.tape;
    fv_backward(t, n.loss);
    const fv_value none = { 0 }, control = control_of(t);
    const fv_value gradients[] = { fv_gradient(t, n.c1), fv_gradient(t, n.b1), fv_gradient(t, n.c2),
                                   fv_gradient(t, n.b2), fv_gradient(t, n.w) };
    fv_value inputs[16] = { control, n.loss };
    memcpy(inputs + 2, gradients, sizeof gradients);
    const int32_t check = fv_tape_append(t, FV_OP_check_gradients, NULL, inputs, 7);
    if (check < 0) return n;
    fv_attributes a = { .update = { .kind = FV_OPTIMIZER_SGD, .value = { [FV_RATE] = rate, [FV_MOMENTUM] = 0.9f } } };
    const fv_value update[] = { fv_tape_output(t, check, 0),
                                none,
                                region_of(t, FV_SEGMENTS, FV_U8, 160),
                                none,
                                region_of(t, FV_GRADIENTS, FV_F32, next_offset),
                                region_of(t, FV_PARAMETERS, FV_F32, next_offset),
                                region_of(t, FV_SLOT0, FV_F32, next_offset) };
    memcpy(inputs, update, sizeof update);
    memcpy(inputs + 7, gradients, sizeof gradients);
    fv_tape_append(t, FV_OP_sgd_update, &a, inputs, 12);
    FV_APPLY(t, FV_OP_advance, NULL, control_of(t));
    fv_keep(t, n.loss);
    return n;
}

/* Operations as they are recorded, with one thing changed: a size, a type, a word of the attributes, an input left out. */
static void damaged_operations_never_crash(void **state) {
    (void)state;
    fv_tape *const tapes[] = { record_step(0.1f).tape, record_zoo() };
    fv_random r = fv_random_make(5, 1);
    bool accepted[FV_OP_COUNT] = { false }, refused[FV_OP_COUNT] = { false };
    for (int32_t i = 0; i < tapes[0]->operation_count + tapes[1]->operation_count; i++) {
        const fv_tape *t = tapes[i >= tapes[0]->operation_count];
        const fv_operation *o = &t->operation[i >= tapes[0]->operation_count ? i - tapes[0]->operation_count : i];
        for (int round = 0; round < 200; round++) {
            fv_shape shape[16], output[FV_OUTPUTS_MOST];
            const fv_shape *input[16];
            fv_type type[16], output_type[FV_OUTPUTS_MOST];
            fv_attributes a = o->attributes;
            for (int n = 0; n < o->input_count; n++) {
                const fv_tape_value *v = &t->value[t->operand[o->input + n]];
                shape[n] = v->shape;
                type[n] = v->type;
                input[n] = v->kind ? &shape[n] : NULL;
            }
            const uint32_t n = fv_random_below(&r, (uint32_t)o->input_count), d = fv_random_below(&r, FV_RANK);
            const int32_t odd[] = { 0, -1, 1, 2, 7, 1 << 20, INT32_MAX, INT32_MIN };
            switch (round ? fv_random_below(&r, 5) : 9) {
            case 0: shape[n].dim[d] = odd[fv_random_below(&r, 7)]; break;
            case 1: shape[n].rank = (int)d; break;
            case 2: type[n] = (fv_type)fv_random_below(&r, 5); break;
            case 3: input[n] = NULL; break;
            case 4:
                memcpy((int32_t *)(void *)&a + fv_random_below(&r, sizeof a / 4), &odd[fv_random_below(&r, 8)], 4);
                break;
            }
            fv_signature s = { .context = context,
                               .op = o->op,
                               .attributes = &a,
                               .input_count = o->input_count,
                               .input = input,
                               .input_type = type,
                               .output = output,
                               .output_type = output_type };
            const int status = fv_op_infer(&s);
            assert_true(!fv_error(context) == !status);
            *(status ? &refused[o->op] : &accepted[o->op]) = true;
            fv_clear_error(context);
        }
    }
    int seen = 0;
    for (int op = 1; op < FV_OP_COUNT; op++) {
        assert_int_equal(accepted[op], refused[op]); /* each was seen whole and broken, or not at all */
        seen += accepted[op];
    }
    assert_true(seen >= 55);
}

static void updates_write_states(void **state) {
    (void)state;
    small_net n = record_step(0.1f);
    fv_tape *t = n.tape;
    assert_null(fv_error(context));
    const fv_operation *update = NULL;
    for (int32_t i = 0; i < t->operation_count; i++)
        if (t->operation[i].op == FV_OP_sgd_update) update = &t->operation[i];
    assert_non_null(update);
    const fv_tape_value *w = &t->value[update->output], *slot = &t->value[update->output + 1];
    assert_true(w->kind == FV_VALUE_STATE && w->region == FV_PARAMETERS &&
                w->previous == t->operand[update->input + 5]);
    assert_true(slot->kind == FV_VALUE_STATE && slot->region == FV_SLOT0 &&
                slot->previous == t->operand[update->input + 6]);
    assert_false(w->needs_gradient);
    fv_cost cost;
    assert_int_equal(fv_tape_cost(t, (int32_t)(update - t->operation), &cost), FV_OK);
    const double parameters = 54 + 6 + 432 + 8 + 720;
    assert_true(cost.bytes == 4 * 5 * parameters);
    assert_ssa(t);
    /* Without momentum there is no slot; its output is nothing. */
    fv_value inputs[8];
    for (int i = 0; i < 8; i++) inputs[i] = (fv_value){ t->operand[update->input + i] };
    inputs[0] = control_of(t);
    inputs[5] = region_of(t, FV_PARAMETERS, FV_F32, next_offset);
    inputs[6].id = 0;
    fv_attributes a = { .update = { .kind = FV_OPTIMIZER_SGD, .value = { [FV_RATE] = 0.1f } } };
    const int32_t plain = fv_tape_append(t, FV_OP_sgd_update, &a, inputs, 8);
    assert_true(plain >= 0);
    assert_int_equal(fv_tape_value_of(t, fv_tape_output(t, plain, 1))->kind, FV_VALUE_NONE);
    assert_refused(fv_op_relu(t, fv_tape_output(t, plain, 1)), ARGUMENT, "not a value");
    inputs[5] = region_of(t, FV_PARAMETERS, FV_F32, next_offset);
    a.update.clip_norm = 1;
    assert_refused(fv_tape_apply(t, FV_OP_sgd_update, &a, inputs, 8), ARGUMENT, "norm");
    a.update = (fv_update_attributes){ .kind = FV_OPTIMIZER_SGD, .value = { [FV_MOMENTUM] = 0.9f } };
    assert_refused(fv_tape_apply(t, FV_OP_sgd_update, &a, inputs, 8), ARGUMENT, "slot");
    a.update.kind = FV_OPTIMIZER_ADAM;
    assert_refused(fv_tape_apply(t, FV_OP_sgd_update, &a, inputs, 8), ARGUMENT, "is another one");
    assert_refused(FV_APPLY(t, FV_OP_advance, NULL, ((fv_value){ t->operand[t->operation[0].input] })), ARGUMENT,
                   "control block");
}

static void hashes_tell_tapes_apart(void **state) {
    (void)state;
    const small_net a = record_step(0.1f), b = record_step(0.1f), c = record_step(0.2f);
    const uint64_t hash = fv_tape_hash(a.tape);
    assert_true(hash == fv_tape_hash(b.tape));
    assert_true(hash != fv_tape_hash(c.tape)); /* an attribute */
    fv_tape *copy = fv_tape_copy(a.tape);
    assert_true(hash == fv_tape_hash(copy));
    assert_ssa(copy);
    assert_int_equal(fv_gradient(copy, a.c1).id, fv_gradient(a.tape, a.c1).id);
    assert_int_equal(copy->label_count, a.tape->label_count);
    /* Every part that a program depends on counts. */
    fv_tape *t = copy;
    fv_tape_value *v = &t->value[a.x.id];
#define CHANGES(place, other)                                                                                          \
    do {                                                                                                               \
        __typeof__(place) old = place;                                                                                 \
        place = other;                                                                                                 \
        assert_true(hash != fv_tape_hash(t));                                                                          \
        place = old;                                                                                                   \
        assert_true(hash == fv_tape_hash(t));                                                                          \
    } while (0)
    CHANGES(v->shape.dim[0], 5);
    CHANGES(v->type, FV_U8);
    CHANGES(v->kept, true);
    CHANGES(t->value[a.c1.id].offset, 1024);
    CHANGES(t->value[a.c1.id].store, NULL);
    CHANGES(t->value[fv_gradient(t, a.c1).id].region, FV_SLOT1);
    CHANGES(t->operation[0].attributes.conv.pad[3], 1);
    CHANGES(t->operand[t->operation[2].input], 1);
    CHANGES(t->operation[1].op, FV_OP_sub);
    int32_t constant = 0;
    for (int32_t i = 1; i < t->value_count; i++)
        if (t->value[i].kind == FV_VALUE_CONSTANT) constant = i;
    CHANGES(t->bytes[t->value[constant].constant], 77);
    /* A copy grows on its own. */
    fv_value more = fv_op_relu(t, a.logits);
    assert_true(more.id > 0 && hash != fv_tape_hash(t) && hash == fv_tape_hash(a.tape));
    assert_true(fv_tape_hash(fv_tape_new(context)) == fv_tape_hash(fv_tape_new(context)));
}

static char *dump(const fv_tape *tape, int (*print)(const fv_tape *, FILE *)) {
    char *text = NULL;
    size_t bytes = 0;
    FILE *stream = open_memstream(&text, &bytes);
    assert_int_equal(print(tape, stream), FV_OK);
    fclose(stream);
    return text;
}

static void tapes_are_printed(void **state) {
    (void)state;
    small_net n = record_step(0.1f);
    char *text = dump(n.tape, fv_tape_print);
    int lines = 0;
    for (const char *c = text; *c; c++) lines += *c == '\n';
    assert_int_equal(lines, n.tape->operation_count);
    assert_non_null(
        strstr(text, "= conv2d(%1 input [4, 12, 12, 1], %2 parameters+0 [6, 3, 3, 1]) stride 1 layer c1\n"));
    assert_non_null(strstr(text, " gradients+0 [6, 3, 3, 1] = conv2d_weight_gradient("));
    assert_non_null(strstr(text, "layer c1 backward\n"));
    assert_non_null(strstr(text, "= sgd_update("));
    assert_non_null(strstr(text, ", absent, "));
    assert_non_null(strstr(text, " kept = mean("));
    free(text);
}

/* Quotes and braces of DOT are balanced whatever layers are called; edges end at nodes that exist. */
static void graphs_are_whole(void **state) {
    (void)state;
    small_net n = record_step(0.1f);
    fv_tape_label(n.tape, "3\" by 5\\ {name\n");
    fv_op_relu(n.tape, n.logits);
    char *text = dump(n.tape, fv_tape_dot);
    bool quoted = false;
    int depth = 0, operations = 0;
    for (const char *c = text; *c; c++) {
        if (quoted && *c == '\\' && c[1]) {
            c++;
        } else if (*c == '"') {
            quoted = !quoted;
        } else if (!quoted) {
            depth += (*c == '{') - (*c == '}');
        } else {
            assert_int_not_equal(*c, '\n');
        }
    }
    assert_true(!quoted && !depth && !strncmp(text, "digraph tape {\n", 15));
    for (const char *line = text; line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL) {
        int from, to;
        char kind, node[32];
        if (sscanf(line, "    %c%d -> o%d", &kind, &from, &to) == 3) {
            snprintf(node, sizeof node, "\n    %c%d [label=", kind, from);
            assert_non_null(strstr(text, node));
        } else if (sscanf(line, "    o%d [label=", &to) == 1) {
            operations++;
        }
    }
    assert_int_equal(operations, n.tape->operation_count);
    free(text);
}

/* ---- Memory ------------------------------------------------------------------------------------------------------ */

/* Each allocation fails in turn: an error comes, nothing crashes, everything is freed (which the sanitizer sees). */
static void allocations_may_fail(void **state) {
    (void)state;
    for (int sticky = 0; sticky < 2; sticky++)
        for (int64_t n = 1;; n++) {
            fv_alloc_fail(n, sticky);
            small_net net = record_small_net(false, false);
            if (net.tape && !fv_error(context)) fv_backward(net.tape, net.loss);
            fv_tape *copy = net.tape ? fv_tape_copy(net.tape) : NULL;
            const bool failed = fv_alloc_fail(0, false) >= n;
            assert_true(failed == (fv_error_status(context) == FV_ERROR_MEMORY));
            if (net.tape && copy) assert_ssa(copy);
            if (net.tape) fv_tape_free(net.tape);
            fv_clear_error(context);
            if (!failed) {
                assert_non_null(copy);
                assert_true(n > 20);
                break;
            }
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(constants_are_one_value),
        TEST(states_have_versions),
        TEST(labels_are_kept_once),
        TEST(only_wanted_gradients),
        TEST(contributions_are_added_in_order),
        TEST(gradients_are_placed),
        TEST(loss_is_checked),
        TEST(inputs_can_be_watched),
        TEST(undifferentiable_operations_stop),
        TEST(gradients_of_penalties_and_dropout),
        TEST(every_gradient_is_appended),
        TEST(damaged_operations_never_crash),
        TEST(updates_write_states),
        TEST(hashes_tell_tapes_apart),
        TEST(tapes_are_printed),
        TEST(graphs_are_whole),
        TEST(allocations_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
