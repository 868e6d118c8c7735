/* fake.h - a GPU that is not there: the part of CUDA's runtime (and, in their files, of cuDNN and cuBLASLt) that executes, for
 * tests of the CUDA backend's own host code. The emulated plugin (make emulated) links it instead of the runtime; calls that
 * need no device, cuDNN's descriptors and planning, go on to NVIDIA's real libraries.
 *
 * Device memory is poisoned for AddressSanitizer except while device work runs, filled with NaN when it is allocated, and counted.
 * All work passes through fake_submit: eager, lazy, captured and replayed work differ only in when it runs, and its arguments
 * are copied when it is submitted, so that a replay shows a host value that should have lain on the device. */
#ifndef FAKE_H
#define FAKE_H
#include <cuda_runtime_api.h>
#include <stddef.h>
#include <stdint.h>
#ifdef __cplusplus
extern "C" {
#endif
#define FAKE_API __attribute__((visibility("default")))

/* What a test may set and ask: the symbol `fake` of the emulated plugin. */
typedef struct fake_control {
    long calls, fail_at;     /* fallible calls so far; the one that fails (0: none)              */
    int sticky;              /* keep failing afterwards                                          */
    int lazy;                /* work waits until something synchronises: finds missing waits      */
    int quiet;               /* collect complaints without printing them                         */
    long complaints;         /* misuse that was seen                                             */
    char last[400];          /* text of the latest                                               */
    const char *failed_call; /* the call that was made to fail                                   */
    int device;              /* which GPU of devices.h stands behind every handle of cuDNN       */
    int driver;              /* version of CUDA that the driver supports; 0: there is none       */
    int no_device, no_image; /* the driver finds no GPU; there is no code for this one           */
    int no_plans;            /* cuDNN supports nothing (FV_EMULATOR_NO_PLANS=1): shows the plain kernels */
    size_t capacity;         /* bytes of device memory                                           */
    size_t used;             /* of them: 0 at the end, or something leaked                       */
    long objects;            /* live streams, events, graphs, handles, pinned blocks, descriptors */
    long launches;           /* kernels and other work that ran                                  */
    long plans;              /* execution plans of cuDNN that were made; of them: */
    long varying_plans, tensor_core_plans, narrowing_plans; /* not repeating, with tensor cores, with narrower inputs */
} fake_control;
extern FAKE_API fake_control fake;

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
