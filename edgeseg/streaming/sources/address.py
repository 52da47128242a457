"""A source's text: `ADDRESS?name=value&name=value` parsed into a dataclass, and shown without secrets."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import SplitResult, parse_qsl, quote, urlsplit

from edgeseg.core.errors import SourceTextError
from edgeseg.core.redact import QUOTES, redact, show_name

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Options = TypeVar("Options", bound="DataclassInstance")


# A name in front of a source: a folder, a label of Prometheus and a path of the page can all have it.
_NAMED = re.compile(r"(?P<name>[A-Za-z][A-Za-z0-9_-]{0,31})=(?P<source>.+)", re.DOTALL)
_WORD = re.compile(r"(?P<key>[^ \"'=]*=)?(?P<value>\"[^\"]*\"|'[^']*'|(?:\\.|[^ \"'\\])+)")


@dataclass(frozen=True)
class Size:
    """Width and height in pixels."""

    width: int
    height: int

    def __post_init__(self) -> None:
        if not (1 <= self.width <= 8192 and 1 <= self.height <= 8192):
            raise ValueError(f"expected a size from 1x1 to 8192x8192, got {self}")

    def __str__(self) -> str:
        return f"{self.width}x{self.height}"


def split_address(text: str) -> tuple[str, str]:
    """Split a source's text at its question mark into address and options."""
    address, _, options = text.partition("?")
    return address, options


def split_name(text: str) -> tuple[str, str]:
    """Split NAME=SOURCE into both; the name is empty where there is none. A file of exactly that name is a source."""
    match = _NAMED.fullmatch(text)
    if match is None or os.path.lexists(text):
        return "", text
    return match["name"], match["source"]


def hide_path(sentence: str, text: str) -> str:
    """Replace the path of a source's file in a sentence by the name that pages show."""
    if "://" in text:
        return sentence
    paths = {text, str(Path(text)), str(Path(text).absolute())}
    for path in sorted(paths, key=len, reverse=True):
        if "/" in path:
            sentence = sentence.replace(path, show_source(text))
    return sentence


def show_source(text: str) -> str:
    """Make the name of a source for pages, reports and messages: without secrets and without folders."""
    if text.startswith("gst://"):
        return redact(hide_folders(text))
    if "://" in text:
        # redact() ends a password at a space
        return redact(re.sub(r"\s", lambda space: quote(space[0]), text))
    if text.startswith(("-", "/dev/")) or not Path(text).name:
        return redact(text)
    return redact(show_name(Path(text).name))


def hide_folders(text: str) -> str:
    """Remove the folders of local files from a pipeline, or from GStreamer's messages about it."""
    return _WORD.sub(lambda word: (word["key"] or "") + _hide_folder(word["key"] or "", word["value"]), text)


def _hide_folder(key: str, value: str) -> str:
    """Remove the folders from one word, quoted or not; device files and URLs stay."""
    mark = value[0] if value[0] in QUOTES else ""
    inner = value.strip(mark) if mark else value
    # "location=/a b/c"
    if mark and not key and "=" in inner:
        key, sign, rest = inner.partition("=")
        return f"{mark}{key}{sign}{_hide_folder(key + sign, rest) if rest else rest}{mark}"
    is_local = inner.startswith("file://") or (
        "://" not in inner
        and not inner.startswith("/dev/")
        and (inner.startswith(("/", "~", "./", "../")) or (key.endswith("location=") and "/" in inner))
    )
    if not is_local:
        return value
    return f"{mark}{'file://' if inner.startswith('file://') else ''}{inner.rstrip('/').rpartition('/')[2]}{mark}"


def split_url(url: str, example: str) -> SplitResult:
    """Split the URL of a network source. The error quotes nothing of an invalid one, which may hold a password.

    Raises:
        SourceTextError: It has no host, an invalid port, spaces or control characters.
    """
    try:
        where = urlsplit(url)
        named = bool(where.hostname) and where.port != 0
    except ValueError:
        named = False
    if not named:
        raise SourceTextError(
            "Expected an address with a host, got one without or with a wrong port.",
            f"Write for example '{example}'; in a name or password write @ as %40, / as %2F, # as %23 and ? as %3F.",
        )
    if not url.isprintable() or " " in url:
        raise SourceTextError(
            "Expected an address without spaces and control characters, got one with them.",
            "Write a space as %20.",
        )
    return where


def read_options(text: str, kind: type[Options], example: str) -> Options:
    """Parse the options of a source.

    Args:
        text: The whole source as the user wrote it.
        kind: A dataclass with a field for every option; it checks the values.
        example: A valid source, for the hint.
    """
    known = [field.name for field in fields(kind)]
    given = parse_qsl(split_address(text)[1], keep_blank_values=True)
    needed = [field.name for field in fields(kind) if field.default is MISSING]
    try:
        _check_needed(needed, dict(given))
        return kind(**{name: _read_value(name, value, known) for name, value in given})
    except ValueError as error:
        raise SourceTextError(
            f"Expected {', '.join(known)} as options in {text}, got what does not fit: {error}.",
            f"Write for example '{example}'.",
        ) from error


def _check_needed(needed: list[str], given: Mapping[str, str]) -> None:
    for name in needed:
        if name not in given:
            raise ValueError(f"{name} is missing")


def _read_value(name: str, value: str, known: list[str]) -> Any:
    if name not in known:
        raise ValueError(f"unknown option {name}")
    return _READERS[name](value)


def _read_size(value: str) -> Size:
    match = re.fullmatch("([0-9]{1,9})(?:x([0-9]{1,9}))?", value)
    if match is None:
        raise ValueError(f"size={value} is no WIDTHxHEIGHT")
    return Size(int(match[1]), int(match[2] or match[1]))


def _read_number(value: str) -> float:
    if not re.fullmatch(r"[0-9]{1,6}(\.[0-9]{1,9})?", value) or float(value) == 0:
        raise ValueError(f"fps={value} is no number above 0")
    return float(value)


def _read_count(value: str) -> int:
    if not re.fullmatch("[0-9]{1,9}", value):
        raise ValueError(f"{value!r} is no whole number")
    return int(value)


def _read_switch(value: str) -> bool:
    if value not in ("", "0", "1"):
        raise ValueError(f"{value!r} is neither 0 nor 1")
    return value != "0"


_READERS: dict[str, Callable[[str], Any]] = {
    "modality": str,
    "size": _read_size,
    "fps": _read_number,
    "format": str,
    "seed": _read_count,
    "frames": _read_count,
    "comes_and_goes": _read_switch,
    "touching": _read_switch,
    "lesions": _read_count,
}
