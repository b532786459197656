/* Tiles: what the Winograd convolutions share. How an axis is cut into tiles and rows of tiles
 * into strips, and how an array becomes its transform V, one matrix [tile][channel] a point. */
#ifndef FC_CONV_WINOGRAD_TILES_H
#define FC_CONV_WINOGRAD_TILES_H

#include "conv_plan.h"
#include "kernels.h"

/* One axis as its tiles see it: tap i of output j meets cell j * stride + first + i * spread,
 * spread > 0. Tile t holds the outputs start(t) + i * spread, i < tile, so that it is dense in
 * its phase of the dilation; `spread` tiles in a row cover a dense run of outputs. Axes with one
 * tap are not transformed: tiles of one output and one point.
 *
 * A tile has the `all` points of winograd.inc, or all but infinity and one output less where
 * that is less work: 3, 6 or 9 outputs at 3 taps. An axis may be mixed: `tile` outputs and
 * `points` points in its first `whole` runs of `spread` tiles, one less of both in those behind
 * them. 29 outputs then take 5 * 6 + 3 * 5 products in place of 8 * 6.
 *
 * Taps p, p + stride, .. meet every stride-th cell alone: the sum is one of `phases` sums of stride
 * 1, over other cells each, and they are added before the one transform back. The first `full` of
 * them have `length` taps, the others one less, and so nothing to add at infinity: with stride 2
 * and three taps 5 + 4 products make four outputs.
 *
 * Taps that are more than the points serve are cut into such sums, too: seven are runs of four and
 * three, and 6 + 5 products make three outputs. With a stride each of its phases is cut so. */
typedef struct {
    int64_t taps, tile, points, all;
    int64_t stride, phases, full, length;
    int64_t outputs, cells, first, spread, tiles, whole;
    int64_t weight, weight_step, place, place_step;   /* as in fc_axis */
} fc_line;

/* 0 where the axis does not fit: taps that the points do not serve, or phases of one tap each. */
int fc_line_of(const fc_axis *axis, fc_line *line);

/* Mix two axes of a sum, both of which are transformed. Where they do not allow it, nothing
 * changes. */
void fc_line_mix(fc_line *y, fc_line *x);

static inline int64_t fc_line_start(const fc_line *line, int64_t tile)
{
    const int64_t run = tile / line->spread;
    const int64_t outputs = run * line->tile - fc_most(run - line->whole, 0);
    return outputs * line->spread + tile % line->spread;
}

static inline int fc_line_less(const fc_line *line) { return (int)(line->all - line->points); }

/* The first tap of a phase, and how many it has. */
static inline int64_t fc_line_tap(const fc_line *line, int64_t phase)
{
    const int64_t run = phase / line->stride, first = phase % line->stride;
    const int64_t full = fc_parts(line->full - first, line->stride);   /* of its phase's runs */
    return (run * line->length - fc_most(run - full, 0)) * line->stride + first;
}

static inline int64_t fc_line_taps(const fc_line *line, int64_t phase)
{
    return line->length - (phase >= line->full);
}

/* How many phases have something to add at a point, and how many products that makes a tile. */
static inline int64_t fc_line_live(const fc_line *line, int64_t point)
{
    return line->points > 1 && point == line->points - 1 ? line->full : line->phases;
}

static inline int64_t fc_line_products(const fc_line *line)
{
    return (line->points - 1) * line->phases + line->full;
}

/* Strips: runs of `segment` tiles along x, one strip below the other, image after image. */
typedef struct {
    fc_line y, x;
    int64_t batch, segment, segments, strips;
    int64_t width;   /* of a row, what a strip's tiles look at: cells of one phase, or outputs */
    int64_t cells;   /* the same of all phases */
} fc_strips;

fc_strips fc_strips_of(const fc_line *y, const fc_line *x, int64_t batch);

/* Where a strip stands, and what of it there is. */
typedef struct {
    int64_t image, row, segment;   /* row of tiles, segment of it */
    int64_t tiles, whole;          /* the first `whole` have the points at infinity of x, */
    int less;                      /* and all those of y unless it has less */
    int64_t top, left;             /* its first output */
    int64_t height, width;         /* outputs that exist; those of a strip's row are dense */
} fc_strip;

fc_strip fc_strip_at(const fc_strips *strips, int64_t strip);

/* Chunks of about `most` strips, as many for each of a team's members, and none of them empty: a
 * few strips more rather than that. */
static inline int64_t fc_strip_chunks(int64_t strips, int64_t most, int64_t members)
{
    return fc_least(fc_parts(strips, most * members), strips / members) * members;
}

/* Vectors of one length; where item i of a row of them stands, the first cell of tile i and its
 * first output. Channels that do not fill a vector take half a one where that holds them. */
typedef struct {
    const fc_kernels *kernels;
    int64_t lanes;
    int64_t *item, *cell, *output;
} fc_vectors;

/* Whole ones and half ones, with tables for such strips; where there are no half ones both are
 * whole. */
void fc_vectors_carve(fc_vectors by[2], const fc_kernels *kernels, const fc_strips *strips,
                      char *base, size_t *used);
void fc_vectors_fill(const fc_vectors by[2], const fc_strips *strips);

/* Those for the first of so many channels. */
static inline const fc_vectors *fc_vectors_for(const fc_vectors by[2], int64_t channels)
{
    return channels <= by[1].lanes ? &by[1] : &by[0];
}

/* An array to be transformed. V lies
 * [point][block of channels][strip][plane][phase][tile][channel]; outputs have one phase. */
typedef struct {
    const fc_kernels *kernels;
    int64_t size, lanes;                  /* of an element, of a vector */
    const fc_strips *strips;
    int kind;                             /* FC_WINOGRAD_DATA, or FC_WINOGRAD_FILTER for outputs */
    int whole;                            /* are the tiles that a strip lacks to be zero? */
    int64_t image, group, channels;       /* strides of an image and a group; channels of it */
    int64_t wide;                         /* channels of a block: whole cache lines, or all */
    int64_t cells[3], plane;              /* of a channel; their product */
    int64_t first_y, first_x;             /* cell of output 0, tap 0 */
    int64_t stride_y, stride_x, phases_y, phases_x;   /* the lines', or 1 for outputs */
    int64_t phases, across;               /* of both axes; cells of a row */
    int64_t stack, stage_rows;            /* strips transformed together, and their rows */
    int64_t pitch, strip, block, point;   /* of a tile, a strip, a block and a point in V */
    const char *array, *end;
    const fc_vectors *by;                 /* (2) */
    const int64_t *slot;                  /* of tile i: i * pitch */
} fc_tiled;

/* Fill in what stands from stride_y to point, for V of `chunk` strips. */
void fc_tiled_plan(fc_tiled *tiled, int64_t chunk);

/* Scratch for one transform: stage, then one row of tiles at its points. */
int64_t fc_tiled_stage_bytes(const fc_tiled *tiled);
int64_t fc_tiled_rows_bytes(const fc_tiled *tiled);

/* This member's share of V for strips [first, first + count). */
void fc_tiled_fill(const fc_tiled *tiled, int64_t group, int64_t first, int64_t count,
                   char *stage, char *rows, char *v, int member, int team);

/* About the share `part` of `parts` of `runs` runs of `length` bytes: some bytes of one run. */
typedef struct { int64_t run, from, bytes; } fc_run_part;

fc_run_part fc_share_runs(int64_t runs, int64_t length, int64_t size, int64_t part, int64_t parts);

/* Of the cells that strips [first, first + count) of a plane look at, about the share `part` of
 * `parts`: for each channel from `channel` on a run of them. Only to be asked for. */
fc_rows fc_tiled_soon(const fc_tiled *tiled, int64_t group, int64_t channel, int64_t first,
                      int64_t count, int64_t part, int64_t parts);

/* Rows that are walked together lie an odd number of cache lines apart, so that no two of them
 * share a set of L1: 36 in two or four sets are 6 % of a whole convolution. */
static inline int64_t fc_odd_lines(int64_t distance, int64_t size)
{
    const int64_t line = FC_LINE / size, lines = fc_parts(distance, line);
    return (lines + !(lines & 1)) * line;
}

#endif
