/* test_relations.c - relations that hold whatever the numbers are: convolution moves with its image and is linear,
 * gradients are adjoints, groups are blocks, batch norm forgets scale and shift, and the like. They need no oracle,
 * so they judge the reference as well as the fast kernels. Problems are lines as in test_operations.c; some of their
 * values are set here. */
#include "support/operations.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static fv_context *oracle, *device; /* device: the one that a test runs on */

/* ---- Small experiments ------------------------------------------------------------------------------------------- */

static problem *problem_of(const char *text, uint64_t seed) {
    problem *p;
    if (problem_make(oracle, text, seed, false, &p)) fail_msg("%s: %s", text, p->error);
    return p;
}

static int64_t elements_in(const problem *p, int i) { return fv_shape_elements(&p->input[i].shape); }
static int64_t elements_out(const problem *p) { return fv_shape_elements(&p->output[0].shape); }

/* Output 0 (the caller's); the others are freed. */
static double *run(const problem *p) {
    double *result[MOST_OUTPUTS] = { 0 };
    char why[1200];
    if (run_problem(device, NULL, p, result, why) != RAN)
        fail_msg("%s on %s: %s", p->text, fv_device_name(device), why);
    double *first = result[0];
    result[0] = NULL;
    free_results(result);
    return first;
}

static void set_input(problem *p, int i, const double *value) {
    memcpy(p->input[i].value, value, (size_t)elements_in(p, i) * sizeof *value);
}

static double *at4(double *value, const fv_shape *s, int64_t n, int64_t h, int64_t w, int64_t c) {
    return &value[((n * s->dim[1] + h) * s->dim[2] + w) * s->dim[3] + c];
}

static void assert_close(const char *what, const double *a, const double *b, int64_t count, double within) {
    for (int64_t i = 0; i < count; i++)
        if (!(fabs(a[i] - b[i]) <= within))
            fail_msg("%s on %s: element %lld is %.9g and %.9g", what, fv_device_name(device), (long long)i, a[i], b[i]);
}

static double dot(const double *a, const double *b, int64_t count) {
    double sum = 0;
    for (int64_t i = 0; i < count; i++) sum += a[i] * b[i];
    return sum;
}

/* ---- Convolution ------------------------------------------------------------------------------------------------- */

/* An image moved by (2, 1) gives an output moved by (2, 1), bit for bit where both see the same cells. */
static void convolution_moves_with_its_image(void **state) {
    problem *p = problem_of("conv2d n2 h9 w8 c3 k5 r3 s3", 1), *moved = problem_of("conv2d n2 h9 w8 c3 k5 r3 s3", 1);
    const fv_shape *x = &p->input[0].shape, *y = &p->output[0].shape;
    for (int64_t n = 0; n < 2; n++)
        for (int64_t h = 0; h < 9; h++)
            for (int64_t w = 0; w < 8; w++)
                for (int64_t c = 0; c < 3; c++)
                    *at4(moved->input[0].value, x, n, h, w, c) =
                        h < 2 || w < 1 ? 0 : *at4(p->input[0].value, x, n, h - 2, w - 1, c);
    double *a = run(p), *b = run(moved);
    for (int64_t n = 0; n < 2; n++)
        for (int64_t h = 2; h < y->dim[1]; h++)
            for (int64_t w = 1; w < y->dim[2]; w++)
                for (int64_t k = 0; k < 5; k++)
                    assert_true(fabs(*at4(b, y, n, h, w, k) - *at4(a, y, n, h - 2, w - 1, k)) < 1e-5);
    free(a), free(b), problem_free(p), problem_free(moved);
}

static void convolution_is_linear(void **state) {
    static const char line[] = "conv2d n2 h7 w6 c5 k9 r3 s3 stride2 pad1";
    problem *p = problem_of(line, 1), *q = problem_of(line, 2), *both = problem_of(line, 1);
    set_input(q, 1, p->input[1].value);
    for (int64_t i = 0; i < elements_in(p, 0); i++)
        both->input[0].value[i] = (float)(0.5 * p->input[0].value[i] - 2 * q->input[0].value[i]);
    double *a = run(p), *b = run(q), *sum = run(both);
    for (int64_t i = 0; i < elements_out(p); i++) a[i] = 0.5 * a[i] - 2 * b[i];
    assert_close("linear in x", a, sum, elements_out(p), 2e-5);
    free(a), free(b), free(sum), problem_free(p), problem_free(q), problem_free(both);
}

/* A kernel with a single 1 cuts a window out of the image, exactly. */
static void one_hot_kernel_is_a_crop(void **state) {
    problem *p = problem_of("conv2d n2 h7 w6 c4 k4 r3 s3", 3);
    memset(p->input[1].value, 0, (size_t)elements_in(p, 1) * sizeof(double));
    for (int64_t k = 0; k < 4; k++) *at4(p->input[1].value, &p->input[1].shape, k, 2, 1, k) = 1;
    double *y = run(p);
    const fv_shape *shape = &p->output[0].shape;
    for (int64_t n = 0; n < 2; n++)
        for (int64_t h = 0; h < shape->dim[1]; h++)
            for (int64_t w = 0; w < shape->dim[2]; w++)
                for (int64_t k = 0; k < 4; k++)
                    assert_true(*at4(y, shape, n, h, w, k) ==
                                *at4(p->input[0].value, &p->input[0].shape, n, h + 2, w + 1, k));
    free(y), problem_free(p);
}

/* <conv(x, w), dy> = <x, data gradient(dy, w)> = <w, weight gradient(x, dy)>, with every option. */
static void gradients_are_adjoint(void **state) {
    static const char *const words[] = {
        "n2 h9 w7 c3 k8 r3 s3 stride2 pad1,0", "n1 h8 w9 c4 k6 r3 s2 groups2 dilation2,1 pad0,2,1,3",
        "n2 h6 w5 c5 k5 r3 s3 groups5 pad1",   "n1 h7 w7 c2 k3 r3 s3 flip stride3,2 pad2",
        "n1 h4 w4 c3 k2 r2 s2 pad4",
    };
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        char line[3][PROBLEM_TEXT];
        snprintf(line[0], PROBLEM_TEXT, "conv2d %s", words[i]);
        snprintf(line[1], PROBLEM_TEXT, "conv2d_data_gradient %s", words[i]);
        snprintf(line[2], PROBLEM_TEXT, "conv2d_weight_gradient %s", words[i]);
        problem *p = problem_of(line[0], 4), *data = problem_of(line[1], 4), *weight = problem_of(line[2], 4);
        double *y = run(p), *dx = run(data), *dw = run(weight);
        const double there = dot(y, data->input[0].value, elements_out(p));
        assert_true(fabs(there - dot(dx, p->input[0].value, elements_in(p, 0))) < 1e-4);
        assert_true(fabs(there - dot(dw, p->input[1].value, elements_in(p, 1))) < 1e-4);
        free(y), free(dx), free(dw), problem_free(p), problem_free(data), problem_free(weight);
    }
}

/* Groups are one convolution whose filters are zero outside their own channels. */
static void groups_are_blocks(void **state) {
    problem *grouped = problem_of("conv2d n2 h6 w7 c6 k9 r3 s3 pad1 groups3", 5),
            *block = problem_of("conv2d n2 h6 w7 c6 k9 r3 s3 pad1", 5);
    set_input(block, 0, grouped->input[0].value);
    memset(block->input[1].value, 0, (size_t)elements_in(block, 1) * sizeof(double));
    for (int64_t k = 0; k < 9; k++)
        for (int64_t r = 0; r < 3; r++)
            for (int64_t s = 0; s < 3; s++)
                for (int64_t c = 0; c < 2; c++)
                    *at4(block->input[1].value, &block->input[1].shape, k, r, s, k / 3 * 2 + c) =
                        *at4(grouped->input[1].value, &grouped->input[1].shape, k, r, s, c);
    double *a = run(grouped), *b = run(block);
    assert_close("groups", a, b, elements_out(grouped), 1e-5);
    free(a), free(b), problem_free(grouped), problem_free(block);
}

/* Padding by the operation pad, then none = padding within the convolution. */
static void padding_first_is_the_same(void **state) {
    problem *padded = problem_of("conv2d n2 h5 w6 c3 k4 r3 s3 pad2,1,0,3", 6),
            *pad = problem_of("pad x2,5,6,3 before0,2,0,0 after0,1,3,0", 6);
    problem *valid = problem_of("conv2d n2 h8 w9 c3 k4 r3 s3", 6);
    set_input(pad, 0, padded->input[0].value);
    double *larger = run(pad);
    set_input(valid, 0, larger);
    set_input(valid, 1, padded->input[1].value);
    double *a = run(padded), *b = run(valid);
    assert_close("padding", a, b, elements_out(padded), 1e-5);
    free(larger), free(a), free(b), problem_free(padded), problem_free(pad), problem_free(valid);
}

/* True convolution = cross-correlation with the kernel turned round. */
static void flip_turns_the_kernel(void **state) {
    problem *flip = problem_of("conv2d n2 h7 w6 c3 k4 r3 s2 flip", 7),
            *turned = problem_of("conv2d n2 h7 w6 c3 k4 r3 s2", 7);
    const fv_shape *w = &flip->input[1].shape;
    for (int64_t k = 0; k < 4; k++)
        for (int64_t r = 0; r < 3; r++)
            for (int64_t s = 0; s < 2; s++)
                for (int64_t c = 0; c < 3; c++)
                    *at4(turned->input[1].value, w, k, r, s, c) = *at4(flip->input[1].value, w, k, 2 - r, 1 - s, c);
    double *a = run(flip), *b = run(turned);
    assert_close("flip", a, b, elements_out(flip), 1e-5);
    free(a), free(b), problem_free(flip), problem_free(turned);
}

/* On images of one pixel a convolution is a dense layer. */
static void one_by_one_is_dense(void **state) {
    problem *conv = problem_of("conv2d n5 h1 w1 c17 k33 r1 s1", 8), *dense = problem_of("dense x5,17 o33", 8);
    set_input(dense, 0, conv->input[0].value);
    set_input(dense, 1, conv->input[1].value);
    double *a = run(conv), *b = run(dense);
    assert_close("1x1", a, b, elements_out(conv), 1e-5);
    free(a), free(b), problem_free(conv), problem_free(dense);
}

/* Images and kernels turned on their diagonal give the turned result. */
static void convolution_turns_with_its_image(void **state) {
    problem *p = problem_of("conv2d n2 h7 w5 c3 k4 r3 s2 stride2,1 pad1,0,2,1", 20);
    problem *q = problem_of("conv2d n2 h5 w7 c3 k4 r2 s3 stride1,2 pad2,1,1,0", 20);
    for (int i = 0; i < 2; i++) {
        const fv_shape *s = &p->input[i].shape;
        for (int64_t n = 0; n < s->dim[0]; n++)
            for (int64_t h = 0; h < s->dim[1]; h++)
                for (int64_t w = 0; w < s->dim[2]; w++)
                    for (int64_t c = 0; c < s->dim[3]; c++)
                        *at4(q->input[i].value, &q->input[i].shape, n, w, h, c) =
                            *at4(p->input[i].value, s, n, h, w, c);
    }
    double *a = run(p), *b = run(q);
    const fv_shape *s = &p->output[0].shape;
    for (int64_t n = 0; n < 2; n++)
        for (int64_t h = 0; h < s->dim[1]; h++)
            for (int64_t w = 0; w < s->dim[2]; w++)
                for (int64_t k = 0; k < 4; k++)
                    assert_true(fabs(*at4(a, s, n, h, w, k) - *at4(b, &q->output[0].shape, n, w, h, k)) < 1e-5);
    free(a), free(b), problem_free(p), problem_free(q);
}

/* Unshared convolution with the same filters everywhere is convolution. */
static void equal_filters_are_shared(void **state) {
    problem *shared = problem_of("conv2d n2 h6 w5 c3 k4 r3 s2 stride2,1", 21);
    problem *local = problem_of("local_conv2d n2 h6 w5 c3 k4 r3 s2 stride2,1", 21);
    const int64_t places = shared->output[0].shape.dim[1] * shared->output[0].shape.dim[2];
    set_input(local, 0, shared->input[0].value);
    for (int64_t place = 0; place < places; place++)
        for (int64_t tap = 0; tap < 6; tap++)
            for (int64_t c = 0; c < 3; c++)
                for (int64_t k = 0; k < 4; k++)
                    local->input[1].value[((place * 6 + tap) * 3 + c) * 4 + k] =
                        shared->input[1].value[(k * 6 + tap) * 3 + c];
    double *a = run(shared), *b = run(local);
    assert_close("equal filters", a, b, elements_out(shared), 1e-5);
    free(a), free(b), problem_free(shared), problem_free(local);
}

/* ---- Batches ----------------------------------------------------------------------------------------------------- */

/* The images of a batch do not see each other: a batch in another order, or in two parts, gives the same images. */
static void batches_are_independent(void **state) {
    static const char *const operations[] = {
        "conv2d n%d h7 w6 c3 k8 r3 s3 pad1",
        "max_pool2d n%d h6 w6 c5 r3 stride2",
        "avg_pool2d n%d h6 w6 c5 r2",
        "lrn x%d,3,3,9 alpha0.5",
        "softmax x%d,10",
        "batch_norm_infer x%d,4,6",
        "dense x%d,20 o11",
    };
    for (size_t i = 0; i < sizeof operations / sizeof *operations; i++) {
        char line[PROBLEM_TEXT], part[PROBLEM_TEXT];
        snprintf(line, sizeof line, operations[i], 6);
        snprintf(part, sizeof part, operations[i], 2);
        problem *whole = problem_of(line, 9), *turned = problem_of(line, 9), *first = problem_of(part, 9);
        const int64_t in = elements_in(whole, 0) / 6, out = elements_out(whole) / 6;
        for (int64_t n = 0; n < 6; n++)
            memcpy(turned->input[0].value + n * in, whole->input[0].value + (5 - n) * in, (size_t)in * sizeof(double));
        for (int k = 0; k < first->input_count; k++) set_input(first, k, whole->input[k].value);
        double *a = run(whole), *b = run(turned), *c = run(first);
        for (int64_t n = 0; n < 6; n++) assert_close(operations[i], a + n * out, b + (5 - n) * out, out, 2e-6);
        assert_close(operations[i], a, c, 2 * out, 2e-6);
        free(a), free(b), free(c), problem_free(whole), problem_free(turned), problem_free(first);
    }
}

/* ---- Normalisation, pooling, softmax ----------------------------------------------------------------------------- */

static void batch_norm_forgets_scale_and_shift(void **state) {
    problem *p = problem_of("batch_norm_train x20,7 epsilon0", 10),
            *q = problem_of("batch_norm_train x20,7 epsilon0", 10);
    for (int64_t i = 0; i < elements_in(p, 0); i++)
        q->input[0].value[i] = (float)(3 * p->input[0].value[i] + (double)(i % 7));
    double *a = run(p), *b = run(q);
    assert_close("batch norm", a, b, elements_out(p), 1e-4);
    free(a), free(b), problem_free(p), problem_free(q);
}

static void softmax_forgets_a_shift(void **state) {
    problem *p = problem_of("softmax x6,9", 11), *q = problem_of("softmax x6,9", 11);
    for (int64_t i = 0; i < elements_in(p, 0); i++)
        q->input[0].value[i] = (float)(p->input[0].value[i] + 16 * (double)(i / 9));
    double *a = run(p), *b = run(q);
    assert_close("softmax", a, b, elements_out(p), 2e-5);
    for (int64_t row = 0; row < 6; row++) {
        double sum = 0;
        for (int64_t j = 0; j < 9; j++) sum += a[row * 9 + j];
        assert_true(fabs(sum - 1) < 1e-6);
    }
    free(a), free(b), problem_free(p), problem_free(q);
}

/* Pooling windows do not care where in them a number stands. */
static void pooling_forgets_places(void **state) {
    static const char *const lines[] = { "max_pool2d n2 h6 w8 c3 r2", "avg_pool2d n2 h6 w8 c3 r2" };
    for (int k = 0; k < 2; k++) {
        problem *p = problem_of(lines[k], 12), *q = problem_of(lines[k], 12);
        const fv_shape *x = &p->input[0].shape;
        for (int64_t n = 0; n < 2; n++)
            for (int64_t h = 0; h < 6; h++)
                for (int64_t w = 0; w < 8; w++)
                    for (int64_t c = 0; c < 3; c++)
                        *at4(q->input[0].value, x, n, h ^ 1, w ^ 1, c) = *at4(p->input[0].value, x, n, h, w, c);
        double *a = run(p), *b = run(q);
        assert_close(lines[k], a, b, elements_out(p), k ? 1e-6 : 0);
        free(a), free(b), problem_free(p), problem_free(q);
    }
}

/* Layer, group, RMS and unit norm do not see the size of a sample; the first two no shift either. */
static void norms_of_samples_forget_scale(void **state) {
    static const struct {
        const char *line;
        double shift;
    } norm[] = {
        { "layer_norm x5,12 epsilon0", 2 },
        { "group_norm x5,3,3,8 groups2 epsilon0", 2 },
        { "rms_norm x5,12 epsilon0", 0 },
        { "unit_norm x5,12 epsilon0", 0 },
    };
    for (int i = 0; i < 4; i++) {
        problem *p = problem_of(norm[i].line, 22), *q = problem_of(norm[i].line, 22);
        for (int64_t k = 0; k < elements_in(p, 0); k++)
            q->input[0].value[k] = (float)(3 * p->input[0].value[k] + norm[i].shift);
        double *a = run(p), *b = run(q);
        assert_close(norm[i].line, a, b, elements_out(p), 1e-4);
        free(a), free(b), problem_free(p), problem_free(q);
    }
}

/* One group of all channels of one pixel is layer norm. */
static void one_group_is_a_layer(void **state) {
    problem *group = problem_of("group_norm x6,10 groups1", 23), *layer = problem_of("layer_norm x6,10", 23);
    for (int i = 0; i < 3; i++) set_input(layer, i, group->input[i].value);
    double *a = run(group), *b = run(layer);
    assert_close("one group", a, b, elements_out(group), 1e-5);
    free(a), free(b), problem_free(group), problem_free(layer);
}

/* What unpooling puts back is what pooling finds again. */
static void pooling_finds_what_unpooling_put(void **state) {
    problem *pool = problem_of("max_pool2d n2 h6 w8 c3 r2 flat", 24);
    problem *back = problem_of("max_pool2d_gradient n2 h6 w8 c3 r2 flat", 24);
    for (int64_t i = 0; i < elements_in(pool, 0); i++) pool->input[0].value[i] = fabs(pool->input[0].value[i]) + 0.5;
    double *result[MOST_OUTPUTS] = { 0 };
    char why[1200];
    if (run_problem(device, NULL, pool, result, why) != RAN) fail_msg("%s", why);
    set_input(back, 0, result[1]);
    set_input(back, 1, result[0]);
    double *image = run(back);
    set_input(pool, 0, image);
    double *again = run(pool);
    assert_close("pooled, unpooled, pooled", result[0], again, elements_out(pool), 0);
    free_results(result), free(image), free(again), problem_free(pool), problem_free(back);
}

/* Adaptive windows that divide the image are ordinary ones, and as many as pixels leave it as it is. */
static void adaptive_windows_may_be_ordinary(void **state) {
    static const char *const names[] = { "max_pool2d", "avg_pool2d" };
    for (int i = 0; i < 2; i++) {
        char line[3][PROBLEM_TEXT];
        snprintf(line[0], PROBLEM_TEXT, "%s n2 h6 w8 c3 r2", names[i]);
        snprintf(line[1], PROBLEM_TEXT, "%s n2 h6 w8 c3 output3,4", names[i]);
        snprintf(line[2], PROBLEM_TEXT, "%s n2 h6 w8 c3 output6,8", names[i]);
        problem *fixed = problem_of(line[0], 25), *adaptive = problem_of(line[1], 25), *same = problem_of(line[2], 25);
        set_input(adaptive, 0, fixed->input[0].value);
        double *a = run(fixed), *b = run(adaptive), *c = run(same);
        assert_close(line[1], a, b, elements_out(fixed), 1e-6);
        assert_close(line[2], c, same->input[0].value, elements_out(same), 0);
        free(a), free(b), free(c), problem_free(fixed), problem_free(adaptive), problem_free(same);
    }
}

/* ---- Numbers and losses ------------------------------------------------------------------------------------------ */

/* <gather(x, i), v> = <x, scatter_add(i, v)>, and gather(x, i) = one_hot(i) x. */
static void gathering_and_scattering_are_adjoint(void **state) {
    problem *gather = problem_of("gather x7,5 i9", 26), *scatter = problem_of("scatter_add size7 i9 v9,5", 26);
    problem *hot = problem_of("one_hot i9 size7", 26), *dense = problem_of("dense x9,7 o5", 26);
    set_input(scatter, 0, gather->input[1].value);
    set_input(hot, 0, gather->input[1].value);
    double *y = run(gather), *back = run(scatter), *rows = run(hot);
    assert_true(fabs(dot(y, scatter->input[1].value, 45) - dot(back, gather->input[0].value, 35)) < 1e-5);
    set_input(dense, 0, rows);
    for (int64_t o = 0; o < 5; o++)
        for (int64_t i = 0; i < 7; i++) dense->input[1].value[o * 7 + i] = gather->input[0].value[i * 5 + o];
    double *product = run(dense);
    assert_close("one_hot times x", y, product, 45, 0);
    free(y), free(back), free(rows), free(product);
    problem_free(gather), problem_free(scatter), problem_free(hot), problem_free(dense);
}

/* Cross-entropy of logits = that of their sigmoid; Huber's loss with a wide middle = half the squared error. */
static void losses_have_two_forms(void **state) {
    problem *logits = problem_of("binary_cross_entropy_logits x4,6 weight1", 27),
            *sigmoid = problem_of("sigmoid x4,6", 27);
    problem *probabilities = problem_of("binary_cross_entropy x4,6", 27);
    set_input(sigmoid, 0, logits->input[0].value);
    double *p = run(sigmoid);
    set_input(probabilities, 0, p);
    set_input(probabilities, 1, logits->input[1].value);
    double *a = run(logits), *b = run(probabilities);
    assert_close("binary cross-entropy", a, b, elements_out(logits), 2e-6);
    problem *huber = problem_of("huber x4,6 delta100", 27), *square = problem_of("mean_squared_error x4,6", 27);
    for (int i = 0; i < 2; i++) set_input(square, i, huber->input[i].value);
    double *c = run(huber), *d = run(square);
    for (int64_t i = 0; i < elements_out(square); i++) d[i] /= 2;
    assert_close("Huber", c, d, elements_out(huber), 2e-6);
    free(p), free(a), free(b), free(c), free(d), problem_free(logits), problem_free(sigmoid);
    problem_free(probabilities), problem_free(huber), problem_free(square);
}

/* The gradient of a mean of cross-entropies has rows that sum to zero. */
static void logit_gradients_sum_to_zero(void **state) {
    problem *p = problem_of("softmax_cross_entropy_gradient n7 classes10 smoothing0.2", 13);
    double *dx = run(p);
    for (int64_t row = 0; row < 7; row++) {
        double sum = 0;
        for (int64_t j = 0; j < 10; j++) sum += dx[row * 10 + j];
        assert_true(fabs(sum) < 1e-6);
    }
    free(dx), problem_free(p);
}

/* ---- Moving, training -------------------------------------------------------------------------------------------- */

/* What was joined comes apart again, bit for bit. */
static void slice_undoes_concat(void **state) {
    problem *joined = problem_of("concat x2,3,4 x2,5,4 axis1", 14),
            *first = problem_of("slice x2,8,4 begin0,0,0 size2,3,4", 14);
    problem *second = problem_of("slice x2,8,4 begin0,3,0 size2,5,4", 14);
    double *y = run(joined);
    set_input(first, 0, y);
    set_input(second, 0, y);
    double *a = run(first), *b = run(second);
    assert_close("first part", a, joined->input[0].value, elements_in(joined, 0), 0);
    assert_close("second part", b, joined->input[1].value, elements_in(joined, 1), 0);
    free(y), free(a), free(b), problem_free(joined), problem_free(first), problem_free(second);
}

/* A learning rate of zero leaves the weights as they are, bit for bit. */
static void no_rate_no_change(void **state) {
    static const char *const lines[] = { "sgd_update p20,7 rate0 momentum0.9 nesterov decay0.1",
                                         "sgd_update p20,7 rate0 decay0.1 decoupled",
                                         "adam_update p20,7 rate0 decay0.1",
                                         "adam_update p20,7 rate0 decay0.1 decoupled" };
    for (int i = 0; i < 4; i++) {
        problem *p = problem_of(lines[i], 15);
        double *w = run(p);
        assert_close(lines[i], w, p->input[5].value, elements_in(p, 5), 0);
        free(w), problem_free(p);
    }
}

/* The gradient of a sum is one everywhere, and a gradient does not depend on what else hangs on the tape. */
static void gradient_of_a_sum_is_one(void **state) {
    fv_tape *t = fv_tape_new(device);
    const fv_value x = fv_op_input(t, (const int64_t[]){ 3, 4 }, 2, FV_F32);
    assert_int_equal(fv_watch(t, x), FV_OK);
    const fv_value sum = fv_op_sum(t, x, NULL, 0, false);
    assert_int_equal(fv_backward(t, sum), FV_OK);
    const fv_value g = fv_gradient(t, x);
    float values[12] = { 1, 2, 3 }, gradient[12];
    fv_keep(t, g);
    fv_program *p = fv_compile(t);
    fv_write(p, x, values, sizeof values);
    fv_run(p);
    assert_int_equal(fv_read(p, g, gradient, sizeof gradient), FV_OK);
    for (int i = 0; i < 12; i++) assert_true(gradient[i] == 1);
    fv_program_free(p);
    fv_tape_free(t);
}

static int on_reference(void **state) { return !(device = fv_open("reference")) || fv_error(device); }
static int on_cpu(void **state) { return !(device = fv_open("cpu")) || fv_error(device); }
static int done(void **state) { return fv_close(device); }

int main(void) {
#define RELATION(name) cmocka_unit_test(name)
    const struct CMUnitTest tests[] = {
        RELATION(convolution_moves_with_its_image),
        RELATION(convolution_is_linear),
        RELATION(one_hot_kernel_is_a_crop),
        RELATION(gradients_are_adjoint),
        RELATION(groups_are_blocks),
        RELATION(padding_first_is_the_same),
        RELATION(flip_turns_the_kernel),
        RELATION(one_by_one_is_dense),
        RELATION(convolution_turns_with_its_image),
        RELATION(equal_filters_are_shared),
        RELATION(batches_are_independent),
        RELATION(batch_norm_forgets_scale_and_shift),
        RELATION(softmax_forgets_a_shift),
        RELATION(pooling_forgets_places),
        RELATION(norms_of_samples_forget_scale),
        RELATION(one_group_is_a_layer),
        RELATION(pooling_finds_what_unpooling_put),
        RELATION(adaptive_windows_may_be_ordinary),
        RELATION(gathering_and_scattering_are_adjoint),
        RELATION(losses_have_two_forms),
        RELATION(logit_gradients_sum_to_zero),
        RELATION(slice_undoes_concat),
        RELATION(no_rate_no_change),
        RELATION(gradient_of_a_sum_is_one),
    };
    oracle = fv_open("reference64");
    int failed = cmocka_run_group_tests_name("relations on reference", tests, on_reference, done);
    failed += cmocka_run_group_tests_name("relations on cpu", tests, on_cpu, done);
    failed += fv_close(oracle);
    return failed;
}
