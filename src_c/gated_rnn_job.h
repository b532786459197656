/* What the two directions of the gated network share: who does what, and panels.
 *
 * Where each member of the team can have 8 sequences, the work is tasks: some sequences through
 * some steps, and nobody waits at a step. Otherwise members own states, and all wait for each
 * other after each step: worth it only if a step's share takes longer than that.
 */
#ifndef FC_GATED_RNN_JOB_H
#define FC_GATED_RNN_JOB_H

#include "gated_rnn.h"
#include "kernels.h"
#include "parallel.h"
#include "scratch.h"

/* Index of sequence b at step t, counted in rows of x or h. */
static inline int64_t fc_row_of(const fc_gated_rnn *net, int64_t t, int64_t b)
{
    return net->batch_first ? b * net->steps + t : t * net->batch + b;
}

/* And in rows of the tape. */
static inline int64_t fc_tape_row(const fc_gated_rnn *net, int64_t t, int64_t b)
{
    return t * net->batch + b;
}

/* What a gate reads or writes, `count` numbers of each row, where the rows lie one behind the other
 * and are few enough for L2: brought there by the product before it. */
static inline fc_soon fc_gate_soon(const fc_kernels *kernels, int64_t rows, int64_t count,
                                   int64_t size, const void *const at[4], const int64_t row[4])
{
    const int64_t bytes = rows * count * size;
    const int near = rows >= kernels->rows && 4 * bytes <= 512 << 10;
    fc_soon soon = fc_nothing_soon();
    for (int i = 0; i < 4 && near; i++)
        if (row[i] == count)
            fc_want_soon(&soon, at[i], bytes);
    return soon;
}

static inline int64_t fc_length(const fc_gated_rnn *net, int64_t b)
{
    return net->lengths ? net->lengths[b] : net->steps;
}

static inline int64_t fc_longest(const fc_gated_rnn *net)
{
    int64_t longest = 0;
    for (int64_t b = 0; b < net->batch; b++)
        if (fc_length(net, b) > longest)
            longest = fc_length(net, b);
    return longest;
}

/* Sequences [b0, b1) and states [j0, j1) of a step. */
typedef struct { int64_t b0, b1, j0, j1; } fc_part;

static inline int fc_by_states(const fc_gated_rnn *net, int team)
{
    return team > 1 && net->batch < 8 * team;
}

/* Sequences that go through time together. Eight fill the register tile, and few leave little to
 * wait for at the end; on one thread more of them save calls. */
static inline int64_t fc_group(const fc_gated_rnn *net, int team)
{
    return fc_by_states(net, team) ? net->batch : team > 1 ? 8 : 32;
}

static inline fc_part fc_group_part(const fc_gated_rnn *net, int64_t group, int64_t number)
{
    return (fc_part){number * group, fc_least((number + 1) * group, net->batch), 0, net->states};
}

/* Member's share of `count` columns, in whole vectors. */
static inline void fc_share_columns(const fc_kernels *kernels, int64_t count, int member, int team,
                                    int64_t *begin, int64_t *end)
{
    fc_share((count + kernels->lanes - 1) / kernels->lanes, member, team, begin, end);
    *begin *= kernels->lanes;
    *end = fc_least(*end * kernels->lanes, count);
}

/* How many threads are worth starting for `products` times the forward pass's operations. Where
 * another process keeps a core busy, who waits for the member on it waits for a time slice, some
 * milliseconds: a member's share must be 200 Mflop, 2 ms, and a step's share of states 1 Mflop. */
static inline int fc_gated_threads(const fc_gated_rnn *net, int threads, double products)
{
    const double m = (double)net->states, n = (double)net->inputs, b = (double)net->batch;
    const double most = products * 2 * (double)net->steps * b * m * (2 * n + m) / 200e6;
    threads = most < 2 ? 1 : most < threads ? (int)most : threads;
    while (fc_by_states(net, threads) && 2 * b * m * m < 1e6 * threads)
        threads--;
    return threads;
}

/* Panels of columns [j0, j1): each as wide as suits `rows` rows of the other operand, the last
 * as narrow as whole vectors allow. The panel of column j begins at element j * k. */
static inline int64_t fc_panel_width(const fc_kernels *kernels, int64_t rows)
{
    return rows <= 2 ? kernels->width_2 : rows <= 4 ? kernels->width_4 : kernels->width;
}

typedef struct { int64_t column, count, stride; } fc_panel;

static inline fc_panel fc_panel_at(const fc_kernels *kernels, int64_t column, int64_t end,
                                   int64_t width)
{
    const int64_t count = fc_least(width, end - column);
    return (fc_panel){column, count, fc_round_up(count, kernels->lanes)};
}

/* What a product with one panel of a matrix asks for, while `left` more of `bytes` each follow: the
 * next panel, where they are so large that it comes from L3; else, and with the last one, `soon`
 * (m 1024, B 64 and m 512, B 16, both ways: float64 1.03 times as fast, float32 1.0 to 1.05). */
static inline void fc_ask_panel(const fc_kernels *kernels, fc_gemm *g, fc_soon *soon,
                                const void *next, int64_t left, int64_t bytes)
{
    fc_soon panel = fc_nothing_soon();
    if (left > 0 && bytes > 64 << 10) {
        fc_want_soon(&panel, next, bytes);
        soon = &panel;
        left = 0;
    }
    fc_ask_soon(kernels, g, soon, left * bytes);
}

#endif
