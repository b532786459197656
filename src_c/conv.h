/* Convolution drivers: what to compute in which order on which thread.
 *
 * Shapes stand beside each pointer; every array is C-contiguous, aligned to its element, owned
 * by the caller, and no output overlaps an input. Always three spatial axes: fewer are given as
 * leading axes of length 1. K = kernel[0] * kernel[1] * kernel[2].
 *
 *     N batch   G groups   C in_channels   F out_channels   (C and F of all groups together)
 *     input  x  (N, C, in[0], in[1], in[2])
 *     weight w  (F, C / G, kernel[0], kernel[1], kernel[2])
 *     output y  (N, F, out[0], out[1], out[2])
 *
 *     y[n, f, o] = bias[f] + sum over c, r of x[n, c, o * stride + r * dilation - before] w[f, c, r]
 *
 * where x is 0 outside. `out` must fit `in`: 0 < out <= floor((in + before + after - dilation
 * (kernel - 1) - 1) / stride) + 1 for some after >= 0; the caller checks. Products of sizes must
 * fit int64.
 *
 * Every function may use up to `threads` threads (it takes fewer where that is faster), gives
 * the same bits for any number of them, and may be called from many threads at once. Scratch
 * comes from the arena. Returns FC_OK or FC_NO_MEMORY, then with unspecified output.
 */
#ifndef FC_CONV_H
#define FC_CONV_H

#include <stddef.h>
#include <stdint.h>

enum { FC_OK = 0, FC_NO_MEMORY = -1 };

/* FC_DIRECT is the sum as it is written; FC_AUTO what conv_cost.c finds cheapest. One that does
 * not fit a pass is replaced by FC_DIRECT. */
enum { FC_AUTO = 0, FC_DIRECT, FC_WINOGRAD };

typedef struct {
    int dtype;   /* FC_F32 or FC_F64: of every array */
    int algorithm;
    int64_t batch, groups, in_channels, out_channels;
    int64_t in[3], kernel[3], out[3];
    int64_t stride[3], dilation[3], before[3];
} fc_conv;

/* x, w -> y. bias (F) or NULL. */
int fc_conv_forward(const fc_conv *conv, const void *x, const void *w, const void *bias,
                    void *y, int threads);

/* Weights packed for the algorithm that conv names (not FC_AUTO), with any image, for the
 * instruction set in force: their size in bytes, 0 where nothing is gained; the packing,
 * `packed` aligned to 64 bytes. The convolution (fc_conv_run in conv_job.h) still reads w, and
 * has the same bits. */
size_t fc_conv_packed_bytes(const fc_conv *conv);
int fc_conv_pack(const fc_conv *conv, const void *w, void *packed, int threads);

/* dy (as y), w -> dx (as x):
 *     dx[n, c, i] = bias[c] + sum over f and all o, r with o * stride + r * dilation - before = i
 *                   of dy[n, f, o] w[f, c, r]
 * bias (C) or NULL: with it, this is the forward pass of the transposed convolution. */
int fc_conv_grad_input(const fc_conv *conv, const void *dy, const void *w, const void *bias,
                       void *dx, int threads);

/* dy, x -> dw (as w):
 *     dw[f, c, r] = sum over n, o of dy[n, f, o] x[n, c, o * stride + r * dilation - before] */
int fc_conv_grad_weight(const fc_conv *conv, const void *dy, const void *x, void *dw, int threads);

/* dy -> db (F): db[f] = sum over n, o of dy[n, f, o], summed pairwise. */
int fc_conv_grad_bias(const fc_conv *conv, const void *dy, void *db, int threads);

#endif
