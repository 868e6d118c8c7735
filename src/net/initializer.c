/* initializer.c - initial weights by Keras's formulas. Those that look at the fans have variance scale / fan: uniform within
 * +-sqrt(3 scale / fan), or normal, or normal cut at two deviations and stretched so that the variance stays. */
#include "net/net.h"
#include <math.h>

/* Deviation of a normal distribution of deviation 1 whose tails beyond 2 are drawn again. */
static const double truncated_deviation = 0.87962566103423978;

typedef struct scaling { float scale; fv_fan fan; fv_distribution distribution; } scaling;
static const scaling scalings[FV_INITIALIZER_COUNT] = {
    [FV_INITIALIZER_GLOROT_UNIFORM] = { 1, FV_FAN_AVERAGE, FV_UNIFORM },
    [FV_INITIALIZER_GLOROT_NORMAL] = { 1, FV_FAN_AVERAGE, FV_TRUNCATED_NORMAL },
    [FV_INITIALIZER_HE_UNIFORM] = { 2, FV_FAN_IN, FV_UNIFORM },
    [FV_INITIALIZER_HE_NORMAL] = { 2, FV_FAN_IN, FV_TRUNCATED_NORMAL },
    [FV_INITIALIZER_LECUN_UNIFORM] = { 1, FV_FAN_IN, FV_UNIFORM },
    [FV_INITIALIZER_LECUN_NORMAL] = { 1, FV_FAN_IN, FV_TRUNCATED_NORMAL },
};

fv_initializer fv_zeros(void) { return (fv_initializer){ .kind = FV_INITIALIZER_ZEROS }; }
fv_initializer fv_ones(void) { return (fv_initializer){ .kind = FV_INITIALIZER_ONES }; }
fv_initializer fv_constant(float value) { return (fv_initializer){ FV_INITIALIZER_CONSTANT, { value } }; }
fv_initializer fv_uniform(float low, float high) { return (fv_initializer){ FV_INITIALIZER_UNIFORM, { low, high } }; }
fv_initializer fv_normal(float mean, float deviation) {
    return (fv_initializer){ FV_INITIALIZER_NORMAL, { mean, deviation } };
}
fv_initializer fv_glorot_uniform(void) { return (fv_initializer){ .kind = FV_INITIALIZER_GLOROT_UNIFORM }; }
fv_initializer fv_glorot_normal(void) { return (fv_initializer){ .kind = FV_INITIALIZER_GLOROT_NORMAL }; }
fv_initializer fv_he_uniform(void) { return (fv_initializer){ .kind = FV_INITIALIZER_HE_UNIFORM }; }
fv_initializer fv_he_normal(void) { return (fv_initializer){ .kind = FV_INITIALIZER_HE_NORMAL }; }
fv_initializer fv_lecun_uniform(void) { return (fv_initializer){ .kind = FV_INITIALIZER_LECUN_UNIFORM }; }
fv_initializer fv_lecun_normal(void) { return (fv_initializer){ .kind = FV_INITIALIZER_LECUN_NORMAL }; }

fv_initializer fv_truncated_normal(float mean, float deviation) {
    return (fv_initializer){ FV_INITIALIZER_TRUNCATED_NORMAL, { mean, deviation } };
}
fv_initializer fv_variance_scaling(float scale, fv_fan fan, fv_distribution distribution) {
    return (fv_initializer){ FV_INITIALIZER_VARIANCE_SCALING, { scale, (float)fan, (float)distribution } };
}
fv_initializer fv_orthogonal(float gain) { return (fv_initializer){ FV_INITIALIZER_ORTHOGONAL, { gain } }; }
fv_initializer fv_identity(float gain) { return (fv_initializer){ FV_INITIALIZER_IDENTITY, { gain } }; }
fv_initializer fv_dirac(int32_t groups) {
    return (fv_initializer){ FV_INITIALIZER_DIRAC, { groups ? (float)groups : 1.0f } };
}

static bool is_one_of(float value, int count) { return value >= 0 && value < (float)count && value == floorf(value); }

const char *fv_initializer_check(const fv_initializer *initializer, fv_weight_role role, const fv_shape *shape) {
    const float *value = initializer->value;
    if (initializer->kind == FV_INITIALIZER_DEFAULT || initializer->kind >= FV_INITIALIZER_COUNT)
        return "there is no such initializer";
    for (int i = 0; i < 3; i++)
        if (!isfinite(value[i])) return "its numbers must be finite";
    switch (initializer->kind) {
    case FV_INITIALIZER_UNIFORM: return value[0] > value[1] ? "low is above high" : NULL;
    case FV_INITIALIZER_NORMAL:
    case FV_INITIALIZER_TRUNCATED_NORMAL: return value[1] < 0 ? "the deviation is negative" : NULL;
    case FV_INITIALIZER_VARIANCE_SCALING:
        if (!(value[0] > 0)) return "the scale must be above zero";
        return is_one_of(value[1], 3) && is_one_of(value[2], 3) ? NULL : "there is no such fan or distribution";
    case FV_INITIALIZER_ORTHOGONAL: return role == FV_WEIGHT_VECTOR ? "only a kernel can be orthogonal" : NULL;
    case FV_INITIALIZER_IDENTITY: return role != FV_WEIGHT_DENSE_KERNEL ? "only a dense kernel can be the identity" : NULL;
    case FV_INITIALIZER_DIRAC:
        if (role != FV_WEIGHT_CONV_KERNEL && role != FV_WEIGHT_DEPTHWISE_KERNEL)
            return "only the kernel of a convolution can be Dirac's";
        return value[0] >= 1 && is_one_of(value[0], INT32_MAX) && shape->dim[0] % (int64_t)value[0] == 0
                   ? NULL
                   : "its groups must divide the filters";
    default: return NULL;
    }
}

static void fill(float *out, int64_t count, float value) {
    for (int64_t i = 0; i < count; i++) out[i] = value;
}

static void fill_uniform(fv_random *random, float *out, int64_t count, double low, double high) {
    for (int64_t i = 0; i < count; i++) out[i] = (float)(low + (high - low) * fv_random_uniform(random));
}

static void fill_normal(fv_random *random, float *out, int64_t count, double mean, double deviation, double cut) {
    for (int64_t i = 0; i < count; i++) {
        double z;
        do z = fv_random_normal(random);
        while (fabs(z) > cut);
        out[i] = (float)(mean + deviation * z);
    }
}

static void fill_scaled(const scaling *s, const fv_weight *weight, fv_random *random, float *out, int64_t count) {
    double in = (double)weight->fan_in, out_fan = (double)weight->fan_out;
    double fan = s->fan == FV_FAN_IN ? in : s->fan == FV_FAN_OUT ? out_fan : (in + out_fan) / 2;
    double deviation = sqrt(s->scale / fmax(1, fan));
    switch (s->distribution) {
    case FV_UNIFORM: fill_uniform(random, out, count, -sqrt(3) * deviation, sqrt(3) * deviation); break;
    case FV_TRUNCATED_NORMAL: fill_normal(random, out, count, 0, deviation / truncated_deviation, 2); break;
    case FV_UNTRUNCATED_NORMAL: fill_normal(random, out, count, 0, deviation, INFINITY); break;
    }
}

/* ---- Matrices ---------------------------------------------------------------------------------------------------- */

static double dot(const double *a, const double *b, int64_t n) {
    double sum[4] = { 0 };
    for (int64_t i = 0; i < n; i++) sum[i % 4] += a[i] * b[i];
    return sum[0] + sum[1] + (sum[2] + sum[3]);
}

/* Row `row` loses what the rows before it have of it; its length. */
static double reduce_row(double *rows, int64_t row, int64_t n) {
    double *own = rows + row * n;
    for (int64_t k = 0; k < row; k++) {
        const double *other = rows + k * n, part = dot(own, other, n);
        for (int64_t i = 0; i < n; i++) own[i] -= part * other[i];
    }
    return sqrt(dot(own, own, n));
}

/* Gram and Schmidt's way to the Q whose R has a positive diagonal, and once more where much was lost. */
static void orthonormalize(double *rows, int64_t count, int64_t n) {
    for (int64_t row = 0; row < count; row++) {
        double *own = rows + row * n, before = sqrt(dot(own, own, n)), after = reduce_row(rows, row, n);
        if (after < 0.5 * before) after = reduce_row(rows, row, n);
        for (int64_t i = 0; i < n; i++) own[i] /= after;
    }
}

/* The kernel as a matrix [all else, last] in Keras's order, its fewer rows or columns orthonormal. */
static int fill_orthogonal(fv_context *context, const fv_weight *weight, fv_random *random, float *out) {
    fv_shape keras;
    int64_t columns = keras.dim[fv_net_weight_keras_shape(weight, &keras) - 1];
    int64_t elements = fv_shape_elements(&weight->shape), rows = elements / columns;
    int64_t count = rows < columns ? rows : columns, n = rows < columns ? columns : rows;
    double *vector = fv_alloc(context, (size_t)elements, sizeof *vector, "an orthogonal matrix");
    float *matrix = fv_alloc(context, (size_t)elements, sizeof *matrix, "an orthogonal matrix");
    if (vector && matrix) {
        for (int64_t i = 0; i < elements; i++) vector[i] = fv_random_normal(random);
        orthonormalize(vector, count, n);
        for (int64_t r = 0; r < rows; r++)
            for (int64_t c = 0; c < columns; c++)
                matrix[r * columns + c] =
                    (float)(weight->initializer.value[0] * vector[rows < columns ? r * n + c : c * n + r]);
        fv_weight_permute(weight, false, matrix, out);
    }
    fv_free(vector);
    fv_free(matrix);
    return vector && matrix ? FV_OK : FV_ERROR_MEMORY;
}

static void fill_identity(const fv_weight *weight, float *out) {
    const int64_t *d = weight->shape.dim;
    fill(out, d[0] * d[1], 0);
    for (int64_t i = 0; i < d[0] && i < d[1]; i++) out[i * d[1] + i] = weight->initializer.value[0];
}

/* Filter i of each group passes channel i on: one in the middle of the kernel. */
static void fill_dirac(const fv_weight *weight, float *out) {
    const int64_t *d = weight->shape.dim; /* filters, rows, columns, channels of a group */
    int64_t groups = (int64_t)weight->initializer.value[0], filters = d[0] / groups;
    fill(out, fv_shape_elements(&weight->shape), 0);
    for (int64_t g = 0; g < groups; g++)
        for (int64_t i = 0; i < filters && i < d[3]; i++)
            out[(((g * filters + i) * d[1] + d[1] / 2) * d[2] + d[2] / 2) * d[3] + i] = 1;
}

int fv_initializer_fill(fv_context *context, const fv_weight *weight, fv_random *random, float *out) {
    const fv_initializer *initializer = &weight->initializer;
    const float *value = initializer->value;
    int64_t count = fv_shape_elements(&weight->shape);
    switch (initializer->kind) {
    case FV_INITIALIZER_ZEROS: fill(out, count, 0.0f); break;
    case FV_INITIALIZER_ONES: fill(out, count, 1.0f); break;
    case FV_INITIALIZER_CONSTANT: fill(out, count, value[0]); break;
    case FV_INITIALIZER_UNIFORM: fill_uniform(random, out, count, value[0], value[1]); break;
    case FV_INITIALIZER_NORMAL: fill_normal(random, out, count, value[0], value[1], INFINITY); break;
    case FV_INITIALIZER_TRUNCATED_NORMAL: fill_normal(random, out, count, value[0], value[1], 2); break;
    case FV_INITIALIZER_ORTHOGONAL: return fill_orthogonal(context, weight, random, out);
    case FV_INITIALIZER_IDENTITY: fill_identity(weight, out); break;
    case FV_INITIALIZER_DIRAC: fill_dirac(weight, out); break;
    case FV_INITIALIZER_VARIANCE_SCALING:
        fill_scaled(&(scaling){ value[0], (fv_fan)value[1], (fv_distribution)value[2] }, weight, random, out, count);
        break;
    default: fill_scaled(&scalings[initializer->kind], weight, random, out, count);
    }
    return FV_OK;
}
