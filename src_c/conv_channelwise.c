/* Depthwise convolution with lanes over channels, and its gradients.
 *
 * A block of as many channels as a vector has lanes is turned, cell by cell, into scratch with
 * its zero padding: from then on every tap of every output is one aligned load, whatever stride,
 * dilation or width of the image. Finished outputs are turned back. That costs some eight
 * shuffles for each vector of outputs (stride 1), and no lane is idle where images are small.
 *
 *     cells (reach of axis 0, 1, 2, lanes)        of a box of outputs, between zeros
 *     tile (chunk of axis 1, box of axis 2, lanes)   outputs
 *
 * Cells are turned just before the first chunk of outputs that needs them, so that they are
 * still in the first level of cache. The phases of an input gradient take turns chunk by chunk,
 * and what they leave interleaved in the tile goes to memory once.
 *
 * Work is divided over (block of channels, image, box); that of weight gradients over blocks.
 */
#include "conv_channelwise.h"

#include <math.h>
#include <string.h>

#include "arena.h"
#include "parallel.h"

/* A box has at most BOX_CELLS cells and, before it is cut along them, lines of WIDEST outputs: 256
 * KB of 64-byte vectors. CHUNK outputs at a time: 7 KB. Gradients of weights are sums over
 * chunks, so these numbers are the same for every instruction set. */
enum { BOX_CELLS = 4096, LARGEST_BOX = 4 * BOX_CELLS, WIDEST = 128, CHUNK = 112, LONGEST_RUN = 4 };

/* A chain of a gradient's sum goes over at least so many outputs, whole boxes: 35000 in one were
 * off by 49 eps. */
enum { CHAIN = 1024 };

/* One axis of the output, all phases together: outputs `every` apart see the same taps, `step`
 * cells further on; outputs 0 .. every - 1 see cells low .. high. */
typedef struct { int64_t length, every, step, low, high, box, boxes, reach; } extent;

typedef struct {
    const fc_job *jobs;         /* one for each phase; they differ in their axes alone */
    int64_t phases;
    extent e[3];
    int64_t lanes, blocks, kernel;   /* elements of one kernel */
    int64_t chunk;              /* rows (axis 1) of outputs computed at a time */
    fc_tap_run *runs;           /* of all phases, those of phase p from first_run[p] on */
    int64_t first_run[FC_MOST_PHASES + 1];
    int64_t cells_bytes, tile_bytes, stride;   /* scratch of a member */
    char *scratch;
} plan;

typedef struct {
    int64_t image, group, groups;            /* groups of the block, one a lane */
    int64_t begin[3], count[3];
    char *cells, *tile, *weight, *bias;      /* weight (rows, kernel, lanes), bias (rows, lanes); for a
                                                gradient weight (2, rows, kernel, lanes): chain, sums */
    int64_t filled;                          /* lines of cells so far */
} box;

/* ---- the plan ---- */

static extent extent_of(const fc_job *jobs, int64_t phases, int a)
{
    extent e = {.every = jobs->axis[a].place_step, .step = jobs->axis[a].step};
    for (int64_t p = 0, any = 0; p < phases; p++) {
        const fc_axis *axis = &jobs[p].axis[a];
        if (!axis->outputs)
            continue;
        e.length = fc_most(e.length, axis->place + (axis->outputs - 1) * axis->place_step + 1);
        if (!axis->taps)
            continue;
        const int64_t last = axis->offset + (axis->taps - 1) * axis->tap_step;
        e.low = any ? fc_least(e.low, fc_least(axis->offset, last)) : fc_least(axis->offset, last);
        e.high = any ? fc_most(e.high, fc_most(axis->offset, last)) : fc_most(axis->offset, last);
        any = 1;
    }
    return e;
}

/* Number, from the box's first cell on, of the last cell that its outputs 0 .. count - 1 see. */
static int64_t last_cell(const extent *e, int64_t count)
{
    return (count - 1) / e->every * e->step + e->high - e->low;
}

static void set_box(extent *e, int64_t box)
{
    e->boxes = fc_parts(e->length, box);
    e->box = fc_round_up(fc_parts(e->length, e->boxes), e->every);
    e->boxes = fc_parts(e->length, e->box);
    e->reach = last_cell(e, e->box) + 1;
}

static double cells_of_box(const plan *p)
{
    return (double)p->e[0].reach * (double)p->e[1].reach * (double)p->e[2].reach;
}

/* Cut along lines where these are long (but not so that boxes overlap by much), then the box
 * across them until it fits and until there is a box for every thread. */
static void choose_boxes(plan *p, int64_t threads)
{
    extent *e = p->e;
    for (int a = 0; a < 3; a++) {
        e[a] = extent_of(p->jobs, p->phases, a);
        set_box(&e[a], e[a].length);
    }
    const int64_t widest = fc_most(WIDEST, (e[2].high - e[2].low) / e[2].step * e[2].every);
    if (e[2].length > widest)
        set_box(&e[2], widest);
    for (;;) {
        const int64_t items = p->blocks * p->jobs->batch * e[0].boxes * e[1].boxes * e[2].boxes;
        const int small = cells_of_box(p) <= BOX_CELLS && items >= threads;
        if (!small && e[0].box > e[0].every)
            set_box(&e[0], (e[0].box + 1) / 2);
        else if (!small && e[1].box > fc_most(e[1].every, 4))
            set_box(&e[1], (e[1].box + 1) / 2);
        else
            break;
    }
    p->chunk = fc_least(e[1].box, fc_round_up((CHUNK + e[2].box / 2) / e[2].box, e[1].every));
    p->chunk = fc_most(p->chunk, e[1].every);
}

/* Outputs lie `stride` times as far apart as the taps of a run. Where that is neither 1 nor 2,
 * or where a gradient sums over outputs, a run may as well be a single tap, with outputs its
 * neighbours. */
static int stride_of_runs(const fc_axis *x)
{
    return x->tap_step == x->step || x->tap_step == -x->step ? 1 : x->step == 2 * x->tap_step ? 2 : 0;
}

static int64_t parts_of_line(const fc_axis *x, int most_stride)
{
    const int stride = stride_of_runs(x);
    return stride && stride <= most_stride ? fc_parts(x->taps, LONGEST_RUN) : x->taps;
}

/* The taps of a phase as runs along lines: line by line, or, for gradients, by length. Where
 * taps go backwards through the cells the outputs are taken from last to first, which makes it
 * forwards again. Returns how many there are. */
static int64_t list_runs(const plan *p, const fc_job *job, int gradient, fc_tap_run *runs)
{
    const fc_axis *x = &job->axis[2];
    const int64_t lines = job->axis[0].taps * job->axis[1].taps;
    const int64_t parts = parts_of_line(x, gradient ? 1 : 2);
    for (int64_t line = 0; line < lines; line++)
        for (int64_t part = 0, first = 0; part < parts; part++) {
            const int64_t r[3] = {line / job->axis[1].taps, line % job->axis[1].taps, first};
            int64_t cell = 0;
            for (int a = 0; a < 3; a++)
                cell = cell * p->e[a].reach + job->axis[a].offset + r[a] * job->axis[a].tap_step - p->e[a].low;
            fc_tap_run *run = &runs[gradient ? part * lines + line : line * parts + part];
            run->cell = cell * p->lanes;
            run->weight = fc_job_weight(job, r) * p->lanes;
            run->length = (x->taps - first) / (parts - part);
            first += run->length;
        }
    return lines * parts;
}

static int64_t most_runs(const plan *p)
{
    int64_t runs = 0;
    for (int64_t i = 0; i < p->phases; i++)
        runs += p->jobs[i].axis[0].taps * p->jobs[i].axis[1].taps * p->jobs[i].axis[2].taps;
    return runs;
}

/* A segment of a job without phases, as if its outputs began the image. */
static fc_job from_its_place(const fc_job *job)
{
    fc_job own = *job;
    own.out += fc_job_place(job) * job->size;
    for (int a = 0; a < 3; a++)
        own.axis[a].place = 0;
    return own;
}

static plan new_plan(const fc_job *jobs, int64_t phases)
{
    const int64_t lanes = jobs->kernels->lanes;
    return (plan){.jobs = jobs, .phases = phases, .lanes = lanes, .kernel = jobs->weight_row,
                  .blocks = fc_parts(jobs->groups, lanes)};
}

/* Scratch and runs for a team, once boxes are chosen; 0 if there is no memory. */
static int lay_out(plan *p, int team, int gradient)
{
    const int64_t rows = p->jobs->rows, vector = p->lanes * p->jobs->size;
    p->cells_bytes = p->e[0].reach * p->e[1].reach * p->e[2].reach * vector;
    p->tile_bytes = fc_round_up(p->chunk * p->e[2].box, p->lanes) * vector;   /* from_lanes reads whole squares */
    const int64_t weights = rows * p->kernel * (gradient ? 2 : 1);
    const int64_t weight_bytes = (weights + p->lanes + rows) * vector;
    p->stride = fc_round_up(p->cells_bytes + p->tile_bytes + weight_bytes, 4096) + 64;
    p->scratch = fc_arena_take(team * p->stride + most_runs(p) * sizeof(fc_tap_run));
    if (!p->scratch)
        return 0;
    p->runs = (fc_tap_run *)(p->scratch + team * p->stride);
    for (int64_t i = 0; i < p->phases; i++)
        p->first_run[i + 1] = p->first_run[i]
            + list_runs(p, &p->jobs[i], gradient, p->runs + p->first_run[i]);
    return 1;
}

/* ---- boxes ---- */

static box new_box(const plan *p, int64_t block, int member)
{
    box b = {.group = block * p->lanes, .cells = p->scratch + member * p->stride};
    b.groups = fc_least(p->lanes, p->jobs->groups - b.group);
    b.tile = b.cells + p->cells_bytes;
    b.weight = b.tile + p->tile_bytes;
    b.bias = b.weight + p->jobs->rows * p->kernel * p->lanes * p->jobs->size;
    return b;
}

/* Box number `item` of all images. */
static void place_box(const plan *p, box *b, int64_t item)
{
    for (int a = 2; a >= 0; a--) {
        b->begin[a] = item % p->e[a].boxes * p->e[a].box;
        b->count[a] = fc_least(p->e[a].box, p->e[a].length - b->begin[a]);
        item /= p->e[a].boxes;
    }
    b->image = item;
    b->filled = 0;
}

/* The first line of source cells of the channel in lane 0, with its number along the axes 0 and
 * 1; which of its cells the box needs, [*from, *to). */
static void cells_of_line(const plan *p, const box *b, int a, int64_t *first, int64_t *from,
                          int64_t *to)
{
    const extent *e = &p->e[a];
    *first = b->begin[a] / e->every * e->step + e->low;
    *from = fc_most(*first, 0);
    *to = fc_most(fc_least(*first + e->reach, p->jobs->axis[a].cells), *from);
}

/* Turn the cells of lines [b->filled, end) of the box; zeros where the image has none. Lines that
 * are read whole follow each other in memory. */
static void fill(const plan *p, box *b, int64_t end)
{
    const fc_job *job = p->jobs;
    const int64_t size = job->size, vector = p->lanes * size, reach = p->e[2].reach;
    int64_t first[3], from[3], to[3];
    for (int a = 0; a < 3; a++)
        cells_of_line(p, b, a, &first[a], &from[a], &to[a]);
    const int64_t width = to[2] - from[2], lead = width ? from[2] - first[2] : reach;
    const char *image = job->source + (b->image * job->groups + b->group) * job->source_channel * size;
    const char *all = job->source + job->batch * job->groups * job->source_channel * size;
    while (b->filled < end) {
        const int64_t z = first[0] + b->filled / p->e[1].reach;
        const int64_t y = first[1] + b->filled % p->e[1].reach;
        char *line = b->cells + b->filled * reach * vector;
        if (z < from[0] || z >= to[0] || y < from[1] || y >= to[1] || !width) {
            memset(line, 0, reach * vector);
            b->filled++;
            continue;
        }
        const int64_t whole = width == job->axis[2].cells ? fc_least(end - b->filled, to[1] - y)
                                                          : 1;
        const int64_t at = z * job->source_axis[0] + y * job->source_axis[1] + from[2];
        job->kernels->spread(&(fc_spread){
            .from = image + at * size, .from_row = job->source_channel, .rows = b->groups,
            .end = all,
            .count = whole * width, .width = width, .gap = (reach - width) * p->lanes,
            .to = line + lead * vector,
        });
        for (int64_t i = 0; i < whole; i++, line += reach * vector) {
            memset(line, 0, lead * vector);
            memset(line + (lead + width) * vector, 0, (reach - lead - width) * vector);
        }
        b->filled += whole;
    }
}

/* Everything that rows [y, y + many) of outputs of plane z see. */
static void fill_for(const plan *p, box *b, int64_t z, int64_t y, int64_t many)
{
    fill(p, b, last_cell(&p->e[0], z + 1) * p->e[1].reach + last_cell(&p->e[1], y + many) + 1);
}

/* Elements of the array of outputs before (channel of lane 0, row i; z, y, 0) of the box. */
static int64_t output_at(const plan *p, const box *b, int64_t i, int64_t z, int64_t y)
{
    const fc_job *job = p->jobs;
    return ((b->image * job->groups + b->group) * job->rows + i) * job->out_row
        + (b->begin[0] + z) * job->out_axis[0] + (b->begin[1] + y) * job->out_axis[1] + b->begin[2];
}

/* ---- outputs ---- */

/* The number of outputs of a phase below `end`, of those at place, place + every, ... */
static int64_t outputs_below(const fc_axis *axis, int64_t end)
{
    return end > axis->place ? (end - axis->place - 1) / axis->place_step + 1 : 0;
}

/* One phase of row i of each group: what it has of rows [y, y + many) of plane z. */
static void compute(const plan *p, const box *b, int64_t phase, int64_t i, int64_t z, int64_t y,
                    int64_t many)
{
    const fc_job *job = &p->jobs[phase];
    const fc_axis *axis = job->axis;
    const int64_t size = job->size, lanes = p->lanes, backwards = axis[2].tap_step < 0;
    if (z % axis[0].place_step != axis[0].place)
        return;
    const int64_t plane = outputs_below(&axis[0], z), row = outputs_below(&axis[1], y);
    const int64_t rows = outputs_below(&axis[1], y + many) - row;
    const int64_t width = outputs_below(&axis[2], b->count[2]);
    const int64_t line = plane * axis[0].step * p->e[1].reach + row * axis[1].step;
    const int64_t at = (axis[1].place + row * axis[1].place_step - y) * b->count[2] + axis[2].place;
    const int64_t x_step = axis[2].step * lanes, y_step = axis[2].place_step * lanes;
    const int64_t last = backwards ? width - 1 : 0, stride = stride_of_runs(&axis[2]) == 2 ? 2 : 1;
    if (!rows || !width)
        return;
    job->kernels->channelwise(&(fc_channelwise){
        .rows = rows, .width = width,
        .runs = p->first_run[phase + 1] - p->first_run[phase], .run = p->runs + p->first_run[phase],
        .w = b->weight + i * p->kernel * lanes * size,
        .w_step = axis[2].weight_step * job->weight_axis[2] * lanes,
        .bias = b->bias + i * lanes * size,
        .x = b->cells + (line * p->e[2].reach * lanes + last * x_step) * size,
        .x_row = axis[1].step * p->e[2].reach * lanes,
        .x_near = (backwards ? -x_step : x_step) / stride,
        .stride = stride,
        .y = b->tile + (at * lanes + last * y_step) * size,
        .y_row = axis[1].place_step * b->count[2] * lanes, .y_step = backwards ? -y_step : y_step,
    });
}

/* Row i of each group, rows [y, y + many) of plane z, from the tile to where they belong. */
static void put(const plan *p, const box *b, int64_t i, int64_t z, int64_t y, int64_t many)
{
    const fc_job *job = p->jobs;
    const int whole = b->count[2] == job->out_axis[1];   /* lines follow each other */
    char *to = job->out + output_at(p, b, i, z, y) * job->size;
    for (int64_t row = 0; row < (whole ? 1 : many); row++)
        job->kernels->from_lanes(b->tile + row * b->count[2] * p->lanes * job->size,
                                 whole ? many * b->count[2] : b->count[2],
                                 to + row * job->out_axis[1] * job->size, job->rows * job->out_row,
                                 b->groups);
}

/* The weights and biases of a block, turned: biases are 0 where there are none. */
static void turn_weights(const plan *p, const box *b)
{
    const fc_job *job = p->jobs;
    const int64_t vector = p->lanes * job->size;
    memset(b->bias, 0, job->rows * vector);
    for (int64_t i = 0; i < job->rows; i++) {
        const char *weight = job->weight + (b->group * job->weight_group + i * job->weight_row) * job->size;
        job->kernels->spread(&(fc_spread){
            .from = weight, .from_row = job->weight_group, .rows = b->groups,
            .end = job->weight + job->groups * job->weight_group * job->size,
            .count = p->kernel, .width = p->kernel, .to = b->weight + i * p->kernel * vector,
        });
    }
    for (int64_t i = 0; job->bias && i < job->rows; i++)
        for (int64_t l = 0; l < b->groups; l++)
            memcpy(b->bias + (i * p->lanes + l) * job->size,
                   job->bias + ((b->group + l) * job->rows + i) * job->size, job->size);
}

static void forward_body(void *context, int member, int team)
{
    const plan *p = context;
    const int64_t boxes = p->jobs->batch * p->e[0].boxes * p->e[1].boxes * p->e[2].boxes;
    int64_t item, end, block = -1;
    box b = {0};
    fc_share(p->blocks * boxes, member, team, &item, &end);
    for (; item < end; item++) {
        if (item / boxes != block) {
            block = item / boxes;
            b = new_box(p, block, member);
            turn_weights(p, &b);
        }
        place_box(p, &b, item % boxes);
        for (int64_t z = 0; z < b.count[0]; z++)
            for (int64_t y = 0; y < b.count[1]; y += p->chunk) {
                const int64_t many = fc_least(p->chunk, b.count[1] - y);
                fill_for(p, &b, z, y, many);
                for (int64_t i = 0; i < p->jobs->rows; i++) {
                    for (int64_t phase = 0; phase < p->phases; phase++)
                        compute(p, &b, phase, i, z, y, many);
                    put(p, &b, i, z, y, many);
                }
            }
    }
}

static double flops(const fc_job *jobs, int64_t phases)
{
    double all = 0;
    for (int64_t p = 0; p < phases; p++) {
        const fc_axis *axis = jobs[p].axis;
        all += (double)axis[0].outputs * axis[1].outputs * axis[2].outputs
            * (axis[0].taps * axis[1].taps * axis[2].taps + 8.0);
    }
    return 2 * all * jobs->batch * jobs->groups * jobs->rows;
}

int fc_conv_channelwise(const fc_job *jobs, int64_t phases)
{
    const fc_job own = from_its_place(jobs);
    plan p = new_plan(phases == 1 ? &own : jobs, phases);
    const int team = fc_team_size(fc_useful_threads(jobs->threads, flops(jobs, phases)));
    choose_boxes(&p, team);
    if (!lay_out(&p, team, 0))
        return FC_NO_MEMORY;
    fc_parallel(team, forward_body, &p);
    fc_arena_give(p.scratch);
    return FC_OK;
}

/* ---- gradient of the weights ---- */

/* What rows [y, y + many) of plane z of the box add to the sums of row i of each group. */
static void add_chunk(const plan *p, const box *b, int64_t i, int64_t z, int64_t y, int64_t many)
{
    const fc_job *job = p->jobs;
    const fc_axis *axis = job->axis;
    const int64_t size = job->size, lanes = p->lanes, width = b->count[2];
    const int whole = width == p->e[2].length;
    const char *dy = job->out + output_at(p, b, i, z, y) * size;
    const char *all = job->out + job->batch * job->groups * job->rows * job->out_row * size;
    for (int64_t row = 0; row < (whole ? 1 : many); row++)
        job->kernels->spread(&(fc_spread){
            .from = dy + row * job->out_axis[1] * size, .from_row = job->rows * job->out_row,
            .rows = b->groups, .end = all, .count = whole ? many * width : width, .width = width,
            .to = b->tile + row * width * lanes * size,
        });
    const int64_t line = z * axis[0].step * p->e[1].reach + y * axis[1].step;
    job->kernels->channelwise_grad(&(fc_channelwise_grad){
        .rows = many, .width = width, .runs = p->first_run[1], .run = p->runs,
        .x = b->cells + line * p->e[2].reach * lanes * size,
        .x_row = axis[1].step * p->e[2].reach * lanes, .x_step = axis[2].step * lanes,
        .dy = b->tile, .dy_row = width * lanes, .dy_step = lanes,
        .dw = b->weight + i * p->kernel * lanes * size,
    });
}

/* A box: what its outputs add to the sums. */
static void add_box(const plan *p, box *b, int64_t item)
{
    place_box(p, b, item);
    for (int64_t z = 0; z < b->count[0]; z++)
        for (int64_t y = 0; y < b->count[1]; y += p->chunk) {
            const int64_t many = fc_least(p->chunk, b->count[1] - y);
            fill_for(p, b, z, y, many);
            for (int64_t i = 0; i < p->jobs->rows; i++)
                add_chunk(p, b, i, z, y, many);
        }
}

/* A block's gradient: one chain after the other is summed up, then added to the sums behind it. */
static void sum_block(const plan *p, int64_t block, int64_t boxes, int member)
{
    const fc_job *job = p->jobs;
    const int64_t row = p->kernel * p->lanes, count = job->rows * row, both[2] = {0, count};
    box b = new_box(p, block, member);
    char *sums = b.weight + count * job->size;
    memset(b.weight, 0, 2 * count * job->size);
    for (int64_t item = 0, chain = 0; item < boxes; item++) {
        add_box(p, &b, item);
        chain += b.count[0] * b.count[1] * b.count[2];
        if (chain < CHAIN && item + 1 < boxes)
            continue;
        job->kernels->sum_rows(b.weight, both, 2, count, sums);
        memset(b.weight, 0, count * job->size);
        chain = 0;
    }
    for (int64_t i = 0; i < job->rows; i++)
        job->kernels->from_lanes(
            sums + i * row * job->size, p->kernel,
            (char *)job->weight + (b.group * job->weight_group + i * job->weight_row) * job->size,
            job->weight_group, b.groups);
}

static void weight_body(void *context, int member, int team)
{
    const plan *p = context;
    const int64_t boxes = p->jobs->batch * p->e[0].boxes * p->e[1].boxes * p->e[2].boxes;
    int64_t block, end;
    fc_share(p->blocks, member, team, &block, &end);
    for (; block < end; block++)
        sum_block(p, block, boxes, member);
}

int fc_channelwise_weight_grad(const fc_job *job)
{
    plan p = new_plan(job, 1);
    const int team = fc_team_size((int)fc_least(p.blocks, fc_useful_threads(job->threads, flops(job, 1))));
    choose_boxes(&p, 1);
    if (!lay_out(&p, team, 1))
        return FC_NO_MEMORY;
    fc_parallel(team, weight_body, &p);
    fc_arena_give(p.scratch);
    return FC_OK;
}

/* ---- what it does, for fc_count_channelwise ---- */

/* Of one phase: stretches of 8 outputs, of 4 for the gradient of the weights, where those that are
 * left over load a cell for each tap. */
static void count_phase(const plan *p, const fc_job *job, int grad_weight,
                        fc_channelwise_shape *shape)
{
    const fc_axis *x = &job->axis[2];
    const double cut = (double)p->e[2].boxes, width = ceil((double)x->outputs / cut);
    const double lines = cut * (double)(job->axis[0].outputs * job->axis[1].outputs * job->rows);
    const double taps = (double)(job->axis[0].taps * job->axis[1].taps * x->taps);
    const double runs = taps / (double)fc_most(x->taps, 1) * (double)parts_of_line(x, grad_weight ? 1 : 2);
    const double stride = stride_of_runs(x) == 2 ? 2 : 1;
    const double stretches = grad_weight ? floor(width / 4) : ceil(width / 8);
    const double of_stretches = grad_weight ? 4 * stretches : width, left = width - of_stretches;
    /* Cells that one stretch looks at. */
    const double apart = (double)fc_least(fc_most(x->tap_step, -x->tap_step), 8);
    const double window = taps * apart + taps / (double)fc_most(x->taps, 1) * 8;
    shape->window = fmax(shape->window, window);
    shape->looked_at += lines * stretches * window;
    shape->products += lines * width * taps;
    shape->loads += lines * (stride * of_stretches * runs + stretches * (taps - stride * runs) + left * taps);
    shape->runs += lines * (stretches + left) * runs;
    shape->stretches += lines * (stretches + left);
}

fc_channelwise_shape fc_conv_channelwise_shape(const fc_job *jobs, int64_t phases, int grad_weight)
{
    const fc_axis *axis = jobs->axis;
    fc_channelwise_shape shape = {.fits = 0};
    if (jobs->channels != 1 || jobs->groups == 1 || phases > FC_MOST_PHASES
        || axis[0].place_step * axis[1].place_step * axis[2].place_step != phases)
        return shape;
    const fc_job own = from_its_place(jobs);
    plan p = new_plan(phases == 1 ? &own : jobs, phases);
    choose_boxes(&p, 1);
    shape.fits = cells_of_box(&p) <= LARGEST_BOX;
    const double boxes = (double)(p.e[0].boxes * p.e[1].boxes * p.e[2].boxes);
    shape.outputs = (double)jobs->rows;
    shape.cells = 1;
    for (int a = 0; a < 3; a++) {
        shape.outputs *= (double)p.e[a].length;
        shape.cells *= (double)(fc_least(axis[a].cells, p.e[a].reach) * p.e[a].boxes);
    }
    shape.lines = boxes * (double)(p.e[0].reach * p.e[1].reach);
    shape.zeros = boxes * cells_of_box(&p) - shape.cells;
    const int64_t of_plane = phases / axis[0].place_step;   /* phases that have outputs in one plane */
    shape.calls = boxes * (double)(p.e[0].box * fc_parts(p.e[1].box, p.chunk) * jobs->rows * of_plane);
    for (int64_t i = 0; i < phases; i++)
        count_phase(&p, &jobs[i], grad_weight, &shape);
    return shape;
}
