"""What AttentionRNN keeps of its way forward: the tape, and how much each step attended to what."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from . import _core
from .operands import Array, kind
from .sequences import as_given, clean

DType = np.dtype[Any]
TAPE_ARRAYS = "x w_q w_k w_v states grown grown_x a mixed scores m z".split()


@dataclass(eq=False, repr=False)
class AttentionRNNTape:
    """What `attention_rnn` keeps for `attention_rnn_backward`: copies, so later changes to the
    operands do not matter. T steps, B sequences, n numbers a state, k the window; L = 1 for
    shared matrices, else k; P states of h0; S = k, or P with an infinite window."""

    x: Array  # (T, B, n)
    w_q: Array
    w_k: Array
    w_v: Array
    states: Array  # (S + T, B, n): h0 or zeros, then h
    grown: Array  # (P + T, B, L, n): (M_i + M_i^T) s of each state; of the last one unset
    grown_x: Array  # (T, B, n): (M_0 + M_0^T) x
    a: Array  # (T, B, k + 1): softmax; with an infinite window (T, B, 1): of x alone
    window: int | None
    given: int  # P
    lengths: Array | None
    batch_first: bool
    unbatched: bool
    dtype: DType  # of the results
    mixed: Array | None = None  # (T, B, n): sum_i a_i s_i; shared matrices only
    # Of an infinite window only:
    scores: Array | None = None  # (P + T, B): of each state
    m: Array | None = None  # (T, B): a_i = exp(score_i - m) / z
    z: Array | None = None

    def __repr__(self) -> str:
        T, B, n = self.x.shape
        return f"AttentionRNNTape({T} steps, {B} sequences, {n} states, window {self.window})"


def tape_of(h: Array, window: int | None, arrays: list[Array]) -> tuple[Array, AttentionRNNTape]:
    """What `_core.attention_rnn_common` returns, h and its tape."""
    return h, AttentionRNNTape(
        **_by_name(arrays),
        window=window,
        given=0,
        lengths=None,
        batch_first=False,
        unbatched=False,
        dtype=h.dtype,
    )


def empty_tape(
    x: Array,
    weights: list[Array],
    h0: Array | None,
    window: int | None,
    lengths: Array | None,
    batch_first: bool,
    unbatched: bool,
    dtype: DType,
) -> AttentionRNNTape:
    """A tape with room for everything, and in it copies of the operands."""
    given = 0 if h0 is None else len(h0)
    arrays = _core.attention_tape_arrays(x, weights[0], window, given)
    for array, value in zip(arrays, (x, *weights), strict=False):
        array[...] = value
    states = arrays[4]
    states[: len(states) - len(x)] = 0 if h0 is None else h0
    return AttentionRNNTape(
        **_by_name(arrays),
        window=window,
        given=given,
        lengths=lengths,
        batch_first=batch_first,
        unbatched=unbatched,
        dtype=dtype,
    )


def _by_name(arrays: list[Array]) -> dict[str, Any]:
    """A tape's arrays, in the order of `_core.attention_tape_arrays`, as its arguments."""
    return dict(zip(TAPE_ARRAYS, arrays, strict=False))


def in_dtype(tape: AttentionRNNTape, dtype: DType) -> AttentionRNNTape:
    """The tape itself, or a copy that holds numbers of another dtype."""
    if tape.x.dtype == dtype:
        return tape
    arrays: dict[str, Any] = {
        name: array.astype(dtype)
        for name, array in vars(tape).items()
        if isinstance(array, np.ndarray) and name != "lengths"
    }
    return replace(tape, **arrays)


def check_tape(tape: Any) -> None:
    if not isinstance(tape, AttentionRNNTape):
        raise TypeError(f"tape: expected an AttentionRNNTape from attention_rnn, got {kind(tape)}")


def attention_weights(tape: AttentionRNNTape) -> Array:
    """How much every step of `attention_rnn` attended to what.

    Parameters
    ----------
    tape : AttentionRNNTape
        From `attention_rnn`.

    Returns
    -------
    ndarray, shape (T, B, k + 1), or (T, k + 1), or (B, T, k + 1), as x was given
        Column 0 is the weight of x[t], column i that of h[t-i]. Rows sum to 1, or are 0 past the
        end of a sequence. An infinite window has as many columns as its longest reach, 0 where
        there is nothing.

    Raises
    ------
    TypeError
        If `tape` is none.

    Examples
    --------
    >>> import fastconv as fc
    >>> zero = [[0.0]]  # all scores are 0
    >>> h, tape = fc.attention_rnn([[1.0], [1.0], [1.0]], zero, zero, zero, return_tape=True)
    >>> fc.attention_weights(tape)[:2]
    array([[1. , 0. , 0. ],
           [0.5, 0.5, 0. ]])
    """
    check_tape(tape)
    weights = _infinite_weights(tape) if tape.window is None else tape.a.copy()
    if tape.x.shape[-1] == 0:  # nothing was computed: all scores are 0
        seen = (
            np.arange(len(weights)) + tape.given + 1
            if tape.window is None
            else np.array([tape.window + 1])
        )
        weights[:] = np.where(np.arange(weights.shape[-1]) < seen[:, None], 1 / seen[:, None], 0)[
            :, None
        ]
        weights = clean(weights, tape.lengths)
    return as_given(weights.astype(tape.dtype, copy=False), tape.batch_first, tape.unbatched)


def _infinite_weights(tape: AttentionRNNTape) -> Array:
    T, B, _ = tape.x.shape
    weights = np.zeros((T, B, max(tape.given + T, 1)), tape.x.dtype)
    assert tape.scores is not None and tape.m is not None and tape.z is not None
    for t in range(T):
        seen = tape.given + t
        weights[t, :, 0] = tape.a[t, :, 0]
        past = np.exp(tape.scores[:seen][::-1] - tape.m[t]) / tape.z[t]
        weights[t, :, 1 : seen + 1] = past.T
    return clean(weights, tape.lengths)
