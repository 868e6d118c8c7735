/* reduction.h - a tensor as outer x reduced x inner, which is what reductions and their gradients run over. */
#ifndef FV_CPU_REDUCTION_H
#define FV_CPU_REDUCTION_H
#include "cpu/cpu.h"

#define make_block ISA(make_block)
#define turn_axes  ISA(turn_axes)

/* Where there are few results the reduced axis is cut into this many chunks, whatever the number of threads. */
enum { CHUNKS = 32, FEW = 64 };

typedef struct block {
    int64_t outer, reduced, inner;
    bool turned; /* the axes are not neighbours: x has to be brought into this order first */
    int32_t order[FV_RANK];
} block;
block make_block(const fv_tensor *x, uint32_t axes);

/* transpose.c: y gets the elements of x with its axes in this order. */
void turn_axes(fv_device *, const fv_tensor *x, const int32_t order[FV_RANK], void *y);

static inline int64_t chunks_of(const block *b) {
    bool few = b->outer * div_up(b->inner, 16) < FEW && b->reduced > CHUNKS;
    return few && b->outer * b->inner * b->reduced > 8192 ? CHUNKS : 1;
}
#endif
