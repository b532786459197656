/* What the parts of the count share: conv_count.c and conv_count_*.c. */
#ifndef FC_CONV_COUNT_PARTS_H
#define FC_CONV_COUNT_PARTS_H

#include <math.h>

#include "conv_channelwise.h"
#include "conv_count.h"

/* Counted beside what a way does itself: vectors of results filled before the sums come; lines
 * of results that nothing is summed for; of cells that some output can meet, lines and cells
 * copied; cache lines of what is read and written, where that is more than L2 keeps, and where
 * it comes from memory; vectors of results that are stored to every other place; lines of weights
 * that crowd a set of L1. Idle lines and crowded ones are for the direct ways, kept lines and cells
 * for Winograd's, in one place. */
enum {
    LAST = FC_TERMS - 1, FILLED = LAST - 1, IDLE = LAST - 2, KEPT_LINES = LAST - 2,
    CROWDED = LAST - 3, KEPT = LAST - 3, FAR = LAST - 4, MEMORY = LAST - 5, EVERY_OTHER = LAST - 6
};

static inline double fc_count_volume(const int64_t lengths[3])
{
    return (double)fc_volume(lengths);
}

static inline void fc_count_add(double term[FC_TERMS], const double counted[FC_TERMS])
{
    for (int i = 0; i < FC_TERMS; i++)
        term[i] += counted[i];
}

/* Products on the register tile (gemm_kernel.inc): cycles for one term of all their sums,
 * multiply-adds among these of tiles of few rows, vectors of the operand B and elements of A
 * loaded; tiles, vectors of results, elements of these stored one by one since they do not fill
 * their vectors. */
typedef struct { double cycles, few, loads, scalars, tiles, vectors, edges; } fc_product;

/* Add `times` products of so many rows and n columns. */
void fc_count_product(double rows, double n, double lanes, double size, double times,
                      fc_product *p);

/* Elements of a matrix that pack_transposed turns by fours; it copies the others one by one. */
static inline double fc_count_by_fours(double rows, double columns)
{
    return 16 * floor(rows / 4) * floor(columns / 4);
}

/* Ways of two passes: lanes over channels, and patches, turned or, where `back`, turned back; their
 * convolution is FC_KERNEL_OF_1. */
void fc_count_channelwise(const fc_job *job, const fc_channelwise_shape *shape, double lanes,
                          double term[FC_TERMS]);
void fc_count_patches(const fc_conv *conv, int back, double term[FC_TERMS]);

/* Of one pass, for vectors of so many lanes. */
void fc_count_direct(const fc_conv *conv, int pass, double lanes, double terms[FC_WAYS][FC_TERMS]);
void fc_count_grad_weight(const fc_conv *conv, double lanes, double terms[FC_WAYS][FC_TERMS]);
void fc_count_winograd(const fc_conv *conv, int pass, int prepared, double lanes,
                       double terms[FC_WAYS][FC_TERMS]);

#endif
