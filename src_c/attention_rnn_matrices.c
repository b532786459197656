/* AttentionRNN forward: its matrices, once per call (attention_rnn.c). M_i = Q_i^T K_i is made
 * symmetric, and all are packed in panels as the products with states read them.
 */
#include "attention_rnn_forward.h"

typedef fc_attention_forward job;

/* M_i + M_i^T at m, rows m_row apart. */
static void symmetric_matrix(const job *p, int64_t i, int member, void *m, int64_t m_row)
{
    const fc_attention_sizes *s = &p->s;
    const int64_t n = s->n, zero = 0, matrix = i * n * n;
    const fc_panels key = {
        .at = fc_at(p->member_pack, member * p->pack_length, s->size),
        .k = n, .cols = n, .width = fc_panel_width(s->kn, n, n),
    };
    fc_pack(s, &key, fc_at(p->w_k, matrix, s->size), n);
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

static void prepare_score(const job *p, int64_t i, int member)
{
    const fc_attention_sizes *s = &p->s;
    const int64_t n = s->n, width = p->score_x.width;
    void *m = fc_at(p->member_m, member * n * n, s->size);
    if (p->tape && i > 0)
        symmetric_matrix(p, i, member, fc_at(p->symmetric, (i - 1) * n, s->size), s->cols);
    else
        symmetric_matrix(p, i, member, m, n);
    if (!p->tape) {
        void *to = i ? fc_at(p->triangles, (i - 1) * p->triangle_length, s->size) : p->score_x.at;
        s->kn->pack_triangle(n, (fc_in){m, n}, width, n * width, to);
    } else if (i == 0)
        fc_pack(s, &p->score_x, m, n);
}

static void prepare_value(const job *p, int64_t i)
{
    const fc_attention_sizes *s = &p->s;
    const fc_panels *to = &p->value_x;
    int64_t column = 0;
    for (int c = 0; c < p->classes; c++)
        if (i >= p->of[c].first) {
            to = &p->value_lag[c];
            column = (i - p->of[c].first) * s->n;
        }
    fc_pack_transposed(s, to, column, fc_at(p->w_v, i * s->n * s->n, s->size), s->n);
}

void fc_prepare_matrices(void *context, int member, int64_t i, int64_t link)
{
    (void)link;
    prepare_score(context, i, member);
    prepare_value(context, i);
}

/* With a tape, after all M_i + M_i^T: into panels across their borders. */
void fc_pack_scores(void *context, int member, int64_t c, int64_t link)
{
    const job *p = context;
    const fc_attention_sizes *s = &p->s;
    (void)member, (void)link;
    fc_pack(s, &p->score_lag[c], fc_at(p->symmetric, (p->of[c].first - 1) * s->n, s->size),
            s->cols);
}
