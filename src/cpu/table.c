/* table.c - the kernels of one instruction set, gathered from the list of operations: a missing one is a link error. */
#include "cpu/cpu.h"

extern const fv_cpu_set ISA(cpu_set);
int ISA(measure_peak)(fv_device *, double *flops, double *bytes); /* peak.c */
extern const fv_cpu_blocks ISA(cpu_blocks);
const fv_cpu_set ISA(cpu_set) = {
#if defined(__AVX512F__)
    .title = "AVX-512",
#elif defined(__AVX2__)
    .title = "AVX2",
#elif defined(__x86_64__)
    .title = "SSE4.2",
#elif defined(__aarch64__)
    .title = "NEON",
#else
    .title = "plain C",
#endif
    .measure_peak = ISA(measure_peak),
    .blocks = &ISA(cpu_blocks),
    .kernel = {
#define FV_OP(name, least, most, outputs, flags, ...) [FV_OP_##name] = &KERNEL(name),
#include "ops.def"
#undef FV_OP
    },
};
