/* tape.c - recording: appending operations and the values they make, states and their versions, constants, labels,
 * places. An append either succeeds as a whole or leaves the tape as it was with an error in the context. */
#include "tape/record.h"
#include <string.h>

/* ---- Life -------------------------------------------------------------------------------------------------------- */

static void release_tape(void *object) {
    fv_tape *tape = object;
    for (int32_t i = 0; i < tape->label_count; i++) fv_free(tape->label[i]);
    fv_free(tape->operation);
    fv_free(tape->value);
    fv_free(tape->operand);
    fv_free(tape->label);
    fv_free(tape->bytes);
    fv_free(tape->gradient);
    fv_free(tape);
}

/* Room for `more` elements after count ones; doubles, so that recording takes linear time. NULL: the error is recorded. */
static void *reserve(fv_context *context, void *data, int32_t count, int32_t *capacity, int32_t more, size_t size) {
    int32_t needed;
    if (__builtin_add_overflow(count, more, &needed)) return fv_fail_memory(context, "a tape", SIZE_MAX), NULL;
    if (data && needed <= *capacity) return data;
    int32_t grown = *capacity > INT32_MAX / 2 ? INT32_MAX : 2 * *capacity;
    if (grown < needed) grown = needed;
    if (grown < 16) grown = 16;
    void *larger = fv_grow(context, data, (size_t)count, (size_t)grown, size, "a tape");
    if (larger) *capacity = grown;
    return larger;
}
#define RESERVE(tape, member, more)                                                                                    \
    ({                                                                                                                 \
        void *reserved = reserve((tape)->object.context, (tape)->member, (tape)->member##_count,                       \
                                 &(tape)->member##_capacity, more, sizeof *(tape)->member);                            \
        if (reserved) (tape)->member = reserved;                                                                       \
        reserved != NULL;                                                                                              \
    })

fv_tape *fv_tape_new(fv_context *context) {
    if (!fv_ok(context)) return NULL;
    fv_tape *tape = fv_alloc(context, 1, sizeof *tape, "a tape");
    if (!tape) return NULL;
    fv_object_add(context, tape, release_tape);
    bool made = RESERVE(tape, value, 1) && RESERVE(tape, label, 1) && (tape->label[0] = fv_copy_string(context, ""));
    if (!made) return fv_object_free(tape), NULL;
    tape->value_count = tape->label_count = 1;
    tape->value[0].producer = -1;
    return tape;
}

void fv_tape_free(fv_tape *tape) { fv_object_free(tape); }

int fv_tape_usable(const fv_tape *tape) {
    return !tape ? FV_ERROR_ARGUMENT : fv_ok(tape->object.context) ? FV_OK : tape->object.context->status;
}

void fv_tape_label(fv_tape *tape, const char *layer) {
    if (fv_tape_usable(tape)) return;
    tape->current_label = 0;
    if (!layer || !*layer) return;
    int32_t i = tape->label_count - 1;
    while (i > 0 && strcmp(tape->label[i], layer)) i--; /* most often the newest */
    if (!i) {
        if (!RESERVE(tape, label, 1)) return;
        char *copy = fv_copy_string(tape->object.context, layer);
        if (!copy) return;
        i = tape->label_count++;
        tape->label[i] = copy;
    }
    tape->current_label = i;
}

/* ---- Values that no operation makes ------------------------------------------------------------------------------ */

fv_value fv_tape_add_value(fv_tape *tape, fv_value_kind kind, fv_type type, const fv_shape *shape) {
    const fv_shape copy = *shape;
    if (!RESERVE(tape, value, 1)) return (fv_value){ 0 };
    tape->value[tape->value_count] = (fv_tape_value){ .kind = kind, .type = type, .shape = copy, .producer = -1 };
    return (fv_value){ tape->value_count++ };
}

/* Equal constants are one value: scalars return in every gradient. */
static fv_value find_constant(const fv_tape *tape, fv_type type, const fv_shape *shape, const void *values,
                              size_t bytes) {
    for (int32_t i = tape->value_count - 1; i > 0; i--) {
        const fv_tape_value *v = &tape->value[i];
        if (v->kind == FV_VALUE_CONSTANT && v->type == type && !v->needs_gradient && fv_shape_equal(&v->shape, shape) &&
            !memcmp(tape->bytes + v->constant, values, bytes))
            return (fv_value){ i };
    }
    return (fv_value){ 0 };
}

/* Room for a constant, 64-byte aligned; its offset, or -1. */
static int64_t reserve_bytes(fv_tape *tape, size_t bytes) {
    int64_t offset = (tape->byte_count + 63) / 64 * 64, end;
    if (bytes > INT64_MAX || __builtin_add_overflow(offset, (int64_t)bytes, &end))
        return fv_fail_memory(tape->object.context, "a constant", bytes), -1;
    if (end > tape->byte_capacity) {
        int64_t grown = end > INT64_MAX / 2 ? end : 2 * end;
        void *larger = fv_grow(tape->object.context, tape->bytes, (size_t)tape->byte_count, (size_t)grown, 1,
                               "the constants of a tape");
        if (!larger) return -1;
        tape->bytes = larger;
        tape->byte_capacity = grown;
    }
    tape->byte_count = end;
    return offset;
}

fv_value fv_tape_constant(fv_tape *tape, fv_type type, const fv_shape *shape, const void *values) {
    if (fv_tape_usable(tape)) return (fv_value){ 0 };
    const fv_shape copy = *shape;
    const size_t bytes = (size_t)fv_shape_elements(&copy) * fv_type_bytes(type);
    fv_value v = find_constant(tape, type, &copy, values, bytes);
    if (v.id) return v;
    if (!RESERVE(tape, value, 1)) return v;
    int64_t offset = reserve_bytes(tape, bytes);
    if (offset < 0) return v;
    memcpy(tape->bytes + offset, values, bytes);
    v = fv_tape_add_value(tape, FV_VALUE_CONSTANT, type, &copy);
    if (v.id) tape->value[v.id].constant = offset;
    return v;
}

/* Same store, region and offset, so that two values are versions of one thing if their extents agree too. */
static bool same_place(const fv_tape_value *v, const struct fv_store *store, fv_region region, int64_t offset) {
    return v->kind == FV_VALUE_STATE && v->store == store && v->region == region && v->offset == offset;
}

fv_value fv_tape_state(fv_tape *tape, struct fv_store *store, fv_region region, int64_t offset, fv_type type,
                       const fv_shape *shape, bool needs_gradient) {
    if (fv_tape_usable(tape)) return (fv_value){ 0 };
    for (int32_t i = tape->value_count - 1; i > 0; i--) /* versions grow with the numbers: the newest is found first */
        if (same_place(&tape->value[i], store, region, offset) && tape->value[i].type == type &&
            fv_shape_equal(&tape->value[i].shape, shape))
            return (fv_value){ i };
    fv_value v = fv_tape_add_value(tape, FV_VALUE_STATE, type, shape);
    if (!v.id) return v;
    fv_tape_value *state = &tape->value[v.id];
    state->store = store;
    state->region = region;
    state->offset = offset;
    state->needs_gradient = needs_gradient && type == FV_F32;
    return v;
}

/* ---- Operations -------------------------------------------------------------------------------------------------- */

int fv_tape_operands(const fv_tape *tape, const int32_t *inputs, int32_t count, fv_operands *o) {
    o->shape = o->near_shape;
    o->type = o->near_type;
    o->far = NULL;
    if (count > FV_OPERANDS_NEAR) {
        const size_t each = sizeof *o->shape + sizeof *o->type;
        if (!(o->far = fv_alloc(tape->object.context, (size_t)count, each, "a tape"))) return fv_tape_usable(tape);
        o->shape = o->far;
        o->type = (fv_type *)(void *)(o->shape + count);
    }
    for (int32_t i = 0; i < count; i++) {
        const bool there = inputs[i] > 0 && inputs[i] < tape->value_count;
        o->shape[i] = there ? &tape->value[inputs[i]].shape : NULL;
        o->type[i] = there ? tape->value[inputs[i]].type : FV_F32;
    }
    return FV_OK;
}

/* An operation that writes may only overwrite the newest version of a state. */
static int check_writes(const fv_tape *tape, fv_signature *s, const fv_op_desc *desc, const fv_value *inputs) {
    for (int32_t o = 0; o < desc->outputs && o < 4; o++) {
        const int32_t input = desc->writes[o] - 1;
        if (input < 0 || !inputs[input].id) continue;
        const fv_tape_value *state = &tape->value[inputs[input].id];
        if (state->kind != FV_VALUE_STATE)
            return fv_op_fail(s, FV_ERROR_ARGUMENT, "input %d would be overwritten, but it is not a state", input);
        for (int32_t i = tape->value_count - 1; i > inputs[input].id; i--)
            if (tape->value[i].previous == inputs[input].id)
                return fv_op_fail(s, FV_ERROR_ARGUMENT, "input %d is an old version of a state: %%%d was made from it",
                                  input, i);
    }
    return FV_OK;
}

/* What output o of the operation is: a temporary, a new version of a state, or nothing where the state was absent. */
static fv_tape_value make_output(const fv_tape *tape, const fv_signature *s, const fv_op_desc *desc,
                                 const fv_value *inputs, int32_t o) {
    fv_tape_value v = {
        .kind = FV_VALUE_TEMPORARY, .type = s->output_type[o], .shape = s->output[o], .producer = tape->operation_count
    };
    const int32_t written = (desc->flags & FV_WRITES) && o < 4 ? desc->writes[o] : 0;
    if (written) {
        const int32_t id = inputs[written - 1].id;
        v.kind = id ? FV_VALUE_STATE : FV_VALUE_NONE;
        v.store = tape->value[id].store;
        v.region = tape->value[id].region;
        v.offset = tape->value[id].offset;
        v.previous = id;
        return v;
    }
    for (int32_t i = 0; i < s->input_count && !tape->in_backward; i++)
        v.needs_gradient |= desc->gradient && v.type == FV_F32 && tape->value[inputs[i].id].needs_gradient;
    return v;
}

static int32_t commit(fv_tape *tape, const fv_signature *s, const fv_op_desc *desc, const fv_value *inputs) {
    fv_operation made = { .op = s->op,
                          .input = tape->operand_count,
                          .input_count = s->input_count,
                          .output = tape->value_count,
                          .output_count = desc->outputs,
                          .label = tape->current_label,
                          .backward = tape->in_backward };
    fv_op_attributes_copy(s->op, &made.attributes, s->attributes);
    for (int32_t o = 0; o < desc->outputs; o++) tape->value[made.output + o] = make_output(tape, s, desc, inputs, o);
    for (int32_t i = 0; i < s->input_count; i++) tape->operand[made.input + i] = inputs[i].id;
    tape->operand_count += s->input_count;
    tape->value_count += desc->outputs;
    tape->operation[tape->operation_count] = made;
    return tape->operation_count++;
}

int32_t fv_tape_append(fv_tape *tape, fv_op op, const fv_attributes *attributes, const fv_value *inputs,
                       int32_t count) {
    int status = fv_tape_usable(tape);
    if (status) return status;
    fv_attributes completed;
    fv_shape output[FV_TAPE_OUTPUTS];
    fv_type output_type[FV_TAPE_OUTPUTS];
    fv_operands operands;
    fv_signature s = { .context = tape->object.context,
                       .layer = tape->label[tape->current_label],
                       .op = op,
                       .attributes = &completed,
                       .input_count = count,
                       .output = output,
                       .output_type = output_type };
    fv_op_attributes_copy(op, &completed, attributes);
    for (int32_t i = 0; i < count; i++)
        if (inputs[i].id < 0 || inputs[i].id >= tape->value_count ||
            (inputs[i].id && tape->value[inputs[i].id].kind == FV_VALUE_NONE))
            return fv_op_fail(&s, FV_ERROR_ARGUMENT, "input %d is not a value of this tape", i);
    _Static_assert(sizeof(fv_value) == sizeof(int32_t), "a value is its number");
    if ((status = fv_tape_operands(tape, (const int32_t *)inputs, count, &operands))) return status;
    s.input = operands.shape;
    s.input_type = operands.type;
    status = fv_op_infer(&s);
    if (!status) status = check_writes(tape, &s, fv_op_table[op], inputs);
    if (!status && !(RESERVE(tape, operation, 1) && RESERVE(tape, value, fv_op_table[op]->outputs) &&
                     RESERVE(tape, operand, count)))
        status = fv_tape_usable(tape);
    int32_t made = status ? status : commit(tape, &s, fv_op_table[op], inputs);
    fv_free(operands.far);
    return made;
}

fv_value fv_tape_apply(fv_tape *tape, fv_op op, const fv_attributes *attributes, const fv_value *inputs,
                       int32_t count) {
    int32_t made = fv_tape_append(tape, op, attributes, inputs, count);
    return made < 0 ? (fv_value){ 0 } : fv_tape_output(tape, made, 0);
}

int fv_tape_cost(const fv_tape *tape, int32_t operation, fv_cost *cost) {
    *cost = (fv_cost){ 0 };
    if (!tape || operation < 0 || operation >= tape->operation_count) return FV_ERROR_ARGUMENT;
    const fv_operation *o = &tape->operation[operation];
    fv_attributes attributes = o->attributes;
    fv_shape output[FV_TAPE_OUTPUTS];
    fv_type output_type[FV_TAPE_OUTPUTS];
    fv_operands operands;
    int status = fv_tape_operands(tape, tape->operand + o->input, o->input_count, &operands);
    if (status) return status;
    for (int32_t i = 0; i < o->output_count; i++) {
        output[i] = tape->value[o->output + i].shape;
        output_type[i] = tape->value[o->output + i].type;
    }
    fv_op_cost(&(fv_signature){ .context = tape->object.context,
                                .op = o->op,
                                .attributes = &attributes,
                                .input_count = o->input_count,
                                .input = operands.shape,
                                .input_type = operands.type,
                                .output = output,
                                .output_type = output_type },
               cost);
    fv_free(operands.far);
    return FV_OK;
}
