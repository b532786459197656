/* What a convolution costs, in nanoseconds of one thread: a sum of counted operations
 * (conv_count.c), each times a constant. Only which of two sums is smaller matters.
 *
 * The prices were fitted by `bench/sweep.py fit` to the times of 600 random geometries (seeds 961,
 * 962), a third of them for each width of the vectors, 90 layers of many channels on small images
 * and 120 strided ones of few; beside them, but for planes, which are laid out in another way since,
 * 2200 of a sweep that did not draw patches yet (seeds 741, 742, 751, 761, 771) and 150 depthwise
 * ones with sides of 16 to 128, powers of 2, on an AMD Zen 4 at 3.7 GHz. On 750 other geometries
 * (seeds 951, 971, 981) what is chosen takes 1.7 % longer on average than the fastest way would, 35
 * of 2615 times more than 30 %, at worst 102 % (depthwise, SSE2, most taps in padding, 8 images in
 * place of the 2 that choices are made for). Two prices are not fitted. That of a panel's rows that
 * lie in pages of their own: 1x1 kernels of 64 to 512 channels on images of 40 x 40 to 112 x 112
 * gave it (64 x 112 x 112 -> 256: panels 66, planes 84 GF/s). That of a call by planes apart, AVX-512:
 * the panels', where the fit had less (7 x 11, 3 taps, stride 2, input gradient 2.27, panels 2.11
 * us). Kernels of six taps and more by Winograd's algorithm, and cells three or four apart copied in
 * vectors, came after the fit. Float and double have the same prices: what is counted are vectors.
 */
#include "conv_cost.h"

#include <math.h>
#include <string.h>

#include "conv_patches.h"

/* The batch that all choices are made for. With 3, layers of 1 to 12 MB of weights and mostly one
 * image lost 4.3 % in place of 3.5 %, random geometries of 1 to 8 images 1.3 % either way. */
enum { BATCH = 2 };

/* Instruction sets with fused multiply-adds agree in the bits of a named algorithm. SSE2 has none. */
#ifdef __aarch64__
enum { LEAST_FUSED = 16 };
#else
enum { LEAST_FUSED = 32 };
#endif

/* Multiply-adds of an image below which Winograd's algorithm gains a microsecond at best, which
 * is not worth its digits; where weights have to be transformed as well. */
static const double SMALL = 20e3, SMALL_WITH_WEIGHTS = 80e3;

/* For vectors of 16, 32 and 64 bytes: a row for each way, a price for each operation that its
 * function in conv_count_*.c counts. Printed by `bench/sweep.py fit`. */
static const double costs[3][FC_WAYS][FC_TERMS] = {{
    {0.236, 0, 3.14, 0.189, 0, 34.3, 0.879, 1.18, 0, 3.1, 7.56, 1.18, 0.341, 0, 0.987, 0, 9.87, 0.405, 2, 1.2, 2.61, 0.312, 1.39, 1.6, 0.528, 1.17e+03},   /* panels */
    {0.262, 0, 0, 0.53, 0.226, 0.258, 0.0484, 0.0469, 0.472, 0.217, 1.21, 3.72, 1.83, 0.557, 0.109, 55.8, 1.53, 0.0513, 0.749, 0.733, 4.09, 0, 0.681, 2.49, 1.01, 640},   /* planes */
    {0.275, 0, 0.00227, 0.594, 0.149, 0, 0, 0.0226, 0.541, 0.193, 0.6, 5.08, 1.74, 0.507, 0, 65.5, 2.4, 0.162, 0.563, 0.878, 1.7, 0, 0.508, 2.15, 0.799, 812},   /* apart */
    {0.18, 0.158, 5.09, 0.423, 0.345, 0.177, 2.27, 7.88, 0, 5.46, 11, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1.79, 0.187, 0, 0, 0, 1.63e+03},   /* depthwise */
    {0.243, 0, 0, 1.97, 0.204, 20.1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1.14, 0.793, 0, 0, 0, 1.38e+03},   /* toeplitz */
    {0.16, 0.0271, 0.562, 2.45, 0.675, 0.586, 0, 0, 3.68, 25.8, 1.24, 0.0929, 0, 0, 0, 0, 0, 0, 0, 0, 1.45, 0.0803, 0, 1.42, 0, 1.58e+03},   /* channelwise */
    {1.08, 0.0568, 0.109, 23, 0.293, 0.123, 25.6, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1.84, 0.286, 0, 0, 0, 443},   /* patches */
    {0.21, 2.17, 0.927, 29.2, 1.14, 0, 0.66, 1.08, 69.8, 24.5, 0.698, 1.14, 0.132, 1.22, 3.78, 0.287, 0.2, 0.0713, 0, 0, 2.76, 1.01, 0.821, 0, 0.0641, 979},   /* winograd */
    {0.219, 0.0109, 0, 2, 0, 0.549, 8.31, 0.122, 0.409, 14.7, 0.00924, 0.178, 0.334, 7.89, 47, 26.1, 0, 0.211, 0, 0, 2.36, 0.397, 0, 0, 0, 1.53e+03},   /* channels */
    {0.867, 0.163, 0.739, 18.7, 2.67, 0.423, 5.04, 0.663, 0.754, 37.2, 8.32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1.04, 0.19, 0, 0, 0, 2.39e+03},   /* dots */
    {0.171, 0, 0.243, 0.833, 0.624, 0.409, 0, 0, 3.41, 41.3, 4.39, 0.169, 0, 0, 0, 0, 0, 0, 0, 0, 1.34, 0.293, 0, 0, 0, 2e+03},   /* channelwise_grad_weight */
    {0.959, 0.387, 0.133, 29.1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3.8, 0.755, 0, 0, 0, 0},   /* patches_grad_weight */
    {0.273, 2.17, 0.975, 0, 1.02, 0.911, 1.09, 0.778, 32.2, 60.1, 0.42, 1.88, 0.036, 10.7, 74.8, 0, 0, 0, 0, 0, 1.72, 1.1, 0, 0, 0, 1.57e+03},   /* winograd_grad_weight */
}, {
    {0.303, 0.0239, 0, 0.512, 0.136, 41.8, 0.801, 0.749, 0.157, 5.1, 9.32, 1.34, 0.28, 0, 0.486, 0, 9.6, 0.135, 4, 1.14, 2.48, 0.292, 1.06, 0.892, 1.15, 1.3e+03},   /* panels */
    {0.255, 0.0487, 0.0199, 0.718, 0.408, 0.0514, 0.188, 0.106, 0.673, 0.221, 0.586, 4.38, 0.987, 0.438, 0.0424, 52.9, 1.94, 0.217, 0.276, 0.899, 3.16, 0.0922, 1.32, 0, 1.89, 1.46e+03},   /* planes */
    {0.298, 0.0647, 0, 0.306, 0.419, 0.0356, 0.0965, 0.0924, 0.768, 0.224, 0.264, 4.74, 1.5, 0.411, 0, 66.4, 2.1, 0.373, 0.542, 1.24, 2.48, 0.0171, 1.08, 0, 1.45, 1.33e+03},   /* apart */
    {0.0989, 0.239, 5.43, 0.435, 0.786, 0.267, 0, 0.25, 0, 15.3, 36.3, 0.228, 0, 0, 0, 0, 0, 0, 0, 0, 1.15, 0.0641, 0, 0, 0, 1.75e+03},   /* depthwise */
    {0.151, 0.0221, 0.184, 1.74, 0.347, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0.59, 0, 0, 0, 1.39e+03},   /* toeplitz */
    {0.116, 0.0463, 0.614, 0, 0.706, 0.921, 0, 0, 5.56, 29.7, 1.09, 0.221, 0.178, 0, 0, 0, 0, 0, 0, 0, 0.884, 0.222, 0, 0.715, 0, 1.56e+03},   /* channelwise */
    {1.05, 0, 0.602, 21.6, 0.113, 0.673, 13.3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9.33, 0.436, 0, 0, 0, 0},   /* patches */
    {0.256, 2.39, 1.21, 25.6, 1.48, 0, 0.648, 0.918, 63.5, 30.9, 0.858, 1.18, 0, 2.57, 4.6, 0.285, 0.464, 0.247, 3.83, 0, 2.64, 0.354, 0.312, 3.55, 0.403, 1.1e+03},   /* winograd */
    {0.294, 0.0183, 0.0115, 1.02, 0.655, 0.535, 3.24, 0.17, 0.438, 14.6, 0.017, 0.365, 0.575, 7.69, 45.4, 27.9, 0, 0.162, 0, 0, 0.362, 0.273, 0, 0, 0, 1.58e+03},   /* channels */
    {0.296, 0.172, 0.462, 28.1, 1.72, 0.863, 5.88, 0.549, 0.68, 32.8, 10.6, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0.595, 0.318, 0, 0, 0, 2.84e+03},   /* dots */
    {0.125, 0, 0.327, 0, 0.724, 0.82, 0, 0, 3.42, 42.5, 6.77, 0.333, 0, 0, 0, 0, 0, 0, 0, 0, 0.407, 0.309, 0, 0, 0, 1.85e+03},   /* channelwise_grad_weight */
    {1.05, 0, 0.877, 14.9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 10.7, 0.818, 0, 0, 0, 0},   /* patches_grad_weight */
    {0.294, 2.05, 1.51, 0, 1, 1.31, 1.43, 0.404, 8.2, 62.8, 0, 2.08, 0, 12, 4.42, 0, 0, 0, 0, 0, 2.86, 1.26, 0.434, 1.25, 0, 2.36e+03},   /* winograd_grad_weight */
}, {
    {0.281, 0.163, 0.0123, 1.34, 0.389, 45.6, 1.02, 0.63, 0.497, 5.29, 4.99, 1.51, 0.217, 0.00612, 0.304, 0, 10.7, 0, 8, 1.63, 1.89, 0.353, 0.208, 3.45, 1.33, 1.28e+03},   /* panels */
    {0.251, 0.0187, 0.172, 0.555, 0.945, 0.0352, 0.0524, 0.0849, 1.41, 0.282, 0, 2.5, 0.848, 0.338, 0.046, 54.2, 4.17, 0.688, 0.0324, 1.94, 3.08, 0.2, 0.236, 3.32, 1.9, 1.25e+03},   /* planes */
    {0.257, 0.0941, 0.155, 0.963, 1.01, 0.12, 0.0406, 0.0759, 1.46, 0.265, 0, 3.74, 1.16, 0.352, 0.0123, 59.8, 2.02, 0.831, 0.231, 2.39, 1.64, 0.0882, 0.167, 3.32, 1.14, 1.28e+03},   /* apart */
    {0.303, 0.0387, 12.3, 0.262, 1.26, 0.337, 0.229, 0, 0, 9.36, 37.8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0.679, 0.139, 0, 0, 1.64, 2.16e+03},   /* depthwise */
    {0.298, 0.0731, 0.474, 0.508, 0.663, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0.666, 0, 0, 0, 1.69e+03},   /* toeplitz */
    {0.19, 0.1, 1.06, 0, 1.34, 1.56, 1.58, 2.47, 4.49, 29.8, 1.67, 0.572, 0.0888, 0, 0, 0, 0, 0, 0, 0, 1.09, 0.28, 0, 3.24, 0.186, 1.77e+03},   /* channelwise */
    {0.992, 0.0916, 0.471, 17.8, 0.122, 0.418, 14.9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 8.06, 0, 0, 0, 0, 817},   /* patches */
    {0.293, 3.75, 0, 26.3, 2.37, 1.66, 0.818, 1.58, 71.4, 47.1, 1.04, 2.3, 0.134, 3.04, 5.52, 0.232, 0.38, 0, 14.2, 0, 2.28, 0.235, 0.196, 3.1, 1.87, 1.09e+03},   /* winograd */
    {0.269, 0.0279, 0.0895, 2.5, 1.5, 0.219, 17.5, 0.135, 0.441, 14.3, 0, 0.573, 1.47, 6.82, 49.1, 16.3, 0, 0.199, 0, 0, 0.727, 0.33, 0, 0, 0, 1.88e+03},   /* channels */
    {0.275, 0.0927, 0.426, 16.8, 2.49, 1.45, 6.37, 0.51, 0.5, 44.5, 11.9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0.56, 0.314, 0, 0, 0, 2.7e+03},   /* dots */
    {0.235, 0.00417, 0.59, 0, 1.37, 1.2, 1.77, 1.85, 2.74, 53.5, 7.89, 0.8, 0, 0, 0, 0, 0, 0, 0, 0, 0.525, 0.261, 0, 0, 0, 1.99e+03},   /* channelwise_grad_weight */
    {0.923, 0.198, 0.671, 13.6, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5.22, 0.986, 0, 0, 0, 373},   /* patches_grad_weight */
    {0.303, 2.21, 2.79, 0, 1.59, 1.65, 2.32, 0.361, 0, 68.9, 0, 1.65, 0.0123, 16.4, 0, 0, 0, 0, 0, 0, 1.35, 0.815, 0.227, 4.14, 0, 2.44e+03},   /* winograd_grad_weight */
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
    fc_conv_terms(conv, pass, prepared, bytes, terms);
    for (int way = 0; way < FC_WAYS; way++)
        cost[way] = terms[way][FC_TERMS - 1] > 0 ? total(costs[bytes / 32][way], terms[way])
                                                 : INFINITY;
}

static int cheapest(const double cost[FC_WAYS], int way, int end)
{
    int best = way;
    for (; way < end; way++)
        if (cost[way] < cost[best])
            best = way;
    return best;
}

void fc_conv_terms(const fc_conv *conv, int pass, int prepared, int64_t bytes,
                   double terms[FC_WAYS][FC_TERMS])
{
    const int way = pass == FC_GRAD_WEIGHT ? FC_PATCHES_GRAD_WEIGHT : FC_PATCHES;
    fc_conv_count(conv, pass, prepared, bytes, terms);
    if (terms[way][FC_TERMS - 1] > 0) {
        const fc_conv patches = fc_patches_conv(conv);
        double cost[FC_WAYS];
        price(&patches, pass, 0, bytes, cost);
        terms[way][FC_KERNEL_OF_1] = cost[cheapest(cost, 0, FC_WAYS)];
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

/* What was chosen lately, on this thread: counting takes some three microseconds, a small
 * convolution no longer. */
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
