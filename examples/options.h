/* options.h - the option block that the example programs share, written on fovea.h alone.
 * A program fills in its defaults, calls options_open, builds its net, and ends with options_finish. */
#ifndef OPTIONS_H
#define OPTIONS_H
#include <fovea.h>

typedef struct options {
    /* set by the program before options_open */
    const char *program, *about;  /* "lenet_mnist", one sentence for --help               */
    const char *variants;         /* "table|keras|modern": the first is the default; NULL: the option does not exist */
    bool augments;                /* the program can augment: --augment, --no-augment     */
    bool digits;                  /* --synthetic trains on the drawn digits               */
    int epochs, batch_size;
    float lr, momentum, weight_decay, warmup_epochs;
    const char *opt, *sched;

    /* set from the command line */
    const char *variant, *data_dir, *device, *precision, *output, *resume, *evaluate, *tuned;
    int threads;
    long limit_train, limit_test;
    uint64_t seed;
    bool summary, augment, synthetic, json, quiet, deterministic, no_capture;
    long train_samples;           /* set by options_data */
    char folder[512];             /* where checkpoints, history.csv and curves.svg go     */
    char arguments[512];          /* what determines the training, as JSON for checkpoints */
} options;

/* Parses, checks the options, opens the device, makes the output folder. Does not return on --help or bad usage (exit 2). */
fv_context *options_open(options *, int argc, char **argv);
/* The data set of the split: "mnist" or "cifar10", limited and synthetic as asked for. */
fv_dataset *options_data(options *, fv_context *, const char *name, fv_split);
fv_optimizer options_optimizer(const options *);
fv_schedule options_schedule(const options *);
/* What every program hands to fv_fit beside its data. */
#define OPTIONS_FIT(o)                                                                                                 \
    .epochs = (o).epochs, .batch_size = (o).batch_size, .optimizer = options_optimizer(&(o)),                          \
    .schedule = options_schedule(&(o)), .progress = (o).quiet ? NULL : stderr, .stop = &options_stop,                  \
    .output = (o).folder, .resume = (o).resume, .arguments = (o).arguments
extern volatile sig_atomic_t options_stop; /* set by Ctrl-C; a second one ends the program at once */
/* True when there is something to train: --summary and --evaluate do their work here instead. */
bool options_training(const options *, fv_net *);
/* Evaluates on test, reports (as one JSON object with --json), closes the context. The result is main's. */
int options_finish(const options *, fv_context *, fv_net *, fv_dataset *test);
#endif
