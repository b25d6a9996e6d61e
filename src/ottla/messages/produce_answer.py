"""A producer's answers are alike: they differ in the correlation id, the offset, the time and the log's start.

Rule: ``encoded`` answers exactly what encoding would. That is no second codec: a template is cut from an answer
that was encoded, and is made only where those fields are found in it at one place.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from functools import lru_cache

from ottla.messages.produce import PartitionProduceResponse, ProduceResponse, TopicProduceResponse
from ottla.messages.registry import encode_response

PRODUCE = 0
LOG_START_SINCE = 5
TEMPLATES_MAX = 1024
PARTITIONS_MAX = 64
"""A template for more partitions is not worth being kept."""
SEVERAL_MAX = 256

_INT32 = struct.Struct(">i")
_INDEX_MARK = -0x5EED0FF5
_MARKS = (-0x5EED0FF5E7000001, -0x5EED0FF5E7000002, -0x5EED0FF5E7000003)


class ProduceAnswer:
    """The answer to a Produce with one partition into which all went well, with its length before it."""

    __slots__ = ("_head", "_pack", "_size", "_tail")

    def __init__(self, size: int, head: bytes, tail: bytes) -> None:
        """Made by ``produce_answer``; ``head`` is what stands between the correlation id and the offset."""
        self._size = size
        self._head = head
        self._tail = tail
        self._pack = struct.Struct(f">ii{len(head)}sqqq{len(tail)}s").pack

    def encoded(
        self,
        correlation_id: int,
        base_offset: int,
        log_append_time_ms: int,
        log_start_offset: int,
    ) -> bytes:
        """The answer with these values."""
        return self._pack(
            self._size,
            correlation_id,
            self._head,
            base_offset,
            log_append_time_ms,
            log_start_offset,
            self._tail,
        )


@lru_cache(maxsize=TEMPLATES_MAX)
def produce_answer(version: int, topic: str, topic_id: bytes, index: int) -> ProduceAnswer | None:
    """The template for a partition's answers; None for versions that lack a field of it."""
    if version < LOG_START_SINCE:
        return None
    whole = _encoded(version, topic, topic_id, index, 1)
    head, marks, tail = whole.partition(struct.pack(">qqq", *_MARKS))
    if not marks or marks in tail:
        return None
    return ProduceAnswer(len(whole), head[_INT32.size :], tail)


class ProduceAnswers:
    """As ``ProduceAnswer``, to a Produce with several partitions of one topic, into all of which all went well."""

    __slots__ = ("_pack", "_values")

    def __init__(self, size: int, parts: list[bytes]) -> None:
        """Made by ``produce_answers``; ``parts`` is what stands before, between and behind the partitions' fields."""
        self._values: list[int | bytes] = [size, 0, parts[0]]
        for part in parts[1:]:
            self._values += (0, 0, 0, 0, 0, part)
        between = "ihqqq".join(f"{len(part)}s" for part in parts)
        self._pack = struct.Struct(f">ii{between}").pack

    def encoded(
        self,
        correlation_id: int,
        indexes: Sequence[int],
        base_offsets: Sequence[int],
        log_append_times_ms: Sequence[int],
        log_start_offsets: Sequence[int],
    ) -> bytes:
        """The answer with these values, one of each for each partition."""
        values = self._values.copy()
        values[1] = correlation_id
        values[3::6] = indexes
        values[5::6] = base_offsets
        values[6::6] = log_append_times_ms
        values[7::6] = log_start_offsets
        return self._pack(*values)


@lru_cache(maxsize=SEVERAL_MAX)
def produce_answers(version: int, topic: str, topic_id: bytes, count: int) -> ProduceAnswers | None:
    """The template for the answers of ``count`` partitions; None for versions that lack a field, or for too many."""
    if version < LOG_START_SINCE or not 0 < count <= PARTITIONS_MAX:
        return None
    whole = _encoded(version, topic, topic_id, _INDEX_MARK, count)
    parts = whole[_INT32.size :].split(struct.pack(">ihqqq", _INDEX_MARK, 0, *_MARKS))
    if len(parts) != count + 1:
        return None
    return ProduceAnswers(len(whole), parts)


def _encoded(version: int, topic: str, topic_id: bytes, index: int, count: int) -> bytes:
    """An answer with so many partitions alike, and the marks in the place of what an append says."""
    base_offset, log_append_time_ms, log_start_offset = _MARKS
    partition = PartitionProduceResponse(
        index=index,
        base_offset=base_offset,
        log_append_time_ms=log_append_time_ms,
        log_start_offset=log_start_offset,
    )
    partitions = [partition] * count
    answer = TopicProduceResponse(name=topic, topic_id=topic_id, partition_responses=partitions)
    chunks = encode_response(PRODUCE, version, 0, ProduceResponse(responses=[answer]))
    return b"".join(bytes(chunk) for chunk in chunks)
