/* onnx_others.c - ONNX's operators that go by numbers, normalise within a sample, or lose, in Fovea's operations. */
#include "support/onnx.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* x with this axis last, or a last axis put back there. */
static fv_value moved(onnx_graph *g, fv_value x, int axis, bool back) {
    int axes[FV_RANK];
    if (!x.id) return x;
    const int rank = onnx_shape(g, x)->rank;
    for (int i = 0; i < rank; i++)
        axes[i] = back ? (i < axis ? i : i == axis ? rank - 1 : i - 1) : (i < axis ? i : i + 1 < rank ? i + 1 : axis);
    return onnx_transpose(g, x, axes);
}

/* ---- Numbers ----------------------------------------------------------------------------------------------------- */

static void gather(onnx_graph *g) {
    const fv_value x = onnx_plain(g, 0);
    if (!x.id) return;
    const fv_attributes a = { .gather = { .axis = onnx_axis(g, "axis", 0, onnx_shape(g, x)->rank) } };
    const fv_value numbers = onnx_wrapped(g, 1, onnx_shape(g, x)->dim[a.gather.axis]);
    if (numbers.id) onnx_give(g, 0, FV_APPLY(g->tape, FV_OP_gather, &a, x, numbers));
}

/* Other numbers for each line along the axis. */
static void gather_elements(onnx_graph *g) {
    const int axis = onnx_axis(g, "axis", 0, onnx_rank(g, 0));
    const fv_value x = moved(g, onnx_plain(g, 0), axis, false);
    if (!x.id) return;
    const int last = onnx_shape(g, x)->rank - 1;
    const fv_value numbers = moved(g, onnx_wrapped(g, 1, onnx_shape(g, x)->dim[last]), axis, false);
    const fv_attributes a = { .gather = { .axis = last, .batch = last } };
    if (numbers.id) onnx_give(g, 0, moved(g, FV_APPLY(g->tape, FV_OP_gather, &a, x, numbers), axis, true));
}

static void one_hot(onnx_graph *g) {
    const onnx_tensor *depth = onnx_known(g, 1), *values = onnx_known(g, 2);
    if (!depth || !values) return;
    const fv_attributes a = { .gather = { .size = (int64_t)depth->value[0] } };
    const fv_value numbers = onnx_wrapped(g, 0, a.gather.size);
    if (!numbers.id) return;
    const int rank = onnx_shape(g, numbers)->rank + 1;
    const fv_value y = FV_APPLY(g->tape, FV_OP_one_hot, &a, numbers);
    const fv_value between = onnx_scaled(g, y, values->value[1] - values->value[0], values->value[0]);
    onnx_give(g, 0, moved(g, between, onnx_axis(g, "axis", -1, rank), true));
}

static void hardmax(onnx_graph *g) {
    const fv_value x = onnx_plain(g, 0);
    if (!x.id) return;
    const fv_shape s = *onnx_shape(g, x);
    const int axis = onnx_axis(g, "axis", -1, s.rank);
    const fv_attributes along = { .reduce = { .axes = 1u << axis } }, hot = { .gather = { .size = s.dim[axis] } };
    const fv_value best = FV_APPLY(g->tape, FV_OP_argmax, &along, x);
    onnx_give(g, 0, moved(g, FV_APPLY(g->tape, FV_OP_one_hot, &hot, best), axis, true));
}

/* The smallest are the largest of -x. */
static void top_k(onnx_graph *g) {
    const int axis = onnx_axis(g, "axis", -1, onnx_rank(g, 0));
    const bool largest = onnx_integer(g, "largest", 1);
    const onnx_tensor *k = onnx_known(g, 1);
    const fv_value given = onnx_number(g, 0), x = moved(g, given, axis, false);
    if (!x.id || !k) return;
    const fv_attributes a = { .top_k = { (int32_t)k->value[0] } };
    const fv_value operand = largest ? x : onnx_scaled(g, x, -1, 0);
    const int32_t made = fv_tape_append(g->tape, FV_OP_top_k, &a, &operand, 1);
    if (made < 0) return;
    const fv_value best = fv_tape_output(g->tape, made, 0);
    onnx_give(g, 0, moved(g, largest ? best : onnx_scaled(g, best, -1, 0), axis, true));
    onnx_give(g, 1, moved(g, fv_tape_output(g->tape, made, 1), axis, true));
}

/* ---- Blocks of pixels -------------------------------------------------------------------------------------------- */

static void depth_to_space(onnx_graph *g) {
    const fv_value x = onnx_plain(g, 0);
    const int64_t b = onnx_integer(g, "blocksize", 1);
    if (!x.id) return;
    const fv_shape s = *onnx_shape(g, x);
    const int64_t n = s.dim[0], c = s.dim[1] / (b * b), h = s.dim[2], w = s.dim[3];
    const bool columns = !strcmp(onnx_text(g, "mode", "DCR"), "CRD");
    const fv_value cut =
        onnx_reshaped(g, x, 6, columns ? (const int64_t[]){ n, c, b, b, h, w } : (const int64_t[]){ n, b, b, c, h, w });
    const fv_value y =
        onnx_transpose(g, cut, columns ? (const int[]){ 0, 1, 4, 2, 5, 3 } : (const int[]){ 0, 3, 4, 1, 5, 2 });
    onnx_give(g, 0, onnx_reshaped(g, y, 4, (const int64_t[]){ n, c, h * b, w * b }));
}

static void space_to_depth(onnx_graph *g) {
    const fv_value x = onnx_plain(g, 0);
    const int64_t b = onnx_integer(g, "blocksize", 1);
    if (!x.id) return;
    const fv_shape s = *onnx_shape(g, x);
    const int64_t n = s.dim[0], c = s.dim[1], h = s.dim[2] / b, w = s.dim[3] / b;
    const fv_value cut = onnx_reshaped(g, x, 6, (const int64_t[]){ n, c, h, b, w, b });
    const fv_value y = onnx_transpose(g, cut, (const int[]){ 0, 3, 5, 1, 2, 4 });
    onnx_give(g, 0, onnx_reshaped(g, y, 4, (const int64_t[]){ n, c * b * b, h, w }));
}

/* ---- Normalisation within a sample ------------------------------------------------------------------------------- */

/* The last axes from `axis` on; ONNX's statistics keep them as ones. */
static void normalized(onnx_graph *g, fv_op op, int inputs) {
    fv_value input[3] = { onnx_plain(g, 0) };
    fv_shape s;
    if (!input[0].id) return;
    s = *onnx_shape(g, input[0]);
    const int axis = onnx_axis(g, "axis", -1, s.rank);
    const fv_attributes a = { .sample_norm = { (float)onnx_real(g, "epsilon", 1e-5), s.rank - axis, 0 } };
    for (int i = 1; i < inputs; i++)
        if (onnx_has(g, i) && !(input[i] = onnx_plain(g, i)).id) return;
    const int32_t made = fv_tape_append(g->tape, op, &a, input, inputs);
    if (made < 0) return;
    for (int i = axis; i < s.rank; i++) s.dim[i] = 1;
    onnx_give(g, 0, fv_tape_output(g->tape, made, 0));
    for (int o = 1; o < g->node->output_count; o++)
        onnx_give(g, o, onnx_reshaped(g, fv_tape_output(g->tape, made, o), s.rank, s.dim));
}

static void layer_normalization(onnx_graph *g) { normalized(g, FV_OP_layer_norm, 3); }
static void rms_normalization(onnx_graph *g) { normalized(g, FV_OP_rms_norm, 2); }

static void grouped(onnx_graph *g, int64_t groups) {
    const fv_value x = onnx_last(g, 0), gamma = onnx_plain(g, 1), beta = onnx_plain(g, 2);
    if (!x.id || !gamma.id || !beta.id) return;
    if (!groups) groups = onnx_shape(g, x)->dim[3];
    const fv_attributes a = { .sample_norm = { (float)onnx_real(g, "epsilon", 1e-5), 0, (int32_t)groups } };
    onnx_give_last(g, 0, FV_APPLY(g->tape, FV_OP_group_norm, &a, x, gamma, beta), onnx_rank(g, 0));
}

static void group_normalization(onnx_graph *g) { grouped(g, onnx_integer(g, "num_groups", 1)); }
static void instance_normalization(onnx_graph *g) { grouped(g, 0); }

static void lp_normalization(onnx_graph *g) {
    const fv_value x = onnx_plain(g, 0);
    if (!x.id) return;
    const int axis = onnx_axis(g, "axis", -1, onnx_shape(g, x)->rank);
    if (onnx_integer(g, "p", 2) == 2) {
        const fv_attributes a = { .sample_norm = { .epsilon = 1e-30f, .axes = 1 } }; /* 0 / 0 is 0 */
        onnx_give(g, 0, moved(g, FV_APPLY(g->tape, FV_OP_unit_norm, &a, moved(g, x, axis, false)), axis, true));
        return;
    }
    const fv_value size = fv_op_sum(g->tape, FV_APPLY(g->tape, FV_OP_abs, NULL, x), &axis, 1, true);
    onnx_give(g, 0, fv_op_div(g->tape, x, size));
}

/* ---- Losses ------------------------------------------------------------------------------------------------------ */

/* A weight a class: those given or ones, and none for the class that is ignored. */
static fv_value class_weights(onnx_graph *g, int input, int64_t classes) {
    const onnx_tensor *given = onnx_has(g, input) ? onnx_known(g, input) : NULL;
    const onnx_attribute *ignored = onnx_attribute_of(g, "ignore_index");
    float *weight = calloc((size_t)classes, sizeof *weight);
    for (int64_t i = 0; weight && i < classes; i++)
        weight[i] = ignored && ignored->integer == i ? 0 : given ? (float)given->value[i] : 1;
    const fv_value v = weight ? fv_op_constant(g->tape, &classes, 1, weight) : (fv_value){ 0 };
    free(weight);
    return v;
}

/* Minus the score of the target's class, weighted; scores [n, classes, ..]. What is no class weighs nothing. */
static void pick(onnx_graph *g, fv_value scores) {
    const fv_value last = moved(g, scores, 1, false), target = onnx_index(g, 1);
    if (!last.id || !target.id) return;
    const fv_shape s = *onnx_shape(g, last);
    const int axis = s.rank - 1;
    const char *reduction = onnx_text(g, "reduction", "mean");
    const fv_attributes hot = { .gather = { .size = s.dim[axis] } };
    const fv_value where = FV_APPLY(g->tape, FV_OP_one_hot, &hot, target), weights = class_weights(g, 2, s.dim[axis]);
    const fv_value mass = fv_op_mul(g->tape, where, weights);
    fv_value loss = onnx_scaled(g, fv_op_sum(g->tape, fv_op_mul(g->tape, mass, last), &axis, 1, false), -1, 0);
    if (strcmp(reduction, "none")) loss = fv_op_sum(g->tape, loss, NULL, 0, false);
    if (!strcmp(reduction, "mean")) loss = fv_op_div(g->tape, loss, fv_op_sum(g->tape, mass, NULL, 0, false));
    onnx_give(g, 0, loss);
}

static void negative_log_likelihood(onnx_graph *g) { pick(g, onnx_plain(g, 0)); }

/* Fovea's loss on scores with the classes last; a mean divides by the weights of the labels that count. */
static void softmax_cross_entropy(onnx_graph *g) {
    const fv_value x = onnx_plain(g, 0), last = moved(g, x, 1, false), target = onnx_index(g, 1);
    const onnx_attribute *ignored = onnx_attribute_of(g, "ignore_index");
    const char *reduction = onnx_text(g, "reduction", "mean");
    fv_attributes a = { .loss = { .ignore = ignored != NULL, .label = ignored ? (int32_t)ignored->integer : 0 } };
    const fv_value weights = onnx_has(g, 2) ? onnx_plain(g, 2) : (fv_value){ 0 };
    if (!last.id || !target.id) return;
    fv_value loss = FV_APPLY(g->tape, FV_OP_softmax_cross_entropy, &a, last, target, weights);
    if (strcmp(reduction, "none")) loss = fv_op_sum(g->tape, loss, NULL, 0, false);
    if (!strcmp(reduction, "mean"))
        loss = fv_op_mul(g->tape, loss, FV_APPLY(g->tape, FV_OP_target_scale, &a, target, weights));
    onnx_give(g, 0, loss);
    onnx_give(g, 1, fv_op_log_softmax(g->tape, x, 1));
}

const onnx_operator onnx_other_operators[] = {
    { "DepthToSpace", depth_to_space },
    { "Gather", gather },
    { "GatherElements", gather_elements },
    { "GroupNormalization", group_normalization },
    { "Hardmax", hardmax },
    { "InstanceNormalization", instance_normalization },
    { "LayerNormalization", layer_normalization },
    { "LpNormalization", lp_normalization },
    { "NegativeLogLikelihoodLoss", negative_log_likelihood },
    { "OneHot", one_hot },
    { "RMSNormalization", rms_normalization },
    { "SoftmaxCrossEntropyLoss", softmax_cross_entropy },
    { "SpaceToDepth", space_to_depth },
    { "TopK", top_k },
    { NULL, NULL },
};
