/* names.c - what ops.def alone says: the names of the operations and the checksum that a plugin must share. Free of
 * everything else, so that a plugin can link it without the meanings. */
#include "ops/ops.h"

static const char *const names[FV_OP_COUNT] = {
#define FV_OP(name, least, most, outputs, flags, ...) [FV_OP_##name] = #name,
#include "ops.def"
#undef FV_OP
};

static const char *const abouts[FV_OP_COUNT] = {
#define FV_OP(name, least, most, outputs, flags, ...) [FV_OP_##name] = "" __VA_ARGS__,
#include "ops.def"
#undef FV_OP
};

const char *fv_op_name(fv_op op) { return op > FV_OP_NONE && op < FV_OP_COUNT ? names[op] : "none"; }
const char *fv_op_about(fv_op op) { return op > FV_OP_NONE && op < FV_OP_COUNT ? abouts[op] : ""; }

/* The list as one text; a change of any entry or of the order changes it. */
static const char list[] =
#define FV_OP(name, least, most, outputs, flags, ...) #name " " #least " " #most " " #outputs " " #flags "\n"
#include "ops.def"
#undef FV_OP
    ;

/* FNV-1a, the size of the attributes being its last word. */
uint32_t fv_op_checksum(void) {
    uint32_t hash = 2166136261u;
    for (const char *c = list; *c; c++) hash = (hash ^ (unsigned char)*c) * 16777619u;
    return (hash ^ (uint32_t)sizeof(fv_attributes)) * 16777619u;
}
