/* batch.c - the gathering of batches, normalisation of pixels. */
#include "support/operations.h"
#include <math.h>

static void add_samples(problem *p, int64_t rows, int64_t samples) {
    add_input(p, "samples", FV_I32, FILL_BELOW, SHAPE(rows))->limit = samples;
}

/* batch_samples samples20 size6 rows6 batch2 - gather_batch x10,4 rows5
 * bytes bad */
static int build_batch(fv_context *context, problem *p) {
    fv_attributes *a = &p->attributes;
    (void)context;
    if (is(p, "batch_samples")) {
        a->batch = (fv_batch_attributes){ .size = whole(p, "size", 0, 4), .rows = whole(p, "rows", 0, 4) };
        add_samples(p, whole(p, "samples", 0, 8), whole(p, "samples", 0, 8));
        add_control(p);
    } else if (is(p, "gather_batch")) {
        const fv_shape x = shape_word(p, "x", 0);
        choose_type(p, add_input(p, "x", FV_F32, FILL_UNIFORM, x));
        add_samples(p, whole(p, "rows", 0, 4), x.dim[0]);
    }
    return 0;
}

static void magnitude_normalize(const problem *p, double *const *output, double *const *magnitude) {
    const fv_normalize_attributes *a = &p->attributes.normalize;
    const double *x = values(p, "x");
    (void)output;
    for (int64_t i = 0; i < elements_of(&p->output[0]); i++) {
        const int64_t channel = i % channels_of(&p->output[0]), c = channel < 3 ? channel : 3;
        magnitude[0][i] = (fabs(x[i] * a->scale) + fabs((double)a->mean[c])) / fabs((double)a->deviation[c]);
    }
}

/* normalize x2,3,3,1 bytes by (the scale) mean0.1,0.2 deviation */
static int build_normalize(fv_context *context, problem *p) {
    fv_normalize_attributes *a = &p->attributes.normalize;
    a->scale = (float)number(p, "by", 0, has_word(p, "bytes") ? 1 / 255.0 : 1);
    for (int c = 0; c < 4; c++) a->mean[c] = (float)number(p, "mean", c, 0);
    for (int c = 0; c < 4; c++) a->deviation[c] = (float)number(p, "deviation", c, 1);
    return build_unary(context, p);
}

RULE(batch_samples, .build = build_batch, .bound = BOUND_EXACT,
     .rows = { ROWS("samples2 size1 rows1 batch1", "samples3 size2 rows2", "samples10 size10 rows10 batch1",
                    "samples31 size8 rows8 batch1", "samples31 size8 rows7 batch3", "samples128 size64 rows64 batch1",
                    "samples16 size5 rows5 batch2", "samples1000 size100 rows100 batch9", "samples5 size5 rows5 epoch3",
                    "samples33 size33 rows33", "samples20 size6 rows6 batch2", "samples20 size6 rows2 batch3",
                    "samples1 size1 rows1", "samples100 size32 rows32", "samples7 size7 rows7",
                    "samples64 size16 rows16 batch3", "samples50 size20 rows10 batch2", "samples7 size4 rows4 batch1",
                    "samples9 size4 rows4 batch1000", "samples9 size2 rows1 batch4",
                    "samples60000 size128 rows128 batch3 large") });

RULE(gather_batch, .build = build_batch, .bound = BOUND_EXACT,
     .rows = { ROWS("x1 rows1", "x2,1 rows3", "x5,15 rows4", "x5,16 rows4", "x5,17 rows4 bytes", "x3,63 rows2 bytes",
                    "x3,65 rows2 bytes", "x4,2,2 rows9 ints", "x7,1,1,3 rows7", "x10,4,3 rows5", "x10 rows5",
                    "x1,1 rows1", "x10,4,3 rows5 bytes", "x20,5 rows33 ints", "x6,28,28,1 rows4 bytes",
                    "x10,3 rows8 bad", "x10,7 rows8 bad bytes", "x10 rows20 ints bad", "x3,2,2,2,2,2 rows4",
                    "x100,28,28,1 rows128 bytes large", "x50,1000 rows70 large") });

RULE(normalize, .build = build_normalize, .bound = BOUND_OWN, .magnitude = magnitude_normalize, .differentiable = 1,
     .rows = { ROWS("x1", "x2,1 bytes", "x5,2 mean1,2", "x5,3 bytes mean0.1", "x5,4 deviation2,3,4,5",
                    "x4,5 bytes mean0.1,0.2,0.3,0.4", "x1,17", "x3,16 bytes", "x2,3,2,3,2 by0.5", "x65 bytes",
                    "x64,1 bytes mean0.13 deviation0.31", "x2,3,3,1 bytes",
                    "x2,3,3,3 bytes mean0.49,0.48,0.45 deviation0.25,0.24,0.26", "x4,5", "x6",
                    "x3,2,2,6 mean0.5,-1 deviation0.5,2,-1,3", "x4,7 mean0.1,0.2,0.3,0.4", "x10 bytes by1",
                    "x3,4 by2 mean1 deviation0.5", "x33,2 bytes deviation-0.5,2",
                    "x2,28,28,1 bytes mean0.1307 deviation0.3081",
                    "x64,32,32,3 bytes mean0.49,0.48,0.45 deviation0.25,0.24,0.26 large") });
