"""Fast convolutions and recurrent layers for NumPy, forward and backward, on the CPU."""

from . import jacobian, reference
from .attention_rnn import (
    AttentionRNNGrads,
    attention_rnn,
    attention_rnn_backward,
    attention_rnn_step,
)
from .attention_tape import AttentionRNNTape, attention_weights
from .clipping import clip_grad_norm
from .conv import (
    ConvGrads,
    conv1d,
    conv1d_backward,
    conv2d,
    conv2d_backward,
    conv3d,
    conv3d_backward,
    conv_output_shape,
)
from .conv_transpose import (
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
from .gradient_flow import GradientFlow, gradient_flow
from .prepared_conv import PreparedConv, prepare_conv
from .threads import get_num_threads, num_threads, set_num_threads, show_config

__version__ = "0.1.0"

__all__ = [
    "AttentionRNNGrads",
    "AttentionRNNTape",
    "ConvGrads",
    "GatedRNNGrads",
    "GatedRNNTape",
    "GradientFlow",
    "PreparedConv",
    "attention_rnn",
    "attention_rnn_backward",
    "attention_rnn_step",
    "attention_weights",
    "clip_grad_norm",
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
    "get_num_threads",
    "gradient_flow",
    "jacobian",
    "num_threads",
    "prepare_conv",
    "reference",
    "set_num_threads",
    "show_config",
]
