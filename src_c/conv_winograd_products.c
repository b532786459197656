#include "conv_winograd_products.h"

#include <string.h>

/* Filters are rounded up to so many bytes: half a vector of AVX-512, which takes half its time. */
enum { HALF_VECTOR = 32 };

typedef fc_winograd_plan plan;
typedef fc_winograd_call call;
typedef fc_winograd_scratch scratch;
typedef fc_winograd_chunk chunk;
typedef fc_winograd_part part;
typedef fc_winograd_order order;

order fc_winograd_order_of(const plan *p, const part *of)
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
    const char *from = fc_winograd_row(c, &at, of->group, of->block * p->u.block,
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

void fc_winograd_multiply(const call *c, const scratch *s, const char *u, const part *of,
                          const chunk *at)
{
    const plan *p = c->p;
    const int64_t below = p->z.step * p->data.phases * p->strips.segment * p->data.pitch;
    const order rows = fc_winograd_order_of(p, of);
    int64_t tap, next[2][2];
    memcpy(next, rows.start, sizeof next);
    const int64_t taps = fc_winograd_live_taps(p, of->depth, &tap);
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
