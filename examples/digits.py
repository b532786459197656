"""A convolutional network learns handwritten digits, on NumPy and fastconv alone.

    python examples/digits.py [--epochs 30] [--seed 0] [--plot digits.png]

scikit-learn ships 1,797 digits of 8 x 8 pixels. Four convolutions, the last of which is as
large as the image that reaches it and so plays the dense layer, read them to 98 % or more on a
fifth that they never saw. Then: how long the same layers take with `fastconv.reference`, and a
picture of the loss and of what the network makes of some digits.
"""

import argparse
import sys
import time
from dataclasses import dataclass, field

import numpy as np

import fastconv as fc


def load_digits(rng):
    """The digits as (images, labels) of four fifths, then of the fifth that is held out.

    Images are (N, 1, 8, 8) float32 with mean 0 and deviation 1.
    """
    from sklearn.datasets import load_digits as load

    digits = load()
    images = digits.images.astype(np.float32)[:, None]
    order = rng.permutation(len(images))
    held_out, train = np.split(order, [len(order) // 5])
    images = (images - images[train].mean()) / images[train].std()
    return (images[train], digits.target[train]), (images[held_out], digits.target[held_out])


@dataclass
class Conv:
    """Convolution, bias and (but for the last layer) ReLU, with what SGD remembers of it."""

    weight: np.ndarray
    bias: np.ndarray
    stride: int = 1
    padding: int = 0
    relu: bool = True
    momentum: list = field(default_factory=lambda: [0.0, 0.0])

    def forward(self, x):
        y = fc.conv2d(x, self.weight, self.bias, self.stride, self.padding)
        return np.maximum(y, 0, out=y) if self.relu else y

    def backward(self, grad_y, x, y):
        """Gradients of input, weight and bias, where y = forward(x)."""
        if self.relu:
            grad_y = grad_y * (y > 0)
        return fc.conv2d_backward(grad_y, x, self.weight, self.stride, self.padding)

    def step(self, grads, rate, momentum=0.9, decay=5e-4):
        """One step of SGD with momentum; weights decay, biases do not."""
        self.momentum[0] = momentum * self.momentum[0] + grads.weight + decay * self.weight
        self.momentum[1] = momentum * self.momentum[1] + grads.bias
        self.weight -= np.float32(rate) * self.momentum[0]
        self.bias -= np.float32(rate) * self.momentum[1]


class Network:
    """8 x 8 pixels -> 16 maps -> 32 maps of 4 x 4 -> 64 maps -> 10 scores."""

    def __init__(self, rng):
        def conv(outputs, inputs, kernel, **geometry):
            # He's initial weights: each layer hands on the variance that it was given.
            deviation = np.sqrt(2 / (inputs * kernel * kernel))
            weight = rng.normal(0, deviation, (outputs, inputs, kernel, kernel))
            return Conv(weight.astype(np.float32), np.zeros(outputs, np.float32), **geometry)

        self.layers = [
            conv(16, 1, 3, padding=1),
            conv(32, 16, 3, padding=1, stride=2),
            conv(64, 32, 3, padding=1),
            conv(10, 64, 4, relu=False),
        ]

    def forward(self, images):
        """What goes into each layer, and last the scores: (N, 10, 1, 1)."""
        states = [images]
        for layer in self.layers:
            states.append(layer.forward(states[-1]))
        return states

    def predict(self, images):
        """Probabilities (N, 10)."""
        return softmax(self.forward(images)[-1][:, :, 0, 0])

    def train_step(self, images, labels, rate):
        """One step of SGD; returns the loss before it."""
        states = self.forward(images)
        probabilities = softmax(states[-1][:, :, 0, 0])
        rows = np.arange(len(labels))
        loss = -np.log(probabilities[rows, labels] + 1e-12).mean()

        # d loss / d scores = (softmax - one-hot) / N
        probabilities[rows, labels] -= 1
        grad = (probabilities / len(labels))[:, :, None, None]
        for layer, x, y in zip(self.layers[::-1], states[-2::-1], states[:0:-1], strict=True):
            grads = layer.backward(grad, x, y)
            layer.step(grads, rate)
            grad = grads.input
        return float(loss)


def softmax(scores):
    e = np.exp(scores - scores.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def cross_entropy(probabilities, labels):
    return float(-np.log(probabilities[np.arange(len(labels)), labels] + 1e-12).mean())


def shifted(images, rng):
    """Each image moved by up to one pixel: a digit stays what it is."""
    padded = np.pad(images, ((0, 0), (0, 0), (1, 1), (1, 1)), mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, images.shape[2:], axis=(2, 3))
    down, right = rng.integers(0, 3, (2, len(images)))
    return windows[np.arange(len(images)), :, down, right]


@dataclass
class History:
    """What training saw: the loss of each step, and after each epoch of the held-out fifth."""

    loss: list = field(default_factory=list)
    held_out_loss: list = field(default_factory=list)
    accuracy: list = field(default_factory=list)
    steps_per_epoch: int = 0


def train(network, data, held_out, epochs, rng, *, batch=64, peak_rate=0.05):
    images, labels = data
    history = History(steps_per_epoch=-(-len(images) // batch))
    total = epochs * history.steps_per_epoch
    begin = time.perf_counter()
    for epoch in range(epochs):
        order = rng.permutation(len(images))
        for first in range(0, len(images), batch):
            done = len(history.loss) / total
            # The rate rises for a tenth of the way, then falls to 0 along a cosine.
            rate = peak_rate * min(done / 0.1, (1 + np.cos(np.pi * done)) / 2)
            part = order[first : first + batch]
            loss = network.train_step(shifted(images[part], rng), labels[part], rate)
            history.loss.append(loss)
            progress(done, epoch, history, begin)
        probabilities = network.predict(held_out[0])
        history.held_out_loss.append(cross_entropy(probabilities, held_out[1]))
        history.accuracy.append(float((probabilities.argmax(axis=1) == held_out[1]).mean()))
    progress(1.0, epochs - 1, history, begin)
    return history


def progress(done, epoch, history, begin, width=30):
    """Redraw the bar: on a terminal at most ten times a second, elsewhere once at the end."""
    now = time.perf_counter()
    if done < 1 and (not sys.stdout.isatty() or now - progress.drawn < 0.1):
        return
    progress.drawn = now
    start, end = ("\r", "") if done < 1 else ("\r" if sys.stdout.isatty() else "", "\n")
    bar = ("#" * round(width * done)).ljust(width, ".")
    recent = np.mean(history.loss[-history.steps_per_epoch :])
    accuracy = f"{history.accuracy[-1]:7.2%}" if history.accuracy else "      -"
    print(
        f"{start}[{bar}] epoch {epoch + 1:2d}  loss {recent:.4f}  held out {accuracy}"
        f"  {now - begin:4.1f} s",
        end=end,
        flush=True,
    )


progress.drawn = 0.0


# name, input, weight, keyword arguments
LAYERS = [
    ("the demo's third layer", (64, 32, 4, 4), (64, 32, 3, 3), {"padding": 1}),
    ("ResNet, first", (1, 3, 224, 224), (64, 3, 7, 7), {"stride": 2, "padding": 3}),
    ("ResNet, 3 x 3", (1, 64, 56, 56), (64, 64, 3, 3), {"padding": 1}),
    ("ResNet, 1 x 1", (1, 64, 56, 56), (256, 64, 1, 1), {}),
    ("MobileNet, depthwise", (1, 192, 28, 28), (192, 1, 3, 3), {"padding": 1, "groups": 192}),
    ("DeepLab, dilated", (1, 512, 33, 33), (256, 512, 3, 3), {"padding": 12, "dilation": 12}),
]


def compare_with_reference(rng):
    """Print what the two take for six layers, forward and backward, and whether they agree."""
    print(f"\n{'milliseconds, float32':26}{'forward':^29}   {'backward':^29}")
    print(f"{'layer':26}" + 2 * f"{'fastconv':>9}{'reference':>11}{'ratio':>9}   ")
    for name, input_shape, weight_shape, geometry in LAYERS:
        x = rng.standard_normal(input_shape, np.float32)
        w = rng.standard_normal(weight_shape, np.float32)
        y = fc.conv2d(x, w, **geometry)
        dy = rng.standard_normal(y.shape, np.float32)
        expected = fc.reference.conv2d(x, w, **geometry)
        error = np.abs(y - expected).max() / np.abs(expected).max()
        assert error < 1e-5, f"{name}: fastconv and its reference differ by {error:.1e}"
        line = f"{name:26}"
        for function, arguments in (("conv2d", (x, w)), ("conv2d_backward", (dy, x, w))):
            ours = seconds(getattr(fc, function), *arguments, **geometry)
            reference = seconds(getattr(fc.reference, function), *arguments, **geometry)
            line += f"{1e3 * ours:9.3f}{1e3 * reference:11.3f}{reference / ours:8.1f}x   "
        print(line.rstrip())


def seconds(function, *arguments, budget=0.5, **keywords):
    """Median time of a call: at least 3 calls, then as many as fit the budget (at most 100)."""
    function(*arguments, **keywords)
    times = []
    while len(times) < 3 or (sum(times) < budget and len(times) < 100):
        begin = time.perf_counter()
        function(*arguments, **keywords)
        times.append(time.perf_counter() - begin)
    return float(np.median(times))


def plot(path, history, held_out, probabilities):
    """The loss curve above; below, the digits the network found hardest, then some others."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    images, labels = held_out
    figure = plt.figure(figsize=(10, 8.5), layout="constrained")
    top, bottom = figure.subfigures(2, 1, height_ratios=[1, 1.15])

    axes = top.subplots()
    epochs = 1 + np.arange(len(history.accuracy))
    steps = (1 + np.arange(len(history.loss))) / history.steps_per_epoch
    axes.semilogy(steps, history.loss, color="0.75", lw=0.8, label="training, each step")
    axes.semilogy(epochs, history.held_out_loss, "C0o-", ms=4, label="held out, each epoch")
    axes.axhline(np.log(10), color="0.4", ls=":", lw=1, label="guessing: log 10")
    axes.set(xlabel="epoch", ylabel="cross entropy", xlim=(0, len(epochs)))
    axes.set_title(
        f"{history.accuracy[-1]:.2%} of {len(labels)} held-out digits right after "
        f"{len(epochs)} epochs"
    )
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.legend(loc="lower left")

    hardest = np.argsort(probabilities[np.arange(len(labels)), labels])
    chosen = np.concatenate([hardest[:8], hardest[8:][:: max(1, (len(labels) - 8) // 16)][:16]])
    bottom.suptitle("The eight hardest held-out digits, then others from hard to easy")
    for axes, i in zip(bottom.subplots(3, 8).flat, chosen, strict=False):
        guess = probabilities[i].argmax()
        right = guess == labels[i]
        axes.imshow(images[i, 0], cmap="gray_r")
        axes.set_title(
            f"{guess}  ({probabilities[i, guess]:.0%})" + ("" if right else f", is {labels[i]}"),
            color="black" if right else "C3",
            fontsize=10,
        )
        axes.set_xticks([])
        axes.set_yticks([])
    figure.savefig(path, dpi=100)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--plot", default="digits.png", metavar="FILE")
    arguments = parser.parse_args()

    rng = np.random.default_rng(arguments.seed)
    data, held_out = load_digits(rng)
    network = Network(rng)
    parameters = sum(layer.weight.size + layer.bias.size for layer in network.layers)
    print(f"fastconv {fc.__version__}: {len(data[0])} digits to learn from, {len(held_out[0])} "
          f"held out, {parameters} parameters")  # fmt: skip
    begin = time.perf_counter()
    history = train(network, data, held_out, arguments.epochs, rng)
    elapsed = time.perf_counter() - begin
    probabilities = network.predict(held_out[0])
    wrong = int((probabilities.argmax(axis=1) != held_out[1]).sum())
    print(
        f"held out: {history.accuracy[-1]:.2%} right ({wrong} of {len(held_out[1])} wrong), "
        f"learnt in {elapsed:.1f} s"
    )

    compare_with_reference(rng)
    plot(arguments.plot, history, held_out, probabilities)
    print(f"\nloss curve and sample predictions: {arguments.plot}")
    if history.accuracy[-1] < 0.98:
        sys.exit("held out: fewer than 98 % right")


if __name__ == "__main__":
    main()
