"""
Kernels by hand, on a photograph
================================

You will see what a few numbers, chosen by hand, do to a photograph: find its edges, blur it, and,
spread out by dilation, look at ever more of it at no extra cost.
"""

from itertools import pairwise

import numpy as np
from matplotlib import pyplot as plt
from sklearn.datasets import load_sample_image

import fastconv as fc
from fastconv import plot

plt.style.use(plot.STYLE)

photo = load_sample_image("china.jpg").astype(np.float32).transpose(2, 0, 1) / 255
grey = photo.mean(axis=0, keepdims=True)
print(f"(channels, height, width) = {photo.shape}")


def show(ax, image, title, **options):
    """An image (C, H, W) of one or three channels, without axes."""
    ax.imshow(np.clip(image.transpose(1, 2, 0).squeeze(), 0, 1) if len(image) == 3 else image[0],
              **options)  # fmt: skip
    ax.set_title(title)
    ax.set_axis_off()


# %%
# Edges: a difference across, a mean along
# ----------------------------------------
#
# Sobel's kernel is the difference of the two neighbours, times a small blur in the other direction.
# Two filters make two feature maps in one call: one answers to edges that run upright, the other
# to level ones. Their length, whatever the direction, is the picture of all edges.

sobel = np.outer([1, 2, 1], [-1, 0, 1]).astype(np.float32) / 8
edges = fc.conv2d(grey, np.stack([sobel, sobel.T])[:, None], padding="same")
edges[:, [0, -1]] = edges[:, :, [0, -1]] = 0  # the step from the picture to the zeros around it
strength = np.hypot(*edges)[None]

figure, axes = plt.subplots(2, 2, figsize=(10, 7.2))
show(axes[0, 0], photo, "the photograph")
show(axes[0, 1], edges[:1], "upright edges: brighter to the right is red", cmap="RdBu_r",
     vmin=-0.3, vmax=0.3)  # fmt: skip
show(axes[1, 0], edges[1:], "level edges: brighter below is red", cmap="RdBu_r", vmin=-0.3,
     vmax=0.3)  # fmt: skip
show(axes[1, 1], strength, "all edges: the length of the two", cmap="Greys", vmin=0, vmax=0.3)
figure.suptitle("Two kernels of nine numbers find the roofs, the columns and the railings")

# %%
# Blur: one kernel a channel
# --------------------------
#
# A kernel of ones over their number is a mean. With ``groups=3`` red, green and blue are blurred
# each by itself. The zeros of the padding take part in the sum, so the border gets darker; who
# minds repeats the edge with ``np.pad`` and convolves without padding.


def blur(image, width):
    """The mean over width x width pixels, at full size."""
    weight = np.full((len(image), 1, width, width), 1 / width**2, np.float32)
    half = width // 2
    padded = np.pad(image, ((0, 0), (half, half), (half, half)), mode="edge")
    return fc.conv2d(padded, weight, groups=len(image))


soft = blur(photo, 9)
sharpened = photo + 1.5 * (photo - blur(photo, 3))
detail = (slice(None), slice(60, 220), slice(60, 300))

figure, axes = plt.subplots(1, 3, figsize=(12, 3.2))
show(axes[0], photo[detail], "as it was")
show(axes[1], soft[detail], "blurred: the mean of 9 x 9 pixels")
show(axes[2], sharpened[detail], "sharpened: what a 3 x 3 blur takes away, added")
figure.suptitle("Blur is a mean; a picture less its blur is what is sharp in it")

# %%
# Dilation: the field of view grows, the kernel does not
# ------------------------------------------------------
#
# With dilation d the taps of a kernel stand d pixels apart. A stack of the same 5 x 5 kernel, its
# dilation doubled from layer to layer, sees 5, 13, 29, then 61 pixels across: 25 products a pixel
# and layer, where a kernel of 61 x 61 takes 3,721.
#
# Which pixels an output sees is what the gradient says: the input gradient of a single output,
# taken back through the stack, is not zero there and nowhere else.

b3 = np.array([1, 4, 6, 4, 1], np.float32) / 16  # the B3 spline, a round hill
kernel = np.outer(b3, b3)[None, None]
dilations = [1, 2, 4, 8]

size = 65
fields, seen = [], np.zeros((1, size, size), np.float32)
seen[0, size // 2, size // 2] = 1
for d in dilations:
    seen = fc.conv2d_backward(seen, np.zeros_like(seen), kernel, padding=2 * d, dilation=d,
                              output_mask=(True, False, False)).input  # fmt: skip
    fields.append(seen[0])
widths = [int((field[size // 2] > 0).sum()) for field in fields]
print("pixels across that one output sees:", widths)

layers = [photo]
for d in dilations:
    padded = np.pad(layers[-1], ((0, 0), (2 * d, 2 * d), (2 * d, 2 * d)), mode="reflect")
    layers.append(fc.conv2d(padded, np.repeat(kernel, 3, axis=0), dilation=d, groups=3))

figure, axes = plt.subplots(2, 4, figsize=(12, 5.2), height_ratios=[1.25, 1])
for ax, field, d, width in zip(axes[0], fields, dilations, widths, strict=True):
    ax.imshow(np.where(field > 0, np.sqrt(field / field.max()), np.nan), cmap="viridis")
    ax.set_facecolor("0.88")
    taps = size // 2 + d * np.arange(-2, 3)
    ax.plot(*np.meshgrid(taps, taps), "o", color="w", ms=2.5, mec="0.2", mew=0.4)
    ax.set(title=f"dilation {d}: sees {width} x {width}", xticks=[], yticks=[])
    ax.spines[:].set_visible(False)
for ax, layer in zip(axes[1], layers[1:], strict=True):
    show(ax, layer[detail], "")
axes[0, 0].set_ylabel("field of view\n(dots: the taps)")
figure.suptitle("Four layers of 25 weights: each sees twice as far as the one before")

# %%
# Nothing is lost on the way
# --------------------------
#
# What one layer takes away from the one before is the detail of one size: this is the wavelet
# transform "à trous", with holes; dilated convolution is called atrous after it. The details and
# the last layer add up to the photograph.

details = [before - after for before, after in pairwise(layers)]
rebuilt = sum(details) + layers[-1]
print(f"largest difference to the photograph: {np.abs(rebuilt - photo).max():.1e}")

figure, axes = plt.subplots(1, 5, figsize=(14, 2.6))
for ax, part, d in zip(axes, details, dilations, strict=False):
    show(ax, 0.5 + 3 * part[detail], f"taken away by dilation {d}")
show(axes[-1], layers[-1][detail], "what is left")
figure.suptitle("The photograph, sorted by size: fine lines first, the sky last")

# %%
# The convolution as a matrix
# ---------------------------
#
# A convolution is a linear map, so its Jacobian with respect to the input is the matrix of that
# map: here for a row of 24 pixels and a kernel of three taps. Dilation moves the three diagonals
# apart, a stride leaves out rows.

row, taps = grey[:, 200, :24], np.array([[[-1, 2, -1]]], np.float32)
figure, axes = plt.subplots(1, 3, figsize=(12, 3.6))
for ax, options in zip(axes, ({}, {"dilation": 4}, {"stride": 2}), strict=True):
    matrix = fc.jacobian.conv(row, taps, **options, wrt="input")
    plot.jacobian(matrix, ax=ax)
    name = ", ".join(f"{name} {value}" for name, value in options.items()) or "plain"
    ax.set(title=f"{name}: {matrix.shape[1]} outputs", xlabel="input pixel", ylabel="output")
figure.suptitle("One kernel, three matrices: the same three numbers in every row")

# sphinx_gallery_thumbnail_number = 1
plt.show()
