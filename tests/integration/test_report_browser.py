"""Report pages in a real browser, at the width of a desk and of a phone: nothing overflows, nothing is loaded."""

from __future__ import annotations

import dataclasses
import shutil
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from edgeseg.core import stats
from tests.browsers import CHROMIUM, Browser
from tests.pages import ARABIC, HOSTILE, LONG, copy_run, draw_strange_page, write_page

if TYPE_CHECKING:
    from edgeseg.compression.compress import Outcome

SIZES = {"desktop": (1280, 900), "phone": (390, 844)}
OPEN = "document.querySelectorAll('details').forEach(one => one.open = true)"
OVERFLOW = "document.scrollingElement.scrollWidth - innerWidth"
LEVELS = "[...document.querySelectorAll('h1,h2,h3,h4')].map(one => +one.tagName[1])"
FIRST = "document.querySelector('main').firstElementChild.id"
LOADED = "performance.getEntriesByType('resource').map(one => one.name).filter(name => !name.startsWith('data:'))"
# Names of points whose boxes overlap, as the browser has drawn them.
COVERED = """(() => {
  const boxes = [...document.querySelectorAll('[id^="name-"]')].map(one => one.getBoundingClientRect());
  return boxes.some((a, i) => boxes.some((b, j) =>
    i < j && a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom));
})()"""
# Text that is cut off at the right edge of the page outside of what scrolls by itself.
CUT = """[...document.querySelectorAll('main *')].filter(one => !one.closest('.scroll, pre, svg')
  && one.getBoundingClientRect().right > innerWidth + 1).map(one => one.tagName + one.className)"""

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not on PATH"),
]


def look_at(browser: Browser, page: Path) -> dict[str, Any]:
    """Open a page at both widths, folded and unfolded; gives what must be so at all of them."""
    seen: dict[str, Any] = {}
    for name, size in SIZES.items():
        browser.show(page.as_uri(), size)
        browser.wait_for(f"location.href === {page.as_uri()!r} && document.readyState === 'complete'")
        seen[f"{name} folded"] = browser.ask(OVERFLOW) <= 0
        browser.ask(OPEN)
        seen[f"{name} unfolded"] = browser.ask(OVERFLOW) <= 0
        seen[f"{name} cut"] = browser.ask(CUT) or "nothing"
        seen[f"{name} names"] = browser.ask(COVERED) is False
    levels = browser.ask(LEVELS)
    seen["headings"] = levels[0] == 1 and all(after - before <= 1 for before, after in pairwise(levels))
    seen["first"] = browser.ask(FIRST)
    seen["loaded"] = browser.ask(LOADED)
    seen["complaints"] = browser.complaints
    return seen


GOOD: dict[str, Any] = {
    **{f"{name} {state}": True for name in SIZES for state in ("folded", "unfolded", "names")},
    **{f"{name} cut": "nothing" for name in SIZES},
    "headings": True,
    "first": "verdict",
    "loaded": [],
    "complaints": [],
}


def test_the_page_of_a_compression(browser: Browser, compressed: tuple[Path, Outcome]) -> None:
    assert look_at(browser, compressed[0] / "report.html") == GOOD
    assert browser.ask("document.querySelectorAll('.case img').length") >= 9


def test_the_page_of_a_training(browser: Browser, trained_run: Path, tmp_path: Path) -> None:
    from edgeseg.report.training import write_training_report

    run = copy_run(trained_run, tmp_path)
    write_training_report(run)
    assert look_at(browser, run / "report.html") == GOOD
    assert browser.ask("document.querySelectorAll('.case img').length") >= 8


def test_a_page_without_cases_without_figures_and_without_images(
    browser: Browser, compressed: tuple[Path, Outcome], trained_run: Path, tmp_path: Path
) -> None:
    from edgeseg.report.compression import write_compression_report

    folder, outcome = compressed
    for file in ("float32.tflite", f"{outcome.report.chosen}.tflite"):
        shutil.copy(folder / file, tmp_path)
    write_compression_report(tmp_path, trained_run, dataclasses.replace(outcome, cases=(), tested={}))
    assert look_at(browser, tmp_path / "report.html") == GOOD


@pytest.mark.parametrize(
    ("names", "classes"),
    [
        ([HOSTILE, "ordinary"], [HOSTILE]),
        ([LONG, "b"], [LONG, f"m{LONG[1:]}"]),
        ([ARABIC, f"{ARABIC}/1"], [ARABIC, "vessel"]),
        (["a case"], [f"class {number}" for number in range(127)]),
    ],
    ids=["hostile", "long", "right to left", "127 classes"],
)
def test_strange_names(
    browser: Browser, tmp_path: Path, names: list[str], classes: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # intervals of 127 classes would take seconds, and how wide they are does not matter here
    monkeypatch.setattr(stats, "RANK_RESAMPLES", 20)
    page = write_page(tmp_path, draw_strange_page(names, classes))
    assert look_at(browser, page) == GOOD
    assert browser.ask("window.harmed") is None
    assert browser.ask("document.querySelector('.name').textContent") == names[0]
