"""
The order of two symbols, and how to read a loss curve
======================================================

You will see two recurrent networks learn which of two symbols came first in a string of a hundred,
to where they make no mistake; then a loss that jumps to several times that of guessing, what
clipping does about it, and what the learning rate and the batch size do.
"""

import numpy as np
from matplotlib import pyplot as plt
from progress import progress
from temporal_order import Attention, Gated, probabilities, strings, train

import fastconv as fc
from fastconv import plot

plt.style.use(plot.STYLE)
fc.set_num_threads(1)  # short calls: a second thread gains little

STEPS = 300
STARTS = 6
LARGEST_BATCH = 256
RATE, CLIP = 0.3, 0.2

# %%
# The task
# --------
#
# A string of about a hundred symbols is noise but for an X or a Y near its beginning and another
# near its middle. XX is class Q, XY is R, YX is S, YY is U. The class is asked for at the end,
# fifty steps and more after the second symbol. ``temporal_order.py`` has the task and the networks:
# a gated RNN and an AttentionRNN(2).

rng = np.random.default_rng(0)
histories, right, flows = {}, {}, {}
test = strings(2000, rng)
for network_type in Gated, Attention:
    rng = np.random.default_rng(0)
    network = network_type(rng)
    few = [part[..., :8] for part in test[:2]]
    before = fc.gradient_flow(network.run(*few)[1])
    histories[network.name] = train(network, rng)
    guesses = probabilities(network, *test[:2])[0].argmax(axis=1)
    right[network.name] = float((guesses == test[2]).mean())
    flows[network.name] = before, fc.gradient_flow(network.run(*few)[1])
    print(f"{network.name}: {right[network.name]:.2%} of {len(guesses)} new strings right")

figure, (left, middle) = plt.subplots(1, 2, figsize=(11, 3.6))
for (name, history), color in zip(histories.items(), ("C0", "C1"), strict=True):
    plot.loss_curve(history.loss, smoothing=5, label=name, color=color, ax=left)
    middle.plot(history.accuracy, color, lw=1, label=name)
left.axhline(np.log(4), color="0.4", ls=":", lw=1, label="guessing: log 4")
left.set(ylim=(0, 2))
left.legend()
middle.axhline(0.25, color="0.4", ls=":", lw=1, label="guessing")
middle.set(xlabel="training step", ylabel="right of 64 new strings", ylim=(0, 1.03))
middle.legend(loc="lower right")
left.set_title("The loss starts at log 4 = 1.39, where guessing is")
middle.set_title(", ".join(f"{name}: {share:.1%} right" for name, share in right.items()))

# %%
# What of a gradient arrives
# --------------------------
#
# The answer is known at the end, and what decides it came up to a hundred steps before: the
# gradient has to survive that way. Both networks are built so that at the start it does not fade
# away (the gates remember, the softmax attends to the states), and after training it still arrives.
# Where the AttentionRNN's curve zigzags, it copies every other state.

figure, axes = plt.subplots(1, 2, figsize=(11, 3.6), sharey=True)
for ax, (name, (before, after)) in zip(axes, flows.items(), strict=True):
    plot.gradient_flow(before, label="before training", color="C6", ax=ax)
    plot.gradient_flow(after, label="after", color="C0", ax=ax)
    ax.set_title(f"{name}: a gradient still arrives after a hundred steps")
axes[1].set_ylabel("")

# %%
# A spike, and its cure
# ---------------------
#
# Plain gradient descent with momentum takes steps in proportion to the gradient. Where the map from
# state to state stretches, the gradient of a hundred steps is suddenly a hundred times as large;
# one such step throws the weights to where the network is sure and wrong, which costs far more than
# guessing. Clipping cuts the gradient to a norm that is usual, and leaves its direction.


@np.errstate(over="ignore", invalid="ignore")
def descend(seed, rate, clip, *, batch=64, steps=STEPS):
    """Losses and gradient norms of a gated RNN under gradient descent with momentum 0.9, until
    they are no numbers any more."""
    rng = np.random.default_rng(seed)
    network = Gated(rng)
    velocity, losses, norms = {}, [], []
    for _ in range(steps):
        symbols, lengths, classes = strings(batch, rng)
        p, last, tape = probabilities(network, symbols, lengths)
        each = np.arange(batch)
        losses.append(float(-np.log(p[each, classes] + 1e-12).mean()))
        p[each, classes] -= 1  # d loss / d scores = (softmax - one-hot) / B
        p /= batch
        grads = network.backward(p @ network.parameters["readout"], symbols, tape)
        grads["readout"] = p.T @ last
        norms.append(fc.clip_grad_norm(grads, clip))
        if not np.isfinite(norms[-1]):
            return np.array(losses[:-1]), np.array(norms[:-1])
        for name, grad in grads.items():
            velocity[name] = 0.9 * velocity.get(name, 0) + grad
            network.parameters[name] -= np.float32(rate) * velocity[name]
    return np.array(losses), np.array(norms)


runs = [(seed, clip) for clip in (np.inf, CLIP) for seed in range(STARTS)]
found = [descend(seed, RATE, clip) for seed, clip in progress(runs, "spikes")]
wild, tame = found[:STARTS], found[STARTS:]


def jump(losses):
    """How far the loss ever rose above the least before."""
    return float((losses - np.minimum.accumulate(losses)).max())


jumps = np.array([[jump(losses) for losses, _ in some] for some in (wild, tame)])
print(f"jumps without clipping: {np.round(jumps[0], 1)}, with: {np.round(jumps[1], 1)}")
worst = int(jumps[0].argmax())

figure, (top, bottom) = plt.subplots(2, 1, figsize=(9, 5.6), sharex=True)
for some, name, color in (wild, "no clipping", "C1"), (tame, f"clipped to {CLIP}", "C0"):
    losses, norms = some[worst]
    top.plot(losses, color, lw=1, label=name)
    bottom.semilogy(norms, color, lw=0.8)
top.axhline(np.log(4), color="0.4", ls=":", lw=1, label="guessing: log 4")
top.set(ylabel="loss (nats)", ylim=(0, None))
top.legend()
bottom.axhline(CLIP, color="C0", ls="--", lw=1)
bottom.annotate("clipped to this", (0, CLIP), xytext=(4, 4), textcoords="offset points", color="C0")
bottom.set(xlabel="training step", ylabel="norm of the gradient")
top.set_title(f"The same start and the same strings: a jump by {jumps[0, worst]:.1f}, "
              f"or by {jumps[1, worst]:.1f}")  # fmt: skip

figure, axes = plt.subplots(1, 2, figsize=(11, 3.2), sharey=True)
for ax, some, name, color in ((axes[0], wild, "no clipping", "C1"),
                              (axes[1], tame, f"clipped to {CLIP}", "C0")):  # fmt: skip
    for losses, _ in some:
        ax.plot(losses, color, lw=0.7, alpha=0.7)
    ax.axhline(np.log(4), color="0.4", ls=":", lw=1)
    spikes = sum(jump(losses) > 1 for losses, _ in some)
    ax.set(xlabel="training step", title=f"{name}: {spikes} of {STARTS} starts jump by more than 1")
axes[0].set(ylabel="loss (nats)", ylim=(0, None))

# %%
# Learning rates, side by side
# ----------------------------
#
# Too small a rate is slow. A larger one is faster, up to where the steps overshoot: with clipping
# that end is far off, without it near.

rates = [0.1, 0.3, 1.0, 3.0]
figure, axes = plt.subplots(1, len(rates), figsize=(13, 3), sharey=True)
by_rate = {}
for ax, rate in zip(axes, progress(rates, "rates"), strict=True):
    for clip, color, name in (np.inf, "C1", "no clipping"), (CLIP, "C0", f"clipped to {CLIP}"):
        losses, _ = by_rate[rate, clip] = descend(worst, rate, clip, steps=2 * STEPS)
        plot.loss_curve(losses, smoothing=10, color=color, label=name, ax=ax)
    ax.axhline(np.log(4), color="0.4", ls=":", lw=1, label="guessing: log 4")
    ax.set(title=f"rate {rate}", ylim=(0, 4), ylabel="")
    ax.legend(loc="upper right").set_visible(ax is axes[0])
axes[0].set_ylabel("loss (nats)")
figure.suptitle("Small rates crawl; large ones need clipping")

# %%
# Batch sizes, side by side
# -------------------------
#
# The gradient of a batch is a mean, so it is the more reliable the more strings it is a mean of.
# Small batches make a ragged curve and go astray; from some size on nothing is gained but time
# spent. The rate is the same in all.

batches = [LARGEST_BATCH >> 6, LARGEST_BATCH >> 4, LARGEST_BATCH >> 2, LARGEST_BATCH]
figure, axes = plt.subplots(1, len(batches), figsize=(13, 3), sharey=True)
raggedness = []
for ax, batch in zip(axes, progress(batches, "batches"), strict=True):
    losses, _ = descend(worst, RATE, CLIP, batch=batch)
    plot.loss_curve(losses, smoothing=10, classes=4, ax=ax)
    ax.set(title=f"{batch} strings a step", ylim=(0, 3), ylabel="")
    ax.get_legend().set_visible(ax is axes[0])
    raggedness.append(float(np.abs(np.diff(losses)).mean()))
axes[0].set_ylabel("loss (nats)")
figure.suptitle("The larger the batch, the smoother the way down")

# sphinx_gallery_thumbnail_number = 3
plt.show()
