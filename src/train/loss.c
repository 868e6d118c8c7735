/* loss.c - from outputs and targets to one scalar: the loss of each output, weighted, and the penalties of the layers.
 * Everything is ordinary operations on the tape, so a loss of the user's own is no different from ours. */
#include "train/train.h"
#include <math.h>
#include <string.h>

/* ---- Shapes ------------------------------------------------------------------------------------------------------ */

static int64_t elements(const fv_tape *tape, fv_value v) {
    return fv_shape_elements(&fv_tape_value_of(tape, v)->shape);
}

static bool has_shape(const fv_shape *shape, int rank, const int64_t *dim) {
    return shape->rank == rank && (!rank || !memcmp(shape->dim, dim, sizeof(int64_t) * (size_t)rank));
}

static fv_value reshape(fv_tape *tape, fv_value v, int rank, const int64_t *dim) {
    const fv_shape *shape = &fv_tape_value_of(tape, v)->shape;
    if (has_shape(shape, rank, dim)) return v;
    return fv_op_reshape(tape, v, dim, rank);
}

/* The loss of one output as it is being recorded. */
typedef struct recording {
    fv_tape *tape;
    const char *name; /* for messages: "lenet5, output f6" */
    fv_loss kind;
    float smoothing;
    fv_loss_options o;
    fv_value output, target;
} recording;

static fv_value fail(const recording *r, const char *what) {
    const fv_tape_value *o = fv_tape_value_of(r->tape, r->output), *t = fv_tape_value_of(r->tape, r->target);
    char text[2][96];
    fv_fail(r->tape->object.context, FV_ERROR_SHAPE, "%s: %s: the output is %s, the target is %s %s", r->name, what,
            fv_shape_text(&o->shape, text[0]), fv_type_name(t->type), fv_shape_text(&t->shape, text[1]));
    return (fv_value){ 0 };
}

static int64_t last_axis(const fv_tape *tape, fv_value v) {
    const fv_shape *shape = &fv_tape_value_of(tape, v)->shape;
    return shape->rank ? shape->dim[shape->rank - 1] : 1;
}

static bool labels(const recording *r) { return fv_tape_value_of(r->tape, r->target)->type == FV_I32; }

/* The target, or the labels from which the mixing of images made it. */
static fv_value labels_behind(const fv_tape *tape, fv_value target) {
    fv_value from = target;
    const fv_op through[] = { FV_OP_mix_targets, FV_OP_cast };
    for (int i = 0; i < 2; i++) {
        const int32_t producer = fv_tape_value_of(tape, from)->producer;
        if (producer >= 0 && tape->operation[producer].op == through[i]) from = fv_tape_input(tape, producer, 0);
        else if (i == 0) return target;
    }
    return fv_tape_value_of(tape, from)->type == FV_I32 ? from : target;
}

/* ---- Kinds ------------------------------------------------------------------------------------------------------- */

/* What each kind is made of. Pointwise ones compare output and target element by element. */
static const struct kind {
    fv_op op, of_probabilities;
    bool pointwise, binary, classes; /* binary: the target says yes or no; classes: one of the last axis */
} kinds[] = {
    [FV_CROSS_ENTROPY] = { FV_OP_softmax_cross_entropy, FV_OP_cross_entropy, .classes = true },
    [FV_MEAN_SQUARED_ERROR] = { FV_OP_mean_squared_error, .pointwise = true },
    [FV_BINARY_CROSS_ENTROPY] = { FV_OP_binary_cross_entropy_logits, FV_OP_binary_cross_entropy, true, true },
    [FV_MEAN_ABSOLUTE_ERROR] = { FV_OP_mean_absolute_error, .pointwise = true },
    [FV_HUBER] = { FV_OP_huber, .pointwise = true },
    [FV_SMOOTH_L1] = { FV_OP_huber, .pointwise = true },
    [FV_LOG_COSH] = { FV_OP_log_cosh, .pointwise = true },
    [FV_HINGE] = { FV_OP_hinge, .pointwise = true, .binary = true },
    [FV_SQUARED_HINGE] = { FV_OP_squared_hinge, .pointwise = true, .binary = true },
    [FV_MULTI_CLASS_HINGE] = { FV_OP_multi_margin, .classes = true },
    [FV_KL_DIVERGENCE] = { FV_OP_kl_divergence, .pointwise = true, .classes = true },
    [FV_COSINE_SIMILARITY] = { FV_OP_cosine_similarity, .pointwise = true },
    [FV_FOCAL] = { FV_OP_softmax_cross_entropy, FV_OP_cross_entropy, .classes = true },
    [FV_BINARY_FOCAL] = { FV_OP_sigmoid_focal, .pointwise = true, .binary = true },
    [FV_POISSON] = { FV_OP_poisson, .pointwise = true },
};
enum { KINDS = sizeof kinds / sizeof *kinds };

/* What a softmax over the last axis, or a sigmoid, was taken of, or id 0. Reshapes that keep the last axis are looked
 * through. */
static fv_value source_of(const fv_tape *tape, fv_value output, bool sigmoid) {
    for (;;) {
        const fv_tape_value *v = fv_tape_value_of(tape, output);
        if (v->producer < 0 || v->kind != FV_VALUE_TEMPORARY) return (fv_value){ 0 };
        const fv_operation *operation = &tape->operation[v->producer];
        fv_value input = fv_tape_input(tape, v->producer, 0);
        const fv_shape *from = &fv_tape_value_of(tape, input)->shape;
        if (sigmoid && operation->op == FV_OP_sigmoid) return input;
        if (!sigmoid && (operation->op == FV_OP_softmax || operation->op == FV_OP_log_softmax))
            return operation->attributes.axis.axis == from->rank - 1 ? input : (fv_value){ 0 };
        if (operation->op != FV_OP_reshape || !from->rank || !v->shape.rank) return (fv_value){ 0 };
        if (from->dim[from->rank - 1] != v->shape.dim[v->shape.rank - 1]) return (fv_value){ 0 };
        output = input;
    }
}

/* The output, or what its softmax or sigmoid was taken of. */
static fv_value logits_of(const fv_tape *tape, fv_value output, bool sigmoid) {
    fv_value source = source_of(tape, output, sigmoid);
    return source.id ? source : output;
}

static fv_loss choose_kind(const recording *r) {
    if (r->kind != FV_LOSS_AUTO) return r->kind;
    const bool one = last_axis(r->tape, r->output) == 1 || fv_tape_value_of(r->tape, r->output)->shape.rank < 2;
    const bool of_labels = fv_tape_value_of(r->tape, labels_behind(r->tape, r->target))->type == FV_I32;
    if (of_labels) return one || source_of(r->tape, r->output, true).id ? FV_BINARY_CROSS_ENTROPY : FV_CROSS_ENTROPY;
    return source_of(r->tape, r->output, false).id ? FV_CROSS_ENTROPY : FV_MEAN_SQUARED_ERROR;
}

/* ---- Classes ----------------------------------------------------------------------------------------------------- */

/* The target in the shape of the scores' rows: images of labels may have an axis of one channel, or be flat. */
static fv_value target_for(const recording *r, fv_value scores) {
    fv_shape shape = fv_tape_value_of(r->tape, scores)->shape;
    if (shape.rank < 2) return fail(r, "a loss over classes needs scores [samples, .., classes]");
    if (labels(r)) shape.rank--;
    if (elements(r->tape, r->target) != fv_shape_elements(&shape))
        return fail(r, "the target fits neither as class numbers nor as numbers of the output's shape");
    return reshape(r->tape, r->target, shape.rank, shape.dim);
}

static fv_value class_weights(const recording *r, int64_t classes) {
    const int64_t count = r->o.class_count;
    if (!r->o.class_weights) return (fv_value){ 0 };
    if (count == classes) return fv_op_constant(r->tape, &count, 1, r->o.class_weights);
    fv_fail(r->tape->object.context, FV_ERROR_SHAPE, "%s: %lld class weights for %lld classes", r->name,
            (long long)count, (long long)classes);
    return (fv_value){ 0 };
}

/* scale: what the sum of the rows is to be multiplied with; id 0: their mean is wanted. */
static fv_value class_rows(const recording *r, fv_value *scale) {
    const bool raw = r->o.from_probabilities && kinds[r->kind].of_probabilities;
    fv_value scores = raw ? r->output : logits_of(r->tape, r->output, false), target = target_for(r, scores);
    if (!target.id) return target;
    fv_value weights = class_weights(r, last_axis(r->tape, scores));
    fv_attributes a;
    memset(&a, 0, sizeof a);
    a.loss = (fv_loss_attributes){ .smoothing = r->smoothing, .ignore = r->o.ignore, .label = r->o.ignore_label,
                                   .margin = fv_option_float(r->o.margin, 1), .squared = r->o.squared };
    if (r->kind == FV_FOCAL) a.loss.gamma = fv_option_float(r->o.gamma, 2);
    if (r->kind == FV_MULTI_CLASS_HINGE) a.loss.smoothing = 0;
    else a.loss.margin = 0, a.loss.squared = 0;
    const fv_value input[3] = { scores, target, weights };
    fv_value rows = fv_tape_apply(r->tape, raw ? kinds[r->kind].of_probabilities : kinds[r->kind].op, &a, input,
                                  weights.id ? 3 : 2);
    /* Margins are weighed, but divided by their number, as in PyTorch. */
    const bool weighed = weights.id && r->kind != FV_MULTI_CLASS_HINGE;
    if (rows.id && labels(r) && (weighed || r->o.ignore)) {
        const fv_value counted[2] = { target, weights };
        *scale = fv_tape_apply(r->tape, FV_OP_target_scale, &a, counted, weighed ? 2 : 1);
    }
    return rows;
}

/* ---- Element by element ------------------------------------------------------------------------------------------ */

static fv_value affine(fv_tape *tape, fv_value v, float a, float b) {
    fv_attributes attributes;
    memset(&attributes, 0, sizeof attributes);
    attributes.affine = (fv_affine_attributes){ a, b };
    return FV_APPLY(tape, FV_OP_affine, &attributes, v);
}

static fv_value scaled(fv_tape *tape, fv_value v, float factor) {
    return factor == 1 || !v.id ? v : affine(tape, v, factor, 0);
}

/* The target as numbers of this value's shape; class numbers say yes or no. */
static fv_value numbers_for(const recording *r, fv_value scores) {
    const fv_shape shape = fv_tape_value_of(r->tape, scores)->shape;
    fv_value target = r->target;
    fv_attributes a;
    memset(&a, 0, sizeof a);
    a.cast.type = FV_F32;
    if (labels(r) && !kinds[r->kind].binary) return fail(r, "this loss needs f32 targets");
    if (elements(r->tape, target) != fv_shape_elements(&shape))
        return fail(r, "output and target differ in their number of elements");
    if (labels(r)) target = FV_APPLY(r->tape, FV_OP_cast, &a, target);
    return target.id ? reshape(r->tape, target, shape.rank, shape.dim) : target;
}

static fv_value pointwise_rows(const recording *r) {
    const bool of_sigmoid = r->kind == FV_BINARY_CROSS_ENTROPY || r->kind == FV_BINARY_FOCAL;
    const bool raw = r->o.from_probabilities && kinds[r->kind].of_probabilities;
    const bool hinge = r->kind == FV_HINGE || r->kind == FV_SQUARED_HINGE;
    fv_value scores = of_sigmoid && !raw ? logits_of(r->tape, r->output, true) : r->output;
    fv_value target = numbers_for(r, scores);
    fv_attributes a;
    memset(&a, 0, sizeof a);
    if (!target.id) return target;
    if (hinge && labels(r)) target = affine(r->tape, target, 2, -1);
    if (of_sigmoid && r->smoothing > 0) target = affine(r->tape, target, 1 - r->smoothing, r->smoothing / 2);
    if (r->kind == FV_COSINE_SIMILARITY) return FV_APPLY(r->tape, kinds[r->kind].op, NULL, scores, target);
    if (r->kind == FV_HUBER || r->kind == FV_SMOOTH_L1) a.pointwise.delta = fv_option_float(r->o.delta, 1);
    if (r->kind == FV_BINARY_CROSS_ENTROPY && !raw) a.pointwise.weight = fv_option_float(r->o.positive_weight, 1);
    if (r->kind == FV_BINARY_FOCAL) {
        a.pointwise.gamma = fv_option_float(r->o.gamma, 2);
        a.pointwise.alpha = fv_option_float(r->o.alpha, 0.25f);
    }
    return FV_APPLY(r->tape, raw ? kinds[r->kind].of_probabilities : kinds[r->kind].op, &a, scores, target);
}

/* ---- One output -------------------------------------------------------------------------------------------------- */

/* Options that a loss does not know are refused, for they would change nothing. */
static int check_options(const recording *r) {
    const struct kind *k = &kinds[r->kind];
    const bool focal = r->kind == FV_FOCAL || r->kind == FV_BINARY_FOCAL;
    const bool huber = r->kind == FV_HUBER || r->kind == FV_SMOOTH_L1, margin = r->kind == FV_MULTI_CLASS_HINGE;
    const struct {
        const char *name;
        bool given, known;
    } option[] = {
        { "delta", r->o.delta != 0, huber },
        { "positive_weight", r->o.positive_weight != 0, r->kind == FV_BINARY_CROSS_ENTROPY && !r->o.from_probabilities },
        { "gamma", r->o.gamma != 0, focal },
        { "alpha", r->o.alpha != 0, focal },
        { "margin", r->o.margin != 0, margin },
        { "squared", r->o.squared, margin },
        { "class_weights", r->o.class_weights, k->classes && !k->pointwise },
        { "ignore", r->o.ignore, k->classes && !k->pointwise },
        { "from_probabilities", r->o.from_probabilities, k->of_probabilities },
    };
    for (size_t i = 0; i < sizeof option / sizeof *option; i++)
        if (option[i].given && !option[i].known)
            return fv_fail(r->tape->object.context, FV_ERROR_ARGUMENT, "%s: this loss has no option %s", r->name,
                           option[i].name);
    return FV_OK;
}

/* Completes the recording and appends the loss: rows, and in *scale what their sum is multiplied with (id 0: mean). */
static fv_value loss_rows(recording *r, const fv_loss_options *given, fv_value *scale) {
    fv_context *context = r->tape->object.context;
    *scale = (fv_value){ 0 };
    memset(&r->o, 0, sizeof r->o);
    if (given && fv_options_read(context, "the options of a loss", &r->o, sizeof r->o, given)) return (fv_value){ 0 };
    if (r->o.label_smoothing != 0) r->smoothing = fv_option_float(r->o.label_smoothing, 0);
    r->kind = choose_kind(r);
    if ((unsigned)r->kind >= KINDS || !kinds[r->kind].op) {
        fv_fail(context, FV_ERROR_ARGUMENT, "%s: loss %d is not known", r->name, r->kind);
        return (fv_value){ 0 };
    }
    if (check_options(r)) return (fv_value){ 0 };
    fv_value rows = kinds[r->kind].pointwise ? pointwise_rows(r) : class_rows(r, scale);
    if (r->kind == FV_SMOOTH_L1) rows = scaled(r->tape, rows, 1 / fv_option_float(r->o.delta, 1));
    if (r->kind == FV_FOCAL && !signbit(r->o.alpha)) rows = scaled(r->tape, rows, fv_option_float(r->o.alpha, 0.25f));
    return rows;
}

static fv_value to_scalar(fv_tape *tape, fv_value v, fv_value scale) {
    if (!v.id) return v;
    if (scale.id) return fv_op_mul(tape, elements(tape, v) == 1 ? reshape(tape, v, 0, NULL) : fv_op_sum(tape, v, NULL, 0, false), scale);
    return elements(tape, v) == 1 ? reshape(tape, v, 0, NULL) : fv_op_mean(tape, v);
}

static fv_value record_public(fv_tape *tape, fv_loss kind, fv_value output, fv_value target, const fv_loss_options *o,
                              bool mean) {
    const fv_value none = { 0 };
    fv_value scale;
    if (!tape || !fv_ok(tape->object.context)) return none;
    if (!fv_value_valid(tape, output) || !fv_value_valid(tape, target)) {
        fv_fail(tape->object.context, FV_ERROR_ARGUMENT, "fv_op_loss: output or target is not a value of the tape");
        return none;
    }
    recording r = { .tape = tape, .name = "fv_op_loss", .kind = kind, .output = output, .target = target };
    fv_value rows = loss_rows(&r, o, &scale);
    return mean ? to_scalar(tape, rows, scale) : rows;
}

fv_value fv_op_loss(fv_tape *tape, fv_loss kind, fv_value output, fv_value target, const fv_loss_options *o) {
    return record_public(tape, kind, output, target, o, true);
}

fv_value fv_op_loss_rows(fv_tape *tape, fv_loss kind, fv_value output, fv_value target, const fv_loss_options *o) {
    return record_public(tape, kind, output, target, o, false);
}

/* ---- Accuracy ---------------------------------------------------------------------------------------------------- */

/* Rows of many positions: the part of them that is right. */
static fv_value part_of_samples(const recording *r, fv_value correct, int64_t samples) {
    const int64_t count = elements(r->tape, correct);
    return count == samples || !samples ? correct
                                        : affine(r->tape, correct, (float)((double)samples / (double)count), 0);
}

static fv_value class_accuracy(const recording *r, int32_t k) {
    fv_value scores = logits_of(r->tape, r->output, false); /* of the same order as the probabilities, and there already */
    const int64_t samples = fv_tape_value_of(r->tape, r->output)->shape.dim[0];
    fv_value target = target_for(r, scores);
    if (!target.id) return target;
    const int64_t classes = last_axis(r->tape, scores);
    fv_attributes a;
    memset(&a, 0, sizeof a);
    a.top_k = (fv_top_k_attributes){ (int32_t)(k < classes ? k : classes), r->o.ignore, r->o.ignore_label };
    fv_value correct = FV_APPLY(r->tape, FV_OP_in_top_k, &a, scores, target);
    if (!correct.id || !r->o.ignore) return correct.id ? part_of_samples(r, correct, samples) : correct;
    memset(&a, 0, sizeof a);
    a.loss = (fv_loss_attributes){ .ignore = true, .label = r->o.ignore_label };
    fv_value scale = FV_APPLY(r->tape, FV_OP_target_scale, &a, target); /* of those that count */
    return scaled(r->tape, to_scalar(r->tape, correct, scale), (float)samples);
}

static fv_value binary_accuracy(const recording *r) {
    fv_value scores = r->o.from_probabilities ? r->output : logits_of(r->tape, r->output, true);
    fv_value target = numbers_for(r, scores);
    fv_attributes a;
    memset(&a, 0, sizeof a);
    a.pointwise.threshold = r->o.from_probabilities ? 0.5f : 0;
    return target.id ? FV_APPLY(r->tape, FV_OP_binary_accuracy, &a, scores, target) : target;
}

/* Settings of output number i. */
static recording record_of(fv_tape *tape, const char *name, const fv_loss_settings *s, int32_t i, fv_value output,
                           fv_value target) {
    return (recording){ .tape = tape, .name = name, .kind = s->losses ? s->losses[i] : s->loss, .smoothing = s->smoothing,
                        .output = output, .target = target };
}

static const fv_loss_options *options_of(const fv_loss_settings *s, int32_t i) {
    if (!s->options || !s->losses) return s->options;
    return (const fv_loss_options *)(const void *)((const char *)s->options + (size_t)i * s->options->struct_size);
}

fv_value fv_correct_record(fv_tape *tape, const fv_loss_settings *s, fv_value output, fv_value target, int32_t k) {
    recording r = record_of(tape, "accuracy", s, 0, output, labels_behind(tape, target)); /* of a mixture: its own class */
    if (s->function && (!labels(&r) || fv_tape_value_of(tape, output)->shape.rank < 2)) return (fv_value){ 0 };
    const fv_loss_options *given = options_of(s, 0);
    if (given && fv_options_read(tape->object.context, "the options of a loss", &r.o, sizeof r.o, given)) return (fv_value){ 0 };
    r.kind = s->function ? FV_CROSS_ENTROPY : choose_kind(&r);
    if (kinds[r.kind].binary) return binary_accuracy(&r);
    return kinds[r.kind].classes ? class_accuracy(&r, k) : (fv_value){ 0 };
}

/* ---- Penalties --------------------------------------------------------------------------------------------------- */

static fv_value add(fv_tape *tape, fv_value sum, fv_value term) { return sum.id ? fv_op_add(tape, sum, term) : term; }

static bool has_penalty(const fv_layer *layer) {
    for (int32_t w = 0; w < layer->weight_count; w++)
        if (layer->weight[w].l1 != 0 || layer->weight[w].l2 != 0) return true;
    return false;
}

/* Id 0 where no layer asks for any: most nets need no operation at all. */
static fv_value penalties(fv_tape *tape, fv_net *net) {
    int32_t count;
    fv_net **family = fv_net_family_list(net, &count);
    bool any = false;
    for (int32_t n = 0; n < count; n++)
        for (int32_t l = 0; l < family[n]->layer_count; l++)
            any |= !family[n]->layer[l].frozen && has_penalty(&family[n]->layer[l]);
    fv_free(family);
    return any ? fv_op_regularization(tape, net) : (fv_value){ 0 };
}

/* ---- All of it --------------------------------------------------------------------------------------------------- */

static fv_value own_loss(const recording *r, const fv_loss_settings *s) {
    fv_context *context = r->tape->object.context;
    fv_value loss = s->function(r->tape, r->output, r->target, s->user);
    if (fv_ok(context) && !fv_value_valid(r->tape, loss))
        fv_fail(context, FV_ERROR_ARGUMENT, "%s: the loss function returned no value", r->name);
    return fv_ok(context) ? loss : (fv_value){ 0 };
}

fv_value fv_loss_record(fv_tape *tape, fv_net *net, const fv_loss_settings *s, const fv_value *outputs,
                        const fv_value *targets, int32_t count) {
    fv_context *context = tape->object.context;
    fv_value sum = { 0 };
    for (int32_t i = 0; i < count && fv_ok(context); i++) {
        const char *layer = net->layer[net->node[net->output[i]].layer].name;
        char name[320], label[160];
        snprintf(name, sizeof name, "%s, output %s", net->name, layer);
        snprintf(label, sizeof label, "%s/loss", layer);
        fv_tape_label(tape, label);
        recording r = record_of(tape, name, s, i, outputs[i], targets[i]);
        fv_value scale = { 0 }, rows = s->function ? own_loss(&r, s) : loss_rows(&r, options_of(s, i), &scale);
        fv_value loss = to_scalar(tape, rows, scale);
        if (loss.id) sum = add(tape, sum, scaled(tape, loss, s->weights ? s->weights[i] : 1));
    }
    fv_tape_label(tape, NULL);
    fv_value extra = fv_ok(context) ? penalties(tape, net) : (fv_value){ 0 };
    if (extra.id) sum = add(tape, sum, extra);
    return fv_ok(context) ? sum : (fv_value){ 0 };
}
