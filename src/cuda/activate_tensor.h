/* activate_tensor.h - a bias (or NULL) and an activation over a tensor in its place, for results of libraries that have no such epilogue. (activation.cu) */
#ifndef FV_CUDA_ACTIVATE_TENSOR_H
#define FV_CUDA_ACTIVATE_TENSOR_H
#include "cuda/cuda.h"
#ifdef __cplusplus
extern "C"
#endif
    int
    fv_finish_tensor(fv_device *, const fv_task *, const fv_tensor *bias, int activation, float alpha,
                     const fv_tensor *);
#endif
