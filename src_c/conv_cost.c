/* What an algorithm costs, in nanoseconds of one thread, as a sum of counted operations.
 *
 * The constants were fitted to the times of some 2,000 random geometries (1 to 1000 channels,
 * images of 4 to 80 cells a side, kernels of 1 to 5 taps, groups, dilation, three dimensions) on
 * an AMD Zen 4 at 3.7 GHz. Only which of the two sums is smaller matters. Choosing by them costs
 * 2 to 6 % over always knowing the faster one, where "direct" alone costs 30 to 60 %.
 */
#include "conv_cost.h"

#include "conv_plan.h"
#include "conv_winograd.h"
#include "conv_winograd_tiles.h"

enum { FEWEST_CHANNELS = 4 };   /* of a group */

/* Per operation on one vector, for vectors of 16, 32 and 64 bytes; the last two of each algorithm
 * per group and per call. */
typedef struct {
    double product;   /* fused multiply-add, in the rhythm of gemm */
    double gather;    /* a vector of the source brought into a panel, once a tap */
    double output;    /* a vector of outputs written */
    double weight;    /* one weight, read by the tiles that need it */
    double group, call;
} direct_cost;

typedef struct {
    double product;
    double gemm;      /* a call of it */
    double point;     /* one point of a tile of data or outputs */
    double cell;      /* a vector of the array turned to lanes, or back */
    double strip;     /* a row of tiles */
    double weight;    /* one point of a vector of weights */
    double call;
} winograd_cost;

static const direct_cost direct_costs[] = {
    {0.28, 0.4, 1.0, 0.3, 60, 700}, {0.160, 0.37, 1.0, 0.3, 60, 700},
    {0.290, 0.80, 1.4, 0.38, 330, 300}};
static const winograd_cost winograd_costs[] = {
    {0.29, 10, 1.0, 2.4, 16, 1.6, 420}, {0.172, 10, 1.04, 2.4, 16, 1.6, 420},
    {0.315, 13, 1.30, 3.7, 20, 2.3, 450}};

typedef struct {
    fc_axis axis[3];
    int64_t groups, channels, filters, lanes;   /* channels and filters of a group */
    int width;                                  /* of a vector: index of the tables above */
} sum;

static double cells(const sum *s)
{
    return (double)s->axis[0].cells * (double)s->axis[1].cells * (double)s->axis[2].cells;
}

static double outputs(const sum *s)
{
    return (double)s->axis[0].outputs * (double)s->axis[1].outputs * (double)s->axis[2].outputs;
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

static double direct(const sum *s)
{
    const direct_cost *cost = &direct_costs[s->width];
    const double channels = (double)(s->groups * s->channels), filters = (double)s->filters;
    const double lanes = (double)s->lanes;
    double terms = channels / lanes, taps = 1;
    for (int a = 0; a < 3; a++) {
        terms *= meetings(&s->axis[a]);
        taps *= (double)s->axis[a].taps;
    }
    return terms * filters * cost->product + terms * cost->gather
           + (double)s->groups * filters * (outputs(s) / lanes + 1) * cost->output
           + channels * filters * taps * cost->weight
           + (double)s->groups * cost->group + cost->call;
}

static double winograd(const sum *s, int prepared)
{
    const winograd_cost *cost = &winograd_costs[s->width];
    fc_line y, x;
    fc_line_of(&s->axis[1], &y);
    fc_line_of(&s->axis[2], &x);
    const double groups = (double)s->groups, channels = (double)s->channels;
    const double points = (double)(y.points * x.points), tiles = (double)(y.tiles * x.tiles);
    const double sources = (double)(s->axis[0].cells * fc_parts(s->channels, s->lanes));
    const double filters = (double)fc_parts(s->filters, s->lanes);
    const double results = (double)s->axis[0].outputs * filters;
    const double calls = (double)(fc_parts(s->channels, 128) * fc_parts(s->filters, 64)
                                  * s->axis[0].outputs) * (1 + (double)((int64_t)tiles / 28));
    const double products = points * tiles * meetings(&s->axis[0]) * channels * filters;
    const double weights = channels * filters * (double)s->axis[0].taps * points;
    return groups * (products * cost->product + points * calls * cost->gemm
                     + points * tiles * (sources + results) * cost->point
                     + (cells(s) / (double)s->axis[0].cells * sources
                        + outputs(s) / (double)s->axis[0].outputs * results) * cost->cell
                     + (double)y.tiles * (sources + results) * cost->strip
                     + (prepared ? 0 : weights * cost->weight)) + cost->call;
}

static sum new_sum(const fc_conv *conv)
{
    const int64_t lanes = fc_active[conv->dtype]->lanes;
    const int64_t bytes = lanes * (conv->dtype == FC_F32 ? 4 : 8);
    return (sum){.groups = conv->groups, .lanes = lanes,
                 .width = bytes >= 64 ? 2 : bytes >= 32 ? 1 : 0};
}

/* The weight gradient has the operations of the forward pass, in another order. */
static int forward_pays(const fc_conv *conv, int prepared)
{
    sum s = new_sum(conv);
    s.channels = conv->in_channels / conv->groups;
    s.filters = conv->out_channels / conv->groups;
    for (int a = 0; a < 3; a++)
        s.axis[a] = fc_axis_forward(conv, a);
    return winograd(&s, prepared) < direct(&s);
}

static int grad_input_pays(const fc_conv *conv)
{
    sum s = new_sum(conv);
    s.channels = conv->out_channels / conv->groups;
    s.filters = conv->in_channels / conv->groups;
    double by_winograd = 0, as_written = 0;
    for (int64_t z = 0; z < fc_least(conv->stride[0], conv->in[0]); z++)
        for (int64_t y = 0; y < fc_least(conv->stride[1], conv->in[1]); y++)
            for (int64_t x = 0; x < fc_least(conv->stride[2], conv->in[2]); x++) {
                s.axis[0] = fc_axis_grad_input(conv, 0, z);
                s.axis[1] = fc_axis_grad_input(conv, 1, y);
                s.axis[2] = fc_axis_grad_input(conv, 2, x);
                by_winograd += winograd(&s, 0);
                as_written += direct(&s);
            }
    return by_winograd < as_written;
}

int fc_conv_algorithm(const fc_conv *conv, int pass, int prepared)
{
    if (conv->algorithm == FC_DIRECT || conv->batch == 0)
        return FC_DIRECT;
    if (!(pass == FC_GRAD_INPUT ? fc_winograd_grad_input_fits(conv) : fc_winograd_fits(conv)))
        return FC_DIRECT;
    if (conv->algorithm == FC_WINOGRAD)
        return FC_WINOGRAD;
    /* Few channels have no lanes to fill; tiny calls should not have to ask. */
    if (fc_least(conv->in_channels, conv->out_channels) < FEWEST_CHANNELS * conv->groups)
        return FC_DIRECT;
    return (pass == FC_GRAD_INPUT ? grad_input_pays(conv) : forward_pays(conv, prepared))
           ? FC_WINOGRAD : FC_DIRECT;
}
