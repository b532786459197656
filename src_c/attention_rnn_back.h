/* What AttentionRNN's way back shares: its loop over time (attention_rnn_backward.c) and the
 * weights' gradients after it (attention_rnn_sums.c). */
#ifndef FC_ATTENTION_RNN_BACK_H
#define FC_ATTENTION_RNN_BACK_H

#include "attention_job.h"

typedef struct {
    fc_attention_sizes s;
    const void *x, *w_q, *w_k, *w_v;
    const fc_attention_tape *tape;
    void *grad, *dx, *dw_q, *dw_k, *dw_v;
    int64_t *row_n, *column;          /* i * n; i */
    fc_panels value_x;                /* V_0, or the shared one */
    fc_lag_class of[FC_LAG_CLASSES];  /* separate matrices: of the lags */
    int classes;
    fc_panels value_lag[FC_LAG_CLASSES];   /* V_i side by side */
    void *wide;                       /* (n, k, n): V_i side by side */
    int64_t slots;
    void *y;                          /* separate: ring (slots, B, k, n); shared (T, B, n) */
    void *r;                          /* (T, B) */
    void *dw;                         /* separate: (T, B, k + 1); shared: of x, (T, B) */
    void *dw_states;                  /* shared: (S + T, B) */
    void *p, *p_lost, *rho, *rho_lost, *nu, *e;   /* (B, n), (B): sums over later steps */
    void *sums;                       /* dV_0, dV_1, ..., G_0, G_1, ...: panels (n, width) */
    fc_in *member_in;
    void *member_y, *member_pack;
    int64_t pack_length, y_length;
    int64_t width, depth;             /* lanes and rows of the sums' panels; G_i's are as wide */
    int64_t group, block;             /* sequences and steps of a task */
    int64_t parts;                    /* panels of all sums */
    fc_work work;
} fc_attention_back;

static inline void *fc_grad_at(const fc_attention_back *p, int64_t t, int64_t b)
{
    return fc_at(p->grad, ((p->s.before + t) * p->s.B + b) * p->s.n, p->s.size);
}

/* --- attention_rnn_sums.c -------------------------------------------------------------------- */

/* Lanes and rows of the panels of the sums, and how many of them there are. */
void fc_plan_sums(fc_attention_back *p);

/* The next rows of one panel of dV_0, dV_1, ..., G_0, G_1, ...: p->parts chains of as many links as
 * the most rows have p->depth of them. The last leaves dV_i in dw_v. */
void fc_add_chunk(void *context, int member, int64_t unit, int64_t link);

/* dQ_i = K_i G_i and dK_i = Q_i G_i, one of p->parts / 2 panels. */
void fc_score_weights(void *context, int member, int64_t unit, int64_t link);

#endif
