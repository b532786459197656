"""
Where gradients stop vanishing and start exploding
==================================================

You will see a gradient on its way back through 300 steps of a gated RNN: with small recurrent
weights it dies out exponentially, with large ones it blows up, with huge ones it dies out again,
and the border between them is a line that can be found and drawn.
"""

import numpy as np
from matplotlib import pyplot as plt
from progress import progress

import fastconv as fc
from fastconv import plot

plt.style.use(plot.STYLE)

STATES, SEQUENCES = 16, 4
STEPS = 300
HALVINGS = 10  # of the interval in which the border is sought
SCALES = 25
BIASES = 13
MAP_STEPS = 150

rng = np.random.default_rng(0)
x = rng.standard_normal((STEPS, SEQUENCES, STATES))
w_c, w_h, w_x = rng.standard_normal((3, STATES, STATES)) / STATES**0.5


def tape_of(scale, bias=0.0, steps=STEPS):
    """A run of the gated RNN whose recurrent weights are `scale` times w_h."""
    b_c = np.full(STATES, bias)
    return fc.gated_rnn(x[:steps], w_c, scale * w_h, w_x, b_c=b_c, return_tape=True)[1]


def exponents(scale, bias=0.0, steps=STEPS):
    """The Lyapunov exponents, largest first, as the mean over the sequences."""
    return fc.gradient_flow(tape_of(scale, bias, steps)).lyapunov.mean(axis=0)


# %%
# What arrives of a gradient
# --------------------------
#
# A gradient at the last state reaches h[t] multiplied by d h[T] / d h[t], a product of one Jacobian
# a step. ``fc.gradient_flow`` returns the logarithm of its norm, in bits: -100 stands for a factor
# of 2^-100, of which nothing is left in floating-point numbers of single precision. Each thin line
# is a sequence of its own, each thick one their median.

figure, ax = plt.subplots(figsize=(8, 4.5))
verdicts = {}
for scale in 1, 4, 16, 256:
    flow = fc.gradient_flow(tape_of(scale))
    plot.gradient_flow(flow, label=f"W_h x {scale}", ax=ax)
    verdicts[scale] = flow.verdict
ax.set_ylim(-250, 90)
ax.legend(title="recurrent weights", loc="lower left")
ax.set_title("Gradients vanish, explode, and vanish again as the recurrent weights grow")

# %%
# The exponents, and where the largest is zero
# --------------------------------------------
#
# The Lyapunov exponents say how fast the step from h[t-1] to h[t] stretches each direction in the
# long run. The largest one decides: below zero every gradient vanishes, above zero almost every
# one explodes. So the border is where it is zero, found by halving an interval.


def border(low, high, halvings=HALVINGS):
    """A scale between low and high at which the largest exponent changes its sign."""
    sign = np.sign(exponents(low)[0])
    assert np.sign(exponents(high)[0]) == -sign
    for _ in range(halvings):
        middle = (low * high) ** 0.5
        low, high = (middle, high) if np.sign(exponents(middle)[0]) == sign else (low, middle)
    return (low * high) ** 0.5


borders = border(2, 16), border(16, 256)
scales = np.geomspace(0.5, 256, SCALES)
spectra = np.array([exponents(scale) for scale in progress(scales, "exponents")])

figure, ax = plt.subplots(figsize=(8, 4.5))
ax.semilogx(scales, spectra[:, 1:], color="C6", lw=0.6, alpha=0.6)
ax.semilogx(scales, spectra[:, 0], color="C0", lw=2, label="the largest")
ax.plot([], [], color="C6", lw=0.6, label=f"the other {STATES - 1}")
ax.axhline(0, color="0.2", lw=0.8)
for at in borders:
    ax.axvline(at, color="C1", ls="--", lw=1)
    ax.annotate(f"x {at:.1f}", (at, 0.45), xytext=(4, 0), textcoords="offset points", color="C1")
ax.set(xlabel="factor on the recurrent weights W_h", ylabel="Lyapunov exponent (nats a step)",
       ylim=(-2.5, 0.6), xlim=(scales[0], scales[-1]))  # fmt: skip
ax.legend(loc="lower left")
ax.set_title(f"The largest exponent is zero at W_h x {borders[0]:.1f}, and again at "
             f"x {borders[1]:.0f}")  # fmt: skip
print(f"exploding between {borders[0]:.2f} and {borders[1]:.1f} times W_h")

# %%
# The map
# -------
#
# The gate's bias is the other knob: with a large one the old state is kept, and the map from state
# to state is close to the identity, whose exponents are 0. Blue vanishes, red explodes, and the
# black line is the border. White, at a large bias and left of the border, is where recurrent
# networks learn: the gradient vanishes there too, but slowly.

biases = np.linspace(-4, 6, BIASES)
points = [(bias, scale) for bias in biases for scale in scales]
largest = [exponents(scale, bias, MAP_STEPS)[0] for bias, scale in progress(points, "map")]
largest = np.reshape(largest, (BIASES, SCALES))

figure, ax = plt.subplots(figsize=(8, 4.5))
mesh = ax.pcolormesh(scales, biases, largest, cmap="RdBu_r", vmin=-0.3, vmax=0.3, shading="gouraud")
ax.contour(scales, biases, largest, levels=[0], colors="black", linewidths=1.5)
ax.set(xscale="log", xlabel="factor on the recurrent weights W_h", ylabel="bias of the gate, b_c")
figure.colorbar(mesh, ax=ax, label="largest Lyapunov exponent (nats a step)", extend="both")
for at, name in ((1, "vanishing"), (20, "exploding"), (150, "vanishing")):
    ax.text(at, 1.5 if at > 1 else -2, name, ha="center", color="white" if at != 20 else "black",
            fontsize=11)  # fmt: skip
ax.set_title("Exploding gradients are an island: too small a W_h is too weak, too large saturates")

# %%
# Why: the Jacobian of one step
# -----------------------------
#
# d h[t] / d h[t-1] = diag(c) + diag((h[t-1] - u) c (1 - c)) W_h. With small weights it is little
# more than its diagonal, the gates c between 0 and 1. Larger weights add to it, until the gates
# saturate: then c (1 - c) is close to 0 nearly everywhere, and what is left is a diagonal of zeros
# and ones.

figure, axes = plt.subplots(1, 3, figsize=(12, 3.6))
for ax, scale in zip(axes, (1, 16, 256), strict=True):
    tape = tape_of(scale)
    step, _ = fc.jacobian.gated_rnn(x[-1, 0], tape.h[-2, 0], w_c, scale * w_h, w_x)
    plot.jacobian(step, ax=ax)
    norm = np.linalg.norm(step, 2)
    ax.set(title=f"W_h x {scale}: spectral norm {norm:.2g}", xlabel="h[t-1]", ylabel="h[t]")
figure.suptitle("Small weights leave a diagonal, large ones stretch, huge ones switch")

# sphinx_gallery_thumbnail_number = 3
plt.show()
