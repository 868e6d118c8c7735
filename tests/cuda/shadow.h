/* shadow.h - what the fake remembers of a backend descriptor, and the flat form of an operation graph that the executor runs. */
#ifndef SHADOW_H
#define SHADOW_H
#include "fake.h"
#include <cudnn.h>

/* Elements of f32, bf16 or f16 as both executors read and write them. */
double fake_load(const void *base, int64_t index, cudnnDataType_t type);
void fake_store(void *base, int64_t index, cudnnDataType_t type, double value);
int fake_type_size(cudnnDataType_t type); /* 0: not known */

enum { MAX_DIMS = 5, MAX_TENSORS = 32, MAX_OPS = 24 };

typedef struct Attribute {
    cudnnBackendAttributeName_t name;
    cudnnBackendAttributeType_t type;
    int64_t count;
    void *data;
    struct Shadow **descriptors;
    struct Attribute *next;
} Attribute;
typedef struct Shadow {
    int refs, dead, finalized;
    cudnnBackendDescriptorType_t type;
    cudnnBackendDescriptor_t real;
    Attribute *attributes;
    struct Program *program;
    struct Shadow *next;
} Shadow;

typedef struct Tensor {
    int64_t uid, dims, dim[MAX_DIMS], stride[MAX_DIMS], alignment;
    cudnnDataType_t type;
    int is_virtual, by_value, writers, readers;
} Tensor;
typedef struct Operation {
    cudnnBackendDescriptorType_t type;
    int x, b, y;                            /* indices of tensors: two inputs (or one and -1), one output           */
    int64_t pad[2], stride[2], dilation[2]; /* convolution; the padding behind follows from the output's size       */
    cudnnPointwiseMode_t mode;
    double alpha, alpha2, beta, lower, upper, slope, parameter; /* parameter: elu's alpha, swish's beta */
} Operation;
typedef struct Program {
    int refs, tensors, operations;
    Tensor tensor[MAX_TENSORS];
    Operation operation[MAX_OPS];
    char why_not[256];
} Program;

const Attribute *shadow_get(const Shadow *s, cudnnBackendAttributeName_t name);
Program *program_compile(
    const Shadow *graph); /* never NULL; why_not says what it cannot run                          */
void program_unref(Program *p);
typedef struct Binding {
    Program *program;
    Shadow *plan;
    void *pointer[MAX_TENSORS];
    double value[MAX_TENSORS];
    void *workspace;
    int64_t workspace_size;
} Binding;
int binding_ok(const Binding *b); /* every pointer inside one live device allocation, aligned, no overlap */
void binding_run(void *binding);
#endif
