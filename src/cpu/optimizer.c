/* optimizer.c - one step of the optimiser over the parameters of a store: one pass over each gradient's range, all
 * ranges being one list of blocks, so that small layers cost no more than their bytes. check_gradients adds the
 * squares of fixed blocks in order; their sum in double is finite exactly when every gradient is. While the sticky
 * flag is set nothing is written. */
#include "cpu/cpu.h"
#include "cpu/gemm.h"
#include "cpu/simd.h"
#include <math.h>

enum { BLOCK = 8192, CHAINS = 4, AHEAD = 512 /* floats fetched ahead */ };

/* Inputs that all updates have in common; the gradients follow the slots. */
enum { CONTROL, RATES, SEGMENTS, NORM, GRADIENT_REGION, PARAMETERS, FIRST_SLOT };

static int64_t blocks_of(const fv_tensor *t) { return t->rank < 0 ? 0 : div_up(fv_elements(t), BLOCK); }
static int64_t count_blocks(const fv_task *task, int first) {
    int64_t blocks = 0;
    for (int i = first; i < task->input_count; i++) blocks += blocks_of(&task->input[i]);
    return blocks;
}
/* Calls each block of begin .. end-1 with its tensor and its elements. */
typedef void block_fn(void *state, int input, int64_t block, int64_t first, int64_t last);
static void for_blocks(const fv_task *task, int first_input, int64_t begin, int64_t end, block_fn *each, void *state) {
    int64_t base = 0;
    for (int i = first_input; i < task->input_count && base < end; i++) {
        int64_t blocks = blocks_of(&task->input[i]), elements = blocks ? fv_elements(&task->input[i]) : 0;
        for (int64_t b = most(0, begin - base); b < least(blocks, end - base); b++)
            each(state, i, base + b, b * BLOCK, least(elements, (b + 1) * BLOCK));
        base += blocks;
    }
}

/* ---- Check ------------------------------------------------------------------------------------------------------- */
static int check_prepare(fv_device *device, fv_task *task) {
    (void)device;
    task->scratch_bytes = sizeof(double) * (size_t)count_blocks(task, 1);
    return FV_OK;
}
static void check_block(void *state, int input, int64_t block, int64_t first, int64_t last) {
    const fv_task *task = state;
    const float *g = task->input[input].data;
    vd sum[CHAINS] = { 0 }; /* side by side, so that none waits for another */
    for (int64_t i = first; g && i < last; i += CHAINS * LANES)
        for (int chain = 0; chain < CHAINS && i + chain * LANES < last; chain++) {
            const float *at = g + i + chain * LANES;
            __builtin_prefetch(at + AHEAD);
            vd x = widen(load_up_to(at, last - (i + chain * LANES)));
            sum[chain] = add_double(sum[chain], multiply_double(x, x));
        }
    sum[0] = add_double(add_double(sum[0], sum[1]), add_double(sum[2], sum[3]));
    ((double *)task->scratch)[block] = sum_lanes_double(sum[0]);
}
static void check_blocks(const void *argument, int64_t begin, int64_t end, int thread) {
    (void)thread;
    union {
        const void *constant;
        void *any;
    } task = { argument };
    for_blocks(argument, 1, begin, end, check_block, task.any);
}
static int check_run(fv_device *device, const fv_task *task) {
    fv_control *control = task->output[0].data;
    const double *squares = task->scratch;
    double sum = 0;
    int64_t blocks = count_blocks(task, 1), of_loss = task->input_count > 1 ? blocks_of(&task->input[1]) : 0;
    fv_parallel(device, blocks, 2, check_blocks, task);
    bool bad[2] = { false, false }; /* loss, gradients */
    for (int64_t i = 0; i < blocks; i++) {
        if (!isfinite(squares[i])) bad[i >= of_loss] = true;
        if (i >= of_loss) sum += squares[i];
    }
    fv_control_judge(control, bad[0], bad[1]);
    if (task->output[1].data)
        *(float *)task->output[1].data = (float)(sqrt(sum) * (double)fv_control_unscale(control));
    return FV_OK;
}
const fv_cpu_kernel KERNEL(check_gradients) = { { .prepare = check_prepare, .run = check_run }, NULL };

/* ---- Updates: one element ---------------------------------------------------------------------------------------- */
typedef struct update {
    const fv_task *task;
    int slots;
    bool decoupled;
    float base_rate, base_decay, limit, scale; /* of all segments; limit 0: none */
    float value[15];                           /* fv_update_attributes.value */
    float mean_factor, deviation_factor;       /* Adam's corrections of this step */
    bool first;                                /* step */
    float *trust;                              /* LAMB, LARS: a factor for each gradient */
    double *squares;                           /* a pair for each block, later of each gradient */
} update;

static const fv_segment *segment_at(const fv_tensor *segments, int64_t offset) {
    const fv_segment *s = segments->data;
    int64_t low = 0, high = fv_elements(segments) / (int64_t)sizeof *s; /* segments ascend */
    while (low < high) {
        int64_t middle = (low + high) / 2;
        if (s[middle].offset + s[middle].length <= offset)
            low = middle + 1;
        else
            high = middle;
    }
    return low < fv_elements(segments) / (int64_t)sizeof *s && s[low].offset <= offset ? &s[low] : NULL;
}

INLINE vf limited(const update *u, vf g) {
    if (u->limit > 0) g = choose(g > u->limit, splat(u->limit), choose(g < -u->limit, splat(-u->limit), g));
    return g * u->scale;
}
/* Limited, scaled, and with the coupled part of the decay; decoupled decay shrinks w itself. */
INLINE vf prepared_gradient(const update *u, vf g, vf *w, float rate, float decay) {
    g = limited(u, g);
    if (!u->decoupled) return decay != 0 ? g + *w * decay : g;
    *w -= *w * (rate * decay);
    return g;
}
INLINE vf running_mean(vf *slot, float kept, vf x) { return *slot = *slot * kept + x * (1.0f - kept); }

INLINE vf adam_step(const update *u, vf g, vf *slot, bool amsgrad) {
    running_mean(slot, u->value[FV_BETA1], g);
    vf v = running_mean(slot + 1, u->value[FV_BETA2], g * g);
    if (amsgrad) v = slot[2] = choose(slot[2] > v, slot[2], v);
    return slot[0] * u->mean_factor / (square_root(v) * u->deviation_factor + u->value[FV_EPSILON]);
}
/* The new weight; slots that are not there read as zero and are not written. */
INLINE vf rule(const int op, const update *u, vf g, vf w, float rate, vf *slot, const bool *there) {
    const float epsilon = u->value[FV_EPSILON], momentum = u->value[FV_MOMENTUM], rho = u->value[FV_RHO];
    switch (op) {
    case FV_OP_adam_update: return w - adam_step(u, g, slot, there[2]) * rate;
    case FV_OP_rmsprop_update: {
        vf squares = running_mean(slot, rho, g * g);
        if (there[2]) {
            vf mean = running_mean(slot + 2, rho, g), variance = squares - mean * mean;
            squares = choose(variance > 0.0f, variance, (vf){ 0 });
        }
        vf step = g / (square_root(squares) + epsilon);
        if (there[1]) step = slot[1] = slot[1] * momentum + step;
        return w - step * rate;
    }
    case FV_OP_adagrad_update:
        slot[0] = (u->first ? splat(u->value[FV_INITIAL]) : slot[0]) + g * g;
        return w - g * rate / (square_root(slot[0]) + epsilon);
    case FV_OP_adadelta_update: {
        vf squares = running_mean(slot, rho, g * g);
        vf step = square_root((slot[1] + epsilon) / (squares + epsilon)) * g;
        running_mean(slot + 1, rho, step * step);
        return w - step * rate;
    }
    case FV_OP_lion_update: {
        vf mean = slot[0] * u->value[FV_BETA1] + g * (1.0f - u->value[FV_BETA1]);
        running_mean(slot, u->value[FV_BETA2], g);
        return w - choose(mean > 0.0f, splat(rate), choose(mean < 0.0f, splat(-rate), mean));
    }
    default: { /* SGD */
        vf v = g;
        if (there[0]) v = slot[0] = slot[0] * momentum + g;
        return w - (u->value[FV_NESTEROV] != 0 ? g + v * momentum : v) * rate;
    }
    }
}

/* ---- Updates: the parameter of one gradient ---------------------------------------------------------------------- */
typedef struct part {
    const float *g;
    float *w, *slot[3];
    float rate, decay;
} part;

static bool part_of(const update *u, int input, part *p) {
    const fv_task *task = u->task;
    *p = (part){ .g = task->input[input].data };
    if (!p->g) return false;
    int64_t offset = p->g - (const float *)task->input[GRADIENT_REGION].data;
    const fv_segment *segment = segment_at(&task->input[SEGMENTS], offset);
    if (!segment || segment->frozen) return false;
    p->rate = u->base_rate * segment->rate, p->decay = u->base_decay * segment->decay;
    p->w = (float *)task->output[0].data + offset;
    for (int s = 0; s < u->slots; s++)
        if (task->output[1 + s].data) p->slot[s] = (float *)task->output[1 + s].data + offset;
    return true;
}
INLINE void load_slots(const part *p, int64_t i, int64_t left, vf *slot, bool *there) {
    for (int s = 0; s < 3; s++) {
        there[s] = p->slot[s] != NULL;
        slot[s] = there[s] ? load_up_to(p->slot[s] + i, left) : (vf){ 0 };
    }
}
INLINE void store_slots(const part *p, int64_t i, int64_t left, const vf *slot) {
    for (int s = 0; s < 3; s++)
        if (p->slot[s]) store_up_to(p->slot[s] + i, slot[s], left);
}
INLINE void update_elements(const int op, const update *u, const part *p, int64_t first, int64_t last) {
    for (int64_t i = first; i < last; i += LANES) {
        int64_t left = last - i;
        vf weight = load_up_to(p->w + i, left), slot[3];
        bool there[3];
        load_slots(p, i, left, slot, there);
        vf g = prepared_gradient(u, load_up_to(p->g + i, left), &weight, p->rate, p->decay);
        store_up_to(p->w + i, rule(op, u, g, weight, p->rate, slot, there), left);
        store_slots(p, i, left, slot);
    }
}

static update begin_update(const fv_task *task) {
    const fv_control *control = task->input[CONTROL].data;
    const fv_update_attributes *a = &task->attributes->update;
    const fv_tensor *rates = &task->input[RATES], *norm = &task->input[NORM];
    update u = { .task = task, .slots = task->output_count - 1, .limit = a->clip_value, .scale = 1 };
    const float unscale = fv_control_unscale(control);
    double step = (double)(control->step + 1);
    memcpy(u.value, a->value, sizeof u.value);
    u.first = control->step == 0;
    u.base_decay = a->value[FV_DECAY];
    u.decoupled = a->kind == FV_OPTIMIZER_ADAMW || a->value[FV_DECOUPLED] != 0;
    u.base_rate = rates->data ? ((const float *)rates->data)[control->batch % fv_elements(rates)] : a->value[FV_RATE];
    if (a->clip_norm > 0 && norm->data && *(const float *)norm->data > a->clip_norm)
        u.scale = a->clip_norm / *(const float *)norm->data;
    u.limit /= unscale;
    u.scale *= unscale;
    u.mean_factor = (float)(1 / (1 - pow(u.value[FV_BETA1], step)));
    u.deviation_factor = (float)(1 / sqrt(1 - pow(u.value[FV_BETA2], step)));
    if (a->kind == FV_OPTIMIZER_ADAGRAD) u.base_rate = (float)(u.base_rate / (1 + (step - 1) * a->value[FV_RATE_DECAY]));
    return u;
}
static int64_t update_count(const update *u) { return count_blocks(u->task, FIRST_SLOT + u->slots); }
static bool halted(const fv_task *task) { return ((const fv_control *)task->input[CONTROL].data)->nonfinite; }

/* A block function and what calls it for a range of blocks. */
#define BLOCKS(name, statement)                                                                                        \
    static void name##_block(void *state, int input, int64_t block, int64_t first, int64_t last) {                     \
        const update *u = state;                                                                                       \
        part p;                                                                                                        \
        (void)block;                                                                                                   \
        if (part_of(u, input, &p)) statement;                                                                          \
    }                                                                                                                  \
    static void name##_blocks(const void *argument, int64_t begin, int64_t end, int thread) {                          \
        update u = *(const update *)argument;                                                                          \
        (void)thread;                                                                                                  \
        for_blocks(u.task, FIRST_SLOT + u.slots, begin, end, name##_block, &u);                                        \
    }
#define UPDATE(name)                                                                                                   \
    BLOCKS(name, update_elements(FV_OP_##name, u, &p, first, last))                                                    \
    static int name##_run(fv_device *device, const fv_task *task) {                                                    \
        if (halted(task)) return FV_OK;                                                                                \
        update u = begin_update(task);                                                                                 \
        fv_parallel(device, update_count(&u), 2, name##_blocks, &u);                                                   \
        return FV_OK;                                                                                                  \
    }                                                                                                                  \
    const fv_cpu_kernel KERNEL(name) = { { .run = name##_run }, NULL };

UPDATE(sgd_update)
UPDATE(adam_update)
UPDATE(rmsprop_update)
UPDATE(adagrad_update)
UPDATE(adadelta_update)
UPDATE(lion_update)

/* ---- Updates that look at a whole weight: LAMB, LARS ------------------------------------------------------------- */
/* Two passes. The first adds squares, a pair for each block; the second steps by a factor for each gradient. */
INLINE vf lamb_step(const update *u, vf w, const vf *slot, float decay) {
    return slot[0] * u->mean_factor / (square_root(slot[1]) * u->deviation_factor + u->value[FV_EPSILON]) + w * decay;
}
INLINE void measure(const int op, const update *u, const part *p, int64_t block, int64_t first, int64_t last) {
    vd weights = { { 0 }, { 0 } }, steps = weights;
    for (int64_t i = first; i < last; i += LANES) {
        int64_t left = last - i;
        vf w = load_up_to(p->w + i, left), step = limited(u, load_up_to(p->g + i, left)), slot[3];
        bool there[3];
        if (op == FV_OP_lamb_update) {
            load_slots(p, i, left, slot, there);
            adam_step(u, step, slot, false);
            store_slots(p, i, left, slot);
            step = pad_lanes(lamb_step(u, w, slot, p->decay), left, 0.0f);
        }
        weights = add_double(weights, multiply_double(widen(w), widen(w)));
        steps = add_double(steps, multiply_double(widen(step), widen(step)));
    }
    u->squares[2 * block] = sum_lanes_double(weights);
    u->squares[2 * block + 1] = sum_lanes_double(steps);
}
INLINE void step_elements(const int op, const update *u, const part *p, float trust, int64_t first, int64_t last) {
    for (int64_t i = first; i < last; i += LANES) {
        int64_t left = last - i;
        vf w = load_up_to(p->w + i, left), slot[3], v;
        bool there[3];
        load_slots(p, i, left, slot, there);
        if (op == FV_OP_lamb_update) {
            v = lamb_step(u, w, slot, p->decay) * (p->rate * trust);
        } else {
            v = (limited(u, load_up_to(p->g + i, left)) + w * p->decay) * (p->rate * trust);
            if (there[0]) v = slot[0] = slot[0] * u->value[FV_MOMENTUM] + v;
            store_slots(p, i, left, slot);
        }
        store_up_to(p->w + i, w - v, left);
    }
}
BLOCKS(measure_lamb, measure(FV_OP_lamb_update, u, &p, block, first, last))
BLOCKS(measure_lars, measure(FV_OP_lars_update, u, &p, block, first, last))
BLOCKS(step_lamb, step_elements(FV_OP_lamb_update, u, &p, u->trust[input], first, last))
BLOCKS(step_lars, step_elements(FV_OP_lars_update, u, &p, u->trust[input], first, last))

/* The factors, from the squares of each gradient's blocks added in order. */
static void trust_of(const update *u) {
    int64_t block = 0;
    for (int input = FIRST_SLOT + u->slots; input < u->task->input_count; input++) {
        const fv_tensor *gradient = &u->task->input[input];
        double weights = 0, steps = 0;
        part p;
        const bool used = part_of(u, input, &p), lars = u->task->op == FV_OP_lars_update;
        for (int64_t last = block + blocks_of(gradient); block < last; block++) {
            if (used) weights += u->squares[2 * block], steps += u->squares[2 * block + 1];
        }
        u->trust[input] = 1;
        if (!used || !(weights > 0 && steps > 0) || (lars && gradient->rank < 2)) continue;
        u->trust[input] = (float)(lars ? u->value[FV_TRUST] * sqrt(weights) /
                                             (sqrt(steps) + p.decay * sqrt(weights) + u->value[FV_EPSILON])
                                       : sqrt(weights / steps));
    }
}
static int trust_prepare(fv_device *device, fv_task *task) {
    (void)device;
    task->scratch_bytes = 2 * sizeof(double) * (size_t)count_blocks(task, FIRST_SLOT + task->output_count - 1) +
                          sizeof(float) * (size_t)task->input_count;
    return FV_OK;
}
static int trust_run(fv_device *device, const fv_task *task, fv_part *measure_blocks, fv_part *step_blocks) {
    if (halted(task)) return FV_OK;
    update u = begin_update(task);
    u.squares = task->scratch;
    u.trust = (float *)(u.squares + 2 * update_count(&u));
    fv_parallel(device, update_count(&u), 2, measure_blocks, &u);
    trust_of(&u);
    fv_parallel(device, update_count(&u), 2, step_blocks, &u);
    return FV_OK;
}
static int lamb_run(fv_device *device, const fv_task *task) {
    return trust_run(device, task, measure_lamb_blocks, step_lamb_blocks);
}
static int lars_run(fv_device *device, const fv_task *task) {
    return trust_run(device, task, measure_lars_blocks, step_lars_blocks);
}
const fv_cpu_kernel KERNEL(lamb_update) = { { .prepare = trust_prepare, .run = lamb_run }, NULL };
const fv_cpu_kernel KERNEL(lars_update) = { { .prepare = trust_prepare, .run = lars_run }, NULL };

/* ---- Muon: vectors block by block as AdamW, matrices one after the other ----------------------------------------- */
typedef struct matrix {
    const update *u;
    const part *p;
    int64_t count, rows, columns, side; /* side: the shorter one */
    float *x, *y, *gram, *square;
    void *packing;
    double *squares; /* of each block */
    float factor;    /* of what is being done to every element */
} matrix;

static matrix matrix_of(const fv_tensor *t) {
    matrix m = { .count = fv_elements(t), .rows = t->dim[0] };
    m.columns = m.count / m.rows;
    m.side = least(m.rows, m.columns);
    return m;
}
/* X X', or X' X where X is tall; then the square of that; then its product with X. */
static gemm gram_of(const matrix *m) {
    const bool wide = m->rows <= m->columns;
    return (gemm){ .m = m->side, .n = m->side, .k = most(m->rows, m->columns), .a = m->x, .b = m->x, .c = m->gram,
                   .lda = m->columns, .ldb = m->columns, .ldc = m->side, .a_columns = !wide, .b_columns = wide };
}
static gemm square_of(const matrix *m) {
    return (gemm){ .m = m->side, .n = m->side, .k = m->side, .a = m->gram, .b = m->gram, .c = m->square,
                   .lda = m->side, .ldb = m->side, .ldc = m->side };
}
static gemm product_of(const matrix *m) {
    const bool wide = m->rows <= m->columns;
    return (gemm){ .m = m->rows, .n = m->columns, .k = m->side, .a = wide ? m->gram : m->x, .b = wide ? m->x : m->gram,
                   .c = m->y, .lda = wide ? m->side : m->columns, .ldb = m->columns, .ldc = m->columns };
}

#define EACH_VECTOR(size)                                                                                              \
    for (int64_t i = begin * BLOCK, end_ = least(size, end * BLOCK), left = end_ - i; i < end_; i += LANES, left = end_ - i)
static void muon_begin(const void *argument, int64_t begin, int64_t end, int thread) {
    const matrix *m = argument;
    const update *u = m->u;
    const float momentum = u->value[FV_MUON_MOMENTUM];
    (void)thread;
    for (int64_t block = begin; block < end; block++) {
        vd sum = { { 0 }, { 0 } };
        for (int64_t i = block * BLOCK; i < least(m->count, (block + 1) * BLOCK); i += LANES) {
            int64_t left = least(m->count, (block + 1) * BLOCK) - i;
            vf g = limited(u, load_up_to(m->p->g + i, left)), mean = load_up_to(m->p->slot[0] + i, left);
            running_mean(&mean, momentum, g);
            store_up_to(m->p->slot[0] + i, mean, left);
            vf step = u->value[FV_MUON_PLAIN] != 0 ? mean : g * (1.0f - momentum) + mean * momentum;
            store_up_to(m->x + i, step, left);
            sum = add_double(sum, multiply_double(widen(step), widen(step)));
        }
        m->squares[block] = sum_lanes_double(sum);
    }
}
static void muon_scale(const void *argument, int64_t begin, int64_t end, int thread) {
    const matrix *m = argument;
    (void)thread;
    EACH_VECTOR(m->count) store_up_to(m->x + i, load_up_to(m->x + i, left) * m->factor, left);
}
static void muon_polynomial(const void *argument, int64_t begin, int64_t end, int thread) {
    const matrix *m = argument;
    (void)thread;
    EACH_VECTOR(m->side * m->side)
    store_up_to(m->gram + i, load_up_to(m->gram + i, left) * -4.7750f + load_up_to(m->square + i, left) * 2.0315f, left);
}
static void muon_add(const void *argument, int64_t begin, int64_t end, int thread) {
    const matrix *m = argument;
    (void)thread;
    EACH_VECTOR(m->count)
    store_up_to(m->x + i, load_up_to(m->x + i, left) * 3.4445f + load_up_to(m->y + i, left), left);
}
static void muon_step(const void *argument, int64_t begin, int64_t end, int thread) {
    const matrix *m = argument;
    (void)thread;
    EACH_VECTOR(m->count) {
        vf w = load_up_to(m->p->w + i, left);
        store_up_to(m->p->w + i, w - w * (m->p->rate * m->p->decay) - load_up_to(m->x + i, left) * m->factor, left);
    }
}
static void muon_matrix(fv_device *device, matrix *m) {
    const int64_t blocks = div_up(m->count, BLOCK), squares = div_up(m->side * m->side, BLOCK);
    double sum = 0;
    fv_parallel(device, blocks, 2, muon_begin, m);
    for (int64_t i = 0; i < blocks; i++) sum += m->squares[i];
    m->factor = (float)(1 / (sqrt(sum) + 1e-7));
    fv_parallel(device, blocks, 2, muon_scale, m);
    for (int step = 0; step < (int)m->u->value[FV_MUON_STEPS]; step++) {
        gemm gram = gram_of(m), square = square_of(m), product = product_of(m);
        gemm_run(device, &gram, m->packing);
        gemm_run(device, &square, m->packing);
        fv_parallel(device, squares, 2, muon_polynomial, m);
        gemm_run(device, &product, m->packing);
        fv_parallel(device, blocks, 2, muon_add, m);
    }
    m->factor = m->p->rate * (m->rows > m->columns ? sqrtf((float)m->rows / (float)m->columns) : 1.0f);
    fv_parallel(device, blocks, 2, muon_step, m);
}

/* Floats of each part of the scratch, for the largest matrix. */
typedef struct muon_plan {
    int64_t matrix, square, squares;
    size_t packing;
} muon_plan;
static muon_plan plan_muon(const fv_device *device, const fv_task *task) {
    muon_plan plan = { 0 };
    for (int i = FIRST_SLOT + 2; i < task->input_count; i++) {
        if (task->input[i].rank < 2) continue;
        matrix m = matrix_of(&task->input[i]);
        const gemm products[] = { gram_of(&m), square_of(&m), product_of(&m) };
        plan.matrix = most(plan.matrix, round_up(m.count, 16));
        plan.square = most(plan.square, round_up(m.side * m.side, 16));
        plan.squares = most(plan.squares, round_up(2 * div_up(m.count, BLOCK), 16));
        for (int k = 0; k < 3; k++) plan.packing = (size_t)most((int64_t)plan.packing, (int64_t)gemm_scratch(device, &products[k]));
    }
    return plan;
}
static int muon_prepare(fv_device *device, fv_task *task) {
    muon_plan plan = plan_muon(device, task);
    task->scratch_bytes = sizeof(float) * (size_t)(2 * plan.matrix + 2 * plan.square + plan.squares) + plan.packing;
    return FV_OK;
}
BLOCKS(muon_vector, if (u->task->input[input].rank < 2) update_elements(FV_OP_adam_update, u, &p, first, last))
static int muon_run(fv_device *device, const fv_task *task) {
    if (halted(task)) return FV_OK;
    const muon_plan plan = plan_muon(device, task);
    update u = begin_update(task), vectors = u;
    vectors.base_rate *= u.value[FV_ADAM_RATIO];
    vectors.decoupled = true;
    fv_parallel(device, update_count(&u), 2, muon_vector_blocks, &vectors);
    for (int i = FIRST_SLOT + 2; i < task->input_count; i++) {
        part p;
        if (task->input[i].rank < 2 || !part_of(&u, i, &p)) continue;
        matrix m = matrix_of(&task->input[i]);
        m.u = &u, m.p = &p;
        m.squares = task->scratch;
        m.x = (float *)task->scratch + plan.squares;
        m.y = m.x + plan.matrix;
        m.gram = m.y + plan.matrix;
        m.square = m.gram + plan.square;
        m.packing = m.square + plan.square;
        muon_matrix(device, &m);
    }
    return FV_OK;
}
const fv_cpu_kernel KERNEL(muon_update) = { { .prepare = muon_prepare, .run = muon_run }, NULL };

/* ---- The end of a step ------------------------------------------------------------------------------------------- */
static int commit_run(fv_device *device, const fv_task *task) {
    (void)device;
    const fv_control *control = task->input[0].data;
    if (control->nonfinite) return FV_OK;
    for (int t = 3; t < task->input_count; t++) {
        const float *from = task->input[t].data;
        int64_t offset = from - (const float *)task->input[2].data;
        copy_floats((float *)task->output[0].data + offset, from, fv_elements(&task->input[t]));
    }
    return FV_OK;
}
static int advance_run(fv_device *device, const fv_task *task) {
    (void)device;
    fv_control_advance(task->output[0].data, task->attributes->advance.batch_only);
    return FV_OK;
}
const fv_cpu_kernel KERNEL(commit) = { { .run = commit_run }, NULL };
const fv_cpu_kernel KERNEL(advance) = { { .run = advance_run }, NULL };

static int scale_run(fv_device *device, const fv_task *task) {
    (void)device;
    *(float *)task->output[0].data = 1 / fv_control_unscale(task->input[0].data);
    return FV_OK;
}
const fv_cpu_kernel KERNEL(loss_scale) = { { .run = scale_run }, NULL };
