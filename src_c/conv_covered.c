#include "conv_covered.h"

#include "arena.h"
#include "conv_plan.h"
#include "kernels.h"
#include "parallel.h"

/* Images in one chain of additions. 65536 products in one are off by 39 eps of the root of their
 * number (float32, normal data), in chains of so many by 9; 2^20 by 241 and 7. */
enum { CHAIN = 1024 };

typedef struct {
    const fc_kernels *kernels;
    int64_t size, batch, channels, each, cells;   /* of an element; N, C, M, K */
    const char *dy, *operand;                     /* w or x */
    char *out, *parts;                            /* parts: of several chains, (2, C, M, K): the sum
                                                     of the first ones, and the next */
    fc_in *scratch;                               /* (team, 2, most terms of a sum) */
    int64_t terms;
} job;

int fc_covered_fits(const fc_conv *conv)
{
    for (int a = 0; a < 3; a++)
        if (conv->in[a] != conv->kernel[a] || conv->out[a] != 1 || conv->before[a] != 0
            || (conv->kernel[a] > 1 && conv->dilation[a] != 1))
            return 0;
    return conv->in_channels == conv->groups && conv->algorithm != FC_WINOGRAD;
}

static job make(const fc_conv *conv, const void *dy, const void *operand, void *out)
{
    return (job){
        .kernels = fc_active[conv->dtype], .size = conv->dtype == FC_F64 ? 8 : 4,
        .batch = conv->batch, .channels = conv->in_channels,
        .each = conv->out_channels / conv->groups, .cells = fc_volume(conv->in),
        .dy = dy, .operand = operand, .out = out,
    };
}

static fc_in row(const job *j, const char *at, int64_t element, int64_t step)
{
    return (fc_in){at + element * j->size, step};
}

static void input_body(void *context, int member, int team)
{
    const job *j = context;
    fc_in *dy = j->scratch + 2 * j->terms * member, *w = dy + j->terms;
    const int64_t each = j->each, row_of_w = each * j->cells;
    int64_t c, end;
    fc_share(j->channels, member, team, &c, &end);
    for (int64_t n = 0; n < j->batch; n++) {
        for (int64_t m = 0; m < each; m++) {
            dy[m] = row(j, j->dy, (n * j->channels + c) * each + m, each);
            w[m] = row(j, j->operand, c * row_of_w + m * j->cells, row_of_w);
        }
        const int64_t to = (n * j->channels + c) * j->cells;
        j->kernels->mix(end - c, j->cells, each, dy, w, (fc_out){j->out + to * j->size, j->cells});
    }
}

/* Images [n, n + count): what they add to output channel m of each group, into `to`. */
static void sum_images(const job *j, int64_t n, int64_t count, int64_t m, int64_t c, int64_t end,
                       fc_in *dy, char *to)
{
    fc_in *x = dy + j->terms;
    const int64_t each = j->each;
    for (int64_t i = 0; i < count; i++) {
        const int64_t channel = (n + i) * j->channels + c;
        dy[i] = row(j, j->dy, channel * each + m, each);
        x[i] = row(j, j->operand, channel * j->cells, j->cells);
    }
    const int64_t at = (c * each + m) * j->cells;
    j->kernels->mix(end - c, j->cells, count, dy, x,
                    (fc_out){to + at * j->size, each * j->cells});
}

static void weight_body(void *context, int member, int team)
{
    const job *j = context;
    fc_in *scratch = j->scratch + 2 * j->terms * member;
    const int64_t row_of_w = j->each * j->cells, whole = j->channels * row_of_w;
    const int64_t both[2] = {0, whole};
    int64_t c, end;
    fc_share(j->channels, member, team, &c, &end);
    for (int64_t n = 0; n < j->batch; n += CHAIN) {
        char *to = !j->parts ? j->out : j->parts + (n ? whole * j->size : 0);
        for (int64_t m = 0; m < j->each; m++)
            sum_images(j, n, fc_least(j->batch - n, CHAIN), m, c, end, scratch, to);
        const int64_t at = c * row_of_w * j->size;
        char *sum = n + CHAIN < j->batch ? j->parts : j->out;
        if (n)
            j->kernels->sum_rows(j->parts + at, both, 2, (end - c) * row_of_w, sum + at);
    }
}

/* So many terms a sum. */
static int run(job *j, int64_t terms, void (*body)(void *, int, int), int threads)
{
    const double moved = (double)j->batch * j->channels * (j->each + 1) * j->cells;
    const int team = fc_team_size(fc_useful_threads(threads, 4 * moved));
    const int64_t parts = terms < j->batch && body == weight_body
        ? 2 * j->channels * j->each * j->cells * j->size : 0;
    const int64_t lists = fc_round_up(team * 2 * terms * (int64_t)sizeof(fc_in), FC_LINE);
    char *scratch = fc_arena_take(lists + parts);
    if (!scratch)
        return FC_NO_MEMORY;
    j->scratch = (fc_in *)scratch;
    j->terms = terms;
    j->parts = parts ? scratch + lists : NULL;
    fc_parallel(team, body, j);
    fc_arena_give(scratch);
    return FC_OK;
}

int fc_covered_grad_input(const fc_conv *conv, const void *dy, const void *w, void *dx,
                          int threads)
{
    job j = make(conv, dy, w, dx);
    return run(&j, j.each, input_body, threads);
}

int fc_covered_grad_weight(const fc_conv *conv, const void *dy, const void *x, void *dw,
                           int threads)
{
    job j = make(conv, dy, x, dw);
    return run(&j, fc_least(j.batch, CHAIN), weight_body, threads);
}
