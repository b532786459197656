"""Two recurrent networks learn the order of two symbols in a long string of distractors.

    python examples/temporal_order.py [--seed 0] [--plot temporal_order.png]

The temporal-order task: a string of about a hundred symbols, all of them noise but for an X or a
Y near its beginning and another near its middle. Which two, in which order, decides among the
classes Q, R, S and U, and is asked for at the end. Guessing costs log 4 = 1.39 and is right a
quarter of the time; the gradient must survive the fifty steps and more between the symbols and
the question. A gated RNN and an AttentionRNN learn it, on NumPy and fastconv alone, to where
they get every one of 2,000 new strings right.

S. Hochreiter and J. Schmidhuber, "Long short-term memory", Neural Computation 9 (1997), task 6a.
"""

import argparse
import sys
import time
from dataclasses import dataclass, field

import numpy as np

import fastconv as fc

SYMBOLS = "EBabcdXY"  # begin, end, four distractors, the two that count
CLASSES = {"XX": "Q", "XY": "R", "YX": "S", "YY": "U"}
LONGEST = 110
SLOW = 0.05  # of the rate: see Attention
CLIP = 1.0  # the norm that a gradient is cut to


def strings(count, rng):
    """`count` strings as (symbols (LONGEST, count), lengths (count,), classes (count,))."""
    lengths = rng.integers(100, LONGEST + 1, count)
    symbols = rng.integers(2, 6, (LONGEST, count))
    each = np.arange(count)
    first, second = rng.integers(6, 8, (2, count))
    symbols[0] = 0
    symbols[rng.integers(10, 20, count), each] = first
    symbols[rng.integers(50, 60, count), each] = second
    symbols[lengths - 1, each] = 1
    return symbols, lengths, 2 * (first - 6) + second - 6


def normal(rng, *shape):
    """Weights that hand on the variance that they are given."""
    return (rng.standard_normal(shape) / shape[-1] ** 0.5).astype(np.float32)


class Gated:
    """Symbols as unit vectors -> gated RNN -> scores from the last state."""

    name = "gated RNN"
    slow = ()

    def __init__(self, rng, states=32):
        self.parameters = {
            "w_c": normal(rng, states, len(SYMBOLS)),
            "w_h": normal(rng, states, states),
            "w_x": normal(rng, states, len(SYMBOLS)),
            # The old state is kept for about 1 + exp(b_c) steps: from 4 to 400 of them.
            "b_c": rng.uniform(1, 6, states).astype(np.float32),
            "readout": normal(rng, len(CLASSES), states),
        }

    def run(self, symbols, lengths):
        """All states (LONGEST, B, states), and the tape."""
        p = self.parameters
        x = np.eye(len(SYMBOLS), dtype=np.float32)[symbols]
        return fc.gated_rnn(
            x, p["w_c"], p["w_h"], p["w_x"], b_c=p["b_c"], lengths=lengths, return_tape=True
        )

    def backward(self, grad_last, symbols, tape):
        """Gradients of the parameters but the readout, from those of the last states."""
        grads = fc.gated_rnn_backward(np.zeros_like(tape.h), tape, grad_h_last=grad_last)
        return {name: getattr(grads, name) for name in ("w_c", "w_h", "w_x", "b_c")}


class Attention:
    """Symbols as learnt vectors -> AttentionRNN(k) -> scores from the last state.

    The softmax is the gate here, and starts as gates do that are to remember: x comes with the
    score -4, the k states before with about 0, so of each step 1 part in 50 k is new; and V
    leaves the states before as they are. The first number of every symbol's vector starts as 1,
    which makes the score -4 expressible.
    """

    name = "AttentionRNN"
    # Adam moves every number by its rate, and 32 x 32 of them in step stretch a vector by 32
    # times that, a hundred steps over: the matrices must go slower than the rest.
    slow = ("w_q", "w_k", "w_v")

    def __init__(self, rng, states=32, k=2):
        embedding = 0.5 * rng.standard_normal((len(SYMBOLS), states))
        embedding[:, 0] = 1
        w_q, w_k = 0.3 * rng.standard_normal((2, k + 1, states, states)) / states**0.5
        for w, first in (w_q[0], 2), (w_k[0], -2):
            w[0], w[:, 0] = 0, 0
            w[0, 0] = first
        orthogonal = np.linalg.qr(rng.standard_normal((states, states)))[0]
        weights = {
            "embedding": embedding,
            "w_q": w_q,
            "w_k": w_k,
            "w_v": np.stack([orthogonal] + k * [np.eye(states)]),
            "readout": normal(rng, len(CLASSES), states),
        }
        self.parameters = {name: value.astype(np.float32) for name, value in weights.items()}

    def run(self, symbols, lengths):
        """All states (LONGEST, B, states), and the tape."""
        p = self.parameters
        x = p["embedding"][symbols]
        return fc.attention_rnn(x, p["w_q"], p["w_k"], p["w_v"], lengths=lengths, return_tape=True)

    def backward(self, grad_last, symbols, tape):
        """Gradients of the parameters but the readout, from those of the last states."""
        grads = fc.attention_rnn_backward(np.zeros_like(tape.x), tape, grad_h_last=grad_last)
        of_each = [grads.x[symbols == symbol].sum(axis=0) for symbol in range(len(SYMBOLS))]
        return {
            "embedding": np.stack(of_each),
            **{name: getattr(grads, name) for name in ("w_q", "w_k", "w_v")},
        }


def probabilities(network, symbols, lengths):
    """Of the classes (B, 4); the last states that they come from; the tape."""
    h, tape = network.run(symbols, lengths)
    last = h[lengths - 1, np.arange(len(lengths))]
    scores = last @ network.parameters["readout"].T
    e = np.exp(scores - scores.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True), last, tape


@dataclass
class Adam:
    """D. P. Kingma and J. Ba, "Adam: a method for stochastic optimization", arXiv:1412.6980."""

    mean: dict = field(default_factory=dict)
    square: dict = field(default_factory=dict)
    steps: int = 0

    def step(self, parameters, grads, rates):
        self.steps += 1
        for name, grad in grads.items():
            mean = self.mean[name] = 0.9 * self.mean.get(name, 0) + 0.1 * grad
            square = self.square[name] = 0.999 * self.square.get(name, 0) + 0.001 * grad**2
            mean, square = mean / (1 - 0.9**self.steps), square / (1 - 0.999**self.steps)
            parameters[name] -= (rates[name] * mean / (np.sqrt(square) + 1e-8)).astype(np.float32)


@dataclass
class History:
    """What each step saw, and how the gradient flows before and after."""

    loss: list = field(default_factory=list)
    accuracy: list = field(default_factory=list)
    norm: list = field(default_factory=list)
    before: np.ndarray | None = None
    after: np.ndarray | None = None


def train(network, rng, most=1000, *, batch=64, rate=0.01, clip=CLIP, recent=50, enough=0.001):
    """New strings at every step, until the recent ones cost less than `enough`."""
    history = History(before=flow(network, rng))
    adam, begin = Adam(), time.perf_counter()
    each = np.arange(batch)
    for step in range(1, most + 1):
        symbols, lengths, classes = strings(batch, rng)
        p, last, tape = probabilities(network, symbols, lengths)
        history.loss.append(float(-np.log(p[each, classes] + 1e-12).mean()))
        history.accuracy.append(float((p.argmax(axis=1) == classes).mean()))

        # d loss / d scores = (softmax - one-hot) / B
        p[each, classes] -= 1
        p /= batch
        grads = network.backward(p @ network.parameters["readout"], symbols, tape)
        grads["readout"] = p.T @ last
        history.norm.append(fc.clip_grad_norm(grads, clip))
        now = min(1, step / 50) / (1 + step / 1000)  # warmed up, then slowly less
        rates = {name: now * (SLOW if name in network.slow else 1) * rate for name in grads}
        adam.step(network.parameters, grads, rates)

        done = step == most or (step >= recent and np.mean(history.loss[-recent:]) < enough)
        progress(network.name, step, most, history, begin, done)
        if done:
            break
    history.after = flow(network, rng)
    return history


def flow(network, rng):
    """log2 of the norm of d h[T] / d h[T-d] over the distance d: the mean of four strings."""
    symbols, lengths, _ = strings(4, rng)
    log_norm = fc.gradient_flow(network.run(symbols, lengths)[1]).log_norm
    return np.mean([log_norm[n - 100 : n, b][::-1] for b, n in enumerate(lengths)], axis=0)


def progress(name, step, most, history, begin, done, width=30):
    """Redraw the bar: on a terminal at most ten times a second, elsewhere once at the end."""
    now = time.perf_counter()
    if not done and (not sys.stdout.isatty() or now - progress.drawn < 0.1):
        return
    progress.drawn = now
    bar = ("#" * round(width * step / most)).ljust(width, "#" if done else ".")
    print(
        f"\r{name:13}[{bar}] step {step:4d}  loss {np.mean(history.loss[-20:]):.4f}"
        f"  right {np.mean(history.accuracy[-20:]):7.2%}  {now - begin:4.1f} s",
        end="\n" if done else "",
        flush=True,
    )


progress.drawn = 0.0


def plot(path, histories):
    """For each network the loss and the gradient's norm step by step, and how far it reaches."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, rows = plt.subplots(
        len(histories), 3, figsize=(13, 3.6 * len(histories)), layout="constrained", squeeze=False
    )
    for (left, middle, right), (name, history) in zip(rows, histories.items(), strict=True):
        left.plot(history.loss, "C0", lw=0.8)
        left.axhline(np.log(4), color="0.4", ls=":", lw=1, label="guessing: log 4")
        left.set(xlabel="step", ylabel="cross entropy", title=f"{name}: loss", ylim=(0, None))
        left.legend()
        middle.semilogy(history.norm, "C1", lw=0.8)
        middle.axhline(CLIP, color="0.4", ls=":", lw=1, label="clipped to")
        middle.set(xlabel="step", ylabel="norm", title="norm of the gradient")
        middle.legend()
        right.plot(history.before, "0.6", label="before training")
        right.plot(history.after, "C2", label="after")
        right.set(
            xlabel="steps back in time",
            ylabel="log2 of the norm",
            title="what of a gradient at the end arrives",
        )
        right.legend()
    figure.savefig(path, dpi=100)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=1000, help="at most, of each network")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--plot", default="temporal_order.png", metavar="FILE")
    arguments = parser.parse_args()
    fc.set_num_threads(1)  # calls of a few milliseconds: a second thread gains little

    print(
        f"fastconv {fc.__version__}: strings of 100 to {LONGEST} symbols, which of "
        + ", ".join(f"{symbols} ({name})" for symbols, name in CLASSES.items())
    )
    histories, worst = {}, 1.0
    for network_type in Gated, Attention:
        rng = np.random.default_rng(arguments.seed)
        network = network_type(rng)
        histories[network.name] = history = train(network, rng, arguments.steps)
        symbols, lengths, classes = strings(2000, rng)
        p, _, _ = probabilities(network, symbols, lengths)
        right = p.argmax(axis=1) == classes
        print(
            f"{network.name}: from a loss of {history.loss[0]:.2f} and {history.accuracy[0]:.0%}"
            f" right to {right.mean():.2%} of {len(right)} new strings"
        )
        worst = min(worst, right.mean())
    plot(arguments.plot, histories)
    print(f"loss curves and gradient norms: {arguments.plot}")
    if worst < 0.99:
        sys.exit("a network has not learnt the order")


if __name__ == "__main__":
    main()
