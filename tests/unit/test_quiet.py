"""Chatter of native libraries: held back, readable, and shown when something goes wrong."""

from __future__ import annotations

import ctypes
import logging
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from edgeseg.cli.terminal import notices_on_stderr
from edgeseg.core.errors import BackendError
from edgeseg.core.process import captured_native_output, quiet_native_output
from edgeseg.inference.supervision import TimeoutWorker

ROOT = Path(__file__).parents[2]


def chat() -> None:
    """Write as C code does: to C's own buffer of stdout, and straight to stderr."""
    ctypes.CDLL(None).printf(b"buffered\n")
    os.write(2, b"straight\n")


def chat_and_fail() -> None:
    chat()
    raise ZeroDivisionError


def test_both_outputs_are_held_back_and_readable(capfd: pytest.CaptureFixture[str]) -> None:
    with captured_native_output() as log:
        chat()
    assert sorted(log.text.split()) == ["buffered", "straight"]
    assert capfd.readouterr() == ("", "")


def test_what_came_before_and_after_is_shown(capfd: pytest.CaptureFixture[str]) -> None:
    print("before")
    with quiet_native_output():
        chat()
    print("after")
    assert capfd.readouterr() == ("before\nafter\n", "")


def test_it_is_shown_when_the_block_fails(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ZeroDivisionError), quiet_native_output():
        chat_and_fail()
    assert sorted(capfd.readouterr().err.split()) == ["buffered", "straight"]


class Stuck:
    """A library that chats and does not come back until it is let go."""

    def __init__(self) -> None:
        self.chatting, self.free = threading.Event(), threading.Event()
        self.thread = threading.Thread(target=self._hang, daemon=True)
        self.thread.start()
        assert self.chatting.wait(10)

    def _hang(self) -> None:
        with quiet_native_output():
            chat()
            print("of the library's own Python")
            self.chatting.set()
            self.free.wait(10)
            os.write(2, b"late\n")

    def abandon(self) -> None:
        self.free.set()
        self.thread.join(10)


PROGRAM = """
import os, sys, threading
from edgeseg.core import process as quiet
from tests.unit.test_quiet import Stuck
stuck = Stuck()
print("held"); print("held, too", file=sys.stderr)
if {given_up}:
    quiet.restore_output(stuck.thread.ident)
    quiet.restore_output(stuck.thread.ident)
    os.system("echo from a child")
stuck.abandon()
print("after")
"""


@pytest.mark.parametrize("given_up", [False, True])
def test_a_library_that_hangs_does_not_take_the_terminal(given_up: bool) -> None:
    program = PROGRAM.format(given_up=given_up)
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split("\n") == ["held", *["from a child"] * given_up, "after", ""]
    said = ["buffered", "straight", "of the library's own Python"] if given_up else []
    assert sorted(done.stderr.strip().split("\n")) == sorted(["held, too", *said, *["late"] * given_up])


def test_whoever_ends_first_leaves_the_other_one_quiet(capfd: pytest.CaptureFixture[str]) -> None:
    with captured_native_output() as mine:
        stuck = Stuck()
        os.write(2, b"both hold back\n")
    os.write(2, b"one still does\n")
    stuck.abandon()
    os.write(2, b"shown\n")
    mine.restore()
    assert capfd.readouterr().err == "shown\n"


def test_hands_that_are_stuck_give_the_output_back(capfd: pytest.CaptureFixture[str]) -> None:
    free, worker = threading.Event(), TimeoutWorker("stuck")

    def hang() -> None:
        with quiet_native_output():
            os.write(2, b"last words\n")
            free.wait(10)

    with pytest.raises(BackendError):
        worker.run(hang, 0.2)
    os.write(1, b"back\n")
    free.set()
    assert capfd.readouterr() == ("back\n", "last words\n")


def test_a_closed_output_stays_closed() -> None:
    program = "import os\nfrom edgeseg.core.process import quiet_native_output as q\nwith q(): os.write(2, b'x')"
    done = subprocess.run(["sh", "-c", f'"{sys.executable}" -c "{program}" >&-'], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


def test_notices_are_printed_once_whatever_handlers_the_root_logger_has(capsys: pytest.CaptureFixture[str]) -> None:
    handler = logging.StreamHandler(sys.stderr)
    logging.getLogger().addHandler(handler)
    try:
        with notices_on_stderr():
            logging.getLogger("edgeseg.training").warning("few cases")
    finally:
        logging.getLogger().removeHandler(handler)
    assert capsys.readouterr().err == "edgeseg: few cases\n"


def test_notices_give_a_terminal_nothing_to_obey(capsys: pytest.CaptureFixture[str]) -> None:
    with notices_on_stderr():
        logging.getLogger("edgeseg.data").warning("Stored images in %s.\n  Hint", "/a\x1b[2J\udcff")
    assert capsys.readouterr().err == "edgeseg: Stored images in /a\\x1b[2J\\udcff.\n  Hint\n"
