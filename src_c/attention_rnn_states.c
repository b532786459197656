/* AttentionRNN forward: what a state gives to later steps, computed when it is born
 * (attention_rnn.c), and the same of x, for all steps at once.
 *
 *     without a tape  score s^T U s, U the triangle of M + M^T
 *     with one        score s^T (M + M^T) s / 2, and (M + M^T) s stays on the tape
 *     separate        V_i s as well, for each lag i
 */
#include "attention_rnn_forward.h"

typedef fc_attention_forward job;

/* score[r] = s^T M s of `rows` states s; by the symmetric matrix, then `grown` takes (M + M^T) s,
 * or by the triangle, with the scratch y. `soon` may be NULL. */
static void score(const job *p, const fc_panels *matrix, int64_t rows, const void *states,
                  void *grown, void *y, fc_out out, fc_soon *soon)
{
    const fc_attention_sizes *s = &p->s;
    const int64_t n = s->n;
    void *product = p->tape ? grown : y;
    fc_multiply(s, rows, states, p->row_n, matrix, product, n, soon);
    s->kn->dots(rows, 1, n, (fc_in){states, n}, (fc_in){product, n}, p->tape ? 0.5 : 1, out);
}

/* x's terms of a chunk of rows, for all steps and sequences alike. */
void fc_score_inputs(void *context, int member, int64_t chunk, int64_t link)
{
    const job *p = context;
    const fc_attention_sizes *s = &p->s;
    const int64_t n = s->n, r = chunk * FC_ATTENTION_CHUNK, left = s->T * s->B - r;
    const int64_t count = left < FC_ATTENTION_CHUNK ? left : FC_ATTENTION_CHUNK;
    const void *x = fc_at(p->x, r * n, s->size);
    void *grown_x = p->tape ? p->tape->grown_x : NULL;
    fc_soon soon = fc_nothing_soon();
    (void)link;
    fc_want_rows(s, &soon, grown_x, r, count, n);
    fc_want_rows(s, &soon, s->net->shared ? NULL : p->h, r, count, n);
    fc_want_rows(s, &soon, p->x, r + count, fc_least(count, left - count), n);
    score(p, &p->score_x, count, x, p->tape ? fc_at(grown_x, r * n, s->size) : NULL,
          fc_at(p->member_y, member * p->y_length, s->size), (fc_out){fc_at(p->wx, r, s->size), 1},
          &soon);
    if (!s->net->shared)
        fc_multiply(s, count, x, p->row_n, &p->value_x, fc_at(p->h, r * n, s->size), n, &soon);
}

/* The scores of some states, from h[from] on, for the lags first .. last of a class: each as
 * soon as the panels that hold its columns are done, while (M + M^T) s is still in the caches. */
static void score_class(const job *p, int c, int64_t rows, int64_t from, int64_t first,
                        int64_t last, int64_t b0)
{
    const fc_attention_sizes *s = &p->s;
    const fc_panels *matrices = &p->score_lag[c];
    const int64_t n = s->n, of_first = p->of[c].first;
    const fc_in h = {fc_state_at(p, from, b0), n};
    int64_t done = (first - of_first) * n;
    for (int64_t lag = first; lag <= last; lag++) {
        const int64_t needed = (lag - of_first + 1) * n;
        if (done < needed) {
            const int64_t end = fc_least(fc_round_up(needed, matrices->width), matrices->cols);
            fc_multiply_columns(s, rows, h.at, p->row_n, matrices, done, end,
                                fc_grown_place(p, from, of_first, b0), s->cols, NULL);
            done = end;
        }
        s->kn->dots(rows, 1, n, h, (fc_in){fc_grown_place(p, from, lag, b0), s->cols}, 0.5,
                    fc_score_place(p, from, lag, b0));
    }
}

/* The values and scores of h[t], and of states before it that have waited, for the lags of one
 * class that some step looks back by. */
static void born_class(const job *p, int c, int64_t t, int64_t b0, int64_t b1, int member)
{
    const fc_attention_sizes *s = &p->s;
    const fc_lag_class *of = &p->of[c];
    const int64_t n = s->n, since = t - of->group + 1, from = since < -s->given ? -s->given : since;
    const int64_t first = of->first < -t ? -t : of->first, most = s->T - 1 - from;
    const int64_t last = of->last < most ? of->last : most, rows = (t - from + 1) * (b1 - b0);
    const int64_t begin = (first - of->first) * n, end = (last - of->first + 1) * n;
    const void *h = fc_state_at(p, from, b0);
    if (first > last)
        return;
    void *grown = p->tape && p->classes == 1 ? fc_grown_place(p, from, 1, b0) : NULL;
    fc_soon soon = fc_nothing_soon();
    fc_want_rows(s, &soon, grown, 0, rows, s->cols);
    fc_want_rows(s, &soon, t >= 0 ? p->h : NULL, (t + 1) * s->B + b0, b1 - b0, n);
    fc_multiply_columns(s, rows, h, p->row_n, &p->value_lag[c], begin, end,
                        fc_value_place(p, from, of->first, b0).at, s->cols, &soon);
    if (p->tape) {
        score_class(p, c, rows, from, first, last, b0);
        return;
    }
    fc_panels matrix = p->score_x;
    for (int64_t lag = first; lag <= last; lag++) {
        matrix.at = fc_at(p->triangles, (lag - 1) * p->triangle_length, s->size);
        score(p, &matrix, rows, h, NULL, fc_at(p->member_y, member * p->y_length, s->size),
              fc_score_place(p, from, lag, b0), NULL);
    }
}

/* The score of h[t] at every lag, shared matrices; the next step's x and the places of its mixture
 * and its state are brought to L2 meanwhile. */
static void score_shared(const job *p, int64_t t, int64_t b0, int64_t b1, int member)
{
    const fc_attention_sizes *s = &p->s;
    const int64_t next = (t + 1) * s->B + b0, rows = b1 - b0;
    fc_soon soon = fc_nothing_soon();
    if (t >= 0) {
        fc_want_rows(s, &soon, p->x, next, rows, s->n);
        fc_want_rows(s, &soon, p->tape ? p->tape->mixed : NULL, next, rows, s->n);
        fc_want_rows(s, &soon, p->h, next, rows, s->n);
    }
    score(p, &p->score_x, rows, fc_state_at(p, t, b0), p->tape ? fc_grown_place(p, t, 1, b0) : NULL,
          fc_at(p->member_y, member * p->y_length, s->size), fc_score_place(p, t, 1, b0), &soon);
}

/* What later steps will ask of h[t]. */
void fc_state_born(const job *p, int64_t t, int64_t b0, int64_t b1, int member)
{
    const fc_attention_sizes *s = &p->s;
    if (s->net->shared)
        score_shared(p, t, b0, b1, member);
    for (int c = 0; c < p->classes; c++)
        if ((t + p->slots + 1) % p->of[c].group == 0)
            born_class(p, c, t, b0, b1, member);
}
