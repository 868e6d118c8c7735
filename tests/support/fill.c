/* fill.c - values of operands. A stream of random numbers belongs to the problem's seed and the operand's name, so
 * that x is the same in an operation and in its gradient. */
#include "support/operations.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

static uint64_t hash(const char *text) {
    uint64_t h = 1469598103934665603u;
    while (*text) h = (h ^ (unsigned char)*text++) * 1099511628211u;
    return h;
}

static double draw(const operand *o, fv_random *r) {
    const double u = fv_random_uniform(r);
    switch (o->fill) {
    case FILL_UNIFORM: return 2 * u - 1;
    case FILL_POSITIVE: return 0.5 + 1.5 * u;
    case FILL_APART: return u < 0.5 ? -0.1 - 1.8 * u : 0.1 + 1.8 * (u - 0.5);
    case FILL_STEPS: return floor(9 * u) / 4 - 1;
    case FILL_PROBABILITY: return 0.05 + 0.9 * u;
    case FILL_DISTRIBUTION: return 0.05 + u;
    case FILL_BELOW: return floor(u * (double)o->limit);
    case FILL_INTEGERS: return floor((2 * u - 1) * 0x1p31);
    case FILL_DISTINCT:
    case FILL_GIVEN: break;
    }
    return 0;
}

static void fill_distinct(operand *o, int64_t elements, fv_random *r) {
    for (int64_t i = 0; i < elements; i++) {
        const int64_t j = fv_random_below(r, (uint32_t)i + 1);
        o->value[i] = o->value[j];
        o->value[j] = (2 * (double)i + 1) / (double)elements - 1;
    }
}

/* Words that change what was drawn for x: scale, shift, nan, inf. */
static void disturb_x(const problem *p, operand *o, int64_t elements, fv_random *r) {
    const double scale = number(p, "scale", 0, 1), shift = number(p, "shift", 0, 0);
    for (int64_t i = 0; i < elements; i++) o->value[i] = o->value[i] * scale + shift;
    for (int64_t n = whole(p, "nan", 0, 0); n > 0; n--) o->value[fv_random_below(r, (uint32_t)elements)] = NAN;
    for (int64_t n = whole(p, "inf", 0, 0); n > 0; n--) o->value[fv_random_below(r, (uint32_t)elements)] = INFINITY;
    for (int64_t n = whole(p, "lowest", 0, 0); n > 0; n--) o->value[fv_random_below(r, (uint32_t)elements)] = -INFINITY;
    if (has_word(p, "allnan")) for (int64_t i = 0; i < elements; i++) o->value[i] = NAN;
    if (has_word(p, "alllowest")) for (int64_t i = 0; i < elements; i++) o->value[i] = -INFINITY;
}

/* Class and sample numbers that there are not. */
static void disturb_numbers(operand *o, int64_t elements, fv_random *r) {
    static const double bad[] = { -1, 0, INT32_MIN, INT32_MAX };
    for (int k = 0; k < 4 && k < elements; k++)
        o->value[fv_random_below(r, (uint32_t)elements)] = k == 1 ? (double)o->limit : bad[k];
}

void fill_operand(problem *p, operand *o) {
    if (o->absent || o->value) return;
    const int64_t elements = fv_shape_elements(&o->shape);
    fv_random r = fv_random_make(p->seed, hash(o->name));
    o->value = calloc((size_t)elements + 1, sizeof *o->value);

    if (o->fill == FILL_DISTINCT) fill_distinct(o, elements, &r);
    else for (int64_t i = 0; i < elements; i++) o->value[i] = draw(o, &r);
    if (o->fill == FILL_DISTRIBUTION) {
        const int64_t classes = o->shape.dim[o->shape.rank - 1];
        for (int64_t row = 0; row < elements / classes; row++) {
            double sum = 0;
            for (int64_t j = 0; j < classes; j++) sum += o->value[row * classes + j];
            for (int64_t j = 0; j < classes; j++) o->value[row * classes + j] /= sum;
        }
    }
    if (!strcmp(o->name, "x") && o->type == FV_F32) disturb_x(p, o, elements, &r);
    if (o->type == FV_I32 && o->fill == FILL_BELOW && has_word(p, "bad")) disturb_numbers(o, elements, &r);
    if (o->type == FV_F32)
        for (int64_t i = 0; i < elements; i++) o->value[i] = (float)o->value[i];
}
