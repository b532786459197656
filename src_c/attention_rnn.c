/* AttentionRNN forward. A score depends on a state alone, so it is computed once, when the state
 * is born, and waits in a ring until the window has passed it. With M_i = Q_i^T K_i, once per
 * call, it is the quadratic form w_i = s^T M_i s:
 *
 *     without a tape  s^T U s, U upper triangular with U + U^T = M + M^T: half a product
 *     with one        s^T (M + M^T) s / 2, and (M + M^T) s stays on the tape for backward
 *
 * x's own scores come from one product over all steps. Then, step by step,
 *
 *     separate    h[t] = a_0 V_0 x + a_1 V_1 s_1 + ... + a_k V_k s_k, where V_i s of a state too
 *                 is computed when it is born, or as soon as a few more are (fc_lag_class)
 *     shared      h[t] = V (a_0 x + a_1 s_1 + ... + a_k s_k): one product, whatever k is
 *     infinite    the same, the sum carried on from step to step
 *
 * Sequences are independent: some at a time go through some steps, a task for whichever thread is
 * free.
 */
#include "attention_rnn_forward.h"

#include <float.h>

typedef fc_attention_forward job;

/* --- scratch -------------------------------------------------------------------------------- */

/* The matrices that states meet. */
static void lay_out_lags(job *p, char *base, size_t *used, int64_t rows)
{
    const fc_attention_sizes *s = &p->s;
    for (int c = 0; c < p->classes; c++) {
        const int64_t cols = (p->of[c].last - p->of[c].first + 1) * s->n, group = p->of[c].group;
        p->value_lag[c] = fc_carve_panels(s, base, used, cols, group * rows);
        if (p->tape)
            p->score_lag[c] = fc_carve_panels(s, base, used, cols, group * rows);
    }
    p->triangle_length = fc_panels_length(s->n, s->n, p->score_x.width);
    p->triangles = fc_carve(base, used,
                            (s->net->shared || p->tape ? 0 : s->k * p->triangle_length) * s->size);
}

/* Lay out all scratch from `base` on; returns its size. */
static size_t lay_out(job *p, char *base, int team)
{
    const fc_attention_sizes *s = &p->s;
    const int64_t B = s->B, n = s->n, k = s->k, group = p->group;
    const int64_t rows = fc_most_rows(s, p->classes, p->of);
    size_t used = 0;
    p->row_n = fc_carve(base, &used, rows * (int64_t)sizeof(int64_t));
    p->member_in = fc_carve(base, &used, team * 2 * (k + 1) * (int64_t)sizeof(fc_in));

    p->score_x = fc_carve_panels(s, base, &used, n, group);
    p->score_x.triangle = !p->tape;
    p->value_x = fc_carve_panels(s, base, &used, n, group);
    lay_out_lags(p, base, &used, group);
    p->symmetric = fc_carve(base, &used, (p->tape && !s->net->shared ? n * s->cols : 0) * s->size);
    p->pack_length = fc_round_up(fc_panels_length(n, n, s->kn->width), 64);
    p->member_pack = fc_carve(base, &used, team * p->pack_length * s->size);
    p->member_m = fc_carve(base, &used, team * n * n * s->size);
    p->y_length = fc_round_up(rows * n, 64);
    p->member_y = fc_carve(base, &used, (p->tape ? 0 : team * p->y_length) * s->size);

    p->wx = fc_carve(base, &used, s->T * B * s->size);
    p->ring = fc_carve(base, &used, (s->infinite ? B : p->slots * B * s->lags) * s->size);
    p->values = fc_carve(base, &used, (s->net->shared ? 0 : p->slots * B * s->cols) * s->size);
    p->a = fc_carve(base, &used, B * (k + 1) * s->size);
    p->mixed = fc_carve(base, &used, (s->net->shared ? B * n : 0) * s->size);
    void **const scalars[] = {&p->mu, &p->d, &p->d_lost, &p->m, &p->z};
    for (int i = 0; i < 5; i++)
        *scalars[i] = fc_carve(base, &used, (s->infinite ? B : 0) * s->size);
    p->num = fc_carve(base, &used, (s->infinite ? B * n : 0) * s->size);
    p->num_lost = fc_carve(base, &used, (s->infinite ? B * n : 0) * s->size);
    p->work.done = fc_carve(base, &used, (B + group - 1) / group * (int64_t)sizeof(int64_t));
    for (int64_t i = 0; base && i < rows; i++)
        p->row_n[i] = i * n;
    return used;
}

/* --- the recurrence ------------------------------------------------------------------------- */

/* a = softmax(w_0 .. w_k) of step t: where nothing stands before the start, the score is 0. */
static void *attend(const job *p, int64_t t, int64_t b0, int64_t b1, fc_in *in)
{
    const fc_attention_sizes *s = &p->s;
    const int64_t each = s->k + 1;
    void *a = p->tape ? fc_at(p->tape->a, (t * s->B + b0) * each, s->size)
                      : fc_at(p->a, b0 * each, s->size);
    in[0] = (fc_in){fc_at(p->wx, t * s->B + b0, s->size), 1};
    for (int64_t i = 1; i <= s->k; i++) {
        const fc_out place = fc_score_place(p, t - i, i, b0);
        in[i] = t - i >= -s->given ? (fc_in){place.at, place.row} : (fc_in){0};
    }
    s->kn->softmax_rows(b1 - b0, each, in, a);
    fc_clear_ended(s, t, b0, b1, a, each);
    return a;
}

/* h[t] = V mixed[t], shared matrices; meanwhile what born will write is brought to L2. */
static void shared_state(const job *p, int64_t t, int64_t b0, int64_t b1, const void *mixed)
{
    const fc_attention_sizes *s = &p->s;
    void *grown = p->tape && t + 1 < s->T ? fc_grown_place(p, t, 1, b0) : NULL;
    fc_soon soon = fc_nothing_soon();
    fc_want_rows(s, &soon, grown, 0, b1 - b0, s->n);
    fc_multiply(s, b1 - b0, mixed, p->row_n, &p->value_x, fc_state_at(p, t, b0), s->n, &soon);
}

/* h[t] = a_0 V_0 x + sum_i a_i V_i s_i, V_0 x stands in h[t] already; or shared, V times
 * a_0 x + sum_i a_i s_i. */
static void finite_step(const job *p, int64_t t, int64_t b0, int64_t b1, fc_in *in)
{
    const fc_attention_sizes *s = &p->s;
    const int64_t n = s->n, each = s->k + 1, reach = s->k < t + s->given ? s->k : t + s->given;
    const int shared = s->net->shared;
    fc_in *weight = in, *source = in + each;
    void *a = attend(p, t, b0, b1, in), *h = fc_state_at(p, t, b0), *mixed = h;
    const void *x = fc_at(p->x, (t * s->B + b0) * n, s->size);
    if (shared)
        mixed = p->tape ? fc_at(p->tape->mixed, (t * s->B + b0) * n, s->size)
                        : fc_at(p->mixed, b0 * n, s->size);
    for (int64_t i = 0; i <= reach; i++) {
        weight[i] = (fc_in){fc_at(a, i, s->size), each};
        if (i && !shared) {
            const fc_out value = fc_value_place(p, t - i, i, b0);
            source[i] = (fc_in){value.at, value.row};
        } else
            source[i] = (fc_in){i ? fc_state_at(p, t - i, b0) : shared ? x : h, n};
    }
    s->kn->mix(b1 - b0, n, reach + 1, weight, source, (fc_out){mixed, n});
    if (shared)
        shared_state(p, t, b0, b1, mixed);
}

/* h[t] = V (a_0 x + sum_j a_j h_j), after the newest state h[t-1] has joined the sum. With
 * x_too = 0 it only joins. */
static void infinite_step(const job *p, int64_t t, int64_t b0, int64_t b1, int x_too)
{
    const fc_attention_sizes *s = &p->s;
    const fc_attention_tape *tape = p->tape;
    const int64_t n = s->n, at = t * s->B + b0;
    const int newest = t - 1 >= -s->given;
    void *mixed = tape && x_too ? fc_at(tape->mixed, at * n, s->size)
                                : fc_at(p->mixed, b0 * n, s->size);
    const fc_online step = {
        .rows = b1 - b0, .n = n, .step = t,
        .lengths = s->net->lengths ? s->net->lengths + b0 : NULL,
        .s = newest ? fc_state_at(p, t - 1, b0) : NULL,
        .w = fc_score_place(p, newest ? t - 1 : t, 1, b0).at,
        .x = x_too ? fc_at(p->x, at * n, s->size) : NULL,
        .wx = x_too ? fc_at(p->wx, at, s->size) : NULL,
        .mu = fc_at(p->mu, b0, s->size), .d = fc_at(p->d, b0, s->size),
        .d_lost = fc_at(p->d_lost, b0, s->size),
        .num = fc_at(p->num, b0 * n, s->size), .num_lost = fc_at(p->num_lost, b0 * n, s->size),
        .c = mixed,
        .a = tape && x_too ? fc_at(tape->a, at, s->size) : fc_at(p->a, b0, s->size),
        .m = tape && x_too ? fc_at(tape->m, at, s->size) : fc_at(p->m, b0, s->size),
        .z = tape && x_too ? fc_at(tape->z, at, s->size) : fc_at(p->z, b0, s->size),
    };
    s->kn->online(&step);
    if (x_too)
        shared_state(p, t, b0, b1, mixed);
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
        fc_state_born(p, t, b0, b1, member);
        if (t < -1)
            infinite_step(p, t + 1, b0, b1, 0);
    }
}

/* The next block of steps of a group of sequences. */
static void recur(void *context, int member, int64_t chain, int64_t link)
{
    const job *p = context;
    const fc_attention_sizes *s = &p->s;
    const int64_t groups = (s->B + p->group - 1) / p->group;
    const int64_t b0 = fc_group_of_chain(groups, chain) * p->group;
    const int64_t b1 = b0 + p->group < s->B ? b0 + p->group : s->B;
    const int64_t t0 = link * p->block, t1 = t0 + p->block < s->T ? t0 + p->block : s->T;
    fc_in *in = fc_at(p->member_in, member * 2 * (s->k + 1), sizeof(fc_in));
    if (t0 == 0 && s->infinite)
        infinite_start(p, b0, b1, member);
    for (int64_t t = -s->given; t0 == 0 && !s->infinite && t < 0; t++)
        fc_state_born(p, t, b0, b1, member);
    for (int64_t t = t0; t < t1; t++) {
        if (s->infinite)
            infinite_step(p, t, b0, b1, 1);
        else
            finite_step(p, t, b0, b1, in);
        fc_clear_ended(s, t, b0, b1, fc_state_at(p, t, b0), s->n);
        if (t + 1 < s->T && (s->infinite || s->k > 0))
            fc_state_born(p, t, b0, b1, member);
    }
}

/* --- the call ------------------------------------------------------------------------------- */

static void forward_member(void *context, int member, int team)
{
    job *p = context;
    (void)team;
    fc_run_stages(&p->work, p, member);
}

int fc_attention_rnn_forward(const fc_attention_rnn *net, const void *x, const void *w_q,
                             const void *w_k, const void *w_v, const void *h0, void *h,
                             const fc_attention_tape *tape, int threads)
{
    job p = {.s = fc_attention_measure(net), .x = x, .w_q = w_q, .w_k = w_k, .w_v = w_v, .h0 = h0,
             .h = h, .tape = tape};
    const fc_attention_sizes *s = &p.s;
    if (s->T == 1 && !net->shared && !tape)
        return fc_attention_step(s, x, w_q, w_k, w_v, h0, h);
    const int team = fc_team_size(fc_attention_threads(s, threads, 1, 0.5));
    p.group = fc_attention_group(s, team);
    p.block = fc_attention_block(s, p.group, team);
    if (!net->shared)
        p.classes = fc_classify_lags(s, p.group, p.of);
    p.slots = net->shared ? (s->k > 0 ? s->k : 1) : fc_slots(s, p.classes, p.of);
    const fc_stage stages[] = {
        {net->shared ? 1 : s->k + 1, 1, fc_prepare_matrices},
        {tape ? p.classes : 0, 1, fc_pack_scores},
        {(s->T * s->B + FC_ATTENTION_CHUNK - 1) / FC_ATTENTION_CHUNK, 1, fc_score_inputs},
        {(s->B + p.group - 1) / p.group, (s->T + p.block - 1) / p.block, recur},
    };
    p.work.stages = stages;
    p.work.count = sizeof stages / sizeof *stages;
    const size_t bytes = lay_out(&p, NULL, team);
    char *scratch = fc_arena_take(bytes);
    if (!scratch)
        return FC_NO_MEMORY;
    lay_out(&p, scratch, team);
    fc_parallel(team, forward_member, &p);
    fc_arena_give(scratch);
    return FC_OK;
}
