/* The ways of depthwise kernels that have loops of their own: what they do and how often. */
#include <math.h>

#include "conv_count_parts.h"

/* Four lines of outputs share what they load; those left over load for themselves. */
void fc_count_depthwise(const fc_job *job, const fc_planes_shape *shape, double lanes,
                      double term[FC_TERMS])
{
    const fc_axis *y = &job->axis[1], *x = &job->axis[2];
    const double items = (double)(job->batch * job->groups * shape->boxes);
    const double rows = (double)job->rows;
    const double planes = items * rows * (double)shape->planes;
    const double lines = planes * (double)shape->lines;
    const double fours = planes * floor((double)shape->lines / 4), left = lines - 4 * fours;
    const double vectors = ceil((double)shape->width / lanes);
    const fc_copied cells = fc_count_copied(job, shape, lanes);
    const double counted[FC_TERMS] = {
        lines * vectors * fc_count_taps(job),             /* multiply-adds */
        (fours * (double)(y->taps + 3) + left * (double)y->taps) * vectors
            * (double)x->taps,                            /* loads */
        (fours + left) * ceil(vectors / (lanes * (double)job->size == 64 ? 4 : 2)),   /* tiles */
        lines * vectors,                                  /* vectors of outputs */
        cells.vectors,                                    /* copied */
        cells.lines,
        cells.columns,                                    /* that hold zeros */
        left * vectors * fc_count_taps(job),              /* multiply-adds in one line */
        items * rows,
        items,
        cells.zeros,
        [LAST] = 1,
    };
    fc_count_add(term, counted);
}

static double ragged(double rows) { return ceil(rows / 8) * 8 - rows; }

void fc_count_toeplitz(const fc_job *job, const fc_toeplitz_shape *shape, double lanes,
                        double term[FC_TERMS])
{
    const fc_axis *x = &job->axis[2];
    const double width = (double)job->kernels->width, rows = (double)job->rows;
    const double lines = (double)(job->batch * job->groups * job->axis[0].outputs
                                  * job->axis[1].outputs);
    const double strips = (double)shape->strips, long_strip = (double)shape->strip;
    const double k = (double)x->taps + width - 1;
    const double last = (double)x->outputs - (strips - 1) * long_strip;
    const double whole = (strips - 1) * long_strip / width + floor(last / width);
    const double narrow = ceil((last - floor(last / width) * width) / lanes);
    const double counted[FC_TERMS] = {
        lines * rows * whole * width / lanes * k,         /* multiply-adds */
        lines * rows * ragged(floor(last / width)) * width / lanes * k,
        lines * rows * narrow * k,                        /* in the last row, of one tile row */
        lines * rows * strips * (k + 2 * width),          /* weights laid out */
        lines * strips * (long_strip + k) / lanes,        /* cells copied */
        [LAST] = 1,
    };
    fc_count_add(term, counted);
}

/* Do planes so many bytes apart share a set or two of the first level of cache, all channels of a
 * block of so many lanes? There are 8 lines in a set. */
static int meet(int64_t bytes, double lanes)
{
    const int64_t apart = fc_least(bytes % 4096, 4096 - bytes % 4096);
    return lanes > 8 && (double)apart * lanes <= 64;
}

void fc_count_channelwise(const fc_job *job, const fc_channelwise_shape *shape, double lanes,
                          double term[FC_TERMS])
{
    const double blocks = ceil((double)job->groups / lanes), items = (double)job->batch * blocks;
    const double weights = blocks * (double)(job->rows * job->weight_row);
    const int cells_meet = meet(job->source_channel * job->size, lanes);
    const int outputs_meet = meet(job->rows * job->out_row * job->size, lanes);
    const double counted[FC_TERMS] = {
        items * shape->products,                          /* multiply-adds */
        items * shape->loads,
        items * shape->runs,                              /* runs of taps begun */
        items * shape->stretches,
        items * shape->cells,                             /* turned to lanes and back */
        items * shape->outputs,
        items * (cells_meet * shape->cells + outputs_meet * shape->outputs),   /* in such sets */
        items * shape->lines,                             /* of cells */
        items * shape->calls,
        weights,
        items * shape->zeros,
        shape->window * lanes * (double)job->size > L1_BYTES
            ? items * shape->looked_at : 0,               /* not in L1 */
        [LAST] = 1,
    };
    fc_count_add(term, counted);
}
