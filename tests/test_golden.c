/* test_golden.c - worked examples of the literature and of lectures on convolutional networks, with the printed
 * mistakes put right: small integer images through convolution and pooling, softmax, sigmoid and tanh in seven
 * digits. Every example runs through tape, compiler and program on both backends of the host. */
#include "net/net.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static const char *const devices[] = { "reference", "cpu" };
enum { DEVICES = 2, MOST = 256 };

/* ---- Matrices as text: "1 2; 3 4" -------------------------------------------------------------------------------- */

typedef struct matrix { int64_t rows, columns; float value[MOST]; } matrix;

static matrix matrix_of(const char *text) {
    matrix m = { 1, 0, { 0 } };
    int count = 0;
    for (char *end; *text; text = end) {
        while (*text == ' ' || *text == ';') m.rows += *text++ == ';';
        m.value[count++] = strtof(text, &end);
        assert_true(end != text && count < MOST);
        while (*end == ' ') end++;
    }
    m.columns = count / m.rows;
    assert_int_equal(m.rows * m.columns, count);
    return m;
}

static void assert_matrix(const char *what, const char *device, const matrix *m, const float *result,
                          const fv_shape *shape, float within) {
    if (fv_shape_elements(shape) != m->rows * m->columns)
        fail_msg("%s on %s: %lld numbers, not %lld", what, device, (long long)fv_shape_elements(shape),
                 (long long)(m->rows * m->columns));
    for (int64_t i = 0; i < m->rows * m->columns; i++)
        if (!(fabsf(result[i] - m->value[i]) <= within))
            fail_msg("%s on %s: number %lld is %.8g, not %.8g", what, device, (long long)i, (double)result[i],
                     (double)m->value[i]);
}

/* ---- One operation through a program ----------------------------------------------------------------------------- */

/* inputs: matrices as values of the given shapes; the first output is compared. */
static void run_example(const char *what, fv_op op, const fv_attributes *attributes, const fv_shape *shapes,
                        const matrix *inputs, int count, const matrix *expected, float within) {
    for (int d = 0; d < DEVICES; d++) {
        fv_context *c = fv_open(devices[d]);
        fv_tape *t = fv_tape_new(c);
        fv_value input[4];
        float result[MOST];
        for (int i = 0; i < count; i++) input[i] = fv_op_input(t, shapes[i].dim, shapes[i].rank, FV_F32);
        const fv_value y = fv_tape_apply(t, op, attributes, input, count);
        fv_keep(t, y);
        fv_program *p = fv_compile(t);
        for (int i = 0; i < count; i++)
            fv_write(p, input[i], inputs[i].value, (size_t)fv_shape_elements(&shapes[i]) * sizeof(float));
        fv_run(p);
        if (fv_error(c)) fail_msg("%s on %s: %s", what, devices[d], fv_error(c));
        const fv_shape shape = fv_tape_value_of(t, y)->shape;
        assert_int_equal(fv_read(p, y, result, (size_t)fv_shape_elements(&shape) * sizeof(float)), FV_OK);
        assert_matrix(what, devices[d], expected, result, &shape, within);
        assert_int_equal(fv_close(c), 0);
    }
}

#define SHAPE4(a, b, c, d) { 4, { a, b, c, d } }

/* ---- Convolution ------------------------------------------------------------------------------------------------- */

#define I6 "1 0 0 0 0 1; 0 1 0 0 1 0; 0 0 1 1 0 0; 1 0 0 0 1 0; 0 1 0 0 1 0; 0 0 1 0 1 0"
#define F1 "1 -1 -1; -1 1 -1; -1 -1 1"
#define F2 "-1 1 -1; -1 1 -1; -1 1 -1"
#define EDGES "1 0 -1; 1 0 -1; 1 0 -1"
#define I5 "7 2 3 3 8; 4 5 3 8 4; 3 3 2 8 4; 2 8 7 2 7; 5 4 4 5 4"
#define J5 "2 2 3 3 3; 0 1 3 0 3; 2 3 0 1 3; 3 3 2 1 2; 3 3 0 2 3"
#define K3 "2 0 1; 1 0 0; 0 1 1"
#define I7 "2 3 7 4 6 2 9; 6 6 9 8 7 4 3; 3 4 8 3 8 9 7; 7 8 3 6 6 3 4; 4 2 1 8 3 4 6; 3 2 4 1 9 8 3; 0 1 3 9 2 1 4"
#define K7 "3 4 4; 1 0 2; -1 0 3"
#define D5 "3 3 2 1 0; 0 0 1 3 1; 3 1 2 2 3; 2 0 0 2 2; 2 0 0 0 1"
#define K5 "0 1 2; 2 2 0; 0 1 2"
#define STEP "255 255 0 0; 255 255 0 0; 255 255 0 0; 255 255 0 0"

typedef struct convolution {
    const char *what, *image, *kernel;
    int stride, pad, flip;
    const char *result;
} convolution;

static const convolution convolutions[] = {
    { "diagonal filter", I6, F1, 1, 0, 0, "3 -1 -3 -1; -3 1 0 -3; -3 -3 0 1; 3 -2 -2 -1" },
    { "vertical filter", I6, F2, 1, 0, 0, "-1 -1 -1 -1; -1 -1 -2 1; -1 -1 -2 1; -1 0 -4 3" },
    { "diagonal filter, stride 2", I6, F1, 2, 0, 0, "3 -3; -3 0" },
    { "vertical filter, stride 2", I6, F2, 2, 0, 0, "-1 -1; -1 -2" },
    { "diagonal filter, padded", I6, F1, 1, 1, 0,
      "2 -2 -1 1 -2 0; -2 3 -1 -3 -1 -2; -2 -3 1 0 -3 0; 2 -3 -3 0 1 -2; -2 3 -2 -2 -1 -1; -1 -2 2 -3 0 0" },
    { "edges", I5, EDGES, 1, 0, 0, "6 -9 -8; -3 -2 -3; -3 0 -2" },
    { "edges, reversed", I5, EDGES, 1, 0, 1, "-6 9 8; 3 2 3; 3 0 2" },
    { "padding 1, stride 2", J5, K3, 2, 1, 0, "1 5 6; 7 8 3; 3 10 4" },
    { "padding 1, stride 1", J5, K3, 1, 1, 0, "1 6 5 6 6; 7 10 9 16 9; 7 10 8 12 3; 9 10 12 10 6; 3 11 10 6 4" },
    { "vertical edges", "3 0 1 2 7 4; 1 5 8 9 3 1; 2 7 2 5 1 3; 0 1 3 1 7 8; 4 2 1 6 2 8; 2 4 5 2 3 9", EDGES, 1, 0, 0,
      "-5 -4 0 8; -10 -2 2 3; 0 -2 -4 -7; -3 -2 -3 -16" },
    { "strided", I7, K7, 2, 0, 0, "91 100 88; 69 91 117; 44 72 74" },
    { "not strided", I7, K7, 1, 0, 0,
      "91 80 100 84 88; 99 106 126 92 77; 69 98 91 93 117; 80 79 87 93 61; 44 72 72 63 74" },
    { "valid", D5, K5, 1, 0, 0, "12 12 17; 10 17 19; 9 6 14" },
    { "padding 1, stride 2, of the same", D5, K5, 2, 1, 0, "6 17 3; 8 17 13; 6 4 4" },
    { "valid, reversed", D5, K5, 1, 0, 1, "18 20 19; 10 9 17; 11 8 14" },
    { "same", D5, K5, 1, 1, 0, "6 14 17 11 3; 14 12 12 17 11; 8 10 17 19 13; 11 9 6 14 12; 6 4 4 6 4" },
    { "full", D5, K5, 1, 2, 0,
      "6 9 7 4 1 0 0; 0 6 14 17 11 3 0; 12 14 12 12 17 11 2; 4 8 10 17 19 13 6; 10 11 9 6 14 12 4; 4 6 4 4 6 4 2; 4 2 "
      "0 0 2 1 0" },
    { "Sobel across a step", STEP, "1 0 -1; 2 0 -2; 1 0 -1", 1, 0, 0, "1020 1020; 1020 1020" },
    { "Sobel across a step, reversed", STEP, "1 0 -1; 2 0 -2; 1 0 -1", 1, 0, 1, "-1020 -1020; -1020 -1020" },
    { "Sobel across a step back", "0 0 255 255; 0 0 255 255; 0 0 255 255; 0 0 255 255", "1 0 -1; 2 0 -2; 1 0 -1", 1, 0, 0,
      "-1020 -1020; -1020 -1020" },
    { "Sobel along a step", STEP, "1 2 1; 0 0 0; -1 -2 -1", 1, 0, 0, "0 0; 0 0" },
};

static void convolve(const char *what, const matrix *image, const matrix *kernel, const int pad[4], int stride,
                     int flip, const matrix *result) {
    const fv_shape shapes[] = { SHAPE4(1, image->rows, image->columns, 1),
                                SHAPE4(1, kernel->rows, kernel->columns, 1) };
    const matrix inputs[] = { *image, *kernel };
    const fv_attributes a = { .conv = { .stride = { stride, stride }, .dilation = { 1, 1 }, .groups = 1, .flip = flip,
                                        .pad = { pad[0], pad[1], pad[2], pad[3] } } };
    run_example(what, FV_OP_conv2d, &a, shapes, inputs, 2, result, 0);
}

static void convolution_examples(void **state) {
    for (size_t i = 0; i < sizeof convolutions / sizeof *convolutions; i++) {
        const convolution *e = &convolutions[i];
        const matrix image = matrix_of(e->image), kernel = matrix_of(e->kernel), result = matrix_of(e->result);
        convolve(e->what, &image, &kernel, (const int[]){ e->pad, e->pad, e->pad, e->pad }, e->stride, e->flip,
                 &result);
    }
}

/* Full convolution of rows of numbers commutes, is associative and distributes over addition. */
static void laws_of_convolution(void **state) {
    static const struct { const char *what, *a, *b, *result; } law[] = {
        { "a * b", "1 2 3", "4 -1 2", "4 7 12 1 6" },
        { "b * a", "4 -1 2", "1 2 3", "4 7 12 1 6" },
        { "(a * b) * c", "4 7 12 1 6", "0 1 5", "0 4 27 47 61 11 30" },
        { "b * c", "4 -1 2", "0 1 5", "0 4 19 -3 10" },
        { "a * (b * c)", "1 2 3", "0 4 19 -3 10", "0 4 27 47 61 11 30" },
        { "a * (b + c)", "1 2 3", "4 0 7", "4 8 19 14 21" },
    };
    for (size_t i = 0; i < sizeof law / sizeof *law; i++) {
        const matrix a = matrix_of(law[i].a), b = matrix_of(law[i].b), result = matrix_of(law[i].result);
        const int around = (int)b.columns - 1;
        convolve(law[i].what, &a, &b, (const int[]){ 0, 0, around, around }, 1, 1, &result);
    }
}

/* Transposed convolution is the data gradient: every pixel puts down the kernel, scaled, `stride` apart. */
static void transposed_convolutions(void **state) {
    static const struct { const char *what, *kernel; int stride, pad, size; const char *result; } example[] = {
        { "ones", "1 1 1; 1 1 1; 1 1 1", 2, 0, 5, "1 1 3 2 2; 1 1 3 2 2; 4 4 10 6 6; 3 3 7 4 4; 3 3 7 4 4" },
        { "ones, padding 1", "1 1 1; 1 1 1; 1 1 1", 2, 1, 3, "1 3 2; 4 10 6; 3 7 4" },
        { "1 to 9", "1 2 3; 4 5 6; 7 8 9", 2, 0, 5,
          "1 2 5 4 6; 4 5 14 10 12; 10 14 36 24 30; 12 15 34 20 24; 21 24 55 32 36" },
        { "1 to 9, stride 1", "1 2 3; 4 5 6; 7 8 9", 1, 0, 4, "1 4 7 6; 7 23 33 24; 19 53 63 42; 21 52 59 36" },
        { "bilinear", ".0625 .1875 .1875 .0625; .1875 .5625 .5625 .1875; .1875 .5625 .5625 .1875; .0625 .1875 .1875 .0625",
          2, 1, 4,
          ".5625 .9375 1.3125 1.125; 1.125 1.75 2.25 1.875; 1.875 2.75 3.25 2.625; 1.6875 2.4375 2.8125 2.25" },
    };
    for (size_t i = 0; i < sizeof example / sizeof *example; i++) {
        const matrix image = matrix_of("1 2; 3 4"), kernel = matrix_of(example[i].kernel);
        const matrix result = matrix_of(example[i].result);
        const int stride = example[i].stride, pad = example[i].pad, size = example[i].size;
        const fv_shape shapes[] = { SHAPE4(1, 2, 2, 1), SHAPE4(1, kernel.rows, kernel.columns, 1) };
        const fv_attributes a = { .conv = { .stride = { stride, stride }, .dilation = { 1, 1 }, .groups = 1,
                                            .pad = { pad, pad, pad, pad }, .shape = { 1, size, size, 1 } } };
        run_example(example[i].what, FV_OP_conv2d_data_gradient, &a, shapes, (const matrix[]){ image, kernel }, 2,
                    &result, 0);
    }
}

/* Sizes of a 512 x 512 image under a 9 x 9 filter, and a layer of two Sobel filters. */
static void sizes_of_convolution(void **state) {
    static const struct {
        int padding;
        int64_t size;
    } mode[] = { { FV_FULL, 520 }, { FV_SAME, 512 }, { FV_VALID, 504 } };
    for (int i = 0; i < 3; i++) {
        int32_t pad[2];
        fv_window_padding(mode[i].padding, 512, 9, 1, 1, pad);
        assert_int_equal(fv_window_count(512, pad[0], pad[1], 9, 1, 1, false), mode[i].size);
    }
    fv_context *c = fv_open("reference");
    fv_net *net = fv_net_new(c, "sobel");
    const fv_node y = fv_conv2d(net, fv_input(net, 512, 512, 1), .filters = 2, .kernel = 3);
    int64_t dims[FV_RANK];
    fv_output(net, y);
    assert_int_equal(fv_node_shape(net, y, dims), 4);
    assert_int_equal(dims[1], 510);
    assert_int_equal(dims[2], 510);
    assert_int_equal(dims[3], 2);
    int64_t weights = 0;
    for (int w = 0; w < fv_weight_count(net, fv_layer_name(net, 1)); w++) {
        const int rank = fv_weight_shape(net, fv_layer_name(net, 1), w, FV_NATIVE, dims);
        int64_t elements = 1;
        for (int i = 0; i < rank; i++) elements *= dims[i];
        weights += elements;
    }
    assert_int_equal(weights, 20);
    assert_int_equal(fv_close(c), 0);
}

/* ---- Pooling ----------------------------------------------------------------------------------------------------- */

#define P4 "2 3 1 9; 4 7 3 5; 8 2 2 2; 1 3 4 5"
#define Q4 "2 3 4 0; 1 5 3 2; 0 4 2 3; 1 0 6 1"
#define AFTER_F1 "3 -1 -3 -1; -3 1 0 -3; -3 -3 0 1; 3 -2 -2 -1"
#define AFTER_F2 "-1 -1 -1 -1; -1 -1 -2 1; -1 -1 -2 1; -1 0 -4 3"

static void pooling_examples(void **state) {
    static const struct { const char *what, *image; int average, size, stride; const char *result; } pool[] = {
        { "maxima behind the diagonal filter", AFTER_F1, 0, 2, 2, "3 0; 3 1" },
        { "maxima behind the vertical filter", AFTER_F2, 0, 2, 2, "-1 1; 0 3" },
        { "means behind the diagonal filter", AFTER_F1, 1, 2, 2, "0 -1.75; -1.25 -.5" },
        { "means behind the vertical filter", AFTER_F2, 1, 2, 2, "-1 -.75; -.75 -.5" },
        { "maxima", P4, 0, 2, 2, "7 9; 8 5" },
        { "means", P4, 1, 2, 2, "4 4.5; 3.5 3.25" },
        { "maxima 2/2", Q4, 0, 2, 2, "5 4; 4 6" },
        { "means 2/2", Q4, 1, 2, 2, "2.75 2.25; 1.25 3" },
        { "every second pixel", Q4, 0, 1, 2, "2 4; 0 2" },
        { "maxima 2/1", Q4, 0, 2, 1, "5 5 4; 5 5 3; 4 6 6" },
        { "maxima 3/1", Q4, 0, 3, 1, "5 5; 6 6" },
    };
    for (size_t i = 0; i < sizeof pool / sizeof *pool; i++) {
        const matrix image = matrix_of(pool[i].image), result = matrix_of(pool[i].result);
        const fv_shape shape = SHAPE4(1, image.rows, image.columns, 1);
        const fv_attributes a = { .pool = { .kernel = { pool[i].size, pool[i].size },
                                            .stride = { pool[i].stride, pool[i].stride } } };
        run_example(pool[i].what, pool[i].average ? FV_OP_avg_pool2d : FV_OP_max_pool2d, &a, &shape, &image, 1, &result,
                    0);
    }
}

/* Maxima, where they lay, and other numbers put back there. */
static void pooling_and_unpooling(void **state) {
    const matrix image = matrix_of("1 2 6 3; 3 5 2 1; 1 2 2 1; 7 3 4 8"), numbers = matrix_of("1 2; 3 4");
    const matrix maxima = matrix_of("5 6; 7 8"), places = matrix_of("5 2; 12 15");
    const matrix back = matrix_of("0 0 2 0; 0 1 0 0; 0 0 0 0; 3 0 0 4");
    const fv_shape whole = SHAPE4(1, 4, 4, 1), small = SHAPE4(1, 2, 2, 1);
    fv_attributes a = { .pool = { .kernel = { 2, 2 }, .stride = { 2, 2 }, .flat = 1 } };
    for (int d = 0; d < DEVICES; d++) {
        fv_context *c = fv_open(devices[d]);
        fv_tape *t = fv_tape_new(c);
        const fv_value x = fv_op_input(t, whole.dim, 4, FV_F32), v = fv_op_input(t, small.dim, 4, FV_F32);
        const int32_t pool = fv_tape_append(t, FV_OP_max_pool2d, &a, &x, 1);
        const fv_value y = fv_tape_output(t, pool, 0), index = fv_tape_output(t, pool, 1);
        for (int i = 0; i < 4; i++) a.pool.shape[i] = whole.dim[i];
        const fv_value put = FV_APPLY(t, FV_OP_max_pool2d_gradient, &a, index, v);
        float result[16];
        int32_t place[4];
        fv_keep(t, y), fv_keep(t, index), fv_keep(t, put);
        fv_program *p = fv_compile(t);
        fv_write(p, x, image.value, 16 * sizeof(float));
        fv_write(p, v, numbers.value, 4 * sizeof(float));
        fv_run(p);
        assert_int_equal(fv_read(p, y, result, 4 * sizeof(float)), FV_OK);
        assert_matrix("maxima", devices[d], &maxima, result, &small, 0);
        assert_int_equal(fv_read(p, index, place, sizeof place), FV_OK);
        for (int i = 0; i < 4; i++) assert_int_equal(place[i], (int)places.value[i]);
        assert_int_equal(fv_read(p, put, result, sizeof result), FV_OK);
        assert_matrix("put back", devices[d], &back, result, &whole, 0);
        assert_int_equal(fv_close(c), 0);
    }
}

/* ---- Functions --------------------------------------------------------------------------------------------------- */

static void functions(void **state) {
    const matrix u = matrix_of("-2 -1 0 1 2"), ones = matrix_of("1 1 1 1 1"), logits = matrix_of("1 2 3");
    const matrix sigmoid = matrix_of(".1192029 .2689414 .5 .7310586 .8807971");
    const matrix slope = matrix_of(".1049936 .1966119 .25 .1966119 .1049936");
    const matrix tangent = matrix_of("-.9640276 -.7615942 0 .7615942 .9640276");
    const matrix exponential_linear = matrix_of("-.8646647 -.6321206 0 1 2");
    const matrix probabilities = matrix_of(".0900306 .2447285 .6652410"),
                 logarithms = matrix_of("-2.4076060 -1.4076060 -.4076060");
    const fv_shape five[] = { { 1, { 5 } }, { 1, { 5 } } }, three = { 2, { 1, 3 } };
    const fv_attributes axis = { .axis = { 1 } };
    run_example("sigmoid", FV_OP_sigmoid, NULL, five, &u, 1, &sigmoid, 2e-7f);
    run_example("slope of the sigmoid", FV_OP_sigmoid_gradient, NULL, five, (const matrix[]){ sigmoid, ones }, 2,
                &slope, 2e-7f);
    run_example("tanh", FV_OP_tanh, NULL, five, &u, 1, &tangent, 2e-7f);
    run_example("ELU", FV_OP_elu, &(const fv_attributes){ .activation = { 1 } }, five, &u, 1, &exponential_linear, 2e-7f);
    run_example("softmax", FV_OP_softmax, &axis, &three, &logits, 1, &probabilities, 2e-7f);
    run_example("logarithm of softmax", FV_OP_log_softmax, &axis, &three, &logits, 1, &logarithms, 4e-7f);
}

/* Cross-entropy of the logits 1 2 3 where class 0, 1, 2 is the right one, through the public tape. */
static void cross_entropy_of_each_class(void **state) {
    static const float logits[9] = { 1, 2, 3, 1, 2, 3, 1, 2, 3 }, expected[3] = { 2.4076060f, 1.4076060f, 0.4076060f };
    static const int32_t classes[3] = { 0, 1, 2 };
    for (int d = 0; d < DEVICES; d++) {
        fv_context *c = fv_open(devices[d]);
        fv_tape *t = fv_tape_new(c);
        const fv_value x = fv_op_input(t, (const int64_t[]){ 3, 3 }, 2, FV_F32),
                       target = fv_op_input(t, (const int64_t[]){ 3 }, 1, FV_I32);
        const fv_value loss = fv_op_softmax_cross_entropy(t, x, target, 0);
        float result[3];
        fv_keep(t, loss);
        fv_program *p = fv_compile(t);
        fv_write(p, x, logits, sizeof logits);
        fv_write(p, target, classes, sizeof classes);
        fv_run(p);
        assert_int_equal(fv_read(p, loss, result, sizeof result), FV_OK);
        for (int i = 0; i < 3; i++) assert_true(fabsf(result[i] - expected[i]) <= 4e-7f);
        assert_int_equal(fv_close(c), 0);
    }
}

/* 16-bit numbers: exact ones, halves that round to even, the largest, the smallest, what overflows. */
static void numbers_of_16_bits(void **state) {
    static const struct { float value; uint16_t half, brain;
    } number[] = {
        { 0, 0, 0 },
        { -0.0f, 0x8000, 0x8000 },
        { 1, 0x3c00, 0x3f80 },
        { -2, 0xc000, 0xc000 },
        { 65504, 0x7bff, 0x4780 },
        { 65519, 0x7bff, 0x4780 },
        { 65520, 0x7c00, 0x4780 },
        { 1e6f, 0x7c00, 0x4974 },
        { -INFINITY, 0xfc00, 0xff80 },
        { 0x1p-24f, 0x0001, 0x3380 },
        { 0x1p-25f, 0x0000, 0x3300 },
        { 0x1.8p-24f, 0x0002, 0x33c0 },
        { 0x1p-14f, 0x0400, 0x3880 },
        { 0x1.ffcp-15f, 0x0400, 0x3880 },
        { 1 + 0x1p-11f, 0x3c00, 0x3f80 },
        { 1 + 0x3p-11f, 0x3c02, 0x3f80 },
        { 1 + 0x1p-8f, 0x3c04, 0x3f80 },
        { 1 + 0x3p-8f, 0x3c0c, 0x3f82 },
        { 3.14159265f, 0x4248, 0x4049 },
        { 0x1.ffep0f, 0x4000, 0x4000 },
    };
    enum { COUNT = sizeof number / sizeof *number };
    for (int d = 0; d < DEVICES; d++)
        for (int brain = 0; brain < 2; brain++) {
            fv_context *c = fv_open(devices[d]);
            fv_tape *t = fv_tape_new(c);
            const int64_t count = COUNT;
            const fv_value x = fv_op_input(t, &count, 1, FV_F32);
            const fv_value y = FV_APPLY(t, FV_OP_cast, &(fv_attributes){ .cast = { brain ? FV_BF16 : FV_F16 } }, x);
            const fv_value back = FV_APPLY(t, FV_OP_cast, &(fv_attributes){ .cast = { FV_F32 } }, y);
            const fv_value again =
                FV_APPLY(t, FV_OP_cast, &(fv_attributes){ .cast = { brain ? FV_BF16 : FV_F16 } }, back);
            float value[COUNT];
            uint16_t bits[COUNT], second[COUNT];
            for (int i = 0; i < COUNT; i++) value[i] = number[i].value;
            fv_keep(t, y);
            fv_keep(t, again);
            fv_program *p = fv_compile(t);
            fv_write(p, x, value, sizeof value);
            fv_run(p);
            assert_int_equal(fv_read(p, y, bits, sizeof bits), FV_OK);
            assert_int_equal(fv_read(p, again, second, sizeof second), FV_OK);
            for (int i = 0; i < COUNT; i++) {
                assert_int_equal(bits[i], brain ? number[i].brain : number[i].half);
                assert_int_equal(bits[i], second[i]);
            }
            assert_int_equal(fv_close(c), 0);
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(convolution_examples),
        cmocka_unit_test(laws_of_convolution),
        cmocka_unit_test(transposed_convolutions),
        cmocka_unit_test(sizes_of_convolution),
        cmocka_unit_test(pooling_examples),
        cmocka_unit_test(pooling_and_unpooling),
        cmocka_unit_test(functions),
        cmocka_unit_test(cross_entropy_of_each_class),
        cmocka_unit_test(numbers_of_16_bits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
