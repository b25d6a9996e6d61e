"""Fetch sessions (KIP-227): a Fetch costs what changed, and nobody is forgotten."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from ottla.broker.fetch_sessions import EPOCH_MAX, FetchContext, FetchSession, FetchSessions
from ottla.errors import ErrorCode, KafkaError
from ottla.messages.fetch import FetchPartition, FetchRequest, FetchTopic, ForgottenTopic
from ottla.network.stepping import run


class FakePartition:
    def __init__(self, topic: str, index: int, topic_id: bytes = bytes(16)) -> None:
        self.topic, self.index, self.topic_id = topic, index, topic_id
        self.readers: dict[Any, None] = {}

    def add_reader(self, reader: Any) -> None:
        self.readers[reader] = None

    def remove_reader(self, reader: Any) -> None:
        self.readers.pop(reader, None)


def fetch(
    session_id: int,
    epoch: int,
    *partitions: tuple[str, int, int],
    forget: tuple[str, int] | None = None,
) -> FetchRequest:
    topics = [
        FetchTopic(
            topic=topic,
            partitions=[
                FetchPartition(partition=index, fetch_offset=offset, partition_max_bytes=9)
            ],
        )
        for topic, index, offset in partitions
    ]
    forgotten = [ForgottenTopic(topic=forget[0], partitions=[forget[1]])] if forget else []
    return FetchRequest(
        session_id=session_id,
        session_epoch=epoch,
        topics=topics,
        forgotten_topics_data=forgotten,
    )


def sessions(slots: int = 2) -> FetchSessions:
    numbers = itertools.count(100)
    return FetchSessions(slots, lambda: next(numbers), evict_after_ms=1000)


def opened(cache: FetchSessions, *partitions: tuple[str, int, int]) -> FetchSession:
    context = cache.open(fetch(0, 0, *partitions), 12, 0)
    assert isinstance(context, FetchSession)
    return context


def due(context: FetchContext) -> list[Any]:
    return [key for key, _ in context.due()]


def settle_all(context: FetchContext) -> None:
    for key in due(context):
        context.settle(key, quiet=True)
    context.finish()


def test_the_first_fetch_makes_a_session_and_looks_at_everything() -> None:
    cache = sessions()
    session = opened(cache, ("a", 0, 0), ("a", 1, 5))
    assert session.session_id == 100
    assert due(session) == [("a", 0), ("a", 1)]
    assert len(cache) == 1


def test_an_incremental_fetch_looks_only_at_what_changed() -> None:
    cache = sessions()
    session = opened(cache, ("a", 0, 0), ("a", 1, 0), ("a", 2, 0))
    settle_all(session)  # the full response leaves everything to be looked at once more
    assert cache.open(fetch(100, 1), 12, 0) is session
    settle_all(session)
    cache.open(fetch(100, 2), 12, 0)
    assert due(session) == []
    session.partition_changed(FakePartition("a", 1))  # type: ignore[arg-type]
    assert due(session) == [("a", 1)]
    cache.open(fetch(100, 3, ("a", 2, 7)), 12, 0)
    assert due(session) == [("a", 1), ("a", 2)]


def test_a_partition_that_returned_records_goes_behind_the_others_and_stays() -> None:
    cache = sessions()
    session = opened(cache, ("a", 0, 0), ("a", 1, 0))
    settle_all(session)
    session.settle(("a", 0), quiet=False)
    assert due(session) == [("a", 1), ("a", 0)]


def test_a_forgotten_partition_is_followed_no_more() -> None:
    cache = sessions()
    session = opened(cache, ("a", 0, 0), ("a", 1, 0))
    partition = FakePartition("a", 0)
    session.attach(("a", 0), session.positions["a", 0], partition)  # type: ignore[arg-type]
    assert session in partition.readers
    cache.open(fetch(100, 1, forget=("a", 0)), 12, 0)
    assert not partition.readers
    session.partition_changed(partition)  # type: ignore[arg-type]
    assert due(session) == [("a", 1)]


def test_a_full_context_names_every_partition_however_often_it_looks() -> None:
    context = sessions().open(fetch(0, -1, ("a", 0, 0), ("b", 0, 0)), 12, 0)
    assert not isinstance(context, FetchSession)
    context.settle(("a", 0), quiet=True)
    assert due(context) == [("a", 0), ("b", 0)]
    assert context.includes(context.positions["a", 0], -1, -1)


def test_an_unknown_session_and_a_wrong_epoch_are_refused() -> None:
    cache = sessions()
    opened(cache, ("a", 0, 0))
    with pytest.raises(KafkaError) as unknown:
        cache.open(fetch(7, 1), 12, 0)
    assert unknown.value.code is ErrorCode.FETCH_SESSION_ID_NOT_FOUND
    with pytest.raises(KafkaError) as wrong:
        cache.open(fetch(100, 2), 12, 0)
    assert wrong.value.code is ErrorCode.INVALID_FETCH_SESSION_EPOCH


def test_a_session_of_names_is_not_gone_on_with_by_ids() -> None:
    cache = sessions()
    opened(cache, ("a", 0, 0))
    with pytest.raises(KafkaError) as refused:
        cache.open(fetch(100, 1), 13, 0)
    assert refused.value.code is ErrorCode.FETCH_SESSION_TOPIC_ID_ERROR


def test_the_final_epoch_closes_the_session_and_lets_go_of_its_partitions() -> None:
    cache = sessions()
    session = opened(cache, ("a", 0, 0))
    partition = FakePartition("a", 0)
    session.attach(("a", 0), session.positions["a", 0], partition)  # type: ignore[arg-type]
    cache.open(fetch(100, -1), 12, 0)
    assert len(cache) == 0
    assert not partition.readers


def test_epochs_go_round_without_zero() -> None:
    session = FetchSession(1, by_id=False)
    session.epoch = EPOCH_MAX
    session.next_epoch()
    assert session.epoch == 1


def test_a_full_cache_evicts_the_idle_and_refuses_where_nobody_is() -> None:
    cache = sessions(slots=1)
    opened(cache, ("a", 0, 0))
    context = cache.open(fetch(0, 0, ("b", 0, 0)), 12, 999)
    assert context.session_id == 0
    context = cache.open(fetch(0, 0, ("b", 0, 0)), 12, 1000)
    assert context.session_id == 101
    assert len(cache) == 1


def test_a_topic_made_again_is_followed_anew() -> None:
    session = FetchSession(1, by_id=False)
    run(session.follow(fetch(0, 0, ("a", 0, 0)), 12))
    old, new = FakePartition("a", 0), FakePartition("a", 0)
    position = session.positions["a", 0]
    session.attach(("a", 0), position, old)  # type: ignore[arg-type]
    session.attach(("a", 0), position, new)  # type: ignore[arg-type]
    assert not old.readers
    assert session in new.readers


def test_a_session_that_is_closed_while_a_fetch_waits_in_it_follows_nothing_afterwards() -> None:
    cache = sessions()
    session = opened(cache, ("a", 0, 0))
    partition = FakePartition("a", 0)
    position = session.positions["a", 0]
    session.attach(("a", 0), position, partition)  # type: ignore[arg-type]
    session.on_change = lambda: None  # a Fetch is parked in it
    cache.open(fetch(100, -1), 12, 0)
    assert not partition.readers
    session.attach(("a", 0), position, partition)  # type: ignore[arg-type]  # it looks once more
    session.finish()
    assert not partition.readers
    assert len(cache) == 0


def test_a_session_that_nobody_uses_is_told_of_a_partition_once() -> None:
    cache = sessions()
    session = opened(cache, ("a", 0, 0))
    partition = FakePartition("a", 0)
    position = session.positions["a", 0]
    session.attach(("a", 0), position, partition)  # type: ignore[arg-type]
    settle_all(session)
    cache.open(fetch(100, 1), 12, 0)
    settle_all(session)
    assert session in partition.readers
    session.partition_changed(partition)  # type: ignore[arg-type]
    assert not partition.readers
    cache.open(fetch(100, 2), 12, 0)
    assert due(session) == [("a", 0)]
    session.attach(("a", 0), position, partition)  # type: ignore[arg-type]
    assert session in partition.readers
    session.on_change = lambda: None
    session.partition_changed(partition)  # type: ignore[arg-type]
    assert session in partition.readers


def test_all_sessions_together_follow_a_bounded_number_of_partitions() -> None:
    numbers = itertools.count(100)
    cache = FetchSessions(10, lambda: next(numbers), partitions_max=3)
    opened(cache, ("a", 0, 0), ("a", 1, 0))
    growing = opened(cache, ("b", 0, 0))
    without = cache.open(fetch(0, 0, ("c", 0, 0)), 12, 0)
    assert (without.session_id, due(without), len(cache)) == (0, [("c", 0)], 2)
    with pytest.raises(KafkaError) as refused:
        cache.open(fetch(growing.session_id, 1, ("b", 1, 0)), 12, 0)
    assert refused.value.code is ErrorCode.FETCH_SESSION_ID_NOT_FOUND
    assert len(cache) == 1
    opened(cache, ("b", 1, 0))
