/* bench.c - fovea bench: how fast networks train and infer. A step is what fv_fit compiles for one batch, on samples drawn
 * once and left on the device: nothing is loaded. Figures are medians of many short measurements, so that what else runs
 * on the machine shows little. */
#define _GNU_SOURCE
#include "tool/tool.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MODELS = 64, SAMPLES = 512, FEWEST = 7, PROFILE_RUNS = 9 };
enum { TRAIN = 1, INFER = 2 };
static const char *const mode_name[] = { [TRAIN] = "train", [INFER] = "infer" };

typedef struct subject { tool_subject is; int modes; } subject;
typedef struct arguments {
    tool_options common;
    subject subject[MODELS];
    int count, modes;
    bool operations;
    double seconds;
} arguments;

/* What `make bench` runs: training as papers train these nets; inference by 128 images, and one at a time. */
static const struct { const char *name; int batch; } standard[] = {
    { "lenet5", 128 },        { "mlp", 128 },           { "alexnet_cifar", 128 },
    { "vgg11_bn_cifar", 64 }, { "resnet18_cifar", 64 }, { "mobilenet_cifar", 64 },
};

/* ---- Options ----------------------------------------------------------------------------------------------------- */

static void add_subject(arguments *a, struct argp_state *state, char *text) {
    if (a->count == MODELS) argp_error(state, "more than %d models", MODELS);
    a->subject[a->count++] = (subject){ .is = tool_subject_of(state, text), .modes = TRAIN | INFER };
}

static void add_standard(arguments *a) {
    for (size_t i = 0; i < sizeof standard / sizeof *standard; i++) {
        a->subject[a->count++] = (subject){ { standard[i].name, standard[i].batch }, TRAIN };
        a->subject[a->count++] = (subject){ { standard[i].name, 128 }, INFER };
        a->subject[a->count++] = (subject){ { standard[i].name, 1 }, INFER };
    }
}

static error_t parse(int key, char *text, struct argp_state *state) {
    arguments *a = state->input;
    switch (key) {
    case ARGP_KEY_INIT: state->child_inputs[0] = &a->common; break;
    case 'm':
        a->modes = !strcmp(text, "train") ? TRAIN : !strcmp(text, "infer") ? INFER : !strcmp(text, "both") ? TRAIN | INFER : 0;
        if (!a->modes) argp_error(state, "--mode is train, infer or both, not '%s'", text);
        break;
    case 'o': a->operations = true; break;
    case 's': a->seconds = tool_real(state, "seconds", text); break;
    case ARGP_KEY_ARG: add_subject(a, state, text); break;
    case ARGP_KEY_END:
        if (!a->count) add_standard(a);
        break;
    default: return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

static const struct argp_option options[] = {
    { "mode", 'm', "train|infer|both", 0, "What is measured (default both)", 0 },
    { "operations", 'o', 0, 0, "Also a line an operation: time, GFLOP/s, GB/s, algorithm and why", 0 },
    { "seconds", 's', "S", 0, "Time for each figure (default 2)", 0 },
    { 0 }
};

/* ---- Measuring --------------------------------------------------------------------------------------------------- */

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Seconds for `runs` runs; reading the result waits for the device. */
static double time_runs(tool_step *s, int runs) {
    double begin = now();
    for (int i = 0; i < runs; i++) fv_run(s->program);
    fv_read(s->program, s->last, s->result, s->result_bytes);
    return now() - begin;
}

static int compare(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

/* Median seconds of a run. A measurement takes as many runs as fill five milliseconds. */
static double median_seconds(fv_context *ctx, tool_step *s, double seconds) {
    double sample[SAMPLES], first = 0;
    for (int i = 0; i < 3; i++) first = time_runs(s, 1); /* caches fill, a device captures */
    int runs = (int)fmin(1e6, ceil(5e-3 / fmax(first, 1e-7))), count = 0;
    for (double begin = now(); count < SAMPLES && (count < FEWEST || now() - begin < seconds) && !fv_error(ctx); count++)
        sample[count] = time_runs(s, runs) / runs;
    qsort(sample, (size_t)count, sizeof *sample, compare);
    return count ? sample[count / 2] : 0;
}

typedef struct figures { double seconds, images, gflops, percent, resident; } figures;

/* Memory of the process that is there, in bytes; 0 where the system does not say. */
static double resident_bytes(void) {
    double pages = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    if (f && fscanf(f, "%*s %lf", &pages) != 1) pages = 0;
    if (f) fclose(f);
    return pages * (double)sysconf(_SC_PAGESIZE);
}

static int measure(fv_context *ctx, fv_net *net, const arguments *a, int batch, int mode, double peak, figures *f) {
    tool_step s = { 0 };
    int status = tool_step_make(ctx, net, batch, mode == TRAIN, &s);
    if (!status) {
        f->seconds = median_seconds(ctx, &s, a->seconds);
        f->images = f->seconds > 0 ? batch / f->seconds : 0;
        f->gflops = f->seconds > 0 ? fv_program_flops(s.program) / f->seconds * 1e-9 : 0;
        f->percent = peak > 0 ? 1e11 * f->gflops / peak : 0;
        if (a->operations && !fv_error(ctx)) {
            printf("\n");
            fv_program_profile(s.program, PROFILE_RUNS, stdout);
            printf("\n");
        }
        status = fv_error_status(ctx);
        f->resident += resident_bytes();
        if (!status && !isfinite(s.result[0]))
            fprintf(stderr, "fovea bench: the result is not finite, so the times may be those of other work\n");
    }
    tool_step_free(&s);
    return status;
}

/* ---- Output ------------------------------------------------------------------------------------------------------ */

typedef struct output { FILE *json; char *text; size_t bytes; int results, peaks; } output;

static void print_result(const arguments *a, output *out, const char *model, int batch, const char *device, int threads,
                         int mode, const figures *f) {
    if (!a->common.quiet && !a->common.json)
        printf("%-18s %6d %-10s %-6s %12.1f %11.3f %9.1f %7.1f%%\n", model, batch, device, mode_name[mode], f->images,
               1e3 * f->seconds, f->gflops, f->percent);
    fflush(stdout);
    fprintf(out->json, "%s{\"model\": \"%s\", \"batch\": %d, \"device\": \"%s\", \"threads\": %d, \"mode\": \"%s\", \"images_per_second\": %.6g, "
                       "\"milliseconds\": %.6g, \"gflops\": %.5g, \"percent_of_peak\": %.4g, \"resident_bytes\": %.0f}",
            out->results++ ? ", " : "", model, batch, device, threads, mode_name[mode], f->images, 1e3 * f->seconds, f->gflops, f->percent, f->resident);
}

static int bench_device(const arguments *a, const char *device, const char *name, output *out, char **peaks) {
    tool_options o = a->common;
    o.device = device;
    fv_context *ctx = tool_open(&o, name);
    double flops, bytes;
    if (!fv_device_peak(ctx, &flops, &bytes)) {
        if (!a->common.quiet && !a->common.json) {
            printf("%s, %d thread%s", fv_device_name(ctx), fv_device_threads(ctx), fv_device_threads(ctx) == 1 ? "" : "s");
            if (flops > 0) printf(": at most %.1f GFLOP/s in registers, %.1f GB/s copying", flops * 1e-9, bytes * 1e-9);
            printf("\n%-18s %6s %-10s %-6s %12s %11s %9s %8s\n", "model", "batch", "device", "mode", "images/s", "ms", "GFLOP/s", "of peak");
        }
        char *old = *peaks;
        if (asprintf(peaks, "%s%s{\"device\": \"%s\", \"threads\": %d, \"gflops\": %.5g, \"gigabytes_per_second\": %.5g}", old ? old : "",
                     old ? ", " : "", fv_device_name(ctx), fv_device_threads(ctx), flops * 1e-9, bytes * 1e-9) < 0)
            *peaks = NULL;
        free(old);
    }
    for (int i = 0; i < a->count && !fv_error(ctx); i++)
        for (int mode = TRAIN; mode <= INFER && !fv_error(ctx); mode++) {
            const subject *s = &a->subject[i];
            if (!(s->modes & a->modes & mode)) continue;
            const double before = resident_bytes();
            fv_net *net = tool_net(ctx, s->is.model);
            figures f = { .resident = -before };
            if (net && !measure(ctx, net, a, s->is.batch, mode, flops, &f))
                print_result(a, out, s->is.model, s->is.batch, fv_device_name(ctx), fv_device_threads(ctx), mode, &f);
            fv_net_free(net);
        }
    return tool_close(ctx, name);
}

int tool_bench(int argc, char **argv) {
    arguments a = { .modes = TRAIN | INFER, .seconds = 2 };
    const struct argp_child children[] = { { &tool_argp, 0, "Common options", 8 }, { 0 } };
    argp_parse(&(struct argp){ options, parse, "[MODEL[:BATCH]...]",
                               "Measures how fast networks train and infer, on drawn samples.\v"
                               "MODEL is a file or a name that 'fovea --help' lists; BATCH is 128 unless given. Without any, a standard set. "
                               "--device takes several, separated by commas.", children, 0, 0 }, argc, argv, 0, NULL, &a);
    output out = { 0 };
    char *peaks = NULL, *devices = strdup(a.common.device ? a.common.device : "auto"), *rest = devices;
    out.json = open_memstream(&out.text, &out.bytes);
    int status = out.json && devices ? 0 : 1;
    for (char *device; !status && (device = strsep(&rest, ","));) status = bench_device(&a, device, argv[0], &out, &peaks);
    if (out.json) fclose(out.json);
    if (!status && a.common.json) printf("{\"peaks\": [%s], \"results\": [%s]}\n", peaks ? peaks : "", out.text);
    free(out.text);
    free(devices);
    free(peaks);
    return status;
}
