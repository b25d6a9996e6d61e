"""A producer's answers are alike: they differ in the correlation id, the offset, the time and the log's start.

Rule: ``encoded`` answers exactly what encoding would. That is no second codec: a template is cut from an answer
that was encoded, and is made only where those fields are found in it at one place.
"""

from __future__ import annotations

import struct
from functools import lru_cache

from ottla.messages.produce import PartitionProduceResponse, ProduceResponse, TopicProduceResponse
from ottla.messages.registry import encode_response

PRODUCE = 0
LOG_START_SINCE = 5
TEMPLATES_MAX = 1024

_INT32 = struct.Struct(">i")
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
    base_offset, log_append_time_ms, log_start_offset = _MARKS
    partition = PartitionProduceResponse(
        index=index,
        base_offset=base_offset,
        log_append_time_ms=log_append_time_ms,
        log_start_offset=log_start_offset,
    )
    answer = TopicProduceResponse(name=topic, topic_id=topic_id, partition_responses=[partition])
    chunks = encode_response(PRODUCE, version, 0, ProduceResponse(responses=[answer]))
    whole = b"".join(bytes(chunk) for chunk in chunks)
    head, marks, tail = whole.partition(struct.pack(">qqq", *_MARKS))
    if not marks or marks in tail:
        return None
    return ProduceAnswer(len(whole), head[_INT32.size :], tail)
