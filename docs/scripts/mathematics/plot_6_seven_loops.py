r"""
From seven loops to a kernel
============================

Every course on convolutional networks begins with seven nested loops. This page goes the way from
there to the kernels of this library: the same numbers at every stop, a time for each, and what
each step gains. (The times are those of the machine that built these pages.)
"""

import time

import matplotlib.pyplot as plt
import numpy as np
from threadpoolctl import threadpool_limits

import fastconv as fc


def agree(a, b):
    """Raise an error unless a and b are the same to 1e-12."""
    np.testing.assert_allclose(a, b, rtol=0, atol=1e-12)


rng = np.random.default_rng(0)
N, C, H, F, K = 1, 8, 16, 8, 3  # images, channels, height = width, filters, taps
x = rng.standard_normal((N, C, H, H))
W = rng.standard_normal((F, C, K, K)) / np.sqrt(C * K * K)

# %%
# 1. Seven loops
# --------------
#
# .. math::
#
#    y_{n,f,i,j} = \sum_{c=0}^{C-1} \sum_{a=0}^{K-1} \sum_{b=0}^{K-1} x_{n,\,c,\,i+a,\,j+b}\; W_{f,c,a,b}
#
# Four loops over what is to be computed, three over what is summed, and one line inside.


def seven_loops(x, W):
    N, C, H, _ = x.shape
    F, _, K, _ = W.shape
    size = H - K + 1
    y = np.zeros((N, F, size, size))
    for n in range(N):
        for f in range(F):
            for i in range(size):
                for j in range(size):
                    for c in range(C):
                        for a in range(K):
                            for b in range(K):
                                y[n, f, i, j] += x[n, c, i + a, j + b] * W[f, c, a, b]
    return y


agree(seven_loops(x, W), fc.conv2d(x, W))

# %%
# This is the definition, and the best test there is. It is slow for a reason that has nothing to
# do with convolution: each multiplication is one, and the interpreter spends about a thousand
# instructions around it, on looking up names, making index tuples and boxing numbers.
#
# 2. Three loops fewer
# --------------------
#
# The three inner loops sum over a block of the image times a filter. NumPy can do that in one call,
# and with one more step all outputs at once: then only the taps are left to loop over, and each
# tap is a whole image shifted by :math:`(a, b)`.


def loops_over_taps(x, W):
    N, _, H, _ = x.shape
    F, _, K, _ = W.shape
    size = H - K + 1
    y = np.zeros((N, F, size, size))
    for a in range(K):
        for b in range(K):
            shifted = x[:, :, a : a + size, b : b + size]
            y += np.einsum("fc,ncij->nfij", W[:, :, a, b], shifted, optimize=True)
    return y


agree(loops_over_taps(x, W), fc.conv2d(x, W))

# %%
# 3. im2col: one matrix product
# -----------------------------
#
# Write the block that each output reads as a column of a matrix: row :math:`(c, a, b)`, column
# :math:`(i, j)`. Then the convolution is one product of the weight, as a matrix of :math:`F` rows,
# with that matrix, and the best-tuned program on any computer does it (K. Chellapilla, S. Puri and
# P. Simard, "High performance convolutional neural networks for document processing", 2006).
#
# .. math:: X_{(c,a,b),(i,j)} = x_{c,\,i+a,\,j+b}, \qquad y = W X


def im2col(x, W):
    N, C, H, _ = x.shape
    F, _, K, _ = W.shape
    size = H - K + 1
    windows = np.lib.stride_tricks.sliding_window_view(x, (K, K), axis=(2, 3))
    X = windows.transpose(0, 1, 4, 5, 2, 3).reshape(N, C * K * K, size**2)  # here it is copied
    return (W.reshape(F, C * K * K) @ X).reshape(N, F, size, size)


agree(im2col(x, W), fc.conv2d(x, W))

# %%
# The price is the matrix: every pixel is written down :math:`K^2` times. For a layer of 64 channels
# on 56 x 56 pixels that is

x_large = rng.standard_normal((1, 64, 56, 56), np.float32)
W_large = rng.standard_normal((64, 64, 3, 3), np.float32) / 24
columns = 64 * 9 * 54 * 54 * 4
print(f"image {x_large.nbytes / 1e6:.1f} MB, columns {columns / 1e6:.1f} MB")

# %%
# and it must be written to memory and read back, all of it, before the first product is done.
#
# 4. A kernel
# -----------
#
# What the library's direct algorithm does differently: it never makes the matrix. Its inner loop is
# a matrix product that finds the rows of its operand through a table of offsets, one for each tap,
# so that it reads them where they lie: stride, dilation and padding are other offsets, not other
# code. A tile of the result stays in the registers of the CPU until all of its products are summed;
# nothing else has to move. Only a few pixels at a time are gathered, into memory that stays in the
# nearest cache.

agree(fc.conv2d(x, W, algorithm="direct"), seven_loops(x, W))

# %%
# 5. Fewer products
# -----------------
#
# At the peak of what the CPU can multiply, only fewer multiplications help. Winograd's algorithm
# computes a tile of 4 x 4 outputs of a 3 x 3 kernel with 36 products in place of 144; what it adds
# are sums before and after. :doc:`/algorithms` has the details.

agree(fc.conv2d(x, W, algorithm="winograd"), seven_loops(x, W))

# %%
# The times
# ---------
#
# First the small layer, float64, on one thread: all five can be waited for.


def seconds(function, *arguments, budget=0.1):
    """The shortest of as many calls as fit the budget, on one thread."""
    best, begin = np.inf, time.perf_counter()
    with threadpool_limits(1):  # of NumPy's BLAS and of fastconv
        while time.perf_counter() - begin < budget:
            start = time.perf_counter()
            function(*arguments)
            best = min(best, time.perf_counter() - start)
    return best


ways = {
    "seven loops": seven_loops,
    "loops over taps": loops_over_taps,
    "im2col": im2col,
    "direct": lambda x, W: fc.conv2d(x, W, algorithm="direct"),
    "winograd": lambda x, W: fc.conv2d(x, W, algorithm="winograd"),
}
products = N * F * C * K * K * (H - K + 1) ** 2
small = {name: seconds(way, x, W) for name, way in ways.items()}
for name, took in small.items():
    print(
        f"{name:16} {1e6 * took:10.1f} us {2e-9 * products / took:9.3f} GFLOP/s"
        f" {small['seven loops'] / took:10.0f} times as fast"
    )

# %%
# Then a layer of a real network, 64 channels of 56 x 56 pixels in float32, where the loops would
# take minutes. Operations are counted as the seven loops need them, two for each product.

products_large = 64 * 64 * 9 * 54 * 54
large = {name: seconds(way, x_large, W_large) for name, way in list(ways.items())[1:]}
for name, took in large.items():
    print(f"{name:16} {1e3 * took:10.2f} ms {2e-9 * products_large / took:9.1f} GFLOP/s")

figure, axes = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
for ax, times, count, title in (
    (axes[0], small, products, "8 channels, 16 x 16, float64"),
    (axes[1], large, products_large, "64 channels, 56 x 56, float32"),
):
    rates = [2e-9 * count / took for took in times.values()]
    bars = ax.barh(list(times), rates, color="C0")
    ax.bar_label(bars, [f"{rate:.3g}" for rate in rates], padding=3)
    ax.set(xscale="log", title=title, xlabel="GFLOP/s")
    ax.set_xlim(min(rates) / 3, max(rates) * 6)
    ax.invert_yaxis()
plt.show()

# %%
# What each step gained
# ---------------------
#
# =========================  =====================================================================
# step                       what it gains
# =========================  =====================================================================
# loops to array operations  the interpreter: one call for thousands of products
# taps to im2col             one large product in place of nine small ones, which a BLAS computes
#                            near the peak; the result is written once and not nine times
# im2col to direct           the matrix of columns: not made, not written, not read back. Where the
#                            BLAS is good and the columns fit the caches that is a fifth or so;
#                            much more for small layers, few filters or large images
# direct to Winograd         up to three quarters of the multiplications
# =========================  =====================================================================
#
# The way back
# ------------
#
# The gradients are the same loops with another left-hand side, and the same steps lead to the same
# kernels: :doc:`plot_2_convolution_jacobian` shows both as matrix products over the same columns.


def seven_loops_back(dy, x, W):
    dx, dW = np.zeros_like(x), np.zeros_like(W)
    for n, f, i, j in np.ndindex(dy.shape):
        for c, a, b in np.ndindex(W.shape[1:]):
            dx[n, c, i + a, j + b] += dy[n, f, i, j] * W[f, c, a, b]
            dW[f, c, a, b] += dy[n, f, i, j] * x[n, c, i + a, j + b]
    return dx, dW


dy = rng.standard_normal((N, F, H - K + 1, H - K + 1))
grads = fc.conv2d_backward(dy, x, W, output_mask=(True, True, False))
dx, dW = seven_loops_back(dy, x, W)
agree(grads.input, dx)
agree(grads.weight, dW)

back = {
    "seven loops": seconds(seven_loops_back, dy, x, W),
    "fastconv": seconds(fc.conv2d_backward, dy, x, W),
}
print(
    f"both gradients: {1e3 * back['seven loops']:.0f} ms by seven loops,"
    f" {1e6 * back['fastconv']:.0f} us by fastconv"
)
