"""Find the model file in a folder that edgeseg made, so that a run can be named in place of its file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgeseg.core.errors import ModelFileError
from edgeseg.core.limits import TABLE_BYTES, read_regular
from edgeseg.core.strictjson import parse_json

RUN_FILE, COMPRESSION, PICK = "model.tflite", "compress.json", "pick"
"""A run's file, the figures of a compression beside its files, and the folder of what a search picked."""
PARENT_FILE = "float32.tflite"
"""The float file that lies beside those that were made from it."""
ENDINGS = (".tflite", ".onnx")
_MOST_NAMED = 6


def find_model(path: Path) -> Path:
    """Find the model file that is meant by a path: a file is meant itself, a folder means its run's or chosen file.

    Args:
        path: A model file, or a folder that edgeseg train, compress, search or demo wrote. What is not there is left
            to be refused when it is read.

    Raises:
        ModelFileError: The folder holds no model file, or several of which none is meant more than another.
    """
    if not path.is_dir():
        return path
    if (path / COMPRESSION).is_file():
        return _find_chosen(path)
    if (path / RUN_FILE).is_file():
        return path / RUN_FILE
    if (path / PICK).is_dir() and (picked := _list_models(path / PICK)):
        return _take_only(path, [file for file in picked if file.name != PARENT_FILE] or picked)
    return _take_only(path, _list_models(path) or sorted(path.glob(f"*/{RUN_FILE}")))


def _find_chosen(folder: Path) -> Path:
    """Read which of the files a compression chose; only a file in that very folder is taken."""
    place = folder / COMPRESSION
    try:
        report: Any = parse_json(read_regular(place, TABLE_BYTES).decode("utf-8"))
        files = {str(variant["name"]): str(variant["file"]) for variant in report["variants"]}
        name = files[str(report["chosen"])]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelFileError(
            f"Expected {place} to name the chosen file, got what does not.", _hint(_list_models(folder))
        ) from error
    chosen = folder / Path(name).name
    if not chosen.is_file():
        raise ModelFileError(
            f"Expected {chosen.name} in {folder}, which {COMPRESSION} names as chosen, got no such file.",
            _hint(_list_models(folder)),
        )
    return chosen


def _list_models(folder: Path) -> list[Path]:
    return sorted(file for file in folder.iterdir() if file.suffix in ENDINGS and file.is_file())


def _take_only(folder: Path, found: list[Path]) -> Path:
    if len(found) == 1:
        return found[0]
    kind = f"{len(found)} of them" if found else "none"
    raise ModelFileError(f"Expected one model file in the folder {folder}, got {kind}.", _hint(found))


def _hint(found: list[Path]) -> str:
    if not found:
        return "Name a .tflite file, or a folder that edgeseg train or compress wrote."
    more = f" or another of {len(found)}" if len(found) > _MOST_NAMED else ""
    return f"Name one: {', '.join(str(file) for file in found[:_MOST_NAMED])}{more}."
