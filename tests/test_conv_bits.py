"""The same bits for every number of threads, every batch, every instruction set with FMA."""

import itertools

import numpy as np
import pytest
from conv_cases import HEAVY, LONG, NAMED, PADDED, Geometry, function, problem
from every_isa import every_isa_with_fma

import fastconv as fc

# Work enough for several threads, along every axis that it could be divided by.
LARGE = [
    Geometry((5, 16, 40, 40), (24, 16, 3, 3), 1, 1),
    Geometry((1, 130, 14, 15), (70, 130, 3, 3), 1, 1),
    Geometry((1, 40, 56, 57), (33, 40, 1, 1)),
    Geometry((3, 34, 19, 21), (50, 17, 1, 1), 1, 0, 1, 2),
    Geometry((1, 3, 90, 90), (32, 3, 7, 7), 2, 3),
    Geometry((3, 2, 60, 61), (64, 2, 5, 5), 1, 2),
    Geometry((3, 96, 40, 41), (96, 1, 3, 3), 1, 1, 1, 96),
    Geometry((2, 32, 33, 33), (48, 16, 3, 3), 2, 2, 2, 2),
    Geometry((3, 24, 2000), (24, 24, 3), 1, 8, 8),
    Geometry((3, 9, 3000), (9, 1, 300), 1, 299, 1, 9),
    Geometry((1, 16, 8, 20, 20), (16, 16, 3, 3, 3), 1, 1),
]

# One, two, three and seven pixels beside whole vectors of them, or none; sums in several products.
ENDS = [
    Geometry((1, 2400, 1), (70, 2400, 1)),
    Geometry((1, 2400, 7), (70, 2400, 1)),
    Geometry((1, 9, 2, 9), (70, 9, 1, 1)),
    Geometry((1, 9, 5, 7), (70, 9, 1, 1)),
    Geometry((1, 9, 10, 9), (70, 9, 1, 1), 2),
]


def results(p, algorithm):
    """Output and gradients."""
    settings = dict(p.geometry.settings, algorithm=algorithm)
    y = function("conv{}", p.geometry.rank)(p.x, p.w, p.b, **settings)
    return y, *function("conv{}_backward", p.geometry.rank)(p.dy, p.x, p.w, **settings)


def assert_same_bits(ones, others, what):
    for name, a, b in zip(("output", "input", "weight", "bias"), ones, others, strict=True):
        assert a.tobytes() == b.tobytes(), f"{what}: {name} differs, by {abs(a - b).max()}"


@pytest.mark.parametrize("geometry", LARGE + NAMED[7:9] + PADDED + HEAVY + LONG[:3], ids=str)
def test_threads(geometry, isa, dtype, algorithm):
    p = problem(geometry, dtype)
    with fc.num_threads(1):
        one = results(p, algorithm)
    for threads in 2, 3, 5:
        with fc.num_threads(threads):
            assert_same_bits(one, results(p, algorithm), f"{threads} threads")


@pytest.mark.parametrize(
    "geometry",
    [g for g in LARGE + NAMED + LONG if len(g.input) == g.rank + 2 and g.input[0] > 0],
    ids=str,
)
def test_batch(geometry, isa, dtype):
    """An item's output and input gradient are the same alone and in whatever company."""
    p = problem(geometry, dtype)
    conv = function("conv{}", geometry.rank)
    backward = function("conv{}_backward", geometry.rank)

    def both(x, dy):
        grads = backward(dy, x, p.w, **geometry.settings, output_mask=(True, False, False))
        return conv(x, p.w, p.b, **geometry.settings), grads.input

    x = np.concatenate([p.x, -p.x, p.x[:1]])
    dy = np.concatenate([p.dy, -p.dy, p.dy[:1]])
    together = both(x, dy)
    for i in {0, len(x) // 2, len(x) - 1}:
        alone, unbatched = both(x[i : i + 1], dy[i : i + 1]), both(x[i], dy[i])
        for whole, one, bare in zip(together, alone, unbatched, strict=True):
            assert whole[i].tobytes() == one.tobytes() == bare.tobytes()


@pytest.mark.parametrize("geometry", LARGE + ENDS + NAMED + HEAVY + LONG, ids=str)
def test_instruction_sets_with_fma(geometry, dtype):
    p = problem(geometry, dtype)
    every = {isa: results(p, "direct") for isa in every_isa_with_fma()}
    for one, other in itertools.pairwise(every):
        assert_same_bits(every[one], every[other], f"{one} and {other}")


@pytest.mark.parametrize("geometry", LARGE[:7] + ENDS + PADDED + LONG[:4], ids=str)
def test_prepared(geometry, isa, dtype, threads, algorithm):
    p = problem(geometry, dtype)
    prepared = fc.prepare_conv(
        p.w, p.b, **geometry.settings, input_shape=geometry.input, algorithm=algorithm
    )
    plain = function("conv{}", geometry.rank)(
        p.x, p.w, p.b, **geometry.settings, algorithm=prepared.algorithm
    )
    assert prepared(p.x).tobytes() == plain.tobytes()
