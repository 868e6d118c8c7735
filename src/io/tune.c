/* tune.c - fv_tune: the measuring of program/tune.c with the file that keeps its choices. */
#include "io/io.h"
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* What the file says already, if it was measured on this device; else a new one in its place. */
static json_t *old_or_new(fv_context *c, const char *path) {
    json_error_t error;
    char here[FV_IDENTITY_BYTES];
    json_t *root = access(path, F_OK) ? NULL : json_load_file(path, JSON_REJECT_DUPLICATES, &error);
    fv_context_identity(c, here);
    const char *device = json_string_value(json_object_get(root, "device"));
    if (device && !strcmp(device, here) && json_is_object(json_object_get(root, "choices"))) return root;
    json_decref(root);
    return fv_tuned_new(c);
}

static int write_json(fv_context *c, const json_t *root, const char *path) {
    char *text = json_dumps(root, JSON_INDENT(1) | JSON_SORT_KEYS | JSON_REAL_PRECISION(5));
    if (!text) return fv_fail_memory(c, "tuned choices", 0);
    const int status = fv_file_replace(c, path, text, strlen(text));
    free(text);
    return status;
}

int fv_tune(fv_program *p, const char *path, FILE *report) {
    fv_context *c = p ? p->object.context : NULL;
    if (!fv_ok(c)) return c ? c->status : FV_ERROR_ARGUMENT;
    if (!path) return fv_fail(c, FV_ERROR_ARGUMENT, "fv_tune: there is no name for the file");
    if (!c->backend->alternatives)
        return fv_fail(c, FV_ERROR_UNSUPPORTED, "%s has one way for each operation: there is nothing to tune",
                       c->device_name);
    json_t *root = old_or_new(c, path);
    int status =
        root ? fv_program_tune(p, json_object_get(root, "choices"), report) : fv_fail_memory(c, "tuned choices", 0);
    if (!status) status = write_json(c, root, path);
    json_decref(root);
    return status;
}
