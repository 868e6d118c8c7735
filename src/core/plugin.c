/* plugin.c - backends in libraries of their own, libfovea-NAME.so with one symbol: const fv_backend
 * *fovea_backend(void). Searched in the folders of FOVEA_BACKEND_PATH, then beside this library, then in the folder
 * fovea beside it (so an installation may be moved); never in the current folder. The first file of that name is
 * taken; if it cannot be used, the reason is kept and no other file is tried instead. */
#define _GNU_SOURCE
#include "core/core.h"
#include <dirent.h>
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { FOLDERS = 16, PATH_BYTES = 1024 };
typedef struct folders {
    char path[FOLDERS][PATH_BYTES];
    int count;
} folders;

static void add_folder(folders *list, const char *path, size_t length) {
    if (length == 0 || length >= PATH_BYTES || path[0] != '/' || list->count == FOLDERS) return;
    memcpy(list->path[list->count], path, length);
    list->path[list->count++][length] = 0;
}

static void search_path(folders *list) {
    list->count = 0;
    const char *text = secure_getenv("FOVEA_BACKEND_PATH");
    while (text && *text) {
        size_t length = strcspn(text, ":");
        add_folder(list, text, length);
        text += length + (text[length] == ':');
    }
    Dl_info info;
    static const char anchor; /* an address within this library */
    if (dladdr(&anchor, &info) && info.dli_fname) {
        char *file = strchr(info.dli_fname, '/') ? realpath(info.dli_fname, NULL) : NULL;
        char below[PATH_BYTES];
        size_t length = file ? (size_t)(strrchr(file, '/') - file) : 0;
        if (file) add_folder(list, file, length);
        if (file && snprintf(below, sizeof below, "%.*s/fovea", (int)length, file) < (int)sizeof below)
            add_folder(list, below, strlen(below));
        free(file);
    }
}

bool fv_plugin_name_valid(const char *name) {
    size_t length = strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_");
    return length > 0 && length < 32 && !name[length];
}

static const char *missing_slot(const fv_backend *b) {
    const struct {
        const void *slot;
        const char *name;
    } required[] = {
        { (const void *)b->open, "open" },         { (const void *)b->close, "close" },
        { (const void *)b->describe, "describe" }, { (const void *)b->alloc, "alloc" },
        { (const void *)b->free, "free" },         { (const void *)b->upload, "upload" },
        { (const void *)b->download, "download" }, { (const void *)b->copy, "copy" },
        { (const void *)b->fill, "fill" },         { (const void *)b->sync, "sync" },
        { (const void *)b->kernels, "kernels" },
    };
    for (size_t i = 0; i < sizeof(required) / sizeof(*required); i++)
        if (!required[i].slot) return required[i].name;
    return NULL;
}

/* The ABI number comes first in the struct and is read before anything else of it. */
static bool acceptable(const fv_backend *backend, const char *name, const char *file, char *why, size_t why_bytes) {
    if (!backend) {
        snprintf(why, why_bytes, "%s gives no backend", file);
    } else if (backend->abi != FV_BACKEND_ABI) {
        snprintf(why, why_bytes, "%s was built for backend interface %u, but this library has %d: rebuild it", file,
                 backend->abi, FV_BACKEND_ABI);
    } else if (backend->op_count != FV_OP_COUNT) {
        snprintf(why, why_bytes, "%s was built for %u operations, but this library has %d: rebuild it", file,
                 backend->op_count, FV_OP_COUNT);
    } else if (backend->op_checksum != fv_op_checksum()) {
        snprintf(why, why_bytes, "%s was built for another list of operations (checksum %08x, here %08x): rebuild it",
                 file, backend->op_checksum, fv_op_checksum());
    } else if (missing_slot(backend)) {
        snprintf(why, why_bytes, "%s lacks the function '%s'", file, missing_slot(backend));
    } else if (!backend->name || strcmp(backend->name, name) != 0) {
        snprintf(why, why_bytes, "%s names itself '%s'", file, backend->name ? backend->name : "");
    } else if (backend->real_bytes != 4 && backend->real_bytes != 8) {
        snprintf(why, why_bytes, "%s has f32 elements of %u bytes", file, backend->real_bytes);
    } else {
        return true;
    }
    return false;
}

static const fv_backend *open_file(const char *name, const char *file, void **handle, char *why, size_t why_bytes) {
    /* Vendors' libraries start threads and register exit handlers: once in, they stay. */
    *handle = dlopen(file, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    if (!*handle) {
        const char *error = dlerror();
        snprintf(why, why_bytes, "%s", error ? error : "the dynamic loader failed");
        return NULL;
    }
    const fv_backend *(*entry)(void);
    *(void **)&entry = dlsym(*handle, "fovea_backend");
    if (!entry) {
        snprintf(why, why_bytes, "%s is not a backend: it has no function fovea_backend", file);
    } else {
        const fv_backend *backend = entry();
        if (acceptable(backend, name, file, why, why_bytes)) return backend;
    }
    dlclose(*handle);
    *handle = NULL;
    return NULL;
}

const fv_backend *fv_plugin_load(const char *name, void **handle, bool *found, char *why, size_t why_bytes) {
    *handle = NULL;
    *found = false;
    folders list;
    search_path(&list);
    for (int i = 0; i < list.count; i++) {
        char file[PATH_BYTES + 64];
        snprintf(file, sizeof file, "%s/libfovea-%s.so", list.path[i], name);
        if (access(file, F_OK)) continue;
        *found = true;
        return open_file(name, file, handle, why, why_bytes);
    }
    size_t used = (size_t)snprintf(why, why_bytes, "libfovea-%s.so is not in", name);
    for (int i = 0; i < list.count && used < why_bytes; i++)
        used += (size_t)snprintf(why + used, why_bytes - used, "%s %s", i ? "," : "", list.path[i]);
    return NULL;
}

void fv_plugin_unload(void *handle) {
    if (handle) dlclose(handle);
}

int fv_plugin_list(char (*names)[32], int capacity) {
    folders list;
    search_path(&list);
    int count = 0;
    for (int i = 0; i < list.count; i++) {
        DIR *folder = opendir(list.path[i]);
        const struct dirent *entry;
        while (folder && count < capacity && (entry = readdir(folder))) {
            size_t length = strlen(entry->d_name), prefix = strlen("libfovea-"), suffix = strlen(".so");
            if (length <= prefix + suffix || length - prefix - suffix >= sizeof *names) continue;
            if (strncmp(entry->d_name, "libfovea-", prefix) != 0 || strcmp(entry->d_name + length - suffix, ".so") != 0)
                continue;
            char *name = names[count];
            memcpy(name, entry->d_name + prefix, length - prefix - suffix);
            name[length - prefix - suffix] = 0;
            bool known = !fv_plugin_name_valid(name);
            for (int j = 0; j < count; j++) known |= !strcmp(names[j], name);
            count += !known;
        }
        if (folder) closedir(folder);
    }
    return count;
}
