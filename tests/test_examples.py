"""The examples run, in a small form, and what they claim is so."""

import ast
import pathlib
import sys

import numpy as np
import pytest

import fastconv as fc

matplotlib = pytest.importorskip("matplotlib")
pytest.importorskip("sklearn")
matplotlib.use("Agg")
from matplotlib import pyplot as plt  # noqa: E402

EXAMPLES = pathlib.Path(__file__).parent.parent / "examples"


@pytest.fixture
def run(monkeypatch):
    """run(name, PARAMETER=value, ...): the names that an example leaves behind, executed with
    other values for the parameters that stand in capitals at its top."""
    monkeypatch.syspath_prepend(str(EXAMPLES))

    def execute(name, **parameters):
        path = EXAMPLES / f"{name}.py"
        tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
        for statement in tree.body:
            match statement:
                case ast.Assign(targets=[ast.Name(id=parameter)]) if parameter in parameters:
                    statement.value = ast.copy_location(
                        ast.Constant(parameters.pop(parameter)), statement.value
                    )
        assert not parameters, f"{name}.py has no {', '.join(parameters)}"
        namespace = {"__name__": "__main__", "__file__": str(path)}
        with fc.num_threads(1):
            exec(compile(tree, str(path), "exec"), namespace)
        return namespace

    yield execute
    plt.close("all")
    for name in "progress", "digits", "temporal_order":
        sys.modules.pop(name, None)


def test_kernels_by_hand(run):
    names = run("plot_kernels_by_hand")
    assert names["widths"] == [5, 13, 29, 61]
    np.testing.assert_allclose(names["rebuilt"], names["photo"], atol=1e-6)
    # the edges against the difference written out, at one pixel
    grey, (y, x) = names["grey"][0].astype(np.float64), (200, 300)
    mean = np.array([1, 2, 1]) / 8
    upright = mean @ (grey[y - 1 : y + 2, x + 1] - grey[y - 1 : y + 2, x - 1])
    level = mean @ (grey[y + 1, x - 1 : x + 2] - grey[y - 1, x - 1 : x + 2])
    np.testing.assert_allclose(names["edges"][:, y, x], [upright, level], atol=1e-6)
    patch = names["photo"][:, 46:55, 56:65].astype(np.float64)
    np.testing.assert_allclose(names["soft"][:, 50, 60], patch.mean((1, 2)), atol=1e-6)


def test_gradient_flow(run):
    names = run("plot_gradient_flow", STEPS=120, MAP_STEPS=10, SCALES=5, BIASES=2, HALVINGS=5)
    assert {scale: set(verdicts) for scale, verdicts in names["verdicts"].items()} == {
        1: {"vanishing"}, 4: {"vanishing"}, 16: {"exploding"}, 256: {"vanishing"},
    }  # fmt: skip
    low, high = names["borders"]
    assert 4 < low < 10 and 30 < high < 150
    exponents = names["exponents"]
    assert exponents(low / 1.2)[0] < 0 < exponents(low * 1.2)[0]
    assert exponents(high / 1.5)[0] > 0 > exponents(high * 1.5)[0]


def test_neuron_forecast(run):
    names = run("plot_neuron_forecast", CHANNELS=8, STEPS=100)
    stays, period, network = names["errors"].values()
    assert network < 0.7 * stays and period < 0.7 * stays
    assert names["at"] - names["first"] + 1 == names["reach"] == 511
    # no forecast sees the future
    assert not names["sees"][names["at"] + 1 :].any() and names["sees"][names["at"]] != 0
    # and the gradient is the forecast's slope: central differences at its largest entries
    at, forward, signal = names["at"], names["forward"], names["signal"].astype(np.float64)
    for i in np.argsort(-np.abs(names["sees"]))[:3]:
        step = np.zeros_like(signal)
        step[i] = 1e-6
        high, low = (
            forward(x[None, None])[-1][0, 0, at] + x[at] for x in (signal + step, signal - step)
        )
        np.testing.assert_allclose(names["sees"][i], (high - low) / 2e-6, rtol=1e-3)


def test_digits(run):
    names = run("plot_digits", EPOCHS=4)
    assert names["right"] > 0.9
    assert names["confusion"].sum() == len(names["labels"])
    assert np.trace(names["confusion"]) == round(names["right"] * len(names["labels"]))
    assert set(names["hardest"][:5]) & set(names["wrong"])
    # the saliency is the slope of the score: central differences at one pixel
    image, digit = names["images"][0].astype(np.float64), 5
    slope = names["saliency"](image, digit)
    y, x = np.unravel_index(np.abs(slope).argmax(), slope.shape)
    step = np.zeros_like(image)
    step[0, y, x] = 1e-6
    high, low = (
        names["network"].forward(i[None])[-1][0, digit, 0, 0] for i in (image + step, image - step)
    )
    np.testing.assert_allclose(slope[y, x], (high - low) / 2e-6, rtol=1e-4)


def test_attention_over_time(run):
    names = run("plot_attention_over_time", LONGEST=6000)
    assert names["right"] > 0.95 and names["losses"][0] < 1.6
    # the input gets in when it is marked, and only then
    after, where = names["after"], names["where"]
    each = np.arange(len(where))
    marked = after[each, where, 0].copy()
    after[each, where, 0] = 0
    assert marked.min() > 0.3 and after[:, 2:, 0].mean() < 0.05
    np.testing.assert_allclose(names["before"].sum(axis=2), 1, atol=1e-5)
    # a step of the infinite window leaves the same behind, however long the sequence
    assert names["lengths"][-1] == 100 * names["lengths"][0] == 6000
    np.testing.assert_allclose(names["bytes_per_step"], names["bytes_per_step"][0], rtol=1e-12)


def test_temporal_order(run):
    names = run("plot_temporal_order", STEPS=60, STARTS=1, LARGEST_BATCH=64)
    assert min(names["right"].values()) > 0.98
    for history in names["histories"].values():
        assert abs(np.mean(history.loss[:10]) - np.log(4)) < 0.1
    # at a large rate the loss leaves the rails, and clipping brings it back
    (wild, _), (tame, _) = (names["by_rate"][3.0, limit] for limit in (np.inf, names["CLIP"]))
    assert names["jump"](wild) > 10 and tame[-10:].mean() < 0.7
    # small batches make ragged curves
    ragged = names["raggedness"]
    assert ragged == sorted(ragged, reverse=True) and ragged[0] > 3 * ragged[-1]
