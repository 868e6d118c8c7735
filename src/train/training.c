/* training.c - what training leaves with the net: history, position, best epoch; and the order in which an epoch takes
 * the samples, drawn from (seed, epoch) so that a resumed epoch needs no memory of earlier ones. */
#include "train/train.h"
#include <math.h>

/* Streams of fv_random that belong to shuffling: this number above, the epoch below. */
#define SHUFFLE_STREAM (UINT64_C(0x53485546) << 32)

void fv_training_reset(fv_training *training, uint64_t seed) {
    fv_metrics *history = training->history;
    int32_t capacity = training->capacity;
    char *arguments = training->arguments;
    *training = (fv_training){ .history = history,
                               .capacity = capacity,
                               .arguments = arguments,
                               .seed = seed,
                               .best = -1,
                               .best_value = INFINITY,
                               .wait_best = INFINITY,
                               .plateau_factor = 1,
                               .plateau_best = INFINITY }; /* the loss scale begins anew, too */
}

fv_training *fv_net_training(fv_net *net) {
    if (!net) return NULL;
    if (!net->training) {
        net->training = fv_alloc(net->object.context, 1, sizeof(fv_training), "the state of training");
        if (!net->training) return NULL;
        fv_training_reset(net->training, net->object.context->seed);
        net->training_free = fv_training_free;
    }
    return net->training;
}

void fv_training_free(fv_training *training) {
    if (!training) return;
    fv_free(training->history);
    fv_free(training->arguments);
    fv_free(training);
}

int fv_training_add(fv_context *context, fv_training *training, const fv_metrics *metrics) {
    if (training->count == training->capacity) {
        int32_t capacity = training->capacity ? 2 * training->capacity : 16;
        fv_metrics *grown = fv_grow(context, training->history, (size_t)training->count, (size_t)capacity,
                                    sizeof *grown, "the history");
        if (!grown) return context->status;
        training->history = grown;
        training->capacity = capacity;
    }
    training->history[training->count++] = *metrics;
    return FV_OK;
}

fv_history fv_net_history(const fv_net *net) {
    if (!net || !net->training) return (fv_history){ .best = -1 };
    const fv_training *t = net->training;
    return (fv_history){ .epoch = t->history, .count = t->count, .best = t->best < t->count ? t->best : -1 };
}

int fv_epoch_order(const fv_dataset *data, uint64_t seed, int32_t epoch, bool shuffle, int32_t *order) {
    if (data->count > INT32_MAX)
        return fv_fail(data->object.context, FV_ERROR_SHAPE, "data set: %lld samples are more than an epoch can number",
                       (long long)data->count);
    for (int64_t i = 0; i < data->count; i++) order[i] = (int32_t)fv_dataset_sample(data, i);
    if (!shuffle) return FV_OK;
    fv_random random = fv_random_make(seed, SHUFFLE_STREAM | (uint32_t)epoch);
    for (int64_t i = data->count - 1; i > 0; i--) { /* Fisher and Yates */
        uint32_t j = fv_random_below(&random, (uint32_t)i + 1);
        int32_t other = order[j];
        order[j] = order[i];
        order[i] = other;
    }
    return FV_OK;
}
