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
    {2.05e-10, 0, 1.06, 0.967, 0, 2.76, 25.3, 0.873, 4.1, 0, 0.721, 21, 36.4, 2e+03},   /* panels */
    {0.268, 0.00271, 0, 0.526, 0.494, 0, 21.5, 0.824, 3.13, 0.202, 0.105, 16.4, 0.066, 1.16e+03},   /* planes */
    {0.272, 0.00418, 0, 0.498, 0.419, 0, 20.8, 0.727, 5.93, 1.93e-09, 0.136, 10.2, 3.5, 963},   /* apart */
    {0.237, 0, 10.9, 0, 0.0513, 0, 3.53, 3.81, 0, 0, 2.7e-14, 0, 0, 1.13e+03},   /* depthwise */
    {0.238, 0.236, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2.53e+03},   /* toeplitz */
    {0.168, 0.0323, 0.369, 1.91, 0.947, 0.802, 0, 0, 3.95, 18.6, 1.29, 0, 0, 1.31e+03},   /* channelwise */
    {0.213, 53.8, 1.36, 1.31, 1.07, 2.21, 2.86, 4.28e-09, 1.74, 0, 0.209, 0, 0, 0},   /* winograd */
    {0.221, 2.45e-10, 0.626, 4.63, 46, 1.64e-08, 0, 0, 0.556, 0, 0, 0, 0, 2.27e+03},   /* channels */
    {0.936, 3.03, 2.47, 0, 26.4, 0, 123, 0, 0, 0, 0, 0, 0, 1.97e+03},   /* dots */
    {0.164, 0.011, 0.238, 2.67, 1.03, 0, 0, 0, 4.8, 22.5, 8.65, 0, 0, 830},   /* channelwise_grad_weight */
    {0.295, 42.9, 1.12, 0.95, 1.34, 1.32, 8.44e-11, 0, 1.22, 1.58, 0, 0, 0, 0},   /* winograd_grad_weight */
}, {
    {0.106, 0.0221, 0.64, 0.773, 0.266, 5.33, 25.4, 0.63, 2.48, 0.458, 0.164, 30.1, 8.33, 1.51e+03},   /* panels */
    {0.145, 0.0101, 0.09, 0.73, 0.541, 0.66, 21.4, 0.735, 3.07, 0.664, 0.129, 17.5, 0, 1.29e+03},   /* planes */
    {0.149, 0.023, 2.51e-11, 0.8, 0.577, 0.714, 19.6, 0.686, 6.26, 0.517, 0.123, 14.8, 0, 1.25e+03},   /* apart */
    {0.103, 0.171, 3.01, 1.38, 1.9, 0.61, 0, 5.04, 0, 26.2, 0, 0, 0, 113},   /* depthwise */
    {0.145, 0.096, 0, 1.81, 0.253, 0, 0, 0, 0, 0, 0, 0, 0, 2.34e+03},   /* toeplitz */
    {0.124, 0.0379, 0.645, 1.75, 1.06, 0.771, 0, 0, 4.02, 18, 2.13, 0, 0, 1.39e+03},   /* channelwise */
    {0.136, 63.3, 2.31, 1.27, 0.189, 1.45, 38.7, 4.53, 1.4, 3.82e-10, 0.619, 0, 0, 0},   /* winograd */
    {0.173, 0.0425, 0.953, 1.08, 109, 0.309, 0.0837, 0.814, 3.79e-13, 30.9, 0, 0, 0, 2.35e+03},   /* channels */
    {0.313, 2.21, 2.4, 0.17, 52, 0.93, 47.7, 0, 0, 0, 0, 0, 0, 1.47e+03},   /* dots */
    {0.116, 0.0484, 0.271, 0, 0.84, 0.857, 0, 0, 6.17, 45.9, 3.76, 0, 0, 1.52e+03},   /* channelwise_grad_weight */
    {0.156, 61.3, 1.95, 1.52, 1.13, 0, 0, 37.2, 0.0046, 0, 1.66, 0, 0, 946},   /* winograd_grad_weight */
}, {
    {0.292, 0.0428, 1.12, 0.606, 0.292, 4.54, 33.4, 1.69, 3.22, 0.243, 0, 24.8, 35.4, 1.49e+03},   /* panels */
    {0.276, 0.0194, 0.139, 1.77, 0.468, 0.847, 19.1, 0.919, 3.82, 0.492, 0.146, 24.7, 0, 1.16e+03},   /* planes */
    {0.276, 0.0354, 0.00663, 1.61, 0.471, 0.626, 20.7, 0.943, 6.28, 0.348, 0.139, 22, 0.717, 1.19e+03},   /* apart */
    {0.291, 0, 10.8, 0, 2.18, 0, 0, 12.4, 1.29, 0, 26.3, 0, 0, 708},   /* depthwise */
    {0.262, 0.406, 0.286, 2.16e-07, 1.24, 4.36e-08, 0, 0, 0, 0, 0, 0, 0, 1.63e-10},   /* toeplitz */
    {0.181, 0.14, 0.914, 6.9, 1.57, 0.822, 1.51, 0, 6.42, 27.3, 2.33, 0, 0, 1.11e+03},   /* channelwise */
    {0.276, 31.5, 1.88, 2.29, 2.92, 1.28, 16.9, 5.48, 2.06, 0, 0.274, 0, 0, 1e+03},   /* winograd */
    {0.268, 0.227, 0.0647, 3.3, 39.6, 1.54, 0, 1.23, 0.0246, 61.7, 74.8, 0, 0, 1.65e+03},   /* channels */
    {0.277, 3, 2.08, 0, 24.7, 0, 42.4, 0, 0, 0, 0, 0, 0, 1.78e+03},   /* dots */
    {0.221, 0.0311, 0.552, 0, 1.53, 1.25, 1.74, 0, 10.1, 46, 14.6, 0, 0, 1.52e+03},   /* channelwise_grad_weight */
    {0.313, 48.2, 1.96, 1.45, 3.28, 1.38, 1.65, 0, 1.62, 1.64, 0.693, 0, 0, 959},   /* winograd_grad_weight */
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
