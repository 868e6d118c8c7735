/* core.h - what everything stands on: the context with its first error, checked sizes, memory, the registry of backends,
 * random numbers, threads. Knows nothing of tapes and nets. */
#ifndef FV_CORE_H
#define FV_CORE_H
#include "core/backend.h"
#include <stdarg.h>

/* ---- Objects: everything that a context owns, so that fv_close can free what is left ----------------------------- */
typedef struct fv_object {
    struct fv_object *next, *previous;
    struct fv_context *context;
    void (*release)(void *object); /* frees the object; called by fv_object_free and fv_close (newest first) */
} fv_object;                       /* the first member of every owned struct */

struct fv_context {
    char error[1024];
    fv_status status;
    fv_object objects;             /* head of a ring */
    const fv_backend *backend;     /* NULL while opening failed */
    fv_device *device;
    bool capture;                  /* steps may be captured and replayed: not with no_capture, FOVEA_CAPTURE=0 or FOVEA_SYNC=1 */
    void *plugin;                  /* handle of the backend's library; NULL: built in */
    char device_name[32], device_line[256];
    int threads;
    fv_precision precision;        /* of programs that do not say otherwise; never FV_PRECISION_DEFAULT */
    uint64_t seed;
    size_t memory_limit, memory_used;
    void (*log)(void *user, const char *line);
    void *log_user;
    fv_host host;                  /* handed to the backend at open */
    struct fv_tuned *tuned;        /* choices of a file, or NULL: tuned.c */
};

void fv_context_prepare(fv_context *); /* a zeroed context gets its ring and the services for backends */
void fv_object_add(fv_context *, void *object, void (*release)(void *));
void fv_object_free(void *object); /* takes it off the ring and calls release; NULL is fine */

/* ---- Errors ------------------------------------------------------------------------------------------------------ */
/* Records the first error and returns status. The sentence names the thing: "conv2d c3: kernel 5x5 is larger than ...". */
int fv_fail(fv_context *, fv_status status, const char *format, ...) __attribute__((format(printf, 3, 4)));
int fv_fail_memory(fv_context *, const char *what, size_t bytes);
static inline bool fv_ok(const fv_context *c) { return c && c->status == FV_OK; }
void fv_log(fv_context *, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* ---- Memory of the host ------------------------------------------------------------------------------------------ */
/* Every allocation of the library passes here, so that tests can let the n-th one fail. 64-byte aligned, zeroed. */
void *fv_alloc(fv_context *, size_t count, size_t size, const char *what); /* NULL: the error is recorded */
void *fv_grow(fv_context *, void *old, size_t old_count, size_t new_count, size_t size, const char *what); /* new part zeroed */
char *fv_copy_string(fv_context *, const char *);
void fv_free(void *);
/* For tests: the allocation `after` from now fails (1: the next), once or from then on; 0: none. Returns how many there were. */
int64_t fv_alloc_fail(int64_t after, bool sticky);

/* ---- Shapes ------------------------------------------------------------------------------------------------------ */
typedef struct fv_shape { int32_t rank; int64_t dim[FV_RANK]; } fv_shape;
/* The one checked constructor: rank 0..6, sizes >= 0, elements and bytes (8 each) within int64, empty axes counted as 1. */
int fv_shape_make(fv_context *, const char *what, int rank, const int64_t *dims, fv_shape *out);
int64_t fv_shape_elements(const fv_shape *);        /* cannot overflow for a made shape; rank 0: 1 */
bool fv_shape_equal(const fv_shape *, const fv_shape *);
const char *fv_shape_text(const fv_shape *, char buffer[96]); /* "[128, 28, 28, 1]" */
size_t fv_type_bytes(fv_type);
const char *fv_type_name(fv_type);                  /* "f32" */

/* ---- Random numbers: Philox4x32-10 (Salmon et al. 2011) ---------------------------------------------------------- */
void fv_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]);
/* Streams on the host (initial weights, shuffles, splits): counter = (index, stream), key = seed. */
typedef struct fv_random { uint32_t key[2], counter[4], word[4]; int left; } fv_random;
fv_random fv_random_make(uint64_t seed, uint64_t stream);
uint32_t fv_random_u32(fv_random *);
uint32_t fv_random_below(fv_random *, uint32_t n);  /* unbiased, 0..n-1 */
double fv_random_uniform(fv_random *);              /* [0, 1) */
double fv_random_normal(fv_random *);

/* ---- Settings ---------------------------------------------------------------------------------------------------- */
/* Copies the caller's option struct into ours: what an older header does not know becomes zero; what a newer one sets and
 * we do not know is an error. `function` names the caller in messages. */
int fv_options_read(fv_context *, const char *function, void *to, size_t to_size, const void *from);
/* The number wanted, else FOVEA_NUM_THREADS, OMP_NUM_THREADS, else the processors that this process may use. Negative: a status. */
int fv_thread_count(fv_context *, int wanted);
void fv_bytes_text(double bytes, char buffer[32]);  /* "1.2 GB" */

/* ---- Tuned choices ----------------------------------------------------------------------------------------------- */
enum { FV_IDENTITY_BYTES = 256, FV_TUNED_BYTES = 17 };
typedef struct fv_tuned fv_tuned;
int fv_tuned_open(fv_context *, const char *path); /* into the context; refused where it was measured on another device */
void fv_tuned_close(fv_context *);
/* The way to take for an operation with its shapes, and what it is called; -1: the file says nothing. */
int fv_tuned_choice(const fv_context *, const char *key, const char **algorithm);
void fv_tuned_text(const fv_context *, char text[FV_TUNED_BYTES]); /* the choices' hash; "" without a file */
/* What the choices depend on: the device's model, its libraries' versions. */
void fv_context_identity(const fv_context *, char text[FV_IDENTITY_BYTES]);
struct json_t *fv_tuned_new(const fv_context *);   /* what a file without choices holds */

/* ---- Backends ---------------------------------------------------------------------------------------------------- */
/* Opens "cpu", "reference", "cuda:0" or "auto" into the context: built-in table first, then plugins libfovea-NAME.so found in
 * FOVEA_BACKEND_PATH, the library's own folder, and fovea/ below it. */
int fv_backend_open(fv_context *, const char *device);
void fv_backend_close(fv_context *);
/* A plugin (plugin.c): its backend and the handle to unload it with. NULL: why is a sentence without its full stop, and found
 * tells a library that is there but was refused from one that is not there. */
const fv_backend *fv_plugin_load(const char *name, void **handle, bool *found, char *why, size_t why_bytes);
void fv_plugin_unload(void *handle);
bool fv_plugin_name_valid(const char *name);       /* lower-case letters, digits, _ */
/* Names of the plugins found in the search path, each once; at most capacity. */
int fv_plugin_list(char (*names)[32], int capacity);
extern const fv_backend fv_backend_cpu, fv_backend_reference, fv_backend_reference64;

/* FV_PRECISION_DEFAULT is the context's. Fails with one sentence where the device cannot. */
int fv_precision_settle(fv_context *, fv_precision *);
static inline bool fv_type_half(fv_type type) { return type == FV_BF16 || type == FV_F16; }
/* The element type of activations in a program. */
static inline fv_type fv_precision_type(fv_precision p) { return p == FV_PRECISION_BF16 ? FV_BF16 : p == FV_PRECISION_F16 ? FV_F16 : FV_F32; }

/* Device memory, counted against the limit; the error says what was needed, what is free and what would fit. */
void *fv_device_alloc(fv_context *, size_t bytes, const char *what);
void fv_device_free(fv_context *, void *data, size_t bytes);
#endif
