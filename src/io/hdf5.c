/* hdf5.c - opening, closing and writing of HDF5 images. The layer keeps libhdf5's own error printing and its plugins
 * off while it works and puts the process back as it was. */
#define _GNU_SOURCE
#include "io/hdf5.h"
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <zlib.h>

enum { GROWTH = 1 << 20, TEXTS_AN_ATTRIBUTE = 4000 /* 16 bytes each: below the 64 KiB of an object header */ };

/* ---- State of the process ---------------------------------------------------------------------------------------- */

static pthread_mutex_t lock = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;

static void begin(fv_h5 *h, fv_context *context, const char *path) {
    *h = (fv_h5){ .context = context, .path = path, .file = -1 };
    snprintf(h->name, sizeof h->name, "fovea image %p", (void *)h); /* libhdf5 takes images of one name for one file */
    pthread_mutex_lock(&lock);
    H5open();
    H5Eget_auto2(H5E_DEFAULT, &h->report, &h->report_data);
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    H5PLget_loading_state(&h->plugins);
    H5PLset_loading_state(0);
}

void fv_h5_close(fv_h5 *h) {
    if (h->file >= 0) H5Fclose(h->file);
    h->file = -1;
    H5PLset_loading_state(h->plugins);
    H5Eset_auto2(H5E_DEFAULT, h->report, h->report_data);
    pthread_mutex_unlock(&lock);
}

/* ---- Images ------------------------------------------------------------------------------------------------------ */

/* The image stays where it is: libhdf5 would copy it twice. It is opened read-only, so nothing is written into it. */
static void *lend(size_t bytes, H5FD_file_image_op_t operation, void *user) {
    const fv_h5 *h = user;
    return bytes == h->image.bytes ? (void *)h->image.data : NULL;
}
static void *lend_copy(void *to, const void *from, size_t bytes, H5FD_file_image_op_t operation, void *user) {
    return to == from ? to : memcpy(to, from, bytes);
}
static void *lend_more(void *old, size_t bytes, H5FD_file_image_op_t operation, void *user) { return NULL; }
static herr_t lend_back(void *memory, H5FD_file_image_op_t operation, void *user) { return 0; }
static void *same_user(void *user) { return user; }
static herr_t keep_user(void *user) { return 0; }

int fv_h5_open(fv_h5 *h, fv_context *context, const char *path, const void *image, size_t bytes, size_t limit) {
    begin(h, context, path);
    h->image_bytes = bytes;
    h->left = limit;
    h->image.data = image;
    h->image.bytes = bytes;
    if (!fv_ok(context)) return context->status;
    H5FD_file_image_callbacks_t lending = { .image_malloc = lend,
                                            .image_memcpy = lend_copy,
                                            .image_realloc = lend_more,
                                            .image_free = lend_back,
                                            .udata_copy = same_user,
                                            .udata_free = keep_user,
                                            .udata = h };
    hid_t access = H5Pcreate(H5P_FILE_ACCESS);
    if (access >= 0 && H5Pset_fapl_core(access, GROWTH, 0) >= 0 &&
        H5Pset_fclose_degree(access, H5F_CLOSE_STRONG) >= 0 && H5Pset_file_image_callbacks(access, &lending) >= 0 &&
        H5Pset_file_image(access, (void *)image, bytes) >= 0)
        h->file = H5Fopen(h->name, H5F_ACC_RDONLY, access);
    H5Pclose(access);
    if (h->file < 0) return fv_fail(context, FV_ERROR_FORMAT, "%s: is a damaged or incomplete HDF5 file", path);
    return FV_OK;
}

int fv_h5_create(fv_h5 *h, fv_context *context, const char *path) {
    begin(h, context, path);
    if (!fv_ok(context)) return context->status;
    hid_t access = H5Pcreate(H5P_FILE_ACCESS), creation = H5Pcreate(H5P_FILE_CREATE);
    if (access >= 0 && creation >= 0 && H5Pset_fapl_core(access, GROWTH, 0) >= 0 &&
        H5Pset_fclose_degree(access, H5F_CLOSE_STRONG) >= 0 && H5Pset_obj_track_times(creation, 0) >= 0 &&
        H5Pset_libver_bounds(access, H5F_LIBVER_EARLIEST, H5F_LIBVER_LATEST) >= 0)
        h->file = H5Fcreate(h->name, H5F_ACC_TRUNC, creation, access);
    H5Pclose(creation);
    H5Pclose(access);
    return h->file < 0 ? fv_h5_write_failed(h, "the file", "") : FV_OK;
}

void *fv_h5_finish(fv_h5 *h, size_t *bytes) {
    if (!fv_ok(h->context)) return NULL;
    ssize_t size = H5Fflush(h->file, H5F_SCOPE_GLOBAL) < 0 ? -1 : H5Fget_file_image(h->file, NULL, 0);
    if (size <= 0) {
        fv_h5_write_failed(h, "the image", "");
        return NULL;
    }
    void *image = fv_alloc(h->context, (size_t)size, 1, h->path);
    if (image && H5Fget_file_image(h->file, image, (size_t)size) != size) {
        fv_h5_write_failed(h, "the image", "");
        fv_free(image);
        return NULL;
    }
    *bytes = (size_t)size;
    return image;
}

/* ---- Writing ----------------------------------------------------------------------------------------------------- */

int fv_h5_write_failed(fv_h5 *h, const char *what, const char *name) {
    return fv_fail(h->context, FV_ERROR_INTERNAL, "%s: libhdf5 could not make %s%s%s (is there enough memory?)",
                   h->path, what, *name ? " " : "", name);
}

hid_t fv_h5_make_group(fv_h5 *h, hid_t parent, const char *name) {
    if (!fv_ok(h->context)) return -1;
    hid_t creation = H5Pcreate(H5P_GROUP_CREATE), group = -1;
    if (creation >= 0 && H5Pset_obj_track_times(creation, 0) >= 0)
        group = H5Gcreate2(parent, name, H5P_DEFAULT, creation, H5P_DEFAULT);
    H5Pclose(creation);
    if (group < 0) fv_h5_write_failed(h, "the group", name);
    return group;
}

static hid_t text_type(void) {
    hid_t type = H5Tcopy(H5T_C_S1);
    if (type >= 0 && (H5Tset_size(type, H5T_VARIABLE) < 0 || H5Tset_cset(type, H5T_CSET_UTF8) < 0)) {
        H5Tclose(type);
        return -1;
    }
    return type;
}

/* file: the type in the file, memory: that of data. Takes over space. */
static int put_attribute(fv_h5 *h, hid_t object, const char *name, hid_t file, hid_t memory, hid_t space,
                         const void *data) {
    hid_t attribute = space < 0 ? -1 : H5Acreate2(object, name, file, space, H5P_DEFAULT, H5P_DEFAULT);
    bool failed = attribute < 0 || (data && H5Awrite(attribute, memory, data) < 0);
    H5Aclose(attribute);
    H5Sclose(space);
    return failed ? fv_h5_write_failed(h, "the attribute", name) : FV_OK;
}

int fv_h5_put_text(fv_h5 *h, hid_t object, const char *name, const char *text) {
    if (!fv_ok(h->context)) return h->context->status;
    hid_t type = text_type();
    int status = put_attribute(h, object, name, type, type, H5Screate(H5S_SCALAR), &text);
    H5Tclose(type);
    return status;
}

int fv_h5_put_texts(fv_h5 *h, hid_t object, const char *name, const char *const *texts, size_t count) {
    if (!fv_ok(h->context)) return h->context->status;
    hsize_t part = count;
    if (!count) /* so h5py writes an empty list, and so it is expected */
        return put_attribute(h, object, name, H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE, H5Screate_simple(1, &part, NULL),
                             NULL);
    hid_t type = text_type();
    int status = FV_OK;
    for (size_t done = 0, number = 0; done < count && !status; done += part, number++) {
        char numbered[256];
        part = count - done < TEXTS_AN_ATTRIBUTE ? count - done : TEXTS_AN_ATTRIBUTE;
        snprintf(numbered, sizeof numbered, count > TEXTS_AN_ATTRIBUTE ? "%s%zu" : "%s", name, number);
        status = put_attribute(h, object, numbered, type, type, H5Screate_simple(1, &part, NULL), texts + done);
    }
    H5Tclose(type);
    return status;
}

/* The little-endian type of the file for a native one. */
static hid_t stored_type(hid_t native) {
    size_t bytes = H5Tget_size(native);
    if (H5Tget_class(native) == H5T_FLOAT) return bytes == 8 ? H5T_IEEE_F64LE : H5T_IEEE_F32LE;
    bool sign = H5Tget_sign(native) == H5T_SGN_2;
    switch (bytes) {
    case 1: return sign ? H5T_STD_I8LE : H5T_STD_U8LE;
    case 4: return sign ? H5T_STD_I32LE : H5T_STD_U32LE;
    default: return sign ? H5T_STD_I64LE : H5T_STD_U64LE;
    }
}

int fv_h5_put_numbers(fv_h5 *h, hid_t object, const char *name, hid_t native, size_t count, const void *data) {
    if (!fv_ok(h->context)) return h->context->status;
    hsize_t size = count;
    return put_attribute(h, object, name, stored_type(native), native,
                         count ? H5Screate_simple(1, &size, NULL) : H5Screate(H5S_SCALAR), data);
}

/* Makes the groups of "a/b/c" that are not there: a and a/b. Made one by one, they know no times. */
static int make_parents(fv_h5 *h, hid_t group, const char *path) {
    char name[1024];
    for (const char *slash = strchr(path, '/'); slash; slash = strchr(slash + 1, '/')) {
        if ((size_t)(slash - path) >= sizeof name) return fv_h5_write_failed(h, "the group", path);
        memcpy(name, path, (size_t)(slash - path));
        name[slash - path] = 0;
        if (H5Lexists(group, name, H5P_DEFAULT) <= 0) H5Gclose(fv_h5_make_group(h, group, name));
        if (!fv_ok(h->context)) return h->context->status;
    }
    return FV_OK;
}

uint32_t fv_h5_checksum(const void *data, size_t bytes) { return (uint32_t)crc32_z(crc32_z(0, NULL, 0), data, bytes); }

int fv_h5_put_tensor(fv_h5 *h, hid_t group, const char *path, hid_t native, const fv_shape *shape, const void *data) {
    if (!fv_ok(h->context) || make_parents(h, group, path)) return h->context->status;
    hsize_t dims[FV_RANK];
    for (int i = 0; i < shape->rank; i++) dims[i] = (hsize_t)shape->dim[i];
    hid_t space = shape->rank ? H5Screate_simple(shape->rank, dims, NULL) : H5Screate(H5S_SCALAR);
    hid_t creation = H5Pcreate(H5P_DATASET_CREATE), dataset = -1;
    if (creation >= 0 && H5Pset_obj_track_times(creation, 0) >= 0)
        dataset = H5Dcreate2(group, path, stored_type(native), space, H5P_DEFAULT, creation, H5P_DEFAULT);
    bool failed = dataset < 0 || H5Dwrite(dataset, native, H5S_ALL, H5S_ALL, H5P_DEFAULT, data) < 0;
    if (!failed) {
        uint32_t checksum = fv_h5_checksum(data, (size_t)fv_shape_elements(shape) * H5Tget_size(native));
        fv_h5_put_numbers(h, dataset, "crc32", H5T_NATIVE_UINT32, 0, &checksum);
    }
    H5Dclose(dataset);
    H5Pclose(creation);
    H5Sclose(space);
    return failed ? fv_h5_write_failed(h, "the data set", path) : h->context->status;
}
