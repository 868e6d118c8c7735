/* differentiate.c - reverse-mode differentiation by appending: the tape is walked backward from the loss, every
 * operation's gradient appends ordinary operations, contributions to one value are added in the order in which they
 * come. What needs no gradient (inputs, frozen layers, everything below them) gets none, and nothing is filled with
 * zeros. */
#include "tape/record.h"

typedef struct walk {
    fv_tape *tape;
    bool *wanted;   /* by input of the operation at hand */
    fv_value *made; /* likewise */
    fv_value out[FV_TAPE_OUTPUTS];
    int32_t loss_operation;
} walk;

static int check_loss(fv_tape *tape, fv_value loss) {
    fv_context *context = tape->object.context;
    if (!fv_value_valid(tape, loss))
        return fv_fail(context, FV_ERROR_ARGUMENT, "fv_backward: the loss is not a value of this tape");
    const fv_tape_value *v = fv_tape_value_of(tape, loss);
    if (tape->gradient)
        return fv_fail(context, FV_ERROR_ARGUMENT, "fv_backward: this tape has been differentiated already");
    if (v->type != FV_F32 || fv_shape_elements(&v->shape) != 1)
        return fv_fail(context, FV_ERROR_SHAPE,
                       "fv_backward: the loss must be one number, f32, not %s %s: take its mean or sum",
                       fv_type_name(v->type), fv_shape_text(&v->shape, (char[96]){ 0 }));
    return FV_OK;
}

static int32_t most_inputs(const fv_tape *tape) {
    int32_t most = 1;
    for (int32_t i = 0; i < tape->operation_count; i++)
        if (tape->operation[i].input_count > most) most = tape->operation[i].input_count;
    return most;
}

/* Adds one contribution to the gradient of a value. */
static int accumulate(fv_tape *tape, int32_t value, fv_value contribution, int32_t operation) {
    fv_context *context = tape->object.context;
    if (!fv_shape_equal(&tape->value[value].shape, &fv_tape_value_of(tape, contribution)->shape))
        return fv_fail(context, FV_ERROR_INTERNAL, "the gradient of %s has shape %s where its input has %s",
                       fv_op_name(tape->operation[operation].op),
                       fv_shape_text(&fv_tape_value_of(tape, contribution)->shape, (char[96]){ 0 }),
                       fv_shape_text(&tape->value[value].shape, (char[96]){ 0 }));
    fv_value sum = contribution;
    if (tape->gradient[value])
        sum = FV_APPLY(tape, FV_OP_add, NULL, ((fv_value){ tape->gradient[value] }), contribution);
    tape->gradient[value] = sum.id;
    return fv_tape_usable(tape);
}

/* Appends the gradient of one operation, if a gradient reaches it and one of its inputs wants it. */
static int visit(walk *w, int32_t operation) {
    fv_tape *tape = w->tape;
    const fv_operation o = tape->operation[operation];
    bool reached = false, needed = false;
    for (int32_t i = 0; i < o.output_count; i++) {
        w->out[i].id = tape->gradient[o.output + i];
        reached |= w->out[i].id != 0;
    }
    for (int32_t i = 0; i < o.input_count; i++) {
        w->wanted[i] = tape->value[tape->operand[o.input + i]].needs_gradient;
        w->made[i].id = 0;
        needed |= w->wanted[i];
    }
    if (!reached || !needed || !fv_op_table[o.op]->gradient) return FV_OK;
    tape->current_label = o.label;
    int status = fv_op_table[o.op]->gradient(tape, operation, w->out, w->wanted, w->made);
    for (int32_t i = 0; i < o.input_count && !status; i++)
        if (w->wanted[i] && w->made[i].id) status = accumulate(tape, tape->operand[o.input + i], w->made[i], operation);
    return status;
}

/* Gradients of parameters go to the gradient region, each at its parameter's offset. */
static int place_gradients(fv_tape *tape) {
    for (int32_t v = 1; v < tape->gradient_count; v++) {
        const fv_tape_value *p = &tape->value[v];
        if (p->kind != FV_VALUE_STATE || p->region != FV_PARAMETERS || !tape->gradient[v]) continue;
        const int32_t producer = tape->value[tape->gradient[v]].producer;
        tape->current_label = producer < 0 ? 0 : tape->operation[producer].label;
        tape->gradient[v] = fv_tape_place(tape, (fv_value){ tape->gradient[v] }, p->store, FV_GRADIENTS, p->offset).id;
        if (!tape->gradient[v]) return fv_tape_usable(tape);
    }
    return FV_OK;
}

static int differentiate(walk *w, fv_value loss) {
    fv_tape *tape = w->tape;
    if (!fv_tape_value_of(tape, loss)->needs_gradient) return FV_OK;
    const fv_shape shape = fv_tape_value_of(tape, loss)->shape;
    tape->gradient[loss.id] = fv_tape_constant(tape, FV_F32, &shape, &(float){ 1 }).id;
    int status = fv_tape_usable(tape);
    for (int32_t i = fv_tape_value_of(tape, loss)->producer; i >= 0 && !status; i--) status = visit(w, i);
    return status ? status : place_gradients(tape);
}

int fv_backward(fv_tape *tape, fv_value loss) {
    int status = fv_tape_usable(tape);
    if (status || (status = check_loss(tape, loss))) return status;
    fv_context *context = tape->object.context;
    const size_t most = (size_t)most_inputs(tape);
    walk w = { .tape = tape,
               .wanted = fv_alloc(context, most, sizeof *w.wanted, "differentiating"),
               .made = fv_alloc(context, most, sizeof *w.made, "differentiating") };
    tape->gradient = fv_alloc(context, (size_t)tape->value_count, sizeof *tape->gradient, "differentiating");
    if (w.wanted && w.made && tape->gradient) {
        const int32_t label = tape->current_label;
        tape->gradient_count = tape->value_count;
        tape->in_backward = true;
        status = differentiate(&w, loss);
        tape->in_backward = false;
        tape->current_label = label;
    }
    fv_free(w.wanted);
    fv_free(w.made);
    return status ? status : fv_tape_usable(tape);
}

fv_value fv_gradient(fv_tape *tape, fv_value v) {
    if (fv_tape_usable(tape) || !tape->gradient || v.id <= 0 || v.id >= tape->gradient_count) return (fv_value){ 0 };
    return (fv_value){ tape->gradient[v.id] };
}
