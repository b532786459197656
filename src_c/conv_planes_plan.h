/* The plan of conv_planes.c: how the source is cut into boxes, where their planes lie in scratch,
 * and what sums are made of. Shapes decide it, and the team. */
#ifndef FC_CONV_PLANES_PLAN_H
#define FC_CONV_PLANES_PLAN_H

#include "conv_job.h"
#include "parallel.h"

/* Along one axis: tap r reads phase slot r % slots, `ahead(r)` cells of that phase further on. */
typedef struct { int64_t box, boxes, slots, reach; } fc_planes_extent;

/* One of the sums that read the planes. */
typedef struct {
    const fc_job *job;
    int64_t near, entries;      /* terms of one entry of the product, and how many entries */
    int64_t step_a, step_b;     /* from term to term */
    int64_t chain;              /* entries that are summed at once */
    const int64_t *taps_a, *taps_b;
} fc_planes_sum;

typedef struct {
    const fc_job *job;          /* the geometry of the planes, and what all sums have in common */
    int apart;                  /* is each tap of the last axis a slot? (FC_APART) */
    fc_planes_extent e[3];
    int64_t plane, planes;      /* elements of one slot's plane, from channel to channel */
    int64_t count;
    fc_planes_sum *sums;        /* (count) */
    int64_t block_rows;         /* that all sums compute before the next */
    int64_t chunk;              /* lines (axis 1) computed at a time */
    int64_t parts, part_rows;   /* parts of the rows (of the job, as everywhere), and of one */
    int64_t tile_row;           /* lanes of a row of the tile */
    int64_t tile, stride;       /* of a member's scratch: bytes before its tile, and all */
    int far;                    /* are depthwise outputs asked for? */
    const int64_t *rows;        /* (rows) weight offset of each */
    const int64_t *taps_x;      /* of the last axis alone: FC_DEPTHWISE */
    char *scratch;
    fc_units units;
} fc_planes_plan;

/* The job whose planes all of the jobs read. */
fc_job fc_planes_common(const fc_job *jobs, int64_t count);

/* What the jobs take; copying counts too: a plane costs as much as some 16 products. */
double fc_planes_flops(const fc_job *jobs, int64_t count);

/* All but rows, sums and scratch; `job` is fc_planes_common's. */
fc_planes_plan fc_planes_plan_make(const fc_job *job, int64_t count, int way, int team);

/* Rows and sums of the jobs, in a table of so many numbers. */
int64_t fc_planes_listed(const fc_job *jobs, int64_t count);
void fc_planes_list(fc_planes_plan *plan, const fc_job *jobs, int way, int64_t *table);

/* The first cell of slot s for outputs from `output` on. */
static inline int64_t fc_planes_first_cell(const fc_planes_plan *p, int a, int64_t output,
                                           int64_t s)
{
    const fc_axis *axis = &p->job->axis[a];
    const int64_t start = output * axis->step + axis->offset;
    if (a == 2 && p->apart)
        return start + s * axis->tap_step;
    if (axis->step == 1)
        return start + (axis->tap_step < 0 ? (axis->taps - 1) * axis->tap_step : 0);
    return start + s * axis->tap_step % axis->step;
}

/* The q of 0 .. count - 1 with at + q * step inside 0 .. cells - 1: first (or 0), and how many. */
static inline int64_t fc_planes_inside(int64_t at, int64_t step, int64_t cells, int64_t count,
                                       int64_t *many)
{
    const fc_axis line = {.outputs = count, .cells = cells, .step = step, .offset = at};
    const int64_t first = fc_axis_inside(&line, 0, many);
    return *many ? first : 0;
}

/* Are neighbouring lines of outputs one, in the planes as in `out`? */
static inline int fc_planes_join(const fc_planes_plan *p)
{
    const fc_axis *axis = p->job->axis;
    return p->e[2].reach == axis[2].outputs && axis[2].place_step == 1 && axis[1].place_step == 1
        && p->job->out_axis[1] == axis[2].outputs;
}

#endif
