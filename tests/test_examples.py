"""The examples run, in a small form, and what they claim is so."""

import ast
import pathlib
import sys

import numpy as np
import pytest

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
