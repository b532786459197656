/* What a convolution costs, in nanoseconds of one thread: a sum of counted operations
 * (conv_count.c), each times a constant. Only which of two sums is smaller matters.
 *
 * The prices were fitted by `bench/sweep.py fit` to the times of 1820 random geometries (seeds 741,
 * 742, 751, 761 of a sweep that did not draw patches yet), a third of them for each width of the
 * vectors, and of 150 depthwise ones with sides of 16 to 128, powers of 2, on an AMD Zen 4 at 3.7
 * GHz; those of patches beside 360 kernels as long as their stride and layers of known networks. On
 * 400 other geometries (seed 832) what is chosen takes 1.3 % longer on average than the fastest way
 * would, 15 of 1401 times more than 30 %, at worst 112 % (prepared; 5 x 5 x 5, stride 3, where
 * Winograd's is faster). The price of a panel's rows that lie in pages of their own is not fitted:
 * 1x1 kernels of 64 to 512 channels on images of 40 x 40 to 112 x 112 gave it (64 x 112 x 112 ->
 * 256: panels 66, planes 84 GF/s). Float and double have the same prices: what is counted are
 * vectors.
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
    {0.233, 0.0087, 2.34, 0.24, 0, 33.1, 0.909, 0.87, 0, 3.59, 5.57, 2.31, 0.288, 0, 1.18, 0, 9.79, 0.016, 2, 0.835, 1.71, 0.315, 0, 1.74, 0.818, 1.09e+03},   /* panels */
    {0.262, 0, 0, 0.237, 0.25, 0.123, 0.0234, 0.0315, 0.342, 0.368, 0.812, 18.7, 1.8, 0.382, 0.0212, 24.8, 1.29, 0.216, 0.434, 0.778, 2.15, 0.243, 0, 1.57, 0.775, 1.44e+03},   /* planes */
    {0.26, 0, 0.0323, 0.113, 0.283, 0.226, 0.0256, 0.000479, 0.36, 0.384, 0.71, 16.9, 2.68, 0.332, 0.0281, 29.9, 0.819, 0.16, 0.452, 0.764, 1.14, 0.114, 0, 1.64, 0.524, 1.28e+03},   /* apart */
    {0.15, 0.24, 3.46, 0.431, 0.228, 0, 2.7, 17.3, 0, 11.8, 0, 0.176, 0, 0, 0, 0, 0, 0, 0, 0, 1.48, 0.234, 0, 0, 0, 1.56e+03},   /* depthwise */
    {0.242, 0.0298, 0, 1.02, 0.229, 2.77, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1.35, 0.369, 0, 0, 0, 1.73e+03},   /* toeplitz */
    {0.155, 0.0451, 0.425, 2.4, 0.614, 0.604, 0, 0, 5.2, 25.1, 1.69, 0.103, 0, 0, 0, 0, 0, 0, 0, 0, 1.31, 0.074, 0, 1.62, 0.00765, 1.39e+03},   /* channelwise */
    {1.08, 0.0143, 0.378, 16.2, 0.276, 0.477, 14.2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0.578, 0, 0, 0, 565},   /* patches */
    {0.207, 2.48, 0.837, 30.3, 1.12, 0, 0.621, 1.09, 68.4, 22.9, 0.781, 1.52, 0.128, 3.57, 2.81, 0.235, 0, 0.0822, 0, 0, 2.16, 1.5, 0.525, 0, 0.102, 1.32e+03},   /* winograd */
    {0.213, 0.0113, 0.00594, 2.05, 0, 0.595, 7.89, 0.148, 0.398, 14, 0.0589, 0.23, 0.261, 8.95, 47.8, 27.8, 0, 0, 0, 0, 2.13, 0.57, 0, 0, 0, 1.47e+03},   /* channels */
    {0.853, 0.1, 0.342, 22, 2.75, 0.475, 5.1, 0.773, 0.754, 33.7, 8.27, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0.771, 0.153, 0, 0, 0, 2.39e+03},   /* dots */
    {0.17, 0, 0.234, 0.749, 0.614, 0.468, 0, 0, 3.51, 37.3, 4.84, 0.191, 0, 0, 0, 0, 0, 0, 0, 0, 0.955, 0.313, 0, 0, 0, 1.79e+03},   /* channelwise_grad_weight */
    {1.01, 0.19, 0.642, 17.7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0.542, 0, 0, 0, 0},   /* patches_grad_weight */
    {0.27, 2.03, 0.731, 0, 0.958, 0.88, 1.03, 0.866, 36.4, 58.1, 0.904, 1.33, 0.107, 11.6, 106, 0, 0, 0, 0, 0, 1.35, 1.78, 0, 0, 0, 1.71e+03},   /* winograd_grad_weight */
}, {
    {0.299, 0.0374, 0, 0.465, 0.172, 39.7, 0.759, 0.699, 0.185, 4.98, 6.66, 1.42, 0.13, 0, 0.354, 0, 10.1, 0.152, 4, 0.463, 1.09, 0.328, 0, 0.819, 0.675, 1.48e+03},   /* panels */
    {0.223, 0.0518, 0.0967, 0.183, 0.429, 0.0673, 0.101, 0.111, 0.584, 0.507, 0.61, 17.5, 0.997, 0.378, 0.0504, 23.2, 2.47, 0.379, 0.267, 0.983, 0.6, 0.152, 0, 0.861, 0.865, 1.43e+03},   /* planes */
    {0.247, 0.0676, 0.0881, 0.0117, 0.44, 0.0444, 0.0722, 0.098, 0.559, 0.441, 0.501, 17.3, 1.05, 0.368, 0.0162, 24.6, 2.15, 0.313, 0.318, 1.1, 0.539, 0.152, 0, 0.834, 0.571, 1.45e+03},   /* apart */
    {0.0599, 0.359, 1.2, 0.724, 0.522, 0.895, 0.0778, 20.8, 0, 27.5, 0, 0.457, 0, 0, 0, 0, 0, 0, 0, 0, 0.992, 0, 0, 0, 0, 1.8e+03},   /* depthwise */
    {0.152, 0.026, 0.186, 1.73, 0.333, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0.568, 0, 0, 0, 1.28e+03},   /* toeplitz */
    {0.112, 0.0736, 0.453, 0.228, 0.709, 0.863, 0, 0, 5.28, 30, 1.05, 0.226, 0.173, 0, 0, 0, 0, 0, 0, 0, 0.733, 0.271, 0, 0.759, 0.0778, 1.56e+03},   /* channelwise */
    {1.07, 0.102, 0.531, 16.2, 0.177, 0.463, 14.7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0.527, 0, 0, 0, 0},   /* patches */
    {0.253, 2.78, 0.846, 25.2, 1.36, 0.253, 0.661, 0.922, 67.8, 34.1, 0.784, 1.46, 0.0635, 3.05, 2.5, 0.255, 0.382, 0.153, 0, 0, 1.67, 0.493, 0.139, 6.47, 0.236, 1.18e+03},   /* winograd */
    {0.285, 0.0188, 0.0279, 1.07, 0.349, 0.452, 6.29, 0.166, 0.371, 15.8, 7.22e-13, 0.376, 0.404, 4.8, 56.5, 25.7, 0, 0.28, 0, 0, 0.445, 0.34, 0, 0, 0, 1.59e+03},   /* channels */
    {0.3, 0.129, 0.277, 31.4, 1.62, 0.877, 6.6, 0.5, 0.679, 30.2, 10.1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0.483, 0.377, 0, 0, 0, 2.8e+03},   /* dots */
    {0.125, 0, 0.317, 0, 0.73, 0.779, 0, 0, 2.86, 46.4, 6.9, 0.391, 0, 0, 0, 0, 0, 0, 0, 0, 0.327, 0.403, 0, 0, 0, 1.86e+03},   /* channelwise_grad_weight */
    {1.01, 0.119, 0.562, 18.3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0.811, 0, 0, 0, 0},   /* patches_grad_weight */
    {0.297, 1.62, 1.5, 0, 1, 1.28, 1.31, 0.208, 12.3, 64.7, 0, 2.1, 0, 11.7, 1.7e-08, 0, 0, 0, 0, 0, 2.04, 1.01, 0.426, 2, 0, 2.31e+03},   /* winograd_grad_weight */
}, {
    {0.279, 0.0835, 0.119, 1.23, 0.264, 39.4, 1.13, 0.474, 0.421, 5.13, 5.22, 1.49, 0.281, 0, 0.118, 0, 10.9, 0, 8, 1.29, 0.689, 0.304, 0, 4.32, 1.32, 1.4e+03},   /* panels */
    {0.242, 0, 0.187, 0.449, 0.563, 0.0703, 0.139, 0.0384, 1.16, 0.331, 0.594, 19.7, 1.27, 0.36, 0.0412, 22.7, 2.08, 0.518, 0.445, 1.71, 1.06, 0.261, 0, 5.11, 1.94, 1.54e+03},   /* planes */
    {0.246, 0, 0.138, 0.419, 0.676, 0.11, 0.256, 0.0082, 0.997, 0.21, 0.894, 19.9, 1.68, 0.355, 0.0458, 17.4, 1.34, 0.526, 0.104, 1.6, 0.864, 0.235, 0, 5.04, 1.03, 1.51e+03},   /* apart */
    {0.302, 0.0363, 14.6, 0, 1.03, 0.298, 0.983, 26.1, 0, 7.4, 0, 0.583, 0, 0, 0, 0, 0, 0, 0, 0, 0.391, 0.112, 0, 0, 0, 1.99e+03},   /* depthwise */
    {0.288, 0.0571, 0.457, 0.829, 0.725, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0.688, 0, 0, 0, 1.24e+03},   /* toeplitz */
    {0.193, 0.105, 1.01, 0, 1.29, 1.49, 1.73, 2.58, 5.19, 34.8, 1.42, 0.474, 0.0728, 0, 0, 0, 0, 0, 0, 0, 1.05, 0.24, 0, 4.84, 0.181, 1.86e+03},   /* channelwise */
    {1.02, 0.131, 0.535, 14.3, 0.258, 0.49, 12.3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0.579, 0, 0, 0, 112},   /* patches */
    {0.286, 4.19, 0, 26, 2.32, 1.55, 0.84, 1.43, 74.7, 53.2, 1.26, 1.97, 0.0228, 5.75, 5.36, 0.155, 1.37, 0, 0, 0, 2.34, 0.391, 0.114, 3.28, 2.1, 1.3e+03},   /* winograd */
    {0.268, 0.0147, 0.1, 2.31, 0.108, 0.131, 31.5, 0.132, 0.405, 14.6, 6.62e-12, 0.673, 1.99, 0.446, 80.6, 2.08, 0, 0.0984, 0, 0, 0.677, 0.37, 0, 0, 0, 1.97e+03},   /* channels */
    {0.275, 0.099, 0.353, 16.6, 2.42, 1.51, 6.57, 0.428, 0.499, 43.6, 11, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0.449, 0.265, 0, 0, 0, 2.83e+03},   /* dots */
    {0.232, 0.02, 0.531, 0, 1.37, 1.14, 1.89, 1.95, 2.46, 57.2, 7.72, 0.806, 0, 0, 0, 0, 0, 0, 0, 0, 0.5, 0.26, 0, 0, 0, 2.02e+03},   /* channelwise_grad_weight */
    {1.02, 0.141, 0.591, 15.4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1.06, 0, 0, 0, 0},   /* patches_grad_weight */
    {0.295, 1.7, 2.71, 0, 1.5, 1.68, 2.54, 0.0394, 8, 62.3, 0, 1.32, 0.0502, 12.9, 118, 0, 0, 0, 0, 0, 1.31, 1.21, 0.156, 4.28, 0, 2.73e+03},   /* winograd_grad_weight */
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
