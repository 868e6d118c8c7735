/* list.c - fovea operations and fovea layers: the tables of the library as text, or as the pages docs/operations.md and
 * docs/layers.md (`make docs`). */
#include "tool/tool.h"
#include <ctype.h>
#include <string.h>

typedef struct arguments { bool markdown; char section[64]; } arguments;

static error_t parse(int key, char *text, struct argp_state *state) {
    arguments *a = state->input;
    if (key == 'm') return a->markdown = true, 0;
    if (key == ARGP_KEY_ARG) argp_error(state, "'%s' is not an option", text);
    return ARGP_ERR_UNKNOWN;
}

static const struct argp_option options[] = { { "markdown", 'm', 0, 0, "As a page of the documentation", 0 }, { 0 } };

static void read_arguments(int argc, char **argv, const char *about, arguments *a) {
    argp_parse(&(struct argp){ options, parse, NULL, about, NULL, 0, 0 }, argc, argv, 0, NULL, a);
}

/* A cell of a table: bars would end it. */
static void cell(const char *text) {
    for (; *text; text++) printf(*text == '|' ? "\\|" : "%c", *text);
    printf(" |");
}

static void inputs(int32_t least, int32_t most, char text[32]) {
    if (most < 0) snprintf(text, 32, "%d or more", least);
    else if (least == most) snprintf(text, 32, "%d", least);
    else snprintf(text, 32, "%d to %d", least, most);
}

/* ---- Operations -------------------------------------------------------------------------------------------------- */

static void operation_line(void *user, const fv_operation_info *o) {
    char count[32];
    inputs(o->least, o->most, count);
    printf("%-36s %10s in, %d out  %-9s %-16s %s%s%s\n", o->name, count, o->outputs, o->gradient ? "gradient" : "-",
           o->view ? "no kernel" : o->backends, o->about, *o->attributes ? "; " : "", o->attributes);
}

/* A heading for each file of src/ops, which is a family. */
static void operation_section(arguments *a, const char *source) {
    const char *name = strrchr(source, '/') ? strrchr(source, '/') + 1 : source;
    char title[64];
    snprintf(title, sizeof title, "%.*s", (int)strcspn(name, "."), name);
    title[0] = (char)toupper((unsigned char)title[0]);
    for (char *c = title; *c; c++)
        if (*c == '_') *c = ' ';
    if (!strcmp(title, a->section)) return;
    memcpy(a->section, title, sizeof title);
    printf("\n## %s\n\nMeaning: `%s`.\n\n| operation | inputs -> outputs | attributes | gradient | backends |\n|---|---|---|---|---|\n",
           title, source);
}

static void operation_row(void *user, const fv_operation_info *o) {
    operation_section(user, o->source);
    printf("| `%s` | ", o->name);
    cell(o->about);
    printf(" ");
    cell(o->attributes);
    printf(" %s | %s%s |\n", o->gradient ? "yes" : "", o->view ? "needs no kernel" : o->backends,
           o->fused ? " (fused; the reference runs what it stands for)" : "");
}

int tool_operations(int argc, char **argv) {
    arguments a = { 0 };
    read_arguments(argc, argv, "Lists the operations of the tape.", &a);
    if (!a.markdown) return fv_operations(operation_line, &a) > 0 ? 0 : 1;
    printf("# Operations\n\n"
           "The %d operations that a tape may hold, by family, from `src/ops.def` and the descriptions in `src/ops`. This page is\n"
           "written by `make docs`. Attributes are those of the family, each with its usual value where it has one. \"yes\" under gradient:\n"
           "`fv_backward` goes through the operation; it ends at the others. Letters in shapes: n batch, h w height and width, c channels,\n"
           "k filters, r s kernel, p q output. [adding_an_operation.md](adding_an_operation.md) shows how to add one.\n",
           fv_operations(NULL, NULL));
    fv_operations(operation_row, &a);
    return 0;
}

/* ---- Layers ------------------------------------------------------------------------------------------------------ */

static void layer_line(void *user, const fv_layer_info *l) {
    printf("%-28s %-34s %s%s%s\n", l->name, l->class_name, l->about, *l->options ? "; " : "", l->options);
}

static void layer_row(void *user, const fv_layer_info *l) {
    char count[32];
    inputs(l->least, l->most, count);
    printf("| `%s` | ", l->name);
    cell(l->about);
    printf(" %s | ", count);
    cell(l->options);
    printf(" `%s` |\n", l->class_name);
}

int tool_layers(int argc, char **argv) {
    arguments a = { 0 };
    read_arguments(argc, argv, "Lists the layers of networks.", &a);
    if (!a.markdown) return fv_layers(layer_line, &a) > 0 ? 0 : 1;
    printf("# Layers\n\n"
           "The %d functions that add a layer to a net, from `src/net/list.c`. This page is written by `make docs`; `include/fovea.h` has the\n"
           "formulas and sources. Every layer has `name`; one with weights has `frozen`. An option that is left out has the value shown;\n"
           "where that is not zero, `FV_ZERO` asks for zero. The last column is the class in Keras's files, `fovea>...` where Keras has none.\n\n"
           "| layer | what it does | inputs | options | class |\n|---|---|---|---|---|\n",
           fv_layers(NULL, NULL));
    fv_layers(layer_row, &a);
    return 0;
}
