#include "conv_winograd_tiles.h"

#include <string.h>

#include "parallel.h"

enum { POINTS = FC_WINOGRAD_POINTS };

/* Cells of a strip's row, and bytes of the cells that one transform stages: measured on 56 x 56
 * and 224 x 224 images, half of either or twice as much is 2 to 5 % slower. */
static const int64_t STRIP_CELLS = 64, STAGE_BYTES = 48 << 10;

int fc_line_of(const fc_axis *axis, fc_line *line)
{
    const int64_t r = axis->taps;
    if (axis->step != 1 || r < 1 || r >= POINTS || axis->outputs < 1)
        return 0;
    *line = (fc_line){
        .taps = r, .tile = r > 1 ? POINTS + 1 - r : 1, .points = r > 1 ? POINTS : 1,
        .outputs = axis->outputs, .cells = axis->cells, .first = axis->offset, .spread = 1,
        .weight = axis->weight, .weight_step = axis->weight_step,
        .place = axis->place, .place_step = axis->place_step,
    };
    if (r > 1 && axis->tap_step > 0)
        line->spread = axis->tap_step;
    if (r > 1 && axis->tap_step < 0) {   /* the same sum with the taps in the other order */
        line->spread = -axis->tap_step;
        line->first -= (r - 1) * line->spread;
        line->weight += (r - 1) * line->weight_step;
        line->weight_step = -line->weight_step;
    }
    const int64_t dense = line->tile * line->spread;
    line->tiles = line->outputs / dense * line->spread
                  + fc_least(line->outputs % dense, line->spread);
    return 1;
}

fc_strips fc_strips_of(const fc_line *y, const fc_line *x, int64_t batch)
{
    const int64_t dense = x->tile * x->spread, runs = fc_parts(x->outputs, dense);
    const int64_t per = fc_most(1, fc_least(runs, STRIP_CELLS / dense));
    const int64_t segment = fc_parts(runs, fc_parts(runs, per));
    fc_strips s = {.y = *y, .x = *x, .batch = batch, .segment = segment * x->spread,
                   .segments = fc_parts(runs, segment)};
    s.width = s.segment * x->tile + (x->taps - 1) * x->spread;
    s.strips = batch * s.segments * y->tiles;
    return s;
}

fc_strip fc_strip_at(const fc_strips *s, int64_t strip)
{
    const fc_line *x = &s->x, *y = &s->y;
    fc_strip at = {.image = strip / y->tiles / s->segments, .row = strip % y->tiles,
                   .segment = strip / y->tiles % s->segments};
    at.tiles = fc_least(s->segment, x->tiles - at.segment * s->segment);
    at.top = fc_line_start(y, at.row);
    at.left = at.segment * s->segment * x->tile;
    at.height = fc_least(y->tile, fc_parts(y->outputs - at.top, y->spread));
    at.width = fc_least(s->segment * x->tile, x->outputs - at.left);
    return at;
}

/* Points of one tile along an axis of the array: D looks at all six, S V_m at the outputs. */
static int64_t reach(const fc_tiled *t, const fc_line *line)
{
    return t->kind == FC_WINOGRAD_DATA ? line->points : line->tile;
}

void fc_tiled_plan(fc_tiled *t, int64_t chunk)
{
    const fc_line *y = &t->strips->y;
    const int64_t rows = (reach(t, y) - 1) * y->spread + 1;
    const int64_t row_bytes = t->strips->width * t->lanes * t->size;
    const int64_t fit = (STAGE_BYTES / row_bytes - rows) / (y->tile * y->spread);
    t->stack = fc_least(fc_most(fit, 1) * y->spread, y->tiles);
    t->stage_rows = (fc_parts(t->stack, y->spread) + 1) * y->tile * y->spread + rows;
    const int64_t line = FC_LINE / t->size;
    t->pitch = fc_round_up(t->wide, line > t->lanes ? line : t->lanes);
    if (t->pitch * t->size % 1024 == 0)
        t->pitch += line;
    t->strip = t->cells[0] * t->strips->segment * t->pitch;
    t->block = chunk * t->strip;
    t->point = fc_odd_lines(fc_parts(t->channels, t->wide) * t->block, t->size);
}

int64_t fc_tiled_stage_bytes(const fc_tiled *t)
{
    return (t->stage_rows * t->strips->width + t->lanes) * t->lanes * t->size;
}

int64_t fc_tiled_rows_bytes(const fc_tiled *t)
{
    return (t->strips->y.points * t->strips->width + t->lanes) * t->lanes * t->size;
}

/* The cells of rows [top, bottom) and columns [left, right) of a plane, of `rows` channels, to
 * stage [row][column]; rows outside the plane are zero. */
static void stage_cells(const fc_tiled *t, const char *plane, int64_t rows, int64_t top,
                        int64_t bottom, int64_t left, int64_t right, int64_t ahead, char *stage)
{
    const int64_t size = t->size, width = right - left, row = width * t->lanes * size;
    const int64_t first = fc_least(fc_most(top, 0), bottom);
    const int64_t last = fc_most(fc_least(bottom, t->cells[1]), first);
    const char *from = plane + (first * t->cells[2] + left) * size;
    char *to = stage + (first - top) * row;
    memset(stage, 0, (size_t)((first - top) * row));
    if (width == t->cells[2] && last > first)
        t->kernels->to_lanes(from, t->plane, rows, t->end, (last - first) * width, ahead, to);
    else if (width > 0)
        for (int64_t i = first; i < last; i++, from += t->cells[2] * size, to += row)
            t->kernels->to_lanes(from, t->plane, rows, t->end, width, ahead, to);
    memset(stage + (last - top) * row, 0, (size_t)((bottom - last) * row));
}

/* Where the array holds one vector of channels of one plane, row 0, and the row that a strip's
 * outputs begin with. */
static int64_t plane_of(const fc_tiled *t, int64_t group, int64_t vector, int64_t depth,
                        int64_t image)
{
    return image * t->image + group * t->group + vector * t->lanes * t->plane
           + depth * t->cells[1] * t->cells[2];
}

static int64_t start_of(const fc_tiled *t, int64_t group, int64_t vector, int64_t depth,
                        int64_t strip)
{
    const fc_strip at = fc_strip_at(t->strips, strip);
    return plane_of(t, group, vector, depth, at.image) + at.top * t->cells[2] + at.left;
}

/* V of `count` strips one below the other, for one vector of channels in one plane; the next
 * ones stand `ahead` elements behind. */
static void transform(const fc_tiled *t, int64_t group, int64_t vector, int64_t depth,
                      int64_t strip, int64_t count, int64_t ahead, char *stage, char *rows,
                      char *v)
{
    const fc_line *x = &t->strips->x, *y = &t->strips->y;
    const int64_t vec_bytes = t->lanes * t->size, across = t->strips->width;
    const fc_strip at = fc_strip_at(t->strips, strip);
    const int64_t low = fc_line_start(y, at.row + count - 1);
    const int64_t top = t->first_y + at.top;
    const int64_t bottom = t->first_y + low + (reach(t, y) - 1) * y->spread + 1;
    const int64_t from = t->first_x + at.left;
    const int64_t left = fc_least(fc_most(from, 0), t->cells[2]);
    const int64_t right = fc_most(fc_least(from + across, t->cells[2]), left);
    const char *plane = t->array + plane_of(t, group, vector, depth, at.image) * t->size;
    const int64_t channels = fc_least(t->lanes, t->channels - vector * t->lanes);
    if (y->taps > 1)
        stage_cells(t, plane, channels, top, bottom, left, right, ahead, stage);
    const int64_t before = fc_least(fc_most(left - from, 0), across);
    const int64_t behind = fc_most(fc_least(right - from, across), before);
    const int64_t tiles = t->whole ? t->strips->segment : at.tiles;
    const int fused = t->kind == FC_WINOGRAD_DATA && x->taps > 1 && y->taps > 1;
    for (int64_t i = 0; i < count && fused; i++) {
        const int64_t below = t->first_y + fc_line_start(y, at.row + i) - top;
        t->kernels->winograd_inputs(&(fc_winograd_inputs){
            .tiles = tiles, .step = x->tile, .spread = x->spread,
            .before = before, .behind = behind,
            .from = stage + below * (right - left) * vec_bytes,
            .from_y = y->spread * (right - left) * t->lanes,
            .to = v + i * t->strip * t->size, .to_tile = t->slot, .to_point = t->point});
    }
    if (fused)
        return;
    for (int64_t i = 0; i < y->points; i++) {
        memset(rows + i * across * vec_bytes, 0, (size_t)(before * vec_bytes));
        memset(rows + (i * across + behind) * vec_bytes, 0,
               (size_t)((across - behind) * vec_bytes));
    }
    /* Do rows at their points lie as V does? */
    const int one_pass = x->taps == 1 && y->taps > 1 && behind - before == across;
    for (int64_t i = 0; i < count; i++) {
        const int64_t below = t->first_y + fc_line_start(y, at.row + i) - top;
        char *strip_v = v + i * t->strip * t->size;
        if (y->taps == 1) {   /* the row itself, and zeros behind it again */
            stage_cells(t, plane, channels, top + below, top + below + 1, left, right,
                        ahead, rows + before * vec_bytes);
            memset(rows + behind * vec_bytes, 0, (size_t)((across - behind) * vec_bytes));
        } else t->kernels->winograd(&(fc_winograd){
            .kind = t->kind, .length = (int)reach(t, y), .rows = 1, .items = right - left,
            .from = stage + below * (right - left) * vec_bytes,
            .from_point = y->spread * (right - left) * t->lanes, .from_item = t->lane,
            .to = one_pass ? strip_v : rows + before * vec_bytes,
            .to_point = one_pass ? t->point : across * t->lanes,
            .to_item = one_pass ? t->slot : t->lane});
        if (one_pass)
            continue;
        t->kernels->winograd(&(fc_winograd){
            .kind = x->taps > 1 ? t->kind : FC_WINOGRAD_COPY, .length = (int)reach(t, x),
            .rows = y->points, .items = tiles,
            .from = rows, .from_row = across * t->lanes, .from_point = x->spread * t->lanes,
            .from_item = t->column,
            .to = strip_v, .to_row = x->points * t->point, .to_point = t->point,
            .to_item = t->slot});
    }
}

void fc_tiled_fill(const fc_tiled *t, int64_t group, int64_t first, int64_t count, char *stage,
                   char *rows, char *v, int member, int team)
{
    const int64_t vectors = fc_parts(t->channels, t->lanes), deep = t->cells[0];
    const int64_t tiles = t->strips->y.tiles;
    int64_t unit, end;
    fc_share(vectors * deep * count, member, team, &unit, &end);
    int64_t at = start_of(t, group, unit / count / deep, unit / count % deep, first + unit % count);
    while (unit < end) {
        const int64_t strip = first + unit % count, depth = unit / count % deep;
        const int64_t vector = unit / count / deep, channel = vector * t->lanes;
        const int64_t in_chunk = fc_least(end - unit, count - unit % count);
        const int64_t run = fc_least(fc_least(t->stack, tiles - strip % tiles), in_chunk);
        unit += run;
        const int64_t next = start_of(t, group, unit / count / deep, unit / count % deep,
                                      first + unit % count);
        transform(t, group, vector, depth, strip, run, next - at, stage, rows,
                  v + (channel / t->wide * t->block + (strip - first) * t->strip
                       + depth * t->strips->segment * t->pitch + channel % t->wide) * t->size);
        at = next;
    }
}
