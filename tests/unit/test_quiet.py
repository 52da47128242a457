"""Chatter of native libraries: held back, readable, and shown when something goes wrong."""

from __future__ import annotations

import ctypes
import os

import pytest

from edgeseg.core.quiet import captured_native_output, quiet_native_output


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
