"""The equations in plain NumPy, under the same names and signatures as the library's own.

They compute in the dtype of their arguments, one step of the mathematics a line, and are the
oracle of the tests and the base line of the benchmarks. They check little: what a wrong
argument does here is NumPy's affair.
"""

from ..conv import ConvGrads
from .attention_rnn import (
    AttentionRNNGrads,
    attention_rnn,
    attention_rnn_backward,
    attention_rnn_step,
    attention_weights,
)
from .conv import (
    conv1d,
    conv1d_backward,
    conv2d,
    conv2d_backward,
    conv3d,
    conv3d_backward,
    conv_output_shape,
    conv_transpose1d,
    conv_transpose1d_backward,
    conv_transpose2d,
    conv_transpose2d_backward,
    conv_transpose3d,
    conv_transpose3d_backward,
)
from .gated_rnn import (
    GatedRNNGrads,
    GatedRNNTape,
    gated_rnn,
    gated_rnn_backward,
    gated_rnn_step,
)

__all__ = [
    "AttentionRNNGrads",
    "ConvGrads",
    "GatedRNNGrads",
    "GatedRNNTape",
    "attention_rnn",
    "attention_rnn_backward",
    "attention_rnn_step",
    "attention_weights",
    "conv1d",
    "conv1d_backward",
    "conv2d",
    "conv2d_backward",
    "conv3d",
    "conv3d_backward",
    "conv_output_shape",
    "conv_transpose1d",
    "conv_transpose1d_backward",
    "conv_transpose2d",
    "conv_transpose2d_backward",
    "conv_transpose3d",
    "conv_transpose3d_backward",
    "gated_rnn",
    "gated_rnn_backward",
    "gated_rnn_step",
]
