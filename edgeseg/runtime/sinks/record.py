"""A recording: masks as PNG files and an index, of which every line names what is whole on the disk."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from edgeseg.core.errors import OutputError
from edgeseg.core.files import explained_writes, write_json
from edgeseg.core.images import encode_png
from edgeseg.core.schema import to_plain
from edgeseg.core.spec import ClassSpec
from edgeseg.runtime.areas import measure_areas
from edgeseg.runtime.sinks.base import Result, StreamInfo
from edgeseg.runtime.sinks.courier import Outlet

INDEX, HEADER, MASKS, FRAMES = "index.jsonl", "recording.json", "masks", "images"


class Recording(Outlet):
    """Writes the mask of a result, on request its frame, and then its line in the index.

    A process that is killed leaves at most one picture without a line; whatever has a line can be read. Pixels of
    frames are patients' data: they are stored only when that is asked for.
    """

    name: ClassVar[str] = "the recording"

    def __init__(self, folder: Path, info: StreamInfo, classes: Sequence[ClassSpec], frames: bool = False) -> None:
        """Begin a recording.

        Args:
            folder: Where to write; new or empty.
            info: What is recorded, for the header.
            classes: Names and colours, in the order of the labels.
            frames: Whether the frames are stored as well.

        Raises:
            OutputError: The folder holds something or cannot be written.
        """
        self._folder, self._frames, self._classes = folder, frames, tuple(classes)
        self._mm_per_px = info.mm_per_px
        self._began: float | None = None
        with explained_writes(folder):
            _make_folders(folder, (MASKS, FRAMES) if frames else (MASKS,))
            header = {"model": info.model, "classes": to_plain(self._classes), "mm_per_px": info.mm_per_px}
            write_json(folder / HEADER, header)
            self._index = os.open(folder / INDEX, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)

    def write(self, result: Result) -> None:
        """Write one result; its line in the index comes last."""
        name = f"{result.frame.number:08d}.png"
        with explained_writes(self._folder):
            (self._folder / MASKS / name).write_bytes(encode_png(result.segmentation.labels))
            if self._frames:
                (self._folder / FRAMES / name).write_bytes(encode_png(result.frame.image))
            _append(self._index, json.dumps(self._describe(result, name)) + "\n")

    def close(self) -> None:
        """Close the index."""
        os.close(self._index)

    def _describe(self, result: Result, name: str) -> dict[str, object]:
        captured = result.frame.captured_at
        self._began = captured if self._began is None else self._began
        return {
            "number": result.frame.number,
            "captured_s": round(captured - self._began, 4),
            "age_ms": round(result.age_ms, 3),
            "mask": f"{MASKS}/{name}",
            "frame": f"{FRAMES}/{name}" if self._frames else None,
            "areas": to_plain(measure_areas(result.segmentation.labels, self._classes, self._mm_per_px)),
        }


def _make_folders(folder: Path, parts: Sequence[str]) -> None:
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise OutputError(
            f"Expected a new or an empty folder for the recording, got {folder}.", "Name another --record DIR."
        )
    for part in parts:
        (folder / part).mkdir(parents=True)


def _append(handle: int, line: str) -> None:
    """Add a line whole or, where the disk is full, not at all."""
    size, data = os.fstat(handle).st_size, line.encode("utf-8")
    if os.write(handle, data) < len(data):
        os.ftruncate(handle, size)
        raise OSError("no room for another line")
