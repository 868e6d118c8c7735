/* shadow.c - cuDNN's backend descriptors under the fake GPU: every call goes on to the real library, which plans without a
 * device, and a copy of what was set is kept beside it. "The graph of this plan" travels along descriptor-valued attributes
 * (graph -> heuristics -> configuration -> plan). Where the host gives a handle, the real library gets device properties. */
#include "shadow.h"
#include "devices.h"
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* dlopen by name, not RTLD_NEXT: in a plugin opened with dlopen the real library is not in the global scope. */
static void *real(const char *name) {
    static void *library;
    if (!library) library = dlopen("libcudnn.so.9", RTLD_NOW | RTLD_LOCAL);
    void *f = library ? dlsym(library, name) : NULL;
    if (!f) {
        fprintf(stderr, "FAKE-GPU: no %s in libcudnn.so.9: %s\n", name, dlerror());
        abort();
    }
    return f;
}
/* What the real library loses when it finds no GPU (2 to 14 MB in one run, measured) is not ours to report: hidden from LeakSanitizer, call
   by call, so that it can stay on for the host code. A suppression file would not do: part of it comes from a library unloaded since. */
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/lsan_interface.h>
#else
#define __lsan_disable() ((void)0)
#define __lsan_enable()  ((void)0)
#endif
#define REAL(name, ...)                                                                                                \
    ({                                                                                                                 \
        __typeof__(&name) f_ = (__typeof__(&name))real(#name);                                                         \
        __lsan_disable();                                                                                              \
        cudnnStatus_t r_ = f_(__VA_ARGS__);                                                                            \
        __lsan_enable();                                                                                               \
        r_;                                                                                                            \
    })

static Shadow *shadows[1024];
static int injected; /* the latest error was made by the fake: the library's text would mislead */
static unsigned bucket(const void *p) { return (unsigned)(((uintptr_t)p >> 4) * 2654435761u >> 12) & 1023; }
static Shadow *find(cudnnBackendDescriptor_t d) {
    for (Shadow *s = shadows[bucket(d)]; s; s = s->next)
        if (s->real == d) return s;
    return NULL;
}
static cudnnStatus_t refuse(cudnnStatus_t e) {
    injected = 1;
    return e;
}

static void unref(Shadow *s) {
    if (--s->refs) return;
    for (Attribute *a = s->attributes, *n; a; a = n) {
        n = a->next;
        if (a->descriptors)
            for (int64_t i = 0; i < a->count; i++) unref(a->descriptors[i]);
        free(a->descriptors);
        free(a->data);
        free(a);
    }
    program_unref(s->program);
    free(s);
}
static void carry_program(Shadow *to, const Shadow *from) {
    if (!from->program || to->program == from->program) return;
    program_unref(to->program);
    to->program = from->program;
    to->program->refs++;
}
const Attribute *shadow_get(const Shadow *s, cudnnBackendAttributeName_t name) {
    for (const Attribute *a = s->attributes; a; a = a->next)
        if (a->name == name) return a;
    return NULL;
}

static size_t element_size(cudnnBackendAttributeType_t t) {
    switch (t) {
    case CUDNN_TYPE_BOOLEAN:
    case CUDNN_TYPE_CHAR: return 1;
    case CUDNN_TYPE_HANDLE:
    case CUDNN_TYPE_INT64:
    case CUDNN_TYPE_DOUBLE:
    case CUDNN_TYPE_VOID_PTR:
    case CUDNN_TYPE_BACKEND_DESCRIPTOR: return 8;
    case CUDNN_TYPE_FRACTION: return 16;
    default: return 4; /* float, int32 and enums */
    }
}
static void remember(Shadow *s, cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, int64_t count,
                     const void *data) {
    Attribute *a = s->attributes;
    while (a && a->name != name) a = a->next;
    if (!a) {
        a = calloc(1, sizeof *a);
        a->name = name;
        a->next = s->attributes;
        s->attributes = a;
    }
    Attribute old = *a;
    size_t n = (size_t)count * element_size(type);
    a->type = type;
    a->count = count;
    a->data = malloc(n ? n : 1);
    memcpy(a->data, data, n);
    a->descriptors = NULL;
    if (type == CUDNN_TYPE_BACKEND_DESCRIPTOR) {
        a->descriptors = calloc((size_t)count + 1, sizeof *a->descriptors);
        for (int64_t i = 0; i < count; i++) {
            a->descriptors[i] = find(((const cudnnBackendDescriptor_t *)data)[i]);
            a->descriptors[i]->refs++;
            carry_program(s, a->descriptors[i]);
        }
    }
    if (old.descriptors)
        for (int64_t i = 0; i < old.count; i++) unref(old.descriptors[i]);
    free(old.descriptors);
    free(old.data);
}

/* ---- the device that stands behind every handle ---- */
struct cudnnContext {
    uint32_t magic;
    cudaStream_t stream;
};
static int handle_ok(cudnnHandle_t h, const char *who) {
    if (h && h->magic == 0xC0DA) return 1;
    fake_complain("%s: not a live handle", who);
    return 0;
}
static cudnnStatus_t set_json(cudnnBackendDescriptor_t d) {
    char json[FAKE_DEVICE_BYTES];
    fake_device_json(&fake_devices[fake.device], json);
    return REAL(cudnnBackendSetAttribute, d, CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, CUDNN_TYPE_CHAR,
                (int64_t)strlen(json) + 1, json);
}
static cudnnStatus_t use_device(cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t name) {
    cudnnBackendDescriptor_t p;
    cudnnStatus_t e = REAL(cudnnBackendCreateDescriptor, CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR, &p);
    if (e) return e;
    if (!(e = set_json(p)) && !(e = REAL(cudnnBackendFinalize, p)))
        e = REAL(cudnnBackendSetAttribute, d, name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &p);
    REAL(cudnnBackendDestroyDescriptor, p); /* cuDNN keeps its own reference */
    return e;
}
cudnnStatus_t cudnnCreate(cudnnHandle_t *h) {
    if (fake_fails("cudnnCreate")) return refuse(CUDNN_STATUS_NOT_INITIALIZED);
    *h = calloc(1, sizeof **h);
    (*h)->magic = 0xC0DA;
    fake.objects++;
    return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnDestroy(cudnnHandle_t h) {
    if (!handle_ok(h, "cudnnDestroy")) return refuse(CUDNN_STATUS_BAD_PARAM);
    h->magic = 0;
    free(h);
    fake.objects--;
    return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnSetStream(cudnnHandle_t h, cudaStream_t s) {
    if (!handle_ok(h, "cudnnSetStream") || !fake_stream_ok(s, "cudnnSetStream")) return refuse(CUDNN_STATUS_BAD_PARAM);
    if (fake_fails("cudnnSetStream")) return refuse(CUDNN_STATUS_BAD_PARAM_STREAM_MISMATCH);
    h->stream = s;
    return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnGetStream(cudnnHandle_t h, cudaStream_t *s) {
    if (!handle_ok(h, "cudnnGetStream")) return refuse(CUDNN_STATUS_BAD_PARAM);
    *s = h->stream;
    return CUDNN_STATUS_SUCCESS;
}
void cudnnGetLastErrorString(char *message, size_t n) {
    if (injected)
        snprintf(message, n, "fake GPU: %s", fake.failed_call ? fake.failed_call : fake.last);
    else
        ((__typeof__(&cudnnGetLastErrorString))real("cudnnGetLastErrorString"))(message, n);
}

/* A plan written as JSON and read back (a plan cache) is known by its text, within this process. The text of cuDNN 9.19 holds the whole graph with
   uids, dimensions and strides ("operationGraph"), so plans of another process could be read from it too. */
static struct Saved {
    char *json;
    Program *program;
    struct Saved *next;
} * saved;
static void save(const char *json, int64_t n, Program *p) {
    struct Saved *v = malloc(sizeof *v);
    *v = (struct Saved){ strndup(json, (size_t)n), p, saved };
    p->refs++;
    saved = v;
}
static void restore(Shadow *s, const char *json, int64_t n) {
    for (struct Saved *v = saved; v; v = v->next)
        if (!strncmp(v->json, json, (size_t)n) && !s->program) {
            s->program = v->program;
            s->program->refs++;
        }
}

/* ---- the descriptor calls ---- */
cudnnStatus_t cudnnBackendCreateDescriptor(cudnnBackendDescriptorType_t type, cudnnBackendDescriptor_t *d) {
    injected = 0;
    if (fake_fails("cudnnBackendCreateDescriptor")) return refuse(CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED);
    cudnnStatus_t e = REAL(cudnnBackendCreateDescriptor, type, d);
    if (e) return e;
    Shadow *s = calloc(1, sizeof *s);
    s->refs = 1;
    s->type = type;
    s->real = *d;
    unsigned b = bucket(*d);
    s->next = shadows[b];
    shadows[b] = s;
    fake.objects++;
    return e;
}
cudnnStatus_t cudnnBackendDestroyDescriptor(cudnnBackendDescriptor_t d) {
    Shadow *s = find(d);
    if (!s) {
        fake_complain("cudnnBackendDestroyDescriptor: not a live descriptor");
        return refuse(CUDNN_STATUS_BAD_PARAM);
    }
    for (Shadow **q = &shadows[bucket(d)]; *q; q = &(*q)->next)
        if (*q == s) {
            *q = s->next;
            break;
        }
    s->dead = 1;
    unref(s);
    fake.objects--;
    return REAL(cudnnBackendDestroyDescriptor, d);
}
cudnnStatus_t cudnnBackendSetAttribute(cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t name,
                                       cudnnBackendAttributeType_t type, int64_t count, const void *data) {
    injected = 0;
    Shadow *s = find(d);
    if (!s) {
        fake_complain("cudnnBackendSetAttribute: not a live descriptor");
        return refuse(CUDNN_STATUS_BAD_PARAM);
    }
    if (fake_fails("cudnnBackendSetAttribute")) return refuse(CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED);
    if (type == CUDNN_TYPE_BACKEND_DESCRIPTOR)
        for (int64_t i = 0; i < count; i++)
            if (!find(((const cudnnBackendDescriptor_t *)data)[i])) {
                fake_complain("attribute %d: value %d is not a live descriptor", name, (int)i);
                return refuse(CUDNN_STATUS_BAD_PARAM);
            }
    cudnnStatus_t e;
    if (type == CUDNN_TYPE_HANDLE) { /* the real library would store it unread, and fail or crash in Finalize */
        if (count != 1 || !handle_ok(*(const cudnnHandle_t *)data, "attribute of type HANDLE"))
            return refuse(CUDNN_STATUS_BAD_PARAM);
        e = s->type == CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR ? set_json(d) : CUDNN_STATUS_SUCCESS;
    } else if (name == CUDNN_ATTR_DEVICEPROP_DEVICE_ID)
        e = set_json(d);
    else
        e = REAL(cudnnBackendSetAttribute, d, name, type, count, data);
    if (!e) remember(s, name, type, count, data);
    if (!e && name == CUDNN_ATTR_EXECUTION_PLAN_JSON_REPRESENTATION) restore(s, data, count);
    return e;
}
cudnnStatus_t cudnnBackendGetAttribute(cudnnBackendDescriptor_t const d, cudnnBackendAttributeName_t name,
                                       cudnnBackendAttributeType_t type, int64_t wanted, int64_t *count, void *data) {
    injected = 0;
    Shadow *s = find(d);
    if (!s) {
        fake_complain("cudnnBackendGetAttribute: not a live descriptor");
        return refuse(CUDNN_STATUS_BAD_PARAM);
    }
    if (fake_fails("cudnnBackendGetAttribute")) return refuse(CUDNN_STATUS_INTERNAL_ERROR);
    int64_t n = 0;
    cudnnStatus_t e = REAL(cudnnBackendGetAttribute, d, name, type, wanted, &n, data);
    if (count) *count = n;
    if (!e && data && name == CUDNN_ATTR_EXECUTION_PLAN_JSON_REPRESENTATION && s->program)
        save(data, n < wanted ? n : wanted, s->program);
    if (!e && type == CUDNN_TYPE_BACKEND_DESCRIPTOR && data)
        for (int64_t i = 0; i < n && i < wanted; i++) {
            Shadow *t = find(((cudnnBackendDescriptor_t *)data)[i]);
            if (t) {
                carry_program(t, s);
                t->finalized = 1;
            }
        }
    return e;
}
/* Plans that were made, and those among them whose results vary or that round f32 factors, whatever the host code asked. */
static void count_plan(const Shadow *plan) {
    const Attribute *configuration = shadow_get(plan, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG);
    cudnnBackendNumericalNote_t notes[16];
    cudnnBackendDescriptor_t engine;
    int64_t count = 0, one = 0;
    fake.plans++;
    if (!configuration || REAL(cudnnBackendCreateDescriptor, CUDNN_BACKEND_ENGINE_DESCRIPTOR, &engine)) return;
    if (!REAL(cudnnBackendGetAttribute, configuration->descriptors[0]->real, CUDNN_ATTR_ENGINECFG_ENGINE,
              CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &one, &engine) &&
        !REAL(cudnnBackendGetAttribute, engine, CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, CUDNN_TYPE_NUMERICAL_NOTE, 16, &count,
              notes))
        for (int64_t i = 0; i < count && i < 16; i++) {
            fake.varying_plans += notes[i] == CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC;
            fake.tensor_core_plans += notes[i] == CUDNN_NUMERICAL_NOTE_TENSOR_CORE;
            fake.narrowing_plans += notes[i] == CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS;
        }
    REAL(cudnnBackendDestroyDescriptor, engine);
}

cudnnStatus_t cudnnBackendFinalize(cudnnBackendDescriptor_t d) {
    injected = 0;
    Shadow *s = find(d);
    if (!s) {
        fake_complain("cudnnBackendFinalize: not a live descriptor");
        return refuse(CUDNN_STATUS_BAD_PARAM);
    }
    if (fake_fails("cudnnBackendFinalize")) return refuse(CUDNN_STATUS_NOT_SUPPORTED);
    if (fake.no_plans && s->type == CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR) return refuse(CUDNN_STATUS_NOT_SUPPORTED);
    cudnnStatus_t e = CUDNN_STATUS_SUCCESS;
    if (s->type == CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR && !shadow_get(s, CUDNN_ATTR_ENGINEHEUR_DEVICEPROP))
        e = use_device(d, CUDNN_ATTR_ENGINEHEUR_DEVICEPROP);
    if (s->type == CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR && !shadow_get(s, CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP))
        e = use_device(d, CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP);
    if (s->type == CUDNN_BACKEND_ENGINE_DESCRIPTOR && !shadow_get(s, CUDNN_ATTR_ENGINE_DEVICEPROP))
        e = use_device(d, CUDNN_ATTR_ENGINE_DEVICEPROP);
    if (e || (e = REAL(cudnnBackendFinalize, d))) return e;
    s->finalized = 1;
    if (s->type == CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR) count_plan(s);
    if (s->type == CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR) {
        program_unref(s->program);
        s->program = program_compile(s);
    }
    return e;
}

/* ---- execution: everything the variant pack says is resolved now, so that a captured launch keeps it by value ---- */
static void drop(void *p) {
    Binding *b = p;
    program_unref(b->program);
    unref(b->plan);
}
cudnnStatus_t cudnnBackendExecute(cudnnHandle_t h, cudnnBackendDescriptor_t plan, cudnnBackendDescriptor_t pack) {
    injected = 0;
    Shadow *p = find(plan), *v = find(pack);
    if (!handle_ok(h, "cudnnBackendExecute")) return refuse(CUDNN_STATUS_BAD_PARAM);
    if (fake_fails("cudnnBackendExecute")) return refuse(CUDNN_STATUS_EXECUTION_FAILED);
    if (!p || p->type != CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR || !v ||
        v->type != CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR) {
        fake_complain("execute: not a plan and a variant pack");
        return refuse(CUDNN_STATUS_BAD_PARAM_DESCRIPTOR_TYPE);
    }
    if (!p->finalized || !v->finalized) {
        fake_complain("execute: %s is not finalized", p->finalized ? "variant pack" : "plan");
        return refuse(CUDNN_STATUS_BAD_PARAM_NOT_FINALIZED);
    }
    if (!p->program) {
        fake_complain("execute: the graph of this plan is unknown (read from JSON that another process wrote?)");
        return refuse(CUDNN_STATUS_NOT_SUPPORTED);
    }
    if (p->program->why_not[0]) {
        fake_complain("execute: %s", p->program->why_not);
        return refuse(CUDNN_STATUS_NOT_SUPPORTED);
    }
    for (const Attribute *a = v->attributes; a; a = a->next)
        if (a->name < CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS || a->name > CUDNN_ATTR_VARIANT_PACK_WORKSPACE ||
            a->name == CUDNN_ATTR_VARIANT_PACK_INTERMEDIATES) {
            fake_complain("execute: variant pack attribute %d is not modelled", a->name);
            return refuse(CUDNN_STATUS_NOT_SUPPORTED);
        }
    const Attribute *ids = shadow_get(v, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS),
                    *ptrs = shadow_get(v, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS),
                    *ws = shadow_get(v, CUDNN_ATTR_VARIANT_PACK_WORKSPACE);
    if (!ids || !ptrs || ids->count != ptrs->count) {
        fake_complain("execute: the pack has %d uids and %d pointers", ids ? (int)ids->count : 0,
                      ptrs ? (int)ptrs->count : 0);
        return refuse(CUDNN_STATUS_BAD_PARAM_SIZE_INSUFFICIENT);
    }
    Binding b = { .program = p->program, .plan = p, .workspace = ws ? *(void **)ws->data : NULL };
    int64_t n = 0;
    cudnnStatus_t e = REAL(cudnnBackendGetAttribute, plan, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64,
                           1, &n, &b.workspace_size);
    if (e) return e;
    int given[MAX_TENSORS] = { 0 };
    for (int64_t i = 0; i < ids->count; i++) {
        int64_t uid = ((int64_t *)ids->data)[i];
        int t = 0;
        while (t < b.program->tensors && b.program->tensor[t].uid != uid) t++;
        if (t == b.program->tensors || b.program->tensor[t].is_virtual || given[t]++) {
            fake_complain("execute: uid %lld is %s", (long long)uid,
                          t == b.program->tensors           ? "not in the graph"
                          : b.program->tensor[t].is_virtual ? "virtual"
                                                            : "given twice");
            return refuse(CUDNN_STATUS_BAD_PARAM_DUPLICATED_ENTRIES);
        }
        b.pointer[t] = ((void **)ptrs->data)[i];
        if (b.program->tensor[t].by_value) { /* the launch takes the value, not the address */
            if (!b.pointer[t] || fake_is_device(b.pointer[t])) {
                fake_complain("execute: uid %lld is passed by value and needs a host pointer", (long long)uid);
                return refuse(CUDNN_STATUS_BAD_PARAM);
            }
            b.value[t] = fake_load(b.pointer[t], 0, b.program->tensor[t].type);
        }
    }
    for (int t = 0; t < b.program->tensors; t++)
        if (!given[t] && !b.program->tensor[t].is_virtual) {
            fake_complain("execute: no pointer for uid %lld", (long long)b.program->tensor[t].uid);
            return refuse(CUDNN_STATUS_BAD_PARAM_NULL_POINTER);
        }
    if (!binding_ok(&b)) return refuse(CUDNN_STATUS_BAD_PARAM);
    b.program->refs++;
    p->refs++;
    return fake_submit(h->stream, "cudnnBackendExecute", binding_run, drop, &b, sizeof b)
               ? refuse(CUDNN_STATUS_EXECUTION_FAILED_CUDART)
               : CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnBackendPopulateCudaGraph(cudnnHandle_t h, cudnnBackendDescriptor_t p, cudnnBackendDescriptor_t v,
                                            cudaGraph_t g) {
    (void)h;
    (void)p;
    (void)v;
    (void)g;
    fake_complain("cudnnBackendPopulateCudaGraph is not modelled: capture the stream");
    return refuse(CUDNN_STATUS_NOT_SUPPORTED_CUDA_GRAPH_NATIVE_API);
}
cudnnStatus_t cudnnBackendUpdateCudaGraph(cudnnHandle_t h, cudnnBackendDescriptor_t p, cudnnBackendDescriptor_t v,
                                          cudaGraph_t g) {
    return cudnnBackendPopulateCudaGraph(h, p, v, g);
}
