/* test_sources.c - data from files: IDX and CIFAR, whole, packed, cut short and wrong, the search for them, and the
 * drawn digits. Only the last test needs data. */
#include "data/data.h"
#include "scratch.h"
#include <sys/stat.h>
#include <zlib.h>

static const char *write_gzip(const char *name, const void *bytes, size_t size) {
    const char *path = path_of(name);
    gzFile file = gzopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(gzwrite(file, bytes, (unsigned)size), size);
    gzclose(file);
    return path;
}

static size_t copy_file(const char *path, unsigned char *to, size_t capacity) {
    size_t size;
    unsigned char *bytes = read_file(path, &size);
    assert_true(size <= capacity);
    memcpy(to, bytes, size);
    free(bytes);
    return size;
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
    size_t packed = copy_file(write_gzip("packed", file.bytes, file.size), bytes, sizeof bytes);
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
    size_t first = copy_file(write_gzip("member", "abc", 3), twice, 128);
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
    fv_idx(ctx, write_gzip("images", images.bytes, images.size), write_gzip("labels", label.bytes, label.size));
    unsigned char record[RECORD] = { 1 };
    fv_cifar_files(ctx, (const char *[]){ write_gzip("record", record, sizeof record) }, 1);
    char *found = fv_data_find(ctx, folder, NULL, "images");
    fv_free(found);
    fv_digits(ctx, 3, 1);
    return fv_error_status(ctx);
}

static void lack_of_memory_is_an_error(void **state) {
    (void)state;
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

int main(void) {
    const struct CMUnitTest tests[] = { TEST(every_type_of_idx_is_read),
                                        TEST(labels_go_with_images),
                                        TEST(cut_files_are_refused),
                                        TEST(foreign_files_are_refused),
                                        TEST(packed_files_have_a_limit),
                                        TEST(planes_become_channels),
                                        TEST(files_are_found_where_others_put_them),
                                        TEST(drawn_digits_depend_on_seed_and_number),
                                        TEST(lack_of_memory_is_an_error),
                                        TEST(real_data_is_read) };
    return run_in_scratch("sources", tests);
}
