/* noise.c - dropout, alpha dropout, Gaussian noise and Gaussian dropout. Random numbers are Philox4x32-10 under the key
 * control.seed, with the counters of the specification: the same bits on every backend. It is drawn for LANES counters
 * side by side, which gives the numbers of 4 LANES elements. */
#include "core/core.h"
#include "cpu/cpu.h"
#include "cpu/simd.h"
#include <math.h>

enum { DRAWN = 4 * LANES }; /* elements a round: four words a counter */

/* The ten rounds for counters that differ in their first word (and the fourth, where the first wraps). word[w][lane] */
static void philox_lanes(const uint32_t first[LANES], uint32_t second, uint32_t third, const uint32_t fourth[LANES],
                         const uint32_t seed[2], uint32_t word[4][LANES]) {
    uint32_t key[2] = { seed[0], seed[1] };
    for (int l = 0; l < LANES; l++)
        word[0][l] = first[l], word[1][l] = second, word[2][l] = third, word[3][l] = fourth[l];
    for (int round = 0; round < 10; round++, key[0] += 0x9E3779B9u, key[1] += 0xBB67AE85u)
        for (int l = 0; l < LANES; l++) {
            uint64_t a = (uint64_t)word[0][l] * 0xD2511F53u, b = (uint64_t)word[2][l] * 0xCD9E8D57u;
            uint32_t next = (uint32_t)(b >> 32) ^ word[1][l] ^ key[0];
            word[2][l] = (uint32_t)(a >> 32) ^ word[3][l] ^ key[1];
            word[0][l] = next;
            word[1][l] = (uint32_t)b;
            word[3][l] = (uint32_t)a;
        }
}
static void draw_block(const fv_task *task, int64_t block, uint32_t word[4][LANES]) {
    const fv_control *control = task->input[1].data;
    uint32_t first[LANES], fourth[LANES], high = (uint32_t)(control->step >> 32);
    for (int l = 0; l < LANES; l++) {
        uint64_t quad = (uint64_t)block * LANES + (uint64_t)l;
        first[l] = (uint32_t)quad;
        fourth[l] = (uint32_t)(quad >> 32) ^ high;
    }
    philox_lanes(first, task->attributes->random.stream, (uint32_t)control->step, fourth, control->seed, word);
}

/* A number in [0, 1) of 24 bits. */
INLINE vf uniform_of(const uint32_t word[LANES]) {
    return __builtin_convertvector((vi)((vu)load_int((const int32_t *)word) >> 8), vf) * 0x1p-24f;
}
/* Cosine and sine of so many turns, 0 <= turns < 1: the nearest quarter turn is taken off exactly. */
INLINE void turn(vf turns, vf *cosine, vf *sine) {
    vf quarters = turns * 4.0f;
    vi quadrant = __builtin_convertvector(quarters + 0.5f, vi);
    vf a = (quarters - __builtin_convertvector(quadrant, vf)) * 1.57079632679489662f, s = a * a;
    vf c = (((s * (1.0f / 40320) - 1.0f / 720) * s + 1.0f / 24) * s - 0.5f) * s + 1.0f;
    vf d = ((((s * (1.0f / 362880) - 1.0f / 5040) * s + 1.0f / 120) * s - 1.0f / 6) * s) * a + a;
    vi swapped = -(quadrant & 1);
    vi negative_cosine = ((quadrant + 1) & 2) << 30, negative_sine = (quadrant & 2) << 30;
    *cosine = (vf)((vi)choose(swapped, d, c) ^ negative_cosine);
    *sine = (vf)((vi)choose(swapped, c, d) ^ negative_sine);
}
/* Box and Muller: words 0 and 1 make numbers 0 and 1, words 2 and 3 the others. */
INLINE void normals_of(uint32_t word[4][LANES], float number[4][LANES]) {
    for (int pair = 0; pair < 4; pair += 2) {
        vf cosine, sine, radius = square_root(logarithm(uniform_of(word[pair]) + 0x1p-24f) * -2.0f);
        turn(uniform_of(word[pair + 1]), &cosine, &sine);
        store(number[pair], radius * cosine);
        store(number[pair + 1], radius * sine);
    }
}

/* y = x scale + shift where the element is kept, else other */
typedef struct noise {
    float rate, scale, shift, other;
} noise;

static noise noise_of(const fv_task *task) {
    const double dropped = -1.6732632423543772848170429916717 * 1.0507009873554804934193349852946;
    double rate = task->attributes->random.rate, a = 1 / sqrt((1 - rate) * (1 + rate * dropped * dropped));
    double b = -a * dropped * rate;
    switch ((int)task->op) {
    case FV_OP_dropout: return (noise){ (float)rate, (float)(1 / (1 - rate)), 0, 0 };
    case FV_OP_alpha_dropout: return (noise){ (float)rate, (float)a, (float)b, (float)(a * dropped + b) };
    case FV_OP_alpha_dropout_gradient: return (noise){ (float)rate, (float)a, 0, 0 };
    case FV_OP_gaussian_dropout: return (noise){ .scale = (float)sqrt(rate / (1 - rate)) };
    default: return (noise){ .scale = (float)rate };
    }
}
INLINE vf disturbed(const fv_op op, const noise *n, vf x, vf drawn) {
    if (op == FV_OP_dropout) return keep_if(drawn >= n->rate, x * n->scale);
    if (op == FV_OP_alpha_dropout) return choose(drawn >= n->rate, x * n->scale + n->shift, splat(n->other));
    return op == FV_OP_gaussian_noise ? x + drawn * n->scale : x * (drawn * n->scale + 1.0f);
}
INLINE void noise_block(const fv_task *task, const fv_op op, const noise *n, int64_t block) {
    int64_t elements = fv_elements(&task->output[0]), at = block * DRAWN;
    uint32_t word[4][LANES];
    float number[4][LANES], drawn[DRAWN];
    draw_block(task, block, word);
    if (op == FV_OP_gaussian_noise || op == FV_OP_gaussian_dropout)
        normals_of(word, number);
    else
        for (int w = 0; w < 4; w++) store(number[w], uniform_of(word[w]));
    for (int l = 0; l < LANES; l++)
        for (int w = 0; w < 4; w++) drawn[4 * l + w] = number[w][l];
    for (int64_t i = 0; i < DRAWN && at + i < elements; i += LANES)
        store_up_to((float *)task->output[0].data + at + i,
                    disturbed(op, n, load_up_to((const float *)task->input[0].data + at + i, elements - at - i),
                              load(drawn + i)),
                    elements - at - i);
}
static void noise_blocks(const void *argument, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const fv_task *task = argument;
    const noise n = noise_of(task);
    for (int64_t block = begin; block < end; block++) switch ((int)task->op) {
        case FV_OP_alpha_dropout: noise_block(task, FV_OP_alpha_dropout, &n, block); break;
        case FV_OP_gaussian_noise: noise_block(task, FV_OP_gaussian_noise, &n, block); break;
        case FV_OP_gaussian_dropout: noise_block(task, FV_OP_gaussian_dropout, &n, block); break;
        default: noise_block(task, FV_OP_dropout, &n, block); /* and the gradient of alpha dropout */
        }
}
static int noise_run(fv_device *device, const fv_task *task) {
    fv_parallel(device, div_up(fv_elements(&task->output[0]), DRAWN), 32, noise_blocks, task);
    return FV_OK;
}

#define NOISE(name) const fv_cpu_kernel KERNEL(name) = { { .run = noise_run }, NULL };
NOISE(dropout)
NOISE(alpha_dropout)
NOISE(alpha_dropout_gradient)
NOISE(gaussian_noise)
NOISE(gaussian_dropout)
