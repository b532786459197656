r"""
Output shapes
=============

How many outputs does a convolution have? The question comes before every other, and its answer
has a floor in it that most mistakes come from. This page derives the formula, works through an
image of 11 x 17 pixels and a signal of 7 x 11 numbers, and goes on to padding, dilation, the way
back, and how far a stack of layers sees.
"""

import matplotlib.pyplot as plt
import numpy as np

import fastconv as fc


def agree(a, b):
    """Raise an error unless a and b are the same to 1e-12."""
    np.testing.assert_allclose(a, b, rtol=0, atol=1e-12)


# %%
# One axis
# --------
#
# An axis of :math:`L` cells is padded with zeros, :math:`p_\text{before}` at its beginning and
# :math:`p_\text{after}` at its end. A kernel of :math:`K` taps lies on it, its taps :math:`d`
# cells apart (the *dilation*), so from first to last tap it spans
#
# .. math:: S = d\,(K - 1) + 1
#
# cells. Output 0 has the kernel at the very beginning, output :math:`o` at cell :math:`o\,s`,
# where :math:`s` is the *stride*. The last output is the last for which the kernel still fits:
# :math:`o\,s + S \le L + p_\text{before} + p_\text{after}`. Counting from 0 to that one gives
#
# .. math::
#
#    O = \left\lfloor \frac{L + p_\text{before} + p_\text{after} - d\,(K-1) - 1}{s} \right\rfloor + 1
#
# (V. Dumoulin and F. Visin, `A guide to convolution arithmetic for deep learning
# <https://arxiv.org/abs/1603.07285>`_). Instead of believing it, count:


def count(L, K, stride, padding, dilation):
    """Lay the kernel down at 0, stride, 2 stride, ... as long as it fits."""
    before, after = padding
    outputs = 0
    while outputs * stride + dilation * (K - 1) < L + before + after:
        outputs += 1
    return outputs


rng = np.random.default_rng(0)
for _ in range(300):
    L, K, stride, dilation = rng.integers(1, [30, 6, 5, 4])
    padding = rng.integers(0, 4, 2)
    if L + padding.sum() > dilation * (K - 1):  # at least one output
        shape = fc.conv_output_shape(
            (1, L), (1, 1, K), stride=stride, padding=[tuple(padding)], dilation=dilation
        )
        assert shape == (1, count(L, K, stride, padding, dilation))

# %%
# The image of 11 x 17 pixels
# ---------------------------
#
# A kernel of 5 x 3, stride 2, no padding. Each axis by itself:
#
# .. math::
#
#    \left\lfloor \frac{11 - 4 - 1}{2} \right\rfloor + 1 = 3 + 1 = 4, \qquad
#    \left\lfloor \frac{17 - 2 - 1}{2} \right\rfloor + 1 = 7 + 1 = 8

assert fc.conv_output_shape((1, 11, 17), (1, 1, 5, 3), stride=2) == (1, 4, 8)

image = rng.standard_normal((1, 11, 17))
kernel = rng.standard_normal((1, 1, 5, 3))
y = fc.conv2d(image, kernel, stride=2)
y.shape

# %%
# Here both divisions come out even, so the last kernel ends with the last pixel. With 12 rows
# the result is the same, and the last row is read by nobody:

assert fc.conv_output_shape((1, 12, 17), (1, 1, 5, 3), stride=2) == (1, 4, 8)

# %%
# How often is each pixel read? Let every output and every tap be 1: then the gradient of the
# input, which sums over all outputs that read a pixel, counts them.


def reads(height, width):
    """How many outputs look at each pixel."""
    shape = fc.conv_output_shape((1, height, width), (1, 1, 5, 3), stride=2)
    ones = np.ones((1, 1, 5, 3))
    return fc.conv2d_backward(np.ones(shape), np.zeros((1, height, width)), ones, stride=2).input[0]


by_hand = np.zeros((11, 17))
for row in range(4):
    for column in range(8):
        by_hand[2 * row : 2 * row + 5, 2 * column : 2 * column + 3] += 1
np.testing.assert_array_equal(reads(11, 17), by_hand)

figure, axes = plt.subplots(1, 2, figsize=(8, 3.2), layout="constrained")
for ax, height in zip(axes, (11, 12), strict=True):
    often = reads(height, 17)
    ax.imshow(often, cmap="Blues", vmin=0, vmax=8)
    for (row, column), times in np.ndenumerate(often):
        ax.text(
            column,
            row,
            int(times),
            ha="center",
            va="center",
            fontsize=7,
            color="white" if times > 4 else "black",
        )
    for corner, colour in (((0, 0), "C1"), ((6, 14), "C3")):
        ax.add_patch(
            plt.Rectangle((corner[1] - 0.5, corner[0] - 0.5), 3, 5, fill=False, ec=colour, lw=2)
        )
    ax.set_title(f"{height} x 17: reads of each pixel", fontsize=10)
    ax.set_xticks([]), ax.set_yticks([])
plt.show()

# %%
# The first and the last place of the kernel are framed. On the right the twelfth row is lost to
# the floor: 0 everywhere.
#
# The signal of 7 x 11 numbers
# ----------------------------
#
# Seven channels of eleven cells, one filter of three taps over all seven channels, stride 2:
#
# .. math::
#
#    O = \left\lfloor \frac{11 - 2 - 1}{2} \right\rfloor + 1 = 5, \qquad
#    y_k = \sum_{c=0}^{6} \sum_{m=0}^{2} x_{c,\,2k+m}\, W_{c,m}

x = rng.standard_normal((7, 11))
W = rng.standard_normal((1, 7, 3))
y = fc.conv1d(x, W, stride=2)
assert y.shape == (1, 5)

for k in range(5):
    agree(y[0, k], (x[:, 2 * k : 2 * k + 3] * W[0]).sum())

# %%
# Channels do not slide: the kernel has all seven of them at every place, and the filters alone
# decide how many channels come out. The next page takes this layer apart.
#
# Padding
# -------
#
# ``padding="same"`` asks for :math:`O = \lceil L / s \rceil`. Solved for the padding, with the
# smallest that will do,
#
# .. math:: p_\text{before} + p_\text{after} = \max\bigl((\lceil L/s \rceil - 1)\,s + S - L,\ 0\bigr)
#
# and where that is odd, the odd cell goes after. (Frameworks differ here; this is the rule that
# ONNX calls ``SAME_UPPER``.)

for L in range(1, 20):
    for K in range(1, 6):
        for s in range(1, 4):
            total = max((-(-L // s) - 1) * s + K - L, 0)
            pair = (total // 2, total - total // 2)
            x1, w1 = rng.standard_normal((1, L)), rng.standard_normal((1, 1, K))
            same = fc.conv1d(x1, w1, stride=s, padding="same")
            assert same.shape[1] == -(-L // s)
            agree(same, fc.conv1d(x1, w1, stride=s, padding=[pair]))

# %%
# Padding is zeros that take part in the sum, nothing more: padding by hand gives the same.

agree(fc.conv1d(x, W, padding=[(2, 1)]), fc.conv1d(np.pad(x, ((0, 0), (2, 1))), W))

# %%
# Dilation
# --------
#
# A kernel whose taps lie :math:`d` apart is a larger kernel with zeros between its taps:

W_dilated = np.zeros((1, 7, 5))
W_dilated[:, :, ::2] = W
agree(fc.conv1d(x, W, dilation=2), fc.conv1d(x, W_dilated))

# %%
# The way back
# ------------
#
# A transposed convolution turns the :math:`O` cells of the output into :math:`L` again:
#
# .. math::
#
#    L = (O - 1)\,s - p_\text{before} - p_\text{after} + d\,(K-1) + 1 + e
#
# The floor has mapped up to :math:`s` lengths to the same :math:`O`, so a number must say which of
# them is meant: :math:`e`, in code ``output_padding``, from 0 to :math:`s - 1`.

for L in (11, 12):
    outputs = fc.conv_output_shape((1, L), (1, 1, 3), stride=2)[1]
    x1, w1 = np.ones((1, outputs)), np.ones((1, 1, 3))
    back = fc.conv_transpose1d(x1, w1, stride=2, output_padding=L - 11)
    assert outputs == 5 and back.shape == (1, L)

# %%
# How far a stack sees
# --------------------
#
# One output of the last of several layers depends on a stretch of the input, its *receptive
# field*. Each layer widens it by its span less one, counted in cells of its own input, which are
# as many cells of the first input apart as the strides before multiply to:
#
# .. math:: R = 1 + \sum_i d_i\,(K_i - 1) \prod_{j<i} s_j
#
# Three taps with dilations 1, 2, 4, 8 see 31 cells; without dilation four such layers see 9. The
# gradient of one output with respect to the input shows it: it is zero outside the field.


def field(dilations, L=64):
    """Which inputs reach the output in the middle."""
    w = np.ones((1, 1, 3))
    grad = np.zeros((1, L))
    grad[0, L // 2] = 1
    for d in reversed(dilations):
        here = np.zeros((1, L))  # the layers are linear: where we are does not matter
        grad = fc.conv1d_backward(grad, here, w, padding=d, dilation=d).input
    return grad[0]


assert np.count_nonzero(field([1, 2, 4, 8])) == 1 + 2 * (1 + 2 + 4 + 8) == 31
assert np.count_nonzero(field([1, 1, 1, 1])) == 1 + 2 * 4 == 9

figure, ax = plt.subplots(figsize=(8, 2.4), layout="constrained")
for dilations, colour in (([1, 2, 4, 8], "C0"), ([1, 1, 1, 1], "C1")):
    ways = field(dilations)
    ax.bar(
        np.arange(-32, 32), ways, width=1, color=colour, alpha=0.7, label=f"dilations {dilations}"
    )
ax.set(xlabel="cells away from the output", ylabel="paths to it", yscale="symlog")
ax.legend()
plt.show()

# %%
# The height says how many paths lead from a cell to the output: with doubling dilations exactly
# one, where the field is as wide as so few taps can make it.
