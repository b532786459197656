/* AttentionRNN forward. A score depends on a state alone, so it is computed once, when the state
 * is born, and waits in a ring until the window has passed it. With M_i = Q_i^T K_i, once per
 * call, it is the quadratic form w_i = s^T M_i s:
 *
 *     without a tape  s^T U s, U upper triangular with U + U^T = M + M^T: half a product
 *     with one        s^T (M + M^T) s / 2, and (M + M^T) s stays on the tape for backward
 *
 * x's own scores come from one product over all steps. Then, step by step,
 *
 *     separate    h[t] = a_0 V_0 x + [a_1 s_1, ..., a_k s_k] [V_1, ..., V_k]^T
 *     shared      h[t] = V (a_0 x + a_1 s_1 + ... + a_k s_k): one product, whatever k is
 *     infinite    the same, the sum carried on from step to step
 *
 * Sequences are independent: each thread takes some through all steps and waits for nobody.
 */
#include "attention_job.h"

#include <float.h>

typedef struct {
    fc_attention_sizes s;
    const void *x, *w_q, *w_k, *w_v, *h0;
    void *h;
    const fc_attention_tape *tape;
    int64_t *row_n, *row_cols, *tap_a, *tap_b;   /* i * n, i * lags * n; offsets of the taps */
    fc_panels score_x, score_lag;     /* M_0; that of the lags: [lag] triangles, or all as one */
    fc_panels value_x, value_lag;     /* V_0^T (separate); all V_i^T as taps */
    fc_in *member_in;                 /* 2 (k + 1) operands of each member */
    int64_t triangle_length;          /* elements of the panels of one triangle */
    void *symmetric;                  /* (n, lags, n): M_i + M_i^T side by side */
    void *member_pack, *member_m, *member_y;   /* scratch of each member */
    int64_t pack_length, y_length;
    void *wx;                         /* (T, B) scores of x */
    void *ring;                       /* scores of states: (k, B, k), (k, B), or of the last (B) */
    void *a;                          /* (B, k + 1) */
    void *mixed;                      /* (B, n), or (B, k, n) scaled states */
    void *mu, *d, *d_lost, *num, *num_lost, *m, *z;   /* infinite: see fc_online */
} job;

/* --- scratch -------------------------------------------------------------------------------- */

static fc_panels panels(const fc_attention_sizes *s, uintptr_t *end, int64_t taps, int64_t cols,
                        int64_t width, const int64_t *tap)
{
    return (fc_panels){
        .at = fc_carve(end, fc_panels_length(taps * s->n, cols, width), s->size),
        .taps = taps, .k = s->n, .cols = cols, .width = width, .tap = tap,
    };
}

/* Lay out all scratch from `base` on; returns its size. */
static size_t lay_out(job *p, uintptr_t base, int team)
{
    const fc_attention_sizes *s = &p->s;
    const int64_t B = s->B, n = s->n, k = s->k, team_rows = (B + team - 1) / team;
    const int64_t width = fc_panel_width(s->kn, team_rows, n), rows = B > FC_ATTENTION_CHUNK ? B : FC_ATTENTION_CHUNK;
    uintptr_t end = base;
    p->row_n = fc_carve(&end, rows, sizeof(int64_t));
    p->row_cols = fc_carve(&end, rows, sizeof(int64_t));
    p->tap_a = fc_carve(&end, k + 1, sizeof(int64_t));
    p->tap_b = fc_carve(&end, k + 1, sizeof(int64_t));
    p->member_in = fc_carve(&end, team * 2 * (k + 1), sizeof(fc_in));

    p->score_x = panels(s, &end, 1, n, width, p->tap_b);
    p->score_x.triangle = !p->tape;
    if (s->net->shared) {
        p->score_lag = p->score_x;
        p->value_lag = p->value_x = panels(s, &end, 1, n, width, p->tap_b);
    } else {
        p->value_x = panels(s, &end, 1, n, width, p->tap_b);
        p->value_lag = panels(s, &end, k, n, width, p->tap_b);
        p->score_lag = p->score_x;
        if (p->tape)
            p->score_lag = panels(s, &end, 1, s->cols, fc_panel_width(s->kn, team_rows, s->cols), p->tap_b);
        else
            p->score_lag.at = fc_carve(&end, k * fc_panels_length(n, n, width), s->size);
    }
    p->triangle_length = fc_panels_length(n, n, width);
    p->symmetric = fc_carve(&end, p->tape ? n * s->cols : 0, s->size);
    p->pack_length = fc_round_up(fc_panels_length(n, n, s->kn->width), 64);
    p->member_pack = fc_carve(&end, team * p->pack_length, s->size);
    p->member_m = fc_carve(&end, team * n * n, s->size);
    p->y_length = fc_round_up(rows * n, 64);
    p->member_y = fc_carve(&end, p->tape ? 0 : team * p->y_length, s->size);

    p->wx = fc_carve(&end, s->T * B, s->size);
    p->ring = fc_carve(&end, s->infinite ? B : k * B * s->lags, s->size);
    p->a = fc_carve(&end, B * (k + 1), s->size);
    p->mixed = fc_carve(&end, B * (s->net->shared ? n : s->cols), s->size);
    void **const scalars[] = {&p->mu, &p->d, &p->d_lost, &p->m, &p->z};
    for (int i = 0; i < 5; i++)
        *scalars[i] = fc_carve(&end, s->infinite ? B : 0, s->size);
    p->num = fc_carve(&end, s->infinite ? B * n : 0, s->size);
    p->num_lost = fc_carve(&end, s->infinite ? B * n : 0, s->size);
    return end - base;
}

static void fill_tables(job *p)
{
    const fc_attention_sizes *s = &p->s;
    const int64_t rows = s->B > FC_ATTENTION_CHUNK ? s->B : FC_ATTENTION_CHUNK;
    for (int64_t i = 0; i < rows; i++) {
        p->row_n[i] = i * s->n;
        p->row_cols[i] = i * s->cols;
    }
    for (int64_t i = 0; i <= s->k; i++) {
        p->tap_a[i] = i * s->n;
        p->tap_b[i] = i * s->n * p->value_lag.width;
    }
}

/* --- matrices ------------------------------------------------------------------------------- */

/* M_i + M_i^T at m, rows m_row apart. */
static void symmetric_matrix(const job *p, int64_t i, int member, void *m, int64_t m_row)
{
    const fc_attention_sizes *s = &p->s;
    const int64_t n = s->n, zero = 0, matrix = i * n * n;
    const fc_panels key = {
        .at = fc_at(p->member_pack, member * p->pack_length, s->size),
        .taps = 1, .k = n, .cols = n, .width = fc_panel_width(s->kn, n, n), .tap = &zero,
    };
    fc_pack_tap(s, &key, 0, fc_at(p->w_k, matrix, s->size), n);
    for (int64_t a = 0; a < n; a += FC_ATTENTION_CHUNK) {
        int64_t column[FC_ATTENTION_CHUNK];   /* M[a, b] = sum over r of Q[r, a] K[r, b] */
        const int64_t count = n - a < FC_ATTENTION_CHUNK ? n - a : FC_ATTENTION_CHUNK;
        for (int64_t c = 0; c < count; c++)
            column[c] = a + c;
        for (int64_t j = 0; j < n; j += key.width) {
            const fc_gemm g = {
                .m = count, .n = n - j < key.width ? n - j : key.width, .taps = 1, .k = n,
                .a = fc_at(p->w_q, matrix, s->size), .a_row = column, .a_tap = &zero, .a_step = n,
                .b = fc_at(key.at, j * n, s->size), .b_tap = &zero, .b_step = key.width,
                .c = fc_at(m, a * m_row + j, s->size), .c_row = m_row,
            };
            s->kn->gemm(&g);
        }
    }
    s->kn->add_transpose(n, (fc_out){m, m_row}, key.at);
}

static void prepare_matrix(const job *p, int64_t i, int member)
{
    const fc_attention_sizes *s = &p->s;
    const int64_t n = s->n;
    void *m = fc_at(p->member_m, member * n * n, s->size);
    int64_t m_row = n;
    if (p->tape && i > 0) {
        m = fc_at(p->symmetric, (i - 1) * n, s->size);
        m_row = s->cols;
    }
    symmetric_matrix(p, i, member, m, m_row);
    if (!p->tape) {
        void *to = i == 0 ? p->score_x.at
                          : fc_at(p->score_lag.at, (i - 1) * p->triangle_length, s->size);
        s->kn->pack_triangle(n, (fc_in){m, n}, p->score_x.width, n * p->score_x.width, to);
    } else if (i == 0)
        fc_pack_tap(s, &p->score_x, 0, m, m_row);
    fc_pack_transposed(s, i == 0 ? &p->value_x : &p->value_lag, i == 0 ? 0 : i - 1,
                       fc_at(p->w_v, i * n * n, s->size), n);
}

static void prepare(void *context, int member, int team)
{
    const job *p = context;
    const int64_t matrices = p->s.net->shared ? 1 : p->s.k + 1;
    for (int64_t i = member; i < matrices; i += team)
        prepare_matrix(p, i, member);
}

/* --- scores --------------------------------------------------------------------------------- */

/* score[r] = s^T M s of `rows` states s; by the symmetric matrix, then `grown` takes (M + M^T) s,
 * or by the triangle, with the scratch y. */
static void score(const job *p, const fc_panels *matrix, int64_t rows, const void *states,
                  void *grown, void *y, fc_out out)
{
    const fc_attention_sizes *s = &p->s;
    const int64_t zero = 0, n = s->n;
    void *product = p->tape ? grown : y;
    fc_multiply(s, rows, states, p->row_n, &zero, 1, matrix, product, n, 0);
    s->kn->dots(rows, 1, n, (fc_in){states, n}, (fc_in){product, n}, p->tape ? 0.5 : 1, out);
}

/* x's terms, for all steps and sequences alike. */
static void inputs(void *context, int member, int team)
{
    const job *p = context;
    const fc_attention_sizes *s = &p->s;
    const int64_t n = s->n, rows = s->T * s->B, zero = 0;
    int64_t begin, end;
    fc_share((rows + FC_ATTENTION_CHUNK - 1) / FC_ATTENTION_CHUNK, member, team, &begin, &end);
    for (int64_t r = begin * FC_ATTENTION_CHUNK; r < end * FC_ATTENTION_CHUNK && r < rows; r += FC_ATTENTION_CHUNK) {
        const int64_t count = rows - r < FC_ATTENTION_CHUNK ? rows - r : FC_ATTENTION_CHUNK;
        const void *x = fc_at(p->x, r * n, s->size);
        score(p, &p->score_x, count, x, p->tape ? fc_at(p->tape->grown_x, r * n, s->size) : NULL,
              fc_at(p->member_y, member * p->y_length, s->size),
              (fc_out){fc_at(p->wx, r, s->size), 1});
        if (!s->net->shared)
            fc_multiply(s, count, x, p->row_n, &zero, 1, &p->value_x, fc_at(p->h, r * n, s->size), n, 0);
    }
}

/* h[t] for t >= 0, else a state of h0, of sequence b. */
static void *state(const job *p, int64_t t, int64_t b)
{
    const fc_attention_sizes *s = &p->s;
    return t >= 0 ? fc_at(p->h, (t * s->B + b) * s->n, s->size)
                  : fc_at(p->h0, ((t + s->given) * s->B + b) * s->n, s->size);
}

/* Where the score w_lag of h[t], sequence b and on, waits. */
static fc_out score_place(const job *p, int64_t t, int64_t lag, int64_t b)
{
    const fc_attention_sizes *s = &p->s;
    if (s->infinite)
        return p->tape ? (fc_out){fc_at(p->tape->scores, (t + s->given) * s->B + b, s->size), 1}
                       : (fc_out){fc_at(p->ring, b, s->size), 1};
    if (s->net->shared)
        return (fc_out){fc_at(p->ring, fc_slot(s, t) * s->B + b, s->size), 1};
    return (fc_out){fc_at(p->ring, (fc_slot(s, t) * s->B + b) * s->k + lag - 1, s->size), s->k};
}

/* The scores of h[t] for the lags first .. last (with a tape: for all). */
static void born(const job *p, int64_t t, int64_t first, int64_t last, int64_t b0, int64_t b1, int member)
{
    const fc_attention_sizes *s = &p->s;
    const int64_t n = s->n, zero = 0;
    void *h = state(p, t, b0), *y = fc_at(p->member_y, member * p->y_length, s->size);
    void *grown = p->tape ? fc_at(p->tape->grown, ((t + s->given) * s->B + b0) * s->cols, s->size) : NULL;
    if (s->net->shared) {
        score(p, &p->score_lag, b1 - b0, h, grown, y, score_place(p, t, 1, b0));
        return;
    }
    if (p->tape) {
        fc_multiply(s, b1 - b0, h, p->row_n, &zero, 1, &p->score_lag, grown, s->cols, 0);
        s->kn->dots(b1 - b0, s->k, n, (fc_in){h, n}, (fc_in){grown, s->cols}, 0.5, score_place(p, t, 1, b0));
        return;
    }
    for (int64_t lag = first; lag <= last; lag++) {
        fc_panels matrix = p->score_lag;
        matrix.at = fc_at(matrix.at, (lag - 1) * p->triangle_length, s->size);
        score(p, &matrix, b1 - b0, h, NULL, y, score_place(p, t, lag, b0));
    }
}

/* The states of h0, for those lags that a step will look back by. */
static void born_before(const job *p, int64_t b0, int64_t b1, int member)
{
    const fc_attention_sizes *s = &p->s;
    for (int64_t t = -s->given; t < 0; t++)
        born(p, t, -t, s->k < s->T - 1 - t ? s->k : s->T - 1 - t, b0, b1, member);
}

/* --- the recurrence ------------------------------------------------------------------------- */

/* a = softmax(w_0 .. w_k) of step t: where nothing stands before the start, the score is 0. */
static void *attend(const job *p, int64_t t, int64_t b0, int64_t b1, fc_in *in)
{
    const fc_attention_sizes *s = &p->s;
    const int64_t each = s->k + 1;
    void *a = p->tape ? fc_at(p->tape->a, (t * s->B + b0) * each, s->size) : fc_at(p->a, b0 * each, s->size);
    in[0] = (fc_in){fc_at(p->wx, t * s->B + b0, s->size), 1};
    for (int64_t i = 1; i <= s->k; i++) {
        const fc_out place = score_place(p, t - i, i, b0);
        in[i] = t - i >= -s->given ? (fc_in){place.at, place.row} : (fc_in){0};
    }
    s->kn->softmax_rows(b1 - b0, each, in, a);
    fc_clear_ended(s, t, b0, b1, a, each);
    return a;
}

/* h[t] = a_0 V_0 x + sum_i V_i (a_i s_i); V_0 x stands in h[t] already. */
static void separate_step(const job *p, int64_t t, int64_t b0, int64_t b1, fc_in *in)
{
    const fc_attention_sizes *s = &p->s;
    const int64_t n = s->n, each = s->k + 1, reach = s->k < t + s->given ? s->k : t + s->given;
    void *a = attend(p, t, b0, b1, in), *h = state(p, t, b0);
    void *scaled = fc_at(p->mixed, b0 * s->cols, s->size);
    fc_out *out = (fc_out *)(in + each);
    for (int64_t i = 0; i <= reach; i++) {
        in[i] = (fc_in){state(p, t - i, b0), n};
        out[i] = i ? (fc_out){fc_at(scaled, (i - 1) * n, s->size), s->cols} : (fc_out){h, n};
    }
    s->kn->scale_rows(b1 - b0, reach + 1, n, (fc_in){a, each}, in, out);
    fc_multiply(s, b1 - b0, scaled, p->row_cols, p->tap_a, reach, &p->value_lag, h, n, 1);
}

/* h[t] = V (sum_i a_i s_i) */
static void shared_step(const job *p, int64_t t, int64_t b0, int64_t b1, fc_in *in)
{
    const fc_attention_sizes *s = &p->s;
    const int64_t n = s->n, each = s->k + 1, zero = 0, reach = s->k < t + s->given ? s->k : t + s->given;
    fc_in *weight = in, *source = in + each;
    void *a = attend(p, t, b0, b1, in);
    void *mixed = p->tape ? fc_at(p->tape->mixed, (t * s->B + b0) * n, s->size) : fc_at(p->mixed, b0 * n, s->size);
    for (int64_t i = 0; i <= reach; i++) {
        weight[i] = (fc_in){fc_at(a, i, s->size), each};
        source[i] = (fc_in){i ? state(p, t - i, b0) : fc_at(p->x, (t * s->B + b0) * n, s->size), n};
    }
    s->kn->mix(b1 - b0, n, reach + 1, weight, source, (fc_out){mixed, n});
    fc_multiply(s, b1 - b0, mixed, p->row_n, &zero, 1, &p->value_lag, state(p, t, b0), n, 0);
}

/* h[t] = V (a_0 x + sum_j a_j h_j), after the newest state h[t-1] has joined the sum. With
 * x_too = 0 it only joins. */
static void infinite_step(const job *p, int64_t t, int64_t b0, int64_t b1, int x_too)
{
    const fc_attention_sizes *s = &p->s;
    const fc_attention_tape *tape = p->tape;
    const int64_t n = s->n, zero = 0, at = t * s->B + b0;
    const int newest = t - 1 >= -s->given;
    void *mixed = tape && x_too ? fc_at(tape->mixed, at * n, s->size) : fc_at(p->mixed, b0 * n, s->size);
    const fc_online step = {
        .rows = b1 - b0, .n = n, .step = t, .lengths = s->net->lengths ? s->net->lengths + b0 : NULL,
        .s = newest ? state(p, t - 1, b0) : NULL, .w = score_place(p, newest ? t - 1 : t, 1, b0).at,
        .x = x_too ? fc_at(p->x, at * n, s->size) : NULL, .wx = x_too ? fc_at(p->wx, at, s->size) : NULL,
        .mu = fc_at(p->mu, b0, s->size), .d = fc_at(p->d, b0, s->size), .d_lost = fc_at(p->d_lost, b0, s->size),
        .num = fc_at(p->num, b0 * n, s->size), .num_lost = fc_at(p->num_lost, b0 * n, s->size),
        .c = mixed,
        .a = tape && x_too ? fc_at(tape->a, at, s->size) : fc_at(p->a, b0, s->size),
        .m = tape && x_too ? fc_at(tape->m, at, s->size) : fc_at(p->m, b0, s->size),
        .z = tape && x_too ? fc_at(tape->z, at, s->size) : fc_at(p->z, b0, s->size),
    };
    s->kn->online(&step);
    if (x_too)
        fc_multiply(s, b1 - b0, mixed, p->row_n, &zero, 1, &p->value_lag, state(p, t, b0), n, 0);
}

/* No state yet: the maximum is the lowest number there is. */
static void infinite_start(const job *p, int64_t b0, int64_t b1, int member)
{
    const fc_attention_sizes *s = &p->s;
    for (int64_t b = b0; b < b1; b++)
        if (s->net->dtype == FC_F32)
            ((float *)p->mu)[b] = -FLT_MAX;
        else
            ((double *)p->mu)[b] = -DBL_MAX;
    void *const zeros[] = {p->d, p->d_lost, p->num, p->num_lost};
    for (int i = 0; i < 4; i++) {
        const int64_t each = i < 2 ? 1 : s->n;
        memset(fc_at(zeros[i], b0 * each, s->size), 0, (size_t)((b1 - b0) * each) * s->size);
    }
    for (int64_t t = -s->given; t < 0; t++) {
        born(p, t, 1, 1, b0, b1, member);
        if (t < -1)
            infinite_step(p, t + 1, b0, b1, 0);
    }
}

static void recur(void *context, int member, int team)
{
    const job *p = context;
    const fc_attention_sizes *s = &p->s;
    int64_t b0, b1;
    fc_batch_share(s, member, team, &b0, &b1);
    if (b0 >= b1)
        return;
    fc_in *in = fc_at(p->member_in, member * 2 * (s->k + 1), sizeof(fc_in));
    if (s->infinite)
        infinite_start(p, b0, b1, member);
    else
        born_before(p, b0, b1, member);
    for (int64_t t = 0; t < s->T; t++) {
        if (s->infinite)
            infinite_step(p, t, b0, b1, 1);
        else if (s->net->shared)
            shared_step(p, t, b0, b1, in);
        else
            separate_step(p, t, b0, b1, in);
        fc_clear_ended(s, t, b0, b1, state(p, t, b0), s->n);
        if (t + 1 < s->T && (s->infinite || s->k > 0))
            born(p, t, 1, s->k < s->T - 1 - t ? s->k : s->T - 1 - t, b0, b1, member);
    }
}

/* --- the call ------------------------------------------------------------------------------- */

/* Multiply-adds, counted twice: three products a state with a tape, two and a half without. */
static double work(const fc_attention_sizes *s)
{
    return 2.0 * (double)(s->T * s->B) * (double)(s->n * s->n) * (double)(1 + s->lags) * 1.5;
}

int fc_attention_rnn_forward(const fc_attention_rnn *net, const void *x, const void *w_q,
                             const void *w_k, const void *w_v, const void *h0, void *h,
                             const fc_attention_tape *tape, int threads)
{
    job p = {.s = fc_attention_measure(net), .x = x, .w_q = w_q, .w_k = w_k, .w_v = w_v, .h0 = h0,
             .h = h, .tape = tape};
    const fc_attention_sizes *s = &p.s;
    threads = fc_useful_threads(threads, work(s));
    const int team = fc_team_size(threads);
    const size_t bytes = lay_out(&p, 0, team);
    void *scratch = fc_arena_take(bytes);
    if (!scratch)
        return FC_NO_MEMORY;
    lay_out(&p, (uintptr_t)scratch, team);
    fill_tables(&p);
    fc_parallel(s->net->shared ? 1 : team, prepare, &p);
    if (tape && !net->shared)
        fc_pack_tap(s, &p.score_lag, 0, p.symmetric, s->cols);
    fc_parallel(team, inputs, &p);
    fc_parallel(s->B < team ? (int)s->B : team, recur, &p);
    fc_arena_give(scratch);
    return FC_OK;
}
