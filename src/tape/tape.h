/* tape.h - the tape: operations in the order of recording, which is already a topological order (SSA: every value is made
 * once). Plain arrays of plain structs; differentiating appends to them. The tape calls infer and gradient only through
 * fv_op_table. Value id 0 is "absent". */
#ifndef FV_TAPE_H
#define FV_TAPE_H
#include "core/core.h"
#include "ops/ops.h"

struct fv_store;

typedef enum fv_value_kind {
    FV_VALUE_NONE,      /* id 0                                                                                    */
    FV_VALUE_INPUT,     /* written by fv_write, or bound to device memory (fv_bind)                                */
    FV_VALUE_CONSTANT,  /* host bytes in the tape, uploaded when the program is made                               */
    FV_VALUE_STATE,     /* a range of a store: made by no operation, or a new version made by one that FV_WRITES   */
    FV_VALUE_TEMPORARY  /* an operation's output                                                                   */
} fv_value_kind;

/* Where state lies. Regions PARAMETERS, GRADIENTS, SLOT0 .. SLOT2 share one set of offsets, as do STATISTICS and NEXT_STATISTICS. */
typedef enum fv_region {
    FV_REGION_NONE, FV_PARAMETERS, FV_GRADIENTS, FV_SLOT0, FV_SLOT1, FV_SLOT2, FV_STATISTICS, FV_NEXT_STATISTICS,
    FV_SEGMENTS, /* u8: fv_segment of each parameter */
    FV_CONTROL,  /* u8: fv_control                    */
    FV_RATES,    /* f32: learning rate of each batch of the epoch, batch % length being used */
    FV_ORDER,    /* i32: sample numbers in the epoch's order */
    FV_METRICS,  /* f32: pairs (sum, compensation) */
    FV_SHADOW_BF16, FV_SHADOW_F16, /* the parameters in 16 bits, at the same offsets */
    FV_REGION_COUNT
} fv_region;

typedef struct fv_tape_value {
    fv_value_kind kind;
    fv_type type;
    fv_shape shape;
    int32_t producer;          /* operation, or -1                                                     */
    bool needs_gradient;       /* a trainable parameter, or made from one                              */
    bool kept;                 /* readable after a run: a root                                         */
    bool lowered;              /* 16 bits in the program, f32 to those who read it from outside         */
    /* STATE: where; TEMPORARY: where the value must be placed, if region is set (a gradient, a new statistic).
       Offset in elements of the region; the extent is the shape. */
    struct fv_store *store;
    fv_region region;
    int64_t offset;
    int32_t previous;          /* STATE made by an operation: the version before */
    int64_t constant;          /* CONSTANT: offset in tape->bytes */
} fv_tape_value;

typedef struct fv_operation {
    fv_op op;
    int32_t input, input_count;   /* tape->operand[input ..] : value ids */
    int32_t output, output_count; /* consecutive value ids from output on */
    int32_t label;                /* tape->label[]: the layer, 0: none */
    bool backward;                /* appended by fv_backward */
    fv_attributes attributes;
} fv_operation;

struct fv_tape {
    fv_object object;
    fv_operation *operation; int32_t operation_count, operation_capacity;
    fv_tape_value *value; int32_t value_count, value_capacity;   /* [0] is NONE */
    int32_t *operand, operand_count, operand_capacity;
    char **label; int32_t label_count, label_capacity;           /* [0] is "" */
    unsigned char *bytes; int64_t byte_count, byte_capacity;     /* constants */
    int32_t *gradient; int32_t gradient_count;                   /* by value id, after fv_backward; 0: none */
    int32_t current_label;
    bool in_backward;
    fv_precision precision; /* of the programs made of it */
};

/* Appends one operation: checks arity, infers shapes, propagates needs_gradient. Returns its number, or a status.
 * Outputs are values operation.output .. ; attributes NULL: zero. Inputs may hold id 0 where the operation allows it. */
int32_t fv_tape_append(fv_tape *, fv_op, const fv_attributes *, const fv_value *inputs, int32_t count);
/* The usual case: appends and gives the first output, {0} on error. */
fv_value fv_tape_apply(fv_tape *, fv_op, const fv_attributes *, const fv_value *inputs, int32_t count);
#define FV_APPLY(tape, op, attributes, ...) \
    fv_tape_apply(tape, op, attributes, (const fv_value[]){ __VA_ARGS__ }, (int32_t)(sizeof((fv_value[]){ __VA_ARGS__ }) / sizeof(fv_value)))
static inline fv_value fv_tape_output(const fv_tape *t, int32_t operation, int32_t index) { return (fv_value){ t->operation[operation].output + index }; }
static inline fv_value fv_tape_input(const fv_tape *t, int32_t operation, int32_t index) { return (fv_value){ t->operand[t->operation[operation].input + index] }; }
static inline const fv_tape_value *fv_tape_value_of(const fv_tape *t, fv_value v) { return &t->value[v.id]; }
static inline bool fv_value_valid(const fv_tape *t, fv_value v) { return t && v.id > 0 && v.id < t->value_count; }

/* A state: a range of a store. The same range asked for twice gives the newest version on this tape. needs_gradient: trainable. */
fv_value fv_tape_state(fv_tape *, struct fv_store *, fv_region, int64_t offset, fv_type, const fv_shape *, bool needs_gradient);
/* Asks that a temporary lie at this place of the store (gradients, new statistics); a copy is appended where the value is
 * already placed elsewhere, an input, a constant or a state. Gives the value that is placed. */
fv_value fv_tape_place(fv_tape *, fv_value, struct fv_store *, fv_region, int64_t offset);
void fv_tape_label(fv_tape *, const char *layer); /* of the operations appended from now on; NULL: none */
fv_value fv_tape_constant(fv_tape *, fv_type, const fv_shape *, const void *values);

/* Appends gradients of loss (a scalar) for all values that need one; several contributions are added in order.
 * No gradient runs for values that need none. tape->gradient[] then holds them. Public as fv_backward. */
/* FLOPs, bytes and multiply-adds of one operation of the tape. */
int fv_tape_cost(const fv_tape *, int32_t operation, fv_cost *);
uint64_t fv_tape_hash(const fv_tape *); /* of operations, attributes, shapes, constants, places */
fv_tape *fv_tape_copy(const fv_tape *);
#endif
