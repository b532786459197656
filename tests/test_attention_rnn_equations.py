"""AttentionRNN against its equations, literally: closed forms of the derivatives, finite
differences, and the formula without the softmax's coupling, which is wrong."""

import numpy as np
import pytest
from attention_cases import Case, Problem

import fastconv as fc
from fastconv import reference
from fastconv.jacobian import lag_jacobians


def step_by_hand(s, w_q, w_k, w_v):
    """h, a, v of states s (k + 1, n), as the definition says."""
    w = np.array([(Q @ s_i) @ (K @ s_i) for s_i, Q, K in zip(s, w_q, w_k, strict=True)])
    a = np.exp(w) / np.exp(w).sum()
    v = np.array([V @ s_i for s_i, V in zip(s, w_v, strict=True)])
    return a @ v, a, v


@pytest.fixture
def step():
    """x[t], history (k, n), oldest first, weights (k + 1, n, n); n = 4, k = 3."""
    random = np.random.default_rng(0)
    return (
        random.standard_normal(4),
        random.standard_normal((3, 4)),
        *random.standard_normal((3, 4, 4, 4)) / 2,
    )


def states_of(x_t, history):
    return np.concatenate([x_t[None], history[::-1]])


def test_step_is_the_definition(step):
    x_t, history, *weights = step
    h, *_ = step_by_hand(states_of(x_t, history), *weights)
    np.testing.assert_allclose(fc.attention_rnn_step(x_t, history, *weights), h, rtol=1e-13)
    np.testing.assert_allclose(reference.attention_rnn_step(x_t, history, *weights), h, rtol=1e-13)
    np.testing.assert_allclose(fc.attention_rnn(x_t[None], *weights, history)[0], h, rtol=1e-13)


@pytest.mark.parametrize("i", range(4))
def test_jacobian(step, i):
    """The closed form, and finite differences; and the often-written formula, which takes each
    weight for a function of its own score alone, is far off."""
    x_t, history, w_q, w_k, w_v = step
    s = states_of(x_t, history)
    h, a, v = step_by_hand(s, w_q, w_k, w_v)
    grown = w_q[i].T @ (w_k[i] @ s[i]) + w_k[i].T @ (w_q[i] @ s[i])
    closed = a[i] * w_v[i] + a[i] * np.outer(v[i] - h, grown)
    got = fc.jacobian.attention_rnn(x_t, history, w_q, w_k, w_v, wrt=i)
    np.testing.assert_allclose(got, closed, rtol=1e-12, atol=1e-13)

    differences = np.empty((4, 4))
    for j in range(4):
        ends = []
        for move in (1e-6, -1e-6):
            moved = s.copy()
            moved[i, j] += move
            ends.append(fc.attention_rnn_step(moved[0], moved[:0:-1], w_q, w_k, w_v))
        differences[:, j] = (ends[0] - ends[1]) / 2e-6
    np.testing.assert_allclose(got, differences, rtol=1e-6, atol=1e-8)

    uncoupled = a[i] * w_v[i] + a[i] * (1 - a[i]) * np.outer(v[i], grown)
    assert np.abs(uncoupled - differences).max() > 0.1 * np.abs(differences).max()


def test_jacobian_layouts(step):
    x_t, history, w_q, w_k, w_v = step
    shared = w_q[0], w_k[0], w_v[0]
    one = fc.jacobian.attention_rnn(x_t, history, *shared, wrt=2)
    batch = fc.jacobian.attention_rnn(
        [x_t, x_t + 1], np.stack([history, history], 1), *shared, wrt=2
    )
    assert batch.shape == (2, 4, 4)
    np.testing.assert_allclose(batch[0], one, rtol=1e-14)
    # A window of 3 sees the same three states; one of 5 also two zeros, with derivative a_i V_i.
    np.testing.assert_allclose(
        fc.jacobian.attention_rnn(x_t, np.vstack([history, history]), *shared, wrt=2, window=3), one
    )
    _, a, _ = step_by_hand(
        [*states_of(x_t, history), *np.zeros((2, 4))], *([w] * 6 for w in shared)
    )
    np.testing.assert_allclose(
        fc.jacobian.attention_rnn(x_t, history, *shared, wrt=5, window=5), a[5] * shared[2]
    )
    single = fc.jacobian.attention_rnn(*(np.float32(a) for a in (x_t, history, *shared)), wrt=2)
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, one, rtol=1e-4)


@pytest.mark.parametrize(
    "wrt, error", [(4, ValueError), (-1, ValueError), (1.0, TypeError), ("x", TypeError)]
)
def test_jacobian_wrt(step, wrt, error):
    with pytest.raises(error, match=r"^wrt: expected"):
        fc.jacobian.attention_rnn(*step, wrt=wrt)


@pytest.mark.parametrize("shared", [False, True])
def test_bptt_is_the_product_of_jacobians(shared):
    """dl/dh[T] = direct + sum over t = T+1 .. T+k of (dh[t]/dh[T])^T g[t], down to h0."""
    problem = Problem(Case(5, 2, 4, 2, shared=shared, h0=2), np.float64)
    h, tape = problem.forward(fc, return_tape=True)
    grads = fc.attention_rnn_backward(problem.grad_h, tape)
    g = np.concatenate([np.zeros((2, 2, 4)), problem.grad_h])  # of h[-1], h[0], h[1], ...
    for t in reversed(range(5)):
        before = np.concatenate([problem.h0, h])[: t + 2]
        for i in (1, 2):
            jacobian = fc.jacobian.attention_rnn(problem.x[t], before, *problem.w, wrt=i, window=2)
            np.testing.assert_allclose(
                lag_jacobians(tape, t)[i - 1], jacobian, rtol=1e-11, atol=1e-13
            )
            g[2 + t - i] += np.einsum("bij,bi->bj", jacobian, g[2 + t])
        of_x = fc.jacobian.attention_rnn(problem.x[t], before, *problem.w, wrt=0, window=2)
        np.testing.assert_allclose(
            grads.x[t], np.einsum("bij,bi->bj", of_x, g[2 + t]), rtol=1e-10, atol=1e-12
        )
    np.testing.assert_allclose(grads.h0, g[:2], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("library", [fc, reference], ids=["fastconv", "reference"])
@pytest.mark.parametrize(
    "case",
    [
        Case(4, 2, 3, 2, shared=False),
        Case(4, 2, 3, 2, shared=False, h0=2, lengths=True),
        Case(4, 2, 3, 2, h0=2),
        Case(4, 2, 3, 6),
        Case(4, 2, 3, None, h0=3),
        Case(5, 2, 3, None, lengths=True),
        Case(4, 2, 3, 0),
    ],
    ids=str,
)
def test_finite_differences(case, library):
    """The loss sum(grad_h * h) + sum(grad_h_last * last), every entry of every operand."""
    problem = Problem(case, np.float64, scale=3.0)

    def loss(operands):
        x, *w, h0 = operands
        h = library.attention_rnn(x, *w, h0, **problem.options)
        lengths = problem.options.get("lengths", np.full(case.batch, case.steps))
        start = np.zeros((1, case.batch, 3)) if h0 is None or not len(h0) else h0[-1:]
        last = np.concatenate([start, h])[lengths, np.arange(case.batch)]
        return (problem.grad_h * h).sum() + (problem.grad_h_last * last).sum()

    _, tape = problem.forward(library, return_tape=True)
    grads = library.attention_rnn_backward(problem.grad_h, tape, grad_h_last=problem.grad_h_last)
    operands = [problem.x, *problem.w, problem.h0]
    if problem.h0 is None and case.window:
        operands[4] = np.zeros((case.window, case.batch, 3))  # what it stood for
    for position, grad in enumerate(grads):
        if operands[position] is None:
            assert grad.size == 0
            continue
        for index in np.ndindex(grad.shape):
            ends = []
            for move in (1e-6, -1e-6):
                moved = list(operands)
                moved[position] = moved[position].copy()
                moved[position][index] += move
                ends.append(loss(moved))
            difference = (ends[0] - ends[1]) / 2e-6
            assert abs(difference - grad[index]) <= 1e-7 * max(1, abs(difference)), (
                position,
                index,
            )
