/* emulator.h - runs the project's .cu files on the CPU, so that kernels can be tested, also under AddressSanitizer, UBSan and clang's
 * ThreadSanitizer, where there is no GPU. src/cuda/launch.h includes it when the compiler is not nvcc.
 *
 * Blocks run one after another; each CUDA thread of a block is a fiber, switched at barriers and shuffles only. A thread that
 * ends without meeting a barrier lets the next one run on its stack, so kernels without barriers never switch. Checked besides
 * what sanitizers see: launch limits, divergent __syncthreads, warp operations whose masks name lanes that are gone, deadlock.
 * Shared memory is a heap block of the exact size, filled with 0xFF (NaN) for each block of the grid.
 *
 * FV_EMULATOR_ORDER = forward (default) | reverse | random: in which order the threads of a block run. A correct kernel gives the
 * same result in all of them. Under ThreadSanitizer every thread is a fiber of the sanitizer and only __syncthreads, __syncwarp
 * and the ends of a launch order memory accesses: races are found also between blocks. */
#ifndef FV_EMULATOR_H
#define FV_EMULATOR_H
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <math.h>
#include <cuda_runtime.h> /* dim3, float4, cudaStream_t ... as host code sees them */
#include <sys/mman.h>
#include <type_traits>
#include <utility>
#include "fake.h"

#ifndef __has_feature
#define __has_feature(x) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || __has_feature(address_sanitizer)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#define EMULATOR_ASAN 1
#endif
#if defined(__SANITIZE_THREAD__) || __has_feature(thread_sanitizer)
#include <sanitizer/tsan_interface.h>
#define EMULATOR_TSAN 1
#endif

#undef __global__
#undef __device__
#undef __host__
#undef __constant__
#undef __forceinline__
#undef __noinline__
#undef __grid_constant__
#undef __launch_bounds__
#define __global__ [[maybe_unused]] static
#define __device__
#define __host__
#define __constant__
#define __forceinline__ inline
#define __noinline__    __attribute__((noinline))
#define __grid_constant__
#define __launch_bounds__(...)

namespace emulator {
/* The scheduler itself is not instrumented: it moves between stacks. */
#define EMULATOR_PLAIN __attribute__((no_sanitize("address", "undefined", "thread"), noinline))

enum { LANES = 32, STACK = 256 << 10, GUARD = 4096, MOST_THREADS = 1024, MOST_SHARED = 64 };
enum state { FRESH, READY, AT_BLOCK_BARRIER, AT_WARP_BARRIER, ENDED };

struct place {
    const char *file;
    int line;
};
struct thread {
    uint3 index;
    unsigned number;
    void *stack_pointer;
    unsigned char *stack;
    state now;
    place at;         /* of the barrier it waits at */
    unsigned mask;    /* of the warp operation      */
    uint64_t offered; /* to the lanes of its warp   */
    void *asan, *tsan;
};
struct shared_block {
    int site;
    unsigned char *data;
    size_t bytes;
    char order;
};

inline dim3 grid_size, block_size;
inline uint3 block_index;
inline const char *kernel_name;
inline size_t dynamic_bytes;
inline void (*body)(void *);
inline void *body_argument;

inline thread threads[MOST_THREADS];
inline thread *current;
inline unsigned thread_count, alive, sequence[MOST_THREADS], next_fresh, barriers;
inline unsigned char *free_stacks[MOST_THREADS];
inline unsigned free_stack_count;
inline void *scheduler_stack_pointer, *scheduler_asan, *scheduler_tsan;
inline const void *scheduler_stack;
inline size_t scheduler_stack_bytes;
inline char block_order[2], launch_begin, launch_end; /* addresses that order accesses for ThreadSanitizer */
inline shared_block shared_blocks[MOST_SHARED];
inline unsigned shared_count;
inline unsigned char **old_shared;
inline size_t old_count, old_room;
inline uint64_t random_state = 88172645463325252ull;

#if defined(__x86_64__)
[[gnu::naked, gnu::noinline]] inline void swap_stacks(void ** /*save*/, void * /*to*/) {
    asm volatile("pushq %rbp\n pushq %rbx\n pushq %r12\n pushq %r13\n pushq %r14\n pushq %r15\n movq %rsp,(%rdi)\n"
                 "movq %rsi,%rsp\n popq %r15\n popq %r14\n popq %r13\n popq %r12\n popq %rbx\n popq %rbp\n ret\n");
}
#else
#error "the emulator switches stacks with x86-64 instructions"
#endif

EMULATOR_PLAIN inline void report(const char *what, const place &a, const place &b) {
    fake_complain("%s: kernel %s, block (%u,%u,%u), thread (%u,%u,%u), at %s:%d and %s:%d", what, kernel_name,
                  block_index.x, block_index.y, block_index.z, current ? current->index.x : 0,
                  current ? current->index.y : 0, current ? current->index.z : 0, a.file, a.line, b.file, b.line);
}

/* ---- Switching -------------------------------------------------------------------------------------------------------- */

EMULATOR_PLAIN inline void to_scheduler(bool ending) {
    thread *self = current;
#ifdef EMULATOR_ASAN
    __sanitizer_start_switch_fiber(ending ? nullptr : &self->asan, scheduler_stack, scheduler_stack_bytes);
#endif
#ifdef EMULATOR_TSAN
    __tsan_switch_to_fiber(scheduler_tsan, 1);
#endif
    (void)ending;
    swap_stacks(&self->stack_pointer, scheduler_stack_pointer);
#ifdef EMULATOR_ASAN
    __sanitizer_finish_switch_fiber(self->asan, &scheduler_stack, &scheduler_stack_bytes);
#endif
}

EMULATOR_PLAIN inline void thread_main() {
#ifdef EMULATOR_ASAN
    __sanitizer_finish_switch_fiber(nullptr, &scheduler_stack, &scheduler_stack_bytes);
#endif
#ifdef EMULATOR_TSAN
    __tsan_acquire(&launch_begin);
#endif
    body(body_argument);
#ifdef EMULATOR_TSAN
    __tsan_release(&launch_end);
#else
    while (next_fresh < thread_count) { /* the next fresh thread goes on upon this stack */
        thread &next = threads[sequence[next_fresh++]];
        if (next.now != FRESH) continue;
        current->now = ENDED;
        alive--;
        next.stack = current->stack;
        current->stack = nullptr;
        next.now = READY;
        current = &next;
        body(body_argument);
    }
#endif
    current->now = ENDED;
    to_scheduler(true);
    __builtin_unreachable();
}

EMULATOR_PLAIN inline void start(thread &t) {
    if (!free_stack_count) {
        void *memory =
            mmap(nullptr, STACK + GUARD, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        mprotect(memory, GUARD, PROT_NONE); /* below the stack */
        free_stacks[free_stack_count++] = (unsigned char *)memory;
    }
    t.stack = free_stacks[--free_stack_count];
    void **top = (void **)(t.stack + GUARD + STACK - 16);
    *--top = nullptr;
    *--top = (void *)thread_main;
    t.stack_pointer = top - 6; /* the six registers that swap_stacks pops */
    t.asan = nullptr;
#ifdef EMULATOR_TSAN
    t.tsan = __tsan_create_fiber(0);
#endif
}

EMULATOR_PLAIN inline void resume(thread &t) {
    current = &t;
    if (t.now == FRESH) start(t);
    t.now = READY;
#ifdef EMULATOR_ASAN
    __sanitizer_start_switch_fiber(&scheduler_asan, t.stack + GUARD, STACK);
#endif
#ifdef EMULATOR_TSAN
    __tsan_switch_to_fiber(t.tsan, 1);
#endif
    swap_stacks(&scheduler_stack_pointer, t.stack_pointer);
#ifdef EMULATOR_ASAN
    __sanitizer_finish_switch_fiber(scheduler_asan, nullptr, nullptr);
#endif
    if (current->now == ENDED) { /* current: another thread may have ended upon the stack of t */
#ifdef EMULATOR_TSAN
        __tsan_destroy_fiber(current->tsan);
#endif
#ifdef EMULATOR_TSAN
        munmap(current->stack, STACK + GUARD); /* the next thread's stack must not be taken for this one's: that would be a race */
#else
        free_stacks[free_stack_count++] = current->stack;
#endif
        current->stack = nullptr;
        alive--;
    }
    current = nullptr;
}

/* ---- A block ---------------------------------------------------------------------------------------------------------- */

/* Not memset, which sanitizers intercept. */
EMULATOR_PLAIN inline void fill(void *p, int byte, size_t bytes) {
    volatile unsigned char *q = (unsigned char *)p;
    while (bytes--) *q++ = (unsigned char)byte;
}

EMULATOR_PLAIN inline void shuffle_sequence() {
    for (unsigned i = thread_count; i > 1; i--) {
        random_state ^= random_state << 13;
        random_state ^= random_state >> 7;
        random_state ^= random_state << 17;
        const unsigned j = (unsigned)(random_state % i);
        std::swap(sequence[i - 1], sequence[j]);
    }
}

EMULATOR_PLAIN inline void report_at(thread &t, const char *what, const place &other) {
    current = &t;
    report(what, other, t.at);
    current = nullptr;
}

/* Lets the lanes of a warp operation go once all that its mask names have come. */
EMULATOR_PLAIN inline bool release_warps() {
    bool progress = false;
    for (unsigned warp = 0; warp < thread_count; warp += LANES)
        for (unsigned i = warp; i < thread_count && i < warp + LANES; i++) {
            if (threads[i].now != AT_WARP_BARRIER) continue;
            const unsigned mask = threads[i].mask;
            unsigned here = 0, gone = 0;
            for (unsigned lane = 0; lane < LANES && warp + lane < thread_count; lane++) {
                const thread &t = threads[warp + lane];
                if (!(mask >> lane & 1)) continue;
                here |= (unsigned)(t.now == AT_WARP_BARRIER && t.mask == mask) << lane;
                gone |= (unsigned)(t.now == ENDED) << lane;
            }
            const unsigned full = mask & (thread_count - warp >= LANES ? ~0u : (1u << (thread_count - warp)) - 1);
            if (gone) report_at(threads[i], "the mask of a warp operation names lanes that have ended", threads[i].at);
            if ((here | gone) != full) continue;
            const place first = threads[i].at;
            for (unsigned lane = 0; lane < LANES && warp + lane < thread_count; lane++) {
                if (!(here >> lane & 1)) continue;
                if (threads[warp + lane].at.line != first.line)
                    report_at(threads[warp + lane], "lanes meet at different warp operations", first);
                threads[warp + lane].now = READY;
                progress = true;
            }
        }
    return progress;
}

EMULATOR_PLAIN inline bool release_block() {
    unsigned waiting = 0;
    const thread *first = nullptr;
    for (unsigned i = 0; i < thread_count; i++)
        if (threads[i].now == AT_BLOCK_BARRIER) {
            if (!waiting++) first = &threads[i];
        }
    if (!waiting || waiting != alive) return false;
    if (alive != thread_count) report("__syncthreads that ended threads do not reach", first->at, first->at);
    for (unsigned i = 0; i < thread_count; i++) {
        if (threads[i].now != AT_BLOCK_BARRIER) continue;
        if (threads[i].at.line != first->at.line) report_at(threads[i], "divergent __syncthreads", first->at);
        threads[i].now = READY;
    }
    barriers++;
    return true;
}

EMULATOR_PLAIN inline void free_old_shared() {
    while (old_count) free(old_shared[--old_count]);
}

EMULATOR_PLAIN inline void run_block(int order) {
    thread_count = alive = block_size.x * block_size.y * block_size.z;
    next_fresh = 0;
    for (unsigned i = 0; i < thread_count; i++) {
        fill(&threads[i], 0, sizeof threads[i]);
        threads[i].number = i;
        threads[i].index = { i % block_size.x, i / block_size.x % block_size.y, i / (block_size.x * block_size.y) };
        sequence[i] = order == 1 ? thread_count - 1 - i : i;
    }
    while (alive) {
        bool progress = false;
        if (order == 2) shuffle_sequence();
        for (unsigned k = 0; k < thread_count; k++) {
            thread &t = threads[sequence[k]];
            if (t.now != FRESH && t.now != READY) continue;
            if (next_fresh <= k) next_fresh = k + 1;
            resume(t);
            progress = true;
        }
        if (!alive) break;
        progress |= release_warps();
        progress |= release_block();
        if (progress) continue;
        for (unsigned i = 0; i < thread_count; i++)
            if (threads[i].now != ENDED) {
                report_at(threads[i], "deadlock", threads[i].at);
                abort();
            }
    }
    while (shared_count) {
        if (old_count == old_room)
            old_shared = (unsigned char **)realloc(old_shared, (old_room = old_room * 2 + 64) * sizeof *old_shared);
        old_shared[old_count++] = shared_blocks[--shared_count].data;
    }
#ifndef EMULATOR_TSAN
    free_old_shared();
#endif
}

template <class F> EMULATOR_PLAIN void run_grid(const char *name, dim3 grid, dim3 block, size_t shared, F &f) {
    const char *text = getenv("FV_EMULATOR_ORDER");
    const int order = !text ? 0 : !strcmp(text, "reverse") ? 1 : !strcmp(text, "random") ? 2 : 0;
    kernel_name = name;
    grid_size = grid;
    block_size = block;
    dynamic_bytes = shared;
    body = [](void *p) { (*(F *)p)(); };
    body_argument = (void *)&f;
#ifdef EMULATOR_TSAN
    scheduler_tsan = __tsan_get_current_fiber();
    __tsan_release(&launch_begin);
#endif
    for (unsigned z = 0; z < grid.z; z++)
        for (unsigned y = 0; y < grid.y; y++)
            for (unsigned x = 0; x < grid.x; x++) {
                block_index = { x, y, z };
                run_block(order);
            }
#ifdef EMULATOR_TSAN
    __tsan_acquire(&launch_end);
    free_old_shared();
#endif
}

/* Arguments are copied when the launch is made, as on a GPU; the work itself waits in the stream or in a graph. */
template <class F> void launch(const char *name, dim3 grid, dim3 block, size_t shared, cudaStream_t stream, F f) {
    static_assert(std::is_trivially_copyable<F>::value, "arguments of kernels are copied byte by byte");
    struct work {
        const char *name;
        dim3 grid, block;
        size_t shared;
        F f;
    } w = { name, grid, block, shared, f };
    const size_t size = (size_t)block.x * block.y * block.z;
    if (!grid.x || !grid.y || !grid.z || !size || size > MOST_THREADS || block.z > 64 || grid.y > 65535 ||
        grid.z > 65535 || shared > 232448) {
        fake_complain("%s is launched with an impossible configuration", name);
        fake_launch_failed(cudaErrorInvalidConfiguration);
        return;
    }
    fake_launch(
        stream, name,
        [](void *p) {
            work *self = (work *)p;
            run_grid(self->name, self->grid, self->block, self->shared, self->f);
        },
        &w, sizeof w);
}

/* ---- What kernels call ------------------------------------------------------------------------------------------------ */

EMULATOR_PLAIN inline unsigned char *shared_memory(int site, size_t bytes) {
    shared_block *s = nullptr;
    for (unsigned k = 0; k < shared_count; k++)
        if (shared_blocks[k].site == site) s = &shared_blocks[k];
    if (!s) {
#ifdef EMULATOR_TSAN
        __tsan_switch_to_fiber(scheduler_tsan, 1);
#endif
        if (shared_count == MOST_SHARED) abort();
        s = &shared_blocks[shared_count++];
        s->site = site;
        s->bytes = bytes;
        s->data = (unsigned char *)aligned_alloc(16, (bytes + 15) & ~(size_t)15);
        fill(s->data, 0xFF, bytes);
#ifdef EMULATOR_ASAN
        __asan_poison_memory_region(s->data + bytes, (0 - bytes) & 15);
#endif
#ifdef EMULATOR_TSAN
        __tsan_release(&s->order);
        __tsan_switch_to_fiber(current->tsan, 1);
#endif
    }
#ifdef EMULATOR_TSAN
    __tsan_acquire(&s->order);
#endif
    return s->data;
}
template <class A> inline A &shared_array(int site) { return *(A *)shared_memory(site, sizeof(A)); }

EMULATOR_PLAIN inline void sync_block(const char *file, int line) {
#ifdef EMULATOR_TSAN
    char *order = &block_order[barriers & 1];
    __tsan_release(order);
#endif
    current->at = { file, line };
    current->now = AT_BLOCK_BARRIER;
    to_scheduler(false);
#ifdef EMULATOR_TSAN
    __tsan_acquire(order);
#endif
}

EMULATOR_PLAIN inline void wait_warp(unsigned mask, const char *file, int line) {
    current->at = { file, line };
    current->mask = mask;
    current->now = AT_WARP_BARRIER;
    to_scheduler(false);
}

EMULATOR_PLAIN inline void sync_warp(unsigned mask, const char *file, int line) {
#ifdef EMULATOR_TSAN
    __tsan_release(&threads[current->number & ~31u]);
#endif
    wait_warp(mask, file, line);
#ifdef EMULATOR_TSAN
    __tsan_acquire(&threads[current->number & ~31u]);
#endif
}

/* A shuffle orders no memory. The second meeting keeps a fast lane from overwriting what a slow one has not read. */
template <class T>
EMULATOR_PLAIN T shuffle(unsigned mask, T value, int source, bool valid, const char *file, int line) {
    static_assert(sizeof(T) <= 8, "");
    T result = value;
    current->offered = 0;
    memcpy(&current->offered, &value, sizeof value);
    wait_warp(mask, file, line);
    const unsigned warp = current->number & ~31u;
    if (valid && warp + (unsigned)source < thread_count) {
        if (!(mask >> source & 1)) report("a shuffle reads a lane outside its mask", current->at, current->at);
        memcpy(&result, &threads[warp + (unsigned)source].offered, sizeof result);
    }
    wait_warp(mask, file, line);
    return result;
}
inline unsigned lane() { return current->number & 31; }
EMULATOR_PLAIN inline unsigned ballot(unsigned mask, bool vote, const char *file, int line) {
    unsigned result = 0;
    current->offered = vote;
    wait_warp(mask, file, line);
    const unsigned warp = current->number & ~31u;
    for (unsigned i = 0; i < LANES && warp + i < thread_count; i++)
        if (mask >> i & 1) result |= (unsigned)(threads[warp + i].offered & 1) << i;
    wait_warp(mask, file, line);
    return result;
}
} // namespace emulator

#define LAUNCH(kernel, grid, block, shared, stream, ...)                                                               \
    emulator::launch(#kernel, (grid), (block), (shared), (stream), [=] { (kernel)(__VA_ARGS__); })
#define SHARED(T, name, dims)                                                                                          \
    using shared_type_##name = T dims;                                                                                 \
    shared_type_##name &name = emulator::shared_array<shared_type_##name>(__COUNTER__)
#define DYN_SHARED(T, name) T *name = reinterpret_cast<T *>(emulator::shared_memory(-1, emulator::dynamic_bytes))
#define threadIdx           (emulator::current->index)
#define blockIdx            (emulator::block_index)
#define blockDim            (emulator::block_size)
#define gridDim             (emulator::grid_size)
#define warpSize            32
#define __syncthreads()     emulator::sync_block(__FILE__, __LINE__)
#define __syncwarp(mask)    emulator::sync_warp(mask, __FILE__, __LINE__)
#define __shfl_down_sync(m, v, d)                                                                                      \
    emulator::shuffle(m, v, (int)(emulator::lane() + (d)), emulator::lane() + (d) < 32, __FILE__, __LINE__)
#define __shfl_up_sync(m, v, d)                                                                                        \
    emulator::shuffle(m, v, (int)emulator::lane() - (int)(d), emulator::lane() >= (unsigned)(d), __FILE__, __LINE__)
#define __shfl_xor_sync(m, v, x)                                                                                       \
    emulator::shuffle(m, v, (int)(emulator::lane() ^ (unsigned)(x)), true, __FILE__, __LINE__)
#define __shfl_sync(m, v, s) emulator::shuffle(m, v, (int)((s)&31), true, __FILE__, __LINE__)
#define __ballot_sync(m, v)  emulator::ballot(m, v, __FILE__, __LINE__)
#define __threadfence()      __atomic_thread_fence(__ATOMIC_SEQ_CST)
template <class T> static inline T __ldg(const T *p) { return *p; }

/* Relaxed, as on the device. */
template <class T> static inline T atomicAdd(T *p, T v) {
    using bits = std::conditional_t<sizeof(T) == 8, uint64_t, uint32_t>;
    bits old = __atomic_load_n((bits *)p, __ATOMIC_RELAXED), next;
    T before;
    do {
        memcpy(&before, &old, sizeof before);
        const T after = before + v;
        memcpy(&next, &after, sizeof next);
    } while (!__atomic_compare_exchange_n((bits *)p, &old, next, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
    return before;
}
template <class T> static inline T atomicMax(T *p, T v) {
    T old = __atomic_load_n(p, __ATOMIC_RELAXED);
    while (old < v && !__atomic_compare_exchange_n(p, &old, v, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {}
    return old;
}
template <class T> static inline T atomicExch(T *p, T v) {
    T old;
    __atomic_exchange(p, &v, &old, __ATOMIC_RELAXED);
    return old;
}
static inline uint32_t __umulhi(uint32_t a, uint32_t b) { return (uint32_t)((uint64_t)a * b >> 32); }
static inline float sinpif(float x) { return (float)sin(M_PI * (double)x); }
static inline float cospif(float x) { return (float)cos(M_PI * (double)x); }
#define __expf(x)    expf(x)
#define __logf(x)    logf(x)
#define __powf(x, y) powf(x, y)
static inline float __fdividef(float a, float b) { return a / b; }
#ifndef rsqrtf
static inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }
#endif
#endif
