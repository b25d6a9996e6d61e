"""Consumers of Node and Go, alone and in groups: offsets, commits, patterns, rebalances of every strategy."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest

from ottla.errors import ErrorCode
from tests.interop.programs.clients import CLIENTS, having
from tests.interop.programs.conftest import Join, Member
from tests.interop.programs.program import Refused, program
from tests.interop.raw import RawClient
from tests.support.waiting import eventually

pytestmark = pytest.mark.interop

Write = Callable[..., None]
PARTITIONS = 4
STRATEGIES = [(name, each) for name, client in CLIENTS.items() for each in client.strategies]
every = pytest.mark.parametrize("name", CLIENTS)


def share(topic: str, *members: Member, partitions: int = PARTITIONS) -> None:
    """Wait until the members share the partitions, each one's at most one more than another's."""

    def balanced() -> bool:
        owned = [member.partitions for member in members]
        sizes = {len(each) for each in owned}
        everything = sorted(itertools.chain.from_iterable(owned))
        return (
            everything == [(topic, n) for n in range(partitions)] and max(sizes) - min(sizes) <= 1
        )

    eventually(balanced, f"{len(members)} members share the partitions")


@every
def test_reading_starts_at_any_offset(
    name: str, raw: RawClient, bootstrap: str, unused: str, write: Write
) -> None:
    raw.create_topic(unused)
    write(name, unused, [b"%d" % n for n in range(10)])
    client = program(name, bootstrap)
    for start in (0, 4, 9):
        read = client.call("read", topic=unused, partition=0, offset=start, count=10 - start)
        assert [record["offset"] for record in read] == list(range(start, 10))


@every
def test_an_offset_that_is_not_there_is_reset_to_the_first(
    name: str, raw: RawClient, bootstrap: str, unused: str, write: Write
) -> None:
    raw.create_topic(unused)
    write(name, unused, [b"%d" % n for n in range(3)])
    client = program(name, bootstrap)
    beyond = {"topic": unused, "partition": 0, "offset": 1_000, "beyond": True, "count": 3}
    if name == "sarama":
        # It resets nothing by itself.
        with pytest.raises(Refused) as refused:
            client.call("read", **beyond)
        assert refused.value.code == ErrorCode.OFFSET_OUT_OF_RANGE
        return
    assert [record["offset"] for record in client.call("read", **beyond)] == [0, 1, 2]


@pytest.mark.parametrize(("name", "strategy"), STRATEGIES)
def test_members_share_the_partitions_and_take_over_from_those_who_leave(
    name: str, strategy: str, join: Join, raw: RawClient, unused: str, write: Write
) -> None:
    raw.create_topic(unused, PARTITIONS)
    options = {"topics": [unused], "strategy": strategy}
    first = join(name, unused, **options)
    share(unused, first)
    second = join(name, unused, **options)
    share(unused, first, second)
    for partition in range(PARTITIONS):
        write(name, unused, [b"to both"], partition)
    eventually(lambda: len(first.offsets + second.offsets) >= PARTITIONS, "all records arrive")
    assert sorted(first.offsets + second.offsets) == [(n, 0) for n in range(PARTITIONS)]
    first.leave()
    share(unused, second)
    assert second.state()["failure"] is None


@pytest.mark.parametrize("strategy", ["range", "roundrobin", "cooperative-sticky"])
def test_members_of_different_clients_share_a_group(
    strategy: str, join: Join, raw: RawClient, unused: str
) -> None:
    raw.create_topic(unused, 6)
    names = [name for name, each in STRATEGIES if each == strategy and name != "kafkajs"]
    members: list[Member] = []
    for name in names:
        members.append(join(name, unused, topics=[unused], strategy=strategy))
        share(unused, *members, partitions=6)
    while len(members) > 1:
        members.pop(0).leave()
        share(unused, *members, partitions=6)
    assert members[0].partitions == {(unused, n) for n in range(6)}


@every
def test_a_group_goes_on_where_it_committed(
    name: str, raw: RawClient, join: Join, bootstrap: str, unused: str, write: Write
) -> None:
    raw.create_topic(unused)
    write(name, unused, [b"%d" % n for n in range(10)])
    first = join(name, unused, topics=[unused])
    eventually(lambda: len(first.offsets) == 10, "all records arrive")
    first.do("commit", topic=unused, partition=0, offset=4)
    first.leave()
    client = program(name, bootstrap)
    assert client.call("group_offsets", group=unused, topic=unused) == {"0": 4}
    second = join(name, unused, topics=[unused])
    eventually(lambda: len(second.offsets) == 6, "the rest arrives")
    assert second.offsets == [(0, n) for n in range(4, 10)]


@pytest.mark.parametrize("name", having("seek"))
def test_a_member_goes_back(
    name: str, raw: RawClient, join: Join, unused: str, write: Write
) -> None:
    raw.create_topic(unused)
    write(name, unused, [b"%d" % n for n in range(5)])
    member = join(name, unused, topics=[unused])
    eventually(lambda: len(member.offsets) == 5, "all records arrive")
    member.do("seek", topic=unused, partition=0, offset=2)
    eventually(lambda: len(member.offsets) == 8, "three arrive again")
    assert [offset for _, offset in member.offsets] == [0, 1, 2, 3, 4, 2, 3, 4]


@pytest.mark.parametrize("name", ["franz-go", "sarama"])
def test_a_static_member_comes_back_to_its_partitions_without_a_rebalance(
    name: str, join: Join, raw: RawClient, unused: str
) -> None:
    raw.create_topic(unused, PARTITIONS)
    options = {"topics": [unused], "strategy": "range"}
    first = join(name, unused, **options, instance="one")
    share(unused, first)
    second = join(name, unused, **options, instance="two")
    share(unused, first, second)
    before = (first.partitions, second.partitions)
    second.leave()
    again = join(name, unused, **options, instance="two")
    eventually(lambda: again.partitions, "it has its partitions again")
    assert (first.partitions, again.partitions) == before


@every
def test_a_topic_that_is_made_again_is_written_and_read_as_a_new_one(
    name: str, bootstrap: str, raw: RawClient, unused: str, write: Write
) -> None:
    client = program(name, bootstrap)
    for value in (b"old", b"new"):
        client.call("create_topic", topic=unused)
        write(name, unused, [value])
        (record,) = client.call("read", topic=unused, partition=0, count=1)
        assert record["offset"] == 0
        assert [each.value for each in raw.records(unused)] == [value]
        client.call("delete_topic", topic=unused)
        eventually(lambda: unused not in client.call("topics"), "it is gone")


def test_a_client_that_uses_topic_ids_learns_that_its_topic_is_another_one(
    join: Join, bootstrap: str, raw: RawClient, unused: str, write: Write
) -> None:
    raw.create_topic(unused)
    member = join("franz-go", unused, topics=[unused])
    write("franz-go", unused, [b"old"])
    eventually(lambda: member.offsets == [(0, 0)], "the record arrives")
    client = program("franz-go", bootstrap)
    client.call("delete_topic", topic=unused)
    eventually(lambda: unused not in client.call("topics"), "it is gone")
    raw.create_topic(unused)
    write("franz-go", unused, [b"new"])
    # It never takes the new topic for the old one: it says so, until its user drops the old one.
    eventually(
        lambda: "UNKNOWN_TOPIC_ID" in (member.state()["failure"] or ""), "it is told of the id"
    )
    assert member.offsets == [(0, 0)]


@every
def test_a_pattern_takes_the_topics_that_match(
    name: str, raw: RawClient, join: Join, unused: str, write: Write
) -> None:
    topics = [f"{unused}.a", f"{unused}.b"]
    for topic in (*topics, f"not.{unused}.c"):
        raw.create_topic(topic)
        write(name, topic, [b"value"])
    member = join(name, unused, pattern=f"^{unused}\\..*")
    eventually(lambda: len(member.offsets) == 2, "both topics' records arrive")
    assert member.topics == set(topics)
    if name in ("franz-go", "confluent-kafka-javascript"):
        # These look again; the others choose when they subscribe.
        raw.create_topic(f"{unused}.later")
        write(name, f"{unused}.later", [b"value"])
        eventually(lambda: member.topics == {*topics, f"{unused}.later"}, "it finds the new topic")
