/* The plan of depthwise convolution with lanes over channels (conv_channelwise.c): boxes of
 * outputs, the runs of taps that make them, and where a member's scratch lies. Shapes decide it,
 * and the team.
 *
 *     cells (reach of axis 0, 1, 2, lanes)           of a box of outputs, between zeros
 *     tile (chunk of axis 1, box of axis 2, lanes)   outputs
 */
#ifndef FC_CONV_CHANNELWISE_PLAN_H
#define FC_CONV_CHANNELWISE_PLAN_H

#include "conv_job.h"

/* One axis of the output, all phases together: outputs `every` apart see the same taps, `step`
 * cells further on; outputs 0 .. every - 1 see cells low .. high. */
typedef struct {
    int64_t length, every, step, low, high, box, boxes, reach;
} fc_channelwise_extent;

typedef struct {
    const fc_job *jobs;         /* one for each phase; they differ in their axes alone */
    int64_t phases;
    fc_channelwise_extent e[3];
    int64_t lanes, blocks, kernel;   /* blocks of `lanes` channels; elements of one kernel */
    int64_t chunk;              /* rows (axis 1) of outputs computed at a time */
    int gradient;               /* of the weights? */
    int by_rows;                /* are lines of taps left out that a row meets outside the image? */
    int far;                    /* are cells and outputs asked for, a chunk ahead? 8 images of
                                   144 x 56 x 56, 3 x 3: 4.6 -> 2.9 ms, backward 6.8 -> 4.4 */
    fc_tap_run *runs;           /* of all phases, those of phase p from first_run[p] on, and behind
                                   them as many for each member */
    int64_t first_run[FC_MOST_PHASES + 1];
    int64_t cells_bytes, tile_bytes, stride;   /* scratch of a member */
    char *scratch;
} fc_channelwise_plan;

/* All but runs and scratch: boxes enough for so many threads. `gradient`: of the weights? */
fc_channelwise_plan fc_channelwise_plan_make(const fc_job *jobs, int64_t phases, int threads,
                                             int gradient);

/* Runs, and scratch from the arena for a team, which the caller gives back; 0 if there is no
 * memory. */
int fc_channelwise_plan_lay_out(fc_channelwise_plan *plan, int team);

/* A segment of a job without phases, as if its outputs began the image. */
fc_job fc_channelwise_from_its_place(const fc_job *job);

/* Operations worth so many threads. */
double fc_channelwise_flops(const fc_job *jobs, int64_t phases);

/* Boxes of all images. */
static inline int64_t fc_channelwise_boxes(const fc_channelwise_plan *p)
{
    return p->jobs->batch * p->e[0].boxes * p->e[1].boxes * p->e[2].boxes;
}

/* Number, from the box's first cell on, of the last cell that its outputs 0 .. count - 1 see. */
static inline int64_t fc_channelwise_last_cell(const fc_channelwise_extent *e, int64_t count)
{
    return (count - 1) / e->every * e->step + e->high - e->low;
}

/* Outputs lie `stride` times as far apart as the taps of a run. Where that is neither 1 nor 2,
 * or where a gradient sums over outputs, a run may as well be a single tap, with outputs its
 * neighbours: 0. */
static inline int fc_channelwise_stride(const fc_axis *x)
{
    if (x->tap_step == x->step || x->tap_step == -x->step)
        return 1;
    return x->step == 2 * x->tap_step ? 2 : 0;
}

#endif
