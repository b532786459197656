"""Every argument of every convolution function, wrong in every way: an error that names it."""

import os
import re
import subprocess
import sys

import numpy as np
import pytest

import fastconv as fc

N, C, F, L, K = 2, 6, 4, 9, 3


def good(name):
    """Arguments that the function of this name takes."""
    if "output_shape" in name:
        return dict(input_shape=(N, C, L), weight_shape=(F, C, K))
    rank = int(re.search(r"(\d)d|$", name)[1] or 2)
    arguments = dict(
        input=np.ones((N, C, *[L] * rank), np.float32),
        weight=np.ones((F, C, *[K] * rank), np.float32),
        bias=np.ones(F, np.float32),
    )
    if "transpose" in name:
        arguments["weight"] = np.ones((C, F, *[K] * rank), np.float32)
    if "backward" in name:
        del arguments["bias"]
        length = L + K - 1 if "transpose" in name else L - K + 1
        arguments["grad_output"] = np.ones((N, F, *[length] * rank), np.float32)
    if "prepare" in name:
        del arguments["input"]
    return arguments


FORWARD = ["conv1d", "conv2d", "conv3d"]
BACKWARD = [f"{name}_backward" for name in FORWARD]
TRANSPOSE = ["conv_transpose1d", "conv_transpose2d", "conv_transpose3d"]
TRANSPOSE_BACKWARD = [f"{name}_backward" for name in TRANSPOSE]
ALL_BACKWARD = [*BACKWARD, *TRANSPOSE_BACKWARD]
CONV = [*FORWARD, *BACKWARD]
ALL = [*CONV, *TRANSPOSE, *TRANSPOSE_BACKWARD]
LAYOUT = [*ALL, "prepare_conv"]
ANY_LAYOUT = [*LAYOUT, "conv_output_shape"]

# Values that are no integers, and integers that are none of ours.
NO_INTS = [1.0, "1", None, True, 1j, np.float32(1), object(), {1}, np.ones(())]
NO_ARRAYS = [
    None,
    "text",
    b"bytes",
    object(),
    {"a": 1},
    np.ones((2, 6, 9), complex),
    np.ones((2, 6, 9), object),
    np.ones((2, 6, 9), "datetime64[s]"),
    np.ones((2, 6, 9), "U3"),
    np.ones((2, 6, 9), [("a", "f4")]),
]
if np.dtype(np.longdouble).itemsize > 8:
    NO_ARRAYS.append(np.ones((2, 6, 9), np.longdouble))

# (functions, argument, wrong values, error)
WRONG = [
    (ALL, "input", NO_ARRAYS, TypeError),
    (LAYOUT, "weight", NO_ARRAYS, TypeError),
    ([*FORWARD, *TRANSPOSE, "prepare_conv"], "bias", NO_ARRAYS[1:], TypeError),
    (ALL_BACKWARD, "grad_output", NO_ARRAYS, TypeError),
    (ALL, "input", [[[1, 2], [3]], 1.0, np.ones(3), np.ones((1, 1, 1, 1, 1, 1))], ValueError),
    (ALL, "weight", [[[1, 2], [3]], 1.0, np.ones((6, 6)), np.ones((1, 1, 1, 1, 1, 1))], ValueError),
    (["prepare_conv"], "weight", [1.0, np.ones((4, 6)), np.ones((1,) * 6)], ValueError),
    (
        [*FORWARD, *TRANSPOSE, "prepare_conv"],
        "bias",
        [1.0, np.ones(F + 1), np.ones((F, 1)), np.ones((1, F)), np.ones(0)],
        ValueError,
    ),
    (ANY_LAYOUT, "stride", NO_INTS, TypeError),
    (ANY_LAYOUT, "dilation", NO_INTS, TypeError),
    (LAYOUT, "groups", [*NO_INTS, (1,), [1]], TypeError),
    ([*TRANSPOSE, *TRANSPOSE_BACKWARD], "output_padding", NO_INTS, TypeError),
    (ANY_LAYOUT, "padding", [v for v in NO_INTS if v != "1"], TypeError),
    (ANY_LAYOUT, "stride", [0, -1, 2**31, 2**63, 2**70, (), (1,) * 4, [0, 0, 0]], ValueError),
    (ANY_LAYOUT, "dilation", [0, -1, 2**31, 2**63, 2**70, (), (1,) * 4], ValueError),
    (LAYOUT, "groups", [0, -1, 5, 12, 2**31, 2**63, 2**70], ValueError),
    ([*TRANSPOSE, *TRANSPOSE_BACKWARD], "groups", [4], ValueError),
    ([*TRANSPOSE, *TRANSPOSE_BACKWARD], "output_padding", [-1, 1, 2**70, (0,) * 4], ValueError),
    (
        ANY_LAYOUT,
        "padding",
        [-1, 2**31, 2**63, 2**70, "Same", "full", (), (1,) * 4, ((1, 1),) * 4, [[0, 0, 0]] * 3],
        ValueError,
    ),
    ([*TRANSPOSE, *TRANSPOSE_BACKWARD], "padding", ["same", "valid", 6, 2**30], ValueError),
    ([*CONV, "prepare_conv"], "algorithm", ["", "fast", "Direct", None, 1, ["direct"]], ValueError),
    (ALL_BACKWARD, "output_mask", [None, 1, (1, 1, 1), "yes", [None] * 3, ("a",)], TypeError),
    (ALL_BACKWARD, "output_mask", [(), (True,), (True,) * 4, np.ones(2, bool)], ValueError),
    (FORWARD, "out", [1, [1.0], "out"], TypeError),
    (["conv_output_shape"], "input_shape", [1, None, "abc", 2.0], TypeError),
    (["conv_output_shape"], "input_shape", [(), (1,), (1,) * 6, (N, C, 2), (N, C, -9)], ValueError),
    (["conv_output_shape"], "input_shape", [(1, 7, 9)], ValueError),
    (["conv_output_shape"], "weight_shape", [1, None, "abc", 2.0], TypeError),
    (["conv_output_shape"], "weight_shape", [(), (1,), (1,) * 6, (F, C, 0)], ValueError),
    (["conv_output_shape"], "weight_shape", [(F, C, -1), (F, 4, 3)], ValueError),
    (["prepare_conv"], "input_shape", [1, "abc", 2.0, (1, 6, 9.0, 9)], TypeError),
    (["prepare_conv"], "input_shape", [(), (1,), (N, C, L), (N, 7, L, L)], ValueError),
    (["prepare_conv"], "input_shape", [(N, C, 2, 2)], ValueError),
]  # fmt: skip


def wrong_calls():
    calls = []
    for functions, argument, values, error in WRONG:
        for name in functions:
            for i, value in enumerate(values):
                label = f"{name}-{argument}-{type(value).__name__}{i}"
                calls.append(pytest.param(name, argument, value, error, id=label))
    return calls


@pytest.mark.parametrize(("name", "argument", "value", "error"), wrong_calls())
def test_wrong_argument_is_named(name, argument, value, error):
    with pytest.raises(error) as caught:
        getattr(fc, name)(**{**good(name), argument: value})
    assert type(caught.value) in (TypeError, ValueError)
    assert argument in str(caught.value)
    assert "expected" in str(caught.value) and "got" in str(caught.value)


@pytest.mark.parametrize("name", [*ALL, "prepare_conv", "conv_output_shape"])
def test_good_arguments_are_taken(name):
    getattr(fc, name)(**good(name))


# Shapes that are fine by themselves and do not fit together.
@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize(
    ("input", "weight", "settings", "names"),
    [
        ((2, 6, 9), (4, 5, 3), {}, ["weight", "6 channels"]),
        ((2, 6, 9), (4, 6, 3), {"groups": 2}, ["weight", "6 channels", "groups=2"]),
        ((2, 6, 9), (4, 2, 3), {"groups": 3}, ["groups", "4 filters"]),
        ((2, 6, 9), (8, 2, 3), {"groups": 4}, ["groups", "6 channels"]),
        ((2, 6, 9), (4, 6, 10), {}, ["input", "empty"]),
        ((2, 6, 9), (4, 6, 3), {"dilation": 5}, ["input", "empty"]),
        ((2, 6, 0), (4, 6, 3), {}, ["input", "empty"]),
        ((0, 6, 2), (4, 6, 3), {}, ["input", "empty"]),
        ((2, 6, 9), (4, 6, 0), {}, ["weight", "kernel"]),
        ((2, 0, 9), (4, 6, 3), {}, ["weight", "0 channels"]),
    ],
)
def test_shapes_that_do_not_fit(rank, input, weight, settings, names):
    x = np.zeros(input + input[-1:] * (rank - 1))
    w = np.zeros(weight + weight[-1:] * (rank - 1))
    with pytest.raises(ValueError) as caught:
        getattr(fc, f"conv{rank}d")(x, w, **settings)
    assert all(name in str(caught.value) for name in names)
    with pytest.raises(ValueError):
        getattr(fc, f"conv{rank}d_backward")(x, x, w, **settings)
    with pytest.raises(ValueError):
        fc.prepare_conv(w, **settings, input_shape=x.shape)
    with pytest.raises(ValueError):
        fc.prepare_conv(w, **settings)(x)


@pytest.mark.parametrize("name", [*BACKWARD, *TRANSPOSE_BACKWARD])
@pytest.mark.parametrize("change", ["channels", "length", "batch", "unbatched", "transposed"])
def test_gradient_of_another_shape(name, change):
    arguments = good(name)
    dy = arguments["grad_output"]
    arguments["grad_output"] = {
        "channels": np.concatenate([dy, dy], axis=1),
        "length": dy[..., :-1].copy(),
        "batch": dy[:1],
        "unbatched": dy[0],
        "transposed": dy.T,
    }[change]
    with pytest.raises(ValueError, match=r"^grad_output: expected shape .* got shape"):
        getattr(fc, name)(**arguments)


# --- out ---------------------------------------------------------------------------------------


def wrong_outs():
    """(name, out, an input that shares its memory or None, error, word)"""
    shape = (N, F, L - K + 1)
    readonly = np.zeros(shape, np.float32)
    readonly.flags.writeable = False
    unaligned = np.zeros(4 * np.prod(shape) + 1, np.uint8)[1:].view(np.float32).reshape(shape)
    return [
        ("shape", np.zeros((N, F, L - K), np.float32), ValueError, "shape"),
        ("unbatched", np.zeros(shape[1:], np.float32), ValueError, "shape"),
        ("extra axis", np.zeros((*shape, 1), np.float32), ValueError, "shape"),
        ("float64", np.zeros(shape), TypeError, "dtype"),
        ("integers", np.zeros(shape, np.int32), TypeError, "dtype"),
        ("byte order", np.zeros(shape, np.dtype(np.float32).newbyteorder()), TypeError, "dtype"),
        ("Fortran order", np.zeros(shape[::-1], np.float32).T, ValueError, "C-contiguous"),
        ("gaps", np.zeros((*shape, 2), np.float32)[..., 0], ValueError, "C-contiguous"),
        ("unaligned", unaligned, ValueError, "aligned"),
        ("read-only", readonly, ValueError, "read-only"),
    ]


@pytest.mark.parametrize("prepared", [False, True])
@pytest.mark.parametrize(
    ("out", "error", "word"), [pytest.param(*w[1:], id=w[0]) for w in wrong_outs()]
)
def test_out_that_cannot_take_the_result(out, error, word, prepared):
    x, w, b = good("conv1d").values()
    with pytest.raises(error, match=f"^out: .*{word}"):
        if prepared:
            fc.prepare_conv(w, b)(x, out=out)
        else:
            fc.conv1d(x, w, b, out=out)
    assert not out.any(), "written to before the error"


@pytest.mark.parametrize("victim", ["input", "weight", "bias"])
@pytest.mark.parametrize("copied", [False, True], ids=["plain", "strided"])
def test_out_that_overlaps_an_operand(victim, copied):
    memory = np.zeros(1000, np.float32)
    operands = dict(
        input=np.ones((1, 4, 4), np.float32),
        weight=np.ones((4, 4, 1), np.float32),
        bias=np.ones(4, np.float32),
    )
    size = operands[victim].size
    step = 2 if copied else 1
    begin = 100
    shape = operands[victim].shape
    operands[victim] = memory[begin : begin + size * step : step].reshape(shape)
    last = begin + (size - 1) * step
    for first in (begin - 15, begin, last):  # one cell in common, or more
        with pytest.raises(ValueError, match=f"^out: .*overlaps {victim}"):
            fc.conv1d(**operands, out=memory[first : first + 16].reshape(1, 4, 4))
    assert not memory.any()
    for first in (begin - 16, last + 1):  # none
        out = memory[first : first + 16].reshape(1, 4, 4)
        assert fc.conv1d(**operands, out=out) is out


# --- sizes beyond 2^31 and 2^63 ----------------------------------------------------------------


@pytest.mark.parametrize("name", [*CONV])
def test_output_beyond_all_memory(name):
    arguments = good(name)
    with pytest.raises((ValueError, MemoryError)) as caught:
        if "1d" in name:  # one axis cannot get there: the padding is below 2^31
            arguments["input"] = np.broadcast_to(
                arguments["input"][..., :1], (N, C, 2**60 // N // C)
            )
            getattr(fc, name)(**arguments)
        else:
            getattr(fc, name)(**arguments, padding=2**31 - 1)
    assert "padding" in str(caught.value) or "1d" in name


@pytest.mark.parametrize("name", [*TRANSPOSE, *TRANSPOSE_BACKWARD])
def test_transposed_output_beyond_all_memory(name):
    with pytest.raises((ValueError, MemoryError)):
        getattr(fc, name)(**good(name), stride=2**31 - 1, dilation=2**31 - 1)


def test_padded_image_beyond_all_memory():
    """A small output all the same: no driver may try to make that image."""
    huge = 2**31 - 1
    one = np.ones((1, 1, 1, 1), np.float32)
    with pytest.raises(ValueError, match=r"^padding: .*2\^60"):
        fc.conv2d(one, one, padding=huge, stride=huge)


def test_broadcast_operands_larger_than_memory():
    """They occupy a few bytes, but are more than 2^63 together, or more than can be copied."""
    one = np.ones((1, 1, 1), np.float32)
    with pytest.raises(MemoryError):
        fc.conv1d(np.broadcast_to(one, (1, 1, 2**50)), one)
    with pytest.raises((ValueError, MemoryError)):
        fc.conv1d(np.broadcast_to(one, (2**30, 1, 2**30)), np.broadcast_to(one, (2**30, 1, 1)))
    with pytest.raises((ValueError, MemoryError)):
        fc.conv1d(one, np.broadcast_to(one, (2**55, 1, 1)))
    with pytest.raises((ValueError, MemoryError)):
        fc.conv1d_backward(one, one, np.broadcast_to(one, (1, 1, 2**55)), padding=2**30)


def test_shapes_beyond_all_memory_are_turned_away():
    with pytest.raises(ValueError, match=r"^padding: .*2\^60"):
        fc.conv_output_shape((2**40, 1, 2**40), (1, 1, 1))
    with pytest.raises(ValueError, match=r"input_shape"):
        fc.conv_output_shape((1, 1, 2**63), (1, 1, 1))


def test_operands_that_numpy_cannot_read_keep_its_reason():
    class Stubborn:
        def __array__(self, dtype=None, copy=None):
            raise RuntimeError("not on the CPU")

    with pytest.raises(TypeError, match=r"input: .*Stubborn.*not on the CPU"):
        fc.conv1d(Stubborn(), np.ones((1, 1, 1)))


@pytest.mark.parametrize(
    ("change", "error", "word"),
    [
        ({"wrt": "bias"}, ValueError, "wrt"),
        ({"wrt": None}, ValueError, "wrt"),
        ({"input": np.ones((1, 7, 11))}, ValueError, "input"),
        ({"input": np.ones((7, 11), complex)}, TypeError, "input"),
        ({"input": np.ones((6, 11))}, ValueError, "weight"),
        ({"input": np.ones((7, 2))}, ValueError, "input"),
        ({"weight": np.ones((7, 3))}, ValueError, "weight"),
        ({"weight": None}, TypeError, "weight"),
        ({"stride": 0}, ValueError, "stride"),
        ({"padding": -1}, ValueError, "padding"),
        ({"dilation": 1.5}, TypeError, "dilation"),
        ({"groups": 2}, ValueError, "groups"),
    ],
)
def test_wrong_argument_of_the_jacobian(change, error, word):
    arguments = {"input": np.ones((7, 11)), "weight": np.ones((1, 7, 3)), **change}
    with pytest.raises(error, match=f"^{word}"):
        fc.jacobian.conv(**arguments)


@pytest.mark.parametrize("function", [fc.set_num_threads, fc.num_threads])
@pytest.mark.parametrize(
    ("value", "error"),
    [(0, ValueError), (-1, ValueError), (2**31, ValueError), (2**70, ValueError),
     (1.0, TypeError), ("2", TypeError), (None, TypeError), (True, TypeError)],
)  # fmt: skip
def test_wrong_number_of_threads(function, value, error):
    before = fc.get_num_threads()
    with pytest.raises(error, match=r"^n: expected"):
        function(value)
    assert fc.get_num_threads() == before


# --- what is extreme, yet right ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("input", "weight", "settings"),
    [
        ((2, 4, 5), (2, 2, 2, 2), dict(stride=2**31 - 1)),
        ((2, 4, 5), (2, 2, 2, 2), dict(dilation=2**25, padding="same")),
        ((2, 4, 5), (2, 2, 3, 1), dict(stride=10**6, padding=((10**6, 3), (0, 10**6)))),
        ((4, 7), (6, 2, 4), dict(dilation=2**31 - 1, padding="same", groups=2)),
        ((1, 1, 1, 2), (1, 1, 1, 3, 1), dict(stride=(1, 1, 2**29), dilation=(7, 1000, 50),
                                             padding=((0, 0), (1000, 1000), (2**31 - 1, 0)))),
    ],
)  # fmt: skip
def test_a_geometry_of_billions(input, weight, settings):
    """Taps far outside the image cost nothing."""
    random = np.random.default_rng(0)
    x, w = random.integers(-4, 5, input).astype("f4"), random.integers(-4, 5, weight).astype("f4")
    rank = w.ndim - 2
    y = getattr(fc, f"conv{rank}d")(x, w, **settings)
    by_weight = fc.jacobian.conv(x, w, **settings)
    by_input = fc.jacobian.conv(x, w, **settings, wrt="input")
    assert np.array_equal(y, np.tensordot(by_weight, w, w.ndim))
    grads = getattr(fc, f"conv{rank}d_backward")(y, x, w, **settings)
    assert np.array_equal(grads.weight, np.tensordot(y, by_weight, y.ndim))
    assert np.array_equal(grads.input, np.tensordot(y, by_input, y.ndim))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc and RLIMIT_AS")
def test_no_memory_for_scratch():
    """A MemoryError, and the next call is none the worse for it."""
    program = """
import resource
import numpy as np, fastconv as fc
from fastconv import _core
x, w = np.ones((1, 128, 48, 48), "f4"), np.ones((128, 128, 3, 3), "f4")
out = np.empty((1, 128, 48, 48), "f4")
calls = [
    lambda: fc.conv2d(x, w, padding=1, out=out, algorithm="direct"),
    lambda: fc.conv2d(x, w, padding=1, out=out, algorithm="winograd"),
    lambda: fc.conv2d_backward(out, x, w, padding=1),
    lambda: fc.prepare_conv(w),
]
failed = 0
for call in calls:
    call()
    for more in (0, 2**16, 2**19, 2**21, 2**23, 2**25, 2**27):
        _core.clear_scratch()
        size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (size + more, resource.RLIM_INFINITY))
        try:
            call()
        except MemoryError:
            failed += 1
        finally:
            resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY,) * 2)
fc.conv2d(x, w, padding=1, out=out, algorithm="direct")
print(failed > 0 and (out[0, :, 1:-1, 1:-1] == 128 * 9).all())
"""
    run = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "FASTCONV_NUM_THREADS": "1"},
        capture_output=True, text=True, timeout=100,
    )  # fmt: skip
    assert run.stdout == "True\n", run.stderr
