/* onnx_window.c - ONNX's operators on images (convolution, pooling, normalisation) in Fovea's operations. All work with
 * channels last; images of one axis are images of one row. */
#include "support/onnx.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Attributes of a window over the image `of`, for one row or for two axes; sizes is the kernel's extent. */
typedef struct window {
    int32_t kernel[2], stride[2], dilation[2], pad[4];
    int axes;
} window;

static void pair(const onnx_graph *g, const char *name, int axes, int32_t out[2]) {
    const onnx_attribute *a = onnx_attribute_of(g, name);
    out[0] = out[1] = 1;
    for (int i = 0; a && i < axes && i < a->count; i++) out[2 - axes + i] = (int32_t)a->list[i];
}

/* auto_pad: what ceil(in / stride) outputs need, the odd pixel after (SAME_UPPER) or before (SAME_LOWER). */
static void pad_same(window *w, const fv_shape *x, bool lower) {
    for (int i = 0; i < 2; i++) {
        const int64_t in = x->dim[1 + i], out = (in + w->stride[i] - 1) / w->stride[i];
        const int64_t total = (out - 1) * w->stride[i] + w->dilation[i] * (w->kernel[i] - 1) + 1 - in;
        const int32_t all = total > 0 ? (int32_t)total : 0;
        w->pad[2 * i + lower] = all / 2;
        w->pad[2 * i + !lower] = all - all / 2;
    }
}

/* x: [n, h, w, c]; rank: ONNX's, which says over how many axes the window goes. */
static window window_of(onnx_graph *g, fv_value x, int rank, const int32_t kernel[2]) {
    window w = { .axes = rank - 2 };
    if (w.axes != 1 && w.axes != 2) return onnx_cannot(g, "a window over %d axes", w.axes), w;
    memcpy(w.kernel, kernel, sizeof w.kernel);
    pair(g, "strides", w.axes, w.stride);
    pair(g, "dilations", w.axes, w.dilation);
    const onnx_attribute *pads = onnx_attribute_of(g, "pads");
    for (int i = 0; pads && i < w.axes; i++) {
        const int side = 2 * (2 - w.axes + i);
        w.pad[side] = (int32_t)pads->list[i];
        w.pad[side + 1] = (int32_t)pads->list[w.axes + i];
    }
    const char *automatic = onnx_text(g, "auto_pad", "NOTSET");
    if (x.id && !strncmp(automatic, "SAME", 4)) pad_same(&w, onnx_shape(g, x), !strcmp(automatic, "SAME_LOWER"));
    return w;
}

static fv_conv_attributes conv_of(const onnx_graph *g, const window *w) {
    fv_conv_attributes c = { .groups = (int32_t)onnx_integer(g, "group", 1) };
    memcpy(c.stride, w->stride, sizeof c.stride);
    memcpy(c.dilation, w->dilation, sizeof c.dilation);
    memcpy(c.pad, w->pad, sizeof c.pad);
    return c;
}

static fv_value with_bias(onnx_graph *g, fv_value y, int input) {
    return onnx_has(g, input) && y.id ? fv_op_add(g->tape, y, onnx_plain(g, input)) : y;
}

static void conv(onnx_graph *g) {
    const fv_value x = onnx_last(g, 0), w = onnx_last(g, 1);
    if (!x.id || !w.id) return;
    const fv_shape *s = onnx_shape(g, w);
    const window at = window_of(g, x, onnx_rank(g, 0), (const int32_t[]){ (int32_t)s->dim[1], (int32_t)s->dim[2] });
    const fv_attributes a = { .conv = conv_of(g, &at) };
    onnx_give_last(g, 0, with_bias(g, FV_APPLY(g->tape, FV_OP_conv2d, &a, x, w), 2), onnx_rank(g, 0));
}

/* A transposed convolution is the data gradient of the convolution from its output to its input. */
static void conv_transpose(onnx_graph *g) {
    const fv_value x = onnx_last(g, 0), w = onnx_last(g, 1);
    if (!x.id || !w.id) return;
    const fv_shape in = *onnx_shape(g, x), kernel = *onnx_shape(g, w);
    window at = window_of(g, (fv_value){ 0 }, onnx_rank(g, 0),
                          (const int32_t[]){ (int32_t)kernel.dim[1], (int32_t)kernel.dim[2] });
    fv_attributes a = { .conv = conv_of(g, &at) };
    int32_t extra[2] = { 0, 0 };
    const onnx_attribute *shape = onnx_attribute_of(g, "output_shape");
    const bool same = !strncmp(onnx_text(g, "auto_pad", "NOTSET"), "SAME", 4);
    if (onnx_attribute_of(g, "output_padding")) pair(g, "output_padding", at.axes, extra);
    if (at.axes == 1) extra[0] = 0;
    for (int i = 0; i < 2; i++) {
        const int64_t whole =
            (in.dim[1 + i] - 1) * at.stride[i] + at.dilation[i] * (kernel.dim[1 + i] - 1) + 1 + extra[i];
        int64_t *const out = &a.conv.shape[1 + i];
        const int given = i - (2 - at.axes);
        *out = whole - at.pad[2 * i] - at.pad[2 * i + 1];
        if (!same && !(shape && given >= 0)) continue;
        *out = shape && given >= 0 ? shape->list[given] : in.dim[1 + i] * at.stride[i];
        const int32_t total = (int32_t)(whole - *out);
        const bool upper = !strcmp(onnx_text(g, "auto_pad", "NOTSET"), "SAME_UPPER");
        const int32_t before = total < 0 ? 0 : upper ? total / 2 : total - total / 2;
        a.conv.pad[2 * i] = before;
        a.conv.pad[2 * i + 1] = total < 0 ? 0 : total - before;
    }
    a.conv.shape[0] = in.dim[0];
    a.conv.shape[3] = kernel.dim[3] * a.conv.groups;
    onnx_give_last(g, 0, with_bias(g, FV_APPLY(g->tape, FV_OP_conv2d_data_gradient, &a, x, w), 2), onnx_rank(g, 0));
}

/* ---- Pooling ----------------------------------------------------------------------------------------------------- */

static bool pool_of(onnx_graph *g, fv_value x, fv_pool_attributes *p) {
    int32_t kernel[2];
    pair(g, "kernel_shape", onnx_rank(g, 0) - 2, kernel);
    const window w = window_of(g, x, onnx_rank(g, 0), kernel);
    *p = (fv_pool_attributes){ .ceil_mode = (int32_t)onnx_integer(g, "ceil_mode", 0) };
    memcpy(p->kernel, w.kernel, sizeof p->kernel);
    memcpy(p->stride, w.stride, sizeof p->stride);
    memcpy(p->pad, w.pad, sizeof p->pad);
    if (w.dilation[0] != 1 || w.dilation[1] != 1) onnx_cannot(g, "a pooling window with gaps");
    return !g->why[0];
}

/* ONNX numbers the elements of the whole tensor [n, c, h, w], Fovea the cells of an image. */
static fv_value whole_index(onnx_graph *g, fv_value cells, const fv_shape *x) {
    const int64_t n = x->dim[0], h = x->dim[1], w = x->dim[2], c = x->dim[3];
    float *first = calloc((size_t)(n * c), sizeof *first);
    for (int64_t i = 0; first && i < n * c; i++) first[i] = (float)(i * h * w);
    const fv_value start = first ? fv_op_constant(g->tape, (const int64_t[]){ n, 1, 1, c }, 4, first) : (fv_value){ 0 };
    free(first);
    const fv_value number = FV_APPLY(g->tape, FV_OP_cast, &(fv_attributes){ .cast = { FV_F32 } }, cells);
    return fv_op_add(g->tape, number, start);
}

static void max_pool(onnx_graph *g) {
    const fv_value x = onnx_last(g, 0);
    fv_attributes a = { 0 };
    if (!x.id || !pool_of(g, x, &a.pool)) return;
    const fv_shape shape = *onnx_shape(g, x);
    a.pool.flat = g->node->output_count > 1;
    if (onnx_integer(g, "storage_order", 0)) {
        onnx_cannot(g, "columns before rows");
        return;
    }
    const int32_t made = fv_tape_append(g->tape, FV_OP_max_pool2d, &a, &x, 1);
    if (made < 0) return;
    onnx_give_last(g, 0, fv_tape_output(g->tape, made, 0), onnx_rank(g, 0));
    if (a.pool.flat) onnx_give_last(g, 1, whole_index(g, fv_tape_output(g->tape, made, 1), &shape), onnx_rank(g, 0));
}

/* Back to the image that was pooled. Its size follows from the window, or is given: then the numbers are still those of
 * the former. */
static void max_unpool(onnx_graph *g) {
    const fv_value x = onnx_last(g, 0);
    const onnx_tensor *numbers = onnx_known(g, 1), *size = onnx_has(g, 2) ? onnx_known(g, 2) : NULL;
    fv_attributes a = { 0 };
    if (!x.id || !numbers || !pool_of(g, x, &a.pool)) return;
    const fv_shape s = *onnx_shape(g, x);
    a.pool.flat = 1;
    a.pool.shape[0] = s.dim[0], a.pool.shape[3] = s.dim[3];
    for (int i = 0; i < 2; i++)
        a.pool.shape[1 + i] =
            (s.dim[1 + i] - 1) * a.pool.stride[i] + a.pool.kernel[i] - a.pool.pad[2 * i] - a.pool.pad[2 * i + 1];
    const int64_t cells = a.pool.shape[1] * a.pool.shape[2];
    const fv_value index = onnx_last_index(g, 1, cells);
    if (!index.id) return;
    fv_value y = FV_APPLY(g->tape, FV_OP_max_pool2d_gradient, &a, index, x);
    fv_attributes around = { 0 };
    for (int i = 0; size && i < 2; i++) around.pad.after[1 + i] = (int64_t)size->value[2 + i] - a.pool.shape[1 + i];
    if (size) y = FV_APPLY(g->tape, FV_OP_pad, &around, y);
    onnx_give_last(g, 0, y, 4);
}

static void average_pool(onnx_graph *g) {
    const fv_value x = onnx_last(g, 0);
    fv_attributes a = { 0 };
    if (!x.id || !pool_of(g, x, &a.pool)) return;
    a.pool.exclude_padding = !onnx_integer(g, "count_include_pad", 0);
    onnx_give_last(g, 0, FV_APPLY(g->tape, FV_OP_avg_pool2d, &a, x), onnx_rank(g, 0));
}

/* The p-th root of the sum of |x|^p: an average of them, times the cells of a window. */
static void lp_pool(onnx_graph *g) {
    const fv_value x = onnx_last(g, 0);
    const double p = (double)onnx_integer(g, "p", 2);
    fv_attributes a = { 0 };
    if (!x.id || !pool_of(g, x, &a.pool)) return;
    const fv_value powers = onnx_power(g, FV_APPLY(g->tape, FV_OP_abs, NULL, x), p);
    const fv_value mean = FV_APPLY(g->tape, FV_OP_avg_pool2d, &a, powers);
    const fv_value sum = onnx_scaled(g, mean, (double)a.pool.kernel[0] * a.pool.kernel[1], 0);
    onnx_give_last(g, 0, onnx_power(g, sum, 1 / p), onnx_rank(g, 0));
}

static void global(onnx_graph *g, fv_op op) {
    const fv_value x = onnx_last(g, 0);
    const fv_attributes a = { .reduce = { .axes = 6, .keep_dims = 1 } };
    if (x.id) onnx_give_last(g, 0, FV_APPLY(g->tape, op, &a, x), onnx_rank(g, 0));
}

static void global_average_pool(onnx_graph *g) { global(g, FV_OP_mean); }
static void global_max_pool(onnx_graph *g) { global(g, FV_OP_max); }

/* ---- Resizing ---------------------------------------------------------------------------------------------------- */

/* The wanted size of each of the two axes from scales or sizes; false after onnx_cannot. */
static bool sizes_of(onnx_graph *g, const fv_shape *x, int scales_input, int64_t out[2]) {
    const bool scaled = onnx_has(g, scales_input);
    const onnx_tensor *given = onnx_known(g, scaled ? scales_input : scales_input + 1);
    const onnx_attribute *axes = onnx_attribute_of(g, "axes");
    const char *policy = onnx_text(g, "keep_aspect_ratio_policy", "stretch");
    double factor[2] = { 1, 1 };
    if (!given) return false;
    for (int i = 0; i < given->elements; i++) {
        const int64_t axis = axes ? axes->list[i] : i;
        if (axis >= 2) factor[axis - 2] = scaled ? given->value[i] : given->value[i] / (double)x->dim[axis - 1];
    }
    if (strcmp(policy, "stretch"))
        factor[0] = factor[1] = strcmp(policy, "not_larger") ? fmax(factor[0], factor[1]) : fmin(factor[0], factor[1]);
    for (int i = 0; i < 2; i++) {
        const double wanted = (double)x->dim[1 + i] * factor[i];
        out[i] = (int64_t)(scaled ? floor(wanted + 1e-9) : floor(wanted + 0.5));
        if (scaled && fabs(wanted - (double)out[i]) > 1e-6)
            return onnx_cannot(g, "a factor that is not output / input"), false;
    }
    return true;
}

/* Does a coordinate of the result lie half-way between two pixels? There ONNX looks down, Fovea up. */
static bool has_ties(const fv_shape *x, const fv_resize_attributes *a) {
    for (int axis = 0; axis < 2; axis++)
        for (int64_t p = 0; p < a->output[axis]; p++) {
            const int64_t n = x->dim[1 + axis], m = a->output[axis]; /* half pixels: (2 p + 1) n / (2 m) - 1 / 2 */
            if (a->corners == FV_HALF_PIXEL
                    ? (2 * p + 1) * n % (2 * m) == 0 && (2 * p + 1) * n / (2 * m) > 0 && (2 * p + 1) * n / (2 * m) < n
                    : m > 1 && 2 * p * (n - 1) % (2 * (m - 1)) == m - 1)
                return true;
        }
    return false;
}

static void resample(onnx_graph *g, int scales_input, const char *otherwise, const char *rounding) {
    const fv_value x = onnx_last(g, 0);
    const char *mode = onnx_text(g, "mode", "nearest"),
               *corners = onnx_text(g, "coordinate_transformation_mode", otherwise);
    const char *nearest = onnx_text(g, "nearest_mode", rounding);
    fv_attributes a = { .resize = { .interpolation = strcmp(mode, "nearest") ? FV_BILINEAR : FV_NEAREST } };
    if (!x.id) return;
    const fv_shape s = *onnx_shape(g, x);
    if (!strcmp(mode, "cubic")) onnx_cannot(g, "cubic interpolation");
    if (onnx_integer(g, "antialias", 0)) onnx_cannot(g, "antialiasing");
    if (!strcmp(corners, "align_corners"))
        a.resize.corners = FV_ALIGN_CORNERS;
    else if (!strcmp(corners, "asymmetric"))
        a.resize.corners = FV_ASYMMETRIC;
    else if (strcmp(corners, "half_pixel") && strcmp(corners, "pytorch_half_pixel"))
        onnx_cannot(g, "%s coordinates", corners);
    if (!sizes_of(g, &s, scales_input, a.resize.output)) return;
    if (!strcmp(corners, "pytorch_half_pixel") && (a.resize.output[0] < 2 || a.resize.output[1] < 2))
        onnx_cannot(g, "PyTorch's single pixel");
    if (a.resize.interpolation == FV_NEAREST) {
        const bool down = a.resize.corners == FV_ASYMMETRIC;
        if (strcmp(nearest, "floor") ? down || !strcmp(nearest, "ceil") : !down)
            onnx_cannot(g, "nearest by %s", nearest);
        if (!strcmp(nearest, "round_prefer_floor") && has_ties(&s, &a.resize))
            onnx_cannot(g, "half-way pixels go down");
    }
    if (!g->why[0]) onnx_give_last(g, 0, FV_APPLY(g->tape, FV_OP_resize, &a, x), 4);
}

static void resize(onnx_graph *g) { resample(g, 2, "half_pixel", "round_prefer_floor"); }
static void upsample(onnx_graph *g) { resample(g, 1, "asymmetric", "floor"); }

/* ---- Normalisation ----------------------------------------------------------------------------------------------- */

static void batch_normalization(onnx_graph *g) {
    const fv_value x = onnx_last(g, 0);
    fv_value input[5] = { x };
    const fv_attributes a = { .norm = { (float)onnx_real(g, "epsilon", 1e-5), (float)onnx_real(g, "momentum", 0.9),
                                        FV_LINEAR } };
    for (int i = 1; i < 5; i++)
        if (!(input[i] = onnx_plain(g, i)).id) return;
    if (!x.id) return;
    const bool train = onnx_integer(g, "training_mode", 0);
    const int32_t made = fv_tape_append(g->tape, train ? FV_OP_batch_norm_train : FV_OP_batch_norm_infer, &a, input, 5);
    if (made < 0) return;
    onnx_give_last(g, 0, fv_tape_output(g->tape, made, 0), onnx_rank(g, 0));
    for (int i = 1; train && i < 3; i++) onnx_give(g, i, fv_tape_output(g->tape, made, 2 + i));
}

/* ONNX divides alpha by size; windows of an even size lie one channel further on. */
static void lrn(onnx_graph *g) {
    const fv_value x = onnx_last(g, 0);
    const int32_t size = (int32_t)onnx_integer(g, "size", 0);
    const fv_attributes a = { .lrn = { size, (float)(onnx_real(g, "alpha", 1e-4) / size),
                                       (float)onnx_real(g, "beta", 0.75), (float)onnx_real(g, "bias", 1) } };
    if (size % 2 == 0)
        onnx_cannot(g, "an even number of channels");
    else if (x.id)
        onnx_give_last(g, 0, FV_APPLY(g->tape, FV_OP_lrn, &a, x), onnx_rank(g, 0));
}

const onnx_operator onnx_window_operators[] = {
    { "AveragePool", average_pool },
    { "BatchNormalization", batch_normalization },
    { "Conv", conv },
    { "ConvTranspose", conv_transpose },
    { "GlobalAveragePool", global_average_pool },
    { "GlobalMaxPool", global_max_pool },
    { "LRN", lrn },
    { "LpPool", lp_pool },
    { "MaxPool", max_pool },
    { "MaxUnpool", max_unpool },
    { "Resize", resize },
    { "Upsample", upsample },
    { NULL, NULL },
};
