/* conv.h - convolution as its algorithms see it. convolution.c chooses one in prepare; conv_direct.c (forward and
 * data gradient), conv_weights.c (weight gradient), conv_bordered.c and conv_scattered.c (few channels),
 * conv_winograd.c, conv_winograd_weights.c and conv_depthwise.c carry them out. */
#ifndef FV_CPU_CONV_H
#define FV_CPU_CONV_H
#include "cpu/tile.h"

enum { CONV_TEXT = 192 };

typedef struct conv_problem {
    int64_t images, x_size[2], y_size[2]; /* height, width */
    int64_t channels, filters, groups;
    int64_t taps[2], stride[2], dilation[2], pad[2];
    bool flip;
} conv_problem;

static inline int64_t conv_taps(const conv_problem *p) { return p->taps[0] * p->taps[1]; }
static inline int64_t conv_macs(const conv_problem *p) {
    return p->images * p->y_size[0] * p->y_size[1] * p->filters * conv_taps(p) * (p->channels / p->groups);
}
/* Where tap t of output o reads on an axis: a coordinate of x, which may lie outside. */
static inline int64_t conv_source(const conv_problem *p, int axis, int64_t o, int64_t t) {
    return o * p->stride[axis] - p->pad[axis] + t * p->dilation[axis];
}
/* Forward and data gradient as one walk over results: the source coordinate that tap t brings to result o, or -1.
 * The gradient takes the taps from their far end, so that sources ascend with t either way. */
static inline int64_t conv_reads(const conv_problem *p, bool gradient, int axis, int64_t o, int64_t t) {
    int64_t at = gradient ? o + p->pad[axis] - (p->taps[axis] - 1 - t) * p->dilation[axis] : conv_source(p, axis, o, t);
    if (at < 0 || (gradient && at % p->stride[axis])) return -1;
    if (gradient) at /= p->stride[axis];
    return at < (gradient ? p->y_size[axis] : p->x_size[axis]) ? at : -1;
}
/* The weight that tap t of that walk means. */
static inline int64_t conv_weight(const conv_problem *p, bool gradient, int64_t t) {
    return gradient != p->flip ? conv_taps(p) - 1 - t : t;
}

typedef struct conv_plan conv_plan;

/* One way to do one of the three products. */
typedef struct conv_algorithm {
    const char *name;
    const char *(*why_not)(const conv_problem *);        /* NULL: it fits */
    int (*prepare)(fv_device *, fv_task *, conv_plan *); /* asks for scratch, fills plan->own; optional */
    int (*run)(fv_device *, const fv_task *, const conv_plan *);
    double (*estimate)(const conv_problem *); /* Winograd's: its time as a part of the direct way's */
} conv_algorithm;

struct conv_plan { /* what prepare keeps with the task */
    conv_problem problem;
    const conv_algorithm *algorithm;
    void *own; /* the algorithm's, freed with the plan */
    uint64_t packed; /* version of the filters that task->packed holds; 0: none */
    char text[CONV_TEXT];
};

/* Ordered: the first that fits is taken. The last fits everything. */
extern const conv_algorithm ISA(conv_depthwise_forward), ISA(conv_depthwise_data), ISA(conv_depthwise_weights);
extern const conv_algorithm ISA(conv_direct_forward), ISA(conv_direct_data);
extern const conv_algorithm ISA(conv_bordered_forward), ISA(conv_bordered_weights);
extern const conv_algorithm ISA(conv_scattered_data), ISA(conv_direct_weights);
extern const conv_algorithm ISA(conv_winograd_forward), ISA(conv_winograd_data), ISA(conv_winograd_weights);

/* Filters in an algorithm's own order: at the begin of the scratch, made by each run; or, where they stay the same from run
 * to run, in task->packed. Asks for the memory; rest: what else the algorithm wants as scratch. */
static inline void conv_ask_filters(fv_task *task, size_t filters, size_t rest) {
    filters = (size_t)round_up((int64_t)filters, 64);
    task->packed_bytes = task->version ? filters : 0;
    task->scratch_bytes = rest + (task->version ? 0 : filters);
}
/* Where they are, and where the rest of the scratch begins. True: they must be packed now. */
static inline bool conv_take_filters(const fv_task *task, size_t bytes, void *filters, void *rest) {
    conv_plan *plan = task->kept;
    void *at = task->version ? task->packed : task->scratch;
    void *after = (char *)task->scratch + (task->version ? 0 : round_up((int64_t)bytes, 64));
    memcpy(filters, &at, sizeof at);
    memcpy(rest, &after, sizeof after);
    if (task->version && plan->packed == *task->version) return false;
    plan->packed = task->version ? *task->version : 0;
    return true;
}

/* The data gradient, also where it is a transposed convolution. */
static inline bool conv_is_data(const fv_task *task) {
    return task->op == FV_OP_conv2d_data_gradient || task->op == FV_OP_conv2d_transpose_bias_activation;
}

static inline conv_problem conv_problem_of(const fv_task *task) {
    const fv_conv_attributes *a = &task->attributes->conv;
    const fv_tensor *x = &task->input[0], *y = &task->output[0], *w = &task->input[1];
    if (conv_is_data(task)) x = &task->output[0], y = &task->input[0];
    if (task->op == FV_OP_conv2d_weight_gradient) y = &task->input[1], w = &task->output[0];
    conv_problem p = {
        .images = x->dim[0], .channels = x->dim[3], .filters = y->dim[3], .groups = a->groups, .flip = a->flip
    };
    for (int axis = 0; axis < 2; axis++) {
        p.x_size[axis] = x->dim[1 + axis];
        p.y_size[axis] = y->dim[1 + axis];
        p.taps[axis] = w->dim[1 + axis];
        p.stride[axis] = a->stride[axis];
        p.dilation[axis] = a->dilation[axis];
        p.pad[axis] = a->pad[2 * axis];
    }
    return p;
}

/* Bias and activation of a task: inputs 2 and attributes of the fused forms, nothing for the others. */
static inline tile_finish conv_finish(const fv_task *task) {
    tile_finish finish = { NULL, FV_LINEAR, 0 };
    if (task->op == FV_OP_conv2d_bias_activation || task->op == FV_OP_conv2d_transpose_bias_activation)
        finish = (tile_finish){ task->input[2].data, task->attributes->conv.activation, task->attributes->conv.alpha };
    return finish;
}
#endif
