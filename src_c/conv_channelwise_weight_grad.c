/* The gradient of depthwise weights, lanes over channels: sums over the boxes of
 * conv_channelwise.c, cells turned the same way. Work is divided over blocks of channels. */
#include "conv_channelwise.h"

#include <string.h>

#include "arena.h"
#include "conv_channelwise_box.h"
#include "conv_weight_padding.h"
#include "parallel.h"

typedef fc_channelwise_plan plan;
typedef fc_channelwise_box box;

typedef struct {
    const fc_conv *conv;
    plan plan;
    int padded, all_show;   /* is padding left out that owes NaN? conv_weight_padding.h */
} work;

/* A chain of a gradient's sum goes over at least so many outputs, whole boxes: 35000 in one were
 * off by 49 eps. */
enum { CHAIN = 1024 };

/* Which of `rows` outputs from y on meet a cell through one of the lines of taps that `count` runs
 * from number `run` on belong to: [*from, *to) of them. */
static void rows_met(const plan *p, int64_t run, int64_t count, int64_t y, int64_t rows,
                     int64_t *from, int64_t *to)
{
    const fc_axis *axis = &p->jobs->axis[1];
    *from = rows;
    *to = 0;
    for (int64_t i = 0; i < count; i++) {
        int64_t inside, first = fc_axis_inside(axis, (run + i) % axis->taps, &inside) - y;
        if (first + inside > fc_most(first, 0)) {
            *from = fc_least(*from, fc_most(first, 0));
            *to = fc_most(*to, fc_least(first + inside, rows));
        }
    }
}

/* Runs [run, end), of one length, of the rows of outputs from y on; those outside the image are
 * left out. */
static void add_lines(const plan *p, const fc_channelwise_grad *chunk, int64_t y, int64_t run,
                      int64_t end)
{
    for (fc_channelwise_grad c = *chunk; run < end; run += c.runs) {
        int64_t from, to;
        c.runs = fc_least(fc_runs_together(p->runs[run].length), end - run);
        rows_met(p, run, c.runs, y, chunk->rows, &from, &to);
        c.run = p->runs + run;
        c.rows = to - from;
        c.x = (const char *)chunk->x + from * c.x_row * p->jobs->size;
        c.dy = (const char *)chunk->dy + from * c.dy_row * p->jobs->size;
        if (c.rows > 0)
            p->jobs->kernels->channelwise_grad(&c);
    }
}

/* Of the runs that plane z and the rows from y on meet; `part` by part, as runs are listed. */
static void add_lines_met(const plan *p, const fc_channelwise_grad *chunk, int64_t z, int64_t y)
{
    const fc_axis *axis = p->jobs->axis;
    int64_t planes;
    const int64_t first = fc_axis_taps_inside(&axis[0], z, &planes) * axis[1].taps;
    for (int64_t part = 0; part < p->first_run[1]; part += axis[0].taps * axis[1].taps)
        add_lines(p, chunk, y, part + first, part + first + planes * axis[1].taps);
}

/* What rows [y, y + many) of plane z of the box add to the sums of row i of each group. */
static void add_chunk(const plan *p, const box *b, int64_t i, int64_t z, int64_t y, int64_t many)
{
    const fc_job *job = p->jobs;
    const fc_axis *axis = job->axis;
    const int64_t size = job->size, lanes = p->lanes, width = b->count[2];
    const int whole = width == p->e[2].length;
    const char *dy = job->out + fc_channelwise_output_at(p, b, i, z, y) * size;
    const char *all = job->out + job->batch * job->groups * job->rows * job->out_row * size;
    for (int64_t row = 0; row < (whole ? 1 : many); row++)
        job->kernels->spread(&(fc_spread){
            .from = dy + row * job->out_axis[1] * size, .from_row = job->rows * job->out_row,
            .rows = b->groups, .end = all, .count = whole ? many * width : width, .width = width,
            .ahead = p->far && y + many < b->count[1] ? many * job->out_axis[1] : 0,
            .to = b->tile + row * width * lanes * size,
        });
    const int64_t line = z * axis[0].step * p->e[1].reach + y * axis[1].step;
    const fc_channelwise_grad chunk = {
        .rows = many, .width = width, .runs = p->first_run[1], .run = p->runs,
        .x = b->cells + line * p->e[2].reach * lanes * size,
        .x_row = axis[1].step * p->e[2].reach * lanes, .x_step = axis[2].step * lanes,
        .dy = b->tile, .dy_row = width * lanes, .dy_step = lanes,
        .dw = b->weight + i * p->kernel * lanes * size,
    };
    if (p->by_rows)
        add_lines_met(p, &chunk, b->begin[0] + z, b->begin[1] + y);
    else
        job->kernels->channelwise_grad(&chunk);
}

/* A box: what its outputs add to the sums. */
static void add_box(const plan *p, box *b, int64_t item)
{
    fc_channelwise_box_place(p, b, item);
    for (int64_t z = 0; z < b->count[0]; z++)
        for (int64_t y = 0; y < b->count[1]; y += p->chunk) {
            const int64_t many = fc_least(p->chunk, b->count[1] - y);
            fc_channelwise_box_fill(p, b, z, y, many);
            for (int64_t i = 0; i < p->jobs->rows; i++)
                add_chunk(p, b, i, z, y, many);
        }
}

/* A block's gradient: one chain after the other is summed up, then added to the sums behind it. */
static void sum_block(const work *w, int64_t block, int64_t boxes, int member)
{
    const plan *p = &w->plan;
    const fc_job *job = p->jobs;
    const int64_t row = p->kernel * p->lanes, count = job->rows * row, both[2] = {0, count};
    box b = fc_channelwise_box_make(p, block, member);
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
            job->weight_group, b.groups, 0);
    if (w->padded)
        fc_weight_padding_add(w->conv, job->axis, w->all_show, job->out, (void *)job->weight,
                              b.group * job->rows, b.groups * job->rows);
}

static void weight_body(void *context, int member, int team)
{
    const work *w = context;
    const int64_t boxes = fc_channelwise_boxes(&w->plan);
    int64_t block, end;
    fc_share(w->plan.blocks, member, team, &block, &end);
    for (; block < end; block++)
        sum_block(w, block, boxes, member);
}

int fc_channelwise_weight_grad(const fc_conv *conv, const fc_job *job)
{
    work w = {.conv = conv, .plan = fc_channelwise_plan_make(job, 1, 1, 1),
              .all_show = fc_weight_padding_all_show(job->axis)};
    w.padded = w.plan.by_rows && fc_weight_padding_any(job->axis);
    const int threads = fc_useful_threads(job->threads, fc_channelwise_flops(job, 1));
    const int team = fc_team_size((int)fc_least(w.plan.blocks, threads));
    if (!fc_channelwise_plan_lay_out(&w.plan, team))
        return FC_NO_MEMORY;
    fc_parallel(team, weight_body, &w);
    fc_arena_give(w.plan.scratch);
    return FC_OK;
}
