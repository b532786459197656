"""How far a result may be from the float64 reference."""

import numpy as np


def assert_close(got, want, *, magnitude, terms, floor=0.0, what=""):
    """`got` is `want` (float64) up to the rounding of a sum of `terms` products.

    `magnitude` is that sum with every product's absolute value in its place: each of `terms`
    additions is off by at most eps / 2 of it, and such errors add like their square root.
    `floor` allows so many eps of the largest output besides. What is not finite must be the same.
    """
    assert got.shape == want.shape, f"{what}: shape {got.shape}, expected {want.shape}"
    assert_same_nonfinite(got, want, what)
    eps = np.finfo(got.dtype).eps
    finite = np.isfinite(want)
    largest = np.abs(want[finite]).max(initial=0)
    allowed = eps * ((1 + np.sqrt(terms)) * magnitude + floor * largest)
    error = np.abs(got - want, out=np.zeros(want.shape), where=finite)
    worst = np.unravel_index(np.argmax(error - allowed), error.shape) if error.size else None
    assert worst is None or error[worst] <= np.broadcast_to(allowed, error.shape)[worst], (
        f"{what}: at {worst} got {got[worst]!r}, expected {want[worst]!r}; "
        f"{np.count_nonzero(error > allowed)} of {error.size} are off"
    )


def assert_same_nonfinite(got, want, what=""):
    """NaN, infinity and minus infinity stand in the same places."""
    for name, kind in ("nan", np.isnan), ("inf", np.isposinf), ("-inf", np.isneginf):
        differ = np.argwhere(kind(got) != kind(want))
        assert not len(differ), (
            f"{what}: {name} differs at {len(differ)} places, first {tuple(differ[0])}: "
            f"got {got[tuple(differ[0])]}, expected {want[tuple(differ[0])]}"
        )


def assert_each_close(got, want, names, *, ulps):
    """Every result within so many eps of the largest number of its kind, or of the size of its
    terms, 1, where they cancel (a gradient of a softmax does)."""
    for name, a, b in zip(names, got, want, strict=True):
        assert a.shape == b.shape, f"{name}: shape {a.shape}, expected {b.shape}"
        allowed = ulps * np.finfo(a.dtype).eps * max(1.0, np.abs(b).max(initial=0))
        np.testing.assert_allclose(a, b, rtol=0, atol=allowed, err_msg=name)


def assert_each_same(got, want, names):
    """Every result the same, in dtype, shape and bits (but for the sign of a zero)."""
    for name, a, b in zip(names, got, want, strict=True):
        np.testing.assert_array_equal(a, b, err_msg=name, strict=True)
