"""
Handwritten digits
==================

You will see a small convolutional network learn to read handwritten digits: its filters, what they
make of a digit on the way to the answer, which digits it takes for which, and every one that it
gets wrong.
"""

import numpy as np
from digits import Network, cross_entropy, load_digits, train
from matplotlib import pyplot as plt

import fastconv as fc
from fastconv import plot

plt.style.use(plot.STYLE)
fc.set_num_threads(1)  # short calls: a second thread gains little

EPOCHS = 30

# %%
# Learning
# --------
#
# scikit-learn ships 1,797 digits of 8 x 8 pixels; a fifth of them is held out. The network of
# ``digits.py`` is four convolutions. The last kernel is as large as the image that reaches it, so
# it has ten outputs of one pixel each: the scores.

rng = np.random.default_rng(0)
data, (images, labels) = load_digits(rng)
network = Network(rng)
history = train(network, data, (images, labels), EPOCHS, rng)
probabilities = network.predict(images)
guesses = probabilities.argmax(axis=1)
right = float((guesses == labels).mean())
print(f"{right:.2%} of {len(labels)} held-out digits right")

figure, ax = plt.subplots(figsize=(8, 3.6))
plot.loss_curve(history.loss, smoothing=10, classes=10, label="training", ax=ax)
ends = history.steps_per_epoch * np.arange(1, EPOCHS + 1)
ax.plot(ends, history.held_out_loss, "o-", color="C1", ms=3, lw=1, label="held out, each epoch")
ax.set_yscale("log")
ax.legend()
ax.set_title(f"{right:.1%} of the held-out digits right after {EPOCHS} epochs, loss "
             f"{cross_entropy(probabilities, labels):.3f}")  # fmt: skip

# %%
# Filters
# -------
#
# The first layer has 16 filters of 3 x 3 weights. They were noise; now many are strokes and edges
# of a certain direction, bright where red and dark where blue.

filters = network.layers[0].weight[:, 0]
top = np.abs(filters).max()
figure, axes = plt.subplots(2, 8, figsize=(9, 2.7))
for ax, weight in zip(axes.flat, filters, strict=True):
    image = ax.imshow(weight, cmap="RdBu_r", vmin=-top, vmax=top)
    ax.set_axis_off()
figure.colorbar(image, ax=axes, label="weight")
figure.suptitle("The 16 filters of the first layer look for strokes and edges")

# %%
# Feature maps
# ------------
#
# What the layers make of one digit. From left to right the image gets smaller and the maps become
# more: from where something is towards what it is. The scores at the end are the logarithms of the
# probabilities but for a constant.

shown = int(np.flatnonzero((labels == 3) & (guesses == 3))[0])
states = network.forward(images[shown : shown + 1])


def tiled(maps, columns):
    """Maps (C, H, W) side by side, with a gap between them."""
    padded = np.pad(maps, ((0, 0), (0, 1), (0, 1)), constant_values=np.nan)
    rows = padded.reshape(-1, columns, *padded.shape[1:])
    return rows.transpose(0, 2, 1, 3).reshape(rows.shape[0] * rows.shape[2], -1)[:-1, :-1]


figure, axes = plt.subplots(1, 5, figsize=(13, 3.4), width_ratios=[1, 1.4, 2.2, 1.4, 1.3])
axes[0].imshow(images[shown, 0], cmap="gray_r")
axes[0].set_title("the digit")
for i, (ax, maps, columns) in enumerate(zip(axes[1:4], states[1:4], (4, 8, 8), strict=True), 1):
    _, channels, height, width = maps.shape
    ax.imshow(tiled(maps[0], columns), cmap="viridis")
    ax.set_title(f"layer {i}: {channels} maps, {height} x {width}")
for ax in axes[:4]:
    ax.set_axis_off()
scores = states[4][0, :, 0, 0]
axes[4].barh(range(10), scores, color=["C1" if i == guesses[shown] else "C0" for i in range(10)])
axes[4].set(yticks=range(10), xlabel="score", title=f"layer 4: it is a {guesses[shown]}")
axes[4].invert_yaxis()
figure.suptitle("From pixels to strokes to a digit")

# %%
# What it takes for what
# ----------------------

confusion = np.zeros((10, 10), int)
np.add.at(confusion, (labels, guesses), 1)
wrong = np.flatnonzero(guesses != labels)

figure, ax = plt.subplots(figsize=(5.6, 5))
off = np.where(np.eye(10, dtype=bool), 0, confusion)
ax.imshow(np.where(np.eye(10, dtype=bool), np.nan, off), cmap="Oranges", vmin=0,
          vmax=max(3, off.max()))  # fmt: skip
for (i, j), count in np.ndenumerate(confusion):
    if count:
        ax.text(j, i, count, ha="center", va="center", color="0.5" if i == j else "black")
ax.set(xticks=range(10), yticks=range(10), xlabel="read as", ylabel="is")
ax.spines[:].set_visible(False)
ax.tick_params(length=0)
ax.set_title(f"{len(wrong)} of {len(labels)} held-out digits are off the diagonal")

# %%
# The ones it gets wrong, and those that came closest to it
# ---------------------------------------------------------
#
# Under each digit what the network reads, and how sure it is. Most of them are hard for us too.

certainty = probabilities[np.arange(len(labels)), labels]
hardest = np.argsort(certainty)[:16]
figure, axes = plt.subplots(2, 8, figsize=(10, 3.6))
for ax, i in zip(axes.flat, hardest, strict=True):
    ax.imshow(images[i, 0], cmap="gray_r")
    ax.set(xticks=[], yticks=[])
    name = f"{guesses[i]} ({probabilities[i, guesses[i]]:.0%})"
    miss = guesses[i] != labels[i]
    ax.set_xlabel(f"{name}, is {labels[i]}" if miss else name, color="C1" if miss else "black")
    ax.spines[:].set(visible=True, color="C1" if miss else "0.8", linewidth=2 if miss else 1)
missed = np.isin(hardest, wrong).sum()
figure.suptitle(f"The 16 hardest digits: {missed} read wrongly (framed), the others nearly")

# %%
# Which pixels decide
# -------------------
#
# The gradient of a score with respect to the image says which pixels speak for it (red: darker
# ink raises the score) and which against. It is one backward pass through the four layers.


def saliency(image, digit):
    """d score of `digit` / d image, (8, 8)."""
    states = network.forward(image[None])
    grad = np.zeros_like(states[-1])
    grad[0, digit] = 1
    for layer, x, y in zip(network.layers[::-1], states[-2::-1], states[:0:-1], strict=True):
        grad = layer.backward(grad, x, y).input
    return grad[0, 0]


figure, axes = plt.subplots(2, 8, figsize=(10, 3.1))
for digit, column in zip(range(8), axes.T, strict=True):
    i = int(np.flatnonzero((labels == digit) & (guesses == digit))[0])
    slope = saliency(images[i], digit)
    column[0].imshow(images[i, 0], cmap="gray_r")
    column[1].imshow(slope, cmap="RdBu_r", vmin=-np.abs(slope).max(), vmax=np.abs(slope).max())
    for ax in column:
        ax.set_axis_off()
figure.suptitle("Above: a digit. Below: ink that speaks for it (red) and against it (blue)")

# sphinx_gallery_thumbnail_number = 3
plt.show()
