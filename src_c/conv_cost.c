/* What a convolution costs, in nanoseconds of one thread: a sum of counted operations
 * (conv_count.c), each times a constant. Only which of two sums is smaller matters.
 *
 * The prices were fitted by `bench/sweep.py fit` to the times of some 1100 random geometries, a third
 * of them for each width of the vectors, on an AMD Zen 4 at 3.7 GHz. They meet these times to 6 to
 * 31 %, for most ways to 17. On 300 other geometries what is chosen takes 1.9 % longer on average
 * than the fastest way would, 17 of 1045 times more than 30 %, at worst 1.8 times as long. Float and
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
    {0.244, 0, 0.833, 0.833, 0, 4.42, 143, 0.459, 1.97, 0.438, 0, 0, 0, 1.34e+03},   /* panels */
    {0.267, 0.00427, 0, 0.541, 0.512, 0, 16, 0.513, 2.74, 0.704, 0.055, 31, 0, 1.76e+03},   /* planes */
    {0.269, 0.00259, 0, 0.584, 0.471, 0.115, 18.5, 0.467, 5.68, 0.5, 0.0339, 28.1, 0, 1.2e+03},   /* apart */
    {0.174, 0.161, 0, 1.1, 0.741, 0, 0, 26.8, 0, 13.8, 3.45, 0, 0, 893},   /* depthwise */
    {0.232, 0, 0, 2.02, 0.188, 138, 2.68e-12, 0, 0, 0, 0, 0, 0, 1.23e+03},   /* toeplitz */
    {0.156, 0.0339, 0.444, 1.84, 0.78, 0.713, 0, 0, 4.38, 19.3, 3.3, 0.0489, 0, 1.49e+03},   /* channelwise */
    {0.202, 28.5, 1.57, 1.28, 0.611, 1.64, 36.8, 10.5, 0.427, 3.27, 0, 0.18, 0, 0},   /* winograd */
    {0.214, 0.184, 0.134, 0.649, 39.8, 0.194, 0.169, 0, 1.53, 22.6, 20.2, 0, 0, 2.06e+03},   /* channels */
    {0.874, 3.58, 2.31, 0, 101, 0.25, 0, 14.7, 0, 0, 0, 0, 0, 2.47e+03},   /* dots */
    {0.158, 0, 0.232, 0, 0.787, 0.786, 0, 0, 5.47, 28, 8.52, 0.121, 0, 1.26e+03},   /* channelwise_grad_weight */
    {0.276, 20.3, 1.25, 0.99, 0.752, 1.1, 20.9, 20, 0, 4.01, 0.472, 0, 0, 0},   /* winograd_grad_weight */
}, {
    {0.142, 0.0247, 0.902, 0.787, 1.19e-11, 6.45, 73.5, 0.805, 2.76, 0.421, 0.0808, 0, 45.1, 1.57e+03},   /* panels */
    {0.142, 0.0162, 0.046, 0.816, 0.432, 0.68, 18.2, 0.623, 2.5, 0.53, 0.111, 21, 0.556, 1.68e+03},   /* planes */
    {0.144, 0.00731, 0.1, 0.786, 0.41, 0.518, 18.1, 0.616, 3.43, 0.491, 0.147, 20.1, 1.83, 1.34e+03},   /* apart */
    {0.136, 0.168, 5.4, 0.363, 0.687, 0, 0.503, 25.9, 0, 14.1, 0, 0, 0, 819},   /* depthwise */
    {0.144, 0.101, 0, 1.91, 0.355, 0, 0, 0, 0, 0, 0, 0, 0, 1.29e+03},   /* toeplitz */
    {0.116, 0.0362, 0.651, 0.986, 0.822, 0.716, 0.115, 0.293, 3.39, 33.3, 2.06, 0.281, 0, 1.5e+03},   /* channelwise */
    {0.133, 11.1, 1.81, 1.24, 0.689, 1.27, 14.9, 33.9, 1.53, 2.05, 0.46, 0.35, 0, 1.62e+03},   /* winograd */
    {0.167, 0.0977, 0.658, 0.813, 37.1, 3.11, 0.192, 0, 0.521, 30.8, 7, 0, 0, 1.94e+03},   /* channels */
    {0.32, 2.25, 2.01, 0, 53.8, 0.397, 0, 2.05, 0, 0, 0, 0, 0, 2.76e+03},   /* dots */
    {0.136, 0, 0.232, 0, 0.835, 0.963, 0, 0, 2.26, 39.4, 7.28, 0.315, 0, 1.5e+03},   /* channelwise_grad_weight */
    {0.175, 14.7, 1.56, 1.16, 0.536, 0.572, 10.1, 41.3, 0.42, 2.41, 0.704, 0, 0, 2.3e+03},   /* winograd_grad_weight */
}, {
    {0.292, 0.0163, 1.38, 0.772, 0.271, 5.25, 49.3, 1.77, 2.24, 0.399, 0, 3.27, 44.4, 1.28e+03},   /* panels */
    {0.279, 0.0238, 0.126, 1.59, 0.475, 0.939, 17.5, 0.843, 2.86, 0.486, 0.0983, 30.6, 0, 1.69e+03},   /* planes */
    {0.274, 0.0137, 0.135, 1.57, 0.449, 0.828, 18.8, 0.92, 4.78, 0.405, 0.127, 26.9, 0.47, 1.43e+03},   /* apart */
    {0.321, 3.07e-12, 12.3, 0.129, 2.05, 0, 0, 44.9, 0.131, 0, 13, 0, 0, 1.23e+03},   /* depthwise */
    {0.291, 0.153, 0.407, 0.95, 0.754, 0, 0, 0, 0, 0, 0, 0, 0, 989},   /* toeplitz */
    {0.183, 0.148, 0.537, 1.96, 1.65, 1.69, 0, 0, 2.22, 18.9, 3.09, 0.752, 0, 1.47e+03},   /* channelwise */
    {0.266, 8.63, 1.84, 1.96, 1.26, 2.09, 44.1, 38.3, 0.756, 4.54, 0.38, 0.7, 0, 854},   /* winograd */
    {0.272, 0.225, 0.0595, 2.56, 40.8, 0.523, 0.137, 0, 0.439, 9.82, 143, 0, 0, 2.37e+03},   /* channels */
    {0.283, 2.61, 1.74, 0, 90.8, 0.218, 0.448, 1.98e-07, 0, 0, 0, 0, 0, 2.47e+03},   /* dots */
    {0.234, 0, 0.6, 0, 1.53, 1.54, 0, 0, 2.41, 42.3, 6.99, 0.72, 0, 1.71e+03},   /* channelwise_grad_weight */
    {0.315, 16.3, 2.29, 1.64, 1.4, 0.893, 30.7, 45, 0.177, 2.9, 1.5, 0, 0, 1.27e+03},   /* winograd_grad_weight */
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
