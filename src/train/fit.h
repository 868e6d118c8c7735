/* fit.h - one call of fv_fit while it runs.
 *   fit.c  the loop over epochs and batches    session.c  beginning and end
 *   checkpoint.c  files, best weights, steps that are not finite */
#ifndef FV_FIT_H
#define FV_FIT_H
#include "train/progress.h"
#include "train/train.h"

typedef struct fv_session {
    fv_net *net;
    fv_context *context;
    fv_store *store;
    fv_fit_options o;
    fv_callbacks callbacks;
    fv_training *training;
    fv_step full, last;        /* programs NULL when no batch is of that size */
    fv_staging staging;
    fv_evaluation validation;
    int32_t *order;            /* of the epoch: numbers of samples */
    float *rates;              /* of the epoch's batches           */
    int32_t batches, goal;     /* of an epoch; epochs in all       */
    int32_t steps;             /* done by this call                */
    fv_net **family; int32_t family_count;
    float *best;               /* weights of the best epoch so far (restore_best) */
    fv_progress progress;
    fv_metrics now;            /* of the epoch under way           */
    double checked; int32_t unchecked; /* when the device was last asked how it goes, and steps since */
    bool scaled;               /* f16: the loss is scaled, steps may be skipped */
    bool ending;               /* early stopping, or a callback that wants no more */
    bool stopping;             /* the stop flag, or enough steps: to be gone on with later */
} fv_session;

int fv_session_open(fv_session *, fv_net *, const fv_fit_options *);
void fv_session_close(fv_session *);
static inline fv_step *fv_session_step(fv_session *s, int32_t batch) {
    return (int64_t)(batch + 1) * s->o.batch_size > s->o.data->count ? &s->last : &s->full;
}
static inline int64_t fv_session_done(const fv_session *s, int32_t batches) { /* samples */
    int64_t done = (int64_t)batches * s->o.batch_size;
    return done < s->o.data->count ? done : s->o.data->count;
}

/* Waits for the device and reads the running figures; a step that was not finite is explained and ends the training. */
int fv_session_check(fv_session *);
int fv_session_save(fv_session *);       /* last.h5, where there is an output folder */
int fv_session_epoch_files(fv_session *, bool best);
int fv_session_keep_best(fv_session *);
int fv_session_restore_best(fv_session *);
#endif
