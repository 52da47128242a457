"""Compiling for the Edge TPU, against a fake compiler that says what the real one is documented to say."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgeseg.cli.app import main
from edgeseg.convert.package import build_card
from edgeseg.core.card import Card, Provenance, SplitSpec
from edgeseg.core.modelfile import GoldenPair, read_model, write_model
from edgeseg.core.spec import ClassSpec, InputSpec, OutputSpec
from tests.commands import assert_says
from tests.flatfiles import Spot, Step, build_flatbuffer

pytestmark = pytest.mark.integration

FAKE = Path(__file__).resolve().parents[1] / "fakes" / "edgetpu_compiler.py"
SIDE = 32
PROVENANCE = Provenance("f" * 64, SplitSpec(0, 0.15, 0.2), 0, "int8-ptq", "nano", "0.1.0", {"numpy": "2"})
ENDS = (InputSpec(SIDE, SIDE), OutputSpec((ClassSpec("target"),)))
Export = Callable[..., tuple[int, str, str]]


def build_steps(*names: str, side: int = SIDE) -> bytes:
    """Build a file of operators one after another."""
    spots = [Spot((1, side, side, 1), scale=(1 / 256,), zero_point=-128) for _ in range(len(names) + 1)]
    steps = [Step(name, [number], [number + 1], version=2) for number, name in enumerate(names)]
    return build_flatbuffer(spots, steps, [0], [len(names)])


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "int8.tflite"
    flatbuffer = build_steps("RELU6", "LOGISTIC")
    tensor = np.zeros((1, SIDE, SIDE, 1), np.int8)
    write_model(path, flatbuffer, build_card(flatbuffer, "test", ENDS, PROVENANCE), (GoldenPair(tensor, tensor + 1),))
    return path


@pytest.fixture
def fake(tmp_path: Path) -> Callable[..., Path]:
    """Give a function that makes a fake compiler of a behaviour."""

    def make(behaviour: str, side: int = SIDE) -> Path:
        compiled = tmp_path / "compiled.bin"
        compiled.write_bytes(build_steps("edgetpu-custom-op", side=side))
        path = tmp_path / "bin" / "edgetpu_compiler"
        path.parent.mkdir()
        path.write_text(
            f'#!/bin/sh\nexec "{sys.executable}" "{FAKE}" {behaviour} "{compiled}" "$@"\n', encoding="utf-8"
        )
        path.chmod(0o755)
        return path

    return make


@pytest.fixture
def export(model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Export:
    """Give a function that exports the model; gives the exit code, stdout and stderr."""

    def run(*options: str | Path, to: str = "edgetpu") -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["edgeseg", "export", str(model), "--to", to, *map(str, options)])
        with pytest.raises(SystemExit) as caught:
            main()
        said = capsys.readouterr()
        return int(caught.value.code or 0), said.out, said.err

    return run


def list_leftovers(model: Path) -> list[str]:
    """List what stands beside the model, but for what the fixtures made."""
    return sorted(path.name for path in model.parent.iterdir() if path.name not in ("bin", "compiled.bin", model.name))


def test_card_and_golden_pairs_travel_on(export: Export, fake: Callable[..., Path], model: Path) -> None:
    code, said, _ = export("--compiler", fake("success"))
    assert code == 0
    assert_says(said, "2 of 2 operators", "12 operators", "0 on the CPU", "parts: 1")
    before, after = read_model(model), read_model(model.with_name("int8_edgetpu.tflite"))
    assert np.array_equal(after.golden[0].output, before.golden[0].output)
    assert after.card.lint["cpu"].startswith("edgetpu-custom-op ")
    assert after.card.lint["edgetpu"] == "ok"
    assert after.card.provenance.libraries["edgetpu_compiler"] == "16.0.384591198"
    assert (after.card.name, after.card.input, after.card.macs) == ("test-edgetpu", before.card.input, before.card.macs)
    report = json.loads(model.with_name("int8_edgetpu.json").read_text(encoding="utf-8"))
    assert (report["log"]["on_chip_bytes"], report["log"]["on_chip_free_bytes"]) == (434 * 1024, round(7.14 * 2**20))
    assert list_leftovers(model) == ["int8_edgetpu.json", "int8_edgetpu.tflite"]


def test_compiler_is_found_on_path(
    export: Export, fake: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(fake("success").parent))
    code, _, err = export("--out", tmp_path / "chip.tflite", "--json", tmp_path / "report.json")
    assert (code, err) == (0, "")
    assert read_model(tmp_path / "chip.tflite").card.name == "test-edgetpu"
    assert json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))["file"] == "chip.tflite"


def test_what_stays_off_the_chip_is_explained(export: Export, fake: Callable[..., Path]) -> None:
    code, said, _ = export("--compiler", fake("partial"))
    assert code == 0
    assert_says(said, "9 operators", "3 on the CPU", "1 RESIZE_BILINEAR on the CPU", "2 ADD on the CPU")


@pytest.mark.parametrize(
    ("behaviour", "reason", "advice"),
    [
        ("float", "float", "int8 recipe"),
        ("version", "opcode 'TRANSPOSE_CONV' version '4'", "edgeseg inspect"),
        ("large", "chip", "smaller --size"),
        ("silent", '"Compilation failed!"', "--size"),
        ("crash", "signal 6", "smaller --size"),
        ("half", "damaged", "disk"),
        (
            "none",
            "12 on the CPU",
            "CONV_2D",
        ),
    ],
)
def test_refusals_are_explained_and_leave_nothing(
    export: Export, fake: Callable[..., Path], model: Path, behaviour: str, reason: str, advice: str
) -> None:
    code, _, err = export("--compiler", fake(behaviour))
    assert (code, "Traceback" in err) == (1, False)
    assert err.startswith("edgeseg: Expected")
    assert reason in err
    assert advice in err
    assert list_leftovers(model) == []


def test_what_was_there_before_stays_when_the_compiler_fails(
    export: Export, fake: Callable[..., Path], tmp_path: Path
) -> None:
    old = tmp_path / "old.tflite"
    old.write_bytes(b"precious")
    assert export("--compiler", fake("half"), "--out", old)[0] == 1
    assert old.read_bytes() == b"precious"


def list_processes(argument: str) -> list[str]:
    """List the running programs that were started with an argument."""
    commands = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            commands.append(path.read_text(encoding="utf-8", errors="replace"))
    return [command for command in commands if argument in command]


def test_compiler_that_hangs_is_ended_with_what_it_started(
    export: Export, fake: Callable[..., Path], tmp_path: Path
) -> None:
    code, _, err = export("--compiler", fake("hang"), "--timeout", "2")
    assert (code, "within 2 s" in err) == (1, True)
    deadline = time.monotonic() + 30
    while list_processes(str(tmp_path / "compiled.bin")):
        assert time.monotonic() < deadline


def test_compiled_model_with_other_ends_is_refused(export: Export, fake: Callable[..., Path]) -> None:
    code, _, err = export("--compiler", fake("success", side=16))
    assert (code, "got int8 [1, 16, 16, 1] and int8 [1, 16, 16, 1]" in err) == (1, True)


def test_without_a_compiler_the_rules_are_told_and_how_to_get_one(
    export: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    code, said, err = export()
    assert (code, "2 of 2 operators mapped" in said) == (1, True)
    assert "Expected the Edge TPU compiler edgetpu_compiler on PATH, got none" in err
    assert "https://coral.ai/docs/edgetpu/compiler/" in err
    (tmp_path / "broken").write_bytes(b"\x7fELF no program")
    (tmp_path / "broken").chmod(0o755)
    code, _, err = export("--compiler", tmp_path / "broken")
    assert (code, "Exec format error" in err) == (1, True)


def test_wrong_usage(export: Export, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    code, _, err = export(to="moon")
    assert (code, "--to" in err and "edgetpu" in err) == (2, True)
    code, _, err = export("--out", model)
    assert (code, "another place" in err) == (2, True)


def test_no_tensorflow_is_needed(model: Path, fake: Callable[..., Path]) -> None:
    heavy = "[name for name in ('tensorflow', 'tf_keras') if name in sys.modules]"
    command = ["export", str(model), "--to", "edgetpu", "--compiler", str(fake("success"))]
    code = f"import sys; from edgeseg.cli.app import app; app({command!r}, standalone_mode=False); print({heavy})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_inspect_tells_rule_and_cure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path, flatbuffer = tmp_path / "swish.tflite", build_steps("RELU6", "ABS", "LOGISTIC")
    card: Card = build_card(flatbuffer, "swish", ENDS, PROVENANCE)
    write_model(path, flatbuffer, card)
    monkeypatch.setattr("sys.argv", ["edgeseg", "inspect", str(path), "--times", "--json", str(tmp_path / "i.json")])
    with pytest.raises(SystemExit):
        main()
    said = capsys.readouterr().out
    assert_says(said, "1 of 3 operators", "ABS (not mapped)")
    table = json.loads((tmp_path / "i.json").read_text(encoding="utf-8"))
    assert table["operator_times"]
    assert [finding["verdict"] for finding in table["lint"]["edgetpu"]] == ["mapped", "not mapped", "not mapped"]
