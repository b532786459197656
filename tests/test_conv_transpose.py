"""The transposed convolution and its gradients."""

import functools
import math

import numpy as np
import pytest
from conv_cases import FAST_ALGORITHM_EPS
from hypothesis import given
from hypothesis import strategies as st
from tolerance import assert_close

import fastconv as fc
from fastconv import reference

pytestmark = pytest.mark.usefixtures("isa", "threads")

# input, weight (C, F / groups, *kernel), stride, padding, output_padding, groups, dilation
CASES = [
    ((1, 1, 1), (1, 1, 1), 1, 0, 0, 1, 1),
    ((2, 3, 5), (3, 4, 3), 2, 1, 1, 1, 1),
    ((3, 5), (3, 4, 3), 2, 1, 0, 1, 1),  # unbatched
    ((0, 3, 5, 5), (3, 4, 3, 3), 2, 1, 0, 1, 1),  # no images
    ((2, 16, 9, 11), (16, 24, 4, 4), 2, 1, 0, 1, 1),  # the usual doubling
    ((1, 33, 14, 15), (33, 17, 3, 3), 2, ((1, 0), (0, 2)), (1, 0), 1, 1),
    ((2, 12, 7, 8), (12, 5, 3, 2), (3, 1), 0, (2, 0), 4, (1, 2)),  # groups
    ((1, 6, 9, 9), (6, 1, 3, 3), 2, 1, 1, 6, 1),  # depthwise
    ((1, 6, 9, 9), (6, 3, 5, 5), 1, 2, 0, 6, 1),
    ((1, 4, 5, 5), (4, 3, 2, 2), 4, 0, 3, 1, 1),  # holes between the windows
    ((1, 4, 5, 5), (4, 3, 2, 2), 1, 0, 2, 1, 3),  # output_padding above the stride
    ((1, 4, 12, 13), (4, 3, 3, 3), 1, 6, 0, 1, 4),
    ((1, 4, 3, 4, 5), (4, 3, 3, 2, 3), (2, 1, 2), (1, 0, 1), (1, 0, 0), 1, 1),
    ((2, 3, 200), (3, 1, 64), 1, 63, 0, 3, 1),  # long depthwise
    ((1, 2, 100), (2, 1, 100), 3, 0, 2, 2, 1),
    ((2, 6, 1, 40), (6, 5, 11, 1), 1, 0, 0, 2, 1),  # one cell, covered by the kernel
    ((3, 8, 1, 1), (8, 4, 4, 4), 1, 0, 0, 1, 1),  # a generator's first layer
    ((3, 64, 24, 25), (64, 3, 4, 4), 2, 1, 0, 1, 1),  # and its last
    ((2, 64, 700), (64, 2, 16), 8, 4, 3, 2, 1),  # a vocoder's
]


def functions(weight):
    rank = len(weight) - 2
    return getattr(fc, f"conv_transpose{rank}d"), getattr(fc, f"conv_transpose{rank}d_backward")


@functools.lru_cache
def expected(case, dtype):
    """Operands in `dtype`; what the float64 reference makes of them and of their absolutes."""
    shape, weight, *settings = case
    random = np.random.default_rng([*shape, *weight])
    x, w, b = (
        random.standard_normal(s).astype(dtype) for s in (shape, weight, (weight[1] * settings[3],))
    )
    exact = [a.astype(np.float64) for a in (x, w, b)]
    y = reference.conv_transpose2d(*exact, *settings)
    dy = random.standard_normal(y.shape).astype(dtype)
    exact.append(dy.astype(np.float64))

    results = [], []
    for (x64, w64, b64, dy64), collect in zip((exact, map(abs, exact)), results, strict=True):
        collect.append(reference.conv_transpose2d(x64, w64, b64, *settings))
        collect.extend(reference.conv_transpose2d_backward(dy64, x64, w64, *settings))
    return (x, w, b, dy), results


def check(case, dtype):
    (x, w, b, dy), (wants, magnitudes) = expected(case, dtype)
    _, weight, *settings = case
    forward, backward = functions(weight)
    got = [forward(x, w, b, *settings), *backward(dy, x, w, *settings)]

    taps, groups = math.prod(weight[2:]), settings[3]
    terms = (
        weight[0] // groups * taps + 1,
        weight[1] * taps,
        x.size // weight[0],
        dy.size // len(b),
    )
    for name, g, want, magnitude, n in zip(
        ("output", "grad input", "grad weight", "grad bias"),
        got,
        wants,
        magnitudes,
        terms,
        strict=True,
    ):
        assert g.dtype == dtype
        assert_close(
            g, want, magnitude=magnitude, terms=n, floor=FAST_ALGORITHM_EPS, what=f"{case} {name}"
        )


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case).replace(" ", ""))
def test_named_cases(case, dtype):
    check(case, dtype)


@st.composite
def cases(draw):
    rank = draw(st.integers(1, 3))
    groups = draw(st.sampled_from([1, 1, 2, 5]))
    weight = [groups * draw(st.integers(1, 6)), draw(st.integers(1, 6))]
    shape = [draw(st.integers(1, 2)), weight[0]]
    stride, padding, extra, dilation = [], [], [], []
    for _ in range(rank):
        length, k = draw(st.integers(1, 9 if rank < 3 else 4)), draw(st.integers(1, 5))
        s, d = draw(st.integers(1, 4)), draw(st.integers(1, 4))
        e = draw(st.integers(0, max(s, d) - 1))
        full = (length - 1) * s + d * (k - 1) + e + 1
        before = draw(st.integers(0, full - 1))
        after = draw(st.integers(0, full - 1 - before))
        shape.append(length)
        weight.append(k)
        stride.append(s)
        padding.append((before, after))
        extra.append(e)
        dilation.append(d)
    return (
        tuple(shape),
        tuple(weight),
        tuple(stride),
        tuple(padding),
        tuple(extra),
        groups,
        tuple(dilation),
    )


@given(cases())
def test_drawn_cases(dtype, case):
    check(case, dtype)


def test_literally(dtype):
    x, w = np.array([[1, 2]], dtype), np.array([[[3, 4, 5]]], dtype)
    y = fc.conv_transpose1d(x, w, np.array([100], dtype), stride=2)
    np.testing.assert_array_equal(y, [[103, 104, 105 + 6, 108, 110]])
    y = fc.conv_transpose1d(x, w, stride=2, padding=((1, 2),), output_padding=1)
    np.testing.assert_array_equal(y, [[4, 11, 8]])


def test_it_is_the_adjoint_of_the_convolution(dtype):
    """<conv(x), y> = <x, conv_transpose(y)> for the same weight."""
    random = np.random.default_rng(0)
    x = random.standard_normal((2, 5, 12, 11)).astype(dtype)
    w = random.standard_normal((7, 5, 3, 4)).astype(dtype)
    ax = fc.conv2d(x, w, stride=2, padding=1)
    y = random.standard_normal(ax.shape).astype(dtype)
    aty = fc.conv_transpose2d(y, w, stride=2, padding=1, output_padding=(1, 1))
    np.testing.assert_allclose(np.vdot(ax, y), np.vdot(x, aty), rtol=100 * np.finfo(dtype).eps)
