#include "conv_columns.h"

#include <string.h>

#include "arena.h"
#include "conv_job.h"
#include "conv_patches.h"
#include "parallel.h"

/* Columns of a box, of a Zen 4's L2 of 1 MB: 64 filters of 3 x 7 x 7 on 224 x 224 take 3.08 ms with
 * 256 KB, 2.79 so, 2.70 with 640, where others take up to 1.08 times as long. Lines are not cut
 * below NARROW outputs. Planes of images that are put together at once. */
enum { COLUMNS_BYTES = 384 << 10, NARROW = 384, PLANES_BYTES = 2 << 20 };

/* Along one axis: boxes of `box` outputs, and what of a phase of dx one of them reaches. */
typedef struct { int64_t box, boxes, reach; } extent;

typedef struct {
    const fc_conv *conv;
    const fc_kernels *kernels;
    int64_t size, taps, channels, filters;   /* of a group */
    int64_t outputs, cells;
    extent e[3];
    int64_t boxes, pitch;                    /* of an item, an image's group; of a plane's line */
    int64_t phases, channel, plane;          /* elements of a channel in a plane, and of all */
    const char *dy, *w, *bias;
    char *dx, *planes, *scratch;             /* (items at once, boxes, plane); a member's */
    int64_t stride;                          /* bytes of that */
    int64_t first, items;                    /* those at once */
    int status;
    fc_units units;
} plan;

/* Planes hold the padding, too, and all phases. */
int fc_columns_fit(const fc_conv *conv)
{
    enum { MOST = 4 };   /* times the cells of an axis */
    for (int a = 0; a < 3; a++) {
        const int64_t stride = conv->stride[a];
        const int64_t ahead = (conv->kernel[a] - 1) * conv->dilation[a] / stride;
        if (conv->before[a] < 0 || !conv->out[a]
            || stride * (conv->out[a] + ahead) > MOST * conv->in[a])
            return 0;
    }
    return fc_volume(conv->kernel) > 1 && conv->in_channels && conv->out_channels > conv->groups
           && !fc_patches_fit(conv);
}

/* --- boxes ---------------------------------------------------------------------------------- */

static void set_box(plan *p, int a, int64_t box)
{
    const fc_conv *conv = p->conv;
    extent *e = &p->e[a];
    e->boxes = fc_parts(conv->out[a], box);
    e->box = fc_parts(conv->out[a], e->boxes);
    e->reach = e->box + (conv->kernel[a] - 1) * conv->dilation[a] / conv->stride[a];
}

static int64_t pixels_of(const plan *p) { return p->e[0].box * p->e[1].box * p->e[2].box; }

/* Outer axes are halved first. */
static void choose_boxes(plan *p)
{
    for (int a = 0; a < 3; a++)
        set_box(p, a, p->conv->out[a]);
    while (p->channels * p->taps * pixels_of(p) * p->size > COLUMNS_BYTES) {
        const int a = p->e[0].box > 1 ? 0 : p->e[1].box > 1 ? 1 : 2;
        if (a == 2 && p->e[2].box <= NARROW)
            break;
        set_box(p, a, (p->e[a].box + 1) / 2);
    }
}

static plan plan_of(const fc_conv *conv)
{
    plan p = {
        .conv = conv, .kernels = fc_active[conv->dtype], .size = conv->dtype == FC_F64 ? 8 : 4,
        .taps = fc_volume(conv->kernel), .channels = conv->in_channels / conv->groups,
        .filters = conv->out_channels / conv->groups,
        .outputs = fc_volume(conv->out), .cells = fc_volume(conv->in),
        .phases = fc_volume(conv->stride),
    };
    const int64_t lanes = p.kernels->lanes;
    choose_boxes(&p);
    p.boxes = p.e[0].boxes * p.e[1].boxes * p.e[2].boxes;
    p.pitch = p.e[2].reach - p.e[2].box + fc_round_up(p.e[2].box, lanes);
    p.channel = p.phases * p.e[0].reach * p.e[1].reach * p.pitch;
    p.plane = p.channels * p.channel + lanes;
    return p;
}

fc_columns_shape fc_conv_columns_shape(const fc_conv *conv)
{
    const plan p = plan_of(conv);
    fc_columns_shape shape = {fc_patches_conv(conv), p.boxes};
    shape.box.batch = 1;
    for (int a = 0; a < 3; a++) {
        shape.box.in[a] = shape.box.out[a] = p.e[a].box;
        shape.box.before[a] = 0;
    }
    return shape;
}

/* --- columns of a box, added up in its plane ------------------------------------------------ */

/* The product: a convolution with a kernel of 1. Whole lines are one axis, so that panels are read
 * where they lie. */
static int multiply(const plan *p, int64_t item, const int64_t begin[3], const int64_t count[3],
                    char *columns)
{
    const fc_conv *conv = p->conv;
    const int64_t *out = conv->out;
    fc_job job = {
        .kernels = p->kernels, .size = p->size, .threads = 1, .batch = 1, .groups = 1,
        .rows = p->channels * p->taps, .channels = p->filters, .kernel = 1,
        .source = p->dy + item * p->filters * p->outputs * p->size,
        .source_axis = {out[1] * out[2], out[2], 1}, .source_channel = p->outputs,
        .weight = p->w + item % conv->groups * p->filters * p->channels * p->taps * p->size,
        .weight_row = 1, .weight_block = 8, .weight_channel = p->channels * p->taps,
        .weight_axis = {1, 1, 1},
        .out = columns, .out_axis = {count[1] * count[2], count[2], 1},
        .out_row = fc_volume(count),
    };
    for (int a = 0; a < 3; a++)
        job.axis[a] = (fc_axis){.outputs = count[a], .cells = out[a], .taps = 1, .step = 1,
                                .offset = begin[a], .tap_step = 1, .weight_step = 1,
                                .place_step = 1};
    for (int a = 1; a >= 0 && count[a + 1] == out[a + 1]; a--) {
        fc_axis *line = &job.axis[2], *outer = &job.axis[a];
        line->offset += outer->offset * line->cells;
        line->outputs *= outer->outputs;
        line->cells *= outer->cells;
        outer->outputs = outer->cells = 1;
        outer->offset = 0;
    }
    return fc_conv_panels(&job);
}

/* Where in a plane the box's output (0, 0, 0) adds to by a tap: its phase, and then its cell. */
static int64_t place_of(const plan *p, int64_t channel, const int64_t tap[3])
{
    const fc_conv *conv = p->conv;
    int64_t phase = 0, at[3];
    for (int a = 0; a < 3; a++) {
        const int64_t cell = tap[a] * conv->dilation[a];
        phase = phase * conv->stride[a] + cell % conv->stride[a];
        at[a] = cell / conv->stride[a];
    }
    const int64_t line = (phase * p->e[0].reach + at[0]) * p->e[1].reach + at[1];
    return channel * p->channel + line * p->pitch + at[2];
}

/* Tap after tap: what one has just stored, the next would have to wait for. */
static void add_up(const plan *p, const int64_t count[3], const char *columns, char *plane)
{
    const int64_t *kernel = p->conv->kernel, row = fc_volume(count) * p->size;
    memset(plane, 0, (size_t)(p->plane * p->size));
    for (int64_t i = 0; i < p->channels * p->taps; i++, columns += row) {
        const int64_t r = i % p->taps;
        const int64_t tap[3] = {r / kernel[2] / kernel[1], r / kernel[2] % kernel[1],
                                r % kernel[2]};
        const int64_t to = place_of(p, i / p->taps, tap), lines = count[1] * count[2];
        for (int64_t z = 0; z < count[0]; z++)
            p->kernels->add_lines(&(fc_added){
                .lines = count[1], .length = count[2],
                .from = columns + z * lines * p->size, .from_line = count[2],
                .to = plane + (to + z * p->e[1].reach * p->pitch) * p->size, .to_line = p->pitch});
    }
}

static void run_boxes(void *context, int member, int team)
{
    plan *p = context;
    char *columns = p->scratch + member * p->stride;
    fc_pieces pieces = {.heap = &p->units, .count = p->items * p->boxes, .group = 1, .least = 1,
                        .member = member, .team = team};
    for (int64_t at, end; fc_next_piece(&pieces, &at, &end);)
        for (; at < end; at++) {
            int64_t rest = at % p->boxes, begin[3], count[3];
            for (int a = 2; a >= 0; rest /= p->e[a--].boxes) {
                begin[a] = rest % p->e[a].boxes * p->e[a].box;
                count[a] = fc_least(p->e[a].box, p->conv->out[a] - begin[a]);
            }
            if (multiply(p, p->first + at / p->boxes, begin, count, columns) != FC_OK)
                __atomic_store_n(&p->status, FC_NO_MEMORY, __ATOMIC_RELAXED);
            add_up(p, count, columns, p->planes + at * p->plane * p->size);
        }
}

/* --- dx from the planes --------------------------------------------------------------------- */

/* The boxes along an axis whose planes have cell `at` of a phase: [*first, *end). */
static void boxes_at(const extent *e, int64_t at, int64_t *first, int64_t *end)
{
    *first = fc_most(fc_parts(at - e->reach + 1, e->box), 0);
    *end = fc_least(at / e->box + 1, e->boxes);
}

static void start_line(char *line, const char *bias, int64_t count, int64_t size)
{
    if (!bias)
        memset(line, 0, (size_t)(count * size));
    for (int64_t i = 0; bias && i < count; i++)
        memcpy(line + i * size, bias, (size_t)size);
}

/* Add to `sum` what a box has of cells [from, from + count) of a line that begins at `line`. */
static void add_part(const plan *p, const char *line, int64_t box, int64_t from, int64_t count,
                     char *sum)
{
    const extent *e = &p->e[2];
    const int64_t first = fc_most(from, box * e->box);
    const int64_t end = fc_least(from + count, box * e->box + e->reach);
    p->kernels->add_lines(&(fc_added){
        .lines = 1, .length = end - first, .from = line + (first - box * e->box) * p->size,
        .to = sum + (first - from) * p->size});
}

/* Cells [from, from + count) of one phase of a line of dx, which is line at[1] of its phase, in
 * plane at[0]. */
static void sum_line(const plan *p, int64_t item, int64_t channel, int64_t phase,
                     const int64_t at[2], int64_t from, int64_t count, char *sum)
{
    const extent *e = p->e;
    int64_t first[3], end[3], last;
    boxes_at(&e[0], at[0], &first[0], &end[0]);
    boxes_at(&e[1], at[1], &first[1], &end[1]);
    boxes_at(&e[2], from, &first[2], &last);
    boxes_at(&e[2], from + count - 1, &last, &end[2]);
    for (int64_t z = first[0]; z < end[0]; z++)
        for (int64_t y = first[1]; y < end[1]; y++)
            for (int64_t x = first[2]; x < end[2]; x++) {
                const int64_t box = (z * e[1].boxes + y) * e[2].boxes + x;
                const int64_t line = (phase * e[0].reach + at[0] - z * e[0].box) * e[1].reach
                                     + at[1] - y * e[1].box;
                const int64_t plane = (item - p->first) * p->boxes + box;
                add_part(p, p->planes + (plane * p->plane + channel * p->channel
                                         + line * p->pitch) * p->size, x, from, count, sum);
            }
}

/* Line `at` of dx, counted on over items, channels and the first two axes. */
static void put_line(const plan *p, int64_t at, char *sum)
{
    const fc_conv *conv = p->conv;
    const int64_t *in = conv->in, *stride = conv->stride, lines = in[0] * in[1];
    const int64_t item = p->first + at / lines / p->channels, channel = at / lines % p->channels;
    const int64_t z = at % lines / in[1] + conv->before[0], y = at % in[1] + conv->before[1];
    const int64_t place[2] = {z / stride[0], y / stride[1]};
    const int64_t phase = z % stride[0] * stride[1] + y % stride[1];
    const char *bias = p->bias ? p->bias + (item % conv->groups * p->channels + channel) * p->size
                               : NULL;
    char *line = p->dx + ((item * p->channels + channel) * lines + at % lines) * in[2] * p->size;
    for (int64_t x = 0; x < stride[2]; x++) {
        const int64_t from = fc_most(fc_parts(conv->before[2] - x, stride[2]), 0);
        const int64_t first = from * stride[2] + x - conv->before[2];
        const int64_t count = fc_parts(in[2] - first, stride[2]);
        if (count <= 0)
            continue;
        start_line(sum, bias, count, p->size);
        sum_line(p, item, channel, phase * stride[2] + x, place, from, count, sum);
        p->kernels->copy_rows(&(fc_copy){
            .from = sum, .from_step = 1, .to = line + first * p->size, .to_step = stride[2],
            .rows = 1, .length = count});
    }
}

static void put_lines(void *context, int member, int team)
{
    plan *p = context;
    fc_pieces pieces = {.heap = &p->units, .group = 1, .least = 1, .member = member, .team = team,
                        .count = p->items * p->channels * p->conv->in[0] * p->conv->in[1]};
    for (int64_t at, end; fc_next_piece(&pieces, &at, &end);)
        for (; at < end; at++)
            put_line(p, at, p->scratch + member * p->stride);
}

int fc_columns_grad_input(const fc_conv *conv, const void *dy, const void *w, const void *bias,
                          void *dx, int threads)
{
    plan p = plan_of(conv);
    const int64_t items = conv->batch * conv->groups, item = p.boxes * p.plane * p.size;
    const double flops = 2.0 * (double)(items * p.outputs * p.channels * p.taps * p.filters);
    const int team = fc_team_size(fc_useful_threads(threads, flops));
    const int64_t once = fc_most(PLANES_BYTES / item, fc_parts(2 * team, p.boxes));
    const int64_t columns = p.channels * p.taps * pixels_of(&p);
    p.dy = dy, p.w = w, p.bias = bias, p.dx = dx;
    p.items = fc_least(once, items);
    p.stride = fc_round_up((fc_most(columns, conv->in[2]) + p.kernels->lanes) * p.size, 4096) + 64;
    const int64_t planes = fc_round_up(p.items * item, 4096);
    p.planes = fc_arena_take((size_t)(planes + team * p.stride));
    if (!p.planes)
        return FC_NO_MEMORY;
    p.scratch = p.planes + planes;
    for (; p.first < items && p.status == FC_OK; p.first += p.items) {
        p.items = fc_least(p.items, items - p.first);
        p.units = (fc_units){0};
        fc_parallel(team, run_boxes, &p);
        p.units = (fc_units){0};
        fc_parallel(team, put_lines, &p);
    }
    fc_arena_give(p.planes);
    return p.status;
}
