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
    const int64_t *a_row;    /* (m) */
    const int64_t *a_tap;    /* (taps) */
    int64_t a_step;
    const void *b;           /* each row readable up to n rounded up to a multiple of `lanes` */
    const int64_t *b_tap;    /* (taps) */
    int64_t b_step;
    void *c;                 /* (m, n), rows c_row apart; only j < n is read or written */
    int64_t c_row;
    const void *bias;        /* (m) or NULL for zeros */
    int accumulate;
} fc_gemm;

/* Runs of lanes gathered into rows of scratch: for each row and each run,
 *
 *     to[row * to_row + run.lane + l] = from[row * from_row + run.from + l * step],  l < length
 *
 * and 0 in every lane that no run covers. Runs do not overlap and stand in ascending order of
 * lane. Whole vectors are read where the array, which has `behind` elements before `from` and
 * `ahead` from it on, holds them. */
typedef struct { int64_t lane, from, length; } fc_run;

typedef struct {
    const fc_run *runs;
    int64_t count, step;     /* step >= 1 */
    int64_t rows;
    const void *from;
    int64_t from_row;
    int64_t behind, ahead;
    void *to;
    int64_t to_row;          /* a multiple of `lanes`; rows are written whole */
} fc_gather;

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

/* The gated cell behind its products, for `rows` sequences and `count` states:
 *
 *     c = sigmoid(s + b_c);  u_tape = u + b_x;  h = c * h_prev + (1 - c) * u_tape
 *
 * s and u in rows s_row apart; h, c_tape, u_tape (both NULL: no tape) h_row apart. */
typedef struct {
    int64_t rows, count;
    const void *s, *u;
    int64_t s_row;
    const void *b_c, *b_x;   /* (count) */
    const void *h_prev;
    int64_t prev_row;
    void *h, *c_tape, *u_tape;
    int64_t h_row;
} fc_gate;

/* And back: with dh = carry + grad_h,
 *
 *     du = dh * (1 - c);  ds = dh * (h_prev - u) * c * (1 - c);  carry = dh * c
 *
 * everything but carry and h_prev in rows h_row apart. */
typedef struct {
    int64_t rows, count;
    void *carry;
    int64_t carry_row;
    const void *h_prev;
    int64_t prev_row;
    const void *grad_h, *c_tape, *u_tape;
    void *ds, *du;
    int64_t h_row;
} fc_gate_back;

typedef struct {
    int64_t lanes;   /* of one vector */
    int64_t rows;    /* of the register tile at its widest: worth making m a multiple */
    int64_t width;   /* lanes of the register tile, for m >= rows: worth cutting n into */
    int64_t width_4, width_2;   /* the same for m <= 4 and m <= 2 */
    void (*gemm)(const fc_gemm *);
    void (*gather)(const fc_gather *);
    void (*copy_rows)(const fc_copy *);
    /* is every one of the count elements at x finite? */
    int (*finite)(const void *x, int64_t count);
    /* y[i] = exp(x[i]), 1 / (1 + exp(-x[i])), i < count, at most 2 ulp off; y may be x */
    void (*exp)(const void *x, void *y, int64_t count);
    void (*sigmoid)(const void *x, void *y, int64_t count);
    /* One panel of gemm's operands: to[p * width + j] = row[p][column + j], j < count <= width,
     * p < rows; and, from a matrix that lies the other way, from[j * from_row + p], p < k. What
     * lies between count and width stays as it is. */
    void (*pack_rows)(const void *const *row, int64_t rows, int64_t column, int64_t count,
                      int64_t width, void *to);
    void (*pack_transposed)(const void *from, int64_t from_row, int64_t count, int64_t k,
                            int64_t width, void *to);
    /* sum[j] = row[0][j] + row[1][j] + ..., j < count; sum may be one of the rows */
    void (*sum_rows)(const void *const *row, int64_t rows, int64_t count, void *sum);
    /* x[0] + x[1] + ..., count terms: pairwise and in double, in an order that depends on count alone */
    double (*sum)(const void *x, int64_t count);
    void (*gate)(const fc_gate *);
    void (*gate_back)(const fc_gate_back *);
} fc_kernels;

extern const fc_kernels fc_kernels_f32_avx512, fc_kernels_f64_avx512;
extern const fc_kernels fc_kernels_f32_avx2, fc_kernels_f64_avx2;
extern const fc_kernels fc_kernels_f32_baseline, fc_kernels_f64_baseline;

/* The tables in force. Set at import by fc_isa_select (dispatch.h), read by every driver. */
extern const fc_kernels *fc_active[FC_DTYPES];

#endif
