"""The pages of the mathematics: each runs, and raises where a formula and its call disagree."""

import runpy
from pathlib import Path

import pytest

plt = pytest.importorskip("matplotlib.pyplot", reason="the pages draw with matplotlib")

SCRIPTS = sorted((Path(__file__).parents[1] / "docs" / "scripts").rglob("plot_*.py"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_page(script):
    plt.switch_backend("Agg")
    try:
        runpy.run_path(str(script))
    finally:
        plt.close("all")
