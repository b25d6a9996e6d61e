"""One broker's queue: order, merging, and sending again until somebody says that it is enough."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from ottla.controller import control_queue
from ottla.controller.control_queue import ControlQueue
from ottla.controller.transitions import FULL
from ottla.errors import ErrorCode, KafkaError
from ottla.messages.leader_and_isr import (
    LeaderAndIsrLiveLeader,
    LeaderAndIsrPartitionState,
    LeaderAndIsrRequest,
    LeaderAndIsrResponse,
    LeaderAndIsrTopicState,
)
from ottla.messages.stop_replica import (
    StopReplicaPartitionState,
    StopReplicaRequest,
    StopReplicaResponse,
    StopReplicaTopicState,
)
from ottla.messages.update_metadata import (
    UpdateMetadataPartitionState,
    UpdateMetadataRequest,
    UpdateMetadataResponse,
    UpdateMetadataTopicState,
)

TOPIC_ID = bytes(range(16))


class HeldBroker:
    """Answers when it is let, and fails as often as it is told to."""

    def __init__(self) -> None:
        self.requests: list[Any] = []
        self.let = asyncio.Event()
        self.failures: list[Exception] = []
        self.released = False

    async def _take(self, request: Any, response: Any) -> Any:
        self.requests.append(request)
        await self.let.wait()
        if self.failures:
            raise self.failures.pop(0)
        return response

    async def leader_and_isr(self, request: LeaderAndIsrRequest) -> LeaderAndIsrResponse:
        response: LeaderAndIsrResponse = await self._take(request, LeaderAndIsrResponse())
        return response

    async def update_metadata(self, request: UpdateMetadataRequest) -> UpdateMetadataResponse:
        response: UpdateMetadataResponse = await self._take(request, UpdateMetadataResponse())
        return response

    async def stop_replica(self, request: StopReplicaRequest) -> StopReplicaResponse:
        response: StopReplicaResponse = await self._take(request, StopReplicaResponse())
        return response

    def release(self) -> None:
        self.released = True


def lead(partition: int, epoch: int, *, new: bool = False, kind: int = 0) -> LeaderAndIsrRequest:
    state = LeaderAndIsrPartitionState(
        partition_index=partition, leader=1, leader_epoch=epoch, is_new=new
    )
    return LeaderAndIsrRequest(
        type=kind,
        topic_states=[
            LeaderAndIsrTopicState(topic_name="t", topic_id=TOPIC_ID, partition_states=[state])
        ],
        live_leaders=[LeaderAndIsrLiveLeader(broker_id=epoch, host_name="h", port=9)],
    )


def know(partition: int, epoch: int) -> UpdateMetadataRequest:
    state = UpdateMetadataPartitionState(partition_index=partition, leader_epoch=epoch)
    return UpdateMetadataRequest(
        topic_states=[
            UpdateMetadataTopicState(topic_name="t", topic_id=TOPIC_ID, partition_states=[state])
        ]
    )


def stop(partition: int) -> StopReplicaRequest:
    state = StopReplicaPartitionState(partition_index=partition, delete_partition=True)
    return StopReplicaRequest(
        topic_states=[StopReplicaTopicState(topic_name="t", partition_states=[state])]
    )


def seen(request: Any) -> tuple[str, list[tuple[int, int]]]:
    (topic,) = request.topic_states
    return type(request).__name__[:4], [
        (state.partition_index, state.leader_epoch) for state in topic.partition_states
    ]


def queue_of(broker: HeldBroker) -> tuple[ControlQueue, list[Any]]:
    answers: list[Any] = []
    queue = ControlQueue(
        7, 70, broker, lambda *answer: answers.append(answer), release=broker.release
    )
    return queue, answers


async def test_what_waits_behind_a_slow_broker_is_merged_and_nothing_passes_a_stop() -> None:
    broker = HeldBroker()
    queue, answers = queue_of(broker)
    first = queue.put(lead(0, 1))
    await asyncio.sleep(0)  # under way: nothing joins it any more
    futures = [
        queue.put(request)
        for request in (
            lead(0, 2, new=True),
            know(0, 2),
            lead(1, 3, kind=FULL),
            know(1, 3),
            lead(0, 4),
            stop(1),
            stop(2),
            know(2, 5),
            lead(1, 6),
        )
    ]
    broker.let.set()
    await queue.idle()
    assert [seen(request) for request in broker.requests] == [
        ("Lead", [(0, 1)]),
        ("Lead", [(0, 4), (1, 3)]),
        ("Upda", [(0, 2), (1, 3)]),
        ("Stop", [(1, -1), (2, -1)]),
        ("Upda", [(2, 5)]),
        ("Lead", [(1, 6)]),
    ]
    merged = broker.requests[1]
    assert merged.type == FULL
    assert [live.broker_id for live in merged.live_leaders] == [2, 3, 4]
    assert [state.is_new for state in merged.topic_states[0].partition_states] == [True, False]
    assert isinstance(first.result(), LeaderAndIsrResponse)
    assert all(future.result() is not None for future in futures)
    assert [answer[0] for answer in answers] == [7] * 6


async def test_request_is_sent_again_until_it_is_answered_and_those_behind_it_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(control_queue, "RETRY_DELAY_S", 0.001)
    broker = HeldBroker()
    broker.let.set()
    broker.failures = [
        ConnectionError("refused"),
        KafkaError(ErrorCode.REQUEST_TIMED_OUT, "silence"),
        KafkaError(ErrorCode.NETWORK_EXCEPTION, "hung up"),
    ]
    queue, answers = queue_of(broker)
    queue.put(lead(0, 1))
    queue.put(stop(0))
    await queue.idle()
    assert [seen(request)[0] for request in broker.requests] == ["Lead"] * 4 + ["Stop"]
    assert len(answers) == 2


async def test_request_that_cannot_be_carried_out_does_not_stop_those_behind_it() -> None:
    broker = HeldBroker()
    broker.let.set()
    broker.failures = [ZeroDivisionError(), KafkaError(ErrorCode.UNSUPPORTED_VERSION, "too old")]
    queue, answers = queue_of(broker)
    futures = [queue.put(lead(0, 1)), queue.put(stop(0)), queue.put(know(0, 1))]
    await queue.idle()
    assert [future.result() is None for future in futures] == [True, True, False]
    assert [answer[2] is None for answer in answers] == [True, True, False]


async def test_closed_queue_answers_nobody_and_lets_go_of_its_broker() -> None:
    broker = HeldBroker()
    queue, answers = queue_of(broker)
    futures = [queue.put(lead(0, 1)), queue.put(stop(0))]
    await asyncio.sleep(0)
    queue.close()
    await queue.idle()
    futures.append(queue.put(know(0, 1)))
    assert [await future for future in futures] == [None] * 3
    assert broker.released
    assert len(broker.requests) == 1
    assert answers == []


async def test_full_metadata_take_the_place_of_all_that_waits() -> None:
    broker = HeldBroker()
    queue, _ = queue_of(broker)
    queue.put(know(9, 1))
    await asyncio.sleep(0)  # under way
    full = know(1, 2)
    full.type = FULL
    for request in (know(0, 1), full, know(2, 3)):
        queue.put(request)
    broker.let.set()
    await queue.idle()
    _, merged = broker.requests
    assert (merged.type, seen(merged)[1]) == (FULL, [(1, 2), (2, 3)])
