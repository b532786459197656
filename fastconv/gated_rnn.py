"""The gated recurrent network: whole sequences, back through time, and one step.

As in conv.py, each function first hands its arguments to `_core` as they are; the second half of
this file takes what `_core` returns None for.
"""

from typing import Any, Literal, NamedTuple, cast, overload

import numpy as np
from numpy.typing import ArrayLike

from . import _core
from .operands import (
    Array,
    as_array,
    flag,
    for_kernel,
    kernel_dtype,
    kind,
    optional_array,
    result_dtype,
    wrong_shape,
)
from .sequences import read_lengths


class GatedRNNGrads(NamedTuple):
    """Gradients of a loss with respect to the operands of `gated_rnn`, each of its shape.

    There is one for h0, b_c and b_x also where they were not given and stood for zeros.
    """

    x: Array
    w_c: Array
    w_h: Array
    w_x: Array
    h0: Array
    b_c: Array
    b_x: Array


def _other_layout(arrays: list[Array]) -> list[Array]:
    """(T, B, ...) as (B, T, ...), or the other way."""
    return [array.swapaxes(0, 1) for array in arrays]


class GatedRNNTape:
    """What `gated_rnn` leaves behind for `gated_rnn_backward`.

    The inputs, the states, the gates ``c`` and the candidates ``u``: B (n + 3 m) numbers a step.
    All of it is the tape's own memory: operands and results may change. The steps come first in it;
    where ``batch_first``, the arrays are views.

    Attributes
    ----------
    x : ndarray, shape (T, B, n), or (B, T, n) where ``batch_first``
    h, c, u : ndarray, shape (T, B, m), or (B, T, m)
    w_c, w_h, w_x : ndarray
    h0 : ndarray, shape (B, m), or None
    lengths : ndarray, shape (B,), or None
    batch_first : bool
    batched : bool
        False for a single sequence, which is kept as a batch of one.
    dtype : dtype
        Of the results; the arrays above hold what was computed with.
    """

    __slots__ = (
        "batch_first",
        "batched",
        "c",
        "dtype",
        "h",
        "h0",
        "lengths",
        "u",
        "w_c",
        "w_h",
        "w_x",
        "x",
    )

    def __init__(
        self,
        kept: list[Array],
        w_c: Any,
        w_h: Any,
        w_x: Any,
        h0: Any,
        lengths: Any,
        batch_first: bool,
        batched: bool,
        dtype: np.dtype[Any],
    ) -> None:
        self.x, self.h, self.c, self.u = _other_layout(kept) if batch_first else kept
        self.w_c, self.w_h, self.w_x = w_c.copy(), w_h.copy(), w_x.copy()
        self.h0 = None if h0 is None else h0.copy()
        self.lengths = None if lengths is None else lengths.copy()
        self.batch_first, self.batched, self.dtype = batch_first, batched, dtype

    @property
    def _kept(self) -> list[Array]:
        """x, h, c and u as they lie in memory, the steps first."""
        kept = [self.x, self.h, self.c, self.u]
        return _other_layout(kept) if self.batch_first else kept

    @property
    def nbytes(self) -> int:
        """How much memory the tape holds."""
        kept = (self.x, self.h, self.c, self.u, self.w_c, self.w_h, self.w_x, self.h0, self.lengths)
        return sum(array.nbytes for array in kept if array is not None)

    def __repr__(self) -> str:
        shape = self.h.shape if self.batched else (self.h.shape[0], self.h.shape[2])
        return f"GatedRNNTape(h {shape} {self.dtype}, batch_first={self.batch_first})"


@overload
def gated_rnn(
    x: ArrayLike,
    w_c: ArrayLike,
    w_h: ArrayLike,
    w_x: ArrayLike,
    h0: ArrayLike | None = None,
    *,
    b_c: ArrayLike | None = None,
    b_x: ArrayLike | None = None,
    lengths: ArrayLike | None = None,
    batch_first: bool = False,
    return_tape: Literal[False] = False,
) -> Array: ...
@overload
def gated_rnn(
    x: ArrayLike,
    w_c: ArrayLike,
    w_h: ArrayLike,
    w_x: ArrayLike,
    h0: ArrayLike | None = None,
    *,
    b_c: ArrayLike | None = None,
    b_x: ArrayLike | None = None,
    lengths: ArrayLike | None = None,
    batch_first: bool = False,
    return_tape: Literal[True],
) -> tuple[Array, GatedRNNTape]: ...
def gated_rnn(
    x: ArrayLike,
    w_c: ArrayLike,
    w_h: ArrayLike,
    w_x: ArrayLike,
    h0: ArrayLike | None = None,
    *,
    b_c: ArrayLike | None = None,
    b_x: ArrayLike | None = None,
    lengths: ArrayLike | None = None,
    batch_first: bool = False,
    return_tape: bool = False,
) -> Array | tuple[Array, GatedRNNTape]:
    """Run a gated recurrent network over whole sequences.

    A gate decides, state by state, between the old state and a candidate made from the input::

        c[t] = sigmoid(w_c x[t] + w_h h[t-1] + b_c)
        h[t] = c[t] * h[t-1] + (1 - c[t]) * (w_x x[t] + b_x)

    for T steps t = 1 .. T, with h[0] = `h0`.

    Parameters
    ----------
    x : array_like, shape (T, B, n), or (T, n) for one sequence
        B sequences of n inputs a step; (B, T, n) with `batch_first`. float32 and float64 are
        computed as they are, float16 and bfloat16 in float32, integers and booleans in float64;
        mixed dtypes follow `numpy.result_type`.
    w_c, w_x : array_like, shape (m, n)
        Weights of the input in the gate and in the candidate.
    w_h : array_like, shape (m, m)
        Weights of the state before in the gate.
    h0 : array_like, shape (B, m), or (m,) for one sequence, optional
        The state before the first step; zeros unless given.
    b_c, b_x : array_like, shape (m,), optional
        Biases of the gate and of the candidate; zeros unless given.
    lengths : array_like of int, shape (B,), optional
        How many steps of each sequence are real, 0 to T. At and past its length a sequence's h
        is 0, and what x holds there does not matter.
    batch_first : bool, optional
        Whether x and h are (B, T, ...). Without effect for one sequence.
    return_tape : bool, optional
        Also return what `gated_rnn_backward` needs.

    Returns
    -------
    h : ndarray, shape (T, B, m), (B, T, m) with `batch_first`, or (T, m)
        Every state from h[1] on.
    tape : GatedRNNTape
        Only with `return_tape`. It holds B (n + 3 m) numbers a step, and copies of the weights.
        It may be used many times, from any thread.

    Raises
    ------
    TypeError
        If an operand holds no real numbers, lengths no integers, or a flag is no bool.
    ValueError
        If a shape or a length does not fit. The message names the argument.
    MemoryError
        If there is no memory for the result or for scratch space.

    Notes
    -----
    The bits of a sequence's result do not depend on the number of threads, nor on the batch
    that it is in.

    References
    ----------
    The gate is the update gate of K. Cho et al., "Learning phrase representations using RNN
    encoder-decoder for statistical machine translation", https://arxiv.org/abs/1406.1078; the
    candidate here is linear and does not look at the state.

    Examples
    --------
    >>> import fastconv as fc
    >>> import numpy as np
    >>> x = np.ones((3, 1))                       # three steps of one input
    >>> fc.gated_rnn(x, [[0.0]], [[0.0]], [[1.0]])   # the gate stays at one half
    array([[0.5  ],
           [0.75 ],
           [0.875]])
    """
    if type(batch_first) is bool and type(return_tape) is bool:
        run = _core.gated_rnn_forward(
            x, w_c, w_h, w_x, h0, b_c, b_x, lengths, batch_first, return_tape
        )
        if run is not None:
            if not return_tape:
                return cast(Array, run)
            h, tape = run
            return h, GatedRNNTape(tape, w_c, w_h, w_x, h0, lengths, batch_first, True, h.dtype)
    return _forward_any(x, w_c, w_h, w_x, h0, b_c, b_x, lengths, batch_first, return_tape)


def gated_rnn_backward(
    grad_h: ArrayLike, tape: GatedRNNTape, *, grad_h_last: ArrayLike | None = None
) -> GatedRNNGrads:
    """Back-propagate through time: gradients of `gated_rnn`, from those of its states.

    With g[t] the total gradient with respect to h[t], for t = T .. 1::

        ds[t]  = g[t] * (h[t-1] - u[t]) * c[t] * (1 - c[t])
        du[t]  = g[t] * (1 - c[t])
        g[t-1] = grad_h[t-1] + g[t] * c[t] + w_h^T ds[t]

    and then, summed over all steps, w_h: ds[t] h[t-1]^T; w_c: ds[t] x[t]^T; w_x: du[t] x[t]^T;
    b_c: ds[t]; b_x: du[t]; and x[t]: w_c^T ds[t] + w_x^T du[t].

    Parameters
    ----------
    grad_h : array_like, of h's shape
        The direct gradient of the loss with respect to every h[t]: that which does not go
        through later states. Dtypes as for `gated_rnn`, together with the tape's.
    tape : GatedRNNTape
        From `gated_rnn`. It may be used any number of times, in any thread.
    grad_h_last : array_like, shape (B, m), or (m,) for one sequence, optional
        Added at each sequence's last step, for a loss that looks at the last state. Where a
        sequence has no step, its last state is h0.

    Returns
    -------
    GatedRNNGrads
        A named tuple (x, w_c, w_h, w_x, h0, b_c, b_x).

    Raises
    ------
    TypeError
        If an operand holds no real numbers or `tape` is no GatedRNNTape.
    ValueError
        If a shape does not fit. The message names the argument.
    MemoryError
        If there is no memory for the results or for scratch space.

    References
    ----------
    P. J. Werbos, "Backpropagation through time: what it does and how to do it", Proceedings of
    the IEEE 78 (1990).

    Examples
    --------
    >>> import fastconv as fc
    >>> import numpy as np
    >>> h, tape = fc.gated_rnn(np.ones((3, 1)), [[0.0]], [[0.0]], [[1.0]], return_tape=True)
    >>> grads = fc.gated_rnn_backward(np.zeros((3, 1)), tape, grad_h_last=[1.0])
    >>> grads.w_x, grads.h0
    (array([[0.875]]), array([0.125]))
    """
    if type(tape) is GatedRNNTape and tape.batched and tape.dtype == tape.h.dtype:
        x, h, c, u = tape._kept
        grads = _core.gated_rnn_backward(
            grad_h,
            grad_h_last,
            x,
            tape.w_c,
            tape.w_h,
            tape.w_x,
            tape.h0,
            h,
            c,
            u,
            tape.lengths,
            tape.batch_first,
        )
        if grads is not None:
            return GatedRNNGrads(*grads)
    return _backward_any(grad_h, tape, grad_h_last)


def gated_rnn_step(
    x_t: ArrayLike,
    h_prev: ArrayLike,
    w_c: ArrayLike,
    w_h: ArrayLike,
    w_x: ArrayLike,
    *,
    b_c: ArrayLike | None = None,
    b_x: ArrayLike | None = None,
) -> Array:
    """One step of `gated_rnn`, for input that arrives step by step.

    The same bits as that step has in `gated_rnn`.

    Parameters
    ----------
    x_t : array_like, shape (B, n), or (n,) for one sequence
        The step's input.
    h_prev : array_like, shape (B, m), or (m,)
        The state before it.
    w_c, w_h, w_x, b_c, b_x
        As for `gated_rnn`.

    Returns
    -------
    h_t : ndarray, shape (B, m), or (m,)
        The state after it.

    Raises
    ------
    TypeError, ValueError, MemoryError
        As `gated_rnn`.

    Examples
    --------
    >>> import fastconv as fc
    >>> fc.gated_rnn_step([1.0], [0.5], [[0.0]], [[0.0]], [[1.0]])
    array([0.75])
    """
    h = _core.gated_rnn_step(x_t, h_prev, w_c, w_h, w_x, b_c, b_x)
    return _step_any(x_t, h_prev, w_c, w_h, w_x, b_c, b_x) if h is None else h


# --- everything but the common case ------------------------------------------------------------


def _forward_any(
    x: Any,
    w_c: Any,
    w_h: Any,
    w_x: Any,
    h0: Any,
    b_c: Any,
    b_x: Any,
    lengths: Any,
    batch_first: Any,
    return_tape: Any,
) -> Array | tuple[Array, GatedRNNTape]:
    x = as_array("x", x)
    batch_first = flag("batch_first", batch_first)
    return_tape = flag("return_tape", return_tape)
    if x.ndim not in (2, 3):
        axes = "(B, T, n)" if batch_first else "(T, B, n)"
        wrong_shape("x", f"{axes} or, for one sequence, (T, n)", x)
    batched = x.ndim == 3
    batch_first &= batched
    w_c, w_h, w_x = _read_weights(w_c, w_h, w_x, "x", x)
    states = w_h.shape[0]
    b_c, b_x = _read_vector("b_c", b_c, states), _read_vector("b_x", b_x, states)
    sequences = x.shape[not batch_first] if batched else None
    h0 = _read_state("h0", h0, sequences, states)
    steps = x.shape[1 if batch_first else 0]
    lengths = read_lengths(lengths, steps, 1 if sequences is None else sequences, not batched)

    dtype = result_dtype(x, w_c, w_h, w_x, h0, b_c, b_x)
    kept = kernel_dtype(dtype)
    x, w_c, w_h, w_x, h0, b_c, b_x = (
        None if operand is None else for_kernel(operand, kept)
        for operand in (x, w_c, w_h, w_x, h0, b_c, b_x)
    )
    if not batched:
        x, h0 = x[:, np.newaxis], None if h0 is None else h0[np.newaxis]
    run = _core.gated_rnn_forward(x, w_c, w_h, w_x, h0, b_c, b_x, lengths, batch_first, return_tape)
    h: Array = run[0] if return_tape else run
    result = (h if batched else h[:, 0]).astype(dtype, copy=False)
    if not return_tape:
        return result
    return result, GatedRNNTape(run[1], w_c, w_h, w_x, h0, lengths, batch_first, batched, dtype)


def _backward_any(grad_h: Any, tape: Any, grad_h_last: Any) -> GatedRNNGrads:
    if not isinstance(tape, GatedRNNTape):
        raise TypeError(f"tape: expected a GatedRNNTape from gated_rnn, got {kind(tape)}")
    grad_h = as_array("grad_h", grad_h)
    shape = tape.h.shape if tape.batched else (tape.h.shape[0], tape.h.shape[2])
    if grad_h.shape != shape:
        wrong_shape("grad_h", f"h's shape {shape}", grad_h)
    sequences = tape.h.shape[not tape.batch_first] if tape.batched else None
    grad_h_last = _read_state("grad_h_last", grad_h_last, sequences, shape[-1])

    dtype = result_dtype(tape.dtype, grad_h, grad_h_last)
    kept = kernel_dtype(dtype)
    if grad_h_last is not None and not tape.batched:
        grad_h_last = grad_h_last[np.newaxis]
    x, h, c, u = tape._kept
    operands = (
        grad_h.reshape(tape.h.shape),
        grad_h_last,
        x,
        tape.w_c,
        tape.w_h,
        tape.w_x,
        tape.h0,
        h,
        c,
        u,
    )
    grads = _core.gated_rnn_backward(
        *(None if operand is None else for_kernel(operand, kept) for operand in operands),
        tape.lengths,
        tape.batch_first,
    )
    dx, dw_c, dw_h, dw_x, dh0, db_c, db_x = (grad.astype(dtype, copy=False) for grad in grads)
    if not tape.batched:
        dx, dh0 = dx[:, 0], dh0[0]
    return GatedRNNGrads(dx, dw_c, dw_h, dw_x, dh0, db_c, db_x)


def _step_any(x_t: Any, h_prev: Any, w_c: Any, w_h: Any, w_x: Any, b_c: Any, b_x: Any) -> Array:
    operands = read_gated_step(x_t, h_prev, w_c, w_h, w_x, b_c, b_x)
    dtype = result_dtype(*operands)
    kept = kernel_dtype(dtype)
    h: Array = _core.gated_rnn_step(
        *(None if operand is None else for_kernel(operand, kept) for operand in operands)
    )
    return h.astype(dtype, copy=False)


def read_gated_step(
    x_t: Any, h_prev: Any, w_c: Any, w_h: Any, w_x: Any, b_c: Any, b_x: Any
) -> tuple[Array, Array, Array, Array, Array, Array | None, Array | None]:
    """The operands of a step as arrays whose shapes fit each other."""
    x_t = as_array("x_t", x_t)
    if x_t.ndim not in (1, 2):
        wrong_shape("x_t", "(B, n) or, for one sequence, (n,)", x_t)
    w_c, w_h, w_x = _read_weights(w_c, w_h, w_x, "x_t", x_t)
    states = w_h.shape[0]
    b_c, b_x = _read_vector("b_c", b_c, states), _read_vector("b_x", b_x, states)
    sequences = x_t.shape[0] if x_t.ndim == 2 else None
    state = _read_state("h_prev", as_array("h_prev", h_prev), sequences, states)
    return x_t, cast(Array, state), w_c, w_h, w_x, b_c, b_x


def _read_weights(
    w_c: Any, w_h: Any, w_x: Any, x_name: str, x: Array
) -> tuple[Array, Array, Array]:
    w_c, w_h, w_x = as_array("w_c", w_c), as_array("w_h", w_h), as_array("w_x", w_x)
    if w_h.ndim != 2 or w_h.shape[0] != w_h.shape[1]:
        wrong_shape("w_h", "(m, m)", w_h)
    shape = (w_h.shape[0], x.shape[-1])
    for name, weight in ("w_c", w_c), ("w_x", w_x):
        if weight.shape != shape:
            wrong_shape(
                name, f"(m, n) = {shape}, from w_h {w_h.shape} and {x_name} {x.shape}", weight
            )
    return w_c, w_h, w_x


def _read_vector(name: str, value: Any, states: int) -> Array | None:
    vector = optional_array(name, value)
    if vector is not None and vector.shape != (states,):
        wrong_shape(name, f"(m,) = {(states,)}", vector)
    return vector


def _read_state(name: str, value: Any, sequences: int | None, states: int) -> Array | None:
    state = optional_array(name, value)
    if state is None:
        return None
    shape = (states,) if sequences is None else (sequences, states)
    if state.shape != shape:
        wrong_shape(name, f"{'(m,)' if sequences is None else '(B, m)'} = {shape}", state)
    return state
