"""The doctor as a whole: what it says when all is well, what it tells beside faults, and the command."""

from __future__ import annotations

import json
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from edgeseg.cli.doctor import doctor
from edgeseg.doctor import Check, accelerators, judge_checks, profile, system
from edgeseg.doctor import packages as package_checks
from edgeseg.doctor.run import run_checks
from edgeseg.machine.boards import load_board
from edgeseg.machine.host import Machine, describe_error
from tests.boards import write_program
from tests.commands import assert_says
from tests.doctors import (
    CUDA_PACKAGES,
    FIRMWARE,
    GOVERNOR,
    ZONE,
    Spoil,
    answer_as_camera,
    both,
    describe_machine,
    facts,
    fake_import,
    file,
    nvidia,
    pci_card,
    put,
    usb_stick,
)

app = typer.Typer(pretty_exceptions_enable=False)
app.command()(doctor)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return describe_machine(tmp_path)


def test_healthy_board(machine: Machine) -> None:
    checks = run_checks(machine, load_board("generic-aarch64"))
    assert [check for check in checks if check.state != "ok" or check.fix] == []
    assert all(fact in checks[0].detail for fact in ("Made-up Board 3", "generic-aarch64"))


def test_empty_root_never_crashes(tmp_path: Path) -> None:
    bare = Machine(root=tmp_path / "nothing", import_module=fake_import(missing=("numpy", "cv2", "ai_edge_litert")))
    checks = run_checks(bare, load_board("generic-x86_64"))
    assert all(check.detail.endswith(".") for check in checks)
    assert all(bool(check.fix) == (check.state != "ok") for check in checks)


def test_hottest_sensor_counts(machine: Machine) -> None:
    put(machine, ZONE.replace("zone0", "zone1"), "81500\n")
    put(machine, ZONE.replace("zone0", "zone2"), "not a number\n")
    assert "of 2 sensors: 82" in system.check_temperature(machine).detail


def test_opencv_build_is_told(machine: Machine) -> None:
    packages = fake_import(gui="GTK3", gst="YES (1.22.0)")
    check = package_checks.check_opencv(replace(machine, import_module=packages))
    assert_says(check.detail, "4.14.0", "with windows", "with GStreamer")


def test_xnnpack_is_proved_here() -> None:
    assert package_checks.check_xnnpack(Machine()).state == "ok"


@pytest.mark.parametrize("identity", sorted(accelerators.USB_IDS))
def test_edgetpu_on_usb(machine: Machine, identity: str) -> None:
    machine = both(usb_stick(identity), file("opt/libedgetpu.so.1", ""))(machine)
    check = accelerators.check_edgetpu(replace(machine, library_folders=(str(machine.root / "opt"),)))
    assert check == Check("edge tpu", "ok", "An Edge TPU on USB, libedgetpu.so.1 found.")


def test_edgetpu_on_pci_with_its_driver(machine: Machine) -> None:
    pci_card(machine)
    put(machine, "etc/ld.so.cache", "ld.so-1.7.0\0libedgetpu.so.1\0/usr/lib/libedgetpu.so.1\0")
    put(machine, "dev/apex_0", "")
    assert accelerators.check_edgetpu(machine).detail == "An Edge TPU on PCI, libedgetpu.so.1 found."


def test_edgetpu_that_is_closed_to_this_user(machine: Machine) -> None:
    outsider = replace(machine, can_write=lambda _path: False)
    assert accelerators.check_edgetpu_rights(outsider).state == "ok"
    usb_stick()(machine)
    assert "/dev/bus/usb/001/007" in accelerators.check_edgetpu_rights(outsider).detail


def test_libedgetpu_that_was_built_for_this_runtime(machine: Machine) -> None:
    put(machine, "var/lib/dpkg/status", "Package: libedgetpu1-std\nVersion: 16.0tf2.19.1\n")
    assert accelerators.check_edgetpu_pair(machine).state == "ok"


def test_large_pages_matter_to_the_pci_driver_only(machine: Machine) -> None:
    assert accelerators.check_page_size(replace(machine, page_size=16384)).state == "ok"


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (nvidia(installed={}), "nothing trains here"),
        (facts(find_version=lambda name: CUDA_PACKAGES.get(name, "")), "training uses the CPU"),
        (nvidia("NVIDIA L4, 580.1\nNVIDIA L4, 580.1\n", gpus=["NVIDIA L4"]), "trains on 1 of 2: NVIDIA L4, driver 580"),
    ],
)
def test_training_gpu_is_told_and_no_fault_without_one(machine: Machine, spoil: Spoil, words: str) -> None:
    check = accelerators.check_training_gpu(spoil(machine))
    assert (check.state, check.fix) == ("ok", "")
    assert words in check.detail


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ("exec sleep 60", "nvidia-smi gave no answer within 0 seconds"),
        ("sleep 60 & wait", "nvidia-smi gave no answer within 0 seconds"),
        ("printf '\\377\\376 garbage'", "lists no GPU: \ufffd\ufffd garbage"),
        ("echo broken >&2; exit 3", "nvidia-smi failed, but its process ended with code 3: broken"),
        ("exec 1>&-", "lists no GPU"),
        ("kill -9 $$", "ended by SIGKILL"),
    ],
)
def test_nvidia_smi_that_misbehaves_is_a_sentence(
    machine: Machine, tmp_path: Path, lines: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_program(tmp_path / "nvidia-smi", f"#!/bin/sh\n{lines}\n")
    monkeypatch.setattr(accelerators, "LIMIT_S", 0.3)
    here = replace(
        machine,
        find_version=lambda name: CUDA_PACKAGES.get(name, ""),
        find_program=lambda name: str(tmp_path / name),
    )
    started = time.monotonic()
    check = accelerators.check_training_gpu(here)
    assert time.monotonic() - started < 20
    assert check.state == "warning"
    assert words in check.detail


@pytest.mark.integration
def test_tensorflow_of_this_machine_answers_in_a_process_of_its_own(machine: Machine) -> None:
    here = nvidia(visible=None)(machine)
    check = accelerators.check_training_gpu(replace(here, run_program=ask_for_real(here)))
    assert "TensorFlow 2." in check.detail
    assert "cannot be read" not in check.detail


def ask_for_real(machine: Machine) -> Callable[[Sequence[str], float], subprocess.CompletedProcess[bytes]]:
    """Let nvidia-smi be a fake, and TensorFlow the one that is installed."""

    def run(command: Sequence[str], seconds: float) -> subprocess.CompletedProcess[bytes]:
        return (machine if command[0].endswith("nvidia-smi") else Machine()).run_program(command, seconds)

    return run


@pytest.mark.parametrize(
    ("bits", "slowed", "supply"),
    [
        ("0", "ok", "ok"),
        ("4", "warning", "ok"),
        ("50005", "warning", "problem"),
        ("0x10000", "ok", "warning"),
        ("80000", "warning", "ok"),
    ],
)
def test_raspberry_pi_tells_heat_and_power(machine: Machine, bits: str, slowed: str, supply: str) -> None:
    put(machine, FIRMWARE, bits + "\n")
    assert (system.check_throttling(machine).state, system.check_supply(machine).state) == (slowed, supply)


def test_cores_that_are_not_listed_are_not_off(machine: Machine) -> None:
    put(machine, "sys/devices/system/cpu/present", "0-3\n")
    assert system.check_cores(machine).state == "ok"


def test_port_in_use() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        assert not Machine().is_port_free(server.getsockname()[1])


def test_camera_formats(machine: Machine) -> None:
    webcam = replace(machine, control_device=answer_as_camera("MJPG", "YUYV"))
    check = profile.check_camera_formats(webcam)
    assert (check.state, check.detail) == ("ok", "/dev/video0 Made-up Cam: MJPG, YUYV.")
    assert profile.check_camera_formats(machine).state == "ok"  # a plain file is no video device


def test_gpu_is_tried_only_where_vulkan_is(machine: Machine) -> None:
    assert accelerators.check_gpu_backend(machine).detail.split()[0:3] == ["Not", "usable:", "libvulkan.so.1"]


def test_cpu_backend_works_here() -> None:
    assert accelerators.check_cpu_backend(Machine()).state == "ok"


def test_onnx_is_no_fault_when_absent(machine: Machine) -> None:
    assert accelerators.check_onnx_backend(machine).state == "ok"


def test_what_is_plugged_in_is_named_beside_the_board(machine: Machine) -> None:
    usb_stick()(machine)
    put(machine, "proc/device-tree/model", "Raspberry Pi 4 Model B Rev 1.4\0")
    assert_says(system.check_board(machine).detail, "raspberry-pi-4", "coral-usb")


def test_errors_lose_folders_and_keep_the_first_cause() -> None:
    error = ImportError("IMPORTANT: read this")
    error.__cause__ = OSError(f"libx.so: refused\n by '/data/alice/venv/libx.so' ({Path.home()}/y.py)")
    assert describe_error(error) == "libx.so: refused by 'libx.so' (~/y.py)"


def test_worst_state_decides() -> None:
    fine, poor, bad = Check("a", "ok", "."), Check("b", "warning", ".", "x"), Check("c", "problem", ".", "x")
    assert [judge_checks(checks) for checks in ([fine], [fine, poor], [bad, poor])] == ["ok", "warnings", "problems"]


def test_command_prints_fixes_and_exits_3(machine: Machine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("edgeseg.machine.host.Machine", lambda: replace(machine, python=(3, 9)))
    result = CliRunner().invoke(app, ["--device", "generic-aarch64", "--json", str(tmp_path / "out.json")])
    assert result.exit_code == 3
    assert_says(result.output, "3.10 to 3.13", "2 problems")
    report = json.loads((tmp_path / "out.json").read_text())
    assert (report["verdict"], report["board"]) == ("problems", "generic-aarch64")
    assert all(set(check) == {"name", "state", "detail", "fix"} for check in report["checks"])


def test_command_exits_0_with_warnings(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    put(machine, GOVERNOR, "ondemand\n")
    monkeypatch.setattr("edgeseg.machine.host.Machine", lambda: machine)
    result = CliRunner().invoke(app, [])
    assert "governor" in result.output
    assert result.exit_code == 0


def test_starts_where_numpy_and_opencv_do_not() -> None:
    block = "import sys; sys.modules.update(numpy=None, cv2=None)\n"
    script = f"{block}from edgeseg.doctor.run import run_checks\nfrom edgeseg.machine.host import Machine\n"
    run = subprocess.run(
        [sys.executable, "-c", f"{script}print([c.name for c in run_checks(Machine()) if c.state == 'problem'])"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "numpy" in run.stdout
    assert "opencv" in run.stdout


def test_a_visit_costs_less_than_three_seconds_of_processor(tmp_path: Path) -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "edgeseg", "doctor", "--json", str(tmp_path / "out.json")]
    run = subprocess.run(command, capture_output=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert run.returncode in (0, 3)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 3.0
