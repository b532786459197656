#include "conv_channelwise_plan.h"

#include <math.h>

#include "arena.h"
#include "conv_channelwise.h"

typedef fc_channelwise_plan plan;
typedef fc_channelwise_extent extent;

/* A box has at most BOX_CELLS cells and, before it is cut along them, lines of WIDEST outputs: 256
 * KB of 64-byte vectors. CHUNK outputs at a time: 7 KB. Gradients of weights are sums over
 * chunks, so these numbers are the same for every instruction set. */
enum { BOX_CELLS = 4096, LARGEST_BOX = 4 * BOX_CELLS, WIDEST = 128, CHUNK = 112, LONGEST_RUN = 4 };

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

static void set_box(extent *e, int64_t box)
{
    e->boxes = fc_parts(e->length, box);
    e->box = fc_round_up(fc_parts(e->length, e->boxes), e->every);
    e->boxes = fc_parts(e->length, e->box);
    e->reach = fc_channelwise_last_cell(e, e->box) + 1;
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

static int64_t parts_of_line(const fc_axis *x, int most_stride)
{
    const int stride = fc_channelwise_stride(x);
    return stride && stride <= most_stride ? fc_parts(x->taps, LONGEST_RUN) : x->taps;
}

/* The taps of a phase as runs along lines: line by line, or, for gradients, by length. Where
 * taps go backwards through the cells the outputs are taken from last to first, which makes it
 * forwards again. Returns how many there are. */
static int64_t list_runs(const plan *p, const fc_job *job, fc_tap_run *runs)
{
    const fc_axis *x = &job->axis[2];
    const int64_t lines = job->axis[0].taps * job->axis[1].taps;
    const int64_t parts = parts_of_line(x, p->gradient ? 1 : 2);
    for (int64_t line = 0; line < lines; line++)
        for (int64_t part = 0, first = 0; part < parts; part++) {
            const int64_t r[3] = {line / job->axis[1].taps, line % job->axis[1].taps, first};
            int64_t cell = 0;
            for (int a = 0; a < 3; a++) {
                const fc_axis *axis = &job->axis[a];
                cell = cell * p->e[a].reach + axis->offset + r[a] * axis->tap_step - p->e[a].low;
            }
            fc_tap_run *run = &runs[p->gradient ? part * lines + line : line * parts + part];
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

fc_job fc_channelwise_from_its_place(const fc_job *job)
{
    fc_job own = *job;
    own.out += fc_job_place(job) * job->size;
    for (int a = 0; a < 3; a++)
        own.axis[a].place = 0;
    return own;
}

/* Do rows of outputs that leave out what they meet outside the image save more multiply-adds than
 * a call for each of them costs? 7 x 7 on 7 x 7 1.19, on 14 x 14 1.11; of a twentieth of the
 * products, 3 x 3 on 14 x 14, nothing is gained (0.93). Lines of a gradient are looked at for
 * each few rows, which for less than a quarter gains nothing (0.95 to 1.0). */
static int worth_leaving_out(const plan *p)
{
    enum { CALL = 64 };
    int64_t saved = 0;
    for (int64_t i = 0; i < p->phases; i++) {
        const fc_axis *y = &p->jobs[i].axis[1], *x = &p->jobs[i].axis[2];
        const int64_t all = y->outputs * y->taps, outside = all - fc_axis_meetings(y);
        saved += outside * x->taps * x->outputs - CALL * (y->outputs - fc_axis_whole(y));
        if ((p->gradient ? 4 : 10) * outside < all)
            return 0;
    }
    return saved > 0;
}

fc_channelwise_plan fc_channelwise_plan_make(const fc_job *jobs, int64_t phases, int threads,
                                             int gradient)
{
    const int64_t lanes = jobs->kernels->lanes;
    plan p = {.jobs = jobs, .phases = phases, .lanes = lanes, .kernel = jobs->weight_row,
              .blocks = fc_parts(jobs->groups, lanes), .far = fc_job_far(jobs),
              .gradient = gradient};
    p.by_rows = worth_leaving_out(&p);
    choose_boxes(&p, threads);
    return p;
}

int fc_channelwise_plan_lay_out(fc_channelwise_plan *p, int team)
{
    const int64_t rows = p->jobs->rows, vector = p->lanes * p->jobs->size;
    p->cells_bytes = p->e[0].reach * p->e[1].reach * p->e[2].reach * vector;
    /* from_lanes reads whole squares. */
    p->tile_bytes = fc_round_up(p->chunk * p->e[2].box, p->lanes) * vector;
    const int64_t weights = rows * p->kernel * (p->gradient ? 2 : 1);
    const int64_t weight_bytes = (weights + p->lanes + rows) * vector;
    p->stride = fc_round_up(p->cells_bytes + p->tile_bytes + weight_bytes, 4096) + 64;
    p->scratch = fc_arena_take(team * p->stride + (team + 1) * most_runs(p) * sizeof(fc_tap_run));
    if (!p->scratch)
        return 0;
    p->runs = (fc_tap_run *)(p->scratch + team * p->stride);
    for (int64_t i = 0; i < p->phases; i++)
        p->first_run[i + 1] = p->first_run[i]
            + list_runs(p, &p->jobs[i], p->runs + p->first_run[i]);
    return 1;
}

double fc_channelwise_flops(const fc_job *jobs, int64_t phases)
{
    double all = 0;
    for (int64_t p = 0; p < phases; p++) {
        const fc_axis *axis = jobs[p].axis;
        all += (double)axis[0].outputs * axis[1].outputs * axis[2].outputs
            * (axis[0].taps * axis[1].taps * axis[2].taps + 8.0);
    }
    return 2 * all * jobs->batch * jobs->groups * jobs->rows;
}

/* ---- what it does, for fc_count_channelwise ---- */

/* How many taps of an axis an output meets, in the mean. */
static double taps_met(const fc_axis *axis)
{
    return (double)fc_axis_meetings(axis) / (double)fc_most(axis->outputs, 1);
}

/* Lines of taps that a line of outputs takes. */
static double lines_taken(const plan *p, const fc_job *job)
{
    const fc_axis *z = &job->axis[0], *y = &job->axis[1];
    return (p->by_rows || !p->gradient ? taps_met(z) : (double)z->taps)
           * (p->by_rows ? taps_met(y) : (double)y->taps);
}

/* Of one phase: stretches of 8 outputs, of 4 for the gradient of the weights, where those that are
 * left over load a cell for each tap. */
static void count_phase(const plan *p, const fc_job *job, int grad_weight,
                        fc_channelwise_shape *shape)
{
    const fc_axis *x = &job->axis[2];
    const double cut = (double)p->e[2].boxes, width = ceil((double)x->outputs / cut);
    const double lines = cut * (double)(job->axis[0].outputs * job->axis[1].outputs * job->rows);
    const double lines_of_taps = lines_taken(p, job);
    const double taps = lines_of_taps * (double)x->taps;
    const double runs = lines_of_taps * (double)parts_of_line(x, grad_weight ? 1 : 2);
    const double stride = fc_channelwise_stride(x) == 2 ? 2 : 1;
    const double stretches = grad_weight ? floor(width / 4) : ceil(width / 8);
    const double of_stretches = grad_weight ? 4 * stretches : width, left = width - of_stretches;
    /* Cells that one stretch looks at. */
    const double apart = (double)fc_least(fc_most(x->tap_step, -x->tap_step), 8);
    const double window = taps * apart + lines_of_taps * 8;
    shape->window = fmax(shape->window, window);
    shape->looked_at += lines * stretches * window;
    shape->products += lines * width * taps;
    shape->loads += lines * (stride * of_stretches * runs + stretches * (taps - stride * runs)
                             + left * taps);
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
    const fc_job own = fc_channelwise_from_its_place(jobs);
    const plan p = fc_channelwise_plan_make(phases == 1 ? &own : jobs, phases, 1, grad_weight);
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
    const int64_t of_plane = phases / axis[0].place_step;   /* that have outputs in one plane */
    const int64_t chunks = p.e[0].box * fc_parts(p.e[1].box, p.chunk);
    shape.calls = boxes * (double)(chunks * jobs->rows * of_plane);
    for (int64_t i = 0; i < phases; i++)
        count_phase(&p, &jobs[i], grad_weight, &shape);
    return shape;
}
