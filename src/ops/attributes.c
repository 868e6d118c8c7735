/* attributes.c - the members of each attribute struct as data. From them come copying into zeroed memory (which is
 * what lets attributes be hashed and compared as bytes) and the text in dumps. A new struct gets one table here. */
#include "ops/family.h"
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#define SIZE(member, field) sizeof(((fv_attributes *)0)->member.field)
#define FIELD_AS(KIND, WIDTH, member, field, usual)                                                                    \
    { #field, offsetof(fv_attributes, member.field), FV_FIELD_##KIND, SIZE(member, field) / (WIDTH), usual }
#define I32(member, field, usual) FIELD_AS(I32, 4, member, field, usual)
#define U32(member, field, usual) FIELD_AS(U32, 4, member, field, usual)
#define I64(member, field, usual) FIELD_AS(I64, 8, member, field, usual)
#define F32(member, field, usual) FIELD_AS(F32, 4, member, field, usual)
#define ACTIVATION(member)        FIELD_AS(ACTIVATION, 4, member, activation, FV_LINEAR), F32(member, alpha, 0)
#define LAYOUT(name, ...)                                                                                              \
    static const fv_field name##_fields[] = { __VA_ARGS__ };                                                           \
    const fv_attribute_layout fv_layout_##name = { name##_fields, sizeof(name##_fields) / sizeof(fv_field) }

enum {
    NEVER = INT32_MIN,     /* no usual value: always printed                       */
    SILENT = INT32_MIN + 1 /* the shape of the output says it already: not printed */
};

const fv_attribute_layout fv_layout_none = { NULL, 0 };
LAYOUT(conv, I32(conv, stride, NEVER), I32(conv, dilation, 1), I32(conv, pad, 0), I32(conv, groups, 1),
       I32(conv, flip, 0), ACTIVATION(conv), I64(conv, shape, SILENT));
LAYOUT(local, I32(local, stride, NEVER), I32(local, dilation, 1), I32(local, pad, 0), I32(local, kernel, SILENT),
       I64(local, shape, SILENT));
LAYOUT(dense, ACTIVATION(dense));
LAYOUT(matmul, I32(matmul, transpose_a, 0), I32(matmul, transpose_b, 0));
LAYOUT(pool, I32(pool, kernel, 0), I32(pool, stride, 0), I32(pool, pad, 0), I32(pool, ceil_mode, 0),
       I32(pool, exclude_padding, 0), I32(pool, output, 0), I32(pool, flat, 0), I64(pool, shape, SILENT));
LAYOUT(norm, F32(norm, epsilon, NEVER), F32(norm, momentum, 0), ACTIVATION(norm));
LAYOUT(activation, F32(activation, alpha, NEVER));
LAYOUT(clamp, F32(clamp, low, NEVER), F32(clamp, high, NEVER));
LAYOUT(lrn, I32(lrn, size, NEVER), F32(lrn, alpha, NEVER), F32(lrn, beta, NEVER), F32(lrn, k, NEVER));
LAYOUT(sample_norm, F32(sample_norm, epsilon, NEVER), I32(sample_norm, axes, 1), I32(sample_norm, groups, 0));
LAYOUT(axis, I32(axis, axis, NEVER));
LAYOUT(affine, F32(affine, a, NEVER), F32(affine, b, 0));
LAYOUT(cast, FIELD_AS(TYPE, 4, cast, type, NEVER));
LAYOUT(shape, I32(shape, rank, SILENT), I64(shape, dim, SILENT));
LAYOUT(slice, I64(slice, begin, NEVER), I64(slice, size, NEVER));
LAYOUT(strided, I64(strided, begin, NEVER), I64(strided, size, SILENT), I64(strided, step, NEVER));
LAYOUT(transpose, I32(transpose, axes, NEVER));
LAYOUT(gather, I32(gather, axis, NEVER), I32(gather, batch, 0), I64(gather, size, 0));
LAYOUT(pad, I64(pad, before, NEVER), I64(pad, after, NEVER), I32(pad, mode, 0), F32(pad, value, 0));
LAYOUT(resize, I32(resize, interpolation, NEVER), I32(resize, corners, 0), I64(resize, output, SILENT),
       I64(resize, shape, SILENT));
LAYOUT(reduce, FIELD_AS(AXES, 4, reduce, axes, NEVER), I32(reduce, keep_dims, 0), I32(reduce, correction, 0));
LAYOUT(cumsum, I32(cumsum, axis, NEVER), I32(cumsum, exclusive, 0), I32(cumsum, reverse, 0));
LAYOUT(loss, F32(loss, smoothing, 0), F32(loss, gamma, 0), F32(loss, margin, 0), I32(loss, squared, 0), I32(loss, ignore, 0),
       I32(loss, label, 0));
LAYOUT(pointwise, F32(pointwise, delta, 0), F32(pointwise, weight, 0), F32(pointwise, alpha, 0), F32(pointwise, gamma, 0),
       F32(pointwise, threshold, 0));
LAYOUT(top_k, I32(top_k, k, NEVER), I32(top_k, ignore, 0), I32(top_k, label, 0));
LAYOUT(update, U32(update, kind, NEVER), F32(update, value, 0), F32(update, clip_value, 0), F32(update, clip_norm, 0));
LAYOUT(constrain, U32(constrain, kind, NEVER), FIELD_AS(AXES, 4, constrain, axes, NEVER), F32(constrain, least, 0),
       F32(constrain, most, 0), F32(constrain, rate, 1), I32(constrain, rank, SILENT), I64(constrain, offset, NEVER),
       I64(constrain, dim, NEVER));
LAYOUT(random, F32(random, rate, 0), U32(random, stream, 0), I32(random, crop, 0), I32(random, vertical, 0));
LAYOUT(warp, F32(warp, rotation, 0), F32(warp, shear, 0), F32(warp, shift, 0), F32(warp, zoom, 0), F32(warp, scale, 0),
       F32(warp, ratio, 0), F32(warp, fill, 0), I32(warp, border, 0), I32(warp, nearest, 0));
LAYOUT(color, F32(color, strength, 0), F32(color, grey, 0), F32(color, limit, NEVER));
LAYOUT(erase, F32(erase, probability, NEVER), F32(erase, scale, 0), F32(erase, ratio, 0), F32(erase, fill, 0),
       I32(erase, size, 0));
LAYOUT(mix, F32(mix, mixup, 0), F32(mix, cutmix, 0), F32(mix, probability, NEVER), I32(mix, height, 0), I32(mix, width, 0),
       I32(mix, classes, 0));
LAYOUT(batch, I64(batch, size, NEVER), I64(batch, rows, NEVER));
LAYOUT(advance, I32(advance, batch_only, 0));
LAYOUT(normalize, F32(normalize, scale, NEVER), F32(normalize, mean, NEVER), F32(normalize, deviation, NEVER));

static size_t width_of(const fv_field *field) { return field->kind == FV_FIELD_I64 ? 8 : 4; }

void fv_op_attributes_copy(fv_op op, fv_attributes *to, const fv_attributes *from) {
    memset(to, 0, sizeof *to);
    if (!from || op <= FV_OP_NONE || op >= FV_OP_COUNT) return;
    const fv_attribute_layout *layout = fv_op_table[op]->layout;
    for (int32_t i = 0; i < layout->count; i++) {
        const fv_field *field = &layout->field[i];
        memcpy((char *)to + field->offset, (const char *)from + field->offset, width_of(field) * field->count);
    }
}

/* ---- Text -------------------------------------------------------------------------------------------------------- */

static int64_t integer_at(const fv_field *field, const void *data, int32_t i) {
    int64_t wide;
    uint32_t word;
    if (field->kind == FV_FIELD_I64) return memcpy(&wide, (const char *)data + 8 * i, 8), wide;
    memcpy(&word, (const char *)data + 4 * i, 4);
    return field->kind == FV_FIELD_U32 || field->kind == FV_FIELD_AXES ? (int64_t)word : (int64_t)(int32_t)word;
}

static float float_at(const void *data, int32_t i) {
    float value;
    memcpy(&value, (const char *)data + 4 * i, 4);
    return value;
}

static bool is_usual(const fv_field *field, const void *data) {
    if (field->usual == SILENT) return true;
    for (int32_t i = 0; i < field->count; i++)
        if (field->kind == FV_FIELD_F32 ? !(float_at(data, i) == (float)field->usual)
                                        : integer_at(field, data, i) != field->usual)
            return false;
    return true;
}

/* How many of the entries to print: one when all are equal, and no zeros at the end. */
static int32_t entries(const fv_field *field, const void *data) {
    size_t width = width_of(field);
    int32_t last = field->count;
    if (field->kind != FV_FIELD_I64 && last > 1 &&
        !memcmp(data, (const char *)data + width, width * (size_t)(last - 1)))
        return 1;
    while (last > 1 && (field->kind == FV_FIELD_I64 || field->kind == FV_FIELD_F32) &&
           !integer_at(field, data, last - 1))
        last--;
    return last;
}

/* A text that ends where its buffer does. */
typedef struct text {
    char *buffer;
    size_t bytes, used;
} text;

static void __attribute__((format(printf, 2, 3))) add(text *t, const char *format, ...) {
    if (t->used >= t->bytes) return;
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(t->buffer + t->used, t->bytes - t->used, format, arguments);
    va_end(arguments);
    t->used += length > 0 ? (size_t)length : 0;
}

/* 0.1 rather than 0.100000001, if that says which float it is. */
static void add_float(text *t, float value) {
    char digits[32];
    snprintf(digits, sizeof digits, "%.6g", (double)value);
    if (strtof(digits, NULL) != value) snprintf(digits, sizeof digits, "%.9g", (double)value);
    add(t, "%s", digits);
}

static void add_entry(text *t, const fv_field *field, const void *data, int32_t i) {
    int64_t integer = integer_at(field, data, i);
    if (i) add(t, ",");
    if (field->kind == FV_FIELD_F32) {
        add_float(t, float_at(data, i));
    } else if (field->kind == FV_FIELD_ACTIVATION && (uint64_t)integer < FV_ACTIVATION_COUNT) {
        add(t, "%s", fv_activations[integer].name);
    } else if (field->kind == FV_FIELD_TYPE) {
        add(t, "%s", fv_type_name((fv_type)integer));
    } else if (field->kind == FV_FIELD_AXES) {
        for (int axis = 0, first = 1; axis < 32; axis++)
            if (integer >> axis & 1) add(t, first ? "%d" : ",%d", axis), first = 0;
    } else {
        add(t, "%lld", (long long)integer);
    }
}

const char *fv_op_attributes_text(fv_op op, const fv_attributes *attributes, char *buffer, size_t bytes) {
    text t = { buffer, bytes, 0 };
    if (bytes) *buffer = 0;
    if (op <= FV_OP_NONE || op >= FV_OP_COUNT) return buffer;
    const fv_attribute_layout *layout = fv_op_table[op]->layout;
    for (int32_t i = 0; i < layout->count; i++) {
        const fv_field *field = &layout->field[i];
        const char *data = (const char *)attributes + field->offset;
        if (is_usual(field, data)) continue;
        add(&t, t.used ? " %s " : "%s ", field->name);
        for (int32_t entry = 0, count = entries(field, data); entry < count; entry++) add_entry(&t, field, data, entry);
    }
    return buffer;
}

/* ---- The form ---------------------------------------------------------------------------------------------------- */

const char *fv_op_attributes_form(fv_op op, char *buffer, size_t bytes) {
    const fv_attribute_layout *layout = fv_op_table[op]->layout;
    size_t used = 0;
    buffer[0] = 0;
    for (int32_t i = 0; i < layout->count; i++) {
        const fv_field *f = &layout->field[i];
        char count[16] = "", usual[32] = "";
        if (f->count > 1) snprintf(count, sizeof count, "[%d]", f->count);
        if (f->kind == FV_FIELD_ACTIVATION) snprintf(usual, sizeof usual, " = linear");
        else if (f->usual != NEVER && f->usual != SILENT) snprintf(usual, sizeof usual, " = %d", (int)f->usual);
        const int more = snprintf(buffer + used, bytes - used, "%s%s%s%s", used ? ", " : "", f->name, count, usual);
        if (more < 0 || (used += (size_t)more) >= bytes) break;
    }
    return buffer;
}
