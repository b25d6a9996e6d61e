"""How a record is written."""

from __future__ import annotations

import json
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ottla.cli.formats import as_json, compile_format, unescape


class Record(NamedTuple):
    topic: str = "weather"
    partition: int = 2
    offset: int = 17
    timestamp_ms: int = 1_714_564_800_000
    key: bytes | None = b"JFK"
    value: bytes | None = b"sunny\xff"
    headers: list[tuple[str, bytes | None]] = [("a", b"1"), ("b", None)]  # noqa: RUF012


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("%s\\n", b"sunny\xff\n"),
        ("%t %p %o %k %s\\n", b"weather 2 17 JFK sunny\xff\n"),
        ("%T|%I", b"1714564800000|2024-05-01T12:00:00.000Z"),
        ("%h", b"a=1,b=NULL"),
        ("%K/%S", b"3/6"),
        ("100%% \\t\\x41\\\\", b"100% \tA\\"),
        ("", b""),
        ("ünï", "ünï".encode()),
    ],
)
def test_fields_and_escapes_are_filled_in(text: str, expected: bytes) -> None:
    assert compile_format(text)(Record()) == expected


def test_null_is_written_as_nothing_and_its_length_as_minus_one() -> None:
    assert compile_format("[%k][%s] %K %S")(Record(key=None, value=None)) == b"[][] -1 -1"


@pytest.mark.parametrize("text", ["%x", "%", "\\q", "\\x4", "trailing \\"])
def test_a_format_that_means_nothing_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        compile_format(text)


@given(st.text(alphabet=st.sampled_from("%tpokshTIKS\\nx4é ")))
def test_any_format_works_or_is_refused(text: str) -> None:
    try:
        write = compile_format(text)
    except ValueError:
        return
    assert isinstance(write(Record()), bytes)


def test_separators_are_unescaped() -> None:
    assert unescape("\\t") == "\t"
    assert unescape("::") == "::"


def test_json_is_one_object_a_line() -> None:
    line = as_json(Record(value=b"caf\xc3\xa9"))
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert json.loads(line) == {
        "topic": "weather",
        "partition": 2,
        "offset": 17,
        "timestamp": 1_714_564_800_000,
        "key": "JFK",
        "value": "café",
        "headers": [{"name": "a", "value": "1"}, {"name": "b", "value": None}],
    }


def test_json_holds_bytes_that_are_no_text_in_base64_and_null_as_null() -> None:
    found = json.loads(as_json(Record(key=None, headers=[("h", b"\x80")])))
    assert found["key"] is None
    assert found["value_base64"] == "c3Vubnn/"
    assert "value" not in found
    assert found["headers"] == [{"name": "h", "value_base64": "gA=="}]
