/* Which algorithm takes a convolution, and which way the direct one goes about it. Depthwise
 * kernels compare lanes over channels with what is chosen here: conv_channelwise.h for forward and
 * input gradient, conv_weight_grad.c for the weights'. All these choices depend on one item's geometry, the dtype
 * and the instruction set, never on the batch, the threads or the data. */
#ifndef FC_CONV_COST_H
#define FC_CONV_COST_H

#include "conv_job.h"

enum { FC_FORWARD, FC_GRAD_INPUT, FC_GRAD_WEIGHT };

/* Whatever computes a pass: panels, planes, planes a tap apart (conv_job.h); for the gradient of the
 * weights lanes over channels and over outputs (conv_weight_grad.h); Winograd's algorithm. */
enum {
    FC_PANELS, FC_PLANES, FC_APART, FC_CHANNELS, FC_DOTS, FC_TRANSFORMS, FC_TRANSFORMS_GRAD_WEIGHT,
    FC_WAYS, FC_TERMS = 12
};

/* FC_DIRECT or FC_WINOGRAD for one of the three passes: what conv->algorithm names, where that
 * fits, and the cheaper one where it is FC_AUTO. `prepared`: are the weights transformed
 * beforehand? */
int fc_conv_algorithm(const fc_conv *conv, int pass, int prepared);

/* The cheapest way for a job: FC_PANELS, FC_PLANES or FC_APART. The same on every instruction set,
 * since the order of the sum depends on it. */
int fc_conv_way(const fc_job *job);

/* Is fc_weight_dots the cheaper way to the gradient of the weights, or lanes over channels? `conv`
 * has its axes merged. The same on every instruction set. */
int fc_conv_dots_pay(const fc_conv *conv);

/* For bench/sweep.py, which measures the ways and fits the constants of conv_cost.c. */

/* Counted operations, each of which has a constant, of whatever computes a pass with the algorithm
 * that conv names (not FC_AUTO) and the batch that it has: ways that are not taken have zeros. */
void fc_conv_terms(const fc_conv *conv, int pass, int prepared, double terms[FC_WAYS][FC_TERMS]);

/* Take that way of the direct algorithm wherever it fits; FC_WAYS ends it. Not while anything
 * runs. */
void fc_conv_force_way(int way);

#endif
