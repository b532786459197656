/* Gradients of depthwise kernels that cover the whole image: with one output a channel they are
 * multiples of the weights and of the image,
 *
 *     dx[n, c, i] = sum over m of dy[n, c M + m] w[c M + m, i]
 *     dw[c M + m, i] = sum over n of dy[n, c M + m] x[n, c, i]        M output channels a group
 *
 * read and written once, as they lie: nothing else can take less. Both of 960 x 7 x 7 343 -> 34 us,
 * of 8 images of 64 x 32 x 32 6665 -> 130. The forward pass is a sum along rows, which
 * conv_channelwise.c turns. */
#ifndef FC_CONV_COVERED_H
#define FC_CONV_COVERED_H

#include "conv.h"

/* Is it one of these? */
int fc_covered_fits(const fc_conv *conv);

int fc_covered_grad_input(const fc_conv *conv, const void *dy, const void *w, void *dx,
                          int threads);
int fc_covered_grad_weight(const fc_conv *conv, const void *dy, const void *x, void *dw,
                           int threads);

#endif
