/* fuse.c - neighbours become one operation: a table of patterns, matched one after the other over the whole tape.
 * A match is made only where the backend has a kernel for the result. The fused operation stands after everything that it
 * reads and before everything that reads it; where operations between the parts must move for that, they move only if no
 * state is then read or written in another order. Ids stay: outputs that cannot keep theirs become other names (reshape). */
#include "program/program.h"
#include <string.h>

enum { MOST_PARTS = 3, MOST_INPUTS = 6, MOST_OUTPUTS = 5 };

typedef struct fuser {
    fv_tape *tape;
    fv_context *context;
    int32_t *readers; /* operand slots that hold the value   */
    int32_t *reader;  /* the last operation that reads it    */
    int32_t value_capacity;
} fuser;

typedef struct match {
    int32_t part[MOST_PARTS], part_count;    /* operations, ascending */
    int32_t input[MOST_INPUTS], input_count; /* values */
    int32_t output[MOST_OUTPUTS], output_count;
    fv_attributes attributes;
} match;

typedef struct pattern pattern;
struct pattern {
    fv_op fused, first;
    bool (*matches)(const fuser *, const pattern *, int32_t operation, int attempt, match *);
    int attempts;      /* ways to match at one operation, the longest first */
    bool bias;         /* chain: a vector over the last axis may be added */
    size_t activation; /* where the attribute lies, and its parameter behind it */
};

/* ---- What matching asks ------------------------------------------------------------------------------------------ */

/* The elementwise activation that an operation is, or whose gradient it is. */
static int32_t activation_of(fv_op op, bool gradient) {
    for (int32_t i = 1; i < FV_ACTIVATION_COUNT; i++)
        if (fv_activations[i].elementwise && (gradient ? fv_activations[i].gradient : fv_activations[i].op) == op)
            return i;
    return FV_LINEAR;
}

/* Into the attributes of the fused operation, at p->activation; its parameter lies behind it. */
static void set_activation(const pattern *p, match *m, int32_t activation, float alpha) {
    memcpy((unsigned char *)&m->attributes + p->activation, &activation, sizeof activation);
    memcpy((unsigned char *)&m->attributes + p->activation + sizeof activation, &alpha, sizeof alpha);
}

static int32_t input_of(const fuser *f, int32_t operation, int32_t k) {
    return f->tape->operand[f->tape->operation[operation].input + k];
}

/* The only operation that reads a value which may vanish, or -1. */
static int32_t sole_reader(const fuser *f, int32_t value) {
    const fv_tape_value *v = &f->tape->value[value];
    bool vanishes = v->kind == FV_VALUE_TEMPORARY && !v->kept && !fv_value_in_store(v) && f->readers[value] == 1;
    return vanishes ? f->reader[value] : -1;
}

static void add_part(match *m, int32_t operation) { m->part[m->part_count++] = operation; }
static void add_input(match *m, int32_t value) { m->input[m->input_count++] = value; }

/* ---- Patterns ---------------------------------------------------------------------------------------------------- */

/* The other operand of an addition, if that is a vector along the last axis of x and the sum has x's shape. */
static int32_t bias_of(const fuser *f, int32_t add, int32_t x) {
    const fv_tape *t = f->tape;
    int32_t bias = input_of(f, add, input_of(f, add, 0) == x ? 1 : 0);
    const fv_shape *shape = &t->value[x].shape, *vector = &t->value[bias].shape;
    bool fits = shape->rank > 1 && vector->rank == 1 && vector->dim[0] == shape->dim[shape->rank - 1] &&
                t->value[bias].type == t->value[x].type &&
                fv_shape_equal(shape, &t->value[t->operation[add].output].shape);
    return fits ? bias : -1;
}

/* conv2d, dense or batch norm; then perhaps + bias, then perhaps an activation. Attempt 1 leaves the activation out. */
static bool match_chain(const fuser *f, const pattern *p, int32_t operation, int attempt, match *m) {
    const fv_tape *t = f->tape;
    const fv_operation *first = &t->operation[operation];
    int32_t bias = 0, activation = FV_LINEAR, y = first->output;
    float alpha = 0;
    add_part(m, operation);
    int32_t next = sole_reader(f, y);
    if (p->bias && next >= 0 && t->operation[next].op == FV_OP_add) {
        int32_t vector = bias_of(f, next, y);
        if (vector > 0) {
            bias = vector;
            add_part(m, next);
            y = t->operation[next].output;
            next = sole_reader(f, y);
        }
    }
    if (attempt == 0 && next >= 0) activation = activation_of(t->operation[next].op, false);
    if (activation != FV_LINEAR) {
        alpha = t->operation[next].attributes.activation.alpha;
        add_part(m, next);
        y = t->operation[next].output;
    }
    if (m->part_count == 1) return false;
    for (int32_t k = 0; k < first->input_count; k++) add_input(m, input_of(f, operation, k));
    if (p->bias) add_input(m, bias);
    m->output_count = first->output_count;
    for (int32_t k = 0; k < first->output_count; k++) m->output[k] = k ? first->output + k : y;
    m->attributes = first->attributes;
    set_activation(p, m, activation, alpha);
    return true;
}

/* batch_norm_gradient(x, relu_gradient(y, dy), ...), likewise of others whose gradient uses the output */
static bool match_masked_gradient(const fuser *f, const pattern *p, int32_t operation, int attempt, match *m) {
    (void)attempt;
    const fv_tape *t = f->tape;
    int32_t masked = t->operation[operation].output, norm = sole_reader(f, masked);
    if (norm < 0 || t->operation[norm].op != FV_OP_batch_norm_gradient || input_of(f, norm, 1) != masked) return false;
    if (!fv_shape_equal(&t->value[masked].shape, &t->value[input_of(f, operation, 0)].shape)) return false;
    add_part(m, operation);
    add_part(m, norm);
    add_input(m, input_of(f, norm, 0)); /* x; then y and dy of the activation; then gamma, mean, 1/deviation */
    for (int32_t k = 0; k < 2; k++) add_input(m, input_of(f, operation, k));
    for (int32_t k = 2; k < 5; k++) add_input(m, input_of(f, norm, k));
    m->output_count = 3;
    for (int32_t k = 0; k < 3; k++) m->output[k] = t->operation[norm].output + k;
    m->attributes = t->operation[norm].attributes;
    set_activation(p, m, activation_of(p->first, true), t->operation[operation].attributes.activation.alpha);
    return true;
}

/* cross_entropy(softmax(logits), target), the softmax over the last axis */
static bool match_softmax_loss(const fuser *f, const pattern *p, int32_t operation, int attempt, match *m) {
    (void)p, (void)attempt;
    const fv_tape *t = f->tape;
    int32_t probabilities = t->operation[operation].output, loss = sole_reader(f, probabilities);
    if (loss < 0 || t->operation[loss].op != FV_OP_cross_entropy || input_of(f, loss, 0) != probabilities) return false;
    if (t->operation[operation].attributes.axis.axis != t->value[probabilities].shape.rank - 1) return false;
    add_part(m, operation);
    add_part(m, loss);
    add_input(m, input_of(f, operation, 0));
    for (int32_t k = 1; k < t->operation[loss].input_count; k++) add_input(m, input_of(f, loss, k));
    m->output[m->output_count++] = t->operation[loss].output;
    m->attributes = t->operation[loss].attributes;
    return true;
}

/* softmax_cross_entropy and its gradient of the same logits and target. That dloss does not depend on the loss is seen when
 * the operations are put in order. */
static bool match_loss_train(const fuser *f, const pattern *p, int32_t operation, int attempt, match *m) {
    (void)p, (void)attempt;
    const fv_tape *t = f->tape;
    const fv_operation *loss = &t->operation[operation];
    int32_t logits = input_of(f, operation, 0), target = input_of(f, operation, 1), gradient = operation + 1;
    int32_t weights = loss->input_count > 2 ? input_of(f, operation, 2) : 0;
    for (; gradient < t->operation_count; gradient++) {
        const fv_operation *o = &t->operation[gradient];
        if (o->op == FV_OP_softmax_cross_entropy_gradient && input_of(f, gradient, 0) == logits &&
            input_of(f, gradient, 1) == target && (o->input_count > 3 ? input_of(f, gradient, 3) : 0) == weights &&
            !memcmp(&o->attributes, &loss->attributes, sizeof loss->attributes))
            break;
    }
    if (gradient == t->operation_count) return false;
    add_part(m, operation);
    add_part(m, gradient);
    for (int32_t k = 0; k < t->operation[gradient].input_count; k++) add_input(m, input_of(f, gradient, k));
    m->output[m->output_count++] = loss->output;
    m->output[m->output_count++] = t->operation[gradient].output;
    m->attributes = loss->attributes;
    return true;
}

#define AT(member) offsetof(fv_attributes, member)
#define MASKED(name)                                                                                                   \
    { FV_OP_batch_norm_activation_gradient, FV_OP_##name##_gradient, match_masked_gradient, 1, false,                  \
      AT(norm.activation) }
_Static_assert(AT(conv.alpha) == AT(conv.activation) + 4 && AT(dense.alpha) == AT(dense.activation) + 4 &&
                   AT(norm.alpha) == AT(norm.activation) + 4,
               "set_activation writes both");
static const pattern patterns[] = {
    { FV_OP_conv2d_bias_activation, FV_OP_conv2d, match_chain, 2, true, AT(conv.activation) },
    { FV_OP_conv2d_transpose_bias_activation, FV_OP_conv2d_data_gradient, match_chain, 2, true, AT(conv.activation) },
    { FV_OP_dense_bias_activation, FV_OP_dense, match_chain, 2, true, AT(dense.activation) },
    { FV_OP_batch_norm_train_activation, FV_OP_batch_norm_train, match_chain, 1, false, AT(norm.activation) },
    { FV_OP_batch_norm_infer_activation, FV_OP_batch_norm_infer, match_chain, 1, false, AT(norm.activation) },
    MASKED(relu), MASKED(tanh), MASKED(sigmoid), MASKED(leaky_relu), MASKED(elu), MASKED(selu), MASKED(relu6),
    MASKED(hard_tanh), MASKED(hard_sigmoid), MASKED(softplus), MASKED(softsign),
    { FV_OP_softmax_cross_entropy, FV_OP_softmax, match_softmax_loss, 1, false, 0 },
    { FV_OP_softmax_cross_entropy_train, FV_OP_softmax_cross_entropy, match_loss_train, 1, false, 0 },
};

/* ---- Order ------------------------------------------------------------------------------------------------------- */

/* The operations from the first part to the last: parts, those that depend on a part, the rest. */
typedef enum role { REST, PART, DEPENDENT } role;

static bool reads_from(const fv_tape *t, const fv_operation *o, int32_t first, int32_t last,
                       const unsigned char *roles) {
    for (int32_t k = 0; k < o->input_count; k++) {
        int32_t producer = t->value[t->operand[o->input + k]].producer;
        if (producer >= first && producer <= last && roles[producer - first] != REST) return true;
    }
    return false;
}

/* Does an operation write (a new version of a state, a placed value) what the other reads or writes? */
static bool meets(const fv_tape *t, const fv_operation *writer, const fv_operation *other) {
    for (int32_t w = 0; w < writer->output_count; w++) {
        const fv_tape_value *written = &t->value[writer->output + w];
        if (!fv_value_in_store(written)) continue;
        for (int32_t k = 0; k < other->input_count; k++)
            if (fv_state_overlap(&t->value[t->operand[other->input + k]], written)) return true;
        for (int32_t k = 0; k < other->output_count; k++)
            if (fv_state_overlap(&t->value[other->output + k], written)) return true;
    }
    return false;
}

/* The rest goes before the fused operation, the dependent ones behind it. Legal when no input of the fused one is made by a
 * dependent one, and when no write changes its order with a read or write of the same state. */
static bool order(const fuser *f, const match *m, unsigned char *roles) {
    const fv_tape *t = f->tape;
    int32_t first = m->part[0], last = m->part[m->part_count - 1];
    for (int32_t i = first; i <= last; i++) {
        const fv_operation *o = &t->operation[i];
        roles[i - first] = REST;
        for (int k = 0; k < m->part_count; k++)
            if (m->part[k] == i) roles[i - first] = PART;
        if (roles[i - first] == REST && o->op != FV_OP_NONE && reads_from(t, o, first, i - 1, roles))
            roles[i - first] = DEPENDENT;
    }
    for (int32_t k = 0; k < m->input_count; k++) {
        int32_t producer = m->input[k] ? t->value[m->input[k]].producer : -1;
        if (producer >= first && producer <= last && roles[producer - first] != REST) return false;
    }
    for (int32_t late = first; late <= last; late++) {
        const fv_operation *mover = &t->operation[late];
        if (mover->op == FV_OP_NONE) continue;
        for (int32_t early = first; early < late; early++) {
            const fv_operation *passed = &t->operation[early];
            bool swapped = roles[late - first] < roles[early - first] && passed->op != FV_OP_NONE;
            if (swapped && (meets(t, mover, passed) || meets(t, passed, mover))) return false;
        }
    }
    return true;
}

/* ---- Making the fused operation ---------------------------------------------------------------------------------- */

static bool supported(const fuser *f, const pattern *p, const match *m) {
    const fv_tape *t = f->tape;
    fv_tensor tensor[MOST_INPUTS + MOST_OUTPUTS];
    memset(tensor, 0, sizeof tensor);
    int32_t ids[MOST_INPUTS + MOST_OUTPUTS] = { 0 };
    memcpy(ids, m->input, sizeof m->input);
    memcpy(ids + MOST_INPUTS, m->output, sizeof m->output);
    for (int i = 0; i < MOST_INPUTS + MOST_OUTPUTS; i++) {
        const fv_tape_value *v = &t->value[ids[i]];
        tensor[i].type = v->type;
        tensor[i].rank = v->shape.rank;
        memcpy(tensor[i].dim, v->shape.dim, sizeof tensor[i].dim);
        if (!ids[i]) tensor[i].rank = -1;
    }
    const char *label = t->label[t->operation[m->part[0]].label];
    fv_task task = { .op = p->fused,
                     .input_count = m->input_count,
                     .output_count = m->output_count,
                     .attributes = &m->attributes,
                     .input = tensor,
                     .output = tensor + MOST_INPUTS,
                     .layer = *label ? label : NULL };
    char why[256];
    return fv_task_supported(f->context, &task, why, sizeof why) == FV_OK;
}

static int32_t add_operands(fuser *f, const int32_t *values, int32_t count) {
    fv_tape *t = f->tape;
    if (t->operand_count + count > t->operand_capacity) {
        int32_t capacity = t->operand_count + t->operand_count / 2 + count + 16;
        int32_t *grown =
            fv_grow(f->context, t->operand, (size_t)t->operand_count, (size_t)capacity, sizeof *grown, "a tape");
        if (!grown) return FV_ERROR_MEMORY;
        t->operand = grown;
        t->operand_capacity = capacity;
    }
    if (count) memcpy(t->operand + t->operand_count, values, (size_t)count * sizeof *values);
    t->operand_count += count;
    return t->operand_count - count;
}

/* The first of consecutive values for the outputs: those that the match has if they are, or differ only in the first (a
 * normalisation whose y is now the activation's); else new ones. */
static int32_t output_values(fuser *f, const match *m) {
    bool consecutive = true;
    for (int32_t k = 2; k < m->output_count; k++) consecutive &= m->output[k] == m->output[1] + k - 1;
    if (m->output_count == 1) return m->output[0];
    if (m->output_count > 2 && consecutive) return m->output[1] - 1;
    int32_t first = 0;
    for (int32_t k = 0; k < m->output_count; k++) {
        int32_t id = fv_tape_clone_value(f->tape, &f->tape->value[m->output[k]]);
        if (id < 0) return id;
        if (!k) first = id;
    }
    return first;
}

/* Writes rest, fused operation, other names and dependents in place of what stood there. */
static int replace(fuser *f, const pattern *p, const match *m, const unsigned char *roles) {
    fv_tape *t = f->tape;
    int32_t first = m->part[0], old_count = m->part[m->part_count - 1] - first + 1, count = 0;
    int32_t input = add_operands(f, m->input, m->input_count), output = output_values(f, m);
    if (input < 0 || output < 0) return FV_ERROR_MEMORY;
    fv_operation *list = fv_alloc(f->context, (size_t)old_count + 1 + MOST_OUTPUTS, sizeof *list, "fusion");
    if (!list) return FV_ERROR_MEMORY;
    for (int32_t i = 0; i < old_count; i++)
        if (roles[i] == REST) list[count++] = t->operation[first + i];
    const fv_operation *head = &t->operation[first];
    list[count++] = (fv_operation){ .op = p->fused,
                                    .input = input,
                                    .input_count = m->input_count,
                                    .output = output,
                                    .output_count = m->output_count,
                                    .label = head->label,
                                    .backward = head->backward,
                                    .attributes = m->attributes };
    int status = FV_OK;
    for (int32_t k = 0; k < m->output_count && !status; k++) {
        int32_t source = output + k;
        if (m->output[k] == source) continue;
        int32_t operand = add_operands(f, &source, 1);
        if (operand < 0)
            status = operand;
        else
            list[count++] = fv_tape_alias_operation(t, operand, m->output[k], head->label);
    }
    for (int32_t i = 0; i < old_count; i++)
        if (roles[i] == DEPENDENT) list[count++] = t->operation[first + i];
    while (count < old_count) list[count++] = (fv_operation){ .op = FV_OP_NONE };
    if (!status) status = fv_tape_splice(t, first, old_count, list, count);
    fv_free(list);
    return status;
}

/* ---- The whole tape ---------------------------------------------------------------------------------------------- */

static int count_readers(fuser *f) {
    fv_tape *t = f->tape;
    if (f->value_capacity < t->value_count) {
        int32_t capacity = t->value_count + t->value_count / 4 + 16;
        fv_free(f->readers);
        f->value_capacity = 0;
        f->readers = fv_alloc(f->context, 2 * (size_t)capacity, sizeof *f->readers, "fusion");
        if (!f->readers) return FV_ERROR_MEMORY;
        f->reader = f->readers + capacity;
        f->value_capacity = capacity;
    }
    memset(f->readers, 0, (size_t)t->value_count * sizeof *f->readers);
    for (int32_t i = 0; i < t->operation_count; i++) {
        const fv_operation *o = &t->operation[i];
        for (int32_t k = 0; k < o->input_count && o->op != FV_OP_NONE; k++) {
            f->readers[t->operand[o->input + k]]++;
            f->reader[t->operand[o->input + k]] = i;
        }
    }
    return FV_OK;
}

/* 1: fused at this operation; 0: nothing to fuse; or a status */
static int try_pattern(fuser *f, const pattern *p, int32_t operation) {
    for (int attempt = 0; attempt < p->attempts; attempt++) {
        match m;
        memset(&m, 0, sizeof m);
        if (!p->matches(f, p, operation, attempt, &m) || !supported(f, p, &m)) continue;
        size_t length = (size_t)(m.part[m.part_count - 1] - m.part[0] + 1);
        unsigned char *roles = fv_alloc(f->context, length, 1, "fusion");
        if (!roles) return FV_ERROR_MEMORY;
        int status = order(f, &m, roles) ? replace(f, p, &m, roles) : 1;
        fv_free(roles);
        if (status < 0) return status;
        if (status == FV_OK) return 1;
    }
    return 0;
}

int fv_tape_fuse(fv_tape *t, fv_context *c) {
    if (!t || !c) return FV_ERROR_ARGUMENT;
    fuser f = { .tape = t, .context = c };
    int status = count_readers(&f);
    for (size_t k = 0; k < sizeof patterns / sizeof *patterns && !status; k++) {
        if (!c->backend->kernels[patterns[k].fused].run) continue;
        for (int32_t i = 0; i < t->operation_count && !status; i++) {
            if (t->operation[i].op != patterns[k].first) continue;
            int fused = try_pattern(&f, &patterns[k], i);
            status = fused == 1 ? count_readers(&f) : fused;
            if (fused == 1) i--; /* another operation stands here now */
        }
    }
    fv_free(f.readers);
    fv_tape_compact(t);
    return status;
}
