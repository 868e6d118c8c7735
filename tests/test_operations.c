/* test_operations.c - the table of operation tests. Every operation of ops.def has rows (tests/operations/) and random
 * ones. Each row is checked on "cpu" and on "reference" against the reference in double precision, within a bound that
 * comes from the arithmetic, and with another number of threads, which must give the same bits; and the gradient that
 * fv_backward records is compared with central differences. That is the default. Otherwise:
 * test_operations [--list | --support | --perf] [--device NAME] [--threads N] [--filter NAME] [--random N] [--row "LINE"] */
#define _GNU_SOURCE
#include "support/operations.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { LEAST_ROWS = 20 };

static struct {
    fv_context *oracle, *cpu, *cpu_threads, *reference; /* cpu: or the device asked for, then cpu_threads is NULL */
    const char *filter;
    uint64_t random;
    bool quick;  /* FOVEA_QUICK: fewer random rows, none of the large */
    double peak; /* multiplications and additions a second that the device can do at most, when measuring */
} setup = { .random = 30 };

static bool chosen(const char *text) { return !setup.filter || strstr(text, setup.filter); }

/* ---- Rows of an operation ---------------------------------------------------------------------------------------- */

typedef struct walk {
    fv_op op;
    int next;
    uint64_t next_random;
    char text[PROBLEM_TEXT];
} walk;

static bool next_row(walk *w) {
    while (table_row(w->op, w->next, w->text)) {
        w->next++;
        if (!setup.quick || !strstr(w->text, " large")) return true;
    }
    return w->next_random < setup.random && random_row(w->op, w->next_random++, w->text);
}

/* ---- Check ------------------------------------------------------------------------------------------------------- */

typedef struct tally {
    int rows, failed, unsupported;
    double worst;
} tally;

static void count_failure(tally *t, const char *who, const char *text, const char *why) {
    t->failed++;
    if (t->failed <= 20) print_error("  %s: %s\n    %s\n", who, text, why);
}

/* Other threads, the same bits: the results are compared as they are, not within a bound. */
static bool same_results(fv_context *a, fv_context *b, const problem *p, char *why) {
    double *first[MOST_OUTPUTS] = { 0 }, *second[MOST_OUTPUTS] = { 0 };
    bool same = run_problem_once(a, p, first, why) == RAN && run_problem_once(b, p, second, why) == RAN;
    for (int o = 0; o < p->output_count && same; o++)
        if (first[o] && memcmp(first[o], second[o], (size_t)fv_shape_elements(&p->output[o].shape) * sizeof(double))) {
            snprintf(why, 1200, "output %d has other bits with another number of threads", o);
            same = false;
        }
    free_results(first);
    free_results(second);
    return same;
}

static void check_on(fv_context *device, const problem *p, tally *t) {
    judgement j;
    outcome out;
    const bool good = check_problem(setup.oracle, device, NULL, p, &j, &out);
    if (out == UNSUPPORTED) {
        t->unsupported++;
        return;
    }
    if (isfinite(j.worst) && j.worst > t->worst) t->worst = j.worst;
    if (!good) count_failure(t, fv_device_name(device), p->text, j.why);
    char why[1200];
    if (good && device == setup.cpu && setup.cpu_threads && !same_results(setup.cpu, setup.cpu_threads, p, why))
        count_failure(t, fv_device_name(device), p->text, why);
}

/* Rows of other types have no other form. */
static bool may_be_half(const problem *p) {
    bool may = false;
    for (int i = 0; i < p->input_count; i++)
        may |= p->input[i].type == FV_F32 && !p->input[i].absent && fv_precision_may(p->op, i);
    return may;
}

/* Every row a second time where the device has kernels for 16 bits: by turns in bf16 and f16. */
static void check_operation_half(void **state) {
    walk w = { .op = *(const fv_op *)*state };
    tally t = { 0 };
    while (next_row(&w) && (!setup.quick || t.rows < 8)) {
        problem *p;
        judgement j;
        outcome out = UNSUPPORTED;
        const fv_type half = t.rows % 2 ? FV_F16 : FV_BF16;
        if (problem_make(setup.oracle, w.text, (uint64_t)++t.rows, false, &p)) {
            count_failure(&t, "the row", w.text, p->error);
        } else if (may_be_half(p)) {
            const bool good = check_half(setup.oracle, setup.cpu, p, half, &j, &out);
            if (isfinite(j.worst) && j.worst > t.worst) t.worst = j.worst;
            if (!good && out != UNSUPPORTED) count_failure(&t, fv_type_name(half), w.text, j.why);
            t.unsupported += out == UNSUPPORTED;
        }
        problem_free(p);
    }
    print_message("%s in 16 bits: %d rows, %.2f of its bound\n", fv_op_name(w.op), t.rows, t.worst);
    assert_int_equal(t.failed + t.unsupported, 0);
}

static void check_operation(void **state) {
    walk w = { .op = *(const fv_op *)*state };
    tally cpu = { 0 }, reference = { 0 };
    const bool fused = fv_op_table[w.op]->flags & FV_FUSED;
    while (next_row(&w)) {
        problem *p;
        cpu.rows++;
        if (problem_make(setup.oracle, w.text, (uint64_t)cpu.rows, false, &p)) {
            count_failure(&cpu, "the row", w.text, p->error);
        } else {
            check_on(setup.cpu, p, &cpu);
            if (!fused) check_on(setup.reference, p, &reference);
        }
        problem_free(p);
    }
    print_message("%s: %d rows, cpu %.2f of its bound (%d unsupported), reference %.2f\n", fv_op_name(w.op), cpu.rows,
                  cpu.worst, cpu.unsupported, reference.worst);
    assert_int_equal(cpu.failed + reference.failed, 0);
    assert_int_equal(cpu.unsupported + reference.unsupported, 0);
}

/* ---- Gradient ---------------------------------------------------------------------------------------------------- */

/* Rows whose values have no derivative, and those of which nothing is left to differentiate. */
static bool has_gradient(const char *text) {
    static const char *const without[] = { " nan", " allnan", " inf",  " lowest", " alllowest",
                                           " bad", " bytes",  " ints", " drop0",  " large", " edge" };
    for (size_t i = 0; i < sizeof without / sizeof *without; i++)
        if (strstr(text, without[i])) return false;
    return strncmp(text, "cross_entropy", 13) || !(strstr(text, "scale") || strstr(text, "shift")); /* clipped */
}

static void gradient_of_operation(void **state) {
    walk w = { .op = *(const fv_op *)*state };
    tally t = { 0 };
    while (next_row(&w)) {
        judgement j;
        if (!has_gradient(w.text)) continue;
        t.rows++;
        if (!check_gradient(setup.oracle, w.text, (uint64_t)t.rows, &j)) count_failure(&t, "gradient", w.text, j.why);
        if (isfinite(j.worst) && j.worst > t.worst) t.worst = j.worst;
    }
    print_message("gradient of %s: %d rows, relative error up to %.1e\n", fv_op_name(w.op), t.rows, t.worst);
    assert_int_equal(t.failed, 0);
    assert_true(t.rows >= LEAST_ROWS / 4);
}

/* ---- The table itself -------------------------------------------------------------------------------------------- */

static void every_operation_has_rows(void **state) {
    char text[PROBLEM_TEXT];
    for (int op = FV_OP_NONE + 1; op < FV_OP_COUNT; op++) {
        int rows = 0;
        while (table_row((fv_op)op, rows, text)) rows++;
        if (rows < LEAST_ROWS) fail_msg("%s has %d rows of at least %d", fv_op_name((fv_op)op), rows, LEAST_ROWS);
    }
}

/* Operations that have a gradient are differentiated in the table. */
static void every_gradient_is_checked(void **state) {
    for (int op = FV_OP_NONE + 1; op < FV_OP_COUNT; op++)
        if ((fv_op_table[op]->gradient != NULL) != (op_rules[op]->differentiable != 0))
            fail_msg("%s: gradient and table do not agree", fv_op_name((fv_op)op));
}

/* ---- A kernel broken on purpose ---------------------------------------------------------------------------------- */

typedef struct breakage {
    const char *name, *row;
    int (*run)(fv_device *, const fv_task *);
} breakage;

static const fv_kernel *sound(const fv_task *task) { return &fv_backend_reference.kernels[task->op]; }

static float *output_of(const fv_task *task) { return task->output[0].data; }

/* y changed after a sound run; each is a bug that has been made somewhere. */
static int wrong_sign(fv_device *d, const fv_task *task) {
    const int status = sound(task)->run(d, task);
    output_of(task)[fv_elements(&task->output[0]) - 1] *= -1;
    return status;
}

static int slightly_off(fv_device *d, const fv_task *task) {
    const int status = sound(task)->run(d, task);
    for (int64_t i = 0; i < fv_elements(&task->output[0]); i++) output_of(task)[i] *= 1.0001f;
    return status;
}

static int dropped_term(fv_device *d, const fv_task *task) { /* the last input channel is forgotten */
    const fv_tensor *x = &task->input[0];
    const int64_t channels = x->dim[x->rank - 1], elements = fv_elements(x);
    float *less = malloc((size_t)elements * sizeof *less);
    fv_tensor input[2] = { *x, task->input[1] };
    fv_task other = *task;
    for (int64_t i = 0; i < elements; i++) less[i] = i % channels == channels - 1 ? 0 : ((const float *)x->data)[i];
    input[0].data = less;
    other.input = input;
    const int status = sound(task)->run(d, &other);
    free(less);
    return status;
}

static int shifted(fv_device *d, const fv_task *task) {
    const int status = sound(task)->run(d, task);
    memmove(output_of(task) + 1, output_of(task), (size_t)(fv_elements(&task->output[0]) - 1) * sizeof(float));
    return status;
}

static int last_forgotten(fv_device *d, const fv_task *task) {
    float *const last = output_of(task) + fv_elements(&task->output[0]) - 1, before = *last;
    const int status = sound(task)->run(d, task);
    *last = before;
    return status;
}

static int one_too_many(fv_device *d, const fv_task *task) {
    const int status = sound(task)->run(d, task);
    output_of(task)[fv_elements(&task->output[0])] = 0;
    return status;
}

static int one_before(fv_device *d, const fv_task *task) {
    const int status = sound(task)->run(d, task);
    output_of(task)[-1] = 0;
    return status;
}

static int input_written(fv_device *d, const fv_task *task) {
    const int status = sound(task)->run(d, task);
    ((float *)task->input[1].data)[0] += 1;
    return status;
}

static int address_matters(fv_device *d, const fv_task *task) {
    static uintptr_t seen;
    const int status = sound(task)->run(d, task);
    if (seen) output_of(task)[0] = nextafterf(output_of(task)[0], 100);
    seen = (uintptr_t)task->output[0].data;
    return status;
}

static int fails(fv_device *d, const fv_task *task) {
    (void)d;
    (void)task;
    return FV_ERROR_INTERNAL;
}

static int nan_hidden(fv_device *d, const fv_task *task) {
    const int status = sound(task)->run(d, task);
    for (int64_t i = 0; i < fv_elements(&task->output[0]); i++)
        if (isnan(output_of(task)[i])) output_of(task)[i] = 0;
    return status;
}

static int index_off_by_one(fv_device *d, const fv_task *task) {
    const int status = sound(task)->run(d, task);
    ((uint8_t *)task->output[1].data)[0]++;
    return status;
}

static const breakage breakages[] = {
    { "wrong sign", "conv2d n2 h6 w5 c3 k4 r3 s3 pad1", wrong_sign },
    { "slightly off", "conv2d n2 h6 w5 c3 k4 r3 s3 pad1", slightly_off },
    { "dropped term", "conv2d n2 h6 w5 c3 k4 r3 s3 pad1", dropped_term },
    { "dropped term", "dense x4,7 o5", dropped_term },
    { "slightly off", "dense x40,300 o5", slightly_off },
    { "shifted by one", "pad x2,3 before1,0 after0,2", shifted },
    { "shifted by one", "add a2,3 b3", shifted },
    { "last one forgotten", "relu x33", last_forgotten },
    { "one too many", "relu x33", one_too_many },
    { "one before the first", "relu x33", one_before },
    { "input written", "mul a2,3 b3", input_written },
    { "address matters", "tanh x10", address_matters },
    { "run fails", "tanh x10", fails },
    { "NaN hidden", "relu x100 nan7", nan_hidden },
    { "wrong sign", "sgd_update p20,7 momentum0.9", wrong_sign },
    { "slightly off", "adam_update p20,7", slightly_off },
    { "slightly off", "batch_norm_train x8,5", slightly_off },
    { "index off by one", "max_pool2d n1 h4 w4 c3 r2", index_off_by_one },
    { "slightly off", "softmax_cross_entropy n4 classes10", slightly_off },
    { "slightly off", "sum x7,5 axes0", slightly_off },
    { "wrong sign", "dropout x16 rate0", wrong_sign },
    { "slightly off", "lrn x2,9 alpha0.3", slightly_off },
};

static void broken_kernels_are_found(void **state) {
    for (size_t i = 0; i < sizeof breakages / sizeof *breakages; i++) {
        const breakage *b = &breakages[i];
        const fv_kernel broken = { .run = b->run };
        problem *p;
        judgement j;
        outcome out;
        assert_int_equal(problem_make(setup.oracle, b->row, 1, false, &p), 0);
        assert_true(check_problem(setup.oracle, setup.reference, NULL, p, &j, &out));
        if (check_problem(setup.oracle, setup.reference, &broken, p, &j, &out))
            fail_msg("%s: '%s' was not found", b->row, b->name);
        assert_int_equal(out == UNSUPPORTED, 0);
        assert_true(j.why[0] != 0);
        problem_free(p);
    }
}

/* The same for gradients: the oracle gets a table with one kernel wrong, and differences must disagree with it. */
static int gradient_off(fv_device *d, const fv_task *task) {
    const int status = fv_backend_reference64.kernels[task->op].run(d, task);
    double *dx = task->output[0].data;
    for (int64_t i = 0; i < fv_elements(&task->output[0]); i++) dx[i] *= 1 + 1e-5;
    return status;
}

static int gradient_forgotten(fv_device *d, const fv_task *task) {
    const int status = fv_backend_reference64.kernels[task->op].run(d, task);
    ((double *)task->output[0].data)[0] = 0;
    return status;
}

static void broken_gradients_are_found(void **state) {
    static const struct {
        const char *row;
        fv_op op;
    } wrong[] = {
        { "conv2d n1 h5 w4 c2 k3 r3 s2 pad1", FV_OP_conv2d_data_gradient },
        { "conv2d n1 h5 w4 c2 k3 r3 s2 pad1", FV_OP_conv2d_weight_gradient },
        { "dense x3,4 o5", FV_OP_dense_weight_gradient },
        { "tanh x5", FV_OP_tanh_gradient },
        { "batch_norm_train x6,2", FV_OP_batch_norm_gradient },
        { "lrn x2,5 alpha0.5", FV_OP_lrn_gradient },
        { "softmax_cross_entropy n3 classes4", FV_OP_softmax_cross_entropy_gradient },
        { "avg_pool2d n1 h4 w4 c2 r2", FV_OP_avg_pool2d_gradient },
    };
    const fv_backend *sound_backend = setup.oracle->backend;
    fv_backend backend = *sound_backend;
    fv_kernel kernels[FV_OP_COUNT];
    backend.kernels = kernels;
    for (size_t i = 0; i < 2 * sizeof wrong / sizeof *wrong; i++) {
        judgement j;
        memcpy(kernels, sound_backend->kernels, sizeof kernels);
        kernels[wrong[i / 2].op].run = i % 2 ? gradient_off : gradient_forgotten;
        assert_true(check_gradient(setup.oracle, wrong[i / 2].row, 1, &j));
        setup.oracle->backend = &backend;
        const bool found = !check_gradient(setup.oracle, wrong[i / 2].row, 1, &j);
        setup.oracle->backend = sound_backend;
        if (!found) fail_msg("%s: a wrong %s was not found", wrong[i / 2].row, fv_op_name(wrong[i / 2].op));
    }
}

/* ---- Modes of the command line ----------------------------------------------------------------------------------- */

/* Calls show for every row that the filter lets through. */
static int each_row(bool row(fv_op, int, char *), void show(const char *text)) {
    char text[PROBLEM_TEXT];
    for (int op = FV_OP_NONE + 1; op < FV_OP_COUNT; op++)
        for (int i = 0; row((fv_op)op, i, text); i++)
            if (chosen(text)) show(text);
    return 0;
}

static void show_row(const char *text) { printf("%s\n", text); }

/* What each backend says of a row: that it ran, and by which algorithm, or why it cannot. */
static void show_support(const char *text) {
    fv_context *const devices[] = { setup.reference, setup.cpu };
    problem *p;
    printf("%-60s", text);
    if (problem_make(setup.oracle, text, 1, false, &p)) printf(" bad row: %s", p->error);
    for (int i = 0; i < 2 && !p->error[0]; i++) {
        double *result[MOST_OUTPUTS] = { 0 };
        char why[1200] = "";
        const uint8_t flags = fv_op_table[p->op]->flags;
        const char *name = fv_device_name(devices[i]);
        if (flags & FV_ALIAS) printf(" %s: no kernel needed;", name);
        else if (flags & FV_FUSED && devices[i] == setup.reference) printf(" %s: by what it stands for;", name);
        else if (run_problem_once(devices[i], p, result, why) != RAN) printf(" %s: %s;", name, why);
        else printf(" %s: yes%s%s%s;", name, *why ? " (" : "", why, *why ? ")" : "");
        free_results(result);
    }
    printf("\n");
    problem_free(p);
}

static void cost_of(const problem *p, fv_cost *cost) {
    const fv_shape *shapes[MOST_OPERANDS];
    fv_shape outputs[MOST_OUTPUTS];
    fv_type types[MOST_OPERANDS], output_types[MOST_OUTPUTS];
    fv_attributes attributes = p->attributes;
    for (int i = 0; i < p->input_count; i++) shapes[i] = p->input[i].absent ? NULL : &p->input[i].shape;
    for (int i = 0; i < p->input_count; i++) types[i] = p->input[i].type;
    for (int o = 0; o < p->output_count; o++) outputs[o] = p->output[o].shape, output_types[o] = p->output[o].type;
    fv_signature s = { .context = setup.oracle,
                       .op = p->op,
                       .attributes = &attributes,
                       .input_count = p->input_count,
                       .input = shapes,
                       .input_type = types,
                       .output = outputs,
                       .output_type = output_types };
    fv_op_cost(&s, cost);
}

static void show_speed(const char *text) {
    char algorithm[200];
    problem *p;
    fv_cost cost = { 0 };
    if (!problem_make(setup.oracle, text, 1, false, &p)) {
        const double seconds = time_problem(setup.cpu, p, algorithm, sizeof algorithm);
        cost_of(p, &cost);
        printf("%-64s %10.1f %9.2f %9.2f %8.1f%%  %s\n", text, seconds * 1e6, cost.flops / seconds * 1e-9,
               cost.bytes / seconds * 1e-9, setup.peak > 0 ? 100 * cost.flops / seconds / setup.peak : 0, algorithm);
    }
    problem_free(p);
}

static int measure(const char *row) {
    double bytes;
    if (fv_device_peak(setup.cpu, &setup.peak, &bytes)) return 1;
    printf("%s: at most %.1f GFLOP/s in registers, %.1f GB/s copying\n", fv_device_name(setup.cpu), setup.peak * 1e-9,
           bytes * 1e-9);
    printf("%-64s %10s %9s %9s %9s  %s\n", "operation", "time us", "GFLOP/s", "GB/s", "of peak", "algorithm");
    if (!row) return each_row(performance_row, show_speed);
    show_speed(row);
    return 0;
}

static int run_row(const char *text) {
    fv_context *const devices[] = { setup.reference, setup.cpu };
    problem *p;
    judgement j;
    outcome out;
    int failed = problem_make(setup.oracle, text, 1, false, &p), wrong = 0;
    if (failed) printf("%s\n", p->error);
    for (int i = 0; i < 2 && !failed; i++) {
        const bool good = check_problem(setup.oracle, devices[i], NULL, p, &j, &out);
        printf("%s: %s, %.3g of its bound. %s\n", fv_device_name(devices[i]), good ? "good" : "WRONG", j.worst, j.why);
        wrong |= !good;
    }
    if (!failed && op_rules[p->op]->differentiable) {
        const bool good = check_gradient(setup.oracle, text, 1, &j);
        printf("gradient: %s, relative error %.3g. %s\n", good ? "good" : "WRONG", j.worst, j.why);
        wrong |= !good;
    }
    problem_free(p);
    return failed || wrong;
}

static fv_context *open_device(const char *name, int threads) {
    FV_OPTIONS(fv_open_options, o);
    o.device = name;
    o.threads = threads;
    fv_context *c = fv_open_with(&o);
    if (fv_error(c)) {
        fprintf(stderr, "test_operations: %s\n", fv_error(c));
        exit(1);
    }
    return c;
}

static int run_group(void) {
    static fv_op number[FV_OP_COUNT];
    enum { MODES = 3 };
    static const char *const modes[MODES] = { "check", "gradient", "half" };
    static void (*const functions[MODES])(void **) = { check_operation, gradient_of_operation, check_operation_half };
    static char name[MODES * FV_OP_COUNT + 4][64];
    static struct CMUnitTest test[MODES * FV_OP_COUNT + 4];
    const fv_backend *b = setup.cpu->backend;
    const bool native = b->precisions && b->precisions(setup.cpu->device) >> FV_PRECISION_BF16 & 1;
    size_t tests = 0;
    test[tests++] = (struct CMUnitTest)cmocka_unit_test(every_operation_has_rows);
    test[tests++] = (struct CMUnitTest)cmocka_unit_test(every_gradient_is_checked);
    test[tests++] = (struct CMUnitTest)cmocka_unit_test(broken_kernels_are_found);
    test[tests++] = (struct CMUnitTest)cmocka_unit_test(broken_gradients_are_found);
    for (int op = FV_OP_NONE + 1; op < FV_OP_COUNT; op++) {
        number[op] = (fv_op)op;
        if (!chosen(fv_op_name((fv_op)op))) continue;
        for (int mode = 0; mode < MODES; mode++) {
            if (mode != 1 && fv_op_table[op]->flags & FV_ALIAS) continue;
            if (mode == 1 && !fv_op_table[op]->gradient) continue;
            if (mode == 2 && !(native && fv_precision_rules[op].inputs)) continue;
            snprintf(name[tests], sizeof *name, "%s_%s", modes[mode], fv_op_name((fv_op)op));
            test[tests] = (struct CMUnitTest){ .name = name[tests],
                                               .initial_state = &number[op],
                                               .test_func = functions[mode] };
            tests++;
        }
    }
    return _cmocka_run_group_tests("operations", test, tests, NULL, NULL);
}

static const char help[] =
    "test_operations [--list | --support | --perf] [--device NAME] [--threads N] [--filter NAME] [--random N] [--row "
    "LINE]\n"
    "  (nothing)      check every row on reference and cpu against the reference in double, and the gradients\n"
    "  --list         the rows of the table, a line each\n"
    "  --support      what each backend says of each row, and which algorithm it takes\n"
    "  --perf         time, GFLOP/s and GB/s of the rows for measuring, on cpu\n"
    "  --device NAME  instead of cpu\n"
    "  --threads N    of the device (default 1)\n"
    "  --filter NAME  only operations (without a mode) or rows (with one) whose text has NAME\n"
    "  --random N     so many random rows an operation (default 30)\n"
    "  --row LINE     one row of your own: \"conv2d n2 h9 w7 c3 k8 r3 s3 stride2 pad1,0\"\n"
    "FOVEA_QUICK=1 leaves out the large rows and most random ones, FOVEA_RANDOM is as --random. Docs: docs/testing.md\n";

/* A filter that nothing matches would pass in silence. */
static bool filter_matches(bool rows) {
    char text[PROBLEM_TEXT];
    for (int op = FV_OP_NONE + 1; op < FV_OP_COUNT; op++) {
        if (chosen(fv_op_name((fv_op)op))) return true;
        for (int i = 0; rows && table_row((fv_op)op, i, text); i++)
            if (chosen(text)) return true;
    }
    fprintf(stderr, "test_operations: '%s' is in no %s\n", setup.filter, rows ? "row" : "name of an operation");
    return false;
}

int main(int count, char **argument) {
    const char *row = NULL, *mode = "", *device = "cpu";
    int threads = 1;
    if ((setup.quick = getenv("FOVEA_QUICK") != NULL)) setup.random = 5;
    if (getenv("FOVEA_RANDOM")) setup.random = strtoull(getenv("FOVEA_RANDOM"), NULL, 10);
    for (int i = 1; i < count; i++) {
        if (!strcmp(argument[i], "--filter") && i + 1 < count)
            setup.filter = argument[++i];
        else if (!strcmp(argument[i], "--random") && i + 1 < count)
            setup.random = strtoull(argument[++i], NULL, 10);
        else if (!strcmp(argument[i], "--row") && i + 1 < count)
            row = argument[++i];
        else if (!strcmp(argument[i], "--device") && i + 1 < count)
            device = argument[++i];
        else if (!strcmp(argument[i], "--threads") && i + 1 < count)
            threads = atoi(argument[++i]);
        else
            mode = argument[i];
    }
    if (!strcmp(mode, "--help")) return fputs(help, stdout), 0;
    if (!filter_matches(*mode)) return 2;
    setup.oracle = open_device("reference64", 1);
    setup.reference = open_device("reference", 1);
    setup.cpu = open_device(device, threads);
    if (!strcmp(device, "cpu")) setup.cpu_threads = open_device(device, 3);

    int status = 2;
    if (!strcmp(mode, "--perf"))
        status = measure(row);
    else if (row)
        status = run_row(row);
    else if (!strcmp(mode, "--list"))
        status = each_row(table_row, show_row);
    else if (!strcmp(mode, "--support"))
        status = each_row(table_row, show_support);
    else if (!*mode)
        status = run_group();
    else
        fputs(help, stderr);

    fv_context *const all[] = { setup.oracle, setup.reference, setup.cpu, setup.cpu_threads };
    for (int i = 0; i < 4; i++)
        if (all[i]) status |= fv_close(all[i]);
    return status;
}
