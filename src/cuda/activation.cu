/* activation.cu - activations and their gradients, element by element. Formulas as in src/cpu/reference/activation.c. */
#include "cuda/activate.h"
#include "cuda/activate_tensor.h"
#include "cuda/elementwise.h"

namespace {
struct relu {
    __device__ float operator()(float x) const { return x > 0 || isnan(x) ? x : 0; }
};
struct relu_gradient {
    __device__ float operator()(float y, float dy) const { return y > 0 ? dy : 0; }
};
struct tanh_of {
    __device__ float operator()(float x) const { return tanhf(x); }
};
struct tanh_gradient {
    __device__ float operator()(float y, float dy) const { return dy * (1 - y * y); }
};
struct sigmoid {
    __device__ float operator()(float x) const { return 1 / (1 + expf(-x)); }
};
struct sigmoid_gradient {
    __device__ float operator()(float y, float dy) const { return dy * y * (1 - y); }
};
} // namespace

MAP(relu, 1, relu())
MAP(relu_gradient, 2, relu_gradient())
MAP(tanh, 1, tanh_of())
MAP(tanh_gradient, 2, tanh_gradient())
MAP(sigmoid, 1, sigmoid())
MAP(sigmoid_gradient, 2, sigmoid_gradient())

/* ---- By number, in place ---------------------------------------------------------------------------------------------- */

namespace {
struct numbered {
    int activation;
    __device__ float operator()(float x) const { return activate(activation, x); }
};
} // namespace

extern "C" int fv_activate_tensor(fv_device *device, const fv_task *task, int activation, const fv_tensor *t) {
    fv_tensor both = *t;
    fv_task own = *task;
    own.input = own.output = &both;
    numbered f;
    f.activation = activation;
    return run_map<1>(device, &own, f);
}
