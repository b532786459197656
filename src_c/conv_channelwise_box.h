/* A box of conv_channelwise.c's plan: the cells that its outputs see, turned to lanes. */
#ifndef FC_CONV_CHANNELWISE_BOX_H
#define FC_CONV_CHANNELWISE_BOX_H

#include "conv_channelwise_plan.h"

typedef struct {
    int64_t image, group, groups;   /* the first group of its block, and how many: one a lane */
    int64_t begin[3], count[3];     /* outputs */
    char *cells, *tile;             /* conv_channelwise_plan.h */
    char *weight, *bias;            /* (rows, kernel, lanes), (rows, lanes); for a gradient weight
                                       (2, rows, kernel, lanes): a chain's sum, and all sums */
    fc_tap_run *runs;               /* of a row that meets the padding: room for one phase's */
    int64_t filled;                 /* lines of cells so far */
} fc_channelwise_box;

/* A block's, in the member's scratch. */
fc_channelwise_box fc_channelwise_box_make(const fc_channelwise_plan *plan, int64_t block,
                                           int member);

/* It becomes box number `item` of all images (fc_channelwise_boxes), without cells so far. */
void fc_channelwise_box_place(const fc_channelwise_plan *plan, fc_channelwise_box *box,
                              int64_t item);

/* Turns what rows [y, y + many) of outputs of its plane z see and is not there yet. Rows and
 * planes must come in order. */
void fc_channelwise_box_fill(const fc_channelwise_plan *plan, fc_channelwise_box *box, int64_t z,
                             int64_t y, int64_t many);

/* Elements of the array of outputs before (channel of lane 0, row i; z, y, 0) of the box. */
int64_t fc_channelwise_output_at(const fc_channelwise_plan *plan, const fc_channelwise_box *box,
                                 int64_t i, int64_t z, int64_t y);

#endif
