/* Direct convolution of one channel with a long kernel along a line: a Toeplitz matrix product.
 *
 *     y[W a + b] = sum over s = 0 .. K + W - 2 of x[W a + s] v[s - b],   v the kernel, 0 outside
 *
 * Rows of the product are a (x broadcast), lanes are b, and row s of B is the reversed kernel
 * between zeros, read one element further back each step: K + W - 1 steps in place of K, all of
 * them at the full rate of the register tile. W is the tile's width.
 *
 * Products with the zeros outside v change no sum of finite numbers, so the bits are those of
 * the plain sum. A cell that is not finite would reach its neighbours through them: strips
 * that hold one take the plain sum itself.
 *
 * A unit of work is one (image, group, line, strip of outputs).
 */
#include <string.h>

#include "arena.h"
#include "conv_job.h"
#include "parallel.h"

/* Of a strip, which has 64 rows of 48; and lengths that are not worth looking at. */
enum { STRIP = 3072, MIN_TAPS = 16, MIN_OUTPUTS = 64 };

typedef struct {
    const fc_job *job;
    int64_t strips, taps, line_size, kernel_size, stride;
    const int64_t *rows;   /* (most rows of a strip) offset of each in the line */
    char *scratch;
    fc_units units;
} plan;

fc_toeplitz_shape fc_conv_toeplitz_shape(const fc_job *job)
{
    const fc_axis *x = &job->axis[2];
    const int fits = job->channels == 1 && job->axis[0].taps == 1 && job->axis[1].taps == 1
        && x->step == 1 && (x->tap_step == 1 || x->tap_step == -1) && x->place_step == 1
        && x->taps >= MIN_TAPS && x->outputs >= MIN_OUTPUTS;
    return (fc_toeplitz_shape){.fits = fits, .strips = fc_parts(x->outputs, STRIP), .strip = STRIP};
}

/* Cells first .. first + size - 1 of one line, zeros where there are none; returns whether all
 * are finite. `line` is NULL where the whole line is padding. */
static int fill_line(const plan *p, const char *line, int64_t first, int64_t size, char *to)
{
    const fc_job *job = p->job;
    int64_t begin = first < 0 ? -first : 0, end = job->axis[2].cells - first;
    end = end < size ? end : size;
    if (!line || end <= begin) {
        memset(to, 0, size * job->size);
        return 1;
    }
    memset(to, 0, begin * job->size);
    memcpy(to + begin * job->size, line + (first + begin) * job->size, (end - begin) * job->size);
    memset(to + end * job->size, 0, (size - end) * job->size);
    return job->kernels->finite(to + begin * job->size, end - begin);
}

/* reversed[W + K - 2 - u] = v[u], zeros on both sides. */
static void fill_kernel(const plan *p, const char *weight, char *reversed)
{
    const fc_job *job = p->job;
    const fc_axis *x = &job->axis[2];
    const int64_t width = job->kernels->width, r[3] = {0, 0, x->tap_step > 0 ? 0 : p->taps - 1};
    const int64_t step = x->tap_step * x->weight_step * job->weight_axis[2];
    int64_t at = fc_job_weight(job, r);
    memset(reversed, 0, p->kernel_size * job->size);
    for (int64_t u = 0; u < p->taps; u++, at += step)
        memcpy(reversed + (width + p->taps - 2 - u) * job->size, weight + at * job->size,
               job->size);
}

/* outputs of one row from the strip's line: the full rows of the product, then the last one. Each
 * sum goes through the taps in their order, which may be that of the cells or the reverse of it. */
static void toeplitz(const plan *p, const char *line, const char *reversed, const char *bias,
                     char *out, int64_t outputs)
{
    const fc_job *job = p->job;
    const int64_t width = job->kernels->width, last = width + p->taps - 2, zero = 0;
    const int backwards = job->axis[2].tap_step < 0;
    fc_gemm g = {
        .m = outputs / width, .n = width, .taps = 1, .k = last + 1,
        .a = line, .a_row = p->rows, .a_tap = backwards ? &last : &zero,
        .a_step = backwards ? -1 : 1,
        .b = reversed, .b_tap = backwards ? &zero : &last, .b_step = backwards ? 1 : -1,
        .c = out, .c_row = width, .bias = bias,
    };
    job->kernels->gemm(&g);
    g.n = outputs % width;
    g.a_row += g.m;
    g.c = out + g.m * width * job->size;
    g.m = g.n > 0;
    job->kernels->gemm(&g);
}

/* The same, summed plainly: each cell meets only the taps that the equation gives it. */
static void plain(const plan *p, const char *line, const char *weight, const char *bias,
                  char *out, int64_t outputs)
{
    const fc_axis *x = &p->job->axis[2];
    const int64_t zero = 0, first[3] = {0}, tap = fc_job_weight(p->job, first);
    const int64_t cell = x->tap_step < 0 ? p->taps - 1 : 0;
    const fc_gemm g = {
        .m = 1, .n = outputs, .taps = 1, .k = p->taps,
        .a = weight, .a_row = &zero, .a_tap = &tap,
        .a_step = x->weight_step * p->job->weight_axis[2],
        .b = line, .b_tap = &cell, .b_step = x->tap_step,
        .c = out, .c_row = outputs, .bias = bias,
    };
    p->job->kernels->gemm(&g);
}

/* The line that output line (z, y) reads, or NULL in the padding. */
static const char *source_line(const fc_job *job, int64_t channel, const int64_t at[2])
{
    int64_t from = channel * job->source_channel;
    for (int a = 0; a < 2; a++) {
        const int64_t cell = at[a] * job->axis[a].step + job->axis[a].offset;
        if (cell < 0 || cell >= job->axis[a].cells)
            return NULL;
        from += cell * job->source_axis[a];
    }
    return job->source + from * job->size;
}

/* One strip of one line, all rows of its group. */
static void compute(const plan *p, int64_t image, int64_t group, const int64_t at[2], int64_t first,
                    char *scratch)
{
    const fc_job *job = p->job;
    const fc_axis *x = &job->axis[2];
    const int64_t outputs = x->outputs - first < STRIP ? x->outputs - first : STRIP;
    char *line = scratch, *reversed = line + p->line_size * job->size;
    char *bias = reversed + p->kernel_size * job->size;
    const int64_t back = x->tap_step < 0 ? p->taps - 1 : 0;
    const int finite = fill_line(p, source_line(job, image * job->groups + group, at),
                                 first + x->offset - back, p->line_size, line);
    for (int64_t row = 0; row < job->rows; row++) {
        const char *weight = job->weight
            + (group * job->weight_group + row * job->weight_row) * job->size;
        int64_t to = ((image * job->groups + group) * job->rows + row) * job->out_row
            + (x->place + first) * job->out_axis[2];
        for (int a = 0; a < 2; a++)
            to += (job->axis[a].place + at[a] * job->axis[a].place_step) * job->out_axis[a];
        for (int64_t i = 0; job->bias && i <= STRIP / job->kernels->width; i++)
            memcpy(bias + i * job->size, job->bias + (group * job->rows + row) * job->size,
                   job->size);
        if (finite) {
            fill_kernel(p, weight, reversed);
            toeplitz(p, line, reversed, job->bias ? bias : NULL, job->out + to * job->size,
                     outputs);
        } else {
            plain(p, line, weight, job->bias ? bias : NULL, job->out + to * job->size, outputs);
        }
    }
}

static void body(void *context, int index, int team)
{
    (void)team;
    plan *p = context;
    const fc_job *job = p->job;
    const int64_t ys = job->axis[1].outputs, lines = job->axis[0].outputs * ys;
    const int64_t all = job->batch * job->groups * lines * p->strips;
    for (int64_t item; (item = fc_take(&p->units, 1)) < all;) {
        const int64_t line = item / p->strips % lines, pair = item / p->strips / lines;
        const int64_t at[2] = {line / ys, line % ys};
        compute(p, pair / job->groups, pair % job->groups, at, item % p->strips * STRIP,
                p->scratch + index * p->stride);
    }
}

int fc_conv_toeplitz(const fc_job *job)
{
    const int64_t width = job->kernels->width, most_rows = STRIP / width + 1;
    plan p = {.job = job, .taps = job->axis[2].taps};
    p.strips = fc_conv_toeplitz_shape(job).strips;
    p.line_size = fc_round_up(STRIP + p.taps + 2 * width, 16);
    p.kernel_size = fc_round_up(p.taps + 3 * width, 16);
    p.stride = fc_round_up((p.line_size + p.kernel_size + most_rows) * job->size, 4096);
    const double flops = 2.0 * job->batch * job->groups * job->rows * p.taps * job->axis[0].outputs
        * job->axis[1].outputs * job->axis[2].outputs;
    const int team = fc_team_size(fc_useful_threads(job->threads, flops));
    p.scratch = fc_arena_take(team * p.stride + most_rows * sizeof(int64_t));
    if (!p.scratch)
        return FC_NO_MEMORY;
    int64_t *rows = (int64_t *)(p.scratch + team * p.stride);
    for (int64_t i = 0; i < most_rows; i++)
        rows[i] = i * width;
    p.rows = rows;
    fc_parallel(team, body, &p);
    fc_arena_give(p.scratch);
    return FC_OK;
}
