"""Stand-ins for libedgetpu, built by gcc: no Edge TPU can be had here."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

LIBRARY = "libedgetpu.so.1"
STUB = Path(__file__).with_name("stub_delegate.c")


def compile_library(source: Path, folder: Path) -> Path:
    """Build a shared library under the name that the backend looks for."""
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed: the stand-in for libedgetpu cannot be built")
    subprocess.run(["gcc", "-shared", "-fPIC", "-w", "-o", folder / LIBRARY, source], check=True)
    return folder
