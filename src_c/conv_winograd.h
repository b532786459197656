/* Winograd convolution: fewer products, and transforms around them.
 *
 * Along an axis with r = 3 .. 5 taps a tile of m = 7 - r outputs takes 6 products where the sum
 * as written takes m r; along two axes 36 in place of (m r)^2: a quarter for 3x3. Two taps make
 * four outputs of 5 products. Both of the inner axes are done so where they have taps to save; the
 * outermost axis of a 3-D kernel, and axes with one tap, are summed as written.
 *
 * A stride cuts the taps into phases, which are convolutions with stride 1 over every stride-th
 * cell. They have tiles in common, and their products are added: 3x3 with stride 2 takes
 * (5 + 4)^2 for 4x4 outputs, 9/16 of the sum as written. r is then the taps of one phase. In the
 * input gradient each phase makes outputs of its own. Six taps and more are cut into such sums as
 * well: 7x7 takes (6 + 5)^2 for 3x3 outputs, 0.27 of the sum as written.
 *
 * Bits depend on the geometry of one item and the dtype alone.
 */
#ifndef FC_CONV_WINOGRAD_H
#define FC_CONV_WINOGRAD_H

#include <stddef.h>

#include "conv.h"

/* Can the forward pass be done so? And the input gradient? */
int fc_winograd_fits(const fc_conv *conv);
int fc_winograd_grad_input_fits(const fc_conv *conv);

/* As fc_conv_forward. */
int fc_winograd_forward(const fc_conv *conv, const void *x, const void *w, const void *bias,
                        void *y, int threads);

/* As fc_conv_grad_input. */
int fc_winograd_grad_input(const fc_conv *conv, const void *dy, const void *w, const void *bias,
                           void *dx, int threads);

/* As fc_conv_grad_weight; fits where the forward pass does. */
int fc_winograd_grad_weight(const fc_conv *conv, const void *dy, const void *x, void *dw,
                            int threads);

/* Chunks that so many bytes of transforms come in, beside sums of so many. */
double fc_winograd_grad_weight_chunks(double bytes, double m_bytes);

/* The forward pass with weights transformed beforehand, for the instruction set in force: their
 * size in bytes, the transform (`packed` aligned to 64 bytes), and the convolution, which still
 * needs w where x holds something that is not finite. The same bits as fc_winograd_forward. */
size_t fc_winograd_packed_bytes(const fc_conv *conv);
int fc_winograd_pack(const fc_conv *conv, const void *w, void *packed, int threads);
int fc_winograd_forward_packed(const fc_conv *conv, const void *x, const void *w,
                               const void *packed, const void *bias, void *y, int threads);

#endif
