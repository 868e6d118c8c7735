/* archive.c - one member of a zip archive in memory, by libzip: stored or deflated, its size checked before it is
 * unpacked. */
#include "io/keras.h"
#include <zip.h>

enum { MOST_PER_BYTE = 1032 /* deflate unpacks a byte to no more */ };

bool fv_archive_is(const void *data, size_t bytes) {
    const unsigned char *p = data;
    return bytes >= 4 && p[0] == 'P' && p[1] == 'K' && p[2] == 3 && p[3] == 4;
}

static const char *check_member(const zip_stat_t *about, size_t limit) {
    const zip_uint64_t needed = ZIP_STAT_SIZE | ZIP_STAT_COMP_SIZE | ZIP_STAT_COMP_METHOD;
    if ((about->valid & needed) != needed) return "its directory is damaged";
    if ((about->valid & ZIP_STAT_ENCRYPTION_METHOD) && about->encryption_method != ZIP_EM_NONE) return "is encrypted";
    if (about->comp_method != ZIP_CM_STORE && about->comp_method != ZIP_CM_DEFLATE)
        return "is packed by a method other than deflate";
    if (about->size > limit || about->size / MOST_PER_BYTE > about->comp_size)
        return "declares more data than there can be";
    return NULL;
}

/* Reads the member to its end, where libzip compares its checksum. */
static void *read_member(fv_context *context, const char *path, const char *member, zip_t *archive,
                         const zip_stat_t *about) {
    unsigned char *data = fv_alloc(context, (size_t)about->size + 1, 1, member);
    zip_file_t *file = data ? zip_fopen_index(archive, about->index, 0) : NULL;
    zip_uint64_t done = 0;
    zip_int64_t got = 0;
    while (file && done <= about->size && (got = zip_fread(file, data + done, about->size + 1 - done)) > 0)
        done += (zip_uint64_t)got;
    bool whole = file && got == 0 && done == about->size;
    if (file) zip_fclose(file);
    if (whole) {
        data[done] = 0;
        return data;
    }
    fv_fail(context, FV_ERROR_FORMAT, "%s: its member %s is damaged", path, member);
    fv_free(data);
    return NULL;
}

void *fv_archive_read(fv_context *context, const char *path, const void *data, size_t bytes, const char *member,
                      size_t limit, size_t *member_bytes) {
    zip_error_t error;
    zip_error_init(&error);
    zip_source_t *source = zip_source_buffer_create(data, bytes, 0, &error);
    zip_t *archive = source ? zip_open_from_source(source, ZIP_RDONLY, &error) : NULL;
    void *out = NULL;
    if (!archive) {
        fv_fail(context, FV_ERROR_FORMAT, "%s: is a damaged zip archive: %s", path, zip_error_strerror(&error));
        zip_source_free(source);
    } else {
        zip_stat_t about;
        const char *wrong = zip_stat(archive, member, 0, &about) ? "is missing" : check_member(&about, limit);
        if (wrong)
            fv_fail(context, FV_ERROR_FORMAT, "%s: its member %s %s", path, member, wrong);
        else
            out = read_member(context, path, member, archive, &about);
        *member_bytes = out ? (size_t)about.size : 0;
        zip_discard(archive);
    }
    zip_error_fini(&error);
    return out;
}
