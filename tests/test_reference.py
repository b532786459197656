"""The reference against the equation, written as the loops that it is."""

import numpy as np
import pytest
from conv_cases import Geometry, Problem

from fastconv import reference

CASES = [
    Geometry((2, 4, 9), (6, 2, 3), 2, ((3, 1),), 2, 2),
    Geometry((1, 1, 4), (1, 1, 5), 1, 4, 1),
    Geometry((3, 3, 7), (3, 1, 2), 3, "same", 1, 3),
]


def loops(p):
    ((before, _),) = {"same": ((0, 1),), 4: ((4, 4),)}.get(p.geometry.padding, p.geometry.padding)
    s, d, groups = p.geometry.stride, p.geometry.dilation, p.geometry.groups
    y = np.zeros(p.geometry.output)
    dx, dw, db = np.zeros(p.x.shape), np.zeros(p.w.shape), np.zeros(p.b.shape)
    for n, f, o in np.ndindex(y.shape):
        y[n, f, o] += p.b[f]
        db[f] += p.dy[n, f, o]
        for c, r in np.ndindex(p.w.shape[1:]):
            channel = f // (len(p.w) // groups) * p.w.shape[1] + c
            i = o * s + r * d - before
            inside = 0 <= i < p.x.shape[2]
            x = p.x[n, channel, i] if inside else 0.0
            y[n, f, o] += x * p.w[f, c, r]
            dw[f, c, r] += x * p.dy[n, f, o]
            if inside:
                dx[n, channel, i] += p.dy[n, f, o] * p.w[f, c, r]
    return y, dx, dw, db


@pytest.mark.filterwarnings("ignore:(invalid|overflow):RuntimeWarning")
@pytest.mark.parametrize("value", [1.0, np.nan, np.inf])
@pytest.mark.parametrize("operand", ["x", "w", "dy", "b"])
@pytest.mark.parametrize("geometry", CASES, ids=str)
def test_conv(geometry, operand, value):
    p = Problem(geometry, np.float64)
    getattr(p, operand).flat[1 % getattr(p, operand).size] = value
    got = (
        reference.conv1d(p.x, p.w, p.b, **geometry.settings),
        *reference.conv1d_backward(p.dy, p.x, p.w, **geometry.settings),
    )
    for g, want in zip(got, loops(p), strict=True):
        np.testing.assert_allclose(g, want, rtol=1e-12, atol=1e-12)


def test_transpose_exchanges_input_and_output():
    p = Problem(Geometry((2, 4, 9, 8), (6, 2, 3, 2), 2, ((3, 1), (0, 2)), 2, 2), np.float64)
    settings = p.geometry.settings
    dx = reference.conv2d_backward(p.dy, p.x, p.w, **settings).input
    # one output more than the shortest input for this dy has
    extra = tuple(
        n - ((o - 1) * 2 - sum(pads) + 2 * (k - 1) + 1)
        for n, o, pads, k in zip(
            p.x.shape[2:], p.dy.shape[2:], settings["padding"], p.w.shape[2:], strict=True
        )
    )
    got = reference.conv_transpose2d(p.dy, p.w, output_padding=extra, **settings)
    np.testing.assert_array_equal(got, dx)

    grads = reference.conv_transpose2d_backward(p.x, p.dy, p.w, output_padding=extra, **settings)
    np.testing.assert_allclose(grads.input, reference.conv2d(p.x, p.w, **settings))
    np.testing.assert_allclose(
        grads.weight, reference.conv2d_backward(p.dy, p.x, p.w, **settings).weight
    )


def test_what_an_argument_of_the_wrong_kind_of_number_becomes():
    for dtype, result in (np.float32, "f4"), (np.float64, "f8"), (int, "f8"), (bool, "f8"):
        y = reference.conv1d(np.ones((1, 1, 4), dtype), np.ones((1, 1, 2), dtype))
        assert y.dtype == result


def test_output_shape():
    assert reference.conv_output_shape((1, 11, 17), (6, 1, 5, 3), 2) == (6, 4, 8)
    assert reference.conv_output_shape((2, 7, 11), (1, 7, 3), 2) == (2, 1, 5)
