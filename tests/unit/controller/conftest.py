"""A cluster in memory: one store, brokers that record what they are told, and controllers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from ottla.clock import ManualClock
from ottla.controller.controller import Controller
from ottla.controller.topic_changes import TopicDefaults
from ottla.controller.transitions import FULL
from ottla.coordination.bootstrap import initial_layout, register_broker
from ottla.coordination.embedded import EmbeddedStore, Keeper
from ottla.coordination.store import Store
from ottla.coordination.znodes import BrokerRegistration, Endpoint
from ottla.errors import ErrorCode, KafkaError
from ottla.messages.leader_and_isr import (
    LeaderAndIsrPartitionError,
    LeaderAndIsrRequest,
    LeaderAndIsrResponse,
    LeaderAndIsrTopicError,
)
from ottla.messages.stop_replica import (
    StopReplicaPartitionError,
    StopReplicaRequest,
    StopReplicaResponse,
)
from ottla.messages.update_metadata import UpdateMetadataRequest, UpdateMetadataResponse
from tests.support.coroutines import run_coroutine_test

BASE = initial_layout("cluster-id-of-the-test")


class RecordingBroker:
    """A control target that notes every request, and knows its replicas and topics by them."""

    def __init__(self, broker_id: int) -> None:
        self.broker_id = broker_id
        self.requests: list[Any] = []
        self.replicas: dict[tuple[str, int], tuple[int, int]] = {}  # leader and leader epoch
        self.topics: dict[str, dict[int, int]] = {}  # leaders by partition
        self.live_brokers: list[int] = []
        self.deleted: list[tuple[str, int]] = []
        self.offline: set[tuple[str, int]] = set()
        self.strays: set[tuple[str, int]] = set()
        self.stopped: list[tuple[str, int]] = []
        self.refuse_deletions = False
        self.unreachable = False

    async def leader_and_isr(self, request: LeaderAndIsrRequest) -> LeaderAndIsrResponse:
        self._note(request)
        for topic in request.topic_states:
            for state in topic.partition_states:
                key = (topic.topic_name, state.partition_index)
                self.replicas[key] = (state.leader, state.leader_epoch)
        if request.type == FULL:
            named = {
                (topic.topic_name, state.partition_index)
                for topic in request.topic_states
                for state in topic.partition_states
            }
            self.strays |= self.replicas.keys() - named
            self.replicas = {key: self.replicas[key] for key in named}
        return LeaderAndIsrResponse(
            topics=[
                LeaderAndIsrTopicError(
                    topic_id=topic.topic_id,
                    partition_errors=[
                        LeaderAndIsrPartitionError(
                            partition_index=state.partition_index,
                            error_code=ErrorCode.KAFKA_STORAGE_ERROR
                            if (topic.topic_name, state.partition_index) in self.offline
                            else ErrorCode.NONE,
                        )
                        for state in topic.partition_states
                    ],
                )
                for topic in request.topic_states
            ]
        )

    async def update_metadata(self, request: UpdateMetadataRequest) -> UpdateMetadataResponse:
        self._note(request)
        self.live_brokers = [broker.id for broker in request.live_brokers]
        if request.type == FULL:
            named = {topic.topic_name for topic in request.topic_states}
            self.topics = {name: known for name, known in self.topics.items() if name in named}
        for topic in request.topic_states:
            partitions = self.topics.setdefault(topic.topic_name, {})
            for state in topic.partition_states:
                if state.leader == -2:
                    partitions.pop(state.partition_index, None)
                else:
                    partitions[state.partition_index] = state.leader
            if not partitions:
                del self.topics[topic.topic_name]
        return UpdateMetadataResponse()

    async def stop_replica(self, request: StopReplicaRequest) -> StopReplicaResponse:
        self._note(request)
        code = ErrorCode.KAFKA_STORAGE_ERROR if self.refuse_deletions else ErrorCode.NONE
        answer = StopReplicaResponse()
        for topic in request.topic_states:
            for state in topic.partition_states:
                key = (topic.topic_name, state.partition_index)
                if not self.refuse_deletions:
                    self.replicas.pop(key, None)
                    (self.deleted if state.delete_partition else self.stopped).append(key)
                answer.partition_errors.append(
                    StopReplicaPartitionError(
                        topic_name=topic.topic_name,
                        partition_index=state.partition_index,
                        error_code=code,
                    )
                )
        return answer

    def _note(self, request: Any) -> None:
        if self.unreachable:
            raise ConnectionError("broker does not answer")
        self.requests.append(request)


class StrictRules:
    """Topic settings as far as the controller cares."""

    def validate(self, overrides: Mapping[str, str]) -> None:
        for name in overrides:
            if name == "forbidden":
                raise KafkaError(ErrorCode.INVALID_CONFIG, f"Unknown topic config name: {name}")

    def allows_unclean_election(self, overrides: Mapping[str, str]) -> bool:
        return overrides.get("unclean.leader.election.enable") == "true"


class Cluster:
    """Everything of one test."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.keeper: Keeper
        self.sessions: dict[int, EmbeddedStore] = {}
        self.brokers: dict[int, RecordingBroker] = {}
        self.controllers: list[Controller] = []

    async def start(self, *broker_ids: int, racks: Mapping[int, str] | None = None) -> None:
        self.keeper = await Keeper.open(initial=BASE, clock=self.clock)
        for broker_id in broker_ids:
            await self.add_broker(broker_id, (racks or {}).get(broker_id))

    async def add_broker(self, broker_id: int, rack: str | None = None) -> int:
        session = self.sessions[broker_id] = await self.keeper.connect()
        self.brokers.setdefault(broker_id, RecordingBroker(broker_id))
        endpoint = Endpoint("PLAINTEXT", "PLAINTEXT", f"host-{broker_id}", 9092)
        return await register_broker(session, BrokerRegistration(broker_id, (endpoint,), rack))

    def controller(
        self, broker_id: int, store: Store | None = None, defaults: TopicDefaults | None = None
    ) -> Controller:
        controller = Controller(
            store or self.sessions[broker_id],
            broker_id,
            self.brokers,
            rules=StrictRules(),
            defaults=defaults,
            clock=self.clock,
            random_index=lambda count: 0,
        )
        self.controllers.append(controller)
        return controller

    async def started(self, broker_id: int = 1, **options: Any) -> Controller:
        controller = self.controller(broker_id, **options)
        await controller.start()
        return controller

    async def paths(self, store: Store | None = None) -> set[str]:
        """Every znode that was not there from the beginning, ephemerals aside."""
        store = store or await self.keeper.connect()
        found: set[str] = set()
        pending = ["/"]
        while pending:
            path = pending.pop()
            znode = await store.get(path)
            if path != "/" and not znode.stat.ephemeral_owner:
                found.add(path)
            names = await store.children(path)
            pending += [f"{path.rstrip('/')}/{name}" for name in names]
        return found - {create.path for create in BASE}

    async def close(self) -> None:
        for controller in self.controllers:
            await controller.close()
        if hasattr(self, "keeper"):
            await self.keeper.close()


@pytest.fixture
def cluster() -> Cluster:
    """An empty cluster, closed after the test by the runner below."""
    return Cluster()


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run ``async def`` tests."""
    return run_coroutine_test(pyfuncitem, closes="cluster")
