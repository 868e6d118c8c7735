/* optimizer.c - one step of the optimiser over the parameters of a store, and what surrounds it: the search for
 * values that are not finite, the commit of running statistics, the advance of the control block. Gradients lie in
 * the gradient region at the offsets of their parameters. While the sticky flag is set nothing is written. */
#include "core/control.h"
#include "cpu/reference/reference.h"

/* Sets the flag when the loss (may be absent) or a gradient is not finite; gives the norm of all gradients, unscaled. */
KERNEL(check_gradients) {
    fv_control *control = task->output[0].data;
    const fv_tensor *norm = &task->output[1];
    double squares = 0;
    bool bad[2] = { false, false }; /* loss, gradients */

    for (int g = 1; g < task->input_count; g++) {
        const fv_tensor *t = &task->input[g];
        if (!t->data) continue;
        EACH(i, fv_elements(t)) {
            if (!isfinite(real(t)[i])) bad[g > 1] = true;
            if (g > 1) squares += (double)real(t)[i] * real(t)[i];
        }
    }
    fv_control_judge(control, bad[0], bad[1]);
    if (norm->data) real(norm)[0] = (REAL)(sqrt(squares) * fv_control_unscale(control));
    return FV_OK;
}

/* ---- Updates ----------------------------------------------------------------------------------------------------- */

/* Inputs that all updates have in common; the gradients follow the slots. */
enum { CONTROL, RATES, SEGMENTS, NORM, GRADIENT_REGION, PARAMETERS, FIRST_SLOT };

static const fv_segment *segment_at(const fv_tensor *segments, int64_t offset) {
    const fv_segment *s = segments->data;
    EACH(i, fv_elements(segments) / (int64_t)sizeof *s) if (inside(offset - s[i].offset, s[i].length)) return &s[i];
    return NULL;
}

/* The learning rate of this step. */
static double rate_of(const fv_task *task) {
    const fv_control *control = task->input[CONTROL].data;
    const fv_tensor *rates = &task->input[RATES];
    return rates->data ? real(rates)[control->batch % fv_elements(rates)] : task->attributes->update.value[FV_RATE];
}

/* What one step does to one parameter. */
typedef struct update {
    const fv_update_attributes *settings;
    uint64_t step;        /* from 1 */
    double rate, decay;   /* of this segment */
    double limit, scale;  /* of gradients: by value, by their norm and the scale of the loss */
    double trust;         /* of this segment: LAMB's and LARS's factor */
    bool decoupled;
} update;

static double setting(const update *u, int index) { return u->settings->value[index]; }

/* g is limited to +-clip_value and scaled down where all gradients together are longer than clip_norm. */
static double limited(const update *u, double g) {
    if (u->limit > 0) g = g > u->limit ? u->limit : g < -u->limit ? -u->limit : g;
    return g * u->scale;
}

/* When weight decay is coupled, decay w is added. Decoupled decay shrinks w itself. */
static double prepared_gradient(const update *u, double g, REAL *w) {
    g = limited(u, g);
    if (!u->decoupled) return g + u->decay * *w;
    *w -= (REAL)(u->rate * u->decay * *w);
    return g;
}

typedef void update_rule(const update *, double g, REAL *w, REAL *const *slot);
/* The gradient of one parameter, its weights and its slots (absent ones NULL). */
typedef struct part {
    const fv_tensor *gradient;
    const REAL *g;
    REAL *w, *slot[3];
    int64_t count;
} part;

/* Calls whole for every gradient whose parameter is not frozen. */
static int update_parts(const fv_task *task, void (*whole)(const fv_task *, update *, const part *, update_rule *),
                        update_rule *rule) {
    const fv_control *control = task->input[CONTROL].data;
    const fv_update_attributes *settings = &task->attributes->update;
    const fv_tensor *norm = &task->input[NORM];
    const int slots = task->output_count - 1;
    if (control->nonfinite) return FV_OK;

    update u = { .settings = settings, .step = control->step + 1, .scale = 1, .trust = 1 };
    u.decoupled = settings->kind == FV_OPTIMIZER_ADAMW || settings->value[FV_DECOUPLED] != 0;
    if (settings->clip_norm > 0 && norm->data && real(norm)[0] > settings->clip_norm)
        u.scale = settings->clip_norm / (double)real(norm)[0];
    u.limit = settings->clip_value / (double)fv_control_unscale(control);
    u.scale *= fv_control_unscale(control);

    for (int g = FIRST_SLOT + slots; g < task->input_count; g++) {
        const fv_tensor *gradient = &task->input[g];
        const int64_t offset = real(gradient) - real(&task->input[GRADIENT_REGION]);
        const fv_segment *segment = segment_at(&task->input[SEGMENTS], offset);
        if (!segment || segment->frozen) continue;
        u.rate = rate_of(task) * segment->rate;
        u.decay = (double)settings->value[FV_DECAY] * segment->decay;

        part p = { gradient, real(gradient), real(&task->output[0]) + offset, { NULL }, fv_elements(gradient) };
        for (int s = 0; s < slots; s++)
            if (task->output[1 + s].data) p.slot[s] = real(&task->output[1 + s]) + offset;
        whole(task, &u, &p, rule);
    }
    return FV_OK;
}

static void each_element(const fv_task *task, update *u, const part *p, update_rule *rule) {
    (void)task;
    EACH(i, p->count) {
        REAL *slot[3];
        for (int s = 0; s < 3; s++) slot[s] = p->slot[s] ? p->slot[s] + i : NULL;
        rule(u, p->g[i], p->w + i, slot);
    }
}

/* slot = kept slot + (1 - kept) x */
static double running_mean(REAL *slot, double kept, double x) {
    return *slot = (REAL)(kept * *slot + (1 - kept) * x);
}

/* v = momentum v + g; w -= rate v, or Nesterov's look ahead: w -= rate (g + momentum v) */
static void sgd_rule(const update *u, double g, REAL *w, REAL *const *slot) {
    const double momentum = setting(u, FV_MOMENTUM);
    g = prepared_gradient(u, g, w);
    double v = g;
    if (slot[0]) *slot[0] = (REAL)(v = momentum * *slot[0] + g);
    *w = (REAL)(*w - u->rate * (setting(u, FV_NESTEROV) != 0 ? g + momentum * v : v));
}

/* Kingma & Ba 2015: the step of Adam; m and v are running means of g and g^2, corrected for their start at zero. */
static double adam_step(const update *u, REAL *const *slot, double g) {
    const double beta1 = setting(u, FV_BETA1), beta2 = setting(u, FV_BETA2);
    const double m = running_mean(slot[0], beta1, g) / (1 - pow(beta1, (double)u->step));
    double v = running_mean(slot[1], beta2, g * g);
    if (slot[2]) v = *slot[2] = (REAL)(*slot[2] > v ? *slot[2] : v); /* AMSGrad (Reddi et al. 2018) */
    return m / (sqrt(v / (1 - pow(beta2, (double)u->step))) + setting(u, FV_EPSILON));
}
static void adam_rule(const update *u, double g, REAL *w, REAL *const *slot) {
    g = prepared_gradient(u, g, w);
    *w = (REAL)(*w - u->rate * adam_step(u, slot, g));
}

/* Tieleman & Hinton 2012: g over the root of the mean of g^2, or of its variance; then perhaps momentum. As in PyTorch
 * epsilon is added to the root (Keras puts it under the root). */
static void rmsprop_rule(const update *u, double g, REAL *w, REAL *const *slot) {
    g = prepared_gradient(u, g, w);
    double squares = running_mean(slot[0], setting(u, FV_RHO), g * g);
    if (slot[2]) squares -= pow(running_mean(slot[2], setting(u, FV_RHO), g), 2);
    double step = g / (sqrt(squares > 0 ? squares : 0) + setting(u, FV_EPSILON));
    if (slot[1]) *slot[1] = (REAL)(step += setting(u, FV_MOMENTUM) * *slot[1]);
    *w = (REAL)(*w - u->rate * step);
}

/* Duchi et al. 2011: g over the root of the sum of all g^2, which begins at `initial`. */
static void adagrad_rule(const update *u, double g, REAL *w, REAL *const *slot) {
    g = prepared_gradient(u, g, w);
    *slot[0] = (REAL)((u->step == 1 ? setting(u, FV_INITIAL) : *slot[0]) + g * g);
    const double rate = u->rate / (1 + (double)(u->step - 1) * setting(u, FV_RATE_DECAY));
    *w = (REAL)(*w - rate * g / (sqrt(*slot[0]) + setting(u, FV_EPSILON)));
}

/* Zeiler 2012: steps in the unit of the weights, by the mean of the squares of the steps before. */
static void adadelta_rule(const update *u, double g, REAL *w, REAL *const *slot) {
    const double rho = setting(u, FV_RHO), epsilon = setting(u, FV_EPSILON);
    g = prepared_gradient(u, g, w);
    const double squares = running_mean(slot[0], rho, g * g), step = sqrt((*slot[1] + epsilon) / (squares + epsilon)) * g;
    running_mean(slot[1], rho, step * step);
    *w = (REAL)(*w - u->rate * step);
}

/* Chen et al. 2023: only the sign of a mean counts. */
static void lion_rule(const update *u, double g, REAL *w, REAL *const *slot) {
    const double beta1 = setting(u, FV_BETA1);
    g = prepared_gradient(u, g, w);
    const double mean = beta1 * *slot[0] + (1 - beta1) * g;
    running_mean(slot[0], setting(u, FV_BETA2), g);
    *w = (REAL)(*w - u->rate * (mean > 0 ? 1 : mean < 0 ? -1 : mean));
}

KERNEL(sgd_update) { return update_parts(task, each_element, sgd_rule); }
KERNEL(adam_update) { return update_parts(task, each_element, adam_rule); }
KERNEL(rmsprop_update) { return update_parts(task, each_element, rmsprop_rule); }
KERNEL(adagrad_update) { return update_parts(task, each_element, adagrad_rule); }
KERNEL(adadelta_update) { return update_parts(task, each_element, adadelta_rule); }
KERNEL(lion_update) { return update_parts(task, each_element, lion_rule); }

/* ---- Updates that look at a whole weight ------------------------------------------------------------------------- */

/* You et al. 2020: w -= rate |w| / |r| r, with r = Adam's step + decay w. Where one of the norms is zero: w -= rate r. */
static void lamb_part(const fv_task *task, update *u, const part *p, update_rule *unused) {
    (void)task, (void)unused;
    for (int pass = 0; pass < 2; pass++) {
        double weights = 0, steps = 0;
        EACH(i, p->count) {
            REAL *const slot[3] = { p->slot[0] + i, p->slot[1] + i, NULL };
            if (pass == 0) adam_step(u, slot, limited(u, p->g[i]));
            const double m = *slot[0] / (1 - pow(setting(u, FV_BETA1), (double)u->step));
            const double v = *slot[1] / (1 - pow(setting(u, FV_BETA2), (double)u->step));
            const double r = m / (sqrt(v) + setting(u, FV_EPSILON)) + u->decay * p->w[i];
            weights += (double)p->w[i] * p->w[i];
            steps += r * r;
            if (pass == 1) p->w[i] = (REAL)(p->w[i] - u->rate * u->trust * r);
        }
        u->trust = weights > 0 && steps > 0 ? sqrt(weights / steps) : 1;
    }
}

/* You et al. 2017: v = momentum v + rate q (g + decay w), w -= v, with q = trust |w| / (|g| + decay |w| + epsilon). Vectors
 * (biases, scales) and weights with a norm of zero have q = 1. */
static void lars_part(const fv_task *task, update *u, const part *p, update_rule *unused) {
    double weights = 0, gradients = 0, q = 1;
    (void)task, (void)unused;
    EACH(i, p->count) {
        weights += (double)p->w[i] * p->w[i];
        gradients += pow(limited(u, p->g[i]), 2);
    }
    if (p->gradient->rank > 1 && weights > 0 && gradients > 0)
        q = setting(u, FV_TRUST) * sqrt(weights) /
            (sqrt(gradients) + u->decay * sqrt(weights) + setting(u, FV_EPSILON));
    EACH(i, p->count) {
        double v = u->rate * q * (limited(u, p->g[i]) + u->decay * p->w[i]);
        if (p->slot[0]) *(p->slot[0] + i) = (REAL)(v += setting(u, FV_MOMENTUM) * p->slot[0][i]);
        p->w[i] = (REAL)(p->w[i] - v);
    }
}

KERNEL(lamb_update) { return update_parts(task, lamb_part, NULL); }
KERNEL(lars_update) { return update_parts(task, lars_part, NULL); }

/* ---- Muon (Jordan 2024) ------------------------------------------------------------------------------------------ */

/* out [r, c] = x y', over an inner length n: element (i, k) of x at i xi + k xk, and so on. */
static void product(REAL *out, int64_t r, int64_t c, int64_t n, const REAL *x, int64_t xi, int64_t xk, const REAL *y,
                    int64_t yi, int64_t yk) {
    EACH(i, r) EACH(j, c) {
        double sum = 0;
        EACH(k, n) sum += (double)x[i * xi + k * xk] * y[j * yi + k * yk];
        out[i * c + j] = (REAL)sum;
    }
}

/* The nearest matrix with orthogonal rows (or columns), nearly: rounds of a X + (b A + c A A) X, A = X X', by which all
 * singular values come near 1. A tall matrix is seen from its other side. x has rows x columns, the scratch behind it
 * as much again and twice the square of the shorter side. */
static void orthogonalise(REAL *x, int64_t rows, int64_t columns, int steps) {
    const double a = 3.4445, b = -4.7750, c = 2.0315;
    const int64_t count = rows * columns, n = rows < columns ? rows : columns;
    REAL *y = x + count, *gram = y + count, *square = gram + n * n;
    const bool wide = rows <= columns;
    double squares = 0;
    EACH(i, count) squares += (double)x[i] * x[i];
    EACH(i, count) x[i] = (REAL)(x[i] / (sqrt(squares) + 1e-7));
    for (int step = 0; step < steps; step++) {
        if (wide) product(gram, n, n, columns, x, columns, 1, x, columns, 1);
        else product(gram, n, n, rows, x, 1, columns, x, 1, columns);
        product(square, n, n, n, gram, n, 1, gram, n, 1); /* both are symmetric */
        EACH(i, n * n) gram[i] = (REAL)(b * gram[i] + c * square[i]);
        if (wide) product(y, rows, columns, n, gram, n, 1, x, 1, columns);
        else product(y, rows, columns, n, x, columns, 1, gram, n, 1);
        EACH(i, count) x[i] = (REAL)(a * x[i] + y[i]);
    }
}

/* Floats of scratch: for the largest matrix. */
size_t NAME(muon_scratch)(const fv_task *task);
size_t NAME(muon_scratch)(const fv_task *task) {
    int64_t most = 0;
    for (int g = FIRST_SLOT + 2; g < task->input_count; g++) {
        const fv_tensor *t = &task->input[g];
        if (t->rank < 2) continue;
        const int64_t rows = t->dim[0], columns = fv_elements(t) / rows, n = rows < columns ? rows : columns;
        if (2 * rows * columns + 2 * n * n > most) most = 2 * rows * columns + 2 * n * n;
    }
    return (size_t)most * sizeof(REAL);
}

/* m = momentum m + (1 - momentum) g; the step is m, or (1 - momentum) g + momentum m, made orthogonal and scaled by
 * sqrt(rows / columns) where that is more than 1. Filters are matrices with a row each. Vectors follow AdamW. */
static void muon_part(const fv_task *task, update *u, const part *p, update_rule *unused) {
    const double momentum = setting(u, FV_MUON_MOMENTUM);
    (void)unused;
    if (p->gradient->rank < 2) {
        update vector = *u;
        vector.rate *= setting(u, FV_ADAM_RATIO);
        vector.decoupled = true;
        each_element(task, &vector, p, adam_rule);
        return;
    }
    const int64_t rows = p->gradient->dim[0], columns = p->count / rows;
    REAL *x = task->scratch;
    EACH(i, p->count) {
        const double g = limited(u, p->g[i]), m = running_mean(p->slot[0] + i, momentum, g);
        x[i] = (REAL)(setting(u, FV_MUON_PLAIN) != 0 ? m : (1 - momentum) * g + momentum * m);
    }
    orthogonalise(x, rows, columns, (int)setting(u, FV_MUON_STEPS));
    const double scale = rows > columns ? sqrt((double)rows / (double)columns) : 1;
    EACH(i, p->count) p->w[i] = (REAL)(p->w[i] - u->rate * (u->decay * p->w[i] + scale * x[i]));
}

KERNEL(muon_update) { return update_parts(task, muon_part, NULL); }

/* ---- The end of a step ------------------------------------------------------------------------------------------- */

/* Where number `number` begins, counted along the axes whose bit in axes is `bit`. */
static int64_t place(const fv_constrain_attributes *a, unsigned bit, int64_t number) {
    int64_t at = 0, step = 1;
    for (int i = a->rank - 1; i >= 0; step *= a->dim[i--])
        if ((a->axes >> i & 1) == bit) {
            at += number % a->dim[i] * step;
            number /= a->dim[i];
        }
    return at;
}

/* Keras's constraints: w (rate clip(|w|, least, most) + (1 - rate) |w|) / (1e-7 + |w|), the norm over the axes chosen; or
 * what is negative becomes zero. */
KERNEL(constrain) {
    const fv_constrain_attributes *a = &task->attributes->constrain;
    REAL *w = real(&task->output[0]) + a->offset;
    int64_t norms = 1, each = 1;
    if (((const fv_control *)task->input[0].data)->nonfinite) return FV_OK;
    for (int i = 0; i < a->rank; i++) *(a->axes >> i & 1 ? &each : &norms) *= a->dim[i];

    EACH(n, norms) {
        REAL *first = w + place(a, 0, n);
        double squares = 0;
        EACH(i, each) squares += pow(first[place(a, 1, i)], 2);
        const double norm = sqrt(squares), held = norm < a->least ? a->least : norm > a->most ? a->most : norm;
        const double factor = (a->rate * held + (1 - (double)a->rate) * norm) / (1e-7 + norm);
        EACH(i, each) {
            REAL *x = first + place(a, 1, i);
            if (a->kind != FV_CONSTRAINT_NON_NEG) *x = (REAL)(*x * factor);
            else if (*x < 0) *x = 0;
        }
    }
    return FV_OK;
}

/* New running statistics take the place of the old ones. */
KERNEL(commit) {
    const fv_control *control = task->input[0].data;
    const fv_tensor *region = &task->input[2];
    if (control->nonfinite) return FV_OK;

    for (int t = 3; t < task->input_count; t++) {
        const int64_t offset = real(&task->input[t]) - real(region);
        EACH(i, fv_elements(&task->input[t])) real(&task->output[0])[offset + i] = real(&task->input[t])[i];
    }
    return FV_OK;
}

KERNEL(advance) {
    fv_control_advance(task->output[0].data, task->attributes->advance.batch_only);
    return FV_OK;
}

KERNEL(loss_scale) {
    real(&task->output[0])[0] = 1 / fv_control_unscale(task->input[0].data);
    return FV_OK;
}
