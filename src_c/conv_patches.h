/* Kernels as long as their stride: each cell meets one output, and the convolution is one with a
 * kernel of 1 of an image whose channels are a patch's cells,
 *
 *     patches[n, c, r, o] = x[n, c, o * stride + r]     (N, C * K, out), r = 0 .. K - 1
 *
 * of the same weights: neither they nor y change. Turned once, patches are read by vectors in
 * place of single cells, and the gradient of the input is one sum instead of one for each phase
 * of the stride.
 */
#ifndef FC_CONV_PATCHES_H
#define FC_CONV_PATCHES_H

#include "conv_plan.h"

/* Is it one of these? Depthwise layers are not, whose sums have one order (conv_count.h). */
int fc_patches_fit(const fc_conv *conv);

/* The convolution of the patches. */
fc_conv fc_patches_conv(const fc_conv *conv);

/* x -> patches, in scratch to be given back to the arena; NULL: no memory. */
void *fc_patches_take(const fc_conv *conv, const void *x, int threads);

/* patches -> x */
void fc_patches_put(const fc_conv *conv, const void *patches, void *x, int threads);

#endif
