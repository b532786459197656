#include "conv_winograd_plan.h"

#include <string.h>

#include "parallel.h"

/* Bytes of a chunk's V, at most, and of one member's M.
 *
 * All of U passes by once for every chunk. From half of what L3 keeps on V had better leave L2 in
 * part: 256 channels, 8 x 14 x 14 and 56 x 56, take 0.87 of the time with LARGE_V_BYTES, and no
 * less with more; 128 channels, a quarter of U, 1.03. Where U is more than L3 keeps besides, a
 * chunk has as many as TILES tiles, however large V is: 256 channels in float64 then take 0.86 of
 * the time that chunks of 14 tiles do, and twice as many tiles gain nothing. Where U is less, one
 * chunk in place of several must leave V in L3: 88 x 71 x 57 -> 1, 9 x 9, stride 3, dilation 12, in
 * float64, 12.8 MB of V, 5.4 -> 1.7 ms; 256 x 24 x 24 -> 16, 9 x 9, 3.8 -> 1.8.
 *
 * Each block of filters reads V again: where there are no more than FEW of them, V may be twice as
 * large, and U passes by half as often: 64 x 8 x 28 x 28 -> 128, 3x3x3 in float64, takes 0.89 of
 * the time, others 0.95 to 1. With 256 filters it would be 1.05. */
static const int64_t V_BYTES = 1 << 20, LARGE_V_BYTES = 3 << 19, MOST_V_BYTES = 6 << 20,
                     M_BYTES = 512 << 10, L3_BYTES = 12 << 20, TILES = 64, FEW = 128;

/* Outputs of so many bytes are not in L2 when they are written: asking for them while the products
 * are summed saves 2 to 9 % of the time; it costs 2 % where they are. So it is with U. Products
 * ask step by step: a core that is asked for a hundred lines at once leaves out many of them, and
 * waits: 64 channels of 224 x 224 took 1.07 times as long. */
static const int64_t FAR_BYTES = 2 << 20, U_FAR_BYTES = 256 << 10;

/* Up to so many bytes a member rather transforms all of U than reads half of it from where the
 * other core has just written it: 64 channels of 56 x 56 take 0.36 in place of 0.40 ms on two
 * threads. At 2 to 5 MB it is the same, at 9 MB 1.17 times as long. */
static const int64_t OWN_BYTES = 4 << 20;

int fc_winograd_leaves_cache(int64_t u_bytes) { return u_bytes > L3_BYTES; }

fc_winograd_tiles fc_winograd_chunk_tiles(int64_t v_tile, int64_t u_bytes, int64_t filters)
{
    const int64_t large = filters <= FEW ? 2 * LARGE_V_BYTES : LARGE_V_BYTES;
    const int64_t bytes = u_bytes > L3_BYTES / 2 ? large : V_BYTES;
    const int64_t some = fc_most(1, bytes / v_tile), many = fc_most(some, TILES);
    if (fc_winograd_leaves_cache(u_bytes))
        return (fc_winograd_tiles){many, many};
    return (fc_winograd_tiles){some, fc_most(some, fc_least(many, MOST_V_BYTES / v_tile))};
}

int64_t fc_winograd_band_tiles(int64_t m_tile, int64_t u_bytes)
{
    return fc_most(fc_winograd_leaves_cache(u_bytes) ? TILES : 1, M_BYTES / m_tile);
}

/* Chunks for a team. Members that share V pass half of it from core to core, which takes as long
 * as reading twice as much of U from L3; and one strip more or less must not keep the others
 * waiting. */
static void plan_chunks(fc_winograd_plan *p, int64_t v_strip, int64_t u_bytes)
{
    const int64_t strips = p->strips.strips, tiles = p->strips.segment * p->z.outputs;
    const fc_winograd_tiles of = fc_winograd_chunk_tiles(fc_parts(v_strip, tiles), u_bytes,
                                                         p->filters);
    const int64_t fit = fc_most(1, of.fit / tiles), most = fc_most(1, of.most / tiles);
    int team = p->team;
    p->alone = team > 1 && (strips % team == 0 || strips >= 8 * team)
               && u_bytes <= 2 * strips * v_strip;
    if (!p->alone)
        team = 1;
    p->chunks = fc_strip_chunks(strips, fit, team);
    if (!p->alone && (strips <= most || (strips < 2 * fit && strips % fit < fit / 2)))
        p->chunks = 1;   /* rather one larger than two, since then U need not be kept */
    p->chunk = fc_parts(strips, p->chunks);
}

/* One block of filters reads V but once: it need be no larger than what a band reads, and is
 * still in L2 then. 64 channels take 0.99 of the time. */
static void narrow_chunks(fc_winograd_plan *p)
{
    const int team = p->alone ? p->team : 1;
    if (!p->kept || p->u.blocks > 1 || p->z.taps > 1 || team < p->team)
        return;
    p->chunks = fc_most(p->chunks, fc_strip_chunks(p->strips.strips, p->band, team));
    p->chunk = fc_parts(p->strips.strips, p->chunks);
    p->band = fc_least(p->band, p->chunk);
    fc_tiled_plan(&p->data, p->chunk);
}

/* Packed weights serve any image: they have all points. */
static void keep_all_points(fc_winograd_weights *u)
{
    u->y.points = u->y.all;
    u->x.points = u->x.all;
    u->points = u->y.points * u->x.points;
}

static void plan_products(fc_winograd_plan *p, int packed, int threads)
{
    const fc_line *y = &p->strips.y, *x = &p->strips.x;
    const double products = 2.0 * (double)(p->groups * p->z.taps * p->z.outputs)
                            * (double)(fc_line_products(y) * fc_line_products(x))
                            * (double)(p->strips.strips * p->strips.segment)
                            * (double)(p->channels * p->filters);
    p->team = fc_team_size(fc_useful_threads(threads, products));
    if (packed)
        keep_all_points(&p->u);
    fc_winograd_weights_slices(&p->u);
    p->data.strips = &p->strips;
    p->data.wide = fc_least(p->u.slice, p->channels);   /* what one product reads lies in a row */
    fc_tiled_plan(&p->data, 1);
    const int64_t segment = p->strips.segment;
    const int64_t v_strip = p->points * p->data.point * p->size;
    const int64_t taps = p->z.taps * p->data.phases;
    const int64_t u_bytes = p->points * taps * p->channels * p->filters * p->size;
    plan_chunks(p, v_strip, u_bytes);
    fc_tiled_plan(&p->data, p->chunk);
    p->kept = packed || p->chunks > 1;
    p->own = p->alone && p->kept && !packed && u_bytes <= OWN_BYTES;
    p->far = p->batch * p->groups * p->filters * p->out_plane * p->size > FAR_BYTES;
    p->x_far = p->z.cells == 1 && p->data.phases == 1
               && p->batch * p->data.image * p->size > FAR_BYTES;
    p->u_far = p->kept && u_bytes > U_FAR_BYTES;

    fc_winograd_weights_blocks(&p->u, p->kept);
    const int64_t tiles = fc_winograd_band_tiles(p->points * p->u.block * p->size, u_bytes);
    p->band = fc_least(fc_most(1, tiles / segment), p->chunk);
    narrow_chunks(p);
    p->deep = p->band < p->chunk ? 1 : fc_most(1, tiles / (p->band * segment));
    p->deep = fc_least(p->deep, p->z.outputs);
    p->m_point = fc_odd_lines(p->deep * p->band * segment * p->u.block, p->size);
}

/* The sum over `axis`, from a source (batch, groups, channels, in) to (.., filters, out). Returns
 * whether it fits. */
static int plan_sum(fc_winograd_plan *p, const fc_conv *conv, const fc_axis axis[3],
                    const int64_t in[3], const int64_t out[3], int64_t channels, int64_t filters)
{
    fc_line y, x;
    if (axis[0].taps < 1 || !fc_line_of(&axis[1], &y) || !fc_line_of(&axis[2], &x))
        return 0;
    fc_line_mix(&y, &x);
    const int64_t taps = fc_volume(conv->kernel), group = channels * filters * taps;
    *p = (fc_winograd_plan){
        .kernels = fc_active[conv->dtype], .lanes = fc_active[conv->dtype]->lanes,
        .size = conv->dtype == FC_F32 ? 4 : 8,
        .batch = conv->batch, .groups = conv->groups, .channels = channels, .filters = filters,
        .z = axis[0], .out_plane = fc_volume(out), .points = y.points * x.points,
        .strips = fc_strips_of(&y, &x, conv->batch),
    };
    p->u = (fc_winograd_weights){
        .kernels = p->kernels, .size = p->size, .lanes = p->lanes, .groups = p->groups,
        .channels = channels, .filters = filters, .z = axis[0], .y = y, .x = x,
        .points = p->points, .taps = taps, .from_group = group,
    };
    p->data = (fc_tiled){
        .kernels = p->kernels, .size = p->size, .lanes = p->lanes, .kind = FC_WINOGRAD_DATA,
        .image = conv->groups * channels * fc_volume(in), .group = channels * fc_volume(in),
        .channels = channels, .plane = fc_volume(in),
        .first_y = y.first, .first_x = x.first,
    };
    memcpy(p->data.cells, in, sizeof p->data.cells);
    memcpy(p->out, out, sizeof p->out);
    memcpy(p->u.kernel, conv->kernel, sizeof p->u.kernel);
    return 1;
}

/* y[n, f, o] = bias[f] + sum of x[n, c, o * stride + r * dilation - before] w[f, c, r] */
int fc_winograd_plan_forward(fc_winograd_plan *p, const fc_conv *conv, int packed, int threads)
{
    const int64_t channels = conv->in_channels / conv->groups;
    const fc_axis axis[3] = {fc_axis_forward(conv, 0), fc_axis_forward(conv, 1),
                             fc_axis_forward(conv, 2)};
    if (!plan_sum(p, conv, axis, conv->in, conv->out, channels, conv->out_channels / conv->groups))
        return 0;
    p->u.from_filter = channels * p->u.taps;
    p->u.from_channel = p->u.taps;
    plan_products(p, packed, threads);
    return 1;
}

/* dx[n, c, i] = sum of dy[n, f, o] w[f, c, r] where o * stride + r * dilation - before = i, for the
 * phase of i against the stride: channels and filters change places, and so do x and y. */
int fc_winograd_plan_grad_input(fc_winograd_plan *p, const fc_conv *conv,
                                const int64_t phase[3], int threads)
{
    const int64_t filters = conv->in_channels / conv->groups;
    const fc_axis axis[3] = {fc_axis_grad_input(conv, 0, phase[0]),
                             fc_axis_grad_input(conv, 1, phase[1]),
                             fc_axis_grad_input(conv, 2, phase[2])};
    if (!plan_sum(p, conv, axis, conv->out, conv->in, conv->out_channels / conv->groups, filters))
        return 0;
    p->u.from_filter = p->u.taps;
    p->u.from_channel = filters * p->u.taps;
    plan_products(p, 0, threads);
    return 1;
}

int64_t fc_winograd_live_taps(const fc_winograd_plan *p, int64_t depth, int64_t *first)
{
    int64_t live = 0;
    *first = 0;
    for (int64_t t = p->z.taps - 1; t >= 0; t--) {
        const int64_t cell = depth * p->z.step + p->z.offset + t * p->z.tap_step;
        if (cell < 0 || cell >= p->z.cells)
            continue;
        *first = t;
        live++;
    }
    return live;
}

int64_t fc_winograd_run_of_depths(const fc_winograd_plan *p, int64_t depth)
{
    int64_t first, other, run = 1;
    const int64_t taps = fc_winograd_live_taps(p, depth, &first);
    while (depth + run < p->z.outputs && fc_winograd_live_taps(p, depth + run, &other) == taps
           && other == first)
        run++;
    return fc_parts(run, fc_parts(run, p->deep));
}
