/* config_value.c - numbers, activations, initialisers and regularisers in Keras's JSON, both ways and in the spellings
 * of three generations of Keras. */
#include "net/config.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- Writing ----------------------------------------------------------------------------------------------------- */

void fv_json_put(json_t **object, const char *key, json_t *value) {
    if (!*object) {
        json_decref(value);
    } else if (!value || json_object_set_new(*object, key, value)) {
        json_decref(*object);
        *object = NULL;
    }
}

json_t *fv_json_float(float value) {
    char text[32];
    for (int digits = 1; digits <= 9; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, (double)value);
        if (strtof(text, NULL) == value) break;
    }
    return json_real(strtod(text, NULL));
}

json_t *fv_json_pair(const int32_t pair[2]) { return json_pack("[i,i]", (int)pair[0], (int)pair[1]); }

json_t *fv_json_window(const fv_layer *layer, const int32_t pair[2]) {
    return fv_layer_types[layer->kind].sequence ? json_integer(pair[1]) : fv_json_pair(pair);
}

json_t *fv_json_sides(const fv_layer *layer, const int32_t sides[4]) {
    if (fv_layer_types[layer->kind].sequence) return fv_json_pair(sides + 2);
    return json_pack("[[i,i],[i,i]]", (int)sides[0], (int)sides[1], (int)sides[2], (int)sides[3]);
}

/* An object as Keras 3 writes it; older ones look at class and config only. */
json_t *fv_json_object(const char *module, const char *class_name, json_t *config) {
    if (!config) return NULL;
    return json_pack("{s:s,s:s,s:o,s:n}", "module", module, "class_name", class_name, "config", config,
                     "registered_name");
}

static const struct { const char *class_name, *short_name, *number[2]; } initializers[FV_INITIALIZER_COUNT] = {
    [FV_INITIALIZER_ZEROS] = { "Zeros", "zeros", { NULL } },
    [FV_INITIALIZER_ONES] = { "Ones", "ones", { NULL } },
    [FV_INITIALIZER_CONSTANT] = { "Constant", "constant", { "value" } },
    [FV_INITIALIZER_UNIFORM] = { "RandomUniform", "random_uniform", { "minval", "maxval" } },
    [FV_INITIALIZER_NORMAL] = { "RandomNormal", "random_normal", { "mean", "stddev" } },
    [FV_INITIALIZER_GLOROT_UNIFORM] = { "GlorotUniform", "glorot_uniform", { NULL } },
    [FV_INITIALIZER_GLOROT_NORMAL] = { "GlorotNormal", "glorot_normal", { NULL } },
    [FV_INITIALIZER_HE_UNIFORM] = { "HeUniform", "he_uniform", { NULL } },
    [FV_INITIALIZER_HE_NORMAL] = { "HeNormal", "he_normal", { NULL } },
    [FV_INITIALIZER_LECUN_UNIFORM] = { "LecunUniform", "lecun_uniform", { NULL } },
    [FV_INITIALIZER_LECUN_NORMAL] = { "LecunNormal", "lecun_normal", { NULL } },
    [FV_INITIALIZER_TRUNCATED_NORMAL] = { "TruncatedNormal", "truncated_normal", { "mean", "stddev" } },
    [FV_INITIALIZER_VARIANCE_SCALING] = { "VarianceScaling", "variance_scaling", { "scale" } }, /* and two words */
    [FV_INITIALIZER_ORTHOGONAL] = { "Orthogonal", "orthogonal", { "gain" } },
    [FV_INITIALIZER_IDENTITY] = { "Identity", "identity", { "gain" } },
    [FV_INITIALIZER_DIRAC] = { "fovea>Dirac", "dirac", { "groups" } },
};

static const char *const fans[] = { [FV_FAN_IN] = "fan_in", [FV_FAN_OUT] = "fan_out", [FV_FAN_AVERAGE] = "fan_avg" };
static const char *const distributions[] = { [FV_TRUNCATED_NORMAL] = "truncated_normal",
                                             [FV_UNTRUNCATED_NORMAL] = "untruncated_normal",
                                             [FV_UNIFORM] = "uniform" };

json_t *fv_json_initializer(const fv_initializer *initializer) {
    json_t *config = json_object();
    if (initializer->kind == FV_INITIALIZER_VARIANCE_SCALING) {
        fv_json_put(&config, "mode", json_string(fans[(int)initializer->value[1]]));
        fv_json_put(&config, "distribution", json_string(distributions[(int)initializer->value[2]]));
    }
    for (int i = 0; i < 2 && initializers[initializer->kind].number[i]; i++)
        fv_json_put(&config, initializers[initializer->kind].number[i], fv_json_float(initializer->value[i]));
    const char *class_name = initializers[initializer->kind].class_name;
    bool ours = !strncmp(class_name, "fovea>", 6);
    json_t *object = config ? fv_json_object(ours ? "fovea" : "keras.initializers", class_name, config) : NULL;
    if (ours) fv_json_put(&object, "registered_name", json_string(class_name));
    return object;
}

json_t *fv_json_regularizer(float l1, float l2) {
    json_t *config = json_object();
    fv_json_put(&config, "l1", fv_json_float(l1));
    fv_json_put(&config, "l2", fv_json_float(l2));
    return config ? fv_json_object("keras.regularizers", "L1L2", config) : NULL;
}

/* ---- Reading ----------------------------------------------------------------------------------------------------- */

int fv_keras_fail(fv_keras_reader *r, fv_status status, const char *format, ...) {
    char sentence[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(sentence, sizeof sentence, format, arguments);
    va_end(arguments);
    int code = fv_fail(r->context, status, "layer %.80s of class %.60s: %s", r->layer, r->class_name, sentence);
    if (!r->status) r->status = code;
    return code;
}

json_t *fv_keras_value(const fv_keras_reader *r, const char *keys) {
    char key[64];
    for (;;) {
        size_t length = strcspn(keys, "|");
        snprintf(key, sizeof key, "%.*s", (int)length, keys);
        json_t *value = json_object_get(r->config, key);
        if (value && !json_is_null(value)) return value;
        if (!keys[length]) return NULL;
        keys += length + 1;
    }
}

static void fail_type(fv_keras_reader *r, const char *keys, const char *wanted) {
    fv_keras_fail(r, FV_ERROR_FORMAT, "option '%.*s' is not %s", (int)strcspn(keys, "|"), keys, wanted);
}

static bool whole_number(const json_t *value, int32_t *out) {
    double number = json_is_number(value) ? json_number_value(value) : NAN;
    if (!(number >= INT32_MIN && number <= INT32_MAX) || number != floor(number)) return false;
    *out = (int32_t)number;
    return true;
}

void fv_keras_int(fv_keras_reader *r, const char *keys, int32_t *out) {
    const json_t *value = fv_keras_value(r, keys);
    if (value && !whole_number(value, out)) fail_type(r, keys, "a whole number");
}

/* One number for both, or two; of a sequence one, which may be in a list. What is given must be at least 1: zero means
 * "default" in our own options. */
void fv_keras_pair(fv_keras_reader *r, const char *keys, int32_t out[2]) {
    const json_t *value = fv_keras_value(r, keys);
    if (!value) return;
    bool list = json_is_array(value);
    size_t count = list ? json_array_size(value) : 1;
    bool fits = list ? count == (r->sequence ? 1 : 2) : true;
    for (size_t i = 0; fits && i < count; i++) fits = whole_number(list ? json_array_get(value, i) : value, out + i);
    if (fits && count == 1) out[1] = out[0];
    if (fits && r->sequence) out[0] = 1;
    if (!fits || out[0] < 1 || out[1] < 1)
        fail_type(r, keys, r->sequence ? "a whole number of at least 1" : "one or two whole numbers of at least 1");
}

void fv_keras_sides(fv_keras_reader *r, const char *key, int32_t otherwise, int32_t sides[4]) {
    const json_t *value = fv_keras_value(r, key);
    for (int side = r->sequence ? 2 : 0; side < 4; side++) {
        const json_t *pixels = value;
        if (json_is_array(value)) pixels = json_array_get(value, (size_t)(r->sequence ? side - 2 : side / 2));
        if (json_is_array(pixels)) pixels = json_array_get(pixels, (size_t)side % 2);
        json_int_t number = value ? json_integer_value(pixels) : otherwise;
        if ((value && !json_is_integer(pixels)) || number < 0 || number > INT32_MAX) {
            fail_type(r, key, "a number of pixels for each side");
            return;
        }
        sides[side] = (int32_t)number;
    }
}

void fv_keras_bool(fv_keras_reader *r, const char *keys, bool *out) {
    const json_t *value = fv_keras_value(r, keys);
    if (!value) return;
    if (json_is_boolean(value)) *out = json_is_true(value);
    else if (json_is_integer(value)) *out = json_integer_value(value) != 0;
    else fail_type(r, keys, "true or false");
}

static bool finite_number(const json_t *value, float *out) {
    if (!json_is_number(value) || !isfinite((float)json_number_value(value))) return false;
    *out = (float)json_number_value(value);
    return true;
}

void fv_keras_float(fv_keras_reader *r, const char *keys, float *out) {
    const json_t *value = fv_keras_value(r, keys);
    if (value && !finite_number(value, out)) fail_type(r, keys, "a number");
}

/* The name of a function: "relu", or the object that Keras 3 may write for one. */
static const char *function_name(const json_t *value) {
    if (json_is_object(value)) {
        const json_t *config = json_object_get(value, "config");
        if (!json_is_string(config)) config = json_object_get(value, "registered_name");
        if (!json_is_string(config)) config = json_object_get(value, "class_name");
        value = config;
    }
    return json_string_value(value);
}

void fv_keras_activation(fv_keras_reader *r, const char *keys, fv_activation *out) {
    const json_t *value = fv_keras_value(r, keys);
    const char *name = value ? function_name(value) : "linear", *ours;
    if (!name) {
        fail_type(r, keys, "the name of an activation");
        return;
    }
    static const char *const aliases[][2] = { { "swish", "silu" }, { "hard_swish", "hard_silu" } };
    for (int i = 0; i < 2; i++)
        if (!strcmp(name, aliases[i][0])) name = aliases[i][1];
    for (int i = 0; (ours = fv_activation_name((fv_activation)i)); i++)
        if (!strcmp(name, ours)) {
            *out = (fv_activation)i;
            return;
        }
    fv_keras_fail(r, FV_ERROR_UNSUPPORTED, "activation '%.60s' is not supported", name);
}

static int word_of(const char *const *words, int count, const char *word) {
    int i = 0;
    while (i < count && word && strcmp(words[i], word)) i++;
    return word ? i : count;
}

/* Scale, fan and distribution. Older files name by them the initialisers that have a name today; "normal" was a
 * truncated one. Kind 0: it is none. */
static fv_initializer variance_scaling(const json_t *config) {
    const char *mode = json_string_value(json_object_get(config, "mode"));
    const char *distribution = json_string_value(json_object_get(config, "distribution"));
    double scale = json_number_value(json_object_get(config, "scale"));
    if (distribution && !strcmp(distribution, "normal")) distribution = distributions[FV_TRUNCATED_NORMAL];
    int fan = word_of(fans, 3, mode), shape = word_of(distributions, 3, distribution);
    fv_initializer none = { .kind = FV_INITIALIZER_DEFAULT };
    if (fan == 3 || shape == 3 || !(scale > 0) || !isfinite((float)scale)) return none;
    bool uniform = shape == FV_UNIFORM;
    if (shape == FV_UNTRUNCATED_NORMAL) return fv_variance_scaling((float)scale, (fv_fan)fan, (fv_distribution)shape);
    if (fan == FV_FAN_AVERAGE && scale == 1) return uniform ? fv_glorot_uniform() : fv_glorot_normal();
    if (fan == FV_FAN_IN && scale == 1) return uniform ? fv_lecun_uniform() : fv_lecun_normal();
    if (fan == FV_FAN_IN && scale == 2) return uniform ? fv_he_uniform() : fv_he_normal();
    return fv_variance_scaling((float)scale, (fv_fan)fan, (fv_distribution)shape);
}

void fv_keras_initializer(fv_keras_reader *r, const char *keys, fv_initializer *out) {
    const json_t *value = fv_keras_value(r, keys), *config = json_object_get(value, "config");
    const char *name =
        json_is_object(value) ? json_string_value(json_object_get(value, "class_name")) : json_string_value(value);
    if (!value || !name) return;
    if (!strcmp(name, "VarianceScaling")) *out = variance_scaling(config);
    for (uint32_t kind = 1; kind < FV_INITIALIZER_COUNT; kind++) {
        if (kind == FV_INITIALIZER_VARIANCE_SCALING) continue;
        if (strcmp(name, initializers[kind].class_name) && strcmp(name, initializers[kind].short_name)) continue;
        fv_initializer read = { .kind = kind };
        for (int i = 0; i < 2 && initializers[kind].number[i]; i++)
            if (!finite_number(json_object_get(config, initializers[kind].number[i]), &read.value[i])) return;
        *out = read;
    }
    /* The weights come from the file, so an initialiser that we lack costs nothing but a word. */
    if (out->kind == FV_INITIALIZER_DEFAULT)
        fv_log(r->context,
               "layer %.80s: the initializer %.60s is not known; a weight that is drawn anew gets the default one",
               r->layer, name);
}

void fv_keras_regularizer(fv_keras_reader *r, const char *keys, float *l1, float *l2) {
    const json_t *value = fv_keras_value(r, keys), *numbers = json_object_get(value, "config");
    if (!value) return;
    const char *name = json_string_value(json_is_object(value) ? json_object_get(value, "class_name") : value);
    if (!name && (name = json_string_value(json_object_get(value, "name")))) numbers = value; /* Keras 1 */
    static const char *const known[] = { "L1L2", "L1", "L2", "l1", "l2", "l1_l2", "WeightRegularizer" };
    bool found = false;
    for (size_t i = 0; name && i < sizeof known / sizeof *known; i++) found |= !strcmp(name, known[i]);
    if (!found) {
        fv_keras_fail(r, FV_ERROR_UNSUPPORTED, "regularizer '%.60s' is not supported", name ? name : "?");
        return;
    }
    if (json_is_string(value)) { /* Keras's default factor */
        if (strchr(name, '1')) *l1 = 0.01f;
        if (strchr(name, '2')) *l2 = 0.01f;
        return;
    }
    const json_t *a = json_object_get(numbers, "l1"), *b = json_object_get(numbers, "l2");
    if ((a && !finite_number(a, l1)) || (b && !finite_number(b, l2)))
        fail_type(r, keys, "a regularizer with numbers l1 and l2");
}
