/* onnx_graph.c - the values of an ONNX graph on a tape. A value may exist in ONNX's layout (plain) and with channels
 * last; what is known before the run (inputs, weights, constants) is turned on the host, what is computed by a
 * transpose on the tape. Types that Fovea lacks are given in one that holds their numbers: f64 and f16 as f32 (Fovea computes in
 * f32), i64 indices as i32, bool as u8. Integers are not given as f32: arithmetic of integers is another thing. */
#include "support/onnx.h"
#include "core/core.h"
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

static const fv_value none = { 0 };

fv_value onnx_cannot(onnx_graph *g, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    if (!g->why[0]) vsnprintf(g->why, sizeof g->why, format, arguments);
    va_end(arguments);
    return none;
}

/* ---- Attributes -------------------------------------------------------------------------------------------------- */

const onnx_attribute *onnx_attribute_of(const onnx_graph *g, const char *name) {
    for (int i = 0; i < g->node->attribute_count; i++)
        if (!strcmp(g->node->attribute[i].name, name)) return &g->node->attribute[i];
    return NULL;
}

int64_t onnx_integer(const onnx_graph *g, const char *name, int64_t otherwise) {
    const onnx_attribute *a = onnx_attribute_of(g, name);
    return a ? a->integer : otherwise;
}

double onnx_real(const onnx_graph *g, const char *name, double otherwise) {
    const onnx_attribute *a = onnx_attribute_of(g, name);
    return a ? a->real : otherwise;
}

const char *onnx_text(const onnx_graph *g, const char *name, const char *otherwise) {
    const onnx_attribute *a = onnx_attribute_of(g, name);
    return a ? a->text : otherwise;
}

int onnx_axis(onnx_graph *g, const char *name, int64_t otherwise, int rank) {
    const int64_t axis = onnx_integer(g, name, otherwise);
    return (int)(axis < 0 ? axis + rank : axis);
}

/* ---- Values ------------------------------------------------------------------------------------------------------ */

static onnx_value *find(onnx_graph *g, const char *name) {
    for (int i = 0; i < g->value_count; i++)
        if (!strcmp(g->value[i].name, name)) return &g->value[i];
    return NULL;
}

static onnx_value *add(onnx_graph *g, const char *name) {
    if (g->value_count == sizeof g->value / sizeof *g->value) {
        onnx_cannot(g, "the graph has too many values");
        return NULL;
    }
    onnx_value *v = &g->value[g->value_count++];
    *v = (onnx_value){ .rank = -1 };
    memcpy(v->name, name, sizeof v->name);
    return v;
}

bool onnx_has(const onnx_graph *g, int input) { return input < g->node->input_count && g->node->input[input][0]; }

static onnx_value *operand(onnx_graph *g, int input) {
    onnx_value *v = onnx_has(g, input) ? find(g, g->node->input[input]) : NULL;
    if (!v) onnx_cannot(g, "%s: input %d is missing", g->node->operator, input);
    return v;
}

int onnx_rank(onnx_graph *g, int input) {
    const onnx_value *v = operand(g, input);
    return !v ? 0 : v->known ? v->known->rank : v->plain.id ? g->tape->value[v->plain.id].shape.rank : v->rank;
}

int onnx_type(onnx_graph *g, int input) {
    const onnx_value *v = operand(g, input);
    return v && v->known ? v->known->type : 0;
}

const fv_shape *onnx_shape(const onnx_graph *g, fv_value v) { return &g->tape->value[v.id].shape; }

const onnx_tensor *onnx_known(onnx_graph *g, int input) {
    const onnx_value *v = operand(g, input);
    if (v && v->known && v->known->value) return v->known;
    onnx_cannot(g, "%s: input %d would have to be known before the run", g->node->operator, input);
    return NULL;
}

/* An input of the tape with these numbers, turned: axis i of it is axis axes[i] of the tensor. */
static fv_value fed(onnx_graph *g, const onnx_tensor *t, fv_type type, const int *axes) {
    int64_t dim[ONNX_RANK], stride[ONNX_RANK], at[ONNX_RANK] = { 0 };
    if (g->feed_count == sizeof g->feed / sizeof *g->feed) return onnx_cannot(g, "the graph has too many inputs");
    if (t->rank > FV_RANK) return onnx_cannot(g, "a tensor has %d axes", t->rank);
    for (int i = 0; i < t->rank; i++) {
        const int from = axes ? axes[i] : i;
        dim[i] = t->dim[from];
        stride[i] = 1;
        for (int j = from + 1; j < t->rank; j++) stride[i] *= t->dim[j];
    }
    const fv_value v = fv_op_input(g->tape, dim, t->rank, type);
    double *data = v.id ? calloc((size_t)t->elements + 1, sizeof *data) : NULL;
    if (!data) return onnx_cannot(g, "the input is refused");
    for (int64_t i = 0; i < t->elements; i++) {
        int64_t from = 0;
        for (int axis = 0; axis < t->rank; axis++) from += at[axis] * stride[axis];
        data[i] = t->value[from];
        for (int axis = t->rank - 1; axis >= 0 && ++at[axis] == dim[axis]; axis--) at[axis] = 0;
    }
    g->feed[g->feed_count++] = (onnx_feed){ v, type, t->elements, data };
    return v;
}

static bool is_real(const onnx_tensor *t) {
    return t->type == ONNX_FLOAT || t->type == ONNX_DOUBLE || t->type == ONNX_FLOAT16 || t->type == ONNX_BFLOAT16;
}

fv_value onnx_transpose(onnx_graph *g, fv_value v, const int *axes) {
    fv_attributes a = { 0 };
    if (!v.id) return v;
    for (int i = 0; i < FV_RANK; i++) a.transpose.axes[i] = i < onnx_shape(g, v)->rank ? axes[i] : i;
    return FV_APPLY(g->tape, FV_OP_transpose, &a, v);
}

fv_value onnx_permuted(onnx_graph *g, int input, const int *axes) {
    const onnx_value *v = operand(g, input);
    if (!v) return none;
    if (!v->known)
        return v->plain.id ? onnx_transpose(g, v->plain, axes) : onnx_cannot(g, "a computed value is turned");
    if (!is_real(v->known)) return onnx_cannot(g, "arithmetic of a type that is not real (%d)", v->known->type);
    return fed(g, v->known, FV_F32, axes);
}

fv_value onnx_plain(onnx_graph *g, int input) {
    onnx_value *v = operand(g, input);
    if (!v || v->plain.id) return v ? v->plain : none;
    if (v->known) return v->plain = onnx_permuted(g, input, NULL);
    if (!v->last.id) return onnx_cannot(g, "a value was never made");
    if (v->rank == 4) return v->plain = onnx_transpose(g, v->last, (const int[]){ 0, 3, 1, 2 });
    const fv_shape *s = onnx_shape(g, v->last); /* [n, 1, w, c] to [n, c, w] */
    const int64_t dims[] = { s->dim[0], s->dim[2], s->dim[3] };
    return v->plain = onnx_transpose(g, onnx_reshaped(g, v->last, 3, dims), (const int[]){ 0, 2, 1 });
}

fv_value onnx_last(onnx_graph *g, int input) {
    onnx_value *v = operand(g, input);
    if (!v || v->last.id) return v ? v->last : none;
    const int rank = onnx_rank(g, input);
    if (rank == 4) return v->last = onnx_permuted(g, input, (const int[]){ 0, 2, 3, 1 });
    if (rank != 3 && rank != 2) return onnx_cannot(g, "a layer on images of %d axes", rank - 2);
    const fv_value turned = rank == 3 ? onnx_permuted(g, input, (const int[]){ 0, 2, 1 }) : onnx_plain(g, input);
    if (!turned.id) return none;
    const fv_shape s = *onnx_shape(g, turned);
    v->last = onnx_reshaped(g, turned, 4, (const int64_t[]){ s.dim[0], 1, rank == 3 ? s.dim[1] : 1, s.dim[rank - 1] });
    v->rank = rank;
    return v->last;
}

fv_value onnx_number(onnx_graph *g, int input) {
    const onnx_value *v = operand(g, input);
    if (!v || !v->known || is_real(v->known)) return v ? onnx_plain(g, input) : none;
    for (int64_t i = 0; v->known->value && i < v->known->elements; i++)
        if ((double)(float)v->known->value[i] != v->known->value[i]) return onnx_cannot(g, "an integer beyond f32");
    return v->known->value ? fed(g, v->known, FV_F32, NULL) : onnx_cannot(g, "no numbers");
}

fv_value onnx_wrapped(onnx_graph *g, int input, int64_t size) {
    const onnx_value *v = operand(g, input);
    if (!v) return none;
    if (!v->known) {
        if (v->plain.id && g->tape->value[v->plain.id].type == FV_I32) return v->plain;
        return onnx_cannot(g, "a computed index");
    }
    if (!v->known->value) return onnx_cannot(g, "an index of type %d", v->known->type);
    const fv_value fresh = fed(g, v->known, FV_I32, NULL);
    double *data = fresh.id ? g->feed[g->feed_count - 1].data : NULL;
    for (int64_t i = 0; data && i < v->known->elements; i++)
        if (data[i] < 0) data[i] += (double)size;
    return fresh;
}

fv_value onnx_last_index(onnx_graph *g, int input, int64_t modulus) {
    const onnx_tensor *t = onnx_known(g, input);
    if (!t || t->rank != 4) return onnx_cannot(g, "an index that is no image");
    const fv_value fresh = fed(g, t, FV_I32, (const int[]){ 0, 2, 3, 1 });
    double *data = fresh.id ? g->feed[g->feed_count - 1].data : NULL;
    for (int64_t i = 0; data && i < t->elements; i++) data[i] = (double)((int64_t)data[i] % modulus);
    return fresh;
}

fv_value onnx_index(onnx_graph *g, int input) { return onnx_wrapped(g, input, 0); }

fv_value onnx_typed(onnx_graph *g, int input) {
    static const struct {
        int onnx;
        fv_type type;
    } types[] = {
        { ONNX_FLOAT, FV_F32 }, { ONNX_FLOAT16, FV_F16 }, { ONNX_BFLOAT16, FV_BF16 },
        { ONNX_UINT8, FV_U8 },  { ONNX_INT32, FV_I32 },   { ONNX_BOOL, FV_U8 },
    };
    const onnx_value *v = operand(g, input);
    if (!v || !v->known) return v ? v->plain : none;
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (v->known->type == types[i].onnx) return fed(g, v->known, types[i].type, NULL);
    return onnx_cannot(g, "a tensor of type %d", v->known->type);
}

/* ---- Results ----------------------------------------------------------------------------------------------------- */

static onnx_value *result(onnx_graph *g, int output) {
    if (output >= g->node->output_count || !g->node->output[output][0]) return NULL; /* nobody wants it */
    return add(g, g->node->output[output]);
}

void onnx_give(onnx_graph *g, int output, fv_value plain) {
    onnx_value *v = result(g, output);
    if (v) v->plain = plain;
}

void onnx_give_last(onnx_graph *g, int output, fv_value last, int rank) {
    onnx_value *v = result(g, output);
    if (v) v->last = last, v->rank = rank;
}

void onnx_give_known(onnx_graph *g, int output, const onnx_tensor *t) {
    onnx_value *v = result(g, output);
    if (v) v->known = t;
}

fv_value onnx_reshaped(onnx_graph *g, fv_value v, int rank, const int64_t *dims) {
    return fv_op_reshape(g->tape, v, dims, rank);
}

fv_value onnx_scaled(onnx_graph *g, fv_value v, double a, double b) {
    const fv_attributes attributes = { .affine = { (float)a, (float)b } };
    return FV_APPLY(g->tape, FV_OP_affine, &attributes, v);
}

/* ---- The graph --------------------------------------------------------------------------------------------------- */

onnx_recorder *onnx_recorder_of(const char *operator) {
    const onnx_operator *const tables[] = { onnx_window_operators, onnx_value_operators, onnx_shape_operators,
                                            onnx_other_operators };
    for (int t = 0; t < 4; t++)
        for (const onnx_operator *o = tables[t]; o->name; o++)
            if (!strcmp(o->name, operator)) return o->record;
    return NULL;
}

int onnx_record(onnx_graph *g, fv_tape *tape, const onnx_model *m, onnx_tensor *const *given, int count) {
    *g = (onnx_graph){ .tape = tape, .model = m };
    for (int i = 0; i < m->initializer_count; i++) {
        onnx_value *v = add(g, m->initializer[i]->name);
        if (v) v->known = m->initializer[i];
    }
    for (int i = 0; i < m->input_count && i < count; i++) {
        onnx_value *v = find(g, m->input[i]);
        if (v || (v = add(g, m->input[i]))) v->known = given[i];
    }
    for (int n = 0; n < m->node_count && !g->why[0]; n++) {
        g->node = &m->node[n];
        onnx_recorder *record = onnx_recorder_of(g->node->operator);
        if (record)
            record(g);
        else
            onnx_cannot(g, "there is no %s", g->node->operator);
        if (tape->object.context->status) break;
    }
    return g->why[0] || tape->object.context->status ? -1 : 0;
}

void onnx_graph_free(onnx_graph *g) {
    for (int i = 0; i < g->feed_count; i++) free(g->feed[i].data);
    g->feed_count = 0;
}

fv_value onnx_graph_output(onnx_graph *g, int output, fv_shape *shape, int64_t **order) {
    *order = NULL;
    onnx_value *v = find(g, g->model->output[output]);
    if (v && v->known && !v->plain.id) v->plain = fed(g, v->known, FV_F32, NULL);
    if (!v || (!v->plain.id && !v->last.id)) return onnx_cannot(g, "output %d was not made", output);
    if (v->plain.id) return *shape = *onnx_shape(g, v->plain), v->plain;
    const fv_shape last = *onnx_shape(g, v->last);
    const int64_t n = last.dim[0], h = last.dim[1], w = last.dim[2], c = last.dim[3];
    *shape = v->rank == 4   ? (fv_shape){ 4, { n, c, h, w } }
             : v->rank == 3 ? (fv_shape){ 3, { n, c, w } }
                            : (fv_shape){ 2, { n, c } };
    if (!(*order = calloc((size_t)(n * h * w * c), sizeof **order))) return onnx_cannot(g, "memory");
    for (int64_t i = 0; i < n * h * w * c; i++) {
        const int64_t pixel = i % (h * w), channel = i / (h * w) % c, sample = i / (h * w * c);
        (*order)[i] = (sample * h * w + pixel) * c + channel;
    }
    return v->last;
}
