/* What a gradient of the weights that leaves out products with padding still owes to it: padding is
 * zeros that take part in the sum, and zero times a value that is not finite is not a number. */
#ifndef FC_CONV_WEIGHT_PADDING_H
#define FC_CONV_WEIGHT_PADDING_H

#include "conv_plan.h"

/* Does some tap of some output lie outside the image, along one axis, along any? `axis`:
 * fc_axis_forward's. */
int fc_weight_padding_along(const fc_axis *axis);
int fc_weight_padding_any(const fc_axis axis[3]);

/* Has every output a tap in the image? Then a value of dy that is not finite shows in dw. */
int fc_weight_padding_all_show(const fc_axis axis[3]);

/* What was left out of rows [f, f + rows) of dw (out_channels, in_channels / groups, kernel), where
 * it is not zero. Rows that are finite are looked at together: 1024 of 40 weights each by itself
 * took half of the time of their sums over 22 outputs. */
void fc_weight_padding_add(const fc_conv *conv, const fc_axis axis[3], int all_show,
                           const void *dy, void *dw, int64_t f, int64_t rows);

#endif
