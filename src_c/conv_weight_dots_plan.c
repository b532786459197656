#include "conv_weight_dots_plan.h"

#include <math.h>
#include <string.h>

typedef fc_weight_dots_plan plan;

enum {
    STRIP_OF_FILTERS = 1024, /* outputs: planes of four filters stay in L1 */
    STRIP_OF_TAPS = 4096,    /* outputs: one plane of dy and one of x stay near it */
    BATCH_BYTES = 64 << 10,  /* of planes copied together, where filters take their turns */
    LARGEST_SCRATCH = 3 << 20,
};

static fc_taps_along taps_of(const fc_conv *conv, int a)
{
    const int64_t common = fc_gcd(conv->stride[a], conv->dilation[a]);
    fc_taps_along t = {.every = conv->stride[a] / common, .jump = conv->dilation[a] / common};
    t.classes = fc_least(t.every, conv->kernel[a]);
    t.low = fc_tap_quotient(conv, a, 0);
    t.high = fc_tap_quotient(conv, a, conv->kernel[a] - 1);
    return t;
}

/* Cycles of Zen 4 for 64 bytes of lanes in tiles of so many rows and columns (measured). A load
 * across two cache lines takes two. In one step: a long kernel has many columns, and is planned
 * anew at each call. */
static double tile_cost(int64_t rows, int64_t cols, int aligned)
{
    const double r = (double)rows, loads = (aligned ? 1 : 1.8) * r, c = (double)(cols % 3);
    return (double)(cols / 3) * (fmax(3 * r, loads + 1.6 * 3) + 0.5)
        + (c > 0 ? fmax(c * r, loads + 1.6 * c) + 0.5 : 0);
}

/* Strips of at most so many outputs, halved along the first axis that can be. */
static void choose_strip(plan *p)
{
    const int64_t most = p->axis < 0 ? STRIP_OF_FILTERS : STRIP_OF_TAPS;
    memcpy(p->span, p->conv.out, sizeof p->span);
    for (int a = 0; a < 3; a++)
        while (p->span[a] > (a == 2 ? 64 : 1) && p->span[0] * p->span[1] * p->span[2] > most)
            p->span[a] = (p->span[a] + 1) / 2;
    for (int a = 0; a < 3; a++)
        p->extent[a] = p->span[a] + p->along[a].high - p->along[a].low;
    p->extent[2] = fc_round_up(p->extent[2], p->vector);
}

/* So many times the product of rows and columns over these lines of k outputs. */
static void count_product(const plan *p, double times, int64_t rows, int64_t cols, int64_t jump,
                          int64_t lines, int64_t k, fc_weight_dots_shape *w)
{
    if (!rows)
        return;
    const int aligned = jump % p->vector == 0;
    const double vectors = times * (double)(lines * fc_parts(k, p->vector));
    const double tiles = (double)fc_parts(cols, 3);
    w->tiles += vectors * tile_cost(rows, cols, aligned);
    w->across += aligned ? 0 : vectors * tiles * (double)rows;
    const int64_t planes = 1 + (p->axis < 0 ? rows : 1);   /* of x, and of dy */
    if (planes * lines * k * p->size > FC_L1_BYTES)   /* both operands of a tile */
        w->far += vectors * (tiles * (double)rows + (double)cols);
    w->lines += times * tiles * (double)lines;
    w->calls += times * (double)fc_parts(cols, FC_DOTS_COLUMNS);
}

/* The same for all taps of one phase of the plan's axis: full rows of taps, one that ends early. */
static void count_phase(const plan *p, double times, int64_t taps, fc_weight_dots_shape *w)
{
    const int64_t jump = fc_weight_dots_jump(p), rows = fc_parts(taps, p->width);
    const int64_t cols = p->cg * (p->axis == 1 ? p->conv.kernel[2] : fc_least(p->width, taps));
    for (int64_t i = 0; i < rows; i += p->rows) {
        const int64_t m = fc_least(p->rows, rows - i), more = (m - 1) * jump;
        const int64_t lines = fc_weight_dots_lines(p, p->span)
            + (p->axis == 1 ? more / p->extent[2] : 0);
        count_product(p, times, m, cols, jump, lines, p->span[2] + (p->axis == 2 ? more : 0), w);
    }
}

/* Copies of one image and group, whose planes have been laid out. Vectors that lie wholly in the
 * array are copied line by line; the others, at the ends of lines, column by column. */
static void count_copies(const plan *p, int64_t lanes, double planes_of_x, fc_weight_dots_shape *w)
{
    const fc_conv *conv = &p->conv;
    const int64_t vectors = p->extent[2] / lanes, step = conv->stride[2];
    const int64_t lead = fc_least(fc_most(-p->along[2].low, 0), p->extent[2]);
    const int64_t length = fc_least(p->extent[2] - lead, conv->in[2] / step);
    const int64_t inside = step > FC_APART_AT_MOST ? 0
                                    : fc_most((lead + length) / lanes - fc_parts(lead, lanes), 0);
    const double lines = planes_of_x * (double)fc_least(p->extent[1],
                                                        conv->in[1] / conv->stride[1] + 1);
    const double planes_of_dy = p->in_place ? 0 : w->strips * (double)(p->fg * p->span[0]);
    const double cleared = (double)(p->in_place ? 0 : p->fg * p->dy_plane)
        + (double)(p->cg * p->channel);
    const double of_x = lines * (double)(step == 2 ? vectors : inside);
    w->copied = planes_of_dy * (double)(p->span[1] * (p->span[2] / lanes)) + of_x;
    w->apart = of_x * (double)(step - 1);
    w->edges = planes_of_dy * (double)(vectors - p->span[2] / lanes)
        + planes_of_x * (double)(vectors - inside);
    w->singly = step > FC_APART_AT_MOST ? lines * (double)length : 0;
    w->cleared = p->steady ? 0 : w->strips * cleared / (double)p->vector;
}

/* What the plan p does for one image and group; of copies, vectors as if all were laid out. */
static fc_weight_dots_shape count(plan *p)
{
    const int64_t *kernel = p->conv.kernel;
    fc_weight_dots_shape w = {.strips = 1};
    choose_strip(p);
    for (int a = 0; a < 3; a++)
        w.strips *= (double)fc_parts(p->conv.out[a], p->span[a]);
    const int64_t lines = fc_weight_dots_lines(p, p->span);
    if (p->axis < 0) {
        const double times = w.strips * (double)(kernel[0] * kernel[1]);
        const double tiles = (double)(p->fg / FC_DOTS_ROWS);
        count_product(p, times * tiles, FC_DOTS_ROWS, p->cg * kernel[2], 0, lines, p->span[2], &w);
        count_product(p, times, p->fg % FC_DOTS_ROWS, p->cg * kernel[2], 0, lines, p->span[2], &w);
    }
    for (int64_t k = 0; p->axis >= 0 && k < p->along[p->axis].classes; k++)
        count_phase(p,
                    w.strips * (double)(p->fg * (p->axis == 1 ? kernel[0] : p->taps / kernel[2])),
                    (kernel[p->axis] - 1 - k) / p->along[p->axis].every + 1, &w);
    const int64_t classes = p->along[0].classes * p->along[1].classes * p->along[2].classes;
    w.sums = w.strips * (double)(p->fg * p->cg * p->taps);
    const double cells = w.strips * (double)(p->cg * classes * fc_volume(p->extent));
    w.copied = w.strips * (double)(p->fg * lines * fc_parts(p->span[2], p->vector))
        + cells / (double)p->vector;
    return w;
}

/* Cycles of Zen 4 (measured), by which plans are compared. */
static double plan_cost(plan *p)
{
    const fc_weight_dots_shape w = count(p);
    return w.tiles + 4 * w.sums + 9 * w.copied + 100 * w.strips;
}

/* Try filters, then taps along y, then along x so many apart; keep the best. */
static void choose_plan(plan *p)
{
    plan best = *p;
    best.axis = -1;
    best.width = best.rows = 1;
    double cost = plan_cost(&best);
    for (int axis = 1; axis < 3; axis++) {
        const int64_t taps = (p->conv.kernel[axis] - 1) / p->along[axis].every + 1;
        for (int64_t parts = 1, last = 0; parts <= 12 && taps > 1; parts++) {
            const int64_t width = axis == 1 ? 1
                : parts <= 8 ? fc_parts(taps, parts) : (parts - 8) * p->vector;
            const int64_t most = width != last && width <= taps ? fc_least(FC_DOTS_ROWS, taps) : 0;
            for (int64_t rows = most; rows > 1; rows--) {
                plan now = *p;
                now.axis = axis;
                now.width = width;
                now.rows = rows;
                const double this = plan_cost(&now);
                if (this < cost) {
                    cost = this;
                    best = now;
                }
            }
            last = width;
        }
    }
    *p = best;
}

static plan new_plan(const fc_conv *conv)
{
    plan p = {.conv = *conv, .kernels = fc_active[conv->dtype],
              .size = conv->dtype == FC_F32 ? 4 : 8,
              .cg = conv->in_channels / conv->groups, .fg = conv->out_channels / conv->groups,
              .taps = 1, .cells = 1, .outputs = 1};
    p.vector = 64 / p.size;
    for (int a = 0; a < 3; a++) {
        p.taps *= conv->kernel[a];
        p.cells *= conv->in[a];
        p.outputs *= conv->out[a];
        p.along[a] = taps_of(conv, a);
    }
    return p;
}

/* Sizes of the planes, and of all scratch. */
static void lay_out(plan *p)
{
    const int64_t groups = p->conv.groups, pitch = p->extent[2];
    p->plane = p->extent[0] * p->extent[1] * pitch;
    p->channel = p->along[0].classes * p->along[1].classes * p->along[2].classes * p->plane;
    p->margin = fc_round_up((p->rows - 1) * fc_weight_dots_jump(p), p->vector);
    p->dy_plane = 2 * p->margin + p->span[0] * p->extent[1] * pitch + p->vector;
    p->in_place = p->axis < 0 && p->conv.out[2] % p->vector == 0 && p->span[2] == p->conv.out[2]
        && p->conv.out[0] == 1;
    const int64_t planes = (p->fg * p->dy_plane + p->cg * p->channel) * p->size;   /* of a group */
    const int64_t together = fc_most(1, BATCH_BYTES / planes);
    p->filters = p->axis < 0 ? FC_DOTS_ROWS : p->fg * fc_least(together, groups);
    p->channels = p->axis < 0 ? p->cg : p->cg * fc_least(together, groups);
    p->steady = !memcmp(p->span, p->conv.out, sizeof p->span);
    p->shared_bytes = fc_round_up((p->conv.kernel[0] + p->conv.kernel[1] + p->conv.kernel[2]) * 8,
                                  64);
    p->own_bytes = ((p->in_place ? 0 : p->filters * p->dy_plane) + p->channels * p->channel
                    + fc_round_up(p->margin + 2 * p->vector, p->vector)) * p->size;
}

void fc_weight_dots_plan_make(plan *p, const fc_conv *conv)
{
    *p = new_plan(conv);
    choose_plan(p);
    lay_out(p);
}

fc_weight_dots_shape fc_weight_dots_count(const fc_conv *conv, int64_t bytes)
{
    plan p;
    fc_weight_dots_plan_make(&p, conv);
    fc_weight_dots_shape w = count(&p);
    const int64_t classes = p.along[0].classes * p.along[1].classes * p.along[2].classes;
    count_copies(&p, bytes / p.size, w.strips * (double)(p.cg * classes * p.extent[0]), &w);
    const double groups = (double)conv->groups;
    return (fc_weight_dots_shape){
        .fits = p.own_bytes <= LARGEST_SCRATCH, .scratch = (double)p.own_bytes / 64,
        .tiles = groups * w.tiles, .across = groups * w.across, .lines = groups * w.lines,
        .calls = groups * w.calls, .sums = groups * w.sums, .copied = groups * w.copied,
        .edges = groups * w.edges, .singly = groups * w.singly, .cleared = groups * w.cleared,
        .strips = groups * w.strips, .far = groups * w.far,
        .apart = groups * w.apart,
    };
}
