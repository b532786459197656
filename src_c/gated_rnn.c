/* The gated network forward: gated_rnn.h.
 *
 * Lanes are states, so the weights are packed once, transposed into panels. Time is cut into
 * blocks: of a block's steps first x.W_c and x.W_x, one product each, then the steps one by one,
 * each a product with h[t-1] that is added to x.W_c, and then the gate, over all states: it is
 * bound by memory, and walks through it without a gap.
 */
#include "arena.h"
#include "conv.h"
#include "gated_rnn_job.h"

#include <string.h>

/* Rows of a block: enough that the panels, read once a block, cost nothing, few enough that the
 * projected block stays in L2. */
enum { PROJECTED = 128 };

typedef struct {
    const fc_gated_rnn *net;
    const fc_kernels *kernels;
    int64_t size;
    const void *x, *w_c, *w_h, *w_x, *b_c, *b_x, *h0;
    void *h;
    fc_gated_tape tape;

    int64_t longest;                      /* steps until the last sequence ends */
    int no_start;                         /* is W_h h[0] just zeros? */
    int64_t s_rows, s_row;                /* rows of a member's s and u; from one to the next */
    void *panels_c, *panels_x, *panels_h;
    void *s, *u;                          /* (members, s_rows, m): the projected blocks */
    void *zeros;                          /* (m) */
    int64_t *x_rows;                      /* (members, s_rows) offsets of x's rows in a block */
    int64_t *h_rows, *h0_rows;            /* (B) offsets of h's rows in a step, of h0's */
    fc_barrier barrier;

    fc_tasks tasks;                       /* a task is a panel of each matrix to pack, or then the
                                             next block of a group of sequences */
    int64_t packing, packed;              /* panels begun, and finished */
    int64_t *done, *taken;                /* (groups) blocks; is one in work? */
} job;

/* One member's view. All but `member` is the same for all. */
typedef struct {
    job *job;
    int member, team;
    int64_t group, groups;                /* sequences each; how many */
    int64_t block, blocks;                /* steps each; how many */
    int64_t x_width, h_width, panels;     /* of the panels; how many there are at most */
} share;

static size_t lay_out(job *job, int members, char *base)
{
    const fc_gated_rnn *net = job->net;
    const int64_t size = job->size, m = fc_round_up(net->states, job->kernels->lanes);
    const int64_t offset = sizeof(int64_t), groups = net->batch / 8 + 1;
    size_t top = 0;
    job->panels_c = fc_carve(base, &top, m * net->inputs * size);
    job->panels_x = fc_carve(base, &top, m * net->inputs * size);
    job->panels_h = fc_carve(base, &top, m * net->states * size);
    job->s = fc_carve(base, &top, members * job->s_rows * job->s_row * size);
    job->u = fc_carve(base, &top, members * job->s_rows * job->s_row * size);
    job->zeros = fc_carve(base, &top, m * size);
    job->x_rows = fc_carve(base, &top, members * job->s_rows * offset);
    job->h_rows = fc_carve(base, &top, net->batch * offset);
    job->h0_rows = fc_carve(base, &top, net->batch * offset);
    job->done = fc_carve(base, &top, groups * offset);
    job->taken = fc_carve(base, &top, groups * offset);
    return top;
}

/* Panel `number` of each matrix, counted from state j0 to state j1. */
static void pack(const share *own, int64_t j0, int64_t j1, int64_t number)
{
    const job *job = own->job;
    const int64_t n = job->net->inputs, m = job->net->states, size = job->size;
    const struct { const void *w; int64_t k, width; void *panels; } matrices[3] = {
        {job->w_c, n, own->x_width, job->panels_c},
        {job->w_x, n, own->x_width, job->panels_x},
        {job->w_h, m, own->h_width, job->panels_h},
    };
    for (int i = 0; i < 3; i++) {
        const int64_t k = matrices[i].k, j = j0 + number * matrices[i].width;
        const fc_panel panel = fc_panel_at(job->kernels, j, j1, matrices[i].width);
        if (j < j1)
            job->kernels->pack_transposed(fc_at(matrices[i].w, j * k, size), k, panel.count, k,
                                          panel.stride, fc_at(matrices[i].panels, j * k, size));
    }
}

static void fill_rows(const job *job)
{
    for (int64_t b = 0; b < job->net->batch; b++) {
        job->h_rows[b] = fc_row_of(job->net, 0, b) * job->net->states;
        job->h0_rows[b] = job->h0 ? b * job->net->states : 0;
    }
}

/* A part's steps [t0, t0 + steps), and the rows of its sequences in s and u, step by step. */
typedef struct {
    fc_part part;
    int64_t t0, steps;
    void *s, *u;
    const int64_t *x_rows;    /* offsets of x's rows, step by step, from the first */
    int64_t x_width, h_width;
} work;

/* The tape's place for a block's x, and the x of the next one: where they lie in one piece, and are
 * not too much for L2. */
static fc_soon inputs_soon(const job *job, const work *w)
{
    const fc_gated_rnn *net = job->net;
    const int64_t row = fc_row_of(net, w->t0, w->part.b0), last = net->steps * net->batch;
    const int64_t rows = w->steps * net->batch, next = row + rows, bytes = net->inputs * job->size;
    fc_soon soon = fc_nothing_soon();
    if (net->batch_first || w->part.b1 - w->part.b0 < net->batch || rows * bytes > 128 << 10)
        return soon;
    if (job->tape.x && w->part.j0 == 0)
        fc_want_soon(&soon, fc_at(job->tape.x, row * net->inputs, job->size), rows * bytes);
    fc_want_soon(&soon, fc_at(job->x, next * net->inputs, job->size),
                 fc_least(rows, last - next) * bytes);
    return soon;
}

/* s, u = x.W_c, x.W_x. Rows that lie one behind the other in x are one product. Of the next steps
 * and the tape some is brought to L2 meanwhile: 71 in place of 79 thousand cycles for 4 steps
 * (B 32, n 64, m 64). */
static void project(const job *job, const work *w)
{
    const fc_gated_rnn *net = job->net;
    const int64_t size = job->size, n = net->inputs, tap = 0;
    const int64_t sequences = w->part.b1 - w->part.b0;
    fc_gemm g = {.m = w->steps * sequences, .taps = 1, .k = n,
                 .a_row = w->x_rows, .a_tap = &tap, .a_step = 1,
                 .a = fc_at(job->x, fc_row_of(net, w->t0, w->part.b0) * n, size),
                 .b_tap = &tap, .c_row = job->s_row};
    fc_soon soon = inputs_soon(job, w);
    for (int64_t j = w->part.j0; j < w->part.j1; j += w->x_width) {
        const fc_panel panel = fc_panel_at(job->kernels, j, w->part.j1, w->x_width);
        g.n = panel.count;
        g.b_step = panel.stride;
        g.b = fc_at(job->panels_c, j * n, size);
        g.c = fc_at(w->s, j, size);
        fc_ask_soon(job->kernels, &g, &soon, 0);
        job->kernels->gemm(&g);
        g.b = fc_at(job->panels_x, j * n, size);
        g.c = fc_at(w->u, j, size);
        fc_ask_soon(job->kernels, &g, &soon, 0);
        job->kernels->gemm(&g);
    }
}

/* s += W_h h[t-1]; every other step goes backwards through the panels, so that what the caches
 * still hold of them is used before it is evicted. */
static void add_states(const job *job, const work *w, int64_t t, const void *prev,
                       const int64_t *prev_rows, void *s, fc_soon *soon)
{
    const int64_t size = job->size, m = job->net->states, tap = 0, j0 = w->part.j0;
    const int64_t panels = (w->part.j1 - j0 + w->h_width - 1) / w->h_width;
    fc_gemm g = {.m = w->part.b1 - w->part.b0, .taps = 1, .k = m, .a = prev, .a_row = prev_rows,
                 .a_tap = &tap, .a_step = 1, .b_tap = &tap, .c_row = job->s_row, .accumulate = 1};
    for (int64_t i = 0; i < panels; i++) {
        const int64_t j = j0 + (t % 2 ? panels - 1 - i : i) * w->h_width;
        const fc_panel panel = fc_panel_at(job->kernels, j, w->part.j1, w->h_width);
        g.n = panel.count;
        g.b = fc_at(job->panels_h, j * m, size);
        g.b_step = panel.stride;
        g.c = fc_at(s, j, size);
        const int64_t next = (t % 2 ? j - w->h_width : j + w->h_width) * m;
        fc_ask_panel(job->kernels, &g, soon, fc_at(job->panels_h, next, size), panels - 1 - i,
                     w->h_width * m * size);
        job->kernels->gemm(&g);
    }
}

/* The product before a gate, which meanwhile asks for what the gate writes: with a tape (T 100,
 * B 32, n 64, m 64) a gate takes 3400 in place of 4900 cycles, and of 7400 beside strangers in L3. */
static void add_before(const job *job, const work *w, int64_t t, const int64_t *prev_rows,
                       const void *prev, void *s, const fc_gate *gate)
{
    const void *const written[] = {gate->h, gate->h_tape, gate->c_tape, gate->u_tape};
    const int64_t row[] = {gate->h_row, gate->tape_row, gate->tape_row, gate->tape_row};
    fc_soon soon = fc_gate_soon(job->kernels, gate->rows, gate->count, job->size, written, row);
    add_states(job, w, t, prev, prev_rows, s, &soon);
}

/* h = 0 from each sequence's length on. */
static void end_sequences(const job *job, const fc_part *part, int64_t t)
{
    const fc_gated_rnn *net = job->net;
    const int64_t m = net->states;
    const size_t bytes = (size_t)((part->j1 - part->j0) * job->size);
    for (int64_t b = part->b0; net->lengths && b < part->b1; b++) {
        if (t < net->lengths[b])
            continue;
        memset(fc_at(job->h, fc_row_of(net, t, b) * m + part->j0, job->size), 0, bytes);
        if (job->tape.h)
            memset(fc_at(job->tape.h, fc_tape_row(net, t, b) * m + part->j0, job->size), 0, bytes);
    }
}

/* A part's inputs of the steps [t0, t1) into the tape, by whoever has its first states. */
static void keep_inputs(const job *job, const fc_part *part, int64_t t0, int64_t t1)
{
    const fc_gated_rnn *net = job->net;
    const int64_t n = net->inputs;
    const int64_t rows = net->batch_first ? 1 : part->b1 - part->b0;   /* that x has together */
    if (!job->tape.x || part->j0 > 0)
        return;
    for (int64_t t = t0; t < t1; t++)
        for (int64_t b = part->b0; b < part->b1; b += rows)
            memcpy(fc_at(job->tape.x, fc_tape_row(net, t, b) * n, job->size),
                   fc_at(job->x, fc_row_of(net, t, b) * n, job->size),
                   (size_t)(rows * n * job->size));
}

static void step(const job *job, const work *w, int64_t t)
{
    const fc_gated_rnn *net = job->net;
    const int64_t size = job->size, m = net->states, j = w->part.j0, b = w->part.b0;
    const int64_t h_row = fc_row_of(net, 0, 1) * m, at = fc_row_of(net, t, b) * m + j;
    const void *start = job->h0 ? job->h0 : job->zeros;
    const void *prev = t ? fc_at(job->h, fc_row_of(net, t - 1, 0) * m, size) : start;
    const int64_t prev_row = t ? h_row : job->h0 ? m : 0;
    const int64_t first = (t - w->t0) * (w->part.b1 - b) * job->s_row;
    const int64_t kept = fc_tape_row(net, t, b) * m + j;
    const fc_gate gate = {
        .rows = w->part.b1 - b, .count = w->part.j1 - j, .s_row = job->s_row,
        .s = fc_at(w->s, first + j, size), .u = fc_at(w->u, first + j, size),
        .h = fc_at(job->h, at, size), .h_row = h_row,
        .h_tape = job->tape.h ? fc_at(job->tape.h, kept, size) : NULL,
        .c_tape = job->tape.c ? fc_at(job->tape.c, kept, size) : NULL,
        .u_tape = job->tape.u ? fc_at(job->tape.u, kept, size) : NULL, .tape_row = m,
        .b_c = job->b_c ? fc_at(job->b_c, j, size) : job->zeros,
        .b_x = job->b_x ? fc_at(job->b_x, j, size) : job->zeros,
        .h_prev = fc_at(prev, b * prev_row + j, size), .prev_row = prev_row,
    };
    if (t || !job->no_start)
        add_before(job, w, t, (t ? job->h_rows : job->h0_rows) + b, prev, fc_at(w->s, first, size),
                   &gate);
    job->kernels->gate(&gate);
    end_sequences(job, &w->part, t);
}

static work work_of(const share *own, const fc_part *part, int64_t block)
{
    const job *job = own->job;
    const int64_t t0 = block * own->block, rows = own->member * job->s_rows;
    work w = {.part = *part, .t0 = t0, .steps = fc_least(own->block, job->longest - t0),
              .s = fc_at(job->s, rows * job->s_row, job->size),
              .u = fc_at(job->u, rows * job->s_row, job->size),
              .x_rows = job->x_rows + rows, .x_width = own->x_width, .h_width = own->h_width};
    int64_t *x_row = job->x_rows + rows;
    for (int64_t t = 0; t < w.steps; t++)
        for (int64_t b = 0; b < part->b1 - part->b0; b++)
            *x_row++ = fc_row_of(job->net, t, b) * job->net->inputs;
    return w;
}

static void run_block(job *job, const work *w, int team)
{
    project(job, w);
    keep_inputs(job, &w->part, w->t0, w->t0 + w->steps);   /* they are in the cache now */
    for (int64_t t = w->t0; t < w->t0 + w->steps; t++) {
        step(job, w, t);
        if (team > 1)
            fc_barrier_wait(&job->barrier, team);
    }
}

/* A panel, or the group that has got the least far. Panels stand behind the groups. */
static int64_t pick(void *context)
{
    const share *own = context;
    job *job = own->job;
    if (job->packing < own->panels)
        return own->groups + job->packing++;
    if (job->packed < own->panels)
        return FC_LATER;
    int64_t best = -1, unfinished = 0;
    for (int64_t g = 0; g < own->groups; g++) {
        unfinished += job->done[g] < own->blocks;
        if (job->done[g] < own->blocks && !job->taken[g]
            && (best < 0 || job->done[g] < job->done[best]))
            best = g;
    }
    if (best < 0)
        return unfinished ? FC_LATER : FC_NEVER;
    job->taken[best] = 1;
    return best;
}

static void run(void *context, int64_t task)
{
    const share *own = context;
    if (task >= own->groups) {
        pack(own, 0, own->job->net->states, task - own->groups);
        return;
    }
    const fc_part part = fc_group_part(own->job->net, own->group, task);
    const work w = work_of(own, &part, own->job->done[task]);
    run_block(own->job, &w, 1);
}

static void finish(void *context, int64_t task)
{
    const share *own = context;
    if (task >= own->groups) {
        own->job->packed++;
        return;
    }
    own->job->done[task]++;
    own->job->taken[task] = 0;
}

static share share_of(job *job, int member, int team)
{
    const fc_gated_rnn *net = job->net;
    share own = {.job = job, .member = member, .team = team, .group = fc_group(net, team)};
    const int64_t sequences = fc_least(own.group, net->batch);
    own.groups = (net->batch + own.group - 1) / own.group;
    own.block = fc_most(1, fc_least(PROJECTED / sequences, job->longest));
    own.blocks = (job->longest + own.block - 1) / own.block;
    own.x_width = fc_panel_width(job->kernels, sequences * own.block);
    own.h_width = fc_panel_width(job->kernels, sequences);
    const int64_t narrow = fc_least(own.x_width, own.h_width);
    own.panels = (net->states + narrow - 1) / narrow;
    return own;
}

static void forward_member(void *context, int member, int team)
{
    static const fc_task_rules rules = {pick, run, finish};
    job *job = context;
    const fc_gated_rnn *net = job->net;
    share own = share_of(job, member, team);
    fc_part part = {0, net->batch, 0, net->states};
    if (fc_by_states(net, team)) {
        fc_share_columns(job->kernels, net->states, member, team, &part.j0, &part.j1);
        for (int64_t i = 0; i < own.panels; i++)
            pack(&own, part.j0, part.j1, i);
        for (int64_t block = 0; block < own.blocks; block++) {
            const work w = work_of(&own, &part, block);
            run_block(job, &w, team);
        }
    } else {
        fc_run_tasks(&job->tasks, &rules, &own);
        fc_share(net->batch, member, team, &part.b0, &part.b1);
    }
    keep_inputs(job, &part, job->longest, net->steps);
    for (int64_t t = job->longest; t < net->steps; t++)
        end_sequences(job, &part, t);
}

int fc_gated_rnn_forward(const fc_gated_rnn *net, const void *x, const void *w_c, const void *w_h,
                         const void *w_x, const void *b_c, const void *b_x, const void *h0,
                         void *h, fc_gated_tape tape, int threads)
{
    const int64_t size = net->dtype == FC_F32 ? 4 : 8;
    const fc_kernels *kernels = fc_active[net->dtype];
    job job = {.net = net, .kernels = kernels, .size = size,
               .x = x, .w_c = w_c, .w_h = w_h, .w_x = w_x, .b_c = b_c, .b_x = b_x, .h0 = h0,
               .h = h, .tape = tape, .longest = fc_longest(net)};
    if (net->steps == 0 || net->batch == 0 || net->states == 0) {
        keep_inputs(&job, &(fc_part){0, net->batch, 0, net->states}, 0, net->steps);
        return FC_OK;
    }
    threads = fc_team_size(fc_gated_threads(net, threads, 1));
    job.s_rows = fc_most(PROJECTED, fc_group(net, threads));
    /* One vector more than the states need: rows 4 KiB apart would fall into one set of L1. */
    job.s_row = fc_round_up(net->states, kernels->lanes) + kernels->lanes;
    char *scratch = fc_arena_take(lay_out(&job, threads, NULL));
    if (!scratch)
        return FC_NO_MEMORY;
    lay_out(&job, threads, scratch);
    memset(job.zeros, 0, (size_t)(net->states * job.size));
    memset(job.done, 0, (size_t)(net->batch / 8 + 1) * sizeof(int64_t));
    memset(job.taken, 0, (size_t)(net->batch / 8 + 1) * sizeof(int64_t));
    fill_rows(&job);
    job.no_start = !h0 && kernels->finite(w_h, net->states * net->states);
    fc_parallel(threads, forward_member, &job);
    fc_arena_give(scratch);
    return FC_OK;
}
