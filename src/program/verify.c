/* verify.c - the verifier reads the tasks of a planned program and believes nothing that the planner noted about lifetimes:
 * it finds them again, and refuses a program in which memory is used by two values at a time, an operand is read before it
 * is written, or a state is read as it was before something wrote it. */
#include "program/program.h"
#include <stdlib.h>

typedef struct span { /* memory in use from task `first` to task `last` */
    int64_t offset, end;
    int32_t first, last, value; /* value -1: scratch */
} span;

/* ---- Who made what ----------------------------------------------------------------------------------------------- */

static const char *name_of(const fv_program *p, int32_t operation, char buffer[128]) {
    const fv_operation *o = &p->tape->operation[operation];
    const char *label = p->tape->label[o->label];
    snprintf(buffer, 128, "%s%s%s", fv_op_name(o->op), *label ? " " : "", label);
    return buffer;
}

/* The value whose memory a reshaped one is, found from the operations alone. */
static int32_t source_of(const fv_tape *t, int32_t value) {
    for (;;) {
        int32_t producer = t->value[value].producer;
        if (producer < 0 || !(fv_describe(&t->operation[producer])->flags & FV_ALIAS)) return value;
        value = t->operand[t->operation[producer].input];
    }
}

static int check_order(const fv_program *p) {
    const fv_tape *t = p->tape;
    char name[128];
    for (int32_t i = 0; i < t->operation_count; i++) {
        const fv_operation *o = &t->operation[i];
        for (int32_t k = 0; k < o->input_count; k++) {
            int32_t id = t->operand[o->input + k];
            if (!id) continue;
            const fv_tape_value *v = &t->value[id];
            bool made = v->producer >= 0 || v->kind == FV_VALUE_INPUT || v->kind == FV_VALUE_CONSTANT ||
                        v->kind == FV_VALUE_STATE;
            if (made && v->producer < i) continue;
            return fv_fail(p->object.context, FV_ERROR_INTERNAL,
                           "%s (operation %d) reads value %d before it is written", name_of(p, i, name), i, id);
        }
    }
    return FV_OK;
}

/* ---- States ------------------------------------------------------------------------------------------------------ */

/* Did one of the operations so far write a range that meets this version, after its making? Then which? */
static int32_t newer_writer(const fv_program *p, int32_t state, const int32_t *written, int32_t count) {
    const fv_tape *t = p->tape;
    for (int32_t k = 0; k < count; k++) {
        const fv_tape_value *newer = &t->value[written[k]];
        if (newer->producer > t->value[state].producer && fv_state_overlap(newer, &t->value[state]))
            return newer->producer;
    }
    return -1;
}

static int check_states(const fv_program *p) {
    const fv_tape *t = p->tape;
    int32_t *written = fv_alloc(p->object.context, (size_t)t->value_count, sizeof *written, "the verifier"), count = 0;
    if (!written) return FV_ERROR_MEMORY;
    int status = FV_OK;
    char reading[128], writing[128];
    for (int32_t i = 0; i < t->operation_count && !status; i++) {
        const fv_operation *o = &t->operation[i];
        if (fv_describe(o)->flags & FV_ALIAS) continue; /* reads nothing by itself */
        for (int32_t k = 0; k < o->input_count && !status; k++) {
            int32_t id = source_of(t, t->operand[o->input + k]);
            if (t->value[id].kind != FV_VALUE_STATE) continue;
            int32_t writer = newer_writer(p, id, written, count);
            if (writer >= 0)
                status = fv_fail(p->object.context, FV_ERROR_ARGUMENT,
                                 "%s (operation %d) reads %s %lld..%lld as they were before "
                                 "%s (operation %d) wrote them: use the value again that the writing operation made",
                                 name_of(p, i, reading), i, fv_region_name(t->value[id].region),
                                 (long long)t->value[id].offset,
                                 (long long)(t->value[id].offset + fv_shape_elements(&t->value[id].shape) - 1),
                                 name_of(p, writer, writing), writer);
        }
        for (int32_t k = 0; k < o->output_count; k++)
            if (t->value[o->output + k].kind == FV_VALUE_STATE) written[count++] = o->output + k;
    }
    fv_free(written);
    return status;
}

/* ---- Memory ------------------------------------------------------------------------------------------------------ */

static int compare_spans(const void *a, const void *b) {
    const span *x = a, *y = b;
    return x->offset < y->offset ? -1 : x->offset > y->offset;
}

/* May output 0 of the task at which x ends and y begins lie where its operand x lay? */
static bool in_place(const fv_program *p, const span *x, const span *y) {
    const fv_tape *t = p->tape;
    if (x->value < 0 || y->value < 0 || x->last != y->first || x->offset != y->offset || x->end != y->end) return false;
    const fv_operation *o = &t->operation[p->task_operation[y->first]];
    int32_t shared = 0, slot = -1;
    for (int32_t k = 0; k < o->input_count; k++)
        if (source_of(t, t->operand[o->input + k]) == x->value) shared++, slot = k;
    return o->output == y->value && shared == 1 && fv_describe(o)->may_share >> slot & 1;
}

static int check_spans(const fv_program *p, span *spans, int32_t count, const char *where, int64_t limit) {
    qsort(spans, (size_t)count, sizeof *spans, compare_spans);
    for (int32_t i = 0; i < count; i++) {
        const span *x = &spans[i];
        if (x->offset < 0 || x->end > limit)
            return fv_fail(p->object.context, FV_ERROR_INTERNAL, "value %d lies outside the %s", x->value, where);
        for (int32_t k = i + 1; k < count && spans[k].offset < x->end; k++) {
            const span *y = &spans[k];
            if (x->last < y->first || y->last < x->first || in_place(p, x, y) || in_place(p, y, x)) continue;
            return fv_fail(p->object.context, FV_ERROR_INTERNAL,
                           "values %d and %d overlap in the %s while both live (tasks %d..%d and "
                           "%d..%d)",
                           x->value, y->value, where, x->first, x->last, y->first, y->last);
        }
    }
    return FV_OK;
}

/* When each value with memory of its own is written and last read, found anew from the operands. */
static void find_spans(const fv_program *p, int32_t *first, int32_t *last) {
    const fv_tape *t = p->tape;
    for (int32_t v = 0; v < t->value_count; v++) first[v] = last[v] = -1;
    for (int32_t i = 0; i < p->task_count; i++) {
        const fv_operation *o = &t->operation[p->task_operation[i]];
        for (int32_t k = 0; k < o->output_count; k++) first[o->output + k] = last[o->output + k] = i;
        for (int32_t k = 0; k < o->input_count; k++) last[source_of(t, t->operand[o->input + k])] = i;
    }
    for (int32_t v = 1; v < t->value_count; v++)
        if (t->value[v].kept) last[source_of(t, v)] = p->task_count;
}

/* The values placed in one region of one store; their order by offset is that of bytes. */
static int check_placed(const fv_program *p, span *spans, const int32_t *first, const int32_t *last) {
    const fv_tape *t = p->tape;
    int status = FV_OK;
    for (int32_t s = 0; s < p->store_count; s++)
        for (int region = 1; region < FV_REGION_COUNT && !status; region++) {
            int32_t count = 0;
            for (int32_t v = 1; v < t->value_count; v++) {
                const fv_tape_value *value = &t->value[v];
                if (value->kind == FV_VALUE_TEMPORARY && first[v] >= 0 && value->store == p->stores[s] &&
                    (int)value->region == region)
                    spans[count++] =
                        (span){ value->offset, value->offset + fv_shape_elements(&value->shape), first[v], last[v], v };
            }
            status = check_spans(p, spans, count, fv_region_name((fv_region)region), INT64_MAX);
        }
    return status;
}

/* The temporaries of the arena or, if they last, of the buffer for those that a steady task makes and another reads: there
 * each must have its place for ever. */
static int32_t temporaries(const fv_program *p, bool lasting, const int32_t *first, const int32_t *last, span *spans) {
    const fv_tape *t = p->tape;
    int32_t count = 0;
    for (int32_t v = 1; v < t->value_count; v++) {
        int32_t root = fv_program_root(p, v);
        if (first[v] < 0 || t->value[v].kind != FV_VALUE_TEMPORARY || fv_value_in_store(&t->value[v]) ||
            p->place[root].offset < 0 || (first[v] < p->steady_count && last[v] >= p->steady_count) != lasting)
            continue;
        int64_t begin = p->place[root].offset, end = begin + p->place[v].bytes;
        spans[count++] =
            lasting ? (span){ begin, end, 0, p->task_count, v } : (span){ begin, end, first[v], last[v], v };
    }
    return count;
}

static int check_memory(const fv_program *p) {
    size_t values = (size_t)p->tape->value_count, tasks = (size_t)p->task_count;
    int32_t *first = fv_alloc(p->object.context, values, 2 * sizeof *first, "the verifier");
    span *spans = fv_alloc(p->object.context, values + tasks, sizeof *spans, "the verifier");
    int status = FV_ERROR_MEMORY;
    if (first && spans) {
        int32_t *last = first + values;
        find_spans(p, first, last);
        int32_t count = temporaries(p, true, first, last, spans);
        status = check_spans(p, spans, count, "buffer of what lasts", (int64_t)p->steady_bytes);
        count = temporaries(p, false, first, last, spans);
        for (int32_t i = 0; i < p->task_count; i++)
            if (p->task[i].scratch_bytes)
                spans[count++] =
                    (span){ p->scratch_offset[i], p->scratch_offset[i] + (int64_t)p->task[i].scratch_bytes, i, i, -1 };
        if (!status) status = check_spans(p, spans, count, "arena", (int64_t)p->arena_bytes);
        if (!status) status = check_placed(p, spans, first, last);
    }
    fv_free(spans);
    fv_free(first);
    return status;
}

int fv_program_verify(const fv_program *p) {
    if (!p) return FV_ERROR_ARGUMENT;
    int status = check_order(p);
    if (!status) status = check_states(p);
    return status ? status : check_memory(p);
}
