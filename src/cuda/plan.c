/* plan.c - see plan.h */
#include "cuda/plan.h"
#include <stdio.h>
#include <string.h>

enum { WORKSPACE_LIMIT = 256 << 20, CANDIDATES = FV_PLAN_CHOICES };

typedef cudnnBackendDescriptor_t descriptor;

void fv_plan_begin(fv_planner *p, fv_device *device, fv_plan *plan) {
    memset(p, 0, sizeof *p);
    memset(plan, 0, sizeof *plan);
    p->device = device;
    p->plan = plan;
    p->fatal = p->failed = fv_cuda_dnn(device, &p->libraries) != FV_OK;
}

/* Remembers the first refusal. */
static bool refused(fv_planner *p, cudnnStatus_t status, const char *what) {
    if (status == CUDNN_STATUS_SUCCESS) return false;
    if (!p->failed) {
        char text[160] = "";
        cudnnGetLastErrorString(text, sizeof text);
        snprintf(p->why, sizeof p->why, "%s: %s", what, *text ? text : cudnnGetErrorString(status));
    }
    return p->failed = true;
}

cudnnDataType_t fv_dnn_type(fv_type type) {
    return type == FV_BF16 ? CUDNN_DATA_BFLOAT16 : type == FV_F16 ? CUDNN_DATA_HALF : CUDNN_DATA_FLOAT;
}

/* ---- Descriptors --------------------------------------------------------------------------------------------------- */

descriptor fv_plan_create(fv_planner *p, cudnnBackendDescriptorType_t type) {
    descriptor made = NULL;
    if (p->failed) return NULL;
    if (p->plan->made_count == FV_PLAN_DESCRIPTORS) {
        snprintf(p->why, sizeof p->why, "the graph needs more than %d descriptors", FV_PLAN_DESCRIPTORS);
        p->failed = true;
        return NULL;
    }
    if (refused(p, cudnnBackendCreateDescriptor(type, &made), "a descriptor")) return NULL;
    return p->plan->made[p->plan->made_count++] = made;
}

void fv_plan_set(fv_planner *p, descriptor d, int name, cudnnBackendAttributeType_t type, int64_t count,
                 const void *value) {
    if (!p->failed)
        refused(p, cudnnBackendSetAttribute(d, (cudnnBackendAttributeName_t)name, type, count, value), "an attribute");
}

void fv_plan_set_descriptor(fv_planner *p, descriptor d, int name, descriptor value) {
    fv_plan_set(p, d, name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &value);
}

void fv_plan_finalize(fv_planner *p, descriptor d) {
    if (!p->failed) refused(p, cudnnBackendFinalize(d), "a descriptor");
}

descriptor fv_plan_tensor(fv_planner *p, cudnnDataType_t type, const int64_t nchw[4], bool is_virtual) {
    const int64_t c = nchw[1], h = nchw[2], w = nchw[3], strides[4] = { h * w * c, 1, w * c, c }, alignment = 16;
    fv_plan *plan = p->plan;
    const int64_t uid = is_virtual ? 100 + plan->made_count : 1 + plan->operands; /* unique within the graph */
    descriptor t = fv_plan_create(p, CUDNN_BACKEND_TENSOR_DESCRIPTOR);
    fv_plan_set(p, t, CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &type);
    fv_plan_set(p, t, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 4, nchw);
    fv_plan_set(p, t, CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, 4, strides);
    fv_plan_set(p, t, CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, 1, &uid);
    fv_plan_set(p, t, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, 1, &alignment);
    fv_plan_set(p, t, CUDNN_ATTR_TENSOR_IS_VIRTUAL, CUDNN_TYPE_BOOLEAN, 1, &is_virtual);
    fv_plan_finalize(p, t);
    if (!is_virtual && plan->operands < FV_PLAN_OPERANDS) plan->uid[plan->operands++] = uid;
    return t;
}

descriptor fv_plan_pointwise(fv_planner *p, fv_pointwise f, descriptor x, descriptor b, descriptor y) {
    const cudnnDataType_t computing = CUDNN_DATA_FLOAT;
    descriptor kind = fv_plan_create(p, CUDNN_BACKEND_POINTWISE_DESCRIPTOR);
    fv_plan_set(p, kind, CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, 1, &f.mode);
    fv_plan_set(p, kind, CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_TYPE_DATA_TYPE, 1, &computing);
    if (f.attribute) fv_plan_set(p, kind, f.attribute, CUDNN_TYPE_DOUBLE, 1, &f.value);
    fv_plan_finalize(p, kind);
    descriptor operation = fv_plan_create(p, CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR);
    fv_plan_set_descriptor(p, operation, CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, kind);
    fv_plan_set_descriptor(p, operation, CUDNN_ATTR_OPERATION_POINTWISE_XDESC, x);
    if (b) fv_plan_set_descriptor(p, operation, CUDNN_ATTR_OPERATION_POINTWISE_BDESC, b);
    fv_plan_set_descriptor(p, operation, CUDNN_ATTR_OPERATION_POINTWISE_YDESC, y);
    fv_plan_finalize(p, operation);
    return operation;
}

/* ---- Choosing an engine ---------------------------------------------------------------------------------------------- */

/* Results must repeat bit for bit; with f32 kept strict, tensor cores (TF32) may not serve either. */
static bool acceptable(fv_planner *p, descriptor engine, bool *tensor_cores) {
    cudnnBackendNumericalNote_t notes[16];
    int64_t count = 0;
    if (cudnnBackendGetAttribute(engine, CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, CUDNN_TYPE_NUMERICAL_NOTE, 16, &count,
                                 notes))
        return false;
    *tensor_cores = false;
    for (int64_t i = 0; i < count && i < 16; i++) {
        *tensor_cores |= notes[i] == CUDNN_NUMERICAL_NOTE_TENSOR_CORE;
        if (notes[i] == CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC) return false;
    }
    return !(*tensor_cores && p->strict);
}

static int64_t whole_attribute(descriptor d, int name) {
    int64_t value = -1, count = 0;
    if (cudnnBackendGetAttribute(d, (cudnnBackendAttributeName_t)name, CUDNN_TYPE_INT64, 1, &count, &value)) return -1;
    return value;
}

/* Only finalizing tells whether cuDNN really supports a configuration. */
static bool make_ready(fv_planner *p, descriptor configuration) {
    fv_plan *plan = p->plan;
    descriptor engine = fv_plan_create(p, CUDNN_BACKEND_ENGINE_DESCRIPTOR);
    int64_t count = 0;
    if (p->failed || cudnnBackendGetAttribute(configuration, CUDNN_ATTR_ENGINECFG_ENGINE, CUDNN_TYPE_BACKEND_DESCRIPTOR,
                                              1, &count, &engine))
        return false;
    bool tensor_cores;
    if (!acceptable(p, engine, &tensor_cores)) return false;
    descriptor ready = fv_plan_create(p, CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
    fv_plan_set_descriptor(p, ready, CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP, p->libraries->target);
    fv_plan_set_descriptor(p, ready, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, configuration);
    if (p->failed || cudnnBackendFinalize(ready)) return false;
    const int64_t workspace = whole_attribute(ready, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE);
    if (workspace < 0 || workspace > WORKSPACE_LIMIT) return false;
    if (++p->seen < p->choice) return false;
    plan->ready = ready;
    plan->workspace = workspace;
    char which[48] = "first";
    if (p->choice) snprintf(which, sizeof which, "number %d, as tuned, of those", p->choice);
    snprintf(plan->text, sizeof plan->text,
             "cuDNN engine %lld%s, %.1f MiB of workspace: the heuristics' %s that repeat%s bit for bit",
             (long long)whole_attribute(engine, CUDNN_ATTR_ENGINE_GLOBAL_INDEX), tensor_cores ? ", tensor cores" : "",
             (double)workspace / (1 << 20), which, p->choice ? "" : "s");
    return true;
}

static bool ask(fv_planner *p, descriptor graph, cudnnBackendHeurMode_t mode) {
    descriptor heuristics = fv_plan_create(p, CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR), configuration[CANDIDATES];
    fv_plan_set_descriptor(p, heuristics, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, graph);
    fv_plan_set(p, heuristics, CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1, &mode);
    fv_plan_set_descriptor(p, heuristics, CUDNN_ATTR_ENGINEHEUR_DEVICEPROP, p->libraries->target);
    if (p->failed || cudnnBackendFinalize(heuristics)) return false; /* this mode has no answer */
    for (int i = 0; i < CANDIDATES; i++) configuration[i] = fv_plan_create(p, CUDNN_BACKEND_ENGINECFG_DESCRIPTOR);
    int64_t found = 0;
    if (p->failed || cudnnBackendGetAttribute(heuristics, CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_TYPE_BACKEND_DESCRIPTOR,
                                              CANDIDATES, &found, configuration))
        return false;
    for (int64_t i = 0; i < found && i < CANDIDATES; i++)
        if (make_ready(p, configuration[i])) return true;
    return false;
}

int fv_plan_choose(fv_planner *p, descriptor *operations, int64_t count) {
    static const cudnnBackendHeurMode_t modes[] = { CUDNN_HEUR_MODE_A, CUDNN_HEUR_MODE_FALLBACK };
    descriptor graph = fv_plan_create(p, CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
    fv_plan_set(p, graph, CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR, count, operations);
    fv_plan_finalize(p, graph);
    for (int m = 0; m < 2 && !p->failed; m++)
        if (ask(p, graph, modes[m])) return FV_OK;
    if (!p->failed) snprintf(p->why, sizeof p->why, p->seen ? "there are no more engines" : "no engine supports it");
    p->failed = true;
    fv_plan_release(p->plan);
    return FV_ERROR_UNSUPPORTED;
}

/* ---- Running ----------------------------------------------------------------------------------------------------------- */

/* Addresses stay from run to run, so the pack that names them is made once. */
static int bind(fv_device *device, fv_plan *plan, void *const *addresses, void *workspace) {
    if (plan->pack && plan->bound[FV_PLAN_OPERANDS] == workspace &&
        !memcmp(plan->bound, addresses, (size_t)plan->operands * sizeof *addresses))
        return FV_OK;
    if (plan->pack) cudnnBackendDestroyDescriptor(plan->pack);
    plan->pack = NULL;
    descriptor pack = NULL;
    cudnnStatus_t status = cudnnBackendCreateDescriptor(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR, &pack);
    if (!status)
        status = cudnnBackendSetAttribute(pack, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, plan->operands,
                                          plan->uid);
    if (!status)
        status = cudnnBackendSetAttribute(pack, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR,
                                          plan->operands, addresses);
    if (!status)
        status = cudnnBackendSetAttribute(pack, CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, 1, &workspace);
    if (!status) status = cudnnBackendFinalize(pack);
    if (status) {
        if (pack) cudnnBackendDestroyDescriptor(pack);
        return fv_cuda_dnn_check(device, status, "naming the operands of a plan");
    }
    plan->pack = pack;
    memcpy(plan->bound, addresses, (size_t)plan->operands * sizeof *addresses);
    plan->bound[FV_PLAN_OPERANDS] = workspace;
    return FV_OK;
}

int fv_plan_run(fv_device *device, fv_plan *plan, void *const *addresses, void *workspace) {
    fv_libraries *libraries;
    int status = fv_cuda_dnn(device, &libraries);
    if (!status) status = bind(device, plan, addresses, workspace);
    if (status) return status;
    return fv_cuda_dnn_check(device, cudnnBackendExecute(libraries->dnn, plan->ready, plan->pack), plan->text);
}

void fv_plan_release(fv_plan *plan) {
    if (plan->pack) cudnnBackendDestroyDescriptor(plan->pack);
    plan->pack = plan->ready = NULL;
    while (plan->made_count) cudnnBackendDestroyDescriptor(plan->made[--plan->made_count]);
}
