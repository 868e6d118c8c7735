/* tuned.c - choices among the ways in which a backend can do an operation, as fv_tune measured them: a small JSON file for one kind of
 * device with one version of its libraries. The context holds it from opening to closing and only reads it. */
#include "core/core.h"
#include <inttypes.h>
#include <jansson.h>
#include <string.h>

enum { TUNED_FORMAT = 1, MOST_CHOICE = 1000 };

struct fv_tuned {
    json_t *root;    /* as the file has it */
    json_t *choices; /* of it: an object {"choice", "algorithm", ...} for each operation with its shapes */
    uint64_t hash;   /* of what is chosen, whatever the times were */
};

void fv_context_identity(const fv_context *c, char text[FV_IDENTITY_BYTES]) {
    snprintf(text, FV_IDENTITY_BYTES, "%s", c->backend->name);
    if (c->backend->identity) c->backend->identity(c->device, text, FV_IDENTITY_BYTES);
}

/* FNV-1a */
static uint64_t mix(uint64_t hash, const void *data, size_t bytes) {
    for (const unsigned char *p = data; bytes--; p++) hash = (hash ^ *p) * UINT64_C(1099511628211);
    return hash;
}

/* Sorted by key, so that the order in the file plays no part: sums of the entries' own hashes. */
static int check_choices(fv_context *c, fv_tuned *t, const char *path) {
    const char *key;
    json_t *entry;
    json_object_foreach(t->choices, key, entry) {
        const json_t *number = json_object_get(entry, "choice"), *algorithm = json_object_get(entry, "algorithm");
        const json_int_t choice = json_integer_value(number);
        if (!json_is_integer(number) || choice < 0 || choice > MOST_CHOICE || !json_is_string(algorithm))
            return fv_fail(c, FV_ERROR_FORMAT, "%s: the entry of '%.200s' is no choice with its algorithm", path, key);
        const uint64_t own = mix(UINT64_C(14695981039346656037), key, strlen(key));
        t->hash += mix(own, &choice, sizeof choice);
    }
    return FV_OK;
}

static int check(fv_context *c, fv_tuned *t, const char *path) {
    char here[FV_IDENTITY_BYTES];
    const json_t *format = json_object_get(t->root, "format"), *device = json_object_get(t->root, "device");
    t->choices = json_object_get(t->root, "choices");
    if (!json_is_integer(format) || !json_is_string(device) || !json_is_object(t->choices))
        return fv_fail(c, FV_ERROR_FORMAT, "%s is not a file that 'fovea tune' has written", path);
    if (json_integer_value(format) != TUNED_FORMAT)
        return fv_fail(c, FV_ERROR_FORMAT, "%s is of format %d, this library reads %d", path,
                       (int)json_integer_value(format), TUNED_FORMAT);
    fv_context_identity(c, here);
    if (strcmp(here, json_string_value(device)) != 0)
        return fv_fail(c, FV_ERROR_FORMAT, "%s was measured on %.200s, and this is %s: run 'fovea tune' here", path,
                       json_string_value(device), here);
    return check_choices(c, t, path);
}

int fv_tuned_open(fv_context *c, const char *path) {
    json_error_t error;
    fv_tuned *t = c->tuned = fv_alloc(c, 1, sizeof *t, "tuned choices");
    if (!t) return c->status;
    t->root = json_load_file(path, JSON_REJECT_DUPLICATES, &error);
    if (t->root) return check(c, t, path);
    return fv_fail(c, error.line < 1 ? FV_ERROR_FILE : FV_ERROR_FORMAT, "%s: %s", path, error.text);
}

void fv_tuned_close(fv_context *c) {
    if (c->tuned) json_decref(c->tuned->root);
    fv_free(c->tuned);
    c->tuned = NULL;
}

int fv_tuned_choice(const fv_context *c, const char *key, const char **algorithm) {
    const json_t *entry = c->tuned ? json_object_get(c->tuned->choices, key) : NULL;
    if (!entry) return -1;
    *algorithm = json_string_value(json_object_get(entry, "algorithm"));
    return (int)json_integer_value(json_object_get(entry, "choice"));
}

void fv_tuned_text(const fv_context *c, char text[FV_TUNED_BYTES]) {
    text[0] = 0;
    if (c->tuned) snprintf(text, FV_TUNED_BYTES, "%016" PRIx64, c->tuned->hash);
}

json_t *fv_tuned_new(const fv_context *c) {
    char here[FV_IDENTITY_BYTES];
    fv_context_identity(c, here);
    return json_pack("{s:i, s:s, s:{}}", "format", TUNED_FORMAT, "device", here, "choices");
}
