/* weights.c - where a net's weights are. Not drawn yet, in a host copy, or in the store on the device, which is the
 * truth from the moment it is filled: then the host copy is read from it whenever it is wanted. Offsets are multiples
 * of 16. */
#include "net/net.h"
#include <string.h>

/* Apart from the streams of shuffles and splits, which count from zero. */
static uint64_t weight_stream(const fv_layer *layer, int32_t index) {
    return (uint64_t)1 << 48 | (uint64_t)layer->stream << 8 | (uint64_t)index;
}

/* ---- Host copy --------------------------------------------------------------------------------------------------- */

static float *host_of(const fv_net *net, const fv_weight *weight) {
    return (weight->statistic ? net->host_statistics : net->host_parameters) + weight->offset;
}

static int allocate_host(fv_net *net) {
    fv_free(net->host_parameters);
    fv_free(net->host_statistics);
    net->host_parameters = fv_alloc(net->object.context, (size_t)net->parameters, sizeof(float), "weights");
    net->host_statistics = fv_alloc(net->object.context, (size_t)net->statistics, sizeof(float), "running statistics");
    if (net->host_parameters && net->host_statistics) return FV_OK;
    fv_free(net->host_parameters);
    fv_free(net->host_statistics);
    net->host_parameters = net->host_statistics = NULL;
    return FV_ERROR_MEMORY;
}

static int draw(fv_net *net) {
    if (allocate_host(net)) return FV_ERROR_MEMORY;
    for (int32_t l = 0; l < net->layer_count; l++) {
        const fv_layer *layer = &net->layer[l];
        for (int32_t w = 0; w < layer->weight_count; w++) {
            const fv_weight *weight = &layer->weight[w];
            fv_random random = fv_random_make(net->object.context->seed, weight_stream(layer, w));
            if (fv_initializer_fill(net->object.context, weight, &random, host_of(net, weight))) return FV_ERROR_MEMORY;
        }
    }
    net->host_current = true;
    return FV_OK;
}

static int read_device(fv_net *net) {
    int status = net->host_parameters ? FV_OK : allocate_host(net);
    if (!status && net->parameters)
        status = fv_store_read(net->store, FV_PARAMETERS, 0, net->parameters, net->host_parameters);
    if (!status && net->statistics)
        status = fv_store_read(net->store, FV_STATISTICS, 0, net->statistics, net->host_statistics);
    net->host_current = !status;
    return status;
}

static int write_device(fv_net *net) {
    int status = FV_OK;
    if (net->parameters) status = fv_store_region(net->store, FV_PARAMETERS, 0);
    if (!status && net->statistics) status = fv_store_region(net->store, FV_STATISTICS, 0);
    if (!status && net->parameters)
        status = fv_store_write(net->store, FV_PARAMETERS, 0, net->parameters, net->host_parameters);
    if (!status && net->statistics)
        status = fv_store_write(net->store, FV_STATISTICS, 0, net->statistics, net->host_statistics);
    net->device_current = !status;
    return status;
}

int fv_net_to_host(fv_net *net) {
    if (!net) return FV_ERROR_ARGUMENT;
    if (net->device_current) return read_device(net);
    return net->host_current ? FV_OK : draw(net);
}

int fv_net_host_blank(fv_net *net) {
    int status = net->host_parameters && net->host_current ? FV_OK : allocate_host(net);
    net->host_current = !status;
    return status;
}

int fv_net_host_changed(fv_net *net) {
    net->host_current = true;
    return net->device_current ? write_device(net) : FV_OK;
}

void fv_net_device_changed(fv_net *net) { net->host_current = false; }

/* ---- Store ------------------------------------------------------------------------------------------------------- */

static fv_segment *make_segments(const fv_net *net, int32_t *count) {
    *count = 0;
    for (int32_t l = 0; l < net->layer_count; l++)
        for (int32_t w = 0; w < net->layer[l].weight_count; w++) *count += !net->layer[l].weight[w].statistic;
    fv_segment *segments = fv_alloc(net->object.context, (size_t)*count, sizeof(fv_segment), "segments");
    int32_t next = 0;
    for (int32_t l = 0; segments && l < net->layer_count; l++)
        for (int32_t w = 0; w < net->layer[l].weight_count; w++) {
            const fv_weight *weight = &net->layer[l].weight[w];
            if (weight->statistic) continue;
            segments[next++] = (fv_segment){ .offset = weight->offset,
                                             .length = fv_shape_elements(&weight->shape),
                                             .rate = 1,
                                             .decay = 1,
                                             .frozen = net->layer[l].frozen,
                                             .layer = l };
        }
    return segments;
}

fv_store *fv_net_store(fv_net *net) {
    if (!net->store) {
        int32_t count;
        fv_segment *segments = make_segments(net, &count);
        if (!segments) return NULL;
        net->store = fv_store_new(net->object.context, segments, count, net->parameters, net->statistics);
        fv_free(segments);
        if (!net->store) return NULL;
    }
    if (net->device_current || net->measuring) return net->store;
    if (fv_net_to_host(net) || write_device(net)) return NULL;
    return net->store;
}

int fv_net_refresh_segments(fv_net *net) {
    if (!net->store) return FV_OK;
    int32_t count;
    fv_segment *segments = make_segments(net, &count);
    int status = segments ? fv_store_set_segments(net->store, segments, count) : FV_ERROR_MEMORY;
    fv_free(segments);
    return status;
}

/* ---- Keras's layout ---------------------------------------------------------------------------------------------- */

int fv_net_weight_keras_shape(const fv_weight *weight, fv_shape *out) {
    const int64_t *d = weight->shape.dim;
    *out = weight->shape;
    switch (weight->role) {
    case FV_WEIGHT_DENSE_KERNEL: *out = (fv_shape){ 2, { d[1], d[0] } }; break;
    case FV_WEIGHT_CONV_KERNEL: *out = (fv_shape){ 4, { d[1], d[2], d[3], d[0] } }; break;
    case FV_WEIGHT_DEPTHWISE_KERNEL: {
        int64_t channels = weight->fan_in / (d[1] * d[2]);
        *out = (fv_shape){ 4, { d[1], d[2], channels, d[0] / channels } };
        break;
    }
    case FV_WEIGHT_LOCAL_KERNEL: return *out = (fv_shape){ 3, { d[0] * d[1], d[2] * d[3] * d[4], d[5] } }, out->rank;
    case FV_WEIGHT_VECTOR: break;
    }
    if (weight->sequence) memmove(out->dim, out->dim + 1, (size_t)--out->rank * sizeof *out->dim);
    return out->rank;
}

/* A convolution of Keras with as many groups as channels holds the same numbers in the same order as a depthwise one:
 * [.., 1, filters] instead of [.., channels, multiplier]. */
bool fv_net_weight_fits(const fv_weight *weight, const fv_shape *given) {
    fv_shape keras, grouped = *given;
    int last = fv_net_weight_keras_shape(weight, &keras) - 1;
    if (weight->role == FV_WEIGHT_DEPTHWISE_KERNEL && given->rank == keras.rank && given->dim[last - 1] == 1 &&
        given->dim[last] == weight->shape.dim[0]) {
        grouped.dim[last - 1] = keras.dim[last - 1];
        grouped.dim[last] = keras.dim[last];
    }
    return fv_shape_equal(&keras, &grouped);
}

/* Where a layout differs, it is the filters that move from the front to the end: ours is [filters][rest], Keras's
 * [rest][filters]. For a depthwise kernel filter c * multiplier + m is Keras's [c][m], in the same order. */
void fv_weight_permute(const fv_weight *weight, bool to_keras, const float *in, float *out) {
    int64_t elements = fv_shape_elements(&weight->shape);
    bool same = weight->role == FV_WEIGHT_VECTOR || weight->role == FV_WEIGHT_LOCAL_KERNEL;
    int64_t filters = same ? 1 : weight->shape.dim[0], rest = filters ? elements / filters : 0;
    for (int64_t f = 0; f < filters; f++)
        for (int64_t i = 0; i < rest; i++) {
            if (to_keras) out[i * filters + f] = in[f * rest + i];
            else out[f * rest + i] = in[i * filters + f];
        }
}

/* ---- Get and set ------------------------------------------------------------------------------------------------- */

static const fv_weight *find_weight(fv_net *net, const char *path, int index, fv_net **owner) {
    if (!net || !path || !fv_ok(net->object.context)) return NULL;
    fv_layer *layer = fv_net_find(net, path, owner);
    if (!layer) return NULL;
    if (index >= 0 && index < layer->weight_count) return &layer->weight[index];
    fv_layer_fail(*owner, layer, FV_ERROR_ARGUMENT, "has %d weight%s: there is no weight %d", (int)layer->weight_count,
                  layer->weight_count == 1 ? "" : "s", index);
    return NULL;
}

static int refused(const fv_net *net) {
    return net && !fv_ok(net->object.context) ? (int)net->object.context->status : FV_ERROR_ARGUMENT;
}

int fv_weight_count(fv_net *net, const char *path) {
    if (!net || !path || !fv_ok(net->object.context)) return refused(net);
    fv_net *owner;
    fv_layer *layer = fv_net_find(net, path, &owner);
    return layer ? layer->weight_count : refused(net);
}

int fv_weight_shape(fv_net *net, const char *path, int index, fv_layout layout, int64_t dims[FV_RANK]) {
    fv_net *owner;
    const fv_weight *weight = find_weight(net, path, index, &owner);
    if (!weight) return refused(net);
    fv_shape shape = weight->shape;
    if (layout == FV_KERAS) fv_net_weight_keras_shape(weight, &shape);
    memcpy(dims, shape.dim, sizeof shape.dim);
    return shape.rank;
}

static int check_bytes(fv_net *net, const char *path, const fv_weight *weight, size_t bytes) {
    size_t needed = (size_t)fv_shape_elements(&weight->shape) * sizeof(float);
    if (bytes == needed) return FV_OK;
    char text[96];
    return fv_fail(net->object.context, FV_ERROR_ARGUMENT,
                   "%s of layer %s of net %s is %s and needs %zu bytes, not %zu", weight->name, path, net->name,
                   fv_shape_text(&weight->shape, text), needed, bytes);
}

int fv_get_weights(fv_net *net, const char *path, int index, fv_layout layout, float *out, size_t bytes) {
    fv_net *owner;
    const fv_weight *weight = find_weight(net, path, index, &owner);
    if (!weight || !out) return refused(net);
    int status = check_bytes(net, path, weight, bytes);
    if (status) return status;
    int64_t count = fv_shape_elements(&weight->shape);
    float *native = fv_alloc(net->object.context, (size_t)count, sizeof(float), "a weight");
    if (!native) return FV_ERROR_MEMORY;
    if (owner->device_current)
        status = fv_store_read(owner->store, weight->statistic ? FV_STATISTICS : FV_PARAMETERS, weight->offset, count,
                               native);
    else if (!(status = fv_net_to_host(owner)))
        memcpy(native, host_of(owner, weight), bytes);
    if (!status && layout == FV_KERAS) fv_weight_permute(weight, true, native, out);
    else if (!status) memcpy(out, native, bytes);
    fv_free(native);
    return status;
}

int fv_set_weights(fv_net *net, const char *path, int index, fv_layout layout, const float *in, size_t bytes) {
    fv_net *owner;
    const fv_weight *weight = find_weight(net, path, index, &owner);
    if (!weight || !in) return refused(net);
    int status = check_bytes(net, path, weight, bytes);
    if (!status && !owner->device_current) status = fv_net_to_host(owner);
    if (status) return status;
    int64_t count = fv_shape_elements(&weight->shape);
    float *native = fv_alloc(net->object.context, (size_t)count, sizeof(float), "a weight");
    if (!native) return FV_ERROR_MEMORY;
    if (layout == FV_KERAS) fv_weight_permute(weight, false, in, native);
    else memcpy(native, in, bytes);
    if (owner->device_current)
        status = fv_store_write(owner->store, weight->statistic ? FV_STATISTICS : FV_PARAMETERS, weight->offset, count,
                                native);
    else
        memcpy(host_of(owner, weight), native, bytes);
    fv_free(native);
    return status;
}
