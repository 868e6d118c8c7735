/* tune.c - fovea tune: times the algorithms that a device has for the operations of networks, in training and inference, and keeps the
 * fastest in a file that programs and the tool take with --tuned. */
#include "tool/tool.h"
#include <string.h>

enum { MODELS = 64 };

typedef struct arguments {
    tool_options common;
    const char *output;
    tool_subject subject[MODELS];
    int count;
} arguments;

static error_t parse(int key, char *text, struct argp_state *state) {
    arguments *a = state->input;
    switch (key) {
    case ARGP_KEY_INIT: state->child_inputs[0] = &a->common; break;
    case 'o': a->output = text; break;
    case ARGP_KEY_ARG:
        if (a->count == MODELS) argp_error(state, "more than %d models", MODELS);
        a->subject[a->count++] = tool_subject_of(state, text);
        break;
    case ARGP_KEY_NO_ARGS: argp_error(state, "which network?"); break;
    case ARGP_KEY_END:
        if (a->common.tuned) argp_error(state, "--tuned would hide what the device does by itself");
        break;
    default: return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

int tool_tune(int argc, char **argv) {
    arguments a = { .output = "tuned.json" };
    const struct argp_option options[] = {
        { "output", 'o', "FILE", 0, "The file (default tuned.json); what it says of other operations on this device stays", 0 }, { 0 } };
    const struct argp_child children[] = { { &tool_argp, 0, "Common options", 8 }, { 0 } };
    argp_parse(&(struct argp){ options, parse, "MODEL[:BATCH]...",
                               "Times the algorithms that the device has for each operation of training and inference.\v"
                               "MODEL is a file or a name that 'fovea --help' lists; BATCH is 128 unless given. Another algorithm adds in another order, so "
                               "results differ in their last digits from those without the file, and repeat with it.", children, 0, 0 },
               argc, argv, 0, NULL, &a);
    fv_context *ctx = tool_open(&a.common, argv[0]);
    for (int i = 0; i < a.count && !fv_error(ctx); i++) {
        fv_net *net = tool_net(ctx, a.subject[i].model);
        for (int train = 1; net && train >= 0 && !fv_error(ctx); train--) {
            tool_step s = { 0 };
            if (!a.common.quiet) printf("%s:%d, %s\n", a.subject[i].model, a.subject[i].batch, train ? "training" : "inference");
            if (!tool_step_make(ctx, net, a.subject[i].batch, train, &s)) fv_tune(s.program, a.output, a.common.quiet ? NULL : stdout);
            tool_step_free(&s);
        }
        fv_net_free(net);
    }
    if (!a.common.quiet && !fv_error(ctx)) printf("written to %s\n", a.output);
    return tool_close(ctx, argv[0]);
}
