/* augment.c - the settings of augmentation: their defaults and ranges, in a table, and what they need of the data set. What
 * they do is recorded by train/feed.c as operations. */
#include "data/data.h"
#include <math.h>

bool fv_dataset_is_mask(const fv_shape *image, const fv_shape *array) {
    return image->rank == 4 && (array->rank == 3 || array->rank == 4) && array->dim[1] == image->dim[1] &&
           array->dim[2] == image->dim[2];
}

static void set_pair(float pair[2], float low, float high) {
    if (pair[0] != 0 || pair[1] != 0) return;
    pair[0] = low;
    pair[1] = high;
}

static void put_defaults(fv_augment_options *o) {
    if (o->scale[0] > 0 || o->scale[1] > 0) set_pair(o->ratio, 0.75f, 4.0f / 3);
    if (o->cutout > 0 && o->erase == 0) o->erase = 1;
    if (o->erase > 0) {
        set_pair(o->erase_scale, 0.02f, 0.33f);
        set_pair(o->erase_ratio, 0.3f, 3.3f);
    }
    if ((o->mixup > 0 || o->cutmix > 0) && o->mix_probability == 0) o->mix_probability = 1;
}

static int check_numbers(fv_context *context, const fv_augment_options *o) {
    const struct {
        const char *name;
        float value, least, most;
    } one[] = {
        { "rotation", o->rotation, 0, 360 }, { "shear", o->shear[0], 0, 80 }, { "shear", o->shear[1], 0, 80 },
        { "shift", o->shift[0], 0, 1 }, { "shift", o->shift[1], 0, 1 }, { "fill", o->fill, -1e30f, 1e30f },
        { "mask_fill", o->mask_fill, -1e9f, 1e9f }, { "border", (float)o->border, 0, FV_BORDER_REFLECT },
        { "brightness", o->brightness, 0, 100 }, { "contrast", o->contrast, 0, 100 },
        { "saturation", o->saturation, 0, 100 }, { "hue", o->hue, 0, 0.5f }, { "grey", o->grey, 0, 1 },
        { "erase", o->erase, 0, 1 }, { "cutout", (float)o->cutout, 0, 1 << 20 }, { "mixup", o->mixup, 0, 1000 },
        { "cutmix", o->cutmix, 0, 1000 }, { "mix_probability", o->mix_probability, 0, 1 },
    };
    const struct {
        const char *name;
        const float *pair;
        float least, most;
    } two[] = {
        { "scale", o->scale, 1e-6f, 1 }, { "ratio", o->ratio, 1e-3f, 1e3f }, { "zoom", o->zoom, 0.01f, 100 },
        { "erase_scale", o->erase_scale, 1e-6f, 1 }, { "erase_ratio", o->erase_ratio, 1e-3f, 1e3f },
    };
    for (size_t i = 0; i < sizeof one / sizeof *one; i++)
        if (!(one[i].value >= one[i].least && one[i].value <= one[i].most))
            return fv_fail(context, FV_ERROR_ARGUMENT, "fv_augment: %s is %g, which is not within %g..%g", one[i].name,
                           (double)one[i].value, (double)one[i].least, (double)one[i].most);
    for (size_t i = 0; i < sizeof two / sizeof *two; i++) {
        const float *p = two[i].pair;
        if (!(p[0] == 0 && p[1] == 0) && !(p[0] >= two[i].least && p[1] <= two[i].most && p[0] <= p[1]))
            return fv_fail(context, FV_ERROR_ARGUMENT, "fv_augment: %s is %g..%g, which does not rise within %g..%g",
                           two[i].name, (double)p[0], (double)p[1], (double)two[i].least, (double)two[i].most);
    }
    return FV_OK;
}

static int check_data(fv_context *context, const fv_dataset *set, const fv_augment_options *o) {
    const fv_shape *image = &set->input[0].shape;
    const int64_t channels = image->dim[3];
    char text[96];
    if (o->crop < 0 || o->crop > image->dim[1] || o->crop > image->dim[2])
        return fv_fail(context, FV_ERROR_ARGUMENT, "fv_augment: a crop of %d pixels does not fit images of %lld x %lld",
                       (int)o->crop, (long long)image->dim[1], (long long)image->dim[2]);
    const bool colored = o->brightness > 0 || o->contrast > 0 || o->saturation > 0 || o->hue > 0 || o->grey > 0;
    if (colored && channels != 1 && channels != 3)
        return fv_fail(context, FV_ERROR_SHAPE, "fv_augment: colours of images %s with neither 1 nor 3 channels",
                       fv_shape_text(image, text));
    if (!(o->mixup > 0 || o->cutmix > 0)) return FV_OK;
    if (set->input_count > 1)
        return fv_fail(context, FV_ERROR_ARGUMENT, "fv_augment: mixup and cutmix mix the images of a single input");
    for (int32_t i = 0; i < set->target_count; i++) {
        const fv_dataset_array *target = &set->target[i];
        const bool mask = fv_dataset_is_mask(image, &target->shape), numbers = target->type == FV_F32;
        if (mask && o->mixup > 0 && !numbers)
            return fv_fail(context, FV_ERROR_ARGUMENT,
                           "fv_augment: mixup cannot mix target %d %s of %s: use cutmix, or shares of classes as f32", (int)i,
                           fv_shape_text(&target->shape, text), fv_type_name(target->type));
        if (!mask && target->type == FV_I32 && set->classes < 1)
            return fv_fail(context, FV_ERROR_ARGUMENT, "fv_augment: mixed labels need the number of classes");
    }
    return FV_OK;
}

int fv_augment_with(fv_dataset *set, const fv_augment_options *given) {
    if (!set || !fv_ok(set->object.context)) return set ? set->object.context->status : FV_ERROR_ARGUMENT;
    fv_context *context = set->object.context;
    fv_augment_options options;
    if (fv_options_read(context, "fv_augment", &options, sizeof options, given)) return context->status;
    const fv_shape *shape = &set->input[0].shape;
    char text[96];
    if (shape->rank != 4)
        return fv_fail(context, FV_ERROR_SHAPE,
                       "fv_augment: input 0 is %s, but images have the axes [samples, height, width, channels]",
                       fv_shape_text(shape, text));
    put_defaults(&options);
    if (check_numbers(context, &options) || check_data(context, set, &options)) return context->status;
    options.struct_size = sizeof options;
    set->augment = options;
    return FV_OK;
}
