/* plan.c - where every value lies. Values that share memory (reshapes, results in place of a dying operand) form one block;
 * a block lives from the task that writes it to the last that reads any of its values. Blocks are placed largest first, each
 * into the smallest gap among the blocks alive at the same time. The scratch of a kernel is a block that lives for one task. */
#include "program/program.h"
#include <stdlib.h>
#include <string.h>

enum { ALIGNMENT = 64 };

typedef struct block {
    int64_t offset, bytes; /* a multiple of the alignment */
    int32_t first, last;   /* tasks */
    int32_t value;         /* or -1 - task, for its scratch */
} block;

static int64_t aligned(int64_t bytes) { return (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT; }

int32_t fv_program_root(const fv_program *p, int32_t value) {
    while (p->place[value].alias) value = p->place[value].alias;
    return value;
}

/* ---- Lifetimes --------------------------------------------------------------------------------------------------- */

static int measure_values(fv_program *p) {
    const fv_tape *t = p->tape;
    for (int32_t v = 1; v < t->value_count; v++) {
        fv_place *place = &p->place[v];
        *place = (fv_place){ .offset = -1, .last = -1 };
        if (t->value[v].kind == FV_VALUE_NONE) continue;
        size_t bytes;
        if (__builtin_mul_overflow((size_t)fv_shape_elements(&t->value[v].shape),
                                   fv_device_element(t->object.context, t->value[v].type), &bytes) ||
            bytes > (size_t)INT64_MAX - ALIGNMENT)
            return fv_fail_memory(t->object.context, "a value of a program", SIZE_MAX);
        place->bytes = (int64_t)bytes;
    }
    return FV_OK;
}

/* Reshapes and new versions of states are other names of what they come from. */
static void find_aliases(fv_program *p) {
    const fv_tape *t = p->tape;
    for (int32_t i = 0; i < t->operation_count; i++) {
        const fv_operation *o = &t->operation[i];
        const fv_op_desc *desc = fv_describe(o);
        if (desc->flags & FV_ALIAS) p->place[o->output].alias = t->operand[o->input];
        for (int32_t k = 0; k < o->output_count && desc->flags & FV_WRITES; k++)
            if (t->value[o->output + k].kind == FV_VALUE_STATE)
                p->place[o->output + k].alias = t->value[o->output + k].previous;
    }
}

static void read_until(fv_program *p, int32_t value, int32_t task) {
    for (;; value = p->place[value].alias) {
        if (p->place[value].last < task) p->place[value].last = task;
        if (!p->place[value].alias) return;
    }
}

static void find_lifetimes(fv_program *p) {
    const fv_tape *t = p->tape;
    for (int32_t i = 0; i < p->task_count; i++) {
        const fv_operation *o = &t->operation[p->task_operation[i]];
        for (int32_t k = 0; k < o->output_count; k++) p->place[o->output + k].first = i;
        for (int32_t k = 0; k < o->input_count; k++)
            if (t->operand[o->input + k]) read_until(p, t->operand[o->input + k], i);
    }
    for (int32_t i = 0; i < t->operation_count; i++) { /* a reshaped value begins where its source does */
        const fv_operation *o = &t->operation[i];
        if (fv_describe(o)->flags & FV_ALIAS) p->place[o->output].first = p->place[t->operand[o->input]].first;
    }
    for (int32_t v = 1; v < t->value_count; v++)
        if (t->value[v].kept || p->debug) read_until(p, v, p->task_count);
}

/* ---- What lasts -------------------------------------------------------------------------------------------------- */

static bool made_here(const fv_program *p, int32_t value) {
    const fv_tape_value *v = &p->tape->value[value];
    return v->kind == FV_VALUE_TEMPORARY && v->producer >= 0 && !fv_value_in_store(v);
}

bool fv_program_lasts(const fv_program *p, int32_t root) {
    return made_here(p, root) && p->place[root].first < p->steady_count && p->place[root].last >= p->steady_count;
}

/* ---- In place ---------------------------------------------------------------------------------------------------- */

static bool in_arena(const fv_program *p, int32_t value) {
    return made_here(p, value) && p->place[value].last >= 0 && !fv_program_lasts(p, value);
}

static bool dies_in_place(const fv_program *p, int32_t task, int32_t k, int32_t output) {
    const fv_tape *t = p->tape;
    const fv_operation *o = &t->operation[p->task_operation[task]];
    int32_t root = t->operand[o->input + k] ? fv_program_root(p, t->operand[o->input + k]) : 0;
    if (!root || !in_arena(p, root) || p->place[root].last != task || p->place[root].bytes != p->place[output].bytes)
        return false;
    for (int32_t other = 0; other < o->input_count; other++)
        if (other != k && t->operand[o->input + other] && fv_program_root(p, t->operand[o->input + other]) == root)
            return false;
    return true;
}

/* Output 0 takes the memory of an operand that nobody reads afterwards, where the operation allows it. */
static void share_in_place(fv_program *p) {
    const fv_tape *t = p->tape;
    for (int32_t i = 0; i < p->task_count; i++) {
        const fv_operation *o = &t->operation[p->task_operation[i]];
        uint32_t may_share = fv_describe(o)->may_share;
        if (!may_share || !in_arena(p, o->output) || p->place[o->output].alias) continue;
        for (int32_t k = 0; k < o->input_count && k < 32; k++) {
            if (!(may_share >> k & 1) || !dies_in_place(p, i, k, o->output)) continue;
            int32_t root = fv_program_root(p, t->operand[o->input + k]);
            p->place[o->output].alias = root;
            p->place[root].last = p->place[o->output].last;
            break;
        }
    }
}

/* ---- Offsets ----------------------------------------------------------------------------------------------------- */

static int compare_blocks(const void *a, const void *b) {
    const block *x = a, *y = b;
    if (x->bytes != y->bytes) return x->bytes < y->bytes ? 1 : -1;
    if (x->first != y->first) return x->first < y->first ? -1 : 1;
    return x->value < y->value ? -1 : x->value > y->value;
}

/* The smallest gap that holds the block, among those alive with it; `placed` is in the order of the offsets. */
static int64_t best_offset(const block *b, block *const *placed, int32_t count) {
    int64_t end = 0, best = -1, best_gap = INT64_MAX;
    for (int32_t i = 0; i < count; i++) {
        const block *other = placed[i];
        if (other->last < b->first || b->last < other->first) continue;
        int64_t gap = other->offset - end;
        if (gap >= b->bytes && gap < best_gap) best = end, best_gap = gap;
        if (other->offset + other->bytes > end) end = other->offset + other->bytes;
    }
    return best >= 0 ? best : end;
}

static int place_blocks(fv_program *p, block *blocks, block **placed, int32_t count) {
    qsort(blocks, (size_t)count, sizeof *blocks, compare_blocks);
    int64_t total = 0;
    for (int32_t i = 0; i < count; i++) {
        block *b = &blocks[i];
        int64_t end;
        b->offset = p->debug ? total : best_offset(b, placed, i); /* a debug program uses no memory twice */
        if (__builtin_add_overflow(b->offset, b->bytes, &end))
            return fv_fail_memory(p->object.context, "the arena of a program", SIZE_MAX);
        if (end > total) total = end;
        int32_t k = i;
        for (; k > 0 && placed[k - 1]->offset > b->offset; k--) placed[k] = placed[k - 1];
        placed[k] = b;
        if (b->value < 0)
            p->scratch_offset[-1 - b->value] = b->offset;
        else
            p->place[b->value].offset = b->offset;
    }
    p->arena_bytes = (size_t)total;
    return FV_OK;
}

static int place_arena(fv_program *p) {
    const fv_tape *t = p->tape;
    size_t capacity = (size_t)t->value_count + (size_t)p->task_count;
    block *blocks = fv_alloc(p->object.context, capacity, sizeof *blocks, "the plan of a program");
    block **placed = fv_alloc(p->object.context, capacity, sizeof *placed, "the plan of a program");
    int status = FV_ERROR_MEMORY;
    if (blocks && placed) {
        int32_t count = 0;
        for (int32_t v = 1; v < t->value_count; v++)
            if (in_arena(p, v) && !p->place[v].alias)
                blocks[count++] = (block){ 0, aligned(p->place[v].bytes), p->place[v].first, p->place[v].last, v };
        for (int32_t i = 0; i < p->task_count; i++)
            if (p->task[i].scratch_bytes)
                blocks[count++] = (block){ 0, aligned((int64_t)p->task[i].scratch_bytes), i, i, -1 - i };
        status = place_blocks(p, blocks, placed, count);
    }
    fv_free(placed);
    fv_free(blocks);
    return status;
}

/* Inputs, constants and what lasts from run to run lie one behind the other in buffers of their own. */
static size_t place_in_order(fv_program *p, fv_value_kind kind) {
    int64_t end = 0;
    for (int32_t v = 1; v < p->tape->value_count; v++) {
        if (p->tape->value[v].kind != kind || p->place[v].last < 0 || p->place[v].alias) continue;
        if (kind == FV_VALUE_TEMPORARY && !fv_program_lasts(p, v)) continue;
        p->place[v].offset = p->bound[v] ? -1 : end;
        if (!p->bound[v]) end += aligned(p->place[v].bytes);
    }
    return (size_t)end;
}

void fv_program_place_inputs(fv_program *p) { p->input_bytes = place_in_order(p, FV_VALUE_INPUT); }

int fv_program_plan(fv_program *p) {
    int status = measure_values(p);
    if (status) return status;
    find_aliases(p);
    find_lifetimes(p);
    if (!p->debug) share_in_place(p);
    status = place_arena(p);
    if (status) return status;
    fv_program_place_inputs(p);
    p->constant_bytes = place_in_order(p, FV_VALUE_CONSTANT);
    p->steady_bytes = place_in_order(p, FV_VALUE_TEMPORARY);
    return FV_OK;
}
