/* recording.h - tools of the tests that record without running: a context, inputs and weights by their sizes,
 * assertions about shapes, refusals and the form of a tape. */
#ifndef FV_TEST_RECORDING_H
#define FV_TEST_RECORDING_H
#include "core/control.h"
#include "ops/family.h"
#include "program/store.h"
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

extern fv_context *context; /* opened and closed around every test */
extern fv_store store;      /* only its address matters             */
extern int64_t next_offset; /* of the next weight                   */
int open_context(void **state);
int close_context(void **state);
#define TEST(name) cmocka_unit_test_setup_teardown(name, open_context, close_context)

#define DIMS(...) (const int64_t[]){ __VA_ARGS__ }, (int)(sizeof((int64_t[]){ __VA_ARGS__ }) / sizeof(int64_t))
#define INPUT(t, ...) fv_op_input(t, DIMS(__VA_ARGS__), FV_F32)
#define LABELS(t, n) fv_op_input(t, DIMS(n), FV_I32)
#define WEIGHT(t, ...) weight_of(t, true, DIMS(__VA_ARGS__))
#define FROZEN(t, ...) weight_of(t, false, DIMS(__VA_ARGS__))
fv_shape shape_of(int rank, const int64_t *dims);
fv_value weight_of(fv_tape *, bool trainable, const int64_t *dims, int rank);
fv_value control_of(fv_tape *);
fv_value region_of(fv_tape *, fv_region, fv_type, int64_t elements); /* from its start */
/* A convolution with one stride and dilation; top, bottom, left, right. */
fv_value conv(fv_tape *, fv_value x, fv_value w, int stride, int dilation, int groups, int top, int bottom, int left, int right);
int count_of(const fv_tape *, fv_op);

void assert_shape_at(const char *file, int line, const fv_tape *, fv_value, int rank, const int64_t *dims);
#define assert_shape(tape, v, ...)                                                                                     \
    assert_shape_at(__FILE__, __LINE__, tape, v, (int)(sizeof((int64_t[]){ __VA_ARGS__ }) / sizeof(int64_t)),          \
                    (const int64_t[]){ __VA_ARGS__ })
/* No value came, the context holds this status, and its sentence has all the words. Clears the error. */
void assert_refused_at(const char *file, int line, fv_value, fv_status, const char *const *words);
#define assert_refused(v, status, ...) assert_refused_at(__FILE__, __LINE__, v, FV_ERROR_##status, FV_NAMES(__VA_ARGS__))
/* Every value is made once, before its use; operations own consecutive outputs; types and shapes are whole. */
void assert_ssa(const fv_tape *);
#endif
