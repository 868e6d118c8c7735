/* rows.c - the table of operation tests: problem lines, family by family. The words are explained beside their
 * builders. */
#include "support/operations.h"

/* Unequal sizes, stride beyond the kernel, one-sided padding, padding beyond the kernel, dilation, groups, depthwise,
 * odd channels, sizes of one, true convolution. All convolution operations run all of these. */
#define CONVOLUTIONS(op)                                                                                               \
    op " n2 h9 w7 c3 k8 r3 s3", op " n2 h9 w7 c3 k5 r3 s3 stride2 pad1,0", op " n1 h8 w8 c1 k6 r5 s5 pad2",            \
    op " n3 h5 w6 c4 k7 r1 s1", op " n2 h11 w10 c2 k3 r2 s3 stride4,5", op " n1 h7 w9 c5 k4 r3 s2 pad0,2,1,0",         \
    op " n1 h4 w5 c2 k3 r2 s2 pad4,3,5,2", op " n1 h3 w3 c2 k2 r3 s3 pad3 stride3",                                    \
    op " n2 h9 w9 c3 k4 r3 s3 dilation2,3", op " n1 h12 w8 c2 k3 r3 s2 dilation3,2 stride2,1 pad2",                    \
    op " n2 h6 w7 c6 k9 r3 s3 pad1 groups3", op " n1 h7 w5 c5 k5 r3 s3 pad1 groups5",                                  \
    op " n2 h7 w6 c4 k12 r3 s3 stride2 pad1 groups4", op " n1 h1 w1 c1 k1 r1 s1", op " n5 h1 w1 c17 k33 r1 s1",        \
    op " n1 h6 w5 c3 k4 r3 s2 flip pad1,0,0,1", op " n2 h8 w7 c4 k4 r3 s3 flip groups2 stride2 dilation2 pad2",        \
    op " n1 h13 w1 c2 k3 r4 s1 stride3 pad2,0", op " n1 h5 w5 c32 k48 r3 s3 pad1", op " n2 h4 w4 c19 k31 r3 s3 pad1",  \
    op " n1 h14 w14 c16 k16 r3 s3 pad1", op " n1 h16 w16 c3 k16 r5 s5 pad2 stride2",                                   \
    op " n1 h9 w10 c7 k13 r7 s7 stride2 pad3", op " n40 h3 w3 c2 k3 r2 s2"

#define DENSES(op)                                                                                                     \
    op " x4,7 o5", op " x1,1 o1", op " x3,1 o4", op " x1,9 o6", op " x13 o3", op " x2,3,5 o4", op " x2,1,3,2,4 o3",    \
    op " x33,17 o31", op " x5,64 o48", op " x7,100 o10", op " x16,16 o16", op " x2,300 o65", op " x64,33 o1"

#define BIAS_ACTIVATIONS(op, words)                                                                                    \
    op " " words, op " " words " relu", op " " words " tanh", op " " words " sigmoid", op " " words " nobias relu",    \
    op " " words " nobias"

/* Stride below, at and beyond the window; asymmetric padding; ceil mode with windows that reach beyond it. */
#define POOLINGS(op)                                                                                                   \
    op " n2 h8 w6 c3 r2", op " n1 h9 w7 c5 r3 s2 stride2", op " n2 h7 w7 c4 r3 stride1 pad1",                          \
    op " n1 h11 w5 c2 r2 s3 stride4,5", op " n1 h7 w8 c3 r3 stride2 pad1,0,0,2", op " n2 h7 w8 c1 r3 stride2 ceil",    \
    op " n1 h8 w9 c2 r3 stride3 pad1 ceil", op " n1 h5 w6 c2 r3,2 stride2 pad2,0,1,1 ceil", op " n1 h1 w1 c1 r1",      \
    op " n1 h4 w4 c33 r2 stride1", op " n1 h1 w6 c7 r1 s2", op " n1 h20 w19 c1 r17 s16 stride2",                       \
    op " n3 h5 w5 c16 r5", op " n1 h6 w6 c64 r2", op " n2 h13 w12 c20 r3 stride2"

#define SHAPES_OF_ANY_RANK(op)                                                                                         \
    op " x", op " x1", op " x7", op " x64", op " x3,5", op " x2,3,4,5", op " x2,1,3,1,2,2", op " x1000", op " x33,31"

#define AXES(op)                                                                                                       \
    op " x4,10", op " x1,1", op " x3,5 axis0", op " x2,3,4 axis1", op " x2,7,3,2 axis-2", op " x6", op " x5,100",      \
    op " x3,17 scale30", op " x2,33 scale300", op " x4,9 shift1000"

#define BATCH_NORMS(op)                                                                                                \
    op " x4,5,3", op " x2,3,4,7", op " x16,1", op " x2,9 epsilon0.1", op " x8,5 noscale", op " x8,5 nocenter",         \
    op " x3,4,6 noscale nocenter", op " x9,16 momentum0", op " x6,33 momentum1", op " x32,20 shift50",                 \
    op " x100,8 shift1000 scale0.5", op " x5,4,4,64", op " x1,6 epsilon0.5", op " x40,3 epsilon0.00001"
#define BATCH_NORMS_FUSED(op)                                                                                          \
    op " x4,5,3 relu", op " x2,3,4,7 tanh", op " x8,9 sigmoid", op " x8,5 noscale relu", op " x8,5 nocenter relu",     \
    op " x3,4,6 noscale nocenter tanh", op " x9,16", op " x6,33 relu", op " x2,4,4,64 relu", op " x2,1 relu"

#define LRNS(op)                                                                                                       \
    op " x2,3,7", op " x1", op " x4,1", op " x2,2,16 size3 alpha0.5", op " x3,9 size4 alpha0.3 beta0.5 k1",            \
    op " x2,5 size9 alpha0.2", op " x2,33 size1 alpha1 k1", op " x2,3,2,64", op " x5,6 size2 alpha0.7 beta1 k1.5",     \
    op " x3,20 scale20 alpha0.01"

#define BINARIES(op)                                                                                                   \
    op " a b", op " a7 b7", op " a2,3 b3", op " a b2,3", op " a2,3 b", op " a4,1 b1,5", op " a2,1,4 b3,1",             \
    op " a1 b2,3,4", op " a2,3,4,5 b2,3,4,5", op " a2,1,3,1,2,1 b1,2,1,3,1,2", op " a100,10 b10", op " a33,16 b33,1",  \
    op " a5,4,3,16 b16"

#define REDUCTIONS(op)                                                                                                 \
    op " x", op " x7", op " x3,5 axes0", op " x3,5 axes1", op " x3,5", op " x2,3,4 axes0,2", op " x2,3,4 axes1 keep",  \
    op " x2,5,6,3 axes1,2", op " x2,5,6,3 axes0,1,2", op " x2,1,3,2,2,2 axes1,3,5 keep", op " x1000",                  \
    op " x50,33 axes0", op " x4,257 axes1", op " x3,7,5,16 axes0,3"

/* Rows that all losses over classes share. */
#define LOSSES(op)                                                                                                     \
    op " n4 classes10", op " n1 classes2", op " n7 classes3 smoothing0.1", op " n5 classes10 dense",                   \
    op " n5 classes6 dense smoothing0.2", op " n3 classes5 loose", op " n2 classes1", op " n33 classes100",            \
    op " n6 classes4 bad", op " n3 classes17 smoothing1", op " n64 classes10"

/* Large enough to be cut into blocks and shared among threads; too large for differences. */
#define LARGE_CONVOLUTIONS(op)                                                                                         \
    op " n8 h20 w20 c24 k40 r3 s3 pad1 large", op " n16 h8 w8 c64 k64 r3 s3 pad1 large",                               \
    op " n8 h28 w28 c1 k6 r5 s5 pad2 large", op " n5 h17 w19 c33 k65 r3 s3 stride2 pad1 large",                        \
    op " n4 h24 w24 c16 k32 r3 s3 pad1 groups16 large", op " n2 h30 w31 c40 k24 r1 s1 large",                          \
    op " n2 h32 w33 c8 k20 r3 s5 dilation2 large", op " n4 h16 w16 c24 k24 r3 s3 pad1 groups4 large"
#define LARGE_DENSES(op)                                                                                               \
    op " x200,500 o120 large", op " x3,2000 o1000 large", op " x1000,33 o2 large", op " x128,784 o10 large",           \
    op " x97,257 o129 large"
#define LARGE_POOLINGS(op)                                                                                             \
    op " n16 h28 w28 c20 r2 large", op " n4 h27 w31 c48 r3 stride2 pad1 large",                                        \
    op " n2 h64 w64 c3 r3 stride2 ceil large"
#define LARGE_BATCH_NORMS(op)                                                                                          \
    op " x64,14,14,24 large relu", op " x50000,3 large", op " x40,7,7,200 large relu"
#define LARGE_REDUCTIONS(op)                                                                                           \
    op " x300,70,11 axes0 large", op " x300,70,11 axes1 large", op " x300,70,11 axes2 large",                          \
    op " x300,70,11 axes0,1 large", op " x200003 large"

const char *const operation_rows[] = {
    CONVOLUTIONS("conv2d"), CONVOLUTIONS("conv2d_data_gradient"), CONVOLUTIONS("conv2d_weight_gradient"),
    CONVOLUTIONS("conv2d_bias_activation"), BIAS_ACTIVATIONS("conv2d_bias_activation", "n2 h6 w7 c3 k5 r3 s3 pad1"),
    BIAS_ACTIVATIONS("conv2d_bias_activation", "n1 h5 w5 c4 k8 r3 s3 pad1 groups4 stride2"),

    DENSES("dense"), DENSES("dense_data_gradient"), DENSES("dense_weight_gradient"), DENSES("dense_bias_activation"),
    BIAS_ACTIVATIONS("dense_bias_activation", "x5,19 o17"), BIAS_ACTIVATIONS("dense_bias_activation", "x2,3,40 o33"),

    POOLINGS("max_pool2d"), POOLINGS("max_pool2d_gradient"), POOLINGS("avg_pool2d"), POOLINGS("avg_pool2d_gradient"),
    "max_pool2d n2 h6 w6 c3 r2 nan5", "max_pool2d n1 h7 w7 c16 r3 stride2 pad1 allnan",
    "max_pool2d n1 h6 w5 c4 r2 alllowest", "max_pool2d n1 h8 w8 c2 r3 stride1 pad1 lowest40",
    "max_pool2d n2 h6 w6 c3 r2 drop1", "max_pool2d n2 h6 w7 c3 r3 stride2 drop0",
    "max_pool2d n1 h6 w6 c17 r3 stride2 nan9 drop1", "max_pool2d n1 h6 w6 c2 r2 inf5",
    "avg_pool2d n1 h7 w8 c3 r3 stride2 pad1 exclude", "avg_pool2d n1 h5 w6 c2 r3 stride2 pad2,0,1,1 ceil exclude",
    "avg_pool2d_gradient n1 h7 w8 c3 r3 stride2 pad1 exclude",
    "avg_pool2d_gradient n1 h5 w6 c2 r3 stride2 pad2,0,1,1 ceil exclude",

    SHAPES_OF_ANY_RANK("relu"), "relu x100 nan7", "relu x100 inf3", "relu x65 lowest4",
    SHAPES_OF_ANY_RANK("relu_gradient"), SHAPES_OF_ANY_RANK("tanh"), "tanh x100 scale5", "tanh x100 scale100",
    "tanh x200 scale0.001", "tanh x64 scale0.0000001", "tanh x100 nan4", "tanh x100 inf3", "tanh x33 lowest3",
    SHAPES_OF_ANY_RANK("tanh_gradient"), "tanh_gradient x100 scale4", SHAPES_OF_ANY_RANK("sigmoid"),
    "sigmoid x100 scale10", "sigmoid x100 scale80", "sigmoid x64 scale200", "sigmoid x100 nan4", "sigmoid x100 inf3",
    "sigmoid x33 lowest3", SHAPES_OF_ANY_RANK("sigmoid_gradient"), "sigmoid_gradient x100 scale5", AXES("softmax"),
    AXES("softmax_gradient"), AXES("log_softmax"), AXES("log_softmax_gradient"), "softmax x5,10 nan1",
    "softmax x4,12 lowest7", "log_softmax x5,10 nan1",

    BATCH_NORMS("batch_norm_train"), BATCH_NORMS("batch_norm_gradient"), BATCH_NORMS("batch_norm_infer"),
    BATCH_NORMS("batch_norm_infer_gradient"), BATCH_NORMS_FUSED("batch_norm_train_activation"),
    BATCH_NORMS_FUSED("batch_norm_infer_activation"), BATCH_NORMS_FUSED("batch_norm_activation_gradient"),
    "batch_norm_train x4,5,3 drop1,2", "batch_norm_train x4,5,3 drop3,4", "batch_norm_train x9,4 drop0",
    "batch_norm_gradient x4,5,3 drop0", "batch_norm_gradient x4,5,3 drop1,2",
    "batch_norm_infer_gradient x4,5,3 drop0,2", "batch_norm_activation_gradient x4,5,3 drop0 relu",
    "batch_norm_activation_gradient x4,5,3 drop1,2 relu", LRNS("lrn"), LRNS("lrn_gradient"),

    BINARIES("add"), BINARIES("sub"), BINARIES("mul"), BINARIES("div"), SHAPES_OF_ANY_RANK("affine"),
    "affine x50 a-2.5 b0.75", "affine x3,4 a0 b3", "affine x3,4 a1 b-1", SHAPES_OF_ANY_RANK("abs"), "abs x100 nan3",
    SHAPES_OF_ANY_RANK("sign"), "sign x100 nan3", "sign x50 inf2", "cast x3,4", "cast x100 bytes",
    "cast x100 bytes to_ints", "cast x100 ints", "cast x33 ints to_bytes", "cast x100 scale300 to_bytes",
    "cast x100 scale100000 to_ints", "cast x64 scale10000000000 to_ints", "cast x64 nan5 scale3 to_ints",
    "cast x64 nan5 inf3 to_bytes", "cast x64 lowest5 inf3 to_ints", "cast x bytes", "cast x2,1,3,1,2,2 bytes",
    "cast x300 to_bf scale3", "cast x300 to_half scale3", "cast x300 to_half scale0.0001",
    "cast x300 to_half scale0.0000005", "cast x100 to_half scale100000", "cast x64 to_bf scale1000000",
    "cast x50 to_half ints", "cast x50 to_half bytes", "cast x50 to_bf bytes", SHAPES_OF_ANY_RANK("copy"),
    "copy x33 bytes", "copy x7,3 ints", "copy x50 nan5",

    "reshape x2,6 to3,4", "reshape x12 to2,2,3", "reshape x2,3,2 to12", "reshape x1 to1,1,1", "reshape x to1,1",
    "reshape x1,1 to", "reshape x2,2,3,2 to4,6", "reshape x5,4 to-1,2", "broadcast x to3", "broadcast x to2,3,4",
    "broadcast x3 to2,3", "broadcast x1,3 to2,3", "broadcast x2,1 to2,5", "broadcast x2,3 to2,3",
    "broadcast x2,1,3,1 to2,4,3,5", "broadcast x1 to1000", "broadcast x1,1,3,1,2,1 to2,2,3,2,2,2",
    "broadcast x5,1,16 to5,7,16", "broadcast x1,4 to3,4 bytes", "broadcast x33,1 to33,31", "concat x2,3 x2,5 axis1",
    "concat x2,3 x4,3 axis0", "concat x3", "concat x3 x1 x2", "concat x2,3,4 x2,1,4 x2,2,4 axis1",
    "concat x2,3,2,5 x2,3,2,1 axis3", "concat x1,1,1,1,1,2 x1,1,1,1,1,3 axis5", "concat x2,33 x2,31 x2,1 axis1",
    "concat x4,2 x4,3 axis1 bytes", "concat x4,2 x3,2 axis0 ints", "concat x2,3,3,16 x2,3,3,32 axis3",
    "slice x5,6 begin1,2 size3,4", "slice x5 begin0 size5", "slice x5 begin4 size1",
    "slice x2,3,4 begin0,1,0 size2,1,4", "slice x2,3,4,5 begin1,0,2,1 size1,3,2,3",
    "slice x3,2,2,2,2,2 begin1,0,1,0,1,0 size2,2,1,2,1,2", "slice x10,7 begin2,0 size5,7",
    "slice x9,9 begin0,3 size9,3 bytes", "slice x4,6 begin1,1 size2,4 ints", "slice x100,3 begin10,0 size50,3",
    "pad x2,3 before1,0 after0,2", "pad x5 before0 after0", "pad x5 before3 after4", "pad x before after",
    "pad x2,3,4,2 before0,1,2,0 after0,2,1,0", "pad x1,1,1,1,1,1 before1,0,1,0,1,0 after0,1,0,1,0,1",
    "pad x4,4 before2,2 after2,2 bytes", "pad x3,4 before1,1 after1,1 ints",
    "pad x2,5,5,3 before0,1,1,0 after0,1,1,0", "pad x10,10 before0,5 after7,0",

    REDUCTIONS("sum"), REDUCTIONS("mean"), REDUCTIONS("max"), REDUCTIONS("max_gradient"), "max x5,20 axes1 nan3",
    "max x6,7 lowest9 axes0", SHAPES_OF_ANY_RANK("sum_squares"), SHAPES_OF_ANY_RANK("sum_abs"),
    "sum_squares x100 scale1000", "sum x200 nan1", "sum x100 inf1",

    LOSSES("softmax_cross_entropy"), LOSSES("softmax_cross_entropy_gradient"), LOSSES("softmax_cross_entropy_train"),
    LOSSES("cross_entropy"), LOSSES("cross_entropy_gradient"), "softmax_cross_entropy n5 classes10 scale50",
    "softmax_cross_entropy n5 classes10 scale500", "softmax_cross_entropy n5 classes7 shift1000",
    "softmax_cross_entropy_gradient n5 classes10 scale50", "softmax_cross_entropy_gradient n5 classes7 shift1000",
    "softmax_cross_entropy_train n5 classes10 scale50", "softmax_cross_entropy_train n5 classes10 drop0",
    "softmax_cross_entropy_train n5 classes10 drop1", "softmax_cross_entropy n4 classes6 nan1",
    "cross_entropy n40 classes3 scale0.0000001", "cross_entropy_gradient n40 classes3 scale0.0000001",
    "cross_entropy n5 classes3 shift1", "cross_entropy_gradient n5 classes3 shift1",
    "cross_entropy n5 classes3 scale0 shift1", "cross_entropy_gradient n5 classes3 scale0 shift1",
    "mean_squared_error x4,3,2",
    "mean_squared_error x5", "mean_squared_error x1,1", "mean_squared_error x3,10", "mean_squared_error x2,3,4,5",
    "mean_squared_error x33,17", "mean_squared_error x2,1000", "mean_squared_error x4,5 shift100",
    "mean_squared_error_gradient x4,3,2", "mean_squared_error_gradient x5", "mean_squared_error_gradient x1,1",
    "mean_squared_error_gradient x3,10", "mean_squared_error_gradient x2,3,4,5", "mean_squared_error_gradient x33,17",
    "mean_squared_error_gradient x2,1000", "mean_squared_error_gradient x4,5 shift100", LOSSES("in_top_k"),
    "in_top_k n20 classes10 k3", "in_top_k n20 classes10 k10", "in_top_k n20 classes4 k9",
    "in_top_k n20 classes5 k2 dense", "in_top_k n20 classes5 k2 nan3", "in_top_k n20 classes5 k2 bad",
    "in_top_k n64 classes100 k5", "metric_add x1", "metric_add x", "metric_add x33", "metric_add x64 sum1000",
    "metric_add x100 sum100000,0.001", "metric_add x5,3", "metric_add x1000", "metric_add x10 sum0.5",
    "metric_add x7 nan1",

    "check_gradients p20,7,33", "check_gradients p1", "check_gradients p100 noloss", "check_gradients p20,7 nan1",
    "check_gradients p20,7 inf0", "check_gradients p20,7 badloss", "check_gradients p20,7 nonfinite",
    "check_gradients p1000,16,17", "check_gradients p5,3 steep1000", "check_gradients p40,3 drop1",
    "check_gradients p31 nan0 noloss", "sgd_update p20,7,33", "sgd_update p1 rate0.01",
    "sgd_update p100,16 momentum0.9", "sgd_update p20,7,33 momentum0.9 nesterov", "sgd_update p20,7 decay0.1",
    "sgd_update p20,7 decay0.1 decoupled momentum0.5", "sgd_update p20,7 clip0.25 steep3",
    "sgd_update p20,7 longest1 norm4 steep3", "sgd_update p20,7 longest5 norm4",
    "sgd_update p20,7,33 frozen1 momentum0.9", "sgd_update p20,7,33 missing1 momentum0.9",
    "sgd_update p20,7 rates5 batch7", "sgd_update p20,7 rates1 batch3", "sgd_update p20,7 nonfinite momentum0.9",
    "sgd_update p20,7,9 factor0.1 decay_factor0 decay0.2",
    "sgd_update p500,3,129,65 momentum0.9 nesterov decay0.01 clip0.5 longest2 norm3 rates4 batch2 factor2 frozen2",
    "adam_update p20,7,33", "adam_update p1 step0", "adam_update p100,16 step1000", "adam_update p20,7 decay0.1",
    "adam_update p20,7 decay0.1 decoupled", "adam_update p20,7 clip0.25 steep3", "adam_update p20,7 longest1 norm4",
    "adam_update p20,7,33 frozen1", "adam_update p20,7,33 missing1", "adam_update p20,7 rates5 batch7",
    "adam_update p20,7 nonfinite", "adam_update p20,7,9 factor0.1 decay_factor0 decay0.2 decoupled",
    "adam_update p20,7 beta0.5,0.9 epsilon0.01 step1",
    "adam_update p500,3,129,65 decay0.01 clip0.5 longest2 norm3 rates4 batch2 step20",
    "adam_update p33 beta0,0 step5", "adam_update p20 step5000000000", "commit p5,17", "commit p1",
    "commit p16,16,16", "commit p5,17 nonfinite", "commit p20,7,33 missing1", "commit p100", "commit p3,3,3,3",
    "commit p257,1", "advance", "advance batch_only", "advance nonfinite", "advance batch_only nonfinite",
    "advance step4294967295", "advance batch9 step9", "advance batch4294967295 batch_only", "advance epoch3 batch1",

    "dropout x4,7 rate0.3", "dropout x1000", "dropout x", "dropout x1 rate0.9",
    "dropout x33,31 rate0.25 stream1030 step12", "dropout x100 rate0", "dropout x5,3,2,7 rate0.999",
    "dropout x257 step4294967296 seed1,2", "dropout x6 rate0.5 step0 seed0,0", "dropout x64 nan5",
    "batch_samples samples20 size6 rows6 batch2", "batch_samples samples20 size6 rows2 batch3",
    "batch_samples samples1 size1 rows1", "batch_samples samples100 size32 rows32",
    "batch_samples samples7 size7 rows7", "batch_samples samples64 size16 rows16 batch3",
    "batch_samples samples50 size20 rows10 batch2", "batch_samples samples7 size4 rows4 batch1",
    "batch_samples samples9 size4 rows4 batch1000", "batch_samples samples9 size2 rows1 batch4",
    "gather_batch x10,4,3 rows5", "gather_batch x10 rows5", "gather_batch x1,1 rows1",
    "gather_batch x10,4,3 rows5 bytes", "gather_batch x20,5 rows33 ints", "gather_batch x6,28,28,1 rows4 bytes",
    "gather_batch x10,3 rows8 bad", "gather_batch x10,7 rows8 bad bytes", "gather_batch x10 rows20 ints bad",
    "gather_batch x3,2,2,2,2,2 rows4", "flip n6 h4 w5 c2", "flip n6 h3 w8 c3 bytes", "flip n1 h1 w1 c1",
    "flip n9 h2 w1 c3", "flip n16 h2 w6 c1 epoch3", "flip n16 h5 w7 c4 epoch4 bytes", "flip n4 h3 w3 c5 ints",
    "flip n8 h8 w8 c3 seed5,6", "pad_crop n6 h5 w6 c2 crop1", "pad_crop n6 h5 w6 c3 crop2 bytes",
    "pad_crop n3 h1 w1 c1 crop3", "pad_crop n4 h4 w4 c1 crop0", "pad_crop n16 h8 w7 c3 crop4 epoch5 bytes",
    "pad_crop n5 h3 w4 c2 crop9", "pad_crop n4 h3 w3 c5 crop1 ints", "pad_crop n8 h8 w8 c3 crop2 seed5,6",
    "normalize x2,3,3,1 bytes", "normalize x2,3,3,3 bytes mean0.49,0.48,0.45 deviation0.25,0.24,0.26",
    "normalize x4,5", "normalize x6", "normalize x3,2,2,6 mean0.5,-1 deviation0.5,2,-1,3",
    "normalize x4,7 mean0.1,0.2,0.3,0.4", "normalize x10 bytes by1", "normalize x3,4 by2 mean1 deviation0.5",
    "normalize x33,2 bytes deviation-0.5,2", "normalize x2,28,28,1 bytes mean0.1307 deviation0.3081",

    LARGE_CONVOLUTIONS("conv2d"), LARGE_CONVOLUTIONS("conv2d_data_gradient"),
    LARGE_CONVOLUTIONS("conv2d_weight_gradient"), LARGE_CONVOLUTIONS("conv2d_bias_activation"), LARGE_DENSES("dense"),
    LARGE_DENSES("dense_data_gradient"), LARGE_DENSES("dense_weight_gradient"), LARGE_DENSES("dense_bias_activation"),
    LARGE_POOLINGS("max_pool2d"), LARGE_POOLINGS("max_pool2d_gradient"), LARGE_POOLINGS("avg_pool2d"),
    LARGE_POOLINGS("avg_pool2d_gradient"), "relu x100003 large", "relu_gradient x100003 large",
    "tanh x50001 scale3 large", "tanh_gradient x50001 large", "sigmoid x50001 scale9 large",
    "sigmoid_gradient x50001 large", "affine x100003 a-2 b0.3 large", "abs x100003 large", "sign x100003 large",
    "copy x100003 large", "cast x100003 bytes large", "cast x100003 to_half large", "add a64,16,16,24 b24 large",
    "add a301,307 b301,307 large", "mul a40,1,50 b1,60,50 large", "sub a300,1 b300,301 large",
    "div a301,307 b307 large", "softmax x3001,10 large", "softmax x40,1000 large", "softmax_gradient x3001,10 large",
    "log_softmax x3001,10 large", "log_softmax_gradient x50,700 large", "softmax x30,20,50 axis1 large",
    LARGE_BATCH_NORMS("batch_norm_train"), LARGE_BATCH_NORMS("batch_norm_gradient"),
    LARGE_BATCH_NORMS("batch_norm_infer"), LARGE_BATCH_NORMS("batch_norm_infer_gradient"),
    LARGE_BATCH_NORMS("batch_norm_train_activation"), LARGE_BATCH_NORMS("batch_norm_infer_activation"),
    LARGE_BATCH_NORMS("batch_norm_activation_gradient"), "lrn x8,13,13,48 alpha0.1 large",
    "lrn_gradient x8,13,13,48 alpha0.1 large", LARGE_REDUCTIONS("sum"), LARGE_REDUCTIONS("mean"),
    LARGE_REDUCTIONS("max"), LARGE_REDUCTIONS("max_gradient"), "sum_squares x200003 large", "sum_abs x200003 large",
    "softmax_cross_entropy n3001 classes10 large", "softmax_cross_entropy n65 classes1000 large",
    "softmax_cross_entropy_gradient n3001 classes10 smoothing0.1 large",
    "softmax_cross_entropy_train n3001 classes10 large", "softmax_cross_entropy_train n65 classes1000 large",
    "cross_entropy n3001 classes10 large", "cross_entropy_gradient n3001 classes10 large",
    "mean_squared_error x500,101 large", "mean_squared_error x2,70001 large",
    "mean_squared_error_gradient x500,101 large", "in_top_k n2001 classes40 k5 large", "metric_add x5003 large",
    "check_gradients p100003,5,70001 large", "check_gradients p100003,5,70001 nan2 large",
    "sgd_update p100003,5,70001 momentum0.9 nesterov decay0.01 large",
    "sgd_update p100003,5,70001 frozen0 clip0.5 large", "adam_update p100003,5,70001 decay0.01 decoupled large",
    "commit p50003,4096 large", "dropout x100003 rate0.3 large",
    "batch_samples samples60000 size128 rows128 batch3 large", "gather_batch x100,28,28,1 rows128 bytes large",
    "gather_batch x50,1000 rows70 large", "flip n64 h32 w32 c3 bytes large",
    "pad_crop n64 h32 w32 c3 crop4 bytes large",
    "normalize x64,32,32,3 bytes mean0.49,0.48,0.45 deviation0.25,0.24,0.26 large",
    "concat x100,300 x100,201 axis1 large", "slice x200,301 begin3,5 size190,290 large",
    "pad x16,30,30,8 before0,2,2,0 after0,2,2,0 large", "broadcast x1,300 to400,300 large",
    "broadcast x300,1 to300,400 large", NULL
};

/* Sizes of real nets: LeNet-5, AlexNet and VGG on CIFAR, the MLP; batch 32. */
const char *const performance_rows[] = {
    "conv2d n32 h28 w28 c1 k6 r5 s5 pad2", "conv2d n32 h14 w14 c6 k16 r5 s5", "conv2d n32 h32 w32 c3 k64 r3 s3 pad1",
    "conv2d n32 h16 w16 c64 k128 r3 s3 pad1", "conv2d n32 h8 w8 c256 k256 r3 s3 pad1",
    "conv2d_data_gradient n32 h16 w16 c64 k128 r3 s3 pad1", "conv2d_weight_gradient n32 h16 w16 c64 k128 r3 s3 pad1",
    "conv2d_bias_activation n32 h16 w16 c64 k128 r3 s3 pad1 relu", "dense x128,784 o512",
    "dense_data_gradient x128,512 o512", "dense_weight_gradient x128,784 o512", "max_pool2d n32 h32 w32 c64 r2",
    "max_pool2d_gradient n32 h32 w32 c64 r2", "avg_pool2d n32 h28 w28 c6 r2", "relu x32,32,32,64",
    "relu_gradient x32,32,32,64", "tanh x32,28,28,6", "batch_norm_train x32,16,16,128",
    "batch_norm_gradient x32,16,16,128", "lrn x32,14,14,64", "add a32,16,16,128 b32,16,16,128",
    "add a32,16,16,128 b128", "softmax x128,10", "softmax_cross_entropy n128 classes10",
    "sum x32,16,16,128 axes0,1,2", "dropout x128,512", "sgd_update p400000,100 momentum0.9",
    "adam_update p400000,100", "check_gradients p400000,100", NULL
};
