/* train.h - training as seen from inside: what fv_fit keeps with the net, and what checkpoints carry.
 *   fit.c  the loop    step.c  recording of training, validation and prediction tapes    optimizer.c schedule.c  settings
 *   evaluate.c predict.c    history.c  CSV    progress.c  the bar    curves.c  curves.svg (src/viz later) */
#ifndef FV_TRAIN_H
#define FV_TRAIN_H
#include "data/data.h"
#include "net/net.h"

typedef struct fv_training {
    fv_metrics *history; int32_t count, capacity;
    int32_t best; double best_value;   /* of the monitored figure */
    int32_t waited;                    /* epochs without improvement (early stopping) */
    double plateau_factor, plateau_best; int32_t plateau_waited, plateau_cooldown;
    uint64_t step;                     /* optimiser steps done                                   */
    int32_t epoch, batch;              /* next to do: epoch from 0, batch within it               */
    double sum_loss, sum_accuracy; int64_t sum_count; /* of the epoch begun, when batch > 0          */
    float metrics[16];                 /* device metrics of the epoch begun                       */
    uint64_t seed;
    int32_t batch_size; int64_t samples;
    fv_optimizer optimizer; fv_schedule schedule;
    char *arguments;                   /* JSON */
} fv_training;

fv_training *fv_net_training(fv_net *); /* made when first asked for */
void fv_training_free(fv_training *);
/* The order of an epoch: a permutation drawn from (seed, epoch), or 0.. without shuffling. */
int fv_epoch_order(const fv_dataset *, uint64_t seed, int32_t epoch, bool shuffle, int32_t *order);
int fv_history_write_csv(fv_net *, const char *path);
int fv_curves_write_svg(fv_net *, const char *path);
#endif
