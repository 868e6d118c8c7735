/* noise.c - dropout, alpha dropout, Gaussian noise and Gaussian dropout. Random numbers come from Philox4x32-10 under
 * the key control.seed; the counters below are part of the specification: every backend draws the same bits. */
#include "core/control.h"
#include "cpu/reference/reference.h"

/* Four elements share one counter: (element / 4, stream, step). word[element % 4] is the element's own. */
static void draw(const fv_task *task, int64_t element, uint32_t word[4]) {
    const fv_control *control = task->input[1].data;
    const uint64_t quad = (uint64_t)element / 4;
    const uint32_t counter[4] = { (uint32_t)quad, task->attributes->random.stream, (uint32_t)control->step,
                                  (uint32_t)(quad >> 32) ^ (uint32_t)(control->step >> 32) };
    fv_philox(counter, control->seed, word);
}

/* An element is kept where a number uniform in [0, 1) is at least the rate. */
static bool kept(const fv_task *task, int64_t element) {
    uint32_t word[4];
    draw(task, element, word);
    return (word[element % 4] >> 8) * 0x1p-24 >= task->attributes->random.rate;
}

/* Normal with mean 0 and deviation 1, by Box and Muller: two words make two of them. u is uniform in (0, 1]. */
static double normal(const fv_task *task, int64_t element) {
    uint32_t word[4];
    draw(task, element, word);
    const uint32_t *pair = word + element % 4 / 2 * 2;
    const double u = ((pair[0] >> 8) + 1) * 0x1p-24, angle = 2 * M_PI * ((pair[1] >> 8) * 0x1p-24);
    return sqrt(-2 * log(u)) * (element % 2 ? sin(angle) : cos(angle));
}

/* y = x / (1 - rate) where the element is kept, else 0 */
KERNEL(dropout) {
    const fv_tensor *x = &task->input[0], *y = &task->output[0];
    EACH(i, fv_elements(y)) real(y)[i] = kept(task, i) ? (REAL)(real(x)[i] / (1 - (double)task->attributes->random.rate)) : 0;
    return FV_OK;
}

/* Klambauer et al. 2017: what is dropped becomes a' = -1.7581, the value that SELU tends to; then y = a x + b brings mean
 * and variance back: a = 1 / sqrt((1 - rate) (1 + rate a'^2)), b = -a a' rate. */
static const double dropped = -1.6732632423543772848170429916717 * 1.0507009873554804934193349852946;
static double alpha_scale(const fv_task *task) {
    const double rate = task->attributes->random.rate;
    return 1 / sqrt((1 - rate) * (1 + rate * dropped * dropped));
}
KERNEL(alpha_dropout) {
    const fv_tensor *x = &task->input[0], *y = &task->output[0];
    const double a = alpha_scale(task), b = -a * dropped * task->attributes->random.rate;
    EACH(i, fv_elements(y)) real(y)[i] = (REAL)(a * (kept(task, i) ? real(x)[i] : dropped) + b);
    return FV_OK;
}
KERNEL(alpha_dropout_gradient) {
    const fv_tensor *dy = &task->input[0], *dx = &task->output[0];
    EACH(i, fv_elements(dx)) real(dx)[i] = kept(task, i) ? (REAL)(alpha_scale(task) * real(dy)[i]) : 0;
    return FV_OK;
}

/* y = x + deviation z, z normal */
KERNEL(gaussian_noise) {
    const fv_tensor *x = &task->input[0], *y = &task->output[0];
    EACH(i, fv_elements(y)) real(y)[i] = (REAL)(real(x)[i] + task->attributes->random.rate * normal(task, i));
    return FV_OK;
}

/* Srivastava et al. 2014, 10: y = x (1 + z sqrt(rate / (1 - rate))) */
KERNEL(gaussian_dropout) {
    const fv_tensor *x = &task->input[0], *y = &task->output[0];
    const double rate = task->attributes->random.rate, deviation = sqrt(rate / (1 - rate));
    EACH(i, fv_elements(y)) real(y)[i] = (REAL)(real(x)[i] * (1 + deviation * normal(task, i)));
    return FV_OK;
}
