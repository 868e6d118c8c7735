/* device.c - copies of a data set on the context's device. Data that fits stays there for the whole training, as it
 * is (u8 stays u8); where the device is the host itself nothing is copied at all. */
#include "data/data.h"

enum { CONVERTED = 1 << 15 }; /* elements turned into double at a time */

static bool lies_on_host(const fv_context *context) {
    return context->backend == &fv_backend_cpu || context->backend == &fv_backend_reference ||
           context->backend == &fv_backend_reference64;
}

static size_t element_bytes(const fv_context *context, fv_type type) {
    return type == FV_F32 ? context->backend->real_bytes : fv_type_bytes(type);
}

static size_t device_bytes(const fv_context *context, const fv_dataset_array *array) {
    return (size_t)fv_shape_elements(&array->shape) * element_bytes(context, array->type);
}

/* The kernels may read the host's array in place: nothing to convert, and aligned as its type asks. */
static bool readable_in_place(const fv_context *context, const fv_dataset_array *array) {
    size_t bytes = fv_type_bytes(array->type);
    return lies_on_host(context) && element_bytes(context, array->type) == bytes && (uintptr_t)array->data % bytes == 0;
}

/* Data may take half of what is free: the other half is for the programs that work on it. */
static bool fits(const fv_context *context, size_t bytes) {
    size_t room = SIZE_MAX, available = 0, total = 0;
    if (context->memory_limit)
        room = context->memory_limit > context->memory_used ? context->memory_limit - context->memory_used : 0;
    if (context->backend->memory) {
        context->backend->memory(context->device, &available, &total);
        if (available < room) room = available;
    }
    return bytes <= room / 2;
}

/* Waits for every copy: the staging memory is used again, and a borrowed array may go when the user likes. */
static int send(fv_context *context, void *to, const void *from, size_t bytes) {
    const fv_backend *backend = context->backend;
    int status = backend->upload(context->device, to, from, bytes);
    if (!status) status = backend->sync(context->device);
    return status ? fv_fail(context, status < 0 ? (fv_status)status : FV_ERROR_DEVICE,
                            "data set: copying to the device failed")
                  : FV_OK;
}

static int send_as_double(fv_context *context, double *to, const float *from, int64_t elements) {
    double *staging = fv_alloc(context, CONVERTED, sizeof *staging, "conversion of a data set");
    int status = staging ? FV_OK : FV_ERROR_MEMORY;
    for (int64_t done = 0; !status && done < elements; done += CONVERTED) {
        int64_t part = elements - done < CONVERTED ? elements - done : CONVERTED;
        for (int64_t i = 0; i < part; i++) staging[i] = (double)from[done + i];
        status = send(context, to + done, staging, (size_t)part * sizeof *staging);
    }
    fv_free(staging);
    return status;
}

static int upload(fv_context *context, fv_dataset_array *array) {
    if (readable_in_place(context, array)) {
        array->device = (void *)array->data; /* device_bytes stays 0: not ours to free; inputs are never written */
        return FV_OK;
    }
    size_t bytes = device_bytes(context, array);
    void *device = fv_device_alloc(context, bytes, "data set");
    if (!device) return context->status;
    array->device = device;
    array->device_bytes = bytes;
    return element_bytes(context, array->type) == fv_type_bytes(array->type)
               ? send(context, device, array->data, bytes)
               : send_as_double(context, device, array->data, fv_shape_elements(&array->shape));
}

static void drop(fv_context *context, fv_dataset_array *array) {
    if (array->device_bytes) fv_device_free(context, array->device, array->device_bytes);
    array->device = NULL;
    array->device_bytes = 0;
}

int fv_dataset_device(fv_dataset *set) {
    if (!set || !fv_ok(set->object.context)) return set ? set->object.context->status : FV_ERROR_ARGUMENT;
    fv_dataset *whole = fv_dataset_source(set);
    fv_context *context = whole->object.context;
    if (whole->fetch) return FV_ERROR_MEMORY;
    if (whole->input[0].device) return FV_OK;
    fv_dataset_array *array[2 * FV_DATASET_ARRAYS];
    int count = 0;
    size_t bytes = 0;
    for (int32_t i = 0; i < whole->input_count; i++) array[count++] = &whole->input[i];
    for (int32_t i = 0; i < whole->target_count; i++) array[count++] = &whole->target[i];
    for (int i = 0; i < count; i++)
        if (!readable_in_place(context, array[i]) &&
            __builtin_add_overflow(bytes, device_bytes(context, array[i]), &bytes))
            return FV_ERROR_MEMORY;
    if (bytes && !fits(context, bytes)) return FV_ERROR_MEMORY;
    int status = FV_OK;
    for (int i = 0; i < count && !status; i++) status = upload(context, array[i]);
    for (int i = 0; status && i < count; i++) drop(context, array[i]);
    if (status == FV_ERROR_MEMORY) /* streaming is the answer, so this is no error */
        fv_clear_error(context);
    return status;
}
