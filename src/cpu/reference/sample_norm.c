/* sample_norm.c - normalisation within a sample: layer, group, RMS and unit norm. An input is seen as samples x
 * positions x channels whose channels fall into groups; each group of each sample has statistics of its own. For all
 * but group norm a sample is what the last axes hold: one position, one group. An absent gamma is 1, beta 0. */
#include "cpu/reference/reference.h"

typedef struct view {
    int64_t samples, positions, channels, groups, width; /* width: channels of a group */
} view;

static view view_of(const fv_task *task) {
    const fv_sample_norm_attributes *a = &task->attributes->sample_norm;
    const fv_tensor *x = &task->input[0];
    const bool grouped = task->op == FV_OP_group_norm || task->op == FV_OP_group_norm_gradient;
    view v = { .groups = 1, .positions = 1 };
    v.channels = grouped ? last_dim(x) : span(x, x->rank - a->axes, x->rank);
    v.samples = grouped ? x->dim[0] : span(x, 0, x->rank - a->axes);
    if (grouped) v.positions = span(x, 1, x->rank - 1), v.groups = a->groups;
    v.width = v.channels / v.groups;
    return v;
}

/* The channel of member k of group g, and where it lies in sample n. */
static int64_t channel(const view *v, int64_t g, int64_t k) { return g * v->width + k % v->width; }
static int64_t place(const view *v, int64_t n, int64_t g, int64_t k) {
    return (n * v->positions + k / v->width) * v->channels + channel(v, g, k);
}

static double or_default(const fv_tensor *t, int64_t c, double value) { return t && t->data ? real(t)[c] : value; }
static void store(const fv_tensor *t, int64_t i, double value) {
    if (t && t->data) real(t)[i] = (REAL)value;
}

/* With m members of a group: mean = sum x / m (0 unless centred), squares = sum (x - mean)^2,
 * 1/deviation = 1 / sqrt(squares / m + epsilon), for unit norm 1 / max(sqrt(squares), epsilon);
 * y = gamma (x - mean) / deviation + beta */
static int normalize_groups(const fv_task *task, bool centred) {
    const view v = view_of(task);
    const int64_t m = v.positions * v.width;
    const double epsilon = task->attributes->sample_norm.epsilon;
    const fv_tensor *x = &task->input[0], *y = &task->output[0];
    const fv_tensor *gamma = task->input_count > 1 ? &task->input[1] : NULL, *beta = centred ? &task->input[2] : NULL;

    EACH(n, v.samples) EACH(g, v.groups) {
        double sum = 0, squares = 0;
        EACH(k, m) sum += real(x)[place(&v, n, g, k)];
        const double mean = centred ? sum / (double)m : 0;
        EACH(k, m) squares += pow(real(x)[place(&v, n, g, k)] - mean, 2);
        double deviation = sqrt(squares / (double)m + epsilon);
        if (task->op == FV_OP_unit_norm) deviation = sqrt(squares) < epsilon ? epsilon : sqrt(squares);
        if (y->data)
            EACH(k, m) {
                const int64_t i = place(&v, n, g, k), c = channel(&v, g, k);
                real(y)[i] = (REAL)(or_default(gamma, c, 1) * ((real(x)[i] - mean) / deviation) + or_default(beta, c, 0));
            }
        if (centred) store(&task->output[1], n * v.groups + g, mean);
        store(&task->output[1 + centred], n * v.groups + g, 1 / deviation);
    }
    return FV_OK;
}

/* With x^ = (x - mean) / deviation and dx^ = gamma dy:
 * dx = (dx^ - mean of dx^ - x^ mean of dx^ x^) / deviation, dgamma = sum of dy x^, dbeta = sum of dy.
 * The mean of dx^ counts only where a mean was subtracted; unit norm has the sum of dx^ x^ in the place of its mean,
 * and where the length was below epsilon it is a mere multiple of x. */
static int normalize_gradient(const fv_task *task, bool centred) {
    const view v = view_of(task);
    const int64_t m = v.positions * v.width;
    const bool unit = task->op == FV_OP_unit_norm_gradient;
    const fv_tensor *x = &task->input[0], *dy = &task->input[1], *gamma = unit ? NULL : &task->input[2];
    const fv_tensor *means = centred ? &task->input[3] : NULL, *inverses = &task->input[task->input_count - 1];
    const fv_tensor *dx = &task->output[0], *dgamma = unit ? NULL : &task->output[1];
    const fv_tensor *dbeta = centred ? &task->output[2] : NULL;

    EACH(c, v.channels) { /* sums over samples and positions */
        double scale = 0, shift = 0;
        EACH(n, v.samples) EACH(p, v.positions) {
            const int64_t i = (n * v.positions + p) * v.channels + c, group = n * v.groups + c / v.width;
            shift += real(dy)[i];
            scale += real(dy)[i] * (real(x)[i] - or_default(means, group, 0)) * real(inverses)[group];
        }
        store(dgamma, c, scale);
        store(dbeta, c, shift);
    }
    EACH(n, dx->data ? v.samples : 0) EACH(g, v.groups) {
        const double mean = or_default(means, n * v.groups + g, 0), inverse = real(inverses)[n * v.groups + g];
        const bool clamped = unit && (float)inverse >= (float)(1 / (double)task->attributes->sample_norm.epsilon);
        double level = 0, slope = 0;
        EACH(k, m) {
            const int64_t i = place(&v, n, g, k);
            const double inner = or_default(gamma, channel(&v, g, k), 1) * real(dy)[i];
            level += inner / (double)m;
            slope += inner * (real(x)[i] - mean) * inverse / (unit ? 1 : (double)m);
        }
        if (!centred) level = 0;
        if (clamped) slope = 0;
        EACH(k, m) {
            const int64_t i = place(&v, n, g, k);
            const double inner = or_default(gamma, channel(&v, g, k), 1) * real(dy)[i];
            real(dx)[i] = (REAL)(inverse * (inner - level - (real(x)[i] - mean) * inverse * slope));
        }
    }
    return FV_OK;
}

KERNEL(layer_norm) { return normalize_groups(task, true); }
KERNEL(group_norm) { return normalize_groups(task, true); }
KERNEL(rms_norm) { return normalize_groups(task, false); }
KERNEL(unit_norm) { return normalize_groups(task, false); }
KERNEL(layer_norm_gradient) { return normalize_gradient(task, true); }
KERNEL(group_norm_gradient) { return normalize_gradient(task, true); }
KERNEL(rms_norm_gradient) { return normalize_gradient(task, false); }
KERNEL(unit_norm_gradient) { return normalize_gradient(task, false); }
