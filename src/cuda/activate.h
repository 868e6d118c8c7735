/* activate.h - activations as the epilogue of another kernel: by number, in registers. */
#ifndef FV_CUDA_ACTIVATE_H
#define FV_CUDA_ACTIVATE_H
#include "cuda/launch.h"
#include "fovea.h"

__device__ __forceinline__ float activate(int activation, float x) {
    switch (activation) {
    case FV_RELU: return x > 0 || isnan(x) ? x : 0;
    case FV_TANH: return tanhf(x);
    case FV_SIGMOID: return 1 / (1 + expf(-x));
    default: return x;
    }
}

/* The gradient of those that have one by their output alone. */
__device__ __forceinline__ float activate_gradient(int activation, float y, float dy) {
    switch (activation) {
    case FV_RELU: return y > 0 ? dy : 0;
    case FV_TANH: return dy * (1 - y * y);
    case FV_SIGMOID: return dy * y * (1 - y);
    default: return dy;
    }
}
#endif
