/* table.c - the kernels of the CUDA backend, gathered from the list of operations. An operation without one is refused by
 * name when a program is compiled. */
#include "cuda/table.h"

void fv_cuda_fill_table(fv_kernel table[FV_OP_COUNT]) {
#define FV_OP(name, ...)                                                                                               \
    if (&KERNEL(name)) table[FV_OP_##name] = KERNEL(name);
#include "ops.def"
#undef FV_OP
}
