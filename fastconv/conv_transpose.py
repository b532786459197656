"""Transposed convolution in one, two and three dimensions, and its gradients.

It is the input gradient of a convolution, with its operands' roles exchanged, and its gradients
are a convolution and a convolution's weight gradient. As in conv.py, `_core` is asked first.
"""

from collections.abc import Sequence
from typing import Any

from numpy.typing import ArrayLike

from . import _core, conv_general
from .conv import Axes, ConvGrads, Padding
from .operands import Array


def conv_transpose1d(
    input: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    stride: Axes = 1,
    padding: Padding = 0,
    output_padding: Axes = 0,
    groups: int = 1,
    dilation: Axes = 1,
) -> Array:
    """Transposed convolution along one axis: `conv_transpose2d` with one spatial axis.

    Returns
    -------
    ndarray, shape ([N,] F, output length)

    Examples
    --------
    >>> import fastconv as fc
    >>> fc.conv_transpose1d([[1, 2, 3]], [[[1, 10]]], stride=2)
    array([[ 1., 10.,  2., 20.,  3., 30.]])
    """
    return _transpose_forward(
        1, input, weight, bias, stride, padding, output_padding, groups, dilation
    )


def conv_transpose2d(
    input: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    stride: Axes = 1,
    padding: Padding = 0,
    output_padding: Axes = 0,
    groups: int = 1,
    dilation: Axes = 1,
) -> Array:
    """Transposed convolution: each input cell lays its copy of the kernel into the output.

    It is the map from the gradient of the output to that of the input of the convolution with
    this weight::

        y[n, f, i] = bias[f] + sum over c, and o, r with o s + r d - p = i, of
                               input[n, c, o] weight[c, f, r]

    An axis of L cells becomes one of (L - 1) s - before - after + d (K - 1) + output_padding + 1.

    Parameters
    ----------
    input : array_like, shape (N, C, height, width) or (C, height, width)
        Dtypes as for `conv2d`.
    weight : array_like, shape (C, F / groups, kernel height, kernel width)
        The filters.
    bias : array_like, shape (F,), optional
        Added to every output of its channel.
    stride, dilation : int or (int, int)
        As of the convolution that this one transposes.
    padding : int, (int, int) or ((before, after), (before, after))
        Cells cut off the output.
    output_padding : int or (int, int)
        Cells added at the end of each axis, less than stride or dilation: a convolution with
        stride s maps s lengths to one, this picks among them.
    groups : int
        As for `conv2d`.

    Returns
    -------
    ndarray, shape ([N,] F, output height, output width)

    Raises
    ------
    TypeError, ValueError, MemoryError
        As `conv2d`.

    References
    ----------
    V. Dumoulin and F. Visin, "A guide to convolution arithmetic for deep learning",
    https://arxiv.org/abs/1603.07285

    Examples
    --------
    >>> import fastconv as fc
    >>> import numpy as np
    >>> fc.conv_transpose2d([[[1, 2]]], np.ones((1, 1, 2, 2)), stride=2)
    array([[[1., 1., 2., 2.],
            [1., 1., 2., 2.]]])
    """
    return _transpose_forward(
        2, input, weight, bias, stride, padding, output_padding, groups, dilation
    )


def conv_transpose3d(
    input: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    stride: Axes = 1,
    padding: Padding = 0,
    output_padding: Axes = 0,
    groups: int = 1,
    dilation: Axes = 1,
) -> Array:
    """Transposed convolution of volumes: `conv_transpose2d` with three spatial axes.

    Returns
    -------
    ndarray, shape ([N,] F, output depth, output height, output width)

    Examples
    --------
    >>> import fastconv as fc
    >>> import numpy as np
    >>> fc.conv_transpose3d(np.ones((4, 2, 3, 3)), np.ones((4, 1, 2, 2, 2)), stride=2).shape
    (1, 4, 6, 6)
    """
    return _transpose_forward(
        3, input, weight, bias, stride, padding, output_padding, groups, dilation
    )


def conv_transpose1d_backward(
    grad_output: ArrayLike,
    input: ArrayLike,
    weight: ArrayLike,
    stride: Axes = 1,
    padding: Padding = 0,
    output_padding: Axes = 0,
    groups: int = 1,
    dilation: Axes = 1,
    *,
    output_mask: Sequence[bool] = (True, True, True),
) -> ConvGrads:
    """Gradients of `conv_transpose1d`: `conv_transpose2d_backward` with one spatial axis.

    Returns
    -------
    ConvGrads

    Examples
    --------
    >>> import fastconv as fc
    >>> grads = fc.conv_transpose1d_backward([[1, 2, 3, 4]], [[1, 1]], [[[1, 10]]], stride=2)
    >>> grads.input
    array([[21., 43.]])
    >>> grads.weight
    array([[[4., 6.]]])
    """
    return _transpose_backward(
        1,
        grad_output,
        input,
        weight,
        stride,
        padding,
        output_padding,
        groups,
        dilation,
        output_mask,
    )


def conv_transpose2d_backward(
    grad_output: ArrayLike,
    input: ArrayLike,
    weight: ArrayLike,
    stride: Axes = 1,
    padding: Padding = 0,
    output_padding: Axes = 0,
    groups: int = 1,
    dilation: Axes = 1,
    *,
    output_mask: Sequence[bool] = (True, True, True),
) -> ConvGrads:
    """Gradients of `conv_transpose2d`, from the gradient of a loss with respect to its output.

    With dy for `grad_output`, stride s, dilation d and padding p before::

        input[n, c, o]  = sum over f, r of  dy[n, f, o s + r d - p] weight[c, f, r]
        weight[c, f, r] = sum over n, o of  dy[n, f, o s + r d - p] input[n, c, o]
        bias[f]         = sum over n, i of  dy[n, f, i]

    Parameters
    ----------
    grad_output : array_like, shape ([N,] F, output height, output width)
        Of the shape that `conv_transpose2d` gives for these arguments. Dtypes as for `conv2d`.
    input, weight, stride, padding, output_padding, groups, dilation
        As they were given to `conv_transpose2d`.
    output_mask : sequence of three bools
        Which gradients to compute: of the input, of the weight, of the bias.

    Returns
    -------
    ConvGrads
        A named tuple (input, weight, bias) of arrays, None where the mask says so.

    Raises
    ------
    TypeError, ValueError, MemoryError
        As `conv2d`.

    Examples
    --------
    >>> import fastconv as fc
    >>> import numpy as np
    >>> x, w = np.ones((1, 1, 2)), np.ones((1, 1, 2, 2))
    >>> grads = fc.conv_transpose2d_backward(np.ones((1, 2, 4)), x, w, stride=2)
    >>> grads.input
    array([[[4., 4.]]])
    >>> grads.bias
    array([8.])
    """
    return _transpose_backward(
        2,
        grad_output,
        input,
        weight,
        stride,
        padding,
        output_padding,
        groups,
        dilation,
        output_mask,
    )


def conv_transpose3d_backward(
    grad_output: ArrayLike,
    input: ArrayLike,
    weight: ArrayLike,
    stride: Axes = 1,
    padding: Padding = 0,
    output_padding: Axes = 0,
    groups: int = 1,
    dilation: Axes = 1,
    *,
    output_mask: Sequence[bool] = (True, True, True),
) -> ConvGrads:
    """Gradients of `conv_transpose3d`: `conv_transpose2d_backward` with three spatial axes.

    Returns
    -------
    ConvGrads

    Examples
    --------
    >>> import fastconv as fc
    >>> import numpy as np
    >>> x, w = np.ones((1, 1, 1, 2)), np.ones((1, 1, 2, 2, 2))
    >>> fc.conv_transpose3d_backward(np.ones((1, 2, 2, 4)), x, w, stride=2).input
    array([[[[8., 8.]]]])
    """
    return _transpose_backward(
        3,
        grad_output,
        input,
        weight,
        stride,
        padding,
        output_padding,
        groups,
        dilation,
        output_mask,
    )


# --- the common case, and the way to every other -----------------------------------------------


def _transpose_forward(*call: Any) -> Array:
    y = _core.conv_transpose_forward(*call)
    return conv_general.transpose_forward(*call) if y is None else y


def _transpose_backward(*call: Any) -> ConvGrads:
    grads = _core.conv_transpose_backward(*call)
    return ConvGrads._make(conv_general.transpose_backward(*call) if grads is None else grads)
