"""The geometry of a convolution: reads stride, padding, dilation and groups, says what is wrong.

The common case never comes here: `_core` reads it by itself.
"""

from collections.abc import Sequence
from math import prod
from typing import Any, NamedTuple

import numpy as np

from .operands import integer, kind, positive_int

# The kernels count in 64 bits: what is larger than any memory is turned away before.
BYTES_LIMIT = 2**60

Shape = tuple[int, ...]
Pair = tuple[int, int]
AXES = {1: "length", 2: "height, width", 3: "depth, height, width"}


class Layout(NamedTuple):
    """How a kernel is laid over images, one entry for each spatial axis. What `_core` takes."""

    stride: Shape
    padding: tuple[Pair, ...] | str  # "same" depends on the image
    dilation: Shape
    groups: int


def read_layout(
    weight_shape: Shape,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: Any,
    *,
    rank: int | None = None,
    weight: str = "weight",
) -> Layout:
    """The layout of a convolution with filters (F, C / groups, *kernel), all of it checked.

    The rank is that of the weight where it is not given; `weight` is its name in errors.
    """
    rank = check_weight(weight_shape, "F, C / groups", rank, weight)
    groups = positive_int("groups", groups)
    if weight_shape[0] % groups:
        raise ValueError(
            f"groups: expected a divisor of the {weight_shape[0]} filters of {weight}, got {groups}"
        )
    return Layout(
        _per_axis("stride", stride, rank, 1),
        _padding(padding, rank),
        _per_axis("dilation", dilation, rank, 1),
        groups,
    )


def conv_output(
    input_shape: Shape,
    weight_shape: Shape,
    layout: Layout,
    *,
    input: str = "input",
    weight: str = "weight",
) -> tuple[tuple[Pair, ...], Shape]:
    """The padding in numbers, and the shape of the output, or a ValueError."""
    rank, kernel = len(layout.stride), weight_shape[2:]
    channels = check_input(input_shape, rank, input)
    if channels % layout.groups:
        raise ValueError(
            f"groups: expected a divisor of the {channels} channels of {input}, got {layout.groups}"
        )
    if weight_shape[1] * layout.groups != channels:
        raise ValueError(
            f"{weight}: expected {channels // layout.groups} channels (axis 1) for {channels}"
            f" channels of {input} and groups={layout.groups}, got shape {weight_shape}"
        )
    lengths = input_shape[-rank:]
    pads = _in_numbers(layout, lengths, kernel)
    output = []
    for axis, ((before, after), length, k, s, d) in enumerate(
        zip(pads, lengths, kernel, layout.stride, layout.dilation, strict=True)
    ):
        span = d * (k - 1) + 1
        cells = length + before + after
        if span > cells:
            raise ValueError(
                f"{input}: expected at least {span - before - after} cells along spatial axis"
                f" {axis} for a kernel of {k} with dilation {d} and padding ({before}, {after}),"
                f" got shape {input_shape}: the output would be empty"
            )
        output.append((cells - span) // s + 1)
    output_shape = (*input_shape[: -rank - 1], weight_shape[0], *output)
    _check_sizes(input_shape, pads)
    _check_sizes(output_shape)
    return pads, output_shape


def conv_transpose_output(
    input_shape: Shape,
    weight_shape: Shape,
    stride: Any,
    padding: Any,
    output_padding: Any,
    groups: Any,
    dilation: Any,
    rank: int,
) -> tuple[Shape, tuple[Pair, ...], Shape, int, Shape, Shape]:
    """Stride, padding, output padding, groups and dilation of a transposed convolution with
    filters (C, F / groups, *kernel), as `_core` takes them, and the shape of its output."""
    check_weight(weight_shape, "C, F / groups", rank)
    channels = check_input(input_shape, rank)
    groups = positive_int("groups", groups)
    if channels % groups:
        raise ValueError(
            f"groups: expected a divisor of the {channels} channels of input, got {groups}"
        )
    if weight_shape[0] != channels:
        raise ValueError(
            f"weight: expected {channels} channels (axis 0), as many as input has,"
            f" got shape {weight_shape}"
        )
    if isinstance(padding, str):
        raise ValueError(f"padding: expected numbers for a transposed convolution, got {padding!r}")
    pads = _padding(padding, rank)
    assert not isinstance(pads, str)
    stride = _per_axis("stride", stride, rank, 1)
    dilation = _per_axis("dilation", dilation, rank, 1)
    extra = _per_axis("output_padding", output_padding, rank, 0)
    output = []
    for axis, (length, (before, after), k, s, d, e) in enumerate(
        zip(input_shape[-rank:], pads, weight_shape[2:], stride, dilation, extra, strict=True)
    ):
        if e >= max(s, d):
            raise ValueError(
                f"output_padding: expected less than stride {s} or dilation {d} along spatial"
                f" axis {axis}, got {e}"
            )
        whole = (length - 1) * s + d * (k - 1) + e + 1
        if before + after >= whole:
            raise ValueError(
                f"padding: expected less than {whole} cells in all along spatial axis {axis},"
                f" got ({before}, {after}): the output would be empty"
            )
        output.append(whole - before - after)
    output_shape = (*input_shape[: -rank - 1], weight_shape[1] * groups, *output)
    _check_sizes(output_shape, pads)
    return stride, pads, extra, groups, dilation, output_shape


def check_weight(shape: Shape, channels: str, rank: int | None, weight: str = "weight") -> int:
    """Raise unless filters of this shape have `rank` spatial axes (or any); returns the rank."""
    if rank is None:
        rank = len(shape) - 2
        if rank not in AXES:
            raise ValueError(
                f"{weight}: expected 3, 4 or 5 axes ({channels}, *kernel), got shape {shape}"
            )
    if len(shape) != rank + 2:
        raise ValueError(
            f"{weight}: expected {rank + 2} axes ({channels}, {AXES[rank]} of the kernel),"
            f" got shape {shape}"
        )
    if min(shape[2:]) < 1:
        raise ValueError(
            f"{weight}: expected a kernel of at least 1 along every axis, got shape {shape}"
        )
    return rank


def check_input(shape: Shape, rank: int, input: str = "input") -> int:
    """Raise unless `shape` is one of images with `rank` spatial axes; returns the channels."""
    if len(shape) not in (rank + 1, rank + 2):
        raise ValueError(
            f"{input}: expected {rank + 2} axes (N, C, {AXES[rank]}) or {rank + 1} without N,"
            f" got shape {shape}"
        )
    return shape[-rank - 1]


def read_shape(name: str, value: Any) -> Shape:
    """A shape that was given as such."""
    if not _is_sequence(value):
        raise TypeError(f"{name}: expected a sequence of integers, got {kind(value)}")
    return tuple(
        integer(f"{name}[{i}]", n, minimum=0, maximum=2**63 - 1) for i, n in enumerate(value)
    )


def _per_axis(name: str, value: Any, rank: int, minimum: int) -> Shape:
    """An int for all spatial axes, or one for each."""
    if not _is_sequence(value):
        return (integer(name, value, minimum=minimum),) * rank
    if len(value) != rank:
        raise ValueError(f"{name}: expected an int or {rank} of them, got {value!r}")
    return tuple(integer(f"{name}[{i}]", v, minimum=minimum) for i, v in enumerate(value))


def _padding(value: Any, rank: int) -> tuple[Pair, ...] | str:
    """An int for all spatial axes, or for each one int or one pair, or a word."""
    if isinstance(value, str):
        if value not in ("same", "valid"):
            raise ValueError(f"padding: expected numbers, 'same' or 'valid', got {value!r}")
        return value
    if _is_sequence(value) and len(value) == rank and all(_is_sequence(v) for v in value):
        pairs = [_per_axis(f"padding[{i}]", pair, 2, 0) for i, pair in enumerate(value)]
        return tuple((before, after) for before, after in pairs)
    if _is_sequence(value) and len(value) != rank:
        raise ValueError(
            "padding: expected an int, or one int or one pair (before, after) for each of"
            f" {rank} spatial axes, got {value!r}"
        )
    return tuple((p, p) for p in _per_axis("padding", value, rank, 0))


def _in_numbers(layout: Layout, lengths: Shape, kernel: Shape) -> tuple[Pair, ...]:
    """The padding, "same" and "valid" worked out."""
    if not isinstance(layout.padding, str):
        return layout.padding
    if layout.padding == "valid":
        return ((0, 0),) * len(lengths)
    pads = []
    for length, k, s, d in zip(lengths, kernel, layout.stride, layout.dilation, strict=True):
        # So much that the output has ceil(length / s) cells; the odd cell goes after.
        total = max((-(-length // s) - 1) * s + d * (k - 1) + 1 - length, 0)
        pads.append((total // 2, total - total // 2))
    return tuple(pads)


def _is_sequence(value: Any) -> bool:
    if isinstance(value, np.ndarray):
        return value.ndim > 0
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes))


def _check_sizes(shape: Shape, pads: Sequence[Pair] = ()) -> None:
    lengths = list(shape)
    for axis, (before, after) in enumerate(pads, start=len(shape) - len(pads)):
        lengths[axis] += before + after
    if prod(lengths) * 8 >= BYTES_LIMIT:
        what = "an output" if not pads else "a padded image"
        raise ValueError(
            f"padding: expected arrays of less than 2^60 bytes, got {what} of shape"
            f" {tuple(lengths)}"
        )
