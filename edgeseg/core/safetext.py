"""Text from a file that somebody else wrote, made harmless for a terminal."""

from __future__ import annotations

import re

_HARMFUL = re.compile(
    "[\x00-\x1f\x7f-\x9f"  # control characters, among them the escape that terminals obey
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # what turns the direction of writing
    "\u2028\u2029"  # line ends that few programs know
    "\ud800-\udfff]"  # halves of characters, which cannot be printed
)
REPLACEMENT = "\ufffd"


def make_harmless(text: str) -> str:
    """Put a replacement character in place of what a terminal would obey instead of showing it."""
    return _HARMFUL.sub(REPLACEMENT, text)


def make_line(error: object, letters: int = 400) -> str:
    """Put what a library said into one harmless line of bounded length, to stand inside a sentence."""
    line = make_harmless(" ".join(str(error).split())).rstrip(" .") or "it gave no reason"
    return line if len(line) <= letters else f"{line[:letters]}..."
