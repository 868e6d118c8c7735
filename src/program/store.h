/* store.h - what outlives a step: one store per net and device. Parameters, gradients and the optimiser's slots lie at the
 * same 64-byte aligned offsets (16 elements) in layer order, so that optimiser, clipping and checkpoint are one call each.
 * Regions are allocated when first asked for, zero but for the segments and the seed in the control block; auxiliary ones
 * (rates, order, metrics) may grow between programs. */
#ifndef FV_STORE_H
#define FV_STORE_H
#include "core/control.h"
#include "core/core.h"
#include "tape/tape.h"

enum { FV_STORE_PROGRAMS = 8 };

typedef struct fv_store {
    fv_context *context;
    int64_t parameters, statistics;           /* elements of the regions, padding included */
    fv_segment *segment; int32_t segment_count;
    void *data[FV_REGION_COUNT];              /* device memory */
    int64_t elements[FV_REGION_COUNT];
    void *arena; size_t arena_bytes;          /* of the cached and shared programs; when it has grown they resolve anew */
    uint64_t arena_version, region_version;
    uint64_t version;                         /* raised by each write of parameters or statistics by the host */
    uint64_t device_version;                  /* raised by each run of a program that writes parameters or statistics */
    uint64_t written;                         /* raised by both, from 1: what packed weights are compared with */
    uint64_t shadowed[2];                     /* written, when the 16-bit shadows (bf16, f16) were made */
    struct fv_program *program[FV_STORE_PROGRAMS]; uint64_t used[FV_STORE_PROGRAMS], clock;
} fv_store;

fv_store *fv_store_new(fv_context *, const fv_segment *, int32_t segment_count, int64_t parameters, int64_t statistics);
/* With its cached programs. Programs of fv_compile that refer to it stay, but refuse to run. NULL is fine. */
void fv_store_free(fv_store *);
/* Allocates or grows a region; contents are kept. elements 0: the natural size (parameters, gradients, slots, statistics,
 * segments, control), which is also the least. */
int fv_store_region(fv_store *, fv_region, int64_t elements);
/* Host and device; elements in f32 (converted where the device holds doubles), bytes for u8 regions, i32 for ORDER. Waits. */
int fv_store_write(fv_store *, fv_region, int64_t offset, int64_t elements, const void *data);
int fv_store_read(fv_store *, fv_region, int64_t offset, int64_t elements, void *data);
int fv_store_set_segments(fv_store *, const fv_segment *, int32_t count); /* after freezing */
/* The shared arena holds at least so many bytes from now on; its contents are lost when it grows. */
int fv_store_arena(fv_store *, size_t bytes);
fv_region fv_shadow_region(fv_type);          /* of the parameters in bf16, f16; else FV_REGION_NONE */
/* The parameters rounded into a shadow, on the device, unless nothing has written them since the last time. */
int fv_store_shadow(fv_store *, fv_region shadow);
fv_type fv_region_type(fv_region);
const char *fv_region_name(fv_region);        /* "parameters" */

/* Elements between host and device, f32 converted where the device holds doubles. They wait and allocate nothing. */
size_t fv_device_element(const fv_context *, fv_type); /* bytes of one element on the device */
int fv_device_write(fv_context *, void *to, fv_type, int64_t elements, const void *from);
int fv_device_read(fv_context *, void *to, fv_type, int64_t elements, const void *from);
#endif
