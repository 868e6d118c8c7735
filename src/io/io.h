/* io.h - files of nets. file.c: files replaced atomically (temporary name, fsync, rename, fsync of the folder).
 * hdf5*.c: HDF5 images built in memory and read with suspicion. keras*.c: Keras's layouts over it. Reading whole
 * files: data/file.c. */
#ifndef FV_IO_H
#define FV_IO_H
#include "data/data.h"
#include "net/net.h"

/* Path holds either its old contents or the new ones, whatever happens. */
int fv_file_replace(fv_context *, const char *path, const void *data, size_t bytes);
int fv_folder_make(fv_context *, const char *path); /* with its parents; it may exist */
/* fv_save with or without the group /fovea (training state and optimiser). */
int fv_keras_save(fv_net *, const char *path, bool training);
int fv_keras_resume(fv_net *, const char *path);    /* weights, optimiser, training state into an equal net */
#endif
