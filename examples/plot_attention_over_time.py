"""
Attention over time
===================

You will see a recurrent network learn to look at its input in the one step that matters, and then
hand on what it saw from state to state; and an infinite window over 100,000 steps in which the last
step takes as long as the first.
"""

import time

import numpy as np
from matplotlib import pyplot as plt
from progress import progress
from temporal_order import Adam

import fastconv as fc
from fastconv import plot

plt.style.use(plot.STYLE)
fc.set_num_threads(1)  # short calls: a second thread gains little

LENGTH, WINDOW, STATES, VALUES = 40, 6, 16, 4
STEPS = 300
LONGEST = 100_000

# %%
# The task: remember what was marked
# ----------------------------------
#
# A string of 40 symbols, A to D. One of the first twenty is marked, and which one it was is asked
# at the end. The window of AttentionRNN(6) is too short to look back that far: the network has to
# carry the answer along.

rng = np.random.default_rng(0)


def strings(count):
    """Symbols (LENGTH, count), the marked ones VALUES higher; which values; and where."""
    symbols = rng.integers(0, VALUES, (LENGTH, count))
    values, where = rng.integers(0, VALUES, count), rng.integers(2, LENGTH // 2, count)
    symbols[where, np.arange(count)] = VALUES + values
    return symbols, values, where


def normal(*shape):
    return (rng.standard_normal(shape) / shape[-1] ** 0.5).astype(np.float32)


orthogonal = np.linalg.qr(rng.standard_normal((STATES, STATES)))[0].astype(np.float32)
parameters = {
    "embedding": 0.5 * rng.standard_normal((2 * VALUES, STATES)).astype(np.float32),
    "w_q": np.float32(0.5) * normal(WINDOW + 1, STATES, STATES),
    "w_k": np.float32(0.5) * normal(WINDOW + 1, STATES, STATES),
    # x is turned, and every state before handed on as it is: nothing is lost at the start.
    "w_v": np.stack([orthogonal, *[np.eye(STATES, dtype=np.float32)] * WINDOW]),
    "readout": normal(VALUES, STATES),
}


def run(symbols):
    """Probabilities of the values (B, VALUES), the last states, and the tape."""
    p = parameters
    x = p["embedding"][symbols]
    h, tape = fc.attention_rnn(x, p["w_q"], p["w_k"], p["w_v"], return_tape=True)
    scores = h[-1] @ p["readout"].T
    e = np.exp(scores - scores.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True), h[-1], tape


def gradients(symbols, values):
    """The loss, and the gradients of all parameters."""
    p, last, tape = run(symbols)
    each = np.arange(len(values))
    loss = float(-np.log(p[each, values] + 1e-12).mean())
    p[each, values] -= 1  # d loss / d scores = (softmax - one-hot) / B
    p /= len(values)
    back = fc.attention_rnn_backward(
        np.zeros_like(tape.x), tape, grad_h_last=p @ parameters["readout"]
    )
    embedding = np.zeros_like(parameters["embedding"])
    np.add.at(embedding, symbols, back.x)
    grads = {"embedding": embedding, "readout": p.T @ last}
    return loss, grads | {name: getattr(back, name) for name in ("w_q", "w_k", "w_v")}


def weights_of(symbols):
    """The attention weights (LENGTH, WINDOW + 1) of each string."""
    return fc.attention_weights(run(symbols)[2]).swapaxes(0, 1)


shown = strings(64)
before = weights_of(shown[0])
# The matrices act once a step, 40 times on the way to the answer: they must learn more slowly. (At
# 0.001 gradients explode from three of eight starts, and a rounding error decides from which.)
rates = {name: 0.0003 if name.startswith("w_") else 0.01 for name in parameters}
adam, losses = Adam(), []
for step in progress(range(STEPS), "learning"):
    symbols, values, _ = strings(64)
    loss, grads = gradients(symbols, values)
    losses.append(loss)
    fc.clip_grad_norm(grads, 1.0)
    now = (1 + np.cos(np.pi * step / STEPS)) / 2
    adam.step(parameters, grads, {name: rate * now for name, rate in rates.items()})
after = weights_of(shown[0])

symbols, values, _ = strings(1000)
right = float((run(symbols)[0].argmax(axis=1) == values).mean())
print(f"right: {right:.1%} of 1,000 new strings")

ax = plot.loss_curve(losses, smoothing=10, classes=VALUES, label="AttentionRNN(6)")
ax.figure.set_size_inches(8, 3)
ax.set_title(f"The marked symbol is remembered after some hundred steps: {right:.0%} right")

# %%
# What it attends to, before and after
# ------------------------------------
#
# Each column is a step: how its new state is mixed from the input and the six states before.
# Untrained, every step looks at all of them nearly alike. Trained, the network ignores its input
# but for the one that is marked (the dashed line). From there on nearly all weight is on one lag:
# the state that holds the answer is copied from step to step.

_, values, where = shown
first = 0
other = int(np.flatnonzero((values != values[first]) & (abs(where - where[first]) > 4))[0])
figure, axes = plt.subplots(3, 1, figsize=(9, 7.5), sharex=True)
for ax, weights, i, name in zip(axes, (before, after, after), (first, first, other),
                                ("before", "after", "after"), strict=True):  # fmt: skip
    plot.attention_weights(weights[i], ax=ax)
    ax.axvline(where[i] + 1, color="C1", ls="--", lw=1.2)
    ax.set_title(f"{name} training: {'ABCD'[values[i]]} is marked at step {where[i] + 1}")
for ax in axes[:-1]:
    ax.set_xlabel("")

# %%
# The input's weight is the switch: over 64 strings, drawn around the step that is marked.

around = np.arange(-8, 16)
late = np.flatnonzero(where >= -around[0])
figure, ax = plt.subplots(figsize=(8, 3))
for weights, color, name in (before, "C6", "before"), (after, "C0", "after"):
    curves = [weights[i, where[i] + around, 0] for i in late]
    ax.plot(around, np.transpose(curves), color=color, lw=0.4, alpha=0.3)
    ax.plot(around, np.mean(curves, axis=0), color=color, lw=2, label=f"{name} training")
ax.set(xlabel="steps after the marked one", ylabel="weight of the input x[t]", ylim=(0, None))
ax.legend()
ax.set_title("The input gets in when it is marked; afterwards no other does")

# %%
# An infinite window
# ------------------
#
# With ``window=None`` a step attends to all states before it: to 100,000 of them at the end. Done
# as it is written down that takes longer from step to step, since step t is a sum over t states.
# ``fc.attention_rnn`` keeps that sum, so a step costs the same wherever it stands, in time and in
# memory; so does a step of the gradient. Beside it the same in plain NumPy, ``fc.reference``.

w_q, w_k, w_v = (0.5 * normal(STATES, STATES) for _ in range(3))
lengths = np.unique(np.geomspace(LONGEST / 100, LONGEST, 5).astype(int))
sequence = rng.standard_normal((LONGEST, 1, STATES)).astype(np.float32)


def fastest(function, repeat=5):
    """The result, and the least time that it took."""
    times = []
    for _ in range(repeat):
        begin = time.perf_counter()
        result = function()
        times.append(time.perf_counter() - begin)
    return result, min(times)


forward, both, plain, bytes_per_step = [], [], [], []
for length in progress(lengths, "infinite window"):
    x = sequence[:length]
    (h, tape), took = fastest(lambda x=x: fc.attention_rnn(x, w_q, w_k, w_v, return_tape=True))
    _, back = fastest(lambda h=h, tape=tape: fc.attention_rnn_backward(h, tape))
    forward.append(1e6 * took / length)
    both.append(1e6 * (took + back) / length)
    arrays = [array for array in vars(tape).values() if isinstance(array, np.ndarray)]
    weights = sum(w.nbytes for w in (tape.w_q, tape.w_k, tape.w_v))
    bytes_per_step.append((sum(array.nbytes for array in arrays) - weights) / length)
short = [length for length in lengths if length <= LONGEST / 30]
for length in short:
    _, took = fastest(lambda x=sequence[:length]: fc.reference.attention_rnn(x, w_q, w_k, w_v), 1)
    plain.append(1e6 * took / length)
for length, one, two, size in zip(lengths, forward, both, bytes_per_step, strict=True):
    print(f"{length:7,} steps: {one:5.2f} us a step, {two:5.2f} with the gradient, "
          f"{size:.0f} bytes of tape")  # fmt: skip

figure, ax = plt.subplots(figsize=(8, 4))
ax.loglog(short, plain, "s-", color="C1", label="plain NumPy, forward: grows")
ax.loglog(lengths, both, "o-", color="C2", label="fastconv, forward and gradient: flat")
ax.loglog(lengths, forward, "o-", color="C0", label="fastconv, forward: flat")
ax.set(xlabel="steps of the sequence", ylabel="time of a step (microseconds)")
ax.legend(loc="center right")
ax.set_title(f"{LONGEST:,} steps that each attend to all before: {forward[-1]:.1f} microseconds "
             "a step")  # fmt: skip

# sphinx_gallery_thumbnail_number = 2
plt.show()
