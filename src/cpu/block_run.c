/* block_run.c - runs a group: one parallel region over units of consecutive blocks, each of which goes through all
 * steps; then the sums of the units are added in order. How many units there are depends on the number of images alone,
 * so results do not depend on threads. */
#include "cpu/block.h"

/* ---- Between rows of images and blocks --------------------------------------------------------------------------- */
/* The other way round for bytes, which only the numbers of maxima are made of. */
static void turn_bytes(const uint8_t *from, int64_t rows, int64_t columns, int64_t ld, uint8_t *to, int64_t to_ld) {
    for (int64_t i = 0; i < columns; i++)
        for (int64_t j = 0; j < rows; j++) to[i * to_ld + j] = from[j * ld + i];
}

/* rows [images][cells] to [cells][LANES]; lanes without an image become zero. */
static void enter(const float *rows, int64_t images, int64_t cells, float *block) {
    for (int64_t c = 0; c < cells; c += LANES) {
        vf r[LANES];
        const int64_t left = cells - c;
        if (images == LANES && left >= LANES) {
            UNROLL(16)
            for (int i = 0; i < LANES; i++) r[i] = load(rows + i * cells + c);
        } else {
            for (int i = 0; i < LANES; i++) r[i] = i < images ? load_up_to(rows + i * cells + c, left) : (vf){ 0 };
        }
        transpose_lanes(r);
        if (left >= LANES) {
            UNROLL(16)
            for (int i = 0; i < LANES; i++) store(block + (c + i) * LANES, r[i]);
        } else {
            for (int64_t i = 0; i < left; i++) store(block + (c + i) * LANES, r[i]);
        }
    }
}
static void leave(const float *block, int64_t images, int64_t cells, float *rows) {
    for (int64_t c = 0; c < cells; c += LANES) {
        vf r[LANES];
        const int64_t left = cells - c;
        for (int i = 0; i < LANES; i++) r[i] = i < left ? load(block + (c + i) * LANES) : (vf){ 0 };
        transpose_lanes(r);
        for (int64_t i = 0; i < images; i++) store_up_to(rows + i * cells + c, r[i], left);
    }
}

/* ---- One block --------------------------------------------------------------------------------------------------- */
typedef struct block_place_of {
    const block_group *group;
    int64_t block, images; /* images: lanes that hold one */
    char *scratch;         /* of this thread */
} here;

static void *address(const here *at, const block_value *v) {
    if (v->crosses && at->images == LANES)
        return (char *)v->tensor.data + at->block * v->cells * (int64_t)block_cell_bytes(v);
    return at->scratch + v->offset;
}
static char *image_rows(const here *at, const block_value *v) {
    char *rows = v->aside ? v->aside : v->tensor.data;
    return rows + at->block * v->cells * (int64_t)block_cell_bytes(v);
}
/* Does the value go through rows in this block? */
static bool through_rows(const here *at, const block_value *v) { return !v->crosses || at->images < LANES; }

static void bring_in(const here *at, const block_value *v) {
    if (v->tensor.type == FV_U8)
        turn_bytes((uint8_t *)image_rows(at, v), at->images, v->cells, v->cells, address(at, v), LANES);
    else
        enter((const float *)(void *)image_rows(at, v), at->images, v->cells, address(at, v));
}
static void take_out(const here *at, const block_value *v) {
    if (v->tensor.type == FV_U8)
        turn_bytes(address(at, v), v->cells, at->images, LANES, (uint8_t *)image_rows(at, v), v->cells);
    else
        leave(address(at, v), at->images, v->cells, (float *)(void *)image_rows(at, v));
}

static void run_step(const here *at, int32_t number) {
    const block_group *group = at->group;
    const block_step *step = &group->step[number];
    fv_tensor input[BLOCK_INPUTS], output[BLOCK_OUTPUTS];
    fv_task task = *step->task;
    task.input = input;
    task.output = output;
    for (int i = 0; i < task.input_count; i++) {
        input[i] = step->input[i];
        if (step->read[i] < 0) continue;
        const block_value *v = &group->value[step->read[i]];
        if (!v->made && v->first == number && through_rows(at, v)) bring_in(at, v);
        input[i].data = address(at, v);
    }
    for (int o = 0; o < task.output_count; o++) {
        output[o] = step->output[o];
        output[o].data = step->made[o] < 0 ? NULL : address(at, &group->value[step->made[o]]);
    }
    step->kernel->run(&(block_call){ .step = step,
                                     .task = &task,
                                     .alone = (fv_device *)&group->alone,
                                     .sums = (float *)(void *)(at->scratch + group->sums_offset + step->sums_offset),
                                     .scratch = (float *)(void *)(at->scratch + group->step_offset),
                                     .images = at->images });
    for (int o = 0; o < task.output_count; o++) {
        if (step->made[o] < 0) continue;
        const block_value *v = &group->value[step->made[o]];
        if ((v->leaves || v->crosses) && through_rows(at, v)) take_out(at, v);
    }
}

/* ---- Sums -------------------------------------------------------------------------------------------------------- */
/* The lanes of LANES sums at a time, added in pairs. */
static void add_lanes(const float *sums, int64_t count, float *out) {
    for (int64_t i = 0; i < count; i += LANES) {
        vf r[LANES];
        for (int k = 0; k < LANES; k++) r[k] = i + k < count ? load(sums + (i + k) * LANES) : (vf){ 0 };
        transpose_lanes(r);
        for (int half = LANES / 2; half; half /= 2)
            for (int k = 0; k < half; k++) r[k] += r[k + half];
        store(out + i, r[0]);
    }
}
static void add_units(const block_group *group, const block_step *step) {
    float *out = step->output[0].data;
    for (int64_t i = 0; i < step->sums; i += LANES) {
        vf sum = load(group->partial + step->unit_offset + i);
        for (int64_t u = 1; u < group->units; u++)
            sum += load(group->partial + u * group->unit_floats + step->unit_offset + i);
        store_up_to(out + i, sum, step->sums - i);
    }
}

/* ---- The run ----------------------------------------------------------------------------------------------------- */
static void run_units(const void *argument, int64_t begin, int64_t end, int thread) {
    const block_group *group = argument;
    here at = { .group = group, .scratch = group->scratch + (size_t)thread * group->thread_bytes };
    for (int64_t unit = begin; unit < end; unit++) {
        zero_floats((float *)(void *)(at.scratch + group->sums_offset),
                    ((int64_t)group->thread_bytes - group->sums_offset) / (int64_t)sizeof(float));
        for (at.block = group->blocks * unit / group->units; at.block < group->blocks * (unit + 1) / group->units;
             at.block++) {
            at.images = least(LANES, group->images - at.block * LANES);
            for (int32_t s = 0; s < group->step_count; s++) run_step(&at, s);
        }
        for (int32_t s = 0; s < group->step_count; s++)
            if (group->step[s].kernel->sums)
                add_lanes((const float *)(void *)(at.scratch + group->sums_offset + group->step[s].sums_offset),
                          group->step[s].sums, group->partial + unit * group->unit_floats + group->step[s].unit_offset);
    }
}

static void pack(block_group *group) {
    for (int32_t s = 0; s < group->step_count; s++) {
        block_step *step = &group->step[s];
        const uint64_t version = step->task->version ? *step->task->version : 0;
        if (!step->kernel->pack || (version && version == step->version)) continue;
        step->kernel->pack(step);
        step->version = version;
    }
}

int block_run(fv_device *device, const fv_group *claimed) {
    block_group *group = claimed->kept;
    pack(group);
    fv_parallel(device, group->units, 1, run_units, group);
    for (int32_t s = 0; s < group->step_count; s++)
        if (group->step[s].kernel->sums) add_units(group, &group->step[s]);
    for (int32_t v = 0; v < group->value_count; v++) {
        const block_value *value = &group->value[v];
        if (value->aside)
            memcpy(value->tensor.data, value->aside,
                   (size_t)fv_elements(&value->tensor) * type_bytes(value->tensor.type));
    }
    return FV_OK;
}
