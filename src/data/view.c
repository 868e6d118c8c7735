/* view.c - views of data sets: a range of samples, or a random or stratified split. A view of a view refers to the
 * whole, so that reading through it costs one table of sample numbers and no more. */
#include "data/data.h"
#include <string.h>

enum { STREAM_SPLIT = 0x73706c69, FETCH_BYTES = 1 << 22 };

/* index: the view's samples in the whole, which it takes over (also on failure); NULL: the first count. */
static fv_dataset *make_view(fv_dataset *from, int32_t *index, int64_t count) {
    fv_context *context = from->object.context;
    fv_dataset *view = fv_dataset_new(context), *whole = fv_dataset_source(from);
    if (!view) {
        fv_free(index);
        return NULL;
    }
    view->whole = whole;
    view->index = index;
    view->count = count;
    view->input_count = whole->input_count;
    view->target_count = whole->target_count;
    for (int i = 0; i < FV_DATASET_ARRAYS; i++) {
        const fv_dataset_array *input = &whole->input[i], *target = &whole->target[i];
        view->input[i] = (fv_dataset_array){ .type = input->type, .shape = input->shape, .data = input->data };
        view->target[i] = (fv_dataset_array){ .type = target->type, .shape = target->shape, .data = target->data };
    }
    view->classes = whole->classes;
    view->fetch = whole->fetch;
    view->user = whole->user;
    view->normalize = from->normalize;
    view->normalized = from->normalized;
    view->augment = from->augment;
    return view;
}

fv_dataset *fv_dataset_take(fv_dataset *set, int64_t first, int64_t count) {
    if (!set || !fv_ok(set->object.context)) return NULL;
    fv_context *context = set->object.context;
    if (first < 0 || count < 1 || first >= set->count || count > set->count - first) {
        fv_fail(context, FV_ERROR_ARGUMENT, "fv_dataset_take: %lld samples from number %lld on, but there are %lld",
                (long long)count, (long long)first, (long long)set->count);
        return NULL;
    }
    int32_t *index = NULL;
    if (first || set->index) {
        if (!(index = fv_alloc(context, (size_t)count, sizeof *index, "sample numbers of a view"))) return NULL;
        for (int64_t i = 0; i < count; i++) index[i] = (int32_t)fv_dataset_sample(set, first + i);
    }
    return make_view(set, index, count);
}

/* ---- Labels ------------------------------------------------------------------------------------------------------ */

/* One label of target 0, where it lies at sample number i of data: i32 [n], or the largest of f32 [n, classes]. */
static int32_t label_of(const fv_dataset *set, const void *data, int64_t i) {
    if (fv_dataset_has_labels(set)) return ((const int32_t *)data)[i];
    const fv_shape *shape = &set->target[0].shape;
    if (!set->classes || set->target[0].type != FV_F32 || shape->rank != 2 || shape->dim[1] != set->classes) return -1;
    const float *row = (const float *)data + i * shape->dim[1];
    int32_t best = 0;
    for (int32_t c = 1; c < set->classes; c++)
        if (row[c] > row[best]) best = c;
    return best;
}

static void free_buffers(void **buffers) {
    for (int i = 0; i < 2 * FV_DATASET_ARRAYS; i++) fv_free(buffers[i]);
}

/* Labels behind a callback: it fills whole samples, so they are asked for in pieces of a few megabytes. */
static int fetch_labels(fv_dataset *set, int64_t first, int64_t count, int32_t *labels) {
    fv_context *context = set->object.context;
    void *buffer[2 * FV_DATASET_ARRAYS] = { 0 };
    size_t bytes = 0;
    for (int32_t i = 0; i < set->input_count + set->target_count; i++)
        bytes += fv_dataset_array_bytes(i < set->input_count ? &set->input[i] : &set->target[i - set->input_count]);
    int64_t piece = bytes < FETCH_BYTES ? FETCH_BYTES / (int64_t)(bytes + 1) : 1;
    if (piece > count) piece = count;
    for (int32_t i = 0; i < set->input_count + set->target_count; i++) {
        bool input = i < set->input_count;
        size_t size = fv_dataset_array_bytes(input ? &set->input[i] : &set->target[i - set->input_count]);
        int slot = input ? i : FV_DATASET_ARRAYS + i - set->input_count;
        if (!(buffer[slot] = fv_alloc(context, (size_t)piece, size ? size : 1, "samples read for their labels"))) break;
    }
    int64_t *number = fv_alloc(context, (size_t)piece, sizeof *number, "sample numbers");
    for (int64_t done = 0; fv_ok(context) && done < count; done += piece) {
        int part = (int)(count - done < piece ? count - done : piece);
        for (int i = 0; i < part; i++) number[i] = fv_dataset_sample(set, first + done + i);
        if (fv_dataset_fetch(set, number, part, buffer, buffer + FV_DATASET_ARRAYS)) break;
        for (int i = 0; i < part; i++) labels[done + i] = label_of(set, buffer[FV_DATASET_ARRAYS], i);
    }
    fv_free(number);
    free_buffers(buffer);
    return context->status;
}

static int read_labels(fv_dataset *set, int64_t first, int64_t count, int32_t *labels) {
    if (set->target_count && !set->target[0].data) return fetch_labels(set, first, count, labels);
    for (int64_t i = 0; i < count; i++)
        labels[i] = set->target_count ? label_of(set, set->target[0].data, fv_dataset_sample(set, first + i)) : -1;
    return FV_OK;
}

int fv_dataset_labels(fv_dataset *set, int32_t *labels) { return read_labels(set, 0, set->count, labels); }

int fv_dataset_label(const fv_dataset *set, int64_t sample) {
    int32_t label = -1;
    if (!set || sample < 0 || sample >= set->count) return -1;
    return read_labels((fv_dataset *)set, sample, 1, &label) ? -1 : label; /* reading changes nothing but the error */
}

/* ---- Splits ------------------------------------------------------------------------------------------------------ */

/* Draws `wanted` of the positions in pool, without repetition, and marks them. */
static void draw(fv_random *random, int32_t *pool, int64_t count, int64_t wanted, unsigned char *mark) {
    for (int64_t i = 0; i < wanted; i++) {
        int64_t j = i + fv_random_below(random, (uint32_t)(count - i));
        int32_t drawn = pool[j];
        pool[j] = pool[i];
        mark[drawn] = 1;
    }
}

/* Shares `wanted` among groups of the given sizes in proportion: whole parts first, then one each to the largest
 * remainders (Hamilton's method), the earlier group winning a tie. Gives exactly `wanted`, since wanted <= the sum of
 * the sizes. */
static void share(const int64_t *size, int32_t groups, int64_t total, int64_t wanted, int64_t *part) {
    int64_t left = wanted;
    for (int32_t g = 0; g < groups; g++) {
        part[g] = (int64_t)((unsigned __int128)size[g] * (uint64_t)wanted / (uint64_t)total);
        left -= part[g];
    }
    for (; left > 0; left--) {
        int32_t best = -1;
        int64_t largest = -1;
        for (int32_t g = 0; g < groups; g++) {
            int64_t whole = (int64_t)((unsigned __int128)size[g] * (uint64_t)wanted / (uint64_t)total);
            int64_t remainder = (int64_t)((unsigned __int128)size[g] * (uint64_t)wanted % (uint64_t)total);
            if (part[g] == whole && part[g] < size[g] && remainder > largest) {
                largest = remainder;
                best = g;
            }
        }
        part[best]++;
    }
}

/* Marks `wanted` positions so that each class has its share. */
static int draw_stratified(fv_dataset *set, fv_random *random, int64_t wanted, unsigned char *mark) {
    fv_context *context = set->object.context;
    if (set->classes < 1)
        return fv_fail(context, FV_ERROR_ARGUMENT,
                       "fv_dataset_split: a stratified split needs labels, but this set has none");
    size_t classes = (size_t)set->classes, count = (size_t)set->count;
    int32_t *label = fv_alloc(context, count, sizeof *label, "labels");
    int32_t *pool = fv_alloc(context, count, sizeof *pool, "samples by class");
    int64_t *size = fv_alloc(context, classes, sizeof *size, "class sizes");
    int64_t *part = fv_alloc(context, classes, sizeof *part, "class shares");
    int64_t *start = fv_alloc(context, classes, sizeof *start, "class starts");
    if (fv_ok(context) && !fv_dataset_labels(set, label))
        for (size_t i = 0; i < count; i++) {
            if (label[i] < 0 || label[i] >= set->classes) {
                fv_fail(context, FV_ERROR_ARGUMENT,
                        "fv_dataset_split: a stratified split needs labels, but sample %zu has none", i);
                break;
            }
            size[label[i]]++;
        }
    if (fv_ok(context)) {
        for (size_t c = 1; c < classes; c++) start[c] = start[c - 1] + size[c - 1];
        for (size_t i = 0; i < count; i++) pool[start[label[i]]++] = (int32_t)i;
        share(size, set->classes, set->count, wanted, part);
        for (size_t c = 0; c < classes; c++) draw(random, pool + start[c] - size[c], size[c], part[c], mark);
    }
    fv_free(label);
    fv_free(pool);
    fv_free(size);
    fv_free(part);
    fv_free(start);
    return context->status;
}

static int draw_random(fv_dataset *set, fv_random *random, int64_t wanted, unsigned char *mark) {
    int32_t *pool = fv_alloc(set->object.context, (size_t)set->count, sizeof *pool, "samples to draw from");
    if (!pool) return FV_ERROR_MEMORY;
    for (int64_t i = 0; i < set->count; i++) pool[i] = (int32_t)i;
    draw(random, pool, set->count, wanted, mark);
    fv_free(pool);
    return FV_OK;
}

/* A view of the positions whose mark is `which`, in their old order. */
static fv_dataset *view_of_marked(fv_dataset *set, const unsigned char *mark, unsigned char which, int64_t count) {
    int32_t *index = fv_alloc(set->object.context, (size_t)count, sizeof *index, "sample numbers of a view");
    if (!index) return NULL;
    for (int64_t i = 0, n = 0; i < set->count; i++)
        if (mark[i] == which) index[n++] = (int32_t)fv_dataset_sample(set, i);
    return make_view(set, index, count);
}

int fv_dataset_split(fv_dataset *set, float fraction, bool stratified, uint64_t seed, fv_dataset **first,
                     fv_dataset **second) {
    if (first) *first = NULL;
    if (second) *second = NULL;
    if (!set || !fv_ok(set->object.context)) return set ? set->object.context->status : FV_ERROR_ARGUMENT;
    fv_context *context = set->object.context;
    int64_t wanted = fraction > 0 && fraction < 1 ? (int64_t)((double)fraction * (double)set->count + 0.5) : 0;
    if (wanted < 1 || wanted >= set->count)
        return fv_fail(context, FV_ERROR_ARGUMENT,
                       "fv_dataset_split: a part of %g of %lld samples leaves one side empty", (double)fraction,
                       (long long)set->count);
    unsigned char *mark = fv_alloc(context, (size_t)set->count, 1, "marks of a split");
    fv_random random = fv_random_make(seed, STREAM_SPLIT);
    fv_dataset *one = NULL, *other = NULL;
    if (mark && !(stratified ? draw_stratified : draw_random)(set, &random, wanted, mark)) {
        one = first ? view_of_marked(set, mark, 1, wanted) : NULL;
        other = second && fv_ok(context) ? view_of_marked(set, mark, 0, set->count - wanted) : NULL;
    }
    fv_free(mark);
    if (!fv_ok(context)) {
        fv_dataset_free(other);
        fv_dataset_free(one);
        return context->status;
    }
    if (first) *first = one;
    if (second) *second = other;
    return FV_OK;
}
