/* backend.c - the fast CPU backend as the framework sees it: opening (threads, instruction set), memory, copies, and
 * the dispatch of kernels to the table of the instruction set. Runs are synchronous: when a kernel returns, its
 * outputs are there. */
#define _GNU_SOURCE
#include "cpu/cpu.h"
#include "cpu/group.h"
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* ---- Instruction sets -------------------------------------------------------------------------------------------- */
typedef struct instruction_set {
    const char *name; /* as FOVEA_CPU has it, and as the suffix of the kernels' names */
    const fv_cpu_set *set;
    int (*usable)(void);
} instruction_set;

#if defined(__x86_64__)
extern const fv_cpu_set fv_cpu_set_v2, fv_cpu_set_v3, fv_cpu_set_v4;
static __attribute__((unused)) int has_v2(void) { return __builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("popcnt"); }
static __attribute__((unused)) int has_v3(void) {
    return has_v2() && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
           __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2");
}
static __attribute__((unused)) int has_v4(void) {
    return has_v3() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vl");
}
/* best first; the Makefile says which were built */
static const instruction_set sets[] = {
#ifdef FV_KERNELS_v4
    { "v4", &fv_cpu_set_v4, has_v4 },
#endif
#ifdef FV_KERNELS_v3
    { "v3", &fv_cpu_set_v3, has_v3 },
#endif
#ifdef FV_KERNELS_v2
    { "v2", &fv_cpu_set_v2, has_v2 },
#endif
};
#elif defined(__aarch64__)
extern const fv_cpu_set fv_cpu_set_neon;
static int always(void) { return 1; }
static const instruction_set sets[] = { { "neon", &fv_cpu_set_neon, always } };
#else
extern const fv_cpu_set fv_cpu_set_generic;
static int always(void) { return 1; }
static const instruction_set sets[] = { { "generic", &fv_cpu_set_generic, always } };
#endif
enum { SETS = sizeof(sets) / sizeof(*sets) };

static int choose_set(const fv_host *host, const fv_cpu_set **out) {
    const char *wanted = getenv("FOVEA_CPU");
    char known[64] = "";
    for (int i = 0; i < SETS; i++) {
        if (wanted && *wanted && strcmp(wanted, sets[i].name) != 0) {
            size_t used = strlen(known);
            snprintf(known + used, sizeof known - used, "%s%s", used ? ", " : "", sets[i].name);
            continue;
        }
        if (sets[i].usable()) {
            *out = sets[i].set;
            return FV_OK;
        }
        if (wanted && *wanted)
            return host->fail(host->context, FV_ERROR_DEVICE,
                              "FOVEA_CPU=%s: this processor lacks the instructions of %s (%s)", wanted, wanted,
                              sets[i].set->title);
    }
    if (wanted && *wanted)
        return host->fail(host->context, FV_ERROR_DEVICE, "FOVEA_CPU=%.40s: no such instruction set; known here: %s",
                          wanted, known);
    return host->fail(host->context, FV_ERROR_DEVICE,
                      "this processor lacks the instructions of %s (%s), the least that is needed", sets[SETS - 1].name,
                      sets[SETS - 1].set->title);
}

/* ---- Threads ----------------------------------------------------------------------------------------------------- */
/* Work is cut into pieces. Each thread begins with a share of its own (the same one every time, so that what it left in
 * its cache is found again) and then helps the others: if the system lends a core to somebody else, the rest goes on
 * without it. A piece is claimed by raising the share's ticket, which names the work it belongs to; a thread that wakes
 * late finds other tickets and does nothing. Threads wait awake for some 0.1 ms, because a step is a run of short pieces
 * of work, offer their core to others, and then sleep. */
enum { SPINS = 3000, YIELDS = 100, PIECES = 4 /* of a share */ };

typedef struct work { /* written by the calling thread before the tickets, read after claiming one */
    fv_part *part;
    const void *argument;
    int64_t units;
    int32_t pieces;
} work;
typedef struct share {
    _Atomic uint64_t ticket; /* generation << 32 | next piece << 16 | end */
    char line[56];           /* keeps shares on cache lines of their own */
} share;

struct fv_pool {
    pthread_t *thread;
    struct worker *worker;
    share *share; /* one a thread; the caller's is 0 */
    int workers, threads;
    work work;
    _Atomic uint32_t generation; /* raised for every piece of work */
    atomic_int done, sleepers;
    atomic_bool stop;
    pthread_mutex_t mutex;
    pthread_cond_t wake;
};
typedef struct worker {
    struct fv_pool *pool;
    int number;
} worker;

static void relax(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* Claims a piece of the share: its number, or -1 when there is none of this generation left. */
static int32_t claim(share *s, uint32_t generation) {
    uint64_t ticket = atomic_load_explicit(&s->ticket, memory_order_acquire);
    for (;;) {
        uint32_t next = (uint32_t)(ticket >> 16) & 0xffff, end = (uint32_t)ticket & 0xffff;
        if ((uint32_t)(ticket >> 32) != generation || next >= end) return -1;
        if (atomic_compare_exchange_weak_explicit(&s->ticket, &ticket, ticket + 0x10000, memory_order_acquire,
                                                  memory_order_acquire))
            return (int32_t)next;
    }
}
static void help(struct fv_pool *pool, uint32_t generation, int number) {
    for (int i = 0; i < pool->threads; i++) {
        share *s = &pool->share[(number + i) % pool->threads];
        for (int32_t piece; (piece = claim(s, generation)) >= 0;) {
            const work *w = &pool->work;
            w->part(w->argument, w->units * piece / w->pieces, w->units * (piece + 1) / w->pieces, number);
            atomic_fetch_add_explicit(&pool->done, 1, memory_order_release);
        }
    }
}

static uint32_t next_generation(struct fv_pool *pool, uint32_t seen) {
    uint32_t now;
    for (int i = 0; i < SPINS + YIELDS; i++) {
        if ((now = atomic_load_explicit(&pool->generation, memory_order_acquire)) != seen) return now;
        if (i < SPINS)
            relax();
        else
            sched_yield();
    }
    pthread_mutex_lock(&pool->mutex);
    atomic_fetch_add(&pool->sleepers, 1);
    while ((now = atomic_load(&pool->generation)) == seen) pthread_cond_wait(&pool->wake, &pool->mutex);
    atomic_fetch_sub(&pool->sleepers, 1);
    pthread_mutex_unlock(&pool->mutex);
    return now;
}
static void *serve(void *argument) {
    const worker *self = argument;
    struct fv_pool *pool = self->pool;
    for (uint32_t generation = 0;;) {
        generation = next_generation(pool, generation);
        if (atomic_load(&pool->stop)) return NULL;
        help(pool, generation, self->number);
    }
}
static void announce(struct fv_pool *pool, uint32_t generation) {
    atomic_store(&pool->generation, generation);
    if (!atomic_load(&pool->sleepers)) return;
    pthread_mutex_lock(&pool->mutex);
    pthread_cond_broadcast(&pool->wake);
    pthread_mutex_unlock(&pool->mutex);
}

static void close_pool(const fv_host *host, struct fv_pool *pool) {
    if (!pool) return;
    atomic_store(&pool->stop, true);
    announce(pool, atomic_load(&pool->generation) + 1);
    for (int i = 0; i < pool->workers; i++) pthread_join(pool->thread[i], NULL);
    pthread_cond_destroy(&pool->wake);
    pthread_mutex_destroy(&pool->mutex);
    host->free(pool->thread);
    host->free(pool->worker);
    host->free(pool->share);
    host->free(pool);
}
static int open_pool(const fv_host *host, int threads, struct fv_pool **out) {
    struct fv_pool *pool = host->alloc(host->context, sizeof *pool, "threads");
    if (!pool) return FV_ERROR_MEMORY;
    pthread_mutex_init(&pool->mutex, NULL);
    pthread_cond_init(&pool->wake, NULL);
    *out = pool;
    pool->threads = threads;
    pool->thread = host->alloc(host->context, (size_t)(threads - 1) * sizeof *pool->thread, "threads");
    pool->worker = host->alloc(host->context, (size_t)(threads - 1) * sizeof *pool->worker, "threads");
    pool->share = host->alloc(host->context, (size_t)threads * sizeof *pool->share, "threads");
    if (!pool->thread || !pool->worker || !pool->share) return FV_ERROR_MEMORY;
    for (int i = 0; i < threads - 1; i++) {
        pool->worker[i] = (worker){ pool, i + 1 };
        if (pthread_create(&pool->thread[i], NULL, serve, &pool->worker[i]))
            return host->fail(host->context, FV_ERROR_DEVICE, "only %d of %d threads could be started", i + 1, threads);
        pool->workers++;
    }
    return FV_OK;
}

void fv_parallel(fv_device *device, int64_t units, int64_t grain, fv_part *part, const void *argument) {
    struct fv_pool *pool = device->pool;
    int64_t active = least(device->threads, units / most(grain, 1));
    if (active <= 1 || !pool) {
        if (units > 0) part(argument, 0, units, 0);
        return;
    }
    int64_t pieces = least(active * PIECES, units / most(grain, 1));
    pool->work = (work){ part, argument, units, (int32_t)pieces };
    atomic_store_explicit(&pool->done, 0, memory_order_relaxed);
    uint32_t generation = atomic_load(&pool->generation) + 1;
    for (int64_t t = 0; t < pool->threads; t++) {
        int64_t first = t < active ? pieces * t / active : 0, last = t < active ? pieces * (t + 1) / active : 0;
        atomic_store_explicit(&pool->share[t].ticket,
                              (uint64_t)generation << 32 | (uint64_t)first << 16 | (uint64_t)last,
                              memory_order_release);
    }
    announce(pool, generation);
    help(pool, generation, 0);
    for (int i = 0; atomic_load_explicit(&pool->done, memory_order_acquire) < pieces; i++) {
        if (i < SPINS)
            relax();
        else
            sched_yield();
    }
}

/* ---- Life -------------------------------------------------------------------------------------------------------- */
static int available_cores(void) {
    cpu_set_t cores;
    return sched_getaffinity(0, sizeof cores, &cores) ? 1 : CPU_COUNT(&cores);
}

static void cpu_close(fv_device *device) {
    if (!device) return;
    close_pool(&device->host, device->pool);
    device->host.free(device);
}

static int cpu_open(const fv_host *host, int index, fv_device **out) {
    (void)index;
    const fv_cpu_set *set = NULL;
    int status = choose_set(host, &set);
    if (status) return status;
    fv_device *device = host->alloc(host->context, sizeof *device, "the CPU device");
    if (!device) return FV_ERROR_MEMORY;
    device->host = *host;
    device->set = set;
    const char *winograd = getenv("FOVEA_WINOGRAD");
    device->no_winograd = winograd && !strcmp(winograd, "0");
    const char *groups = getenv("FOVEA_GROUPS");
    if (groups && !strcmp(groups, "none")) device->groups = FV_GROUPS_NONE;
    if (groups && !strcmp(groups, "all")) device->groups = FV_GROUPS_ALL;
    device->threads = host->threads > 0 ? host->threads : available_cores();
    if (device->threads > 1) {
        status = open_pool(host, device->threads, &device->pool);
        if (status) {
            cpu_close(device);
            return status;
        }
    }
    *out = device;
    return FV_OK;
}

static void cpu_describe(fv_device *device, char *line, size_t bytes) {
    snprintf(line, bytes, "%d thread%s, %s", device->threads, device->threads == 1 ? "" : "s", device->set->title);
}

/* "cpu, AVX-512, Intel(R) Xeon(R) ...": the processor's own name where the system tells it. */
static void cpu_identity(fv_device *device, char *line, size_t bytes) {
    char text[200];
    FILE *file = fopen("/proc/cpuinfo", "re");
    int used = snprintf(line, bytes, "cpu, %s", device->set->title);
    while (file && fgets(text, sizeof text, file)) {
        const char *colon = strncmp(text, "model name", 10) ? NULL : strchr(text, ':');
        if (!colon) continue;
        snprintf(line + used, bytes - (size_t)used, ",%.*s", (int)strcspn(colon + 1, "\n"), colon + 1);
        break;
    }
    if (file) fclose(file);
}

static int cpu_alternatives(fv_device *device, const fv_task *task) {
    (void)device;
    switch ((int)task->op) {
    case FV_OP_conv2d:
    case FV_OP_conv2d_bias_activation:
    case FV_OP_conv2d_data_gradient:
    case FV_OP_conv2d_transpose_bias_activation:
    case FV_OP_conv2d_weight_gradient: return FV_CPU_CONV_WAYS;
    default: return 0;
    }
}

/* ---- Memory and copies ------------------------------------------------------------------------------------------- */
enum { LINE = 64, HUGE_PAGE = 2 << 20 };

static void *cpu_alloc(fv_device *device, size_t bytes) {
    (void)device;
    size_t alignment = bytes >= HUGE_PAGE ? HUGE_PAGE : LINE;
    if (bytes > SIZE_MAX / 2) return NULL;
    size_t size = (bytes + alignment - 1) / alignment * alignment;
    void *data = aligned_alloc(alignment, size ? size : alignment);
#ifdef MADV_HUGEPAGE
    if (data && alignment == HUGE_PAGE)
        madvise(data, size, MADV_HUGEPAGE); /* a hint: refusal costs a little speed only */
#endif
    return data;
}
static void cpu_free(fv_device *device, void *data) {
    (void)device;
    free(data);
}
static int cpu_copy(fv_device *device, void *to, const void *from, size_t bytes) {
    (void)device;
    if (bytes) memmove(to, from, bytes);
    return FV_OK;
}
static int cpu_fill(fv_device *device, void *to, int byte, size_t bytes) {
    (void)device;
    if (bytes) memset(to, byte, bytes);
    return FV_OK;
}
static int cpu_peak(fv_device *device, double *flops, double *bytes) {
    return device->set->measure_peak(device, flops, bytes);
}
static int cpu_sync(fv_device *device) {
    (void)device;
    return FV_OK;
}

/* ---- Dispatch: one set of slots for all operations, which look up the kernel of the device's instruction set ----- */
static const fv_kernel *kernel_of(const fv_device *device, const fv_task *task) {
    return &device->set->kernel[task->op]->kernel;
}

static int dispatch_supports(fv_device *device, const fv_task *task, char *why, size_t why_bytes) {
    const fv_kernel *kernel = kernel_of(device, task);
    return kernel->supports ? kernel->supports(device, task, why, why_bytes) : FV_OK;
}
static int dispatch_prepare(fv_device *device, fv_task *task) {
    const fv_kernel *kernel = kernel_of(device, task);
    return kernel->prepare ? kernel->prepare(device, task) : FV_OK;
}
static int dispatch_run(fv_device *device, const fv_task *task) { return kernel_of(device, task)->run(device, task); }
static void dispatch_release(fv_device *device, fv_task *task) {
    const fv_kernel *kernel = kernel_of(device, task);
    if (kernel->release) kernel->release(device, task);
}
static const fv_kernel dispatch[FV_OP_COUNT] = {
#define FV_OP(name, least, most, outputs, flags, ...)                                                                  \
    [FV_OP_##name] = { dispatch_supports, dispatch_prepare, dispatch_run, dispatch_release },
#include "ops.def"
#undef FV_OP
};

/* ---- Elementwise operations -------------------------------------------------------------------------------------- */
enum {
    RANGE_UNIT = 64,
    RANGE_GRAIN = 128
}; /* elements that one thread takes at least, and how many of these are worth a thread */

typedef struct whole {
    const fv_task *task;
    fv_range *range;
    int64_t elements;
} whole;

static void run_range(const void *argument, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const whole *w = argument;
    w->range(w->task, begin * RANGE_UNIT, least(end * RANGE_UNIT, w->elements));
}
int fv_run_ranges(fv_device *device, const fv_task *task) {
    whole w = { task, device->set->kernel[task->op]->range, fv_elements(&task->output[0]) };
    fv_parallel(device, div_up(w.elements, RANGE_UNIT), RANGE_GRAIN, run_range, &w);
    return FV_OK;
}

/* op_count and op_checksum of a built-in backend are those of the library itself. */
const fv_backend fv_backend_cpu = {
    .abi = FV_BACKEND_ABI,
    .op_count = FV_OP_COUNT,
    .real_bytes = 4,
    .name = "cpu",
    .open = cpu_open,
    .close = cpu_close,
    .describe = cpu_describe,
    .identity = cpu_identity,
    .alternatives = cpu_alternatives,
    .alloc = cpu_alloc,
    .free = cpu_free,
    .upload = cpu_copy,
    .download = cpu_copy,
    .copy = cpu_copy,
    .fill = cpu_fill,
    .sync = cpu_sync,
    .peak = cpu_peak,
    .group = fv_cpu_group,
    .group_run = fv_cpu_group_run,
    .group_release = fv_cpu_group_release,
    .kernels = dispatch,
};
