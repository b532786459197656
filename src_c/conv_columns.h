/* Input gradients into few channels, those of first layers and of transposed convolutions that end
 * in an image: for each output o, what it owes to every tap of its cells is one product,
 *
 *     columns[c, r, o] = sum over filters f of w[f, c, r] dy[f, o]
 *     dx[c, i]         = bias[c] + sum of columns[c, r, o] where o * stride + r * dilation
 *                        - before = i
 *
 * of as many rows as channels and taps together, so that tiles are full, and dy is read in place.
 * Adding up costs an addition for each `filters` multiply-adds.
 *
 * A box of outputs at a time: its columns stay in L2, and are added up in a plane of its own,
 * split into the phases of the stride. Then each line of dx is put together from the planes of the
 * boxes that reach it. Boxes follow from the shapes, so threads change no bit. */
#ifndef FC_CONV_COLUMNS_H
#define FC_CONV_COLUMNS_H

#include "conv_plan.h"

/* Are there several taps and several filters? Patches (conv_patches.h) need no adding up. */
int fc_columns_fit(const fc_conv *conv);

/* dy -> dx, both as fc_conv_grad_input has them. */
int fc_columns_grad_input(const fc_conv *conv, const void *dy, const void *w, const void *bias,
                          void *dx, int threads);

/* The convolution with a kernel of 1 whose input gradient a box's columns are, of one image, and
 * how many boxes that has. */
typedef struct { fc_conv box; int64_t boxes; } fc_columns_shape;

fc_columns_shape fc_conv_columns_shape(const fc_conv *conv);

#endif
