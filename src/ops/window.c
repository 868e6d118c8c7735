/* window.c - arithmetic of sliding windows: how many positions a kernel has along one axis, and what "same" and
 * "full" mean in pixels. Sizes come from users and files, so nothing here may overflow. */
#include "ops/ops.h"

/* Cells from the first to the last one that a dilated kernel touches; false when there is no such number. */
static bool window_extent(int64_t kernel, int64_t dilation, int64_t *extent) {
    int64_t last;
    return kernel >= 1 && dilation >= 1 && !__builtin_mul_overflow(kernel - 1, dilation, &last) &&
           !__builtin_add_overflow(last, 1, extent);
}

int64_t fv_window_count(int64_t in, int64_t before, int64_t after, int64_t kernel, int64_t dilation, int64_t stride,
                        bool ceil_mode) {
    int64_t extent, padded, room;
    if (in < 1 || before < 0 || after < 0 || stride < 1 || !window_extent(kernel, dilation, &extent) ||
        __builtin_add_overflow(in, before, &padded) || __builtin_add_overflow(padded, after, &room))
        return 0;
    room -= extent;                                           /* how far the window can move */
    if (room < 0) return ceil_mode && room > -stride ? 1 : 0; /* the only window is a partial one */
    int64_t count = room / stride + 1, rest = room % stride;
    /* A partial last window must begin inside the input or the padding before it. */
    if (ceil_mode && rest && room - rest < padded - stride) count++;
    return count;
}

static int32_t saturate(int64_t value) { return value > INT32_MAX ? INT32_MAX : (int32_t)value; }

void fv_window_padding(int32_t padding, int64_t in, int64_t kernel, int64_t dilation, int64_t stride, int32_t out[2]) {
    int64_t extent;
    out[0] = out[1] = padding > 0 ? padding : 0;
    if (padding >= 0 || !window_extent(kernel, dilation, &extent)) return;
    if (padding == FV_FULL) {
        out[0] = out[1] = saturate(extent - 1);
    } else if (padding == FV_SAME && in >= 1 && stride >= 1) {
        int64_t last =
            (in - 1) / stride * stride; /* where the last of ceil(in / stride) windows begins, without padding */
        int64_t total = extent - (in - last);
        if (total < 0) total = 0;
        out[0] = saturate(total / 2);
        out[1] = saturate(total - total / 2);
    }
}
