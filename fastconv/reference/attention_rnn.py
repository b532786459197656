"""AttentionRNN, forward and back, in plain NumPy.

    s_0 = x[t], s_i = h[t-i];  q_i = Q_i s_i, k_i = K_i s_i, v_i = V_i s_i
    w_i = q_i . k_i;  a = softmax(w);  h[t] = sum_i a_i v_i

Every step looks at its k + 1 states afresh, as the equations say.
"""

from typing import NamedTuple

import numpy as np


class AttentionRNNGrads(NamedTuple):
    """Gradients; there is one of h0 also where it was not given and stood for zeros."""

    x: np.ndarray
    w_q: np.ndarray
    w_k: np.ndarray
    w_v: np.ndarray
    h0: np.ndarray


class Tape(NamedTuple):
    x: np.ndarray  # (T, B, n)
    states: np.ndarray  # (p + T, B, n): what stands before the start, then h
    weights: tuple[np.ndarray, ...]  # w_q, w_k, w_v
    window: int | None
    lengths: np.ndarray  # (B,)
    batch_first: bool
    unbatched: bool


def attention_rnn(
    x, w_q, w_k, w_v, h0=None, *, window=None, lengths=None, batch_first=False, return_tape=False
):
    x, w_q, w_k, w_v = (np.asarray(array) for array in (x, w_q, w_k, w_v))
    unbatched = x.ndim == 2
    x = x[:, None] if unbatched else np.swapaxes(x, 0, 1) if batch_first else x
    T, B, n = x.shape
    if w_q.ndim == 3:
        window = len(w_q) - 1
    dtype = np.result_type(x, w_q, w_k, w_v, *([] if h0 is None else [h0]))
    if h0 is None:
        h0_states = np.zeros((window or 0, B, n), dtype)
    else:
        h0_states = np.asarray(h0)[:, None] if unbatched else np.asarray(h0)
    lengths = np.full(B, T) if lengths is None else np.broadcast_to(lengths, B)

    p = len(h0_states)
    states = np.concatenate([h0_states, np.zeros((T, B, n))]).astype(dtype)
    for t in range(T):
        real = t < lengths
        h_t, *_ = _step(x[t, real], _before(states[:, real], p + t, window), w_q, w_k, w_v)
        states[p + t, real] = h_t

    h = _out(states[p:], batch_first, unbatched)
    if not return_tape:
        return h
    tape = Tape(x, states, (w_q, w_k, w_v), window, lengths, batch_first, unbatched)
    return h, tape


def attention_rnn_step(x_t, history, w_q, w_k, w_v, *, window=None):
    x_t, history = np.asarray(x_t), np.asarray(history)
    if np.ndim(w_q) == 3:
        window = len(w_q) - 1
    if window is not None:
        missing = max(0, window - len(history))
        history = np.concatenate([np.zeros((missing, *x_t.shape), history.dtype), history])
    unbatched = x_t.ndim == 1
    if unbatched:
        x_t, history = x_t[None], history[:, None]
    h_t, *_ = _step(x_t, _before(history, len(history), window), *map(np.asarray, (w_q, w_k, w_v)))
    return h_t[0] if unbatched else h_t


def attention_rnn_backward(grad_h, tape, *, grad_h_last=None):
    x, states, (w_q, w_k, w_v), window, lengths, batch_first, unbatched = tape
    T, B, n = x.shape
    p = len(states) - T
    grad_h = np.asarray(grad_h)
    grad_h = grad_h[:, None] if unbatched else np.swapaxes(grad_h, 0, 1) if batch_first else grad_h

    g = np.zeros(states.shape, states.dtype)
    real = np.arange(T)[:, None] < lengths
    g[p:][real] = grad_h[real]
    if grad_h_last is not None:
        last = p + lengths - 1
        some = last >= 0
        g[last[some], np.arange(B)[some]] += np.reshape(grad_h_last, (B, n))[some]
    dx = np.zeros_like(x, dtype=states.dtype)
    dw_q, dw_k, dw_v = (np.zeros_like(w, dtype=states.dtype) for w in (w_q, w_k, w_v))

    for t in reversed(range(T)):
        rows = np.flatnonzero(real[t])
        g_t = g[p + t, rows]
        seen = _before(states[:, rows], p + t, window)
        h_t, a, s, q, k, v = _step(x[t, rows], seen, w_q, w_k, w_v)
        # h[t] = sum_i a_i v_i with a = softmax(w): dw_i = a_i (g.v_i - g.h)
        dw = a * (np.einsum("bm,ibm->ib", g_t, v) - np.einsum("bm,bm->b", g_t, h_t))
        dv = a[..., None] * g_t  # h[t] = sum_i a_i v_i
        dq, dk = dw[..., None] * k, dw[..., None] * q  # w_i = q_i . k_i
        ds = _times(dq, w_q) + _times(dk, w_k) + _times(dv, w_v)  # q_i = Q_i s_i, ...
        for grad, of in ((dw_q, dq), (dw_k, dk), (dw_v, dv)):
            each = np.einsum("iba,ibc->iac", of, s)
            grad += each if grad.ndim == 3 else each.sum(0)
        dx[t, rows] = ds[0]
        for i in range(1, len(s)):
            g[p + t - i, rows] += ds[i]

    dh0 = g[:p, 0] if unbatched else g[:p]
    return AttentionRNNGrads(_out(dx, batch_first, unbatched), dw_q, dw_k, dw_v, dh0)


def attention_weights(tape):
    x, states, weights, window, lengths, batch_first, unbatched = tape
    T, B, _ = x.shape
    p = len(states) - T
    columns = max(p + T, 1) if window is None else window + 1
    weight = np.zeros((T, B, columns), states.dtype)
    for t in range(T):
        _, a, *_ = _step(x[t], _before(states, p + t, window), *weights)
        weight[t, :, : len(a)] = np.where(t < lengths, a, 0).T
    return _out(weight, batch_first, unbatched)


def _before(states, at, window):
    """The states that step `at` sees, newest first: s_1, s_2, ..."""
    return states[0 if window is None else at - window : at][::-1]


def _step(x_t, before, w_q, w_k, w_v):
    """h[t] (B, n), and what it was made of, one i a row: a (k+1, B); s, q, k, v (k+1, B, n)."""
    s = np.concatenate([x_t[None], before])
    q, k, v = (_times(s, np.swapaxes(w, -1, -2)) for w in (w_q, w_k, w_v))
    w = np.einsum("ibm,ibm->ib", q, k)
    a = np.exp(w - w.max(0))
    a /= a.sum(0)
    return np.einsum("ib,ibm->bm", a, v), a, s, q, k, v


def _times(rows, matrices):
    """rows[i] @ matrices[i], the same matrix for all i where it is one."""
    return rows @ matrices


def _out(array, batch_first, unbatched):
    return array[:, 0] if unbatched else np.swapaxes(array, 0, 1) if batch_first else array
