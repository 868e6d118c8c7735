/* cumsum.c - running sums along an axis, in double as the specification has them: vectors run along the axes behind it,
 * and along the last axis a line is one chain. */
#include "cpu/cpu.h"
#include "cpu/simd.h"

static void cumsum_strips(const void *argument, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const fv_task *task = argument;
    const fv_cumsum_attributes *a = &task->attributes->cumsum;
    const fv_tensor *t = &task->input[0];
    int64_t n = t->dim[a->axis], inner = 1;
    for (int i = a->axis + 1; i < t->rank; i++) inner *= t->dim[i];
    int64_t strips = div_up(inner, LANES), step = a->reverse ? -inner : inner;
    for (int64_t u = begin; u < end; u++) {
        int64_t column = u % strips * LANES, lanes = inner - column;
        int64_t at = u / strips * n * inner + column + (a->reverse ? (n - 1) * inner : 0);
        const float *x = (const float *)task->input[0].data + at;
        float *y = (float *)task->output[0].data + at;
        if (inner == 1) {
            double sum = 0;
            for (int64_t i = 0; i < n; i++, x += step, y += step) {
                double before = sum;
                sum += *x;
                *y = (float)(a->exclusive ? before : sum);
            }
            continue;
        }
        vd sum = splat_double(0);
        for (int64_t i = 0; i < n; i++, x += step, y += step) {
            vd before = sum;
            sum = add_double(sum, widen(load_up_to(x, lanes)));
            store_up_to(y, narrow(a->exclusive ? before : sum), lanes);
        }
    }
}
static int cumsum_run(fv_device *device, const fv_task *task) {
    const fv_tensor *x = &task->input[0];
    int64_t outer = 1, inner = 1, axis = task->attributes->cumsum.axis;
    for (int i = 0; i < axis; i++) outer *= x->dim[i];
    for (int i = (int)axis + 1; i < x->rank; i++) inner *= x->dim[i];
    fv_parallel(device, outer * div_up(inner, LANES), 4096 / (x->dim[axis] * least(inner, LANES)) + 1, cumsum_strips, task);
    return FV_OK;
}
const fv_cpu_kernel KERNEL(cumsum) = { { .run = cumsum_run }, NULL };
