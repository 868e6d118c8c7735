/* onnx_shapes.c - ONNX's operators that move elements or reduce axes, in Fovea's operations; matrix products. */
#include "support/onnx.h"
#include <math.h>
#include <string.h>

/* ---- Shapes ------------------------------------------------------------------------------------------------------ */

/* Numbers of an input (newer operator sets) or of an attribute (older ones): count, or -1 when neither is there. */
static int numbers(onnx_graph *g, int input, const char *attribute, int64_t out[ONNX_LIST]) {
    const onnx_attribute *a = attribute ? onnx_attribute_of(g, attribute) : NULL;
    if (a) memcpy(out, a->list, sizeof a->list);
    if (a || !onnx_has(g, input)) return a ? a->count : -1;
    const onnx_tensor *t = onnx_known(g, input);
    if (!t || t->elements > ONNX_LIST) return onnx_cannot(g, "a list of numbers"), -1;
    for (int i = 0; i < t->elements; i++) out[i] = (int64_t)t->value[i];
    return (int)t->elements;
}

static int64_t counted(int64_t axis, int rank) { return axis < 0 ? axis + rank : axis; }

static void reshape(onnx_graph *g) {
    const fv_value x = onnx_plain(g, 0);
    int64_t dims[ONNX_LIST], known = 1, all = 1;
    const int rank = numbers(g, 1, "shape", dims);
    if (!x.id || rank < 0) return;
    const fv_shape from = *onnx_shape(g, x);
    for (int i = 0; i < from.rank; i++) all *= from.dim[i];
    for (int i = 0; i < rank; i++) {
        if (dims[i] == 0 && !onnx_integer(g, "allowzero", 0)) dims[i] = from.dim[i];
        if (dims[i] != -1) known *= dims[i];
    }
    for (int i = 0; i < rank; i++)
        if (dims[i] == -1) dims[i] = known ? all / known : 0;
    onnx_give(g, 0, onnx_reshaped(g, x, rank, dims));
}

static void flatten(onnx_graph *g) {
    const fv_value x = onnx_plain(g, 0);
    if (!x.id) return;
    const fv_shape from = *onnx_shape(g, x);
    const int axis = onnx_axis(g, "axis", 1, from.rank);
    int64_t dims[2] = { 1, 1 };
    for (int i = 0; i < from.rank; i++) dims[i >= axis] *= from.dim[i];
    onnx_give(g, 0, onnx_reshaped(g, x, 2, dims));
}

static void squeeze(onnx_graph *g) {
    const fv_value x = onnx_plain(g, 0);
    int64_t axes[ONNX_LIST], dims[FV_RANK];
    const int count = numbers(g, 1, "axes", axes);
    if (!x.id) return;
    const fv_shape from = *onnx_shape(g, x);
    int rank = 0;
    for (int i = 0; i < from.rank; i++) {
        bool gone = count < 0 && from.dim[i] == 1;
        for (int j = 0; j < count; j++) gone |= counted(axes[j], from.rank) == i;
        if (!gone) dims[rank++] = from.dim[i];
    }
    onnx_give(g, 0, onnx_reshaped(g, x, rank, dims));
}

static void unsqueeze(onnx_graph *g) {
    const fv_value x = onnx_plain(g, 0);
    int64_t axes[ONNX_LIST], dims[FV_RANK];
    const int count = numbers(g, 1, "axes", axes);
    if (!x.id || count < 0) return;
    const fv_shape from = *onnx_shape(g, x);
    const int rank = from.rank + count;
    if (rank > FV_RANK) {
        onnx_cannot(g, "a tensor has %d axes", rank);
        return;
    }
    for (int i = 0, next = 0; i < rank; i++) {
        bool fresh = false;
        for (int j = 0; j < count; j++) fresh |= counted(axes[j], rank) == i;
        dims[i] = fresh ? 1 : from.dim[next++];
    }
    onnx_give(g, 0, onnx_reshaped(g, x, rank, dims));
}

static void transpose(onnx_graph *g) {
    const int rank = onnx_rank(g, 0);
    const onnx_attribute *given = onnx_attribute_of(g, "perm");
    int axes[FV_RANK];
    for (int i = 0; i < rank && i < FV_RANK; i++) axes[i] = given ? (int)given->list[i] : rank - 1 - i;
    const fv_value y = onnx_transpose(g, onnx_plain(g, 0), axes);
    if (y.id) onnx_give(g, 0, y);
}

static void concat(onnx_graph *g) {
    fv_value input[ONNX_OPERANDS];
    for (int i = 0; i < g->node->input_count; i++)
        if (!(input[i] = onnx_plain(g, i)).id) return;
    const fv_values all = { input, g->node->input_count };
    onnx_give(g, 0, fv_op_concat(g->tape, all, onnx_axis(g, "axis", 1, onnx_rank(g, 0))));
}

static fv_value sliced(onnx_graph *g, fv_value x, int axis, int64_t begin, int64_t size) {
    const fv_shape from = *onnx_shape(g, x);
    int64_t start[FV_RANK] = { 0 }, extent[FV_RANK];
    memcpy(extent, from.dim, sizeof extent);
    start[axis] = begin;
    extent[axis] = size;
    return fv_op_slice(g->tape, x, start, extent);
}

static void split(onnx_graph *g) {
    const fv_value x = onnx_plain(g, 0);
    int64_t sizes[ONNX_LIST], begin = 0;
    int count = numbers(g, 1, "split", sizes);
    if (!x.id) return;
    const int axis = onnx_axis(g, "axis", 0, onnx_rank(g, 0)), parts = g->node->output_count;
    const int64_t all = onnx_shape(g, x)->dim[axis], each = (all + parts - 1) / parts;
    if (count < 0)
        for (count = 0; count < parts; count++) sizes[count] = count + 1 < parts ? each : all - each * (parts - 1);
    for (int i = 0; i < parts && i < count; begin += sizes[i++]) onnx_give(g, i, sliced(g, x, axis, begin, sizes[i]));
}

/* Ends beyond the axis are its ends; a negative step runs down to before the first element. */
static void slice(onnx_graph *g) {
    const fv_value x = onnx_plain(g, 0);
    int64_t starts[ONNX_LIST], ends[ONNX_LIST], axes[ONNX_LIST], steps[ONNX_LIST];
    const int count = numbers(g, 1, "starts", starts);
    numbers(g, 2, "ends", ends);
    const int named = numbers(g, 3, "axes", axes), stepped = numbers(g, 4, NULL, steps);
    if (!x.id) return;
    const fv_shape s = *onnx_shape(g, x);
    int64_t begin[FV_RANK] = { 0 }, size[FV_RANK], step[FV_RANK];
    for (int i = 0; i < s.rank; i++) size[i] = s.dim[i], step[i] = 1;
    for (int i = 0; i < count; i++) {
        const int axis = (int)counted(named < 0 ? i : axes[i], s.rank);
        const int64_t n = s.dim[axis], by = stepped < 0 ? 1 : steps[i], least = by < 0 ? -1 : 0, most = by < 0 ? n - 1 : n;
        int64_t from = starts[i] < 0 ? starts[i] + n : starts[i], to = ends[i] < 0 ? ends[i] + n : ends[i];
        from = from < least ? least : from > most ? most : from;
        to = to < least ? least : to > most ? most : to;
        begin[axis] = from;
        step[axis] = by;
        size[axis] = by < 0 ? (from - to - by - 1) / -by : (to - from + by - 1) / by;
    }
    onnx_give(g, 0, fv_op_strided_slice(g->tape, x, begin, size, step));
}

/* A number around, or the image mirrored, its edge, or itself again; negative counts cut off. */
static void pad(onnx_graph *g) {
    static const struct {
        const char *onnx;
        fv_pad_mode mode;
    } modes[] = {
        { "constant", FV_PAD_CONSTANT },
        { "reflect", FV_PAD_REFLECT },
        { "edge", FV_PAD_REPLICATE },
        { "wrap", FV_PAD_CIRCULAR },
    };
    const fv_value x = onnx_number(g, 0);
    int64_t pads[ONNX_LIST], axes[ONNX_LIST];
    const int count = numbers(g, 1, "pads", pads), named = numbers(g, 3, NULL, axes);
    const onnx_tensor *number = onnx_has(g, 2) ? onnx_known(g, 2) : NULL;
    const char *mode = onnx_text(g, "mode", "constant");
    fv_attributes a = { .pad = { .value = (float)(number ? number->value[0] : onnx_real(g, "value", 0)) } };
    if (!x.id || count < 0) return;
    for (int i = 0; i < 4; i++)
        if (!strcmp(mode, modes[i].onnx)) a.pad.mode = modes[i].mode;
    for (int i = 0; i < count / 2; i++) {
        const int axis = named < 0 ? i : (int)counted(axes[i], onnx_rank(g, 0));
        a.pad.before[axis] = pads[i];
        a.pad.after[axis] = pads[count / 2 + i];
    }
    onnx_give(g, 0, FV_APPLY(g->tape, FV_OP_pad, &a, x));
}

/* Axes of another size, cut or padded with zeros at both ends. */
static void center_crop_pad(onnx_graph *g) {
    fv_value x = onnx_plain(g, 0);
    int64_t sizes[ONNX_LIST];
    const int count = numbers(g, 1, NULL, sizes);
    const onnx_attribute *axes = onnx_attribute_of(g, "axes");
    for (int i = 0; x.id && i < count; i++) {
        const int axis = axes ? (int)counted(axes->list[i], onnx_shape(g, x)->rank) : i;
        const int64_t more = sizes[i] - onnx_shape(g, x)->dim[axis];
        fv_attributes a = { 0 };
        a.pad.before[axis] = more / 2;
        a.pad.after[axis] = more - more / 2;
        if (more > 0) x = FV_APPLY(g->tape, FV_OP_pad, &a, x);
        if (more < 0) x = sliced(g, x, axis, -more / 2, sizes[i]);
    }
    if (x.id) onnx_give(g, 0, x);
}

/* As NumPy broadcasts: axes of size 1 on either side. */
static void expand(onnx_graph *g) {
    const fv_value x = onnx_plain(g, 0);
    int64_t dims[ONNX_LIST];
    const int count = numbers(g, 1, NULL, dims);
    if (!x.id || count < 0) return;
    const fv_shape from = *onnx_shape(g, x);
    fv_attributes a = { .shape = { .rank = from.rank > count ? from.rank : count } };
    for (int i = 1; i <= a.shape.rank && a.shape.rank <= FV_RANK; i++) {
        const int64_t mine = i <= from.rank ? from.dim[from.rank - i] : 1, wanted = i <= count ? dims[count - i] : 1;
        a.shape.dim[a.shape.rank - i] = mine > wanted ? mine : wanted;
    }
    onnx_give(g, 0, FV_APPLY(g->tape, FV_OP_broadcast, &a, x));
}

static void tile(onnx_graph *g) {
    fv_value x = onnx_plain(g, 0);
    int64_t repeats[ONNX_LIST];
    const int count = numbers(g, 1, NULL, repeats);
    for (int axis = 0; x.id && axis < count; axis++) {
        fv_value copies[ONNX_OPERANDS];
        if (repeats[axis] > ONNX_OPERANDS) x = onnx_cannot(g, "too many copies");
        for (int i = 0; i < repeats[axis] && x.id; i++) copies[i] = x;
        if (x.id) x = fv_op_concat(g->tape, (fv_values){ copies, (int32_t)repeats[axis] }, axis);
    }
    if (x.id) onnx_give(g, 0, x);
}

/* ---- Reductions -------------------------------------------------------------------------------------------------- */

/* The axes of the node; a list that is missing or empty means all of them, unless the node says "none". */
static bool axes_of(onnx_graph *g, fv_reduce_attributes *out) {
    int64_t axes[ONNX_LIST];
    const int count = numbers(g, 1, "axes", axes), rank = onnx_rank(g, 0);
    out->keep_dims = (int32_t)onnx_integer(g, "keepdims", 1);
    for (int i = 0; i < count; i++) out->axes |= 1u << counted(axes[i], rank);
    if (count > 0) return true;
    if (onnx_integer(g, "noop_with_empty_axes", 0)) return false;
    out->axes = (1u << rank) - 1;
    return true;
}

/* One function of the elements, a reduction, one function of the result. */
static void reduce(onnx_graph *g, fv_op before, fv_op op, fv_op after) {
    fv_value x = onnx_number(g, 0);
    fv_attributes a = { 0 };
    if (!x.id) return;
    if (before != FV_OP_NONE) x = FV_APPLY(g->tape, before, NULL, x);
    const bool some = axes_of(g, &a.reduce);
    fv_value y = some ? FV_APPLY(g->tape, op, &a, x) : FV_APPLY(g->tape, FV_OP_copy, NULL, x);
    if (after != FV_OP_NONE) y = FV_APPLY(g->tape, after, NULL, y);
    onnx_give(g, 0, y);
}

#define REDUCTION(name, before, op, after)                                                                             \
    static void name(onnx_graph *g) { reduce(g, FV_OP_##before, FV_OP_##op, FV_OP_##after); }
REDUCTION(reduce_l1, abs, sum, NONE)
REDUCTION(reduce_l2, square, sum, sqrt)
REDUCTION(reduce_log_sum, NONE, sum, log)
REDUCTION(reduce_log_sum_exp, NONE, logsumexp, NONE)
REDUCTION(reduce_max, NONE, max, NONE)
REDUCTION(reduce_mean, NONE, mean, NONE)
REDUCTION(reduce_min, NONE, min, NONE)
REDUCTION(reduce_product, NONE, prod, NONE)
REDUCTION(reduce_sum, NONE, sum, NONE)
REDUCTION(reduce_sum_square, square, sum, NONE)

static void extreme(onnx_graph *g, fv_op op) {
    const fv_value x = onnx_plain(g, 0);
    const fv_attributes a = { .reduce = { .axes = 1u << onnx_axis(g, "axis", 0, onnx_rank(g, 0)),
                                          .keep_dims = (int32_t)onnx_integer(g, "keepdims", 1) } };
    if (onnx_integer(g, "select_last_index", 0))
        onnx_cannot(g, "the last of equals");
    else if (x.id)
        onnx_give(g, 0, FV_APPLY(g->tape, op, &a, x));
}
static void arg_max(onnx_graph *g) { extreme(g, FV_OP_argmax); }
static void arg_min(onnx_graph *g) { extreme(g, FV_OP_argmin); }

static void cumulative_sum(onnx_graph *g) {
    const fv_value x = onnx_number(g, 0);
    const onnx_tensor *axis = onnx_known(g, 1);
    if (!x.id || !axis) return;
    const fv_attributes a = { .cumsum = { (int32_t)axis->value[0], (int32_t)onnx_integer(g, "exclusive", 0),
                                          (int32_t)onnx_integer(g, "reverse", 0) } };
    onnx_give(g, 0, FV_APPLY(g->tape, FV_OP_cumsum, &a, x));
}

/* (x - mean) / deviation over these axes */
static void mean_variance_normalization(onnx_graph *g) {
    const fv_value x = onnx_plain(g, 0);
    const onnx_attribute *axes = onnx_attribute_of(g, "axes");
    fv_attributes a = { .reduce = { .axes = axes ? 0 : 1 | 4 | 8, .keep_dims = 1 } };
    if (!x.id) return;
    for (int i = 0; axes && i < axes->count; i++) a.reduce.axes |= 1u << counted(axes->list[i], onnx_shape(g, x)->rank);
    const int32_t made = fv_tape_append(g->tape, FV_OP_variance, &a, &x, 1);
    if (made < 0) return;
    const fv_value deviation = FV_APPLY(g->tape, FV_OP_sqrt, NULL, fv_tape_output(g->tape, made, 0));
    onnx_give(g, 0, fv_op_div(g->tape, fv_op_sub(g->tape, x, fv_tape_output(g->tape, made, 1)), deviation));
}

/* ---- Products ---------------------------------------------------------------------------------------------------- */

/* alpha A B + beta C; Fovea's dense takes B with its outputs first. */
static void gemm(onnx_graph *g) {
    const int turned[] = { 1, 0 };
    const fv_value a = onnx_integer(g, "transA", 0) ? onnx_permuted(g, 0, turned) : onnx_plain(g, 0);
    const fv_value b = onnx_integer(g, "transB", 0) ? onnx_plain(g, 1) : onnx_permuted(g, 1, turned);
    const double alpha = onnx_real(g, "alpha", 1), beta = onnx_real(g, "beta", 1);
    if (!a.id || !b.id) return;
    fv_value y = fv_op_dense(g->tape, a, b);
    if (alpha != 1) y = onnx_scaled(g, y, alpha, 0);
    if (onnx_has(g, 2)) {
        fv_value c = onnx_plain(g, 2);
        if (c.id && beta != 1) c = onnx_scaled(g, c, beta, 0);
        y = c.id ? fv_op_add(g->tape, y, c) : c;
    }
    if (y.id) onnx_give(g, 0, y);
}

static void matmul(onnx_graph *g) {
    const fv_value a = onnx_plain(g, 0), b = onnx_plain(g, 1);
    if (a.id && b.id) onnx_give(g, 0, fv_op_matmul(g->tape, a, b, false, false));
}

const onnx_operator onnx_shape_operators[] = {
    { "ArgMax", arg_max },
    { "ArgMin", arg_min },
    { "CenterCropPad", center_crop_pad },
    { "Concat", concat },
    { "CumSum", cumulative_sum },
    { "Expand", expand },
    { "Flatten", flatten },
    { "Gemm", gemm },
    { "MatMul", matmul },
    { "MeanVarianceNormalization", mean_variance_normalization },
    { "Pad", pad },
    { "ReduceL1", reduce_l1 },
    { "ReduceL2", reduce_l2 },
    { "ReduceLogSum", reduce_log_sum },
    { "ReduceLogSumExp", reduce_log_sum_exp },
    { "ReduceMax", reduce_max },
    { "ReduceMean", reduce_mean },
    { "ReduceMin", reduce_min },
    { "ReduceProd", reduce_product },
    { "ReduceSum", reduce_sum },
    { "ReduceSumSquare", reduce_sum_square },
    { "Reshape", reshape },
    { "Slice", slice },
    { "Split", split },
    { "Squeeze", squeeze },
    { "Tile", tile },
    { "Transpose", transpose },
    { "Unsqueeze", unsqueeze },
    { NULL, NULL },
};
