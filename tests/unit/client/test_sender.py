"""What the producer's task does about ids, answers and connections, without a broker: scripted answers."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from ottla.client.metadata import Metadata, Node, PartitionMetadata, TopicMetadata
from ottla.client.producer.accumulator import Accumulator
from ottla.client.producer.chosen_intake import Batch
from ottla.client.producer.partition_queue import MAX_EPOCH
from ottla.client.producer.sender import Sender, now_ms
from ottla.client.producer.settings import producer_settings
from ottla.client.settings import ConnectionSettings
from ottla.errors import ErrorCode
from ottla.messages.init_producer_id import InitProducerIdResponse
from ottla.topic_ids import ZERO_ID


class ToyCluster:
    """One broker that leads ``t-0``; it gives producer ids when the test says so."""

    def __init__(self) -> None:
        self.settings = ConnectionSettings((("boot", 1),))
        self.metadata = Metadata()
        self.metadata.nodes = {1: Node(1, "host", 1)}
        self.metadata.topics["t"] = TopicMetadata(
            "t", ZERO_ID, False, {0: PartitionMetadata(0, 1, 0, (1,), (1,))}
        )
        self.connections = SimpleNamespace(
            ready=lambda node, purpose: None, connect=lambda node, purpose, then: None
        )
        self.questions: list[asyncio.Future[Any]] = []
        self.wanted: set[str] = set()

    def add_topics(self, *names: str) -> None:
        """They are asked for from now on."""
        self.wanted.update(names)

    def request_refresh(self) -> None:
        """Nothing new."""

    async def any_node(self) -> int:
        """The only one."""
        return 1

    async def send(self, node_id: int, request: Any) -> Any:
        """The answer, when the test gives it."""
        self.questions.append(asyncio.get_running_loop().create_future())
        return await self.questions[-1]


class Scene:
    """A sender at work."""

    def __init__(self, **settings: Any) -> None:
        self.cluster = ToyCluster()
        lock = threading.Lock()
        made = producer_settings(linger_ms=0, **settings)
        self.accumulator = Accumulator(made.limits, lambda: self.sender.wake(), len, now_ms)  # type: ignore[arg-type]
        self.topic = self.accumulator.topic("t")
        self.accumulator.update_topic(self.topic, 1, [0])
        self.sender = Sender(self.cluster, self.accumulator, lock, made)  # type: ignore[arg-type]
        self.task = asyncio.get_running_loop().create_task(self.sender.run())

    def send(self) -> Batch:
        """A record in a batch of its own."""
        batch = self.accumulator.buffer.batch_for(self.topic, 0, 60)
        batch.timestamps.append(1)
        batch.values.append(b"v")
        self.topic.queues[0].close_open()
        return batch


async def settled() -> None:
    """What has become possible has happened."""
    for _ in range(20):
        await asyncio.sleep(0)


def play(scenario: Callable[[Scene], Any], **settings: Any) -> None:
    """Run it against a sender."""

    async def run() -> None:
        scene = Scene(**settings)
        await settled()
        await scenario(scene)
        scene.task.cancel()
        scene.sender.cancel()
        await settled()

    asyncio.run(run())


def test_records_that_come_after_the_producer_id_was_refused_fail_for_the_same_reason() -> None:
    async def scenario(scene: Scene) -> None:
        first = scene.send()
        await settled()
        refusal = InitProducerIdResponse(error_code=ErrorCode.CLUSTER_AUTHORIZATION_FAILED)
        scene.cluster.questions[0].set_result(refusal)
        await settled()
        second = scene.send()
        await settled()
        for batch in (first, second):
            assert batch.error is not None
            assert batch.error.code is ErrorCode.CLUSTER_AUTHORIZATION_FAILED
        assert len(scene.cluster.questions) == 1

    play(scenario)


def test_new_producer_id_is_asked_for_as_soon_as_epochs_are_used_up() -> None:
    async def scenario(scene: Scene) -> None:
        queue = scene.topic.queues[0]
        scene.accumulator.producer_id = queue.producer_id = 7
        scene.accumulator.producer_epoch, queue.epoch = 0, MAX_EPOCH
        queue.gap = True
        scene.send()
        await settled()
        assert scene.accumulator.producer_id == -1
        assert len(scene.cluster.questions) == 1

    play(scenario)


def test_topic_that_was_forgotten_is_asked_for_again_when_it_is_written_to() -> None:
    async def scenario(scene: Scene) -> None:
        scene.accumulator.producer_id = 7
        scene.cluster.metadata.topics.clear()
        scene.send()
        await settled()
        assert scene.cluster.wanted == {"t"}

    play(scenario)
