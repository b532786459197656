"""The forward convolution against the reference, and literally."""

import numpy as np
import pytest
from conv_cases import (
    FAST_ALGORITHM_EPS,
    HEAVY,
    LONG,
    NAMED,
    Problem,
    combinations,
    function,
    geometries,
    problem,
)
from hypothesis import given
from tolerance import assert_close

import fastconv as fc

pytestmark = pytest.mark.usefixtures("isa", "threads")


def check(problem, algorithm="direct"):
    geometry = problem.geometry
    got = function("conv{}", geometry.rank)(
        problem.x, problem.w, problem.b, **geometry.settings, algorithm=algorithm
    )
    assert got.dtype == problem.x.dtype
    floor = 0 if algorithm == "direct" else FAST_ALGORITHM_EPS
    assert_close(got, **problem.forward, floor=floor)


@pytest.mark.parametrize("geometry", NAMED + HEAVY + LONG, ids=str)
def test_named_geometries(geometry, dtype, algorithm):
    check(problem(geometry, dtype), algorithm)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_every_combination(rank, dtype):
    for geometry in combinations(rank):
        check(problem(geometry, dtype))


@given(geometries())
def test_drawn_geometries(dtype, algorithm, geometry):
    check(Problem(geometry, dtype), algorithm)


def test_one_dimensional_layer_literally(dtype):
    # y[f, o] = sum over c, r of x[c, 2 o + r] W[f, c, r]
    x = np.array([[1, 2, 3, 4, 5], [0, 1, 0, -1, 0]], dtype)
    w = np.array([[[1, 0, -1], [2, 1, 3]]], dtype)
    np.testing.assert_array_equal(fc.conv1d(x, w, stride=2), [[-1, -3]])
    np.testing.assert_array_equal(fc.conv1d(x, w, stride=2, padding=1), [[1, -3, 2]])
    np.testing.assert_array_equal(fc.conv1d(x, w, [10], padding=((0, 2),)), [[9, 7, 7, 12, 15]])


def test_image_of_11_by_17_with_stride_2_gives_4_by_8(dtype):
    x = np.arange(11 * 17).reshape(1, 11, 17).astype(dtype)
    w = np.zeros((2, 1, 5, 3), dtype)
    w[0, 0, 4, 2] = w[1, 0, 0, 0] = 1  # the window's last and first pixel
    y = fc.conv2d(x, w, stride=2)
    assert y.shape == (2, 4, 8)
    rows, columns = np.meshgrid(2 * np.arange(4), 2 * np.arange(8), indexing="ij")
    np.testing.assert_array_equal(y[0], (rows + 4) * 17 + columns + 2)
    np.testing.assert_array_equal(y[1], rows * 17 + columns)


def test_taps_in_the_padding_leave_the_bias(dtype):
    x, w, b = np.ones((1, 2, 3, 3), dtype), np.ones((3, 2, 2, 2), dtype), np.arange(3, dtype=dtype)
    y = fc.conv2d(x, w, b, padding=((4, 0), (0, 5)))
    np.testing.assert_array_equal(y[0, :, 0, 0], [0, 1, 2])
    np.testing.assert_array_equal(y[0, :, 4, 0], [8, 9, 10])


def test_many_input_channels_keep_their_accuracy(dtype, algorithm):
    """Errors of a sum over 512 channels stay under 4e-6 of the largest output."""
    random = np.random.default_rng(5)
    x = random.standard_normal((1, 512, 9, 9)).astype(dtype)
    w = random.standard_normal((8, 512, 3, 3)).astype(dtype)
    want = fc.reference.conv2d(x.astype(float), w.astype(float), padding=1)
    error = abs(fc.conv2d(x, w, padding=1, algorithm=algorithm) - want).max() / abs(want).max()
    assert error < FAST_ALGORITHM_EPS * np.finfo(dtype).eps


def test_many_taps_keep_their_accuracy(dtype):
    """Sums of 16,400 products: in one chain, 32 and 48 eps of the largest output."""
    random = np.random.default_rng(7)
    x = random.standard_normal((1, 16, 3000)).astype(dtype)
    w = random.standard_normal((16, 16, 1025)).astype(dtype)
    exact = fc.reference.conv1d(x.astype(np.longdouble), w.astype(np.longdouble))
    error = abs(fc.conv1d(x, w) - exact).max() / abs(exact).max()
    assert error < 24 * np.finfo(dtype).eps
