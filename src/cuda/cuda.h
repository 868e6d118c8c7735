/* cuda.h - what the files of the CUDA backend share. Host code that talks to NVIDIA's libraries is C; only kernels and
 * their launches are .cu. A family is one file, as in src/cpu/reference: NAME.cu for own kernels, NAME.c where a library
 * does the work. Each operation is an fv_kernel named by KERNEL(operation).
 *
 * Everything runs on one stream of the device, asynchronously. A whole step may be captured into a graph, so run never
 * synchronises, allocates, or reads a host value that changes: what changes lies in the control block. */
#ifndef FV_CUDA_H
#define FV_CUDA_H
#include <cuda_runtime_api.h>
#ifdef __cplusplus
extern "C" {
#endif
#include "core/backend.h"
#include "core/control.h"

struct fv_device {
    fv_host host;
    int index;
    cudaStream_t stream;
    struct cudaDeviceProp properties;
    bool careful;    /* FOVEA_SYNC=1: waits after each operation, so that an error names the guilty one */
    bool tf32;       /* programs may round the factors of f32 products to TF32; FOVEA_TF32=0 forbids it */
    bool failed;     /* a sticky error: the CUDA context of this process is lost */
    cudaStream_t copies; /* streaming of data: feed.c; made at first use, like its events */
    cudaEvent_t copied[FV_FEED_SLOTS], taken[FV_FEED_SLOTS];
    void *libraries; /* handles of cuDNN and cuBLASLt, made at first use: libraries.c */
};

#define KERNEL(operation) fv_cuda_##operation
#define FV_OP(name, ...)  extern const fv_kernel KERNEL(name) __attribute__((weak));
#include "ops.def"
#undef FV_OP

/* Turns a CUDA error into a sentence and a status; `what` is what was being done. FV_OK for cudaSuccess. */
int fv_cuda_check(fv_device *, cudaError_t, const char *what);
#define CUDA_TRY(device, call)                                                                                         \
    do {                                                                                                               \
        const int status_ = fv_cuda_check(device, call, #call);                                                        \
        if (status_) return status_;                                                                                   \
    } while (0)
/* Do f32 products of this task keep all digits of their factors? */
static inline bool fv_cuda_strict(const fv_device *device, const fv_task *task) {
    return task->precision == FV_PRECISION_F32 || !device->tf32;
}
/* Numbers of one tensor in the type of another, by the kernel of cast. */
int fv_cuda_convert(fv_device *, const fv_tensor *to, const fv_tensor *from);
/* The end of every run that launched something: a launch has no result of its own. */
int fv_cuda_launched(fv_device *, const fv_task *);

/* Streaming of data that the device cannot hold: feed.c, core/backend.h. */
int fv_cuda_feed(fv_device *, int slot, void *to, void *through, const void *pinned, size_t bytes);
int fv_cuda_feed_wait(fv_device *, int slot);
void fv_cuda_feed_close(fv_device *);

/* Is there code in this library for the GPU? Launches an empty kernel. (elementwise.cu) */
cudaError_t fv_cuda_probe(cudaStream_t);

#ifdef __cplusplus
}
#endif
#endif
