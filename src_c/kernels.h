/* The kernel table: everything that touches more than a few numbers goes through it.
 *
 * One table holds the kernels of one real type compiled for one instruction set. isa.inc fills
 * it, once per isa_*.c and type; dispatch.c chooses the row for this CPU at import. Drivers
 * (conv*.c, ...) are written once for both types: they count in elements and let the table
 * touch them.
 *
 * Every kernel: reads and writes only what its contract names, allocates nothing, keeps no
 * state, starts no threads. Pointers are aligned to their element, no more. Offsets, strides
 * and sizes are in elements.
 */
#ifndef FC_KERNELS_H
#define FC_KERNELS_H

#include <stddef.h>
#include <stdint.h>

enum { FC_F32 = 0, FC_F64 = 1, FC_DTYPES = 2 };

/* Rows of so many bytes, `step` bytes apart; none where `at` is NULL. */
typedef struct { const void *at; int64_t step, bytes; } fc_rows;
enum { FC_SOON = 4 };

/* Batch-reduce matrix product, the one building block:
 *
 *     C[i, j] (+)= bias[i] + sum over t < taps, p < k of  A_t[i, p] * B_t[p, j]
 *
 *     A_t[i, p] = a[a_row[i] + a_tap[t] + p * a_step]       a scalar, broadcast
 *     B_t[p, j] = b[b_tap[t] + p * b_step + j]              a row of lanes, contiguous
 *     C[i, j]   = c[i * c_row + j]
 *
 * Each C[i, j] is one chain of fused multiply-adds in the order t, then p, from bias[i] (or 0);
 * where `accumulate` is set the finished sum is added to C once. So its bits depend neither on
 * m and n nor on the instruction set, as long as that has FMA.
 */
typedef struct {
    int64_t m, n, taps, k;   /* all >= 0 */
    const void *a;           /* never read past the elements that the formula names */
    const int64_t *a_row;    /* (m); the last columns gain where eight rows lie side by side */
    const int64_t *a_tap;    /* (taps) */
    int64_t a_step;
    const void *b;           /* each row readable up to n rounded up to a multiple of `lanes` */
    const int64_t *b_tap;    /* (taps) */
    int64_t b_step;
    void *c;                 /* (m, n), rows c_row apart; only j < n is read or written */
    int64_t c_row;
    const void *bias;        /* (m) or NULL for zeros */
    int accumulate;
    fc_rows soon[FC_SOON];   /* what is needed next, of each as many rows as B has: brought to L2 meanwhile,
                              * as much of it as there are whole tiles for */
} fc_gemm;

/* Runs of lanes gathered into rows of scratch, those of several taps at once: for each tap t, each
 * row and each of the tap's count[t] runs (which stand behind those of the tap before),
 *
 *     to[t * to_tap + row * to_row + run.lane + l] = from[row * from_row + run.from + l * step],
 *
 * l < run.length, and 0 in the other lanes < width. The runs of a tap do not overlap and stand in
 * ascending order of lane. Whole vectors are read where the array, which has `behind` elements
 * before `from` and `ahead` from it on, holds them. */
typedef struct { int64_t lane, from, length; } fc_run;

typedef struct {
    const fc_run *runs;
    const int64_t *count;    /* (taps) */
    int64_t taps, step;      /* step >= 1 */
    int64_t rows;
    const void *from;
    int64_t from_row;
    int64_t behind, ahead;
    void *to;
    int64_t width;           /* a multiple of `lanes` */
    int64_t to_row, to_tap;
} fc_gather;

/* Rows of one channel with a kernel of 3, 5 or 7 rows (gemm's order: kernel row, then tap):
 *
 *     y[m * y_row + l] = bias + sum over a < kernel, b < taps of
 *                        w[a * w_row + b * w_step] * x[(m + a) * x_row + tap[b] + l],
 *
 * m < rows, l < width. Each row of x is readable up to two vectors past the last lane. `far`:
 * does y come from memory, so that it is asked for beforehand? */
typedef struct {
    int64_t rows, width, kernel, taps;
    int far;
    const void *x;
    int64_t x_row;
    const int64_t *tap;      /* (taps) */
    const void *w;
    int64_t w_row, w_step;
    const void *bias;        /* one element, or NULL for zero */
    void *y;
    int64_t y_row;
} fc_depthwise;

/* Taps next to each other: `length` (1 to 4) of them, the first `cell` elements behind an output's
 * place in the source, its weights `weight` elements behind the first tap's. */
typedef struct { int64_t cell, weight, length; } fc_tap_run;

/* Every lane a channel of its own: lines of outputs, in the order run, then tap, then lane l,
 *
 *     y[m * y_row + j * y_step + l] = bias[l] + sum over r < runs, k < run[r].length of
 *         w[run[r].weight + k * w_step + l]
 *         * x[m * x_row + (j * stride + k) * x_near + run[r].cell + l]
 *
 * m < rows, j < width. */
typedef struct {
    int64_t rows, width, runs;
    const fc_tap_run *run;   /* (runs) */
    const void *w;
    int64_t w_step;
    const void *bias;        /* (lanes) */
    const void *x;
    int64_t x_row, x_near;
    int64_t stride;          /* 1 or 2 */
    void *y;
    int64_t y_row, y_step;
} fc_channelwise;

/* Of a gradient, runs of so many taps that share what is loaded: their sums, 8 or 9 of them, keep
 * the FMA units busy. */
static inline int64_t fc_runs_together(int64_t length) { return length == 3 ? 3 : 8 / length; }

/* And the sum over these outputs, one chain for each tap in their order:
 *
 *     dw[run[r].weight + k * lanes + l] += sum over m, j of
 *         dy[m * dy_row + j * dy_step + l] * x[m * x_row + (j + k) * x_step + run[r].cell + l] */
typedef struct {
    int64_t rows, width, runs;
    const fc_tap_run *run;   /* (runs) */
    const void *x;
    int64_t x_row, x_step;
    const void *dy;
    int64_t dy_row, dy_step;
    void *dw;
} fc_channelwise_grad;

/* Channels to lanes, cells to lines of `width` with a gap behind each:
 *
 *     to[i * lanes + i / width * gap + l] = from[min(l, rows - 1) * from_row + i],  i < count
 *
 * 1 <= rows <= lanes; reads from what the formula names on up to `end`. What lies `ahead` elements
 * behind that, unless 0, is brought to L2 meanwhile. */
typedef struct {
    const void *from;
    int64_t from_row, rows;
    const void *end;
    int64_t count, width, gap;
    int64_t ahead;
    void *to;
} fc_spread;

/* Cells no further apart are copied in vectors. */
enum { FC_APART_AT_MOST = 4 };

/* A strided copy, which touches nothing else:
 *
 *     to[row * to_row + i * to_step] = from[row * from_row + i * from_step],  i < length
 *
 * Where to_step is 2 the elements between are read and written back. */
typedef struct {
    const void *from;
    int64_t from_row, from_step;
    void *to;
    int64_t to_row, to_step;
    int64_t rows, length;
} fc_copy;

/* Lines added to lines of scratch:
 *
 *     to[l * to_line + i] += from[l * from_line + i],  l < lines, i < length
 *
 * Both are read, and `to` is written back, up to one vector past the end of each line. */
typedef struct {
    int64_t lines, length;
    const void *from;
    int64_t from_line;
    void *to;
    int64_t to_line;
} fc_added;

/* Lines of planes copied to scratch, with zeros around them:
 *
 *     to[p * to_plane + l * pitch + i] = from[p * from_plane + l * from_line + (i - lead) * step]
 *
 * for lead <= i < lead + length, and 0 for the other i < pitch. A line is written in whole vectors:
 * 0 as well behind the last line of a plane, up to `lanes` - 1 of them. Whole vectors are read where
 * the array, which has `behind` elements before `from` and `ahead` from it on, holds them. */
typedef struct {
    int64_t planes, lines, lead, length, step;   /* length may be <= 0; step >= 1 */
    const void *from;
    int64_t from_plane, from_line, behind, ahead;
    void *to;
    int64_t to_plane, pitch;
} fc_lines;

/* Products summed along the lanes, where neither operand has rows of lanes to offer:
 *
 *     c[c_row[i] + c_col[j]] (+)= sum over l < lines, p < k of
 *                                 a[a_row[i] + l * a_line + p] * b[b_col[j] + l * b_line + p]
 *
 * Whatever the instruction set, term p goes to chain p mod (64 bytes' worth of elements), and
 * the finished chains are added in pairs: the bits depend on lines and k alone. */
typedef struct {
    int64_t m, n, lines;
    int64_t k;               /* a multiple of 64 bytes' worth of elements */
    const void *a;
    const int64_t *a_row;    /* (m) */
    int64_t a_line;
    const void *b;
    const int64_t *b_col;    /* (n) */
    int64_t b_line;
    void *c;
    const int64_t *c_row;    /* (m) */
    const int64_t *c_col;    /* (n) */
    int accumulate;
} fc_lane_dots;

/* The gated cell behind its products, for `rows` sequences and `count` states:
 *
 *     c = sigmoid(s + b_c);  u_tape = u + b_x;  h = c * h_prev + (1 - c) * u_tape
 *
 * s and u in rows s_row apart, h h_row; h_tape (a second h), c_tape, u_tape (all three NULL: no
 * tape) tape_row apart. */
typedef struct {
    int64_t rows, count;
    const void *s, *u;
    int64_t s_row;
    const void *b_c, *b_x;   /* (count) */
    const void *h_prev;
    int64_t prev_row;
    void *h;
    int64_t h_row;
    void *h_tape, *c_tape, *u_tape;
    int64_t tape_row;
} fc_gate;

/* And back: with dh = carry + grad_h,
 *
 *     du = dh * (1 - c);  ds = dh * (h_prev - u) * c * (1 - c);  carry = dh * c
 *
 * grad_h in rows grad_row apart, the tape tape_row. ds and du in panels of `width` lanes: state
 * first + j of row r at (first + j) / width * panel + r * width + (first + j) % width. `first` and `width`
 * are multiples of `lanes`. A row of carry, ds and du is written in whole vectors: behind the
 * last state ds and du are 0. */
typedef struct {
    int64_t rows, first, count;
    void *carry;
    int64_t carry_row;
    const void *h_prev;
    int64_t prev_row;
    const void *grad_h;
    int64_t grad_row;
    const void *c_tape, *u_tape;
    int64_t tape_row;
    void *ds, *du;
    int64_t width, panel;
} fc_gate_back;

/* Row r of an operand begins r * row elements behind `at`; row = 0: the same row every time. */
typedef struct { const void *at; int64_t row; } fc_in;
typedef struct { void *at; int64_t row; } fc_out;

/* The gradient that reaches a state s of n numbers through the score s^T M s and through a
 * product V s, where y = V^T (their gradient) and ns = (M + M^T) s:
 *
 *     dw = e * (y . s - rho);  g (+)= e * y + dw * ns
 *
 * e.at NULL: e = 1. rho.at NULL: rho = y . s, so that dw is 0, or NaN where that is not finite. */
typedef struct {
    int64_t rows, n;
    fc_in e, y, s, rho, ns;
    fc_out g, dw;
    int add;
} fc_state_grad;

/* One step of the softmax over everything so far, for `rows` sequences. First, unless s is NULL,
 * the state s with the score w joins the sums d of exp(w_j - mu) and num of exp(w_j - mu) s_j:
 *
 *     new = max(mu, w);  f = exp(mu - new);  e = exp(w - new);  mu = new
 *     d = f * d + e;  num = f * num + e * s
 *
 * (d_lost and num_lost hold what rounding lost). Then, unless x is NULL, the mixture with x:
 *
 *     m = max(mu, wx);  z = exp(wx - m) + exp(mu - m) * d;  a = exp(wx - m) / z
 *     c = a * x + exp(mu - m) / z * num
 *
 * Where step >= lengths[r] (lengths NULL: nowhere): a = 0, c = 0, z = 1, m the largest number.
 * Scalars lie one beside the other, rows of n numbers too. */
typedef struct {
    int64_t rows, n, step;
    const int64_t *lengths;
    const void *s, *w, *x, *wx;
    void *mu, *d, *d_lost, *num, *num_lost;
    void *c, *a, *m, *z;
} fc_online;

/* And back: unless y is NULL, the step with the gradients y and rho joins the sums p and r, scaled
 * by exp(nu), of all later steps; then e is what a state with score w is to multiply them by.
 *
 *     new = min(nu, m);  f = exp(new - nu);  q = exp(new - m) / z;  nu = new
 *     p = f * p + q * y;  r = f * r + q * rho;  e = exp(w - nu) */
typedef struct {
    int64_t rows, n;
    const void *y, *rho, *m, *z, *w;
    void *nu, *p, *p_lost, *r, *r_lost, *e;
} fc_online_back;

/* One axis of a Winograd transform (winograd.inc), for `rows` times `items` lines of vectors:
 * line (row, item) reads its points, each one vector, from_point apart from
 * from + row * from_row + from_item[item] on, and writes its results likewise. */
enum {
    FC_WINOGRAD_COPY,     /* 1 to 1: an axis that is not transformed */
    FC_WINOGRAD_DATA,     /* points to points: the inputs of a tile */
    FC_WINOGRAD_FILTER,   /* length to points: what they are multiplied with */
    FC_WINOGRAD_OUTPUT,   /* points to length, plus bias: the sums of the products */
    FC_WINOGRAD_POINTS = 6,   /* at most: for 3 to 5 taps; 5 for 2 taps */
};

typedef struct {
    int kind, points, length;   /* of FILTER and OUTPUT 2 <= length <= 5 with six points, 1, 2 or 4
                                 * with five; of DATA as many as there are points; of COPY 1 */
    int less;             /* 1: the last of six points, infinity, is left out; else 0 */
    int64_t live;         /* lanes that decide, for COPY and OUTPUT, whether all was finite */
    int64_t rows, items;
    const void *from;
    int64_t from_row, from_point;
    const int64_t *from_item;   /* (items) */
    void *to;
    int64_t to_row, to_point;
    const int64_t *to_item;     /* (items) */
    const void *bias;     /* one vector, added to every result of COPY and OUTPUT, or NULL */
} fc_winograd;

/* FILTER along both axes in one pass, for `rows` filters of high x wide vectors, length or one less
 * each; with one less, nothing is written of the points at infinity:
 *
 *     from[row * from_row + y * from_y + x * from_x]
 *     to to[row * to_row + ((points - less_x) i + k) * to_point], i < points - less_y, k < points - less_x
 *
 * Here the length decides: two taps have five points, more have six. */
typedef struct {
    int length;           /* 2 <= length <= 5 */
    int64_t high, wide;
    int less_y, less_x;   /* only where high = wide = length */
    int64_t rows;
    const void *from;
    int64_t from_row, from_y, from_x;
    void *to;
    int64_t to_row, to_point;
} fc_winograd_square;

/* DATA or FILTER along both axes in one pass, for a row of `tiles` tiles. Tile
 * t = spread * i + phase looks at the columns start + k * spread,
 * start = spread * step * i + phase: of DATA k < points - less_x, of points - less_y lines; of
 * FILTER k < wide, of `high` lines
 *
 *     from[y * from_y + (column - before) * from_x]     before <= column < behind, else 0
 *
 * and its points go to to[to_tile[t] + y * to_row + k * to_point], but for infinity where an axis
 * has less. */
typedef struct {
    int kind, points;
    int length, high, wide;        /* of FILTER 2 <= length <= 4 with six points, 4 with five; high
                                    * and wide are length or one less */
    int less_y, less_x;
    int64_t tiles, step, spread;   /* 2 <= step <= 4 */
    int64_t before, behind;
    const void *from;
    int64_t from_y, from_x;
    void *to;
    const int64_t *to_tile;        /* (tiles) */
    int64_t to_row, to_point;
} fc_winograd_inputs;

/* OUTPUT along both axes in one pass, for a row of `tiles` tiles of length x length outputs, of
 * which the first `step` columns count: from the points
 * from[t * from_tile + y * from_row + k * from_point], the columns as above, to
 *
 *     to[y * to_y + column * lanes]     y < length, column < width */
typedef struct {
    int points, length;            /* 2 <= length <= 5; 2 or 4 with five points */
    int less_y, less_x;
    int64_t live;                  /* lanes that decide whether all was finite */
    int64_t tiles, step, spread, width;
    const void *from;
    int64_t from_tile, from_row, from_point;
    void *to;
    int64_t to_y;
    const void *bias;              /* one vector, added to every output, or NULL */
} fc_winograd_outputs;

typedef struct fc_kernels {
    int64_t lanes;   /* of one vector */
    const struct fc_kernels *half;   /* with half as many lanes and the same bits, or NULL */
    int64_t rows;    /* of the register tile at its widest: worth making m a multiple */
    int64_t width;   /* lanes of the register tile, for m >= rows: worth cutting n into */
    int64_t width_4, width_2;   /* the same for m <= 4 and m <= 2 */
    int64_t ahead;   /* bytes of each row of fc_gemm's soon that a whole tile asks for */
    void (*gemm)(const fc_gemm *);
    void (*depthwise)(const fc_depthwise *);
    void (*channelwise)(const fc_channelwise *);
    void (*channelwise_grad)(const fc_channelwise_grad *);
    void (*spread)(const fc_spread *);
    void (*gather)(const fc_gather *);
    void (*copy_rows)(const fc_copy *);
    /* is every one of the count elements at x finite? */
    int (*finite)(const void *x, int64_t count);
    /* y[i] = exp(x[i]), 1 / (1 + exp(-x[i])), i < count, at most 2 ulp off; y may be x */
    void (*exp)(const void *x, void *y, int64_t count);
    void (*sigmoid)(const void *x, void *y, int64_t count);
    /* One panel of gemm's operands from a matrix that lies the other way:
     * to[p * width + j] = from[j * from_row + p], j < count <= width, p < k. What lies between
     * count and width stays as it is. */
    void (*pack_transposed)(const void *from, int64_t from_row, int64_t count, int64_t k,
                            int64_t width, void *to);
    /* sum[j] = x[row[0] + j] + x[row[1] + j] + ..., j < count; sum may be one of those rows */
    void (*sum_rows)(const void *x, const int64_t *row, int64_t rows, int64_t count, void *sum);
    /* x[0] + x[1] + ..., count terms: pairwise and in double, in an order that depends on count
     * alone */
    double (*sum)(const void *x, int64_t count);
    void (*lay_lines)(const fc_lines *);
    void (*lane_dots)(const fc_lane_dots *);
    void (*add_lines)(const fc_added *);
    void (*gate)(const fc_gate *);
    void (*gate_back)(const fc_gate_back *);

    /* attention.inc; r runs over rows, j over n (or cols), i over count. Sums over j run in 16
     * lanes and then a tree, on every instruction set. */
    /* out[r, i] = scale * sum of x[r, j] y[r, i * n + j] */
    void (*dots)(int64_t rows, int64_t count, int64_t n, fc_in x, fc_in y, double scale,
                 fc_out out);
    /* a[r * count + i] = softmax over i of score[i][r]; a score without address is 0 */
    void (*softmax_rows)(int64_t rows, int64_t count, const fc_in *score, void *a);
    /* out[r, j] = sum over i of weight[i][r] * source[i][r, j] */
    void (*mix)(int64_t rows, int64_t n, int64_t count, const fc_in *weight, const fc_in *source,
                fc_out out);
    void (*state_grad)(const fc_state_grad *);
    void (*online)(const fc_online *);
    void (*online_back)(const fc_online_back *);
    /* Panels of `width` lanes (a multiple of `lanes`), each `panel` elements behind the last:
     * to[j / width * panel + r * width + j % width] = scale[r] * source[r, j], j < cols;
     * zeros up to the end of the vector, whatever it was behind. scale.at NULL: 1. */
    void (*pack_panels)(int64_t rows, int64_t cols, fc_in source, fc_in scale, int64_t width,
                        int64_t panel, void *to);
    /* The same of the upper triangle of an (n, n) matrix, its diagonal halved; only rows that
     * are not all zero in a panel are written. */
    void (*pack_triangle)(int64_t n, fc_in source, int64_t width, int64_t panel, void *to);
    /* m (n, n) becomes m + m^T; its upper triangle is copied to the lower one. scratch: (n, n) */
    void (*add_transpose)(int64_t n, fc_out m, void *scratch);
    void (*mirror)(int64_t n, fc_out m, void *scratch);
    /* Rows of an array to lanes and back: square transposes, for l < lanes, i < count
     *     to_lanes     to[i * lanes + l] = from[min(l, rows - 1) * from_row + i]
     *     from_lanes   to[l * to_row + i] = from[i * lanes + l], l < rows
     * 1 <= rows <= lanes. to_lanes reads from what its formula names on up to `end`, and may
     * write as if count were a multiple of lanes; from_lanes may read as if. Meanwhile what lies
     * `ahead` elements behind that in the array is brought to L2: what the next call will read or
     * write. 0: nothing. */
    void (*to_lanes)(const void *from, int64_t from_row, int64_t rows, const void *end,
                     int64_t count, int64_t ahead, void *to);
    void (*from_lanes)(const void *from, int64_t count, void *to, int64_t to_row, int64_t rows,
                       int64_t ahead);
    /* Returns, for COPY and OUTPUT, whether the live lanes of all that it read were finite. */
    int (*winograd)(const fc_winograd *);
    void (*winograd_square)(const fc_winograd_square *);
    void (*winograd_inputs)(const fc_winograd_inputs *);
    /* Returns whether the live lanes of all that it read were finite. */
    int (*winograd_outputs)(const fc_winograd_outputs *);
    /* y[i * step] = z[i] where y[i * step] is not finite, i < count */
    void (*mend)(void *y, int64_t step, const void *z, int64_t count);
} fc_kernels;

extern const fc_kernels fc_kernels_f32_avx512, fc_kernels_f64_avx512;
extern const fc_kernels fc_kernels_f32_avx2, fc_kernels_f64_avx2;
extern const fc_kernels fc_kernels_f32_baseline, fc_kernels_f64_baseline;

/* The tables in force. Set at import by fc_isa_select (dispatch.h), read by every driver. */
extern const fc_kernels *fc_active[FC_DTYPES];

#endif
