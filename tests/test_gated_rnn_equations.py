"""The gated RNN against its equations, literally: closed forms of the derivatives and finite
differences."""

import ml_dtypes
import numpy as np
import pytest
from gated_cases import Case, Problem

import fastconv as fc
from fastconv import reference


def sigmoid(s):
    return 1 / (1 + np.exp(-s))


def differences(f, at):
    """df/dat, every entry by a central difference; the new axes last."""
    result = []
    for index in np.ndindex(at.shape):
        ends = []
        for move in (1e-6, -1e-6):
            moved = at.copy()
            moved[index] += move
            ends.append(f(moved))
        result.append((ends[0] - ends[1]) / 2e-6)
    result = np.array(result)
    return np.moveaxis(
        result.reshape(at.shape + result.shape[1:]), range(at.ndim), range(-at.ndim, 0)
    )


@pytest.fixture
def step():
    """x[t] (3,), h[t-1] (4,), w_c, w_h, w_x, b_c, b_x"""
    random = np.random.default_rng(0)
    return [random.standard_normal(shape) for shape in (3, 4, (4, 3), (4, 4), (4, 3), 4, 4)]


def test_step_is_the_definition(step):
    x, h, w_c, w_h, w_x, b_c, b_x = step
    c = sigmoid(w_c @ x + w_h @ h + b_c)
    want = c * h + (1 - c) * (w_x @ x + b_x)
    for library in (fc, reference):
        got = library.gated_rnn_step(*step[:5], b_c=b_c, b_x=b_x)
        np.testing.assert_allclose(got, want, rtol=1e-13)
        whole = library.gated_rnn(x[None], w_c, w_h, w_x, h, b_c=b_c, b_x=b_x)
        np.testing.assert_allclose(whole[0], want, rtol=1e-13)


def test_jacobian(step):
    """The closed form, and finite differences."""
    x, h, w_c, w_h, w_x, b_c, b_x = step
    c = sigmoid(w_c @ x + w_h @ h + b_c)
    dc = np.diag(c * (1 - c)) @ w_h
    dh = np.diag(c) + np.diag(h - w_x @ x - b_x) @ dc
    of_h, of_c = fc.jacobian.gated_rnn(*step[:5], b_c=b_c, b_x=b_x)
    np.testing.assert_allclose(of_h, dh, rtol=1e-13, atol=1e-14)
    np.testing.assert_allclose(of_c, dc, rtol=1e-13, atol=1e-14)
    by_difference = differences(
        lambda h: fc.gated_rnn_step(x, h, w_c, w_h, w_x, b_c=b_c, b_x=b_x), h
    )
    np.testing.assert_allclose(of_h, by_difference, rtol=1e-7, atol=1e-9)


def test_jacobian_layouts(step):
    x, h, *weights, _, _ = step
    one = fc.jacobian.gated_rnn(x, h, *weights)
    batch = fc.jacobian.gated_rnn([x, x + 1], [h, h], *weights)
    halves = fc.jacobian.gated_rnn(*(a.astype(ml_dtypes.bfloat16) for a in (x, h, *weights)))
    for a, b, c in zip(one, batch, halves, strict=True):
        assert a.shape == (4, 4) and b.shape == (2, 4, 4) and c.dtype == ml_dtypes.bfloat16
        np.testing.assert_allclose(b[0], a, rtol=1e-13)
        np.testing.assert_allclose(c.astype(float), a, atol=0.1)
    with pytest.raises(ValueError, match=r"^h_prev: expected \(m,\) = \(4,\)"):
        fc.jacobian.gated_rnn(x, h[:3], *weights)


def test_bptt_is_the_product_of_jacobians():
    """g[t-1] = direct[t-1] + (dh[t]/dh[t-1])^T g[t], down to h0."""
    problem = Problem(Case(6, 2, 3, 4), np.float64)
    h, *grads = problem.backward(fc)
    biases = problem.options
    g = problem.grad_h_last
    for t in reversed(range(6)):
        g = g + problem.grad_h[t]
        before = h[t - 1] if t else problem.h0
        of_h, _ = fc.jacobian.gated_rnn(problem.x[t], before, *problem.w, **biases)
        of_x = differences(
            lambda x, before=before: fc.gated_rnn_step(x, before, *problem.w, **biases),
            problem.x[t],
        )
        np.testing.assert_allclose(
            grads[0][t], np.einsum("bmcn,bm->cn", of_x, g), rtol=1e-6, atol=1e-8
        )
        g = np.einsum("bij,bi->bj", of_h, g)
    np.testing.assert_allclose(grads[4], g, rtol=1e-12, atol=1e-13)


def test_closed_form_of_the_gradient_of_w_x():
    """dl/dW_x = sum over t of direct[t] K[t], K[t] = a[t] K[t-1] + b[t], where a[t] is
    dh[t]/dh[t-1], and b[t] is dh[t]/dW_x with h[t-1] held fixed: diag(1 - c) x^T."""
    problem = Problem(Case(5, 1, 3, 4), np.float64)
    h, *grads = problem.backward(fc)
    problem.grad_h[-1] += problem.grad_h_last
    K, total, eye = np.zeros((4, 4, 3)), np.zeros((4, 3)), np.eye(4)
    w_c, w_h, _ = problem.w
    for t in range(5):
        x, before = problem.x[t, 0], h[t - 1, 0] if t else problem.h0[0]
        c = sigmoid(w_c @ x + w_h @ before + problem.options["b_c"])
        a, _ = fc.jacobian.gated_rnn(x, before, *problem.w, **problem.options)
        K = np.einsum("ij,jkl->ikl", a, K) + np.einsum("i,ik,l->ikl", 1 - c, eye, x)
        total += np.einsum("i,ikl->kl", problem.grad_h[t, 0], K)
    np.testing.assert_allclose(grads[3], total, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("library", [fc, reference], ids=["fastconv", "reference"])
@pytest.mark.parametrize("lengths", [None, [4, 0, 2]], ids=["full", "lengths"])
def test_finite_differences(library, lengths):
    """The loss sum(grad_h * h) + sum(grad_h_last * last), every entry of every operand."""
    problem = Problem(Case(4, 3, 2, 3), np.float64)
    ends = np.full(3, 4) if lengths is None else np.array(lengths)
    operands = [problem.x, *problem.w, problem.h0, *problem.options.values()]

    def loss(x, w_c, w_h, w_x, h0, b_c, b_x):
        h = library.gated_rnn(x, w_c, w_h, w_x, h0, b_c=b_c, b_x=b_x, lengths=lengths)
        last = np.concatenate([h0[None], h])[ends, np.arange(3)]
        return (problem.grad_h * h).sum() + (problem.grad_h_last * last).sum()

    problem.options["lengths"] = lengths
    _, *grads = problem.backward(library)
    for position, grad in enumerate(grads):
        want = differences(
            lambda a, i=position: loss(*operands[:i], a, *operands[i + 1 :]), operands[position]
        )
        np.testing.assert_allclose(grad, want, rtol=1e-6, atol=1e-8, err_msg=str(position))
