/* The transform U of the weights: for each point of a tile a matrix [channel][filter].
 *
 * It lies in pieces, [group][block of filters][slice of channels], each a matrix
 * [point][tap of z][phase][channel][filter of the block]. A slice is what one
 * product sums in one chain: its length, which geometry alone decides, is part of the result.
 * The width of a block is not.
 */
#ifndef FC_CONV_WINOGRAD_WEIGHTS_H
#define FC_CONV_WINOGRAD_WEIGHTS_H

#include "conv_winograd_tiles.h"

/* Terms of a chain at most: channels, taps in depth and phases of a channel count. 128 channels of
 * 28 x 28 in one chain were off by 4.1e-6, in two by 2.2e-6, which takes 1 to 2 % of the time. */
enum { FC_WINOGRAD_TERMS = 96 };

/* Cache lines of filters that a block has at most. */
enum { FC_WINOGRAD_LINES = 4 };

typedef struct {
    const fc_kernels *kernels;
    int64_t size, lanes;                       /* of an element, of a vector */
    int64_t groups, channels, filters;         /* the latter two of a group */
    fc_axis z;
    fc_line y, x;
    int64_t points, kernel[3], taps;           /* of a tile; of the weights; their product */
    int64_t from_group, from_filter, from_channel;   /* strides of the weights */

    /* Filled in by the following two: */
    int64_t slice, slices, block, blocks;      /* channels of a slice; filters of a block */
    int64_t to_point, to_slice;                /* of U: from point to point, from slice to slice */
} fc_winograd_weights;

/* Channels of a slice, with so many terms each. */
int64_t fc_winograd_slice(int64_t channels, int64_t taps);

/* Terms of a slice, taps in depth with so many phases each, that one product sums over: the next
 * product adds the next. */
int64_t fc_winograd_terms_at_once(int64_t slice, int64_t phases);

void fc_winograd_weights_slices(fc_winograd_weights *w);

/* `kept`: does U stay for the whole call or longer, or only in L2, slice by slice? */
void fc_winograd_weights_blocks(fc_winograd_weights *w, int kept);

static inline int64_t fc_winograd_weights_bytes(const fc_winograd_weights *w)
{
    return w->groups * w->blocks * w->slices * w->to_slice * w->size;
}

/* Of the scratch that each of the following needs. */
int64_t fc_winograd_weights_scratch(const fc_winograd_weights *w);

/* One slice of U, from all the weights at `from`. */
void fc_winograd_weights_slice(const fc_winograd_weights *w, const char *from, int64_t group,
                               int64_t block, int64_t slice, char *to, char *scratch);

/* A member's share of all of it. */
void fc_winograd_weights_share(const fc_winograd_weights *w, const char *from, char *to,
                               char *scratch, int member, int team);

#endif
