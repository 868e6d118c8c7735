/* test_data.c - data sets: making them from arrays and callbacks, views, splits, settings, copies on the device. */
#include "data/data.h"
#include "scratch.h"
#include <math.h>

/* ---- From memory ------------------------------------------------------------------------------------------------- */

enum { SAMPLES = 10 };
static unsigned char pixels[SAMPLES][2][3][1];
static float rows[SAMPLES][2];
static int32_t labels[SAMPLES];

static void fill_arrays(void) {
    for (int i = 0; i < SAMPLES; i++) {
        for (int p = 0; p < 6; p++) pixels[i][p / 3][p % 3][0] = (unsigned char)(10 * i + p);
        rows[i][0] = (float)i;
        rows[i][1] = (float)-i;
        labels[i] = i % 3;
    }
}

static const fv_array pixel_array = { pixels, FV_U8, 4, { SAMPLES, 2, 3, 1 } };
static const fv_array row_array = { rows, FV_F32, 2, { SAMPLES, 2 } };
static const fv_array label_array = { labels, FV_I32, 1, { SAMPLES } };

static fv_dataset *small_set(bool borrow) {
    fill_arrays();
    const fv_array inputs[] = { pixel_array, row_array };
    fv_dataset *set = fv_dataset_from_memory(ctx, &(fv_memory_options){ .struct_size = sizeof(fv_memory_options),
                                                                        .inputs = inputs,
                                                                        .input_count = 2,
                                                                        .targets = &label_array,
                                                                        .target_count = 1,
                                                                        .borrow = borrow });
    assert_works();
    assert_non_null(set);
    return set;
}

static void arrays_are_copied_or_borrowed(void **state) {
    (void)state;
    for (int borrow = 0; borrow < 2; borrow++) {
        fv_dataset *set = small_set(borrow);
        assert_int_equal(fv_dataset_count(set), SAMPLES);
        assert_int_equal(fv_dataset_classes(set), 3);
        int64_t dims[FV_RANK];
        assert_int_equal(fv_dataset_shape(set, 0, dims), 4);
        assert_int_equal(dims[0], SAMPLES);
        assert_int_equal(dims[1], 2);
        assert_int_equal(dims[2], 3);
        assert_int_equal(dims[3], 1);
        assert_int_equal(fv_dataset_label(set, 4), 1);
        assert_int_equal(fv_dataset_label(set, SAMPLES), -1);
        pixels[3][1][2][0] = 200;
        unsigned char image[2][6];
        float row[2][2];
        int32_t label[2];
        assert_int_equal(fv_dataset_fetch(set, (int64_t[]){ 3, 0 }, 2, (void *[]){ image, row }, (void *[]){ label }),
                         0);
        assert_int_equal(image[0][5], borrow ? 200 : 35);
        assert_int_equal(image[1][2], 2);
        assert_true(row[0][1] == -3 && row[1][1] == 0);
        assert_int_equal(label[0], 0);
        assert_int_equal(fv_dataset_fetch(set, (int64_t[]){ SAMPLES }, 1, (void *[]){ image, row }, NULL),
                         FV_ERROR_ARGUMENT);
        assert_fails(FV_ERROR_ARGUMENT, "no sample 10");
        assert_int_equal(fv_dataset_shape(set, 2, dims), FV_ERROR_ARGUMENT);
        assert_fails(FV_ERROR_ARGUMENT, "no input 2");
        fv_dataset_free(set);
    }
    assert_int_equal(fv_dataset_count(NULL), 0);
    fv_dataset_free(NULL);
}

static void bad_arrays_are_refused(void **state) {
    (void)state;
    fill_arrays();
    static const int32_t negative[SAMPLES] = { 0, -1 }, large[SAMPLES] = { [9] = 7 };
    const struct {
        fv_array input, target;
        int32_t inputs, targets, classes;
        fv_status status;
        const char *words;
    } bad[] = {
        { .inputs = 0, .status = FV_ERROR_ARGUMENT, .words = "no input" },
        { .inputs = 9, .status = FV_ERROR_ARGUMENT, .words = "9 inputs" },
        { { NULL, FV_U8, 2, { 4, 4 } }, .inputs = 1, .status = FV_ERROR_ARGUMENT, .words = "no data" },
        { { pixels, FV_BF16, 2, { 4, 4 } }, .inputs = 1, .status = FV_ERROR_ARGUMENT, .words = "bf16" },
        { { pixels, FV_U8, 0, { 0 } }, .inputs = 1, .status = FV_ERROR_SHAPE, .words = "0 axes" },
        { { pixels, FV_U8, 7, { 0 } }, .inputs = 1, .status = FV_ERROR_SHAPE, .words = "7 axes" },
        { { pixels, FV_U8, 2, { 4, 0 } }, .inputs = 1, .status = FV_ERROR_SHAPE, .words = "axis 1 has size 0" },
        { { pixels, FV_U8, 2, { -4, 4 } }, .inputs = 1, .status = FV_ERROR_SHAPE, .words = "size -4" },
        { { pixels, FV_F32, 3, { 1LL << 30, 1LL << 30, 1LL << 30 } },
          .inputs = 1,
          .status = FV_ERROR_SHAPE,
          .words = "too large" },
        { pixel_array, { pixels, FV_U8, 1, { SAMPLES } }, 1, 1, 0, FV_ERROR_ARGUMENT, "targets are i32" },
        { pixel_array,
          { labels, FV_I32, 1, { SAMPLES - 1 } },
          1,
          1,
          0,
          FV_ERROR_SHAPE,
          "target 0 has 9 samples, but input 0 has 10" },
        { pixel_array,
          { negative, FV_I32, 1, { SAMPLES } },
          1,
          1,
          0,
          FV_ERROR_ARGUMENT,
          "sample 1 has the negative label -1" },
        { pixel_array,
          { large, FV_I32, 1, { SAMPLES } },
          1,
          1,
          7,
          FV_ERROR_ARGUMENT,
          "sample 9 has label 7, but there are 7 classes" },
        { pixel_array, label_array, 1, 1, -1, FV_ERROR_ARGUMENT, "-1 classes" },
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        fv_array inputs[9];
        for (int k = 0; k < 9; k++) inputs[k] = bad[i].input;
        assert_null(fv_dataset_from_memory(ctx, &(fv_memory_options){ .struct_size = sizeof(fv_memory_options),
                                                                      .inputs = inputs,
                                                                      .input_count = bad[i].inputs,
                                                                      .targets = &bad[i].target,
                                                                      .target_count = bad[i].targets,
                                                                      .classes = bad[i].classes }));
        assert_fails(bad[i].status, bad[i].words);
    }
    assert_null(fv_dataset_from_memory(ctx, &(fv_memory_options){ .inputs = &pixel_array, .input_count = 1 }));
    assert_fails(FV_ERROR_ARGUMENT, "struct_size");
    assert_null(fv_dataset_from_memory(NULL, NULL));
}

/* ---- From a callback --------------------------------------------------------------------------------------------- */

typedef struct source {
    int status, calls;
    int32_t wrong_label;
    bool records;
} source;

static int fetch(void *user, const int64_t *indices, int count, void *const *inputs, void *const *targets) {
    source *s = user;
    s->calls++;
    if (s->records) return fv_fail(ctx, FV_ERROR_FILE, "the camera is off");
    for (int i = 0; i < count; i++) {
        ((float *)inputs[0])[2 * i] = (float)indices[i];
        ((float *)inputs[0])[2 * i + 1] = 0.5f;
        ((int32_t *)targets[0])[i] = s->wrong_label ? s->wrong_label : (int32_t)(indices[i] % 4);
    }
    return s->status;
}

static fv_dataset *callback_set(source *s, int64_t samples) {
    const fv_array input = { .type = FV_F32, .rank = 1, .dims = { 2 } }, target = { .type = FV_I32 };
    return fv_dataset_from_callback(ctx, &(fv_callback_options){ .struct_size = sizeof(fv_callback_options),
                                                                 .samples = samples,
                                                                 .fetch = fetch,
                                                                 .user = s,
                                                                 .inputs = &input,
                                                                 .input_count = 1,
                                                                 .targets = &target,
                                                                 .target_count = 1,
                                                                 .classes = 4 });
}

static void a_callback_gives_samples(void **state) {
    (void)state;
    source s = { 0 };
    fv_dataset *set = callback_set(&s, 1000), *view = fv_dataset_take(set, 500, 100), *first, *second;
    assert_works();
    int64_t dims[FV_RANK];
    assert_int_equal(fv_dataset_shape(view, 0, dims), 2);
    assert_true(dims[0] == 100 && dims[1] == 2);
    float input[3][2];
    int32_t label[3];
    assert_int_equal(fv_dataset_fetch(view, (int64_t[]){ 7, 999, 500 }, 3, (void *[]){ input }, (void *[]){ label }),
                     0);
    assert_true(input[1][0] == 999 && label[1] == 3 && label[2] == 0);
    assert_int_equal(fv_dataset_label(view, 3), 503 % 4);
    assert_int_equal(fv_dataset_split(set, 0.5f, true, 1, &first, &second), 0);
    assert_true(s.calls < 20); /* labels are asked for in large pieces */
    int count[4] = { 0 };
    for (int i = 0; i < 500; i++) count[fv_dataset_label(first, i)]++;
    for (int c = 0; c < 4; c++) assert_int_equal(count[c], 125);
    assert_int_equal(fv_dataset_device(set), FV_ERROR_MEMORY);
    assert_works();
}

static void a_callback_may_fail(void **state) {
    (void)state;
    source s = { .status = FV_ERROR_FILE };
    float input[1][2];
    int32_t label[1];
    fv_dataset *set = callback_set(&s, 5);
    assert_works();
    assert_int_equal(fv_dataset_fetch(set, (int64_t[]){ 2 }, 1, (void *[]){ input }, (void *[]){ label }),
                     FV_ERROR_FILE);
    assert_fails(FV_ERROR_FILE, "callback failed on samples 2 to 2 with status -4");
    s = (source){ .status = 3 };
    assert_int_equal(fv_dataset_fetch(set, (int64_t[]){ 2 }, 1, (void *[]){ input }, (void *[]){ label }),
                     FV_ERROR_ARGUMENT);
    assert_fails(FV_ERROR_ARGUMENT, "status 3");
    s = (source){ .wrong_label = 4 };
    assert_true(fv_dataset_fetch(set, (int64_t[]){ 2 }, 1, (void *[]){ input }, (void *[]){ label }) < 0);
    assert_fails(FV_ERROR_ARGUMENT, "sample 2 has label 4, but there are 4 classes");
    s = (source){ .records = true };
    assert_int_equal(fv_dataset_split(set, 0.5f, true, 1, NULL, NULL), FV_ERROR_FILE);
    assert_fails(FV_ERROR_FILE, "the camera is off");
    assert_null(callback_set(&s, 0));
    assert_fails(FV_ERROR_ARGUMENT, "no samples");
    assert_null(fv_dataset_from_callback(
        ctx, &(fv_callback_options){ .struct_size = sizeof(fv_callback_options), .samples = 1 }));
    assert_fails(FV_ERROR_ARGUMENT, "no callback");
    fv_dataset_free(set);
}

/* ---- Views and splits -------------------------------------------------------------------------------------------- */

static void views_of_views_refer_to_the_whole(void **state) {
    (void)state;
    fv_dataset *set = small_set(true), *view = fv_dataset_take(set, 2, 7), *inner = fv_dataset_take(view, 1, 3),
               *all = fv_dataset_take(set, 0, 10);
    assert_works();
    assert_ptr_equal(fv_dataset_source(inner), set);
    assert_int_equal(fv_dataset_count(inner), 3);
    assert_int_equal(fv_dataset_sample(inner, 2), 5);
    assert_int_equal(fv_dataset_sample(all, 9), 9);
    assert_int_equal(fv_dataset_label(inner, 2), 5 % 3);
    assert_int_equal(fv_dataset_classes(inner), 3);
    for (int i = 0; i < 3; i++) {
        static const int64_t bad[3][2] = { { 6, 2 }, { -1, 2 }, { 0, 0 } };
        assert_null(fv_dataset_take(view, bad[i][0], bad[i][1]));
        assert_fails(FV_ERROR_ARGUMENT, "there are 7");
    }
    assert_null(fv_dataset_take(view, 1, INT64_MAX));
    assert_fails(FV_ERROR_ARGUMENT, "there are 7");
}

static int compare(const void *a, const void *b) { return *(const int32_t *)a - *(const int32_t *)b; }

static void splits_are_partitions_and_repeat(void **state) {
    (void)state;
    fv_dataset *digits = fv_digits(ctx, 501, 1), *part[2][2], *other[2];
    assert_works();
    for (int stratified = 0; stratified < 2; stratified++) {
        for (int again = 0; again < 2; again++)
            assert_int_equal(fv_dataset_split(digits, 0.2f, stratified, 7, &part[again][0], &part[again][1]), 0);
        assert_int_equal(fv_dataset_split(digits, 0.2f, stratified, 8, &other[0], &other[1]), 0);
        assert_int_equal(fv_dataset_count(part[0][0]), 100);
        assert_int_equal(fv_dataset_count(part[0][1]), 401);
        assert_memory_equal(part[0][0]->index, part[1][0]->index, 100 * sizeof(int32_t));
        assert_memory_not_equal(part[0][0]->index, other[0]->index, 100 * sizeof(int32_t));
        int32_t all[501];
        memcpy(all, part[0][0]->index, 100 * sizeof *all);
        memcpy(all + 100, part[0][1]->index, 401 * sizeof *all);
        qsort(all, 501, sizeof *all, compare);
        for (int i = 0; i < 501; i++) assert_int_equal(all[i], i);
    }
    fv_dataset *inner = NULL; /* a split of a part keeps to it, and either side may be left out */
    assert_int_equal(fv_dataset_split(part[0][1], 0.5f, true, 3, &inner, NULL), 0);
    for (int i = 0; i < 200; i++)
        assert_non_null(bsearch(&inner->index[i], part[0][1]->index, 401, sizeof(int32_t), compare));
    static const float bad[] = { 0, 1, -1, 2, 0.0001f, 0.9999f, NAN };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(fv_dataset_split(digits, bad[i], false, 7, &part[0][0], &part[0][1]), FV_ERROR_ARGUMENT);
        assert_fails(FV_ERROR_ARGUMENT, "leaves one side empty");
        assert_null(part[0][0]);
    }
}

static fv_dataset *set_of_labels(const int32_t *label, int64_t count) {
    const fv_array input = { label, FV_I32, 1, { count } };
    fv_dataset *set = fv_dataset_from_memory(ctx, &(fv_memory_options){ .struct_size = sizeof(fv_memory_options),
                                                                        .inputs = &input,
                                                                        .input_count = 1,
                                                                        .targets = &input,
                                                                        .target_count = 1 });
    assert_works();
    return set;
}

static void stratified_counts_are_exact(void **state) {
    (void)state;
    static const struct {
        int sizes[4];
        float fraction;
        int expected[4];
    } cases[] = {
        { { 50, 30, 20, 0 }, 0.25f, { 13, 7, 5, 0 } }, /* remainders .5 .5 0: the earlier class wins the tie */
        { { 3, 3, 3, 3 }, 0.5f, { 2, 2, 1, 1 } },
        { { 97, 1, 1, 1 }, 0.1f, { 10, 0, 0, 0 } }, /* shares 9.7 .1 .1 .1 of 10 */
        { { 10, 20, 30, 40 }, 0.9f, { 9, 18, 27, 36 } },
        { { 1, 1, 1, 1 }, 0.75f, { 1, 1, 1, 0 } },
    };
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        int32_t label[200];
        int64_t count = 0, wanted = 0;
        for (int c = 3; c >= 0; c--)
            for (int i = 0; i < cases[k].sizes[c]; i++) label[count++] = c;
        for (int c = 0; c < 4; c++) wanted += cases[k].expected[c];
        fv_dataset *first, *second;
        assert_int_equal(fv_dataset_split(set_of_labels(label, count), cases[k].fraction, true, 5, &first, &second), 0);
        assert_int_equal(fv_dataset_count(first), wanted);
        int got[4] = { 0 };
        for (int64_t i = 0; i < wanted; i++) got[fv_dataset_label(first, i)]++;
        for (int c = 0; c < 4; c++) assert_int_equal(got[c], cases[k].expected[c]);
    }
    /* Dense targets: the class is the largest entry. Without classes there is nothing to stratify by. */
    float dense[6][2] = { { 1, 0 }, { 0, 1 }, { 1, 0 }, { 0, 1 }, { 1, 0 }, { 0, 1 } };
    const fv_array input = { rows, FV_F32, 2, { 6, 2 } }, target = { dense, FV_F32, 2, { 6, 2 } };
    fv_memory_options options = { .struct_size = sizeof options,
                                  .inputs = &input,
                                  .input_count = 1,
                                  .targets = &target,
                                  .target_count = 1,
                                  .classes = 2 };
    fv_dataset *set = fv_dataset_from_memory(ctx, &options), *first, *second;
    assert_int_equal(fv_dataset_split(set, 1 / 3.0f, true, 5, &first, &second), 0);
    assert_int_equal(fv_dataset_label(first, 0) + fv_dataset_label(first, 1), 1);
    options.classes = 0;
    assert_int_equal(fv_dataset_split(fv_dataset_from_memory(ctx, &options), 0.5f, true, 5, &first, &second),
                     FV_ERROR_ARGUMENT);
    assert_fails(FV_ERROR_ARGUMENT, "needs labels");
}

/* ---- Settings and the device ------------------------------------------------------------------------------------- */

static void settings_have_defaults_and_bounds(void **state) {
    (void)state;
    fv_dataset *set = small_set(true);
    assert_true(set->normalized && set->normalize.scale == 1.0f / 255 && set->normalize.deviation[3] == 1);
    assert_int_equal(fv_normalize(set, .mean = { 0.5f }, .deviation = { 0.25f }), 0);
    assert_true(set->normalize.scale == 1.0f / 255 && set->normalize.mean[0] == 0.5f &&
                set->normalize.deviation[1] == 1);
    fv_dataset *view = fv_dataset_take(set, 0, 3);
    assert_true(view->normalize.mean[0] == 0.5f);
    assert_int_equal(fv_normalize(view, .mean = { 0.1f }), 0);
    assert_true(set->normalize.mean[0] == 0.5f && view->normalize.mean[0] == 0.1f);
    assert_int_equal(fv_normalize(set, .deviation = { -1 }), FV_ERROR_ARGUMENT);
    assert_fails(FV_ERROR_ARGUMENT, "deviation -1");
    assert_int_equal(fv_normalize(set, .scale = NAN), FV_ERROR_ARGUMENT);
    assert_fails(FV_ERROR_ARGUMENT, "finite");
    assert_int_equal(fv_normalize(set_of_labels(labels, 4), .scale = 2), FV_ERROR_ARGUMENT);
    assert_fails(FV_ERROR_ARGUMENT, "type i32");
    assert_int_equal(fv_augment(set, .flip = true, .crop = 2), 0);
    assert_int_equal(fv_augment(set, .crop = 3), FV_ERROR_ARGUMENT);
    assert_fails(FV_ERROR_ARGUMENT, "a crop of 3 pixels does not fit images of 2 x 3");
    assert_int_equal(fv_augment(set, .crop = -1), FV_ERROR_ARGUMENT);
    assert_fails(FV_ERROR_ARGUMENT, "-1");
    assert_int_equal(fv_augment(set_of_labels(labels, 4), .flip = true), FV_ERROR_SHAPE);
    assert_fails(FV_ERROR_SHAPE, "[samples, height, width, channels]");
    const fv_array input = row_array;
    fv_dataset *plain = fv_dataset_from_memory(
        ctx, &(fv_memory_options){ .struct_size = sizeof(fv_memory_options), .inputs = &input, .input_count = 1 });
    assert_true(!plain->normalized && plain->normalize.scale == 1);
}

static void copies_lie_on_the_device(void **state) {
    (void)state;
    static const char *const devices[] = { "cpu", "reference", "reference64" };
    for (int i = 0; i < 3; i++) {
        fv_context *own = ctx;
        ctx = fv_open(devices[i]);
        fv_dataset *set = small_set(true), *view = fv_dataset_take(set, 3, 2);
        assert_int_equal(fv_dataset_device(view), 0);
        assert_int_equal(fv_dataset_device(set), 0);
        assert_memory_equal(set->input[0].device, pixels, sizeof pixels);
        assert_memory_equal(set->target[0].device, labels, sizeof labels);
        for (int k = 0; k < 2 * SAMPLES; k++) {
            double value = i == 2 ? ((double *)set->input[1].device)[k] : (double)((float *)set->input[1].device)[k];
            assert_true(value == (double)rows[k / 2][k % 2]);
        }
        if (i < 2)
            assert_ptr_equal(set->input[0].device, pixels); /* the host's memory is the device's: nothing is copied */
        fv_dataset_free(view);
        fv_dataset_free(set);
        assert_int_equal(ctx->memory_used, 0);
        assert_int_equal(fv_close(ctx), 0);
        ctx = own;
    }
    fv_context *own = ctx;
    ctx = fv_open_with(
        &(fv_open_options){ .struct_size = sizeof(fv_open_options), .device = "reference64", .memory_limit = 300 });
    fv_dataset *set = small_set(false);
    assert_int_equal(fv_dataset_device(set), FV_ERROR_MEMORY); /* 160 bytes as doubles, more than half: no error */
    assert_works();
    assert_int_equal(fv_close(ctx), 0);
    ctx = own;
}

/* ---- Lack of memory ---------------------------------------------------------------------------------------------- */

static fv_status make_everything(void) {
    fv_dataset *set =
        fv_dataset_from_memory(ctx, &(fv_memory_options){ .struct_size = sizeof(fv_memory_options),
                                                          .inputs = &pixel_array,
                                                          .input_count = 1,
                                                          .targets = &label_array,
                                                          .target_count = 1,
                                                          .class_names = (const char *[]){ "a", "b", "c" } });
    fv_dataset *first, *second;
    fv_dataset_split(set, 0.5f, true, 1, &first, &second);
    fv_dataset_take(second, 1, 2);
    source s = { 0 };
    fv_dataset *called = callback_set(&s, 4);
    if (called) fv_dataset_labels(called, (int32_t[4]){ 0 });
    return fv_error_status(ctx);
}

static void lack_of_memory_is_an_error(void **state) {
    (void)state;
    fill_arrays();
    fv_context *own = ctx;
    ctx = fv_open("reference");
    fv_alloc_fail(0, false);
    assert_int_equal(make_everything(), FV_OK);
    int64_t sites = fv_alloc_fail(0, false);
    assert_true(sites > 10);
    for (int64_t n = 1; n <= sites; n++) {
        fv_alloc_fail(n, true);
        assert_int_equal(make_everything(), FV_ERROR_MEMORY);
        fv_alloc_fail(0, false);
        fv_clear_error(ctx);
    }
    assert_int_equal(fv_close(ctx), 0);
    ctx = own;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(arrays_are_copied_or_borrowed),     TEST(bad_arrays_are_refused),
        TEST(a_callback_gives_samples),          TEST(a_callback_may_fail),
        TEST(views_of_views_refer_to_the_whole), TEST(splits_are_partitions_and_repeat),
        TEST(stratified_counts_are_exact),       TEST(settings_have_defaults_and_bounds),
        TEST(copies_lie_on_the_device),          TEST(lack_of_memory_is_an_error)
    };
    return run_in_scratch("data", tests);
}
