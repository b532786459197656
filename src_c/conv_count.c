/* One function for each way: what it does, and how often. */
#include "conv_count.h"

#include <math.h>
#include <string.h>

#include "conv_channelwise.h"
#include "conv_weight_grad.h"
#include "conv_winograd.h"
#include "conv_winograd_plan.h"

enum { LAST = FC_TERMS - 1 };

static double volume(const int64_t lengths[3]) { return (double)fc_volume(lengths); }

double fc_conv_multiply_adds(const fc_conv *conv)
{
    return volume(conv->out) * volume(conv->kernel) * (double)conv->out_channels
           * (double)conv->in_channels / (double)conv->groups;
}

int64_t fc_vector_bytes(const fc_conv *conv)
{
    return fc_active[conv->dtype]->lanes * (conv->dtype == FC_F32 ? 4 : 8);
}

int fc_conv_ways_differ(const fc_conv *conv, int pass)
{
    return pass == FC_GRAD_WEIGHT
        || conv->groups != (pass == FC_FORWARD ? conv->in_channels : conv->out_channels);
}

static void add(double term[FC_TERMS], const double counted[FC_TERMS])
{
    for (int i = 0; i < FC_TERMS; i++)
        term[i] += counted[i];
}

static double taps_of(const fc_job *job)
{
    return (double)(job->axis[0].taps * job->axis[1].taps * job->axis[2].taps);
}

/* --- forward pass and input gradient, direct ---------------------------------------------------
 *
 * On the register tile each vector of outputs loads one operand for each tap and channel, for which
 * there is a multiply-add in each row; rows that do not fill a tile of eight wait for the ends of
 * chains. */

static double ragged(double rows) { return ceil(rows / 8) * 8 - rows; }

/* Cells or outputs that are copied one by one, since they stand more than `most` apart; a vector
 * at a time otherwise. */
static double singly(double count, int64_t step, int64_t most) { return step > most ? count : 0; }

static void panels(const fc_job *job, double lanes, double term[FC_TERMS])
{
    const fc_axis *axis = job->axis;
    const fc_panels_shape shape = fc_conv_panels_shape(job);
    const double width = (double)shape.lanes, along = (double)axis[2].outputs;
    const double outputs = along * (double)axis[1].outputs * (double)axis[0].outputs;
    const double pixels = (double)job->batch * outputs, groups = (double)job->groups;
    const double taps = taps_of(job), channels = (double)job->channels, rows = (double)job->rows;
    const double count = groups * ceil(pixels / width), vectors = groups * ceil(pixels / lanes);
    const double lanes_used = fmin(width, pixels), runs = fmin(lanes_used / along + 1, lanes_used);
    const double entries = taps * ((double)job->weight_channel == taps ? 1 : ceil(channels * taps / (double)shape.near));
    /* Nothing is gathered of a panel that lies in the source, as those do that no line ends in. */
    const double gathered = shape.in_place ? fmin(1, width / along) : 1, cells = gathered * taps * channels;
    const double counted[FC_TERMS] = {
        vectors * taps * channels * rows,                 /* multiply-adds */
        vectors * taps * channels * ragged(rows),
        axis[2].step > 2 ? 0 : vectors * cells,           /* vectors gathered */
        singly(groups * pixels * cells, axis[2].step, 2),
        count * cells * runs,                             /* runs of cells gathered */
        count * gathered * entries * runs,
        count * gathered * entries,
        vectors * rows,                                   /* vectors of outputs */
        fc_job_dense(job) ? 0 : count * rows * runs,      /* runs of outputs */
        singly(groups * pixels * rows, axis[2].place_step, 2),
        count * rows * channels * taps,                   /* weights read */
        count,
        groups,
        1,
    };
    add(term, counted);
}

/* Lines of a box are computed so many together, the last ones of them by themselves. */
static double lanes_of_box(const fc_planes_shape *shape, double lanes)
{
    const int64_t left = shape->lines % shape->chunk;
    const double whole = ceil((double)((shape->chunk - 1) * shape->pitch + shape->width) / lanes);
    const double last = left ? ceil((double)((left - 1) * shape->pitch + shape->width) / lanes) : 0;
    return (double)shape->planes * ((double)(shape->lines / shape->chunk) * whole + last);
}

static void planes(const fc_job *job, const fc_planes_shape *shape, double lanes, double term[FC_TERMS])
{
    const fc_axis *x = &job->axis[2];
    const double items = (double)(job->batch * job->groups * shape->boxes), taps = taps_of(job);
    const double channels = (double)job->channels, rows = (double)job->rows;
    const double vectors = items * lanes_of_box(shape, lanes), cells = items * channels * (double)shape->cells;
    const double products = items * (double)(shape->planes * fc_parts(shape->lines, shape->chunk));
    const double lines = items * rows * (double)(shape->planes * shape->lines);
    const double counted[FC_TERMS] = {
        vectors * taps * channels * rows,                 /* multiply-adds */
        vectors * taps * channels * ragged(rows),
        vectors * taps * channels,                        /* vectors loaded */
        x->step > 2 ? 0 : cells / lanes,                  /* vectors of cells copied */
        singly(cells, x->step, 2),
        items * channels * (double)shape->rows,           /* rows and calls of the copy */
        items * channels * (double)shape->copies,
        rows * vectors,                                   /* vectors of outputs */
        shape->joined ? 0 : lines,                        /* lines of outputs copied */
        singly(lines * (double)shape->width, x->place_step, 2),
        products * rows * channels * taps,                /* weights read */
        products,
        products * rows,
        1,
    };
    add(term, counted);
}

/* Four lines of outputs share what they load; those left over load for themselves. */
static void depthwise(const fc_job *job, const fc_planes_shape *shape, double lanes, double term[FC_TERMS])
{
    const fc_axis *y = &job->axis[1], *x = &job->axis[2];
    const double items = (double)(job->batch * job->groups * shape->boxes), rows = (double)job->rows;
    const double planes = items * rows * (double)shape->planes, lines = planes * (double)shape->lines;
    const double fours = planes * floor((double)shape->lines / 4), left = lines - 4 * fours;
    const double vectors = ceil((double)shape->width / lanes);
    const double cells = items * (double)shape->cells;
    const double counted[FC_TERMS] = {
        lines * vectors * taps_of(job),                   /* multiply-adds */
        (fours * (double)(y->taps + 3) + left * (double)y->taps) * vectors * (double)x->taps,   /* loads */
        (fours + left) * ceil(vectors / (lanes * (double)job->size == 64 ? 4 : 2)),   /* tiles */
        lines * vectors,                                  /* vectors of outputs */
        x->step > 2 ? 0 : cells / lanes,                  /* vectors of cells copied */
        singly(cells, x->step, 2),
        items * (double)shape->rows,                      /* rows and calls of the copy */
        items * (double)shape->copies,
        left * vectors * taps_of(job),                    /* multiply-adds in one line */
        items * rows,
        items,
        0, 0,
        1,
    };
    add(term, counted);
}

static void toeplitz(const fc_job *job, const fc_toeplitz_shape *shape, double lanes, double term[FC_TERMS])
{
    const fc_axis *x = &job->axis[2];
    const double width = (double)job->kernels->width, rows = (double)job->rows;
    const double lines = (double)(job->batch * job->groups * job->axis[0].outputs * job->axis[1].outputs);
    const double strips = (double)shape->strips, long_strip = (double)shape->strip, k = (double)x->taps + width - 1;
    const double last = (double)x->outputs - (strips - 1) * long_strip;
    const double whole = (strips - 1) * long_strip / width + floor(last / width);
    const double narrow = ceil((last - floor(last / width) * width) / lanes);
    const double counted[FC_TERMS] = {
        lines * rows * whole * width / lanes * k,         /* multiply-adds */
        lines * rows * ragged(floor(last / width)) * width / lanes * k,
        lines * rows * narrow * k,                        /* in the last row, of one tile row */
        lines * rows * strips * (k + 2 * width),          /* weights laid out */
        lines * strips * (long_strip + k) / lanes,        /* cells copied */
        lines * strips * rows,
        lines * strips,
        0, 0, 0, 0, 0, 0,
        1,
    };
    add(term, counted);
}

/* Cells and outputs of planes that lie a multiple of 4 KiB apart share one set of the first level
 * of cache, all channels of a block. */
static void channelwise(const fc_job *job, const fc_channelwise_shape *shape, double lanes, double term[FC_TERMS])
{
    const double blocks = ceil((double)job->groups / lanes), items = (double)job->batch * blocks;
    const double weights = blocks * (double)(job->rows * job->weight_row);
    const int cells_apart = job->source_channel * job->size % 4096 != 0;
    const int outputs_apart = job->rows * job->out_row * job->size % 4096 != 0;
    const double counted[FC_TERMS] = {
        items * shape->products,                          /* multiply-adds */
        items * shape->loads,
        items * shape->runs,                              /* runs of taps begun */
        items * shape->stretches,
        items * shape->cells,                             /* turned to lanes and back */
        items * shape->outputs,
        cells_apart ? 0 : items * shape->cells,
        outputs_apart ? 0 : items * shape->outputs,
        items * shape->lines,                             /* of cells */
        items * shape->calls,
        weights,
        items * shape->zeros,
        0,
        1,
    };
    add(term, counted);
}

/* Segments are summed by panels or planes (conv.c); `fits` stays 1 for ways that take all of them. */
static void count_segments(const fc_job *job, double lanes, int fits[FC_TRANSFORMS], double terms[FC_WAYS][FC_TERMS])
{
    fc_segments segments;
    fc_job part = *job;
    fc_job_segments(job, &segments);
    for (int64_t i = 0; i < fc_volume(segments.count); i++) {
        fc_job_take_segment(&part, &segments, i);
        if (fc_job_empty(&part))
            continue;
        panels(&part, lanes, terms[FC_PANELS]);
        for (int way = FC_PLANES; way <= FC_APART; way++) {
            const fc_planes_shape shape = fc_conv_planes_shape(&part, way);
            fits[way] &= shape.fits;
            if (fits[way])
                planes(&part, &shape, lanes, terms[way]);
        }
    }
}

/* The other ways that take the job of one phase. */
static void count_whole(const fc_job *job, double lanes, int fits[FC_TRANSFORMS], double terms[FC_WAYS][FC_TERMS])
{
    const fc_planes_shape shape = fc_conv_planes_shape(job, FC_DEPTHWISE);
    fits[FC_DEPTHWISE] &= shape.fits;
    if (fits[FC_DEPTHWISE])
        depthwise(job, &shape, lanes, terms[FC_DEPTHWISE]);
    const fc_toeplitz_shape strips = fc_conv_toeplitz_shape(job);
    fits[FC_TOEPLITZ] &= strips.fits;
    if (fits[FC_TOEPLITZ])
        toeplitz(job, &strips, lanes, terms[FC_TOEPLITZ]);
}

/* Where ways must not differ in bits, but panels cut a sum in two, panels are for what nothing else
 * takes. */
static int one_chain(const fc_conv *conv, int pass)
{
    return fc_conv_ways_differ(conv, pass)
        || fc_panels_one_chain(fc_volume(conv->kernel), conv->dtype == FC_F32 ? 4 : 8);
}

static void count_direct(const fc_conv *conv, int pass, double lanes, double terms[FC_WAYS][FC_TERMS])
{
    const fc_conv merged = fc_conv_merge_axes(conv);
    const fc_job all = pass == FC_FORWARD ? fc_job_forward(&merged, NULL, NULL, NULL, NULL, 1)
                                          : fc_job_grad_input(&merged, NULL, NULL, NULL, NULL, 1);
    const int64_t phases = pass == FC_FORWARD ? 1 : fc_job_phases(&merged);
    fc_job job[FC_MOST_PHASES];
    int fits[FC_TRANSFORMS], others = 0;
    for (int way = FC_PANELS; way < FC_TRANSFORMS; way++)
        fits[way] = 1;
    for (int64_t phase = 0; phase < phases; phase++) {
        fc_job *now = &job[phase % FC_MOST_PHASES];
        *now = pass == FC_FORWARD ? all : fc_job_phase(&all, &merged, phase);
        if (fc_job_empty(now))
            continue;
        count_segments(now, lanes, fits, terms);
        if (all.channels == 1)
            count_whole(now, lanes, fits, terms);
    }
    const fc_channelwise_shape shape = fc_conv_channelwise_shape(job, phases, 0);
    fits[FC_CHANNELWISE] = shape.fits;
    if (shape.fits)
        channelwise(job, &shape, lanes, terms[FC_CHANNELWISE]);
    for (int way = FC_PLANES; way < FC_TRANSFORMS; way++) {
        if (!fits[way])
            memset(terms[way], 0, sizeof terms[way]);
        others += terms[way][LAST] > 0;
    }
    if (others && !one_chain(conv, pass))
        memset(terms[FC_PANELS], 0, sizeof terms[FC_PANELS]);
}

/* --- gradient of the weights, direct ---------------------------------------------------------- */

static void channels(const fc_conv *conv, double lanes, double term[FC_TERMS])
{
    const double size = conv->dtype == FC_F32 ? 4 : 8;
    const fc_weight_channels_shape shape = fc_weight_channels_count(conv, (int64_t)(lanes * size));
    const double groups = (double)conv->groups, taps = volume(conv->kernel);
    const double filters = (double)conv->out_channels, of_group = (double)conv->in_channels / groups;
    const double counted[FC_TERMS] = {
        shape.products,
        shape.turned,
        shape.turned / of_group * ceil(of_group / lanes),
        shape.updates,
        shape.calls,
        shape.lines,
        of_group * filters * taps,                        /* weights */
        filters * taps * ceil(of_group / lanes),
        shape.tile_lines,
        (double)conv->batch * groups,
        groups,
        0, 0,
        1,
    };
    add(term, counted);
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
        0, 0,
        1,
    };
    add(term, counted);
}

static void count_grad_weight(const fc_conv *conv, double lanes, double terms[FC_WAYS][FC_TERMS])
{
    const fc_conv merged = fc_conv_merge_axes(conv);
    const fc_job job = fc_job_forward(&merged, NULL, NULL, NULL, NULL, 1);
    const fc_channelwise_shape turned = fc_conv_channelwise_shape(&job, 1, 1);
    const fc_weight_dots_shape along = fc_weight_dots_count(&merged, (int64_t)lanes * job.size);
    channels(&merged, lanes, terms[FC_CHANNELS]);
    if (along.fits)
        dots(&merged, &along, terms[FC_DOTS]);
    if (turned.fits)
        channelwise(&job, &turned, lanes, terms[FC_CHANNELWISE_GRAD_WEIGHT]);
}

/* --- Winograd's algorithm, all passes ---------------------------------------------------------- */

typedef struct {
    const fc_axis *axis;                          /* the sum's */
    double batch, groups, channels, filters;      /* of a group */
    double taps;                                  /* of the kernel, of which a phase turns all */
    double lanes, size;
    int prepared;
} transformed;

static void transforms(const transformed *t, double term[FC_TERMS])
{
    const fc_axis *axis = t->axis;
    fc_line y, x;
    fc_line_of(&axis[1], &y);
    fc_line_of(&axis[2], &x);
    const double points = (double)(y.points * x.points), tiles = (double)(y.tiles * x.tiles);
    const double products = (double)(fc_line_products(&y) * fc_line_products(&x));
    const double phases = (double)(y.phases * x.phases);
    const double sources = ceil(t->channels / t->lanes), results = ceil(t->filters / t->lanes);
    const double deep = (double)axis[0].cells, depth = (double)axis[0].outputs;
    const double items = t->batch * t->groups;
    const double cells = (double)(axis[1].cells * axis[2].cells);
    const double outputs = (double)(axis[1].outputs * axis[2].outputs);
    const double strips = items * (double)y.tiles * ceil((double)x.outputs / 64);
    const double weights = t->groups * t->channels * results * (double)axis[0].taps * phases;
    /* Each chunk reads all weights; its bands meet blocks of 256 bytes of filters. */
    const double u_bytes = weights * points * t->lanes * t->size, all = t->batch * tiles * depth;
    const double v_tile = points * phases * deep / depth * sources * t->lanes * t->size;
    const double block = fmin(t->filters, 256 / t->size), m_tile = points * block * t->size;
    const fc_winograd_tiles of = fc_winograd_chunk_tiles((int64_t)v_tile, (int64_t)u_bytes);
    const double chunks = all <= (double)of.most ? 1 : fmax(1, all / (double)of.fit);
    const double bands = fmax(chunks, all / (double)fc_winograd_band_tiles((int64_t)m_tile, (int64_t)u_bytes));
    const double live = products / phases;   /* points of a phase, on average */
    const int far = fc_winograd_leaves_cache((int64_t)u_bytes) && (t->prepared || chunks > 1);
    const double blocks = ceil(t->channels * phases / FC_WINOGRAD_TERMS) * ceil(t->filters / block);
    const double counted[FC_TERMS] = {
        items * products * tiles * (double)fc_axis_meetings(&axis[0]) * t->channels * results,   /* multiply-adds */
        t->groups * points * blocks * bands,              /* products called for */
        items * products * tiles * deep * sources,        /* points of tiles transformed */
        items * points * tiles * depth * results,
        items * cells * deep * sources,                   /* vectors turned to lanes and back */
        items * outputs * depth * results,
        strips * deep * sources,                          /* rows of tiles */
        strips * depth * results,
        t->prepared ? 0 : weights * live,                 /* weights transformed */
        t->prepared ? 0 : t->groups * t->channels * results * t->taps,
        weights * live * chunks,                          /* weights read */
        far ? weights * live * chunks : 0,                /* and not from a cache */
        0,
        1,
    };
    add(term, counted);
}

static void count_winograd(const fc_conv *given, int pass, int prepared, double lanes, double terms[FC_WAYS][FC_TERMS])
{
    if (!(pass == FC_GRAD_INPUT ? fc_winograd_grad_input_fits(given) : fc_winograd_fits(given)))
        return;
    int64_t first[3], every[3], phases[3] = {1, 1, 1};
    const fc_conv conv = fc_conv_thin(given, first, every);
    for (int a = 0; a < 3 && pass == FC_GRAD_INPUT; a++)
        phases[a] = fc_least(conv.stride[a], conv.in[a]);
    const double in = (double)(conv.in_channels / conv.groups), out = (double)(conv.out_channels / conv.groups);
    for (int64_t i = 0; i < fc_volume(phases); i++) {
        const int64_t at[3] = {i / phases[2] / phases[1], i / phases[2] % phases[1], i % phases[2]};
        fc_axis axis[3];
        for (int a = 0; a < 3; a++)
            axis[a] = pass == FC_GRAD_INPUT ? fc_axis_grad_input(&conv, a, at[a]) : fc_axis_forward(&conv, a);
        transforms(&(transformed){
            .axis = axis, .batch = (double)conv.batch, .groups = (double)conv.groups,
            .channels = pass == FC_GRAD_INPUT ? out : in, .filters = pass == FC_GRAD_INPUT ? in : out,
            .taps = volume(conv.kernel), .lanes = lanes, .size = conv.dtype == FC_F32 ? 4 : 8,
            .prepared = prepared,
        }, terms[pass == FC_GRAD_WEIGHT ? FC_TRANSFORMS_GRAD_WEIGHT : FC_TRANSFORMS]);
    }
}

void fc_conv_count(const fc_conv *conv, int pass, int prepared, int64_t bytes,
                   double terms[FC_WAYS][FC_TERMS])
{
    const double lanes = (double)bytes / (conv->dtype == FC_F32 ? 4 : 8);
    memset(terms, 0, FC_WAYS * sizeof *terms);
    if (conv->algorithm != FC_DIRECT)
        count_winograd(conv, pass, prepared, lanes, terms);
    if (conv->algorithm == FC_WINOGRAD && (terms[FC_TRANSFORMS][LAST] || terms[FC_TRANSFORMS_GRAD_WEIGHT][LAST]))
        return;
    if (pass == FC_GRAD_WEIGHT)
        count_grad_weight(conv, lanes, terms);
    else
        count_direct(conv, pass, lanes, terms);
}
