"""The preview shows the images as they are and as a training would see them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np

from edgeseg.core.spec import InputSpec
from edgeseg.data.augment import choose_variations
from edgeseg.data.dataset import open_dataset
from edgeseg.data.overview import CASES, VARIANTS, draw_preview
from edgeseg.data.pictures import GAP, TILE
from edgeseg.frame.images import read_image

STEP = TILE + GAP
CAPTION = 24


def test_first_column_is_as_it_is_and_the_others_vary(disc_data: Path) -> None:
    dataset, spec = open_dataset(disc_data), InputSpec(64, 64)
    varied, still = (
        draw_preview(dataset.cases, dataset.classes, spec, choose_variations(text), seed=0) for text in ("all", "none")
    )
    assert varied.shape[0] > CASES * STEP
    assert varied.shape[1] == (1 + VARIANTS) * STEP - GAP
    first, last = slice(0, TILE), slice(VARIANTS * STEP, VARIANTS * STEP + TILE)
    amber = np.abs(varied.astype(int) - dataset.classes[0].colour[::-1]).sum(axis=2) < 60
    assert amber[2 * CAPTION :, last].sum() > 60
    # the last row above its captions
    varied, still = varied[-TILE:-CAPTION], still[-TILE:-CAPTION]
    assert np.array_equal(varied[:, first], still[:, first])
    assert np.array_equal(still[:, first], still[:, last])
    assert not np.array_equal(varied[:, last], still[:, last])


def test_command_needs_no_tensorflow(disc_data: Path, tmp_path: Path) -> None:
    out = tmp_path / "preview.png"
    program = (
        "import sys; sys.modules['tensorflow'] = None\n"
        f"sys.argv = ['edgeseg', 'data', 'preview', {str(disc_data)!r}, '--out', {str(out)!r},"
        " '--augment', '-flip,-blur', '--denoise', 'speckle', '--size', '64']\n"
        "from edgeseg.cli.app import main\nmain()"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert read_image(out).max() > 100
