/* store.h - what outlives a step: one store per net and device. Parameters, gradients and the optimiser's slots lie at the
 * same 64-byte aligned offsets (16 elements) in layer order, so that optimiser, clipping and checkpoint are one call each.
 * Regions are allocated when first asked for, zero-filled; auxiliary ones (rates, order, metrics) may grow between programs. */
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
    void *arena; size_t arena_bytes;          /* shared by the programs: grows, after which they resolve their addresses again */
    uint64_t arena_version, region_version;
    uint64_t version;                         /* raised by each write of parameters or statistics by the host */
    struct fv_program *program[FV_STORE_PROGRAMS]; uint64_t used[FV_STORE_PROGRAMS], clock;
} fv_store;

fv_store *fv_store_new(fv_context *, const fv_segment *, int32_t segment_count, int64_t parameters, int64_t statistics);
void fv_store_free(fv_store *);
/* Allocates or grows a region; contents are kept. elements 0: the natural size (parameters, gradients, slots, statistics, control). */
int fv_store_region(fv_store *, fv_region, int64_t elements);
/* Host and device; elements in f32 (converted where the device holds doubles), bytes for u8 regions, i32 for ORDER. Waits. */
int fv_store_write(fv_store *, fv_region, int64_t offset, int64_t elements, const void *data);
int fv_store_read(fv_store *, fv_region, int64_t offset, int64_t elements, void *data);
int fv_store_set_segments(fv_store *, const fv_segment *, int32_t count); /* after freezing */
fv_type fv_region_type(fv_region);
#endif
