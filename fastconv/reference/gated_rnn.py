"""The gated recurrent network in plain NumPy.

s[t] = W_c x[t] + W_h h[t-1] + b_c
c[t] = sigmoid(s[t])
u[t] = W_x x[t] + b_x
h[t] = c[t] * h[t-1] + (1 - c[t]) * u[t]
"""

from typing import NamedTuple

import numpy as np


class GatedRNNGrads(NamedTuple):
    """Gradients of a loss with respect to the operands."""

    x: np.ndarray
    w_c: np.ndarray
    w_h: np.ndarray
    w_x: np.ndarray
    h0: np.ndarray
    b_c: np.ndarray
    b_x: np.ndarray


class GatedRNNTape(NamedTuple):
    """What the way back needs, all of it time first: (T, B, ...)."""

    x: np.ndarray
    h_prev: np.ndarray  # h[0] .. h[T-1]
    c: np.ndarray
    u: np.ndarray
    real: np.ndarray  # (T, B): does the sequence have this step?
    weights: tuple[np.ndarray, np.ndarray, np.ndarray]
    axes: str  # of x: "TBn", "BTn" or "Tn"


def gated_rnn(
    x,
    w_c,
    w_h,
    w_x,
    h0=None,
    *,
    b_c=None,
    b_x=None,
    lengths=None,
    batch_first=False,
    return_tape=False,
):
    """All states h[1] .. h[T]."""
    x, w_c, w_h, w_x, h0, b_c, b_x = _arrays(x, w_c, w_h, w_x, h0, b_c, b_x)
    axes = "Tn" if x.ndim == 2 else "BTn" if batch_first else "TBn"
    xt = _time_first(x, axes)
    steps, batch = xt.shape[:2]
    real = np.arange(steps)[:, None] < np.broadcast_to(
        steps if lengths is None else lengths, (batch,)
    )

    h = np.zeros((batch, len(w_h)), x.dtype) if h0 is None else h0.reshape(batch, len(w_h))
    h_prev, gates, candidates, states = [], [], [], []
    for t in range(steps):
        h_prev.append(h)
        c, u, h = _step(xt[t], h, w_c, w_h, w_x, b_c, b_x)
        h = np.where(real[t][:, None], h, 0)
        gates.append(c), candidates.append(u), states.append(h)

    def stack(arrays):
        return np.array(arrays, x.dtype).reshape(steps, batch, len(w_h))

    result = _as_given(stack(states), axes)
    if not return_tape:
        return result
    tape = GatedRNNTape(
        xt, stack(h_prev), stack(gates), stack(candidates), real, (w_c, w_h, w_x), axes
    )
    return result, tape


def gated_rnn_backward(grad_h, tape, *, grad_h_last=None):
    """Back through time; each line is the derivative of one of the equations above."""
    x, h_prev, c, u, real, (w_c, w_h, w_x), axes = tape
    direct = _time_first(np.asarray(grad_h), axes)
    steps, batch, states = c.shape
    last = (
        np.zeros((batch, states))
        if grad_h_last is None
        else np.reshape(grad_h_last, (batch, states))
    )
    ends = np.vstack([~real, np.ones((1, batch), bool)]).argmax(axis=0)  # each one's length
    ds, du = np.zeros_like(c), np.zeros_like(c)

    carry = np.where((ends == steps)[:, None], last, 0)
    for t in reversed(range(steps)):
        here = real[t][:, None]
        g = carry + direct[t]
        ds[t] = np.where(here, g * (h_prev[t] - u[t]) * c[t] * (1 - c[t]), 0)
        du[t] = np.where(here, g * (1 - c[t]), 0)
        carry = g * c[t] + ds[t] @ w_h
        carry = np.where(here, carry, np.where((ends == t)[:, None], last, 0))

    # Only real steps count: 0 times what x holds past the end might be NaN.
    ds_, du_, x_, h_ = ds[real], du[real], x[real], h_prev[real]
    dx = np.zeros_like(x)
    dx[real] = ds_ @ w_c + du_ @ w_x
    return GatedRNNGrads(
        _as_given(dx, axes),
        ds_.T @ x_,
        ds_.T @ h_,
        du_.T @ x_,
        carry[0] if axes == "Tn" else carry,
        ds_.sum(axis=0),
        du_.sum(axis=0),
    )


def gated_rnn_step(x_t, h_prev, w_c, w_h, w_x, *, b_c=None, b_x=None):
    """h[t] from x[t] and h[t-1]."""
    x_t, h_prev, w_c, w_h, w_x, b_c, b_x = _arrays(x_t, h_prev, w_c, w_h, w_x, b_c, b_x)
    return _step(x_t, h_prev, w_c, w_h, w_x, b_c, b_x)[2]


def _step(x, h, w_c, w_h, w_x, b_c, b_x):
    s = x @ w_c.T + h @ w_h.T
    c = _sigmoid(s if b_c is None else s + b_c)
    u = x @ w_x.T
    u = u if b_x is None else u + b_x
    return c, u, c * h + (1 - c) * u


def _sigmoid(s):
    e = np.exp(-np.abs(s))
    return np.where(s < 0, e, 1) / (1 + e)


def _arrays(*operands):
    dtype = np.result_type(*(np.asarray(operand) for operand in operands if operand is not None))
    dtype = np.float64 if dtype.kind in "biu" else dtype
    return [None if operand is None else np.asarray(operand, dtype) for operand in operands]


def _time_first(array, axes):
    if axes == "Tn":
        return array[:, None]
    return array.swapaxes(0, 1) if axes == "BTn" else array


def _as_given(array, axes):
    if axes == "Tn":
        return array[:, 0]
    return array.swapaxes(0, 1) if axes == "BTn" else array
