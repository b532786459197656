/* The gradient of depthwise weights, lanes over channels: sums over the boxes of
 * conv_channelwise.c, cells turned the same way. Work is divided over blocks of channels. */
#include "conv_channelwise.h"

#include <string.h>

#include "arena.h"
#include "conv_channelwise_box.h"
#include "parallel.h"

typedef fc_channelwise_plan plan;
typedef fc_channelwise_box box;

/* A chain of a gradient's sum goes over at least so many outputs, whole boxes: 35000 in one were
 * off by 49 eps. */
enum { CHAIN = 1024 };

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
static void sum_block(const plan *p, int64_t block, int64_t boxes, int member)
{
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
}

static void weight_body(void *context, int member, int team)
{
    const plan *p = context;
    const int64_t boxes = fc_channelwise_boxes(p);
    int64_t block, end;
    fc_share(p->blocks, member, team, &block, &end);
    for (; block < end; block++)
        sum_block(p, block, boxes, member);
}

int fc_channelwise_weight_grad(const fc_job *job)
{
    plan p = fc_channelwise_plan_make(job, 1, 1);
    const int threads = fc_useful_threads(job->threads, fc_channelwise_flops(job, 1));
    const int team = fc_team_size((int)fc_least(p.blocks, threads));
    if (!fc_channelwise_plan_lay_out(&p, team, 1))
        return FC_NO_MEMORY;
    fc_parallel(team, weight_body, &p);
    fc_arena_give(p.scratch);
    return FC_OK;
}
