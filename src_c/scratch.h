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

/* Pieces of memory that what follows a product will read or write, for the product to bring to L2
 * meanwhile: where it would be waited for, from L3 or beyond. Only once what is to be read behind
 * it is FC_BEHIND bytes of operands or less, which do not evict them (T 100, B 64, n 128, m 1024,
 * both ways: 1.04 times as long without that). */
enum { FC_SOON_PIECES = 5, FC_BEHIND = 256 << 10 };
typedef struct { const char *at, *end; } fc_piece;
typedef struct { int count; fc_piece piece[FC_SOON_PIECES]; } fc_soon;

static inline fc_soon fc_nothing_soon(void)
{
    fc_soon soon;
    soon.count = 0;   /* zeroing the pieces too would be felt in steps of a microsecond */
    return soon;
}

/* One more, FC_SOON_PIECES at most; nothing if it is NULL or empty. */
static inline void fc_want_soon(fc_soon *soon, const void *at, int64_t bytes)
{
    if (at && bytes > 0)
        soon->piece[soon->count++] = (fc_piece){at, (const char *)at + bytes};
}

/* As much of them as g's whole tiles ask for becomes g->soon, and is no longer in `soon`. */
static inline void fc_ask_soon(const fc_kernels *kernels, fc_gemm *g, fc_soon *soon,
                               int64_t behind)
{
    const int64_t tiles = g->m / kernels->rows * (g->n / kernels->width);
    const int64_t each = g->taps * g->k * kernels->ahead;   /* bytes that one of them asks for */
    fc_piece *piece = soon->piece, *const end = piece + soon->count;
    if (tiles == 0 || each == 0)
        return;
    for (int i = 0; i < FC_SOON; i++) {
        while (piece < end && piece->at >= piece->end)
            piece++;
        g->soon[i] = (fc_rows){0};
        if (i >= tiles || behind > FC_BEHIND || piece == end)
            continue;
        const int64_t asked = fc_least(fc_parts(piece->end - piece->at, each),
                                       fc_most(1, tiles / FC_SOON));
        g->soon[i] = (fc_rows){piece->at, asked * kernels->ahead, asked * kernels->ahead};
        piece->at += asked * each;
    }
}

#endif
