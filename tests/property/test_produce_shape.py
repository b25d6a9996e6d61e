"""What a producer's earlier request tells of the next one is what decoding would tell."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from ottla.messages.produce import PartitionProduceData, ProduceRequest, TopicProduceData
from ottla.messages.produce_shape import ProduceShape
from ottla.messages.registry import RequestHeader, decode_request_header, encode_request
from ottla.wire.compiler import decode
from ottla.wire.primitives import DecodeError

RECORDS = st.one_of(st.none(), st.binary(max_size=300), st.integers(0, 20_000).map(bytes))
CLIENTS = st.one_of(st.none(), st.text(max_size=6))


@st.composite
def requests(draw: st.DrawFn) -> tuple[bytes, int]:
    """A Produce as a frame, and its version."""
    version = draw(st.integers(3, 13))
    topics = [
        TopicProduceData(
            name=draw(st.sampled_from(["t", "orders", "ö"])),
            topic_id=draw(st.sampled_from([bytes(16), bytes(range(16))])),
            partition_data=[
                PartitionProduceData(index=draw(st.integers(0, 2)), records=draw(RECORDS))
                for _ in range(draw(st.sampled_from([1, 1, 1, 0, 2])))
            ],
        )
        for _ in range(draw(st.sampled_from([1, 1, 1, 0, 2])))
    ]
    body = ProduceRequest(
        transactional_id=draw(st.sampled_from([None, None, "x"])),
        acks=draw(st.sampled_from([-1, 0, 1])),
        timeout_ms=draw(st.sampled_from([30_000, 5])),
        topic_data=topics,
    )
    number = draw(st.integers(-(2**31), 2**31 - 1))
    chunks = encode_request(body, version, number, draw(CLIENTS))
    return b"".join(bytes(chunk) for chunk in chunks), version


def decoded(frame: memoryview) -> tuple[RequestHeader, ProduceRequest] | None:
    """What decoding makes of a frame; None for nonsense, or for what is no Produce."""
    try:
        header, position = decode_request_header(frame)
        if header.api_key != 0 or not 3 <= header.api_version <= 13:
            return None
        return header, decode(ProduceRequest, header.api_version, frame, position)[0]
    except DecodeError:
        return None


def matched(shape: ProduceShape, frame: memoryview) -> tuple[RequestHeader, ProduceRequest] | None:
    """What the shape makes of it; nonsense may raise as decoding does."""
    try:
        return shape.match(frame)
    except DecodeError:
        assert decoded(frame) is None
        return None


@settings(max_examples=300)
@given(requests(), requests(), st.data())
def test_a_shape_says_what_decoding_says_or_nothing(
    first: tuple[bytes, int], other: tuple[bytes, int], data: st.DataObject
) -> None:
    frame = memoryview(first[0])
    found = decoded(frame)
    assert found is not None
    shape = ProduceShape.of(frame, *found)
    simple = [len(topic.partition_data) for topic in found[1].topic_data] == [1]
    if not simple or found[1].topic_data[0].partition_data[0].records is None:
        assert shape is None
        return
    assert shape is not None
    assert shape.match(frame) == found
    for candidate in (other[0], bytes(mutated(first[0], data)), bytes(mutated(other[0], data))):
        answer = matched(shape, memoryview(candidate))
        if answer is not None:
            assert answer == decoded(memoryview(candidate))


@given(requests(), st.binary(max_size=40_000), st.integers(-(2**31), 2**31 - 1))
def test_the_next_request_of_the_same_producer_matches(
    first: tuple[bytes, int], records: bytes, correlation_id: int
) -> None:
    frame, version = first
    found = decoded(memoryview(frame))
    assert found is not None
    header, body = found
    shape = ProduceShape.of(memoryview(frame), header, body)
    if shape is None:
        return
    body.topic_data[0].partition_data[0].records = memoryview(records)
    chunks = encode_request(body, version, correlation_id, header.client_id)
    following = memoryview(b"".join(bytes(chunk) for chunk in chunks))
    answer = shape.match(following)
    assert answer is not None
    assert answer == decoded(following)
    assert answer[0].correlation_id == correlation_id
    assert answer[1] is not body


def mutated(frame: bytes, data: st.DataObject) -> bytearray:
    """The frame with a byte changed, cut out or put in."""
    changed = bytearray(frame)
    at = data.draw(st.integers(0, len(changed) - 1))
    kind = data.draw(st.sampled_from(["change", "cut", "put", "end"]))
    if kind == "change":
        changed[at] = data.draw(st.integers(0, 255))
    elif kind == "cut":
        del changed[at : at + data.draw(st.integers(1, 5))]
    elif kind == "put":
        changed[at:at] = data.draw(st.binary(min_size=1, max_size=5))
    else:
        del changed[at:]
    return changed
