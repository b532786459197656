/* Depthwise convolution with lanes over channels: one channel a group, many groups.
 *
 * Forward pass and input gradient take the jobs of all phases of the stride (conv_job.h), which
 * differ in their axes alone, or one segment of a job that has no phases. For the weight
 * gradient `job` is that of the forward pass of `conv`, in which `out` is read and `weight`
 * written.
 */
#ifndef FC_CONV_CHANNELWISE_H
#define FC_CONV_CHANNELWISE_H

#include "conv_job.h"

int fc_conv_channelwise(const fc_job *jobs, int64_t phases);
int fc_channelwise_weight_grad(const fc_conv *conv, const fc_job *job);

/* What it does for one image and as many channels as a vector has lanes, in vectors: multiply-adds,
 * cells loaded for them, outputs; runs of taps begun in all stretches of outputs, and stretches;
 * calls of the kernel; cells and their lines turned to lanes, and zeros around them; cells that one
 * stretch looks at, and all of them together. */
typedef struct {
    int fits;
    double products, loads, outputs, runs, stretches, calls, cells, lines, zeros, window, looked_at;
} fc_channelwise_shape;

/* `grad_weight`: of the weight gradient? Fits all phases of a stride, with one channel a group. */
fc_channelwise_shape fc_conv_channelwise_shape(const fc_job *jobs, int64_t phases, int grad_weight);

#endif
