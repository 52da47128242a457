"""Split an ONNX file into the model and the metadata behind it, without a library: the card must always be readable.

An ONNX file is one protobuf message. Its metadata are pairs of texts in the field 14; edgeseg writes them last.
"""

from __future__ import annotations

from collections.abc import Iterator

METADATA_FIELD, KEY_FIELD, VALUE_FIELD = 14, 1, 2
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def split_onnx(data: bytes) -> tuple[bytes, dict[str, str]]:
    """Give the bytes in front of the metadata, and the metadata.

    Raises:
        ValueError: The data are no ONNX file, or not a whole one.
    """
    entries: dict[str, str] = {}
    end = len(data)
    for start, field, value in _walk(data):
        if field == METADATA_FIELD:
            end = min(end, start)
            pair = {number: text for _, number, text in _walk(value)}
            entries[pair[KEY_FIELD].decode("utf-8")] = pair[VALUE_FIELD].decode("utf-8")
    return data[:end], entries


def _walk(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """List a message's fields: where each starts, its number and, where it holds bytes, these."""
    position = 0
    while position < len(data):
        start = position
        tag, position = _read_varint(data, position)
        value = b""
        if tag & 7 == _VARINT:
            _, position = _read_varint(data, position)
        elif tag & 7 == _BYTES:
            length, position = _read_varint(data, position)
            value, position = data[position : position + length], position + length
        elif tag & 7 in (_FIXED64, _FIXED32):
            position += 8 if tag & 7 == _FIXED64 else 4
        else:
            raise ValueError(f"expected a field of a known type at byte {start}, got type {tag & 7}")
        if position > len(data):
            raise ValueError(f"expected {position - len(data)} more bytes for the field at byte {start}")
        yield start, tag >> 3, value


def _read_varint(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if position >= len(data):
            raise ValueError(f"expected a number at byte {position}, got the end")
        byte = data[position]
        value, shift, position = value | (byte & 0x7F) << shift, shift + 7, position + 1
        if byte < 0x80:
            return value, position
