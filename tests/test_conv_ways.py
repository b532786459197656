"""Every way to compute a pass, those too that the cost model seldom takes."""

import numpy as np
import pytest
from conv_cases import FAST_ALGORITHM_EPS, NAMED, Geometry, function, problem
from every_isa import every_isa_with_fma
from tolerance import assert_close

from fastconv import _core

# Beside the named ones Toeplitz forms: ragged strips, lines wholly in the padding, and a kernel of
# which the padding leaves one line; many channels, each cut into segments; columns in several
# boxes along each axis, ragged ones, and cells that no tap meets.
MORE = [
    Geometry((2, 3, 5000), (6, 1, 90), 1, ((89, 3),), 1, 3),
    Geometry((1, 2, 3, 700), (2, 1, 1, 100), 1, ((2, 1), (50, 49)), 1, 2),
    Geometry((2, 4, 1, 500), (4, 1, 3, 81), 1, (1, 40), 1, 4),
    Geometry((1, 40, 40, 43), (40, 1, 5, 5), 1, 24, 12, 40),
    Geometry((1, 17, 8, 40), (17, 1, 2, 9), (3, 1), (1, 4), 1, 17),
    Geometry((2, 17, 6, 4, 5), (17, 1, 5, 7, 3), 1, (2, 3, 1), 1, 17),
    Geometry((2, 2, 3011), (10, 1, 129), 2, ((90, 3),), 1, 2),
    Geometry((3, 3, 47, 61), (9, 3, 7, 9), (1, 2), (3, 0), (2, 1)),
    Geometry((1, 2, 13, 29, 20), (5, 2, 4, 3, 2), (2, 1, 3), (5, 1, 0)),
]
ALL = NAMED + MORE
DEPTHWISE = [g for g in ALL if g.input and g.weight[0] == g.groups == g.input[-1 - g.rank]]


@pytest.fixture(autouse=True)
def free_again():
    yield
    _core.force_way(None)


def results(p, way):
    """Output and gradients, each computed so where that fits."""
    _core.force_way(way)
    settings = dict(p.geometry.settings, algorithm="auto" if "winograd" in way else "direct")
    y = function("conv{}", p.geometry.rank)(p.x, p.w, p.b, **settings)
    return y, *function("conv{}_backward", p.geometry.rank)(p.dy, p.x, p.w, **settings)


@pytest.mark.parametrize("geometry", ALL, ids=str)
def test_every_way(geometry, dtype, isa):
    p = problem(geometry, dtype)
    for way in _core.WAYS:
        floor = FAST_ALGORITHM_EPS if "winograd" in way else 0
        y, *grads = results(p, way)
        assert_close(y, **p.forward, floor=floor)
        for got, want in zip(grads, p.backward.values(), strict=True):
            assert_close(got, **want, floor=floor)


@pytest.mark.parametrize("geometry", DEPTHWISE, ids=str)
def test_one_channel_has_one_order(geometry, dtype):
    """Output and input gradient of a depthwise layer have the same bits whatever computes them,
    but for the sign of a zero."""
    p = problem(geometry, dtype)
    ways = _core.WAYS[: _core.WAYS.index("winograd")]
    first, *others = (results(p, way)[:2] for _ in every_isa_with_fma() for way in ways)
    for other in others:
        for a, b in zip(first, other, strict=True):
            np.testing.assert_array_equal(a, b)
