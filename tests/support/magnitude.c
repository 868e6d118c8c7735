/* magnitude.c - what the magnitudes of several families share. A magnitude is a sum of absolute values: what an element
 * would be if nothing in its formula cancelled. */
#include "support/operations.h"
#include <math.h>
#include <string.h>

int64_t elements_of(const operand *o) { return fv_shape_elements(&o->shape); }
int64_t channels_of(const operand *o) { return o->shape.rank ? o->shape.dim[o->shape.rank - 1] : 1; }

const double *values(const problem *p, const char *name) {
    for (int i = 0; i < p->input_count; i++)
        if (!strcmp(p->input[i].name, name)) return p->input[i].absent ? NULL : p->input[i].value;
    return NULL;
}

double largest(const double *value, int64_t count) {
    double max = 0;
    for (int64_t i = 0; i < count; i++)
        if (isfinite(value[i]) && fabs(value[i]) > max) max = fabs(value[i]);
    return max;
}

/* Where nothing cancels: sums of what is not negative, products. */
void magnitude_output(const problem *p, double *const *output, double *const *magnitude) {
    for (int o = 0; o < p->output_count; o++)
        for (int64_t i = 0; magnitude[o] && i < elements_of(&p->output[o]); i++) magnitude[o][i] = fabs(output[o][i]);
}
