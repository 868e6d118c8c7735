/* cifar.c - the binary files of CIFAR-10 (Krizhevsky 2009): records of 3,073 bytes, a label and then 32 x 32 pixels
 * as a red, a green and a blue plane, plain or gzip. The planes become NHWC here. */
#include "data/data.h"
#include <stdio.h>
#include <string.h>

enum { SIDE = 32, PIXELS = SIDE * SIDE, IMAGE = 3 * PIXELS, RECORD = 1 + IMAGE, CLASSES = 10, TRAIN_FILES = 5 };

static const char *const class_names[CLASSES] = { "airplane", "automobile", "bird",  "cat",  "deer",
                                                  "dog",      "frog",       "horse", "ship", "truck" };

typedef struct cifar_images {
    unsigned char *pixel;
    int32_t *label;
    size_t count;
} cifar_images;

/* Appends the records of one file. */
static int append(fv_context *context, const char *path, const unsigned char *bytes, size_t size,
                  cifar_images *images) {
    size_t records = size / RECORD, count = images->count;
    if (!records || size % RECORD)
        return fv_fail(context, FV_ERROR_FORMAT, "%s: %zu bytes, which is no multiple of a CIFAR-10 record of %d bytes",
                       path, size, RECORD);
    for (size_t i = 0; i < records; i++)
        if (bytes[i * RECORD] >= CLASSES)
            return fv_fail(context, FV_ERROR_FORMAT, "%s: image %zu has label %d, but CIFAR-10 has %d classes", path, i,
                           bytes[i * RECORD], CLASSES);
    unsigned char *pixel =
        fv_grow(context, images->pixel, count * IMAGE, (count + records) * IMAGE, 1, "CIFAR-10 images");
    if (!pixel) return context->status;
    images->pixel = pixel;
    int32_t *label = fv_grow(context, images->label, count, count + records, sizeof *label, "CIFAR-10 labels");
    if (!label) return context->status;
    images->label = label;
    for (size_t i = 0; i < records; i++) {
        const unsigned char *plane = bytes + i * RECORD + 1;
        unsigned char *out = pixel + (count + i) * IMAGE;
        label[count + i] = plane[-1];
        for (int p = 0; p < PIXELS; p++)
            for (int c = 0; c < 3; c++) out[3 * p + c] = plane[c * PIXELS + p];
    }
    images->count += records;
    return FV_OK;
}

fv_dataset *fv_cifar_files(fv_context *context, const char *const *paths, int count) {
    if (!fv_ok(context)) return NULL;
    if (!paths || count < 1) {
        fv_fail(context, FV_ERROR_ARGUMENT, "fv_cifar_files: no files are given");
        return NULL;
    }
    cifar_images images = { 0 };
    for (int i = 0; i < count && fv_ok(context); i++) {
        size_t size = 0;
        void *bytes = fv_file_read(context, paths[i], FV_UNPACKED_LIMIT, &size);
        if (bytes) append(context, paths[i], bytes, size, &images);
        fv_free(bytes);
    }
    fv_dataset *set = fv_ok(context) ? fv_dataset_new(context) : NULL;
    if (!set) {
        fv_free(images.pixel);
        fv_free(images.label);
        return NULL;
    }
    fv_dataset_own(set, images.pixel);
    fv_dataset_own(set, images.label);
    fv_shape shape = { .rank = 4, .dim = { (int64_t)images.count, SIDE, SIDE, 3 } };
    fv_shape label_shape = { .rank = 1, .dim = { (int64_t)images.count } };
    fv_dataset_add(set, false, FV_U8, &shape, images.pixel);
    fv_dataset_add(set, true, FV_I32, &label_shape, images.label);
    return fv_dataset_finish(set, CLASSES, class_names);
}

fv_dataset *fv_cifar10(fv_context *context, const char *folder, fv_split split) {
    static const char *const subfolders[] = { "cifar-10-batches-bin", "cifar10", NULL };
    char *path[TRAIN_FILES] = { 0 };
    int files = split == FV_TRAIN ? TRAIN_FILES : 1;
    if (!fv_ok(context)) return NULL;
    for (int i = 0; i < files && fv_ok(context); i++) {
        char name[32];
        snprintf(name, sizeof name, split == FV_TRAIN ? "data_batch_%d.bin" : "test_batch.bin", i + 1);
        path[i] = fv_data_find(context, folder, subfolders, name);
    }
    fv_dataset *set = fv_ok(context) ? fv_cifar_files(context, (const char *const *)path, files) : NULL;
    for (int i = 0; i < files; i++) fv_free(path[i]);
    return set;
}
