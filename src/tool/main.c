/* main.c - the `fovea` command: finds the subcommand and hands over. */
#include "tool/tool.h"
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const struct { const char *name; int (*run)(int, char **); const char *about; } commands[] = {
    { "evaluate", tool_evaluate, "Accuracy and loss of a model file on a data set" },
    { "summary", tool_summary, "Layers, parameters, multiply-adds and memory of a model file or a named network" },
    { "bench", tool_bench, "Images a second of training and inference, beside what the device can do at most" },
    { "tune", tool_tune, "Times the algorithms that a device has for a network, and writes the fastest to a file" },
    { "operations", tool_operations, "The operations of the tape: shapes, attributes, gradients, backends" },
    { "layers", tool_layers, "The layers of networks: options, defaults, Keras's classes" },
    { "devices", tool_devices, "What this machine can compute on" },
};

static int usage(FILE *stream, int status) {
    fprintf(stream, "Usage: fovea COMMAND [OPTION...]\n\n");
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) fprintf(stream, "  %-11s %s\n", commands[i].name, commands[i].about);
    fprintf(stream, "\nfovea COMMAND --help tells more; fovea --version the version. Networks known by name:\n ");
    for (int i = 0; fv_model_name(i); i++) fprintf(stream, " %s", fv_model_name(i));
    fprintf(stream, "\n");
    return status;
}

int main(int argc, char **argv) {
    argp_err_exit_status = 2;
    if (argc < 2) return usage(stderr, 2);
    if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "help")) return usage(stdout, 0);
    if (!strcmp(argv[1], "--version")) return printf("fovea %s (%s)\n", fv_version(), fv_build_info()), 0;
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
        if (strcmp(argv[1], commands[i].name)) continue;
        char name[64];
        snprintf(name, sizeof name, "fovea %s", commands[i].name);
        argv[1] = name;
        int status = commands[i].run(argc - 1, argv + 1);
        if (fflush(stdout) || ferror(stdout)) return fprintf(stderr, "%s: the output cannot be written: %s\n", name, strerror(errno)), 1;
        return status;
    }
    fprintf(stderr, "fovea: '%s' is not a command; fovea --help lists them\n", argv[1]);
    return 2;
}

static error_t parse(int key, char *text, struct argp_state *state) {
    tool_options *o = state->input;
    switch (key) {
    case 1: o->device = text; break;
    case 2: o->threads = (int)tool_whole(state, "threads", text); break;
    case 3: o->json = true; break;
    case 4: o->no_capture = true; break;
    case 5: o->tuned = text; break;
    case 6:
        for (o->precision = FV_PRECISION_F16; o->precision && strcmp(text, fv_precision_name(o->precision)) != 0;) o->precision--;
        if (!o->precision) argp_error(state, "--precision is f32, tf32, bf16 or f16, not '%s'", text);
        break;
    case 'q': o->quiet = true; break;
    default: return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

const struct argp tool_argp = {
    .options = (const struct argp_option[]){ { "device", 1, "NAME", 0, "auto, cpu, cuda, cuda:N or reference", 8 },
                                             { "threads", 2, "N", 0, "Threads of the CPU", 8 },
                                             { "precision", 6, "NAME", 0, "f32 (default but on GPUs), tf32 (default on GPUs that have it), bf16, f16", 8 },
                                             { "tuned", 5, "FILE", 0, "Take the algorithms that 'fovea tune' wrote to FILE", 8 },
                                             { "no-capture", 4, 0, 0, "A GPU launches each step anew instead of replaying it", 8 },
                                             { "json", 3, 0, 0, "End with one JSON object on a line of its own", 8 },
                                             { "quiet", 'q', 0, 0, "Only the result", 8 },
                                             { 0 } },
    .parser = parse
};

long tool_whole(struct argp_state *state, const char *option, const char *text) {
    char *end;
    errno = 0;
    long n = strtol(text, &end, 10);
    if (errno || end == text || *end || n < 1 || n > 1 << 20) argp_error(state, "--%s takes a whole number from 1 to %d, not '%s'", option, 1 << 20, text);
    return n;
}

double tool_real(struct argp_state *state, const char *option, const char *text) {
    char *end;
    double x = strtod(text, &end);
    if (end == text || *end || !isfinite(x) || x <= 0) argp_error(state, "--%s takes a number above 0, not '%s'", option, text);
    return x;
}

fv_context *tool_open(const tool_options *o, const char *name) {
    fv_context *ctx = fv_open_with(&(fv_open_options){ .struct_size = sizeof(fv_open_options), .device = o->device, .threads = o->threads,
                                                        .no_capture = o->no_capture, .tuned = o->tuned,
                                                        .precision = o->precision });
    if (ctx && !fv_error(ctx)) return ctx;
    fprintf(stderr, "%s: %s\n", name, ctx ? fv_error(ctx) : "out of memory");
    int status = ctx && fv_error_status(ctx) == FV_ERROR_ARGUMENT ? 2 : 1;
    fv_close(ctx);
    exit(status);
}

int tool_close(fv_context *ctx, const char *name) {
    if (fv_error(ctx)) fprintf(stderr, "%s: %s\n", name, fv_error(ctx));
    return fv_close(ctx);
}

fv_net *tool_net(fv_context *ctx, const char *text) {
    const char *point = strrchr(text, '.');
    if (strchr(text, '/') || point || !access(text, F_OK)) return fv_load(ctx, text);
    return fv_model(ctx, text);
}
