/* test_tape.c - recording, the meaning of operations (shapes, refusals, gradients, costs) and differentiation, without running
 * anything: sizes against formulas and counting, the structure of gradients, and what happens when memory ends. */
#include "core/control.h"
#include "ops/family.h"
#include "program/store.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

/* ---- Tools --------------------------------------------------------------------------------------------------------- */

static fv_context *context;
static fv_store store; /* only its address matters here */

static int open_context(void **state) {
    (void)state;
    context = fv_open("reference");
    assert_non_null(context);
    assert_null(fv_error(context));
    return 0;
}

static int close_context(void **state) {
    (void)state;
    fv_close(context);
    return 0;
}

#define DIMS(...) (const int64_t[]){ __VA_ARGS__ }, (int)(sizeof((int64_t[]){ __VA_ARGS__ }) / sizeof(int64_t))
#define INPUT(t, ...) fv_op_input(t, DIMS(__VA_ARGS__), FV_F32)
#define LABELS(t, n) fv_op_input(t, DIMS(n), FV_I32)

static fv_shape shape_of(int rank, const int64_t *dims) {
    fv_shape shape = { 0 };
    assert_int_equal(fv_shape_make(context, "a test", rank, dims, &shape), FV_OK);
    return shape;
}

static int64_t next_offset;
static fv_value weight_of(fv_tape *tape, bool trainable, const int64_t *dims, int rank) {
    fv_shape shape = shape_of(rank, dims);
    fv_value v = fv_tape_state(tape, &store, FV_PARAMETERS, next_offset, FV_F32, &shape, trainable);
    next_offset += (fv_shape_elements(&shape) + 15) / 16 * 16;
    return v;
}
#define WEIGHT(t, ...) weight_of(t, true, DIMS(__VA_ARGS__))
#define FROZEN(t, ...) weight_of(t, false, DIMS(__VA_ARGS__))

static fv_value control_of(fv_tape *tape) {
    const fv_shape shape = { 1, { sizeof(fv_control) } };
    return fv_tape_state(tape, &store, FV_CONTROL, 0, FV_U8, &shape, false);
}

static fv_value region_of(fv_tape *tape, fv_region region, fv_type type, int64_t elements) {
    const fv_shape shape = { 1, { elements } };
    return fv_tape_state(tape, &store, region, 0, type, &shape, false);
}

static int count_of(const fv_tape *tape, fv_op op) {
    int count = 0;
    for (int32_t i = 0; i < tape->operation_count; i++) count += tape->operation[i].op == op;
    return count;
}

static void assert_shape_at(const char *file, int line, const fv_tape *tape, fv_value v, int rank, const int64_t *dims) {
    if (!fv_value_valid(tape, v)) fail_msg("%s:%d: no value: %s", file, line, fv_error(context));
    const fv_shape wanted = shape_of(rank, dims), *got = &fv_tape_value_of(tape, v)->shape;
    if (!fv_shape_equal(&wanted, got)) fail_msg("%s:%d: %s instead of %s", file, line, FV_TEXT(got), FV_TEXT(&wanted));
}
#define assert_shape(tape, v, ...)                                                                                     \
    assert_shape_at(__FILE__, __LINE__, tape, v, (int)(sizeof((int64_t[]){ __VA_ARGS__ }) / sizeof(int64_t)),          \
                    (const int64_t[]){ __VA_ARGS__ })

static void assert_refused_at(const char *file, int line, fv_value v, fv_status status, const char *const *words) {
    const char *error = fv_error(context);
    if (v.id || !error) fail_msg("%s:%d: not refused", file, line);
    if (fv_error_status(context) != status) fail_msg("%s:%d: status %d: %s", file, line, fv_error_status(context), error);
    for (; *words; words++)
        if (!strstr(error, *words)) fail_msg("%s:%d: '%s' is not in '%s'", file, line, *words, error);
    fv_clear_error(context);
}
#define assert_refused(v, status, ...) assert_refused_at(__FILE__, __LINE__, v, FV_ERROR_##status, FV_NAMES(__VA_ARGS__))

/* Every value is made once, before its use; operations own consecutive outputs; types and shapes are whole. */
static void assert_ssa(const fv_tape *tape) {
    int32_t next = 1;
    for (int32_t i = 0; i < tape->operation_count; i++) {
        const fv_operation *o = &tape->operation[i];
        assert_in_range(o->op, FV_OP_NONE + 1, FV_OP_COUNT - 1);
        for (; next < o->output; next++) assert_int_equal(tape->value[next].producer, -1);
        assert_int_equal(o->output, next);
        assert_int_equal(o->output_count, fv_op_table[o->op]->outputs);
        for (int32_t n = 0; n < o->output_count; n++, next++) assert_int_equal(tape->value[next].producer, i);
        assert_true(o->input >= 0 && o->input + o->input_count <= tape->operand_count);
        for (int32_t n = 0; n < o->input_count; n++) {
            const int32_t id = tape->operand[o->input + n];
            assert_in_range(id, 0, o->output - 1);
            assert_true(id || fv_op_table[o->op]->optional >> n & 1);
        }
        assert_in_range(o->label, 0, tape->label_count - 1);
    }
    for (; next < tape->value_count; next++) assert_int_equal(tape->value[next].producer, -1);
    for (int32_t v = 1; v < tape->value_count; v++)
        for (int32_t d = 0; d < tape->value[v].shape.rank; d++) assert_true(tape->value[v].shape.dim[d] >= 1);
    for (int32_t v = 1; v < tape->gradient_count; v++)
        if (tape->gradient[v]) assert_true(fv_shape_equal(&tape->value[v].shape, &tape->value[tape->gradient[v]].shape));
}

/* ---- Windows ------------------------------------------------------------------------------------------------------- */

/* Counting, as one would with a pencil. */
static int64_t count_windows(int64_t in, int64_t before, int64_t after, int64_t kernel, int64_t dilation, int64_t stride, bool ceil_mode) {
    const int64_t total = in + before + after, extent = (kernel - 1) * dilation + 1;
    int64_t count = 0;
    while (count * stride + extent <= total) count++;
    const bool rest = (count - 1) * stride + extent < total; /* cells that no whole window reached */
    if (ceil_mode && rest && count * stride < in + before) count++;
    return count;
}

static void window_counts(void **state) {
    (void)state;
    for (int64_t in = 1; in <= 9; in++)
        for (int64_t pads = 0; pads < 9; pads++)
            for (int64_t kernel = 1; kernel <= 4; kernel++)
                for (int64_t dilation = 1; dilation <= 3; dilation++)
                    for (int64_t stride = 1; stride <= 5; stride++)
                        for (int mode = 0; mode < 2; mode++)
                            assert_int_equal(fv_window_count(in, pads / 3, pads % 3, kernel, dilation, stride, mode),
                                             count_windows(in, pads / 3, pads % 3, kernel, dilation, stride, mode));
}

static void window_extremes(void **state) {
    (void)state;
    const int64_t huge = INT64_MAX;
    assert_int_equal(fv_window_count(huge, 1, 0, 3, 1, 1, false), 0);
    assert_int_equal(fv_window_count(huge, 0, 0, huge, huge, 1, false), 0);
    assert_int_equal(fv_window_count(huge, 0, 0, 1, 1, 1, true), huge);
    assert_int_equal(fv_window_count(huge, 0, 0, huge, 1, 1, true), 1);
    assert_int_equal(fv_window_count(7, 0, 0, 2, 1, huge, true), 1);
    assert_int_equal(fv_window_count(0, 5, 5, 2, 1, 1, false), 0);
    assert_int_equal(fv_window_count(7, -1, 0, 2, 1, 1, false), 0);
    assert_int_equal(fv_window_count(7, 0, 0, 0, 1, 1, false), 0);
    assert_int_equal(fv_window_count(7, 0, 0, 2, 1, 0, false), 0);
    int32_t pad[2];
    fv_window_padding(FV_FULL, 5, huge, huge, 1, pad);
    assert_int_equal(pad[0], 0);
    fv_window_padding(FV_FULL, 5, huge, 1, 1, pad);
    assert_int_equal(pad[1], INT32_MAX);
}

static void window_padding(void **state) {
    (void)state;
    int32_t pad[2];
    for (int64_t in = 1; in <= 20; in++)
        for (int64_t kernel = 1; kernel <= 7; kernel++)
            for (int64_t dilation = 1; dilation <= 2; dilation++)
                for (int64_t stride = 1; stride <= 4; stride++) {
                    /* Same: as many windows as strides fit, the odd pixel after, no more padding than needed. */
                    fv_window_padding(FV_SAME, in, kernel, dilation, stride, pad);
                    int64_t out = (in + stride - 1) / stride;
                    assert_int_equal(fv_window_count(in, pad[0], pad[1], kernel, dilation, stride, false), out);
                    assert_true(pad[1] == pad[0] || pad[1] == pad[0] + 1);
                    if (pad[1]) assert_true(fv_window_count(in, pad[0], pad[1] - 1, kernel, dilation, stride, false) < out);
                    fv_window_padding(FV_FULL, in, kernel, dilation, 1, pad);
                    assert_int_equal(fv_window_count(in, pad[0], pad[1], kernel, dilation, 1, false), in + dilation * (kernel - 1));
                }
    fv_window_padding(FV_VALID, 9, 3, 1, 1, pad);
    assert_true(!pad[0] && !pad[1]);
    fv_window_padding(4, 9, 3, 1, 1, pad);
    assert_true(pad[0] == 4 && pad[1] == 4);
}

/* ---- Shapes -------------------------------------------------------------------------------------------------------- */

static fv_value conv(fv_tape *t, fv_value x, fv_value w, int stride, int dilation, int groups, int top, int bottom, int left, int right) {
    fv_attributes a = { .conv = { .stride = { stride, stride }, .dilation = { dilation, dilation }, .groups = groups,
                                  .pad = { top, bottom, left, right } } };
    return FV_APPLY(t, FV_OP_conv2d, &a, x, w);
}

static fv_value conv_padded(fv_tape *t, int64_t size, int64_t kernel, int32_t padding) {
    int32_t pad[2];
    fv_window_padding(padding, size, kernel, 1, 1, pad);
    return conv(t, INPUT(t, 1, size, size, 3), WEIGHT(t, 2, kernel, kernel, 3), 1, 1, 1, pad[0], pad[1], pad[0], pad[1]);
}

static void golden_sizes(void **state) {
    (void)state;
    fv_tape *t = fv_tape_new(context);
    assert_shape(t, conv_padded(t, 512, 9, FV_VALID), 1, 504, 504, 2);
    assert_shape(t, conv_padded(t, 512, 9, FV_SAME), 1, 512, 512, 2);
    assert_shape(t, conv_padded(t, 512, 9, FV_FULL), 1, 520, 520, 2);
    assert_shape(t, conv_padded(t, 512, 3, FV_VALID), 1, 510, 510, 2);
    assert_shape(t, conv_padded(t, 28, 5, FV_SAME), 1, 28, 28, 2);
    assert_shape(t, conv_padded(t, 28, 5, FV_VALID), 1, 24, 24, 2);
    /* AlexNet's first layers: 227 by 11/4 to 55, pooled 3/2 to 27; VGG's and ResNet's first. */
    assert_shape(t, conv(t, INPUT(t, 8, 227, 227, 3), WEIGHT(t, 96, 11, 11, 3), 4, 1, 1, 0, 0, 0, 0), 8, 55, 55, 96);
    assert_shape(t, conv(t, INPUT(t, 8, 224, 224, 3), WEIGHT(t, 64, 7, 7, 3), 2, 1, 1, 3, 3, 3, 3), 8, 112, 112, 64);
    fv_attributes pool = { .pool = { .kernel = { 3, 3 }, .stride = { 2, 2 } } };
    assert_shape(t, FV_APPLY(t, FV_OP_max_pool2d, &pool, INPUT(t, 8, 55, 55, 96)), 8, 27, 27, 96);
    pool.pool = (fv_pool_attributes){ .kernel = { 2, 2 } };
    assert_shape(t, FV_APPLY(t, FV_OP_avg_pool2d, &pool, INPUT(t, 8, 27, 27, 16)), 8, 13, 13, 16);
    pool.pool.ceil_mode = 1;
    assert_shape(t, FV_APPLY(t, FV_OP_avg_pool2d, &pool, INPUT(t, 8, 27, 27, 16)), 8, 14, 14, 16);
    assert_ssa(t);
}

static void convolution_shapes(void **state) {
    (void)state;
    fv_random r = fv_random_make(1, 1);
    for (int round = 0; round < 300; round++) {
        fv_tape *t = fv_tape_new(context);
        const int64_t groups = 1 + fv_random_below(&r, 3), c = groups * (1 + fv_random_below(&r, 3)), k = groups * (1 + fv_random_below(&r, 4));
        const int64_t n = 1 + fv_random_below(&r, 4), kh = 1 + fv_random_below(&r, 5), kw = 1 + fv_random_below(&r, 5);
        const int stride = 1 + (int)fv_random_below(&r, 3), dilation = 1 + (int)fv_random_below(&r, 2);
        int pad[4];
        for (int i = 0; i < 4; i++) pad[i] = (int)fv_random_below(&r, 6);
        const int64_t h = dilation * (kh - 1) + 1 + fv_random_below(&r, 8), w = dilation * (kw - 1) + 1 + fv_random_below(&r, 8);
        fv_value x = INPUT(t, n, h, w, c), filter = WEIGHT(t, k, kh, kw, c / groups);
        assert_int_equal(fv_watch(t, x), FV_OK);
        fv_value y = conv(t, x, filter, stride, dilation, (int)groups, pad[0], pad[1], pad[2], pad[3]);
        const int64_t oh = (h + pad[0] + pad[1] - dilation * (kh - 1) - 1) / stride + 1;
        const int64_t ow = (w + pad[2] + pad[3] - dilation * (kw - 1) - 1) / stride + 1;
        assert_shape(t, y, n, oh, ow, k);
        fv_cost cost;
        assert_int_equal(fv_tape_cost(t, 0, &cost), FV_OK);
        assert_true(cost.macs == (double)(n * oh * ow * k * kh * kw * (c / groups)) && cost.flops == 2 * cost.macs);
        assert_true(cost.bytes == 4.0 * (double)(n * h * w * c + k * kh * kw * c / groups + n * oh * ow * k));
        assert_int_equal(fv_backward(t, fv_op_mean(t, y)), FV_OK);
        assert_shape(t, fv_gradient(t, x), n, h, w, c);
        assert_shape(t, fv_gradient(t, filter), k, kh, kw, c / groups);
        assert_ssa(t);
        fv_tape_free(t);
    }
}

static void pooling_shapes(void **state) {
    (void)state;
    fv_random r = fv_random_make(2, 1);
    for (int round = 0; round < 300; round++) {
        fv_tape *t = fv_tape_new(context);
        fv_attributes a = { .pool = { .ceil_mode = (int)fv_random_below(&r, 2) } };
        int64_t size[2], out[2];
        for (int i = 0; i < 2; i++) {
            a.pool.kernel[i] = 1 + (int)fv_random_below(&r, 18);
            a.pool.stride[i] = (int)fv_random_below(&r, 4);
            for (int side = 0; side < 2; side++) a.pool.pad[2 * i + side] = (int)fv_random_below(&r, (uint32_t)a.pool.kernel[i]);
            size[i] = a.pool.kernel[i] + fv_random_below(&r, 9);
            out[i] = count_windows(size[i], a.pool.pad[2 * i], a.pool.pad[2 * i + 1], a.pool.kernel[i], 1,
                                   a.pool.stride[i] ? a.pool.stride[i] : a.pool.kernel[i], a.pool.ceil_mode);
        }
        fv_value x = WEIGHT(t, 2, size[0], size[1], 3);
        int32_t max = fv_tape_append(t, FV_OP_max_pool2d, &a, &x, 1), mean = fv_tape_append(t, FV_OP_avg_pool2d, &a, &x, 1);
        assert_true(max >= 0 && mean >= 0);
        assert_shape(t, fv_tape_output(t, max, 0), 2, out[0], out[1], 3);
        assert_shape(t, fv_tape_output(t, max, 1), 2, out[0], out[1], 3);
        assert_shape(t, fv_tape_output(t, mean, 0), 2, out[0], out[1], 3);
        assert_int_equal(fv_tape_value_of(t, fv_tape_output(t, max, 1))->type, a.pool.kernel[0] * a.pool.kernel[1] > 255 ? FV_I32 : FV_U8);
        fv_value loss = fv_op_mean(t, fv_op_add(t, fv_tape_output(t, max, 0), fv_tape_output(t, mean, 0)));
        assert_int_equal(fv_backward(t, loss), FV_OK);
        assert_shape(t, fv_gradient(t, x), 2, size[0], size[1], 3);
        assert_ssa(t);
        fv_tape_free(t);
    }
}

/* Broadcasting forward against a walk over the axes from the right, and gradients back in the shapes of the inputs. */
static void broadcasting_shapes(void **state) {
    (void)state;
    static const fv_op binary[] = { FV_OP_add, FV_OP_sub, FV_OP_mul, FV_OP_div };
    fv_random r = fv_random_make(3, 1);
    for (int round = 0; round < 400; round++) {
        fv_tape *t = fv_tape_new(context);
        int64_t full[FV_RANK], dims[2][FV_RANK];
        int rank[2] = { (int)fv_random_below(&r, 7), (int)fv_random_below(&r, 7) };
        for (int i = 0; i < FV_RANK; i++) full[i] = 1 + fv_random_below(&r, 4);
        const int most = rank[0] > rank[1] ? rank[0] : rank[1];
        int64_t wanted[FV_RANK] = { 0 };
        for (int k = 0; k < 2; k++)
            for (int i = 0; i < rank[k]; i++) {
                int64_t *from_right = &dims[k][rank[k] - 1 - i], *sum = &wanted[most - 1 - i];
                *from_right = fv_random_below(&r, 2) ? full[i] : 1;
                if (*from_right > *sum) *sum = *from_right;
            }
        fv_value a = weight_of(t, true, dims[0], rank[0]), b = weight_of(t, true, dims[1], rank[1]);
        fv_value y = FV_APPLY(t, binary[round % 4], NULL, a, b);
        assert_shape_at(__FILE__, __LINE__, t, y, most, wanted);
        assert_int_equal(fv_backward(t, fv_op_sum(t, y, NULL, 0, false)), FV_OK);
        assert_true(fv_gradient(t, a).id && fv_gradient(t, b).id);
        assert_ssa(t); /* compares the shapes of gradients */
        fv_tape_free(t);
    }
}

static void other_shapes(void **state) {
    (void)state;
    fv_tape *t = fv_tape_new(context);
    fv_value x = INPUT(t, 2, 3, 4, 5);
    assert_shape(t, fv_op_dense(t, x, WEIGHT(t, 7, 5)), 2, 3, 4, 7);
    assert_shape(t, fv_op_dense(t, INPUT(t, 5), WEIGHT(t, 7, 5)), 7);
    assert_shape(t, fv_op_reshape(t, x, DIMS(6, -1)), 6, 20);
    assert_shape(t, fv_op_reshape(t, x, DIMS(120)), 120);
    assert_shape(t, fv_op_reshape(t, fv_op_scalar(t, 2), DIMS(1, 1)), 1, 1);
    assert_shape(t, fv_op_softmax(t, x, -1), 2, 3, 4, 5);
    assert_int_equal(t->operation[t->operation_count - 1].attributes.axis.axis, 3);
    assert_shape(t, fv_op_sum(t, x, (int[]){ 1, -1 }, 2, false), 2, 4);
    assert_shape(t, fv_op_sum(t, x, (int[]){ 1, -1 }, 2, true), 2, 1, 4, 1);
    assert_shape(t, fv_op_sum(t, x, NULL, 0, true), 1, 1, 1, 1);
    assert_int_equal(fv_tape_value_of(t, fv_op_sum(t, x, NULL, 0, false))->shape.rank, 0);
    assert_int_equal(fv_tape_value_of(t, fv_op_mean(t, x))->shape.rank, 0);
    assert_shape(t, fv_op_slice(t, x, (int64_t[]){ 1, 0, 2, 0 }, (int64_t[]){ 1, 3, 2, 1 }), 1, 3, 2, 1);
    assert_shape(t, fv_op_concat(t, FV_VALUES(x, INPUT(t, 2, 9, 4, 5), x), 1), 2, 15, 4, 5);
    assert_shape(t, fv_op_concat(t, FV_VALUES(x, x), -1), 2, 3, 4, 10);
    assert_shape(t, fv_op_softmax_cross_entropy(t, INPUT(t, 6, 10), LABELS(t, 6), 0.1f), 6);
    assert_shape(t, fv_op_softmax_cross_entropy(t, INPUT(t, 6, 10), INPUT(t, 6, 10), 0), 6);
    assert_shape(t, fv_op_mean_squared_error(t, x, x), 2);
    fv_attributes pad = { .pad = { .before = { 0, 1, 2, 0 }, .after = { 0, 3, 4, 1 } } };
    assert_shape(t, FV_APPLY(t, FV_OP_pad, &pad, x), 2, 7, 10, 6);
    fv_attributes k = { .top_k = { 50 } };
    assert_shape(t, FV_APPLY(t, FV_OP_in_top_k, &k, INPUT(t, 6, 10), LABELS(t, 6)), 6);
    assert_int_equal(t->operation[t->operation_count - 1].attributes.top_k.k, 10);
    /* A batch: order, gather, augment, normalise. */
    fv_attributes batch = { .batch = { .size = 32, .rows = 20 } };
    fv_value rows = FV_APPLY(t, FV_OP_batch_samples, &batch, region_of(t, FV_ORDER, FV_I32, 100), control_of(t));
    assert_shape(t, rows, 20);
    fv_value images = FV_APPLY(t, FV_OP_gather_batch, NULL, fv_op_input(t, DIMS(100, 28, 28, 1), FV_U8), rows);
    assert_shape(t, images, 20, 28, 28, 1);
    images = FV_APPLY(t, FV_OP_flip, NULL, images, rows, control_of(t));
    fv_attributes crop = { .random = { .crop = 4 } };
    images = FV_APPLY(t, FV_OP_pad_crop, &crop, images, rows, control_of(t));
    assert_int_equal(fv_tape_value_of(t, images)->type, FV_U8);
    fv_attributes normalize = { .normalize = { 1.0f / 255, { 0 }, { 1, 1, 1, 1 } } };
    images = FV_APPLY(t, FV_OP_normalize, &normalize, images);
    assert_int_equal(fv_tape_value_of(t, images)->type, FV_F32);
    assert_shape(t, images, 20, 28, 28, 1);
    assert_null(fv_error(context));
    assert_ssa(t);
}

/* ---- Refusals ------------------------------------------------------------------------------------------------------ */

static void refused_convolutions(void **state) {
    (void)state;
    fv_tape *t = fv_tape_new(context);
    fv_tape_label(t, "c3");
    fv_value x = INPUT(t, 4, 3, 3, 6), w = WEIGHT(t, 16, 5, 5, 6);
    assert_refused(conv(t, x, w, 1, 1, 1, 0, 0, 0, 0), SHAPE, "conv2d c3: ", "larger", "[16, 5, 5, 6]", "[4, 3, 3, 6]", "0,0,0,0");
    assert_refused(conv(t, x, w, 1, 1, 4, 9, 9, 9, 9), SHAPE, "4 groups", "[4, 3, 3, 6]");
    assert_refused(conv(t, x, w, 1, 1, 2, 9, 9, 9, 9), SHAPE, "reads 6 channels", "has 3 a group");
    assert_refused(conv(t, x, WEIGHT(t, 16, 5, 5, 3), 1, 1, 1, 9, 9, 9, 9), SHAPE, "[16, 5, 5, 3]", "reads 3 channels", "has 6");
    assert_refused(conv(t, x, WEIGHT(t, 15, 1, 1, 3), 1, 1, 2, 0, 0, 0, 0), SHAPE, "2 groups", "[15, 1, 1, 3]");
    assert_refused(conv(t, x, w, -2, 1, 1, 2, 2, 2, 2), ARGUMENT, "stride", "-2");
    assert_refused(conv(t, x, w, 1, -1, 1, 2, 2, 2, 2), ARGUMENT, "dilation");
    assert_refused(conv(t, x, w, 1, 1, -1, 2, 2, 2, 2), ARGUMENT, "groups");
    assert_refused(conv(t, x, w, 1, 1, 1, -2, 2, 2, 2), ARGUMENT, "padding");
    assert_refused(conv(t, INPUT(t, 4, 9), w, 1, 1, 1, 0, 0, 0, 0), SHAPE, "[batch, height, width, channels]", "[4, 9]");
    assert_refused(conv(t, x, WEIGHT(t, 16, 6), 1, 1, 1, 0, 0, 0, 0), SHAPE, "kernel", "[16, 6]");
    assert_refused(conv(t, fv_op_input(t, DIMS(4, 9, 9, 6), FV_U8), w, 1, 1, 1, 0, 0, 0, 0), ARGUMENT, "f32", "u8");
    assert_refused(conv(t, (fv_value){ 0 }, w, 1, 1, 1, 0, 0, 0, 0), ARGUMENT, "input 0");
    assert_refused(conv(t, (fv_value){ 9999 }, w, 1, 1, 1, 0, 0, 0, 0), ARGUMENT, "input 0", "not a value of this tape");
    fv_attributes a = { .conv = { .shape = { 4, 3, 3, 6 }, .pad = { 2, 2, 2, 2 } } };
    assert_refused(FV_APPLY(t, FV_OP_conv2d_data_gradient, &a, INPUT(t, 4, 9, 9, 16), w), SHAPE, "output's gradient", "[4, 9, 9, 16]", "[4, 3, 3, 16]");
    a.conv.shape[0] = 0;
    assert_refused(FV_APPLY(t, FV_OP_conv2d_data_gradient, &a, INPUT(t, 4, 3, 3, 16), w), SHAPE, "[0, 3, 3, 6]");
    a = (fv_attributes){ .conv = { .activation = FV_SOFTMAX } };
    assert_refused(FV_APPLY(t, FV_OP_conv2d_bias_activation, &a, INPUT(t, 4, 9, 9, 6), w, ((fv_value){ 0 })), ARGUMENT, "activation 4");
    a.conv.activation = FV_RELU;
    assert_refused(FV_APPLY(t, FV_OP_conv2d_bias_activation, &a, INPUT(t, 4, 9, 9, 6), w, WEIGHT(t, 15)), SHAPE, "bias", "[16]", "[15]");
    assert_int_equal(t->operation_count, 0); /* a refused operation leaves nothing behind */
    assert_ssa(t);
}

static void refused_others(void **state) {
    (void)state;
    fv_tape *t = fv_tape_new(context);
    fv_value x = INPUT(t, 2, 8, 8, 3), flat = INPUT(t, 2, 10);
    fv_attributes a = { .pool = { .kernel = { 9, 2 } } };
    assert_refused(FV_APPLY(t, FV_OP_max_pool2d, &a, x), SHAPE, "max_pool2d: ", "9 x 2", "[2, 8, 8, 3]");
    a.pool = (fv_pool_attributes){ .kernel = { 2, 2 }, .pad = { 2, 0, 0, 0 } };
    assert_refused(FV_APPLY(t, FV_OP_avg_pool2d, &a, x), ARGUMENT, "padding 2", "2 x 2");
    a.pool = (fv_pool_attributes){ .kernel = { 0, 2 } };
    assert_refused(FV_APPLY(t, FV_OP_avg_pool2d, &a, x), ARGUMENT, "window size");
    a.pool = (fv_pool_attributes){ .kernel = { 2, 2 } };
    assert_refused(FV_APPLY(t, FV_OP_avg_pool2d, &a, flat), SHAPE, "[2, 10]");
    assert_refused(fv_op_dense(t, flat, WEIGHT(t, 4, 9)), SHAPE, "dense: ", "[4, 9]", "9 inputs", "[2, 10]");
    assert_refused(fv_op_dense(t, flat, WEIGHT(t, 4, 9, 1)), SHAPE, "[units, inputs]", "[4, 9, 1]");
    assert_refused(fv_op_dense(t, fv_op_scalar(t, 1), WEIGHT(t, 4, 9)), SHAPE, "at least 1 dimension");
    assert_refused(fv_op_add(t, x, flat), SHAPE, "add: ", "[2, 8, 8, 3]", "[2, 10]");
    assert_refused(fv_op_mul(t, x, fv_op_input(t, DIMS(2, 8, 8, 3), FV_I32)), ARGUMENT, "f32", "i32");
    assert_refused(fv_op_softmax(t, flat, 2), SHAPE, "axis 2", "2 axes", "[2, 10]");
    assert_refused(fv_op_softmax(t, flat, -3), SHAPE, "axis -3");
    assert_refused(fv_op_sum(t, flat, (int[]){ 2 }, 1, false), SHAPE, "axis 2", "[2, 10]");
    assert_refused(fv_op_sum(t, flat, (int[]){ 1, -1 }, 2, false), ARGUMENT, "twice");
    assert_refused(fv_op_sum(t, flat, NULL, 2, false), ARGUMENT, "axes");
    assert_refused(fv_op_reshape(t, flat, DIMS(3, 7)), SHAPE, "20 elements", "[2, 10]", "[3, 7]");
    assert_refused(fv_op_reshape(t, flat, DIMS(-1, -1)), SHAPE, "[-1, -1]");
    assert_refused(fv_op_reshape(t, flat, DIMS(0, -1)), SHAPE, "[0, -1]");
    assert_refused(fv_op_reshape(t, flat, NULL, 2), SHAPE, "[0, 0]");
    assert_refused(fv_op_reshape(t, flat, NULL, 9), SHAPE, "9 dimensions");
    assert_refused(fv_op_slice(t, flat, (int64_t[]){ 0, 4 }, (int64_t[]){ 2, 7 }), SHAPE, "7 elements from 4", "axis 1", "[2, 10]");
    assert_refused(fv_op_slice(t, flat, (int64_t[]){ 0, INT64_MAX }, (int64_t[]){ 2, INT64_MAX }), SHAPE, "axis 1");
    assert_refused(fv_op_slice(t, flat, NULL, NULL), SHAPE, "0 elements");
    assert_refused(fv_op_concat(t, FV_VALUES(x, flat), 0), SHAPE, "[2, 8, 8, 3]", "[2, 10]");
    assert_refused(fv_op_concat(t, FV_VALUES(flat, INPUT(t, 3, 10)), 1), SHAPE, "[3, 10]", "axis 1");
    assert_refused(fv_op_concat(t, FV_VALUES(flat), 4), SHAPE, "axis 4");
    assert_refused(fv_op_concat(t, (fv_values){ NULL, 3 }, 0), ARGUMENT, "0 inputs", "at least 1");
    assert_refused(fv_op_softmax_cross_entropy(t, flat, LABELS(t, 3), 0), SHAPE, "softmax_cross_entropy: ", "i32 [3]", "[2, 10]", "i32 [2]");
    assert_refused(fv_op_softmax_cross_entropy(t, flat, INPUT(t, 2, 9), 0), SHAPE, "f32 [2, 9]");
    assert_refused(fv_op_softmax_cross_entropy(t, x, LABELS(t, 2), 0), SHAPE, "[rows, classes]");
    assert_refused(fv_op_softmax_cross_entropy(t, flat, LABELS(t, 2), 1.5f), ARGUMENT, "smoothing", "1.5");
    assert_refused(fv_op_softmax_cross_entropy(t, flat, LABELS(t, 2), NAN), ARGUMENT, "smoothing", "not a number");
    assert_refused(fv_op_mean_squared_error(t, flat, INPUT(t, 2, 9)), SHAPE, "[2, 9]", "[2, 10]");
    a = (fv_attributes){ .norm = { .epsilon = 1e-3f, .momentum = 0.9f } };
    fv_value c3 = WEIGHT(t, 3), c4 = WEIGHT(t, 4);
    assert_refused(FV_APPLY(t, FV_OP_batch_norm_infer, &a, x, c4, c3, c3, c3), SHAPE, "gamma", "[3]", "[4]", "[2, 8, 8, 3]");
    assert_refused(FV_APPLY(t, FV_OP_batch_norm_train, &a, x, c3, c3, ((fv_value){ 0 }), c3), ARGUMENT, "input 3");
    a.norm.epsilon = -1;
    assert_refused(FV_APPLY(t, FV_OP_batch_norm_infer, &a, x, c3, c3, c3, c3), ARGUMENT, "epsilon");
    a = (fv_attributes){ .random = { .rate = 1 } };
    assert_refused(FV_APPLY(t, FV_OP_dropout, &a, x, control_of(t)), ARGUMENT, "rate is 1");
    a.random.rate = 0.5f;
    assert_refused(FV_APPLY(t, FV_OP_dropout, &a, x, flat), ARGUMENT, "control block", "[2, 10]");
    a = (fv_attributes){ .normalize = { 1, { 0 }, { 1, 1, 0, 1 } } };
    assert_refused(FV_APPLY(t, FV_OP_normalize, &a, x), ARGUMENT, "deviation");
    assert_refused(FV_APPLY(t, FV_OP_metric_add, NULL, INPUT(t, 2), flat), ARGUMENT, "not a state");
    assert_refused(FV_APPLY(t, (fv_op)9999, NULL, x), ARGUMENT, "9999");
    assert_refused(fv_op_input(t, DIMS(2, 0), FV_F32), SHAPE, "empty");
    assert_refused(fv_op_input(t, DIMS(INT64_MAX, 3), FV_F32), SHAPE, "too large");
    assert_refused(fv_op_input(t, DIMS(1, 1, 1, 1, 1, 1, 1), FV_F32), SHAPE, "7 dimensions");
    assert_refused(fv_op_input(t, NULL, 2, FV_F32), ARGUMENT, "missing");
    assert_refused(fv_op_input(t, DIMS(2), (fv_type)77), ARGUMENT, "77");
    assert_refused(fv_op_constant(t, DIMS(2), NULL), ARGUMENT, "missing");
    assert_int_equal(t->operation_count, 0);
    assert_ssa(t);
}

static void broken_tapes_do_nothing(void **state) {
    (void)state;
    const int64_t dims[] = { 2 };
    assert_int_equal(fv_op_input(NULL, dims, 1, FV_F32).id, 0);
    assert_int_equal(fv_op_scalar(NULL, 1).id, 0);
    assert_int_equal(fv_op_relu(NULL, (fv_value){ 1 }).id, 0);
    assert_int_equal(fv_op_sum(NULL, (fv_value){ 1 }, NULL, 0, false).id, 0);
    assert_int_equal(fv_op_concat(NULL, FV_VALUES({ 1 }), 0).id, 0);
    assert_int_equal(fv_gradient(NULL, (fv_value){ 1 }).id, 0);
    assert_true(fv_backward(NULL, (fv_value){ 1 }) < 0 && fv_keep(NULL, (fv_value){ 1 }) < 0 && fv_watch(NULL, (fv_value){ 1 }) < 0);
    assert_true(fv_tape_print(NULL, stderr) < 0 && fv_tape_dot(NULL, stderr) < 0);
    assert_null(fv_tape_new(NULL));
    assert_null(fv_tape_copy(NULL));
    fv_tape_label(NULL, "x");
    fv_tape_free(NULL);
    fv_tape *t = fv_tape_new(context);
    fv_value x = WEIGHT(t, 2);
    fv_fail(context, FV_ERROR_NUMERIC, "something earlier");
    assert_int_equal(fv_op_relu(t, x).id, 0);
    assert_int_equal(fv_op_scalar(t, 1).id, 0);
    assert_int_equal(fv_backward(t, x), FV_ERROR_NUMERIC);
    assert_int_equal(fv_keep(t, x), FV_ERROR_NUMERIC);
    assert_null(fv_tape_new(context));
    assert_null(fv_tape_copy(t));
    assert_string_equal(fv_error(context), "something earlier");
    fv_clear_error(context);
    assert_int_equal(t->operation_count, 0);
}

/* Random attributes, arities, types and shapes: infer says yes or no, and what it accepts is whole. */
static void random_shapes_never_crash(void **state) {
    (void)state;
    fv_random r = fv_random_make(4, 1);
    static const int64_t sizes[] = { 1, 1, 2, 3, 4, 6, 64, 1000, INT32_MAX, 1ll << 40 };
    int64_t accepted = 0, refused = 0;
    for (int op = 1; op < FV_OP_COUNT; op++)
        for (int round = 0; round < 3000; round++) {
            fv_shape shape[10], output[FV_OUTPUTS_MOST];
            const fv_shape *input[10];
            fv_type type[10], output_type[FV_OUTPUTS_MOST];
            fv_attributes a = { 0 };
            uint32_t *word = (uint32_t *)(void *)&a;
            for (size_t i = 0; i < sizeof a / 4; i++) word[i] = fv_random_below(&r, 3) ? fv_random_below(&r, 4) : fv_random_u32(&r);
            if (round % 3 == 0) memset(&a, 0, sizeof a);
            const int32_t count = (int32_t)fv_random_below(&r, 11);
            for (int i = 0; i < count; i++) {
                int64_t dims[FV_RANK];
                const int rank = (int)fv_random_below(&r, 7);
                for (int d = 0; d < rank; d++) dims[d] = sizes[fv_random_below(&r, round % 2 ? 4 : 10)];
                if (fv_shape_make(context, "a test", rank, dims, &shape[i])) shape[i] = (fv_shape){ 0 };
                fv_clear_error(context);
                if (i && fv_random_below(&r, 2)) shape[i] = shape[i - 1];
                type[i] = (fv_type)(fv_random_below(&r, 4) ? 0 : fv_random_below(&r, 5));
                input[i] = fv_random_below(&r, 8) ? &shape[i] : NULL;
            }
            fv_signature s = { .context = context, .layer = round % 2 ? "l" : NULL, .op = (fv_op)op, .attributes = &a, .input_count = count,
                               .input = input, .input_type = type, .output = output, .output_type = output_type };
            const int status = fv_op_infer(&s);
            assert_true(status <= 0 && !fv_error(context) == !status);
            fv_clear_error(context);
            status ? refused++ : accepted++;
            for (int o = 0; !status && o < fv_op_table[op]->outputs; o++)
                for (int d = 0; d < output[o].rank; d++) assert_true(output[o].dim[d] >= 1);
            fv_cost cost;
            if (!status) fv_op_cost(&s, &cost), assert_true(cost.flops >= 0 && cost.bytes >= 0);
        }
    assert_true(accepted > 3000 && refused > 3000);
}

/* ---- Descriptions -------------------------------------------------------------------------------------------------- */

static void descriptions_are_consistent(void **state) {
    (void)state;
    assert_null(fv_op_table[FV_OP_NONE]);
    for (int op = 1; op < FV_OP_COUNT; op++) {
        const fv_op_desc *d = fv_op_table[op];
        assert_string_equal(d->name, fv_op_name((fv_op)op));
        assert_non_null(d->infer);
        assert_non_null(d->layout);
        assert_true(!(d->flags & FV_FUSED) == !d->expand);
        assert_true(!(d->flags & FV_FUSED) || !d->gradient); /* fusion comes after differentiation */
        assert_true(!(d->flags & FV_WRITES) == !d->writes[0]);
        for (int o = 0; o < 3; o++) assert_true(d->writes[o] <= d->least && (!d->writes[o] || o < d->outputs));
        assert_true(!d->may_share || d->flags & FV_SAME_SHAPE);
        assert_true(!(d->may_share >> d->least));
        assert_true((d->most < 0 || !(d->optional >> d->most)) && !(d->optional & 1));
    }
    assert_int_equal(FV_OP_conv2d, 1);
    assert_string_equal(fv_op_name((fv_op)-1), "none");
    assert_true(fv_op_checksum() != 0);
}

/* Padding and members of other operations do not survive the copy. */
static void attributes_are_copied_by_member(void **state) {
    (void)state;
    for (int op = 1; op < FV_OP_COUNT; op++) {
        fv_attributes ones, copy;
        memset(&ones, 1, sizeof ones);
        memset(&copy, 2, sizeof copy);
        fv_op_attributes_copy((fv_op)op, &copy, &ones);
        const fv_attribute_layout *layout = fv_op_table[op]->layout;
        const unsigned char *bytes = (const unsigned char *)&copy;
        for (size_t b = 0; b < sizeof copy; b++) {
            bool declared = false;
            for (int i = 0; i < layout->count; i++) {
                const fv_field *f = &layout->field[i];
                declared |= b >= f->offset && b < f->offset + (f->kind == FV_FIELD_I64 ? 8u : 4u) * f->count;
            }
            assert_int_equal(bytes[b], declared);
        }
    }
    char text[128], tiny[6];
    fv_attributes a = { .conv = { .stride = { 2, 2 }, .dilation = { 1, 1 }, .pad = { 1, 0, 1, 0 }, .groups = 1, .activation = FV_TANH } };
    assert_string_equal(fv_op_attributes_text(FV_OP_conv2d_bias_activation, &a, text, sizeof text), "stride 2 pad 1,0,1,0 activation tanh");
    assert_string_equal(fv_op_attributes_text(FV_OP_conv2d_bias_activation, &a, tiny, sizeof tiny), "strid");
    assert_string_equal(fv_op_attributes_text(FV_OP_relu, &a, text, sizeof text), "");
    a = (fv_attributes){ .reduce = { 5, 1 } };
    assert_string_equal(fv_op_attributes_text(FV_OP_sum, &a, text, sizeof text), "axes 0,2 keep_dims 1");
    a = (fv_attributes){ .cast = { FV_BF16 } };
    assert_string_equal(fv_op_attributes_text(FV_OP_cast, &a, text, sizeof text), "type bf16");
    a = (fv_attributes){ .slice = { { 0, 3 }, { 2, 5 } } };
    assert_string_equal(fv_op_attributes_text(FV_OP_slice, &a, text, sizeof text), "begin 0,3 size 2,5");
}

/* What a fused operation stands for has outputs of the same shapes. */
static void expansions_fit(void **state) {
    (void)state;
    fv_value b = { 0 }, values[6];
    for (int op = 1; op < FV_OP_COUNT; op++) {
        if (!(fv_op_table[op]->flags & FV_FUSED)) continue;
        for (int with_bias = 0; with_bias < 2; with_bias++) {
            fv_tape *t = fv_tape_new(context);
            fv_attributes a = { 0 };
            const fv_value x = INPUT(t, 4, 6, 6, 8), c = INPUT(t, 8), none = { 0 };
            b = with_bias ? c : none;
            int count = fv_op_table[op]->least;
            switch (op) {
            case FV_OP_conv2d_bias_activation:
                a.conv.activation = FV_RELU;
                memcpy(values, ((fv_value[]){ x, INPUT(t, 8, 3, 3, 8), b }), sizeof values[0] * 3);
                break;
            case FV_OP_dense_bias_activation:
                a.dense.activation = FV_SIGMOID;
                memcpy(values, ((fv_value[]){ x, INPUT(t, 8, 8), b }), sizeof values[0] * 3);
                break;
            case FV_OP_batch_norm_activation_gradient:
                a.norm.activation = FV_TANH;
                memcpy(values, ((fv_value[]){ x, x, x, b, c, c }), sizeof values[0] * 6);
                break;
            case FV_OP_softmax_cross_entropy_train:
                memcpy(values, ((fv_value[]){ INPUT(t, 4, 10), LABELS(t, 4), INPUT(t, 4) }), sizeof values[0] * 3);
                break;
            default:
                a.norm.activation = FV_RELU;
                memcpy(values, ((fv_value[]){ x, b, b, c, c }), sizeof values[0] * 5);
            }
            const int32_t fused = fv_tape_append(t, (fv_op)op, &a, values, count), before = t->operation_count;
            if (fused < 0) fail_msg("%s: %s", fv_op_name((fv_op)op), fv_error(context));
            const fv_attributes completed = t->operation[fused].attributes;
            fv_value expanded[FV_OUTPUTS_MOST];
            assert_int_equal(fv_op_table[op]->expand(t, &completed, values, count, expanded), FV_OK);
            for (int o = 0; o < fv_op_table[op]->outputs; o++)
                assert_true(fv_shape_equal(fv_shape_of(t, fv_tape_output(t, fused, o)), fv_shape_of(t, expanded[o])));
            assert_true(t->operation_count > before);
            for (int32_t i = before; i < t->operation_count; i++) assert_false(fv_op_table[t->operation[i].op]->flags & FV_FUSED);
            assert_ssa(t);
            fv_tape_free(t);
        }
    }
}

/* ---- Recording ----------------------------------------------------------------------------------------------------- */

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

/* ---- Gradients ----------------------------------------------------------------------------------------------------- */

typedef struct small_net { fv_tape *tape; fv_value x, c1, b1, c2, b2, w, logits, loss; } small_net;

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
        const fv_tape_value *p = fv_tape_value_of(n.tape, parameters[i]), *g = fv_tape_value_of(n.tape, fv_gradient(n.tape, parameters[i]));
        assert_int_equal(g->kind, FV_VALUE_TEMPORARY);
        assert_int_equal(g->region, FV_GRADIENTS);
        assert_true(g->offset == p->offset && g->store == &store && fv_shape_equal(&g->shape, &p->shape));
    }
    assert_int_equal(count_of(n.tape, FV_OP_copy), 0); /* placed where they are made */
    assert_int_equal(count_of(n.tape, FV_OP_broadcast) + count_of(n.tape, FV_OP_affine), 0); /* the mean's gradient is a constant */
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
    assert_ssa(t);
}

/* The operations that the small net has not, each once, in whatever order fits. */
static fv_tape *record_zoo(void) {
    fv_tape *t = fv_tape_new(context);
    const fv_value control = control_of(t), none = { 0 };
    fv_attributes norm = { .norm = { .epsilon = 1e-3f, .momentum = 0.9f } }, lrn = { .lrn = { 5, 1e-4f, 0.75f, 2 } };
    fv_attributes pool = { .pool = { .kernel = { 2, 2 } } }, drop = { .random = { .rate = 0.5f } }, one = { .axis = { 1 } };
    fv_attributes pad = { .pad = { { 0, 1 }, { 0, 2 } } }, smooth = { .loss = { 0.1f } }, type = { .cast = { FV_U8 } };
    fv_value c = WEIGHT(t, 4), mean = FROZEN(t, 4), x = conv(t, INPUT(t, 2, 9, 9, 4), WEIGHT(t, 4, 3, 3, 2), 1, 1, 2, 1, 1, 1, 1);
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
    FV_APPLY(t, FV_OP_commit, NULL, control, region_of(t, FV_STATISTICS, FV_F32, 64), region_of(t, FV_NEXT_STATISTICS, FV_F32, 64), mean);
    fv_attributes reduce = { .reduce = { 2, 0 } }, wide = { .shape = { 3, { 3, 2, 20 } } };
    fv_value loss = fv_op_mean(t, FV_APPLY(t, FV_OP_cross_entropy, &smooth, fv_op_softmax(t, x, 1), LABELS(t, 2)));
    loss = fv_op_add(t, loss, fv_op_mean(t, fv_op_mean_squared_error(t, x, fv_op_tanh(t, x))));
    loss = fv_op_add(t, loss, fv_op_mean(t, FV_APPLY(t, FV_OP_broadcast, &wide, x)));
    loss = fv_op_add(t, loss, fv_op_sum(t, FV_APPLY(t, FV_OP_max, &reduce, x), NULL, 0, false));
    loss = fv_op_add(t, loss, fv_op_sum(t, FV_APPLY(t, FV_OP_mean, &reduce, x), NULL, 0, false));
    loss = fv_op_add(t, loss, FV_APPLY(t, FV_OP_sum_abs, NULL, c));
    loss = fv_op_add(t, loss, fv_op_sum(t, FV_APPLY(t, FV_OP_softmax, &one, x), NULL, 0, false));
    fv_backward(t, loss);
    return t;
}

static void every_gradient_is_appended(void **state) {
    (void)state;
    fv_tape *t = record_zoo();
    assert_null(fv_error(context));
    assert_ssa(t);
    static const fv_op gradients[] = {
        FV_OP_conv2d_weight_gradient, FV_OP_batch_norm_gradient, FV_OP_batch_norm_infer_gradient, FV_OP_lrn_gradient,
        FV_OP_sigmoid_gradient, FV_OP_avg_pool2d_gradient, FV_OP_log_softmax_gradient, FV_OP_softmax_gradient, FV_OP_tanh_gradient,
        FV_OP_cross_entropy_gradient, FV_OP_mean_squared_error_gradient, FV_OP_max_gradient };
    for (size_t i = 0; i < sizeof gradients / sizeof *gradients; i++)
        if (!count_of(t, gradients[i])) fail_msg("no %s", fv_op_name(gradients[i]));
    assert_int_equal(count_of(t, FV_OP_mean_squared_error_gradient), 2); /* of both sides */
    assert_int_equal(count_of(t, FV_OP_sign), 2);
    assert_int_equal(count_of(t, FV_OP_broadcast), 1); /* the forward one: gradients of means are constants */
    for (int32_t v = 1; v < t->gradient_count; v++) /* every trainable weight is reached */
        assert_true(t->value[v].kind != FV_VALUE_STATE || !t->value[v].needs_gradient || t->gradient[v]);
}

/* ---- A whole step, hashes, dumps ------------------------------------------------------------------------------------- */

/* Forward, backward and the optimiser, as fv_fit records them. */
static small_net record_step(float rate) {
    small_net n = record_small_net(false, false);
    fv_tape *t = n.tape;
    fv_backward(t, n.loss);
    const fv_value none = { 0 }, control = control_of(t);
    const fv_value gradients[] = { fv_gradient(t, n.c1), fv_gradient(t, n.b1), fv_gradient(t, n.c2), fv_gradient(t, n.b2), fv_gradient(t, n.w) };
    fv_value inputs[16] = { control, n.loss };
    memcpy(inputs + 2, gradients, sizeof gradients);
    const int32_t check = fv_tape_append(t, FV_OP_check_gradients, NULL, inputs, 7);
    if (check < 0) return n;
    fv_attributes a = { .update = { .kind = FV_OPTIMIZER_SGD, .value = { [FV_RATE] = rate, [FV_MOMENTUM] = 0.9f } } };
    const fv_value update[] = { fv_tape_output(t, check, 0), none, region_of(t, FV_SEGMENTS, FV_U8, 160), none,
                                region_of(t, FV_GRADIENTS, FV_F32, next_offset), region_of(t, FV_PARAMETERS, FV_F32, next_offset),
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
            case 4: memcpy((int32_t *)(void *)&a + fv_random_below(&r, sizeof a / 4), &odd[fv_random_below(&r, 8)], 4); break;
            }
            fv_signature s = { .context = context, .op = o->op, .attributes = &a, .input_count = o->input_count, .input = input,
                               .input_type = type, .output = output, .output_type = output_type };
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
    assert_true(w->kind == FV_VALUE_STATE && w->region == FV_PARAMETERS && w->previous == t->operand[update->input + 5]);
    assert_true(slot->kind == FV_VALUE_STATE && slot->region == FV_SLOT0 && slot->previous == t->operand[update->input + 6]);
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
    assert_refused(fv_tape_apply(t, FV_OP_sgd_update, &a, inputs, 8), ARGUMENT, "not SGD");
    assert_refused(FV_APPLY(t, FV_OP_advance, NULL, ((fv_value){ t->operand[t->operation[0].input] })), ARGUMENT, "control block");
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
    assert_non_null(strstr(text, "= conv2d(%1 input [4, 12, 12, 1], %2 parameters+0 [6, 3, 3, 1]) stride 1 layer c1\n"));
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
    fv_tape_label(n.tape, "a \"quoted\\\" {name}\n");
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

/* ---- Memory -------------------------------------------------------------------------------------------------------- */

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

#define TEST(name) cmocka_unit_test_setup_teardown(name, open_context, close_context)
int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(window_counts), TEST(window_extremes), TEST(window_padding),
        TEST(golden_sizes), TEST(convolution_shapes), TEST(pooling_shapes), TEST(broadcasting_shapes), TEST(other_shapes),
        TEST(refused_convolutions), TEST(refused_others), TEST(broken_tapes_do_nothing), TEST(random_shapes_never_crash),
        TEST(descriptions_are_consistent), TEST(attributes_are_copied_by_member), TEST(expansions_fit),
        TEST(constants_are_one_value), TEST(states_have_versions), TEST(labels_are_kept_once),
        TEST(only_wanted_gradients), TEST(contributions_are_added_in_order), TEST(gradients_are_placed), TEST(loss_is_checked),
        TEST(inputs_can_be_watched), TEST(undifferentiable_operations_stop), TEST(gradients_of_penalties_and_dropout), TEST(every_gradient_is_appended),
        TEST(damaged_operations_never_crash), TEST(updates_write_states), TEST(hashes_tell_tapes_apart), TEST(tapes_are_printed), TEST(graphs_are_whole),
        TEST(allocations_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
