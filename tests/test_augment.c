/* test_augment.c - augmentation: what is drawn (maps, boxes, shares, colours), and what training sees of it: masks that follow
 * their images, mixed labels, evaluation without any of it. */
#include "core/augment.h"
#include "core/core.h"
#include "data/data.h"
#include "tape/tape.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { DRAWS = 2000 };
static const fv_control control = { .seed = { 5, 6 }, .epoch = 3 };

static double part(int64_t fixed) { return ldexp((double)fixed, -FV_WARP_FRACTION); }
static double row_of(const fv_warp *m, double i, double j) { return part(m->y[0]) * i + part(m->y[1]) * j + part(m->y[2]); }
static double column_of(const fv_warp *m, double i, double j) { return part(m->x[0]) * i + part(m->x[1]) * j + part(m->x[2]); }

/* ---- Draws ------------------------------------------------------------------------------------------------------- */

/* Rotation, shear and zoom leave the centre where it is; the area grows with the square of the zoom, and by nothing else. */
static void maps_about_the_centre(void **state) {
    (void)state;
    const fv_warp_attributes a = { .rotation = 40, .shear = { 10, 20 }, .zoom = { 0.5f, 2 } };
    double least = 10, most = 0, steepest = 0;
    for (int s = 0; s < DRAWS; s++) {
        const fv_warp m = fv_warp_draw(&a, &control, s, 31, 21);
        assert_true(fabs(row_of(&m, 15, 10) - 15) < 1e-6 && fabs(column_of(&m, 15, 10) - 10) < 1e-6);
        const double area = part(m.y[0]) * part(m.x[1]) - part(m.y[1]) * part(m.x[0]), zoom = 1 / sqrt(area);
        least = fmin(least, zoom), most = fmax(most, zoom);
        steepest = fmax(steepest, fabs(part(m.y[1])) * zoom);
    }
    assert_true(least >= 0.5 && least < 0.51 && most <= 2 && most > 1.98);
    assert_true(steepest > sin(35 * M_PI / 180) && steepest < sin(50 * M_PI / 180) / cos(10 * M_PI / 180));

    const fv_warp_attributes turned = { .rotation = 90, .shift = { 0.25f, 0.5f } };
    for (int s = 0; s < 100; s++) { /* a rotation and a shift keep distances */
        const fv_warp m = fv_warp_draw(&turned, &control, s, 16, 16);
        assert_true(fabs(hypot(part(m.y[0]), part(m.x[0])) - 1) < 1e-6);
        assert_true(fabs(part(m.y[0]) - part(m.x[1])) < 1e-6 && fabs(part(m.y[1]) + part(m.x[0])) < 1e-6);
    }
    const fv_warp_attributes none = { 0 };
    const fv_warp m = fv_warp_draw(&none, &control, 7, 9, 12);
    assert_true(m.y[0] == (int64_t)1 << 32 && m.x[1] == m.y[0] && !m.y[1] && !m.y[2] && !m.x[0] && !m.x[2]);
}

/* The boxes of torchvision's RandomResizedCrop: whole pixels, inside, of an area and a ratio within bounds. */
static void resized_crops(void **state) {
    (void)state;
    const fv_warp_attributes a = { .scale = { 0.08f, 1 }, .ratio = { 0.75f, 4.0f / 3 } };
    double mean = 0;
    for (int s = 0; s < DRAWS; s++) {
        const fv_warp m = fv_warp_draw(&a, &control, s, 40, 60);
        const double h = part(m.y[0]) * 40, w = part(m.x[1]) * 60, top = row_of(&m, -0.5, 0) + 0.5,
                     left = column_of(&m, 0, -0.5) + 0.5;
        assert_true(fabs(h - round(h)) < 1e-6 && fabs(w - round(w)) < 1e-6 && fabs(top - round(top)) < 1e-6);
        assert_true(top > -1e-6 && left > -1e-6 && top + h < 40 + 1e-6 && left + w < 60 + 1e-6);
        assert_true(w / h > 0.75 * 0.93 && w / h < 4.0 / 3 * 1.07);
        mean += h * w / (40 * 60 * DRAWS);
    }
    assert_true(mean > 0.35 && mean < 0.5); /* uniform in 0.08..1 but for what does not fit */
    const fv_warp_attributes narrow = { .scale = { 0.9f, 1 }, .ratio = { 3, 4 } }; /* fits nowhere: about the centre */
    const fv_warp m = fv_warp_draw(&narrow, &control, 1, 40, 60);
    assert_true(fabs(part(m.y[0]) * 40 - 20) < 1e-6 && fabs(part(m.x[1]) - 1) < 1e-6);
    assert_true(fabs(row_of(&m, 19.5, 0) - 19.5) < 1e-6);
}

static void shares_and_boxes(void **state) {
    (void)state;
    const float alphas[] = { 0.1f, 0.4f, 1, 8 };
    for (int k = 0; k < 4; k++) { /* Beta(a, a): mean 1/2, variance 1 / (4 (2 a + 1)) */
        double mean = 0, squares = 0;
        for (int s = 0; s < 10 * DRAWS; s++) {
            const fv_mix m = fv_mix_draw(&(fv_mix_attributes){ .mixup = alphas[k], .probability = 1 }, &control, s, 8, 8);
            assert_true(m.part >= 0 && m.part <= 1 && m.box.top == m.box.bottom);
            mean += m.part / (10 * DRAWS);
            squares += (m.part - 0.5) * (m.part - 0.5) / (10 * DRAWS);
        }
        assert_true(fabs(mean - 0.5) < 0.02 && fabs(squares * 4 * (2 * alphas[k] + 1) - 1) < 0.06);
    }
    int cut = 0;
    for (int s = 0; s < DRAWS; s++) { /* cutmix: the share is what the box leaves */
        const fv_mix m = fv_mix_draw(&(fv_mix_attributes){ .mixup = 1, .cutmix = 1, .probability = 1 }, &control, s, 20, 30);
        const double area = (double)((m.box.bottom - m.box.top) * (m.box.right - m.box.left));
        assert_true(m.box.top >= 0 && m.box.bottom <= 20 && m.box.left >= 0 && m.box.right <= 30);
        if (area > 0) assert_true(fabs(m.part - (1 - area / 600)) < 1e-9);
        cut += area > 0;
    }
    assert_true(cut > 0.4 * DRAWS && cut < 0.6 * DRAWS);
    int erased = 0;
    const fv_erase_attributes e = { .probability = 0.25f, .scale = { 0.02f, 0.33f }, .ratio = { 0.3f, 3.3f } };
    for (int s = 0; s < DRAWS; s++) {
        const fv_box b = fv_erase_draw(&e, &control, s, 32, 32);
        const double area = (double)((b.bottom - b.top) * (b.right - b.left)) / 1024;
        if (area > 0) assert_true(area > 0.015 && area < 0.36);
        erased += area > 0;
    }
    assert_true(erased > 0.2 * DRAWS && erased < 0.3 * DRAWS);
}

static double hue_of(const float *p) { /* in turns */
    const double most = fmax(p[0], fmax(p[1], p[2])), chroma = most - fmin(p[0], fmin(p[1], p[2]));
    const double h = most == p[0] ? fmod((p[1] - p[2]) / chroma + 6, 6) : most == p[1] ? 2 + (p[2] - p[0]) / chroma
                                                                                       : 4 + (p[0] - p[1]) / chroma;
    return h / 6;
}

/* A turned hue is turned by what was drawn; value and chroma stay. Saturation 0 makes grey of any colour. */
static void colours(void **state) {
    (void)state;
    enum { N = 64 };
    float x[N][3], y[N][3];
    int32_t samples[N];
    fv_random random = fv_random_make(1, 2);
    for (int i = 0; i < N; i++) {
        samples[i] = i;
        for (int c = 0; c < 3; c++) x[i][c] = (float)(0.1 + 0.8 * fv_random_uniform(&random));
    }
    fv_context *c = fv_open("cpu");
    fv_tape *tape = fv_tape_new(c);
    const int64_t shape[] = { N, 1, 1, 3 }, rows[] = { N }, bytes[] = { sizeof control };
    fv_value in = fv_op_input(tape, shape, 4, FV_F32), numbers = fv_op_input(tape, rows, 1, FV_I32);
    fv_value block = fv_op_input(tape, bytes, 1, FV_U8);
    const fv_attributes a = { .color = { .strength = { 0, 0, 0, 0.5f }, .limit = 1 } };
    fv_value out = FV_APPLY(tape, FV_OP_color_jitter, &a, in, numbers, block);
    fv_keep(tape, out);
    fv_program *program = fv_compile(tape);
    fv_write(program, in, x, sizeof x);
    fv_write(program, numbers, samples, sizeof samples);
    fv_write(program, block, &control, sizeof control);
    fv_run(program);
    fv_read(program, out, y, sizeof y);
    assert_null(fv_error(c));
    for (int i = 0; i < N; i++) {
        const double turned = hue_of(y[i]) - hue_of(x[i]) - fv_color_draw(&a.color, &control, i).factor[FV_HUE];
        assert_true(fabs(turned - round(turned)) < 1e-4);
        assert_true(fabs(fmaxf(x[i][0], fmaxf(x[i][1], x[i][2])) - fmaxf(y[i][0], fmaxf(y[i][1], y[i][2]))) < 1e-6);
        assert_true(fabs(fminf(x[i][0], fminf(x[i][1], x[i][2])) - fminf(y[i][0], fminf(y[i][1], y[i][2]))) < 1e-6);
    }
    fv_close(c);
}

/* ---- Training ---------------------------------------------------------------------------------------------------- */

enum { IMAGES = 40, SIDE = 12 };
static unsigned char pixels[IMAGES][SIDE][SIDE][3];
static float images[IMAGES][SIDE][SIDE][3], masks[IMAGES][SIDE][SIDE][3];
static int32_t labels[IMAGES];

static void draw_images(void) {
    fv_random random = fv_random_make(3, 4);
    for (int i = 0; i < IMAGES; i++) {
        labels[i] = i % 4;
        for (int k = 0; k < SIDE * SIDE * 3; k++) {
            (&pixels[i][0][0][0])[k] = (unsigned char)fv_random_below(&random, 256);
            (&images[i][0][0][0])[k] = (&masks[i][0][0][0])[k] = (float)(&pixels[i][0][0][0])[k] / 255;
        }
    }
}

static fv_dataset *set_of(fv_context *c, const void *input, fv_type type, const fv_array *target) {
    return fv_dataset_from_memory(
        c, &(fv_memory_options){ .struct_size = sizeof(fv_memory_options),
                                 .inputs = &(fv_array){ input, type, 4, { IMAGES, SIDE, SIDE, 3 } }, .input_count = 1,
                                 .targets = target, .target_count = 1 });
}
static const fv_array mask_array = { masks, FV_F32, 4, { IMAGES, SIDE, SIDE, 3 } };
static const fv_array label_array = { labels, FV_I32, 1, { IMAGES } };

/* A net that gives its input, trained to give the mask, which is the image: no loss while the mask follows. */
static double loss_of_identity(const char *device, fv_augment_options o, bool validation) {
    fv_context *c = fv_open(device);
    fv_dataset *data = set_of(c, images, FV_F32, &mask_array);
    o.struct_size = sizeof o;
    fv_augment_with(data, &o);
    fv_net *net = fv_net_new(c, "same");
    fv_output(net, fv_conv2d(net, fv_input(net, SIDE, SIDE, 3), .filters = 3, .kernel = 1, .groups = 3, .no_bias = true,
                             .kernel_initializer = fv_ones()));
    fv_fit(net, data, .validation = data, .batch_size = 16, .optimizer = fv_sgd(.learning_rate = FV_ZERO));
    if (fv_error(c)) fail_msg("%s", fv_error(c));
    const fv_metrics m = fv_net_history(net).epoch[0];
    fv_close(c);
    return validation ? m.val_loss : m.loss;
}

static void masks_follow(void **state) {
    (void)state;
    fv_augment_options o = { .flip = true, .crop = 2, .flip_vertical = true, .scale = { 0.3f, 1 }, .rotation = 30,
                             .shear = { 5, 10 }, .shift = { 0.2f, 0.1f }, .zoom = { 0.8f, 1.2f }, .border = FV_BORDER_FILL };
    assert_true(loss_of_identity("cpu", o, false) < 1e-12 && loss_of_identity("reference", o, false) < 1e-12);
    o.cutmix = 1;
    assert_true(loss_of_identity("cpu", o, false) < 1e-12);
    o.mixup = 0.5f; /* of images and of shares alike */
    assert_true(loss_of_identity("cpu", o, false) < 1e-12);
    o.leave_targets = true;
    assert_true(loss_of_identity("cpu", o, false) > 0.01);
    assert_true(loss_of_identity("cpu", o, true) < 1e-12); /* nothing happens in evaluation */
    fv_augment_options c = { .brightness = 0.5f };
    assert_true(loss_of_identity("cpu", c, false) > 0.001); /* colours are the image's alone */
    fv_augment_options e = { .cutout = 4 };
    assert_true(loss_of_identity("cpu", e, false) > 0.001);
}

/* Everything at once on bytes with labels: both backends see the same. Without weights the loss of shares of four classes is
 * log 4, whatever the shares. */
static double train_on_labels(const char *device, bool zero, int units, fv_augment_options o, double *accuracy) {
    fv_context *c =
        fv_open_with(&(const fv_open_options){ .struct_size = sizeof(fv_open_options), .device = device, .seed = 11 });
    fv_dataset *data = set_of(c, pixels, FV_U8, &label_array);
    o.struct_size = sizeof o;
    fv_augment_with(data, &o);
    fv_net *net = fv_net_new(c, "labels");
    fv_initializer start = zero ? fv_zeros() : (fv_initializer){ 0 };
    fv_output(net, fv_dense(net, fv_flatten(net, fv_input(net, SIDE, SIDE, 3)), .units = units, .kernel_initializer = start));
    fv_fit(net, data, .epochs = 2, .batch_size = 16, .optimizer = fv_sgd(.learning_rate = zero ? FV_ZERO : 0.01f));
    if (fv_error(c)) fail_msg("%s", fv_error(c));
    const fv_metrics m = fv_net_history(net).epoch[1];
    *accuracy = m.accuracy;
    fv_close(c);
    return m.loss;
}

static void mixed_labels(void **state) {
    (void)state;
    double accuracy, other;
    fv_augment_options o = { .flip = true, .scale = { 0.5f, 1 }, .rotation = 10, .brightness = 0.4f, .contrast = 0.4f,
                             .saturation = 0.4f, .hue = 0.1f, .grey = 0.2f, .erase = 0.25f, .mixup = 0.8f, .cutmix = 1 };
    assert_true(fabs(train_on_labels("cpu", true, 4, o, &accuracy) - log(4)) < 1e-5);
    assert_true(accuracy >= 0 && accuracy <= 1); /* of the samples' own labels */
    const double cpu = train_on_labels("cpu", false, 4, o, &accuracy),
                 reference = train_on_labels("reference", false, 4, o, &other);
    if (!(fabs(cpu - reference) < 1e-4)) fail_msg("cpu %.9g, reference %.9g", cpu, reference);
    assert_true(fabs(accuracy - other) < 1e-6);
    for (int i = 0; i < IMAGES; i++) labels[i] %= 2; /* yes or no: shares of yes */
    assert_true(fabs(train_on_labels("cpu", true, 1, o, &accuracy) - log(2)) < 1e-5);
    assert_true(accuracy >= 0 && accuracy <= 1);
    draw_images();
}

static void refuse(fv_dataset *data, fv_augment_options o, const char *sentence) {
    fv_context *c = data->object.context;
    o.struct_size = sizeof o;
    assert_int_not_equal(fv_augment_with(data, &o), 0);
    if (!fv_error(c) || strcmp(fv_error(c), sentence)) fail_msg("error:    %s\nexpected: %s", fv_error(c), sentence);
    fv_clear_error(c);
}

static void refused(void **state) {
    (void)state;
    fv_context *c = fv_open("reference");
    static const int32_t map[IMAGES][SIDE][SIDE];
    const fv_array maps = { map, FV_I32, 3, { IMAGES, SIDE, SIDE } };
    fv_dataset *data = set_of(c, pixels, FV_U8, &label_array), *masked = set_of(c, pixels, FV_U8, &maps);
    assert_null(fv_error(c));
    refuse(data, (fv_augment_options){ .rotation = -5 }, "fv_augment: rotation is -5, which is not within 0..360");
    refuse(data, (fv_augment_options){ .hue = 0.6f }, "fv_augment: hue is 0.6, which is not within 0..0.5");
    refuse(data, (fv_augment_options){ .scale = { 0.5f, 0.2f } },
           "fv_augment: scale is 0.5..0.2, which does not rise within 1e-06..1");
    refuse(data, (fv_augment_options){ .zoom = { 0, 2 } }, "fv_augment: zoom is 0..2, which does not rise within 0.01..100");
    refuse(data, (fv_augment_options){ .crop = 13 }, "fv_augment: a crop of 13 pixels does not fit images of 12 x 12");
    refuse(masked, (fv_augment_options){ .mixup = 1 },
           "fv_augment: mixup cannot mix target 0 [40, 12, 12] of i32: use cutmix, or shares of classes as f32");
    fv_augment(masked, .cutmix = 1, .rotation = 10, .mask_fill = 255);
    assert_null(fv_error(c));
    fv_close(c);
}

static int prepare(void **state) {
    (void)state;
    draw_images();
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(maps_about_the_centre), cmocka_unit_test(resized_crops), cmocka_unit_test(shares_and_boxes),
        cmocka_unit_test(colours),               cmocka_unit_test(masks_follow),  cmocka_unit_test(mixed_labels),
        cmocka_unit_test(refused),
    };
    return cmocka_run_group_tests(tests, prepare, NULL);
}
