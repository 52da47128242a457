"""Put cards and golden pairs beside a network as edgeseg writes them, whatever they say: seals and hashes match."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from edgeseg.core.archive import pack_archive
from edgeseg.core.card import Card, card_to_json
from edgeseg.core.modelfile import CARD_NAME, GOLDEN_KEY, SEAL_NAME, make_seal


def pack_sealed(network: bytes, card: bytes, arrays: Mapping[str, bytes]) -> bytes:
    """Make a model file of any text as its card and any bytes as its golden pairs."""
    contents = {CARD_NAME: card, **arrays}
    contents[SEAL_NAME] = make_seal(network, contents)
    return network + pack_archive(contents, len(network))


def pack_texts(card: bytes, golden: bytes) -> dict[str, str]:
    """Make the metadata of an ONNX file without a seal."""
    return {CARD_NAME: card.decode("utf-8", "replace"), GOLDEN_KEY: base64.b64encode(golden).decode()}


def seal_texts(bare: bytes, card: bytes, arrays: Sequence[bytes]) -> dict[str, str]:
    """Make the metadata of an ONNX file with a golden pair and a seal."""
    named = {f"golden/0/{end}.npy": data for end, data in zip(("input", "output"), arrays, strict=True)}
    contents = {CARD_NAME: card, GOLDEN_KEY: base64.b64encode(pack_archive(named, 0))}
    contents[SEAL_NAME] = make_seal(bare, contents)
    return {name: data.decode("utf-8", "replace") for name, data in contents.items()}


def describe(network: bytes, card: Card, pairs: int = 0, sealed: bool = True) -> dict[str, Any]:
    """Write what a card says of this very network; without a seal, as cards were before there were seals."""
    written: dict[str, Any] = json.loads(card_to_json(card))
    written["sha256"] = hashlib.sha256(network).hexdigest()
    written["golden_pairs"] = pairs
    if not sealed:
        written["schema"] = 1
    return written
