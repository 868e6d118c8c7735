/* progress.h - what fv_fit shows while it runs: a bar with ETA on a terminal, a line an epoch in a pipe or file. */
#ifndef FV_PROGRESS_H
#define FV_PROGRESS_H
#include "fovea.h"

typedef struct fv_progress {
    FILE *stream;       /* NULL: silent */
    bool terminal, colour;
    int width;          /* of the terminal */
    double epoch_begun, drawn; /* seconds of a monotonic clock */
    int first;          /* batch that this run of the epoch began with: a resumed one is not 0 */
    bool shown;         /* a bar stands on the line */
} fv_progress;

void fv_progress_begin(fv_progress *, FILE *stream); /* looks at the stream, NO_COLOR, COLUMNS */
void fv_progress_epoch_begin(fv_progress *, const fv_metrics *);
/* After a batch: redraws at most ten times a second, so it may be called after each. True when a bar is due: reading the running
 * figures from the device costs a wait, so ask first. */
bool fv_progress_due(fv_progress *);
void fv_progress_batch(fv_progress *, const fv_metrics *); /* batch: done so far */
void fv_progress_epoch_end(fv_progress *, const fv_metrics *);
double fv_clock(void); /* monotonic seconds */
#endif
