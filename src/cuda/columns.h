/* columns.h - two sums for each column of a matrix [rows, channels], taken in a fixed number of chunks of rows and combined in order, so that
 * results repeat. A function object adds element i of column c to the two numbers. */
#ifndef FV_CUDA_COLUMNS_H
#define FV_CUDA_COLUMNS_H
#include "cuda/device.h"

enum { COLUMNS = 32, LINES = 8, MOST_CHUNKS = 64 };

/* How the rows of [rows, channels] are cut. */
struct cut {
    int64_t rows, channels, per_chunk;
    int chunks;
};

static inline cut cut_columns(int64_t rows, int64_t channels) {
    cut c = {};
    c.channels = channels;
    c.rows = rows;
    const int64_t wanted = (c.rows + 63) / 64; /* of at least 64 rows */
    c.chunks = wanted < MOST_CHUNKS ? (int)wanted : (int)MOST_CHUNKS;
    c.per_chunk = (c.rows + c.chunks - 1) / c.chunks;
    return c;
}

/* sums[chunk][0 and 1][channel] */
template <class F> __global__ void sum_rows(F f, cut g, float *sums) {
    SHARED(float, part, [2][LINES][COLUMNS]);
    const int64_t c = (int64_t)blockIdx.x * COLUMNS + threadIdx.x, first = blockIdx.y * g.per_chunk;
    const int64_t last = first + g.per_chunk < g.rows ? first + g.per_chunk : g.rows;
    float a = 0, b = 0;
    if (c < g.channels)
        for (int64_t row = first + threadIdx.y; row < last; row += LINES) f(row * g.channels + c, c, a, b);
    part[0][threadIdx.y][threadIdx.x] = a;
    part[1][threadIdx.y][threadIdx.x] = b;
    __syncthreads();
    if (threadIdx.y < 2 && c < g.channels) {
        float sum = 0;
        for (int line = 0; line < LINES; line++) sum += part[threadIdx.y][line][threadIdx.x];
        sums[(blockIdx.y * 2 + threadIdx.y) * g.channels + c] = sum;
    }
}

__device__ __forceinline__ double chunk_sum(const cut &g, const float *sums, int which, int64_t c) {
    double sum = 0;
    for (int chunk = 0; chunk < g.chunks; chunk++) sum += sums[(chunk * 2 + which) * g.channels + c];
    return sum;
}

template <class F> static inline void launch_sums(fv_device *device, const cut &g, F f, float *sums) {
    LAUNCH(sum_rows<F>, dim3((unsigned)((g.channels + COLUMNS - 1) / COLUMNS), (unsigned)g.chunks),
           dim3(COLUMNS, LINES), 0, device->stream, f, g, sums);
}

/* Scratch: the chunks' sums, then two vectors of the channels. */
static inline size_t scratch_bytes(const cut &g) { return (size_t)(2 * g.channels * (g.chunks + 1)) * sizeof(float); }

#endif
