"""The gradients of the convolution: against the reference, finite differences, and literally."""

import itertools

import numpy as np
import pytest
from conv_cases import (
    FAST_ALGORITHM_EPS,
    HEAVY,
    LONG,
    NAMED,
    Geometry,
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
    got = function("conv{}_backward", geometry.rank)(
        problem.dy, problem.x, problem.w, **geometry.settings, algorithm=algorithm
    )
    floor = 0 if algorithm == "direct" else FAST_ALGORITHM_EPS
    for name, expected in problem.backward.items():
        assert getattr(got, name).dtype == problem.x.dtype
        assert_close(getattr(got, name), **expected, floor=floor)


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


@pytest.mark.parametrize(
    "geometry",
    [
        Geometry((2, 4, 6), (4, 2, 3), 2, ((2, 1),), 1, 2),
        Geometry((1, 2, 5, 4), (3, 2, 2, 3), (2, 1), ((0, 1), (3, 0)), (2, 1)),
        Geometry((1, 2, 3, 4, 3), (2, 1, 2, 1, 3), (1, 2, 1), 1, (1, 1, 2), 2),
        Geometry((1, 1, 36), (1, 1, 40), 1, 39),
    ],
    ids=str,
)
def test_finite_differences(geometry):
    """The layer is linear in each operand, so a central difference with any step is exact."""
    p = problem(geometry, np.dtype(np.float64))
    conv, settings = function("conv{}", geometry.rank), geometry.settings
    grads = function("conv{}_backward", geometry.rank)(p.dy, p.x, p.w, **settings)

    operands = dict(input=p.x, weight=p.w, bias=p.b)
    for name, array in operands.items():
        numeric = np.empty(array.shape)
        for place in np.ndindex(array.shape):
            moved = array.copy()
            moved[place] += 1
            above = np.vdot(p.dy, conv(*(operands | {name: moved}).values(), **settings))
            moved[place] -= 2
            below = np.vdot(p.dy, conv(*(operands | {name: moved}).values(), **settings))
            numeric[place] = (above - below) / 2
        np.testing.assert_allclose(getattr(grads, name), numeric, rtol=1e-11, atol=1e-11)


def test_one_dimensional_layer_literally(dtype):
    # y = [x0 w0 + x1 w1 + x2 w2, x2 w0 + x3 w1 + x4 w2], dy = [1, 10]
    x, w = np.array([[1, 2, 3, 4, 5]], dtype), np.array([[[7, 8, 9]]], dtype)
    grads = fc.conv1d_backward(np.array([[1, 10]], dtype), x, w, stride=2)
    np.testing.assert_array_equal(grads.input, [[7, 8, 9 + 70, 80, 90]])
    np.testing.assert_array_equal(grads.weight, [[[1 + 30, 2 + 40, 3 + 50]]])
    np.testing.assert_array_equal(grads.bias, [11])


def test_pixels_that_no_window_reads_have_no_gradient(dtype):
    grads = fc.conv1d_backward(
        np.ones((1, 1, 2), dtype), np.ones((1, 1, 8), dtype), np.ones((1, 1, 2), dtype), stride=4
    )
    np.testing.assert_array_equal(grads.input[0, 0], [1, 1, 0, 0, 1, 1, 0, 0])


def test_stride_and_padding_far_beyond_the_image(dtype):
    """The middle one of three outputs sees the image: no time and memory for the padding."""
    far = 2**31 - 1
    x, w, dy = ([[np.array(row, dtype)]] for row in ([1, 2, 3, 4], [2, 3], [5, 7, 11]))
    grads = fc.conv1d_backward(dy, x, w, stride=far, padding=far, algorithm="direct")
    assert grads.weight.tolist() == [[[7, 14]]]
    assert grads.input.tolist() == [[[14, 21, 0, 0]]]


@pytest.mark.parametrize("mask", list(itertools.product([True, False], repeat=3)))
def test_output_mask_changes_nothing_but_what_is_left_out(mask, dtype):
    p = problem(NAMED[8], dtype)
    whole = fc.conv2d_backward(p.dy, p.x, p.w, **p.geometry.settings)
    part = fc.conv2d_backward(p.dy, p.x, p.w, **p.geometry.settings, output_mask=mask)
    for wanted, a, b in zip(mask, whole, part, strict=True):
        assert (b is not None) == wanted
        if wanted:
            np.testing.assert_array_equal(a, b)


def test_bias_gradient_of_a_constant_does_not_drift(dtype):
    """A running sum of 0.1 over 600,000 outputs loses 1e-4 in float32; pairwise, nothing."""
    dy = np.full((2, 3, 300, 1000), 0.1, dtype)
    x, w = np.zeros((2, 1, 300, 1000), dtype), np.zeros((3, 1, 1, 1), dtype)
    grads = fc.conv2d_backward(dy, x, w, output_mask=(False, False, True))
    want = 600_000 * np.float64(dy.flat[0])
    np.testing.assert_allclose(grads.bias, [want] * 3, rtol=8 * np.finfo(dtype).eps)


def test_weight_gradient_over_many_outputs_keeps_its_accuracy(dtype):
    """18,000 products a weight: in one chain, 30 to 50 eps of the largest."""
    random = np.random.default_rng(6)
    x, dy = (random.standard_normal((2, 16, 9000)).astype(dtype) for _ in range(2))
    w = np.zeros((16, 1, 15), dtype)
    settings = dict(padding=7, groups=16, output_mask=(False, True, False))
    wide = (a.astype(np.longdouble) for a in (dy, x, w))
    want = fc.reference.conv1d_backward(*wide, **settings).weight
    error = abs(fc.conv1d_backward(dy, x, w, **settings).weight - want).max() / abs(want).max()
    assert error < 20 * np.finfo(dtype).eps
