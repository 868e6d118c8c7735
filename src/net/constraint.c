/* constraint.c - what weights must fulfil after every update: the public makers, the check, and Keras's words both ways.
 * Norms are taken over axes of the weight as it lies here; Keras counts those of its own layout. */
#include "net/config.h"
#include <math.h>
#include <string.h>

/* Kinds are ops.h's, and Keras's classes. */
static const struct {
    const char *class_name, *least, *most, *rate; /* Keras's names of the values; NULL: it has none such */
} kinds[FV_CONSTRAINT_COUNT] = {
    [FV_CONSTRAINT_MAX_NORM] = { "MaxNorm", NULL, "max_value", NULL },
    [FV_CONSTRAINT_NON_NEG] = { "NonNeg", NULL, NULL, NULL },
    [FV_CONSTRAINT_UNIT_NORM] = { "UnitNorm", NULL, NULL, NULL },
    [FV_CONSTRAINT_MIN_MAX_NORM] = { "MinMaxNorm", "min_value", "max_value", "rate" },
};
enum { LEAST, MOST, RATE };

fv_constraint fv_max_norm_constraint(float most) { return (fv_constraint){ FV_CONSTRAINT_MAX_NORM, 0, { 0, most, 1 } }; }
fv_constraint fv_non_neg_constraint(void) { return (fv_constraint){ FV_CONSTRAINT_NON_NEG, 0, { 0 } }; }
fv_constraint fv_unit_norm_constraint(void) { return (fv_constraint){ FV_CONSTRAINT_UNIT_NORM, 0, { 1, 1, 1 } }; }
fv_constraint fv_min_max_norm_constraint(float least, float most, float rate) {
    return (fv_constraint){ FV_CONSTRAINT_MIN_MAX_NORM, 0, { least, most, rate } };
}

/* All axes but the first: a norm for each filter or unit; of a vector its only one. */
static uint32_t usual_axes(int rank) { return rank > 1 ? (1u << rank) - 2 : 1; }

int fv_weight_constrain(fv_net *net, const fv_layer *layer, fv_weight *weight, fv_constraint *given) {
    const float *v = given->value;
    if (!given->kind) return FV_OK;
    if (given->kind >= FV_CONSTRAINT_COUNT)
        return fv_layer_fail(net, layer, FV_ERROR_ARGUMENT, "there is no constraint number %u", given->kind);
    if (!(v[LEAST] >= 0 && v[LEAST] <= v[MOST] && v[MOST] < INFINITY && v[RATE] >= 0 && v[RATE] <= 1))
        return fv_layer_fail(net, layer, FV_ERROR_ARGUMENT, "constraint of %s: norms within %g..%g at a rate of %g",
                             weight->name, (double)v[LEAST], (double)v[MOST], (double)v[RATE]);
    if (given->axes >= 1u << weight->shape.rank)
        return fv_layer_fail(net, layer, FV_ERROR_ARGUMENT, "constraint of %s: it has only %d axes", weight->name,
                             weight->shape.rank);
    if (given->kind == FV_CONSTRAINT_NON_NEG) given->axes = 0;
    else if (!given->axes) given->axes = usual_axes(weight->shape.rank);
    if (weight->role == FV_WEIGHT_DEPTHWISE_KERNEL) given->axes &= 7; /* its last axis is one element, and none of Keras's */
    weight->constraint = *given;
    return FV_OK;
}

/* ---- Keras's layout ---------------------------------------------------------------------------------------------- */

/* Where our axes are in Keras's weight, as bits; a depthwise kernel's first is two of Keras's, its last none. */
static const struct {
    int rank;
    uint32_t keras[4];
} layouts[] = {
    [FV_WEIGHT_VECTOR] = { 1, { 1 } },
    [FV_WEIGHT_CONV_KERNEL] = { 4, { 1 << 3, 1 << 0, 1 << 1, 1 << 2 } },
    [FV_WEIGHT_DEPTHWISE_KERNEL] = { 4, { 1 << 2 | 1 << 3, 1 << 0, 1 << 1, 0 } },
    [FV_WEIGHT_DENSE_KERNEL] = { 2, { 1 << 1, 1 << 0 } },
};

json_t *fv_json_constraint(const fv_constraint *c, fv_weight_role role) {
    const char *const names[] = { kinds[c->kind].least, kinds[c->kind].most, kinds[c->kind].rate };
    json_t *config = json_object(), *axes = json_array();
    uint32_t keras = 0;
    for (int i = 0; i < 3; i++)
        if (names[i]) fv_json_put(&config, names[i], fv_json_float(c->value[i]));
    for (int i = 0; i < layouts[role].rank; i++)
        if (c->axes >> i & 1) keras |= layouts[role].keras[i];
    for (int i = 0; axes && i < 4; i++)
        if (keras >> i & 1) json_array_append_new(axes, json_integer(i));
    if (c->kind != FV_CONSTRAINT_NON_NEG)
        fv_json_put(&config, "axis", json_array_size(axes) == 1 ? json_incref(json_array_get(axes, 0)) : json_incref(axes));
    json_decref(axes);
    return fv_json_object("keras.constraints", kinds[c->kind].class_name, config);
}

/* Keras's axes to ours; false: they are none, or cut one of ours in two. */
static bool axes_from_keras(const json_t *axis, fv_weight_role role, uint32_t *axes) {
    const int rank = layouts[role].rank;
    uint32_t keras = 0;
    for (size_t i = 0; i < (json_is_array(axis) ? json_array_size(axis) : 1); i++) {
        const json_t *one = json_is_array(axis) ? json_array_get(axis, i) : axis;
        json_int_t number = one ? json_integer_value(one) : 0; /* Keras's default */
        if (number < 0) number += rank;
        if ((one && !json_is_integer(one)) || number < 0 || number >= rank) return false;
        keras |= 1u << number;
    }
    *axes = 0;
    for (int i = 0; i < rank; i++) {
        const uint32_t ours = layouts[role].keras[i];
        if (ours && (keras & ours) == ours) *axes |= 1u << i, keras &= ~ours;
    }
    return !keras && *axes;
}

void fv_keras_constraint(fv_keras_reader *r, const char *key, fv_weight_role role, fv_constraint *out) {
    const json_t *value = fv_keras_value(r, key), *config = json_object_get(value, "config");
    const char *name = json_string_value(json_is_object(value) ? json_object_get(value, "class_name") : value);
    if (!value) return;
    for (uint32_t kind = 1; name && kind < FV_CONSTRAINT_COUNT; kind++) {
        if (strcmp(name, kinds[kind].class_name)) continue;
        *out = kind == FV_CONSTRAINT_MAX_NORM ? fv_max_norm_constraint(2) : kind == FV_CONSTRAINT_NON_NEG ? fv_non_neg_constraint()
               : kind == FV_CONSTRAINT_UNIT_NORM ? fv_unit_norm_constraint() : fv_min_max_norm_constraint(0, 1, 1);
        const char *const names[] = { kinds[kind].least, kinds[kind].most, kinds[kind].rate };
        for (int i = 0; i < 3; i++) {
            const json_t *number = names[i] ? json_object_get(config, names[i]) : NULL;
            if (json_is_number(number)) out->value[i] = (float)json_number_value(number);
        }
        if (kind != FV_CONSTRAINT_NON_NEG && !axes_from_keras(json_object_get(config, "axis"), role, &out->axes))
            fv_keras_fail(r, FV_ERROR_UNSUPPORTED, "the axes of constraint %s cannot be had here", name);
        return;
    }
    fv_keras_fail(r, FV_ERROR_UNSUPPORTED, "constraint '%.60s' is not supported", name ? name : "?");
}
