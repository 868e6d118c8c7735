/* backend.c - the reference backend, the specification of every operation: plain loops on the host's memory, one
 * thread. "reference" computes in float with sums in double; "reference64" holds every f32 tensor as double.
 * Operations that the fuser makes have no kernel here: the program runs what they stand for. Any other missing kernel
 * is a link error. */
#include "core/core.h"
#include <stdlib.h>
#include <string.h>

struct fv_device {
    fv_host host;
};

static int open_device(const fv_host *host, int index, fv_device **out) {
    if (index != 0)
        return host->fail(host->context, FV_ERROR_DEVICE, "reference:%d: there is only one reference device", index);
    fv_device *device = host->alloc(host->context, sizeof *device, "the reference device");
    if (!device) return FV_ERROR_MEMORY;
    device->host = *host;
    *out = device;
    return FV_OK;
}

static void close_device(fv_device *device) {
    device->host.free(device);
}

static void describe_float(fv_device *device, char *line, size_t bytes) {
    (void)device;
    snprintf(line, bytes, "plain loops");
}

static void describe_double(fv_device *device, char *line, size_t bytes) {
    (void)device;
    snprintf(line, bytes, "plain loops in double precision");
}

/* Not through host.alloc, which records an error and clears the memory: the caller knows better words, and what is read
 * before it was written should be seen by valgrind. */
static void *alloc_memory(fv_device *device, size_t bytes) {
    (void)device;
    return bytes > SIZE_MAX - 64 ? NULL : aligned_alloc(64, (bytes + 63) / 64 * 64);
}

static void free_memory(fv_device *device, void *data) {
    (void)device;
    free(data);
}

/* The device's memory is the host's, so upload, download and copy are one. Ranges may overlap. */
static int copy_bytes(fv_device *device, void *to, const void *from, size_t bytes) {
    (void)device;
    if (bytes) memmove(to, from, bytes);
    return FV_OK;
}

static int fill_bytes(fv_device *device, void *to, int byte, size_t bytes) {
    (void)device;
    if (bytes) memset(to, byte, bytes);
    return FV_OK;
}

static int sync_device(fv_device *device) {
    (void)device;
    return FV_OK;
}

#define FV_OP(name, least, most, outputs, flags, ...)                                                                  \
    int fv_reference_##name##_float(fv_device *, const fv_task *);                                                     \
    int fv_reference_##name##_double(fv_device *, const fv_task *);
#include "ops.def"
#undef FV_OP

/* The only kernels that need memory of their own. */
size_t fv_reference_muon_scratch_float(const fv_task *);
size_t fv_reference_muon_scratch_double(const fv_task *);
static int prepare_float(fv_device *device, fv_task *task) {
    (void)device;
    task->scratch_bytes = fv_reference_muon_scratch_float(task);
    return FV_OK;
}
static int prepare_double(fv_device *device, fv_task *task) {
    (void)device;
    task->scratch_bytes = fv_reference_muon_scratch_double(task);
    return FV_OK;
}

#define RUN_(flags, kernel) ((flags) & (FV_FUSED | FV_ALIAS) ? NULL : (kernel))

static const fv_kernel kernels_float[FV_OP_COUNT] = {
#define FV_OP(name, least, most, outputs, flags, ...) [FV_OP_##name] = { .run = RUN_(flags, fv_reference_##name##_float) },
#include "ops.def"
#undef FV_OP
    [FV_OP_muon_update].prepare = prepare_float,
};

static const fv_kernel kernels_double[FV_OP_COUNT] = {
#define FV_OP(name, least, most, outputs, flags, ...) [FV_OP_##name] = { .run = RUN_(flags, fv_reference_##name##_double) },
#include "ops.def"
#undef FV_OP
    [FV_OP_muon_update].prepare = prepare_double,
};

/* op_checksum stays 0: it tells plugins apart, and these are part of the library. */
#define COMMON_SLOTS_                                                                                                  \
    .abi = FV_BACKEND_ABI, .op_count = FV_OP_COUNT, .open = open_device, .close = close_device, .alloc = alloc_memory, \
    .free = free_memory, .upload = copy_bytes, .download = copy_bytes, .copy = copy_bytes, .fill = fill_bytes,         \
    .sync = sync_device

const fv_backend fv_backend_reference = {
    .name = "reference", .real_bytes = sizeof(float), .describe = describe_float, .kernels = kernels_float,
    COMMON_SLOTS_
};

const fv_backend fv_backend_reference64 = {
    .name = "reference64", .real_bytes = sizeof(double), .describe = describe_double, .kernels = kernels_double,
    COMMON_SLOTS_
};
