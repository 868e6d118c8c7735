/* backend.h - the vtable between the framework and the hardware: one fv_backend per kind of device, also across the boundary
 * of a plugin. Backends see this file, core/control.h and the operation structs of ops/ops.h, and nothing above them. */
#ifndef FV_BACKEND_H
#define FV_BACKEND_H
#include "fovea.h"
#include "ops/ops.h"

/* Raised when fv_backend, fv_task or fv_attributes change. A plugin whose number or list of operations differs is refused. */
enum { FV_BACKEND_ABI = 6 };

typedef struct fv_device fv_device; /* made by a backend's open, known only to it */

/* Where an operand lies. data is NULL for an absent optional input and for an output that nobody reads. Backends compiled
 * for double (reference64) hold f32 as double: fv_backend.real_bytes. */
typedef struct fv_tensor {
    void *data;
    fv_type type;
    int32_t rank;
    int64_t dim[FV_RANK];
    int32_t value;             /* in a program: equal numbers are one value, perhaps under another shape; 0: absent     */
    bool kept;                 /* somebody but the program's tasks reads it: it must lie at data when the run is over   */
} fv_tensor;

static inline int64_t fv_elements(const fv_tensor *t) { int64_t n = 1; for (int i = 0; i < t->rank; i++) n *= t->dim[i]; return n; }

/* One prepared operation of a program. Shapes and types hold from prepare on; addresses from the first run on, and they
 * do not change between runs unless the program is bound anew. */
typedef struct fv_task {
    fv_op op;
    int32_t input_count, output_count;
    const fv_attributes *attributes;
    fv_tensor *input, *output;
    void *scratch;             /* of scratch_bytes, 64-byte aligned; lives for this task only         */
    size_t scratch_bytes;      /* asked for by prepare                                               */
    void *kept;                /* the kernel's own, made by prepare, freed by release                */
    const uint64_t *version;   /* not 0 in a run; another one when input 1, which depends on weights only, may have
                                  changed between runs; NULL: it is no such operand, or the program writes weights */
    void *packed;              /* of packed_bytes, asked for by prepare where version is there: what run leaves in it
                                  stays for the next runs (weights in the kernel's own order)        */
    size_t packed_bytes;
    const char *algorithm;     /* what prepare chose and why: shown in the profile; NULL is fine     */
    const char *layer;         /* for messages; may be NULL                                          */
    fv_precision precision;    /* of the program: F32 forbids rounding the factors of f32 products   */
    int32_t choice;            /* of the backend's alternatives, which one prepare must take, from 1 on; 0: it decides */
} fv_task;

/* How one backend does one operation. All slots but run are optional. */
typedef struct fv_kernel {
    int (*supports)(fv_device *, const fv_task *, char *why, size_t why_bytes); /* 0, or FV_ERROR_UNSUPPORTED with a reason */
    int (*prepare)(fv_device *, fv_task *);
    int (*run)(fv_device *, const fv_task *);    /* asynchronous on the device's stream; NULL: not supported */
    void (*release)(fv_device *, fv_task *);
} fv_kernel;

/* Services of the host, given to a backend at open. */
typedef struct fv_host {
    void *context;
    int (*fail)(void *context, fv_status, const char *format, ...) __attribute__((format(printf, 3, 4)));
    void (*log)(void *context, const char *format, ...) __attribute__((format(printf, 2, 3)));
    void *(*alloc)(void *context, size_t bytes, const char *what); /* host memory, zeroed, 64-byte aligned */
    void (*free)(void *);
    int threads;               /* wanted; 0: the backend decides */
} fv_host;

/* A run of consecutive tasks that a backend executes its own way (depth first by blocks, one persistent kernel).
 * The tasks stay the specification: a group gives what they would, within the bounds of each operation, the same on
 * every run and for any number of threads. */
typedef struct fv_group {
    int32_t first, count;      /* tasks of the program */
    void *kept;
    const char *algorithm;
} fv_group;

enum { FV_FEED_SLOTS = 32 };

typedef struct fv_backend {
    uint32_t abi;
    uint32_t op_count, op_checksum; /* FV_OP_COUNT, fv_op_checksum(): of the ops.def it was built with */
    uint32_t real_bytes;            /* size of an f32 element in device memory: 4, or 8 (reference64)   */
    const char *name;

    /* life; open fails with host->fail and a negative status; index is N of "cuda:N" */
    int (*open)(const fv_host *, int index, fv_device **);
    void (*close)(fv_device *);
    void (*describe)(fv_device *, char *line, size_t bytes);    /* "2 threads, AVX-512" */
    int (*count)(char *why, size_t why_bytes);                  /* optional: devices usable; why when 0; absent: 1 */
    void (*memory)(fv_device *, size_t *free, size_t *total);   /* optional */
    int (*peak)(fv_device *, double *flops, double *bytes);     /* optional: a second, as measured: f32 multiply-adds in
                                                                   registers, and a copy of large arrays (read and write) */

    /* optional: bit p for each fv_precision that kernels compute in themselves; absent: f32. In other 16-bit programs every
       operation stands between casts; tf32 is then refused, and so is what a device with this slot leaves out. */
    uint32_t (*precisions)(fv_device *);

    /* tuning; optional, together: what a choice depends on (model of the device, versions of libraries), and how many ways
       prepare can be asked for by task->choice. One that this task has not: prepare returns FV_ERROR_UNSUPPORTED and
       records nothing. Results of each way repeat. */
    void (*identity)(fv_device *, char *line, size_t bytes);
    int (*alternatives)(fv_device *, const fv_task *);

    /* memory; alloc returns NULL when there is none left, and records nothing */
    void *(*alloc)(fv_device *, size_t bytes);
    void (*free)(fv_device *, void *);
    void *(*pinned_alloc)(fv_device *, size_t bytes);           /* optional: host memory that copies fast */
    void (*pinned_free)(fv_device *, void *);                   /* optional */

    /* copies in the order of the stream; upload and download may return before they are done, sync waits */
    int (*upload)(fv_device *, void *to, const void *from, size_t bytes);
    int (*download)(fv_device *, void *to, const void *from, size_t bytes);
    int (*copy)(fv_device *, void *to, const void *from, size_t bytes);
    int (*fill)(fv_device *, void *to, int byte, size_t bytes);
    int (*sync)(fv_device *);

    /* streaming of data that the device cannot hold; optional, together and with pinned_alloc. `to` has the bytes of pinned host
       memory before work begins that is given later; the copy from the host goes to `through`, device memory of that
       size, on a stream of its own, beside work under way. Pinned memory and `through` belong to a slot, 0 ..
       FV_FEED_SLOTS - 1; after feed_wait its pinned memory may be written again. */
    int (*feed)(fv_device *, int slot, void *to, void *through, const void *pinned, size_t bytes);
    int (*feed_wait)(fv_device *, int slot);

    /* capture of a whole step and its replay; optional, together */
    int (*capture_begin)(fv_device *);
    int (*capture_end)(fv_device *, void **graph);
    int (*replay)(fv_device *, void *graph);
    void (*graph_free)(fv_device *, void *graph);

    int (*all_reduce)(fv_device *, void *data, int64_t elements); /* optional: sum over ranks */

    /* groups; optional, together. group writes the runs it takes, in order, at most capacity, and returns how many (or a
       status). An output is written where its task would if its data is not NULL and a task outside of groups reads it or
       it is kept; how groups hand values to each other is theirs, within the memory of these values. */
    int (*group)(fv_device *, const fv_task *tasks, int count, fv_group *groups, int capacity);
    int (*group_run)(fv_device *, const fv_task *tasks, const fv_group *);
    void (*group_release)(fv_device *, fv_group *);

    const fv_kernel *kernels;       /* [FV_OP_COUNT] */
} fv_backend;
#endif
