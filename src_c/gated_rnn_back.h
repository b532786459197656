/* What the gated network's way back shares: who does what (gated_rnn_backward.c), the loop over a
 * chunk's steps (gated_rnn_back_steps.c) and the sums over them (gated_rnn_sums.c). */
#ifndef FC_GATED_RNN_BACK_H
#define FC_GATED_RNN_BACK_H

#include "gated_rnn_job.h"

/* CHUNK rows a chunk: few enough that what the sums read is still in the caches, enough that
 * what they are added to is read and written seldom; twice as many where that is more than SUMS
 * bytes, too much for L2 (T 100, B 64, n 128, m 1024: 166 -> 159 ms for the sums; T 100, B 32,
 * n 64, m 64 would lose 1 %). They are summed for BAND columns of a matrix at a time, whose
 * columns of h or x (64 or 128 KB in float32) stay in L2. A team keeps KEPT rows, so that who is
 * held up in one chunk does not hold up the others. */
enum {
    FC_CHUNK = 512, FC_SUMS = 1 << 20, FC_BAND = 32, FC_LEVELS = 48,
    FC_KEPT = 2048, FC_SLOTS = FC_KEPT / FC_CHUNK,
};

static inline int64_t fc_chunk_rows(const fc_gated_rnn *net, int64_t size)
{
    return net->states * (net->states + 2 * net->inputs) * size > FC_SUMS ? 2 * FC_CHUNK : FC_CHUNK;
}

/* Where a chunk's rows lie. */
typedef struct {
    int64_t counted;                      /* rows before their sequence's end */
    int64_t *ds, *prev, *x;               /* their offsets in a panel of ds and du, in h, in x */
    int even_prev, even_x;                /* are these evenly spaced, with those of ds? */
} fc_gated_rows;

typedef struct {
    const fc_gated_rnn *net;
    const fc_kernels *kernels;
    int64_t size;
    const void *w_c, *w_h, *w_x, *h0, *grad_h, *grad_last;
    fc_gated_tape tape;
    fc_gated_grads grads;

    int64_t longest;                      /* steps until the last sequence ends */
    int64_t chunk, chunks, slots;         /* steps of one; how many; how many are kept */
    int64_t members;                      /* at most */
    int64_t row;                          /* from a row of carry, or of the sums, to the next */
    int64_t width, panel;                 /* of ds and du: lanes of a panel; from one to the next */
    void *panels_h, *panels_c, *panels_x; /* the weights, lanes over their columns */
    void *carry;                          /* (B, m): g[t] * c, then + W_h^T ds[t] */
    void *ds, *du;                        /* panels of (slots, chunk, B, width), see fc_row_of_ds */
    int64_t *near, *far;                  /* offsets of rows one, and B, behind the other in them */
    int64_t tap, taps;                    /* gemm's: states of each (tap_length); du's follow */
    int64_t *a_tap;                       /* where they lie in ds */
    int64_t *b_taps;                      /* and in panels: (members, 2) of W_h, (2) of W_c, W_x */
    fc_gated_rows tables[FC_SLOTS];       /* of the chunks kept */
    int64_t *band_rows;                   /* (FC_BAND) 0, 1, ... */
    const void *start;                    /* h0, or zeros */
    int64_t start_row;                    /* from one row of it to the next: m, or 0 */
    void *sums_h, *sums_wc, *sums_wx;     /* (m or n, m): the weights' gradients, transposed */
    void *zeros;                          /* (m) */
    void *sums_c, *sums_x;                /* (FC_LEVELS, m) partial sums, see gated_rnn_sums.c */
    fc_barrier barrier;

    fc_tasks tasks;   /* a panel of each matrix; a group's steps of a chunk, or a band's sums */
    int64_t packing, packed;              /* panels begun, and finished */
    int64_t h_bands, w_bands, bands;      /* of dw_h; with those of dw_c, dw_x; with the biases */
    int64_t *back, *summed, *taken;       /* (groups), (bands) chunks; (groups + bands) in work? */
    int64_t *pieces;                      /* (panels) added to the biases so far */
} fc_gated_back;

/* One member's view. */
typedef struct {
    fc_gated_back *job;
    int member, team;
    int64_t group, groups;      /* sequences each; how many */
    int64_t width, panels;      /* of W_h's panels; how many any matrix has at most */
} fc_gated_share;

/* --- where things lie ------------------------------------------------------------------------- */

static inline int64_t fc_chunk_of(const fc_gated_back *job, int64_t t)
{
    return (job->longest - 1 - t) / job->chunk;
}

/* The first step of a chunk. */
static inline int64_t fc_chunk_start(const fc_gated_back *job, int64_t chunk)
{
    return fc_most(0, job->longest - (chunk + 1) * job->chunk);
}

/* Offset of sequence b at step t in a panel: the rows of a chunk lie one behind the other. */
static inline int64_t fc_row_of_ds(const fc_gated_back *job, int64_t t, int64_t b)
{
    const int64_t in_chunk = job->chunk - 1 - (job->longest - 1 - t) % job->chunk;
    const int64_t step = fc_chunk_of(job, t) % job->slots * job->chunk + in_chunk;
    return (step * job->net->batch + b) * job->width;
}

/* And of state j in a row of it. */
static inline int64_t fc_place_of(const fc_gated_back *job, int64_t j)
{
    return j / job->width * job->panel + j % job->width;
}

/* gemm's taps in a panel of W_h, of W_c and W_x behind those of all members. Where the last panel
 * is narrower than the others it has taps of its own. */
static inline int64_t *fc_taps_in(const fc_gated_back *job, int64_t member, const fc_panel *panel,
                                  int64_t width)
{
    return job->b_taps + (2 * member + (panel->stride < width)) * 2 * job->taps;
}

/* --- gated_rnn_back_steps.c ------------------------------------------------------------------- */

/* A chunk's steps for the part's sequences and states, after each of which all wait where they own
 * states; and dx for the sequences and inputs of `dx`. The last chunk leaves h0's gradient. */
void fc_go_back(const fc_gated_share *own, const fc_part *part, const fc_part *dx, int64_t chunk,
                int waits);

/* --- gated_rnn_sums.c ------------------------------------------------------------------------- */

/* Fill in the chunk's table: of its rows, those before their sequence's end. */
void fc_list_rows(fc_gated_back *job, int64_t chunk);

/* dx of the part's sequences, the inputs j of it, at steps [t0, t1) of one chunk. */
void fc_add_inputs(const fc_gated_back *job, const fc_part *part, int64_t t0, int64_t t1);

/* Add the chunk's rows to FC_BAND columns of dw_h; or of dw_c and dw_x; or to a panel of the
 * biases. The last chunk leaves the sums in the gradients. */
void fc_sum_band(const fc_gated_back *job, int64_t band, int64_t chunk);

#endif
