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
#include "conv_planes_plan.h"

typedef fc_planes_plan plan;

typedef struct { int64_t image, group, begin[3], count[3], row, rows; } box;

/* One phase plane of each channel: rows of the source, whose cells begin at `from` and of which the
 * first is row at[0], column at[1], between zeros. */
static void fill_rows(const plan *p, int64_t from, const int64_t at[2], char *to)
{
    const fc_job *job = p->job;
    const fc_axis *y = &job->axis[1], *x = &job->axis[2];
    const int64_t rows = p->e[1].reach, width = p->e[2].reach, line = width * job->size;
    int64_t many_y, many_x;
    const int64_t q_y = fc_planes_inside(at[0], y->step, y->cells, rows, &many_y);
    const int64_t q_x = fc_planes_inside(at[1], x->step, x->cells, width, &many_x);
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
    const fc_planes_extent *e = p->e;
    const int64_t slots = e[0].slots * e[1].slots * e[2].slots, area = e[1].reach * e[2].reach;
    const int64_t image = (b->image * job->groups + b->group) * job->channels * job->source_channel;
    for (int64_t s = 0; s < slots; s++) {
        const int64_t slot[3] = {s / e[2].slots / e[1].slots, s / e[2].slots % e[1].slots,
                                 s % e[2].slots};
        int64_t at[3];
        for (int a = 0; a < 3; a++)
            at[a] = fc_planes_first_cell(p, a, b->begin[a], slot[a]);
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

/* Outputs [begin[0] + z, begin[1] + y .. + many) of the box, `wide` of each line, b->rows of the
 * group. */
static void compute(const plan *p, const fc_planes_sum *s, const box *b, const char *planes,
                    char *tile, int64_t z, int64_t y, int64_t many, int64_t wide)
{
    const fc_job *job = s->job;
    const int64_t width = p->e[2].reach;
    int64_t to = ((b->image * job->groups + b->group) * job->rows + b->row) * job->out_row;
    const int64_t at[3] = {b->begin[0] + z, b->begin[1] + y, b->begin[2]};
    for (int a = 0; a < 3; a++)
        to += (job->axis[a].place + at[a] * job->axis[a].place_step) * job->out_axis[a];
    const int direct = (many == 1 && job->axis[2].place_step == 1) || fc_planes_join(p);
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
static void compute_sum(const plan *p, const fc_planes_sum *s, const box *b, const char *planes,
                        char *tile)
{
    int64_t count[3];
    for (int a = 0; a < 3; a++)
        count[a] = fc_least(b->count[a], s->job->axis[a].outputs - b->begin[a]);
    for (int64_t z = 0; count[2] > 0 && z < count[0]; z++)
        for (int64_t y = 0; y < count[1]; y += p->chunk)
            compute(p, s, b, planes, tile, z, y, fc_least(count[1] - y, p->chunk), count[2]);
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
    char *tile = planes + p->tile;
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

int fc_conv_planes(const fc_job *jobs, int64_t count, int way)
{
    const fc_job all = fc_planes_common(jobs, count);
    const double flops = fc_planes_flops(jobs, count);
    if (!all.rows || !flops)
        return FC_OK;
    const int team = fc_team_size(fc_useful_threads(all.threads, flops));
    plan p = fc_planes_plan_make(&all, count, way, team);
    const int64_t table = fc_planes_listed(jobs, count) * (int64_t)sizeof(int64_t);
    p.scratch = fc_arena_take(team * p.stride + count * (int64_t)sizeof *p.sums + table);
    if (!p.scratch)
        return FC_NO_MEMORY;
    p.sums = (fc_planes_sum *)(p.scratch + team * p.stride);
    fc_planes_list(&p, jobs, way, (int64_t *)(p.sums + count));
    fc_parallel(team, body, &p);
    fc_arena_give(p.scratch);
    return FC_OK;
}
