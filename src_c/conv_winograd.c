/* Forward pass and input gradient by Winograd's algorithm.
 *
 * The transform of a strip's data is V, a matrix [tile][channel] for each point of a tile; that of
 * the weights U, a matrix [channel][filter] for each point. Their products M [tile][filter] make
 * the outputs. Lanes are channels in V and filters in U and M, so neither the shape of the image
 * nor the number of tiles leaves lanes idle.
 *
 * A chunk of strips at a time: V is filled, then (block of filters) x (run of depths) x (band of
 * strips) are multiplied and finished. Where there are strips enough, each member of the team
 * has chunks of its own, and nothing to wait for; else they share the chunk, first the filling,
 * then the blocks of filters. Channels are summed in slices (conv_winograd_weights.h), each one
 * chain, whose sums are added in order.
 */
#include "conv_winograd.h"

#include <string.h>

#include "arena.h"
#include "conv_thin.h"
#include "conv_winograd_mend.h"
#include "conv_winograd_plan.h"
#include "parallel.h"

/* Filters are rounded up to so many bytes: half a vector of AVX-512, which takes half its time. */
enum { HALF_VECTOR = 32 };

/* With so many chunks a member, those who are done early take of the others': on two threads
 * 1.05 to 1.3 times as fast with 14 to 16, while cores are shared with strangers; with 2 to 4 it
 * is 0.97, as what was in the other's cache is fetched. */
enum { MANY_CHUNKS = 8 };

typedef fc_winograd_plan plan;

/* One call: the arrays and the scratch. Of the scratch, V, U and the tables are the team's. */
typedef struct {
    const plan *p;
    fc_tiled data;
    const char *x, *w, *packed;
    char *y;
    const char *bias;        /* (groups, blocks * block), or NULL */
    char *v, *u;
    fc_vectors by[2];
    int64_t *slot, *m_tile;  /* see fc_tiled; i * block */
    char *member;            /* of each, member_bytes apart */
    size_t member_bytes;
    int status;
    fc_barrier barrier;
    fc_units chunks;         /* where members have chunks of their own */
} call;

/* A member's share of it. */
typedef struct {
    char *stage, *rows, *products, *u, *weights;
    char *v;                 /* NULL: the team's */
    const char *kept;        /* U, where it is not transformed as it is needed */
    int64_t *a_row, *a_tap, *b_tap;
} scratch;

/* --- products ----------------------------------------------------------------------------- */

/* How many taps of z meet a plane of the source, for one depth of the output; the first of them. */
static int64_t live_taps(const plan *p, int64_t depth, int64_t *first)
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

/* Depths that see the same taps are done together, `deep` at most: U passes by once for them. */
static int64_t run_of_depths(const plan *p, int64_t depth)
{
    int64_t first, other, run = 1;
    const int64_t taps = live_taps(p, depth, &first);
    while (depth + run < p->z.outputs && live_taps(p, depth + run, &other) == taps
           && other == first)
        run++;
    return fc_parts(run, fc_parts(run, p->deep));
}

/* See fc_winograd_place. */
static char *place(const call *c, const fc_strip *at, int64_t group, int64_t filter, int64_t depth,
                   int64_t i)
{
    return c->y + fc_winograd_place(c->p, at, group, filter, depth, i) * c->p->size;
}

static const char *bias_of(const call *c, int64_t group, int64_t filter)
{
    const plan *p = c->p;
    return c->bias ? c->bias + (group * p->u.blocks * p->u.block + filter) * p->size : NULL;
}

/* One slice of the products of one block of filters, run of depths and band of strips. */
typedef struct { int64_t group, block, slice, depth, depths, strip, count; } part;

/* A chunk, strips [first, first + count), and those of the next one, of which there may be none;
 * of what a member does for this chunk, `done` units of `all` are done. */
typedef struct { int64_t group, first, count, next, more, done, all; } chunk;

/* Of a band's outputs about the share `share` of `parts`, for as many filters as the product has
 * rows of B. Only to be asked for. */
static fc_rows outputs_soon(const call *c, const part *of, int64_t share, int64_t parts)
{
    const plan *p = c->p;
    const fc_line *x = &p->strips.x, *y = &p->strips.y;
    const int64_t row = p->out[2] * p->size, below = y->spread * y->place_step;
    const int whole = p->strips.segments == 1 && below == 1;   /* whole rows lie side by side */
    const int64_t rows = whole ? 1 : y->tile;
    const int64_t wide = p->strips.segment * x->tile * x->place_step * p->size;
    const int64_t length = whole ? y->tile * row : fc_least(wide, row);
    const int64_t strips = of->depths * of->count;
    const fc_run_part some = fc_share_runs(strips * rows, length, p->size, share, parts);
    if (some.bytes <= 0)
        return (fc_rows){0};
    const int64_t strip = some.run / rows, i = some.run % rows;
    const fc_strip at = fc_strip_at(&p->strips, of->strip + strip % of->count);
    const char *from = place(c, &at, of->group, of->block * p->u.block,
                             of->depth + strip / of->count, fc_least(i, at.height - 1));
    return (fc_rows){from + some.from, p->out_plane * p->size, some.bytes};
}

/* The terms of a product at one point: taps first, first + 1, .. of z, all phases that are live
 * there. Returns how many there are. */
static int64_t list_terms(const plan *p, const scratch *s, int64_t depth, int64_t first,
                          int64_t taps, int64_t channels, int64_t point)
{
    const fc_line *x = &p->strips.x, *y = &p->strips.y;
    const int64_t plane = p->strips.segment * p->data.pitch, phases = p->data.phases;
    const int64_t down = fc_line_live(y, point / x->points);
    const int64_t across = fc_line_live(x, point % x->points);
    int64_t terms = 0;
    for (int64_t t = first; t < first + taps; t++)
        for (int64_t i = 0; i < down * across; i++) {
            const int64_t phase = i / across * x->phases + i % across;
            const int64_t z = depth * p->z.step + p->z.offset + t * p->z.tap_step;
            s->a_tap[terms] = (z * phases + phase) * plane;
            s->b_tap[terms++] = (t * phases + phase) * channels * p->u.block;
        }
    return terms;
}

/* Where U has the point that a tile counts as its i-th. */
static int64_t u_point(const plan *p, int64_t i)
{
    const int64_t across = p->strips.x.points;
    return i / across * p->u.x.points + i % across;
}

/* A band's tiles in M, by what they have less: first such as lack infinity along x, then whole
 * ones, then such as lack it along y, then along both. So at each point those that have it lie
 * in a row. start[y][x] is where the first of a kind stands. */
typedef struct { int64_t start[2][2], all; } order;

static order order_of(const plan *p, const part *of)
{
    int64_t count[2][2] = {{0}};
    for (int64_t i = 0; i < of->count; i++) {
        const fc_strip at = fc_strip_at(&p->strips, of->strip + i);
        count[at.less][0] += of->depths * at.whole;
        count[at.less][1] += of->depths * (at.tiles - at.whole);
    }
    const int64_t whole = count[0][1], less_y = whole + count[0][0];
    const int64_t less_both = less_y + count[1][0];
    return (order){{{whole, 0}, {less_y, less_both}}, less_both + count[1][1]};
}

/* What is needed behind the product at point i: U and V of the next one, the band's outputs, cells
 * of the next chunk. */
static void look_ahead(const call *c, const char *u, const part *of, const chunk *at, int64_t i,
                       fc_gemm *g)
{
    const plan *p = c->p;
    const int64_t word = p->size;
    if (i + 1 < p->points) {
        if (p->u_far)
            g->soon[0] = (fc_rows){u + u_point(p, i + 1) * p->u.to_point * word,
                                   p->u.block * word, g->n * word};
        g->soon[1] = (fc_rows){(const char *)g->a + (p->data.point + g->a_row[0]) * word,
                               p->data.pitch * word, g->k * word};
    }
    /* Blocks whose outputs are asked for at once: those that B has rows for. */
    const int64_t blocks = fc_most(1, g->taps * g->k / p->u.block);
    if (p->far && of->slice == p->u.slices - 1 && of->block % blocks == 0)
        g->soon[2] = outputs_soon(c, of, i, p->points);
    if (at->more > 0)
        g->soon[3] = fc_tiled_soon(&c->data, at->group, of->slice * p->u.slice, at->next, at->more,
                                   at->done * p->points + i, at->all * p->points);
}

/* At point i: taps [tap, tap + taps) of z, as many terms at once as keep a chain of sums short. */
static void multiply_point(const call *c, const scratch *s, const char *u, const part *of,
                           const chunk *at, const order *rows, int64_t i, int64_t tap, int64_t taps)
{
    const plan *p = c->p;
    const int64_t filters = fc_least(p->u.block, p->filters - of->block * p->u.block);
    const int64_t channels = fc_least(p->u.slice, p->channels - of->slice * p->u.slice);
    const int64_t terms = list_terms(p, s, of->depth, tap, taps, channels, i), word = p->size;
    const int64_t once = fc_winograd_terms_at_once(p->u.slice, taps ? terms / taps : 1);
    const fc_line *y = &p->strips.y, *x = &p->strips.x;
    const int last_y = i / x->points == y->points - 1, last_x = i % x->points == x->points - 1;
    const int64_t from = last_x ? rows->start[0][0] : 0;
    const int64_t end = last_y ? rows->start[1][0] : last_x ? rows->start[1][1] : rows->all;
    fc_gemm g = {
        .m = end - from, .n = fc_round_up(filters, HALF_VECTOR / word), .k = channels,
        .a = s->v + (i * p->data.point + of->slice * p->data.block) * word,
        .a_row = s->a_row + from, .a_step = 1,
        .b = u + u_point(p, i) * p->u.to_point * word, .b_step = p->u.block,
        .c = s->products + (i * p->m_point + from * p->u.block) * word, .c_row = p->u.block,
        .accumulate = of->slice > 0};
    for (int64_t t = 0; t == 0 || t < terms; t += once, g.accumulate = 1) {
        g.taps = fc_least(once, terms - t);
        g.a_tap = s->a_tap + t;
        g.b_tap = s->b_tap + t;
        if (t + once >= terms)
            look_ahead(c, u, of, at, i, &g);
        p->kernels->gemm(&g);
    }
}

/* M of one band and block of filters: the terms of one slice of channels. */
static void multiply(const call *c, const scratch *s, const char *u, const part *of,
                     const chunk *at)
{
    const plan *p = c->p;
    const int64_t below = p->z.step * p->data.phases * p->strips.segment * p->data.pitch;
    const order rows = order_of(p, of);
    int64_t tap, next[2][2];
    memcpy(next, rows.start, sizeof next);
    const int64_t taps = live_taps(p, of->depth, &tap);
    for (int64_t depth = 0; depth < of->depths; depth++)
        for (int64_t i = 0; i < of->count; i++) {
            const fc_strip strip = fc_strip_at(&p->strips, of->strip + i);
            const int64_t v = depth * below + (of->strip + i - at->first) * p->data.strip;
            for (int64_t t = 0; t < strip.tiles; t++)
                s->a_row[next[strip.less][t >= strip.whole]++] = v + t * p->data.pitch;
        }
    for (int64_t i = 0; i < p->points; i++)
        multiply_point(c, s, u, of, at, &rows, i, tap, taps);
}

/* Outputs [row][column] of one vector of filters to their places. */
static void store(const call *c, const scratch *s, const fc_vectors *by, const fc_strip *at,
                  int64_t group, int64_t filter, int64_t depth)
{
    const plan *p = c->p;
    const fc_line *x = &p->strips.x, *y = &p->strips.y;
    const int64_t filters = fc_least(by->lanes, p->filters - filter);
    if (x->place_step == 1 && y->spread * y->place_step * p->out[2] == at->width) {
        by->kernels->from_lanes(s->stage, at->height * at->width,
                                place(c, at, group, filter, depth, 0), p->out_plane, filters);
        return;
    }
    for (int64_t i = 0; i < at->height; i++) {
        const char *from = s->stage + i * at->width * by->lanes * p->size;
        char *to = place(c, at, group, filter, depth, i);
        if (x->place_step == 1) {
            by->kernels->from_lanes(from, at->width, to, p->out_plane, filters);
            continue;
        }
        by->kernels->from_lanes(from, at->width, s->rows, at->width, filters);
        by->kernels->copy_rows(&(fc_copy){
            .from = s->rows, .from_row = at->width, .from_step = 1, .to = to,
            .to_row = p->out_plane, .to_step = x->place_step, .rows = filters,
            .length = at->width});
    }
}

/* From M, whose rows begin at `products` for whole tiles, at `less` for those without infinity
 * along x, to the outputs of one strip and vector of filters. Returns whether all of M was
 * finite. */
static int finish(const call *c, const scratch *s, const fc_strip *at, int64_t group,
                  int64_t filter, int64_t depth, const char *products, const char *less)
{
    const plan *p = c->p;
    const fc_line *x = &p->strips.x, *y = &p->strips.y;
    const fc_vectors *by = fc_vectors_for(c->by, p->filters - filter);
    const int64_t lanes = by->lanes, across = p->strips.width;
    const int64_t filters = fc_least(lanes, p->filters - filter);
    const void *bias = bias_of(c, group, filter);
    const fc_winograd along_x = {
        .kind = x->taps > 1 ? FC_WINOGRAD_OUTPUT : FC_WINOGRAD_COPY, .points = (int)x->all,
        .less = fc_line_less(x), .length = (int)x->tile, .live = filters, .rows = y->points,
        .items = at->tiles,
        .from = products, .from_row = x->points * p->m_point, .from_point = p->m_point,
        .from_item = c->m_tile,
        .to = s->rows, .to_row = across * lanes, .to_point = x->spread * lanes,
        .to_item = by->output};
    fc_winograd along_y = {
        .kind = FC_WINOGRAD_OUTPUT, .points = (int)y->all, .length = (int)y->tile,
        .less = fc_line_less(y), .live = filters, .rows = 1, .items = at->width,
        .from = s->rows, .from_point = across * lanes, .from_item = by->item,
        .to = s->stage, .to_point = at->width * lanes, .to_item = by->item, .bias = bias};
    int finite;
    if (y->length == x->length && y->tile == x->tile && y->taps > 1) {   /* most kernels; 0.8 of the time of two passes */
        fc_winograd_outputs outputs = {
            .points = (int)x->all, .length = (int)x->tile, .less_y = fc_line_less(y) + at->less,
            .less_x = fc_line_less(x), .live = filters, .tiles = at->whole, .step = x->tile,
            .spread = x->spread, .width = at->width, .from = products, .from_tile = p->u.block,
            .from_row = x->points * p->m_point, .from_point = p->m_point,
            .to = s->stage, .to_y = at->width * lanes, .bias = bias};
        finite = by->kernels->winograd_outputs(&outputs);
        if (at->whole < at->tiles) {
            const int64_t done = at->whole * x->tile;   /* columns */
            outputs.less_x = 1;
            outputs.tiles = at->tiles - at->whole;
            outputs.step = x->tile - 1;
            outputs.width = at->width - done;
            outputs.from = less;
            outputs.to = s->stage + done * lanes * p->size;
            finite &= by->kernels->winograd_outputs(&outputs);
        }
    } else if (y->taps == 1) {
        fc_winograd only = along_x;
        only.to = s->stage;
        only.bias = bias;
        finite = by->kernels->winograd(&only);
    } else if (x->taps == 1) {   /* a tile is a column */
        along_y.from = products;
        along_y.from_point = p->m_point;
        along_y.from_item = c->m_tile;
        finite = by->kernels->winograd(&along_y);
    } else {
        by->kernels->winograd(&along_x);
        finite = by->kernels->winograd(&along_y);
    }
    store(c, s, by, at, group, filter, depth);
    return finite;
}

/* --- a call ------------------------------------------------------------------------------- */

/* Outputs of a band, from their M. */
static void finish_band(call *c, const scratch *s, const part *of)
{
    const plan *p = c->p;
    const int64_t row = p->u.block * p->size;
    order rows = order_of(p, of);
    const int64_t begin = of->block * p->u.block, last = fc_least(begin + p->u.block, p->filters);
    for (int64_t i = 0; i < of->depths * of->count; i++) {
        const fc_strip at = fc_strip_at(&p->strips, of->strip + i % of->count);
        const int64_t depth = of->depth + i / of->count;
        int64_t *next = rows.start[at.less];
        int finite = 1;
        for (int64_t f = begin; f < last; f += p->lanes) {
            const char *m = s->products + (f - begin) * p->size;
            finite &= finish(c, s, &at, of->group, f, depth, m + next[0] * row, m + next[1] * row);
        }
        next[0] += at.whole;
        next[1] += at.tiles - at.whole;
        if (!finite && fc_winograd_mend(p, c->x, c->w, bias_of(c, of->group, begin), c->y, &at,
                                        of->group, of->block, depth) != FC_OK)
            __atomic_store_n(&c->status, FC_NO_MEMORY, __ATOMIC_RELAXED);
    }
}

/* Where one slice of U is: kept for all, or transformed now where `fresh`. */
static const char *slice_of(const call *c, const scratch *s, const part *of, int64_t bands,
                            int fresh)
{
    const plan *p = c->p;
    if (s->kept)
        return s->kept + ((of->group * p->u.blocks + of->block) * p->u.slices + of->slice)
                         * p->u.to_slice * p->size;
    char *u = s->u + (bands > 1 ? of->slice * p->u.to_slice * p->size : 0);
    if (fresh)
        fc_winograd_weights_slice(&p->u, c->w, of->group, of->block, of->slice, u, s->weights);
    return u;
}

/* This member's share of a chunk's products and outputs. */
static void drain(call *c, const scratch *s, chunk at, int member, int team)
{
    const plan *p = c->p;
    const int64_t bands = fc_parts(at.count, p->band), deep = p->z.outputs;
    int64_t unit, end, last = -1;
    fc_share(p->u.blocks * deep * bands, member, team, &unit, &end);
    at.all = end - unit;
    while (unit < end) {
        part of = {.group = at.group, .block = unit / bands / deep, .depth = unit / bands % deep,
                   .depths = 1, .strip = at.first + unit % bands * p->band};
        if (bands == 1)
            of.depths = fc_least(run_of_depths(p, of.depth), end - unit);
        unit += of.depths;
        of.count = fc_least(p->band, at.first + at.count - of.strip);
        for (; of.slice < p->u.slices; of.slice++) {
            const char *u = slice_of(c, s, &of, bands * deep, of.block != last);
            multiply(c, s, u, &of, &at);
        }
        finish_band(c, s, &of);
        at.done += of.depths;
        last = of.block;
    }
}

static int64_t v_bytes(const plan *p) { return p->points * p->data.point * p->size; }

static size_t carve_member(const plan *p, char *base, scratch *s)
{
    size_t used = 0;
    const int64_t word = sizeof(int64_t), bands = fc_parts(p->chunk, p->band) * p->z.outputs;
    const int64_t outputs = (p->strips.y.tile * p->strips.width + p->lanes) * p->lanes * p->size;
    s->stage = fc_carve(base, &used, fc_most(fc_tiled_stage_bytes(&p->data), outputs));
    s->rows = fc_carve(base, &used, fc_most(fc_tiled_rows_bytes(&p->data),
                                            p->lanes * p->strips.width * p->size));
    s->products = fc_carve(base, &used, p->points * p->m_point * p->size);
    s->a_row = fc_carve(base, &used, p->deep * p->band * p->strips.segment * word);
    s->a_tap = fc_carve(base, &used, p->z.taps * p->data.phases * word);
    s->b_tap = fc_carve(base, &used, p->z.taps * p->data.phases * word);
    s->v = fc_carve(base, &used, p->alone ? v_bytes(p) : 0);
    s->u = fc_carve(base, &used,
                    p->kept ? 0 : (bands > 1 ? p->u.slices : 1) * p->u.to_slice * p->size);
    s->weights = fc_carve(base, &used, fc_winograd_weights_scratch(&p->u));
    return used + 17 * FC_LINE;   /* members do not lie a multiple of a page apart */
}

static size_t carve_call(call *c, char *base, const void *bias)
{
    const plan *p = c->p;
    size_t used = 0;
    const int64_t word = sizeof(int64_t), filters = p->groups * p->u.blocks * p->u.block;
    fc_vectors_carve(c->by, p->kernels, &p->strips, base, &used);
    c->slot = fc_carve(base, &used, p->strips.segment * word);
    c->m_tile = fc_carve(base, &used, p->strips.segment * word);
    c->bias = bias ? fc_carve(base, &used, filters * p->size) : NULL;
    c->v = fc_carve(base, &used, p->alone ? 0 : v_bytes(p));
    c->u = p->kept && !c->packed
           ? fc_carve(base, &used, (p->own ? p->team : 1) * fc_winograd_weights_bytes(&p->u))
           : NULL;
    return used;
}

static void fill_tables(call *c, const void *x, const char *bias)
{
    const plan *p = c->p;
    fc_vectors_fill(c->by, &p->strips);
    for (int64_t i = 0; i < p->strips.segment; i++) {
        c->slot[i] = i * p->data.pitch;
        c->m_tile[i] = i * p->u.block;
    }
    c->data = p->data;
    c->data.array = x;
    c->data.end = c->data.array + p->batch * p->data.image * p->size;
    c->data.by = c->by;
    c->data.slot = c->slot;
    for (int64_t g = 0; bias && g < p->groups; g++) {
        char *to = (char *)c->bias + g * p->u.blocks * p->u.block * p->size;
        memset(to, 0, (size_t)(p->u.blocks * p->u.block * p->size));
        memcpy(to, bias + g * p->filters * p->size, (size_t)(p->filters * p->size));
    }
}

/* Strips of a chunk. Members have equally many, give or take one, and cut their own into chunks. */
static void strips_of(const plan *p, int64_t number, int64_t *first, int64_t *end)
{
    const int members = p->alone ? p->team : 1, each = (int)(p->chunks / members);
    int64_t begin, last;
    fc_share(p->strips.strips, (int)(number / each), members, &begin, &last);
    fc_share(last - begin, (int)(number % each), each, first, end);
    *first += begin;
    *end += begin;
}

/* This member's share of chunk `number` of all groups'. */
static void run_chunk(call *c, const scratch *s, int64_t number, int member, int team)
{
    const plan *p = c->p;
    const int64_t in_group = number % p->chunks;
    chunk at = {.group = number / p->chunks};
    int64_t end;
    if (p->x_far && in_group + 1 < p->chunks && team == 1) {
        strips_of(p, in_group + 1, &at.next, &end);
        at.more = end - at.next;
    }
    strips_of(p, in_group, &at.first, &end);
    at.count = end - at.first;
    fc_tiled_fill(&c->data, at.group, at.first, at.count, s->stage, s->rows, s->v, member, team);
    if (team > 1)
        fc_barrier_wait(&c->barrier, team);
    drain(c, s, at, member, team);
    if (team > 1)
        fc_barrier_wait(&c->barrier, team);
}

static void work(void *context, int member, int team)
{
    call *c = context;
    const plan *p = c->p;
    scratch s;
    carve_member(p, c->member + (size_t)member * c->member_bytes, &s);
    if (!p->alone)
        s.v = c->v;
    s.kept = c->packed;
    if (c->u) {
        char *u = c->u + (p->own ? member : 0) * fc_winograd_weights_bytes(&p->u);
        fc_winograd_weights_share(&p->u, c->w, u, s.weights, p->own ? 0 : member,
                                  p->own ? 1 : team);
        if (!p->own)
            fc_barrier_wait(&c->barrier, team);
        s.kept = u;
    }
    int64_t at = 0, end = p->groups * p->chunks;
    fc_pieces pieces = {.heap = &c->chunks, .count = end, .group = 1, .least = 1, .member = member,
                        .team = team};
    if (p->alone && end >= MANY_CHUNKS * team) {
        while (fc_next_piece(&pieces, &at, &end))
            for (; at < end; at++)
                run_chunk(c, &s, at, 0, 1);
        return;
    }
    if (p->alone) {
        fc_share(end, member, team, &at, &end);
        member = 0;
        team = 1;
    }
    for (; at < end; at++)
        run_chunk(c, &s, at, member, team);
}

static int run(const plan *p, const void *x, const void *w, const void *packed, const void *bias,
               void *y)
{
    if (p->strips.strips == 0)
        return FC_OK;
    call c = {.p = p, .x = x, .w = w, .packed = packed, .y = y};
    const int team = p->team;
    scratch s;
    const size_t shared = carve_call(&c, NULL, bias);
    c.member_bytes = carve_member(p, NULL, &s);
    char *block = fc_arena_take(shared + (size_t)team * c.member_bytes);
    if (!block)
        return FC_NO_MEMORY;
    carve_call(&c, block, bias);
    c.member = block + shared;
    fill_tables(&c, x, bias);
    fc_parallel(team, work, &c);
    fc_arena_give(block);
    return c.status;
}

/* --- the interface ------------------------------------------------------------------------ */

int fc_winograd_fits(const fc_conv *conv)
{
    fc_line y, x;
    int64_t first[3], every[3];
    const fc_conv thin = fc_conv_thin(conv, first, every);
    const fc_axis along_y = fc_axis_forward(&thin, 1), along_x = fc_axis_forward(&thin, 2);
    return fc_line_of(&along_y, &y) && fc_line_of(&along_x, &x) && (y.taps > 1 || x.taps > 1);
}

static int forward(const fc_conv *conv, const void *x, const void *w, const void *packed,
                   const void *bias, void *y, int threads)
{
    plan p;
    fc_thin thin;
    int status = fc_thin_source(&thin, conv, x, threads);
    if (status == FC_OK) {
        fc_winograd_plan_forward(&p, &thin.conv, packed != NULL, threads);
        status = run(&p, thin.x, w, packed, bias, y);
    }
    fc_arena_give(thin.scratch);
    return status;
}

int fc_winograd_forward(const fc_conv *conv, const void *x, const void *w, const void *bias,
                        void *y, int threads)
{
    return forward(conv, x, w, NULL, bias, y, threads);
}

/* The phases of the input against the stride, no more than there are cells. */
static int64_t phases_of(const fc_conv *conv, int64_t phases[3])
{
    for (int a = 0; a < 3; a++)
        phases[a] = fc_least(conv->stride[a], conv->in[a]);
    return fc_volume(phases);
}

static int plan_phase(plan *p, const fc_conv *conv, const int64_t phases[3], int64_t phase,
                      int threads)
{
    const int64_t at[3] = {phase / phases[2] / phases[1], phase / phases[2] % phases[1],
                           phase % phases[2]};
    return fc_winograd_plan_grad_input(p, conv, at, threads);
}

int fc_winograd_grad_input_fits(const fc_conv *conv)
{
    int64_t phases[3], saving = 0, first[3], every[3];
    const fc_conv thin = fc_conv_thin(conv, first, every);
    const int64_t count = phases_of(&thin, phases);
    for (int64_t phase = 0; phase < count; phase++) {
        plan p;
        if (!plan_phase(&p, &thin, phases, phase, 1))
            return 0;
        saving += p.points > 1;
    }
    return saving > 0;
}

/* One sum for each phase of a conv that fc_conv_thin has made. */
static int grad_input(const fc_conv *conv, const void *dy, const void *w, const void *bias,
                      void *dx, int threads)
{
    int64_t phases[3];
    const int64_t count = phases_of(conv, phases);
    int status = FC_OK;
    for (int64_t phase = 0; phase < count && status == FC_OK; phase++) {
        plan p;
        plan_phase(&p, conv, phases, phase, threads);
        status = run(&p, dy, w, NULL, bias, dx);
    }
    return status;
}

int fc_winograd_grad_input(const fc_conv *conv, const void *dy, const void *w, const void *bias,
                           void *dx, int threads)
{
    int64_t first[3], every[3];
    const fc_conv thin = fc_conv_thin(conv, first, every);
    if (every[0] * every[1] * every[2] == 1)
        return grad_input(conv, dy, w, bias, dx, threads);
    if (thin.before[0] < 0 || thin.before[1] < 0 || thin.before[2] < 0) {   /* no cell is met */
        fc_thin_spread(conv, NULL, bias, dx, threads);
        return FC_OK;
    }
    const int64_t cells = conv->batch * conv->in_channels * fc_volume(thin.in);
    void *kept = fc_arena_take((size_t)cells * (conv->dtype == FC_F32 ? 4 : 8));
    const int status = kept ? grad_input(&thin, dy, w, bias, kept, threads) : FC_NO_MEMORY;
    if (status == FC_OK)
        fc_thin_spread(conv, kept, bias, dx, threads);
    fc_arena_give(kept);
    return status;
}

/* The plan of weights that are transformed beforehand, whatever the image. */
static void plan_packed(plan *p, const fc_conv *conv, int threads)
{
    int64_t first[3], every[3];
    const fc_conv thin = fc_conv_thin(conv, first, every);
    fc_winograd_plan_forward(p, &thin, 1, threads);
}

size_t fc_winograd_packed_bytes(const fc_conv *conv)
{
    plan p;
    plan_packed(&p, conv, 1);
    return (size_t)fc_winograd_weights_bytes(&p.u);
}

typedef struct { const fc_winograd_weights *u; const char *w; char *packed, *scratch; } packing;

static void pack_work(void *context, int member, int team)
{
    const packing *k = context;
    char *scratch = k->scratch + member * fc_winograd_weights_scratch(k->u);
    fc_winograd_weights_share(k->u, k->w, k->packed, scratch, member, team);
}

int fc_winograd_pack(const fc_conv *conv, const void *w, void *packed, int threads)
{
    plan p;
    plan_packed(&p, conv, threads);
    const int team = fc_team_size(threads);
    packing k = {&p.u, w, packed,
                 fc_arena_take((size_t)(team * fc_winograd_weights_scratch(&p.u)))};
    if (!k.scratch)
        return FC_NO_MEMORY;
    fc_parallel(team, pack_work, &k);
    fc_arena_give(k.scratch);
    return FC_OK;
}

int fc_winograd_forward_packed(const fc_conv *conv, const void *x, const void *w,
                               const void *packed, const void *bias, void *y, int threads)
{
    return forward(conv, x, w, packed, bias, y, threads);
}
