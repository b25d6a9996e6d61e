"""Requests of very many partitions give the loop back while they are handled."""

from __future__ import annotations

import asyncio
from types import GeneratorType, SimpleNamespace
from typing import Any

from ottla.broker.handlers import delete_records, offset_for_leader_epoch
from ottla.errors import ErrorCode, KafkaError
from ottla.messages.delete_records import (
    DeleteRecordsPartition,
    DeleteRecordsRequest,
    DeleteRecordsTopic,
)
from ottla.messages.offset_for_leader_epoch import (
    OffsetForLeaderEpochRequest,
    OffsetForLeaderPartition,
    OffsetForLeaderTopic,
)
from ottla.network.stepping import run

COUNT = 5000
UNKNOWN = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION


def broker() -> Any:
    """It has no partition."""

    def leader_of(topic: str, index: int) -> Any:
        raise KafkaError(UNKNOWN)

    async def keep_log_starts(starts: Any) -> Any:
        return {}

    return SimpleNamespace(
        replicas=SimpleNamespace(leader_of=leader_of, keep_log_starts=keep_log_starts)
    )


def test_offset_for_leader_epoch_is_answered_in_steps() -> None:
    def asked(count: int) -> Any:
        partitions = [OffsetForLeaderPartition(partition=index) for index in range(count)]
        topic = OffsetForLeaderTopic(topic="t", partitions=partitions)
        request: Any = SimpleNamespace(body=OffsetForLeaderEpochRequest(topics=[topic]))
        return offset_for_leader_epoch.handle(broker(), request)

    (few,) = asked(3).topics
    assert [one.error_code for one in few.partitions] == [UNKNOWN] * 3
    steps = asked(COUNT)
    assert isinstance(steps, GeneratorType)
    taken = sum(1 for _ in asked(COUNT))
    assert taken >= COUNT / offset_for_leader_epoch.STEP_PARTITIONS - 1
    (many,) = run(steps).topics
    assert [one.partition for one in many.partitions] == list(range(COUNT))


def test_delete_records_gives_the_loop_back() -> None:
    async def scene() -> tuple[Any, int]:
        turns = 0

        async def others() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        partitions = [
            DeleteRecordsPartition(partition_index=index, offset=1) for index in range(COUNT)
        ]
        topic = DeleteRecordsTopic(name="t", partitions=partitions)
        request: Any = SimpleNamespace(
            body=DeleteRecordsRequest(topics=[topic], timeout_ms=1000),
        )
        task = asyncio.create_task(others())
        answer = await delete_records.handle(broker(), request)
        task.cancel()
        return answer, turns

    answer, turns = asyncio.run(scene())
    (answered,) = answer.topics
    assert [one.error_code for one in answered.partitions] == [UNKNOWN] * COUNT
    assert turns >= COUNT / delete_records.STEP_PARTITIONS
