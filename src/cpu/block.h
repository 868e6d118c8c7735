/* block.h - groups of a small net. A run of tasks goes through LANES images at a time: within a block the images are
 * innermost, [rows][columns][channels][LANES], so that every operation on however few channels is made of full vectors,
 * and what one task leaves the next finds in the nearest caches.
 *   block.c  which tasks are taken, and which runs of them    block_place.c  where values lie    block_run.c  running
 *   block_conv.c  convolutions and data gradients    block_sums.c  sums over the images: weight and bias gradients
 * Poolings and elementwise operations have no kernels here: a block is to them one image of channels * LANES channels. */
#ifndef FV_CPU_BLOCK_H
#define FV_CPU_BLOCK_H
#include "cpu/conv.h"
#include "cpu/group.h"

enum {
    BLOCK_INPUTS = 4,
    BLOCK_OUTPUTS = 2,
    BLOCK_LEAST = 2 * LANES, /* images */
    BLOCK_BUDGET = 1 << 20,  /* bytes of a thread's scratch: they should stay in its second cache */
    BLOCK_UNITS = 32,        /* most partial sums that a weight gradient is made of; each of consecutive blocks */
    BLOCK_TEXT = 192
};

/* ---- How a task is done by blocks -------------------------------------------------------------------------------- */
typedef struct block_step block_step;

/* What a step sees of one block. */
typedef struct block_call {
    const block_step *step;
    const fv_task *task; /* its operands are those of the block: see block_step.input */
    fv_device *alone;    /* a device with one thread, for ordinary kernels */
    float *sums;         /* [elements of output 0][LANES], to be added to */
    float *scratch;      /* of step->scratch_bytes */
    int64_t images;      /* lanes that hold one; what the others hold must not get into sums */
} block_call;

typedef struct block_kernel {
    const char *(*why_not)(const fv_task *);   /* NULL: it fits */
    int (*prepare)(fv_device *, block_step *); /* makes step->own, asks for packed_bytes and scratch_bytes */
    void (*pack)(const block_step *);          /* once a run, or once a version of the weights */
    void (*run)(const block_call *);
    double (*gain)(const fv_task *); /* cycles an image that blocks save on one thread, by estimate */
    uint32_t images;                 /* bit i: input i holds images; the others are read where they lie */
    bool sums;                       /* output 0 is a sum over the images */
} block_kernel;
extern const block_kernel ISA(block_convolution), ISA(block_weight_gradient), ISA(block_sum);
double ISA(block_conv_gain)(const fv_task *);

struct block_step {
    const fv_task *task;
    const block_kernel *kernel;
    int32_t read[BLOCK_INPUTS], made[BLOCK_OUTPUTS];      /* numbers of values; -1: none, or read where it lies */
    fv_tensor input[BLOCK_INPUTS], output[BLOCK_OUTPUTS]; /* as in a block: [1, rows, columns, channels LANES] */
    void *own;
    float *packed;
    size_t packed_bytes, scratch_bytes;
    uint64_t version;    /* of the weights in packed; 0: none */
    int64_t sums;        /* of a step that sums: elements of its output, */
    int64_t sums_offset; /* where the sums begin in a thread's scratch (bytes), */
    int64_t unit_offset; /* and in what is kept of a unit (floats) */
};

/* ---- A run of tasks ---------------------------------------------------------------------------------------------- */
/* Images, or an operation's result for each image, that tasks of the run make or read. */
typedef struct block_value {
    fv_tensor tensor;    /* rows of images in the program's memory */
    int64_t cells;       /* of an image */
    int32_t first, last; /* the step that makes (else first reads) it, the one that reads it last */
    bool made;           /* in this run */
    bool enters, leaves; /* rows are read, are written */
    bool crosses;        /* from group to group, in blocks that lie in the program's memory (an incomplete one: rows) */
    int64_t offset;      /* in a thread's scratch */
    char *aside;         /* rows are written here first: at their place lies what the run still reads. Or NULL */
} block_value;

typedef struct block_group {
    fv_device alone;
    block_step *step;
    block_value *value;
    int32_t step_count, value_count;
    int64_t images, blocks, units;
    size_t thread_bytes; /* of a thread's scratch: values, the steps' own, sums */
    int64_t step_offset, sums_offset, unit_floats;
    char *scratch, *packed; /* [threads][thread_bytes]; of all steps */
    float *partial;         /* [units][unit_floats] */
    char text[BLOCK_TEXT];
} block_group;

/* All tasks of a program and the run that each belongs to, or -1. */
typedef struct block_claims {
    const fv_task *task;
    int32_t count;
    const int32_t *run;
} block_claims;

/* NULL: not by blocks. */
#define block_kernel_of ISA(block_kernel_of)
const block_kernel *block_kernel_of(const fv_device *, const fv_task *);
static inline size_t block_cell_bytes(const block_value *v) { return LANES * type_bytes(v->tensor.type); }

/* Fills a group of so many tasks: values and their places. 0: its values do not fit into the caches; or a status. */
#define block_place ISA(block_place)
int block_place(fv_device *, const block_claims *, int32_t first, block_group *);
#define block_run ISA(block_run)
int block_run(fv_device *, const fv_group *);
#define block_group_free ISA(block_group_free)
void block_group_free(fv_device *, block_group *);
#endif
