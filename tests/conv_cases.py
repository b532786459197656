"""The geometries that the convolution tests run over, and what the reference says of each."""

import functools
import itertools
import math
from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st

import fastconv as fc
from fastconv import reference

# What contract and documentation allow an algorithm other than "direct": 4e-6 of the largest
# output in float32.
FAST_ALGORITHM_EPS = 4e-6 / np.finfo(np.float32).eps


@dataclass(frozen=True)
class Geometry:
    """A convolution without its numbers; stride, padding and dilation in any form a user has."""

    input: tuple
    weight: tuple
    stride: object = 1
    padding: object = 0
    dilation: object = 1
    groups: int = 1

    @property
    def rank(self):
        return len(self.weight) - 2

    @property
    def output(self):
        return reference.conv_output_shape(
            self.input, self.weight, self.stride, self.padding, self.dilation
        )

    @property
    def settings(self):
        return dict(
            stride=self.stride, padding=self.padding, dilation=self.dilation, groups=self.groups
        )

    def __str__(self):
        text = "x".join(map(str, self.input)) + "_" + "x".join(map(str, self.weight))
        for name, short, usual in (
            ("stride", "s", 1),
            ("padding", "p", 0),
            ("dilation", "d", 1),
            ("groups", "g", 1),
        ):
            if getattr(self, name) != usual:
                text += f"_{short}{getattr(self, name)}".replace(" ", "")
        return text


class Problem:
    """A geometry with numbers in it, and the float64 reference's results for them."""

    def __init__(self, geometry, dtype, seed=0):
        self.geometry = geometry
        random = np.random.default_rng([seed, *geometry.input, *geometry.weight])
        self.x, self.w, self.b, self.dy = (
            random.standard_normal(shape).astype(dtype)
            for shape in (geometry.input, geometry.weight, geometry.weight[:1], geometry.output)
        )

    # Each of these: the expected array, the same sum over absolute values, how many terms it has.

    @functools.cached_property
    def forward(self):
        conv, settings = reference.conv2d, self.geometry.settings
        x, w, b = (a.astype(np.float64) for a in (self.x, self.w, self.b))
        return dict(
            want=conv(x, w, b, **settings),
            magnitude=conv(abs(x), abs(w), abs(b), **settings),
            terms=math.prod(w.shape[1:]) + 1,
            what=f"{self.geometry} forward",
        )

    @functools.cached_property
    def backward(self):
        conv_backward, settings = reference.conv2d_backward, self.geometry.settings
        dy, x, w = (a.astype(np.float64) for a in (self.dy, self.x, self.w))
        want = conv_backward(dy, x, w, **settings)
        magnitude = conv_backward(abs(dy), abs(x), abs(w), **settings)
        outputs = dy.size // len(w)
        terms = len(w) // self.geometry.groups * math.prod(w.shape[2:]), outputs, outputs
        return {
            name: dict(
                want=getattr(want, name),
                magnitude=getattr(magnitude, name),
                terms=t,
                what=f"{self.geometry} gradient of {name}",
            )
            for name, t in zip(want._fields, terms, strict=True)
        }


@functools.cache
def problem(geometry, dtype, operand=None, count=0):
    """The same arrays for every instruction set and thread count: made once, never written.

    `count` elements of `operand` ("x", "w", "b" or "dy") are NaN, infinity or minus infinity.
    """
    made = Problem(geometry, dtype)
    if operand:
        setattr(made, operand, poison(getattr(made, operand), count, seed=geometry.weight[-1]))
    for array in made.x, made.w, made.b, made.dy:
        array.flags.writeable = False
    return made


def poison(array, count, seed):
    """`array` with NaN, inf, -inf in `count` places."""
    random = np.random.default_rng(seed)
    array = array.copy()
    where = random.choice(array.size, min(count, array.size), replace=False)
    array.flat[where] = random.choice([np.nan, np.inf, -np.inf], len(where))
    return array


def function(name, rank):
    """fastconv's function of that name and rank: function("conv{}_backward", 2)."""
    return getattr(fc, name.format(f"{rank}d"))


# Chosen by hand: each is there for the reason beside it.
NAMED = [
    Geometry((1, 1, 1, 1), (1, 1, 1, 1)),  # the smallest
    Geometry((2, 3, 11, 17), (4, 3, 5, 3), 2),  # the lecture's image
    Geometry((1, 7, 11), (1, 7, 3), 2),  # the lecture's signal
    Geometry((7, 11), (5, 7, 3), 2, 1),  # unbatched
    Geometry((3, 9, 8), (4, 3, 3, 3), 1, 1),
    Geometry((2, 3, 5, 6), (4, 1, 2, 3, 2), (1, 2, 1), 1, 1, 2),
    Geometry((0, 3, 5, 5), (4, 3, 3, 3)),  # no images
    Geometry((2, 16, 30, 30), (24, 16, 3, 3), 1, 1),  # enough for two threads
    Geometry((1, 37, 29, 31), (41, 37, 3, 3), 1, 1),  # ragged everything
    Geometry((3, 64, 14, 14), (32, 64, 1, 1)),  # 1x1: one long matrix product
    Geometry((2, 65, 15, 13), (33, 65, 1, 1), 2),
    Geometry((1, 130, 5, 7), (70, 130, 3, 3), 1, 1),  # small image, many channels
    Geometry((1, 8, 7, 7), (8, 8, 3, 3), 1, 1),
    Geometry((1, 3, 40, 40), (16, 3, 7, 7), 2, 3),  # a first layer
    Geometry((2, 1, 28, 28), (8, 1, 3, 3), 1, 1),
    Geometry((1, 16, 20, 20), (16, 16, 3, 3), 1, 12, 12),  # atrous: most taps in the padding
    Geometry((1, 6, 5, 5), (4, 6, 3, 3), 1, 9, 9),  # all but the middle one
    Geometry((1, 4, 6, 6), (3, 4, 3, 3), 1, ((9, 0), (0, 9)), 1),  # outputs wholly in the padding
    Geometry((1, 4, 6, 70), (3, 4, 3, 5), 3, ((7, 2), (70, 1))),
    Geometry((2, 12, 21, 23), (12, 1, 3, 3), 1, 1, 1, 12),  # depthwise
    Geometry((2, 12, 21, 23), (12, 1, 5, 5), 2, 2, 1, 12),
    Geometry((1, 19, 28, 28), (19, 1, 7, 7), 1, 3, 1, 19),
    Geometry((2, 6, 17, 19), (18, 1, 3, 3), 2, 1, 2, 6),  # depthwise with a multiplier
    # Depthwise with lanes over channels: more than one vector of them, and some left over.
    Geometry((2, 18, 15, 14), (18, 1, 3, 3), 2, 1, 1, 18),
    Geometry((1, 33, 7, 7), (33, 1, 5, 4), 1, 2, 1, 33),
    Geometry((1, 17, 40, 150), (17, 1, 3, 3), 1, 1, 1, 17),  # cut along both axes
    Geometry((1, 20, 11, 13), (40, 1, 3, 6), (1, 3), (1, 2), (2, 1), 20),
    Geometry((1, 16, 12, 11), (16, 1, 3, 2), 5, 1, 1, 16),  # more phases than are taken together
    Geometry((1, 32, 300), (32, 1, 70), 1, ((69, 0),), 1, 32),
    Geometry((1, 18, 5, 6, 7), (18, 1, 3, 2, 3), (2, 1, 2), 1, 1, 18),
    Geometry((2, 12, 13, 14), (20, 3, 3, 3), 1, 1, 1, 4),  # groups
    Geometry((1, 34, 9, 9), (34, 17, 3, 3), (2, 1), (1, 0), (1, 2), 2),
    Geometry((2, 8, 33, 35), (8, 8, 3, 3), 3, 1, 2),  # stride and dilation together
    Geometry((2, 8, 33, 35), (8, 8, 2, 2), 4, 1),  # pixels that nobody reads
    Geometry((2, 5, 8, 53), (9, 5, 4, 4), 4),  # as long as its stride; cells are left over
    Geometry((2, 5, 8, 52), (9, 5, 4, 4), 4),  # the same in patches
    Geometry((1, 6, 3, 4, 195), (16, 3, 3, 1, 13), (3, 1, 13), 0, (1, 2, 1), 2),
    Geometry((2, 9, 6, 21), (8, 9, 2, 3), (2, 3)),  # its input gradient alone
    # The kernel covers axes, which are channels or strides to the gradients (conv_plan.c).
    Geometry((2, 6, 11, 40), (8, 3, 11, 1), 1, 0, 1, 2),
    Geometry((3, 16, 5, 5), (20, 16, 5, 5)),
    Geometry((2, 6, 40, 11), (8, 3, 1, 11), 1, 0, 1, 2),
    Geometry((2, 9, 6, 5, 19), (4, 9, 2, 5, 19), (2, 3, 1)),
    Geometry((2, 5, 4, 3, 21), (7, 5, 4, 3, 2), (9, 1, 2)),
    Geometry((1, 4, 6, 30), (8, 1, 6, 3), 1, (0, 1), 1, 4),
    Geometry((2, 12, 7, 7), (12, 1, 7, 7), 1, 0, 1, 12),  # all of them, depthwise (conv_covered.c)
    Geometry((1030, 3, 2, 3), (6, 1, 2, 3), 1, 0, 1, 3),  # more images than one chain adds up
    Geometry((1, 5, 19, 21), (7, 5, 4, 6), (4, 3), ((3, 1), (0, 5)), (2, 3)),
    Geometry((1, 5, 19, 21), (7, 5, 1, 7), 1, "same"),
    Geometry((1, 5, 19, 22), (7, 5, 4, 2), (2, 3), "same", (1, 2)),
    Geometry((1, 5, 19, 21), (7, 5, 7, 1), 1, "valid"),
    Geometry((3, 16, 200), (24, 16, 3), 1, 8, 8),  # one-dimensional
    Geometry((2, 33, 301), (35, 33, 2), 1, ((64, 0),), 64),  # causal
    Geometry((2, 20, 97), (24, 20, 3), 2, 1),
    Geometry((1, 4, 5), (3, 4, 7), 1, 6),  # shorter than its kernel
    Geometry((1, 8, 6, 15, 14), (12, 8, 3, 3, 3), 1, 1),  # three-dimensional
    Geometry((1, 6, 7, 8, 9), (6, 1, 3, 3, 3), (1, 2, 3), ((0, 1), (2, 0), (1, 1)), (2, 1, 1), 6),
    Geometry((2, 4, 4, 5, 6), (6, 2, 1, 2, 3), (2, 1, 2), 1, 1, 2),
]

# So many weights that panels are wide (conv_panels.c); in the second a panel has a run a pixel.
HEAVY = [
    Geometry((1, 300, 9, 9), (310, 300, 3, 3), 1, 1),
    Geometry((1, 320, 170, 1), (512, 320, 5, 1), 1, (2, 0)),
]

# So much padding that axes are cut into segments with fewer taps each (conv_segments.c).
PADDED = [
    Geometry((1, 40, 33, 26), (32, 40, 3, 3), 1, 12, 12),  # every tap has its own segments
    Geometry((2, 24, 20, 21), (24, 12, 3, 2), (1, 2), ((18, 0), (3, 20)), (9, 13), 2),
    Geometry((1, 30, 31, 30), (20, 30, 5, 3), 2, 12, 6),  # five taps; the gradient has phases
    Geometry((1, 40, 18, 17), (40, 40, 3, 3), 1, ((40, 0), (0, 31)), 9),  # outputs without a tap
    Geometry((2, 48, 230), (40, 48, 2), 1, ((200, 0),), 200),  # causal
    Geometry((1, 16, 260), (24, 16, 40), 1, 117, 6),  # more places to cut than cuts
    Geometry((1, 12, 9, 16, 15), (20, 12, 2, 3, 3), 1, (3, 6, 5), (4, 6, 5)),
]
NAMED += PADDED

# Depthwise, one long axis: the Toeplitz form takes over somewhere among these.
LONG = [
    Geometry((2, 3, 200), (3, 1, 31), 1, 15, 1, 3),
    Geometry((1, 5, 150), (5, 1, 32), 1, 0, 1, 5),
    Geometry((2, 4, 333), (4, 1, 63), 1, ((62, 0),), 1, 4),
    Geometry((1, 2, 501), (4, 1, 64), 1, 20, 1, 2),
    Geometry((1, 3, 700), (3, 1, 100), 2, 50, 1, 3),
    Geometry((1, 3, 700), (3, 1, 65), 1, 64, 3, 3),
    Geometry((2, 2, 1000), (2, 1, 255), 1, ((254, 3),), 1, 2),
    Geometry((1, 2, 49), (2, 1, 48), 1, 47, 1, 2),
    Geometry((1, 2, 40), (2, 1, 96), 1, 95, 1, 2),  # kernel longer than the signal
    Geometry((1, 1, 1500), (1, 1, 700), 1, 350),
    Geometry((1, 1, 1700), (1, 1, 257), 2),  # each phase of its input gradient is a long line
    Geometry((1, 4, 400), (6, 2, 128), 1, 127, 1, 2),  # groups of two channels
    Geometry((1, 3, 9, 150), (3, 1, 1, 40), 1, (0, 39), 1, 3),  # a long row of an image
    Geometry((1, 3, 4, 90), (3, 1, 3, 33), 1, (1, 16), 1, 3),
]


def combinations(rank):
    """Every kernel x stride x dilation x padding, channels taking turns."""
    channels = itertools.cycle([(1, 1, 1), (3, 5, 1), (16, 9, 1), (4, 4, 4), (2, 6, 2), (5, 17, 1)])
    kernels = {
        1: [(1,), (2,), (3,), (5,), (7,)],
        2: [(1, 1), (3, 3), (2, 4), (1, 7), (5, 1)],
        3: [(1, 1, 1), (3, 3, 3), (2, 1, 3)],
    }[rank]
    length = {1: (29,), 2: (11, 18), 3: (5, 6, 9)}[rank]
    for kernel, stride, dilation, padding in itertools.product(
        kernels, (1, 2, 3, 4), (1, 2, 3, 12), (0, 1, (2, 0), (0, 5))
    ):
        c, f, groups = next(channels)
        pads = padding if isinstance(padding, int) else (padding,) * rank
        geometry = Geometry(
            (2, c, *length), (f, c // groups, *kernel), stride, pads, dilation, groups
        )
        if min(geometry.output[2:]) > 0:
            yield geometry


@st.composite
def geometries(draw, largest=24):
    """Anything legal, small enough to be quick."""
    rank = draw(st.sampled_from([1, 1, 2, 2, 2, 3]))
    groups = draw(st.sampled_from([1, 1, 2, 3, 7]))
    depthwise = draw(st.booleans())
    c = groups * (1 if depthwise else draw(st.integers(1, 20 // groups)))
    f = groups * draw(st.integers(1, 1 + 20 // groups))
    lengths, kernel, stride, dilation, padding = [], [], [], [], []
    for _ in range(rank):
        length = draw(st.integers(1, largest if rank < 3 else 8))
        s, d, k = (draw(st.integers(1, top)) for top in (4, 12, 7))
        before, after = draw(st.integers(0, 14)), draw(st.integers(0, 14))
        while length + before + after < d * (k - 1) + 1:
            if d > 1:
                d = 1
            else:
                k = length + before + after
        lengths.append(length)
        kernel.append(k)
        stride.append(s)
        dilation.append(d)
        padding.append((before, after))
    batch = draw(st.integers(1, 3))
    return Geometry(
        (batch, c, *lengths),
        (f, c // groups, *kernel),
        tuple(stride),
        tuple(padding),
        tuple(dilation),
        groups,
    )
