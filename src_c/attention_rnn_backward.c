/* AttentionRNN backward, through time. With y_i = V_i^T g[t] and r = g[t].h[t], g the total
 * gradient of h[t] = sum_i a_i V_i s_i,
 *
 *     dw_i = a_i (y_i . s_i - r)                    the softmax couples all scores through r
 *     ds_i = a_i y_i + dw_i (M_i + M_i^T) s_i       added to g[t-i], or dx[t] for i = 0
 *
 * so of all products only y = V^T g waits for its turn; (M + M^T) s is on the tape, and
 *
 *     dV_i = sum_t g[t] (a_i s_i)^T;  G_i = sum_t dw_i s_i s_i^T;  dQ_i = K_i G_i;  dK_i = Q_i G_i
 *
 * come after the loop, over all steps at once (attention_rnn_sums.c).
 *
 * Shared matrices: y is one vector a step, r = y . (sum_i a_i s_i), and a state gathers
 * p = sum_i a_i[t+i] y[t+i] and sum_i a_i[t+i] r[t+i] before dw = p . s - that sum. An infinite
 * window carries the two sums from step to step: with a_i[t'] = exp(w_i - m[t']) / z[t'],
 * p = sum y[t'] exp(nu - m[t']) / z[t'] and likewise for r, nu the least m so far; then no
 * exponent is positive, since w_i <= m[t'] for all t' that look back at the state.
 */
#include "attention_rnn_back.h"

#include <float.h>

typedef fc_attention_back job;

/* --- scratch -------------------------------------------------------------------------------- */

static size_t lay_out(job *p, char *base, int team)
{
    const fc_attention_sizes *s = &p->s;
    const int64_t T = s->T, B = s->B, n = s->n, k = s->k;
    const int64_t shared = s->net->shared, group = p->group, groups = (B + group - 1) / group;
    const int64_t rows = fc_most_rows(s, p->classes, p->of);
    size_t used = 0;
    p->row_n = fc_carve(base, &used, (rows > n ? rows : n) * (int64_t)sizeof(int64_t));
    p->column = fc_carve(base, &used, n * (int64_t)sizeof(int64_t));
    p->member_in = fc_carve(base, &used, team * 2 * (k + 1) * (int64_t)sizeof(fc_in));

    p->value_x = fc_carve_panels(s, base, &used, n, group);
    for (int c = 0; c < p->classes; c++)
        p->value_lag[c] = fc_carve_panels(s, base, &used, (p->of[c].last - p->of[c].first + 1) * n,
                                          p->of[c].group * group);
    p->wide = fc_carve(base, &used, (shared ? 0 : n * s->cols) * s->size);
    p->y = fc_carve(base, &used, (shared ? T * B * n : p->slots * B * s->cols) * s->size);
    p->r = fc_carve(base, &used, T * B * s->size);
    p->dw = fc_carve(base, &used, T * B * (shared ? 1 : k + 1) * s->size);
    p->dw_states = fc_carve(base, &used, (shared ? (s->before + T) * B : 0) * s->size);
    void **const rows_of[] = {&p->p, &p->p_lost, &p->rho, &p->rho_lost, &p->nu, &p->e};
    for (int i = 0; i < 6; i++)
        *rows_of[i] = fc_carve(base, &used, (shared ? B * (i < 2 ? n : 1) : 0) * s->size);
    p->sums = fc_carve(base, &used, p->parts * n * p->width * s->size);

    p->pack_length = fc_round_up(p->depth * p->width, 64);
    p->member_pack = fc_carve(base, &used, team * p->pack_length * s->size);
    p->y_length = fc_round_up(FC_ATTENTION_CHUNK * n, 64);
    p->member_y = fc_carve(base, &used, team * p->y_length * s->size);
    p->work.done = fc_carve(base, &used,
                            (groups > p->parts ? groups : p->parts) * (int64_t)sizeof(int64_t));
    return used;
}

static void fill_tables(job *p)
{
    const fc_attention_sizes *s = &p->s;
    const int64_t rows = fc_most_rows(s, p->classes, p->of);
    for (int64_t i = 0; i < rows || i < s->n; i++)
        p->row_n[i] = i * s->n;
    for (int64_t i = 0; i < s->n; i++)
        p->column[i] = i;
}

/* V_i beside the others, separate matrices. */
static void widen_values(void *context, int member, int64_t lag, int64_t link)
{
    const job *p = context;
    const fc_attention_sizes *s = &p->s;
    const int64_t n = s->n;
    (void)member, (void)link;
    for (int64_t row = 0; row < n; row++)
        memcpy(fc_at(p->wide, row * s->cols + lag * n, s->size),
               fc_at(p->w_v, ((lag + 1) * n + row) * n, s->size), (size_t)n * s->size);
}

/* V_0, then classes of the lags. */
static void pack_values(void *context, int member, int64_t i, int64_t link)
{
    const job *p = context;
    const fc_attention_sizes *s = &p->s;
    const int64_t c = i - 1;
    (void)member, (void)link;
    if (i == 0)
        fc_pack(s, &p->value_x, p->w_v, s->n);
    else
        fc_pack(s, &p->value_lag[c], fc_at(p->wide, (p->of[c].first - 1) * s->n, s->size), s->cols);
}

/* --- addresses ------------------------------------------------------------------------------ */

static const void *state(const job *p, int64_t t, int64_t b)
{
    return fc_at(p->tape->states, ((p->s.before + t) * p->s.B + b) * p->s.n, p->s.size);
}

/* (M + M^T) s; of a zero before the start, that zero itself. */
static fc_in grown(const job *p, int64_t t, int64_t lag, int64_t b)
{
    const fc_attention_sizes *s = &p->s;
    if (t < -s->given)
        return (fc_in){state(p, t, b), s->n};
    const void *at = fc_at(p->tape->grown, ((s->given + t) * s->B + b) * s->cols + (lag - 1) * s->n,
                           s->size);
    return (fc_in){at, s->cols};
}

/* y_lag[t] = V_lag^T g[t], separate matrices. */
static fc_in y_place(const job *p, int64_t t, int64_t lag, int64_t b)
{
    const fc_attention_sizes *s = &p->s;
    const int64_t at = (t % p->slots * s->B + b) * s->cols + (lag - 1) * s->n;
    return (fc_in){fc_at(p->y, at, s->size), s->cols};
}

static void *step_row(const job *p, void *array, int64_t t, int64_t b, int64_t each)
{
    return fc_at(array, (t * p->s.B + b) * each, p->s.size);
}

/* --- the recurrence ------------------------------------------------------------------------- */

/* What g[t+i], already total, gives to h[t] as s_i. */
static void from_lag(const job *p, int64_t t, int64_t i, int64_t b0, int64_t b1)
{
    const fc_attention_sizes *s = &p->s;
    const int64_t n = s->n, each = s->k + 1, later = t + i;
    const fc_state_grad grad = {
        .rows = b1 - b0, .n = n, .add = 1,
        .e = {fc_at(step_row(p, p->tape->a, later, b0, each), i, s->size), each},
        .y = y_place(p, later, i, b0),
        .s = {state(p, t, b0), n}, .rho = {step_row(p, p->r, later, b0, 1), 1},
        .ns = grown(p, t, i, b0), .g = {fc_grad_at(p, t, b0), n},
        .dw = {fc_at(step_row(p, p->dw, later, b0, each), i, s->size), each},
    };
    s->kn->state_grad(&grad);
}

/* What earlier states will ask of g[t], and of a few later ones that have waited. Meanwhile what
 * the step before t will read is brought to L2. */
static void separate_products(const job *p, int64_t t, int64_t b0, int64_t b1)
{
    const fc_attention_sizes *s = &p->s;
    const int64_t row = (b1 - b0) * s->n * s->size;
    fc_soon soon = fc_nothing_soon();
    if (t > -s->given) {
        fc_want_soon(&soon, grown(p, t - 1, 1, b0).at, (b1 - b0) * s->cols * s->size);
        fc_want_soon(&soon, state(p, t - 1, b0), row);
        fc_want_soon(&soon, fc_grad_at(p, t - 1, b0), row);
    }
    for (int c = p->classes - 1; c >= 0; c--) {   /* lag 1, which waits for no others, at last */
        const fc_lag_class *of = &p->of[c];
        const int64_t steps = fc_least(of->group, s->T - t);
        if (t % of->group == 0)
            fc_multiply_columns(s, steps * (b1 - b0), fc_grad_at(p, t, b0), p->row_n,
                                &p->value_lag[c], 0, p->value_lag[c].cols,
                                (void *)y_place(p, t, of->first, b0).at, s->cols, c ? NULL : &soon);
    }
}

/* Steps t1 .. t0, backwards. */
static void separate_loop(const job *p, int64_t b0, int64_t b1, int64_t t0, int64_t t1)
{
    const fc_attention_sizes *s = &p->s;
    const int64_t n = s->n;
    for (int64_t t = t1; t >= t0; t--) {
        for (int64_t i = t < 0 ? -t : 1; i <= s->k && t + i < s->T; i++)
            from_lag(p, t, i, b0, b1);
        if (t < 0)
            continue;
        const fc_in g = {fc_grad_at(p, t, b0), n}, h = {state(p, t, b0), n};
        s->kn->dots(b1 - b0, 1, n, g, h, 1, (fc_out){step_row(p, p->r, t, b0, 1), 1});
        separate_products(p, t, b0, b1);
    }
}

/* y[t] = V^T g[t] and r[t] = y[t] . mixed[t]. Meanwhile what the step before t will read and
 * write is brought to L2. */
static void shared_products(const job *p, int64_t t, int64_t b0, int64_t b1)
{
    const fc_attention_sizes *s = &p->s;
    const int64_t n = s->n;
    const fc_in y = {step_row(p, p->y, t, b0, n), n};
    const int64_t rows = b1 - b0, before = (t - 1) * s->B + b0;
    fc_soon soon = fc_nothing_soon();
    if (t > 0) {
        fc_want_rows(s, &soon, grown(p, t - 1, 1, b0).at, 0, rows, n);
        fc_want_rows(s, &soon, state(p, t - 1, b0), 0, rows, n);
        fc_want_rows(s, &soon, fc_grad_at(p, t - 1, b0), 0, rows, n);
        fc_want_rows(s, &soon, p->tape->mixed, before, rows, n);
        fc_want_rows(s, &soon, p->y, before, rows, n);
    }
    fc_multiply(s, rows, fc_grad_at(p, t, b0), p->row_n, &p->value_x, (void *)y.at, n, &soon);
    s->kn->dots(b1 - b0, 1, n, y, (fc_in){step_row(p, p->tape->mixed, t, b0, n), n}, 1,
                (fc_out){step_row(p, p->r, t, b0, 1), 1});
}

/* g[t] += e p + dw (M + M^T) h[t] with dw = e (p . h[t] - rho). */
static void to_state(const job *p, int64_t t, int64_t b0, int64_t b1, const void *e)
{
    const fc_attention_sizes *s = &p->s;
    const int64_t n = s->n;
    const fc_state_grad grad = {
        .rows = b1 - b0, .n = n, .add = 1, .e = {e, 1},
        .y = {fc_at(p->p, b0 * n, s->size), n}, .rho = {fc_at(p->rho, b0, s->size), 1},
        .s = {state(p, t, b0), n}, .ns = grown(p, t, 1, b0), .g = {fc_grad_at(p, t, b0), n},
        .dw = {step_row(p, p->dw_states, s->before + t, b0, 1), 1},
    };
    s->kn->state_grad(&grad);
}

/* p = sum_i a_i[t+i] y[t+i], rho = sum_i a_i[t+i] r[t+i]. */
static void gather_later(const job *p, int64_t t, int64_t b0, int64_t b1, fc_in *in)
{
    const fc_attention_sizes *s = &p->s;
    const int64_t n = s->n, each = s->k + 1;
    fc_in *weight = in, *source = in + each;
    int64_t count = 0;
    for (int64_t i = t < 0 ? -t : 1; i <= s->k && t + i < s->T; i++, count++) {
        weight[count] = (fc_in){fc_at(step_row(p, p->tape->a, t + i, b0, each), i, s->size), each};
        source[count] = (fc_in){step_row(p, p->y, t + i, b0, n), n};
    }
    s->kn->mix(b1 - b0, n, count, weight, source, (fc_out){fc_at(p->p, b0 * n, s->size), n});
    for (int64_t i = t < 0 ? -t : 1, c = 0; c < count; i++, c++)
        source[c] = (fc_in){step_row(p, p->r, t + i, b0, 1), 1};
    s->kn->mix(b1 - b0, 1, count, weight, source, (fc_out){fc_at(p->rho, b0, s->size), 1});
}

static void shared_loop(const job *p, int64_t b0, int64_t b1, int64_t t0, int64_t t1, fc_in *in)
{
    const fc_attention_sizes *s = &p->s;
    for (int64_t t = t1; t >= t0; t--) {
        if (t < s->T - 1 && s->k > 0) {
            gather_later(p, t, b0, b1, in);
            to_state(p, t, b0, b1, NULL);
        }
        if (t >= 0)
            shared_products(p, t, b0, b1);
    }
}

/* No later step yet: the least m is the largest number there is. */
static void infinite_start(const job *p, int64_t b0, int64_t b1)
{
    const fc_attention_sizes *s = &p->s;
    for (int64_t b = b0; b < b1; b++)
        if (s->net->dtype == FC_F32)
            ((float *)p->nu)[b] = FLT_MAX;
        else
            ((double *)p->nu)[b] = DBL_MAX;
    void *const zeros[] = {p->p, p->p_lost, p->rho, p->rho_lost};
    for (int i = 0; i < 4; i++) {
        const int64_t each = i < 2 ? s->n : 1;
        memset(fc_at(zeros[i], b0 * each, s->size), 0, (size_t)((b1 - b0) * each) * s->size);
    }
}

static void infinite_loop(const job *p, int64_t b0, int64_t b1, int64_t t0, int64_t t1)
{
    const fc_attention_sizes *s = &p->s;
    const int64_t n = s->n;
    void *e = fc_at(p->e, b0, s->size);
    for (int64_t t = t1; t >= t0; t--) {
        if (t < s->T - 1) {
            const int later = t + 1 >= 0;   /* does step t + 1 look back, or is it in h0 too? */
            const fc_online_back step = {
                .rows = b1 - b0, .n = n,
                .y = later ? step_row(p, p->y, t + 1, b0, n) : NULL,
                .rho = later ? step_row(p, p->r, t + 1, b0, 1) : NULL,
                .m = later ? step_row(p, p->tape->m, t + 1, b0, 1) : NULL,
                .z = later ? step_row(p, p->tape->z, t + 1, b0, 1) : NULL,
                .nu = fc_at(p->nu, b0, s->size), .e = e,
                .p = fc_at(p->p, b0 * n, s->size), .p_lost = fc_at(p->p_lost, b0 * n, s->size),
                .r = fc_at(p->rho, b0, s->size), .r_lost = fc_at(p->rho_lost, b0, s->size),
                .w = step_row(p, p->tape->scores, s->given + t, b0, 1),
            };
            s->kn->online_back(&step);
            to_state(p, t, b0, b1, e);
        }
        if (t >= 0)
            shared_products(p, t, b0, b1);
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
    const int64_t t1 = s->T - 1 - link * p->block;
    const int64_t t0 = t1 - p->block < -s->before ? -s->before : t1 - p->block + 1;
    if (!s->net->shared) {
        separate_loop(p, b0, b1, t0, t1);
        return;
    }
    if (link == 0) {   /* nobody looks back at the last state */
        memset(step_row(p, p->dw_states, s->before + t1, b0, 1), 0, (size_t)(b1 - b0) * s->size);
        if (s->infinite)
            infinite_start(p, b0, b1);
    }
    if (s->infinite)
        infinite_loop(p, b0, b1, t0, t1);
    else
        shared_loop(p, b0, b1, t0, t1, fc_at(p->member_in, member * 2 * (s->k + 1), sizeof(fc_in)));
}

/* --- after the loop: x ---------------------------------------------------------------------- */

/* Of a chunk of rows dx = a_0 y + dw_0 (M_0 + M_0^T) x with y = V_0^T g, dw_0 = a_0 (y . x - r).
 * A window of x alone has a_0 = 1 and r = y . x: what rounding makes of r is not to become dw_0. */
static void inputs(void *context, int member, int64_t chunk, int64_t link)
{
    const job *p = context;
    const fc_attention_sizes *s = &p->s;
    const int64_t n = s->n, r = chunk * FC_ATTENTION_CHUNK, left = s->T * s->B - r;
    const int64_t count = left < FC_ATTENTION_CHUNK ? left : FC_ATTENTION_CHUNK;
    const int64_t each = s->infinite || s->net->shared ? 1 : s->k + 1;
    const int64_t a_each = s->infinite ? 1 : s->k + 1;
    const void *x = fc_at(p->x, r * n, s->size);
    const void *g = fc_at(p->grad, (s->before * s->B + r) * n, s->size);
    void *y = fc_at(p->y, r * n, s->size);
    (void)link;
    if (!s->net->shared) {
        y = fc_at(p->member_y, member * p->y_length, s->size);
        fc_soon soon = fc_nothing_soon();
        fc_want_rows(s, &soon, p->x, r, count, n);
        fc_want_rows(s, &soon, p->tape->grown_x, r, count, n);
        fc_want_rows(s, &soon, p->dx, r, count, n);
        fc_multiply(s, count, g, p->row_n, &p->value_x, y, n, &soon);
    }
    const int alone = s->k == 0 && !s->infinite;
    const fc_state_grad grad = {
        .rows = count, .n = n, .e = {fc_at(p->tape->a, r * a_each, s->size), a_each},
        .y = {y, n}, .s = {x, n}, .rho = {alone ? NULL : fc_at(p->r, r, s->size), 1},
        .ns = {fc_at(p->tape->grown_x, r * n, s->size), n}, .g = {fc_at(p->dx, r * n, s->size), n},
        .dw = {fc_at(p->dw, r * each, s->size), each},
    };
    s->kn->state_grad(&grad);
}

/* --- the call ------------------------------------------------------------------------------- */

static void backward_member(void *context, int member, int team)
{
    job *p = context;
    (void)team;
    fc_run_stages(&p->work, p, member);
}

int fc_attention_rnn_backward(const fc_attention_rnn *net, void *grad, const void *x,
                              const void *w_q, const void *w_k, const void *w_v,
                              const fc_attention_tape *tape, void *dx, void *dw_q, void *dw_k,
                              void *dw_v, int threads)
{
    job p = {.s = fc_attention_measure(net), .x = x, .w_q = w_q, .w_k = w_k, .w_v = w_v,
             .tape = tape, .grad = grad, .dx = dx, .dw_q = dw_q, .dw_k = dw_k, .dw_v = dw_v};
    const fc_attention_sizes *s = &p.s;
    const int team = fc_team_size(fc_attention_threads(s, threads, 1, 1.5));
    const int64_t rows = s->T * s->B, states = (s->before + s->T) * s->B;
    p.group = fc_attention_group(s, team);
    p.block = fc_attention_block(s, p.group, team) + (team == 1 ? s->before : 0);
    if (!net->shared)
        p.classes = fc_classify_lags(s, p.group, p.of);
    p.slots = fc_slots(s, p.classes, p.of);
    fc_plan_sums(&p);
    const fc_stage stages[] = {
        {net->shared ? 0 : s->k, 1, widen_values},
        {1 + p.classes, 1, pack_values},
        {(s->B + p.group - 1) / p.group, (s->before + s->T + p.block - 1) / p.block, recur},
        {fc_parts(rows, FC_ATTENTION_CHUNK), 1, inputs},
        {p.parts, fc_parts(net->shared ? states : rows, p.depth), fc_add_chunk},
        {p.parts / 2, 1, fc_score_weights},
    };
    p.work.stages = stages;
    p.work.count = sizeof stages / sizeof *stages;
    const size_t bytes = lay_out(&p, NULL, team);
    char *scratch = fc_arena_take(bytes);
    if (!scratch)
        return FC_NO_MEMORY;
    lay_out(&p, scratch, team);
    fill_tables(&p);
    fc_parallel(team, backward_member, &p);
    for (int64_t t = 0; net->lengths && t < s->T; t++)
        fc_clear_ended(s, t, 0, s->B, step_row(&p, dx, t, 0, s->n), s->n);
    fc_arena_give(scratch);
    return FC_OK;
}
