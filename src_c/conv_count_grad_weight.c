/* The direct algorithm, gradient of the weights: a function for each way, what it does and how
 * often. */
#include <math.h>

#include "conv_count_parts.h"
#include "conv_patches.h"
#include "conv_weight_grad.h"

static void channels(const fc_conv *conv, double lanes, double term[FC_TERMS])
{
    const double size = conv->dtype == FC_F32 ? 4 : 8, groups = (double)conv->groups;
    const fc_weight_channels_shape shape = fc_weight_channels_count(conv);
    const double taps = fc_count_volume(conv->kernel);
    const double channels = (double)conv->in_channels / groups;
    const double filters = (double)conv->out_channels / groups, blocks = (double)shape.blocks;
    const double some = (double)shape.channels, rest = channels - (blocks - 1) * some;
    const double line = (double)shape.line;
    const double rows = (double)shape.block_rows, whole = floor(filters / rows);
    const double left = filters - whole * rows;
    const int across = shape.channels * (int64_t)size % 64 != 0;
    fc_product all = {0};
    for (int i = 0; i < 2; i++) {
        const double n = (double)shape.in_row * (i ? rest : some), times = i ? 1 : blocks - 1;
        fc_count_product(rows, n, lanes, size, times * whole, &all);
        fc_count_product(left, n, lanes, size, times * (left > 0), &all);
    }
    const double products = groups * (double)shape.products;
    const double strip = shape.cells / (double)shape.strips * some * size;   /* bytes, turned */
    const double turned = (blocks - 1) * some + rest;
    const double fours = (blocks - 1) * fc_count_by_fours(some, line)
                         + fc_count_by_fours(rest, line);
    const double turned_at_end = taps > 1 && channels > 1 ? channels * taps : 0;
    const double fours_at_end = fc_count_by_fours(channels, turned_at_end / channels);
    const double counted[FC_TERMS] = {
        groups * all.cycles * shape.terms,
        groups * all.few * shape.terms,
        across ? groups * all.loads * shape.terms : 0,
        groups * all.tiles * shape.lines,                 /* begun */
        all.vectors * products,                           /* vectors of dw added to */
        all.edges * products,
        all.tiles * products,
        groups * shape.cells * fours / line,              /* turned by fours */
        groups * shape.cells * (turned - fours / line),
        groups * shape.cells * blocks / line,             /* lines turned */
        groups * filters * fours_at_end,
        groups * filters * (turned_at_end - fours_at_end),
        groups * filters * shape.scanned / lanes,
        groups * filters,
        groups * blocks * (double)shape.strips,
        products * blocks * (whole + (left > 0)),
        groups * filters * channels * taps,
        shape.apart ? 0 : groups * filters * turned_at_end,
        strip > L1_BYTES ? groups * all.loads * shape.terms : 0,   /* vectors of x, not from L1 */
        [LAST] = 1,
    };
    fc_count_add(term, counted);
}

static void dots(const fc_conv *conv, const fc_weight_dots_shape *shape, double term[FC_TERMS])
{
    const double batch = (double)conv->batch;
    const double counted[FC_TERMS] = {
        batch * shape->tiles,
        batch * shape->across,
        batch * shape->lines,
        batch * shape->calls,
        batch * shape->sums,
        batch * shape->copied,
        batch * shape->edges,
        batch * shape->singly,
        batch * shape->cleared + shape->scratch,
        batch * shape->strips,
        (double)(conv->kernel[1] + conv->kernel[2]),      /* columns and rows planned */
        batch * shape->far,
        batch * shape->apart,                             /* vectors copied, of cells apart */
        [LAST] = 1,
    };
    fc_count_add(term, counted);
}

void fc_count_grad_weight(const fc_conv *conv, double lanes, double terms[FC_WAYS][FC_TERMS])
{
    const fc_conv merged = fc_conv_merge_axes(conv, 1);
    const fc_job job = fc_job_forward(&merged, NULL, NULL, NULL, NULL, 1);
    const fc_channelwise_shape turned = fc_conv_channelwise_shape(&job, 1, 1);
    const fc_weight_dots_shape along = fc_weight_dots_count(&merged, (int64_t)lanes * job.size);
    channels(&merged, lanes, terms[FC_CHANNELS]);
    if (along.fits)
        dots(&merged, &along, terms[FC_DOTS]);
    if (turned.fits)
        fc_count_channelwise(&job, &turned, lanes, terms[FC_CHANNELWISE_GRAD_WEIGHT]);
    if (fc_patches_fit(conv))
        fc_count_patches(conv, 0, terms[FC_PATCHES_GRAD_WEIGHT]);
}
