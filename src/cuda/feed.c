/* feed.c - data that the device cannot hold comes batch by batch from pinned memory on a stream of its own, while the main stream
 * works on the batch before. The main stream then moves it to where the program reads it, which a captured graph has by address. */
#include "cuda/cuda.h"

static int make(fv_device *device, int slot) {
    if (!device->copies) CUDA_TRY(device, cudaStreamCreateWithFlags(&device->copies, cudaStreamNonBlocking));
    if (!device->copied[slot])
        CUDA_TRY(device, cudaEventCreateWithFlags(&device->copied[slot], cudaEventDisableTiming));
    if (!device->taken[slot]) CUDA_TRY(device, cudaEventCreateWithFlags(&device->taken[slot], cudaEventDisableTiming));
    return FV_OK;
}

int fv_cuda_feed(fv_device *device, int slot, void *to, void *through, const void *pinned, size_t bytes) {
    const int status = make(device, slot);
    if (status || !bytes) return status;
    CUDA_TRY(device, cudaStreamWaitEvent(device->copies, device->taken[slot], 0)); /* nothing yet: does not wait */
    CUDA_TRY(device, cudaMemcpyAsync(through, pinned, bytes, cudaMemcpyHostToDevice, device->copies));
    CUDA_TRY(device, cudaEventRecord(device->copied[slot], device->copies));
    CUDA_TRY(device, cudaStreamWaitEvent(device->stream, device->copied[slot], 0));
    CUDA_TRY(device, cudaMemcpyAsync(to, through, bytes, cudaMemcpyDeviceToDevice, device->stream));
    CUDA_TRY(device, cudaEventRecord(device->taken[slot], device->stream));
    return FV_OK;
}

int fv_cuda_feed_wait(fv_device *device, int slot) {
    if (device->copied[slot]) CUDA_TRY(device, cudaEventSynchronize(device->copied[slot]));
    return FV_OK;
}

void fv_cuda_feed_close(fv_device *device) {
    for (int slot = 0; slot < FV_FEED_SLOTS; slot++) {
        if (device->copied[slot]) cudaEventDestroy(device->copied[slot]);
        if (device->taken[slot]) cudaEventDestroy(device->taken[slot]);
    }
    if (device->copies) cudaStreamDestroy(device->copies);
}
