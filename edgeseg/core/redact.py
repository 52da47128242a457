"""Redact secrets and control characters in everything that edgeseg prints, reports or writes.

Redaction rather hides too much than too little: in `rtsp://a:b@c/d@e` it is unknown which @ ends the password.
"""

from __future__ import annotations

import re
import unicodedata
from urllib.parse import quote, unquote

# Replaces a secret.
HIDDEN = "***"
QUOTES = ("'", '"')
# Embeddings, overrides and isolates reverse the text behind them, so that a name reads as another one (CVE-2021-42574).
_BIDI_CONTROLS = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
# Names of secrets anywhere in a key, before an equals sign or a colon, as in `password: x`.
_STRONG = (
    *("password", "passwd", "passwort", "passphrase", "passcode", "kennwort", "pwd", "pw", "secret", "token"),
    *("credential", "credentials", "apikey", "accesskey", "privatekey", "jwt", "authorization", "cookie"),
)
# Names of secrets at the end of a key, before an equals sign only: `key: value` is ordinary English.
_WEAK = (
    *("pass", "key", "auth", "sig", "signature", "session", "sessionid", "sid", "nonce"),
    *("user", "username", "userid", "usr", "uid", "login", "proxyid", "jsessionid", "phpsessid"),
    *("loginuse", "loginpas"),  # of cheap network cameras
)
# The value of an HTTP header goes on to the end of its line: "Authorization: Basic abc="
_WHOLE_LINE = ("authorization", "cookie")
# How often an address inside an address may be percent-encoded.
_MOST_ENCODINGS = 4
_NAME = r"[A-Za-z0-9_.%-]"
_ANYWHERE = tuple(name for name in _STRONG if len(name) > 4)
# The look-behind keeps the search linear in a long run of letters
_KEY = re.compile(
    rf"(?<!{_NAME})(?P<key>{_NAME}+)(?:\[\w{{0,32}}\]|\])?\\{{0,3}}(?P<closing>[\"']?)"  # key[0], form[key], \"key\"
    r"[ \t]{0,4}(?P<sign>[=:]>?)=?[ \t]{0,4}\\{0,3}"
)
_OPTION = re.compile(rf"(?<!{_NAME})(?P<key>--{_NAME}+)(?P<closing>)(?P<sign>)[ \t]+(?=[^ \t\n-])")
_ELEMENT = re.compile(rf"(<(?:\w{{1,32}}:)?(?:{'|'.join(_ANYWHERE)})\b[^<>]{{0,200}}>)[^<]+", re.IGNORECASE)
_VALUE = re.compile(
    r"(?:\(\w{1,12}\))?"  # GStreamer's type in front of a value: (string)"..."
    r"(?:\"(?:\\.|[^\"\\\n])*\"?|'(?:\\.|[^'\\\n])*'?)[^ \t\n&,;)}\]]*"
    r"|(?:(?:basic|bearer|digest)[ \t]+)?"
    rf"(?:\\.|[^ \t\n&]|&(?!(?:amp;)?{_NAME}{{1,64}}=))*",
    re.IGNORECASE,
)
_LINE = re.compile(r"[^\n]*")
_WORD = re.compile(r"[^ \t\n]+")
_SCHEME_AND_SECRET = re.compile(r"\b(basic|bearer)[ \t]+(?=[\w.~+/=-]*[\d=+/])[\w.~+/=-]{6,}", re.IGNORECASE)
# A password with a space in it; a number behind the colon is a port and no password.
_SPACED_USER = re.compile(r"://[^ \t\n/@:?#\[\]]*:(?!\d{1,5}(?:[/?#\s,.;:)'\"]|$))[^\n@]{0,200}@")
_BAD_PORT = re.compile(r"://[^/?#\[\]]*:(?!\d{0,5}(?:[/?#,.;:)'\"]|$)).*")
_SEGMENT = re.compile(rf"(/(?:{'|'.join(_ANYWHERE)})/)[^/?#&]+", re.IGNORECASE)


def redact(text: str) -> str:
    """Hide user names, passwords, tokens and keys in a text, and escape control characters; idempotent."""
    text = text.replace("\r\n", "\n")
    return make_printable(_WORD.sub(lambda word: _hide_encoded(word[0]), _hide(text)))


def _hide(text: str) -> str:
    text = _ELEMENT.sub(rf"\1{HIDDEN}", _hide_pairs(_hide_pairs(text, _OPTION), _KEY))
    text = _SCHEME_AND_SECRET.sub(rf"\1 {HIDDEN}", text)
    return _WORD.sub(lambda word: _hide_user(word[0]), _SPACED_USER.sub("://", text))


def _hide_encoded(word: str) -> str:
    """Look for secrets behind percent-encoding too; a word without any stays as it is written."""
    plain = word
    for _ in range(_MOST_ENCODINGS):
        decoded = re.sub(r"[ \t\n]", lambda space: quote(space[0]), unquote(plain, errors="replace"))
        if decoded == plain:
            break
        plain = _hide(decoded)
        if plain != decoded:
            word = plain
    return word


def _hide_pairs(text: str, pattern: re.Pattern[str]) -> str:
    """Hide the values of names that name a secret."""
    parts, done = [], 0
    for match in pattern.finditer(text):
        if match.start() < done or not _names_secret(match, text):
            continue
        end = _find_end(match, text)
        if end > match.end():
            opening = text[match.end()]
            mark = opening if opening in QUOTES and text[end - 1] == opening else ""
            parts += [text[done : match.end()], f"{mark}{HIDDEN}{mark}"]
            done = end
    return "".join([*parts, text[done:]])


def _names_secret(match: re.Match[str], text: str) -> bool:
    key = unquote(match["key"], errors="replace")
    pieces = re.findall("[a-z0-9]+", key.lower())
    words = [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", key)]
    joined = re.sub("[^a-z]", "", key.lower())
    if joined.endswith(_ANYWHERE) or any(word.strip("0123456789") in _STRONG for word in (*pieces, *words)):
        return True
    quoted = bool(match["closing"]) and text[match.start() - 1 : match.start()] == match["closing"]
    last = {joined, *words[-1:], *(piece.strip("0123456789") for piece in pieces if not piece.isdigit())}
    return (match["sign"].startswith("=") or quoted) and not last.isdisjoint(_WEAK)


def _find_end(match: re.Match[str], text: str) -> int:
    """Find where a value ends: at its quote, or at the next space or pair."""
    start = match.end()
    if match["key"].lower().endswith(_WHOLE_LINE):
        return _match_end(_LINE, text, start)
    before = text[match.start() - 1 : match.start()]
    if before in QUOTES and not match["closing"]:  # 'name=value with spaces'
        closing = text.find(before, start, _match_end(_LINE, text, start))
        if closing >= 0:
            return closing
    end = _match_end(_VALUE, text, start)
    if text[start : start + 1] in (*QUOTES, "("):
        return end
    for signs in (",.;:", "'\")}]"):  # the sentence goes on behind the value
        end -= end - start > 1 and text[end - 1] in signs
    return end


def _match_end(pattern: re.Pattern[str], text: str, start: int) -> int:
    match = pattern.match(text, start)
    return match.end() if match else start


def _hide_user(word: str) -> str:
    """Remove everything before the last @ of an address, with or without a scheme."""
    head, mark, rest = word.partition("://")
    if mark:
        rest = rest.rpartition("@")[2] if "@" in rest else rest
        return _SEGMENT.sub(rf"\1{HIDDEN}", _BAD_PORT.sub(f"://{HIDDEN}", head + mark + rest))
    before, mark, host = word.rpartition("@")
    if not mark or ":" not in before:
        return word
    start = max(before.rfind(sign, 0, before.index(":")) for sign in "\"'(=<[") + 1
    return f"{before[:start]}{HIDDEN}@{host}"


def make_printable(text: str, keep: str = "\n\t") -> str:
    """Escape control characters, and bytes that are not UTF-8; a terminal would obey the first.

    Args:
        text: What is to be printed or written into a file.
        keep: Control characters that stay as they are.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(_escape(c) if _is_control(c) and c not in keep else c for c in text)


def show_name(name: str) -> str:
    """Write a name on one line: line ends in it are escaped, too."""
    return make_printable(name, keep="")


def is_printable(name: str) -> bool:
    """Say whether a name can stand in a table as it is: UTF-8 without control characters."""
    return show_name(name) == name


def to_one_line(error: object, letters: int = 400) -> str:
    """Shorten a library's message to one printable line that fits into a sentence."""
    line = show_name(" ".join(str(error).split())).rstrip(" .") or "it gave no reason"
    return line if len(line) <= letters else f"{line[:letters]}..."


def _is_control(character: str) -> bool:
    # Cc: control characters, Cs: surrogates (Python's mark for bytes that are not UTF-8), Zl and Zp: line separators
    return character in _BIDI_CONTROLS or unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp")


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
