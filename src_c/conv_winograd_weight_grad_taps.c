#include "conv_winograd_weight_grad_taps.h"

#include <string.h>

enum { POINTS = FC_WINOGRAD_POINTS, CHANNELS_AT_ONCE = 8 };

typedef fc_winograd_grad_plan plan;
typedef fc_winograd_taps scratch;

scratch fc_winograd_taps_carve(const plan *p, char *base, size_t *used)
{
    const fc_line *y = &p->strips.y, *x = &p->strips.x;
    const int64_t vector = p->lanes * p->size, some = CHANNELS_AT_ONCE;
    return (scratch){
        .half = fc_carve(base, used, some * y->points * x->length * vector),
        .phase = fc_carve(base, used, some * y->length * x->length * vector),
        .taps = fc_carve(base, used, (some * p->taps + p->lanes) * vector),
    };
}

/* To `to` [channel][taps of a phase at its longest], from M. Returns whether M was finite. */
static int to_phase(const plan *p, const scratch *s, const fc_vectors *by, int64_t channels,
                    const char *m, char *to, int64_t to_channel, int64_t to_row)
{
    const fc_line *y = &p->strips.y, *x = &p->strips.x;
    const int64_t lanes = by->lanes;
    if (y->length == x->length && y->taps > 1) {   /* in one pass */
        int finite = 1;
        for (int64_t i = 0; i < channels; i++)
            finite &= by->kernels->winograd_outputs(&(fc_winograd_outputs){
                .points = (int)x->all, .length = (int)x->length, .less_y = fc_line_less(y),
                .less_x = fc_line_less(x), .live = lanes, .tiles = 1, .step = x->length,
                .spread = 1,
                .width = x->length, .from = m + i * p->wide * p->size,
                .from_row = x->points * p->m_point, .from_point = p->m_point,
                .to = to + i * to_channel * p->size, .to_y = to_row});
        return finite;
    }
    int64_t point[POINTS], line[POINTS], vector[POINTS];
    for (int64_t i = 0; i < POINTS; i++) {
        point[i] = i * x->points * p->m_point;
        line[i] = i * x->length * lanes;
        vector[i] = i * lanes;
    }
    by->kernels->winograd(&(fc_winograd){
        .kind = x->taps > 1 ? FC_WINOGRAD_OUTPUT : FC_WINOGRAD_COPY, .points = (int)x->all,
        .less = fc_line_less(x), .length = (int)x->length, .rows = channels, .items = y->points,
        .from = m, .from_row = p->wide, .from_point = p->m_point, .from_item = point,
        .to = s->half, .to_row = y->points * x->length * lanes, .to_point = lanes,
        .to_item = line});
    return by->kernels->winograd(&(fc_winograd){
        .kind = y->taps > 1 ? FC_WINOGRAD_OUTPUT : FC_WINOGRAD_COPY, .points = (int)y->all,
        .less = fc_line_less(y), .length = (int)y->length, .live = lanes, .rows = channels,
        .items = x->length,
        .from = s->half, .from_row = y->points * x->length * lanes,
        .from_point = x->length * lanes, .from_item = vector,
        .to = to, .to_row = to_channel, .to_point = to_row, .to_item = vector});
}

/* From M to taps [channel][tap] of one vector of filters, those of one phase. Returns whether M was
 * finite. */
static int to_taps(const plan *p, const scratch *s, const fc_vectors *by, int64_t tap,
                   int64_t phase, int64_t channels, const char *m)
{
    const fc_line *y = &p->strips.y, *x = &p->strips.x;
    const int64_t lanes = by->lanes, of_phase = y->length * x->length * lanes;
    char *taps = s->taps + tap * y->taps * x->taps * lanes * p->size;
    if (p->phases == 1)
        return to_phase(p, s, by, channels, m, taps, p->taps * lanes, p->row * lanes);
    const int finite = to_phase(p, s, by, channels, m, s->phase, of_phase, x->length * lanes);
    const int64_t phase_y = phase / x->phases, phase_x = phase % x->phases;
    int64_t from[POINTS * POINTS], to[POINTS * POINTS], items = 0;
    for (int64_t i = 0; i < fc_line_taps(y, phase_y); i++)
        for (int64_t j = 0; j < fc_line_taps(x, phase_x); j++) {
            const int64_t row = fc_line_tap(y, phase_y) + i * y->stride;
            from[items] = (i * x->length + j) * lanes;
            to[items++] = (row * p->row + fc_line_tap(x, phase_x) + j * x->stride) * lanes;
        }
    by->kernels->winograd(&(fc_winograd){
        .kind = FC_WINOGRAD_COPY, .rows = channels, .items = items, .from = s->phase,
        .from_row = of_phase, .from_item = from, .to = taps, .to_row = p->taps * lanes,
        .to_item = to});
    return finite;
}

int fc_winograd_to_weights(const plan *p, const scratch *s, const fc_vectors vectors[2],
                           const fc_winograd_block *of, const char *m, char *dw)
{
    int finite = 1;
    for (int64_t f = 0; f < of->filters; f += p->lanes) {
        const fc_vectors *by = fc_vectors_for(vectors, of->filters - f);
        const int64_t vector = by->lanes * p->size;
        const int64_t row = (of->group * p->filters + of->filter + f) * p->channels + of->channel;
        for (int64_t i = 0; i < of->channels; i += CHANNELS_AT_ONCE) {
            const int64_t some = fc_least(CHANNELS_AT_ONCE, of->channels - i);
            for (int64_t t = 0; t < p->axis[0].taps * p->phases; t++)
                finite &= to_taps(p, s, by, t / p->phases, t % p->phases, some,
                                  m + (t * p->m_tap + i * p->wide + f) * p->size);
            for (int64_t t = 0; t < p->taps && p->idle; t++)   /* 0, not what sums of tiles round */
                for (int64_t j = 0; j < some && fc_winograd_tap_is_idle(p, t); j++)
                    memset(s->taps + (j * p->taps + t) * vector, 0, (size_t)vector);
            by->kernels->from_lanes(s->taps, some * p->taps,
                                    dw + (row + i) * p->taps * p->size, p->channels * p->taps,
                                    fc_least(by->lanes, of->filters - f), 0);
        }
    }
    return finite;
}
