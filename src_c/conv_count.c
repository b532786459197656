/* One function for each way: what it does, and how often. */
#include "conv_count.h"

#include <math.h>
#include <string.h>

#include "conv_channelwise.h"
#include "conv_weight_grad.h"
#include "conv_winograd.h"
#include "conv_winograd_plan.h"

/* Counted beside what a way does itself: vectors of results filled before the sums come; lines of
 * results that nothing is summed for; of cells that some output can meet, lines and cells copied; cache
 * lines of what is read and written, where that is more than L2 keeps. Idle lines are for the direct
 * ways, kept ones for Winograd's, in one place. */
enum {
    LAST = FC_TERMS - 1, FILLED = LAST - 1, IDLE = LAST - 2, KEPT_LINES = LAST - 2, KEPT = LAST - 3, FAR = LAST - 4
};

static double volume(const int64_t lengths[3]) { return (double)fc_volume(lengths); }

double fc_conv_multiply_adds(const fc_conv *conv)
{
    return volume(conv->out) * volume(conv->kernel) * (double)conv->out_channels
           * (double)conv->in_channels / (double)conv->groups;
}

int64_t fc_vector_bytes(const fc_conv *conv)
{
    return fc_active[conv->dtype]->lanes * (conv->dtype == FC_F32 ? 4 : 8);
}

int fc_conv_ways_differ(const fc_conv *conv, int pass)
{
    return pass == FC_GRAD_WEIGHT
        || conv->groups != (pass == FC_FORWARD ? conv->in_channels : conv->out_channels);
}

static void add(double term[FC_TERMS], const double counted[FC_TERMS])
{
    for (int i = 0; i < FC_TERMS; i++)
        term[i] += counted[i];
}

static double taps_of(const fc_job *job)
{
    return (double)(job->axis[0].taps * job->axis[1].taps * job->axis[2].taps);
}

/* --- products (gemm_kernel.inc) ------------------------------------------------------------------ */

/* Register tiles of the instruction sets (isa_*.c), in rows and vectors; the most rows of those that
 * wait for their loads; what a cycle starts, in multiply-adds of a vector, and what a vector's load
 * takes of it. */
typedef struct { int64_t rows, cols, cols_4, cols_2, few; double starts, load; int half; } tiles;

static const tiles *tiles_of(double lanes, double size)
{
    static const tiles all[3] = {{4, 3, 3, 6, 3, 1, 0.5, 0}, {4, 3, 3, 6, 3, 2, 0.5, 0}, {8, 3, 6, 8, 2, 1, 1, 1}};
    return &all[(int64_t)(lanes * size) / 32];
}

/* Products of `rows` rows and `n` columns: cycles for one term of all their sums, multiply-adds among
 * these of tiles of few rows, vectors of the operand B and elements of A loaded; tiles,
 * vectors of results, elements of these stored one by one since they do not fill their vectors. */
typedef struct { double cycles, few, loads, scalars, tiles, vectors, edges; } product;

/* A cycle's loads and multiply-adds run side by side, and each of a tile's sums is a chain, whose next
 * link waits for the last. */
static void add_tile(const tiles *of, double rows, double cols, double edge, double times, product *p)
{
    enum { LATENCY = 4 };   /* of a multiply-add */
    p->cycles += times * fmax(fmax(rows * cols / of->starts, cols * of->load + rows / 2), LATENCY);
    p->few += rows <= (double)of->few ? times * rows * cols : 0;
    p->loads += times * cols;
    p->scalars += times * rows;
    p->tiles += times;
    p->vectors += times * rows * cols;
    p->edges += times * rows * edge;
}

static void add_band(const tiles *of, double rows, double n, double lanes, double times, product *p)
{
    const double cols = (double)(rows > 4 ? of->cols : rows > 2 ? of->cols_4 : of->cols_2);
    const double over = fmod(n, lanes), half = of->half && over <= lanes / 2 ? over : 0;
    const double vectors = ceil((n - half) / lanes), whole = fmax(0, ceil(vectors / cols) - 1);
    const double last = vectors - whole * cols, missing = over && !half ? lanes - over : 0;
    add_tile(of, rows, cols, 0, times * whole, p);
    if (last)
        add_tile(of, rows, last, missing ? last * lanes - missing : 0, times, p);
    if (half)   /* two of its multiply-adds start together */
        add_tile(of, rows, 0.5, half < lanes / 2 ? half : 0, times, p);
}

static void add_product(double rows, double n, double lanes, double size, double times, product *p)
{
    const tiles *of = tiles_of(lanes, size);
    const double full = floor(rows / (double)of->rows), left = rows - full * (double)of->rows;
    if (n <= 0 || times <= 0)
        return;
    if (full)
        add_band(of, (double)of->rows, n, lanes, times * full, p);
    if (left)
        add_band(of, left, n, lanes, times, p);
}

/* --- forward pass and input gradient, direct --------------------------------------------------- */

enum { L1_BYTES = 24 << 10 };   /* of one operand, beside the others */

static double ragged(double rows) { return ceil(rows / 8) * 8 - rows; }

/* Cells or outputs that are copied one by one, since they stand more than `most` apart; a vector
 * at a time otherwise. */
static double singly(double count, int64_t step, int64_t most) { return step > most ? count : 0; }

/* Cache lines of all weights, as taps that are left out share theirs; none where L2 keeps them. */
static double weight_lines(const fc_job *job)
{
    const double pairs = (double)(job->groups * job->rows * job->channels), size = (double)job->size;
    const double kernel = (double)fc_job_kernel(job), of_group = pairs / (double)job->groups * kernel * size;
    return of_group > 1 << 19 ? pairs * fmin(taps_of(job), ceil(kernel * size / 64)) : 0;
}

/* Cells that planes copy: vectors of long rows, else one by one; rows; zeros around them, in vectors. */
typedef struct { double vectors, singly, rows, zeros; } copied;

static copied copied_by(const fc_job *job, const fc_planes_shape *shape, double lanes)
{
    const double items = (double)(job->batch * job->groups * job->channels), rows = items * (double)shape->rows;
    const double inside = items * (double)shape->inside, all = items * (double)(shape->boxes * shape->cells);
    const double length = rows > 0 ? inside / rows : 0;
    const int by_vectors = job->axis[2].step <= 2 && length >= lanes;
    return (copied){
        .vectors = by_vectors ? rows * ceil(length / lanes) : 0, .singly = by_vectors ? 0 : inside,
        .rows = rows, .zeros = inside < all ? all / lanes : 0,
    };
}

static void panels(const fc_job *job, double lanes, double term[FC_TERMS])
{
    const fc_axis *axis = job->axis;
    const fc_panels_shape shape = fc_conv_panels_shape(job);
    const double width = (double)shape.lanes, along = (double)axis[2].outputs, size = (double)job->size;
    const double outputs = along * (double)axis[1].outputs * (double)axis[0].outputs;
    const double pixels = (double)job->batch * outputs, groups = (double)job->groups;
    const double taps = taps_of(job), channels = (double)job->channels, rows = (double)job->rows;
    const double count = pixels <= width + lanes ? 1 : ceil((pixels - lanes) / width);
    const double panels = groups * count, vectors = groups * ceil(pixels / lanes);
    const double lanes_used = fmin(width, pixels), runs = fmin(lanes_used / along + 1, lanes_used);
    const double nears = (double)job->weight_channel == taps ? 1 : ceil(channels * taps / (double)shape.near);
    const double entries = taps * nears;
    /* Nothing is gathered of a panel that lies in the source, as those do that no line ends in. */
    const double gathered = shape.in_place ? fmin(1, width / along) : 1, cells = gathered * taps * channels;
    const double weights = panels * rows * channels * taps;
    product all = {0};
    add_product(rows, width, lanes, size, groups * (count - 1), &all);
    add_product(rows, pixels - (count - 1) * width, lanes, size, groups, &all);
    const double products = (double)shape.products;
    const double counted[FC_TERMS] = {
        all.cycles * taps * channels,
        all.few * taps * channels,
        all.tiles * (double)shape.entries,                /* begun */
        all.vectors * products,                           /* vectors of outputs */
        all.edges * products,
        panels * products,
        axis[2].step > 2 ? 0 : vectors * cells,           /* vectors gathered */
        singly(groups * pixels * cells, axis[2].step, 2),
        panels * cells * runs,                            /* runs of cells gathered */
        panels * gathered * entries * runs,
        panels * gathered * entries,
        fc_job_dense(job) ? 0 : panels * rows * runs,     /* runs of outputs */
        singly(groups * pixels * rows, axis[2].place_step, 2),
        weights,                                          /* read */
        count * weight_lines(job),                        /* and not from L2 */
        panels,
        [LAST] = 1,
    };
    add(term, counted);
}

static void planes(const fc_job *job, const fc_planes_shape *shape, double lanes, double term[FC_TERMS])
{
    const fc_axis *x = &job->axis[2];
    const double items = (double)(job->batch * job->groups * shape->boxes), taps = taps_of(job);
    const double channels = (double)job->channels, rows = (double)job->rows, size = (double)job->size;
    const copied cells = copied_by(job, shape, lanes);
    const int64_t left = shape->lines % shape->chunk, whole = shape->lines / shape->chunk;
    const double times = items * (double)shape->planes, products = times * (double)(whole + (left > 0));
    const double lines = items * rows * (double)(shape->planes * shape->lines);
    const int across = taps > 1 || shape->pitch * job->size % 64;
    product all = {0};
    /* Lines of a box are computed so many together, the last ones of them by themselves. */
    const double line = (double)shape->pitch, ends = (double)(shape->width - shape->pitch);
    add_product(rows, (double)shape->chunk * line + ends, lanes, size, times * (double)whole, &all);
    add_product(rows, (double)left * line + ends, lanes, size, left ? times : 0, &all);
    /* Cells of a box that leave L1 before the next row of tiles, or the next tap, reads them. */
    const double box = channels * (double)shape->cells * size, tile = 3 * lanes * size + 64;
    const double near = channels * taps / (double)shape->entries;   /* channels of an entry */
    const double weights = near * fmin(rows, 8) * fmax((double)fc_job_kernel(job) * size, 16);
    const double far = box <= L1_BYTES ? 0 : near * tile > L1_BYTES ? taps : taps / (double)x->taps;
    const double counted[FC_TERMS] = {
        all.cycles * taps * channels,
        all.few * taps * channels,
        across ? all.loads * taps * channels : 0,
        all.tiles * (double)shape->entries,               /* begun */
        all.vectors,                                      /* vectors of outputs */
        all.edges,
        all.loads * far * channels,                       /* not from L1 */
        weights > L1_BYTES ? all.scalars * taps * channels : 0,
        cells.vectors,                                    /* copied */
        cells.singly,
        cells.rows,
        items * channels * (double)shape->copies,         /* calls of the copy */
        shape->joined ? 0 : lines,                        /* lines of outputs copied */
        singly(lines * (double)shape->width, x->place_step, 2),
        products * rows * channels * taps,                /* weights read */
        products,
        products * rows,
        cells.zeros,
        products / (double)job->groups * weight_lines(job),   /* read, and not from L2 */
        [LAST] = 1,
    };
    add(term, counted);
}

/* Four lines of outputs share what they load; those left over load for themselves. */
static void depthwise(const fc_job *job, const fc_planes_shape *shape, double lanes, double term[FC_TERMS])
{
    const fc_axis *y = &job->axis[1], *x = &job->axis[2];
    const double items = (double)(job->batch * job->groups * shape->boxes), rows = (double)job->rows;
    const double planes = items * rows * (double)shape->planes, lines = planes * (double)shape->lines;
    const double fours = planes * floor((double)shape->lines / 4), left = lines - 4 * fours;
    const double vectors = ceil((double)shape->width / lanes);
    const copied cells = copied_by(job, shape, lanes);
    const double counted[FC_TERMS] = {
        lines * vectors * taps_of(job),                   /* multiply-adds */
        (fours * (double)(y->taps + 3) + left * (double)y->taps) * vectors * (double)x->taps,   /* loads */
        (fours + left) * ceil(vectors / (lanes * (double)job->size == 64 ? 4 : 2)),   /* tiles */
        lines * vectors,                                  /* vectors of outputs */
        cells.vectors,                                    /* copied */
        cells.singly,
        cells.rows,
        items * (double)shape->copies,                    /* calls of the copy */
        left * vectors * taps_of(job),                    /* multiply-adds in one line */
        items * rows,
        items,
        cells.zeros,
        [LAST] = 1,
    };
    add(term, counted);
}

static void toeplitz(const fc_job *job, const fc_toeplitz_shape *shape, double lanes, double term[FC_TERMS])
{
    const fc_axis *x = &job->axis[2];
    const double width = (double)job->kernels->width, rows = (double)job->rows;
    const double lines = (double)(job->batch * job->groups * job->axis[0].outputs * job->axis[1].outputs);
    const double strips = (double)shape->strips, long_strip = (double)shape->strip, k = (double)x->taps + width - 1;
    const double last = (double)x->outputs - (strips - 1) * long_strip;
    const double whole = (strips - 1) * long_strip / width + floor(last / width);
    const double narrow = ceil((last - floor(last / width) * width) / lanes);
    const double counted[FC_TERMS] = {
        lines * rows * whole * width / lanes * k,         /* multiply-adds */
        lines * rows * ragged(floor(last / width)) * width / lanes * k,
        lines * rows * narrow * k,                        /* in the last row, of one tile row */
        lines * rows * strips * (k + 2 * width),          /* weights laid out */
        lines * strips * (long_strip + k) / lanes,        /* cells copied */
        lines * strips * rows,
        lines * strips,
        [LAST] = 1,
    };
    add(term, counted);
}

/* Cells and outputs of planes that lie a multiple of 4 KiB apart share one set of the first level
 * of cache, all channels of a block. */
static void channelwise(const fc_job *job, const fc_channelwise_shape *shape, double lanes, double term[FC_TERMS])
{
    const double blocks = ceil((double)job->groups / lanes), items = (double)job->batch * blocks;
    const double weights = blocks * (double)(job->rows * job->weight_row);
    const int cells_apart = job->source_channel * job->size % 4096 != 0;
    const int outputs_apart = job->rows * job->out_row * job->size % 4096 != 0;
    const double counted[FC_TERMS] = {
        items * shape->products,                          /* multiply-adds */
        items * shape->loads,
        items * shape->runs,                              /* runs of taps begun */
        items * shape->stretches,
        items * shape->cells,                             /* turned to lanes and back */
        items * shape->outputs,
        cells_apart ? 0 : items * shape->cells,
        outputs_apart ? 0 : items * shape->outputs,
        items * shape->lines,                             /* of cells */
        items * shape->calls,
        weights,
        items * shape->zeros,
        shape->window * lanes * (double)job->size > L1_BYTES ? items * shape->looked_at : 0,   /* not in L1 */
        [LAST] = 1,
    };
    add(term, counted);
}

/* Lines of outputs, or panels' parts of these. */
static double lines_of(const fc_job *job)
{
    const fc_axis *axis = job->axis;
    return (double)(job->batch * job->groups * job->rows * axis[0].outputs * axis[1].outputs)
           * ceil((double)axis[2].outputs / 48);
}

static void count_channelwise(const fc_job *jobs, int64_t phases, double lanes, int fits[FC_TRANSFORMS],
                              double terms[FC_WAYS][FC_TERMS])
{
    const fc_channelwise_shape shape = fc_conv_channelwise_shape(jobs, phases, 0);
    fits[FC_CHANNELWISE] &= shape.fits;
    if (shape.fits)
        channelwise(jobs, &shape, lanes, terms[FC_CHANNELWISE]);
}

/* Segments are summed one by one (conv.c), channel by channel where there is but one of the `phases`;
 * `fits` stays 1 for ways that take all of them. */
static void count_segments(const fc_job *job, int64_t phases, double lanes, int fits[FC_TRANSFORMS],
                           double terms[FC_WAYS][FC_TERMS])
{
    fc_segments segments;
    fc_job part = *job;
    fc_job_segments(job, &segments);
    for (int64_t i = 0; i < fc_volume(segments.count); i++) {
        fc_job_take_segment(&part, &segments, i);
        if (fc_job_empty(&part)) {   /* panels write what is left of it */
            for (int way = FC_PANELS; way < FC_TRANSFORMS; way++)
                if (way <= FC_APART || (way == FC_CHANNELWISE && phases == 1)) {
                    terms[way][IDLE] += lines_of(&part);
                    terms[way][LAST] += 1;
                }
            continue;
        }
        panels(&part, lanes, terms[FC_PANELS]);
        if (phases == 1)
            count_channelwise(&part, 1, lanes, fits, terms);
        for (int way = FC_PLANES; way <= FC_APART; way++) {
            const fc_planes_shape shape = fc_conv_planes_shape(&part, way);
            fits[way] &= shape.fits;
            if (fits[way])
                planes(&part, &shape, lanes, terms[way]);
        }
    }
}

/* The other ways that take the job of one phase. */
static void count_whole(const fc_job *job, double lanes, int fits[FC_TRANSFORMS], double terms[FC_WAYS][FC_TERMS])
{
    const fc_planes_shape shape = fc_conv_planes_shape(job, FC_DEPTHWISE);
    fits[FC_DEPTHWISE] &= shape.fits;
    if (fits[FC_DEPTHWISE])
        depthwise(job, &shape, lanes, terms[FC_DEPTHWISE]);
    const fc_toeplitz_shape strips = fc_conv_toeplitz_shape(job);
    fits[FC_TOEPLITZ] &= strips.fits;
    if (fits[FC_TOEPLITZ])
        toeplitz(job, &strips, lanes, terms[FC_TOEPLITZ]);
}

/* Where ways must not differ in bits, but panels cut a sum in two, panels are for what nothing else
 * takes. */
static int one_chain(const fc_conv *conv, int pass)
{
    return fc_conv_ways_differ(conv, pass)
        || fc_panels_one_chain(fc_volume(conv->kernel), conv->dtype == FC_F32 ? 4 : 8);
}

static void count_direct(const fc_conv *conv, int pass, double lanes, double terms[FC_WAYS][FC_TERMS])
{
    const fc_conv merged = fc_conv_merge_axes(conv);
    const fc_job all = pass == FC_FORWARD ? fc_job_forward(&merged, NULL, NULL, NULL, NULL, 1)
                                          : fc_job_grad_input(&merged, NULL, NULL, NULL, NULL, 1);
    const int64_t phases = pass == FC_FORWARD ? 1 : fc_job_phases(&merged);
    fc_job job[FC_MOST_PHASES];
    int fits[FC_TRANSFORMS], others = 0;
    for (int way = FC_PANELS; way < FC_TRANSFORMS; way++)
        fits[way] = 1;
    if (pass == FC_GRAD_INPUT && fc_job_leaves_cells(&merged))
        for (int way = FC_PANELS; way < FC_TRANSFORMS; way++)
            terms[way][FILLED] = (double)(conv->batch * conv->in_channels) * volume(conv->in) / lanes;
    for (int64_t phase = 0; phase < phases; phase++) {
        fc_job *now = &job[phase % FC_MOST_PHASES];
        *now = pass == FC_FORWARD ? all : fc_job_phase(&all, &merged, phase);
        if (fc_job_empty(now))
            continue;
        count_segments(now, phases, lanes, fits, terms);
        if (all.channels == 1)
            count_whole(now, lanes, fits, terms);
    }
    if (phases > 1)
        count_channelwise(job, phases, lanes, fits, terms);
    for (int way = FC_PLANES; way < FC_TRANSFORMS; way++) {
        if (!fits[way])
            memset(terms[way], 0, sizeof terms[way]);
        others += terms[way][LAST] > 0;
    }
    if (others && !one_chain(conv, pass))
        memset(terms[FC_PANELS], 0, sizeof terms[FC_PANELS]);
}

/* --- gradient of the weights, direct ---------------------------------------------------------- */

/* Elements of a matrix that pack_transposed turns by fours, and those that it copies one by one. */
static double by_fours(double rows, double columns) { return 16 * floor(rows / 4) * floor(columns / 4); }

static void channels(const fc_conv *conv, double lanes, double term[FC_TERMS])
{
    const double size = conv->dtype == FC_F32 ? 4 : 8, groups = (double)conv->groups;
    const fc_weight_channels_shape shape = fc_weight_channels_count(conv);
    const double taps = volume(conv->kernel), channels = (double)conv->in_channels / groups;
    const double filters = (double)conv->out_channels / groups, blocks = (double)shape.blocks;
    const double some = (double)shape.channels, rest = channels - (blocks - 1) * some, line = (double)shape.line;
    const double rows = (double)shape.block_rows, whole = floor(filters / rows), left = filters - whole * rows;
    const int across = shape.channels * (int64_t)size % 64 != 0;
    product all = {0};
    for (int i = 0; i < 2; i++) {
        const double n = (double)shape.in_row * (i ? rest : some), times = i ? 1 : blocks - 1;
        add_product(rows, n, lanes, size, times * whole, &all);
        add_product(left, n, lanes, size, times * (left > 0), &all);
    }
    const double products = groups * (double)shape.products;
    const double turned = (blocks - 1) * some + rest;
    const double fours = (blocks - 1) * by_fours(some, line) + by_fours(rest, line);
    const double turned_at_end = taps > 1 && channels > 1 ? channels * taps : 0;
    const double counted[FC_TERMS] = {
        groups * all.cycles * shape.terms,
        groups * all.few * shape.terms,
        across ? groups * all.loads * shape.terms : 0,
        groups * all.tiles * shape.lines,                 /* begun */
        all.vectors * products,                           /* vectors of dw added to */
        all.edges * products,
        all.tiles * products,
        groups * shape.cells * fours / line,              /* turned by fours */
        groups * shape.cells * (turned - fours / line),
        groups * shape.cells * blocks / line,             /* lines turned */
        groups * filters * by_fours(channels, turned_at_end / channels),
        groups * filters * (turned_at_end - by_fours(channels, turned_at_end / channels)),
        groups * filters * shape.scanned / lanes,
        groups * filters,
        groups * blocks * (double)shape.strips,
        products * blocks * (whole + (left > 0)),
        groups * filters * channels * taps,
        shape.apart ? 0 : groups * filters * turned_at_end,
        [LAST] = 1,
    };
    add(term, counted);
}

static void dots(const fc_conv *conv, const fc_weight_dots_shape *shape, double term[FC_TERMS])
{
    const double batch = (double)conv->batch;
    const double counted[FC_TERMS] = {
        batch * shape->tiles,
        batch * shape->across,
        batch * shape->lines,
        batch * shape->calls,
        batch * shape->sums,
        batch * shape->copied,
        batch * shape->edges,
        batch * shape->singly,
        batch * shape->cleared + shape->scratch,
        batch * shape->strips,
        (double)(conv->kernel[1] + conv->kernel[2]),      /* columns and rows planned */
        [LAST] = 1,
    };
    add(term, counted);
}

static void count_grad_weight(const fc_conv *conv, double lanes, double terms[FC_WAYS][FC_TERMS])
{
    const fc_conv merged = fc_conv_merge_axes(conv);
    const fc_job job = fc_job_forward(&merged, NULL, NULL, NULL, NULL, 1);
    const fc_channelwise_shape turned = fc_conv_channelwise_shape(&job, 1, 1);
    const fc_weight_dots_shape along = fc_weight_dots_count(&merged, (int64_t)lanes * job.size);
    channels(&merged, lanes, terms[FC_CHANNELS]);
    if (along.fits)
        dots(&merged, &along, terms[FC_DOTS]);
    if (turned.fits)
        channelwise(&job, &turned, lanes, terms[FC_CHANNELWISE_GRAD_WEIGHT]);
}

/* --- Winograd's algorithm, all passes ---------------------------------------------------------- */

typedef struct {
    const fc_axis *axis;                          /* the sum's */
    double batch, groups, channels, filters;      /* of a group */
    double taps;                                  /* of the kernel, of which a phase turns all */
    double lanes, size;
    int prepared;
} transformed;

/* Along both inner axes: points, tiles, and products of a whole tile; what share of these there is, as
 * some tiles are smaller; phases of the stride. Vectors of channels and of filters; planes of cells and
 * of outputs in depth, and what one of them has. */
typedef struct {
    fc_strips of;
    double points, tiles, products, share, phases, sources, results, deep, depth, cells, outputs;
} figures;

/* Smaller tiles lack one point. */
static double share(const fc_line *line)
{
    return 1 - (double)(line->tiles - fc_least(line->tiles, line->whole * line->spread))
               / (double)(line->tiles * line->points);
}

/* `mixed`: does the pass cut an axis into tiles of two sizes? */
static figures figures_of(const transformed *t, int mixed)
{
    const fc_axis *axis = t->axis;
    fc_line y, x;
    fc_line_of(&axis[1], &y);
    fc_line_of(&axis[2], &x);
    if (mixed)
        fc_line_mix(&y, &x);
    return (figures){
        .of = fc_strips_of(&y, &x, (int64_t)t->batch),
        .points = (double)(y.points * x.points), .tiles = (double)(y.tiles * x.tiles),
        .products = (double)(fc_line_products(&y) * fc_line_products(&x)),
        .share = share(&y) * share(&x),
        .phases = (double)(y.phases * x.phases),
        .sources = ceil(t->channels / t->lanes), .results = ceil(t->filters / t->lanes),
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
static product by_blocks(const transformed *t, double rows, double round, double times)
{
    product all = {0};
    const double block = block_of(t), blocks = floor(t->filters / block);
    add_product(rows, block, t->lanes, t->size, times * blocks, &all);
    add_product(rows, ceil((t->filters - blocks * block) / round) * round, t->lanes, t->size, times, &all);
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

/* How a sum's tiles are cut (conv_winograd_plan.c): chunks, and bands in all of these; depths that one
 * product may have together; bytes of all V, and of U. */
typedef struct { double chunks, bands, together, v_bytes, u_bytes; } pieces;

static pieces cut_tiles(const transformed *t, const figures *n)
{
    const double vector = t->lanes * t->size, all = t->batch * n->tiles * n->depth;
    const double u_bytes = t->groups * t->channels * n->results * (double)t->axis[0].taps
                           * n->phases * n->points * vector;
    const double v_tile = n->points * n->phases * n->deep / n->depth * n->sources * vector;
    const double m_tile = n->points * fmin(t->filters * t->size, 64 * FC_WINOGRAD_LINES);
    const fc_winograd_tiles of = fc_winograd_chunk_tiles((int64_t)v_tile, (int64_t)u_bytes);
    const double chunks = all <= (double)of.most ? 1 : fmax(1, all / (double)of.fit);
    const double plane = t->batch * n->tiles / chunks;   /* of a chunk, in one depth */
    const double fit = (double)fc_winograd_band_tiles((int64_t)m_tile, (int64_t)u_bytes);
    return (pieces){
        .chunks = chunks, .bands = chunks * fmax(1, plane / fit), .together = fmax(1, floor(fit / plane)),
        .v_bytes = all * v_tile, .u_bytes = u_bytes,
    };
}

/* Products of tiles and slices of channels: cycles, the tiles' terms begun, vectors of M, calls. */
typedef struct { double cycles, begun, ends, calls; } multiplied;

static multiplied multiply_tiles(const transformed *t, const figures *n, const pieces *cut)
{
    const fc_axis *z = &t->axis[0];
    const int64_t slice = fc_winograd_slice((int64_t)t->channels, z->taps * (int64_t)n->phases);
    const double slices = ceil(t->channels / (double)slice), blocks = ceil(t->filters / block_of(t));
    multiplied all = {0};
    for (int64_t o = 0, run; o < z->outputs; o += run) {   /* depths with the same taps together */
        const int64_t taps = live_taps(z, o);
        const double sums = slices * (double)fc_parts(taps, fc_winograd_taps_at_once(slice, (int64_t)n->phases));
        for (run = 1; (double)run < cut->together && o + run < z->outputs && live_taps(z, o + run) == taps;)
            run++;
        const double tiles = t->batch * n->tiles * (double)run, rows = ceil(tiles / cut->bands);
        const product now = by_blocks(t, rows, 32 / t->size, t->groups * tiles / rows);
        all.cycles += now.cycles * (double)taps * t->channels * n->products * n->share;
        all.begun += now.tiles * (double)taps * slices * n->products * n->share;
        all.ends += now.vectors * sums * n->points * n->share;
        all.calls += t->groups * cut->bands * sums * n->points * blocks;
    }
    return all;
}

static void transforms(const transformed *t, double term[FC_TERMS])
{
    const fc_axis *axis = t->axis;
    const figures n = figures_of(t, 1);
    const pieces cut = cut_tiles(t, &n);
    const multiplied m = multiply_tiles(t, &n, &cut);
    const double items = t->batch * t->groups, strips = t->groups * (double)n.of.strips;
    const double sources = items * n.deep * n.sources, results = items * n.depth * n.results;
    /* Each chunk reads all weights, at the points of each phase that are not zero. */
    const double kernels = t->groups * t->channels * n.results;
    const double weights = kernels * (double)axis[0].taps * n.products;
    const double kept = (double)fc_winograd_cache_bytes(), again = t->prepared || cut.chunks > 1;
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
        t->prepared ? 0 : weights,                        /* weights transformed */
        t->prepared ? 0 : kernels * t->taps,
        weights * cut.chunks,                             /* weights read */
        again ? weights * cut.chunks * fmax(0, 1 - kept / cut.u_bytes) : 0,   /* and not from a cache */
        axis[1].place_step > 1 || axis[2].place_step > 1 ? lines : 0,   /* of outputs that lie apart */
        axis[2].place_step > 1 ? items * t->filters * n.depth * n.outputs : 0,
        cut.v_bytes / cut.chunks > 1 << 20 ? sources * n.products * tiles : 0,   /* not in L2 */
        [LAST] = 1,
    };
    add(term, counted);
}

/* Sums over all tiles, also those that a strip lacks, for each tap in depth and phase. */
static void transforms_grad_weight(const transformed *t, double term[FC_TERMS])
{
    const fc_axis *z = &t->axis[0];
    const figures n = figures_of(t, 0);
    const double terms = (double)(n.of.strips * n.of.segment), taps = (double)z->taps;
    const double items = t->batch * t->groups, strips = t->groups * (double)n.of.strips;
    const double sources = items * n.deep * n.sources, results = items * n.depth * n.results;
    const double blocks = ceil(t->filters / block_of(t));
    const double sums = n.points * taps * n.phases * t->channels * blocks * block_of(t) * t->size;
    const double chunks = fc_winograd_grad_weight_chunks(
        terms * n.points * (n.deep * n.phases * n.sources + n.depth * n.results) * t->lanes * t->size, sums);
    const product all = by_blocks(t, t->channels, t->lanes, t->groups);
    const double kernels = t->groups * t->channels * n.results, meetings = (double)fc_axis_meetings(z);
    const int in_a_row = z->cells == 1 && z->outputs == 1 && n.phases == 1;
    const double added = all.vectors * n.products * taps * chunks;
    const double counted[FC_TERMS] = {
        all.cycles * n.products * meetings * terms,
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
        t->groups,
        [LAST] = 1,
    };
    add(term, counted);
}

/* The cells that some output can meet are copied beforehand or, of the input gradient, afterwards
 * (conv_thin.c). */
static void thin_out(const fc_conv *conv, const fc_conv *thin, const int64_t every[3], int pass, double lanes,
                     double term[FC_TERMS])
{
    const double planes = (double)(conv->batch * conv->in_channels), cells = planes * volume(thin->in);
    if (fc_volume(every) == 1)
        return;
    term[KEPT_LINES] += planes * (double)(thin->in[0] * thin->in[1]);
    term[KEPT] += every[2] > 2 ? cells : cells / lanes;
    term[FILLED] += pass == FC_GRAD_INPUT ? planes * volume(conv->in) / lanes : 0;
}

static void count_winograd(const fc_conv *given, int pass, int prepared, double lanes, double terms[FC_WAYS][FC_TERMS])
{
    if (!(pass == FC_GRAD_INPUT ? fc_winograd_grad_input_fits(given) : fc_winograd_fits(given)))
        return;
    int64_t first[3], every[3], phases[3] = {1, 1, 1};
    const fc_conv conv = fc_conv_thin(given, first, every);
    for (int a = 0; a < 3 && pass == FC_GRAD_INPUT; a++)
        phases[a] = fc_least(conv.stride[a], conv.in[a]);
    double *term = terms[pass == FC_GRAD_WEIGHT ? FC_TRANSFORMS_GRAD_WEIGHT : FC_TRANSFORMS];
    thin_out(given, &conv, every, pass, lanes, term);
    const double in = (double)(conv.in_channels / conv.groups), out = (double)(conv.out_channels / conv.groups);
    for (int64_t i = 0; i < fc_volume(phases); i++) {
        const int64_t at[3] = {i / phases[2] / phases[1], i / phases[2] % phases[1], i % phases[2]};
        fc_axis axis[3];
        for (int a = 0; a < 3; a++)
            axis[a] = pass == FC_GRAD_INPUT ? fc_axis_grad_input(&conv, a, at[a]) : fc_axis_forward(&conv, a);
        const transformed all = {
            .axis = axis, .batch = (double)conv.batch, .groups = (double)conv.groups,
            .channels = pass == FC_GRAD_INPUT ? out : in, .filters = pass == FC_GRAD_INPUT ? in : out,
            .taps = volume(conv.kernel), .lanes = lanes, .size = conv.dtype == FC_F32 ? 4 : 8,
            .prepared = prepared,
        };
        if (pass == FC_GRAD_WEIGHT)
            transforms_grad_weight(&all, term);
        else
            transforms(&all, term);
    }
}

static double far_lines(const fc_conv *conv)
{
    const double cells = (double)conv->in_channels * volume(conv->in);
    const double outputs = (double)conv->out_channels * volume(conv->out);
    const double bytes = (double)conv->batch * (cells + outputs) * (conv->dtype == FC_F32 ? 4 : 8);
    return bytes > (1 << 20) ? bytes / 64 : 0;
}

void fc_conv_count(const fc_conv *conv, int pass, int prepared, int64_t bytes,
                   double terms[FC_WAYS][FC_TERMS])
{
    const double lanes = (double)bytes / (conv->dtype == FC_F32 ? 4 : 8);
    memset(terms, 0, FC_WAYS * sizeof *terms);
    if (conv->algorithm != FC_DIRECT)
        count_winograd(conv, pass, prepared, lanes, terms);
    if (conv->algorithm != FC_WINOGRAD || !(terms[FC_TRANSFORMS][LAST] || terms[FC_TRANSFORMS_GRAD_WEIGHT][LAST])) {
        if (pass == FC_GRAD_WEIGHT)
            count_grad_weight(conv, lanes, terms);
        else
            count_direct(conv, pass, lanes, terms);
    }
    for (int way = 0; way < FC_WAYS; way++)
        if (terms[way][LAST] > 0)
            terms[way][FAR] = far_lines(conv);
}
