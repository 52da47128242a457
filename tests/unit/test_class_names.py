"""A model and labelled data meet by the names of their classes, whatever their order."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from edgeseg.cli.tables import print_table
from edgeseg.core.card import Card
from edgeseg.core.errors import DataError, UnknownNameError
from edgeseg.core.modelfile import write_model
from edgeseg.core.spec import ClassSpec, OutputSpec
from edgeseg.data.dataset import fingerprint_dataset, open_dataset, read_case
from edgeseg.evaluation.classes import arrange_dataset, match_classes, parse_renaming
from edgeseg.evaluation.score import pick_cases
from edgeseg.frame.images import write_image
from tests.commands import Fail
from tests.networks import build_network, describe_network


@pytest.mark.parametrize(
    ("wanted", "found", "renamed", "order"),
    [
        (["a", "b"], ["a", "b"], {}, (0, 1)),
        (["a", "b", "c"], ["c", "a", "b"], {}, (1, 2, 0)),
        (["target", "vessel"], ["bloodvessel", "nerve"], {"target": "nerve", "vessel": "bloodvessel"}, (1, 0)),
        (["a", "b"], ["a", "b"], {"a": "b", "b": "a"}, (1, 0)),
        (["lesion"], ["target"], {}, (0,)),
        (["target"], ["lesion"], {}, (0,)),
        (["class_1"], ["lesion"], {}, (0,)),
        (["lesion"], ["nerve"], {"lesion": "nerve"}, (0,)),
    ],
)
def test_names_decide(wanted: list[str], found: list[str], renamed: dict[str, str], order: tuple[int, ...]) -> None:
    assert match_classes(wanted, found, "data", renamed) == order


@pytest.mark.parametrize(
    ("wanted", "found", "renamed"),
    [
        (["target", "vessel"], ["bloodvessel", "nerve"], {}),
        (["target", "vessel"], ["bloodvessel", "nerve"], {"target": "nerve"}),
        (["lesion"], ["nerve"], {}),
        (["lesion"], ["lesion", "nerve"], {}),
        (["lesion", "nerve"], ["lesion"], {}),
        (["lesion"], [], {}),
        (["a", "b"], ["a", "b"], {"a": "b"}),
        (["a", "a"], ["a", "a"], {}),
    ],
)
def test_other_names_are_refused_and_both_lists_shown(
    wanted: list[str], found: list[str], renamed: dict[str, str]
) -> None:
    with pytest.raises(DataError) as caught:
        match_classes(wanted, found, "data", renamed)
    assert f"({', '.join(wanted)})" in caught.value.message
    assert ", ".join(found) in caught.value.message
    assert "--map " in caught.value.hint


def test_what_is_renamed_must_be_a_class_of_the_model() -> None:
    with pytest.raises(UnknownNameError, match="'vesel'"):
        match_classes(["target", "vessel"], ["a", "b"], "data", {"vesel": "a"})


@pytest.mark.parametrize("pairs", [["a"], ["=b"], ["a="], ["a=b", "a=c"], ["a=c", "b=c"], ["a=b=c"], [""]])
def test_pairs_that_say_nothing_are_refused(pairs: list[str]) -> None:
    with pytest.raises(ValueError, match="--map"):
        parse_renaming(pairs)


def make_data(root: Path, *names: str) -> Path:
    """Make two images; the k-th class is marked in the k-th row."""
    for stem in ("x", "y"):
        write_image(root / "images" / f"{stem}.png", np.full((16, 16), 90, np.uint8))
        for row, name in enumerate(names):
            mask = np.zeros((16, 16), np.uint8)
            mask[row] = 255
            write_image(root / f"masks_{name}" / f"{stem}.png", mask)
    return root


def make_card(*names: str) -> Card:
    return dataclasses.replace(describe_network({}), output=OutputSpec(tuple(ClassSpec(name) for name in names)))


def test_masks_come_in_the_models_order(tmp_path: Path) -> None:
    data = make_data(tmp_path, "bloodvessel", "nerve")
    dataset = open_dataset(data)
    picked = pick_cases(make_card("nerve", "bloodvessel"), data, None)
    rows = [int(np.flatnonzero(mask.any(axis=1))[0]) for mask in read_case(picked.cases[0]).masks]
    assert rows == [1, 0]
    assert fingerprint_dataset(arrange_dataset(dataset, make_card("nerve", "bloodvessel").output.classes)) == (
        fingerprint_dataset(dataset)
    )


def test_the_command_takes_names_and_refuses_others(tmp_path: Path, fail: Fail) -> None:
    data = make_data(tmp_path / "data", "nerve")
    write_model(tmp_path / "m.tflite", build_network(), make_card("lesion"))
    code, said = fail("evaluate", tmp_path / "m.tflite", data)
    assert (code, "(lesion)" in said, "--map lesion=nerve" in said) == (1, True, True)
    assert fail("evaluate", tmp_path / "m.tflite", data, "--map", "lesion")[0] == 2
    code, said = fail("evaluate", tmp_path / "m.tflite", data, "--map", "lesion=nerv")
    assert (code, "(nerve)" in said) == (1, True)


def test_a_model_is_saved_under_a_name_that_is_read_as_one(tmp_path: Path, fail: Fail) -> None:
    model, data = tmp_path / "m.tflite", make_data(tmp_path / "data", "nerve")
    write_model(model, build_network(), make_card("nerve"))
    letter = tmp_path / "letter.txt"
    letter.write_text("Dear all")
    for place in (letter, tmp_path / "m.onnx"):
        code, said = fail("evaluate", model, data, "--sensitivity", "0.9", "--save-model", place)
        assert (code, ".tflite" in said) == (2, True)
    assert letter.read_text() == "Dear all"


def test_somebody_elses_file_is_not_replaced_by_a_saved_model(tmp_path: Path, fail: Fail) -> None:
    model, data = tmp_path / "m.tflite", make_data(tmp_path / "data", "nerve")
    write_model(model, build_network(), make_card("nerve"))
    other = tmp_path / "other.tflite"
    other.write_bytes(b"weights of a year")
    code, said = fail("evaluate", model, data, "--sensitivity", "0.9", "--save-model", other)
    assert (code, other.name in said) == (1, True)
    assert other.read_bytes() == b"weights of a year"


@pytest.mark.parametrize("name", ["[/]", "[red]nerve[/red]", "[link=http://x]nerve", "\\[x]"])
def test_a_table_shows_names_with_brackets_as_they_are(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    print_table("Classes", ("", f"told {name}"), [(name, "1")])
    assert capsys.readouterr().out.count(name) == 2
