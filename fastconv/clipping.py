"""Gradients that explode, cut down to a norm."""

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from .operands import Array, is_bfloat16, kind


def clip_grad_norm(grads: Any, max_norm: float) -> float:
    """Shrink gradients together, in place, until their common norm is at most `max_norm`.

    Parameters
    ----------
    grads : ndarray, or tuple, list or dict, nested at will
        Arrays of floats, such as the tuples that the backward functions return; None is passed
        over. An array that occurs twice counts once.
    max_norm : float
        At least 0. With infinity nothing is changed, and the norm is returned.

    Returns
    -------
    float
        The Euclidean norm over all of them before. Where it is not finite, nothing was changed:
        no factor would mend an infinity or a NaN.

    Raises
    ------
    TypeError
        If something in `grads` is neither an array of floats nor a container nor None, or
        `max_norm` is no number.
    ValueError
        If an array is read-only, or `max_norm` negative or NaN.

    References
    ----------
    R. Pascanu, T. Mikolov and Y. Bengio, "On the difficulty of training recurrent neural
    networks", https://arxiv.org/abs/1211.5063

    Examples
    --------
    >>> import fastconv as fc
    >>> import numpy as np
    >>> grads = (np.array([3.0]), {"bias": np.array([4.0]), "unused": None})
    >>> fc.clip_grad_norm(grads, 1.0)
    5.0
    >>> grads[0], grads[1]["bias"]
    (array([0.6]), array([0.8]))
    """
    if isinstance(max_norm, bool) or not isinstance(max_norm, (int, float, np.number)):
        raise TypeError(f"max_norm: expected a number, got {kind(max_norm)}")
    limit = float(max_norm)
    if not limit >= 0:
        raise ValueError(f"max_norm: expected a number of at least 0, got {limit}")
    arrays = list({id(array): array for array in _arrays(grads)}.values())
    for array in arrays:
        if not array.flags.writeable:
            raise ValueError(f"grads: expected writeable arrays, got a read-only one {array.shape}")
    norm = _norm(arrays)
    if limit < norm < math.inf:
        for array in arrays:
            array *= limit / norm
    return norm


def _arrays(grads: Any) -> Iterator[Array]:
    """The arrays in nested containers."""
    if isinstance(grads, np.ndarray):
        if grads.dtype.kind != "f" and not is_bfloat16(grads.dtype):
            raise TypeError(f"grads: expected arrays of floats, got dtype {grads.dtype}")
        yield grads
    elif isinstance(grads, (tuple, list, Mapping)):
        for part in grads.values() if isinstance(grads, Mapping) else grads:
            yield from _arrays(part)
    elif grads is not None:
        raise TypeError(f"grads: expected arrays, tuples, lists, dicts or None, got {kind(grads)}")


def _norm(arrays: list[Array]) -> float:
    """In float64; where squares leave its range, once more of numbers divided by the largest."""
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        total = sum(float(np.vdot(a, a)) for a in _as_float64(arrays))
        if 1e-280 < total < math.inf or math.isnan(total):
            return math.sqrt(total)
        largest = max((float(np.abs(a).max(initial=0.0)) for a in _as_float64(arrays)), default=0.0)
        if largest in (0.0, math.inf):
            return largest
        scaled = (a / largest for a in _as_float64(arrays))
        return largest * math.sqrt(sum(float(np.vdot(a, a)) for a in scaled))


def _as_float64(arrays: Iterable[Array]) -> Iterator[Array]:
    return (array.astype(np.float64).ravel() for array in arrays)
