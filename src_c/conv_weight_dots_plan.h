/* The plan of conv_weight_dots.c: which taps share a tile, how outputs are cut into strips, and
 * where planes lie in scratch. Geometry alone decides it. */
#ifndef FC_CONV_WEIGHT_DOTS_PLAN_H
#define FC_CONV_WEIGHT_DOTS_PLAN_H

#include "conv_weight_grad.h"
#include "kernels.h"

enum {
    FC_DOTS_ROWS = 4,        /* of the register tile of fc_lane_dots; it has 3 columns */
    FC_DOTS_COLUMNS = 48,    /* of one call */
};

typedef struct {
    int64_t classes, every;   /* tap r has phase number r % every < classes */
    int64_t jump;             /* from the shift of tap r to that of tap r + every */
    int64_t low, high;        /* least and largest q */
    int64_t *shift;           /* (kernel): of tap r, from the first plane of a channel on */
} fc_taps_along;

typedef struct {
    fc_conv conv;
    const fc_kernels *kernels;
    int64_t size, vector;                  /* bytes of an element; elements in 64 bytes */
    int64_t cg, fg, taps, cells, outputs;  /* channels of a group; sizes of one plane */
    fc_taps_along along[3];
    int axis;                              /* whose taps are rows of the tile; -1: filters are */
    int64_t width, rows;                   /* these taps are width * every apart; so many */
    int64_t span[3];                       /* outputs of a strip */
    int64_t extent[3], plane;              /* of one phase of x, extent[2] the pitch; elements */
    int64_t channel;                       /* elements of all phases of one channel */
    int64_t margin, dy_plane;              /* zeros before and behind each plane of dy; elements */
    int64_t filters, channels;             /* planes copied together, at most */
    int in_place;                          /* is dy read where it stands? */
    int steady;                            /* do all strips look alike, so that zeros stay zeros? */
    int64_t shared_bytes, own_bytes;       /* of scratch: tables first, then each member's */
    char *scratch;                         /* what a call adds to its plan, from here on */
    const char *dy, *x;
    char *dw;
    int failed;
} fc_weight_dots_plan;

void fc_weight_dots_plan_make(fc_weight_dots_plan *plan, const fc_conv *conv);

static inline int64_t fc_divide_down(int64_t a, int64_t b)
{
    return a >= 0 ? a / b : -((b - 1 - a) / b);
}

/* q of tap r along axis a. */
static inline int64_t fc_tap_quotient(const fc_conv *conv, int a, int64_t r)
{
    return fc_divide_down(r * conv->dilation[a] - conv->before[a], conv->stride[a]);
}

/* Elements that one step of a row of the tile moves dy by. */
static inline int64_t fc_weight_dots_jump(const fc_weight_dots_plan *p)
{
    return p->axis < 0 ? 0 : p->width * p->along[p->axis].jump * (p->axis == 1 ? p->extent[2] : 1);
}

/* Lines of a strip, from its first to its last. */
static inline int64_t fc_weight_dots_lines(const fc_weight_dots_plan *p, const int64_t count[3])
{
    return (count[0] - 1) * p->extent[1] + count[1];
}

#endif
