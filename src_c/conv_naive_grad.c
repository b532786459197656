/* A stand-in until conv_weight_grad.c lands: weak, so that it gives way by itself. */
#include "conv.h"
#include "kernels.h"

static double at(const fc_conv *q, const void *p, int64_t i)
{
    return q->dtype == FC_F32 ? (double)((const float *)p)[i] : ((const double *)p)[i];
}

static void put(const fc_conv *q, void *p, int64_t i, double v)
{
    if (q->dtype == FC_F32) ((float *)p)[i] = (float)v; else ((double *)p)[i] = v;
}

static int64_t cell(const fc_conv *q, int axis, int64_t o, int64_t r)
{
    int64_t i = o * q->stride[axis] + r * q->dilation[axis] - q->before[axis];
    return i < 0 || i >= q->in[axis] ? -1 : i;
}

__attribute__((weak)) int fc_conv_grad_weight(const fc_conv *q, const void *dy, const void *x, void *dw, int threads)
{
    (void)threads;
    int64_t C = q->in_channels / q->groups, F = q->out_channels / q->groups, at_w = 0;
    for (int64_t f = 0; f < q->out_channels; f++) for (int64_t c = 0; c < C; c++)
    for (int64_t r = 0; r < q->kernel[0]; r++) for (int64_t s = 0; s < q->kernel[1]; s++) for (int64_t t = 0; t < q->kernel[2]; t++, at_w++) {
        double sum = 0;
        for (int64_t n = 0; n < q->batch; n++) for (int64_t a = 0; a < q->out[0]; a++) for (int64_t b = 0; b < q->out[1]; b++) for (int64_t e = 0; e < q->out[2]; e++) {
            int64_t i = cell(q, 0, a, r), j = cell(q, 1, b, s), k = cell(q, 2, e, t);
            if (i >= 0 && j >= 0 && k >= 0)
                sum += at(q, dy, (((n * q->out_channels + f) * q->out[0] + a) * q->out[1] + b) * q->out[2] + e)
                     * at(q, x, (((n * q->in_channels + f / F * C + c) * q->in[0] + i) * q->in[1] + j) * q->in[2] + k);
        }
        put(q, dw, at_w, sum);
    }
    return FC_OK;
}

__attribute__((weak)) int fc_conv_grad_bias(const fc_conv *q, const void *dy, void *db, int threads)
{
    (void)threads;
    int64_t O = q->out[0] * q->out[1] * q->out[2];
    for (int64_t f = 0; f < q->out_channels; f++) {
        double sum = 0;
        for (int64_t n = 0; n < q->batch; n++) for (int64_t o = 0; o < O; o++)
            sum += at(q, dy, (n * q->out_channels + f) * O + o);
        put(q, db, f, sum);
    }
    return FC_OK;
}
