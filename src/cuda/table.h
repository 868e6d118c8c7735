/* table.h - see table.c */
#ifndef FV_CUDA_TABLE_H
#define FV_CUDA_TABLE_H
#include "cuda/cuda.h"
void fv_cuda_fill_table(fv_kernel table[FV_OP_COUNT]);
#endif
