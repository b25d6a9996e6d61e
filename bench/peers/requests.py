"""The requests that the load generator replays: Produce 9 and Fetch 12, built before anything is measured.

Both are flexible versions that name topics, which every peer here takes; clients of today use versions a little
newer whose bodies are the same but for topic ids in the place of names.
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from functools import cache

from bench.broker_process import Frame
from bench.peers.load import LoadFrame, Place
from ottla.messages.fetch import FetchPartition, FetchRequest, FetchTopic
from ottla.messages.produce import PartitionProduceData, ProduceRequest, TopicProduceData
from ottla.records.batch import CompressionType
from ottla.records.builder import build_batch

PRODUCE_VERSION = 9
FETCH_VERSION = 12
NOW_MS = int(time.time() * 1000)
"""Records are of today: none is old enough to be deleted while it is measured."""
_MARK = 0x0123_4567_89AB_CD00
"""Offsets that are looked for in an encoded Fetch: one a partition."""


@cache
def text(size: int, seed: int) -> bytes:
    """A value of ``size`` bytes that compresses about as events do (some 3:1 with lz4): words and numbers."""
    words = ["station", "temperature", "humidity", "wind", "clear", "rain", "north", "Bern"]
    chosen = random.Random(seed)
    parts: list[str] = []
    length = 0
    while length < size:
        part = f'"{chosen.choice(words)}":{chosen.random():.4f},'
        parts.append(part)
        length += len(part)
    return "".join(parts).encode()[:size]


@cache
def batch(record_bytes: int, batch_bytes: int, codec: str = "none") -> bytes:
    """A record batch of about ``batch_bytes`` before compression, its records' values of ``record_bytes``."""
    count = max(1, batch_bytes // (record_bytes + 10))
    records = [(NOW_MS, None, text(record_bytes, index), ()) for index in range(count)]
    return bytes(build_batch(records, compression=CompressionType[codec.upper()]))


def produce(topic: str, batches: Sequence[tuple[int, bytes]], acks: int, port: int) -> LoadFrame:
    """A Produce of one batch for each of some partitions."""
    data = [PartitionProduceData(index=index, records=records) for index, records in batches]
    produced = TopicProduceData(name=topic, partition_data=data)
    request = ProduceRequest(acks=acks, timeout_ms=30_000, topic_data=[produced])
    return LoadFrame(port, Frame(request, PRODUCE_VERSION).bytes)


def fetch(
    topic: str,
    partitions: Sequence[int],
    port: int,
    *,
    partition_max_bytes: int = 1 << 20,
    max_bytes: int = 50 << 20,
) -> LoadFrame:
    """A Fetch of some partitions, from their starts on; consumers' defaults for the sizes."""
    wanted = [
        FetchPartition(
            partition=index,
            fetch_offset=_MARK + place,
            partition_max_bytes=partition_max_bytes,
        )
        for place, index in enumerate(partitions)
    ]
    request = FetchRequest(
        max_wait_ms=500,
        min_bytes=1,
        max_bytes=max_bytes,
        topics=[FetchTopic(topic=topic, partitions=wanted)],
    )
    frame = bytearray(Frame(request, FETCH_VERSION).bytes)
    places = []
    for place, index in enumerate(partitions):
        mark = (_MARK + place).to_bytes(8, "big")
        position = frame.index(mark)
        frame[position : position + 8] = bytes(8)
        places.append(Place(index, position))
    return LoadFrame(port, bytes(frame), places)
