#include "conv_plan.h"

int64_t fc_gcd(int64_t a, int64_t b) { return b ? fc_gcd(b, a % b) : a; }

/* Rounded up, whatever the sign of a. Most steps are 1, and dividing is slow. */
static int64_t divide_up(int64_t a, int64_t b)
{
    return b == 1 ? a : a <= 0 ? -(-a / b) : (a + b - 1) / b;
}

/* y[o] reads x[o * stride + r * dilation - before]. */
fc_axis fc_axis_forward(const fc_conv *conv, int axis)
{
    return (fc_axis){
        .outputs = conv->out[axis], .cells = conv->in[axis], .taps = conv->kernel[axis],
        .step = conv->stride[axis], .offset = -conv->before[axis], .tap_step = conv->dilation[axis],
        .weight = 0, .weight_step = 1, .place = 0, .place_step = 1,
    };
}

/* dx[i] reads dy[o] where o * stride + r * dilation - before = i. */
fc_axis fc_axis_grad_input(const fc_conv *conv, int axis, int64_t phase)
{
    const int64_t stride = conv->stride[axis], dilation = conv->dilation[axis];
    const int64_t common = fc_gcd(stride, dilation), every = stride / common;
    const int64_t from = phase + conv->before[axis];
    const int64_t candidates = every < conv->kernel[axis] ? every : conv->kernel[axis];
    int64_t first = 0;
    while (first < candidates && (from - first * dilation) % stride)
        first++;
    const int found = first < candidates;
    return (fc_axis){
        .outputs = conv->in[axis] > phase ? (conv->in[axis] - phase - 1) / stride + 1 : 0,
        .cells = conv->out[axis],
        .taps = found ? (conv->kernel[axis] - 1 - first) / every + 1 : 0,
        .step = 1,
        .offset = found ? (from - first * dilation) / stride : 0,
        .tap_step = -(dilation / common),
        .weight = first, .weight_step = every, .place = phase, .place_step = stride,
    };
}

int64_t fc_axis_inside(const fc_axis *axis, int64_t r, int64_t *count)
{
    const int64_t at = axis->offset + r * axis->tap_step;   /* the cell of output 0 */
    int64_t first = divide_up(-at, axis->step), end = divide_up(axis->cells - at, axis->step);
    first = first < 0 ? 0 : first;
    end = end > axis->outputs ? axis->outputs : end;
    *count = end > first ? end - first : 0;
    return first;
}

int64_t fc_axis_taps_inside(const fc_axis *axis, int64_t j, int64_t *count)
{
    const int64_t at = j * axis->step + axis->offset, step = axis->tap_step;   /* of tap 0 */
    int64_t first = step > 0 ? divide_up(-at, step) : divide_up(at - axis->cells + 1, -step);
    int64_t end = step > 0 ? divide_up(axis->cells - at, step) : divide_up(at + 1, -step);
    first = first < 0 ? 0 : first;
    end = end > axis->taps ? axis->taps : end;
    *count = end > first ? end - first : 0;
    return first;
}

int64_t fc_axis_whole(const fc_axis *axis)
{
    int64_t of_first, of_last;
    if (!axis->taps)
        return 0;
    const int64_t first = fc_axis_inside(axis, 0, &of_first);
    const int64_t last = fc_axis_inside(axis, axis->taps - 1, &of_last);
    const int64_t end = fc_least(first + of_first, last + of_last);
    return fc_most(end - fc_most(first, last), 0);
}

int64_t fc_axis_meetings(const fc_axis *axis)
{
    int64_t inside, all = 0;
    for (int64_t r = 0; r < axis->taps; r++) {
        fc_axis_inside(axis, r, &inside);
        all += inside;
    }
    return all;
}

void fc_axis_trim(fc_axis *axis)
{
    int64_t inside, dead = 0;
    while (axis->taps && (fc_axis_inside(axis, axis->taps - 1, &inside), !inside))
        axis->taps--;
    while (dead < axis->taps && (fc_axis_inside(axis, dead, &inside), !inside))
        dead++;
    axis->taps -= dead;
    axis->offset += dead * axis->tap_step;
    axis->weight += dead * axis->weight_step;
}

/* The kernel does not see this axis, and what is left of it is an axis worth merging with. */
static int mergeable(const fc_conv *conv, int axis)
{
    return conv->kernel[axis] == 1 && conv->stride[axis] == 1 && conv->before[axis] == 0
        && conv->out[axis] == conv->in[axis] && conv->in[axis] > 1
        && conv->stride[axis - 1] == 1 && (conv->in[axis - 1] > 1 || conv->out[axis - 1] > 1);
}

static const fc_conv unit = {.in = {1}, .out = {1}, .kernel = {1}, .stride = {1}, .dilation = {1}};

static void set_axis(fc_conv *to, int at, const fc_conv *from, int axis)
{
    to->in[at] = from->in[axis];
    to->out[at] = from->out[axis];
    to->kernel[at] = from->kernel[axis];
    to->stride[at] = from->stride[axis];
    to->dilation[at] = from->dilation[axis];
    to->before[at] = from->before[axis];
}

/* Axes that the kernel covers: channels, as long as nothing else is ahead of them; of the others
 * each cell is a phase of a stride as long. */
static void absorb_axes(fc_conv *conv)
{
    if (conv->in_channels == conv->groups && fc_volume(conv->out) == 1)
        return;
    int first = 1;
    for (int axis = 0; axis < 3; axis++) {
        const int64_t kernel = conv->kernel[axis];
        if (conv->in[axis] != kernel || conv->out[axis] != 1 || conv->before[axis] != 0
            || (kernel > 1 && conv->dilation[axis] != 1))
            first = 0;
        else if (first) {
            conv->in_channels *= kernel;
            set_axis(conv, axis, &unit, 0);
        } else
            conv->stride[axis] = kernel;
    }
}

fc_conv fc_conv_merge_axes(const fc_conv *conv, int gradient)
{
    fc_conv merged = *conv;
    if (gradient)
        absorb_axes(&merged);
    for (int axis = 0; axis < 3; axis++)
        if (merged.kernel[axis] == 1)
            merged.dilation[axis] = 1;
    for (int axis = 2; axis > 0; axis--)
        while (mergeable(&merged, axis)) {
            const int64_t length = merged.in[axis];
            set_axis(&merged, axis, &merged, axis - 1);
            merged.in[axis] *= length;
            merged.out[axis] *= length;
            merged.dilation[axis] *= length;
            merged.before[axis] *= length;
            for (int left = axis - 1; left > 0; left--)
                set_axis(&merged, left, &merged, left - 1);
            set_axis(&merged, 0, &unit, 0);
        }
    return merged;
}

/* Output o meets cell o * stride + r * dilation - before = first + every * (a whole number). */
fc_conv fc_conv_thin(const fc_conv *conv, int64_t first[3], int64_t every[3])
{
    fc_conv thin = *conv;
    for (int a = 0; a < 3; a++) {
        every[a] = conv->kernel[a] == 1 ? conv->stride[a]
                                        : fc_gcd(conv->stride[a], conv->dilation[a]);
        first[a] = (every[a] - conv->before[a] % every[a]) % every[a];
        if (every[a] == 1)
            continue;
        thin.in[a] = fc_parts(fc_most(conv->in[a] - first[a], 0), every[a]);
        thin.before[a] = (conv->before[a] + first[a]) / every[a];
        if (thin.in[a] == 0) {   /* no cell is met: keep one, which stays so */
            thin.in[a] = 1;
            thin.before[a] = -1;
            first[a] = 0;
        }
        thin.stride[a] /= every[a];
        thin.dilation[a] = conv->kernel[a] == 1 ? 1 : conv->dilation[a] / every[a];
    }
    return thin;
}
