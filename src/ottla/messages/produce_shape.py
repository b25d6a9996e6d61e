"""A producer's requests are alike: what a Produce was decoded to tells what the next one holds.

A client that sends small batches spends most of a broker's decoding on the same bytes again and again: the
header, the topic's name, the partition. ``ProduceShape`` keeps those of a request with one partition, and where
a later frame differs in nothing but the correlation id and the records, it makes the same request of them.

Rule: ``match`` answers exactly what decoding would, or None. That is no second codec: a shape is taken from a
request that was decoded, and holds only for frames that are, byte for byte, the same before and behind the records.
"""

from __future__ import annotations

import struct

from ottla.messages.produce import PartitionProduceData, ProduceRequest, TopicProduceData
from ottla.messages.registry import RequestHeader
from ottla.wire.primitives import encode_uvarint, read_uvarint

PREFIX_BYTES_MAX = 1024
"""Longer names are not worth being kept for every connection."""

_INT32 = struct.Struct(">i")
_API_AND_CORRELATION = struct.Struct(">ii")
_SHORTEST_REST = 4
"""An empty length and three empty sets of tags; or a length of four bytes."""
_AFTER_CORRELATION = 8
_new = object.__new__
_new_header = tuple.__new__


class ProduceShape:
    """What all requests of one producer to one partition have in common."""

    __slots__ = ("_api", "_body", "_fixed", "_flexible", "_header", "_length_at")

    def __init__(
        self, frame: memoryview, header: RequestHeader, body: ProduceRequest, length_at: int
    ) -> None:
        """Made by ``of``; ``length_at`` is where the records' length stands."""
        self._api = _API_AND_CORRELATION.unpack_from(frame)[0]
        self._fixed = bytes(frame[_AFTER_CORRELATION:length_at])
        self._length_at = length_at
        self._flexible = header.api_version >= ProduceRequest.__flexible_from__
        self._header = header
        self._body = body

    @classmethod
    def of(
        cls, frame: memoryview, header: RequestHeader, body: ProduceRequest
    ) -> ProduceShape | None:
        """The shape of a request that was decoded from ``frame``; None if it is not of the simple kind."""
        if len(body.topic_data) != 1 or len(body.topic_data[0].partition_data) != 1:
            return None
        topic = body.topic_data[0]
        data = topic.partition_data[0]
        if data.records is None:
            return None
        size = len(data.records)
        flexible = header.api_version >= ProduceRequest.__flexible_from__
        length = encode_uvarint(size + 1) if flexible else _INT32.pack(size)
        behind = b"\0\0\0" if flexible else b""
        length_at = len(frame) - len(behind) - size - len(length)
        if (
            not _AFTER_CORRELATION <= length_at <= PREFIX_BYTES_MAX
            or frame[length_at : length_at + len(length)] != length
            or frame[len(frame) - len(behind) :] != behind
        ):
            return None  # tagged fields, or a length written in more bytes than it needs
        kept = ProduceRequest(
            transactional_id=body.transactional_id,
            acks=body.acks,
            timeout_ms=body.timeout_ms,
            topic_data=[
                TopicProduceData(
                    name=topic.name,
                    topic_id=topic.topic_id,
                    partition_data=[PartitionProduceData(index=data.index)],
                )
            ],
        )
        return cls(frame, header, kept, length_at)

    def alike(self, frame: memoryview) -> tuple[int, memoryview] | None:
        """Correlation id and records of the request in ``frame``, if it is like the one that was decoded."""
        at = self._length_at
        end = len(frame)
        if end < at + _SHORTEST_REST or frame[_AFTER_CORRELATION:at].tobytes() != self._fixed:
            return None
        both, correlation_id = _API_AND_CORRELATION.unpack_from(frame)
        if both != self._api:
            return None
        if self._flexible:
            end -= 3
            if frame[end] or frame[end + 1] or frame[end + 2]:
                return None
            size = frame[at] - 1
            at += 1
            if size > 126:
                high = frame[at]
                if 0 < high < 128:  # two bytes, as most small batches have
                    size += (high - 1) * 128
                    at += 1
                else:
                    size, at = read_uvarint(frame, at - 1)
                    size -= 1
        else:
            (size,) = _INT32.unpack_from(frame, at)
            at += 4
        if size < 0 or at + size != end:
            return None
        return correlation_id, frame[at:end]

    def match(self, frame: memoryview) -> tuple[RequestHeader, ProduceRequest] | None:
        """The request in ``frame``, if it is like the one that was decoded. It shares nothing with it."""
        alike = self.alike(frame)
        if alike is None:
            return None
        correlation_id, records = alike
        key, version, _, client_id = self._header
        kept = self._body
        kept_topic = kept.topic_data[0]
        data = _new(PartitionProduceData)
        data.index = kept_topic.partition_data[0].index
        data.records = records
        topic = _new(TopicProduceData)
        topic.name = kept_topic.name
        topic.topic_id = kept_topic.topic_id
        topic.partition_data = [data]
        body = _new(ProduceRequest)
        body.transactional_id = kept.transactional_id
        body.acks = kept.acks
        body.timeout_ms = kept.timeout_ms
        body.topic_data = [topic]
        return _new_header(RequestHeader, (key, version, correlation_id, client_id)), body
