/* precision.c - 16-bit programs, made from f32 tapes after fusion. Activations and their gradients get the program's type as the
 * rules of src/ops/precision.c allow, casts stand where a value is wanted in the other type, and weights are read from the store's
 * 16-bit shadow of the parameters. Where the backend has no kernel for these types an operation stands between casts: it computes
 * in f32 and its results are rounded where a device would round them. */
#include "program/program.h"
#include "tape/record.h"
#include <string.h>

typedef struct rewriter {
    fv_tape *tape;
    fv_context *context;
    fv_type type;
    int32_t *narrow, *wide; /* by value of the tape as it was: the same numbers in the other type, or 0 */
    fv_operation *list;     /* the new tape */
    int32_t count, capacity;
    bool backward; /* what the forward pass widened is not kept until the backward pass */
} rewriter;

/* ---- Pieces ------------------------------------------------------------------------------------------------------ */

static int push(rewriter *r, const fv_operation *o) {
    if (r->count == r->capacity) {
        int32_t capacity = 2 * r->capacity + 64;
        fv_operation *grown = fv_grow(r->context, r->list, (size_t)r->count, (size_t)capacity, sizeof *grown, "a tape");
        if (!grown) return FV_ERROR_MEMORY;
        r->list = grown;
        r->capacity = capacity;
    }
    r->list[r->count++] = *o;
    return FV_OK;
}

/* A temporary like v, of another type and without a place. */
static int32_t temporary(rewriter *r, int32_t v, fv_type type) {
    fv_tape_value value = r->tape->value[v];
    value.kind = FV_VALUE_TEMPORARY;
    value.type = type;
    value.lowered = false;
    value.store = NULL;
    value.region = FV_REGION_NONE;
    value.offset = 0;
    value.previous = 0;
    return fv_tape_clone_value(r->tape, &value);
}

/* to = cast(from), beside an operation of this layer */
static int push_cast(rewriter *r, const fv_operation *beside, int32_t from, int32_t to) {
    fv_operation o;
    memset(&o, 0, sizeof o); /* attributes are compared as bytes */
    o.op = FV_OP_cast;
    o.input = fv_tape_add_operand(r->tape, from);
    if (o.input < 0) return o.input;
    o.input_count = o.output_count = 1;
    o.output = to;
    o.label = beside->label;
    o.backward = beside->backward;
    o.attributes.cast.type = (int32_t)r->tape->value[to].type;
    return push(r, &o);
}

static int32_t cast(rewriter *r, const fv_operation *beside, int32_t v, fv_type type) {
    int32_t made = temporary(r, v, type);
    int status = made < 0 ? made : push_cast(r, beside, v, made);
    return status ? status : made;
}

/* A weight as the step finds it is read from the shadow; no operation makes that. */
static int32_t narrowed(rewriter *r, const fv_operation *beside, int32_t v) {
    const fv_tape_value *value = &r->tape->value[v];
    if (r->narrow[v]) return r->narrow[v];
    int32_t made;
    if (value->kind == FV_VALUE_STATE && value->region == FV_PARAMETERS && value->producer < 0) {
        fv_tape_value shadow = *value;
        shadow.type = r->type;
        shadow.region = fv_shadow_region(r->type);
        made = fv_tape_clone_value(r->tape, &shadow);
    } else {
        made = cast(r, beside, v, r->type);
    }
    return made < 0 ? made : (r->narrow[v] = made);
}

static int32_t widened(rewriter *r, const fv_operation *beside, int32_t v) {
    if (!r->wide[v]) {
        int32_t made = cast(r, beside, v, FV_F32);
        if (made < 0) return made;
        r->wide[v] = made;
    }
    return r->wide[v];
}

/* ---- Types ------------------------------------------------------------------------------------------------------- */

/* Products always have 16 bits. Others follow an operand that has them, but not where their result is placed in the store. */
static bool is_half(const rewriter *r, const fv_operation *o) {
    const fv_tape *t = r->tape;
    const fv_precision_rule *rule = &fv_precision_rules[o->op];
    if (rule->lowers) return true;
    for (int32_t k = 0; k < o->output_count; k++)
        if (rule->outputs >> k & 1 && fv_value_in_store(&t->value[o->output + k])) return false;
    for (int32_t k = 0; k < o->input_count; k++)
        if (fv_precision_may(o->op, k) && t->value[t->operand[o->input + k]].type == r->type) return true;
    return false;
}

static int retype(rewriter *r, const fv_operation *o) {
    fv_tape *t = r->tape;
    const bool half = is_half(r, o);
    for (int32_t k = 0; k < o->input_count && o->op != FV_OP_cast; k++) {
        const int32_t v = t->operand[o->input + k];
        const bool wanted = half && fv_precision_may(o->op, k);
        int32_t use = v;
        if (v && wanted && t->value[v].type == FV_F32) use = narrowed(r, o, v);
        if (v && !wanted && t->value[v].type == r->type) use = widened(r, o, v);
        if (use < 0) return use;
        t->operand[o->input + k] = use;
    }
    const int32_t at = r->count;
    int status = push(r, o);
    for (int32_t k = 0; k < o->output_count && half && !status; k++) {
        fv_tape_value *y = &t->value[o->output + k];
        if (!(fv_precision_rules[o->op].outputs >> k & 1) || y->type != FV_F32) continue;
        if (!fv_value_in_store(y)) {
            y->type = r->type;
            y->lowered = true;
        } else { /* a product of one output that is a gradient of a weight */
            r->list[at].output = temporary(r, o->output, r->type);
            status = r->list[at].output < 0 ? FV_ERROR_MEMORY : push_cast(r, o, r->list[at].output, o->output);
        }
    }
    return status;
}

/* ---- Operations without a kernel for these types ----------------------------------------------------------------- */

static bool has_kernel(rewriter *r, int32_t i, fv_tensor *tensor) {
    const fv_backend *b = r->context->backend;
    const fv_operation *o = &r->tape->operation[i];
    const uint32_t able = b->precisions ? b->precisions(r->context->device) : 0;
    if (fv_describe(o)->flags & FV_ALIAS || o->op == FV_OP_cast) return true;
    if (!(able & (1u << FV_PRECISION_BF16 | 1u << FV_PRECISION_F16))) return false;
    fv_task task = { .input = tensor, .output = tensor + o->input_count };
    char why[256];
    fv_task_describe(r->tape, i, &task);
    return fv_task_supported(r->context, &task, why, sizeof why) == FV_OK;
}

static int32_t count_half(const fv_tape *t, const fv_operation *o) {
    int32_t count = 0;
    for (int32_t k = 0; k < o->input_count; k++) count += fv_type_half(t->value[t->operand[o->input + k]].type);
    for (int32_t k = 0; k < o->output_count; k++) count += fv_type_half(t->value[o->output + k].type);
    return count;
}

/* Outputs are consecutive values, so either all stay or all are new. */
static int between_casts(rewriter *r, const fv_operation *given) {
    fv_tape *t = r->tape;
    fv_operation o = *given;
    for (int32_t k = 0; k < o.input_count; k++) {
        const int32_t v = t->operand[o.input + k];
        if (!v || !fv_type_half(t->value[v].type)) continue;
        const int32_t made = cast(r, given, v, FV_F32);
        if (made < 0) return made;
        for (int32_t other = k; other < o.input_count; other++)
            if (t->operand[o.input + other] == v) t->operand[o.input + other] = made;
    }
    bool narrow = false;
    for (int32_t k = 0; k < o.output_count; k++) narrow |= fv_type_half(t->value[given->output + k].type);
    for (int32_t k = 0; k < o.output_count && narrow; k++) {
        fv_tape_value like = t->value[given->output + k];
        if (fv_type_half(like.type)) like.type = FV_F32;
        like.lowered = false;
        const int32_t made = fv_tape_clone_value(t, &like);
        if (made < 0) return made;
        if (!k) o.output = made;
    }
    int status = push(r, &o);
    for (int32_t k = 0; k < o.output_count && narrow && !status; k++) {
        const int32_t from = o.output + k, to = given->output + k;
        if (t->value[from].type != t->value[to].type) {
            status = push_cast(r, given, from, to);
            continue;
        }
        const int32_t operand = fv_tape_add_operand(t, from);
        if (operand < 0) return operand;
        fv_operation alias = fv_tape_alias_operation(t, operand, to, given->label);
        alias.backward = given->backward;
        status = push(r, &alias);
    }
    return status;
}

/* ---- The tape ---------------------------------------------------------------------------------------------------- */

static int take_list(rewriter *r) {
    int status = fv_tape_splice(r->tape, 0, r->tape->operation_count, r->list, r->count);
    r->count = 0;
    return status;
}

static int retype_all(rewriter *r) {
    fv_tape *t = r->tape;
    const int32_t values = t->value_count;
    int status = FV_OK;
    for (int32_t i = 0; i < t->operation_count && !status; i++) {
        const fv_operation o = t->operation[i];
        if (o.backward != r->backward) memset(r->wide, 0, sizeof *r->wide * (size_t)values);
        r->backward = o.backward;
        status = retype(r, &o);
    }
    return status ? status : take_list(r);
}

static int cast_all(rewriter *r) {
    fv_tape *t = r->tape;
    int32_t most = 0;
    for (int32_t i = 0; i < t->operation_count; i++)
        if (t->operation[i].input_count > most) most = t->operation[i].input_count;
    fv_tensor *tensor = fv_alloc(r->context, (size_t)most + FV_TAPE_OUTPUTS, sizeof *tensor, "a 16-bit program");
    if (!tensor) return FV_ERROR_MEMORY;
    int status = FV_OK;
    for (int32_t i = 0; i < t->operation_count && !status; i++) {
        const fv_operation o = t->operation[i];
        status = count_half(t, &o) && !has_kernel(r, i, tensor) ? between_casts(r, &o) : push(r, &o);
    }
    fv_free(tensor);
    return status ? status : take_list(r);
}

int fv_tape_lower(fv_tape *t, fv_context *c, fv_precision precision) {
    rewriter r = { .tape = t, .context = c, .type = fv_precision_type(precision) };
    if (r.type == FV_F32) return FV_OK;
    r.narrow = fv_alloc(c, 2 * (size_t)t->value_count, sizeof *r.narrow, "a 16-bit program");
    if (!r.narrow) return FV_ERROR_MEMORY;
    r.wide = r.narrow + t->value_count;
    int status = retype_all(&r);
    if (!status) status = cast_all(&r);
    fv_free(r.narrow);
    fv_free(r.list);
    if (!status) fv_tape_compact(t);
    return status;
}
