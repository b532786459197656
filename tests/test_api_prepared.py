"""PreparedConv: the forward convolution with fixed weights."""

import copy
import pickle

import numpy as np
import pytest

import fastconv as fc
from fastconv import _core

SETTINGS = dict(stride=2, padding=1, dilation=1, groups=2)


@pytest.fixture(params=[1, 2, 3])
def problem(request):
    random = np.random.default_rng(request.param)
    rank = request.param
    x = random.standard_normal((2, 4, *[7] * rank)).astype(np.float32)
    w = random.standard_normal((6, 2, *[3] * rank)).astype(np.float32)
    return x, w, random.standard_normal(6).astype(np.float32)


def direct(x, w, b=None, **settings):
    return getattr(fc, f"conv{w.ndim - 2}d")(x, w, b, **(settings or SETTINGS))


def test_it_is_the_convolution(problem):
    x, w, b = problem
    prepared = fc.prepare_conv(w, b, **SETTINGS, algorithm="direct")
    assert np.array_equal(prepared(x), direct(x, w, b))
    assert np.array_equal(prepared(x[0]), direct(x[0], w, b))  # unbatched
    for image in (x[..., 1:], x, x[:1], x[..., 2:]):  # any image, after any other
        assert np.array_equal(prepared(image), direct(image, w, b))
    with pytest.raises(ValueError, match="channels"):
        prepared(x[:, 1:])
    assert np.array_equal(prepared(x.astype(np.float64)), direct(x.astype(np.float64), w, b))
    assert np.array_equal(prepared(x.tolist()), direct(x.tolist(), w, b))


def test_same_padding_fits_each_image():
    w = np.arange(3.0).reshape(1, 1, 3)
    prepared = fc.prepare_conv(w, padding="same", stride=2)
    for length in range(1, 9):
        x = np.arange(1.0, length + 1).reshape(1, length)
        assert np.array_equal(prepared(x), fc.conv1d(x, w, padding="same", stride=2))


def test_it_copies_the_weights(problem):
    x, w, b = problem
    want = direct(x, w, b)
    prepared = fc.prepare_conv(w, b, **SETTINGS)
    w[...] = b[...] = 0
    assert np.array_equal(prepared(x), want)


def test_it_never_changes(problem):
    x, w, b = problem
    prepared = fc.prepare_conv(w, b, **SETTINGS)
    for name in (*prepared.__slots__, "algorithm", "nbytes", "new"):
        with pytest.raises(AttributeError):
            setattr(prepared, name, 1)
        with pytest.raises(AttributeError):
            delattr(prepared, name)
    with pytest.raises(ValueError, match="read-only"):
        prepared._weight[...] = 0
    assert np.array_equal(prepared(x), direct(x, w, b))


@pytest.mark.parametrize(
    "again", [lambda p: pickle.loads(pickle.dumps(p)), copy.copy, copy.deepcopy]
)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int64])
def test_it_can_be_pickled_and_copied(problem, again, dtype):
    x, w, b = problem
    prepared = fc.prepare_conv((8 * w).astype(dtype), (8 * b).astype(dtype), **SETTINGS)
    same = again(prepared)
    for given in (x, x.astype(dtype)):
        assert same(given).dtype == prepared(given).dtype
        assert np.array_equal(same(given), prepared(given))
    assert (same.algorithm, same.nbytes, repr(same)) == (
        prepared.algorithm, prepared.nbytes, repr(prepared))  # fmt: skip
    with pytest.raises(ValueError, match="read-only"):
        same._weight[...] = 0


def test_what_it_tells(problem):
    _, w, b = problem
    prepared = fc.prepare_conv(w, b, algorithm="direct")
    assert prepared.algorithm == "direct"
    assert prepared.nbytes >= w.nbytes + b.nbytes
    assert "PreparedConv" in repr(prepared)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "image, weight, stride", [((7, 11), (1, 7, 3), 2), ((3, 6, 6), (5, 3, 3, 3), 1)]
)
def test_a_tiny_one_is_direct(image, weight, stride, dtype, isa):
    prepared = fc.prepare_conv(np.ones(weight, dtype), stride=stride, input_shape=image)
    assert prepared.algorithm == "direct"


def test_the_hint_is_no_restriction(problem):
    x, w, b = problem
    hinted = fc.prepare_conv(w, b, **SETTINGS, input_shape=(1, 4, *[50] * (w.ndim - 2)))
    assert np.allclose(hinted(x), direct(x, w, b), rtol=1e-5, atol=1e-5)


def test_an_input_that_does_not_fit(problem):
    _, w, b = problem
    with pytest.raises(ValueError, match=r"^(weight|groups|input): expected"):
        fc.prepare_conv(w, b, **SETTINGS)(np.ones((2, 5, *[7] * (w.ndim - 2)), np.float32))


def test_an_image_is_not_its_patches():
    """After an image that was turned to patches, one of their shape is still none that fits."""
    prepared = fc.prepare_conv(np.ones((9, 5, 4, 4), np.float32), stride=4)
    _core.force_way("patches")
    try:
        prepared(np.ones((2, 5, 8, 52), np.float32))
        with pytest.raises(ValueError, match="channels"):
            prepared(np.ones((2, 80, 2, 13), np.float32))
    finally:
        _core.force_way(None)
