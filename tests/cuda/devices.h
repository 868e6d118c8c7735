/* devices.h - what cuDNN wants to know of a GPU, for GPUs that are not here: facts of NVIDIA's data sheets and tables of compute
 * capabilities, a line a GPU, and the form in which cuDNN 9 takes them (CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION). */
#ifndef DEVICES_H
#define DEVICES_H
#include <stdio.h>

typedef struct fake_device {
    const char *name;
    int capability;                  /* 90: 9.0 */
    int processors, blocks, threads; /* multiprocessors; blocks and threads that one of them holds  */
    long shared;                     /* bytes of shared memory that a block may ask for             */
    long long memory;                /* bytes                                                       */
    long clock, memory_clock, cache; /* kHz, kHz, bytes of the second level                         */
} fake_device;

static const fake_device fake_devices[] = {
    /* the first is the emulated GPU's */
    { "NVIDIA H200", 90, 132, 32, 2048, 232448, 150000000000, 1980000, 3201000, 62914560 },
    { "NVIDIA A100-SXM4-80GB", 80, 108, 32, 2048, 166912, 85000000000, 1410000, 1593000, 41943040 },
    { "NVIDIA B200", 100, 148, 32, 2048, 232448, 190000000000, 1965000, 3996000, 132120576 },
    { "NVIDIA L40S", 89, 142, 24, 1536, 101376, 48000000000, 2520000, 9001000, 100663296 },
    { "NVIDIA GeForce RTX 5090", 120, 170, 24, 1536, 101376, 33000000000, 2407000, 14001000, 100663296 },
    { "Tesla T4", 75, 40, 16, 1024, 65536, 15000000000, 1590000, 5001000, 4194304 },
};
enum { FAKE_DEVICES = sizeof fake_devices / sizeof *fake_devices, FAKE_DEVICE_BYTES = 1024 };

static inline void fake_device_json(const fake_device *d, char text[FAKE_DEVICE_BYTES]) {
    snprintf(
        text, FAKE_DEVICE_BYTES,
        "{\"maxGridSize\":[2147483647,65535,65535],\"maxBlockSize\":[1024,1024,64],\"regsPerBlock\":65536,"
        "\"multiProcessorCount\":%d,\"warpSize\":32,\"maxSharedMemoryPerBlock\":49152,"
        "\"maxSharedMemoryPerBlockOptin\":%ld,\"reservedSharedMemoryPerBlock\":1024,\"maxRegistersPerSM\":65536,"
        "\"maxCtasPerSM\":%d,\"maxThreadsPerBlock\":1024,\"maxThreadsPerSM\":%d,\"pciDeviceId\":0,\"isTccDriver\":0,"
        "\"supportCoopLaunch\":1,\"totalGlobalMem\":%lld,\"smClockRateKHz\":%ld,\"memClockRateKHz\":%ld,"
        "\"l2CacheSize\":%ld,\"cudaDeviceId\":0,\"deviceVer\":%d,\"driverVer\":13000,\"deviceName\":\"%s\"}",
        d->processors, d->shared, d->blocks, d->threads, d->memory, d->clock, d->memory_clock, d->cache,
        10 * d->capability, d->name);
}
#endif
