/* The gated network's way back: the loop over a chunk's steps (gated_rnn_backward.c).
 *
 *     dh = g[t] = direct[t] + carry;  du = dh * (1 - c);  ds = dh * (h[t-1] - u) * c * (1 - c)
 *     carry = dh * c + W_h^T ds
 *
 * The product of ds[t] comes just before the gate of step t - 1, and asks for what that reads.
 */
#include "gated_rnn_back.h"

#include <string.h>

typedef fc_gated_back job;
typedef fc_gated_share share;

/* carry += W_h^T ds[t], or elsewhere; every other step goes backwards through the panels, so that
 * what the caches still hold of them is used before it is evicted. */
static void add_states(const share *own, const fc_part *part, int64_t t, void *to, int64_t to_row,
                       fc_soon *soon)
{
    const job *job = own->job;
    const int64_t size = job->size, width = own->width;
    const int64_t panels = (part->j1 - part->j0 + width - 1) / width;
    fc_gemm g = {.m = part->b1 - part->b0, .taps = job->taps, .k = job->tap, .a_row = job->near,
                 .a = fc_at(job->ds, fc_row_of_ds(job, t, part->b0), size), .a_tap = job->a_tap,
                 .a_step = 1, .c_row = to_row, .accumulate = 1};
    for (int64_t i = 0; i < panels; i++) {
        const int64_t j = part->j0 + (t % 2 ? panels - 1 - i : i) * width;
        const fc_panel panel = fc_panel_at(job->kernels, j, part->j1, width);
        g.n = panel.count;
        g.b = fc_at(job->panels_h, j * job->taps * job->tap, size);
        g.b_tap = fc_taps_in(job, own->member, &panel, width);
        g.b_step = panel.stride;
        g.c = fc_at(to, part->b0 * to_row + j, size);
        const int64_t next = (t % 2 ? j - width : j + width) * g.taps * g.k;
        fc_ask_panel(job->kernels, &g, soon, fc_at(job->panels_h, next, size), panels - 1 - i,
                     width * g.taps * g.k * size);
        job->kernels->gemm(&g);
    }
}

/* Row b of carry for the step before `length`: the last state's gradient where that is its
 * sequence's last step, else nothing. */
static void start_carry(const job *job, const fc_part *part, int64_t b, int64_t length)
{
    const size_t bytes = (size_t)((part->j1 - part->j0) * job->size);
    void *carry = fc_at(job->carry, b * job->row + part->j0, job->size);
    if (job->grad_last && fc_length(job->net, b) == length)
        memcpy(carry, fc_at(job->grad_last, b * job->net->states + part->j0, job->size), bytes);
    else
        memset(carry, 0, bytes);
}

/* Undo step t for the sequences that had ended before it. */
static void skip_ended(const job *job, const fc_part *part, int64_t t)
{
    const int64_t lanes = job->kernels->lanes;
    for (int64_t b = part->b0; job->net->lengths && b < part->b1; b++) {
        if (t < job->net->lengths[b])
            continue;
        for (int64_t j = part->j0; j < part->j1; j += lanes) {
            const int64_t at = fc_row_of_ds(job, t, b) + fc_place_of(job, j);
            const size_t bytes = (size_t)(fc_least(lanes, part->j1 - j) * job->size);
            memset(fc_at(job->ds, at, job->size), 0, bytes);
            memset(fc_at(job->du, at, job->size), 0, bytes);
        }
        start_carry(job, part, b, t);
    }
}

/* The product before a gate, which meanwhile asks for what the gate reads: beside a process that
 * copies memory the way back takes 1.63 ms in place of 1.82 (T 100, B 32, n 64, m 64), 27.8 in place
 * of 29.6 (256, 256). */
static void add_before(const share *own, const fc_part *part, int64_t t, const fc_gate_back *gate)
{
    const job *job = own->job;
    const void *const read[] = {gate->c_tape, gate->u_tape, gate->grad_h, gate->h_prev};
    const int64_t row[] = {gate->tape_row, gate->tape_row, gate->grad_row, gate->prev_row};
    fc_soon soon = fc_gate_soon(job->kernels, gate->rows, gate->count, job->size, read, row);
    add_states(own, part, t, job->carry, job->row, &soon);
}

static void step(const share *own, const fc_part *part, int64_t t)
{
    const job *job = own->job;
    const fc_gated_rnn *net = job->net;
    const int64_t size = job->size, m = net->states, b = part->b0, j = part->j0;
    const int64_t at = fc_row_of(net, t, b) * m + j, kept = fc_tape_row(net, t, b) * m + j;
    const int64_t ds = fc_row_of_ds(job, t, b), start = b * job->start_row;
    const fc_gate_back gate = {
        .rows = part->b1 - b, .first = j, .count = part->j1 - j,
        .carry = fc_at(job->carry, b * job->row + j, size), .carry_row = job->row,
        .h_prev = t ? fc_at(job->tape.h, fc_tape_row(net, t - 1, b) * m + j, size)
                    : fc_at(job->start, start + j, size),
        .prev_row = t ? m : job->start_row,
        .grad_h = fc_at(job->grad_h, at, size), .grad_row = fc_row_of(net, 0, 1) * m,
        .c_tape = fc_at(job->tape.c, kept, size), .u_tape = fc_at(job->tape.u, kept, size),
        .tape_row = m,
        .ds = fc_at(job->ds, ds, size), .du = fc_at(job->du, ds, size),
        .width = job->width, .panel = job->panel,
    };
    if (t + 1 < job->longest)
        add_before(own, part, t + 1, &gate);
    job->kernels->gate_back(&gate);
    skip_ended(job, part, t);
}

/* dh0 = carry + W_h^T ds[0]. */
static void finish_h0(const share *own, const fc_part *part)
{
    const job *job = own->job;
    const int64_t size = job->size, m = job->net->states, at = part->b0 * m + part->j0;
    const fc_copy copy = {.from = fc_at(job->carry, part->b0 * job->row + part->j0, size),
                          .from_row = job->row, .from_step = 1,
                          .to = fc_at(job->grads.h0, at, size),
                          .to_row = m, .to_step = 1, .rows = part->b1 - part->b0,
                          .length = part->j1 - part->j0};
    fc_soon soon = fc_nothing_soon();
    job->kernels->copy_rows(&copy);
    add_states(own, part, 0, job->grads.h0, m, &soon);
}

/* Steps whose inputs' gradients are one product, while their ds and du are in L2: as many as
 * have NEAR bytes of these (T 100, B 64, n 128, m 1024: a chunk's together took 37 to 41 ms, and
 * take 31). One sequence's rows of dx may lie apart from the others': eight steps fill the
 * register tile. */
enum { NEAR = 256 << 10 };
static int64_t steps_near(const job *job, int64_t sequences)
{
    const int64_t steps = NEAR / (2 * sequences * job->net->states * job->size);
    return steps > 8 ? steps - steps % 8 : fc_most(steps, job->net->batch_first ? 8 : 1);
}

void fc_go_back(const share *own, const fc_part *part, const fc_part *dx, int64_t chunk,
                    int waits)
{
    job *job = own->job;
    const int64_t first = fc_chunk_start(job, chunk), end = job->longest - chunk * job->chunk;
    const int64_t near = steps_near(job, part->b1 - part->b0);
    if (chunk == 0)
        for (int64_t b = part->b0; b < part->b1; b++)
            start_carry(job, part, b, job->longest);
    for (int64_t t1 = end; t1 > first; t1 -= near) {
        const int64_t t0 = fc_most(first, t1 - near);
        for (int64_t t = t1 - 1; t >= t0; t--) {
            step(own, part, t);
            if (waits)
                fc_barrier_wait(&job->barrier, own->team);
        }
        fc_add_inputs(job, dx, t0, t1);
    }
    if (chunk + 1 == job->chunks)
        finish_h0(own, part);
}
