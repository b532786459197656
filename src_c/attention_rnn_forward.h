/* What AttentionRNN's forward pass shares: its matrices (attention_rnn_matrices.c), the scores and
 * values of states (attention_rnn_states.c), the loop over time (attention_rnn.c), and a step alone
 * (attention_rnn_step.c). */
#ifndef FC_ATTENTION_RNN_FORWARD_H
#define FC_ATTENTION_RNN_FORWARD_H

#include "attention_job.h"

typedef struct {
    fc_attention_sizes s;
    const void *x, *w_q, *w_k, *w_v, *h0;
    void *h;
    const fc_attention_tape *tape;
    int64_t *row_n;                   /* i * n */
    fc_panels score_x, value_x;       /* M_0 (or the shared one); V_0^T (likewise) */
    fc_lag_class of[FC_LAG_CLASSES];  /* separate matrices: of the lags, side by side, */
    int classes;
    fc_panels score_lag[FC_LAG_CLASSES], value_lag[FC_LAG_CLASSES];   /* with a tape: M_i; V_i^T */
    void *triangles;                  /* without: one behind the other */
    int64_t triangle_length;          /* elements of the panels of one triangle */
    fc_in *member_in;                 /* 2 (k + 1) operands of each member */
    void *symmetric;                  /* (n, lags, n): M_i + M_i^T side by side */
    void *member_pack, *member_m, *member_y;   /* scratch of each member */
    int64_t pack_length, y_length;
    void *wx;                         /* (T, B) scores of x */
    int64_t slots;                    /* of the rings, by step: what the last k states are */
    void *ring;                       /* scores: (slots, B, lags), or of the last state (B) */
    void *values;                     /* V_i s: (slots, B, k, n) */
    void *a;                          /* (B, k + 1) */
    void *mixed;                      /* (B, n) */
    void *mu, *d, *d_lost, *num, *num_lost, *m, *z;   /* infinite: see fc_online */
    int64_t group, block;             /* sequences and steps of a task */
    fc_work work;
} fc_attention_forward;

/* --- where things lie ------------------------------------------------------------------------- */

/* h[t] for t >= 0, else a state of h0, of sequence b. */
static inline void *fc_state_at(const fc_attention_forward *p, int64_t t, int64_t b)
{
    const fc_attention_sizes *s = &p->s;
    return t >= 0 ? fc_at(p->h, (t * s->B + b) * s->n, s->size)
                  : fc_at(p->h0, ((t + s->given) * s->B + b) * s->n, s->size);
}

/* Row of (h[t], b) in the rings: groups of states lie in one piece. */
static inline int64_t fc_ring_row(const fc_attention_forward *p, int64_t t, int64_t b)
{
    return (t + p->slots) % p->slots * p->s.B + b;
}

/* Where the score w_lag of h[t], sequence b and on, waits. */
static inline fc_out fc_score_place(const fc_attention_forward *p, int64_t t, int64_t lag,
                                    int64_t b)
{
    const fc_attention_sizes *s = &p->s;
    if (s->infinite)
        return p->tape ? (fc_out){fc_at(p->tape->scores, (t + s->given) * s->B + b, s->size), 1}
                       : (fc_out){fc_at(p->ring, b, s->size), 1};
    const int64_t first = s->net->shared ? 0 : lag - 1;
    return (fc_out){fc_at(p->ring, fc_ring_row(p, t, b) * s->lags + first, s->size), s->lags};
}

/* V_lag h[t], separate matrices. */
static inline fc_out fc_value_place(const fc_attention_forward *p, int64_t t, int64_t lag,
                                    int64_t b)
{
    const fc_attention_sizes *s = &p->s;
    const int64_t at = fc_ring_row(p, t, b) * s->cols + (lag - 1) * s->n;
    return (fc_out){fc_at(p->values, at, s->size), s->cols};
}

/* (M + M^T) h[t], with a tape. */
static inline void *fc_grown_place(const fc_attention_forward *p, int64_t t, int64_t lag, int64_t b)
{
    const fc_attention_sizes *s = &p->s;
    return fc_at(p->tape->grown, ((t + s->given) * s->B + b) * s->cols + (lag - 1) * s->n, s->size);
}

/* --- attention_rnn_matrices.c ----------------------------------------------------------------- */

/* Of lag i, 0 for x: V_i^T in its panels, and M_i + M_i^T, without a tape the triangle of it. */
void fc_prepare_matrices(void *context, int member, int64_t i, int64_t link);

/* With a tape, after that: M_i + M_i^T of one class of lags into panels, across their borders. */
void fc_pack_scores(void *context, int member, int64_t c, int64_t link);

/* --- attention_rnn_states.c ------------------------------------------------------------------- */

/* x's scores of a chunk of rows, for all steps and sequences alike; separate matrices: V_0 x, which
 * waits in h. */
void fc_score_inputs(void *context, int member, int64_t chunk, int64_t link);

/* What later steps will ask of h[t]: its scores and, separate matrices, its values. */
void fc_state_born(const fc_attention_forward *p, int64_t t, int64_t b0, int64_t b1, int member);

/* --- attention_rnn_step.c --------------------------------------------------------------------- */

/* fc_attention_rnn_forward of one step, separate matrices and no tape; on the calling thread. */
int fc_attention_step(const fc_attention_sizes *s, const void *x, const void *w_q, const void *w_k,
                      const void *w_v, const void *h0, void *h);

#endif
