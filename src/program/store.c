/* store.c - the store: regions of device memory that outlive a step, and the way between them and the host.
 * Regions come into being when first asked for, so a net that only predicts has no gradients and no optimiser state. */
#include "program/program.h"
#include <string.h>

enum { CHUNK = 1024 }; /* elements converted at a time, on the stack: reading and writing allocate nothing */

/* What a region holds, and how long it is by nature. */
typedef enum size_rule { FREE_SIZE, PARAMETER_SIZE, STATISTIC_SIZE, SEGMENT_SIZE, CONTROL_SIZE } size_rule;
static const struct {
    const char *name;
    fv_type type;
    size_rule size;
} regions[FV_REGION_COUNT] = {
    [FV_REGION_NONE] = { "none", FV_F32, FREE_SIZE },
    [FV_PARAMETERS] = { "parameters", FV_F32, PARAMETER_SIZE },
    [FV_GRADIENTS] = { "gradients", FV_F32, PARAMETER_SIZE },
    [FV_SLOT0] = { "slot0", FV_F32, PARAMETER_SIZE },
    [FV_SLOT1] = { "slot1", FV_F32, PARAMETER_SIZE },
    [FV_SLOT2] = { "slot2", FV_F32, PARAMETER_SIZE },
    [FV_STATISTICS] = { "statistics", FV_F32, STATISTIC_SIZE },
    [FV_NEXT_STATISTICS] = { "next statistics", FV_F32, STATISTIC_SIZE },
    [FV_SEGMENTS] = { "segments", FV_U8, SEGMENT_SIZE },
    [FV_CONTROL] = { "control", FV_U8, CONTROL_SIZE },
    [FV_RATES] = { "rates", FV_F32, FREE_SIZE },
    [FV_ORDER] = { "order", FV_I32, FREE_SIZE },
    [FV_METRICS] = { "metrics", FV_F32, FREE_SIZE },
    [FV_SHADOW_BF16] = { "parameters in bf16", FV_BF16, PARAMETER_SIZE },
    [FV_SHADOW_F16] = { "parameters in f16", FV_F16, PARAMETER_SIZE },
};

fv_type fv_region_type(fv_region region) { return regions[region].type; }
const char *fv_region_name(fv_region region) { return regions[region].name; }

static int64_t natural_size(const fv_store *s, fv_region region) {
    switch (regions[region].size) {
    case PARAMETER_SIZE: return s->parameters;
    case STATISTIC_SIZE: return s->statistics;
    case SEGMENT_SIZE: return (int64_t)sizeof(fv_segment) * s->segment_count;
    case CONTROL_SIZE: return sizeof(fv_control);
    default: return 0;
    }
}

/* ---- Host and device --------------------------------------------------------------------------------------------- */

size_t fv_device_element(const fv_context *c, fv_type type) {
    return type == FV_F32 && c->backend ? c->backend->real_bytes : fv_type_bytes(type);
}

static bool converts(const fv_context *c, fv_type type) {
    return type == FV_F32 && c->backend->real_bytes == sizeof(double);
}

/* A backend that fails without a word must still leave an error. */
static int device_status(fv_context *c, int status, const char *doing) {
    if (status < 0 && fv_ok(c)) return fv_fail(c, status, "%s: %s failed", c->device_name, doing);
    return status;
}

int fv_device_write(fv_context *c, void *to, fv_type type, int64_t elements, const void *from) {
    const fv_backend *b = c->backend;
    int status = FV_OK;
    if (!converts(c, type)) {
        status = b->upload(c->device, to, from, (size_t)elements * fv_type_bytes(type));
        if (!status) status = b->sync(c->device);
        return device_status(c, status, "an upload");
    }
    double wide[CHUNK];
    for (int64_t done = 0; done < elements && !status; done += CHUNK) {
        int64_t count = elements - done < CHUNK ? elements - done : CHUNK;
        for (int64_t i = 0; i < count; i++) wide[i] = ((const float *)from)[done + i];
        status = b->upload(c->device, (double *)to + done, wide, (size_t)count * sizeof(double));
        if (!status) status = b->sync(c->device);
    }
    return device_status(c, status, "an upload");
}

int fv_device_read(fv_context *c, void *to, fv_type type, int64_t elements, const void *from) {
    const fv_backend *b = c->backend;
    int status = FV_OK;
    if (!converts(c, type)) {
        status = b->download(c->device, to, from, (size_t)elements * fv_type_bytes(type));
        if (!status) status = b->sync(c->device);
        return device_status(c, status, "a download");
    }
    double wide[CHUNK];
    for (int64_t done = 0; done < elements && !status; done += CHUNK) {
        int64_t count = elements - done < CHUNK ? elements - done : CHUNK;
        status = b->download(c->device, wide, (const double *)from + done, (size_t)count * sizeof(double));
        if (!status) status = b->sync(c->device);
        for (int64_t i = 0; i < count && !status; i++) ((float *)to)[done + i] = (float)wide[i];
    }
    return device_status(c, status, "a download");
}

/* ---- Life -------------------------------------------------------------------------------------------------------- */

static bool padded(int64_t elements) { return elements >= 0 && elements % 16 == 0; }

fv_store *fv_store_new(fv_context *c, const fv_segment *segments, int32_t count, int64_t parameters,
                       int64_t statistics) {
    if (!fv_ok(c)) return NULL;
    if (count < 0 || (count && !segments) || !padded(parameters) || !padded(statistics)) {
        fv_fail(c, FV_ERROR_ARGUMENT,
                "a store of %d segments, %lld parameters, %lld statistics: regions are padded to 16 elements", count,
                (long long)parameters, (long long)statistics);
        return NULL;
    }
    for (int32_t i = 0; i < count; i++) {
        int64_t end;
        if (segments[i].offset < 0 || segments[i].length < 0 ||
            __builtin_add_overflow(segments[i].offset, segments[i].length, &end) || end > parameters) {
            fv_fail(c, FV_ERROR_ARGUMENT, "segment %d of a store reaches beyond its %lld parameters", i,
                    (long long)parameters);
            return NULL;
        }
    }
    fv_store *s = fv_alloc(c, 1, sizeof *s, "a store");
    if (!s) return NULL;
    s->context = c;
    s->written = 1;
    s->parameters = parameters;
    s->statistics = statistics;
    s->segment_count = count;
    s->segment = fv_alloc(c, (size_t)count, sizeof *s->segment, "the segments of a store");
    if (!s->segment) {
        fv_free(s);
        return NULL;
    }
    if (count) memcpy(s->segment, segments, (size_t)count * sizeof *segments);
    return s;
}

static size_t region_bytes(const fv_store *s, fv_region region, int64_t elements) {
    return (size_t)elements * fv_device_element(s->context, regions[region].type);
}

static void free_region(fv_store *s, fv_region region) {
    fv_device_free(s->context, s->data[region], region_bytes(s, region, s->elements[region]));
    s->data[region] = NULL;
    s->elements[region] = 0;
}

void fv_store_free(fv_store *s) {
    if (!s) return;
    fv_programs_of_store_free(s);
    for (int r = 0; r < FV_REGION_COUNT; r++) free_region(s, (fv_region)r);
    fv_device_free(s->context, s->arena, s->arena_bytes);
    fv_free(s->segment);
    fv_free(s);
}

/* ---- Regions ----------------------------------------------------------------------------------------------------- */

/* New memory, zero; the old contents in front. What the old memory still serves on the device is waited for. */
static int grow_region(fv_store *s, fv_region region, int64_t elements) {
    fv_context *c = s->context;
    const fv_backend *b = c->backend;
    char what[64];
    snprintf(what, sizeof what, "the region of %s", regions[region].name);
    size_t bytes, old = region_bytes(s, region, s->elements[region]);
    if (__builtin_mul_overflow((size_t)elements, fv_device_element(c, regions[region].type), &bytes))
        return fv_fail_memory(c, what, SIZE_MAX);
    unsigned char *data = fv_device_alloc(c, bytes, what);
    if (!data) return FV_ERROR_MEMORY;
    int status = old ? b->copy(c->device, data, s->data[region], old) : FV_OK;
    if (!status) status = b->fill(c->device, data + old, 0, bytes - old);
    if (!status) status = b->sync(c->device);
    if (status) {
        fv_device_free(c, data, bytes);
        return device_status(c, status, "making a region of the store");
    }
    free_region(s, region);
    s->data[region] = data;
    s->elements[region] = elements;
    s->region_version++;
    return FV_OK;
}

/* What a new region holds where zeros would be wrong. */
static int fill_region(fv_store *s, fv_region region) {
    fv_control control = { .seed = { (uint32_t)s->context->seed, (uint32_t)(s->context->seed >> 32) } };
    if (region == FV_CONTROL) return fv_device_write(s->context, s->data[region], FV_U8, sizeof control, &control);
    if (region != FV_SEGMENTS || !s->segment_count) return FV_OK;
    return fv_device_write(s->context, s->data[region], FV_U8, natural_size(s, region), s->segment);
}

int fv_store_region(fv_store *s, fv_region region, int64_t elements) {
    if (!s) return FV_ERROR_ARGUMENT;
    if (!fv_ok(s->context)) return s->context->status;
    if (region <= FV_REGION_NONE || region >= FV_REGION_COUNT || elements < 0)
        return fv_fail(s->context, FV_ERROR_ARGUMENT, "a store has no region %d of %lld elements", region,
                       (long long)elements);
    bool fresh = !s->data[region];
    int64_t natural = natural_size(s, region);
    int64_t wanted = elements > natural ? elements : natural;
    if (wanted < 1) wanted = 1;
    if (!fresh && wanted <= s->elements[region]) return FV_OK;
    int status = grow_region(s, region, wanted);
    return !status && fresh ? fill_region(s, region) : status;
}

static int check_range(fv_store *s, fv_region region, int64_t offset, int64_t elements, const char *doing) {
    int64_t end;
    if (offset < 0 || elements < 0 || __builtin_add_overflow(offset, elements, &end) || end > s->elements[region])
        return fv_fail(s->context, FV_ERROR_ARGUMENT, "%s %lld elements at %lld of the %s, which are %lld", doing,
                       (long long)elements, (long long)offset, regions[region].name, (long long)s->elements[region]);
    return FV_OK;
}

int fv_store_write(fv_store *s, fv_region region, int64_t offset, int64_t elements, const void *data) {
    if (!s) return FV_ERROR_ARGUMENT;
    int status = fv_store_region(s, region, 0);
    if (!status) status = check_range(s, region, offset, elements, "writing");
    if (status || !elements) return status;
    if (region == FV_PARAMETERS || region == FV_STATISTICS) s->version++, s->written++;
    unsigned char *to = (unsigned char *)s->data[region] + region_bytes(s, region, offset);
    return fv_device_write(s->context, to, regions[region].type, elements, data);
}

/* Works also while the context holds an error: a failed training leaves weights that can be looked at. */
int fv_store_read(fv_store *s, fv_region region, int64_t offset, int64_t elements, void *data) {
    if (!s) return FV_ERROR_ARGUMENT;
    int status = FV_OK;
    if (region <= FV_REGION_NONE || region >= FV_REGION_COUNT || !s->data[region])
        status = fv_store_region(s, region, 0);
    if (!status) status = check_range(s, region, offset, elements, "reading");
    if (status || !elements) return status;
    const unsigned char *from = (const unsigned char *)s->data[region] + region_bytes(s, region, offset);
    return fv_device_read(s->context, data, regions[region].type, elements, from);
}

int fv_store_set_segments(fv_store *s, const fv_segment *segments, int32_t count) {
    if (!s) return FV_ERROR_ARGUMENT;
    if (!fv_ok(s->context)) return s->context->status;
    if (count != s->segment_count)
        return fv_fail(s->context, FV_ERROR_ARGUMENT, "a store of %d segments was given %d", s->segment_count, count);
    if (count) memcpy(s->segment, segments, (size_t)count * sizeof *segments);
    return s->data[FV_SEGMENTS] && count ? fv_store_write(s, FV_SEGMENTS, 0, natural_size(s, FV_SEGMENTS), segments)
                                         : FV_OK;
}

/* ---- 16-bit shadows of the parameters ---------------------------------------------------------------------------- */

fv_region fv_shadow_region(fv_type type) {
    return type == FV_BF16 ? FV_SHADOW_BF16 : type == FV_F16 ? FV_SHADOW_F16 : FV_REGION_NONE;
}

int fv_store_shadow(fv_store *s, fv_region shadow) {
    uint64_t *seen = &s->shadowed[shadow == FV_SHADOW_F16];
    if (!s->data[shadow] || *seen == s->written) return FV_OK;
    fv_context *c = s->context;
    const fv_attributes a = { .cast = { (int32_t)regions[shadow].type } };
    fv_tensor from = { .type = FV_F32, .rank = 1, .dim = { s->parameters } }, to = from;
    to.type = regions[shadow].type;
    to.data = s->data[shadow];
    const fv_task task = {
        .op = FV_OP_cast, .input_count = 1, .output_count = 1, .attributes = &a, .input = &from, .output = &to
    };
    int status = fv_store_region(s, FV_PARAMETERS, 0);
    from.data = s->data[FV_PARAMETERS];
    if (!status) status = c->backend->kernels[FV_OP_cast].run(c->device, &task);
    if (!status) *seen = s->written;
    return device_status(c, status, "rounding the parameters");
}

/* ---- The shared arena -------------------------------------------------------------------------------------------- */

/* The old arena goes before the new one comes, so that both need not fit. When there is no memory the store has no arena,
 * and the next program that runs asks again. */
int fv_store_arena(fv_store *s, size_t bytes) {
    fv_context *c = s->context;
    if (bytes <= s->arena_bytes) return FV_OK;
    int status = s->arena ? c->backend->sync(c->device) : FV_OK;
    if (status) return device_status(c, status, "waiting for the arena");
    fv_device_free(c, s->arena, s->arena_bytes);
    s->arena_bytes = 0;
    s->arena_version++;
    s->arena = fv_device_alloc(c, bytes, "the arena of a program");
    if (!s->arena) return FV_ERROR_MEMORY;
    s->arena_bytes = bytes;
    return FV_OK;
}
