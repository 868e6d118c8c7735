/* convolution.h - what convolution.c (plans of cuDNN) and direct.cu (plain kernels) share. */
#ifndef FV_CUDA_CONVOLUTION_H
#define FV_CUDA_CONVOLUTION_H
#include "cuda/cuda.h"
#ifndef __cplusplus
#include "cuda/plan.h"
#endif
#ifdef __cplusplus
extern "C" {
#endif
/* Any of the four convolution operations, one output element a thread, in a fixed order: correct for every shape, fast for none. */
int fv_conv_direct(fv_device *, const fv_task *);
/* to[k][r][s][c] = from[k][R-1-r][S-1-s][c], for filters of the shape and type of w */
int fv_conv_turn(fv_device *, const fv_task *, const fv_tensor *w, const void *from, void *to);
#ifdef __cplusplus
}
#endif
#endif
