/* loss.c - losses over classes, and metrics: one value a row, so that means, weights and masks stay ordinary operations.
 * Targets are class numbers, i32 [rows], or rows of numbers, f32 [rows, classes]; they count as data and get no
 * gradient. */
#include "ops/family.h"
#include <math.h>

static int infer_rows(fv_signature *s) {
    const bool logits = s->op == FV_OP_softmax_cross_entropy || s->op == FV_OP_softmax_cross_entropy_train;
    FV_TRY(fv_check_scores_and_target(s, logits ? "logits" : "probabilities"));
    FV_TRY(fv_check_range(s, "label smoothing", s->attributes->loss.smoothing, 0, 1));
    return fv_set_output(s, 0, FV_F32, 1, s->input[0]->dim);
}

/* Input 2 is the gradient of each row's loss. */
static int check_row_gradient(fv_signature *s) {
    const fv_shape rows = { 1, { s->input[0]->dim[0] } };
    FV_TRY(fv_check_type(s, 2, "loss's gradient", FV_F32));
    return fv_check_shape(s, 2, "loss's gradient", &rows, "the loss");
}

static int infer_rows_gradient(fv_signature *s) {
    FV_TRY(infer_rows(s));
    FV_TRY(check_row_gradient(s));
    return fv_set_output_like(s, 0, FV_F32, s->input[0]);
}

static int infer_train(fv_signature *s) {
    FV_TRY(infer_rows(s));
    FV_TRY(check_row_gradient(s));
    return fv_set_output_like(s, 1, FV_F32, s->input[0]);
}

static int infer_in_top_k(fv_signature *s) {
    int32_t *k = &s->attributes->top_k.k;
    FV_TRY(fv_check_scores_and_target(s, "scores"));
    if (!*k) *k = 1;
    FV_TRY(fv_check_range(s, "k", *k, 1, INFINITY));
    if (*k > s->input[0]->dim[1]) *k = (int32_t)s->input[0]->dim[1];
    return fv_set_output(s, 0, FV_F32, 1, s->input[0]->dim);
}

static int infer_metric_add(fv_signature *s) {
    const fv_shape pair = { 1, { 2 } };
    FV_TRY(fv_check_f32(s, FV_NAMES("metric", "values")));
    FV_TRY(fv_check_shape(s, 0, "metric", &pair, "a sum with its compensation"));
    return fv_set_output_like(s, 0, FV_F32, &pair);
}

FV_GRADIENT(cross_entropy_gradient) {
    if (!wanted[0]) return FV_OK;
    const bool logits = tape->operation[operation].op == FV_OP_softmax_cross_entropy;
    const fv_attributes a = fv_attributes_of(tape, operation);
    input_gradient[0] =
        FV_APPLY(tape, logits ? FV_OP_softmax_cross_entropy_gradient : FV_OP_cross_entropy_gradient, &a,
                 fv_tape_input(tape, operation, 0), fv_tape_input(tape, operation, 1), output_gradient[0]);
    return fv_tape_status(tape);
}

FV_EXPAND(expand_train) {
    output[0] = FV_APPLY(tape, FV_OP_softmax_cross_entropy, attributes, input[0], input[1]);
    output[1] = FV_APPLY(tape, FV_OP_softmax_cross_entropy_gradient, attributes, input[0], input[1], input[2]);
    return fv_tape_status(tape);
}

/* Maximum, exponential, sum, and the like: a few operations for each score. */
static void cost_rows(const fv_signature *s, fv_cost *cost) {
    *cost = (fv_cost){ .flops = 5 * fv_cost_elements(s->input[0]), .bytes = fv_cost_bytes(s) };
}

FV_DESC(softmax_cross_entropy, loss, .infer = infer_rows, .gradient = cross_entropy_gradient, .cost = cost_rows);
FV_DESC(softmax_cross_entropy_gradient, loss, .infer = infer_rows_gradient, .cost = cost_rows);
FV_DESC(softmax_cross_entropy_train, loss, .infer = infer_train, .expand = expand_train, .cost = cost_rows);
FV_DESC(cross_entropy, loss, .infer = infer_rows, .gradient = cross_entropy_gradient, .cost = cost_rows);
FV_DESC(cross_entropy_gradient, loss, .infer = infer_rows_gradient, .cost = cost_rows);
FV_DESC(in_top_k, top_k, .infer = infer_in_top_k, .cost = cost_rows);
FV_DESC(metric_add, none, .infer = infer_metric_add, .writes = { 1 });
