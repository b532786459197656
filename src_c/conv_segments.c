/* Where padding is large, outputs meet few of the taps: for a 3x3 kernel with dilation and
 * padding 12 on a 33 x 33 image 0.57 of all products are with cells. So axes are cut where the
 * set of taps that outputs meet changes, and what lies between cuts is a job with fewer outputs
 * and fewer taps: 9 in that case.
 *
 * A job of n outputs and t taps takes (n + END) * t steps, and its own `SMALL` multiply-adds:
 * along three axes the sum over all segments is the product of the axes' sums of n * t, plus END
 * times the product of their sums of t.
 */
#include "conv_job.h"

/* Outputs that a job's ragged panels and short lines cost, and multiply-adds that starting it does
 * (some 2 us). */
static const double END = 16, START = 100e3;

/* Share of the products that is not worth looking at, nor are images of less than that many. */
static const double FEW = 0.03, SMALL = 1e6;

typedef struct { double products, taps; } sums;   /* over segments: of outputs * taps, of taps */

/* Outputs first .. first + count - 1 and the taps that any of them has a cell for. */
static fc_axis part_of(const fc_axis *axis, int64_t first, int64_t count)
{
    fc_axis part = *axis;
    part.outputs = count;
    part.offset += first * axis->step;
    part.place += first * axis->place_step;
    fc_axis_trim(&part);
    return part;
}

/* Every how many taps are asked where they begin and end to meet cells, so that these places are
 * spread evenly over all where they are more than FC_SEGMENTS - 1, as of a kernel that nearly covers
 * its axis: with the first of them alone 40 x 30 x 476 by 22 x 1 took 1.4 times as long, backward. */
static int64_t skip_of(const fc_axis *axis)
{
    int64_t changes = 0;
    for (int64_t r = 0; r < axis->taps; r++) {
        int64_t inside;
        const int64_t first = fc_axis_inside(axis, r, &inside);
        changes += inside && first > 0;
        changes += inside && first + inside < axis->outputs;
    }
    return fc_most(1, fc_parts(changes, FC_SEGMENTS - 1));
}

/* Where the set of taps changes, 0 and the end included; returns how many segments lie between. */
static int64_t list_places(const fc_axis *axis, int64_t place[FC_SEGMENTS + 1])
{
    const int64_t skip = skip_of(axis);
    int64_t count = 0;
    place[0] = 0;
    while (place[count] < axis->outputs) {
        int64_t next = axis->outputs;
        for (int64_t r = skip / 2; r < axis->taps && count < FC_SEGMENTS - 1; r += skip) {
            int64_t inside;
            const int64_t first = fc_axis_inside(axis, r, &inside), end = first + inside;
            if (inside && first > place[count])
                next = fc_least(next, first);
            if (inside && end > place[count])
                next = fc_least(next, end);
        }
        place[++count] = next;
    }
    return count;
}

/* The segments for which the sum of (outputs + end) * taps is least; returns how many. */
static int64_t cut_axis(const fc_axis *axis, double end, fc_axis segment[FC_SEGMENTS], sums *sum)
{
    int64_t place[FC_SEGMENTS + 1], from[FC_SEGMENTS + 1], count = 0;
    double least[FC_SEGMENTS + 1] = {0};
    const int64_t places = list_places(axis, place);
    for (int64_t to = 1; to <= places; to++)
        for (int64_t at = to - 1; at >= 0; at--) {
            const fc_axis part = part_of(axis, place[at], place[to] - place[at]);
            const double steps = least[at] + ((double)part.outputs + end) * (double)part.taps;
            if (at == to - 1 || steps < least[to]) {
                least[to] = steps;
                from[to] = at;
            }
        }
    *sum = (sums){0, 0};
    for (int64_t to = places; to > 0; to = from[to]) {
        segment[count] = part_of(axis, place[from[to]], place[to] - place[from[to]]);
        sum->products += (double)(segment[count].outputs * segment[count].taps);
        sum->taps += (double)segment[count++].taps;
    }
    return count;
}

void fc_job_segments(const fc_job *job, fc_segments *s)
{
    const double pairs = (double)(job->groups * job->rows * job->channels);
    sums sum[3];
    double products = 1, live = 1;
    for (int a = 0; a < 3; a++) {
        s->count[a] = 1;
        s->axis[a][0] = part_of(&job->axis[a], 0, job->axis[a].outputs);
        sum[a].taps = (double)s->axis[a][0].taps;
        sum[a].products = sum[a].taps * (double)s->axis[a][0].outputs;
        products *= sum[a].products;
    }
    if (products * pairs < SMALL)
        return;
    for (int a = 0; a < 3; a++)
        live *= (double)fc_axis_meetings(&s->axis[a][0]);
    if (live > (1 - FEW) * products)
        return;
    for (int a = 0; a < 3; a++) {
        double end = END + START / pairs;
        for (int b = 0; b < 3; b++)
            if (b != a)
                end *= sum[b].taps / sum[b].products;
        s->count[a] = cut_axis(&job->axis[a], end, s->axis[a], &sum[a]);
    }
}

void fc_job_take_segment(fc_job *job, const fc_segments *s, int64_t i)
{
    for (int a = 2; a >= 0; i /= s->count[a--])
        job->axis[a] = s->axis[a][i % s->count[a]];
}
