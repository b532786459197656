/* The direct algorithm, forward pass and input gradient: a function for each way, what it does and
 * how often. Two of the ways are those of the gradient of the weights too. */
#include <math.h>
#include <string.h>

#include "conv_count_parts.h"
#include "conv_patches.h"

static double taps_of(const fc_job *job)
{
    return (double)(job->axis[0].taps * job->axis[1].taps * job->axis[2].taps);
}

enum { L1_BYTES = 24 << 10, L2_BYTES = 1 << 19 };   /* of one operand, beside the others */

static double ragged(double rows) { return ceil(rows / 8) * 8 - rows; }

/* Are lines of so many elements copied in vectors (copy.inc), `step` apart where they go? And where
 * they come from, whatever their length? */
static int by_vectors(double length, int64_t step, double lanes)
{
    return step <= 2 && length >= lanes;
}

static int read_by_vectors(const fc_job *job) { return job->axis[2].step <= FC_APART_AT_MOST; }

/* Cache lines of a group's weights, as taps that are left out share theirs; none where a cache
 * of so many bytes keeps them all. */
static double weight_lines(const fc_job *job, double bytes)
{
    const double all = (double)(job->rows * job->channels * job->kernel * job->size);
    return all > bytes ? fmin((double)(job->rows * job->channels) * taps_of(job), ceil(all / 64))
                       : 0;
}

/* Share of the lines that the next tap does not find in L1 again where `apart` pieces of so many
 * lines lie `pitch` bytes from one another, beside lines that lie anywhere. */
static double crowding(double apart, double lines, int64_t pitch, double anywhere)
{
    enum { SETS = 64, KEPT_OF_SET = 8, WAY = 64 * SETS };   /* of L1 */
    const double places = (double)(WAY / fc_gcd(pitch, WAY));
    const double in_set = apart * lines / fmin(places * lines, SETS) + anywhere / SETS;
    return fmax(0, 1 - KEPT_OF_SET / in_set);
}

/* Lines of a group's weights that taps would share, but find no more in L1: those of a tile's rows
 * for `near` channels, an entry's. A forward pass has them in order for each row, an input gradient
 * for each channel, and the next one often a power of two away: 512 x 14 x 14 -> 512, 3x3, stride
 * 2, panels 5.4 ms where products take 2.5. */
static double crowded_lines(const fc_job *job, double near, double lanes)
{
    const double size = (double)job->size, kernel = (double)job->kernel * size;
    const double tile = fmin((double)job->rows, lanes * size == 64 ? 8 : 4), taps = taps_of(job);
    const double cells = near * 3 * lanes * size / 64;
    const int by_rows = job->weight_channel < job->weight_row;
    const double lines = 1 + floor((by_rows ? near : tile) * kernel / 64);
    const int64_t pitch = (by_rows ? job->weight_row : job->weight_channel) * job->size;
    return taps == 1 || !weight_lines(job, L1_BYTES)
               ? 0 : crowding(by_rows ? tile : near, lines, pitch, cells) * taps
                         * (double)(job->rows * job->channels)
                         * (by_rows ? 1 : fmin(1, lines / tile));
}

/* What planes copy: vectors of whole lines, the zeros beside them among these, or, of every fifth
 * cell or fewer, cells one by one; lines; vectors of zeros above and below. Where cells come one by
 * one a line's last vector takes 6 ns more, as 20 cells do (4 x 84 x 84, 8 x 8, stride 4, when every
 * fourth still came so). Vectors that hold zeros are laid column by column, all lines of one: calls, and columns of these. */
typedef struct { double vectors, singly, lines, zeros, columns; } copied;

enum { CELLS_OF_AN_END = 20 };

static copied copied_by(const fc_job *job, const fc_planes_shape *shape, double lanes)
{
    const double items = (double)(job->batch * job->groups * job->channels);
    const double lines = items * (double)shape->rows, pitch = (double)shape->pitch;
    const double cells = items * (double)shape->inside, length = lines > 0 ? cells / lines : 0;
    const double all = items * (double)(shape->boxes * shape->cells);
    const int vectors = read_by_vectors(job);
    return (copied){
        .vectors = vectors ? lines * ceil(pitch / lanes) : 0,
        .singly = vectors ? 0 : cells + lines * CELLS_OF_AN_END,
        .lines = lines, .zeros = (all - lines * pitch) / lanes,
        .columns = items * (double)shape->copies
                   * (1 + ceil(pitch / lanes) - floor(length / lanes)),
    };
}

/* Panels of a group whose outputs go through a tile: all of them, or, where an image's outputs
 * lie in order, those that meet two images; runs of outputs in each, and the outputs of a run. */
typedef struct { double panels, runs, length; } scattered;

static scattered scattered_by(const fc_job *job, double count, double width)
{
    const double along = (double)job->axis[2].outputs;
    const double image = along * (double)(job->axis[1].outputs * job->axis[0].outputs);
    double meet = 0, before = -1;
    if (!fc_job_dense(job))
        return (scattered){count, fmin(width / along + 1, width), fmin(along, width)};
    for (double end = image; end < (double)job->batch * image; end += image)
        if (fmod(end, width) > 0 && floor(end / width) > before) {
            before = floor(end / width);
            meet++;
        }
    return (scattered){meet, fmin(width / image + 1, width), fmin(image, width)};
}

/* Does each row of a panel's outputs lie in a page of its own, of more than a cache holds? */
static int strewn(const fc_job *job)
{
    enum { PAGE = 4096 };
    const int64_t pitch = job->out_row * job->size;
    return pitch >= PAGE && job->rows * job->groups * pitch > L2_BYTES;
}

static void panels(const fc_job *job, double lanes, double term[FC_TERMS])
{
    const fc_axis *axis = job->axis;
    const fc_panels_shape shape = fc_conv_panels_shape(job);
    const double width = (double)shape.lanes, along = (double)axis[2].outputs;
    const double size = (double)job->size;
    const double outputs = along * (double)axis[1].outputs * (double)axis[0].outputs;
    const double pixels = (double)job->batch * outputs, groups = (double)job->groups;
    const double taps = taps_of(job), channels = (double)job->channels, rows = (double)job->rows;
    const double count = pixels <= width + lanes ? 1 : ceil((pixels - lanes) / width);
    const double panels = groups * count, vectors = groups * ceil(pixels / lanes);
    const double lanes_used = fmin(width, pixels), runs = fmin(lanes_used / along + 1, lanes_used);
    const int in_order = fc_job_in_order(job);
    const double nears = in_order ? 1 : ceil(channels * taps / (double)shape.near);
    const double entries = taps * nears;
    /* Nothing is gathered of a panel that lies in the source, as those do that no line ends in. */
    const double gathered = shape.in_place ? fmin(1, width / along) : 1;
    const double cells = gathered * taps * channels;
    const scattered apart = scattered_by(job, count, lanes_used);
    const double placed = groups * apart.panels * rows;   /* rows of these panels' outputs */
    const int in_vectors = by_vectors(apart.length, axis[2].place_step, lanes);
    fc_product all = {0};
    fc_count_product(rows, width, lanes, size, groups * (count - 1), &all);
    fc_count_product(rows, pixels - (count - 1) * width, lanes, size, groups, &all);
    const double products = (double)shape.products;
    const double counted[FC_TERMS] = {
        all.cycles * taps * channels,
        all.few * taps * channels,
        all.tiles * (double)shape.entries,                /* begun */
        all.vectors * products,                           /* vectors of outputs */
        all.edges * products,
        panels * products,
        read_by_vectors(job) ? vectors * cells : 0,           /* vectors gathered */
        read_by_vectors(job) ? 0 : groups * pixels * cells,   /* cells, one by one */
        panels * cells * runs,                            /* runs of cells gathered */
        panels * gathered * entries * runs,
        panels * gathered * entries,
        placed * apart.runs,                              /* runs of outputs */
        in_vectors ? 0 : placed * lanes_used,
        panels * rows * channels * taps,                  /* weights read */
        panels * weight_lines(job, L2_BYTES),             /* and not from L2 */
        panels,
        vectors * gathered * entries,                     /* columns of a tap planned */
        panels * weight_lines(job, L1_BYTES),             /* of weights, not from L1 */
        fc_job_dense(job) && strewn(job) ? panels * rows : 0,   /* rows in pages of their own */
        [EVERY_OTHER] = in_vectors && axis[2].place_step == 2 ? placed * lanes_used / lanes : 0,
        [CROWDED] = in_order ? 0 : panels * crowded_lines(job, channels / nears, lanes),
        [LAST] = 1,
    };
    fc_count_add(term, counted);
}

/* `together` phases of a stride share one copy, and read the same weights at the same time. */
static void planes(const fc_job *job, const fc_planes_shape *shape, double lanes, double together,
                   double term[FC_TERMS])
{
    const fc_axis *x = &job->axis[2];
    const double images = (double)(job->batch * job->groups), items = images * (double)shape->boxes;
    const double taps = taps_of(job), line = (double)shape->pitch, width = (double)shape->width;
    const double channels = (double)job->channels, rows = (double)job->rows;
    const double size = (double)job->size;
    const copied cells = copied_by(job, shape, lanes);
    const int64_t left = shape->lines % shape->chunk, whole = shape->lines / shape->chunk;
    const double times = items * (double)shape->planes;
    const double products = times * (double)(whole + (left > 0));
    const double lines = items * rows * (double)(shape->planes * shape->lines);
    const int across = taps > 1 || shape->pitch * job->size % 64;
    /* Lines of outputs that are copied from a tile to their places. */
    const double placed = shape->joined || (shape->chunk == 1 && x->place_step == 1) ? 0 : lines;
    const int in_vectors = by_vectors(width, x->place_step, lanes);
    const double of_outputs = in_vectors ? placed * ceil(width / lanes) : 0;
    fc_product all = {0};
    /* Lines of a box are computed so many together, the last ones of them by themselves. */
    const double ends = width - line;
    fc_count_product(rows, (double)shape->chunk * line + ends, lanes, size, times * (double)whole,
                     &all);
    fc_count_product(rows, (double)left * line + ends, lanes, size, left ? times : 0, &all);
    /* Cells of a box that leave L1 before the next row of tiles, or the next tap, reads them. */
    const double box = channels * (double)shape->cells * size, tile = 3 * lanes * size + 64;
    const double near = channels * taps / (double)shape->entries;   /* channels of an entry */
    const double weights = near * fmin(rows, 8) * fmax((double)job->kernel * size, 16);
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
        cells.vectors / together + (x->place_step == 1 ? of_outputs : 0),   /* copied */
        cells.singly / together,
        cells.lines / together,
        cells.columns / together,                         /* columns of the copy that hold zeros */
        placed,                                           /* lines of outputs copied */
        in_vectors ? 0 : placed * width,
        products * rows * channels * taps,                /* weights read */
        products,
        products * rows,
        cells.zeros / together,
        products * weight_lines(job, L2_BYTES) / together,   /* of weights, not from L2 */
        [EVERY_OTHER] = x->place_step == 2 ? of_outputs : 0,
        [CROWDED] = products * crowded_lines(job, near, lanes),
        [LAST] = 1,
    };
    fc_count_add(term, counted);
}

/* Four lines of outputs share what they load; those left over load for themselves. */
static void depthwise(const fc_job *job, const fc_planes_shape *shape, double lanes,
                      double term[FC_TERMS])
{
    const fc_axis *y = &job->axis[1], *x = &job->axis[2];
    const double items = (double)(job->batch * job->groups * shape->boxes);
    const double rows = (double)job->rows;
    const double planes = items * rows * (double)shape->planes;
    const double lines = planes * (double)shape->lines;
    const double fours = planes * floor((double)shape->lines / 4), left = lines - 4 * fours;
    const double vectors = ceil((double)shape->width / lanes);
    const copied cells = copied_by(job, shape, lanes);
    const double counted[FC_TERMS] = {
        lines * vectors * taps_of(job),                   /* multiply-adds */
        (fours * (double)(y->taps + 3) + left * (double)y->taps) * vectors
            * (double)x->taps,                            /* loads */
        (fours + left) * ceil(vectors / (lanes * (double)job->size == 64 ? 4 : 2)),   /* tiles */
        lines * vectors,                                  /* vectors of outputs */
        cells.vectors,                                    /* copied */
        cells.singly,
        cells.lines,
        cells.columns,                                    /* that hold zeros */
        left * vectors * taps_of(job),                    /* multiply-adds in one line */
        items * rows,
        items,
        cells.zeros,
        [LAST] = 1,
    };
    fc_count_add(term, counted);
}

static void toeplitz(const fc_job *job, const fc_toeplitz_shape *shape, double lanes,
                     double term[FC_TERMS])
{
    const fc_axis *x = &job->axis[2];
    const double width = (double)job->kernels->width, rows = (double)job->rows;
    const double lines = (double)(job->batch * job->groups * job->axis[0].outputs
                                  * job->axis[1].outputs);
    const double strips = (double)shape->strips, long_strip = (double)shape->strip;
    const double k = (double)x->taps + width - 1;
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
    fc_count_add(term, counted);
}

/* Cells and outputs of planes that lie a multiple of 4 KiB apart share one set of the first level
 * of cache, all channels of a block; there are 8 lines in a set. */
void fc_count_channelwise(const fc_job *job, const fc_channelwise_shape *shape, double lanes,
                          double term[FC_TERMS])
{
    const double blocks = ceil((double)job->groups / lanes), items = (double)job->batch * blocks;
    const double weights = blocks * (double)(job->rows * job->weight_row);
    const int cells_meet = lanes > 8 && job->source_channel * job->size % 4096 == 0;
    const int outputs_meet = lanes > 8 && job->rows * job->out_row * job->size % 4096 == 0;
    const double counted[FC_TERMS] = {
        items * shape->products,                          /* multiply-adds */
        items * shape->loads,
        items * shape->runs,                              /* runs of taps begun */
        items * shape->stretches,
        items * shape->cells,                             /* turned to lanes and back */
        items * shape->outputs,
        cells_meet ? items * shape->cells : 0,
        outputs_meet ? items * shape->outputs : 0,
        items * shape->lines,                             /* of cells */
        items * shape->calls,
        weights,
        items * shape->zeros,
        shape->window * lanes * (double)job->size > L1_BYTES
            ? items * shape->looked_at : 0,               /* not in L1 */
        [LAST] = 1,
    };
    fc_count_add(term, counted);
}

void fc_count_patches(const fc_conv *conv, int back, double term[FC_TERMS])
{
    const double width = (double)conv->out[2], step = (double)conv->stride[2];
    const double lines = (double)(conv->batch * conv->in_channels * conv->in[0] * conv->in[1]);
    const double fours = lines * fc_count_by_fours(width, step);
    const double singly = lines * width * step - fours;
    const double counted[FC_TERMS] = {
        [FC_KERNEL_OF_1 + 1] =
        back ? 0 : fours,                                 /* cells turned by fours */
        back ? 0 : singly,
        back ? 0 : lines,
        back ? fours : 0,
        back ? singly : 0,
        back ? lines : 0,
        [LAST] = 1,
    };
    fc_count_add(term, counted);
}

/* Lines of outputs, or panels' parts of these. */
static double lines_of(const fc_job *job)
{
    const fc_axis *axis = job->axis;
    return (double)(job->batch * job->groups * job->rows * axis[0].outputs * axis[1].outputs)
           * ceil((double)axis[2].outputs / 48);
}

static void count_channelwise(const fc_job *jobs, int64_t phases, double lanes,
                              int fits[FC_TRANSFORMS], double terms[FC_WAYS][FC_TERMS])
{
    const fc_channelwise_shape shape = fc_conv_channelwise_shape(jobs, phases, 0);
    fits[FC_CHANNELWISE] &= shape.fits;
    if (shape.fits)
        fc_count_channelwise(jobs, &shape, lanes, terms[FC_CHANNELWISE]);
}

/* Segments are summed one by one (conv.c), channel by channel where there is but one of the
 * `phases`; `fits` stays 1 for ways that take all of them. */
static void count_segments(const fc_job *job, int64_t phases, double lanes, int fits[FC_TRANSFORMS],
                           double terms[FC_WAYS][FC_TERMS])
{
    fc_segments segments;
    fc_job part = *job;
    fc_job_segments(job, &segments);
    const double together = fc_volume(segments.count) == 1
                                ? (double)fc_least(phases, FC_MOST_PHASES) : 1;
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
                planes(&part, &shape, lanes, way == FC_PLANES ? together : 1, terms[way]);
        }
    }
}

/* The other ways that take the job of one phase. */
static void count_whole(const fc_job *job, double lanes, int fits[FC_TRANSFORMS],
                        double terms[FC_WAYS][FC_TERMS])
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

void fc_count_direct(const fc_conv *conv, int pass, double lanes, double terms[FC_WAYS][FC_TERMS])
{
    const fc_conv merged = fc_conv_merge_axes(conv, pass != FC_FORWARD);
    const fc_job all = pass == FC_FORWARD ? fc_job_forward(&merged, NULL, NULL, NULL, NULL, 1)
                                          : fc_job_grad_input(&merged, NULL, NULL, NULL, NULL, 1);
    const int64_t phases = pass == FC_FORWARD ? 1 : fc_job_phases(&merged);
    fc_job job[FC_MOST_PHASES];
    int fits[FC_TRANSFORMS], others = 0;
    for (int way = FC_PANELS; way < FC_TRANSFORMS; way++)
        fits[way] = 1;
    if (pass == FC_GRAD_INPUT && fc_job_leaves_cells(&merged))
        for (int way = FC_PANELS; way < FC_TRANSFORMS; way++)
            terms[way][FILLED] = (double)(conv->batch * conv->in_channels)
                                 * fc_count_volume(conv->in) / lanes;
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
    if (fc_patches_fit(conv))
        fc_count_patches(conv, pass == FC_GRAD_INPUT, terms[FC_PATCHES]);
    for (int way = FC_PLANES; way < FC_TRANSFORMS; way++) {
        if (!fits[way])
            memset(terms[way], 0, sizeof terms[way]);
        others += terms[way][LAST] > 0;
    }
    if (others && !one_chain(conv, pass))
        memset(terms[FC_PANELS], 0, sizeof terms[FC_PANELS]);
}
