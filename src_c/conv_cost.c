#include "conv_cost.h"

#include "conv_winograd.h"

static int fits(const fc_conv *conv, int pass)
{
    return pass == FC_GRAD_INPUT ? fc_winograd_grad_input_fits(conv) : fc_winograd_fits(conv);
}

int fc_conv_algorithm(const fc_conv *conv, int pass, int prepared)
{
    (void)prepared;
    if (conv->algorithm == FC_WINOGRAD && fits(conv, pass))
        return FC_WINOGRAD;
    return FC_DIRECT;
}
