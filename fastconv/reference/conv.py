"""Convolution, its gradients, and the transposed convolution, in plain NumPy.

Three sums do everything. With x zero outside the image, per batch item and group,

    forward       y[f, o]     = sum over c, r of  W[f, c, r] x[c, o s + r d - p]
    grad_weight   dW[f, c, r] = sum over n, o of  dy[f, o] x[c, o s + r d - p]
    grad_input    dx[c, i]    = sum over f, o, r with o s + r d - p = i of  dy[f, o] W[f, c, r]

The first two are matrix products with the columns cols[(c, r), o] = x[c, o s + r d - p]; the
third is the product W^T dy, each element added back to the place its column was read from.
The transposed convolution is the same three sums with input and output exchanged.

One function serves every rank: the number of spatial axes is ``weight.ndim - 2``.
"""

from math import prod

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from ..conv import ConvGrads


def conv(
    input,
    weight,
    bias=None,
    stride=1,
    padding=0,
    dilation=1,
    groups=1,
    *,
    algorithm="auto",
    out=None,
):
    """y = b + W x; whatever ``algorithm`` says, by one matrix product over the columns."""
    x, w, b = _arrays(input, weight, bias)
    s, pads, d = _geometry(x, w, stride, padding, dilation)
    o = conv_output_shape(x.shape, w.shape, s, pads, d)[-len(s) :]

    y = _forward(_batched(x, w), w, s, pads, d, groups, o)
    if b is not None:
        y += b.reshape(-1, *[1] * len(s))
    return _result(y if x.ndim == w.ndim else y[0], out)


def conv_backward(
    grad_output,
    input,
    weight,
    stride=1,
    padding=0,
    dilation=1,
    groups=1,
    *,
    output_mask=(True, True, True),
    algorithm="auto",
):
    """The gradients of the loss with respect to x, W and b, from dy."""
    dy, x, w = _arrays(grad_output, input, weight)
    s, pads, d = _geometry(x, w, stride, padding, dilation)
    dyn, xn = _batched(dy, w), _batched(x, w)

    dx = dw = db = None
    if output_mask[0]:
        dx = _grad_input(dyn, w, s, pads, d, groups, xn.shape[2:]).reshape(x.shape)
    if output_mask[1]:
        dw = _grad_weight(dyn, xn, s, pads, d, groups, w.shape)
    if output_mask[2]:
        db = _grad_bias(dyn)
    return ConvGrads(dx, dw, db)


def conv_transpose(
    input, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1
):
    """The map from dy to dx of the convolution with this weight (C, F / groups, \\*kernel)."""
    x, w, b = _arrays(input, weight, bias)
    s, pads, d = _geometry(x, w, stride, padding, dilation)
    length, kernel = np.array(x.shape[-len(s) :]), np.array(w.shape[2:])
    o = (length - 1) * s - pads.sum(axis=1) + d * (kernel - 1) + output_padding + 1

    y = _grad_input(_batched(x, w), w, s, pads, d, groups, o)
    if b is not None:
        y += b.reshape(-1, *[1] * len(s))
    return y if x.ndim == w.ndim else y[0]


def conv_transpose_backward(
    grad_output,
    input,
    weight,
    stride=1,
    padding=0,
    output_padding=0,
    groups=1,
    dilation=1,
    *,
    output_mask=(True, True, True),
):
    """Its gradients: of the input the convolution itself, of the weight with dy and x exchanged."""
    dy, x, w = _arrays(grad_output, input, weight)
    s, pads, d = _geometry(x, w, stride, padding, dilation)
    dyn, xn = _batched(dy, w), _batched(x, w)

    dx = dw = db = None
    if output_mask[0]:
        dx = _forward(dyn, w, s, pads, d, groups, xn.shape[2:]).reshape(x.shape)
    if output_mask[1]:
        dw = _grad_weight(xn, dyn, s, pads, d, groups, w.shape)
    if output_mask[2]:
        db = _grad_bias(dyn)
    return ConvGrads(dx, dw, db)


def conv_output_shape(input_shape, weight_shape, stride=1, padding=0, dilation=1):
    """([N,] F, \\*O) with O = floor((L + before + after - d (K - 1) - 1) / s) + 1."""
    rank = len(weight_shape) - 2
    length, kernel = np.array(input_shape[-rank:]), np.array(weight_shape[2:])
    s, d = _per_axis(stride, rank), _per_axis(dilation, rank)
    pads = _pads(padding, length, kernel, s, d)
    o = (length + pads.sum(axis=1) - d * (kernel - 1) - 1) // s + 1
    return (*input_shape[: -rank - 1], weight_shape[0], *o.tolist())


conv1d = conv2d = conv3d = conv
conv1d_backward = conv2d_backward = conv3d_backward = conv_backward
conv_transpose1d = conv_transpose2d = conv_transpose3d = conv_transpose
conv_transpose1d_backward = conv_transpose2d_backward = conv_transpose3d_backward = (
    conv_transpose_backward
)


# The three sums. x (N, C, *L), w (F, C / G, *K), dy (N, F, *O); s, d (rank), pads (rank, 2).


def _forward(x, w, s, pads, d, groups, o):
    """y[f, o] = sum over c, r of W[f, c, r] x[c, o s + r d - p]: W cols."""
    n, f = len(x), len(w)
    cols = _columns(x, w.shape[2:], s, pads, d, groups, o)
    y = w.reshape(groups, f // groups, prod(w.shape[1:])) @ cols
    return y.reshape(n, f, *o)


def _grad_weight(dy, x, s, pads, d, groups, shape):
    """dW[f, c, r] = sum over n, o of dy[f, o] x[c, o s + r d - p]: dy cols^T."""
    n, f, *o = dy.shape
    cols = _columns(x, shape[2:], s, pads, d, groups, o)
    dy = dy.reshape(n, groups, f // groups, prod(o))
    return (dy @ cols.swapaxes(-1, -2)).sum(axis=0).reshape(shape)


def _grad_input(dy, w, s, pads, d, groups, length):
    """dx[c, i] = sum over f, o, r with o s + r d - p = i of dy[f, o] W[f, c, r]: W^T dy."""
    n, f, *o = dy.shape
    _, c, *kernel = w.shape
    w = w.reshape(groups, f // groups, prod(w.shape[1:]))
    cols = w.swapaxes(-1, -2) @ dy.reshape(n, groups, f // groups, prod(o))
    cols = cols.reshape(n, groups * c, *kernel, *o)

    before, after = pads.T
    reached = d * np.subtract(kernel, 1) + s * np.subtract(o, 1) + 1
    padded = np.zeros((n, groups * c, *np.maximum(before + length + after, reached)), cols.dtype)
    for r in np.ndindex(*kernel):
        padded[:, :, *_slices(r * d, o, s)] += cols[:, :, *r]
    return np.ascontiguousarray(padded[:, :, *_slices(before, length, 1)])


def _grad_bias(dy):
    """db[f] = sum over n, o of dy[f, o]."""
    return dy.sum(axis=(0, *range(2, dy.ndim)))


def _columns(x, kernel, s, pads, d, groups, o):
    """cols[n, g, (c, r), o] = x[n, g, c, o s + r d - p], zero outside the image."""
    n, c, *length = x.shape
    axes = range(2, 2 + len(length))
    x = np.pad(x, [(0, 0), (0, 0), *pads])
    # (N, C, every start, every cell from there) -> (N, C, *O, *K) -> (N, C, *K, *O)
    windows = sliding_window_view(x, d * np.subtract(kernel, 1) + 1, axes)
    windows = windows[:, :, *_slices(0, o, s), *_slices(0, kernel, d)]
    windows = np.moveaxis(windows, axes, range(-len(o), 0))
    return windows.reshape(n, groups, c // groups * prod(kernel), prod(o))


def _slices(start, count, step):
    """One for each axis: `count` cells from `start`, `step` apart."""
    stop = start + np.subtract(count, 1) * step + 1
    return tuple(map(slice, *np.broadcast_arrays(start, stop, step)))


# Arguments.


def _arrays(*arrays):
    """All of one floating dtype, None left alone."""
    arrays = [None if a is None else np.asarray(a) for a in arrays]
    dtype = np.result_type(*(a for a in arrays if a is not None))
    if dtype.kind in "biu":
        dtype = np.dtype(np.float64)
    return [None if a is None else a.astype(dtype, copy=False) for a in arrays]


def _batched(array, weight):
    return array if array.ndim == weight.ndim else array[np.newaxis]


def _per_axis(value, rank):
    return np.broadcast_to(value, rank)


def _geometry(x, w, stride, padding, dilation):
    """Stride, (before, after) and dilation, one for each spatial axis."""
    rank = w.ndim - 2
    s, d = _per_axis(stride, rank), _per_axis(dilation, rank)
    return s, _pads(padding, np.array(x.shape[-rank:]), np.array(w.shape[2:]), s, d), d


def _pads(padding, length, kernel, s, d):
    """(before, after) for each axis."""
    if isinstance(padding, str):
        o = -(-length // s)  # "same": ceil(L / s), the odd cell after
        total = np.maximum((o - 1) * s + d * (kernel - 1) + 1 - length, 0) * (padding == "same")
        return np.stack([total // 2, total - total // 2], axis=1)
    if np.ndim(padding) == 1:  # one for each axis
        padding = np.reshape(padding, (-1, 1))
    return np.broadcast_to(padding, (len(length), 2))


def _result(y, out):
    if out is None:
        return y
    out[...] = y
    return out
