/* control.h - the control block: what changes from step to step, kept on the device so that no kernel takes a host scalar.
 * The host fills it at the start of an epoch or on change; the operation `advance` moves it on. The same bytes everywhere. */
#ifndef FV_CONTROL_H
#define FV_CONTROL_H
#include <stdint.h>

typedef struct fv_control {
    uint64_t step;          /* optimiser steps done: Philox's counter for dropout, t - 1 for Adam   */
    uint32_t seed[2];       /* Philox's key                                                         */
    uint32_t batch;         /* of this epoch, from 0: row `batch * size` of the order begins it      */
    uint32_t epoch;         /* from 0: keys the augmentation                                        */
    uint32_t nonfinite;     /* set by check_gradients; while set nothing is written: fv_nonfinite     */
    float loss_scale;       /* f16: a power of two that gradients are multiplied by; 0: they are not  */
    uint32_t good_steps;    /* since the scale changed last                                          */
    uint32_t overflow;      /* within check_gradients                                                */
    uint32_t reserved[6];
} fv_control;               /* 64 bytes */

/* STOP is sticky: the host takes it away. SKIP lasts until `advance`: gradients overflowed under a scale that can be lowered. */
typedef enum fv_nonfinite { FV_FINITE, FV_NONFINITE_STOP, FV_NONFINITE_SKIP } fv_nonfinite;

/* The scale as PyTorch's GradScaler has it: halved when gradients overflow, doubled after so many steps without. It begins lower,
 * since steps that are skipped until it fits are lost: libraries give the gradients of filters in f16, which ends at 65504. */
#define FV_LOSS_SCALE_FIRST 4096.0f
#define FV_LOSS_SCALE_LEAST 0x1p-24f
enum { FV_LOSS_SCALE_STEPS = 2000 };

#ifdef __CUDACC__
#define FV_CONTROL_FUNCTION static __host__ __device__ inline
#else
#define FV_CONTROL_FUNCTION static inline
#endif
/* The end of check_gradients. A loss that is not finite is no matter of the scale. */
FV_CONTROL_FUNCTION void fv_control_judge(fv_control *c, int bad_loss, int bad_gradients) {
    if (c->nonfinite == FV_NONFINITE_STOP) return;
    if (bad_loss || (bad_gradients && !(c->loss_scale > FV_LOSS_SCALE_LEAST)))
        c->nonfinite = FV_NONFINITE_STOP;
    else if (bad_gradients)
        c->nonfinite = FV_NONFINITE_SKIP;
}
/* What gradients, multiplied by the scale, are multiplied by in turn. */
FV_CONTROL_FUNCTION float fv_control_unscale(const fv_control *c) { return c->loss_scale > 0 ? 1 / c->loss_scale : 1; }
/* The end of a step. A skipped one only takes its batch. */
FV_CONTROL_FUNCTION void fv_control_advance(fv_control *c, int batch_only) {
    if (c->nonfinite == FV_NONFINITE_STOP) return;
    const int skipped = c->nonfinite == FV_NONFINITE_SKIP;
    c->nonfinite = FV_FINITE;
    c->batch++;
    if (!batch_only && !skipped) c->step++;
    if (!(c->loss_scale > 0)) return;
    if (skipped) c->loss_scale *= 0.5f;
    c->good_steps = skipped ? 0 : c->good_steps + 1;
    if (c->good_steps < FV_LOSS_SCALE_STEPS) return;
    c->loss_scale *= 2;
    c->good_steps = 0;
}

/* One parameter of the store as the optimiser sees it: elements of the parameter region. */
typedef struct fv_segment {
    int64_t offset, length;
    float rate, decay;      /* factors on the learning rate and on the weight decay */
    uint32_t frozen;
    int32_t layer;
} fv_segment;               /* 32 bytes */

/* Streams of random numbers (Philox: key = seed, counter = (element / 4, stream, step or epoch and sample)). */
enum { FV_STREAM_FLIP = 1, FV_STREAM_CROP = 2, FV_STREAM_FLIP_VERTICAL = 3, FV_STREAM_WARP = 4, FV_STREAM_COLOR = 5, FV_STREAM_ERASE = 6,
       FV_STREAM_MIX = 7, FV_STREAM_LAYERS = 1024 /* a layer's own number is added */ };
#endif
