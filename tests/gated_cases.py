"""Problems of the gated RNN for the tests: operands of every shape, and how to compare."""

from dataclasses import dataclass
from functools import partial

import numpy as np
from tolerance import assert_each_close, assert_each_same

from fastconv import reference

NAMES = ("h", "dx", "dw_c", "dw_h", "dw_x", "dh0", "db_c", "db_x")


@dataclass(frozen=True)
class Case:
    steps: int
    batch: int
    n: int
    m: int
    h0: bool = True
    biases: bool = True
    lengths: bool = False

    def __str__(self):
        size = f"T{self.steps}-B{self.batch}-n{self.n}-m{self.m}"
        return size + "".join(
            f"-{name}" for name in ("h0", "biases", "lengths") if getattr(self, name)
        )


class Problem:
    """The operands of a case, the same every time; the reference computes them in float64."""

    def __init__(self, case, dtype):
        random = np.random.default_rng([case.steps, case.batch, case.n, case.m])
        T, B, n, m = case.steps, case.batch, case.n, case.m

        def draw(*shape):
            return random.standard_normal(shape).astype(dtype)

        self.x, self.h0 = draw(T, B, n), draw(B, m) if case.h0 else None
        # Products of the size of 1: neither open nor shut gates, and states that stay small.
        self.w = [
            (draw(m, k) / max(k, 1) ** 0.5).astype(dtype)
            for k in (n, m, n)  # w_c, w_h, w_x
        ]
        self.options = dict(b_c=draw(m), b_x=draw(m)) if case.biases else {}
        if case.lengths:
            self.options["lengths"] = random.integers(0, T + 1, B)
        self.grad_h, self.grad_h_last = draw(T, B, m), draw(B, m)

    def forward(self, library, **more):
        dtype = np.float64 if library is reference else self.x.dtype
        operands = (a if a is None else a.astype(dtype) for a in (self.x, *self.w, self.h0))
        return library.gated_rnn(*operands, **self.options, **more)

    def backward(self, library):
        """h, from a call with a tape, and the seven gradients."""
        h, tape = self.forward(library, return_tape=True)
        grads = library.gated_rnn_backward(self.grad_h, tape, grad_h_last=self.grad_h_last)
        return [h, *grads]


assert_results = partial(assert_each_close, names=NAMES, ulps=50)
assert_same_bits = partial(assert_each_same, names=NAMES)
