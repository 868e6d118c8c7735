/* test_layers_shape.c - layers and tape functions that move, look up, multiply and reduce, against Keras and torch; Keras's
 * configuration both ways; what is refused. */
#include "net/net.h"
#include "tables/shape.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define COUNT(array) ((int)(sizeof(array) / sizeof *(array)))

static const char *const devices[] = { "reference", "cpu" };

static void assert_fine(fv_context *c) {
    if (fv_error(c)) fail_msg("unexpected error: %s", fv_error(c));
}
static void assert_error(fv_context *c, const char *part) {
    if (!fv_error(c)) fail_msg("no error, but expected: %s", part);
    if (!strstr(fv_error(c), part)) fail_msg("error:    %s\nexpected: %s", fv_error(c), part);
    fv_clear_error(c);
}
static void assert_near(const char *name, const char *what, const float *got, const float *wanted, int64_t count) {
    for (int64_t i = 0; i < count; i++)
        if (!(fabsf(got[i] - wanted[i]) <= 2e-5f * (1 + fabsf(wanted[i]))))
            fail_msg("%s: element %lld of %s is %.9g, not %.9g", name, (long long)i, what, (double)got[i],
                     (double)wanted[i]);
}
static int64_t elements_of(fv_tape *tape, fv_value v) { return fv_shape_elements(&fv_tape_value_of(tape, v)->shape); }
static void assert_value(fv_program *program, fv_tape *tape, const char *name, const char *what, fv_value v,
                         const float *wanted) {
    const int64_t count = elements_of(tape, v);
    float *got = calloc((size_t)count, sizeof *got);
    fv_read(program, v, got, sizeof *got * (size_t)count);
    assert_near(name, what, got, wanted, count);
    free(got);
}

/* ---- Numbers of Keras and torch ---------------------------------------------------------------------------------- */

static fv_node add_layer(fv_net *net, const char *name, fv_node x, fv_node z) {
    if (!strcmp(name, "permute")) return fv_permute(net, x, .dims = { 3, 1, 2 });
    if (!strcmp(name, "repeat_vector")) return fv_repeat_vector(net, x, .times = 3);
    if (!strcmp(name, "dot_vectors")) return fv_dot(net, FV_NODES(x, z));
    if (!strcmp(name, "dot_cosine")) return fv_dot(net, FV_NODES(x, z), .normalize = true);
    if (!strcmp(name, "dot_first")) return fv_dot(net, FV_NODES(x, z), .axes = { 1, 1 });
    if (!strcmp(name, "dot_mixed")) return fv_dot(net, FV_NODES(x, z), .axes = { 2, -2 }, .normalize = true);
    if (!strcmp(name, "dot_deep")) return fv_dot(net, FV_NODES(x, z), .axes = { 2, 3 });
    return (fv_node){ 0 };
}

static fv_value add_operation(fv_tape *t, const char *name, fv_value x, fv_value z) {
    if (!strncmp(name, "matmul", 6)) return fv_op_matmul(t, x, z, false, false);
    if (!strcmp(name, "logsumexp")) return fv_op_logsumexp(t, x, (const int[]){ 0, 2 }, 2, false);
    if (!strcmp(name, "prod")) return fv_op_prod(t, x, (const int[]){ 1 }, 1, false);
    if (!strcmp(name, "variance")) return fv_op_variance(t, x, (const int[]){ 0, -1 }, 2, false, 1, NULL);
    if (!strcmp(name, "amin")) return fv_op_min(t, x, (const int[]){ 1, 2 }, 2, false);
    if (!strcmp(name, "cumsum")) return fv_op_cumsum(t, x, 1, false, false);
    if (!strcmp(name, "top_k")) return fv_op_top_k(t, x, 3, NULL);
    if (!strcmp(name, "reverse")) return fv_op_reverse(t, x, (const int[]){ 0, 2 }, 2);
    if (!strcmp(name, "stride"))
        return fv_op_strided_slice(t, x, (const int64_t[]){ 0, 1, 0 }, (const int64_t[]){ 2, 3, 3 },
                                   (const int64_t[]){ 1, 2, 3 });
    return (fv_value){ 0 };
}

/* A net of one layer, or the operation. */
static fv_value record_case(fv_context *c, fv_tape *tape, const struct shape_case *k, const fv_value x[2]) {
    fv_net *net = fv_net_new(c, "n");
    fv_node node[2] = { { 0 } };
    const int count = k->input[1].x ? 2 : 1;
    for (int i = 0; i < count && k->input[i].rank > 1; i++) {
        fv_input_options input = { .struct_size = sizeof input, .rank = k->input[i].rank - 1 };
        memcpy(input.shape, k->input[i].dims + 1, sizeof(int64_t) * (size_t)(k->input[i].rank - 1));
        node[i] = fv_input_with(net, &input);
    }
    const fv_node layer = add_layer(net, k->name, node[0], node[1]);
    if (!layer.id) return add_operation(tape, k->name, x[0], x[1]);
    fv_output(net, layer);
    return fv_record(tape, net, (fv_values){ x, count }, FV_MODE_TRAIN);
}

static void check_case(const char *device, const struct shape_case *k) {
    fv_context *c = fv_open(device);
    fv_tape *tape = fv_tape_new(c);
    fv_value x[2] = { { 0 } }, dx[2] = { { 0 } };
    for (int i = 0; i < 2 && k->input[i].x; i++) {
        x[i] = fv_op_input(tape, k->input[i].dims, k->input[i].rank, FV_F32);
        fv_watch(tape, x[i]);
    }
    fv_value y = record_case(c, tape, k, x), dy = fv_op_constant(tape, k->dims, k->rank, k->dy);
    assert_fine(c);
    assert_true(fv_shape_equal(&fv_tape_value_of(tape, y)->shape, &fv_tape_value_of(tape, dy)->shape));
    fv_backward(tape, fv_op_sum(tape, fv_op_mul(tape, y, dy), NULL, 0, false));
    fv_keep(tape, y);
    for (int i = 0; i < 2 && x[i].id; i++) fv_keep(tape, dx[i] = fv_gradient(tape, x[i]));
    fv_program *program = fv_compile(tape);
    for (int i = 0; i < 2 && x[i].id; i++)
        fv_write(program, x[i], k->input[i].x, sizeof(float) * (size_t)elements_of(tape, x[i]));
    fv_run(program);
    assert_fine(c);
    assert_value(program, tape, k->name, "y", y, k->y);
    for (int i = 0; i < 2 && x[i].id; i++) assert_value(program, tape, k->name, i ? "dz" : "dx", dx[i], k->input[i].dx);
    assert_fine(c);
    fv_close(c);
}

static void as_in_keras_and_torch(void **state) {
    (void)state;
    for (int i = 0; i < COUNT(shape_cases); i++)
        for (int d = 0; d < COUNT(devices); d++) check_case(devices[d], &shape_cases[i]);
}

/* Numbers as i32 and as f32; a number outside the table gives zeros and no gradient. */
static void embedding(void **state) {
    (void)state;
    for (int d = 0; d < 2 * COUNT(devices); d++) {
        const bool floats = d % 2;
        fv_context *c = fv_open(devices[d / 2]);
        fv_net *net = fv_net_new(c, "e");
        fv_node x = fv_input_with(net, &(const fv_input_options){ .struct_size = sizeof(fv_input_options), .shape = { 3 },
                                                                  .rank = 1, .type = floats ? FV_F32 : FV_I32 });
        fv_output(net, fv_embedding(net, x, .input_dim = 5, .output_dim = 4, .name = "e"));
        assert_fine(c);
        assert_int_equal(fv_set_weights(net, "e", 0, FV_KERAS, embedding_table, sizeof embedding_table), FV_OK);
        fv_tape *tape = fv_tape_new(c);
        fv_value numbers = fv_op_input(tape, (const int64_t[]){ 3, 3 }, 2, floats ? FV_F32 : FV_I32);
        fv_value y = fv_record(tape, net, FV_VALUES(numbers), FV_MODE_TRAIN);
        float dy_all[36] = { 0 };
        memcpy(dy_all, embedding_dy, sizeof embedding_dy);
        for (int i = 24; i < 36; i++) dy_all[i] = 1;
        fv_value dy = fv_op_constant(tape, (const int64_t[]){ 3, 3, 4 }, 3, dy_all);
        fv_backward(tape, fv_op_sum(tape, fv_op_mul(tape, y, dy), NULL, 0, false));
        fv_value gradient = fv_gradient(tape, fv_weight_value(tape, net, "e", 0));
        fv_keep(tape, y);
        fv_keep(tape, gradient);
        fv_program *program = fv_compile(tape);
        assert_fine(c);
        int32_t whole[9] = { [6] = -1, 5, INT32_MAX };
        float real[9];
        memcpy(whole, embedding_numbers, sizeof embedding_numbers);
        for (int i = 0; i < 9; i++) real[i] = i == 8 ? 7 : (float)whole[i];
        fv_write(program, numbers, floats ? (const void *)real : whole, sizeof whole);
        fv_run(program);
        float wanted[36] = { 0 };
        memcpy(wanted, embedding_y, sizeof embedding_y);
        assert_value(program, tape, "embedding", "y", y, wanted);
        assert_value(program, tape, "embedding", "gradient", gradient, embedding_dtable);
        assert_fine(c);
        fv_close(c);
    }
}

/* ---- Functions of the tape --------------------------------------------------------------------------------------- */

static void split_and_stack(void **state) {
    fv_context *c = *state;
    fv_tape *tape = fv_tape_new(c);
    const float numbers[] = { 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12 };
    fv_value x = fv_op_constant(tape, (const int64_t[]){ 2, 6 }, 2, numbers), equal[3], uneven[2];
    assert_int_equal(fv_op_split(tape, x, -1, NULL, 3, equal), FV_OK);
    assert_int_equal(fv_op_split(tape, x, 1, (const int64_t[]){ 1, 5 }, 2, uneven), FV_OK);
    fv_value stacked = fv_op_stack(tape, (fv_values){ equal, 3 }, 0), last = fv_op_stack(tape, (fv_values){ equal, 3 }, -1);
    fv_value index = fv_op_argmax(tape, x, (const int[]){ 0 }, 1, false), hot = fv_op_one_hot(tape, index, 2), mean;
    fv_value spread = fv_op_variance(tape, x, NULL, 0, false, 0, &mean);
    fv_value other = fv_op_transpose(tape, x, NULL), means = fv_op_mean_over(tape, x, (const int[]){ 0 }, 1, true);
    const fv_value kept[] = { uneven[1], stacked, last, hot, mean, spread, other, means };
    for (int i = 0; i < COUNT(kept); i++) fv_keep(tape, kept[i]);
    fv_program *program = fv_compile(tape);
    fv_run(program);
    assert_fine(c);
    assert_value(program, tape, "split", "part", uneven[1], (const float[]){ 2, 3, 4, 5, 6, 8, 9, 10, 11, 12 });
    assert_value(program, tape, "stack", "first", stacked, (const float[]){ 1, 2, 7, 8, 3, 4, 9, 10, 5, 6, 11, 12 });
    assert_value(program, tape, "stack", "last", last, (const float[]){ 1, 3, 5, 2, 4, 6, 7, 9, 11, 8, 10, 12 });
    assert_value(program, tape, "argmax", "one hot", hot, (const float[]){ 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1 });
    assert_value(program, tape, "variance", "mean", mean, (const float[]){ 6.5f });
    assert_value(program, tape, "variance", "variance", spread, (const float[]){ 143.0f / 12 });
    assert_value(program, tape, "transpose", "y", other, (const float[]){ 1, 7, 2, 8, 3, 9, 4, 10, 5, 11, 6, 12 });
    assert_value(program, tape, "mean", "y", means, (const float[]){ 4, 5, 6, 7, 8, 9 });
    const int64_t turned[] = { 6, 2 };
    assert_memory_equal(fv_tape_value_of(tape, other)->shape.dim, turned, sizeof turned);
}

static void refused_on_the_tape(void **state) {
    fv_context *c = *state;
    fv_tape *t = fv_tape_new(c);
    fv_value x = fv_op_input(t, (const int64_t[]){ 2, 6 }, 2, FV_F32), part[4];
    fv_op_transpose(t, x, (const int[]){ 1, 1 });
    assert_error(c, "transpose: axis 1 of [2, 6] is named twice in the new order");
    fv_op_gather(t, x, x, 0, 0);
    assert_error(c, "the numbers [2, 6] must be i32, not f32");
    fv_op_gather(t, x, fv_op_input(t, NULL, 0, FV_I32), 2, 0);
    assert_error(c, "axis 2 is not one of the 2 axes");
    fv_op_top_k(t, x, 7, NULL);
    assert_error(c, "k is 7, it must be within 1..6");
    fv_op_matmul(t, x, x, false, false);
    assert_error(c, "the matrices [2, 6] and [2, 6] do not fit: 6 columns meet 2 rows");
    fv_op_max(t, x, (const int[]){ 1, -1 }, 2, false);
    assert_error(c, "max: axis -1 is given twice");
    fv_op_variance(t, x, (const int[]){ 0 }, 1, false, 2, NULL);
    assert_error(c, "a correction of 2 is not within 0..1");
    fv_op_strided_slice(t, x, (const int64_t[]){ 0, 5 }, (const int64_t[]){ 2, 4 }, (const int64_t[]){ 1, -2 });
    assert_error(c, "4 elements from 5 on in steps of -2 are not within the 6 of axis 1");
    fv_op_split(t, x, 1, NULL, 4, part);
    assert_error(c, "split: 4 equal parts do not make axis 1 of [2, 6]");
    fv_op_split(t, x, 1, (const int64_t[]){ 5, 2 }, 2, part);
    assert_error(c, "split: the sizes of 2 parts do not add up to axis 1 of [2, 6]");
    fv_op_one_hot(t, fv_op_input(t, NULL, 0, FV_I32), 0);
    assert_error(c, "the number of classes is 0");
}

/* ---- Keras's form ------------------------------------------------------------------------------------------------ */

static void written_and_read(void **state) {
    fv_context *c = *state;
    fv_net *net = fv_net_new(c, "both");
    fv_node x = fv_input(net, 6), z = fv_repeat_vector(net, x, .times = 4);
    fv_node e = fv_embedding(net, x, .input_dim = 7, .output_dim = 4, .l2 = 0.5f, .frozen = true,
                             .embeddings_initializer = fv_normal(0, 0.5f));
    fv_output(net, e);
    e = fv_permute(net, fv_embedding(net, x, .input_dim = 7, .output_dim = 4), .dims = { 2, 1 });
    fv_output(net, fv_dot(net, FV_NODES(z, e), .axes = { 2, -1 }, .normalize = true));
    fv_output(net, fv_dot(net, FV_NODES(z, e)));
    assert_fine(c);
    json_t *config = fv_net_to_config(net);
    fv_net *back = fv_net_from_config(c, config);
    assert_fine(c);
    json_t *again = fv_net_to_config(back);
    assert_true(json_equal(config, again));
    assert_int_equal(back->layer_count, net->layer_count);
    json_decref(config);
    json_decref(again);
}

static void refuse(fv_context *c, const char *class_name, const char *config, const char *sentence) {
    json_t *net = json_pack("{s:s,s:{s:s,s:[{s:s,s:{s:s,s:[n,i,i]}},{s:s,s:o}]}}", "class_name", "Sequential", "config",
                            "name", "s", "layers", "class_name", "InputLayer", "config", "name", "i", "batch_shape", 4, 8,
                            "class_name", class_name, "config", json_loads(config, 0, NULL));
    assert_non_null(net);
    assert_null(fv_net_from_config(c, net));
    assert_error(c, sentence);
    json_decref(net);
}

static void refused(void **state) {
    fv_context *c = *state;
    refuse(c, "Permute", "{\"name\":\"n\",\"dims\":[2,2]}", "dims are not the axes 1..2 of its input (None, 4, 8), each once");
    refuse(c, "Permute", "{\"name\":\"n\",\"dims\":[1]}", "dims are not the axes 1..2");
    refuse(c, "RepeatVector", "{\"name\":\"n\",\"n\":3}", "its input must be (None, features), not (None, 4, 8)");
    refuse(c, "Embedding", "{\"name\":\"n\",\"input_dim\":3,\"output_dim\":2,\"mask_zero\":true}",
           "option 'mask_zero' is not supported");
    refuse(c, "Embedding", "{\"name\":\"n\",\"input_dim\":3}", "option 'output_dim' is missing or below 1");
    fv_net *net = fv_net_new(c, "wrong");
    fv_node x = fv_input(net, 4, 8), z = fv_input(net, 4, 7);
    fv_dot(net, FV_NODES(x, z));
    assert_error(c, "8 numbers along axis 2 meet 7 along axis 2");
    fv_dot(net, FV_NODES(x, z), .axes = { 1, -3 });
    assert_error(c, "axis -3 of input 1 is not an axis of a sample: those are 1..2");
    fv_embedding(net, x, .input_dim = 3);
    assert_error(c, "a table of 3 vectors of 0 numbers");
}

static int open_reference(void **state) { return (*state = fv_open("reference")) ? 0 : -1; }
static int close_context(void **state) {
    fv_close(*state);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(as_in_keras_and_torch),
        cmocka_unit_test(embedding),
        cmocka_unit_test_setup_teardown(split_and_stack, open_reference, close_context),
        cmocka_unit_test_setup_teardown(refused_on_the_tape, open_reference, close_context),
        cmocka_unit_test_setup_teardown(written_and_read, open_reference, close_context),
        cmocka_unit_test_setup_teardown(refused, open_reference, close_context),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
