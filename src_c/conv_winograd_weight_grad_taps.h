/* From the sums at the points, M, to the gradient of the weights. */
#ifndef FC_CONV_WINOGRAD_WEIGHT_GRAD_TAPS_H
#define FC_CONV_WINOGRAD_WEIGHT_GRAD_TAPS_H

#include "conv_winograd_weight_grad_plan.h"

/* Scratch: half-way points, the taps of one phase, and all taps, of a few channels each. */
typedef struct { char *half, *phase, *taps; } fc_winograd_taps;

fc_winograd_taps fc_winograd_taps_carve(const fc_winograd_grad_plan *plan, char *base,
                                        size_t *used);

/* The finished M of one block to its place in dw, the whole gradient. Returns whether M was
 * finite. */
int fc_winograd_to_weights(const fc_winograd_grad_plan *plan, const fc_winograd_taps *scratch,
                           const fc_vectors vectors[2], const fc_winograd_block *of,
                           const char *m, char *dw);

#endif
