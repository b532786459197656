"""Which algorithm "auto" is, over channels and sizes of the image."""

import matplotlib.pyplot as plt
import numpy as np

import fastconv as fc

CHANNELS = [4, 8, 12, 16, 32, 64, 128, 256]
SIDES = [4, 5, 6, 7, 8, 12, 16, 32]


def plain(channels, side):
    """The bits tell."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((channels, side, side), np.float32)
    w = rng.standard_normal((channels, channels, 3, 3), np.float32)
    winograd = fc.conv2d(x, w, padding=1, algorithm="winograd")
    return np.array_equal(fc.conv2d(x, w, padding=1), winograd)


def prepared(channels, side):
    w = np.zeros((channels, channels, 3, 3), np.float32)
    layer = fc.prepare_conv(w, padding=1, input_shape=(channels, side, side))
    return layer.algorithm == "winograd"


figure, axes = plt.subplots(1, 2, figsize=(7, 3.4), sharey=True)
for ax, choice in zip(axes, (plain, prepared), strict=True):
    taken = np.array([[choice(channels, side) for channels in CHANNELS] for side in SIDES])
    ax.imshow(taken, cmap="Blues", vmin=0, vmax=2, origin="lower", aspect="auto")
    for (row, column), winograd in np.ndenumerate(taken):
        ax.text(column, row, "W" if winograd else "d", ha="center", va="center", fontsize=8)
    ax.set_xticks(range(len(CHANNELS)), CHANNELS, fontsize=8)
    ax.set_yticks(range(len(SIDES)), SIDES, fontsize=8)
    ax.set_xlabel("channels, and as many filters")
axes[0].set(ylabel="side of the image", title="conv2d: W winograd, d direct")
axes[1].set(title="prepare_conv")
