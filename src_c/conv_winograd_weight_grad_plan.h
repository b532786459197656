/* The plan of a gradient of weights by Winograd's algorithm: how strips are cut into chunks and
 * parts of the sum, channels and filters into blocks of M. */
#ifndef FC_CONV_WINOGRAD_WEIGHT_GRAD_PLAN_H
#define FC_CONV_WINOGRAD_WEIGHT_GRAD_PLAN_H

#include "conv_winograd_tiles.h"

enum { FC_WINOGRAD_PARTS = 4 };   /* at most */

/* Everything that geometry and the team decide; the order of every sum is the former's alone. */
typedef struct {
    const fc_kernels *kernels;
    int64_t size, lanes;
    int64_t groups, channels, filters;
    fc_axis axis[3];
    int64_t taps, row;                     /* of the kernel; of its last axis */
    int idle;                              /* do some of them meet nothing but padding? */
    fc_strips strips;
    fc_tiled x, y;                         /* X and Y */
    int64_t phases, points, chunk, chunks; /* of the taps; of a tile; strips of the largest chunk */
    int64_t parts;                         /* of as many chunks each */
    int alone;                             /* has each member parts of its own? */
    int far;                               /* are X and Y to be fetched from L3? */
    int64_t wide, high, across, down;      /* blocks: filters, channels of one; how many of them */
    int64_t m_point, m_tap, m_block;
} fc_winograd_grad_plan;

/* Both axes in tiles of two sizes where that is less work: 8 x 14 x 14 take 0.91 to 0.94 of the
 * time. Along x only where a strip is a whole row of tiles, so that all have as many of each. */
fc_strips fc_winograd_grad_strips(fc_line *y, fc_line *x, int64_t batch);

/* Filled in, and whether it fits; `team`: of how many members. */
int fc_winograd_plan_grad_weight(fc_winograd_grad_plan *plan, const fc_conv *conv, int threads,
                                 int *team);

/* Does a tap of the kernel meet nothing but padding? */
int fc_winograd_tap_is_idle(const fc_winograd_grad_plan *plan, int64_t tap);

/* A block of M, [tap of z][phase][point][channel][filter]: some channels and filters of a group. */
typedef struct { int64_t group, channel, channels, filter, filters; } fc_winograd_block;

fc_winograd_block fc_winograd_block_of(const fc_winograd_grad_plan *plan, int64_t group,
                                       int64_t unit);

#endif
