"""Groups of a cluster: three brokers in this loop, whose coordinators stop, lose their session or touch with the store.

Invariants 31 to 36 with several brokers: a group goes on with its generation and its offsets, nobody is told of it who
needs not be, and a broker that may have been replaced answers for no group.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from ottla import TopicPartition, aio
from ottla.broker.broker import Broker as Server
from ottla.coordination.embedded import Keeper, TimedSessions
from ottla.errors import ErrorCode, KafkaError
from ottla.messages.find_coordinator import FindCoordinatorRequest
from ottla.messages.heartbeat import HeartbeatRequest
from ottla.messages.list_groups import ListGroupsRequest
from ottla.messages.offset_fetch import OffsetFetchRequest, OffsetFetchRequestTopic
from ottla.network.channel import Channel
from ottla.settings.broker_config import BrokerConfig
from tests.support.waiting import eventually_true

DEADLINE_S = 120.0
SESSION_TIMEOUT_MS = 1_500
TOPIC, GROUP = "t", "g"
PARTITIONS = 4


class Trio:
    """Brokers 1, 2 and 3 on one store, each with a session of its own that can be cut off."""

    def __init__(self, keeper: Keeper, data: Path, **settings: object) -> None:
        self._keeper = keeper
        self._data = data
        self._settings = {name.replace("_", "."): value for name, value in settings.items()}
        self._ports: dict[int, int] = {}
        self.sessions: dict[int, TimedSessions] = {}
        self.brokers: dict[int, Server] = {}

    async def start(self, node: int, **settings: object) -> None:
        """Start a broker, on the port that it had before."""
        more = {name.replace("_", "."): value for name, value in settings.items()}
        config = {
            "node.id": node,
            "listeners": f"PLAINTEXT://127.0.0.1:{self._ports.get(node, 0)}",
            "log.dirs": str(self._data / str(node)),
            "durability": "os",
            "offsets.topic.num.partitions": 3,
            "offsets.topic.replication.factor": 3,
            "default.replication.factor": 3,
            "group.initial.rebalance.delay.ms": 0,
            **self._settings,
            **more,
        }
        self.sessions[node] = TimedSessions(self._keeper, SESSION_TIMEOUT_MS)
        broker = Server(BrokerConfig.of(config), connector=self.sessions[node])
        try:
            await broker.start()
        except BaseException:
            await broker.stop()
            raise
        self.brokers[node] = broker
        self._ports[node] = broker.address[1]

    async def stop(self, node: int) -> None:
        """Stop a broker in order."""
        await self.brokers.pop(node).stop()

    def forget_port(self, node: int) -> None:
        """Let it have another one the next time."""
        del self._ports[node]

    async def close(self) -> None:
        """Stop all."""
        for session in self.sessions.values():
            session.release()
        for node in list(self.brokers):
            await self.stop(node)

    @property
    def bootstrap(self) -> str:
        """All brokers' addresses."""
        return ",".join(f"127.0.0.1:{port}" for port in self._ports.values())

    def coordinator(self, group: str = GROUP) -> int | None:
        """Who answers for a group now."""
        for node, broker in self.brokers.items():
            if broker.groups.owns(broker.groups.partition_for(group)) and not (
                broker.lease.is_over()
            ):
                return node
        return None

    async def ask(self, node: int, request: object, version: int) -> object:
        """One request to one broker."""
        channel = await Channel.connect("127.0.0.1", self._ports[node], client_id="test")
        try:
            return await channel.send(request, version=version, timeout=20)  # type: ignore[arg-type]
        finally:
            channel.close()
            await channel.wait_closed()


def run(
    data: Path,
    play: Callable[[Trio], Awaitable[None]],
    nodes: tuple[int, ...] = (1, 2, 3),
    **settings: object,
) -> None:
    """Play with brokers that are up."""

    async def main() -> None:
        keeper = await Keeper.open()
        trio = Trio(keeper, data, **settings)
        try:
            async with asyncio.timeout(DEADLINE_S):
                for node in nodes:
                    await trio.start(node)
                await play(trio)
        finally:
            await trio.close()
            await keeper.close()

    asyncio.run(main())


async def until(holds: Callable[[], object], what: str) -> None:
    """Wait for a condition."""

    async def ask() -> object:
        return holds()

    await eventually_true(ask, what)


async def fill(trio: Trio, count: int, first: int = 0) -> None:
    """Write numbers into the topic."""
    async with aio.Producer(trio.bootstrap) as producer:
        for number in range(first, first + count):
            await producer.send(TOPIC, value=b"%d" % number, partition=number % PARTITIONS)
        await producer.flush()


class Member:
    """A consumer of the group, its records, and what it owned in which generation."""

    def __init__(self, trio: Trio) -> None:
        self.seen: list[int] = []
        self.owned: list[tuple[int, set[TopicPartition]]] = []
        self.consumer = aio.Consumer(
            bootstrap=trio.bootstrap,
            group=GROUP,
            auto_offset_reset="earliest",
            auto_commit_interval_ms=50,
            heartbeat_interval_ms=100,
            session_timeout_ms=6_000,
        )
        self.task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Read until closed."""
        self.task = asyncio.create_task(self._read())

    async def _read(self) -> None:
        async with self.consumer as consumer:
            await consumer.subscribe([TOPIC], on_assigned=self._assigned)
            while True:
                for record in await consumer.poll(1.0):
                    self.seen.append(int(record.value or b""))

    def _assigned(self, partitions: list[TopicPartition]) -> None:
        membership = self.consumer._core.membership
        assert membership is not None
        self.owned.append((membership.generation_id, set(partitions)))

    async def end(self) -> None:
        """Stop, and raise what reading has raised."""
        assert self.task is not None
        if not self.task.done():
            self.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.task


def test_a_group_goes_on_with_its_generation_and_its_offsets(tmp_path: Path) -> None:
    """Invariants 31 and 33; a commit may be under way when its coordinator stops."""

    async def play(trio: Trio) -> None:
        async with aio.Admin(trio.bootstrap) as admin:
            kept: dict[TopicPartition, int] = {}

            async def look_at_offsets() -> None:
                offsets = await admin.group_offsets(GROUP)
                found = {partition: told.offset for partition, told in offsets.items()}
                for partition, offset in kept.items():
                    assert found.get(partition, -1) >= offset, f"{partition} went back: {found}"
                kept.update(found)

            async def is_committed() -> bool:
                ends = await admin.list_offsets({(TOPIC, n): "latest" for n in range(PARTITIONS)})
                await look_at_offsets()
                return kept == {partition: end.offset for partition, end in ends.items() if end}

            await admin.create_topic(TOPIC, PARTITIONS)
            await fill(trio, 40)
            member = Member(trio)
            member.begin()
            await eventually_true(is_committed, "all is read and committed")
            before = await admin.describe_group(GROUP)
            for written in (40, 80):
                await fill(trio, 40, first=written)
                await until(lambda w=written: len(set(member.seen)) == w + 40, "it reads on")
                gone = trio.coordinator()
                assert gone is not None
                await trio.stop(gone)
                await until(lambda: trio.coordinator(), "another coordinates")
                await look_at_offsets()
                await trio.start(gone)
            await fill(trio, 40, first=120)
            await until(lambda: len(set(member.seen)) == 160, "it reads to the end")
            after = await admin.describe_group(GROUP)
            assert (after.state, after.members) == (before.state, before.members)
            assert len(member.owned) == 1, "the group rebalanced"
            await eventually_true(is_committed, "all is committed")
            await member.end()
            assert len(member.seen) == 160, "records were read twice"

    run(tmp_path, play)


def test_members_that_come_and_go_while_coordinators_do_share_everything(tmp_path: Path) -> None:
    """Invariants 31, 34 and 36: one owner a partition in a generation, and no record is skipped."""

    async def play(trio: Trio) -> None:
        async with aio.Admin(trio.bootstrap) as admin:
            await admin.create_topic(TOPIC, PARTITIONS)
        members = [Member(trio)]
        members[0].begin()
        written = 0
        for _ in range(3):
            await fill(trio, 40, first=written)
            written += 40
            newcomer = Member(trio)
            members.append(newcomer)
            newcomer.begin()
            await until(lambda: trio.coordinator(), "somebody coordinates")
            gone = trio.coordinator()
            assert gone is not None
            await trio.stop(gone)
            await until(lambda newcomer=newcomer: newcomer.owned, "the newcomer is in")
            await trio.start(gone)
        seen = lambda: {number for member in members for number in member.seen}  # noqa: E731
        await until(lambda: seen() == set(range(written)), "everything is read")
        for member in members:
            await member.end()
        by_generation: dict[int, list[set[TopicPartition]]] = {}
        for member in members:
            for generation, partitions in member.owned:
                by_generation.setdefault(generation, []).append(partitions)
        for generation, parts in by_generation.items():
            owned = [partition for part in parts for partition in part]
            assert len(owned) == len(set(owned)), f"generation {generation}: {parts}"

    run(tmp_path, play)


def test_a_coordinator_that_may_have_been_replaced_answers_for_no_group(tmp_path: Path) -> None:
    """Invariant 32: what the next coordinator was told is not contradicted by the one before."""

    async def play(trio: Trio) -> None:
        async with aio.Admin(trio.bootstrap) as admin:
            await admin.create_topic(TOPIC, PARTITIONS)
            await admin.alter_group_offsets(GROUP, {(TOPIC, 0): 5})
            cut = trio.coordinator()
            assert cut is not None
            broker = trio.brokers[cut]
            trio.sessions[cut].hold()
            await until(broker.lease.is_over, "its lease is over")
            heartbeat = HeartbeatRequest(group_id=GROUP, generation_id=1, member_id="m")
            told = await trio.ask(cut, heartbeat, 3)
            assert ErrorCode(told.error_code) is ErrorCode.NOT_COORDINATOR  # type: ignore[attr-defined]
            topics = [OffsetFetchRequestTopic(name=TOPIC, partition_indexes=[0])]
            fetch = OffsetFetchRequest(group_id=GROUP, topics=topics)
            told = await trio.ask(cut, fetch, 7)
            assert ErrorCode(told.error_code) is ErrorCode.NOT_COORDINATOR  # type: ignore[attr-defined]
            told = await trio.ask(cut, ListGroupsRequest(), 3)
            assert ErrorCode(told.error_code) is (  # type: ignore[attr-defined]
                ErrorCode.COORDINATOR_NOT_AVAILABLE
            )
            await until(lambda: trio.coordinator() not in (None, cut), "another coordinates")
            await admin.alter_group_offsets(GROUP, {(TOPIC, 0): 6})
            trio.sessions[cut].release()
            await until(lambda: not broker.lease.is_over(), "it has a session again")
            assert (await admin.group_offsets(GROUP))[TopicPartition(TOPIC, 0)].offset == 6
            assert [node for node in trio.brokers if node != trio.coordinator()]
            owners = [
                node
                for node, each in trio.brokers.items()
                if each.groups.owns(each.groups.partition_for(GROUP))
            ]
            assert owners == [trio.coordinator()]

    run(tmp_path, play)


def test_the_groups_topic_waits_for_as_many_brokers_as_it_is_to_have_replicas(
    tmp_path: Path,
) -> None:
    async def play(trio: Trio) -> None:
        request = FindCoordinatorRequest(coordinator_keys=[GROUP])
        for node in (1, 2):
            told = await trio.ask(node, request, 4)
            (found,) = told.coordinators  # type: ignore[attr-defined]
            assert ErrorCode(found.error_code) is ErrorCode.COORDINATOR_NOT_AVAILABLE
        await trio.start(3)
        async with aio.Admin(trio.bootstrap) as admin:
            assert await admin.group_offsets(GROUP) == {}
            topic = await admin.describe_topic("__consumer_offsets")
            assert all(len(partition.replicas) == 3 for partition in topic.partitions)

    run(tmp_path, play, nodes=(1, 2))


def test_all_brokers_hash_groups_to_the_partitions_that_there_are(tmp_path: Path) -> None:
    """The broker by whose setting the topic is made is one of several, which may be set otherwise."""

    async def play(trio: Trio) -> None:
        await trio.start(1, offsets_topic_num_partitions=2)
        await trio.start(2, offsets_topic_num_partitions=5)
        await trio.start(3, offsets_topic_num_partitions=7)
        groups = [f"group-{number}" for number in range(12)]
        async with aio.Admin(trio.bootstrap) as admin:
            await admin.create_topic(TOPIC, PARTITIONS)
            for number, group in enumerate(groups):
                await admin.alter_group_offsets(group, {(TOPIC, 0): number})
        counts = set()
        for broker in trio.brokers.values():
            counts.add(len({broker.groups.partition_for(f"{n}") for n in range(200)}))
            host, port = broker.address
            async with aio.Admin(f"{host}:{port}") as admin:
                for number, group in enumerate(groups):
                    offsets = await admin.group_offsets(group)
                    assert offsets[TopicPartition(TOPIC, 0)].offset == number
        assert len(counts) == 1

    run(tmp_path, play, nodes=())


def test_commits_that_cannot_be_kept_are_tried_again_until_they_are(tmp_path: Path) -> None:
    """Too few replicas in sync: the client is told to look again, and no offset is shown that may be lost."""

    async def play(trio: Trio) -> None:
        async with aio.Admin(trio.bootstrap, request_timeout_ms=30_000) as admin:
            await admin.create_topic(TOPIC, PARTITIONS)
            await admin.alter_group_offsets(GROUP, {(TOPIC, 0): 1})
            coordinator = trio.coordinator()
            others = [node for node in trio.brokers if node != coordinator]
            for node in others:
                await trio.stop(node)
            assert coordinator is not None
            async with aio.Admin(trio.bootstrap, request_timeout_ms=1_000) as hasty:
                with pytest.raises(KafkaError):
                    await hasty.alter_group_offsets(GROUP, {(TOPIC, 0): 2})
            trying = asyncio.create_task(admin.alter_group_offsets(GROUP, {(TOPIC, 0): 3}))
            for node in others:
                await trio.start(node)
            await trying
            assert (await admin.group_offsets(GROUP))[TopicPartition(TOPIC, 0)].offset == 3

    run(tmp_path, play, min_insync_replicas=2, replica_lag_time_max_ms=2_000)
