/* record.h - what the files of src/tape share. */
#ifndef FV_TAPE_RECORD_H
#define FV_TAPE_RECORD_H
#include "tape/tape.h"

enum { FV_TAPE_OUTPUTS = 5, /* outputs of an operation at most */ FV_OPERANDS_NEAR = 16 };

/* Shapes and types of the inputs of one operation, as infer and cost want them. */
typedef struct fv_operands {
    const fv_shape **shape;
    fv_type *type;
    const fv_shape *near_shape[FV_OPERANDS_NEAR];
    fv_type near_type[FV_OPERANDS_NEAR];
    void *far; /* in place of the near ones when there are many; to be freed */
} fv_operands;

int fv_tape_operands(const fv_tape *, const int32_t *inputs, int32_t count, fv_operands *);
/* 0, or why nothing can be recorded: no tape, or a context that holds an error. */
int fv_tape_usable(const fv_tape *);
/* A value that no operation makes. */
fv_value fv_tape_add_value(fv_tape *, fv_value_kind, fv_type, const fv_shape *);
#endif
