/* update.c - one step of the optimiser as operations at the end of a tape: every gradient gets its place in the store,
 * one look at all of them guards the step, one call a store updates the whole parameter region, and statistics are
 * committed with it. */
#include "train/train.h"
#include <string.h>

enum { CONTROL_BYTES = sizeof(fv_control) };

typedef struct list {
    fv_context *context;
    fv_value *value;
    int32_t count, capacity;
} list;

static void list_add(list *l, fv_value v) {
    if (!fv_ok(l->context)) return;
    if (l->count == l->capacity) {
        int32_t capacity = l->capacity ? 2 * l->capacity : 64;
        fv_value *grown =
            fv_grow(l->context, l->value, (size_t)l->count, (size_t)capacity, sizeof *grown, "the gradients of a step");
        if (!grown) return;
        l->value = grown;
        l->capacity = capacity;
    }
    l->value[l->count++] = v;
}

static fv_value whole(fv_tape *tape, fv_store *store, fv_region region, int64_t elements) {
    fv_shape shape;
    if (!elements || fv_shape_make(store->context, fv_region_name(region), 1, &elements, &shape))
        return (fv_value){ 0 };
    return fv_tape_state(tape, store, region, 0, fv_region_type(region), &shape, false);
}

static fv_value control_of(fv_tape *tape, fv_store *store) { return whole(tape, store, FV_CONTROL, CONTROL_BYTES); }

static fv_value gradient_of(const fv_tape *tape, fv_value v) {
    return (fv_value){ v.id > 0 && v.id < tape->gradient_count ? tape->gradient[v.id] : 0 };
}

/* Puts the gradients of a net's trainable weights into its store. */
static void place_gradients(fv_tape *tape, fv_net *net, list *gradients) {
    fv_store *store = fv_net_store(net);
    if (!store) return;
    for (int32_t l = 0; l < net->layer_count; l++) {
        fv_layer *layer = &net->layer[l];
        for (int32_t w = 0; !layer->frozen && w < layer->weight_count; w++) {
            if (layer->weight[w].statistic) continue;
            fv_tape_label(tape, layer->name);
            fv_value gradient = gradient_of(tape, fv_net_weight(tape, net, layer, w));
            if (!gradient.id) continue;
            const fv_tape_value *v = fv_tape_value_of(tape, gradient);
            bool there = v->store == store && v->region == FV_GRADIENTS && v->offset == layer->weight[w].offset;
            list_add(gradients,
                     there ? gradient : fv_tape_place(tape, gradient, store, FV_GRADIENTS, layer->weight[w].offset));
        }
    }
    fv_tape_label(tape, NULL);
}

/* Kernels of the optimiser have a fixed part of inputs, then the gradients. */
static int append(fv_tape *tape, fv_op op, const fv_attributes *a, const fv_value *fixed, int32_t fixed_count,
                  const fv_value *rest, int32_t rest_count) {
    fv_context *context = tape->object.context;
    fv_value *input =
        fv_alloc(context, (size_t)(fixed_count + rest_count), sizeof *input, "the inputs of an operation");
    if (!input) return context->status;
    memcpy(input, fixed, sizeof *input * (size_t)fixed_count);
    if (rest_count) memcpy(input + fixed_count, rest, sizeof *input * (size_t)rest_count);
    int32_t operation = fv_tape_append(tape, op, a, input, fixed_count + rest_count);
    fv_free(input);
    return operation;
}

/* One step as it is being recorded. The outermost net's control block and rates serve all the nets within it. */
typedef struct step {
    fv_tape *tape;
    fv_store *root;
    const fv_update_settings *settings;
    fv_value rates, norm; /* may be absent */
    list gradients;
} step;

static int update_store(step *p, fv_store *store, int32_t first, int32_t count) {
    const fv_update_settings *s = p->settings;
    fv_attributes a;
    memset(&a, 0, sizeof a);
    a.update.kind = s->optimizer.kind;
    memcpy(a.update.value, s->optimizer.value, sizeof a.update.value);
    a.update.clip_value = s->clip_value;
    a.update.clip_norm = s->clip_norm;
    static const fv_region slots[] = { FV_SLOT0, FV_SLOT1, FV_SLOT2 };
    const fv_op update = fv_optimizer_kinds[s->optimizer.kind].update;
    const int32_t slot_count = fv_op_table[update]->outputs - 1;
    const uint32_t needed = fv_optimizer_slots(s->optimizer.kind, s->optimizer.value);
    int64_t n = store->parameters, segments = (int64_t)sizeof(fv_segment) * store->segment_count;
    fv_value fixed[9] = {
        control_of(p->tape, p->root),
        p->rates,
        whole(p->tape, store, FV_SEGMENTS, segments),
        p->norm,
        whole(p->tape, store, FV_GRADIENTS, n),
        whole(p->tape, store, FV_PARAMETERS, n),
    };
    for (int32_t i = 0; i < slot_count; i++)
        if (needed >> i & 1) fixed[6 + i] = whole(p->tape, store, slots[i], n);
    if (!fv_ok(store->context)) return store->context->status;
    return append(p->tape, update, &a, fixed, 6 + slot_count, p->gradients.value + first, count);
}

/* Weights that must fulfil something do so after the update. */
static int constrain_store(step *p, fv_net *net, fv_store *store) {
    for (int32_t l = 0; l < net->layer_count; l++)
        for (int32_t w = 0; w < net->layer[l].weight_count && !net->layer[l].frozen; w++) {
            const fv_weight *weight = &net->layer[l].weight[w];
            fv_attributes a;
            if (!weight->constraint.kind || weight->statistic) continue;
            memset(&a, 0, sizeof a);
            a.constrain = (fv_constrain_attributes){ .kind = weight->constraint.kind, .axes = weight->constraint.axes,
                                                     .least = weight->constraint.value[0],
                                                     .most = weight->constraint.value[1],
                                                     .rate = weight->constraint.value[2],
                                                     .rank = weight->shape.rank, .offset = weight->offset };
            memcpy(a.constrain.dim, weight->shape.dim, sizeof a.constrain.dim);
            fv_tape_label(p->tape, net->layer[l].name);
            FV_APPLY(p->tape, FV_OP_constrain, &a, control_of(p->tape, p->root),
                     whole(p->tape, store, FV_PARAMETERS, store->parameters));
        }
    fv_tape_label(p->tape, NULL);
    return store->context->status;
}

/* New running statistics were placed by the layers; of a layer used twice the last ones count. */
static int commit_store(step *p, fv_store *store) {
    list placed = { .context = store->context };
    for (int32_t i = 1; i < p->tape->value_count; i++) {
        const fv_tape_value *v = &p->tape->value[i];
        if (v->kind == FV_VALUE_TEMPORARY && v->region == FV_NEXT_STATISTICS && v->store == store)
            list_add(&placed, (fv_value){ i });
    }
    int status = store->context->status;
    if (!status && placed.count) {
        fv_value fixed[3] = { control_of(p->tape, p->root), whole(p->tape, store, FV_STATISTICS, store->statistics),
                              whole(p->tape, store, FV_NEXT_STATISTICS, store->statistics) };
        status = append(p->tape, FV_OP_commit, NULL, fixed, 3, placed.value, placed.count);
    }
    fv_free(placed.value);
    return status;
}

static int check_gradients(step *p) {
    fv_value fixed[2] = { control_of(p->tape, p->root), p->settings->loss };
    int32_t check = append(p->tape, FV_OP_check_gradients, NULL, fixed, 2, p->gradients.value, p->gradients.count);
    if (check >= 0 && p->settings->clip_norm > 0) p->norm = fv_tape_output(p->tape, check, 1);
    return check;
}

static int record_step(step *p, fv_net **family, int32_t count, int32_t *first) {
    fv_context *context = p->root->context;
    for (int32_t n = 0; n < count; n++) {
        first[n] = p->gradients.count;
        place_gradients(p->tape, family[n], &p->gradients);
    }
    first[count] = p->gradients.count;
    if (fv_ok(context) && !p->gradients.count)
        return fv_fail(context, FV_ERROR_ARGUMENT,
                       "%s: nothing to train: no weight that is not frozen takes part in the loss", family[0]->name);
    if (!fv_ok(context) || check_gradients(p) < 0) return context->status;
    p->rates = whole(p->tape, p->root, FV_RATES, p->settings->rates);
    for (int32_t n = 0; n < count && fv_ok(context); n++) {
        fv_store *store = fv_net_store(family[n]);
        if (first[n + 1] > first[n]) update_store(p, store, first[n], first[n + 1] - first[n]);
        if (fv_ok(context) && first[n + 1] > first[n]) constrain_store(p, family[n], store);
        if (fv_ok(context) && store->statistics) commit_store(p, store);
    }
    if (fv_ok(context)) FV_APPLY(p->tape, FV_OP_advance, NULL, control_of(p->tape, p->root));
    return context->status;
}

int fv_update_record(fv_tape *tape, fv_net *net, const fv_update_settings *settings) {
    fv_context *context = tape->object.context;
    step p = { .tape = tape, .root = fv_net_store(net), .settings = settings, .gradients = { .context = context } };
    int32_t count = 0;
    fv_net **family = p.root ? fv_net_family_list(net, &count) : NULL;
    int32_t *first = family ? fv_alloc(context, (size_t)count + 1, sizeof *first, "the gradients of a step") : NULL;
    if (first) record_step(&p, family, count, first);
    fv_free(p.gradients.value);
    fv_free(first);
    fv_free(family);
    return context->status;
}

int fv_op_update(fv_tape *tape, fv_net *net, fv_optimizer optimizer) {
    if (!tape || !net) return FV_ERROR_ARGUMENT;
    fv_context *context = tape->object.context;
    if (!fv_ok(context)) return context->status;
    if (net->object.context != context)
        return fv_fail(context, FV_ERROR_ARGUMENT, "%s: the tape belongs to another context", net->name);
    if (!optimizer.kind) optimizer = fv_sgd_with(NULL);
    if (fv_optimizer_check(context, &optimizer)) return context->status;
    if (!tape->gradient_count)
        return fv_fail(context, FV_ERROR_ARGUMENT, "%s: fv_op_update comes after fv_backward", net->name);
    return fv_update_record(tape, net, &(fv_update_settings){ .optimizer = optimizer });
}
