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

#include <string.h>

#include "arena.h"
#include "conv_thin.h"
#include "conv_weight_padding.h"
#include "conv_winograd_weight_grad_taps.h"
#include "parallel.h"

typedef fc_winograd_grad_plan plan;
typedef fc_winograd_block block;

typedef struct {
    const plan *p;
    fc_tiled x, y;
    char *dw;
    char *vx, *vy;                         /* the team's X and Y */
    char *m;                               /* of all parts and blocks; NULL where one chunk does */
    fc_vectors by[2];
    int64_t *x_slot, *y_slot, *channel;
    char *member;
    size_t member_bytes;
    int odd;                               /* was something not finite? */
    fc_barrier barrier;
} call;

typedef struct {
    char *stage, *rows, *m;
    fc_winograd_taps taps;
    char *vx, *vy;                         /* its own, or the team's */
    int64_t *a_tap, *b_tap;
} scratch;

static int is_live(const plan *p, int64_t point, int64_t phase)
{
    const fc_line *y = &p->strips.y, *x = &p->strips.x;
    return phase / x->phases < fc_line_live(y, point / x->points)
        && phase % x->phases < fc_line_live(x, point % x->points);
}

/* The terms of a product at one point over the strips [from, from + strips) of a chunk: runs of *k
 * tiles that lie in a row, in X and in Y, in as few runs as that can be said. Smaller tiles have
 * nothing at infinity. Returns how many. */
static int64_t list_terms(const plan *p, const scratch *s, int64_t tap, int64_t phase,
                          int64_t point, int64_t from, int64_t strips, int64_t *k)
{
    const fc_axis *z = &p->axis[0];
    const int64_t x_plane = p->strips.segment * p->x.pitch;
    const int64_t y_plane = p->strips.segment * p->y.pitch;
    int64_t live, runs = 0;   /* outputs that meet a cell */
    const int64_t first = fc_axis_inside(z, tap, &live);
    const int64_t cell = first * z->step + z->offset + tap * z->tap_step;
    const fc_line *y = &p->strips.y, *x = &p->strips.x;
    const int64_t whole = x->whole * x->spread;   /* tiles of a strip */
    const int less_x = point % x->points == x->points - 1 && whole < x->tiles;
    const int less_y = point / x->points == y->points - 1 && y->whole * y->spread < y->tiles;
    /* Do planes lie in both as they meet? */
    const int dense = z->step == 1 && p->phases == 1 && !less_x;
    const int64_t together = dense ? live : 1;
    *k = less_x ? whole : p->strips.segment * together;
    for (int64_t strip = 0; strip < strips; strip++)
        for (int64_t i = 0; i < live && !(less_y && fc_strip_at(&p->strips, from + strip).less);
             i += together) {
            s->a_tap[runs] = strip * p->x.strip
                             + ((cell + i * z->step) * p->phases + phase) * x_plane;
            s->b_tap[runs++] = strip * p->y.strip + (first + i) * y_plane;
        }
    if (dense && !less_y && live == z->cells && live == z->outputs) {   /* all of them */
        *k *= strips;
        runs = 1;
    }
    return runs;
}

/* M of one block, tap of z and phase (+)= X^T Y, over the strips [from, from + strips) of a
 * chunk. */
static void multiply(const call *c, const scratch *s, const block *of, int64_t tap, int64_t phase,
                     int64_t from, int64_t strips, int accumulate, char *m)
{
    const plan *p = c->p;
    const int64_t filters = fc_round_up(of->filters, c->by[1].lanes), word = p->size;
    for (int64_t i = 0; i < p->points; i++) {
        char *to = m + i * p->m_point * word;
        if (!is_live(p, i, phase)) {
            if (!accumulate)
                memset(to, 0, (size_t)(p->m_point * word));
            continue;
        }
        int64_t k;
        const int64_t taps = list_terms(p, s, tap, phase, i, from, strips, &k);
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

static int64_t m_bytes(const plan *p) { return p->across * p->down * p->m_block * p->size; }
static int64_t x_bytes(const plan *p) { return p->points * p->x.point * p->size; }
static int64_t y_bytes(const plan *p) { return (p->points * p->y.point + p->wide) * p->size; }

/* This member's share of the blocks of M, for one chunk. */
static void drain(call *c, const scratch *s, int64_t group, int64_t chunk, int64_t first,
                  int64_t strips, int member, int team)
{
    const plan *p = c->p;
    const int64_t each = p->chunks / p->parts;
    char *part = c->m ? c->m + chunk / each * m_bytes(p) : NULL;
    int64_t unit, end;
    fc_share(p->across * p->down, member, team, &unit, &end);
    for (; unit < end; unit++) {
        const block of = fc_winograd_block_of(p, group, unit);
        char *m = part ? part + unit * p->m_block * p->size : s->m;
        for (int64_t i = 0; i < p->axis[0].taps * p->phases; i++)
            multiply(c, s, &of, i / p->phases, i % p->phases, first, strips,
                     chunk % each > 0, m + i * p->m_tap * p->size);
        if (p->parts == 1 && chunk == p->chunks - 1
            && !fc_winograd_to_weights(p, &s->taps, c->by, &of, m, c->dw))
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
        const block of = fc_winograd_block_of(p, group, unit);
        char *m = c->m + unit * p->m_block * p->size;
        int64_t part[FC_WINOGRAD_PARTS];
        for (int64_t i = 0; i < p->parts; i++)
            part[i] = i * m_bytes(p) / p->size;
        p->kernels->sum_rows(m, part, p->parts, p->m_block, m);
        if (!fc_winograd_to_weights(p, &s->taps, c->by, &of, m, c->dw))
            __atomic_store_n(&c->odd, 1, __ATOMIC_RELAXED);
    }
}

static size_t carve_member(const plan *p, char *base, scratch *s)
{
    size_t used = 0;
    const int64_t word = sizeof(int64_t);
    s->stage = fc_carve(base, &used, fc_most(fc_tiled_stage_bytes(&p->x),
                                             fc_tiled_stage_bytes(&p->y)));
    s->rows = fc_carve(base, &used, fc_tiled_rows_bytes(&p->x));
    s->m = fc_carve(base, &used, p->chunks > 1 ? 0 : p->m_block * p->size);
    s->vx = fc_carve(base, &used, p->alone ? x_bytes(p) : 0);
    s->vy = fc_carve(base, &used, p->alone ? y_bytes(p) : 0);
    s->taps = fc_winograd_taps_carve(p, base, &used);
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
            drain(c, &s, group, chunk, first, last - first, sharer, sharers);
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
    fc_winograd_plan_grad_weight(&p, conv, threads, &team);
    if (p.strips.strips == 0) {
        memset(dw, 0, (size_t)(conv->out_channels * p.channels * p.taps * p.size));
        return FC_OK;
    }
    call c = {.p = &p, .dw = dw};
    /* Planes of dy that meet nothing but padding are left out, and so are the sums of such taps:
     * not if they would make NaN of it. */
    if ((p.idle || fc_weight_padding_along(&p.axis[0]))
        && !p.kernels->finite(dy, conv->batch * p.y.image))
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
