/* progress.c - the bar. On a terminal one line is redrawn, at most ten times a second:
 *   Epoch 3/10   412/1875 ━━━━━━━╸             ETA 4s  loss 0.0713  accuracy 0.9781
 * and replaced by the epoch's result; in a pipe only the results are written, without escape codes. */
#define _GNU_SOURCE
#include "train/progress.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

double fv_clock(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int terminal_width(int descriptor) {
    const char *columns = getenv("COLUMNS");
    struct winsize size;
    int width = columns ? atoi(columns) : !ioctl(descriptor, TIOCGWINSZ, &size) ? size.ws_col : 80;
    return width < 40 ? 40 : width > 160 ? 160 : width;
}

void fv_progress_begin(fv_progress *p, FILE *stream) {
    const char *no_color = getenv("NO_COLOR"), *term = getenv("TERM");
    *p = (fv_progress){ .stream = stream };
    if (!stream) return;
    int descriptor = fileno(stream);
    p->terminal = descriptor >= 0 && isatty(descriptor) && !(term && !strcmp(term, "dumb"));
    p->colour = p->terminal && !(no_color && *no_color);
    if (p->terminal) p->width = terminal_width(descriptor);
}

void fv_progress_epoch_begin(fv_progress *p, const fv_metrics *m) {
    p->epoch_begun = fv_clock();
    p->drawn = 0;
    p->first = m->batch;
}

bool fv_progress_due(fv_progress *p) { return p->stream && p->terminal && fv_clock() - p->drawn >= 0.1; }

static void seconds_text(double seconds, char text[16]) {
    if (seconds < 100) snprintf(text, 16, "%.0fs", seconds);
    else if (seconds < 6000) snprintf(text, 16, "%.0fm%02.0fs", floor(seconds / 60), fmod(seconds, 60));
    else snprintf(text, 16, "%.0fh%02.0fm", floor(seconds / 3600), fmod(seconds / 60, 60));
}

/* " - loss: 0.1234 - accuracy: 0.9" as far as measured; returns the length. */
static int figures(char *text, size_t bytes, const fv_metrics *m) {
    const struct { const char *name; double value; } rows[] = { { "accuracy", m->accuracy }, { "loss", m->loss }, { "val_accuracy", m->val_accuracy }, { "val_loss", m->val_loss } };
    int n = 0;
    for (int i = 0; i < 4 && n < (int)bytes; i++)
        if (!isnan(rows[i].value)) n += snprintf(text + n, bytes - (size_t)n, " - %s: %.4f", rows[i].name, rows[i].value);
    return n;
}

void fv_progress_batch(fv_progress *p, const fv_metrics *m) {
    if (!p->stream || !p->terminal || m->batch < 1) return;
    char eta[16], head[64], tail[160];
    p->drawn = fv_clock();
    int done = m->batch > p->first ? m->batch - p->first : 1;
    seconds_text((p->drawn - p->epoch_begun) / done * (m->batches - m->batch), eta);
    int head_length = snprintf(head, sizeof head, "Epoch %d/%d %d/%d ", m->epoch, m->epochs, m->batch, m->batches);
    int tail_length = snprintf(tail, sizeof tail, " ETA %s", eta);
    tail_length += figures(tail + tail_length, sizeof tail - (size_t)tail_length, m);
    int room = p->width - 1 - head_length - tail_length, bar = room < 0 ? 0 : room > 30 ? 30 : room;
    int full = (int)((double)bar * m->batch / m->batches);
    fprintf(p->stream, "\r%s%s", head, p->colour ? "\033[32m" : "");
    for (int i = 0; i < full; i++) fputs("━", p->stream);
    if (p->colour) fputs("\033[90m", p->stream);
    for (int i = full; i < bar; i++) fputs(p->colour ? "━" : " ", p->stream);
    fprintf(p->stream, "%s%.*s\033[K", p->colour ? "\033[0m" : "", bar ? tail_length : p->width - 1 - head_length > 0 ? p->width - 1 - head_length : 0, tail);
    fflush(p->stream);
    p->shown = true;
}

void fv_progress_epoch_end(fv_progress *p, const fv_metrics *m) {
    if (!p->stream) return;
    char took[16], text[160];
    seconds_text(m->seconds, took);
    figures(text, sizeof text, m);
    fprintf(p->stream, "%sEpoch %d/%d - %s%s - learning_rate: %.3g\n", p->shown ? "\r\033[K" : "", m->epoch, m->epochs, took, text, m->learning_rate);
    fflush(p->stream);
    p->shown = false;
}
