/* list.c - the table of operations for people: fv_operations tells of each one what `fovea operations` prints and
 * docs/operations.md holds. */
#include "core/core.h"
#include "ops/ops.h"
#include <string.h>

static const fv_backend *const backends[] = { &fv_backend_reference, &fv_backend_cpu };

static void name_backends(fv_op op, char *text, size_t bytes) {
    const char *between = "";
    text[0] = 0;
    for (size_t i = 0; i < sizeof backends / sizeof *backends; i++) {
        if (!backends[i]->kernels[op].run) continue;
        const size_t used = strlen(text);
        snprintf(text + used, bytes - used, "%s%s", between, backends[i]->name);
        between = ", ";
    }
}

/* As the compiler was told it, from src/ on. */
static const char *source_of(const fv_op_desc *desc) {
    const char *start = strstr(desc->source, "src/ops/");
    return start ? start : desc->source;
}

int fv_operations(void (*each)(void *user, const fv_operation_info *), void *user) {
    for (int op = FV_OP_NONE + 1; each && op < FV_OP_COUNT; op++) {
        const fv_op_desc *desc = fv_op_table[op];
        char attributes[400], names[80];
        const fv_operation_info info = {
            .name = desc->name,
            .about = fv_op_about((fv_op)op),
            .attributes = fv_op_attributes_form((fv_op)op, attributes, sizeof attributes),
            .backends = names,
            .source = source_of(desc),
            .least = desc->least,
            .most = desc->most,
            .outputs = desc->outputs,
            .gradient = desc->gradient != NULL,
            .fused = (desc->flags & FV_FUSED) != 0,
            .view = (desc->flags & FV_ALIAS) != 0,
            .writes = (desc->flags & FV_WRITES) != 0,
        };
        name_backends((fv_op)op, names, sizeof names);
        if (info.view) names[0] = 0;
        each(user, &info);
    }
    return FV_OP_COUNT - FV_OP_NONE - 1;
}
