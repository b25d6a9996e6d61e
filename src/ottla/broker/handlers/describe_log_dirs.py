"""DescribeLogDirs (key 35): what lies in each log directory, and how much room there is.

Behaviour
- Every entry of ``log.dirs`` is in the answer; one that is offline has KAFKA_STORAGE_ERROR and nothing else.
- A null list of topics asks for all partitions; partitions that are not here are left out.
- A partition's lag is what its log lacks of its high watermark: 0 for a leader. A replica that is being moved
  is there twice: the future one's lag is what it lacks of the current log.

Versions: 3 a top-level error, 4 total and usable bytes of the volume, 5 cordoned directories (there are none).
Errors: a directory's KAFKA_STORAGE_ERROR.
Source: ``ReplicaManager.describeLogDirs``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import TYPE_CHECKING

from ottla.errors import ErrorCode
from ottla.logs import logger
from ottla.messages.describe_log_dirs import (
    DescribeLogDirsPartition,
    DescribeLogDirsRequest,
    DescribeLogDirsResponse,
    DescribeLogDirsResult,
    DescribeLogDirsTopic,
)

if TYPE_CHECKING:
    from ottla.broker.broker import Broker
    from ottla.log.directory import LogDirectory
    from ottla.network.request import Request

log = logger(__name__)

UNKNOWN_LAG = -1
AT_ONCE = 500
"""Partitions between two turns of the loop."""

Key = tuple[str, int]


async def handle(broker: Broker, request: Request) -> DescribeLogDirsResponse:
    """Describe each directory."""
    body: DescribeLogDirsRequest = request.body
    wanted: set[Key] | None = None
    if body.topics is not None:
        wanted = {(topic.topic, index) for topic in body.topics for index in topic.partitions}
    results = [await _describe(broker, one, wanted) for one in broker.directories.all]
    return DescribeLogDirsResponse(results=results)


async def _describe(
    broker: Broker, directory: LogDirectory, wanted: Collection[Key] | None
) -> DescribeLogDirsResult:
    result = DescribeLogDirsResult(log_dir=directory.path)
    if directory.offline is None:
        try:
            space = await asyncio.to_thread(directory.disk.space, directory.path)
        except OSError as error:
            log.warning("log directory not described", directory=directory.path, error=error)
            result.error_code = ErrorCode.KAFKA_STORAGE_ERROR
            return result
        result.total_bytes, result.usable_bytes = space
        result.topics = await _topics(broker, directory, wanted)
    if directory.offline is not None:
        return DescribeLogDirsResult(
            log_dir=directory.path, error_code=ErrorCode.KAFKA_STORAGE_ERROR
        )
    return result


async def _topics(
    broker: Broker, directory: LogDirectory, wanted: Collection[Key] | None
) -> list[DescribeLogDirsTopic]:
    topics: dict[str, DescribeLogDirsTopic] = {}
    for number, (key, found) in enumerate(list(directory.logs.items()), 1):
        if wanted is None or key in wanted:
            partition = broker.replicas.get(*key)
            lag = UNKNOWN_LAG
            if partition is not None:
                lag = max(partition.high_watermark - found.log_end_offset, 0)
            _add(topics, key, found.size_bytes, lag)
        if number % AT_ONCE == 0:
            await asyncio.sleep(0)
    for topic, index, size_bytes, lag in broker.replicas.moves.into(directory):
        if wanted is None or (topic, index) in wanted:
            _add(topics, (topic, index), size_bytes, lag, is_future=True)
    return list(topics.values())


def _add(
    topics: dict[str, DescribeLogDirsTopic],
    key: Key,
    size_bytes: int,
    lag: int,
    *,
    is_future: bool = False,
) -> None:
    name, index = key
    topic = topics.get(name)
    if topic is None:
        topic = topics[name] = DescribeLogDirsTopic(name=name)
    topic.partitions.append(
        DescribeLogDirsPartition(
            partition_index=index,
            partition_size=size_bytes,
            offset_lag=lag,
            is_future_key=is_future,
        )
    )
