/* What a convolution costs, in nanoseconds of one thread: a sum of counted operations
 * (conv_count.c), each times a constant. Only which of two sums is smaller matters.
 *
 * The prices were fitted by `bench/sweep.py fit` to the times of some 1700 random geometries, a third
 * of them for each width of the vectors, on an AMD Zen 4 at 3.7 GHz. They meet these times to 7 to
 * 26 %, for most ways to 17. On 300 other geometries what is chosen takes 1.9 % longer on average
 * than the fastest way would, 19 of 1082 times more than 30 %, at worst twice as long. A fit to 1600
 * more did no better. Float and double have the same prices: what is counted are vectors.
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
    {0.25, 0.0332, 0.744, 0.988, 0, 3.4, 141, 0.501, 3.28, 0.629, 0, 29.9, 1.82e-08, 995},   /* panels */
    {0.266, 0.00346, 0, 0.507, 0.486, 0, 14, 0.395, 3, 0.557, 0.0626, 26.9, 0, 1.39e+03},   /* planes */
    {0.27, 0.00431, 1.03e-11, 0.486, 0.488, 0.0979, 16.5, 0.368, 4.44, 0.558, 0.0428, 25, 0.05, 1.16e+03},   /* apart */
    {0.189, 0.133, 1.44, 1.08, 0.295, 0.554, 0.419, 0, 0.00881, 9.08, 41.3, 0, 0, 1.37e+03},   /* depthwise */
    {0.243, 0.0227, 0, 1.3, 0.23, 0, 0, 0, 0, 0, 0, 0, 0, 937},   /* toeplitz */
    {0.163, 0.0207, 0.494, 1.74, 0.8, 0.627, 0, 0.409, 3.58, 25.2, 0.991, 0.124, 0, 1.48e+03},   /* channelwise */
    {0.208, 21.4, 1.5, 1.34, 1.19, 0.579, 35.5, 33, 0.502, 1.72, 0.0122, 0.858, 0, 424},   /* winograd */
    {0.218, 0.107, 0.262, 0.911, 42.6, 0, 0.15, 0, 0.589, 26.3, 0, 0, 0, 2.32e+03},   /* channels */
    {0.856, 0.153, 0.217, 32.3, 2.54, 0.619, 4.91, 0.85, 0.796, 27.5, 0, 0, 0, 2.13e+03},   /* dots */
    {0.159, 0, 0.246, 0, 0.794, 0.683, 0, 1.48, 3.18, 45.9, 4.84, 0.181, 0, 1.09e+03},   /* channelwise_grad_weight */
    {0.283, 16.2, 1.12, 0.977, 1.63, 0.412, 17.3, 66.2, 1.55, 0.283, 0, 0.261, 0, 1.27e+03},   /* winograd_grad_weight */
}, {
    {0.156, 0.0404, 0.819, 0.848, 0.0071, 4.52, 73.7, 0.769, 3.28, 0.176, 0.0313, 35.8, 0, 1.43e+03},   /* panels */
    {0.147, 0.0248, 0.00862, 0.73, 0.431, 0.728, 18, 0.572, 2.83, 0.372, 0.0856, 21.7, 0, 1.37e+03},   /* planes */
    {0.148, 0.0225, 0.0141, 0.745, 0.416, 0.598, 18.2, 0.538, 4.15, 0.282, 0.113, 17.2, 0.709, 1.24e+03},   /* apart */
    {0.153, 0.0899, 10.2, 0, 0.724, 0, 0.365, 44.6, 0, 0, 0, 0, 0, 1.14e+03},   /* depthwise */
    {0.148, 0.0297, 0.223, 2.16, 0.285, 0, 0, 0, 0, 0, 0, 0, 0, 2.52e+03},   /* toeplitz */
    {0.113, 0.0732, 0.383, 1.52, 0.882, 0.662, 1.22, 0.3, 3.43, 25.5, 1.07, 0.314, 0, 1.5e+03},   /* channelwise */
    {0.135, 19.9, 1.61, 1.15, 1.28, 1.03, 36, 28.4, 0.726, 1.93, 0.259, 2.14, 0, 795},   /* winograd */
    {0.164, 0.0757, 0.826, 0.41, 49.1, 0.622, 0.145, 0.345, 1.24, 33.6, 0, 0, 0, 1.94e+03},   /* channels */
    {0.306, 0.423, 0.254, 22.7, 1.71, 1.04, 6.52, 0.621, 0.656, 31.7, 24.3, 0, 0, 1.98e+03},   /* dots */
    {0.132, 0, 0.292, 0, 0.804, 0.847, 0.503, 0, 2.69, 42.9, 2.9, 0.369, 0, 1.52e+03},   /* channelwise_grad_weight */
    {0.159, 17.6, 1.44, 1.18, 1.86, 0.605, 6.68, 49.8, 1.64, 1.38e-10, 0.606, 0, 0, 1.52e+03},   /* winograd_grad_weight */
}, {
    {0.276, 0.0541, 1.18, 0.669, 0.364, 5.47, 44.1, 2.4, 1.81, 0.324, 0, 32.2, 13.2, 971},   /* panels */
    {0.277, 0.0289, 0.0699, 1.34, 0.364, 1.02, 18.6, 0.861, 3.06, 0.409, 0, 30.5, 0, 1.26e+03},   /* planes */
    {0.276, 0.0412, 0.0462, 1.25, 0.332, 0.623, 19.5, 0.81, 4.73, 0.368, 0, 24.6, 1.1, 1.13e+03},   /* apart */
    {0.294, 0.036, 16, 0.0618, 1.93, 0.369, 0, 37.8, 0, 5.93, 9.26, 0, 0, 995},   /* depthwise */
    {0.294, 0.0587, 0.797, 1.06, 0.545, 0, 0, 0, 0, 0, 0, 0, 0, 1.41e+03},   /* toeplitz */
    {0.183, 0.147, 0.723, 0.303, 1.6, 1.48, 0, 1.65, 3.73, 28.4, 2.18, 0.514, 0, 1.57e+03},   /* channelwise */
    {0.265, 11.9, 1.85, 1.68, 1.56, 1.64, 20.2, 70.8, 0.893, 4.06, 0.32, 0.729, 0, 963},   /* winograd */
    {0.25, 0.189, 0.272, 3.09, 42.3, 1.01, 0.101, 0.751, 6.5e-12, 24.3, 29.3, 0, 0, 1.89e+03},   /* channels */
    {0.276, 0.0491, 0.262, 19.4, 2.38, 1.75, 7.38, 0.481, 0.595, 40.6, 16.4, 0, 0, 1.98e+03},   /* dots */
    {0.224, 0.0274, 0.539, 0, 1.68, 1.03, 0, 0, 0, 71.9, 5.62, 0.764, 0, 1.25e+03},   /* channelwise_grad_weight */
    {0.284, 30.5, 2.08, 1.89, 1.85, 0.497, 0, 69, 1.4, 1.45, 1.77, 0, 0, 1.65e+03},   /* winograd_grad_weight */
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

/* Winograd's way stands last in its passes. */
static int choose(const fc_conv *given, int pass, int prepared)
{
    const double small = pass == FC_GRAD_WEIGHT ? SMALL_GRAD_WEIGHT : SMALL_SUM;
    fc_conv some = *given, *conv = &some;
    const int few = !prepared && fc_conv_multiply_adds(conv) < small;
    if (conv->algorithm == FC_AUTO && forced == FC_WAYS && (few || lies_in_padding(conv)))
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
