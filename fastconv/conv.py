"""Convolution in one, two and three dimensions, and its gradients.

Each function first hands its arguments to `_core` as they are. In the common case (arrays that
the kernels read in place, plain ints) that is all. Otherwise `_core` returns None, having
touched nothing, and conv_general.py says what is wrong, or puts the arguments into the common
form and hands them over again.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from numpy.typing import ArrayLike

from . import _core, conv_general
from .geometry import check_input, check_weight, conv_output, read_layout, read_shape
from .operands import Array

Axes = int | Sequence[int]
Padding = int | str | Sequence[int] | Sequence[tuple[int, int]]


class ConvGrads(NamedTuple):
    """Gradients of a loss with respect to the operands of a convolution.

    What `output_mask` leaves out is None and was not computed.
    """

    input: Array | None
    weight: Array | None
    bias: Array | None


# --- forward -----------------------------------------------------------------------------------


def conv1d(
    input: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    stride: Axes = 1,
    padding: Padding = 0,
    dilation: Axes = 1,
    groups: int = 1,
    *,
    algorithm: str = "auto",
    out: Array | None = None,
) -> Array:
    """Convolve along one axis: `conv2d` for `input` ([N,] C, length), `weight` (F, C / groups, K).

    Parameters, dtypes and errors are those of `conv2d`, with one spatial axis.

    Returns
    -------
    ndarray, shape ([N,] F, output length)

    Examples
    --------
    >>> import fastconv as fc
    >>> fc.conv1d([[1, 2, 4, 8, 16]], [[[-1, 1]]])  # differences of neighbours
    array([[1., 2., 4., 8.]])
    >>> fc.conv1d([[1, 2, 4, 8, 16]], [[[1, 1, 1]]], stride=2, padding="same")
    array([[ 3., 14., 24.]])
    """
    return _forward(1, input, weight, bias, stride, padding, dilation, groups, algorithm, out)


def conv2d(
    input: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    stride: Axes = 1,
    padding: Padding = 0,
    dilation: Axes = 1,
    groups: int = 1,
    *,
    algorithm: str = "auto",
    out: Array | None = None,
) -> Array:
    """Convolve images with filters, as every deep-learning library defines it.

    For stride s, dilation d and padding p before the image, along each spatial axis::

        y[n, f, o] = bias[f] + sum over c, r of input[n, c, o s + r d - p] weight[f, c, r]

    where `input` is zero outside. (It is a cross-correlation: filters are not flipped.) An axis
    of L cells becomes one of floor((L + before + after - d (K - 1) - 1) / s) + 1.

    Parameters
    ----------
    input : array_like, shape (N, C, height, width) or (C, height, width)
        Float32 and float64 are computed natively. Integers and booleans become float64; float16
        and bfloat16 (of ml_dtypes) are computed in float32 and come back in their own dtype;
        mixed dtypes follow `numpy.result_type`. Any strides, byte order and alignment.
    weight : array_like, shape (F, C / groups, kernel height, kernel width)
        The filters.
    bias : array_like, shape (F,), optional
        Added to every output of its channel.
    stride : int or (int, int)
        Cells from one output to the next.
    padding : int, (int, int), ((before, after), (before, after)), "valid" or "same"
        Zeros around the image: alike everywhere, or for each axis, or for each end. "valid" is
        none. "same" is as much as makes the output ceil(L / stride) long, an odd cell at the end.
    dilation : int or (int, int)
        Cells from one tap of the kernel to the next.
    groups : int
        Input and output channels are cut into so many groups, each convolved by itself;
        ``groups=C`` is a depthwise convolution.
    algorithm : str
        "direct" is the plain sum of products. "winograd" takes fewer, on sums of inputs, for
        2 or more taps along the last two axes in each phase of the stride; its float32 error
        stays under 4e-6 of the largest output (normal data, up to 512 channels). "auto" is the
        fastest that fits. The choice depends on shapes, geometry and dtype alone.
    out : ndarray, optional
        A C-contiguous array of the result's shape and dtype, which is written and returned. It
        must not share memory with an operand.

    Returns
    -------
    ndarray, shape ([N,] F, output height, output width)

    Raises
    ------
    TypeError
        If an operand is complex or no array of numbers, or an argument is of the wrong type.
    ValueError
        If shapes do not fit together, a value is out of range, the output would be empty, or
        `out` cannot take the result.
    MemoryError
        If there is not enough memory.

    See Also
    --------
    conv2d_backward : its gradients.
    prepare_conv : for weights that stay the same over many calls.

    References
    ----------
    V. Dumoulin and F. Visin, "A guide to convolution arithmetic for deep learning",
    https://arxiv.org/abs/1603.07285

    Examples
    --------
    >>> import fastconv as fc
    >>> import numpy as np
    >>> image = np.arange(16, dtype=np.float32).reshape(1, 4, 4)
    >>> mean = np.full((1, 1, 2, 2), 0.25, np.float32)
    >>> fc.conv2d(image, mean, stride=2)
    array([[[ 2.5,  4.5],
            [10.5, 12.5]]], dtype=float32)
    >>> fc.conv2d(image, mean, padding=((1, 0), (1, 0))).shape
    (1, 4, 4)
    """
    return _forward(2, input, weight, bias, stride, padding, dilation, groups, algorithm, out)


def conv3d(
    input: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    stride: Axes = 1,
    padding: Padding = 0,
    dilation: Axes = 1,
    groups: int = 1,
    *,
    algorithm: str = "auto",
    out: Array | None = None,
) -> Array:
    """Convolve volumes: `conv2d` with three spatial axes.

    `input` ([N,] C, depth, height, width), `weight` (F, C / groups, \\*kernel). Parameters, dtypes
    and errors are those of `conv2d`.

    Returns
    -------
    ndarray, shape ([N,] F, output depth, output height, output width)

    Examples
    --------
    >>> import fastconv as fc
    >>> import numpy as np
    >>> x, w = np.ones((2, 4, 4, 4)), np.ones((1, 2, 3, 3, 3))
    >>> fc.conv3d(x, w, stride=(1, 1, 2), padding=(0, 0, 1))
    array([[[[36., 54.],
             [36., 54.]],
    <BLANKLINE>
            [[36., 54.],
             [36., 54.]]]])
    """
    return _forward(3, input, weight, bias, stride, padding, dilation, groups, algorithm, out)


# --- backward ----------------------------------------------------------------------------------


def conv1d_backward(
    grad_output: ArrayLike,
    input: ArrayLike,
    weight: ArrayLike,
    stride: Axes = 1,
    padding: Padding = 0,
    dilation: Axes = 1,
    groups: int = 1,
    *,
    output_mask: Sequence[bool] = (True, True, True),
    algorithm: str = "auto",
) -> ConvGrads:
    """Gradients of `conv1d`: `conv2d_backward` with one spatial axis.

    Returns
    -------
    ConvGrads

    Examples
    --------
    >>> import fastconv as fc
    >>> grads = fc.conv1d_backward([[1, 0, 1]], [[1, 2, 4, 8]], [[[-1, 1]]])
    >>> grads.input
    array([[-1.,  1., -1.,  1.]])
    >>> grads.weight
    array([[[ 5., 10.]]])
    >>> grads.bias
    array([2.])
    """
    return _backward(
        1, grad_output, input, weight, stride, padding, dilation, groups, output_mask, algorithm
    )


def conv2d_backward(
    grad_output: ArrayLike,
    input: ArrayLike,
    weight: ArrayLike,
    stride: Axes = 1,
    padding: Padding = 0,
    dilation: Axes = 1,
    groups: int = 1,
    *,
    output_mask: Sequence[bool] = (True, True, True),
    algorithm: str = "auto",
) -> ConvGrads:
    """Gradients of `conv2d`, from the gradient of a loss with respect to its output.

    With dy for `grad_output`, stride s, dilation d and padding p before the image::

        input[n, c, i]  = sum over f, and o, r with o s + r d - p = i, of
                                                    dy[n, f, o] weight[f, c, r]
        weight[f, c, r] = sum over n, o of  dy[n, f, o] input[n, c, o s + r d - p]
        bias[f]         = sum over n, o of  dy[n, f, o]

    Parameters
    ----------
    grad_output : array_like, shape ([N,] F, output height, output width)
        Of the shape that `conv2d` gives for these arguments. Dtypes as for `conv2d`.
    input, weight, stride, padding, dilation, groups, algorithm
        As they were given to `conv2d`.
    output_mask : sequence of three bools
        Which gradients to compute: of the input, of the weight, of the bias.

    Returns
    -------
    ConvGrads
        A named tuple (input, weight, bias) of arrays, of the shapes of what they are gradients
        of; None where the mask says so.

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
    >>> x, w = np.ones((1, 1, 3, 3)), np.ones((1, 1, 2, 2))
    >>> grads = fc.conv2d_backward(np.ones((1, 1, 2, 2)), x, w, output_mask=(True, True, False))
    >>> grads.input
    array([[[[1., 2., 1.],
             [2., 4., 2.],
             [1., 2., 1.]]]])
    >>> grads.weight
    array([[[[4., 4.],
             [4., 4.]]]])
    >>> grads.bias is None
    True
    """
    return _backward(
        2, grad_output, input, weight, stride, padding, dilation, groups, output_mask, algorithm
    )


def conv3d_backward(
    grad_output: ArrayLike,
    input: ArrayLike,
    weight: ArrayLike,
    stride: Axes = 1,
    padding: Padding = 0,
    dilation: Axes = 1,
    groups: int = 1,
    *,
    output_mask: Sequence[bool] = (True, True, True),
    algorithm: str = "auto",
) -> ConvGrads:
    """Gradients of `conv3d`: `conv2d_backward` with three spatial axes.

    Returns
    -------
    ConvGrads

    Examples
    --------
    >>> import fastconv as fc
    >>> import numpy as np
    >>> x, w = np.ones((1, 2, 2, 2)), np.ones((3, 1, 1, 1, 1))
    >>> grads = fc.conv3d_backward(np.ones((3, 2, 2, 2)), x, w)
    >>> grads.input.ravel()
    array([3., 3., 3., 3., 3., 3., 3., 3.])
    >>> grads.bias
    array([8., 8., 8.])
    """
    return _backward(
        3, grad_output, input, weight, stride, padding, dilation, groups, output_mask, algorithm
    )


# --- shapes ------------------------------------------------------------------------------------


def conv_output_shape(
    input_shape: Sequence[int],
    weight_shape: Sequence[int],
    stride: Axes = 1,
    padding: Padding = 0,
    dilation: Axes = 1,
) -> tuple[int, ...]:
    """The shape of the output of a convolution, nothing computed.

    Parameters
    ----------
    input_shape : sequence of int
        ([N,] C, \\*spatial).
    weight_shape : sequence of int
        (F, C / groups, \\*kernel): the number of spatial axes and of groups follows from it.
    stride, padding, dilation
        As for `conv2d`.

    Returns
    -------
    tuple of int
        ([N,] F, \\*spatial).

    Raises
    ------
    TypeError
        If a shape is not a sequence of integers, or another argument of the wrong type.
    ValueError
        If the shapes do not fit together, a value is out of range or the output would be empty.

    Examples
    --------
    >>> import fastconv as fc
    >>> fc.conv_output_shape((1, 11, 17), (1, 1, 5, 3), stride=2)
    (1, 4, 8)
    """
    x, w = read_shape("input_shape", input_shape), read_shape("weight_shape", weight_shape)
    names = {"input": "input_shape", "weight": "weight_shape"}
    rank = check_weight(w, "F, C / groups", None, "weight_shape")
    channels = check_input(x, rank, "input_shape")
    groups = max(1, channels // w[1] if w[1] else 1)
    layout = read_layout(w, stride, padding, dilation, groups, weight="weight_shape")
    return conv_output(x, w, layout, **names)[1]


# --- the common case, and the way to every other -----------------------------------------------


def _forward(*call: Any) -> Array:
    y = _core.conv_forward(*call)
    return conv_general.forward(*call) if y is None else y


def _backward(*call: Any) -> ConvGrads:
    grads = _core.conv_backward(*call)
    return ConvGrads._make(conv_general.backward(*call) if grads is None else grads)
