/* What the parts of the count share: conv_count.c and conv_count_*.c. */
#ifndef FC_CONV_COUNT_PARTS_H
#define FC_CONV_COUNT_PARTS_H

#include <math.h>

#include "conv_channelwise.h"
#include "conv_count.h"

/* Counted beside what a way does itself, after it: vectors of results that are stored to every
 * other place; cache lines of what is read and written, where that comes from memory, where it is
 * more than L2 keeps, and where it is, but asked for ahead of time; lines of weights that crowd a
 * set of L1, and of L2; of cells that some output can meet, cells and lines copied; lines of
 * results that nothing is summed for; vectors of results filled before the sums come; sums. */
enum {
    EVERY_OTHER = 21, MEMORY, FAR, ASKED, CROWDED, CROWDED_L2, KEPT, KEPT_LINES, IDLE, FILLED, LAST
};

_Static_assert(LAST == FC_TERMS - 1, "FC_TERMS counts them all");

static inline double fc_count_volume(const int64_t lengths[3])
{
    return (double)fc_volume(lengths);
}

static inline double fc_count_taps(const fc_job *job)
{
    return (double)(job->axis[0].taps * job->axis[1].taps * job->axis[2].taps);
}

/* What caches keep of one operand, beside the others; of L3, where others work too. */
enum { L1_BYTES = FC_L1_BYTES / 4 * 3, L2_BYTES = 1 << 19, L3_BYTES = 4 << 20 };

/* Share of so many bytes that L3 does not keep. */
static inline double fc_count_beyond(double bytes) { return fmax(0, 1 - L3_BYTES / bytes); }

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

/* What planes copy: vectors of whole lines, the zeros beside them among these, or, of every fifth
 * cell or fewer, cells one by one; lines; vectors of zeros above and below. Vectors that hold zeros
 * are laid column by column, all lines of one: calls, and columns of these. */
typedef struct { double vectors, singly, lines, zeros, columns; } fc_copied;

fc_copied fc_count_copied(const fc_job *job, const fc_planes_shape *shape, double lanes);

/* One sum by a way of the direct algorithm. Of phases of a stride that planes take, `together`
 * share one copy, and read the same weights at the same time. */
void fc_count_panels(const fc_job *job, double lanes, double term[FC_TERMS]);
void fc_count_planes(const fc_job *job, const fc_planes_shape *shape, double lanes,
                     double together, double term[FC_TERMS]);
void fc_count_depthwise(const fc_job *job, const fc_planes_shape *shape, double lanes,
                        double term[FC_TERMS]);
void fc_count_toeplitz(const fc_job *job, const fc_toeplitz_shape *shape, double lanes,
                       double term[FC_TERMS]);

/* Ways of two passes: lanes over channels; patches, turned or, where `back`, turned back, and
 * columns, added up: their convolution is FC_KERNEL_OF_1. */
void fc_count_channelwise(const fc_job *job, const fc_channelwise_shape *shape, double lanes,
                          double term[FC_TERMS]);
void fc_count_patches(const fc_conv *conv, int back, double term[FC_TERMS]);
void fc_count_columns(const fc_conv *conv, double lanes, double term[FC_TERMS]);

/* Of one pass, for vectors of so many lanes. */
void fc_count_direct(const fc_conv *conv, int pass, double lanes, double terms[FC_WAYS][FC_TERMS]);
void fc_count_grad_weight(const fc_conv *conv, double lanes, double terms[FC_WAYS][FC_TERMS]);
void fc_count_winograd(const fc_conv *conv, int pass, int prepared, double lanes,
                       double terms[FC_WAYS][FC_TERMS]);

#endif
