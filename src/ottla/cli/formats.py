"""How ``ottla consume`` writes a record: a format with ``%`` fields, or one JSON object a line.

A format is taken apart once into steps; keys and values are written as the bytes that they are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from ottla.cli.times import format_time

DEFAULT_FORMAT = "%s\\n"

FIELDS = """\
%t topic  %p partition  %o offset  %k key  %s value  %h headers  %T timestamp (ms)  %I timestamp (ISO)  \
%K key's length  %S value's length (-1: null)  %% a percent sign; \\n \\t \\r \\0 \\\\ \\xHH"""


class RecordLike(Protocol):
    """What is written: a record with its key and value as bytes."""

    @property
    def topic(self) -> str: ...
    @property
    def partition(self) -> int: ...
    @property
    def offset(self) -> int: ...
    @property
    def timestamp_ms(self) -> int: ...
    @property
    def key(self) -> Any: ...
    @property
    def value(self) -> Any: ...
    @property
    def headers(self) -> Sequence[tuple[str, bytes | None]]: ...


Writer = Callable[[RecordLike], bytes]

_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "0": "\0", "\\": "\\"}


def unescape(text: str) -> str:
    """``\\n``, ``\\t``, ``\\r``, ``\\0``, ``\\\\`` and ``\\xHH`` replaced; raises ValueError for others."""
    if "\\" not in text:
        return text
    result: list[str] = []
    position = 0
    while position < len(text):
        character = text[position]
        position += 1
        if character != "\\":
            result.append(character)
            continue
        escaped = text[position : position + 1]
        position += 1
        if escaped == "x":
            digits = text[position : position + 2]
            if len(digits) < 2 or not all(digit in "0123456789abcdefABCDEF" for digit in digits):
                raise ValueError(f"\\x needs two hexadecimal digits in {text!r}")
            result.append(chr(int(digits, 16)))
            position += 2
        elif escaped in _ESCAPES:
            result.append(_ESCAPES[escaped])
        else:
            raise ValueError(f"\\{escaped} means nothing in {text!r}; write \\\\ for a backslash")
    return "".join(result)


def compile_format(text: str) -> Writer:
    """The function that writes a record by the format ``text``; raises ValueError."""
    steps: list[bytes | Writer] = []
    literal: list[str] = []
    position = 0
    while position < len(text):
        percent = text.find("%", position)
        if percent < 0:
            literal.append(unescape(text[position:]))
            break
        literal.append(unescape(text[position:percent]))
        field = text[percent + 1 : percent + 2]
        position = percent + 2
        if field == "%":
            literal.append("%")
            continue
        if field not in _FIELDS:
            raise ValueError(f"%{field} is no field; there are {FIELDS}")
        steps.append("".join(literal).encode("utf-8", "surrogateescape"))
        literal = []
        steps.append(_FIELDS[field])
    steps.append("".join(literal).encode("utf-8", "surrogateescape"))

    def write(record: RecordLike) -> bytes:
        return b"".join(step if isinstance(step, bytes) else step(record) for step in steps)

    return write


def as_json(record: RecordLike) -> bytes:
    """One JSON object and a newline.

    A key, value or header's value that is no UTF-8 stands under ``key_base64``, ``value_base64``.
    """
    import msgspec

    headers: list[dict[str, object]] = []
    for name, value in record.headers:
        header: dict[str, object] = {"name": name}
        put_bytes(header, "value", value)
        headers.append(header)
    result: dict[str, object] = {
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "timestamp": record.timestamp_ms,
    }
    put_bytes(result, "key", record.key)
    put_bytes(result, "value", record.value)
    result["headers"] = headers
    return msgspec.json.encode(result) + b"\n"


def put_bytes(target: dict[str, object], name: str, value: bytes | None) -> None:
    """Put bytes into a JSON object: as text, else in base64 under another name."""
    if value is None:
        target[name] = None
        return
    try:
        target[name] = bytes(value).decode("utf-8")
    except UnicodeDecodeError:
        import base64

        target[f"{name}_base64"] = base64.b64encode(value).decode("ascii")


def _headers(record: RecordLike) -> bytes:
    return b",".join(
        name.encode("utf-8", "surrogateescape") + b"=" + (b"NULL" if value is None else value)
        for name, value in record.headers
    )


def _length(value: bytes | None) -> bytes:
    return b"-1" if value is None else b"%d" % len(value)


_FIELDS: dict[str, Writer] = {
    "t": lambda record: record.topic.encode(),
    "p": lambda record: b"%d" % record.partition,
    "o": lambda record: b"%d" % record.offset,
    "k": lambda record: b"" if record.key is None else bytes(record.key),
    "s": lambda record: b"" if record.value is None else bytes(record.value),
    "h": _headers,
    "T": lambda record: b"%d" % record.timestamp_ms,
    "I": lambda record: format_time(record.timestamp_ms).encode(),
    "K": lambda record: _length(record.key),
    "S": lambda record: _length(record.value),
}
