/* operations.h - the machine behind the table of operation tests. A problem is a line such as
 *     conv2d n4 h9 w7 c3 k8 r3 s3 stride2 pad1,0
 * : an operation, then words with numbers. It is parsed into attributes and operands (problem.c, words.c), given
 * values from a seed (fill.c), run on a device (machine.c), and judged against the double-precision reference by a
 * componentwise bound (judge.c) or against central differences (gradient.c). tests/operations/ holds the table, a file
 * a family. */
#ifndef FV_TEST_OPERATIONS_H
#define FV_TEST_OPERATIONS_H
#include "core/control.h"
#include "core/core.h"
#include "ops/ops.h"
#include "tape/tape.h"

/* ---- Problems ---------------------------------------------------------------------------------------------------- */

enum { MOST_OPERANDS = 24, MOST_OUTPUTS = 5, MOST_WORDS = 32, PROBLEM_TEXT = 240 };

/* How an operand gets its values. All are exact in f32. */
typedef enum fill {
    FILL_UNIFORM,      /* -1 .. 1                                                   */
    FILL_POSITIVE,     /* 0.5 .. 2                                                  */
    FILL_APART,        /* at least 0.1 from zero                                    */
    FILL_DISTINCT,     /* no two nearer than 2 / elements: maxima are unique        */
    FILL_STEPS,        /* quarters: zeros and equal maxima are frequent             */
    FILL_PROBABILITY,  /* 0.05 .. 0.95                                              */
    FILL_DISTRIBUTION, /* rows of the last axis are positive and sum to about 1     */
    FILL_BELOW,        /* integers 0 .. limit - 1                                   */
    FILL_INTEGERS,     /* large positive and negative integers                      */
    FILL_GIVEN         /* by the builder                                            */
} fill;

typedef struct operand {
    char name[16];
    fv_type type;
    bool number; /* 16 bits: value is the number; else their pattern */
    fv_shape shape;
    bool absent;
    fill fill;
    int64_t limit;
    int within; /* lies in the memory of input within - 1, `offset` elements from its start */
    int64_t offset;
    double *value; /* of every element, whatever the type */
} operand;

typedef struct word {
    char name[24];
    double value[8];
    int count;
} word;

typedef struct problem {
    char text[PROBLEM_TEXT];
    word word[MOST_WORDS];
    int word_count;
    uint64_t seed;
    bool smooth; /* inputs stay away from kinks: for differences */
    fv_op op;
    fv_attributes attributes;
    operand input[MOST_OPERANDS];
    int input_count;
    operand output[MOST_OUTPUTS];
    int output_count; /* by infer; absent: not wanted */
    int64_t terms;    /* length of the longest sum behind one output element */
    fv_type half;     /* the device has its operands in bf16 or f16, rounded so; the oracle in f32: else FV_F32 */
    char error[1200];
} problem;

/* Parses, infers, fills. The context is that of the oracle ("reference64"). 0, or -1 with problem->error. */
int problem_make(fv_context *, const char *text, uint64_t seed, bool smooth, problem **out);
void problem_free(problem *);
int problem_fail(problem *, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Words. A word without a number counts as 1; an entry beyond the last one given repeats it. */
bool has_word(const problem *, const char *name);
double number(const problem *, const char *name, int index, double otherwise);
static inline int64_t whole(const problem *p, const char *name, int index, int64_t otherwise) {
    return (int64_t)number(p, name, index, (double)otherwise);
}
/* The nth word of this name as a shape. */
fv_shape shape_word(const problem *, const char *name, int nth);
#define SHAPE(...) ((fv_shape){ (int32_t)(sizeof((int64_t[]){ __VA_ARGS__ }) / sizeof(int64_t)), { __VA_ARGS__ } })

/* The input that an operation overwrites with this output, or -1. */
static inline int written_input(fv_op op, int output) { return output < 4 ? fv_op_table[op]->writes[output] - 1 : -1; }

operand *add_input(problem *, const char *name, fv_type, fill, fv_shape);
operand *add_absent(problem *, const char *name);
operand *add_control(problem *);
/* An input that another operation makes from the same words: its output `output`, rounded to f32. */
int add_derived(fv_context *, problem *, const char *name, const char *operation, int output);

/* ---- What the tests know of an operation ------------------------------------------------------------------------- */

typedef enum bound_kind {
    BOUND_EXACT,    /* the oracle's value rounded to f32                                        */
    BOUND_ROUNDED,  /* a few roundings: 8 u |y|                                                 */
    BOUND_ABSOLUTE, /* 8 u sqrt(terms) times the operation on the inputs' absolute values        */
    BOUND_OWN       /* 8 u sqrt(terms) times the rule's own magnitude                            */
} bound_kind;

/* output: of the oracle; magnitude: to fill, one number an element of every output that is wanted. */
typedef void magnitude_function(const problem *, double *const *output, double *const *magnitude);
typedef struct drawing {
    fv_random random;
    char *text;
    size_t used;
} drawing;

enum { MOST_LISTS = 6 };
typedef struct op_rule {
    int (*build)(fv_context *, problem *); /* from words to attributes and operands                   */
    bound_kind bound;
    magnitude_function *magnitude;
    uint32_t differentiable;             /* bit i: the gradient of input i is compared with differences */
    bool kinked;                         /* its input has steps; for differences it stays away from zero */
    void (*random)(fv_op, drawing *);    /* says the words of a random row; NULL: it has none       */
    const char *const *rows[MOST_LISTS]; /* lists of rows, each without the operation's name, ending with NULL */
    const char *const *performance;      /* such a list: sizes of real nets, for --perf             */
} op_rule;

/* tests/operations/<family>.c: RULE(relu, .build = build_unary, ..., .rows = { shapes_of_any_rank, ROWS("x100 nan7") }); */
#define RULE(name, ...) const op_rule op_rule_##name = { __VA_ARGS__ }
#define ROWS(...)                                                                                                      \
    (const char *const[]) { __VA_ARGS__, NULL }
#define FV_OP(name, least, most, outputs, flags, ...) extern const op_rule op_rule_##name;
#include "ops.def"
#undef FV_OP
extern const op_rule *const op_rules[FV_OP_COUNT];

/* table.c: row `number` of an operation in full, as a line; false past its last. */
bool table_row(fv_op, int number, char text[PROBLEM_TEXT]);
bool performance_row(fv_op, int number, char text[PROBLEM_TEXT]);
bool random_row(fv_op, uint64_t number, char text[PROBLEM_TEXT]);
extern const char *const shapes_of_any_rank[];

/* words.c: what builders share */
bool is(const problem *, const char *operation);
int32_t activation_word(const problem *, float *alpha);
void pad_words(const problem *, int32_t pad[4]);
void pair_words(const problem *, const char *name, int32_t otherwise, int32_t out[2]);
fv_shape image_words(const problem *);
operand *given(problem *, const char *name, fv_type, fv_shape);
void choose_type(const problem *, operand *);
int build_unary(fv_context *, problem *);
int build_shaping(fv_context *, problem *);
/* An activation, with and without a bias. */
#define BIAS_ACTIVATIONS(words)                                                                                        \
    words, words " relu", words " tanh", words " sigmoid", words " nobias relu", words " nobias",                      \
        words " leaky_relu alpha0.1", words " elu alpha0.5", words " selu", words " relu6", words " hard_tanh",        \
        words " hard_sigmoid", words " softplus", words " softsign nobias", words " gelu", words " gelu_tanh",         \
        words " silu", words " mish", words " hard_silu nobias", words " exponential"

/* magnitude.c */
int64_t elements_of(const operand *), channels_of(const operand *);
const double *values(const problem *, const char *name);
double largest(const double *value, int64_t count);
magnitude_function magnitude_output;

/* draw.c: what random rows are made of */
int below(drawing *, int n), between(drawing *, int low, int high);
bool chance(drawing *, int in);
void say(drawing *, const char *format, ...) __attribute__((format(printf, 2, 3)));
void say_activation(drawing *);
int say_shape(drawing *, const char *name, int least, int most, int *dim);

/* fill.c */
void fill_operand(problem *, operand *);

/* ---- Running ----------------------------------------------------------------------------------------------------- */

typedef enum outcome { RAN, UNSUPPORTED, FAILED } outcome;
/* Runs the operation on the context's device with `kernel` (NULL: the backend's own). Every output that is wanted
 * goes to result[o], made here (free with free_results). Buffers are surrounded by guards; two runs at different
 * addresses must give the same bits; inputs that the operation does not overwrite must stay as they are. why: at
 * least 1200 bytes. */
outcome run_problem(fv_context *, const fv_kernel *kernel, const problem *, double **result, char *why);
/* One run only, on the backend's own kernel. */
outcome run_problem_once(fv_context *, const problem *, double **result, char *why);
void free_results(double **result);
/* The same in double precision; a fused operation by what it stands for. 0, or -1 and why. */
int run_oracle(fv_context *reference64, const problem *, double **result, char *why);
/* Runs operations first .. last - 1 of a tape, each value in memory of its own; value[id] in doubles. */
int run_tape(fv_context *reference64, const fv_tape *, int32_t first, int32_t last, double **value, char *why);
double **tape_values(const fv_tape *);
void free_tape_values(const fv_tape *, double **value);
/* Seconds of one run, the best of many. */
double time_problem(fv_context *, const problem *, char *algorithm, size_t bytes);

/* ---- Judging ----------------------------------------------------------------------------------------------------- */

typedef struct judgement {
    double worst; /* error as a part of its bound */
    char why[1400];
} judgement;
/* result against the oracle's; false and why when an element is beyond its bound. */
bool judge(fv_context *reference64, const problem *, double *const *result, judgement *);
bool check_problem(fv_context *reference64, fv_context *device, const fv_kernel *kernel, const problem *, judgement *,
                   outcome *);
/* The same where the operands that may be (src/ops/precision.c) are bf16 or f16 on the device. The values of the problem are
 * rounded so. */
bool check_half(fv_context *reference64, fv_context *device, problem *, fv_type half, judgement *, outcome *);
/* The gradient that fv_backward records against central differences; worst is the largest relative error. */
bool check_gradient(fv_context *reference64, const char *text, uint64_t seed, judgement *);

fv_op operation_of(const char *text); /* by the first word; FV_OP_NONE */
#endif
