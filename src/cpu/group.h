/* group.h - runs of consecutive tasks that are executed block by block (group.c). */
#ifndef FV_CPU_GROUP_H
#define FV_CPU_GROUP_H
#include "cpu/cpu.h"

int fv_cpu_group(fv_device *, const fv_task *tasks, int count, fv_group *groups, int capacity);
int fv_cpu_group_run(fv_device *, const fv_task *tasks, const fv_group *);
void fv_cpu_group_release(fv_device *, fv_group *);
#endif
