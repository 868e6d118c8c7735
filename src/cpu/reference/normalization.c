/* normalization.c - batch normalisation (Ioffe & Szegedy 2015), whose statistics run over every axis but the last,
 * and local response normalisation across channels (Krizhevsky et al. 2012). An absent gamma is 1, an absent beta 0. */
#include "cpu/reference/reference.h"

static double or_default(const fv_tensor *t, int64_t c, double value) {
    return t->data ? real(t)[c] : value;
}

static void store(const fv_tensor *t, int64_t c, double value) {
    if (t->data) real(t)[c] = (REAL)value;
}

/* mean = sum x / m, variance = sum (x - mean)^2 / m (the biased one), y = gamma (x - mean) / sqrt(variance + epsilon)
 * + beta; running statistics move: new = momentum old + (1 - momentum) batch. */
KERNEL(batch_norm_train) {
    const fv_norm_attributes *a = &task->attributes->norm;
    const fv_tensor *x = &task->input[0], *gamma = &task->input[1], *beta = &task->input[2];
    const fv_tensor *running_mean = &task->input[3], *running_variance = &task->input[4], *y = &task->output[0];
    const int64_t channels = last_dim(x), rows = span(x, 0, x->rank - 1);

    EACH(c, channels) {
        double sum = 0, squares = 0;
        EACH(i, rows) sum += real(x)[i * channels + c];
        const double mean = sum / (double)rows;
        EACH(i, rows) squares += (real(x)[i * channels + c] - mean) * (real(x)[i * channels + c] - mean);
        const double variance = squares / (double)rows, inverse = 1 / sqrt(variance + a->epsilon);
        const double g = or_default(gamma, c, 1), b = or_default(beta, c, 0);

        const double kept = a->momentum, moved = 1 - kept;

        if (y->data)
            EACH(i, rows) real(y)[i * channels + c] = (REAL)(g * (real(x)[i * channels + c] - mean) * inverse + b);
        store(&task->output[1], c, mean);
        store(&task->output[2], c, inverse);
        store(&task->output[3], c, kept * real(running_mean)[c] + moved * mean);
        store(&task->output[4], c, kept * real(running_variance)[c] + moved * variance);
    }
    return FV_OK;
}

/* With x^ = (x - mean) / deviation: dbeta = sum dy, dgamma = sum dy x^,
 * dx = gamma / deviation (dy - dbeta / m - x^ dgamma / m) */
KERNEL(batch_norm_gradient) {
    const fv_tensor *x = &task->input[0], *dy = &task->input[1], *gamma = &task->input[2];
    const fv_tensor *batch_mean = &task->input[3], *inverse_deviation = &task->input[4], *dx = &task->output[0];
    const int64_t channels = last_dim(x), rows = span(x, 0, x->rank - 1);

    EACH(c, channels) {
        const double mean = real(batch_mean)[c], inverse = real(inverse_deviation)[c], g = or_default(gamma, c, 1);
        double dbeta = 0, dgamma = 0;
        EACH(i, rows) {
            dbeta += real(dy)[i * channels + c];
            dgamma += real(dy)[i * channels + c] * (real(x)[i * channels + c] - mean) * inverse;
        }
        if (dx->data)
            EACH(i, rows) {
                const double normal = (real(x)[i * channels + c] - mean) * inverse;
                const double mean_part = (dbeta + normal * dgamma) / (double)rows;
                real(dx)[i * channels + c] = (REAL)(g * inverse * (real(dy)[i * channels + c] - mean_part));
            }
        store(&task->output[1], c, dgamma);
        store(&task->output[2], c, dbeta);
    }
    return FV_OK;
}

/* y = gamma (x - mean) / sqrt(variance + epsilon) + beta */
KERNEL(batch_norm_infer) {
    const fv_tensor *x = &task->input[0], *gamma = &task->input[1], *beta = &task->input[2];
    const fv_tensor *mean = &task->input[3], *variance = &task->input[4], *y = &task->output[0];
    const int64_t channels = last_dim(x), rows = span(x, 0, x->rank - 1);

    EACH(c, channels) {
        const double inverse = 1 / sqrt((double)real(variance)[c] + task->attributes->norm.epsilon);
        const double g = or_default(gamma, c, 1), b = or_default(beta, c, 0), m = real(mean)[c];
        EACH(i, rows) real(y)[i * channels + c] = (REAL)(g * (real(x)[i * channels + c] - m) * inverse + b);
    }
    return FV_OK;
}

/* Mean and variance are constants here: dx = dy gamma / deviation, dgamma = sum dy x^, dbeta = sum dy */
KERNEL(batch_norm_infer_gradient) {
    const fv_tensor *x = &task->input[0], *dy = &task->input[1], *gamma = &task->input[2];
    const fv_tensor *mean = &task->input[3], *variance = &task->input[4], *dx = &task->output[0];
    const int64_t channels = last_dim(dy), rows = span(dy, 0, dy->rank - 1);

    EACH(c, channels) {
        const double inverse = 1 / sqrt((double)real(variance)[c] + task->attributes->norm.epsilon);
        const double g = or_default(gamma, c, 1), m = real(mean)[c];
        double dbeta = 0, dgamma = 0;
        EACH(i, rows) {
            dbeta += real(dy)[i * channels + c];
            dgamma += real(dy)[i * channels + c] * (real(x)[i * channels + c] - m) * inverse;
        }
        if (dx->data) EACH(i, rows) real(dx)[i * channels + c] = (REAL)(real(dy)[i * channels + c] * g * inverse);
        store(&task->output[1], c, dgamma);
        store(&task->output[2], c, dbeta);
    }
    return FV_OK;
}

/* ---- Local response normalisation: channel c looks at channels c - size / 2 .. c + (size - 1) / 2 ---------------- */

/* scale_c = k + alpha sum of x_j^2 over c's window */
static double lrn_scale(const fv_lrn_attributes *a, const REAL *x, int64_t c, int64_t channels) {
    double sum = 0;
    for (int64_t j = c - a->size / 2; j <= c + (a->size - 1) / 2; j++)
        if (inside(j, channels)) sum += (double)x[j] * x[j];
    return a->k + a->alpha * sum;
}

/* y_c = x_c / scale_c^beta */
KERNEL(lrn) {
    const fv_lrn_attributes *a = &task->attributes->lrn;
    const fv_tensor *x = &task->input[0], *y = &task->output[0];
    const int64_t channels = last_dim(x);

    EACH(i, span(x, 0, x->rank - 1)) EACH(c, channels) {
        const REAL *row = real(x) + i * channels;
        real(y)[i * channels + c] = (REAL)(row[c] * pow(lrn_scale(a, row, c, channels), -a->beta));
    }
    return FV_OK;
}

/* dx_c = dy_c / scale_c^beta - 2 alpha beta x_c sum of dy_j y_j / scale_j over the channels j whose windows hold c */
KERNEL(lrn_gradient) {
    const fv_lrn_attributes *a = &task->attributes->lrn;
    const fv_tensor *x = &task->input[0], *y = &task->input[1], *dy = &task->input[2], *dx = &task->output[0];
    const int64_t channels = last_dim(x);

    EACH(i, span(x, 0, x->rank - 1)) EACH(c, channels) {
        const REAL *xs = real(x) + i * channels, *ys = real(y) + i * channels, *dys = real(dy) + i * channels;
        double sum = 0;
        for (int64_t j = c - (a->size - 1) / 2; j <= c + a->size / 2; j++)
            if (inside(j, channels)) sum += (double)dys[j] * ys[j] / lrn_scale(a, xs, j, channels);
        const double direct = dys[c] * pow(lrn_scale(a, xs, c, channels), -a->beta);
        real(dx)[i * channels + c] = (REAL)(direct - 2.0 * a->alpha * a->beta * xs[c] * sum);
    }
    return FV_OK;
}
