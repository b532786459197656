/* The products of one part: M = V U at each point. */
#ifndef FC_CONV_WINOGRAD_PRODUCTS_H
#define FC_CONV_WINOGRAD_PRODUCTS_H

#include "conv_winograd_job.h"

/* A part's tiles in M, by what they have less: first such as lack infinity along x, then whole
 * ones, then such as lack it along y, then along both. So at each point those that have it lie
 * in a row. start[y][x] is where the first of a kind stands. */
typedef struct { int64_t start[2][2], all; } fc_winograd_order;

fc_winograd_order fc_winograd_order_of(const fc_winograd_plan *plan, const fc_winograd_part *of);

/* M [point][tile][filter of the block], m_point from point to point, to the member's `products`:
 * the part's slice of channels, added to what is there unless it is the first. V is that of chunk
 * `at`, `u` the slice of U. Meanwhile what comes next is asked for. */
void fc_winograd_multiply(const fc_winograd_call *c, const fc_winograd_scratch *s, const char *u,
                          const fc_winograd_part *of, const fc_winograd_chunk *at);

#endif
