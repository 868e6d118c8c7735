/* runtime.c - the CUDA runtime of the fake GPU: memory, streams, capture, graphs, failure of the n-th call. See fake.h. */
#include "fake.h"
#include "devices.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#define HIDE(p, n) __asan_poison_memory_region(p, n)
#define SHOW(p, n) __asan_unpoison_memory_region(p, n)
#else
#define HIDE(p, n) ((void)(p), (void)(n))
#define SHOW(p, n) ((void)(p), (void)(n))
#endif

/* One piece of work. Graphs and queues share it by count, so a replay runs the very bytes that were captured. */
typedef struct Work {
    int refs;
    const char *name;
    void (*run)(void *);
    void (*drop)(void *);
    _Alignas(16) char args[];
} Work;
typedef struct Link {
    Work *work;
    struct Link *next;
} Link;
typedef struct Block {
    char *p;
    size_t n;
    struct Block *next;
} Block;
struct CUgraph_st {
    Link *head, **tail;
    int work_count;
};
struct CUgraphExec_st {
    Link *head, **tail;
};
struct CUstream_st {
    Link *head, **tail;
    uint64_t pushed, done;
    cudaGraph_t capture;
    int spoiled;
    enum cudaStreamCaptureMode mode;
    struct CUstream_st *next;
};
struct CUevent_st {
    cudaStream_t stream;
    uint64_t position;
};

fake_control fake = { .capacity = (size_t)1 << 30, .driver = CUDART_VERSION };
__attribute__((constructor)) static void read_settings(void) {
    const char *text = getenv("FV_EMULATOR_NO_PLANS");
    fake.no_plans = text && *text == '1';
}
static Block *device_blocks, *pinned_blocks;
static cudaStream_t streams;
#define used    (fake.used)
#define objects (fake.objects)
static int showing;
static cudaError_t last_error;

/* ---- failure and complaints ---- */
int fake_fails(const char *call) {
    fake.calls++;
    int f = fake.fail_at && (fake.calls == fake.fail_at || (fake.sticky && fake.calls > fake.fail_at));
    if (f && fake.calls == fake.fail_at) fake.failed_call = call;
    return f;
}
void fake_complain(const char *format, ...) {
    va_list v;
    va_start(v, format);
    vsnprintf(fake.last, sizeof fake.last, format, v);
    va_end(v);
    fake.complaints++;
    if (!fake.quiet) fprintf(stderr, "FAKE-GPU: %s\n", fake.last);
}
cudaError_t fake_error(cudaError_t e) {
    if (e) last_error = e;
    return e;
}
#define give fake_error

/* ---- memory: poisoned for the sanitizer except while device work runs ---- */
static Block *find(Block *list, const void *p) {
    for (Block *b = list; b; b = b->next)
        if ((const char *)p >= b->p && (const char *)p < b->p + b->n) return b;
    return NULL;
}
int fake_is_device(const void *p) { return find(device_blocks, p) != NULL; }
int fake_on_device(const void *p, size_t n, const char *who) {
    Block *b = find(device_blocks, p);
    if (b && n <= b->n - (size_t)((const char *)p - b->p)) return 1;
    if (b)
        fake_complain("%s: %zu bytes run past the end of their device allocation (%zu left)", who, n,
                      b->n - (size_t)((const char *)p - b->p));
    else
        fake_complain("%s: not a live device pointer", who);
    return 0;
}
static void show(void) {
    if (!showing++)
        for (Block *b = device_blocks; b; b = b->next) SHOW(b->p, b->n);
}
static void hide(void) {
    if (!--showing)
        for (Block *b = device_blocks; b; b = b->next) HIDE(b->p, b->n);
}

/* ---- streams ---- */
static void release(Work *w) {
    if (--w->refs) return;
    if (w->drop) w->drop(w->args);
    free(w);
}
static void append(Link ***tail, Work *w) {
    Link *l = malloc(sizeof *l);
    *l = (Link){ w, NULL };
    w->refs++;
    **tail = l;
    *tail = &l->next;
}
static void run_until(cudaStream_t s, uint64_t position) {
    while (s->head && s->done < position) {
        Link *l = s->head;
        s->head = l->next;
        if (!s->head) s->tail = &s->head;
        s->done++;
        show();
        fake.launches++;
        l->work->run(l->work->args);
        hide();
        release(l->work);
        free(l);
    }
}
static void run_all(void) {
    for (cudaStream_t s = streams; s; s = s->next) run_until(s, UINT64_MAX);
}
int fake_stream_ok(cudaStream_t s, const char *who) {
    if (!s) return 1;
    for (cudaStream_t t = streams; t; t = t->next)
        if (t == s) return 1;
    fake_complain("%s: not a live stream", who);
    return 0;
}
static int fake_capturing(cudaStream_t s) { return s && s->capture; }
/* A call that would synchronise or allocate spoils every capture that is not relaxed, as the driver does (error 900, then 901). */
static int forbidden(const char *who) {
    int n = 0;
    for (cudaStream_t s = streams; s; s = s->next)
        if (s->capture && s->mode != cudaStreamCaptureModeRelaxed) {
            s->spoiled = 1;
            n++;
        }
    if (n) fake_complain("%s while a stream is being captured", who);
    return n;
}
cudaError_t fake_submit(cudaStream_t s, const char *name, void (*run)(void *), void (*drop)(void *), const void *args,
                        size_t n) {
    Work *w = malloc(sizeof *w + n);
    w->refs = 0;
    w->name = name;
    w->run = run;
    w->drop = drop;
    memcpy(w->args, args, n);
    if (!s) { /* legacy default stream: waits for all others */
        if (forbidden("work in the default stream")) {
            w->refs = 1;
            release(w);
            return give(cudaErrorStreamCaptureImplicit);
        }
        run_all();
        show();
        w->refs = 1;
        run(w->args);
        hide();
        release(w);
        return cudaSuccess;
    }
    if (s->capture) {
        append(&s->capture->tail, w);
        s->capture->work_count++;
        return cudaSuccess;
    }
    append(&s->tail, w);
    s->pushed++;
    if (!fake.lazy) run_until(s, UINT64_MAX);
    return cudaSuccess;
}

cudaError_t cudaMalloc(void **p, size_t n) {
    if (forbidden("cudaMalloc")) return give(cudaErrorStreamCaptureUnsupported);
    if (fake_fails("cudaMalloc") || used + n > fake.capacity) return give(cudaErrorMemoryAllocation);
    Block *b = malloc(sizeof *b);
    b->n = n;
    b->p = aligned_alloc(256, (n + 255) / 256 * 256 + (n ? 0 : 256)); /* the true alignment of cudaMalloc, not more */
    memset(b->p, 0xFF, n); /* NaN in f32, bf16 and f16: what is read before it is written shows in the result */
    if (!showing) HIDE(b->p, (n + 255) / 256 * 256);
    b->next = device_blocks;
    device_blocks = b;
    used += n;
    *p = b->p;
    return cudaSuccess;
}
cudaError_t cudaFree(void *p) {
    if (!p) return cudaSuccess;
    if (forbidden("cudaFree")) return give(cudaErrorStreamCaptureUnsupported);
    run_all();
    for (Block **q = &device_blocks; *q; q = &(*q)->next)
        if ((*q)->p == p) {
            Block *b = *q;
            *q = b->next;
            used -= b->n;
            SHOW(b->p, (b->n + 255) / 256 * 256);
            free(b->p);
            free(b);
            return cudaSuccess;
        }
    fake_complain("cudaFree of a pointer that is not a live device allocation");
    return give(cudaErrorInvalidValue);
}
cudaError_t cudaMallocHost(void **p, size_t n) {
    if (fake_fails("cudaMallocHost")) return give(cudaErrorMemoryAllocation);
    Block *b = malloc(sizeof *b);
    b->p = malloc(n ? n : 1);
    b->n = n;
    memset(b->p, 0xFF, n);
    b->next = pinned_blocks;
    pinned_blocks = b;
    objects++;
    *p = b->p;
    return cudaSuccess;
}
cudaError_t cudaFreeHost(void *p) {
    run_all();
    for (Block **q = &pinned_blocks; *q; q = &(*q)->next)
        if ((*q)->p == p) {
            Block *b = *q;
            *q = b->next;
            free(b->p);
            free(b);
            objects--;
            return cudaSuccess;
        }
    if (!p) return cudaSuccess;
    fake_complain("cudaFreeHost of a pointer that is not pinned");
    return give(cudaErrorInvalidValue);
}
cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total) {
    if (fake_fails("cudaMemGetInfo")) return give(cudaErrorUnknown);
    *free_bytes = fake.capacity - used;
    *total = fake.capacity;
    return cudaSuccess;
}

typedef struct Copy {
    void *to;
    const void *from;
    size_t n;
    enum cudaMemcpyKind kind;
} Copy;
static int copy_ok(
    const Copy *c) { /* asked when the call is made and again when it runs: a replay may come after a free */
    int to_device = c->kind == cudaMemcpyHostToDevice || c->kind == cudaMemcpyDeviceToDevice,
        from_device = c->kind == cudaMemcpyDeviceToHost || c->kind == cudaMemcpyDeviceToDevice;
    if (to_device && !fake_on_device(c->to, c->n, "copy: destination")) return 0;
    if (from_device && !fake_on_device(c->from, c->n, "copy: source")) return 0;
    if (!to_device && fake_is_device(c->to)) {
        fake_complain("copy: a device pointer given as host destination");
        return 0;
    }
    if (!from_device && fake_is_device(c->from)) {
        fake_complain("copy: a device pointer given as host source");
        return 0;
    }
    return 1;
}
static void copy_run(void *p) {
    Copy *c = p;
    if (copy_ok(c)) memmove(c->to, c->from, c->n);
}
static cudaError_t copy(Copy c, cudaStream_t s, int async) {
    if (c.kind > cudaMemcpyDeviceToDevice || !copy_ok(&c)) return give(cudaErrorInvalidValue);
    if (c.n == 0) return cudaSuccess;
    const void *host = c.kind == cudaMemcpyHostToDevice ? c.from : c.kind == cudaMemcpyDeviceToHost ? c.to : NULL;
    int pageable = host && !find(pinned_blocks, host);
    if (fake_capturing(s) && pageable) {
        s->spoiled = 1;
        fake_complain("copy from or to pageable memory while capturing: a replay would read it later");
        return give(cudaErrorStreamCaptureUnsupported);
    }
    cudaError_t e = fake_submit(s, "copy", copy_run, NULL, &c, sizeof c);
    if (!e && (!async || pageable) && s)
        run_until(s, UINT64_MAX); /* the runtime stages pageable memory before it returns */
    return e;
}
cudaError_t cudaMemcpy(void *d, const void *s, size_t n, enum cudaMemcpyKind k) {
    if (forbidden("cudaMemcpy")) return give(cudaErrorStreamCaptureUnsupported);
    if (fake_fails("cudaMemcpy")) return give(cudaErrorIllegalAddress);
    return copy((Copy){ d, s, n, k }, NULL, 0);
}
cudaError_t cudaMemcpyAsync(void *d, const void *s, size_t n, enum cudaMemcpyKind k, cudaStream_t st) {
    if (!fake_stream_ok(st, "cudaMemcpyAsync")) return give(cudaErrorInvalidResourceHandle);
    if (fake_fails("cudaMemcpyAsync")) return give(cudaErrorIllegalAddress);
    return copy((Copy){ d, s, n, k }, st, 1);
}
typedef struct Fill {
    void *p;
    int value;
    size_t n;
} Fill;
static void fill_run(void *p) {
    Fill *f = p;
    if (fake_on_device(f->p, f->n, "memset")) memset(f->p, f->value, f->n);
}
cudaError_t cudaMemsetAsync(void *p, int v, size_t n, cudaStream_t s) {
    if (!fake_stream_ok(s, "cudaMemsetAsync")) return give(cudaErrorInvalidResourceHandle);
    if (fake_fails("cudaMemsetAsync")) return give(cudaErrorIllegalAddress);
    if (n && !fake_on_device(p, n, "cudaMemsetAsync")) return give(cudaErrorInvalidValue);
    Fill f = { p, v, n };
    return n ? fake_submit(s, "memset", fill_run, NULL, &f, sizeof f) : cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *s, unsigned flags) {
    (void)flags;
    if (fake_fails("cudaStreamCreate")) return give(cudaErrorMemoryAllocation);
    cudaStream_t t = calloc(1, sizeof *t);
    t->tail = &t->head;
    t->next = streams;
    streams = t;
    objects++;
    *s = t;
    return cudaSuccess;
}
cudaError_t cudaStreamCreate(cudaStream_t *s) { return cudaStreamCreateWithFlags(s, 0); }
cudaError_t cudaStreamDestroy(cudaStream_t s) {
    if (!s || !fake_stream_ok(s, "cudaStreamDestroy")) return give(cudaErrorInvalidResourceHandle);
    run_until(s, UINT64_MAX);
    if (s->capture) {
        fake_complain("cudaStreamDestroy while capturing");
        cudaGraphDestroy(s->capture);
    }
    for (cudaStream_t *q = &streams; *q; q = &(*q)->next)
        if (*q == s) {
            *q = s->next;
            break;
        }
    free(s);
    objects--;
    return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t s) {
    if (!fake_stream_ok(s, "cudaStreamSynchronize")) return give(cudaErrorInvalidResourceHandle);
    if (forbidden("cudaStreamSynchronize")) return give(cudaErrorStreamCaptureUnsupported);
    if (s)
        run_until(s, UINT64_MAX);
    else
        run_all();
    return fake_fails("cudaStreamSynchronize") ? give(cudaErrorLaunchFailure) : cudaSuccess;
}
cudaError_t cudaDeviceSynchronize(void) {
    if (forbidden("cudaDeviceSynchronize")) return give(cudaErrorStreamCaptureUnsupported);
    run_all();
    return fake_fails("cudaDeviceSynchronize") ? give(cudaErrorLaunchFailure) : cudaSuccess;
}

/* An event is a position in a stream; waiting for it in another stream is work that first runs that stream up to there. */
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *e, unsigned flags) {
    (void)flags;
    if (fake_fails("cudaEventCreate")) return give(cudaErrorMemoryAllocation);
    *e = calloc(1, sizeof **e);
    objects++;
    return cudaSuccess;
}
cudaError_t cudaEventCreate(cudaEvent_t *e) { return cudaEventCreateWithFlags(e, 0); }
cudaError_t cudaEventDestroy(cudaEvent_t e) {
    free(e);
    objects--;
    return cudaSuccess;
}
static int event_in_capture(cudaStream_t s) {
    if (!fake_capturing(s)) return 0;
    s->spoiled = 1;
    fake_complain("events in a capture (fork and join) are not modelled");
    return 1;
}
cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t s) {
    if (fake_fails("cudaEventRecord")) return give(cudaErrorUnknown);
    if (event_in_capture(s)) return give(cudaErrorStreamCaptureUnsupported);
    e->stream = s;
    e->position = s ? s->pushed : 0;
    return cudaSuccess;
}
typedef struct Wait {
    cudaStream_t stream;
    uint64_t position;
} Wait;
static void wait_run(void *p) {
    Wait *w = p;
    for (cudaStream_t t = streams; t; t = t->next)
        if (t == w->stream) run_until(t, w->position);
}
cudaError_t cudaStreamWaitEvent(cudaStream_t s, cudaEvent_t e, unsigned flags) {
    (void)flags;
    if (fake_fails("cudaStreamWaitEvent")) return give(cudaErrorUnknown);
    if (event_in_capture(s)) return give(cudaErrorStreamCaptureUnsupported);
    Wait w = { e->stream, e->position };
    return fake_submit(s, "wait", wait_run, NULL, &w, sizeof w);
}
cudaError_t cudaEventSynchronize(cudaEvent_t e) {
    if (forbidden("cudaEventSynchronize")) return give(cudaErrorStreamCaptureUnsupported);
    Wait w = { e->stream, e->position };
    wait_run(&w);
    return fake_fails("cudaEventSynchronize") ? give(cudaErrorLaunchFailure) : cudaSuccess;
}
cudaError_t cudaEventQuery(cudaEvent_t e) {
    if (forbidden("cudaEventQuery")) return give(cudaErrorStreamCaptureUnsupported);
    return e->stream && e->stream->done < e->position ? cudaErrorNotReady : cudaSuccess;
}
cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t a, cudaEvent_t b) {
    (void)a;
    (void)b;
    *ms = 1;
    return cudaSuccess;
}

/* ---- capture and graphs ---- */
cudaError_t cudaStreamBeginCapture(cudaStream_t s, enum cudaStreamCaptureMode mode) {
    if (!s || !fake_stream_ok(s, "cudaStreamBeginCapture"))
        return give(cudaErrorStreamCaptureUnsupported); /* the default stream cannot be captured */
    if (fake_fails("cudaStreamBeginCapture") || s->capture) return give(cudaErrorIllegalState);
    s->capture = calloc(1, sizeof *s->capture);
    s->capture->tail = &s->capture->head;
    s->mode = mode;
    s->spoiled = 0;
    objects++;
    return cudaSuccess;
}
cudaError_t cudaStreamIsCapturing(cudaStream_t s, enum cudaStreamCaptureStatus *status) {
    *status = !fake_capturing(s) ? cudaStreamCaptureStatusNone
              : s->spoiled       ? cudaStreamCaptureStatusInvalidated
                                 : cudaStreamCaptureStatusActive;
    return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t s, cudaGraph_t *graph) {
    *graph = NULL;
    if (!fake_capturing(s)) return give(cudaErrorIllegalState);
    cudaGraph_t g = s->capture;
    int failed = fake_fails("cudaStreamEndCapture") || s->spoiled;
    s->capture = NULL; /* the capture ends in any case, or the stream would stay unusable */
    if (failed) {
        cudaGraphDestroy(g);
        return give(cudaErrorStreamCaptureInvalidated);
    }
    *graph = g;
    return cudaSuccess;
}
static void drop_links(Link *l) {
    while (l) {
        Link *n = l->next;
        release(l->work);
        free(l);
        l = n;
    }
}
cudaError_t cudaGraphDestroy(cudaGraph_t g) {
    drop_links(g->head);
    free(g);
    objects--;
    return cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t *exec, cudaGraph_t g, unsigned long long flags) {
    (void)flags;
    *exec = NULL;
    if (fake_fails("cudaGraphInstantiate")) return give(cudaErrorMemoryAllocation);
    cudaGraphExec_t e = calloc(1, sizeof *e);
    e->tail = &e->head;
    for (Link *l = g->head; l; l = l->next) append(&e->tail, l->work);
    objects++;
    *exec = e;
    return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t e) {
    run_all();
    drop_links(e->head);
    free(e);
    objects--;
    return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t e, cudaStream_t s) {
    if (!e || !s || !fake_stream_ok(s, "cudaGraphLaunch")) return give(cudaErrorInvalidResourceHandle);
    if (fake_fails("cudaGraphLaunch")) return give(cudaErrorLaunchFailure);
    if (s->capture) {
        s->spoiled = 1;
        fake_complain("cudaGraphLaunch into a capturing stream is not modelled");
        return give(cudaErrorStreamCaptureUnsupported);
    }
    for (Link *l = e->head; l; l = l->next) {
        append(&s->tail, l->work);
        s->pushed++;
    }
    if (!fake.lazy) run_until(s, UINT64_MAX);
    return cudaSuccess;
}

cudaError_t cudaGetLastError(void) {
    cudaError_t e = last_error;
    last_error = cudaSuccess;
    return e;
}
cudaError_t cudaPeekAtLastError(void) { return last_error; }
cudaError_t cudaGetDeviceCount(int *n) {
    *n = 0;
    if (fake.driver < CUDART_VERSION) return give(cudaErrorInsufficientDriver);
    if (fake.no_device || fake_fails("cudaGetDeviceCount")) return give(cudaErrorNoDevice);
    *n = 1;
    return cudaSuccess;
}
cudaError_t cudaGetDevice(int *d) {
    *d = 0;
    return cudaSuccess;
}
cudaError_t cudaSetDevice(int d) {
    return fake_fails("cudaSetDevice") || d ? give(cudaErrorInvalidDevice) : cudaSuccess;
}

/* ---- Launches ---------------------------------------------------------------------------------------------------- */

/* A launch has no result: the host must ask cudaGetLastError. */
void fake_launch_failed(cudaError_t error) { give(error); }

void fake_launch(cudaStream_t s, const char *name, void (*run)(void *), const void *arguments, size_t bytes) {
    if (!fake_stream_ok(s, name))
        give(cudaErrorInvalidResourceHandle);
    else if (fake.no_image)
        give(cudaErrorNoKernelImageForDevice);
    else if (fake_fails(name))
        give(cudaErrorLaunchFailure);
    else
        fake_submit(s, name, run, NULL, arguments, bytes);
}

/* ---- The device -------------------------------------------------------------------------------------------------- */

cudaError_t cudaDriverGetVersion(int *version) {
    *version = fake.driver;
    return cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int *version) {
    *version = CUDART_VERSION;
    return cudaSuccess;
}
/* One of devices.h, as far as this backend looks. */
cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *p, int device) {
    if (fake_fails("cudaGetDeviceProperties") || device) return give(cudaErrorInvalidDevice);
    memset(p, 0, sizeof *p);
    const fake_device *is = &fake_devices[fake.device];
    snprintf(p->name, sizeof p->name, "emulated %s", is->name);
    p->major = is->capability / 10;
    p->minor = is->capability % 10;
    p->multiProcessorCount = 4; /* few, so that grids stride */
    p->totalGlobalMem = fake.capacity;
    p->maxThreadsPerBlock = 1024;
    p->sharedMemPerBlock = 48 << 10;
    p->sharedMemPerBlockOptin = 227 << 10;
    p->warpSize = 32;
    return cudaSuccess;
}
const char *cudaGetErrorString(cudaError_t error) {
    static const struct {
        cudaError_t error;
        const char *text;
    } texts[] = {
        { cudaSuccess, "no error" },
        { cudaErrorInvalidValue, "invalid argument" },
        { cudaErrorMemoryAllocation, "out of memory" },
        { cudaErrorInvalidConfiguration, "invalid configuration argument" },
        { cudaErrorInvalidDevice, "invalid device ordinal" },
        { cudaErrorNoDevice, "no CUDA-capable device is detected" },
        { cudaErrorInsufficientDriver, "CUDA driver version is insufficient for CUDA runtime version" },
        { cudaErrorNoKernelImageForDevice, "no kernel image is available for execution on the device" },
        { cudaErrorIllegalAddress, "an illegal memory access was encountered" },
        { cudaErrorLaunchFailure, "unspecified launch failure" },
        { cudaErrorInvalidResourceHandle, "invalid resource handle" },
        { cudaErrorStreamCaptureUnsupported, "operation not permitted when stream is capturing" },
        { cudaErrorStreamCaptureInvalidated, "operation failed due to a previous error during capture" },
        { cudaErrorIllegalState, "the operation cannot be performed in the present state" },
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        if (texts[i].error == error) return texts[i].text;
    return "unknown error";
}
