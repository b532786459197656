/* Two ways to the gradient of the weights, and what chooses between them and the depthwise one of
 * conv_channelwise.h.
 *
 * Both compute dw[f, c, r] = sum over n, o of dy[n, f, o] x[n, c, o * stride + r * dilation - before]
 * as matrix products: conv_weight_grad.c with lanes over channels, conv_weight_dots.c, where a
 * group has too few of them, with lanes over outputs. `conv` has its axes merged.
 */
#ifndef FC_CONV_WEIGHT_GRAD_H
#define FC_CONV_WEIGHT_GRAD_H

#include "conv_plan.h"

/* What lanes over channels would do for the whole batch: multiply-adds of 64 bytes of lanes, cells
 * turned, vectors of dw added to, products called for, and the lines of outputs that these are
 * given. */
typedef struct { double products, turned, updates, calls, lines; } fc_weight_channels_shape;

fc_weight_channels_shape fc_weight_channels_count(const fc_conv *conv);

/* Multiply-adds of 64 bytes of lanes that lanes over outputs take for one image; infinite where
 * they would need too much scratch. */
double fc_weight_dots_cost(const fc_conv *conv);

int fc_weight_dots(const fc_conv *conv, const void *dy, const void *x, void *dw, int threads);

/* Rows f .. f + rows - 1 of dw, all of one group, on this thread, with lanes over channels:
 * values that are not finite reach what the equation says and nothing else. */
int fc_weight_rows(const fc_conv *conv, const void *dy, const void *x, void *dw, int64_t f, int64_t rows);

#endif
