/* What is not finite spreads over its tile. Sums that it reached are done again as they are
 * written. */
#ifndef FC_CONV_WINOGRAD_MEND_H
#define FC_CONV_WINOGRAD_MEND_H

#include "conv_winograd_plan.h"

/* The outputs of one strip, block of filters and depth: wherever y does not hold a finite one, it
 * takes the direct sum. x, w and y are whole arrays; `bias` is the block's, or NULL. Returns a
 * status. */
int fc_winograd_mend(const fc_winograd_plan *plan, const char *x, const char *w, const char *bias,
                     char *y, const fc_strip *at, int64_t group, int64_t block, int64_t depth);

#endif
