/* AttentionRNN drivers: a whole sequence, forward and back.
 *
 *     T steps   B batch   n numbers a state   k window
 *     s_0 = x[t], s_i = h[t-i];  w_i = (Q_i s_i).(K_i s_i);  a = softmax(w)
 *     h[t] = sum_i a_i V_i s_i
 *
 * Arrays are C-contiguous, aligned to their element, owned by the caller; no output overlaps an
 * input; T, B and n are at least 1. Every function may use up to `threads` threads (fewer where
 * that is faster), gives the same bits for any number of them and for a sequence in whatever
 * batch, and may be called from many threads at once. Scratch comes from the arena. Returns
 * FC_OK or FC_NO_MEMORY (conv.h), then with unspecified output.
 */
#ifndef FC_ATTENTION_RNN_H
#define FC_ATTENTION_RNN_H

#include <stdint.h>

typedef struct {
    int dtype;                /* FC_F32 or FC_F64: of every array */
    int shared;               /* one matrix for all i, or k + 1 of them */
    int64_t steps, batch, n;
    int64_t window;           /* k; -1: all earlier states (then shared) */
    int64_t given;            /* states in h0: 0 or k; with window -1 any number p */
    const int64_t *lengths;   /* (B) real steps of each sequence, NULL: all have T. Steps past
                                 them have h = 0; x must be 0 there */
} fc_attention_rnn;

/* What backward needs. P = given; S = k or, with window -1, P; L = 1 if shared, else k. */
typedef struct {
    void *states;    /* (S + T, B, n)  h0 (or zeros), then h */
    void *grown;     /* (P + T, B, L, n)  (M_i + M_i^T) s of each state; of the last one unset */
    void *grown_x;   /* (T, B, n)  (M_0 + M_0^T) x */
    void *a;         /* (T, B, k + 1)  softmax; with window -1 (T, B): a_0 alone */
    void *mixed;     /* (T, B, n)  sum_i a_i s_i; shared only */
    void *scores;    /* (P + T, B)  of each state; this and the next two: window -1 only */
    void *m, *z;     /* (T, B)  a_i = exp(score_i - m) / z */
} fc_attention_tape;

/* x (T, B, n), w_* (k + 1, n, n) or shared (n, n), h0 (P, B, n) or NULL -> h (T, B, n).
 * tape NULL: none is kept, and a score takes half the work. With a tape h and h0 are parts of
 * tape->states, which the caller has filled with h0 or zeros up to h. */
int fc_attention_rnn_forward(const fc_attention_rnn *net, const void *x, const void *w_q,
                             const void *w_k, const void *w_v, const void *h0, void *h,
                             const fc_attention_tape *tape, int threads);

/* grad (S + T, B, n): on entry zeros, then the direct gradient of every h[t] (0 past a length);
 * on return the total one, of what stands before the start and of h. -> dx as x, dw_* as w_*. */
int fc_attention_rnn_backward(const fc_attention_rnn *net, void *grad, const void *x,
                              const void *w_q, const void *w_k, const void *w_v,
                              const fc_attention_tape *tape, void *dx, void *dw_q, void *dw_k,
                              void *dw_v, int threads);

#endif
