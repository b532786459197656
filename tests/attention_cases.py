"""Problems of AttentionRNN for the tests: operands of every shape, and how to compare."""

from dataclasses import dataclass
from functools import partial

import numpy as np
from tolerance import assert_each_close, assert_each_same

from fastconv import reference


@dataclass(frozen=True)
class Case:
    steps: int
    batch: int
    n: int
    window: int | None
    shared: bool = True
    h0: int | None = None  # how many states it has; None: there is no h0
    lengths: bool = False

    def __str__(self):
        kind = "shared" if self.shared else "separate"
        return f"T{self.steps}-B{self.batch}-n{self.n}-k{self.window}-{kind}-h0.{self.h0}" + (
            "-lengths" if self.lengths else ""
        )


class Problem:
    """The operands of a case, the same every time; the reference computes them in float64."""

    def __init__(self, case, dtype, scale=1.0):
        random = np.random.default_rng([case.steps, case.batch, case.n, case.window or 0])
        T, B, n, k = case.steps, case.batch, case.n, case.window

        def draw(*shape):
            return random.standard_normal(shape).astype(dtype)

        self.x = draw(T, B, n)
        matrices = (n, n) if case.shared else (k + 1, n, n)
        # Weights of norm about 1/2: the map contracts, so rounding errors do not grow.
        self.w = [scale * draw(*matrices) / (4 * max(n, 1) ** 0.5) for _ in range(3)]
        self.w = [w.astype(dtype) for w in self.w]
        self.h0 = None if case.h0 is None else draw(case.h0, B, n)
        self.options = {"window": k}
        if case.lengths:
            self.options["lengths"] = random.integers(0, T + 1, B)
        self.grad_h, self.grad_h_last = draw(T, B, n), draw(B, n)

    def forward(self, library, **more):
        dtype = np.float64 if library is reference else self.x.dtype
        x, *w = (a.astype(dtype, copy=False) for a in (self.x, *self.w))
        h0 = None if self.h0 is None else self.h0.astype(dtype, copy=False)
        return library.attention_rnn(x, *w, h0, **self.options, **more)

    def backward(self, library):
        """h with a tape, the five gradients, the attention weights."""
        h, tape = self.forward(library, return_tape=True)
        grads = library.attention_rnn_backward(self.grad_h, tape, grad_h_last=self.grad_h_last)
        return [h, *grads, library.attention_weights(tape)]


NAMES = ("h", "dx", "dw_q", "dw_k", "dw_v", "dh0", "weights")
assert_results = partial(assert_each_close, names=NAMES, ulps=400)
assert_same_bits = partial(assert_each_same, names=NAMES)
