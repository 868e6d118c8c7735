/* rewrite.c - what compiling does to its copy of the tape: dead operations go, fused operations that the backend lacks become
 * what they stand for, reshaped values that must lie in a store get a place they can have. The ids of values never change;
 * new values are added behind them. */
#include "program/program.h"
#include <string.h>

/* ---- Tools ------------------------------------------------------------------------------------------------------- */

/* Values keep the number of the operation that makes them; after operations have moved it is found anew. */
static void set_producers(fv_tape *t, int32_t from) {
    for (int32_t i = from; i < t->operation_count; i++) {
        const fv_operation *o = &t->operation[i];
        for (int32_t k = 0; k < o->output_count && o->op != FV_OP_NONE; k++) t->value[o->output + k].producer = i;
    }
}

void fv_tape_compact(fv_tape *t) {
    for (int32_t v = 0; v < t->value_count; v++) t->value[v].producer = -1;
    int32_t count = 0;
    for (int32_t i = 0; i < t->operation_count; i++)
        if (t->operation[i].op != FV_OP_NONE) t->operation[count++] = t->operation[i];
    t->operation_count = count;
    set_producers(t, 0);
}

/* Replaces the operations first .. first + old_count - 1. */
int fv_tape_splice(fv_tape *t, int32_t first, int32_t old_count, const fv_operation *operations, int32_t new_count) {
    fv_context *c = t->object.context;
    int32_t total = t->operation_count - old_count + new_count;
    if (total > t->operation_capacity) {
        int32_t capacity = total + total / 2;
        fv_operation *grown =
            fv_grow(c, t->operation, (size_t)t->operation_count, (size_t)capacity, sizeof *grown, "a tape");
        if (!grown) return FV_ERROR_MEMORY;
        t->operation = grown;
        t->operation_capacity = capacity;
    }
    int32_t behind = t->operation_count - first - old_count;
    memmove(t->operation + first + new_count, t->operation + first + old_count, (size_t)behind * sizeof *operations);
    memcpy(t->operation + first, operations, (size_t)new_count * sizeof *operations);
    t->operation_count = total;
    set_producers(t, first);
    return FV_OK;
}

int32_t fv_tape_clone_value(fv_tape *t, const fv_tape_value *like) {
    fv_tape_value value = *like;
    if (t->value_count == t->value_capacity) {
        int32_t capacity = t->value_count + t->value_count / 2 + 16;
        fv_tape_value *grown =
            fv_grow(t->object.context, t->value, (size_t)t->value_count, (size_t)capacity, sizeof *grown, "a tape");
        if (!grown) return FV_ERROR_MEMORY;
        t->value = grown;
        t->value_capacity = capacity;
    }
    value.producer = -1;
    value.kept = false;
    t->value[t->value_count] = value;
    return t->value_count++;
}

/* `operand` is a place in tape->operand that holds the source. */
fv_operation fv_tape_alias_operation(const fv_tape *t, int32_t operand, int32_t output, int32_t label) {
    fv_operation o;
    memset(&o, 0, sizeof o); /* attributes are compared as bytes */
    o.op = FV_OP_reshape;
    o.input = operand;
    o.input_count = 1;
    o.output = output;
    o.output_count = 1;
    o.label = label;
    const fv_shape *shape = &t->value[output].shape;
    o.attributes.shape.rank = shape->rank;
    for (int i = 0; i < shape->rank; i++) o.attributes.shape.dim[i] = shape->dim[i];
    return o;
}

int32_t fv_tape_add_operand(fv_tape *t, int32_t value) {
    if (t->operand_count == t->operand_capacity) {
        int32_t capacity = t->operand_count + t->operand_count / 2 + 16;
        int32_t *grown =
            fv_grow(t->object.context, t->operand, (size_t)t->operand_count, (size_t)capacity, sizeof *grown, "a tape");
        if (!grown) return FV_ERROR_MEMORY;
        t->operand = grown;
        t->operand_capacity = capacity;
    }
    t->operand[t->operand_count] = value;
    return t->operand_count++;
}

bool fv_state_overlap(const fv_tape_value *a, const fv_tape_value *b) {
    if (!fv_value_in_store(a) || a->store != b->store || a->region != b->region) return false;
    return a->offset < b->offset + fv_shape_elements(&b->shape) && b->offset < a->offset + fv_shape_elements(&a->shape);
}

/* ---- Dead operations --------------------------------------------------------------------------------------------- */

/* Values placed where a writing operation reads are needed, whether or not they are among its operands. */
static void need_placed(const fv_tape *t, const fv_operation *writer, bool *needed) {
    for (int32_t k = 0; k < writer->input_count; k++) {
        const fv_tape_value *state = &t->value[t->operand[writer->input + k]];
        if (state->kind != FV_VALUE_STATE) continue;
        for (int32_t v = 1; v < t->value_count; v++)
            if (t->value[v].kind == FV_VALUE_TEMPORARY && fv_state_overlap(&t->value[v], state)) needed[v] = true;
    }
}

/* One sweep from the end: an operation lives if it writes state or makes something that is kept or read by a living one. */
int fv_tape_remove_dead(fv_tape *t) {
    if (!t) return FV_ERROR_ARGUMENT;
    bool *needed =
        fv_alloc(t->object.context, (size_t)t->value_count, sizeof *needed, "the removal of dead operations");
    if (!needed) return FV_ERROR_MEMORY;
    for (int32_t v = 1; v < t->value_count; v++) needed[v] = t->value[v].kept;
    for (int32_t i = t->operation_count - 1; i >= 0; i--) {
        fv_operation *o = &t->operation[i];
        bool writes = fv_describe(o)->flags & FV_WRITES, live = writes;
        for (int32_t k = 0; k < o->output_count; k++) live |= needed[o->output + k];
        for (int32_t k = 0; k < o->input_count && live; k++) needed[t->operand[o->input + k]] = true;
        if (writes) need_placed(t, o, needed);
        if (!live) o->op = FV_OP_NONE;
    }
    fv_free(needed);
    fv_tape_compact(t);
    return FV_OK;
}

/* ---- Expansion --------------------------------------------------------------------------------------------------- */

enum { MOST_OPERANDS = 8 }; /* of a fused operation */

/* The expansion is recorded at the end of the tape and then moved to the place of operation i; the old outputs become other
 * names of the new ones. */
static int expand(fv_tape *t, int32_t i) {
    const fv_operation fused = t->operation[i];
    const fv_op_desc *desc = fv_describe(&fused);
    fv_context *c = t->object.context;
    fv_value input[MOST_OPERANDS] = { { 0 } }, output[MOST_OPERANDS] = { { 0 } };
    if (!desc->expand || fused.input_count > MOST_OPERANDS || fused.output_count > MOST_OPERANDS)
        return fv_fail(c, FV_ERROR_INTERNAL, "%s has no expansion", desc->name);
    for (int32_t k = 0; k < fused.input_count; k++) input[k].id = t->operand[fused.input + k];
    int32_t old_count = t->operation_count, label = t->current_label;
    t->current_label = fused.label;
    int status = desc->expand(t, &fused.attributes, input, fused.input_count, output);
    t->current_label = label;
    if (status) return status;
    int32_t appended = t->operation_count - old_count, count = appended;
    fv_operation *replacement = fv_alloc(c, (size_t)appended + MOST_OPERANDS, sizeof *replacement, "an expansion");
    if (!replacement) return FV_ERROR_MEMORY;
    memcpy(replacement, t->operation + old_count, (size_t)appended * sizeof *replacement);
    t->operation_count = old_count;
    for (int32_t k = 0; k < appended; k++) replacement[k].backward = fused.backward;
    for (int32_t k = 0; k < fused.output_count && !status; k++) {
        if (!output[k].id) continue;
        int32_t operand = fv_tape_add_operand(t, output[k].id);
        if (operand < 0)
            status = operand;
        else
            replacement[count++] = fv_tape_alias_operation(t, operand, fused.output + k, fused.label);
    }
    if (!status) status = fv_tape_splice(t, i, 1, replacement, count);
    fv_free(replacement);
    return status;
}

static bool has_kernel(fv_tape *t, int32_t i) {
    const fv_operation *o = &t->operation[i];
    if (o->input_count > MOST_OPERANDS || o->output_count > MOST_OPERANDS) return false;
    fv_tensor tensor[2 * MOST_OPERANDS];
    fv_task task = { .input = tensor, .output = tensor + MOST_OPERANDS };
    char why[256];
    fv_task_describe(t, i, &task);
    return fv_task_supported(t->object.context, &task, why, sizeof why) == FV_OK;
}

int fv_tape_expand(fv_tape *t, fv_context *c) {
    if (!t || !c) return FV_ERROR_ARGUMENT;
    int status = FV_OK;
    for (int32_t i = 0; i < t->operation_count && !status; i++)
        if (fv_describe(&t->operation[i])->flags & FV_FUSED && !has_kernel(t, i)) status = expand(t, i);
    return status;
}

/* ---- Reshaped values in a store ---------------------------------------------------------------------------------- */

static bool same_place(const fv_tape_value *a, const fv_tape_value *b) {
    return a->store == b->store && a->region == b->region && a->offset == b->offset;
}

/* The source of a chain of reshapes: the first value that an operation with a kernel makes, or that nothing makes. */
static int32_t source_of(const fv_tape *t, int32_t value) {
    for (;;) {
        int32_t producer = t->value[value].producer;
        if (producer < 0 || !(fv_describe(&t->operation[producer])->flags & FV_ALIAS)) return value;
        value = t->operand[t->operation[producer].input];
    }
}

/* y = reshape(x) with a place for y that x cannot have: z = reshape(x), y = copy(z). */
static int copy_into_place(fv_tape *t, int32_t i) {
    fv_operation pair[2] = { t->operation[i], t->operation[i] };
    fv_tape_value unplaced = t->value[pair[0].output];
    unplaced.store = NULL;
    unplaced.region = FV_REGION_NONE;
    unplaced.offset = 0;
    int32_t between = fv_tape_clone_value(t, &unplaced);
    int32_t operand = between < 0 ? between : fv_tape_add_operand(t, between);
    if (operand < 0) return operand;
    pair[0].output = between;
    pair[1].op = FV_OP_copy;
    pair[1].input = operand;
    memset(&pair[1].attributes, 0, sizeof pair[1].attributes);
    return fv_tape_splice(t, i, 1, pair, 2);
}

/* y = copy(x) with both at one place is another name. */
static void drop_copies(fv_tape *t) {
    for (int32_t i = 0; i < t->operation_count; i++) {
        const fv_operation *o = &t->operation[i];
        if (o->op != FV_OP_copy || !fv_value_in_store(&t->value[o->output])) continue;
        const fv_tape_value *x = &t->value[t->operand[o->input]];
        if (x->kind == FV_VALUE_TEMPORARY && same_place(x, &t->value[o->output]))
            t->operation[i] = fv_tape_alias_operation(t, o->input, o->output, o->label);
    }
}

int fv_tape_settle(fv_tape *t) {
    drop_copies(t);
    for (int32_t i = t->operation_count - 1; i >= 0; i--) {
        const fv_operation *o = &t->operation[i];
        if (!(fv_describe(o)->flags & FV_ALIAS)) continue;
        const fv_tape_value *placed = &t->value[o->output];
        fv_tape_value *source = &t->value[source_of(t, o->output)];
        if (!fv_value_in_store(placed) || same_place(placed, source)) continue;
        if (source->kind == FV_VALUE_TEMPORARY && !fv_value_in_store(source)) {
            source->store = placed->store;
            source->region = placed->region;
            source->offset = placed->offset;
            continue;
        }
        int status = copy_into_place(t, i);
        if (status) return status;
    }
    return FV_OK;
}
