/* search.c - where the files of known data sets are looked for: the folder given, else FOVEA_DATA, else the cache
 * folder ($XDG_CACHE_HOME/fovea or ~/.cache/fovea), each with the subfolders that others unpack to, plain before
 * gzip. */
#include "data/data.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { PATH_BYTES = 4096 };

static bool is_file(const char *path) {
    struct stat about;
    return !stat(path, &about) && !S_ISDIR(about.st_mode);
}

/* Tries folder/subfolder/name and the same with .gz. 1: path is it. */
static bool try_folder(const char *folder, const char *subfolder, const char *name, char *path) {
    static const char *const endings[] = { "", ".gz" };
    for (int i = 0; i < 2; i++) {
        int length =
            snprintf(path, PATH_BYTES, "%s/%s%s%s%s", folder, subfolder, *subfolder ? "/" : "", name, endings[i]);
        if (length < PATH_BYTES && is_file(path)) return true;
    }
    return false;
}

static bool search(const char *folder, const char *const *subfolders, const char *name, char *path) {
    if (try_folder(folder, "", name, path)) return true;
    for (; subfolders && *subfolders; subfolders++)
        if (try_folder(folder, *subfolders, name, path)) return true;
    return false;
}

static bool cache_folder(char *path) {
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    if (cache && *cache) return snprintf(path, PATH_BYTES, "%s/fovea", cache) < PATH_BYTES;
    return home && *home && snprintf(path, PATH_BYTES, "%s/.cache/fovea", home) < PATH_BYTES;
}

char *fv_data_find(fv_context *context, const char *folder, const char *const *subfolders, const char *name) {
    const char *variable = getenv("FOVEA_DATA");
    char path[PATH_BYTES], cache[PATH_BYTES], list[256] = "";
    const char *places[2];
    int count = 0;
    if (folder)
        places[count++] = folder;
    else {
        if (variable && *variable) places[count++] = variable;
        if (cache_folder(cache)) places[count++] = cache;
    }
    for (int i = 0; i < count; i++)
        if (search(places[i], subfolders, name, path)) return fv_copy_string(context, path);
    for (size_t length = 0; subfolders && *subfolders && length < sizeof list; subfolders++)
        length += (size_t)snprintf(list + length, sizeof list - length, "%s%s", length ? ", " : "", *subfolders);
    if (!count)
        fv_fail(context, FV_ERROR_FILE, "%s: no folder of data is known; give one or set FOVEA_DATA", name);
    else
        fv_fail(context, FV_ERROR_FILE, "%s: found neither plain nor as .gz in %s%s%s%s%s%s%s", name, places[0],
                count > 1 ? " or " : "", count > 1 ? places[1] : "", *list ? ", nor in the folders " : "", list,
                *list ? " below" : "", folder || variable ? "" : "; FOVEA_DATA is not set");
    return NULL;
}
