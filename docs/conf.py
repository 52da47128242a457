"""Settings of the static site (`make docs`): Sphinx reads the repository's own Markdown."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

import edgeseg

if TYPE_CHECKING:
    from sphinx.application import Sphinx

project = "edgeseg"
author = "the edgeseg authors"
project_copyright = "the edgeseg authors, Apache-2.0"
release = edgeseg.__version__

# The source directory is the repository's root, so that relative links work on the code host and on the site alike.
root_doc = "docs/site"
include_patterns = [
    "README.md",
    "CHANGELOG.md",
    "docs/**",
    "benchmarks/README.md",
    "benchmarks/results/*.md",
    "quantize/*.md",
    "devices/*.md",
    "devices/*/*.md",
    "examples/*.md",
]
# Sphinx walks every folder that is not excluded, whatever include_patterns says.
exclude_patterns = [".*", "build", "dist", "runs", "edgeseg", "tests"]
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_heading_anchors = 4
suppress_warnings = ["myst.header"]
# Docstrings write code as `name` and options as --name.
default_role = "code"
smartquotes = False

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
napoleon_use_ivar = True

html_theme = "furo"
html_title = "edgeseg"
# The root document is docs/site.html; this file leads there from the site's first address.
html_extra_path = ["index.html"]
html_static_path = ["site.css"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sourcelink = False
html_show_sphinx = False

API_PAGE = "docs/reference/api"
GROUPS = (
    ("Functions", "autofunction", inspect.isroutine),
    ("Exceptions", "autoexception", lambda found: inspect.isclass(found) and issubclass(found, BaseException)),
    ("Classes", "autoclass", inspect.isclass),
    ("Other names", "autodata", lambda _: True),
)


def list_exports() -> str:
    """List every name of `edgeseg.__all__` as autodoc directives, in the first group that it fits."""
    grouped: dict[str, list[str]] = {title: [] for title, *_ in GROUPS}
    for name in sorted(name for name in edgeseg.__all__ if not name.startswith("_")):
        title, directive, _ = next(group for group in GROUPS if group[2](getattr(edgeseg, name)))
        members = "   :members:\n" if directive == "autoclass" else ""
        grouped[title].append(f".. {directive}:: edgeseg.{name}\n{members}")
    return "\n".join(f"{title}\n{'-' * len(title)}\n\n" + "\n".join(text) for title, text in grouped.items() if text)


def add_exports(_: Sphinx, page: str, source: list[str]) -> None:
    """Append the exported names to the page of the Python reference."""
    if page == API_PAGE:
        source[0] += "\n" + list_exports()


def setup(app: Sphinx) -> None:
    """Register the page that is generated from the code."""
    app.connect("source-read", add_exports)
