"""What the admin client makes of a cluster that changes while it lives, without one: scripted answers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from ottla.client.admin.admin import AsyncAdmin
from ottla.client.errors import RequestTimeout
from ottla.client.metadata import Node, PartitionMetadata, TopicMetadata
from ottla.client.types import TopicPartition
from ottla.errors import ErrorCode, KafkaError
from ottla.messages.delete_groups import DeletableGroupResult, DeleteGroupsResponse
from ottla.messages.delete_records import (
    DeleteRecordsPartitionResult,
    DeleteRecordsResponse,
    DeleteRecordsTopicResult,
)
from ottla.messages.find_coordinator import FindCoordinatorRequest, FindCoordinatorResponse
from ottla.messages.list_groups import ListedGroup, ListGroupsResponse
from ottla.topic_ids import ZERO_ID


class Scene:
    """An admin client, and what is true of its cluster when it looks."""

    def __init__(self) -> None:
        self.admin = AsyncAdmin("boot:1", request_timeout_ms=1_000)
        self.partitions = 1
        self.nodes = [1]
        self.reachable = True
        self.asked: list[int] = []
        cluster = self.admin.cluster
        cluster.start = lambda: None  # type: ignore[method-assign]
        cluster.refresh = self._refresh  # type: ignore[method-assign]
        cluster.send = self._send  # type: ignore[method-assign, assignment]
        self._take_over()

    def _take_over(self) -> None:
        metadata = self.admin.cluster.metadata
        metadata.nodes = {n: Node(n, f"host{n}", n) for n in self.nodes}
        metadata.topics["t"] = TopicMetadata(
            "t",
            ZERO_ID,
            False,
            {
                number: PartitionMetadata(number, 1, 0, (1,), (1,))
                for number in range(self.partitions)
            },
        )

    async def _refresh(self) -> bool:
        await asyncio.sleep(0)
        if self.reachable:
            self._take_over()
        return self.reachable

    async def _send(self, node_id: int, request: Any, **options: Any) -> Any:
        self.asked.append(node_id)
        if type(request).__name__ == "ListGroupsRequest":
            group = ListedGroup(group_id=f"of-{node_id}", protocol_type="consumer")
            return ListGroupsResponse(groups=[group])
        return DeleteRecordsResponse(
            topics=[
                DeleteRecordsTopicResult(
                    name=topic.name,
                    partitions=[
                        DeleteRecordsPartitionResult(
                            partition_index=each.partition_index, low_watermark=each.offset
                        )
                        for each in topic.partitions
                    ],
                )
                for topic in request.topics
            ]
        )


def play(scenario: Callable[[Scene], Any]) -> None:
    async def run() -> None:
        await scenario(Scene())

    asyncio.run(run())


def test_partitions_that_came_after_the_topic_was_asked_for_are_found() -> None:
    async def scenario(scene: Scene) -> None:
        assert await scene.admin.delete_records({("t", 0): 1}) == {TopicPartition("t", 0): 1}
        scene.partitions = 2
        assert await scene.admin.delete_records({("t", 1): 2}) == {TopicPartition("t", 1): 2}

    play(scenario)


def test_groups_of_a_broker_that_came_back_are_listed() -> None:
    async def scenario(scene: Scene) -> None:
        await scene.admin.list_groups()
        scene.nodes = [1, 2]
        found = await scene.admin.list_groups()
        assert [listing.group for listing in found] == ["of-1", "of-2"]

    play(scenario)


def test_topic_is_not_said_to_be_unknown_where_nobody_could_be_asked() -> None:
    async def scenario(scene: Scene) -> None:
        scene.admin.timeout_ms = 0
        scene.reachable = False
        with pytest.raises(RequestTimeout):
            await scene.admin.delete_records({("t", 1): 2})
        with pytest.raises(RequestTimeout):
            await scene.admin.alter_group_offsets("g", {("t", 1): 2})
        scene.admin.timeout_ms = 1_000
        scene.reachable = True
        (found,) = (await scene.admin.delete_records({("t", 1): 2})).values()
        assert isinstance(found, KafkaError)
        assert found.code is ErrorCode.UNKNOWN_TOPIC_OR_PARTITION

    play(scenario)


class ToyChannel:
    """To a broker that coordinates every group."""

    def version_for(self, key: int) -> int:
        """One in which a single group is looked up."""
        return 3

    async def send(self, request: Any, **options: Any) -> Any:
        """The answer."""
        if isinstance(request, FindCoordinatorRequest):
            return FindCoordinatorResponse(node_id=1, host="host1", port=1)
        return DeleteGroupsResponse(
            results=[DeletableGroupResult(group_id=name) for name in request.groups_names]
        )


def test_many_groups_take_no_more_connections_than_there_are_brokers() -> None:
    async def scenario(scene: Scene) -> None:
        connections: set[tuple[str, int, str]] = set()

        async def connect(host: str, port: int, purpose: str) -> Any:
            connections.add((host, port, purpose))
            return ToyChannel()

        scene.admin.cluster.connections.channel = connect  # type: ignore[method-assign]
        groups = [f"g{number}" for number in range(100)]
        assert set((await scene.admin.delete_groups(*groups)).values()) == {None}
        assert connections == {("host1", 1, "main")}

    play(scenario)
