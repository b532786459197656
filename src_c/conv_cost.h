/* Which way takes a convolution. Everything chooses here. The choice depends on one item's
 * geometry, the dtype and the instruction set, never on the batch, the threads or the data. */
#ifndef FC_CONV_COST_H
#define FC_CONV_COST_H

#include "conv_count.h"

/* The way (conv_job.h) for one of the three passes, of those that fit and that conv->algorithm
 * allows, that is never far from the cheapest, with few images or many: FC_WINOGRAD falls back on
 * the direct ones where it does not fit. Where an algorithm is named, the choice among direct ways
 * that differ in bits is the same on every instruction set with fused multiply-adds. `prepared`:
 * are Winograd's weights transformed beforehand? */
int fc_conv_choose(const fc_conv *conv, int pass, int prepared);

/* What fc_conv_count counts, with FC_KERNEL_OF_1: nanoseconds that the cheapest way takes for the
 * patches. */
void fc_conv_terms(const fc_conv *conv, int pass, int prepared, int64_t bytes,
                   double terms[FC_WAYS][FC_TERMS]);

/* Take that way wherever it fits; FC_WAYS ends it. For bench/sweep.py, which measures what each
 * takes. Not while anything runs. */
void fc_conv_force_way(int way);

#endif
