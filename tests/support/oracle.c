/* oracle.c - operations in double precision: the kernels of reference64, called one after another. A tape is run
 * without a program, so that this judge shares nothing with fusion and planning. */
#include "support/operations.h"
#include <stdlib.h>
#include <string.h>

/* ---- Tapes ------------------------------------------------------------------------------------------------------- */

/* Outside a store a value is an array of doubles of its own. */
double **tape_values(const fv_tape *t) {
    double **value = calloc((size_t)t->value_count, sizeof *value);
    for (int32_t v = 1; v < t->value_count; v++) {
        const fv_tape_value *tv = &t->value[v];
        const int64_t elements = fv_shape_elements(&tv->shape);
        value[v] = calloc((size_t)elements + 1, sizeof **value);
        if (tv->kind != FV_VALUE_CONSTANT) continue;
        const unsigned char *bytes = t->bytes + tv->constant;
        for (int64_t i = 0; i < elements; i++) {
            float real;
            int32_t integer;
            memcpy(&real, bytes + 4 * i * (tv->type == FV_F32), 4);
            memcpy(&integer, bytes + 4 * i * (tv->type == FV_I32), 4);
            value[v][i] = tv->type == FV_F32 ? real : tv->type == FV_I32 ? integer : bytes[i];
        }
    }
    return value;
}

void free_tape_values(const fv_tape *t, double **value) {
    if (!value) return;
    for (int32_t v = 0; v < t->value_count; v++) free(value[v]);
    free(value);
}

/* Doubles as reference64 holds this type, and back. */
static void *pack(fv_type type, const double *value, int64_t elements) {
    unsigned char *bytes = calloc((size_t)elements + 1, 8);
    for (int64_t i = 0; i < elements; i++) {
        if (type == FV_F32) ((double *)bytes)[i] = value[i];
        else if (type == FV_I32) ((int32_t *)bytes)[i] = (int32_t)value[i];
        else if (type == FV_U8) bytes[i] = (uint8_t)value[i];
    }
    return bytes;
}

static void unpack(fv_type type, const void *bytes, int64_t elements, double *value) {
    for (int64_t i = 0; i < elements; i++)
        value[i] = type == FV_F32 ? ((const double *)bytes)[i]
                 : type == FV_I32 ? ((const int32_t *)bytes)[i] : ((const uint8_t *)bytes)[i];
}

static fv_tensor tensor_of(const fv_tape *t, int32_t v, double *const *value) {
    const fv_tape_value *tv = &t->value[v];
    fv_tensor tensor = { .type = tv->type };
    if (v == 0 || tv->kind == FV_VALUE_NONE) return tensor;
    tensor.rank = tv->shape.rank;
    memcpy(tensor.dim, tv->shape.dim, sizeof tensor.dim);
    tensor.data = pack(tv->type, value[v], fv_shape_elements(&tv->shape));
    return tensor;
}

static int run_operation(fv_context *c, const fv_tape *t, const fv_operation *o, double **value, char *why) {
    fv_tensor *input = calloc((size_t)o->input_count + 1, sizeof *input);
    fv_tensor *output = calloc((size_t)o->output_count + 1, sizeof *output);
    for (int i = 0; i < o->input_count; i++) input[i] = tensor_of(t, t->operand[o->input + i], value);
    for (int i = 0; i < o->output_count; i++) output[i] = tensor_of(t, o->output + i, value);

    fv_task task = { .op = o->op, .input_count = o->input_count, .output_count = o->output_count,
                     .attributes = &o->attributes, .input = input, .output = output };
    const fv_kernel *kernel = &c->backend->kernels[o->op];
    int status = 0;
    if (fv_op_table[o->op]->flags & FV_ALIAS) {
        memcpy(output[0].data, input[0].data, (size_t)fv_elements(&output[0]) * 8);
    } else if (!kernel->run || kernel->run(c->device, &task)) {
        snprintf(why, 1200, "%s cannot run %s", c->backend->name, fv_op_name(o->op));
        status = -1;
    }
    for (int i = 0; i < o->output_count; i++) {
        if (output[i].data) unpack(output[i].type, output[i].data, fv_elements(&output[i]), value[o->output + i]);
        free(output[i].data);
    }
    for (int i = 0; i < o->input_count; i++) free(input[i].data);
    free(input);
    free(output);
    return status;
}

int run_tape(fv_context *c, const fv_tape *t, int32_t first, int32_t last, double **value, char *why) {
    for (int32_t i = first; i < last; i++)
        if (run_operation(c, t, &t->operation[i], value, why)) return -1;
    return 0;
}

/* ---- Fused operations by what they stand for --------------------------------------------------------------------- */

static int run_expansion(fv_context *c, const problem *p, double **result, char *why) {
    fv_value input[MOST_OPERANDS] = { { 0 } }, output[MOST_OUTPUTS] = { { 0 } };
    fv_tape *t = fv_tape_new(c);
    for (int i = 0; i < p->input_count; i++) {
        const operand *o = &p->input[i];
        if (!o->absent) input[i] = fv_op_input(t, o->shape.dim, o->shape.rank, o->type);
    }
    int status = fv_op_table[p->op]->expand(t, &p->attributes, input, p->input_count, output);
    if (status || !fv_ok(c)) {
        snprintf(why, 1200, "expanding %s: %s", fv_op_name(p->op), fv_error(c) ? fv_error(c) : "failed");
        fv_clear_error(c);
        fv_tape_free(t);
        return -1;
    }
    double **value = tape_values(t);
    for (int i = 0; i < p->input_count; i++)
        if (!p->input[i].absent)
            memcpy(value[input[i].id], p->input[i].value,
                   (size_t)fv_shape_elements(&p->input[i].shape) * sizeof(double));
    status = run_tape(c, t, 0, t->operation_count, value, why);
    for (int o = 0; o < p->output_count && !status; o++) {
        if (p->output[o].absent) continue;
        result[o] = value[output[o].id];
        value[output[o].id] = NULL;
    }
    free_tape_values(t, value);
    fv_tape_free(t);
    return status;
}

int run_oracle(fv_context *c, const problem *p, double **result, char *why) {
    if (fv_op_table[p->op]->flags & FV_FUSED) return run_expansion(c, p, result, why);
    return run_problem_once(c, p, result, why) == RAN ? 0 : -1;
}
