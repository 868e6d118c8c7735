/* libraries.h - NVIDIA's libraries of a device: their handles are made when the first operation needs them, because that takes
 * a noticeable part of a second. */
#ifndef FV_CUDA_LIBRARIES_H
#define FV_CUDA_LIBRARIES_H
#include "cuda/cuda.h"
#include <cublasLt.h>
#include <cudnn.h>

typedef struct fv_libraries {
    cudnnHandle_t dnn;               /* works on the device's stream */
    cudnnBackendDescriptor_t target; /* the device's properties, for which plans are made */
    cublasLtHandle_t lt;
} fv_libraries;

int fv_cuda_dnn(fv_device *, fv_libraries **); /* dnn and target are there */
int fv_cuda_lt(fv_device *, fv_libraries **);  /* lt is there              */
void fv_cuda_libraries_close(fv_device *);
int fv_cuda_dnn_check(fv_device *, cudnnStatus_t, const char *what);
int fv_cuda_lt_check(fv_device *, cublasStatus_t, const char *what);
#endif
