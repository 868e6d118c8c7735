/* file.c - whole files read into memory with a limit, gzip unpacked on the way. */
#include "data/data.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

enum { PIECE = 1 << 30, MOST_PER_BYTE = 1032 /* deflate unpacks a byte to no more */ };

static int open_regular(fv_context *context, const char *path, size_t *bytes) {
    struct stat about;
    int fd;
    do fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a named pipe would wait for a writer */
    while (fd < 0 && errno == EINTR);
    if (fd < 0) return fv_fail(context, FV_ERROR_FILE, "%s: cannot be opened: %s", path, strerror(errno));
    if (fstat(fd, &about) || !S_ISREG(about.st_mode)) {
        fv_fail(context, FV_ERROR_FILE, "%s: is %s", path, S_ISDIR(about.st_mode) ? "a folder" : "not a regular file");
        close(fd);
        return FV_ERROR_FILE;
    }
    *bytes = (size_t)about.st_size;
    return fd;
}

/* Reads until the end or until the buffer is full; returns how many bytes, or -1. */
static ssize_t read_fully(int fd, unsigned char *to, size_t bytes) {
    size_t done = 0;
    while (done < bytes) {
        ssize_t got = read(fd, to + done, bytes - done < PIECE ? bytes - done : PIECE);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return -1;
        if (!got) break;
        done += (size_t)got;
    }
    return (ssize_t)done;
}

static void *read_plain(fv_context *context, const char *path, size_t limit, size_t *bytes) {
    size_t size = 0;
    int fd = open_regular(context, path, &size);
    if (fd < 0) return NULL;
    unsigned char *data = NULL;
    if (size > limit)
        fv_fail(context, FV_ERROR_FORMAT, "%s: %zu bytes, more than the limit of %zu", path, size, limit);
    else
        data = fv_alloc(context, size + 1, 1, path);
    ssize_t got = data ? read_fully(fd, data, size) : 0;
    if (data && got != (ssize_t)size) {
        fv_fail(context, FV_ERROR_FILE, got < 0 ? "%s: cannot be read: %s" : "%s: became shorter while it was read",
                path, strerror(errno));
        fv_free(data);
        data = NULL;
    }
    close(fd);
    *bytes = size;
    return data;
}

static voidpf zlib_alloc(voidpf context, uInt count, uInt size) {
    return fv_alloc(context, count, size, "unpacking of gzip");
}
static void zlib_free(voidpf context, voidpf memory) { fv_free(memory); }

/* The last four bytes of a gzip file are the length of what it unpacks to, modulo 2^32. */
static size_t length_hint(const unsigned char *packed, size_t size) {
    if (size < 18) return 0;
    const unsigned char *end = packed + size;
    return (size_t)end[-4] | (size_t)end[-3] << 8 | (size_t)end[-2] << 16 | (size_t)end[-1] << 24;
}

/* Unpacks one or several gzip members that follow each other. The capacity grows with what really comes out, so that a
 * length written by somebody else is only a hint. */
static unsigned char *unpack(fv_context *context, const char *path, const unsigned char *packed, size_t size,
                             size_t limit, size_t *bytes) {
    z_stream stream = { .zalloc = zlib_alloc, .zfree = zlib_free, .opaque = context };
    size_t hint = length_hint(packed, size);
    size_t capacity = hint <= limit && hint / MOST_PER_BYTE <= size ? hint + 64 : 1 << 16, done = 0, used = 0;
    unsigned char *data = fv_alloc(context, capacity, 1, path);
    int state = Z_OK;
    if (data && inflateInit2(&stream, 15 + 16) != Z_OK) fv_fail_memory(context, "unpacking of gzip", 0);
    while (fv_ok(context)) {
        size_t in = size - used < PIECE ? size - used : PIECE,
               out = capacity - 1 - done < PIECE ? capacity - 1 - done : PIECE;
        stream.next_in = (unsigned char *)packed + used;
        stream.avail_in = (uInt)in;
        stream.next_out = data + done;
        stream.avail_out = (uInt)out;
        state = inflate(&stream, Z_NO_FLUSH);
        used += in - stream.avail_in;
        done += out - stream.avail_out;
        if (done > limit)
            fv_fail(context, FV_ERROR_FORMAT, "%s: unpacks to more than the limit of %zu bytes", path, limit);
        else if (state == Z_STREAM_END && size - used >= 2 && packed[used] == 0x1f && packed[used + 1] == 0x8b)
            inflateReset(&stream);
        else if (state == Z_STREAM_END)
            break;
        else if (state == Z_MEM_ERROR)
            fv_fail_memory(context, "unpacking of gzip", 0);
        else if (state != Z_OK && state != Z_BUF_ERROR)
            fv_fail(context, FV_ERROR_FORMAT, "%s: is damaged: %s", path, stream.msg ? stream.msg : "not gzip");
        else if (used == size && stream.avail_out)
            fv_fail(context, FV_ERROR_FORMAT, "%s: ends before its gzip data does", path);
        if (fv_ok(context) && done == capacity - 1) {
            unsigned char *more = fv_grow(context, data, capacity, 2 * capacity, 1, path);
            if (more) data = more, capacity *= 2;
        }
    }
    inflateEnd(&stream);
    *bytes = done;
    if (fv_ok(context)) return data;
    fv_free(data);
    return NULL;
}

void *fv_file_read(fv_context *context, const char *path, size_t limit, size_t *bytes) {
    size_t size = 0;
    *bytes = 0;
    if (!fv_ok(context)) return NULL;
    unsigned char *data = read_plain(context, path, limit, &size);
    if (data && size >= 2 && data[0] == 0x1f && data[1] == 0x8b) {
        unsigned char *packed = data;
        data = unpack(context, path, packed, size, limit, &size);
        fv_free(packed);
    }
    if (data) *bytes = size;
    return data;
}
