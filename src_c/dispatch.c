#include "dispatch.h"

#include <string.h>

const fc_kernels *fc_active[FC_DTYPES] = {&fc_kernels_f32_baseline, &fc_kernels_f64_baseline};

static int always(void) { return 1; }

#ifdef __x86_64__
static int has_avx2(void)
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

static int has_avx512(void)
{
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl")
        && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq");
}
#endif

static const struct {
    const char *name;
    int (*supported)(void);
    const fc_kernels *kernels[FC_DTYPES];
} isas[] = {
#ifdef __x86_64__
    {"avx512", has_avx512, {&fc_kernels_f32_avx512, &fc_kernels_f64_avx512}},
    {"avx2", has_avx2, {&fc_kernels_f32_avx2, &fc_kernels_f64_avx2}},
#endif
    {"baseline", always, {&fc_kernels_f32_baseline, &fc_kernels_f64_baseline}},
    {NULL, NULL, {NULL, NULL}},
};

static int active = (int)(sizeof isas / sizeof *isas) - 2;

const char *fc_isa_name(int index) { return isas[index].name; }
int fc_isa_supported(int index) { return isas[index].supported(); }
const char *fc_isa_active(void) { return isas[active].name; }

int fc_isa_select(const char *name)
{
    for (int i = 0; isas[i].name; i++) {
        if (name ? strcmp(name, isas[i].name) != 0 : !isas[i].supported())
            continue;
        if (!isas[i].supported())
            return -1;
        active = i;
        memcpy(fc_active, isas[i].kernels, sizeof fc_active);
        return 0;
    }
    return -1;
}
