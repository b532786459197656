"""Sphinx's configuration. `make docs` runs it; the pages end up in build/docs/html.

The pages load nothing from the network: MathJax is copied from a package, and so are all fonts
and scripts. What is executed at build time: the scripts of the mathematics and of the gallery
(sphinx-gallery, again only when a script has changed) and the plots of some pages.
"""

import os
import warnings

os.environ.setdefault("MPLBACKEND", "Agg")

import fastconv

project = "fastconv"
author = copyright = "the authors of fastconv"
release = version = fastconv.__version__

extensions = [
    "matplotlib.sphinxext.plot_directive",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx-mathjax-offline",
    "sphinx_copybutton",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["scripts", "**/sg_execution_times.rst", "sg_execution_times.rst"]
templates_path = ["_templates"]
default_role = "autolink"  # `conv2d` is a link where there is such a function
rst_prolog = ".. currentmodule:: fastconv\n"
nitpicky = True
nitpick_ignore_regex = [("py:obj", r"(numpy|matplotlib)\..*"), ("py:obj", "threadpoolctl")]
suppress_warnings = ["config.cache"]  # sphinx-gallery's settings hold functions

# --- docstrings --------------------------------------------------------------------------------

autodoc_typehints = "none"  # they say ArrayLike; the docstrings say which shape
autosummary_generate = True
numpydoc_show_class_members = False
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

# --- scripts that are pages --------------------------------------------------------------------

sphinx_gallery_conf = {
    "examples_dirs": ["scripts/mathematics", "../examples"],
    "gallery_dirs": ["mathematics", "gallery"],
    "filename_pattern": r"/plot_",
    "ignore_pattern": r"(^|/)(?!plot_)[^/]*\.py$",
    "within_subsection_order": "FileNameSortKey",
    "backreferences_dir": "api/generated/backreferences",
    "doc_module": ("fastconv",),
    "ignore_repr_types": "matplotlib",  # what a call of pyplot returns is no output
    "remove_config_comments": True,
    "show_memory": False,
    "show_signature": False,
    "min_reported_time": 1,
    "abort_on_example_error": True,
}
plot_html_show_formats = False
plot_html_show_source_link = False
plot_formats = [("svg", 100)]
plot_rcparams = {"figure.figsize": (7, 3.5), "figure.autolayout": True, "svg.fonttype": "none"}
plot_apply_rcparams = True
warnings.filterwarnings("ignore", message="FigureCanvasAgg is non-interactive")

# --- looks -------------------------------------------------------------------------------------

html_theme = "furo"
html_title = "fastconv"
html_static_path = ["_static"]
html_css_files = ["fastconv.css"]
html_show_sourcelink = False
html_show_sphinx = False
html_copy_source = False
