/* program.c - from the shadow of an operation graph to a flat program, or to the reason why the executor refuses it. An attribute
 * that is not read here is refused, not ignored: a wrong result would cost more than a missing feature. */
#include "shadow.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#define REFUSE(...)                                                                                                    \
    do {                                                                                                               \
        if (!p->why_not[0]) snprintf(p->why_not, sizeof p->why_not, __VA_ARGS__);                                      \
        return -1;                                                                                                     \
    } while (0)

static double number(const Shadow *s, cudnnBackendAttributeName_t name, double otherwise) {
    const Attribute *a = shadow_get(s, name);
    return !a                              ? otherwise
           : a->type == CUDNN_TYPE_DOUBLE  ? *(double *)a->data
           : a->type == CUDNN_TYPE_FLOAT   ? *(float *)a->data
           : a->type == CUDNN_TYPE_INT64   ? (double)*(int64_t *)a->data
           : a->type == CUDNN_TYPE_BOOLEAN ? *(char *)a->data
                                           : *(int32_t *)a->data;
}
static int ints(const Shadow *s, cudnnBackendAttributeName_t name, int64_t *out, int64_t most) {
    const Attribute *a = shadow_get(s, name);
    if (!a || a->count > most) return 0;
    memcpy(out, a->data, (size_t)a->count * sizeof *out);
    return (int)a->count;
}
static int known(Program *p, const Shadow *s, const char *what, int n, ...) {
    for (const Attribute *a = s->attributes; a; a = a->next) {
        va_list v;
        va_start(v, n);
        int found = 0;
        for (int i = 0; i < n; i++) found |= va_arg(v, int) == (int)a->name;
        va_end(v);
        if (!found) REFUSE("%s: attribute %d is not modelled", what, a->name);
    }
    return 0;
}

/* A tensor is known by its uid; two descriptors may share one only if they say the same. */
static int tensor(Program *p, const Shadow *op, cudnnBackendAttributeName_t name, int written) {
    const Attribute *a = shadow_get(op, name);
    if (!a) return -1;
    const Shadow *s = a->descriptors[0];
    Tensor t = { 0 };
    if (known(p, s, "tensor", 9, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_ATTR_TENSOR_DATA_TYPE,
              CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_ATTR_TENSOR_STRIDES, CUDNN_ATTR_TENSOR_UNIQUE_ID,
              CUDNN_ATTR_TENSOR_IS_VIRTUAL, CUDNN_ATTR_TENSOR_IS_BY_VALUE, CUDNN_ATTR_TENSOR_VECTOR_COUNT,
              CUDNN_ATTR_TENSOR_REORDERING_MODE))
        return -1;
    if (number(s, CUDNN_ATTR_TENSOR_VECTOR_COUNT, 1) != 1 || number(s, CUDNN_ATTR_TENSOR_REORDERING_MODE, 0) != 0)
        REFUSE("tensor: vectorised or reordered layouts are not modelled");
    ints(s, CUDNN_ATTR_TENSOR_UNIQUE_ID, &t.uid, 1);
    ints(s, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, &t.alignment, 1);
    t.dims = ints(s, CUDNN_ATTR_TENSOR_DIMENSIONS, t.dim, MAX_DIMS);
    t.type = (cudnnDataType_t)number(s, CUDNN_ATTR_TENSOR_DATA_TYPE, -1);
    t.is_virtual = number(s, CUDNN_ATTR_TENSOR_IS_VIRTUAL, 0) != 0;
    t.by_value = number(s, CUDNN_ATTR_TENSOR_IS_BY_VALUE, 0) != 0;
    if (!t.dims || ints(s, CUDNN_ATTR_TENSOR_STRIDES, t.stride, MAX_DIMS) != t.dims)
        REFUSE("tensor %lld: more than %d dimensions", (long long)t.uid, MAX_DIMS);
    if (!fake_type_size(t.type)) REFUSE("tensor %lld: data type %d is not modelled", (long long)t.uid, t.type);
    int i = 0;
    while (i < p->tensors && p->tensor[i].uid != t.uid) i++;
    if (i == MAX_TENSORS) REFUSE("more than %d tensors", MAX_TENSORS);
    if (i < p->tensors) {
        Tensor c = p->tensor[i];
        c.writers = c.readers = 0;
        if (memcmp(&c, &t, sizeof t)) REFUSE("two different tensors share the uid %lld", (long long)t.uid);
    } else {
        p->tensor[i] = t;
        p->tensors++;
    }
    if (written && p->tensor[i].writers++) REFUSE("tensor %lld is written twice", (long long)t.uid);
    p->tensor[i].readers += !written;
    return i;
}

static int convolution(
    Program *p, const Shadow *op,
    Operation *o) { /* x is always the image, b the filter, y the response; which one is written depends on the type */
    static const struct {
        int type, x, w, y, d, alpha, beta;
    } A[] = { { CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X,
                CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y,
                CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA,
                CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA },
              { CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR,
                CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW,
                CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC,
                CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA },
              { CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR,
                CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W,
                CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC,
                CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA } };
    int k = op->type - A[0].type;
    if (known(p, op, "convolution", 6, A[k].x, A[k].w, A[k].y, A[k].d, A[k].alpha, A[k].beta)) return -1;
    if ((o->x = tensor(p, op, A[k].x, k == 2)) < 0 || (o->b = tensor(p, op, A[k].w, k == 1)) < 0 ||
        (o->y = tensor(p, op, A[k].y, k == 0)) < 0)
        return -1;
    o->alpha = number(op, A[k].alpha, 1);
    o->beta = number(op, A[k].beta, 0);
    const Shadow *d = shadow_get(op, A[k].d)->descriptors[0];
    int64_t post[2], type_ok = (cudnnDataType_t)number(d, CUDNN_ATTR_CONVOLUTION_COMP_TYPE, -1) == CUDNN_DATA_FLOAT;
    if (known(p, d, "convolution", 7, CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_ATTR_CONVOLUTION_CONV_MODE,
              CUDNN_ATTR_CONVOLUTION_DILATIONS, CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES,
              CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS,
              CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS))
        return -1;
    if (number(d, CUDNN_ATTR_CONVOLUTION_CONV_MODE, -1) != CUDNN_CROSS_CORRELATION || !type_ok)
        REFUSE("convolution: only cross-correlation computed in f32 is modelled");
    if (ints(d, CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, o->pad, 2) != 2 ||
        ints(d, CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, post, 2) != 2 ||
        ints(d, CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, o->stride, 2) != 2 ||
        ints(d, CUDNN_ATTR_CONVOLUTION_DILATIONS, o->dilation, 2) != 2)
        REFUSE("convolution: only two spatial dimensions are modelled");
    const Tensor *x = &p->tensor[o->x], *w = &p->tensor[o->b], *y = &p->tensor[o->y];
    if (x->dims != 4 || w->dims != 4 || y->dims != 4) REFUSE("convolution: only four-dimensional tensors are modelled");
    for (int i = 0; i < 2; i++) {
        int64_t out =
            (x->dim[2 + i] + o->pad[i] + post[i] - o->dilation[i] * (w->dim[2 + i] - 1) - 1) / o->stride[i] + 1;
        if (y->dim[2 + i] != out)
            REFUSE("convolution: output size %lld, the geometry says %lld", (long long)y->dim[2 + i], (long long)out);
    }
    if (x->dim[1] % w->dim[1] || w->dim[0] % (x->dim[1] / w->dim[1]) || y->dim[0] != x->dim[0] ||
        y->dim[1] != w->dim[0])
        REFUSE("convolution: channels, groups or batch do not agree");
    return 0;
}
static int pointwise(Program *p, const Shadow *op, Operation *o) {
    const Shadow *d = shadow_get(op, CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR)->descriptors[0];
    o->mode = (cudnnPointwiseMode_t)number(d, CUDNN_ATTR_POINTWISE_MODE, -1);
    int backward = o->mode >= CUDNN_POINTWISE_RELU_BWD && o->mode < CUDNN_POINTWISE_CMP_EQ;
    if (known(p, d, "pointwise", 7, CUDNN_ATTR_POINTWISE_MODE, CUDNN_ATTR_POINTWISE_MATH_PREC,
              CUDNN_ATTR_POINTWISE_RELU_LOWER_CLIP, CUDNN_ATTR_POINTWISE_RELU_UPPER_CLIP,
              CUDNN_ATTR_POINTWISE_RELU_LOWER_CLIP_SLOPE, CUDNN_ATTR_POINTWISE_ELU_ALPHA,
              CUDNN_ATTR_POINTWISE_SWISH_BETA))
        return -1;
    if (known(p, op, "pointwise", 8, CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, CUDNN_ATTR_OPERATION_POINTWISE_XDESC,
              backward ? CUDNN_ATTR_OPERATION_POINTWISE_DYDESC : CUDNN_ATTR_OPERATION_POINTWISE_BDESC,
              backward ? CUDNN_ATTR_OPERATION_POINTWISE_DXDESC : CUDNN_ATTR_OPERATION_POINTWISE_YDESC,
              CUDNN_ATTR_OPERATION_POINTWISE_ALPHA1, CUDNN_ATTR_OPERATION_POINTWISE_ALPHA2, -1, -1))
        return -1;
    switch ((int)o->mode) {
    case CUDNN_POINTWISE_ADD:
    case CUDNN_POINTWISE_MUL:
    case CUDNN_POINTWISE_SUB:
    case CUDNN_POINTWISE_DIV:
    case CUDNN_POINTWISE_MAX:
    case CUDNN_POINTWISE_MIN:
    case CUDNN_POINTWISE_IDENTITY:
    case CUDNN_POINTWISE_RELU_FWD:
    case CUDNN_POINTWISE_SIGMOID_FWD:
    case CUDNN_POINTWISE_TANH_FWD:
    case CUDNN_POINTWISE_EXP:
    case CUDNN_POINTWISE_ELU_FWD:
    case CUDNN_POINTWISE_GELU_FWD:
    case CUDNN_POINTWISE_GELU_APPROX_TANH_FWD:
    case CUDNN_POINTWISE_SWISH_FWD:
    case CUDNN_POINTWISE_RELU_BWD: break;
    default: REFUSE("pointwise mode %d is not modelled", o->mode);
    }
    o->x = tensor(p, op, CUDNN_ATTR_OPERATION_POINTWISE_XDESC, 0);
    o->b = tensor(p, op, backward ? CUDNN_ATTR_OPERATION_POINTWISE_DYDESC : CUDNN_ATTR_OPERATION_POINTWISE_BDESC, 0);
    o->y = tensor(p, op, backward ? CUDNN_ATTR_OPERATION_POINTWISE_DXDESC : CUDNN_ATTR_OPERATION_POINTWISE_YDESC, 1);
    o->alpha = number(op, CUDNN_ATTR_OPERATION_POINTWISE_ALPHA1, 1);
    o->alpha2 = number(op, CUDNN_ATTR_OPERATION_POINTWISE_ALPHA2, 1);
    o->lower = number(d, CUDNN_ATTR_POINTWISE_RELU_LOWER_CLIP, 0);
    o->upper = number(d, CUDNN_ATTR_POINTWISE_RELU_UPPER_CLIP, 1e300);
    o->slope = number(d, CUDNN_ATTR_POINTWISE_RELU_LOWER_CLIP_SLOPE, 0);
    o->parameter = number(
        d, o->mode == CUDNN_POINTWISE_ELU_FWD ? CUDNN_ATTR_POINTWISE_ELU_ALPHA : CUDNN_ATTR_POINTWISE_SWISH_BETA, 1);
    if (o->x < 0 || o->y < 0) REFUSE("pointwise: a tensor is missing");
    for (int side = 0; side < 2; side++) {
        int t = side ? o->b : o->x;
        if (t >= 0)
            for (int i = 0; i < p->tensor[o->y].dims; i++)
                if (p->tensor[t].dims != p->tensor[o->y].dims ||
                    (p->tensor[t].dim[i] != 1 && p->tensor[t].dim[i] != p->tensor[o->y].dim[i]))
                    REFUSE("pointwise: tensor %lld does not broadcast", (long long)p->tensor[t].uid);
    }
    return 0;
}
static int reduction(Program *p, const Shadow *op, Operation *o) {
    const Shadow *d = shadow_get(op, CUDNN_ATTR_OPERATION_REDUCTION_DESC)->descriptors[0];
    if (number(d, CUDNN_ATTR_REDUCTION_OPERATOR, -1) != CUDNN_REDUCE_TENSOR_ADD)
        REFUSE("reduction: only sums are modelled");
    if ((o->x = tensor(p, op, CUDNN_ATTR_OPERATION_REDUCTION_XDESC, 0)) < 0 ||
        (o->y = tensor(p, op, CUDNN_ATTR_OPERATION_REDUCTION_YDESC, 1)) < 0)
        return -1;
    o->b = -1;
    return 0;
}

Program *program_compile(const Shadow *graph) {
    Program *p = calloc(1, sizeof *p);
    p->refs = 1;
    const Attribute *ops = shadow_get(graph, CUDNN_ATTR_OPERATIONGRAPH_OPS);
    if (!ops || ops->count > MAX_OPS) {
        snprintf(p->why_not, sizeof p->why_not, "graph: no or more than %d operations", MAX_OPS);
        return p;
    }
    for (int64_t i = 0; i < ops->count; i++) {
        const Shadow *s = ops->descriptors[i];
        Operation *o = &p->operation[p->operations++];
        o->type = s->type;
        int bad = s->type >= CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR &&
                          s->type <= CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR
                      ? convolution(p, s, o)
                  : s->type == CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR ? pointwise(p, s, o)
                  : s->type == CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR ? reduction(p, s, o)
                                                                            : -1;
        if (bad) {
            if (!p->why_not[0])
                snprintf(p->why_not, sizeof p->why_not, "operation of descriptor type %d is not modelled", s->type);
            return p;
        }
    }
    for (int t = 0; t < p->tensors; t++)
        if (p->tensor[t].is_virtual && !p->tensor[t].writers)
            snprintf(p->why_not, sizeof p->why_not, "virtual tensor %lld is never written",
                     (long long)p->tensor[t].uid);
    return p;
}
void program_unref(Program *p) {
    if (p && !--p->refs) free(p);
}
