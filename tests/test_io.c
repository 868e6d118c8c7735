/* test_io.c - replacing a file whatever happens, folders, and HDF5 that is read with suspicion. */
#include "io/io.h"
#include "nets.h"
#include <dirent.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>

static void assert_content(const char *path, const char *text) {
    size_t size;
    unsigned char *bytes = read_file(path, &size);
    assert_int_equal(size, strlen(text));
    assert_memory_equal(bytes, text, size);
    free(bytes);
}

static int files_in(const char *path) {
    int count = 0;
    DIR *entries = opendir(path);
    assert_non_null(entries);
    for (struct dirent *entry; (entry = readdir(entries));)
        count += strcmp(entry->d_name, ".") && strcmp(entry->d_name, "..");
    closedir(entries);
    return count;
}

/* ---- Files ------------------------------------------------------------------------------------------------------- */

static void a_file_is_replaced_whole(void **state) {
    (void)state;
    mkdir(path_of("replace"), 0777);
    const char *path = path_of("replace/file");
    assert_int_equal(fv_file_replace(ctx, path, "first", 5), 0);
    assert_content(path, "first");
    mode_t mask = umask(022);
    chmod(path, 0666);
    assert_int_equal(fv_file_replace(ctx, path, "the second", 10), 0);
    assert_content(path, "the second");
    struct stat about;
    stat(path, &about);
    assert_int_equal(about.st_mode & 0777, 0666); /* whatever the mask says */
    umask(mask);
    assert_int_equal(symlink("file", path_of("replace/link")), 0);
    assert_int_equal(fv_file_replace(ctx, path_of("replace/link"), "third", 5), 0);
    assert_content(path, "third");
    lstat(path_of("replace/link"), &about);
    assert_true(S_ISLNK(about.st_mode));
    assert_int_equal(files_in(path_of("replace")), 2); /* nothing temporary stays */
    char before[1024];
    assert_non_null(getcwd(before, sizeof before));
    assert_int_equal(chdir(path_of("replace")), 0);
    assert_int_equal(fv_file_replace(ctx, "bare", "name", 4), 0);
    assert_content("bare", "name");
    assert_int_equal(chdir(before), 0);
    assert_works();
    fv_file_replace(ctx, path_of("replace"), "x", 1);
    assert_fails(FV_ERROR_FILE, "it is a folder");
    fv_file_replace(ctx, path_of("replace/nowhere/file"), "x", 1);
    assert_fails(FV_ERROR_FILE, "cannot be created: No such file or directory");
    fv_file_replace(ctx, "/dev/null", "x", 1);
    assert_fails(FV_ERROR_FILE, "not a regular file");
}

static void a_full_disk_leaves_the_old_file(void **state) {
    (void)state;
    struct rlimit old, small = { 4096, RLIM_INFINITY };
    char text[10000];
    memset(text, 'x', sizeof text);
    mkdir(path_of("full"), 0777);
    const char *path = path_of("full/file");
    assert_int_equal(fv_file_replace(ctx, path, "old", 3), 0);
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &old);
    small.rlim_max = old.rlim_max;
    setrlimit(RLIMIT_FSIZE, &small);
    int status = fv_file_replace(ctx, path, text, sizeof text);
    setrlimit(RLIMIT_FSIZE, &old);
    signal(SIGXFSZ, handler);
    assert_int_equal(status, FV_ERROR_FILE);
    assert_fails(FV_ERROR_FILE, "full/file: cannot be written: File too large; the file that was there is whole");
    assert_content(path, "old");
    assert_int_equal(files_in(path_of("full")), 1);
    const char *disk = path_of("disk"); /* a real one, where this process may make it */
    mkdir(disk, 0777);
    if (mount("none", disk, "tmpfs", 0, "size=8k") == 0) {
        path = path_of("disk/file");
        assert_int_equal(fv_file_replace(ctx, path, "old", 3), 0);
        fv_file_replace(ctx, path, text, sizeof text);
        assert_fails(FV_ERROR_FILE, "No space left on device; the file that was there is whole");
        assert_content(path, "old");
        assert_int_equal(files_in(disk), 1);
        umount(disk);
    }
}

static void folders_are_made_with_their_parents(void **state) {
    (void)state;
    struct stat about;
    assert_int_equal(fv_folder_make(ctx, path_of("a/b//c/")), 0);
    assert_int_equal(fv_folder_make(ctx, path_of("a/b/c")), 0);
    assert_true(!stat(path_of("a/b/c"), &about) && S_ISDIR(about.st_mode));
    write_file("a/file", "x", 1);
    fv_folder_make(ctx, path_of("a/file"));
    assert_fails(FV_ERROR_FILE, "Not a directory");
    fv_folder_make(ctx, path_of("a/file/b"));
    assert_fails(FV_ERROR_FILE, "Not a directory");
    fv_folder_make(ctx, "");
    assert_fails(FV_ERROR_FILE, "cannot be made");
}

/* ---- HDF5 that leads elsewhere or lies --------------------------------------------------------------------------- */

static hid_t wide_space(int rank, hsize_t size) {
    hsize_t dims[8] = { size, 1, 1, 1, 1, 1, 1, 1 };
    return H5Screate_simple(rank, dims, NULL);
}

static void add_dataset(hid_t file, const char *name, hid_t type, hid_t space, hid_t creation) {
    hid_t dataset = H5Dcreate2(file, name, type, space, H5P_DEFAULT, creation, H5P_DEFAULT);
    assert_true(dataset >= 0);
    H5Dclose(dataset);
    H5Sclose(space);
    if (creation != H5P_DEFAULT) H5Pclose(creation);
}

static void suspicious_content_is_refused(void **state) {
    (void)state;
    hid_t file = H5Fcreate(path_of("trap.h5"), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT), creation;
    const hsize_t four[] = { 4 }, chunk[] = { 2 }, many[] = { 1000 };
    put_ramp(file, "good", H5T_IEEE_F32LE, 1, four, 1);
    H5Lcreate_soft("/good", file, "soft", H5P_DEFAULT, H5P_DEFAULT);
    H5Lcreate_external("/etc/hostname", "/", file, "external", H5P_DEFAULT, H5P_DEFAULT);
    creation = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_external(creation, "/etc/passwd", 0, 16);
    add_dataset(file, "outside", H5T_IEEE_F32LE, wide_space(1, 4), creation);
    creation = H5Pcreate(H5P_DATASET_CREATE);
    hid_t source = wide_space(1, 4);
    H5Pset_virtual(creation, source, "other.h5", "good", source);
    H5Sclose(source);
    add_dataset(file, "virtual", H5T_IEEE_F32LE, wide_space(1, 4), creation);
    add_dataset(file, "bomb", H5T_IEEE_F32LE, wide_space(1, (hsize_t)1 << 40), H5P_DEFAULT);
    creation = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_chunk(creation, 1, many);
    add_dataset(file, "huge", H5T_IEEE_F32LE, wide_space(1, (hsize_t)1 << 62), creation);
    add_dataset(file, "seven", H5T_IEEE_F32LE, wide_space(7, 4), H5P_DEFAULT);
    hid_t text = H5Tcopy(H5T_C_S1), pair = H5Tcreate(H5T_COMPOUND, 8), list = H5Tvlen_create(H5T_IEEE_F32LE);
    H5Tset_size(text, H5T_VARIABLE);
    H5Tinsert(pair, "a", 0, H5T_IEEE_F32LE);
    add_dataset(file, "text", text, wide_space(1, 4), H5P_DEFAULT);
    add_dataset(file, "compound", pair, wide_space(1, 4), H5P_DEFAULT);
    add_dataset(file, "lists", list, wide_space(1, 4), H5P_DEFAULT);
    add_dataset(file, "references", H5T_STD_REF_OBJ, wide_space(1, 4), H5P_DEFAULT);
    creation = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_chunk(creation, 1, chunk);
    H5Pset_scaleoffset(creation, H5Z_SO_FLOAT_DSCALE, 2);
    add_dataset(file, "scaled", H5T_IEEE_F32LE, wide_space(1, 4), creation);
    creation = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_chunk(creation, 1, chunk);
    H5Pset_shuffle(creation);
    H5Pset_deflate(creation, 6);
    H5Pset_fletcher32(creation);
    hid_t space = H5Screate_simple(1, four, NULL),
          packed = H5Dcreate2(file, "packed", H5T_IEEE_F32BE, space, H5P_DEFAULT, creation, H5P_DEFAULT);
    H5Dwrite(packed, H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT, (float[]){ 1, 2, 3, 4 });
    H5Dclose(packed);
    H5Sclose(space);
    H5Pclose(creation);
    put_fixed(file, "texts", (const char *[]){ "a", "b" }, 2);
    H5Tclose(text);
    H5Tclose(pair);
    H5Tclose(list);
    H5Fclose(file);

    static const struct {
        const char *name, *words;
    } cases[] = {
        { "soft", "no such data set" },
        { "external", "no such data set" },
        { "external/x", "no such data set" },
        { "outside", "in other files" },
        { "virtual", "virtual data set" },
        { "bomb", "declares more data than the file stores" },
        { "huge", "too large" },
        { "seven", "more than 6 axes" },
        { "text", "no plain numbers" },
        { "compound", "no plain numbers" },
        { "lists", "no plain numbers" },
        { "references", "no plain numbers" },
        { "scaled", "a filter other than" },
        { "absent", "no such data set" },
        { "good/x", "no such data set" },
        { "/good", "no such data set" },
        { "", "no such data set" },
        { "../good", "no such data set" },
    };
    fv_h5 h;
    void *image;
    fv_shape shape;
    open_image(&h, path_of("trap.h5"), &image);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_null(fv_h5_get_tensor(&h, h.file, cases[i].name, H5T_NATIVE_FLOAT, &shape));
        assert_fails(strstr(cases[i].words, "too large") ? FV_ERROR_SHAPE : FV_ERROR_FORMAT, cases[i].words);
    }
    static const char *const good[] = { "good", "packed" };
    for (int i = 0; i < 2; i++) {
        float *values = fv_h5_get_tensor(&h, h.file, good[i], H5T_NATIVE_FLOAT, &shape);
        assert_works();
        assert_true(shape.rank == 1 && shape.dim[0] == 4 && values[3] == 4);
        fv_free(values);
    }
    fv_h5_texts texts;
    double number;
    assert_true(fv_h5_get_numbers(&h, h.file, "texts", H5T_NATIVE_DOUBLE, 1, &number) < 0);
    assert_fails(FV_ERROR_FORMAT, "texts: the attribute has not the numbers");
    assert_null(fv_h5_get_text(&h, h.file, "texts"));
    assert_fails(FV_ERROR_FORMAT, "not one text");
    assert_true(fv_h5_get_texts(&h, h.file, "absent", &texts) < 0);
    assert_fails(FV_ERROR_FORMAT, "missing");
    assert_true(fv_h5_open_group(&h, h.file, "good") < 0);
    assert_fails(FV_ERROR_FORMAT, "no such group");
    h.left = 8; /* what may still be read is counted */
    assert_null(fv_h5_get_tensor(&h, h.file, "good", H5T_NATIVE_FLOAT, &shape));
    assert_fails(FV_ERROR_FORMAT, "declares more data than the 8 bytes");
    fv_h5_close(&h);
    fv_free(image);
}

static void long_lists_are_split(void **state) {
    (void)state;
    enum { NAMES = 9000 };
    static char name[NAMES][24];
    static const char *names[NAMES];
    for (int i = 0; i < NAMES; i++) names[i] = (snprintf(name[i], sizeof name[i], "layer_%d", i), name[i]);
    fv_h5 h;
    size_t size;
    assert_int_equal(fv_h5_create(&h, ctx, "list"), 0);
    fv_h5_put_texts(&h, h.file, "layer_names", names, NAMES);
    void *image = fv_h5_finish(&h, &size);
    fv_h5_close(&h);
    assert_works();
    assert_int_equal(fv_h5_open(&h, ctx, "list", image, size, FV_MODEL_LIMIT), 0);
    assert_false(fv_h5_has_attribute(&h, h.file, "layer_names"));
    assert_true(fv_h5_has_attribute(&h, h.file, "layer_names2"));
    fv_h5_texts texts;
    assert_int_equal(fv_h5_get_texts(&h, h.file, "layer_names", &texts), 0);
    assert_int_equal(texts.count, NAMES);
    for (int i = 0; i < NAMES; i++) assert_string_equal(texts.text[i], names[i]);
    fv_h5_free_texts(&texts);
    fv_h5_close(&h);
    fv_free(image);
}

int main(void) {
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL); /* for what the tests themselves ask of libhdf5 */
    const struct CMUnitTest tests[] = { TEST(a_file_is_replaced_whole), TEST(a_full_disk_leaves_the_old_file),
                                        TEST(folders_are_made_with_their_parents), TEST(suspicious_content_is_refused),
                                        TEST(long_lists_are_split) };
    return run_in_scratch("io", tests);
}
