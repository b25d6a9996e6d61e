"""Fetch as followers send it: what it tells the leader, what it is told, and what ends its waiting."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Coroutine
from types import SimpleNamespace
from typing import Any

import pytest

from ottla.broker.fetch_sessions import FetchSessions
from ottla.broker.handlers import fetch
from ottla.errors import ErrorCode
from ottla.messages.fetch import (
    FetchPartition,
    FetchRequest,
    FetchTopic,
    PartitionData,
    ReplicaState,
)
from ottla.network.sending import close_regions
from ottla.records.batch import iter_batches
from ottla.replication.quota import ReplicationQuota
from tests.unit.log.samples import NOW_MS, TOPIC_ID, batch
from tests.unit.replication.leaders import EPOCH, LAG_MS, Leader

OLD, NEW = 12, 17


class Stage:
    """A leader behind a broker that can do nothing but fetch."""

    def __init__(self, replicas: list[int], isr: list[int], **config: Any) -> None:
        self.leader = Leader(replicas, isr, **config)
        self.session = (0, 0)
        self.written: list[Any] = []
        """What was to be written at once."""
        numbers = itertools.count(100)
        self.broker: Any = SimpleNamespace(
            config=SimpleNamespace(fetch_max_bytes=1 << 20),
            fetch_sessions=FetchSessions(10, lambda: next(numbers)),
            replicas=SimpleNamespace(
                peers=self.leader.peers,
                leader_of=lambda topic, index: self.leader.partition,
                replica_of=lambda topic, index: self.leader.partition,
                get=lambda topic, index: self.leader.partition,
            ),
            metadata=SimpleNamespace(topic_name=lambda topic_id: "orders", brokers={}),
            parked_fetches=set(),
            endpoints=lambda listener: [
                (node, f"host-{node}", 9092, None) for node in self.leader.partition.replicas
            ],
            is_stopping=False,
            loop=asyncio.get_running_loop(),
            server=SimpleNamespace(
                turns=SimpleNamespace(soon=asyncio.get_running_loop().call_soon)
            ),
        )

    def send(
        self,
        offset: int | None,
        *,
        version: int = NEW,
        replica: int = 2,
        broker_epoch: int = 7,
        epoch: int = EPOCH,
        last_epoch: int = -1,
        start: int = 0,
        wait_ms: int = 60_000,
        rack: str = "",
        max_bytes: int = 1 << 20,
    ) -> Any:
        """One Fetch in the session, if there is one: the answer or a future of it. None: from where it was."""
        partitions = [
            FetchPartition(
                partition=0,
                fetch_offset=offset or 0,
                partition_max_bytes=max_bytes,
                current_leader_epoch=epoch,
                last_fetched_epoch=last_epoch,
                log_start_offset=start,
            )
        ]
        topic = FetchTopic(topic="orders", topic_id=TOPIC_ID, partitions=partitions)
        session_id, session_epoch = self.session
        if session_id:
            self.session = session_id, session_epoch + 1
        body = FetchRequest(
            replica_id=replica if version < 15 else -1,
            replica_state=ReplicaState(replica_id=replica, replica_epoch=broker_epoch)
            if version >= 15
            else None,
            max_wait_ms=wait_ms,
            min_bytes=1,
            session_id=session_id,
            session_epoch=session_epoch,
            topics=[] if offset is None else [topic],
            rack_id=rack,
        )
        request: Any = SimpleNamespace(
            body=body,
            api_version=version,
            received_ms=NOW_MS,
            connection=SimpleNamespace(listener_name="PLAINTEXT", answer_now=self._answer_now),
        )
        return fetch.handle(self.broker, request)

    def _answer_now(self, future: asyncio.Future[Any], answer: Any) -> None:
        self.written.append(answer)
        future.set_result(answer)

    def racks(self, **racks: str) -> None:
        """Which broker stands where; consumers are sent to followers."""
        self.leader.peers.selects_replicas = True
        for name, rack in racks.items():
            self.broker.metadata.brokers[int(name[1:])] = SimpleNamespace(rack=rack)

    def consume(self, offset: int | None, **how: Any) -> Any:
        """A consumer's Fetch."""
        return self.send(offset, replica=-1, **how)

    async def told(self, answer: Any) -> PartitionData | None:
        """What is said of the partition; None if nothing is."""
        response = await answer if isinstance(answer, asyncio.Future) else answer
        assert not response.error_code
        if self.session == (0, 0) and response.session_id:
            self.session = response.session_id, 1
        if not response.responses:
            return None
        ((data,),) = [topic.partitions for topic in response.responses]
        assert isinstance(data, PartitionData)
        return data


def offsets(data: PartitionData | None) -> list[int]:
    """The last offsets of the batches in an answer."""
    assert data is not None
    regions: Any = data.records
    try:
        content = b"".join(region.read() for region in regions)
        return [header.last_offset for _, header in iter_batches(content)]
    finally:
        close_regions(regions)


def test_who_asks_the_wrong_broker_is_told_the_right_one() -> None:
    """KIP-951: so a client needs no metadata, which another broker may not have heard of yet."""

    async def main() -> None:
        stage = Stage([1, 2], [1, 2])
        stage.leader.partition.follow(2, EPOCH + 1, 1, [1, 2], [2])
        response = stage.send(0, version=16)
        ((data,),) = [topic.partitions for topic in response.responses]
        assert data.error_code == ErrorCode.NOT_LEADER_OR_FOLLOWER
        leader = data.current_leader
        assert (leader.leader_id, leader.leader_epoch) == (2, EPOCH + 1)
        assert [(one.node_id, one.host) for one in response.node_endpoints] == [(2, "host-2")]
        stage.session = (0, 0)
        older = stage.send(0, version=15)
        assert (older.node_endpoints, older.responses[0].partitions[0].current_leader) == ([], None)

    on_a_loop(main)


async def turns(count: int = 20) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def on_a_loop(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(test())


@pytest.mark.parametrize("version", [OLD, NEW])
def test_a_fetch_is_an_acknowledgement_and_is_told_the_high_watermark_that_it_made(
    version: int,
) -> None:
    async def main() -> None:
        stage = Stage([1, 2], [1, 2])
        stage.leader.append(2)
        data = await stage.told(stage.send(0, version=version))
        assert offsets(data) == [1]
        assert data is not None
        assert data.high_watermark == 0
        parked = stage.send(2, version=version)
        assert stage.leader.high_watermark == 2
        stage.leader.append(1)
        data = await stage.told(parked)
        assert offsets(data) == [2]
        assert data is not None
        assert data.high_watermark == 2

    on_a_loop(main)


def test_a_parked_follower_wakes_on_append_and_not_on_the_high_watermark() -> None:
    async def main() -> None:
        stage = Stage([1, 2, 3], [1, 2, 3])
        stage.leader.append(1)
        stage.leader.fetch(3, 0)
        await stage.told(stage.send(1, wait_ms=0))
        parked = stage.send(None)
        stage.leader.fetch(3, 1)
        await turns()
        assert stage.leader.high_watermark == 1
        assert not parked.done()
        stage.leader.append(1)
        data = await stage.told(parked)
        assert offsets(data) == [1]
        assert data is not None
        assert data.high_watermark == 1

    on_a_loop(main)


def test_a_parked_followers_answer_has_all_of_a_turn_and_is_written_in_the_turn_that_reads_it() -> (
    None
):
    async def main() -> None:
        stage = Stage([1, 2, 3], [1, 2, 3])
        stage.leader.append(1)
        await stage.told(stage.send(1, wait_ms=0))
        parked = stage.send(None)
        await turns()
        assert stage.written == []
        stage.leader.append(1)
        stage.leader.append(1)
        assert offsets(await stage.told(parked)) == [1, 2]
        assert stage.written == [parked.result()]
        assert not stage.broker.parked_fetches

    on_a_loop(main)


def test_a_parked_follower_hears_of_a_high_watermark_at_once_where_consumers_read_from_it() -> None:
    async def main() -> None:
        stage = Stage([1, 2, 3], [1, 2, 3])
        stage.leader.peers.selects_replicas = True
        stage.leader.append(1)
        await stage.told(stage.send(1, wait_ms=0))
        parked = stage.send(None)
        stage.leader.fetch(3, 1)
        data = await stage.told(parked)
        assert data is not None
        assert (offsets(data), data.high_watermark) == ([], 1)
        assert not stage.send(None).done(), "once"

    on_a_loop(main)


def test_a_parked_follower_hears_at_once_that_the_log_starts_later() -> None:
    async def main() -> None:
        stage = Stage([1, 2], [1, 2])
        stage.leader.append(3)
        await stage.told(stage.send(3, wait_ms=0))
        parked = stage.send(None)
        await turns()
        stage.leader.partition.delete_records(2, NOW_MS)
        data = await stage.told(parked)
        assert data is not None
        assert data.log_start_offset == 2

    on_a_loop(main)


def test_a_parked_follower_hears_at_once_that_the_leader_is_another_or_its_epoch() -> None:
    async def main() -> None:
        stage = Stage([1, 2], [1, 2])
        await stage.told(stage.send(0, wait_ms=0))
        parked = stage.send(None)
        stage.leader.partition.become_leader(EPOCH + 1, 1, [1, 2], [1, 2])
        data = await stage.told(parked)
        assert data is not None
        assert data.error_code == ErrorCode.FENCED_LEADER_EPOCH
        parked = stage.send(0, epoch=EPOCH + 1)
        stage.leader.partition.follow(2, EPOCH + 2, 2, [1, 2], [1, 2])
        data = await stage.told(parked)
        assert data is not None
        assert data.error_code == ErrorCode.NOT_LEADER_OR_FOLLOWER

    on_a_loop(main)


def test_what_is_found_wanting_is_no_acknowledgement() -> None:
    async def main() -> None:
        stage = Stage([1, 2], [1, 2])
        stage.leader.append(3)
        for how, code in (
            ({"offset": 3, "epoch": EPOCH - 1}, ErrorCode.FENCED_LEADER_EPOCH),
            ({"offset": 3, "epoch": EPOCH + 1}, ErrorCode.UNKNOWN_LEADER_EPOCH),
            ({"offset": 3, "replica": 9}, ErrorCode.UNKNOWN_LEADER_EPOCH),
            ({"offset": 3, "replica": 9, "epoch": -1}, ErrorCode.NOT_LEADER_OR_FOLLOWER),
            ({"offset": 4}, ErrorCode.OFFSET_OUT_OF_RANGE),
            ({"offset": 3, "last_epoch": EPOCH + 4}, ErrorCode.OFFSET_OUT_OF_RANGE),
        ):
            stage.session = (0, 0)
            arguments: Any = how
            data = await stage.told(stage.send(**arguments))
            assert data is not None
            assert data.error_code == code, how
            assert stage.leader.high_watermark == 0, how

    on_a_loop(main)


def test_a_follower_whose_log_parts_from_the_leaders_is_told_where() -> None:
    async def main() -> None:
        stage = Stage([1, 2], [1, 2])
        stage.leader.append(3)
        stage.leader.partition.become_leader(EPOCH + 2, 1, [1, 2], [1, 2])
        stage.leader.append(2)
        # It wrote two more in the same epoch, which the leader of that one never told anybody of.
        data = await stage.told(stage.send(5, epoch=EPOCH + 2, last_epoch=EPOCH))
        assert data is not None
        assert data.diverging_epoch is not None
        assert (data.diverging_epoch.epoch, data.diverging_epoch.end_offset) == (EPOCH, 3)
        assert stage.leader.high_watermark == 0

    on_a_loop(main)


def test_a_fetch_of_an_earlier_life_is_refused() -> None:
    async def main() -> None:
        stage = Stage([1, 2], [1, 2])
        stage.leader.append(3)
        await stage.told(stage.send(0, broker_epoch=8))
        stage.session = (0, 0)
        data = await stage.told(stage.send(3, broker_epoch=7))
        assert data is not None
        assert data.error_code == ErrorCode.NOT_LEADER_OR_FOLLOWER
        assert stage.leader.high_watermark == 0

    on_a_loop(main)


def test_only_the_first_look_is_an_acknowledgement() -> None:
    """What a parked Fetch looks at later says nothing new about its follower, which may be dead by then."""

    async def main() -> None:
        stage = Stage([1, 2], [1, 2])
        await stage.told(stage.send(0, wait_ms=0))
        parked = stage.send(None)
        stage.leader.clock.advance(LAG_MS + 1)
        stage.leader.append(1)
        await stage.told(parked)
        stage.leader.partition.check_isr()
        assert stage.leader.asked.last == [1]

    on_a_loop(main)


def test_a_session_whose_partition_is_quiet_keeps_its_follower_in_sync() -> None:
    async def main() -> None:
        stage = Stage([1, 2], [1, 2])
        await stage.told(stage.send(0, wait_ms=0))
        for _ in range(3):
            stage.leader.clock.advance(LAG_MS)
            await stage.told(stage.send(None, wait_ms=0))
        stage.leader.append(1)
        stage.leader.partition.check_isr()
        assert stage.leader.asked.proposals == []
        stage.leader.clock.advance(LAG_MS + 1)
        stage.leader.partition.check_isr()
        assert stage.leader.asked.last == [1]

    on_a_loop(main)


def test_every_fetch_is_an_occasion_to_join() -> None:
    async def main() -> None:
        stage = Stage([1, 2], [1])
        stage.leader.dead.add(2)
        await stage.told(stage.send(0, wait_ms=0))
        await stage.told(stage.send(None, wait_ms=0))
        assert stage.leader.asked.proposals == []
        stage.leader.dead.clear()
        await stage.told(stage.send(None, wait_ms=0))
        assert stage.leader.asked.last == [1, 2]

    on_a_loop(main)


def test_a_parked_follower_asks_again_once_it_may_join() -> None:
    """When its broker is known to live, or whoever was to join before it has done so."""

    async def main() -> None:
        stage = Stage([1, 2, 3], [1])
        stage.leader.dead.add(2)
        await stage.told(stage.send(0, wait_ms=0))
        parked = stage.send(None)
        stage.leader.dead.clear()
        stage.leader.fetch(3, 0)
        stage.leader.partition.brokers_changed()
        await turns()
        assert not parked.done(), "3 is about to join"
        stage.leader.answer()
        await stage.told(parked)
        assert stage.leader.asked.last == [1, 3], "what it said before says nothing of now"
        again = stage.send(None)
        assert stage.leader.asked.last == [1, 3, 2]
        await turns()
        assert not again.done()
        stage.leader.answer()
        await turns()
        assert stage.leader.partition.isr == [1, 3, 2]
        assert not again.done()

    on_a_loop(main)


def test_a_parked_follower_whose_broker_comes_to_live_asks_again() -> None:
    async def main() -> None:
        stage = Stage([1, 2], [1])
        stage.leader.dead.add(2)
        await stage.told(stage.send(0, wait_ms=0))
        parked = stage.send(None)
        stage.leader.partition.brokers_changed()
        await turns()
        assert not parked.done()
        stage.leader.dead.clear()
        stage.leader.partition.brokers_changed()
        await stage.told(parked)
        await stage.told(stage.send(None, wait_ms=0))
        assert stage.leader.asked.last == [1, 2]

    on_a_loop(main)


def test_a_second_fetch_in_the_session_has_the_first_one_answered() -> None:
    """A follower acknowledges one partition while it waits for another."""

    async def main() -> None:
        stage = Stage([1, 2], [1, 2])
        stage.leader.append(1)
        await stage.told(stage.send(0, wait_ms=0))
        await stage.told(stage.send(1, wait_ms=0))
        first = stage.send(None)
        second = stage.send(None)
        assert await stage.told(first) is None
        assert not second.done()
        stage.leader.append(1)
        assert offsets(await stage.told(second)) == [1]

    on_a_loop(main)


def test_a_consumer_is_sent_to_the_in_sync_follower_of_its_rack() -> None:
    async def main() -> None:
        stage = Stage([1, 2, 3], [1, 2])
        stage.racks(b1="a", b2="b", b3="c")
        stage.leader.append(3)
        for replica in (2, 3):
            stage.leader.fetch(replica, 3)
        for rack, preferred in (("b", 2), ("c", -1), ("a", -1), ("d", -1), ("", -1)):
            stage.session = (0, 0)
            data = await stage.told(stage.consume(0, rack=rack))
            assert data is not None
            assert data.preferred_read_replica == preferred, rack
            assert offsets(data) == ([] if preferred >= 0 else [2])

    on_a_loop(main)


def test_a_consumer_is_not_sent_to_a_replica_that_is_not_in_the_isr_or_lacks_what_it_wants() -> (
    None
):
    """KAFKA-14372: it might lag for ever, and the consumer with it."""

    async def main() -> None:
        stage = Stage([1, 2, 3], [1, 2, 3])
        stage.racks(b1="a", b2="b", b3="b")
        stage.leader.append(3)
        stage.leader.fetch(2, 2)
        stage.leader.fetch(3, 3, start=1)
        for offset, preferred in ((0, 2), (1, 3), (3, 3)):
            stage.session = (0, 0)
            data = await stage.told(stage.consume(offset, rack="b"))
            assert data is not None
            assert data.preferred_read_replica == preferred, offset
        stage.leader.partition.become_leader(EPOCH, 1, [1, 2, 3], [1, 2])
        stage.session = (0, 0)
        data = await stage.told(stage.consume(1, rack="b"))
        assert data is not None
        assert data.preferred_read_replica == 2

    on_a_loop(main)


def test_without_a_selector_consumers_read_from_the_leader() -> None:
    async def main() -> None:
        stage = Stage([1, 2], [1, 2])
        stage.racks(b1="a", b2="b")
        stage.leader.peers.selects_replicas = False
        stage.leader.append(1)
        stage.leader.fetch(2, 1)
        data = await stage.told(stage.consume(0, rack="b"))
        assert data is not None
        assert (data.preferred_read_replica, offsets(data)) == (-1, [0])

    on_a_loop(main)


def test_a_follower_serves_consumers_what_it_knows_to_be_committed() -> None:
    async def main() -> None:
        stage = Stage([1, 2], [1, 2])
        replica = stage.leader.partition
        replica.follow(2, EPOCH + 1, 1, [1, 2], [1, 2])
        for offset in (0, 1):
            content = batch(1, base_offset=offset, leader_epoch=EPOCH + 1)
            replica.append_as_follower(content, NOW_MS)
        replica.learn_high_watermark(1)
        data = await stage.told(stage.consume(0, epoch=EPOCH + 1))
        assert data is not None
        assert (offsets(data), data.high_watermark) == ([0], 1)
        stage.session = (0, 0)
        parked = stage.consume(1, epoch=EPOCH + 1)
        assert not parked.done()
        replica.learn_high_watermark(2)
        assert offsets(await stage.told(parked)) == [1]
        for how, code in (
            ({"offset": 3, "epoch": EPOCH + 1}, ErrorCode.OFFSET_NOT_AVAILABLE),
            ({"offset": 1, "epoch": EPOCH}, ErrorCode.FENCED_LEADER_EPOCH),
            ({"offset": 1, "epoch": EPOCH + 2}, ErrorCode.UNKNOWN_LEADER_EPOCH),
        ):
            stage.session = (0, 0)
            arguments: Any = how
            data = await stage.told(stage.consume(**arguments))
            assert data is not None
            assert data.error_code == code

    on_a_loop(main)


def test_a_topic_made_again_is_not_read_under_its_old_id() -> None:
    async def main() -> None:
        stage = Stage([1, 2], [1, 2])
        stage.leader.partition.topic_id = bytes(15) + b"x"
        data = await stage.told(stage.send(0))
        assert data is not None
        assert data.error_code == ErrorCode.INCONSISTENT_TOPIC_ID

    on_a_loop(main)


def test_a_follower_that_is_not_in_sync_waits_while_throttled_replicas_take_too_much() -> None:
    async def main() -> None:
        stage = Stage([1, 2, 3], [1, 3], leader_replication_throttled_replicas=("0:1",))
        peers = stage.leader.peers
        quota = peers.leader_quota = ReplicationQuota(lambda: 50, stage.leader.clock.monotonic)
        stage.leader.append(1)
        stage.leader.append(1)
        size = stage.leader.partition.log.size_bytes // 2
        data = await stage.told(stage.send(0, max_bytes=size, wait_ms=0))
        assert offsets(data) == [0]
        assert quota.rate == size > 50
        data = await stage.told(stage.send(1, max_bytes=size, wait_ms=0))
        assert offsets(data) == [], "it has to wait"
        stage.session = (0, 0)
        data = await stage.told(stage.send(1, replica=3, wait_ms=0))
        assert offsets(data) == [1], "it is in the ISR"
        stage.leader.clock.advance(12_000)
        stage.session = (0, 0)
        data = await stage.told(stage.send(1, wait_ms=0))
        assert offsets(data) == [1]

    on_a_loop(main)


def test_a_follower_that_is_not_in_sync_is_sent_a_throttled_replica_at_its_rate() -> None:
    async def main() -> None:
        stage = Stage([1, 2], [1], leader_replication_throttled_replicas=("0:1",))
        clock, rate, seconds = stage.leader.clock, 10_000, 30
        stage.leader.peers.leader_quota = ReplicationQuota(lambda: rate, clock.monotonic)
        for _ in range(300):
            stage.leader.partition.append_as_leader(
                memoryview(batch(1, size=2000)), NOW_MS, required_acks=1
            )
        a_batch = stage.leader.partition.log.size_bytes // 300
        end = sent = 0
        for _ in range(10 * seconds):  # ten times a second, each time a batch
            stage.session = (0, 0)
            for offset in offsets(await stage.told(stage.send(end, max_bytes=a_batch, wait_ms=0))):
                end, sent = offset + 1, sent + a_batch
            clock.advance(100)
        assert 0.9 * rate * seconds < sent <= rate * (seconds + 1) + a_batch

    on_a_loop(main)


def test_what_is_not_throttled_does_not_wait_for_what_is() -> None:
    async def main() -> None:
        stage = Stage([1, 2], [1], leader_replication_throttled_replicas=("0:2", "1:1"))
        quota = stage.leader.peers.leader_quota = ReplicationQuota(
            lambda: 100, stage.leader.clock.monotonic
        )
        quota.record(10_000)
        stage.leader.append(1)
        assert offsets(await stage.told(stage.send(0, wait_ms=0))) == [0]
        assert quota.rate == 10_000

    on_a_loop(main)


def test_a_follower_is_told_the_high_watermark_that_its_fetch_made_though_nothing_else_comes() -> (
    None
):
    async def main() -> None:
        stage = Stage([1, 2], [1, 2])
        stage.leader.append(2)
        assert offsets(await stage.told(stage.send(0))) == [1]
        parked = stage.send(2, wait_ms=20)
        assert stage.leader.high_watermark == 2
        data = await stage.told(parked)
        assert data is not None
        assert (offsets(data), data.high_watermark) == ([], 2)
        assert await stage.told(stage.send(None, wait_ms=0)) is None

    on_a_loop(main)
