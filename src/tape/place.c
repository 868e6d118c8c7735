/* place.c - temporaries that must lie at a place of the store: gradients of parameters and new running statistics.
 * Placing costs nothing, the producer writes there at once; only what already lies somewhere needs a copy. */
#include "tape/record.h"

/* The value whose memory v shares by reshapes, if everything on the way there is free to be placed; else 0. */
static int32_t free_root(const fv_tape *tape, int32_t v) {
    for (;;) {
        const fv_tape_value *value = &tape->value[v];
        if (value->kind != FV_VALUE_TEMPORARY || value->region) return 0;
        const fv_operation *producer = &tape->operation[value->producer];
        if (!(fv_op_table[producer->op]->flags & FV_ALIAS)) return v;
        v = tape->operand[producer->input];
    }
}

static void set_place(fv_tape_value *v, struct fv_store *store, fv_region region, int64_t offset) {
    v->store = store;
    v->region = region;
    v->offset = offset;
}

fv_value fv_tape_place(fv_tape *tape, fv_value v, struct fv_store *store, fv_region region, int64_t offset) {
    if (fv_tape_usable(tape)) return (fv_value){ 0 };
    if (!fv_value_valid(tape, v) || region <= FV_REGION_NONE || region >= FV_REGION_COUNT || offset < 0) {
        fv_fail(tape->object.context, FV_ERROR_ARGUMENT, "%%%d cannot be placed at %lld of region %d", v.id,
                (long long)offset, (int)region);
        return (fv_value){ 0 };
    }
    const fv_tape_value *value = fv_tape_value_of(tape, v);
    if (value->store == store && value->region == region && value->offset == offset)
        return v; /* it lies there already */
    int32_t root = free_root(tape, v.id);
    if (!root) {
        v = FV_APPLY(tape, FV_OP_copy, NULL, v);
        if (!v.id) return v;
        root = v.id;
    }
    for (int32_t i = v.id;; i = tape->operand[tape->operation[tape->value[i].producer].input]) {
        set_place(&tape->value[i], store, region, offset);
        if (i == root) return v;
    }
}
