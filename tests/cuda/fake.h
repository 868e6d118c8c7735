/* fake.h - a GPU that is not there: the part of CUDA's runtime (and, in their files, of cuDNN and cuBLASLt) that executes, for
 * tests of the CUDA backend's own host code. The emulated plugin (make emulated) links it instead of the runtime; calls that
 * need no device, cuDNN's descriptors and planning, go on to NVIDIA's real libraries.
 *
 * Device memory is poisoned for AddressSanitizer except while device work runs, filled with NaN when it is allocated, and counted.
 * All work passes through fake_submit: eager, lazy, captured and replayed work differ only in when it runs, and its arguments
 * are copied when it is submitted, so that a replay shows a host value that should have lain on the device. */
#ifndef FAKE_H
#define FAKE_H
#include "fake_control.h"
#include <cuda_runtime_api.h>
#include <stddef.h>
#include <stdint.h>
#ifdef __cplusplus
extern "C" {
#endif

int fake_fails(const char *call); /* counts the call; 1: it is to fail */
void fake_complain(const char *format, ...) __attribute__((format(printf, 1, 2)));
cudaError_t fake_error(cudaError_t); /* as cudaGetLastError will report it */
int fake_on_device(const void *, size_t bytes,
                   const char *who); /* inside one live allocation; else 0 and a complaint */
int fake_is_device(const void *);
int fake_stream_ok(cudaStream_t, const char *who);
cudaError_t fake_submit(cudaStream_t, const char *name, void (*run)(void *), void (*drop)(void *),
                        const void *arguments, size_t bytes);
void fake_launch(cudaStream_t, const char *name, void (*run)(void *), const void *arguments, size_t bytes);
void fake_launch_failed(cudaError_t);
#ifdef __cplusplus
}
#endif
#endif
