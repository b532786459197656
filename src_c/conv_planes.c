/* Direct convolution by planes.
 *
 * For few rows or few channels a panel costs more to gather than to use. Instead a box of the
 * source is copied once, with its zero padding, and split into the phases of the stride: then
 * every tap reads its cells in order, at a fixed distance from the output's place, and whole
 * rows of outputs are computed from it in place (a few garbage lanes at each row's end).
 *
 *     planes (channels, slots of axis 0, 1, 2, reach of axis 0, 1, 2)
 *     lane of output j = (j[0] * reach[1] + j[1]) * reach[2] + j[2]
 *
 * Or there is a plane for each tap of the last axis ("apart"): more to copy, but lines are as long
 * as those of the output, without garbage, and are written where they belong.
 *
 * The phases of a stride, sums of an input gradient, share one such copy, and take turns at so few
 * rows that their weights stay in L2: all of them read the same lines.
 *
 * A unit of work is one (image, group, box) and, where these are few, a part of the rows.
 */
#include <string.h>

#include "arena.h"
#include "conv_job.h"
#include "parallel.h"

/* Planes of a box stay in half of a Zen 4's L2, the tile of outputs in an eighth; a box is not
 * cut below NARROW lanes. Constants, so that the choice of a way is the same on every ISA. */
enum { PLANES_BYTES = 384 << 10, TILE_BYTES = 128 << 10, NARROW = 384 };

/* Products of one chain, where channels are summed too: 34 channels of 11 x 11 x 11 taps in one
 * were off by 67 eps. Of one channel alone the ways must agree in every bit, and no other cuts. */
enum { CHAIN = 2048 };

/* Of the weights that several sums read in turn, a quarter of a Zen 4's L2. Input gradient of
 * 3x3, stride 2, 256 x 14 x 14 -> 512: 1.54 ms with a copy for each phase, 1.52 so, but 1.91 and
 * 1.53 where others press on the L3. */
enum { WEIGHT_BYTES = 256 << 10 };

/* Source and outputs of all images, in bytes, beyond which depthwise outputs are asked for
 * before they are written: 64 x 224 x 224, 3 x 3, float: 3.9 -> 2.4 ms. Where a cache has them
 * that is in vain, and 192 x 28 x 28 took 4 % longer. */
enum { FAR_BYTES = 4 << 20 };

/* Behind a channel's planes, in bytes: what is written in vectors reaches past its end. */
enum { SLACK = 64 };

/* Along one axis: tap r reads phase slot r % slots, `ahead(r)` cells of that phase further on. */
typedef struct { int64_t box, boxes, slots, reach; } extent;

/* One of the sums that read the planes. */
typedef struct {
    const fc_job *job;
    int64_t near, entries;      /* terms of one entry of the product, and how many entries */
    int64_t step_a, step_b;     /* from term to term */
    int64_t chain;              /* entries that are summed at once */
    const int64_t *taps_a, *taps_b;
} sum;

typedef struct {
    const fc_job *job;          /* the geometry of the planes, and what all sums have in common */
    int apart;                  /* is each tap of the last axis a slot? (FC_APART) */
    extent e[3];
    int64_t plane, planes;      /* elements of one slot's plane, from channel to channel */
    int64_t count;
    sum *sums;                  /* (count) */
    int64_t block_rows;         /* that all sums compute before the next */
    int64_t chunk;              /* lines (axis 1) computed at a time */
    int64_t parts, part_rows;   /* parts of the rows (of the job, as everywhere), and of one */
    int64_t tile_row;           /* lanes of a row of the tile */
    int64_t stride;             /* bytes of scratch a member */
    int far;                    /* are depthwise outputs asked for? */
    const int64_t *rows;
    const int64_t *taps_x;      /* of the last axis alone: FC_DEPTHWISE */
    char *scratch;
    fc_units units;
} plan;

typedef struct { int64_t image, group, begin[3], count[3], row, rows; } box;

static int64_t slots_of(const plan *p, int a)
{
    const fc_axis *axis = &p->job->axis[a];
    if (a == 2 && p->apart)
        return axis->taps;
    const int64_t period = axis->step / fc_gcd(axis->step, axis->tap_step < 0 ? 1 : axis->tap_step);
    return axis->taps < period ? axis->taps : period;
}

/* Slot of tap r: the phases (r * tap_step) % step repeat with that period. */
static int64_t slot_of(const plan *p, int a, int64_t r)
{
    return a == 2 && p->apart ? r : p->job->axis[a].step == 1 ? 0 : r % slots_of(p, a);
}

/* The first cell of slot s for outputs from `output` on. */
static int64_t first_cell(const plan *p, int a, int64_t output, int64_t s)
{
    const fc_axis *axis = &p->job->axis[a];
    const int64_t start = output * axis->step + axis->offset;
    if (a == 2 && p->apart)
        return start + s * axis->tap_step;
    if (axis->step == 1)
        return start + (axis->tap_step < 0 ? (axis->taps - 1) * axis->tap_step : 0);
    return start + s * axis->tap_step % axis->step;
}

/* How many cells of its phase tap r of a sum's axis stands ahead of the first cell of its slot. */
static int64_t ahead_of(const plan *p, int a, const fc_axis *axis, int64_t r)
{
    if (a == 2 && p->apart)
        return 0;
    return axis->step > 1 ? r * axis->tap_step / axis->step
                          : axis->offset + r * axis->tap_step - first_cell(p, a, 0, 0);
}

/* The q of 0 .. count - 1 with at + q * step inside 0 .. cells - 1: first (or 0), and how many. */
static int64_t inside(int64_t at, int64_t step, int64_t cells, int64_t count, int64_t *many)
{
    const fc_axis line = {.outputs = count, .cells = cells, .step = step, .offset = at};
    const int64_t first = fc_axis_inside(&line, 0, many);
    return *many ? first : 0;
}

/* One phase plane of each channel: rows of the source, whose cells begin at `from` and of which the
 * first is row at[0], column at[1], between zeros. */
static void fill_rows(const plan *p, int64_t from, const int64_t at[2], char *to)
{
    const fc_job *job = p->job;
    const fc_axis *y = &job->axis[1], *x = &job->axis[2];
    const int64_t rows = p->e[1].reach, width = p->e[2].reach, line = width * job->size;
    int64_t many_y, many_x;
    const int64_t q_y = inside(at[0], y->step, y->cells, rows, &many_y);
    const int64_t q_x = inside(at[1], x->step, x->cells, width, &many_x);
    for (int64_t c = 0; c < job->channels && many_y < rows; c++) {
        char *plane = to + c * p->planes * job->size;
        memset(plane, 0, q_y * line);
        memset(plane + (q_y + many_y) * line, 0, (rows - q_y - many_y) * line);
    }
    from += (at[0] + q_y * y->step) * job->source_axis[1] + at[1] + q_x * x->step;
    job->kernels->lay_lines(&(fc_lines){
        .planes = job->channels, .lines = many_y, .lead = q_x, .length = many_x, .step = x->step,
        .from = job->source + from * job->size, .from_plane = job->source_channel,
        .from_line = y->step * job->source_axis[1], .behind = from,
        .ahead = job->batch * job->groups * job->channels * job->source_channel - from,
        .to = to + q_y * line, .to_plane = p->planes, .pitch = width,
    });
}

/* The box's padded, phase-split copy of all channels, in order: the vectors that end a plane
 * reach into the next one. */
static void fill(const plan *p, const box *b, char *planes)
{
    const fc_job *job = p->job;
    const extent *e = p->e;
    const int64_t slots = e[0].slots * e[1].slots * e[2].slots, area = e[1].reach * e[2].reach;
    const int64_t image = (b->image * job->groups + b->group) * job->channels * job->source_channel;
    for (int64_t s = 0; s < slots; s++) {
        const int64_t slot[3] = {s / e[2].slots / e[1].slots, s / e[2].slots % e[1].slots,
                                 s % e[2].slots};
        int64_t at[3];
        for (int a = 0; a < 3; a++)
            at[a] = first_cell(p, a, b->begin[a], slot[a]);
        for (int64_t q = 0; q < e[0].reach; q++) {
            const int64_t z = at[0] + q * job->axis[0].step;
            char *to = planes + (s * p->plane + q * area) * job->size;
            if (z >= 0 && z < job->axis[0].cells)
                fill_rows(p, image + z * job->source_axis[0], at + 1, to);
            else
                for (int64_t c = 0; c < job->channels; c++)
                    memset(to + c * p->planes * job->size, 0, area * job->size);
        }
    }
}

/* Are neighbouring lines of outputs one, in the planes as in `out`? */
static int lines_join(const plan *p)
{
    const fc_axis *axis = p->job->axis;
    return p->e[2].reach == axis[2].outputs && axis[2].place_step == 1 && axis[1].place_step == 1
        && p->job->out_axis[1] == axis[2].outputs;
}

/* Outputs [begin[0] + z, begin[1] + y .. + many) of the box, `wide` of each line, b->rows of the
 * group. */
static void compute(const plan *p, const sum *s, const box *b, const char *planes, char *tile,
                    int64_t z, int64_t y, int64_t many, int64_t wide)
{
    const fc_job *job = s->job;
    const int64_t width = p->e[2].reach;
    int64_t to = ((b->image * job->groups + b->group) * job->rows + b->row) * job->out_row;
    const int64_t at[3] = {b->begin[0] + z, b->begin[1] + y, b->begin[2]};
    for (int a = 0; a < 3; a++)
        to += (job->axis[a].place + at[a] * job->axis[a].place_step) * job->out_axis[a];
    const int direct = (many == 1 && job->axis[2].place_step == 1) || lines_join(p);
    fc_gemm g = {
        .m = b->rows, .n = (many - 1) * width + wide, .k = s->near,
        .a = job->weight + b->group * job->weight_group * job->size,
        .a_row = p->rows + b->row, .a_tap = s->taps_a, .a_step = s->step_a,
        .b = planes + (z * p->e[1].reach + y) * width * job->size,
        .b_tap = s->taps_b, .b_step = s->step_b,
        .c = direct ? job->out + to * job->size : tile,
        .c_row = direct ? job->out_row : p->tile_row,
        .bias = job->bias ? job->bias + (b->group * job->rows + b->row) * job->size : 0,
    };
    for (int64_t t = 0; t == 0 || t < s->entries; t += g.taps) {
        g.taps = fc_least(s->entries - t, s->chain);
        job->kernels->gemm(&g);
        g.a_tap += g.taps;
        g.b_tap += g.taps;
        g.accumulate = 1;
        g.bias = 0;
    }
    for (int64_t i = 0; !direct && i < b->rows; i++)
        job->kernels->copy_rows(&(fc_copy){
            .from = tile + i * p->tile_row * job->size, .from_row = width, .from_step = 1,
            .to = job->out + (to + i * job->out_row) * job->size,
            .to_row = job->axis[1].place_step * job->out_axis[1],
            .to_step = job->axis[2].place_step,
            .rows = many, .length = wide,
        });
}

/* One sum's part of the box, b->rows of the group: phases may have one output less than others. */
static void compute_sum(const plan *p, const sum *s, const box *b, const char *planes, char *tile)
{
    int64_t count[3];
    for (int a = 0; a < 3; a++)
        count[a] = fc_least(b->count[a], s->job->axis[a].outputs - b->begin[a]);
    for (int64_t z = 0; count[2] > 0 && z < count[0]; z++)
        for (int64_t y = 0; y < count[1]; y += p->chunk)
            compute(p, s, b, planes, tile, z, y, fc_least(count[1] - y, p->chunk), count[2]);
}

/* Are rows of the source shared by output rows, and is there a kernel for it? */
static int depthwise_fits(const fc_job *job)
{
    const fc_axis *axis = job->axis;
    const int64_t kernel = axis[1].taps;
    return job->channels == 1 && axis[0].taps == 1
        && (kernel == 3 || kernel == 5 || kernel == 7)
        && axis[1].step == 1 && (axis[1].tap_step == 1 || axis[1].tap_step == -1)
        && axis[2].place_step == 1;
}

/* Plane z of the box's outputs, all rows of the group, one after the other. Where taps go
 * backwards through the rows of cells, so do we: the order of each sum is that of the taps. */
static void depthwise(const plan *p, const box *b, const char *planes, int64_t z)
{
    const fc_job *job = p->job;
    const fc_axis *y = &job->axis[1], *x = &job->axis[2];
    int64_t to = (b->image * job->groups + b->group) * job->rows * job->out_row;
    const int64_t at[3] = {b->begin[0] + z, b->begin[1], b->begin[2]};
    for (int a = 0; a < 3; a++)
        to += (job->axis[a].place + at[a] * job->axis[a].place_step) * job->out_axis[a];
    const int64_t first[3] = {0}, x_row = p->e[2].reach, y_row = y->place_step * job->out_axis[1];
    const int backwards = y->tap_step < 0;
    int64_t from = z * p->e[1].reach * x_row;
    if (backwards) {
        from += (b->count[1] + y->taps - 2) * x_row;
        to += (b->count[1] - 1) * y_row;
    }
    for (int64_t i = 0; i < job->rows; i++, to += job->out_row)
        job->kernels->depthwise(&(fc_depthwise){
            .rows = b->count[1], .width = b->count[2], .kernel = y->taps, .taps = x->taps,
            .far = p->far,
            .x = planes + from * job->size, .x_row = backwards ? -x_row : x_row, .tap = p->taps_x,
            .w = job->weight + (b->group * job->weight_group + i * job->weight_row
                                + fc_job_weight(job, first)) * job->size,
            .w_row = y->weight_step * job->weight_axis[1],
            .w_step = x->weight_step * job->weight_axis[2],
            .bias = job->bias ? job->bias + (b->group * job->rows + i) * job->size : 0,
            .y = job->out + to * job->size, .y_row = backwards ? -y_row : y_row,
        });
}

/* Box number `item`, counted on over images and groups. */
static box nth_box(const plan *p, int64_t item)
{
    const int64_t boxes = p->e[0].boxes * p->e[1].boxes * p->e[2].boxes;
    box b = {.image = item / boxes / p->job->groups, .group = item / boxes % p->job->groups};
    int64_t rest = item % boxes;
    for (int a = 2; a >= 0; a--) {
        b.begin[a] = rest % p->e[a].boxes * p->e[a].box;
        rest /= p->e[a].boxes;
        b.count[a] = fc_least(p->job->axis[a].outputs - b.begin[a], p->e[a].box);
    }
    return b;
}

static void body(void *context, int index, int team)
{
    plan *p = context;
    const fc_job *job = p->job;
    char *planes = p->scratch + index * p->stride;
    char *tile = planes + fc_round_up((job->channels * p->planes + 64) * job->size, 64);
    const int64_t items = job->batch * job->groups * p->e[0].boxes * p->e[1].boxes * p->e[2].boxes;
    int64_t at, end, filled = -1;
    fc_pieces pieces = {.heap = &p->units, .count = items * p->parts, .group = p->parts, .least = 1,
                        .member = index, .team = team};
    while (fc_next_piece(&pieces, &at, &end))
        for (; at < end; at++) {
            box b = nth_box(p, at / p->parts);
            if (filled != at / p->parts)
                fill(p, &b, planes);
            filled = at / p->parts;
            for (int64_t z = 0; p->taps_x && z < b.count[0]; z++)
                depthwise(p, &b, planes, z);
            const int64_t row = at % p->parts * p->part_rows;
            const int64_t row_end = fc_least(row + p->part_rows, job->rows);
            for (b.row = row; !p->taps_x && b.row < row_end; b.row += p->block_rows) {
                b.rows = fc_least(p->block_rows, row_end - b.row);
                for (int64_t i = 0; i < p->count; i++)
                    compute_sum(p, &p->sums[i], &b, planes, tile);
            }
        }
}

static void set_box(plan *p, int a, int64_t box)
{
    const fc_axis *axis = &p->job->axis[a];
    extent *e = &p->e[a];
    e->boxes = (axis->outputs + box - 1) / box;
    e->box = (axis->outputs + e->boxes - 1) / e->boxes;
    e->slots = slots_of(p, a);
    e->reach = e->box + ahead_of(p, a, axis, axis->tap_step < 0 ? 0 : axis->taps - 1);
    p->plane = p->e[0].reach * p->e[1].reach * p->e[2].reach;
    p->planes = p->plane * p->e[0].slots * p->e[1].slots * p->e[2].slots + SLACK / p->job->size;
}

/* Halve the box, outer axes first, until its planes and one row of its tile fit, and until there
 * are two boxes a thread (four cost 64 x 56 x 56 up to a tenth: shorter lines of lanes). */
static void choose_boxes(plan *p, int threads)
{
    const fc_job *job = p->job;
    for (int a = 0; a < 3; a++)
        set_box(p, a, job->axis[a].outputs);
    for (;;) {
        const int64_t items = job->batch * job->groups * p->e[0].boxes * p->e[1].boxes * p->e[2].boxes;
        const int large = job->channels * p->planes * job->size > PLANES_BYTES
            || (threads > 1 && items < 2 * threads)
            || (!lines_join(p) && job->rows * p->e[2].reach * job->size > 4 * TILE_BYTES);
        if (large && p->e[0].box > 1)
            set_box(p, 0, (p->e[0].box + 1) / 2);
        else if (large && p->e[1].box > 1)
            set_box(p, 1, (p->e[1].box + 1) / 2);
        else if (large && p->e[2].box > NARROW)
            set_box(p, 2, (p->e[2].box + 1) / 2);
        else
            return;
    }
}

/* Lanes of one product. */
static int64_t lanes_of(const plan *p)
{
    const fc_job *job = p->job;
    const int64_t line = p->e[2].reach, fit = TILE_BYTES / (p->block_rows * line * job->size);
    const int64_t lines = lines_join(p) ? p->e[1].box : fc_least(fc_most(fit, 1), p->e[1].box);
    return (lines - 1) * line + p->e[2].box;
}

static int64_t taps_of(const fc_job *job)
{
    return job->axis[0].taps * job->axis[1].taps * job->axis[2].taps;
}

/* An entry is one tap and `near` channels, so that the weights of a tile's rows for all taps stay
 * in L1 (conv_panels.c): the largest divisor of the channels that does, if it is long enough. */
static int64_t near_channels(const fc_job *job, int64_t taps)
{
    for (int64_t parts = 1; parts <= job->channels / 4; parts++)
        if (job->channels % parts == 0 && job->channels / parts * taps <= 288)
            return job->channels / parts;
    return job->channels;
}

static int64_t entries_of(const fc_job *job)
{
    const int64_t taps = taps_of(job);
    return taps * (job->channels / near_channels(job, taps));
}

/* What a sum is made of; `table` has room for its entries' offsets in weights and planes. */
static sum list_entries(const plan *p, const fc_job *job, int64_t *table)
{
    const int64_t taps = taps_of(job), near = near_channels(job, taps), entries = entries_of(job);
    int64_t *a = table, *b = table + entries, r[3] = {0};
    for (int64_t t = 0; t < entries; t++, fc_job_next_tap(job, r)) {
        const int64_t channel = t / taps * near;
        int64_t slot = 0, ahead = 0;
        for (int i = 0; i < 3; i++) {
            slot = slot * p->e[i].slots + slot_of(p, i, r[i]);
            ahead = ahead * p->e[i].reach + ahead_of(p, i, &job->axis[i], r[i]);
        }
        a[t] = fc_job_weight(job, r) + channel * job->weight_channel;
        b[t] = slot * p->plane + ahead + channel * p->planes;
    }
    return (sum){.job = job, .near = near, .entries = entries, .taps_a = a, .taps_b = b,
                 .step_a = job->weight_channel, .step_b = p->planes,
                 .chain = job->channels > 1 ? fc_most(CHAIN / near, 1) : entries};
}

/* Of one channel the taps of a line, where they lie at equal distances, are one entry: entries of one
 * term take longer to begin (4 x 1 x 4000 -> 16 filters of 64: 338 -> 314 us; 5 x 5: 156 -> 140). */
static void join_taps(const plan *p, sum *s)
{
    const fc_axis *x = &s->job->axis[2];
    int64_t *a = (int64_t *)s->taps_a, *b = (int64_t *)s->taps_b;
    if (s->job->channels > 1 || x->taps < 2 || (x->step > 1 && !p->apart))
        return;
    s->near = x->taps;
    s->entries = s->chain = s->entries / x->taps;
    s->step_a = a[1] - a[0];
    s->step_b = b[1] - b[0];
    for (int64_t t = 1; t < s->entries; t++) {
        a[t] = a[t * x->taps];
        b[t] = b[t * x->taps];
    }
}

/* Where there are few boxes each is for several threads, which all fill it: 64 rows at least. */
static void cut_rows(plan *p, int threads)
{
    const fc_job *job = p->job;
    const int64_t items = job->batch * job->groups * p->e[0].boxes * p->e[1].boxes * p->e[2].boxes;
    p->parts = 1;
    if (threads > 1 && items < 4 * threads)
        p->parts = fc_least(fc_parts(8 * threads, items), fc_most(job->rows / 64, 1));
    p->part_rows = fc_round_up(fc_parts(job->rows, p->parts), 8);
    p->parts = fc_parts(job->rows, p->part_rows);
}

/* The job whose planes all of the jobs read: at stride 1, the cells from the first to the last
 * tap of any. */
static fc_job common_job(const fc_job *jobs, int64_t count)
{
    fc_job all = jobs[0];
    for (int a = 0; a < 3 && count > 1; a++) {
        int64_t last = jobs->axis[a].offset, first = last;   /* of the cells that output 0 meets */
        for (int64_t i = 0; i < count; i++) {
            const fc_axis *axis = &jobs[i].axis[a];
            last = fc_most(last, axis->offset);
            first = fc_least(first, axis->offset + (axis->taps - 1) * axis->tap_step);
            all.axis[a].outputs = fc_most(all.axis[a].outputs, axis->outputs);
        }
        all.axis[a].offset = last;
        all.axis[a].tap_step = -1;
        all.axis[a].taps = last - first + 1;
    }
    return all;
}

/* Rows that all sums compute in turn. */
static int64_t rows_together(const fc_job *job, int64_t count)
{
    const int64_t row_bytes = fc_most(job->channels * fc_job_kernel(job) * job->size, 1);
    return count == 1 ? job->rows
                      : fc_least(fc_most(WEIGHT_BYTES / row_bytes / 8 * 8, 8), job->rows);
}

/* Copying counts too: a plane costs as much as some 16 products. */
static double flops_of(const fc_job *jobs, int64_t count)
{
    double flops = 0;
    for (int64_t i = 0; i < count; i++)
        flops += 2.0 * jobs->batch * jobs->groups * jobs->channels * (taps_of(&jobs[i]) * jobs->rows + (i ? 0 : 16))
            * jobs[i].axis[0].outputs * jobs[i].axis[1].outputs * jobs[i].axis[2].outputs;
    return flops;
}

/* Weight offsets of the rows, then what the sums are made of. */
static void list_sums(plan *p, const fc_job *jobs, int64_t *table)
{
    p->rows = table;
    for (int64_t i = 0; i < jobs->rows; i++)
        *table++ = fc_job_row(jobs, i);
    for (int64_t i = 0; i < p->count; i++) {
        p->sums[i] = list_entries(p, &jobs[i], table);
        table += 2 * p->sums[i].entries;
    }
}

int fc_conv_planes(const fc_job *jobs, int64_t count, int way)
{
    const fc_job all = common_job(jobs, count), *job = &all;
    plan p = {.job = job, .apart = way == FC_APART, .count = count, .block_rows = rows_together(job, count)};
    const double flops = flops_of(jobs, count);
    if (!job->rows || !flops)
        return FC_OK;
    const int team = fc_team_size(fc_useful_threads(job->threads, flops));
    choose_boxes(&p, team);
    cut_rows(&p, team);
    p.chunk = (lanes_of(&p) - p.e[2].box) / p.e[2].reach + 1;
    p.tile_row = lines_join(&p) ? 0 : fc_round_up(p.chunk * p.e[2].reach, job->kernels->lanes);
    p.stride = fc_round_up(fc_round_up((job->channels * p.planes + 64) * job->size, 64) + p.block_rows * p.tile_row * job->size, 4096);
    int64_t listed = job->rows;
    for (int64_t i = 0; i < count; i++)
        listed += 2 * entries_of(&jobs[i]);
    p.scratch = fc_arena_take(team * p.stride + count * sizeof *p.sums + listed * sizeof(int64_t));
    if (!p.scratch)
        return FC_NO_MEMORY;
    p.sums = (sum *)(p.scratch + team * p.stride);
    list_sums(&p, jobs, (int64_t *)(p.sums + count));
    p.far = job->batch * job->groups * (job->source_channel + job->rows * job->out_row) * job->size > FAR_BYTES;
    if (way == FC_DEPTHWISE && depthwise_fits(job)) /* the first kernel row's, from the row's own start */
        p.taps_x = p.sums->taps_b + (job->axis[1].tap_step < 0 ? p.sums->entries - job->axis[2].taps : 0);
    for (int64_t i = 0; i < count && !p.taps_x; i++)
        join_taps(&p, &p.sums[i]);
    fc_parallel(team, body, &p);
    fc_arena_give(p.scratch);
    return FC_OK;
}

/* Cells along an axis that the source has, of all boxes and slots. */
static int64_t cells_inside(const plan *p, int a)
{
    const fc_axis *axis = &p->job->axis[a];
    int64_t all = 0, many;
    for (int64_t box = 0; box < p->e[a].boxes; box++)
        for (int64_t s = 0; s < p->e[a].slots; s++) {
            inside(first_cell(p, a, box * p->e[a].box, s), axis->step, axis->cells, p->e[a].reach,
                   &many);
            all += many;
        }
    return all;
}

fc_planes_shape fc_conv_planes_shape(const fc_job *job, int way)
{
    plan p = {.job = job, .apart = way == FC_APART, .block_rows = rows_together(job, 1)};
    choose_boxes(&p, 1);
    const extent *e = p.e;
    const int64_t deep = cells_inside(&p, 0), rows = deep * cells_inside(&p, 1);
    return (fc_planes_shape){
        .fits = job->channels * p.planes * job->size <= 2 * PLANES_BYTES
            && (way != FC_DEPTHWISE || depthwise_fits(job)),
        .joined = lines_join(&p), .boxes = e[0].boxes * e[1].boxes * e[2].boxes,
        .planes = e[0].box, .lines = e[1].box, .chunk = (lanes_of(&p) - e[2].box) / e[2].reach + 1,
        .width = e[2].box, .pitch = e[2].reach,
        .cells = p.planes - SLACK / job->size, .copies = deep * e[1].boxes * e[1].slots * e[2].boxes * e[2].slots,
        .inside = rows * cells_inside(&p, 2), .rows = rows * e[2].boxes * e[2].slots,
        .entries = entries_of(job),
    };
}
