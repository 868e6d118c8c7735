/* test_data.c - data sets: making, views, splits, settings, copies on the device; files in IDX and CIFAR form, whole,
 * packed, cut short and wrong; the search for files; the drawn digits. Everything but the last test needs no data. */
#include "data/data.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include <cmocka.h>

static fv_context *ctx;
static char folder[512];

/* The context holds this error, said with these words; it is cleared. */
static void assert_fails_(fv_status status, const char *words, int line) {
    if (fv_error_status(ctx) != status || !strstr(fv_error(ctx) ? fv_error(ctx) : "", words))
        fail_msg("line %d: %s '%s', not %s '%s'", line, fv_status_name(fv_error_status(ctx)),
                 fv_error(ctx) ? fv_error(ctx) : "", fv_status_name(status), words);
    assert_null(strchr(fv_error(ctx), '\n'));
    fv_clear_error(ctx);
}
#define assert_fails(status, words) assert_fails_(status, words, __LINE__)
#define assert_works()              assert_string_equal(fv_error(ctx) ? fv_error(ctx) : "", "")

static const char *path_of(const char *name) {
    static char path[4][1024];
    static int next;
    next = (next + 1) % 4;
    snprintf(path[next], sizeof path[next], "%s/%s", folder, name);
    return path[next];
}

static const char *write_file(const char *name, const void *bytes, size_t size) {
    const char *path = path_of(name);
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, size, file), size);
    fclose(file);
    return path;
}

static const char *write_gzip(const char *name, const void *bytes, size_t size) {
    const char *path = path_of(name);
    gzFile file = gzopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(gzwrite(file, bytes, (unsigned)size), size);
    gzclose(file);
    return path;
}

static size_t read_file(const char *path, unsigned char *bytes, size_t capacity) {
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    size_t size = fread(bytes, 1, capacity, file);
    fclose(file);
    return size;
}

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
        &(fv_open_options){ .struct_size = sizeof(fv_open_options), .device = "reference64", .memory_limit = 64 });
    fv_dataset *set = small_set(false);
    assert_int_equal(fv_dataset_device(set), FV_ERROR_MEMORY); /* 160 bytes as doubles: too large, but no error */
    assert_works();
    assert_int_equal(fv_close(ctx), 0);
    ctx = own;
}

/* ---- IDX --------------------------------------------------------------------------------------------------------- */

typedef struct idx {
    unsigned char bytes[512];
    size_t size;
} idx;

static void add(idx *file, uint64_t value, int bytes) {
    for (int i = bytes - 1; i >= 0; i--) file->bytes[file->size++] = (unsigned char)(value >> (8 * i));
}

static idx idx_header(int type, int rank, const uint32_t *dims) {
    idx file = { .bytes = { 0, 0, (unsigned char)type, (unsigned char)rank }, .size = 4 };
    for (int i = 0; i < rank; i++) add(&file, dims[i], 4);
    return file;
}

/* Two images of 2 x 3 of every type: -2, -1, 0, ... (u8: 0, 1, 2, ...). */
static void every_type_of_idx_is_read(void **state) {
    (void)state;
    static const struct {
        int type, bytes;
    } types[] = { { 8, 1 }, { 9, 1 }, { 11, 2 }, { 12, 4 }, { 13, 4 }, { 14, 8 } };
    for (size_t t = 0; t < 6; t++)
        for (int packed = 0; packed < 2; packed++) {
            idx file = idx_header(types[t].type, 3, (uint32_t[]){ 2, 2, 3 });
            for (int i = 0; i < 12; i++) {
                float f = (float)(i - 2) * 0.5f;
                double d = (i - 2) * 0.5;
                uint32_t bits = 0;
                uint64_t wide = 0;
                memcpy(&bits, &f, 4);
                memcpy(&wide, &d, 8);
                uint64_t value = types[t].type == 8    ? (uint64_t)i
                                 : types[t].type == 13 ? bits
                                 : types[t].type == 14 ? wide
                                                       : (uint64_t)(int64_t)(i - 2);
                add(&file, value, types[t].bytes);
            }
            fv_dataset *set = fv_idx(ctx, (packed ? write_gzip : write_file)("images", file.bytes, file.size), NULL);
            assert_works();
            int64_t dims[FV_RANK];
            assert_int_equal(fv_dataset_shape(set, 0, dims), 4);
            assert_true(dims[0] == 2 && dims[1] == 2 && dims[2] == 3 && dims[3] == 1);
            assert_int_equal(set->input[0].type, types[t].type == 8 ? FV_U8 : FV_F32);
            for (int i = 0; i < 12; i++) {
                if (types[t].type == 8)
                    assert_int_equal(((const unsigned char *)set->input[0].data)[i], i);
                else
                    assert_true(((const float *)set->input[0].data)[i] ==
                                (float)(i - 2) * (types[t].bytes == 8 || types[t].type == 13 ? 0.5f : 1));
            }
            assert_int_equal(set->target_count, 0);
            assert_true((set->mapped[0] != NULL) == (types[t].type == 8 && !packed));
            fv_dataset_free(set);
        }
}

static idx images_file(int count) {
    idx file = idx_header(8, 3, (uint32_t[]){ (uint32_t)count, 2, 2 });
    for (int i = 0; i < 4 * count; i++) add(&file, (uint64_t)i, 1);
    return file;
}

static idx labels_file(int count, int type) {
    idx file = idx_header(type, 1, (uint32_t[]){ (uint32_t)count });
    for (int i = 0; i < count; i++) add(&file, (uint64_t)i, type == 12 ? 4 : 1);
    return file;
}

static void labels_go_with_images(void **state) {
    (void)state;
    idx images = images_file(3), label = labels_file(3, 12), few = labels_file(2, 8), negative = labels_file(3, 9);
    const char *path = write_file("images", images.bytes, images.size);
    fv_dataset *set = fv_idx(ctx, path, write_gzip("labels", label.bytes, label.size));
    assert_works();
    assert_int_equal(fv_dataset_classes(set), 3);
    assert_int_equal(fv_dataset_label(set, 2), 2);
    fv_dataset_free(set);
    assert_null(fv_idx(ctx, path, write_file("labels", few.bytes, few.size)));
    assert_fails(FV_ERROR_FORMAT, "holds 2 labels, but");
    negative.bytes[8] = 0xff;
    assert_null(fv_idx(ctx, path, write_file("labels", negative.bytes, negative.size)));
    assert_fails(FV_ERROR_ARGUMENT, "negative label -1");
    idx numbers = idx_header(13, 1, (uint32_t[]){ 3 }); /* floats are targets, not labels */
    for (int i = 0; i < 3; i++) add(&numbers, 0x3f800000, 4);
    set = fv_idx(ctx, path, write_file("labels", numbers.bytes, numbers.size));
    assert_works();
    assert_true(set->target[0].type == FV_F32 && set->target[0].shape.rank == 2 &&
                ((const float *)set->target[0].data)[2] == 1);
    assert_int_equal(fv_dataset_label(set, 0), -1);
}

/* Every beginning of a file, plain or packed, is refused; so is one byte more. */
static void cut_files_are_refused(void **state) {
    (void)state;
    idx file = images_file(3);
    unsigned char bytes[1024];
    for (size_t size = 0; size < file.size; size++) {
        assert_null(fv_idx(ctx, write_file("cut", file.bytes, size), NULL));
        assert_true(fv_error_status(ctx) == FV_ERROR_FORMAT && strstr(fv_error(ctx), "cut"));
        fv_clear_error(ctx);
    }
    file.bytes[file.size] = 0;
    assert_null(fv_idx(ctx, write_file("long", file.bytes, file.size + 1), NULL));
    assert_fails(FV_ERROR_FORMAT, "its header says [3, 2, 2] u8, which is 12 bytes, but 13 follow");
    size_t packed = read_file(write_gzip("packed", file.bytes, file.size), bytes, sizeof bytes);
    for (size_t size = 0; size < packed; size++) {
        assert_null(fv_idx(ctx, write_file("cut", bytes, size), NULL));
        assert_true(fv_error_status(ctx) == FV_ERROR_FORMAT && strstr(fv_error(ctx), "cut"));
        fv_clear_error(ctx);
    }
    for (size_t at = 0; at < packed; at++) { /* a byte changed: what is read is right, or an error */
        unsigned char old = bytes[at];
        bytes[at] ^= 0x55;
        fv_dataset *set = fv_idx(ctx, write_file("changed", bytes, packed), NULL);
        if (set)
            assert_memory_equal(set->input[0].data, file.bytes + 16, 12);
        else
            assert_true(fv_error_status(ctx) == FV_ERROR_FORMAT || fv_error_status(ctx) == FV_ERROR_SHAPE);
        fv_clear_error(ctx);
        fv_dataset_free(set);
        bytes[at] = old;
    }
}

static void foreign_files_are_refused(void **state) {
    (void)state;
    const struct {
        uint32_t dims[7];
        int type, rank;
        const char *words;
    } bad[] = {
        { { 1, 1, 1 }, 7, 3, "is not an IDX file" },
        { { 1, 1, 1 }, 10, 3, "is not an IDX file" },
        { { 0 }, 8, 0, "has 0 axes" },
        { { 1, 1, 1, 1, 1, 1, 1 }, 8, 7, "has 7 axes" },
        { { 2, 0, 1 }, 8, 3, "axis 1 has size 0" },
        { { 0xffffffff, 0xffffffff, 0xffffffff }, 8, 3, "too large" },
        { { 0xffffffff, 0xffff, 1 }, 14, 3, "but 0 follow" },
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        idx file = idx_header(bad[i].type, bad[i].rank, bad[i].dims);
        assert_null(fv_idx(ctx, write_file("foreign", file.bytes, file.size), NULL));
        assert_fails(strstr(bad[i].words, "large") ? FV_ERROR_SHAPE : FV_ERROR_FORMAT, bad[i].words);
    }
    assert_null(fv_idx(ctx, write_file("foreign", "\x89PNG\r\n\x1a\n", 8), NULL));
    assert_fails(FV_ERROR_FORMAT, "is not an IDX file");
    assert_null(fv_idx(ctx, path_of("nowhere"), NULL));
    assert_fails(FV_ERROR_FILE, "No such file");
    assert_null(fv_idx(ctx, folder, NULL));
    assert_fails(FV_ERROR_FILE, "regular file");
    assert_null(fv_idx(ctx, NULL, NULL));
    assert_fails(FV_ERROR_ARGUMENT, "no file");
}

static void packed_files_have_a_limit(void **state) {
    (void)state;
    size_t size;
    unsigned char *zeros = calloc(1, 1 << 20);
    const char *path = write_gzip("zeros", zeros, 1 << 20);
    free(zeros);
    unsigned char *data = fv_file_read(ctx, path, 1 << 20, &size);
    assert_works();
    assert_true(data && size == 1 << 20 && !data[size - 1] && !data[size]);
    fv_free(data);
    assert_null(fv_file_read(ctx, path, (1 << 20) - 1, &size));
    assert_fails(FV_ERROR_FORMAT, "unpacks to more than the limit of 1048575 bytes");
    assert_null(fv_file_read(ctx, write_file("plain", "12345", 5), 4, &size));
    assert_fails(FV_ERROR_FORMAT, "5 bytes, more than the limit of 4");
    data = fv_file_read(ctx, write_file("empty", "", 0), 4, &size);
    assert_true(data && size == 0);
    fv_free(data);
    assert_null(fv_file_read(ctx, folder, 4, &size));
    assert_fails(FV_ERROR_FILE, "is a folder");
    unsigned char twice[256]; /* members that follow each other are one text */
    size_t first = read_file(write_gzip("member", "abc", 3), twice, 128);
    memcpy(twice + first, twice, first);
    data = fv_file_read(ctx, write_file("twice", twice, 2 * first), 100, &size);
    assert_works();
    assert_string_equal(data, "abcabc");
    fv_free(data);
}

/* ---- CIFAR ------------------------------------------------------------------------------------------------------- */

enum { RECORD = 3073 };

static void planes_become_channels(void **state) {
    (void)state;
    unsigned char *file = malloc(3 * RECORD);
    for (int i = 0; i < 3 * RECORD; i++) file[i] = (unsigned char)(i * 7 + i / 256);
    for (int i = 0; i < 3; i++) file[i * RECORD] = (unsigned char)(3 * i + 3);
    const char *paths[] = { write_file("one.bin", file, 2 * RECORD), write_gzip("two.bin", file + 2 * RECORD, RECORD) };
    fv_dataset *set = fv_cifar_files(ctx, paths, 2);
    assert_works();
    int64_t dims[FV_RANK];
    assert_int_equal(fv_dataset_shape(set, 0, dims), 4);
    assert_true(dims[0] == 3 && dims[1] == 32 && dims[2] == 32 && dims[3] == 3);
    assert_int_equal(fv_dataset_classes(set), 10);
    const unsigned char *image = set->input[0].data;
    for (int i = 0; i < 3; i++) {
        assert_int_equal(fv_dataset_label(set, i), 3 * i + 3);
        for (int p = 0; p < 1024; p++)
            for (int c = 0; c < 3; c++)
                assert_int_equal(image[(i * 1024 + p) * 3 + c], file[i * RECORD + 1 + c * 1024 + p]);
    }
    fv_dataset_free(set);
    for (size_t size = 0; size < RECORD; size += size < 40 || size > RECORD - 40 ? 1 : 97) {
        const char *cut = write_file("cut.bin", file, size);
        assert_null(fv_cifar_files(ctx, &cut, 1));
        assert_fails(FV_ERROR_FORMAT, "no multiple of a CIFAR-10 record");
    }
    file[RECORD] = 10;
    assert_null(fv_cifar_files(ctx, (const char *[]){ write_file("bad.bin", file, 2 * RECORD) }, 1));
    assert_fails(FV_ERROR_FORMAT, "image 1 has label 10");
    assert_null(fv_cifar_files(ctx, NULL, 0));
    assert_fails(FV_ERROR_ARGUMENT, "no files");
    free(file);
}

/* ---- The search -------------------------------------------------------------------------------------------------- */

static void files_are_found_where_others_put_them(void **state) {
    (void)state;
    static const char *const subfolders[] = { "mnist", "MNIST/raw", NULL };
    mkdir(path_of("MNIST"), 0777);
    mkdir(path_of("MNIST/raw"), 0777);
    mkdir(path_of("mnist"), 0777);
    write_file("MNIST/raw/sought", "x", 1);
    char *found = fv_data_find(ctx, folder, subfolders, "sought");
    assert_string_equal(found, path_of("MNIST/raw/sought"));
    fv_free(found);
    write_file("mnist/sought.gz", "x", 1);
    found = fv_data_find(ctx, folder, subfolders, "sought");
    assert_string_equal(found, path_of("mnist/sought.gz"));
    fv_free(found);
    mkdir(path_of("sought"), 0777); /* a folder of that name is no file */
    char *before = getenv("FOVEA_DATA") ? strdup(getenv("FOVEA_DATA")) : NULL;
    setenv("FOVEA_DATA", folder, 1);
    found = fv_data_find(ctx, NULL, subfolders, "sought");
    assert_string_equal(found, path_of("mnist/sought.gz"));
    fv_free(found);
    setenv("FOVEA_DATA", path_of("nowhere"), 1);
    setenv("XDG_CACHE_HOME", folder, 1);
    assert_null(fv_data_find(ctx, NULL, subfolders, "sought"));
    assert_fails(FV_ERROR_FILE, "sought: found neither plain nor as .gz in");
    mkdir(path_of("fovea"), 0777);
    write_file("fovea/sought", "x", 1);
    found = fv_data_find(ctx, NULL, subfolders, "sought");
    assert_string_equal(found, path_of("fovea/sought"));
    fv_free(found);
    unsetenv("FOVEA_DATA");
    unsetenv("XDG_CACHE_HOME");
    assert_null(fv_mnist(ctx, path_of("nowhere"), FV_TRAIN));
    assert_fails(FV_ERROR_FILE, "train-images-idx3-ubyte: found neither");
    assert_null(fv_cifar10(ctx, path_of("nowhere"), FV_TEST));
    assert_fails(FV_ERROR_FILE, "test_batch.bin");
    if (before) setenv("FOVEA_DATA", before, 1);
    free(before);
}

/* ---- Digits ------------------------------------------------------------------------------------------------------ */

static void drawn_digits_depend_on_seed_and_number(void **state) {
    (void)state;
    fv_dataset *many = fv_digits(ctx, 300, 5), *few = fv_digits(ctx, 100, 5), *other = fv_digits(ctx, 100, 6);
    assert_works();
    assert_memory_equal(many->input[0].data, few->input[0].data, 100 * 784);
    assert_memory_equal(many->target[0].data, few->target[0].data, 100 * sizeof(int32_t));
    assert_memory_not_equal(few->input[0].data, other->input[0].data, 784);
    assert_int_equal(fv_dataset_classes(many), 10);
    int count[10] = { 0 };
    for (int i = 0; i < 300; i++) {
        const unsigned char *image = (const unsigned char *)many->input[0].data + 784 * i;
        int sum = 0, border = 0;
        for (int p = 0; p < 784; p++) {
            sum += image[p];
            border += p < 28 || p >= 756 ? image[p] : 0;
        }
        assert_true(sum > 255 * 15 && sum < 255 * 350); /* neither blank nor a blot */
        assert_true(border < 255 * 28);
        count[fv_dataset_label(many, i)]++;
    }
    for (int c = 0; c < 10; c++) assert_true(count[c] > 10 && count[c] < 60);
    assert_null(fv_digits(ctx, 0, 1));
    assert_fails(FV_ERROR_ARGUMENT, "0 digits");
}

/* ---- Lack of memory ---------------------------------------------------------------------------------------------- */

static fv_status read_everything(void) {
    idx images = images_file(6), label = labels_file(6, 8);
    const char *one = write_gzip("images", images.bytes, images.size),
               *two = write_gzip("labels", label.bytes, label.size);
    fv_dataset *set = fv_idx(ctx, one, two), *first, *second;
    fv_dataset_split(set, 0.5f, true, 1, &first, &second);
    fv_dataset_take(second, 1, 2);
    source s = { 0 };
    fv_dataset *called = callback_set(&s, 4);
    if (called) fv_dataset_labels(called, (int32_t[4]){ 0 });
    fv_dataset_from_memory(ctx, &(fv_memory_options){ .struct_size = sizeof(fv_memory_options),
                                                      .inputs = &pixel_array,
                                                      .input_count = 1,
                                                      .targets = &label_array,
                                                      .target_count = 1,
                                                      .class_names = (const char *[]){ "a", "b", "c" } });
    char *found = fv_data_find(ctx, folder, NULL, "images");
    fv_free(found);
    fv_digits(ctx, 3, 1);
    return fv_error_status(ctx);
}

static void lack_of_memory_is_an_error(void **state) {
    (void)state;
    fill_arrays();
    fv_context *own = ctx;
    ctx = fv_open("reference");
    fv_alloc_fail(0, false);
    assert_int_equal(read_everything(), FV_OK);
    int64_t sites = fv_alloc_fail(0, false);
    assert_true(sites > 20);
    for (int64_t n = 1; n <= sites; n++) {
        fv_alloc_fail(n, true);
        assert_int_equal(read_everything(), FV_ERROR_MEMORY);
        fv_alloc_fail(0, false);
        fv_clear_error(ctx);
    }
    assert_int_equal(fv_close(ctx), 0);
    ctx = own;
}

/* ---- Real data --------------------------------------------------------------------------------------------------- */

static void real_data_is_read(void **state) {
    (void)state;
    if (!getenv("FOVEA_DATA")) {
        print_message("FOVEA_DATA is not set: the real data is not read\n");
        skip();
    }
    static const int first[2][10] = { { 5, 0, 4, 1, 9, 2, 1, 3, 1, 4 }, { 7, 2, 1, 0, 4, 1, 4, 9, 5, 9 } };
    for (int split = 0; split < 2; split++) {
        fv_dataset *mnist = fv_mnist(ctx, NULL, split ? FV_TEST : FV_TRAIN);
        assert_works();
        assert_int_equal(fv_dataset_count(mnist), split ? 10000 : 60000);
        for (int i = 0; i < 10; i++) assert_int_equal(fv_dataset_label(mnist, i), first[split][i]);
        fv_dataset_free(mnist);
    }
    fv_dataset *cifar = fv_cifar10(ctx, NULL, FV_TEST);
    assert_works();
    assert_int_equal(fv_dataset_count(cifar), 10000);
    int count[10] = { 0 };
    for (int i = 0; i < 10000; i++) count[fv_dataset_label(cifar, i)]++;
    for (int c = 0; c < 10; c++) assert_int_equal(count[c], 1000);
    const unsigned char *pixel = cifar->input[0].data; /* the first test image: a cat */
    assert_int_equal(fv_dataset_label(cifar, 0), 3);
    assert_true(pixel[0] == 158 && pixel[1] == 112 && pixel[2] == 49);
}

static int set_up(void **state) {
    (void)state;
    snprintf(folder, sizeof folder, "%s/fovea-data-XXXXXX", getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
    ctx = mkdtemp(folder) ? fv_open("reference") : NULL;
    return ctx && !fv_error(ctx) ? 0 : -1;
}

static int tear_down(void **state) {
    (void)state;
    char command[600];
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    return fv_close(ctx) || system(command);
}

static int begin(void **state) { /* one test's failure is not the next one's */
    (void)state;
    fv_alloc_fail(0, false);
    fv_clear_error(ctx);
    return 0;
}
#define TEST(name) cmocka_unit_test_setup(name, begin)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(arrays_are_copied_or_borrowed),
        TEST(bad_arrays_are_refused),
        TEST(a_callback_gives_samples),
        TEST(a_callback_may_fail),
        TEST(views_of_views_refer_to_the_whole),
        TEST(splits_are_partitions_and_repeat),
        TEST(stratified_counts_are_exact),
        TEST(settings_have_defaults_and_bounds),
        TEST(copies_lie_on_the_device),
        TEST(every_type_of_idx_is_read),
        TEST(labels_go_with_images),
        TEST(cut_files_are_refused),
        TEST(foreign_files_are_refused),
        TEST(packed_files_have_a_limit),
        TEST(planes_become_channels),
        TEST(files_are_found_where_others_put_them),
        TEST(drawn_digits_depend_on_seed_and_number),
        TEST(lack_of_memory_is_an_error),
        TEST(real_data_is_read),
    };
    return cmocka_run_group_tests_name("data", tests, set_up, tear_down);
}
