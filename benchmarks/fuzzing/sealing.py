"""Put cards and golden pairs beside a network as edgeseg writes them, whatever they say: seals and hashes match."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from edgeseg.core import modelfile
from edgeseg.core.card import Card
from edgeseg.core.modelfile import CARD_NAME, GOLDEN_KEY
from fuzzing.packing import Entry, write_zip


def pack_sealed(network: bytes, card: bytes, arrays: Mapping[str, bytes]) -> bytes:
    """Make a model file of any text as its card and any bytes as its golden pairs."""
    contents = {CARD_NAME: card, **arrays}
    if not hasattr(modelfile, "make_seal"):  # an edgeseg whose files have a hash and no seal
        return write_zip(network, [Entry(name.encode(), data) for name, data in contents.items()])
    contents[modelfile.SEAL_NAME] = modelfile.make_seal(network, contents)
    return network + modelfile.pack_archive(contents, len(network))


def pack_texts(card: bytes, golden: bytes) -> dict[str, str]:
    """Make the metadata of an ONNX file without a seal."""
    return {CARD_NAME: card.decode("utf-8", "replace"), GOLDEN_KEY: base64.b64encode(golden).decode()}


def seal_texts(bare: bytes, card: bytes, arrays: Sequence[bytes]) -> dict[str, str]:
    """Make the metadata of an ONNX file with a golden pair and a seal."""
    ends = ("input", "output")
    if not hasattr(modelfile, "make_seal"):
        entries = [Entry(f"{end}_0.npy".encode(), data) for end, data in zip(ends, arrays, strict=True)]
        return pack_texts(card, write_zip(b"", entries))
    named = {f"golden/0/{end}.npy": data for end, data in zip(ends, arrays, strict=True)}
    contents = {CARD_NAME: card, GOLDEN_KEY: base64.b64encode(modelfile.pack_archive(named, 0))}
    contents[modelfile.SEAL_NAME] = modelfile.make_seal(bare, contents)
    return {name: data.decode("utf-8", "replace") for name, data in contents.items()}


def describe(network: bytes, card: Card, pairs: int = 0, sealed: bool = True) -> dict[str, Any]:
    """Write what a card says of this very network; without a seal, as cards were before there were seals."""
    written: dict[str, Any] = json.loads(modelfile.card_to_json(card))
    written["sha256"] = hashlib.sha256(network).hexdigest()
    if "golden_pairs" in written:
        written["golden_pairs"] = pairs
    if not sealed:
        written["schema"] = 1
    return written
