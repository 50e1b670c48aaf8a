"""Sphinx: the site of the pages in this folder (``make docs``)."""

import sys
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

sys.path.insert(0, str(Path(__file__).parent / "generate"))

from docstrings import find_missing

import nasnet_det

project = "nasnet_det"
copyright = "the authors of nasnet_det"
release = version = nasnet_det.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build", "notebooks", "generate"]
html_theme = "pydata_sphinx_theme"
html_title = "nasnet_det"
html_show_sourcelink = False
html_sidebars = {"**": ["globaltoc.html"]}
html_theme_options = {"navbar_center": []}

myst_heading_anchors = 3
autodoc_typehints = "description"
autodoc_member_order = "bysource"


def check_docstrings(app: Sphinx) -> None:
    """Raise ExtensionError where something public has no docstring."""
    missing = find_missing()
    if missing:
        raise ExtensionError("no docstring: " + ", ".join(missing))


def setup(app: Sphinx) -> None:
    """Connect the check to the beginning of a build."""
    app.connect("builder-inited", check_docstrings)
