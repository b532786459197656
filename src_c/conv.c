/* Forward pass and input gradient: what is computed, and which way takes it. */
#include "conv_channelwise.h"
#include "conv_cost.h"
#include "conv_job.h"
#include "conv_thin.h"
#include "conv_winograd.h"
#include "kernels.h"

/* Strides of the three axes of an array whose last axes are `lengths`. */
static void strides(const int64_t lengths[3], int64_t out[3])
{
    out[2] = 1;
    out[1] = lengths[2];
    out[0] = lengths[1] * lengths[2];
}

static int run(const fc_job *job)
{
    if (fc_conv_channelwise_pays(job, 1))
        return fc_conv_channelwise(job, 1);
    if (fc_conv_toeplitz_fits(job))
        return fc_conv_toeplitz(job);
    const fc_segments segments = fc_job_segments(job);
    int status = FC_OK;
    for (int64_t i = 0; i < fc_volume(segments.count) && status == FC_OK; i++) {
        const fc_job part = fc_job_segment(job, &segments, i);
        const int way = fc_conv_way(&part);
        status = way == FC_PANELS ? fc_conv_panels(&part) : fc_conv_planes(&part, way == FC_APART);
    }
    return status;
}

fc_job fc_job_forward(const fc_conv *conv, const void *x, const void *w, const void *bias, void *y,
                      int threads)
{
    const int64_t kernel = fc_volume(conv->kernel), channels = conv->in_channels / conv->groups;
    fc_job job = {
        .kernels = fc_active[conv->dtype], .size = conv->dtype == FC_F64 ? 8 : 4, .threads = threads,
        .batch = conv->batch, .groups = conv->groups,
        .rows = conv->out_channels / conv->groups, .channels = channels,
        .source = x, .source_channel = fc_volume(conv->in),
        .weight = w, .weight_group = conv->out_channels / conv->groups * channels * kernel,
        .weight_row = channels * kernel, .weight_channel = kernel,
        .bias = bias, .out = y, .out_row = fc_volume(conv->out),
    };
    strides(conv->in, job.source_axis);
    strides(conv->kernel, job.weight_axis);
    strides(conv->out, job.out_axis);
    for (int a = 0; a < 3; a++)
        job.axis[a] = fc_axis_forward(conv, a);
    return job;
}

/* y[n, f, o] = bias[f] + sum of x[n, c, o * stride + r * dilation - before] w[f, c, r] */
int fc_conv_forward(const fc_conv *given, const void *x, const void *w, const void *bias,
                    void *y, int threads)
{
    if (fc_conv_algorithm(given, FC_FORWARD, 0) == FC_WINOGRAD)
        return fc_winograd_forward(given, x, w, bias, y, threads);
    const fc_conv conv = fc_conv_merge_axes(given);
    const fc_job job = fc_job_forward(&conv, x, w, bias, y, threads);
    return run(&job);
}

/* The sum of one phase of the input gradient: `s` phases along each axis. */
static fc_job phase_job(const fc_job *base, const fc_conv *conv, const int64_t s[3], int64_t phase)
{
    fc_job job = *base;
    const int64_t at[3] = {phase / s[2] / s[1], phase / s[2] % s[1], phase % s[2]};
    for (int a = 0; a < 3; a++)
        job.axis[a] = fc_axis_grad_input(conv, a, at[a]);
    for (int a = 0; a < 3; a++)
        fc_axis_trim(&job.axis[a]);
    return job;
}

/* Are there phases of the stride that no tap reads? */
static int leaves_cells(const fc_conv *conv)
{
    for (int a = 0; a < 3; a++)
        if (fc_least(conv->kernel[a], conv->stride[a] / fc_gcd(conv->stride[a], conv->dilation[a]))
            < conv->stride[a])
            return 1;
    return 0;
}

/* dx[n, c, i] = bias[c] + sum of dy[n, f, o] w[f, c, r] where o * stride + r * dilation - before = i:
 * for each phase of i against the stride a sum of its own, in which nothing but true products
 * stands, so that taps outside may always be left out. */
int fc_conv_grad_input(const fc_conv *given, const void *dy, const void *w, const void *bias,
                       void *dx, int threads)
{
    if (fc_conv_algorithm(given, FC_GRAD_INPUT, 0) == FC_WINOGRAD)
        return fc_winograd_grad_input(given, dy, w, bias, dx, threads);
    const fc_conv conv = fc_conv_merge_axes(given);
    const int64_t kernel = fc_volume(conv.kernel), rows = conv.in_channels / conv.groups;
    fc_job base = {
        .kernels = fc_active[conv.dtype], .size = conv.dtype == FC_F64 ? 8 : 4, .threads = threads,
        .batch = conv.batch, .groups = conv.groups,
        .rows = rows, .channels = conv.out_channels / conv.groups,
        .source = dy, .source_channel = fc_volume(conv.out),
        .weight = w, .weight_group = conv.out_channels / conv.groups * rows * kernel,
        .weight_row = kernel, .weight_channel = rows * kernel,
        .bias = bias, .out = dx, .out_row = fc_volume(conv.in),
    };
    strides(conv.out, base.source_axis);
    strides(conv.kernel, base.weight_axis);
    strides(conv.in, base.out_axis);
    int64_t s[3];   /* no more phases than cells */
    for (int a = 0; a < 3; a++)
        s[a] = conv.stride[a] < conv.in[a] ? conv.stride[a] : conv.in[a];
    const int64_t phases = s[0] * s[1] * s[2];
    fc_job job[FC_MOST_PHASES];
    if (phases > 1 && phases <= FC_MOST_PHASES && base.channels == 1) {
        for (int64_t phase = 0; phase < phases; phase++)
            job[phase] = phase_job(&base, &conv, s, phase);
        if (fc_conv_channelwise_pays(job, phases))
            return fc_conv_channelwise(job, phases);
    }
    const int filled = leaves_cells(&conv);
    if (filled)
        fc_thin_spread(&conv, NULL, bias, dx, threads);
    for (int64_t phase = 0; phase < phases; phase++) {
        job[0] = phase_job(&base, &conv, s, phase);
        if (filled && !(job->axis[0].taps && job->axis[1].taps && job->axis[2].taps))
            continue;
        const int status = run(job);
        if (status != FC_OK)
            return status;
    }
    return FC_OK;
}
