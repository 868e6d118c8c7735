/* initializer.c - initial weights by Keras's formulas. Those that look at the fans have variance scale / fan:
 * uniform within +-sqrt(3 scale / fan), or normal, cut at two deviations and stretched so that the variance stays. */
#include "net/net.h"
#include <math.h>

/* Deviation of a normal distribution of deviation 1 whose tails beyond 2 are drawn again. */
static const double truncated_deviation = 0.87962566103423978;

enum { FAN_IN, FAN_MEAN };
static const struct { double scale; int fan; bool normal; } scaling[FV_INITIALIZER_COUNT] = {
    [FV_INITIALIZER_GLOROT_UNIFORM] = { 1, FAN_MEAN, false }, [FV_INITIALIZER_GLOROT_NORMAL] = { 1, FAN_MEAN, true },
    [FV_INITIALIZER_HE_UNIFORM] = { 2, FAN_IN, false },       [FV_INITIALIZER_HE_NORMAL] = { 2, FAN_IN, true },
    [FV_INITIALIZER_LECUN_UNIFORM] = { 1, FAN_IN, false },    [FV_INITIALIZER_LECUN_NORMAL] = { 1, FAN_IN, true },
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

const char *fv_initializer_check(const fv_initializer *initializer) {
    if (initializer->kind == FV_INITIALIZER_DEFAULT || initializer->kind >= FV_INITIALIZER_COUNT)
        return "there is no such initializer";
    for (int i = 0; i < 3; i++)
        if (!isfinite(initializer->value[i])) return "its numbers must be finite";
    if (initializer->kind == FV_INITIALIZER_UNIFORM && initializer->value[0] > initializer->value[1])
        return "low is above high";
    if (initializer->kind == FV_INITIALIZER_NORMAL && initializer->value[1] < 0) return "the deviation is negative";
    return NULL;
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

void fv_initializer_fill(const fv_initializer *initializer, int64_t fan_in, int64_t fan_out, fv_random *random,
                         float *out, int64_t count) {
    const float *value = initializer->value;
    switch (initializer->kind) {
    case FV_INITIALIZER_ZEROS: fill(out, count, 0.0f); return;
    case FV_INITIALIZER_ONES: fill(out, count, 1.0f); return;
    case FV_INITIALIZER_CONSTANT: fill(out, count, value[0]); return;
    case FV_INITIALIZER_UNIFORM: fill_uniform(random, out, count, value[0], value[1]); return;
    case FV_INITIALIZER_NORMAL: fill_normal(random, out, count, value[0], value[1], INFINITY); return;
    default: break;
    }
    double fan = scaling[initializer->kind].fan == FAN_IN ? (double)fan_in : ((double)fan_in + (double)fan_out) / 2;
    double variance = scaling[initializer->kind].scale / fmax(1, fan);
    if (scaling[initializer->kind].normal)
        fill_normal(random, out, count, 0, sqrt(variance) / truncated_deviation, 2);
    else
        fill_uniform(random, out, count, -sqrt(3 * variance), sqrt(3 * variance));
}
