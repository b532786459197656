"""
A long signal: forecasting a neuron
===================================

You will see eight dilated layers of 24 filters each look back over a quarter of a second of a
neuron's voltage and say what it will be 10 ms later, spikes and all, with a third of the error of
a forecast that nothing will change.
"""

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.cbook import get_sample_data
from matplotlib.collections import LineCollection
from progress import progress
from temporal_order import Adam

import fastconv as fc
from fastconv import plot

plt.style.use(plot.STYLE)
fc.set_num_threads(1)  # short calls: a second thread gains little

CHANNELS = 24
STEPS = 300
DILATIONS = [1, 2, 4, 8, 16, 32, 64, 128]
TAPS = 3
RATE, AHEAD = 0.5, 20  # milliseconds a sample; samples ahead to forecast

# %%
# The signal
# ----------
#
# The voltage across a neuron's membrane, 12,000 samples in six seconds, which ships with
# matplotlib. A current is switched on after half a second; the cell fires every 70 ms or so until,
# late, it gets irregular. The network learns from the first part and is tested on the next ten
# spikes. How it fares after that, where the cell does what it never saw, is shown below too.

voltage = np.fromfile(get_sample_data("membrane.dat", asfileobj=False), np.float32) * 100
BEGIN, SPLIT, END = 1000, 6000, 7400  # samples: learn from, test from, irregular from
time = np.arange(len(voltage)) * RATE / 1000
mean, deviation = voltage[BEGIN:SPLIT].mean(), voltage[BEGIN:SPLIT].std()
signal = (voltage - mean) / deviation

figure, ax = plt.subplots(figsize=(10, 2.8))
ax.plot(time, voltage, "C6", lw=0.6)
for (first, last), color, name in (((BEGIN, SPLIT), "C0", "to learn from"),
                                   ((SPLIT, END), "C1", "held out")):  # fmt: skip
    ax.axvspan(time[first], time[last], color=color, alpha=0.12, lw=0)
    ax.text(time[first] + 0.03, 12, name, color=color)
ax.set(xlabel="time (s)", ylabel="voltage (mV)", xlim=(0, 6), ylim=(-72, 20))
ax.set_title("A neuron under a constant current: regular for three seconds, then not")

# %%
# The network
# -----------
#
# Each layer is ``conv1d`` with three taps that look back in time: padding ``(2 d, 0)`` puts all
# zeros before the start, so no output sees the future. The dilation d doubles from layer to layer;
# what goes in is added to what comes out, so that a gradient finds its way back. The last layer, a
# kernel of one tap, mixes the 24 channels into the change of the voltage that is expected.

rng = np.random.default_rng(0)
parameters = {"head": np.zeros((1, CHANNELS, 1), np.float32), "bias": np.zeros(1, np.float32)}
for i in range(len(DILATIONS)):
    inputs = CHANNELS if i else 1
    weight = rng.normal(0, (2 / (TAPS * inputs)) ** 0.5, (CHANNELS, inputs, TAPS))
    parameters[f"w{i}"] = weight.astype(np.float32)
    parameters[f"b{i}"] = np.zeros(CHANNELS, np.float32)


def geometry(d):
    return {"padding": [((TAPS - 1) * d, 0)], "dilation": d}


def forward(x):
    """What goes into each layer, and last the expected change (1, 1, samples)."""
    states = [x]
    for i, d in enumerate(DILATIONS):
        y = fc.conv1d(states[-1], parameters[f"w{i}"], parameters[f"b{i}"], **geometry(d))
        np.maximum(y, 0, out=y)
        states.append(y + states[-1] if i else y)
    return [*states, fc.conv1d(states[-1], parameters["head"], parameters["bias"])]


def backward(grad, states):
    """Gradients of all parameters, and of the signal, from the output's."""
    grad, head, bias = fc.conv1d_backward(grad, states[-2], parameters["head"])
    grads = {"head": head, "bias": bias}
    for i, d in reversed(list(enumerate(DILATIONS))):
        y = states[i + 1] - states[i] if i else states[i + 1]
        below, grads[f"w{i}"], grads[f"b{i}"] = fc.conv1d_backward(
            grad * (y > 0), states[i], parameters[f"w{i}"], **geometry(d)
        )
        grad = below + grad if i else below
    return grads, grad


x = signal[None, None, : SPLIT - AHEAD]
target = (signal[AHEAD:SPLIT] - signal[: SPLIT - AHEAD])[None, None]
counts = np.arange(SPLIT - AHEAD) >= BEGIN
losses, adam = [], Adam()
for step in progress(range(STEPS), "learning"):
    # A little noise each time: the shape is to be learnt, not the fifth digit.
    states = forward(x + rng.normal(0, 0.02, x.shape).astype(np.float32))
    error = (states[-1] - target) * counts / counts.sum()
    losses.append(float((error**2).sum() * counts.sum()))
    grads, _ = backward(2 * error.astype(np.float32), states)
    fc.clip_grad_norm(grads, 1.0)
    rate = 0.01 * min(1, (step + 1) / 50) * (1 + np.cos(np.pi * step / STEPS)) / 2
    adam.step(parameters, grads, dict.fromkeys(grads, rate))

# %%
# The forecast, beside two that need no network
# ---------------------------------------------
#
# "It stays as it is" is hard to beat while the voltage creeps up, and hopeless at a spike. "As one
# period ago" knows about spikes, but its clock runs on at one rate. The network sees the last three
# spikes and the slope towards the next one.

states = forward(signal[None, None])
now = np.arange(SPLIT, END) - AHEAD  # when the held-out samples are forecast
period = min(range(100, 200), key=lambda p: np.abs(signal[BEGIN + p : SPLIT]
                                                   - signal[BEGIN : SPLIT - p]).mean())  # fmt: skip
forecasts = {
    "it stays as it is": voltage[now],
    f"as one period ago ({period * RATE:.0f} ms)": voltage[SPLIT - period : END - period],
    "the network": (states[-1][0, 0, now] + signal[now]) * deviation + mean,
}
errors = {
    name: float(np.sqrt(np.mean((forecast - voltage[SPLIT:END]) ** 2)))
    for name, forecast in forecasts.items()
}
for name, error in errors.items():
    print(f"{name:30} {error:5.1f} mV")

figure, (left, right) = plt.subplots(1, 2, figsize=(12, 3.8), width_ratios=[3, 1])
shown = slice(0, 700)
left.plot(time[SPLIT:END][shown], voltage[SPLIT:END][shown], color="0.75", lw=4, label="measured")
for (name, forecast), color in zip(forecasts.items(), ("C5", "C2", "C0"), strict=True):
    if not name.startswith("as"):
        left.plot(time[SPLIT:END][shown], forecast[shown], color, lw=1.2, label=name)
left.set(xlabel="time (s)", ylabel="voltage (mV)", ylim=(-58, 18))
left.legend(ncols=3, loc="upper left")
left.set_title("Held out, forecast 10 ms ahead")
bars = right.barh(["stays", "period", "network"], list(errors.values()), color=["C5", "C2", "C0"])
right.bar_label(bars, fmt="%.1f", padding=3)
right.set(xlabel="root mean square error (mV)", xlim=(0, 1.15 * max(errors.values())))
right.invert_yaxis()
right.set_title(f"{errors['the network'] / errors['it stays as it is']:.0%} of the naive error")

# %%
# What one forecast sees
# ----------------------
#
# Above, the taps that lead to one output: 511 samples from 24 taps a channel. Below, how much that
# forecast changes with each sample: the input gradient of that single output, which
# ``conv1d_backward`` takes back through all layers.

reach = (TAPS - 1) * sum(DILATIONS) + 1
at = int(now[np.argmax(voltage[SPLIT:END])])  # a forecast of a spike
one = np.zeros_like(states[-1])
one[0, 0, at] = 1
sees = backward(one, states)[1][0, 0]
sees[at] += 1  # the forecast is the change and what there is now
first = int(np.flatnonzero(sees)[0])
print(f"one forecast sees {at - first + 1} samples, {reach * RATE:.0f} ms")

figure, (tree, trace, saliency) = plt.subplots(3, 1, figsize=(10, 7), sharex=True,
                                               height_ratios=[2, 1, 1])  # fmt: skip
nodes = [0]
for layer, d in reversed(list(enumerate(DILATIONS, 1))):
    lines = [((-n * RATE, layer), (-(n + tap * d) * RATE, layer - 1))
             for n in nodes for tap in range(TAPS)]  # fmt: skip
    tree.add_collection(LineCollection(lines, colors="C0", lw=0.5, alpha=0.6))
    tree.plot([-n * RATE for n in nodes], [layer] * len(nodes), "o", color="C0", ms=3)
    nodes = sorted({n + tap * d for n in nodes for tap in range(TAPS)})
tree.plot([-n * RATE for n in nodes], [0] * len(nodes), "|", color="C6", ms=5)
tree.set_yticks(range(len(DILATIONS) + 1), ["signal", *(f"dilation {d}" for d in DILATIONS)])
tree.set_title(f"The receptive field: {reach} samples, {reach * RATE:.0f} ms, from "
               f"{len(DILATIONS)} layers of {TAPS} taps")  # fmt: skip
window = np.arange(at - reach - 40, at + AHEAD + 10)
trace.axvspan(-(reach - 1) * RATE, 0, color="C0", alpha=0.12, lw=0)
trace.plot((window - at) * RATE, voltage[window], "C6", lw=1)
forecast = forecasts["the network"][at + AHEAD - SPLIT]
trace.plot(AHEAD * RATE, forecast, "o", color="C1", ms=6)
trace.annotate("the forecast", (AHEAD * RATE, forecast), xytext=(-8, -2),
               textcoords="offset points", ha="right", color="C1")  # fmt: skip
trace.set(ylabel="voltage (mV)")
saliency.vlines((window - at) * RATE, 0, sees[window], color="C0", lw=1)
saliency.axhline(0, color="0.2", lw=0.6)
saliency.set(xlabel="time before the forecast is made (ms)", ylabel="d forecast / d sample")
saliency.set_yscale("symlog", linthresh=0.01)

# %%
# Many filters
# ------------
#
# The 24 channels behind the last layer, over three spikes: some follow the slow rise, some fire
# with the spike, some only before it. Each row is scaled to its own largest value.

part = np.arange(SPLIT, SPLIT + 450)
maps = states[-2][0][:, part]
maps = maps / np.maximum(np.abs(maps).max(axis=1, keepdims=True), 1e-9)
order = np.argsort(maps.argmax(axis=1))
figure, (top, bottom) = plt.subplots(2, 1, figsize=(10, 5), sharex=True, height_ratios=[1, 2.5])
top.plot(time[part], voltage[part], "C6", lw=1)
top.set(ylabel="voltage (mV)")
extent = (time[part[0]], time[part[-1]], CHANNELS - 0.5, -0.5)
image = bottom.imshow(maps[order], aspect="auto", vmin=0, vmax=1, extent=extent)
bottom.set(xlabel="time (s)", ylabel="channel, by time of its peak")
figure.colorbar(image, ax=[top, bottom], label="activation, of each row's largest", pad=0.01)
top.set_title("What the last layer's filters answer to")

# %%
# Where it fails
# --------------
#
# When the cell turns irregular the network, which never saw that, misses most spikes.

later = np.arange(END, 9000)
forecast = (states[-1][0, 0, later - AHEAD] + signal[later - AHEAD]) * deviation + mean
irregular = float(np.sqrt(np.mean((forecast - voltage[later]) ** 2)))
naive = float(np.sqrt(np.mean((voltage[later - AHEAD] - voltage[later]) ** 2)))
figure, ax = plt.subplots(figsize=(10, 3))
ax.plot(time[later], voltage[later], color="0.75", lw=3, label="measured")
ax.plot(time[later], forecast, "C0", lw=1, label="forecast 10 ms ahead")
ax.set(xlabel="time (s)", ylabel="voltage (mV)")
ax.legend(ncols=2, loc="upper left")
ax.set_ylim(top=25)
ax.set_title(f"What it never saw it cannot foresee: an error of {irregular:.1f} mV, "
             f"{irregular / naive:.0%} of the naive one")  # fmt: skip

# sphinx_gallery_thumbnail_number = 3
plt.show()
