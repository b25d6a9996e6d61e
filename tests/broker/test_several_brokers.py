"""Several brokers on one store in memory, on one event loop: registrations, control requests, sessions that end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from ottla.broker import broker as broker_module
from ottla.broker.broker import Broker as Server
from ottla.broker.strays import unknown_to_cluster
from ottla.controller.remote_target import RemoteTarget
from ottla.controller.topics import NewTopic
from ottla.coordination import znodes
from ottla.coordination.embedded import Keeper, TimedSessions
from ottla.coordination.store import (
    ConnectionLoss,
    Operation,
    OperationResult,
    Store,
    Znode,
)
from ottla.coordination.znodes import BrokerRegistration
from ottla.errors import ErrorCode, KafkaError
from ottla.messages.allocate_producer_ids import AllocateProducerIdsResponse
from ottla.messages.describe_cluster import DescribeClusterRequest
from ottla.messages.describe_configs import DescribeConfigsRequest, DescribeConfigsResource
from ottla.messages.describe_topic_partitions import (
    DescribeTopicPartitionsRequest,
    TopicRequest,
)
from ottla.messages.find_coordinator import FindCoordinatorRequest
from ottla.messages.incremental_alter_configs import (
    AlterableConfig,
    AlterConfigsResource,
    IncrementalAlterConfigsRequest,
)
from ottla.messages.init_producer_id import InitProducerIdRequest
from ottla.messages.leader_and_isr import (
    LeaderAndIsrLiveLeader,
    LeaderAndIsrPartitionState,
    LeaderAndIsrRequest,
    LeaderAndIsrTopicState,
)
from ottla.messages.metadata import MetadataRequest, MetadataRequestTopic
from ottla.messages.stop_replica import (
    StopReplicaPartitionState,
    StopReplicaRequest,
    StopReplicaTopicState,
)
from ottla.messages.update_metadata import (
    UpdateMetadataBroker,
    UpdateMetadataEndpoint,
    UpdateMetadataPartitionState,
    UpdateMetadataRequest,
    UpdateMetadataTopicState,
)
from ottla.network.channel import Channel
from ottla.settings.broker_config import BrokerConfig

TOPIC_ID = bytes(range(16))
DEADLINE_S = 40.0


def server(keeper: Keeper, data: Path, node_id: int, **settings: object) -> Server:
    own = {name.replace("_", "."): value for name, value in settings.items()}
    config = {
        "listeners": "PLAINTEXT://127.0.0.1:0",
        "log.dirs": str(data / str(node_id)),
        "durability": "os",
        "node.id": node_id,
    }
    return Server(BrokerConfig.of({**config, **own}), connector=keeper)


async def until(holds: Callable[[], object], what: str, deadline_s: float = DEADLINE_S) -> None:
    """Wait for a condition on this loop."""
    deadline = asyncio.get_running_loop().time() + deadline_s
    while not holds():
        assert asyncio.get_running_loop().time() < deadline, what
        await asyncio.sleep(0.005)


async def until_zero(ask: Callable[[], Awaitable[int]]) -> None:
    """Ask again until the answer is no error."""
    async with asyncio.timeout(DEADLINE_S):
        code = await ask()
        while code:
            code = await ask()


def run_with(
    data: Path, node_ids: list[int], test: Callable[..., Awaitable[None]], **settings: object
) -> None:
    """Run ``test(keeper, *brokers)`` with started brokers."""

    async def run() -> None:
        keeper = await Keeper.open()
        brokers = [server(keeper, data, node_id, **settings) for node_id in node_ids]
        try:
            for broker in brokers:
                await broker.start()
            await test(keeper, *brokers)
        finally:
            for broker in brokers:
                await broker.stop()
            await keeper.close()

    asyncio.run(run())


@pytest.fixture(autouse=True)
def _without_waiting_for_a_controller(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a test is the controller itself, nobody else tells a broker anything."""
    monkeypatch.setattr(broker_module, "FIRST_WORD_S", 0.1)


def test_brokers_that_share_a_store_are_one_cluster(tmp_path: Path) -> None:
    async def share(keeper: Keeper, *brokers: Server) -> None:
        assert len({broker.cluster_id for broker in brokers}) == 1
        store = await keeper.connect()
        for broker in brokers:
            stat = await store.exists(znodes.broker_path(broker.node_id))
            assert stat is not None
            assert stat.czxid == broker.broker_epoch
        assert [broker.controller.is_active for broker in brokers] == [True, False, False]
        await brokers[1].stop()
        assert sorted(await store.children(znodes.BROKER_IDS)) == ["1", "3"]

    run_with(tmp_path, [1, 2, 3], share)
    assert not list(tmp_path.glob("*/ottla-store.sqlite"))


def test_an_id_that_another_broker_has_is_refused(tmp_path: Path) -> None:
    async def second(keeper: Keeper, broker: Server) -> None:
        other = server(keeper, tmp_path / "elsewhere", 1)
        with pytest.raises(KafkaError) as refused:
            await other.start()
        await other.stop()
        assert refused.value.code is ErrorCode.DUPLICATE_BROKER_REGISTRATION

    run_with(tmp_path, [1], second)


# Control requests


def lead(
    leader: int, epoch: int, *, broker_epoch: int = -1, controller_epoch: int = 100, **more: Any
) -> LeaderAndIsrRequest:
    """One partition of replicas 1 and 2, as a controller tells of it."""
    state = LeaderAndIsrPartitionState(
        partition_index=0, leader=leader, leader_epoch=epoch, isr=[1, 2], replicas=[1, 2]
    )
    topic = LeaderAndIsrTopicState(topic_name="orders", topic_id=TOPIC_ID, partition_states=[state])
    return LeaderAndIsrRequest(
        controller_id=9,
        controller_epoch=controller_epoch,
        broker_epoch=broker_epoch,
        topic_states=[topic],
        live_leaders=[LeaderAndIsrLiveLeader(broker_id=9, host_name="there", port=7)],
        **more,
    )


async def told(broker: Server, request: Any, version: int) -> Any:
    channel = await Channel.connect(*broker.address, negotiate=False)
    try:
        return await channel.send(request, version=version)
    finally:
        channel.abort("done")


def codes(response: Any) -> list[int]:
    return [
        response.error_code,
        *(answer.error_code for topic in response.topics for answer in topic.partition_errors),
    ]


def test_control_requests_of_the_network_make_a_broker_lead_follow_and_let_go(
    tmp_path: Path,
) -> None:
    async def order(keeper: Keeper, broker: Server) -> None:
        assert codes(await told(broker, lead(1, 3), 7)) == [0, 0]
        partition = broker.replicas.leader_of("orders", 0)
        assert broker.endpoint_of(9) == ("there", 7)
        assert codes(await told(broker, lead(2, 4), 7)) == [0, 0]
        assert (partition.leader_id, partition.leader_epoch) == (2, 4)
        stop = StopReplicaRequest(
            controller_epoch=100,
            topic_states=[
                StopReplicaTopicState(
                    topic_name="orders",
                    partition_states=[
                        StopReplicaPartitionState(
                            partition_index=0, leader_epoch=3, delete_partition=True
                        )
                    ],
                )
            ],
        )
        (fenced,) = (await told(broker, stop, 4)).partition_errors
        assert fenced.error_code == ErrorCode.FENCED_LEADER_EPOCH
        stop.topic_states[0].partition_states[0].leader_epoch = 4
        (gone,) = (await told(broker, stop, 4)).partition_errors
        assert (gone.error_code, broker.replicas.get("orders", 0)) == (0, None)

    run_with(tmp_path, [1], order)


def test_a_stop_of_an_earlier_leader_epoch_takes_no_replica_away(tmp_path: Path) -> None:
    async def order(keeper: Keeper, broker: Server) -> None:
        assert codes(await told(broker, lead(1, 3), 7)) == [0, 0]

        def stop(leader_epoch: int) -> StopReplicaRequest:
            partition = StopReplicaPartitionState(
                partition_index=0, leader_epoch=leader_epoch, delete_partition=True
            )
            topic = StopReplicaTopicState(topic_name="orders", partition_states=[partition])
            return StopReplicaRequest(controller_id=9, controller_epoch=100, topic_states=[topic])

        partition = broker.replicas.leader_of("orders", 0)
        late = await told(broker, stop(partition.leader_epoch - 1), 4)
        assert [e.error_code for e in late.partition_errors] == [ErrorCode.FENCED_LEADER_EPOCH]
        assert broker.replicas.leader_of("orders", 0) is partition
        due = await told(broker, stop(partition.leader_epoch), 4)
        assert [e.error_code for e in due.partition_errors] == [ErrorCode.NONE]
        assert broker.replicas.get("orders", 0) is None

    run_with(tmp_path, [1], order)


@pytest.mark.parametrize("version", range(8))
def test_every_version_of_leader_and_isr_is_followed(tmp_path: Path, version: int) -> None:
    async def order(keeper: Keeper, broker: Server) -> None:
        request = lead(1, 3)
        (topic,) = request.topic_states
        (state,) = topic.partition_states
        state.topic_name = "orders"
        request.ungrouped_partition_states = [state]
        answer = await told(broker, request, version)
        errors = answer.partition_errors if version < 5 else answer.topics[0].partition_errors
        assert [(error.partition_index, error.error_code) for error in errors] == [(0, 0)]
        assert broker.replicas.leader_of("orders", 0).leader_epoch == 3

    run_with(tmp_path, [1], order)


def test_a_controller_that_was_followed_by_another_one_is_refused(tmp_path: Path) -> None:
    async def order(keeper: Keeper, broker: Server) -> None:
        stale = ErrorCode.STALE_CONTROLLER_EPOCH
        assert codes(await told(broker, lead(1, 3), 7)) == [0, 0]
        assert codes(await told(broker, lead(2, 4, controller_epoch=99), 7)) == [stale, stale]
        update = UpdateMetadataRequest(controller_id=7, controller_epoch=99)
        assert (await told(broker, update, 8)).error_code == stale
        stop = StopReplicaRequest(controller_epoch=99)
        assert (await told(broker, stop, 4)).error_code == stale
        assert broker.metadata.controller_id == 1
        assert broker.replicas.leader_of("orders", 0).leader_epoch == 3

    run_with(tmp_path, [1], order)


def test_what_was_meant_for_an_earlier_life_of_the_broker_is_refused(tmp_path: Path) -> None:
    async def order(keeper: Keeper, broker: Server) -> None:
        stale = ErrorCode.STALE_BROKER_EPOCH
        before = broker.broker_epoch - 1
        assert codes(await told(broker, lead(1, 3, broker_epoch=before), 7)) == [stale, stale]
        assert broker.replicas.get("orders", 0) is None
        now = lead(1, 3, broker_epoch=broker.broker_epoch)
        assert codes(await told(broker, now, 7)) == [0, 0]
        # the controller may know of a registration before this broker has heard that it is made
        later = lead(1, 4, broker_epoch=broker.broker_epoch + 5)
        assert codes(await told(broker, later, 7)) == [0, 0]

    run_with(tmp_path, [1], order)


def test_a_broker_that_is_no_replica_takes_nothing_up(tmp_path: Path) -> None:
    async def order(keeper: Keeper, broker: Server) -> None:
        unknown = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        assert codes(await told(broker, lead(1, 3), 7)) == [0, unknown]
        assert broker.replicas.get("orders", 0) is None

    run_with(tmp_path, [3], order)


def test_what_a_full_leader_and_isr_does_not_name_is_set_aside(tmp_path: Path) -> None:
    async def order(keeper: Keeper, broker: Server) -> None:
        await told(broker, lead(1, 3), 7)
        other = lead(1, 3)
        other.topic_states[0].topic_name, other.topic_states[0].topic_id = "else", bytes(16)
        await told(broker, other, 7)
        assert len(broker.replicas) == 2
        assert codes(await told(broker, lead(1, 3, type=2), 7)) == [0, 0]
        assert [partition.topic for partition in broker.replicas] == ["orders"]
        assert broker.replicas.held() == [("orders", 0)]

    run_with(tmp_path, [1], order)


def test_what_brokers_ask_each_other_is_offered_in_a_cluster_only(tmp_path: Path) -> None:
    async def ask(keeper: Keeper, broker: Server) -> None:
        channel = await Channel.connect(*broker.address)
        offered = channel.api_versions
        channel.abort("done")
        assert [offered.get(key) for key in (4, 5, 6, 7, 56, 67)] == [
            (0, 7), (0, 4), (0, 8), (0, 3), (0, 3), (0, 0),
        ]  # fmt: skip

    run_with(tmp_path, [1], ask)


# What clients are told


def test_metadata_name_no_leader_that_is_dead_or_not_reached_by_the_listener(
    tmp_path: Path,
) -> None:
    def live(number: int, listener: str) -> UpdateMetadataBroker:
        endpoint = UpdateMetadataEndpoint(host="there", port=7, listener=listener)
        return UpdateMetadataBroker(id=number, endpoints=[endpoint], rack=None)

    async def ask(keeper: Keeper, broker: Server) -> None:
        states = [
            UpdateMetadataPartitionState(
                partition_index=index,
                leader=leader,
                leader_epoch=3,
                isr=[2],
                replicas=[1, 2],
                offline_replicas=[1],
            )
            for index, leader in enumerate((2, -1, 5, 3))
        ]
        topic = UpdateMetadataTopicState(
            topic_name="orders", topic_id=TOPIC_ID, partition_states=states
        )
        update = UpdateMetadataRequest(
            controller_id=2,
            controller_epoch=100,
            topic_states=[topic],
            live_brokers=[live(2, "PLAINTEXT"), live(3, "OTHER")],
        )
        assert (await told(broker, update, 8)).error_code == 0
        known = await told(broker, MetadataRequest(topics=None), 12)
        assert (known.controller_id, [one.node_id for one in known.brokers]) == (2, [2])
        assert [(p.leader_id, p.error_code) for p in known.topics[0].partitions] == [
            (2, ErrorCode.NONE),
            (-1, ErrorCode.LEADER_NOT_AVAILABLE),
            (-1, ErrorCode.LEADER_NOT_AVAILABLE),
            (-1, ErrorCode.LISTENER_NOT_FOUND),
        ]
        assert {tuple(p.offline_replicas) for p in known.topics[0].partitions} == {(1,)}
        described = await told(broker, DescribeClusterRequest(), 0)
        assert [one.broker_id for one in described.brokers] == [2]
        request = DescribeTopicPartitionsRequest(topics=[TopicRequest(name="orders")])
        (page,) = (await told(broker, request, 0)).topics
        assert [partition.leader_id for partition in page.partitions] == [2, -1, -1, -1]

    run_with(tmp_path, [1], ask)


@pytest.mark.parametrize("lost", ["the request", "the answer"])
def test_a_broker_that_missed_the_controllers_news_gets_them_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost: str
) -> None:
    async def miss(keeper: Keeper, first: Server, second: Server) -> None:
        right, losses = RemoteTarget._send, list[int]()

        async def lossy(self: RemoteTarget, request: Any, version: int) -> Any:
            if len(losses) >= 3:
                return await right(self, request, version)
            losses.append(version)
            if lost == "the answer":
                await right(self, request, version)
            raise KafkaError(ErrorCode.NETWORK_EXCEPTION, "lost")

        monkeypatch.setattr(RemoteTarget, "_send", lossy)
        await first.controller.create_topics([NewTopic("orders", assignments={0: [2, 1]})])
        await until(lambda: second.metadata.leader_of("orders", 0) == 2, "it heard of it")
        assert second.replicas.leader_of("orders", 0).leader_epoch == 0
        assert first.metadata.topics["orders"].partitions == (
            second.metadata.topics["orders"].partitions
        )
        assert len(losses) == 3

    run_with(tmp_path, [1, 2], miss)


# Sessions


def test_a_session_that_expires_takes_every_role_and_the_next_one_registers_anew(
    tmp_path: Path,
) -> None:
    async def expire(keeper: Keeper, broker: Server) -> None:
        await told(broker, lead(1, 3, broker_epoch=broker.broker_epoch), 7)
        partition = broker.replicas.leader_of("orders", 0)
        before, controller = broker.broker_epoch, broker.controller
        await keeper.expire(broker.session.store.session_id)
        await until(lambda: not partition.is_leader, "it resigns")
        await until(lambda: broker.broker_epoch > before, "it registers anew")
        stale = ErrorCode.STALE_BROKER_EPOCH
        assert codes(await told(broker, lead(1, 4, broker_epoch=before), 7)) == [stale, stale]
        assert not broker.lease.is_over()
        await until(lambda: broker.controller.is_active, "it takes office again")
        assert broker.controller is not controller
        assert not controller.is_active

    run_with(tmp_path, [1], expire)


def test_a_session_that_expires_while_the_logs_are_loaded_is_followed_by_another_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> None:
        keeper = await Keeper.open()
        broker = server(keeper, tmp_path, 1)
        load = Server._load_logs

        async def slowly(self: Server) -> None:
            await load(self)
            await keeper.expire(self.session.store.session_id)

        monkeypatch.setattr(Server, "_load_logs", slowly)
        await broker.start()
        assert broker.broker_epoch > 0
        await until(lambda: broker.controller.is_active, "it takes office")
        assert not broker.lease.is_over()
        await broker.stop()
        await keeper.close()

    asyncio.run(run())


def test_settings_that_were_altered_between_two_sessions_are_heeded(tmp_path: Path) -> None:
    async def alter(keeper: Keeper, broker: Server) -> None:
        await told(broker, lead(1, 3), 7)
        other = await keeper.connect()
        path = znodes.config_path("topics", "orders")
        await keeper.expire(broker.session.store.session_id)
        await other.create(path, znodes.encode_config({"retention.ms": "12345"}))
        await until(
            lambda: broker.topic_config("orders").retention_ms == 12345, "the setting is heeded"
        )

    run_with(tmp_path, [1], alter)


def test_a_registration_of_an_earlier_life_is_waited_for(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def run() -> None:
        keeper = await Keeper.open()
        earlier = await keeper.connect()
        broker = server(keeper, tmp_path, 1)
        monkey = BrokerRegistration(1, (), None, 0)
        await broker_layout(keeper)
        await earlier.create(znodes.broker_path(1), monkey.encode(), ephemeral=True)
        starting = asyncio.create_task(start_with_timeout(broker))
        await until(lambda: "waiting for an older registration" in caplog.text, "it waits")
        assert not starting.done()
        await earlier.close()
        await starting
        assert broker.broker_epoch > 0
        await broker.stop()
        await keeper.close()

    asyncio.run(run())


async def broker_layout(keeper: Keeper) -> None:
    from ottla.coordination.bootstrap import prepare_layout

    await prepare_layout(await keeper.connect())


async def start_with_timeout(broker: Server) -> None:
    """Start on a store that would let a silent session live for some seconds."""
    from unittest.mock import PropertyMock, patch

    from ottla.coordination.embedded import EmbeddedStore

    with patch.object(EmbeddedStore, "session_timeout_ms", PropertyMock(return_value=8000)):
        await broker.start()


# The way to the controller


def test_any_broker_has_a_topic_created_by_the_controller(tmp_path: Path) -> None:
    async def create(keeper: Keeper, first: Server, second: Server) -> None:
        channel = await Channel.connect(*second.address)
        request = MetadataRequest(topics=[MetadataRequestTopic(name="orders")])
        await channel.send(request, version=5)
        await until(lambda: "orders" in second.metadata.topics, "the topic is there")
        (topic,) = (await channel.send(request, version=5)).topics
        assert [partition.error_code for partition in topic.partitions] == [0]
        channel.abort("done")
        assert "orders" in first.controller.state.topics  # type: ignore[union-attr]

    run_with(tmp_path, [1, 2], create)


def test_the_groups_topic_waits_until_there_are_so_many_brokers_as_it_has_replicas(
    tmp_path: Path,
) -> None:
    async def find(broker: Server) -> int:
        channel = await Channel.connect(*broker.address)
        request = FindCoordinatorRequest(key="readers", key_type=0)
        answer = await channel.send(request, version=3)
        channel.abort("done")
        return int(answer.error_code)

    async def wait(keeper: Keeper, first: Server) -> None:
        assert await find(first) == ErrorCode.COORDINATOR_NOT_AVAILABLE
        second = server(keeper, tmp_path, 2, offsets_topic_replication_factor=2)
        await second.start()
        try:
            await until_zero(lambda: find(first))
            await until_zero(lambda: find(second))
        finally:
            await second.stop()

    run_with(
        tmp_path, [1], wait, offsets_topic_replication_factor=2, offsets_topic_num_partitions=4
    )


# Settings


def test_any_broker_alters_and_tells_the_settings_of_a_topic(tmp_path: Path) -> None:
    async def alter(keeper: Keeper, first: Server, second: Server) -> None:
        await first.controller.create_topics([NewTopic("orders", assignments={0: [1]})])
        await until(lambda: "orders" in second.metadata.topics, "the topic is known")
        channel = await Channel.connect(*second.address)
        entry = AlterableConfig(name="retention.ms", config_operation=0, value="12345")
        wanted = AlterConfigsResource(resource_type=2, resource_name="orders", configs=[entry])
        altered = await channel.send(IncrementalAlterConfigsRequest(resources=[wanted]))
        assert [answer.error_code for answer in altered.responses] == [0]
        await until(
            lambda: first.topic_config("orders").retention_ms == 12345, "the leader goes by it"
        )
        asked = DescribeConfigsResource(
            resource_type=2, resource_name="orders", configuration_keys=["retention.ms"]
        )
        (told,) = (await channel.send(DescribeConfigsRequest(resources=[asked]))).results
        assert [(config.name, config.value) for config in told.configs] == [
            ("retention.ms", "12345")
        ]
        channel.abort("done")

    run_with(tmp_path, [1, 2], alter)


def test_a_topic_that_is_gone_gets_no_settings(tmp_path: Path) -> None:
    async def alter(keeper: Keeper, first: Server, second: Server) -> None:
        state = UpdateMetadataPartitionState(leader=1, replicas=[1], isr=[1])
        topic = UpdateMetadataTopicState(
            topic_name="gone", topic_id=TOPIC_ID, partition_states=[state]
        )
        await told(second, UpdateMetadataRequest(controller_epoch=100, topic_states=[topic]), 8)
        entry = AlterableConfig(name="retention.ms", config_operation=0, value="12345")
        wanted = AlterConfigsResource(resource_type=2, resource_name="gone", configs=[entry])
        altered = await told(second, IncrementalAlterConfigsRequest(resources=[wanted]), 1)
        assert [answer.error_code for answer in altered.responses] == [
            ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        ]

    run_with(tmp_path, [1, 2], alter)


def test_producer_ids_of_all_brokers_come_from_blocks_of_the_controller(tmp_path: Path) -> None:
    async def ids(keeper: Keeper, *brokers: Server) -> None:
        given = [await broker.producer_ids.next() for broker in brokers for _ in range(2)]
        assert len(set(given)) == len(given)
        assert {number // 1000 for number in given} == {0, 1, 2}
        before = brokers[0].controller
        await keeper.expire(brokers[0].session.store.session_id)  # the controller's
        await until(lambda: not before.is_active, "the office falls vacant")
        await until(lambda: any(b.controller.is_active for b in brokers), "another one has it")
        again = await told(brokers[1], InitProducerIdRequest(transactional_id=None), 4)
        assert again.error_code == 0
        assert again.producer_id not in given

    run_with(tmp_path, [1, 2, 3], ids)


def test_what_the_store_gives_to_a_broker_or_has_marked_for_deletion_is_no_stray(
    tmp_path: Path,
) -> None:
    async def order(keeper: Keeper, broker: Server) -> None:
        store = await keeper.connect()
        await broker.controller.create_topics([NewTopic("ours")])
        assert codes(await told(broker, lead(1, 3, type=2), 7)) == [0, 0]
        assert ("ours", 0) in broker.replicas.held()
        await store.create(znodes.delete_topic_path("going"))
        ours, beyond, going, gone = ("ours", 0), ("ours", 1), ("going", 0), ("gone", 0)
        asked = [ours, beyond, going, gone]
        assert await unknown_to_cluster(broker, asked) == [beyond, gone]

    run_with(tmp_path, [1], order)


@pytest.mark.parametrize(
    "code",
    [
        ErrorCode.BROKER_ID_NOT_REGISTERED,
        ErrorCode.STALE_BROKER_EPOCH,
        ErrorCode.NOT_CONTROLLER,
        ErrorCode.NETWORK_EXCEPTION,
    ],
)
def test_a_producer_asks_again_when_the_controller_gives_no_ids_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: ErrorCode
) -> None:
    async def ids(keeper: Keeper, broker: Server) -> None:
        async def refuse(request: Any, *, timeout_s: float) -> Any:
            return AllocateProducerIdsResponse(error_code=code)

        monkeypatch.setattr(broker.controller_link, "send", refuse)
        answer = await told(broker, InitProducerIdRequest(transactional_id=None), 4)
        assert answer.error_code == ErrorCode.COORDINATOR_LOAD_IN_PROGRESS
        monkeypatch.undo()
        answer = await told(broker, InitProducerIdRequest(transactional_id=None), 4)
        assert (answer.error_code, answer.producer_id) == (0, 0)

    run_with(tmp_path, [1], ids)


class Unanswered:
    """A way to the store on which the call with a certain number gets no answer, or ends its session."""

    def __init__(self, keeper: Keeper, number: int, *, expires: bool) -> None:
        self.sessions = TimedSessions(keeper, 60_000)
        self.keeper = keeper
        self.left = number
        self.expires = expires

    async def connect(self) -> Store:
        store = await self.sessions.connect()
        for name in ("get", "get_many", "exists", "children", "set", "create", "multi"):
            setattr(store, name, self.unreliable(store, getattr(store, name)))
        return store

    def unreliable(self, store: Store, call: Callable[..., Awaitable[Any]]) -> Any:
        async def made(*arguments: Any, **named: Any) -> Any:
            self.left -= 1
            if self.left == 0:
                if not self.expires:
                    raise ConnectionLoss("no answer")
                await self.keeper.expire(store.session_id)
            return await call(*arguments, **named)

        return made

    async def close(self) -> None:
        await self.sessions.close()


@pytest.mark.parametrize("expires", [False, True], ids=["no answer", "expired"])
@pytest.mark.parametrize("number", range(1, 13))
def test_a_broker_starts_though_its_store_fails_to_answer_at_any_step_of_it(
    tmp_path: Path, number: int, expires: bool
) -> None:
    async def run() -> None:
        keeper = await Keeper.open()
        connector = Unanswered(keeper, number, expires=expires)
        broker = server(keeper, tmp_path, 1)
        broker = Server(broker.config, connector=connector)
        try:
            await broker.start()
            assert connector.left <= 0, "the start asks less often"
            await until(lambda: broker.controller.is_active, "it takes office")
            assert not broker.lease.is_over()
        finally:
            await broker.stop()
            await connector.close()
            await keeper.close()

    asyncio.run(run())


class Behind:
    """A way to the store by a server that, while ``is_behind``, knows nothing until it takes a write."""

    def __init__(self, keeper: Keeper) -> None:
        self.sessions = TimedSessions(keeper, 60_000)
        self.is_behind = False

    async def connect(self) -> Store:
        store = await self.sessions.connect()
        get_many, multi = store.get_many, store.multi

        async def old(paths: Sequence[str]) -> list[Znode | None]:
            found = await get_many(paths)
            return [None] * len(found) if self.is_behind else found

        async def up_to_date(operations: Sequence[Operation]) -> list[OperationResult]:
            self.is_behind = False
            return await multi(operations)

        store.get_many, store.multi = old, up_to_date  # type: ignore[method-assign]
        return store

    async def close(self) -> None:
        await self.sessions.close()


def test_a_topics_settings_are_those_it_was_made_with_however_far_a_brokers_server_is_behind(
    tmp_path: Path,
) -> None:
    async def run() -> None:
        keeper = await Keeper.open()
        connector = Behind(keeper)
        broker = Server(server(keeper, tmp_path, 1).config, connector=connector)
        try:
            await broker.start()
            other = await keeper.connect()
            path = znodes.config_path("topics", "orders")
            await other.create(path, znodes.encode_config({"retention.ms": "-1"}))
            connector.is_behind = True
            assert codes(await told(broker, lead(1, 3), 7)) == [0, 0]
            partition = broker.replicas.leader_of("orders", 0)
            assert partition.log.config.retention_ms == -1
        finally:
            await broker.stop()
            await connector.close()
            await keeper.close()

    asyncio.run(run())
