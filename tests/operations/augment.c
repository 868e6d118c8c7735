/* augment.c - augmentation of a batch: geometry, colours, erased boxes, mixtures. */
#include "support/operations.h"
#include <math.h>

static void pair_of(const problem *p, const char *name, double first, double second, float out[2]) {
    out[0] = (float)number(p, name, 0, first);
    out[1] = (float)(has_word(p, name) ? number(p, name, 1, 0) : second);
}

static void add_batch(problem *p, int64_t rows) {
    add_input(p, "samples", FV_I32, FILL_BELOW, SHAPE(rows))->limit = 1 << 20;
    add_control(p);
}

/* all: n h w c bytes ints epoch seed - flip vertical - pad_crop crop fill - warp rotation shear shift zoom scale ratio fill border nearest - color_jitter strength
 * grey - erase probability scale ratio size fill - mix mixup cutmix probability - mix_targets classes dense height width */
static int build_augment(fv_context *context, problem *p) {
    fv_attributes *a = &p->attributes;
    const fv_shape x = SHAPE(whole(p, "n", 0, 1), whole(p, "h", 0, 1), whole(p, "w", 0, 1), whole(p, "c", 0, 1));
    (void)context;
    if (is(p, "flip") || is(p, "pad_crop")) {
        a->random = (fv_random_attributes){ .rate = (float)number(p, "fill", 0, 0), .crop = (int32_t)whole(p, "crop", 0, 0),
                                            .vertical = has_word(p, "vertical") };
        if (is(p, "pad_crop") && !has_word(p, "crop")) a->random.crop = 1;
    } else if (is(p, "warp")) {
        a->warp = (fv_warp_attributes){ .rotation = (float)number(p, "rotation", 0, 0), .fill = (float)number(p, "fill", 0, 0),
                                        .border = (int32_t)whole(p, "border", 0, 0), .nearest = has_word(p, "nearest") };
        pair_of(p, "shear", 0, 0, a->warp.shear);
        pair_of(p, "shift", 0, 0, a->warp.shift);
        pair_of(p, "zoom", 0, 0, a->warp.zoom);
        pair_of(p, "scale", 0, 0, a->warp.scale);
        pair_of(p, "ratio", 0.75, 4.0 / 3, a->warp.ratio);
    } else if (is(p, "color_jitter")) {
        for (int i = 0; i < 4; i++) a->color.strength[i] = (float)number(p, "strength", i, 0);
        a->color.grey = (float)number(p, "grey", 0, 0);
        a->color.limit = has_word(p, "bytes") ? 255 : 1;
    } else if (is(p, "erase")) {
        a->erase = (fv_erase_attributes){ .probability = (float)number(p, "probability", 0, 1),
                                          .fill = (float)number(p, "fill", 0, 0), .size = (int32_t)whole(p, "size", 0, 0) };
        pair_of(p, "scale", 0.02, 0.33, a->erase.scale);
        pair_of(p, "ratio", 0.3, 3.3, a->erase.ratio);
    } else {
        a->mix = (fv_mix_attributes){ .mixup = (float)number(p, "mixup", 0, 0), .cutmix = (float)number(p, "cutmix", 0, 0),
                                      .probability = (float)number(p, "probability", 0, 1) };
    }
    if (is(p, "mix_targets")) {
        a->mix.height = (int32_t)whole(p, "h", 0, 8), a->mix.width = (int32_t)whole(p, "w", 0, 8);
        a->mix.classes = (int32_t)whole(p, "classes", 0, 10);
        if (has_word(p, "dense")) a->mix.classes = 0;
        if (has_word(p, "dense")) add_input(p, "x", FV_F32, FILL_DISTRIBUTION, SHAPE(x.dim[0], whole(p, "classes", 0, 10)));
        else add_input(p, "labels", FV_I32, FILL_BELOW, SHAPE(x.dim[0]))->limit = whole(p, "classes", 0, 10);
    } else {
        choose_type(p, add_input(p, "x", FV_F32, is(p, "color_jitter") ? FILL_PROBABILITY : FILL_UNIFORM, x));
    }
    add_batch(p, x.dim[0]);
    return 0;
}

/* Where all weights are positive and sum to one, the largest input bounds the result. Colours reach their limit, and each
 * factor above 1 enlarges what was rounded before it. */
static void magnitude_blend(const problem *p, double *const *output, double *const *magnitude) {
    const double *x = values(p, "x");
    double most = x ? largest(x, elements_of(&p->input[0])) : 1;
    if (is(p, "color_jitter")) most = 8 * (double)p->attributes.color.limit;
    for (int i = 0; is(p, "color_jitter") && i < 3; i++) most *= 1 + (double)p->attributes.color.strength[i];
    (void)output;
    for (int64_t i = 0; i < elements_of(&p->output[0]); i++) magnitude[0][i] = most;
}

static void random_augment(fv_op op, drawing *d) {
    say(d, " n%d h%d w%d c%d%s epoch%d seed%d,%d", between(d, 1, 5), between(d, 1, 20), between(d, 1, 20),
        op == FV_OP_color_jitter ? 1 + 2 * below(d, 2) : between(d, 1, 5),
        op != FV_OP_mix && op != FV_OP_mix_targets && chance(d, 2) ? " bytes" : "", below(d, 9), below(d, 99), below(d, 99));
    if (op == FV_OP_warp) {
        if (chance(d, 2)) say(d, " rotation%d shear%d,%d", below(d, 180), below(d, 30), below(d, 30));
        if (chance(d, 2)) say(d, " scale0.%d,1", between(d, 1, 9));
        if (chance(d, 2)) say(d, " zoom0.%d,1.%d shift0.%d,0.%d", between(d, 3, 9), below(d, 9), below(d, 9), below(d, 9));
        say(d, " border%d%s fill%d", below(d, 3), chance(d, 3) ? " nearest" : "", below(d, 3));
    } else if (op == FV_OP_color_jitter) {
        say(d, " strength0.%d,0.%d,0.%d,0.%d grey0.%d", below(d, 9), below(d, 9), below(d, 9), below(d, 5), below(d, 9));
    } else if (op == FV_OP_erase) {
        if (chance(d, 2)) say(d, " size%d", between(d, 1, 9));
    } else {
        if (chance(d, 2)) say(d, " mixup0.%d", between(d, 1, 9));
        if (chance(d, 2)) say(d, " cutmix%d", between(d, 1, 3));
    }
}

/* Each operation takes the words that it knows. */
static const char *const pictures[] = {
    "n128 h32 w32 c3 bytes rotation15 scale0.5,1 strength0.4,0.4,0.4,0.1 size16 crop4 cutmix1",
    "n16 h224 w224 c3 bytes scale0.5,1 strength0.4,0.4,0.4,0.1 size16 crop4 cutmix1",
    "n16 h224 w224 c3 rotation15 strength0.4,0.4,0,0 size16 crop4 mixup1", NULL
};

#define AUGMENT(NAME, BOUND, ...)                                                                                      \
    RULE(NAME, .build = build_augment, .bound = BOUND, .magnitude = magnitude_blend, .random = random_augment,         \
         .performance = pictures, .rows = { ROWS(__VA_ARGS__) })

RULE(flip, .build = build_augment, .bound = BOUND_EXACT,
     .rows = { ROWS("n1 h1 w2 c1", "n2 h1 w7 c1", "n1 h7 w1 c3", "n5 h4 w4 c3 epoch1", "n3 h2 w3 c16",
                    "n3 h2 w3 c17 bytes", "n2 h5 w9 c33", "n7 h6 w6 c1 bytes seed1,2", "n4 h3 w5 c2 epoch1000",
                    "n10 h10 w10 c1 ints", "n2 h17 w15 c4 bytes", "n33 h2 w2 c2", "n6 h4 w5 c2", "n6 h3 w8 c3 bytes",
                    "n1 h1 w1 c1", "n9 h2 w1 c3", "n16 h2 w6 c1 epoch3", "n16 h5 w7 c4 epoch4 bytes",
                    "n4 h3 w3 c5 ints", "n8 h8 w8 c3 seed5,6", "n64 h32 w32 c3 bytes large", "n6 h4 w5 c2 vertical", "n9 h3 w2 c3 bytes vertical",
                    "n2 h1 w1 c1 vertical", "n7 h6 w5 c17 ints vertical epoch2") });

RULE(pad_crop, .build = build_augment, .bound = BOUND_EXACT,
     .rows = { ROWS("n1 h1 w2 c1 crop1", "n2 h1 w7 c1 crop1", "n1 h7 w1 c3 crop1", "n5 h4 w4 c3 epoch1 crop1",
                    "n3 h2 w3 c16 crop1", "n3 h2 w3 c17 bytes crop1", "n2 h5 w9 c33 crop1",
                    "n7 h6 w6 c1 bytes seed1,2 crop1", "n4 h3 w5 c2 epoch1000 crop1", "n10 h10 w10 c1 ints crop1",
                    "n2 h17 w15 c4 bytes crop1", "n33 h2 w2 c2 crop1", "n6 h5 w6 c2 crop1", "n6 h5 w6 c3 crop2 bytes",
                    "n3 h1 w1 c1 crop3", "n4 h4 w4 c1 crop0", "n16 h8 w7 c3 crop4 epoch5 bytes", "n5 h3 w4 c2 crop9",
                    "n4 h3 w3 c5 crop1 ints", "n8 h8 w8 c3 crop2 seed5,6", "n64 h32 w32 c3 crop4 bytes large", "n4 h4 w5 c3 crop2 bytes fill9", "n4 h4 w5 c1 crop9 ints fill-1",
                    "n4 h4 w5 c3 crop3 fill0.5") });

AUGMENT(warp, BOUND_OWN, "n3 h6 w7 c3", "n4 h8 w8 c3 rotation30", "n4 h8 w8 c3 rotation180 bytes", "n3 h5 w9 c1 shear20,10",
        "n3 h9 w5 c2 shift0.3,0.5 fill0.5", "n3 h8 w8 c3 zoom0.5,2 bytes", "n4 h12 w10 c3 scale0.08,1 bytes",
        "n4 h12 w10 c3 scale0.08,1", "n3 h7 w13 c3 scale0.3,0.5 ratio0.5,2 rotation10", "n2 h1 w1 c1 rotation90",
        "n2 h1 w9 c4 scale0.1,1 ratio0.5,0.6", "n2 h9 w1 c3 scale0.5,1 ratio3,4", "n4 h8 w6 c1 ints nearest rotation45 fill255",
        "n4 h8 w6 c1 bytes nearest rotation45 fill255 border0", "n4 h8 w6 c3 nearest zoom0.3,3",
        "n3 h8 w8 c3 rotation45 border1", "n3 h8 w8 c3 rotation45 border2 bytes", "n2 h3 w3 c5 zoom0.05,0.1 border2",
        "n3 h3 w4 c3 shift1,1 border2", "n3 h16 w15 c17 rotation15 zoom0.9,1.1 shear5,5 shift0.1,0.1",
        "n5 h6 w6 c3 bytes rotation20 fill127 epoch7 seed3,4", "n3 h6 w7 c3 bytes nearest", "n3 h6 w7 c3 nearest nan2",
        "n48 h32 w32 c3 bytes rotation20 scale0.2,1 large");

AUGMENT(color_jitter, BOUND_OWN, "n3 h4 w5 c3", "n3 h4 w5 c3 bytes", "n4 h6 w6 c3 strength0.4,0,0,0",
        "n4 h6 w6 c3 strength0,0.4,0,0", "n4 h6 w6 c3 strength0,0,0.4,0", "n4 h6 w6 c3 strength0,0,0,0.5",
        "n8 h5 w7 c3 strength0.4,0.4,0.4,0.1", "n8 h5 w7 c3 strength0.4,0.4,0.4,0.1 bytes grey0.5",
        "n8 h5 w7 c3 strength2,3,4,0.5", "n3 h1 w1 c3 strength0.5,0.5,0.5,0.5", "n3 h1 w1 c1 strength0.5,0.5,0.5,0.5",
        "n4 h6 w6 c1 strength0.5,0.5 bytes", "n4 h3 w3 c3 grey1", "n4 h3 w3 c3 grey0.5 bytes epoch3",
        "n3 h4 w4 c3 strength0.9,0.9,0.9,0.5 seed9,2", "n3 h1 w17 c3 strength0.3,0.3,0.3,0.3", "n2 h17 w15 c3 strength0.3,0.3",
        "n3 h4 w4 c3 strength0,0,0,0.2 scale0 shift0.5", "n3 h4 w4 c3 strength0,1,0,0 scale0 shift1",
        "n5 h2 w3 c3 strength0.1,0,0,0.02 bytes epoch12", "n40 h32 w32 c3 strength0.4,0.4,0.4,0.1 bytes large");

AUGMENT(erase, BOUND_EXACT, "n4 h8 w8 c3", "n4 h8 w8 c3 bytes fill7", "n4 h8 w8 c3 probability0", "n8 h8 w8 c1 probability0.5",
        "n4 h5 w9 c2 size3", "n4 h5 w9 c3 size20 fill0.25", "n4 h5 w9 c3 size1 bytes fill300", "n4 h7 w7 c1 size4 ints fill255",
        "n2 h1 w1 c1", "n2 h1 w1 c1 size1", "n3 h1 w12 c3 ratio0.1,10", "n3 h12 w1 c3 scale0.1,0.9", "n5 h6 w6 c17 scale0.9,1",
        "n5 h6 w6 c3 scale0.1,0.1 ratio1,1", "n3 h8 w8 c3 size7 epoch4 seed1,2", "n3 h8 w8 c3 bytes fill-3 size5",
        "n3 h6 w6 c3 nan3 size4", "n4 h10 w4 c3 ints", "n6 h9 w9 c3 epoch2", "n2 h33 w31 c1 size16",
        "n64 h32 w32 c3 size16 large");

AUGMENT(mix, BOUND_OWN, "n4 h5 w6 c3 mixup1", "n4 h5 w6 c3 mixup0.2", "n4 h5 w6 c3 cutmix1", "n4 h5 w6 c3 bytes cutmix1",
        "n4 h5 w6 c3 ints cutmix1", "n6 h4 w4 c3 mixup0.8 cutmix1", "n6 h4 w4 c3 mixup0.8 cutmix1 probability0.5",
        "n4 h4 w4 c3", "n4 h4 w4 c3 mixup1 probability0", "n1 h4 w4 c3 mixup1", "n1 h4 w4 c3 cutmix1 bytes", "n2 h1 w1 c1 mixup1",
        "n2 h1 w1 c1 cutmix1", "n3 h1 w17 c3 mixup0.1", "n3 h17 w1 c3 cutmix0.5", "n5 h6 w6 c5 mixup10", "n5 h6 w6 c5 mixup100",
        "n5 h6 w6 c2 cutmix10 epoch3", "n7 h3 w3 c3 mixup0.4 seed4,5", "n8 h9 w11 c3 mixup1 cutmix0.3 epoch9 seed2,1",
        "n48 h32 w32 c3 mixup1 cutmix1 large");

AUGMENT(mix_targets, BOUND_OWN, "n4 mixup1", "n4 cutmix1", "n4 cutmix1 h5 w6", "n6 mixup0.8 cutmix1", "n4 dense mixup1",
        "n4 dense cutmix1 h3 w9", "n1 mixup1", "n1 dense cutmix1", "n2 classes1 mixup1", "n3 classes17 mixup0.2",
        "n5 classes100 cutmix0.5", "n8 classes3 mixup0.3 bad", "n4", "n4 probability0 mixup1", "n9 dense classes33 mixup0.4",
        "n7 classes2 mixup5 epoch2", "n6 mixup0.8 cutmix1 probability0.5 seed3,3", "n3 h1 w1 cutmix1", "n3 h100 w80 cutmix1",
        "n5 classes16 mixup0.1 cutmix0.1", "n600 classes100 mixup0.2 large");
