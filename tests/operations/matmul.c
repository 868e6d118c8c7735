/* matmul.c - products of matrices, with the axes before them broadcast. */
#include "support/operations.h"

/* matmul a2,3 b3,4 ta tb */
static int build_matmul(fv_context *context, problem *p) {
    const fv_shape a = shape_word(p, "a", 0), b = shape_word(p, "b", 0);
    const bool ta = has_word(p, "ta");
    (void)context;
    p->attributes.matmul = (fv_matmul_attributes){ ta, has_word(p, "tb") };
    p->terms = a.dim[a.rank - (ta ? 2 : 1)];
    add_input(p, "a", FV_F32, FILL_UNIFORM, a);
    add_input(p, "b", FV_F32, FILL_UNIFORM, b);
    return 0;
}

static void random_matmul(fv_op op, drawing *d) {
    const int m = between(d, 1, 20), n = between(d, 1, 40), k = between(d, 1, 30);
    const bool ta = chance(d, 2), tb = chance(d, 2);
    const int axes = below(d, 4);
    int dim[3];
    for (int i = 0; i < axes; i++) dim[i] = between(d, 1, 3);
    for (int which = 0; which < 2; which++) {
        say(d, which ? " b" : " a");
        for (int i = chance(d, 3) ? axes : 0; i < axes; i++) say(d, "%d,", chance(d, 3) ? 1 : dim[i]);
        if (which) say(d, "%d,%d", tb ? n : k, tb ? k : n);
        else say(d, "%d,%d", ta ? k : m, ta ? m : k);
    }
    say(d, "%s%s", ta ? " ta" : "", tb ? " tb" : "");
}

RULE(matmul, .build = build_matmul, .bound = BOUND_ABSOLUTE, .differentiable = 3, .random = random_matmul,
     .rows = { ROWS("a1,1 b1,1", "a2,3 b3,4", "a3,2 b3,4 ta", "a2,3 b4,3 tb", "a3,2 b4,3 ta tb", "a1,7 b7,1", "a7,1 b1,7",
                    "a5,2,3 b5,3,4", "a5,3,2 b5,3,4 ta", "a5,2,3 b5,4,3 tb", "a5,3,2 b5,4,3 ta tb", "a5,2,3 b3,4",
                    "a5,2,3 b4,3 tb", "a5,3,2 b3,4 ta", "a2,3 b5,3,4", "a1,2,3 b5,3,4", "a2,1,2,3 b3,3,4",
                    "a2,3,2,3 b3,3,4", "a2,3,2,3 b2,1,3,4", "a2,3,4,5,2,3 b1,3,1,5,3,2", "a1,1,2,3 b1,3,4", "a3,17,33 b3,33,15",
                    "a4,1,50 b4,33,50 tb", "a4,3,50 b33,50 tb", "a6,16,16 b6,16,16 ta tb", "a2,3,2,3 b1,1,4,3 tb",
                    "a20,1100 b1100,9", "a1100,20 b1100,9 ta",
                    "a8,64,48 b8,48,80 large", "a8,64,48 b8,80,48 tb large", "a2,300,200 b2,200,260 large",
                    "a2,200,300 b2,260,200 ta tb large", "a40,20,70 b70,90 large", "a300,12,9 b300,9,13 large",
                    "a33,700 b700,65 large", "a700,33 b700,65 ta large") },
     .performance = ROWS("a512,512 b512,512", "a512,512 b512,512 ta tb", "a96,128,64 b96,128,64 tb", "a96,128,128 b96,128,64",
                         "a512,16,16 b512,16,16", "a32,196,768 b768,768"));
