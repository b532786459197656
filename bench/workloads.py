"""What is measured: named rows, each with its operands and the operations they cost.

A row has a `kind` (which function of peers.py knows how to call it), `passes`, `operands(dtype)`,
the last of which is the gradient of the result and as large as that, `flops(pass)` and
`traffic(pass, itemsize)`. Operations are counted as the plain sum of products would need them,
taps in the padding included, whatever an algorithm saves.
"""

import math
import zlib
from dataclasses import dataclass
from typing import ClassVar

import numpy as np


class Row:
    def traffic(self, which, itemsize):
        """Bytes that every algorithm must read and write: operands and results, once."""
        *given, result = (itemsize * math.prod(shape) for shape in self.shapes)
        if which in ("forward", "prepared"):
            return sum(given), result
        return sum(given) + result, sum(given)


@dataclass(frozen=True)
class Conv(Row):
    """One convolution: y = W x, or the gradients of x and W from dy. No bias.

    "prepared" is the forward pass with whatever depends on the weight alone done beforehand.
    """

    name: str
    input: tuple[int, ...]  # (N, C, *spatial)
    weight: tuple[int, ...]  # (F, C / groups, *kernel)
    stride: int = 1
    padding: int = 0
    dilation: int = 1
    groups: int = 1

    kind: ClassVar[str] = "conv"
    passes: ClassVar[tuple[str, ...]] = ("forward", "prepared", "backward")

    @property
    def rank(self):
        return len(self.weight) - 2

    @property
    def output(self):
        return (
            self.input[0],
            self.weight[0],
            *(
                (n + 2 * self.padding - self.dilation * (k - 1) - 1) // self.stride + 1
                for n, k in zip(self.input[2:], self.weight[2:], strict=True)
            ),
        )

    @property
    def shapes(self):
        return self.input, self.weight, self.output

    def operands(self, dtype):
        """x, w, dy: the same numbers in every process."""
        random = np.random.default_rng(zlib.crc32(self.name.encode()))
        return [random.standard_normal(shape).astype(dtype) for shape in self.shapes]

    def flops(self, which):
        once = 2 * math.prod(self.output) * math.prod(self.weight[1:])
        return 2 * once if which == "backward" else once


@dataclass(frozen=True)
class AttentionRNN(Row):
    """A whole sequence: h, or the gradients of x, w_q, w_k, w_v from that of every h, the
    forward pass included.

    Operations are those of the equations' shortest form: of each state's four products (value,
    its gradient, its weights' gradient, and the symmetric matrix of its score) one and a half
    forward and four and a half with BPTT. Shared matrices meet two states a step, x[t] and
    h[t-1], whatever the window is.
    """

    name: str
    steps: int
    batch: int
    n: int
    window: int | None
    shared: bool = False

    kind: ClassVar[str] = "attention_rnn"
    passes: ClassVar[tuple[str, ...]] = ("forward", "bptt")

    @property
    def shapes(self):
        sequence = (self.steps, self.batch, self.n)
        matrices = (self.n, self.n) if self.shared else (self.window + 1, self.n, self.n)
        return sequence, matrices, matrices, matrices, sequence

    def operands(self, dtype):
        """x, w_q, w_k, w_v, grad_h"""
        random = np.random.default_rng(zlib.crc32(self.name.encode()))
        operands = [random.standard_normal(shape) for shape in self.shapes]
        for w in operands[1:4]:
            w /= 2 * self.n**0.5
        return [operand.astype(dtype) for operand in operands]

    def flops(self, which):
        states = self.steps * self.batch * (2 if self.shared else self.window + 1)
        return 2 * self.n**2 * states * (1.5 if which == "forward" else 4.5)


@dataclass(frozen=True)
class GatedRNN(Row):
    """A whole sequence: h, or the gradients of x, w_c, w_h, w_x from that of every h, the forward
    pass included: three times its operations."""

    name: str
    steps: int
    batch: int
    n: int
    m: int

    kind: ClassVar[str] = "gated_rnn"
    passes: ClassVar[tuple[str, ...]] = ("forward", "bptt")

    @property
    def shapes(self):
        T, B, n, m = self.steps, self.batch, self.n, self.m
        return (T, B, n), (m, n), (m, m), (m, n), (T, B, m)

    def operands(self, dtype):
        """x, w_c, w_h, w_x, grad_h"""
        random = np.random.default_rng(zlib.crc32(self.name.encode()))
        operands = [random.standard_normal(shape) for shape in self.shapes]
        for w in operands[1:4]:
            w /= w.shape[1] ** 0.5
        return [operand.astype(dtype) for operand in operands]

    def flops(self, which):
        once = 2 * self.steps * self.batch * self.m * (2 * self.n + self.m)
        return once if which == "forward" else 3 * once


# fmt: off
CONV = [
    # name                        input              weight               stride, padding, ...
    Conv("resnet.conv1",         (1, 3, 224, 224),   (64, 3, 7, 7),       2, 3),
    Conv("resnet.l1.3x3",        (1, 64, 56, 56),    (64, 64, 3, 3),      1, 1),
    Conv("resnet.l2.3x3",        (1, 128, 28, 28),   (128, 128, 3, 3),    1, 1),
    Conv("resnet.l3.3x3",        (1, 256, 14, 14),   (256, 256, 3, 3),    1, 1),
    Conv("resnet.l4.3x3",        (1, 512, 7, 7),     (512, 512, 3, 3),    1, 1),
    Conv("resnet.l1.3x3.b8",     (8, 64, 56, 56),    (64, 64, 3, 3),      1, 1),
    Conv("resnet.l3.3x3.b8",     (8, 256, 14, 14),   (256, 256, 3, 3),    1, 1),
    Conv("resnet.1x1.expand",    (1, 64, 56, 56),    (256, 64, 1, 1)),
    Conv("resnet.1x1.reduce",    (1, 1024, 14, 14),  (256, 1024, 1, 1)),
    Conv("resnet.1x1.s2",        (1, 256, 56, 56),   (512, 256, 1, 1),    2),
    Conv("deeplab.atrous12",     (1, 512, 33, 33),   (256, 512, 3, 3),    1, 12, 12),
    Conv("dilated2",             (4, 64, 32, 32),    (64, 64, 3, 3),      1, 2, 2),
    Conv("strided2.dilated2",    (4, 64, 32, 32),    (64, 64, 3, 3),      2, 2, 2),
    Conv("mobilenet.dw3x3",      (1, 192, 28, 28),   (192, 1, 3, 3),      1, 1, 1, 192),
    Conv("mobilenet.dw3x3.s2",   (1, 144, 56, 56),   (144, 1, 3, 3),      2, 1, 1, 144),
    Conv("convnext.dw7x7",       (1, 192, 28, 28),   (192, 1, 7, 7),      1, 3, 1, 192),
    Conv("digits.small",         (64, 1, 28, 28),    (8, 1, 3, 3),        1, 1),
    Conv("tcn.d8",               (8, 64, 1024),      (64, 64, 3),         1, 8, 8),
    Conv("wavenet.d64",          (1, 128, 16000),    (256, 128, 2),       1, 0, 64),
    Conv("whisper.stem.s2",      (1, 384, 3000),     (384, 384, 3),       2, 1),
    Conv("longconv.k512",        (4, 64, 8192),      (64, 1, 512),        1, 511, 1, 64),
    Conv("c3d.3x3x3",            (1, 64, 8, 28, 28), (128, 64, 3, 3, 3),  1, 1),
    Conv("seed.1d",              (1, 7, 11),         (1, 7, 3),           2),
]

ATTENTION_RNN = [
    # name                        T    B   n    k
    AttentionRNN("k2.b1",        100,  1,  64,  2),
    AttentionRNN("k2.b32",       100,  32, 64,  2),
    AttentionRNN("k8.b32",       200,  32, 256, 8),
    AttentionRNN("k8.shared",    200,  32, 256, 8,    True),
    AttentionRNN("inf.b1",       1000, 1,  64,  None, True),
    AttentionRNN("inf.b32",      500,  32, 128, None, True),
]

GATED_RNN = [
    # name                 T     B   n    m
    GatedRNN("stream.64",  100,  1,  64,  64),
    GatedRNN("small.b32",  100,  32, 64,  64),
    GatedRNN("mid.b32",    100,  32, 256, 256),
    GatedRNN("long.b1",    1000, 1,  256, 256),
    GatedRNN("large.b16",  200,  16, 512, 512),
    GatedRNN("xl.b64",     100,  64, 128, 1024),
]
# fmt: on

ROWS = {row.name: row for row in [*CONV, *ATTENTION_RNN, *GATED_RNN]}


def own_row(text):
    """The convolution that "1x37x29x31:37x37x3x3:1:1" writes out: input, weight, then stride,
    padding, dilation and groups as far as they are not the usual."""
    input, weight, *settings = (tuple(int(n) for n in part.split("x")) for part in text.split(":"))
    return Conv(text, input, weight, *(setting for (setting,) in settings))
