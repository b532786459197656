/* Forward pass and input gradient by Winograd's algorithm: which sums they are. What is left out of
 * the source beforehand, or spread over the result afterwards, stands in conv_thin.h; the sums
 * themselves are planned by conv_winograd_plan.h and run by conv_winograd_run.h. */
#include "conv_winograd.h"

#include "arena.h"
#include "conv_thin.h"
#include "conv_winograd_run.h"
#include "parallel.h"

typedef fc_winograd_plan plan;

int fc_winograd_fits(const fc_conv *conv)
{
    fc_line y, x;
    int64_t first[3], every[3];
    const fc_conv thin = fc_conv_thin(conv, first, every);
    const fc_axis along_y = fc_axis_forward(&thin, 1), along_x = fc_axis_forward(&thin, 2);
    return fc_line_of(&along_y, &y) && fc_line_of(&along_x, &x) && (y.taps > 1 || x.taps > 1);
}

static int forward(const fc_conv *conv, const void *x, const void *w, const void *packed,
                   const void *bias, void *y, int threads)
{
    plan p;
    fc_thin thin;
    int status = fc_thin_source(&thin, conv, x, threads);
    if (status == FC_OK) {
        fc_winograd_plan_forward(&p, &thin.conv, packed != NULL, threads);
        status = fc_winograd_run(&p, thin.x, w, packed, bias, y);
    }
    fc_arena_give(thin.scratch);
    return status;
}

int fc_winograd_forward(const fc_conv *conv, const void *x, const void *w, const void *bias,
                        void *y, int threads)
{
    return forward(conv, x, w, NULL, bias, y, threads);
}

/* The phases of the input against the stride, no more than there are cells. */
static int64_t phases_of(const fc_conv *conv, int64_t phases[3])
{
    for (int a = 0; a < 3; a++)
        phases[a] = fc_least(conv->stride[a], conv->in[a]);
    return fc_volume(phases);
}

static int plan_phase(plan *p, const fc_conv *conv, const int64_t phases[3], int64_t phase,
                      int threads)
{
    const int64_t at[3] = {phase / phases[2] / phases[1], phase / phases[2] % phases[1],
                           phase % phases[2]};
    return fc_winograd_plan_grad_input(p, conv, at, threads);
}

int fc_winograd_grad_input_fits(const fc_conv *conv)
{
    int64_t phases[3], saving = 0, first[3], every[3];
    const fc_conv thin = fc_conv_thin(conv, first, every);
    const int64_t count = phases_of(&thin, phases);
    for (int64_t phase = 0; phase < count; phase++) {
        plan p;
        if (!plan_phase(&p, &thin, phases, phase, 1))
            return 0;
        saving += p.points > 1;
    }
    return saving > 0;
}

/* One sum for each phase of a conv that fc_conv_thin has made. */
static int grad_input(const fc_conv *conv, const void *dy, const void *w, const void *bias,
                      void *dx, int threads)
{
    int64_t phases[3];
    const int64_t count = phases_of(conv, phases);
    int status = FC_OK;
    for (int64_t phase = 0; phase < count && status == FC_OK; phase++) {
        plan p;
        plan_phase(&p, conv, phases, phase, threads);
        status = fc_winograd_run(&p, dy, w, NULL, bias, dx);
    }
    return status;
}

int fc_winograd_grad_input(const fc_conv *conv, const void *dy, const void *w, const void *bias,
                           void *dx, int threads)
{
    int64_t first[3], every[3];
    const fc_conv thin = fc_conv_thin(conv, first, every);
    if (every[0] * every[1] * every[2] == 1)
        return grad_input(conv, dy, w, bias, dx, threads);
    if (thin.before[0] < 0 || thin.before[1] < 0 || thin.before[2] < 0) {   /* no cell is met */
        fc_thin_spread(conv, NULL, bias, dx, threads);
        return FC_OK;
    }
    const int64_t cells = conv->batch * conv->in_channels * fc_volume(thin.in);
    void *kept = fc_arena_take((size_t)cells * (conv->dtype == FC_F32 ? 4 : 8));
    const int status = kept ? grad_input(&thin, dy, w, bias, kept, threads) : FC_NO_MEMORY;
    if (status == FC_OK)
        fc_thin_spread(conv, kept, bias, dx, threads);
    fc_arena_give(kept);
    return status;
}

/* The plan of weights that are transformed beforehand, whatever the image. */
static void plan_packed(plan *p, const fc_conv *conv, int threads)
{
    int64_t first[3], every[3];
    const fc_conv thin = fc_conv_thin(conv, first, every);
    fc_winograd_plan_forward(p, &thin, 1, threads);
}

size_t fc_winograd_packed_bytes(const fc_conv *conv)
{
    plan p;
    plan_packed(&p, conv, 1);
    return (size_t)fc_winograd_weights_bytes(&p.u);
}

typedef struct { const fc_winograd_weights *u; const char *w; char *packed, *scratch; } packing;

static void pack_work(void *context, int member, int team)
{
    const packing *k = context;
    char *scratch = k->scratch + member * fc_winograd_weights_scratch(k->u);
    fc_winograd_weights_share(k->u, k->w, k->packed, scratch, member, team);
}

int fc_winograd_pack(const fc_conv *conv, const void *w, void *packed, int threads)
{
    plan p;
    plan_packed(&p, conv, threads);
    const int team = fc_team_size(threads);
    packing k = {&p.u, w, packed,
                 fc_arena_take((size_t)(team * fc_winograd_weights_scratch(&p.u)))};
    if (!k.scratch)
        return FC_NO_MEMORY;
    fc_parallel(team, pack_work, &k);
    fc_arena_give(k.scratch);
    return FC_OK;
}

int fc_winograd_forward_packed(const fc_conv *conv, const void *x, const void *w,
                               const void *packed, const void *bias, void *y, int threads)
{
    return forward(conv, x, w, packed, bias, y, threads);
}
