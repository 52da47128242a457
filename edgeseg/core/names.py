"""Names of files and what people typed: which can be written down, and how the others are shown without harm."""

from __future__ import annotations

import unicodedata

_KEPT = "\n\t"
_TURNING = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
"""Turn the reading direction of what follows, so that a name reads as another one."""


def can_be_written(name: str) -> bool:
    """Say whether a name can stand in a table: UTF-8, and no character that moves a terminal's cursor."""
    return not any(_is_harmful(character) for character in name)


def show_name(name: str) -> str:
    """Write a name on one line, whatever it is made of."""
    return "".join(_escape(character) if _is_harmful(character) else character for character in name)


def make_printable(text: str) -> str:
    """Escape what no terminal or file should be sent: control characters, and the bytes of names that are not UTF-8."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(_escape(c) if _is_harmful(c) and c not in _KEPT else c for c in text)


def _is_harmful(character: str) -> bool:
    return character in _TURNING or unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp")


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
