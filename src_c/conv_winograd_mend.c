#include "conv_winograd_mend.h"

#include "arena.h"

/* The source of row i of a strip's outputs, all taps and channels: cells [tap][channel][lanes].
 * Of tap t, w_at[t] is where the weights have it, cell_at[t] where `cells` do. */
static void gather_cells(const fc_winograd_plan *p, const char *source, const fc_strip *at,
                         int64_t group, int64_t depth, int64_t i, int64_t lanes, char *cells,
                         int64_t *w_at, int64_t *cell_at)
{
    const fc_line *x = &p->strips.x, *y = &p->strips.y;
    const int64_t *in = p->data.cells;
    const int64_t all = p->batch * p->groups * p->channels * p->data.plane;
    const int64_t start = at->image * p->data.image + group * p->data.group;
    const int64_t taps = p->z.taps * y->taps * x->taps;
    for (int64_t t = 0; t < taps; t++, cells += p->channels * lanes * p->size) {
        const int64_t tz = t / x->taps / y->taps, ty = t / x->taps % y->taps, tx = t % x->taps;
        const int64_t cz = depth * p->z.step + p->z.offset + tz * p->z.tap_step;
        const int64_t cy = (at->top + i * y->spread) * y->stride + y->first + ty * y->spread;
        const int64_t cx = at->left * x->stride + x->first + tx * x->spread;
        const int64_t skip = fc_least(fc_parts(fc_most(0, -cx), x->stride), at->width);
        const int64_t met = fc_parts(fc_most(0, in[2] - cx), x->stride);
        const int inside = cz >= 0 && cz < in[0] && cy >= 0 && cy < in[1];
        const fc_run run = {skip, (cz * in[1] + cy) * in[2] + cx + skip * x->stride,
                            fc_most(0, fc_least(at->width, met) - skip)};
        const int64_t count = inside && run.length > 0;
        p->kernels->gather(&(fc_gather){
            .runs = &run, .count = &count, .taps = 1, .step = x->stride, .rows = p->channels,
            .from = source + start * p->size, .from_row = p->data.plane,
            .behind = start, .ahead = all - start, .to = cells, .width = lanes, .to_row = lanes});
        w_at[t] = ((p->z.weight + tz * p->z.weight_step) * p->u.kernel[1]
                   + y->weight + ty * y->weight_step) * p->u.kernel[2]
                  + x->weight + tx * x->weight_step;
        cell_at[t] = t * p->channels * lanes;
    }
}

int fc_winograd_mend(const fc_winograd_plan *p, const char *x, const char *w, const char *bias,
                     char *y, const fc_strip *at, int64_t group, int64_t block, int64_t depth)
{
    const int64_t first = block * p->u.block, filters = fc_least(p->u.block, p->filters - first);
    const int64_t taps = p->z.taps * p->strips.y.taps * p->strips.x.taps;
    const int64_t lanes = fc_round_up(at->width, p->lanes);
    const int64_t cells = fc_round_up(taps * p->channels * lanes * p->size, FC_LINE);
    const int64_t sums = fc_round_up(filters * lanes * p->size, FC_LINE);
    char *base = fc_arena_take((size_t)(cells + sums) + sizeof(int64_t) * (2 * taps + filters));
    if (!base)
        return FC_NO_MEMORY;
    int64_t *w_at = (int64_t *)(base + cells + sums), *cell_at = w_at + taps, *row = cell_at + taps;
    for (int64_t f = 0; f < filters; f++)
        row[f] = f * p->u.from_filter;
    for (int64_t i = 0; i < at->height; i++) {
        gather_cells(p, x, at, group, depth, i, lanes, base, w_at, cell_at);
        p->kernels->gemm(&(fc_gemm){
            .m = filters, .n = at->width, .taps = taps, .k = p->channels,
            .a = w + (group * p->u.from_group + first * p->u.from_filter) * p->size,
            .a_row = row, .a_tap = w_at, .a_step = p->u.from_channel,
            .b = base, .b_tap = cell_at, .b_step = lanes,
            .c = base + cells, .c_row = lanes, .bias = bias});
        for (int64_t f = 0; f < filters; f++)
            p->kernels->mend(y + fc_winograd_place(p, at, group, first + f, depth, i) * p->size,
                             p->strips.x.place_step, base + cells + f * lanes * p->size, at->width);
    }
    fc_arena_give(base);
    return FC_OK;
}
