/* feed.c - from a data set to the values of a tape: whole arrays that stay on the device and are gathered there, or
 * batches that are written before each run; augmentation and normalisation follow as operations, so they run where the
 * step runs. */
#include "train/train.h"
#include <math.h>
#include <string.h>

/* ---- Do the samples fit? ----------------------------------------------------------------------------------------- */

/* Shapes of one sample agree when they are equal but for axes of one element; 0 in the net's shape is a free size. */
static bool agree(const fv_shape *sample, const fv_shape *node) {
    int i = 1, j = 1;
    for (;;) {
        while (i < sample->rank && sample->dim[i] == 1) i++;
        while (j < node->rank && node->dim[j] == 1) j++;
        if (i >= sample->rank || j >= node->rank) break;
        if (node->dim[j] && node->dim[j] != sample->dim[i]) return false;
        i++, j++;
    }
    return i >= sample->rank && j >= node->rank;
}

static const char *sample_text(const fv_shape *shape, char buffer[96]) {
    fv_shape one = { .rank = shape->rank - 1 };
    for (int i = 0; i < one.rank; i++) one.dim[i] = shape->dim[i + 1];
    return fv_shape_text(&one, buffer);
}

int fv_feed_check(fv_net *net, fv_dataset *data, bool targets) {
    fv_context *context = net->object.context;
    if (!data) return fv_fail(context, FV_ERROR_ARGUMENT, "%s: no data set is given", net->name);
    if (data->object.context != context)
        return fv_fail(context, FV_ERROR_ARGUMENT, "%s: the data set belongs to another context", net->name);
    fv_dataset *source = fv_dataset_source(data);
    if (!net->output_count)
        return fv_fail(context, FV_ERROR_ARGUMENT, "%s: the net has no output: call fv_output", net->name);
    if (net->output_count > FV_DATASET_ARRAYS || net->input_count > FV_DATASET_ARRAYS)
        return fv_fail(context, FV_ERROR_ARGUMENT, "%s: more than %d inputs or outputs", net->name, FV_DATASET_ARRAYS);
    if (data->count < 1) return fv_fail(context, FV_ERROR_ARGUMENT, "%s: the data set is empty", net->name);
    if (source->input_count != net->input_count)
        return fv_fail(context, FV_ERROR_SHAPE, "%s: the net has %d inputs, but the samples have %d", net->name,
                       net->input_count, source->input_count);
    for (int32_t i = 0; i < net->input_count; i++) {
        const fv_net_node *node = &net->node[net->input[i]];
        char text[2][96];
        if (!agree(&source->input[i].shape, &node->shape))
            return fv_fail(context, FV_ERROR_SHAPE,
                           "%s: input %s takes samples of %s, but those of the data set are %s", net->name,
                           net->layer[node->layer].name, sample_text(&node->shape, text[0]),
                           sample_text(&source->input[i].shape, text[1]));
    }
    if (targets && source->target_count != net->output_count)
        return fv_fail(context, FV_ERROR_SHAPE, "%s: the net has %d outputs, but the data set has %d targets",
                       net->name, net->output_count, source->target_count);
    const fv_shape *output = &net->node[net->output[0]].shape;
    int64_t classes = output->rank > 1 ? output->dim[output->rank - 1] : 0;
    if (targets && source->target[0].type == FV_I32 && classes > 1 && source->classes > classes)
        return fv_fail(context, FV_ERROR_SHAPE, "%s: the data set has %d classes, but output %s gives %lld", net->name,
                       source->classes, net->layer[net->node[net->output[0]].layer].name, (long long)classes);
    return FV_OK;
}

/* ---- Recording --------------------------------------------------------------------------------------------------- */

static fv_value read_array(fv_tape *tape, const fv_dataset_array *array, bool resident, int32_t rows, fv_value samples,
                           fv_value *input) {
    int64_t dim[FV_RANK];
    memcpy(dim, array->shape.dim, sizeof dim);
    if (!resident) dim[0] = rows;
    *input = fv_op_input(tape, dim, array->shape.rank, array->type);
    return resident && input->id ? FV_APPLY(tape, FV_OP_gather_batch, NULL, *input, samples) : *input;
}

/* What flips, shifts and maps do to images, and to the masks that go with them. A mask of whole numbers takes the nearest
 * pixel, and has a value of its own for what lies outside. */
static fv_value move_pixels(fv_tape *tape, const fv_augment_options *o, bool mask, fv_value x, fv_value samples,
                            fv_value control) {
    const bool whole = fv_tape_value_of(tape, x)->type != FV_U8 && fv_tape_value_of(tape, x)->type != FV_F32;
    fv_attributes a;
    memset(&a, 0, sizeof a);
    a.warp = (fv_warp_attributes){
        .rotation = o->rotation,
        .shear = { o->shear[0], o->shear[1] },
        .shift = { o->shift[0], o->shift[1] },
        .zoom = { o->zoom[0], o->zoom[1] },
        .scale = { o->scale[0], o->scale[1] },
        .ratio = { o->ratio[0], o->ratio[1] },
        .fill = mask ? o->mask_fill : o->fill,
        .border = (int32_t)o->border,
        .nearest = o->nearest || (mask ? fv_tape_value_of(tape, x)->type != FV_F32 : whole),
    };
    if (o->rotation > 0 || o->shear[0] > 0 || o->shear[1] > 0 || o->shift[0] > 0 || o->shift[1] > 0 || o->zoom[1] > 0 ||
        o->scale[1] > 0)
        x = FV_APPLY(tape, FV_OP_warp, &a, x, samples, control);
    memset(&a, 0, sizeof a);
    a.random.crop = o->crop;
    a.random.rate = mask ? o->mask_fill : 0;
    if (o->crop > 0) x = FV_APPLY(tape, FV_OP_pad_crop, &a, x, samples, control);
    memset(&a, 0, sizeof a);
    if (o->flip) x = FV_APPLY(tape, FV_OP_flip, &a, x, samples, control);
    a.random.vertical = 1;
    return o->flip_vertical ? FV_APPLY(tape, FV_OP_flip, &a, x, samples, control) : x;
}

/* Changes of colour make f32 of bytes, in the same range. */
static fv_value change_colors(fv_tape *tape, const fv_dataset *data, fv_value x, fv_value samples, fv_value control) {
    const fv_augment_options *o = &data->augment;
    const float scale = data->normalized ? fabsf(data->normalize.scale) : 1;
    fv_attributes a;
    memset(&a, 0, sizeof a);
    a.color = (fv_color_attributes){ { o->brightness, o->contrast, o->saturation, o->hue }, o->grey, 255 };
    if (x.id && fv_tape_value_of(tape, x)->type != FV_U8) a.color.limit = scale > 0 ? 1 / scale : 1;
    if (o->brightness == 0 && o->contrast == 0 && o->saturation == 0 && o->hue == 0 && o->grey == 0) return x;
    return FV_APPLY(tape, FV_OP_color_jitter, &a, x, samples, control);
}

static fv_value erase_box(fv_tape *tape, const fv_augment_options *o, fv_value x, fv_value samples, fv_value control) {
    fv_attributes a;
    memset(&a, 0, sizeof a);
    a.erase = (fv_erase_attributes){ .probability = o->erase,
                                     .scale = { o->erase_scale[0], o->erase_scale[1] },
                                     .ratio = { o->erase_ratio[0], o->erase_ratio[1] },
                                     .size = o->cutout };
    return o->erase > 0 ? FV_APPLY(tape, FV_OP_erase, &a, x, samples, control) : x;
}

static bool mixes(const fv_augment_options *o) { return o->mixup > 0 || o->cutmix > 0; }
static fv_attributes mix_of(const fv_dataset *data) {
    const fv_augment_options *o = &data->augment;
    const fv_shape *image = &data->input[0].shape;
    fv_attributes a;
    memset(&a, 0, sizeof a);
    a.mix = (fv_mix_attributes){ .mixup = o->mixup,
                                 .cutmix = o->cutmix,
                                 .probability = o->mix_probability,
                                 .height = (int32_t)image->dim[1],
                                 .width = (int32_t)image->dim[2],
                                 .classes = data->classes };
    return a;
}

/* A target of the images' height and width follows their geometry; of others, the mixing of images makes shares: of the
 * classes, or where the net says yes or no with one number, of yes. */
static fv_value augment_target(fv_tape *tape, const fv_dataset *data, bool binary, fv_value t, fv_value samples,
                               fv_value control) {
    const fv_augment_options *o = &data->augment;
    const fv_shape *image = &data->input[0].shape;
    fv_shape shape = fv_tape_value_of(tape, t)->shape;
    if (fv_dataset_is_mask(image, &shape)) {
        if (o->leave_targets) return t;
        const int64_t maps[4] = { shape.dim[0], shape.dim[1], shape.dim[2], shape.rank == 4 ? shape.dim[3] : 1 };
        fv_attributes a = mix_of(data);
        if (shape.rank == 3) t = fv_op_reshape(tape, t, maps, 4);
        if (t.id) t = move_pixels(tape, o, true, t, samples, control);
        if (mixes(o)) t = FV_APPLY(tape, FV_OP_mix, &a, t, samples, control);
        return shape.rank == 3 ? fv_op_reshape(tape, t, shape.dim, 3) : t;
    }
    if (!mixes(o)) return t;
    fv_attributes a = mix_of(data), numbers;
    memset(&numbers, 0, sizeof numbers); /* a cast to f32 */
    if (fv_tape_value_of(tape, t)->type == FV_I32 && shape.rank == 2 && shape.dim[1] == 1)
        t = fv_op_reshape(tape, t, shape.dim, 1);
    if (binary && t.id && fv_tape_value_of(tape, t)->type == FV_I32) t = FV_APPLY(tape, FV_OP_cast, &numbers, t);
    return FV_APPLY(tape, FV_OP_mix_targets, &a, t, samples, control);
}

/* To the type that the net wants; pixels by the settings of the data set (input 0), else by 1/255. */
static fv_value convert(fv_tape *tape, const fv_dataset *data, int32_t index, fv_value x, fv_type wanted) {
    fv_type type = fv_tape_value_of(tape, x)->type;
    fv_attributes a;
    memset(&a, 0, sizeof a);
    if (wanted == FV_F32 && (index == 0 ? data->normalized : type == FV_U8)) {
        fv_normalize_options plain = { .scale = 1.0f / 255, .deviation = { 1, 1, 1, 1 } };
        const fv_normalize_options *o = index == 0 ? &data->normalize : &plain;
        a.normalize.scale = o->scale;
        memcpy(a.normalize.mean, o->mean, sizeof o->mean);
        memcpy(a.normalize.deviation, o->deviation, sizeof o->deviation);
        return FV_APPLY(tape, FV_OP_normalize, &a, x);
    }
    if (type == wanted) return x;
    a.cast.type = (int32_t)wanted;
    return FV_APPLY(tape, FV_OP_cast, &a, x);
}

/* Axes of one element may come or go: a free size of the net takes what the samples have. */
static fv_value fit_shape(fv_tape *tape, fv_value x, const fv_shape *node, int32_t rows) {
    fv_shape have = fv_tape_value_of(tape, x)->shape, want = *node;
    want.dim[0] = rows;
    for (int i = 1, j = 1; i < want.rank; i++) {
        while (want.dim[i] != 1 && j < have.rank && have.dim[j] == 1) j++;
        if (want.dim[i] == 0 && j < have.rank) want.dim[i] = have.dim[j];
        if (want.dim[i] != 1) j++;
    }
    return fv_shape_equal(&have, &want) ? x : fv_op_reshape(tape, x, want.dim, want.rank);
}

int fv_feed_record(fv_tape *tape, fv_net *net, fv_feed *feed, int32_t rows, fv_value samples, fv_value control,
                   fv_value *inputs, fv_value *targets) {
    const fv_dataset *data = feed->data, *source = fv_dataset_source(feed->data);
    fv_context *context = tape->object.context;
    fv_tape_label(tape, "batch");
    for (int32_t i = 0; i < net->input_count && fv_ok(context); i++) {
        const fv_net_node *node = &net->node[net->input[i]];
        fv_value x = read_array(tape, &source->input[i], feed->resident, rows, samples, &feed->input[i]);
        const bool augmented = i == 0 && control.id;
        if (augmented && x.id) x = move_pixels(tape, &data->augment, false, x, samples, control);
        if (augmented && x.id) x = change_colors(tape, data, x, samples, control);
        if (x.id) x = convert(tape, data, i, x, node->type);
        if (augmented && x.id) x = erase_box(tape, &data->augment, x, samples, control);
        fv_attributes mix = mix_of(data);
        if (augmented && x.id && mixes(&data->augment)) x = FV_APPLY(tape, FV_OP_mix, &mix, x, samples, control);
        inputs[i] = x.id ? fit_shape(tape, x, &node->shape, rows) : x;
    }
    for (int32_t i = 0; feed->targets && i < source->target_count && fv_ok(context); i++) {
        targets[i] = read_array(tape, &source->target[i], feed->resident, rows, samples, &feed->target[i]);
        const fv_shape *output = &net->node[net->output[i < net->output_count ? i : 0]].shape;
        const bool binary = output->rank < 2 || output->dim[output->rank - 1] == 1;
        if (control.id && targets[i].id) targets[i] = augment_target(tape, data, binary, targets[i], samples, control);
    }
    fv_tape_label(tape, NULL);
    return context->status;
}

/* ---- Running ----------------------------------------------------------------------------------------------------- */

int fv_feed_bind(fv_program *program, const fv_feed *feed) {
    const fv_dataset *source = fv_dataset_source(feed->data);
    int status = FV_OK;
    if (!feed->resident) return status;
    for (int32_t i = 0; i < FV_DATASET_ARRAYS && !status; i++) {
        if (feed->input[i].id) status = fv_bind(program, feed->input[i], source->input[i].device);
        if (!status && feed->target[i].id) status = fv_bind(program, feed->target[i], source->target[i].device);
    }
    return status;
}

enum { STAGED = 2 * FV_DATASET_ARRAYS };
_Static_assert(2 * STAGED <= FV_FEED_SLOTS, "a slot for each array and turn");

static int slot_of(const fv_staging *staging, int array) { return staging->turn * STAGED + array; }

static int stage(fv_program *program, const fv_staging *staging, fv_value value, int array, size_t bytes) {
    if (!value.id) return FV_OK;
    void *host = staging->host[staging->turn][array], *through = staging->through[staging->turn][array];
    return staging->ring ? fv_program_feed(program, value, slot_of(staging, array), through, host, bytes)
                         : fv_write(program, value, host, bytes);
}

/* What this turn's memory held must have been copied. */
static int next_turn(fv_staging *staging) {
    const fv_backend *backend = staging->context->backend;
    int status = FV_OK;
    if (!staging->ring) return status;
    staging->turn ^= 1;
    for (int i = 0; i < STAGED && !status; i++)
        if (staging->host[0][i]) status = backend->feed_wait(staging->context->device, slot_of(staging, i));
    return status;
}

int fv_feed_write(fv_program *program, const fv_feed *feed, fv_staging *staging, const int32_t *samples, int32_t rows) {
    if (feed->resident)
        return feed->samples.id ? fv_write(program, feed->samples, samples, sizeof *samples * (size_t)rows) : FV_OK;
    fv_dataset *source = fv_dataset_source(feed->data);
    for (int32_t i = 0; i < rows; i++) staging->number[i] = samples[i];
    int status = next_turn(staging);
    void **host = staging->host[staging->turn];
    if (!status) status = fv_dataset_fetch(source, staging->number, rows, host, host + FV_DATASET_ARRAYS);
    for (int32_t i = 0; i < FV_DATASET_ARRAYS && !status; i++) {
        size_t n = (size_t)rows;
        status = stage(program, staging, feed->input[i], i, n * fv_dataset_array_bytes(&source->input[i]));
        if (!status)
            status = stage(program, staging, feed->target[i], FV_DATASET_ARRAYS + i,
                           n * fv_dataset_array_bytes(&source->target[i]));
    }
    return status;
}

static int make_pinned(fv_staging *staging, int array, size_t bytes) {
    fv_context *context = staging->context;
    for (int turn = 0; turn < 2; turn++) {
        staging->host[turn][array] = context->backend->pinned_alloc(context->device, bytes);
        if (!staging->host[turn][array]) return fv_fail_memory(context, "a batch in pinned memory", bytes);
        staging->through[turn][array] = fv_device_alloc(context, bytes, "a batch on its way to the device");
        if (!staging->through[turn][array]) return context->status;
    }
    return FV_OK;
}

static int make_array(fv_staging *staging, int array, const fv_dataset_array *of, int32_t rows, const char *what) {
    const size_t bytes = staging->bytes[array] = (size_t)rows * fv_dataset_array_bytes(of);
    if (staging->ring) return make_pinned(staging, array, bytes);
    staging->host[0][array] = fv_alloc(staging->context, (size_t)rows, fv_dataset_array_bytes(of), what);
    return staging->context->status;
}

int fv_staging_make(fv_context *context, fv_staging *staging, const fv_feed *feed, int32_t rows) {
    *staging = (fv_staging){ .context = context };
    if (feed->resident) return FV_OK;
    staging->ring = context->backend->feed && context->backend->pinned_alloc;
    const fv_dataset *source = fv_dataset_source(feed->data);
    staging->number = fv_alloc(context, (size_t)rows, sizeof *staging->number, "the numbers of a batch");
    for (int32_t i = 0; i < source->input_count && fv_ok(context); i++)
        make_array(staging, i, &source->input[i], rows, "a batch of samples");
    for (int32_t i = 0; i < source->target_count && fv_ok(context); i++)
        make_array(staging, FV_DATASET_ARRAYS + i, &source->target[i], rows, "a batch of targets");
    return context->status;
}

void fv_staging_free(fv_staging *staging) {
    fv_context *context = staging->context;
    if (staging->ring) context->backend->sync(context->device);
    for (int turn = 0; turn < 2; turn++)
        for (int32_t i = 0; i < STAGED; i++) {
            if (staging->ring && staging->host[turn][i])
                context->backend->pinned_free(context->device, staging->host[turn][i]);
            else
                fv_free(staging->host[turn][i]);
            if (context) fv_device_free(context, staging->through[turn][i], staging->bytes[i]);
        }
    fv_free(staging->number);
    *staging = (fv_staging){ 0 };
}
