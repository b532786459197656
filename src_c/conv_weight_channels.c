/* Gradient of the weights with lanes over channels:
 *
 *     dw[f, c, r] = sum over n, o of dy[n, f, o] x[n, c, o * stride + r * dilation - before]
 *
 * which differentiates  y[n, f, o] = sum over c, r of x[n, c, o * stride + ...] w[f, c, r].
 *
 * For one tap r the outputs o whose cell lies in the image form a box, and the sum is a matrix
 * product over the cells of that box: rows f, read from dy where it stands, lanes c, read from x
 * with its channels turned innermost. Nothing is padded and nothing multiplied by padding.
 *
 * x is turned a strip at a time: a block of channels of a box of outputs of some images, small
 * enough for the second cache level. Products of strip after strip are added up in dw, in the
 * order [f][r][c]; the last one turns each row to [f][c][r]. Where strips end depends on the
 * geometry alone, so does then the order of every sum.
 */
#include "conv_weight_grad.h"

#include "arena.h"
#include "conv_weight_padding.h"
#include "kernels.h"
#include "parallel.h"

#include <string.h>

enum {
    STRIP_BYTES = 448 << 10,  /* of turned x: half of a 1 MB second-level cache */
    STRIP_OUTPUTS = 4096,     /* terms in one chain of additions: bounds the rounding error */
    STRIP_ROWS = 1024,        /* rows of outputs: bounds the offset tables (16 KB) */
    FEWEST_BYTES = 256,       /* of channels: narrower blocks read dy too often */
    BLOCK_BYTES = 256 << 10,  /* of rows of dw, worked on until they are finished */
    BLOCK_ROWS = 64,          /* of these, at most */
    TURN_CELLS = 256,         /* of a row of x, turned by one thread */
};

/* What one strip holds at most. */
typedef struct {
    int64_t images, span[3], channels;
    int merged;   /* are all taps of a row one product: lanes (kx, c)? */
} cut;

typedef struct {
    fc_conv conv;
    fc_axis axis[3];
    const fc_kernels *kernels;
    size_t size;                            /* bytes of an element */
    const char *dy, *x;
    char *dw;
    int64_t cg, fg, taps, cells, outputs;   /* channels of a group; sizes of one plane */
    int padded, all_show;                   /* see conv_weight_padding.h */
    cut cut;
    int64_t blocks, strips;                 /* blocks of channels; strips of each */
    int64_t block_rows;                     /* rows of dw worked on together */
    int apart;                              /* are sums kept outside dw until they are complete? */
    int by_group, by_block;                 /* has each thread groups of its own, or blocks? */
    char *scratch;                          /* two turned strips, then each member's own */
    int64_t strip_bytes, shared_bytes, own_bytes;
    fc_barrier barrier;
    fc_units units;
} job;

typedef struct {
    int64_t image, images, c, channels;
    int64_t from[3], to[3];                 /* the box of outputs */
    int64_t first[3], step[3], count[3];    /* the cells of x it keeps along each axis */
    char *turned;                           /* (images, count[0], count[1], count[2], channels) */
    int first_strip, last_strip;            /* is dw not yet written? complete after this? */
} strip;

/* ---- strips ---- */

/* Cells of x that `span` outputs need along an axis. */
static int64_t reach(const job *j, int a, int64_t span)
{
    const fc_axis *axis = &j->axis[a];
    if (a < 2 && axis->taps == 1)
        return span;
    const int64_t all = (span - 1) * axis->step + (axis->taps - 1) * axis->tap_step + 1;
    return a == 2 && j->cut.merged ? all : fc_least(all, axis->cells);
}

static int64_t turned_cells(const job *j, const int64_t span[3])
{
    return reach(j, 0, span[0]) * reach(j, 1, span[1]) * reach(j, 2, span[2]);
}

/* Vectors of 64 bytes that hold n lanes. */
static int64_t vectors(const job *j, int64_t n) { return fc_parts(n * (int64_t)j->size, 64); }

/* One product for all taps of a row multiplies with padding, but may fill its lanes better. The
 * padding is then part of a turned row, which is not to be much longer for it. */
static int worth_merging(const job *j)
{
    const fc_axis *x = &j->axis[2];
    if (x->tap_step != 1 || x->taps == 1 || (x->outputs - 1) * x->step > x->cells + x->taps)
        return 0;
    return x->outputs * vectors(j, x->taps * j->cg) <= fc_axis_meetings(x) * vectors(j, j->cg);
}

static int too_large(const job *j)
{
    const cut *c = &j->cut;
    return c->span[0] * c->span[1] > STRIP_ROWS
        || c->span[0] * c->span[1] * c->span[2] > STRIP_OUTPUTS
        || turned_cells(j, c->span) * c->channels * (int64_t)j->size > STRIP_BYTES;
}

/* Fewer channels first, since that costs nothing; then fewer outputs; or several small images. */
static void choose_cut(job *j)
{
    cut *c = &j->cut;
    *c = (cut){.images = 1, .channels = j->cg, .merged = worth_merging(j)};
    memcpy(c->span, j->conv.out, sizeof c->span);
    const int64_t cells = turned_cells(j, c->span), fewest = FEWEST_BYTES / (int64_t)j->size;
    if (!c->merged)
        while (cells * c->channels * (int64_t)j->size > STRIP_BYTES && c->channels > fewest)
            c->channels = fc_most(fewest, (c->channels + 31) / 32 * 16);
    int whole = 1;
    for (int a = 0; a < 3; a++)
        while (c->span[a] > (a == 2 ? 64 : 1) && too_large(j)) {
            c->span[a] = (c->span[a] + 1) / 2;
            whole = 0;
        }
    if (whole) {
        const int64_t rows = c->span[0] * c->span[1];
        c->images = fc_least(STRIP_ROWS / rows, STRIP_OUTPUTS / j->outputs);
        c->images = fc_least(c->images, STRIP_BYTES / (cells * c->channels * (int64_t)j->size));
        c->images = fc_most(c->images, 1);
    }
}

/* Which cells of x the box of outputs needs along axis a. */
static void place_axis(const job *j, strip *s, int a)
{
    const fc_axis *axis = &j->axis[a];
    const int64_t low = s->from[a] * axis->step + axis->offset;
    const int64_t high = (s->to[a] - 1) * axis->step + axis->offset
        + (axis->taps - 1) * axis->tap_step;
    s->step[a] = 1;
    if (a == 2 && j->cut.merged) {
        s->first[a] = low;
        s->count[a] = high - low + 1;
    } else if (a < 2 && axis->taps == 1) {
        int64_t inside, first = fc_axis_inside(axis, 0, &inside);
        const int64_t from = fc_most(s->from[a], first), to = fc_least(s->to[a], first + inside);
        s->step[a] = axis->step;
        s->first[a] = from * axis->step + axis->offset;
        s->count[a] = fc_most(to - from, 0);
    } else {
        s->first[a] = fc_most(low, 0);
        s->count[a] = fc_most(fc_least(high + 1, axis->cells) - s->first[a], 0);
    }
}

/* Turn `count` cells from `first` on of one row of x, all channels of the strip; zeros outside. */
static void turn_row(const job *j, const strip *s, const char *x, int64_t first, int64_t count,
                     char *to)
{
    const int64_t width = s->channels * (int64_t)j->size;
    const int64_t before = fc_least(fc_most(-first, 0), count);
    const int64_t inside = fc_most(fc_least(first + count, j->conv.in[2]) - (first + before), 0);
    memset(to, 0, before * width);
    j->kernels->pack_transposed(x + (first + before) * (int64_t)j->size, j->cells, s->channels,
                                inside, s->channels, to + before * width);
    memset(to + (before + inside) * width, 0, (count - before - inside) * width);
}

static void turn_strip(const job *j, const strip *s, int64_t g, int member, int team)
{
    const int64_t pieces = fc_parts(s->count[2], TURN_CELLS), rows = s->count[0] * s->count[1];
    int64_t begin, end;
    fc_share(s->images * rows * pieces, member, team, &begin, &end);
    for (int64_t i = begin; i < end; i++) {
        const int64_t row = i / pieces, cell = i % pieces * TURN_CELLS;
        const int64_t n = s->image + row / rows, c = g * j->cg + s->c;
        const int64_t z = s->first[0] + row % rows / s->count[1] * s->step[0];
        const int64_t y = s->first[1] + row % s->count[1] * s->step[1];
        const int64_t at = ((n * j->conv.in_channels + c) * j->conv.in[0] + z) * j->conv.in[1] + y;
        turn_row(j, s, j->x + at * j->conv.in[2] * (int64_t)j->size, s->first[2] + cell,
                 fc_least(TURN_CELLS, s->count[2] - cell),
                 s->turned + (row * s->count[2] + cell) * s->channels * (int64_t)j->size);
    }
}

/* ---- products ---- */

/* The outputs of the strip for which tap r of axis a lies in the image, [*from, *to). */
static void tap_box(const job *j, const strip *s, int a, int64_t r, int64_t *from, int64_t *to)
{
    if (a == 2 && j->cut.merged) {
        *from = s->from[a];
        *to = s->to[a];
        return;
    }
    int64_t inside, first = fc_axis_inside(&j->axis[a], r, &inside);
    *from = fc_most(s->from[a], first);
    *to = fc_most(fc_least(s->to[a], first + inside), *from);
}

/* Where the cell of output o and tap r stands among those that the strip keeps. */
static int64_t kept(const job *j, const strip *s, int a, int64_t o, int64_t r)
{
    const fc_axis *axis = &j->axis[a];
    return (o * axis->step + axis->offset + r * axis->tap_step - s->first[a]) / s->step[a];
}

/* Rows [f, f + rows) and lanes [from, to) of one tap (or, merged, row of taps) of the strip:
 * c[f, r, lane] (+)= sum over n, o of dy[n, f, o] turned[n, cell of (o, r), lane]. */
static void add_tap(const job *j, const strip *s, const int64_t r[3], int64_t f, int64_t rows,
                    int64_t from, int64_t to, char *c, int64_t c_row)
{
    int64_t lo[3], hi[3], a_tap[STRIP_ROWS], b_tap[STRIP_ROWS], a_row[BLOCK_ROWS], count = 0;
    for (int a = 0; a < 3; a++)
        tap_box(j, s, a, r[a], &lo[a], &hi[a]);
    if (lo[2] == hi[2])   /* no output of a line meets it: no lines */
        hi[0] = lo[0];
    for (int64_t n = 0; n < s->images; n++)
        for (int64_t z = lo[0]; z < hi[0]; z++)
            for (int64_t y = lo[1]; y < hi[1]; y++, count++) {
                const int64_t line = (n * s->count[0] + kept(j, s, 0, z, r[0])) * s->count[1]
                                     + kept(j, s, 1, y, r[1]);
                a_tap[count] = (n * j->conv.out_channels * j->conv.out[0] + z) * j->conv.out[1];
                a_tap[count] = (a_tap[count] + y) * j->conv.out[2] + lo[2];
                b_tap[count] = (line * s->count[2] + kept(j, s, 2, lo[2], r[2])) * s->channels
                    + from;
            }
    for (int64_t i = 0; i < rows; i++)
        a_row[i] = i * j->outputs;
    const int64_t plane = s->image * j->conv.out_channels + f;
    j->kernels->gemm(&(fc_gemm){
        .m = rows, .n = to - from, .taps = count, .k = hi[2] - lo[2],
        .a = j->dy + plane * j->outputs * (int64_t)j->size, .a_row = a_row, .a_tap = a_tap,
        .a_step = 1,
        .b = s->turned, .b_tap = b_tap, .b_step = j->axis[2].step * s->channels,
        .c = c, .c_row = c_row, .accumulate = !s->first_strip,
    });
}

/* ---- finishing: from [f][r][c] to [f][c][r] ---- */

/* Rows [f, f + rows) of dw, all groups counted, from their sums in the order [f][r][c]. */
static void finish(const job *j, int64_t f, int64_t rows, const char *sums, char *own)
{
    const int64_t bytes = j->cg * j->taps * (int64_t)j->size;
    char *dw = j->dw + f * bytes;
    for (int64_t i = 0; i < rows; i++, sums += bytes, dw += bytes) {
        const char *from = sums;
        if (j->taps > 1 && j->cg > 1 && sums == dw)
            from = memcpy(own, sums, bytes);
        if (from != dw)
            j->kernels->pack_transposed(from, j->cg, j->taps, j->cg, j->taps, dw);
    }
    if (j->padded)
        fc_weight_padding_add(&j->conv, j->axis, j->all_show, j->dy, j->dw, f, rows);
}

/* ---- the order of work ---- */

/* Strip number q of block of channels b. */
static strip nth_strip(const job *j, int64_t b, int64_t q)
{
    strip s = {.first_strip = q == 0, .c = b * j->cut.channels};
    s.last_strip = q == j->strips - 1 && b == j->blocks - 1;
    s.channels = fc_least(j->cut.channels, j->cg - s.c);
    for (int a = 2; a >= 0; a--) {
        const int64_t parts = fc_parts(j->conv.out[a], j->cut.span[a]);
        s.from[a] = q % parts * j->cut.span[a];
        s.to[a] = fc_least(s.from[a] + j->cut.span[a], j->conv.out[a]);
        place_axis(j, &s, a);
        q /= parts;
    }
    s.image = q * j->cut.images;
    s.images = fc_least(j->cut.images, j->conv.batch - s.image);
    return s;
}

/* Rows [f, f + rows) of group g, this member's lanes: all taps of the strip. */
static void add_strip(const job *j, const strip *s, int64_t f, int64_t rows, int lane_part,
                      int lane_parts, char *sums)
{
    const int64_t in_row = j->cut.merged ? j->conv.kernel[2] : 1, size = (int64_t)j->size;
    const int64_t lanes = in_row * s->channels, vector = 64 / size;
    int64_t from, to;
    fc_share(vectors(j, lanes), lane_part, lane_parts, &from, &to);
    from *= vector;
    to = fc_least(to * vector, lanes);
    for (int64_t tap = 0; tap < j->taps; tap += in_row) {
        const int64_t *kernel = j->conv.kernel;
        const int64_t row = tap / kernel[2];
        const int64_t r[3] = {row / kernel[1], row % kernel[1], tap % kernel[2]};
        add_tap(j, s, r, f, rows, from, to, sums + (tap * j->cg + s->c + from) * size,
                j->taps * j->cg);
    }
}

/* Cut rows x lanes of dw among the team so that the largest part is as small as can be. */
static int parts_of_rows(const job *j, int64_t filters, int team)
{
    const int64_t rows = fc_parts(filters, 4);
    const int64_t lanes = vectors(j, (j->cut.merged ? j->conv.kernel[2] : 1) * j->cut.channels);
    int best = 1;
    for (int parts = 1; parts <= team; parts++) {
        const int64_t now = fc_parts(rows, parts) * fc_parts(lanes, team / parts);
        if (now <= fc_parts(rows, best) * fc_parts(lanes, team / best))
            best = parts;
    }
    return best;
}

/* Rows [f, f_end) of dw, of group g, by `team` members at once that share the two strip buffers
 * at `turned`. */
static void work_on_group(job *j, int64_t g, int64_t f, int64_t f_end, int member, int team,
                          char *turned, char *own)
{
    const int64_t row_bytes = j->taps * j->cg * (int64_t)j->size;
    const int row_parts = parts_of_rows(j, f_end - f, team), lane_parts = team / row_parts;
    const int apart = j->apart && lane_parts == 1;
    int64_t begin = 0, end = 0;
    if (member / lane_parts < row_parts)
        fc_share(fc_parts(f_end - f, 4), member / lane_parts, row_parts, &begin, &end);
    begin = f + begin * 4;
    end = fc_least(f + end * 4, f_end);
    for (int64_t i = 0; i < j->blocks * j->strips; i++) {
        strip s = nth_strip(j, i / j->strips, i % j->strips);
        s.turned = turned + (team > 1) * ((g * j->blocks * j->strips + i) % 2) * j->strip_bytes;
        turn_strip(j, &s, g, member, team);
        if (team > 1)
            fc_barrier_wait(&j->barrier, team);
        for (int64_t row = begin; row < end; row += j->block_rows) {
            const int64_t rows = fc_least(j->block_rows, end - row);
            char *sums = apart ? own : j->dw + row * row_bytes;
            add_strip(j, &s, row, rows, member % lane_parts, lane_parts, sums);
            if (s.last_strip && lane_parts == 1)
                finish(j, row, rows, sums, own);
        }
    }
    if (lane_parts > 1) {
        fc_barrier_wait(&j->barrier, team);
        fc_share(f_end - f, member, team, &begin, &end);
        finish(j, f + begin, end - begin, j->dw + (f + begin) * row_bytes, own);
    }
}

/* Block of channels b of group g of a 1x1 kernel, whose sums stand in dw as they are. */
static void work_on_block(job *j, int64_t g, int64_t b, char *turned)
{
    for (int64_t q = 0; q < j->strips; q++) {
        strip s = nth_strip(j, b, q);
        s.turned = turned;
        turn_strip(j, &s, g, 0, 1);
        for (int64_t f = g * j->fg; f < (g + 1) * j->fg; f += j->block_rows)
            add_strip(j, &s, f, fc_least(j->block_rows, (g + 1) * j->fg - f), 0, 1,
                      j->dw + f * j->cg * (int64_t)j->size);
    }
}

static void by_channels(void *context, int member, int team)
{
    job *j = context;
    const int64_t groups = j->conv.groups;
    char *own = j->scratch + j->shared_bytes + member * j->own_bytes;
    char *turned = own + j->own_bytes - j->strip_bytes;   /* where it has one of its own */
    for (int64_t g; j->by_group && (g = fc_take(&j->units, 1)) < groups;)
        work_on_group(j, g, g * j->fg, (g + 1) * j->fg, 0, 1, turned, own);
    for (int64_t u; j->by_block && (u = fc_take(&j->units, 1)) < groups * j->blocks;)
        work_on_block(j, u / j->blocks, u % j->blocks, turned);
    for (int64_t g = 0; !j->by_group && !j->by_block && g < groups; g++)
        work_on_group(j, g, g * j->fg, (g + 1) * j->fg, member, team, j->scratch, own);
    if (j->by_block && j->padded) {
        int64_t f, f_end;
        fc_barrier_wait(&j->barrier, team);
        fc_share(j->conv.out_channels, member, team, &f, &f_end);
        finish(j, f, f_end - f, j->dw + f * j->cg * (int64_t)j->size, own);
    }
}

/* Blocks of channels narrow enough that each of `threads` gets two: then none waits for another,
 * and none reads what another has turned. 0 where that makes them too narrow. */
static int cut_blocks(job *j, int threads)
{
    const int64_t blocks = fc_round_up(fc_most(fc_parts(j->cg, j->cut.channels), 2 * threads),
                                       threads);
    const int64_t channels = fc_round_up(fc_parts(j->cg, blocks), 64 / (int64_t)j->size);
    if (threads == 1 || j->by_group || j->taps > 1 || channels * (int64_t)j->size < FEWEST_BYTES)
        return 0;
    j->cut.channels = channels;
    return 1;
}

/* How the work of by_channels is cut, and how much scratch it takes. */
static void plan_channels(job *j, int threads)
{
    const int64_t groups = j->conv.groups, row_bytes = j->taps * j->cg * (int64_t)j->size;
    choose_cut(j);
    j->by_group = threads > 1 && groups > 1 && (groups % threads == 0 || groups > 4 * threads);
    j->by_block = cut_blocks(j, threads);
    j->blocks = fc_parts(j->cg, j->cut.channels);
    j->strips = fc_parts(j->conv.batch, j->cut.images);
    for (int a = 0; a < 3; a++)
        j->strips *= fc_parts(j->conv.out[a], j->cut.span[a]);
    j->block_rows = fc_least(fc_most(BLOCK_BYTES / row_bytes / 8 * 8, 8), BLOCK_ROWS);
    j->block_rows = fc_least(j->block_rows, j->fg);
    j->apart = j->blocks * j->strips == 1 && j->taps > 1 && j->cg > 1
        && j->block_rows * row_bytes <= 4 * BLOCK_BYTES;

    const int64_t images = fc_least(j->cut.images, j->conv.batch);
    const int64_t elements = images * turned_cells(j, j->cut.span) * j->cut.channels;
    /* gemm reads whole vectors */
    j->strip_bytes = fc_parts(elements * (int64_t)j->size, 64) * 64 + 64;
    const int alone = j->by_group || j->by_block;   /* with a turned strip of its own */
    j->shared_bytes = alone ? 0 : (threads > 1 ? 2 : 1) * j->strip_bytes;
    j->own_bytes = fc_parts((j->apart ? j->block_rows : 1) * row_bytes, 64) * 64
        + (alone ? j->strip_bytes : 0);
}

static job new_job(const fc_conv *conv, const void *dy, const void *x, void *dw)
{
    job j = {.conv = *conv, .dy = dy, .x = x, .dw = dw,
             .kernels = fc_active[conv->dtype], .size = conv->dtype == FC_F32 ? 4 : 8,
             .cg = conv->in_channels / conv->groups, .fg = conv->out_channels / conv->groups,
             .taps = 1, .cells = 1, .outputs = 1};
    for (int a = 0; a < 3; a++) {
        j.axis[a] = fc_axis_forward(&j.conv, a);
        j.taps *= j.conv.kernel[a];
        j.cells *= j.conv.in[a];
        j.outputs *= j.conv.out[a];
    }
    j.padded = fc_weight_padding_any(j.axis);
    j.all_show = fc_weight_padding_all_show(j.axis);
    return j;
}

int fc_weight_channels(const fc_conv *conv, const void *dy, const void *x, void *dw, int threads)
{
    job j = new_job(conv, dy, x, dw);
    plan_channels(&j, threads);
    j.scratch = fc_arena_take(j.shared_bytes + threads * j.own_bytes);
    if (!j.scratch)
        return FC_NO_MEMORY;
    fc_parallel(threads, by_channels, &j);
    fc_arena_give(j.scratch);
    return FC_OK;
}

int fc_weight_rows(const fc_conv *conv, const void *dy, const void *x, void *dw, int64_t f,
                   int64_t rows)
{
    job j = new_job(conv, dy, x, dw);
    plan_channels(&j, 1);
    j.scratch = fc_arena_take(j.shared_bytes + j.own_bytes);
    if (!j.scratch)
        return FC_NO_MEMORY;
    work_on_group(&j, f / j.fg, f, f + rows, 0, 1, j.scratch, j.scratch + j.shared_bytes);
    fc_arena_give(j.scratch);
    return FC_OK;
}

fc_weight_channels_shape fc_weight_channels_count(const fc_conv *conv)
{
    job j = new_job(conv, NULL, NULL, NULL);
    plan_channels(&j, 1);
    const int merged = j.cut.merged;
    const int64_t in_row = merged ? conv->kernel[2] : 1;
    const int64_t images = fc_least(j.cut.images, conv->batch);
    const int64_t meetings = fc_axis_meetings(&j.axis[0]) * fc_axis_meetings(&j.axis[1]);
    const double lines = (double)(conv->batch * meetings);
    int64_t live = merged, inside;
    for (int64_t r = 0; !merged && r < conv->kernel[2]; r++) {
        fc_axis_inside(&j.axis[2], r, &inside);
        live += inside > 0;
    }
    return (fc_weight_channels_shape){
        .terms = lines * (double)(merged ? conv->out[2] : fc_axis_meetings(&j.axis[2])),
        .lines = lines * (double)(live * fc_parts(conv->out[2], j.cut.span[2])),
        .block_rows = j.block_rows, .in_row = in_row, .channels = j.cut.channels,
        .blocks = j.blocks,
        .strips = j.strips, .products = j.strips * (j.taps / in_row),
        .cells = (double)(j.strips * images * turned_cells(&j, j.cut.span)),
        .line = fc_least(reach(&j, 2, j.cut.span[2]), TURN_CELLS), .apart = j.apart,
        .scanned = !j.padded ? 0 : (double)(j.all_show ? j.cg * j.taps : conv->batch * j.outputs),
    };
}
