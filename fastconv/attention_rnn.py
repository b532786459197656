"""AttentionRNN: a recurrent network whose state is a mixture of what it attends to.

This file reads the arguments, says what is wrong with them, and lays out the arrays; `_core`
makes the call.
"""

import math
from typing import Any, Literal, NamedTuple, cast, overload

import numpy as np
from numpy.typing import ArrayLike

from . import _core
from .attention_tape import AttentionRNNTape, DType, check_tape, empty_tape, in_dtype, tape_of
from .operands import (
    Array,
    as_array,
    flag,
    for_kernel,
    integer,
    kernel_dtype,
    optional_array,
    result_dtype,
    wrong_shape,
)
from .sequences import as_given, clean, read_lengths, steps_first


class AttentionRNNGrads(NamedTuple):
    """Gradients of a loss with respect to the operands of `attention_rnn`.

    Each has the shape of its operand. There is one of h0 also where it was not given and stood
    for zeros: (k, B, n), or (0, B, n) with an infinite window.
    """

    x: Array
    w_q: Array
    w_k: Array
    w_v: Array
    h0: Array


# --- arguments ---------------------------------------------------------------------------------


def read_weights(
    w_q: ArrayLike, w_k: ArrayLike, w_v: ArrayLike, window: Any
) -> tuple[list[Array], int | None]:
    """The three as arrays of one shape, and the window, None for an infinite one."""
    weights = [as_array(name, w) for name, w in (("w_q", w_q), ("w_k", w_k), ("w_v", w_v))]
    first = weights[0]
    if first.ndim not in (2, 3) or first.shape[-1] != first.shape[-2]:
        wrong_shape(
            "w_q", "(n, n), or (k + 1, n, n) for one matrix for each of the k + 1 states", first
        )
    for name, w in (("w_k", weights[1]), ("w_v", weights[2])):
        if w.shape != first.shape:
            wrong_shape(name, f"the shape of w_q, {first.shape}", w)
    if first.ndim == 2:
        return weights, None if window is None else integer("window", window, minimum=0)
    if first.shape[0] == 0:
        wrong_shape("w_q", "(k + 1, n, n) with k >= 0", first)
    if window is not None and integer("window", window, minimum=0) != first.shape[0] - 1:
        raise ValueError(
            f"window: expected {first.shape[0] - 1}, as w_q has shape {first.shape}, got {window}"
        )
    return weights, first.shape[0] - 1


def _sequence(x: ArrayLike, n: int, batch_first: bool) -> tuple[Array, bool]:
    """x as (T, B, n), and whether it came without a batch."""
    array = as_array("x", x)
    if array.ndim not in (2, 3) or array.shape[-1] != n:
        layout = f"(B, T, {n})" if batch_first else f"(T, B, {n})"
        wrong_shape("x", f"{layout} or (T, {n})", array)
    return steps_first(array, batch_first), array.ndim == 2


def _states(
    name: str, value: ArrayLike, shape: tuple[int, ...], unbatched: bool, length: int | None
) -> Array:
    """States (p, B, n), or (p, n) without a batch; p = length, if it is given."""
    array = as_array(name, value)
    batch = shape[1:] if unbatched else shape
    if (
        array.ndim != len(batch) + 1
        or array.shape[1:] != batch
        or (length is not None and array.shape[0] != length)
    ):
        count = "p" if length is None else str(length)
        wrong_shape(name, f"({', '.join([count, *map(str, batch)])})", array)
    return array[:, None] if unbatched else array


def _computed_in(result: DType) -> DType:
    return result if result.char in "fd" else kernel_dtype(result)


def _check_size(*counts: int) -> None:
    """What a driver counts must fit int64."""
    if math.prod(counts) * 8 >= 1 << 60:
        raise MemoryError(
            f"arrays of {' * '.join(map(str, counts))} numbers do not fit into memory"
        )


def read_step(
    x_t: ArrayLike, history: ArrayLike, w_q: ArrayLike, w_k: ArrayLike, w_v: ArrayLike, window: Any
) -> tuple[Array, Array, list[Array], int | None]:
    """x_t as it came, those states (p, B, n) that its step sees, oldest first, the weights, k."""
    weights, k = read_weights(w_q, w_k, w_v, window)
    n = weights[0].shape[-1]
    step = as_array("x_t", x_t)
    if step.ndim not in (1, 2) or step.shape[-1] != n:
        wrong_shape("x_t", f"(B, {n}) or ({n},)", step)
    rows = step[None] if step.ndim == 1 else step
    states = _states("history", history, rows.shape, step.ndim == 1, None)
    return step, states if k is None else states[max(0, len(states) - k) :], weights, k


# --- forward -----------------------------------------------------------------------------------


@overload
def attention_rnn(
    x: ArrayLike,
    w_q: ArrayLike,
    w_k: ArrayLike,
    w_v: ArrayLike,
    h0: ArrayLike | None = None,
    *,
    window: int | None = None,
    lengths: ArrayLike | None = None,
    batch_first: bool = False,
    return_tape: Literal[False] = False,
) -> Array: ...


@overload
def attention_rnn(
    x: ArrayLike,
    w_q: ArrayLike,
    w_k: ArrayLike,
    w_v: ArrayLike,
    h0: ArrayLike | None = None,
    *,
    window: int | None = None,
    lengths: ArrayLike | None = None,
    batch_first: bool = False,
    return_tape: Literal[True],
) -> tuple[Array, AttentionRNNTape]: ...


def attention_rnn(
    x: ArrayLike,
    w_q: ArrayLike,
    w_k: ArrayLike,
    w_v: ArrayLike,
    h0: ArrayLike | None = None,
    *,
    window: int | None = None,
    lengths: ArrayLike | None = None,
    batch_first: bool = False,
    return_tape: bool = False,
) -> Array | tuple[Array, AttentionRNNTape]:
    """AttentionRNN(k) over whole sequences.

    With s_0 = x[t] and s_i = h[t-i], i = 1 .. k::

        q_i = Q_i s_i;  k_i = K_i s_i;  v_i = V_i s_i
        w_i = q_i . k_i;  a = softmax(w_0 .. w_k);  h[t] = sum_i a_i v_i

    Parameters
    ----------
    x : array_like, shape (T, B, n), (T, n), or (B, T, n) with `batch_first`
        The inputs: T steps of B sequences.
    w_q, w_k, w_v : array_like, shape (k + 1, n, n) or (n, n)
        Q_i, K_i and V_i: one matrix for each i, or the same for all of them.
    h0 : array_like, shape (p, B, n), or (p, n) for x (T, n), optional
        The states before the start, oldest first. With a finite window there must be k of them;
        where they are absent they are zeros, which take part with score 0 and value 0. With an
        infinite window nothing stands before the start, unless h0 gives any number of states.
    window : int, optional
        k. For shared matrices, None means an infinite window: each step attends to x[t] and to
        every earlier state. It costs the same work and memory at every step.
    lengths : array_like of int, shape (B,), optional
        How many steps of each sequence are real. From there on h is 0.
    batch_first : bool
        x and h have shape (B, T, n).
    return_tape : bool
        Also return what `attention_rnn_backward` needs. The last bits of h may differ from those
        of a call without: the scores are summed in another order.

    Returns
    -------
    h : ndarray, in the layout of x
        The states after every step.
    tape : AttentionRNNTape
        Only with `return_tape`. A step of one sequence takes (k + 3) n + k + 1 numbers with
        separate matrices, 5 n + k + 1 with shared ones, and 5 n + 4 with an infinite window,
        besides copies of the weights. It may be used many times, from any thread.

    Raises
    ------
    TypeError
        If an operand has no dtype that we compute in (float16, bfloat16, float32, float64,
        integers, booleans), or `window` or `lengths` hold no integers.
    ValueError
        If shapes do not fit each other, or a length or the window is out of range.
    MemoryError
        If there is not enough memory.

    Examples
    --------
    >>> import fastconv as fc
    >>> x = [[1.0, 0.0], [0.0, 1.0]]  # two steps, no batch
    >>> eye = [[1.0, 0.0], [0.0, 1.0]]
    >>> fc.attention_rnn(x, eye, eye, eye)  # attends to everything before
    array([[1. , 0. ],
           [0.5, 0.5]])
    >>> h, tape = fc.attention_rnn(x, eye, eye, eye, window=1, return_tape=True)
    >>> fc.attention_weights(tape).shape
    (2, 2)
    """
    if h0 is None and lengths is None and batch_first is False and type(return_tape) is bool:
        run = _core.attention_rnn_common(x, w_q, w_k, w_v, window, return_tape)
        if run is not None:
            return tape_of(*run) if return_tape else cast(Array, run)
    return _forward_any(x, w_q, w_k, w_v, h0, window, lengths, batch_first, return_tape)


def _forward_any(
    x: ArrayLike,
    w_q: ArrayLike,
    w_k: ArrayLike,
    w_v: ArrayLike,
    h0: ArrayLike | None,
    window: int | None,
    lengths: ArrayLike | None,
    batch_first: bool,
    return_tape: bool,
) -> Array | tuple[Array, AttentionRNNTape]:
    """`attention_rnn` of whatever may be given."""
    batch_first, return_tape = flag("batch_first", batch_first), flag("return_tape", return_tape)
    weights, k = read_weights(w_q, w_k, w_v, window)
    n = weights[0].shape[-1]
    steps, unbatched = _sequence(x, n, batch_first)
    T, B, _ = steps.shape
    start = None if h0 is None else _states("h0", h0, (B, n), unbatched, k)
    real = read_lengths(lengths, T, B, unbatched)
    result = result_dtype(steps, *weights, start)
    _check_size(
        (k or 0) + 1, max(T, 1) + (0 if start is None else len(start)), max(B, 1), max(n, 1)
    )

    dtype = _computed_in(result)
    kernel_weights = [for_kernel(w, dtype) for w in weights]
    kernel_x = clean(for_kernel(steps, dtype), real)
    if start is not None:
        start = for_kernel(start, dtype)
    if not return_tape:
        (h,) = _core.new_arrays(dtype, [(T, B, n)])
        if h.size:
            _core.attention_rnn_forward(kernel_x, *kernel_weights, start, h, k, real, None)
        return _result(h, result, batch_first, unbatched)

    tape = empty_tape(kernel_x, kernel_weights, start, k, real, batch_first, unbatched, result)
    h = tape.states[len(tape.states) - T :]
    if h.size:
        before = tape.states[: tape.given] if tape.given else None
        _core.attention_rnn_forward(tape.x, tape.w_q, tape.w_k, tape.w_v, before, h, k, real, tape)
    (own,) = _core.new_arrays(dtype, [(T, B, n)])
    own[...] = h
    return _result(own, result, batch_first, unbatched), tape


def _result(h: Array, dtype: DType, batch_first: bool, unbatched: bool) -> Array:
    return as_given(h.astype(dtype, copy=False), batch_first, unbatched)


def attention_rnn_step(
    x_t: ArrayLike,
    history: ArrayLike,
    w_q: ArrayLike,
    w_k: ArrayLike,
    w_v: ArrayLike,
    *,
    window: int | None = None,
) -> Array:
    """One step of AttentionRNN: h[t] from x[t] and the states before it.

    Parameters
    ----------
    x_t : array_like, shape (B, n) or (n,)
        The input of this step.
    history : array_like, shape (p, B, n), or (p, n) for x_t (n,)
        The states before, oldest first. A finite window sees the last k of them; where there
        are fewer, zeros stand before them, as in `attention_rnn`.
    w_q, w_k, w_v : array_like, shape (k + 1, n, n) or (n, n)
        As for `attention_rnn`.
    window : int, optional
        k for shared matrices; None: all of `history`.

    Returns
    -------
    ndarray, shape (B, n) or (n,)

    Raises
    ------
    TypeError, ValueError, MemoryError
        As `attention_rnn`.

    Examples
    --------
    >>> import fastconv as fc
    >>> eye = [[1.0, 0.0], [0.0, 1.0]]
    >>> fc.attention_rnn_step([0.0, 1.0], [[1.0, 0.0]], eye, eye, eye)
    array([0.5, 0.5])
    """
    step, states, weights, k = read_step(x_t, history, w_q, w_k, w_v, window)
    unbatched = step.ndim == 1
    rows = step[None] if unbatched else step
    n = step.shape[-1]
    result = result_dtype(step, states, *weights)
    _check_size((k or 0) + 1, len(states) + 1, max(rows.shape[0], 1), max(n, 1))

    dtype = _computed_in(result)
    h = np.empty((1, *rows.shape), dtype)
    if h.size:
        _core.attention_rnn_forward(
            for_kernel(rows[None], dtype),
            *(for_kernel(w, dtype) for w in weights),
            for_kernel(states, dtype),
            h,
            k,
            None,
            None,
        )
    h_t: Array = h[0, 0] if unbatched else h[0]
    return h_t.astype(result, copy=False)


# --- backward ----------------------------------------------------------------------------------


def attention_rnn_backward(
    grad_h: ArrayLike, tape: AttentionRNNTape, *, grad_h_last: ArrayLike | None = None
) -> AttentionRNNGrads:
    """Backpropagation through time.

    With g[t] the total gradient of the loss with respect to h[t]::

        dw_i = a_i (g[t] . v_i - g[t] . h[t]);  dv_i = a_i g[t]
        ds_i = V_i^T dv_i + dw_i (Q_i^T k_i + K_i^T q_i)      added to g[t-i], dx[t] for i = 0

    Parameters
    ----------
    grad_h : array_like, in the shape of h
        The direct gradient of the loss with respect to every h[t]. What it holds past a length
        has no effect.
    tape : AttentionRNNTape
        From `attention_rnn`.
    grad_h_last : array_like, shape (B, n), or (n,) without a batch, optional
        Added to the gradient of each sequence's last real step (of the newest state before
        the start, where it has no step).

    Returns
    -------
    AttentionRNNGrads(x, w_q, w_k, w_v, h0)
        In the dtype of h and the gradients together.

    Raises
    ------
    TypeError
        If `tape` is none, or a gradient has no dtype that we compute in.
    ValueError
        If a gradient has the wrong shape.
    MemoryError
        If there is not enough memory.

    Examples
    --------
    >>> import fastconv as fc
    >>> one = [[1.0]]
    >>> h, tape = fc.attention_rnn([[0.5]], one, one, one, return_tape=True)
    >>> fc.attention_rnn_backward([[1.0]], tape).x  # h = x: nothing else to attend to
    array([[1.]])
    """
    check_tape(tape)
    plain = tape.lengths is None and not tape.batch_first and not tape.unbatched
    if grad_h_last is None and plain and tape.dtype == tape.x.dtype:
        grads = _core.attention_rnn_backward_common(grad_h, tape)
        if grads is not None:
            return AttentionRNNGrads(*grads)
    return _backward_any(grad_h, tape, grad_h_last)


def _backward_any(
    grad_h: ArrayLike, tape: AttentionRNNTape, grad_h_last: ArrayLike | None
) -> AttentionRNNGrads:
    """`attention_rnn_backward` of whatever may be given."""
    T, B, n = tape.x.shape
    shape = (T, n) if tape.unbatched else (B, T, n) if tape.batch_first else (T, B, n)
    direct, last = as_array("grad_h", grad_h), optional_array("grad_h_last", grad_h_last)
    if direct.shape != shape:
        wrong_shape("grad_h", f"h's shape {shape}", direct)
    if last is not None and last.shape != (shape[-1:] if tape.unbatched else (B, n)):
        wrong_shape("grad_h_last", f"shape {shape[-1:] if tape.unbatched else (B, n)}", last)
    result = result_dtype(tape.dtype, direct, last)
    tape = in_dtype(tape, _computed_in(result))

    grad = _direct_gradient(direct, last, tape)
    dx, *dw = _core.new_arrays(tape.x.dtype, [tape.x.shape, *[tape.w_q.shape] * 3])
    if dx.size:
        _core.attention_rnn_backward(grad, tape, dx, *dw)
    else:
        for array in dw:
            array[:] = 0

    dh0 = grad[: len(grad) - T].copy()
    dx, dq, dk, dv, dh0 = (array.astype(result, copy=False) for array in (dx, *dw, dh0))
    return AttentionRNNGrads(
        as_given(dx, tape.batch_first, tape.unbatched),
        dq,
        dk,
        dv,
        dh0[:, 0] if tape.unbatched else dh0,
    )


def _direct_gradient(direct: Array, last: Array | None, tape: AttentionRNNTape) -> Array:
    """(S + T, B, n): zeros for what stands before the start, then the direct gradient of h."""
    T, B, n = tape.x.shape
    (grad,) = _core.kept_arrays(tape.x.dtype, [tape.states.shape])
    before = len(grad) - T
    grad[:before] = 0
    grad[before:] = clean(steps_first(direct, tape.batch_first), tape.lengths)
    if last is not None:
        ends = before - 1 + (np.full(B, T) if tape.lengths is None else tape.lengths)
        rows = np.flatnonzero(ends >= 0)
        grad[ends[rows], rows] += last.reshape(B, n)[rows].astype(grad.dtype)
    return grad
