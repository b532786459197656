"""The largest error of each algorithm, kernel by kernel, against the length of the sum."""

import matplotlib.pyplot as plt
import numpy as np

import fastconv as fc

KERNELS = [(2,), (3,), (4,), (5,), (2, 2), (3, 3), (1, 5), (4, 4), (5, 5), (3, 3, 3)]
CHANNELS = [4, 8, 16, 32, 64, 128, 256, 512]
IMAGES = {1: (64,), 2: (10, 10), 3: (5, 8, 8)}  # cells of each axis
LARGER = [6, 8, 12, 16, 24, 32, 48, 64]  # images for the weight gradient, which sums over pixels


def function(rank, name=""):
    return getattr(fc, f"conv{rank}d{name}"), getattr(fc.reference, f"conv{rank}d{name}")


def error(result, exact):
    """Relative to the largest number."""
    return float(np.abs(result - exact).max() / np.abs(exact).max())


def forward(kernel, channels, dtype, rng):
    """The error of both algorithms, for normal data."""
    ours, reference = function(len(kernel))
    x = rng.standard_normal((channels, *IMAGES[len(kernel)])).astype(dtype)
    w = rng.standard_normal((4, channels, *kernel)).astype(dtype)
    exact = reference(x.astype(np.longdouble), w.astype(np.longdouble))
    return [error(ours(x, w, algorithm=name), exact) for name in ("direct", "winograd")]


def weight_gradient(kernel, size, dtype, rng):
    ours, reference = function(len(kernel), "_backward")
    image = (size * size,) if len(kernel) == 1 else (size,) * 2
    x = rng.standard_normal((8, *image)).astype(dtype)
    w = rng.standard_normal((8, 8, *kernel)).astype(dtype)
    dy = rng.standard_normal((8, *(n - k + 1 for n, k in zip(image, kernel, strict=True))))
    dy, mask = dy.astype(dtype), (False, True, False)
    wide = (a.astype(np.longdouble) for a in (dy, x, w))
    exact = reference(*wide, output_mask=mask).weight
    return [
        error(ours(dy, x, w, output_mask=mask, algorithm=name).weight, exact)
        for name in ("direct", "winograd")
    ]


def panel(ax, sizes, measure, kernels, dtype, rng):
    styles = {1: ":", 2: "-", 3: "--"}
    for index, kernel in enumerate(kernels):
        errors = np.array([measure(kernel, size, dtype, rng) for size in sizes])
        for of_algorithm, colour in zip(errors.T, ("C0", "C1"), strict=True):
            ax.loglog(sizes, of_algorithm, styles[len(kernel)], color=colour, lw=0.9)
            ax.annotate(
                " x ".join(map(str, kernel)), (sizes[-1], of_algorithm[-1]), fontsize=5,
                xytext=(3 + 18 * (index % 3), 0), textcoords="offset points", va="center",
                color=colour,
            )  # fmt: skip
    ax.set_xlim(sizes[0], sizes[-1] * 2.6)
    ax.set_title(f"{np.dtype(dtype).name}", fontsize=9)
    ax.grid(alpha=0.3)


def main():
    rng = np.random.default_rng(0)
    figure, axes = plt.subplots(2, 2, figsize=(8, 7))
    flat = [kernel for kernel in KERNELS if len(kernel) < 3]
    for (left, right), dtype in zip(axes, (np.float32, np.float64), strict=True):
        panel(left, CHANNELS, forward, KERNELS, dtype, rng)
        panel(right, LARGER, weight_gradient, flat, dtype, rng)
        left.set_ylabel("largest error / largest output")
    axes[1, 0].set_xlabel("input channels (forward)")
    axes[1, 1].set_xlabel("side of the image (weight gradient)")
    for name, colour in (("direct", "C0"), ("winograd", "C1")):
        axes[0, 0].plot([], [], color=colour, label=name)
    axes[0, 0].legend(fontsize=8)


main()
