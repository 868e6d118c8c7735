/* dump.c - a tape as text, an operation a line, and as a Graphviz graph. Values are written %number, states with
 * their region and offset, so that lines can be compared with fv_program_print. */
#include "tape/record.h"
#include <string.h>

static const char *const region_name[FV_REGION_COUNT] = {
    [FV_REGION_NONE] = "nowhere",
    [FV_PARAMETERS] = "parameters",
    [FV_GRADIENTS] = "gradients",
    [FV_SLOT0] = "slot0",
    [FV_SLOT1] = "slot1",
    [FV_SLOT2] = "slot2",
    [FV_STATISTICS] = "statistics",
    [FV_NEXT_STATISTICS] = "next_statistics",
    [FV_SEGMENTS] = "segments",
    [FV_CONTROL] = "control",
    [FV_RATES] = "rates",
    [FV_ORDER] = "order",
    [FV_METRICS] = "metrics",
};

static int finish(const fv_tape *tape, FILE *out) {
    return ferror(out)
               ? fv_fail(tape->object.context, FV_ERROR_FILE, "a tape cannot be written: the stream reports an error")
               : FV_OK;
}

static void print_place(const fv_tape_value *v, FILE *out) {
    if (v->region) fprintf(out, " %s+%lld", region_name[v->region], (long long)v->offset);
}

static void print_type(const fv_tape_value *v, FILE *out) {
    if (v->type != FV_F32) fprintf(out, " %s", fv_type_name(v->type));
    fprintf(out, " %s", fv_shape_text(&v->shape, (char[96]){ 0 }));
}

static void print_number(const fv_tape *tape, const fv_tape_value *v, FILE *out) {
    float number;
    if (v->type != FV_F32 || fv_shape_elements(&v->shape) != 1) return;
    memcpy(&number, tape->bytes + v->constant, sizeof number);
    fprintf(out, " = %.9g", (double)number);
}

/* An operand with what a reader wants to know about it. */
static void print_operand(const fv_tape *tape, int32_t id, FILE *out) {
    static const char *const kind[] = { [FV_VALUE_INPUT] = " input", [FV_VALUE_CONSTANT] = " constant" };
    const fv_tape_value *v = &tape->value[id];
    if (!id) {
        fputs("absent", out);
        return;
    }
    fprintf(out, "%%%d", id);
    if (v->kind == FV_VALUE_INPUT || v->kind == FV_VALUE_CONSTANT) fputs(kind[v->kind], out);
    if (v->kind == FV_VALUE_CONSTANT) print_number(tape, v, out);
    if (v->kind == FV_VALUE_STATE) print_place(v, out);
    print_type(v, out);
}

static void print_outputs(const fv_tape *tape, const fv_operation *o, FILE *out) {
    for (int32_t i = 0; i < o->output_count; i++) {
        const fv_tape_value *v = &tape->value[o->output + i];
        fprintf(out, i ? ", %%%d" : "%%%d", o->output + i);
        print_place(v, out);
        print_type(v, out);
        if (v->kept) fputs(" kept", out);
    }
}

int fv_tape_print(const fv_tape *tape, FILE *out) {
    if (!tape || !out) return FV_ERROR_ARGUMENT;
    for (int32_t i = 0; i < tape->operation_count; i++) {
        const fv_operation *o = &tape->operation[i];
        char text[512];
        print_outputs(tape, o, out);
        fprintf(out, " = %s(", fv_op_name(o->op));
        for (int32_t n = 0; n < o->input_count; n++) {
            if (n) fputs(", ", out);
            print_operand(tape, tape->operand[o->input + n], out);
        }
        fputc(')', out);
        if (*fv_op_attributes_text(o->op, &o->attributes, text, sizeof text)) fprintf(out, " %s", text);
        if (o->label) fprintf(out, " layer %s", tape->label[o->label]);
        if (o->backward) fputs(" backward", out);
        fputc('\n', out);
    }
    return finish(tape, out);
}

/* ---- Graphviz ---------------------------------------------------------------------------------------------------- */

/* Names of layers are a user's: inside a quoted string of DOT two characters need a backslash, and lines must not break. */
static void print_quoted(const char *text, FILE *out) {
    for (; *text; text++) {
        if (*text == '"' || *text == '\\') fputc('\\', out);
        fputc((unsigned char)*text < ' ' ? ' ' : *text, out);
    }
}

static void dot_operation(const fv_tape *tape, int32_t number, FILE *out) {
    const fv_operation *o = &tape->operation[number];
    char text[512];
    fprintf(out, "    o%d [label=\"%s", number, fv_op_name(o->op));
    if (*fv_op_attributes_text(o->op, &o->attributes, text, sizeof text)) fprintf(out, "\\n"), print_quoted(text, out);
    if (o->label) fputs("\\n", out), print_quoted(tape->label[o->label], out);
    fprintf(out, "\", shape=box, style=\"rounded,filled\", fillcolor=\"%s\"];\n",
            fv_op_table[o->op]->flags & FV_WRITES ? "#f4cccc"
            : o->backward                         ? "#fce5cd"
                                                  : "#d9ead3");
    for (int32_t i = 0; i < o->input_count; i++) {
        const int32_t id = tape->operand[o->input + i];
        if (!id) continue;
        const bool leaf = tape->value[id].producer < 0;
        fprintf(out, "    %c%d -> o%d [label=\"%s\"];\n", leaf ? 'v' : 'o', leaf ? id : tape->value[id].producer,
                number, fv_shape_text(&tape->value[id].shape, (char[96]){ 0 }));
    }
}

/* Values that no operation makes, if one uses them. */
static void dot_leaf(const fv_tape *tape, int32_t id, FILE *out) {
    static const char *const colour[] = {
        [FV_VALUE_INPUT] = "#cfe2f3", [FV_VALUE_CONSTANT] = "#ffffff", [FV_VALUE_STATE] = "#d9d2e9"
    };
    const fv_tape_value *v = &tape->value[id];
    fprintf(out, "    v%d [label=\"", id);
    print_operand(tape, id, out);
    fprintf(out, "\", shape=ellipse, style=filled, fillcolor=\"%s\"];\n", colour[v->kind]);
}

static bool is_used(const fv_tape *tape, int32_t id) {
    for (int32_t i = 0; i < tape->operand_count; i++)
        if (tape->operand[i] == id) return true;
    return false;
}

int fv_tape_dot(const fv_tape *tape, FILE *out) {
    if (!tape || !out) return FV_ERROR_ARGUMENT;
    fputs("digraph tape {\n    node [fontname=\"Helvetica\"];\n    edge [fontname=\"Helvetica\", fontsize=10];\n", out);
    for (int32_t id = 1; id < tape->value_count; id++)
        if (tape->value[id].producer < 0 && is_used(tape, id)) dot_leaf(tape, id, out);
    for (int32_t i = 0; i < tape->operation_count; i++) dot_operation(tape, i, out);
    fputs("}\n", out);
    return finish(tape, out);
}
