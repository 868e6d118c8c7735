/* batch.c - operations that choose the samples of a batch and make numbers of its pixels. */
#include "ops/family.h"
#include <math.h>

static int check_samples(fv_signature *s, int32_t input, const char *name, const char *form) {
    FV_TRY(fv_check_type(s, input, name, FV_I32));
    return fv_check_rank(s, input, name, 1, form);
}

static int infer_batch_samples(fv_signature *s) {
    const fv_batch_attributes *a = &s->attributes->batch;
    FV_TRY(check_samples(s, 0, "order", "[samples]"));
    FV_TRY(fv_check_control(s, 1));
    if (a->rows < 1 || a->rows > a->size)
        return fv_op_fail(s, FV_ERROR_ARGUMENT, "%lld rows are not part of a batch of %lld", (long long)a->rows,
                          (long long)a->size);
    if (a->rows > s->input[0]->dim[0])
        return fv_op_fail(s, FV_ERROR_SHAPE, "a batch of %lld rows is more than the order %s holds", (long long)a->rows,
                          FV_TEXT(s->input[0]));
    return fv_set_output(s, 0, FV_I32, 1, &a->rows);
}

static int infer_gather_batch(fv_signature *s) {
    FV_TRY(fv_check_rank_least(s, 0, "data", 1));
    FV_TRY(check_samples(s, 1, "sample numbers", "[rows]"));
    fv_shape y = *s->input[0];
    y.dim[0] = s->input[1]->dim[0];
    return fv_set_output_like(s, 0, s->input_type[0], &y);
}

static int infer_normalize(fv_signature *s) {
    const fv_normalize_attributes *a = &s->attributes->normalize;
    if (s->input_type[0] != FV_U8 && s->input_type[0] != FV_F32)
        return fv_op_fail(s, FV_ERROR_ARGUMENT, "the input %s must be u8 or f32, not %s", FV_TEXT(s->input[0]),
                          fv_type_name(s->input_type[0]));
    bool usable = isfinite(a->scale);
    for (int c = 0; c < 4; c++)
        usable = usable && isfinite(a->mean[c]) && isfinite(a->deviation[c]) && a->deviation[c] != 0;
    if (!usable)
        return fv_op_fail(s, FV_ERROR_ARGUMENT, "scale, means and deviations must be finite, and no deviation zero");
    return fv_set_output_like(s, 0, FV_F32, s->input[0]);
}

/* Without the mean it is its own gradient. */
FV_GRADIENT(normalize_gradient) {
    if (!wanted[0]) return FV_OK;
    fv_attributes a = fv_attributes_of(tape, operation);
    for (int c = 0; c < 4; c++) a.normalize.mean[c] = 0;
    input_gradient[0] = FV_APPLY(tape, FV_OP_normalize, &a, output_gradient[0]);
    return fv_tape_status(tape);
}

static void cost_normalize(const fv_signature *s, fv_cost *cost) {
    *cost = (fv_cost){ .flops = 3 * fv_cost_elements(&s->output[0]), .bytes = fv_cost_bytes(s) };
}

FV_DESC(batch_samples, batch, .infer = infer_batch_samples, .cost = fv_cost_moved);
FV_DESC(gather_batch, none, .infer = infer_gather_batch, .cost = fv_cost_moved);
FV_DESC(normalize, normalize, .infer = infer_normalize, .gradient = normalize_gradient, .cost = cost_normalize);
