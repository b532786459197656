"""The gated RNN against the reference, under every instruction set, dtype and number of threads."""

import copy
import pickle
import threading

import ml_dtypes
import numpy as np
import pytest
from every_isa import every_isa_with_fma
from gated_cases import Case, Problem, assert_results, assert_same_bits

import fastconv as fc
from fastconv import reference

CASES = [
    # Sizes from 1 to past the register tile.
    Case(1, 1, 1, 1),
    Case(1, 5, 3, 2, h0=False, biases=False),
    Case(7, 1, 5, 70),
    Case(6, 2, 33, 17, lengths=True),
    Case(9, 3, 1, 33, biases=False),
    Case(5, 9, 50, 50, h0=False),
    Case(4, 17, 7, 100, lengths=True),
    Case(3, 33, 49, 16),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_reference(case, isa, dtype, threads):
    problem = Problem(case, dtype)
    want = problem.backward(reference)
    got = problem.backward(fc)
    assert_results(got, want)
    np.testing.assert_array_equal(problem.forward(fc), got[0])


@pytest.mark.parametrize("case", [Case(1100, 1, 3, 20), Case(70, 33, 9, 40, lengths=True)], ids=str)
def test_longer_than_a_block(case, isa, dtype):
    """Past the blocks of steps forward, and the chunks over which the gradients are summed."""
    problem = Problem(case, dtype)
    assert_results(problem.backward(fc), problem.backward(reference), ulps=400)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_same_bits_for_any_batch(case, isa, dtype):
    """Every sequence gives the bits that it gives alone."""
    problem = Problem(case, dtype)
    whole = problem.backward(fc)
    for b in {0, case.batch - 1}:
        alone = Problem(case, dtype)
        for name in ("x", "grad_h"):
            setattr(alone, name, getattr(problem, name)[:, b : b + 1])
        alone.grad_h_last = problem.grad_h_last[b : b + 1]
        alone.h0 = None if problem.h0 is None else problem.h0[b : b + 1]
        if case.lengths:
            alone.options["lengths"] = problem.options["lengths"][b : b + 1]
        h, dx, *_, dh0, _, _ = alone.backward(fc)
        np.testing.assert_array_equal(h, whole[0][:, b : b + 1])
        np.testing.assert_array_equal(dx, whole[1][:, b : b + 1])
        np.testing.assert_array_equal(dh0, whole[5][b : b + 1])


@pytest.mark.parametrize(
    "case",
    [
        Case(260, 10, 30, 450, lengths=True),  # large enough for two threads by states,
        Case(50, 50, 30, 300, lengths=True),  # and by sequences; more chunks than are kept
        Case(130, 20, 70, 210),
        Case(1200, 2, 3, 20),
    ],
    ids=str,
)
def test_same_bits_for_any_threads_layout_and_isa(case, dtype):
    """On every instruction set with fused multiply-adds, that is all but the base line."""
    problem, first = Problem(case, dtype), Problem(case, dtype)
    first.x, first.grad_h = first.x.swapaxes(0, 1).copy(), first.grad_h.swapaxes(0, 1).copy()
    first.options["batch_first"] = True
    results = []
    for _ in every_isa_with_fma():
        for threads in (1, 2):
            with fc.num_threads(threads):
                results.append(problem.backward(fc))
                turned = first.backward(fc)
                results.append([a.swapaxes(0, 1) if i < 2 else a for i, a in enumerate(turned)])
    for result in results[1:]:
        assert_same_bits(result, results[0])


@pytest.mark.parametrize("case", CASES[:5], ids=str)
def test_step(case, isa, dtype, threads):
    """The same bits as the whole sequence has."""
    problem = Problem(case, dtype)
    biases = {name: problem.options[name] for name in ("b_c", "b_x") if case.biases}
    h = fc.gated_rnn(problem.x, *problem.w, problem.h0, **biases)
    state = problem.h0 if case.h0 else np.zeros((case.batch, case.m), dtype)
    for t in range(case.steps):
        alone = fc.gated_rnn_step(problem.x[t, 0], state[0], *problem.w, **biases)
        state = fc.gated_rnn_step(problem.x[t], state, *problem.w, **biases)
        np.testing.assert_array_equal(state, h[t], strict=True)
        np.testing.assert_array_equal(alone, h[t, 0], strict=True)
    want = reference.gated_rnn(problem.x.astype(float), *problem.w, problem.h0, **biases)
    np.testing.assert_allclose(state, want[-1], rtol=0, atol=50 * np.finfo(dtype).eps)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_layouts(case, threads):
    """batch_first, a single sequence without a batch, any strides and byte order."""
    problem = Problem(case, np.float64)
    want = problem.backward(fc)

    first = Problem(case, np.float64)
    first.x, first.grad_h = first.x.swapaxes(0, 1).copy(), first.grad_h.swapaxes(0, 1).copy()
    first.options["batch_first"] = True
    got = first.backward(fc)
    assert_same_bits([a.swapaxes(0, 1) if i < 2 else a for i, a in enumerate(got)], want)
    assert_results(first.backward(reference), got)

    odd = Problem(case, np.float64)
    odd.x = np.asfortranarray(odd.x)[::-1].astype(">f8")[::-1]
    odd.w = [np.repeat(w, 2, axis=-1)[..., ::2] for w in odd.w]
    odd.grad_h = np.asfortranarray(odd.grad_h)
    odd.x.flags.writeable = False
    h, tape = fc.gated_rnn(odd.x, *odd.w, odd.h0, **odd.options, return_tape=True)
    grads = fc.gated_rnn_backward(odd.grad_h, tape, grad_h_last=odd.grad_h_last.tolist())
    assert_same_bits([h, *grads], want)

    if case.batch == 1:
        alone = Problem(case, np.float64)
        alone.x, alone.grad_h = alone.x[:, 0], alone.grad_h[:, 0]
        alone.h0, alone.grad_h_last = alone.h0[0], alone.grad_h_last[0]
        got = alone.backward(fc)
        assert_results(alone.backward(reference), got)
        assert_same_bits([a[:, None] if i < 2 else a[None] if i == 5 else a
                          for i, a in enumerate(got)], want)  # fmt: skip
        half = (case.steps + 1) // 2
        cut = np.where(np.arange(case.steps)[:, None] < half, got[0], 0)
        for lengths in half, [half]:
            h = alone.forward(fc, lengths=lengths)
            np.testing.assert_array_equal(h, cut, strict=True)


def test_other_dtypes():
    """Halves are computed in float32, integers in float64, mixtures by np.result_type."""
    problem = Problem(Case(4, 3, 6, 5), np.float32)
    for dtype in (np.float16, ml_dtypes.bfloat16):
        operands = [a.astype(dtype) for a in (problem.x, *problem.w, problem.h0)]
        h, tape = fc.gated_rnn(*operands, return_tape=True)
        wide, wide_tape = fc.gated_rnn(*(a.astype("f4") for a in operands), return_tape=True)
        assert h.dtype == dtype
        np.testing.assert_array_equal(h, wide.astype(dtype))
        direct = problem.grad_h.astype(dtype)
        grads = fc.gated_rnn_backward(direct, tape)
        for got, want in zip(
            grads, fc.gated_rnn_backward(direct.astype("f4"), wide_tape), strict=True
        ):
            np.testing.assert_array_equal(got, want.astype(dtype), strict=True)
        step = fc.gated_rnn_step(operands[0][0], operands[4], *operands[1:4])
        np.testing.assert_array_equal(step, h[0], strict=True)
    ones = np.ones(problem.x.shape, int)
    assert fc.gated_rnn(ones, *(np.ones(w.shape, bool) for w in problem.w)).dtype == np.float64
    assert fc.gated_rnn(problem.x, *problem.w, np.ones((3, 5))).dtype == np.float64
    _, tape = fc.gated_rnn(problem.x, *problem.w, return_tape=True)
    for grad in fc.gated_rnn_backward(np.ones((4, 3, 5)), tape):
        assert grad.dtype == np.float64


@pytest.mark.parametrize("T, B, n, m", [
    (0, 2, 3, 4), (5, 0, 3, 4), (0, 0, 3, 4), (5, 2, 0, 4), (5, 2, 3, 0), (0, 0, 0, 0),
])  # fmt: skip
@pytest.mark.parametrize("batch_first", [False, True])
def test_zero_sizes(T, B, n, m, batch_first, threads):
    problem = Problem(Case(T, B, n, m), np.float64)
    if batch_first:
        problem.x, problem.grad_h = problem.x.swapaxes(0, 1), problem.grad_h.swapaxes(0, 1)
        problem.options["batch_first"] = True
    want = problem.backward(reference)
    assert_results(problem.backward(fc), want)
    for x in problem.x[:1]:
        if not batch_first:
            assert fc.gated_rnn_step(x, problem.h0, *problem.w).shape == (B, m)


def test_no_steps_at_all(threads):
    """All lengths 0: the gradient of the last state is that of h0, everything else is 0."""
    problem = Problem(Case(3, 2, 4, 5), np.float32)
    problem.options["lengths"] = [0, 0]
    h, *grads = problem.backward(fc)
    np.testing.assert_array_equal(grads[4], problem.grad_h_last)
    assert not h.any() and not any(grad.any() for i, grad in enumerate(grads) if i != 4)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.filterwarnings("ignore:(invalid|overflow):RuntimeWarning")
def test_nonfinite(value, isa, dtype, threads):
    """A value that is not finite reaches exactly what the equation says, forward and back."""
    case = Case(6, 3, 5, 20)
    for name, index in ("x", (3, 1, 2)), ("grad_h", (3, 1, 2)), ("h0", (1, 2)), (
        "grad_h_last", (1, 19),
    ):  # fmt: skip
        problem = Problem(case, dtype)
        getattr(problem, name)[index] = value
        got, want = problem.backward(fc), problem.backward(reference)
        for result, a, b in zip(
            "h dx dw_c dw_h dw_x dh0 db_c db_x".split(), got, want, strict=True
        ):
            for kind in (np.isnan, np.isposinf, np.isneginf):
                np.testing.assert_array_equal(kind(a), kind(b), err_msg=f"{name}: {result}")


@pytest.mark.filterwarnings("ignore:invalid:RuntimeWarning")
def test_nonfinite_weight_meets_the_zeros_of_h0():
    problem = Problem(Case(2, 3, 5, 20, h0=False), np.float32)
    problem.w[1][4, 7] = np.inf
    h = problem.forward(fc)
    np.testing.assert_array_equal(np.isnan(h), np.isnan(problem.forward(reference)))
    assert np.isnan(h[0, :, 4]).all()


@pytest.mark.parametrize("batch_first", [False, True])
def test_nothing_past_a_length_matters(batch_first, dtype, threads):
    problem = Problem(Case(6, 4, 5, 20), dtype)
    problem.options["lengths"] = lengths = np.array([6, 0, 3, 5])
    past = np.arange(6)[:, None] >= lengths
    if batch_first:
        problem.x, problem.grad_h = problem.x.swapaxes(0, 1), problem.grad_h.swapaxes(0, 1)
        problem.options["batch_first"], past = True, past.T
    clean = problem.backward(fc)
    problem.x[past], problem.grad_h[past] = np.nan, np.inf
    assert_same_bits(problem.backward(fc), clean)
    assert not clean[0][past].any() and not clean[1][past].any()


@pytest.mark.parametrize("m", [0, 20])
@pytest.mark.parametrize("batch_first", [False, True])
def test_tape_holds_copies(m, batch_first, threads):
    """Past the lengths too, and where there is nothing to compute."""
    problem = Problem(Case(6, 4, 5, m), np.float32)
    problem.options["lengths"] = [5, 0, 3, 4]
    if batch_first:
        problem.x = problem.x.swapaxes(0, 1)
        problem.options["batch_first"] = True
    h, tape = fc.gated_rnn(problem.x, *problem.w, problem.h0, **problem.options, return_tape=True)
    np.testing.assert_array_equal(tape.x, problem.x)
    np.testing.assert_array_equal(tape.h, h)


def test_sequences_do_not_meet(dtype, isa, threads):
    """A row's edge is read together with what lies behind it."""
    problem = Problem(Case(6, 4, 5, 21), dtype)
    clean = problem.backward(fc)
    problem.x[:, 1:], problem.grad_h[:, 1:] = np.nan, np.inf
    spoilt = problem.backward(fc)
    for i in 0, 1:  # h, and the gradient of x
        np.testing.assert_array_equal(spoilt[i][:, 0], clean[i][:, 0])


def test_tape_is_its_own(threads):
    """Used many times, from many threads, after the operands have changed, copied, pickled."""
    problem = Problem(Case(20, 9, 24, 40, lengths=True), np.float32)
    want = problem.backward(fc)
    h, tape = fc.gated_rnn(problem.x, *problem.w, problem.h0, **problem.options, return_tape=True)
    grads = [None] * 6

    def use(i):
        grads[i] = fc.gated_rnn_backward(problem.grad_h, tape, grad_h_last=problem.grad_h_last)

    problem.x += 1
    h += 1
    for array in (*problem.w, problem.h0, problem.options["lengths"]):
        array += 1
    users = [threading.Thread(target=use, args=(i,)) for i in range(6)]
    for user in users:
        user.start()
    for user in users:
        user.join()
    for other in (copy.deepcopy(tape), pickle.loads(pickle.dumps(tape))):
        grads.append(fc.gated_rnn_backward(problem.grad_h, other, grad_h_last=problem.grad_h_last))
    for got in grads:
        assert_same_bits([want[0], *got], want)
