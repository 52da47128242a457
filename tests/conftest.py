"""Fixtures that several tests share; what takes long is made once per session."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from numpy.typing import NDArray

if TYPE_CHECKING:
    from edgeseg.compress.plan import Outcome

os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")


def write_case(root: Path, stem: str, frame: NDArray[np.uint8], mask: NDArray[np.uint8]) -> None:
    """Write one labelled image in the plain layout."""
    from edgeseg.core.images import write_image

    write_image(root / "images" / f"{stem}.png", frame)
    write_image(root / "masks" / f"{stem}.png", mask)


def draw_case(seed: int, size: tuple[int, int] = (72, 96)) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Draw a noisy frame with a bright disc, and the disc's mask."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[: size[0], : size[1]]
    middle = rng.uniform(0.35, 0.65, 2) * size
    disc = (rows - middle[0]) ** 2 + (columns - middle[1]) ** 2 < rng.uniform(12, 20) ** 2
    frame = np.clip(60 + 120 * disc + rng.normal(0, 12, size), 0, 255).astype(np.uint8)
    return frame, np.where(disc, np.uint8(255), np.uint8(0))


@pytest.fixture
def disc_data(tmp_path: Path) -> Path:
    """Make a small data folder of bright discs."""
    return make_disc_data(tmp_path / "discs", 10)


def make_disc_data(root: Path, cases: int) -> Path:
    """Make a data folder of bright discs; every fifth image has none."""
    for number in range(cases):
        frame, mask = draw_case(number)
        if number % 5 == 4:
            frame, mask = np.full_like(frame, 60), np.zeros_like(mask)
        write_case(root, f"case_{number:02d}", frame, mask)
    return root


@pytest.fixture(scope="session")
def trained_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make the data that the session's one training uses."""
    return make_disc_data(tmp_path_factory.mktemp("data") / "discs", 40)


@pytest.fixture(scope="session")
def trained_run(trained_data: Path) -> Path:
    """Train the session's one run: a tiny network that really finds the discs."""
    from edgeseg.train.run import TrainOptions
    from edgeseg.train.trainer import train_run

    out = trained_data.parent / "run"
    train_run(trained_data, out, TrainOptions(model="nano", size=64, epochs=30, seed=3))
    return out


@pytest.fixture(scope="session")
def compressed(trained_run: Path) -> tuple[Path, Outcome]:
    """Compress the session's run with the default recipes, once."""
    from edgeseg.compress.gate import Gate
    from edgeseg.compress.plan import compress_run
    from edgeseg.compress.recipe import load_recipe
    from edgeseg.core.files import staged_folder
    from edgeseg.report.compression import write_compression_report

    out = trained_run.parent / "compressed"
    recipes = [load_recipe(name) for name in ("float16", "int8-ptq", "int8-qat")]
    with staged_folder(out) as folder:
        outcome = compress_run(trained_run, folder, recipes, Gate(max_drop=0.05))
        write_compression_report(folder, trained_run, outcome)
    return out, outcome


@pytest.fixture(scope="session")
def int8_model(compressed: tuple[Path, Outcome]) -> Path:
    """Give the session's int8 file."""
    return compressed[0] / "int8-ptq.tflite"
