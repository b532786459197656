#include "conv_planes_plan.h"

typedef fc_planes_plan plan;

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

/* Behind a channel's planes, in bytes: what is written in vectors reaches past its end. */
enum { SLACK = 64 };

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

/* How many cells of its phase tap r of a sum's axis stands ahead of the first cell of its slot. */
static int64_t ahead_of(const plan *p, int a, const fc_axis *axis, int64_t r)
{
    if (a == 2 && p->apart)
        return 0;
    return axis->step > 1 ? r * axis->tap_step / axis->step
                          : axis->offset + r * axis->tap_step - fc_planes_first_cell(p, a, 0, 0);
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

static void set_box(plan *p, int a, int64_t box)
{
    const fc_axis *axis = &p->job->axis[a];
    fc_planes_extent *e = &p->e[a];
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
        const int64_t boxes = p->e[0].boxes * p->e[1].boxes * p->e[2].boxes;
        const int64_t items = job->batch * job->groups * boxes;
        const int large = job->channels * p->planes * job->size > PLANES_BYTES
            || (threads > 1 && items < 2 * threads)
            || (!fc_planes_join(p) && job->rows * p->e[2].reach * job->size > 4 * TILE_BYTES);
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
    const int64_t lines = fc_planes_join(p) ? p->e[1].box : fc_least(fc_most(fit, 1), p->e[1].box);
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

/* Of one channel the taps of a line, where they lie at equal distances, are one entry: entries of
 * one term take longer to begin (4 x 1 x 4000 -> 16 filters of 64: 338 -> 314 us, of 5 x 5 on
 * digits 156 -> 141). */
static int joins_taps(const plan *p, const fc_job *job)
{
    const fc_axis *x = &job->axis[2];
    return job->channels == 1 && x->taps > 1 && (x->step == 1 || p->apart);
}

/* What a sum is made of; `table` has room for its entries' offsets in weights and planes. */
static fc_planes_sum list_entries(const plan *p, const fc_job *job, int64_t *table)
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
    return (fc_planes_sum){.job = job, .near = near, .entries = entries, .taps_a = a, .taps_b = b,
                 .step_a = job->weight_channel, .step_b = p->planes,
                 .chain = job->channels > 1 ? fc_most(CHAIN / near, 1) : entries};
}

static void join_taps(const plan *p, fc_planes_sum *s)
{
    const fc_axis *x = &s->job->axis[2];
    int64_t *a = (int64_t *)s->taps_a, *b = (int64_t *)s->taps_b;
    if (!joins_taps(p, s->job))
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

/* Rows that all sums compute in turn. */
static int64_t rows_together(const fc_job *job, int64_t count)
{
    const int64_t row_bytes = fc_most(job->channels * job->kernel * job->size, 1);
    return count == 1 ? job->rows
                      : fc_least(fc_most(WEIGHT_BYTES / row_bytes / 8 * 8, 8), job->rows);
}

/* At stride 1, the cells from the first to the last tap of any. */
fc_job fc_planes_common(const fc_job *jobs, int64_t count)
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

double fc_planes_flops(const fc_job *jobs, int64_t count)
{
    double flops = 0;
    for (int64_t i = 0; i < count; i++)
        flops += 2.0 * jobs->batch * jobs->groups * jobs->channels
            * (taps_of(&jobs[i]) * jobs->rows + (i ? 0 : 16))
            * jobs[i].axis[0].outputs * jobs[i].axis[1].outputs * jobs[i].axis[2].outputs;
    return flops;
}

/* Weight offsets of the rows, then what the sums are made of. */
void fc_planes_list(plan *p, const fc_job *jobs, int way, int64_t *table)
{
    const fc_axis *y = &jobs->axis[1], *x = &jobs->axis[2];
    p->rows = table;
    for (int64_t i = 0; i < jobs->rows; i++)
        *table++ = fc_job_row(jobs, i);
    for (int64_t i = 0; i < p->count; i++) {
        p->sums[i] = list_entries(p, &jobs[i], table);
        table += 2 * p->sums[i].entries;
    }
    if (way == FC_DEPTHWISE && depthwise_fits(jobs)) /* the first kernel row's, from its start */
        p->taps_x = p->sums->taps_b + (y->tap_step < 0 ? p->sums->entries - x->taps : 0);
    for (int64_t i = 0; i < p->count && !p->taps_x; i++)
        join_taps(p, &p->sums[i]);
}

int64_t fc_planes_listed(const fc_job *jobs, int64_t count)
{
    int64_t listed = jobs->rows;
    for (int64_t i = 0; i < count; i++)
        listed += 2 * entries_of(&jobs[i]);
    return listed;
}

fc_planes_plan fc_planes_plan_make(const fc_job *job, int64_t count, int way, int team)
{
    plan p = {.job = job, .apart = way == FC_APART, .count = count,
              .block_rows = rows_together(job, count)};
    choose_boxes(&p, team);
    cut_rows(&p, team);
    p.chunk = (lanes_of(&p) - p.e[2].box) / p.e[2].reach + 1;
    p.tile_row = fc_planes_join(&p) ? 0 : fc_round_up(p.chunk * p.e[2].reach, job->kernels->lanes);
    p.tile = fc_round_up((job->channels * p.planes + 64) * job->size, 64);
    p.stride = fc_round_up(p.tile + p.block_rows * p.tile_row * job->size, 4096);
    p.far = fc_job_far(job);
    return p;
}

/* Cells along an axis that the source has, of all boxes and slots. */
static int64_t cells_inside(const plan *p, int a)
{
    const fc_axis *axis = &p->job->axis[a];
    int64_t all = 0, many;
    for (int64_t box = 0; box < p->e[a].boxes; box++)
        for (int64_t s = 0; s < p->e[a].slots; s++) {
            const int64_t cell = fc_planes_first_cell(p, a, box * p->e[a].box, s);
            fc_planes_inside(cell, axis->step, axis->cells, p->e[a].reach, &many);
            all += many;
        }
    return all;
}

fc_planes_shape fc_conv_planes_shape(const fc_job *job, int way)
{
    plan p = {.job = job, .apart = way == FC_APART, .block_rows = rows_together(job, 1)};
    choose_boxes(&p, 1);
    const fc_planes_extent *e = p.e;
    const int64_t deep = cells_inside(&p, 0), rows = deep * cells_inside(&p, 1);
    return (fc_planes_shape){
        .fits = job->channels * p.planes * job->size <= 2 * PLANES_BYTES
            && (way != FC_DEPTHWISE || depthwise_fits(job)),
        .joined = fc_planes_join(&p), .boxes = e[0].boxes * e[1].boxes * e[2].boxes,
        .planes = e[0].box, .lines = e[1].box, .chunk = (lanes_of(&p) - e[2].box) / e[2].reach + 1,
        .width = e[2].box, .pitch = e[2].reach,
        .cells = p.planes - SLACK / job->size,
        .copies = deep * e[1].boxes * e[1].slots * e[2].boxes * e[2].slots,
        .inside = rows * cells_inside(&p, 2), .rows = rows * e[2].boxes * e[2].slots,
        .entries = joins_taps(&p, job) ? entries_of(job) / job->axis[2].taps : entries_of(job),
    };
}
