#include "conv_patches.h"

#include "arena.h"
#include "conv_cost.h"
#include "kernels.h"
#include "parallel.h"

/* An input gradient has stride times fewer, larger sums: 3 x 224 x 224 -> 192 by 16 x 16 takes
 * 0.59 in place of 2.25 ms, 128 x 28 x 28 -> 256 by 4 x 4 0.78 of 1.01; by threes no longer with
 * 32 channels (0.29 of 0.27). The others gain where turning by fours (pack.inc) is faster than
 * gathering cell by cell: 3 x 224 x 224 -> 192 forward 0.63 in place of 0.71 ms, 64 x 112 x 112
 * -> 128 by 4 x 4 2.16 of 2.64; not by threes (0.32 of 0.23) nor for 7 outputs a line (0.74 of
 * 0.61). A gradient of the weights has lanes over channels if there are enough: with 3 of them
 * 0.33 of 0.42 ms, with 16 0.32 of 0.26. */
static int worth_turning(const fc_conv *conv, int pass)
{
    enum { FEW = 8 };   /* channels that fill no vector, filters that fill no tile */
    const int64_t step = conv->stride[2], channels = conv->in_channels / conv->groups;
    if (conv->out_channels < FEW * conv->groups)
        return 0;
    if (pass == FC_GRAD_INPUT)
        return step > 3 || (step == 3 && channels <= 2 * FEW);
    return step > 3 && (step % 4 == 0 || step > 12) && conv->out[2] >= 12
        && (pass == FC_FORWARD || channels < FEW);
}

int fc_patches_fit(const fc_conv *conv, int pass)
{
    for (int a = 0; a < 3; a++)
        if (conv->kernel[a] != conv->stride[a] || (conv->kernel[a] > 1 && conv->dilation[a] > 1)
            || conv->before[a] || conv->in[a] != conv->out[a] * conv->stride[a])
            return 0;
    return worth_turning(conv, pass);
}

fc_conv fc_patches_conv(const fc_conv *conv)
{
    fc_conv patches = *conv;
    patches.in_channels *= fc_volume(conv->kernel);
    for (int a = 0; a < 3; a++) {
        patches.in[a] = conv->out[a];
        patches.kernel[a] = patches.stride[a] = patches.dilation[a] = 1;
    }
    return patches;
}

typedef struct {
    const fc_conv *conv;
    char *x, *patches;
    int back;             /* patches -> x? */
    fc_units units;
} copy;

/* Line `at` of x, counted on over images, channels and the first two axes, whose cells are taps
 * of a line of outputs. */
static void turn_line(const copy *c, int64_t at)
{
    const fc_conv *conv = c->conv;
    const int64_t size = conv->dtype == FC_F64 ? 8 : 4, step = conv->stride[2];
    const int64_t outputs = fc_volume(conv->out), channel = at / conv->in[1] / conv->in[0];
    const int64_t y = at % conv->in[1], z = at / conv->in[1] % conv->in[0];
    const int64_t row = z / conv->stride[0] * conv->out[1] + y / conv->stride[1];
    const int64_t tap = (z % conv->stride[0] * conv->stride[1] + y % conv->stride[1]) * step;
    char *line = c->x + at * conv->in[2] * size;
    const int64_t plane = channel * fc_volume(conv->kernel) + tap;
    char *taps = c->patches + (plane * outputs + row * conv->out[2]) * size;
    if (c->back)
        fc_active[conv->dtype]->pack_transposed(taps, outputs, step, conv->out[2], step, line);
    else
        fc_active[conv->dtype]->pack_transposed(line, step, conv->out[2], step, outputs, taps);
}

static void turn_lines(void *context, int member, int team)
{
    copy *c = context;
    fc_pieces pieces = {.heap = &c->units, .group = 1, .least = 1, .member = member, .team = team,
                        .count = c->conv->batch * c->conv->in_channels * c->conv->in[0] * c->conv->in[1]};
    for (int64_t at, end; fc_next_piece(&pieces, &at, &end);)
        for (; at < end; at++)
            turn_line(c, at);
}

static int64_t cells(const fc_conv *conv) { return conv->batch * conv->in_channels * fc_volume(conv->in); }

/* Bound by memory. */
static void turn(copy *c, int threads)
{
    fc_parallel(fc_useful_threads(threads, 4.0 * (double)cells(c->conv)), turn_lines, c);
}

void *fc_patches_take(const fc_conv *conv, const void *x, int threads)
{
    char *patches = fc_arena_take(cells(conv) * (conv->dtype == FC_F64 ? 8 : 4));
    copy c = {.conv = conv, .x = (char *)x, .patches = patches};
    if (patches)
        turn(&c, threads);
    return patches;
}

void fc_patches_put(const fc_conv *conv, const void *patches, void *x, int threads)
{
    copy c = {.conv = conv, .x = x, .patches = (char *)patches, .back = 1};
    turn(&c, threads);
}
