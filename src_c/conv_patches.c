#include "conv_patches.h"

#include "arena.h"
#include "kernels.h"
#include "parallel.h"

int fc_patches_fit(const fc_conv *conv)
{
    for (int a = 0; a < 3; a++)
        if (conv->kernel[a] != conv->stride[a] || (conv->kernel[a] > 1 && conv->dilation[a] > 1)
            || conv->before[a] || conv->in[a] != conv->out[a] * conv->stride[a])
            return 0;
    const int depthwise = conv->groups == conv->in_channels && conv->groups == conv->out_channels;
    return fc_volume(conv->kernel) > 1 && !depthwise;
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
                        .count = c->conv->batch * c->conv->in_channels * c->conv->in[0]
                                 * c->conv->in[1]};
    for (int64_t at, end; fc_next_piece(&pieces, &at, &end);)
        for (; at < end; at++)
            turn_line(c, at);
}

static int64_t cells(const fc_conv *conv)
{
    return conv->batch * conv->in_channels * fc_volume(conv->in);
}

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
