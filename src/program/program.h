/* program.h - from tape to program: dead operations go, neighbours are fused by a table of patterns, every value gets its
 * place in one arena, kernels prepare themselves. A run is a loop over tasks and allocates nothing.
 *   rewrite.c  dead operations, expansion, splicing    fold.c  what depends on weights only    fuse.c  patterns
 *   precision.c  16-bit programs    plan.c  lifetimes, offsets    verify.c  the verifier
 *   prepare.c  tasks, kernels, addresses, groups    program.c  compile, measure, free    run.c  run, debug, read, write
 *   tune.c  choices among algorithms    profile.c  print and profile    store.c  what outlives a step    cache.c  compiled programs of a store
 *
 * Memory. Temporaries and the scratch of kernels lie in the arena. A program of fv_compile has an arena of its own; cached
 * and shared programs use their store's, so what one keeps is readable until another one of that store runs. Inputs lie
 * in a buffer of the program, made at the first write or run and never reused, so an input written once serves many runs;
 * one that is bound before has no memory there. Constants lie in a third buffer, uploaded once. What is computed from
 * weights only, once for each version of them, and read at every run lies in a fourth. */
#ifndef FV_PROGRAM_H
#define FV_PROGRAM_H
#include "program/store.h"
#include "tape/tape.h"

typedef struct fv_place {        /* of a value */
    int64_t offset;              /* bytes in the arena (inputs, constants: in the program's buffer of them); -1: not there
                                    (state, placed in a store, bound, an alias, or never read) */
    int64_t bytes;
    int32_t alias;               /* value whose memory this one is (reshape, in place, new version of a state), or 0 */
    int32_t first, last;         /* tasks: written by first (inputs, constants, states: 0), read until last (task_count: to
                                    the end); last -1: never read */
} fv_place;

struct fv_program {
    fv_object object;
    fv_tape *tape;               /* its own copy, after fusion */
    fv_store *store;             /* owner of the arena; NULL: the program has an arena of its own */
    fv_store **stores; int32_t store_count; /* all that the tape refers to */
    int32_t written_count;       /* the first so many have parameters or statistics written by a run */
    fv_precision precision;      /* never FV_PRECISION_DEFAULT */
    fv_region shadow;            /* that the program reads weights from, or FV_REGION_NONE */
    bool debug, cached, orphan;  /* orphan: a store that it refers to is gone */
    fv_place *place;             /* by value */
    void **bound;                /* by value: inputs bound to device memory */
    fv_task *task; int32_t task_count;
    int32_t steady_count;        /* the first so many read weights and constants only: they run when the weights are new */
    uint64_t weights_seen;       /* version of the weights for which they have run; 0: none */
    int32_t *task_operation;     /* operation of each task: aliases have no task */
    int64_t *scratch_offset;     /* of each task, in the arena */
    int32_t supported, prepared; /* tasks, from the first on, whose kernel was asked and has been prepared */
    fv_tensor *tensor; int32_t tensor_count; /* operands of all tasks, in one array */
    int32_t *tensor_value;       /* value of each of them */
    fv_group *group; int32_t group_count;
    int32_t *task_group;         /* group that a task belongs to, or -1 */
    void *arena; size_t arena_bytes; /* own arena, when store is NULL */
    void *inputs; size_t input_bytes;
    void *constants; size_t constant_bytes;
    void *steady; size_t steady_bytes; /* results of the steady tasks that others read */
    void *packed; size_t packed_bytes; /* of all tasks: weights that kernels keep in their own order */
    uint64_t arena_seen, region_seen; /* versions at which addresses were resolved */
    bool resolved, ran;          /* ran: kept values hold something, as long as the arena does not move */
    int64_t runs;                /* with these addresses: a device that can captures the second and replays it from then on */
    void *graph;
    uint64_t hash;
    int32_t nonfinite_task;      /* debug: first task whose output was not finite, or -1 */
};

fv_program *fv_program_new(fv_tape *, bool debug); /* the caller's: what fv_compile gives; the tape may be freed afterwards */
fv_program *fv_program_shared(fv_tape *);          /* the caller's too, but in the arena of the store, as cached ones are */
/* The store's: found by the tape's hash, else made; it goes when eight others have been used since. */
fv_program *fv_program_cached(fv_tape *);
/* An input lies in device memory, in place of the program's own; may be called again with other memory. */
int fv_bind(fv_program *, fv_value input, void *device_data);
/* fv_write from pinned memory without waiting, where the backend can: core/backend.h, feed. */
int fv_program_feed(fv_program *, fv_value input, int slot, void *through, const void *pinned, size_t bytes);
/* Bytes that a program of this tape needs for temporaries, inputs and scratch (kernels are asked), without compiling it. */
int fv_program_measure(fv_tape *, int64_t *arena_bytes);
/* Runs the tasks of a debug program until a tensor is not finite; the sentence names layer, operation and output. State is
 * not written: metrics, control and weights stay as they are. 1: found; 0: all are finite; or a status. */
int fv_program_find_nonfinite(fv_program *debug, char *sentence, size_t bytes);
void fv_programs_of_store_free(fv_store *);          /* cached ones go, others become orphans */

/* Pieces, for tests. */
int fv_tape_remove_dead(fv_tape *);
int fv_tape_fold(fv_tape *, fv_context *);           /* batch norm into weights; what depends on weights only goes to the front */
int fv_tape_fuse(fv_tape *, fv_context *);           /* only what the context's backend supports */
int fv_tape_expand(fv_tape *, fv_context *);         /* fused operations that the backend lacks become what they stand for */
int fv_tape_lower(fv_tape *, fv_context *, fv_precision); /* to bf16 or f16; others leave the tape as it is */
int fv_tape_settle(fv_tape *);                       /* reshaped values placed in a store: their source goes there, or a copy */
int fv_program_plan(fv_program *);
int fv_program_verify(const fv_program *);           /* nothing overlaps while it lives; no old version of a state is read */

/* Between the files of this folder. */
int fv_tape_splice(fv_tape *, int32_t first, int32_t old_count, const fv_operation *, int32_t new_count);
void fv_tape_compact(fv_tape *);                     /* drops FV_OP_NONE, sets producers anew */
int32_t fv_tape_add_operand(fv_tape *, int32_t value); /* its place, or a status */
int32_t fv_tape_clone_value(fv_tape *, const fv_tape_value *like); /* its id, or a status */
fv_operation fv_tape_alias_operation(const fv_tape *, int32_t operand, int32_t output, int32_t label); /* reshape */
bool fv_state_overlap(const fv_tape_value *, const fv_tape_value *); /* both in stores, ranges meet */
static inline bool fv_value_in_store(const fv_tape_value *v) { return v->region != FV_REGION_NONE; }
static inline const fv_op_desc *fv_describe(const fv_operation *o) { return fv_op_table[o->op]; }
/* Fills shapes and types; task->input and task->output must have room. */
void fv_task_describe(const fv_tape *, int32_t operation, fv_task *);
int fv_task_supported(fv_context *, const fv_task *, char *why, size_t why_bytes); /* 0, or says why not; no error yet */
const char *fv_task_name(const fv_task *, char buffer[128]); /* "conv2d c1" */
enum { FV_TASK_KEY = 640 };
void fv_task_key(const fv_task *, char text[FV_TASK_KEY]); /* operation, types, shapes, attributes: what a tuned choice is for */
int fv_task_prepare(fv_context *, fv_task *);        /* by the context's tuned choice, else as the kernel decides */
/* Times the ways of every task and writes the fastest of each into choices. */
int fv_program_tune(fv_program *, struct json_t *choices, FILE *report);
int fv_program_make_tasks(fv_program *);             /* tasks of live operations; kernels asked and prepared */
void fv_program_release_kernels(fv_program *);
int fv_program_allocate(fv_program *);               /* regions, arena, constants */
int fv_program_input_memory(fv_program *);
int fv_program_resolve(fv_program *);                /* addresses and groups; does nothing while they hold */
void fv_program_forget_addresses(fv_program *);
/* By value: does it depend on weights and constants only? On none, if the tape writes weights. */
int fv_tape_bring_forward(fv_tape *, fv_context *);  /* operations on weights alone */
void fv_tape_find_steady(const fv_tape *, bool *steady);
int32_t fv_program_root(const fv_program *, int32_t value);     /* value whose memory it is */
bool fv_program_lasts(const fv_program *, int32_t root);        /* made by a steady task, read by others */
void *fv_program_address(const fv_program *, int32_t value);    /* NULL: none */
void fv_program_place_inputs(fv_program *);          /* after planning or binding */
fv_program *fv_program_build(fv_tape *, fv_store *arena_owner, bool debug); /* planned and verified, without device memory */
uint64_t fv_program_hash(const fv_tape *, bool debug); /* with the precision that the tape asks for */
fv_store *fv_tape_store(const fv_tape *);            /* the first that it refers to, or NULL */
void fv_program_release(void *);
#endif
