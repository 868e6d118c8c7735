/* table.c - all operations in one constant table, made from ops.def, and the doors through which the tape uses it. */
#include "ops/family.h"
#include <stdarg.h>

const fv_op_desc *const fv_op_table[FV_OP_COUNT] = {
#define FV_OP(name, least, most, outputs, flags, ...) [FV_OP_##name] = &fv_op_desc_##name,
#include "ops.def"
#undef FV_OP
};

#define FV_OP(name, least, most, outputs, flags, ...)                                                                  \
    _Static_assert((outputs) <= FV_OUTPUTS_MOST && ((most) < 0 || (most) >= (least)), "ops.def: " #name);
#include "ops.def"
#undef FV_OP

int fv_op_fail(fv_signature *s, fv_status status, const char *format, ...) {
    char sentence[768];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(sentence, sizeof sentence, format, arguments);
    va_end(arguments);
    bool named = s->layer && *s->layer;
    return fv_fail(s->context, status, "%s%s%s: %s", fv_op_name(s->op), named ? " " : "", named ? s->layer : "",
                   sentence);
}

/* The number of inputs is right and only optional ones are absent. */
static int check_arity(fv_signature *s, const fv_op_desc *desc) {
    if (s->input_count < desc->least || (desc->most >= 0 && s->input_count > desc->most))
        return fv_op_fail(s, FV_ERROR_ARGUMENT, "%d inputs were given, it takes %s%d", s->input_count,
                          desc->most == desc->least      ? ""
                          : s->input_count < desc->least ? "at least "
                                                         : "at most ",
                          s->input_count < desc->least ? desc->least : desc->most);
    for (int32_t i = 0; i < s->input_count; i++)
        if (!s->input[i] && !(i < 32 && desc->optional >> i & 1))
            return fv_op_fail(s, FV_ERROR_ARGUMENT, "input %d is missing or invalid", i);
    return FV_OK;
}

int fv_op_infer(fv_signature *s) {
    if (s->op <= FV_OP_NONE || s->op >= FV_OP_COUNT)
        return fv_fail(s->context, FV_ERROR_ARGUMENT, "there is no operation number %d", (int)s->op);
    const fv_op_desc *desc = fv_op_table[s->op];
    FV_TRY(check_arity(s, desc));
    for (int32_t i = 0; i < s->input_count; i++)
        for (int32_t axis = 0; s->input[i] && axis < s->input[i]->rank; axis++)
            if (s->input[i]->dim[axis] < 1)
                return fv_op_fail(s, FV_ERROR_SHAPE, "input %d has the empty shape %s", i, FV_TEXT(s->input[i]));
    for (int32_t o = 0; o < desc->outputs; o++) {
        s->output[o] = (fv_shape){ 0 };
        s->output_type[o] = FV_F32;
    }
    FV_TRY(desc->infer(s));
    const fv_type type = fv_precision_of(s);
    if (type != FV_F32) FV_TRY(fv_precision_infer(s, type));
    for (int32_t o = 0; o < desc->outputs; o++)
        for (int32_t axis = 0; axis < s->output[o].rank; axis++)
            if (s->output[o].dim[axis] < 1)
                return fv_op_fail(s, FV_ERROR_SHAPE, "output %d would have the empty shape %s", o,
                                  FV_TEXT(&s->output[o]));
    return FV_OK;
}

void fv_op_cost(const fv_signature *s, fv_cost *cost) {
    *cost = (fv_cost){ 0 };
    const fv_op_desc *desc = fv_op_table[s->op];
    if (desc->cost) {
        desc->cost(s, cost);
    } else if (!(desc->flags & FV_ALIAS)) {
        *cost = (fv_cost){ .flops = fv_cost_elements(&s->output[0]), .bytes = fv_cost_bytes(s) };
    }
}
