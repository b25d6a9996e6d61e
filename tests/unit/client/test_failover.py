"""What clients make of a cluster whose leaders move and whose brokers die, without one: scripted answers."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Mapping
from types import SimpleNamespace
from typing import Any, cast

import pytest

from ottla.client import cluster as cluster_module
from ottla.client.cluster import Cluster
from ottla.client.consumer.consumer import hand_out
from ottla.client.consumer.fetcher import Fetcher
from ottla.client.consumer.offset_queries import ask_leaders
from ottla.client.consumer.position_keeper import PositionKeeper
from ottla.client.consumer.positions import LeaderAndEpoch, PartitionState, Phase, Positions
from ottla.client.consumer.settings import consumer_settings
from ottla.client.errors import LogTruncated
from ottla.client.metadata import Metadata, Node, PartitionMetadata, TopicMetadata
from ottla.client.settings import ConnectionSettings
from ottla.client.types import TopicPartition
from ottla.errors import ErrorCode, KafkaError
from ottla.messages.fetch import FetchableTopicResponse, FetchResponse, PartitionData
from ottla.messages.metadata import MetadataRequest
from ottla.messages.offset_for_leader_epoch import (
    EpochEndOffset,
    OffsetForLeaderEpochRequest,
    OffsetForLeaderEpochResponse,
    OffsetForLeaderTopicResult,
)
from ottla.network.channel import RequestTimedOut
from ottla.records.builder import build_batch
from ottla.topic_ids import ZERO_ID

T0 = TopicPartition("t", 0)
SETTINGS = ConnectionSettings((("boot1", 1), ("boot2", 2)))


class ToyChannel:
    """A connection that answers Fetch when the test says so."""

    def __init__(self, host: str = "", port: int = 0) -> None:
        self.host, self.port = host, port
        self.closed = False
        self.in_flight = 0
        self.asked: list[asyncio.Future[Any]] = []
        self.racks: list[str] = []

    def version_for(self, key: int, wanted: tuple[int, int] | None = None) -> int:
        """The one before topics go by id."""
        return 12

    def send(self, message: Any, **options: Any) -> asyncio.Future[Any]:
        """Its answer, to be given."""
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.asked.append(future)
        self.racks.append(message.rack_id)
        return future


class ToyCluster:
    """Three brokers that are all connected, and what is known of t-0."""

    def __init__(self, leader: int = 1, epoch: int = 5) -> None:
        self.settings = SETTINGS
        self.metadata = Metadata()
        self.metadata.nodes = {n: Node(n, f"host{n}", 9092) for n in (1, 2, 3)}
        self.lead(leader, epoch)
        self.channels = {n: ToyChannel(f"host{n}", 9092) for n in (1, 2, 3)}
        self.connections = SimpleNamespace(
            ready=lambda node, purpose: self.channels[node.node_id],
        )
        self.refreshes = 0
        self.epoch_questions: list[tuple[int, int, asyncio.Future[Any]]] = []
        """Whom a consumer asks where an epoch ends, of which one, and the answer to be given."""

    def interest(self, names: set[str]) -> Any:
        """All are known."""
        return contextlib.nullcontext()

    async def send(self, node_id: int, request: OffsetForLeaderEpochRequest) -> Any:
        """The answer, when the test gives it."""
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        (topic,) = request.topics
        self.epoch_questions.append((node_id, topic.partitions[0].leader_epoch, future))
        return await future

    def lead(self, leader: int, epoch: int, topic_id: bytes = ZERO_ID) -> None:
        """The metadata say so."""
        partition = PartitionMetadata(0, leader, epoch, (1, 2, 3), (1, 2, 3))
        self.metadata.topics["t"] = TopicMetadata("t", topic_id, False, {0: partition})

    def request_refresh(self) -> None:
        """Count it."""
        self.refreshes += 1


class Scene:
    """A fetcher that reads t-0 from offset 100 on."""

    def __init__(self, **settings: Any) -> None:
        self.cluster = ToyCluster()
        self.positions = Positions()
        self.positions.assign([T0])
        self.state: PartitionState = self.positions.get(T0)
        self.state.leader = LeaderAndEpoch(1, 5)
        self.state.seek(100)
        self.failures: list[KafkaError] = []
        self.now = 0
        self.fetcher = Fetcher(
            self.cluster,  # type: ignore[arg-type]
            self.positions,
            consumer_settings(None, **settings),
            lambda: None,
            self.fail,
            lambda: self.now,
        )

        self.keeper = PositionKeeper(
            self.cluster,  # type: ignore[arg-type]
            self.positions,
            None,
            consumer_settings(None, **settings),
            self.fetcher.maintain,
            self.fail,
            lambda: self.now,
        )

    def fail(self, error: KafkaError, states: Iterable[PartitionState]) -> None:
        """What the application would be told."""
        self.failures.append(error)

    async def answer(self, node: int, code: ErrorCode = ErrorCode.NONE, **data: Any) -> None:
        """Let a broker answer its oldest Fetch, and all be done about it."""
        partition = PartitionData(partition_index=0, error_code=code, high_watermark=100, **data)
        topic = FetchableTopicResponse(topic="t", partitions=[partition])
        future = self.cluster.channels[node].asked.pop(0)
        future.set_result(FetchResponse(responses=[topic]))
        await asyncio.sleep(0)

    async def lead(self, leader: int, epoch: int, topic_id: bytes = ZERO_ID) -> None:
        """The metadata name another leader; what was read is doubted."""
        self.cluster.lead(leader, epoch, topic_id)
        self.keeper.leaders_changed()
        await settled()

    async def end(self, epoch: int, offset: int) -> tuple[int, int]:
        """Answer the oldest question where an epoch ended; who was asked, and of which epoch."""
        node, asked, future = self.cluster.epoch_questions.pop(0)
        end = EpochEndOffset(partition=0, leader_epoch=epoch, end_offset=offset)
        topic = OffsetForLeaderTopicResult(topic="t", partitions=[end])
        future.set_result(OffsetForLeaderEpochResponse(topics=[topic]))
        await settled()
        return node, asked

    def asked(self) -> list[int]:
        """Which brokers have a Fetch to answer."""
        return [node for node, channel in self.cluster.channels.items() if channel.asked]


async def settled() -> None:
    """All that is ready to go on has gone on."""
    for _ in range(10):
        await asyncio.sleep(0)


async def read_by_a_reader_of_epoch_4() -> Scene:
    """Everything below 100 was written in epoch 4; the leader of epoch 5 has been asked for more."""
    scene = Scene(auto_offset_reset="none")
    scene.state.seek(100, 4)
    scene.fetcher.maintain()
    assert scene.asked() == [1]
    return scene


def records_of(epoch: int) -> bytes:
    """Five records from 100 on."""
    return bytes(build_batch([(1, None, b"v", ())] * 5, base_offset=100, leader_epoch=epoch))


def test_records_that_come_while_the_next_leader_is_asked_are_not_taken_for_truncated() -> None:
    """The end of epoch 4 is no judgement on records of epoch 5, which the leader before gave meanwhile."""

    async def play() -> None:
        scene = await read_by_a_reader_of_epoch_4()
        await scene.lead(2, 6)
        assert scene.state.phase is Phase.VALIDATE
        await scene.answer(1, records=records_of(5))
        hand_out(scene.fetcher.take(10)[0])
        assert await scene.end(4, 100) == (2, 4)
        assert scene.failures == []
        assert (scene.state.phase, scene.state.fetch_offset) == (Phase.FETCH, 100)
        assert scene.asked() == [2]
        await scene.answer(2, records=records_of(5))
        assert len(hand_out(scene.fetcher.take(10)[0])) == 5

    asyncio.run(play())


def test_a_leader_that_was_followed_by_another_while_it_was_asked_confirms_nothing() -> None:
    async def play() -> None:
        scene = await read_by_a_reader_of_epoch_4()
        await scene.lead(2, 6)
        await scene.lead(3, 7)
        assert await scene.end(4, 100) == (2, 4)
        assert scene.state.phase is Phase.VALIDATE
        assert await scene.end(4, 90) == (3, 4)
        assert (scene.state.phase, scene.state.fetch_offset) == (Phase.FETCH, 90)
        assert [type(error) for error in scene.failures] == [LogTruncated]

    asyncio.run(play())


def test_a_topic_that_was_made_anew_begins_its_epochs_again() -> None:
    """Its leader would say for ever that it does not know the epoch of the old one."""

    async def play() -> None:
        scene = Scene(auto_offset_reset="none")
        await scene.lead(1, 5, b"a" * 16)
        scene.state.seek(100, 5)
        await scene.lead(2, 0, b"b" * 16)
        assert scene.state.leader == LeaderAndEpoch(2, 0)
        assert scene.state.phase is Phase.VALIDATE
        assert await scene.end(-1, -1) == (2, 5)
        assert [type(error) for error in scene.failures] == [LogTruncated]
        assert scene.asked() == [2]

    asyncio.run(play())


def test_what_went_wrong_with_a_position_that_was_moved_meanwhile_is_told_to_nobody() -> None:
    async def play() -> None:
        scene = Scene()
        scene.state.seek(100, 5, validate=True)
        scene.keeper.kick()
        await settled()
        scene.state.seek(7)
        ((_, _, question),) = scene.cluster.epoch_questions
        question.set_exception(KafkaError(ErrorCode.TOPIC_AUTHORIZATION_FAILED))
        await settled()
        assert scene.failures == []
        assert scene.asked() == [1]

    asyncio.run(play())


def test_a_leader_that_stands_still_keeps_nobody_from_the_answers_of_the_others() -> None:
    async def play() -> None:
        cluster = ToyCluster()
        partitions = {n: PartitionMetadata(n, n + 1, 5, (1, 2), (1, 2)) for n in range(2)}
        cluster.metadata.topics["t"] = TopicMetadata("t", ZERO_ID, False, partitions)

        async def ask(
            node_id: int, asked: Mapping[TopicPartition, int]
        ) -> dict[TopicPartition, int | KafkaError]:
            if node_id == 2:
                await settled()
                raise RequestTimedOut("broker 2 was not answered in time")
            return dict.fromkeys(asked, 7)

        wanted = {TopicPartition("t", n): 0 for n in range(2)}
        found = await ask_leaders(cast("Any", cluster), wanted, ask, 0, once=True)
        assert found == {T0: 7}
        assert cluster.refreshes == 1

    asyncio.run(play())


def test_who_waits_for_metadata_hears_that_the_client_closes() -> None:
    """Not only when its time is up: also who waits for the answer to a question that is under way."""

    async def play() -> None:
        cluster = Cluster(SETTINGS)
        asked = asyncio.Event()

        async def never() -> None:
            asked.set()
            await asyncio.Event().wait()

        cluster._refresh_once = never  # type: ignore[method-assign]
        cluster.start()
        waits = asyncio.ensure_future(cluster.wait_for(lambda: None, 3_600_000, "anything"))
        await asked.wait()
        await cluster.close()
        with pytest.raises(RuntimeError, match="closed"):
            await asyncio.wait_for(waits, 5)

    asyncio.run(play())


async def read_from_a_follower() -> Scene:
    """The leader has said that broker 3 is nearer."""
    scene = Scene(client_rack="here")
    scene.fetcher.maintain()
    await scene.answer(1, preferred_read_replica=3)
    assert scene.asked() == [3]
    return scene


@pytest.mark.parametrize(
    "code",
    [
        ErrorCode.NOT_LEADER_OR_FOLLOWER,
        ErrorCode.FENCED_LEADER_EPOCH,
        ErrorCode.UNKNOWN_LEADER_EPOCH,
        ErrorCode.REPLICA_NOT_AVAILABLE,
        ErrorCode.KAFKA_STORAGE_ERROR,
        ErrorCode.OFFSET_NOT_AVAILABLE,
        ErrorCode.LEADER_NOT_AVAILABLE,
        ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
        ErrorCode.UNKNOWN_TOPIC_ID,
        ErrorCode.INCONSISTENT_TOPIC_ID,
    ],
)
def test_a_fetch_that_is_to_look_again_does_and_tells_nobody(code: ErrorCode) -> None:
    async def play() -> None:
        scene = Scene()
        scene.fetcher.maintain()
        await scene.answer(1, code)
        assert scene.cluster.refreshes == 1
        assert scene.failures == []
        scene.cluster.lead(2, 6)
        scene.now += SETTINGS.retry_backoff_ms
        scene.fetcher.maintain()
        assert scene.asked() == [2]
        assert scene.state.fetch_offset == 100

    asyncio.run(play())


def test_a_broker_that_stumbles_over_a_fetch_is_asked_again() -> None:
    """``FetchCollector`` does so, too: a broker that is going down may say anything."""

    async def play() -> None:
        scene = Scene()
        scene.fetcher.maintain()
        await scene.answer(1, ErrorCode.UNKNOWN_SERVER_ERROR)
        assert scene.failures == []
        scene.now += SETTINGS.retry_backoff_max_ms
        scene.fetcher.maintain()
        assert scene.asked() == [1]

    asyncio.run(play())


def test_only_the_leader_of_now_decides_that_a_position_is_out_of_range() -> None:
    """One that was deposed may lack what its successor has; a reset by its word would skip records."""

    async def play() -> None:
        scene = Scene()
        scene.fetcher.maintain()
        scene.cluster.lead(2, 6)
        await scene.answer(1, ErrorCode.OFFSET_OUT_OF_RANGE)
        assert (scene.state.phase, scene.state.fetch_offset) == (Phase.FETCH, 100)
        assert scene.asked() == [2]
        await scene.answer(2, ErrorCode.OFFSET_OUT_OF_RANGE)
        assert scene.state.phase is Phase.RESET

    asyncio.run(play())


def test_records_that_came_before_a_position_went_out_of_range_are_still_handed_out() -> None:
    """The reset goes by where the application stands: the Fetch ahead may have been for what retention took since."""

    async def play() -> None:
        scene = Scene()
        scene.fetcher.maintain()
        records = build_batch([(1, None, b"v", ())] * 5, base_offset=100)
        await scene.answer(1, records=bytes(records))
        await scene.answer(1, ErrorCode.OFFSET_OUT_OF_RANGE)
        assert (scene.state.phase, scene.asked()) == (Phase.FETCH, [])
        chunks, _ = scene.fetcher.take(10)
        assert len(hand_out(chunks)) == 5
        scene.now += SETTINGS.retry_backoff_ms
        scene.fetcher.maintain()
        await scene.answer(1, ErrorCode.OFFSET_OUT_OF_RANGE)
        assert scene.state.phase is Phase.RESET

    asyncio.run(play())


def test_a_follower_that_says_out_of_range_has_the_leader_asked() -> None:
    async def play() -> None:
        scene = await read_from_a_follower()
        await scene.answer(3, ErrorCode.OFFSET_OUT_OF_RANGE)
        assert scene.state.phase is Phase.FETCH
        assert scene.asked() == [1]

    asyncio.run(play())


def test_a_follower_that_was_left_when_the_leader_changed_decides_nothing() -> None:
    async def play() -> None:
        scene = await read_from_a_follower()
        scene.cluster.lead(2, 6)
        scene.state.leader_changed(LeaderAndEpoch(2, 6))
        await scene.answer(3, ErrorCode.OFFSET_OUT_OF_RANGE)
        assert (scene.state.phase, scene.state.fetch_offset) == (Phase.FETCH, 100)

    asyncio.run(play())


def test_a_follower_that_dies_is_read_from_no_more() -> None:
    async def play() -> None:
        scene = await read_from_a_follower()
        dead = scene.cluster.channels[3].asked.pop()
        dead.set_exception(KafkaError(ErrorCode.NETWORK_EXCEPTION, "gone"))
        await asyncio.sleep(0)
        assert scene.cluster.refreshes == 1
        scene.fetcher.maintain()
        assert scene.asked() == [1]

    asyncio.run(play())


def test_a_follower_that_is_younger_than_the_metadata_keeps_nobody_from_reading() -> None:
    """The leader sends us to it and gives no records to who tells that rack: it would go on so for ever."""

    async def play() -> None:
        scene = Scene(client_rack="here")
        known = scene.cluster.metadata.nodes.pop(3)
        scene.fetcher.maintain()
        await scene.answer(1, preferred_read_replica=3)
        assert scene.cluster.refreshes == 1
        assert scene.asked() == [1]
        assert scene.cluster.channels[1].racks == ["here", ""]
        scene.cluster.metadata.nodes[3] = known
        scene.now += SETTINGS.retry_backoff_max_ms
        await scene.answer(1)
        assert scene.cluster.channels[1].racks[2:] == ["here"]
        await scene.answer(1, preferred_read_replica=3)
        assert scene.asked() == [3]
        assert scene.state.preferred_replica == 3

    asyncio.run(play())


@pytest.mark.parametrize("code", [ErrorCode.OFFSET_OUT_OF_RANGE, ErrorCode.NOT_LEADER_OR_FOLLOWER])
def test_a_leader_is_not_told_the_rack_of_a_follower_that_was_no_help(code: ErrorCode) -> None:
    """Else it sends us there again at once."""

    async def play() -> None:
        scene = await read_from_a_follower()
        await scene.answer(3, code)
        scene.now += SETTINGS.retry_backoff_ms
        scene.fetcher.maintain()
        assert scene.asked() == [1]
        assert scene.cluster.channels[1].racks == ["here", ""]

    asyncio.run(play())


def test_an_address_that_swallows_packets_does_not_hold_up_the_next_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cluster_module, "CONNECT_STAGGER_S", 0.0)

    async def play() -> None:
        cluster = Cluster(SETTINGS)

        async def connect(host: str, port: int, purpose: str) -> ToyChannel:
            if host == "boot1":
                await asyncio.Event().wait()
            return ToyChannel(host, port)

        monkeypatch.setattr(cluster.connections, "channel", connect)
        async with asyncio.timeout(20):
            async for channel in cluster._candidates([]):
                assert channel.host == "boot2"
                break
        for task in asyncio.all_tasks() - {asyncio.current_task()}:  # type: ignore[arg-type]
            task.cancel()

    asyncio.run(play())


def test_all_bootstrap_addresses_but_one_may_be_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    async def play() -> None:
        cluster = Cluster(SETTINGS._replace(bootstrap=tuple((f"b{n}", n) for n in range(1, 6))))

        async def connect(host: str, port: int, purpose: str) -> ToyChannel:
            if host != "b5":
                raise KafkaError(ErrorCode.NETWORK_EXCEPTION, f"{host} is down")
            return ToyChannel(host, port)

        monkeypatch.setattr(cluster.connections, "channel", connect)
        failures: list[str] = []
        found = [channel.host async for channel in cluster._candidates(failures)]
        assert found == ["b5"]
        assert len(failures) == 4

    asyncio.run(play())


def test_one_connected_broker_among_several_is_not_believed_for_ever() -> None:
    """It may have lost touch with its cluster: the next refresh may go to another."""

    async def play() -> None:
        cluster = Cluster(SETTINGS)
        for n in (1, 2, 3):
            channel: Any = ToyChannel(f"host{n}", n)
            cluster.connections._channels[f"host{n}", n, "main"] = channel
        first = {cluster.connections.connected()[0].host for _ in range(200)}
        assert first == {"host1", "host2", "host3"}
        busy: Any = cluster.connections._channels["host2", 2, "main"]
        busy.in_flight = 1
        assert all(cluster.connections.connected()[2].host == "host2" for _ in range(20))
        assert isinstance(cluster._metadata_request(busy), MetadataRequest)

    asyncio.run(play())


def test_who_was_no_help_is_asked_again_only_after_all_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The only broker that is connected may be cut off from its cluster, and name itself for ever."""

    async def play() -> None:
        cluster = Cluster(SETTINGS._replace(bootstrap=(("host1", 1), ("host2", 2))))
        cut_off: Any = ToyChannel("host1", 1)
        cluster.connections._channels["host1", 1, "main"] = cut_off
        cluster.metadata.nodes = {n: Node(n, f"host{n}", n) for n in (1, 2, 3)}

        async def connect(host: str, port: int, purpose: str) -> ToyChannel:
            return ToyChannel(host, port)

        monkeypatch.setattr(cluster.connections, "channel", connect)
        first = [channel.host async for channel in cluster._candidates([])]
        assert first[0] == "host1"
        cluster._told_by = ("host1", 1)
        then = [channel.host async for channel in cluster._candidates([])]
        assert sorted(then[:2]) == ["host2", "host3"]
        assert then[2:] == ["host1"]
        assert await cluster.any_node() == 1
        assert await cluster.any_node(but=1) in (2, 3)
        cluster.metadata.nodes = {1: Node(1, "host1", 1)}
        assert await cluster.any_node(but=1) == 1

    asyncio.run(play())
