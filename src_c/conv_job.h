/* One correlation, as the ways of the direct algorithm take it:
 *
 *     out[n, g, row, j] = bias[g, row] + sum over channels c and taps r
 *                         of weight(g, row, c, r) * source[n, g, c, cell(j, r)]
 *
 * The forward pass is one such job; the input gradient is one for each phase of the stride.
 *
 *     conv_panels.c    pixels gathered into panels that all rows share: many rows and channels
 *     conv_planes.c    a zero-padded copy split into phases, read in place: few of either
 *     conv_toeplitz.c  one channel, a long kernel along a line: a matrix product in disguise
 *     conv_channelwise.c  one channel a group, lanes over groups: many groups
 */
#ifndef FC_CONV_JOB_H
#define FC_CONV_JOB_H

#include "conv_plan.h"
#include "kernels.h"

/* Whatever computes a pass. Forward and input gradient: the direct algorithm's ways (FC_PLANES:
 * also with a plane for each tap of the last axis, and with the loop of depthwise.inc; FC_PATCHES
 * takes the way of a kernel of 1, conv_patches.h; FC_COLUMNS: the input gradient alone,
 * conv_columns.h), then Winograd's. Gradient of the weights: lanes over channels, over outputs, over
 * groups (conv_weight_grad.h, conv_channelwise_weight_grad.c), of patches, then Winograd's. */
enum {
    FC_PANELS, FC_PLANES, FC_APART, FC_DEPTHWISE, FC_TOEPLITZ, FC_CHANNELWISE, FC_PATCHES,
    FC_COLUMNS, FC_TRANSFORMS,
    FC_CHANNELS, FC_DOTS, FC_CHANNELWISE_GRAD_WEIGHT, FC_PATCHES_GRAD_WEIGHT,
    FC_TRANSFORMS_GRAD_WEIGHT, FC_WAYS
};

typedef struct {
    const fc_kernels *kernels;
    int64_t size;                       /* bytes of an element */
    int threads;
    int64_t batch, groups, rows, channels;   /* rows and channels of one group */
    fc_axis axis[3];

    const char *source;                 /* (batch, groups, channels, cells) */
    int64_t source_axis[3];             /* strides of the three axes, in elements */
    int64_t source_channel;

    const char *weight;
    int64_t weight_group, weight_row, weight_channel, weight_axis[3];
    int64_t weight_block;               /* from row 8 i to row 8 (i + 1) */
    int64_t kernel;                     /* taps of the whole kernel */

    const char *bias;                   /* (groups, rows) or NULL */

    char *out;                          /* (batch, groups, rows, places) */
    int64_t out_axis[3];
    int64_t out_row;
} fc_job;

/* The outputs of an image lie in `out` in order, one beside the other. */
static inline int fc_job_dense(const fc_job *job)
{
    const fc_axis *axis = job->axis;
    return axis[2].place_step == 1 && axis[1].place_step == 1 && axis[0].place_step == 1
        && (axis[1].outputs == 1 || job->out_axis[1] == axis[2].outputs)
        && (axis[0].outputs == 1 || job->out_axis[0] == axis[1].outputs * axis[2].outputs);
}

/* Are source and outputs of all images, one channel a group, more than a cache holds, so that what
 * a depthwise sum reads and writes next is asked for? 64 x 224 x 224, 3 x 3, float: 3.9 -> 2.4 ms.
 * Where a cache has them that is in vain, and 192 x 28 x 28 took 4 % longer. */
static inline int fc_job_far(const fc_job *job)
{
    enum { FAR_BYTES = 4 << 20 };
    return job->batch * job->groups * (job->source_channel + job->rows * job->out_row) * job->size
        > FAR_BYTES;
}

/* Where output (0, 0, 0) stands in its image. */
static inline int64_t fc_job_place(const fc_job *job)
{
    return job->axis[0].place * job->out_axis[0] + job->axis[1].place * job->out_axis[1]
           + job->axis[2].place * job->out_axis[2];
}

/* Is there nothing to sum? */
static inline int fc_job_empty(const fc_job *job)
{
    return !job->channels || !job->axis[0].taps || !job->axis[1].taps || !job->axis[2].taps;
}

/* Weight offset of row i, and of tap (r[0], r[1], r[2]). */
static inline int64_t fc_job_row(const fc_job *job, int64_t i)
{
    return i / 8 * job->weight_block + i % 8 * job->weight_row;
}

static inline int64_t fc_job_weight(const fc_job *job, const int64_t r[3])
{
    int64_t at = 0;
    for (int a = 0; a < 3; a++)
        at += (job->axis[a].weight + r[a] * job->axis[a].weight_step) * job->weight_axis[a];
    return at;
}

/* Do the weights of a row lie at equal distances, weight_axis[2], over channels and taps? */
static inline int fc_job_in_order(const fc_job *job)
{
    const int64_t taps = job->axis[0].taps * job->axis[1].taps * job->axis[2].taps;
    return job->weight_channel == taps * job->weight_axis[2];
}

/* Count up through `taps` of the axes, last axis fastest. */
static inline void fc_job_next_tap(const fc_job *job, int64_t r[3])
{
    for (int a = 2; a >= 0; a--) {
        if (++r[a] < job->axis[a].taps)
            return;
        r[a] = 0;
    }
}

/* The jobs of a pass; `conv` has its axes merged. That of the input gradient has as many phases
 * as fc_job_phases says, and gets its axes from fc_job_phase. */
fc_job fc_job_forward(const fc_conv *conv, const void *x, const void *w, const void *bias, void *y,
                      int threads);
fc_job fc_job_grad_input(const fc_conv *conv, const void *dy, const void *w, const void *bias,
                         void *dx, int threads);
int64_t fc_job_phases(const fc_conv *conv);
enum { FC_MOST_PHASES = 16 };   /* that one call computes together */
fc_job fc_job_phase(const fc_job *all, const fc_conv *conv, int64_t phase);

/* Are there phases of the stride that no tap reads? Then all of dx is filled beforehand. */
int fc_job_leaves_cells(const fc_conv *conv);

/* A job cut into jobs that meet less padding; one of them where that is little (conv_segments.c).
 * Along each axis their outputs are all of the job's. Says the geometry of one item. */
enum { FC_SEGMENTS = 17 };
typedef struct { int64_t count[3]; fc_axis axis[3][FC_SEGMENTS]; } fc_segments;

void fc_job_segments(const fc_job *job, fc_segments *segments);

/* Make the job number i of count[0] * count[1] * count[2]. */
void fc_job_take_segment(fc_job *job, const fc_segments *segments, int64_t i);

/* A forward pass as shapes, dtype and instruction set decide it, before any array is known. Made
 * for one call, or once for many: nothing changes it. */
typedef struct {
    fc_conv conv;
    int in_patches;                     /* is x turned to patches first? */
    fc_conv summed;                     /* then that of the patches, else the same */
    int way, reads_packed;              /* of `summed`; does a direct way read packed weights? */
    double multiply_adds;               /* of one image */
    fc_job job;                         /* without pointers and threads; the first of */
    fc_segments segments;               /* the segments, where its way takes them */
} fc_plan;

/* x, w -> y as conv.h says. packed: NULL, or where `packed` was set from fc_conv_pack. */
void fc_conv_plan(fc_plan *plan, const fc_conv *conv, int packed);
int fc_conv_run(const fc_plan *plan, const void *x, const void *w, const void *packed,
                const void *bias, void *y, int threads);

int fc_conv_panels(const fc_job *job);

/* How they would go about a job: pixels of a panel, but for what rounds them to vectors; taps x
 * channels that are gathered together; products of a panel, and their entries; may it be read
 * where it lies in the source? */
typedef struct { int64_t lanes, near, products, entries; int in_place; } fc_panels_shape;

fc_panels_shape fc_conv_panels_shape(const fc_job *job);

/* With one channel and so many taps, is every sum one chain, as it is elsewhere? */
int fc_panels_one_chain(int64_t taps, int64_t size);

/* way: FC_PLANES, FC_APART or FC_DEPTHWISE; by FC_PLANES up to FC_MOST_PHASES jobs, phases of a
 * stride, each with taps and outputs. */
int fc_conv_planes(const fc_job *jobs, int64_t count, int way);

/* How it would go about a job: boxes of an image; for one box the planes of outputs, the lines of
 * each, so many of them computed together, and their width in the array and in scratch; for one box
 * and channel its cells; of all boxes the cells that the source has, the rows they come in, and the
 * calls that copy them; entries of a product. `joined` lines are written where they belong. */
typedef struct {
    int fits, joined;
    int64_t boxes, planes, lines, chunk, width, pitch, cells, copies, inside, rows, entries;
} fc_planes_shape;

fc_planes_shape fc_conv_planes_shape(const fc_job *job, int way);

int fc_conv_toeplitz(const fc_job *job);

/* A line's outputs come in strips of so many, the last one what is left. */
typedef struct { int fits; int64_t strips, strip; } fc_toeplitz_shape;

fc_toeplitz_shape fc_conv_toeplitz_shape(const fc_job *job);

#endif
