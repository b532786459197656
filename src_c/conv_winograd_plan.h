/* The plan of one sum by Winograd's algorithm, the forward pass or one phase of the input gradient:
 * how strips are cut into chunks, and a chunk's products into bands, so that V, U and M meet in the
 * caches. Chunks and bands are no part of the result. */
#ifndef FC_CONV_WINOGRAD_PLAN_H
#define FC_CONV_WINOGRAD_PLAN_H

#include "conv_winograd_tiles.h"
#include "conv_winograd_weights.h"

/* Everything that geometry decides. Channels and filters are those of one group; `filters` are
 * what the sum yields, in the forward pass out_channels. Strides are in elements. */
typedef struct {
    const fc_kernels *kernels;
    int64_t size, lanes;
    int64_t batch, groups, channels, filters;
    fc_axis z;
    fc_strips strips;
    fc_tiled data;
    fc_winograd_weights u;
    int64_t out[3], out_plane;
    int64_t points, chunk, chunks;             /* of a tile; strips of the largest chunk */
    int alone;                                 /* has each member chunks of its own? */
    int64_t band, deep, m_point;               /* strips of one product; depths, at most */
    int kept, own;                             /* is U kept, or transformed when its turn comes;
                                                * by each member for itself? */
    int far, x_far, u_far;                     /* are the outputs to be fetched from L3, the next
                                                * chunk's cells, and U? */
    int team;
} fc_winograd_plan;

/* Filled in, and whether it fits. The forward pass, `packed`: with U made beforehand. */
int fc_winograd_plan_forward(fc_winograd_plan *plan, const fc_conv *conv, int packed, int threads);

/* The cells of the input whose places against the stride are `phase`. */
int fc_winograd_plan_grad_input(fc_winograd_plan *plan, const fc_conv *conv,
                                const int64_t phase[3], int threads);

/* Where in the outputs row i of a strip begins, for one filter of a group in one depth. */
static inline int64_t fc_winograd_place(const fc_winograd_plan *p, const fc_strip *at,
                                        int64_t group, int64_t filter, int64_t depth, int64_t i)
{
    const fc_line *x = &p->strips.x, *y = &p->strips.y;
    const int64_t plane = (at->image * p->groups + group) * p->filters + filter;
    const int64_t z = p->z.place + depth * p->z.place_step;
    const int64_t row = y->place + (at->top + i * y->spread) * y->place_step;
    return plane * p->out_plane + (z * p->out[1] + row) * p->out[2]
           + x->place + at->left * x->place_step;
}

/* How many taps of z meet a plane of the source, for one depth of the output; the first of them. */
int64_t fc_winograd_live_taps(const fc_winograd_plan *plan, int64_t depth, int64_t *first);

/* Depths that see the same taps are done together, `deep` at most: U passes by once for them.
 * Returns how many, from this one on. */
int64_t fc_winograd_run_of_depths(const fc_winograd_plan *plan, int64_t depth);

/* How many tiles make a chunk and a band, where one tile of V and of one block's M and all of U
 * have so many bytes, and a group so many filters. Chunks have `fit` tiles, and as many as `most`
 * where one is then enough. */
typedef struct { int64_t fit, most; } fc_winograd_tiles;

fc_winograd_tiles fc_winograd_chunk_tiles(int64_t v_tile, int64_t u_bytes, int64_t filters);
int64_t fc_winograd_band_tiles(int64_t m_tile, int64_t u_bytes);

/* Is that more of U than L3 keeps? */
int fc_winograd_leaves_cache(int64_t u_bytes);

#endif
