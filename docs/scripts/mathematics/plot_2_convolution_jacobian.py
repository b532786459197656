r"""
A convolution's Jacobians
=========================

The layer of the last page, a signal of 7 channels by 11 cells under one filter of 3 taps with
stride 2, is small enough to write down every derivative there is. Here they are as tensors and as
pictures. The gradient of a loss is their contraction with the gradient of the output; a backward
pass computes that contraction and never the tensors.
"""

import matplotlib.pyplot as plt
import numpy as np

import fastconv as fc


def agree(a, b):
    """Raise an error unless a and b are the same to 1e-12."""
    np.testing.assert_allclose(a, b, rtol=0, atol=1e-12)


rng = np.random.default_rng(0)
x = rng.standard_normal((7, 11))
W = rng.standard_normal((1, 7, 3))
y = fc.conv1d(x, W, stride=2)

# %%
# With :math:`f` for the filter, of which there is only one, the layer is
#
# .. math:: y_{f,k} = \sum_{c=0}^{6} \sum_{m=0}^{2} x_{c,\,2k+m}\, W_{f,c,m}, \qquad k = 0 \dots 4
#
# With respect to the weight
# --------------------------
#
# The sum is linear in :math:`W`, and what stands beside a weight is its derivative:
#
# .. math:: \frac{\partial y_{f,k}}{\partial W_{f',c,m}} = \delta_{ff'}\, x_{c,\,2k+m}
#
# Five outputs by 21 weights; the weight of one filter does not move the output of another.

dy_dW = np.zeros((1, 5, 1, 7, 3))
for k in range(5):
    for c in range(7):
        for m in range(3):
            dy_dW[0, k, 0, c, m] = x[c, 2 * k + m]
agree(fc.jacobian.conv(x, W, stride=2, wrt="weight"), dy_dW)

# %%
# With respect to the input
# -------------------------
#
# Input :math:`x_{c,p}` meets output :math:`k` through tap :math:`m = p - 2k`, if there is one:
#
# .. math::
#
#    \frac{\partial y_{f,k}}{\partial x_{c,p}} =
#    \begin{cases} W_{f,c,\,p-2k} & 0 \le p - 2k < 3 \\ 0 & \text{otherwise} \end{cases}

dy_dx = np.zeros((1, 5, 7, 11))
for k in range(5):
    for c in range(7):
        for p in range(11):
            if 0 <= p - 2 * k < 3:
                dy_dx[0, k, c, p] = W[0, c, p - 2 * k]
agree(fc.jacobian.conv(x, W, stride=2, wrt="input"), dy_dx)

# %%
# Both as matrices, one row for each output. Empty squares are exactly zero.


def show(ax, matrix, blocks, title, xlabel):
    """Entries as colours, zeros left white, a line between the blocks of columns."""
    limit = np.abs(matrix).max()
    ax.imshow(
        np.where(matrix == 0, np.nan, matrix),
        cmap="RdBu_r",
        vmin=-limit,
        vmax=limit,
        aspect="auto",
        interpolation="none",
    )
    for edge in range(blocks, matrix.shape[1], blocks):
        ax.axvline(edge - 0.5, color="0.6", lw=0.8)
    ax.set_title(title, fontsize=10)
    ax.set(xlabel=xlabel, ylabel="output k", yticks=range(5), xticks=[])


figure, (above, below) = plt.subplots(2, 1, figsize=(8, 4.6), layout="constrained")
show(
    above,
    dy_dW[0, :, 0].reshape(5, 21),
    3,
    "dy/dW: the pieces of x that each output reads",
    "weight: 3 taps in each of 7 channels",
)
show(
    below,
    dy_dx[0].reshape(5, 77),
    11,
    "dy/dx: the filter, two cells further in each row",
    "input: 11 cells in each of 7 channels",
)
plt.show()

# %%
# The upper matrix is full, and *contains the input*. The lower one is three-diagonal in each
# channel, and *contains the weight*: the same 21 numbers in every row, shifted by the stride. That
# every output shares them is what makes the layer a convolution; a dense layer of this size would
# have 385 weights.
#
# The layer is linear in either, so each Jacobian, applied, is the layer itself:

agree(np.einsum("fkgcm,gcm->fk", dy_dW, W), y)
agree(np.einsum("fkcp,cp->fk", dy_dx, x), y)

# %%
# The gradient of a loss
# ----------------------
#
# A loss :math:`l` further up has handed down :math:`\partial l / \partial y`. The chain rule sums
# over all outputs:
#
# .. math::
#
#    \frac{\partial l}{\partial W_{f,c,m}} = \sum_{f',k} \frac{\partial l}{\partial y_{f',k}}
#    \frac{\partial y_{f',k}}{\partial W_{f,c,m}}, \qquad
#    \frac{\partial l}{\partial x_{c,p}} = \sum_{f,k} \frac{\partial l}{\partial y_{f,k}}
#    \frac{\partial y_{f,k}}{\partial x_{c,p}}

dl_dy = rng.standard_normal(y.shape)
grads = fc.conv1d_backward(dl_dy, x, W, stride=2)
agree(grads.weight, np.einsum("fk,fkgcm->gcm", dl_dy, dy_dW))
agree(grads.input, np.einsum("fk,fkcp->cp", dl_dy, dy_dx))

# %%
# A bias is added to every output of its filter, so its gradient is the sum over them:

agree(grads.bias, dl_dy.sum(axis=1))

# %%
# Put the tensors' formulas in, and the tensors are gone. What remains are two sums of products
# over the same pairs of cells and taps as in the forward pass:
#
# .. math::
#
#    \frac{\partial l}{\partial W_{f,c,m}} = \sum_{k} \frac{\partial l}{\partial y_{f,k}}\, x_{c,\,2k+m},
#    \qquad
#    \frac{\partial l}{\partial x_{c,p}} = \sum_{f} \sum_{\substack{k,m\\ 2k+m=p}}
#    \frac{\partial l}{\partial y_{f,k}}\, W_{f,c,m}

dW, dx = np.zeros_like(W), np.zeros_like(x)
for k in range(5):
    for m in range(3):
        dW[:, :, m] += np.outer(dl_dy[:, k], x[:, 2 * k + m])
        dx[:, 2 * k + m] += W[:, :, m].T @ dl_dy[:, k]
agree(grads.weight, dW)
agree(grads.input, dx)

# %%
# What forward and backward share
# -------------------------------
#
# Write the pieces that the outputs read as the columns of a matrix,
# :math:`X_{(c,m),k} = x_{c,\,2k+m}`, 21 x 5, and the weight as a matrix of one row and 21 columns.
# Then all three are matrix products of these:
#
# .. math::
#
#    y = W X, \qquad \frac{\partial l}{\partial W} = \frac{\partial l}{\partial y} X^T, \qquad
#    \frac{\partial l}{\partial X} = W^T \frac{\partial l}{\partial y}
#
# and the last is added up, each entry at the cell that it was read from.

X = np.lib.stride_tricks.sliding_window_view(x, 3, axis=1)[:, ::2]  # (c, k, m)
X = X.transpose(0, 2, 1).reshape(21, 5)
agree(W.reshape(1, 21) @ X, y)
agree((dl_dy @ X.T).reshape(W.shape), grads.weight)

dX = (W.reshape(1, 21).T @ dl_dy).reshape(7, 3, 5)
dx = np.zeros_like(x)
for m in range(3):
    dx[:, m : m + 9 : 2] += dX[:, m]
agree(dx, grads.input)

# %%
# Each of the three multiplies 21 x 5 pairs of numbers. So the backward pass costs twice the
# forward pass, and training a layer three times running it.
#
# They share more than the count. The way from :math:`\partial l/\partial y` to
# :math:`\partial l/\partial x` is the transpose of the linear map that the forward pass is, for
# which there is a test without any formula: :math:`\langle u, A v \rangle = \langle A^T u, v \rangle`.

v = rng.standard_normal(x.shape)
agree((dl_dy * fc.conv1d(v, W, stride=2)).sum(), (grads.input * v).sum())

# %%
# It is also a layer of its own right, the *transposed convolution*, which lays a copy of the
# kernel down for each of its inputs:

agree(fc.conv_transpose1d(dl_dy, W, stride=2), grads.input)

# %%
# With stride 1 it is again an ordinary convolution, with the kernel turned around and the roles
# of filters and channels exchanged, over the padded gradient. With stride 2 the even and the odd
# cells of the input see different taps: two convolutions with stride 1, one for each *phase*, whose
# results are interleaved. (This is how the library computes it.)

dl_dy1 = rng.standard_normal((1, 9))
turned = W.transpose(1, 0, 2)[:, :, ::-1]
agree(fc.conv1d_backward(dl_dy1, x, W).input, fc.conv1d(dl_dy1, turned, padding=2))

phases = np.empty_like(x)
phases[:, 0::2] = fc.conv1d(dl_dy, turned[:, :, ::2], padding=1)  # cells 0, 2, ..: taps 0 and 2
phases[:, 1::2] = fc.conv1d(dl_dy, turned[:, :, 1::2])  # cells 1, 3, ..: tap 1 alone
agree(phases, grads.input)

# %%
# The same for any layer
# ----------------------
#
# `jacobian.conv` takes two- and three-dimensional images, padding, dilation and groups too. The
# contraction holds for all of them; it is how the gradients of this library are tested.

image, weight = rng.standard_normal((4, 6, 7)), rng.standard_normal((6, 2, 3, 2))
layer = {"stride": (2, 1), "padding": ((1, 0), (2, 1)), "dilation": (1, 2), "groups": 2}
dl_dy2 = rng.standard_normal(fc.conv2d(image, weight, **layer).shape)
grads = fc.conv2d_backward(dl_dy2, image, weight, **layer)
agree(grads.weight, np.tensordot(dl_dy2, fc.jacobian.conv(image, weight, **layer), 3))
agree(grads.input, np.tensordot(dl_dy2, fc.jacobian.conv(image, weight, **layer, wrt="input"), 3))
