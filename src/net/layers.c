/* layers.c - the table of layer types, and those that slide no window. build checks a layer's options, puts the
 * defaults in their place and adds the weights; record appends its operations. Shapes are the business of the
 * operations themselves. */
#include "net/net.h"
#include <math.h>
#include <string.h>

/* ---- Helpers for all types --------------------------------------------------------------------------------------- */

float fv_option_float(float given, float otherwise) {
    return given != 0.0f ? given : signbit(given) ? 0.0f : otherwise;
}
float fv_option_given(float value) { return value == 0.0f ? FV_ZERO : value; }

void fv_option_pair(int32_t one, const int32_t two[2], int32_t otherwise, int32_t out[2]) {
    for (int i = 0; i < 2; i++) out[i] = two[i] ? two[i] : one ? one : otherwise;
}

const char *fv_activation_name(fv_activation activation) {
    return (unsigned)activation < FV_ACTIVATION_COUNT ? fv_activations[activation].name : NULL;
}

fv_value fv_record_activation(fv_recording *r, fv_value x, fv_activation activation) {
    return fv_op_activation(r->tape, x, activation);
}

static int check_activation(const fv_net *net, const fv_layer *layer, fv_activation activation) {
    if (fv_activation_name(activation)) return FV_OK;
    return fv_layer_fail(net, layer, FV_ERROR_ARGUMENT, "there is no activation number %d", (int)activation);
}

/* Keras's fans: the receptive field times the channels on that side, as its kernel [h, w, in, out] shows them. */
static void set_fans(fv_weight *weight) {
    const int64_t *d = weight->shape.dim;
    if (weight->role == FV_WEIGHT_DENSE_KERNEL) {
        weight->fan_in = d[1];
        weight->fan_out = d[0];
    } else if (weight->role == FV_WEIGHT_VECTOR)
        weight->fan_in = weight->fan_out = d[0];
    else if (weight->role == FV_WEIGHT_LOCAL_KERNEL) { /* of one position; Keras counts the positions as well */
        weight->fan_in = d[2] * d[3] * d[4];
        weight->fan_out = d[2] * d[3] * d[5];
    } else {
        weight->fan_in = d[1] * d[2] * d[3];
        weight->fan_out = d[1] * d[2] * d[0];
    }
}

fv_weight *fv_layer_add_weight(fv_net *net, fv_layer *layer, const char *name, fv_weight_role role, int rank,
                               const int64_t *dims, fv_initializer initializer, uint32_t default_initializer) {
    char what[320];
    snprintf(what, sizeof what, "%s: layer %s (%s): %s", net->name, layer->name, fv_layer_types[layer->kind].stem,
             name);
    fv_weight weight = { .name = name, .role = role, .initializer = initializer,
                         .sequence = fv_layer_types[layer->kind].sequence && rank > 1 };
    if (fv_shape_make(net->object.context, what, rank, dims, &weight.shape)) return NULL;
    if (initializer.kind == FV_INITIALIZER_DEFAULT)
        weight.initializer = (fv_initializer){ .kind = default_initializer };
    const char *wrong = fv_initializer_check(&weight.initializer, role, &weight.shape);
    if (wrong) {
        fv_layer_fail(net, layer, FV_ERROR_ARGUMENT, "initializer of %s: %s", name, wrong);
        return NULL;
    }
    weight.statistic = !strncmp(name, "moving_", 7);
    int64_t *end = weight.statistic ? &net->statistics : &net->parameters, length = fv_shape_elements(&weight.shape);
    weight.offset = *end;
    if (__builtin_add_overflow(*end, (length + 15) / 16 * 16, end) || *end > INT64_MAX / 64) {
        fv_layer_fail(net, layer, FV_ERROR_SHAPE, "the weights of the net are too many for any memory");
        return NULL;
    }
    set_fans(&weight);
    layer->weight[layer->weight_count] = weight;
    return &layer->weight[layer->weight_count++];
}

/* ---- Input ------------------------------------------------------------------------------------------------------- */

static int build_input(fv_net *net, fv_layer *layer, const fv_shape *inputs, int32_t count) {
    fv_input_options *o = &layer->options.input;
    if (o->rank < 1 || o->rank >= FV_RANK)
        return fv_layer_fail(net, layer, FV_ERROR_ARGUMENT, "a sample has %d dimensions, which are not within 1..%d",
                             (int)o->rank, FV_RANK - 1);
    if (!fv_type_bytes(o->type))
        return fv_layer_fail(net, layer, FV_ERROR_ARGUMENT, "there is no type number %d", (int)o->type);
    fv_shape shape;
    char what[320];
    snprintf(what, sizeof what, "%s: layer %s (input)", net->name, layer->name);
    return fv_shape_make(net->object.context, what, o->rank, o->shape, &shape);
}

/* ---- Dense ------------------------------------------------------------------------------------------------------- */

static int build_dense(fv_net *net, fv_layer *layer, const fv_shape *inputs, int32_t count) {
    fv_dense_options *o = &layer->options.dense;
    if (o->units < 1)
        return fv_layer_fail(net, layer, FV_ERROR_ARGUMENT, "units are %d: at least 1 is needed", (int)o->units);
    if (inputs->rank < 2) return fv_layer_fail(net, layer, FV_ERROR_SHAPE, "its input has no axis beside the batch");
    if (check_activation(net, layer, o->activation)) return FV_ERROR_ARGUMENT;
    layer->frozen = o->frozen;
    fv_weight *kernel = fv_layer_add_weight(net, layer, "kernel", FV_WEIGHT_DENSE_KERNEL, 2,
                                            (const int64_t[]){ o->units, inputs->dim[inputs->rank - 1] },
                                            o->kernel_initializer, FV_INITIALIZER_GLOROT_UNIFORM);
    if (!kernel) return net->object.context->status;
    o->kernel_initializer = kernel->initializer;
    kernel->l1 = o->l1;
    kernel->l2 = o->l2;
    if (fv_weight_constrain(net, layer, kernel, &o->kernel_constraint)) return FV_ERROR_ARGUMENT;
    if (o->no_bias) return FV_OK;
    fv_weight *bias = fv_layer_add_weight(net, layer, "bias", FV_WEIGHT_VECTOR, 1, (const int64_t[]){ o->units },
                                          o->bias_initializer, FV_INITIALIZER_ZEROS);
    if (!bias) return net->object.context->status;
    o->bias_initializer = bias->initializer;
    bias->l1 = o->bias_l1;
    bias->l2 = o->bias_l2;
    return fv_weight_constrain(net, layer, bias, &o->bias_constraint);
}

static fv_value record_dense(fv_recording *r, fv_layer *layer, const fv_value *inputs, int32_t count) {
    const fv_dense_options *o = &layer->options.dense;
    fv_value y = FV_APPLY(r->tape, FV_OP_dense, NULL, inputs[0], fv_record_weight(r, layer, 0));
    if (!o->no_bias) y = fv_op_add(r->tape, y, fv_record_weight(r, layer, 1));
    return fv_record_activation(r, y, o->activation);
}

/* ---- Global pooling: a reduction over height and width ----------------------------------------------------------- */

static int build_global_pool(fv_net *net, fv_layer *layer, const fv_shape *inputs, int32_t count) {
    return fv_layer_check_images(net, layer, inputs);
}

static fv_value record_global_pool(fv_recording *r, fv_layer *layer, const fv_value *inputs, int32_t count) {
    fv_attributes attributes;
    memset(&attributes, 0, sizeof attributes);
    attributes.reduce.axes = 1u << 1 | 1u << 2;
    attributes.reduce.keep_dims = layer->options.global_pool.keep_dims;
    bool average = layer->kind == FV_LAYER_GLOBAL_AVG_POOL || layer->kind == FV_LAYER_GLOBAL_AVG_POOL1D;
    return FV_APPLY(r->tape, average ? FV_OP_mean : FV_OP_max, &attributes, inputs[0]);
}

/* ---- Batch normalisation ----------------------------------------------------------------------------------------- */

static int build_batch_norm(fv_net *net, fv_layer *layer, const fv_shape *inputs, int32_t count) {
    fv_batch_norm_options *o = &layer->options.batch_norm;
    o->momentum = fv_option_float(o->momentum, 0.99f);
    o->epsilon = fv_option_float(o->epsilon, 1e-3f);
    if (!(o->momentum >= 0.0f && o->momentum <= 1.0f))
        return fv_layer_fail(net, layer, FV_ERROR_ARGUMENT, "momentum %g is not within 0..1", o->momentum);
    if (!(o->epsilon >= 0.0f && o->epsilon < INFINITY))
        return fv_layer_fail(net, layer, FV_ERROR_ARGUMENT, "epsilon %g is not a number of at least 0", o->epsilon);
    if (inputs->rank < 2) return fv_layer_fail(net, layer, FV_ERROR_SHAPE, "its input has no axis beside the batch");
    if (check_activation(net, layer, o->activation)) return FV_ERROR_ARGUMENT;
    layer->frozen = o->frozen;
    const struct { const char *name; bool absent; fv_initializer *initializer; uint32_t otherwise; } weights[] = {
        { "gamma", o->no_scale, &o->gamma_initializer, FV_INITIALIZER_ONES },
        { "beta", o->no_center, &o->beta_initializer, FV_INITIALIZER_ZEROS },
        { "moving_mean", false, NULL, FV_INITIALIZER_ZEROS },
        { "moving_variance", false, NULL, FV_INITIALIZER_ONES },
    };
    for (int i = 0; i < 4; i++) {
        if (weights[i].absent) continue;
        fv_initializer given = weights[i].initializer ? *weights[i].initializer : (fv_initializer){0};
        fv_weight *weight = fv_layer_add_weight(net, layer, weights[i].name, FV_WEIGHT_VECTOR, 1,
                                                &inputs->dim[inputs->rank - 1], given, weights[i].otherwise);
        if (!weight) return net->object.context->status;
        if (weights[i].initializer) *weights[i].initializer = weight->initializer;
    }
    return FV_OK;
}

/* Puts a new running statistic in its place of the store. A layer applied twice on a tape goes on from what its first
 * use left: that value becomes an ordinary one, and the last one is placed. */
static fv_value running_statistic(fv_recording *r, fv_layer *layer, int32_t index) {
    fv_value stored = fv_record_weight(r, layer, index);
    for (int32_t id = r->tape->value_count - 1; !r->trial && id > 0; id--) {
        const fv_tape_value *value = &r->tape->value[id];
        if (value->region == FV_NEXT_STATISTICS && value->store == r->net->store &&
            value->offset == layer->weight[index].offset)
            return (fv_value){ id };
    }
    return stored;
}

static void place_statistic(fv_recording *r, fv_layer *layer, int32_t index, fv_value before, fv_value now) {
    fv_tape_value *old = &r->tape->value[before.id];
    if (old->region == FV_NEXT_STATISTICS) {
        old->region = FV_REGION_NONE;
        old->store = NULL;
        old->offset = 0;
    }
    fv_tape_place(r->tape, now, r->net->store, FV_NEXT_STATISTICS, layer->weight[index].offset);
}

static fv_value record_batch_norm(fv_recording *r, fv_layer *layer, const fv_value *inputs, int32_t count) {
    const fv_batch_norm_options *o = &layer->options.batch_norm;
    fv_attributes attributes;
    memset(&attributes, 0, sizeof attributes);
    attributes.norm.epsilon = o->epsilon;
    attributes.norm.momentum = o->momentum;
    int32_t next = 0, mean = layer->weight_count - 2, variance = layer->weight_count - 1;
    fv_value operand[5] = { inputs[0] };
    if (!o->no_scale) operand[1] = fv_record_weight(r, layer, next++);
    if (!o->no_center) operand[2] = fv_record_weight(r, layer, next++);
    if (r->mode == FV_MODE_INFER || layer->frozen || r->trial) {
        operand[3] = fv_record_weight(r, layer, mean);
        operand[4] = fv_record_weight(r, layer, variance);
        return fv_record_activation(r, fv_tape_apply(r->tape, FV_OP_batch_norm_infer, &attributes, operand, 5),
                                    o->activation);
    }
    operand[3] = running_statistic(r, layer, mean);
    operand[4] = running_statistic(r, layer, variance);
    int32_t operation = fv_tape_append(r->tape, FV_OP_batch_norm_train, &attributes, operand, 5);
    if (operation < 0) return (fv_value){0};
    place_statistic(r, layer, mean, operand[3], fv_tape_output(r->tape, operation, 3));
    place_statistic(r, layer, variance, operand[4], fv_tape_output(r->tape, operation, 4));
    return fv_record_activation(r, fv_tape_output(r->tape, operation, 0), o->activation);
}

/* ---- Local response normalisation -------------------------------------------------------------------------------- */

static int build_lrn(fv_net *net, fv_layer *layer, const fv_shape *inputs, int32_t count) {
    fv_lrn_options *o = &layer->options.lrn;
    if (!o->size) o->size = 5;
    o->alpha = fv_option_float(o->alpha, 1e-4f);
    o->beta = fv_option_float(o->beta, 0.75f);
    o->k = fv_option_float(o->k, 2.0f);
    if (o->size < 1)
        return fv_layer_fail(net, layer, FV_ERROR_ARGUMENT, "size is %d: at least one channel is needed", (int)o->size);
    if (!isfinite(o->alpha) || !isfinite(o->beta) || !isfinite(o->k))
        return fv_layer_fail(net, layer, FV_ERROR_ARGUMENT, "alpha, beta and k must be finite");
    return FV_OK;
}

static fv_value record_lrn(fv_recording *r, fv_layer *layer, const fv_value *inputs, int32_t count) {
    const fv_lrn_options *o = &layer->options.lrn;
    fv_attributes attributes;
    memset(&attributes, 0, sizeof attributes);
    attributes.lrn = (fv_lrn_attributes){ .size = o->size, .alpha = o->alpha, .beta = o->beta, .k = o->k };
    return FV_APPLY(r->tape, FV_OP_lrn, &attributes, inputs[0]);
}

/* ---- Activation, flatten, reshape -------------------------------------------------------------------------------- */

static int build_activation(fv_net *net, fv_layer *layer, const fv_shape *inputs, int32_t count) {
    return check_activation(net, layer, layer->options.activation.activation);
}

static fv_value record_activation(fv_recording *r, fv_layer *layer, const fv_value *inputs, int32_t count) {
    return fv_record_activation(r, inputs[0], layer->options.activation.activation);
}

static fv_value reshape(fv_recording *r, fv_value x, int rank, const int64_t *sample) {
    fv_attributes attributes;
    memset(&attributes, 0, sizeof attributes);
    attributes.shape.rank = rank + 1;
    attributes.shape.dim[0] = fv_tape_value_of(r->tape, x)->shape.dim[0];
    for (int i = 0; i < rank; i++) attributes.shape.dim[i + 1] = sample[i];
    return FV_APPLY(r->tape, FV_OP_reshape, &attributes, x);
}

static int64_t sample_elements(const fv_shape *shape) {
    int64_t elements = 1;
    for (int i = 1; i < shape->rank; i++) elements *= shape->dim[i];
    return elements;
}

static fv_value record_flatten(fv_recording *r, fv_layer *layer, const fv_value *inputs, int32_t count) {
    return reshape(r, inputs[0], 1, (const int64_t[]){ sample_elements(&fv_tape_value_of(r->tape, inputs[0])->shape) });
}

static int build_reshape(fv_net *net, fv_layer *layer, const fv_shape *inputs, int32_t count) {
    const fv_reshape_options *o = &layer->options.reshape;
    if (o->rank < 1 || o->rank >= FV_RANK)
        return fv_layer_fail(net, layer, FV_ERROR_ARGUMENT, "a sample of %d dimensions is not within 1..%d",
                             (int)o->rank, FV_RANK - 1);
    int open = 0;
    int64_t known = 1, elements = sample_elements(inputs);
    for (int i = 0; i < o->rank; i++) {
        if (o->shape[i] == -1) open++;
        else if (o->shape[i] < 1 || __builtin_mul_overflow(known, o->shape[i], &known))
            return fv_layer_fail(net, layer, FV_ERROR_ARGUMENT, "size %lld of dimension %d cannot be had",
                                 (long long)o->shape[i], i);
    }
    if (open > 1) return fv_layer_fail(net, layer, FV_ERROR_ARGUMENT, "only one dimension may be -1");
    if (open ? elements % known == 0 : elements == known) return FV_OK;
    fv_shape wanted = { .rank = o->rank };
    memcpy(wanted.dim, o->shape, sizeof wanted.dim);
    char from[96], to[96];
    return fv_layer_fail(net, layer, FV_ERROR_SHAPE, "a sample of %lld elements (input %s) cannot become %s",
                         (long long)elements, fv_shape_text(inputs, from), fv_shape_text(&wanted, to));
}

static fv_value record_reshape(fv_recording *r, fv_layer *layer, const fv_value *inputs, int32_t count) {
    const fv_reshape_options *o = &layer->options.reshape;
    int64_t sample[FV_RANK], known = 1, elements = sample_elements(&fv_tape_value_of(r->tape, inputs[0])->shape);
    for (int i = 0; i < o->rank; i++)
        if (o->shape[i] > 0) known *= o->shape[i];
    for (int i = 0; i < o->rank; i++) sample[i] = o->shape[i] > 0 ? o->shape[i] : elements / known;
    return reshape(r, inputs[0], o->rank, sample);
}

/* ---- Several inputs ---------------------------------------------------------------------------------------------- */

static int build_concat(fv_net *net, fv_layer *layer, const fv_shape *inputs, int32_t count) {
    fv_concat_options *o = &layer->options.concat;
    int32_t axis = o->axis <= 0 ? inputs->rank + (o->axis ? o->axis : -1) : o->axis;
    if (axis < 1 || axis >= inputs->rank)
        return fv_layer_fail(net, layer, FV_ERROR_ARGUMENT, "axis %d is not an axis of a sample: those are 1..%d",
                             (int)o->axis, (int)inputs->rank - 1);
    o->axis = axis;
    return FV_OK;
}

static fv_value record_concat(fv_recording *r, fv_layer *layer, const fv_value *inputs, int32_t count) {
    fv_attributes attributes;
    memset(&attributes, 0, sizeof attributes);
    attributes.axis.axis = layer->options.concat.axis;
    return fv_tape_apply(r->tape, FV_OP_concat, &attributes, inputs, count);
}

static int build_merge(fv_net *net, fv_layer *layer, const fv_shape *inputs, int32_t count) {
    for (int32_t i = 1; i < count; i++)
        if (inputs[i].rank != inputs[0].rank) {
            char a[96], b[96];
            return fv_layer_fail(net, layer, FV_ERROR_SHAPE, "its inputs %s and %s have different ranks",
                                 fv_shape_text(inputs, a), fv_shape_text(inputs + i, b));
        }
    return check_activation(net, layer, layer->options.merge.activation);
}

static fv_value record_merge(fv_recording *r, fv_layer *layer, const fv_value *inputs, int32_t count) {
    static const fv_op operations[FV_LAYER_KIND_COUNT] = {
        [FV_LAYER_ADD] = FV_OP_add,         [FV_LAYER_SUBTRACT] = FV_OP_sub,    [FV_LAYER_MULTIPLY] = FV_OP_mul,
        [FV_LAYER_MAXIMUM] = FV_OP_maximum, [FV_LAYER_MINIMUM] = FV_OP_minimum, [FV_LAYER_AVERAGE] = FV_OP_add,
    };
    fv_value y = inputs[0];
    for (int32_t i = 1; i < count; i++) y = FV_APPLY(r->tape, operations[layer->kind], NULL, y, inputs[i]);
    if (layer->kind == FV_LAYER_AVERAGE) y = fv_op_affine(r->tape, y, 1.0f / (float)count, 0);
    return fv_record_activation(r, y, layer->options.merge.activation);
}

/* ---- The table --------------------------------------------------------------------------------------------------- */

const fv_layer_type fv_layer_types[FV_LAYER_KIND_COUNT] = {
    [FV_LAYER_INPUT] = { "InputLayer", "input", 0, 0, build_input, NULL },
    [FV_LAYER_CONV2D] = { "Conv2D", "conv2d", 1, 1, fv_build_conv2d, fv_record_conv2d },
    [FV_LAYER_DENSE] = { "Dense", "dense", 1, 1, build_dense, record_dense },
    [FV_LAYER_MAX_POOL2D] = { "MaxPooling2D", "max_pooling2d", 1, 1, fv_build_pool2d, fv_record_max_pool2d },
    [FV_LAYER_AVG_POOL2D] = { "AveragePooling2D", "average_pooling2d", 1, 1, fv_build_pool2d, fv_record_avg_pool2d },
    [FV_LAYER_GLOBAL_AVG_POOL] = { "GlobalAveragePooling2D", "global_average_pooling2d", 1, 1, build_global_pool,
                                   record_global_pool },
    [FV_LAYER_GLOBAL_MAX_POOL] = { "GlobalMaxPooling2D", "global_max_pooling2d", 1, 1, build_global_pool,
                                   record_global_pool },
    [FV_LAYER_BATCH_NORM] = { "BatchNormalization", "batch_normalization", 1, 1, build_batch_norm, record_batch_norm },
    [FV_LAYER_LRN] = { "fovea>LRN", "lrn", 1, 1, build_lrn, record_lrn },
    [FV_LAYER_LAYER_NORM] = { "LayerNormalization", "layer_normalization", 1, 1, fv_build_layer_norm,
                              fv_record_layer_norm },
    [FV_LAYER_GROUP_NORM] = { "GroupNormalization", "group_normalization", 1, 1, fv_build_group_norm,
                              fv_record_group_norm },
    [FV_LAYER_RMS_NORM] = { "RMSNormalization", "rms_normalization", 1, 1, fv_build_rms_norm, fv_record_rms_norm },
    [FV_LAYER_UNIT_NORM] = { "UnitNormalization", "unit_normalization", 1, 1, fv_build_unit_norm,
                             fv_record_unit_norm },
    [FV_LAYER_DROPOUT] = { "Dropout", "dropout", 1, 1, fv_build_dropout, fv_record_dropout },
    [FV_LAYER_SPATIAL_DROPOUT1D] = { "SpatialDropout1D", "spatial_dropout1d", 1, 1, fv_build_spatial_dropout1d,
                                     fv_record_spatial_dropout },
    [FV_LAYER_SPATIAL_DROPOUT2D] = { "SpatialDropout2D", "spatial_dropout2d", 1, 1, fv_build_spatial_dropout2d,
                                     fv_record_spatial_dropout },
    [FV_LAYER_ALPHA_DROPOUT] = { "AlphaDropout", "alpha_dropout", 1, 1, fv_build_dropout, fv_record_alpha_dropout },
    [FV_LAYER_GAUSSIAN_DROPOUT] = { "GaussianDropout", "gaussian_dropout", 1, 1, fv_build_dropout,
                                    fv_record_gaussian_dropout },
    [FV_LAYER_GAUSSIAN_NOISE] = { "GaussianNoise", "gaussian_noise", 1, 1, fv_build_gaussian_noise,
                                  fv_record_gaussian_noise },
    [FV_LAYER_ACTIVATION] = { "Activation", "activation", 1, 1, build_activation, record_activation },
    [FV_LAYER_FLATTEN] = { "Flatten", "flatten", 1, 1, NULL, record_flatten },
    [FV_LAYER_RESHAPE] = { "Reshape", "reshape", 1, 1, build_reshape, record_reshape },
    [FV_LAYER_ZERO_PADDING] = { "ZeroPadding2D", "zero_padding2d", 1, 1, fv_build_zero_padding,
                                fv_record_zero_padding },
    [FV_LAYER_PERMUTE] = { "Permute", "permute", 1, 1, fv_build_permute, fv_record_permute },
    [FV_LAYER_REPEAT_VECTOR] = { "RepeatVector", "repeat_vector", 1, 1, fv_build_repeat_vector,
                                 fv_record_repeat_vector },
    [FV_LAYER_EMBEDDING] = { "Embedding", "embedding", 1, 1, fv_build_embedding, fv_record_embedding },
    [FV_LAYER_DOT] = { "Dot", "dot", 2, 2, fv_build_dot, fv_record_dot },
    [FV_LAYER_CONCAT] = { "Concatenate", "concatenate", 1, -1, build_concat, record_concat },
    [FV_LAYER_ADD] = { "Add", "add", 2, -1, build_merge, record_merge },
    [FV_LAYER_SUBTRACT] = { "Subtract", "subtract", 2, 2, build_merge, record_merge },
    [FV_LAYER_MULTIPLY] = { "Multiply", "multiply", 2, -1, build_merge, record_merge },
    [FV_LAYER_MAX_POOL1D] = { "MaxPooling1D", "max_pooling1d", 1, 1, fv_build_pool2d, fv_record_max_pool2d, true },
    [FV_LAYER_AVG_POOL1D] = { "AveragePooling1D", "average_pooling1d", 1, 1, fv_build_pool2d, fv_record_avg_pool2d,
                              true },
    [FV_LAYER_GLOBAL_AVG_POOL1D] = { "GlobalAveragePooling1D", "global_average_pooling1d", 1, 1, build_global_pool,
                                     record_global_pool, true },
    [FV_LAYER_GLOBAL_MAX_POOL1D] = { "GlobalMaxPooling1D", "global_max_pooling1d", 1, 1, build_global_pool,
                                     record_global_pool, true },
    [FV_LAYER_ADAPTIVE_MAX_POOL2D] = { "AdaptiveMaxPooling2D", "adaptive_max_pooling2d", 1, 1, fv_build_adaptive_pool,
                                       fv_record_adaptive_pool },
    [FV_LAYER_ADAPTIVE_AVG_POOL2D] = { "AdaptiveAveragePooling2D", "adaptive_average_pooling2d", 1, 1,
                                       fv_build_adaptive_pool, fv_record_adaptive_pool },
    [FV_LAYER_MAX_UNPOOL2D] = { "fovea>MaxUnpooling2D", "max_unpooling2d", 2, 2, fv_build_max_unpool,
                                fv_record_max_unpool },
    [FV_LAYER_ZERO_PADDING1D] = { "ZeroPadding1D", "zero_padding1d", 1, 1, fv_build_zero_padding,
                                  fv_record_zero_padding, true },
    [FV_LAYER_PADDING2D] = { "fovea>ConstantPadding2D", "padding2d", 1, 1, fv_build_padding, fv_record_padding },
    [FV_LAYER_CROPPING2D] = { "Cropping2D", "cropping2d", 1, 1, fv_build_cropping, fv_record_cropping },
    [FV_LAYER_CROPPING1D] = { "Cropping1D", "cropping1d", 1, 1, fv_build_cropping, fv_record_cropping, true },
    [FV_LAYER_UP_SAMPLING2D] = { "UpSampling2D", "up_sampling2d", 1, 1, fv_build_up_sampling, fv_record_up_sampling },
    [FV_LAYER_UP_SAMPLING1D] = { "UpSampling1D", "up_sampling1d", 1, 1, fv_build_up_sampling, fv_record_up_sampling,
                                 true },
    [FV_LAYER_RESIZING] = { "Resizing", "resizing", 1, 1, fv_build_resizing, fv_record_resizing },
    [FV_LAYER_SPACE_TO_DEPTH] = { "fovea>SpaceToDepth", "space_to_depth", 1, 1, fv_build_space_to_depth,
                                  fv_record_space_to_depth },
    [FV_LAYER_DEPTH_TO_SPACE] = { "fovea>DepthToSpace", "depth_to_space", 1, 1, fv_build_space_to_depth,
                                  fv_record_space_to_depth },
    [FV_LAYER_CHANNEL_SHUFFLE] = { "fovea>ChannelShuffle", "channel_shuffle", 1, 1, fv_build_channel_shuffle,
                                   fv_record_channel_shuffle },
    [FV_LAYER_MAXIMUM] = { "Maximum", "maximum", 2, -1, build_merge, record_merge },
    [FV_LAYER_MINIMUM] = { "Minimum", "minimum", 2, -1, build_merge, record_merge },
    [FV_LAYER_AVERAGE] = { "Average", "average", 2, -1, build_merge, record_merge },
    [FV_LAYER_LEAKY_RELU] = { "LeakyReLU", "leaky_re_lu", 1, 1, fv_build_leaky_relu, fv_record_leaky_relu },
    [FV_LAYER_ELU] = { "ELU", "elu", 1, 1, fv_build_elu, fv_record_elu },
    [FV_LAYER_RELU] = { "ReLU", "re_lu", 1, 1, fv_build_relu, fv_record_relu },
    [FV_LAYER_PRELU] = { "PReLU", "p_re_lu", 1, 1, fv_build_prelu, fv_record_prelu },
    [FV_LAYER_SOFTMAX] = { "Softmax", "softmax", 1, 1, fv_build_softmax, fv_record_softmax },
    [FV_LAYER_RESCALING] = { "Rescaling", "rescaling", 1, 1, fv_build_rescaling, fv_record_rescaling },
    [FV_LAYER_CONV1D] = { "Conv1D", "conv1d", 1, 1, fv_build_conv2d, fv_record_conv2d, true },
    [FV_LAYER_CONV2D_TRANSPOSE] = { "Conv2DTranspose", "conv2d_transpose", 1, 1, fv_build_conv_transpose,
                                    fv_record_conv_transpose },
    [FV_LAYER_CONV1D_TRANSPOSE] = { "Conv1DTranspose", "conv1d_transpose", 1, 1, fv_build_conv_transpose,
                                    fv_record_conv_transpose, true },
    [FV_LAYER_SEPARABLE_CONV2D] = { "SeparableConv2D", "separable_conv2d", 1, 1, fv_build_separable,
                                    fv_record_separable },
    [FV_LAYER_SEPARABLE_CONV1D] = { "SeparableConv1D", "separable_conv1d", 1, 1, fv_build_separable,
                                    fv_record_separable, true },
    [FV_LAYER_LOCALLY_CONNECTED2D] = { "LocallyConnected2D", "locally_connected2d", 1, 1, fv_build_local,
                                       fv_record_local },
    [FV_LAYER_LOCALLY_CONNECTED1D] = { "LocallyConnected1D", "locally_connected1d", 1, 1, fv_build_local,
                                       fv_record_local, true },
    [FV_LAYER_BIAS] = { "fovea>Bias", "bias", 1, 1, fv_build_bias, fv_record_bias },
    [FV_LAYER_NET] = { "Functional", "net", 1, -1, NULL, NULL },
};

const char *fv_layer_class_name(const fv_layer *layer) {
    if (layer->kind == FV_LAYER_CONV2D) {
        if (layer->options.conv2d.flip_kernel) return "fovea>FlipConv2D";
        if (fv_conv2d_is_depthwise(layer)) return "DepthwiseConv2D";
    }
    if (layer->kind == FV_LAYER_CONV1D && layer->options.conv2d.flip_kernel) return "fovea>FlipConv1D";
    if (layer->kind == FV_LAYER_CONV1D && fv_conv2d_is_depthwise(layer)) return "DepthwiseConv1D";
    if (layer->kind == FV_LAYER_LOCALLY_CONNECTED2D && fv_local_is_ours(layer)) return "fovea>LocallyConnected2D";
    if (layer->kind == FV_LAYER_LOCALLY_CONNECTED1D && fv_local_is_ours(layer)) return "fovea>LocallyConnected1D";
    if (layer->kind == FV_LAYER_CONV2D_TRANSPOSE && fv_conv_transpose_is_ours(layer)) return "fovea>Conv2DTranspose";
    if (layer->kind == FV_LAYER_CONV1D_TRANSPOSE && fv_conv_transpose_is_ours(layer)) return "fovea>Conv1DTranspose";
    if (layer->kind == FV_LAYER_MAX_POOL2D && fv_pool2d_is_ours(layer)) return "fovea>MaxPooling2D";
    if (layer->kind == FV_LAYER_AVG_POOL2D && fv_pool2d_is_ours(layer)) return "fovea>AveragePooling2D";
    if (layer->kind == FV_LAYER_MAX_POOL1D && fv_pool2d_is_ours(layer)) return "fovea>MaxPooling1D";
    if (layer->kind == FV_LAYER_AVG_POOL1D && fv_pool2d_is_ours(layer)) return "fovea>AveragePooling1D";
    if (layer->kind == FV_LAYER_LAYER_NORM && layer->options.layer_norm.axes > 1) return "fovea>LayerNormalization";
    if (layer->kind == FV_LAYER_RMS_NORM && layer->options.rms_norm.axes > 1) return "fovea>RMSNormalization";
    if (layer->kind == FV_LAYER_UNIT_NORM && layer->options.unit_norm.axes > 1) return "fovea>UnitNormalization";
    if (fv_sampling_class(layer)) return fv_sampling_class(layer);
    if (layer->kind == FV_LAYER_ACTIVATION && fv_activation_is_ours(layer->options.activation.activation))
        return "fovea>Activation";
    if (layer->kind == FV_LAYER_NET && fv_net_is_chain(layer->inner)) return "Sequential";
    return fv_layer_types[layer->kind].class_name;
}
