"""Operands: from whatever a caller gives to arrays that the kernels read, or a clear error.

The common case never comes here: `_core` recognises it by itself.
"""

import operator
from typing import Any, NoReturn

import numpy as np
from numpy.typing import ArrayLike

FLOAT32 = np.dtype(np.float32)
FLOAT64 = np.dtype(np.float64)
FLOAT16 = np.dtype(np.float16)
INT32_MAX = 2**31 - 1

Array = np.ndarray[Any, np.dtype[Any]]


def as_array(name: str, value: ArrayLike) -> Array:
    """`value` as an array of real numbers that we know how to compute with.

    Raises
    ------
    TypeError
        If NumPy can make no array of it, or one that holds no real numbers of at most 64 bits.
    ValueError
        If it is a ragged sequence.
    """
    try:
        array = np.asarray(value)
    except MemoryError:
        raise
    except ValueError as error:
        raise ValueError(f"{name}: expected an array, got {kind(value)}: {error}") from error
    except Exception as error:
        raise TypeError(f"{name}: expected an array, got {kind(value)}: {error}") from error
    if not _is_real(array.dtype):
        what = kind(value) if array.dtype == object else f"dtype {array.dtype}"
        raise TypeError(
            f"{name}: expected an array of float16, bfloat16, float32, float64, integers or"
            f" booleans, got {what}"
        )
    return array


def optional_array(name: str, value: ArrayLike | None) -> Array | None:
    """`as_array`, None left alone."""
    return None if value is None else as_array(name, value)


def _is_real(dtype: np.dtype[Any]) -> bool:
    return dtype.kind in "biu" or (dtype.kind == "f" and dtype.itemsize <= 8) or is_bfloat16(dtype)


def is_bfloat16(dtype: np.dtype[Any]) -> bool:
    """Is it the bfloat16 of ml_dtypes (which we need not import to know)?"""
    return dtype.name == "bfloat16"


def common_dtype(*operands: Array | np.dtype[Any] | None) -> np.dtype[Any]:
    """`np.result_type`, in native byte order; None does not count."""
    dtypes = [o.dtype if isinstance(o, np.ndarray) else o for o in operands if o is not None]
    try:
        dtype = np.result_type(*dtypes)
    except TypeError:  # for bfloat16 with float16 or large integers NumPy has no answer
        dtype = np.result_type(*(FLOAT32 if is_bfloat16(dtype) else dtype for dtype in dtypes))
    return dtype.newbyteorder("=")


def result_dtype(*operands: Array | np.dtype[Any] | None) -> np.dtype[Any]:
    """The dtype in which results come back: the common one, float64 for integers and booleans."""
    dtype = common_dtype(*operands)
    return FLOAT64 if dtype.kind in "biu" else dtype


def kernel_dtype(result: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype to compute in for results of dtype `result`: halves in float32."""
    return FLOAT32 if result == FLOAT16 or is_bfloat16(result) else result


def for_kernel(array: Array, dtype: np.dtype[Any]) -> Array:
    """`array` as the kernels read it: plain ndarray, `dtype`, C-contiguous, aligned, native.

    The array itself where it is so already, else a copy. It is never written to.
    """
    array = np.asarray(array, dtype=dtype, order="C")
    return array if array.flags.aligned else array.copy(order="C")


def integer(name: str, value: Any, *, minimum: int, maximum: int = INT32_MAX) -> int:
    """`value` as an int between `minimum` and `maximum`.

    Raises
    ------
    TypeError
        If it is no integer (booleans are none).
    ValueError
        If it is out of range.
    """
    if isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name}: expected an integer, got {value!r}")
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name}: expected an integer, got {kind(value)}") from None
    if number < minimum:
        raise ValueError(f"{name}: expected at least {minimum}, got {number}")
    if number > maximum:
        raise ValueError(f"{name}: expected at most {maximum}, got {number}")
    return number


def positive_int(name: str, value: Any) -> int:
    """`integer` with 1 as the minimum."""
    return integer(name, value, minimum=1)


def flag(name: str, value: Any) -> bool:
    """`value` as a bool.

    Raises
    ------
    TypeError
        If it is none.
    """
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name}: expected a bool, got {kind(value)}")
    return bool(value)


def wrong_shape(name: str, expected: str, array: Array) -> NoReturn:
    """Raise the ValueError for an array of the wrong shape."""
    raise ValueError(f"{name}: expected {expected}, got shape {array.shape}")


def check_out(
    out: Any, shape: tuple[int, ...], dtype: np.dtype[Any], **inputs: Array | None
) -> None:
    """Raise unless `out` can take a result of this shape and dtype made from `inputs`.

    Raises
    ------
    TypeError
        If it is not an array, or of another dtype.
    ValueError
        If its shape or layout is wrong, it is read-only, or it shares memory with an input.
    """
    if not isinstance(out, np.ndarray):
        raise TypeError(f"out: expected a NumPy array, got {kind(out)}")
    if out.dtype != dtype or not out.dtype.isnative:
        raise TypeError(f"out: expected dtype {dtype}, got {out.dtype!r}")
    if out.shape != shape:
        wrong_shape("out", f"shape {shape}", out)
    if not out.flags.c_contiguous or not out.flags.aligned:
        raise ValueError(f"out: expected a C-contiguous, aligned array, got strides {out.strides}")
    if not out.flags.writeable:
        raise ValueError("out: expected a writeable array, got a read-only one")
    for name, array in inputs.items():
        if array is not None and np.may_share_memory(out, array, max_work=1000):  # type: ignore[arg-type]
            raise ValueError(f"out: expected memory of its own, got an array that overlaps {name}")


def kind(value: Any) -> str:
    """What `value` is, for an error message."""
    name = type(value).__name__
    text = repr(value)
    return f"{name} {text}" if len(text) <= 40 and "\n" not in text else name
