/* keras_state.c - the group /fovea of a checkpoint: what Keras's layout cannot hold. Always: the net's own extras.
 * After a training: where it stands, its history, its settings, and the optimiser's slots as they lie in the stores,
 * so that it goes on bit for bit. No times and no names of machines: equal runs write equal files. */
#include "io/keras.h"
#include "train/train.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- Where training stands, as attributes ------------------------------------------------------------------------ */

/* count 0: a scalar. */
/* clang-format off */
static const struct field { const char *name; char kind; uint8_t count; size_t offset; } fields[] = {
#define FIELD(name, kind, count) { #name, kind, count, offsetof(fv_training, name) }
    FIELD(best, 'i', 0),           FIELD(best_value, 'd', 0),     FIELD(waited, 'i', 0),
    FIELD(wait_best, 'd', 0),      FIELD(plateau_factor, 'd', 0), FIELD(plateau_best, 'd', 0),
    FIELD(plateau_waited, 'i', 0), FIELD(plateau_cooldown, 'i', 0),
    FIELD(step, 'u', 0),           FIELD(epoch, 'i', 0),          FIELD(batch, 'i', 0),
    FIELD(first_epoch, 'i', 0),    FIELD(sum_loss, 'd', 0),       FIELD(sum_accuracy, 'd', 0),
    FIELD(sum_count, 'l', 0),      FIELD(metrics, 'f', 16),       FIELD(seed, 'u', 0),
    FIELD(batch_size, 'i', 0),     FIELD(samples, 'l', 0),
    FIELD(optimizer.kind, 'w', 0), FIELD(optimizer.value, 'f', 15),
    FIELD(schedule.kind, 'w', 0),  FIELD(schedule.value, 'f', 15),
#undef FIELD
};
/* clang-format on */
enum { FIELDS = sizeof fields / sizeof *fields };

static hid_t native_type(char kind) {
    switch (kind) {
    case 'i': return H5T_NATIVE_INT32;
    case 'w': return H5T_NATIVE_UINT32;
    case 'l': return H5T_NATIVE_INT64;
    case 'u': return H5T_NATIVE_UINT64;
    case 'f': return H5T_NATIVE_FLOAT;
    default: return H5T_NATIVE_DOUBLE;
    }
}

/* The figures of an epoch that are kept; seconds are not, for they differ from run to run. */
static const size_t whole[] = { offsetof(fv_metrics, epoch), offsetof(fv_metrics, epochs), offsetof(fv_metrics, batch),
                                offsetof(fv_metrics, batches) };
static const size_t real[] = { offsetof(fv_metrics, loss), offsetof(fv_metrics, accuracy),
                               offsetof(fv_metrics, val_loss), offsetof(fv_metrics, val_accuracy),
                               offsetof(fv_metrics, learning_rate) };
enum { WHOLE = sizeof whole / sizeof *whole, REAL = sizeof real / sizeof *real, COLUMNS = WHOLE + REAL };

static int put_history(fv_h5 *h, hid_t group, const fv_training *training) {
    if (!training->count) return FV_OK;
    fv_shape shape = { .rank = 2, .dim = { training->count, COLUMNS } };
    double *table = fv_alloc(h->context, (size_t)training->count * COLUMNS, sizeof *table, "history");
    for (int32_t row = 0; table && row < training->count; row++) {
        const char *epoch = (const char *)&training->history[row];
        double *out = table + (size_t)row * COLUMNS;
        for (int i = 0; i < WHOLE; i++) out[i] = *(const int32_t *)(epoch + whole[i]);
        for (int i = 0; i < REAL; i++) out[WHOLE + i] = *(const double *)(epoch + real[i]);
    }
    if (table) fv_h5_put_tensor(h, group, "history", H5T_NATIVE_DOUBLE, &shape, table);
    fv_free(table);
    return h->context->status;
}

static int get_history(fv_h5 *h, hid_t group, fv_training *training) {
    fv_shape shape;
    training->count = 0;
    if (!fv_h5_has(h, group, "history")) return h->context->status;
    double *table = fv_h5_get_tensor(h, group, "history", H5T_NATIVE_DOUBLE, &shape);
    if (table && (shape.rank != 2 || shape.dim[1] != COLUMNS || shape.dim[0] > INT32_MAX))
        fv_fail(h->context, FV_ERROR_FORMAT, "%s: its history is no table of %d columns", h->path, COLUMNS);
    fv_metrics *history =
        fv_ok(h->context) ? fv_alloc(h->context, (size_t)shape.dim[0], sizeof *history, "history") : NULL;
    for (int64_t row = 0; history && row < shape.dim[0]; row++) {
        char *epoch = (char *)&history[row];
        for (int i = 0; i < WHOLE; i++) {
            double value = table[row * COLUMNS + i];
            *(int32_t *)(epoch + whole[i]) = value > 0 && value < INT32_MAX ? (int32_t)value : 0;
        }
        for (int i = 0; i < REAL; i++) *(double *)(epoch + real[i]) = table[row * COLUMNS + WHOLE + i];
        history[row].seconds = NAN;
    }
    fv_free(table);
    if (history) {
        fv_free(training->history);
        training->history = history;
        training->count = training->capacity = (int32_t)shape.dim[0];
    }
    return h->context->status;
}

/* One sum over all fields, so that a damaged attribute is noticed. */
static uint32_t sum_fields(const fv_training *training) {
    unsigned char bytes[FIELDS * 64];
    size_t length = 0;
    for (int i = 0; i < FIELDS; i++) {
        size_t size = (fields[i].count ? fields[i].count : 1) * H5Tget_size(native_type(fields[i].kind));
        memcpy(bytes + length, (const char *)training + fields[i].offset, size);
        length += size;
    }
    return fv_h5_checksum(bytes, length);
}

/* ---- The optimiser's slots --------------------------------------------------------------------------------------- */

static const struct {
    fv_region region;
    const char *name;
} slots[] = { { FV_SLOT0, "slot0" }, { FV_SLOT1, "slot1" }, { FV_SLOT2, "slot2" } };

static void slot_path(char path[32], int32_t net, int slot) {
    snprintf(path, 32, "net%d/%s", (int)net, slots[slot].name);
}

static int put_slots(fv_h5 *h, hid_t group, fv_net *const *family, int32_t nets) {
    for (int32_t n = 0; n < nets; n++)
        for (size_t s = 0; s < sizeof slots / sizeof *slots; s++) {
            fv_store *store = family[n]->store;
            if (!store || !store->data[slots[s].region] || !store->parameters) continue;
            fv_shape shape = { .rank = 1, .dim = { store->parameters } };
            float *slot = fv_alloc(h->context, (size_t)store->parameters, sizeof *slot, "the optimiser's state");
            char path[32];
            slot_path(path, n, (int)s);
            if (slot && !fv_store_read(store, slots[s].region, 0, store->parameters, slot))
                fv_h5_put_tensor(h, group, path, H5T_NATIVE_FLOAT, &shape, slot);
            fv_free(slot);
            if (!fv_ok(h->context)) return h->context->status;
        }
    return FV_OK;
}

static int get_slots(fv_h5 *h, hid_t group, fv_net *const *family, int32_t nets) {
    for (int32_t n = 0; n < nets; n++)
        for (size_t s = 0; s < sizeof slots / sizeof *slots; s++) {
            char path[32];
            fv_shape shape;
            slot_path(path, n, (int)s);
            if (!fv_h5_has(h, group, path)) continue;
            float *slot = fv_h5_get_tensor(h, group, path, H5T_NATIVE_FLOAT, &shape);
            fv_store *store = slot ? fv_net_store(family[n]) : NULL;
            if (store && (shape.rank != 1 || shape.dim[0] != store->parameters))
                fv_fail(h->context, FV_ERROR_FORMAT, "%s: the optimiser's state does not fit the net %s", h->path,
                        family[n]->name);
            else if (store && !fv_store_region(store, slots[s].region, 0))
                fv_store_write(store, slots[s].region, 0, store->parameters, slot);
            fv_free(slot);
            if (!fv_ok(h->context)) return h->context->status;
        }
    return FV_OK;
}

/* ---- The group --------------------------------------------------------------------------------------------------- */

static int put_training(fv_h5 *h, hid_t fovea, fv_net *net) {
    const fv_training *training = net->training;
    hid_t group = fv_h5_make_group(h, fovea, "training");
    for (int i = 0; i < FIELDS; i++)
        fv_h5_put_numbers(h, group, fields[i].name, native_type(fields[i].kind), fields[i].count,
                          (const char *)training + fields[i].offset);
    if (training->loss_scale > 0) { /* of a training in f16; outside the sum, which files without it have as well */
        fv_h5_put_numbers(h, group, "loss_scale", H5T_NATIVE_FLOAT, 0, &training->loss_scale);
        fv_h5_put_numbers(h, group, "good_steps", H5T_NATIVE_UINT32, 0, &training->good_steps);
    }
    uint32_t sum = sum_fields(training);
    fv_h5_put_numbers(h, group, "crc32", H5T_NATIVE_UINT32, 0, &sum);
    if (training->arguments) fv_h5_put_text(h, group, "arguments", training->arguments);
    if (*training->tuned) fv_h5_put_text(h, group, "tuned", training->tuned);
    put_history(h, group, training);
    int32_t nets = 0;
    fv_net **family = fv_ok(h->context) ? fv_net_family_list(net, &nets) : NULL;
    if (family) put_slots(h, group, family, nets);
    fv_free(family);
    H5Gclose(group);
    return h->context->status;
}

static uint32_t sum_texts(const char *config, const char *extra) {
    return fv_h5_checksum(config, strlen(config)) ^ (fv_h5_checksum(extra, strlen(extra)) * 31);
}

int fv_keras_put_state(fv_h5 *h, fv_net *net, const char *config, bool training) {
    int32_t format = FV_KERAS_FORMAT;
    json_t *json = fv_ok(h->context) ? fv_net_extra_to_json(net) : NULL;
    char *extra = json ? json_dumps(json, JSON_COMPACT) : NULL;
    json_decref(json);
    if (!extra && fv_ok(h->context)) fv_fail_memory(h->context, "the net's description", 0);
    hid_t group = fv_h5_make_group(h, h->file, "fovea");
    fv_h5_put_numbers(h, group, "format", H5T_NATIVE_INT32, 0, &format);
    fv_h5_put_text(h, group, "version", fv_version());
    if (extra) {
        uint32_t sum = sum_texts(config, extra);
        fv_h5_put_text(h, group, "net", extra);
        fv_h5_put_numbers(h, group, "crc32", H5T_NATIVE_UINT32, 0, &sum);
    }
    if (training && net->training) put_training(h, group, net);
    H5Gclose(group);
    free(extra);
    return h->context->status;
}

static hid_t open_state(fv_h5 *h) {
    int32_t format = 0;
    hid_t group = fv_h5_open_group(h, h->file, "fovea");
    if (!fv_h5_get_numbers(h, group, "format", H5T_NATIVE_INT32, 1, &format) && format != FV_KERAS_FORMAT)
        fv_fail(h->context, FV_ERROR_FORMAT, "%s: its group /fovea is of format %d, but this library reads format %d",
                h->path, (int)format, FV_KERAS_FORMAT);
    return group;
}

json_t *fv_keras_get_extra(fv_h5 *h, const char *config) {
    if (!fv_h5_has(h, h->file, "fovea")) return NULL;
    hid_t group = open_state(h);
    uint32_t sum = 0;
    json_t *json = NULL;
    json_error_t error;
    char *extra = fv_h5_get_text(h, group, "net");
    if (extra && !fv_h5_get_numbers(h, group, "crc32", H5T_NATIVE_UINT32, 1, &sum) && sum != sum_texts(config, extra))
        fv_fail(h->context, FV_ERROR_FORMAT, "%s: the checksum of its description does not fit: the file is damaged",
                h->path);
    if (fv_ok(h->context) && !(json = json_loads(extra, JSON_REJECT_DUPLICATES, &error)))
        fv_fail(h->context, FV_ERROR_FORMAT, "%s: /fovea: %s", h->path, error.text);
    fv_free(extra);
    H5Gclose(group);
    return json;
}

int fv_keras_get_state(fv_h5 *h, fv_net *net) {
    fv_training *training = fv_net_training(net), read = { 0 };
    if (!training) return h->context->status;
    if (!fv_h5_has(h, h->file, "fovea/training"))
        return fv_fail(h->context, FV_ERROR_FORMAT, "%s: holds no state of a training, so none can be resumed from it",
                       h->path);
    hid_t fovea = open_state(h), group = fv_h5_open_group(h, h->file, "fovea/training");
    uint32_t sum = 0;
    for (int i = 0; i < FIELDS; i++)
        fv_h5_get_numbers(h, group, fields[i].name, native_type(fields[i].kind), fields[i].count ? fields[i].count : 1,
                          (char *)&read + fields[i].offset);
    if (!fv_h5_get_numbers(h, group, "crc32", H5T_NATIVE_UINT32, 1, &sum) && sum != sum_fields(&read))
        fv_fail(h->context, FV_ERROR_FORMAT,
                "%s: the checksum of its state of training does not fit: the file is damaged", h->path);
    if (fv_h5_has_attribute(h, group, "loss_scale")) {
        fv_h5_get_numbers(h, group, "loss_scale", H5T_NATIVE_FLOAT, 1, &read.loss_scale);
        fv_h5_get_numbers(h, group, "good_steps", H5T_NATIVE_UINT32, 1, &read.good_steps);
        if (!(read.loss_scale > 0 && read.loss_scale < 0x1p100f))
            fv_fail(h->context, FV_ERROR_FORMAT, "%s: a loss scale of %g", h->path, (double)read.loss_scale);
    }
    char *arguments = fv_h5_has_attribute(h, group, "arguments") ? fv_h5_get_text(h, group, "arguments") : NULL;
    char *tuned = fv_h5_has_attribute(h, group, "tuned") ? fv_h5_get_text(h, group, "tuned") : NULL;
    int32_t nets = 0;
    fv_net **family = fv_ok(h->context) ? fv_net_family_list(net, &nets) : NULL;
    if (family && !get_slots(h, group, family, nets) && !get_history(h, group, training)) {
        for (int i = 0; i < FIELDS; i++)
            memcpy((char *)training + fields[i].offset, (char *)&read + fields[i].offset,
                   (fields[i].count ? fields[i].count : 1) * H5Tget_size(native_type(fields[i].kind)));
        training->loss_scale = read.loss_scale;
        training->good_steps = read.good_steps;
        fv_free(training->arguments);
        training->arguments = arguments;
        arguments = NULL;
        snprintf(training->tuned, sizeof training->tuned, "%s", tuned ? tuned : "");
    }
    fv_free(tuned);
    fv_free(arguments);
    fv_free(family);
    H5Gclose(group);
    H5Gclose(fovea);
    return h->context->status;
}
