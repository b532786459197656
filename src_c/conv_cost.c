/* What a convolution costs, in nanoseconds of one thread: a sum of counted operations
 * (conv_count.c), each times a constant. Only which of two sums is smaller matters.
 *
 * FIT
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
    {0.145, 0, 0.806, 0.902, 0, 2.51, 27.5, 0.577, 2.78, 0.212, 0.294, 16.1, 318, 953},   /* panels */
    {0.263, 0.00426, 0, 0.518, 0.444, 0, 19.8, 0.557, 2.57, 0.589, 0.013, 25.5, 0, 1.84e+03},   /* planes */
    {0.268, 0.00233, 0, 0.583, 0.457, 0, 19.3, 0.457, 3.34, 0.663, 0.0134, 32, 0.192, 1.27e+03},   /* apart */
    {0.214, 0, 3.54, 1.17, 0.69, 0.443, 0, 42.7, 0, 0, 3.04, 0, 0, 1.64e+03},   /* depthwise */
    {0.235, 0, 0, 1.82, 0.157, 63.6, 6.4e-13, 0, 0, 0, 0, 0, 0, 1.49e+03},   /* toeplitz */
    {0.153, 0.0368, 0.475, 0.481, 0.687, 0.829, 0, 0, 6.78, 22.4, 1.39, 0.00842, 0, 1.47e+03},   /* channelwise */
    {0.201, 24.3, 1.99, 1.09, 4.79e-11, 1.55, 29.1, 22, 0.42, 2.58, 0, 0, 0, 339},   /* winograd */
    {0.207, 5.13e-10, 0.845, 5.11, 31.6, 0, 0, 0, 1.82, 23.6, 0.000159, 0, 0, 1.51e+03},   /* channels */
    {0.937, 3.09, 2.17, 0, 101, 0.417, 0, 37.6, 0, 0, 0, 0, 0, 2.04e+03},   /* dots */
    {0.161, 0, 0.246, 0.317, 0.609, 0.546, 0, 0, 3.76, 54.9, 3.44, 0.101, 0, 1.66e+03},   /* channelwise_grad_weight */
    {0.267, 21.1, 1.38, 1.13, 0.0824, 0.78, 43.6, 8.55, 0, 1.67, 1.23, 0, 0, 672},   /* winograd_grad_weight */
}, {
    {0.103, 0.0113, 0.677, 0.676, 0.382, 4.26, 28, 0.769, 2.35, 0.307, 0.153, 24.9, 30.6, 1.62e+03},   /* panels */
    {0.143, 0.0123, 0.0742, 0.744, 0.48, 0.19, 18.8, 0.692, 3.33, 0.445, 0.109, 23.1, 0, 1.67e+03},   /* planes */
    {0.146, 0.0142, 0.101, 0.664, 0.433, 0.372, 20.1, 0.652, 4.51, 0.364, 0.108, 18.1, 2.25, 1.41e+03},   /* apart */
    {0.188, 0.00139, 10.3, 0.132, 0.418, 0, 1.77, 2.87, 0, 0, 28, 0, 0, 1.91e+03},   /* depthwise */
    {0.153, 0, 0.495, 1.36, 0.386, 0, 0, 0, 0, 0, 0, 0, 0, 1.49e+03},   /* toeplitz */
    {0.108, 0.0579, 0.614, 2.36, 0.963, 0.659, 0, 0, 4.37, 19.9, 3.51, 0.214, 0, 1.34e+03},   /* channelwise */
    {0.143, 16.9, 1.91, 1.28, 0.508, 1.51, 33.7, 19.8, 0.942, 2.08, 0.361, 0, 0, 0},   /* winograd */
    {0.164, 0.0895, 0.806, 1.01, 38.2, 1.22, 0.00175, 1.19, 1.86, 4.47, 44.2, 0, 0, 1.84e+03},   /* channels */
    {0.334, 2.13, 1.68, 0, 82.1, 0.501, 0, 0, 0, 0, 0, 0, 0, 3.59e+03},   /* dots */
    {0.126, 0, 0.307, 0, 1.04, 0.745, 0, 0, 3.22, 37.9, 6.03, 0.236, 0, 1.92e+03},   /* channelwise_grad_weight */
    {0.179, 24, 1.88, 1.15, 0.646, 1.06, 5.75, 17, 1.14, 2.01, 0, 0, 0, 1.12e+03},   /* winograd_grad_weight */
}, {
    {0.261, 0.0139, 1.23, 0.597, 0.265, 4.84, 33.3, 1.53, 3.29, 0.74, 0.0884, 35, 92.4, 1.31e+03},   /* panels */
    {0.278, 0.0141, 0.177, 1.52, 0.414, 0.584, 21.2, 0.664, 4.06, 0.656, 0.104, 32.5, 0, 1.65e+03},   /* planes */
    {0.276, 0.0185, 0.171, 1.39, 0.318, 0.781, 21.3, 0.721, 6.07, 0.71, 0.146, 29, 0, 1.42e+03},   /* apart */
    {0.286, 0.0265, 15.8, 0.233, 1.14, 0, 3.88, 0, 0, 9.34, 0, 0, 0, 1.66e+03},   /* depthwise */
    {0.296, 0.0987, 0.359, 1.2, 0.562, 0, 0, 0, 0, 0, 0, 0, 0, 1.53e+03},   /* toeplitz */
    {0.162, 0.21, 0.43, 2.15, 1.54, 1.55, 0.451, 1.55, 3.77, 14.8, 4.41, 0.57, 0, 1.61e+03},   /* channelwise */
    {0.286, 22.4, 1.67, 1.73, 2.07, 1.84, 20.4, 54.3, 1.56, 1.48, 0, 0, 0, 883},   /* winograd */
    {0.261, 0.207, 0.224, 0.829, 46.2, 0, 0.369, 1.33e-11, 1.33, 7.43, 107, 0, 0, 2.43e+03},   /* channels */
    {0.302, 2.82, 1.42, 0, 75.2, 0.215, 0.18, 0, 0, 0, 0, 0, 0, 3.24e+03},   /* dots */
    {0.229, 0.0112, 0.572, 0, 1.69, 1.13, 0, 0.382, 1.32, 62.4, 11.1, 0.657, 0, 1.58e+03},   /* channelwise_grad_weight */
    {0.369, 37.3, 1.85, 1.53, 2.1, 1.1, 0, 23.3, 0.105, 5.33, 0.55, 0, 0, 1.44e+03},   /* winograd_grad_weight */
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
