/* What a convolution costs, in nanoseconds of one thread: a sum of counted operations
 * (conv_count.c), each times a constant. Only which of two sums is smaller matters.
 *
 * The prices were fitted by `bench/sweep.py fit` to the times of 3600 random geometries, a third of
 * them for each width of the vectors, on an AMD Zen 4 at 3.7 GHz. Of the ways that are near the fastest
 * they meet these times to 9 to 15 %. On 1300 other geometries what is chosen takes 1.6 % longer on
 * average than the fastest way would, 51 of 4658 times more than 30 %, at worst 5 times as long (a weight
 * gradient, AVX2). Float and double have the same prices: what is counted are vectors.
 */
#include "conv_cost.h"

#include <math.h>
#include <string.h>

/* The batch that all choices are made for. */
enum { BATCH = 3 };

/* Instruction sets with fused multiply-adds agree in the bits of a named algorithm. SSE2 has none. */
#ifdef __aarch64__
enum { LEAST_FUSED = 16 };
#else
enum { LEAST_FUSED = 32 };
#endif

/* Multiply-adds of an image below which Winograd's algorithm gains a microsecond at best, which is not
 * worth its digits; where weights have to be transformed as well. */
static const double SMALL = 20e3, SMALL_WITH_WEIGHTS = 80e3;

/* For vectors of 16, 32 and 64 bytes: a row for each way, a price for each operation that its
 * function in conv_count.c counts. Printed by `bench/sweep.py fit`. */
static const double costs[3][FC_WAYS][FC_TERMS] = {{
    {0.237, 0, 3.71, 0.242, 0, 29, 0.943, 0.998, 0, 2.32, 142, 1.28, 0.32, 0, 0.222, 0, 0, 0, 0, 0.689, 0, 1.98, 0.767, 1.11e+03},   /* panels */
    {0.261, 0, 1.47e-12, 0.253, 0.289, 0, 0.037, 0.0765, 0.456, 0.45, 0.113, 18.3, 3.1, 0.264, 0.0204, 20.1, 0, 0, 0, 0.407, 0, 2.55, 0.62, 1.47e+03},   /* planes */
    {0.262, 0, 0.0332, 0.0959, 0.261, 0.367, 0.00775, 0.0663, 0.462, 0.439, 0.264, 17.4, 2.79, 0.286, 0.0229, 23.1, 0.0836, 0, 0, 0.365, 0, 2.94, 0.656, 1.2e+03},   /* apart */
    {0.242, 5.61e-12, 3.98, 0.622, 0.645, 0, 0, 35.5, 0, 9.7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1.2e+03},   /* depthwise */
    {0.236, 0.0294, 0, 1.92, 0.19, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1.16, 0, 0, 0, 1.88e+03},   /* toeplitz */
    {0.159, 0.0415, 0.44, 0.141, 0.75, 0.933, 0, 0, 4.31, 19.5, 1.36, 0.0902, 0.167, 0, 0, 0, 0, 0, 0, 0.233, 0, 0, 0, 1.67e+03},   /* channelwise */
    {0.217, 2.06, 0.903, 20.6, 0.966, 0.0123, 0.768, 0.928, 38.9, 13.6, 0.681, 1.48, 0.18, 4, 3.13, 0.323, 0, 0, 0, 1.81, 0.517, 1.3, 0.742, 1.09e+03},   /* winograd */
    {0.218, 0, 0, 1.6, 0.0794, 0.078, 9.05, 0.149, 0.441, 17.5, 0.0269, 0.167, 0.435, 15.4, 26.4, 32.9, 0, 0.145, 0, 0.614, 0, 0, 0, 1.58e+03},   /* channels */
    {0.842, 0.115, 0.674, 29.3, 2.66, 0.526, 5.29, 0.757, 0.902, 23.3, 4.66, 0, 0, 0, 0, 0, 0, 0, 0, 0.185, 0, 0, 0, 2.08e+03},   /* dots */
    {0.158, 0, 0.249, 0.541, 0.761, 0.636, 0, 0, 2.36, 36.6, 5.9, 0.166, 0.00572, 0, 0, 0, 0, 0, 0, 0.226, 0, 0, 0, 1.43e+03},   /* channelwise_grad_weight */
    {0.284, 1.65, 1.39, 0, 0.843, 0.895, 0.993, 1, 18.4, 30.8, 0, 1.5, 0, 14.8, 232, 0, 0, 0, 0, 0.473, 0.406, 2.19, 0, 1.42e+03},   /* winograd_grad_weight */
}, {
    {0.308, 0.0388, 0, 0.651, 0.61, 37.6, 0.909, 0.789, 0.112, 4.93, 80.2, 2.1, 0.232, 0, 0.117, 6.86, 0, 0, 0, 0.237, 0, 2.43, 0.858, 986},   /* panels */
    {0.231, 0.0581, 0.0881, 0.236, 0.492, 0.115, 0.0879, 0.0836, 0.699, 0.393, 0.82, 18.4, 2.88, 0.264, 0.0312, 17.9, 0, 0, 0, 0.255, 0, 2.83, 0.747, 1.37e+03},   /* planes */
    {0.242, 0.0723, 0.0963, 0, 0.504, 0.239, 0.0464, 0.0941, 0.722, 0.396, 0.556, 17.6, 3.45, 0.255, 0.0575, 21, 0, 0, 0, 0.193, 0, 2.46, 0.699, 1.23e+03},   /* apart */
    {0.143, 0.133, 7.8, 0, 0.529, 0.322, 0.2, 3.22, 0, 3.19, 47, 0, 0, 0, 0, 0, 0, 0, 0, 0.859, 0, 0, 0.805, 1.99e+03},   /* depthwise */
    {0.152, 0.0476, 0.302, 1.5, 0.375, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0.0738, 0, 0, 0, 1.37e+03},   /* toeplitz */
    {0.121, 0.032, 0.648, 0, 0.736, 0.954, 0, 0, 4.56, 24.5, 1.69, 0.299, 0.105, 0, 0, 0, 0, 0, 0, 0.269, 0, 0, 0.0705, 1.55e+03},   /* channelwise */
    {0.273, 2.82, 1.05, 10.1, 1.02, 0, 1, 0.955, 39.6, 24.7, 0.737, 1.63, 0.107, 8.47, 3.41, 0.266, 0.329, 0, 0, 1.13, 0.195, 3.19, 0.513, 920},   /* winograd */
    {0.29, 0.0347, 0.0172, 0.558, 0.835, 0.323, 2.23, 0.171, 0.32, 19.7, 0.0408, 0.2, 0.549, 15.7, 7.77, 37.2, 0, 0.518, 0, 0.243, 0, 0, 0, 1.57e+03},   /* channels */
    {0.293, 0.108, 0.56, 26.3, 1.79, 0.901, 6.03, 0.567, 0.731, 29.3, 17.2, 0, 0, 0, 0, 0, 0, 0, 0, 0.413, 0, 0, 0, 2.2e+03},   /* dots */
    {0.134, 0, 0.279, 0, 0.758, 0.75, 5.61, 0, 1.67, 55.9, 5.63, 0.382, 0, 0, 0, 0, 0, 0, 0, 0.3, 0, 0, 0, 1.55e+03},   /* channelwise_grad_weight */
    {0.329, 0.77, 1.69, 0.721, 0.857, 1.15, 1.23, 0.737, 6.54, 42.9, 0, 0.282, 0.0246, 15.4, 40.9, 0, 0, 0, 0, 1.27, 0, 4.2, 0, 1.92e+03},   /* winograd_grad_weight */
}, {
    {0.29, 0.1, 0.159, 1.51, 0.363, 40.7, 1.28, 0.607, 0.338, 6.63, 44.4, 1.29, 0.239, 0, 0.0372, 0, 0, 0, 0, 0.209, 0, 4.33, 2.03, 1.32e+03},   /* panels */
    {0.277, 0.207, 0, 0.204, 0.633, 0.0753, 0.147, 0.0811, 1.37, 0.354, 0.65, 19.7, 3.28, 0.217, 0.0305, 21.1, 0, 0, 0, 0.294, 0, 3.86, 1.6, 1.48e+03},   /* planes */
    {0.269, 0.182, 0.0236, 0, 0.616, 0.0559, 0.128, 0.0694, 1.45, 0.353, 0.69, 19.1, 3.36, 0.225, 0.0677, 21, 2.02, 0, 0, 0.226, 0, 3.8, 1.48, 1.29e+03},   /* apart */
    {0.231, 0.256, 11.7, 0.0504, 1.07, 0.308, 0.996, 21.9, 0, 6.69, 15.8, 0, 0, 0, 0, 0, 0, 0, 0, 0.186, 0, 0, 0, 1.5e+03},   /* depthwise */
    {0.297, 0.122, 0.667, 0.582, 0.803, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0.231, 0, 0, 0, 1.4e+03},   /* toeplitz */
    {0.19, 0.131, 0.776, 4.95e-10, 1.52, 1.49, 4.42, 0.353, 3.76, 27, 2.2, 0.625, 0.0538, 0, 0, 0, 0, 0, 0, 0.235, 0, 0, 0.21, 1.7e+03},   /* channelwise */
    {0.285, 3.71, 0, 13.5, 1.9, 1.37, 1.78, 1.05, 26.9, 58.9, 0.998, 3.13, 0.279, 2.72, 3.13, 0.36, 0.58, 0, 0, 1.12, 0.411, 1.55, 1.27, 846},   /* winograd */
    {0.279, 0.0997, 0.0544, 2.04, 1.14, 0.187, 18.6, 0.135, 0.356, 16.7, 0.00138, 0.318, 1.13, 12.3, 15.2, 23.8, 0, 0.159, 0, 0.344, 0, 0, 0, 1.89e+03},   /* channels */
    {0.279, 0.106, 0.315, 22.1, 2.45, 1.6, 6.31, 0.5, 0.513, 42.5, 13.8, 0, 0, 0, 0, 0, 0, 0, 0, 0.258, 0, 0, 0, 2.58e+03},   /* dots */
    {0.24, 0.0095, 0.512, 0, 1.49, 1.18, 0, 0.711, 4.09, 52.5, 6.46, 0.732, 0, 0, 0, 0, 0, 0, 0, 0.17, 0, 0, 0, 1.85e+03},   /* channelwise_grad_weight */
    {0.282, 2.4, 2.62, 0, 1.73, 1.53, 1.32, 0.994, 0, 64.4, 0, 1.87, 0, 11, 71.4, 0, 0, 0, 0, 1.68, 0.587, 0, 0, 2.02e+03},   /* winograd_grad_weight */
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
    const double small = prepared || pass == FC_GRAD_WEIGHT ? SMALL : SMALL_WITH_WEIGHTS;
    fc_conv some = *given, *conv = &some;
    const int few = fc_conv_multiply_adds(conv) < small;
    if (conv->algorithm == FC_AUTO && forced == FC_WAYS && (few || lies_in_padding(conv)))
        conv->algorithm = FC_DIRECT;
    const int first = pass == FC_GRAD_WEIGHT ? FC_CHANNELS : FC_PANELS;
    const int winograd = pass == FC_GRAD_WEIGHT ? FC_TRANSFORMS_GRAD_WEIGHT : FC_TRANSFORMS;
    const int64_t own = fc_vector_bytes(conv);
    const int shared = given->algorithm != FC_AUTO && own >= LEAST_FUSED && fc_conv_ways_differ(conv, pass);
    const int64_t bytes = shared ? 64 : own;
    double cost[FC_WAYS];
    price(conv, pass, prepared, bytes, cost);
    if (forced != FC_WAYS && isfinite(cost[forced]))
        return forced;
    const int direct = cheapest(cost, first, winograd);
    if (bytes != own && isfinite(cost[winograd]))
        price(conv, pass, prepared, own, cost);
    return cost[winograd] < cost[direct] ? winograd : direct;
}

/* What was chosen lately, on this thread: counting takes some three microseconds, a small convolution
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
