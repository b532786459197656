/* AttentionRNN: a single step with separate matrices, without a tape.
 *
 * Each matrix meets one state of each sequence, too few for M_i = Q_i^T K_i to pay: the score is
 * (Q_i s).(K_i s), as written. The matrices are read where they lie; lanes are sequences. A step
 * of one sequence, n 256, k 8, takes 0.4 in place of 4.2 ms; of 32 1.3 in place of 5.0.
 */
#include "attention_rnn_forward.h"

typedef struct {
    int64_t *row_n;           /* i * n */
    int64_t width;            /* B in whole vectors */
    void *states;             /* (n, width): of one lag */
    void *products;           /* (n, B) */
    void *q, *key;            /* (B, n) */
    void *values;             /* (k + 1, B, n) */
    void *scores, *a;         /* (k + 1, B), (B, k + 1) */
    fc_in *in;                /* 3 (k + 1) operands */
} scratch;

static size_t lay_out(const fc_attention_sizes *s, char *base, scratch *p)
{
    const int64_t rows = s->B * s->n * s->size, each = s->k + 1;
    size_t used = 0;
    p->width = fc_round_up(s->B, s->kn->lanes);
    p->row_n = fc_carve(base, &used, s->n * (int64_t)sizeof(int64_t));
    p->states = fc_carve(base, &used, s->n * p->width * s->size);
    p->products = fc_carve(base, &used, rows);
    p->q = fc_carve(base, &used, rows);
    p->key = fc_carve(base, &used, rows);
    p->values = fc_carve(base, &used, each * rows);
    p->scores = fc_carve(base, &used, each * s->B * s->size);
    p->a = fc_carve(base, &used, each * s->B * s->size);
    p->in = fc_carve(base, &used, 3 * each * (int64_t)sizeof(fc_in));
    return used;
}

/* W s (B, n) of the states s in p->states. */
static void multiply_states(const fc_attention_sizes *s, const scratch *p, const void *w, void *to)
{
    const int64_t zero = 0;
    const fc_gemm g = {
        .m = s->n, .n = s->B, .taps = 1, .k = s->n,
        .a = w, .a_row = p->row_n, .a_tap = &zero, .a_step = 1,
        .b = p->states, .b_tap = &zero, .b_step = p->width, .c = p->products, .c_row = s->B,
    };
    s->kn->gemm(&g);
    s->kn->pack_transposed(p->products, s->B, s->n, s->B, s->n, to);
}

/* The score and the value of what stands i steps back: x, or a state of h0. */
static void attend_to(const fc_attention_sizes *s, const scratch *p, int64_t i, const void *state,
                      const void *w_q, const void *w_k, const void *w_v)
{
    const int64_t n = s->n, B = s->B, matrix = i * n * n;
    s->kn->pack_transposed(state, n, B, n, p->width, p->states);
    multiply_states(s, p, fc_at(w_q, matrix, s->size), p->q);
    multiply_states(s, p, fc_at(w_k, matrix, s->size), p->key);
    multiply_states(s, p, fc_at(w_v, matrix, s->size), fc_at(p->values, i * B * n, s->size));
    s->kn->dots(B, 1, n, (fc_in){p->q, n}, (fc_in){p->key, n}, 1,
                (fc_out){fc_at(p->scores, i * B, s->size), 1});
}

int fc_attention_step(const fc_attention_sizes *s, const void *x, const void *w_q, const void *w_k,
                      const void *w_v, const void *h0, void *h)
{
    const int64_t n = s->n, B = s->B, each = s->k + 1;
    const int64_t states = 1 + fc_least(s->k, s->given);   /* the others score 0 and are 0 */
    scratch p;
    char *base = fc_arena_take(lay_out(s, NULL, &p));
    if (!base)
        return FC_NO_MEMORY;
    lay_out(s, base, &p);
    memset(p.states, 0, (size_t)(n * p.width * s->size));
    for (int64_t i = 0; i < n; i++)
        p.row_n[i] = i * n;
    fc_in *score = p.in, *weight = score + each, *source = weight + each;
    for (int64_t i = 0; i < each; i++) {
        score[i] = i < states ? (fc_in){fc_at(p.scores, i * B, s->size), 1} : (fc_in){0};
        weight[i] = (fc_in){fc_at(p.a, i, s->size), each};
        source[i] = (fc_in){fc_at(p.values, i * B * n, s->size), n};
    }
    attend_to(s, &p, 0, x, w_q, w_k, w_v);
    for (int64_t i = 1; i < states; i++)
        attend_to(s, &p, i, fc_at(h0, (s->given - i) * B * n, s->size), w_q, w_k, w_v);
    s->kn->softmax_rows(B, each, score, p.a);
    fc_clear_ended(s, 0, 0, B, p.a, each);
    s->kn->mix(B, n, states, weight, source, (fc_out){h, n});
    fc_clear_ended(s, 0, 0, B, h, n);
    fc_arena_give(base);
    return FC_OK;
}
