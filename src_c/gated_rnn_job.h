/* What the two directions of the gated network share: who owns what, and panels.
 *
 * Where each member of the team can have 16 sequences it owns sequences, and nobody waits for
 * anybody. Otherwise it owns states, and all wait for each other after each step: worth it only
 * if a step's share takes longer than that.
 */
#ifndef FC_GATED_RNN_JOB_H
#define FC_GATED_RNN_JOB_H

#include "gated_rnn.h"
#include "kernels.h"
#include "parallel.h"

enum { TILE = 16 };   /* sequences between a product and its gate: the tile stays in L1 */

static inline void *fc_at(const void *base, int64_t element, int64_t size)
{
    return (char *)base + element * size;
}

static inline int64_t fc_round_up(int64_t count, int64_t to) { return (count + to - 1) / to * to; }
static inline int64_t fc_least(int64_t a, int64_t b) { return a < b ? a : b; }

/* Take `count` elements of scratch, aligned to a cache line and one cache line longer. With
 * *top NULL this only adds up; see the two-pass layout functions. */
static inline void *fc_carve(char *base, size_t *top, int64_t count, int64_t size)
{
    void *piece = base ? base + *top : 0;
    *top += ((size_t)count * (size_t)size + 127) / 64 * 64;
    return piece;
}

/* Index of sequence b at step t, counted in rows of x or h. */
static inline int64_t fc_row_of(const fc_gated_rnn *net, int64_t t, int64_t b)
{
    return net->batch_first ? b * net->steps + t : t * net->batch + b;
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

/* One member's sequences [b0, b1) and states [j0, j1) in the loop over time. */
typedef struct { int64_t b0, b1, j0, j1; int waits; } fc_domain;

static inline int fc_by_sequences(const fc_gated_rnn *net, int team)
{
    return net->batch >= 16 * team;
}

static inline fc_domain fc_domain_of(const fc_gated_rnn *net, const fc_kernels *kernels,
                                     int member, int team)
{
    fc_domain d = {0, net->batch, 0, net->states, 0};
    if (team > 1 && fc_by_sequences(net, team)) {
        fc_share((net->batch + 7) / 8, member, team, &d.b0, &d.b1);
        d.b0 *= 8;
        d.b1 = fc_least(d.b1 * 8, net->batch);
    } else if (team > 1) {
        const int64_t lanes = kernels->lanes;
        fc_share((net->states + lanes - 1) / lanes, member, team, &d.j0, &d.j1);
        d.j0 *= lanes;
        d.j1 = fc_least(d.j1 * lanes, net->states);
        d.waits = 1;
    }
    return d;
}

/* How many threads are worth starting for `products` times the forward pass's operations. Where
 * another process keeps a core busy, who waits for the member on it waits for a time slice, some
 * milliseconds: a member's share must be 200 Mflop, 2 ms, and a step's share of states 1 Mflop. */
static inline int fc_gated_threads(const fc_gated_rnn *net, int threads, double products)
{
    const double m = (double)net->states, n = (double)net->inputs, b = (double)net->batch;
    const double most = products * 2 * (double)net->steps * b * m * (2 * n + m) / 200e6;
    threads = most < 2 ? 1 : most < threads ? (int)most : threads;
    while (threads > 1 && !fc_by_sequences(net, threads) && 2 * b * m * m < 1e6 * threads)
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

#endif
