/* AttentionRNN's way back: the weights' gradients, after the loop and over all steps at once
 * (attention_rnn_backward.c).
 *
 *     dV_i = sum_t g[t] (a_i s_i)^T;  G_i = sum_t dw_i s_i s_i^T;  dQ_i = K_i G_i;  dK_i = Q_i G_i
 *
 * G_i, which is symmetric, at half the work; g and s are read in place.
 */
#include "attention_rnn_back.h"

typedef fc_attention_back job;

/* Bytes of g or of states that meet the matrices' panels, one after another, from L2. Few rows
 * would add often to what does not stay there (n 256, float32, 128, 256 and 512 rows: 161, 150,
 * 137 ms). */
enum { DEPTH_BYTES = 512 << 10 };
/* Rows and columns of G that meet its diagonal together: what is below them is left out. */
enum { CORNER = 16 };

void fc_plan_sums(job *p)
{
    const fc_attention_sizes *s = &p->s;
    p->width = fc_panel_width(s->kn, s->n, s->n);
    p->depth = fc_most(128, fc_least(512, DEPTH_BYTES / (s->n * s->size)));
    p->parts = 2 * (s->net->shared ? 1 : s->k + 1) * fc_parts(s->n, p->width);
}

/* One sum of outer products, sum over r of left[r] (scale[r] right[r])^T. */
typedef struct {
    const void *left, *right;   /* rows of n */
    fc_in scale;
    int64_t rows;
} outer_sum;

/* dV_i = sum g (a_i s_i)^T and G_i = sum s_i (dw_i s_i)^T, s_0 = x. */
static outer_sum separate_sum(const job *p, int64_t i, int gram)
{
    const fc_attention_sizes *s = &p->s;
    const int64_t first = (s->before - i) * s->B;
    const void *source = i ? fc_at(p->tape->states, first * s->n, s->size) : p->x;
    return (outer_sum){
        .left = gram ? source : fc_grad_at(p, 0, 0), .right = source,
        .scale = {fc_at(gram ? p->dw : p->tape->a, i, s->size), s->k + 1}, .rows = s->T * s->B,
    };
}

/* The terms of G_i or dV_i, one after another; returns how many. Shared:
 * dV = sum g mixed^T;  G = sum x (dw_0 x)^T + sum over states s (dw s)^T. */
static int sum_terms(const job *p, int64_t i, int gram, outer_sum *term)
{
    const fc_attention_sizes *s = &p->s;
    const int64_t rows = s->T * s->B;
    if (!s->net->shared) {
        term[0] = separate_sum(p, i, gram);
        return 1;
    }
    term[0] = (outer_sum){
        .left = gram ? p->x : fc_grad_at(p, 0, 0), .right = gram ? p->x : p->tape->mixed,
        .rows = rows, .scale = {gram ? p->dw : NULL, 1},
    };
    term[1] = (outer_sum){
        .left = p->tape->states, .right = p->tape->states,
        .rows = s->before * s->B + rows, .scale = {p->dw_states, 1},
    };
    return gram && (s->infinite || s->k > 0) ? 2 : 1;
}

/* Panel number i of all sums, (n, width). */
static void *sums_at(const job *p, int64_t i)
{
    return fc_at(p->sums, i * p->s.n * p->width, p->s.size);
}

/* Add rows r, r + 1, ... of a term to the columns j, j + 1, ... of a sum, its panel c; of G_i
 * only the upper triangle. Meanwhile the panel that comes next is brought to L2. */
static void add_outer(const job *p, const outer_sum *o, int64_t r, int64_t j, void *c,
                      const void *next, int gram, int accumulate, void *pack)
{
    const fc_attention_sizes *s = &p->s;
    const int64_t n = s->n, width = p->width, zero = 0;
    const int64_t depth = fc_least(p->depth, o->rows - r), cols = fc_least(width, n - j);
    const fc_in right = {fc_at(o->right, r * n + j, s->size), n};
    const fc_in scale = {
        o->scale.at ? fc_at(o->scale.at, r * o->scale.row, s->size) : NULL, o->scale.row,
    };
    s->kn->pack_panels(depth, cols, right, scale, width, depth * width, pack);
    fc_gemm g = {
        .m = gram ? j : n, .n = cols, .taps = 1, .k = depth,
        .a = fc_at(o->left, r * n, s->size), .a_row = p->column, .a_tap = &zero, .a_step = n,
        .b = pack, .b_tap = &zero, .b_step = width, .c = c, .c_row = width,
        .accumulate = accumulate,
        .soon = {{next, width * s->size, cols * s->size}},
    };
    s->kn->gemm(&g);
    g.soon[0].at = NULL;
    for (int64_t i = 0; gram && i < cols; i += CORNER) {
        g.m = cols - i < CORNER ? cols - i : CORNER;
        g.n = cols - i;
        g.a_row = p->column + j + i;
        g.b = fc_at(pack, i, s->size);
        g.c = fc_at(c, (j + i) * width + i, s->size);
        s->kn->gemm(&g);
    }
}

/* The next rows of one panel of dV_0, dV_1, ..., G_0, G_1, ...: as the panel that has got the
 * least far comes first, all dV_i read the same rows of g one after another, and then all G_i
 * nearly the same of h, from L2. */
void fc_add_chunk(void *context, int member, int64_t unit, int64_t link)
{
    const job *p = context;
    const fc_attention_sizes *s = &p->s;
    const int64_t n = s->n, r = link * p->depth, gram = unit >= p->parts / 2;
    const int64_t of = unit - gram * (p->parts / 2);
    const int64_t panels = fc_parts(n, p->width), i = of / panels, j = of % panels * p->width;
    const void *next = sums_at(p, (unit + 1) % p->parts);
    void *c = sums_at(p, unit);
    outer_sum term[2];
    const int terms = sum_terms(p, i, (int)gram, term);
    for (int e = 0; e < terms; e++)
        if (r < term[e].rows)
            add_outer(p, &term[e], r, j, c, next, (int)gram, r > 0 || e > 0,
                      fc_at(p->member_pack, member * p->pack_length, s->size));
    if (gram || r >= term[0].rows || r + p->depth < term[0].rows)
        return;
    const fc_copy copy = {
        .from = c, .from_row = p->width, .from_step = 1,
        .to = fc_at(p->dw_v, i * n * n + j, s->size), .to_row = n, .to_step = 1,
        .rows = n, .length = fc_least(p->width, n - j),
    };
    s->kn->copy_rows(&copy);
}

/* Below its diagonal block and in its lower triangle panel j of G is the transpose of the
 * others, of which rows j, j + 1, ... are there. */
static void complete_gram(const job *p, void *gram, int64_t j, int64_t cols, void *scratch)
{
    const fc_attention_sizes *s = &p->s;
    const int64_t n = s->n, width = p->width;
    void *to = fc_at(gram, j * n, s->size);
    s->kn->mirror(cols, (fc_out){fc_at(to, j * width, s->size), width}, scratch);
    for (int64_t below = j + width; below < n; below += width)
        s->kn->pack_transposed(fc_at(gram, below * n + j * width, s->size), width, cols,
                               fc_least(width, n - below), width,
                               fc_at(to, below * width, s->size));
}

/* dQ_i = K_i G_i and dK_i = Q_i G_i, panel by panel. */
void fc_score_weights(void *context, int member, int64_t unit, int64_t link)
{
    const job *p = context;
    const fc_attention_sizes *s = &p->s;
    const int64_t n = s->n, width = p->width, panels = fc_parts(n, width);
    const int64_t first = unit / panels * panels, at = unit / panels * n * n;
    const int64_t j = unit % panels * width;
    const fc_panels gram = {.at = sums_at(p, p->parts / 2 + unit), .k = n,
                            .cols = fc_least(width, n - j), .width = width};
    (void)link;
    complete_gram(p, sums_at(p, p->parts / 2 + first), j, gram.cols,
                  fc_at(p->member_y, member * p->y_length, s->size));
    fc_multiply(s, n, fc_at(p->w_k, at, s->size), p->row_n, &gram, fc_at(p->dw_q, at + j, s->size),
                n, NULL);
    fc_multiply(s, n, fc_at(p->w_q, at, s->size), p->row_n, &gram, fc_at(p->dw_k, at + j, s->size),
                n, NULL);
}
