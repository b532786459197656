/* Counting elements, finding them, and laying out scratch: what every driver needs. */
#ifndef FC_SCRATCH_H
#define FC_SCRATCH_H

#include <stddef.h>
#include <stdint.h>

#include "kernels.h"

enum { FC_LINE = 64 };   /* bytes: scratch is cut, and rows of it aligned, to cache lines */

static inline int64_t fc_least(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t fc_most(int64_t a, int64_t b) { return a > b ? a : b; }
/* count and part: count >= 0, part > 0 */
static inline int64_t fc_parts(int64_t count, int64_t part) { return (count + part - 1) / part; }
static inline int64_t fc_round_up(int64_t count, int64_t part) { return fc_parts(count, part) * part; }

/* An element of `size` bytes. */
static inline void *fc_at(const void *base, int64_t element, int64_t size)
{
    return (char *)base + element * size;
}

/* The next `bytes` of a block, from a cache line on; with base NULL only count them. A driver's
 * layout function so runs twice: to learn how much to take from the arena, and to divide it. */
static inline void *fc_carve(char *base, size_t *used, int64_t bytes)
{
    void *piece = base ? base + *used : NULL;
    *used += (size_t)fc_round_up(bytes, FC_LINE);
    return piece;
}

/* Pieces of memory that what follows a product will read, up to one without address: it brings
 * them to L2 meanwhile, each gemm as much twice as it reads of B. */
typedef struct { const char *at, *end; } fc_soon;

static inline fc_soon fc_piece(const void *at, int64_t bytes)
{
    return (fc_soon){at, (const char *)at + bytes};
}

/* `rows` of them, of so many bytes. */
static inline fc_rows fc_next_soon(fc_soon *soon, int64_t rows, int64_t bytes)
{
    while (soon && soon->at && soon->at >= soon->end)
        soon++;
    if (!soon || !soon->at)
        return (fc_rows){0};
    soon->at += rows * bytes;
    return (fc_rows){soon->at - rows * bytes, bytes, bytes};
}

#endif
