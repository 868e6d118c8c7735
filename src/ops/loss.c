/* loss.c - losses over classes, and metrics: one value a row, so that means, weights and masks stay ordinary operations.
 * Rows are all axes but the last: samples, or the pixels of images. Targets are class numbers, i32, or rows of numbers,
 * f32; they count as data and get no gradient. */
#include "ops/family.h"
#include <math.h>

/* The scores' shape without the classes. */
static fv_shape rows_of(const fv_signature *s) {
    fv_shape rows = *s->input[0];
    rows.dim[--rows.rank] = 0;
    return rows;
}

static int check_class_weights(fv_signature *s, int32_t input, int64_t classes) {
    if (s->input_count <= input || !s->input[input]) return FV_OK;
    const fv_shape wanted = { 1, { classes } };
    FV_TRY(fv_check_type(s, input, "class weights", FV_F32));
    return fv_check_shape(s, input, "class weights", &wanted, "a weight for each class");
}

static int check_settings(fv_signature *s) {
    fv_loss_attributes *a = &s->attributes->loss;
    FV_TRY(fv_check_range(s, "label smoothing", a->smoothing, 0, 1));
    FV_TRY(fv_check_range(s, "gamma", a->gamma, 0, INFINITY));
    a->ignore = a->ignore != 0;
    a->squared = a->squared != 0;
    if (!a->ignore) a->label = 0;
    if (a->ignore && s->input_type[1] != FV_I32)
        return fv_op_fail(s, FV_ERROR_ARGUMENT, "a label can be ignored only where targets are class numbers i32, not %s",
                          fv_type_name(s->input_type[1]));
    return FV_OK;
}

/* The gradient comes as input 2, before the class weights. */
static bool has_row_gradient(fv_op op) {
    return op == FV_OP_softmax_cross_entropy_gradient || op == FV_OP_softmax_cross_entropy_train ||
           op == FV_OP_cross_entropy_gradient || op == FV_OP_multi_margin_gradient;
}

/* Input 2 is the gradient of each row's loss. */
static int check_row_gradient(fv_signature *s) {
    const fv_shape rows = rows_of(s);
    FV_TRY(fv_check_type(s, 2, "loss's gradient", FV_F32));
    return fv_check_shape(s, 2, "loss's gradient", &rows, "the loss");
}

static int infer_rows(fv_signature *s) {
    const bool logits = s->op == FV_OP_softmax_cross_entropy || s->op == FV_OP_softmax_cross_entropy_train;
    FV_TRY(fv_check_scores_and_target(s, logits ? "logits" : "probabilities"));
    FV_TRY(check_settings(s));
    FV_TRY(check_class_weights(s, has_row_gradient(s->op) ? 3 : 2, fv_last(s->input[0])));
    const fv_shape rows = rows_of(s);
    return fv_set_output_like(s, 0, FV_F32, &rows);
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

static int infer_target_scale(fv_signature *s) {
    fv_loss_attributes *a = &s->attributes->loss;
    *a = (fv_loss_attributes){ .ignore = a->ignore != 0, .label = a->ignore ? a->label : 0 };
    FV_TRY(fv_check_type(s, 0, "target", FV_I32));
    if (s->input_count > 1 && s->input[1]) {
        FV_TRY(fv_check_type(s, 1, "class weights", FV_F32));
        FV_TRY(fv_check_rank(s, 1, "class weights", 1, "[classes]"));
    }
    return fv_set_output(s, 0, FV_F32, 0, NULL);
}

static int infer_multi_margin(fv_signature *s) {
    fv_loss_attributes *a = &s->attributes->loss;
    if (a->margin == 0) a->margin = 1;
    FV_TRY(fv_check_type(s, 1, "target", FV_I32));
    FV_TRY(fv_check_range(s, "margin", a->margin, 0, INFINITY));
    return infer_rows(s);
}

static int infer_multi_margin_gradient(fv_signature *s) {
    FV_TRY(infer_multi_margin(s));
    FV_TRY(check_row_gradient(s));
    return fv_set_output_like(s, 0, FV_F32, s->input[0]);
}

static int infer_cosine(fv_signature *s) {
    FV_TRY(fv_check_f32(s, FV_NAMES("prediction", "target")));
    FV_TRY(fv_check_rank_least(s, 0, "prediction", 2));
    FV_TRY(fv_check_shape(s, 1, "target", s->input[0], "the prediction"));
    const fv_shape rows = rows_of(s);
    return fv_set_output_like(s, 0, FV_F32, &rows);
}

static int infer_cosine_gradient(fv_signature *s) {
    FV_TRY(infer_cosine(s));
    FV_TRY(check_row_gradient(s));
    return fv_set_output_like(s, 0, FV_F32, s->input[0]);
}

static int infer_in_top_k(fv_signature *s) {
    fv_top_k_attributes *a = &s->attributes->top_k;
    FV_TRY(fv_check_scores_and_target(s, "scores"));
    if (!a->k) a->k = 1;
    FV_TRY(fv_check_range(s, "k", a->k, 1, INFINITY));
    if (a->k > fv_last(s->input[0])) a->k = (int32_t)fv_last(s->input[0]);
    a->ignore = a->ignore != 0;
    if (!a->ignore) a->label = 0;
    const fv_shape rows = rows_of(s);
    return fv_set_output_like(s, 0, FV_F32, &rows);
}

static int infer_metric_add(fv_signature *s) {
    const fv_shape pair = { 1, { 2 } };
    FV_TRY(fv_check_f32(s, FV_NAMES("metric", "values")));
    FV_TRY(fv_check_shape(s, 0, "metric", &pair, "a sum with its compensation"));
    return fv_set_output_like(s, 0, FV_F32, &pair);
}

/* The gradient of a loss is the next operation of the list; class weights, where there are any, follow dloss. */
_Static_assert((int)FV_OP_softmax_cross_entropy_gradient == (int)FV_OP_softmax_cross_entropy + 1 &&
                   (int)FV_OP_cross_entropy_gradient == (int)FV_OP_cross_entropy + 1 &&
                   (int)FV_OP_multi_margin_gradient == (int)FV_OP_multi_margin + 1 &&
                   (int)FV_OP_cosine_similarity_gradient == (int)FV_OP_cosine_similarity + 1,
               "the gradient follows its loss");

FV_GRADIENT(row_loss_gradient) {
    if (!wanted[0]) return FV_OK;
    const fv_attributes a = fv_attributes_of(tape, operation);
    const bool weighted = tape->operation[operation].input_count > 2;
    const fv_value input[4] = { fv_tape_input(tape, operation, 0), fv_tape_input(tape, operation, 1), output_gradient[0],
                                weighted ? fv_tape_input(tape, operation, 2) : (fv_value){ 0 } };
    input_gradient[0] = fv_tape_apply(tape, (fv_op)(tape->operation[operation].op + 1), &a, input, 3 + weighted);
    return fv_tape_status(tape);
}

FV_EXPAND(expand_train) {
    const fv_value weights = input_count > 3 ? input[3] : (fv_value){ 0 };
    const fv_value forward[3] = { input[0], input[1], weights };
    output[0] = fv_tape_apply(tape, FV_OP_softmax_cross_entropy, attributes, forward, input_count - 1);
    output[1] = fv_tape_apply(tape, FV_OP_softmax_cross_entropy_gradient, attributes, input, input_count);
    return fv_tape_status(tape);
}

/* Maximum, exponential, sum, and the like: a few operations for each score. */
static void cost_rows(const fv_signature *s, fv_cost *cost) {
    *cost = (fv_cost){ .flops = 5 * fv_cost_elements(s->input[0]), .bytes = fv_cost_bytes(s) };
}

FV_DESC(softmax_cross_entropy, loss, .infer = infer_rows, .gradient = row_loss_gradient, .cost = cost_rows,
        .optional = 1 << 2);
FV_DESC(softmax_cross_entropy_gradient, loss, .infer = infer_rows_gradient, .cost = cost_rows, .optional = 1 << 3);
FV_DESC(softmax_cross_entropy_train, loss, .infer = infer_train, .expand = expand_train, .cost = cost_rows,
        .optional = 1 << 3);
FV_DESC(cross_entropy, loss, .infer = infer_rows, .gradient = row_loss_gradient, .cost = cost_rows, .optional = 1 << 2);
FV_DESC(cross_entropy_gradient, loss, .infer = infer_rows_gradient, .cost = cost_rows, .optional = 1 << 3);
FV_DESC(target_scale, loss, .infer = infer_target_scale, .optional = 1 << 1);
FV_DESC(multi_margin, loss, .infer = infer_multi_margin, .gradient = row_loss_gradient, .cost = cost_rows,
        .optional = 1 << 2);
FV_DESC(multi_margin_gradient, loss, .infer = infer_multi_margin_gradient, .cost = cost_rows, .optional = 1 << 3);
FV_DESC(cosine_similarity, none, .infer = infer_cosine, .gradient = row_loss_gradient, .cost = cost_rows);
FV_DESC(cosine_similarity_gradient, none, .infer = infer_cosine_gradient, .cost = cost_rows);
FV_DESC(in_top_k, top_k, .infer = infer_in_top_k, .cost = cost_rows);
FV_DESC(metric_add, none, .infer = infer_metric_add, .writes = { 1 });
