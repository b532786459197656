"""exp and sigmoid of the recurrent cells: at most two units in the last place off, everywhere."""

from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal, localcontext

import numpy as np
import pytest
from every_isa import every_isa_with_fma

from fastconv import _core

FUNCTIONS = ["exp", "sigmoid"]
CHUNK = 1 << 20


def exact(name, x):
    """In float64, right to far less than a float32's last place."""
    e = np.exp(x if name == "exp" else -np.abs(x))
    return e if name == "exp" else np.where(x < 0, e, 1) / (1 + e)


def float32_off(name, x):
    """Those of x where the kernel is more than 2 units in the last place off."""
    got = _core.cell_function(name, x)
    with np.errstate(all="ignore"):  # signalling NaNs
        want = exact(name, x.astype(np.float64))
        rounded = want.astype(np.float32)
    # Neighbouring floats have neighbouring bits, from 0 to infinity: one apart is close enough.
    suspect = np.abs(got.view(np.int32) - rounded.view(np.int32)) > 1
    suspect &= ~(np.isnan(got) & np.isnan(rounded))
    got, want, rounded = (a[suspect].astype(np.float64) for a in (got, want, rounded))
    error = np.abs(got - want) / np.spacing(rounded.astype(np.float32)).astype(np.float64)
    return x[suspect][~(error <= 2)]


def check_bit_patterns(name, first, stride):
    """All float32 whose bits are first, first + stride, ..., CHUNK patterns at a time."""

    def chunk(begin):
        bits = np.arange(begin, min(begin + CHUNK * stride, 1 << 32), stride, dtype=np.uint64)
        return float32_off(name, bits.astype(np.uint32).view(np.float32))

    with ThreadPoolExecutor(2) as pool:
        off = np.concatenate(list(pool.map(chunk, range(first, 1 << 32, CHUNK * stride))))
    assert not len(off), f"{len(off)} are off, such as {name}({off[0]!r})"


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_float32(name):
    check_bit_patterns(name, 0, 1)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_float32(name, isa):
    check_bit_patterns(name, 5, 31 if isa == _core.isa_names()[0] else 1999)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_float64(name, isa):
    random = np.random.default_rng(5)
    x = np.concatenate([
        random.uniform(-746, 710, 400),
        random.uniform(-40, 40, 800),
        random.standard_normal(200) * 2.0 ** random.integers(-60, 0, 200),
        [709.78271289338397, 709.78271289338409, -745.13321910194, -745.1332191019412, -708.5, 0],
    ])  # fmt: skip
    got = _core.cell_function(name, x)
    with localcontext() as context:
        context.prec = 50
        one = Decimal(1)
        for value, result in zip(x.tolist(), got.tolist(), strict=True):
            e = Decimal(value).exp()
            want = e if name == "exp" else one / (one + one / e)
            if np.isinf(result):
                assert want > Decimal(float(np.finfo(np.float64).max)), value
                continue
            error = abs(Decimal(result) - want) / Decimal(float(np.spacing(float(want))))
            assert error <= 2, f"{name}({value!r}) = {result!r} is {error:.2f} units off"


@pytest.mark.parametrize("name, low, high", [("exp", 0, np.inf), ("sigmoid", 0, 1)])
def test_extremes(name, low, high, isa, dtype):
    info = np.finfo(dtype)
    x = np.array([np.inf, info.max, -np.inf, info.min, 0, -0.0, info.smallest_subnormal, np.nan])
    with np.errstate(all="ignore"):
        got = _core.cell_function(name, x.astype(dtype))
    middle = 1 if name == "exp" else 0.5
    np.testing.assert_array_equal(got, [high, high, low, low, middle, middle, middle, np.nan])


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_value_does_not_depend_on_where_it_stands(name, isa, dtype):
    x = np.random.default_rng(6).normal(0, 9, 70).astype(dtype)
    whole = _core.cell_function(name, x)
    for count in range(len(x)):
        assert _core.cell_function(name, x[count:]).tobytes() == whole[count:].tobytes()


@pytest.mark.parametrize("name", FUNCTIONS)
def test_same_bits_on_every_isa_with_fma(name, dtype):
    x = np.random.default_rng(7).normal(0, 30, 100_000).astype(dtype)
    results = {_core.cell_function(name, x).tobytes() for _ in every_isa_with_fma()}
    assert len(results) <= 1
