/* step.c - what fovea bench and fovea tune compile: the step that fv_fit would for one batch, or inference, on samples drawn once and
 * left on the device. */
#include "tool/tool.h"
#include <stdlib.h>
#include <string.h>

tool_subject tool_subject_of(struct argp_state *state, char *text) {
    char *colon = strrchr(text, ':');
    tool_subject s = { text, 128 };
    if (!colon) return s;
    s.batch = (int)tool_whole(state, "batch of a model", colon + 1);
    *colon = 0;
    return s;
}

/* ---- Samples ----------------------------------------------------------------------------------------------------- */

static float draw(uint32_t *state) { /* 0 .. 1, the same on every machine */
    *state = *state * 1664525u + 1013904223u;
    return (float)(*state >> 8) * 0x1p-24f;
}

/* Fills an input with numbers of 0 .. 1, or with labels below `classes`. */
static int fill(fv_program *p, fv_value v, int64_t elements, int classes, uint32_t *state) {
    float *value = malloc((size_t)elements * sizeof *value);
    if (!value) return FV_ERROR_MEMORY;
    for (int64_t i = 0; i < elements; i++) {
        value[i] = draw(state);
        if (classes) ((int32_t *)value)[i] = (int32_t)(value[i] * (float)classes);
    }
    int status = fv_write(p, v, value, (size_t)elements * sizeof *value);
    free(value);
    return status;
}

/* ---- A step ------------------------------------------------------------------------------------------------------ */

/* The net's shapes with the batch in front; elements. */
static int64_t batch_shape(const fv_net *net, fv_node node, int batch, int64_t dims[FV_RANK], int *rank) {
    int64_t elements = batch;
    *rank = fv_node_shape(net, node, dims);
    dims[0] = batch;
    for (int i = 1; i < *rank; i++) elements *= dims[i];
    return *rank > 0 ? elements : 0;
}

/* One input and scores as output, as all nets of the catalogue have. Training: cross-entropy, SGD with momentum; so small
 * a rate that random labels do not make the weights diverge. */
int tool_step_make(fv_context *ctx, fv_net *net, int batch, bool train, tool_step *s) {
    int64_t in[FV_RANK], out[FV_RANK], rows = batch;
    int in_rank, out_rank;
    uint32_t seed = 1;
    int64_t inputs = batch_shape(net, fv_net_input(net, 0), batch, in, &in_rank);
    int64_t outputs = batch_shape(net, fv_net_output(net, 0), batch, out, &out_rank);
    s->tape = fv_tape_new(ctx);
    fv_value x = fv_op_input(s->tape, in, in_rank, FV_F32), labels = { 0 };
    fv_value y = fv_record(s->tape, net, FV_VALUES(x), train ? FV_MODE_TRAIN : FV_MODE_INFER);
    s->last = y;
    s->result_bytes = (size_t)outputs * sizeof(float);
    if (train) {
        labels = fv_op_input(s->tape, &rows, 1, FV_I32);
        s->last = fv_op_mean(s->tape, fv_op_softmax_cross_entropy(s->tape, y, labels, 0));
        s->result_bytes = sizeof(float);
        fv_backward(s->tape, s->last);
        fv_op_update(s->tape, net, fv_sgd(.learning_rate = 1e-4f, .momentum = 0.9f));
    }
    fv_keep(s->tape, s->last);
    s->program = fv_compile(s->tape);
    s->result = malloc(s->result_bytes + 1);
    if (!s->program || !s->result) return fv_error(ctx) ? fv_error_status(ctx) : FV_ERROR_MEMORY;
    int status = fill(s->program, x, inputs, 0, &seed);
    return !status && train ? fill(s->program, labels, rows, (int)out[out_rank - 1], &seed) : status;
}

void tool_step_free(tool_step *s) {
    fv_program_free(s->program);
    fv_tape_free(s->tape);
    free(s->result);
}
