/* onnx.h - ONNX's own operator tests on the tape. onnx.c reads the files (protobuf, just the messages that occur there);
 * onnx_graph.c gives operands of a node as values of a tape, in Fovea's layout where an operator wants it; the other
 * onnx_*.c say what each ONNX operator is in Fovea's operations; test_onnx.c runs and compares. */
#ifndef FV_TEST_ONNX_H
#define FV_TEST_ONNX_H
#include "tape/tape.h"

/* ---- Files ------------------------------------------------------------------------------------------------------- */

/* Numbers of TensorProto.DataType. */
enum { ONNX_FLOAT = 1, ONNX_UINT8, ONNX_INT8, ONNX_UINT16, ONNX_INT16, ONNX_INT32, ONNX_INT64, ONNX_STRING, ONNX_BOOL,
       ONNX_FLOAT16, ONNX_DOUBLE, ONNX_UINT32, ONNX_UINT64, ONNX_BFLOAT16 = 16 };
enum { ONNX_RANK = 10, ONNX_OPERANDS = 16, ONNX_NODES = 24, ONNX_TENSORS = 32, ONNX_ATTRIBUTES = 20, ONNX_LIST = 40 };

typedef struct onnx_tensor { char name[80]; int type, rank; int64_t dim[ONNX_RANK], elements; double *value; /* NULL: not numbers */ } onnx_tensor;

typedef struct onnx_attribute {
    char name[40], text[40];
    double real;
    int64_t integer, list[ONNX_LIST]; /* of ints */
    double reals[ONNX_LIST];
    int count;                        /* of list or reals */
    onnx_tensor *tensor;
} onnx_attribute;

typedef struct onnx_node {
    char operator[48], domain[32];
    char input[ONNX_OPERANDS][80], output[ONNX_OPERANDS][80];
    int input_count, output_count, attribute_count;
    onnx_attribute attribute[ONNX_ATTRIBUTES];
} onnx_node;

typedef struct onnx_model {
    onnx_node *node; int node_count;
    onnx_tensor *initializer[ONNX_TENSORS]; int initializer_count;
    char input[ONNX_TENSORS][80], output[ONNX_TENSORS][80]; int input_count, output_count; /* of the graph */
    int64_t opset;
} onnx_model;

/* NULL when the file is missing, damaged, or has more of something than the limits above. */
onnx_model *onnx_read_model(const char *path);
onnx_tensor *onnx_read_tensor(const char *path);
void onnx_model_free(onnx_model *);
void onnx_tensor_free(onnx_tensor *);

/* ---- A graph on a tape ------------------------------------------------------------------------------------------- */

typedef struct onnx_value {
    char name[80];
    const onnx_tensor *known;   /* inputs, initialisers and constants: their numbers                            */
    fv_value plain;             /* in ONNX's layout, id 0: not made                                             */
    fv_value last;              /* channels last, rank 4; rank is ONNX's                                        */
    int rank;
} onnx_value;

typedef struct onnx_feed { fv_value value; fv_type type; int64_t elements; double *data; } onnx_feed;

typedef struct onnx_graph {
    fv_tape *tape;
    const onnx_model *model;
    const onnx_node *node;      /* being recorded */
    onnx_value value[4 * ONNX_TENSORS]; int value_count;
    onnx_feed feed[4 * ONNX_TENSORS]; int feed_count;  /* what to write before a run */
    char why[400];              /* the first reason why it cannot be recorded */
} onnx_graph;

/* Records all nodes. given: the graph's inputs in order. 0, or -1 with graph->why or the context's error. */
int onnx_record(onnx_graph *, fv_tape *, const onnx_model *, onnx_tensor *const *given, int count);
void onnx_graph_free(onnx_graph *);
/* The graph's output in ONNX's layout. order: element i of it is element order[i] of the value's; NULL: as it lies. */
fv_value onnx_graph_output(onnx_graph *, int output, fv_shape *shape, int64_t **order);

/* For the recorders of operators: the node's input i. They return an invalid value after onnx_cannot. */
fv_value onnx_cannot(onnx_graph *, const char *format, ...) __attribute__((format(printf, 2, 3)));
bool onnx_has(const onnx_graph *, int input);
fv_value onnx_plain(onnx_graph *, int input);    /* f32, as in the file */
fv_value onnx_last(onnx_graph *, int input);     /* f32, [n, c, h, w] or [n, c, w] to [n, h, w, c]; also filters, OIHW to OHWI */
fv_value onnx_number(onnx_graph *, int input);   /* f32 also of integers and of bool, where f32 holds them exactly */
fv_value onnx_index(onnx_graph *, int input);    /* i32 */
fv_value onnx_wrapped(onnx_graph *, int input, int64_t size); /* i32; those below 0 count from the end of size */
fv_value onnx_last_index(onnx_graph *, int input, int64_t modulus); /* i32, [n, c, h, w] to [n, h, w, c], modulo */
fv_value onnx_typed(onnx_graph *, int input);    /* of the file's own type, if Fovea has it */
fv_value onnx_permuted(onnx_graph *, int input, const int *axes); /* f32 */
fv_value onnx_transpose(onnx_graph *, fv_value, const int *axes);
const onnx_tensor *onnx_known(onnx_graph *, int input); /* its numbers; NULL after onnx_cannot */
int onnx_rank(onnx_graph *, int input);
int onnx_type(onnx_graph *, int input); /* ONNX's; 0: of a computed value */
const fv_shape *onnx_shape(const onnx_graph *, fv_value);
int onnx_axis(onnx_graph *, const char *attribute, int64_t otherwise, int rank); /* 0 .. rank - 1 */
int64_t onnx_integer(const onnx_graph *, const char *attribute, int64_t otherwise);
double onnx_real(const onnx_graph *, const char *attribute, double otherwise);
const char *onnx_text(const onnx_graph *, const char *attribute, const char *otherwise);
const onnx_attribute *onnx_attribute_of(const onnx_graph *, const char *attribute); /* NULL: not given */
/* The node's output o. */
void onnx_give(onnx_graph *, int output, fv_value plain);
void onnx_give_last(onnx_graph *, int output, fv_value last, int rank);
void onnx_give_known(onnx_graph *, int output, const onnx_tensor *);

/* Some small compositions that several operators share. */
fv_value onnx_reshaped(onnx_graph *, fv_value, int rank, const int64_t *dims);
fv_value onnx_power(onnx_graph *, fv_value, double exponent);
fv_value onnx_scaled(onnx_graph *, fv_value, double a, double b); /* a x + b */

typedef void onnx_recorder(onnx_graph *);
typedef struct onnx_operator { const char *name; onnx_recorder *record; } onnx_operator;
extern const onnx_operator onnx_window_operators[], onnx_value_operators[], onnx_shape_operators[], onnx_other_operators[]; /* end with NULL */
onnx_recorder *onnx_recorder_of(const char *operator); /* NULL: there is none */

/* ---- What does not apply ----------------------------------------------------------------------------------------- */
enum { ONNX_PATTERNS = 80 };
typedef struct onnx_exception { const char *reason, *pattern[ONNX_PATTERNS]; } onnx_exception; /* patterns end with NULL */
extern const onnx_exception onnx_exceptions[]; /* ends with NULL */
#endif
