"""Winograd: the same sums as "direct" up to its stated error, and what must not depend on it."""

import pickle

import numpy as np
import pytest
from conv_cases import FAST_ALGORITHM_EPS, Geometry, function, problem
from every_isa import every_isa, every_isa_with_fma
from tolerance import assert_close, assert_same_nonfinite

import fastconv as fc
from fastconv import reference

# The reference says so when it computes with infinities.
pytestmark = pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")

# Those that the tests of bits and of what is not finite ask for by name.
RAGGED = Geometry((1, 37, 29, 31), (41, 37, 3, 3), 1, 1)
TWO_SLICES = Geometry((1, 130, 7, 6), (70, 130, 3, 3), 1, 1)  # of channels, and two blocks
DILATED = Geometry((2, 9, 23, 31), (18, 9, 3, 3), 1, (3, 2), (3, 2))  # phases
DILATED_1D = Geometry((2, 9, 131), (18, 9, 3), 1, 4, 4)
VIDEO = Geometry((2, 9, 6, 17, 15), (18, 9, 3, 3, 3), (2, 1, 1), 1)  # the outermost axis as written
NO_INFINITY = Geometry((2, 9, 6, 9), (18, 9, 3, 3), 1, 1)  # along both axes
STRIDED_GROUPS = Geometry((2, 10, 23, 150), (20, 5, 3, 3), 2, ((0, 1), (1, 3)), 1, 2)
STRIDED_VIDEO = Geometry((2, 70, 5, 9, 8), (6, 70, 3, 3, 5), (2, 2, 2), 1)
LONG = Geometry((2, 18, 17, 39), (20, 9, 7, 9), 1, ((3, 3), (6, 9)), (1, 2), 2)  # taps in runs

GEOMETRIES = [
    Geometry((1, 1, 3, 3), (1, 1, 3, 3)),  # one output of a tile
    Geometry((3, 17, 1, 1), (18, 17, 3, 3), 1, 1),  # one cell
    Geometry((2, 3, 9, 11), (5, 3, 3, 3), 1, 1),
    RAGGED,
    TWO_SLICES,
    Geometry((3, 20, 16, 64), (24, 20, 3, 3), 1, ((0, 2), (2, 0))),
    Geometry((1, 4, 5, 300), (6, 4, 3, 3), 1, 1),  # rows of several strips
    Geometry((2, 3, 10, 129), (5, 3, 3, 3), 1, 1),  # the same, tiles of four outputs and of three
    Geometry((2, 12, 13, 70), (20, 3, 3, 3), 1, (3, 1), 1, 4),  # groups
    Geometry((1, 4, 7, 5), (3, 4, 3, 3), 1, 9),  # tiles wholly in the padding
    DILATED,
    Geometry((1, 5, 33, 33), (7, 5, 3, 3), 1, 12, 12),
    Geometry((2, 9, 17, 31), (18, 9, 5, 5), 1, 2),
    Geometry((2, 9, 17, 31), (18, 9, 2, 4), 1, "same"),
    Geometry((1, 5, 19, 21), (7, 5, 1, 3), 1, (0, 1)),  # one axis alone
    Geometry((1, 5, 19, 21), (7, 5, 4, 1), 1, "valid"),
    DILATED_1D,
    Geometry((1, 9, 1331), (18, 9, 5), 1, ((8, 0),), 2),  # one-dimensional, causal
    VIDEO,
    Geometry((1, 4, 5, 9, 8), (6, 4, 2, 2, 5), 1, (1, 0, 2), (2, 1, 1)),
    Geometry((2, 9, 23, 30), (18, 9, 3, 3), 2, (3, 1), 2),  # every second cell is met
    Geometry((1, 6, 23, 31), (8, 3, 3, 3), (2, 3), ((1, 4), (7, 0)), (4, 6), 2),
    Geometry((2, 5, 9, 31), (7, 5, 1, 3), (3, 1), (2, 1)),  # every third row
    Geometry((2, 5, 1, 9), (7, 5, 3, 3), 2, ((1, 5), (1, 1)), 2),  # no cell of a column
    Geometry((1, 5, 7, 19, 9), (7, 5, 2, 3, 3), (4, 2, 1), (1, 2, 0), (2, 2, 1)),
    NO_INFINITY,
    Geometry((2, 9, 4, 7), (18, 9, 4, 2), 1, "same"),
    Geometry((2, 9, 5, 11), (18, 9, 3, 4), 1, "same"),
    Geometry((1, 300, 68, 64), (2, 300, 3, 3), 1, 1),  # 17 strips for two threads, one a chunk
]
# Phases of the stride, summed between the transforms.
STRIDED = [
    Geometry((1, 37, 29, 31), (41, 37, 3, 3), 2, 1),
    STRIDED_GROUPS,
    Geometry((1, 3, 41, 40), (18, 3, 7, 7), 2, 3),
    Geometry((2, 9, 17, 31), (18, 9, 5, 4), (2, 1), 2, (3, 1)),
    Geometry((1, 4, 20, 29), (6, 4, 3, 8), (1, 3), (9, 2), (1, 2)),
    Geometry((2, 9, 131), (18, 9, 3), 2, 1),
    Geometry((1, 5, 19, 22), (7, 5, 1, 9), (3, 4), (0, 5)),
    Geometry((1, 5, 22, 19), (7, 5, 10, 1), 2, "same"),
    STRIDED_VIDEO,
    Geometry((1, 2, 5, 1), (3, 2, 5, 3), 2, 4),  # phases without a cell
]
GEOMETRIES += STRIDED
# More taps than a tile's points serve: runs of them, summed as phases are.
GEOMETRIES += [
    LONG,
    Geometry((1, 37, 20, 23), (18, 37, 6, 6), 1, "same"),
    Geometry((1, 5, 19, 21), (7, 5, 11, 1), 1, (12, 0)),  # a run of taps wholly in the padding
    Geometry((2, 3, 19, 21), (5, 3, 3, 8), 1, 2),  # one axis in runs
    Geometry((1, 9, 331), (18, 9, 21), 1, 4, 3),
    Geometry((2, 9, 29, 45), (18, 9, 13, 21), 2, (3, 1)),  # and phases of a stride
    Geometry((1, 9, 331), (18, 9, 38), 3, 4, 2),
    Geometry((1, 4, 5, 9, 8), (6, 4, 2, 7, 1), (2, 1, 1), (1, 0, 2)),
    Geometry((2, 5, 3, 2), (7, 5, 10, 7), 1, 5),  # an image smaller than a run
]
ids = pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)


@ids
def test_forward_and_gradients(geometry, isa, dtype, threads):
    case = problem(geometry, dtype)
    y = function("conv{}", geometry.rank)(
        case.x, case.w, case.b, **geometry.settings, algorithm="winograd"
    )
    assert_close(y, **case.forward, floor=FAST_ALGORITHM_EPS)
    grads = function("conv{}_backward", geometry.rank)(
        case.dy, case.x, case.w, **geometry.settings, algorithm="winograd"
    )
    for name, want in case.backward.items():
        assert_close(getattr(grads, name), **want, floor=FAST_ALGORITHM_EPS)


@pytest.mark.parametrize(
    "geometry",
    [
        Geometry((3, 9, 31, 1), (5, 9, 3, 5), 1, ((1, 2), (1, 4))),  # the last three columns
        Geometry((2, 9, 5, 40), (18, 9, 3, 3), 1, ((6, 1), (1, 1)), (3, 1)),  # row 0
        Geometry((2, 9, 3, 20), (18, 9, 5, 5), 2, ((6, 0), (2, 2))),  # rows 0 and 1
        Geometry((1, 9, 2, 2, 9), (5, 9, 3, 3, 3), 1, ((1, 1), (4, 0), (1, 1))),
        Geometry((1, 5, 2), (7, 5, 4), 1, ((1, 5),), 2),
    ],
    ids=str,
)
def test_gradient_of_a_weight_that_meets_padding_alone(geometry, isa, dtype):
    """Exactly 0, but NaN where the gradient that meets the padding's zeros is not finite."""
    case = problem(geometry, dtype)
    backward = function("conv{}_backward", geometry.rank)
    idle = case.backward["weight"]["magnitude"] == 0
    assert idle.any() and not idle.all()
    x, dy = case.x.copy(), case.dy.copy()
    for value in x.flat[0], np.inf:
        x.flat[0] = value
        got = backward(dy, x, case.w, **geometry.settings, algorithm="winograd").weight
        np.testing.assert_array_equal(got == 0, idle)
    dy.flat[0] = np.nan
    got = backward(dy, case.x, case.w, **geometry.settings, algorithm="winograd").weight
    assert np.isnan(got[0]).all()
    np.testing.assert_array_equal(got[1:] == 0, idle[1:])


@pytest.mark.parametrize("stride", [(1, 2), (2, 2), (3, 1)])
@pytest.mark.parametrize("kernel", [(3, 3), (5, 4)])
def test_transposed_convolution_with_stride(stride, kernel, isa, dtype):
    """Its phases are convolutions with stride 1, which "auto" may do by Winograd."""
    random = np.random.default_rng(0)
    x, w = (random.standard_normal(s).astype(dtype) for s in ((2, 70, 9, 10), (70, 33, *kernel)))
    want, magnitude = (
        reference.conv_transpose2d(a.astype("f8"), b.astype("f8"), None, stride, 1)
        for a, b in ((x, w), (abs(x), abs(w)))
    )
    got = fc.conv_transpose2d(x, w, None, stride, 1)
    assert_close(got, want, magnitude=magnitude, terms=70 * 20, floor=FAST_ALGORITHM_EPS)


@pytest.mark.parametrize(
    "kernel, stride",
    [(2, 1), (3, 1), (4, 1), (5, 1), (6, 1), (7, 1), (11, 1), (3, 2), (5, 2), (7, 2), (9, 2)],
)
@pytest.mark.parametrize("channels", [1, 16, 128, 512])
def test_error_against_channels(channels, kernel, stride, dtype):
    """The table in the documentation: less than 4e-6 of the largest output in float32."""
    size = max(12 * stride, kernel)
    geometry = Geometry((1, channels, size, size), (8, channels, kernel, kernel), stride, 1)
    case = problem(geometry, dtype)
    got = fc.conv2d(case.x, case.w, case.b, stride, 1, algorithm="winograd")
    want = case.forward["want"]
    assert np.abs(got - want).max() < 33 * np.finfo(dtype).eps * np.abs(want).max()


def test_error_of_many_outputs(dtype):
    """The worst of 50000: with 128 channels in one chain, 28 to 35 eps."""
    case = problem(Geometry((1, 128, 28, 28), (64, 128, 3, 3), 1, 1), dtype)
    got = fc.conv2d(case.x, case.w, case.b, 1, 1, algorithm="winograd")
    want = case.forward["want"]
    assert np.abs(got - want).max() < 24 * np.finfo(dtype).eps * np.abs(want).max()


@pytest.mark.parametrize(
    "channels, image, kernel, stride",
    [(128, (4, 16, 16), (5, 3, 3), 1), (34, (9, 15, 15), (7, 7, 7), 3)],
    ids=["taps", "taps_and_phases"],
)
def test_error_with_taps_in_depth(channels, image, kernel, stride, dtype):
    """They lengthen the sum between the transforms: in one chain 640 and 1008 products were too
    many."""
    geometry = Geometry((1, channels, *image), (16, channels, *kernel), stride, 2)
    case = problem(geometry, dtype)
    got = fc.conv3d(case.x, case.w, case.b, stride, 2, algorithm="winograd")
    want = case.forward["want"]
    assert np.abs(got - want).max() < 33 * np.finfo(dtype).eps * np.abs(want).max()


# --- bits ---------------------------------------------------------------------------------------


@pytest.fixture(
    params=[RAGGED, TWO_SLICES, DILATED, VIDEO, NO_INFINITY, STRIDED_GROUPS, STRIDED_VIDEO, LONG],
    ids=str,
)
def run(request, dtype):
    """All four results of one geometry, for some of its images."""
    geometry = request.param
    case = problem(geometry, dtype)
    settings = dict(geometry.settings, algorithm="winograd")

    def results(images=slice(None)):
        y = function("conv{}", geometry.rank)(case.x[images], case.w, case.b, **settings)
        grads = function("conv{}_backward", geometry.rank)(
            case.dy[images], case.x[images], case.w, **settings
        )
        return [array.tobytes() for array in (y, *grads)]

    results.batch = len(case.x)
    return results


def test_same_bits_for_every_number_of_threads(run, isa):
    results = []
    for threads in 1, 2, 3:
        with fc.num_threads(threads):
            results.append(run())
    assert results[0] == results[1] == results[2]


def test_same_bits_in_every_batch(run, isa):
    together = run()[:2]
    alone = [run(slice(i, i + 1))[:2] for i in range(run.batch)]
    assert together == [b"".join(parts) for parts in zip(*alone, strict=True)]


def test_same_bits_on_every_isa_with_fma(run):
    results = [run()[:3] for _ in every_isa_with_fma()]
    assert all(result == results[0] for result in results)


@ids
def test_prepared_has_the_bits_of_the_plain_call(geometry, isa, dtype):
    case = problem(geometry, dtype)
    prepared = fc.prepare_conv(case.w, case.b, **geometry.settings, algorithm="winograd")
    assert prepared.algorithm == "winograd"
    assert prepared.nbytes > case.w.nbytes + case.b.nbytes
    y = function("conv{}", geometry.rank)(
        case.x, case.w, case.b, **geometry.settings, algorithm="winograd"
    )
    for copy in prepared, pickle.loads(pickle.dumps(prepared)):
        np.testing.assert_array_equal(copy(case.x), y)


def test_prepared_on_one_isa_serves_another(dtype):
    case = problem(RAGGED, dtype)
    prepared = fc.prepare_conv(case.w, case.b, padding=1, algorithm="winograd")
    for _ in every_isa():
        assert_close(prepared(case.x), **case.forward, floor=FAST_ALGORITHM_EPS)


def test_prepared_takes_images_of_any_size_and_dtype():
    random = np.random.default_rng(0)
    w = random.standard_normal((7, 5, 3, 3)).astype("f4")
    prepared = fc.prepare_conv(w, padding="same", algorithm="winograd", input_shape=(5, 8, 8))
    for shape in (5, 1, 1), (2, 5, 40, 3), (5, 200, 9):
        for dtype in "f2", "f4", "f8":
            x = random.standard_normal(shape).astype(dtype)
            y = fc.conv2d(x, w, padding="same", algorithm="winograd")
            np.testing.assert_array_equal(prepared(x), y)
            assert prepared(x).dtype == y.dtype


# --- what is not finite -------------------------------------------------------------------------


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    "geometry",
    [RAGGED, DILATED, DILATED_1D, VIDEO, NO_INFINITY, STRIDED_GROUPS, STRIDED_VIDEO, LONG],
    ids=str,
)
def test_nonfinite_values_reach_what_the_equation_says(geometry, value, isa, dtype):
    case = problem(geometry, dtype)
    settings = geometry.settings
    wide = [a.astype("f8") for a in (case.dy, case.x, case.w, case.b)]
    for operand in 0, 1:  # dy, x
        arrays = [a.copy() for a in (case.dy, case.x, case.w, case.b)]
        places = np.random.default_rng(1).choice(arrays[operand].size, 3, replace=False)
        for at in 0, *places:  # 0: a corner
            arrays[operand].flat[at] = value
        want = [arrays[i].astype("f8") if i == operand else wide[i] for i in range(4)]
        if operand == 1:
            got = function("conv{}", geometry.rank)(*arrays[1:], **settings, algorithm="winograd")
            assert_same_nonfinite(got, reference.conv2d(*want[1:], **settings))
        got = function("conv{}_backward", geometry.rank)(
            *arrays[:3], **settings, algorithm="winograd"
        )
        want = reference.conv2d_backward(*want[:3], **settings)
        assert_same_nonfinite(got.input, want.input, "gradient of input")
        assert_same_nonfinite(got.weight, want.weight, "gradient of weight")


def test_what_a_nonfinite_value_does_not_reach_is_right(isa, dtype):
    case = problem(RAGGED, dtype)
    x = case.x.copy()
    x[0, 3, 4:9, 7] = np.inf
    got = fc.conv2d(x, case.w, case.b, 1, 1, algorithm="winograd")
    forward = dict(case.forward, want=reference.conv2d(x.astype("f8"), case.w, case.b, 1, 1))
    assert_close(got, **forward, floor=FAST_ALGORITHM_EPS)


def test_nonfinite_weight_reaches_all_that_it_meets(isa, dtype):
    case = problem(RAGGED, dtype)
    w = case.w.copy()
    w[5, 3, 0, 1] = np.inf
    got = fc.conv2d(case.x, w, case.b, 1, 1, algorithm="winograd")
    assert not np.isfinite(got[:, 5, 1:]).any()
    others = [f for f in range(len(w)) if f != 5]
    assert np.isfinite(got[:, others]).all()


# --- arguments ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "geometry",
    [
        Geometry((1, 2, 9, 9), (3, 2, 3, 3), 3),
        Geometry((1, 2, 9, 9), (3, 2, 2, 3), 2),
        Geometry((1, 2, 9, 9), (3, 2, 1, 1)),
        Geometry((1, 2, 9, 9, 9), (3, 2, 3, 1, 1)),
        Geometry((1, 2, 9), (3, 2, 3), 3, 1, 2),
    ],
    ids=str,
)
def test_what_does_not_fit_is_refused(geometry):
    case = problem(geometry, np.dtype("f4"))
    calls = [
        lambda: function("conv{}", geometry.rank)(
            case.x, case.w, **geometry.settings, algorithm="winograd"
        ),
        lambda: function("conv{}_backward", geometry.rank)(
            case.dy, case.x, case.w, **geometry.settings, algorithm="winograd"
        ),
        lambda: fc.prepare_conv(case.w, **geometry.settings, algorithm="winograd"),
    ]
    for call in calls:
        with pytest.raises(ValueError, match="algorithm: 'winograd' is for"):
            call()
