/* A planned sum by Winograd's algorithm, run by a team: where there are strips enough, each member
 * has chunks of its own, and nothing to wait for; else they share each chunk, first the filling,
 * then the blocks of filters. */
#ifndef FC_CONV_WINOGRAD_RUN_H
#define FC_CONV_WINOGRAD_RUN_H

#include "conv_winograd_plan.h"

/* y from the source x and the weights w, whole arrays as the plan has them; `packed`: U of all
 * weights, or NULL; `bias` (groups * filters) or NULL. Returns a status. */
int fc_winograd_run(const fc_winograd_plan *plan, const void *x, const void *w, const void *packed,
                    const void *bias, void *y);

#endif
