/* What each way of a convolution does, counted: the operations that conv_prices.h gives a price.
 * The files conv_count_*.c have a function for each way.
 *
 * Counts depend on the geometry, the batch that `conv` has, the dtype and the bytes of a vector. */
#ifndef FC_CONV_COUNT_H
#define FC_CONV_COUNT_H

#include "conv_job.h"

enum { FC_FORWARD, FC_GRAD_INPUT, FC_GRAD_WEIGHT };

/* Counted operations of a way. The last is 1 for each sum (one for each phase of an input
 * gradient): where it is 0 the way does not fit. */
enum { FC_TERMS = 32 };

/* Bytes of a vector of the instruction set in force. */
int64_t fc_vector_bytes(const fc_conv *conv);

/* What patches and columns cost as a convolution with a kernel of 1, which is none of these
 * operations: fc_conv_terms (conv_cost.h) knows. */
enum { FC_KERNEL_OF_1 = 0 };

/* All ways of one pass that conv->algorithm allows, for vectors of so many bytes. `prepared`: are
 * Winograd's weights transformed beforehand? */
void fc_conv_count(const fc_conv *conv, int pass, int prepared, int64_t bytes,
                   double terms[FC_WAYS][FC_TERMS]);

/* Multiply-adds of one image. */
double fc_conv_multiply_adds(const fc_conv *conv);

/* Can the ways of the direct algorithm differ in bits? Not where a group has one channel: then
 * each sum is one chain, over the taps in order, but for patches, whose channels they are. */
int fc_conv_ways_differ(const fc_conv *conv, int pass);

#endif
