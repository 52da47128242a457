"""Fill the report's page; what comes out is one file that needs nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jinja2

import edgeseg
from edgeseg.core.card import DISCLAIMER
from edgeseg.core.stats import show_interval

_FOLDER = Path(__file__).parent


def render_page(**content: Any) -> str:
    """Render the page; figures are SVG text, everything else is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["interval"] = show_interval
    template = environment.get_template("page.html.j2")
    css = (_FOLDER / "page.css").read_text(encoding="utf-8")
    return template.render(css=css, version=edgeseg.__version__, disclaimer=DISCLAIMER, **content)
