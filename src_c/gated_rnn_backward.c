/* The gated network back through time: gated_rnn.h.
 *
 * Only g[t-1] = direct[t-1] + g[t] * c + W_h^T ds[t] is sequential. Time is cut into chunks of
 * about REDUCED rows. A chunk's steps go backwards, as the forward pass goes on: the product of
 * ds[t+1] is added to the carried gradient, and the gate's way back follows while the tile is in
 * L1. Then come the chunk's sums over all its rows: the weights', biases' and input's gradients.
 *
 * Where a chunk ends depends on T and B alone, so the sums' bits do not depend on the threads.
 */
#include "arena.h"
#include "conv.h"
#include "gated_rnn_job.h"

#include <string.h>

/* Rows a chunk: adding a chunk's sum to a weight's gradient costs as much memory traffic as 16
 * of its rows' products, and its panels (200 KB each in float32) must fit L2. */
enum { REDUCED = 1024, GROUP = 64, PIECE = 32, LEVELS = 48 };

typedef struct {
    const fc_gated_rnn *net;
    const fc_kernels *kernels;
    int64_t size;
    const void *x, *w_c, *w_h, *w_x, *h0, *h, *grad_h, *grad_last;
    fc_gated_tape tape;
    fc_gated_grads grads;

    int64_t chunk;                        /* steps */
    int64_t longest;                      /* steps until the last sequence ends */
    int64_t carry_row;
    const void **w_h_at, **w_c_at, **w_x_at;   /* (m) the weights' rows */
    void *panels_h, *panels_c, *panels_x; /* the weights, lanes over their columns */
    void *carry;                          /* (B, m): g[t] * c, then + W_h^T ds[t] */
    void *ds, *du;                        /* (chunk + 1, B, m): a ring, see ring_row */
    int64_t *step_rows;                   /* (B) offsets of a step's rows of ds */

    /* Of the chunk in work: */
    const void **ds_at, **du_at, **prev_at, **x_at;   /* (chunk * B) the rows that count */
    int64_t counted;                      /* how many */
    int64_t *input_rows;                  /* (chunk * B) offsets in ds of the rows of dx */
    void *tall_ds, *tall_du;              /* ds^T, du^T in panels as high as the register tile */
    void *wide_prev, *wide_x;             /* h_prev, x in panels as wide as it */
    int64_t *tall_rows;                   /* (m) offsets of the rows of ds^T */

    void *sums_c, *sums_x;                /* (LEVELS, m) partial sums, see add_biases */
    void *zeros;                          /* (m) */
    fc_barrier barrier;
} job;

static size_t lay_out(job *job, char *base)
{
    const fc_gated_rnn *net = job->net;
    const int64_t size = job->size, lanes = job->kernels->lanes, rows = job->chunk * net->batch;
    const int64_t m = fc_round_up(net->states, lanes), n = fc_round_up(net->inputs, lanes);
    const int64_t tall = fc_round_up(net->states, job->kernels->rows);
    const int64_t pointer = sizeof(void *), offset = sizeof(int64_t);
    size_t top = 0;
    job->w_h_at = fc_carve(base, &top, m, pointer);
    job->w_c_at = fc_carve(base, &top, m, pointer);
    job->w_x_at = fc_carve(base, &top, m, pointer);
    job->panels_h = fc_carve(base, &top, m * net->states, size);
    job->panels_c = fc_carve(base, &top, n * net->states, size);
    job->panels_x = fc_carve(base, &top, n * net->states, size);
    job->carry = fc_carve(base, &top, net->batch * job->carry_row, size);
    job->ds = fc_carve(base, &top, (rows + net->batch) * net->states, size);
    job->du = fc_carve(base, &top, (rows + net->batch) * net->states, size);
    job->step_rows = fc_carve(base, &top, net->batch, offset);
    job->ds_at = fc_carve(base, &top, rows, pointer);
    job->du_at = fc_carve(base, &top, rows, pointer);
    job->prev_at = fc_carve(base, &top, rows, pointer);
    job->x_at = fc_carve(base, &top, rows, pointer);
    job->input_rows = fc_carve(base, &top, rows, offset);
    job->tall_ds = fc_carve(base, &top, tall * rows, size);
    job->tall_du = fc_carve(base, &top, tall * rows, size);
    job->wide_prev = fc_carve(base, &top, m * rows, size);
    job->wide_x = fc_carve(base, &top, n * rows, size);
    job->tall_rows = fc_carve(base, &top, tall, offset);
    job->sums_c = fc_carve(base, &top, LEVELS * m, size);
    job->sums_x = fc_carve(base, &top, LEVELS * m, size);
    job->zeros = fc_carve(base, &top, m, size);
    return top;
}

/* Sequence b at step t in ds and du. One step more than a chunk is kept, as the first step of a
 * chunk still needs the last one of the chunk before. */
static int64_t ring_row(const job *job, int64_t t, int64_t b)
{
    return t % (job->chunk + 1) * job->net->batch + b;
}

/* --- the loop over time ------------------------------------------------------------------------ */

/* One panel of one step for this member's sequences: carry += W_h^T ds[t+1], then the gate. */
static void step_panel(const job *job, const fc_domain *d, int64_t t, fc_panel panel)
{
    const fc_gated_rnn *net = job->net;
    const int64_t size = job->size, m = net->states, j = panel.column, tap = 0;
    const int64_t h_row = fc_row_of(net, 0, 1) * m, now = fc_row_of(net, t, 0) * m;
    const void *prev = t ? fc_at(job->h, fc_row_of(net, t - 1, 0) * m, size) : job->h0;
    const int64_t prev_row = t ? h_row : job->h0 ? m : 0;
    fc_gemm g = {.n = panel.count, .taps = 1, .k = m, .a_tap = &tap, .a_step = 1,
                 .a = fc_at(job->ds, ring_row(job, t + 1, 0) * m, size),
                 .b = fc_at(job->panels_h, j * m, size), .b_tap = &tap, .b_step = panel.stride,
                 .c_row = job->carry_row, .accumulate = 1};
    fc_gate_back gate = {.count = panel.count, .carry_row = job->carry_row,
                         .prev_row = prev_row, .h_row = h_row, .ds_row = m};
    for (int64_t b = d->b0; b < d->b1; b += TILE) {
        const int64_t h_at = now + b * h_row + j, ds_at = ring_row(job, t, b) * m + j;
        g.m = gate.rows = fc_least(TILE, d->b1 - b);
        g.a_row = job->step_rows + b;
        g.c = gate.carry = fc_at(job->carry, b * job->carry_row + j, size);
        if (t + 1 < job->longest)
            job->kernels->gemm(&g);
        gate.h_prev = prev ? fc_at(prev, b * prev_row + j, size) : job->zeros;
        gate.grad_h = fc_at(job->grad_h, h_at, size);
        gate.c_tape = fc_at(job->tape.c, h_at, size);
        gate.u_tape = fc_at(job->tape.u, h_at, size);
        gate.ds = fc_at(job->ds, ds_at, size);
        gate.du = fc_at(job->du, ds_at, size);
        job->kernels->gate_back(&gate);
    }
}

/* Row b of carry for the step before `length`: the last state's gradient where that is its
 * sequence's last step, else nothing. */
static void start_carry(const job *job, const fc_domain *d, int64_t b, int64_t length)
{
    const size_t bytes = (size_t)((d->j1 - d->j0) * job->size);
    void *carry = fc_at(job->carry, b * job->carry_row + d->j0, job->size);
    if (job->grad_last && fc_length(job->net, b) == length)
        memcpy(carry, fc_at(job->grad_last, b * job->net->states + d->j0, job->size), bytes);
    else
        memset(carry, 0, bytes);
}

/* Undo step t for the sequences that had ended before it. */
static void skip_ended(const job *job, const fc_domain *d, int64_t t)
{
    const int64_t m = job->net->states;
    const size_t bytes = (size_t)((d->j1 - d->j0) * job->size);
    for (int64_t b = d->b0; job->net->lengths && b < d->b1; b++) {
        if (t < job->net->lengths[b])
            continue;
        memset(fc_at(job->ds, ring_row(job, t, b) * m + d->j0, job->size), 0, bytes);
        memset(fc_at(job->du, ring_row(job, t, b) * m + d->j0, job->size), 0, bytes);
        start_carry(job, d, b, t);
    }
}

static void step(job *job, const fc_domain *d, int64_t t, int64_t width, int team)
{
    const int64_t panels = (d->j1 - d->j0 + width - 1) / width;
    for (int64_t i = 0; i < panels; i++) {
        const int64_t j = d->j0 + (t % 2 ? panels - 1 - i : i) * width;
        step_panel(job, d, t, fc_panel_at(job->kernels, j, d->j1, width));
    }
    skip_ended(job, d, t);
    if (d->waits)
        fc_barrier_wait(&job->barrier, team);
}

/* dh0 = carry + W_h^T ds[0]. */
static void finish_h0(const job *job, const fc_domain *d, int64_t width)
{
    const int64_t size = job->size, m = job->net->states, rows = d->b1 - d->b0, tap = 0;
    void *out = fc_at(job->grads.h0, d->b0 * m + d->j0, size);
    const fc_copy copy = {.from = fc_at(job->carry, d->b0 * job->carry_row + d->j0, size),
                          .from_row = job->carry_row, .from_step = 1, .to = out, .to_row = m,
                          .to_step = 1, .rows = rows, .length = d->j1 - d->j0};
    job->kernels->copy_rows(&copy);
    for (int64_t j = d->j0; job->longest && j < d->j1; j += width) {
        const fc_panel panel = fc_panel_at(job->kernels, j, d->j1, width);
        fc_gemm g = {.m = rows, .n = panel.count, .taps = 1, .k = m,
                     .a = fc_at(job->ds, ring_row(job, 0, 0) * m, size),
                     .a_row = job->step_rows + d->b0, .a_tap = &tap, .a_step = 1,
                     .b = fc_at(job->panels_h, j * m, size), .b_tap = &tap,
                     .b_step = panel.stride, .c = fc_at(job->grads.h0, d->b0 * m + j, size),
                     .c_row = m, .accumulate = 1};
        job->kernels->gemm(&g);
    }
}

/* --- a chunk's sums ---------------------------------------------------------------------------- */

/* Where the chunk's rows lie. Only those before their sequence's end count. */
static void list_rows(job *job, int64_t t0, int64_t steps)
{
    const fc_gated_rnn *net = job->net;
    const int64_t size = job->size, m = net->states, n = net->inputs;
    int64_t counted = 0;
    for (int64_t t = t0; t < t0 + steps; t++)
        for (int64_t b = 0; b < net->batch; b++) {
            const int64_t ds = ring_row(job, t, b) * m;
            const int64_t row = net->batch_first ? b * steps + t - t0 : (t - t0) * net->batch + b;
            job->input_rows[row] = ds;
            if (t >= fc_length(net, b))
                continue;
            job->ds_at[counted] = fc_at(job->ds, ds, size);
            job->du_at[counted] = fc_at(job->du, ds, size);
            job->x_at[counted] = fc_at(job->x, fc_row_of(net, t, b) * n, size);
            job->prev_at[counted] = t ? fc_at(job->h, fc_row_of(net, t - 1, b) * m, size)
                                      : job->h0 ? fc_at(job->h0, b * m, size) : job->zeros;
            counted++;
        }
    job->counted = counted;
}

/* Every team-th panel of a matrix (`rows` rows of `columns` elements at `row`), from `member` on. */
static void pack_wide(const job *job, const void **row, int64_t rows, int64_t columns,
                      int64_t width, void *panels, int member, int team)
{
    for (int64_t j = member * width; j < columns; j += team * width) {
        const fc_panel panel = fc_panel_at(job->kernels, j, columns, width);
        job->kernels->pack_rows(row, rows, j, panel.count, panel.stride,
                                fc_at(panels, j * rows, job->size));
    }
}

/* Rows [i0, i1) of ds^T and du^T, in panels as high as the register tile. */
static void pack_tall(const job *job, int64_t i0, int64_t i1)
{
    const int64_t high = job->kernels->rows, k = job->counted;
    for (int64_t i = i0; i < i1; i += high) {
        const int64_t count = fc_least(high, i1 - i);
        job->kernels->pack_rows(job->ds_at, k, i, count, high, fc_at(job->tall_ds, i * k, job->size));
        job->kernels->pack_rows(job->du_at, k, i, count, high, fc_at(job->tall_du, i * k, job->size));
    }
    for (int64_t i = i0; i < i1; i++)
        job->tall_rows[i] = i / high * high * k + i % high;
}

/* Rows [i0, i1) of dw (m, columns) (+)= tall^T wide, over the chunk's rows. */
static void add_weights(const job *job, int64_t i0, int64_t i1, const void *tall,
                        const void *wide, int64_t columns, int64_t width, void *dw, int first)
{
    const int64_t size = job->size, k = job->counted, tap = 0;
    for (int64_t j = 0; j < columns; j += width) {
        const fc_panel panel = fc_panel_at(job->kernels, j, columns, width);
        fc_gemm g = {.m = i1 - i0, .n = panel.count, .taps = 1, .k = k, .a = tall,
                     .a_row = job->tall_rows + i0, .a_tap = &tap, .a_step = job->kernels->rows,
                     .b = fc_at(wide, j * k, size), .b_tap = &tap, .b_step = panel.stride,
                     .c = fc_at(dw, i0 * columns + j, size), .c_row = columns,
                     .accumulate = !first};
        job->kernels->gemm(&g);
    }
}

/* dx = W_c^T ds + W_x^T du for `rows` rows of dx from `to` on. */
static void add_inputs(const job *job, const int64_t *ds_rows, int64_t rows, int64_t to)
{
    const int64_t size = job->size, m = job->net->states, n = job->net->inputs;
    const int64_t width = job->kernels->width;
    const int64_t a_tap[2] = {0, ((char *)job->du - (char *)job->ds) / size};
    const int64_t b_tap[2] = {0, ((char *)job->panels_x - (char *)job->panels_c) / size};
    for (int64_t j = 0; j < n; j += width) {
        const fc_panel panel = fc_panel_at(job->kernels, j, n, width);
        fc_gemm g = {.m = rows, .n = panel.count, .taps = 2, .k = m, .a = job->ds,
                     .a_row = ds_rows, .a_tap = a_tap, .a_step = 1,
                     .b = fc_at(job->panels_c, j * m, size), .b_tap = b_tap,
                     .b_step = panel.stride, .c = fc_at(job->grads.x, to * n + j, size),
                     .c_row = n};
        job->kernels->gemm(&g);
    }
}

/* This member's part of the chunk's dx: rows, or sequences where those lie apart. */
static void share_inputs(const job *job, int64_t t0, int64_t steps, int member, int team)
{
    const fc_gated_rnn *net = job->net;
    int64_t begin, end;
    if (net->batch_first) {
        fc_share(net->batch, member, team, &begin, &end);
        for (int64_t b = begin; b < end; b++)
            add_inputs(job, job->input_rows + b * steps, steps, fc_row_of(net, t0, b));
        return;
    }
    fc_share((steps * net->batch + 7) / 8, member, team, &begin, &end);
    begin *= 8;
    end = fc_least(end * 8, steps * net->batch);
    add_inputs(job, job->input_rows + begin, end - begin, t0 * net->batch + begin);
}

/* Biases, columns [j0, j1): pairwise, PIECE rows at first, then as a binary counter adds: level l
 * holds the sum of 2^l pieces where bit l of the number of pieces is set. */
static void add_biases(const job *job, const void **row, void *sums, int64_t j0, int64_t j1,
                       int64_t pieces)
{
    const int64_t m = fc_round_up(job->net->states, job->kernels->lanes);
    for (int64_t p = 0; p < job->counted; p += PIECE, pieces++) {
        int level = 0;
        while (pieces >> level & 1)
            level++;
        void *sum = fc_at(sums, level * m, job->size);
        job->kernels->sum_rows(row + p, fc_least(PIECE, job->counted - p), j0, j1 - j0, sum);
        for (int l = 0; l < level; l++) {
            const void *both[2] = {fc_at(sums, l * m, job->size), sum};
            job->kernels->sum_rows(both, 2, j0, j1 - j0, sum);
        }
    }
}

static void finish_biases(const job *job, void *sums, int64_t j0, int64_t j1, int64_t pieces,
                          void *db)
{
    const int64_t m = fc_round_up(job->net->states, job->kernels->lanes);
    const void *levels[LEVELS];
    int64_t count = 0;
    for (int level = 0; level < LEVELS; level++)
        if (pieces >> level & 1)
            levels[count++] = fc_at(sums, level * m, job->size);
    job->kernels->sum_rows(levels, count, j0, j1 - j0, db);
}

/* --- a member ---------------------------------------------------------------------------------- */

typedef struct {
    fc_domain loop;
    int64_t i0, i1;             /* rows of the weights' gradients, elements of the biases' */
    int64_t width, wide;        /* panels of the loop's, of the sums' products */
    int64_t pieces;             /* added to the biases so far */
    int member, team;
} share;

static void pack_weights(const job *job, const share *own)
{
    const fc_domain *d = &own->loop;
    const int64_t m = job->net->states, width = job->kernels->width;
    int turn = 0;
    for (int64_t j = d->j0; j < d->j1; j += own->width, turn++) {
        if (!d->waits && turn % own->team != own->member)
            continue;
        const fc_panel panel = fc_panel_at(job->kernels, j, d->j1, own->width);
        job->kernels->pack_rows(job->w_h_at, m, j, panel.count, panel.stride,
                                fc_at(job->panels_h, j * m, job->size));
    }
    pack_wide(job, job->w_c_at, m, job->net->inputs, width, job->panels_c, own->member, own->team);
    pack_wide(job, job->w_x_at, m, job->net->inputs, width, job->panels_x, own->member, own->team);
}

/* GROUP rows of the weights' gradients at a time: their rows of ds^T (256 KB) stay in L2 while
 * all columns pass by. */
static void add_all_weights(const job *job, const share *own, int first)
{
    const int64_t m = job->net->states, n = job->net->inputs;
    for (int64_t i = own->i0; i < own->i1; i += GROUP) {
        const int64_t end = fc_least(i + GROUP, own->i1);
        add_weights(job, i, end, job->tall_ds, job->wide_prev, m, own->wide, job->grads.w_h, first);
        add_weights(job, i, end, job->tall_ds, job->wide_x, n, own->wide, job->grads.w_c, first);
        add_weights(job, i, end, job->tall_du, job->wide_x, n, own->wide, job->grads.w_x, first);
    }
}

static void meet(job *job, int team)
{
    if (team > 1)
        fc_barrier_wait(&job->barrier, team);
}

/* The sums over the chunk that begins at t0. The packed columns are written when all are past
 * the products of the chunk before, and read when all have packed their part. */
static void add_chunk(job *job, share *own, int64_t t0, int64_t steps)
{
    const int member = own->member, team = own->team;
    if (member == 0)
        list_rows(job, t0, steps);
    meet(job, team);
    const int64_t rows = job->counted;
    pack_wide(job, job->prev_at, rows, job->net->states, own->wide, job->wide_prev, member, team);
    pack_wide(job, job->x_at, rows, job->net->inputs, own->wide, job->wide_x, member, team);
    pack_tall(job, own->i0, own->i1);
    share_inputs(job, t0, steps, member, team);
    add_biases(job, job->ds_at, job->sums_c, own->i0, own->i1, own->pieces);
    add_biases(job, job->du_at, job->sums_x, own->i0, own->i1, own->pieces);
    own->pieces += (rows + PIECE - 1) / PIECE;
    meet(job, team);
    add_all_weights(job, own, t0 + steps == job->longest);
}

static share share_of(const job *job, int member, int team)
{
    share own = {.loop = fc_domain_of(job->net, job->kernels, member, team),
                 .wide = fc_panel_width(job->kernels, job->net->states),
                 .member = member, .team = team};
    const int64_t m = job->net->states, lanes = job->kernels->lanes, rows = job->kernels->rows;
    const int64_t unit = lanes > rows ? lanes : rows;   /* both powers of two */
    own.width = fc_panel_width(job->kernels, own.loop.b1 - own.loop.b0);
    fc_share((m + unit - 1) / unit, member, team, &own.i0, &own.i1);
    own.i0 *= unit;
    own.i1 = fc_least(own.i1 * unit, m);
    return own;
}

static void backward_member(void *context, int member, int team)
{
    job *job = context;
    share own = share_of(job, member, team);
    const fc_domain *d = &own.loop;
    pack_weights(job, &own);
    for (int64_t b = d->b0; b < d->b1; b++)
        start_carry(job, d, b, job->longest);
    meet(job, team);
    for (int64_t t1 = job->longest; t1 > 0;) {
        const int64_t t0 = t1 > job->chunk ? t1 - job->chunk : 0;
        for (int64_t t = t1 - 1; t >= t0; t--)
            step(job, d, t, own.width, team);
        if (!d->waits)
            meet(job, team);
        add_chunk(job, &own, t0, t1 - t0);
        t1 = t0;
    }
    finish_h0(job, d, own.width);
    finish_biases(job, job->sums_c, own.i0, own.i1, own.pieces, job->grads.b_c);
    finish_biases(job, job->sums_x, own.i0, own.i1, own.pieces, job->grads.b_x);
}

/* What no chunk writes: dx behind the longest sequence, and everything where there are no steps. */
static void clear_rest(const job *job)
{
    const fc_gated_rnn *net = job->net;
    const int64_t size = job->size, m = net->states, n = net->inputs;
    for (int64_t t = job->longest; t < net->steps; t++)
        for (int64_t b = 0; b < net->batch; b++)
            memset(fc_at(job->grads.x, fc_row_of(net, t, b) * n, size), 0, (size_t)(n * size));
    if (job->longest)
        return;
    memset(job->grads.w_c, 0, (size_t)(m * n * size));
    memset(job->grads.w_x, 0, (size_t)(m * n * size));
    memset(job->grads.w_h, 0, (size_t)(m * m * size));
}

int fc_gated_rnn_backward(const fc_gated_rnn *net, const void *x, const void *w_c,
                          const void *w_h, const void *w_x, const void *h0, const void *h,
                          fc_gated_tape tape, const void *grad_h, const void *grad_last,
                          fc_gated_grads grads, int threads)
{
    const fc_kernels *kernels = fc_active[net->dtype];
    job job = {.net = net, .kernels = kernels, .size = net->dtype == FC_F32 ? 4 : 8,
               .x = x, .w_c = w_c, .w_h = w_h, .w_x = w_x, .h0 = h0, .h = h, .tape = tape,
               .grad_h = grad_h, .grad_last = grad_last, .grads = grads,
               .longest = net->batch ? fc_longest(net) : 0};
    const int64_t batch = net->batch ? net->batch : 1;
    job.chunk = batch >= REDUCED ? 1 : fc_least(REDUCED / batch, job.longest);
    job.carry_row = fc_round_up(net->states, kernels->lanes) + kernels->lanes;
    char *scratch = fc_arena_take(lay_out(&job, NULL));
    if (!scratch)
        return FC_NO_MEMORY;
    lay_out(&job, scratch);
    memset(job.zeros, 0, (size_t)(net->states * job.size));
    for (int64_t i = 0; i < net->states; i++) {
        job.w_h_at[i] = fc_at(w_h, i * net->states, job.size);
        job.w_c_at[i] = fc_at(w_c, i * net->inputs, job.size);
        job.w_x_at[i] = fc_at(w_x, i * net->inputs, job.size);
    }
    for (int64_t b = 0; b < net->batch; b++)
        job.step_rows[b] = b * net->states;
    clear_rest(&job);
    fc_parallel(fc_gated_threads(net, threads, 2), backward_member, &job);
    fc_arena_give(scratch);
    return FC_OK;
}
