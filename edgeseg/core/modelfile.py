"""The model file: a plain .tflite with card, golden pairs and a seal in a zip appended to it.

An ONNX model that was exported from one carries the same in its metadata. The seal is a hash over all other parts.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import io
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeseg.core.archive import Archive, pack_archive, read_archive
from edgeseg.core.card import MOST_FOLDS, SCHEMA, SEALED_SCHEMA, Card, card_to_json
from edgeseg.core.errors import ModelFileError
from edgeseg.core.files import write_bytes
from edgeseg.core.flatbuffer import is_flatbuffer
from edgeseg.core.limits import CARD_BYTES, GOLDEN_BYTES, MIB, MODEL_BYTES, TABLE_BYTES, read_regular
from edgeseg.core.registration_card import AnyCard, RegistrationCard, any_card_from_json
from edgeseg.core.schema import SchemaError, parse_json, read_json_table
from edgeseg.core.signature import (
    NetworkSignature,
    TensorSpec,
    check_signature,
    read_onnx_signature,
    read_tflite_signature,
    split_onnx_metadata,
)

_LOG = logging.getLogger(__name__)
CARD_NAME, SEAL_NAME = "edgeseg.json", "edgeseg.seal"
# Metadata key of the golden pairs in an ONNX file.
GOLDEN_KEY = "golden"
# Limits for the seal, which has 65 bytes, and for the header of an .npy array.
SEAL_BYTES = 100
_HEADER_BYTES = 1024
# The names of a golden pair's arrays; the third is there where the network has a finding output.
_ENDS = ("input", "output", "finding")
# The file of a run, the report of a compression beside its files, and the folder that a search picked.
RUN_FILE, COMPRESSION, PICK = "model.tflite", "compress.json", "pick"
# The record of a pretraining, which draws no masks and has no model file (training/pretrain.py).
PRETRAINING = "pretrain.json"
# The float model beside the files that were compressed from it.
PARENT_FILE = "float32.tflite"
ENDINGS = (".tflite", ".onnx")
# The summary of a cross-validation, and the folder of each of its runs; the plan stands there from the beginning on.
FOLDS_FILE, FOLD_FOLDER, PLAN_FILE = "folds.json", "fold-{}", "plan.json"
_MOST_LISTED = 6

# The header of an .npy file, version 1.0, as numpy writes it for C-ordered arrays.
_HEADER = re.compile(
    rb"\x93NUMPY\x01\x00..\{'descr': '([<|][a-z]\d)', 'fortran_order': False, 'shape': \(([\d, ]*)\), \} *\n", re.DOTALL
)
# Files whose missing seal was reported: once is enough.
_noticed: set[Path] = set()


@dataclass(frozen=True)
class GoldenPair:
    """An input tensor and the outputs that the network gave for it when the file was written."""

    input: NDArray[Any]
    output: NDArray[Any]
    finding: NDArray[Any] | None = None
    """Of a network with a second output."""

    @property
    def arrays(self) -> tuple[NDArray[Any], ...]:
        """List the arrays in the order of `NetworkSignature.ends`."""
        return (self.input, self.output) if self.finding is None else (self.input, self.output, self.finding)


@dataclass(frozen=True)
class _VerifiedFile:
    """A file as it was read: verified flatbuffer, card and golden pairs."""

    path: Path
    flatbuffer: bytes
    """The network; for an ONNX file the whole of it."""
    card: AnyCard
    golden: tuple[GoldenPair, ...]

    @property
    def is_onnx(self) -> bool:
        """Say whether the network is an ONNX model and no flatbuffer."""
        return not is_flatbuffer(self.flatbuffer)

    @property
    def sealed(self) -> bool:
        """Say whether a seal proves that card, golden pairs and network were written together."""
        return self.card.schema >= SEALED_SCHEMA


@dataclass(frozen=True)
class ModelFile(_VerifiedFile):
    """A model file as it was read."""

    card: Card


@dataclass(frozen=True)
class RegistrationFile(_VerifiedFile):
    """A file that registers, as it was read."""

    card: RegistrationCard


AnyFile = ModelFile | RegistrationFile


def write_model(path: Path, flatbuffer: bytes, card: AnyCard, golden: tuple[GoldenPair, ...] = ()) -> None:
    """Write flatbuffer, card and golden pairs as one file; the same input gives the same bytes."""
    write_bytes(path, pack_model(flatbuffer, card, golden))


def pack_model(flatbuffer: bytes, card: AnyCard, golden: tuple[GoldenPair, ...] = ()) -> bytes:
    """Append the card, the golden pairs and the seal over all of it to a flatbuffer."""
    contents = {CARD_NAME: _complete_card(flatbuffer, card, golden), **_pack_arrays(golden)}
    contents[SEAL_NAME] = make_seal(flatbuffer, contents)
    return flatbuffer + pack_archive(contents, len(flatbuffer))


def pack_metadata(bare: bytes, card: AnyCard, golden: tuple[GoldenPair, ...] = ()) -> dict[str, str]:
    """Encode card, golden pairs and seal as texts for the metadata of an ONNX file."""
    pairs = base64.b64encode(pack_archive(_pack_arrays(golden), 0)) if golden else b""
    contents = {CARD_NAME: _complete_card(bare, card, golden), GOLDEN_KEY: pairs}
    contents[SEAL_NAME] = make_seal(bare, contents)
    return {name: content.decode("utf-8") for name, content in contents.items()}


def make_seal(network: bytes, contents: Mapping[str, bytes]) -> bytes:
    """Hash a network together with all parts beside it.

    The seal shows damage and exchanged parts. It is no signature: whoever writes a file can seal it.
    """
    # lengths and names are hashed as well, so that no bytes can move from one part to the next
    seal = hashlib.sha256(b"edgeseg seal\n")
    for name, content in {"network": network, **contents}.items():
        seal.update(f"{name} {len(content)} {hashlib.sha256(content).hexdigest()}\n".encode())
    return seal.hexdigest().encode() + b"\n"


def read_model(path: str | Path) -> ModelFile:
    """Read a file that draws masks; one that is damaged, bare, of a newer schema, or that registers is refused."""
    model = read_any(path)
    if isinstance(model, RegistrationFile):
        raise ModelFileError(
            f"Expected a file that draws masks, got {path}, which registers pairs of images.",
            "Use it with: edgeseg register FIXED MOVING --method learned --model FILE; edgeseg inspect shows its card.",
        )
    return model


def read_registering(path: str | Path) -> RegistrationFile:
    """Read a file that registers; one that draws masks is refused."""
    model = read_any(path)
    if isinstance(model, ModelFile):
        raise ModelFileError(
            f"Expected a file that registers pairs of images, got {path}, which draws masks.",
            "Make one with: edgeseg train --task register CLIPS --out RUN",
        )
    return model


def read_any(path: str | Path) -> AnyFile:
    """Read a model file of any task, and refuse one that is damaged, bare, of a newer schema, or in disagreement."""
    path = Path(path)
    data = _read_bytes(path)
    try:
        model = _read_onnx(path, data) if path.suffix.lower() == ".onnx" else _read_tflite(path, data)
    except ValueError as error:
        raise ModelFileError(
            f"Expected a whole model file in {path}, got a damaged or changed one: {error}.",
            "Copy the file again, or write it again with edgeseg compress.",
        ) from error
    if not model.sealed:
        _warn_unsealed(path)
    return model


def _read_tflite(path: Path, data: bytes) -> AnyFile:
    if not is_flatbuffer(data):
        raise ModelFileError(
            f"Expected a .tflite file, got another kind of file: {path}.", "Give a file that edgeseg compress wrote."
        )
    archive = read_archive(data)
    if archive is None or CARD_NAME not in archive.entries:
        raise _no_card(path)
    text = archive.entries[CARD_NAME].unpack(CARD_BYTES)
    card = any_card_from_json(text.decode("utf-8"), str(path))
    flatbuffer = data[: archive.start]
    # the cheap checks come first: nothing is unpacked for a network that is not the card's
    _check_hash(path, flatbuffer, card)
    signature = read_tflite_signature(flatbuffer)
    check_signature(card, signature, path)
    names = [name for name in archive.entries if name not in (CARD_NAME, SEAL_NAME)]
    wanted = _name_arrays(_count_pairs(card, names), signature)
    _check_names(card, list(archive.entries), [CARD_NAME, *wanted])
    arrays = _unpack_arrays(archive, wanted, signature)
    if card.schema >= SEALED_SCHEMA:
        seal = archive.entries[SEAL_NAME].unpack(SEAL_BYTES)
        _check_seal(seal, flatbuffer, {CARD_NAME: text, **arrays}, archive.canonical)
    return _make_file(path, flatbuffer, card, _pair_up(arrays, wanted, signature))


def _read_onnx(path: Path, data: bytes) -> AnyFile:
    if is_flatbuffer(data):  # the name would say ONNX, and a TFLite runtime would run it
        raise ValueError("expected an ONNX model, got a TFLite flatbuffer")
    bare, entries = split_onnx_metadata(data)
    if CARD_NAME not in entries:
        raise _no_card(path)
    card = any_card_from_json(entries[CARD_NAME], str(path))
    _check_hash(path, bare, card)
    signature = read_onnx_signature(bare)
    check_signature(card, signature, path)
    _check_names(card, list(entries), [CARD_NAME, GOLDEN_KEY])
    archive = _read_golden(entries[GOLDEN_KEY])
    names = list(archive.entries)
    pairs = _count_pairs(card, names)
    wanted = _name_arrays(pairs, signature) if card.schema >= SEALED_SCHEMA else _name_numpy_arrays(pairs)
    if sorted(names) != sorted(wanted):
        raise ValueError(f"expected {len(wanted)} arrays of golden pairs, got {', '.join(names)[:200]}")
    arrays = _unpack_arrays(archive, wanted, signature)
    if card.schema >= SEALED_SCHEMA:
        contents = {name: entries[name].encode("utf-8") for name in (CARD_NAME, GOLDEN_KEY)}
        _check_seal(entries[SEAL_NAME].encode("utf-8"), bare, contents, archive.canonical)
    return _make_file(path, data, card, _pair_up(arrays, wanted, signature))


def _make_file(path: Path, network: bytes, card: AnyCard, golden: tuple[GoldenPair, ...]) -> AnyFile:
    if isinstance(card, RegistrationCard):
        return RegistrationFile(path, network, card, golden)
    return ModelFile(path, network, card, golden)


def _read_golden(text: str) -> Archive:
    """Decode the zip of golden pairs from an ONNX file's metadata; an empty text is an empty zip."""
    if not text:
        return Archive(0, {}, canonical=True)
    archive = read_archive(base64.b64decode(text, validate=True))
    if archive is None or archive.start:
        raise ValueError("expected a zip of golden pairs, got other bytes")
    return archive


def _read_bytes(path: Path) -> bytes:
    try:
        return read_regular(path, MODEL_BYTES)
    except OSError as error:
        raise ModelFileError(
            f"Expected a model file at {path}, got: {error.strerror}.", "Give the path of a .tflite file."
        ) from error


def _no_card(path: Path) -> ModelFileError:
    return ModelFileError(
        f"Expected a card at the end of {path}, got a file without one: edgeseg did not write it, it was cut short, or "
        "something was added to it.",
        "Copy the file again, or write one with edgeseg compress.",
    )


def _warn_unsealed(path: Path) -> None:
    """Warn once about a file that was written before files had seals."""
    if path not in _noticed:
        _noticed.add(path)
        _LOG.warning(
            "%s was written before files had a seal: whether its card and golden pairs were changed since is not "
            "verified.\n  Renew it: write it again with edgeseg compress or edgeseg train.",
            path,
        )


def _check_hash(path: Path, network: bytes, card: AnyCard) -> None:
    found = hashlib.sha256(network).hexdigest()
    if found != card.sha256:
        raise ModelFileError(
            f"Expected the model in {path} to have the hash on its card ({card.sha256[:12]}), got {found[:12]}: "
            "the file was changed after it was written.",
            "Copy the file again, or write it again with edgeseg compress.",
        )


def _check_seal(seal: bytes, network: bytes, contents: Mapping[str, bytes], canonical: bool) -> None:
    if not canonical or seal != make_seal(network, contents):
        raise ValueError("the seal over network, card and golden pairs is broken, so one of them was changed")


def _count_pairs(card: AnyCard, names: Sequence[str]) -> int:
    """Count the golden pairs in the file, and check the count against the card."""
    arrays = 2 if card.finding is None else 3
    pairs = (len(names) + arrays - 1) // arrays
    if card.schema >= SEALED_SCHEMA and pairs != card.golden_pairs:
        raise ValueError(f"expected {card.golden_pairs} golden pairs as the card says, got {pairs}")
    return pairs


def _check_names(card: AnyCard, found: list[str], wanted: list[str]) -> None:
    """Refuse missing and additional parts; sealed files must keep the order as well."""
    if card.schema >= SEALED_SCHEMA:
        if found != [*wanted, SEAL_NAME]:
            raise ValueError(f"expected {', '.join((*wanted, SEAL_NAME))}, got {', '.join(found)[:400]}")
    elif sorted(found) != sorted(wanted):
        raise ValueError(f"expected {', '.join(wanted)}, got {', '.join(found)[:400]}")


def _complete_card(network: bytes, card: AnyCard, golden: tuple[GoldenPair, ...]) -> bytes:
    sha256 = hashlib.sha256(network).hexdigest()
    whole = dataclasses.replace(card, sha256=sha256, golden_pairs=len(golden), schema=SCHEMA)
    return card_to_json(whole).encode("utf-8")


def _name_arrays(pairs: int, signature: NetworkSignature) -> list[str]:
    ends = _ENDS[: len(signature.ends)]
    return [f"golden/{number}/{end}.npy" for number in range(pairs) for end in ends]


def _name_numpy_arrays(pairs: int) -> list[str]:
    """Name the arrays of ONNX files without a seal, which numpy.savez wrote."""
    return [f"{end}_{number}.npy" for number in range(pairs) for end in ("input", "output")]


def _pack_arrays(golden: tuple[GoldenPair, ...]) -> dict[str, bytes]:
    return {
        f"golden/{number}/{end}.npy": _array_to_bytes(array)
        for number, pair in enumerate(golden)
        for end, array in zip(_ENDS, pair.arrays, strict=False)
    }


def _unpack_arrays(archive: Archive, names: Sequence[str], signature: NetworkSignature) -> dict[str, bytes]:
    """Unpack arrays that are no larger than the network's input and outputs, whatever they announce."""
    ends = signature.ends
    limits = [end.bytes + _HEADER_BYTES for _ in names[:: len(ends)] for end in ends]
    if sum(limits) > GOLDEN_BYTES:
        raise ValueError(f"expected at most {GOLDEN_BYTES // MIB} MiB of golden pairs, got {sum(limits) // MIB}")
    return {name: archive.entries[name].unpack(limit) for name, limit in zip(names, limits, strict=True)}


def _pair_up(arrays: Mapping[str, bytes], names: Sequence[str], signature: NetworkSignature) -> tuple[GoldenPair, ...]:
    ends = signature.ends
    parsed = [_bytes_to_array(arrays[name], ends[number % len(ends)]) for number, name in enumerate(names)]
    return tuple(GoldenPair(*parsed[start : start + len(ends)]) for start in range(0, len(parsed), len(ends)))


def _array_to_bytes(array: NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(array), allow_pickle=False)
    return buffer.getvalue()


def _bytes_to_array(data: bytes, tensor: TensorSpec) -> NDArray[Any]:
    """Parse an .npy array that must have the tensor's type and shape; numpy.load would believe any header."""
    header = _HEADER.match(data[:_HEADER_BYTES])
    if header is None or int.from_bytes(data[8:10], "little") != header.end() - 10:
        raise ValueError("expected a golden pair as numpy writes arrays of numbers, got something else")
    dtype = np.dtype(header[1].decode("ascii"))
    shape = tuple(int(size) for size in header[2].split(b",") if size.strip())
    if (dtype.name, shape) != (tensor.quantisation.dtype, tensor.shape) or len(data) - header.end() != tensor.bytes:
        raise ValueError(
            f"expected golden pairs of {tensor.describe()}, got {dtype.name} {'x'.join(map(str, shape))[:80]}"
        )
    return np.frombuffer(data, dtype, offset=header.end()).reshape(shape).copy()


def find_model(path: Path) -> Path:
    """Resolve a path to a model file: a file is returned as it is, a folder by its run's or chosen file.

    Args:
        path: A model file, or a folder that edgeseg train, compress, search or demo wrote. A missing one is returned,
            and refused when it is read.

    Raises:
        ModelFileError: The folder holds no model file, or several without a choice among them.
    """
    if not path.is_dir():
        return path
    # the report of a compression comes first: its folder holds several models, and one of them was chosen
    if (path / COMPRESSION).is_file():
        return _find_chosen(path)
    if (path / RUN_FILE).is_file():
        return path / RUN_FILE
    if is_ensemble(path):
        raise ModelFileError(
            f"Expected one model file in {path}, got the networks of a cross-validation.",
            f"Name one of them: {path / FOLD_FOLDER.format(1)}. All together are taken by evaluate, bench, stream and "
            "compress --teacher.",
        )
    if (path / PLAN_FILE).is_file() and (path / FOLD_FOLDER.format(1)).is_dir():
        raise _unfinished_folds(path)
    if (path / PICK).is_dir() and (picked := _list_models(path / PICK)):
        return _take_only(path, [file for file in picked if file.name != PARENT_FILE] or picked)
    return _take_only(path, _list_models(path) or sorted(path.glob(f"*/{RUN_FILE}")))


def is_ensemble(path: Path) -> bool:
    """Say whether a path is the folder of a finished cross-validation, whose networks are used as one model."""
    return path.is_dir() and (path / FOLDS_FILE).is_file()


def find_members(folder: Path) -> tuple[Path, ...]:
    """List the model files of a finished cross-validation, a fold each.

    Raises:
        ModelFileError: Its summary is damaged, or the network of a fold is missing.
    """
    place = folder / FOLDS_FILE
    try:
        folds = len(read_json_table(place)["dice"])
    except (KeyError, TypeError, SchemaError) as error:
        raise ModelFileError(
            f"Expected the Dice of every fold in {place}, got a damaged file.",
            "Name one of the folds, or train again with --overwrite.",
        ) from error
    if not 0 < folds <= MOST_FOLDS:
        raise ModelFileError(
            f"Expected 1 to {MOST_FOLDS} folds in {place}, got {folds}.", "Train again with --overwrite."
        )
    members = tuple(folder / FOLD_FOLDER.format(number) / RUN_FILE for number in range(1, folds + 1))
    missing = next((path for path in members if not path.is_file()), None)
    if missing is not None:
        raise ModelFileError(
            f"Expected {RUN_FILE} of each of the {folds} folds in {folder}, got none in {missing.parent.name}.",
            "Copy the whole folder again; without a network the others are no ensemble of all cases.",
        )
    return members


def _unfinished_folds(folder: Path) -> ModelFileError:
    return ModelFileError(
        f"Expected a finished cross-validation, got {folder}, which has no {FOLDS_FILE} yet.",
        "Continue it with: edgeseg train DATA --out RUN --folds N --resume",
    )


def _find_chosen(folder: Path) -> Path:
    """Read which file a compression chose; a path in the report is reduced to its name in this folder."""
    place = folder / COMPRESSION
    try:
        report: Any = parse_json(read_regular(place, TABLE_BYTES).decode("utf-8"))
        files = {str(variant["name"]): str(variant["file"]) for variant in report["variants"]}
        name = files[str(report["chosen"])]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelFileError(
            f"Expected {place} to name the chosen file, got no valid name.", _hint(_list_models(folder))
        ) from error
    chosen = folder / Path(name).name
    if not chosen.is_file():
        raise ModelFileError(
            f"Expected {chosen.name} in {folder}, which {COMPRESSION} names as chosen, but it is missing.",
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
    more = f" or another of {len(found)}" if len(found) > _MOST_LISTED else ""
    return f"Name one: {', '.join(str(file) for file in found[:_MOST_LISTED])}{more}."
