/* file.c - files replaced so that a path holds its old contents or the new ones whatever happens: temporary name in
 * the same folder, write, fsync, rename, fsync of the folder. And folders with their parents. */
#include "io/io.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PIECE = 1 << 30, TEMPORARY_NAMES = 100, PATH_BYTES = 4096 };

/* Length of the folder part of a path, its slash included: 0 for a bare name. */
static size_t folder_length(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? (size_t)(slash - path) + 1 : 0;
}

/* A new file beside path, ".NAME.PID.N.tmp": hidden, so that nobody takes it for a checkpoint. */
static int open_temporary(const char *path, char *name, size_t capacity, mode_t mode) {
    size_t folder = folder_length(path);
    for (int n = 0; n < TEMPORARY_NAMES; n++) {
        int length =
            snprintf(name, capacity, "%.*s.%.200s.%ld.%d.tmp", (int)folder, path, path + folder, (long)getpid(), n);
        if (length < 0 || (size_t)length >= capacity) {
            errno = ENAMETOOLONG;
            return -1;
        }
        int fd = open(name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
        if (fd >= 0 || (errno != EEXIST && errno != EINTR)) return fd;
    }
    return -1;
}

static int write_fully(int fd, const unsigned char *data, size_t bytes) {
    while (bytes) {
        ssize_t wrote = write(fd, data, bytes < PIECE ? bytes : PIECE);
        if (wrote < 0 && errno == EINTR) continue;
        if (wrote < 0) return -1;
        if (!wrote) {
            errno = ENOSPC;
            return -1;
        }
        data += wrote;
        bytes -= (size_t)wrote;
    }
    return 0;
}

static int sync_file(int fd) {
    int status;
    do status = fsync(fd);
    while (status && errno == EINTR);
    return status;
}

/* Makes the rename itself durable. Some file systems know no fsync of a folder, and some folders may be written but not
 * read: there nothing more can be done. */
static int sync_folder(const char *path) {
    char folder[PATH_BYTES] = ".";
    size_t length = folder_length(path);
    if (length && length < sizeof folder) memcpy(folder, path, length), folder[length] = 0;
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return errno == EACCES ? 0 : errno;
    int failed = sync_file(fd) && errno != EINVAL && errno != ENOTSUP ? errno : 0;
    close(fd);
    return failed;
}

/* Where to write: a link is followed, so that it goes on pointing at the file. The name must outlive its use. */
static const char *follow(const char *path, char resolved[PATH_MAX]) {
    struct stat about;
    return !lstat(path, &about) && S_ISLNK(about.st_mode) && realpath(path, resolved) ? resolved : path;
}

/* Writes a new file beside `to` and renames it. Returns errno and, in step, what failed. */
static int replace(const char *to, mode_t mode, bool keep_mode, const void *data, size_t bytes, const char **step) {
    char temporary[PATH_BYTES];
    *step = "created";
    int fd = open_temporary(to, temporary, sizeof temporary, mode), failed = fd < 0 ? errno : 0;
    if (failed) return failed;
    *step = "written";
    if ((keep_mode && fchmod(fd, mode)) || write_fully(fd, data, bytes) || sync_file(fd)) failed = errno;
    if (close(fd) && !failed && errno != EINTR) failed = errno;
    if (!failed) {
        *step = "renamed";
        failed = rename(temporary, to) ? errno : 0;
    }
    if (failed) {
        unlink(temporary);
        return failed;
    }
    *step = "made durable";
    return sync_folder(to);
}

int fv_file_replace(fv_context *context, const char *path, const void *data, size_t bytes) {
    if (!fv_ok(context)) return context ? context->status : FV_ERROR_ARGUMENT;
    struct stat about;
    bool exists = !stat(path, &about);
    if (exists && !S_ISREG(about.st_mode))
        return fv_fail(context, FV_ERROR_FILE, "%s: cannot be replaced: it is %s", path,
                       S_ISDIR(about.st_mode) ? "a folder" : "not a regular file");
    char resolved[PATH_MAX];
    const char *step;
    int failed = replace(follow(path, resolved), exists ? about.st_mode & 0777 : 0666, exists, data, bytes, &step);
    if (failed)
        return fv_fail(context, FV_ERROR_FILE, "%s: cannot be %s: %s%s", path, step, strerror(failed),
                       exists && strcmp(step, "made durable") ? "; the file that was there is whole" : "");
    return FV_OK;
}

int fv_folder_make(fv_context *context, const char *path) {
    struct stat about;
    if (!fv_ok(context)) return context ? context->status : FV_ERROR_ARGUMENT;
    char *copy = fv_copy_string(context, path);
    if (!copy) return context->status;
    int failed = 0;
    for (char *end = copy; *end && !failed;) {
        end += strspn(end, "/");
        end += strcspn(end, "/");
        char saved = *end;
        *end = 0;
        if (*copy && mkdir(copy, 0777) && errno != EEXIST && stat(copy, &about))
            failed = errno;
        else if (*copy && !stat(copy, &about) && !S_ISDIR(about.st_mode))
            failed = ENOTDIR;
        *end = saved;
    }
    fv_free(copy);
    if (failed || !*path)
        return fv_fail(context, FV_ERROR_FILE, "%s: the folder cannot be made: %s", path,
                       strerror(failed ? failed : ENOENT));
    return FV_OK;
}
