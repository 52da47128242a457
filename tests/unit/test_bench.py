"""Times are only worth something with what they were taken under, and only compared like with like."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgeseg.bench.measure import BenchResult, Conditions, describe_host, judge_steadiness
from edgeseg.bench.memory import measure_memory, read_peak_mb
from edgeseg.bench.reference import compare_results, make_reference, read_reference, save_reference
from edgeseg.core.errors import BackendError, EdgesegError
from edgeseg.core.stats import summarise_times
from edgeseg.machine.thermal import Thermal, read_governors
from tests.commands import Fail, assert_says
from tests.networks import save_network

SILENT = Conditions((), (Thermal(None, None), Thermal(None, None)))


def make_result(milliseconds: float, threads: int = 1, sha256: str = "a" * 64, requested: str = "auto") -> BenchResult:
    times = dict.fromkeys(("preprocess", "invoke", "postprocess", "total"), summarise_times([milliseconds]))
    host = describe_host("LiteRT")
    return BenchResult(
        "tiny", "cpu", threads, 1, times, 1.0, 1.0, 50.0, host, requested, None, None, sha256, None, SILENT
    )


def change(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | changes), encoding="utf-8")


def test_drift_is_told_and_noise_is_not() -> None:
    even = judge_steadiness([1.0, 1.02] * 30)
    rising = judge_steadiness([1.0 + 0.01 * number for number in range(60)])
    assert even is not None
    assert even.steady
    assert rising is not None
    assert (rising.steady, rising.ratio > 1.3) == (False, True)
    assert f"{rising.ratio:.2f}" in rising.describe()


def test_few_runs_say_nothing_about_drift() -> None:
    assert judge_steadiness([1.0, 9.0] * 10) is None


def test_conditions_in_a_sentence() -> None:
    hot = Conditions(("powersave",), (Thermal(45.0, False), Thermal(81.0, True)))
    assert_says(hot.describe(), "powersave", "45 to 81", "clock")
    assert "clock" not in SILENT.describe()
    assert "temperature" in SILENT.describe()


def test_governors_are_listed_once(tmp_path: Path) -> None:
    for number, name in enumerate(("schedutil", "powersave", "schedutil")):
        folder = tmp_path / f"sys/devices/system/cpu/cpu{number}/cpufreq"
        folder.mkdir(parents=True)
        (folder / "scaling_governor").write_text(f"{name}\n", encoding="utf-8")
    assert read_governors(tmp_path) == ("powersave", "schedutil")
    assert read_governors(tmp_path / "sys") == ()


def test_peak_of_memory_is_read_or_refused(tmp_path: Path) -> None:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/status").write_text("VmPeak:\t 9999 kB\nVmHWM:\t   70656 kB\n", encoding="utf-8")
    assert read_peak_mb(root=tmp_path) == 69.0
    with pytest.raises(BackendError, match="VmHWM"):
        read_peak_mb(1, tmp_path)


def test_reference_holds_what_is_within_the_tolerance(tmp_path: Path) -> None:
    save_reference(tmp_path / "r.json", [make_result(2.0), make_result(1.0, threads=2)])
    reference = read_reference(tmp_path / "r.json")
    now = [make_result(2.19), make_result(1.2, threads=2)]
    assert [row.slower for row in compare_results(now, reference, 0.1)] == [False, True]
    assert not compare_results([make_result(0.5)], reference, 0.0)[0].slower


@pytest.mark.parametrize("other", [{"threads": 4}, {"sha256": "b" * 64}, {"requested": "gpu:float16"}])
def test_only_like_is_compared_with_like(other: dict[str, Any]) -> None:
    reference = make_reference([make_result(2.0)])
    with pytest.raises(EdgesegError, match="tiny"):
        compare_results([make_result(2.0, **other)], reference, 0.1)


def test_times_of_nothing_are_no_reference(tmp_path: Path) -> None:
    save_reference(tmp_path / "r.json", [make_result(0.0)])
    with pytest.raises(EdgesegError, match="above 0"):
        compare_results([make_result(1.0)], read_reference(tmp_path / "r.json"), 0.1)


def test_memory_of_another_file_than_the_one_that_was_timed_is_refused(tmp_path: Path) -> None:
    path = save_network(tmp_path / "tiny.tflite").path
    with pytest.raises(BackendError, match=r"tiny.tflite"):
        measure_memory(path, "cpu", 1, "0" * 64)


@pytest.mark.parametrize("change_to", [{"board": "coral-dev"}, {"host": {"machine": "riscv64", "cpu": "other"}}])
def test_reference_of_another_machine_is_refused(tmp_path: Path, change_to: dict[str, Any]) -> None:
    save_reference(tmp_path / "r.json", [make_result(2.0)])
    change(tmp_path / "r.json", **change_to)
    with pytest.raises(EdgesegError, match="this machine"):
        read_reference(tmp_path / "r.json")


def test_what_is_no_reference_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    with pytest.raises(EdgesegError, match=r"r.json"):
        read_reference(path)
    for damaged in (b"\xff{", b"[" * 100_000, b'{"schema": NaN}', b"9" * 10_000, b"[]"):
        path.write_bytes(damaged)
        with pytest.raises(EdgesegError, match="edgeseg bench"):
            read_reference(path)
    save_reference(path, [make_result(2.0)])
    change(path, schema=2)
    with pytest.raises(EdgesegError, match="of schema 1"):
        read_reference(path)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--threads", "1,none"), "with commas"),
        (("--threads", "0"), "with commas"),
        (("--parity", "--save", "r.json"), "--save without --parity"),
        (("--save", "r.json", "--against", "r.json"), "--save"),
    ],
)
def test_wrong_usage(fail: Fail, options: tuple[str, ...], said: str) -> None:
    code, stderr = fail("bench", "model.tflite", *options)
    assert (code, said in stderr) == (2, True), stderr
