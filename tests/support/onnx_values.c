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

#define UNARY(name, op)  static void name(onnx_graph *g) { unary(g, FV_OP_##op); }
#define BINARY(name, op) static void name(onnx_graph *g) { binary(g, FV_OP_##op); }
UNARY(absolute, abs)
UNARY(relu, relu)
UNARY(sigmoid, sigmoid)
UNARY(sign, sign)
UNARY(hyperbolic_tangent, tanh)
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

static void same(onnx_graph *g) {
    const fv_value x = onnx_plain(g, 0);
    if (x.id) onnx_give(g, 0, FV_APPLY(g->tape, FV_OP_copy, NULL, x));
}

static void dropout(onnx_graph *g) {
    const onnx_tensor *train = onnx_has(g, 2) ? onnx_known(g, 2) : NULL, *ratio = onnx_has(g, 1) ? onnx_known(g, 1) : NULL;
    if (train && train->value[0] && !(ratio && ratio->value[0] == 0)) {
        onnx_cannot(g, "dropout draws ONNX's own random numbers");
        return;
    }
    if (g->node->output_count > 1) onnx_cannot(g, "dropout gives no mask");
    same(g);
}

static void constant(onnx_graph *g) {
    const onnx_attribute *a = onnx_attribute_of(g, "value");
    if (a && a->tensor && a->tensor->value) onnx_give_known(g, 0, a->tensor);
    else onnx_cannot(g, "a constant that is no tensor of numbers");
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
    static const struct { int onnx; fv_type type; } types[] = {
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
    { "Cast", cast },
    { "CastLike", cast },
    { "Constant", constant },
    { "Div", divide },
    { "Dropout", dropout },
    { "Identity", same },
    { "LogSoftmax", log_softmax },
    { "Mean", mean },
    { "Mul", multiply },
    { "Neg", negative },
    { "Reciprocal", reciprocal },
    { "Relu", relu },
    { "Sigmoid", sigmoid },
    { "Sign", sign },
    { "Softmax", softmax },
    { "Sub", subtract },
    { "Sum", sum },
    { "Tanh", hyperbolic_tangent },
    { NULL, NULL },
};
