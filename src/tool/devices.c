/* devices.c - fovea devices: what this machine can compute on, and why something cannot be used. */
#include "tool/tool.h"

static error_t parse(int key, char *text, struct argp_state *state) {
    if (key == ARGP_KEY_INIT) return state->child_inputs[0] = state->input, 0;
    if (key == ARGP_KEY_ARG) argp_error(state, "'%s' is not an option", text);
    return ARGP_ERR_UNKNOWN;
}

static void line(void *user, const char *name, const char *description, const char *why) {
    (void)user;
    if (why) printf("%-12s not usable: %s\n", name, why);
    else printf("%-12s %s\n", name, description);
}

static void text(const char *s) { /* a JSON string */
    putchar('"');
    for (; *s; s++) {
        if (*s == '"' || *s == '\\') printf("\\%c", *s);
        else if ((unsigned char)*s < 32) printf("\\u%04x", *s);
        else putchar(*s);
    }
    putchar('"');
}

static void object(void *user, const char *name, const char *description, const char *why) {
    printf("%s{\"name\": ", (*(int *)user)++ ? ", " : "");
    text(name);
    printf(", \"usable\": %s, \"description\": ", why ? "false" : "true");
    text(why ? why : description);
    putchar('}');
}

int tool_devices(int argc, char **argv) {
    tool_options o = { 0 };
    const struct argp_child children[] = { { &tool_argp, 0, "Common options", 8 }, { 0 } };
    argp_parse(&(struct argp){ NULL, parse, NULL, "Lists the devices.", children, 0, 0 }, argc, argv, 0, NULL, &o);
    if (!o.json) return fv_devices(line, NULL) > 0 ? 0 : 1;
    int count = 0;
    printf("{\"devices\": [");
    int usable = fv_devices(object, &count);
    printf("]}\n");
    return usable > 0 ? 0 : 1;
}
