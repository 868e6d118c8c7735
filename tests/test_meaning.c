/* test_meaning.c - what operations mean, without running them: sizes of windows and shapes against formulas and
 * counting, the sentences with which they refuse, descriptions that do not contradict themselves. */
#include "support/recording.h"
#include <math.h>

/* ---- Windows ----------------------------------------------------------------------------------------------------- */

/* Counting, as one would with a pencil. */
static int64_t count_windows(int64_t in, int64_t before, int64_t after, int64_t kernel, int64_t dilation,
                             int64_t stride, bool ceil_mode) {
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
                    if (pad[1])
                        assert_true(fv_window_count(in, pad[0], pad[1] - 1, kernel, dilation, stride, false) < out);
                    fv_window_padding(FV_FULL, in, kernel, dilation, 1, pad);
                    assert_int_equal(fv_window_count(in, pad[0], pad[1], kernel, dilation, 1, false),
                                     in + dilation * (kernel - 1));
                }
    fv_window_padding(FV_VALID, 9, 3, 1, 1, pad);
    assert_true(!pad[0] && !pad[1]);
    fv_window_padding(4, 9, 3, 1, 1, pad);
    assert_true(pad[0] == 4 && pad[1] == 4);
}

/* ---- Shapes ------------------------------------------------------------------------------------------------------ */

static fv_value conv_padded(fv_tape *t, int64_t size, int64_t kernel, int32_t padding) {
    int32_t pad[2];
    fv_window_padding(padding, size, kernel, 1, 1, pad);
    return conv(t, INPUT(t, 1, size, size, 3), WEIGHT(t, 2, kernel, kernel, 3), 1, 1, 1, pad[0], pad[1], pad[0],
                pad[1]);
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
        const int64_t groups = 1 + fv_random_below(&r, 3), c = groups * (1 + fv_random_below(&r, 3)),
                      k = groups * (1 + fv_random_below(&r, 4));
        const int64_t n = 1 + fv_random_below(&r, 4), kh = 1 + fv_random_below(&r, 5), kw = 1 + fv_random_below(&r, 5);
        const int stride = 1 + (int)fv_random_below(&r, 3), dilation = 1 + (int)fv_random_below(&r, 2);
        int pad[4];
        for (int i = 0; i < 4; i++) pad[i] = (int)fv_random_below(&r, 6);
        const int64_t h = dilation * (kh - 1) + 1 + fv_random_below(&r, 8),
                      w = dilation * (kw - 1) + 1 + fv_random_below(&r, 8);
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
        /* The gradients multiply as often; that of the data may be a transposed convolution of a net, and counts as one. */
        for (int32_t i = 0; i < t->operation_count; i++) {
            const fv_op op = t->operation[i].op;
            if (op != FV_OP_conv2d_data_gradient && op != FV_OP_conv2d_weight_gradient) continue;
            fv_cost backward;
            assert_int_equal(fv_tape_cost(t, i, &backward), FV_OK);
            assert_true(backward.flops == cost.flops);
            assert_true(backward.macs == (op == FV_OP_conv2d_data_gradient ? cost.macs : 0));
        }
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
            for (int side = 0; side < 2; side++)
                a.pool.pad[2 * i + side] = (int)fv_random_below(&r, (uint32_t)a.pool.kernel[i]);
            size[i] = a.pool.kernel[i] + fv_random_below(&r, 9);
            out[i] = count_windows(size[i], a.pool.pad[2 * i], a.pool.pad[2 * i + 1], a.pool.kernel[i], 1,
                                   a.pool.stride[i] ? a.pool.stride[i] : a.pool.kernel[i], a.pool.ceil_mode);
        }
        fv_value x = WEIGHT(t, 2, size[0], size[1], 3);
        int32_t max = fv_tape_append(t, FV_OP_max_pool2d, &a, &x, 1),
                mean = fv_tape_append(t, FV_OP_avg_pool2d, &a, &x, 1);
        assert_true(max >= 0 && mean >= 0);
        assert_shape(t, fv_tape_output(t, max, 0), 2, out[0], out[1], 3);
        assert_shape(t, fv_tape_output(t, max, 1), 2, out[0], out[1], 3);
        assert_shape(t, fv_tape_output(t, mean, 0), 2, out[0], out[1], 3);
        assert_int_equal(fv_tape_value_of(t, fv_tape_output(t, max, 1))->type,
                         a.pool.kernel[0] * a.pool.kernel[1] > 255 ? FV_I32 : FV_U8);
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

/* ---- Refusals ---------------------------------------------------------------------------------------------------- */

static void refused_convolutions(void **state) {
    (void)state;
    fv_tape *t = fv_tape_new(context);
    fv_tape_label(t, "c3");
    fv_value x = INPUT(t, 4, 3, 3, 6), w = WEIGHT(t, 16, 5, 5, 6);
    assert_refused(conv(t, x, w, 1, 1, 1, 0, 0, 0, 0), SHAPE, "conv2d c3: ", "larger", "[16, 5, 5, 6]", "[4, 3, 3, 6]",
                   "0,0,0,0");
    assert_refused(conv(t, x, w, 1, 1, 4, 9, 9, 9, 9), SHAPE, "4 groups", "[4, 3, 3, 6]");
    assert_refused(conv(t, x, w, 1, 1, 2, 9, 9, 9, 9), SHAPE, "reads 6 channels", "has 3 a group");
    assert_refused(conv(t, x, WEIGHT(t, 16, 5, 5, 3), 1, 1, 1, 9, 9, 9, 9), SHAPE, "[16, 5, 5, 3]", "reads 3 channels",
                   "has 6");
    assert_refused(conv(t, x, WEIGHT(t, 15, 1, 1, 3), 1, 1, 2, 0, 0, 0, 0), SHAPE, "2 groups", "[15, 1, 1, 3]");
    assert_refused(conv(t, x, w, -2, 1, 1, 2, 2, 2, 2), ARGUMENT, "stride", "-2");
    assert_refused(conv(t, x, w, 1, -1, 1, 2, 2, 2, 2), ARGUMENT, "dilation");
    assert_refused(conv(t, x, w, 1, 1, -1, 2, 2, 2, 2), ARGUMENT, "groups");
    assert_refused(conv(t, x, w, 1, 1, 1, -2, 2, 2, 2), ARGUMENT, "padding");
    assert_refused(conv(t, INPUT(t, 4, 9), w, 1, 1, 1, 0, 0, 0, 0), SHAPE, "[batch, height, width, channels]",
                   "[4, 9]");
    assert_refused(conv(t, x, WEIGHT(t, 16, 6), 1, 1, 1, 0, 0, 0, 0), SHAPE, "kernel", "[16, 6]");
    assert_refused(conv(t, fv_op_input(t, DIMS(4, 9, 9, 6), FV_U8), w, 1, 1, 1, 0, 0, 0, 0), ARGUMENT, "f32", "u8");
    assert_refused(conv(t, (fv_value){ 0 }, w, 1, 1, 1, 0, 0, 0, 0), ARGUMENT, "input 0");
    assert_refused(conv(t, (fv_value){ 9999 }, w, 1, 1, 1, 0, 0, 0, 0), ARGUMENT, "input 0",
                   "not a value of this tape");
    fv_attributes a = { .conv = { .shape = { 4, 3, 3, 6 }, .pad = { 2, 2, 2, 2 } } };
    assert_refused(FV_APPLY(t, FV_OP_conv2d_data_gradient, &a, INPUT(t, 4, 9, 9, 16), w), SHAPE, "output's gradient",
                   "[4, 9, 9, 16]", "[4, 3, 3, 16]");
    a.conv.shape[0] = 0;
    assert_refused(FV_APPLY(t, FV_OP_conv2d_data_gradient, &a, INPUT(t, 4, 3, 3, 16), w), SHAPE, "[0, 3, 3, 6]");
    a = (fv_attributes){ .conv = { .activation = FV_SOFTMAX } };
    assert_refused(FV_APPLY(t, FV_OP_conv2d_bias_activation, &a, INPUT(t, 4, 9, 9, 6), w, ((fv_value){ 0 })), ARGUMENT,
                   "activation 4");
    a.conv.activation = FV_RELU;
    assert_refused(FV_APPLY(t, FV_OP_conv2d_bias_activation, &a, INPUT(t, 4, 9, 9, 6), w, WEIGHT(t, 15)), SHAPE, "bias",
                   "[16]", "[15]");
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
    assert_refused(fv_op_slice(t, flat, (int64_t[]){ 0, 4 }, (int64_t[]){ 2, 7 }), SHAPE, "7 elements from 4", "axis 1",
                   "[2, 10]");
    assert_refused(fv_op_slice(t, flat, (int64_t[]){ 0, INT64_MAX }, (int64_t[]){ 2, INT64_MAX }), SHAPE, "axis 1");
    assert_refused(fv_op_slice(t, flat, NULL, NULL), SHAPE, "0 elements");
    assert_refused(fv_op_concat(t, FV_VALUES(x, flat), 0), SHAPE, "[2, 8, 8, 3]", "[2, 10]");
    assert_refused(fv_op_concat(t, FV_VALUES(flat, INPUT(t, 3, 10)), 1), SHAPE, "[3, 10]", "axis 1");
    assert_refused(fv_op_concat(t, FV_VALUES(flat), 4), SHAPE, "axis 4");
    assert_refused(fv_op_concat(t, (fv_values){ NULL, 3 }, 0), ARGUMENT, "0 inputs", "at least 1");
    assert_refused(fv_op_softmax_cross_entropy(t, flat, LABELS(t, 3), 0), SHAPE, "softmax_cross_entropy: ", "i32 [3]",
                   "[2, 10]", "i32 [2]");
    assert_refused(fv_op_softmax_cross_entropy(t, flat, INPUT(t, 2, 9), 0), SHAPE, "f32 [2, 9]");
    assert_refused(fv_op_softmax_cross_entropy(t, x, LABELS(t, 2), 0), SHAPE, "i32 [2]", "i32 [2, 8, 8]");
    assert_refused(fv_op_softmax_cross_entropy(t, LABELS(t, 2), LABELS(t, 2), 0), ARGUMENT, "must be f32");
    assert_refused(fv_op_softmax_cross_entropy(t, flat, LABELS(t, 2), 1.5f), ARGUMENT, "smoothing", "1.5");
    assert_refused(fv_op_softmax_cross_entropy(t, flat, LABELS(t, 2), NAN), ARGUMENT, "smoothing", "not a number");
    assert_refused(fv_op_mean_squared_error(t, flat, INPUT(t, 2, 9)), SHAPE, "[2, 9]", "[2, 10]");
    a = (fv_attributes){ .norm = { .epsilon = 1e-3f, .momentum = 0.9f } };
    fv_value c3 = WEIGHT(t, 3), c4 = WEIGHT(t, 4);
    assert_refused(FV_APPLY(t, FV_OP_batch_norm_infer, &a, x, c4, c3, c3, c3), SHAPE, "gamma", "[3]", "[4]",
                   "[2, 8, 8, 3]");
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
    assert_true(fv_backward(NULL, (fv_value){ 1 }) < 0 && fv_keep(NULL, (fv_value){ 1 }) < 0 &&
                fv_watch(NULL, (fv_value){ 1 }) < 0);
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
            for (size_t i = 0; i < sizeof a / 4; i++)
                word[i] = fv_random_below(&r, 3) ? fv_random_below(&r, 4) : fv_random_u32(&r);
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
            fv_signature s = { .context = context,
                               .layer = round % 2 ? "l" : NULL,
                               .op = (fv_op)op,
                               .attributes = &a,
                               .input_count = count,
                               .input = input,
                               .input_type = type,
                               .output = output,
                               .output_type = output_type };
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

/* ---- Descriptions ------------------------------------------------------------------------------------------------ */

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
        for (int o = 0; o < 4; o++) assert_true(d->writes[o] <= d->least && (!d->writes[o] || o < d->outputs));
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
    fv_attributes a = {
        .conv = { .stride = { 2, 2 }, .dilation = { 1, 1 }, .pad = { 1, 0, 1, 0 }, .groups = 1, .activation = FV_TANH }
    };
    assert_string_equal(fv_op_attributes_text(FV_OP_conv2d_bias_activation, &a, text, sizeof text),
                        "stride 2 pad 1,0,1,0 activation tanh");
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
            case FV_OP_conv2d_transpose_bias_activation:
                a.conv.activation = FV_TANH;
                memcpy(a.conv.shape, (int64_t[]){ 4, 8, 8, 8 }, sizeof a.conv.shape);
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
            default: a.norm.activation = FV_RELU; memcpy(values, ((fv_value[]){ x, b, b, c, c }), sizeof values[0] * 5);
            }
            const int32_t fused = fv_tape_append(t, (fv_op)op, &a, values, count), before = t->operation_count;
            if (fused < 0) fail_msg("%s: %s", fv_op_name((fv_op)op), fv_error(context));
            const fv_attributes completed = t->operation[fused].attributes;
            fv_value expanded[FV_OUTPUTS_MOST];
            assert_int_equal(fv_op_table[op]->expand(t, &completed, values, count, expanded), FV_OK);
            for (int o = 0; o < fv_op_table[op]->outputs; o++)
                assert_true(fv_shape_equal(fv_shape_of(t, fv_tape_output(t, fused, o)), fv_shape_of(t, expanded[o])));
            assert_true(t->operation_count > before);
            for (int32_t i = before; i < t->operation_count; i++)
                assert_false(fv_op_table[t->operation[i].op]->flags & FV_FUSED);
            assert_ssa(t);
            fv_tape_free(t);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(window_counts),
        TEST(window_extremes),
        TEST(window_padding),
        TEST(golden_sizes),
        TEST(convolution_shapes),
        TEST(pooling_shapes),
        TEST(broadcasting_shapes),
        TEST(other_shapes),
        TEST(refused_convolutions),
        TEST(refused_others),
        TEST(broken_tapes_do_nothing),
        TEST(random_shapes_never_crash),
        TEST(descriptions_are_consistent),
        TEST(attributes_are_copied_by_member),
        TEST(expansions_fit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
