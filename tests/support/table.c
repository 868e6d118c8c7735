/* table.c - the table of operation tests, gathered from ops.def: an operation without an entry is a link error. */
#include "support/operations.h"
#include <string.h>

const op_rule *const op_rules[FV_OP_COUNT] = {
#define FV_OP(name, least, most, outputs, flags, ...) [FV_OP_##name] = &op_rule_##name,
#include "ops.def"
#undef FV_OP
};

/* Shared by many operations. */
const char *const shapes_of_any_rank[] = {
    "x",      "x1",       "x2",           "x3",         "x7",           "x8",   "x15",   "x17",
    "x31",    "x33",      "x64",          "x127",       "x1000",        "x3,5", "x5,16", "x33,31",
    "x1,1,1", "x2,3,4,5", "x2,1,3,1,2,2", "x7,1,5,1,3", "x1,1,1,1,1,1", NULL
};

static void join(fv_op op, const char *words, char text[PROBLEM_TEXT]) {
    snprintf(text, PROBLEM_TEXT, "%s%s%s", fv_op_name(op), *words ? " " : "", words);
}

bool table_row(fv_op op, int number, char text[PROBLEM_TEXT]) {
    for (int list = 0; list < MOST_LISTS && op_rules[op]->rows[list]; list++)
        for (const char *const *row = op_rules[op]->rows[list]; *row; row++)
            if (number-- == 0) {
                join(op, *row, text);
                return true;
            }
    return false;
}

bool performance_row(fv_op op, int number, char text[PROBLEM_TEXT]) {
    const char *const *row = op_rules[op]->performance;
    while (row && *row && number-- > 0) row++;
    if (!row || !*row) return false;
    join(op, *row, text);
    return true;
}

bool random_row(fv_op op, uint64_t number, char text[PROBLEM_TEXT]) {
    if (!op_rules[op]->random) return false;
    drawing d = { fv_random_make(number, (uint64_t)op), text, 0 };
    say(&d, "%s", fv_op_name(op));
    op_rules[op]->random(op, &d);
    return true;
}
