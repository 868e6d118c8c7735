/* options.c - the shared option block: one table for argp, one line of work for each option. Exit codes: 0 fine, 1 a failure at
 * run time, 2 wrong usage, 130 stopped by Ctrl-C after saving. */
#include "options.h"
#include <argp.h>
#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

volatile sig_atomic_t options_stop;

enum { KEY_DATA = 256, KEY_EPOCHS, KEY_LR, KEY_MOMENTUM, KEY_DECAY, KEY_OPT, KEY_SCHED, KEY_WARMUP, KEY_SEED, KEY_DEVICE, KEY_THREADS,
       KEY_LIMIT, KEY_LIMIT_TEST, KEY_OUTPUT, KEY_RESUME, KEY_EVALUATE, KEY_SUMMARY, KEY_AUGMENT, KEY_NO_AUGMENT, KEY_PRECISION, KEY_DETERMINISTIC, KEY_NO_CAPTURE, KEY_TUNED,
       KEY_JSON, KEY_SYNTHETIC, KEY_VARIANT };

static const struct argp_option table[] = {
    { 0, 0, 0, 0, "What to train", 1 },
    { "variant", KEY_VARIANT, "NAME", 0, "Form of the network", 1 },
    { "data-dir", KEY_DATA, "DIR", 0, "Folder of the data (default: FOVEA_DATA, then ~/.cache/fovea)", 1 },
    { "synthetic", KEY_SYNTHETIC, 0, 0, "Train on drawn digits instead of a data set", 1 },
    { "limit-train", KEY_LIMIT, "N", 0, "Use the first N training samples only", 1 },
    { "limit-test", KEY_LIMIT_TEST, "N", 0, "Use the first N test samples only", 1 },
    { "augment", KEY_AUGMENT, 0, 0, "Flip and shift the training images (default)", 1 },
    { "no-augment", KEY_NO_AUGMENT, 0, 0, "Take the training images as they are", 1 },
    { 0, 0, 0, 0, "How", 2 },
    { "epochs", KEY_EPOCHS, "N", 0, "Passes over the training data", 2 },
    { "batch-size", 'b', "N", 0, "Samples a step", 2 },
    { "lr", KEY_LR, "RATE", 0, "Learning rate", 2 },
    { "momentum", KEY_MOMENTUM, "M", 0, "Momentum of SGD, RMSprop, LARS", 2 },
    { "weight-decay", KEY_DECAY, "D", 0, "Weight decay", 2 },
    { "opt", KEY_OPT, "NAME", 0, "Optimiser: sgd, nesterov, adam, adamw, amsgrad, rmsprop, adagrad, adadelta, lion, lamb, lars, muon", 2 },
    { "sched", KEY_SCHED, "NAME", 0, "Schedule: constant, step, multistep, exponential, cosine, linear, polynomial, plateau, onecycle", 2 },
    { "warmup-epochs", KEY_WARMUP, "N", 0, "Raise the learning rate from zero over N epochs", 2 },
    { "seed", KEY_SEED, "N", 0, "Seed of initial weights, shuffling, dropout, augmentation", 2 },
    { 0, 0, 0, 0, "Where", 3 },
    { "device", KEY_DEVICE, "NAME", 0, "auto, cpu, cuda, cuda:N or reference", 3 },
    { "threads", KEY_THREADS, "N", 0, "Threads of the CPU", 3 },
    { "precision", KEY_PRECISION, "NAME", 0,
      "Numbers of activations and factors: f32 (default but on GPUs), tf32 (default on GPUs that have it), bf16, f16",
      3 },
    { "deterministic", KEY_DETERMINISTIC, 0, 0, "Refuse operations whose results vary (no device uses any)", 3 },
    { "tuned", KEY_TUNED, "FILE", 0, "Take the algorithms that 'fovea tune' wrote to FILE", 3 },
    { "no-capture", KEY_NO_CAPTURE, 0, 0, "A GPU launches each step anew instead of replaying it: for debugging", 3 },
    { 0, 0, 0, 0, "Files", 4 },
    { "output", KEY_OUTPUT, "DIR", 0, "Folder of checkpoints, history.csv and curves.svg (default: runs/PROGRAM/NUMBER)", 4 },
    { "resume", KEY_RESUME, "FILE", 0, "Go on from a last.h5", 4 },
    { "evaluate", KEY_EVALUATE, "FILE", 0, "Evaluate the weights of FILE and train nothing", 4 },
    { 0, 0, 0, 0, "What to say", 5 },
    { "summary", KEY_SUMMARY, 0, 0, "Print the layers and train nothing", 5 },
    { "json", KEY_JSON, 0, 0, "End with one JSON object on a line of its own", 5 },
    { "quiet", 'q', 0, 0, "No progress", 5 },
    { 0 }
};

static long whole(struct argp_state *state, const char *name, const char *text, long least, long most) {
    char *end;
    errno = 0;
    long n = strtol(text, &end, 10);
    if (errno || end == text || *end || n < least || n > most)
        argp_error(state, "--%s takes a whole number from %ld to %ld, not '%s'", name, least, most, text);
    return n;
}

static float real(struct argp_state *state, const char *name, const char *text, float least) {
    char *end;
    float x = strtof(text, &end);
    if (end == text || *end || !isfinite(x) || x < least) argp_error(state, "--%s takes a number of at least %g, not '%s'", name, least, text);
    return x;
}

/* One of the words of "a|b|c", as a pointer that lives as long as the command line. */
static const char *word(struct argp_state *state, const char *name, const char *text, const char *choices) {
    size_t n = strlen(text);
    for (const char *c = choices; c; c = strchr(c, '|') ? strchr(c, '|') + 1 : NULL)
        if (n && !strncmp(c, text, n) && (c[n] == '|' || !c[n])) return text;
    argp_error(state, "--%s is one of %s, not '%s'", name, choices, text);
    return text;
}

static error_t parse(int key, char *text, struct argp_state *state) {
    options *o = state->input;
    switch (key) {
    case KEY_VARIANT:
        if (!o->variants) argp_error(state, "this program has no --variant");
        o->variant = word(state, "variant", text, o->variants);
        break;
    case KEY_DATA: o->data_dir = text; break;
    case KEY_SYNTHETIC:
        if (!o->digits) argp_error(state, "--synthetic draws digits: this program trains on other pictures");
        o->synthetic = true;
        break;
    case KEY_LIMIT: o->limit_train = whole(state, "limit-train", text, 1, LONG_MAX); break;
    case KEY_LIMIT_TEST: o->limit_test = whole(state, "limit-test", text, 1, LONG_MAX); break;
    case KEY_AUGMENT:
    case KEY_NO_AUGMENT:
        if (!o->augments) argp_error(state, "this program does not augment its images");
        o->augment = key == KEY_AUGMENT;
        break;
    case KEY_EPOCHS: o->epochs = (int)whole(state, "epochs", text, 1, 1000000); break;
    case 'b': o->batch_size = (int)whole(state, "batch-size", text, 1, 1 << 20); break;
    case KEY_LR: o->lr = real(state, "lr", text, 0); break;
    case KEY_MOMENTUM: o->momentum = real(state, "momentum", text, 0); break;
    case KEY_DECAY: o->weight_decay = real(state, "weight-decay", text, 0); break;
    case KEY_OPT: o->opt = word(state, "opt", text, "sgd|nesterov|adam|adamw|amsgrad|rmsprop|adagrad|adadelta|lion|lamb|lars|muon"); break;
    case KEY_SCHED:
        o->sched = word(state, "sched", text, "constant|step|multistep|exponential|cosine|linear|polynomial|plateau|onecycle");
        break;
    case KEY_WARMUP: o->warmup_epochs = real(state, "warmup-epochs", text, 0); break;
    case KEY_SEED: o->seed = (uint64_t)whole(state, "seed", text, 0, LONG_MAX); break;
    case KEY_DEVICE: o->device = text; break;
    case KEY_THREADS: o->threads = (int)whole(state, "threads", text, 1, 1024); break;
    case KEY_PRECISION: o->precision = word(state, "precision", text, "f32|tf32|bf16|f16"); break;
    case KEY_DETERMINISTIC: o->deterministic = true; break;
    case KEY_TUNED: o->tuned = text; break;
    case KEY_NO_CAPTURE: o->no_capture = true; break;
    case KEY_OUTPUT: o->output = text; break;
    case KEY_RESUME: o->resume = text; break;
    case KEY_EVALUATE: o->evaluate = text; break;
    case KEY_SUMMARY: o->summary = true; break;
    case KEY_JSON: o->json = true; break;
    case 'q': o->quiet = true; break;
    case ARGP_KEY_ARG: argp_error(state, "'%s' is not an option", text); break;
    default: return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

static void print_version(FILE *stream, struct argp_state *state) {
    fprintf(stream, "%s, Fovea %s (%s)\n", state->name, fv_version(), fv_build_info());
}

static void stop(int signal_number) {
    (void)signal_number;
    options_stop = 1;
}

static void fail(const options *o, const char *name, const char *why) {
    fprintf(stderr, "%s: %s: %s\n", o->program, name, why);
    exit(1);
}

/* Makes a folder and its parents. */
static int make_folder(const char *path) {
    char part[512];
    if (snprintf(part, sizeof part, "%s", path) >= (int)sizeof part) return errno = ENAMETOOLONG, -1;
    for (char *c = part + 1; *c; c++)
        if (*c == '/') {
            *c = 0;
            if (mkdir(part, 0777) && errno != EEXIST) return -1;
            *c = '/';
        }
    return mkdir(part, 0777) && errno != EEXIST ? -1 : 0;
}

static void choose_folder(options *o) {
    struct stat s;
    if (o->output) {
        if (snprintf(o->folder, sizeof o->folder, "%s", o->output) >= (int)sizeof o->folder) fail(o, o->output, "the name is too long");
        if (make_folder(o->folder)) fail(o, o->folder, strerror(errno));
        if (stat(o->folder, &s) || !S_ISDIR(s.st_mode)) fail(o, o->folder, "not a folder");
    } else {
        snprintf(o->folder, sizeof o->folder, "runs/%s", o->program);
        if (make_folder(o->folder)) fail(o, o->folder, strerror(errno));
        for (int number = 1;; number++) { /* mkdir decides: two runs at once get two numbers */
            snprintf(o->folder, sizeof o->folder, "runs/%s/%d", o->program, number);
            if (!mkdir(o->folder, 0777)) break;
            if (errno != EEXIST) fail(o, o->folder, strerror(errno));
        }
    }
    if (access(o->folder, W_OK)) fail(o, o->folder, strerror(errno));
}

static fv_precision precision_of(const char *name) {
    for (int p = FV_PRECISION_F32; name && p <= FV_PRECISION_F16; p++)
        if (!strcmp(name, fv_precision_name((fv_precision)p))) return (fv_precision)p;
    return FV_PRECISION_DEFAULT;
}

fv_context *options_open(options *o, int argc, char **argv) {
    static char about[512];
    o->device = "auto";
    o->augment = o->augments;
    if (o->variants) {
        static char first[64];
        snprintf(first, sizeof first, "%.*s", (int)strcspn(o->variants, "|"), o->variants);
        o->variant = first;
    }
    snprintf(about, sizeof about, "%s\v%s%s%s", o->about, o->variants ? "Variants: " : "", o->variants ? o->variants : "",
             o->variants ? " (the first is the default)." : "");
    argp_err_exit_status = 2;
    argp_program_version_hook = print_version;
    argp_parse(&(struct argp){ .options = table, .parser = parse, .doc = about }, argc, argv, 0, NULL, o);

    fv_context *ctx = fv_open_with(&(fv_open_options){ .struct_size = sizeof(fv_open_options), .device = o->device, .threads = o->threads, .seed = o->seed,
                                                        .no_capture = o->no_capture, .tuned = o->tuned,
                                                       .precision = precision_of(o->precision) });
    if (!ctx || fv_error(ctx)) {
        fprintf(stderr, "%s: %s\n", o->program, ctx ? fv_error(ctx) : "out of memory");
        int status = ctx && fv_error_status(ctx) == FV_ERROR_ARGUMENT ? 2 : 1;
        fv_close(ctx);
        exit(status);
    }
    const char *const inputs[] = { o->resume, o->evaluate };
    for (int i = 0; i < 2; i++)
        if (inputs[i] && access(inputs[i], R_OK)) fail(o, inputs[i], strerror(errno));
    if (!o->summary && !o->evaluate) choose_folder(o);
    if (!o->quiet && !o->summary) fprintf(stderr, "device: %s\n", fv_device_line(ctx));
    snprintf(o->arguments, sizeof o->arguments,
             "{\"program\": \"%s\", \"variant\": \"%s\", \"epochs\": %d, \"batch_size\": %d, \"lr\": %g, \"momentum\": %g, \"weight_decay\": %g, "
             "\"opt\": \"%s\", \"sched\": \"%s\", \"warmup_epochs\": %g, \"seed\": %llu, \"augment\": %s, \"precision\": \"%s\"}",
             o->program, o->variant ? o->variant : "", o->epochs, o->batch_size, o->lr, o->momentum, o->weight_decay, o->opt, o->sched,
             o->warmup_epochs, (unsigned long long)o->seed, o->augment ? "true" : "false", o->precision ? o->precision : "default");
    struct sigaction action = { .sa_handler = stop, .sa_flags = (int)SA_RESETHAND };
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    return ctx;
}

fv_dataset *options_data(options *o, fv_context *ctx, const char *name, fv_split split) {
    if (o->summary) return NULL;
    if (o->evaluate && split == FV_TRAIN) return NULL;
    fv_dataset *data = o->synthetic ? fv_digits(ctx, split == FV_TRAIN ? 20000 : 4000, split == FV_TRAIN ? 1 : 2)
                     : !strcmp(name, "cifar10") ? fv_cifar10(ctx, o->data_dir, split)
                                                : fv_mnist(ctx, o->data_dir, split);
    long limit = split == FV_TRAIN ? o->limit_train : o->limit_test;
    if (limit && limit < fv_dataset_count(data)) data = fv_dataset_take(data, 0, limit);
    if (split == FV_TRAIN) o->train_samples = (long)fv_dataset_count(data);
    return data;
}

fv_optimizer options_optimizer(const options *o) {
    float lr = o->lr > 0 ? o->lr : FV_ZERO, decay = o->weight_decay > 0 ? o->weight_decay : FV_ZERO;
    float momentum = o->momentum > 0 ? o->momentum : FV_ZERO;
    static const struct { const char *name; fv_optimizer (*make)(const fv_adam_options *); } like_adam[] = {
        { "adam", fv_adam_with }, { "adamw", fv_adamw_with }, { "lion", fv_lion_with }, { "lamb", fv_lamb_with } };
    for (size_t i = 0; i < sizeof like_adam / sizeof *like_adam; i++)
        if (!strcmp(o->opt, like_adam[i].name))
            return like_adam[i].make(&(const fv_adam_options){ .struct_size = sizeof(fv_adam_options), .learning_rate = lr, .weight_decay = decay });
    if (!strcmp(o->opt, "amsgrad")) return fv_adam(.learning_rate = lr, .weight_decay = decay, .amsgrad = true);
    if (!strcmp(o->opt, "rmsprop")) return fv_rmsprop(.learning_rate = lr, .momentum = momentum, .weight_decay = decay);
    if (!strcmp(o->opt, "adagrad")) return fv_adagrad(.learning_rate = lr, .weight_decay = decay);
    if (!strcmp(o->opt, "adadelta")) return fv_adadelta(.learning_rate = lr, .weight_decay = decay);
    if (!strcmp(o->opt, "lars")) return fv_lars(.learning_rate = lr, .momentum = momentum, .weight_decay = decay);
    if (!strcmp(o->opt, "muon")) return fv_muon(.learning_rate = lr, .weight_decay = decay);
    return fv_sgd(.learning_rate = lr, .momentum = o->momentum, .weight_decay = o->weight_decay, .nesterov = !strcmp(o->opt, "nesterov"));
}

fv_schedule options_schedule(const options *o) {
    const fv_schedule_options s = { .struct_size = sizeof s, .warmup_epochs = o->warmup_epochs,
                                    .milestones = { 0.5f * (float)o->epochs, 0.75f * (float)o->epochs },
                                    .step_epochs = fmaxf(1, (float)o->epochs / 3) };
    static const struct { const char *name; fv_schedule (*make)(const fv_schedule_options *); } makers[] = {
        { "constant", fv_constant_schedule_with }, { "step", fv_step_with }, { "multistep", fv_multi_step_with },
        { "exponential", fv_exponential_with }, { "cosine", fv_cosine_with }, { "linear", fv_linear_with },
        { "polynomial", fv_polynomial_with }, { "plateau", fv_plateau_with }, { "onecycle", fv_one_cycle_with } };
    for (size_t i = 0; i < sizeof makers / sizeof *makers; i++)
        if (!strcmp(o->sched, makers[i].name)) return makers[i].make(&s);
    return fv_constant_schedule_with(&s);
}

bool options_training(const options *o, fv_net *net) {
    if (o->summary) {
        fv_summary(net, stdout, o->batch_size);
        if (o->json) {
            fv_net_size size = { .struct_size = sizeof size };
            if (!fv_measure(net, o->batch_size, &size))
                printf("{\"parameters\": %lld, \"trainable\": %lld, \"macs\": %lld, \"layers\": %lld, \"training_bytes\": %lld, \"inference_bytes\": %lld}\n",
                       (long long)size.parameters, (long long)size.trainable, (long long)size.macs, (long long)size.layers,
                       (long long)size.training_bytes, (long long)size.inference_bytes);
        }
    } else if (o->evaluate) fv_load_weights(net, o->evaluate);
    return !o->summary && !o->evaluate;
}

static void print_number(const char *name, double x) { /* JSON knows no NaN */
    if (isfinite(x)) printf("\"%s\": %.9g, ", name, x);
    else printf("\"%s\": null, ", name);
}

int options_finish(const options *o, fv_context *ctx, fv_net *net, fv_dataset *test) {
    fv_result r = { .struct_size = sizeof r };
    if (!o->summary && !fv_evaluate(net, test, .result = &r)) {
        fv_history h = fv_net_history(net);
        double seconds = 0;
        for (int i = 0; i < h.count; i++) seconds += h.epoch[i].seconds;
        if (!o->quiet) fprintf(stderr, "test: %lld of %lld right (%.2f %%), loss %.4f\n", (long long)r.correct, (long long)r.total, 100 * r.accuracy, r.loss);
        if (!o->quiet && !o->evaluate) fprintf(stderr, "files: %s\n", o->folder);
        if (o->json) {
            fv_net_size size = { .struct_size = sizeof size };
            fv_measure(net, o->batch_size, &size);
            printf("{");
            print_number("test_accuracy", r.accuracy);
            print_number("test_loss", r.loss);
            print_number("train_loss", h.count ? h.epoch[h.count - 1].loss : NAN);
            print_number("train_images_per_second", seconds > 0 ? (double)o->train_samples * h.count / seconds : NAN);
            print_number("seconds", seconds);
            printf("\"parameters\": %lld, \"device\": \"%s\"}\n", (long long)size.parameters, fv_device_name(ctx));
        }
    }
    bool stopped = fv_error_status(ctx) == FV_ERROR_STOPPED;
    if (fv_error(ctx)) fprintf(stderr, "%s: %s\n", o->program, fv_error(ctx));
    int status = fv_close(ctx);
    if (fflush(stdout) || ferror(stdout)) {
        fprintf(stderr, "%s: the output cannot be written: %s\n", o->program, strerror(errno));
        status = 1;
    }
    return stopped ? 130 : status;
}
