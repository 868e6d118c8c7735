/* plan.h - execution plans of cuDNN's graph API (cudnn_backend.h): a few operations described by descriptors, for which cuDNN's heuristics
 * propose engines. A plan owns every descriptor it was made from. Making one records no error: what cuDNN cannot do, another kernel
 * must; `why` says what it lacked. */
#ifndef FV_CUDA_PLAN_H
#define FV_CUDA_PLAN_H
#include "cuda/libraries.h"

enum { FV_PLAN_DESCRIPTORS = 160, FV_PLAN_OPERANDS = 8, FV_PLAN_CHOICES = 16 /* engines asked of the heuristics */ };

typedef struct fv_plan {
    cudnnBackendDescriptor_t made[FV_PLAN_DESCRIPTORS];
    int made_count;
    cudnnBackendDescriptor_t ready, pack;
    int64_t workspace;
    int64_t uid[FV_PLAN_OPERANDS]; /* of the tensors with memory */
    void *bound[FV_PLAN_OPERANDS + 1];
    int operands;
    char text[160]; /* which engine, for the profile */
} fv_plan;

/* A plan in the making. Functions do nothing once one has failed; `why` then says what was refused. */
typedef struct fv_planner {
    fv_device *device;
    fv_libraries *libraries;
    fv_plan *plan;
    bool strict;        /* f32 as it is: no tensor cores */
    int choice, seen;   /* which engine that will do to take, from 1 on (0: the first); those met so far */
    bool failed, fatal; /* fatal: not a matter of support, such as no memory */
    char why[256];
} fv_planner;

void fv_plan_begin(fv_planner *, fv_device *, fv_plan *);
cudnnDataType_t fv_dnn_type(fv_type);
/* A tensor of cuDNN: n, c, h, w in that order, in memory as NHWC. virtual: an intermediate, computed in f32. */
cudnnBackendDescriptor_t fv_plan_tensor(fv_planner *, cudnnDataType_t, const int64_t nchw[4], bool is_virtual);
cudnnBackendDescriptor_t fv_plan_create(fv_planner *, cudnnBackendDescriptorType_t);
void fv_plan_set(fv_planner *, cudnnBackendDescriptor_t, int name, cudnnBackendAttributeType_t, int64_t count,
                 const void *);
void fv_plan_set_descriptor(fv_planner *, cudnnBackendDescriptor_t, int name, cudnnBackendDescriptor_t);
void fv_plan_finalize(fv_planner *, cudnnBackendDescriptor_t);
/* A function that cuDNN has, and its parameter (0: none, or as cuDNN sets it). */
typedef struct fv_pointwise {
    cudnnPointwiseMode_t mode;
    int attribute;
    double value;
} fv_pointwise;
/* y = f(x, b); b NULL: of x alone */
cudnnBackendDescriptor_t fv_plan_pointwise(fv_planner *, fv_pointwise f, cudnnBackendDescriptor_t x,
                                           cudnnBackendDescriptor_t b, cudnnBackendDescriptor_t y);
/* Chooses an engine: of those that the heuristics propose, whose results repeat, and whose workspace is within the limit, the first, or
 * the choice-th. */
int fv_plan_choose(fv_planner *, cudnnBackendDescriptor_t *operations, int64_t count);
/* Runs it; addresses in the order in which the tensors that are not virtual were made. */
int fv_plan_run(fv_device *, fv_plan *, void *const *addresses, void *workspace);
void fv_plan_release(fv_plan *);
#endif
