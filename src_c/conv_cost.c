/* What a convolution costs, in nanoseconds of one thread: a sum of counted operations
 * (conv_count.c), each times a constant. Only which of two sums is smaller matters.
 *
 * The prices were fitted by `bench/sweep.py fit` to the times of 3000 random geometries, a third of
 * them for each width of the vectors, on an AMD Zen 4 at 3.7 GHz. On 340 other geometries the ways that
 * are near the fastest cost, beside each other, what they take to 4 to 13 %; what is chosen takes 1.1 %
 * longer on average than the fastest way would, 8 of 1220 times more than 30 %, at worst 82 % (SSE2, an
 * input gradient). Float and double have the same prices: what is counted are vectors.
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
 * function in conv_count_*.c counts. Printed by `bench/sweep.py fit`. */
static const double costs[3][FC_WAYS][FC_TERMS] = {{
    {0.251, 0, 3.25, 0.466, 0, 0, 1.2, 1.26, 0, 2.44, 162, 1.83, 0.237, 0, 1.22, 29.4, 0, 0, 0, 0.816, 0, 4.09, 0.793, 1.86e+03},   /* panels */
    {0.282, 0, 0, 0.276, 0.348, 0, 0.0146, 0.0253, 0.513, 0.422, 0.983, 20.2, 3.46, 0.214, 0, 21.6, 0, 0.236, 0.629, 0.495, 0, 4.15, 0.54, 1.87e+03},   /* planes */
    {0.283, 0, 0.0221, 0.128, 0.332, 0.067, 0, 0, 0.518, 0.409, 0.805, 19.3, 3.12, 0.233, 0, 24, 1.73, 0.192, 0.669, 0.405, 0, 4.55, 0.578, 1.55e+03},   /* apart */
    {0.219, 0.148, 3.9, 0.681, 0.285, 0.475, 0.278, 37, 0, 12.7, 6.6, 0.103, 0, 0, 0, 0, 0, 0, 0, 0.0971, 0, 0, 0.357, 1.32e+03},   /* depthwise */
    {0.258, 0, 0, 2.45, 0.184, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0.476, 0, 0, 0, 2.26e+03},   /* toeplitz */
    {0.175, 0.00974, 0.787, 0, 0.654, 1.04, 0.387, 0.316, 6.94, 21.8, 1.46, 0.12, 0.0393, 0, 0, 0, 0, 0, 0, 0.352, 0, 4.44, 0, 2.16e+03},   /* channelwise */
    {0.231, 1.8, 1.17, 26.8, 1.28, 0, 0.859, 1.03, 41.8, 21.1, 0.976, 1.42, 0.157, 6.62, 3.71, 0.167, 0.53, 0, 0, 1.3, 0.618, 0, 0.559, 1.46e+03},   /* winograd */
    {0.242, 3.86e-05, 0, 1.68, 0, 0.618, 8.9, 0.172, 0.465, 15.5, 0.0502, 0, 0.392, 28.9, 18.7, 37.8, 0, 0.175, 0, 0.715, 0, 0, 0, 1.77e+03},   /* channels */
    {0.937, 0.0682, 0.518, 26.9, 2.99, 0.559, 5.61, 0.802, 0.759, 32.3, 9.63, 0, 0, 0, 0, 0, 0, 0, 0, 0.265, 0, 0, 0, 2.56e+03},   /* dots */
    {0.176, 0, 0.304, 0.591, 0.652, 0.673, 2.44, 0, 2.54, 49.1, 4.54, 0.184, 0.00313, 0, 0, 0, 0, 0, 0, 0.285, 0, 0, 0, 1.74e+03},   /* channelwise_grad_weight */
    {0.292, 1.69, 1.65, 0.164, 1.02, 0.935, 1.35, 1.08, 8.05, 46.2, 0.139, 0, 0.912, 19.2, 193, 0, 0, 0, 0, 1.11, 1.02, 0, 0, 1.53e+03},   /* winograd_grad_weight */
}, {
    {0.32, 0.0507, 0.559, 0.999, 0.392, 0, 1.02, 0.918, 0.172, 6.74, 86.1, 1.89, 0.307, 0, 0.522, 44.7, 0, 0, 0, 0.342, 0, 5.64, 0.951, 878},   /* panels */
    {0.255, 0.0507, 0.0865, 0.352, 0.506, 0.0385, 0.113, 0.0665, 0.665, 0.438, 0.94, 18.7, 3.33, 0.294, 0.0141, 20.4, 0, 0.44, 0.242, 0.391, 0, 5.03, 0.837, 1.55e+03},   /* planes */
    {0.272, 0.0625, 0.101, 0.0143, 0.519, 0.209, 0.0664, 0.0645, 0.641, 0.412, 0.936, 18.4, 3.32, 0.295, 0.0105, 19.9, 0.353, 0.342, 0.247, 0.373, 0, 5.26, 0.808, 1.39e+03},   /* apart */
    {0.115, 0.237, 8.01, 0, 0.732, 0.684, 0, 28.4, 0, 24.4, 0, 0.309, 0, 0, 0, 0, 0, 0, 0, 0.674, 0, 0, 0.668, 1.48e+03},   /* depthwise */
    {0.16, 0.0553, 0, 2.04, 0.405, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0.546, 0, 0, 0, 1.52e+03},   /* toeplitz */
    {0.117, 0.053, 0.785, 0, 0.849, 0.853, 0.458, 0.475, 6.48, 31.4, 1.64, 0.33, 0.122, 0, 0, 0, 0, 0, 0, 0.472, 0, 6.11, 0.0174, 1.84e+03},   /* channelwise */
    {0.303, 2.68, 1.43, 14.6, 1.35, 0, 0.663, 1.16, 78.4, 18.6, 1.17, 1.24, 0.063, 7.19, 5.22, 0.0787, 0.012, 0, 0, 0.424, 2, 0.641, 0.811, 1.09e+03},   /* winograd */
    {0.306, 0.0243, 0.0188, 1.05, 0.421, 0.236, 10.1, 0.22, 0.359, 19.9, 0.0146, 0.358, 0.416, 7.93, 8.25, 41.1, 0, 1.08, 0, 0.246, 0, 0, 0, 1.87e+03},   /* channels */
    {0.306, 0.142, 0.726, 36.6, 1.91, 1.05, 7.29, 0.724, 0.729, 22.1, 14.2, 0, 0, 0, 0, 0, 0, 0, 0, 0.577, 0, 0, 0, 2.57e+03},   /* dots */
    {0.138, 0, 0.356, 0, 0.902, 0.737, 0, 0, 2.79, 59.8, 4.1, 0.392, 0.00692, 0, 0, 0, 0, 0, 0, 0.281, 0, 0, 0, 1.81e+03},   /* channelwise_grad_weight */
    {0.356, 1.14, 2.07, 0.34, 0.883, 1.34, 0.956, 1.06, 47.2, 34.9, 0, 1.11, 0, 6.92, 22.3, 0, 0, 0, 0, 0.738, 0, 2.42, 0, 2.18e+03},   /* winograd_grad_weight */
}, {
    {0.297, 0.0627, 1.39e-09, 1.52, 0.459, 41.5, 1.46, 0.659, 0.234, 8, 49.9, 2.05, 0.318, 0, 0.347, 0, 0, 0, 0, 0.36, 0, 5.86, 1.5, 1.55e+03},   /* panels */
    {0.29, 0.198, 0, 0.387, 0.567, 0.0437, 0.121, 0.0557, 1.3, 0.38, 0.494, 18.5, 3.77, 0.303, 0.00392, 24.5, 0.343, 0.801, 0.304, 0.398, 0, 5.49, 1.22, 1.74e+03},   /* planes */
    {0.283, 0.183, 0.00341, 0.119, 0.629, 0.0618, 0.137, 0.0531, 1.2, 0.298, 1.08, 19.3, 3.53, 0.325, 0.0204, 21.4, 2.38, 0.641, 0.389, 0.322, 0, 5.5, 1.26, 1.57e+03},   /* apart */
    {0.233, 0.283, 10.9, 0, 1.44, 0.447, 0, 36.5, 0, 22.9, 0, 0.257, 0, 0, 0, 0, 0, 0, 0, 0.352, 0, 0, 0, 1.26e+03},   /* depthwise */
    {0.305, 0.113, 0.668, 1.05, 0.726, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0.0404, 0, 0, 0, 1.11e+03},   /* toeplitz */
    {0.182, 0.153, 0.927, 0, 1.35, 1.83, 0, 0, 5.81, 21.9, 3.45, 0.615, 0.0533, 0, 0, 0, 0, 0, 0, 0.443, 0, 5.7, 0, 2.07e+03},   /* channelwise */
    {0.309, 2.82, 0, 26.9, 2.27, 1.91, 1.71, 0.994, 52.7, 56.4, 0.909, 3.5, 0.25, 3.44, 4.16, 0.266, 0.654, 0, 0, 0.42, 0.598, 4.39, 1.4, 906},   /* winograd */
    {0.289, 0.134, 0.02, 2.18, 0.556, 0.302, 54.1, 0.173, 0.337, 17.3, 0, 0.0913, 0.569, 19.7, 0.783, 6.55, 0, 0.469, 0, 0.325, 0, 0, 0, 2.09e+03},   /* channels */
    {0.29, 0.125, 0.335, 21.2, 2.71, 1.75, 8.08, 0.562, 0.68, 42, 14.2, 0, 0, 0, 0, 0, 0, 0, 0, 0.272, 0, 0, 0, 2.77e+03},   /* dots */
    {0.243, 0.00944, 0.577, 0, 1.4, 1.49, 0, 0.126, 5.17, 36.2, 9.12, 0.867, 0, 0, 0, 0, 0, 0, 0, 0.341, 0, 0, 0, 2.06e+03},   /* channelwise_grad_weight */
    {0.296, 2.49, 2.9, 0, 1.64, 2.06, 2.23, 0.0403, 0, 77.6, 0.366, 2.17, 0, 17.9, 0, 0, 0, 0, 0, 1.27, 0.648, 7.37, 0, 2.37e+03},   /* winograd_grad_weight */
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
