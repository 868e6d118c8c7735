/* onnx_values.c - ONNX's elementwise operators in Fovea's operations: arithmetic with broadcasting and functions of one
 * number. */
#include "support/onnx.h"
#include <math.h>
#include <string.h>

static void unary(onnx_graph *g, fv_op op) {
    const fv_value x = onnx_plain(g, 0);
    if (x.id) onnx_give(g, 0, FV_APPLY(g->tape, op, NULL, x));
}

static void binary(onnx_graph *g, fv_op op) {
    const fv_value a = onnx_plain(g, 0), b = onnx_plain(g, 1);
    if (a.id && b.id) onnx_give(g, 0, FV_APPLY(g->tape, op, NULL, a, b));
}

#define UNARY(name, op)                                                                                                \
    static void name(onnx_graph *g) { unary(g, FV_OP_##op); }
#define BINARY(name, op)                                                                                               \
    static void name(onnx_graph *g) { binary(g, FV_OP_##op); }
UNARY(absolute, abs)
UNARY(relu, relu)
UNARY(sigmoid, sigmoid)
UNARY(sign, sign)
UNARY(hyperbolic_tangent, tanh)
UNARY(exponential, exp)
UNARY(logarithm, log)
UNARY(root, sqrt)
UNARY(mish, mish)
UNARY(softplus, softplus)
UNARY(softsign, softsign)
UNARY(hard_swish, hard_swish)
BINARY(add, add)
BINARY(divide, div)
BINARY(multiply, mul)
BINARY(subtract, sub)

/* A number of times x, and a number more. */
static void linear(onnx_graph *g, double a, double b) {
    const fv_value x = onnx_plain(g, 0);
    if (x.id) onnx_give(g, 0, onnx_scaled(g, x, a, b));
}
static void negative(onnx_graph *g) { linear(g, -1, 0); }

static void reciprocal(onnx_graph *g) {
    const fv_value x = onnx_plain(g, 0);
    if (x.id) onnx_give(g, 0, fv_op_div(g->tape, fv_op_scalar(g->tape, 1), x));
}

/* Any number of inputs, joined by one operation. */
static fv_value folded(onnx_graph *g, fv_op op) {
    fv_value y = onnx_plain(g, 0);
    for (int i = 1; y.id && i < g->node->input_count; i++) {
        const fv_value x = onnx_plain(g, i);
        y = x.id ? FV_APPLY(g->tape, op, NULL, y, x) : x;
    }
    return y;
}

static void sum(onnx_graph *g) { onnx_give(g, 0, folded(g, FV_OP_add)); }
static void mean(onnx_graph *g) {
    const fv_value y = folded(g, FV_OP_add);
    if (y.id) onnx_give(g, 0, onnx_scaled(g, y, 1.0 / g->node->input_count, 0));
}

static void maximum(onnx_graph *g) { onnx_give(g, 0, folded(g, FV_OP_maximum)); }
static void minimum(onnx_graph *g) { onnx_give(g, 0, folded(g, FV_OP_minimum)); }

/* ---- Activations ------------------------------------------------------------------------------------------------- */

static fv_value activated(onnx_graph *g, fv_op op, fv_value x, double alpha) {
    return FV_APPLY(g->tape, op, &(fv_attributes){ .activation = { (float)alpha } }, x);
}

static void leaky_relu(onnx_graph *g) {
    const fv_value x = onnx_plain(g, 0);
    if (x.id) onnx_give(g, 0, activated(g, FV_OP_leaky_relu, x, onnx_real(g, "alpha", 0.01)));
}

static void elu(onnx_graph *g) {
    const fv_value x = onnx_plain(g, 0);
    if (x.id) onnx_give(g, 0, activated(g, FV_OP_elu, x, onnx_real(g, "alpha", 1)));
}

/* Other numbers than the paper's: gamma elu(x, alpha). */
static void selu(onnx_graph *g) {
    const fv_value x = onnx_plain(g, 0);
    const bool own = onnx_attribute_of(g, "alpha") || onnx_attribute_of(g, "gamma");
    const double alpha = onnx_real(g, "alpha", 1.67326319217681884765625),
                 gamma = onnx_real(g, "gamma", 1.05070102214813232421875);
    if (!x.id) return;
    onnx_give(g, 0,
              own ? onnx_scaled(g, activated(g, FV_OP_elu, x, alpha), gamma, 0)
                  : FV_APPLY(g->tape, FV_OP_selu, NULL, x));
}

/* alpha elu(x / alpha) */
static void celu(onnx_graph *g) {
    const fv_value x = onnx_plain(g, 0);
    const double alpha = onnx_real(g, "alpha", 1);
    if (x.id) onnx_give(g, 0, onnx_scaled(g, activated(g, FV_OP_elu, onnx_scaled(g, x, 1 / alpha, 0), 1), alpha, 0));
}

static void gelu(onnx_graph *g) {
    unary(g, strcmp(onnx_text(g, "approximate", "none"), "tanh") ? FV_OP_gelu : FV_OP_gelu_tanh);
}

/* silu(alpha x) / alpha */
static void swish(onnx_graph *g) {
    const fv_value x = onnx_plain(g, 0);
    const double alpha = onnx_real(g, "alpha", 1);
    if (x.id)
        onnx_give(g, 0, onnx_scaled(g, FV_APPLY(g->tape, FV_OP_silu, NULL, onnx_scaled(g, x, alpha, 0)), 1 / alpha, 0));
}

static fv_value clamped(onnx_graph *g, fv_value x, double low, double high) {
    const fv_attributes a = { .clamp = { (float)low, (float)high } };
    return FV_APPLY(g->tape, FV_OP_clamp, &a, x);
}

/* ONNX's has a slope of its own: Fovea's own slope of 1/6 is its HardSwish's. */
static void hard_sigmoid(onnx_graph *g) {
    const fv_value x = onnx_plain(g, 0);
    if (x.id)
        onnx_give(g, 0, clamped(g, onnx_scaled(g, x, onnx_real(g, "alpha", 0.2), onnx_real(g, "beta", 0.5)), 0, 1));
}

/* Before opset 7 a list of slopes belonged to axis 1. */
static void prelu(onnx_graph *g) {
    const fv_value x = onnx_plain(g, 0);
    fv_value slope = onnx_plain(g, 1);
    if (!x.id || !slope.id) return;
    const fv_shape *s = onnx_shape(g, slope);
    const int rank = onnx_shape(g, x)->rank - 1;
    if (g->model->opset < 7 && s->rank == 1 && s->dim[0] > 1) {
        const int64_t dims[FV_RANK] = { s->dim[0], 1, 1, 1, 1, 1 };
        slope = onnx_reshaped(g, slope, rank, dims);
    }
    onnx_give(g, 0, FV_APPLY(g->tape, FV_OP_prelu, NULL, x, slope));
}

/* A bound that is not given is none; where low is above high, high wins. */
static void clip(onnx_graph *g) {
    const fv_value x = onnx_plain(g, 0);
    const onnx_tensor *least = onnx_has(g, 1) ? onnx_known(g, 1) : NULL,
                      *most = onnx_has(g, 2) ? onnx_known(g, 2) : NULL;
    double low = onnx_real(g, "min", -INFINITY);
    const double high = most ? most->value[0] : onnx_real(g, "max", INFINITY);
    if (least) low = least->value[0];
    if (x.id) onnx_give(g, 0, clamped(g, x, low < high ? low : high, high));
}

/* ---- Comparisons: 1 or 0, as ONNX's bool ------------------------------------------------------------------------- */

static void compare(onnx_graph *g, fv_op op, bool turned) {
    const fv_value a = onnx_number(g, turned), b = onnx_number(g, !turned);
    if (a.id && b.id) onnx_give(g, 0, FV_APPLY(g->tape, op, NULL, a, b));
}
#define COMPARISON(name, op, turned)                                                                                   \
    static void name(onnx_graph *g) { compare(g, FV_OP_##op, turned); }
COMPARISON(equal, equal, false)
COMPARISON(less, less, false)
COMPARISON(less_or_equal, less_equal, false)
COMPARISON(greater, less, true)
COMPARISON(greater_or_equal, less_equal, true)
COMPARISON(both, mul, false)
COMPARISON(either, maximum, false)
COMPARISON(one_of_both, not_equal, false)

static void with_number(onnx_graph *g, fv_op op, fv_value x, double number) {
    if (x.id) onnx_give(g, 0, FV_APPLY(g->tape, op, NULL, x, fv_op_scalar(g->tape, (float)number)));
}
static void not_so(onnx_graph *g) { with_number(g, FV_OP_equal, onnx_number(g, 0), 0); }

static void is_nan(onnx_graph *g) {
    const fv_value x = onnx_plain(g, 0);
    if (x.id) onnx_give(g, 0, FV_APPLY(g->tape, FV_OP_not_equal, NULL, x, x));
}

static void is_infinite(onnx_graph *g) {
    const fv_value x = onnx_plain(g, 0);
    const bool below = onnx_integer(g, "detect_negative", 1), above = onnx_integer(g, "detect_positive", 1);
    if (!x.id) return;
    if (below && above)
        with_number(g, FV_OP_equal, FV_APPLY(g->tape, FV_OP_abs, NULL, x), INFINITY);
    else
        with_number(g, FV_OP_equal, x, below ? -INFINITY : INFINITY);
}

/* Where x is above the number: 1 (binarizer), or x (thresholded relu). */
static fv_value above(onnx_graph *g, fv_value x, double number) {
    return FV_APPLY(g->tape, FV_OP_less, NULL, fv_op_scalar(g->tape, (float)number), x);
}

static void binarizer(onnx_graph *g) {
    const fv_value x = onnx_plain(g, 0);
    if (x.id) onnx_give(g, 0, above(g, x, onnx_real(g, "threshold", 0)));
}

static fv_value chosen(onnx_graph *g, fv_value condition, fv_value a, fv_value b) {
    return FV_APPLY(g->tape, FV_OP_where, NULL, condition, a, b);
}

static void thresholded_relu(onnx_graph *g) {
    const fv_value x = onnx_plain(g, 0);
    if (x.id) onnx_give(g, 0, chosen(g, above(g, x, onnx_real(g, "alpha", 1)), x, fv_op_scalar(g->tape, 0)));
}

/* x - bias above lambda, x + bias below -lambda, else 0 */
static void shrink(onnx_graph *g) {
    const fv_value x = onnx_plain(g, 0);
    const double lambda = onnx_real(g, "lambd", 0.5), bias = onnx_real(g, "bias", 0);
    if (!x.id) return;
    const fv_value below = FV_APPLY(g->tape, FV_OP_less, NULL, x, fv_op_scalar(g->tape, (float)-lambda));
    const fv_value rest = chosen(g, below, onnx_scaled(g, x, 1, bias), fv_op_scalar(g->tape, 0));
    onnx_give(g, 0, chosen(g, above(g, x, lambda), onnx_scaled(g, x, 1, -bias), rest));
}

static void where(onnx_graph *g) {
    const fv_value condition = onnx_number(g, 0), a = onnx_number(g, 1), b = onnx_number(g, 2);
    if (condition.id && a.id && b.id) onnx_give(g, 0, chosen(g, condition, a, b));
}

fv_value onnx_power(onnx_graph *g, fv_value v, double exponent) {
    return FV_APPLY(g->tape, FV_OP_power, NULL, v, fv_op_scalar(g->tape, (float)exponent));
}

static void power(onnx_graph *g) {
    const fv_value a = onnx_plain(g, 0), b = onnx_number(g, 1);
    if (a.id && b.id) onnx_give(g, 0, FV_APPLY(g->tape, FV_OP_power, NULL, a, b));
}

static void same(onnx_graph *g) {
    const fv_value x = onnx_plain(g, 0);
    if (x.id) onnx_give(g, 0, FV_APPLY(g->tape, FV_OP_copy, NULL, x));
}

static void dropout(onnx_graph *g) {
    const onnx_tensor *train = onnx_has(g, 2) ? onnx_known(g, 2) : NULL,
                      *ratio = onnx_has(g, 1) ? onnx_known(g, 1) : NULL;
    if (train && train->value[0] && !(ratio && ratio->value[0] == 0)) {
        onnx_cannot(g, "dropout draws ONNX's own random numbers");
        return;
    }
    if (g->node->output_count > 1) onnx_cannot(g, "dropout gives no mask");
    same(g);
}

static void constant(onnx_graph *g) {
    const onnx_attribute *a = onnx_attribute_of(g, "value");
    if (a && a->tensor && a->tensor->value)
        onnx_give_known(g, 0, a->tensor);
    else
        onnx_cannot(g, "a constant that is no tensor of numbers");
}

/* Softmax and its like: along one axis, or before opset 13 along all axes from it on. */
static void along_axis(onnx_graph *g, fv_op op) {
    const fv_value x = onnx_plain(g, 0);
    if (!x.id) return;
    const fv_shape shape = *onnx_shape(g, x);
    const bool old = g->model->opset < 13;
    fv_attributes a = { .axis = { onnx_axis(g, "axis", old ? 1 : -1, shape.rank) } };
    if (!old || a.axis.axis == shape.rank - 1) {
        onnx_give(g, 0, FV_APPLY(g->tape, op, &a, x));
        return;
    }
    int64_t dims[2] = { 1, 1 };
    for (int i = 0; i < shape.rank; i++) dims[i >= a.axis.axis] *= shape.dim[i];
    a.axis.axis = 1;
    const fv_value y = FV_APPLY(g->tape, op, &a, onnx_reshaped(g, x, 2, dims));
    onnx_give(g, 0, onnx_reshaped(g, y, shape.rank, shape.dim));
}

static void softmax(onnx_graph *g) { along_axis(g, FV_OP_softmax); }
static void log_softmax(onnx_graph *g) { along_axis(g, FV_OP_log_softmax); }

static void cast(onnx_graph *g) {
    static const struct {
        int onnx;
        fv_type type;
    } types[] = {
        { ONNX_FLOAT, FV_F32 }, { ONNX_FLOAT16, FV_F16 }, { ONNX_BFLOAT16, FV_BF16 },
        { ONNX_UINT8, FV_U8 },  { ONNX_INT32, FV_I32 },
    };
    const fv_value x = onnx_typed(g, 0);
    const int to = strcmp(g->node->operator, "CastLike") ? (int)onnx_integer(g, "to", 0) : onnx_type(g, 1);
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (x.id && to == types[i].onnx) {
            onnx_give(g, 0, FV_APPLY(g->tape, FV_OP_cast, &(fv_attributes){ .cast = { types[i].type } }, x));
            return;
        }
    onnx_cannot(g, "a cast to type %d", to);
}

const onnx_operator onnx_value_operators[] = {
    { "Abs", absolute },
    { "Add", add },
    { "And", both },
    { "Binarizer", binarizer },
    { "Cast", cast },
    { "CastLike", cast },
    { "Celu", celu },
    { "Clip", clip },
    { "Constant", constant },
    { "Div", divide },
    { "Dropout", dropout },
    { "Elu", elu },
    { "Equal", equal },
    { "Exp", exponential },
    { "Gelu", gelu },
    { "Greater", greater },
    { "GreaterOrEqual", greater_or_equal },
    { "HardSigmoid", hard_sigmoid },
    { "HardSwish", hard_swish },
    { "Identity", same },
    { "IsInf", is_infinite },
    { "IsNaN", is_nan },
    { "LeakyRelu", leaky_relu },
    { "Less", less },
    { "LessOrEqual", less_or_equal },
    { "Log", logarithm },
    { "LogSoftmax", log_softmax },
    { "Max", maximum },
    { "Mean", mean },
    { "Min", minimum },
    { "Mish", mish },
    { "Mul", multiply },
    { "Neg", negative },
    { "Not", not_so },
    { "Or", either },
    { "PRelu", prelu },
    { "Pow", power },
    { "Reciprocal", reciprocal },
    { "Relu", relu },
    { "Selu", selu },
    { "Shrink", shrink },
    { "Sigmoid", sigmoid },
    { "Sign", sign },
    { "Softmax", softmax },
    { "Softplus", softplus },
    { "Softsign", softsign },
    { "Sqrt", root },
    { "Sub", subtract },
    { "Sum", sum },
    { "Swish", swish },
    { "Tanh", hyperbolic_tangent },
    { "ThresholdedRelu", thresholded_relu },
    { "Where", where },
    { "Xor", one_of_both },
    { NULL, NULL },
};
