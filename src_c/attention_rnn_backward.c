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
 * come after the loop, over all steps at once, G_i (symmetric) at half the work.
 *
 * Shared matrices: y is one vector a step, r = y . (sum_i a_i s_i), and a state gathers
 * p = sum_i a_i[t+i] y[t+i] and sum_i a_i[t+i] r[t+i] before dw = p . s - that sum. An infinite
 * window carries the two sums from step to step: with a_i[t'] = exp(w_i - m[t']) / z[t'],
 * p = sum y[t'] exp(nu - m[t']) / z[t'] and likewise for r, nu the least m so far; then no
 * exponent is positive, since w_i <= m[t'] for all t' that look back at the state.
 */
#include "attention_job.h"

#include <float.h>

/* Rows of one product over all steps: a panel of so many stays in cache. */
enum { DEPTH = 256 };

typedef struct {
    fc_attention_sizes s;
    const void *x, *w_q, *w_k, *w_v;
    const fc_attention_tape *tape;
    void *grad, *dx, *dw_q, *dw_k, *dw_v;
    int64_t *row_n, *row_8, *row_8_states, *tap_a;
    fc_panels value_x, value_lag;     /* V_0; all V_i side by side (shared: the same) */
    void *wide;                       /* (n, k, n): V_i side by side */
    void *y;                          /* separate: ring (k, B, k, n); shared (T, B, n) */
    void *r;                          /* (T, B) */
    void *dw;                         /* separate: (T, B, k + 1); shared: of x, (T, B) */
    void *dw_states;                  /* shared: (S + T, B) */
    void *p, *p_lost, *rho, *rho_lost, *nu, *e;   /* (B, n), (B): sums over later steps */
    void *columns_g, *columns_x, *columns_s;   /* g, x and states by groups of 8 columns */
    void *gram;                       /* G_i (1 or k + 1, n, n) */
    fc_in *member_in;
    void *member_y, *member_pack;
    int64_t pack_length, y_length;
} job;

/* --- scratch -------------------------------------------------------------------------------- */

static fc_panels panels(const fc_attention_sizes *s, uintptr_t *end, int64_t cols, int64_t rows, const int64_t *tap)
{
    const int64_t width = fc_panel_width(s->kn, rows, cols);
    return (fc_panels){
        .at = fc_carve(end, fc_panels_length(s->n, cols, width), s->size),
        .taps = 1, .k = s->n, .cols = cols, .width = width, .tap = tap,
    };
}

static size_t lay_out(job *p, uintptr_t base, int team)
{
    const fc_attention_sizes *s = &p->s;
    const int64_t T = s->T, B = s->B, n = s->n, k = s->k, n8 = fc_round_up(n, 8);
    const int64_t shared = s->net->shared, team_rows = (B + team - 1) / team;
    const int64_t rows = B > FC_ATTENTION_CHUNK ? B : FC_ATTENTION_CHUNK;
    uintptr_t end = base;
    p->row_n = fc_carve(&end, rows > n ? rows : n, sizeof(int64_t));
    p->row_8 = fc_carve(&end, n8, sizeof(int64_t));
    p->row_8_states = fc_carve(&end, n8, sizeof(int64_t));
    p->tap_a = fc_carve(&end, 1, sizeof(int64_t));
    p->member_in = fc_carve(&end, team * 2 * (k + 1), sizeof(fc_in));

    p->value_x = panels(s, &end, n, team_rows, p->tap_a);
    p->value_lag = shared ? p->value_x : panels(s, &end, s->cols, team_rows, p->tap_a);
    p->wide = fc_carve(&end, shared ? 0 : n * s->cols, s->size);
    p->y = fc_carve(&end, shared ? T * B * n : k * B * s->cols, s->size);
    p->r = fc_carve(&end, T * B, s->size);
    p->dw = fc_carve(&end, T * B * (shared ? 1 : k + 1), s->size);
    p->dw_states = fc_carve(&end, shared ? (s->before + T) * B : 0, s->size);
    void **const rows_of[] = {&p->p, &p->p_lost, &p->rho, &p->rho_lost, &p->nu, &p->e};
    for (int i = 0; i < 6; i++)
        *rows_of[i] = fc_carve(&end, shared ? B * (i < 2 ? n : 1) : 0, s->size);
    p->columns_g = fc_carve(&end, n8 * T * B, s->size);
    p->columns_x = fc_carve(&end, n8 * T * B, s->size);
    p->columns_s = fc_carve(&end, n8 * (s->before + T) * B, s->size);
    p->gram = fc_carve(&end, (shared ? 1 : k + 1) * n * n, s->size);

    const int64_t depth = n > DEPTH ? n : DEPTH;
    p->pack_length = fc_round_up(depth * fc_round_up(n, fc_panel_width(s->kn, n, n)), 64);
    p->member_pack = fc_carve(&end, team * p->pack_length, s->size);
    p->y_length = fc_round_up(FC_ATTENTION_CHUNK * n, 64);
    p->member_y = fc_carve(&end, team * p->y_length, s->size);
    return end - base;
}

static void fill_tables(job *p)
{
    const fc_attention_sizes *s = &p->s;
    const int64_t rows = s->B > FC_ATTENTION_CHUNK ? s->B : FC_ATTENTION_CHUNK;
    for (int64_t i = 0; i < rows || i < s->n; i++)
        p->row_n[i] = i * s->n;
    for (int64_t i = 0; i < s->n; i++) {
        p->row_8[i] = i / 8 * 8 * s->T * s->B + i % 8;
        p->row_8_states[i] = i / 8 * 8 * (s->before + s->T) * s->B + i % 8;
    }
    p->tap_a[0] = 0;
}

static void pack_values(job *p)
{
    const fc_attention_sizes *s = &p->s;
    const int64_t n = s->n;
    fc_pack_tap(s, &p->value_x, 0, p->w_v, n);
    if (s->net->shared)
        return;
    for (int64_t i = 1; i <= s->k; i++)
        for (int64_t row = 0; row < n; row++)
            memcpy(fc_at(p->wide, row * s->cols + (i - 1) * n, s->size),
                   fc_at(p->w_v, (i * n + row) * n, s->size), (size_t)n * s->size);
    fc_pack_tap(s, &p->value_lag, 0, p->wide, s->cols);
}

/* --- addresses ------------------------------------------------------------------------------ */

static void *grad_at(const job *p, int64_t t, int64_t b)
{
    return fc_at(p->grad, ((p->s.before + t) * p->s.B + b) * p->s.n, p->s.size);
}

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
    const void *at = fc_at(p->tape->grown, ((s->given + t) * s->B + b) * s->cols + (lag - 1) * s->n, s->size);
    return (fc_in){at, s->cols};
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
        .y = {fc_at(p->y, (fc_slot(s, later) * s->B + b0) * s->cols + (i - 1) * n, s->size), s->cols},
        .s = {state(p, t, b0), n}, .rho = {step_row(p, p->r, later, b0, 1), 1},
        .ns = grown(p, t, i, b0), .g = {grad_at(p, t, b0), n},
        .dw = {fc_at(step_row(p, p->dw, later, b0, each), i, s->size), each},
    };
    s->kn->state_grad(&grad);
}

static void separate_loop(const job *p, int64_t b0, int64_t b1)
{
    const fc_attention_sizes *s = &p->s;
    const int64_t n = s->n, zero = 0;
    for (int64_t t = s->T - 1; t >= -s->k; t--) {
        for (int64_t i = t < 0 ? -t : 1; i <= s->k && t + i < s->T; i++)
            from_lag(p, t, i, b0, b1);
        if (t < 0)
            continue;
        const fc_in g = {grad_at(p, t, b0), n}, h = {state(p, t, b0), n};
        s->kn->dots(b1 - b0, 1, n, g, h, 1, (fc_out){step_row(p, p->r, t, b0, 1), 1});
        if (s->k > 0)
            fc_multiply(s, b1 - b0, g.at, p->row_n, &zero, 1, &p->value_lag,
                        fc_at(p->y, (fc_slot(s, t) * s->B + b0) * s->cols, s->size), s->cols, 0);
    }
}

/* y[t] = V^T g[t] and r[t] = y[t] . mixed[t]. */
static void shared_products(const job *p, int64_t t, int64_t b0, int64_t b1)
{
    const fc_attention_sizes *s = &p->s;
    const int64_t n = s->n, zero = 0;
    const fc_in y = {step_row(p, p->y, t, b0, n), n};
    fc_multiply(s, b1 - b0, grad_at(p, t, b0), p->row_n, &zero, 1, &p->value_lag, (void *)y.at, n, 0);
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
        .s = {state(p, t, b0), n}, .ns = grown(p, t, 1, b0), .g = {grad_at(p, t, b0), n},
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

static void shared_loop(const job *p, int64_t b0, int64_t b1, fc_in *in)
{
    const fc_attention_sizes *s = &p->s;
    for (int64_t t = s->T - 1; t >= -s->before; t--) {
        if (t < s->T - 1 && s->k > 0) {
            gather_later(p, t, b0, b1, in);
            to_state(p, t, b0, b1, NULL);
        }
        if (t >= 0)
            shared_products(p, t, b0, b1);
    }
}

static void infinite_loop(const job *p, int64_t b0, int64_t b1)
{
    const fc_attention_sizes *s = &p->s;
    const int64_t n = s->n;
    for (int64_t b = b0; b < b1; b++)
        if (s->net->dtype == FC_F32)
            ((float *)p->nu)[b] = FLT_MAX;
        else
            ((double *)p->nu)[b] = DBL_MAX;
    void *const zeros[] = {p->p, p->p_lost, p->rho, p->rho_lost};
    for (int i = 0; i < 4; i++) {
        const int64_t each = i < 2 ? n : 1;
        memset(fc_at(zeros[i], b0 * each, s->size), 0, (size_t)((b1 - b0) * each) * s->size);
    }
    void *e = fc_at(p->e, b0, s->size);
    for (int64_t t = s->T - 1; t >= -s->before; t--) {
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

static void recur(void *context, int member, int team)
{
    const job *p = context;
    const fc_attention_sizes *s = &p->s;
    int64_t b0, b1;
    fc_batch_share(s, member, team, &b0, &b1);
    if (b0 >= b1)
        return;
    if (!s->net->shared) {
        separate_loop(p, b0, b1);
        return;
    }
    void *newest = step_row(p, p->dw_states, s->before + s->T - 1, b0, 1);
    memset(newest, 0, (size_t)(b1 - b0) * s->size);   /* nobody looks back at the last state */
    if (s->infinite)
        infinite_loop(p, b0, b1);
    else
        shared_loop(p, b0, b1, fc_at(p->member_in, member * 2 * (s->k + 1), sizeof(fc_in)));
}

/* --- after the loop: x ---------------------------------------------------------------------- */

/* dx = a_0 y + dw_0 (M_0 + M_0^T) x with y = V_0^T g, dw_0 = a_0 (y . x - r); and the columns
 * of g and x for the sums over all steps. */
static void inputs_chunk(const job *p, int64_t r, int64_t count, int member)
{
    const fc_attention_sizes *s = &p->s;
    const int64_t n = s->n, zero = 0, each = s->infinite || s->net->shared ? 1 : s->k + 1;
    const int64_t a_each = s->infinite ? 1 : s->k + 1;
    const void *x = fc_at(p->x, r * n, s->size);
    const void *g = fc_at(p->grad, (s->before * s->B + r) * n, s->size);
    void *y = fc_at(p->y, r * n, s->size);
    if (!s->net->shared) {
        y = fc_at(p->member_y, member * p->y_length, s->size);
        fc_multiply(s, count, g, p->row_n, &zero, 1, &p->value_x, y, n, 0);
    }
    const fc_state_grad grad = {
        .rows = count, .n = n, .e = {fc_at(p->tape->a, r * a_each, s->size), a_each},
        .y = {y, n}, .s = {x, n}, .rho = {fc_at(p->r, r, s->size), 1},
        .ns = {fc_at(p->tape->grown_x, r * n, s->size), n}, .g = {fc_at(p->dx, r * n, s->size), n},
        .dw = {fc_at(p->dw, r * each, s->size), each},
    };
    s->kn->state_grad(&grad);
    const int64_t rows = s->T * s->B;
    s->kn->pack_columns(count, n, (fc_in){g, n}, 8 * rows, fc_at(p->columns_g, r * 8, s->size));
    s->kn->pack_columns(count, n, (fc_in){x, n}, 8 * rows, fc_at(p->columns_x, r * 8, s->size));
}

static void inputs(void *context, int member, int team)
{
    const job *p = context;
    const fc_attention_sizes *s = &p->s;
    const int64_t rows = s->T * s->B, states = (s->before + s->T) * s->B;
    int64_t begin, end;
    fc_share((rows + FC_ATTENTION_CHUNK - 1) / FC_ATTENTION_CHUNK, member, team, &begin, &end);
    for (int64_t r = begin * FC_ATTENTION_CHUNK; r < end * FC_ATTENTION_CHUNK && r < rows; r += FC_ATTENTION_CHUNK)
        inputs_chunk(p, r, rows - r < FC_ATTENTION_CHUNK ? rows - r : FC_ATTENTION_CHUNK, member);
    fc_share(states, member, team, &begin, &end);
    s->kn->pack_columns(end - begin, s->n, (fc_in){fc_at(p->tape->states, begin * s->n, s->size), s->n},
                        8 * states, fc_at(p->columns_s, begin * 8, s->size));
}

/* --- after the loop: weights ---------------------------------------------------------------- */

/* One sum of outer products, sum over r of left[r] (scale[r] right[r])^T, into c (n, n). */
typedef struct {
    const void *left;         /* by columns of 8 */
    const int64_t *left_row;
    const void *right;        /* rows of n */
    fc_in scale;
    int64_t rows;
    void *c;
    int triangle;             /* only the upper triangle is wanted */
    int add;                  /* to what c holds */
} outer_sum;

static void add_outer(const job *p, const outer_sum *o, int member, int team)
{
    const fc_attention_sizes *s = &p->s;
    const int64_t n = s->n, width = fc_panel_width(s->kn, n, n), zero = 0;
    void *pack = fc_at(p->member_pack, member * p->pack_length, s->size);
    for (int64_t r = 0; r < o->rows; r += DEPTH) {
        const int64_t depth = o->rows - r < DEPTH ? o->rows - r : DEPTH;
        const fc_in scale = {o->scale.at ? fc_at(o->scale.at, r * o->scale.row, s->size) : NULL, o->scale.row};
        s->kn->pack_panels(depth, n, (fc_in){fc_at(o->right, r * n, s->size), n}, scale, width,
                           depth * width, pack);
        for (int64_t j = 0; j < n; j += width) {
            const int64_t cols = n - j < width ? n - j : width, height = o->triangle ? j + cols : n;
            int64_t begin, end;
            fc_share((height + 7) / 8, member, team, &begin, &end);
            end = end * 8 < height ? end * 8 : height;
            begin *= 8;
            const fc_gemm g = {
                .m = end - begin, .n = cols, .taps = 1, .k = depth,
                .a = fc_at(o->left, r * 8, s->size), .a_row = o->left_row + begin, .a_tap = &zero, .a_step = 8,
                .b = fc_at(pack, j * depth, s->size), .b_tap = &zero, .b_step = width,
                .c = fc_at(o->c, begin * n + j, s->size), .c_row = n, .accumulate = o->add || r > 0,
            };
            if (end > begin)
                s->kn->gemm(&g);
        }
    }
}

/* dV_0 = sum g (a_0 x)^T, G_0 = sum x (dw_0 x)^T; dV_i = sum g (a_i s_i)^T, G_i likewise. */
static void separate_sums(const job *p, int member, int team)
{
    const fc_attention_sizes *s = &p->s;
    const int64_t n = s->n, each = s->k + 1, rows = s->T * s->B;
    for (int64_t i = 0; i <= s->k; i++) {
        const int64_t first = (s->before - i) * s->B;
        const void *right = i ? fc_at(p->tape->states, first * n, s->size) : p->x;
        const outer_sum value = {
            .left = p->columns_g, .left_row = p->row_8, .right = right, .rows = rows,
            .scale = {fc_at(p->tape->a, i, s->size), each}, .c = fc_at(p->dw_v, i * n * n, s->size),
        };
        const outer_sum gram = {
            .left = i ? fc_at(p->columns_s, first * 8, s->size) : p->columns_x,
            .left_row = i ? p->row_8_states : p->row_8, .right = right, .rows = rows,
            .scale = {fc_at(p->dw, i, s->size), each}, .c = fc_at(p->gram, i * n * n, s->size), .triangle = 1,
        };
        add_outer(p, &value, member, team);
        add_outer(p, &gram, member, team);
    }
}

/* dV = sum g mixed^T;  G = sum x (dw_0 x)^T + sum over states s (dw s)^T. */
static void shared_sums(const job *p, int member, int team)
{
    const fc_attention_sizes *s = &p->s;
    const int64_t rows = s->T * s->B;
    const outer_sum value = {
        .left = p->columns_g, .left_row = p->row_8, .right = p->tape->mixed, .rows = rows, .c = p->dw_v,
    };
    const outer_sum of_x = {
        .left = p->columns_x, .left_row = p->row_8, .right = p->x, .rows = rows,
        .scale = {p->dw, 1}, .c = p->gram, .triangle = 1,
    };
    const outer_sum of_states = {
        .left = p->columns_s, .left_row = p->row_8_states,
        .right = p->tape->states, .rows = s->before * s->B + rows,
        .scale = {p->dw_states, 1}, .c = p->gram, .triangle = 1, .add = 1,
    };
    add_outer(p, &value, member, team);
    add_outer(p, &of_x, member, team);
    if (s->infinite || s->k > 0)
        add_outer(p, &of_states, member, team);
}

static void sums(void *context, int member, int team)
{
    const job *p = context;
    if (p->s.net->shared)
        shared_sums(p, member, team);
    else
        separate_sums(p, member, team);
}

/* dQ_i = K_i G_i and dK_i = Q_i G_i: tasks 2 i and 2 i + 1. */
static void score_weights(void *context, int member, int team)
{
    const job *p = context;
    const fc_attention_sizes *s = &p->s;
    const int64_t n = s->n, matrices = s->net->shared ? 1 : s->k + 1, zero = 0;
    const fc_panels gram = {
        .at = fc_at(p->member_pack, member * p->pack_length, s->size),
        .taps = 1, .k = n, .cols = n, .width = fc_panel_width(s->kn, n, n), .tap = &zero,
    };
    for (int64_t i = member; i < matrices; i += team) {
        const int64_t at = i * n * n;
        void *g = fc_at(p->gram, at, s->size);
        s->kn->mirror(n, (fc_out){g, n}, gram.at);
        fc_pack_tap(s, &gram, 0, g, n);
        fc_multiply(s, n, fc_at(p->w_k, at, s->size), p->row_n, &zero, 1, &gram, fc_at(p->dw_q, at, s->size), n, 0);
        fc_multiply(s, n, fc_at(p->w_q, at, s->size), p->row_n, &zero, 1, &gram, fc_at(p->dw_k, at, s->size), n, 0);
    }
}

/* --- the call ------------------------------------------------------------------------------- */

/* Multiply-adds, counted twice: V^T g, dV and half of G a state. */
static double work(const fc_attention_sizes *s)
{
    return 2.0 * (double)(s->T * s->B) * (double)(s->n * s->n) * (double)(1 + s->lags) * 2.5;
}

int fc_attention_rnn_backward(const fc_attention_rnn *net, void *grad, const void *x,
                              const void *w_q, const void *w_k, const void *w_v,
                              const fc_attention_tape *tape, void *dx, void *dw_q, void *dw_k,
                              void *dw_v, int threads)
{
    job p = {.s = fc_attention_measure(net), .x = x, .w_q = w_q, .w_k = w_k, .w_v = w_v,
             .tape = tape, .grad = grad, .dx = dx, .dw_q = dw_q, .dw_k = dw_k, .dw_v = dw_v};
    const fc_attention_sizes *s = &p.s;
    threads = fc_useful_threads(threads, work(s));
    const int team = fc_team_size(threads);
    const size_t bytes = lay_out(&p, 0, team);
    void *scratch = fc_arena_take(bytes);
    if (!scratch)
        return FC_NO_MEMORY;
    lay_out(&p, (uintptr_t)scratch, team);
    fill_tables(&p);
    pack_values(&p);
    fc_parallel(s->B < team ? (int)s->B : team, recur, &p);
    fc_parallel(team, inputs, &p);
    fc_parallel(team, sums, &p);
    fc_parallel(net->shared ? 1 : team, score_weights, &p);
    for (int64_t t = 0; t < s->T; t++)
        fc_clear_ended(s, t, 0, s->B, step_row(&p, dx, t, 0, s->n), s->n);
    fc_arena_give(scratch);
    return FC_OK;
}
