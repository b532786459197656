/* Gradient of the weights by Winograd's algorithm.
 *
 *     dw[f, c, r] = sum over n, o of dy[n, f, o] x[n, c, o * stride + r * dilation - before]
 *
 * which differentiates y = V_m^T [ (S V_r w) . (D x) ]. On one tile of m outputs it is a filter
 * of m taps, dy, over the same six inputs: dw = V_r^T [ (S V_m dy) . (D x) ]. The products are
 * summed over all tiles before the one transform back: at each point a matrix product
 * M [channel][filter] of X [tile][channel] and Y [tile][filter].
 *
 * A chunk of strips at a time: X and Y are filled, then added to the M of each (block of
 * channels) x (block of filters); M becomes dw after the last chunk. Many strips make several
 * parts, each of some chunks and with an M of its own: members of the team then work on parts of
 * their own, and wait for nobody before the Ms are added. Else they share the chunk. Parts and
 * chunks depend on the geometry alone, so does then the order of every sum.
 */
#include "conv_winograd.h"

#include <math.h>
#include <string.h>

#include "arena.h"
#include "conv_thin.h"
#include "conv_winograd_tiles.h"
#include "parallel.h"

enum { POINTS = FC_WINOGRAD_POINTS, CHANNELS_AT_ONCE = 8 };

/* Bytes of a chunk's X and Y: at least these, and as much as M, which each chunk reads and writes;
 * bytes of one block of M, which a member works on in L2. Where X and Y are more, products ask for
 * those of the next point: 256 channels of 8 x 14 x 14 take 0.93 (float64 0.96) of the time, of 56 x 56
 * 0.96 (0.92). Where they are fewer it gains nothing; asking for dw, too, gained nothing either. */
static const int64_t CHUNK_BYTES = 2 << 20, M_BYTES = 300 << 10;

/* Parts: adding up their Ms costs one thread some 3 % where each sums PART_TILES tiles. */
enum { PARTS = 4 };
static const int64_t PART_TILES = 96, PARTS_BYTES = 2 << 20;

typedef struct {
    const fc_kernels *kernels;
    int64_t size, lanes;
    int64_t groups, channels, filters;
    fc_axis axis[3];
    int64_t taps, row;                     /* of the kernel; of its last axis */
    int idle;                              /* do some of them meet nothing but padding? */
    fc_strips strips;
    fc_tiled x, y;                         /* X and Y */
    int64_t phases, points, chunk, chunks; /* of the taps; of a tile; strips of the largest chunk */
    int64_t parts;                         /* of as many chunks each */
    int alone;                             /* has each member parts of its own? */
    int far;                               /* are X and Y to be fetched from L3? */
    int64_t wide, high, across, down;      /* blocks: filters, channels of one; how many of them */
    int64_t m_point, m_tap, m_block;
} plan;

double fc_winograd_grad_weight_chunks(double bytes, double m_bytes)
{
    return fmax(1, bytes / fmax((double)CHUNK_BYTES, m_bytes));
}

static int64_t parts_of(const plan *p, int64_t m)
{
    const int64_t tiles = p->strips.batch * p->strips.y.tiles * p->strips.x.tiles;
    const int64_t most = fc_least(fc_least(tiles / PART_TILES, PARTS_BYTES / m),
                                  fc_least(p->strips.strips, PARTS));
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

/* Does a tap meet nothing but padding? */
static int is_idle(const plan *p, int64_t tap)
{
    const int64_t at[3] = {tap / p->row / p->axis[1].taps, tap / p->row % p->axis[1].taps, tap % p->row};
    int64_t inside = 1;
    for (int a = 0; a < 3 && inside; a++)
        fc_axis_inside(&p->axis[a], at[a], &inside);
    return !inside;
}

static int plan_gradient(plan *p, const fc_conv *conv, int threads, int *team)
{
    fc_line y, x;
    const fc_axis along_z = fc_axis_forward(conv, 0), along_y = fc_axis_forward(conv, 1),
                  along_x = fc_axis_forward(conv, 2);
    if (!fc_line_of(&along_y, &y) || !fc_line_of(&along_x, &x))
        return 0;
    *p = (plan){
        .kernels = fc_active[conv->dtype], .lanes = fc_active[conv->dtype]->lanes,
        .size = conv->dtype == FC_F32 ? 4 : 8, .groups = conv->groups,
        .channels = conv->in_channels / conv->groups, .filters = conv->out_channels / conv->groups,
        .axis = {along_z, along_y, along_x}, .taps = fc_volume(conv->kernel),
        .row = conv->kernel[2],
        .phases = y.phases * x.phases, .points = y.points * x.points,
        .strips = fc_strips_of(&y, &x, conv->batch),
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
        p->idle = is_idle(p, tap);
    const double products = 2.0 * (double)(p->groups * p->axis[0].taps * p->axis[0].outputs)
                            * (double)(fc_line_products(&y) * fc_line_products(&x))
                            * (double)(p->strips.strips * p->strips.segment)
                            * (double)(p->channels * p->filters);
    *team = fc_team_size(fc_useful_threads(threads, products));
    plan_blocks(p, *team);
    return 1;
}

typedef struct {
    const plan *p;
    fc_tiled x, y;
    char *dw;
    char *vx, *vy;                         /* the team's X and Y */
    char *m;                               /* M of all parts and blocks; NULL where one chunk does */
    fc_vectors by[2];
    int64_t *x_slot, *y_slot, *channel;
    char *member;
    size_t member_bytes;
    int odd;                               /* was something not finite? */
    fc_barrier barrier;
} call;

typedef struct {
    char *stage, *rows, *m, *half, *phase, *taps;
    char *vx, *vy;                         /* its own, or the team's */
    int64_t *a_tap, *b_tap;
} scratch;

/* A block of M: some channels and filters of a group. */
typedef struct { int64_t group, channel, channels, filter, filters; } block;

static block block_of(const plan *p, int64_t group, int64_t unit)
{
    const int64_t channel = unit % p->down * p->high, filter = unit / p->down * p->wide;
    return (block){group, channel, fc_least(p->high, p->channels - channel), filter,
                   fc_least(p->wide, p->filters - filter)};
}

static int is_live(const plan *p, int64_t point, int64_t phase)
{
    const fc_line *y = &p->strips.y, *x = &p->strips.x;
    return phase / x->phases < fc_line_live(y, point / x->points)
        && phase % x->phases < fc_line_live(x, point % x->points);
}

/* The terms of a product over the strips of a chunk: runs of *k tiles that lie in a row, in X and in
 * Y, in as few runs as that can be said. Returns how many. */
static int64_t list_terms(const plan *p, const scratch *s, int64_t tap, int64_t phase,
                          int64_t strips, int64_t *k)
{
    const fc_axis *z = &p->axis[0];
    const int64_t x_plane = p->strips.segment * p->x.pitch;
    const int64_t y_plane = p->strips.segment * p->y.pitch;
    int64_t first = 0, live = 0, runs = 0;   /* outputs that meet a cell */
    for (int64_t o = z->outputs - 1; o >= 0; o--) {
        const int64_t cell = o * z->step + z->offset + tap * z->tap_step;
        if (cell < 0 || cell >= z->cells)
            continue;
        first = o;
        live++;
    }
    const int64_t cell = first * z->step + z->offset + tap * z->tap_step;
    const int dense = z->step == 1 && p->phases == 1;   /* planes lie in both as they meet */
    const int64_t together = dense ? live : 1;
    *k = p->strips.segment * together;
    for (int64_t strip = 0; strip < strips; strip++)
        for (int64_t i = 0; i < live; i += together) {
            s->a_tap[runs] = strip * p->x.strip
                             + ((cell + i * z->step) * p->phases + phase) * x_plane;
            s->b_tap[runs++] = strip * p->y.strip + (first + i) * y_plane;
        }
    if (dense && live == z->cells && live == z->outputs) {   /* all of them */
        *k *= strips;
        runs = 1;
    }
    return runs;
}

/* M of one block, tap of z and phase (+)= X^T Y, over the strips of a chunk. */
static void multiply(const call *c, const scratch *s, const block *of, int64_t tap, int64_t phase,
                     int64_t strips, int accumulate, char *m)
{
    const plan *p = c->p;
    const int64_t filters = fc_round_up(of->filters, c->by[1].lanes), word = p->size;
    int64_t k;
    const int64_t taps = list_terms(p, s, tap, phase, strips, &k);
    for (int64_t i = 0; i < p->points; i++) {
        char *to = m + i * p->m_point * word;
        if (!is_live(p, i, phase)) {
            if (!accumulate)
                memset(to, 0, (size_t)(p->m_point * word));
            continue;
        }
        fc_gemm g = {
            .m = of->channels, .n = filters, .taps = taps, .k = k,
            .a = s->vx + (i * p->x.point + of->channel / p->high * p->x.block) * word,
            .a_row = c->channel, .a_tap = s->a_tap, .a_step = p->x.pitch,
            .b = s->vy + (i * p->y.point + of->filter / p->wide * p->y.block) * word,
            .b_tap = s->b_tap, .b_step = p->y.pitch,
            .c = to, .c_row = p->wide, .accumulate = accumulate};
        if (p->far && i + 1 < p->points && taps > 0) {
            g.soon[0] = (fc_rows){(const char *)g.a + (p->x.point + s->a_tap[0]) * word,
                                  p->x.pitch * word, of->channels * word};
            g.soon[1] = (fc_rows){(const char *)g.b + (p->y.point + s->b_tap[0]) * word,
                                  p->y.pitch * word, filters * word};
        }
        p->kernels->gemm(&g);
    }
}

/* To `to` [channel][taps of a phase at its longest], from M. Returns whether M was finite. */
static int to_phase(const call *c, const scratch *s, const fc_vectors *by, int64_t channels,
                    const char *m, char *to, int64_t to_channel, int64_t to_row)
{
    const plan *p = c->p;
    const fc_line *y = &p->strips.y, *x = &p->strips.x;
    const int64_t lanes = by->lanes;
    if (y->length == x->length && y->taps > 1) {   /* in one pass */
        int finite = 1;
        for (int64_t i = 0; i < channels; i++)
            finite &= by->kernels->winograd_outputs(&(fc_winograd_outputs){
                .points = (int)x->all, .length = (int)x->length, .less_y = fc_line_less(y),
                .less_x = fc_line_less(x), .live = lanes, .tiles = 1, .step = x->length,
                .spread = 1,
                .width = x->length, .from = m + i * p->wide * p->size,
                .from_row = x->points * p->m_point, .from_point = p->m_point,
                .to = to + i * to_channel * p->size, .to_y = to_row});
        return finite;
    }
    int64_t point[POINTS], line[POINTS], vector[POINTS];
    for (int64_t i = 0; i < POINTS; i++) {
        point[i] = i * x->points * p->m_point;
        line[i] = i * x->length * lanes;
        vector[i] = i * lanes;
    }
    by->kernels->winograd(&(fc_winograd){
        .kind = x->taps > 1 ? FC_WINOGRAD_OUTPUT : FC_WINOGRAD_COPY, .points = (int)x->all,
        .less = fc_line_less(x), .length = (int)x->length, .rows = channels, .items = y->points,
        .from = m, .from_row = p->wide, .from_point = p->m_point, .from_item = point,
        .to = s->half, .to_row = y->points * x->length * lanes, .to_point = lanes,
        .to_item = line});
    return by->kernels->winograd(&(fc_winograd){
        .kind = y->taps > 1 ? FC_WINOGRAD_OUTPUT : FC_WINOGRAD_COPY, .points = (int)y->all,
        .less = fc_line_less(y), .length = (int)y->length, .live = lanes, .rows = channels,
        .items = x->length,
        .from = s->half, .from_row = y->points * x->length * lanes,
        .from_point = x->length * lanes, .from_item = vector,
        .to = to, .to_row = to_channel, .to_point = to_row, .to_item = vector});
}

/* From M to taps [channel][tap] of one vector of filters, those of one phase. Returns whether M was
 * finite. */
static int to_taps(const call *c, const scratch *s, const fc_vectors *by, int64_t tap,
                   int64_t phase, int64_t channels, const char *m)
{
    const plan *p = c->p;
    const fc_line *y = &p->strips.y, *x = &p->strips.x;
    const int64_t lanes = by->lanes, of_phase = y->length * x->length * lanes;
    char *taps = s->taps + tap * y->taps * x->taps * lanes * p->size;
    if (p->phases == 1)
        return to_phase(c, s, by, channels, m, taps, p->taps * lanes, p->row * lanes);
    const int finite = to_phase(c, s, by, channels, m, s->phase, of_phase, x->length * lanes);
    const int64_t phase_y = phase / x->phases, phase_x = phase % x->phases;
    int64_t from[POINTS * POINTS], to[POINTS * POINTS], items = 0;
    for (int64_t i = 0; i < fc_line_taps(y, phase_y); i++)
        for (int64_t j = 0; j < fc_line_taps(x, phase_x); j++) {
            const int64_t row = fc_line_tap(y, phase_y) + i * y->stride;
            from[items] = (i * x->length + j) * lanes;
            to[items++] = (row * p->row + fc_line_tap(x, phase_x) + j * x->stride) * lanes;
        }
    by->kernels->winograd(&(fc_winograd){
        .kind = FC_WINOGRAD_COPY, .rows = channels, .items = items, .from = s->phase,
        .from_row = of_phase, .from_item = from, .to = taps, .to_row = p->taps * lanes,
        .to_item = to});
    return finite;
}

/* The finished M of one block to dw. Returns whether it was finite. */
static int finish(const call *c, const scratch *s, const block *of, const char *m)
{
    const plan *p = c->p;
    int finite = 1;
    for (int64_t f = 0; f < of->filters; f += p->lanes) {
        const fc_vectors *by = fc_vectors_for(c->by, of->filters - f);
        const int64_t vector = by->lanes * p->size;
        const int64_t row = (of->group * p->filters + of->filter + f) * p->channels + of->channel;
        for (int64_t i = 0; i < of->channels; i += CHANNELS_AT_ONCE) {
            const int64_t some = fc_least(CHANNELS_AT_ONCE, of->channels - i);
            for (int64_t t = 0; t < p->axis[0].taps * p->phases; t++)
                finite &= to_taps(c, s, by, t / p->phases, t % p->phases, some,
                                  m + (t * p->m_tap + i * p->wide + f) * p->size);
            for (int64_t t = 0; t < p->taps && p->idle; t++)   /* 0, not what sums of tiles round */
                for (int64_t j = 0; j < some && is_idle(p, t); j++)
                    memset(s->taps + (j * p->taps + t) * vector, 0, (size_t)vector);
            by->kernels->from_lanes(s->taps, some * p->taps,
                                    c->dw + (row + i) * p->taps * p->size, p->channels * p->taps,
                                    fc_least(by->lanes, of->filters - f));
        }
    }
    return finite;
}

static int64_t m_bytes(const plan *p) { return p->across * p->down * p->m_block * p->size; }
static int64_t x_bytes(const plan *p) { return p->points * p->x.point * p->size; }
static int64_t y_bytes(const plan *p) { return (p->points * p->y.point + p->wide) * p->size; }

/* This member's share of the blocks of M, for one chunk. */
static void drain(call *c, const scratch *s, int64_t group, int64_t chunk, int64_t strips,
                  int member, int team)
{
    const plan *p = c->p;
    const int64_t each = p->chunks / p->parts;
    char *part = c->m ? c->m + chunk / each * m_bytes(p) : NULL;
    int64_t unit, end;
    fc_share(p->across * p->down, member, team, &unit, &end);
    for (; unit < end; unit++) {
        const block of = block_of(p, group, unit);
        char *m = part ? part + unit * p->m_block * p->size : s->m;
        for (int64_t i = 0; i < p->axis[0].taps * p->phases; i++)
            multiply(c, s, &of, i / p->phases, i % p->phases, strips, chunk % each > 0,
                     m + i * p->m_tap * p->size);
        if (p->parts == 1 && chunk == p->chunks - 1 && !finish(c, s, &of, m))
            __atomic_store_n(&c->odd, 1, __ATOMIC_RELAXED);
    }
}

/* This member's share of the blocks of M, whose parts are complete. */
static void add_parts(call *c, const scratch *s, int64_t group, int member, int team)
{
    const plan *p = c->p;
    int64_t unit, end;
    fc_share(p->across * p->down, member, team, &unit, &end);
    for (; unit < end; unit++) {
        const block of = block_of(p, group, unit);
        char *m = c->m + unit * p->m_block * p->size;
        int64_t part[PARTS];
        for (int64_t i = 0; i < p->parts; i++)
            part[i] = i * m_bytes(p) / p->size;
        p->kernels->sum_rows(m, part, p->parts, p->m_block, m);
        if (!finish(c, s, &of, m))
            __atomic_store_n(&c->odd, 1, __ATOMIC_RELAXED);
    }
}

static size_t carve_member(const plan *p, char *base, scratch *s)
{
    size_t used = 0;
    const int64_t word = sizeof(int64_t), vector = p->lanes * p->size;
    const int64_t half = CHANNELS_AT_ONCE * p->strips.y.points * p->strips.x.length;
    s->stage = fc_carve(base, &used, fc_most(fc_tiled_stage_bytes(&p->x),
                                             fc_tiled_stage_bytes(&p->y)));
    s->rows = fc_carve(base, &used, fc_tiled_rows_bytes(&p->x));
    s->m = fc_carve(base, &used, p->chunks > 1 ? 0 : p->m_block * p->size);
    s->vx = fc_carve(base, &used, p->alone ? x_bytes(p) : 0);
    s->vy = fc_carve(base, &used, p->alone ? y_bytes(p) : 0);
    s->half = fc_carve(base, &used, half * vector);
    s->phase = fc_carve(base, &used,
                        CHANNELS_AT_ONCE * p->strips.y.length * p->strips.x.length * vector);
    s->taps = fc_carve(base, &used, (CHANNELS_AT_ONCE * p->taps + p->lanes) * vector);
    s->a_tap = fc_carve(base, &used, p->chunk * p->axis[0].outputs * word);
    s->b_tap = fc_carve(base, &used, p->chunk * p->axis[0].outputs * word);
    return used + 17 * FC_LINE;   /* members do not lie a multiple of a page apart */
}

static size_t carve_call(call *c, char *base)
{
    const plan *p = c->p;
    size_t used = 0;
    const int64_t word = sizeof(int64_t);
    fc_vectors_carve(c->by, p->kernels, &p->strips, base, &used);
    c->x_slot = fc_carve(base, &used, p->strips.segment * word);
    c->y_slot = fc_carve(base, &used, p->strips.segment * word);
    c->channel = fc_carve(base, &used, p->high * word);
    c->vx = fc_carve(base, &used, p->alone ? 0 : x_bytes(p));
    c->vy = fc_carve(base, &used, p->alone ? 0 : y_bytes(p));
    c->m = fc_carve(base, &used, p->chunks > 1 ? p->parts * m_bytes(p) : 0);
    if (p->chunks == 1)
        c->m = NULL;
    return used;
}

static void fill_tables(call *c, const fc_conv *conv, const void *dy, const void *x)
{
    const plan *p = c->p;
    fc_vectors_fill(c->by, &p->strips);
    for (int64_t i = 0; i < p->strips.segment; i++) {
        c->x_slot[i] = i * p->x.pitch;
        c->y_slot[i] = i * p->y.pitch;
    }
    for (int64_t i = 0; i < p->high; i++)
        c->channel[i] = i;
    c->x = p->x;
    c->y = p->y;
    c->x.by = c->y.by = c->by;
    c->x.slot = c->x_slot;
    c->y.slot = c->y_slot;
    c->x.array = x;
    c->x.end = c->x.array + conv->batch * p->x.image * p->size;
    c->y.array = dy;
    c->y.end = c->y.array + conv->batch * p->y.image * p->size;
}

static void work(void *context, int member, int team)
{
    call *c = context;
    const plan *p = c->p;
    scratch s;
    carve_member(p, c->member + (size_t)member * c->member_bytes, &s);
    int64_t begin = 0, end = p->parts;
    if (p->alone)
        fc_share(p->parts, member, team, &begin, &end);
    else {
        s.vx = c->vx;
        s.vy = c->vy;
    }
    const int64_t each = p->chunks / p->parts;
    const int sharer = p->alone ? 0 : member, sharers = p->alone ? 1 : team;
    for (int64_t group = 0; group < p->groups; group++) {
        for (int64_t chunk = begin * each; chunk < end * each; chunk++) {
            int64_t first, last;
            fc_share(p->strips.strips, (int)chunk, (int)p->chunks, &first, &last);
            fc_tiled_fill(&c->x, group, first, last - first, s.stage, s.rows, s.vx, sharer,
                          sharers);
            fc_tiled_fill(&c->y, group, first, last - first, s.stage, s.rows, s.vy, sharer,
                          sharers);
            if (sharers > 1)
                fc_barrier_wait(&c->barrier, sharers);
            drain(c, &s, group, chunk, last - first, sharer, sharers);
            if (sharers > 1)
                fc_barrier_wait(&c->barrier, sharers);
        }
        if (p->parts > 1) {
            fc_barrier_wait(&c->barrier, team);
            add_parts(c, &s, group, member, team);
            fc_barrier_wait(&c->barrier, team);
        }
    }
}

static int meets_padding(const fc_axis *axis)
{
    for (int64_t t = 0; t < axis->taps; t++) {
        int64_t inside;
        fc_axis_inside(axis, t, &inside);
        if (inside < axis->outputs)
            return 1;
    }
    return 0;
}

static int as_written(const fc_conv *conv, const void *dy, const void *x, void *dw, int threads)
{
    fc_conv direct = *conv;
    direct.algorithm = FC_DIRECT;
    return fc_conv_grad_weight(&direct, dy, x, dw, threads);
}

/* Something was not finite: take the sums as they are written wherever no finite one came out. */
static int mend(const call *c, const fc_conv *conv, const void *dy, const void *x, int threads)
{
    const plan *p = c->p;
    const int64_t count = conv->out_channels * p->channels * p->taps;
    void *sums = fc_arena_take((size_t)(count * p->size));
    if (!sums)
        return FC_NO_MEMORY;
    const int status = as_written(conv, dy, x, sums, threads);
    if (status == FC_OK)
        p->kernels->mend(c->dw, 1, sums, count);
    fc_arena_give(sums);
    return status;
}

static int gradient(const fc_conv *conv, const void *dy, const void *x, void *dw, int threads)
{
    plan p;
    int team = 1;
    plan_gradient(&p, conv, threads, &team);
    if (p.strips.strips == 0) {
        memset(dw, 0, (size_t)(conv->out_channels * p.channels * p.taps * p.size));
        return FC_OK;
    }
    call c = {.p = &p, .dw = dw};
    /* Planes of dy that meet nothing but padding are left out, and so are the sums of such taps:
     * not if they would make NaN of it. */
    if ((p.idle || meets_padding(&p.axis[0])) && !p.kernels->finite(dy, conv->batch * p.y.image))
        return as_written(conv, dy, x, dw, threads);
    scratch s;
    const size_t shared = carve_call(&c, NULL);
    c.member_bytes = carve_member(&p, NULL, &s);
    char *block = fc_arena_take(shared + (size_t)team * c.member_bytes);
    if (!block)
        return FC_NO_MEMORY;
    carve_call(&c, block);
    c.member = block + shared;
    fill_tables(&c, conv, dy, x);
    fc_parallel(team, work, &c);
    fc_arena_give(block);
    return c.odd ? mend(&c, conv, dy, x, threads) : FC_OK;
}

int fc_winograd_grad_weight(const fc_conv *conv, const void *dy, const void *x, void *dw,
                            int threads)
{
    fc_thin thin;
    int status = fc_thin_source(&thin, conv, x, threads);
    if (status == FC_OK)
        status = gradient(&thin.conv, dy, thin.x, dw, threads);
    fc_arena_give(thin.scratch);
    return status;
}
