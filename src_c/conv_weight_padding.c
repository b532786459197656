#include "conv_weight_padding.h"

#include "kernels.h"

#include <math.h>
#include <string.h>

static int64_t size_of(const fc_conv *conv) { return conv->dtype == FC_F32 ? 4 : 8; }

int fc_weight_padding_along(const fc_axis *axis)
{
    for (int64_t r = 0; r < axis->taps; r++) {
        int64_t inside;
        fc_axis_inside(axis, r, &inside);
        if (inside < axis->outputs)
            return 1;
    }
    return 0;
}

int fc_weight_padding_any(const fc_axis axis[3])
{
    return fc_weight_padding_along(&axis[0]) || fc_weight_padding_along(&axis[1])
        || fc_weight_padding_along(&axis[2]);
}

int fc_weight_padding_all_show(const fc_axis axis[3])
{
    for (int a = 0; a < 3; a++) {
        int64_t shown = 0;
        for (int64_t r = axis[a].taps - 1; r >= 0; r--) {
            int64_t inside, first = fc_axis_inside(&axis[a], r, &inside);
            if (first <= shown)
                shown = fc_most(shown, first + inside);
        }
        if (shown < axis[a].outputs)
            return 0;
    }
    return 1;
}

/* Padding is zeros that take part in the sum, and zero times a value that is not finite is not
 * a number: is there such a value among the outputs for which tap r lies outside the image? */
static int meets_padding(const fc_conv *conv, const fc_axis axis[3], const char *dy, int64_t f,
                         const int64_t r[3])
{
    const fc_kernels *kernels = fc_active[conv->dtype];
    const int64_t size = size_of(conv), lines = conv->out[0] * conv->out[1], width = conv->out[2];
    int64_t first[3], inside[3];
    for (int a = 0; a < 3; a++)
        first[a] = fc_axis_inside(&axis[a], r[a], &inside[a]);
    for (int64_t n = 0; n < conv->batch; n++)
        for (int64_t row = 0; row < lines; row++) {
            const int64_t z = row / conv->out[1], y = row % conv->out[1];
            const int64_t at = (n * conv->out_channels + f) * lines + row;
            const char *line = dy + at * width * size;
            const int in = z >= first[0] && z < first[0] + inside[0] && y >= first[1]
                && y < first[1] + inside[1] && inside[2] > 0;
            const int64_t left = in ? first[2] : width, right = in ? first[2] + inside[2] : width;
            if (!kernels->finite(line, left)
                || !kernels->finite(line + right * size, width - right))
                return 1;
        }
    return 0;
}

/* Have rows [f, f + rows) of dw, or of dy where that need not show in dw, nothing but finite
 * values? */
static int finite_gradient(const fc_conv *conv, int all_show, const char *dy, const char *dw,
                           int64_t f, int64_t rows)
{
    const fc_kernels *kernels = fc_active[conv->dtype];
    const int64_t outputs = fc_volume(conv->out), size = size_of(conv);
    const int64_t weights = conv->in_channels / conv->groups * fc_volume(conv->kernel);
    if (all_show)
        return kernels->finite(dw + f * weights * size, rows * weights);
    for (int64_t n = 0; n < conv->batch; n++)
        if (!kernels->finite(dy + (n * conv->out_channels + f) * outputs * size, rows * outputs))
            return 0;
    return 1;
}

static void add_to_row(const fc_conv *conv, const fc_axis axis[3], const void *dy, void *dw,
                       int64_t f)
{
    const float nan_f32 = NAN;
    const double nan_f64 = NAN;
    const void *nan = conv->dtype == FC_F32 ? (const void *)&nan_f32 : &nan_f64;
    const int64_t *kernel = conv->kernel, taps = fc_volume(kernel), size = size_of(conv);
    const int64_t channels = conv->in_channels / conv->groups;
    char *row = (char *)dw + f * channels * taps * size;
    for (int64_t r = 0; r < taps; r++) {
        const int64_t line = r / kernel[2];
        const int64_t tap[3] = {line / kernel[1], line % kernel[1], r % kernel[2]};
        if (meets_padding(conv, axis, dy, f, tap))
            for (int64_t c = 0; c < channels; c++)
                memcpy(row + (c * taps + r) * size, nan, size);
    }
}

void fc_weight_padding_add(const fc_conv *conv, const fc_axis axis[3], int all_show,
                           const void *dy, void *dw, int64_t f, int64_t rows)
{
    if (finite_gradient(conv, all_show, dy, dw, f, rows))
        return;
    for (int64_t i = f; i < f + rows; i++)
        if (!finite_gradient(conv, all_show, dy, dw, i, 1))
            add_to_row(conv, axis, dy, dw, i);
}
