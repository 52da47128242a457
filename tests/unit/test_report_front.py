"""The picture of a compression joins what no file beats."""

from __future__ import annotations

import dataclasses

from edgeseg.core.stats import Estimate
from edgeseg.report.plots import draw_front, find_front
from tests.unit.test_gate import make_variant

FILES = [
    dataclasses.replace(make_variant(name, ms, 0.0), dice=Estimate(dice, dice, (dice - 0.02, dice + 0.02)))
    for name, ms, dice in [("best", 3.0, 0.9), ("beaten", 2.0, 0.7), ("quick", 1.0, 0.8)]
]


def test_files_that_no_other_beats_are_joined() -> None:
    assert [variant.name for variant in find_front(FILES)] == ["quick", "best"]
    assert 'id="front"' in draw_front(FILES, "quick")
