"""What all report pages have in common: the parts of a page, its templates, and commands to copy."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2

import edgeseg
from edgeseg.core.card import DISCLAIMER
from edgeseg.core.stats import show_interval

PAGE = "report.html"
GOOD, CAUTION, BAD = "good", "caution", "bad"
_FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Pill:
    """A word that judges something, and its colour's meaning."""

    level: str
    word: str


@dataclass(frozen=True)
class Tile:
    """One large figure of the verdict."""

    label: str
    value: str
    note: str
    level: str = ""


@dataclass(frozen=True)
class Verdict:
    """The card at the top of a page."""

    pills: tuple[Pill, ...]
    sentence: str
    tiles: tuple[Tile, ...]
    fit: tuple[str, ...]
    unfit: tuple[str, ...]
    few: str = ""
    """Why the figures are uncertain; empty where there are enough cases."""
    warnings: tuple[str, ...] = ()
    gate: str = ""
    """What a gate that held promises; empty where none did."""

    @property
    def level(self) -> str:
        """Return the worst level."""
        levels = {pill.level for pill in self.pills}
        return next((level for level in (BAD, CAUTION) if level in levels), GOOD)


@dataclass(frozen=True)
class Step:
    """What to do next, and the command for it."""

    sentence: str
    command: str


@dataclass(frozen=True)
class Table:
    """A table; the marked row is the one that was chosen."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    marked: int | None = None
    words: bool = False
    """Whether the cells hold words, which are aligned to the left and broken."""


def render_page(template: str, **content: Any) -> str:
    """Render a page; plots are inserted as SVG, all other text is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["interval"] = show_interval
    css = (_FOLDER / "page.css").read_text(encoding="utf-8")
    return environment.get_template(template).render(
        css=css, version=edgeseg.__version__, disclaimer=DISCLAIMER, **content
    )


def write_command(*words: str | Path) -> str:
    """Write a command for a shell; paths are relative to the folder one works in, or to the home folder."""
    return " ".join(show_path(word) if isinstance(word, Path) else shlex.quote(word) for word in words)


def show_path(path: Path) -> str:
    """Write a path for a shell without naming more folders than needed: a home folder's name may be a person's."""
    whole = Path(os.path.normpath(path.absolute()))
    for base, start in ((Path.cwd(), ""), (Path.home(), "~/")):
        if whole != base and whole.is_relative_to(base):
            return start + shlex.quote(str(whole.relative_to(base)))
    return shlex.quote(str(whole))


def add_suffix(path: Path, suffix: str) -> Path:
    """Name a folder beside another."""
    return path.absolute().with_name(f"{path.absolute().name}-{suffix}")


def count(number: int, noun: str) -> str:
    """Write a number with its noun: 1 case, 2 cases."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def join_names(names: Sequence[str], most: int = 4) -> str:
    """Join names for a sentence; of many only the first."""
    shown = [name if len(name) <= 40 else f"{name[:39]}\u2026" for name in names[:most]]
    more = len(names) - len(shown)
    if more > 0:
        return f"{', '.join(shown)} and {more} more"
    return " and ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown)
