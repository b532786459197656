/* The gated network's way back: what is summed over the steps of a chunk (gated_rnn_backward.c).
 *
 * dW_h = sum ds h[t-1]^T, dW_c = sum ds x^T and dW_x = sum du x^T are summed transposed, FC_BAND
 * columns of h or x at a time, and turned over at last; dx = W_c^T ds + W_x^T du; the biases'
 * gradients are pairwise sums of ds and du.
 */
#include "gated_rnn_back.h"

typedef fc_gated_back job;
typedef fc_gated_rows table;

enum { PIECE = 32 };   /* rows that add_biases adds one after another */

/* Where a chunk's rows lie. Only those before their sequence's end count. */
void fc_list_rows(job *job, int64_t chunk)
{
    const fc_gated_rnn *net = job->net;
    const int64_t start = ((intptr_t)job->start - (intptr_t)job->tape.h) / job->size;
    table *table = &job->tables[chunk % job->slots];
    const int64_t first = fc_chunk_start(job, chunk), end = job->longest - chunk * job->chunk;
    int64_t i = 0, *ds = table->ds, *x = table->x, *prev = table->prev;
    for (int64_t t = first; t < end; t++) {
        const int64_t step = fc_row_of_ds(job, t, 0);
        for (int64_t b = 0; b < net->batch; b++) {
            if (t >= fc_length(net, b))
                continue;
            ds[i] = step + b * job->width;
            x[i] = fc_tape_row(net, t, b) * net->inputs;
            prev[i++] = t ? fc_tape_row(net, t - 1, b) * net->states : start + b * job->start_row;
        }
    }
    table->counted = i;
    table->even_x = i == (end - first) * net->batch;
    table->even_prev = table->even_x && first > 0;
}

/* dx = W_c^T ds + W_x^T du. Rows that lie one behind the other in dx are one product, whose first
 * tiles bring them all to L2 (T 100, B 32, n 64, m 64: the way back 1.01 to 1.02 times as fast). */
void fc_add_inputs(const job *job, const fc_part *part, int64_t t0, int64_t t1)
{
    const fc_gated_rnn *net = job->net;
    const int64_t size = job->size, n = net->inputs, width = job->width;
    const int64_t steps = t1 - t0, sequences = part->b1 - part->b0;
    const int whole = !net->batch_first && sequences == net->batch;
    const int64_t rows = whole ? sequences * steps : net->batch_first ? steps : sequences;
    fc_gemm g = {.m = rows, .taps = 2 * job->taps, .k = job->tap, .a_tap = job->a_tap, .a_step = 1,
                 .a_row = net->batch_first ? job->far : job->near, .c_row = n};
    for (int64_t j = part->j0; j < part->j1; j += width) {
        const fc_panel panel = fc_panel_at(job->kernels, j, part->j1, width);
        g.n = panel.count;
        g.b = fc_at(job->panels_c, j * job->taps * job->tap, size);
        g.b_tap = fc_taps_in(job, job->members, &panel, width);
        g.b_step = panel.stride;
        for (int64_t i = 0; i < sequences * steps / rows; i++) {
            const int64_t t = t0 + (net->batch_first ? 0 : i);
            const int64_t b = part->b0 + (net->batch_first ? i : 0);
            g.a = fc_at(job->ds, fc_row_of_ds(job, t, b), size);
            g.c = fc_at(job->grads.x, fc_row_of(net, t, b) * n + j, size);
            fc_soon soon = fc_nothing_soon();
            if (j == part->j0 && rows * n * size <= 256 << 10)
                fc_want_soon(&soon, g.c, rows * n * size);
            fc_ask_soon(job->kernels, &g, &soon, 0);
            job->kernels->gemm(&g);
        }
    }
}

/* Columns [j0, j1) of dw (+)= grad^T rows, over the chunk's rows: rows [j0, j1) of `sums`, which
 * at last are turned over to dw (m, columns). */
static void add_weights(const job *job, int64_t chunk, int64_t j0, int64_t j1, const void *grad,
                        const void *rows, const int64_t *row, int even, void *sums, int64_t columns,
                        void *dw)
{
    const table *table = &job->tables[chunk % job->slots];
    const int64_t size = job->size, m = job->net->states;
    fc_gemm g = {.m = j1 - j0, .taps = table->counted, .k = 1, .a = fc_at(rows, j0, size),
                 .a_row = job->band_rows, .a_tap = row, .b_tap = table->ds, .c_row = job->row,
                 .accumulate = chunk > 0};
    if (even) {
        g.taps = 1;
        g.k = table->counted;
        g.a_step = columns;
        g.b_step = job->width;
    }
    for (int64_t i = 0; i < m; i += job->width) {
        g.n = fc_least(job->width, m - i);
        g.b = fc_at(grad, i / job->width * job->panel, size);
        g.c = fc_at(sums, j0 * job->row + i, size);
        job->kernels->gemm(&g);
    }
    if (chunk + 1 == job->chunks)
        job->kernels->pack_transposed(fc_at(sums, j0 * job->row, size), job->row, j1 - j0, m,
                                      columns, fc_at(dw, j0, size));
}

/* The biases' gradients of one panel: pairwise, PIECE rows at first, then as a binary counter adds:
 * level l holds the sum of 2^l pieces where bit l of the number of pieces is set. */
static void add_biases(const job *job, const table *table, int64_t i, const void *grad, void *sums,
                       int64_t pieces)
{
    const int64_t size = job->size, level_row = job->row;
    const int64_t count = fc_least(job->width, job->net->states - i);
    for (int64_t p = 0; p < table->counted; p += PIECE, pieces++) {
        int64_t level = 0;
        while (pieces >> level & 1)
            level++;
        void *sum = fc_at(sums, level * level_row + i, size);
        job->kernels->sum_rows(fc_at(grad, i / job->width * job->panel, size), table->ds + p,
                               fc_least(PIECE, table->counted - p), count, sum);
        for (int64_t l = 0; l < level; l++) {
            const int64_t both[2] = {l * level_row, level * level_row};
            job->kernels->sum_rows(fc_at(sums, i, size), both, 2, count, sum);
        }
    }
}

static void finish_biases(const job *job, int64_t i, const void *sums, int64_t pieces, void *db)
{
    const int64_t level_row = job->row;
    int64_t levels[FC_LEVELS], count = 0;
    for (int64_t level = 0; level < FC_LEVELS; level++)
        if (pieces >> level & 1)
            levels[count++] = level * level_row;
    job->kernels->sum_rows(fc_at(sums, i, job->size), levels, count,
                           fc_least(job->width, job->net->states - i), fc_at(db, i, job->size));
}

static void sum_biases(const job *job, int64_t i, int64_t chunk, int64_t *pieces)
{
    const table *table = &job->tables[chunk % job->slots];
    add_biases(job, table, i, job->ds, job->sums_c, *pieces);
    add_biases(job, table, i, job->du, job->sums_x, *pieces);
    *pieces += (table->counted + PIECE - 1) / PIECE;
    if (chunk + 1 == job->chunks) {
        finish_biases(job, i, job->sums_c, *pieces, job->grads.b_c);
        finish_biases(job, i, job->sums_x, *pieces, job->grads.b_x);
    }
}

/* FC_BAND columns of dw_h; or of dw_c and dw_x; or the biases of a panel. */
void fc_sum_band(const job *job, int64_t band, int64_t chunk)
{
    const fc_gated_grads *grads = &job->grads;
    const table *table = &job->tables[chunk % job->slots];
    const int64_t m = job->net->states, n = job->net->inputs, x_band = band - job->h_bands;
    if (band >= job->w_bands) {
        const int64_t panel = band - job->w_bands;
        sum_biases(job, panel * job->width, chunk, job->pieces + panel);
    } else if (x_band < 0) {
        const int64_t j0 = band * FC_BAND, j1 = fc_least(j0 + FC_BAND, m);
        add_weights(job, chunk, j0, j1, job->ds, job->tape.h, table->prev, table->even_prev,
                    job->sums_h, m, grads->w_h);
    } else {
        const int64_t j0 = x_band * FC_BAND, j1 = fc_least(j0 + FC_BAND, n);
        add_weights(job, chunk, j0, j1, job->ds, job->tape.x, table->x, table->even_x, job->sums_wc,
                    n, grads->w_c);
        add_weights(job, chunk, j0, j1, job->du, job->tape.x, table->x, table->even_x, job->sums_wx,
                    n, grads->w_x);
    }
}
