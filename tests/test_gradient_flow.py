"""gradient_flow against answers that are known, and clip_grad_norm."""

import numpy as np
import pytest

import fastconv as fc


def states_jacobian(tape_of, h0, steps, eps=1e-6):
    """d h[T] / d h0 by central differences of h0 -> h[T], for one sequence."""
    columns = []
    for i in np.ndindex(h0.shape):
        step = np.zeros_like(h0)
        step[i] = eps
        columns.append((tape_of(h0 + step)[steps - 1] - tape_of(h0 - step)[steps - 1]) / (2 * eps))
    return np.stack(columns, axis=-1)


def gated(steps, batch, m, seed=1, scale=2.0, **options):
    random = np.random.default_rng(seed)
    x = random.standard_normal((steps, batch, m))
    w_c, w_h, w_x = scale * random.standard_normal((3, m, m)) / m**0.5
    h0 = random.standard_normal((batch, m))
    h, tape = fc.gated_rnn(x, w_c, w_h, w_x, h0, return_tape=True, **options)
    return (x, w_c, w_h, w_x, h0), h, tape


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "logit, verdict", [(-1.0, "vanishing"), (0.0, "vanishing"), (5.0, "stable")]
)
def test_gate_held_still(logit, verdict, dtype):
    """w_h = 0: every Jacobian is diag(c), and c is known."""
    steps, m = 3000, 3  # 0.27^3000 is 2^-5680
    logits = np.array([logit, logit - 1, logit - 2], dtype)
    zero = np.zeros((m, m), dtype)
    x = np.ones((steps, 2, m), dtype)
    _, tape = fc.gated_rnn(x, zero, zero, zero, b_c=logits, return_tape=True)
    flow = fc.gradient_flow(tape)
    c = 1 / (1 + np.exp(-logits.astype(np.float64)))
    left = np.arange(steps - 1, -1, -1)
    rtol = max(10 * np.finfo(dtype).eps / min(c[0], 1 - c[0]), 1e-12)
    np.testing.assert_allclose(flow.log_norm[:, 1], left * np.log2(c[0]), rtol=rtol)
    np.testing.assert_allclose(flow.lyapunov[1], np.log(c), rtol=rtol)
    assert flow.log_norm.dtype == np.float64
    assert flow.verdict.tolist() == [verdict] * 2


def test_orthogonal_map_keeps_every_norm():
    """A window of one with V orthogonal and Q = 0 halves at each step: a_1 = 1/2."""
    random = np.random.default_rng(2)
    n, steps = 5, 2500  # 2^-2499 is no float64
    v = np.stack([np.eye(n), np.linalg.qr(random.standard_normal((n, n)))[0]])
    zero = np.zeros_like(v)
    for factor, verdict in (1, "vanishing"), (2, "stable"), (4, "exploding"):
        _, tape = fc.attention_rnn(
            np.zeros((steps, n)), zero, zero, v * factor, window=1, return_tape=True
        )
        flow = fc.gradient_flow(tape)
        left = np.arange(steps - 1, -1, -1)
        np.testing.assert_allclose(flow.log_norm, left * np.log2(factor / 2), atol=1e-9)
        np.testing.assert_allclose(flow.lyapunov, np.full(n, np.log(factor / 2)), atol=1e-12)
        assert flow.verdict == verdict


def test_what_does_not_reach_the_end_vanishes():
    """V_1 = 0: no state has any influence on the next, and the gradient is 0 after one step."""
    zero = np.zeros((2, 3, 3))
    _, tape = fc.attention_rnn(np.ones((4, 3)), zero, zero, zero, window=1, return_tape=True)
    flow = fc.gradient_flow(tape)
    assert flow.log_norm.tolist() == [-np.inf, -np.inf, -np.inf, 0.0]
    assert flow.verdict == "vanishing"


@pytest.mark.parametrize("seed", range(3))
def test_gated_against_differences_and_the_product(seed):
    steps, m = 6, 4
    (x, w_c, w_h, w_x, h0), h, tape = gated(steps, 2, m, seed, scale=1.0)
    flow = fc.gradient_flow(tape)
    before = np.concatenate([h0[np.newaxis], h[:-1]])
    each = [fc.jacobian.gated_rnn(x[t], before[t], w_c, w_h, w_x)[0] for t in range(steps)]
    for b in range(2):
        behind_first = np.linalg.multi_dot([a[b] for a in each[:0:-1]])  # d h[T] / d h[1]
        np.testing.assert_allclose(flow.log_norm[0, b], np.log2(np.linalg.norm(behind_first, 2)))
        whole = behind_first @ each[0][b]
        by_differences = states_jacobian(
            lambda h, b=b: fc.gated_rnn(x[:, b], w_c, w_h, w_x, h), h0[b], steps
        )
        np.testing.assert_allclose(whole, by_differences, atol=1e-8)
        # the exponents add up to the determinant of the whole product
        determinant = np.linalg.slogdet(whole)[1]
        np.testing.assert_allclose(flow.lyapunov[b].sum() * steps, determinant)
        assert (np.diff(flow.lyapunov[b]) <= 0).all()


@pytest.mark.parametrize("window, shared", [(1, False), (3, False), (3, True), (None, True)])
def test_attention_against_differences(window, shared):
    """h[t] as a given state: differences of what follows are d h[T] / d h[t]."""
    random = np.random.default_rng(3)
    n, steps = 3, 7
    shape = (n, n) if shared else (window + 1, n, n)
    w = 0.4 * random.standard_normal((3, *shape))
    x = random.standard_normal((steps, n))
    k = window or 0
    h, tape = fc.attention_rnn(x, *w, window=window, return_tape=True)
    log_norm, lyapunov, _ = fc.gradient_flow(tape)

    for t in 0, steps - 2:
        earlier = np.concatenate([np.zeros((k, n)), h[:t]])
        known = earlier[len(earlier) - k + 1 :] if window else earlier

        def follow(last, known=known, t=t):
            given = np.concatenate([known, last[np.newaxis]])
            return fc.attention_rnn(x[t + 1 :], *w, given, window=window)

        jacobian = states_jacobian(follow, h[t], steps - 1 - t)
        np.testing.assert_allclose(log_norm[t], np.log2(np.linalg.norm(jacobian, 2)), atol=1e-4)
    assert lyapunov is None if window is None else lyapunov.shape == (n * window,)


def test_infinite_window_stays_exact_where_weights_underflow():
    """Scores fall by 40 a step: each state's influence on h[T] is below the smallest float."""
    steps = 60
    x = np.linspace(0, 49, steps)[:, np.newaxis]  # w = x^2
    _, tape = fc.attention_rnn(x, [[1.0]], [[1.0]], [[0.1]], return_tape=True)
    flow = fc.gradient_flow(tape)
    assert np.isfinite(flow.log_norm).all() and flow.log_norm[0] < -1074
    assert flow.verdict == "vanishing"


def test_lengths_are_each_sequences_own():
    lengths = [5, 0, 3]
    for batch_first in False, True:
        (x, *weights, h0), _, _ = gated(5, 3, 4)
        x[3:, 2] = np.nan  # behind the end
        x = x.swapaxes(0, 1) if batch_first else x
        _, tape = fc.gated_rnn(
            x, *weights, h0, lengths=lengths, batch_first=batch_first, return_tape=True
        )
        flow = fc.gradient_flow(tape)
        for b, length in enumerate(lengths):
            alone = x[b, :length] if batch_first else x[:length, b]
            _, tape_alone = fc.gated_rnn(alone, *weights, h0[b], return_tape=True)
            want = fc.gradient_flow(tape_alone)
            np.testing.assert_allclose(flow.log_norm[:length, b], want.log_norm, atol=1e-12)
            np.testing.assert_allclose(flow.lyapunov[b], want.lyapunov, atol=1e-12)
            assert np.isneginf(flow.log_norm[length:, b]).all()
            assert flow.verdict[b] == want.verdict


def test_what_is_not_finite_stays_in_its_sequence():
    (x, *weights, h0), _, _ = gated(5, 2, 3)
    x[2, 0, 0] = np.nan
    flow = fc.gradient_flow(fc.gated_rnn(x, *weights, h0, return_tape=True)[1])
    assert np.isnan(flow.log_norm[:2, 0]).all() and np.isfinite(flow.log_norm[:, 1]).all()
    assert flow.verdict[0] == "exploding"


def test_shapes_without_steps_sequences_or_states():
    for steps, batch, m in (0, 2, 3), (4, 0, 3), (1, 2, 3):
        flow = fc.gradient_flow(gated(steps, batch, m)[2])
        assert flow.log_norm.shape == (steps, batch)
        assert flow.lyapunov.shape == (batch, m) and flow.verdict.shape == (batch,)
        assert not flow.log_norm.size or (flow.log_norm[-1] == 0).all()
        assert steps or (flow.verdict == "stable").all()


def test_no_tape():
    with pytest.raises(TypeError, match="tape: expected a GatedRNNTape or an AttentionRNNTape"):
        fc.gradient_flow(np.zeros(3))


def test_gated_jacobian():
    """Literally for one state; by differences for several, with their gate by its definition."""
    c = 1 / (1 + np.exp(-(2 * 3 + 5 * 0.5)))  # x = 3, h = 0.5, w_c = 2, w_h = 5, w_x = 7
    dh, dc = fc.jacobian.gated_rnn([3.0], [0.5], [[2.0]], [[5.0]], [[7.0]])
    np.testing.assert_allclose(dc, [[c * (1 - c) * 5]])
    np.testing.assert_allclose(dh, [[c + (0.5 - 21) * c * (1 - c) * 5]])

    (x, w_c, w_h, w_x, h0), _, _ = gated(1, 3, 4)
    dh, dc = fc.jacobian.gated_rnn(x[0], h0, w_c, w_h, w_x)
    assert dh.shape == dc.shape == (3, 4, 4)
    for b in range(3):
        by_differences = states_jacobian(
            lambda h, b=b: fc.gated_rnn_step(x[0, b], h, w_c, w_h, w_x)[np.newaxis], h0[b], 1
        )
        np.testing.assert_allclose(dh[b], by_differences, atol=1e-8)
        gate = states_jacobian(
            lambda h, b=b: 1 / (1 + np.exp(-(w_c @ x[0, b] + w_h @ h)))[np.newaxis], h0[b], 1
        )
        np.testing.assert_allclose(dc[b], gate, atol=1e-8)
    assert fc.jacobian.gated_rnn(*map(np.float32, (x[0], h0, w_c, w_h, w_x)))[0].dtype == np.float32
    with pytest.raises(ValueError, match="h_prev: expected"):
        fc.jacobian.gated_rnn(x[0], h0[:2], w_c, w_h, w_x)


# --- clip_grad_norm ----------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_clip_scales_all_together(dtype):
    grads = {"a": [np.array([3.0], dtype), None], "b": (np.array([[0.0, 4.0]], dtype).T[::-1],)}
    assert fc.clip_grad_norm(grads, 10) == 5.0
    assert grads["a"][0] == 3
    assert fc.clip_grad_norm(grads, 2.5) == 5.0
    np.testing.assert_array_equal(grads["a"][0], [1.5])
    np.testing.assert_array_equal(grads["b"][0].ravel(), [2.0, 0.0])


def test_clip_beyond_the_range_of_squares():
    for size in 1e-200, 1e200:
        grads = [np.full(4, size)]
        np.testing.assert_allclose(fc.clip_grad_norm(grads, size), 2 * size, rtol=1e-15)
        np.testing.assert_allclose(np.linalg.norm(grads[0] / size), 1, rtol=1e-15)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_clip_leaves_what_is_not_finite(bad):
    grads = [np.array([1.0, bad]), np.array([2.0])]
    np.testing.assert_equal(fc.clip_grad_norm(grads, 1.0), bad)
    np.testing.assert_array_equal(grads[0], [1.0, bad])


def test_clip_takes_what_backward_gives():
    _, h, tape = gated(4, 2, 3)
    grads = fc.gated_rnn_backward(np.ones_like(h), tape)
    norm = np.sqrt(sum((g**2).sum() for g in grads))
    same = (grads, grads.x)  # an array that occurs twice counts once
    np.testing.assert_allclose(fc.clip_grad_norm(same, norm / 2), norm)
    np.testing.assert_allclose(np.sqrt(sum((g**2).sum() for g in grads)), norm / 2)
    assert fc.clip_grad_norm([], 1.0) == 0.0 and fc.clip_grad_norm(None, 0) == 0.0


@pytest.mark.parametrize(
    "grads, max_norm, error, message",
    [
        ([1.0], 1, TypeError, "grads: expected arrays, .* or None, got float 1.0"),
        ([np.ones(2, int)], 1, TypeError, "grads: expected arrays of floats, got dtype int64"),
        ([np.broadcast_to(1.0, 3)], 1, ValueError, "grads: expected writeable arrays"),
        ([], "1", TypeError, "max_norm: expected a number, got str '1'"),
        ([], -1.0, ValueError, "max_norm: expected a number of at least 0, got -1.0"),
        ([], np.nan, ValueError, "max_norm: expected a number of at least 0, got nan"),
    ],
)
def test_clip_bad_input(grads, max_norm, error, message):
    untouched = np.array([9.0])
    with pytest.raises(error, match=message):
        fc.clip_grad_norm([untouched, grads], max_norm)
    assert untouched == 9.0
