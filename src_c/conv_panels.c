/* Direct convolution by panels.
 *
 * A panel is the operand B of one product: for `width` neighbouring pixels (counted on over
 * rows, axes and images) the source cell of every tap and channel, gathered once and shared by
 * all rows. Stride, dilation and padding are settled while gathering; the weights are read in
 * place. Each output is written once for each block of channels (BLOCK_BYTES).
 *
 *     panel (entries, channels, width)    A_t[row, c] = weight(row, c, tap t)    C (rows, width)
 *
 * An entry is one tap and some channels, few enough that the weights of a tile's rows for all
 * taps stay in L1: a cache line of weights holds several taps.
 *
 * Units of work are (group, panel, block of rows) counted on: no sum is ever divided.
 */
#include "arena.h"
#include "conv_job.h"
#include "parallel.h"

/* Bytes of one lane's panel rows (taps x channels) in a product: 48 lanes of them are 440 KB, half
 * of a Zen 4's L2. The sums of further blocks are added in turn, in an order that shapes alone
 * decide. A panel has some 48 lanes in any type and on any instruction set: all weights are read
 * again for each, which for panels of 24 doubles cost up to a fifth (512 x 7 x 7, backward). */
enum { BLOCK_BYTES = 9216, LANES = 48 };

/* More weights than that (in bytes) have left the cache when the next panel wants them: there
 * panels are WIDE times as wide, and blocks as much shorter. 512 -> 256 channels, 3x3, 33 x 33,
 * double, input gradient: 64 GF/s in place of 51. */
enum { FAR_WEIGHTS = 6 << 20, WIDE = 3, MAX_WIDTH = WIDE * LANES + 16,   /* + one vector, at most */
       RUNS = 256 };     /* of the taps gathered together */

/* Taps x channels of the entries that share weights in L1: 8 rows x 288 floats are 9 KB. With all
 * 256 channels of a 3x3 kernel (74 KB) the same product ran at 93 in place of 107 GF/s. */
enum { NEAR = 288 };

/* Blocks of rows worth gathering a panel for: gathering costs a row of the panel what 5 rows of
 * outputs do. */
enum { FEWEST_BLOCKS = 8 };

typedef struct { int64_t image, at[3], lane, length; } run;

typedef struct {
    const fc_job *job;
    int64_t pixels, wide, width, panels, row_blocks;
    int64_t taps, tap_block;             /* all, and at most so many a product */
    int in_order;                        /* is a product one entry, weights as they lie? */
    int in_place;                        /* may panels be read where they lie in the source? */
    int64_t near, channel_block;         /* channels of an entry, and of a product */
    int64_t entries;                     /* at most, of a product */
    int64_t panel_bytes, stride;         /* of a member's panel, of all its scratch */
    const int64_t *rows;                 /* (rows) weight offset of each */
    char *scratch;
    fc_units units;
} plan;

/* The pixels of one panel, cut into runs along the last axis. */
typedef struct {
    int64_t first, lanes, row_lanes, count;
    run runs[MAX_WIDTH];
} pixels;

/* A member's scratch, laid out behind one another. */
typedef struct {
    int64_t *a_tap, *b_tap;              /* (entries) */
    char *panel, *tile;                  /* (tap_block, channel_block, width), (rows, width) */
    pixels now, next;                    /* no runs of the next: none, or a larger kernel */
    int64_t in_source;                   /* where the panel lies in the source, or -1 */
} member;

static void cut_runs(const plan *p, int64_t panel, pixels *to)
{
    const fc_axis *axis = p->job->axis;
    to->first = panel * p->width;
    to->lanes = panel == p->panels - 1 ? p->pixels - to->first : p->width;
    to->row_lanes = fc_round_up(to->lanes, p->job->kernels->lanes);
    int64_t rest = to->first, at[3] = {0};
    for (int a = 2; a >= 0 && rest; rest /= axis[a--].outputs)
        at[a] = rest % axis[a].outputs;
    to->count = 0;
    for (int64_t lane = 0; lane < to->lanes;) {
        const int64_t length = fc_least(axis[2].outputs - at[2], to->lanes - lane);
        to->runs[to->count++] = (run){rest, {at[0], at[1], at[2]}, lane, length};
        lane += length;
        at[2] = 0;
        if (++at[1] == axis[1].outputs) {
            at[1] = 0;
            if (++at[0] == axis[0].outputs)
                at[0] = 0, rest++;
        }
    }
}

static int64_t cell(const fc_axis *axis, int64_t at, int64_t tap)
{
    return at * axis->step + axis->offset + tap * axis->tap_step;
}

/* The runs of cells that tap r reads for a panel, padding left out; returns how many. */
static int64_t source_runs(const plan *p, const pixels *of, const int64_t r[3], fc_run *out)
{
    const fc_job *job = p->job;
    const fc_axis *x = &job->axis[2];
    int64_t count = 0, inside;
    const int64_t first = fc_axis_inside(x, r[2], &inside);
    for (int64_t i = 0; i < of->count; i++) {
        const run *u = &of->runs[i];
        const int64_t cz = cell(&job->axis[0], u->at[0], r[0]);
        const int64_t cy = cell(&job->axis[1], u->at[1], r[1]);
        int64_t begin = first > u->at[2] ? first : u->at[2], end = first + inside;
        end = end < u->at[2] + u->length ? end : u->at[2] + u->length;
        if (cz < 0 || cz >= job->axis[0].cells || cy < 0 || cy >= job->axis[1].cells
            || begin >= end)
            continue;
        const int64_t from = u->image * job->groups * job->channels * job->source_channel
            + cz * job->source_axis[0] + cy * job->source_axis[1] + cell(x, begin, r[2]);
        out[count++] = (fc_run){u->lane + begin - u->at[2], from, end - begin};
    }
    return count;
}

/* Taps tap .. tap + taps - 1 of some channels to the panel, from element `at` on, and their
 * weights' offsets to `weight`. */
static void gather_taps(const plan *p, const member *m, int64_t group, int64_t tap, int64_t taps,
                        int64_t channel, int64_t channels, fc_gather to, int64_t at,
                        int64_t *weight)
{
    const fc_job *job = p->job;
    const fc_axis *axis = job->axis;
    const int64_t start = (group * job->channels + channel) * job->source_channel;
    fc_run runs[RUNS];
    int64_t count[RUNS], done = 0, end = tap + taps;
    const int64_t images = job->batch * job->groups * job->channels * job->source_channel;
    const int64_t line = tap / axis[2].taps;
    int64_t r[3] = {line / axis[1].taps, line % axis[1].taps, tap % axis[2].taps};
    to.runs = runs, to.count = count, to.step = axis[2].step;
    to.rows = channels, to.width = m->now.row_lanes;
    to.from = job->source + start * job->size, to.from_row = job->source_channel;
    to.behind = start, to.ahead = images - start;
    while (tap < end) {
        int64_t used = 0;
        to.taps = 0;
        to.to = m->panel + (at + done * to.to_tap) * job->size;
        for (; tap < end && to.taps < RUNS && used + m->now.count <= RUNS; tap++) {
            count[to.taps] = source_runs(p, &m->now, r, runs + used);
            weight[done + to.taps] = fc_job_weight(job, r);
            used += count[to.taps++];
            fc_job_next_tap(job, r);
        }
        job->kernels->gather(&to);
        done += to.taps;
    }
}

/* Where the panel's lanes of channel 0 lie in the source, if they do side by side; or -1. */
static int64_t find_in_source(const plan *p, const member *m, int64_t group)
{
    const fc_job *job = p->job;
    const int64_t r[3] = {0};
    const int64_t images = job->batch * job->groups * job->channels * job->source_channel;
    fc_run run;
    const pixels *now = &m->now;
    if (!p->in_place || now->count > 1 || !source_runs(p, now, r, &run) || run.length < now->lanes)
        return -1;
    const int64_t from = run.from + group * job->channels * job->source_channel;
    const int64_t end = from + (job->channels - 1) * job->source_channel + now->row_lanes;
    return end <= images ? from : -1;   /* whole vectors are read */
}

/* What the next panel of a kernel of 1 reads of the channels from `channel` on comes while this one
 * is used: 16 images of 384 x 1080 -> 24 take 5.0 ms, without it 10.1; where panels are read in the
 * source itself 4.2 and 11.2. */
static void ask_for_next(const plan *p, const member *m, int64_t group, int64_t channel, fc_gemm *g)
{
    const fc_job *job = p->job;
    const int64_t r[3] = {0}, start = (group * job->channels + channel) * job->source_channel;
    fc_run runs[MAX_WIDTH];
    const int64_t count = source_runs(p, &m->next, r, runs);
    for (int64_t i = 0; i < count && i < FC_SOON; i++)
        g->soon[i] = (fc_rows){
            .at = job->source + (start + runs[i].from) * job->size,
            .step = job->source_channel * job->size,
            .bytes = ((runs[i].length - 1) * job->axis[2].step + 1) * job->size,
        };
}

/* Channels channel .. + channels - 1 of taps tap .. + taps - 1, k of them an entry: the product's
 * operands. */
static void gather_block(const plan *p, const member *m, int64_t group, int64_t tap, int64_t taps,
                         int64_t channel, int64_t channels, fc_gemm *g)
{
    const fc_job *job = p->job;
    g->taps = 0;
    if (!g->k || !taps)
        return;
    if (m->in_source >= 0) {
        const int64_t r[3] = {0};
        g->taps = 1;
        g->k = channels;
        m->a_tap[0] = fc_job_weight(job, r) + channel * job->weight_channel;
        m->b_tap[0] = m->in_source + channel * job->source_channel;
        return;
    }
    if (p->in_order) {
        const fc_gather to = {.to_row = taps * m->now.row_lanes, .to_tap = m->now.row_lanes};
        gather_taps(p, m, group, tap, taps, channel, channels, to, 0, m->a_tap);
        g->taps = 1;
        m->a_tap[0] += channel * job->weight_channel;
        m->b_tap[0] = 0;
        g->k = taps * channels;
        return;
    }
    const fc_gather to = {.to_row = m->now.row_lanes, .to_tap = g->k * m->now.row_lanes};
    for (int64_t c = channel; c < channel + channels; c += g->k) {
        const int64_t first = g->taps;
        gather_taps(p, m, group, tap, taps, c, g->k, to, first * to.to_tap, m->a_tap + first);
        g->taps += taps;
        for (int64_t t = first; t < g->taps; t++) {
            m->a_tap[t] += c * job->weight_channel;
            m->b_tap[t] = t * to.to_tap;
        }
    }
}

/* Put the tile's rows where they belong, an image's runs at once where its outputs lie in order:
 * lines of 5 are copied one by one (4 x 6 x 5 x 6, 256 filters of 2 x 2: 33 -> 22 us). */
static void scatter(const plan *p, const member *m, int64_t group, int64_t row, int64_t rows)
{
    const fc_job *job = p->job;
    const int dense = fc_job_dense(job);
    const pixels *now = &m->now;
    for (int64_t i = 0, end; i < now->count; i = end) {
        const run *u = &now->runs[i];
        int64_t length = u->length;
        for (end = i + 1; dense && end < now->count && now->runs[end].image == u->image; end++)
            length += now->runs[end].length;
        int64_t to = ((u->image * job->groups + group) * job->rows + row) * job->out_row
            + fc_job_place(job);
        for (int a = 0; a < 3; a++)
            to += u->at[a] * job->axis[a].place_step * job->out_axis[a];
        job->kernels->copy_rows(&(fc_copy){
            .from = m->tile + u->lane * job->size, .from_row = now->row_lanes, .from_step = 1,
            .to = job->out + to * job->size, .to_row = job->out_row,
            .to_step = job->axis[2].place_step * job->out_axis[2], .rows = rows, .length = length,
        });
    }
}

/* Rows row .. row + rows - 1 of one panel. */
static void compute(const plan *p, member *m, int64_t group, int64_t row, int64_t rows)
{
    const fc_job *job = p->job;
    const pixels *now = &m->now;
    const int64_t image_pixels = p->pixels / job->batch, image = now->first / image_pixels;
    const int direct = fc_job_dense(job) && image == (now->first + now->lanes - 1) / image_pixels;
    const int64_t to = ((image * job->groups + group) * job->rows + row) * job->out_row
        + fc_job_place(job) + now->first % image_pixels;
    fc_gemm g = {
        .m = rows, .n = now->lanes,
        .a = job->weight + group * job->weight_group * job->size,
        .a_row = p->rows + row, .a_tap = m->a_tap,
        .a_step = p->in_order && p->taps > 1 ? job->weight_axis[2] : job->weight_channel,
        .b = m->in_source < 0 ? m->panel : job->source, .b_tap = m->b_tap,
        .b_step = m->in_source < 0 ? now->row_lanes : job->source_channel,
        .c = direct ? job->out + to * job->size : m->tile,
        .c_row = direct ? job->out_row : now->row_lanes,
        .bias = job->bias ? job->bias + (group * job->rows + row) * job->size : 0,
    };
    for (int64_t c = 0, step; c == 0 || c < job->channels; c += step) {
        const int64_t left = job->channels - c;
        g.k = left < p->near ? left : p->near;
        step = left < p->channel_block ? g.k ? left / g.k * g.k : 1 : p->channel_block;
        for (int64_t t = 0; t == 0 || t < p->taps; t += p->tap_block) {
            const int64_t taps = p->taps - t < p->tap_block ? p->taps - t : p->tap_block;
            gather_block(p, m, group, t, taps, c, step, &g);
            ask_for_next(p, m, group, c, &g);
            if (g.taps || !g.accumulate)
                job->kernels->gemm(&g);
            g.accumulate = 1;
            g.bias = 0;
        }
    }
    if (!direct)
        scatter(p, m, group, row, rows);
}

static void body(void *context, int index, int team)
{
    plan *p = context;
    const fc_job *job = p->job;
    char *scratch = p->scratch + index * p->stride;
    member m;   /* its runs are filled panel by panel: 7 KB to clear are a tenth of a tiny call */
    m.next.count = 0;
    m.a_tap = (int64_t *)scratch;
    m.b_tap = m.a_tap + p->entries;
    m.panel = scratch + fc_round_up(2 * p->entries * (int64_t)sizeof(int64_t), 64);
    m.tile = m.panel + p->panel_bytes;
    int64_t at, end;
    fc_pieces pieces = {.heap = &p->units, .count = job->groups * p->panels * p->row_blocks,
                        .group = p->row_blocks, .least = FEWEST_BLOCKS, .member = index,
                        .team = team};
    while (fc_next_piece(&pieces, &at, &end))
        for (int64_t blocks; at < end; at += blocks) {
            const int64_t unit = at / p->row_blocks, first = at % p->row_blocks;
            blocks = fc_least(p->row_blocks - first, end - at);
            const int64_t row = first * job->kernels->rows, rows = blocks * job->kernels->rows;
            const int64_t panel = unit % p->panels;
            cut_runs(p, panel, &m.now);
            if (p->taps == 1 && panel + 1 < p->panels)
                cut_runs(p, panel + 1, &m.next);
            m.in_source = find_in_source(p, &m, unit / p->panels);
            compute(p, &m, unit / p->panels, row, fc_least(rows, job->rows - row));
        }
}

/* Entries and products as equal as they come. Shapes alone decide: the sums of several products
 * are added, and where they are cut shows in the bits. */
static void cut_channels(plan *p)
{
    const int64_t channels = p->job->channels > 0 ? p->job->channels : 1;
    const int64_t taps = p->taps > 0 ? p->taps : 1, block = BLOCK_BYTES / p->wide / p->job->size;
    p->tap_block = fc_least(taps, block);
    p->in_order = p->taps == 1 || fc_job_in_order(p->job);
    const int64_t nears = p->in_order || taps >= NEAR ? channels
        : (channels + NEAR / taps - 1) / (NEAR / taps);
    p->near = (channels + nears - 1) / nears;
    const int64_t most = fc_most(block / (p->tap_block * p->near), 1);
    const int64_t blocks = (nears + most - 1) / most, each = (nears + blocks - 1) / blocks;
    p->channel_block = p->near * each;
    p->entries = p->tap_block * (p->in_order ? 1 : each);
}

/* May a panel's rows be read from the source, one channel apart? Not beside weights whose rows lie
 * apart too, and not where many share the sets of a cache: a Zen 4's L2 has 2048 of 8 lines. */
static int reads_in_place(const plan *p)
{
    enum { L2_BYTES = 2048 * 64 };   /* one line of each set */
    const fc_job *job = p->job;
    if (p->taps != 1 || job->weight_row != 1 || job->axis[2].step != 1)
        return 0;
    return p->channel_block <= 4 * (L2_BYTES / fc_gcd(job->source_channel * job->size, L2_BYTES));
}

/* What the shapes of one item decide. */
static void set_shapes(plan *p, const fc_job *job)
{
    p->job = job;
    p->taps = job->axis[0].taps * job->axis[1].taps * job->axis[2].taps;
    const int64_t weights = job->rows * job->channels * job->kernel * job->size;
    const int64_t pixels = job->axis[0].outputs * job->axis[1].outputs * job->axis[2].outputs;
    p->wide = weights > FAR_WEIGHTS && pixels > LANES + 16 ? WIDE : 1;
    cut_channels(p);
    p->in_place = reads_in_place(p);
}

fc_panels_shape fc_conv_panels_shape(const fc_job *job)
{
    plan p;
    set_shapes(&p, job);
    const int64_t cuts = fc_parts(p.taps, p.tap_block);
    const int64_t blocks = fc_parts(job->channels, p.channel_block);
    return (fc_panels_shape){
        .lanes = p.wide * LANES, .near = NEAR, .in_place = p.in_place, .products = cuts * blocks,
        .entries = p.in_order ? cuts * blocks : p.taps * fc_parts(job->channels, p.near),
    };
}

int fc_panels_one_chain(int64_t taps, int64_t size) { return taps * size <= BLOCK_BYTES / WIDE; }

int fc_conv_panels(const fc_job *job)
{
    plan p;
    set_shapes(&p, job);
    p.units = (fc_units){0};
    const int64_t lanes = job->kernels->lanes;
    p.pixels = job->batch * job->axis[0].outputs * job->axis[1].outputs * job->axis[2].outputs;
    if (!p.pixels || !job->rows)
        return FC_OK;
    /* Full panels, and a last one that takes up to one more vector before it is cut in two. */
    p.width = p.wide * fc_most(LANES / job->kernels->width, 1) * job->kernels->width;
    p.panels = p.pixels <= p.width + lanes ? 1 : (p.pixels - lanes + p.width - 1) / p.width;
    p.row_blocks = (job->rows + job->kernels->rows - 1) / job->kernels->rows;

    const double flops = 2.0 * job->groups * job->rows * job->channels * p.taps * p.pixels;
    const int team = fc_team_size(fc_useful_threads(job->threads, flops));
    p.panel_bytes = fc_round_up(p.tap_block * p.channel_block * (p.width + lanes) * job->size, 64);
    p.stride = fc_round_up(fc_round_up(2 * p.entries * (int64_t)sizeof(int64_t), 64) + p.panel_bytes
                  + job->rows * (p.width + lanes) * job->size, 4096);
    char *scratch = fc_arena_take(job->rows * sizeof(int64_t) + team * p.stride);
    if (!scratch)
        return FC_NO_MEMORY;
    p.scratch = scratch;
    int64_t *rows = (int64_t *)(scratch + team * p.stride);
    for (int64_t i = 0; i < job->rows; i++)
        rows[i] = fc_job_row(job, i);
    p.rows = rows;
    fc_parallel(team, body, &p);
    fc_arena_give(scratch);
    return FC_OK;
}
