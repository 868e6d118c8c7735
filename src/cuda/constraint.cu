/* constraint.cu - weights scaled to norms within bounds, or held at zero: a block takes a norm. Formulas as in
 * src/cpu/reference/optimizer.c. */
#include "cuda/update.h"

/* Where number `number` begins, counted along the axes whose bit in axes is `bit`. */
static __device__ __forceinline__ int64_t place(const fv_constrain_attributes &a, unsigned bit, int64_t number) {
    int64_t at = 0, stride = 1;
    for (int i = a.rank - 1; i >= 0; stride *= a.dim[i--])
        if ((a.axes >> i & 1) == bit) {
            at += number % a.dim[i] * stride;
            number /= a.dim[i];
        }
    return at;
}

__global__ void constrain_norms(const fv_control *control, float *weight, fv_constrain_attributes a, int64_t norms, int64_t each) {
    if (control->nonfinite) return; /* all threads alike */
    for (int64_t n = blockIdx.x; n < norms; n += gridDim.x) {
        float *w = weight + place(a, 0, n);
        double squares = 0;
        for (int64_t i = threadIdx.x; i < each; i += blockDim.x) {
            const double v = w[place(a, 1, i)];
            squares += v * v;
        }
        const double norm = sqrt(block_sum(squares)), held = norm < a.least ? a.least : norm > a.most ? a.most : norm;
        const float factor = (float)((a.rate * held + (1 - (double)a.rate) * norm) / (1e-7 + norm));
        for (int64_t i = threadIdx.x; i < each; i += blockDim.x) w[place(a, 1, i)] *= factor;
    }
}

__global__ void hold_at_zero(const fv_control *control, float *w, int64_t count) {
    if (control->nonfinite) return;
    GRID_STRIDE(i, count) if (w[i] < 0) w[i] = 0;
}

static int run_constrain(fv_device *device, const fv_task *task) {
    const fv_constrain_attributes *a = &task->attributes->constrain;
    const fv_control *control = static_cast<const fv_control *>(task->input[0].data);
    float *w = static_cast<float *>(task->output[0].data) + a->offset;
    int64_t norms = 1, each = 1;
    for (int i = 0; i < a->rank; i++) (a->axes >> i & 1 ? each : norms) *= a->dim[i];
    if (a->kind == FV_CONSTRAINT_NON_NEG)
        LAUNCH(hold_at_zero, blocks_for(device, norms * each), BLOCK, 0, device->stream, control, w, norms * each);
    else
        LAUNCH(constrain_norms, (unsigned)(norms < 65535 ? norms : 65535), BLOCK, 0, device->stream, control, w, *a, norms, each);
    return fv_cuda_launched(device, task);
}
RUN(constrain)
