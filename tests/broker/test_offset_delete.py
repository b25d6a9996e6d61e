"""OffsetDelete: what a group has committed is forgotten where none of its members reads."""

from __future__ import annotations

from pathlib import Path

import pytest

from ottla.errors import ErrorCode
from ottla.messages.consumer_protocol import ConsumerProtocolSubscription
from ottla.messages.find_coordinator import FindCoordinatorRequest
from ottla.messages.join_group import JoinGroupRequest, JoinGroupRequestProtocol
from ottla.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
)
from ottla.messages.offset_delete import (
    OffsetDeleteRequest,
    OffsetDeleteRequestPartition,
    OffsetDeleteRequestTopic,
)
from ottla.messages.offset_fetch import OffsetFetchRequest, OffsetFetchRequestGroup
from ottla.testing import Broker
from ottla.wire.compiler import encode_bytes
from tests.support.requests import create_topic
from tests.support.wire import Wire

NONE, UNKNOWN = ErrorCode.NONE, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
SUBSCRIBED = ErrorCode.GROUP_SUBSCRIBED_TO_TOPIC


@pytest.fixture
def prepared(wire: Wire) -> Wire:
    """Topics "a" and "b" of two partitions each, and a coordinator."""
    prepare(wire)
    return wire


def prepare(wire: Wire) -> None:
    create_topic(wire, "a", 2)
    create_topic(wire, "b", 2)
    assert wire.ask(FindCoordinatorRequest(key="g"), 3).error_code == 0


def commit(wire: Wire, group: str = "g", **member: object) -> None:
    """Commit offset 5 in partitions 0 and 1 of both topics."""
    topics = [
        OffsetCommitRequestTopic(
            name=name,
            partitions=[
                OffsetCommitRequestPartition(partition_index=index, committed_offset=5)
                for index in (0, 1)
            ],
        )
        for name in ("a", "b")
    ]
    request = OffsetCommitRequest(group_id=group, topics=topics, **member)
    answer = wire.ask(request, 8)
    assert {p.error_code for t in answer.topics for p in t.partitions} == {0}


def committed(wire: Wire, group: str = "g") -> set[tuple[str, int]]:
    """Where the group has an offset."""
    wanted = OffsetFetchRequestGroup(group_id=group, topics=None)
    (found,) = wire.ask(OffsetFetchRequest(groups=[wanted]), 8).groups
    assert found.error_code == 0
    return {(t.name, p.partition_index) for t in found.topics for p in t.partitions}


def delete(
    wire: Wire, group: str, *places: tuple[str, int]
) -> tuple[int, dict[tuple[str, int], int]]:
    """OffsetDelete; the request's error code and those of the partitions."""
    topics: dict[str, OffsetDeleteRequestTopic] = {}
    for name, index in places:
        topic = topics.setdefault(name, OffsetDeleteRequestTopic(name=name))
        topic.partitions.append(OffsetDeleteRequestPartition(partition_index=index))
    answer = wire.ask(OffsetDeleteRequest(group_id=group, topics=list(topics.values())), 0)
    codes = {(t.name, p.partition_index): p.error_code for t in answer.topics for p in t.partitions}
    return answer.error_code, codes


def join(wire: Wire, group: str, protocol_type: str, metadata: bytes) -> tuple[str, int]:
    """Become the group's only member."""
    request = JoinGroupRequest(
        group_id=group,
        session_timeout_ms=10_000,
        rebalance_timeout_ms=10_000,
        protocol_type=protocol_type,
        protocols=[JoinGroupRequestProtocol(name="range", metadata=metadata)],
    )
    answer = wire.ask(request, 3)
    assert answer.error_code == 0
    return answer.member_id, answer.generation_id


def subscription(*topics: str) -> bytes:
    """A consumer's metadata."""
    return b"\0\0" + encode_bytes(ConsumerProtocolSubscription(topics=list(topics)), 0)


def test_offsets_are_forgotten_one_by_one(prepared: Wire) -> None:
    commit(prepared)
    assert delete(prepared, "g", ("a", 0), ("b", 1), ("a", 0)) == (
        0,
        {("a", 0): NONE, ("b", 1): NONE},
    )
    assert committed(prepared) == {("a", 1), ("b", 0)}
    assert delete(prepared, "g", ("a", 0)) == (0, {("a", 0): NONE})  # there is none: still no error


def test_partitions_that_do_not_exist_are_told(prepared: Wire) -> None:
    commit(prepared)
    assert delete(prepared, "g", ("a", 0), ("a", 7), ("none", 0)) == (
        0,
        {("a", 0): NONE, ("a", 7): UNKNOWN, ("none", 0): UNKNOWN},
    )


@pytest.mark.parametrize(
    ("group", "code"), [("nobody", ErrorCode.GROUP_ID_NOT_FOUND), ("", ErrorCode.INVALID_GROUP_ID)]
)
def test_a_group_that_is_none_is_told(prepared: Wire, group: str, code: ErrorCode) -> None:
    assert delete(prepared, group, ("a", 0), ("none", 0)) == (code, {})


def test_topics_that_a_member_reads_keep_their_offsets(prepared: Wire) -> None:
    commit(prepared)
    join(prepared, "g", "consumer", subscription("a"))
    assert delete(prepared, "g", ("a", 0), ("b", 0)) == (
        0,
        {("a", 0): SUBSCRIBED, ("b", 0): NONE},
    )
    assert committed(prepared) == {("a", 0), ("a", 1), ("b", 1)}


def test_a_member_whose_subscription_cannot_be_read_may_read_every_topic(prepared: Wire) -> None:
    commit(prepared)
    join(prepared, "g", "consumer", b"?")
    assert delete(prepared, "g", ("a", 0))[1] == {("a", 0): SUBSCRIBED}


def test_offsets_of_members_that_are_no_consumers_stay(prepared: Wire) -> None:
    commit(prepared)
    join(prepared, "g", "connect", b"")
    assert delete(prepared, "g", ("a", 0)) == (ErrorCode.NON_EMPTY_GROUP, {})
    assert len(committed(prepared)) == 4


def test_a_group_without_members_and_offsets_is_gone(prepared: Wire) -> None:
    commit(prepared)
    places = [(name, index) for name in ("a", "b") for index in (0, 1)]
    assert delete(prepared, "g", *places)[0] == 0
    assert delete(prepared, "g", ("a", 0)) == (ErrorCode.GROUP_ID_NOT_FOUND, {})


def test_what_was_forgotten_stays_so_over_a_restart(tmp_path: Path) -> None:
    with Broker(data=tmp_path) as broker, Wire(broker.bootstrap) as wire:
        prepare(wire)
        commit(wire)
        assert delete(wire, "g", ("a", 0), ("a", 1))[0] == 0
    with Broker(data=tmp_path) as broker, Wire(broker.bootstrap) as wire:
        assert wire.ask(FindCoordinatorRequest(key="g"), 3).error_code == 0
        assert committed(wire) == {("b", 0), ("b", 1)}
