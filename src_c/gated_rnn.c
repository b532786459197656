/* The gated network forward: gated_rnn.h.
 *
 * Lanes are states, so the weights are packed once, transposed into panels. Time is cut into
 * blocks of about PROJECTED rows: first x.W_c and x.W_x of the whole block, one product each,
 * then its steps one by one. A step goes through its panels, TILE sequences at a time: the
 * product with h[t-1] is added to x.W_c, and the gate follows while the tile is in L1.
 */
#include "arena.h"
#include "conv.h"
#include "gated_rnn_job.h"

#include <string.h>

/* Enough rows that the panels, read once a block, cost nothing, few enough that the projected
 * block stays in L2. */
enum { PROJECTED = 128 };

typedef struct {
    const fc_gated_rnn *net;
    const fc_kernels *kernels;
    int64_t size;
    const void *x, *w_c, *w_h, *w_x, *b_c, *b_x, *h0;
    void *h;
    fc_gated_tape tape;

    int64_t block;                        /* steps */
    int64_t longest;                      /* steps until the last sequence ends */
    int no_start;                         /* is W_h h[0] just zeros? */
    int64_t s_row;                        /* from a row of s to the next */
    void *panels_c, *panels_x, *panels_h;
    void *s, *u;                          /* (block * B) rows: the projected block */
    void *zeros;                          /* (m) */
    int64_t *x_rows, *h_rows, *h0_rows;   /* offsets of gemm's rows, see fill_rows */
    fc_barrier barrier;
} job;

static size_t lay_out(job *job, char *base)
{
    const fc_gated_rnn *net = job->net;
    const int64_t size = job->size, lanes = job->kernels->lanes;
    const int64_t m = fc_round_up(net->states, lanes), rows = job->block * net->batch;
    size_t top = 0;
    job->panels_c = fc_carve(base, &top, m * net->inputs, size);
    job->panels_x = fc_carve(base, &top, m * net->inputs, size);
    job->panels_h = fc_carve(base, &top, m * net->states, size);
    job->s = fc_carve(base, &top, rows * job->s_row, size);
    job->u = fc_carve(base, &top, rows * job->s_row, size);
    job->zeros = fc_carve(base, &top, m, size);
    job->x_rows = fc_carve(base, &top, rows, sizeof(int64_t));
    job->h_rows = fc_carve(base, &top, net->batch, sizeof(int64_t));
    job->h0_rows = fc_carve(base, &top, net->batch, sizeof(int64_t));
    return top;
}

/* Pack this member's columns; or, where members own sequences and share all panels, its part. */
static void pack(const job *job, const fc_domain *d, const void *w, int64_t k, int64_t width,
                 void *panels, int member, int team)
{
    int turn = 0;
    for (int64_t j = d->j0; j < d->j1; j += width, turn++) {
        if (!d->waits && turn % team != member)
            continue;
        const fc_panel panel = fc_panel_at(job->kernels, j, d->j1, width);
        job->kernels->pack_transposed(fc_at(w, j * k, job->size), k, panel.count, k, panel.stride,
                                      fc_at(panels, j * k, job->size));
    }
}

/* Offsets of x's rows of a block from its first step, of h's rows of a step, and of h0's. */
static void fill_rows(const job *job, const fc_domain *d)
{
    const fc_gated_rnn *net = job->net;
    int64_t *x_row = job->x_rows + d->b0 * job->block;
    for (int64_t t = 0; t < job->block; t++)
        for (int64_t b = d->b0; b < d->b1; b++)
            *x_row++ = fc_row_of(net, t, b) * net->inputs;
    for (int64_t b = d->b0; b < d->b1; b++) {
        job->h_rows[b] = fc_row_of(net, 0, b) * net->states;
        job->h0_rows[b] = job->h0 ? b * net->states : 0;
    }
}

/* s, u = x.W_c, x.W_x for all of this member's rows of the block of steps from t0 on. */
static void project(const job *job, const fc_domain *d, int64_t t0, int64_t steps, int64_t width)
{
    const fc_gated_rnn *net = job->net;
    const int64_t size = job->size, n = net->inputs, tap = 0;
    const int64_t first = d->b0 * job->block;
    fc_gemm g = {.m = steps * (d->b1 - d->b0), .taps = 1, .k = n, .a_step = 1,
                 .a = fc_at(job->x, fc_row_of(net, t0, 0) * n, size), .a_row = job->x_rows + first,
                 .a_tap = &tap, .b_tap = &tap, .c_row = job->s_row};
    for (int64_t j = d->j0; j < d->j1; j += width) {
        const fc_panel panel = fc_panel_at(job->kernels, j, d->j1, width);
        g.n = panel.count;
        g.b_step = panel.stride;
        g.b = fc_at(job->panels_c, j * n, size);
        g.c = fc_at(job->s, first * job->s_row + j, size);
        job->kernels->gemm(&g);
        g.b = fc_at(job->panels_x, j * n, size);
        g.c = fc_at(job->u, first * job->s_row + j, size);
        job->kernels->gemm(&g);
    }
}

/* One panel of one step: s += W_h h[t-1], then the gate, for this member's sequences. `at` is
 * where the step's rows of s begin. */
static void step_panel(const job *job, const fc_domain *d, int64_t t, fc_panel panel, int64_t at)
{
    const fc_gated_rnn *net = job->net;
    const int64_t size = job->size, m = net->states, j = panel.column, tap = 0;
    const int64_t h_row = fc_row_of(net, 0, 1) * m, now = fc_row_of(net, t, 0) * m;
    const void *start = job->h0 ? job->h0 : job->zeros;
    const void *prev = t ? fc_at(job->h, fc_row_of(net, t - 1, 0) * m, size) : start;
    const int64_t prev_row = t ? h_row : job->h0 ? m : 0;
    fc_gemm g = {.n = panel.count, .taps = 1, .k = m, .a = prev, .a_tap = &tap, .a_step = 1,
                 .b = fc_at(job->panels_h, j * m, size), .b_tap = &tap, .b_step = panel.stride,
                 .c_row = job->s_row, .accumulate = 1};
    fc_gate gate = {.count = panel.count, .s_row = job->s_row, .prev_row = prev_row,
                    .b_c = job->b_c ? fc_at(job->b_c, j, size) : job->zeros,
                    .b_x = job->b_x ? fc_at(job->b_x, j, size) : job->zeros, .h_row = h_row};
    for (int64_t b = d->b0; b < d->b1; b += TILE) {
        const int64_t s_at = at + (b - d->b0) * job->s_row + j, h_at = now + b * h_row + j;
        g.m = gate.rows = fc_least(TILE, d->b1 - b);
        g.a_row = (t ? job->h_rows : job->h0_rows) + b;
        g.c = fc_at(job->s, s_at, size);
        if (t || !job->no_start)
            job->kernels->gemm(&g);
        gate.s = g.c;
        gate.u = fc_at(job->u, s_at, size);
        gate.h_prev = fc_at(prev, b * prev_row + j, size);
        gate.h = fc_at(job->h, h_at, size);
        gate.c_tape = job->tape.c ? fc_at(job->tape.c, h_at, size) : NULL;
        gate.u_tape = job->tape.u ? fc_at(job->tape.u, h_at, size) : NULL;
        job->kernels->gate(&gate);
    }
}

/* h = 0 from each sequence's length on. */
static void end_sequences(const job *job, const fc_domain *d, int64_t t)
{
    const fc_gated_rnn *net = job->net;
    for (int64_t b = d->b0; net->lengths && b < d->b1; b++)
        if (t >= net->lengths[b])
            memset(fc_at(job->h, fc_row_of(net, t, b) * net->states + d->j0, job->size), 0,
                   (size_t)((d->j1 - d->j0) * job->size));
}

/* All panels of step t; every other step backwards, so that what the caches still hold of the
 * weights is used before it is evicted. */
static void step(job *job, const fc_domain *d, int64_t t, int64_t at, int64_t width, int team)
{
    const int64_t panels = (d->j1 - d->j0 + width - 1) / width;
    for (int64_t i = 0; i < panels; i++) {
        const int64_t j = d->j0 + (t % 2 ? panels - 1 - i : i) * width;
        step_panel(job, d, t, fc_panel_at(job->kernels, j, d->j1, width), at);
    }
    end_sequences(job, d, t);
    if (d->waits)
        fc_barrier_wait(&job->barrier, team);
}

static void forward_member(void *context, int member, int team)
{
    job *job = context;
    const fc_gated_rnn *net = job->net;
    const fc_domain d = fc_domain_of(net, job->kernels, member, team);
    const int64_t rows = d.b1 - d.b0;
    const int64_t x_width = fc_panel_width(job->kernels, job->block * rows);
    const int64_t h_width = fc_panel_width(job->kernels, rows);
    pack(job, &d, job->w_c, net->inputs, x_width, job->panels_c, member, team);
    pack(job, &d, job->w_x, net->inputs, x_width, job->panels_x, member, team);
    pack(job, &d, job->w_h, net->states, h_width, job->panels_h, member, team);
    fill_rows(job, &d);
    if (team > 1)
        fc_barrier_wait(&job->barrier, team);
    for (int64_t t0 = 0; t0 < job->longest; t0 += job->block) {
        const int64_t steps = fc_least(job->block, job->longest - t0);
        project(job, &d, t0, steps, x_width);
        for (int64_t t = t0; t < t0 + steps; t++) {
            const int64_t at = (d.b0 * job->block + (t - t0) * rows) * job->s_row;
            step(job, &d, t, at, h_width, team);
        }
    }
    for (int64_t t = job->longest; t < net->steps; t++)
        end_sequences(job, &d, t);
}

int fc_gated_rnn_forward(const fc_gated_rnn *net, const void *x, const void *w_c, const void *w_h,
                         const void *w_x, const void *b_c, const void *b_x, const void *h0,
                         void *h, fc_gated_tape tape, int threads)
{
    if (net->steps == 0 || net->batch == 0 || net->states == 0)
        return FC_OK;
    const fc_kernels *kernels = fc_active[net->dtype];
    job job = {.net = net, .kernels = kernels, .size = net->dtype == FC_F32 ? 4 : 8,
               .x = x, .w_c = w_c, .w_h = w_h, .w_x = w_x, .b_c = b_c, .b_x = b_x, .h0 = h0,
               .h = h, .tape = tape, .longest = fc_longest(net)};
    job.block = net->batch >= PROJECTED ? 1 : fc_least(PROJECTED / net->batch, net->steps);
    /* One vector more than the states need: rows 4 KiB apart would fall into one set of L1. */
    job.s_row = fc_round_up(net->states, kernels->lanes) + kernels->lanes;
    char *scratch = fc_arena_take(lay_out(&job, NULL));
    if (!scratch)
        return FC_NO_MEMORY;
    lay_out(&job, scratch);
    memset(job.zeros, 0, (size_t)(net->states * job.size));
    job.no_start = !h0 && kernels->finite(w_h, net->states * net->states);
    fc_parallel(fc_gated_threads(net, threads, 1), forward_member, &job);
    fc_arena_give(scratch);
    return FC_OK;
}
