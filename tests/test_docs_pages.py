"""The pages of docs/: what they show in their examples comes out, and nothing public is missing."""

import doctest
import re
from pathlib import Path

import pytest

import fastconv as fc
import fastconv.plot

DOCS = Path(__file__).parents[1] / "docs"
GENERATED = {"generated", "mathematics", "gallery"}  # by a build of the pages
PAGES = sorted(
    page for page in DOCS.rglob("*.rst") if not GENERATED & set(page.relative_to(DOCS).parts)
)
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS)))
def test_examples_run(page):
    failed, _ = doctest.testfile(str(page), module_relative=False, optionflags=FLAGS)
    assert failed == 0


def test_every_public_name_is_in_the_api_reference_once():
    """Those of `reference` are the same names; a page of their own shows their source."""
    modules = {"jacobian": fc.jacobian, "plot": fastconv.plot}
    public = set(fc.__all__) - {*modules, "reference"}
    public |= {f"{module}.{name}" for module in modules for name in modules[module].__all__}
    listed = re.findall(r"^   ([\w.]+)$", (DOCS / "api" / "index.rst").read_text(), re.M)
    listed.remove("reference")  # the page
    assert sorted(listed) == sorted(public)
    assert set(fc.reference.__all__) <= set(fc.__all__)
