/* Winograd's algorithm, all passes: what it does and how often. */
#include <math.h>

#include "conv_count_parts.h"
#include "conv_thin.h"
#include "conv_winograd.h"
#include "conv_winograd_plan.h"
#include "conv_winograd_weight_grad_plan.h"

typedef struct {
    const fc_axis *axis;                          /* the sum's */
    double batch, groups, channels, filters;      /* of a group */
    double taps;                                  /* of the kernel, of which a phase turns all */
    double lanes, size;
    int prepared, out_of_order;                   /* are a filter's channels far from each other? */
} transformed;

/* Along both inner axes: points, tiles, and products of a whole tile; what share of these there
 * is, as some tiles are smaller; phases. Vectors of channels and of filters;
 * planes of cells and of outputs in depth, and what one of them has. */
typedef struct {
    fc_strips of;
    int square;                                   /* are weights transformed along both at once? */
    double points, tiles, products, share, phases, sources, results, deep, depth, cells, outputs;
} figures;

/* Smaller tiles lack one point. */
static double share(const fc_line *line)
{
    return 1 - (double)(line->tiles - fc_least(line->tiles, line->whole * line->spread))
               / (double)(line->tiles * line->points);
}

/* Vectors of channels. The last of AVX-512's is half a one where that holds what is left, and takes
 * more than half the time: 2 groups of 8 x 69 x 70 -> 8, 2 x 3: 217 -> 135 us, planes 84. */
static double vectors(const transformed *t, double channels)
{
    const double whole = floor(channels / t->lanes), left = channels - whole * t->lanes;
    return whole + (t->lanes * t->size == 64 && left && left * 2 <= t->lanes ? 0.75 : left > 0);
}

static figures figures_of(const transformed *t, int pass)
{
    const fc_axis *axis = t->axis;
    fc_line y, x;
    fc_line_of(&axis[1], &y);
    fc_line_of(&axis[2], &x);
    if (pass != FC_GRAD_WEIGHT)
        fc_line_mix(&y, &x);
    const fc_strips strips = pass == FC_GRAD_WEIGHT
                             ? fc_winograd_grad_strips(&y, &x, (int64_t)t->batch)
                             : fc_strips_of(&y, &x, (int64_t)t->batch);
    return (figures){
        .of = strips, .square = y.length == x.length && y.taps > 1,
        .points = (double)(y.points * x.points), .tiles = (double)(y.tiles * x.tiles),
        .products = (double)(fc_line_products(&y) * fc_line_products(&x)),
        .share = share(&y) * share(&x),
        .phases = (double)(y.phases * x.phases),
        .sources = vectors(t, t->channels), .results = vectors(t, t->filters),
        .deep = (double)axis[0].cells, .depth = (double)axis[0].outputs,
        .cells = (double)(axis[1].cells * axis[2].cells),
        .outputs = (double)(axis[1].outputs * axis[2].outputs),
    };
}

/* Filters of a block, in whole cache lines. */
static double block_of(const transformed *t)
{
    const double line = 64 / t->size;
    return fmin(FC_WINOGRAD_LINES * line, ceil(t->filters / line) * line);
}

/* Rows times all filters, the last block's rounded up to so many. */
static fc_product by_blocks(const transformed *t, double rows, double round, double times)
{
    fc_product all = {0};
    const double block = block_of(t), blocks = floor(t->filters / block);
    fc_count_product(rows, block, t->lanes, t->size, times * blocks, &all);
    fc_count_product(rows, ceil((t->filters - blocks * block) / round) * round, t->lanes, t->size,
                     times, &all);
    return all;
}

/* Taps of output o along an axis that meet a cell. */
static int64_t live_taps(const fc_axis *axis, int64_t o)
{
    int64_t live = 0;
    for (int64_t r = 0; r < axis->taps; r++) {
        const int64_t cell = o * axis->step + axis->offset + r * axis->tap_step;
        live += cell >= 0 && cell < axis->cells;
    }
    return live;
}

/* How a sum's tiles are cut (conv_winograd_plan.c): chunks, and bands in all of these; depths
 * that one product may have together; bytes of all V, and of U. */
typedef struct { double chunks, bands, together, v_bytes, u_bytes; } pieces;

static pieces cut_tiles(const transformed *t, const figures *n)
{
    const double vector = t->lanes * t->size, all = t->batch * n->tiles * n->depth;
    const double u_bytes = t->groups * t->channels * n->results * (double)t->axis[0].taps
                           * n->phases * n->points * vector;
    const double v_tile = n->points * n->phases * n->deep / n->depth * n->sources * vector;
    const double m_tile = n->points * fmin(t->filters * t->size, 64 * FC_WINOGRAD_LINES);
    const fc_winograd_tiles of = fc_winograd_chunk_tiles((int64_t)v_tile, (int64_t)u_bytes,
                                                         (int64_t)t->filters);
    const double strip = (double)n->of.segment * n->depth;   /* tiles that no chunk parts */
    const double fit = strip * fmax(1, floor((double)of.fit / strip));
    const double chunks = all <= fmax((double)of.most, strip) ? 1 : fmax(1, all / fit);
    const double plane = t->batch * n->tiles / chunks;   /* of a chunk, in one depth */
    const double band = (double)fc_winograd_band_tiles((int64_t)m_tile, (int64_t)u_bytes);
    return (pieces){
        .chunks = chunks, .bands = chunks * fmax(1, plane / band),
        .together = fmax(1, floor(band / plane)),
        .v_bytes = all * v_tile, .u_bytes = u_bytes,
    };
}

/* Products of tiles and slices of channels: cycles, the tiles' terms begun, vectors of M, calls. */
typedef struct { double cycles, begun, ends, calls; } multiplied;

static multiplied multiply_tiles(const transformed *t, const figures *n, const pieces *cut)
{
    const fc_axis *z = &t->axis[0];
    const int64_t phases = (int64_t)n->phases;
    const int64_t slice = fc_winograd_slice((int64_t)t->channels, z->taps * phases);
    const double slices = ceil(t->channels / (double)slice);
    const double blocks = ceil(t->filters / block_of(t));
    multiplied all = {0};
    for (int64_t o = 0, run; o < z->outputs; o += run) {   /* depths with the same taps together */
        const int64_t taps = live_taps(z, o);
        const int64_t at_once = fc_winograd_terms_at_once(slice, phases);
        const double sums = slices * (double)fc_parts(taps * phases, at_once);
        const int64_t end = o + (int64_t)fmin(cut->together, (double)(z->outputs - o));
        for (run = 1; o + run < end && live_taps(z, o + run) == taps;)
            run++;
        const double tiles = t->batch * n->tiles * (double)run, rows = ceil(tiles / cut->bands);
        const fc_product now = by_blocks(t, rows, 32 / t->size, t->groups * tiles / rows);
        all.cycles += now.cycles * (double)taps * t->channels * n->products * n->share;
        all.begun += now.tiles * (double)taps * slices * n->products * n->share;
        all.ends += now.vectors * sums * n->points * n->share;
        all.calls += t->groups * cut->bands * sums * n->points * blocks;
    }
    return all;
}

/* Weights that a call gets as they are: points of U; elements turned to lanes, and the pieces in
 * which a filter has those that are turned together; transforms called for; lines not from L2, and
 * of these those from memory that nothing asks for beforehand. In one dimension pieces and calls
 * are most of it: 1 x 512 x 40 -> 512, 3 taps, takes 0.36 ms with weights prepared, 0.85 without,
 * and its input gradient, where each channel is a piece, 1.23. */
typedef struct { double points, turned, pieces, transforms, lines, out_of_order; } given_weights;

static given_weights weights_of(const transformed *t, const figures *n)
{
    enum { AT_ONCE = 8 };   /* channels (conv_winograd_weights.c) */
    const double kernels = t->groups * t->channels * n->results, deep = (double)t->axis[0].taps;
    const double some = t->groups * ceil(t->channels / AT_ONCE) * n->results;
    const double bytes = t->groups * t->channels * t->filters * t->taps * t->size;
    if (t->prepared)
        return (given_weights){0};
    return (given_weights){
        .points = kernels * deep * n->products, .turned = kernels * t->taps,
        .pieces = t->out_of_order ? some * AT_ONCE : some,
        .transforms = some * n->phases * deep * (n->square ? 1 : 2),
        .lines = bytes < L2_BYTES ? 0 : bytes / 64,
        .out_of_order = t->out_of_order ? bytes / 64 * fc_count_beyond(bytes) : 0,
    };
}

static void transforms(const transformed *t, double term[FC_TERMS])
{
    const fc_axis *axis = t->axis;
    const figures n = figures_of(t, FC_FORWARD);
    const pieces cut = cut_tiles(t, &n);
    const multiplied m = multiply_tiles(t, &n, &cut);
    const double items = t->batch * t->groups, strips = t->groups * (double)n.of.strips;
    const double sources = items * n.deep * n.sources, results = items * n.depth * n.results;
    const given_weights w = weights_of(t, &n);
    /* Each chunk reads all of U, at the points of each phase that are not zero. Of one chunk each
     * slice is used where it was made. */
    const double u = t->groups * t->channels * n.results * (double)axis[0].taps * n.products;
    const double u_moved = t->prepared ? u * cut.chunks : cut.chunks > 1 ? u * (cut.chunks + 1) : 0;
    const double tiles = n.tiles * n.share;
    const double lines = items * t->filters * n.depth * (double)axis[1].outputs;
    const double counted[FC_TERMS] = {
        m.cycles,
        m.begun,
        m.ends,
        m.calls,
        sources * n.products * tiles,                     /* points of tiles transformed */
        results * n.points * tiles,
        sources * n.cells,                                /* vectors turned to lanes and back */
        results * n.outputs,
        strips * n.deep * n.sources,                      /* rows of tiles */
        strips * n.depth * n.results,
        w.points,                                         /* of weights transformed */
        w.turned,
        w.transforms,
        w.lines,
        axis[1].place_step > 1 || axis[2].place_step > 1 ? lines : 0,   /* of outputs apart */
        axis[2].place_step > 1 ? items * t->filters * n.depth * n.outputs : 0,
        cut.v_bytes / cut.chunks > 1 << 20 ? sources * n.products * tiles : 0,   /* not in L2 */
        w.out_of_order,
        sources * n.products * tiles * fc_count_beyond(cut.v_bytes / cut.chunks),   /* not in L3 */
        u_moved * fc_count_beyond(cut.u_bytes),           /* nor is U */
        w.pieces,
        [LAST] = 1,
    };
    fc_count_add(term, counted);
}

/* Sums over all tiles, also those that a strip lacks, for each tap in depth and phase. */
static void transforms_grad_weight(const transformed *t, double term[FC_TERMS])
{
    const fc_axis *z = &t->axis[0];
    const figures n = figures_of(t, FC_GRAD_WEIGHT);
    const double terms = (double)(n.of.strips * n.of.segment), taps = (double)z->taps;
    const double items = t->batch * t->groups, strips = t->groups * (double)n.of.strips;
    const double sources = items * n.deep * n.sources, results = items * n.depth * n.results;
    const double blocks = ceil(t->filters / block_of(t));
    const double sums = n.points * taps * n.phases * t->channels * blocks * block_of(t) * t->size;
    const double points = n.points * (n.deep * n.phases * n.sources + n.depth * n.results);
    const double chunks = fc_winograd_grad_weight_chunks(terms * points * t->lanes * t->size, sums);
    const fc_product all = by_blocks(t, t->channels, fmin(t->lanes, 32 / t->size), t->groups);
    const double kernels = t->groups * t->channels * n.results;
    const double meetings = (double)fc_axis_meetings(z);
    const int in_a_row = z->cells == 1 && z->outputs == 1 && n.phases == 1;
    const double added = all.vectors * n.products * taps * chunks;
    const double counted[FC_TERMS] = {
        all.cycles * n.products * n.share * meetings * terms,
        all.tiles * n.products * (in_a_row ? chunks : meetings * (double)n.of.strips),   /* begun */
        added,                                            /* vectors of M */
        sums > 1 << 20 ? added : 0,                       /* and not in L2 */
        sources * n.products * n.tiles,                   /* points of tiles transformed */
        results * n.points * n.tiles,
        sources * n.cells,                                /* vectors turned to lanes and back */
        results * n.outputs,
        strips * n.deep * n.sources,                      /* rows of tiles */
        strips * n.depth * n.results,
        kernels * taps * n.products,                      /* M transformed */
        kernels * t->taps,
        t->groups * t->channels * t->filters * t->taps,   /* weights */
        t->groups * n.products * taps * chunks * blocks,  /* products called for */
        t->groups * chunks,
        sums > L3_BYTES ? added : 0,                      /* vectors of M, not in L3 */
        [LAST] = 1,
    };
    fc_count_add(term, counted);
}

/* The cells that some output can meet are copied beforehand or, of the input gradient, afterwards
 * (conv_thin.c). */
static void thin_out(const fc_conv *conv, const fc_conv *thin, const int64_t every[3], int pass,
                     double lanes, double term[FC_TERMS])
{
    const double planes = (double)(conv->batch * conv->in_channels);
    const double cells = planes * fc_count_volume(thin->in);
    if (fc_volume(every) == 1)
        return;
    term[KEPT_LINES] += planes * (double)(thin->in[0] * thin->in[1]);
    term[KEPT] += every[2] > 2 ? cells : cells / lanes;
    term[FILLED] += pass == FC_GRAD_INPUT ? planes * fc_count_volume(conv->in) / lanes : 0;
}

void fc_count_winograd(const fc_conv *given, int pass, int prepared, double lanes,
                       double terms[FC_WAYS][FC_TERMS])
{
    if (!(pass == FC_GRAD_INPUT ? fc_winograd_grad_input_fits(given) : fc_winograd_fits(given)))
        return;
    int64_t first[3], every[3], phases[3] = {1, 1, 1};
    const fc_conv conv = fc_conv_thin(given, first, every);
    for (int a = 0; a < 3 && pass == FC_GRAD_INPUT; a++)
        phases[a] = fc_least(conv.stride[a], conv.in[a]);
    double *term = terms[pass == FC_GRAD_WEIGHT ? FC_TRANSFORMS_GRAD_WEIGHT : FC_TRANSFORMS];
    thin_out(given, &conv, every, pass, lanes, term);
    const double in = (double)(conv.in_channels / conv.groups);
    const double out = (double)(conv.out_channels / conv.groups);
    for (int64_t i = 0; i < fc_volume(phases); i++) {
        const int64_t at[3] = {i / phases[2] / phases[1], i / phases[2] % phases[1], i % phases[2]};
        fc_axis axis[3];
        for (int a = 0; a < 3; a++)
            axis[a] = pass == FC_GRAD_INPUT ? fc_axis_grad_input(&conv, a, at[a])
                                            : fc_axis_forward(&conv, a);
        const transformed all = {
            .axis = axis, .batch = (double)conv.batch, .groups = (double)conv.groups,
            .channels = pass == FC_GRAD_INPUT ? out : in,
            .filters = pass == FC_GRAD_INPUT ? in : out,
            .taps = fc_count_volume(conv.kernel), .lanes = lanes,
            .size = conv.dtype == FC_F32 ? 4 : 8,
            .prepared = prepared, .out_of_order = pass == FC_GRAD_INPUT,
        };
        if (pass == FC_GRAD_WEIGHT)
            transforms_grad_weight(&all, term);
        else
            transforms(&all, term);
    }
}
