#include "conv_winograd_weight_grad_plan.h"

#include <math.h>
#include <string.h>

#include "conv_winograd.h"
#include "parallel.h"

/* Bytes of a chunk's X and Y: at least these, and as much as M, which each chunk reads and writes;
 * bytes of one block of M, which a member works on in L2. Where X and Y are more, products ask for
 * those of the next point: 256 channels of 8 x 14 x 14 take 0.93 (float64 0.96) of the time, of
 * 56 x 56 0.96 (0.92). Where they are fewer it gains nothing; asking for dw, too, gained nothing
 * either. */
static const int64_t CHUNK_BYTES = 2 << 20, M_BYTES = 300 << 10;

/* Parts: adding up their Ms costs one thread some 3 % where each sums PART_TILES tiles. */
static const int64_t PART_TILES = 96, PARTS_BYTES = 2 << 20;

typedef fc_winograd_grad_plan plan;

double fc_winograd_grad_weight_chunks(double bytes, double m_bytes)
{
    return fmax(1, bytes / fmax((double)CHUNK_BYTES, m_bytes));
}

static int64_t parts_of(const plan *p, int64_t m)
{
    const int64_t tiles = p->strips.batch * p->strips.y.tiles * p->strips.x.tiles;
    const int64_t most = fc_least(fc_least(tiles / PART_TILES, PARTS_BYTES / m),
                                  fc_least(p->strips.strips, FC_WINOGRAD_PARTS));
    int64_t parts = 1;
    while (2 * parts <= most)
        parts *= 2;
    return parts;
}

static void plan_blocks(plan *p, int team)
{
    const int64_t line = FC_LINE / p->size;
    const int64_t m_row = p->points * p->axis[0].taps * p->phases * p->size;
    const int64_t m = m_row * p->channels * p->filters;
    p->wide = fc_least(4 * line, fc_round_up(p->filters, line));
    p->across = fc_parts(p->filters, p->wide);
    p->high = fc_most(M_BYTES / (m_row * p->wide) / line, 1) * line;
    p->high = fc_least(p->high, p->channels);
    p->down = fc_parts(p->channels, p->high);
    p->m_point = fc_odd_lines(p->high * p->wide, p->size);
    p->m_tap = p->points * p->m_point;
    p->m_block = p->axis[0].taps * p->phases * p->m_tap;

    p->x.wide = p->high;   /* what one product reads lies in a row */
    p->y.wide = p->wide;
    fc_tiled_plan(&p->x, 1);
    fc_tiled_plan(&p->y, 1);
    const int64_t strip = p->points * (p->x.point + p->y.point) * p->size;
    p->parts = parts_of(p, m);
    p->alone = team > 1 && (p->parts % team == 0 || p->parts >= 2 * team);
    const int64_t fit = fc_most(1, fc_most(CHUNK_BYTES, m) / strip);
    p->chunks = fc_strip_chunks(p->strips.strips, fit, p->parts);
    p->chunk = fc_parts(p->strips.strips, fc_most(p->chunks, 1));
    fc_tiled_plan(&p->x, p->chunk);
    fc_tiled_plan(&p->y, p->chunk);
    p->far = p->points * (p->x.point + p->y.point) * p->size > CHUNK_BYTES;
}

int fc_winograd_tap_is_idle(const plan *p, int64_t tap)
{
    const int64_t high = p->axis[1].taps;
    const int64_t at[3] = {tap / p->row / high, tap / p->row % high, tap % p->row};
    int64_t inside = 1;
    for (int a = 0; a < 3 && inside; a++)
        fc_axis_inside(&p->axis[a], at[a], &inside);
    return !inside;
}

fc_strips fc_winograd_grad_strips(fc_line *y, fc_line *x, int64_t batch)
{
    const fc_line alike = *x;
    fc_line_mix(y, x);
    const fc_strips strips = fc_strips_of(y, x, batch);
    if (strips.segments == 1)
        return strips;
    *x = alike;
    return fc_strips_of(y, x, batch);
}

int fc_winograd_plan_grad_weight(plan *p, const fc_conv *conv, int threads, int *team)
{
    fc_line y, x;
    const fc_axis along_z = fc_axis_forward(conv, 0), along_y = fc_axis_forward(conv, 1),
                  along_x = fc_axis_forward(conv, 2);
    if (!fc_line_of(&along_y, &y) || !fc_line_of(&along_x, &x))
        return 0;
    const fc_strips strips = fc_winograd_grad_strips(&y, &x, conv->batch);
    *p = (plan){
        .kernels = fc_active[conv->dtype], .lanes = fc_active[conv->dtype]->lanes,
        .size = conv->dtype == FC_F32 ? 4 : 8, .groups = conv->groups,
        .channels = conv->in_channels / conv->groups, .filters = conv->out_channels / conv->groups,
        .axis = {along_z, along_y, along_x}, .taps = fc_volume(conv->kernel),
        .row = conv->kernel[2],
        .phases = y.phases * x.phases, .points = y.points * x.points,
        .strips = strips,
    };
    p->x = (fc_tiled){
        .kernels = p->kernels, .size = p->size, .lanes = p->lanes, .strips = &p->strips,
        .kind = FC_WINOGRAD_DATA, .whole = 1, .channels = p->channels, .plane = fc_volume(conv->in),
        .first_y = y.first, .first_x = x.first};
    p->y = (fc_tiled){
        .kernels = p->kernels, .size = p->size, .lanes = p->lanes, .strips = &p->strips,
        .kind = FC_WINOGRAD_FILTER, .whole = 1, .channels = p->filters,
        .plane = fc_volume(conv->out)};
    memcpy(p->x.cells, conv->in, sizeof p->x.cells);
    memcpy(p->y.cells, conv->out, sizeof p->y.cells);
    p->x.group = p->channels * p->x.plane;
    p->x.image = p->groups * p->x.group;
    p->y.group = p->filters * p->y.plane;
    p->y.image = p->groups * p->y.group;
    for (int64_t tap = 0; tap < p->taps && !p->idle; tap++)
        p->idle = fc_winograd_tap_is_idle(p, tap);
    const double products = 2.0 * (double)(p->groups * p->axis[0].taps * p->axis[0].outputs)
                            * (double)(fc_line_products(&y) * fc_line_products(&x))
                            * (double)(p->strips.strips * p->strips.segment)
                            * (double)(p->channels * p->filters);
    *team = fc_team_size(fc_useful_threads(threads, products));
    plan_blocks(p, *team);
    return 1;
}

fc_winograd_block fc_winograd_block_of(const plan *p, int64_t group, int64_t unit)
{
    const int64_t channel = unit % p->down * p->high, filter = unit / p->down * p->wide;
    return (fc_winograd_block){group, channel, fc_least(p->high, p->channels - channel), filter,
                               fc_least(p->wide, p->filters - filter)};
}
