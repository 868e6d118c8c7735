/* train.h - training as seen from inside: what fv_fit keeps with the net, what checkpoints carry, the pieces of a step.
 *   fit.h  one fv_fit: fit.c  the loop    session.c  its beginning    checkpoint.c  files, best weights
 *   step.c  recording of training and evaluation tapes    update.c  fv_op_update    feed.c  from a data set to a tape
 *   loss.c  losses and penalties    optimizer.c schedule.c  settings    training.c  state and order of samples
 *   evaluate.c predict.c    history.c curves.c  CSV and curves.svg    progress.c  the bar */
#ifndef FV_TRAIN_H
#define FV_TRAIN_H
#include "data/data.h"
#include "net/net.h"

/* ---- State ------------------------------------------------------------------------------------------------------- */

typedef struct fv_training {
    fv_metrics *history; int32_t count, capacity;
    int32_t best; double best_value;   /* of the monitored figure */
    int32_t waited; double wait_best;  /* epochs without improvement by min_delta (early stopping) */
    double plateau_factor, plateau_best; int32_t plateau_waited, plateau_cooldown;
    uint64_t step;                     /* optimiser steps done                                   */
    int32_t epoch, batch;              /* next to do: epoch from 0, batch within it               */
    double sum_loss, sum_accuracy; int64_t sum_count; /* of the epoch begun, when batch > 0          */
    float metrics[16];                 /* device metrics of the epoch begun                       */
    uint64_t seed;
    int32_t batch_size; int64_t samples;
    fv_optimizer optimizer; fv_schedule schedule;
    char *arguments;                   /* JSON */
    char tuned[FV_TUNED_BYTES];        /* hash of the tuned choices that it runs by, "" without a file */
    int32_t first_epoch;               /* where this run began: schedules count from here          */
    float loss_scale; uint32_t good_steps; /* f16: as in the control block; 0: none yet              */
    bool finished;                     /* the run ended as it should: the next fv_fit begins another */
} fv_training;

fv_training *fv_net_training(fv_net *); /* made when first asked for */
void fv_training_free(fv_training *);
/* Forgets history, position and the optimiser's progress; seeds from the context. */
void fv_training_reset(fv_training *, uint64_t seed);
int fv_training_add(fv_context *, fv_training *, const fv_metrics *); /* to the history */
/* The order of an epoch: a permutation drawn from (seed, epoch), or 0.. without shuffling; numbers within the whole. */
int fv_epoch_order(const fv_dataset *, uint64_t seed, int32_t epoch, bool shuffle, int32_t *order);
int fv_history_write_csv(fv_net *, const char *path);
int fv_curves_write_svg(fv_net *, const char *path);

/* One sentence if a setting is out of its range. */
int fv_optimizer_check(fv_context *, const fv_optimizer *);
bool fv_optimizer_fits(const fv_optimizer *); /* the same without a word */
int fv_schedule_check(fv_context *, const fv_schedule *);
const char *fv_optimizer_name(const fv_optimizer *);
/* After an epoch: the plateau schedule's factor from the monitored figure, as Keras's ReduceLROnPlateau. */
void fv_plateau_observe(fv_training *, double value);

/* ---- A step ------------------------------------------------------------------------------------------------------ */

/* Pairs (sum, compensation) in FV_METRICS. Training and evaluation have their own, so that a callback may evaluate. */
enum { FV_METRIC_LOSS, FV_METRIC_CORRECT, FV_METRIC_TRAINING = 0, FV_METRIC_EVALUATION = 4, FV_METRIC_TOP_K = 6,
       FV_METRIC_ELEMENTS = 16 };

/* How samples come into a program. Resident: the inputs are whole arrays on the device, rows are gathered there.
 * Otherwise they are batches, written before each run from staging memory. */
typedef struct fv_feed {
    fv_dataset *data;
    bool resident;
    fv_value input[FV_DATASET_ARRAYS], target[FV_DATASET_ARRAYS]; /* inputs of the tape */
    fv_value samples;          /* evaluation: i32 [rows], sample numbers, written before each run; training: 0 */
    bool targets;              /* are they used?                                                            */
} fv_feed;
/* Host memory for batches. Where the device streams there are two, pinned, in turns, each with device memory that it passes: so a
 * batch is fetched and copied while the device works on the one before. */
typedef struct fv_staging {
    fv_context *context;
    bool ring;
    int turn;
    void *host[2][2 * FV_DATASET_ARRAYS], *through[2][2 * FV_DATASET_ARRAYS]; /* inputs, then targets */
    size_t bytes[2 * FV_DATASET_ARRAYS];
    int64_t *number;
} fv_staging;

/* Records the reading of a batch of rows samples: gathered, augmented (where control is given), normalised, shaped as the
 * net's inputs. `samples` are the numbers of the rows. */
int fv_feed_record(fv_tape *, fv_net *, fv_feed *, int32_t rows, fv_value samples, fv_value control, fv_value *inputs,
                   fv_value *targets);
int fv_feed_check(fv_net *, fv_dataset *, bool targets); /* do the samples fit the net's inputs and outputs? */
int fv_feed_bind(fv_program *, const fv_feed *);
int fv_feed_write(fv_program *, const fv_feed *, fv_staging *, const int32_t *samples, int32_t rows);
int fv_staging_make(fv_context *, fv_staging *, const fv_feed *, int32_t rows);
void fv_staging_free(fv_staging *);

typedef struct fv_loss_settings {
    fv_loss loss; float smoothing; const fv_loss *losses; const float *weights; fv_loss_function function; void *user;
    const fv_loss_options *options; /* of the loss; with losses one an output */
} fv_loss_settings;
/* The mean loss of all outputs, weighted, with the penalties of the layers; a scalar. */
fv_value fv_loss_record(fv_tape *, fv_net *, const fv_loss_settings *, const fv_value *outputs, const fv_value *targets,
                        int32_t count);
/* What sums up to the number of samples that are right: whose target is among the first k scores, or of yes-or-no
 * outputs the part that is; id 0 where that has no meaning (regression). */
fv_value fv_correct_record(fv_tape *, const fv_loss_settings *, fv_value output, fv_value target, int32_t k);

typedef struct fv_step {
    fv_tape *tape;
    fv_program *program;
    fv_feed feed;
    int32_t rows;
    fv_value loss;
    fv_value output[FV_DATASET_ARRAYS]; int32_t output_count;
    bool accuracy;             /* is the number of correct samples counted? */
    bool cached;               /* the program is the store's: not ours to free */
} fv_step;

typedef struct fv_step_settings {
    fv_net *net;
    fv_dataset *data;
    int32_t batch_size, rows;
    fv_loss_settings loss;
    /* training */
    fv_optimizer optimizer; float clip_value, clip_norm; int64_t batches;
    /* evaluation */
    int32_t top_k;             /* 0: not counted               */
    bool predict;              /* keep the outputs, no targets  */
    bool cached;               /* programs of the store: kept for the next call */
    fv_precision precision;
} fv_step_settings;
int fv_step_training(fv_step *, const fv_step_settings *);
int fv_step_evaluation(fv_step *, const fv_step_settings *);
int fv_step_compile(fv_step *, bool cached);
void fv_step_free(fv_step *);

typedef struct fv_update_settings {
    fv_optimizer optimizer;
    float clip_value, clip_norm;
    fv_value loss;             /* may be absent                   */
    int64_t rates;             /* length of the table; 0: none    */
} fv_update_settings;
int fv_update_record(fv_tape *, fv_net *, const fv_update_settings *);

/* A pass over a data set with evaluation steps: what fv_evaluate and the validation of fv_fit share. */
typedef struct fv_evaluation {
    fv_step full, last;        /* last: the smaller batch at the end, tape NULL when there is none */
    fv_staging staging;
    fv_store *store;           /* of the net: has the figures */
    int32_t *order;            /* numbers of the samples */
    int64_t count; int32_t batch_size;
    bool cached;
} fv_evaluation;
int fv_evaluation_make(fv_evaluation *, const fv_step_settings *, int64_t count);
void fv_evaluation_free(fv_evaluation *);
/* Runs batch after batch; each(user, step, first sample, rows) after each of them may be NULL. */
int fv_evaluation_run(fv_evaluation *, int (*each)(void *user, fv_step *, int64_t first, int32_t rows), void *user);
/* Runs and reads the figures: sums over samples. */
int fv_evaluation_measure(fv_evaluation *, fv_result *);

#endif
