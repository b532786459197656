/* What a convolution costs, in nanoseconds of one thread: a sum of counted operations
 * (conv_count.c), each times a constant. Only which of two sums is smaller matters.
 *
 * The prices (conv_prices.h) were fitted by `bench/fit_prices.py`, on an AMD Zen 4 at 3.7 GHz, to
 * the times of 3123 random geometries of `bench/sweep.py` (seeds 961 and 962, 1011 to 1014, 1021
 * to 1024 and 1111 to 1113; what kernels have become faster since was left out), a third of them
 * for each width of the vectors, and of 667 others: many channels on small images, strided kernels
 * of few channels, kernels of 1 on operands beyond L2, weights of 2 to 16 MB for few outputs,
 * large V. How that chooses, docs/algorithms.rst says. With weights of 2 to 16 MB for few outputs
 * it loses 6 %, in the fit: how fast L3 and memory are changes by more than the ways differ. A
 * scale for each way, found as the one that loses least, was no gain on the half that it had not
 * seen. One price is not fitted, that of a panel's rows that lie in pages of their own: 1x1
 * kernels of 64 to 512 channels on images of 40 x 40 to 112 x 112 gave it (64 x 112 x 112 -> 256:
 * panels 66, planes 84 GF/s). Float and double have the same prices: what is counted are vectors.
 */
#include "conv_cost.h"

#include <math.h>
#include <string.h>

#include "conv_columns.h"
#include "conv_patches.h"
#include "conv_prices.h"

/* A choice holds for every batch: it is the way with the least product of its times with so many
 * images. On seeds 1011 to 1024 it takes 1.0 to 1.3 % longer than the fastest, as {1, 4, 32} does;
 * {1, 8} 1.1 to 1.5. With large weights, which one image can hardly use, {1, 4, 32} loses 7 % in
 * place of 6. */
static const int64_t batches[] = {1, 4, 8};

/* Instruction sets with fused multiply-adds agree in the bits of a named algorithm. SSE2 has
 * none. */
#ifdef __aarch64__
enum { LEAST_FUSED = 16 };
#else
enum { LEAST_FUSED = 32 };
#endif

/* Multiply-adds of an image below which Winograd's algorithm gains a microsecond at best, which
 * is not worth its digits; where weights have to be transformed as well. */
static const double SMALL = 20e3, SMALL_WITH_WEIGHTS = 80e3;

static int forced = FC_WAYS;

void fc_conv_force_way(int way) { forced = way; }

/* Nanoseconds that each way takes; infinite where it does not fit. */
static void price(const fc_conv *conv, int pass, int prepared, int64_t bytes, double cost[FC_WAYS])
{
    double terms[FC_WAYS][FC_TERMS];
    fc_conv_terms(conv, pass, prepared, bytes, terms);
    for (int way = 0; way < FC_WAYS; way++) {
        cost[way] = terms[way][LAST] > 0 ? 0 : INFINITY;
        for (int i = 0; i < FC_TERMS; i++)
            cost[way] += prices[way][i][bytes / 32] * terms[way][i];
    }
}

static int cheapest(const double cost[FC_WAYS])
{
    int best = 0;
    for (int way = 1; way < FC_WAYS; way++)
        if (cost[way] < cost[best])
            best = way;
    return best;
}

void fc_conv_terms(const fc_conv *conv, int pass, int prepared, int64_t bytes,
                   double terms[FC_WAYS][FC_TERMS])
{
    const int way = pass == FC_GRAD_WEIGHT ? FC_PATCHES_GRAD_WEIGHT : FC_PATCHES;
    fc_conv_count(conv, pass, prepared, bytes, terms);
    if (terms[way][LAST] > 0) {
        const fc_conv patches = fc_patches_conv(conv);
        double cost[FC_WAYS];
        price(&patches, pass, 0, bytes, cost);
        terms[way][FC_KERNEL_OF_1] = cost[cheapest(cost)];
    }
    if (terms[FC_COLUMNS][LAST] > 0) {
        const fc_columns_shape shape = fc_conv_columns_shape(conv);
        double cost[FC_WAYS];
        price(&shape.box, pass, 0, bytes, cost);
        terms[FC_COLUMNS][FC_KERNEL_OF_1]
            = (double)(conv->batch * shape.boxes) * cost[FC_PANELS];
    }
}

/* Do most taps meet nothing but padding? A tile's transforms round in proportion to all that the
 * taps could meet, and what little they do meet may be as small as that. */
static int lies_in_padding(const fc_conv *conv)
{
    for (int a = 0; a < 3; a++) {
        const fc_axis axis = fc_axis_forward(conv, a);
        if (fc_axis_meetings(&axis) * 4 < axis.outputs * axis.taps)
            return 1;
    }
    return 0;
}

/* Of each way the product of its times with these batches. */
static void compare(const fc_conv *conv, int pass, int prepared, int64_t bytes,
                    double product[FC_WAYS])
{
    double cost[FC_WAYS];
    fc_conv some = *conv;
    for (size_t i = 0; i < sizeof batches / sizeof *batches; i++) {
        some.batch = batches[i];
        price(&some, pass, prepared, bytes, cost);
        for (int way = 0; way < FC_WAYS; way++)
            product[way] = i ? product[way] * cost[way] : cost[way];
    }
}

static int choose(const fc_conv *given, int pass, int prepared)
{
    const double small = prepared || pass == FC_GRAD_WEIGHT ? SMALL : SMALL_WITH_WEIGHTS;
    fc_conv conv = *given;
    const int few = fc_conv_multiply_adds(given) < small;
    if (given->algorithm == FC_AUTO && forced == FC_WAYS && (few || lies_in_padding(given)))
        conv.algorithm = FC_DIRECT;
    const int64_t own = fc_vector_bytes(given);
    const int shared = given->algorithm != FC_AUTO && own >= LEAST_FUSED
                       && fc_conv_ways_differ(given, pass);
    double cost[FC_WAYS];
    compare(&conv, pass, prepared, shared ? 64 : own, cost);
    return forced != FC_WAYS && isfinite(cost[forced]) ? forced : cheapest(cost);
}

/* What was chosen lately, on this thread: counting takes some eight microseconds, a small
 * convolution no longer. */
typedef struct { fc_conv conv; const fc_kernels *kernels; int pass, prepared, forced, way; } memory;

enum { MEMORIES = 64 };

static uint64_t slot_of(const fc_conv *conv, int pass)
{
    const int64_t of[] = {
        conv->in_channels, conv->out_channels, conv->in[0], conv->in[1], conv->in[2],
        conv->kernel[1], conv->kernel[2], conv->stride[2], conv->dilation[2], pass
    };
    uint64_t sum = (uint64_t)conv->dtype;
    for (size_t i = 0; i < sizeof of / sizeof *of; i++)
        sum = (sum + (uint64_t)of[i]) * 0x9e3779b97f4a7c15;   /* 2^64 over the golden ratio */
    return (sum >> 32) % MEMORIES;
}

int fc_conv_choose(const fc_conv *conv, int pass, int prepared)
{
    static _Thread_local memory memories[MEMORIES];
    memory *m = &memories[slot_of(conv, pass)];
    fc_conv some = *conv;
    some.batch = 1;
    const fc_kernels *kernels = fc_active[conv->dtype];
    if (m->kernels != kernels || m->pass != pass || m->prepared != prepared || m->forced != forced
        || memcmp(&m->conv, &some, sizeof some))
        *m = (memory){some, kernels, pass, prepared, forced, choose(&some, pass, prepared)};
    return m->way;
}
