/* The direct algorithm's ways by products of matrices, forward pass and input gradient: panels and
 * planes, what they do and how often. */
#include <math.h>

#include "conv_count_parts.h"

/* Are lines of so many elements copied in vectors (copy.inc), `step` apart where they go? And where
 * they come from, whatever their length? */
static int by_vectors(double length, int64_t step, double lanes)
{
    return step <= 2 && length >= lanes;
}

static int read_by_vectors(const fc_job *job) { return job->axis[2].step <= FC_APART_AT_MOST; }

/* Vectors loaded for one of cells that lie apart, beside the first. */
static double further(const fc_job *job) { return (double)job->axis[2].step - 1; }

/* Cache lines of a group's weights, as taps that are left out share theirs; none where a cache
 * of so many bytes keeps them all. */
static double weight_lines(const fc_job *job, double bytes)
{
    const double all = (double)(job->rows * job->channels * job->kernel * job->size);
    const double met = (double)(job->rows * job->channels) * fc_count_taps(job);
    return all > bytes ? fmin(met, ceil(all / 64)) : 0;
}

/* Of these, those that L3 does not have either, and that are not read in the order in which they
 * lie, so that nothing asks for them beforehand: some 8 ns each. Input gradient of 512 x 15 x 15
 * -> 768, 3 x 3, stride 2: panels read all lines for each of four phases, 12.5 ms, planes once,
 * 6.9. */
static double lines_out_of_order(const fc_job *job)
{
    const double all = (double)(job->rows * job->channels * job->kernel * job->size);
    return fc_job_in_order(job) ? 0 : weight_lines(job, L3_BYTES) * fc_count_beyond(all);
}

/* Sets of a cache, each of KEPT_OF_SET lines. */
enum { L1_SETS = 64, L2_SETS = 2048, KEPT_OF_SET = 8 };

/* Share of the lines that the next tap does not find again in a cache of so many sets where `apart`
 * pieces of so many lines lie `pitch` bytes from one another, beside lines that lie anywhere. */
static double crowding(double apart, double lines, int64_t pitch, double anywhere, int64_t sets)
{
    const double places = (double)(64 * sets / fc_gcd(pitch, 64 * sets));
    const double in_set = apart * lines / fmin(places * lines, (double)sets)
                          + anywhere / (double)sets;
    return fmax(0, 1 - KEPT_OF_SET / in_set);
}

/* Lines of a group's weights that taps would share, but find no more in a cache of so many sets:
 * those of a tile's rows for `near` channels, an entry's. A forward pass has them in order for each
 * row, an input gradient for each channel, and the next one often a power of two away:
 * 512 x 14 x 14 -> 512, 3x3, stride 2, panels 5.4 ms where products take 2.5. */
static double crowded_lines(const fc_job *job, double near, double lanes, int64_t sets)
{
    const double size = (double)job->size, kernel = (double)job->kernel * size;
    const double taps = fc_count_taps(job), rows = (double)job->rows;
    const double tile = fmin(rows, lanes * size == 64 ? 8 : 4);
    const double cells = near * 3 * lanes * size / 64;
    const int by_rows = job->weight_channel < job->weight_row;
    const double lines = 1 + floor((by_rows ? near : tile) * kernel / 64);
    const int64_t pitch = (by_rows ? job->weight_row : job->weight_channel) * job->size;
    if (taps == 1 || !weight_lines(job, L1_BYTES))
        return 0;
    return crowding(by_rows ? tile : near, lines, pitch, cells, sets) * taps * rows
           * (double)job->channels * (by_rows ? 1 : fmin(1, lines / tile));
}

/* Where cells come one by one a line's last vector takes 6 ns more, as 20 cells do (4 x 84 x 84,
 * 8 x 8, stride 4, when every fourth still came so). */
enum { CELLS_OF_AN_END = 20 };

fc_copied fc_count_copied(const fc_job *job, const fc_planes_shape *shape, double lanes)
{
    const double items = (double)(job->batch * job->groups * job->channels);
    const double lines = items * (double)shape->rows, pitch = (double)shape->pitch;
    const double cells = items * (double)shape->inside, length = lines > 0 ? cells / lines : 0;
    const double all = items * (double)(shape->boxes * shape->cells);
    const int vectors = read_by_vectors(job);
    return (fc_copied){
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

void fc_count_panels(const fc_job *job, double lanes, double term[FC_TERMS])
{
    const fc_axis *axis = job->axis;
    const fc_panels_shape shape = fc_conv_panels_shape(job);
    const double width = (double)shape.lanes, along = (double)axis[2].outputs;
    const double size = (double)job->size;
    const double outputs = along * (double)axis[1].outputs * (double)axis[0].outputs;
    const double pixels = (double)job->batch * outputs, groups = (double)job->groups;
    const double channels = (double)job->channels, rows = (double)job->rows;
    const double taps = fc_count_taps(job);
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
        vectors * gathered * entries,                     /* columns of a tap planned */
        panels * weight_lines(job, L1_BYTES),             /* of weights, not from L1 */
        fc_job_dense(job) && strewn(job) ? panels * rows : 0,   /* rows in pages of their own */
        read_by_vectors(job) ? vectors * cells * further(job) : 0,   /* of cells apart */
        panels * lines_out_of_order(job),                 /* of weights, from memory */
        [EVERY_OTHER] = in_vectors && axis[2].place_step == 2 ? placed * lanes_used / lanes : 0,
        [CROWDED] = in_order ? 0 : panels * crowded_lines(job, channels / nears, lanes, L1_SETS),
        [CROWDED_L2] = in_order ? 0 : panels * crowded_lines(job, channels / nears, lanes, L2_SETS),
        [LAST] = 1,
    };
    fc_count_add(term, counted);
}

void fc_count_planes(const fc_job *job, const fc_planes_shape *shape, double lanes, double together,
                   double term[FC_TERMS])
{
    const fc_axis *x = &job->axis[2];
    const double images = (double)(job->batch * job->groups), items = images * (double)shape->boxes;
    const double line = (double)shape->pitch, width = (double)shape->width;
    const double taps = fc_count_taps(job);
    const double channels = (double)job->channels, rows = (double)job->rows;
    const double size = (double)job->size;
    const fc_copied cells = fc_count_copied(job, shape, lanes);
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
        cells.vectors * further(job) / together,          /* copied, of cells apart */
        products * lines_out_of_order(job) / together,    /* of weights, from memory */
        [EVERY_OTHER] = x->place_step == 2 ? of_outputs : 0,
        [CROWDED] = products * crowded_lines(job, near, lanes, L1_SETS),
        [LAST] = 1 / together,
    };
    fc_count_add(term, counted);
}
