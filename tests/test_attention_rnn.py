"""AttentionRNN against the reference, under every instruction set, dtype and number of threads."""

import threading

import ml_dtypes
import numpy as np
import pytest
from attention_cases import Case, Problem, assert_results, assert_same_bits
from every_isa import every_isa_with_fma

import fastconv as fc
from fastconv import reference

# More matrices than a core's share of L3: many sequences too meet them several states at a time.
MANY_MATRICES = Case(11, 20, 300, 9, shared=False, h0=9, lengths=True)
CASES = [
    # Sizes from 1 to past the register tile, windows from 0 to past the sequence.
    Case(1, 1, 1, 0, shared=False),
    Case(1, 3, 5, 2, shared=False, h0=2),
    Case(7, 9, 50, 3, shared=False),
    Case(6, 17, 33, 2, shared=False, h0=2, lengths=True),
    Case(5, 2, 70, 9, shared=False, h0=9),
    Case(4, 4, 64, 1, shared=False, lengths=True),
    # Few sequences: some lags' matrices meet several states at a time.
    Case(21, 1, 20, 9, shared=False),
    Case(12, 2, 10, 5, shared=False, h0=5, lengths=True),
    Case(9, 3, 17, 4, shared=False, h0=4),
    MANY_MATRICES,
    Case(1, 1, 3, 0),
    Case(7, 9, 50, 3),
    Case(6, 17, 33, 2, h0=2, lengths=True),
    Case(5, 2, 70, 9, h0=9),
    Case(1, 1, 7, None),
    Case(2, 3, 16, None, h0=0),
    Case(9, 17, 50, None),
    Case(8, 9, 33, None, h0=4, lengths=True),
    Case(1, 2, 5, None, h0=3),
    # More rows than a chunk of one product over all steps.
    Case(25, 25, 70, 3, shared=False, lengths=True),
    Case(50, 33, 64, 3, h0=3),
    Case(40, 33, 70, None),
]
SMALL = [case for case in CASES if case.steps * case.batch < 40]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_reference(case, isa, dtype, threads):
    problem = Problem(case, dtype)
    want = problem.backward(reference)
    assert_results([problem.forward(fc), *want[1:]], want)
    assert_results(problem.backward(fc), want)


def test_sums_longer_than_a_chunk(isa, dtype):
    """T B past the chunks of rows over which the weight gradients sum."""
    for case in (Case(40, 17, 20, 1, shared=False), Case(40, 17, 20, None)):
        problem = Problem(case, dtype)
        assert_results(problem.backward(fc), problem.backward(reference), ulps=2000)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_same_bits_for_any_batch(case, isa, dtype):
    """Every sequence gives the bits that it gives alone."""
    problem = Problem(case, dtype)
    whole = [problem.forward(fc), *(problem.backward(fc)[i] for i in (0, 1, 5, 6))]
    for b in (0, case.batch - 1):
        alone = Problem(case, dtype)
        rows = slice(b, b + 1)
        alone.x, alone.grad_h, alone.grad_h_last = (
            problem.x[:, rows],
            problem.grad_h[:, rows],
            problem.grad_h_last[rows],
        )
        alone.h0 = None if problem.h0 is None else problem.h0[:, rows]
        if case.lengths:
            alone.options["lengths"] = problem.options["lengths"][rows]
        got = [alone.forward(fc), *(alone.backward(fc)[i] for i in (0, 1, 5, 6))]
        for a, w in zip(got, whole, strict=True):
            np.testing.assert_array_equal(a, w[:, rows], strict=True)


@pytest.mark.parametrize(
    "case",
    [  # large enough for two threads: 4e8 operations, see fc_attention_threads
        Case(61, 33, 150, 2, shared=False, lengths=True),
        MANY_MATRICES,
        Case(80, 33, 160, 3, h0=3),
        Case(270, 10, 160, 2, lengths=True),
        Case(80, 33, 160, None, h0=2, lengths=True),
    ],
    ids=str,
)
def test_same_bits_for_any_threads_and_isa(case, dtype):
    """On every instruction set with fused multiply-adds, that is all but the base line."""
    problem = Problem(case, dtype)
    results = []
    for _ in every_isa_with_fma():
        for threads in (1, 2):
            with fc.num_threads(threads):
                results.append([*problem.backward(fc), problem.forward(fc)])
    for result in results[1:]:
        assert_same_bits(result[:7], results[0][:7])
        np.testing.assert_array_equal(result[7], results[0][7])


@pytest.mark.parametrize("case", SMALL, ids=str)
def test_step(case, isa, dtype):
    problem = Problem(case, dtype)
    if case.lengths:
        return
    h = problem.forward(reference)
    start = np.zeros((0, case.batch, case.n)) if problem.h0 is None else problem.h0
    for t in range(case.steps):
        history = np.concatenate([start, h[:t]]).astype(dtype)
        got = fc.attention_rnn_step(problem.x[t], history, *problem.w, window=case.window)
        np.testing.assert_allclose(got, h[t], rtol=0, atol=400 * np.finfo(dtype).eps)
        assert got.dtype == dtype


@pytest.mark.parametrize("case", SMALL, ids=str)
def test_layouts(case):
    """batch_first, a single sequence without a batch, any strides and byte order."""
    problem = Problem(case, np.float64)
    want = problem.backward(fc)

    first = Problem(case, np.float64)
    first.x, first.grad_h = first.x.swapaxes(0, 1).copy(), first.grad_h.swapaxes(0, 1).copy()
    first.options["batch_first"] = True
    got = first.backward(fc)
    assert_same_bits([a.swapaxes(0, 1) if i in (0, 1, 6) else a for i, a in enumerate(got)], want)

    odd = Problem(case, np.float64)
    odd.x = np.asfortranarray(odd.x)[::-1][::-1].astype(">f8")
    odd.w = [np.repeat(w, 2, axis=-1)[..., ::2] for w in odd.w]
    odd.grad_h = np.asfortranarray(odd.grad_h)
    odd.x.flags.writeable = False
    assert_same_bits(odd.backward(fc), want)

    if case.batch == 1:
        alone = Problem(case, np.float64)
        alone.x, alone.grad_h, alone.grad_h_last = (
            alone.x[:, 0],
            alone.grad_h[:, 0],
            alone.grad_h_last[0],
        )
        alone.h0 = None if alone.h0 is None else alone.h0[:, 0]
        assert_same_bits(
            [
                a[:, None] if a.ndim == 2 and i in (0, 1, 5, 6) else a
                for i, a in enumerate(alone.backward(fc))
            ],
            want,
        )


@pytest.mark.parametrize("case", [Case(4, 3, 6, 2, shared=False), Case(4, 3, 6, None)], ids=str)
def test_other_dtypes(case):
    """Halves are computed in float32, integers in float64, mixtures by np.result_type."""
    problem = Problem(case, np.float32)
    for dtype in (np.float16, ml_dtypes.bfloat16):
        x, *w = (a.astype(dtype) for a in (problem.x, *problem.w))
        h, tape = fc.attention_rnn(x, *w, window=case.window, return_tape=True)
        wide = fc.attention_rnn(
            x.astype("f4"), *(a.astype("f4") for a in w), window=case.window, return_tape=True
        )[0]
        assert h.dtype == dtype
        np.testing.assert_array_equal(h, wide.astype(dtype))
        grads = fc.attention_rnn_backward(problem.grad_h.astype(dtype), tape)
        assert all(grad.dtype == dtype for grad in grads)
    ones = np.ones(problem.x.shape, int)
    assert fc.attention_rnn(ones, *(np.ones(w.shape, bool) for w in problem.w)).dtype == np.float64
    h, tape = fc.attention_rnn(problem.x, *problem.w, return_tape=True)
    assert h.dtype == np.float32
    assert (
        fc.attention_rnn(problem.x, *problem.w, np.ones((case.window or 1, 3, 6))).dtype
        == np.float64
    )
    for grad in fc.attention_rnn_backward(np.ones(h.shape), tape):
        assert grad.dtype == np.float64


def test_zero_sizes(threads):
    w, many = np.ones((3, 4, 4)), np.ones((4, 4))
    for x, weights, window in [
        (np.ones((0, 2, 4)), w, None),
        (np.ones((5, 0, 4)), w, None),
        (np.ones((0, 2, 4)), many, None),
        (np.ones((5, 0, 4)), many, 3),
        (np.ones((5, 2, 0)), np.ones((0, 0)), None),
        (np.ones((5, 2, 0)), np.ones((2, 0, 0)), None),
        (np.ones((0, 0, 0)), np.ones((0, 0)), 2),
    ]:
        h, tape = fc.attention_rnn(x, *[weights] * 3, window=window, return_tape=True)
        _, want = reference.attention_rnn(x, *[weights] * 3, window=window, return_tape=True)
        assert h.shape == x.shape
        grads = fc.attention_rnn_backward(h, tape, grad_h_last=np.ones(x.shape[1:]))
        assert [g.shape for g in grads[:4]] == [x.shape, *[weights.shape] * 3]
        assert not any(g.any() for g in grads[1:4])
        np.testing.assert_allclose(fc.attention_weights(tape), reference.attention_weights(want))
    assert fc.attention_rnn_step(np.ones(4), np.ones((0, 4)), *[many] * 3).shape == (4,)
    assert fc.attention_rnn_step(np.ones((0, 4)), np.ones((3, 0, 4)), *[w] * 3).shape == (0, 4)


def test_grad_h_last_of_a_sequence_without_steps():
    """Its last state is the newest one before the start."""
    problem = Problem(Case(3, 2, 4, 2, h0=2), np.float64)
    problem.options["lengths"] = [0, 3]
    _, tape = problem.forward(fc, return_tape=True)
    grads = fc.attention_rnn_backward(np.zeros((3, 2, 4)), tape, grad_h_last=np.ones((2, 4)))
    np.testing.assert_array_equal(grads.h0[:, 0], [[0] * 4, [1] * 4])


@pytest.mark.parametrize(
    "case",
    [
        Case(6, 3, 5, 2, shared=False),
        Case(6, 3, 5, 0, shared=False),
        Case(6, 3, 5, 2),
        Case(6, 3, 5, None),
        Case(6, 3, 20, None, h0=2),
    ],
    ids=str,
)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.filterwarnings("ignore:(invalid|overflow):RuntimeWarning")
def test_nonfinite(case, value, isa, dtype):
    """A value that is not finite reaches exactly what the equation says, forward and back."""
    for operand in ("x", "grad_h"):
        problem = Problem(case, dtype)
        getattr(problem, operand)[3, 1, 2] = value
        got, want = problem.backward(fc), problem.backward(reference)
        for name, a, b in zip("h dx dw_q dw_k dw_v dh0 weights".split(), got, want, strict=True):
            np.testing.assert_array_equal(
                np.isfinite(a), np.isfinite(b), err_msg=f"{operand}: {name}"
            )
        np.testing.assert_array_equal(np.isfinite(problem.forward(fc)), np.isfinite(want[0]))


@pytest.mark.parametrize(
    "case",
    [
        Case(6, 4, 5, 2, shared=False),
        Case(6, 4, 5, 2),
        Case(6, 4, 5, None, h0=2),
    ],
    ids=str,
)
def test_nothing_past_a_length_matters(case, dtype):
    problem = Problem(case, dtype)
    problem.options["lengths"] = lengths = np.array([6, 0, 3, 5])
    past = np.arange(6)[:, None] >= lengths
    clean = problem.backward(fc)
    problem.x[past], problem.grad_h[past] = np.nan, np.inf
    assert_same_bits(problem.backward(fc), clean)
    h, dx, weights = clean[0], clean[1], clean[6]
    assert not h[past].any() and not dx[past].any() and not weights[past].any()
    np.testing.assert_allclose(weights[~past].sum(-1), 1, rtol=1e-6)


@pytest.mark.parametrize("shared", [True, False])
def test_no_score_moves_a_window_of_x_alone(shared, isa, dtype):
    """With k = 0 the softmax is 1 whatever the score is: no rounding errors for a gradient."""
    problem = Problem(Case(9, 5, 40, 0, shared), dtype)
    _, _, dw_q, dw_k, *_ = problem.backward(fc)
    assert not dw_q.any() and not dw_k.any()


def test_tape_is_its_own(threads):
    """Used twice, from many threads, after the operands have changed: the same gradients."""
    problem = Problem(Case(20, 9, 24, 2, shared=False), np.float32)
    want = problem.backward(fc)
    h, tape = problem.forward(fc, return_tape=True)
    grads = [None] * 6

    def use(i):
        grads[i] = fc.attention_rnn_backward(problem.grad_h, tape, grad_h_last=problem.grad_h_last)

    problem.x += 1
    h += 1
    for w in problem.w:
        w += 1
    users = [threading.Thread(target=use, args=(i,)) for i in range(6)]
    for user in users:
        user.start()
    for user in users:
        user.join()
    for got in grads:
        assert_same_bits([want[0], *got, want[6]], want)


def test_infinite_window_takes_constant_memory():
    problem = Problem(Case(40, 2, 8, None), np.float32)
    _, tape = problem.forward(fc, return_tape=True)
    arrays = [
        a for name, a in vars(tape).items() if isinstance(a, np.ndarray) and a.shape[:1] == (40,)
    ]
    assert sum(a[0].nbytes for a in arrays) == 2 * (5 * 8 + 4) * 4


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("window", [3, None])
def test_scores_of_10000(isa, dtype, window):
    """Scores up to +-1e4, where exp alone would over- and underflow, and values that do not
    grow: V keeps the length. The reference computes with the same score matrices."""
    n, T, B = 8, 12, 3
    random = np.random.default_rng(5)
    w_v = np.linalg.qr(random.standard_normal((n, n)))[0].astype(dtype)
    w_q = np.diag([100.0, -100, 3, 1, 0, 0, -2, 50]).astype(dtype)
    w_k = np.diag([100.0, 100, 1, 1, 1, 1, 1, -50]).astype(dtype)
    x = random.standard_normal((T, B, n)).astype(dtype)
    grad = random.standard_normal((T, B, n)).astype(dtype)
    results = []
    for library in (fc, reference):
        operands = [a.astype(dtype if library is fc else np.float64) for a in (x, w_q, w_k, w_v)]
        h, tape = library.attention_rnn(*operands, window=window, return_tape=True)
        results.append(
            [h, *library.attention_rnn_backward(grad, tape), library.attention_weights(tape)]
        )
    got, want = results
    scores = np.einsum("tbi,ij,tbj->tb", want[0], w_q * w_k.astype(float), want[0])
    assert np.abs(scores).max() > 5e3
    # A score of 1e4 is known to 1e4 eps, and so are the weights.
    for a, b in zip(got, want, strict=True):
        allowed = 1e6 * np.finfo(dtype).eps * max(1, np.abs(b).max(initial=0))
        np.testing.assert_allclose(a, b, rtol=0, atol=min(allowed, 0.05 * np.abs(b).max(initial=1)))


def test_long_infinite_window_loses_nothing():
    """50,000 equal states in float32: a running sum without compensation would drift by 1e-4."""
    T = 50_000
    x = np.full((T, 1, 1), 0.7, np.float32)
    zero, one = np.zeros((1, 1), np.float32), np.ones((1, 1), np.float32)
    h, tape = fc.attention_rnn(x, zero, zero, one, return_tape=True)
    np.testing.assert_allclose(h, 0.7, rtol=1e-6)
    grads = fc.attention_rnn_backward(np.ones_like(x), tape)
    # h[t] is the mean of x[t] and all h before: dl/dx[t] = g[t] / (t + 1), and g obeys
    # g[t] = 1 + sum over later t' of g[t'] / (t' + 1).
    g, later = np.empty(T), 0.0
    for t in reversed(range(T)):
        g[t] = 1 + later
        later += g[t] / (t + 1)
    np.testing.assert_allclose(grads.x[:, 0, 0], g / np.arange(1, T + 1), rtol=1e-5)
