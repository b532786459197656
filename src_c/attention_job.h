/* What the forward and the backward driver of AttentionRNN share: addresses, panels, products. */
#ifndef FC_ATTENTION_JOB_H
#define FC_ATTENTION_JOB_H

#include "arena.h"
#include "attention_rnn.h"
#include "conv.h"
#include "kernels.h"
#include "parallel.h"
#include "scratch.h"

#include <string.h>

/* Rows of one product over all steps: their results stay in the second-level cache. */
enum { FC_ATTENTION_CHUNK = 64 };

/* Sizes and kernels of one call. */
typedef struct {
    const fc_attention_rnn *net;
    const fc_kernels *kn;
    int64_t size;             /* of an element */
    int64_t T, B, n, k;       /* k = 0 with an infinite window */
    int64_t lags, cols;       /* matrices that states meet: 1 or k; and lags * n */
    int64_t given, before;    /* P and S of attention_rnn.h */
    int infinite;
} fc_attention_sizes;

static inline fc_attention_sizes fc_attention_measure(const fc_attention_rnn *net)
{
    const int64_t k = net->window < 0 ? 0 : net->window, lags = net->shared ? 1 : k;
    return (fc_attention_sizes){
        .net = net, .kn = fc_active[net->dtype],
        .size = net->dtype == FC_F32 ? sizeof(float) : sizeof(double),
        .T = net->steps, .B = net->batch, .n = net->n, .k = k, .lags = lags, .cols = lags * net->n,
        .given = net->given, .before = net->window < 0 ? net->given : k,
        .infinite = net->window < 0,
    };
}

/* Lanes of a panel for products of m rows and n columns. */
static inline int64_t fc_panel_width(const fc_kernels *kn, int64_t m, int64_t n)
{
    const int64_t widest = m > 4 ? kn->width : m > 2 ? kn->width_4 : kn->width_2;
    const int64_t whole = n > 0 ? fc_round_up(n, kn->lanes) : kn->lanes;
    return whole < widest ? whole : widest;
}

/* A matrix (k, cols) in panels: each [k][width]. */
typedef struct {
    void *at;
    int64_t k, cols, width;
    int triangle;             /* upper triangular: row p is 0 before column p */
} fc_panels;

static inline int64_t fc_panels_length(int64_t rows, int64_t cols, int64_t width)
{
    return rows * fc_round_up(cols, width);
}

/* Panels of a matrix (n, cols) for products of so many rows: a block's next piece (fc_carve). */
static inline fc_panels fc_carve_panels(const fc_attention_sizes *s, char *base, size_t *used,
                                        int64_t cols, int64_t rows)
{
    const int64_t width = fc_panel_width(s->kn, rows, cols);
    return (fc_panels){
        .at = fc_carve(base, used, fc_panels_length(s->n, cols, width) * s->size),
        .k = s->n, .cols = cols, .width = width,
    };
}

/* C (m, cols) (+)= A B of those panels that hold columns begin .. end - 1;
 * A[i, p] = a[a_row[i] + p]. `soon` may be NULL. */
static inline void fc_multiply_columns(const fc_attention_sizes *s, int64_t m, const void *a,
                                       const int64_t *a_row, const fc_panels *b, int64_t begin,
                                       int64_t end, void *c, int64_t c_row, fc_soon *soon)
{
    const int64_t zero = 0;
    for (int64_t j = begin / b->width * b->width; j < end; j += b->width) {
        const int64_t stop = j + b->width < b->cols ? j + b->width : b->cols;
        fc_gemm g = {
            .m = m, .n = stop - j, .taps = 1, .k = b->triangle && stop < b->k ? stop : b->k,
            .a = a, .a_row = a_row, .a_tap = &zero, .a_step = 1,
            .b = fc_at(b->at, j * b->k, s->size), .b_tap = &zero, .b_step = b->width,
            .c = fc_at(c, j, s->size), .c_row = c_row,
        };
        if (soon)
            fc_ask_soon(s->kn, &g, soon, (end - stop) * b->k * s->size);
        s->kn->gemm(&g);
    }
}

static inline void fc_multiply(const fc_attention_sizes *s, int64_t m, const void *a,
                               const int64_t *a_row, const fc_panels *b, void *c, int64_t c_row,
                               fc_soon *soon)
{
    fc_multiply_columns(s, m, a, a_row, b, 0, b->cols, c, c_row, soon);
}

/* Rows r, r + 1, ... of an array (NULL: none), `each` elements long, unless they are many for L2.
 * So a window without end takes 12.3 in place of 14.6 ms, 42 in place of 52 with its way back
 * (T 500, B 32, n 128); both ways of one of two states 5.1 in place of 5.4 (T 100, B 32, n 64). */
static inline void fc_want_rows(const fc_attention_sizes *s, fc_soon *soon, const void *array,
                                int64_t r, int64_t rows, int64_t each)
{
    const int64_t bytes = rows * each * s->size;
    if (array && bytes <= 256 << 10)
        fc_want_soon(soon, fc_at(array, r * each, s->size), bytes);
}

/* Pack a matrix (k, cols) whose rows lie `row` apart. */
static inline void fc_pack(const fc_attention_sizes *s, const fc_panels *b, const void *matrix,
                           int64_t row)
{
    s->kn->pack_panels(b->k, b->cols, (fc_in){matrix, row}, (fc_in){0}, b->width, b->k * b->width,
                       b->at);
}

/* The transpose of a matrix (count, k) as the columns `column` and on: row p of the panels is
 * column p of the matrix. */
static inline void fc_pack_transposed(const fc_attention_sizes *s, const fc_panels *b,
                                      int64_t column, const void *matrix, int64_t count)
{
    for (int64_t i = 0; i < count;) {
        const int64_t at = column + i, lane = at % b->width, room = b->width - lane;
        const int64_t some = count - i < room ? count - i : room;
        s->kn->pack_transposed(fc_at(matrix, i * b->k, s->size), b->k, some, b->k, b->width,
                               fc_at(b->at, (at - lane) * b->k + lane, s->size));
        i += some;
    }
}

/* Lags first .. last, whose matrices meet `group` states at a time: a product of few rows takes
 * as long as reading its matrix, and what a state is at lag i nobody asks before i steps have
 * passed. So there are classes of lags 1, 2 and 3, 4 to 7, and the rest, by groups of 1, 2, 4
 * and 8: as long as the register tile has rows for them, and, where a step's matrices are too
 * many for a share of L3, as long as the rows stay in L2 (T 100, B 32, n 256, k 8 beside a
 * process that copies memory: the loop forward 189 -> 149 ms, back 95 -> 80 in float64, of
 * 8.4 MB; in float32, of 4.2 MB, 77 -> 79 and 41 -> 43). Each row's sums are its own: the bits
 * do not know of it. */
enum { FC_LAG_CLASSES = 4, FC_LAG_MATRICES = 6 << 20, FC_LAG_ROWS = 256 << 10 };
typedef struct { int64_t first, last, group; } fc_lag_class;

static inline int fc_classify_lags(const fc_attention_sizes *s, int64_t group, fc_lag_class *of)
{
    const int64_t large = 2 * s->cols * s->n * s->size > FC_LAG_MATRICES;
    const int64_t fit = large ? fc_least(8, FC_LAG_ROWS / (s->B * s->n * s->size)) : 8 / s->B;
    /* states whose rows lie in one piece */
    const int64_t most = group < s->B ? 1 : fc_most(fit, 8 / s->B);
    int count = 0;
    for (int64_t first = 1; first <= s->k; first = of[count++].last + 1) {
        const int64_t last = 2 * first <= most ? 2 * first - 1 : s->k;
        of[count] = (fc_lag_class){first, last < s->k ? last : s->k, first};
    }
    return count;
}

/* Rows of a product: of all sequences, of a chunk, of states that have waited for each other. */
static inline int64_t fc_most_rows(const fc_attention_sizes *s, int classes, const fc_lag_class *of)
{
    const int64_t together = classes ? of[classes - 1].group : 1;
    return fc_most(s->B * together, FC_ATTENTION_CHUNK);
}

/* Slots of a ring that keeps the last k states, no group wrapping around its end. */
static inline int64_t fc_slots(const fc_attention_sizes *s, int classes, const fc_lag_class *of)
{
    return classes ? fc_round_up(s->k, of[classes - 1].group) : 1;
}

/* Threads that are worth starting for so many products of each state that wait for the step before,
 * and so many that do not. One sequence has nothing to share of the first. As for the gated
 * network a member's share must be 200 Mflop, 2 ms, or the wait for a member whose core another
 * process keeps busy costs more than it brings. */
static inline int fc_attention_threads(const fc_attention_sizes *s, int threads, double waiting,
                                       double free)
{
    const double products = (s->B > 1 ? waiting : 0) + free;
    const double states = (double)(s->T * s->B) * (double)(1 + s->lags);
    const double most = 2 * states * (double)(s->n * s->n) * products / 200e6;
    return most < 2 ? 1 : most < threads ? (int)most : threads;
}

/* Sequences that go through time together, independently of the others: on one thread all, else
 * the 8 that fill a register tile, or as many as a member's share where the matrices that a step
 * reads do not stay in L2. */
static inline int64_t fc_attention_group(const fc_attention_sizes *s, int team)
{
    const size_t matrices = 2 * (size_t)(s->cols * s->n) * s->size;
    const int64_t share = (s->B + team - 1) / team;
    return s->B < 8 * team ? share : matrices <= 512 << 10 && team > 1 ? 8 : fc_round_up(share, 8);
}

/* The group of sequences that a chain of tasks takes: the even ones, then the odd ones. Members are
 * mostly at chains next to each other, and what a step has of each sequence, a number or a few,
 * shares a cache line with the next group's (T 500, B 32, n 128, infinite, on two threads: 7.5 to
 * 9.9 ms, as it happened). */
static inline int64_t fc_group_of_chain(int64_t groups, int64_t chain)
{
    const int64_t even = (groups + 1) / 2;
    return chain < even ? 2 * chain : 2 * (chain - even) + 1;
}

/* Steps of one task: all on one thread, else some 200 us for a group. */
static inline int64_t fc_attention_block(const fc_attention_sizes *s, int64_t group, int team)
{
    const double step = 4.0 * (double)(group * s->n * s->n * (1 + s->lags)), steps = 16e6 / step;
    return team == 1 || steps > (double)s->T ? s->T : steps < 1 ? 1 : (int64_t)steps;
}

/* `rows` are those of the sequences b0 .. b1 - 1, `each` elements long: zero the ones that have
 * ended before step t. */
static inline void fc_clear_ended(const fc_attention_sizes *s, int64_t t, int64_t b0, int64_t b1,
                                  void *rows, int64_t each)
{
    const int64_t *lengths = s->net->lengths;
    for (int64_t b = b0; lengths && b < b1; b++)
        if (t >= lengths[b])
            memset(fc_at(rows, (b - b0) * each, s->size), 0, (size_t)(each * s->size));
}

#endif
