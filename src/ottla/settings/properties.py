"""Reads the text of a Java properties file, as ``java.util.Properties.load`` does.

Comments start with ``#`` or ``!``; a key ends at the first unescaped ``=``, ``:`` or blank; a backslash at
the end of a line continues it; ``\\uXXXX``, ``\\t``, ``\\n``, ``\\f``, ``\\r`` are escapes and a backslash
before anything else is dropped. The text is Unicode already (the caller decodes UTF-8).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

_BLANKS = " \t\f"
_ESCAPES = {"t": "\t", "n": "\n", "f": "\f", "r": "\r"}


class Property(NamedTuple):
    """One key with its value, and the line (from 1) where it starts."""

    key: str
    value: str
    line: int


class PropertiesError(ValueError):
    """The text is no properties file; the message names the line."""


def parse(text: str) -> list[Property]:
    """Every property of ``text`` in order, repeated keys included; raises PropertiesError."""
    return [_split(line, number) for line, number in _logical_lines(text)]


def parse_to_dict(text: str) -> dict[str, str]:
    """The properties as a dict; the last of a repeated key wins."""
    return {item.key: item.value for item in parse(text)}


def _logical_lines(text: str) -> Iterator[tuple[str, int]]:
    """Lines without comments, blank lines and leading blanks, continued ones joined."""
    pending: list[str] = []
    start = 0
    lines = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n").split("\n")
    for number, raw in enumerate(lines, 1):
        line = raw.lstrip(_BLANKS)
        if not pending:
            if not line or line[0] in "#!":
                continue
            start = number
        backslashes = len(line) - len(line.rstrip("\\"))
        if backslashes % 2:
            pending.append(line[:-1])
            continue
        pending.append(line)
        yield "".join(pending), start
        pending = []
    if pending:
        yield "".join(pending), start


def _split(line: str, number: int) -> Property:
    position = 0
    while position < len(line) and line[position] not in "=:" + _BLANKS:
        position += 2 if line[position] == "\\" else 1
    key = line[:position]
    rest = line[position:].lstrip(_BLANKS)
    if rest[:1] in ("=", ":"):
        rest = rest[1:].lstrip(_BLANKS)
    return Property(_unescape(key, number), _unescape(rest, number), number)


def _unescape(text: str, number: int) -> str:
    if "\\" not in text:
        return text
    result: list[str] = []
    position = 0
    while position < len(text):
        character = text[position]
        position += 1
        if character != "\\" or position == len(text):
            result.append(character)
            continue
        escaped = text[position]
        position += 1
        if escaped == "u":
            digits = text[position : position + 4]
            if len(digits) < 4 or not all(digit in "0123456789abcdefABCDEF" for digit in digits):
                raise PropertiesError(f"line {number}: \\u needs four hexadecimal digits")
            result.append(chr(int(digits, 16)))
            position += 4
        else:
            result.append(_ESCAPES.get(escaped, escaped))
    # Two \u escapes can make one character of a surrogate pair; one alone is no character.
    joined = "".join(result)
    try:
        return joined.encode("utf-16", "surrogatepass").decode("utf-16")
    except UnicodeDecodeError:
        raise PropertiesError(f"line {number}: half of a \\u surrogate pair") from None
