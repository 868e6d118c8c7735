/* data.h - data sets: samples in memory (owned, borrowed or memory-mapped) or behind a callback, and views of them.
 *   dataset.c  making, settings, fetching    view.c  takes and splits    device.c  copies on the device    augment.c  settings
 *   idx.c cifar.c digits.c  sources    search.c  where files are looked for    file.c  whole files, gzip or plain
 * Normalisation and augmentation are settings: fit and evaluate record them as operations. */
#ifndef FV_DATA_H
#define FV_DATA_H
#include "core/core.h"

enum { FV_DATASET_ARRAYS = 8 };

typedef struct fv_dataset_array {
    fv_type type;
    fv_shape shape;              /* dim[0] = samples of the whole source */
    const void *data;            /* NULL: callback */
    void *device; size_t device_bytes; /* copy on the device, once asked for: fv_dataset_device */
} fv_dataset_array;

struct fv_dataset {
    fv_object object;
    struct fv_dataset *whole;    /* a view: of this one (itself never a view); else NULL. Arrays are the whole's. */
    int64_t count;               /* samples of this view */
    int32_t *index;              /* a view's samples in the whole; NULL: 0 .. count-1 */
    fv_dataset_array input[FV_DATASET_ARRAYS]; int32_t input_count;
    fv_dataset_array target[FV_DATASET_ARRAYS]; int32_t target_count;
    int32_t classes; char **class_name;
    fv_fetch fetch; void *user;
    /* Of input 0, its defaults resolved (x * scale - mean) / deviation; normalized: it changes something, which for
     * u8 is always so. A view has settings of its own, which begin as those of the set it was taken from. */
    fv_normalize_options normalize; bool normalized;
    fv_augment_options augment;
    void *owned[2 * FV_DATASET_ARRAYS];     /* to free */
    void *mapped[4]; size_t mapped_bytes[4]; /* to unmap */
};

fv_dataset *fv_dataset_source(fv_dataset *); /* the whole, or itself */
static inline int64_t fv_dataset_sample(const fv_dataset *d, int64_t i) { return d->index ? d->index[i] : i; }
/* Copies of all arrays on the device, as they are (u8 stays u8; f32 converted where the device holds doubles). 0:
 * they are there; FV_ERROR_MEMORY without recording an error: they do not fit, stream instead; callback sources never
 * fit. */
int fv_dataset_device(fv_dataset *);
/* Fills host buffers with the samples (numbers within the whole), one pointer an array. */
int fv_dataset_fetch(fv_dataset *, const int64_t *samples, int count, void *const *inputs, void *const *targets);
size_t fv_dataset_array_bytes(const fv_dataset_array *); /* of one sample */
/* The file DIR/name, DIR/mnist/name, ... with and without .gz; NULL and an error that names what was searched. folder
 * NULL: FOVEA_DATA, then the cache folder. subfolders ends with NULL; the folder itself comes first. The caller's, by
 * fv_free. */
char *fv_data_find(fv_context *, const char *folder, const char *const *subfolders, const char *name);

enum { FV_UNPACKED_LIMIT = 0x7fffffff }; /* bytes that a packed file of data may grow to: 2 GiB */
/* Reads a whole file, gzip or plain. The limit is in bytes after unpacking; one sentence says what is wrong. The
 * result is the caller's, by fv_free, and never NULL without an error; a zero byte follows it, so that text may be
 * used as a string. */
void *fv_file_read(fv_context *, const char *path, size_t limit, size_t *bytes);

/* Is an array of this shape a map of images of that shape [samples, height, width, channels]: masks, heat maps? */
bool fv_dataset_is_mask(const fv_shape *image, const fv_shape *array);

/* Pieces for sources: an empty data set, its arrays, the final check. A failing piece leaves the set to be freed. */
fv_dataset *fv_dataset_new(fv_context *);
int fv_dataset_add(fv_dataset *, bool target, fv_type, const fv_shape *, const void *data);
void fv_dataset_own(fv_dataset *, void *memory);                      /* to fv_free with it  */
void fv_dataset_own_map(fv_dataset *, void *address, size_t bytes);   /* to unmap with it    */
/* Counts agree, labels are classes (0: as many as the labels say); gives the set, or frees it and gives NULL. */
fv_dataset *fv_dataset_finish(fv_dataset *, int32_t classes, const char *const *class_names);
bool fv_dataset_has_labels(const fv_dataset *);                       /* target 0 is i32 [n] */
int fv_dataset_check_label(const fv_dataset *, int64_t sample, int32_t label);
int fv_dataset_labels(fv_dataset *, int32_t *labels);                 /* of all samples of a view, -1: none */
#endif
