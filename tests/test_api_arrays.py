"""What may be given and what comes back: dtypes, layouts, `out`, lists, sizes of zero."""

import ml_dtypes
import numpy as np
import pytest

import fastconv as fc

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)

random = np.random.default_rng(3)
# Small integers: every sum is exact in every dtype, so results can be compared bit by bit.
X = random.integers(-4, 5, (2, 4, 9)).astype(np.float64)
W = random.integers(-4, 5, (6, 2, 3)).astype(np.float64)
B = random.integers(-4, 5, 6).astype(np.float64)
W_TRANSPOSED = random.integers(-4, 5, (4, 3, 3)).astype(np.float64)
SETTINGS = dict(stride=2, padding=((2, 1),), groups=2)


def conv(x, w, b):
    return fc.conv1d(x, w, b, **SETTINGS)


def conv_backward(x, w, b):
    shape = (*np.shape(x)[:-2], 6, 5)
    dy = np.arange(np.prod(shape)).reshape(shape) % 7 - 3
    return fc.conv1d_backward(dy.astype(np.int8), x, w, **SETTINGS)


def conv_transpose(x, w, b):
    return fc.conv_transpose1d(x, w if np.shape(w)[0] == 4 else W_TRANSPOSED, b, **SETTINGS)


def prepared(x, w, b):
    return fc.prepare_conv(w, b, **SETTINGS)(x)


def equal(got, want):
    if isinstance(want, tuple):
        return all(map(equal, got, want))
    return got.shape == want.shape and np.array_equal(got.astype(np.float64), want)


CALLS = pytest.mark.parametrize("call", [conv, conv_backward, prepared])


# --- dtypes ------------------------------------------------------------------------------------


@CALLS
@pytest.mark.parametrize(
    ("dtype", "result"),
    [
        (np.float32, np.float32),
        (np.float64, np.float64),
        (np.float16, np.float16),
        (BFLOAT16, BFLOAT16),
        (np.int8, np.float64),
        (np.uint64, np.float64),
        (np.dtype(">i4"), np.float64),
        (np.dtype(">f4"), np.float32),
        (np.dtype(">f8"), np.float64),
        (np.dtype(">f2"), np.float16),
    ],
    ids=str,
)
def test_dtype_of_the_result(call, dtype, result):
    x, w, b = abs(X).astype(dtype), abs(W).astype(dtype), abs(B).astype(dtype)
    got = call(x, w, b)
    assert equal(got, call(abs(X), abs(W), abs(B)))
    for array in got if isinstance(got, tuple) else [got]:
        assert array.dtype == result and array.dtype.isnative


def test_booleans_count():
    y = fc.conv1d(X > 0, W > 0, stride=3, groups=2)
    assert y.dtype == np.float64
    assert np.array_equal(y, fc.conv1d((X > 0) * 1.0, (W > 0) * 1.0, stride=3, groups=2))


@CALLS
@pytest.mark.parametrize(
    ("x_dtype", "w_dtype", "result"),
    [
        (np.float32, np.float64, np.float64),
        (np.float64, np.float32, np.float64),
        (np.float16, np.float32, np.float32),
        (BFLOAT16, np.float32, np.float32),
        (np.float16, BFLOAT16, np.float32),
        (np.float32, np.int8, np.float32),
        (np.float16, np.int8, np.float16),
        (np.float32, np.int64, np.float64),
        (np.int64, np.float32, np.float64),
        (BFLOAT16, np.float64, np.float64),
        (BFLOAT16, np.int8, BFLOAT16),
        (np.int64, BFLOAT16, np.float64),
    ],
    ids=str,
)
def test_mixed_dtypes_follow_numpy(call, x_dtype, w_dtype, result):
    got = call(X.astype(x_dtype), W.astype(w_dtype), B.astype(w_dtype))
    assert equal(got, call(X, W, B))
    assert (got[0] if isinstance(got, tuple) else got).dtype == result


def test_dtype_of_the_bias_counts():
    assert fc.conv1d(X.astype("f4"), W.astype("f4"), B, groups=2).dtype == np.float64
    prepared = fc.prepare_conv(W.astype("f4"), B, groups=2)
    assert prepared(X.astype("f4")).dtype == np.float64


@pytest.mark.parametrize("dtype", [np.float16, BFLOAT16], ids=str)
def test_halves_are_summed_in_float32(dtype):
    """4096 + 1 + 1 + ... would stay 4096 in a half."""
    x = np.ones((1, 1, 513), dtype)
    x[..., 0] = 4096
    assert fc.conv1d(x, np.ones((1, 1, 513), dtype))[0, 0, 0] == 4608
    dw = fc.conv1d_backward(np.ones((1, 1, 513), dtype), x, np.ones((1, 1, 1), dtype)).weight
    assert dw[0, 0, 0] == 4608


def test_each_half_product_is_rounded_once():
    random = np.random.default_rng(0)
    x, w = (random.standard_normal(s).astype(np.float16) for s in ((2, 8, 30), (4, 8, 5)))
    want = fc.conv1d(x.astype("f4"), w.astype("f4")).astype(np.float16)
    assert np.array_equal(fc.conv1d(x, w), want)


def test_float64_is_not_computed_in_float32():
    assert fc.conv1d([[1.0, 2.0**-40]], [[[1.0, 1.0]]])[0, 0] == 1 + 2.0**-40


# --- layouts -----------------------------------------------------------------------------------


def unaligned(array):
    memory = np.zeros(array.nbytes + 1, np.uint8)[1:]
    result = memory.view(array.dtype).reshape(array.shape)
    result[...] = array
    assert not result.flags.aligned
    return result


def readonly(array):
    array = array.copy()
    array.flags.writeable = False
    return array


class Subclass(np.ndarray):
    pass


LAYOUTS = {
    "Fortran": np.asfortranarray,
    "reversed": lambda a: a[..., ::-1].copy()[..., ::-1],
    "every other": lambda a: np.repeat(a, 2, axis=0)[::2],
    "axes moved": lambda a: np.ascontiguousarray(a.T).T,
    "byte order": lambda a: a.astype(a.dtype.newbyteorder()),
    "unaligned": unaligned,
    "read-only": readonly,
    "broadcast": lambda a: np.broadcast_to(a, a.shape),
    "subclass": lambda a: a.view(Subclass),
    "list": lambda a: a.tolist(),
    "tuple": lambda a: tuple(a.tolist()),
    "memoryview": memoryview,
    "array interface": lambda a: Holder(a),
}


class Holder:
    """A tensor of some other library."""

    def __init__(self, array):
        self.array, self.shape = array, array.shape

    def __array__(self, dtype=None, copy=None):
        return self.array


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("call", [conv, conv_backward, conv_transpose, prepared])
def test_every_layout_gives_the_same(call, layout, dtype):
    x, w, b = X.astype(dtype), W.astype(dtype), B.astype(dtype)
    if call is conv_transpose:
        w = W_TRANSPOSED.astype(dtype)
    laid = [LAYOUTS[layout](a) for a in (x, w, b)]
    before = [np.array(a) for a in laid]
    got = call(*laid)
    assert equal(got, call(x, w, b))
    assert type(got if isinstance(got, np.ndarray) else got[0]) is np.ndarray
    assert all(np.array_equal(a, np.asarray(old)) for a, old in zip(laid, before, strict=True))


def test_broadcast_channels():
    x = np.broadcast_to(np.arange(9.0), (2, 4, 9))
    assert np.array_equal(conv(x, W, B), conv(x.copy(), W, B))


def test_torch_tensors():
    torch = pytest.importorskip("torch")
    assert np.array_equal(conv(*map(torch.from_numpy, (X, W, B))), conv(X, W, B))
    with pytest.raises(TypeError, match=r"^input: "):
        conv(torch.from_numpy(X).requires_grad_(), W, B)


@pytest.mark.parametrize("ints", [int, np.int64, np.uint8, np.array], ids=lambda t: t.__name__)
def test_every_kind_of_integer_for_the_geometry(ints):
    settings = {name: ints(2) for name in ("stride", "dilation", "groups")}
    want = fc.conv1d(X, W, stride=2, dilation=2, groups=2, padding=1)
    for padding in (
        ints(1),
        [ints(1)],
        (ints(1),),
        np.array([1]),
        [[1, ints(1)]],
        np.ones((1, 2), int),
    ):
        assert np.array_equal(fc.conv1d(X, W, **settings, padding=padding), want)
    settings = {name: [value] if name != "groups" else value for name, value in settings.items()}
    assert np.array_equal(fc.conv1d(X, W, **settings, padding=1), want)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_forms_of_padding(rank):
    x, w = np.ones((1, *[5] * rank)), np.ones((1, 1, *[3] * rank))
    f = getattr(fc, f"conv{rank}d")
    want = f(np.pad(x, [(0, 0), *[(1, 2)] * rank]), w)
    assert np.array_equal(f(x, w, padding=[(1, 2)] * rank), want)
    assert np.array_equal(f(x, w, padding=((1, 2),) * rank), want)
    assert np.array_equal(f(x, w, padding=1), f(x, w, padding="same"))
    assert np.array_equal(f(x, w, padding=(1,) * rank), f(x, w, padding="same"))
    for image in x, x.tolist():
        assert np.array_equal(f(image, w, padding="valid"), f(x, w))
    with pytest.raises(ValueError, match="padding"):
        f(x, w, padding=(1,) * (rank + 1))


@pytest.mark.parametrize("length", range(1, 12))
@pytest.mark.parametrize("stride", [1, 2, 3, 5])
@pytest.mark.parametrize("kernel", [1, 2, 3, 4])
@pytest.mark.parametrize("dilation", [1, 3])
def test_same_padding_puts_the_odd_cell_after(length, stride, kernel, dilation):
    settings = dict(stride=stride, dilation=dilation)
    w = np.arange(1.0, kernel + 1).reshape(1, 1, kernel)
    x = np.arange(1.0, length + 1).reshape(1, 1, length)
    y = fc.conv1d(x, w, padding="same", **settings)
    assert y.shape[-1] == -(-length // stride)
    assert fc.conv_output_shape(x.shape, w.shape, padding="same", **settings) == y.shape
    total = max((y.shape[-1] - 1) * stride + dilation * (kernel - 1) + 1 - length, 0)
    padded = np.pad(x, ((0, 0), (0, 0), (total // 2, total - total // 2)))
    assert np.array_equal(y, fc.conv1d(padded, w, **settings))


# --- out ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, BFLOAT16], ids=str)
@pytest.mark.parametrize("kind", ["plain", "subclass", "unbatched"])
def test_out_is_written_and_returned(dtype, kind):
    x, w, b = X.astype(dtype), W.astype(dtype), B.astype(dtype)
    if kind == "unbatched":
        x = x[0]
    want = conv(x, w, b)
    out = np.full(want.shape, np.nan, dtype)
    if kind == "subclass":
        out = out.view(Subclass)
    assert fc.conv1d(x, w, b, **SETTINGS, out=out) is out
    assert np.array_equal(out, want)
    out[...] = np.nan
    assert fc.prepare_conv(w, b, **SETTINGS)(x, out=out) is out
    assert np.array_equal(out, want)


def test_out_of_a_call_that_copies_its_operands():
    out = np.full((2, 6, 5), np.nan)
    assert fc.conv1d(X[..., ::-1], W, B, **SETTINGS, out=out) is out
    assert np.array_equal(out, conv(X[..., ::-1].copy(), W, B))


def test_out_for_an_empty_batch():
    out = np.empty((0, 6, 5))
    assert fc.conv1d(X[:0], W, B, **SETTINGS, out=out) is out


# --- sizes of zero -----------------------------------------------------------------------------


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16], ids=str)
def test_empty_batch(rank, dtype):
    x = np.zeros((0, 4, *[9] * rank), dtype)
    w = np.zeros((6, 2, *[3] * rank), dtype)
    y = getattr(fc, f"conv{rank}d")(x, w, np.ones(6, dtype), groups=2)
    assert y.shape == (0, 6, *[7] * rank) and y.dtype == dtype
    grads = getattr(fc, f"conv{rank}d_backward")(y, x, w, groups=2)
    assert [g.shape for g in grads] == [x.shape, w.shape, (6,)]
    assert not grads.weight.any() and not grads.bias.any()
    assert all(g.dtype == dtype for g in grads)

    w = np.zeros((4, 3, *[3] * rank), dtype)
    y = getattr(fc, f"conv_transpose{rank}d")(x, w, np.ones(6, dtype), groups=2)
    assert y.shape == (0, 6, *[11] * rank)
    grads = getattr(fc, f"conv_transpose{rank}d_backward")(y, x, w, groups=2)
    assert [g.shape for g in grads] == [x.shape, w.shape, (6,)]
    assert not grads.weight.any()


def test_no_input_channels_leave_the_bias():
    x, w, b = np.zeros((2, 0, 5)), np.zeros((3, 0, 2)), np.array([1.0, 2.0, 3.0])
    want = np.broadcast_to(b[:, None], (2, 3, 4))
    assert np.array_equal(fc.conv1d(x, w, b), want)
    assert np.array_equal(fc.prepare_conv(w, b)(x), want)
    assert not fc.conv1d(x, w).any()
    dy = np.arange(24.0).reshape(2, 3, 4)
    grads = fc.conv1d_backward(dy, x, w)
    assert grads.input.shape == x.shape and grads.weight.shape == w.shape
    assert np.array_equal(grads.bias, dy.sum((0, 2)))
    assert np.array_equal(fc.conv1d_backward(dy[1], x[1], w).bias, dy[1].sum(1))
    assert fc.conv1d_backward(dy, x, w, output_mask=(False, True, False))[::2] == (None, None)


def test_no_filters():
    x, w = np.ones((2, 3, 5)), np.zeros((0, 3, 2))
    assert fc.conv1d(x, w, np.zeros(0)).shape == (2, 0, 4)
    grads = fc.conv1d_backward(np.zeros((2, 0, 4)), x, w)
    assert not grads.input.any() and grads.input.shape == x.shape
    assert grads.weight.shape == w.shape and grads.bias.shape == (0,)


def test_no_cells_but_padding_leave_the_bias():
    x, w, b = np.zeros((1, 2, 0)), np.ones((1, 2, 3)), np.array([5.0])
    assert np.array_equal(fc.conv1d(x, w, b, padding=2), [[[5.0, 5.0]]])


# --- gradients that are left out ---------------------------------------------------------------


@pytest.mark.parametrize("mask", list(np.ndindex(2, 2, 2)), ids=str)
@pytest.mark.parametrize("kind", [tuple, list, np.array])
def test_output_mask(mask, kind):
    dy = np.arange(60.0).reshape(2, 6, 5)
    whole = fc.conv1d_backward(dy, X, W, **SETTINGS)
    chosen = kind([bool(m) for m in mask])
    masked = fc.conv1d_backward(dy, X, W, **SETTINGS, output_mask=chosen)
    assert isinstance(masked, fc.ConvGrads)
    for wanted, got, want in zip(mask, masked, whole, strict=True):
        assert np.array_equal(got, want) if wanted else got is None
