"""The compiled record loops do what their source does, with any bytes and with any records.

The same value, or an exception of the same class with the same words, from every function of the two copies.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ottla.client.record import Record
from ottla.records.codec import NewRecord, RecordPlace
from ottla.records.codec import Record as StoredRecord
from ottla.wire.primitives import encode_uvarint, encode_varint
from tests.support.record_codec import copy_of_loops, require_compiled

LARGEST = 2**63 - 1
numbers = st.one_of(
    st.integers(-3, 200),
    st.integers(-(2**63), LARGEST),
    st.sampled_from([63, 64, 8191, 8192, 2**31 - 1, 2**31, -(2**31), 2**62, LARGEST, -(2**63)]),
)
contents = st.one_of(st.none(), st.binary(max_size=90))
header_lists = st.lists(st.tuples(st.text(max_size=4), contents), max_size=3)
offsets = st.sampled_from([0, 1, 10**9, 2**61, LARGEST])
times = st.sampled_from([-1, 0, 1_700_000_000_000, LARGEST])


def part(content: bytes | None) -> bytes:
    return b"\x01" if content is None else encode_varint(len(content)) + content


@st.composite
def record_bytes(draw: st.DrawFn) -> bytes:
    """A record, right or with numbers that lie."""
    key, value, headers = draw(contents), draw(contents), draw(header_lists)
    body = b"\0" + encode_varint(draw(numbers)) + encode_varint(draw(st.integers(0, 3) | numbers))
    body += part(key) + part(value) + encode_varint(len(headers))
    body += b"".join(part(name.encode()) + part(content) for name, content in headers)
    place = draw(st.integers(0, len(body)))
    body = draw(
        st.sampled_from(
            [body] * 3
            + [
                body[:place] + encode_varint(draw(numbers)) + body[place:],
                body[:place] + encode_varint(draw(numbers)) + body[place + 1 :],
                body[:place] + b"\xff" * draw(st.integers(1, 11)) + body[place:],
                body[:place],
            ]
        )
    )
    length = draw(st.sampled_from([len(body)] * 6 + [len(body) + 1, len(body) - 1]) | numbers)
    return encode_varint(length) + body


inputs = st.one_of(
    st.lists(record_bytes(), max_size=4).map(b"".join),
    st.binary(max_size=60),
    st.builds(lambda n, rest: encode_uvarint(n) + rest, st.integers(0, 2**64 - 1), st.binary()),
)


def outcome(call: Callable[[], Any]) -> tuple[str, Any]:
    """What it returns, or what it raises."""
    try:
        return "value", call()
    except (MemoryError, SystemError):  # of nothing that is asked here
        raise
    except Exception as error:
        return type(error).__name__, str(error) if not isinstance(error, IndexError) else ""


def assert_alike(name: str, *arguments: Any, walked: bool = False) -> None:
    """Call both copies and compare."""
    found = []
    for loops in (require_compiled(), copy_of_loops("interpreted")):
        function = getattr(loops, name)
        found.append(
            outcome(lambda f=function: list(f(*arguments)) if walked else f(*arguments))  # type: ignore[misc]
        )
    assert found[0] == found[1]
    assert found[0][0] in ("value", "InvalidRecord", "IndexError", "ValueError")


@given(inputs, st.integers(0, 5), offsets, times, times, st.booleans())
@settings(deadline=None, max_examples=1500)
@example(bytes.fromhex("00") * 7, 1, 0, 0, 0, True)
@example(b"\xff" * 9 + b"\x01" + b"\0" * 20, 1, LARGEST, LARGEST, 0, True)
@example(b"\xfe" + b"\xff" * 8 + b"\x01" + b"\0" * 20, 1, LARGEST, LARGEST, 0, True)
@example(b"\x0e\0" + b"\xfe" + b"\xff" * 8 + b"\x01" + b"\0" * 9, 1, 0, LARGEST, 0, True)
def test_both_copies_read_the_same_of_any_bytes(
    data: bytes, count: int, offset: int, base_ms: int, first_ms: int, create_time: bool
) -> None:
    bases = (offset, base_ms, create_time, first_ms)
    assert_alike("decode", data, count, *bases, StoredRecord, None, 0)
    assert_alike("decode", data, count, *bases, Record, "topic", 7)
    assert_alike("walk", data, count, offset, walked=True)
    assert_alike("places", data, count, *bases, RecordPlace, walked=True)
    p = min(count, len(data))
    assert_alike("decode_some", data, p, count, count, 50, *bases, Record, "topic", 7)
    assert_alike("shifted", data, base_ms - first_ms)


new_records = st.lists(
    st.tuples(
        st.integers(-1, LARGEST) | st.integers(0, 20_000),
        contents | st.builds(bytes, st.sampled_from([63, 64, 3999, 4000, 8200])),
        contents | st.builds(bytes, st.sampled_from([63, 64, 3999, 4000, 8200])),
        header_lists,
    ),
    max_size=8,
)


@given(new_records, times)
@settings(deadline=None, max_examples=300)
def test_both_copies_write_the_same_bytes(records: list[NewRecord], base_ms: int) -> None:
    assert_alike("encode_chunks", records, base_ms, [])


@pytest.mark.parametrize("count", [0, 1, 64, 8192, 70_000])
def test_both_copies_write_and_read_many_records(count: int) -> None:
    compiled, interpreted = require_compiled(), copy_of_loops("interpreted")
    records: list[NewRecord] = [(n * n, None, b"v%d" % n, ()) for n in range(count)]
    data = b"".join(compiled.encode_chunks(records, 0, []))
    assert data == b"".join(interpreted.encode_chunks(records, 0, []))
    found = compiled.decode(data, count, 5, 0, True, 0, Record, "t", 1)
    assert found == interpreted.decode(data, count, 5, 0, True, 0, Record, "t", 1)
    assert [(r.offset, r.timestamp_ms, r.value) for r in found] == [
        (5 + n, record[0], record[2]) for n, record in enumerate(records)
    ]


@pytest.mark.parametrize("wrong", [bytearray(b"x"), memoryview(b"x"), "x", 5])
def test_the_compiled_copy_reads_and_writes_nothing_but_bytes(wrong: Any) -> None:
    compiled = require_compiled()
    with pytest.raises(TypeError):
        compiled.decode(wrong, 1, 0, 0, True, 0, StoredRecord, None, 0)
    with pytest.raises(TypeError):
        compiled.encode_chunks([(0, wrong, b"", ())], 0, [])
