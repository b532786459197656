"""What gradients do on their way back through time."""

import math
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from .attention_tape import AttentionRNNTape
from .gated_rnn import GatedRNNTape
from .jacobian import gated_jacobian, lag_jacobians
from .operands import Array, kind

SLOPE = 0.05  # bits a step from which a flow is no longer called stable


class GradientFlow(NamedTuple):
    """How much of a gradient at the last state reaches each earlier one; see `gradient_flow`."""

    log_norm: Array
    lyapunov: Array | None
    verdict: Array | str


def gradient_flow(tape: GatedRNNTape | AttentionRNNTape) -> GradientFlow:
    """Tell vanishing from exploding gradients, by the Jacobians along a sequence.

    A gradient at the last state h[T] arrives at h[t] multiplied by the matrix d h[T] / d h[t],
    a product of one Jacobian a step. Its size grows or decays like an exponential function of
    T - t, so it is computed in logarithms; the product itself would overflow.

    Parameters
    ----------
    tape : GatedRNNTape or AttentionRNNTape
        Of `gated_rnn` or `attention_rnn`. With `lengths`, T is each sequence's own.

    Returns
    -------
    GradientFlow
        A named tuple of, for B sequences (without the B for a single one):

        log_norm : ndarray of float64, shape (T, B)
            log2 of the spectral norm of d h[T] / d h[t], for t = 1 .. T: 0 in the last row,
            right far beyond the range of floats; -inf where the derivative is 0, as past the end
            of a sequence.
        lyapunov : ndarray of float64, shape (B, states), or None
            The Lyapunov exponents over the sequence, largest first: natural logarithms a step of
            how much the map that carries the state stretches its directions. The state is h[t-1],
            m numbers, or for AttentionRNN(k) the last k states, k n numbers. None for
            AttentionRNN(infinity), whose state grows. 0 for a sequence without steps.
        verdict : ndarray of str, shape (B,)
            "vanishing", "exploding" or "stable", from the slope b of the straight line through
            log_norm over T - t: b < -0.05, b > 0.05 (a factor of two in 20 steps), or between.
            Where log_norm reaches -inf it is "vanishing", where it is NaN "exploding".

    Raises
    ------
    TypeError
        If `tape` is none of the two.

    References
    ----------
    S. Hochreiter, "Untersuchungen zu dynamischen neuronalen Netzen" (1991); Y. Bengio, P. Simard
    and P. Frasconi, "Learning long-term dependencies with gradient descent is difficult", IEEE
    Transactions on Neural Networks 5 (1994). The exponents by repeated QR: G. Benettin, L.
    Galgani, A. Giorgilli and J.-M. Strelcyn, Meccanica 15 (1980).

    Examples
    --------
    >>> import fastconv as fc
    >>> import numpy as np
    >>> zero = [[0.0]]  # a gate that always stays at one half
    >>> h, tape = fc.gated_rnn(np.ones((4, 1)), zero, zero, zero, return_tape=True)
    >>> flow = fc.gradient_flow(tape)
    >>> flow.log_norm, flow.verdict
    (array([-3., -2., -1.,  0.]), 'vanishing')
    >>> np.exp(flow.lyapunov)
    array([0.5])
    """
    if isinstance(tape, GatedRNNTape):
        source, batched = _gated(tape), tape.batched
    elif isinstance(tape, AttentionRNNTape):
        source, batched = _attention(tape), not tape.unbatched
    else:
        raise TypeError(f"tape: expected a GatedRNNTape or an AttentionRNNTape, got {kind(tape)}")
    lyapunov = None
    with np.errstate(all="ignore"):  # what is not finite shows in the result
        if isinstance(tape, AttentionRNNTape) and tape.window is None:
            log_norm = _infinite_log_norm(tape, source.ends)
        else:
            log_norm, lyapunov = _log_norm(source), _lyapunov(source)
    verdict = np.array([_verdict(log_norm[:end, b]) for b, end in enumerate(source.ends)], "U9")
    if batched:
        return GradientFlow(log_norm, lyapunov, verdict)
    return GradientFlow(log_norm[:, 0], None if lyapunov is None else lyapunov[0], str(verdict[0]))


# --- the Jacobians of a sequence ---------------------------------------------------------------


class _Source(NamedTuple):
    """A sequence as gradient flow sees it: T steps, B sequences, n numbers a state."""

    lags: Callable[[int], Array]  # t -> dh[t] / dh[t-i] for i = 1 .. reach: (reach, B, n, n)
    reach: int
    shape: tuple[int, int, int]  # T, B, n
    ends: Array  # (B,)

    def jacobians(self, t: int) -> Array:
        """`lags`, 0 past the end of a sequence, where a tape may hold anything."""
        real = np.greater(self.ends, t)[:, np.newaxis, np.newaxis]
        return np.where(real, self.lags(t), 0.0)


def _gated(tape: GatedRNNTape) -> _Source:
    h, c, u = (
        (a.swapaxes(0, 1) if tape.batch_first else a).astype(np.float64)
        for a in (tape.h, tape.c, tape.u)
    )
    w_h = tape.w_h.astype(np.float64)
    start = np.zeros(h.shape[1:]) if tape.h0 is None else tape.h0.astype(np.float64)

    def lags(t: int) -> Array:
        of_h, _ = gated_jacobian(h[t - 1] if t else start, c[t], u[t], w_h)
        return of_h[np.newaxis]

    return _Source(lags, 1, h.shape, _ends(tape, *h.shape[:2]))


def _attention(tape: AttentionRNNTape) -> _Source:
    read = "w_q", "w_k", "w_v", "states", "a"  # by lag_jacobians, and nothing else
    exact = replace(tape, **{name: getattr(tape, name).astype(np.float64) for name in read})
    shape = tape.x.shape
    return _Source(
        lambda t: lag_jacobians(exact, t), tape.window or 0, shape, _ends(tape, *shape[:2])
    )


def _ends(tape: GatedRNNTape | AttentionRNNTape, steps: int, batch: int) -> Array:
    return np.full(batch, steps) if tape.lengths is None else tape.lengths


# --- logarithms of products --------------------------------------------------------------------


class _Scaled(NamedTuple):
    """Matrices (B, n, n) times 2**exponent (B,), the matrices of size about 1."""

    matrix: Array
    exponent: Array


def _scaled(matrix: Array, exponent: Array) -> _Scaled:
    top = np.abs(matrix).max(axis=(1, 2), initial=0.0)
    shift = np.frexp(top)[1]
    exponent = np.where(top == 0, -np.inf, exponent + shift)
    return _Scaled(np.ldexp(matrix, -shift[:, np.newaxis, np.newaxis]), exponent)


def _sum(terms: list[_Scaled]) -> _Scaled:
    top = np.max([term.exponent for term in terms], axis=0)
    total = np.zeros_like(terms[0].matrix)
    for matrix, exponent in terms:
        scale = np.where(exponent == -np.inf, 0.0, np.exp2(exponent - top))
        total += matrix * scale[:, np.newaxis, np.newaxis]
    return _scaled(total, top)


def _log2_norm(product: _Scaled) -> Array:
    """log2 of each matrix's spectral norm; NaN where it is not finite."""
    finite = np.logical_and.reduce(np.isfinite(product.matrix), axis=(1, 2))
    matrix = np.where(finite[:, np.newaxis, np.newaxis], product.matrix, 0.0)
    if not matrix.size:
        return np.full(len(matrix), -np.inf)
    norm = np.linalg.svd(matrix, compute_uv=False)[:, 0]
    log = np.where(norm > 0, product.exponent + np.log2(norm), -np.inf)
    return np.where(finite, log, np.nan)


def _starting(product: _Scaled, ends: Array, t: int) -> _Scaled:
    """d h[T] / d h[t] is the identity at a sequence's last step, and 0 behind it."""
    behind, last = np.less_equal(ends, t), np.less_equal(ends, t + 1) & np.greater(ends, t)
    matrix, exponent = product
    matrix = np.where(behind[:, np.newaxis, np.newaxis], 0.0, matrix)
    matrix = np.where(last[:, np.newaxis, np.newaxis], np.eye(matrix.shape[1]), matrix)
    exponent = np.where(last, 0.0, np.where(behind, -np.inf, exponent))
    return _Scaled(matrix, exponent)


def _log_norm(source: _Source) -> Array:
    """P[t] = d h[T] / d h[t] = sum over i of P[t+i] dh[t+i]/dh[t], backwards from P[T] = 1."""
    steps, batch, n = source.shape
    log_norm = np.empty((steps, batch))
    later: deque[tuple[_Scaled, Array]] = deque(maxlen=source.reach)  # P and lags of t+1, t+2, ...
    nothing = _Scaled(np.zeros((batch, n, n)), np.full(batch, -np.inf))
    for t in reversed(range(steps)):
        terms = [_scaled(p.matrix @ lag[i], p.exponent) for i, (p, lag) in enumerate(later)]
        product = _starting(_sum([*terms, nothing]), source.ends, t)
        log_norm[t] = np.where(t == source.ends - 1, 0.0, _log2_norm(product))
        if source.reach:
            later.appendleft((product, source.jacobians(t)))
    return log_norm


def _infinite_log_norm(tape: AttentionRNNTape, ends: Array) -> Array:
    """The same for AttentionRNN(infinity), where every state reaches all later ones. With

        dh[t] / dh[s] = exp(w_s) / Z_t (V + (v_s - h[t]) g_s^T),    g_s = (M + M^T) h[s]

    two running sums are enough, S of P[t] / Z_t and r of P[t] h[t] / Z_t over all t > s:

        P[s] = exp(w_s) (S V + (S v_s - r) g_s^T)
    """
    assert tape.scores is not None and tape.m is not None and tape.z is not None
    steps, batch, n = tape.x.shape
    w_v, h = tape.w_v.astype(np.float64), tape.states[tape.given :].astype(np.float64)
    scores = tape.scores[tape.given :].astype(np.float64) / math.log(2)
    log_z = (tape.m.astype(np.float64) + np.log(tape.z.astype(np.float64))) / math.log(2)
    grown = tape.grown[tape.given :, :, 0].astype(np.float64)
    log_norm = np.empty((steps, batch))
    # S and r in one: (B, n, n + 1), the last column r
    sums = _Scaled(np.zeros((batch, n, n + 1)), np.full(batch, -np.inf))
    for t in reversed(range(steps)):
        product = _Scaled(np.zeros((batch, n, n)), np.full(batch, -np.inf))
        if t + 1 < steps:  # the last state's score is never made
            s, r = sums.matrix[:, :, :n], sums.matrix[:, :, n:]
            v = (h[t] @ w_v.T)[:, :, np.newaxis]
            product = _scaled(
                s @ w_v + (s @ v - r) * grown[t][:, np.newaxis], sums.exponent + scores[t]
            )
        product = _starting(product, ends, t)
        log_norm[t] = np.where(t == ends - 1, 0.0, _log2_norm(product))
        real = (t < ends)[:, np.newaxis]
        state = np.where(real, h[t], 0.0)[:, :, np.newaxis]
        new = np.concatenate([product.matrix, product.matrix @ state], axis=2)
        sums = _sum([sums, _scaled(new, product.exponent - np.where(real[:, 0], log_z[t], 0.0))])
    return log_norm


def _lyapunov(source: _Source) -> Array:
    """A frame Q is carried along: A Q = Q' R. The growth of its axes is the diagonal of R."""
    steps, batch, n = source.shape
    size = n * source.reach  # the map carries (h[t-1], .., h[t-reach])
    frame = np.broadcast_to(np.eye(size), (batch, size, size))
    growth = np.zeros((batch, size))
    for t in range(steps if size else 0):
        newest = sum(
            jacobian @ frame[:, i * n : (i + 1) * n]
            for i, jacobian in enumerate(source.jacobians(t))
        )
        moved = np.concatenate([newest, frame[:, : size - n]], axis=1)
        frame, r = np.linalg.qr(moved)
        stretched = np.log(np.abs(np.diagonal(r, axis1=1, axis2=2)))
        growth += np.where((t < source.ends)[:, np.newaxis], stretched, 0.0)
    return -np.sort(-growth / np.maximum(source.ends, 1)[:, np.newaxis], axis=1)


def _verdict(log_norm: Array) -> str:
    if np.isnan(log_norm).any():
        return "exploding"
    if np.isinf(log_norm).any():
        return "vanishing"
    if len(log_norm) < 2:
        return "stable"
    slope = -np.polyfit(np.arange(len(log_norm)), log_norm, 1)[0]
    return "vanishing" if slope < -SLOPE else "exploding" if slope > SLOPE else "stable"
