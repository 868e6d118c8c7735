/* idx.c - IDX files, the format of MNIST: two zero bytes, a byte for the type, a byte for the number of axes, the
 * sizes as big-endian u32, then the elements, big-endian, row-major. The length of the file must be exactly what its
 * header says. A plain file of bytes is mapped; gzip is unpacked; every other type becomes f32, or i32 labels. */
#include "data/data.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* Types by the third byte of the file; read gives one element as a number that every one of them fits into. */
typedef double (*idx_read)(const unsigned char *);
static uint32_t read_u32(const unsigned char *p) {
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}
static double read_u8(const unsigned char *p) { return *p; }
static double read_i8(const unsigned char *p) { return (int8_t)*p; }
static double read_i16(const unsigned char *p) { return (int16_t)(uint16_t)(p[0] << 8 | p[1]); }
static double read_i32(const unsigned char *p) { return (int32_t)read_u32(p); }
static double read_f32(const unsigned char *p) {
    uint32_t bits = read_u32(p);
    float value;
    memcpy(&value, &bits, sizeof value);
    return (double)value;
}
static double read_f64(const unsigned char *p) {
    uint64_t bits = (uint64_t)read_u32(p) << 32 | read_u32(p + 4);
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}
/* clang-format off */
static const struct idx_type { const char *name; uint8_t bytes; bool integer; idx_read read; } idx_types[] = {
    [0x08] = { "u8", 1, true, read_u8 },    [0x09] = { "i8", 1, true, read_i8 },
    [0x0b] = { "i16", 2, true, read_i16 },  [0x0c] = { "i32", 4, true, read_i32 },
    [0x0d] = { "f32", 4, false, read_f32 }, [0x0e] = { "f64", 8, false, read_f64 },
};
/* clang-format on */

typedef struct idx_file {
    const char *path;
    const unsigned char *bytes;
    size_t size;
    bool mapped;
    const struct idx_type *type;
    fv_shape shape;
    const unsigned char *element;
} idx_file;

/* ---- Opening ----------------------------------------------------------------------------------------------------- */

/* Maps a plain file. 1: it is gzip (or empty), which cannot be used as it lies. */
static int map_plain(fv_context *context, idx_file *file) {
    int status = FV_OK, fd = open(file->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    struct stat about;
    if (fd < 0) return fv_fail(context, FV_ERROR_FILE, "%s: cannot be opened: %s", file->path, strerror(errno));
    if (fstat(fd, &about) || !S_ISREG(about.st_mode))
        status = fv_fail(context, FV_ERROR_FILE, "%s: is not a regular file", file->path);
    else if (about.st_size < 2)
        status = 1;
    if (!status) {
        void *address = mmap(NULL, (size_t)about.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (address == MAP_FAILED) {
            status = fv_fail(context, FV_ERROR_FILE, "%s: cannot be mapped: %s", file->path, strerror(errno));
        } else {
            file->bytes = address;
            file->size = (size_t)about.st_size;
            file->mapped = true;
            if (file->bytes[0] == 0x1f && file->bytes[1] == 0x8b) {
                munmap(address, file->size);
                file->mapped = false;
                status = 1;
            }
        }
    }
    close(fd);
    return status;
}

static void close_file(idx_file *file) {
    if (file->mapped)
        munmap((void *)file->bytes, file->size);
    else
        fv_free((void *)file->bytes);
    file->bytes = NULL;
}

static int read_header(fv_context *context, idx_file *file) {
    const unsigned char *p = file->bytes;
    if (file->size < 4 || p[0] || p[1] || p[2] >= sizeof idx_types / sizeof *idx_types || !idx_types[p[2]].read)
        return fv_fail(context, FV_ERROR_FORMAT, "%s: is not an IDX file: it does not begin with two zeros and a type",
                       file->path);
    int rank = p[3];
    size_t header = 4 + 4 * (size_t)rank;
    if (rank < 1 || rank > FV_RANK || file->size < header)
        return fv_fail(context, FV_ERROR_FORMAT,
                       rank < 1 || rank > FV_RANK ? "%s: has %d axes; 1 to %d are possible"
                                                  : "%s: ends within its header of %d axes",
                       file->path, rank, FV_RANK);
    int64_t dims[FV_RANK] = { 0 };
    for (int i = 0; i < rank; i++) {
        dims[i] = read_u32(p + 4 + 4 * i);
        if (dims[i] < 1) return fv_fail(context, FV_ERROR_FORMAT, "%s: axis %d has size 0", file->path, i);
    }
    if (fv_shape_make(context, file->path, rank, dims, &file->shape)) return context->status;
    file->type = &idx_types[p[2]];
    file->element = p + header;
    uint64_t bytes = (uint64_t)fv_shape_elements(&file->shape) * file->type->bytes;
    char text[96];
    if (bytes != file->size - header)
        return fv_fail(context, FV_ERROR_FORMAT, "%s: its header says %s %s, which is %llu bytes, but %llu follow",
                       file->path, fv_shape_text(&file->shape, text), file->type->name, (unsigned long long)bytes,
                       (unsigned long long)(file->size - header));
    return FV_OK;
}

static int open_file(fv_context *context, const char *path, idx_file *file) {
    *file = (idx_file){ .path = path };
    int status = map_plain(context, file);
    if (status < 0) return status;
    if (status && !(file->bytes = fv_file_read(context, path, FV_UNPACKED_LIMIT, &file->size))) return context->status;
    if (read_header(context, file)) {
        close_file(file);
        return context->status;
    }
    return FV_OK;
}

/* ---- Into a data set --------------------------------------------------------------------------------------------- */

static void give_bytes(fv_dataset *set, idx_file *file) {
    if (file->mapped)
        fv_dataset_own_map(set, (void *)file->bytes, file->size);
    else
        fv_dataset_own(set, (void *)file->bytes);
    file->bytes = NULL;
}

static float *convert_to_f32(fv_context *context, const idx_file *file) {
    int64_t elements = fv_shape_elements(&file->shape);
    float *out = fv_alloc(context, (size_t)elements, sizeof *out, file->path);
    for (int64_t i = 0; out && i < elements; i++)
        out[i] = (float)file->type->read(file->element + i * file->type->bytes);
    return out;
}

/* Adds one array as f32, which the set then owns. */
static int add_f32(fv_dataset *set, bool target, const idx_file *file, const fv_shape *shape) {
    float *data = convert_to_f32(set->object.context, file);
    if (!data) return set->object.context->status;
    fv_dataset_own(set, data);
    return fv_dataset_add(set, target, FV_F32, shape, data);
}

/* [n, h, w] becomes images of one channel; [n] becomes one number a sample. */
static int add_images(fv_dataset *set, idx_file *file) {
    fv_shape shape = file->shape;
    if (shape.rank == 3 || shape.rank == 1) shape.dim[shape.rank++] = 1;
    if (file->type->read != read_u8) return add_f32(set, false, file, &shape);
    const unsigned char *element = file->element;
    give_bytes(set, file);
    return fv_dataset_add(set, false, FV_U8, &shape, element);
}

/* One integer a sample is a label; anything else is a target of numbers. */
static int add_labels(fv_dataset *set, const idx_file *file) {
    fv_context *context = set->object.context;
    fv_shape shape = file->shape;
    if (!file->type->integer || shape.rank != 1) {
        if (shape.rank == 1) shape.dim[shape.rank++] = 1;
        return add_f32(set, true, file, &shape);
    }
    int32_t *label = fv_alloc(context, (size_t)shape.dim[0], sizeof *label, "labels");
    if (!label) return context->status;
    fv_dataset_own(set, label);
    for (int64_t i = 0; i < shape.dim[0]; i++)
        label[i] = (int32_t)file->type->read(file->element + i * file->type->bytes);
    return fv_dataset_add(set, true, FV_I32, &shape, label);
}

static fv_dataset *read_pair(fv_context *context, const char *images, const char *labels, int32_t classes,
                             const char *const *class_names) {
    if (!fv_ok(context)) return NULL;
    if (!images) {
        fv_fail(context, FV_ERROR_ARGUMENT, "fv_idx: no file of images is given");
        return NULL;
    }
    idx_file image, label = { 0 };
    if (open_file(context, images, &image)) return NULL;
    fv_dataset *set = NULL;
    if (!labels || !open_file(context, labels, &label)) {
        if (labels && label.shape.dim[0] != image.shape.dim[0])
            fv_fail(context, FV_ERROR_FORMAT, "%s: holds %lld labels, but %s holds %lld images", labels,
                    (long long)label.shape.dim[0], images, (long long)image.shape.dim[0]);
        else
            set = fv_dataset_new(context);
    }
    if (set && (add_images(set, &image) || (labels && add_labels(set, &label)))) {
        fv_object_free(set);
        set = NULL;
    }
    close_file(&image);
    close_file(&label);
    return fv_dataset_finish(set, classes, class_names);
}

fv_dataset *fv_idx(fv_context *context, const char *images, const char *labels) {
    return read_pair(context, images, labels, 0, NULL);
}

fv_dataset *fv_mnist(fv_context *context, const char *folder, fv_split split) {
    static const char *const subfolders[] = { "mnist", "MNIST/raw", NULL };
    static const char *const names[] = { "0", "1", "2", "3", "4", "5", "6", "7", "8", "9" };
    bool train = split == FV_TRAIN;
    if (!fv_ok(context)) return NULL;
    char *images =
        fv_data_find(context, folder, subfolders, train ? "train-images-idx3-ubyte" : "t10k-images-idx3-ubyte");
    char *labels =
        images ? fv_data_find(context, folder, subfolders, train ? "train-labels-idx1-ubyte" : "t10k-labels-idx1-ubyte")
               : NULL;
    fv_dataset *set = labels ? read_pair(context, images, labels, 10, names) : NULL;
    fv_free(images);
    fv_free(labels);
    return set;
}
