/* curves.c - curves.svg: loss above, accuracy below, training and validation over the epochs, the best epoch marked. Plain SVG text; the
 * numbers are those of history.csv. */
#include "io/io.h"
#include "train/train.h"
#include <math.h>
#include <stdarg.h>

enum { WIDTH = 720, HEIGHT = 560, LEFT = 64, RIGHT = 150, TOP = 44, PANEL = 200, GAP = 60 };
static const char TRAIN_COLOUR[] = "#0072b2", VALIDATION_COLOUR[] = "#d55e00"; /* Okabe and Ito's: told apart by all eyes */

/* A text that grows; the first failure sticks. */
typedef struct text { fv_context *context; char *data; size_t length, capacity; bool failed; } text;

static void put(text *t, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void put(text *t, const char *format, ...) {
    va_list list;
    va_start(list, format);
    char line[256];
    int n = vsnprintf(line, sizeof line, format, list);
    va_end(list);
    if (t->failed || n < 0 || n >= (int)sizeof line) return;
    if (t->length + (size_t)n + 1 > t->capacity) {
        size_t capacity = t->capacity * 2 + 4096;
        char *data = fv_grow(t->context, t->data, t->length, capacity, 1, "curves.svg");
        if (!data) {
            t->failed = true;
            return;
        }
        t->data = data;
        t->capacity = capacity;
    }
    for (int i = 0; i < n; i++) t->data[t->length++] = line[i];
}

/* One panel: which two columns, its name, where it lies, its range. */
typedef struct panel { const char *name; size_t train, validation; double y, low, high, step; } panel;

static double column(const fv_metrics *m, size_t offset) { return *(const double *)((const char *)m + offset); }

/* A round step (1, 2 or 5 times a power of ten) that gives about `wanted` intervals. */
static double round_step(double range, int wanted) {
    double raw = range / wanted, power = pow(10, floor(log10(raw))), part = raw / power;
    return power * (part < 1.5 ? 1 : part < 3.5 ? 2 : part < 7.5 ? 5 : 10);
}

static bool fit_range(panel *p, const fv_training *t) {
    double low = INFINITY, high = -INFINITY;
    for (int i = 0; i < t->count; i++) {
        const double values[] = { column(&t->history[i], p->train), column(&t->history[i], p->validation) };
        for (int k = 0; k < 2; k++)
            if (isfinite(values[k])) low = fmin(low, values[k]), high = fmax(high, values[k]);
    }
    if (low > high) return false;
    if (high - low < 1e-9 * fmax(1, fabs(high))) low -= 0.05 * fmax(1e-3, fabs(low)), high += 0.05 * fmax(1e-3, fabs(high));
    p->step = round_step(high - low, 5);
    p->low = floor(low / p->step) * p->step;
    p->high = ceil(high / p->step) * p->step;
    return true;
}

static double x_of(const fv_training *t, int epoch) {
    int last = t->count > 1 ? t->count - 1 : 1;
    return LEFT + (double)(WIDTH - LEFT - RIGHT) * (t->count > 1 ? epoch : 0.5) / last;
}
static double y_of(const panel *p, double value) { return p->y + PANEL * (p->high - value) / (p->high - p->low); }

static void draw_line(text *out, const panel *p, const fv_training *t, size_t offset, const char *colour) {
    bool open = false;
    put(out, "<path fill=\"none\" stroke=\"%s\" stroke-width=\"2\" stroke-linejoin=\"round\" d=\"", colour);
    for (int i = 0; i < t->count; i++) {
        double value = column(&t->history[i], offset);
        if (!isfinite(value)) {
            open = false;
            continue;
        }
        put(out, "%s%.1f %.1f", open ? " L" : " M", x_of(t, i), y_of(p, value));
        open = true;
    }
    put(out, "\"/>\n");
    for (int i = 0; i < t->count && t->count <= 30; i++) {
        double value = column(&t->history[i], offset);
        if (isfinite(value)) put(out, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"3\" fill=\"%s\"/>\n", x_of(t, i), y_of(p, value), colour);
    }
}

static void draw_axes(text *out, const panel *p, const fv_training *t) {
    for (int i = 0; p->low + i * p->step <= p->high + 0.5 * p->step; i++) {
        double value = p->low + i * p->step, y = y_of(p, value);
        put(out, "<line x1=\"%d\" y1=\"%.1f\" x2=\"%d\" y2=\"%.1f\" stroke=\"#ddd\"/>\n", LEFT, y, WIDTH - RIGHT, y);
        put(out, "<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%.4g</text>\n", LEFT - 8, y + 4, fabs(value) < 1e-9 * p->step ? 0.0 : value);
    }
    int step = (int)fmax(1, round_step(fmax(1, t->count - 1), 8));
    for (int i = 0; i < t->count; i += step)
        put(out, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">%d</text>\n", x_of(t, i), p->y + PANEL + 18, t->history[i].epoch);
    put(out, "<text x=\"%d\" y=\"%.1f\" font-weight=\"bold\">%s</text>\n", LEFT, p->y - 10, p->name);
    put(out, "<text x=\"%d\" y=\"%.1f\" text-anchor=\"middle\" fill=\"#666\">epoch</text>\n", (LEFT + WIDTH - RIGHT) / 2, p->y + PANEL + 34);
}

/* The last values as a legend beside the panel, and the best epoch as a dashed line. */
static void draw_notes(text *out, const panel *p, const fv_training *t) {
    const struct { const char *name, *colour; size_t offset; } rows[] = { { "training", TRAIN_COLOUR, p->train }, { "validation", VALIDATION_COLOUR, p->validation } };
    double y = p->y + 12;
    for (int k = 0; k < 2; k++) {
        double value = column(&t->history[t->count - 1], rows[k].offset);
        if (!isfinite(value)) continue;
        put(out, "<line x1=\"%d\" y1=\"%.1f\" x2=\"%d\" y2=\"%.1f\" stroke=\"%s\" stroke-width=\"2\"/>\n", WIDTH - RIGHT + 14, y - 4, WIDTH - RIGHT + 34, y - 4, rows[k].colour);
        put(out, "<text x=\"%d\" y=\"%.1f\">%s %.4g</text>\n", WIDTH - RIGHT + 40, y, rows[k].name, value);
        y += 20;
    }
    if (t->best < 0 || t->best >= t->count || t->count < 2) return;
    double x = x_of(t, t->best);
    put(out, "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" stroke=\"#999\" stroke-dasharray=\"4 3\"/>\n", x, p->y, x, p->y + PANEL);
    put(out, "<text x=\"%d\" y=\"%.1f\" fill=\"#666\">best epoch %d</text>\n", WIDTH - RIGHT + 14, y + 4, t->history[t->best].epoch);
}

int fv_curves_write_svg(fv_net *net, const char *path) {
    const fv_training *t = net->training;
    fv_context *context = net->object.context;
    if (!t || !t->count) return FV_OK;
    text out = { .context = context };
    panel panels[] = { { .name = "loss", .train = offsetof(fv_metrics, loss), .validation = offsetof(fv_metrics, val_loss) },
                       { .name = "accuracy", .train = offsetof(fv_metrics, accuracy), .validation = offsetof(fv_metrics, val_accuracy) } };
    put(&out, "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" viewBox=\"0 0 %d %d\" "
              "font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%%\" height=\"100%%\" fill=\"white\"/>\n", WIDTH, HEIGHT, WIDTH, HEIGHT);
    double y = TOP;
    for (size_t k = 0; k < sizeof panels / sizeof *panels; k++) {
        panel *p = &panels[k];
        if (!fit_range(p, t)) continue;
        p->y = y;
        draw_axes(&out, p, t);
        draw_notes(&out, p, t);
        draw_line(&out, p, t, p->train, TRAIN_COLOUR);
        draw_line(&out, p, t, p->validation, VALIDATION_COLOUR);
        y += PANEL + GAP;
    }
    put(&out, "</svg>\n");
    int status = out.failed ? (int)context->status : fv_file_replace(context, path, out.data, out.length);
    fv_free(out.data);
    return status;
}
