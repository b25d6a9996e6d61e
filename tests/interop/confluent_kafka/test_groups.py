"""librdkafka's consumers as members of groups."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.interop.confluent_kafka.adapter import (
    admin,
    admin_client,
    confluent_kafka,
    consumer,
    create_topic,
    take,
    write,
)
from tests.interop.samples import Sample
from tests.support.waiting import DEADLINE_S, eventually

pytestmark = pytest.mark.interop

TopicPartition = confluent_kafka.TopicPartition
PARTITIONS = 6


class Member:
    """A consumer in a group, with what happened to it."""

    def __init__(self, bootstrap: str, topic: str, group: str, **settings: object) -> None:
        self.values: list[bytes] = []
        self.errors: list[Any] = []
        self.rebalances = 0
        self.revoked: list[int] = []
        self._cooperative = settings.get("partition.assignment.strategy") == "cooperative-sticky"
        self.consumer = consumer(bootstrap, group, **settings)
        self.consumer.subscribe(
            [topic], on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._lost
        )

    @property
    def partitions(self) -> set[int]:
        """The partitions that it owns."""
        return {partition.partition for partition in self.consumer.assignment()}

    def turn(self) -> None:
        """Serve callbacks and take the records that are there."""
        for message in self.consumer.consume(100, timeout=0.01):
            if message.error():
                self.errors.append(message.error())
            else:
                self.values.append(message.value())

    def close(self) -> None:
        """Leave the group."""
        self.consumer.close()

    def _assigned(self, consumer: Any, partitions: list[Any]) -> None:
        self.rebalances += 1
        if self._cooperative:
            consumer.incremental_assign(partitions)
        else:
            consumer.assign(partitions)

    def _revoked(self, consumer: Any, partitions: list[Any]) -> None:
        self.revoked += [partition.partition for partition in partitions]
        if self._cooperative:
            consumer.incremental_unassign(partitions)
        else:
            consumer.unassign()

    def _lost(self, consumer: Any, partitions: list[Any]) -> None:
        self._revoked(consumer, partitions)


Join = Callable[..., Member]


@pytest.fixture
def join(bootstrap: str, unused: str) -> Iterator[Join]:
    """Start members of a group that reads a topic of six partitions."""
    create_topic(bootstrap, unused, PARTITIONS)
    members: list[Member] = []

    def start(**settings: object) -> Member:
        members.append(Member(bootstrap, unused, unused, **settings))
        return members[-1]

    yield start
    for member in members:
        member.close()


def balanced(*members: Member) -> bool:
    """Give each a turn; whether they share all partitions, each one's at most one more than another's."""
    for member in members:
        member.turn()
    owned = list(itertools.chain.from_iterable(member.partitions for member in members))
    sizes = {len(member.partitions) for member in members}
    return sorted(owned) == list(range(PARTITIONS)) and max(sizes) - min(sizes) <= 1


def share(*members: Member) -> None:
    """Wait until the members share the partitions."""
    eventually(lambda: balanced(*members), f"{len(members)} members share the partitions")


@pytest.mark.parametrize("strategy", ["range", "roundrobin", "cooperative-sticky"])
def test_members_share_the_partitions_and_take_over_from_those_who_leave(
    strategy: str, join: Join, bootstrap: str, unused: str
) -> None:
    settings = {"partition.assignment.strategy": strategy}
    first = join(**settings)
    share(first)
    second = join(**settings)
    share(first, second)
    third = join(**settings)
    share(first, second, third)
    first.close()
    share(second, third)
    for partition in range(PARTITIONS):
        write(bootstrap, unused, partition, "none", [Sample(None, b"%d" % partition)])

    def all_read() -> bool:
        second.turn()
        third.turn()
        return len(second.values) + len(third.values) >= PARTITIONS

    eventually(all_read, "all records arrive")
    assert sorted(second.values + third.values) == [b"%d" % n for n in range(PARTITIONS)]
    assert len(second.values) == len(third.values)


def test_a_cooperative_member_keeps_what_need_not_move(join: Join) -> None:
    settings = {"partition.assignment.strategy": "cooperative-sticky"}
    first = join(**settings)
    share(first)
    second = join(**settings)
    share(first, second)
    assert sorted([*first.partitions, *first.revoked]) == list(range(PARTITIONS))
    assert set(first.revoked) == second.partitions
    assert not second.revoked


def test_a_group_goes_on_where_it_committed(bootstrap: str, unused: str, join: Join) -> None:
    write(bootstrap, unused, 0, "none", [Sample(None, b"%d" % n) for n in range(10)])
    first = consumer(bootstrap, unused)
    first.subscribe([unused])
    assert [m.value() for m in take(first, 10)][:4] == [b"0", b"1", b"2", b"3"]
    committed = first.commit(
        offsets=[TopicPartition(unused, 0, 4, metadata="half-way")], asynchronous=False
    )
    assert committed[0].error is None
    first.close()

    second = consumer(bootstrap, unused)
    second.subscribe([unused])
    assert [m.value() for m in take(second, 6)] == [b"%d" % n for n in range(4, 10)]
    (found,) = second.committed([TopicPartition(unused, 0)], DEADLINE_S)
    assert (found.offset, found.metadata) == (4, "half-way")
    (never,) = second.committed([TopicPartition(unused, 1)], DEADLINE_S)
    assert never.offset == confluent_kafka.OFFSET_INVALID
    second.close()


def test_what_was_read_is_committed_by_itself_when_a_member_leaves(
    bootstrap: str, unused: str, join: Join
) -> None:
    write(bootstrap, unused, 3, "none", [Sample(None, b"%d" % n) for n in range(10)])
    settings: dict[str, object] = {"enable.auto.commit": True}
    first = consumer(bootstrap, unused, **settings)
    first.subscribe([unused])
    take(first, 10)
    first.close()
    second = consumer(bootstrap, unused)
    (found,) = second.committed([TopicPartition(unused, 3)], DEADLINE_S)
    assert found.offset == 10
    second.close()


def test_a_consumer_outside_any_generation_commits_and_asks_for_offsets(
    bootstrap: str, unused: str, join: Join
) -> None:
    alone = consumer(bootstrap, unused)
    wanted = [TopicPartition(unused, n, n * 10) for n in range(PARTITIONS)]
    committed = alone.commit(offsets=wanted, asynchronous=False)
    assert [partition.error for partition in committed] == [None] * PARTITIONS
    found = alone.committed([TopicPartition(unused, n) for n in range(PARTITIONS)], DEADLINE_S)
    assert [partition.offset for partition in found] == [n * 10 for n in range(PARTITIONS)]
    alone.close()


def test_a_member_that_falls_silent_is_replaced_after_its_session(
    bootstrap: str, unused: str, join: Join
) -> None:
    sessions: dict[str, object] = {"session.timeout.ms": 500, "heartbeat.interval.ms": 50}
    polls: dict[str, object] = {"max.poll.interval.ms": 600}
    # It polls no more, so it leaves after max.poll.interval.ms; the other one takes over.
    silent = join(**sessions, **polls)
    other = join(**sessions)
    share(silent, other)

    def takes_over() -> bool:
        other.turn()
        return other.partitions == set(range(PARTITIONS))

    eventually(takes_over, "the other member owns everything")
    assert other.partitions == set(range(PARTITIONS))


def test_a_static_member_comes_back_without_a_rebalance(
    bootstrap: str, unused: str, join: Join
) -> None:
    first = join(**{"group.instance.id": "one"})
    second = join(**{"group.instance.id": "two"})
    share(first, second)
    owned, rebalances = second.partitions, first.rebalances
    second.close()
    back = join(**{"group.instance.id": "two"})
    share(first, back)
    assert back.partitions == owned
    assert first.rebalances == rebalances


def test_of_two_static_members_with_one_name_the_older_is_fenced(
    bootstrap: str, unused: str, join: Join
) -> None:
    older = join(**{"group.instance.id": "one"})
    share(older)
    younger = join(**{"group.instance.id": "one"})

    def fenced() -> bool:
        older.turn()
        younger.turn()
        return bool(older.errors) and younger.partitions == set(range(PARTITIONS))

    eventually(fenced, "the older member is fenced")
    assert older.errors[0].code() in (
        confluent_kafka.KafkaError.FENCED_INSTANCE_ID,
        confluent_kafka.KafkaError._FATAL,
    )


def test_partitions_that_are_added_reach_the_members(
    bootstrap: str, unused: str, join: Join
) -> None:
    member = join(**{"topic.metadata.refresh.interval.ms": 100})
    share(member)
    client = admin_client(bootstrap)
    client.create_partitions([admin.NewPartitions(unused, PARTITIONS + 2)])[unused].result(
        DEADLINE_S
    )

    def owns_all() -> bool:
        member.turn()
        return member.partitions == set(range(PARTITIONS + 2))

    eventually(owns_all, "the new partitions are assigned")
    assert member.partitions == set(range(PARTITIONS + 2))


def test_a_group_that_subscribes_by_pattern_finds_topics_created_later(
    bootstrap: str, unused: str, join: Join
) -> None:
    member = consumer(bootstrap, unused + ".p", **{"topic.metadata.refresh.interval.ms": 100})
    member.subscribe([f"^{unused}.*"])
    create_topic(bootstrap, unused + ".later")
    write(bootstrap, unused + ".later", 0, "none", [Sample(None, b"found")])
    assert [m.value() for m in take(member, 1)] == [b"found"]
    member.close()
