"""The convolution calls that are not the common case: what is wrong, or how to make it common.

conv.py comes here when `_core` has returned None. Each function takes the arguments of its
namesake in `_core`, raises the error that they deserve, or brings them into the common form
(arrays that the kernels read, tuples of ints) and calls the namesake again. Results come back in
the dtype that the contract gives them. Where there is nothing to sum, no kernel is asked.
"""

import math
from typing import Any, TypeVar

import numpy as np

from . import _core
from .geometry import Layout, conv_output, conv_transpose_output, read_layout
from .operands import (
    Array,
    as_array,
    check_out,
    for_kernel,
    kernel_dtype,
    kind,
    optional_array,
    result_dtype,
    wrong_shape,
)

Grads = tuple[Array | None, Array | None, Array | None]
Mask = tuple[bool, bool, bool]
DType = np.dtype[Any]
Given = TypeVar("Given")

ALGORITHMS = ("auto", "direct", "winograd")


def forward(
    rank: int,
    input: Any,
    weight: Any,
    bias: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: Any,
    algorithm: Any,
    out: Array | None,
    weight_dtype: DType | None = None,
    packed: Array | None = None,
) -> Array:
    """`weight_dtype` is what weight and bias were before `prepare_conv` made them common, and
    `packed` what else it made of them."""
    x, w, b = as_array("input", input), as_array("weight", weight), optional_array("bias", bias)
    layout = read_layout(w.shape, stride, padding, dilation, groups, rank=rank)
    _, shape = conv_output(x.shape, w.shape, layout)
    check_bias(b, w.shape[0])
    check_algorithm(algorithm, w.shape, layout)
    result = result_dtype(x, w, b) if weight_dtype is None else result_dtype(x, weight_dtype)
    if out is not None:
        check_out(out, shape, result, input=x, weight=w, bias=b)

    dtype = kernel_dtype(result)
    if _nothing_to_sum(x, w):
        y = _bias_alone(b, shape, rank, dtype)
    else:
        place = np.asarray(out) if out is not None and result == dtype else None
        if w.dtype != dtype:
            packed = None
        x, w, b = _common(dtype, x, w, b)
        y = _must(_core.conv_forward(rank, x, w, b, *layout, algorithm, place, packed))
    if out is None:
        return y.astype(result, copy=False)
    if y is not out:
        out[...] = y
    return out


def backward(
    rank: int,
    grad_output: Any,
    input: Any,
    weight: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: Any,
    output_mask: Any,
    algorithm: Any,
) -> Grads:
    dy, x, w = _operands(grad_output, input, weight)
    layout = read_layout(w.shape, stride, padding, dilation, groups, rank=rank)
    _, shape = conv_output(x.shape, w.shape, layout)
    _check_grad_output(dy, shape)
    check_algorithm(algorithm, w.shape, layout)
    mask = _read_mask(output_mask)

    result = result_dtype(dy, x, w)
    if _nothing_to_sum(x, w):
        return _bias_gradient_alone(dy, x, w, rank, mask, result)
    dy, x, w = _common(kernel_dtype(result), dy, x, w)
    grads = _core.conv_backward(rank, dy, x, w, *layout, mask, algorithm)
    return _in_dtype(_must(grads), result)


def transpose_forward(
    rank: int,
    input: Any,
    weight: Any,
    bias: Any,
    stride: Any,
    padding: Any,
    output_padding: Any,
    groups: Any,
    dilation: Any,
) -> Array:
    x, w, b = as_array("input", input), as_array("weight", weight), optional_array("bias", bias)
    stride, padding, output_padding, groups, dilation, shape = conv_transpose_output(
        x.shape, w.shape, stride, padding, output_padding, groups, dilation, rank
    )
    check_bias(b, shape[-rank - 1])

    result = result_dtype(x, w, b)
    dtype = kernel_dtype(result)
    if _nothing_to_sum(x, w):
        return _bias_alone(b, shape, rank, dtype).astype(result, copy=False)
    x, w, b = _common(dtype, x, w, b)
    y = _must(
        _core.conv_transpose_forward(
            rank, x, w, b, stride, padding, output_padding, groups, dilation
        )
    )
    return y.astype(result, copy=False)


def transpose_backward(
    rank: int,
    grad_output: Any,
    input: Any,
    weight: Any,
    stride: Any,
    padding: Any,
    output_padding: Any,
    groups: Any,
    dilation: Any,
    output_mask: Any,
) -> Grads:
    dy, x, w = _operands(grad_output, input, weight)
    stride, padding, output_padding, groups, dilation, shape = conv_transpose_output(
        x.shape, w.shape, stride, padding, output_padding, groups, dilation, rank
    )
    _check_grad_output(dy, shape)
    mask = _read_mask(output_mask)

    result = result_dtype(dy, x, w)
    if _nothing_to_sum(x, w):
        return _bias_gradient_alone(dy, x, w, rank, mask, result)
    dy, x, w = _common(kernel_dtype(result), dy, x, w)
    grads = _core.conv_transpose_backward(
        rank, dy, x, w, stride, padding, output_padding, groups, dilation, mask
    )
    return _in_dtype(_must(grads), result)


# --- checks ------------------------------------------------------------------------------------


def check_algorithm(name: Any, weight_shape: tuple[int, ...], layout: Layout) -> None:
    if not isinstance(name, str) or name not in ALGORITHMS:
        known = ", ".join(map(repr, ALGORITHMS))
        raise ValueError(f"algorithm: expected one of {known}, got {kind(name)}")
    if name != "winograd":
        return
    # The last two axes are transformed, each phase of their strides: see src_c/conv_winograd.h.
    axes = zip(weight_shape[2:], layout.stride, layout.dilation, strict=True)
    phases = [(k, stride // math.gcd(stride, dilation)) for k, stride, dilation in axes][-2:]
    taps = [-(-k // count) if k > 1 else 1 for k, count in phases]
    if max(taps) == 1 or any(k > t == 1 for (k, _), t in zip(phases, taps, strict=True)):
        raise ValueError(
            "algorithm: 'winograd' is for 2 or more taps along the last two axes in each phase of"
            f" the stride, got a kernel of {weight_shape[2:]}, stride {layout.stride} and dilation"
            f" {layout.dilation}"
        )


def check_bias(bias: Array | None, filters: int) -> None:
    if bias is not None and bias.shape != (filters,):
        wrong_shape("bias", f"shape ({filters},), one number for each filter", bias)


def _check_grad_output(dy: Array, shape: tuple[int, ...]) -> None:
    if dy.shape != shape:
        wrong_shape("grad_output", f"shape {shape}, that of the output", dy)


def _read_mask(value: Any) -> Mask:
    try:
        given = tuple(value)
    except TypeError:
        raise TypeError(f"output_mask: expected three booleans, got {kind(value)}") from None
    if not all(isinstance(flag, (bool, np.bool_)) for flag in given):
        raise TypeError(f"output_mask: expected three booleans, got {kind(value)}")
    if len(given) != 3:
        raise ValueError(f"output_mask: expected three booleans, got {kind(value)}")
    return bool(given[0]), bool(given[1]), bool(given[2])


def _must(result: Given | None) -> Given:
    """What `_core` gave, now that the case is the common one."""
    if result is None:
        raise RuntimeError("fastconv: internal error: a call that was checked was refused")
    return result


# --- operands and results ----------------------------------------------------------------------


def _operands(grad_output: Any, input: Any, weight: Any) -> tuple[Array, Array, Array]:
    return (
        as_array("grad_output", grad_output),
        as_array("input", input),
        as_array("weight", weight),
    )


def _common(dtype: DType, *arrays: Any) -> Any:
    """Each as the kernels read it, None left alone."""
    return [None if array is None else for_kernel(array, dtype) for array in arrays]


def _in_dtype(grads: Grads, dtype: DType) -> Grads:
    dx, dw, db = (None if g is None else g.astype(dtype, copy=False) for g in grads)
    return dx, dw, db


def _nothing_to_sum(x: Array, w: Array) -> bool:
    """No image, no channel or no filter?"""
    return x.size == 0 or w.size == 0


def _bias_alone(bias: Array | None, shape: tuple[int, ...], rank: int, dtype: DType) -> Array:
    y = np.zeros(shape, dtype)
    if bias is not None:
        y += bias.reshape(-1, *[1] * rank).astype(dtype)
    return y


def _bias_gradient_alone(
    dy: Array, x: Array, w: Array, rank: int, mask: Mask, dtype: DType
) -> Grads:
    dx = np.zeros(x.shape, dtype) if mask[0] else None
    dw = np.zeros(w.shape, dtype) if mask[1] else None
    if not mask[2]:
        return dx, dw, None
    others = tuple(axis for axis in range(dy.ndim) if axis != dy.ndim - rank - 1)
    return dx, dw, dy.sum(axis=others, dtype=np.float64).astype(dtype)
