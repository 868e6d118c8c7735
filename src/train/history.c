/* history.c - history.csv with the column names and the counting of Keras's CSVLogger: epochs from 0, NA for what was
 * not measured. Nine digits give a float back exactly, so a resumed run writes the same file. */
#include "io/io.h"
#include "train/train.h"
#include <math.h>
#include <string.h>

static const struct {
    const char *name;
    size_t offset;
} columns[] = {
    { "accuracy", offsetof(fv_metrics, accuracy) }, { "learning_rate", offsetof(fv_metrics, learning_rate) },
    { "loss", offsetof(fv_metrics, loss) },         { "val_accuracy", offsetof(fv_metrics, val_accuracy) },
    { "val_loss", offsetof(fv_metrics, val_loss) },
};
enum { COLUMNS = sizeof(columns) / sizeof(*columns), LINE_BYTES = 160 }; /* six numbers of at most 16 characters */

static size_t write_row(char *line, const fv_metrics *m) {
    size_t used = (size_t)snprintf(line, LINE_BYTES, "%d", m->epoch - 1);
    for (int i = 0; i < COLUMNS; i++) {
        double value;
        memcpy(&value, (const char *)m + columns[i].offset, sizeof value);
        used += (size_t)snprintf(line + used, LINE_BYTES - used, isnan(value) ? ",NA" : ",%.9g", value);
    }
    line[used++] = '\n';
    return used;
}

int fv_history_write_csv(fv_net *net, const char *path) {
    fv_context *context = net->object.context;
    const fv_training *t = net->training;
    size_t rows = t ? (size_t)t->count : 0, used = 0;
    char *text = fv_alloc(context, rows + 1, LINE_BYTES, "history.csv");
    if (!text) return context->status;
    used += (size_t)snprintf(text, LINE_BYTES, "epoch");
    for (int i = 0; i < COLUMNS; i++) used += (size_t)snprintf(text + used, LINE_BYTES - used, ",%s", columns[i].name);
    text[used++] = '\n';
    for (size_t i = 0; i < rows; i++) used += write_row(text + used, &t->history[i]);
    int status = fv_file_replace(context, path, text, used);
    fv_free(text);
    return status;
}
