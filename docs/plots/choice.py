"""Which algorithm prepare_conv takes, over channels and sizes of the image."""

import matplotlib.pyplot as plt
import numpy as np

import fastconv as fc

CHANNELS = [1, 2, 4, 8, 16, 32, 64, 128, 256]
SIDES = [4, 6, 8, 12, 16, 24, 32, 56, 112]

taken = np.empty((len(SIDES), len(CHANNELS)), bool)
for column, channels in enumerate(CHANNELS):
    weight = np.zeros((channels, channels, 3, 3), np.float32)
    for row, side in enumerate(SIDES):
        prepared = fc.prepare_conv(weight, padding=1, input_shape=(channels, side, side))
        taken[row, column] = prepared.algorithm == "winograd"

figure, ax = plt.subplots(figsize=(5, 3.6))
ax.imshow(taken, cmap="Blues", vmin=0, vmax=1.6, origin="lower", aspect="auto")
for (row, column), winograd in np.ndenumerate(taken):
    ax.text(column, row, "W" if winograd else "d", ha="center", va="center", fontsize=8)
ax.set_xticks(range(len(CHANNELS)), CHANNELS)
ax.set_yticks(range(len(SIDES)), SIDES)
ax.set(
    xlabel="channels, and as many filters",
    ylabel="side of the image",
    title="W: winograd, d: direct",
)
