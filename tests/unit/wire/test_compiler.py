"""The compiler refuses lengths and counts that the frame cannot hold, and copies no record bytes."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from ottla.messages.fetch import FetchableTopicResponse, FetchResponse, PartitionData
from ottla.messages.metadata import MetadataRequest, MetadataRequestTopic
from ottla.messages.produce import PartitionProduceData, ProduceRequest, TopicProduceData
from ottla.messages.registry import API_NAMES, api
from ottla.wire.compiler import (
    STEP_ELEMENTS,
    decode,
    decode_in_steps,
    encode,
    encode_bytes,
    encode_in_steps,
)
from ottla.wire.primitives import (
    DecodeError,
    EncodeError,
    encode_uvarint,
    encode_varint,
    read_uvarint,
    read_varint,
)
from ottla.wire.schema import Message, array, int32, string
from tests.support.samples import sample


def produce(records: bytes) -> ProduceRequest:
    partition = PartitionProduceData(index=3, records=records)
    topic = TopicProduceData(name="weather", partition_data=[partition])
    return ProduceRequest(acks=-1, timeout_ms=500, topic_data=[topic])


@pytest.mark.parametrize("version", [3, 9])
def test_every_truncation_of_a_frame_is_a_decode_error(version: int) -> None:
    frame = encode_bytes(produce(b"records"), version)
    for length in range(len(frame)):
        with pytest.raises(DecodeError):
            decode(ProduceRequest, version, frame[:length])


def test_decoded_records_are_a_view_of_the_frame() -> None:
    frame = bytearray(encode_bytes(produce(b"records"), 9))
    message, _ = decode(ProduceRequest, 9, frame)
    records = message.topic_data[0].partition_data[0].records
    assert isinstance(records, memoryview)
    records[:3] = b"REC"
    assert b"RECords" in frame


def test_encoded_records_are_chunks_of_their_own() -> None:
    pieces = [b"first", memoryview(b"second")]
    partition = PartitionData(partition_index=1, records=pieces)
    response = FetchResponse(responses=[FetchableTopicResponse(partitions=[partition])])
    chunks = encode(response, 12)
    assert any(chunk is pieces[0] for chunk in chunks)
    assert any(chunk is pieces[1] for chunk in chunks)
    read, _ = decode(FetchResponse, 12, b"".join(chunks))
    assert bytes(read.responses[0].partitions[0].records) == b"firstsecond"


@pytest.mark.parametrize("count", [-2, 2**31 - 1, 1000])
def test_a_count_past_the_frame_is_refused_before_anything_is_made(count: int) -> None:
    with pytest.raises(DecodeError):
        decode(MetadataRequest, 1, struct.pack(">i", count) + bytes(8))


def test_a_null_array_is_refused_where_the_version_has_none() -> None:
    assert decode(MetadataRequest, 1, struct.pack(">i", -1))[0].topics is None
    with pytest.raises(DecodeError):
        decode(MetadataRequest, 0, struct.pack(">i", -1))


def test_the_sum_of_all_counts_in_a_frame_is_bounded() -> None:
    class Cell(Message):
        names: list[str] = array(string)

    class Grid(Message, versions=(0, 0), flexible_from=0):
        cells: list[Cell] = array(Cell)

    row = encode_uvarint(300_001) + b"\x01" * 300_000 + b"\0"
    frame = encode_uvarint(5) + row * 4 + b"\0"
    with pytest.raises(DecodeError, match="length 300000"):
        decode(Grid, 0, frame)


@pytest.mark.parametrize("size", [1, 125, 126, 127, 128, 255, 16_381, 16_382, 16_383, 3_000_000])
def test_records_of_any_size_are_decoded_and_none_that_lacks_a_byte(size: int) -> None:
    """Their length has one to four bytes."""
    whole = encode_bytes(produce(bytes(size)), 9)
    assert decode(ProduceRequest, 9, whole) == (produce(bytes(size)), len(whole))
    begin = len(whole) - 3 - size  # three empty sets of tags stand behind them
    for end in (begin - 1, begin, len(whole) - 4):
        with pytest.raises(DecodeError):
            decode(ProduceRequest, 9, whole[:end])


def test_a_length_of_records_may_be_written_in_more_bytes_than_it_needs() -> None:
    whole = encode_bytes(produce(b"four"), 9)
    at = len(whole) - 3 - 4 - 1
    assert whole[at] == 5
    for length in (b"\x85\x00", b"\x85\x80\x00"):
        assert decode(ProduceRequest, 9, whole[:at] + length + whole[at + 1 :])[0] == produce(
            b"four"
        )


def test_unknown_tagged_fields_are_skipped_and_oversized_ones_refused() -> None:
    class Plain(Message, versions=(0, 0), flexible_from=0):
        number: int = int32()

    head = struct.pack(">i", 7)
    assert decode(Plain, 0, head + b"\x01\x63\x02ab")[0] == Plain(number=7)
    with pytest.raises(DecodeError):
        decode(Plain, 0, head + b"\x01\x63\x05ab")


def test_a_value_that_the_schema_cannot_express_is_an_encode_error() -> None:
    with pytest.raises(EncodeError):
        encode(MetadataRequest(topics=[MetadataRequestTopic(name=None)]), 1)
    with pytest.raises(EncodeError):
        encode(MetadataRequest(topics=[MetadataRequestTopic(name="x" * 40_000)]), 1)
    with pytest.raises(EncodeError):
        encode(MetadataRequest(topics=[MetadataRequestTopic(topic_id=b"short")]), 12)


def test_messages_take_keywords_only_and_know_their_fields() -> None:
    with pytest.raises(TypeError):
        MetadataRequest(nonsense=1)  # type: ignore[call-arg]
    with pytest.raises(AttributeError):
        MetadataRequest().nonsense = 1  # type: ignore[attr-defined]
    assert MetadataRequest() == MetadataRequest()
    assert MetadataRequest().topics is not MetadataRequest().topics
    assert "topics=" in repr(MetadataRequest())


@pytest.mark.parametrize("number", [0, 1, -1, 127, -64, 64, 2**31, -(2**63), 2**63 - 1])
def test_signed_varints_read_back(number: int) -> None:
    encoded = encode_varint(number)
    assert read_varint(encoded, 0) == (number, len(encoded))


@pytest.mark.parametrize("bad", [b"", b"\x80", b"\xff" * 11, b"\xff\xff\xff\xff\x7f"])
def test_an_unsigned_varint_past_32_bits_is_refused(bad: bytes) -> None:
    with pytest.raises(DecodeError):
        read_uvarint(bad, 0)


def steps_of(generator: Any) -> tuple[int, Any]:
    """How many times it yields, and what it comes to."""
    count = 0
    while True:
        try:
            next(generator)
        except StopIteration as done:
            return count, done.value
        count += 1


def test_in_steps_comes_out_what_comes_out_in_one_go() -> None:
    for key in API_NAMES:
        found = api(key)
        for cls in (found.request, found.response):
            for version in range(found.versions.lo, found.versions.hi + 1):
                message = sample(cls)
                whole = encode_bytes(message, version)
                _, chunks = steps_of(encode_in_steps(message, version))
                assert b"".join(chunks) == whole
                _, decoded = steps_of(decode_in_steps(cls, version, whole))
                assert decoded == decode(cls, version, whole)


def test_thousands_of_elements_take_many_steps() -> None:
    names = [MetadataRequestTopic(name=f"topic-{n}") for n in range(10 * STEP_ELEMENTS)]
    message = MetadataRequest(topics=names)
    encoding, chunks = steps_of(encode_in_steps(message, 9))
    decoding, (decoded, _) = steps_of(decode_in_steps(MetadataRequest, 9, b"".join(chunks)))
    assert (encoding, decoding) == (10, 10)
    assert decoded == message


def test_a_frame_that_is_cut_short_is_a_decode_error_in_steps_too() -> None:
    message = sample(api(1).request)
    whole = encode_bytes(message, 11)
    for end in range(len(whole)):
        with pytest.raises(DecodeError):
            steps_of(decode_in_steps(api(1).request, 11, whole[:end]))
