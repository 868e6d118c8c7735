/* context.c - life of a context: opening, closing, the record of the first error, the ring of owned objects, the log.
 * A context that failed to open has no device; it keeps its error for ever and everything called on it does nothing. */
#define _GNU_SOURCE
#include "core/core.h"
#include <hdf5.h>
#include <string.h>

/* ---- Names ------------------------------------------------------------------------------------------------------- */

static const struct {
    fv_status status;
    const char *name, *text;
} statuses[] = {
#define STATUS(name, number, text) { FV_ERROR_##name, #name, text },
    FV_STATUS_MAP(STATUS)
#undef STATUS
};

const char *fv_status_name(fv_status status) {
    for (size_t i = 0; i < sizeof(statuses) / sizeof(*statuses); i++)
        if (statuses[i].status == status) return statuses[i].name;
    return "UNKNOWN";
}

const char *fv_status_text(fv_status status) {
    for (size_t i = 0; i < sizeof(statuses) / sizeof(*statuses); i++)
        if (statuses[i].status == status) return statuses[i].text;
    return "unknown status";
}

#define TEXT_(x) #x
#define TEXT(x)  TEXT_(x)

const char *fv_version(void) { return TEXT(FV_VERSION_MAJOR) "." TEXT(FV_VERSION_MINOR) "." TEXT(FV_VERSION_PATCH); }

const char *fv_build_info(void) {
    return
#if defined(__clang__)
        "clang " __clang_version__
#elif defined(__GNUC__)
        "gcc " __VERSION__
#else
        "unknown compiler"
#endif
#if defined(__x86_64__)
        ", kernels for x86-64-v2, v3 (AVX2), v4 (AVX-512)"
#elif defined(__aarch64__)
        ", kernels for NEON"
#else
        ", generic kernels"
#endif
        ", HDF5 " TEXT(H5_VERS_MAJOR) "." TEXT(H5_VERS_MINOR) "." TEXT(
            H5_VERS_RELEASE) ", CUDA through the plugin libfovea-cuda.so"
#if defined(FV_DEBUG)
                             ", debug"
#endif
        ;
}

/* ---- Errors and the log ------------------------------------------------------------------------------------------ */

static void record(fv_context *context, fv_status status, const char *format, va_list arguments) {
    int length = vsnprintf(context->error, sizeof context->error, format, arguments);
    if (length >= (int)sizeof context->error) strcpy(context->error + sizeof context->error - 4, "...");
    context->status = status;
}

int fv_fail(fv_context *context, fv_status status, const char *format, ...) {
    if (status >= 0) status = FV_ERROR_INTERNAL;
    if (!context || context->status != FV_OK) return status;
    va_list arguments;
    va_start(arguments, format);
    record(context, status, format, arguments);
    va_end(arguments);
    return status;
}

const char *fv_error(const fv_context *context) {
    if (!context) return "out of memory: there is no context";
    return context->status == FV_OK ? NULL : context->error;
}

fv_status fv_error_status(const fv_context *context) { return context ? context->status : FV_ERROR_MEMORY; }

void fv_clear_error(fv_context *context) {
    if (!context || !context->device) return;
    context->status = FV_OK;
    context->error[0] = 0;
}

void fv_log(fv_context *context, const char *format, ...) {
    if (!context || !context->log) return;
    char line[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    context->log(context->log_user, line);
}

/* ---- What a backend is given ------------------------------------------------------------------------------------- */

static int host_fail(void *user, fv_status status, const char *format, ...) {
    fv_context *context = user;
    if (status >= 0) status = FV_ERROR_INTERNAL;
    if (context->status != FV_OK) return status;
    va_list arguments;
    va_start(arguments, format);
    record(context, status, format, arguments);
    va_end(arguments);
    return status;
}

static void host_log(void *user, const char *format, ...) {
    fv_context *context = user;
    if (!context->log) return;
    char line[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    context->log(context->log_user, line);
}

static void *host_alloc(void *user, size_t bytes, const char *what) { return fv_alloc(user, 1, bytes, what); }

void fv_context_prepare(fv_context *context) {
    context->objects.next = context->objects.previous = &context->objects;
    context->host =
        (fv_host){ .context = context, .fail = host_fail, .log = host_log, .alloc = host_alloc, .free = fv_free };
}

/* ---- Options ----------------------------------------------------------------------------------------------------- */

int fv_options_read(fv_context *context, const char *function, void *to, size_t to_size, const void *from) {
    memset(to, 0, to_size);
    if (!from) return FV_OK;
    size_t size = *(const size_t *)from; /* struct_size comes first in every option struct */
    if (size < sizeof(size_t))
        return fv_fail(context, FV_ERROR_ARGUMENT, "%s: struct_size of the options is not set", function);
    const unsigned char *bytes = from;
    for (size_t i = to_size; i < size; i++)
        if (bytes[i])
            return fv_fail(context, FV_ERROR_ARGUMENT,
                           "%s: the program sets an option that this library (%s) does not know: "
                           "it was compiled for a newer one",
                           function, fv_version());
    memcpy(to, from, size < to_size ? size : to_size);
    return FV_OK;
}

/* ---- Life -------------------------------------------------------------------------------------------------------- */

fv_context *fv_open_with(const fv_open_options *given) {
    fv_context *context = fv_alloc(NULL, 1, sizeof(fv_context), "context");
    if (!context) return NULL;
    fv_context_prepare(context);
    fv_open_options options;
    if (fv_options_read(context, "fv_open", &options, sizeof options, given)) return context;
    context->seed = options.seed;
    context->capture = !options.no_capture;
    context->memory_limit = options.memory_limit;
    context->log = options.log;
    context->log_user = options.log_user;
    int threads = fv_thread_count(context, options.threads);
    if (threads < 0) return context;
    context->threads = context->host.threads = threads;
    if (fv_backend_open(context, options.device)) return context;
    context->precision = options.precision;
    if (fv_precision_settle(context, &context->precision)) return context;
    if (context->precision != FV_PRECISION_F32)
        snprintf(context->device_line + strlen(context->device_line),
                 sizeof context->device_line - strlen(context->device_line), ", computes in %s%s",
                 fv_precision_name(context->precision), options.precision ? "" : " unless told otherwise");
    if (options.tuned && fv_tuned_open(context, options.tuned)) return context;
    fv_log(context, "device: %s", context->device_line);
    return context;
}

fv_context *fv_open(const char *device) {
    return fv_open_with(&(const fv_open_options){ .struct_size = sizeof(fv_open_options), .device = device });
}

int fv_close(fv_context *context) {
    if (!context) return 1;
    while (context->objects.next != &context->objects) fv_object_free(context->objects.next);
    fv_tuned_close(context);
    fv_backend_close(context);
    int result = context->status != FV_OK;
    fv_free(context);
    return result;
}

/* ---- Precision --------------------------------------------------------------------------------------------------- */

static const char *const precisions[] = { "default", "f32", "tf32", "bf16", "f16" };

const char *fv_precision_name(fv_precision precision) {
    return precision >= FV_PRECISION_DEFAULT && precision <= FV_PRECISION_F16 ? precisions[precision] : "unknown";
}

int fv_precision_settle(fv_context *c, fv_precision *precision) {
    const uint32_t f32 = 1u << FV_PRECISION_F32, cast = f32 | 1u << FV_PRECISION_BF16 | 1u << FV_PRECISION_F16;
    const uint32_t able = c->backend->precisions ? c->backend->precisions(c->device) | f32 : cast;
    if (*precision == FV_PRECISION_DEFAULT) *precision = c->precision;
    if (*precision == FV_PRECISION_DEFAULT)
        *precision = able >> FV_PRECISION_TF32 & 1 ? FV_PRECISION_TF32 : FV_PRECISION_F32;
    if (*precision < FV_PRECISION_F32 || *precision > FV_PRECISION_F16)
        return fv_fail(c, FV_ERROR_ARGUMENT, "there is no precision number %d", (int)*precision);
    if (able >> *precision & 1) return FV_OK;
    char instead[64] = "";
    for (int p = FV_PRECISION_F32; p <= FV_PRECISION_F16; p++)
        if (able >> p & 1)
            snprintf(instead + strlen(instead), sizeof instead - strlen(instead), "%s%s", *instead ? ", " : "",
                     precisions[p]);
    return fv_fail(c, FV_ERROR_UNSUPPORTED, "%s cannot compute in %s: it has %s", c->device_name,
                   precisions[*precision], instead);
}

int fv_device_threads(const fv_context *context) { return context ? context->threads : 0; }
int fv_device_peak(fv_context *context, double *flops, double *bytes) {
    *flops = *bytes = 0;
    if (!context || context->status) return context ? context->status : FV_ERROR_ARGUMENT;
    int status = context->backend->peak ? context->backend->peak(context->device, flops, bytes) : FV_OK;
    return status ? fv_fail(context, status, "%s: its speed could not be measured", context->device_name) : FV_OK;
}
const char *fv_device_name(const fv_context *context) { return context ? context->device_name : ""; }
const char *fv_device_line(const fv_context *context) { return context ? context->device_line : ""; }

/* ---- Objects ----------------------------------------------------------------------------------------------------- */

void fv_object_add(fv_context *context, void *object, void (*release)(void *)) {
    fv_object *o = object;
    o->context = context;
    o->release = release;
    o->next = context->objects.next;
    o->previous = &context->objects;
    o->next->previous = o->previous->next = o;
}

void fv_object_free(void *object) {
    fv_object *o = object;
    if (!o) return;
    if (o->next) {
        o->next->previous = o->previous;
        o->previous->next = o->next;
        o->next = o->previous = NULL;
    }
    o->release(o);
}
