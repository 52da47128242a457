"""A network for benchmarks of speed, which does not depend on weights: as it begins, calibrated and in int8.

    python benchmarks/untrained.py FILE [--model small] [--size 256]

Needs the training packages. Its masks mean nothing.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from edgeseg.core.card import Provenance, SplitSpec
from edgeseg.core.modelfile import write_model
from edgeseg.core.spec import ClassSpec, InputSpec, OutputSpec

CALIBRATION_IMAGES = 4


def make_untrained(path: Path, model: str = "small", size: int = 256) -> Path:
    """Write an int8 file of a named size with its card; golden pairs it has none."""
    from edgeseg.convert.package import build_card
    from edgeseg.convert.tflite import compact_flatbuffer, convert_model
    from edgeseg.model.spec import UNetSpec, find_size
    from edgeseg.model.unet import build_unet

    named = find_size(model)
    widths = named.widths_behind(named.stem)
    spec = UNetSpec(size, size, 1, 1, "sigmoid", widths, named.skip, named.stem, upsampling=named.upsampling)
    noise = np.random.default_rng(0).random((CALIBRATION_IMAGES, size, size, 1), dtype=np.float32)
    noise[:, 0, 0], noise[:, 0, 1] = 0.0, 1.0
    flatbuffer = compact_flatbuffer(convert_model(build_unet(spec), "int8", noise))
    ends = InputSpec(size, size), OutputSpec((ClassSpec("target"),))
    made = Provenance("0" * 64, SplitSpec(0, 0.15, 0.2), 0, "int8-ptq", model, "", {})
    write_model(path, flatbuffer, build_card(flatbuffer, f"{model}-untrained", ends, made))
    return path


def pick_model(given: Path | None, folder: Path) -> Path:
    """Take the file that was given, else make an untrained one; only this needs TensorFlow."""
    return given or make_untrained(folder / "small.tflite")


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--model", default="small")
    parser.add_argument("--size", type=int, default=256)
    chosen = parser.parse_args()
    print(make_untrained(chosen.file, chosen.model, chosen.size))


if __name__ == "__main__":
    main()
