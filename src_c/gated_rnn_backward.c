/* The gated network back through time: gated_rnn.h.
 *
 * Only g[t-1] = direct[t-1] + g[t] * c + W_h^T ds[t] is sequential. Time is cut into chunks of
 * about fc_chunk_rows rows, counted from the end. A chunk's steps go backwards, as the forward pass
 * goes on: the product of ds[t+1] is added to the carried gradient, and the gate's way back
 * follows; after some steps, the gradients of their inputs. Then come the chunk's sums over all its
 * rows: some columns of the matrices at a time, the gradients of the weights and biases.
 *
 * ds and du lie in panels as wide as the register tile: they are lanes in the sums' products and
 * scalars in those with the weights, h and x are read in place, and nothing but the weights is
 * packed. The weights' gradients are summed transposed, and turned over at last.
 *
 * Where a chunk ends depends on the sizes alone, so the sums' bits do not depend on the threads.
 */
#include "arena.h"
#include "conv.h"
#include "gated_rnn_back.h"

#include <string.h>

typedef fc_gated_back job;
typedef fc_gated_share share;

/* --- scratch ---------------------------------------------------------------------------------- */

static size_t lay_out(job *job, int members, char *base)
{
    const fc_gated_rnn *net = job->net;
    const int64_t size = job->size, lanes = job->kernels->lanes, rows = job->chunk * net->batch;
    const int64_t m = fc_round_up(net->states, lanes), n = fc_round_up(net->inputs, lanes);
    const int64_t offset = sizeof(int64_t), groups = net->batch / 8 + 1;
    size_t top = 0;
    job->panels_h = fc_carve(base, &top, m * m * size);
    job->panels_c = fc_carve(base, &top, n * m * size);
    job->panels_x = fc_carve(base, &top, n * m * size);
    job->carry = fc_carve(base, &top, net->batch * job->row * size);
    job->ds = fc_carve(base, &top, fc_round_up(m, job->width) / job->width * job->panel * size);
    job->du = fc_carve(base, &top, fc_round_up(m, job->width) / job->width * job->panel * size);
    job->near = fc_carve(base, &top, fc_most(rows, net->batch) * offset);
    job->far = fc_carve(base, &top, job->chunk * offset);
    job->a_tap = fc_carve(base, &top, 2 * job->taps * offset);
    job->b_taps = fc_carve(base, &top, (members + 1) * 4 * job->taps * offset);
    for (int64_t i = 0; i < job->slots; i++) {
        job->tables[i].ds = fc_carve(base, &top, rows * offset);
        job->tables[i].prev = fc_carve(base, &top, rows * offset);
        job->tables[i].x = fc_carve(base, &top, rows * offset);
    }
    job->band_rows = fc_carve(base, &top, FC_BAND * offset);
    job->zeros = fc_carve(base, &top, m * size);
    job->sums_h = fc_carve(base, &top, net->states * job->row * size);
    job->sums_wc = fc_carve(base, &top, net->inputs * job->row * size);
    job->sums_wx = fc_carve(base, &top, net->inputs * job->row * size);
    job->sums_c = fc_carve(base, &top, FC_LEVELS * job->row * size);
    job->sums_x = fc_carve(base, &top, FC_LEVELS * job->row * size);
    job->back = fc_carve(base, &top, groups * offset);
    job->summed = fc_carve(base, &top, job->bands * offset);
    job->taken = fc_carve(base, &top, (groups + job->bands) * offset);
    job->pieces = fc_carve(base, &top, (job->bands - job->w_bands) * offset);
    return top;
}

/* --- panels of the weights ------------------------------------------------------------------- */

static void fill_taps(const job *job, int64_t member, int64_t columns, int64_t width,
                      int64_t behind)
{
    for (int64_t j = 0; j < columns; j += width) {
        const fc_panel panel = fc_panel_at(job->kernels, j, columns, width);
        int64_t *tap = fc_taps_in(job, member, &panel, width);
        for (int64_t i = 0; i < job->taps; i++) {
            tap[i] = i * job->tap * panel.stride;
            tap[job->taps + i] = behind + tap[i];
        }
    }
}

/* Panel `number` of a matrix's columns [j0, j1). Rows of zeros stand for states between m and the
 * last tap's end. */
static void pack(const job *job, const void *w, int64_t columns, int64_t j0, int64_t j1,
                 int64_t width, int64_t number, void *panels)
{
    const int64_t m = job->net->states, k = job->taps * job->tap, size = job->size;
    const int64_t j = j0 + number * width;
    const fc_panel panel = fc_panel_at(job->kernels, j, j1, width);
    void *to = fc_at(panels, j * k, size);
    if (j >= j1)
        return;
    job->kernels->pack_panels(m, panel.count, (fc_in){fc_at(w, j, size), columns}, (fc_in){NULL, 0},
                              panel.stride, 0, to);
    memset(fc_at(to, m * panel.stride, size), 0, (size_t)((k - m) * panel.stride * size));
}

static void pack_inputs(const job *job, int64_t number)
{
    const int64_t n = job->net->inputs;
    pack(job, job->w_c, n, 0, n, job->width, number, job->panels_c);
    pack(job, job->w_x, n, 0, n, job->width, number, job->panels_x);
}

/* --- a member --------------------------------------------------------------------------------- */

/* Sums before steps, as what they read is still in the caches; of each, what has got the least
 * far. Groups come first in `taken`, bands behind them, and then panels. */
static int64_t pick(void *context)
{
    const share *own = context;
    job *job = own->job;
    if (job->packing < own->panels)
        return own->groups + job->bands + job->packing++;
    if (job->packed < own->panels)
        return FC_LATER;
    int64_t band = -1, group = -1, back = job->chunks, summed = job->chunks;
    for (int64_t g = 0; g < own->groups; g++) {
        back = fc_least(back, job->back[g]);
        if (!job->taken[g] && (group < 0 || job->back[g] < job->back[group]))
            group = g;
    }
    for (int64_t i = 0; i < job->bands; i++) {
        summed = fc_least(summed, job->summed[i]);
        if (!job->taken[own->groups + i] && (band < 0 || job->summed[i] < job->summed[band]))
            band = i;
    }
    if (summed == job->chunks)
        return FC_NEVER;
    int64_t task = FC_LATER;
    if (band >= 0 && job->summed[band] < back)
        task = own->groups + band;
    else if (group >= 0 && job->back[group] < fc_least(job->chunks, summed + job->slots))
        task = group;
    if (task >= 0)
        job->taken[task] = 1;
    return task;
}

static void run(void *context, int64_t task)
{
    const share *own = context;
    job *job = own->job;
    const int64_t number = task - own->groups - job->bands, m = job->net->states;
    if (number >= 0) {
        pack(job, job->w_h, m, 0, m, own->width, number, job->panels_h);
        pack_inputs(job, number);
        return;
    }
    if (task >= own->groups) {
        fc_sum_band(job, task - own->groups, job->summed[task - own->groups]);
        return;
    }
    const fc_part part = fc_group_part(job->net, own->group, task);
    const int64_t chunk = job->back[task];
    if (task == 0)
        fc_list_rows(job, chunk);
    const fc_part dx = {part.b0, part.b1, 0, job->net->inputs};
    fc_go_back(own, &part, &dx, chunk, 0);
}

static void finish(void *context, int64_t task)
{
    const share *own = context;
    job *job = own->job;
    if (task >= own->groups + job->bands) {
        job->packed++;
        return;
    }
    if (task >= own->groups)
        job->summed[task - own->groups]++;
    else
        job->back[task]++;
    job->taken[task] = 0;
}

/* Members that own states, columns of dx, and bands. Those who still sum one chunk do not mind
 * that others are at the next, whose rows have another slot. */
static void run_states(const share *own, const fc_part *part)
{
    job *job = own->job;
    const int64_t width = job->width, inputs = job->net->inputs;
    int64_t i0, i1;   /* in panels */
    fc_share((inputs + width - 1) / width, own->member, own->team, &i0, &i1);
    const fc_part dx = {0, job->net->batch, i0 * width, fc_least(i1 * width, inputs)};
    for (int64_t i = 0; i < own->panels; i++) {
        pack(job, job->w_h, job->net->states, part->j0, part->j1, own->width, i, job->panels_h);
        if (i >= i0 && i < i1)
            pack_inputs(job, i);
    }
    for (int64_t chunk = 0; chunk < job->chunks; chunk++) {
        if (own->member == 0)
            fc_list_rows(job, chunk);
        fc_go_back(own, part, &dx, chunk, 1);
        for (int64_t band = own->member; band < job->bands; band += own->team)
            fc_sum_band(job, band, chunk);
    }
}

static void backward_member(void *context, int member, int team)
{
    static const fc_task_rules rules = {pick, run, finish};
    job *job = context;
    const fc_gated_rnn *net = job->net;
    share own = {.job = job, .member = member, .team = team, .group = fc_group(net, team)};
    own.groups = (net->batch + own.group - 1) / own.group;
    own.width = fc_panel_width(job->kernels, fc_least(own.group, net->batch));
    own.panels = fc_most((net->states + own.width - 1) / own.width,
                         (net->inputs + job->width - 1) / job->width);
    fc_part part = {0, net->batch, 0, net->states};
    if (fc_by_states(net, team)) {
        fc_share_columns(job->kernels, net->states, member, team, &part.j0, &part.j1);
        fill_taps(job, member, part.j1 - part.j0, own.width, 0);
        run_states(&own, &part);
    } else {
        fill_taps(job, member, net->states, own.width, 0);
        fc_run_tasks(&job->tasks, &rules, &own);
    }
}

/* --- the call --------------------------------------------------------------------------------- */

/* What no chunk writes: dx behind the longest sequence; everything, where there are no steps. */
static void clear_rest(const job *job)
{
    const fc_gated_rnn *net = job->net;
    const fc_gated_grads *grads = &job->grads;
    const size_t size = (size_t)job->size, m = (size_t)net->states, n = (size_t)net->inputs;
    for (int64_t t = job->longest; t < net->steps; t++)
        for (int64_t b = 0; b < net->batch; b++)
            memset(fc_at(grads->x, fc_row_of(net, t, b) * net->inputs, job->size), 0, n * size);
    if (job->longest)
        return;
    memset(grads->w_c, 0, m * n * size);
    memset(grads->w_x, 0, m * n * size);
    memset(grads->w_h, 0, m * m * size);
    memset(grads->b_c, 0, m * size);
    memset(grads->b_x, 0, m * size);
    if (job->grad_last)
        memcpy(grads->h0, job->grad_last, (size_t)net->batch * m * size);
    else
        memset(grads->h0, 0, (size_t)net->batch * m * size);
}

/* States of a tap: a power of two, so that no tap lies in two panels. Those that the last one
 * has too many are zeros, and beginning a tap costs as much as 0.3 of a state. */
static int64_t tap_length(int64_t states, int64_t lanes)
{
    int64_t best = lanes;
    for (int64_t tap = lanes / 2; tap >= 2; tap /= 2)
        if (fc_parts(states, tap) * (10 * tap + 3) < fc_parts(states, best) * (10 * best + 3))
            best = tap;
    return best;
}

/* What all members read. */
static void prepare(job *job)
{
    const fc_gated_rnn *net = job->net;
    const int64_t batch = net->batch;
    const size_t offset = sizeof(int64_t);
    memset(job->zeros, 0, (size_t)(net->states * job->size));
    job->start = job->h0 ? job->h0 : job->zeros;
    job->start_row = job->h0 ? net->states : 0;
    for (int64_t i = 0; i < fc_most(job->chunk * batch, batch); i++)
        job->near[i] = i * job->width;
    for (int64_t i = 0; i < job->chunk; i++)
        job->far[i] = i * batch * job->width;
    for (int64_t i = 0; i < FC_BAND; i++)
        job->band_rows[i] = i;
    for (int64_t i = 0; i < job->taps; i++) {
        job->a_tap[i] = fc_place_of(job, i * job->tap);
        job->a_tap[job->taps + i] = job->a_tap[i] + ((char *)job->du - (char *)job->ds) / job->size;
    }
    fill_taps(job, job->members, net->inputs, job->width,
              ((char *)job->panels_x - (char *)job->panels_c) / job->size);
    memset(job->back, 0, (size_t)(batch / 8 + 1) * offset);
    memset(job->summed, 0, (size_t)job->bands * offset);
    memset(job->taken, 0, (size_t)(batch / 8 + 1 + job->bands) * offset);
    memset(job->pieces, 0, (size_t)(job->bands - job->w_bands) * offset);
}

int fc_gated_rnn_backward(const fc_gated_rnn *net, const void *w_c, const void *w_h,
                          const void *w_x, const void *h0, fc_gated_tape tape, const void *grad_h,
                          const void *grad_last, fc_gated_grads grads, int threads)
{
    const fc_kernels *kernels = fc_active[net->dtype];
    job job = {.net = net, .kernels = kernels, .size = net->dtype == FC_F32 ? 4 : 8,
               .w_c = w_c, .w_h = w_h, .w_x = w_x, .h0 = h0, .tape = tape, .grad_h = grad_h,
               .grad_last = grad_last, .grads = grads,
               .longest = net->batch && net->states ? fc_longest(net) : 0};
    clear_rest(&job);
    if (!job.longest)
        return FC_OK;
    threads = fc_team_size(fc_gated_threads(net, threads, 2));
    const int64_t rows = fc_chunk_rows(net, job.size);
    job.chunk = fc_least(fc_most(1, rows / net->batch), job.longest);
    job.chunks = (job.longest + job.chunk - 1) / job.chunk;
    job.slots = threads > 1 ? FC_KEPT / rows : 1;
    job.members = threads;
    job.width = kernels->width;
    job.panel = job.slots * job.chunk * net->batch * job.width;
    job.tap = tap_length(net->states, kernels->lanes);
    job.taps = fc_parts(net->states, job.tap);
    job.h_bands = (net->states + FC_BAND - 1) / FC_BAND;
    job.w_bands = job.h_bands + (net->inputs + FC_BAND - 1) / FC_BAND;
    job.bands = job.w_bands + (net->states + job.width - 1) / job.width;
    job.row = fc_round_up(net->states, kernels->lanes) + kernels->lanes;
    char *scratch = fc_arena_take(lay_out(&job, threads, NULL));
    if (!scratch)
        return FC_NO_MEMORY;
    lay_out(&job, threads, scratch);
    prepare(&job);
    fc_parallel(threads, backward_member, &job);
    fc_arena_give(scratch);
    return FC_OK;
}
