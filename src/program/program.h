/* program.h - from tape to program: dead operations go, neighbours are fused by a table of patterns, every value gets its
 * place in one arena, kernels prepare themselves. A run is a loop over tasks and allocates nothing.
 *   fuse.c  patterns    plan.c  lifetimes, offsets, verifier    prepare.c  tasks, kernels, groups
 *   run.c   run, debug, read, write    profile.c  print and profile    store.c  what outlives a step    cache.c  compiled programs of a store */
#ifndef FV_PROGRAM_H
#define FV_PROGRAM_H
#include "program/store.h"
#include "tape/tape.h"

typedef struct fv_place {        /* of a value */
    int64_t offset;              /* bytes in the arena; -1: not there (state, bound, or never read) */
    int64_t bytes;
    int32_t alias;               /* value whose memory this one is (reshape, in place, new version of a state), or 0 */
    int32_t first, last;         /* tasks: written by first, read until last */
} fv_place;

struct fv_program {
    fv_object object;
    fv_tape *tape;               /* its own copy, after fusion */
    fv_store *store;             /* owner of the arena; NULL: the program has an arena of its own */
    bool debug;
    fv_place *place;             /* by value */
    void **bound;                /* by value: inputs bound to device memory */
    fv_task *task; int32_t task_count;
    int32_t *task_operation;     /* operation of each task: aliases have no task */
    fv_tensor *tensor;           /* operands of all tasks, in one array */
    int32_t *tensor_value;       /* value of each of them */
    fv_group *group; int32_t group_count;
    int32_t *task_group;         /* group that a task belongs to, or -1 */
    void *arena; size_t arena_bytes; /* own arena, when store is NULL */
    size_t constant_bytes; void *constants;
    uint64_t arena_seen, region_seen; /* versions at which addresses were resolved */
    bool resolved;
    uint64_t hash;
    void *staging; size_t staging_bytes; /* host memory for conversion where the device holds doubles */
    int32_t nonfinite_task;      /* debug: first task whose output was not finite, or -1 */
};

fv_program *fv_program_new(fv_tape *, bool debug);   /* the caller's: what fv_compile gives; the tape may be freed afterwards */
fv_program *fv_program_cached(fv_tape *);            /* the store's: found by the tape's hash, else made; evicted when eight newer ones came */
int fv_bind(fv_program *, fv_value input, void *device_data); /* an input lies in device memory, in place of the arena */
/* Bytes that a program of this tape needs in its arena, without compiling it (kernel scratch included: kernels are asked). */
int fv_program_measure(fv_tape *, int64_t *arena_bytes);
/* Runs tensors under the debug program until one is not finite; sentence names layer, operation and output. */
int fv_program_find_nonfinite(fv_program *debug, char *sentence, size_t bytes);

/* Pieces, for tests. */
int fv_tape_remove_dead(fv_tape *);
int fv_tape_fuse(fv_tape *, fv_context *);           /* only what the context's backend supports */
int fv_program_plan(fv_program *);
int fv_program_verify(const fv_program *);           /* nothing overlaps while it lives; no old version of a state is read */
#endif
