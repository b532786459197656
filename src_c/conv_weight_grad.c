/* Gradients of weights and biases: which way takes them.
 *
 *     dw[f, c, r] = sum over n, o of dy[n, f, o] x[n, c, o * stride + r * dilation - before]
 *     db[f] = sum over n, o of dy[n, f, o]
 *
 * which differentiate  y[n, f, o] = b[f] + sum over c, r of x[n, c, o * stride + ...] w[f, c, r].
 */
#include "conv_weight_grad.h"

#include "arena.h"
#include "conv_channelwise.h"
#include "conv_cost.h"
#include "conv_covered.h"
#include "conv_patches.h"
#include "conv_winograd.h"
#include "kernels.h"
#include "parallel.h"

#include <string.h>

static int grad_by_patches(const fc_conv *conv, const void *dy, const void *x, void *dw,
                           int threads)
{
    const fc_conv of_patches = fc_patches_conv(conv);
    void *patches = fc_patches_take(conv, x, threads);
    const int status = patches ? fc_conv_grad_weight(&of_patches, dy, patches, dw, threads)
                               : FC_NO_MEMORY;
    fc_arena_give(patches);
    return status;
}

int fc_conv_grad_weight(const fc_conv *conv, const void *dy, const void *x, void *dw, int threads)
{
    const int64_t kernel = fc_volume(conv->kernel), channels = conv->in_channels / conv->groups;
    if (conv->batch == 0) {
        memset(dw, 0, conv->out_channels * channels * kernel * (conv->dtype == FC_F32 ? 4 : 8));
        return FC_OK;
    }
    if (fc_covered_fits(conv))
        return fc_covered_grad_weight(conv, dy, x, dw, threads);
    const int way = fc_conv_choose(conv, FC_GRAD_WEIGHT, 0);
    if (way == FC_PATCHES_GRAD_WEIGHT)
        return grad_by_patches(conv, dy, x, dw, threads);
    if (way == FC_TRANSFORMS_GRAD_WEIGHT)
        return fc_winograd_grad_weight(conv, dy, x, dw, threads);
    const fc_conv merged = fc_conv_merge_axes(conv, 1);
    const double terms = (double)(conv->batch * channels * kernel)
        * (double)(conv->out_channels * fc_volume(conv->out));
    threads = fc_team_size(fc_useful_threads(threads, 2 * terms));
    if (way == FC_CHANNELWISE_GRAD_WEIGHT) {
        const fc_job channelwise = fc_job_forward(&merged, x, dw, 0, (void *)dy, threads);
        return fc_channelwise_weight_grad(&merged, &channelwise);
    }
    return way == FC_DOTS ? fc_weight_dots(&merged, dy, x, dw, threads)
                          : fc_weight_channels(&merged, dy, x, dw, threads);
}

/* ---- bias ---- */

typedef struct {
    const fc_conv *conv;
    const char *dy;
    char *db;
} bias_job;

/* Images [n, end) of one output channel, whose first is at dy: halves of halves. */
static double sum_images(const bias_job *j, const char *dy, int64_t n, int64_t end)
{
    const fc_conv *conv = j->conv;
    const int64_t outputs = fc_volume(conv->out);
    const int64_t size = conv->dtype == FC_F32 ? 4 : 8;
    if (n == end)
        return 0;
    if (end - n == 1)
        return fc_active[conv->dtype]->sum(dy + n * conv->out_channels * outputs * size, outputs);
    return sum_images(j, dy, n, n + (end - n) / 2) + sum_images(j, dy, n + (end - n) / 2, end);
}

static void sum_channels(void *context, int member, int team)
{
    const bias_job *j = context;
    const fc_conv *conv = j->conv;
    const int64_t outputs = fc_volume(conv->out);
    int64_t begin, end;
    fc_share(conv->out_channels, member, team, &begin, &end);
    for (int64_t f = begin; f < end; f++)
        if (conv->dtype == FC_F32)
            ((float *)j->db)[f] = (float)sum_images(j, j->dy + f * outputs * 4, 0, conv->batch);
        else
            ((double *)j->db)[f] = sum_images(j, j->dy + f * outputs * 8, 0, conv->batch);
}

int fc_conv_grad_bias(const fc_conv *conv, const void *dy, void *db, int threads)
{
    bias_job j = {conv, dy, db};
    const double terms = (double)conv->batch * conv->out_channels * fc_volume(conv->out);
    fc_parallel(fc_useful_threads(threads, 4 * terms), sum_channels, &j);   /* bound by memory */
    return FC_OK;
}
