"""The one file that crosses to the device: a plain .tflite with the card and golden pairs in a zip behind it."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import io
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeseg.core.card import Card, card_from_json, card_to_json
from edgeseg.core.errors import ModelFileError
from edgeseg.core.files import write_bytes

CARD_NAME = "edgeseg.json"
GOLDEN_KEY = "golden"
"""Where golden pairs stand in the metadata of an ONNX file."""
_IDENTIFIER = b"TFL3"
_EPOCH = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class GoldenPair:
    """An input tensor and the output that this file gave for it when it was made."""

    input: NDArray[Any]
    output: NDArray[Any]


@dataclass(frozen=True)
class ModelFile:
    """A model file as it was read: verified flatbuffer, card and golden pairs."""

    path: Path
    flatbuffer: bytes
    card: Card
    golden: tuple[GoldenPair, ...]


def write_model(path: Path, flatbuffer: bytes, card: Card, golden: tuple[GoldenPair, ...] = ()) -> None:
    """Write flatbuffer, card and golden pairs as one file; the same input gives the same bytes."""
    write_bytes(path, pack_model(flatbuffer, card, golden))


def pack_model(flatbuffer: bytes, card: Card, golden: tuple[GoldenPair, ...] = ()) -> bytes:
    """Append the card and the golden pairs to a flatbuffer; the card gets the flatbuffer's hash."""
    sealed = dataclasses.replace(card, sha256=hashlib.sha256(flatbuffer).hexdigest())
    buffer = io.BytesIO(flatbuffer)
    with zipfile.ZipFile(buffer, "a", zipfile.ZIP_DEFLATED) as archive:
        _add(archive, CARD_NAME, card_to_json(sealed).encode("utf-8"))
        for number, pair in enumerate(golden):
            _add(archive, f"golden/{number}/input.npy", _array_to_bytes(pair.input))
            _add(archive, f"golden/{number}/output.npy", _array_to_bytes(pair.output))
    return buffer.getvalue()


def pack_golden(golden: tuple[GoldenPair, ...]) -> str:
    """Put golden pairs into text, for the metadata of an ONNX file."""
    buffer = io.BytesIO()
    arrays = {f"input_{number}": pair.input for number, pair in enumerate(golden)}
    arrays |= {f"output_{number}": pair.output for number, pair in enumerate(golden)}
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def read_model(path: Path) -> ModelFile:
    """Read a model file and refuse one that is damaged, bare or of a newer schema."""
    data = _read_tflite(path)
    if not zipfile.is_zipfile(io.BytesIO(data)):
        raise _no_card(path)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
            names = [entry.filename for entry in entries]
            if CARD_NAME not in names:
                raise _no_card(path)
            card = card_from_json(archive.read(CARD_NAME).decode("utf-8"), str(path))
            golden = _read_golden(archive, names)
            flatbuffer = data[: min(entry.header_offset for entry in entries)]
    except (zipfile.BadZipFile, UnicodeDecodeError, ValueError, KeyError, EOFError) as error:
        raise ModelFileError(
            f"Expected a whole card and golden pairs in {path}, got damaged ones: {error}.",
            "Copy the file again.",
        ) from error
    _check_hash(path, flatbuffer, card)
    return ModelFile(path, flatbuffer, card, golden)


def _read_tflite(path: Path) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelFileError(
            f"Expected a model file at {path}, got: {error.strerror}.", "Give the path of a .tflite file."
        ) from error
    if data[4:8] != _IDENTIFIER:
        raise ModelFileError(
            f"Expected a .tflite file, got {path}, which is none.", "Give a file that edgeseg compress wrote."
        )
    return data


def _no_card(path: Path) -> ModelFileError:
    return ModelFileError(
        f"Expected a card inside {path}, got a file without one: edgeseg did not write it, or it was cut short.",
        "Copy the file again, or write one with edgeseg compress.",
    )


def _check_hash(path: Path, flatbuffer: bytes, card: Card) -> None:
    found = hashlib.sha256(flatbuffer).hexdigest()
    if found != card.sha256:
        raise ModelFileError(
            f"Expected the model in {path} to have the hash on its card ({card.sha256[:12]}), got {found[:12]}: "
            "the file was changed after it was written.",
            "Copy the file again, or write it again with edgeseg compress.",
        )


def _read_golden(archive: zipfile.ZipFile, names: list[str]) -> tuple[GoldenPair, ...]:
    count = sum(name.startswith("golden/") and name.endswith("/input.npy") for name in names)
    return tuple(
        GoldenPair(
            _bytes_to_array(archive.read(f"golden/{number}/input.npy")),
            _bytes_to_array(archive.read(f"golden/{number}/output.npy")),
        )
        for number in range(count)
    )


def _add(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    entry = zipfile.ZipInfo(name, date_time=_EPOCH)
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.external_attr = 0o644 << 16
    archive.writestr(entry, data)


def _array_to_bytes(array: NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def _bytes_to_array(data: bytes) -> NDArray[Any]:
    return np.asarray(np.load(io.BytesIO(data), allow_pickle=False))
