/* The direct algorithm, forward pass and input gradient: each way's count summed over the phases of
 * the stride and the segments of each (conv.c). */
#include <math.h>
#include <string.h>

#include "conv_columns.h"
#include "conv_count_parts.h"
#include "conv_patches.h"

void fc_count_patches(const fc_conv *conv, int back, double term[FC_TERMS])
{
    const double width = (double)conv->out[2], step = (double)conv->stride[2];
    const double lines = (double)(conv->batch * conv->in_channels * conv->in[0] * conv->in[1]);
    const double fours = lines * fc_count_by_fours(width, step);
    const double singly = lines * width * step - fours;
    const double counted[FC_TERMS] = {
        [FC_KERNEL_OF_1 + 1] =
        back ? 0 : fours,                                 /* cells turned by fours */
        back ? 0 : singly,
        back ? 0 : lines,
        back ? fours : 0,
        back ? singly : 0,
        back ? lines : 0,
        [LAST] = 1,
    };
    fc_count_add(term, counted);
}

void fc_count_columns(const fc_conv *conv, double lanes, double term[FC_TERMS])
{
    const fc_columns_shape shape = fc_conv_columns_shape(conv);
    const double boxes = (double)(conv->batch * shape.boxes), planes = (double)shape.box.out[0];
    const double lines = planes * (double)shape.box.out[1];
    const double rows = boxes * (double)conv->in_channels * fc_count_volume(conv->kernel);
    const double put = (double)(conv->batch * conv->in_channels * conv->in[0] * conv->in[1]);
    const double counted[FC_TERMS] = {
        [FC_KERNEL_OF_1 + 1] =
        rows * lines * ceil((double)shape.box.out[2] / lanes),   /* vectors added */
        rows * lines,
        rows * planes,
        put * (double)fc_least(conv->stride[2], conv->in[2]),   /* lines of a phase put together */
        put * (double)conv->in[2] / lanes,
        [LAST] = 1,
    };
    fc_count_add(term, counted);
}

/* Lines of outputs, or panels' parts of these. */
static double lines_of(const fc_job *job)
{
    const fc_axis *axis = job->axis;
    return (double)(job->batch * job->groups * job->rows * axis[0].outputs * axis[1].outputs)
           * ceil((double)axis[2].outputs / 48);
}

static void count_channelwise(const fc_job *jobs, int64_t phases, double lanes,
                              int fits[FC_TRANSFORMS], double terms[FC_WAYS][FC_TERMS])
{
    const fc_channelwise_shape shape = fc_conv_channelwise_shape(jobs, phases, 0);
    fits[FC_CHANNELWISE] &= shape.fits;
    if (shape.fits)
        fc_count_channelwise(jobs, &shape, lanes, terms[FC_CHANNELWISE]);
}

/* Segments are summed one by one (conv.c), channel by channel where there is but one of the
 * `phases`; `fits` stays 1 for ways that take all of them. */
static void count_segments(const fc_job *job, int64_t phases, double lanes, int fits[FC_TRANSFORMS],
                           double terms[FC_WAYS][FC_TERMS])
{
    fc_segments segments;
    fc_job part = *job;
    fc_job_segments(job, &segments);
    const double together = fc_volume(segments.count) == 1
                                ? (double)fc_least(phases, FC_MOST_PHASES) : 1;
    for (int64_t i = 0; i < fc_volume(segments.count); i++) {
        fc_job_take_segment(&part, &segments, i);
        if (fc_job_empty(&part)) {   /* panels write what is left of it */
            for (int way = FC_PANELS; way < FC_TRANSFORMS; way++)
                if (way <= FC_APART || (way == FC_CHANNELWISE && phases == 1)) {
                    terms[way][IDLE] += lines_of(&part);
                    terms[way][LAST] += 1;
                }
            continue;
        }
        fc_count_panels(&part, lanes, terms[FC_PANELS]);
        if (phases == 1)
            count_channelwise(&part, 1, lanes, fits, terms);
        for (int way = FC_PLANES; way <= FC_APART; way++) {
            const fc_planes_shape shape = fc_conv_planes_shape(&part, way);
            fits[way] &= shape.fits;
            if (fits[way])
                fc_count_planes(&part, &shape, lanes, way == FC_PLANES ? together : 1, terms[way]);
        }
    }
}

/* The other ways that take the job of one phase. */
static void count_whole(const fc_job *job, double lanes, int fits[FC_TRANSFORMS],
                        double terms[FC_WAYS][FC_TERMS])
{
    const fc_planes_shape shape = fc_conv_planes_shape(job, FC_DEPTHWISE);
    fits[FC_DEPTHWISE] &= shape.fits;
    if (fits[FC_DEPTHWISE])
        fc_count_depthwise(job, &shape, lanes, terms[FC_DEPTHWISE]);
    const fc_toeplitz_shape strips = fc_conv_toeplitz_shape(job);
    fits[FC_TOEPLITZ] &= strips.fits;
    if (fits[FC_TOEPLITZ])
        fc_count_toeplitz(job, &strips, lanes, terms[FC_TOEPLITZ]);
}

/* Where ways must not differ in bits, but panels cut a sum in two, panels are for what nothing else
 * takes. */
static int one_chain(const fc_conv *conv, int pass)
{
    return fc_conv_ways_differ(conv, pass)
        || fc_panels_one_chain(fc_volume(conv->kernel), conv->dtype == FC_F32 ? 4 : 8);
}

void fc_count_direct(const fc_conv *conv, int pass, double lanes, double terms[FC_WAYS][FC_TERMS])
{
    const fc_conv merged = fc_conv_merge_axes(conv, pass != FC_FORWARD);
    const fc_job all = pass == FC_FORWARD ? fc_job_forward(&merged, NULL, NULL, NULL, NULL, 1)
                                          : fc_job_grad_input(&merged, NULL, NULL, NULL, NULL, 1);
    const int64_t phases = pass == FC_FORWARD ? 1 : fc_job_phases(&merged);
    fc_job job[FC_MOST_PHASES];
    int fits[FC_TRANSFORMS], others = 0;
    for (int way = FC_PANELS; way < FC_TRANSFORMS; way++)
        fits[way] = 1;
    if (pass == FC_GRAD_INPUT && fc_job_leaves_cells(&merged))
        for (int way = FC_PANELS; way < FC_TRANSFORMS; way++)
            terms[way][FILLED] = (double)(conv->batch * conv->in_channels)
                                 * fc_count_volume(conv->in) / lanes;
    for (int64_t phase = 0; phase < phases; phase++) {
        fc_job *now = &job[phase % FC_MOST_PHASES];
        *now = pass == FC_FORWARD ? all : fc_job_phase(&all, &merged, phase);
        if (fc_job_empty(now))
            continue;
        count_segments(now, phases, lanes, fits, terms);
        if (all.channels == 1)
            count_whole(now, lanes, fits, terms);
    }
    if (phases > 1)
        count_channelwise(job, phases, lanes, fits, terms);
    if (fc_patches_fit(conv))
        fc_count_patches(conv, pass == FC_GRAD_INPUT, terms[FC_PATCHES]);
    if (pass == FC_GRAD_INPUT && fc_columns_fit(conv))
        fc_count_columns(conv, lanes, terms[FC_COLUMNS]);
    for (int way = FC_PLANES; way < FC_TRANSFORMS; way++) {
        if (!fits[way])
            memset(terms[way], 0, sizeof terms[way]);
        others += terms[way][LAST] > 0;
    }
    if (others && !one_chain(conv, pass))
        memset(terms[FC_PANELS], 0, sizeof terms[FC_PANELS]);
}
