"""The types of _core.pyx. None stands for "not the common case, nothing done"."""

from typing import Any

from numpy.typing import ArrayLike

from .operands import Array

Grads = tuple[Array | None, Array | None, Array | None]

# What all share.
def isa_names() -> tuple[str, ...]: ...
def isa() -> str: ...
def select_isa(name: str) -> None: ...
def get_num_threads() -> int: ...
def set_num_threads(n: int) -> None: ...
def swap_num_threads_here(n: int) -> int: ...
def openmp_runtime() -> str | None: ...
def clear_scratch() -> int: ...

# Convolution.
def conv_forward(
    rank: int,
    input: Any,
    weight: Any,
    bias: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: Any,
    algorithm: Any,
    out: Any,
    packed: Array | None = None,
    /,
) -> Array | None: ...

class PreparedForward:
    def keep(
        self,
        rank: int,
        weight: Array,
        bias: Array | None,
        stride: Any,
        padding: Any,
        dilation: Any,
        groups: int,
        algorithm: str,
        packed: Array | None,
    ) -> None: ...
    def __call__(self, input: ArrayLike, *, out: Array | None = None) -> Array: ...

WAYS: tuple[str, ...]

def conv_way(
    rank: int,
    input_shape: tuple[int, ...] | None,
    weight: Array,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: int,
    algorithm: str,
    which: int = 0,
    prepared: bool = True,
    /,
) -> str: ...
def conv_terms(
    rank: int,
    input_shape: tuple[int, ...] | None,
    weight: Array,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: int,
    which: int,
    prepared: bool,
    /,
) -> dict[str, list[float]]: ...
def force_way(name: str | None) -> None: ...
def pack_weights(
    rank: int,
    weight: Array,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: int,
    algorithm: str,
    /,
) -> Array | None: ...
def conv_backward(
    rank: int,
    grad_output: Any,
    input: Any,
    weight: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: Any,
    output_mask: Any,
    algorithm: Any,
    /,
) -> Grads | None: ...
def conv_transpose_forward(
    rank: int,
    input: Any,
    weight: Any,
    bias: Any,
    stride: Any,
    padding: Any,
    output_padding: Any,
    groups: Any,
    dilation: Any,
    /,
) -> Array | None: ...
def conv_transpose_backward(
    rank: int,
    grad_output: Any,
    input: Any,
    weight: Any,
    stride: Any,
    padding: Any,
    output_padding: Any,
    groups: Any,
    dilation: Any,
    output_mask: Any,
    /,
) -> Grads | None: ...

# AttentionRNN: arrays laid out by attention_rnn.py, results written in place.
def kept_arrays(dtype: Any, shapes: list[tuple[int, ...]]) -> list[Array]: ...
def new_arrays(dtype: Any, shapes: list[tuple[int, ...]]) -> list[Array]: ...
def attention_tape_arrays(x: Array, w_q: Array, window: int | None, given: int) -> list[Array]: ...
def attention_rnn_common(
    x: Any, w_q: Any, w_k: Any, w_v: Any, window: Any, keep_tape: bool
) -> Any: ...
def attention_rnn_backward_common(grad_h: Any, tape: Any) -> tuple[Array, ...] | None: ...
def attention_rnn_forward(*x_weights_h0_h_window_lengths_tape: Any) -> None: ...
def attention_rnn_backward(
    grad: Array, tape: Any, dx: Array, dw_q: Array, dw_k: Array, dw_v: Array
) -> None: ...

# The gated RNN: h, or (h, arrays of the tape); and the seven gradients.
def gated_rnn_forward(*x_weights_h0_biases_lengths_batch_first_keep_tape: Any) -> Any: ...
def gated_rnn_step(*x_t_h_prev_weights_biases: Any) -> Any: ...
def gated_rnn_backward(*grad_h_grad_h_last_tape: Any) -> Any: ...

# exp and sigmoid as the networks compute them, for the tests.
def cell_function(name: str, x: Array) -> Array: ...
