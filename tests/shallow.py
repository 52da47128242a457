"""Sizes with fewer stages, enough for discs and for tests without masks: TensorFlow traces them in half the time."""

from __future__ import annotations

import dataclasses
import os
import sys
from pathlib import Path

from edgeseg.model.spec import SIZES

ROOT = Path(__file__).resolve().parents[1]
COMMAND = (
    sys.executable,
    "-c",
    "from tests.shallow import replace_sizes; replace_sizes(); from edgeseg.cli.app import main; main()",
)
"""The edgeseg command with these sizes, in a process of its own."""
ENVIRONMENT = {
    "TF_NUM_INTRAOP_THREADS": "1",
    "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))),
}
"""What that process needs beside the variables of this one."""
SHALLOW = {
    "nano": dataclasses.replace(SIZES["nano"], widths=(8, 16, 24)),
    "micro": dataclasses.replace(SIZES["micro"], widths=(8, 24, 32)),
}


def replace_sizes() -> None:
    """Put the shallow sizes in the place of those that users have."""
    SIZES.update(SHALLOW)
