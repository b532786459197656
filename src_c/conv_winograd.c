#include "conv_winograd.h"

#include <string.h>

#include "arena.h"
#include "conv_plan.h"
#include "kernels.h"
#include "parallel.h"

/* How it goes. A strip is a run of tiles in one row of tiles; its data transform is V, one
 * matrix [tiles][channels] for each of the points of a tile. The weights of a block of filters
 * are U, a matrix [channels][filters] for each point. The products V U are M [tiles][filters],
 * and its transform is the output. Lanes are channels in V and filters in U and M, so neither
 * the shape of the image nor the number of tiles leaves lanes idle.
 *
 * A chunk of strips at a time: first all members of the team fill V, then each multiplies and
 * finishes some of (block of filters) x (band of strips). */

enum { LINE = 64, POINTS = FC_WINOGRAD_POINTS };

/* The size of a chunk's V, of one member's M and of one block's U, and of the cells that one
 * data transform stages: a share of L3, and about half of L2 and of L1. */
static const int64_t V_BYTES = 2 << 20, M_BYTES = 256 << 10, U_BYTES = 600 << 10,
                     STAGE_BYTES = 48 << 10;
/* Columns of a strip: its rows of vectors then fit L1 while they are transformed. */
static const int64_t STRIP_CELLS = 64;

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }
static int64_t parts(int64_t count, int64_t part) { return (count + part - 1) / part; }
static int64_t round_up(int64_t count, int64_t part) { return parts(count, part) * part; }

/* One axis as its tiles see it: tap i of output j meets cell j + first + i * spread, spread > 0.
 * Tile t holds outputs start(t) + i * spread, so that it is dense in its phase of the dilation,
 * and `spread` tiles in a row cover a dense run of outputs. */
typedef struct {
    int64_t taps, tile, points;
    int64_t outputs, cells, first, spread, tiles;
    int64_t weight, weight_step, place, place_step;
} line;

static line line_of(const fc_axis *axis)
{
    const int64_t r = axis->taps;
    line l = {
        .taps = r, .tile = r > 1 ? POINTS + 1 - r : 1, .points = r > 1 ? POINTS : 1,
        .outputs = axis->outputs, .cells = axis->cells, .first = axis->offset, .spread = 1,
        .weight = axis->weight, .weight_step = axis->weight_step,
        .place = axis->place, .place_step = axis->place_step,
    };
    if (r > 1 && axis->tap_step > 0)
        l.spread = axis->tap_step;
    if (r > 1 && axis->tap_step < 0) {   /* the same sum with the taps in the other order */
        l.spread = -axis->tap_step;
        l.first -= (r - 1) * l.spread;
        l.weight += (r - 1) * l.weight_step;
        l.weight_step = -l.weight_step;
    }
    const int64_t dense = l.tile * l.spread;
    l.tiles = l.outputs / dense * l.spread + least(l.outputs % dense, l.spread);
    return l;
}

static int64_t start(const line *l, int64_t tile)
{
    return tile / l->spread * l->tile * l->spread + tile % l->spread;
}

/* Everything that geometry decides. Channels and filters are those of one group; `filters` are
 * what the sum yields, in the forward pass out_channels. Strides are in elements. */
typedef struct {
    const fc_kernels *kernels;
    int64_t size, lanes;
    int64_t batch, groups, channels, filters;
    fc_axis z;
    line y, x;
    int64_t in[3], out[3], in_plane, out_plane, kernel[3], taps;
    int64_t w_filter, w_channel, w_group, w_total;
    int64_t points;

    int64_t segment, segments, strips;    /* tiles of a strip; strips in a row, in all images */
    int64_t width;                        /* cells that the tiles of a strip look at */
    int64_t stack, stage_rows;            /* strips that one data transform does, their rows */
    int64_t pitch, v_point, chunk;        /* of a tile in V, of a point in V; strips of a chunk */
    int64_t block, blocks, u_point, u_block;
    int64_t band, m_point;                /* strips of one product */
} plan;

static void plan_strips(plan *p)
{
    const line *x = &p->x, *y = &p->y;
    const int64_t dense = x->tile * x->spread, runs = parts(x->outputs, dense);
    const int64_t per = most(1, least(runs, STRIP_CELLS / dense));
    p->segments = parts(runs, per);
    p->segment = parts(runs, p->segments) * x->spread;
    p->segments = parts(runs * x->spread, p->segment);
    p->width = p->segment * x->tile + (x->taps - 1) * x->spread;
    p->strips = p->batch * p->segments * y->tiles;

    const int64_t reach = (y->points - 1) * y->spread + 1, row = p->width * p->lanes * p->size;
    const int64_t fit = (STAGE_BYTES / row - reach) / (y->tile * y->spread);
    p->stack = least(most(fit, 1) * y->spread, y->tiles);
    p->stage_rows = (parts(p->stack, y->spread) + 1) * y->tile * y->spread + reach;
}

/* A distance between rows that are walked together must not be a multiple of a page: they would
 * share one set of L1. */
static int64_t off_page(const plan *p, int64_t distance)
{
    return distance * p->size % 4096 ? distance : distance + LINE / p->size;
}

static void plan_products(plan *p)
{
    const int64_t line = LINE / p->size;
    const int64_t depth = p->z.cells * p->segment;
    p->points = p->y.points * p->x.points;
    p->pitch = round_up(p->channels, line);
    if (p->pitch * p->size % 1024 == 0)
        p->pitch += line;
    p->chunk = least(p->strips, most(1, V_BYTES / (depth * p->points * p->pitch * p->size)));
    p->v_point = off_page(p, p->chunk * depth * p->pitch);

    const int64_t filters = round_up(p->filters, p->lanes);
    const int64_t per_filter = p->points * p->z.taps * p->channels * p->size;
    const int64_t fit = most(U_BYTES / per_filter, line) / line * line;
    p->block = least(least(fit, 4 * line), filters);
    p->block = round_up(parts(filters, parts(filters, p->block)), most(line, p->lanes));
    p->block = least(p->block, filters);
    p->blocks = parts(filters, p->block);
    p->u_point = off_page(p, p->z.taps * p->channels * p->block);
    p->u_block = p->points * p->u_point;
    p->band = most(1, M_BYTES / (p->points * p->segment * p->block * p->size));
    p->band = least(p->band, p->chunk);
    p->m_point = off_page(p, p->band * p->segment * p->block);
}

static plan plan_sum(const fc_conv *conv, fc_axis z, fc_axis y, fc_axis x)
{
    const int64_t taps = conv->kernel[0] * conv->kernel[1] * conv->kernel[2];
    plan p = {
        .kernels = fc_active[conv->dtype],
        .size = conv->dtype == FC_F32 ? 4 : 8,
        .lanes = fc_active[conv->dtype]->lanes,
        .batch = conv->batch, .groups = conv->groups,
        .z = z, .y = line_of(&y), .x = line_of(&x), .taps = taps,
        .w_group = conv->out_channels / conv->groups * (conv->in_channels / conv->groups) * taps,
        .w_total = conv->out_channels * (conv->in_channels / conv->groups) * taps,
    };
    memcpy(p.kernel, conv->kernel, sizeof p.kernel);
    return p;
}

static void plan_forward(plan *to, const fc_conv *conv)
{
    plan p = plan_sum(conv, fc_axis_forward(conv, 0), fc_axis_forward(conv, 1),
                      fc_axis_forward(conv, 2));
    p.channels = conv->in_channels / conv->groups;
    p.filters = conv->out_channels / conv->groups;
    p.w_filter = p.channels * p.taps;
    p.w_channel = p.taps;
    memcpy(p.in, conv->in, sizeof p.in);
    memcpy(p.out, conv->out, sizeof p.out);
    p.in_plane = p.in[0] * p.in[1] * p.in[2];
    p.out_plane = p.out[0] * p.out[1] * p.out[2];
    plan_strips(&p);
    plan_products(&p);
    *to = p;
}

/* One call: the arrays and the scratch. Of the scratch, V, U and the tables are the team's. */
typedef struct {
    const plan *p;
    const char *x, *w, *packed;
    char *y;
    const char *bias;        /* (groups, blocks * block), or NULL */
    char *v, *u;
    int64_t *lane, *column, *slot;   /* of item i: i * lanes; its tile's column; i * pitch */
    char *member;            /* of each, member_bytes apart */
    size_t member_bytes;
    fc_barrier barrier;
} call;

/* A member's share of it. */
typedef struct {
    char *stage, *rows, *products, *weights;
    int64_t *a_row, *a_tap, *b_tap;
} scratch;

/* --- weights ------------------------------------------------------------------------------ */

enum { CHANNELS_AT_ONCE = 8 };   /* their taps and half-way points fit L1 */

static size_t weight_bytes(const plan *p)
{
    const int64_t taps = round_up(CHANNELS_AT_ONCE * p->taps, p->lanes) + p->lanes;
    return (size_t)((taps + CHANNELS_AT_ONCE * p->y.points * p->x.taps) * p->lanes * p->size);
}

/* From taps [channel][tap] of one vector of filters to its lanes of U. */
static void transform_taps(const plan *p, const char *taps, char *half, int64_t channels, char *u)
{
    const int64_t lanes = p->lanes, size = p->size, row = p->kernel[2];
    int64_t along_y[POINTS], along_x[POINTS], over[POINTS], point[POINTS];
    for (int64_t i = 0; i < POINTS; i++) {
        along_x[i] = i * p->x.weight_step * lanes;
        along_y[i] = i * lanes;
        over[i] = i * p->x.taps * lanes;
        point[i] = i * p->x.points * p->u_point;
    }
    p->kernels->winograd(&(fc_winograd){
        .kind = p->y.taps > 1 ? FC_WINOGRAD_FILTER : FC_WINOGRAD_COPY, .length = (int)p->y.taps,
        .rows = channels, .items = p->x.taps,
        .from = taps + (p->y.weight * row + p->x.weight) * lanes * size,
        .from_row = p->taps * lanes, .from_point = p->y.weight_step * row * lanes,
        .from_item = along_x,
        .to = half, .to_row = p->y.points * p->x.taps * lanes, .to_point = p->x.taps * lanes,
        .to_item = along_y});
    p->kernels->winograd(&(fc_winograd){
        .kind = p->x.taps > 1 ? FC_WINOGRAD_FILTER : FC_WINOGRAD_COPY, .length = (int)p->x.taps,
        .rows = channels, .items = p->y.points,
        .from = half, .from_row = p->y.points * p->x.taps * lanes, .from_point = lanes,
        .from_item = over,
        .to = u, .to_row = p->block, .to_point = p->u_point, .to_item = point});
}

/* U of one block of filters: [point][tap of z][channel][filter]. */
static void pack_block(const plan *p, const char *w, int64_t group, int64_t block, char *u,
                       char *weights)
{
    const int64_t lanes = p->lanes, size = p->size;
    const int64_t filters = least(p->block, p->filters - block * p->block);
    const char *end = w + p->w_total * size;
    char *half = weights + (round_up(CHANNELS_AT_ONCE * p->taps, lanes) + lanes) * lanes * size;
    for (int64_t f = 0; f < filters; f += lanes)
        for (int64_t c = 0; c < p->channels; c += CHANNELS_AT_ONCE) {
            const int64_t channels = least(CHANNELS_AT_ONCE, p->channels - c);
            const int64_t rows = least(lanes, filters - f);
            const char *from = w + (group * p->w_group + (block * p->block + f) * p->w_filter
                                    + c * p->w_channel) * size;
            if (p->w_channel == p->taps)
                p->kernels->to_lanes(from, p->w_filter, rows, end, channels * p->taps, weights);
            else
                for (int64_t i = 0; i < channels; i++)
                    p->kernels->to_lanes(from + i * p->w_channel * size, p->w_filter, rows, end,
                                         p->taps, weights + i * p->taps * lanes * size);
            for (int64_t t = 0; t < p->z.taps; t++) {
                const int64_t at = (p->z.weight + t * p->z.weight_step)
                                   * p->kernel[1] * p->kernel[2];
                transform_taps(p, weights + at * lanes * size, half, channels,
                               u + ((t * p->channels + c) * p->block + f) * size);
            }
        }
}

/* --- data --------------------------------------------------------------------------------- */

/* The cells of rows [top, bottom) and columns [left, right) of one plane, of one vector of
 * channels, to stage [row][column]; rows outside the plane are zero. */
static void stage_cells(const call *c, const char *plane, int64_t rows, int64_t top,
                        int64_t bottom, int64_t left, int64_t right, char *stage)
{
    const plan *p = c->p;
    const int64_t lanes = p->lanes, size = p->size, width = right - left;
    const int64_t first = least(most(top, 0), bottom), last = most(least(bottom, p->y.cells), first);
    const char *end = c->x + p->batch * p->groups * p->channels * p->in_plane * size;
    const int64_t row = width * lanes * size;
    const char *from = plane + (first * p->in[2] + left) * size;
    char *to = stage + (first - top) * row;
    memset(stage, 0, (size_t)((first - top) * row));
    if (width == p->in[2])
        p->kernels->to_lanes(from, p->in_plane, rows, end, (last - first) * width, to);
    else if (width > 0)
        for (int64_t i = first; i < last; i++, from += p->in[2] * size, to += row)
            p->kernels->to_lanes(from, p->in_plane, rows, end, width, to);
    memset(stage + (last - top) * row, 0, (size_t)((bottom - last) * row));
}

/* V of `count` strips one below the other, for one vector of channels in one plane. */
static void transform_data(const call *c, const scratch *s, int64_t group, int64_t vector,
                           int64_t depth, int64_t strip, int64_t count, char *v)
{
    const plan *p = c->p;
    const line *x = &p->x, *y = &p->y;
    const int64_t lanes = p->lanes, size = p->size;
    const int64_t row = strip % y->tiles, segment = strip / y->tiles % p->segments;
    const int64_t item = strip / y->tiles / p->segments;
    const int64_t channel = (item * p->groups + group) * p->channels + vector * lanes;
    const int64_t top = y->first + start(y, row);
    const int64_t bottom = y->first + start(y, row + count - 1) + (y->points - 1) * y->spread + 1;
    const int64_t from = x->first + segment * p->segment * x->tile;
    const int64_t left = least(most(from, 0), x->cells);
    const int64_t right = most(least(from + p->width, x->cells), left);
    const int64_t tiles = least(p->segment, x->tiles - segment * p->segment);
    stage_cells(c, c->x + (channel * p->in_plane + depth * p->in[1] * p->in[2]) * size,
                least(lanes, p->channels - vector * lanes), top, bottom, left, right, s->stage);
    for (int64_t i = 0; i < y->points; i++) {
        char *line = s->rows + i * p->width * lanes * size;
        memset(line, 0, (size_t)(least(most(left - from, 0), p->width) * lanes * size));
        memset(line + (right - from) * lanes * size, 0,
               (size_t)((p->width - (right - from)) * lanes * size));
    }
    for (int64_t i = 0; i < count; i++) {
        const int64_t below = y->first + start(y, row + i) - top;
        p->kernels->winograd(&(fc_winograd){
            .kind = y->taps > 1 ? FC_WINOGRAD_DATA : FC_WINOGRAD_COPY,
            .length = y->taps > 1 ? POINTS : 1, .rows = 1, .items = right - left,
            .from = s->stage + below * (right - left) * lanes * size,
            .from_point = y->spread * (right - left) * lanes, .from_item = c->lane,
            .to = s->rows + (left - from) * lanes * size, .to_point = p->width * lanes,
            .to_item = c->lane});
        p->kernels->winograd(&(fc_winograd){
            .kind = x->taps > 1 ? FC_WINOGRAD_DATA : FC_WINOGRAD_COPY,
            .length = x->taps > 1 ? POINTS : 1, .rows = y->points, .items = tiles,
            .from = s->rows, .from_row = p->width * lanes, .from_point = x->spread * lanes,
            .from_item = c->column,
            .to = v + i * p->z.cells * p->segment * p->pitch * size,
            .to_row = x->points * p->v_point, .to_point = p->v_point, .to_item = c->slot});
    }
}

/* This member's share of V for strips [first, first + count). */
static void fill(const call *c, const scratch *s, int64_t group, int64_t first, int64_t count,
                 int member, int team)
{
    const plan *p = c->p;
    const int64_t vectors = parts(p->channels, p->lanes);
    int64_t unit, end;
    fc_share(vectors * p->z.cells * count, member, team, &unit, &end);
    while (unit < end) {
        const int64_t strip = first + unit % count, depth = unit / count % p->z.cells;
        const int64_t vector = unit / count / p->z.cells;
        int64_t run = least(p->stack, p->y.tiles - strip % p->y.tiles);
        run = least(run, least(end - unit, count - unit % count));
        transform_data(c, s, group, vector, depth, strip, run,
                       c->v + (((strip - first) * p->z.cells + depth) * p->segment * p->pitch
                               + vector * p->lanes) * p->size);
        unit += run;
    }
}

/* --- products ----------------------------------------------------------------------------- */

/* M of `count` strips of the chunk from `strip` on, at one depth of the output. */
static int64_t multiply(const call *c, const scratch *s, const char *u, int64_t first,
                        int64_t strip, int64_t count, int64_t depth)
{
    const plan *p = c->p;
    int64_t rows = 0, taps = 0;
    for (int64_t i = 0; i < count; i++) {
        const int64_t segment = (strip + i) / p->y.tiles % p->segments;
        const int64_t tiles = least(p->segment, p->x.tiles - segment * p->segment);
        for (int64_t t = 0; t < tiles; t++)
            s->a_row[rows++] = ((strip + i - first) * p->z.cells * p->segment + t) * p->pitch;
    }
    for (int64_t t = 0; t < p->z.taps; t++) {
        const int64_t cell = depth * p->z.step + p->z.offset + t * p->z.tap_step;
        if (cell < 0 || cell >= p->z.cells)
            continue;
        s->a_tap[taps] = cell * p->segment * p->pitch;
        s->b_tap[taps++] = t * p->channels * p->block;
    }
    for (int64_t i = 0; i < p->points; i++)
        p->kernels->gemm(&(fc_gemm){
            .m = rows, .n = p->block, .taps = taps, .k = p->channels,
            .a = c->v + i * p->v_point * p->size,
            .a_row = s->a_row, .a_tap = s->a_tap, .a_step = 1,
            .b = u + i * p->u_point * p->size, .b_tap = s->b_tap, .b_step = p->block,
            .c = s->products + i * p->m_point * p->size, .c_row = p->block});
    return rows;
}

/* Outputs [row][column] of one vector of filters to their places. */
static void store_outputs(const plan *p, const char *outputs, char *rows, char *y, int64_t filters,
                          int64_t height, int64_t width)
{
    const int64_t lanes = p->lanes, size = p->size;
    const int64_t row_step = p->y.spread * p->y.place_step * p->out[2];
    if (p->x.place_step == 1 && (height == 1 || (row_step == width))) {
        p->kernels->from_lanes(outputs, height * width, y, p->out_plane, filters);
        return;
    }
    for (int64_t i = 0; i < height; i++, outputs += width * lanes * size, y += row_step * size) {
        if (p->x.place_step == 1) {
            p->kernels->from_lanes(outputs, width, y, p->out_plane, filters);
            continue;
        }
        p->kernels->from_lanes(outputs, width, rows, width, filters);
        p->kernels->copy_rows(rows, width, y, p->out_plane, p->x.place_step, filters, width);
    }
}

/* From M, whose first row is the strip's first tile, to the outputs of one strip and vector of
 * filters. */
static void finish(const call *c, const scratch *s, int64_t group, int64_t strip, int64_t depth,
                   int64_t filter, const char *products)
{
    const plan *p = c->p;
    const line *x = &p->x, *y = &p->y;
    const int64_t lanes = p->lanes, size = p->size;
    const int64_t segment = strip / y->tiles % p->segments, item = strip / y->tiles / p->segments;
    const int64_t tiles = least(p->segment, x->tiles - segment * p->segment);
    const int64_t top = start(y, strip % y->tiles), left = segment * p->segment * x->tile;
    const int64_t height = least(y->tile, parts(y->outputs - top, y->spread));
    const int64_t width = least(p->segment * x->tile, x->outputs - left);
    int64_t *row = s->a_row;
    for (int64_t t = 0; t < tiles; t++)
        row[t] = t * p->block;
    p->kernels->winograd(&(fc_winograd){
        .kind = x->taps > 1 ? FC_WINOGRAD_OUTPUT : FC_WINOGRAD_COPY, .length = (int)x->tile,
        .rows = y->points, .items = tiles,
        .from = products, .from_row = x->points * p->m_point, .from_point = p->m_point,
        .from_item = row,
        .to = s->rows, .to_row = p->width * lanes, .to_point = x->spread * lanes,
        .to_item = c->column});
    p->kernels->winograd(&(fc_winograd){
        .kind = y->taps > 1 ? FC_WINOGRAD_OUTPUT : FC_WINOGRAD_COPY, .length = (int)y->tile,
        .rows = 1, .items = width,
        .from = s->rows, .from_point = p->width * lanes, .from_item = c->lane,
        .to = s->stage, .to_point = width * lanes, .to_item = c->lane,
        .bias = c->bias ? c->bias + (group * p->blocks * p->block + filter) * size : NULL});
    const int64_t plane = (item * p->groups + group) * p->filters + filter;
    const int64_t at = ((p->z.place + depth * p->z.place_step) * p->out[1]
                        + y->place + top * y->place_step) * p->out[2]
                       + x->place + left * x->place_step;
    store_outputs(p, s->stage, s->rows, c->y + (plane * p->out_plane + at) * size,
                  least(lanes, p->filters - filter), height, width);
}

/* This member's share of the products and outputs of strips [first, first + count). */
static void drain(const call *c, const scratch *s, int64_t group, int64_t first, int64_t count,
                  int member, int team)
{
    const plan *p = c->p;
    const int64_t bands = parts(count, p->band);
    int64_t unit, end, packed = -1;
    fc_share(p->blocks * p->z.outputs * bands, member, team, &unit, &end);
    for (; unit < end; unit++) {
        const int64_t block = unit / bands / p->z.outputs, depth = unit / bands % p->z.outputs;
        const int64_t strip = first + unit % bands * p->band;
        const int64_t strips = least(p->band, first + count - strip);
        const char *u = s->weights;
        if (c->packed)
            u = c->packed + (group * p->blocks + block) * p->u_block * p->size;
        else if (packed != block)
            pack_block(p, c->w, group, packed = block, s->weights,
                       s->weights + p->u_block * p->size);
        multiply(c, s, u, first, strip, strips, depth);
        const char *m = s->products;
        for (int64_t i = 0; i < strips; i++) {
            const int64_t segment = (strip + i) / p->y.tiles % p->segments;
            const int64_t last = least((block + 1) * p->block, p->filters);
            for (int64_t f = block * p->block; f < last; f += p->lanes)
                finish(c, s, group, strip + i, depth, f, m + (f - block * p->block) * p->size);
            m += least(p->segment, p->x.tiles - segment * p->segment) * p->block * p->size;
        }
    }
}

/* --- a call ------------------------------------------------------------------------------- */

/* A piece of the block at `base`: its start, and `*used` moved past it. */
static void *carve(char *base, size_t *used, int64_t bytes)
{
    void *piece = base ? base + *used : NULL;
    *used += (size_t)round_up(bytes, LINE);
    return piece;
}

static size_t carve_member(const plan *p, char *base, scratch *s)
{
    const int64_t vector = p->lanes * p->size;
    size_t used = 0;
    const int64_t outputs = p->y.tile * p->width;
    s->stage = carve(base, &used, (most(p->stage_rows * p->width, outputs) + p->lanes) * vector);
    s->rows = carve(base, &used, p->y.points * p->width * vector);
    s->products = carve(base, &used, p->points * p->m_point * p->size);
    s->a_row = carve(base, &used, p->band * p->segment * (int64_t)sizeof(int64_t));
    s->a_tap = carve(base, &used, p->z.taps * (int64_t)sizeof(int64_t));
    s->b_tap = carve(base, &used, p->z.taps * (int64_t)sizeof(int64_t));
    s->weights = carve(base, &used, p->u_block * p->size + (int64_t)weight_bytes(p));
    return used;
}

static size_t carve_call(call *c, char *base, const void *bias, int pack)
{
    const plan *p = c->p;
    size_t used = 0;
    const int64_t biases = p->groups * p->blocks * p->block;
    c->lane = carve(base, &used, p->width * (int64_t)sizeof(int64_t));
    c->column = carve(base, &used, p->segment * (int64_t)sizeof(int64_t));
    c->slot = carve(base, &used, p->segment * (int64_t)sizeof(int64_t));
    c->bias = bias ? carve(base, &used, biases * p->size) : NULL;
    c->v = carve(base, &used, p->points * p->v_point * p->size);
    c->u = pack ? carve(base, &used, p->groups * p->blocks * p->u_block * p->size) : NULL;
    return used;
}

static void fill_tables(call *c, const char *bias)
{
    const plan *p = c->p;
    for (int64_t i = 0; i < p->width; i++)
        c->lane[i] = i * p->lanes;
    for (int64_t i = 0; i < p->segment; i++) {
        c->column[i] = start(&p->x, i) * p->lanes;
        c->slot[i] = i * p->pitch;
    }
    for (int64_t g = 0; bias && g < p->groups; g++)
        memcpy((char *)c->bias + g * p->blocks * p->block * p->size,
               bias + g * p->filters * p->size, (size_t)(p->filters * p->size));
}

static void pack_share(const plan *p, const char *w, char *u, char *weights, int member, int team)
{
    int64_t unit, end;
    fc_share(p->groups * p->blocks, member, team, &unit, &end);
    for (; unit < end; unit++)
        pack_block(p, w, unit / p->blocks, unit % p->blocks, u + unit * p->u_block * p->size,
                   weights);
}

static void work(void *context, int member, int team)
{
    call *c = context;
    const plan *p = c->p;
    scratch s;
    carve_member(p, c->member + (size_t)member * c->member_bytes, &s);
    if (c->u) {
        pack_share(p, c->w, c->u, s.weights + p->u_block * p->size, member, team);
        fc_barrier_wait(&c->barrier, team);
    }
    for (int64_t group = 0; group < p->groups; group++)
        for (int64_t first = 0; first < p->strips; first += p->chunk) {
            const int64_t count = least(p->chunk, p->strips - first);
            fill(c, &s, group, first, count, member, team);
            fc_barrier_wait(&c->barrier, team);
            drain(c, &s, group, first, count, member, team);
            fc_barrier_wait(&c->barrier, team);
        }
}

static int run(const plan *p, const void *x, const void *w, const void *packed, const void *bias,
               void *y, int threads)
{
    call c = {.p = p, .x = x, .w = w, .packed = packed, .y = y};
    const double products = 2.0 * (double)(p->groups * p->points * p->z.taps)
                            * (double)(p->strips * p->segment * p->channels * p->filters);
    const int team = fc_team_size(fc_useful_threads(threads, products));
    /* Weights that more than one chunk needs are transformed first, others when their turn comes. */
    const int pack = !packed && p->chunk < p->strips;
    scratch s;
    const size_t shared = carve_call(&c, NULL, bias, pack);
    c.member_bytes = carve_member(p, NULL, &s) + 17 * LINE;   /* not a multiple of a page */
    char *block = fc_arena_take(shared + (size_t)team * c.member_bytes);
    if (!block)
        return FC_NO_MEMORY;
    carve_call(&c, block, bias, pack);
    c.member = block + shared;
    if (c.u)
        c.packed = c.u;
    fill_tables(&c, bias);
    fc_parallel(team, work, &c);
    fc_arena_give(block);
    return FC_OK;
}

static int fits(const fc_axis *y, const fc_axis *x)
{
    return y->step == 1 && x->step == 1 && y->taps >= 1 && x->taps >= 1 && y->taps <= POINTS - 1
        && x->taps <= POINTS - 1 && (y->taps > 1 || x->taps > 1) && y->tap_step && x->tap_step;
}

int fc_winograd_fits(const fc_conv *conv)
{
    const fc_axis y = fc_axis_forward(conv, 1), x = fc_axis_forward(conv, 2);
    return fits(&y, &x);
}

int fc_winograd_forward(const fc_conv *conv, const void *x, const void *w, const void *bias,
                        void *y, int threads)
{
    plan p;
    plan_forward(&p, conv);
    return run(&p, x, w, NULL, bias, y, threads);
}

size_t fc_winograd_packed_bytes(const fc_conv *conv)
{
    plan p;
    plan_forward(&p, conv);
    return (size_t)(p.groups * p.blocks * p.u_block * p.size);
}

typedef struct { const plan *p; const char *w; char *packed, *weights; size_t bytes; } packing;

static void pack_work(void *context, int member, int team)
{
    packing *k = context;
    pack_share(k->p, k->w, k->packed, k->weights + (size_t)member * k->bytes, member, team);
}

int fc_winograd_pack(const fc_conv *conv, const void *w, void *packed, int threads)
{
    plan p;
    plan_forward(&p, conv);
    const int team = fc_team_size(threads);
    const size_t bytes = weight_bytes(&p);
    packing k = {&p, w, packed, fc_arena_take((size_t)team * bytes), bytes};
    if (!k.weights)
        return FC_NO_MEMORY;
    fc_parallel(team, pack_work, &k);
    fc_arena_give(k.weights);
    return FC_OK;
}

int fc_winograd_forward_packed(const fc_conv *conv, const void *x, const void *w,
                               const void *packed, const void *bias, void *y, int threads)
{
    plan p;
    plan_forward(&p, conv);
    return run(&p, x, w, packed, bias, y, threads);
}
