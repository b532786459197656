"""Threads and settings: limits, the GIL, concurrent calls, forks, the environment."""

import os
import pickle
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

import fastconv as fc
from fastconv import _core

MOST = fc.get_num_threads()
several = pytest.mark.skipif(MOST < 2, reason="OpenMP gives one thread here")

random = np.random.default_rng(0)
X = random.standard_normal((4, 32, 40, 40)).astype(np.float32)
W = random.standard_normal((32, 32, 3, 3)).astype(np.float32)
DY = random.standard_normal((4, 32, 38, 38)).astype(np.float32)


@pytest.fixture(autouse=True)
def as_before():
    yield
    fc.set_num_threads(2**31 - 1)


def everything(x=X):
    """Bytes of a forward and a backward pass that use several threads where they may."""
    return pickle.dumps((fc.conv2d(x, W), *fc.conv2d_backward(DY[: len(x)], x, W)))


def python(program, **environment):
    """Run a program in a Python of its own, which imports what this one does."""
    return subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **environment},
        capture_output=True, text=True, timeout=100,
    )  # fmt: skip


# --- limits ------------------------------------------------------------------------------------


def test_limit_for_all():
    fc.set_num_threads(1)
    assert fc.get_num_threads() == 1
    with ThreadPoolExecutor(1) as other:
        assert other.submit(fc.get_num_threads).result() == 1
    fc.set_num_threads(MOST + 100)
    assert fc.get_num_threads() == MOST  # no more than OpenMP allows


def test_limit_for_a_block():
    with fc.num_threads(1):
        assert fc.get_num_threads() == 1
        with fc.num_threads(MOST):
            assert fc.get_num_threads() == MOST
        assert fc.get_num_threads() == 1
        fc.set_num_threads(MOST)
        assert fc.get_num_threads() == 1  # the block's own limit counts
    assert fc.get_num_threads() == MOST
    with pytest.raises(KeyError), fc.num_threads(1):
        raise KeyError
    assert fc.get_num_threads() == MOST


def test_limit_for_a_block_is_that_of_one_thread():
    with ThreadPoolExecutor(1) as other:
        with fc.num_threads(1):
            assert other.submit(fc.get_num_threads).result() == MOST
        with fc.num_threads(1):
            assert fc.get_num_threads() == 1


@several
def test_threadpoolctl_limits_the_threads():
    with threadpool_limits(1):
        assert fc.get_num_threads() == 1
    assert fc.get_num_threads() == MOST


def test_any_limit_gives_the_same_bits():
    want = everything()
    for n in (1, 2, 3, MOST):
        with fc.num_threads(n):
            assert everything() == want


# --- concurrency -------------------------------------------------------------------------------


CALLS = {
    "forward": lambda x, w, dy: fc.conv2d(x, w),
    "backward": lambda x, w, dy: fc.conv2d_backward(dy, x, w),
    "transposed": lambda x, w, dy: fc.conv_transpose2d(dy, w),
    "transposed backward": lambda x, w, dy: fc.conv_transpose2d_backward(x, dy, w),
    "prepared": lambda x, w, dy: fc.prepare_conv(w)(x),
}


def ticks_amid(call):
    """How often another thread came to turn in the middle half of a call."""
    ticks, done = [], threading.Event()

    def count():
        while not done.is_set():
            ticks.append(time.perf_counter())

    other = threading.Thread(target=count)
    other.start()
    begin = time.perf_counter()
    call()
    end = time.perf_counter()
    done.set()
    other.join()
    quarter = (end - begin) / 4
    return sum(begin + quarter < t < end - quarter for t in ticks)


@pytest.mark.parametrize("name", CALLS)
def test_the_gil_is_released(name):
    """While one thread is in a kernel, another goes on: with the GIL held it would stand still.
    On a machine that others use it may be given no core for one call, but not for all."""
    shapes = (16, 64, 66, 66), (64, 64, 3, 3), (16, 64, 64, 64)
    arrays = [np.ones(shape, np.float32) for shape in shapes]
    with fc.num_threads(1):
        assert any(ticks_amid(lambda: CALLS[name](*arrays)) > 10 for _ in range(8))


@pytest.mark.parametrize("threads", [1, 2])
def test_concurrent_calls(threads):
    """Of different sizes, in many threads at once, on scratch memory that all share."""
    inputs = [np.ascontiguousarray(X[: 1 + i % 4, :, : 39 + i % 2]) for i in range(4)]
    inputs[1::2] = [X[: len(x)] for x in inputs[1::2]]
    prepared = fc.prepare_conv(W)

    def work(i):
        x = inputs[i % 4]
        with fc.num_threads(threads):
            y = prepared(x)
            g = fc.conv2d_backward(y, x, W)
        return pickle.dumps((y, *g))

    want = [work(i) for i in range(4)]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(work, range(64))) == want * 16


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("from_thread", [False, True])
def test_a_forked_child_works(from_thread):
    """Also where the parent has computed on many threads before, and while it does so."""
    program = f"""
import os, pickle, sys, threading, warnings
import numpy as np, fastconv as fc
warnings.simplefilter("ignore")
x, w = np.ones((8, 32, 40, 40), "f4"), np.ones((32, 32, 3, 3), "f4")
def everything():
    y = fc.conv2d(x, w)
    return pickle.dumps((y, *fc.conv2d_backward(y, x, w)))
want = everything()
stop = threading.Event()
def busy():
    while not stop.is_set():
        everything()
if {from_thread}:
    threading.Thread(target=busy, daemon=True).start()
for _ in range(5):
    child = os.fork()
    if child == 0:
        os._exit(0 if everything() == want else 1)
    assert os.waitpid(child, 0)[1] == 0
stop.set()
assert everything() == want
print("fine")
"""
    run = python(program)
    assert run.stdout == "fine\n", run.stderr


def test_scratch_memory_is_given_back_on_request():
    everything()
    assert _core.clear_scratch() > 0
    assert _core.clear_scratch() == 0
    everything()


# --- the environment ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", _core.isa_names())
def test_isa_from_the_environment(name):
    run = python("from fastconv import _core; print(_core.isa())", FASTCONV_ISA=name)
    assert run.stdout.strip() == name


def test_best_isa_without_it():
    run = python("from fastconv import _core; print(_core.isa())", FASTCONV_ISA="")
    assert run.stdout.strip() == _core.isa_names()[0]
    assert "baseline" in _core.isa_names()


@pytest.mark.parametrize("name", ["sse9", "AVX2", "avx512 "])
def test_unknown_isa_raises_at_import(name):
    run = python("import fastconv", FASTCONV_ISA=name)
    assert run.returncode == 1
    message = run.stderr.splitlines()[-1]
    assert message.startswith("ValueError: FASTCONV_ISA") and repr(name) in message
    assert all(known in message for known in _core.isa_names())


def test_unsupported_isa_is_refused():
    before = _core.isa()
    for name in {"avx512", "avx2", "neon", "", None} - set(_core.isa_names()):
        with pytest.raises(ValueError, match="unknown or unsupported"):
            _core.select_isa(name)
    assert _core.isa() == before


def test_threads_from_the_environment():
    program = "import fastconv as fc; print(fc.get_num_threads())"
    assert python(program, FASTCONV_NUM_THREADS="1").stdout == "1\n"
    assert python(program, FASTCONV_NUM_THREADS="4096").stdout == f"{MOST}\n"
    for wrong in ("0", "-1", "two", "1.5", str(2**31)):
        run = python(program, FASTCONV_NUM_THREADS=wrong)
        assert run.returncode == 1
        assert run.stderr.splitlines()[-1].startswith("ValueError: FASTCONV_NUM_THREADS: expected")


def test_show_config(capsys):
    with fc.num_threads(1):
        fc.show_config()
    shown = capsys.readouterr().out
    assert fc.__version__ in shown
    assert f"instruction set: {_core.isa()}" in shown
    assert "threads: 1\n" in shown
    assert "OpenMP: " in shown
