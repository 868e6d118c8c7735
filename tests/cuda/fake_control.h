/* fake_control.h - what a test may set in the GPU that is not there and ask of it: the symbol `fake` of the emulated plugin. Needs no header of
 * CUDA, so that the tests compile without the toolkit. */
#ifndef FAKE_CONTROL_H
#define FAKE_CONTROL_H
#include <stddef.h>
#define FAKE_API __attribute__((visibility("default")))

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
#ifdef __cplusplus
extern "C" {
#endif
extern FAKE_API fake_control fake;
#ifdef __cplusplus
}
#endif
#endif
