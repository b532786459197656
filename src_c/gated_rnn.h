/* The gated recurrent network: whole sequences, forward and back through time.
 *
 *     s[t] = W_c x[t] + W_h h[t-1] + b_c;   c[t] = sigmoid(s[t]);   u[t] = W_x x[t] + b_x
 *     h[t] = c[t] * h[t-1] + (1 - c[t]) * u[t]
 *
 * T steps, B sequences, n inputs, m states:
 *
 *     x (T, B, n)   w_c, w_x (m, n)   w_h (m, m)   b_c, b_x (m)   h0 (B, m)   h (T, B, m)
 *
 * or x (B, T, n) and h (B, T, m) where batch_first is set; everything shaped like x or h follows.
 * Arrays are C-contiguous, aligned to their element, owned by the caller; no output overlaps
 * anything else. From a sequence's length on, h is 0 and no gradient flows.
 *
 * Every function may use up to `threads` threads (it takes fewer where that is faster), gives
 * the same bits for any number of them and, for a sequence, in whatever batch; may be called
 * from many threads at once; takes scratch from the arena. Returns FC_OK or FC_NO_MEMORY, then
 * with unspecified output.
 */
#ifndef FC_GATED_RNN_H
#define FC_GATED_RNN_H

#include <stdint.h>

typedef struct {
    int dtype;                /* FC_F32 or FC_F64: of every array */
    int batch_first;
    int64_t steps, batch, inputs, states;
    const int64_t *lengths;   /* (B), each 0 .. T, or NULL: all of them T */
} fc_gated_rnn;

/* The tape: what the way back needs beside the weights and h0. Copies of x and h, and c and u, the
 * steps always first, (T, B, n) and (T, B, m): so the way back finds a step's rows side by side. */
typedef struct { void *x, *h, *c, *u; } fc_gated_tape;

/* x, weights -> h and, unless its pointers are NULL, the tape. h0, b_c, b_x may be NULL: zeros. */
int fc_gated_rnn_forward(const fc_gated_rnn *net, const void *x, const void *w_c, const void *w_h,
                         const void *w_x, const void *b_c, const void *b_x, const void *h0,
                         void *h, fc_gated_tape tape, int threads);

typedef struct { void *x, *w_c, *w_h, *w_x, *h0, *b_c, *b_x; } fc_gated_grads;

/* grad_h (as h) is the loss's direct gradient with respect to every h[t]; grad_last (B, m) or
 * NULL is added at each sequence's last step, or to h0's gradient where it has none. */
int fc_gated_rnn_backward(const fc_gated_rnn *net, const void *w_c, const void *w_h,
                          const void *w_x, const void *h0, fc_gated_tape tape, const void *grad_h,
                          const void *grad_last, fc_gated_grads grads, int threads);

#endif
