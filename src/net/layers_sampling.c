/* layers_sampling.c - layers that change the size of an image without weights: adaptive pooling, surroundings, cropping,
 * upsampling, resizing, blocks of pixels as channels; and the shuffle of channels. */
#include "net/net.h"
#include <string.h>

static const fv_shape *shape_of(const fv_recording *r, fv_value v) { return &fv_tape_value_of(r->tape, v)->shape; }

static int check_corners(const fv_net *net, const fv_layer *layer, fv_corners corners) {
    if (corners <= FV_ASYMMETRIC) return FV_OK;
    return fv_layer_fail(net, layer, FV_ERROR_ARGUMENT, "there is no way %d to place the corners", (int)corners);
}

/* ---- Adaptive pooling -------------------------------------------------------------------------------------------- */

int fv_build_adaptive_pool(fv_net *net, fv_layer *layer, const fv_shape *x, int32_t count) {
    fv_adaptive_pool2d_options *o = &layer->options.adaptive_pool;
    if (fv_layer_check_images(net, layer, x)) return FV_ERROR_SHAPE;
    fv_option_pair(o->output, o->output_hw, 1, o->output_hw);
    o->output = 0;
    return fv_layer_check_positive(net, layer, "output", o->output_hw);
}

fv_value fv_record_adaptive_pool(fv_recording *r, fv_layer *layer, const fv_value *inputs, int32_t count) {
    const fv_window window = { .output = { layer->options.adaptive_pool.output_hw[0],
                                           layer->options.adaptive_pool.output_hw[1] } };
    return layer->kind == FV_LAYER_ADAPTIVE_MAX_POOL2D ? fv_op_max_pool2d(r->tape, inputs[0], &window, NULL)
                                                       : fv_op_avg_pool2d(r->tape, inputs[0], &window);
}

/* ---- Surroundings and cropping ----------------------------------------------------------------------------------- */

int fv_build_padding(fv_net *net, fv_layer *layer, const fv_shape *x, int32_t count) {
    fv_padding2d_options *o = &layer->options.padding;
    if (fv_layer_check_images(net, layer, x)) return FV_ERROR_SHAPE;
    if ((unsigned)o->mode > FV_PAD_CIRCULAR)
        return fv_layer_fail(net, layer, FV_ERROR_ARGUMENT, "there is no mode %d", (int)o->mode);
    if (o->padding < 0)
        return fv_layer_fail(net, layer, FV_ERROR_ARGUMENT, "padding %d is not a number of pixels", (int)o->padding);
    return fv_layer_resolve_padding(net, layer, &o->padding, o->pad);
}

fv_value fv_record_padding(fv_recording *r, fv_layer *layer, const fv_value *inputs, int32_t count) {
    const fv_padding2d_options *o = &layer->options.padding;
    const int64_t before[FV_RANK] = { 0, o->pad[0], o->pad[2] }, after[FV_RANK] = { 0, o->pad[1], o->pad[3] };
    return fv_op_pad(r->tape, inputs[0], before, after, o->mode, o->value);
}

int fv_build_cropping(fv_net *net, fv_layer *layer, const fv_shape *x, int32_t count) {
    fv_cropping2d_options *o = &layer->options.cropping;
    bool per_side = false;
    if (fv_layer_check_images(net, layer, x)) return FV_ERROR_SHAPE;
    for (int side = 0; side < 4; side++) per_side |= o->crop[side] != 0;
    for (int side = 0; side < 4; side++) {
        if (!per_side) o->crop[side] = o->cropping;
        if (o->crop[side] < 0)
            return fv_layer_fail(net, layer, FV_ERROR_ARGUMENT, "crop of side %d is %d: less than nothing", side,
                                 (int)o->crop[side]);
    }
    o->cropping = 0;
    return FV_OK;
}

fv_value fv_record_cropping(fv_recording *r, fv_layer *layer, const fv_value *inputs, int32_t count) {
    const int32_t *crop = layer->options.cropping.crop;
    const fv_shape x = *shape_of(r, inputs[0]);
    int64_t begin[FV_RANK] = { 0, crop[0], crop[2] }, size[FV_RANK];
    memcpy(size, x.dim, sizeof size);
    size[1] -= (int64_t)crop[0] + crop[1];
    size[2] -= (int64_t)crop[2] + crop[3];
    return fv_op_slice(r->tape, inputs[0], begin, size);
}

/* ---- Other sizes ------------------------------------------------------------------------------------------------- */

int fv_build_up_sampling(fv_net *net, fv_layer *layer, const fv_shape *x, int32_t count) {
    fv_up_sampling2d_options *o = &layer->options.up_sampling;
    if (fv_layer_check_images(net, layer, x) || check_corners(net, layer, o->corners)) return FV_ERROR_SHAPE;
    fv_option_pair(o->size, o->size_hw, 2, o->size_hw);
    o->size = 0;
    if (o->interpolation == FV_INTERPOLATION_DEFAULT) o->interpolation = FV_NEAREST;
    if ((unsigned)o->interpolation > FV_BED_OF_NAILS)
        return fv_layer_fail(net, layer, FV_ERROR_ARGUMENT, "there is no interpolation %d", (int)o->interpolation);
    return fv_layer_check_positive(net, layer, "size", o->size_hw);
}

/* Zeros behind each row and each column: a padding of [n, h, 1, w, 1, c]. */
static fv_value bed_of_nails(fv_tape *tape, fv_value v, const int32_t size[2]) {
    const fv_shape x = fv_tape_value_of(tape, v)->shape;
    const int64_t *d = x.dim, apart[] = { d[0], d[1], 1, d[2], 1, d[3] }, none[FV_RANK] = { 0 },
                  after[] = { 0, 0, size[0] - 1, 0, size[1] - 1, 0 };
    v = fv_op_pad(tape, fv_op_reshape(tape, v, apart, 6), none, after, FV_PAD_CONSTANT, 0);
    return fv_op_reshape(tape, v, (const int64_t[]){ d[0], d[1] * size[0], d[2] * size[1], d[3] }, 4);
}

fv_value fv_record_up_sampling(fv_recording *r, fv_layer *layer, const fv_value *inputs, int32_t count) {
    const fv_up_sampling2d_options *o = &layer->options.up_sampling;
    if (o->interpolation == FV_BED_OF_NAILS) return bed_of_nails(r->tape, inputs[0], o->size_hw);
    int64_t size[2];
    for (int axis = 0; axis < 2; axis++)
        if (__builtin_mul_overflow(shape_of(r, inputs[0])->dim[1 + axis], o->size_hw[axis], &size[axis]))
            size[axis] = INT64_MAX; /* infer refuses it */
    return fv_op_resize(r->tape, inputs[0], size[0], size[1], o->interpolation, o->corners);
}

int fv_build_resizing(fv_net *net, fv_layer *layer, const fv_shape *x, int32_t count) {
    fv_resizing_options *o = &layer->options.resizing;
    if (fv_layer_check_images(net, layer, x) || check_corners(net, layer, o->corners)) return FV_ERROR_SHAPE;
    if (o->interpolation == FV_INTERPOLATION_DEFAULT) o->interpolation = FV_BILINEAR;
    if (o->interpolation != FV_NEAREST && o->interpolation != FV_BILINEAR)
        return fv_layer_fail(net, layer, FV_ERROR_ARGUMENT, "interpolation %d is neither nearest nor bilinear",
                             (int)o->interpolation);
    return fv_layer_check_positive(net, layer, "height x width", (const int32_t[]){ o->height, o->width });
}

fv_value fv_record_resizing(fv_recording *r, fv_layer *layer, const fv_value *inputs, int32_t count) {
    const fv_resizing_options *o = &layer->options.resizing;
    return fv_op_resize(r->tape, inputs[0], o->height, o->width, o->interpolation, o->corners);
}

/* ---- Pixels and channels ----------------------------------------------------------------------------------------- */

int fv_build_space_to_depth(fv_net *net, fv_layer *layer, const fv_shape *x, int32_t count) {
    fv_space_to_depth_options *o = &layer->options.space_to_depth;
    if (fv_layer_check_images(net, layer, x)) return FV_ERROR_SHAPE;
    if (!o->block) o->block = 2;
    return fv_layer_check_positive(net, layer, "block", (const int32_t[]){ o->block, o->block });
}

/* Both see [n, p, q, r, s, c]: pixel (r, s) of block (p, q). */
fv_value fv_record_space_to_depth(fv_recording *r, fv_layer *layer, const fv_value *inputs, int32_t count) {
    const fv_space_to_depth_options *o = &layer->options.space_to_depth;
    const fv_shape x = *shape_of(r, inputs[0]);
    const int64_t *d = x.dim, block = o->block;
    bool back = layer->kind == FV_LAYER_DEPTH_TO_SPACE;
    if (back ? d[3] % (block * block) : d[1] % block || d[2] % block) {
        char text[96];
        fv_fail(r->net->object.context, FV_ERROR_SHAPE, "%s: layer %s%s (%s): the %s of %s are no multiple of %lld",
                r->root->name, r->prefix, layer->name, fv_layer_types[layer->kind].stem,
                back ? "channels" : "height and the width", fv_shape_text(&x, text),
                (long long)(back ? block * block : block));
        return (fv_value){0};
    }
    if (back) {
        const int64_t c = d[3] / (block * block);
        const int64_t major[] = { d[0], d[1], d[2], c, block, block }, minor[] = { d[0], d[1], d[2], block, block, c };
        fv_value v = fv_op_reshape(r->tape, inputs[0], o->channel_major ? major : minor, 6);
        v = fv_op_transpose(r->tape, v, o->channel_major ? (const int[]){ 0, 1, 4, 2, 5, 3 }
                                                         : (const int[]){ 0, 1, 3, 2, 4, 5 });
        return fv_op_reshape(r->tape, v, (const int64_t[]){ d[0], d[1] * block, d[2] * block, c }, 4);
    }
    const int64_t h = d[1] / block, w = d[2] / block;
    fv_value v = fv_op_reshape(r->tape, inputs[0], (const int64_t[]){ d[0], h, block, w, block, d[3] }, 6);
    v = fv_op_transpose(r->tape, v, o->channel_major ? (const int[]){ 0, 1, 3, 5, 2, 4 }
                                                     : (const int[]){ 0, 1, 3, 2, 4, 5 });
    return fv_op_reshape(r->tape, v, (const int64_t[]){ d[0], h, w, -1 }, 4);
}

int fv_build_channel_shuffle(fv_net *net, fv_layer *layer, const fv_shape *x, int32_t count) {
    const fv_channel_shuffle_options *o = &layer->options.channel_shuffle;
    if (x->rank < 2) return fv_layer_fail(net, layer, FV_ERROR_SHAPE, "its input has no axis beside the batch");
    int64_t channels = x->dim[x->rank - 1];
    if (o->groups >= 1 && channels % o->groups == 0) return FV_OK;
    return fv_layer_fail(net, layer, FV_ERROR_ARGUMENT, "%d groups do not divide its %lld channels", (int)o->groups,
                         (long long)channels);
}

fv_value fv_record_channel_shuffle(fv_recording *r, fv_layer *layer, const fv_value *inputs, int32_t count) {
    const fv_shape x = *shape_of(r, inputs[0]);
    const int64_t groups = layer->options.channel_shuffle.groups;
    fv_value v = fv_op_reshape(r->tape, inputs[0], (const int64_t[]){ -1, groups, x.dim[x.rank - 1] / groups }, 3);
    return fv_op_reshape(r->tape, fv_op_transpose(r->tape, v, (const int[]){ 0, 2, 1 }), x.dim, x.rank);
}

/* ---- Names ------------------------------------------------------------------------------------------------------- */

const char *fv_sampling_class(const fv_layer *layer) {
    static const char *const paddings[] = {
        [FV_PAD_CONSTANT] = "fovea>ConstantPadding2D", [FV_PAD_REFLECT] = "fovea>ReflectionPadding2D",
        [FV_PAD_REPLICATE] = "fovea>ReplicationPadding2D", [FV_PAD_CIRCULAR] = "fovea>CircularPadding2D",
    };
    const fv_layer_options *o = &layer->options;
    if (layer->kind == FV_LAYER_PADDING2D && (unsigned)o->padding.mode <= FV_PAD_CIRCULAR)
        return paddings[o->padding.mode];
    if (layer->kind == FV_LAYER_UP_SAMPLING2D &&
        (o->up_sampling.interpolation == FV_BED_OF_NAILS || o->up_sampling.corners))
        return "fovea>UpSampling2D";
    if (layer->kind == FV_LAYER_RESIZING && o->resizing.corners) return "fovea>Resizing";
    return NULL;
}
