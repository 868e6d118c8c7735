/* hdf5_read.c - reading HDF5 images that nobody vouches for. Every link is looked at before it is followed, every
 * declaration (rank, size, filters, layout) before anything is allocated or read. See hdf5.h for what is refused. */
#include "io/hdf5.h"
#include <stdio.h>
#include <string.h>

enum {
    MOST_TEXTS = 1 << 20,
    MOST_NAME = 4096,
    MOST_TEXT = 1 << 28,
    MOST_PER_BYTE = 1032 /* deflate unpacks a byte to no more */
};

static int refuse(fv_h5 *h, const char *name, const char *why) {
    return fv_fail(h->context, FV_ERROR_FORMAT, "%s: %s: %s", h->path, name, why);
}

/* Memory for content, counted against what the caller allowed. One byte more than asked for, so texts end with zero. */
static void *take(fv_h5 *h, size_t count, size_t size, const char *name) {
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes) || bytes > h->left) {
        fv_fail(h->context, FV_ERROR_FORMAT, "%s: %s: declares more data than the %zu bytes that may still be read",
                h->path, name, h->left);
        return NULL;
    }
    h->left -= bytes;
    return fv_alloc(h->context, bytes + 1, 1, name);
}

/* ---- Links ------------------------------------------------------------------------------------------------------- */

/* Is every component of the path a hard link? A soft or external one would lead where the file's author likes. */
static bool is_hard(hid_t group, const char *path) {
    char part[MOST_NAME];
    for (const char *end = path; *end; end += *end == '/') {
        end += strcspn(end, "/");
        H5L_info_t about;
        size_t length = (size_t)(end - path);
        if (!length || length >= sizeof part) return false;
        memcpy(part, path, length);
        part[length] = 0;
        if (H5Lexists(group, part, H5P_DEFAULT) <= 0 || H5Lget_info(group, part, &about, H5P_DEFAULT) < 0 ||
            about.type != H5L_TYPE_HARD)
            return false;
    }
    return *path;
}

static hid_t open_object(fv_h5 *h, hid_t group, const char *path, H5I_type_t wanted) {
    if (!fv_ok(h->context)) return -1;
    hid_t object = is_hard(group, path) ? H5Oopen(group, path, H5P_DEFAULT) : -1;
    if (object < 0 || H5Iget_type(object) != wanted) {
        if (object >= 0) H5Oclose(object);
        refuse(h, path, wanted == H5I_GROUP ? "there is no such group" : "there is no such data set");
        return -1;
    }
    return object;
}

bool fv_h5_has(fv_h5 *h, hid_t group, const char *path) { return fv_ok(h->context) && is_hard(group, path); }

hid_t fv_h5_open_group(fv_h5 *h, hid_t group, const char *path) { return open_object(h, group, path, H5I_GROUP); }

bool fv_h5_has_attribute(fv_h5 *h, hid_t object, const char *name) {
    return fv_ok(h->context) && H5Aexists(object, name) > 0;
}

int fv_h5_children(fv_h5 *h, hid_t group, fv_h5_texts *names) {
    H5G_info_t about;
    *names = (fv_h5_texts){ 0 };
    if (!fv_ok(h->context)) return h->context->status;
    if (H5Gget_info(group, &about) < 0 || about.nlinks > MOST_TEXTS)
        return refuse(h, "a group", "its list of members cannot be read");
    if (!(names->text = take(h, (size_t)about.nlinks, sizeof *names->text, "the names in a group")))
        return h->context->status;
    for (hsize_t i = 0; i < about.nlinks; i++) {
        char name[MOST_NAME];
        ssize_t length = H5Lget_name_by_idx(group, ".", H5_INDEX_NAME, H5_ITER_INC, i, name, sizeof name, H5P_DEFAULT);
        if (length < 0 || (size_t)length >= sizeof name)
            return refuse(h, "a group", "its list of members cannot be read");
        if (!(names->text[i] = fv_copy_string(h->context, name))) return h->context->status;
        names->count++;
    }
    return FV_OK;
}

/* ---- Attributes -------------------------------------------------------------------------------------------------- */

typedef struct attribute {
    hid_t id, type, space;
    size_t count;
} attribute; /* count: elements; a scalar is one */

static void close_attribute(attribute *a) {
    H5Sclose(a->space);
    H5Tclose(a->type);
    H5Aclose(a->id);
}

static int open_attribute(fv_h5 *h, hid_t object, const char *name, attribute *a) {
    *a = (attribute){ -1, -1, -1, 0 };
    if (!fv_ok(h->context)) return h->context->status;
    a->id = H5Aexists(object, name) > 0 ? H5Aopen(object, name, H5P_DEFAULT) : -1;
    a->type = a->id < 0 ? -1 : H5Aget_type(a->id);
    a->space = a->id < 0 ? -1 : H5Aget_space(a->id);
    hssize_t count = a->space < 0 ? -1 : H5Sget_simple_extent_npoints(a->space);
    if (a->type >= 0 && count >= 0 && count <= MOST_TEXTS) {
        a->count = (size_t)count;
        return FV_OK;
    }
    close_attribute(a);
    *a = (attribute){ -1, -1, -1, 0 };
    return refuse(h, name, "the attribute is missing or damaged");
}

/* Copies `bytes` of a text that may end earlier with zero. */
static char *copy_text(fv_h5 *h, const char *text, size_t bytes, const char *name) {
    size_t length = strnlen(text, bytes);
    char *copy = take(h, length, 1, name);
    if (copy) memcpy(copy, text, length);
    return copy;
}

/* Texts of varying length come in memory of libhdf5's own, which goes back to it. */
static int read_varying(fv_h5 *h, const attribute *a, const char *name, char **out) {
    char **text = take(h, a->count, sizeof *text, name);
    if (!text) return h->context->status;
    hid_t memory = H5Tcopy(H5T_C_S1);
    H5Tset_size(memory, H5T_VARIABLE);
    H5Tset_cset(memory, H5Tget_cset(a->type));
    int status = H5Aread(a->id, memory, text) < 0 ? refuse(h, name, "the attribute cannot be read") : FV_OK;
    for (size_t i = 0; i < a->count && !status; i++)
        if (!(out[i] = copy_text(h, text[i] ? text[i] : "", MOST_TEXT, name))) status = h->context->status;
    H5Dvlen_reclaim(memory, a->space, H5P_DEFAULT, text);
    H5Tclose(memory);
    fv_free(text);
    return status;
}

static int read_fixed(fv_h5 *h, const attribute *a, const char *name, char **out) {
    size_t size = H5Tget_size(a->type);
    char *text = size <= h->image_bytes ? take(h, a->count, size, name) : NULL;
    if (!text) return fv_ok(h->context) ? refuse(h, name, "its texts are longer than the file") : h->context->status;
    int status = H5Aread(a->id, a->type, text) < 0 ? refuse(h, name, "the attribute cannot be read") : FV_OK;
    for (size_t i = 0; i < a->count && !status; i++)
        if (!(out[i] = copy_text(h, text + i * size, size, name))) status = h->context->status;
    fv_free(text);
    return status;
}

/* Appends the texts of one attribute. An empty list has whatever type its writer's tool gives it. */
static int append_texts(fv_h5 *h, hid_t object, const char *name, fv_h5_texts *texts) {
    attribute a;
    if (open_attribute(h, object, name, &a)) return h->context->status;
    if (a.count) {
        htri_t varying = H5Tget_class(a.type) == H5T_STRING ? H5Tis_variable_str(a.type) : -1;
        char **more = varying < 0
                          ? NULL
                          : fv_grow(h->context, texts->text, texts->count, texts->count + a.count, sizeof *more, name);
        if (varying < 0) refuse(h, name, "the attribute is not text");
        if (more) {
            texts->text = more;
            texts->count += a.count;
            (varying ? read_varying : read_fixed)(h, &a, name, more + texts->count - a.count);
        }
    }
    close_attribute(&a);
    return h->context->status;
}

void fv_h5_free_texts(fv_h5_texts *texts) {
    for (size_t i = 0; i < texts->count; i++) fv_free(texts->text[i]);
    fv_free(texts->text);
    *texts = (fv_h5_texts){ 0 };
}

int fv_h5_get_texts(fv_h5 *h, hid_t object, const char *name, fv_h5_texts *texts) {
    *texts = (fv_h5_texts){ 0 };
    char part[256];
    snprintf(part, sizeof part, "%s0", name);
    if (fv_h5_has_attribute(h, object, name) || !fv_h5_has_attribute(h, object, part))
        append_texts(h, object, name, texts);
    else
        for (int i = 0; fv_h5_has_attribute(h, object, part); snprintf(part, sizeof part, "%s%d", name, ++i))
            append_texts(h, object, part, texts);
    if (!fv_ok(h->context)) fv_h5_free_texts(texts);
    return h->context->status;
}

char *fv_h5_get_text(fv_h5 *h, hid_t object, const char *name) {
    fv_h5_texts texts;
    if (fv_h5_get_texts(h, object, name, &texts)) return NULL;
    char *text = NULL;
    if (texts.count == 1) {
        text = texts.text[0];
        texts.text[0] = NULL;
    } else {
        refuse(h, name, "the attribute is not one text");
    }
    fv_h5_free_texts(&texts);
    return text;
}

static bool is_number(hid_t type) {
    H5T_class_t class = H5Tget_class(type);
    return (class == H5T_INTEGER || class == H5T_FLOAT) && H5Tget_size(type) <= 8;
}

int fv_h5_get_numbers(fv_h5 *h, hid_t object, const char *name, hid_t native, size_t count, void *out) {
    attribute a;
    if (open_attribute(h, object, name, &a)) return h->context->status;
    int status = FV_OK;
    if (!is_number(a.type) || a.count != count)
        status = refuse(h, name, "the attribute has not the numbers that are expected");
    else if (H5Aread(a.id, native, out) < 0)
        status = refuse(h, name, "the attribute cannot be read");
    close_attribute(&a);
    return status;
}

/* ---- Data sets --------------------------------------------------------------------------------------------------- */

static const char *check_layout(hid_t creation) {
    H5D_layout_t layout = H5Pget_layout(creation);
    if (layout != H5D_COMPACT && layout != H5D_CONTIGUOUS && layout != H5D_CHUNKED)
        return "is a virtual data set, which would read other files";
    if (H5Pget_external_count(creation) != 0) return "has its data in other files";
    int filters = H5Pget_nfilters(creation);
    for (int i = 0; i < filters; i++) {
        unsigned flags, settings;
        size_t values = 0;
        H5Z_filter_t filter = H5Pget_filter2(creation, (unsigned)i, &flags, &values, NULL, 0, NULL, &settings);
        if (filter != H5Z_FILTER_DEFLATE && filter != H5Z_FILTER_SHUFFLE && filter != H5Z_FILTER_FLETCHER32)
            return "is packed by a filter other than deflate, shuffle and fletcher32";
    }
    return filters < 0 ? "its filters cannot be read" : NULL;
}

/* NULL, or what is wrong. What is declared may not exceed what deflate can make of the bytes that are stored. */
static const char *check_dataset(fv_h5 *h, hid_t dataset, hid_t type, hid_t space, hid_t creation, fv_shape *shape) {
    hsize_t dims[H5S_MAX_RANK];
    int64_t size[FV_RANK];
    if (type < 0 || space < 0 || creation < 0 || !is_number(type)) return "holds no plain numbers";
    int rank = H5Sget_simple_extent_ndims(space);
    if (rank < 0 || rank > FV_RANK) return "has more than 6 axes";
    if (H5Sget_simple_extent_dims(space, dims, NULL) != rank || (H5Sget_simple_extent_type(space) == H5S_NULL))
        return "its shape cannot be read";
    for (int i = 0; i < rank; i++) {
        if (dims[i] > INT64_MAX) return "its shape is too large";
        size[i] = (int64_t)dims[i];
    }
    const char *wrong = check_layout(creation);
    if (wrong) return wrong;
    if (fv_shape_make(h->context, h->path, rank, size, shape)) return "its shape is too large";
    uint64_t bytes = (uint64_t)fv_shape_elements(shape) * H5Tget_size(type), stored = H5Dget_storage_size(dataset);
    if (stored > h->image_bytes || bytes / MOST_PER_BYTE > stored || (bytes && !stored))
        return "declares more data than the file stores";
    return NULL;
}

/* Our own files store what is read, so a type of another size is damage too. */
static int check_checksum(fv_h5 *h, hid_t dataset, const char *path, const void *data, size_t bytes, bool same_size) {
    uint32_t stored;
    if (!fv_h5_has_attribute(h, dataset, "crc32")) return h->context->status;
    if (fv_h5_get_numbers(h, dataset, "crc32", H5T_NATIVE_UINT32, 1, &stored)) return h->context->status;
    if (same_size && stored == fv_h5_checksum(data, bytes)) return FV_OK;
    return refuse(h, path, "its checksum does not fit: the file is damaged");
}

void *fv_h5_get_tensor(fv_h5 *h, hid_t group, const char *path, hid_t native, fv_shape *shape) {
    hid_t dataset = open_object(h, group, path, H5I_DATASET);
    if (dataset < 0) return NULL;
    hid_t type = H5Dget_type(dataset), space = H5Dget_space(dataset), creation = H5Dget_create_plist(dataset);
    const char *wrong = check_dataset(h, dataset, type, space, creation, shape);
    if (wrong) refuse(h, path, wrong);
    size_t elements = wrong ? 0 : (size_t)fv_shape_elements(shape);
    void *data = wrong ? NULL : take(h, elements, H5Tget_size(native), path);
    if (data && H5Dread(dataset, native, H5S_ALL, H5S_ALL, H5P_DEFAULT, data) < 0)
        refuse(h, path, "its data cannot be read");
    else if (data)
        check_checksum(h, dataset, path, data, elements * H5Tget_size(native),
                       H5Tget_size(native) == H5Tget_size(type));
    H5Pclose(creation);
    H5Sclose(space);
    H5Tclose(type);
    H5Dclose(dataset);
    if (fv_ok(h->context)) return data;
    fv_free(data);
    return NULL;
}
