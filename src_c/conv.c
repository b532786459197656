/* Forward pass and input gradient: what is computed, and which way takes it. */
#include "arena.h"
#include "conv_channelwise.h"
#include "conv_columns.h"
#include "conv_cost.h"
#include "conv_covered.h"
#include "conv_job.h"
#include "conv_patches.h"
#include "conv_thin.h"
#include "conv_winograd.h"
#include "kernels.h"

#include <string.h>

/* Strides of the three axes of an array whose last axes are `lengths`. */
static void strides(const int64_t lengths[3], int64_t out[3])
{
    out[2] = 1;
    out[1] = lengths[2];
    out[0] = lengths[1] * lengths[2];
}

/* The other direct ways take a job whole. */
static int takes_segments(int way)
{
    return way == FC_PANELS || way == FC_PLANES || way == FC_APART || way == FC_CHANNELWISE;
}

/* One segment; panels write outputs that nothing is summed for. */
static int run_segment(const fc_job *job, int way)
{
    if (way == FC_PANELS || fc_job_empty(job))
        return fc_conv_panels(job);
    return way == FC_CHANNELWISE ? fc_conv_channelwise(job, 1) : fc_conv_planes(job, 1, way);
}

/* The job's segments, where its way takes them; the job becomes the first. */
static void cut(fc_job *job, int way, fc_segments *segments)
{
    if (!takes_segments(way))
        return;
    fc_job_segments(job, segments);
    fc_job_take_segment(job, segments, 0);
}

/* By a direct way, one segment after the other; changes the job's axes. */
static int run(fc_job *job, int way, const fc_segments *segments)
{
    if (way == FC_TOEPLITZ)
        return fc_conv_toeplitz(job);
    if (way == FC_DEPTHWISE)
        return fc_conv_planes(job, 1, way);
    int status = FC_OK;
    for (int64_t i = 0; i < fc_volume(segments->count) && status == FC_OK; i++) {
        if (i > 0)
            fc_job_take_segment(job, segments, i);
        status = run_segment(job, way);
    }
    return status;
}

fc_job fc_job_forward(const fc_conv *conv, const void *x, const void *w, const void *bias, void *y,
                      int threads)
{
    const int64_t kernel = fc_volume(conv->kernel), channels = conv->in_channels / conv->groups;
    fc_job job = {
        .kernels = fc_active[conv->dtype], .size = conv->dtype == FC_F64 ? 8 : 4,
        .threads = threads,
        .batch = conv->batch, .groups = conv->groups,
        .rows = conv->out_channels / conv->groups, .channels = channels,
        .source = x, .source_channel = fc_volume(conv->in),
        .weight = w, .weight_group = conv->out_channels / conv->groups * channels * kernel,
        .weight_row = channels * kernel, .weight_channel = kernel,
        .weight_block = 8 * channels * kernel, .kernel = kernel,
        .bias = bias, .out = y, .out_row = fc_volume(conv->out),
    };
    strides(conv->in, job.source_axis);
    strides(conv->kernel, job.weight_axis);
    strides(conv->out, job.out_axis);
    for (int a = 0; a < 3; a++)
        job.axis[a] = fc_axis_forward(conv, a);
    return job;
}

/* Packed weights, (groups, blocks of 8 rows, channels, kernel, 8): as they are given, the 8 rows of
 * a tile lie far apart, often in the same set of a cache, and nothing is left of it for pixels that
 * are read where they lie. Rows that lie side by side can be lanes for the last pixels, and cost a
 * tile of one or two vectors one stream in place of 8: 256 x 14 x 14 -> 512, 3x3, stride 2 (49
 * pixels) 1375 -> 1243 us, 512 x 10 x 10 -> 512 (25) 1372 -> 1206, 512 x 98 -> 512 in patches of 2
 * (49) 533 -> 500; in doubles the first 2867 -> 2390. With many pixels nothing changes. */
static void take_packed(fc_job *job, const void *packed)
{
    job->weight = packed;
    job->weight_row = 1;
    job->weight_channel *= 8;
    for (int a = 0; a < 3; a++)
        job->weight_axis[a] *= 8;
    job->weight_group = fc_parts(job->rows, 8) * job->weight_block;
}

/* Planes go through the channels of one tap after the other, for which these do not lie in order. */
static int reads_packed(const fc_plan *plan)
{
    return fc_volume(plan->summed.kernel) == 1 || plan->way == FC_PANELS;
}

/* Larger kernels only where a vector holds the eight rows: tiles of four would use half of each
 * cache line (SSE2 0.7, doubles on AVX2 0.9 of the speed). */
static int worth_packing(const fc_conv *conv)
{
    const int64_t kernel = fc_volume(conv->kernel);
    return (kernel == 1 || fc_active[conv->dtype]->lanes >= 8)
        && conv->in_channels * kernel > conv->groups && conv->out_channels >= 8 * conv->groups;
}

void fc_conv_plan(fc_plan *plan, const fc_conv *given, int packed)
{
    const fc_conv *conv = &plan->summed;
    plan->conv = plan->summed = *given;
    plan->way = fc_conv_choose(conv, FC_FORWARD, 0);
    plan->in_patches = plan->way == FC_PATCHES;
    if (plan->in_patches) {
        plan->summed = fc_patches_conv(given);
        plan->way = fc_conv_choose(conv, FC_FORWARD, 0);
    }
    plan->multiply_adds = fc_conv_multiply_adds(conv);
    if (plan->way == FC_TRANSFORMS)
        return;
    const fc_conv merged = fc_conv_merge_axes(conv, 0);
    plan->job = fc_job_forward(&merged, NULL, NULL, NULL, NULL, 0);
    plan->reads_packed = packed && conv->algorithm == FC_DIRECT && reads_packed(plan);
    if (plan->reads_packed)
        take_packed(&plan->job, NULL);
    cut(&plan->job, plan->way, &plan->segments);
}

static int run_plan(const fc_plan *plan, const void *x, const void *w, const void *packed,
                    const void *bias, void *y, int threads)
{
    if (plan->way == FC_TRANSFORMS)
        return packed ? fc_winograd_forward_packed(&plan->summed, x, w, packed, bias, y, threads)
                      : fc_winograd_forward(&plan->summed, x, w, bias, y, threads);
    fc_job job = plan->job;
    job.source = x;
    job.weight = plan->reads_packed ? packed : w;
    job.bias = bias;
    job.out = y;
    job.threads = threads;
    return run(&job, plan->way, &plan->segments);
}

/* y[n, f, o] = bias[f] + sum of x[n, c, o * stride + r * dilation - before] w[f, c, r] */
int fc_conv_run(const fc_plan *plan, const void *x, const void *w, const void *packed,
                const void *bias, void *y, int threads)
{
    if (!plan->in_patches)
        return run_plan(plan, x, w, packed, bias, y, threads);
    void *patches = fc_patches_take(&plan->conv, x, threads);
    const int status = patches ? run_plan(plan, patches, w, packed, bias, y, threads)
                               : FC_NO_MEMORY;
    fc_arena_give(patches);
    return status;
}

int fc_conv_forward(const fc_conv *conv, const void *x, const void *w, const void *bias, void *y,
                    int threads)
{
    fc_plan plan;
    fc_conv_plan(&plan, conv, 0);
    return fc_conv_run(&plan, x, w, NULL, bias, y, threads);
}

size_t fc_conv_packed_bytes(const fc_conv *conv)
{
    if (conv->algorithm == FC_WINOGRAD)
        return fc_winograd_packed_bytes(conv);
    fc_job job = fc_job_forward(conv, NULL, NULL, NULL, NULL, 1);
    take_packed(&job, NULL);
    return worth_packing(conv) ? (size_t)(job.groups * job.weight_group * job.size) : 0;
}

int fc_conv_pack(const fc_conv *conv, const void *w, void *packed, int threads)
{
    if (conv->algorithm == FC_WINOGRAD)
        return fc_winograd_pack(conv, w, packed, threads);
    const fc_job given = fc_job_forward(conv, NULL, w, NULL, NULL, 1);
    fc_job job = given;
    take_packed(&job, packed);
    for (int64_t g = 0; g < job.groups; g++)
        for (int64_t row = 0; row < job.rows; row += 8)
            job.kernels->pack_transposed(
                given.weight + (g * given.weight_group + row * given.weight_row) * given.size,
                given.weight_row, fc_least(job.rows - row, 8), job.channels * job.kernel, 8,
                (char *)packed + (g * job.weight_group + fc_job_row(&job, row)) * job.size);
    return FC_OK;
}

/* No more phases than cells. */
static int64_t phases_along(const fc_conv *conv, int axis)
{
    return fc_least(conv->stride[axis], conv->in[axis]);
}

int64_t fc_job_phases(const fc_conv *conv)
{
    return phases_along(conv, 0) * phases_along(conv, 1) * phases_along(conv, 2);
}

fc_job fc_job_phase(const fc_job *all, const fc_conv *conv, int64_t phase)
{
    fc_job job = *all;
    for (int a = 2; a >= 0; a--) {
        job.axis[a] = fc_axis_grad_input(conv, a, phase % phases_along(conv, a));
        fc_axis_trim(&job.axis[a]);
        phase /= phases_along(conv, a);
    }
    return job;
}

fc_job fc_job_grad_input(const fc_conv *conv, const void *dy, const void *w, const void *bias,
                         void *dx, int threads)
{
    const int64_t kernel = fc_volume(conv->kernel), rows = conv->in_channels / conv->groups;
    fc_job job = {
        .kernels = fc_active[conv->dtype], .size = conv->dtype == FC_F64 ? 8 : 4,
        .threads = threads,
        .batch = conv->batch, .groups = conv->groups,
        .rows = rows, .channels = conv->out_channels / conv->groups,
        .source = dy, .source_channel = fc_volume(conv->out),
        .weight = w, .weight_group = conv->out_channels / conv->groups * rows * kernel,
        .weight_row = kernel, .weight_channel = rows * kernel, .weight_block = 8 * kernel,
        .kernel = kernel,
        .bias = bias, .out = dx, .out_row = fc_volume(conv->in),
    };
    strides(conv->out, job.source_axis);
    strides(conv->kernel, job.weight_axis);
    strides(conv->in, job.out_axis);
    return job;
}

int fc_job_leaves_cells(const fc_conv *conv)
{
    for (int a = 0; a < 3; a++)
        if (fc_least(conv->kernel[a], conv->stride[a] / fc_gcd(conv->stride[a], conv->dilation[a]))
            < conv->stride[a])
            return 1;
    return 0;
}

/* The input gradient of a convolution whose channels are each `cells` of the given one's, which
 * share its bias. */
static int grad_of_cells(const fc_conv *conv, int64_t cells, const void *dy, const void *w,
                         const void *bias, void *dx, int threads)
{
    if (!bias)
        return fc_conv_grad_input(conv, dy, w, NULL, dx, threads);
    const int64_t size = conv->dtype == FC_F64 ? 8 : 4;
    char *biases = fc_arena_take(conv->in_channels * size);
    if (!biases)
        return FC_NO_MEMORY;
    for (int64_t i = 0; i < conv->in_channels; i++)
        memcpy(biases + i * size, (const char *)bias + i / cells * size, size);
    const int status = fc_conv_grad_input(conv, dy, w, biases, dx, threads);
    fc_arena_give(biases);
    return status;
}

/* Of patches. */
static int grad_patches(const fc_conv *conv, const void *dy, const void *w, const void *bias,
                        void *dx, int threads)
{
    const fc_conv of_patches = fc_patches_conv(conv);
    const int64_t cells = conv->batch * of_patches.in_channels * fc_volume(conv->out);
    char *patches = fc_arena_take(cells * (conv->dtype == FC_F64 ? 8 : 4));
    if (!patches)
        return FC_NO_MEMORY;
    const int status = grad_of_cells(&of_patches, fc_volume(conv->kernel), dy, w, bias, patches,
                                     threads);
    if (status == FC_OK)
        fc_patches_put(conv, patches, dx, threads);
    fc_arena_give(patches);
    return status;
}

/* dx[n, c, i] = bias[c] + sum of dy[n, f, o] w[f, c, r] where o * stride + r * dilation -
 * before = i: for each phase of i against the stride a sum of its own, in which nothing but true
 * products stands, so that taps outside may always be left out. */
int fc_conv_grad_input(const fc_conv *given, const void *dy, const void *w, const void *bias,
                       void *dx, int threads)
{
    if (!bias && fc_covered_fits(given))
        return fc_covered_grad_input(given, dy, w, dx, threads);
    const int way = fc_conv_choose(given, FC_GRAD_INPUT, 0);
    if (way == FC_PATCHES)
        return grad_patches(given, dy, w, bias, dx, threads);
    if (way == FC_COLUMNS)
        return fc_columns_grad_input(given, dy, w, bias, dx, threads);
    if (way == FC_TRANSFORMS)
        return fc_winograd_grad_input(given, dy, w, bias, dx, threads);
    const fc_conv conv = fc_conv_merge_axes(given, 1);
    if (bias && conv.in_channels > given->in_channels)
        return grad_of_cells(&conv, conv.in_channels / given->in_channels, dy, w, bias, dx,
                             threads);
    const fc_job all = fc_job_grad_input(&conv, dy, w, bias, dx, threads);
    const int64_t phases = fc_job_phases(&conv);
    fc_job job[FC_MOST_PHASES];
    fc_segments segments;
    if (phases > 1 && way == FC_CHANNELWISE) {
        for (int64_t phase = 0; phase < phases; phase++)
            job[phase] = fc_job_phase(&all, &conv, phase);
        return fc_conv_channelwise(job, phases);
    }
    const int filled = fc_job_leaves_cells(&conv);
    int64_t together = 0;
    if (filled)
        fc_thin_spread(&conv, NULL, bias, dx, threads);
    for (int64_t phase = 0; phase < phases; phase++) {
        fc_job *now = &job[together];
        *now = fc_job_phase(&all, &conv, phase);
        if (filled && !(now->axis[0].taps && now->axis[1].taps && now->axis[2].taps))
            continue;
        fc_job part = *now;
        cut(&part, way, &segments);
        if (way == FC_PLANES && together < FC_MOST_PHASES - 1 && fc_volume(segments.count) == 1
            && !fc_job_empty(now)) {
            together++;
            continue;
        }
        const int status = run(&part, way, &segments);
        if (status != FC_OK)
            return status;
    }
    return together ? fc_conv_planes(job, together, way) : FC_OK;
}
