#include "conv_thin.h"

#include "arena.h"
#include "kernels.h"
#include "parallel.h"

typedef struct {
    fc_conv conv, thin;
    int64_t first[3], every[3];
    const char *from, *bias;
    char *to;
    fc_units units;
} copy;

/* Where the kept cells of plane z of them begin; z counts on over images and channels. */
static int64_t cell_of(const copy *c, int64_t z)
{
    const int64_t *in = c->conv.in, kept = c->thin.in[0];
    const int64_t at = z / kept * in[0] + c->first[0] + z % kept * c->every[0];
    return (at * in[1] + c->first[1]) * in[2] + c->first[2];
}

static void copy_planes(void *context, int member, int team)
{
    copy *c = context;
    const int64_t *kept = c->thin.in, size = c->conv.dtype == FC_F64 ? 8 : 4;
    fc_pieces pieces = {.heap = &c->units, .count = c->conv.batch * c->conv.in_channels * kept[0],
                        .group = 1, .least = 1, .member = member, .team = team};
    for (int64_t at, end; fc_next_piece(&pieces, &at, &end);)
        for (; at < end; at++)
            fc_active[c->conv.dtype]->copy_rows(&(fc_copy){
                .from = c->from + cell_of(c, at) * size,
                .from_row = c->every[1] * c->conv.in[2], .from_step = c->every[2],
                .to = c->to + at * kept[1] * kept[2] * size, .to_row = kept[2], .to_step = 1,
                .rows = kept[1], .length = kept[2],
            });
}

/* Bound by memory. */
static int useful_threads(const fc_conv *conv, int threads)
{
    const double planes = (double)(conv->batch * conv->in_channels);
    return fc_useful_threads(threads, 4.0 * planes * (double)fc_volume(conv->in));
}

int fc_thin_source(fc_thin *thin, const fc_conv *conv, const void *x, int threads)
{
    copy c = {.conv = *conv, .from = x};
    thin->conv = c.thin = fc_conv_thin(conv, c.first, c.every);
    thin->x = x;
    thin->scratch = NULL;
    if (c.every[0] * c.every[1] * c.every[2] == 1)
        return FC_OK;
    const int64_t cells = conv->batch * conv->in_channels * fc_volume(c.thin.in);
    thin->x = thin->scratch = c.to = fc_arena_take(cells * (conv->dtype == FC_F64 ? 8 : 4));
    if (!thin->scratch)
        return FC_NO_MEMORY;
    fc_parallel(useful_threads(&c.thin, threads), copy_planes, &c);
    return FC_OK;
}

static void spread_channels(void *context, int member, int team)
{
    copy *c = context;
    const fc_kernels *kernels = fc_active[c->conv.dtype];
    const int64_t *kept = c->thin.in, size = c->conv.dtype == FC_F64 ? 8 : 4, zero = 0;
    const int64_t channels = c->conv.in_channels, cells = fc_volume(c->conv.in);
    fc_pieces pieces = {.heap = &c->units, .count = c->conv.batch * channels,
                        .group = 1, .least = 1, .member = member, .team = team};
    for (int64_t at, end; fc_next_piece(&pieces, &at, &end);)
        for (; at < end; at++) {
            kernels->gemm(&(fc_gemm){
                .m = 1, .n = cells, .a_row = &zero, .c = c->to + at * cells * size, .c_row = cells,
                .bias = c->bias ? c->bias + at % channels * size : NULL});
            for (int64_t z = at * kept[0]; c->from && z < (at + 1) * kept[0]; z++)
                kernels->copy_rows(&(fc_copy){
                    .from = c->from + z * kept[1] * kept[2] * size, .from_row = kept[2],
                    .from_step = 1,
                    .to = c->to + cell_of(c, z) * size,
                    .to_row = c->every[1] * c->conv.in[2], .to_step = c->every[2],
                    .rows = kept[1], .length = kept[2],
                });
        }
}

void fc_thin_spread(const fc_conv *conv, const void *from, const void *bias, void *dx, int threads)
{
    copy c = {.conv = *conv, .from = from, .bias = bias, .to = dx};
    c.thin = fc_conv_thin(conv, c.first, c.every);
    fc_parallel(useful_threads(conv, threads), spread_channels, &c);
}
