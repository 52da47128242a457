"""The gate judges the bad end of the interval, and the choice falls on the fastest file that is admitted."""

from __future__ import annotations

import pytest

from edgeseg.compress.gate import Gate, choose_variant, explain_gate
from edgeseg.compress.variant import Variant
from edgeseg.core.stats import Estimate, Percentiles


def make_variant(name: str, ms: float, drop: float, spread: float = 0.001, validation: float = 0.9) -> Variant:
    return Variant(
        name=name,
        file=f"{name}.tflite",
        bytes=1000,
        gzip_bytes=900,
        params=10,
        macs=10,
        sparsity=0.0,
        dice=Estimate(0.9, 0.9, (0.88, 0.92)),
        dice_drop=Estimate(drop, drop, (drop - spread, drop + spread)),
        validation_dice=validation,
        latency_ms=Percentiles(ms, ms, ms, ms * 1.2, ms, 0.0),
        lint={},
    )


def test_fastest_admitted_file_is_chosen() -> None:
    variants = [make_variant("slow", 3.0, 0.0), make_variant("fast", 1.0, 0.002), make_variant("wrong", 0.5, 0.2)]
    chosen, held = choose_variant(variants, Gate(max_drop=0.01))
    assert (chosen.name, held) == ("fast", True)


def test_between_equally_fast_files_validation_decides() -> None:
    variants = [make_variant("a", 1.00, 0.0, validation=0.90), make_variant("b", 1.05, 0.0, validation=0.91)]
    assert choose_variant(variants, Gate())[0].name == "b"


def test_bad_end_of_the_interval_counts() -> None:
    variants = [make_variant("a", 1.0, 0.005, spread=0.02)]
    chosen, held = choose_variant(variants, Gate(max_drop=0.01))
    assert not held
    assert "loses 0.0050 (up to 0.0250)" in explain_gate(chosen, Gate(max_drop=0.01))


def test_budget_is_held_by_the_slow_frames_too() -> None:
    gate = Gate(budget_ms=1.1)
    chosen, held = choose_variant([make_variant("a", 1.0, 0.0)], gate)
    assert not held
    assert "needs 1.20 ms" in explain_gate(chosen, gate)


@pytest.mark.parametrize("values", [{"max_drop": -0.1}, {"max_drop": 2.0}, {"budget_ms": 0.0}])
def test_impossible_gates_are_refused(values: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="expected --"):
        Gate(**values)
