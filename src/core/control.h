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
    uint32_t nonfinite;     /* sticky: set by check_gradients; while set nothing is written          */
    uint32_t reserved[9];
} fv_control;               /* 64 bytes */

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
