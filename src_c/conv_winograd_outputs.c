#include "conv_winograd_outputs.h"

#include "conv_winograd_mend.h"
#include "conv_winograd_products.h"

typedef fc_winograd_plan plan;
typedef fc_winograd_call call;
typedef fc_winograd_scratch scratch;
typedef fc_winograd_part part;

static const char *bias_of(const call *c, int64_t group, int64_t filter)
{
    const plan *p = c->p;
    return c->bias ? c->bias + (group * p->u.blocks * p->u.block + filter) * p->size : NULL;
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
                                fc_winograd_row(c, at, group, filter, depth, 0), p->out_plane,
                                filters, 0);
        return;
    }
    for (int64_t i = 0; i < at->height; i++) {
        const char *from = s->stage + i * at->width * by->lanes * p->size;
        char *to = fc_winograd_row(c, at, group, filter, depth, i);
        if (x->place_step == 1) {
            by->kernels->from_lanes(from, at->width, to, p->out_plane, filters, 0);
            continue;
        }
        by->kernels->from_lanes(from, at->width, s->rows, at->width, filters, 0);
        by->kernels->copy_rows(&(fc_copy){
            .from = s->rows, .from_row = at->width, .from_step = 1, .to = to,
            .to_row = p->out_plane, .to_step = x->place_step, .rows = filters,
            .length = at->width});
    }
}

/* From M, whose rows begin at `products` for whole tiles, at `less` for those without infinity
 * along x, to the stage: the outputs of one strip and vector of filters, both axes at once. Returns
 * whether all of M was finite. */
static int transform_fused(const plan *p, const scratch *s, const fc_vectors *by,
                           const fc_strip *at, int64_t filters, const void *bias,
                           const char *products, const char *less)
{
    const fc_line *x = &p->strips.x, *y = &p->strips.y;
    fc_winograd_outputs outputs = {
        .points = (int)x->all, .length = (int)x->tile, .less_y = fc_line_less(y) + at->less,
        .less_x = fc_line_less(x), .live = filters, .tiles = at->whole, .step = x->tile,
        .spread = x->spread, .width = at->width, .from = products, .from_tile = p->u.block,
        .from_row = x->points * p->m_point, .from_point = p->m_point,
        .to = s->stage, .to_y = at->width * by->lanes, .bias = bias};
    int finite = by->kernels->winograd_outputs(&outputs);
    if (at->whole < at->tiles) {
        const int64_t done = at->whole * x->tile;   /* columns */
        outputs.less_x = 1;
        outputs.tiles = at->tiles - at->whole;
        outputs.step = x->tile - 1;
        outputs.width = at->width - done;
        outputs.from = less;
        outputs.to = s->stage + done * by->lanes * p->size;
        finite &= by->kernels->winograd_outputs(&outputs);
    }
    return finite;
}

/* The same one axis after the other, where all tiles are alike. */
static int transform_in_turn(const call *c, const scratch *s, const fc_vectors *by,
                             const fc_strip *at, int64_t filters, const void *bias,
                             const char *products)
{
    const plan *p = c->p;
    const fc_line *x = &p->strips.x, *y = &p->strips.y;
    const int64_t lanes = by->lanes, across = p->strips.width;
    fc_winograd along_x = {
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
    if (y->taps == 1) {
        along_x.to = s->stage;
        along_x.bias = bias;
        return by->kernels->winograd(&along_x);
    }
    if (x->taps == 1) {   /* a tile is a column */
        along_y.from = products;
        along_y.from_point = p->m_point;
        along_y.from_item = c->m_tile;
    } else
        by->kernels->winograd(&along_x);
    return by->kernels->winograd(&along_y);
}

/* The outputs of one strip and vector of filters. Returns whether all of their M was finite. Most
 * kernels are transformed along both axes at once: 0.8 of the time of two passes. */
static int finish(const call *c, const scratch *s, const fc_strip *at, int64_t group,
                  int64_t filter, int64_t depth, const char *products, const char *less)
{
    const plan *p = c->p;
    const fc_line *x = &p->strips.x, *y = &p->strips.y;
    const fc_vectors *by = fc_vectors_for(c->by, p->filters - filter);
    const int64_t filters = fc_least(by->lanes, p->filters - filter);
    const int fused = y->length == x->length && y->tile == x->tile && y->taps > 1;
    const void *bias = bias_of(c, group, filter);
    const int finite = fused ? transform_fused(p, s, by, at, filters, bias, products, less)
                             : transform_in_turn(c, s, by, at, filters, bias, products);
    store(c, s, by, at, group, filter, depth);
    return finite;
}

void fc_winograd_finish(call *c, const scratch *s, const part *of)
{
    const plan *p = c->p;
    const int64_t row = p->u.block * p->size;
    fc_winograd_order rows = fc_winograd_order_of(p, of);
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
