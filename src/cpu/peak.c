/* peak.c - what this processor can do at most, measured: multiply-adds that never leave the registers, and a copy of
 * arrays that fit no cache. Measurements are given as a part of these. */
#define _GNU_SOURCE
#include "cpu/cpu.h"
#include "cpu/simd.h"
#include <time.h>

enum {
    SUMS = 12,          /* chains of multiply-adds that run side by side; with two factors they fill 16 registers at most */
    ROUNDS = 1 << 19,   /* a few milliseconds */
    COPIED = 16 << 20,  /* floats */
    BLOCK = 1 << 16,
    REPEATS = 7
};

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void multiply_add(const void *argument, int64_t begin, int64_t end, int thread) {
    (void)thread;
    float *result = (float *)argument;
    for (int64_t unit = begin; unit < end; unit++) {
        vf sum[SUMS], x = splat(0.999f), y = splat(0.001f);
        for (int i = 0; i < SUMS; i++) sum[i] = splat(2.0f + (float)i); /* 1 would stay 1: no work at all */
        ROLLED
        for (int64_t k = 0; k < ROUNDS; k++) {
            UNROLL(12)
            for (int i = 0; i < SUMS; i++) sum[i] = sum[i] * x + y;
        }
        for (int i = 1; i < SUMS; i++) sum[0] += sum[i];
        result[unit * LANES] = sum_lanes(sum[0]); /* used, so that none of it is left out */
    }
}

static void copy_blocks(const void *argument, int64_t begin, int64_t end, int thread) {
    (void)thread;
    float *to = (float *)argument;
    for (int64_t block = begin; block < end; block++)
        copy_floats(to + block * BLOCK, to + COPIED + block * BLOCK, BLOCK);
}

/* The best of several runs: others may use the machine. */
static double best_seconds(fv_device *device, int64_t units, fv_part *part, void *argument) {
    double best = 1e30;
    for (int i = 0; i < REPEATS; i++) {
        double begin = now();
        fv_parallel(device, units, 1, part, argument);
        double seconds = now() - begin;
        if (seconds < best) best = seconds;
    }
    return best;
}

int ISA(measure_peak)(fv_device *, double *flops, double *bytes);
int ISA(measure_peak)(fv_device *device, double *flops, double *bytes) {
    float *memory = device->host.alloc(device->host.context, 2 * sizeof *memory * COPIED, "the measurement of memory");
    if (!memory) return FV_ERROR_MEMORY;
    for (int64_t i = 0; i < 2 * COPIED; i += 1024) memory[i] = (float)i; /* pages of their own */
    int64_t units = 4 * device->threads;
    *flops = 2.0 * SUMS * LANES * ROUNDS * (double)units / best_seconds(device, units, multiply_add, memory);
    *bytes = 2.0 * sizeof *memory * COPIED / best_seconds(device, COPIED / BLOCK, copy_blocks, memory);
    device->host.free(memory);
    return FV_OK;
}
