"""A convolution whose weights stay: what depends on them alone is done once."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from . import _core, conv_general
from .conv import Axes, Padding
from .geometry import Layout, conv_output, read_layout, read_shape
from .operands import Array, as_array, common_dtype, kernel_dtype, optional_array, result_dtype


def prepare_conv(
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    stride: Axes = 1,
    padding: Padding = 0,
    dilation: Axes = 1,
    groups: int = 1,
    *,
    input_shape: Sequence[int] | None = None,
    algorithm: str = "auto",
) -> "PreparedConv":
    """A forward convolution with fixed weights, everything done once that depends on them alone.

    Parameters
    ----------
    weight, bias, stride, padding, dilation, groups, algorithm
        As for `conv1d`, `conv2d` and `conv3d`; which of them follows from ``weight.ndim``.
    input_shape : sequence of int, optional
        ([N,] C, \\*spatial): a hint for the choice of the algorithm, never a restriction.

    Returns
    -------
    PreparedConv
        Call it with ``(input, *, out=None)``.

    Raises
    ------
    TypeError, ValueError, MemoryError
        As `conv2d`.

    Examples
    --------
    >>> import fastconv as fc
    >>> import numpy as np
    >>> blur = fc.prepare_conv(np.full((1, 1, 3, 3), 1 / 9), padding="same")
    >>> blur(np.ones((1, 5, 5)))[0, 2]
    array([0.66666667, 1.        , 1.        , 1.        , 0.66666667])
    >>> blur.algorithm
    'direct'
    """
    return PreparedConv(weight, bias, stride, padding, dilation, groups, input_shape, algorithm)


class PreparedConv(_core.PreparedForward):
    """What `prepare_conv` returns: call it with an input, and perhaps ``out``.

    It holds a copy of the weights, never changes, can be pickled, and may be called from many
    threads at once.

    Attributes
    ----------
    algorithm : str
        The algorithm in use.
    nbytes : int
        Memory that it holds.
    """

    __slots__ = ("_algorithm", "_bias", "_dtype", "_layout", "_packed", "_rank", "_weight")

    _algorithm: str
    _bias: Array | None
    _dtype: np.dtype[Any]  # of weight and bias as they were given
    _layout: Layout
    _packed: Array | None  # the weights as the algorithm wants them, in bytes
    _rank: int
    _weight: Array

    def __init__(
        self,
        weight: ArrayLike,
        bias: ArrayLike | None,
        stride: Axes,
        padding: Padding,
        dilation: Axes,
        groups: int,
        input_shape: Sequence[int] | None,
        algorithm: str,
    ) -> None:
        w, b = as_array("weight", weight), optional_array("bias", bias)
        layout = read_layout(w.shape, stride, padding, dilation, groups)
        conv_general.check_algorithm(algorithm, w.shape, layout)
        conv_general.check_bias(b, w.shape[0])
        hint = None
        if input_shape is not None:
            hint = read_shape("input_shape", input_shape)
            conv_output(hint, w.shape, layout, input="input_shape")
        dtype = common_dtype(w, b)
        kept = kernel_dtype(result_dtype(dtype))
        kept_weight = np.array(w, kept, order="C")
        way = _core.conv_way(w.ndim - 2, hint, kept_weight, *layout, algorithm)
        self.__setstate__(
            {
                "_algorithm": "winograd" if way == "winograd" else "direct",
                "_bias": None if b is None else np.array(b, kept),
                "_dtype": dtype,
                "_layout": layout,
                "_rank": w.ndim - 2,
                "_weight": kept_weight,
            }
        )

    def general(self, input: Any, out: Array | None) -> Array:
        """A call that is not the common case."""
        return conv_general.forward(
            self._rank,
            input,
            self._weight,
            self._bias,
            *self._layout,
            self._algorithm,
            out,
            self._dtype,
            self._packed,
        )

    @property
    def algorithm(self) -> str:
        return self._algorithm

    @property
    def nbytes(self) -> int:
        arrays = self._weight, self._bias, self._packed
        return sum(array.nbytes for array in arrays if array is not None)

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"a PreparedConv never changes: cannot set {name!r}")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"a PreparedConv never changes: cannot delete {name!r}")

    def __getstate__(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__ if name != "_packed"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        stride, padding, dilation, groups = state["_layout"]
        packed = _core.pack_weights(
            state["_rank"],
            state["_weight"],
            stride,
            padding,
            dilation,
            groups,
            state["_algorithm"],
        )
        for name, value in {**state, "_packed": packed}.items():
            object.__setattr__(self, name, value)
            if isinstance(value, np.ndarray):
                value.flags.writeable = False
        self.keep(
            self._rank, self._weight, self._bias, *self._layout, self._algorithm, self._packed
        )

    def __repr__(self) -> str:
        stride, padding, dilation, groups = self._layout
        return (
            f"PreparedConv(weight {self._weight.shape} {self._dtype}, stride={stride},"
            f" padding={padding}, dilation={dilation}, groups={groups},"
            f" algorithm={self._algorithm!r})"
        )
