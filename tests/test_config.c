/* test_config.c - nets as Keras's JSON and back: round trips with and without the extra, the forms of three generations
 * of Keras, files that Keras wrote, refusals by name, and descriptions that are broken in every place. */
#include "net/net.h"
#include <hdf5.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define COUNT(array) ((int)(sizeof(array) / sizeof *(array)))

static int open_reference(void **state) {
    *state = fv_open("reference");
    return *state ? 0 : -1;
}

static int close_context(void **state) {
    fv_close(*state);
    return 0;
}

static void assert_fine(fv_context *c) {
    if (fv_error(c)) fail_msg("unexpected error: %s", fv_error(c));
}

static void assert_error(fv_context *c, const char *sentence) {
    if (!fv_error(c)) fail_msg("no error, but expected: %s", sentence);
    if (strcmp(fv_error(c), sentence)) fail_msg("error:    %s\nexpected: %s", fv_error(c), sentence);
    fv_clear_error(c);
}

static void assert_json_equal(const json_t *a, const json_t *b) {
    if (json_equal(a, b)) return;
    char *left = json_dumps(a, JSON_COMPACT), *right = json_dumps(b, JSON_COMPACT);
    int same = 0;
    while (left[same] == right[same]) same++;
    print_error("they differ from here on:\n%.300s\n%.300s\n", left + same, right + same);
    free(left);
    free(right);
    fail();
}

static json_t *parse(const char *text) {
    json_error_t error;
    json_t *json = json_loads(text, 0, &error);
    if (!json) fail_msg("the test's own JSON is wrong: %s at %d in %s", error.text, error.position, text);
    return json;
}

/* Reads a description written with ' for ". */
static fv_net *read_text(fv_context *c, const char *text) {
    char *copy = strdup(text);
    for (char *at = copy; *at; at++)
        if (*at == '\'') *at = '"';
    json_t *json = parse(copy);
    fv_net *net = fv_net_from_config(c, json);
    json_decref(json);
    free(copy);
    return net;
}

static fv_net_size measure(fv_net *net) {
    fv_net_size size = { .struct_size = sizeof size };
    if (fv_measure(net, 1, &size)) fail_msg("fv_measure: %s", fv_error(net->object.context));
    return size;
}

/* ---- Round trips ------------------------------------------------------------------------------------------------- */

/* Every kind of layer, a net called twice, a shared layer, two inputs and outputs, all that Keras writes in parts. */
static fv_net *new_everything(fv_context *c) {
    fv_net *inner = fv_net_new(c, "inner"), *net = fv_net_new(c, "everything");
    fv_node a = fv_input(inner, 8, 8, 4);
    fv_node b = fv_conv2d(inner, a, .filters = 4, .kernel = 3, .padding = 1, .name = "same");
    fv_output(inner, fv_add(inner, FV_NODES(a, b), .activation = FV_TANH));
    fv_output(inner, b);
    fv_node x = fv_input(net, 16, 16, 3), y = fv_input(net, 5);
    x = fv_conv2d(net, x, .filters = 4, .kernel = 3, .stride = 2, .pad = { 0, 1, 0, 1 }, .l2 = 0.01f, .bias_l1 = 1e-3f,
                  .kernel_initializer = fv_he_normal(), .name = "c1");
    fv_node z = fv_call(net, inner, FV_NODES(x)), w = fv_call(net, inner, FV_NODES(z));
    fv_node m = fv_multiply(net, FV_NODES(z, (fv_node){ z.id + 1 }, w), .activation = FV_RELU);
    m = fv_conv2d(net, m, .filters = 8, .kernel = 3, .groups = 4, .padding = FV_FULL, .frozen = true,
                  .activation = FV_HARD_SWISH);
    m = fv_batch_norm(net, m, .momentum = 0.9f, .epsilon = 1e-5f, .activation = FV_RELU, .no_scale = true,
                      .beta_initializer = fv_ones());
    m = fv_max_pool2d(net, m, .size = 3, .stride = 2, .padding = FV_SAME);
    m = fv_avg_pool2d(net, m, .size_hw = { 2, 3 }, .stride = 1, .pad = { 1, 0, 1, 1 });
    m = fv_conv2d(net, m, .filters = 8, .kernel_hw = { 1, 3 }, .groups = 2, .padding = FV_SAME, .dilation = 2,
                  .no_bias = true);
    fv_node d = fv_conv2d(net, m, .filters = 8, .kernel = 3, .padding = 1, .name = "shared"), d2 = fv_again(net, d, d);
    d2 = fv_prelu(net, fv_leaky_relu(net, d2, .negative_slope = 0.1f), .shared_axes = { 2, 1 }, .l2 = 0.5f,
                  .alpha_initializer = fv_constant(0.25f));
    d2 = fv_elu(net, fv_relu(net, d2, .max_value = 5, .negative_slope = 0.1f, .threshold = 0.5f), .alpha = FV_ZERO);
    d2 = fv_prelu(net, fv_relu(net, fv_rescaling(net, d2, .scale = 0.5f, .offset = 1), .max_value = FV_ZERO));
    d2 = fv_average(net, FV_NODES(d2, d, fv_maximum(net, FV_NODES(d, d2)), fv_minimum(net, FV_NODES(d2, d), .activation = FV_MISH)));
    d2 = fv_activate(net, fv_softmax(net, fv_leaky_relu(net, d2), .axis = 1), .activation = FV_GELU_TANH);
    fv_node both = fv_concat(net, FV_NODES(d, d2));
    both = fv_lrn(net, both, .size = 3, .k = 1);
    both = fv_conv2d(net, both, .filters = 8, .kernel = 3, .flip_kernel = true, .pad = { 2, 1, 0, 3 });
    both = fv_max_pool2d(net, both, .ceil_mode = true, .padding = 1);
    both = fv_avg_pool2d(net, both, .size = 3, .stride = 2, .exclude_padding = true, .pad = { 1, 0, 0, 1 });
    fv_node gm = fv_global_max_pool(net, both, .keep_dims = true);
    gm = fv_flatten(net, fv_reshape(net, gm, .shape = { 4, -1 }, .rank = 2));
    fv_node sub = fv_subtract(net, FV_NODES(fv_global_avg_pool(net, both), gm));
    fv_node yy = fv_dense(net, y, .units = 8, .activation = FV_GELU_TANH, .kernel_initializer = fv_uniform(-1, 1),
                          .bias_initializer = fv_constant(0.1f), .l1 = 0.25f);
    fv_node o = fv_dropout(net, fv_add(net, FV_NODES(sub, yy)), .rate = 0.3f);
    o = fv_zero_padding(net, fv_reshape(net, o, .shape = { 4, 2, 1 }, .rank = 3), .pad = { 1, 2, 3, 4 });
    o = fv_batch_norm(net, fv_flatten(net, o), .momentum = FV_ZERO, .no_center = true, .frozen = true);
    fv_output(net, fv_activate(net, fv_dense(net, o, .units = 10, .no_bias = true), .activation = FV_SOFTMAX));
    fv_output(net, d2);
    return net;
}

static void round_trip_with_extra(void **state) {
    fv_context *c = *state;
    fv_net *net = new_everything(c);
    assert_fine(c);
    json_t *config = fv_net_to_config(net), *extra = fv_net_extra_to_json(net);
    char *text = json_dumps(extra, 0); /* through text, as a file would */
    json_t *stored = parse(text);
    fv_net *back = fv_net_extra_from_json(c, config, stored);
    assert_fine(c);
    json_t *config2 = fv_net_to_config(back), *extra2 = fv_net_extra_to_json(back);
    assert_json_equal(config, config2);
    assert_json_equal(extra, extra2);
    assert_int_equal(back->layer_count, net->layer_count);
    assert_int_equal(back->node_count, net->node_count);
    assert_int_equal(back->next_stream, net->next_stream);
    for (int32_t l = 0; l < net->layer_count; l++) {
        const fv_layer *a = &net->layer[l], *b = &back->layer[l];
        assert_string_equal(a->name, b->name);
        assert_int_equal(a->kind, b->kind);
        assert_int_equal(a->stream, b->stream);
        assert_int_equal(a->frozen, b->frozen);
        for (int32_t w = 0; w < a->weight_count; w++) {
            assert_int_equal(a->weight[w].offset, b->weight[w].offset);
            assert_true(fv_shape_equal(&a->weight[w].shape, &b->weight[w].shape));
            assert_memory_equal(&a->weight[w].initializer, &b->weight[w].initializer, sizeof(fv_initializer));
            assert_true(a->weight[w].l1 == b->weight[w].l1 && a->weight[w].l2 == b->weight[w].l2);
        }
    }
    assert_int_equal(measure(net).training_bytes, measure(back).training_bytes);
    free(text);
    json_decref(config);
    json_decref(config2);
    json_decref(extra);
    json_decref(extra2);
    json_decref(stored);
}

/* Without the extra the parts become layers of their own: another net, the same function, and the same description. */
static void round_trip_without_extra(void **state) {
    fv_context *c = *state;
    fv_net *net = new_everything(c);
    json_t *config = fv_net_to_config(net);
    fv_net *back = fv_net_from_config(c, config);
    assert_fine(c);
    json_t *config2 = fv_net_to_config(back);
    assert_json_equal(config, config2);
    assert_int_equal(back->layer_count,
                     net->layer_count +
                         8); /* zeros before c1, depthwise, average, shared; activations after multiply, minimum,
                                dense, norm */
    fv_net_size a = measure(net), b = measure(back);
    assert_fine(c);
    assert_int_equal(a.parameters, b.parameters);
    assert_int_equal(a.trainable, b.trainable);
    assert_int_equal(a.macs, b.macs);
    json_decref(config);
    json_decref(config2);
}

static void round_trip_of_the_catalogue(void **state) {
    fv_context *c = *state;
    for (int i = 0; fv_model_name(i); i++) {
        fv_net *net = fv_model(c, fv_model_name(i));
        json_t *config = fv_net_to_config(net);
        bool graph = !strncmp(fv_model_name(i), "resnet", 6); /* blocks whose input goes two ways */
        assert_string_equal(json_string_value(json_object_get(config, "class_name")), graph ? "Functional" : "Sequential");
        fv_net *back = fv_net_from_config(c, config);
        assert_fine(c);
        assert_string_equal(fv_net_name(back), fv_net_name(net));
        fv_net_size a = measure(net), b = measure(back);
        assert_int_equal(a.parameters, b.parameters);
        assert_int_equal(a.macs, b.macs);
        json_decref(config);
    }
}

/* The smallest form that Keras accepts, to the letter. */
static void written_form(void **state) {
    fv_context *c = *state;
    fv_net *net = fv_net_new(c, "s");
    FV_OPTIONS(fv_input_options, in);
    in.rank = 3;
    in.shape[1] = 8; /* any height */
    in.shape[2] = 3;
    in.name = "in";
    fv_node x = fv_input_with(net, &in);
    x = fv_conv2d(net, x, .filters = 4, .kernel = 3, .padding = FV_SAME, .activation = FV_RELU, .name = "c");
    fv_output(net, fv_lrn(net, x));
    json_t *config = fv_net_to_config(net);
    char *text = json_dumps(config, JSON_COMPACT | JSON_REAL_PRECISION(9));
    for (char *at = text; *at; at++)
        if (*at == '"') *at = '\'';
    assert_string_equal(text,
        "{'class_name':'Sequential','config':{'name':'s','layers':["
        "{'class_name':'InputLayer','config':{'batch_shape':[null,null,8,3],'dtype':'float32','name':'in'}},"
        "{'class_name':'Conv2D','config':{'filters':4,'kernel_size':[3,3],'strides':[1,1],'padding':'same',"
        "'data_format':'channels_last','activation':'relu','name':'c'}},"
        "{'class_name':'fovea>LRN','config':{'size':5,'alpha':0.0001,'beta':0.75,'k':2.0,'name':'lrn'},"
        "'module':'fovea','registered_name':'fovea>LRN'}]}}");
    free(text);
    json_decref(config);
    fv_net *open = fv_net_new(c, "open");
    fv_input(open, 3);
    assert_null(fv_net_to_config(open));
    assert_error(c, "net open has no output: fv_output names one");
}

/* ---- Forms of Keras ---------------------------------------------------------------------------------------------- */

#define LAYER(class, config) "{'class_name':'" class "','config':{" config "}}"
#define CHAIN(layers) "{'class_name':'Sequential','config':{'name':'m','layers':[" layers "]}}"
#define INPUT LAYER("InputLayer", "'name':'in','batch_shape':[null,8,8,4]")

/* Keras 1: a bare list, other names, no InputLayer. */
static const char keras_1[] = "{'class_name':'Sequential','config':["
    LAYER("Convolution2D", "'name':'c','batch_input_shape':[null,12,12,1],'input_dtype':'float32','nb_filter':6,"
          "'nb_row':5,'nb_col':3,'subsample':[1,1],'border_mode':'valid','dim_ordering':'tf','activation':'relu',"
          "'init':'glorot_uniform','bias':true,'W_constraint':null,'trainable':true,"
          "'W_regularizer':{'name':'WeightRegularizer','l1':0.0,'l2':0.5}") ","
    LAYER("MaxPooling2D", "'name':'p','pool_size':[2,2],'strides':[2,2],'border_mode':'same'") ","
    LAYER("Flatten", "'name':'f'") ","
    LAYER("Dropout", "'name':'drop','p':0.25") ","
    LAYER("Dense", "'name':'d','output_dim':10,'activation':'softmax','bias':false") "]}";

/* Keras 2: the shape stands in the first layer; initialisers are known by their variance. */
static const char keras_2[] = CHAIN(
    LAYER("Conv2D", "'name':'c','batch_input_shape':[null,28,28,1],'dtype':'float32','filters':2,'kernel_size':[3,3],"
          "'strides':[2,2],'padding':'same','data_format':'channels_last','dilation_rate':[1,1],'use_bias':true,"
          "'activation':'linear','kernel_initializer':{'class_name':'VarianceScaling','config':{'scale':2.0,"
          "'mode':'fan_in','distribution':'normal','seed':null}},'kernel_constraint':null,"
          "'kernel_regularizer':{'class_name':'L1L2','config':{'l1':0.0,'l2':0.01}}") ","
    LAYER("ReLU", "'name':'r','max_value':null,'negative_slope':0.0,'threshold':0.0") ","
    LAYER("ZeroPadding2D", "'name':'z','padding':[[1,2],[3,4]]") ","
    LAYER("ZeroPadding2D", "'name':'z2','padding':[1,0]") ","
    LAYER("ZeroPadding2D", "'name':'z3','padding':1") ","
    LAYER("Softmax", "'name':'s','axis':-1"));

/* Keras 3 without an InputLayer: the shape of the built model. */
static const char keras_3[] =
    "{'class_name':'Sequential','module':'keras','registered_name':null,'build_config':{},'config':{'name':'m',"
    "'trainable':true,'dtype':{'class_name':'DTypePolicy','config':{'name':'float32'}},'build_input_shape':[null,6],"
    "'layers':["
    LAYER("Dense", "'name':'a/b','units':3,'trainable':false,'quantization_config':null,'lora_rank':null,"
          "'activation':{'module':'builtins','class_name':'function','config':'tanh','registered_name':'function'}")
    "]}}";

static void keras_chains(void **state) {
    fv_context *c = *state;
    fv_net *one = read_text(c, keras_1), *two = read_text(c, keras_2), *three = read_text(c, keras_3);
    assert_fine(c);
    assert_int_equal(measure(one).parameters, 96 + 4 * 5 * 6 * 10);
    assert_true(fv_net_layer(one, "c")->weight[0].l2 == 0.5f);
    assert_true(fv_net_layer(one, "drop")->options.dropout.rate == 0.25f);

    assert_int_equal(two->layer[1].weight[0].initializer.kind, FV_INITIALIZER_HE_NORMAL);
    assert_true(two->layer[1].weight[0].l2 == 0.01f);
    int64_t dims[FV_RANK];
    assert_int_equal(fv_node_shape(two, (fv_node){ two->node_count }, dims), 4);
    assert_true(dims[1] == 14 + 3 + 2 + 2 && dims[2] == 14 + 7 + 2);
    assert_string_equal(fv_layer_name(two, 0), "input");

    assert_true(fv_net_layer(three, "a_b")->frozen);
    assert_int_equal(fv_net_layer(three, "a_b")->options.dense.activation, FV_TANH);
}

#define NODE(class, config, name, inbound)                                                                             \
    "{'class_name':'" class "','name':'" name "','config':{'name':'" name "'," config "},'inbound_nodes':[" inbound "]}"
#define TENSOR(name, node, index)                                                                                      \
    "{'class_name':'__keras_tensor__','config':{'shape':[null,8,8,4],'dtype':'float32',"                               \
    "'keras_history':['" name "'," #node "," #index "]}}"
#define GRAPH(layers, inputs, outputs)                                                                                 \
    "{'class_name':'Model','config':{'name':'g','layers':[" layers "],'input_layers':" inputs                          \
    ",'output_layers':" outputs "}}"

/* Layers in any order, both forms of inbound_nodes, a shared layer, inputs in an order of their own. */
static const char shared_graph[] = GRAPH(
    NODE("Add", "'trainable':true", "sum", "{'args':[[" TENSOR("c", 0, 0) "," TENSOR("c", 1, 0) "]],'kwargs':{}}") ","
    NODE("Conv2D", "'filters':4,'kernel_size':3,'padding':'same'", "c", "[['b',0,0,{}]],[['a',0,0]]") ","
    NODE("InputLayer", "'batch_input_shape':[null,8,8,4]", "a", "") ","
    NODE("InputLayer", "'batch_shape':[null,8,8,4],'dtype':'uint8'", "unused", "") ","
    NODE("InputLayer", "'batch_shape':[null,8,8,4]", "b", ""),
    "[['b',0,0],['a',0,0],['unused',0,0]]", "['sum',0,0]");

/* A chain within a graph, applied twice. */
static const char nested_graph[] = GRAPH(
    NODE("InputLayer", "'batch_shape':[null,8,8,4]", "in", "") ","
    "{'class_name':'Sequential','name':'body','inbound_nodes':[[['in',0,0,{}]],[['body',0,0,{}]]],'config':{"
    "'name':'body','layers':[" INPUT "," LAYER("Conv2D", "'name':'c','filters':4,'kernel_size':[1,1]") "]}}",
    "[['in',0,0]]", "[['body',1,0]]");

static void keras_graphs(void **state) {
    fv_context *c = *state;
    fv_net *net = read_text(c, shared_graph), *outer = read_text(c, nested_graph);
    assert_fine(c);
    assert_int_equal(measure(net).parameters, 148);
    assert_int_equal(measure(net).macs, 2 * 64 * 144);
    assert_string_equal(net->layer[net->node[net->input[0]].layer].name, "b");
    assert_int_equal(net->node[net->input[2]].type, FV_U8);
    assert_int_equal(measure(outer).parameters, 20);
    assert_int_equal(measure(outer).macs, 2 * 64 * 16);
    assert_true(fv_net_layer(outer, "body")->inner->owned);
    fv_net_free(outer); /* with the inner net */
}

#define CONV(options) CHAIN(INPUT "," LAYER("Conv2D", "'name':'c'," options))
#define ONE(class, config) CHAIN(INPUT "," LAYER(class, config))
#define FLAT_GRAPH(layers)                                                                                             \
    GRAPH(NODE("InputLayer", "'batch_shape':[null,3]", "a", "") "," layers, "['a',0,0]", "['f',0,0]")

static const struct { const char *text, *error; } refusal_rows[] = {
    { ONE("SeparableConv2D", "'name':'sep','filters':3"),
      "layer sep of class SeparableConv2D: option 'kernel_size' is missing or below 1" },
    { ONE("Conv3D", "'name':'c','filters':3"), "layer c of class Conv3D: this class is not supported" },
    { ONE("Conv2DTranspose", "'name':'c','filters':4,'kernel_size':3,'groups':2"),
      "layer c of class Conv2DTranspose: Keras's transposed convolution has no groups" },
    { ONE("Conv2DTranspose", "'name':'c','filters':4,'kernel_size':3,'output_padding':[0,-1]"),
      "layer c of class Conv2DTranspose: option 'output_padding' is not a number of pixels for each axis" },
    { ONE("LocallyConnected2D", "'name':'c','filters':4,'kernel_size':3,'implementation':2"),
      "layer c of class LocallyConnected2D: implementation 2 is not supported: only 1 keeps a kernel a position" },
    { CHAIN(LAYER("InputLayer", "'name':'in','batch_shape':[null,8,4]") ","
            LAYER("Conv1D", "'name':'c','filters':4,'kernel_size':[3,3]")),
      "layer c of class Conv1D: option 'kernel_size' is not a whole number of at least 1" },
    { CONV("'filters':3,'kernel_size':[3,3],'data_format':'channels_first'"),
      "layer c of class Conv2D: images with the channels first are not supported, only channels_last" },
    { CONV("'filters':3,'kernel_size':[3,3],'activation':'squareplus'"),
      "layer c of class Conv2D: activation 'squareplus' is not supported" },
    { CONV("'filters':3,'kernel_size':[3,3],'padding':'causal'"),
      "layer c of class Conv2D: padding 'causal' is neither valid nor same" },
    { CONV("'filters':3,'kernel_size':[3,3],'kernel_constraint':{'class_name':'RadialConstraint'}"),
      "layer c of class Conv2D: constraint 'RadialConstraint' is not supported" },
    { CONV("'filters':3,'kernel_size':[3,3],'kernel_constraint':{'class_name':'MaxNorm','config':{'axis':[0,4]}}"),
      "layer c of class Conv2D: the axes of constraint MaxNorm cannot be had here" },
    { ONE("DepthwiseConv2D", "'name':'c','kernel_size':[3,3],'depthwise_constraint':{'class_name':'UnitNorm','config':{'axis':2}}"),
      "layer c of class DepthwiseConv2D: the axes of constraint UnitNorm cannot be had here" },
    { CONV("'filters':3,'kernel_size':[3,3],'activity_regularizer':'l2'"),
      "layer c of class Conv2D: option 'activity_regularizer' is not supported" },
    { CONV("'filters':3,'kernel_size':[3,3],'kernel_regularizer':'orthogonal'"),
      "layer c of class Conv2D: regularizer 'orthogonal' is not supported" },
    { CONV("'kernel_size':[3,3]"), "layer c of class Conv2D: option 'filters' is missing or below 1" },
    { CONV("'filters':3,'kernel_size':[3,3,3]"),
      "layer c of class Conv2D: option 'kernel_size' is not one or two whole numbers of at least 1" },
    { CONV("'filters':3.5,'kernel_size':[3,3]"), "layer c of class Conv2D: option 'filters' is not a whole number" },
    { CONV("'filters':3,'kernel_size':[9,9]"), "m: layer c (conv2d): kernel 9x9 is larger than its padded input 8x8" },
    { ONE("BatchNormalization", "'name':'n','axis':1"),
      "layer n of class BatchNormalization: only the last axis is supported" },
    { ONE("BatchNormalization", "'name':'n','renorm':true"),
      "layer n of class BatchNormalization: option 'renorm' is not supported" },
    { ONE("Softmax", "'name':'s','axis':[1,2]"), "layer s of class Softmax: option 'axis' is not one axis of a sample" },
    { ONE("ReLU", "'name':'r','max_value':-6.0"), "m: layer r (re_lu): max_value -6 is below 0" },
    { ONE("LeakyReLU", "'name':'r','alpha':-0.5"), "m: layer r (leaky_re_lu): negative_slope -0.5 is not a number of at least 0" },
    { ONE("PReLU", "'name':'r','alpha_constraint':{'class_name':'NonNeg'}"),
      "layer r of class PReLU: option 'alpha_constraint' is not supported" },
    { ONE("PReLU", "'name':'r','shared_axes':[4]"),
      "m: layer r (p_re_lu): shared axis 4 is not an axis of a sample: those are 1..3" },
    { ONE("Rescaling", "'name':'r','offset':1.0"), "layer r of class Rescaling: option 'scale' is missing" },
    { ONE("Activation", "'name':'r','activation':'squareplus'"),
      "layer r of class Activation: activation 'squareplus' is not supported" },
    { ONE("Dropout", "'name':'d','rate':0.5,'noise_shape':[1,2]"),
      "layer d of class Dropout: option 'noise_shape' is not supported" },
    { CHAIN(LAYER("Dense", "'name':'d','units':3")), "model configuration: it does not say the shape of its input" },
    { CHAIN(INPUT "," INPUT), "model configuration: two layers are called in" },
    { CHAIN(""), "model configuration: it has no list of 1 to 20000 layers" },
    { "{'class_name':'Graph','config':{}}",
      "model configuration: 'Graph' is neither Sequential nor Functional nor Model" },
    { FLAT_GRAPH(NODE("Flatten", "'x':0", "f", "[['g',0,0,{}]]") "," NODE("Flatten", "'x':0", "g", "[['f',0,0,{}]]")),
      "model configuration: the inputs of layer f are never made: the graph has a circle" },
    { FLAT_GRAPH(NODE("Flatten", "'x':0", "f", "[['b',0,0,{}]]")),
      "model configuration: it refers to the layer 'b', which it does not have" },
    { FLAT_GRAPH(NODE("Flatten", "'x':0", "f", "[['a',0,1,{}]]")),
      "model configuration: it refers to output 1 of layer a, which has 1" },
    { FLAT_GRAPH(NODE("Flatten", "'x':0", "f", "[['a',1,0,{}]]")),
      "model configuration: it refers to application 1 of layer a, which is applied 1 times" },
    { "[1]", "model configuration: it is not a JSON object" },
};

static void refusals(void **state) {
    fv_context *c = *state;
    for (int i = 0; i < COUNT(refusal_rows); i++) {
        if (read_text(c, refusal_rows[i].text)) fail_msg("not refused: %s", refusal_rows[i].text);
        assert_error(c, refusal_rows[i].error);
        assert_ptr_equal(c->objects.next, &c->objects); /* no half of a net is left */
    }
}

/* ---- Files that Keras wrote -------------------------------------------------------------------------------------- */

static json_t *config_of_file(const char *name) {
    const char *folder = getenv("FOVEA_DATA");
    char path[1024];
    snprintf(path, sizeof path, "%s/models/%s", folder ? folder : "", name);
    FILE *there = folder ? fopen(path, "rb") : NULL;
    if (!there) return NULL;
    fclose(there);
    hid_t file = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT), attribute = H5Aopen(file, "model_config", H5P_DEFAULT),
          type = H5Aget_type(attribute);
    char *text = NULL;
    if (H5Tis_variable_str(type) > 0) {
        H5Aread(attribute, type, &text);
        char *copy = strdup(text);
        H5free_memory(text);
        text = copy;
    } else {
        text = calloc(1, H5Tget_size(type) + 1);
        H5Aread(attribute, type, text);
    }
    H5Tclose(type);
    H5Aclose(attribute);
    H5Fclose(file);
    json_t *json = parse(text);
    free(text);
    return json;
}

static void files_of_keras(void **state) {
    fv_context *c = *state;
    static const struct { const char *name; int64_t parameters, macs; const char *error; } rows[] = {
        { "keras/ryecatcher_lenet5_keras2.3.1.h5", 61706, 416520, NULL },
        { "keras/himalrana_mnist_cnn_keras3.10.h5", 179926, 26 * 26 * 288 + 11 * 11 * 64 * 288 + 160000 + 1000, NULL },
        { "keras_golden/func_keras316.h5", 146, 64 * (108 + 12) + 16, NULL },
        /* separable convolutions; the counts are those of the numbers in the files */
        { "keras/fer2013_mini_XCEPTION.102-0.66.hdf5", 58423, 0, NULL },
        { "keras/tiny_XCEPTION_KDEF.hdf5", 18314, 0, NULL },
        { "keras_golden/seq_keras316.h5", 5138, 0, NULL },
    };
    int read = 0;
    for (int i = 0; i < COUNT(rows); i++) {
        json_t *config = config_of_file(rows[i].name);
        if (!config) continue;
        read++;
        fv_net *net = fv_net_from_config(c, config);
        json_decref(config);
        if (rows[i].error) {
            assert_null(net);
            assert_error(c, rows[i].error);
            continue;
        }
        assert_fine(c);
        fv_net_size size = measure(net);
        assert_int_equal(size.parameters, rows[i].parameters);
        if (rows[i].macs) assert_int_equal(size.macs, rows[i].macs);
    }
    if (!read) print_message("no Keras files: FOVEA_DATA does not name a folder with models/keras\n");
    if (!read) skip();
}

/* ---- Broken descriptions ----------------------------------------------------------------------------------------- */

/* Replaces the n-th value of a tree by what is given, NULL: takes it away. Counts down n; true when done. */
static bool break_value(json_t *tree, int *n, json_t *by) {
    if (json_is_object(tree)) {
        const char *key;
        json_t *value;
        void *next;
        json_object_foreach_safe(tree, next, key, value) {
            if ((*n)-- == 0) return by ? json_object_set(tree, key, by) == 0 : json_object_del(tree, key) == 0;
            if (break_value(value, n, by)) return true;
        }
    }
    for (size_t i = 0; i < json_array_size(tree); i++) {
        if ((*n)-- == 0) return by ? json_array_set(tree, i, by) == 0 : json_array_remove(tree, i) == 0;
        if (break_value(json_array_get(tree, i), n, by)) return true;
    }
    return false;
}

static void broken_in_every_place(void **state) {
    fv_context *c = *state;
    fv_net *net = new_everything(c);
    json_t *config = fv_net_to_config(net), *extra = fv_net_extra_to_json(net);
    json_t *replacements[] = { NULL, json_null(), json_integer(-1), json_integer(3), json_real(1e300),
                               json_integer(INT64_MAX), json_string("x"), json_string("input"), json_array(),
                               json_object(), json_true() };
    fv_net_free(net);
    int tried = 0, refused = 0;
    for (int r = 0; r < COUNT(replacements); r++)
        for (int what = 0; what < 2; what++)
            for (int n = 0;; n++) {
                json_t *copy = json_deep_copy(what ? extra : config);
                int left = n;
                bool done = break_value(copy, &left, replacements[r]);
                if (done) {
                    fv_net *read = fv_net_extra_from_json(c, what ? config : copy, what ? copy : extra);
                    tried++;
                    refused += !read;
                    assert_true((read != NULL) == (fv_error(c) == NULL));
                    if (read) fv_net_free(read);
                    fv_clear_error(c);
                }
                json_decref(copy);
                if (!done) break;
            }
    assert_true(tried > 3000 && refused > 1000);
    for (int r = 0; r < COUNT(replacements); r++) json_decref(replacements[r]);
    json_decref(config);
    json_decref(extra);
}

static void memory_runs_out(void **state) {
    fv_context *c = *state;
    fv_net *net = new_everything(c);
    json_t *config = fv_net_to_config(net), *extra = fv_net_extra_to_json(net);
    fv_net_free(net);
    for (int64_t n = 1;; n += 5) {
        fv_alloc_fail(n, n % 2);
        fv_net *read = fv_net_extra_from_json(c, config, extra);
        int64_t seen = fv_alloc_fail(0, false);
        if (read) {
            assert_true(seen < n); /* all allocations went well */
            break;
        }
        assert_int_equal(fv_error_status(c), FV_ERROR_MEMORY);
        fv_clear_error(c);
        for (fv_object *o = c->objects.next; o != &c->objects;
             o = o->next) /* only the inner net of the first is left */
            assert_string_equal(fv_net_name((fv_net *)o), "inner");
    }
    json_decref(config);
    json_decref(extra);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, open_reference, close_context)
    const struct CMUnitTest tests[] = {
        TEST(round_trip_with_extra), TEST(round_trip_without_extra), TEST(round_trip_of_the_catalogue),
        TEST(written_form), TEST(keras_chains), TEST(keras_graphs), TEST(refusals), TEST(files_of_keras),
        TEST(broken_in_every_place), TEST(memory_runs_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
