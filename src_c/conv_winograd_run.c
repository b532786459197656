#include "conv_winograd_run.h"

#include <string.h>

#include "arena.h"
#include "conv_winograd_outputs.h"
#include "conv_winograd_products.h"

/* With so many chunks a member, those who are done early take of the others': on two threads
 * 1.05 to 1.3 times as fast with 14 to 16, while cores are shared with strangers; with 2 to 4 it
 * is 0.97, as what was in the other's cache is fetched. */
enum { MANY_CHUNKS = 8 };

typedef fc_winograd_plan plan;
typedef fc_winograd_call call;
typedef fc_winograd_chunk chunk;
typedef fc_winograd_part part;
typedef fc_winograd_scratch scratch;

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
            of.depths = fc_least(fc_winograd_run_of_depths(p, of.depth), end - unit);
        unit += of.depths;
        of.count = fc_least(p->band, at.first + at.count - of.strip);
        for (; of.slice < p->u.slices; of.slice++) {
            const char *u = slice_of(c, s, &of, bands * deep, of.block != last);
            fc_winograd_multiply(c, s, u, &of, &at);
        }
        fc_winograd_finish(c, s, &of);
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

int fc_winograd_run(const plan *p, const void *x, const void *w, const void *packed,
                    const void *bias, void *y)
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
