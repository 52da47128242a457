"""Tables become dataclasses, or a sentence says which field does not fit."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from edgeseg.core.schema import SchemaError, from_plain, to_plain


@dataclass(frozen=True)
class Inner:
    size: tuple[int, int]
    name: str = "x"


@dataclass(frozen=True)
class Outer:
    rate: float
    inner: Inner
    many: tuple[Inner, ...] = ()
    maybe: Inner | None = None
    numbers: tuple[float, ...] = ()
    notes: dict[str, str] = field(default_factory=dict)


PLAIN = {"rate": 1, "inner": {"size": [2, 3]}, "many": [{"size": [4, 5], "name": "y"}], "notes": {"a": "b"}}


def test_round_trip() -> None:
    value = from_plain(Outer, PLAIN)
    assert value == Outer(1.0, Inner((2, 3)), (Inner((4, 5), "y"),), None, (), {"a": "b"})
    assert from_plain(Outer, to_plain(value)) == value


@pytest.mark.parametrize("numbers", [[], [0.5, 1.5], [1, 0.5], [1, 2]])
def test_lists_of_numbers_become_floats(numbers: list[float]) -> None:
    found = from_plain(Outer, PLAIN | {"numbers": numbers}).numbers
    assert found == tuple(numbers)
    assert all(type(number) is float for number in found)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"rate": "fast"}, "float.*rate.*'fast'"),
        ({"rate": True}, "float.*rate.*True"),
        ({"inner": {}}, "inner.size"),
        ({"inner": {"size": [1]}}, "2 values.*inner.size.* 1"),
        ({"inner": {"size": [1, "b"]}}, r"int.*inner.size\[1\].*'b'"),
        ({"inner": 5}, "table.*inner.*5"),
        ({"many": {}}, "list.*many"),
        ({"numbers": [0.5, True]}, r"float.*numbers\[1\].*True"),
        ({"epochs": 5}, "epochs"),
    ],
)
def test_misfits_name_the_field(change: dict[str, object], sentence: str) -> None:
    with pytest.raises(SchemaError, match=sentence):
        from_plain(Outer, PLAIN | change)
