"""Every kernel test runs under every instruction set of this CPU, in both dtypes, on one thread
and on two: it names the fixtures `isa`, `dtype` and `threads`, and calls fastconv."""

import hypothesis
import numpy as np
import pytest

import fastconv as fc
from fastconv import _core

# The fixtures below set what lasts for all examples of a test, so sharing them is what we want.
hypothesis.settings.register_profile(
    "fastconv",
    max_examples=25,
    deadline=None,
    suppress_health_check=[
        hypothesis.HealthCheck.function_scoped_fixture,
        hypothesis.HealthCheck.too_slow,
    ],
)
hypothesis.settings.load_profile("fastconv")


@pytest.fixture(params=_core.isa_names())
def isa(request):
    """The name of the instruction set in force."""
    before = _core.isa()
    _core.select_isa(request.param)
    yield request.param
    _core.select_isa(before)


@pytest.fixture(params=["float32", "float64"])
def dtype(request):
    return np.dtype(request.param)


@pytest.fixture(params=[1, 2], ids=["1thread", "2threads"])
def threads(request):
    """How many threads a kernel may use."""
    with fc.num_threads(request.param):
        yield request.param


@pytest.fixture(params=["direct", "auto"])
def algorithm(request):
    return request.param
