/* summary.c - fovea summary FILE|NAME: the table of layers, with sizes. */
#include "tool/tool.h"

typedef struct arguments { tool_options common; const char *model; int batch_size; } arguments;

static error_t parse(int key, char *text, struct argp_state *state) {
    arguments *a = state->input;
    switch (key) {
    case ARGP_KEY_INIT: state->child_inputs[0] = &a->common; break;
    case 'b': a->batch_size = (int)tool_whole(state, "batch-size", text); break;
    case ARGP_KEY_ARG:
        if (a->model) argp_error(state, "one model at a time, not also '%s'", text);
        a->model = text;
        break;
    case ARGP_KEY_END:
        if (!a->model) argp_error(state, "which model? A file, or a name that 'fovea --help' lists");
        break;
    default: return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

static const struct argp_option options[] = { { "batch-size", 'b', "N", 0, "Samples a step, for the memory (default 1)", 0 }, { 0 } };

int tool_summary(int argc, char **argv) {
    arguments a = { .batch_size = 1 };
    const struct argp_child children[] = { { &tool_argp, 0, "Common options", 8 }, { 0 } };
    argp_parse(&(struct argp){ options, parse, "FILE|NAME", "Prints the layers of a model file or of a network known by name.", children, 0, 0 }, argc, argv, 0, NULL, &a);

    fv_context *ctx = tool_open(&a.common, argv[0]);
    fv_net *net = tool_net(ctx, a.model);
    fv_net_size size = { .struct_size = sizeof size };
    if (!a.common.json) fv_summary(net, stdout, a.batch_size);
    else if (!fv_measure(net, a.batch_size, &size))
        printf("{\"parameters\": %lld, \"trainable\": %lld, \"macs\": %lld, \"layers\": %lld, \"training_bytes\": %lld, \"inference_bytes\": %lld}\n",
               (long long)size.parameters, (long long)size.trainable, (long long)size.macs, (long long)size.layers,
               (long long)size.training_bytes, (long long)size.inference_bytes);
    return tool_close(ctx, argv[0]);
}
