"""The handlers of the group APIs: every version there and back through the wire, and what each one changed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from ottla.broker.authorized_operations import GROUP_OPERATIONS
from ottla.broker.handlers import (
    delete_groups,
    describe_groups,
    heartbeat,
    join_group,
    leave_group,
    list_groups,
    offset_commit,
    offset_fetch,
    sync_group,
)
from ottla.errors import ErrorCode
from ottla.messages.delete_groups import DeleteGroupsRequest
from ottla.messages.describe_groups import DescribeGroupsRequest
from ottla.messages.heartbeat import HeartbeatRequest
from ottla.messages.join_group import JoinGroupRequest, JoinGroupRequestProtocol
from ottla.messages.leave_group import LeaveGroupRequest, MemberIdentity
from ottla.messages.list_groups import ListGroupsRequest
from ottla.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
)
from ottla.messages.offset_fetch import (
    OffsetFetchRequest,
    OffsetFetchRequestGroup,
    OffsetFetchRequestTopic,
    OffsetFetchRequestTopics,
)
from ottla.messages.registry import api
from ottla.messages.sync_group import SyncGroupRequest, SyncGroupRequestAssignment
from ottla.wire.compiler import decode, encode_bytes


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    """Run a scenario in a loop of its own."""

    async def main() -> None:
        await scenario()

    asyncio.run(main())


async def ask(house: Any, handler: Any, body: Any, version: int) -> Any:
    """Send a request through the wire's bytes, and its answer too."""
    request, _ = decode(type(body), version, encode_bytes(body, version))
    answer = house.ask(handler, request, version)
    response = await answer if isinstance(answer, asyncio.Future) else answer
    read, _ = decode(type(response), version, encode_bytes(response, version))
    return read


def versions(key: int) -> range:
    """All versions of an API."""
    lo, hi = api(key).versions
    return range(lo, hi + 1)


def join(member_id: str = "", **changes: Any) -> JoinGroupRequest:
    """A JoinGroup of a consumer."""
    fields: dict[str, Any] = {
        "group_id": "g",
        "member_id": member_id,
        "session_timeout_ms": 10_000,
        "rebalance_timeout_ms": 60_000,
        "protocol_type": "consumer",
        "protocols": [JoinGroupRequestProtocol(name="range", metadata=b"meta")],
    }
    return JoinGroupRequest(**fields | changes)


async def join_once(house: Any, version: int, **changes: Any) -> Any:
    """Join as a client of that version does."""
    joined = await ask(house, join_group, join(**changes), version)
    if joined.error_code == ErrorCode.MEMBER_ID_REQUIRED:
        joined = await ask(house, join_group, join(joined.member_id, **changes), version)
    assert joined.error_code == ErrorCode.NONE
    return joined


@pytest.mark.parametrize("version", versions(11))
def test_join_group_of_every_version(new_house: Any, version: int) -> None:
    async def scenario() -> None:
        house = await new_house().open()
        joined = await join_once(house, version)
        assert joined.generation_id == 1
        assert joined.leader == joined.member_id
        assert joined.member_id.startswith("client-")
        assert joined.protocol_name == "range"
        assert joined.protocol_type == ("consumer" if version >= 7 else None)
        assert [(m.member_id, m.metadata) for m in joined.members] == [(joined.member_id, b"meta")]
        described = await ask(house, describe_groups, DescribeGroupsRequest(groups=["g"]), 5)
        assert described.groups[0].members[0].client_host == "/127.0.0.1"

    run(scenario)


def test_join_group_0_waits_as_long_as_the_session(new_house: Any) -> None:
    async def scenario() -> None:
        house = await new_house().open()
        await join_once(house, 0)
        (stored,) = house.groups._shards[house.groups.partition_for("g")].groups["g"].members
        assert stored.rebalance_timeout_ms == 10_000

    run(scenario)


@pytest.mark.parametrize("version", versions(11))
def test_a_refused_join_can_be_said_in_every_version(new_house: Any, version: int) -> None:
    async def scenario() -> None:
        house = await new_house().open()
        refused = await ask(house, join_group, join(group_id=""), version)
        assert refused.error_code == ErrorCode.INVALID_GROUP_ID
        assert refused.protocol_name == (None if version >= 7 else "")
        unknown = await ask(house, join_group, join("nobody"), version)
        assert (unknown.error_code, unknown.member_id) == (ErrorCode.UNKNOWN_MEMBER_ID, "nobody")

    run(scenario)


def test_a_protocol_that_is_named_twice_counts_once(new_house: Any) -> None:
    async def scenario() -> None:
        house = await new_house().open()
        twice = [JoinGroupRequestProtocol(name="range", metadata=m) for m in (b"1", b"2")]
        joined = await join_once(house, 5, protocols=twice)
        assert joined.members[0].metadata == b"1"

    run(scenario)


@pytest.mark.parametrize("version", versions(11)[5:])
def test_a_static_leader_that_comes_back(new_house: Any, version: int) -> None:
    async def scenario() -> None:
        house = await new_house().open()
        joined = await join_once(house, version, group_instance_id="i")
        await sync_once(house, joined, 5)
        back = await join_once(house, version, group_instance_id="i")
        assert back.member_id != joined.member_id
        assert back.generation_id == joined.generation_id
        assert back.skip_assignment == (version >= 9)
        assert back.leader == (back.member_id if version >= 9 else joined.member_id)

    run(scenario)


async def sync_once(house: Any, joined: Any, version: int) -> Any:
    """Assign everything to the only member."""
    named = version >= 5
    body = SyncGroupRequest(
        group_id="g",
        generation_id=joined.generation_id,
        member_id=joined.member_id,
        protocol_type="consumer" if named else None,
        protocol_name="range" if named else None,
        assignments=[SyncGroupRequestAssignment(member_id=joined.member_id, assignment=b"all")],
    )
    synced = await ask(house, sync_group, body, version)
    assert synced.error_code == ErrorCode.NONE
    return synced


@pytest.mark.parametrize("version", versions(14))
def test_sync_group_of_every_version(new_house: Any, version: int) -> None:
    async def scenario() -> None:
        house = await new_house().open()
        synced = await sync_once(house, await join_once(house, 5), version)
        assert synced.assignment == b"all"
        assert synced.protocol_name == ("range" if version >= 5 else None)
        stranger = SyncGroupRequest(
            group_id="g", member_id="x", protocol_type="consumer", protocol_name="range"
        )
        refused = await ask(house, sync_group, stranger, version)
        assert refused.error_code == ErrorCode.UNKNOWN_MEMBER_ID

    run(scenario)


def test_sync_group_5_has_to_name_its_protocol(new_house: Any) -> None:
    async def scenario() -> None:
        house = await new_house().open()
        body = SyncGroupRequest(group_id="g", member_id="x")
        answer = await ask(house, sync_group, body, 5)
        assert answer.error_code == ErrorCode.INCONSISTENT_GROUP_PROTOCOL

    run(scenario)


@pytest.mark.parametrize("version", versions(12))
def test_heartbeat_of_every_version(new_house: Any, version: int) -> None:
    async def scenario() -> None:
        house = await new_house().open()
        joined = await join_once(house, 5)
        for generation, code in ((1, ErrorCode.NONE), (2, ErrorCode.ILLEGAL_GENERATION)):
            body = HeartbeatRequest(
                group_id="g", member_id=joined.member_id, generation_id=generation
            )
            assert (await ask(house, heartbeat, body, version)).error_code == code

    run(scenario)


@pytest.mark.parametrize("version", versions(13))
def test_leave_group_of_every_version(new_house: Any, version: int) -> None:
    async def scenario() -> None:
        house = await new_house().open()
        joined = await join_once(house, 5)
        codes = []
        for group_id in ("g", "g", "unknown-to-all"):
            await house.open(group_id)
            body = LeaveGroupRequest(group_id=group_id, member_id=joined.member_id)
            if version >= 3:
                body = LeaveGroupRequest(
                    group_id=group_id, members=[MemberIdentity(member_id=joined.member_id)]
                )
            left = await ask(house, leave_group, body, version)
            if version >= 3:
                assert left.error_code == ErrorCode.NONE
                codes.append(left.members[0].error_code)
            else:
                codes.append(left.error_code)
        assert codes == [ErrorCode.NONE] + [ErrorCode.UNKNOWN_MEMBER_ID] * 2

    run(scenario)


def commit(house: Any, version: int, *partitions: int, **changes: Any) -> OffsetCommitRequest:
    """An OffsetCommit of offset 40 + n in partition n of ``orders``."""
    topic = OffsetCommitRequestTopic(
        name="orders",
        topic_id=house.metadata.topic_id("orders"),
        partitions=[
            OffsetCommitRequestPartition(
                partition_index=n,
                committed_offset=40 + n,
                committed_leader_epoch=2,
                committed_metadata=None if n == 1 else "note",
            )
            for n in partitions
        ],
    )
    return OffsetCommitRequest(**{"group_id": "g", "topics": [topic]} | changes)


@pytest.mark.parametrize("version", versions(8))
def test_offset_commit_of_every_version(new_house: Any, version: int) -> None:
    async def scenario() -> None:
        house = await new_house().open()
        done = await ask(house, offset_commit, commit(house, version, 0, 1, 9), version)
        (topic,) = done.topics
        assert [(p.partition_index, p.error_code) for p in topic.partitions] == [
            (0, ErrorCode.NONE),
            (1, ErrorCode.NONE),
            (9, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
        ]
        assert topic.name == ("orders" if version < 10 else "")
        fetched = house.groups.fetch_offsets("g", [("orders", [0, 1])])
        first, second = (committed for _, committed in fetched.topics[0][1])
        assert (first.offset, first.metadata) == (40, "note")
        assert first.leader_epoch == (2 if version >= 6 else -1)
        assert second.metadata == ""

    run(scenario)


@pytest.mark.parametrize("version", [2, 3, 4, 5])
def test_offset_commit_2_to_4_bring_their_own_retention(new_house: Any, version: int) -> None:
    async def scenario() -> None:
        house = await new_house().open()
        body = commit(house, version, 0, retention_time_ms=1_000)
        await ask(house, offset_commit, body, version)
        committed = house.groups.fetch_offsets("g", None).topics[0][1][0][1]
        expected = house.clock.now_ms() + 1_000 if version < 5 else -1
        assert committed.expire_timestamp_ms == expected

    run(scenario)


@pytest.mark.parametrize("version", versions(8))
def test_an_offset_commit_to_an_unknown_group_or_topic(new_house: Any, version: int) -> None:
    async def scenario() -> None:
        house = await new_house().open()
        body = commit(house, version, 0, generation_id_or_member_epoch=3, member_id="m")
        done = await ask(house, offset_commit, body, version)
        expected = ErrorCode.GROUP_ID_NOT_FOUND if version >= 9 else ErrorCode.ILLEGAL_GENERATION
        assert done.topics[0].partitions[0].error_code == expected
        body = commit(house, version, 0)
        body.topics[0].name, body.topics[0].topic_id = "gone", b"0123456789abcdef"
        done = await ask(house, offset_commit, body, version)
        expected = (
            ErrorCode.UNKNOWN_TOPIC_ID if version >= 10 else ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        )
        assert done.topics[0].partitions[0].error_code == expected
        assert house.groups.list_groups().groups == []

    run(scenario)


def fetch(house: Any, version: int, partitions: list[int] | None) -> OffsetFetchRequest:
    """An OffsetFetch of ``orders``, or of everything."""
    if version < 8:
        single = None
        if partitions is not None:
            single = [OffsetFetchRequestTopic(name="orders", partition_indexes=partitions)]
        return OffsetFetchRequest(group_id="g", topics=single)
    topics = None
    if partitions is not None:
        topics = [
            OffsetFetchRequestTopics(
                name="orders",
                topic_id=house.metadata.topic_id("orders"),
                partition_indexes=partitions,
            )
        ]
    return OffsetFetchRequest(groups=[OffsetFetchRequestGroup(group_id="g", topics=topics)])


def read(response: Any, version: int) -> tuple[int, dict[int, tuple[int, str, int]]]:
    """The group's error, and offset, metadata and error by partition of the first topic."""
    group = response if version < 8 else response.groups[0]
    partitions = group.topics[0].partitions if group.topics else []
    return group.error_code, {
        p.partition_index: (p.committed_offset, p.metadata, p.error_code) for p in partitions
    }


@pytest.mark.parametrize("version", versions(9))
def test_offset_fetch_of_every_version(new_house: Any, version: int) -> None:
    async def scenario() -> None:
        house = await new_house().open()
        await ask(house, offset_commit, commit(house, 9, 0, 2), 9)
        answer = await ask(house, offset_fetch, fetch(house, version, [0, 1]), version)
        assert read(answer, version) == (0, {0: (40, "note", 0), 1: (-1, "", 0)})
        if version >= 2:
            answer = await ask(house, offset_fetch, fetch(house, version, None), version)
            assert read(answer, version) == (0, {0: (40, "note", 0), 2: (42, "note", 0)})
        house.groups.close()
        error, partitions = read(
            await ask(house, offset_fetch, fetch(house, version, [0]), version), version
        )
        if version < 2:
            assert partitions == {0: (-1, "", ErrorCode.COORDINATOR_NOT_AVAILABLE)}
        else:
            assert (error, partitions) == (ErrorCode.COORDINATOR_NOT_AVAILABLE, {})

    run(scenario)


def test_offset_fetch_8_answers_each_group_for_itself(new_house: Any) -> None:
    async def scenario() -> None:
        house = await new_house().open()
        await ask(house, offset_commit, commit(house, 9, 0), 9)
        body = fetch(house, 8, [0])
        body.groups.append(OffsetFetchRequestGroup(group_id="elsewhere", topics=None))
        answer = await ask(house, offset_fetch, body, 8)
        assert [(g.group_id, g.error_code) for g in answer.groups] == [
            ("g", ErrorCode.NONE),
            ("elsewhere", ErrorCode.NOT_COORDINATOR),
        ]

    run(scenario)


def test_offset_fetch_8_waits_for_the_group_that_is_last(new_house: Any) -> None:
    async def scenario() -> None:
        house = await new_house().open()
        house.log.holds = True
        pending = house.ask(offset_commit, commit(house, 9, 0), 9)
        answer = house.ask(offset_fetch, fetch(house, 8, [0]), 8)
        assert not answer.done()
        await house.log.release()
        assert read(await answer, 8)[1] == {0: (40, "note", 0)}
        assert (await pending).topics[0].partitions[0].error_code == ErrorCode.NONE

    run(scenario)


def test_offset_fetch_10_tells_topics_that_are_gone(new_house: Any) -> None:
    async def scenario() -> None:
        house = await new_house().open()
        await ask(house, offset_commit, commit(house, 9, 0), 9)
        body = fetch(house, 10, [0])
        body.groups[0].topics[0].topic_id = b"0123456789abcdef"
        answer = await ask(house, offset_fetch, body, 10)
        assert read(answer, 10) == (0, {0: (-1, "", ErrorCode.UNKNOWN_TOPIC_ID)})
        del house.metadata.ids["orders"]
        answer = await ask(house, offset_fetch, fetch(house, 10, None), 10)
        assert read(answer, 10) == (0, {})

    run(scenario)


@pytest.mark.parametrize("version", versions(15))
def test_describe_groups_of_every_version(new_house: Any, version: int) -> None:
    async def scenario() -> None:
        house = await new_house().open("g", "none")
        joined = await join_once(house, 5)
        body = DescribeGroupsRequest(groups=["g", "none"], include_authorized_operations=True)
        rebalancing, dead = (await ask(house, describe_groups, body, version)).groups
        assert (rebalancing.group_state, rebalancing.protocol_data) == ("CompletingRebalance", "")
        assert rebalancing.members[0].member_metadata == b""
        assert dead.group_state == "Dead"
        expected = ErrorCode.GROUP_ID_NOT_FOUND if version >= 6 else ErrorCode.NONE
        assert dead.error_code == expected
        assert dead.error_message == ("Group none not found." if version >= 6 else None)
        await sync_once(house, joined, 3)
        group, _ = (await ask(house, describe_groups, body, version)).groups
        assert (group.group_state, group.protocol_type, group.protocol_data) == (
            "Stable",
            "consumer",
            "range",
        )
        (member,) = group.members
        assert (member.client_id, member.member_metadata, member.member_assignment) == (
            "client",
            b"meta",
            b"all",
        )
        assert group.authorized_operations == (GROUP_OPERATIONS if version >= 3 else -(1 << 31))

    run(scenario)


@pytest.mark.parametrize("version", versions(16))
def test_list_groups_of_every_version(new_house: Any, version: int) -> None:
    async def scenario() -> None:
        house = await new_house().open("g", "simple")
        await join_once(house, 5)
        house.groups.commit_offsets("simple", "", None, -1, _one_commit())
        listed = await ask(house, list_groups, ListGroupsRequest(), version)
        assert sorted((g.group_id, g.protocol_type) for g in listed.groups) == [
            ("g", "consumer"),
            ("simple", ""),
        ]
        if version >= 4:
            body = ListGroupsRequest(states_filter=["empty", "DEAD"])
            listed = await ask(house, list_groups, body, version)
            assert [(g.group_id, g.group_state) for g in listed.groups] == [("simple", "Empty")]
        if version >= 5:
            for types, count in ((["Classic"], 2), (["consumer"], 0), (["nonsense"], 0)):
                body = ListGroupsRequest(types_filter=types)
                listed = await ask(house, list_groups, body, version)
                assert [g.group_type for g in listed.groups] == ["classic"] * count

    run(scenario)


def _one_commit() -> list[Any]:
    from ottla.groups.coordinator import Commit

    return [Commit("orders", 0, 1, -1, "")]


@pytest.mark.parametrize("version", versions(42))
def test_delete_groups_of_every_version(new_house: Any, version: int) -> None:
    async def scenario() -> None:
        house = await new_house().open("g", "simple", "none")
        await join_once(house, 5)
        house.groups.commit_offsets("simple", "", None, -1, _one_commit())
        body = DeleteGroupsRequest(groups_names=["g", "simple", "none", "g"])
        done = await ask(house, delete_groups, body, version)
        assert [(r.group_id, r.error_code) for r in done.results] == [
            ("g", ErrorCode.NON_EMPTY_GROUP),
            ("simple", ErrorCode.NONE),
            ("none", ErrorCode.GROUP_ID_NOT_FOUND),
        ]

    run(scenario)
