/* registry.c - from a device's name to an open device: the table of built-in backends, then plugins. A device asked
 * for by name is opened or refused with the reason; only "auto" chooses, and the device line says why it did not
 * choose a GPU. */
#define _GNU_SOURCE
#include "core/core.h"
#include <stdlib.h>
#include <string.h>

static const fv_backend *const built_in[] = { &fv_backend_cpu, &fv_backend_reference, &fv_backend_reference64 };
static const char automatic_plugin[] = "cuda"; /* what "auto" prefers to "cpu" */

enum { BUILT_IN = sizeof(built_in) / sizeof(*built_in), WHY_BYTES = 768 };

typedef struct device_name {
    char stem[32];
    int index;
    bool numbered;
} device_name;

/* Is an environment variable this one digit? */
static bool switched(const char *name, char digit) {
    const char *text = getenv(name);
    return text && text[0] == digit && !text[1];
}

/* "cuda:1" to {"cuda", 1}. */
static int parse(fv_context *context, const char *text, device_name *out) {
    size_t length = strcspn(text, ":");
    const char *digits = text[length] == ':' ? text + length + 1 : NULL;
    *out = (device_name){ .numbered = digits != NULL };
    bool good = length < sizeof out->stem;
    if (good) {
        memcpy(out->stem, text, length);
        good = fv_plugin_name_valid(out->stem);
    }
    if (good && digits) {
        size_t count = strspn(digits, "0123456789");
        good = count >= 1 && count <= 4 && !digits[count];
        if (good) out->index = atoi(digits);
    }
    if (good) return FV_OK;
    return fv_fail(context, FV_ERROR_DEVICE, "device '%.40s' is not a name like auto, cpu, cuda, cuda:1 or reference",
                   text);
}

static const fv_backend *find_built_in(const char *stem) {
    for (int i = 0; i < BUILT_IN; i++)
        if (!strcmp(built_in[i]->name, stem)) return built_in[i];
    return NULL;
}

/* Number of devices of a backend; why when there is none. */
static int count_devices(const fv_backend *backend, char *why, size_t why_bytes) {
    if (!backend->count) return 1;
    why[0] = 0;
    int count = backend->count(why, why_bytes);
    if (count <= 0 && !why[0]) snprintf(why, why_bytes, "there is no such device");
    return count;
}

static int open_device(fv_context *context, const fv_backend *backend, void *plugin, int index) {
    context->plugin = plugin;
    if (backend->count)
        snprintf(context->device_name, sizeof context->device_name, "%s:%d", backend->name, index);
    else
        snprintf(context->device_name, sizeof context->device_name, "%s", backend->name);
    fv_device *device = NULL;
    int status = backend->open(&context->host, index, &device);
    if (status || !device) {
        fv_fail(context, status ? (fv_status)status : FV_ERROR_DEVICE, "device '%s' cannot be opened",
                context->device_name);
        fv_plugin_unload(plugin);
        context->plugin = NULL;
        return context->status;
    }
    context->backend = backend;
    context->capture &= !switched("FOVEA_CAPTURE", '0') && !switched("FOVEA_SYNC", '1');
    context->device = device;
    char description[200] = "";
    backend->describe(device, description, sizeof description);
    snprintf(context->device_line, sizeof context->device_line, description[0] ? "%s, %s" : "%s", context->device_name,
             description);
    return FV_OK;
}

static int open_named(fv_context *context, const char *text) {
    device_name name;
    if (parse(context, text, &name)) return context->status;
    char why[WHY_BYTES];
    void *plugin = NULL;
    const fv_backend *backend = find_built_in(name.stem);
    if (!backend) {
        bool found;
        backend = fv_plugin_load(name.stem, &plugin, &found, why, sizeof why);
        if (!backend) return fv_fail(context, FV_ERROR_DEVICE, "device '%s' cannot be used: %s", text, why);
    }
    int count = count_devices(backend, why, sizeof why);
    if (count <= 0) {
        fv_fail(context, FV_ERROR_DEVICE, "device '%s' cannot be used: %s", text, why);
    } else if (name.index >= count) {
        fv_fail(context, FV_ERROR_DEVICE, "device '%s': %s has %d device%s, counted from 0", text, name.stem, count,
                count == 1 ? "" : "s");
    } else {
        return open_device(context, backend, plugin, name.index);
    }
    fv_plugin_unload(plugin);
    return context->status;
}

/* Why "auto" chose what it did, behind the line that describes the device. */
static void explain_choice(fv_context *context, const char *format, const char *why) {
    size_t used = strlen(context->device_line);
    int length = snprintf(context->device_line + used, sizeof context->device_line - used, format, why);
    if (used + (size_t)length >= sizeof context->device_line)
        strcpy(context->device_line + sizeof context->device_line - 5, "...)");
}

/* The GPU if it is usable, else the CPU. A GPU that is usable but does not open is an error: the user should choose. */
static int open_automatic(fv_context *context) {
    char why[WHY_BYTES];
    void *plugin;
    bool found;
    const fv_backend *backend = fv_plugin_load(automatic_plugin, &plugin, &found, why, sizeof why);
    if (backend && count_devices(backend, why, sizeof why) > 0) {
        if (!open_device(context, backend, plugin, 0)) explain_choice(context, " (%s)", "chosen because it is there");
        return context->status;
    }
    fv_plugin_unload(plugin);
    if (!backend && !found) snprintf(why, sizeof why, "libfovea-%s.so is not installed", automatic_plugin);
    if (open_device(context, &fv_backend_cpu, NULL, 0)) return context->status;
    explain_choice(context, " (no CUDA: %s)", why);
    return FV_OK;
}

int fv_backend_open(fv_context *context, const char *device) {
    bool automatic = !device || !*device || !strcmp(device, "auto");
    if (!automatic) return open_named(context, device);
    const char *chosen = getenv("FOVEA_DEVICE");
    if (chosen && *chosen && strcmp(chosen, "auto") != 0) {
        if (!open_named(context, chosen)) return FV_OK;
        char sentence[sizeof context->error]; /* the user may have forgotten the variable */
        memcpy(sentence, context->error, sizeof sentence);
        snprintf(context->error, sizeof context->error, "FOVEA_DEVICE: %.1000s", sentence);
        return context->status;
    }
    return open_automatic(context);
}

void fv_backend_close(fv_context *context) {
    if (context->device) context->backend->close(context->device);
    fv_plugin_unload(context->plugin);
    context->device = NULL;
    context->plugin = NULL;
    context->backend = NULL;
}

/* ---- What there is ----------------------------------------------------------------------------------------------- */

typedef struct listing {
    void (*each)(void *, const char *, const char *, const char *);
    void *user;
    int usable;
} listing;

/* Opens a device only to let it describe itself. Returns whether it can be used. */
static bool list_one(listing *to, const char *text) {
    fv_context scratch;
    memset(&scratch, 0, sizeof scratch);
    fv_context_prepare(&scratch);
    scratch.threads = scratch.host.threads = fv_thread_count(&scratch, 0);
    bool usable = fv_ok(&scratch) && !fv_backend_open(&scratch, text);
    size_t skip = strlen(scratch.device_name) + 2;
    const char *description = usable && strlen(scratch.device_line) > skip ? scratch.device_line + skip : "";
    if (to->each) to->each(to->user, usable ? scratch.device_name : text, description, usable ? NULL : scratch.error);
    to->usable += usable;
    fv_backend_close(&scratch);
    return usable;
}

static void list_plugin(listing *to, const char *name) {
    char why[WHY_BYTES], text[48];
    void *plugin;
    bool found;
    const fv_backend *backend = fv_plugin_load(name, &plugin, &found, why, sizeof why);
    int count = backend ? count_devices(backend, why, sizeof why) : 0;
    if (count <= 0 && to->each) to->each(to->user, name, "", why);
    for (int i = 0; i < count; i++) {
        snprintf(text, sizeof text, "%s:%d", name, i);
        list_one(to, text);
    }
    fv_plugin_unload(plugin);
}

int fv_devices(void (*each)(void *user, const char *name, const char *description, const char *why), void *user) {
    listing to = { .each = each, .user = user };
    char names[16][32];
    int count = fv_plugin_list(names, 16);
    list_plugin(&to, automatic_plugin);
    for (int i = 0; i < count; i++)
        if (strcmp(names[i], automatic_plugin) != 0 && !find_built_in(names[i])) list_plugin(&to, names[i]);
    for (int i = 0; i < BUILT_IN; i++) list_one(&to, built_in[i]->name);
    return to.usable;
}
