"""Members of groups: sharing, rebalances of both kinds, commits, and what is read again."""

from __future__ import annotations

import asyncio
import threading
from functools import partial
from typing import Any

import pytest

import ottla
from ottla import aio
from tests.interop.ottla.members import GROUP_SETTINGS, Member, shared
from tests.support.waiting import DEADLINE_S, eventually

pytestmark = pytest.mark.interop

PARTITIONS = 6
ASSIGNORS = ["range", "roundrobin", "sticky", "cooperative-sticky"]


@pytest.fixture
def topic(bootstrap: str, unused: str) -> str:
    """An empty topic of six partitions."""
    with ottla.Admin(bootstrap) as admin:
        admin.create_topic(unused, PARTITIONS, 1)
    return unused


def fill(bootstrap: str, topic: str, start: int, end: int) -> None:
    """Numbered records round the partitions."""
    with ottla.Producer(bootstrap) as producer:
        for number in range(start, end):
            producer.send(topic, b"%d" % number, partition=number % PARTITIONS)


def owns_all(member: Member) -> bool:
    return member.partitions == set(range(PARTITIONS))


def numbers(records: list[ottla.Record]) -> list[int]:
    return sorted(int(record.value) for record in records)


def committed(bootstrap: str, group: str) -> int:
    with ottla.Admin(bootstrap) as admin:
        return sum(found.offset for found in admin.group_offsets(group).values())


@pytest.mark.parametrize("assignor", ASSIGNORS)
def test_members_share_and_take_over(bootstrap: str, topic: str, assignor: str) -> None:
    fill(bootstrap, topic, 0, 300)
    settings: dict[str, Any] = {"assignors": [assignor]}
    with Member(bootstrap, topic, topic, **settings) as one:
        eventually(lambda: len(one.records) == 300, "all records to the only member")
        with Member(bootstrap, topic, topic, **settings) as two:
            eventually(lambda: shared(PARTITIONS, one, two), "an even share")
            fill(bootstrap, topic, 300, 600)
            eventually(lambda: len(one.records) + len(two.records) >= 600, "the new records")
        eventually(lambda: one.partitions == set(range(PARTITIONS)), "all partitions back")
        fill(bootstrap, topic, 600, 700)
        eventually(lambda: len(one.records) + len(two.records) >= 700, "the last records")
    assert numbers(one.records + two.records) == list(range(700))
    assert committed(bootstrap, topic) == 700


def test_eager_members_give_up_everything_and_cooperative_ones_only_what_moves(
    bootstrap: str, topic: str
) -> None:
    for assignor, given_up in (("range", PARTITIONS), ("cooperative-sticky", PARTITIONS // 2)):
        group = f"{topic}-{assignor}"
        one = Member(bootstrap, topic, group, assignors=[assignor])
        two = Member(bootstrap, topic, group, assignors=[assignor])
        with one:
            eventually(partial(owns_all, one), "an assignment")
            with two:
                eventually(partial(shared, PARTITIONS, one, two), "an even share")
                revoked = [partitions for what, partitions in one.events if what == "revoked"]
                assert len(revoked[0]) == given_up


def test_a_new_member_starts_where_the_group_has_committed(bootstrap: str, topic: str) -> None:
    fill(bootstrap, topic, 0, 60)
    with Member(bootstrap, topic, topic) as one:
        eventually(lambda: len(one.records) == 60, "all records")
    fill(bootstrap, topic, 60, 90)
    with Member(bootstrap, topic, topic) as two:
        eventually(lambda: len(two.records) == 30, "the new records")
    assert numbers(two.records) == list(range(60, 90))


def test_many_members_come_and_go_and_no_record_is_missed(bootstrap: str, topic: str) -> None:
    settings: dict[str, Any] = {"assignors": ["cooperative-sticky"]}
    members = [Member(bootstrap, topic, topic, **settings) for _ in range(5)]
    sent = 0
    for member in members:
        member.__enter__()
        fill(bootstrap, topic, sent, sent + 120)
        sent += 120
    for member in members[:4]:
        member.stop()
        fill(bootstrap, topic, sent, sent + 120)
        sent += 120
    eventually(
        lambda: {int(r.value) for m in members for r in m.records} == set(range(sent)),
        "every record",
    )
    members[4].stop()
    assert committed(bootstrap, topic) == sent


def test_a_member_that_leaves_by_an_exception_commits_only_what_it_passed(
    bootstrap: str, topic: str
) -> None:
    fill(bootstrap, topic, 0, 60)

    class Killed(Exception):
        pass

    done: list[int] = []

    def work() -> None:
        with ottla.Consumer(topic, group=topic, bootstrap=bootstrap, **GROUP_SETTINGS) as consumer:
            for record in consumer:
                if len(done) == 23:
                    raise Killed
                done.append(int(record.value))

    with pytest.raises(Killed):
        work()
    assert committed(bootstrap, topic) == 23
    with Member(bootstrap, topic, topic) as two:
        eventually(lambda: len(two.records) == 37, "the rest")
    assert sorted(done + [int(r.value) for r in two.records]) == list(range(60))


def test_a_member_that_leaves_by_an_exception_takes_back_nothing_that_it_committed(
    bootstrap: str, topic: str
) -> None:
    fill(bootstrap, topic, 0, 60)

    def work() -> None:
        settings = {**GROUP_SETTINGS, "auto_commit_interval_ms": 600_000}
        with ottla.Consumer(topic, group=topic, bootstrap=bootstrap, **settings) as consumer:
            for count, _ in enumerate(consumer, 1):
                if count == 23:
                    consumer.commit()
                    raise LookupError

    with pytest.raises(LookupError):
        work()
    assert committed(bootstrap, topic) == 23


def test_auto_commit_does_not_commit_what_is_still_being_handled(
    bootstrap: str, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(bootstrap, topic, 0, 60)
    settings = {**GROUP_SETTINGS, "auto_commit_interval_ms": 10, "max_poll_records": 10}
    with ottla.Consumer(topic, group=topic, bootstrap=bootstrap, **settings) as consumer:
        seen = 0
        while seen < 30:
            seen += len(consumer.poll(5.0))
        before = seen - 10
        eventually(lambda: committed(bootstrap, topic) == before, "the passed ones' commit")
        core = consumer._core
        commit_passed, rounds = core._commit_passed, []

        async def counted() -> None:
            await commit_passed()
            rounds.append(1)

        monkeypatch.setattr(core, "_commit_passed", counted)
        eventually(lambda: len(rounds) >= 5, "five more rounds: nothing may be added")
        assert committed(bootstrap, topic) == before


def test_who_gets_a_partition_back_commits_what_it_reads_of_it_again(
    bootstrap: str, topic: str
) -> None:
    """What was committed of it is another's by now, even if we come to stand where we stood before."""
    fill(bootstrap, topic, 0, 60)
    partition = ottla.TopicPartition(topic, 2)
    settings = {**GROUP_SETTINGS, "auto_commit_interval_ms": 600_000}
    with ottla.Consumer(group=topic, bootstrap=bootstrap, **settings) as consumer:
        for wanted in (10, 7):
            consumer.assign([partition])
            read = 0
            while read < wanted:
                read += len(consumer.poll(5.0))
            if wanted == 10:
                consumer.commit()
                consumer.assign([])
                with ottla.Admin(bootstrap) as admin:
                    admin.alter_group_offsets(topic, {partition: 3})
        consumer.poll(0)
    assert committed(bootstrap, topic) == 10


def test_commit_takes_what_was_handed_out_to_the_record(bootstrap: str, topic: str) -> None:
    fill(bootstrap, topic, 0, 60)
    settings = {**GROUP_SETTINGS, "enable_auto_commit": False}
    with ottla.Consumer(topic, group=topic, bootstrap=bootstrap, **settings) as consumer:
        for count, _ in enumerate(consumer, 1):
            if count == 7:
                consumer.commit()
                break
        assert committed(bootstrap, topic) == 7
        told: list[Any] = []
        tp = ottla.TopicPartition(topic, 3)
        consumer.commit_async(
            {tp: ottla.OffsetAndMetadata(5, "noted")},
            lambda offsets, error: told.append((offsets, error)),
        )
        eventually(lambda: told, "the callback")
        assert told == [({tp: (5, "noted", -1)}, None)]
        assert consumer.committed(tp) == {tp: ottla.OffsetAndMetadata(5, "noted")}


def test_commits_without_waiting_are_done_when_the_consumer_is_closed(
    bootstrap: str, topic: str
) -> None:
    fill(bootstrap, topic, 0, 60)
    outcomes: list[ottla.KafkaError | None] = []
    settings = {**GROUP_SETTINGS, "enable_auto_commit": False}
    with ottla.Consumer(topic, group=topic, bootstrap=bootstrap, **settings) as consumer:
        records: list[ottla.Record] = []
        while len(records) < 60:
            records += consumer.poll(1)
        consumer.commit_async(on_commit=lambda offsets, error: outcomes.append(error))
    assert outcomes == [None]
    assert committed(bootstrap, topic) == 60


def test_closing_from_another_thread_ends_an_iteration(bootstrap: str, topic: str) -> None:
    fill(bootstrap, topic, 0, 1)
    consumer = ottla.Consumer(topic, group=topic, bootstrap=bootstrap, **GROUP_SETTINGS)
    read: list[ottla.Record] = []
    thread = threading.Thread(target=lambda: read.extend(consumer), daemon=True)
    thread.start()
    eventually(lambda: read, "a record")
    consumer.close()
    thread.join(DEADLINE_S)
    assert not thread.is_alive()


def test_callbacks_run_in_the_polling_thread_and_may_use_the_consumer(
    bootstrap: str, topic: str
) -> None:
    fill(bootstrap, topic, 0, 60)
    settings = {**GROUP_SETTINGS, "enable_auto_commit": False}
    threads = []
    consumer = ottla.Consumer(group=topic, bootstrap=bootstrap, **settings)

    def assigned(partitions: list[ottla.TopicPartition]) -> None:
        threads.append(threading.current_thread())
        for partition in partitions:
            consumer.seek(partition, 5)

    def revoked(partitions: list[ottla.TopicPartition]) -> None:
        threads.append(threading.current_thread())
        consumer.commit()

    consumer.subscribe([topic], on_assigned=assigned, on_revoked=revoked)
    seen = 0
    while seen < 30:
        seen += len(consumer.poll(5.0))
    consumer.close()
    assert threads == [threading.current_thread()] * 2
    assert committed(bootstrap, topic) == 60


def test_a_member_that_does_not_poll_is_put_out_and_comes_back(bootstrap: str, topic: str) -> None:
    fill(bootstrap, topic, 0, 60)
    stuck, released = threading.Event(), threading.Event()

    def handle(consumer: ottla.Consumer, records: list[ottla.Record]) -> None:
        stuck.set()
        released.wait()

    with Member(bootstrap, topic, topic, handle, max_poll_interval_ms=200) as slow:
        assert stuck.wait(30)
        with Member(bootstrap, topic, topic) as quick:
            eventually(lambda: quick.partitions == set(range(PARTITIONS)), "all partitions")
            eventually(lambda: len(quick.records) == 60, "all records: none was passed")
            released.set()
            eventually(lambda: shared(PARTITIONS, slow, quick), "an even share")
        assert "lost" in [what for what, _ in slow.events]


@pytest.mark.parametrize("iterates", [False, True])
def test_a_member_that_waits_for_records_stays_however_long_they_take(
    bootstrap: str, topic: str, iterates: bool
) -> None:
    lost: list[Any] = []
    late = threading.Timer(1.5, fill, (bootstrap, topic, 0, 1))
    settings: dict[str, Any] = {**GROUP_SETTINGS, "max_poll_interval_ms": 500}
    with ottla.Consumer(group=topic, bootstrap=bootstrap, **settings) as consumer:
        consumer.subscribe([topic], on_lost=lost.append)
        eventually(lambda: consumer.poll(0.05) == [] and consumer.assignment(), "partitions")
        membership = consumer._core.membership
        assert membership is not None
        place = (membership.member_id, membership.generation_id)
        if iterates:
            late.start()
            assert next(iter(consumer)).value == b"0"
        else:
            assert consumer.poll(1.5) == []
        assert (membership.member_id, membership.generation_id) == place
        assert consumer.poll(0.05) == []
        assert lost == []


@pytest.mark.parametrize("iterates", [False, True])
def test_an_asyncio_member_that_waits_for_records_stays_however_long_they_take(
    bootstrap: str, topic: str, iterates: bool
) -> None:
    lost: list[Any] = []
    late = threading.Timer(1.5, fill, (bootstrap, topic, 0, 1))

    async def work() -> None:
        settings: dict[str, Any] = {**GROUP_SETTINGS, "max_poll_interval_ms": 500}
        async with aio.Consumer(group=topic, bootstrap=bootstrap, **settings) as consumer:
            await consumer.subscribe([topic], on_lost=lost.append)
            while not consumer.assignment():
                await consumer.poll(0.05)
            membership = consumer._core.membership
            assert membership is not None
            place = (membership.member_id, membership.generation_id)
            if iterates:
                late.start()
                assert (await anext(consumer)).value == b"0"
            else:
                assert await consumer.poll(1.5) == []
            assert (membership.member_id, membership.generation_id) == place
            assert await consumer.poll(0.05) == []
            assert lost == []

    asyncio.run(work())


def test_a_dead_member_is_replaced_after_its_session(bootstrap: str, topic: str) -> None:
    fill(bootstrap, topic, 0, 60)
    dead = ottla.Consumer(
        topic,
        group=topic,
        bootstrap=bootstrap,
        **{**GROUP_SETTINGS, "session_timeout_ms": 300, "heartbeat_interval_ms": 100},
    )
    eventually(lambda: dead.poll(1.0), "records")
    core = dead._core
    dead._thread.loop.call_soon_threadsafe(core.membership._heartbeats.cancel)  # type: ignore[union-attr]
    with Member(bootstrap, topic, topic) as alive:
        eventually(lambda: alive.partitions == set(range(PARTITIONS)), "all partitions")
        eventually(lambda: len(alive.records) == 60, "all records: nothing was committed")
        # The dead one comes to life: it has lost everything and joins again.
        lost: list[Any] = []
        core.subscription.listeners = core.subscription.listeners._replace(on_lost=lost.append)
        with pytest.raises(ottla.CommitFailed):
            dead.commit()
        dead.close()


def test_a_static_member_comes_back_to_its_partitions(bootstrap: str, topic: str) -> None:
    settings: dict[str, Any] = {"group_instance_id": "first"}
    with Member(bootstrap, topic, topic, group_instance_id="second") as other:
        with Member(bootstrap, topic, topic, **settings) as first:
            eventually(lambda: shared(PARTITIONS, first, other), "an even share")
            before = first.partitions
        generation = other.consumer._core.membership.generation_id  # type: ignore[union-attr]
        with Member(bootstrap, topic, topic, **settings) as again:
            eventually(lambda: again.partitions == before, "the same partitions")
            assert other.consumer._core.membership.generation_id == generation  # type: ignore[union-attr]
    with ottla.Admin(bootstrap) as admin:
        assert len(admin.describe_group(topic).members) == 2


def test_new_partitions_are_found_and_shared(bootstrap: str, topic: str) -> None:
    with Member(bootstrap, topic, topic, metadata_max_age_ms=100) as one:
        eventually(lambda: len(one.partitions) == PARTITIONS, "an assignment")
        with ottla.Admin(bootstrap) as admin:
            admin.create_partitions(topic, PARTITIONS + 2)
        eventually(lambda: len(one.partitions) == PARTITIONS + 2, "the new partitions")
        assert one.partitions == set(range(PARTITIONS + 2))


def test_subscribing_to_something_else_moves_the_member(bootstrap: str, topic: str) -> None:
    other = f"{topic}.other"
    with ottla.Admin(bootstrap) as admin:
        admin.create_topic(other, 1, 1)
    with ottla.Consumer(topic, group=topic, bootstrap=bootstrap, **GROUP_SETTINGS) as consumer:
        eventually(lambda: consumer.poll(0.1) or consumer.assignment(), "an assignment")
        consumer.subscribe([other])
        eventually(
            lambda: consumer.poll(0.05) or consumer.assignment() == {(other, 0)}, "the other topic"
        )
        consumer.unsubscribe()
        assert consumer.assignment() == set()
        consumer.assign([(topic, 2)])
        assert consumer.assignment() == {(topic, 2)}


def test_a_subscription_waits_for_its_topic_to_be_made(bootstrap: str, unused: str) -> None:
    with Member(
        bootstrap, unused, unused, metadata_max_age_ms=100, allow_auto_create_topics=False
    ) as member:
        eventually(lambda: member.consumer._core.membership.generation_id > 0, "a group")  # type: ignore[union-attr]
        assert member.partitions == set()
        with ottla.Admin(bootstrap) as admin:
            admin.create_topic(unused, 2, 1)
        eventually(lambda: len(member.partitions) == 2, "the topic's partitions")


def test_a_topic_that_comes_after_the_subscription_is_found_soon(
    bootstrap: str, unused: str
) -> None:
    with (
        ottla.Admin(bootstrap) as admin,
        Member(bootstrap, unused, unused, allow_auto_create_topics=False) as member,
    ):
        eventually(
            lambda: unused in [each.group for each in admin.list_groups(["Stable"])], "the group"
        )
        admin.create_topic(unused, 2, 1)
        eventually(lambda: len(member.partitions) == 2, "the partitions")
        assert member.partitions == {0, 1}


def test_asyncio_members_share(bootstrap: str, topic: str) -> None:
    fill(bootstrap, topic, 0, 120)
    seen: list[int] = []
    told: set[str] = set()

    async def member(name: str, end: asyncio.Event) -> None:
        async def assigned(partitions: list[ottla.TopicPartition]) -> None:
            await asyncio.sleep(0)
            told.add(name)

        async with aio.Consumer(group=topic, bootstrap=bootstrap, **GROUP_SETTINGS) as consumer:
            await consumer.subscribe([topic], on_assigned=assigned)
            while not end.is_set():
                seen.extend(int(r.value) for r in await consumer.poll(0.05))
                if len(set(seen)) == 120 and len(told) == 2:
                    end.set()

    async def work() -> None:
        end = asyncio.Event()
        async with asyncio.timeout(30):
            async with asyncio.TaskGroup() as group:
                for name in "ab":
                    group.create_task(member(name, end))

    asyncio.run(work())
    assert set(seen) == set(range(120))
