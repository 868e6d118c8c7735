/* evaluate.c - fovea evaluate FILE --data mnist|cifar10: how many test samples a model file gets right. */
#include "tool/tool.h"
#include <math.h>
#include <string.h>

typedef struct arguments { tool_options common; const char *file, *data, *folder, *model; double scale; int batch_size; } arguments;

static error_t parse(int key, char *text, struct argp_state *state) {
    arguments *a = state->input;
    switch (key) {
    case ARGP_KEY_INIT: state->child_inputs[0] = &a->common; break;
    case 'd':
        if (strcmp(text, "mnist") && strcmp(text, "cifar10")) argp_error(state, "--data is mnist or cifar10, not '%s'", text);
        a->data = text;
        break;
    case 'D': a->folder = text; break;
    case 'm': a->model = text; break;
    case 's': a->scale = tool_real(state, "pixel-scale", text); break;
    case 'b': a->batch_size = (int)tool_whole(state, "batch-size", text); break;
    case ARGP_KEY_ARG:
        if (a->file) argp_error(state, "one FILE at a time, not also '%s'", text);
        a->file = text;
        break;
    case ARGP_KEY_END:
        if (!a->file) argp_error(state, "which FILE?");
        if (!a->data) argp_error(state, "which data? --data mnist or --data cifar10");
        break;
    default: return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

static const struct argp_option options[] = { { "data", 'd', "NAME", 0, "mnist or cifar10: its test split", 0 },
                                              { "data-dir", 'D', "DIR", 0, "Folder of the data (default: FOVEA_DATA, then ~/.cache/fovea)", 0 },
                                              { "model", 'm', "FILE|NAME", 0, "The architecture, where FILE holds weights only", 0 },
                                              { "pixel-scale", 's', "S", 0, "Factor on the pixels 0..255 (default 1/255)", 0 },
                                              { "batch-size", 'b', "N", 0, "Samples at a time", 0 },
                                              { 0 } };

int tool_evaluate(int argc, char **argv) {
    arguments a = { .batch_size = 256 };
    const struct argp_child children[] = { { &tool_argp, 0, "Common options", 8 }, { 0 } };
    argp_parse(&(struct argp){ options, parse, "FILE", "Evaluates a model file of Fovea or Keras (.h5, .keras, .weights.h5).", children, 0, 0 }, argc, argv, 0, NULL, &a);

    fv_context *ctx = tool_open(&a.common, argv[0]);
    fv_net *net = tool_net(ctx, a.model ? a.model : a.file);
    if (a.model) fv_load_weights(net, a.file);
    fv_dataset *test = !strcmp(a.data, "mnist") ? fv_mnist(ctx, a.folder, FV_TEST) : fv_cifar10(ctx, a.folder, FV_TEST);
    if (a.scale > 0) fv_normalize(test, .scale = (float)a.scale);
    fv_result r = { .struct_size = sizeof r };
    if (!fv_evaluate(net, test, .batch_size = a.batch_size, .result = &r)) {
        if (!a.common.quiet && !a.common.json) printf("%lld of %lld right (%.2f %%), loss %.6f\n", (long long)r.correct, (long long)r.total, 100 * r.accuracy, r.loss);
        if (a.common.json) {
            printf("{\"correct\": %lld, \"total\": %lld, \"accuracy\": %.9g, ", (long long)r.correct, (long long)r.total, r.accuracy);
            if (isfinite(r.loss)) printf("\"loss\": %.9g}\n", r.loss);
            else printf("\"loss\": null}\n");
        }
    }
    return tool_close(ctx, argv[0]);
}
