/* What a convolution costs, in nanoseconds of one thread: a sum of counted operations
 * (conv_count.c), each times a constant. Only which of two sums is smaller matters.
 *
 * The prices were fitted by `bench/sweep.py fit` to the times of some 2300 random geometries, a third
 * of them for each width of the vectors, on an AMD Zen 4 at 3.7 GHz. They meet these times to 10 to
 * 28 %, for most ways to 15. On 480 other geometries what is chosen takes 1.9 % longer on average
 * than the fastest way would, 26 of 1661 times more than 30 %, at worst 2.5 times as long. Float and
 * double have the same prices: what is counted are vectors.
 */
#include "conv_cost.h"

#include <math.h>
#include <string.h>

/* The batch that all choices are made for. */
enum { BATCH = 3 };

/* Instruction sets with fused multiply-adds agree in bits. SSE2 has none. */
#ifdef __aarch64__
enum { LEAST_FUSED = 16 };
#else
enum { LEAST_FUSED = 32 };
#endif

/* Multiply-adds of an image below which Winograd's algorithm gains a few microseconds at best, which
 * are not worth its digits. */
static const double SMALL_SUM = 80e3, SMALL_GRAD_WEIGHT = 20e3;

/* For vectors of 16, 32 and 64 bytes: a row for each way, a price for each operation that its
 * function in conv_count.c counts. Printed by `bench/sweep.py fit`. */
static const double costs[3][FC_WAYS][FC_TERMS] = {{
    {0.213, 0, 0.822, 0.874, 1.08e-11, 3.27, 26.2, 0.567, 1.77, 0.241, 0.102, 15.7, 139, 960},   /* panels */
    {0.263, 0.00428, 0, 0.521, 0.473, 0.0867, 18.8, 0.511, 2.54, 0.564, 0.0205, 26.1, 0, 1.78e+03},   /* planes */
    {0.268, 0.00463, 0, 0.516, 0.481, 0, 19.6, 0.464, 3.37, 0.584, 0.0214, 27.2, 0.211, 1.33e+03},   /* apart */
    {0.211, 0.0438, 2.69, 0.912, 0.654, 0.557, 0, 28, 0, 11.3, 0, 0, 0, 1.57e+03},   /* depthwise */
    {0.237, 0, 0.259, 1.8, 0.198, 0, 0, 0, 0, 0, 0, 0, 0, 1.44e+03},   /* toeplitz */
    {0.153, 0.0451, 0.419, 1.42, 0.744, 0.742, 0, 0, 4.52, 21.1, 1.45, 0.0906, 0, 1.68e+03},   /* channelwise */
    {0.203, 25.5, 1.81, 1.15, 0.101, 1.53, 33.5, 21.8, 0.498, 2.08, 0.0363, 0, 0, 233},   /* winograd */
    {0.217, 0.0483, 0.472, 1.17, 36.5, 0, 0, 0.682, 0.408, 16.5, 87.8, 0, 0, 1.91e+03},   /* channels */
    {0.924, 3.01, 2.29, 0, 82.8, 0.508, 0, 40.9, 0, 0, 0, 0, 0, 2.63e+03},   /* dots */
    {0.159, 0, 0.244, 0.327, 0.706, 0.622, 0, 0, 2.91, 46, 4.55, 0.168, 0, 1.69e+03},   /* channelwise_grad_weight */
    {0.273, 22.8, 1.22, 1.07, 0.403, 0.717, 36.1, 13.9, 0.581, 1.44, 0.555, 0, 0, 916},   /* winograd_grad_weight */
}, {
    {0.108, 0.00986, 0.607, 0.712, 0.396, 3.99, 28.3, 0.65, 2.5, 0.287, 0.147, 21.8, 45.8, 1.46e+03},   /* panels */
    {0.144, 0.0122, 0.0775, 0.736, 0.517, 0.269, 18.7, 0.638, 2.91, 0.47, 0.103, 24.1, 0, 1.68e+03},   /* planes */
    {0.147, 0.0142, 0.0867, 0.699, 0.478, 0.389, 20.1, 0.621, 4.5, 0.404, 0.108, 21.2, 1.17, 1.36e+03},   /* apart */
    {0.13, 0.199, 6.35, 0.0236, 0.703, 0, 1.71, 7.18, 0, 24.2, 0, 0, 0, 1.58e+03},   /* depthwise */
    {0.156, 0.0335, 0.205, 1.42, 0.403, 0, 0, 0, 0, 0, 0, 0, 0, 1.1e+03},   /* toeplitz */
    {0.114, 0.03, 0.746, 2.36, 0.857, 0.642, 0, 0, 4.28, 22.6, 2.69, 0.232, 0, 1.47e+03},   /* channelwise */
    {0.148, 14.2, 1.72, 1.2, 0.89, 1.41, 32.8, 24.1, 0.869, 1.94, 0.0846, 0, 0, 955},   /* winograd */
    {0.164, 0.0975, 0.725, 0.875, 35.8, 2.09, 0.0572, 0.686, 1.65, 7.91, 60.4, 0, 0, 1.95e+03},   /* channels */
    {0.329, 2.17, 1.82, 0, 84.3, 0.349, 0, 0, 0, 0, 0, 0, 0, 3.37e+03},   /* dots */
    {0.129, 0, 0.292, 0, 0.956, 0.832, 0, 0, 2.09, 35.5, 4.74, 0.397, 0, 1.85e+03},   /* channelwise_grad_weight */
    {0.174, 16.1, 1.59, 1.27, 0.904, 1.05, 22.3, 8.17, 1, 1.88, 0.14, 0, 0, 1.39e+03},   /* winograd_grad_weight */
}, {
    {0.291, 0.0181, 1.24, 0.614, 0.262, 5.16, 30.3, 1.56, 2.16, 0.516, 0, 46.6, 75, 1.37e+03},   /* panels */
    {0.281, 0.0121, 0.182, 1.51, 0.397, 0.847, 20.6, 0.775, 3.68, 0.493, 0.0617, 33.5, 0, 1.64e+03},   /* planes */
    {0.276, 0.0215, 0.152, 1.39, 0.358, 0.712, 21.1, 0.824, 5.74, 0.481, 0.108, 28.6, 0.133, 1.41e+03},   /* apart */
    {0.272, 0.0844, 15.6, 0, 1.52, 0.696, 2.37, 0, 0, 14.8, 0, 0, 0, 1.55e+03},   /* depthwise */
    {0.3, 0.109, 0.482, 0.547, 0.857, 0, 0, 0, 0, 0, 0, 0, 0, 1.35e+03},   /* toeplitz */
    {0.175, 0.17, 0.551, 2.76, 1.64, 1.27, 0.424, 1.67, 2.56, 29.7, 4.53, 0.604, 0, 1.48e+03},   /* channelwise */
    {0.275, 17.7, 1.87, 1.69, 1.74, 1.93, 27.6, 61.2, 1.21, 2.89, 0.0149, 0, 0, 864},   /* winograd */
    {0.258, 0.221, 0.253, 0.82, 46.9, 0, 0.293, 0.266, 1.21, 28.5, 30.1, 0, 0, 2.35e+03},   /* channels */
    {0.294, 2.98, 1.59, 0, 75.1, 0.248, 0, 0.14, 0, 0, 0, 0, 0, 2.7e+03},   /* dots */
    {0.219, 0.0447, 0.441, 0, 1.62, 1.21, 0, 0.316, 1.44, 67.6, 10.6, 0.705, 0, 1.49e+03},   /* channelwise_grad_weight */
    {0.355, 30.9, 2.01, 1.68, 1.55, 0.934, 22.5, 28.2, 0, 4.69, 0.803, 0, 0, 1.47e+03},   /* winograd_grad_weight */
}};

static int forced = FC_WAYS;

void fc_conv_force_way(int way) { forced = way; }

static double total(const double cost[FC_TERMS], const double term[FC_TERMS])
{
    double sum = 0;
    for (int i = 0; i < FC_TERMS; i++)
        sum += cost[i] * term[i];
    return sum;
}

/* Nanoseconds that each way takes; infinite where it does not fit. */
static void price(const fc_conv *conv, int pass, int prepared, int64_t bytes, double cost[FC_WAYS])
{
    double terms[FC_WAYS][FC_TERMS];
    fc_conv_count(conv, pass, prepared, bytes, terms);
    for (int way = 0; way < FC_WAYS; way++)
        cost[way] = terms[way][FC_TERMS - 1] > 0 ? total(costs[bytes / 32][way], terms[way]) : INFINITY;
}

static int cheapest(const double cost[FC_WAYS], int way, int end)
{
    int best = way;
    for (; way < end; way++)
        if (cost[way] < cost[best])
            best = way;
    return best;
}

/* Winograd's way stands last in its passes. */
static int choose(const fc_conv *given, int pass, int prepared)
{
    const double small = pass == FC_GRAD_WEIGHT ? SMALL_GRAD_WEIGHT : SMALL_SUM;
    fc_conv some = *given, *conv = &some;
    if (conv->algorithm == FC_AUTO && !prepared && forced == FC_WAYS && fc_conv_multiply_adds(conv) < small)
        conv->algorithm = FC_DIRECT;
    const int first = pass == FC_GRAD_WEIGHT ? FC_CHANNELS : FC_PANELS;
    const int winograd = pass == FC_GRAD_WEIGHT ? FC_TRANSFORMS_GRAD_WEIGHT : FC_TRANSFORMS;
    const int64_t own = fc_vector_bytes(conv);
    const int64_t bytes = own >= LEAST_FUSED && fc_conv_ways_differ(conv, pass) ? 64 : own;
    double cost[FC_WAYS];
    price(conv, pass, prepared, bytes, cost);
    if (forced != FC_WAYS && isfinite(cost[forced]))
        return forced;
    const int direct = cheapest(cost, first, winograd);
    if (bytes != own && isfinite(cost[winograd]))
        price(conv, pass, prepared, own, cost);
    return cost[winograd] < cost[direct] ? winograd : direct;
}

/* What was chosen lately, on this thread: counting takes a microsecond or two, a small convolution
 * no longer. */
typedef struct { fc_conv conv; const fc_kernels *kernels; int pass, prepared, forced, way; } memory;

enum { MEMORIES = 64 };

static uint64_t slot_of(const fc_conv *conv, int pass)
{
    const int64_t of[] = {conv->in_channels, conv->out_channels, conv->in[0], conv->in[1], conv->in[2],
                          conv->kernel[1], conv->kernel[2], conv->stride[2], conv->dilation[2], pass};
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
    some.batch = BATCH;
    const fc_kernels *kernels = fc_active[conv->dtype];
    if (m->kernels != kernels || m->pass != pass || m->prepared != prepared || m->forced != forced
        || memcmp(&m->conv, &some, sizeof some))
        *m = (memory){some, kernels, pass, prepared, forced, choose(&some, pass, prepared)};
    return m->way;
}
