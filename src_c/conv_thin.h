/* Cells that no output reads are left out.
 *
 * Where stride and dilation of an axis share a divisor g, outputs meet every g-th cell alone, and
 * with a kernel of 1 every stride-th. The convolution of those cells has the stride and the
 * dilation divided by g: with stride = dilation it is one of stride 1, which Winograd's algorithm
 * takes. The direct one needs no such copy: it has only cells that are met in its tables.
 */
#ifndef FC_CONV_THIN_H
#define FC_CONV_THIN_H

#include "conv_plan.h"

typedef struct {
    fc_conv conv;      /* gives the same outputs from `x` */
    const void *x;     /* the caller's own where nothing is left out, else in `scratch` */
    void *scratch;     /* to be given back to the arena */
} fc_thin;

int fc_thin_source(fc_thin *thin, const fc_conv *conv, const void *x, int threads);

/* Back: dx[n, c, i] = from[n, c, number of i] for the cells i that are kept (from NULL: for none),
 * and bias[c] (bias NULL: 0) for the others. */
void fc_thin_spread(const fc_conv *conv, const void *from, const void *bias, void *dx, int threads);

#endif
