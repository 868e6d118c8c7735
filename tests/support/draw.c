/* draw.c - what random rows are made of. Row `number` of an operation is always the same. */
#include "support/operations.h"
#include <string.h>

int below(drawing *d, int n) { return (int)fv_random_below(&d->random, (uint32_t)n); }
int between(drawing *d, int low, int high) { return low + below(d, high - low + 1); }
bool chance(drawing *d, int in) { return below(d, in) == 0; }

void say(drawing *d, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    const int length = vsnprintf(d->text + d->used, PROBLEM_TEXT - d->used, format, arguments);
    va_end(arguments);
    d->used += (size_t)length;
}

void say_activation(drawing *d) {
    static const char *const activation[] = { "",      " relu",  " tanh",      " sigmoid",       " leaky_relu alpha0.1", " elu",
                                              " selu", " relu6", " hard_tanh", " hard_sigmoid", " softplus", " softsign" };
    say(d, "%s", activation[below(d, sizeof activation / sizeof *activation)]);
    if (chance(d, 4)) say(d, " nobias");
}

/* " x2,3,4": at least `least` axes */
int say_shape(drawing *d, const char *name, int least, int most, int *dim) {
    const int rank = between(d, least, most);
    say(d, " %s", name);
    for (int axis = 0; axis < rank; axis++) {
        dim[axis] = chance(d, 5) ? 1 : between(d, 1, rank > 3 ? 4 : axis == rank - 1 ? 40 : 7);
        say(d, axis ? ",%d" : "%d", dim[axis]);
    }
    return rank;
}
