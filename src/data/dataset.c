/* dataset.c - making data sets from arrays or from a callback, their settings, and fetching samples on the host. A
 * set keeps its samples as they came (u8 stays u8): what happens to them is recorded as operations by those who
 * train. */
#include "data/data.h"
#include <math.h>
#include <string.h>
#include <sys/mman.h>

/* ---- Making ------------------------------------------------------------------------------------------------------ */

static void release(void *object) {
    fv_dataset *set = object;
    for (int i = 0; i < FV_DATASET_ARRAYS; i++) {
        if (set->input[i].device_bytes)
            fv_device_free(set->object.context, set->input[i].device, set->input[i].device_bytes);
        if (set->target[i].device_bytes)
            fv_device_free(set->object.context, set->target[i].device, set->target[i].device_bytes);
    }
    for (size_t i = 0; i < sizeof set->owned / sizeof *set->owned; i++) fv_free(set->owned[i]);
    for (size_t i = 0; i < sizeof set->mapped / sizeof *set->mapped; i++)
        if (set->mapped[i]) munmap(set->mapped[i], set->mapped_bytes[i]);
    for (int32_t i = 0; set->class_name && i < set->classes; i++) fv_free(set->class_name[i]);
    fv_free(set->class_name);
    fv_free(set->index);
    fv_free(set);
}

fv_dataset *fv_dataset_new(fv_context *context) {
    if (!fv_ok(context)) return NULL;
    fv_dataset *set = fv_alloc(context, 1, sizeof *set, "data set");
    if (set) fv_object_add(context, set, release);
    return set;
}

void fv_dataset_free(fv_dataset *set) {
    if (set) fv_object_free(set);
}

void fv_dataset_own(fv_dataset *set, void *memory) {
    for (size_t i = 0; i < sizeof set->owned / sizeof *set->owned; i++)
        if (!set->owned[i]) {
            set->owned[i] = memory;
            return;
        }
}

void fv_dataset_own_map(fv_dataset *set, void *address, size_t bytes) {
    for (size_t i = 0; i < sizeof set->mapped / sizeof *set->mapped; i++)
        if (!set->mapped[i]) {
            set->mapped[i] = address;
            set->mapped_bytes[i] = bytes;
            return;
        }
}

int fv_dataset_add(fv_dataset *set, bool target, fv_type type, const fv_shape *shape, const void *data) {
    int32_t *count = target ? &set->target_count : &set->input_count;
    if (*count == FV_DATASET_ARRAYS)
        return fv_fail(set->object.context, FV_ERROR_ARGUMENT, "data set: more than %d %s", FV_DATASET_ARRAYS,
                       target ? "targets" : "inputs");
    fv_dataset_array *array = (target ? set->target : set->input) + (*count)++;
    *array = (fv_dataset_array){ .type = type, .shape = *shape, .data = data };
    return FV_OK;
}

static int copy_class_names(fv_dataset *set, const char *const *names) {
    fv_context *context = set->object.context;
    set->class_name = fv_alloc(context, (size_t)set->classes, sizeof *set->class_name, "class names");
    for (int32_t i = 0; set->class_name && i < set->classes; i++)
        if (!(set->class_name[i] = fv_copy_string(context, names[i] ? names[i] : ""))) return context->status;
    return context->status;
}

bool fv_dataset_has_labels(const fv_dataset *set) {
    return set->target_count > 0 && set->target[0].type == FV_I32 && set->target[0].shape.rank == 1;
}

int fv_dataset_check_label(const fv_dataset *set, int64_t sample, int32_t label) {
    if (label < 0)
        return fv_fail(set->object.context, FV_ERROR_ARGUMENT, "data set: sample %lld has the negative label %d",
                       (long long)sample, (int)label);
    if (set->classes && label >= set->classes)
        return fv_fail(set->object.context, FV_ERROR_ARGUMENT,
                       "data set: sample %lld has label %d, but there are %d classes", (long long)sample, (int)label,
                       (int)set->classes);
    return FV_OK;
}

static int check_labels(fv_dataset *set) {
    const int32_t *label = set->target[0].data;
    int32_t highest = -1;
    for (int64_t i = 0; i < set->count; i++) {
        if (fv_dataset_check_label(set, i, label[i])) return set->object.context->status;
        if (label[i] > highest) highest = label[i];
    }
    if (!set->classes && highest == INT32_MAX)
        return fv_fail(set->object.context, FV_ERROR_ARGUMENT, "data set: label %d is too large", (int)highest);
    if (!set->classes) set->classes = highest + 1;
    return FV_OK;
}

static int check(fv_dataset *set, int32_t classes, const char *const *class_names) {
    fv_context *context = set->object.context;
    if (!set->input_count) return fv_fail(context, FV_ERROR_ARGUMENT, "data set: no input");
    if (classes < 0) return fv_fail(context, FV_ERROR_ARGUMENT, "data set: %d classes", (int)classes);
    set->count = set->input[0].shape.dim[0];
    if (set->count > INT32_MAX)
        return fv_fail(context, FV_ERROR_SHAPE, "data set: %lld samples, but at most %d can be numbered",
                       (long long)set->count, INT32_MAX);
    for (int i = 0; i < set->input_count + set->target_count; i++) {
        bool input = i < set->input_count;
        int number = input ? i : i - set->input_count;
        int64_t samples = (input ? set->input : set->target)[number].shape.dim[0];
        if (samples != set->count)
            return fv_fail(context, FV_ERROR_SHAPE, "data set: %s %d has %lld samples, but input 0 has %lld",
                           input ? "input" : "target", number, (long long)samples, (long long)set->count);
    }
    set->classes = classes;
    if (fv_dataset_has_labels(set) && set->target[0].data && check_labels(set)) return context->status;
    return class_names && set->classes ? copy_class_names(set, class_names) : FV_OK;
}

/* Pixels of u8 are taken to 0..1 unless the user says otherwise; numbers that are f32 already stay as they are. */
static void normalize_by_default(fv_dataset *set) {
    set->normalized = set->input[0].type == FV_U8;
    set->normalize = (fv_normalize_options){ .struct_size = sizeof set->normalize,
                                             .scale = set->normalized ? 1.0f / 255 : 1,
                                             .deviation = { 1, 1, 1, 1 } };
}

fv_dataset *fv_dataset_finish(fv_dataset *set, int32_t classes, const char *const *class_names) {
    if (!set) return NULL;
    if (check(set, classes, class_names)) {
        fv_object_free(set);
        return NULL;
    }
    normalize_by_default(set);
    return set;
}

/* ---- From arrays and from a callback ----------------------------------------------------------------------------- */

/* An array of the user's. samples < 0: dims has the sample axis and data the samples; else they come from a
 * callback. */
static int add_array(fv_dataset *set, bool target, int number, const fv_array *array, int64_t samples, bool borrow) {
    fv_context *context = set->object.context;
    bool callback = samples >= 0;
    char what[64];
    snprintf(what, sizeof what, "data set: %s %d", target ? "target" : "input", number);
    if (target ? array->type != FV_I32 && array->type != FV_F32
               : array->type != FV_U8 && array->type != FV_F32 && array->type != FV_I32)
        return fv_fail(context, FV_ERROR_ARGUMENT, "%s is of type %s; %s", what, fv_type_name(array->type),
                       target ? "targets are i32 labels or f32" : "inputs are u8, f32 or i32");
    int64_t dims[FV_RANK + 1] = { samples };
    int rank = array->rank + callback;
    if (array->rank < !callback || rank > FV_RANK)
        return fv_fail(context, FV_ERROR_SHAPE, "%s has %d axes; it needs 1 to %d, that of the samples included", what,
                       rank, FV_RANK);
    memcpy(dims + callback, array->dims, (size_t)array->rank * sizeof *dims);
    for (int i = 0; i < rank; i++)
        if (dims[i] < 1)
            return fv_fail(context, FV_ERROR_SHAPE, "%s: axis %d has size %lld", what, i, (long long)dims[i]);
    fv_shape shape;
    if (fv_shape_make(context, what, rank, dims, &shape)) return context->status;
    if (callback) return fv_dataset_add(set, target, array->type, &shape, NULL);
    if (!array->data) return fv_fail(context, FV_ERROR_ARGUMENT, "%s has no data", what);
    const void *data = array->data;
    if (!borrow) {
        size_t elements = (size_t)fv_shape_elements(&shape), size = fv_type_bytes(array->type);
        void *copy = fv_alloc(context, elements, size, what);
        if (!copy) return context->status;
        fv_dataset_own(set, copy);
        memcpy(copy, data, elements * size);
        data = copy;
    }
    return fv_dataset_add(set, target, array->type, &shape, data);
}

static int add_arrays(fv_dataset *set, bool target, const fv_array *arrays, int32_t count, int64_t samples,
                      bool borrow) {
    const char *what = target ? "target" : "input";
    if (count < 0 || count > FV_DATASET_ARRAYS || (count > 0 && !arrays))
        return fv_fail(set->object.context, FV_ERROR_ARGUMENT, "data set: %d %ss, of which 0 to %d are possible%s",
                       (int)count, what, FV_DATASET_ARRAYS, count > 0 && !arrays ? ", but no arrays are given" : "");
    for (int32_t i = 0; i < count; i++)
        if (add_array(set, target, i, &arrays[i], samples, borrow)) return set->object.context->status;
    return FV_OK;
}

fv_dataset *fv_dataset_from_memory(fv_context *context, const fv_memory_options *given) {
    fv_memory_options options;
    if (!fv_ok(context) || fv_options_read(context, "fv_dataset_from_memory", &options, sizeof options, given))
        return NULL;
    fv_dataset *set = fv_dataset_new(context);
    if (!set) return NULL;
    if (add_arrays(set, false, options.inputs, options.input_count, -1, options.borrow) ||
        add_arrays(set, true, options.targets, options.target_count, -1, options.borrow)) {
        fv_object_free(set);
        return NULL;
    }
    return fv_dataset_finish(set, options.classes, options.class_names);
}

fv_dataset *fv_dataset_from_callback(fv_context *context, const fv_callback_options *given) {
    fv_callback_options options;
    if (!fv_ok(context) || fv_options_read(context, "fv_dataset_from_callback", &options, sizeof options, given))
        return NULL;
    if (!options.fetch || options.samples < 1) {
        fv_fail(context, FV_ERROR_ARGUMENT, "fv_dataset_from_callback: %s",
                options.fetch ? "no samples" : "no callback");
        return NULL;
    }
    fv_dataset *set = fv_dataset_new(context);
    if (!set) return NULL;
    set->fetch = options.fetch;
    set->user = options.user;
    if (add_arrays(set, false, options.inputs, options.input_count, options.samples, false) ||
        add_arrays(set, true, options.targets, options.target_count, options.samples, false)) {
        fv_object_free(set);
        return NULL;
    }
    return fv_dataset_finish(set, options.classes, options.class_names);
}

/* ---- What it holds ----------------------------------------------------------------------------------------------- */

fv_dataset *fv_dataset_source(fv_dataset *set) { return set && set->whole ? set->whole : set; }

int64_t fv_dataset_count(const fv_dataset *set) { return set ? set->count : 0; }

int fv_dataset_classes(const fv_dataset *set) { return set ? set->classes : 0; }

int fv_dataset_shape(const fv_dataset *set, int input, int64_t dims[FV_RANK]) {
    if (!set || !dims) return FV_ERROR_ARGUMENT;
    if (input < 0 || input >= set->input_count)
        return fv_fail(set->object.context, FV_ERROR_ARGUMENT, "data set: there is no input %d, only %d", input,
                       (int)set->input_count);
    const fv_shape *shape = &set->input[input].shape;
    memcpy(dims, shape->dim, sizeof shape->dim);
    dims[0] = set->count;
    return shape->rank;
}

size_t fv_dataset_array_bytes(const fv_dataset_array *array) {
    int64_t elements = 1;
    for (int i = 1; i < array->shape.rank; i++) elements *= array->shape.dim[i];
    return (size_t)elements * fv_type_bytes(array->type);
}

/* ---- Settings ---------------------------------------------------------------------------------------------------- */

int fv_normalize_with(fv_dataset *set, const fv_normalize_options *given) {
    if (!set || !fv_ok(set->object.context)) return set ? set->object.context->status : FV_ERROR_ARGUMENT;
    fv_context *context = set->object.context;
    fv_normalize_options options;
    if (fv_options_read(context, "fv_normalize", &options, sizeof options, given)) return context->status;
    if (set->input[0].type != FV_U8 && set->input[0].type != FV_F32)
        return fv_fail(context, FV_ERROR_ARGUMENT,
                       "fv_normalize: input 0 is of type %s; only u8 and f32 can be normalised",
                       fv_type_name(set->input[0].type));
    options.struct_size = sizeof options;
    if (options.scale == 0) options.scale = set->input[0].type == FV_U8 ? 1.0f / 255 : 1;
    for (int c = 0; c < 4; c++) {
        if (options.deviation[c] == 0) options.deviation[c] = 1;
        if (!isfinite(options.mean[c]) || !isfinite(options.scale) || !(options.deviation[c] > 0) ||
            !isfinite(options.deviation[c]))
            return fv_fail(context, FV_ERROR_ARGUMENT,
                           "fv_normalize: channel %d: scale %g, mean %g, deviation %g; all must be "
                           "finite and the deviation positive",
                           c, (double)options.scale, (double)options.mean[c], (double)options.deviation[c]);
    }
    set->normalize = options;
    set->normalized = true;
    return FV_OK;
}

/* ---- Fetching ---------------------------------------------------------------------------------------------------- */

static void copy_samples(const fv_dataset_array *array, const int64_t *samples, int count, void *to) {
    size_t bytes = fv_dataset_array_bytes(array);
    for (int i = 0; to && i < count; i++)
        memcpy((char *)to + (size_t)i * bytes, (const char *)array->data + (size_t)samples[i] * bytes, bytes);
}

static int call_fetch(fv_dataset *set, const int64_t *samples, int count, void *const *inputs, void *const *targets) {
    fv_context *context = set->object.context;
    int status = set->fetch(set->user, samples, count, inputs, targets);
    if (!fv_ok(context)) /* the callback used the context and said more than its status can */
        return context->status;
    if (status) {
        fv_status named = status < 0 ? (fv_status)status : FV_ERROR_ARGUMENT;
        return fv_fail(context, named, "data set: its callback failed on samples %lld to %lld with status %d (%s)",
                       (long long)samples[0], (long long)samples[count - 1], status, fv_status_text(named));
    }
    const int32_t *label = fv_dataset_has_labels(set) && targets ? targets[0] : NULL;
    for (int i = 0; label && i < count; i++)
        if (fv_dataset_check_label(set, samples[i], label[i])) return context->status;
    return FV_OK;
}

int fv_dataset_fetch(fv_dataset *set, const int64_t *samples, int count, void *const *inputs, void *const *targets) {
    if (!set) return FV_ERROR_ARGUMENT;
    set = fv_dataset_source(set);
    for (int i = 0; i < count; i++)
        if (samples[i] < 0 || samples[i] >= set->count)
            return fv_fail(set->object.context, FV_ERROR_ARGUMENT, "data set: there is no sample %lld, only 0 to %lld",
                           (long long)samples[i], (long long)set->count - 1);
    if (count < 1) return FV_OK;
    if (set->fetch) return call_fetch(set, samples, count, inputs, targets);
    for (int32_t i = 0; inputs && i < set->input_count; i++) copy_samples(&set->input[i], samples, count, inputs[i]);
    for (int32_t i = 0; targets && i < set->target_count; i++)
        copy_samples(&set->target[i], samples, count, targets[i]);
    return FV_OK;
}
