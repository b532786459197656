/* The arithmetic of places: which output cell meets which tap in which source cell.
 *
 * Forward pass and input gradient are the same sum,
 *
 *     out[row, j] = sum over channels c and taps r of weight(row, c, r) * source[c, cell(j, r)]
 *
 * and differ in what stands for row and channel and in `cell`, which is affine along each axis.
 * An fc_axis says how; everything behind it (panels, planes, Toeplitz) sees fc_axis alone.
 */
#ifndef FC_CONV_PLAN_H
#define FC_CONV_PLAN_H

#include "conv.h"
#include "scratch.h"

/* The first level of cache. */
enum { FC_L1_BYTES = 32 << 10 };

static inline int64_t fc_volume(const int64_t lengths[3])
{
    return lengths[0] * lengths[1] * lengths[2];
}
int64_t fc_gcd(int64_t a, int64_t b);

typedef struct {
    int64_t outputs;              /* j = 0 .. outputs - 1 */
    int64_t cells;                /* length of the source: outside 0 .. cells - 1 it is zero */
    int64_t taps;                 /* r = 0 .. taps - 1 */
    int64_t step;                 /* cell(j, r) = j * step + offset + r * tap_step */
    int64_t offset, tap_step;
    int64_t weight, weight_step;  /* tap r stands at weight + r * weight_step along the kernel */
    int64_t place, place_step;    /* output j is stored at place + j * place_step */
} fc_axis;

/* Forward along one axis: all of it. */
fc_axis fc_axis_forward(const fc_conv *conv, int axis);

/* Input gradient along one axis: cells i = phase, phase + stride, ... of the input. Only every
 * (stride / gcd(stride, dilation))th tap reaches them, and among them the stride is 1. May have
 * no taps (then these cells get no gradient) or no outputs. */
fc_axis fc_axis_grad_input(const fc_conv *conv, int axis, int64_t phase);

/* The first of the outputs whose tap r lies in the source, and, in *count, how many do. */
int64_t fc_axis_inside(const fc_axis *axis, int64_t r, int64_t *count);

/* The first of the taps with which output j meets a cell, and, in *count, how many do. */
int64_t fc_axis_taps_inside(const fc_axis *axis, int64_t j, int64_t *count);

/* How many outputs meet a cell with every tap. */
int64_t fc_axis_whole(const fc_axis *axis);

/* How many pairs of an output and a tap meet a cell. */
int64_t fc_axis_meetings(const fc_axis *axis);

/* Leave out the taps that meet nothing but padding: they stand at the axis' ends. */
void fc_axis_trim(fc_axis *axis);

/* Make the axes as few and as long as they go: an axis that the kernel does not see (kernel 1,
 * stride 1, no padding) merges with its left neighbour if that has stride 1. A 1x1 convolution
 * becomes one long line. For a gradient, first axes that the kernel covers become channels, and
 * others get a stride as long: each cell meets one tap, and the sum over all, most of them outside,
 * took 4.1 in place of 0.7 ms (40 x 22 x 476, 40 filters of 22 x 1, backward; 4.4 in place of 1.6
 * along the other axis). The forward pass gains nothing, nor do lone channels that become a single
 * output: lanes over channels take a quarter of the time.
 * The result describes the same arrays; only the bias of an input gradient has a number for each
 * channel as given. */
fc_conv fc_conv_merge_axes(const fc_conv *conv, int gradient);

/* The same convolution of those cells alone that some output can meet: first, first + every, ... of
 * each axis (conv_thin.h). */
fc_conv fc_conv_thin(const fc_conv *conv, int64_t first[3], int64_t every[3]);

#endif
