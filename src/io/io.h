/* io.h - files. file.c: whole files read with a limit and replaced atomically (temporary name, fsync, rename, fsync of the folder).
 * hdf5.c: HDF5 images built in memory and read with suspicion. keras.c: Keras's layouts over it. */
#ifndef FV_IO_H
#define FV_IO_H
#include "net/net.h"

/* Reads a whole file, gzip or plain. The limit is in bytes after unpacking; one sentence says what is wrong. */
void *fv_file_read(fv_context *, const char *path, size_t limit, size_t *bytes);
/* Path holds either its old contents or the new ones, whatever happens. */
int fv_file_replace(fv_context *, const char *path, const void *data, size_t bytes);
int fv_folder_make(fv_context *, const char *path); /* with its parents; it may exist */
/* fv_save with or without the group /fovea (training state and optimiser). */
int fv_keras_save(fv_net *, const char *path, bool training);
int fv_keras_resume(fv_net *, const char *path);    /* weights, optimiser, training state into an equal net */
#endif
