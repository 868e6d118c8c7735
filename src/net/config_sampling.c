/* config_sampling.c - layers that change the size of an image without weights, as Keras's configs and back. What is
 * Keras's class and has its options is written so that Keras reads it; the others are classes of our own. */
#include "net/config.h"
#include <string.h>

static const char *const interpolations[] = { [FV_NEAREST] = "nearest", [FV_BILINEAR] = "bilinear",
                                              [FV_BED_OF_NAILS] = "bed_of_nails" };
static const char *const corners[] = { [FV_HALF_PIXEL] = "half_pixel", [FV_ALIGN_CORNERS] = "align_corners",
                                       [FV_ASYMMETRIC] = "asymmetric" };

/* The number of a name in a list; leaves `otherwise` where the option is absent. */
static int read_name(fv_keras_reader *r, const char *key, const char *const *names, int count, int otherwise) {
    const json_t *value = fv_keras_value(r, key);
    const char *name = json_string_value(value);
    if (!value) return otherwise;
    for (int i = 0; name && i < count; i++)
        if (names[i] && !strcmp(names[i], name)) return i;
    fv_keras_fail(r, FV_ERROR_UNSUPPORTED, "%s '%.40s' is not supported", key, name ? name : "?");
    return otherwise;
}

static fv_interpolation read_interpolation(fv_keras_reader *r, fv_interpolation otherwise) {
    bool ours = !strncmp(r->class_name, "fovea>", 6);
    return (fv_interpolation)read_name(r, "interpolation", interpolations, ours ? FV_BED_OF_NAILS + 1 : FV_BED_OF_NAILS,
                                       (int)otherwise);
}

static fv_corners read_corners(fv_keras_reader *r) {
    return (fv_corners)read_name(r, "corners", corners, FV_ASYMMETRIC + 1, FV_HALF_PIXEL);
}

void fv_keras_read_adaptive_pool(fv_keras_reader *r, fv_layer_options *options) {
    fv_keras_pair(r, "output_size", options->adaptive_pool.output_hw);
    if (!fv_keras_value(r, "output_size")) fv_keras_fail(r, FV_ERROR_FORMAT, "option 'output_size' is missing");
}

void fv_keras_read_padding2d(fv_keras_reader *r, fv_layer_options *options) {
    static const char *const modes[] = { [FV_PAD_CONSTANT] = "Constant", [FV_PAD_REFLECT] = "Reflection",
                                         [FV_PAD_REPLICATE] = "Replication", [FV_PAD_CIRCULAR] = "Circular" };
    fv_padding2d_options *o = &options->padding;
    for (int mode = FV_PAD_CONSTANT; mode <= FV_PAD_CIRCULAR; mode++)
        if (!strncmp(r->class_name + 6, modes[mode], strlen(modes[mode]))) o->mode = (fv_pad_mode)mode;
    fv_keras_sides(r, "padding", 0, o->pad);
    fv_keras_float(r, "value", &o->value);
}

void fv_keras_read_cropping(fv_keras_reader *r, fv_layer_options *options) {
    fv_keras_sides(r, "cropping", r->sequence, options->cropping.crop); /* Keras's defaults */
}

void fv_keras_read_up_sampling(fv_keras_reader *r, fv_layer_options *options) {
    fv_up_sampling2d_options *o = &options->up_sampling;
    o->size_hw[0] = r->sequence ? 1 : 2;
    o->size_hw[1] = 2;
    fv_keras_pair(r, "size|length", o->size_hw);
    o->interpolation = read_interpolation(r, FV_NEAREST);
    o->corners = read_corners(r);
}

void fv_keras_read_resizing(fv_keras_reader *r, fv_layer_options *options) {
    fv_resizing_options *o = &options->resizing;
    fv_keras_int(r, "height", &o->height);
    fv_keras_int(r, "width", &o->width);
    o->interpolation = read_interpolation(r, FV_BILINEAR);
    o->corners = read_corners(r);
    if (o->height < 1 || o->width < 1)
        fv_keras_fail(r, FV_ERROR_FORMAT, "option 'height' or 'width' is missing or below 1");
}

void fv_keras_read_space_to_depth(fv_keras_reader *r, fv_layer_options *options) {
    fv_keras_int(r, "block", &options->space_to_depth.block);
    fv_keras_bool(r, "channel_major", &options->space_to_depth.channel_major);
}

void fv_keras_read_channel_shuffle(fv_keras_reader *r, fv_layer_options *options) {
    fv_keras_int(r, "groups", &options->channel_shuffle.groups);
}

json_t *fv_keras_write_sampling(const fv_layer *layer) {
    const fv_layer_options *o = &layer->options;
    bool ours = !strncmp(fv_layer_class_name(layer), "fovea>", 6);
    json_t *config = json_object();
    switch (layer->kind) {
    case FV_LAYER_ADAPTIVE_MAX_POOL2D:
    case FV_LAYER_ADAPTIVE_AVG_POOL2D:
        fv_json_put(&config, "output_size", fv_json_pair(o->adaptive_pool.output_hw));
        break;
    case FV_LAYER_PADDING2D:
        fv_json_put(&config, "padding", fv_json_sides(layer, o->padding.pad));
        if (o->padding.mode == FV_PAD_CONSTANT) fv_json_put(&config, "value", fv_json_float(o->padding.value));
        break;
    case FV_LAYER_CROPPING2D:
    case FV_LAYER_CROPPING1D:
        fv_json_put(&config, "cropping", fv_json_sides(layer, o->cropping.crop));
        break;
    case FV_LAYER_UP_SAMPLING1D: fv_json_put(&config, "size", json_integer(o->up_sampling.size_hw[1])); break;
    case FV_LAYER_UP_SAMPLING2D:
        fv_json_put(&config, "size", fv_json_pair(o->up_sampling.size_hw));
        fv_json_put(&config, "interpolation", json_string(interpolations[o->up_sampling.interpolation]));
        if (ours) fv_json_put(&config, "corners", json_string(corners[o->up_sampling.corners]));
        break;
    case FV_LAYER_RESIZING:
        fv_json_put(&config, "height", json_integer(o->resizing.height));
        fv_json_put(&config, "width", json_integer(o->resizing.width));
        fv_json_put(&config, "interpolation", json_string(interpolations[o->resizing.interpolation]));
        if (ours) fv_json_put(&config, "corners", json_string(corners[o->resizing.corners]));
        break;
    case FV_LAYER_SPACE_TO_DEPTH:
    case FV_LAYER_DEPTH_TO_SPACE:
        fv_json_put(&config, "block", json_integer(o->space_to_depth.block));
        fv_json_put(&config, "channel_major", json_boolean(o->space_to_depth.channel_major));
        break;
    case FV_LAYER_CHANNEL_SHUFFLE: fv_json_put(&config, "groups", json_integer(o->channel_shuffle.groups)); break;
    default: break;
    }
    return config;
}
