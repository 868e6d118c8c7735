/* libraries.c - handles of cuDNN and cuBLASLt, and their errors in words. */
#include "cuda/libraries.h"
#include <stdio.h>

static int make(fv_device *device, fv_libraries **out) {
    if (!device->libraries)
        device->libraries =
            device->host.alloc(device->host.context, sizeof(fv_libraries), "handles of NVIDIA's libraries");
    *out = device->libraries;
    return device->libraries ? FV_OK : FV_ERROR_MEMORY;
}

int fv_cuda_dnn_check(fv_device *device, cudnnStatus_t status, const char *what) {
    if (status == CUDNN_STATUS_SUCCESS) return FV_OK;
    char text[256] = "";
    cudnnGetLastErrorString(text, sizeof text);
    return device->host.fail(
        device->host.context, status == CUDNN_STATUS_ALLOC_FAILED ? FV_ERROR_MEMORY : FV_ERROR_DEVICE,
        "cuda:%d: cuDNN: %s: %s%s%s", device->index, what, cudnnGetErrorString(status), *text ? ": " : "", text);
}

int fv_cuda_lt_check(fv_device *device, cublasStatus_t status, const char *what) {
    if (status == CUBLAS_STATUS_SUCCESS) return FV_OK;
    return device->host.fail(device->host.context,
                             status == CUBLAS_STATUS_ALLOC_FAILED ? FV_ERROR_MEMORY : FV_ERROR_DEVICE,
                             "cuda:%d: cuBLASLt: %s: %s", device->index, what, cublasLtGetStatusString(status));
}

/* Plans are made for the properties of the device, not for the handle: the same way works where there is no device. */
static int start_dnn(fv_device *device, fv_libraries *l) {
    int status = fv_cuda_dnn_check(device, cudnnCreate(&l->dnn), "starting");
    if (!status) status = fv_cuda_dnn_check(device, cudnnSetStream(l->dnn, device->stream), "setting the stream");
    if (!status)
        status = fv_cuda_dnn_check(
            device, cudnnBackendCreateDescriptor(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR, &l->target), "device properties");
    if (!status)
        status = fv_cuda_dnn_check(
            device, cudnnBackendSetAttribute(l->target, CUDNN_ATTR_DEVICEPROP_HANDLE, CUDNN_TYPE_HANDLE, 1, &l->dnn),
            "device properties");
    if (!status) status = fv_cuda_dnn_check(device, cudnnBackendFinalize(l->target), "device properties");
    return status;
}

static void stop_dnn(fv_libraries *l) {
    if (l->target) cudnnBackendDestroyDescriptor(l->target);
    if (l->dnn) cudnnDestroy(l->dnn);
    l->target = NULL;
    l->dnn = NULL;
}

int fv_cuda_dnn(fv_device *device, fv_libraries **out) {
    int status = make(device, out);
    if (status || (*out)->target) return status;
    status = start_dnn(device, *out);
    if (status) stop_dnn(*out); /* a half-made handle must not be taken for a whole one next time */
    return status;
}

int fv_cuda_lt(fv_device *device, fv_libraries **out) {
    const int status = make(device, out);
    if (status || (*out)->lt) return status;
    return fv_cuda_lt_check(device, cublasLtCreate(&(*out)->lt), "starting");
}

void fv_cuda_libraries_close(fv_device *device) {
    fv_libraries *l = device->libraries;
    if (!l) return;
    stop_dnn(l);
    if (l->lt) cublasLtDestroy(l->lt);
    device->host.free(l);
    device->libraries = NULL;
}
