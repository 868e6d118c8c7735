/* strided.c - every step-th element of each axis, and the way back into zeros. Trailing axes that are taken whole are one
 * stretch; the axis before is the inner loop, the others are rows. */
#include "cpu/cpu.h"
#include "cpu/simd.h"

typedef struct strided_run {
    char *whole, *box;
    bool back; /* from the box into the whole */
    int axes;  /* rows: all of these but the last, along which the stretches of a row lie */
    int64_t dim[FV_RANK + 1], step[FV_RANK + 1]; /* of the box; in bytes of the whole */
    int64_t stretch;                             /* bytes */
} strided_run;

static strided_run make_run(const fv_task *task) {
    const fv_strided_attributes *a = &task->attributes->strided;
    strided_run run = { .back = task->op == FV_OP_strided_slice_gradient };
    const fv_tensor *whole = run.back ? &task->output[0] : &task->input[0];
    const fv_tensor *box = run.back ? &task->input[0] : &task->output[0];
    int64_t stride[FV_RANK], step = (int64_t)type_bytes(box->type);
    run.whole = whole->data;
    run.box = box->data;
    for (int i = box->rank - 1; i >= 0; step *= whole->dim[i--]) stride[i] = step;
    run.axes = box->rank;
    run.stretch = (int64_t)type_bytes(box->type);
    while (run.axes > 0 && box->dim[run.axes - 1] == whole->dim[run.axes - 1] && a->step[run.axes - 1] == 1)
        run.stretch *= box->dim[--run.axes];
    for (int i = 0; i < run.axes; i++) {
        run.dim[i] = box->dim[i];
        run.step[i] = a->step[i] * stride[i];
        run.whole += a->begin[i] * stride[i];
    }
    if (!run.axes) run.dim[run.axes++] = 1;
    return run;
}
INLINE void move(char *whole, char *box, size_t bytes, bool back) {
    if (back)
        memcpy(whole, box, bytes);
    else
        memcpy(box, whole, bytes);
}
static void move_rows(const void *argument, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const strided_run *run = argument;
    int64_t n = run->dim[run->axes - 1], step = run->step[run->axes - 1];
    for (int64_t row = begin; row < end; row++) {
        char *whole = run->whole, *box = run->box + row * n * run->stretch;
        int64_t rest = row;
        for (int axis = run->axes - 2; axis >= 0; axis--) {
            whole += rest % run->dim[axis] * run->step[axis];
            rest /= run->dim[axis];
        }
        switch (run->stretch) { /* elements of a size that is known move in registers */
        case 1:
            for (int64_t i = 0; i < n; i++) move(whole + i * step, box + i, 1, run->back);
            break;
        case 4:
            for (int64_t i = 0; i < n; i++) move(whole + i * step, box + i * 4, 4, run->back);
            break;
        default:
            for (int64_t i = 0; i < n; i++)
                move(whole + i * step, box + i * run->stretch, (size_t)run->stretch, run->back);
        }
    }
}
static void clear(const void *argument, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const fv_tensor *y = argument;
    size_t element = type_bytes(y->type);
    memset((char *)y->data + (size_t)begin * element, 0, (size_t)(end - begin) * element);
}
static int strided_run_task(fv_device *device, const fv_task *task) {
    strided_run run = make_run(task);
    int64_t rows = 1, n = run.dim[run.axes - 1];
    for (int i = 0; i + 1 < run.axes; i++) rows *= run.dim[i];
    if (run.back) fv_parallel(device, fv_elements(&task->output[0]), 65536, clear, &task->output[0]);
    fv_parallel(device, rows, 32768 / (n * run.stretch) + 1, move_rows, &run);
    return FV_OK;
}
const fv_cpu_kernel KERNEL(strided_slice) = { { .run = strided_run_task }, NULL };
const fv_cpu_kernel KERNEL(strided_slice_gradient) = { { .run = strided_run_task }, NULL };
