"""The Java consumer: alone, and in groups under each of its assignors."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import pytest

from tests.interop.java import adapter
from tests.interop.raw import RawClient
from tests.interop.samples import BASE_MS, Sample
from tests.support.waiting import eventually

pytestmark = [pytest.mark.interop, pytest.mark.xdist_group("java")]

ASSIGNORS = ("Range", "RoundRobin", "Sticky", "CooperativeSticky")
PARTITIONS = 4


@pytest.fixture
def topic(bootstrap: str, unused: str, raw: RawClient) -> str:
    """Five records, a second apart, in each of four partitions."""
    raw.create_topic(unused, PARTITIONS)
    records = [
        adapter.record(unused, Sample(None, b"%d" % n, (), BASE_MS + n * 1000), partition)
        for partition in range(PARTITIONS)
        for n in range(5)
    ]
    adapter.send(bootstrap, records)
    return unused


def test_offsets_are_found_and_sought(bootstrap: str, topic: str) -> None:
    one = [[topic, 0]]
    name = f"{topic}-0"
    with adapter.consumer(bootstrap) as reader:
        reader("assign", partitions=one)
        assert reader("beginning_offsets", partitions=one) == {name: 0}
        assert reader("end_offsets", partitions=one) == {name: 5}
        found = reader("offsets_for_times", partitions=one, timestamp=BASE_MS + 2500)[name]
        assert (found["offset"], found["timestamp"]) == (3, BASE_MS + 3000)
        late = reader("offsets_for_times", partitions=one, timestamp=BASE_MS + 9000)
        assert late == {name: None}
        assert [r["offset"] for r in adapter.take(reader, 5)] == [0, 1, 2, 3, 4]
        assert reader("position", partitions=one) == 5
        assert reader("current_lag", partitions=one) == 0
        reader("seek", partitions=one, offset=3)
        assert [r["offset"] for r in adapter.take(reader, 2)] == [3, 4]
        reader("seek_to_beginning", partitions=one)
        assert reader("position", partitions=one) == 0
        reader("seek_to_end", partitions=one)
        assert reader("position", partitions=one) == 5


def test_paused_partitions_wait(bootstrap: str, topic: str) -> None:
    both = [[topic, 0], [topic, 1]]
    with adapter.consumer(bootstrap) as reader:
        reader("assign", partitions=both)
        assert reader("pause", partitions=both[:1]) == [f"{topic}-0"]
        assert {r["partition"] for r in adapter.take(reader, 5)} == {1}
        assert reader("resume", partitions=both[:1]) == []
        assert {r["partition"] for r in adapter.take(reader, 5)} == {0}


def test_topics_and_patterns_are_found(bootstrap: str, topic: str) -> None:
    with adapter.consumer(bootstrap, topic) as reader:
        assert topic in reader("list_topics")
        found = reader("partitions_for", topic=topic)
        assert {each["partition"] for each in found} == set(range(PARTITIONS))
        reader("subscribe_pattern", pattern=f"{topic}.*")
        assert len(adapter.take(reader, 5 * PARTITIONS)) == 5 * PARTITIONS
        reader("unsubscribe")
        assert reader("assignment") == []


def test_an_offset_out_of_range_goes_by_the_policy(bootstrap: str, topic: str) -> None:
    one = [[topic, 0]]
    with adapter.consumer(bootstrap) as reader:
        reader("assign", partitions=one)
        reader("seek", partitions=one, offset=99)
        assert [r["offset"] for r in adapter.take(reader, 5)] == [0, 1, 2, 3, 4]
    with adapter.consumer(bootstrap, auto_offset_reset="none") as reader:
        reader("assign", partitions=one)
        reader("seek", partitions=one, offset=99)

        def error() -> str:
            try:
                reader.poll()
            except adapter.JavaError as found:
                return found.name
            return ""

        assert eventually(error, "an error") == "OffsetOutOfRangeException"


def test_commits_are_kept(bootstrap: str, topic: str) -> None:
    partitions = [[topic, 0], [topic, 1]]

    def committed(reader: adapter.JavaConsumer) -> dict[str, int]:
        found = reader("committed", partitions=partitions)
        return {name: each["offset"] for name, each in found.items() if each is not None}

    with adapter.consumer(bootstrap, topic) as reader:
        reader("assign", partitions=partitions)
        assert committed(reader) == {}
        adapter.take(reader, 10)
        reader("commit_sync")
        assert committed(reader) == {f"{topic}-0": 5, f"{topic}-1": 5}
        reader("commit_offsets", offsets=[[topic, 0, 2, "why"]])
        found: Any = reader("committed", partitions=partitions)[f"{topic}-0"]
        assert (found["offset"], found["metadata"]) == (2, "why")
        reader("commit_async")
        eventually(lambda: reader.poll() or reader("events"), "the commit")
        assert reader("events") == [["committed", ""]]
        reader("commit_offsets", offsets=[[topic, 0, 2, ""], [topic, 1, 4, ""]])
    with adapter.consumer(bootstrap, topic) as reader:
        reader("assign", partitions=partitions)
        offsets = {(r["partition"], r["offset"]) for r in adapter.take(reader, 4)}
        assert offsets == {(0, 2), (0, 3), (0, 4), (1, 4)}


@pytest.mark.parametrize("assignor", ASSIGNORS)
def test_members_share_and_take_over(assignor: str, bootstrap: str, topic: str) -> None:
    strategy = f"org.apache.kafka.clients.consumer.{assignor}Assignor"
    with ExitStack() as stack:

        def member() -> adapter.JavaConsumer:
            settings = {"partition_assignment_strategy": strategy}
            made = stack.enter_context(adapter.consumer(bootstrap, topic, **settings))
            made("subscribe", topics=[topic])
            return made

        first = member()
        assert adapter.settled([first], PARTITIONS) == [set(range(PARTITIONS))]
        with adapter.consumer(bootstrap, topic, partition_assignment_strategy=strategy) as second:
            second("subscribe", topics=[topic])
            owned = adapter.settled([first, second], PARTITIONS)
            assert [len(each) for each in owned] == [2, 2]
            revoked = [parts for what, parts in first("events") if what == "revoked"]
            moved = sorted(owned[1]) if assignor == "CooperativeSticky" else list(range(PARTITIONS))
            assert revoked == [moved]
            assert first("member")[1] == second("member")[1]
        assert adapter.settled([first], PARTITIONS) == [set(range(PARTITIONS))]
        assert "lost" not in {what for what, _ in first("events")}


def test_a_static_member_comes_back_to_its_partitions(bootstrap: str, topic: str) -> None:
    with adapter.consumer(bootstrap, topic, group_instance_id="other") as other:
        other("subscribe", topics=[topic])
        with adapter.consumer(bootstrap, topic, group_instance_id="one") as one:
            one("subscribe", topics=[topic])
            before = adapter.settled([other, one], PARTITIONS)
            generation = one("member")[1]
        with adapter.consumer(bootstrap, topic, group_instance_id="one") as one:
            one("subscribe", topics=[topic])
            assert adapter.settled([other, one], PARTITIONS) == before
            assert one("member")[1] == generation


def test_we_share_a_group_with_java(bootstrap: str, topic: str) -> None:
    from tests.interop.ottla.members import Member

    with adapter.consumer(bootstrap, topic) as java:
        java("subscribe", topics=[topic])
        adapter.settled([java], PARTITIONS)
        with Member(bootstrap, topic, topic) as ours:

            def shared() -> bool:
                java.poll()
                theirs = java.partitions()
                return len(theirs) == 2 and ours.partitions == set(range(PARTITIONS)) - theirs

            eventually(shared, "two partitions each")
        alone = adapter.settled([java], PARTITIONS)
    assert [len(partitions) for partitions in alone] == [PARTITIONS]


def test_the_new_group_protocol_is_refused_at_once(
    bootstrap: str, topic: str, only_ottla: None
) -> None:
    settings = {
        "bootstrap.servers": bootstrap,
        "group.id": topic,
        "group.protocol": "consumer",
    }
    name = "next generation"
    adapter.JAVA.call("consumer", name=name, verb="open", settings=settings)
    reader = adapter.JavaConsumer(name)
    try:
        reader("subscribe", topics=[topic])

        def error() -> str:
            try:
                reader.poll()
            except adapter.JavaError as found:
                return found.name
            return ""

        assert eventually(error, "an error") == "UnsupportedVersionException"
    finally:
        reader("close")
