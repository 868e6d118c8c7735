/* problem.c - a problem from its line: words, operands, shapes by infer, values. */
#include "support/operations.h"
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

int problem_fail(problem *p, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(p->error, sizeof p->error, format, arguments);
    va_end(arguments);
    return -1;
}

/* ---- Words ------------------------------------------------------------------------------------------------------- */

fv_op operation_of(const char *text) {
    const size_t length = strcspn(text, " ");
    for (int op = FV_OP_NONE + 1; op < FV_OP_COUNT; op++)
        if (strlen(fv_op_name(op)) == length && !strncmp(fv_op_name(op), text, length)) return (fv_op)op;
    return FV_OP_NONE;
}

static bool is_number_start(char c) { return isdigit((unsigned char)c) || c == '-' || c == '.'; }

static int parse_word(problem *p, const char *token) {
    if (p->word_count == MOST_WORDS) return problem_fail(p, "more than %d words", MOST_WORDS);
    word *w = &p->word[p->word_count++];
    size_t length = 0;
    while (token[length] && !is_number_start(token[length])) length++;
    if (length == 0 || length >= sizeof w->name) return problem_fail(p, "'%s' is not a word with numbers", token);
    memcpy(w->name, token, length);
    for (token += length; *token; token += *token == ',') {
        char *end;
        if (w->count == 8) return problem_fail(p, "'%s' has more than 8 numbers", w->name);
        w->value[w->count++] = strtod(token, &end);
        if (end == token || (*end && *end != ',')) return problem_fail(p, "'%s' is not a number", token);
        token = end;
    }
    return 0;
}

static int parse(problem *p, const char *text) {
    char copy[PROBLEM_TEXT], *rest;
    snprintf(p->text, sizeof p->text, "%s", text);
    snprintf(copy, sizeof copy, "%s", text);
    p->op = operation_of(text);
    if (p->op == FV_OP_NONE) return problem_fail(p, "'%s' names no operation", text);
    strtok_r(copy, " ", &rest);
    for (char *token; (token = strtok_r(NULL, " ", &rest));)
        if (parse_word(p, token)) return -1;
    return 0;
}

static const word *find_word(const problem *p, const char *name, int nth) {
    for (int i = 0; i < p->word_count; i++)
        if (!strcmp(p->word[i].name, name) && nth-- == 0) return &p->word[i];
    return NULL;
}

bool has_word(const problem *p, const char *name) { return find_word(p, name, 0) != NULL; }

double number(const problem *p, const char *name, int index, double otherwise) {
    const word *w = find_word(p, name, 0);
    if (!w) return otherwise;
    return w->count == 0 ? 1 : w->value[index < w->count ? index : w->count - 1];
}

fv_shape shape_word(const problem *p, const char *name, int nth) {
    const word *w = find_word(p, name, nth);
    fv_shape shape = { .rank = -1 };
    if (!w) return shape;
    shape.rank = w->count < FV_RANK ? w->count : FV_RANK;
    for (int i = 0; i < shape.rank; i++) shape.dim[i] = (int64_t)w->value[i];
    return shape;
}

/* ---- Operands ---------------------------------------------------------------------------------------------------- */

operand *add_input(problem *p, const char *name, fv_type type, fill how, fv_shape shape) {
    operand *o = &p->input[p->input_count++];
    *o = (operand){ .type = type, .shape = shape, .fill = how };
    snprintf(o->name, sizeof o->name, "%s", name);
    return o;
}

operand *add_absent(problem *p, const char *name) {
    operand *o = add_input(p, name, FV_F32, FILL_GIVEN, (fv_shape){ 0 });
    o->absent = true;
    return o;
}

operand *add_control(problem *p) {
    fv_control control = { .step = (uint64_t)whole(p, "step", 0, 3),
                           .seed = { (uint32_t)whole(p, "seed", 0, 7), (uint32_t)whole(p, "seed", 1, 11) },
                           .batch = (uint32_t)whole(p, "batch", 0, 0), .epoch = (uint32_t)whole(p, "epoch", 0, 0),
                           .nonfinite = has_word(p, "nonfinite") ? FV_NONFINITE_STOP : has_word(p, "skip") ? FV_NONFINITE_SKIP : 0,
                           .loss_scale = (float)number(p, "lossscale", 0, 0),
                           .good_steps = (uint32_t)whole(p, "good", 0, 0) };
    unsigned char bytes[sizeof control];
    memcpy(bytes, &control, sizeof bytes);
    operand *o = add_input(p, "control", FV_U8, FILL_GIVEN, SHAPE(sizeof control));
    o->value = calloc(sizeof control, sizeof *o->value);
    for (size_t i = 0; i < sizeof bytes; i++) o->value[i] = bytes[i];
    return o;
}

int add_derived(fv_context *context, problem *p, const char *name, const char *operation, int output) {
    char text[PROBLEM_TEXT], why[1200] = "";
    const char *words = strchr(p->text, ' ');
    snprintf(text, sizeof text, "%s%.200s", operation, words ? words : "");
    problem *maker;
    double *made[MOST_OUTPUTS] = { 0 };
    int status = problem_make(context, text, p->seed, p->smooth, &maker);
    for (int o = 0; o < maker->output_count; o++)
        maker->output[o].absent = false; /* what is dropped, is dropped later */
    if (!status) status = run_oracle(context, maker, made, why);
    if (status) {
        problem_fail(p, "%s: %.1000s", text, maker && maker->error[0] ? maker->error : why);
    } else {
        operand *o = add_input(p, name, maker->output[output].type, FILL_GIVEN, maker->output[output].shape);
        o->value = made[output];
        made[output] = NULL;
        for (int64_t i = 0; i < fv_shape_elements(&o->shape); i++) o->value[i] = (float)o->value[i];
    }
    free_results(made);
    problem_free(maker);
    return status;
}

/* ---- Making ------------------------------------------------------------------------------------------------------ */

static int infer(fv_context *context, problem *p) {
    const fv_op_desc *desc = fv_op_table[p->op];
    const fv_shape *shapes[MOST_OPERANDS];
    fv_type types[MOST_OPERANDS], output_types[MOST_OUTPUTS] = { FV_F32 };
    fv_shape outputs[MOST_OUTPUTS] = { { 0 } };
    for (int i = 0; i < p->input_count; i++) {
        shapes[i] = p->input[i].absent ? NULL : &p->input[i].shape;
        types[i] = p->input[i].type;
    }
    fv_signature s = { .context = context, .op = p->op, .attributes = &p->attributes, .input_count = p->input_count,
                       .input = shapes, .input_type = types, .output = outputs, .output_type = output_types };
    if (fv_op_infer(&s)) {
        problem_fail(p, "%s", fv_error(context));
        fv_clear_error(context);
        return -1;
    }
    p->output_count = desc->outputs;
    for (int o = 0; o < desc->outputs; o++) {
        p->output[o].shape = outputs[o];
        p->output[o].type = output_types[o];
        p->output[o].absent = written_input(p->op, o) >= 0 && p->input[written_input(p->op, o)].absent;
    }
    for (int i = 0; i < p->word_count; i++)
        if (!strcmp(p->word[i].name, "drop")) /* drop1: nobody reads output 1 */
            for (int k = 0; k < p->word[i].count; k++) p->output[(int)p->word[i].value[k]].absent = true;
    return 0;
}

int problem_make(fv_context *context, const char *text, uint64_t seed, bool smooth, problem **out) {
    problem *p = *out = calloc(1, sizeof *p);
    if (!p) return -1;
    p->seed = seed;
    p->smooth = smooth;
    p->terms = 1;
    if (parse(p, text)) return -1;
    if (!op_rules[p->op]->build) return problem_fail(p, "%s has no builder", fv_op_name(p->op));
    if (op_rules[p->op]->build(context, p)) return -1;
    if (infer(context, p)) return -1;
    for (int i = 0; i < p->input_count; i++) fill_operand(p, &p->input[i]);
    return 0;
}

void problem_free(problem *p) {
    if (!p) return;
    for (int i = 0; i < p->input_count; i++) free(p->input[i].value);
    free(p);
}
