#include "conv_winograd_weights.h"

#include "parallel.h"

enum {
    CHANNELS = 16,           /* a slice has a multiple of so many, whatever the lanes */
    CHANNELS_AT_ONCE = 8,    /* being transformed: their taps and half-way points fit L1 */
    CHANNELS_AHEAD = 16,     /* how far ahead of their use weights are asked for */
    POINTS = FC_WINOGRAD_POINTS,
};

/* Blocks that are kept are as wide as may be: wider ones read V less often. Where U is
 * transformed as it is needed, a slice of a block is to stay in L2: U_BYTES. */
static const int64_t U_BYTES = 600 << 10;

/* Terms of a sum for each channel: taps in depth, and phases. */
static int64_t taps_of(const fc_winograd_weights *w)
{
    return w->z.taps * w->y.phases * w->x.phases;
}

int64_t fc_winograd_slice(int64_t channels, int64_t taps)
{
    const int64_t parts = fc_least(fc_parts(channels * taps, FC_WINOGRAD_TERMS), channels);
    return fc_round_up(fc_parts(channels, parts), CHANNELS);
}

/* 7 x 7 x 7 taps with stride 3 were off by 53 eps, all 1008 terms of a slice in one chain: one
 * tap at once, 20 eps for 6 % of the time. 1025 taps along a line, in 257 phases, were off by 47.
 * Up to twice a slice's usual length is no such harm. */
int64_t fc_winograd_terms_at_once(int64_t slice, int64_t phases)
{
    const int64_t most = fc_most(1, 2 * FC_WINOGRAD_TERMS / slice);
    return most < phases ? most : most - most % phases;   /* whole taps where there is room */
}

void fc_winograd_weights_slices(fc_winograd_weights *w)
{
    w->slice = fc_winograd_slice(w->channels, taps_of(w));
    w->slices = fc_parts(w->channels, w->slice);
}

void fc_winograd_weights_blocks(fc_winograd_weights *w, int kept)
{
    const int64_t line = FC_LINE / w->size, rows = taps_of(w) * fc_least(w->channels, w->slice);
    /* In whole cache lines, whatever the lanes: kept weights serve every instruction set. */
    const int64_t filters = fc_round_up(w->filters, line);
    int64_t lines = FC_WINOGRAD_LINES;
    if (!kept)
        lines = fc_least(lines, U_BYTES / (w->points * rows * FC_LINE));
    if (!kept && lines * line % w->kernels->width == w->lanes)
        lines--;   /* one vector left over by the register tiles takes as long as two */
    w->block = fc_least(fc_most(lines, 1) * line, filters);
    w->blocks = fc_parts(filters, w->block);
    w->to_point = fc_odd_lines(rows * w->block, w->size);
    w->to_slice = w->points * w->to_point;
}

static int64_t tap_bytes(const fc_winograd_weights *w)
{
    const int64_t taps = fc_round_up(CHANNELS_AT_ONCE * w->taps, w->lanes) + w->lanes;
    return taps * w->lanes * w->size;
}

int64_t fc_winograd_weights_scratch(const fc_winograd_weights *w)
{
    const int64_t half = CHANNELS_AT_ONCE * w->y.points * w->x.length;
    return tap_bytes(w) + half * w->lanes * w->size;
}

/* From taps [channel][tap] of one vector of filters to its lanes of U, those of one phase. */
static void transform(const fc_winograd_weights *w, const char *taps, int64_t phase, char *half,
                      int64_t channels, char *u)
{
    const fc_line *y = &w->y, *x = &w->x;
    const int64_t phase_y = phase / x->phases, phase_x = phase % x->phases;
    const int64_t high = fc_line_taps(y, phase_y), wide = fc_line_taps(x, phase_x);
    const int64_t lanes = w->lanes, row = w->kernel[2] * lanes;
    const int64_t step_y = y->stride * y->weight_step * row;
    const int64_t step_x = x->stride * x->weight_step * lanes;
    const char *first = taps + ((y->weight + fc_line_tap(y, phase_y) * y->weight_step) * row
                                + (x->weight + fc_line_tap(x, phase_x) * x->weight_step) * lanes)
                               * w->size;
    if (y->length == x->length && y->taps > 1) {   /* half the time of two passes */
        w->kernels->winograd_square(&(fc_winograd_square){
            .length = (int)y->length, .high = high, .wide = wide,
            .less_y = fc_line_less(y), .less_x = fc_line_less(x), .rows = channels, .from = first,
            .from_row = w->taps * lanes, .from_y = step_y, .from_x = step_x,
            .to = u, .to_row = w->block, .to_point = w->to_point});
        return;
    }
    int64_t tap[POINTS], vector[POINTS], line[POINTS], point[POINTS];
    for (int64_t i = 0; i < POINTS; i++) {
        tap[i] = i * step_x;
        vector[i] = i * lanes;
        line[i] = i * wide * lanes;
        point[i] = i * x->points * w->to_point;
    }
    w->kernels->winograd(&(fc_winograd){
        .kind = y->taps > 1 ? FC_WINOGRAD_FILTER : FC_WINOGRAD_COPY, .points = (int)y->all,
        .less = fc_line_less(y), .length = (int)high, .rows = channels, .items = wide,
        .from = first, .from_row = w->taps * lanes, .from_point = step_y, .from_item = tap,
        .to = half, .to_row = y->points * wide * lanes, .to_point = wide * lanes,
        .to_item = vector});
    w->kernels->winograd(&(fc_winograd){
        .kind = x->taps > 1 ? FC_WINOGRAD_FILTER : FC_WINOGRAD_COPY, .points = (int)x->all,
        .less = fc_line_less(x), .length = (int)wide, .rows = channels, .items = y->points,
        .from = half, .from_row = y->points * wide * lanes, .from_point = lanes,
        .from_item = line,
        .to = u, .to_row = w->block, .to_point = w->to_point, .to_item = point});
}

/* U of a few channels for one vector of filters, whose weights begin at `from`. */
static void transform_some(const fc_winograd_weights *w, const char *from, int64_t filters,
                           const char *end, int64_t channels, int64_t tap_rows, char *to,
                           char *scratch)
{
    const int64_t vector = w->lanes * w->size, ahead = CHANNELS_AHEAD * w->from_channel;
    const int64_t together = w->from_channel == w->taps ? channels : 1;   /* lie in one row */
    const int64_t phases = w->y.phases * w->x.phases;
    for (int64_t c = 0; c < channels; c += together)
        w->kernels->to_lanes(from + c * w->from_channel * w->size, w->from_filter, filters, end,
                             together * w->taps, ahead, scratch + c * w->taps * vector);
    for (int64_t t = 0; t < w->z.taps; t++) {
        const int64_t tap = (w->z.weight + t * w->z.weight_step) * w->kernel[1] * w->kernel[2];
        for (int64_t phase = 0; phase < phases; phase++, to += tap_rows * w->block * w->size)
            transform(w, scratch + tap * vector, phase, scratch + tap_bytes(w), channels, to);
    }
}

void fc_winograd_weights_slice(const fc_winograd_weights *w, const char *from, int64_t group,
                               int64_t block, int64_t slice, char *to, char *scratch)
{
    const int64_t lanes = w->lanes, size = w->size, line = fc_most(FC_LINE / size, lanes);
    const int64_t filters = fc_least(w->block, w->filters - block * w->block);
    const int64_t first = slice * w->slice;
    const int64_t channels = fc_least(w->slice, w->channels - first);
    const char *end = from + w->groups * w->from_group * size;
    fc_winograd_weights half = *w;   /* for filters that fill no more */
    if (w->kernels->half) {
        half.kernels = w->kernels->half;
        half.lanes = half.kernels->lanes;
    }
    from += (group * w->from_group + block * w->block * w->from_filter + first * w->from_channel)
            * size;
    /* A line of U is completed while it is in L1. */
    for (int64_t f = 0; f < filters; f += line)
        for (int64_t c = 0; c < channels; c += CHANNELS_AT_ONCE)
            for (int64_t i = f; i < fc_least(f + line, filters); i += lanes)
                transform_some(filters - i <= half.lanes ? &half : w,
                               from + (i * w->from_filter + c * w->from_channel) * size,
                               fc_least(lanes, filters - i), end,
                               fc_least(CHANNELS_AT_ONCE, channels - c), channels,
                               to + (c * w->block + i) * size, scratch);
}

void fc_winograd_weights_share(const fc_winograd_weights *w, const char *from, char *to,
                               char *scratch, int member, int team)
{
    int64_t unit, end;
    fc_share(w->groups * w->blocks * w->slices, member, team, &unit, &end);
    for (; unit < end; unit++)
        fc_winograd_weights_slice(w, from, unit / w->slices / w->blocks,
                                  unit / w->slices % w->blocks, unit % w->slices,
                                  to + unit * w->to_slice * w->size, scratch);
}
