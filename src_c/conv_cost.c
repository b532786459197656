/* What a convolution costs, in nanoseconds of one thread: a sum of counted operations, each times
 * a constant. Only which of two sums is smaller matters.
 *
 * The constants were fitted by `bench/sweep.py fit` to the times of random geometries on an AMD
 * Zen 4 at 3.7 GHz: some 400 of them for AVX-512, 150 for the others. The times are met to 15 to
 * 20 %. On these geometries the ways chosen take 1.6 % longer on average than the fastest would,
 * the worst twice as long.
 */
#include "conv_cost.h"

#include <math.h>
#include <string.h>

#include "conv_weight_grad.h"
#include "conv_winograd.h"
#include "conv_winograd_tiles.h"

/* The batch that all choices are made for. */
enum { BATCH = 3 };

/* Multiply-adds of an image below which a choice gains less than the half microsecond it takes. */
static const double SMALL_SUM = 80e3, SMALL_GRAD_WEIGHT = 20e3;

/* For vectors of 16, 32 and 64 bytes; see panels() and its neighbours for what is counted. */
static const double costs[3][FC_WAYS][FC_TERMS] = {{
    {0.218, 0.00747, 0.608, 0, 4.56, 28.6, 0.458, 0.819, 0, 4.29, 36.7, 1.43e+03},   /* panels */
    {0.267, 0, 0, 0.488, 0, 18.6, 0.403, 2.34, 0.00764, 36.4, 0.295, 1.4e+03},   /* planes */
    {0.27, 0.00157, 0, 0.505, 0, 18.8, 0.429, 356, 0.043, 28.5, 0, 1.51e+03},   /* apart */
    {0.226, 0.384, 0, 7.02, 0, 0, 1.4, 0, 0.183, 30.7, 0, 1.8e+03},   /* channels */
    {0.85, 0, 0.635, 0, 2.78, 0, 0, 0, 88.1, 4.03e+03, 0, 0},   /* dots */
    {0.194, 17.1, 1.71, 1.47, 0.489, 1.01, 28.2, 5.46, 0.994, 1.78, 0, 986},   /* winograd */
    {0.259, 22.7, 1.49, 0.886, 0.507, 0.75, 6.47, 32.3, 0, 3.64, 0.404, 1.35e+03},   /* winograd_grad_weight */
}, {
    {0.0991, 0.016, 0.751, 0.133, 2.97, 34.5, 0.447, 1.27, 0.128, 13.1, 114, 1.42e+03},   /* panels */
    {0.135, 0.0135, 0.0189, 1.01, 0.94, 20, 0.694, 3.27, 0.062, 21.4, 0.247, 1.32e+03},   /* planes */
    {0.143, 0.0155, 0.0291, 0.82, 0.735, 18.2, 0.723, 257, 0.0912, 26.2, 0, 1.5e+03},   /* apart */
    {0.252, 0.194, 0, 4.93, 23, 1.05, 0, 2.2, 0.0494, 54.2, 0, 1.5e+03},   /* channels */
    {0.289, 2.37, 1.23, 0, 2.79, 0.166, 1.08, 72.9, 0, 4.12e+03, 0, 0},   /* dots */
    {0.137, 17.4, 2.35, 1.45, 0.72, 1.03, 20.8, 6.35, 1.4, 1.3, 0.175, 1.15e+03},   /* winograd */
    {0.168, 19.2, 1.99, 1.09, 0.184, 0.777, 40.3, 34.2, 0, 2.87, 0.56, 1.4e+03},   /* winograd_grad_weight */
}, {
    {0.275, 0.0419, 1.1, 0.254, 3.57, 40.7, 0.836, 1.31, 0, 27.1, 0, 1.42e+03},   /* panels */
    {0.275, 0.0364, 0.043, 1.67, 0.771, 21, 0.678, 3.1, 0.0442, 22.3, 0.478, 1.37e+03},   /* planes */
    {0.275, 0.0449, 0, 1.29, 0.955, 20.3, 0.848, 15.5, 0.096, 27.2, 0, 1.47e+03},   /* apart */
    {0.226, 0.224, 0, 3.36, 32.4, 1.04, 0.13, 2.54, 0.097, 25.6, 4.45, 1.63e+03},   /* channels */
    {0.292, 1.75, 1.16, 0, 0, 0.367, 1.59, 43, 28.4, 4.31e+03, 0, 0},   /* dots */
    {0.276, 17.5, 1.92, 2.13, 1.6, 1.14, 5.36, 48.2, 0.514, 4.48, 0.333, 1.21e+03},   /* winograd */
    {0.324, 16.8, 1.94, 1.6, 1.48, 1.23, 2.94, 37.7, 0, 3.77, 1.92, 1.75e+03},   /* winograd_grad_weight */
}};

static int forced = FC_WAYS;

void fc_conv_force_way(int way) { forced = way; }

static double volume(const int64_t lengths[3]) { return (double)fc_volume(lengths); }

/* Of one image. */
static double multiply_adds(const fc_conv *conv)
{
    return volume(conv->out) * volume(conv->kernel) * (double)conv->out_channels
           * (double)conv->in_channels / (double)conv->groups;
}

/* How many pairs of an output and a tap along an axis meet a cell. */
static double meetings(const fc_axis *axis)
{
    int64_t all = 0, inside;
    for (int64_t r = 0; r < axis->taps; r++) {
        fc_axis_inside(axis, r, &inside);
        all += inside;
    }
    return (double)all;
}

/* --- the direct algorithm ---------------------------------------------------------------------
 *
 * For each vector of outputs, tap and channel one operand is loaded and a multiply-add done for
 * each row; rows that do not fill a register tile of eight wait for the ends of chains. */

static double ragged(const fc_job *job) { return (double)(-job->rows & 7); }

static void panels(const fc_job *job, double lanes, double term[FC_TERMS])
{
    const fc_axis *axis = job->axis;
    const double width = 3 * lanes, along = (double)axis[2].outputs;
    const double outputs = along * (double)axis[1].outputs * (double)axis[0].outputs;
    const double pixels = (double)job->batch * outputs, groups = (double)job->groups;
    const double taps = (double)(axis[0].taps * axis[1].taps * axis[2].taps);
    const double channels = (double)job->channels, rows = (double)job->rows;
    const double count = groups * ceil(pixels / width), vectors = groups * ceil(pixels / lanes);
    const double lanes_used = fmin(width, pixels), runs = fmin(lanes_used / along + 1, lanes_used);
    const double entries = taps * (job->weight_channel == taps ? 1 : ceil(channels * taps / 288));
    const double counted[FC_TERMS] = {
        vectors * taps * channels * rows,                 /* multiply-adds */
        vectors * taps * channels * ragged(job),
        vectors * taps * channels,                        /* vectors gathered */
        count * taps * channels * runs,                   /* runs of cells gathered */
        count * entries * runs,
        count * entries,
        vectors * rows,                                   /* vectors of outputs */
        count * rows * runs,                              /* runs of outputs */
        count * rows * channels * taps,                   /* weights read */
        count,
        groups,
        1,
    };
    for (int i = 0; i < FC_TERMS; i++)
        term[i] += counted[i];
}

static void planes(const fc_job *job, int apart, double lanes, double term[FC_TERMS])
{
    const fc_axis *axis = job->axis;
    const fc_planes_shape shape = fc_conv_planes_shape(job, apart);
    const double items = (double)(job->batch * job->groups * shape.boxes);
    const double taps = (double)(axis[0].taps * axis[1].taps * axis[2].taps);
    const double channels = (double)job->channels, rows = (double)job->rows;
    const double vectors = items * (double)shape.products * ceil((double)shape.lanes / lanes);
    const double gemm = shape.depthwise ? 0 : vectors * taps * channels;
    const double counted[FC_TERMS] = {
        gemm * rows,                                      /* multiply-adds */
        gemm * ragged(job),
        gemm,                                             /* vectors loaded */
        items * channels * (double)shape.cells / lanes,   /* vectors, rows and calls of the copy */
        items * channels * (double)shape.rows,
        items * channels * (double)shape.copies,
        rows * vectors,                                   /* vectors of outputs */
        shape.joined ? 0 : items * rows * (double)shape.lines,   /* lines of outputs copied */
        items * (double)shape.products * rows * channels * taps, /* weights read */
        items * (double)shape.products,
        shape.depthwise ? vectors * taps * rows : 0,      /* multiply-adds, depthwise */
        1,
    };
    for (int i = 0; i < FC_TERMS; i++)
        term[i] += counted[i];
}

static double total(const double cost[FC_TERMS], const double term[FC_TERMS])
{
    double sum = 0;
    for (int i = 0; i < FC_TERMS; i++)
        sum += cost[i] * term[i];
    return sum;
}

static double cost_of(const fc_job *job, int way)
{
    const double lanes = 64.0 / (double)job->size;
    double term[FC_TERMS] = {0};
    if (way == FC_PANELS)
        panels(job, lanes, term);
    else
        planes(job, way == FC_APART, lanes, term);
    return total(costs[2][way], term);
}

int fc_conv_way(const fc_job *job)
{
    fc_job some = *job;
    some.batch = BATCH;
    if (!job->channels || !some.axis[0].taps || !some.axis[1].taps || !some.axis[2].taps)
        return FC_PANELS;
    int best = FC_PANELS;
    double least = cost_of(&some, FC_PANELS);
    for (int way = FC_PLANES; way <= FC_APART; way++) {
        if (!fc_conv_planes_shape(&some, way == FC_APART).fits)
            continue;
        const double cost = cost_of(&some, way);
        if (forced <= FC_APART ? forced == way : cost < least) {
            best = way;
            least = cost;
        }
    }
    return best;
}

static void direct(const fc_job *job, double terms[FC_WAYS][FC_TERMS])
{
    const double lanes = (double)job->kernels->lanes;
    const int way = fc_conv_way(job);
    if (way == FC_PANELS)
        panels(job, lanes, terms[way]);
    else
        planes(job, way == FC_APART, lanes, terms[way]);
}

static void channels(const fc_conv *conv, double term[FC_TERMS])
{
    const fc_weight_channels_shape shape = fc_weight_channels_count(conv);
    const double groups = (double)conv->groups, taps = volume(conv->kernel);
    const double filters = (double)conv->out_channels, of_group = (double)conv->in_channels / groups;
    const double lanes = 64.0 / (conv->dtype == FC_F32 ? 4 : 8);
    const double counted[FC_TERMS] = {
        shape.products,
        shape.turned,
        shape.turned / of_group * ceil(of_group / lanes),
        shape.updates,
        shape.calls,
        shape.lines,
        of_group * filters * taps,                        /* weights */
        filters * taps * ceil(of_group / lanes),
        shape.lines * of_group,
        (double)conv->batch * groups,
        groups,
        1,
    };
    memcpy(term, counted, sizeof counted);
}

/* `products`: fc_weight_dots_cost, or a bound below it. */
static void dots(const fc_conv *conv, double products, double term[FC_TERMS])
{
    const double batch = (double)conv->batch, groups = (double)conv->groups;
    const double in_channels = (double)conv->in_channels, filters = (double)conv->out_channels;
    const double weights = in_channels / groups * filters * volume(conv->kernel);
    const double lanes = 64.0 / (conv->dtype == FC_F32 ? 4 : 8);
    const double counted[FC_TERMS] = {
        batch * products,
        batch * in_channels * volume(conv->in) / lanes,   /* vectors and rows copied */
        batch * filters * volume(conv->out) / lanes,
        batch * in_channels * (double)(conv->in[0] * conv->in[1]),
        batch * filters * (double)(conv->out[0] * conv->out[1]),
        weights,
        batch * weights,
        batch * groups,
        groups,
        1,
    };
    memcpy(term, counted, sizeof counted);
}

int fc_conv_dots_pay(const fc_conv *conv)
{
    const double lanes = 64.0 / (conv->dtype == FC_F32 ? 4 : 8);
    double by_channels[FC_TERMS], by_dots[FC_TERMS];
    fc_conv some = *conv;
    some.batch = BATCH;
    if (multiply_adds(conv) < SMALL_GRAD_WEIGHT)
        return 0;
    if (forced == FC_CHANNELS || forced == FC_DOTS)
        return forced == FC_DOTS && isfinite(fc_weight_dots_cost(conv));
    channels(&some, by_channels);
    const double least = total(costs[2][FC_CHANNELS], by_channels);
    /* What lanes over outputs cost takes long to say: first whether they can win at all. */
    dots(&some, multiply_adds(conv) / lanes / 2, by_dots);
    if (total(costs[2][FC_DOTS], by_dots) >= least)
        return 0;
    dots(&some, fc_weight_dots_cost(conv), by_dots);
    return total(costs[2][FC_DOTS], by_dots) < least;
}

static void direct_grad_weight(const fc_conv *conv, double terms[FC_WAYS][FC_TERMS])
{
    const fc_conv merged = fc_conv_merge_axes(conv);
    if (fc_conv_dots_pay(&merged))
        dots(&merged, fc_weight_dots_cost(&merged), terms[FC_DOTS]);
    else
        channels(&merged, terms[FC_CHANNELS]);
}

/* --- Winograd's algorithm ------------------------------------------------------------------- */

typedef struct {
    const fc_axis *axis;                          /* the sum's */
    double batch, groups, channels, filters;      /* of a group */
    double lanes, size;
    int grad_weight, prepared;
} transformed;

static void transforms(const transformed *t, double term[FC_TERMS])
{
    const fc_axis *axis = t->axis;
    fc_line y, x;
    fc_line_of(&axis[1], &y);
    fc_line_of(&axis[2], &x);
    const double points = (double)(y.points * x.points), tiles = (double)(y.tiles * x.tiles);
    const double sources = ceil(t->channels / t->lanes), results = ceil(t->filters / t->lanes);
    const double deep = (double)axis[0].cells, depth = (double)axis[0].outputs;
    const double items = t->batch * t->groups;
    const double cells = (double)(axis[1].cells * axis[2].cells);
    const double outputs = (double)(axis[1].outputs * axis[2].outputs);
    const double strips = items * (double)y.tiles * ceil((double)x.outputs / 64);
    const double weights = t->groups * t->channels * results * (double)axis[0].taps;
    /* Strips are done in chunks of about 1 MB of transformed data; each reads all weights. */
    const double vector = points * t->lanes * t->size;
    const double chunks = fmax(1, t->batch * tiles * deep * sources * vector / 1e6);
    const double bands = fmax(chunks, t->batch * tiles * fmin(t->filters, 64) * points * t->size / 250e3);
    const double blocks = ceil(t->channels / 128) * ceil(t->filters / 64) * depth;
    const double counted[FC_TERMS] = {
        items * points * tiles * meetings(&axis[0]) * t->channels * results,   /* multiply-adds */
        t->groups * points * blocks * bands,              /* products called for */
        items * points * tiles * deep * sources,          /* points of tiles transformed */
        items * points * tiles * depth * results,
        items * cells * deep * sources,                   /* vectors turned to lanes and back */
        items * outputs * depth * results,
        strips * deep * sources,                          /* rows of tiles */
        strips * depth * results,
        t->prepared ? 0 : weights * points,               /* weights transformed */
        t->prepared ? 0 : weights * (double)(axis[1].taps * axis[2].taps),
        weights * points * chunks,                        /* weights read */
        1,
    };
    for (int i = 0; i < FC_TERMS; i++)
        term[i] += counted[i];
}

/* --- the passes ----------------------------------------------------------------------------- */

static void add_sum(const fc_conv *conv, const fc_conv *merged, int pass, int prepared,
                    const int64_t phase[3], double terms[FC_WAYS][FC_TERMS])
{
    const int gradient = pass == FC_GRAD_INPUT;
    const int64_t channels = (gradient ? conv->out_channels : conv->in_channels) / conv->groups;
    const int64_t filters = (gradient ? conv->in_channels : conv->out_channels) / conv->groups;
    const fc_kernels *kernels = fc_active[conv->dtype];
    const int64_t size = conv->dtype == FC_F32 ? 4 : 8;
    const fc_conv *as = conv->algorithm == FC_WINOGRAD ? conv : merged;
    fc_job job = {.kernels = kernels, .size = size, .threads = 1, .batch = conv->batch,
                  .groups = conv->groups, .rows = filters, .channels = channels,
                  .weight_channel = (gradient ? filters : 1) * fc_volume(as->kernel),
                  .out_axis = {0, gradient ? as->in[2] : as->out[2], 1}};
    for (int a = 0; a < 3; a++)
        job.axis[a] = gradient ? fc_axis_grad_input(as, a, phase[a]) : fc_axis_forward(as, a);
    if (conv->algorithm != FC_WINOGRAD) {
        const fc_segments segments = fc_job_segments(&job);
        for (int64_t i = 0; i < fc_volume(segments.count); i++) {
            const fc_job part = fc_job_segment(&job, &segments, i);
            direct(&part, terms);
        }
        return;
    }
    const int way = pass == FC_GRAD_WEIGHT ? FC_TRANSFORMS_GRAD_WEIGHT : FC_TRANSFORMS;
    transforms(&(transformed){
        .axis = job.axis, .batch = (double)conv->batch, .groups = (double)conv->groups,
        .channels = (double)channels, .filters = (double)filters,
        .lanes = (double)kernels->lanes, .size = (double)size, .prepared = prepared}, terms[way]);
}

void fc_conv_terms(const fc_conv *conv, int pass, int prepared, double terms[FC_WAYS][FC_TERMS])
{
    memset(terms, 0, FC_WAYS * sizeof *terms);
    if (pass == FC_GRAD_WEIGHT && conv->algorithm != FC_WINOGRAD) {
        direct_grad_weight(conv, terms);
        return;
    }
    const fc_conv merged = fc_conv_merge_axes(conv);
    int64_t phases[3] = {1, 1, 1};
    for (int a = 0; a < 3 && pass == FC_GRAD_INPUT; a++)
        phases[a] = fc_least(conv->stride[a], conv->in[a]);
    for (int64_t z = 0; z < phases[0]; z++)
        for (int64_t y = 0; y < phases[1]; y++)
            for (int64_t x = 0; x < phases[2]; x++)
                add_sum(conv, &merged, pass, prepared, (int64_t[3]){z, y, x}, terms);
}

static double estimate(fc_conv conv, int algorithm, int pass, int prepared)
{
    const int64_t bytes = fc_active[conv.dtype]->lanes * (conv.dtype == FC_F32 ? 4 : 8);
    const int width = bytes >= 64 ? 2 : bytes >= 32 ? 1 : 0;
    double terms[FC_WAYS][FC_TERMS], sum = 0;
    conv.algorithm = algorithm;
    conv.batch = BATCH;
    fc_conv_terms(&conv, pass, prepared, terms);
    for (int way = 0; way < FC_WAYS; way++)
        sum += total(costs[width][way], terms[way]);
    return sum;
}

int fc_conv_algorithm(const fc_conv *conv, int pass, int prepared)
{
    if (conv->algorithm == FC_DIRECT || conv->batch == 0)
        return FC_DIRECT;
    if (!(pass == FC_GRAD_INPUT ? fc_winograd_grad_input_fits(conv) : fc_winograd_fits(conv)))
        return FC_DIRECT;
    if (conv->algorithm == FC_WINOGRAD)
        return FC_WINOGRAD;
    if (!prepared && multiply_adds(conv) < (pass == FC_GRAD_WEIGHT ? SMALL_GRAD_WEIGHT : SMALL_SUM))
        return FC_DIRECT;
    int64_t first[3], every[3];
    const fc_conv thin = fc_conv_thin(conv, first, every);
    return estimate(thin, FC_WINOGRAD, pass, prepared) < estimate(*conv, FC_DIRECT, pass, prepared)
           ? FC_WINOGRAD : FC_DIRECT;
}
