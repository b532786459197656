"""fastconv.jacobian.conv: the two worked cases entry by entry, and the contraction with it."""

import numpy as np
import pytest

import fastconv as fc


@pytest.fixture
def signal():
    random = np.random.default_rng(0)
    return random.standard_normal((7, 11)), random.standard_normal((1, 7, 3))


def test_the_image_of_the_lecture():
    """11 x 17, kernel 5 x 3, stride 2: 4 x 8."""
    x, w = np.ones((1, 11, 17)), np.ones((1, 1, 5, 3))
    assert fc.conv2d(x, w, stride=2).shape == (1, 4, 8)
    assert fc.conv_output_shape(x.shape, w.shape, stride=2) == (1, 4, 8)
    assert fc.jacobian.conv(x, w, stride=2).shape == (1, 4, 8, 1, 1, 5, 3)
    assert fc.jacobian.conv(x, w, stride=2, wrt="input").shape == (1, 4, 8, 1, 11, 17)


def test_derivative_of_the_signal_by_its_weight(signal):
    """5 x 1 x 7 x 3 (the only filter of the output left out): x[c, 2k + m] at [k, 0, c, m]."""
    x, w = signal
    jacobian = fc.jacobian.conv(x, w, stride=2)
    assert jacobian.shape == (1, 5, 1, 7, 3)
    for k in range(5):
        for c in range(7):
            for m in range(3):
                assert jacobian[0, k, 0, c, m] == x[c, 2 * k + m]


def test_derivative_of_the_signal_by_its_input(signal):
    """5 x 7 x 11: W[0, c, p - 2k] at [k, c, p] where 0 <= p - 2k < 3, else 0."""
    x, w = signal
    jacobian = fc.jacobian.conv(x, w, stride=2, wrt="input")
    assert jacobian.shape == (1, 5, 7, 11)
    for k in range(5):
        for c in range(7):
            for p in range(11):
                want = w[0, c, p - 2 * k] if 0 <= p - 2 * k < 3 else 0
                assert jacobian[0, k, c, p] == want


@pytest.mark.parametrize(
    ("input", "weight", "settings"),
    [
        ((4, 9), (6, 2, 3), dict(stride=2, padding=((2, 1),), dilation=2, groups=2)),
        ((3, 5, 6), (2, 3, 3, 2), dict(stride=(1, 2), padding="same", dilation=(2, 1))),
        ((4, 5, 6), (4, 1, 3, 3), dict(padding=1, groups=4)),
        ((2, 3, 4, 5), (3, 2, 2, 3, 2), dict(stride=(1, 2, 1), padding=(1, 0, 2))),
        ((2, 4), (3, 2, 1), dict(padding=((3, 0),), stride=3)),
    ],
)
def test_gradients_are_contractions_with_it(input, weight, settings):
    random = np.random.default_rng(1)
    x, w = random.standard_normal(input), random.standard_normal(weight)
    rank = w.ndim - 2
    by_weight = fc.jacobian.conv(x, w, **settings)
    by_input = fc.jacobian.conv(x, w, **settings, wrt="input")
    y = getattr(fc, f"conv{rank}d")(x, w, **settings)
    dy = random.standard_normal(y.shape)
    grads = getattr(fc, f"conv{rank}d_backward")(dy, x, w, **settings)

    close = dict(rtol=1e-12, atol=1e-12)
    assert np.allclose(np.tensordot(by_weight, w, w.ndim), y, **close)  # y is linear in both
    assert np.allclose(np.tensordot(by_input, x, x.ndim), y, **close)
    assert np.allclose(np.tensordot(dy, by_weight, dy.ndim), grads.weight, **close)
    assert np.allclose(np.tensordot(dy, by_input, dy.ndim), grads.input, **close)


@pytest.mark.parametrize("wrt", ["weight", "input"])
def test_dtypes_and_empty_sizes(wrt):
    x, w = np.ones((2, 5)), np.ones((3, 2, 2))
    assert fc.jacobian.conv(x.astype("f2"), w.astype("f2"), wrt=wrt).dtype == np.float16
    assert fc.jacobian.conv(x.astype("f4"), w, wrt=wrt).dtype == np.float64
    assert fc.jacobian.conv(x.astype(int), w.astype(int), wrt=wrt).dtype == np.float64
    assert fc.jacobian.conv(x[:0], w[:, :0], wrt=wrt).size == 0
    assert fc.jacobian.conv(x, w[:0], wrt=wrt).size == 0
