"""Fast convolutions and recurrent layers for NumPy, forward and backward, on the CPU."""

from .threads import get_num_threads, num_threads, set_num_threads, show_config

__version__ = "0.1.0"

__all__ = [
    "get_num_threads",
    "num_threads",
    "set_num_threads",
    "show_config",
]
