#include "conv_channelwise_box.h"

#include <string.h>

typedef fc_channelwise_plan plan;
typedef fc_channelwise_box box;

fc_channelwise_box fc_channelwise_box_make(const plan *p, int64_t block, int member)
{
    box b = {.group = block * p->lanes, .cells = p->scratch + member * p->stride};
    b.groups = fc_least(p->lanes, p->jobs->groups - b.group);
    b.tile = b.cells + p->cells_bytes;
    b.weight = b.tile + p->tile_bytes;
    b.bias = b.weight + p->jobs->rows * p->kernel * p->lanes * p->jobs->size;
    b.runs = p->runs + (member + 1) * p->first_run[p->phases];
    return b;
}

void fc_channelwise_box_place(const plan *p, box *b, int64_t item)
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
    const fc_channelwise_extent *e = &p->e[a];
    *first = b->begin[a] / e->every * e->step + e->low;
    *from = fc_most(*first, 0);
    *to = fc_most(fc_least(*first + e->reach, p->jobs->axis[a].cells), *from);
}

/* Turn the cells of lines [b->filled, end) of the box, between zeros; lines outside the image
 * unless nothing reads them. Lines that are read whole follow each other in memory. */
static void fill(const plan *p, box *b, int64_t end)
{
    const fc_job *job = p->jobs;
    const int64_t size = job->size, vector = p->lanes * size, reach = p->e[2].reach;
    int64_t first[3], from[3], to[3];
    for (int a = 0; a < 3; a++)
        cells_of_line(p, b, a, &first[a], &from[a], &to[a]);
    const int64_t width = to[2] - from[2], lead = width ? from[2] - first[2] : reach;
    const int64_t channel = b->image * job->groups + b->group;
    const char *image = job->source + channel * job->source_channel * size;
    const char *all = job->source + job->batch * job->groups * job->source_channel * size;
    while (b->filled < end) {
        const int64_t z = first[0] + b->filled / p->e[1].reach;
        const int64_t y = first[1] + b->filled % p->e[1].reach;
        char *line = b->cells + b->filled * reach * vector;
        if (z < from[0] || z >= to[0] || y < from[1] || y >= to[1] || !width) {
            if (!width || p->gradient || !p->by_rows)
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
            .ahead = p->far && y + whole < to[1] ? whole * width : 0,
            .to = line + lead * vector,
        });
        for (int64_t i = 0; i < whole; i++, line += reach * vector) {
            memset(line, 0, lead * vector);
            memset(line + (lead + width) * vector, 0, (reach - lead - width) * vector);
        }
        b->filled += whole;
    }
}

void fc_channelwise_box_fill(const plan *p, box *b, int64_t z, int64_t y, int64_t many)
{
    const int64_t plane = fc_channelwise_last_cell(&p->e[0], z + 1);
    fill(p, b, plane * p->e[1].reach + fc_channelwise_last_cell(&p->e[1], y + many) + 1);
}

int64_t fc_channelwise_output_at(const plan *p, const box *b, int64_t i, int64_t z, int64_t y)
{
    const fc_job *job = p->jobs;
    return ((b->image * job->groups + b->group) * job->rows + i) * job->out_row
        + (b->begin[0] + z) * job->out_axis[0] + (b->begin[1] + y) * job->out_axis[1] + b->begin[2];
}
