/* backend.c - the CUDA backend as the framework sees it: opening a GPU, memory, copies, capture of whole steps, and what
 * CUDA's errors mean in plain words. One non-blocking stream does everything, in order (feed.c has a second one for data). */
#include "cuda/cuda.h"
#include "cuda/plan.h"
#include "cuda/product.h"
#include "cuda/table.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static fv_kernel kernels[FV_OP_COUNT]; /* filled once, from constants, when the library is loaded */

/* ---- Errors ---------------------------------------------------------------------------------------------------------- */

static const char *version_text(int version, char text[16]) {
    snprintf(text, 16, "%d.%d", version / 1000, version % 1000 / 10);
    return text;
}

/* Why there is no GPU to use, in one sentence without its full stop. */
static void explain(cudaError_t error, char *why, size_t bytes) {
    int driver = 0, runtime = 0;
    char has[16], wants[16];
    cudaDriverGetVersion(&driver);
    cudaRuntimeGetVersion(&runtime);
    if (driver == 0)
        snprintf(why, bytes, "no NVIDIA driver is installed (libcuda.so.1 is missing)");
    else if (error == cudaErrorInsufficientDriver)
        snprintf(why, bytes, "the NVIDIA driver supports CUDA %s, this build needs %s: update the driver",
                 version_text(driver, has), version_text(runtime, wants));
    else if (error == cudaErrorNoDevice)
        snprintf(why, bytes, "the NVIDIA driver finds no GPU (CUDA_VISIBLE_DEVICES may hide it)");
    else
        snprintf(why, bytes, "CUDA does not start: %s", cudaGetErrorString(error));
}

/* After these the CUDA context of the process is lost: nothing but a new process helps. */
static bool sticky(cudaError_t error) {
    return error == cudaErrorIllegalAddress || error == cudaErrorLaunchFailure || error == cudaErrorLaunchTimeout ||
           error == cudaErrorMisalignedAddress || error == cudaErrorIllegalInstruction ||
           error == cudaErrorECCUncorrectable || error == cudaErrorHardwareStackError ||
           error == cudaErrorInvalidAddressSpace || error == cudaErrorInvalidPc || error == cudaErrorAssert;
}

int fv_cuda_check(fv_device *device, cudaError_t error, const char *what) {
    const fv_host *host = &device->host;
    if (error == cudaSuccess) return FV_OK;
    cudaGetLastError(); /* what is reported here must not be found again by the next launch */
    device->failed |= sticky(error);
    if (error == cudaErrorNoKernelImageForDevice)
        return host->fail(host->context, FV_ERROR_DEVICE,
                          "cuda:%d: there is no code for %s (compute capability %d.%d): build with CUDA_ARCH=%d%d",
                          device->index, device->properties.name, device->properties.major, device->properties.minor,
                          device->properties.major, device->properties.minor);
    if (error == cudaErrorMemoryAllocation) {
        size_t free_bytes = 0, total = 0;
        cudaMemGetInfo(&free_bytes, &total);
        return host->fail(host->context, FV_ERROR_MEMORY, "cuda:%d: out of memory (%s); %zu of %zu MiB are free",
                          device->index, what, free_bytes >> 20, total >> 20);
    }
    return host->fail(
        host->context, FV_ERROR_DEVICE, "cuda:%d: %s: %s%s", device->index, what, cudaGetErrorString(error),
        device->failed ? "; the GPU's state is lost, start the program again (FOVEA_SYNC=1 names the operation)" : "");
}

int fv_cuda_launched(fv_device *device, const fv_task *task) {
    cudaError_t error = cudaPeekAtLastError();
    enum cudaStreamCaptureStatus capture = cudaStreamCaptureStatusNone;
    if (error == cudaSuccess && device->careful && !cudaStreamIsCapturing(device->stream, &capture) &&
        capture == cudaStreamCaptureStatusNone)
        error = cudaStreamSynchronize(device->stream);
    if (error == cudaSuccess) return FV_OK;
    char what[200];
    snprintf(what, sizeof what, "%s%s%s", fv_op_name(task->op), task->layer ? " " : "", task->layer ? task->layer : "");
    return fv_cuda_check(device, error, what);
}

/* ---- Opening --------------------------------------------------------------------------------------------------------- */

static int count_devices(char *why, size_t bytes) {
    int count = 0;
    const cudaError_t error = cudaGetDeviceCount(&count);
    if (error == cudaSuccess && count > 0) return count;
    cudaGetLastError();
    explain(error == cudaSuccess ? cudaErrorNoDevice : error, why, bytes);
    return 0;
}

static void close_device(fv_device *device) {
    fv_cuda_libraries_close(device);
    fv_cuda_feed_close(device);
    if (device->stream) cudaStreamDestroy(device->stream);
    cudaGetLastError();
    device->host.free(device);
}

static int start(fv_device *device) {
    CUDA_TRY(device, cudaSetDevice(device->index));
    CUDA_TRY(device, cudaGetDeviceProperties(&device->properties, device->index));
    CUDA_TRY(device, cudaStreamCreateWithFlags(&device->stream, cudaStreamNonBlocking));
    CUDA_TRY(device, fv_cuda_probe(device->stream));
    CUDA_TRY(device, cudaStreamSynchronize(device->stream));
    return FV_OK;
}

static bool setting(const char *name, bool otherwise) {
    const char *text = getenv(name);
    return text && *text ? strcmp(text, "0") != 0 : otherwise;
}

static int open_device(const fv_host *host, int index, fv_device **out) {
    char why[256];
    const int count = count_devices(why, sizeof why);
    if (!count) return host->fail(host->context, FV_ERROR_DEVICE, "cuda: %s", why);
    if (index >= count)
        return host->fail(host->context, FV_ERROR_DEVICE, "cuda:%d: there %s only %d GPU%s here", index,
                          count == 1 ? "is" : "are", count, count == 1 ? "" : "s");
    fv_device *device = host->alloc(host->context, sizeof *device, "the CUDA device");
    if (!device) return FV_ERROR_MEMORY;
    device->host = *host;
    device->index = index;
    device->careful = setting("FOVEA_SYNC", false);
    device->tf32 = setting("FOVEA_TF32", true);
    const int status = start(device);
    if (status) {
        close_device(device);
        return status;
    }
    *out = device;
    return FV_OK;
}

static void describe(fv_device *device, char *line, size_t bytes) {
    const struct cudaDeviceProp *p = &device->properties;
    char text[16];
    int driver = 0;
    cudaDriverGetVersion(&driver);
    snprintf(line, bytes, "%s, compute capability %d.%d, %.0f GiB, driver for CUDA %s", p->name, p->major, p->minor,
             (double)p->totalGlobalMem / (1 << 30), version_text(driver, text));
}

/* Tensor cores take bf16 and TF32 from compute capability 8.0 on, f16 from 7.0 on. */
static uint32_t precisions(fv_device *device) {
    const int major = device->properties.major;
    const bool tf32 = major >= 8 && device->tf32;
    return (uint32_t)tf32 << FV_PRECISION_TF32 | (uint32_t)(major >= 8) << FV_PRECISION_BF16 |
           (uint32_t)(major >= 7) << FV_PRECISION_F16;
}

/* ---- Tuning ---------------------------------------------------------------------------------------------------------- */

static void identity(fv_device *device, char *line, size_t bytes) {
    const struct cudaDeviceProp *p = &device->properties;
    const size_t dnn = cudnnGetVersion(), lt = cublasLtGetVersion();
    snprintf(line, bytes, "cuda, %s, %d multiprocessors, cuDNN %zu.%zu.%zu, cuBLASLt %zu.%zu.%zu", p->name,
             p->multiProcessorCount, dnn / 10000, dnn % 10000 / 100, dnn % 100, lt / 10000, lt % 10000 / 100, lt % 100);
}

static int alternatives(fv_device *device, const fv_task *task) {
    switch ((int)task->op) {
    case FV_OP_conv2d:
    case FV_OP_conv2d_bias_activation:
    case FV_OP_conv2d_data_gradient:
    case FV_OP_conv2d_transpose_bias_activation:
    case FV_OP_conv2d_weight_gradient: return FV_PLAN_CHOICES;
    case FV_OP_dense:
    case FV_OP_dense_bias_activation:
    case FV_OP_dense_data_gradient:
    case FV_OP_dense_weight_gradient:
    case FV_OP_matmul: return FV_PRODUCT_CHOICES;
    default: return 0;
    }
}

/* ---- Memory and copies ----------------------------------------------------------------------------------------------- */

static void memory(fv_device *device, size_t *free_bytes, size_t *total) {
    if (cudaMemGetInfo(free_bytes, total) != cudaSuccess) cudaGetLastError(), *free_bytes = *total = 0;
}

/* No error is recorded: the caller knows better words. */
static void *alloc(fv_device *device, size_t bytes) {
    void *data = NULL;
    if (device->failed || cudaMalloc(&data, bytes ? bytes : 1) == cudaSuccess) return data;
    cudaGetLastError();
    return NULL;
}

static void release(fv_device *device, void *data) {
    if (data && cudaFree(data) != cudaSuccess) cudaGetLastError();
}

static void *pinned_alloc(fv_device *device, size_t bytes) {
    void *data = NULL;
    if (cudaMallocHost(&data, bytes ? bytes : 1) == cudaSuccess) return data;
    cudaGetLastError();
    return NULL;
}

static void pinned_release(fv_device *device, void *data) {
    if (data && cudaFreeHost(data) != cudaSuccess) cudaGetLastError();
}

static int upload(fv_device *device, void *to, const void *from, size_t bytes) {
    if (bytes) CUDA_TRY(device, cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, device->stream));
    return FV_OK;
}

static int download(fv_device *device, void *to, const void *from, size_t bytes) {
    if (bytes) CUDA_TRY(device, cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, device->stream));
    return FV_OK;
}

static int copy(fv_device *device, void *to, const void *from, size_t bytes) {
    if (bytes) CUDA_TRY(device, cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, device->stream));
    return FV_OK;
}

static int fill(fv_device *device, void *to, int byte, size_t bytes) {
    if (bytes) CUDA_TRY(device, cudaMemsetAsync(to, byte, bytes, device->stream));
    return FV_OK;
}

static int sync_device(fv_device *device) {
    if (device->copies) CUDA_TRY(device, cudaStreamSynchronize(device->copies));
    CUDA_TRY(device, cudaStreamSynchronize(device->stream));
    return FV_OK;
}

/* ---- Capture --------------------------------------------------------------------------------------------------------- */

static int capture_begin(fv_device *device) {
    CUDA_TRY(device, cudaStreamBeginCapture(device->stream, cudaStreamCaptureModeThreadLocal));
    return FV_OK;
}

static int capture_end(fv_device *device, void **out) {
    cudaGraph_t graph = NULL;
    cudaGraphExec_t ready = NULL;
    CUDA_TRY(device, cudaStreamEndCapture(device->stream, &graph));
    const cudaError_t error = cudaGraphInstantiate(&ready, graph, 0);
    cudaGraphDestroy(graph);
    *out = ready;
    return fv_cuda_check(device, error, "making a graph of the captured step");
}

static int replay(fv_device *device, void *graph) {
    CUDA_TRY(device, cudaGraphLaunch(graph, device->stream));
    return FV_OK;
}

static void graph_free(fv_device *device, void *graph) {
    cudaStreamSynchronize(device->stream); /* it may still be running */
    if (graph && cudaGraphExecDestroy(graph) != cudaSuccess) cudaGetLastError();
}

/* ---- The table ------------------------------------------------------------------------------------------------------- */

static fv_backend backend = {
    .abi = FV_BACKEND_ABI,
    .op_count = FV_OP_COUNT,
    .real_bytes = 4,
    .name = "cuda",
    .open = open_device,
    .close = close_device,
    .describe = describe,
    .precisions = precisions,
    .identity = identity,
    .alternatives = alternatives,
    .count = count_devices,
    .memory = memory,
    .alloc = alloc,
    .free = release,
    .pinned_alloc = pinned_alloc,
    .pinned_free = pinned_release,
    .upload = upload,
    .download = download,
    .copy = copy,
    .fill = fill,
    .sync = sync_device,
    .feed = fv_cuda_feed,
    .feed_wait = fv_cuda_feed_wait,
    .capture_begin = capture_begin,
    .capture_end = capture_end,
    .replay = replay,
    .graph_free = graph_free,
    .kernels = kernels,
};

__attribute__((constructor)) static void fill_tables(void) {
    fv_cuda_fill_table(kernels);
    backend.op_checksum = fv_op_checksum();
}

FV_API const fv_backend *fovea_backend(void);
const fv_backend *fovea_backend(void) { return &backend; }
