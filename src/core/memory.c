/* memory.c - all memory of the library passes here: host memory is zeroed and 64-byte aligned, device memory is
 * counted against the limit of the context. The counters of the failure injection are the only variables of the
 * library that are not constant: tests let the n-th allocation fail and see that an error comes and nothing leaks. */
#define _GNU_SOURCE
#include "core/core.h"
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum { ALIGNMENT = 64 };

/* ---- Failure injection ------------------------------------------------------------------------------------------- */

static _Atomic int64_t allocations; /* since fv_alloc_fail was called */
static _Atomic int64_t failing;     /* number of the one that fails; 0: none */
static _Atomic bool failing_from_then_on;

int64_t fv_alloc_fail(int64_t after, bool sticky) {
    int64_t seen = atomic_exchange(&allocations, 0);
    atomic_store(&failing_from_then_on, sticky);
    atomic_store(&failing, after);
    return seen;
}

static bool must_fail(void) {
    int64_t number = atomic_fetch_add_explicit(&allocations, 1, memory_order_relaxed) + 1;
    int64_t chosen = atomic_load_explicit(&failing, memory_order_relaxed);
    return chosen && (number == chosen || (number > chosen && atomic_load(&failing_from_then_on)));
}

/* ---- Host -------------------------------------------------------------------------------------------------------- */

void fv_bytes_text(double bytes, char buffer[32]) {
    static const char *const unit[] = { "bytes", "KB", "MB", "GB", "TB", "PB", "EB" };
    size_t i = 0;
    while (bytes >= 1000 && i + 1 < sizeof(unit) / sizeof(*unit)) bytes /= 1000, i++;
    snprintf(buffer, 32, i ? "%.1f %s" : "%.0f %s", bytes, unit[i]);
}

int fv_fail_memory(fv_context *context, const char *what, size_t bytes) {
    char size[32];
    fv_bytes_text((double)bytes, size);
    return fv_fail(context, FV_ERROR_MEMORY, "out of memory: %s needs %s", what, size);
}

void *fv_alloc(fv_context *context, size_t count, size_t size, const char *what) {
    size_t bytes, rounded;
    if (__builtin_mul_overflow(count, size, &bytes) || __builtin_add_overflow(bytes, ALIGNMENT, &rounded)) {
        fv_fail_memory(context, what, SIZE_MAX);
        return NULL;
    }
    rounded = bytes ? (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT : ALIGNMENT;
    void *data = must_fail() ? NULL : aligned_alloc(ALIGNMENT, rounded);
    if (!data) {
        fv_fail_memory(context, what, bytes);
        return NULL;
    }
    return memset(data, 0, rounded);
}

void *fv_grow(fv_context *context, void *old, size_t old_count, size_t new_count, size_t size, const char *what) {
    void *data = fv_alloc(context, new_count, size, what);
    if (!data) return NULL; /* old stays valid: its owner frees it */
    size_t kept = old_count < new_count ? old_count : new_count;
    if (old && kept) memcpy(data, old, kept * size);
    fv_free(old);
    return data;
}

char *fv_copy_string(fv_context *context, const char *text) {
    if (!text) return NULL;
    size_t bytes = strlen(text) + 1;
    char *copy = fv_alloc(context, bytes, 1, "a name");
    return copy ? memcpy(copy, text, bytes) : NULL;
}

void fv_free(void *data) { free(data); }

/* ---- Device ------------------------------------------------------------------------------------------------------ */

static int fail_device_memory(fv_context *context, size_t bytes, const char *what) {
    char needed[32], left[32], all[32];
    fv_bytes_text((double)bytes, needed);
    size_t available = 0, total = 0;
    const char *whose = context->device_name;
    if (context->backend->memory) context->backend->memory(context->device, &available, &total);
    if (context->memory_limit) {
        size_t rest = context->memory_limit > context->memory_used ? context->memory_limit - context->memory_used : 0;
        if (!total || rest < available) available = rest, total = context->memory_limit, whose = "the memory limit";
    }
    if (!total)
        return fv_fail(context, FV_ERROR_MEMORY, "out of memory on %s: %s needs %s", context->device_name, what,
                       needed);
    fv_bytes_text((double)available, left);
    fv_bytes_text((double)total, all);
    int percent = bytes ? (int)(100.0 * (double)available / (double)bytes) : 0;
    if (percent > 0 && percent < 100)
        return fv_fail(context, FV_ERROR_MEMORY,
                       "out of memory on %s: %s needs %s, but %s of %s (%s) are free: "
                       "a batch of at most %d %% of this one would fit",
                       context->device_name, what, needed, left, all, whose, percent);
    return fv_fail(context, FV_ERROR_MEMORY, "out of memory on %s: %s needs %s, but %s of %s (%s) are free",
                   context->device_name, what, needed, left, all, whose);
}

void *fv_device_alloc(fv_context *context, size_t bytes, const char *what) {
    if (!context || !context->device) return NULL;
    size_t used;
    bool within = !__builtin_add_overflow(context->memory_used, bytes, &used) &&
                  (!context->memory_limit || used <= context->memory_limit);
    void *data = within && !must_fail() ? context->backend->alloc(context->device, bytes ? bytes : 1) : NULL;
    if (!data) {
        fail_device_memory(context, bytes, what);
        return NULL;
    }
    context->memory_used = used;
    return data;
}

void fv_device_free(fv_context *context, void *data, size_t bytes) {
    if (!data) return;
    context->backend->free(context->device, data);
    context->memory_used -= bytes;
}
