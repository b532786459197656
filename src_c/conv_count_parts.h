/* What the parts of the count share: conv_count.c, conv_count_direct.c, conv_count_winograd.c. */
#ifndef FC_CONV_COUNT_PARTS_H
#define FC_CONV_COUNT_PARTS_H

#include "conv_count.h"

/* Counted beside what a way does itself: vectors of results filled before the sums come; lines
 * of results that nothing is summed for; of cells that some output can meet, lines and cells
 * copied; cache lines of what is read and written, where that is more than L2 keeps, and where
 * it comes from memory; vectors of results that are stored to every other place. Idle lines and
 * those vectors are for the direct ways, kept ones for Winograd's, in one place. */
enum {
    LAST = FC_TERMS - 1, FILLED = LAST - 1, IDLE = LAST - 2, KEPT_LINES = LAST - 2, KEPT = LAST - 3, FAR = LAST - 4,
    MEMORY = LAST - 5, EVERY_OTHER = LAST - 6
};

static inline double fc_count_volume(const int64_t lengths[3]) { return (double)fc_volume(lengths); }

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

/* Of one pass, for vectors of so many lanes. */
void fc_count_direct(const fc_conv *conv, int pass, double lanes, double terms[FC_WAYS][FC_TERMS]);
void fc_count_grad_weight(const fc_conv *conv, double lanes, double terms[FC_WAYS][FC_TERMS]);
void fc_count_winograd(const fc_conv *conv, int pass, int prepared, double lanes,
                       double terms[FC_WAYS][FC_TERMS]);

#endif
