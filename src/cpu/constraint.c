/* constraint.c - weights scaled to norms within bounds, or held at zero. A weight is seen as an alternation of axes that
 * the norm is taken over and axes that it is not: neighbours of one sort are one axis. Vectors run along the last axis,
 * which is a part of each norm or a row of norms. */
#include "cpu/cpu.h"
#include "cpu/simd.h"
#include <math.h>

typedef struct weight {
    float *w;
    int rank;
    int64_t dim[FV_RANK], step[FV_RANK];
    bool summed[FV_RANK];
    int64_t lines, rows; /* of one norm; norms, or rows of norms */
    double least, most, rate;
} weight;

static weight weight_of(const fv_task *task) {
    const fv_constrain_attributes *a = &task->attributes->constrain;
    weight x = { .w = (float *)task->output[0].data + a->offset, .lines = 1, .rows = 1, .least = a->least, .most = a->most,
                 .rate = a->rate };
    for (int i = 0; i < a->rank; i++) {
        const bool summed = a->axes >> i & 1;
        if (a->dim[i] == 1 && i + 1 < a->rank) continue;
        if (x.rank && x.summed[x.rank - 1] == summed) {
            x.dim[x.rank - 1] *= a->dim[i];
        } else {
            x.dim[x.rank] = a->dim[i];
            x.summed[x.rank++] = summed;
        }
    }
    x.step[x.rank - 1] = 1;
    for (int i = x.rank - 2; i >= 0; i--) {
        x.step[i] = x.step[i + 1] * x.dim[i + 1];
        if (x.summed[i]) x.lines *= x.dim[i];
        else x.rows *= x.dim[i];
    }
    return x;
}
/* The start of number `number` along the axes of one sort, without the last axis. */
static int64_t place(const weight *x, bool summed, int64_t number) {
    int64_t at = 0;
    for (int i = x->rank - 2; i >= 0; i--)
        if (x->summed[i] == summed) {
            at += number % x->dim[i] * x->step[i];
            number /= x->dim[i];
        }
    return at;
}
/* What a weight of this squared length is multiplied with (Keras's formula). */
static float factor_of(const weight *x, double squares) {
    const double norm = sqrt(squares), held = norm < x->least ? x->least : norm > x->most ? x->most : norm;
    return (float)((x->rate * held + (1 - x->rate) * norm) / (1e-7 + norm));
}
static void one_norm(const weight *x, float *w) {
    const int64_t n = x->dim[x->rank - 1];
    vd sum = { { 0 }, { 0 } };
    for (int64_t line = 0; line < x->lines; line++)
        for (int64_t at = place(x, true, line), i = 0; i < n; i += LANES) {
            vd v = widen(load_up_to(w + at + i, n - i));
            sum = add_double(sum, multiply_double(v, v));
        }
    const float factor = factor_of(x, sum_lanes_double(sum));
    for (int64_t line = 0; line < x->lines; line++)
        for (int64_t at = place(x, true, line), i = 0; i < n; i += LANES)
            store_up_to(w + at + i, load_up_to(w + at + i, n - i) * factor, n - i);
}
static void row_of_norms(const weight *x, float *w) {
    const int64_t n = x->dim[x->rank - 1];
    for (int64_t i = 0; i < n; i += LANES) {
        vd sum = { { 0 }, { 0 } };
        double squares[LANES];
        float factor[LANES];
        for (int64_t line = 0; line < x->lines; line++) {
            vd v = widen(load_up_to(w + place(x, true, line) + i, n - i));
            sum = add_double(sum, multiply_double(v, v));
        }
        store_double(squares, sum);
        for (int lane = 0; lane < LANES; lane++) factor[lane] = factor_of(x, squares[lane]);
        for (int64_t line = 0; line < x->lines; line++) {
            float *v = w + place(x, true, line) + i;
            store_up_to(v, load_up_to(v, n - i) * load(factor), n - i);
        }
    }
}
static void constrain_rows(const void *argument, int64_t begin, int64_t end, int thread) {
    const weight *x = argument;
    (void)thread;
    for (int64_t row = begin; row < end; row++) {
        float *w = x->w + place(x, false, row);
        if (x->summed[x->rank - 1]) one_norm(x, w);
        else row_of_norms(x, w);
    }
}
static void hold_at_zero(const void *argument, int64_t begin, int64_t end, int thread) {
    float *w = ((const weight *)argument)->w;
    (void)thread;
    for (int64_t i = begin; i < end; i += LANES) {
        vf v = load_up_to(w + i, end - i);
        store_up_to(w + i, choose(v < 0.0f, (vf){ 0 }, v), end - i);
    }
}
static int constrain_run(fv_device *device, const fv_task *task) {
    if (((const fv_control *)task->input[0].data)->nonfinite) return FV_OK;
    const weight x = weight_of(task);
    const int64_t last = x.dim[x.rank - 1], each = x.lines * last;
    if (task->attributes->constrain.kind == FV_CONSTRAINT_NON_NEG)
        fv_parallel(device, x.rows * each, 16384, hold_at_zero, &x);
    else
        fv_parallel(device, x.rows, 16384 / (each + 1) + 1, constrain_rows, &x);
    return FV_OK;
}
const fv_cpu_kernel KERNEL(constrain) = { { .run = constrain_run }, NULL };
