#include "conv_winograd_tiles.h"

#include <string.h>

#include "parallel.h"

/* TOGETHER: elements of a row that are asked for at once. */
enum { POINTS = FC_WINOGRAD_POINTS, LONGEST = 4, TOGETHER = 32 };

/* Cells of a strip's row: measured on 56 x 56 and 224 x 224 images, half or twice as many are 2
 * to 5 % slower. Bytes of the cells that are staged for strips one below the other: what they
 * have in common is staged once, 64 channels of 56 x 56 take 0.98 to 0.99 of the time that
 * strips by themselves do. */
static const int64_t STRIP_CELLS = 64, STAGE_BYTES = 160 << 10;

/* So many runs of tiles, of which the last may lack some. */
static int64_t tiles_of(const fc_line *line, int64_t runs)
{
    const int64_t last = (runs - 1) * line->spread;
    return last + fc_least(line->outputs - fc_line_start(line, last), line->spread);
}

/* All tiles alike. */
static void cut(fc_line *line)
{
    line->whole = fc_parts(line->outputs, line->tile * line->spread);
    line->tiles = tiles_of(line, line->whole);
}

/* How the taps are cut into phases. Runs are no longer than LONGEST: two outputs of five taps take
 * 6 products, four of 3 + 2 take 11, which is 1.1 to 1.4 times as fast with 32 channels and
 * 28 x 28 cells, and 0.55 to 0.8 with 128 channels and 14 x 14. */
static void cut_taps(fc_line *line)
{
    const int64_t each = fc_parts(line->taps, line->stride);
    line->phases = (each < POINTS ? 1 : fc_parts(each, LONGEST)) * line->stride;
    line->length = fc_parts(line->taps, line->phases);
    line->full = line->taps - line->phases * (line->length - 1);
}

int fc_line_of(const fc_axis *axis, fc_line *line)
{
    *line = (fc_line){
        .taps = axis->taps, .stride = axis->step,
        .outputs = axis->outputs, .cells = axis->cells, .first = axis->offset, .spread = 1,
        .weight = axis->weight, .weight_step = axis->weight_step,
        .place = axis->place, .place_step = axis->place_step,
    };
    if (axis->taps < 1 || axis->outputs < 1)
        return 0;
    cut_taps(line);
    const int64_t r = line->length;
    if (axis->step > 1 && r == 1)
        return 0;
    line->points = line->all = r == 1 ? 1 : r == 2 ? POINTS - 1 : POINTS;
    line->tile = r > 1 ? line->points + 1 - r : 1;
    if (r > 1 && axis->tap_step > 0)
        line->spread = axis->tap_step;
    if (r > 1 && axis->tap_step < 0) {   /* the same sum with the taps in the other order */
        line->spread = -axis->tap_step;
        line->first -= (line->taps - 1) * line->spread;
        line->weight += (line->taps - 1) * line->weight_step;
        line->weight_step = -line->weight_step;
    }
    cut(line);
    if (line->points == POINTS && line->tile > 2 && line->phases == 1) {
        fc_line less = *line;
        less.points--;
        less.tile--;
        cut(&less);
        if (less.points * less.tiles < line->points * line->tiles)
            *line = less;
    }
    return 1;
}

/* The fewest products that some runs of smaller tiles make; there is no use for more than four. */
static void mix(fc_line *line)
{
    const fc_line alike = *line;
    int64_t least = line->points * line->tiles;
    for (int64_t smaller = 1; smaller <= 4; smaller++) {
        fc_line mixed = alike;
        const int64_t rest = line->outputs - smaller * (line->tile - 1) * line->spread;
        mixed.whole = fc_parts(fc_most(rest, 0), line->tile * line->spread);
        if (mixed.whole == 0)
            return;   /* all smaller: fc_line_of has thought of it */
        if (fc_line_start(&mixed, (mixed.whole + smaller - 1) * line->spread) >= line->outputs)
            continue;   /* fewer would do */
        mixed.tiles = tiles_of(&mixed, mixed.whole + smaller);
        const int64_t less = mixed.tiles - mixed.whole * line->spread;
        const int64_t products = line->points * mixed.tiles - less;
        if (products < least) {
            least = products;
            *line = mixed;
        }
    }
}

void fc_line_mix(fc_line *y, fc_line *x)
{
    if (y->points < POINTS || x->points < POINTS || y->length != x->length
        || y->phases * x->phases > 1)
        return;
    mix(y);
    mix(x);
}

fc_strips fc_strips_of(const fc_line *y, const fc_line *x, int64_t batch)
{
    const int64_t dense = x->tile * x->spread, runs = fc_parts(x->tiles, x->spread);
    const int64_t per = fc_most(1, fc_least(runs, STRIP_CELLS / (dense * x->stride)));
    const int64_t segment = fc_parts(runs, fc_parts(runs, per));
    fc_strips s = {.y = *y, .x = *x, .batch = batch, .segment = segment * x->spread,
                   .segments = fc_parts(runs, segment)};
    s.width = s.segment * x->tile + (x->length - 1) * x->spread;
    s.cells = (s.width - 1) * x->stride + fc_line_tap(x, x->phases - 1) * x->spread + 1;
    s.strips = batch * s.segments * y->tiles;
    return s;
}

fc_strip fc_strip_at(const fc_strips *s, int64_t strip)
{
    const fc_line *x = &s->x, *y = &s->y;
    fc_strip at = {.image = strip / y->tiles / s->segments, .row = strip % y->tiles,
                   .segment = strip / y->tiles % s->segments};
    const int64_t first = at.segment * s->segment;
    at.tiles = fc_least(s->segment, x->tiles - first);
    at.whole = fc_least(fc_most(x->whole * x->spread - first, 0), at.tiles);
    at.less = at.row >= y->whole * y->spread;
    at.top = fc_line_start(y, at.row);
    at.left = fc_line_start(x, first);
    at.height = fc_least(y->tile - at.less, fc_parts(y->outputs - at.top, y->spread));
    at.width = fc_least(fc_line_start(x, first + s->segment), x->outputs) - at.left;
    return at;
}

void fc_vectors_carve(fc_vectors by[2], const fc_kernels *kernels, const fc_strips *strips,
                      char *base, size_t *used)
{
    const int64_t word = sizeof(int64_t);
    for (int i = 0; i < 2; i++, kernels = kernels->half) {
        if (!kernels) {
            by[1] = by[0];
            return;
        }
        by[i].kernels = kernels;
        by[i].lanes = kernels->lanes;
        by[i].item = fc_carve(base, used, strips->cells * word);
        by[i].cell = fc_carve(base, used, strips->segment * word);
        by[i].output = fc_carve(base, used, strips->segment * word);
    }
}

void fc_vectors_fill(const fc_vectors by[2], const fc_strips *strips)
{
    const int kinds = by[1].lanes < by[0].lanes ? 2 : 1;
    for (const fc_vectors *v = by; v < by + kinds; v++) {
        for (int64_t i = 0; i < strips->cells; i++)
            v->item[i] = i * v->lanes;
        for (int64_t i = 0; i < strips->segment; i++) {
            v->output[i] = fc_line_start(&strips->x, i) * v->lanes;
            v->cell[i] = v->output[i] * strips->x.stride;
        }
    }
}

/* What one tile looks at along an axis of the array: D at its inputs, S V_m at the outputs. */
static int64_t reach(const fc_tiled *t, const fc_line *line)
{
    return t->kind == FC_WINOGRAD_DATA ? line->points : line->tile;
}

/* Rows of cells that a row of tiles looks at, in all phases. */
static int64_t rows_of(const fc_tiled *t)
{
    const fc_line *y = &t->strips->y;
    return ((reach(t, y) - 1) * t->stride_y + fc_line_tap(y, t->phases_y - 1)) * y->spread + 1;
}

void fc_tiled_plan(fc_tiled *t, int64_t chunk)
{
    const fc_line *y = &t->strips->y, *x = &t->strips->x;
    const int data = t->kind == FC_WINOGRAD_DATA;
    t->stride_y = data ? y->stride : 1;
    t->stride_x = data ? x->stride : 1;
    t->phases_y = data ? y->phases : 1;
    t->phases_x = data ? x->phases : 1;
    t->phases = t->phases_y * t->phases_x;
    t->across = data ? t->strips->cells : t->strips->width;
    const int64_t tile = y->tile * y->spread * t->stride_y;
    const int64_t rows = rows_of(t);
    const int64_t fit = (STAGE_BYTES / (t->across * t->lanes * t->size) - rows) / tile;
    t->stack = fc_least(fc_most(fit, 1) * y->spread, y->tiles);
    t->stage_rows = (fc_parts(t->stack, y->spread) + 1) * tile + rows;
    const int64_t line = FC_LINE / t->size;
    t->pitch = fc_round_up(t->wide, line > t->lanes ? line : t->lanes);
    if (t->pitch * t->size % 1024 == 0)
        t->pitch += line;
    t->strip = t->cells[0] * t->phases * t->strips->segment * t->pitch;
    t->block = chunk * t->strip;
    t->point = fc_odd_lines(fc_parts(t->channels, t->wide) * t->block, t->size);
}

int64_t fc_tiled_stage_bytes(const fc_tiled *t)
{
    return (t->stage_rows * t->across + t->lanes) * t->lanes * t->size;
}

int64_t fc_tiled_rows_bytes(const fc_tiled *t)
{
    return (t->strips->y.points * t->across + t->lanes) * t->lanes * t->size;
}

/* The cells of rows [top, bottom) and columns [left, right) of a plane, of `rows` channels, to
 * stage [row][column]; rows outside the plane are zero. */
static void stage_cells(const fc_tiled *t, const fc_vectors *by, const char *plane, int64_t rows,
                        int64_t top, int64_t bottom, int64_t left, int64_t right, int64_t ahead,
                        char *stage)
{
    const int64_t size = t->size, width = right - left, row = width * by->lanes * size;
    const int64_t first = fc_least(fc_most(top, 0), bottom);
    const int64_t last = fc_most(fc_least(bottom, t->cells[1]), first);
    const char *from = plane + (first * t->cells[2] + left) * size;
    char *to = stage + (first - top) * row;
    memset(stage, 0, (size_t)((first - top) * row));
    if (width == t->cells[2] && last > first)
        by->kernels->to_lanes(from, t->plane, rows, t->end, (last - first) * width, ahead, to);
    else if (width > 0)
        for (int64_t i = first; i < last; i++, from += t->cells[2] * size, to += row)
            by->kernels->to_lanes(from, t->plane, rows, t->end, width, ahead, to);
    memset(stage + (last - top) * row, 0, (size_t)((bottom - last) * row));
}

/* Where the array holds one plane of a channel, row 0, and the row that a strip's outputs begin
 * with. */
static int64_t plane_of(const fc_tiled *t, int64_t group, int64_t channel, int64_t depth,
                        int64_t image)
{
    return image * t->image + group * t->group + channel * t->plane
           + depth * t->cells[1] * t->cells[2];
}

static int64_t start_of(const fc_tiled *t, int64_t group, int64_t channel, int64_t depth,
                        int64_t strip)
{
    const fc_strip at = fc_strip_at(t->strips, strip);
    return plane_of(t, group, channel, depth, at.image) + at.top * t->stride_y * t->cells[2]
           + at.left * t->stride_x;
}

/* What of an array is staged: rows from `top` on, and columns [left, right) that exist, where the
 * strips' tiles look at columns from `from` on; before `left` these are `before` of padding. */
typedef struct { int64_t top, from, left, right, before; } window;

static window window_of(const fc_tiled *t, const fc_strip *at)
{
    window w = {.top = t->first_y + at->top * t->stride_y,
                .from = t->first_x + at->left * t->stride_x};
    w.left = fc_least(fc_most(w.from, 0), t->cells[2]);
    w.right = fc_most(fc_least(w.from + t->across, t->cells[2]), w.left);
    w.before = fc_least(fc_most(w.left - w.from, 0), t->across);
    return w;
}

/* V of one strip, whose cells stand from row `below` of the stage on: both axes at once. Smaller
 * tiles, of which only axes of one phase have some, stand behind the others. */
static void transform_fused(const fc_tiled *t, const fc_vectors *by, const window *w,
                            const fc_strip *at, int64_t below, int64_t tiles, const char *stage,
                            char *v)
{
    const fc_line *x = &t->strips->x, *y = &t->strips->y;
    const int64_t vec_bytes = by->lanes * t->size, across = w->right - w->left;
    const int64_t whole = at->whole < at->tiles ? at->whole : tiles;
    for (int64_t phase = 0; phase < t->phases; phase++) {
        const int64_t row = below + fc_line_tap(y, phase / t->phases_x) * y->spread;
        const int64_t first = fc_line_tap(x, phase % t->phases_x);
        const int64_t from = w->from + first * x->spread;   /* column of cell 0 */
        const int64_t some = fc_parts(w->left - from, t->stride_x), width = t->strips->width;
        const int64_t before = fc_least(fc_most(some, 0), width);
        const int64_t behind = fc_least(fc_parts(w->right - from, t->stride_x), width);
        fc_winograd_inputs inputs = {
            .kind = t->kind, .points = (int)x->all, .length = (int)reach(t, x),
            .high = (int)reach(t, y) - at->less, .wide = (int)reach(t, x),
            .less_y = fc_line_less(y) + at->less, .less_x = fc_line_less(x),
            .tiles = whole, .step = x->tile, .spread = x->spread,
            .before = before, .behind = behind,
            .from = stage + (row * across + from + before * t->stride_x - w->left) * vec_bytes,
            .from_x = t->stride_x * by->lanes,
            .from_y = y->spread * t->stride_y * across * by->lanes,
            .to = v + phase * t->strips->segment * t->pitch * t->size, .to_tile = t->slot,
            .to_row = x->points * t->point, .to_point = t->point};
        by->kernels->winograd_inputs(&inputs);
        if (whole == tiles)
            continue;
        const int64_t done = whole * x->tile;   /* columns */
        inputs.less_x = 1;
        inputs.wide--;
        inputs.tiles = tiles - whole;
        inputs.step = x->tile - 1;
        inputs.before = fc_most(before - done, 0);
        inputs.behind = behind - done;
        inputs.from = (const char *)inputs.from + fc_most(done - before, 0) * vec_bytes;
        inputs.to_tile += whole;
        by->kernels->winograd_inputs(&inputs);
    }
}

/* The same one axis after the other, through `rows` at their points. */
static void transform_in_turn(const fc_tiled *t, const fc_vectors *by, const window *w,
                              int64_t below, int64_t tiles, const char *stage, char *rows, char *v)
{
    const fc_line *x = &t->strips->x, *y = &t->strips->y;
    const int64_t vec_bytes = by->lanes * t->size, across = w->right - w->left;
    const int64_t plane = t->strips->segment * t->pitch * t->size;
    /* Do rows at their points lie as V does? */
    const int one_pass = x->taps == 1 && y->taps > 1 && across == t->across;
    for (int64_t phase_y = 0; phase_y < t->phases_y; phase_y++, v += t->phases_x * plane) {
        if (y->taps > 1)
            by->kernels->winograd(&(fc_winograd){
                .kind = t->kind, .points = (int)y->all, .less = fc_line_less(y),
                .length = (int)reach(t, y), .rows = 1, .items = across,
                .from = stage + (below + fc_line_tap(y, phase_y) * y->spread) * across * vec_bytes,
                .from_point = y->spread * t->stride_y * across * by->lanes, .from_item = by->item,
                .to = one_pass ? v : rows + w->before * vec_bytes,
                .to_point = one_pass ? t->point : t->across * by->lanes,
                .to_item = one_pass ? t->slot : by->item});
        for (int64_t phase = 0; phase < t->phases_x && !one_pass; phase++)
            by->kernels->winograd(&(fc_winograd){
                .kind = x->taps > 1 ? t->kind : FC_WINOGRAD_COPY, .points = (int)x->all,
                .less = fc_line_less(x), .length = (int)reach(t, x), .rows = y->points,
                .items = tiles,
                .from = rows + fc_line_tap(x, phase) * x->spread * vec_bytes,
                .from_row = t->across * by->lanes,
                .from_point = x->spread * t->stride_x * by->lanes,
                .from_item = t->kind == FC_WINOGRAD_DATA ? by->cell : by->output,
                .to = v + phase * plane, .to_row = x->points * t->point, .to_point = t->point,
                .to_item = t->slot});
    }
}

/* V of `count` strips one below the other, for one vector of channels in one plane; the next
 * ones stand `ahead` elements behind. */
static void transform(const fc_tiled *t, int64_t group, int64_t channel, int64_t depth,
                      int64_t strip, int64_t count, int64_t ahead, char *stage, char *rows,
                      char *v)
{
    const fc_line *x = &t->strips->x, *y = &t->strips->y;
    const fc_vectors *by = fc_vectors_for(t->by, t->channels - channel);
    const int64_t vec_bytes = by->lanes * t->size;
    const fc_strip at = fc_strip_at(t->strips, strip);
    const window w = window_of(t, &at);
    const int64_t before = w.before, behind = before + w.right - w.left;
    const char *plane = t->array + plane_of(t, group, channel, depth, at.image) * t->size;
    const int64_t channels = fc_least(by->lanes, t->channels - channel);
    const int64_t tiles = t->whole ? t->strips->segment : at.tiles;
    const int fused = x->all == y->all && x->taps > 1
                      && (t->kind == FC_WINOGRAD_DATA || x->tile == y->tile);
    for (int64_t i = 0; i < y->points && !fused; i++) {
        memset(rows + i * t->across * vec_bytes, 0, (size_t)(before * vec_bytes));
        memset(rows + (i * t->across + behind) * vec_bytes, 0,
               (size_t)((t->across - behind) * vec_bytes));
    }
    int64_t staged = w.top;   /* rows before it; strips have rows in common */
    for (int64_t i = 0; i < count; i++, v += t->strip * t->size) {
        const fc_strip now = fc_strip_at(t->strips, strip + i);
        const int64_t top = now.top * t->stride_y + t->first_y, bottom = top + rows_of(t);
        const int64_t fresh = fc_most(staged, top);
        if (y->taps > 1)
            stage_cells(t, by, plane, channels, fresh, bottom, w.left, w.right, ahead,
                        stage + (fresh - w.top) * (w.right - w.left) * vec_bytes);
        staged = bottom;
        if (y->taps == 1) {   /* the row itself, and zeros behind it again */
            stage_cells(t, by, plane, channels, top, top + 1, w.left, w.right, ahead,
                        rows + before * vec_bytes);
            memset(rows + behind * vec_bytes, 0, (size_t)((t->across - behind) * vec_bytes));
        }
        if (fused)
            transform_fused(t, by, &w, &now, top - w.top, tiles, stage, v);
        else
            transform_in_turn(t, by, &w, top - w.top, tiles, stage, rows, v);
    }
}

fc_run_part fc_share_runs(int64_t runs, int64_t length, int64_t size, int64_t part, int64_t parts)
{
    const int64_t once = TOGETHER * size, units = fc_parts(length, once), all = runs * units;
    const int64_t begin = all * part / parts, end = all * (part + 1) / parts;
    const int64_t from = begin % units * once;
    return (fc_run_part){begin / units, from, fc_least((end - begin) * once, length - from)};
}

fc_rows fc_tiled_soon(const fc_tiled *t, int64_t group, int64_t channel, int64_t first,
                      int64_t count, int64_t part, int64_t parts)
{
    const fc_line *y = &t->strips->y;
    const int whole = t->strips->segments == 1;   /* whole rows lie side by side */
    const int64_t down = y->tile * t->stride_y, row = t->cells[2] * t->size;
    const int64_t rows = whole ? 1 : down;
    const int64_t length = whole ? down * row : fc_least(t->across * t->size, row);
    const fc_run_part some = fc_share_runs(count * rows, length, t->size, part, parts);
    if (some.bytes <= 0)
        return (fc_rows){0};
    const fc_strip at = fc_strip_at(t->strips, first + some.run / rows);
    const int64_t seen = rows_of(t) - down * y->spread;   /* rows of the strip above, too */
    const int64_t top = fc_most(at.row * down + t->first_y + seen + some.run % rows, 0);
    const int64_t left = whole ? 0 : window_of(t, &at).left;
    const int64_t from = plane_of(t, group, channel, 0, at.image) + top * t->cells[2] + left;
    return (fc_rows){t->array + from * t->size + some.from, t->plane * t->size, some.bytes};
}

void fc_tiled_fill(const fc_tiled *t, int64_t group, int64_t first, int64_t count, char *stage,
                   char *rows, char *v, int member, int team)
{
    const int64_t vectors = fc_parts(t->channels, t->lanes), deep = t->cells[0];
    const int64_t tiles = t->strips->y.tiles;
    int64_t unit, end;
    fc_share(vectors * deep * count, member, team, &unit, &end);
    int64_t at = start_of(t, group, unit / count / deep * t->lanes, unit / count % deep,
                          first + unit % count);
    while (unit < end) {
        const int64_t strip = first + unit % count, depth = unit / count % deep;
        const int64_t channel = unit / count / deep * t->lanes;
        const int64_t in_chunk = fc_least(end - unit, count - unit % count);
        const int64_t run = fc_least(fc_least(t->stack, tiles - strip % tiles), in_chunk);
        unit += run;
        const int64_t next = start_of(t, group, unit / count / deep * t->lanes,
                                      unit / count % deep, first + unit % count);
        transform(t, group, channel, depth, strip, run, next - at, stage, rows,
                  v + (channel / t->wide * t->block + (strip - first) * t->strip
                       + depth * t->phases * t->strips->segment * t->pitch + channel % t->wide)
                      * t->size);
        at = next;
    }
}
