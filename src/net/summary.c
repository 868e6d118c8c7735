/* summary.c - the table that a net prints of itself: Keras's columns, and beside them what a layer costs. */
#include "net/net.h"
#include <string.h>

enum { LAYER, SHAPE, PARAMETERS, MACS, CONNECTED, COLUMNS };
static const char *const titles[COLUMNS] = { "Layer (type)", "Output shape", "Param #", "Multiply-adds",
                                             "Connected to" };

typedef struct table {
    fv_net *net;
    FILE *file;
    const fv_layer_size *sizes;
    bool open, chain;      /* open: free sizes, so that costs are not known */
    int width[COLUMNS];
} table;

/* 61706 -> "61,706" */
static const char *grouped(int64_t number, char buffer[32]) {
    char digits[24];
    int length = snprintf(digits, sizeof digits, "%lld", (long long)number), used = 0;
    for (int i = 0; i < length; i++) {
        buffer[used++] = digits[i];
        if (digits[i] != '-' && (length - i) % 3 == 1 && i < length - 1) buffer[used++] = ',';
    }
    buffer[used] = 0;
    return buffer;
}

/* 246824 -> "241.04 KB", as Keras says it. */
static const char *bytes_text(int64_t bytes, char buffer[32]) {
    static const char *const units[] = { "B", "KB", "MB", "GB", "TB", "PB", "EB" };
    double size = (double)bytes;
    int unit = 0;
    while (size >= 1024 && unit < 6) size /= 1024, unit++;
    snprintf(buffer, 32, "%.2f %s", size, units[unit]);
    return buffer;
}

/* ---- Rows -------------------------------------------------------------------------------------------------------- */

static const fv_net_node *first_node(const fv_net *net, int32_t layer) {
    for (int32_t n = 0; n < net->node_count; n++)
        if (net->node[n].layer == layer) return &net->node[n];
    return NULL;
}

/* Names of the layers that give a layer its inputs; a layer that is applied several times has several such lists. */
static void write_connections(const table *t, int32_t layer) {
    const fv_net *net = t->net;
    bool first = true;
    for (int32_t n = 0; n < net->node_count; n++) {
        const fv_net_node *node = &net->node[n];
        if (node->layer != layer || node->output > 0) continue;
        if (!first) fputs(";", t->file);
        for (int32_t i = 0; i < node->input_count; i++) {
            const fv_net_node *from = &net->node[node->input[i]];
            fprintf(t->file, "%s%s", i ? ", " : first ? "" : " ", net->layer[from->layer].name);
            if (from->output) fprintf(t->file, "[%d]", (int)from->output);
        }
        first = false;
    }
}

static void row_text(const table *t, int32_t layer, int column, char out[512]) {
    const fv_layer *l = &t->net->layer[layer];
    char text[128];
    out[0] = 0;
    if (column == LAYER) snprintf(out, 512, "%s (%s)", l->name, fv_layer_class_name(l));
    if (column == SHAPE) snprintf(out, 512, "%s", fv_net_shape_text(&first_node(t->net, layer)->shape, text));
    if (column == PARAMETERS) grouped(t->sizes[layer].parameters, out);
    if (column == MACS && t->open) snprintf(out, 512, "-");
    else if (column == MACS) grouped(t->sizes[layer].macs, out);
}

static int last_column(const table *t) { return t->chain ? MACS : CONNECTED; }

static void measure_columns(table *t) {
    for (int c = 0; c <= last_column(t); c++) {
        t->width[c] = (int)strlen(titles[c]);
        for (int32_t l = 0; l < t->net->layer_count; l++) {
            char text[512];
            row_text(t, l, c, text);
            if ((int)strlen(text) > t->width[c]) t->width[c] = (int)strlen(text);
        }
    }
}

static void write_cell(const table *t, int column, const char *text) {
    bool number = column == PARAMETERS || column == MACS;
    if (column == CONNECTED) fprintf(t->file, "  %s", text);
    else fprintf(t->file, number ? "  %*s" : column ? "  %-*s" : " %-*s", t->width[column], text);
}

static void write_rule(const table *t, char character) {
    int width = 1;
    for (int c = 0; c <= last_column(t); c++) width += t->width[c] + 2;
    while (width-- > 0) fputc(character, t->file);
    fputc('\n', t->file);
}

static void write_table(const table *t) {
    fprintf(t->file, "Model: \"%s\"\n", t->net->name);
    write_rule(t, '-');
    for (int c = 0; c <= last_column(t); c++) write_cell(t, c, titles[c]);
    fputc('\n', t->file);
    write_rule(t, '=');
    for (int32_t l = 0; l < t->net->layer_count; l++) {
        char text[512];
        for (int c = 0; c <= MACS; c++) {
            row_text(t, l, c, text);
            write_cell(t, c, text);
        }
        if (!t->chain) fputs("  ", t->file), write_connections(t, l);
        fputc('\n', t->file);
    }
    write_rule(t, '=');
}

/* ---- Totals ------------------------------------------------------------------------------------------------------ */

static void write_totals(const table *t, const fv_net_size *size, int batch) {
    char number[32], bytes[32];
    const struct { const char *name; int64_t count;
    } rows[] = {
        { "Total params", size->parameters },
        { "Trainable params", size->trainable },
        { "Non-trainable params", size->non_trainable },
    };
    for (int i = 0; i < 3; i++)
        fprintf(t->file, "%s: %s (%s)\n", rows[i].name, grouped(rows[i].count, number),
                bytes_text(4 * rows[i].count, bytes));
    if (t->open) return;
    fprintf(t->file, "Multiply-adds: %s for one image\n", grouped(size->macs, number));
    fprintf(t->file, "Memory of a training step: %s bytes (%s), batch of %d, SGD with momentum\n",
            grouped(size->training_bytes, number), bytes_text(size->training_bytes, bytes), batch);
    fprintf(t->file, "Memory of inference: %s bytes (%s), batch of %d\n", grouped(size->inference_bytes, number),
            bytes_text(size->inference_bytes, bytes), batch);
}

int fv_summary(fv_net *net, FILE *file, int batch_size) {
    if (!net || !file) return FV_ERROR_ARGUMENT;
    fv_context *context = net->object.context;
    if (!fv_ok(context)) return context->status;
    fv_layer_size *sizes = fv_alloc(context, (size_t)net->layer_count, sizeof *sizes, "sizes of layers");
    if (!sizes) return FV_ERROR_MEMORY;
    fv_net_size size = {0};
    int status = fv_net_measure(net, batch_size, &size, sizes);
    if (!status) {
        table t = { .net = net, .file = file, .sizes = sizes, .chain = fv_net_is_chain(net) };
        for (int32_t i = 0; i < net->input_count; i++)
            for (int32_t d = 1; d < net->node[net->input[i]].shape.rank; d++)
                t.open |= !net->node[net->input[i]].shape.dim[d];
        measure_columns(&t);
        write_table(&t);
        write_totals(&t, &size, batch_size ? batch_size : 1);
        if (ferror(file))
            status = fv_fail(context, FV_ERROR_FILE, "the summary of net %s cannot be written", net->name);
    }
    fv_free(sizes);
    return status;
}
