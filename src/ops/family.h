/* family.h - what the files of src/ops share: the macro that makes a description, the checks of infer, the small
 * pieces from which gradients and expansions are put together. */
#ifndef FV_OPS_FAMILY_H
#define FV_OPS_FAMILY_H
#include "core/control.h"
#include "ops/ops.h"
#include "tape/tape.h"

/* Arity and flags of every operation as constants, so that FV_DESC takes them from ops.def. */
enum {
#define FV_OP(name, least, most, outputs, flags, ...)                                                                  \
    FV_LEAST_##name = least, FV_MOST_##name = most, FV_OUTPUTS_##name = outputs, FV_FLAGS_##name = flags,
#include "ops.def"
#undef FV_OP
    FV_OUTPUTS_MOST = 5 /* of any operation */
};

#define FV_OP(name, least, most, outputs, flags, ...) extern const fv_op_desc fv_op_desc_##name;
#include "ops.def"
#undef FV_OP

/* FV_DESC(relu, none, .infer = ...): the description of an operation; its second argument names the attribute layout. */
#define FV_DESC(NAME, LAYOUT, ...)                                                                                     \
    const fv_op_desc fv_op_desc_##NAME = { .name = #NAME, .source = __FILE__, .least = FV_LEAST_##NAME,                \
                                           .most = FV_MOST_##NAME, .outputs = FV_OUTPUTS_##NAME,                       \
                                           .flags = FV_FLAGS_##NAME, .layout = &fv_layout_##LAYOUT, __VA_ARGS__ }

/* Members of the attribute structs (attributes.c). */
extern const fv_attribute_layout fv_layout_local;
extern const fv_attribute_layout fv_layout_pointwise;
extern const fv_attribute_layout fv_layout_matmul, fv_layout_strided, fv_layout_cumsum;
extern const fv_attribute_layout fv_layout_constrain;
extern const fv_attribute_layout fv_layout_none, fv_layout_conv, fv_layout_dense, fv_layout_pool, fv_layout_norm, fv_layout_lrn,
    fv_layout_axis, fv_layout_affine, fv_layout_cast, fv_layout_shape, fv_layout_slice, fv_layout_transpose, fv_layout_gather,
    fv_layout_pad, fv_layout_resize, fv_layout_reduce,
    fv_layout_loss, fv_layout_top_k, fv_layout_update, fv_layout_random, fv_layout_batch, fv_layout_advance,
    fv_layout_normalize;
extern const fv_attribute_layout fv_layout_sample_norm, fv_layout_warp, fv_layout_color, fv_layout_erase, fv_layout_mix;
extern const fv_attribute_layout fv_layout_sample_norm;
extern const fv_attribute_layout fv_layout_activation, fv_layout_clamp;

/* The declaration of a gradient or an expansion. */
#define FV_GRADIENT(name)                                                                                              \
    static int name(fv_tape *tape, int32_t operation, const fv_value *output_gradient, const bool *wanted,             \
                    fv_value *input_gradient)
#define FV_EXPAND(name)                                                                                                \
    static int name(fv_tape *tape, const fv_attributes *attributes, const fv_value *input, int32_t input_count,        \
                    fv_value *output)

#define FV_TRY(expression)                                                                                             \
    do {                                                                                                               \
        const int try_status = (expression);                                                                           \
        if (try_status) return try_status;                                                                             \
    } while (0)
/* A shape as text that lives to the end of the block. */
#define FV_TEXT(shape) fv_shape_text(shape, (char[96]){ 0 })
#define FV_NAMES(...) ((const char *const[]){ __VA_ARGS__, NULL })

/* precision.c: the 16-bit type of the operands that may have one, or f32; the outputs get it behind infer. */
fv_type fv_precision_of(const fv_signature *);
int fv_precision_infer(fv_signature *, fv_type);

/* ---- Checks of infer (check.c): 0, or the error is recorded ------------------------------------------------------ */
/* The inputs, in order, are f32 or absent; names for the message. */
int fv_check_f32(fv_signature *, const char *const *names);
int fv_check_type(fv_signature *, int32_t input, const char *name, fv_type);
/* form says what is wanted: "[batch, height, width, channels]". */
int fv_check_rank(fv_signature *, int32_t input, const char *name, int32_t rank, const char *form);
int fv_check_rank_least(fv_signature *, int32_t input, const char *name, int32_t rank);
/* The input is absent or one number for each of the last axis of input `of`. */
int fv_check_channels(fv_signature *, int32_t input, const char *name, int32_t of);
/* The input has this shape, which belongs to what. */
int fv_check_shape(fv_signature *, int32_t input, const char *name, const fv_shape *, const char *what);
int fv_check_control(fv_signature *, int32_t input);
/* Scores [.., classes] and a class number a row, i32 [..], or a target of the scores' shape. */
int fv_check_scores_and_target(fv_signature *, const char *scores);
int fv_check_range(fv_signature *, const char *name, double value, double least, double most);
/* Counts a negative axis from the end; refuses one that the shape has not. */
int fv_check_axis(fv_signature *, int32_t *axis, const fv_shape *);
int fv_check_activation(fv_signature *, int32_t activation, float alpha); /* an elementwise one */
int fv_set_output(fv_signature *, int32_t output, fv_type, int32_t rank, const int64_t *dims);
int fv_set_output_like(fv_signature *, int32_t output, fv_type, const fv_shape *);

/* infer of operations with one f32 input, or several of one shape, whose output has that shape. */
int fv_infer_same(fv_signature *);
static inline int64_t fv_last(const fv_shape *shape) { return shape->dim[shape->rank - 1]; }

/* ---- Cost -------------------------------------------------------------------------------------------------------- */
double fv_cost_bytes(const fv_signature *);         /* of all operands */
double fv_cost_elements(const fv_shape *);
void fv_cost_moved(const fv_signature *, fv_cost *); /* reads as much as it writes, computes nothing */

/* ---- Gradients and expansions (append.c) ------------------------------------------------------------------------- */
static inline int fv_tape_status(const fv_tape *tape) { return tape->object.context->status; }
static inline const fv_shape *fv_shape_of(const fv_tape *tape, fv_value v) { return &tape->value[v.id].shape; }
static inline fv_attributes fv_attributes_of(const fv_tape *tape, int32_t operation) { return tape->operation[operation].attributes; }
fv_value fv_append_scaled(fv_tape *, fv_value, float factor);           /* factor x; a constant stays one */
fv_value fv_append_product(fv_tape *, fv_value, fv_value);              /* x y; nothing when x is the constant 1 */
fv_value fv_append_reshaped(fv_tape *, fv_value, const fv_shape *);     /* nothing when it has that shape */
fv_value fv_append_broadcast(fv_tape *, fv_value, const fv_shape *);    /* likewise; a constant number stays one */
fv_value fv_append_transposed(fv_tape *, fv_value, const int32_t axes[FV_RANK]); /* a reshape when only ones move */
fv_value fv_append_reduced(fv_tape *, fv_value, const fv_shape *);      /* sums over what broadcasting repeated  */
fv_value fv_append_activation(fv_tape *, int32_t activation, float alpha, fv_value); /* elementwise ones */
/* of those whose gradient uses the output */
fv_value fv_append_activation_gradient(fv_tape *, int32_t activation, float alpha, fv_value y, fv_value gradient);
#endif
