"""The plots: what they draw, where, and what they refuse."""

import builtins
import subprocess
import sys

import numpy as np
import pytest

import fastconv as fc

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")
from matplotlib import pyplot as plt  # noqa: E402

from fastconv import plot  # noqa: E402


@pytest.fixture(autouse=True)
def figures():
    with plt.style.context(plot.STYLE):
        yield
    plt.close("all")


def flow(verdicts=("vanishing",), steps=20, lengths=None):
    """A gate held still at one half, in one sequence or in several."""
    zero = [[0.0]]
    x = np.ones((steps, len(verdicts), 1)) if len(verdicts) > 1 else np.ones((steps, 1))
    return fc.gradient_flow(fc.gated_rnn(x, zero, zero, zero, lengths=lengths, return_tape=True)[1])


def test_fastconv_alone_imports_neither_plot_nor_matplotlib():
    code = """
import sys, fastconv
assert not {"fastconv.plot", "matplotlib"} & set(sys.modules)
import fastconv.plot
assert "matplotlib" not in sys.modules
"""
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_without_matplotlib(monkeypatch):
    imported = builtins.__import__

    def refuse(name, *arguments):
        if name.partition(".")[0] == "matplotlib":
            raise ImportError(f"No module named {name!r}")
        return imported(name, *arguments)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(ImportError, match=r"fastconv\[plot\]"):
        plot.loss_curve([1.0, 0.5])


DRAWN = {
    "loss_curve": lambda **options: plot.loss_curve([1.0, 0.5], **options),
    "gradient_flow": lambda **options: plot.gradient_flow(flow(), **options),
    "attention_weights": lambda **options: plot.attention_weights([[0.5, 0.5]], **options),
    "jacobian": lambda **options: plot.jacobian([[1.0, -2.0]], **options),
}


@pytest.mark.parametrize("name", DRAWN)
def test_into_the_axes_given_or_new_ones(name):
    first, second = plt.subplots(1, 2)[1]
    assert DRAWN[name](ax=first) is first
    assert first.has_data() and not second.has_data()
    own = DRAWN[name]()
    assert own.figure is not first.figure
    with pytest.raises(TypeError, match="ax: expected matplotlib Axes, got str 'left'"):
        DRAWN[name](ax="left")


def test_loss_curve():
    loss = np.array([4.0, np.nan, 2.0, np.inf, 1.0])
    raw, smooth = plot.loss_curve(loss, smoothing=4, label="mine").get_lines()
    np.testing.assert_array_equal(raw.get_ydata(), [4, np.nan, 2, np.nan, 1])
    r = 3 / 4  # what each step leaves of those before it
    mean = [4, 4, (4 * r**2 + 2) / (r**2 + 1)]
    mean += [mean[-1], (4 * r**4 + 2 * r**2 + 1) / (r**4 + r**2 + 1)]
    np.testing.assert_allclose(smooth.get_ydata(), mean)
    np.testing.assert_array_equal(smooth.get_xdata(), [1, 2, 3, 4, 5])
    assert raw.get_color() == smooth.get_color()
    # nothing to be seen yet, no smoothing, integers
    smooth = plot.loss_curve([np.nan, 3]).get_lines()[1]
    np.testing.assert_array_equal(smooth.get_ydata(), [np.nan, 3])
    ax = plot.loss_curve([3, 2], smoothing=1, classes=10, color="C3")
    assert len(ax.get_lines()) == 2 and ax.get_lines()[0].get_color() == "C3"
    np.testing.assert_allclose(ax.get_lines()[1].get_ydata(), np.log(10))


def test_gradient_flow():
    ax = plot.gradient_flow(flow(["vanishing"] * 3, lengths=[20, 5, 0]), label="half")
    median, *each = ax.get_lines()
    np.testing.assert_array_equal(median.get_ydata(), -np.arange(20.0))
    np.testing.assert_array_equal(each[0].get_ydata(), -np.arange(20.0))
    np.testing.assert_array_equal(each[1].get_ydata()[:6], [0, -1, -2, -3, -4, np.nan])
    assert np.isnan(each[2].get_ydata()).all()
    # a second one in the same axes has one wedge and a verdict of its own
    mixed = fc.GradientFlow(np.zeros((3, 2)), None, np.array(["stable", "exploding"]))
    plot.gradient_flow(mixed, ax=ax)
    assert len(ax.collections) == 1
    texts = [text.get_text() for text in ax.get_legend().get_texts()]
    assert texts[1] == "1 exploding, 1 stable" and texts[0].startswith("half: ")


def test_attention_weights():
    zero = np.zeros((1, 1))
    _, tape = fc.attention_rnn(np.ones((4, 1)), zero, zero, zero, return_tape=True)
    ax = plot.attention_weights(fc.attention_weights(tape))
    picture = ax.images[0].get_array()
    expected = [[1 / t if i < t else 0 for t in (1, 2, 3, 4)] for i in range(4)]
    np.testing.assert_allclose(picture.filled(0), expected)
    np.testing.assert_array_equal(picture.mask, np.equal(expected, 0))
    # a finite window always has all its states; past a sequence's end there is nothing
    finite = plot.attention_weights([[1, 0, 0], [0, 0, 1], [0, 0, 0]]).images[0].get_array()
    np.testing.assert_array_equal(finite.mask, [[False, False, True]] * 3)
    assert [label.get_text() for label in ax.get_yticklabels()][:2] == ["x[t]", "h[t-1]"]
    assert len(plot.attention_weights(np.ones((3, 30)) / 30).figure.axes) == 2  # and a colour bar


def test_jacobian():
    x, w = np.arange(12.0).reshape(2, 6), np.array([[[1.0, -3.0], [2.0, 0.0]]] * 3)
    ax = plot.jacobian(fc.jacobian.conv(x, w))
    image = ax.images[0]
    rows, columns = 3 * 5, 3 * 2 * 2
    expected = np.zeros((3, 5, 3, 2, 2))
    for f, o, c, r in np.ndindex(3, 5, 2, 2):
        expected[f, o, f, c, r] = x[c, o + r]
    np.testing.assert_array_equal(image.get_array(), expected.reshape(rows, columns))
    assert image.get_clim() == (-11, 11)
    assert len(ax.get_lines()) == 2 + 2  # between filters, among outputs and among weights
    assert plot.jacobian(np.zeros((2, 2))).images[0].get_clim() == (-1, 1)


@pytest.mark.parametrize(
    "error, message, call",
    [
        (ValueError, r"loss: expected .*, got shape \(0,\)", lambda: plot.loss_curve([])),
        (ValueError, r"loss: .*\(2, 1\)", lambda: plot.loss_curve([[1.0], [2.0]])),
        (TypeError, "loss: ", lambda: plot.loss_curve("falls")),
        (ValueError, "smoothing: .* 0.5", lambda: plot.loss_curve([1], smoothing=0.5)),
        (ValueError, "smoothing: .* nan", lambda: plot.loss_curve([1], smoothing=np.nan)),
        (TypeError, "smoothing: .* str", lambda: plot.loss_curve([1], smoothing="a lot")),
        (ValueError, "classes: .* 0", lambda: plot.loss_curve([1], classes=0)),
        (TypeError, "flow: expected a GradientFlow", lambda: plot.gradient_flow(np.ones(3))),
        (ValueError, r"flow: .*\(0,\)", lambda: plot.gradient_flow(flow(steps=0))),
        (ValueError, "of a batch", lambda: plot.attention_weights(np.ones((3, 2, 4)))),
        (ValueError, r"weights: .*\(0, 4\)", lambda: plot.attention_weights(np.ones((0, 4)))),
        (TypeError, "weights: .*complex", lambda: plot.attention_weights([[1j]])),
        (ValueError, "of a batch", lambda: plot.jacobian(np.ones((2, 3, 3)))),
        (ValueError, r"jacobian: .*\(3,\)", lambda: plot.jacobian(np.ones(3))),
    ],
)  # fmt: skip
def test_bad_input(error, message, call):
    with pytest.raises(error, match=message):
        call()
    assert not plt.get_fignums()
