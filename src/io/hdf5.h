/* hdf5.h - a thin layer over libhdf5. Files are written as images in memory, which file.c then puts in place, and
 * read from images with suspicion: read-only, no plugins, hard links only, no external or virtual data, plain numbers
 * and strings only, and nothing is allocated before its size is checked against what the file really stores. Equal
 * content gives equal bytes. */
#ifndef FV_HDF5_H
#define FV_HDF5_H
#include "core/core.h"
#include <hdf5.h>

typedef struct fv_h5 {
    fv_context *context;
    const char *path;                 /* for messages */
    hid_t file;                       /* < 0: not open */
    char name[48];
    size_t image_bytes, left; /* reading: size of the image, bytes that may still be allocated for its content */
    struct { const void *data; size_t bytes; } image;
    H5E_auto2_t report; void *report_data; unsigned plugins; /* what was set in this process before */
} fv_h5;

/* From open or create until close a lock is held: libhdf5 has state for the whole process. */
int fv_h5_create(fv_h5 *, fv_context *, const char *path);
int fv_h5_open(fv_h5 *, fv_context *, const char *path, const void *image, size_t bytes, size_t limit); /* borrows it */
void fv_h5_close(fv_h5 *);            /* also of one that failed to open */

/* ---- Writing. Names of tensors may be paths: their groups are made. ---------------------------------------------- */
hid_t fv_h5_make_group(fv_h5 *, hid_t parent, const char *name);
int fv_h5_put_text(fv_h5 *, hid_t object, const char *name, const char *text);                    /* UTF-8 */
int fv_h5_put_texts(fv_h5 *, hid_t object, const char *name, const char *const *texts, size_t count); /* Keras's way */
int fv_h5_put_numbers(fv_h5 *, hid_t object, const char *name, hid_t native, size_t count, const void *); /* 0: one */
int fv_h5_put_tensor(fv_h5 *, hid_t group, const char *path, hid_t native, const fv_shape *, const void *);
void *fv_h5_finish(fv_h5 *, size_t *bytes); /* the image, by fv_free */

/* ---- Reading ----------------------------------------------------------------------------------------------------- */
bool fv_h5_has(fv_h5 *, hid_t group, const char *path);            /* hard links all the way */
bool fv_h5_has_attribute(fv_h5 *, hid_t object, const char *name);
hid_t fv_h5_open_group(fv_h5 *, hid_t group, const char *path);
char *fv_h5_get_text(fv_h5 *, hid_t object, const char *name);     /* by fv_free */
typedef struct fv_h5_texts { char **text; size_t count; } fv_h5_texts;
int fv_h5_get_texts(fv_h5 *, hid_t object, const char *name, fv_h5_texts *); /* also in the parts name0, name1, ... */
void fv_h5_free_texts(fv_h5_texts *);
int fv_h5_get_numbers(fv_h5 *, hid_t object, const char *name, hid_t native, size_t count, void *); /* exactly count */
/* Converted to the native type, which is f32 or f64 or an integer; checked against its "crc32" where it has one. By
 * fv_free. */
void *fv_h5_get_tensor(fv_h5 *, hid_t group, const char *path, hid_t native, fv_shape *);
int fv_h5_children(fv_h5 *, hid_t group, fv_h5_texts *);           /* names, in alphabetical order */

/* Shared by hdf5.c and hdf5_read.c. */
int fv_h5_write_failed(fv_h5 *, const char *what, const char *name);
uint32_t fv_h5_checksum(const void *, size_t bytes);               /* CRC-32 of the numbers as they lie in memory */
#endif
