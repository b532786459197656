/* Depthwise convolution with lanes over channels: one channel a group, many groups.
 *
 * Forward pass and input gradient take the jobs of all phases of the stride (conv_job.h), which
 * differ in their axes alone. For the weight gradient `job` is that of the forward pass, in which
 * `out` is read and `weight` written.
 */
#ifndef FC_CONV_CHANNELWISE_H
#define FC_CONV_CHANNELWISE_H

#include "conv_job.h"

enum { FC_MOST_PHASES = 16 };

int fc_conv_channelwise(const fc_job *jobs, int64_t phases);
/* Are these all phases, is there one channel a group, and is this the best way for it? */
int fc_conv_channelwise_pays(const fc_job *jobs, int64_t phases);

int fc_channelwise_weight_grad(const fc_job *job);
/* Cycles for one image, the same on every instruction set; infinite where it does not fit. */
double fc_channelwise_weight_cost(const fc_job *job);

#endif
