/* execute.c - a program on the CPU by plain loops. Tensors become dense doubles in the order of their dimensions; strides count only
 * when device memory is read or written; every value is rounded to its tensor's type, virtual ones too. */
#include "shadow.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int fake_type_size(cudnnDataType_t t) {
    return t == CUDNN_DATA_FLOAT ? 4 : t == CUDNN_DATA_BFLOAT16 || t == CUDNN_DATA_HALF ? 2 : 0;
}
/* f16 by hand: clang before 15 has no _Float16 on x86-64 */
static double from_half(uint16_t h) {
    int e = h >> 10 & 31, m = h & 1023;
    double v = e == 31 ? (m ? NAN : INFINITY) : e ? ldexp(1024 + m, e - 25) : ldexp(m, -24);
    return h & 0x8000 ? -v : v;
}
static uint16_t to_half(float f) {
    unsigned sign = signbit(f) ? 0x8000 : 0;
    double a = fabs((double)f);
    int e;
    if (isnan(f) || a >= 65520) return (uint16_t)(isnan(f) ? 0x7FFF : sign | 0x7C00);
    if (a < 0x1p-14) return (uint16_t)(sign | (unsigned)rint(a * 0x1p24));
    frexp(a, &e);
    return (uint16_t)(sign + ((unsigned)(e + 14) << 10) + (unsigned)rint(ldexp(a, 11 - e)) -
                      1024); /* a carry moves on to the exponent */
}
double fake_load(const void *base, int64_t i, cudnnDataType_t t) {
    if (t == CUDNN_DATA_FLOAT) {
        float f;
        memcpy(&f, (const char *)base + 4 * i, 4);
        return f;
    }
    uint16_t h;
    memcpy(&h, (const char *)base + 2 * i, 2);
    if (t == CUDNN_DATA_HALF) return from_half(h);
    uint32_t u = (uint32_t)h << 16;
    float f;
    memcpy(&f, &u, 4);
    return f;
}
void fake_store(void *base, int64_t i, cudnnDataType_t t, double v) {
    float f = (float)v;
    uint32_t u;
    memcpy(&u, &f, 4);
    if (t == CUDNN_DATA_FLOAT) {
        memcpy((char *)base + 4 * i, &f, 4);
        return;
    }
    uint16_t h = t == CUDNN_DATA_HALF ? to_half(f) : isnan(f) ? 0x7FFF : (uint16_t)((u + 0x7FFF + (u >> 16 & 1)) >> 16);
    memcpy((char *)base + 2 * i, &h, 2);
}

static int64_t count(const Tensor *t) {
    int64_t n = 1;
    for (int i = 0; i < t->dims; i++) n *= t->dim[i];
    return n;
}
static int64_t extent(const Tensor *t) {
    int64_t n = 1;
    for (int i = 0; i < t->dims; i++) n += (t->dim[i] - 1) * t->stride[i];
    return n;
}
/* offset of dense element i; with `as` the element of a tensor that broadcasts to `as` */
static int64_t place(const Tensor *t, const Tensor *as, int64_t i, int dense) {
    int64_t at = 0, step = 1;
    for (int d = t->dims - 1; d >= 0; d--) {
        int64_t c = i % as->dim[d];
        i /= as->dim[d];
        if (t->dim[d] > 1) at += c * (dense ? step : t->stride[d]);
        step *= t->dim[d];
    }
    return at;
}

int binding_ok(const Binding *b) {
    const Program *p = b->program;
    char who[64];
    int ok = 1;
    for (int t = 0; t < p->tensors; t++) {
        const Tensor *x = &p->tensor[t];
        if (x->is_virtual || x->by_value) continue;
        size_t n = (size_t)extent(x) * (size_t)fake_type_size(x->type);
        snprintf(who, sizeof who, "execute: tensor %lld", (long long)x->uid);
        ok &= fake_on_device(b->pointer[t], n, who);
        if (x->alignment && (uintptr_t)b->pointer[t] % (uintptr_t)x->alignment) {
            fake_complain("%s: address is not a multiple of %d", who, (int)x->alignment);
            ok = 0;
        }
        for (int u = 0; u <= p->tensors;
             u++) { /* what is written may overlap nothing else; index `tensors` is the workspace */
            if (u == t || (u < p->tensors && (p->tensor[u].is_virtual || p->tensor[u].by_value || !x->writers)))
                continue;
            const char *q = u < p->tensors ? b->pointer[u] : b->workspace;
            size_t m = u < p->tensors ? (size_t)extent(&p->tensor[u]) * (size_t)fake_type_size(p->tensor[u].type)
                                      : (size_t)b->workspace_size;
            if (m && q < (char *)b->pointer[t] + n && (char *)b->pointer[t] < q + m) {
                fake_complain("%s overlaps %s", who, u < p->tensors ? "another tensor" : "the workspace");
                ok = 0;
            }
        }
    }
    if (b->workspace_size) {
        ok &= fake_on_device(b->workspace, (size_t)b->workspace_size, "execute: workspace");
        if ((uintptr_t)b->workspace % 16) {
            fake_complain("execute: workspace is not 16-byte aligned");
            ok = 0;
        }
    }
    return ok;
}

static void convolve(const Program *p, const Operation *o, double **value, double *sum) {
    const Tensor *X = &p->tensor[o->x], *W = &p->tensor[o->b], *Y = &p->tensor[o->y];
    const double *x = value[o->x], *w = value[o->b], *y = value[o->y];
    int64_t C = X->dim[1], H = X->dim[2], V = X->dim[3], K = Y->dim[1], c1 = W->dim[1], R = W->dim[2], S = W->dim[3],
            per_group = K / (C / c1);
    for (int64_t yi = 0, n = 0; n < Y->dim[0]; n++)
        for (int64_t k = 0; k < K; k++)
            for (int64_t i = 0; i < Y->dim[2]; i++)
                for (int64_t j = 0; j < Y->dim[3]; j++, yi++)
                    for (int64_t c = 0; c < c1; c++)
                        for (int64_t r = 0; r < R; r++)
                            for (int64_t s = 0; s < S; s++) {
                                int64_t h = i * o->stride[0] - o->pad[0] + r * o->dilation[0],
                                        v = j * o->stride[1] - o->pad[1] + s * o->dilation[1];
                                if (h < 0 || h >= H || v < 0 || v >= V) continue;
                                int64_t xi = ((n * C + k / per_group * c1 + c) * H + h) * V + v,
                                        wi = ((k * c1 + c) * R + r) * S + s;
                                if (o->type == CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR)
                                    sum[yi] += x[xi] * w[wi];
                                else if (o->type == CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR)
                                    sum[xi] += y[yi] * w[wi];
                                else
                                    sum[wi] += x[xi] * y[yi];
                            }
}
static double point(const Operation *o, double x, double b) {
    switch ((int)o->mode) {
    case CUDNN_POINTWISE_ADD: return x + b;
    case CUDNN_POINTWISE_SUB: return x - b;
    case CUDNN_POINTWISE_MUL: return x * b;
    case CUDNN_POINTWISE_DIV: return x / b;
    case CUDNN_POINTWISE_MAX: return x > b ? x : b;
    case CUDNN_POINTWISE_MIN: return x < b ? x : b;
    case CUDNN_POINTWISE_RELU_FWD:
        return isnan(x) ? x : x > o->upper ? o->upper : x > o->lower ? x : o->lower + o->slope * (x - o->lower);
    case CUDNN_POINTWISE_RELU_BWD: return x > o->lower && x < o->upper ? b : o->slope * b; /* b is dy */
    case CUDNN_POINTWISE_SIGMOID_FWD: return 1 / (1 + exp(-x));
    case CUDNN_POINTWISE_TANH_FWD: return tanh(x);
    case CUDNN_POINTWISE_GELU_FWD: return 0.5 * x * (1 + erf(x / sqrt(2)));
    case CUDNN_POINTWISE_GELU_APPROX_TANH_FWD:
        return 0.5 * x * (1 + tanh(0.79788456080286535588 * (x + 0.044715 * x * x * x)));
    case CUDNN_POINTWISE_SWISH_FWD: return x / (1 + exp(-o->parameter * x));
    case CUDNN_POINTWISE_ELU_FWD: return x > 0 ? x : o->parameter * expm1(x);
    case CUDNN_POINTWISE_EXP: return exp(x);
    default: return x; /* identity; anything else was refused by program.c */
    }
}

void binding_run(void *binding) {
    Binding *b = binding;
    const Program *p = b->program;
    if (b->plan->dead) {
        fake_complain("execute: a replay uses a plan that was destroyed");
        return;
    }
    if (!binding_ok(b)) return; /* again: a replay may come after a free */
    if (b->workspace_size)
        memset(b->workspace, 0xA5, (size_t)b->workspace_size); /* nothing may live there between two calls */
    double *value[MAX_TENSORS] = { 0 };
    char done[MAX_OPS] = { 0 }, ready[MAX_TENSORS] = { 0 };
    for (int t = 0; t < p->tensors; t++) {
        const Tensor *x = &p->tensor[t];
        int64_t n = count(x);
        value[t] = calloc((size_t)n, sizeof(double));
        ready[t] = !x->writers;
        if (x->by_value)
            for (int64_t i = 0; i < n; i++) value[t][i] = b->value[t];
        else if (!x->is_virtual)
            for (int64_t i = 0; i < n; i++) value[t][i] = fake_load(b->pointer[t], place(x, x, i, 0), x->type);
    }
    for (int left = p->operations, moved = 1;
         left && moved;) { /* in the order that the tensors dictate, not that of the list */
        moved = 0;
        for (int i = 0; i < p->operations; i++) {
            const Operation *o = &p->operation[i];
            int conv = o->type <= CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR;
            int out = !conv || o->type == CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR ? o->y
                      : o->type == CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR  ? o->x
                                                                                                 : o->b;
            int in1 = out == o->x ? o->y : o->x, in2 = out == o->b ? o->y : o->b;
            if (done[i] || !ready[in1] || (in2 >= 0 && !ready[in2])) continue;
            const Tensor *T = &p->tensor[out];
            int64_t n = count(T);
            double *sum = calloc((size_t)n, sizeof *sum);
            if (conv) {
                convolve(p, o, value, sum);
                for (int64_t e = 0; e < n; e++)
                    sum[e] = o->alpha * (float)sum[e] + (o->beta != 0 ? o->beta * value[out][e] : 0);
            } else if (o->type == CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR) {
                const Tensor *X = &p->tensor[o->x];
                for (int64_t e = 0; e < count(X); e++) sum[place(T, X, e, 1)] += value[o->x][e];
            } else
                for (int64_t e = 0; e < n; e++)
                    sum[e] = point(o, o->alpha * value[o->x][place(&p->tensor[o->x], T, e, 1)],
                                   o->b < 0 ? 0 : o->alpha2 * value[o->b][place(&p->tensor[o->b], T, e, 1)]);
            for (int64_t e = 0; e < n; e++) {
                char cell[8];
                fake_store(cell, 0, T->type, sum[e]);
                value[out][e] = fake_load(cell, 0, T->type);
            }
            free(sum);
            ready[out] = done[i] = 1;
            left--;
            moved = 1;
        }
        if (!moved) fake_complain("execute: the graph has a cycle");
    }
    for (int t = 0; t < p->tensors; t++) {
        const Tensor *x = &p->tensor[t];
        if (!x->is_virtual && x->writers)
            for (int64_t i = 0, n = count(x); i < n; i++)
                fake_store(b->pointer[t], place(x, x, i, 0), x->type, value[t][i]);
        free(value[t]);
    }
}
