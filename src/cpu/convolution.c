/* convolution.c - conv2d, its gradients and its fused form: reads the problem, chooses the algorithm (the first of
 * an ordered list that fits; the others say why not) and hands over. A 1x1 convolution with stride 1 is a product of
 * matrices, pixels x channels; so is one whose filters cover the image, images x values. */
#include "cpu/conv.h"
#include "cpu/gemm.h"
#include <stdio.h>

/* ---- A product of matrices: one tap, or taps that cover the image exactly ---------------------------------------- */
static bool covers_image(const conv_problem *p) {
    return p->y_size[0] == 1 && p->y_size[1] == 1 && p->taps[0] == p->x_size[0] && p->taps[1] == p->x_size[1] &&
           !p->pad[0] && !p->pad[1] && p->dilation[0] == 1 && p->dilation[1] == 1 && !p->flip;
}
static const char *not_a_product(const conv_problem *p) {
    if (p->groups != 1) return "groups";
    if (covers_image(p)) return NULL;
    if (p->taps[0] != 1 || p->taps[1] != 1) return "several taps";
    if (p->stride[0] != 1 || p->stride[1] != 1) return "stride";
    return p->x_size[0] != p->y_size[0] || p->x_size[1] != p->y_size[1] || p->pad[0] || p->pad[1] ? "padding" : NULL;
}
static gemm product_of(const fv_task *task, const conv_plan *plan) {
    const conv_problem *p = &plan->problem;
    int64_t pixels = p->images * p->y_size[0] * p->y_size[1], values = conv_taps(p) * p->channels;
    const float *a = task->input[0].data, *b = task->input[1].data;
    float *c = task->output[0].data;
    if (task->op == FV_OP_conv2d_weight_gradient) /* dy' x: inputs are x, dy */
        return (gemm){ .m = p->filters,
                       .n = values,
                       .k = pixels,
                       .a = b,
                       .lda = p->filters,
                       .a_columns = true,
                       .b = a,
                       .ldb = values,
                       .c = c,
                       .ldc = values };
    bool gradient = conv_is_data(task);
    int64_t in = gradient ? p->filters : values, out = gradient ? values : p->filters;
    return (gemm){ .m = pixels,
                   .n = out,
                   .k = in,
                   .a = a,
                   .lda = in,
                   .b = b,
                   .ldb = values,
                   .b_columns = !gradient,
                   .c = c,
                   .ldc = out,
                   .finish = conv_finish(task) };
}
static int product_prepare(fv_device *device, fv_task *task, conv_plan *plan) {
    gemm g = product_of(task, plan);
    gemm_prepare(device, task, &g);
    task->algorithm = plan->text;
    return FV_OK;
}
static int product_run(fv_device *device, const fv_task *task, const conv_plan *plan) {
    gemm g = product_of(task, plan);
    gemm_run_task(device, task, &g, &((conv_plan *)task->kept)->packed);
    return FV_OK;
}
static const conv_algorithm product = { "matrix product", not_a_product, product_prepare, product_run, NULL };

/* ---- Choice ------------------------------------------------------------------------------------------------------ */
enum {
    CHOICES = FV_CPU_CONV_WAYS,
    NOT_WORTH_PERCENT = 90 /* of the direct way's time: less is saved than Winograd's digits are worth */
};
static const conv_algorithm *const forward[CHOICES] = { &product, &ISA(conv_depthwise_forward),
                                                        &ISA(conv_bordered_forward), &ISA(conv_winograd_forward),
                                                        &ISA(conv_direct_forward) };
static const conv_algorithm *const data[CHOICES] = { &product, &ISA(conv_depthwise_data), &ISA(conv_scattered_data),
                                                     &ISA(conv_winograd_data), &ISA(conv_direct_data) };
static const conv_algorithm *const weights[CHOICES] = { &product, &ISA(conv_depthwise_weights),
                                                        &ISA(conv_bordered_weights), &ISA(conv_winograd_weights),
                                                        &ISA(conv_direct_weights) };

/* The first that fits and is worth it; or, where one is asked for by its number, that one if it fits. */
static const conv_algorithm *choose_algorithm(const fv_device *device, const conv_algorithm *const *list,
                                              const conv_problem *p, int32_t wanted, char *text) {
    char others[CONV_TEXT] = "";
    int used = 0;
    const int first = wanted ? wanted - 1 : 0, last = wanted && wanted < CHOICES ? wanted : CHOICES;
    for (int i = first; i < last; i++) {
        const char *why = list[i]->why_not ? list[i]->why_not(p) : NULL;
        if (!why && list[i]->estimate && device->no_winograd) why = "FOVEA_WINOGRAD=0";
        if (!why && list[i]->estimate && !wanted && 100 * list[i]->estimate(p) > NOT_WORTH_PERCENT) why = "no gain";
        if (!why) {
            char part[48] = "";
            if (list[i]->estimate)
                snprintf(part, sizeof part, ", estimated at %.0f %% of direct", 100 * list[i]->estimate(p));
            snprintf(text, CONV_TEXT, "%s%s%s%.*s%s", list[i]->name, part, used ? " (" : "", CONV_TEXT - 72, others,
                     used ? ")" : "");
            return list[i];
        }
        int length =
            snprintf(others + used, sizeof others - (size_t)used, "%snot %s: %s", used ? "; " : "", list[i]->name, why);
        used = (int)least(used + length, (int64_t)sizeof others - 1);
    }
    return NULL;
}

static void conv_release(fv_device *device, fv_task *task) {
    conv_plan *plan = task->kept;
    if (!plan) return;
    device->host.free(plan->own);
    device->host.free(plan);
    task->kept = NULL;
}

static int conv_prepare(fv_device *device, fv_task *task) {
    conv_plan *plan = device->host.alloc(device->host.context, sizeof *plan, "a convolution's plan");
    if (!plan) return FV_ERROR_MEMORY;
    task->kept = plan;
    plan->problem = conv_problem_of(task);
    const conv_algorithm *const *list = task->op == FV_OP_conv2d_weight_gradient ? weights
                                        : conv_is_data(task)                     ? data
                                                                                 : forward;
    plan->algorithm = choose_algorithm(device, list, &plan->problem, task->choice, plan->text);
    if (!plan->algorithm) {
        conv_release(device, task);
        return FV_ERROR_UNSUPPORTED;
    }
    task->algorithm = plan->text;
    int status = plan->algorithm->prepare ? plan->algorithm->prepare(device, task, plan) : FV_OK;
    if (status) conv_release(device, task);
    return status;
}

static int conv_run(fv_device *device, const fv_task *task) {
    const conv_plan *plan = task->kept;
    return plan->algorithm->run(device, task, plan);
}
#define CONVOLUTION                                                                                                    \
    { { NULL, conv_prepare, conv_run, conv_release }, NULL }
const fv_cpu_kernel KERNEL(conv2d) = CONVOLUTION;
const fv_cpu_kernel KERNEL(conv2d_bias_activation) = CONVOLUTION;
const fv_cpu_kernel KERNEL(conv2d_data_gradient) = CONVOLUTION;
const fv_cpu_kernel KERNEL(conv2d_transpose_bias_activation) = CONVOLUTION;
const fv_cpu_kernel KERNEL(conv2d_weight_gradient) = CONVOLUTION;
