/* resampling.c - what another size of an image means. Pixel p of the result lies at the coordinate that fv_corners says,
 * moved into the image where it is outside. Nearest takes the pixel below coordinate + 1/2 (asymmetric: below the
 * coordinate), so that half pixels are PyTorch's nearest-exact and asymmetric ones its nearest; bilinear weighs the two
 * neighbours along each axis by their distance. */
#include "ops/family.h"
#include <math.h>

static const char form[] = "[batch, height, width, channels]";

static int check_attributes(fv_signature *s) {
    fv_resize_attributes *a = &s->attributes->resize;
    if (a->interpolation == FV_INTERPOLATION_DEFAULT) a->interpolation = FV_NEAREST;
    if (a->interpolation != FV_NEAREST && a->interpolation != FV_BILINEAR)
        return fv_op_fail(s, FV_ERROR_ARGUMENT, "interpolation %d is neither nearest nor bilinear", a->interpolation);
    FV_TRY(fv_check_range(s, "corners", a->corners, FV_HALF_PIXEL, FV_ASYMMETRIC));
    for (int axis = 0; axis < 2; axis++)
        FV_TRY(fv_check_range(s, axis ? "width" : "height", (double)a->output[axis], 1, INT32_MAX));
    return FV_OK;
}

/* Coordinates are fractions of products of two sizes. */
static int check_sizes(fv_signature *s, const fv_shape *x) {
    if (x->dim[1] <= INT32_MAX / 4 && x->dim[2] <= INT32_MAX / 4) return FV_OK;
    return fv_op_fail(s, FV_ERROR_SHAPE, "an image of %s is too large", FV_TEXT(x));
}

static int infer_resize(fv_signature *s) {
    const fv_resize_attributes *a = &s->attributes->resize;
    FV_TRY(fv_check_f32(s, FV_NAMES("input")));
    FV_TRY(fv_check_rank(s, 0, "input", 4, form));
    FV_TRY(check_attributes(s));
    FV_TRY(check_sizes(s, s->input[0]));
    const int64_t *x = s->input[0]->dim;
    return fv_set_output(s, 0, FV_F32, 4, (const int64_t[]){ x[0], a->output[0], a->output[1], x[3] });
}

static int infer_resize_gradient(fv_signature *s) {
    const fv_resize_attributes *a = &s->attributes->resize;
    FV_TRY(fv_check_f32(s, FV_NAMES("output's gradient")));
    FV_TRY(fv_check_rank(s, 0, "output's gradient", 4, form));
    FV_TRY(check_attributes(s));
    FV_TRY(fv_set_output(s, 0, FV_F32, 4, a->shape));
    const fv_shape x = s->output[0],
                   y = { 4, { x.dim[0], a->output[0], a->output[1], x.dim[3] } };
    for (int i = 0; i < 4; i++)
        if (x.dim[i] < 1) return fv_op_fail(s, FV_ERROR_SHAPE, "the input cannot have the shape %s", FV_TEXT(&x));
    FV_TRY(check_sizes(s, &x));
    return fv_check_shape(s, 0, "output's gradient", &y, "the output");
}

FV_GRADIENT(resize_gradient) {
    if (!wanted[0]) return FV_OK;
    const bool forward = tape->operation[operation].op == FV_OP_resize;
    const fv_shape x = *fv_shape_of(tape, fv_tape_input(tape, operation, 0));
    fv_attributes a = fv_attributes_of(tape, operation);
    for (int i = 0; i < 4; i++) a.resize.shape[i] = forward ? x.dim[i] : 0;
    input_gradient[0] = FV_APPLY(tape, forward ? FV_OP_resize_gradient : FV_OP_resize, &a, output_gradient[0]);
    return fv_tape_status(tape);
}

/* Bilinear: four products and sums a pixel of the larger side. */
static void cost_resize(const fv_signature *s, fv_cost *cost) {
    const fv_shape *y = s->op == FV_OP_resize ? &s->output[0] : s->input[0];
    cost->flops = s->attributes->resize.interpolation == FV_BILINEAR ? 8 * fv_cost_elements(y) : 0;
    cost->bytes = fv_cost_bytes(s);
}

FV_DESC(resize, resize, .infer = infer_resize, .gradient = resize_gradient, .cost = cost_resize);
FV_DESC(resize_gradient, resize, .infer = infer_resize_gradient, .gradient = resize_gradient, .cost = cost_resize);
