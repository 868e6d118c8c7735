/* augment.c - augmentation of a batch: geometry, colours, erased boxes, mixtures. What is drawn for a sample, a function of
 * seed, epoch and sample number, stands in core/augment.h. No gradients: images want none. */
#include "ops/family.h"
#include <math.h>

enum { MOST_PIXELS = 1 << 20 }; /* along an axis: coordinates have 32 bits of fraction */

static int check_batch(fv_signature *s, const char *name) {
    FV_TRY(fv_check_type(s, 1, "sample numbers", FV_I32));
    FV_TRY(fv_check_rank(s, 1, "sample numbers", 1, "[batch]"));
    FV_TRY(fv_check_control(s, 2));
    if (s->input[1]->dim[0] == s->input[0]->dim[0]) return FV_OK;
    return fv_op_fail(s, FV_ERROR_SHAPE, "the sample numbers %s do not fit the %s %s", FV_TEXT(s->input[1]), name,
                      FV_TEXT(s->input[0]));
}

static int check_images(fv_signature *s) {
    FV_TRY(fv_check_rank(s, 0, "input", 4, "[batch, height, width, channels]"));
    for (int axis = 1; axis < 3; axis++) FV_TRY(fv_check_range(s, "height or width", (double)s->input[0]->dim[axis], 1, MOST_PIXELS));
    return check_batch(s, "input");
}

/* low .. high within least .. most; 0, 0 where nothing is asked for */
static int check_interval(fv_signature *s, const char *name, const float pair[2], double least, double most, bool optional) {
    if (optional && pair[0] == 0 && pair[1] == 0) return FV_OK;
    if (pair[0] >= least && pair[1] <= most && pair[0] <= pair[1]) return FV_OK;
    return fv_op_fail(s, FV_ERROR_ARGUMENT, "%s is %g..%g, which must rise within %g..%g", name, (double)pair[0],
                      (double)pair[1], least, most);
}

static int check_fill(fv_signature *s, float fill) {
    const bool sixteen = s->input_type[0] == FV_BF16 || s->input_type[0] == FV_F16;
    if (isfinite(fill) && !(sixteen && fill != 0)) return FV_OK;
    return fv_op_fail(s, FV_ERROR_ARGUMENT, "%s cannot be filled with %g", fv_type_name(s->input_type[0]), (double)fill);
}

/* rate: what lies outside a shifted image */
static int infer_flip(fv_signature *s) {
    FV_TRY(check_images(s));
    if (s->op == FV_OP_pad_crop) {
        FV_TRY(fv_check_range(s, "crop", s->attributes->random.crop, 0, INT32_MAX / 2));
        FV_TRY(check_fill(s, s->attributes->random.rate));
    }
    return fv_set_output_like(s, 0, s->input_type[0], s->input[0]);
}

static int infer_warp(fv_signature *s) {
    const fv_warp_attributes *a = &s->attributes->warp;
    FV_TRY(check_images(s));
    const fv_type type = s->input_type[0];
    if (!a->nearest && type != FV_U8 && type != FV_F32)
        return fv_op_fail(s, FV_ERROR_ARGUMENT, "pixels of %s can only be taken from the nearest", fv_type_name(type));
    FV_TRY(fv_check_range(s, "rotation", a->rotation, 0, 360));
    for (int i = 0; i < 2; i++) {
        FV_TRY(fv_check_range(s, "shear", a->shear[i], 0, 80));
        FV_TRY(fv_check_range(s, "shift", a->shift[i], 0, 1));
    }
    FV_TRY(check_interval(s, "zoom", a->zoom, 0.01, 100, true));
    FV_TRY(check_interval(s, "scale", a->scale, 1e-6, 1, true));
    if (a->scale[1] > 0) FV_TRY(check_interval(s, "ratio", a->ratio, 1e-3, 1e3, false));
    FV_TRY(fv_check_range(s, "border", a->border, FV_BORDER_FILL, FV_BORDER_REFLECT));
    FV_TRY(check_fill(s, a->fill));
    return fv_set_output_like(s, 0, type, s->input[0]);
}

static int infer_color(fv_signature *s) {
    const fv_color_attributes *a = &s->attributes->color;
    static const char *const names[] = { "brightness", "contrast", "saturation", "hue" };
    FV_TRY(check_images(s));
    if (s->input_type[0] != FV_U8) FV_TRY(fv_check_type(s, 0, "input", FV_F32));
    if (fv_last(s->input[0]) != 1 && fv_last(s->input[0]) != 3)
        return fv_op_fail(s, FV_ERROR_SHAPE, "the input %s must have 1 or 3 channels", FV_TEXT(s->input[0]));
    for (int i = 0; i < 4; i++) FV_TRY(fv_check_range(s, names[i], a->strength[i], 0, i == 3 ? 0.5 : 100));
    FV_TRY(fv_check_range(s, "grey", a->grey, 0, 1));
    if (!(a->limit > 0 && isfinite(a->limit)))
        return fv_op_fail(s, FV_ERROR_ARGUMENT, "limit is %g, it must be positive: the value of white", (double)a->limit);
    return fv_set_output_like(s, 0, FV_F32, s->input[0]);
}

static int infer_erase(fv_signature *s) {
    const fv_erase_attributes *a = &s->attributes->erase;
    FV_TRY(check_images(s));
    FV_TRY(fv_check_range(s, "probability", a->probability, 0, 1));
    FV_TRY(fv_check_range(s, "size", a->size, 0, MOST_PIXELS));
    if (!a->size) {
        FV_TRY(check_interval(s, "scale", a->scale, 1e-6, 1, false));
        FV_TRY(check_interval(s, "ratio", a->ratio, 1e-3, 1e3, false));
    }
    FV_TRY(check_fill(s, a->fill));
    return fv_set_output_like(s, 0, s->input_type[0], s->input[0]);
}

static int check_mix(fv_signature *s) {
    const fv_mix_attributes *a = &s->attributes->mix;
    FV_TRY(fv_check_range(s, "mixup", a->mixup, 0, 1000));
    FV_TRY(fv_check_range(s, "cutmix", a->cutmix, 0, 1000));
    return fv_check_range(s, "probability", a->probability, 0, 1);
}

static int infer_mix(fv_signature *s) {
    FV_TRY(check_images(s));
    FV_TRY(check_mix(s));
    if (s->attributes->mix.mixup > 0) FV_TRY(fv_check_type(s, 0, "input", FV_F32));
    return fv_set_output_like(s, 0, s->input_type[0], s->input[0]);
}

static int infer_mix_targets(fv_signature *s) {
    const fv_mix_attributes *a = &s->attributes->mix;
    const bool labels = s->input_type[0] == FV_I32;
    FV_TRY(fv_check_rank_least(s, 0, "target", 1));
    if (labels) FV_TRY(fv_check_rank(s, 0, "labels", 1, "[batch]"));
    else FV_TRY(fv_check_type(s, 0, "target", FV_F32));
    FV_TRY(check_batch(s, "target"));
    FV_TRY(check_mix(s));
    FV_TRY(fv_check_range(s, "height", a->height, 1, MOST_PIXELS));
    FV_TRY(fv_check_range(s, "width", a->width, 1, MOST_PIXELS));
    if (!labels) return fv_set_output_like(s, 0, FV_F32, s->input[0]);
    FV_TRY(fv_check_range(s, "classes", a->classes, 1, INT32_MAX));
    return fv_set_output(s, 0, FV_F32, 2, (const int64_t[]){ s->input[0]->dim[0], a->classes });
}

static void cost_warp(const fv_signature *s, fv_cost *cost) {
    fv_cost_moved(s, cost);
    if (!s->attributes->warp.nearest) cost->flops = 8 * fv_cost_elements(&s->output[0]);
}
static void cost_color(const fv_signature *s, fv_cost *cost) {
    *cost = (fv_cost){ .flops = 40 * fv_cost_elements(&s->output[0]), .bytes = fv_cost_bytes(s) };
}

FV_DESC(flip, random, .infer = infer_flip, .cost = fv_cost_moved);
FV_DESC(pad_crop, random, .infer = infer_flip, .cost = fv_cost_moved);
FV_DESC(warp, warp, .infer = infer_warp, .cost = cost_warp);
FV_DESC(color_jitter, color, .infer = infer_color, .cost = cost_color);
FV_DESC(erase, erase, .infer = infer_erase, .cost = fv_cost_moved);
FV_DESC(mix, mix, .infer = infer_mix);
FV_DESC(mix_targets, mix, .infer = infer_mix_targets);
