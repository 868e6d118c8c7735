/* cpu.h - what the files of the fast CPU backend share. backend.c and group.c are compiled once; every other file
 * once per instruction set, FV_ISA naming it (v2, v3, v4, neon, generic), and its global names end in that name:
 * ISA(x). */
#ifndef FV_CPU_H
#define FV_CPU_H
#include "core/backend.h"
#include "core/control.h"

/* A kernel and, for operations without neighbours, the same on a range of elements: what groups are made of. A range
 * gives the same bits however the whole is cut. */
typedef void fv_range(const fv_task *, int64_t begin, int64_t end);
typedef struct fv_cpu_kernel {
    fv_kernel kernel;
    fv_range *range;
} fv_cpu_kernel;

/* Groups of tasks that go through by blocks of images (block.h). claim: as fv_backend.group, with room for all. */
typedef struct fv_cpu_blocks {
    int (*claim)(fv_device *, const fv_task *tasks, int count, fv_group *);
    int (*run)(fv_device *, const fv_group *);
    void (*release)(fv_device *, fv_group *);
} fv_cpu_blocks;

typedef struct fv_cpu_set {
    const char *title;                        /* "AVX-512" */
    const fv_cpu_kernel *kernel[FV_OP_COUNT]; /* NULL: FV_OP_NONE */
    int (*measure_peak)(fv_device *, double *flops, double *bytes);
    const fv_cpu_blocks *blocks;
} fv_cpu_set;

/* FOVEA_GROUPS, for tests and measurements: all takes also those that do not pay. */
typedef enum fv_groups_taken { FV_GROUPS_USEFUL, FV_GROUPS_NONE, FV_GROUPS_ALL } fv_groups_taken;

struct fv_device {
    fv_host host;
    int threads;
    bool no_winograd; /* FOVEA_WINOGRAD=0 */
    fv_groups_taken groups;
    const fv_cpu_set *set;
    struct fv_pool *pool; /* the other threads; NULL when there is one */
};

/* ---- Threads ----------------------------------------------------------------------------------------------------- */
/* Calls part for 0 .. units-1 in pieces, from several threads at once, and returns when all are done. grain: fewest
 * units worth a piece of their own. thread is the number of the thread that calls, for buffers of its own; which
 * thread does what, and how the units are cut, must not show in the results: parts write outputs of their own, or
 * partial sums numbered by unit. */
typedef void fv_part(const void *argument, int64_t begin, int64_t end, int thread);
void fv_parallel(fv_device *, int64_t units, int64_t grain, fv_part *, const void *argument);

/* The whole operation as ranges over the elements of output 0. */
int fv_run_ranges(fv_device *, const fv_task *);

enum { FV_CPU_CONV_WAYS = 5 }; /* of a convolution, to choose among: convolution.c */

#ifdef FV_ISA
#define FV_JOIN_(a, b)                           a##_##b
#define FV_JOIN(a, b)                            FV_JOIN_(a, b)
#define ISA(name)                                FV_JOIN(fv_##name, FV_ISA)
#define KERNEL(name)                             ISA(kernel_##name)
#define FV_OP(name, least, most, outputs, flags, ...) extern const fv_cpu_kernel KERNEL(name);
#include "ops.def"
#undef FV_OP
#endif

/* ---- Small things ------------------------------------------------------------------------------------------------ */
static inline int64_t div_up(int64_t a, int64_t b) { return (a + b - 1) / b; }
static inline int64_t round_up(int64_t a, int64_t b) { return div_up(a, b) * b; }
static inline int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }
static inline size_t type_bytes(fv_type type) { return type == FV_U8 ? 1 : type == FV_BF16 || type == FV_F16 ? 2 : 4; }
/* Rows and columns of a tensor seen as a matrix whose columns are its last axis; a scalar is [1, 1]. */
static inline int64_t columns_of(const fv_tensor *t) { return t->rank > 0 ? t->dim[t->rank - 1] : 1; }
static inline int64_t rows_of(const fv_tensor *t) {
    int64_t n = 1;
    for (int i = 0; i + 1 < t->rank; i++) n *= t->dim[i];
    return n;
}
#endif
