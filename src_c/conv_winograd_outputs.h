/* From the products of one part to the outputs. */
#ifndef FC_CONV_WINOGRAD_OUTPUTS_H
#define FC_CONV_WINOGRAD_OUTPUTS_H

#include "conv_winograd_job.h"

/* The outputs of a part whose M, all slices summed, stands in the member's `products`. What is not
 * finite is mended; where that finds no memory, c->status says so. */
void fc_winograd_finish(fc_winograd_call *c, const fc_winograd_scratch *s,
                        const fc_winograd_part *of);

#endif
