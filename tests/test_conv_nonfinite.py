"""NaN and infinity reach exactly the results that the equation names, and no others.

Padding is zeros that take part: a NaN in dy makes the gradient of a tap that lies in the padding
NaN, too. What is not finite in a weight may besides meet zeros that an algorithm adds.
"""

import numpy as np
import pytest
from conv_cases import (
    FAST_ALGORITHM_EPS,
    LONG,
    NAMED,
    Geometry,
    Problem,
    function,
    geometries,
    poison,
    problem,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from tolerance import assert_close, assert_same_nonfinite

from fastconv import reference

pytestmark = [
    pytest.mark.usefixtures("isa"),
    pytest.mark.filterwarnings("ignore:(invalid|overflow):RuntimeWarning"),
]

PLACES = [g for g in NAMED + LONG if 0 not in g.input] + [
    Geometry((1, 4, 300), (4, 1, 500), 1, 499, 1, 4),  # long, most taps in the padding
    Geometry((1, 2, 90), (2, 1, 40), 1, ((200, 0),), 1, 2),  # outputs that see padding alone
]


def check(p, algorithm):
    """All results, finite and not, are what the reference says."""
    geometry, floor = p.geometry, 0 if algorithm == "direct" else FAST_ALGORITHM_EPS
    y = function("conv{}", geometry.rank)(p.x, p.w, p.b, **geometry.settings, algorithm=algorithm)
    assert_close(y, **finite(p.forward), floor=floor)
    grads = function("conv{}_backward", geometry.rank)(
        p.dy, p.x, p.w, **geometry.settings, algorithm=algorithm
    )
    for name, expected in p.backward.items():
        assert_close(getattr(grads, name), **finite(expected), floor=floor)


def finite(expected):
    """The expectation with a magnitude that can be computed with where the result is not finite."""
    return expected | dict(magnitude=np.nan_to_num(expected["magnitude"], nan=0, posinf=0))


@pytest.mark.parametrize("operand", ["x", "dy", "b"])
@pytest.mark.parametrize("geometry", PLACES, ids=str)
def test_named_geometries(geometry, operand, dtype, algorithm):
    check(problem(geometry, dtype, operand, 2), algorithm)


@settings(max_examples=15)
@given(geometries(), st.sampled_from(["x", "dy", "b"]), st.integers(1, 3), st.integers(0, 99))
def test_drawn_geometries(dtype, algorithm, geometry, operand, count, seed):
    p = Problem(geometry, dtype)
    setattr(p, operand, poison(getattr(p, operand), count, seed))
    check(p, algorithm)


@pytest.mark.parametrize("geometry", PLACES, ids=str)
def test_weight(geometry, dtype, algorithm):
    """One bad weight reaches every output that it has a pixel for, and no other filter's."""
    p = problem(geometry, dtype, "w", 1)
    bad = (~np.isfinite(p.w)).astype(float)
    y = function("conv{}", geometry.rank)(p.x, p.w, p.b, **geometry.settings, algorithm=algorithm)
    dx = function("conv{}_backward", geometry.rank)(
        p.dy, p.x, p.w, **geometry.settings, algorithm=algorithm, output_mask=(True, False, False)
    ).input

    at_least = reference.conv2d(np.ones(p.x.shape), bad, **geometry.settings) > 0
    assert not np.isfinite(y[at_least]).any()
    filters = bad.any(axis=tuple(range(1, bad.ndim)))
    channel_axis = y.ndim - geometry.rank - 1
    assert np.isfinite(np.compress(~filters, y, axis=channel_axis)).all()

    at_least = (
        reference.conv2d_backward(
            np.ones(p.dy.shape), p.x.astype(float), bad, **geometry.settings
        ).input
        > 0
    )
    assert not np.isfinite(dx[at_least]).any()
    # dx[c] meets the weights [f, c] of its own group alone
    per_group = bad.reshape(geometry.groups, -1, *bad.shape[1:])
    channels = per_group.any(axis=(1, *range(3, per_group.ndim))).ravel()
    assert np.isfinite(np.compress(~channels, dx, axis=channel_axis)).all()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("kernel", [3, 31, 32, 64, 300])
def test_long_depthwise_every_place(kernel, value, dtype):
    """One bad sample reaches its kernel's length of outputs, wherever in the tile it stands."""
    length = 120
    w = np.ones((1, 1, kernel), dtype)
    settings = dict(padding=kernel - 1)
    for place in range(0, length, 7):
        x = np.zeros((1, 1, length), dtype)
        x[..., place] = value
        y = function("conv{}", 1)(x, w, **settings)
        want = reference.conv1d(x, w, **settings)
        assert_same_nonfinite(y, want, f"output, x[{place}] = {value}")

        dy = np.ones_like(y)
        dy[..., place] = value
        grads = function("conv{}_backward", 1)(dy, x * 0 if np.isnan(value) else x, w, **settings)
        wants = reference.conv1d_backward(dy, x * 0 if np.isnan(value) else x, w, **settings)
        assert_same_nonfinite(grads.input, wants.input, f"grad input, dy[{place}] = {value}")
        assert_same_nonfinite(grads.weight, wants.weight, f"grad weight, dy[{place}] = {value}")
