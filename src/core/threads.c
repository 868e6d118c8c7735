/* threads.c - how many threads to use: what the user says, else the environment, else as many as this process may run
 * at once, which within a container is less than what the machine has. */
#define _GNU_SOURCE
#include "core/core.h"
#include <sched.h>
#include <stdlib.h>
#include <unistd.h>

enum { MOST_THREADS = 1024 };

static int processors(void) {
    cpu_set_t set;
    long count = sched_getaffinity(0, sizeof set, &set) ? sysconf(_SC_NPROCESSORS_ONLN) : CPU_COUNT(&set);
    /* The quota of a control group: microseconds of processor time in each period, or "max". */
    FILE *file = fopen("/sys/fs/cgroup/cpu.max", "re");
    if (file) {
        double quota, period;
        if (fscanf(file, "%lf %lf", &quota, &period) == 2 && period > 0 && quota > 0) {
            long allowed = (long)(quota / period + 0.999);
            if (allowed >= 1 && allowed < count) count = allowed;
        }
        fclose(file);
    }
    return count < 1 ? 1 : count > MOST_THREADS ? MOST_THREADS : (int)count;
}

int fv_thread_count(fv_context *context, int wanted) {
    if (wanted < 0 || wanted > MOST_THREADS)
        return fv_fail(context, FV_ERROR_ARGUMENT, "threads: %d is not within 1..%d", wanted, MOST_THREADS);
    if (wanted) return wanted;
    static const char *const names[] = { "FOVEA_NUM_THREADS", "OMP_NUM_THREADS" };
    for (int i = 0; i < 2; i++) {
        const char *text = getenv(names[i]);
        if (!text || !*text) continue;
        char *end;
        long count = strtol(text, &end, 10);
        bool list = i == 1 && *end == ','; /* OpenMP allows a number for each level of nesting */
        if (end != text && (!*end || list) && count >= 1 && count <= MOST_THREADS) return (int)count;
        if (i == 0)
            return fv_fail(context, FV_ERROR_ARGUMENT, "FOVEA_NUM_THREADS: '%s' is not a number within 1..%d", text,
                           MOST_THREADS);
    }
    return processors();
}
