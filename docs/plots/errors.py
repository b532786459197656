"""The largest error of each algorithm, kernel by kernel, against the length of the sum."""

import matplotlib.pyplot as plt
import numpy as np

import fastconv as fc

KERNELS = [(2,), (3,), (4,), (5,), (7,), (1, 5), (2, 2), (3, 3), (4, 4), (5, 5), (7, 7), (3, 3, 3)]
IMAGES = {1: (100,), 2: (10, 10), 3: (4, 7, 7)}  # cells of each axis
ALGORITHMS = {"direct": "C0", "winograd": "C1"}
STYLES = {np.float32: "-", np.float64: ":"}


def forward_error(kernel, channels, dtype, algorithm, rng):
    """Relative to the largest output, in units of eps, for normal data."""
    rank = len(kernel)
    x = rng.standard_normal((channels, *IMAGES[rank])).astype(dtype)
    w = rng.standard_normal((4, channels, *kernel)).astype(dtype)
    exact = getattr(fc.reference, f"conv{rank}d")(*(a.astype(np.longdouble) for a in (x, w)))
    y = getattr(fc, f"conv{rank}d")(x, w, algorithm=algorithm)
    return float(np.abs(y - exact).max() / np.abs(exact).max()) / np.finfo(dtype).eps


def weight_error(kernel, side, dtype, algorithm, rng):
    """The same of the weight gradient, which sums over the outputs."""
    rank = len(kernel)
    outputs = {1: (side * side,), 2: (side, side), 3: (4, side, side // 4)}[rank]
    image = (n + k - 1 for n, k in zip(outputs, kernel, strict=True))
    x = rng.standard_normal((4, *image)).astype(dtype)
    w = np.zeros((4, 4, *kernel), dtype)
    dy = rng.standard_normal((4, *outputs)).astype(dtype)
    mask, wide = (False, True, False), (a.astype(np.longdouble) for a in (dy, x, w))
    exact = getattr(fc.reference, f"conv{rank}d_backward")(*wide, output_mask=mask).weight
    backward = getattr(fc, f"conv{rank}d_backward")
    dw = backward(dy, x, w, output_mask=mask, algorithm=algorithm).weight
    return float(np.abs(dw - exact).max() / np.abs(exact).max()) / np.finfo(dtype).eps


def draw(error, sizes, title, xlabel):
    figure, axes = plt.subplots(4, 3, figsize=(7, 8.5), sharex=True, sharey=True)
    rng = np.random.default_rng(0)
    for ax, kernel in zip(axes.flat, KERNELS, strict=False):
        for dtype, style in STYLES.items():
            for algorithm, colour in ALGORITHMS.items():
                errors = [
                    np.median([error(kernel, size, dtype, algorithm, rng) for _ in range(3)])
                    for size in sizes
                ]
                label = f"{algorithm}, {dtype.__name__}"
                ax.loglog(sizes, errors, style, color=colour, label=label, lw=1.4)
        ax.set_title(" x ".join(map(str, kernel)), fontsize=9)
        ax.set_xticks([sizes[0], sizes[2], sizes[-1]], [sizes[0], sizes[2], sizes[-1]])
        ax.set_xticks([], minor=True)
        ax.grid(alpha=0.3)
    for ax in axes[:, 0]:
        ax.set_ylabel("error in eps")
    figure.supxlabel(xlabel, fontsize=9)
    figure.suptitle(title, fontsize=10)
    for ax in axes.flat[len(KERNELS) :]:
        ax.axis("off")
    for ax in axes[-2, 1:]:  # nothing is drawn below
        ax.tick_params(labelbottom=True)
    axes[-1, -1].legend(*axes[0, 0].get_legend_handles_labels(), fontsize=8, loc="center")


draw(
    forward_error,
    [4, 16, 64, 256, 512],
    "Forward: largest error over largest output",
    "input channels",
)
draw(
    weight_error,
    [8, 16, 32, 48],
    "Weight gradient: largest error over largest gradient",
    "side of an image of as many outputs",
)
