/* ops.h - operations as data: the enum made from ops.def, their attributes, and what each means (fv_op_desc).
 * Backends include this for the attributes; only src/ops, the tape and the program use the descriptions. */
#ifndef FV_OPS_H
#define FV_OPS_H
#include "fovea.h"

enum { FV_FUSED = 1, FV_ALIAS = 2, FV_SAME_SHAPE = 4, FV_WRITES = 8 };

typedef enum fv_op {
    FV_OP_NONE,
#define FV_OP(name, least, most, outputs, flags, ...) FV_OP_##name,
#include "ops.def"
#undef FV_OP
    FV_OP_COUNT
} fv_op;

/* ---- Attributes: plain data, hashed and compared as bytes (so: always start from zeroed memory) ------------------ */
typedef struct fv_conv_attributes {   /* conv2d and its gradients, conv2d_bias_activation */
    int32_t stride[2], dilation[2];   /* y, x */
    int32_t pad[4];                   /* top, bottom, left, right; may exceed the kernel */
    int32_t groups;
    int32_t flip;                     /* true convolution: kernel read from its end */
    int32_t activation; float alpha;  /* fv_activation and its parameter, fused form only */
    int64_t shape[4];                 /* gradients: shape of the result (x or w) */
} fv_conv_attributes;
typedef struct fv_local_attributes {  /* local_conv2d and its gradients */
    int32_t stride[2], dilation[2], pad[4];
    int32_t kernel[2];                /* the weight gradient's; infer completes it for the others */
    int64_t shape[4];                 /* data gradient: shape of the result */
} fv_local_attributes;
typedef struct fv_matmul_attributes { int32_t transpose_a, transpose_b; } fv_matmul_attributes;
typedef struct fv_dense_attributes { int32_t activation; float alpha; } fv_dense_attributes;
typedef struct fv_pool_attributes {
    int32_t kernel[2], stride[2], pad[4];
    int32_t ceil_mode, exclude_padding;
    int32_t output[2];                /* set: adaptive windows, floor(p in / out) .. ceil((p + 1) in / out) - 1, and none of the above */
    int32_t flat;                     /* the index counts row * width + column of the image, i32, and not of the window */
    int64_t shape[4];                 /* gradients: shape of x */
} fv_pool_attributes;
typedef struct fv_norm_attributes { float epsilon, momentum; int32_t activation; float alpha; } fv_norm_attributes; /* momentum: part kept */
typedef struct fv_activation_attributes { float alpha; } fv_activation_attributes;            /* leaky_relu: slope below 0; elu: alpha */
typedef struct fv_clamp_attributes { float low, high; } fv_clamp_attributes;
typedef struct fv_lrn_attributes { int32_t size; float alpha, beta, k; } fv_lrn_attributes;
/* layer, rms and unit norm: over so many of the last axes (0: one); group norm: so many groups of channels */
typedef struct fv_sample_norm_attributes { float epsilon; int32_t axes, groups; } fv_sample_norm_attributes;
typedef struct fv_axis_attributes { int32_t axis; } fv_axis_attributes;                        /* softmax, concat; >= 0 */
typedef struct fv_affine_attributes { float a, b; } fv_affine_attributes;
typedef struct fv_cast_attributes { int32_t type; } fv_cast_attributes;
typedef struct fv_shape_attributes { int32_t rank; int64_t dim[FV_RANK]; } fv_shape_attributes;   /* reshape, broadcast */
typedef struct fv_slice_attributes { int64_t begin[FV_RANK], size[FV_RANK]; } fv_slice_attributes;
typedef struct fv_strided_attributes { int64_t begin[FV_RANK], size[FV_RANK], step[FV_RANK]; } fv_strided_attributes;
typedef struct fv_transpose_attributes { int32_t axes[FV_RANK]; /* axes[i] == i past the rank */ } fv_transpose_attributes;
typedef struct fv_gather_attributes { int32_t axis, batch; int64_t size; } fv_gather_attributes; /* size: of that axis (scatter_add), classes (one_hot) */
typedef struct fv_pad_attributes { int64_t before[FV_RANK], after[FV_RANK]; int32_t mode; float value; } fv_pad_attributes; /* fv_pad_mode */
typedef struct fv_resize_attributes {
    int32_t interpolation, corners;   /* FV_NEAREST, FV_BILINEAR; fv_corners */
    int64_t output[2];                /* height, width */
    int64_t shape[4];                 /* gradient: shape of x */
} fv_resize_attributes;
typedef struct fv_reduce_attributes { uint32_t axes; /* bit i: axis i */ int32_t keep_dims, correction; /* variance */ } fv_reduce_attributes;
typedef struct fv_cumsum_attributes { int32_t axis, exclusive, reverse; } fv_cumsum_attributes;
/* Losses over classes: gamma focuses on rows that are not known yet; margin, squared: multi_margin; label: the one to ignore. */
typedef struct fv_loss_attributes { float smoothing, gamma, margin; int32_t squared, ignore, label; } fv_loss_attributes;
/* Pointwise losses; of huber, binary_cross_entropy_logits, sigmoid_focal (alpha 0: none), binary_accuracy. */
typedef struct fv_pointwise_attributes { float delta, weight, alpha, gamma, threshold; } fv_pointwise_attributes;
typedef struct fv_top_k_attributes { int32_t k, ignore, label; } fv_top_k_attributes;
/* Optimisers: value[] as fv_optimizer has it (order: enum below). clip_* 0: none. */
typedef struct fv_update_attributes { uint32_t kind; float value[15]; float clip_value, clip_norm; } fv_update_attributes;
/* One weight within the parameters; norms over axes (bit i: axis i). */
enum { FV_CONSTRAINT_MAX_NORM = 1, FV_CONSTRAINT_NON_NEG, FV_CONSTRAINT_UNIT_NORM, FV_CONSTRAINT_MIN_MAX_NORM, FV_CONSTRAINT_COUNT };
typedef struct fv_constrain_attributes {
    uint32_t kind, axes;
    float least, most, rate;
    int32_t rank;
    int64_t offset, dim[FV_RANK];
} fv_constrain_attributes;
typedef struct fv_random_attributes { float rate; uint32_t stream; int32_t crop, vertical; } fv_random_attributes; /* dropout, .., gaussian_noise (rate: deviation), flip, pad_crop */
/* Augmentation. rotation and shear in degrees (y, x), shift in parts of height and width: drawn from -limit .. limit. zoom,
 * scale (part of the area) and ratio (width / height): low, high; zoom and scale 0, 0: none. */
typedef struct fv_warp_attributes {
    float rotation, shear[2], shift[2], zoom[2], scale[2], ratio[2], fill;
    int32_t border /* fv_border */, nearest;
} fv_warp_attributes;
typedef struct fv_color_attributes { float strength[4] /* brightness, contrast, saturation, hue */, grey /* probability */, limit; } fv_color_attributes;
typedef struct fv_erase_attributes { float probability, scale[2], ratio[2], fill; int32_t size; /* of a square; 0: scale and ratio */ } fv_erase_attributes;
typedef struct fv_mix_attributes { float mixup, cutmix /* alpha; 0: not used */, probability; int32_t height, width, classes; /* mix_targets */ } fv_mix_attributes;
typedef struct fv_batch_attributes { int64_t size, rows; } fv_batch_attributes;                /* batch_samples: size of a full batch, rows of this one */
typedef struct fv_advance_attributes { int32_t batch_only; } fv_advance_attributes;
typedef struct fv_normalize_attributes { float scale, mean[4], deviation[4]; } fv_normalize_attributes; /* channel c uses entry min(c, 3) */

typedef union fv_attributes {
    fv_conv_attributes conv;
    fv_local_attributes local;
    fv_dense_attributes dense;
    fv_matmul_attributes matmul;
    fv_pool_attributes pool;
    fv_norm_attributes norm;
    fv_activation_attributes activation;
    fv_clamp_attributes clamp;
    fv_lrn_attributes lrn;
    fv_sample_norm_attributes sample_norm;
    fv_axis_attributes axis;
    fv_affine_attributes affine;
    fv_cast_attributes cast;
    fv_shape_attributes shape;
    fv_slice_attributes slice;
    fv_strided_attributes strided;
    fv_transpose_attributes transpose;
    fv_gather_attributes gather;
    fv_pad_attributes pad;
    fv_resize_attributes resize;
    fv_reduce_attributes reduce;
    fv_cumsum_attributes cumsum;
    fv_loss_attributes loss;
    fv_pointwise_attributes pointwise;
    fv_top_k_attributes top_k;
    fv_update_attributes update;
    fv_constrain_attributes constrain;
    fv_random_attributes random;
    fv_warp_attributes warp;
    fv_color_attributes color;
    fv_erase_attributes erase;
    fv_mix_attributes mix;
    fv_batch_attributes batch;
    fv_advance_attributes advance;
    fv_normalize_attributes normalize;
} fv_attributes;

/* What fv_optimizer.value holds. Kinds are saved in files: never renumber. */
enum {
    FV_OPTIMIZER_SGD = 1, FV_OPTIMIZER_ADAM = 2, FV_OPTIMIZER_ADAMW = 3, FV_OPTIMIZER_RMSPROP = 4, FV_OPTIMIZER_ADAGRAD = 5,
    FV_OPTIMIZER_ADADELTA = 6, FV_OPTIMIZER_LION = 7, FV_OPTIMIZER_LAMB = 8, FV_OPTIMIZER_LARS = 9, FV_OPTIMIZER_MUON = 10,
    FV_OPTIMIZER_COUNT
};
enum {
    FV_RATE = 0, FV_DECAY = 1, FV_DECOUPLED = 2, FV_MOMENTUM = 3, FV_NESTEROV = 4, FV_BETA1 = 3, FV_BETA2 = 4, FV_EPSILON = 5,
    FV_AMSGRAD = 6,                                  /* Adam, AdamW */
    FV_RHO = 4, FV_CENTERED = 6,                     /* RMSprop; rho Adadelta too */
    FV_RATE_DECAY = 6, FV_INITIAL = 7,               /* Adagrad */
    FV_TRUST = 6,                                    /* LARS */
    FV_ADAM_RATIO = 6, FV_MUON_MOMENTUM = 7, FV_MUON_PLAIN = 8, FV_MUON_STEPS = 9 /* Muon; plain: without look-ahead */
};
/* An optimiser as data: what messages, infer, recording and files ask of it. */
typedef struct fv_optimizer_setting { const char *name; int32_t index; double below; /* value is within 0 .. below */ } fv_optimizer_setting;
typedef struct fv_optimizer_kind { const char *name; fv_op update; fv_optimizer_setting setting[8]; } fv_optimizer_kind;
extern const fv_optimizer_kind fv_optimizer_kinds[FV_OPTIMIZER_COUNT];
/* Bit i: slot i is needed by an optimiser with these values. */
uint32_t fv_optimizer_slots(uint32_t kind, const float *value);

/* ---- Activations ------------------------------------------------------------------------------------------------- */
/* What there is to say of each fv_activation. Elementwise ones may be fused; those with a gradient of the output y (the
 * others' is of the input) even where they are differentiated. */
typedef struct fv_activation_row {
    const char *name;                  /* Keras's, or ours where Keras has none */
    fv_op op, gradient;                /* FV_OP_NONE: linear */
    bool elementwise, from_output;
    float alpha;                       /* the parameter that the bare name means */
} fv_activation_row;
enum { FV_ACTIVATION_COUNT = FV_EXPONENTIAL + 1 };
extern const fv_activation_row fv_activations[FV_ACTIVATION_COUNT]; /* src/ops/activation.c */

/* ---- Meaning --------------------------------------------------------------------------------------------------- */
struct fv_tape;
struct fv_shape;
typedef struct fv_cost { double flops, bytes; double macs; } fv_cost; /* macs: of the forward products only (convolutions, dense), as torchvision counts */

/* What infer sees and fills. Inputs of rank -1 are absent. */
typedef struct fv_signature {
    fv_context *context;
    const char *layer;                 /* for messages; may be NULL */
    fv_op op;
    fv_attributes *attributes;         /* infer may complete them (axis -1 to the last, ...) */
    int32_t input_count;
    const struct fv_shape *const *input; /* [input_count]; NULL: absent */
    const fv_type *input_type;
    struct fv_shape *output;           /* to fill: [outputs of the operation] */
    fv_type *output_type;              /* preset to FV_F32 */
} fv_signature;

/* One member of an attribute struct, so that attributes can be copied, hashed and printed without knowing the operation. */
typedef enum fv_field_kind { FV_FIELD_I32, FV_FIELD_U32, FV_FIELD_I64, FV_FIELD_F32, FV_FIELD_ACTIVATION, FV_FIELD_TYPE, FV_FIELD_AXES } fv_field_kind;
typedef struct fv_field { const char *name; uint16_t offset; uint8_t kind, count; int32_t usual; /* not printed when it is this */ } fv_field;
typedef struct fv_attribute_layout { const fv_field *field; int32_t count; } fv_attribute_layout;

typedef struct fv_op_desc {
    const char *name, *source;         /* source: the file of the description */
    int8_t least, most, outputs;       /* from ops.def */
    uint8_t flags;
    const fv_attribute_layout *layout; /* of the member of fv_attributes that the operation uses */
    uint32_t optional;                 /* bit i: input i may be absent */
    /* Validates and gives shapes and types of the outputs; says why not in one sentence (fv_op_fail). */
    int (*infer)(fv_signature *);
    /* Appends the gradients: output_gradient[o] (id 0: none) -> input_gradient[i], to be written only where wanted[i].
       NULL: not differentiable (its inputs get none). */
    int (*gradient)(struct fv_tape *, int32_t operation, const fv_value *output_gradient, const bool *wanted, fv_value *input_gradient);
    /* NULL: bytes of all operands, one FLOP an output element. */
    void (*cost)(const fv_signature *, fv_cost *);
    /* Fused operations only: appends what it stands for to a tape and gives the values that replace its outputs. */
    int (*expand)(struct fv_tape *, const fv_attributes *, const fv_value *input, int32_t input_count, fv_value *output);
    uint32_t may_share;                /* bit i: output 0 may lie where input i lay, if that dies here */
    int8_t writes[4];                  /* with FV_WRITES: input that output o overwrites, plus one; 0: an ordinary output */
} fv_op_desc;

extern const fv_op_desc *const fv_op_table[FV_OP_COUNT]; /* src/ops/table.c, from ops.def; name: fv_op_desc_<name> */
const char *fv_op_name(fv_op);
const char *fv_op_about(fv_op);        /* "x [n,h,w,c], w [k,r,s,c/groups] -> y": inputs, outputs, remarks; from ops.def */
uint32_t fv_op_checksum(void);         /* of ops.def: names, arities, flags, sizeof fv_attributes */
/* Which operands may be bf16 or f16 (all those of one operation alike); lowers: in a 16-bit program even if they are not yet. */
typedef struct fv_precision_rule { uint32_t inputs, outputs; bool lowers; } fv_precision_rule;
extern const fv_precision_rule fv_precision_rules[FV_OP_COUNT]; /* src/ops/precision.c */
bool fv_precision_may(fv_op, int32_t input);
/* infer behind one door: checks arity and presence of the inputs first, and that no output is empty. */
int fv_op_infer(fv_signature *);
/* cost of an operation whose outputs are inferred; the default where it has no cost function. */
void fv_op_cost(const fv_signature *, fv_cost *);
/* Copies the declared members into zeroed memory, so that attributes may be compared as bytes. from NULL: all zero. */
void fv_op_attributes_copy(fv_op, fv_attributes *to, const fv_attributes *from);
/* "stride 2 pad 1,0,1,0": members that are not as usual; "" if there are none. Returns buffer. */
const char *fv_op_attributes_text(fv_op, const fv_attributes *, char *buffer, size_t bytes);
/* "stride[2], dilation[2] = 1, ...": all members with their usual values. Returns buffer. */
const char *fv_op_attributes_form(fv_op, char *buffer, size_t bytes);
/* Records "conv2d c3: ..." : the operation, the layer, then the sentence. Returns FV_ERROR_SHAPE or the status given. */
int fv_op_fail(fv_signature *, fv_status, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* Output length of a sliding window: floor or ceil((in + before + after - extent) / stride) + 1; <= 0 when it does not fit. */
int64_t fv_window_count(int64_t in, int64_t before, int64_t after, int64_t kernel, int64_t dilation, int64_t stride, bool ceil_mode);
/* FV_SAME, FV_FULL, FV_VALID or pixels to {before, after} of one axis. Keras's rule: SAME puts the odd pixel after. */
void fv_window_padding(int32_t padding, int64_t in, int64_t kernel, int64_t dilation, int64_t stride, int32_t out[2]);
#endif
