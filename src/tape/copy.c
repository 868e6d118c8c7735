/* copy.c - copies of tapes, for programs that change theirs, and the hash by which a compiled program is found
 * again. */
#include "tape/record.h"
#include <string.h>

/* ---- Copy -------------------------------------------------------------------------------------------------------- */

static void *copied(fv_context *context, const void *from, int64_t count, size_t size) {
    void *to = fv_alloc(context, (size_t)count, size, "a copy of a tape");
    if (to && count) memcpy(to, from, (size_t)count * size);
    return to;
}

static bool copy_arrays(fv_tape *to, const fv_tape *from) {
    fv_context *context = from->object.context;
#define COPY(member)                                                                                                   \
    (to->member##_capacity = to->member##_count = from->member##_count,                                                \
     (to->member = copied(context, from->member, from->member##_count, sizeof *from->member)) != NULL)
    if (!COPY(operation) || !COPY(value) || !COPY(operand)) return false;
#undef COPY
    if (!(to->bytes = copied(context, from->bytes, from->byte_count, 1))) return false;
    to->byte_capacity = to->byte_count = from->byte_count;
    if (from->gradient &&
        !(to->gradient = copied(context, from->gradient, from->gradient_count, sizeof *from->gradient)))
        return false;
    to->gradient_count = from->gradient_count;
    to->precision = from->precision;
    return true;
}

fv_tape *fv_tape_copy(const fv_tape *from) {
    fv_tape *to = from ? fv_tape_new(from->object.context) : NULL;
    if (!to) return NULL;
    fv_free(to->operation); /* what an empty tape has */
    fv_free(to->value);
    fv_free(to->operand);
    to->operation = NULL, to->value = NULL, to->operand = NULL;
    if (!copy_arrays(to, from)) return fv_tape_free(to), NULL;
    for (int32_t i = 1; i < from->label_count && fv_ok(from->object.context); i++) fv_tape_label(to, from->label[i]);
    if (!fv_ok(from->object.context)) return fv_tape_free(to), NULL;
    to->current_label = from->current_label;
    return to;
}

/* ---- Hash -------------------------------------------------------------------------------------------------------- */

/* Multiply and fold, eight bytes at a time. */
static uint64_t mix(uint64_t hash, uint64_t word) {
    hash = (hash ^ word) * 0x9E3779B97F4A7C15u;
    return hash ^ hash >> 29;
}

static uint64_t mix_bytes(uint64_t hash, const void *data, size_t bytes) {
    const unsigned char *from = data;
    uint64_t word;
    for (; bytes >= 8; from += 8, bytes -= 8) {
        memcpy(&word, from, 8);
        hash = mix(hash, word);
    }
    word = bytes; /* so that zeros at the end count */
    for (size_t i = 0; i < bytes; i++) word = word << 8 | from[i];
    return mix(hash, word);
}

static uint64_t mix_value(uint64_t hash, const fv_tape *tape, const fv_tape_value *v) {
    hash =
        mix(hash, (uint64_t)v->kind << 32 | (uint64_t)v->type << 16 | (uint64_t)v->shape.rank << 8 | (uint64_t)v->kept);
    hash = mix_bytes(hash, v->shape.dim, sizeof(int64_t) * (size_t)v->shape.rank);
    if (v->region) {
        hash = mix(hash, (uint64_t)(uintptr_t)v->store);
        hash = mix(hash, (uint64_t)v->region << 56 ^ (uint64_t)v->offset);
    }
    if (v->kind == FV_VALUE_CONSTANT)
        hash =
            mix_bytes(hash, tape->bytes + v->constant, (size_t)fv_shape_elements(&v->shape) * fv_type_bytes(v->type));
    return hash;
}

uint64_t fv_tape_hash(const fv_tape *tape) {
    uint64_t hash = 0x243F6A8885A308D3u;
    if (!tape) return hash;
    for (int32_t i = 1; i < tape->value_count; i++) hash = mix_value(hash, tape, &tape->value[i]);
    for (int32_t i = 0; i < tape->operation_count; i++) {
        const fv_operation *o = &tape->operation[i];
        hash = mix(hash, (uint64_t)o->op << 32 | (uint32_t)o->output);
        hash = mix_bytes(hash, tape->operand + o->input, sizeof(int32_t) * (size_t)o->input_count);
        hash = mix_bytes(hash, &o->attributes, sizeof o->attributes);
    }
    return hash;
}
