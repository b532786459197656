/* Gradient of the weights with lanes over outputs: for groups of few channels, depthwise first.
 *
 *     dw[f, c, r] = sum over n, o of dy[n, f, o] x[n, c, o * stride + r * dilation - before]
 *
 * dy and x are copied to scratch, a strip of outputs at a time, so that one tap is one shift.
 * Along each axis let r * dilation - before = q * stride + phase: the cell that output o meets is
 * number o + q of that phase, and each phase of x is a plane of its own. Planes of dy and x have
 * rows of the same pitch, those of dy with zeros between them, so that
 *
 *     dw[f, c, r] = sum over s of dy[s] x_phase[s + shift of r]
 *
 * is one dot product, line by line, and a register tile holds several. Its columns are the taps
 * of a row of the kernel. Its rows are filters or, where a group has few of them, taps as well:
 * those of one phase differ by multiples of a jump, which may as well be taken from dy,
 *
 *     sum over s of dy[s] x[s + shift + i * jump] = sum over s of dy[s - i * jump] x[s + shift],
 *
 * so that the rows of a tile share what they read of x.
 *
 * Zeros of dy meet cells of x that no sum names. If one of these is not finite, neither is the
 * result, and it is computed once more by fc_weight_rows.
 */
#include "conv_weight_grad.h"

#include "arena.h"
#include "kernels.h"
#include "parallel.h"

#include <math.h>
#include <string.h>

enum {
    TILE_ROWS = 4,           /* of the register tile of fc_lane_dots; it has 3 columns */
    COLUMNS = 48,            /* of one call */
    STRIP_OF_FILTERS = 1024, /* outputs: planes of four filters stay in L1 */
    STRIP_OF_TAPS = 4096,    /* outputs: one plane of dy and one of x stay near it */
    BATCH_BYTES = 64 << 10,  /* of planes copied together, where filters take their turns */
    LARGEST_SCRATCH = 3 << 20,
};

typedef struct {
    int64_t classes, every;   /* tap r has phase number r % every < classes */
    int64_t jump;             /* from the shift of tap r to that of tap r + every */
    int64_t low, high;        /* least and largest q */
    int64_t *shift;           /* (kernel): of tap r, from the first plane of a channel on */
} taps_along;

typedef struct {
    fc_conv conv;
    const fc_kernels *kernels;
    const char *dy, *x;
    char *dw;
    int64_t size, vector;                  /* bytes of an element; elements in 64 bytes */
    int64_t cg, fg, taps, cells, outputs;  /* channels of a group; sizes of one plane */
    taps_along along[3];
    int axis;                              /* whose taps are rows of the tile; -1: filters are */
    int64_t width, rows;                   /* these taps are width * every apart; so many */
    int64_t span[3];                       /* outputs of a strip */
    int64_t extent[3], plane;              /* of one phase of x, extent[2] the pitch; and elements */
    int64_t channel;                       /* elements of all phases of one channel */
    int64_t margin, dy_plane;              /* zeros before and behind each plane of dy; elements */
    int64_t filters, channels;             /* planes copied together, at most */
    int in_place;                          /* is dy read where it stands? */
    int steady;                            /* do all strips look alike, so that zeros stay zeros? */
    char *scratch;
    int64_t shared_bytes, own_bytes;
    int failed;
} job;

typedef struct {
    int64_t image, from[3], count[3];      /* outputs */
    int accumulate;
    char *dy, *x;                          /* planes in scratch */
} strip;

static int64_t divide_down(int64_t a, int64_t b) { return a >= 0 ? a / b : -((b - 1 - a) / b); }

/* ---- the plan ---- */

/* q of tap r along axis a. */
static int64_t quotient(const fc_conv *conv, int a, int64_t r)
{
    return divide_down(r * conv->dilation[a] - conv->before[a], conv->stride[a]);
}

static taps_along taps_of(const fc_conv *conv, int a)
{
    const int64_t common = fc_gcd(conv->stride[a], conv->dilation[a]);
    taps_along t = {.every = conv->stride[a] / common, .jump = conv->dilation[a] / common};
    t.classes = fc_least(t.every, conv->kernel[a]);
    t.low = quotient(conv, a, 0);
    t.high = quotient(conv, a, conv->kernel[a] - 1);
    return t;
}

/* Cycles of Zen 4 for 64 bytes of lanes in tiles of so many rows and columns (measured). A load
 * across two cache lines takes two. In one step: a long kernel has many columns, and is planned
 * anew at each call. */
static double tile_cost(int64_t rows, int64_t cols, int aligned)
{
    const double r = (double)rows, loads = (aligned ? 1 : 1.8) * r, c = (double)(cols % 3);
    return (double)(cols / 3) * (fmax(3 * r, loads + 1.6 * 3) + 0.5)
        + (c > 0 ? fmax(c * r, loads + 1.6 * c) + 0.5 : 0);
}

/* Elements that one step of a row of the tile moves dy by. */
static int64_t tile_jump(const job *j)
{
    return j->axis < 0 ? 0 : j->width * j->along[j->axis].jump * (j->axis == 1 ? j->extent[2] : 1);
}

/* Lines of a strip, from its first to its last. */
static int64_t lines_of(const job *j, const int64_t count[3])
{
    return (count[0] - 1) * j->extent[1] + count[1];
}

/* Strips of at most so many outputs, halved along the first axis that can be. */
static void choose_strip(job *j)
{
    const int64_t most = j->axis < 0 ? STRIP_OF_FILTERS : STRIP_OF_TAPS;
    memcpy(j->span, j->conv.out, sizeof j->span);
    for (int a = 0; a < 3; a++)
        while (j->span[a] > (a == 2 ? 64 : 1) && j->span[0] * j->span[1] * j->span[2] > most)
            j->span[a] = (j->span[a] + 1) / 2;
    for (int a = 0; a < 3; a++)
        j->extent[a] = j->span[a] + j->along[a].high - j->along[a].low;
    j->extent[2] = fc_round_up(j->extent[2], j->vector);
}

/* So many times the product of rows and columns over these lines of k outputs. */
static void count_product(const job *j, double times, int64_t rows, int64_t cols, int64_t jump,
                          int64_t lines, int64_t k, fc_weight_dots_shape *w)
{
    if (!rows)
        return;
    const int aligned = jump % j->vector == 0;
    const double vectors = times * (double)(lines * fc_parts(k, j->vector));
    const double tiles = (double)fc_parts(cols, 3);
    w->tiles += vectors * tile_cost(rows, cols, aligned);
    w->across += aligned ? 0 : vectors * tiles * (double)rows;
    w->lines += times * tiles * (double)lines;
    w->calls += times * (double)fc_parts(cols, COLUMNS);
}

/* The same for all taps of one phase of the plan's axis: full rows of taps and one that ends early. */
static void count_phase(const job *j, double times, int64_t taps, fc_weight_dots_shape *w)
{
    const int64_t jump = tile_jump(j), rows = fc_parts(taps, j->width);
    const int64_t cols = j->cg * (j->axis == 1 ? j->conv.kernel[2] : fc_least(j->width, taps));
    for (int64_t i = 0; i < rows; i += j->rows) {
        const int64_t m = fc_least(j->rows, rows - i), more = (m - 1) * jump;
        const int64_t lines = lines_of(j, j->span) + (j->axis == 1 ? more / j->extent[2] : 0);
        count_product(j, times, m, cols, jump, lines, j->span[2] + (j->axis == 2 ? more : 0), w);
    }
}

/* Copies of one image and group, whose planes have been laid out. Vectors that lie wholly in the
 * array are copied line by line; the others, at the ends of lines, column by column. */
static void count_copies(const job *j, int64_t lanes, double planes_of_x, fc_weight_dots_shape *w)
{
    const fc_conv *conv = &j->conv;
    const int64_t vectors = j->extent[2] / lanes, step = conv->stride[2];
    const int64_t lead = fc_least(fc_most(-j->along[2].low, 0), j->extent[2]);
    const int64_t length = fc_least(j->extent[2] - lead, conv->in[2] / step);
    const int64_t inside = step > 2 ? 0
                                    : fc_most((lead + length) / lanes - fc_parts(lead, lanes), 0);
    const double lines = planes_of_x * (double)fc_least(j->extent[1],
                                                        conv->in[1] / conv->stride[1] + 1);
    const double planes_of_dy = j->in_place ? 0 : w->strips * (double)(j->fg * j->span[0]);
    const double cleared = (double)(j->in_place ? 0 : j->fg * j->dy_plane) + (double)(j->cg * j->channel);
    w->copied = planes_of_dy * (double)(j->span[1] * (j->span[2] / lanes))
        + lines * (double)(step == 2 ? vectors : inside);
    w->edges = planes_of_dy * (double)(vectors - j->span[2] / lanes) + planes_of_x * (double)(vectors - inside);
    w->singly = step > 2 ? lines * (double)length : 0;
    w->cleared = j->steady ? 0 : w->strips * cleared / (double)j->vector;
}

/* What the plan j does for one image and group; of copies, vectors as if all were laid out. */
static fc_weight_dots_shape count(job *j)
{
    const int64_t *kernel = j->conv.kernel;
    fc_weight_dots_shape w = {.strips = 1};
    choose_strip(j);
    for (int a = 0; a < 3; a++)
        w.strips *= (double)fc_parts(j->conv.out[a], j->span[a]);
    const int64_t lines = lines_of(j, j->span);
    if (j->axis < 0) {
        const double times = w.strips * (double)(kernel[0] * kernel[1]);
        const double tiles = (double)(j->fg / TILE_ROWS);
        count_product(j, times * tiles, TILE_ROWS, j->cg * kernel[2], 0, lines, j->span[2], &w);
        count_product(j, times, j->fg % TILE_ROWS, j->cg * kernel[2], 0, lines, j->span[2], &w);
    }
    for (int64_t k = 0; j->axis >= 0 && k < j->along[j->axis].classes; k++)
        count_phase(j,
                    w.strips * (double)(j->fg * (j->axis == 1 ? kernel[0] : j->taps / kernel[2])),
                    (kernel[j->axis] - 1 - k) / j->along[j->axis].every + 1, &w);
    const int64_t classes = j->along[0].classes * j->along[1].classes * j->along[2].classes;
    w.sums = w.strips * (double)(j->fg * j->cg * j->taps);
    const double cells = w.strips * (double)(j->cg * classes * j->extent[0] * j->extent[1] * j->extent[2]);
    w.copied = w.strips * (double)(j->fg * lines * fc_parts(j->span[2], j->vector)) + cells / (double)j->vector;
    return w;
}

/* Cycles of Zen 4 (measured), by which plans are compared. */
static double plan_cost(job *j)
{
    const fc_weight_dots_shape w = count(j);
    return w.tiles + 4 * w.sums + 9 * w.copied + 100 * w.strips;
}

/* Try filters, then taps along y, then along x so many apart; keep the best. */
static void choose_plan(job *j)
{
    job best = *j;
    best.axis = -1;
    best.width = best.rows = 1;
    double cost = plan_cost(&best);
    for (int axis = 1; axis < 3; axis++) {
        const int64_t taps = (j->conv.kernel[axis] - 1) / j->along[axis].every + 1;
        for (int64_t parts = 1, last = 0; parts <= 12 && taps > 1; parts++) {
            const int64_t width = axis == 1 ? 1 : parts <= 8 ? fc_parts(taps, parts) : (parts - 8) * j->vector;
            for (int64_t rows = fc_least(TILE_ROWS, taps); rows > 1 && width != last && width <= taps; rows--) {
                job now = *j;
                now.axis = axis;
                now.width = width;
                now.rows = rows;
                const double this = plan_cost(&now);
                if (this < cost) {
                    cost = this;
                    best = now;
                }
            }
            last = width;
        }
    }
    *j = best;
}

static job new_job(const fc_conv *conv)
{
    job j = {.conv = *conv, .kernels = fc_active[conv->dtype], .size = conv->dtype == FC_F32 ? 4 : 8,
             .cg = conv->in_channels / conv->groups, .fg = conv->out_channels / conv->groups,
             .taps = 1, .cells = 1, .outputs = 1};
    j.vector = 64 / j.size;
    for (int a = 0; a < 3; a++) {
        j.taps *= conv->kernel[a];
        j.cells *= conv->in[a];
        j.outputs *= conv->out[a];
        j.along[a] = taps_of(conv, a);
    }
    return j;
}

/* Sizes of the planes, and of all scratch. */
static void lay_out(job *j)
{
    const int64_t groups = j->conv.groups, pitch = j->extent[2];
    j->plane = j->extent[0] * j->extent[1] * pitch;
    j->channel = j->along[0].classes * j->along[1].classes * j->along[2].classes * j->plane;
    j->margin = fc_round_up((j->rows - 1) * tile_jump(j), j->vector);
    j->dy_plane = 2 * j->margin + j->span[0] * j->extent[1] * pitch + j->vector;
    j->in_place = j->axis < 0 && j->conv.out[2] % j->vector == 0 && j->span[2] == j->conv.out[2]
        && j->conv.out[0] == 1;
    const int64_t together = fc_most(1, BATCH_BYTES / ((j->fg * j->dy_plane + j->cg * j->channel) * j->size));
    j->filters = j->axis < 0 ? TILE_ROWS : j->fg * fc_least(together, groups);
    j->channels = j->axis < 0 ? j->cg : j->cg * fc_least(together, groups);
    j->steady = !memcmp(j->span, j->conv.out, sizeof j->span);
    j->shared_bytes = fc_round_up((j->conv.kernel[0] + j->conv.kernel[1] + j->conv.kernel[2]) * 8,
                                  64);
    j->own_bytes = ((j->in_place ? 0 : j->filters * j->dy_plane) + j->channels * j->channel
                    + fc_round_up(j->margin + 2 * j->vector, j->vector)) * j->size;
}

fc_weight_dots_shape fc_weight_dots_count(const fc_conv *conv, int64_t bytes)
{
    job j = new_job(conv);
    choose_plan(&j);
    lay_out(&j);
    fc_weight_dots_shape w = count(&j);
    const int64_t classes = j.along[0].classes * j.along[1].classes * j.along[2].classes;
    count_copies(&j, bytes / j.size, w.strips * (double)(j.cg * classes * j.extent[0]), &w);
    const double groups = (double)conv->groups;
    return (fc_weight_dots_shape){
        .fits = j.own_bytes <= LARGEST_SCRATCH, .scratch = (double)j.own_bytes / 64,
        .tiles = groups * w.tiles, .across = groups * w.across, .lines = groups * w.lines,
        .calls = groups * w.calls, .sums = groups * w.sums, .copied = groups * w.copied,
        .edges = groups * w.edges, .singly = groups * w.singly, .cleared = groups * w.cleared,
        .strips = groups * w.strips,
    };
}

/* Where tap r reads, from the first plane of its channel on: the sum over axes of shift[r]. */
static void fill_shifts(job *j, int64_t *table)
{
    const int64_t planes[3] = {j->along[1].classes * j->along[2].classes * j->plane,
                               j->along[2].classes * j->plane, j->plane};
    const int64_t steps[3] = {j->extent[1] * j->extent[2], j->extent[2], 1};
    for (int a = 0; a < 3; table += j->conv.kernel[a], a++) {
        j->along[a].shift = table;
        for (int64_t r = 0; r < j->conv.kernel[a]; r++)
            table[r] = r % j->along[a].every * planes[a]
                + (quotient(&j->conv, a, r) - j->along[a].low) * steps[a];
    }
}

/* ---- copies ---- */

static char *at(const job *j, char *array, int64_t element) { return array + element * j->size; }

/* Numbers [*begin, *end) of the cells that axis a of the strip needs of a phase lie in the image;
 * the first of all is cell *cell, the others a stride apart. */
static void inside(const job *j, const strip *s, int a, int64_t class, int64_t *begin, int64_t *end,
                   int64_t *cell)
{
    const fc_conv *conv = &j->conv;
    const int64_t offset = class * conv->dilation[a] - conv->before[a], stride = conv->stride[a];
    const int64_t phase = offset - divide_down(offset, stride) * stride;
    const int64_t needed = s->count[a] + j->along[a].high - j->along[a].low;
    *cell = (s->from[a] + j->along[a].low) * stride + phase;
    *begin = *cell >= 0 ? 0 : fc_least((stride - 1 - *cell) / stride, needed);
    *end = *cell >= conv->in[a] ? *begin : fc_least((conv->in[a] - 1 - *cell) / stride + 1, needed);
    *end = fc_most(*end, *begin);
}

static void clear(const job *j, char *to, int64_t elements) { memset(to, 0, elements * j->size); }

/* One phase of `count` channels from `channel` on, the first to `to`. */
static void copy_phase(const job *j, const strip *s, int64_t channel, int64_t count,
                       const int64_t class[3], char *to)
{
    const fc_conv *conv = &j->conv;
    const int64_t pitch = j->extent[2], all = conv->batch * conv->in_channels * j->cells;
    int64_t begin[3], end[3], cell[3];
    for (int a = 0; a < 3; a++)
        inside(j, s, a, class[a], &begin[a], &end[a], &cell[a]);
    if (!j->steady)
        for (int64_t c = 0; c < count; c++)
            clear(j, at(j, to, c * j->channel), j->plane);
    for (int64_t z = begin[0]; z < end[0]; z++) {
        const int64_t row = (cell[0] + z * conv->stride[0]) * conv->in[1] + cell[1] + begin[1] * conv->stride[1];
        const int64_t from = (s->image * conv->in_channels + channel) * j->cells + row * conv->in[2]
            + cell[2] + begin[2] * conv->stride[2];
        j->kernels->lay_lines(&(fc_lines){
            .planes = count, .lines = end[1] - begin[1], .lead = begin[2],
            .length = end[2] - begin[2],
            .step = conv->stride[2], .from = j->x + from * j->size, .from_plane = j->cells,
            .from_line = conv->stride[1] * conv->in[2], .behind = from, .ahead = all - from,
            .to = at(j, to, (z * j->extent[1] + begin[1]) * pitch), .to_plane = j->channel,
            .pitch = pitch,
        });
    }
}

static void copy_x(const job *j, const strip *s, int64_t channel, int64_t count)
{
    char *to = s->x;
    for (int64_t z = 0; z < j->along[0].classes; z++)
        for (int64_t y = 0; y < j->along[1].classes; y++)
            for (int64_t x = 0; x < j->along[2].classes; x++, to = at(j, to, j->plane))
                copy_phase(j, s, channel, count, (int64_t[3]){z, y, x}, to);
}

/* The strip of dy of `count` filters from f on, zeros between its lines, before and behind it. */
static void copy_dy(const job *j, const strip *s, int64_t f, int64_t count)
{
    const fc_conv *conv = &j->conv;
    const int64_t pitch = j->extent[2], all = conv->batch * conv->out_channels * j->outputs;
    if (!j->steady)
        clear(j, s->dy, count * j->dy_plane);
    for (int64_t z = 0; z < s->count[0]; z++) {
        const int64_t row = (s->from[0] + z) * conv->out[1] + s->from[1];
        const int64_t from = (s->image * conv->out_channels + f) * j->outputs + row * conv->out[2] + s->from[2];
        j->kernels->lay_lines(&(fc_lines){
            .planes = count, .lines = s->count[1], .length = s->count[2], .step = 1,
            .from = j->dy + from * j->size, .from_plane = j->outputs, .from_line = conv->out[2],
            .behind = from, .ahead = all - from,
            .to = at(j, s->dy, j->margin + z * j->extent[1] * pitch), .to_plane = j->dy_plane,
            .pitch = pitch,
        });
    }
}

/* ---- products ---- */

/* Taps r, of which those along x are r[2], r[2] + step, ... (count of them), of all channels of
 * the group: columns of the tile whose rows the caller gives in d. `dw` is that of tap 0. */
static void add_columns(const job *j, fc_lane_dots d, const int64_t r[3], int64_t step,
                        int64_t count)
{
    const taps_along *along = j->along;
    const int64_t *kernel = j->conv.kernel;
    const int64_t shift = along[0].shift[r[0]] + along[1].shift[r[1]];
    int64_t b_col[COLUMNS], c_col[COLUMNS];
    d.b_col = b_col;
    d.c_col = c_col;
    d.n = 0;
    for (int64_t c = 0; c < j->cg; c++)
        for (int64_t i = 0; i < count; i++) {
            const int64_t x = r[2] + i * step;
            b_col[d.n] = c * j->channel + shift + along[2].shift[x];
            c_col[d.n++] = c * j->taps + (r[0] * kernel[1] + r[1]) * kernel[2] + x;
            if (d.n == COLUMNS || (c == j->cg - 1 && i == count - 1)) {
                j->kernels->lane_dots(&d);
                d.n = 0;
            }
        }
}

/* Filters f .. f + d.m - 1, whose planes of dy are in scratch: all taps, row of taps by row. */
static void add_filters(const job *j, fc_lane_dots d)
{
    int64_t a_row[TILE_ROWS], c_row[TILE_ROWS];
    for (int i = 0; i < TILE_ROWS; i++) {
        a_row[i] = i * (j->in_place ? j->outputs : j->dy_plane);
        c_row[i] = i * j->cg * j->taps;
    }
    d.a_row = a_row;
    d.c_row = c_row;
    for (int64_t z = 0; z < j->conv.kernel[0]; z++)
        for (int64_t y = 0; y < j->conv.kernel[1]; y++)
            add_columns(j, d, (int64_t[3]){z, y, 0}, 1, j->conv.kernel[2]);
}

/* One filter; rows of the tile are taps r, r + apart, ... (rows of them) along j->axis, columns
 * as in add_columns. */
static void add_rows(const job *j, fc_lane_dots d, const int64_t r[3], int64_t rows,
                     int64_t step, int64_t count)
{
    const int64_t lines = d.lines, length = d.k;
    const int64_t apart = j->width * j->along[j->axis].every * (j->axis == 1 ? j->conv.kernel[2] : 1);
    int64_t a_row[TILE_ROWS], c_row[TILE_ROWS], now[3] = {r[0], r[1], r[2]};
    d.a_row = a_row;
    d.c_row = c_row;
    for (int64_t i = 0; i < rows; i += j->rows) {
        d.m = fc_least(j->rows, rows - i);
        const int64_t more = (d.m - 1) * tile_jump(j);
        d.lines = lines + (j->axis == 1 ? more / d.b_line : 0);
        d.k = fc_round_up(length + (j->axis == 2 ? more : 0), j->vector);
        for (int64_t l = 0; l < d.m; l++) {
            a_row[l] = j->margin - l * tile_jump(j);
            c_row[l] = l * apart;
        }
        now[j->axis] = r[j->axis] + i * j->width * j->along[j->axis].every;
        add_columns(j, d, now, step, count);
    }
}

/* One filter, all taps: rows of the tile are taps along y, columns those along x. */
static void add_taps_y(const job *j, fc_lane_dots d)
{
    const taps_along *y = &j->along[1];
    for (int64_t z = 0; z < j->conv.kernel[0]; z++)
        for (int64_t k = 0; k < y->classes; k++)
            add_rows(j, d, (int64_t[3]){z, k, 0}, (j->conv.kernel[1] - 1 - k) / y->every + 1,
                     1, j->conv.kernel[2]);
}

/* One filter, all taps: those of one phase along x, number t of them in row t / width, column
 * t % width. The last row may end early. */
static void add_taps_x(const job *j, fc_lane_dots d)
{
    const taps_along *x = &j->along[2];
    for (int64_t row = 0; row < j->conv.kernel[0] * j->conv.kernel[1]; row++)
        for (int64_t k = 0; k < x->classes; k++) {
            const int64_t taps = (j->conv.kernel[2] - 1 - k) / x->every + 1;
            const int64_t rows = taps / j->width, rest = taps % j->width;
            int64_t r[3] = {row / j->conv.kernel[1], row % j->conv.kernel[1], k};
            add_rows(j, d, r, rows + 1, x->every, rest);
            r[2] += rest * x->every;
            add_rows(j, d, r, rows, x->every, j->width - rest);
        }
}

/* Filters [f, f_end) of one group, a tile of them after the other; one strip. */
static void add_tiles(const job *j, const strip *s, int64_t f, int64_t f_end, fc_lane_dots d)
{
    copy_x(j, s, f / j->fg * j->cg, j->cg);
    d.b = s->x;
    for (; f < f_end; f += TILE_ROWS) {
        const int64_t row = (s->from[0] * j->conv.out[1] + s->from[1]) * j->conv.out[2];
        d.m = fc_least(TILE_ROWS, f_end - f);
        d.c = at(j, j->dw, f * j->cg * j->taps);
        d.a = s->dy;
        if (j->in_place)
            d.a = j->dy + ((s->image * j->conv.out_channels + f) * j->outputs + row) * j->size;
        else
            copy_dy(j, s, f, d.m);
        add_filters(j, d);
    }
}

/* Filters [f, f_end), of one group or more, each by itself; one strip. */
static void add_each(const job *j, const strip *s, int64_t f, int64_t f_end, fc_lane_dots d)
{
    const int64_t first = f, g = f / j->fg, g_end = (f_end - 1) / j->fg + 1;
    copy_x(j, s, g * j->cg, (g_end - g) * j->cg);
    copy_dy(j, s, f, f_end - f);
    for (; f < f_end; f++) {
        d.a = at(j, s->dy, (f - first) * j->dy_plane);
        d.b = at(j, s->x, (f / j->fg - g) * j->cg * j->channel);
        d.c = at(j, j->dw, f * j->cg * j->taps);
        if (j->axis == 1)
            add_taps_y(j, d);
        else
            add_taps_x(j, d);
    }
}

static void add_strip(const job *j, const strip *s, int64_t f, int64_t f_end)
{
    fc_lane_dots d = {.lines = lines_of(j, s->count), .b_line = j->extent[2],
                      .a_line = j->in_place ? j->conv.out[2] : j->extent[2],
                      .k = j->axis == 2 ? s->count[2] : fc_round_up(s->count[2], j->vector),
                      .accumulate = s->accumulate};
    if (j->axis < 0)
        add_tiles(j, s, f, f_end, d);
    else
        add_each(j, s, f, f_end, d);
}

/* ---- the order of work ---- */

/* Filters [f, f_end): images and strips one after the other. */
static void add_images(job *j, int64_t f, int64_t f_end, strip s)
{
    const int64_t row = j->cg * j->taps;
    s.accumulate = 0;
    for (s.image = 0; s.image < j->conv.batch; s.image++)
        for (s.from[0] = 0; s.from[0] < j->conv.out[0]; s.from[0] += j->span[0])
            for (s.from[1] = 0; s.from[1] < j->conv.out[1]; s.from[1] += j->span[1])
                for (s.from[2] = 0; s.from[2] < j->conv.out[2]; s.from[2] += j->span[2]) {
                    for (int a = 0; a < 3; a++)
                        s.count[a] = fc_least(j->span[a], j->conv.out[a] - s.from[a]);
                    add_strip(j, &s, f, f_end);
                    s.accumulate = 1;
                }
    for (; f < f_end; f++)
        if (!j->kernels->finite(at(j, j->dw, f * row), row)
            && fc_weight_rows(&j->conv, j->dy, j->x, j->dw, f, 1) != FC_OK)
            __atomic_store_n(&j->failed, 1, __ATOMIC_RELAXED);
}

/* A tile's filters share a group; others are taken so many at a time, whole groups where possible. */
static void by_filters(void *context, int member, int team)
{
    job *j = context;
    int64_t begin, end;
    strip s = {.x = j->scratch + j->shared_bytes + member * j->own_bytes};
    s.dy = at(j, s.x, j->channels * j->channel + fc_round_up(j->margin + 2 * j->vector, j->vector));
    memset(s.x, 0, j->own_bytes);
    fc_share(j->conv.out_channels, member, team, &begin, &end);
    for (int64_t f = begin; f < end;) {
        const int64_t together = j->axis < 0 ? j->fg : j->filters;
        const int64_t f_end = fc_least(end, (f / together + 1) * together);
        add_images(j, f, f_end, s);
        f = f_end;
    }
}

int fc_weight_dots(const fc_conv *conv, const void *dy, const void *x, void *dw, int threads)
{
    job j = new_job(conv);
    choose_plan(&j);
    lay_out(&j);
    j.dy = dy;
    j.x = x;
    j.dw = dw;
    threads = fc_team_size(threads);
    j.scratch = fc_arena_take(j.shared_bytes + threads * j.own_bytes);
    if (!j.scratch)
        return FC_NO_MEMORY;
    fill_shifts(&j, (int64_t *)j.scratch);
    fc_parallel(threads, by_filters, &j);
    fc_arena_give(j.scratch);
    return j.failed ? FC_NO_MEMORY : FC_OK;
}
