/* Depthwise convolution with lanes over channels, and its input gradient.
 *
 * A block of as many channels as a vector has lanes is turned, cell by cell, into scratch with
 * its zero padding: from then on every tap of every output is one aligned load, whatever stride,
 * dilation or width of the image. Finished outputs are turned back. That costs some eight
 * shuffles for each vector of outputs (stride 1), and no lane is idle where images are small. Lines
 * of taps that a row of outputs meets outside the image are left out where that is worth a call.
 *
 * Cells are turned just before the first chunk of outputs that needs them, so that they are
 * still in the first level of cache. The phases of an input gradient take turns chunk by chunk,
 * and what they leave interleaved in the tile goes to memory once.
 *
 * Work is divided over (block of channels, image, box).
 */
#include "conv_channelwise.h"

#include <string.h>

#include "arena.h"
#include "conv_channelwise_box.h"
#include "parallel.h"

typedef fc_channelwise_plan plan;
typedef fc_channelwise_box box;

/* The number of outputs of a phase below `end`, of those at place, place + every, ... */
static int64_t outputs_below(const fc_axis *axis, int64_t end)
{
    return end > axis->place ? (end - axis->place - 1) / axis->place_step + 1 : 0;
}

/* The outputs along an axis from j on that meet the same taps as j; which, and how many. */
static int64_t alike(const fc_axis *axis, int64_t j, int64_t *first, int64_t *count)
{
    int64_t inside, all;
    *first = fc_axis_taps_inside(axis, j, count);
    if (*count < axis->taps)
        return 1;
    if (!axis->taps)
        return axis->outputs - j;
    all = fc_axis_inside(axis, axis->tap_step < 0 ? 0 : axis->taps - 1, &inside);
    return all + inside - j;
}

/* The runs of taps that output row j of plane z of a phase meets; how many rows meet the same. */
static int64_t take_runs(const plan *p, const box *b, int64_t phase, int64_t z, int64_t j,
                         fc_channelwise *c)
{
    const fc_axis *axis = p->jobs[phase].axis;
    const int64_t all = p->first_run[phase + 1] - p->first_run[phase];
    const int64_t of_line = all ? all / (axis[0].taps * axis[1].taps) : 0;
    const int64_t of_plane = of_line * axis[1].taps;
    int64_t planes, lines = axis[1].taps, from_y = 0, rows = INT64_MAX;
    const int64_t from_z = fc_axis_taps_inside(&axis[0], b->begin[0] / p->e[0].every + z, &planes);
    if (p->by_rows)
        rows = alike(&axis[1], b->begin[1] / p->e[1].every + j, &from_y, &lines);
    const fc_tap_run *first = p->runs + p->first_run[phase] + from_z * of_plane + from_y * of_line;
    c->run = first;
    c->runs = planes * lines * of_line;
    if (planes > 1 && lines < axis[1].taps) {
        for (int64_t i = 0; i < planes; i++)
            memcpy(b->runs + i * lines * of_line, first + i * of_plane,
                   lines * of_line * sizeof *first);
        c->run = b->runs;
    }
    return rows;
}

/* One phase of row i of each group: what it has of rows [y, y + many) of plane z. Lines of taps
 * that lie outside the image are left out. */
static void compute(const plan *p, const box *b, int64_t phase, int64_t i, int64_t z, int64_t y,
                    int64_t many)
{
    const fc_job *job = &p->jobs[phase];
    const fc_axis *axis = job->axis;
    const int64_t size = job->size, lanes = p->lanes, backwards = axis[2].tap_step < 0;
    if (z % axis[0].place_step != axis[0].place)
        return;
    const int64_t plane = outputs_below(&axis[0], z), row = outputs_below(&axis[1], y);
    const int64_t end = outputs_below(&axis[1], y + many);
    const int64_t width = outputs_below(&axis[2], b->count[2]);
    const int64_t line = plane * axis[0].step * p->e[1].reach + row * axis[1].step;
    const int64_t at = (axis[1].place + row * axis[1].place_step - y) * b->count[2] + axis[2].place;
    const int64_t x_step = axis[2].step * lanes, y_step = axis[2].place_step * lanes;
    const int64_t last = backwards ? width - 1 : 0;
    const int64_t stride = fc_channelwise_stride(&axis[2]) == 2 ? 2 : 1;
    fc_channelwise c = {
        .width = width,
        .w = b->weight + i * p->kernel * lanes * size,
        .w_step = axis[2].weight_step * job->weight_axis[2] * lanes,
        .bias = b->bias + i * lanes * size,
        .x = b->cells + (line * p->e[2].reach * lanes + last * x_step) * size,
        .x_row = axis[1].step * p->e[2].reach * lanes,
        .x_near = (backwards ? -x_step : x_step) / stride,
        .stride = stride,
        .y = b->tile + (at * lanes + last * y_step) * size,
        .y_row = axis[1].place_step * b->count[2] * lanes, .y_step = backwards ? -y_step : y_step,
    };
    for (int64_t j = row; width && j < end; j += c.rows) {
        c.rows = fc_least(end - j, take_runs(p, b, phase, plane, j, &c));
        job->kernels->channelwise(&c);
        c.x = (const char *)c.x + c.rows * c.x_row * size;
        c.y = (char *)c.y + c.rows * c.y_row * size;
    }
}

/* Row i of each group, rows [y, y + many) of plane z, from the tile to where they belong. */
static void put(const plan *p, const box *b, int64_t i, int64_t z, int64_t y, int64_t many)
{
    const fc_job *job = p->jobs;
    const int whole = b->count[2] == job->out_axis[1];   /* lines follow each other */
    const int64_t ahead = p->far && y + many < b->count[1] ? many * job->out_axis[1] : 0;
    char *to = job->out + fc_channelwise_output_at(p, b, i, z, y) * job->size;
    for (int64_t row = 0; row < (whole ? 1 : many); row++)
        job->kernels->from_lanes(b->tile + row * b->count[2] * p->lanes * job->size,
                                 whole ? many * b->count[2] : b->count[2],
                                 to + row * job->out_axis[1] * job->size, job->rows * job->out_row,
                                 b->groups, ahead);
}

/* The weights and biases of a block, turned: biases are 0 where there are none. */
static void turn_weights(const plan *p, const box *b)
{
    const fc_job *job = p->jobs;
    const int64_t vector = p->lanes * job->size;
    memset(b->bias, 0, job->rows * vector);
    for (int64_t i = 0; i < job->rows; i++) {
        const int64_t at = b->group * job->weight_group + i * job->weight_row;
        job->kernels->spread(&(fc_spread){
            .from = job->weight + at * job->size, .from_row = job->weight_group, .rows = b->groups,
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
    const int64_t boxes = fc_channelwise_boxes(p);
    int64_t item, end, block = -1;
    box b = {0};
    fc_share(p->blocks * boxes, member, team, &item, &end);
    for (; item < end; item++) {
        if (item / boxes != block) {
            block = item / boxes;
            b = fc_channelwise_box_make(p, block, member);
            turn_weights(p, &b);
        }
        fc_channelwise_box_place(p, &b, item % boxes);
        for (int64_t z = 0; z < b.count[0]; z++)
            for (int64_t y = 0; y < b.count[1]; y += p->chunk) {
                const int64_t many = fc_least(p->chunk, b.count[1] - y);
                fc_channelwise_box_fill(p, &b, z, y, many);
                for (int64_t i = 0; i < p->jobs->rows; i++) {
                    for (int64_t phase = 0; phase < p->phases; phase++)
                        compute(p, &b, phase, i, z, y, many);
                    put(p, &b, i, z, y, many);
                }
            }
    }
}

int fc_conv_channelwise(const fc_job *jobs, int64_t phases)
{
    const fc_job own = fc_channelwise_from_its_place(jobs);
    const double flops = fc_channelwise_flops(jobs, phases);
    const int team = fc_team_size(fc_useful_threads(jobs->threads, flops));
    plan p = fc_channelwise_plan_make(phases == 1 ? &own : jobs, phases, team, 0);
    if (!fc_channelwise_plan_lay_out(&p, team))
        return FC_NO_MEMORY;
    fc_parallel(team, forward_body, &p);
    fc_arena_give(p.scratch);
    return FC_OK;
}
