/* tool.h - the `fovea` command: a table of subcommands in main.c, a file for each. Written on the public header alone. */
#ifndef TOOL_H
#define TOOL_H
#include <argp.h>
#include <fovea.h>

/* Every subcommand: argv[0] is "fovea NAME"; the result is the exit code (0, 1 failure, 2 usage). */
int tool_evaluate(int argc, char **argv);
int tool_summary(int argc, char **argv);
int tool_devices(int argc, char **argv);
int tool_operations(int argc, char **argv);
int tool_layers(int argc, char **argv);
int tool_bench(int argc, char **argv);
int tool_tune(int argc, char **argv);

/* The block that subcommands share, as a child parser: --device, --threads, --precision, --tuned, --no-capture, --json, --quiet. */
typedef struct tool_options { const char *device, *tuned; int threads; fv_precision precision; bool no_capture, json, quiet; } tool_options;
extern const struct argp tool_argp;
fv_context *tool_open(const tool_options *, const char *name);
int tool_close(fv_context *, const char *name);
/* A network: a file (.h5, .keras) or a name of the catalogue. */
fv_net *tool_net(fv_context *, const char *file_or_name);
/* MODEL[:BATCH]; the colon in text becomes its end. */
typedef struct tool_subject { const char *model; int batch; } tool_subject;
tool_subject tool_subject_of(struct argp_state *, char *text);
/* A compiled step with its samples; free also what was made half. */
typedef struct tool_step { fv_tape *tape; fv_program *program; fv_value last; float *result; size_t result_bytes; } tool_step;
int tool_step_make(fv_context *, fv_net *, int batch, bool train, tool_step *);
void tool_step_free(tool_step *);
/* A positive whole or real number of an option, or argp_error. */
long tool_whole(struct argp_state *, const char *option, const char *text);
double tool_real(struct argp_state *, const char *option, const char *text);
#endif
