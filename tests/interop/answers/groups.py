"""What members of groups and admin tools ask a group's coordinator."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ottla.messages.delete_groups import DeleteGroupsRequest
from ottla.messages.describe_groups import DescribeGroupsRequest
from ottla.messages.find_coordinator import FindCoordinatorRequest
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
from ottla.messages.sync_group import SyncGroupRequest, SyncGroupRequestAssignment
from tests.interop.answers.asking import Asker

NOBODYS_ID = b"\x07" * 16
JOIN, SYNC, COMMIT, FETCH = range(10), range(6), range(2, 11), range(1, 11)


def ready(asker: Asker, group: str) -> None:
    """Wait for the group's coordinator, which may have to make its topic first."""
    asker.ask(f"the coordinator of {group}", FindCoordinatorRequest(key=group), 3)
    asker.ask(f"no offsets of {group}", OffsetFetchRequest(group_id=group, topics=[]), 7)


def coordinators(asker: Asker) -> None:
    ready(asker, "coordinators")
    for key in ("coordinators", ""):
        asker.ask_every(f"of {key!r}", FindCoordinatorRequest(key=key), range(4))
        several = FindCoordinatorRequest(coordinator_keys=[key, "x", "x"])
        asker.ask_every(f"of {key!r} and others", several, range(4, 7))
    asker.ask_every("of none", FindCoordinatorRequest(), range(4, 7))
    for kind in (2, 3, -1):
        asker.ask(f"of type {kind}", FindCoordinatorRequest(key="x", key_type=kind), 2)


def join(group: str, member: str = "", *protocols: str, **fields: Any) -> JoinGroupRequest:
    """A JoinGroup; the protocols' metadata are their names."""
    return JoinGroupRequest(
        **{
            "group_id": group,
            "session_timeout_ms": 30_000,
            "rebalance_timeout_ms": 30_000,
            "member_id": member,
            "protocol_type": "consumer",
            "protocols": [
                JoinGroupRequestProtocol(name=name, metadata=name.encode())
                for name in protocols or ("range",)
            ],
            **fields,
        }
    )


def refused_joins(asker: Asker) -> None:
    ready(asker, "joins")
    asker.ask_every("an empty group id", join(""), JOIN)
    asker.ask_every("a member that nobody knows", join("joins", "somebody"), JOIN)
    for number, (name, fields) in enumerate(
        (
            ("a session that is too short", {"session_timeout_ms": 1}),
            ("a session that is too long", {"session_timeout_ms": 2_000_000_000}),
            ("a negative session", {"session_timeout_ms": -1}),
            ("no protocols", {"protocols": []}),
            ("no protocol type", {"protocol_type": ""}),
            ("no protocols and no type", {"protocol_type": "", "protocols": []}),
            ("an instance that nobody knows", {"member_id": "x", "group_instance_id": "i"}),
            ("an empty instance", {"group_instance_id": ""}),
            ("a bad instance", {"group_instance_id": "no spaces"}),
        )
    ):
        for version in (3, 5, 9):
            request = join(f"joins.{number}.{version}", **{"member": "", **fields})
            asker.ask(f"{name}, version {version}", request, version)
    asker.ask_every("a member id is given out", join("joins"), range(4, 10))


def one_member(asker: Asker) -> None:
    topic = asker.topic("member")
    for version in JOIN:
        group = f"member.{version}"
        ready(asker, group)

        def words(what: str, version: int = version) -> str:
            return f"{what}, version {version}"

        asked = asker.ask(words("joining"), join(group, "", "range", "other"), version)
        if asked.error_code:
            asked = asker.ask(
                words("joining with the id"), join(group, asked.member_id, "range"), version
            )
        me, generation = asked.member_id, asked.generation_id
        sync_version = min(version, 5)

        def sync(what: str, v: int = sync_version, **fields: Any) -> None:
            asker.ask(words(what), SyncGroupRequest(group_id=group, **fields), v)  # noqa: B023

        mine = {"generation_id": generation, "member_id": me}
        kind = {"protocol_type": "consumer", "protocol_name": asked.protocol_name or "range"}
        beat = HeartbeatRequest(group_id=group, **mine)
        asker.ask(words("a heartbeat before the sync"), beat, min(version, 4))
        sync("another generation's sync", generation_id=9, member_id=me, **kind)
        sync("a stranger's sync", generation_id=generation, member_id="x", **kind)
        sync("another protocol's sync", **mine, protocol_type="consumer", protocol_name="none")
        given = [SyncGroupRequestAssignment(member_id=me, assignment=b"mine")]
        sync("the sync", **mine, **kind, assignments=given)
        sync("the sync again", **mine, **kind)
        asker.ask(words("a heartbeat"), beat, min(version, 4))
        beat.generation_id = 9
        asker.ask(words("another generation's heartbeat"), beat, min(version, 4))
        beat.generation_id, beat.member_id = generation, "x"
        asker.ask(words("a stranger's heartbeat"), beat, min(version, 4))
        asker.ask(words("a commit"), commit(asker, group, topic, **mine), max(2, min(version, 9)))
        asker.ask(
            words("a stranger's commit"),
            commit(asker, group, topic, generation_id=generation, member_id="x"),
            max(2, min(version, 9)),
        )
        asker.ask(
            words("another generation's commit"),
            commit(asker, group, topic, generation_id=9, member_id=me),
            max(2, min(version, 9)),
        )
        asker.ask(
            words("a commit from outside"),
            commit(asker, group, topic),
            max(2, min(version, 9)),
        )
        asker.ask(words("described"), DescribeGroupsRequest(groups=[group]), min(version, 6))
        asker.ask(words("its end"), DeleteGroupsRequest(groups_names=[group]), 2)
        leave_version = min(version, 5)
        for who in ("x", me, me):
            left = f"{'I' if who == me else 'a stranger'} leave{'s' * (who == 'x')}"
            left = f"{left} again" if words(left) in asker.answers else left
            asker.ask(
                words(left),
                LeaveGroupRequest(
                    group_id=group, member_id=who, members=[MemberIdentity(member_id=who)]
                ),
                leave_version,
            )
        asker.ask(words("described when empty"), DescribeGroupsRequest(groups=[group]), 5)
        asker.ask(words("deleted"), DeleteGroupsRequest(groups_names=[group]), 2)


def commit(
    asker: Asker, group: str, topic: str, partitions: Iterable[int] = (0,), **fields: Any
) -> OffsetCommitRequest:
    """A commit of offset 5."""
    metadata = fields.pop("metadata", "m")
    offset = fields.pop("offset", 5)
    each = [
        OffsetCommitRequestPartition(
            partition_index=i, committed_offset=offset, committed_metadata=metadata
        )
        for i in partitions
    ]
    topics = [
        OffsetCommitRequestTopic(
            name=topic, topic_id=asker.ids.get(topic, NOBODYS_ID), partitions=each
        )
    ]
    return OffsetCommitRequest(
        group_id=group,
        generation_id_or_member_epoch=fields.pop("generation_id", -1),
        topics=topics,
        **fields,
    )


def commits(asker: Asker) -> None:
    topic = asker.topic("commits", 2)
    ready(asker, "commits")
    asker.ask_every("without a group", commit(asker, "commits", topic), COMMIT)
    asker.ask_every("an empty group id", commit(asker, "", topic), COMMIT)
    asker.ask_every("no such topic", commit(asker, "commits", "not.there"), COMMIT)
    asker.ask_every("no such partition", commit(asker, "commits", topic, (0, 9, -1)), COMMIT)
    asker.ask_every("an empty topic name", commit(asker, "commits", ""), COMMIT)
    for name, fields in (
        ("a generation of no group", {"generation_id": 1}),
        ("a member of no group", {"member_id": "x"}),
        ("a member and a generation of no group", {"member_id": "x", "generation_id": 1}),
        ("metadata that are too large", {"metadata": "m" * 5_000}),
        ("null metadata", {"metadata": None}),
        ("a negative offset", {"offset": -1}),
        ("an instance of no group", {"group_instance_id": "i"}),
    ):
        asker.ask_every(name, commit(asker, "commits", topic, **fields), (2, 7, 9))
        asker.ask_every(f"{name}, new", commit(asker, "commits.new", topic, **fields), (7, 9))


def fetched(asker: Asker, group: str, topic: str | None, *partitions: int) -> OffsetFetchRequest:
    """An OffsetFetch of one topic, or of all."""
    old = new = None
    if topic is not None:
        old = [OffsetFetchRequestTopic(name=topic, partition_indexes=list(partitions))]
        new = [
            OffsetFetchRequestTopics(
                name=topic,
                topic_id=asker.ids.get(topic, NOBODYS_ID),
                partition_indexes=list(partitions),
            )
        ]
    groups = [OffsetFetchRequestGroup(group_id=group, topics=new)]
    return OffsetFetchRequest(group_id=group, topics=old, groups=groups)


def fetches(asker: Asker) -> None:
    topic = asker.topic("fetches", 2)
    ready(asker, "fetches")
    asker.ask_every("of no group", fetched(asker, "fetches", topic, 0, 1), FETCH)
    asker.ask_every("all of no group", fetched(asker, "fetches", None), range(2, 11))
    asker.ask("a commit", commit(asker, "fetches", topic), 8)
    asker.ask_every("what is committed", fetched(asker, "fetches", topic, 0, 1, 9), FETCH)
    asker.ask_every("all that is committed", fetched(asker, "fetches", None), range(2, 11))
    asker.ask_every("no such topic", fetched(asker, "fetches", "not.there", 0), FETCH)
    asker.ask_every("an empty group id", fetched(asker, "", topic, 0), FETCH)
    stranger = fetched(asker, "fetches", topic, 0)
    stranger.groups[0].member_id, stranger.groups[0].member_epoch = "x", 3
    asker.ask_every("as a member that nobody knows", stranger, (9, 10))
    stable = fetched(asker, "fetches", topic, 0)
    stable.require_stable = True
    asker.ask_every("what is stable", stable, range(7, 11))


def lists_and_deletions(asker: Asker) -> None:
    topic = asker.topic("lists")
    ready(asker, "lists")
    asker.ask("a commit", commit(asker, "lists", topic), 8)

    def listed(words: str, version: int, **filters: Any) -> None:
        answer = asker.ask_unkept(ListGroupsRequest(**filters), version)
        answer.groups = [group for group in answer.groups if group.group_id == "lists"]
        asker.note(f"{words}, version {version}", answer)

    for version in range(6):
        listed("all", version)
    for state in ("Empty", "empty", "EMPTY", "Stable", "nonsense", ""):
        listed(f"in state {state!r}", 4, states_filter=[state])
        listed(f"in state {state!r}", 5, states_filter=[state])
    for kind in ("classic", "Classic", "consumer", "nonsense"):
        listed(f"of type {kind!r}", 5, types_filter=[kind])
    asker.ask_every("described", DescribeGroupsRequest(groups=["lists"]))
    asker.ask_every("described, not there", DescribeGroupsRequest(groups=["not.there"]))
    asker.ask_every("described, no name", DescribeGroupsRequest(groups=[""]))
    asker.ask_every(
        "described with what is allowed",
        DescribeGroupsRequest(groups=["lists", "not.there"], include_authorized_operations=True),
        range(3, 7),
    )
    asker.ask_every("deleted, not there", DeleteGroupsRequest(groups_names=["not.there", ""]))
    asker.ask("deleted", DeleteGroupsRequest(groups_names=["lists", "lists"]), 2)
    asker.ask("deleted again", DeleteGroupsRequest(groups_names=["lists"]), 2)
    asker.ask_every("left by nobody", LeaveGroupRequest(group_id="left", member_id="x"))
    nobody = [MemberIdentity(member_id="x"), MemberIdentity(group_instance_id="i")]
    asker.ask_every(
        "left by some who are not there",
        LeaveGroupRequest(group_id="left", members=nobody),
        (3, 4, 5),
    )
    asker.ask_every("left without a name", LeaveGroupRequest(members=nobody), (3, 4, 5))


def static_members(asker: Asker) -> None:
    ready(asker, "static")
    first = asker.ask("joining", join("static", group_instance_id="i"), 9)
    mine = {"generation_id": first.generation_id, "member_id": first.member_id}
    given = [SyncGroupRequestAssignment(member_id=first.member_id, assignment=b"mine")]
    asker.ask(
        "the sync",
        SyncGroupRequest(
            group_id="static",
            group_instance_id="i",
            protocol_type="consumer",
            protocol_name="range",
            assignments=given,
            **mine,
        ),
        5,
    )
    second = asker.ask("coming back", join("static", group_instance_id="i"), 9)
    for who, member in (("the former", first.member_id), ("the present", second.member_id)):
        fields = {"generation_id": second.generation_id, "member_id": member}
        asker.ask(
            f"{who} one's heartbeat",
            HeartbeatRequest(group_id="static", group_instance_id="i", **fields),
            4,
        )
        asker.ask(
            f"{who} one's heartbeat without its instance",
            HeartbeatRequest(group_id="static", **fields),
            4,
        )
        asker.ask(
            f"{who} one joins",
            join("static", member, group_instance_id="other"),
            9,
        )
    asker.ask(
        "an instance leaves",
        LeaveGroupRequest(
            group_id="static",
            members=[MemberIdentity(group_instance_id="x"), MemberIdentity(group_instance_id="i")],
        ),
        5,
    )


QUESTIONS = (
    coordinators,
    refused_joins,
    one_member,
    commits,
    fetches,
    lists_and_deletions,
    static_members,
)
