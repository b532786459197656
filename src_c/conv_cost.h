/* Which algorithm takes a convolution. The only place that decides it. */
#ifndef FC_CONV_COST_H
#define FC_CONV_COST_H

#include "conv.h"

enum { FC_FORWARD, FC_GRAD_INPUT, FC_GRAD_WEIGHT };

/* FC_DIRECT or FC_WINOGRAD for one of the three passes: what conv->algorithm names, where that
 * fits, and the cheaper one where it is FC_AUTO. `prepared`: are the weights transformed
 * beforehand? Depends on one item's geometry, the dtype and the instruction set, never on the
 * batch, the threads or the data. */
int fc_conv_algorithm(const fc_conv *conv, int pass, int prepared);

#endif
