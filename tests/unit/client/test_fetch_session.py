"""Fetch sessions: what is told again and what the broker remembers (KIP-227)."""

from __future__ import annotations

from ottla.client.consumer.fetch_session import FetchSession, Wanted
from ottla.client.types import TopicPartition
from ottla.errors import ErrorCode

T0, T1, T2 = (TopicPartition("t", partition) for partition in range(3))


def want(offset: int, topic_id: bytes = b"i" * 16) -> Wanted:
    return Wanted(topic_id, offset, 0, -1, 1000)


def test_the_first_fetch_names_everything() -> None:
    fetch = FetchSession().next_fetch({T0: want(1), T1: want(2)}, with_ids=True)
    assert (fetch.session_id, fetch.epoch) == (0, 0)
    assert fetch.to_send == {T0: want(1), T1: want(2)}
    assert fetch.to_forget == {}


def begun(*, with_ids: bool = True) -> FetchSession:
    session = FetchSession()
    session.next_fetch({T0: want(1), T1: want(2)}, with_ids=with_ids)
    session.answered(ErrorCode.NONE, 42)
    return session


def test_then_only_what_changed_is_named() -> None:
    fetch = begun().next_fetch({T0: want(5), T2: want(0)}, with_ids=True)
    assert (fetch.session_id, fetch.epoch) == (42, 1)
    assert fetch.to_send == {T0: want(5), T2: want(0)}
    assert fetch.to_forget == {T1: b"i" * 16}


def test_epochs_count_up_and_jump_over_zero() -> None:
    session = begun()
    session.epoch = 0x7FFFFFFF
    session.next_fetch({T0: want(1)}, with_ids=True)
    session.answered(ErrorCode.NONE, 42)
    assert session.next_fetch({T0: want(1)}, with_ids=True).epoch == 1


def test_a_broker_without_sessions_is_told_everything_each_time() -> None:
    session = FetchSession()
    for _ in range(2):
        fetch = session.next_fetch({T0: want(1)}, with_ids=True)
        assert (fetch.session_id, fetch.epoch, len(fetch.to_send)) == (0, 0, 1)
        session.answered(ErrorCode.NONE, 0)


def test_a_session_that_the_broker_forgot_begins_again() -> None:
    session = begun()
    session.next_fetch({T0: want(5)}, with_ids=True)
    session.answered(ErrorCode.FETCH_SESSION_ID_NOT_FOUND, 0)
    fetch = session.next_fetch({T0: want(5), T1: want(2)}, with_ids=True)
    assert (fetch.session_id, fetch.epoch, len(fetch.to_send)) == (0, 0, 2)


def test_a_lost_answer_closes_the_session_and_begins_another() -> None:
    session = begun()
    session.failed()
    fetch = session.next_fetch({T0: want(5)}, with_ids=True)
    assert (fetch.session_id, fetch.epoch) == (42, 0)


def test_a_topic_that_was_made_anew_is_forgotten_by_its_old_id() -> None:
    fetch = begun().next_fetch({T0: want(0, b"n" * 16), T1: want(2)}, with_ids=True)
    assert fetch.to_send == {T0: want(0, b"n" * 16)}
    assert fetch.to_forget == {T0: b"i" * 16}


def test_a_session_does_not_change_between_names_and_ids() -> None:
    fetch = begun(with_ids=False).next_fetch({T0: want(1)}, with_ids=True)
    assert fetch.epoch == 0
    assert fetch.to_send == {T0: want(1)}
