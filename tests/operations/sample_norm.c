/* sample_norm.c - normalisation within a sample: layer, group, RMS and unit norm. */
#include "support/operations.h"
#include <math.h>
#include <string.h>

static bool grouped(const problem *p) { return !strncmp(fv_op_name(p->op), "group_norm", 10); }
static bool is_unit(const problem *p) { return !strncmp(fv_op_name(p->op), "unit_norm", 9); }
static bool centred(const problem *p) { return grouped(p) || !strncmp(fv_op_name(p->op), "layer_norm", 10); }

static void add_weights(problem *p, const char *name, fill how, fv_shape shape, const char *without) {
    if (has_word(p, without))
        add_absent(p, name);
    else
        add_input(p, name, FV_F32, how, shape);
}

/* layer_norm x4,5,6 axes2 epsilon noscale nocenter - group_norm x2,5,5,8 groups4 - rms_norm, unit_norm as layer_norm */
static int build_sample_norm(fv_context *context, problem *p) {
    const fv_shape x = shape_word(p, "x", 0);
    const bool gradient = strstr(fv_op_name(p->op), "_gradient");
    if (x.rank < 1) return problem_fail(p, "a norm needs x with at least one size");
    fv_sample_norm_attributes *a = &p->attributes.sample_norm;
    a->epsilon = (float)number(p, "epsilon", 0, is_unit(p) ? 1e-12 : 1e-3);
    a->axes = (int32_t)whole(p, "axes", 0, 0);
    a->groups = (int32_t)whole(p, "groups", 0, 0);
    fv_shape weights = { .rank = a->axes > 0 && a->axes < x.rank ? a->axes : a->axes ? x.rank : 1 };
    for (int i = 0; i < weights.rank; i++) weights.dim[i] = x.dim[x.rank - weights.rank + i];
    const int64_t elements = fv_shape_elements(&x), members = fv_shape_elements(&weights);
    p->terms = grouped(p) && a->groups > 0 ? elements / x.dim[0] / a->groups : members;
    if (gradient && elements / members > p->terms) p->terms = elements / members; /* of gamma and beta */
    char forward[32];
    snprintf(forward, sizeof forward, "%s", fv_op_name(p->op));
    if (gradient) forward[strlen(forward) - strlen("_gradient")] = 0;

    add_input(p, "x", FV_F32, FILL_APART, x);
    if (gradient) add_input(p, "dy", FV_F32, FILL_UNIFORM, x);
    if (!is_unit(p)) add_weights(p, "gamma", FILL_APART, weights, "noscale");
    if (!gradient && centred(p)) add_weights(p, "beta", FILL_UNIFORM, weights, "nocenter");
    if (gradient && centred(p) && add_derived(context, p, "mean", forward, 1)) return -1;
    return gradient ? add_derived(context, p, "inverse", forward, 1 + centred(p)) : 0;
}

/* The groups of the problem: samples x positions x channels. */
typedef struct view {
    int64_t samples, positions, channels, groups, width;
} view;
static view view_of(const problem *p) {
    const fv_shape *x = &p->input[0].shape;
    const int32_t axes = p->attributes.sample_norm.axes ? p->attributes.sample_norm.axes : 1;
    view v = { 1, 1, 1, 1, 1 };
    for (int i = 0; i < x->rank; i++)
        *(i >= x->rank - axes ? &v.channels : i == 0 || !grouped(p) ? &v.samples : &v.positions) *= x->dim[i];
    if (grouped(p)) v.groups = p->attributes.sample_norm.groups;
    v.width = v.channels / v.groups;
    return v;
}
static double at(const double *value, int64_t i, double otherwise) { return value ? fabs(value[i]) : otherwise; }
static void set(double *magnitude, int64_t i, double value) {
    if (magnitude) magnitude[i] = value;
}

static void magnitude_forward(const problem *p, double *const *output, double *const *magnitude) {
    const view v = view_of(p);
    const double *x = values(p, "x"), *gamma = values(p, "gamma"), *beta = values(p, "beta");
    const int64_t m = v.positions * v.width;
    const int which = 1 + centred(p);
    for (int64_t n = 0; n < v.samples; n++)
        for (int64_t g = 0; g < v.groups; g++) {
            double level = 0, sum = 0, squares = 0;
            for (int64_t k = 0; k < m; k++) {
                const double value = x[(n * v.positions + k / v.width) * v.channels + g * v.width + k % v.width];
                level += fabs(value) / (double)m;
                sum += value / (double)m;
                squares += value * value;
            }
            if (!centred(p)) level = sum = 0;
            double inverse = 1 / sqrt(squares / (double)m - sum * sum + p->attributes.sample_norm.epsilon);
            if (is_unit(p)) inverse = 1 / fmax(sqrt(squares), p->attributes.sample_norm.epsilon);
            if (output[which]) inverse = output[which][n * v.groups + g];
            if (which == 2) set(magnitude[1], n * v.groups + g, level);
            set(magnitude[which], n * v.groups + g, inverse);
            for (int64_t k = 0; magnitude[0] && k < m; k++) {
                const int64_t c = g * v.width + k % v.width, i = (n * v.positions + k / v.width) * v.channels + c;
                magnitude[0][i] = at(gamma, c, 1) * inverse * (fabs(x[i]) + level) + at(beta, c, 0);
            }
        }
}

/* With X = (|x| + |mean|) / deviation and G = |gamma dy|: dx (G + mean G + X mean G X) / deviation */
static void magnitude_gradient(const problem *p, double *const *output, double *const *magnitude) {
    const view v = view_of(p);
    const double *x = values(p, "x"), *dy = values(p, "dy"), *gamma = values(p, "gamma"), *mean = values(p, "mean");
    const double *inverse = values(p, "inverse");
    const int64_t m = v.positions * v.width;
    (void)output;
    for (int64_t n = 0; n < v.samples; n++)
        for (int64_t g = 0; g < v.groups; g++) {
            const double middle = at(mean, n * v.groups + g, 0), d = inverse[n * v.groups + g];
            double level = 0, slope = 0;
            for (int pass = 0; pass < 2; pass++)
                for (int64_t k = 0; k < m; k++) {
                    const int64_t c = g * v.width + k % v.width, i = (n * v.positions + k / v.width) * v.channels + c;
                    const double inner = at(gamma, c, 1) * fabs(dy[i]), normal = (fabs(x[i]) + middle) * d;
                    if (pass == 0) {
                        level += inner / (double)m;
                        slope += inner * normal / (is_unit(p) ? 1 : (double)m);
                        if (magnitude[1]) magnitude[1][c] += fabs(dy[i]) * normal;
                        if (magnitude[2]) magnitude[2][c] += fabs(dy[i]);
                    } else if (magnitude[0]) {
                        magnitude[0][i] = d * (inner + level + normal * slope);
                    }
                }
        }
}

static void random_norm(fv_op op, drawing *d) {
    int dim[FV_RANK];
    const bool group = op == FV_OP_group_norm || op == FV_OP_group_norm_gradient;
    if (group) {
        const int groups = between(d, 1, 6), width = between(d, 1, 40);
        say(d, " x%d,%d,%d,%d groups%d", between(d, 1, 5), between(d, 1, 9), between(d, 1, 9), groups * width, groups);
    } else {
        const int rank = say_shape(d, "x", 1, 4, dim);
        say(d, " axes%d", between(d, 1, rank));
    }
    say(d, "%s%s epsilon0.0%d", chance(d, 4) ? " noscale" : "", chance(d, 4) ? " nocenter" : "", between(d, 1, 9));
}

static const char *const over_axes[] = { "x4,5",
                                         "x3,1",
                                         "x1,1 epsilon0.5",
                                         "x7",
                                         "x2,3,4 axes2",
                                         "x2,3,4 axes3",
                                         "x5,16",
                                         "x5,17",
                                         "x5,15",
                                         "x3,31 epsilon0.1",
                                         "x2,65",
                                         "x9,128",
                                         "x2,1000",
                                         "x33,7",
                                         "x2,7,7,12 axes3",
                                         "x1,4,4,64 axes3",
                                         "x3,2,2,2,3 axes4 epsilon0.01",
                                         "x6,100 shift50",
                                         "x3,2100",
                                         "x16,40 scale0.1",
                                         "x4,9 noscale",
                                         "x40,300 large",
                                         "x600,129 large",
                                         NULL };

static const char *const centred_rows[] = { "x4,9 nocenter", "x3,4,6 noscale nocenter axes2", "x3,64 shift1000 scale0.5",
                                            NULL };

static const char *const over_groups[] = { "x2,4,4,8 groups4",
                                           "x1,3,3,1 groups1",
                                           "x3,5,4,6 groups6",
                                           "x2,1,1,12 groups3",
                                           "x2,12 groups3",
                                           "x2,9,10 groups5",
                                           "x3,7,5,32 groups1",
                                           "x2,3,3,32 groups32",
                                           "x2,5,5,33 groups11",
                                           "x2,4,6,17 groups17",
                                           "x2,4,6,17 groups1",
                                           "x1,9,9,64 groups2",
                                           "x2,3,4,130 groups65",
                                           "x2,3,4,130 groups2",
                                           "x5,2,3,4,10 groups5",
                                           "x1,20,20,3 groups3 epsilon0.1",
                                           "x2,4,4,8 groups2 shift100",
                                           "x2,4,4,8 groups8 shift1000 scale0.5",
                                           "x2,6,7,200 groups8",
                                           "x33,2,2,7 groups7",
                                           "x2,4,4,8 groups4 noscale",
                                           "x2,4,4,8 groups4 nocenter",
                                           "x2,4,4,8 groups4 noscale nocenter",
                                           "x40,9,9,40 groups8 large",
                                           "x3,40,40,96 groups32 large",
                                           NULL };

#define NORM(NAME, DIFFERENTIABLE, ...)                                                                                \
    RULE(NAME, .build = build_sample_norm, .bound = BOUND_OWN, .magnitude = magnitude_forward,                         \
         .differentiable = DIFFERENTIABLE, .random = random_norm, __VA_ARGS__)
#define NORM_GRADIENT(NAME, ...)                                                                                       \
    RULE(NAME, .build = build_sample_norm, .bound = BOUND_OWN, .magnitude = magnitude_gradient, .random = random_norm, \
         __VA_ARGS__)

NORM(layer_norm, 7, .rows = { over_axes, centred_rows, ROWS("x4,5 drop1,2", "x4,5 drop0", "x6,9 nan1", "x6,9 inf1") },
     .performance = ROWS("x8192,768", "x64,7,7,768"));
NORM_GRADIENT(layer_norm_gradient, .rows = { over_axes, centred_rows, ROWS("x4,5 drop1,2", "x4,5 drop0", "x4,5 drop1") },
              .performance = ROWS("x8192,768"));
NORM(group_norm, 7, .rows = { over_groups, ROWS("x2,3,3,4 groups2 drop1,2", "x2,3,3,4 groups2 drop0", "x2,3,3,4 groups2 nan1") },
     .performance = ROWS("x32,28,28,128 groups32", "x8,64,64,64 groups64"));
NORM_GRADIENT(group_norm_gradient, .rows = { over_groups, ROWS("x2,3,3,4 groups2 drop1,2", "x2,3,3,4 groups2 drop0") },
              .performance = ROWS("x32,28,28,128 groups32", "x8,64,64,64 groups64"));
NORM(rms_norm, 3, .rows = { over_axes, ROWS("x4,5 drop1", "x4,5 drop0", "x5,20 scale1000", "x6,9 nan1") },
     .performance = ROWS("x8192,768"));
NORM_GRADIENT(rms_norm_gradient, .rows = { over_axes, ROWS("x4,5 drop1", "x4,5 drop0") }, .performance = ROWS("x8192,768"));
NORM(unit_norm, 1, .rows = { over_axes, ROWS("x4,5 drop1", "x4,5 drop0", "x4,6 epsilon3", "x5,20 scale0 epsilon0.1", "x6,9 nan1") },
     .performance = ROWS("x8192,768"));
NORM_GRADIENT(unit_norm_gradient, .rows = { over_axes, ROWS("x4,6 epsilon3", "x4,6 epsilon2.2", "x5,20 epsilon100") });
