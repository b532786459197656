"""Sequences as both recurrent networks take them: layouts, and the lengths of ragged ones."""

import numpy as np
from numpy.typing import ArrayLike

from .operands import Array, as_array, wrong_shape


def steps_first(array: Array, batch_first: bool) -> Array:
    """(T, n), (T, B, n) or (B, T, n) as (T, B, n)."""
    if array.ndim == 2:
        return array[:, None]
    return array.swapaxes(0, 1) if batch_first else array


def as_given(array: Array, batch_first: bool, unbatched: bool) -> Array:
    """And back: (T, B, n) in the layout of x."""
    if unbatched:
        return array[:, 0]
    return array.swapaxes(0, 1) if batch_first else array


def read_lengths(value: ArrayLike | None, T: int, B: int, unbatched: bool) -> Array | None:
    """Lengths (B,) as int64, each in 0 .. T; of one sequence without a batch a plain int, too.

    Raises
    ------
    TypeError
        If they are no integers.
    ValueError
        If there are not B of them, or one is out of range.
    """
    if value is None:
        return None
    lengths = as_array("lengths", value)
    if lengths.dtype.kind not in "iu" and lengths.size:
        raise TypeError(f"lengths: expected integers, got dtype {lengths.dtype}")
    if lengths.shape != (B,) and not (unbatched and lengths.shape == ()):
        wrong_shape("lengths", f"(B,) = {(B,)}", lengths)
    for length in lengths.flat:
        if not 0 <= length <= T:
            raise ValueError(f"lengths: expected 0 to T = {T}, got {length}")
    return np.array(lengths, np.int64).reshape(B)


def clean(x: Array, lengths: Array | None) -> Array:
    """x with zeros past every length: whatever stands there must reach nothing."""
    if lengths is None:
        return x
    return np.where((np.arange(len(x))[:, None] < lengths)[..., None], x, x.dtype.type(0))
