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
#include "arena.h"
#include "conv_weight_dots_plan.h"
#include "parallel.h"

#include <string.h>

typedef fc_weight_dots_plan job;

typedef struct {
    int64_t image, from[3], count[3];      /* outputs */
    int accumulate;
    char *dy, *x;                          /* planes in scratch */
} strip;

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
                + (fc_tap_quotient(&j->conv, a, r) - j->along[a].low) * steps[a];
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
    const int64_t phase = offset - fc_divide_down(offset, stride) * stride;
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
        const int64_t row = (cell[0] + z * conv->stride[0]) * conv->in[1] + cell[1]
            + begin[1] * conv->stride[1];
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
        const int64_t from = (s->image * conv->out_channels + f) * j->outputs + row * conv->out[2]
            + s->from[2];
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
    const fc_taps_along *along = j->along;
    const int64_t *kernel = j->conv.kernel;
    const int64_t shift = along[0].shift[r[0]] + along[1].shift[r[1]];
    int64_t b_col[FC_DOTS_COLUMNS], c_col[FC_DOTS_COLUMNS];
    d.b_col = b_col;
    d.c_col = c_col;
    d.n = 0;
    for (int64_t c = 0; c < j->cg; c++)
        for (int64_t i = 0; i < count; i++) {
            const int64_t x = r[2] + i * step;
            b_col[d.n] = c * j->channel + shift + along[2].shift[x];
            c_col[d.n++] = c * j->taps + (r[0] * kernel[1] + r[1]) * kernel[2] + x;
            if (d.n == FC_DOTS_COLUMNS || (c == j->cg - 1 && i == count - 1)) {
                j->kernels->lane_dots(&d);
                d.n = 0;
            }
        }
}

/* Filters f .. f + d.m - 1, whose planes of dy are in scratch: all taps, row of taps by row. */
static void add_filters(const job *j, fc_lane_dots d)
{
    int64_t a_row[FC_DOTS_ROWS], c_row[FC_DOTS_ROWS];
    for (int i = 0; i < FC_DOTS_ROWS; i++) {
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
    const int64_t apart = j->width * j->along[j->axis].every
        * (j->axis == 1 ? j->conv.kernel[2] : 1);
    int64_t a_row[FC_DOTS_ROWS], c_row[FC_DOTS_ROWS], now[3] = {r[0], r[1], r[2]};
    d.a_row = a_row;
    d.c_row = c_row;
    for (int64_t i = 0; i < rows; i += j->rows) {
        d.m = fc_least(j->rows, rows - i);
        const int64_t more = (d.m - 1) * fc_weight_dots_jump(j);
        d.lines = lines + (j->axis == 1 ? more / d.b_line : 0);
        d.k = fc_round_up(length + (j->axis == 2 ? more : 0), j->vector);
        for (int64_t l = 0; l < d.m; l++) {
            a_row[l] = j->margin - l * fc_weight_dots_jump(j);
            c_row[l] = l * apart;
        }
        now[j->axis] = r[j->axis] + i * j->width * j->along[j->axis].every;
        add_columns(j, d, now, step, count);
    }
}

/* One filter, all taps: rows of the tile are taps along y, columns those along x. */
static void add_taps_y(const job *j, fc_lane_dots d)
{
    const fc_taps_along *y = &j->along[1];
    for (int64_t z = 0; z < j->conv.kernel[0]; z++)
        for (int64_t k = 0; k < y->classes; k++)
            add_rows(j, d, (int64_t[3]){z, k, 0}, (j->conv.kernel[1] - 1 - k) / y->every + 1,
                     1, j->conv.kernel[2]);
}

/* One filter, all taps: those of one phase along x, number t of them in row t / width, column
 * t % width. The last row may end early. */
static void add_taps_x(const job *j, fc_lane_dots d)
{
    const fc_taps_along *x = &j->along[2];
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
    for (; f < f_end; f += FC_DOTS_ROWS) {
        const int64_t row = (s->from[0] * j->conv.out[1] + s->from[1]) * j->conv.out[2];
        d.m = fc_least(FC_DOTS_ROWS, f_end - f);
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
    fc_lane_dots d = {.lines = fc_weight_dots_lines(j, s->count), .b_line = j->extent[2],
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

/* A tile's filters share a group; others are taken so many at a time, if possible whole groups. */
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
    job j;
    fc_weight_dots_plan_make(&j, conv);
    j.dy = dy;
    j.x = x;
    j.dw = dw;
    j.failed = 0;
    threads = fc_team_size(threads);
    j.scratch = fc_arena_take(j.shared_bytes + threads * j.own_bytes);
    if (!j.scratch)
        return FC_NO_MEMORY;
    fill_shifts(&j, (int64_t *)j.scratch);
    fc_parallel(threads, by_filters, &j);
    fc_arena_give(j.scratch);
    return j.failed ? FC_NO_MEMORY : FC_OK;
}
