/* What all ways have in common: products on the register tile, and what does not fit the caches. */
#include <math.h>
#include <string.h>

#include "conv_count_parts.h"
#include "conv_patches.h"

double fc_conv_multiply_adds(const fc_conv *conv)
{
    return fc_count_volume(conv->out) * fc_count_volume(conv->kernel) * (double)conv->out_channels
           * (double)conv->in_channels / (double)conv->groups;
}

int64_t fc_vector_bytes(const fc_conv *conv)
{
    return fc_active[conv->dtype]->lanes * (conv->dtype == FC_F32 ? 4 : 8);
}

int fc_conv_ways_differ(const fc_conv *conv, int pass)
{
    return pass == FC_GRAD_WEIGHT || fc_patches_fit(conv)
        || conv->groups != (pass == FC_FORWARD ? conv->in_channels : conv->out_channels);
}

/* --- products (gemm_kernel.inc) -------------------------------------------------------------- */

/* Register tiles of the instruction sets (isa_*.c), in rows and vectors; the most rows of those
 * that wait for their loads; what a cycle starts, in multiply-adds of a vector, and what a
 * vector's load takes of it. */
typedef struct { int64_t rows, cols, cols_4, cols_2, few; double starts, load; int half; } tiles;

static const tiles *tiles_of(double lanes, double size)
{
    static const tiles all[3] = {
        {4, 3, 3, 6, 3, 1, 0.5, 0}, {4, 3, 3, 6, 3, 2, 0.5, 0}, {8, 3, 6, 8, 2, 1, 1, 1}
    };
    return &all[(int64_t)(lanes * size) / 32];
}

/* A cycle's loads and multiply-adds run side by side, and each of a tile's sums is a chain,
 * whose next link waits for the last. */
static void add_tile(const tiles *of, double rows, double cols, double edge, double times,
                     fc_product *p)
{
    enum { LATENCY = 4 };   /* of a multiply-add */
    p->cycles += times * fmax(fmax(rows * cols / of->starts, cols * of->load + rows / 2), LATENCY);
    p->few += rows <= (double)of->few ? times * rows * cols : 0;
    p->loads += times * cols;
    p->scalars += times * rows;
    p->tiles += times;
    p->vectors += times * rows * cols;
    p->edges += times * rows * edge;
}

static void add_band(const tiles *of, double rows, double n, double lanes, double times,
                     fc_product *p)
{
    const double cols = (double)(rows > 4 ? of->cols : rows > 2 ? of->cols_4 : of->cols_2);
    const double over = fmod(n, lanes), half = of->half && over <= lanes / 2 ? over : 0;
    const double vectors = ceil((n - half) / lanes), whole = fmax(0, ceil(vectors / cols) - 1);
    const double last = vectors - whole * cols, missing = over && !half ? lanes - over : 0;
    add_tile(of, rows, cols, 0, times * whole, p);
    if (last)
        add_tile(of, rows, last, missing ? last * lanes - missing : 0, times, p);
    if (half)   /* two of its multiply-adds start together */
        add_tile(of, rows, 0.5, half < lanes / 2 ? half : 0, times, p);
}

void fc_count_product(double rows, double n, double lanes, double size, double times, fc_product *p)
{
    const tiles *of = tiles_of(lanes, size);
    const double full = floor(rows / (double)of->rows), left = rows - full * (double)of->rows;
    if (n <= 0 || times <= 0)
        return;
    if (full)
        add_band(of, (double)of->rows, n, lanes, times * full, p);
    if (left)
        add_band(of, left, n, lanes, times, p);
}

/* --- all ways of a pass ---------------------------------------------------------------------- */

/* Cache lines of what is read and written; `turns`: an input gradient's phases are summed one
 * after the other, each reads all of dy, and those along the last axis write the same lines of
 * dx. Planes, columns and channelwise sums take all phases of a box in turn. */
static double lines_moved(const fc_conv *conv, int turns)
{
    const double size = conv->dtype == FC_F32 ? 4 : 8, batch = (double)conv->batch;
    const double x = batch * (double)conv->in_channels * fc_count_volume(conv->in) * size / 64;
    const double y = batch * (double)conv->out_channels * fc_count_volume(conv->out) * size / 64;
    double phases[3] = {1, 1, 1};
    for (int a = 0; a < 3 && turns; a++)
        phases[a] = (double)fc_least(conv->stride[a], conv->in[a]);
    return phases[2] * (x + phases[0] * phases[1] * y);
}

/* Of x and its patches; what sums read and write is counted where patches are summed. */
static double lines_turned(const fc_conv *conv)
{
    const double size = conv->dtype == FC_F32 ? 4 : 8;
    return 2 * (double)(conv->batch * conv->in_channels) * fc_count_volume(conv->in) * size / 64;
}

/* More than L2 keeps of all operands, and than L3: 64 bytes a line. */
enum { L2_LINES = (1 << 20) / 64, L3_LINES = L3_BYTES / 64 };

void fc_conv_count(const fc_conv *conv, int pass, int prepared, int64_t bytes,
                   double terms[FC_WAYS][FC_TERMS])
{
    const double lanes = (double)bytes / (conv->dtype == FC_F32 ? 4 : 8);
    memset(terms, 0, FC_WAYS * sizeof *terms);
    if (conv->algorithm != FC_DIRECT)
        fc_count_winograd(conv, pass, prepared, lanes, terms);
    if (conv->algorithm != FC_WINOGRAD
        || !(terms[FC_TRANSFORMS][LAST] || terms[FC_TRANSFORMS_GRAD_WEIGHT][LAST])) {
        if (pass == FC_GRAD_WEIGHT)
            fc_count_grad_weight(conv, lanes, terms);
        else
            fc_count_direct(conv, pass, lanes, terms);
    }
    const double once = lines_moved(conv, 0);
    const double turns = pass == FC_GRAD_INPUT ? lines_moved(conv, 1) : once;
    for (int way = 0; way < FC_WAYS; way++) {
        const int patches = way == FC_PATCHES || way == FC_PATCHES_GRAD_WEIGHT;
        const int at_once = way == FC_CHANNELWISE || way == FC_PLANES || way == FC_COLUMNS;
        const int asked = way == FC_PANELS && fc_volume(conv->kernel) == 1;
        const double far = patches ? lines_turned(conv) : once;
        if (terms[way][LAST] > 0 && far > L2_LINES)
            terms[way][asked ? ASKED : far > L3_LINES ? MEMORY : FAR]
                = patches || at_once ? far : turns;
    }
}
