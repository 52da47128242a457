"""A recording: masks and an index, of which every line names what is whole on the disk."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import ClassVar

from edgeseg.core.errors import LimitError, OutputError
from edgeseg.core.files import append_whole, explained_writes, write_json
from edgeseg.core.limits import TABLE_BYTES, read_regular
from edgeseg.core.schema import to_plain
from edgeseg.core.spec import ClassSpec
from edgeseg.runtime.areas import measure_areas
from edgeseg.runtime.sinks.base import Result, StreamInfo
from edgeseg.runtime.sinks.courier import Outlet
from edgeseg.runtime.sinks.shelves import SHELVES

INDEX, HEADER, MASKS, FRAMES = "index.jsonl", "recording.json", "masks", "images"
SESSION = "session-"
"""What the folder of a later session is called, before its number; the first session is the recording's own folder."""


class Recording(Outlet):
    """Writes the mask of a result, on request its frame, and then its line in the index.

    A process that is killed leaves at most one picture without a line; whatever has a line can be read. Pixels of
    frames are patients' data: they are stored only when that is asked for.
    """

    name: ClassVar[str] = "the recording"

    def __init__(
        self, folder: Path, info: StreamInfo, classes: Sequence[ClassSpec], frames: bool = False, form: str = "png"
    ) -> None:
        """Begin a recording.

        Args:
            folder: Where to write: new, empty, or a recording already, in which this one becomes a new session.
            info: What is recorded, for the header.
            classes: Names and colours, in the order of the labels.
            frames: Whether the frames are stored as well.
            form: One of SHELVES: a file per picture, or one video.

        Raises:
            OutputError: The folder holds something else or cannot be written.
        """
        self._classes = tuple(classes)
        self._mm_per_px = info.mm_per_px
        self._began: float | None = None
        with explained_writes(folder):
            self._folder = folder = _make_folder(folder)
            header = {"model": info.model, "classes": to_plain(self._classes), "mm_per_px": info.mm_per_px}
            write_json(folder / HEADER, header)
            self._masks = SHELVES[form](folder, MASKS)
            self._frames = SHELVES[form](folder, FRAMES) if frames else None
            self._index = os.open(folder / INDEX, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o666)

    @property
    def folder(self) -> Path:
        """Give the folder of this session."""
        return self._folder

    def write(self, result: Result) -> bool:
        """Write one result; its line in the index comes last."""
        frame, labels = result.frame, result.segmentation.labels
        self._began = frame.captured_at if self._began is None else self._began
        seconds = frame.captured_at - self._began
        with explained_writes(self._folder):
            mask = self._masks.put(labels, frame, seconds)
            image = self._frames.put(frame.image, frame, seconds) if self._frames is not None else None
            line = {
                "number": frame.number,
                "name": frame.name,
                "captured_s": round(seconds, 4),
                "age_ms": round(result.age_ms, 3),
                "mask": mask.file,
                "frame": image.file if image is not None else None,
                "position": mask.position,
                "areas": to_plain(measure_areas(labels, self._classes, self._mm_per_px)),
            }
            append_whole(self._index, (json.dumps(line) + "\n").encode("utf-8"))
        return True

    def close(self) -> None:
        """Close index and videos."""
        os.close(self._index)
        self._masks.close()
        if self._frames is not None:
            self._frames.close()


def _make_folder(folder: Path) -> Path:
    """Make the folder to write into: a service that is started again goes on beside what it has recorded."""
    if not folder.exists() or _is_empty(folder):
        folder.mkdir(parents=True, exist_ok=True)
        return folder
    if not _is_recording(folder):
        raise OutputError(
            f"Expected a new or an empty folder for the recording, or a recording to go on with, got {folder}.",
            "Name another --record DIR.",
        )
    for number in count(2):  # mkdir decides which of two streams gets a number
        with suppress(FileExistsError):
            (folder / f"{SESSION}{number}").mkdir()
            break
    return folder / f"{SESSION}{number}"


def _is_empty(folder: Path) -> bool:
    """Say whether a folder holds nothing, or what a header leaves that was never finished."""
    return folder.is_dir() and all(path.name.startswith(f".{HEADER}.") for path in folder.iterdir())


def _is_recording(folder: Path) -> bool:
    """Say whether a folder holds the header of a recording."""
    try:
        header = json.loads(read_regular(folder / HEADER, TABLE_BYTES))
    except (OSError, LimitError, ValueError, RecursionError):
        return False
    return isinstance(header, dict) and {"model", "classes", "mm_per_px"} <= header.keys()
