/* onnx.c - reads ONNX models and tensors: a walker over protobuf's wire format (a key, then a number or that many
 * bytes) and the fields of the few messages that tests of operators hold. Numbers of fields: onnx.proto of ONNX 1.22. */
#include "support/onnx.h"
#include <stdlib.h>
#include <string.h>

/* ---- The wire ---------------------------------------------------------------------------------------------------- */

typedef struct span {
    const uint8_t *at, *end;
} span;
typedef struct field {
    int number, wire;
    uint64_t integer;
    span bytes;
} field; /* wire 0 number, 1 and 5 fixed, 2 bytes */

static bool varint(span *s, uint64_t *out) {
    *out = 0;
    for (int shift = 0; shift < 64 && s->at < s->end; shift += 7) {
        const uint8_t byte = *s->at++;
        *out |= (uint64_t)(byte & 127) << shift;
        if (byte < 128) return true;
    }
    return false;
}

/* The next field of a message; false at its end, or where it is damaged (then *good becomes false). */
static bool next(span *s, field *f, bool *good) {
    uint64_t key, length;
    if (s->at >= s->end) return false;
    *good = varint(s, &key) && *good;
    f->number = (int)(key >> 3);
    f->wire = key & 7;
    if (f->wire == 0) return *good = varint(s, &f->integer) && *good;
    length = f->wire == 1 ? 8 : 4;
    if (f->wire == 2)
        *good = varint(s, &length) && *good;
    else if (f->wire != 1 && f->wire != 5)
        *good = false;
    if (!*good || length > (uint64_t)(s->end - s->at)) return *good = false;
    f->bytes = (span){ s->at, s->at + length };
    s->at += length;
    f->integer = 0;
    if (f->wire != 2) memcpy(&f->integer, f->bytes.at, length);
    return true;
}

static size_t size_of(span s) { return (size_t)(s.end - s.at); }

static bool copy_text(char *to, size_t capacity, span s) {
    if (size_of(s) >= capacity) return false;
    memcpy(to, s.at, size_of(s));
    to[size_of(s)] = 0;
    return true;
}

static double float_of(uint64_t bits) {
    float f;
    memcpy(&f, &bits, 4);
    return f;
}

static double double_of(uint64_t bits) {
    double d;
    memcpy(&d, &bits, 8);
    return d;
}

static double half_of(uint64_t bits) {
    const int exponent = bits >> 10 & 31, fraction = bits & 1023;
    const double sign = bits >> 15 & 1 ? -1 : 1;
    if (exponent == 31) return fraction ? __builtin_nan("") : sign * __builtin_inf();
    return sign * (exponent ? __builtin_ldexp(1024 + fraction, exponent - 25) : __builtin_ldexp(fraction, -24));
}

/* ---- Tensors ----------------------------------------------------------------------------------------------------- */

static int width_of(int type) {
    switch (type) {
    case ONNX_UINT8:
    case ONNX_INT8:
    case ONNX_BOOL: return 1;
    case ONNX_UINT16:
    case ONNX_INT16:
    case ONNX_FLOAT16:
    case ONNX_BFLOAT16: return 2;
    case ONNX_FLOAT:
    case ONNX_INT32:
    case ONNX_UINT32: return 4;
    case ONNX_INT64:
    case ONNX_UINT64:
    case ONNX_DOUBLE: return 8;
    default: return 0;
    }
}

static double number_of(int type, uint64_t bits) {
    switch (type) {
    case ONNX_FLOAT: return float_of(bits);
    case ONNX_DOUBLE: return double_of(bits);
    case ONNX_FLOAT16: return half_of(bits);
    case ONNX_BFLOAT16: return float_of(bits << 16);
    case ONNX_INT8: return (int8_t)bits;
    case ONNX_INT16: return (int16_t)bits;
    case ONNX_INT32: return (int32_t)bits;
    case ONNX_INT64: return (double)(int64_t)bits;
    default: return (double)bits;
    }
}

/* Numbers one after another: fixed ones of `width` bytes, or varints when it is 0. */
static bool numbers(span s, int width, uint64_t *out, int64_t *count, int64_t capacity) {
    while (s.at < s.end) {
        uint64_t bits = 0;
        if (*count >= capacity) return false;
        if (width == 0) {
            if (!varint(&s, &bits)) return false;
        } else {
            if (s.end - s.at < width) return false;
            memcpy(&bits, s.at, (size_t)width);
            s.at += width;
        }
        out[(*count)++] = bits;
    }
    return true;
}

/* A repeated field of numbers, packed or one by one. */
static bool repeated(const field *f, int width, uint64_t *out, int64_t *count, int64_t capacity) {
    if (f->wire == 2) return numbers(f->bytes, width, out, count, capacity);
    if (*count >= capacity) return false;
    out[(*count)++] = f->integer;
    return true;
}

static bool read_values(onnx_tensor *t, span s) {
    const int width = width_of(t->type);
    uint64_t *bits = calloc((size_t)t->elements + 1, sizeof *bits);
    bool good = bits != NULL;
    int64_t count = 0;
    for (field f; good && next(&s, &f, &good);) {
        if (f.number == 9)
            good = numbers(f.bytes, width, bits, &count, t->elements); /* raw_data    */
        else if (f.number == 4)
            good = repeated(&f, 4, bits, &count, t->elements); /* float_data  */
        else if (f.number == 10)
            good = repeated(&f, 8, bits, &count, t->elements); /* double_data */
        else if (f.number == 5 || f.number == 7 || f.number == 11)
            good = repeated(&f, 0, bits, &count, t->elements);
    }
    good = good && count == t->elements && (t->value = calloc((size_t)t->elements + 1, sizeof(double)));
    for (int64_t i = 0; good && i < t->elements; i++) t->value[i] = number_of(t->type, bits[i]);
    free(bits);
    return good;
}

static onnx_tensor *tensor_of(span message) {
    onnx_tensor *t = calloc(1, sizeof *t);
    bool good = t != NULL;
    uint64_t dims[ONNX_RANK] = { 0 };
    int64_t rank = 0;
    span s = message;
    for (field f; good && next(&s, &f, &good);) {
        if (f.number == 1)
            good = repeated(&f, 0, dims, &rank, ONNX_RANK);
        else if (f.number == 2)
            t->type = (int)f.integer;
        else if (f.number == 8)
            good = copy_text(t->name, sizeof t->name, f.bytes);
    }
    if (good) {
        t->rank = (int)rank;
        t->elements = 1;
        for (int i = 0; i < t->rank; i++) t->dim[i] = (int64_t)dims[i], t->elements *= t->dim[i];
        good = t->elements >= 0 && t->elements < 1 << 26;
        if (good && width_of(t->type)) good = read_values(t, message);
    }
    if (!good) onnx_tensor_free(t), t = NULL;
    return t;
}

/* ---- Models ------------------------------------------------------------------------------------------------------ */

static bool attribute_of(onnx_attribute *a, span s) {
    bool good = true;
    int64_t integers = 0, reals = 0;
    uint64_t integer[ONNX_LIST], real[ONNX_LIST];
    for (field f; good && next(&s, &f, &good);) {
        switch (f.number) {
        case 1: good = copy_text(a->name, sizeof a->name, f.bytes); break;
        case 2: a->real = float_of(f.integer); break;
        case 3: a->integer = (int64_t)f.integer; break;
        case 4: copy_text(a->text, sizeof a->text, f.bytes); break; /* a longer one is none that we know */
        case 5: onnx_tensor_free(a->tensor), good = (a->tensor = tensor_of(f.bytes)) != NULL; break;
        case 7: repeated(&f, 4, real, &reals, ONNX_LIST); break;
        case 8: repeated(&f, 0, integer, &integers, ONNX_LIST); break;
        }
    }
    for (int i = 0; i < integers; i++) a->list[i] = (int64_t)integer[i];
    for (int i = 0; i < reals; i++) a->reals[i] = float_of(real[i]);
    a->count = (int)(integers ? integers : reals);
    return good;
}

static bool node_of(onnx_node *n, span s) {
    bool good = true;
    for (field f; good && next(&s, &f, &good);) {
        switch (f.number) {
        case 1: good = n->input_count < ONNX_OPERANDS && copy_text(n->input[n->input_count++], 80, f.bytes); break;
        case 2: good = n->output_count < ONNX_OPERANDS && copy_text(n->output[n->output_count++], 80, f.bytes); break;
        case 4: good = copy_text(n->operator, sizeof n->operator, f.bytes); break;
        case 5:
            good = n->attribute_count < ONNX_ATTRIBUTES && attribute_of(&n->attribute[n->attribute_count++], f.bytes);
            break;
        case 7: good = copy_text(n->domain, sizeof n->domain, f.bytes); break;
        }
    }
    return good;
}

/* The name of a ValueInfoProto. */
static bool named(char names[ONNX_TENSORS][80], int *count, span s) {
    bool good = *count < ONNX_TENSORS;
    for (field f; good && next(&s, &f, &good);)
        if (f.number == 1) good = copy_text(names[*count], 80, f.bytes);
    ++*count;
    return good;
}

static bool graph_of(onnx_model *m, span s) {
    bool good = true;
    for (field f; good && next(&s, &f, &good);) {
        switch (f.number) {
        case 1: good = m->node_count < ONNX_NODES && node_of(&m->node[m->node_count++], f.bytes); break;
        case 5:
            good = m->initializer_count < ONNX_TENSORS && (m->initializer[m->initializer_count++] = tensor_of(f.bytes));
            break;
        case 11: good = named(m->input, &m->input_count, f.bytes); break;
        case 12: good = named(m->output, &m->output_count, f.bytes); break;
        }
    }
    return good;
}

static bool opset_of(onnx_model *m, span s) {
    bool good = true, own = true;
    int64_t version = 0;
    for (field f; good && next(&s, &f, &good);) {
        if (f.number == 1)
            own = size_of(f.bytes) == 0;
        else if (f.number == 2)
            version = (int64_t)f.integer;
    }
    if (own) m->opset = version;
    return good;
}

static uint8_t *file_bytes(const char *path, span *s) {
    FILE *file = fopen(path, "rb");
    if (!file) return NULL;
    uint8_t *data = NULL;
    size_t used = 0, capacity = 0, got = 1;
    while (got) {
        if (used == capacity && !(data = realloc(data, capacity = 2 * capacity + 65536))) break;
        used += got = fread(data + used, 1, capacity - used, file);
    }
    fclose(file);
    *s = (span){ data, data + used };
    return data;
}

onnx_model *onnx_read_model(const char *path) {
    span s;
    uint8_t *data = file_bytes(path, &s);
    onnx_model *m = calloc(1, sizeof *m);
    bool good = data && m && (m->node = calloc(ONNX_NODES, sizeof *m->node));
    for (field f; good && next(&s, &f, &good);) {
        if (f.number == 7)
            good = graph_of(m, f.bytes);
        else if (f.number == 8)
            good = opset_of(m, f.bytes);
    }
    free(data);
    if (!good) onnx_model_free(m), m = NULL;
    return m;
}

onnx_tensor *onnx_read_tensor(const char *path) {
    span s;
    uint8_t *data = file_bytes(path, &s);
    onnx_tensor *t = data ? tensor_of(s) : NULL;
    free(data);
    return t;
}

void onnx_tensor_free(onnx_tensor *t) {
    if (t) free(t->value);
    free(t);
}

void onnx_model_free(onnx_model *m) {
    if (!m) return;
    for (int n = 0; m->node && n < m->node_count; n++)
        for (int a = 0; a < m->node[n].attribute_count; a++) onnx_tensor_free(m->node[n].attribute[a].tensor);
    for (int i = 0; i < m->initializer_count; i++) onnx_tensor_free(m->initializer[i]);
    free(m->node);
    free(m);
}
