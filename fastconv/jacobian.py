"""Explicit Jacobians, every entry in its place: for study and for tests, not for speed."""

from collections.abc import Sequence
from typing import cast

import numpy as np
from numpy.typing import ArrayLike

from .attention_rnn import read_step
from .attention_tape import AttentionRNNTape
from .gated_rnn import read_gated_step
from .geometry import conv_output, read_layout
from .operands import Array, as_array, integer, kernel_dtype, kind, result_dtype

__all__ = ["attention_rnn", "conv", "gated_rnn"]


def conv(
    input: ArrayLike,
    weight: ArrayLike,
    stride: int | Sequence[int] = 1,
    padding: int | str | Sequence[int] | Sequence[tuple[int, int]] = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
    *,
    wrt: str = "weight",
) -> Array:
    """The derivative of every output of a convolution with respect to every weight or input.

    With y[f, o] = sum over c, r of x[c, o s + r d - p] W[f, c, r], that is::

        dy[f, o] / dW[f, c, r] = x[c, o s + r d - p]
        dy[f, o] / dx[c, i]    = W[f, c, r] where i = o s + r d - p

    and 0 everywhere else.

    Parameters
    ----------
    input : array_like, shape (C, \\*spatial)
        One image; how many spatial axes it has follows from the weight. Dtypes as for
        `fastconv.conv2d`.
    weight : array_like, shape (F, C / groups, \\*kernel)
        The filters.
    stride, padding, dilation, groups
        As for `fastconv.conv2d`.
    wrt : {"weight", "input"}
        With respect to what.

    Returns
    -------
    ndarray, shape (F, \\*output, \\*weight.shape) or (F, \\*output, \\*input.shape)

    Raises
    ------
    TypeError, ValueError, MemoryError
        As `fastconv.conv2d`.

    Examples
    --------
    >>> import fastconv as fc
    >>> x, w = [[1, 2, 3, 4]], [[[10, 20]]]
    >>> fc.jacobian.conv(x, w, stride=2).reshape(2, 2)  # two outputs by two weights
    array([[1., 2.],
           [3., 4.]])
    >>> fc.jacobian.conv(x, w, stride=2, wrt="input").reshape(2, 4)
    array([[10., 20.,  0.,  0.],
           [ 0.,  0., 10., 20.]])
    """
    x, w = as_array("input", input), as_array("weight", weight)
    if not isinstance(wrt, str) or wrt not in ("weight", "input"):
        raise ValueError(f"wrt: expected 'weight' or 'input', got {kind(wrt)}")
    layout = read_layout(w.shape, stride, padding, dilation, groups)
    rank = w.ndim - 2
    if x.ndim != rank + 1:
        raise ValueError(
            f"input: expected {rank + 1} axes (C, *spatial), one image, got shape {x.shape}"
        )
    pads, shape = conv_output(x.shape, w.shape, layout)
    dtype = result_dtype(x, w)
    result = np.zeros(shape + (w.shape if wrt == "weight" else x.shape), dtype)

    # Every term of the sum, one a column: filter f, output o, channel c of its group, tap r.
    terms = np.indices((*shape, *w.shape[1:])).reshape(2 * rank + 2, -1)
    s, d, before, length = (
        np.array(numbers)[:, np.newaxis]
        for numbers in (
            layout.stride,
            layout.dilation,
            [before for before, _ in pads],
            x.shape[1:],
        )
    )
    i = terms[1 : rank + 1] * s + terms[rank + 2 :] * d - before
    inside = ((i >= 0) & (i < length)).all(axis=0)
    f, o, c, r = np.split(terms[:, inside], [1, rank + 1, rank + 2])
    i = i[:, inside]
    channel = f // max(1, w.shape[0] // layout.groups) * w.shape[1] + c

    if wrt == "weight":
        result[*f, *o, *f, *c, *r] = x[*channel, *i]
    else:
        result[*f, *o, *channel, *i] = w[*f, *c, *r]
    return result


def attention_rnn(
    x_t: ArrayLike,
    history: ArrayLike,
    w_q: ArrayLike,
    w_k: ArrayLike,
    w_v: ArrayLike,
    *,
    wrt: int = 1,
    window: int | None = None,
) -> Array:
    """The derivative of a step of AttentionRNN with respect to one of the states that it sees.

    With i = wrt, the names of `fastconv.attention_rnn`, and h = h[t]::

        dh[t] / dh[t-i] = a_i V_i + a_i (v_i - h) (Q_i^T k_i + K_i^T q_i)^T

    The second term is what the scores do; through the softmax each score moves all weights,
    hence v_i - h and not v_i alone.

    Parameters
    ----------
    x_t, history, w_q, w_k, w_v, window
        As for `fastconv.attention_rnn_step`.
    wrt : int
        i, from 1 to k (with an infinite window to p, the length of `history`), or 0: x[t].

    Returns
    -------
    ndarray, shape (B, n, n), or (n, n) for x_t (n,)

    Raises
    ------
    TypeError, ValueError, MemoryError
        As `fastconv.attention_rnn_step`; ValueError if there is no state `wrt`.

    Examples
    --------
    >>> import fastconv as fc
    >>> one, two = [[1.0]], [[2.0]]
    >>> fc.jacobian.attention_rnn([1.0], [[1.0]], one, one, two)  # a = 1/2, v - h = 0
    array([[1.]])
    """
    x, states, weights, k = read_step(x_t, history, w_q, w_k, w_v, window)
    result = result_dtype(x, states, *weights)
    dtype = kernel_dtype(result)
    rows = x.reshape(-1, x.shape[-1])
    before = len(states) if k is None else k
    i = integer("wrt", wrt, minimum=0, maximum=before)

    s = np.zeros((before + 1, *rows.shape), dtype)  # s_0 = x[t], s_i = h[t-i], zeros where none
    s[0] = rows
    s[1 : len(states) + 1] = states[::-1]
    w_q, w_k, w_v = (np.broadcast_to(w.astype(dtype), (before + 1, *w.shape[-2:])) for w in weights)
    q, k_, v = (s @ w.swapaxes(1, 2) for w in (w_q, w_k, w_v))
    w = (q * k_).sum(-1)
    a = np.exp(w - w.max(0))
    a /= a.sum(0)
    h = (a[..., np.newaxis] * v).sum(0)
    jacobian = lag_jacobian(s[i], h, a[i], w_q[i], w_k[i], w_v[i]).astype(result, copy=False)
    return jacobian[0] if x.ndim == 1 else jacobian


def gated_rnn(
    x_t: ArrayLike,
    h_prev: ArrayLike,
    w_c: ArrayLike,
    w_h: ArrayLike,
    w_x: ArrayLike,
    *,
    b_c: ArrayLike | None = None,
    b_x: ArrayLike | None = None,
) -> tuple[Array, Array]:
    """The derivatives of a step of the gated RNN with respect to the state before it.

    With the names of `fastconv.gated_rnn`, c = c[t] and u = w_x x[t] + b_x::

        dc[t] / dh[t-1] = diag(c * (1 - c)) w_h
        dh[t] / dh[t-1] = diag(c) + diag(h[t-1] - u) dc[t] / dh[t-1]

    Parameters
    ----------
    x_t, h_prev, w_c, w_h, w_x, b_c, b_x
        As for `fastconv.gated_rnn_step`.

    Returns
    -------
    dh_dh_prev, dc_dh_prev : ndarray, shape (B, m, m), or (m, m) for x_t (n,)

    Raises
    ------
    TypeError, ValueError, MemoryError
        As `fastconv.gated_rnn_step`.

    Examples
    --------
    >>> import fastconv as fc
    >>> of_h, of_c = fc.jacobian.gated_rnn([0.0], [2.0], [[1.0]], [[0.0]], [[1.0]])
    >>> of_h, of_c  # the gate is open by half, and does not look at the state
    (array([[0.5]]), array([[0.]]))
    """
    operands = read_gated_step(x_t, h_prev, w_c, w_h, w_x, b_c, b_x)
    result = result_dtype(*operands)
    dtype = kernel_dtype(result)
    x, h, w_c, w_h, w_x, b_c, b_x = (
        np.zeros((), dtype) if operand is None else operand.astype(dtype) for operand in operands
    )
    c = _sigmoid(x @ w_c.T + h @ w_h.T + b_c)
    u = x @ w_x.T + b_x
    of_h, of_c = gated_jacobian(h, c, u, w_h)
    return of_h.astype(result, copy=False), of_c.astype(result, copy=False)


# --- of steps whose gates, weights and states are known: gradient flow reads them off a tape ---


def lag_jacobian(s: Array, h: Array, a: Array, w_q: Array, w_k: Array, w_v: Array) -> Array:
    """dh / ds_i (B, n, n) of a state s_i (B, n) with the weight a (B,) in h (B, n)::

    a_i V_i + a_i (v_i - h) (Q_i^T k_i + K_i^T q_i)^T
    """
    v, grown = s @ w_v.T, (s @ w_k.T) @ w_q + (s @ w_q.T) @ w_k
    jacobian: Array = a[:, None, None] * (w_v + (v - h)[:, :, None] * grown[:, None, :])
    return jacobian


def lag_jacobians(tape: AttentionRNNTape, t: int) -> Array:
    """dh[t] / dh[t-i] (k, B, n, n) for i = 1 .. k, from a tape with a finite window."""
    _, B, n = tape.x.shape
    k = tape.window or 0
    result = np.empty((k, B, n, n), tape.states.dtype)
    for i in range(1, k + 1):
        w = (w if w.ndim == 2 else w[i] for w in (tape.w_q, tape.w_k, tape.w_v))
        result[i - 1] = lag_jacobian(
            tape.states[k + t - i], tape.states[k + t], tape.a[t, :, i], *w
        )
    return result


def gated_jacobian(h_prev: Array, c: Array, u: Array, w_h: Array) -> tuple[Array, Array]:
    """dh / dh_prev and dc / dh_prev (..., m, m) of states, gate and candidate (..., m)::

    diag(c) + diag(h_prev - u) dc / dh_prev,    diag(c * (1 - c)) w_h
    """
    of_c: Array = (c * (1 - c))[..., np.newaxis] * w_h
    of_h = (h_prev - u)[..., np.newaxis] * of_c
    states = np.arange(len(w_h))
    of_h[..., states, states] += c
    return of_h, of_c


def _sigmoid(s: Array) -> Array:
    """1 / (1 + exp(-s)), which does not overflow."""
    e = np.exp(-np.abs(s))
    return cast(Array, np.where(s < 0, e, 1) / (1 + e))
