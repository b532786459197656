/* One sum by Winograd's algorithm while it runs.
 *
 * The transform of a strip's data is V, a matrix [tile][channel] for each point of a tile; that of
 * the weights U, a matrix [channel][filter] for each point. Their products M [tile][filter] make
 * the outputs. Lanes are channels in V and filters in U and M, so neither the shape of the image
 * nor the number of tiles leaves lanes idle.
 *
 * A chunk of strips at a time: V is filled, then (block of filters) x (run of depths) x (band of
 * strips) are multiplied and finished. Channels are summed in slices (conv_winograd_weights.h),
 * each one chain, whose sums are added in order. */
#ifndef FC_CONV_WINOGRAD_JOB_H
#define FC_CONV_WINOGRAD_JOB_H

#include "conv_winograd_plan.h"
#include "parallel.h"

/* One call: the arrays and the scratch. Of the scratch, V, U and the tables are the team's. */
typedef struct {
    const fc_winograd_plan *p;
    fc_tiled data;
    const char *x, *w, *packed;
    char *y;
    const char *bias;        /* (groups, blocks * block), or NULL */
    char *v, *u;
    fc_vectors by[2];
    int64_t *slot, *m_tile;  /* see fc_tiled; i * block */
    char *member;            /* of each, member_bytes apart */
    size_t member_bytes;
    int status;
    fc_barrier barrier;
    fc_units chunks;         /* where members have chunks of their own */
} fc_winograd_call;

/* What each member has for itself. */
typedef struct {
    char *stage, *rows, *products, *u, *weights;
    char *v;                 /* its own, or the team's */
    const char *kept;        /* U, where it is not transformed as it is needed */
    int64_t *a_row, *a_tap, *b_tap;
} fc_winograd_scratch;

/* A chunk, strips [first, first + count), and those of the next one, of which there may be none;
 * of what a member does for this chunk, `done` units of `all` are done. */
typedef struct { int64_t group, first, count, next, more, done, all; } fc_winograd_chunk;

/* One slice of the products of one block of filters, run of depths and band of strips. */
typedef struct { int64_t group, block, slice, depth, depths, strip, count; } fc_winograd_part;

/* Where in y row i of a strip begins. */
static inline char *fc_winograd_row(const fc_winograd_call *c, const fc_strip *at, int64_t group,
                                    int64_t filter, int64_t depth, int64_t i)
{
    return c->y + fc_winograd_place(c->p, at, group, filter, depth, i) * c->p->size;
}

#endif
