/* Two ways to the gradient of the weights; for depthwise kernels conv_channelwise.h has another.
 *
 * Both compute dw[f, c, r] = sum over n, o of dy[n, f, o] x[n, c, o * stride + r * dilation -
 * before] as matrix products: conv_weight_channels.c with lanes over channels, conv_weight_dots.c,
 * where a group has too few of them, with lanes over outputs. `conv` has its axes merged.
 */
#ifndef FC_CONV_WEIGHT_GRAD_H
#define FC_CONV_WEIGHT_GRAD_H

#include "conv_plan.h"

/* What lanes over channels would do for one group and the whole batch: terms of a sum, added up
 * over taps, and the lines of outputs that they come in; rows of dw worked on together; taps
 * that are lanes of one product, channels of a block; blocks, strips of each and products of
 * that; cells turned for each channel, so many of a line at a time; are sums turned outside dw?
 * And elements looked at for each row because of padding. */
typedef struct {
    double terms, lines, cells, scanned;
    int64_t block_rows, in_row, channels, blocks, strips, products, line;
    int apart;
} fc_weight_channels_shape;

fc_weight_channels_shape fc_weight_channels_count(const fc_conv *conv);

int fc_weight_channels(const fc_conv *conv, const void *dy, const void *x, void *dw, int threads);

/* What lanes over outputs would do for one image: the time of its tiles, in multiply-adds of 64
 * bytes of lanes; rows of these that are read across two cache lines; lines of outputs that
 * tiles are given; products called for and sums across lanes; vectors of so many bytes copied,
 * times how far their cells lie apart (0 where one beside the other), columns of them at the edges
 * of planes, cells copied one by one, vectors cleared; strips of outputs; vectors of tiles that L1
 * does not keep. And for all images, 64 bytes of scratch, `fits` where that is not too much. */
typedef struct {
    int fits;
    double tiles, across, lines, calls, sums, copied, apart, edges, singly, cleared, strips, far,
           scratch;
} fc_weight_dots_shape;

fc_weight_dots_shape fc_weight_dots_count(const fc_conv *conv, int64_t bytes);

int fc_weight_dots(const fc_conv *conv, const void *dy, const void *x, void *dw, int threads);

/* Rows f .. f + rows - 1 of dw, all of one group, on this thread, with lanes over channels:
 * values that are not finite reach what the equation says and nothing else. */
int fc_weight_rows(const fc_conv *conv, const void *dy, const void *x, void *dw, int64_t f,
                   int64_t rows);

#endif
