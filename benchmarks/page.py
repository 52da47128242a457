"""One page that draws all published results: every table, its figures as bars with their intervals, and its pictures.

    python benchmarks/page.py OUT.html [--results FOLDER]

The tables are those of benchmarks/results/*.md. A column whose cells are figures is drawn within its cells, on an axis
from zero to the column's largest value; what stands in brackets behind a figure is its interval. The page needs no
network: everything is in the one file.
"""

from __future__ import annotations

import argparse
import base64
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from markdown_it import MarkdownIt

from edgeseg.core.files import write_text
from edgeseg.frame.images import ACCENT, FAINT, INK

RESULTS = Path(__file__).parent / "results"
# Width and height of a drawn cell in pixels, and the share of a column's cells that must be figures.
WIDTH, HEIGHT, FIGURES = 120, 14, 0.5
_NUMBER = r"[-+]?\d[\d,]*(?:\.\d+)?"
_CELL = re.compile(rf"^({_NUMBER})(%?)(?:\s*\(({_NUMBER})%? to ({_NUMBER})%?\))?\s*(ms|s|MB|min|px|x)?$")
_STYLE = f"""
body {{ font: 15px/1.5 system-ui, sans-serif; color: {INK}; margin: 0 auto; max-width: 75rem; padding: 1rem; }}
table {{ border-collapse: collapse; display: block; overflow-x: auto; }}
td, th {{ border-bottom: 1px solid #e5e7eb; padding: .2rem .6rem; text-align: left; vertical-align: top; }}
nav {{ columns: 4 14rem; }}
section {{ border-top: 2px solid {ACCENT}; margin-top: 2.5rem; }}
svg {{ display: block; }}
img {{ max-width: 100%; }}
"""


@dataclass(frozen=True)
class Figure:
    """A cell that holds a figure, and the interval in its brackets."""

    value: float
    unit: str
    low: float | None = None
    high: float | None = None

    @property
    def largest(self) -> float:
        """The farthest that must be drawn."""
        return max(abs(self.value), abs(self.low or 0.0), abs(self.high or 0.0))


def read_figure(cell: str) -> Figure | None:
    """Read a cell such as 0.72 (0.69 to 0.75), 12% or 1,234; None for words."""
    found = _CELL.match(cell.strip())
    if found is None:
        return None
    value, percent, low, high, unit = found.groups()
    ends = [None if end is None else float(end.replace(",", "")) for end in (low, high)]
    return Figure(float(value.replace(",", "")), percent or unit or "", *ends)


def draw_figure(figure: Figure, most: float, negative: bool) -> str:
    """Draw one figure as a bar from zero, with a line for its interval."""
    zero, unit = (WIDTH / 2, WIDTH / 2 / most) if negative else (0.0, WIDTH / most)
    end = zero + figure.value * unit
    bar = f'<rect x="{min(zero, end):.1f}" y="2" width="{abs(end - zero):.1f}" height="{HEIGHT - 4}" fill="{ACCENT}"/>'
    line = ""
    if figure.low is not None and figure.high is not None:
        left, right = zero + figure.low * unit, zero + figure.high * unit
        line = f'<path d="M{left:.1f} {HEIGHT / 2}H{right:.1f}" stroke="{INK}" stroke-width="2"/>'
    axis = f'<path d="M{zero:.1f} 0V{HEIGHT}" stroke="{FAINT}"/>'
    return f'<svg width="{WIDTH}" height="{HEIGHT}" aria-hidden="true"><g opacity=".75">{bar}</g>{line}{axis}</svg>'


def draw_columns(rows: Sequence[Sequence[str]]) -> list[list[str]]:
    """Draw the cells of all columns that hold figures; the other cells stay empty."""
    drawn = [[""] * len(row) for row in rows]
    for number in range(1, max(map(len, rows), default=0)):
        figures = {place: read_figure(row[number]) for place, row in enumerate(rows) if number < len(row)}
        filled = [place for place in figures if rows[place][number].strip()]
        known = {place: figure for place, figure in figures.items() if figure is not None}
        most = max((figure.largest for figure in known.values()), default=0.0)
        # figures of different units have no common axis
        alike = len({figure.unit for figure in known.values()}) == 1
        if not most or not alike or len(known) < 2 or len(known) < FIGURES * len(filled):
            continue
        negative = any(min(figure.value, figure.low or 0.0) < 0 for figure in known.values())
        for place, figure in known.items():
            drawn[place][number] = draw_figure(figure, most, negative)
    return drawn


def split_blocks(text: str) -> Iterator[tuple[bool, list[str]]]:
    """Split Markdown into tables and what is between them."""
    block: list[str] = []
    inside = False
    for line in text.splitlines():
        if line.startswith("|") != inside:
            if block:
                yield inside, block
            block, inside = [], not inside
        block.append(line)
    if block:
        yield inside, block


def read_cells(line: str) -> list[str]:
    """Split a line of a table into its cells."""
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def render_table(lines: Sequence[str], markdown: MarkdownIt) -> str:
    """Render a table with its drawn cells."""
    header, rows = read_cells(lines[0]), [read_cells(line) for line in lines[2:]]
    # every row of a table with few columns is a figure of its own: then rows are what compares
    across = len(header) > 2 and header[0] == "figure"
    turned = [list(column) for column in zip(*rows, strict=True)] if across else rows
    drawn = draw_columns([["", *row] for row in turned[1:]] if across else turned)
    if across:
        cells = [list(column) for column in zip(*[row[1:] for row in drawn], strict=True)]
        drawn = [["", *row] for row in cells]
    body = [
        "".join(f"<td>{markdown.renderInline(cell)}{mark}</td>" for cell, mark in zip(row, marks, strict=True))
        for row, marks in zip(rows, drawn, strict=True)
    ]
    head = "".join(f"<th>{markdown.renderInline(cell)}</th>" for cell in header)
    return f"<table><tr>{head}</tr>" + "".join(f"<tr>{row}</tr>" for row in body) + "</table>"


def embed_pictures(html: str, folder: Path) -> str:
    """Put the pictures that lie beside the results into the page."""

    def embed(found: re.Match[str]) -> str:
        path = folder / found.group(1)
        if path.parent != folder or not path.is_file():
            return found.group()
        return f'src="data:image/png;base64,{base64.b64encode(path.read_bytes()).decode("ascii")}"'

    return re.sub(r'src="([^"]+\.png)"', embed, html)


def keep_links_inside(html: str, folder: Path) -> str:
    """Let links to other results lead to their sections; of all others the words stay: the page stands alone."""

    def lead(found: re.Match[str]) -> str:
        target, words = found.groups()
        known = target.endswith(".md") and (folder / target).parent == folder and (folder / target).is_file()
        return f'<a href="#{escape(target[:-3])}">{words}</a>' if known else words

    return re.sub(r'<a href="([^"#]*)(?:#[^"]*)?">(.*?)</a>', lead, html, flags=re.DOTALL)


def render_result(path: Path, markdown: MarkdownIt) -> tuple[str, str]:
    """Render one result; returns its title and its section."""
    text = path.read_text(encoding="utf-8")
    title = text.partition("\n")[0].lstrip("# ")
    if path.with_suffix(".png").is_file() and f"({path.stem}.png)" not in text:
        text += f"\n![{title}]({path.stem}.png)\n"
    parts = [
        render_table(lines, markdown) if table and len(lines) > 2 else markdown.render("\n".join(lines))
        for table, lines in split_blocks(text)
    ]
    html = keep_links_inside("".join(parts), path.parent)
    return title, embed_pictures(f'<section id="{escape(path.stem)}">{html}</section>', path.parent)


def render_results(folder: Path) -> str:
    """Render all results of a folder as one page."""
    markdown = MarkdownIt("commonmark", {"html": False})
    results = [(path.stem, *render_result(path, markdown)) for path in sorted(folder.glob("*.md"))]
    links = "".join(f'<a href="#{escape(name)}">{escape(title)}</a><br>' for name, title, _ in results)
    body = "".join(section for _, _, section in results)
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>edgeseg: benchmarks</title>'
        f"<style>{_STYLE}</style><h1>Benchmarks</h1><nav>{links}</nav>{body}</html>\n"
    )


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--results", type=Path, default=RESULTS, help="another folder of results")
    chosen = parser.parse_args()
    chosen.out.absolute().parent.mkdir(parents=True, exist_ok=True)
    write_text(chosen.out, render_results(chosen.results))
    print(chosen.out)


if __name__ == "__main__":
    main()
