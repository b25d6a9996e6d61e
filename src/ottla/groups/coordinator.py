"""The group coordinator: answers for the groups of its partitions of ``__consumer_offsets``.

A partition that is not ours, or perhaps not any more: NOT_COORDINATOR. One that is being loaded:
COORDINATOR_LOAD_IN_PROGRESS. A coordinator that is closed: COORDINATOR_NOT_AVAILABLE. No operation raises ``KafkaError``: errors are in the
answers. An answer is there at once, or is a future that never fails. How writes and reads stand to each other
is in ``ledger``. Source: ``GroupCoordinatorService.java``, ``GroupCoordinatorShard.java``.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

from ottla.errors import ErrorCode, KafkaError
from ottla.groups.group import Group, GroupState, Joining
from ottla.groups.group_records import offset_record
from ottla.groups.ledger import STRING_BYTES_MAX, GroupLog, Ledger, LoadedRecord, answer_for
from ottla.groups.membership import weight_of
from ottla.groups.offsets import NO_TIMESTAMP, CommittedOffset
from ottla.groups.parking import Timer, Timers
from ottla.groups.replies import Reply, T, gather, then
from ottla.groups.shard import Shard
from ottla.messages.describe_groups import DescribedGroup, DescribedGroupMember
from ottla.messages.join_group import JoinGroupResponse
from ottla.messages.list_groups import ListedGroup
from ottla.messages.sync_group import SyncGroupResponse

__all__ = [
    "Commit",
    "Coordinator",
    "DeletedOffsets",
    "FetchedOffsets",
    "GroupLog",
    "ListedGroups",
    "LoadedRecord",
    "Timer",
    "Timers",
    "gather",
    "then",
]

_PREFIX_CHARS_MAX = 255
_TIMESTAMP_MAX = 2**63 - 1


class Commit(NamedTuple):
    """One partition's part of an OffsetCommit."""

    topic: str
    partition: int
    offset: int
    leader_epoch: int
    metadata: str


class FetchedOffsets(NamedTuple):
    """What a group has committed (None where it has not), or why it cannot be told."""

    error: ErrorCode
    topics: list[tuple[str, list[tuple[int, CommittedOffset | None]]]]


class DeletedOffsets(NamedTuple):
    """What became of offsets that are to be forgotten, by topic and partition, or why it cannot be told."""

    error: ErrorCode
    codes: dict[tuple[str, int], ErrorCode]


class ListedGroups(NamedTuple):
    """The groups of all our partitions, or why they cannot be told."""

    error: ErrorCode
    groups: list[ListedGroup]


class Coordinator(Ledger):
    """One broker's coordinator of all its groups; ``broker.groups`` for the handlers."""

    # --- members ---

    def new_member_id(self, prefix: str) -> str:
        """A member id that nobody has: the client's id or the instance id, and a random UUID."""
        raw = bytearray(os.urandom(16))
        raw[6], raw[8] = raw[6] & 0x0F | 0x40, raw[8] & 0x3F | 0x80
        text = raw.hex()
        parts = (prefix[:_PREFIX_CHARS_MAX], text[:8], text[8:12], text[12:16], text[16:20])
        return "-".join((*parts, text[20:]))

    def join(
        self, group_id: str, request: Joining
    ) -> JoinGroupResponse | asyncio.Future[JoinGroupResponse]:
        """JoinGroup: answered when the group's next generation begins, or at once with an error."""
        settings = self._settings
        shortest, longest = (
            settings.group_min_session_timeout_ms,
            settings.group_max_session_timeout_ms,
        )
        strings = (request.group_instance_id or "", request.protocol_type, *request.protocols)
        reply: Reply[JoinGroupResponse] = Reply()
        try:
            if not group_id:
                raise KafkaError(ErrorCode.INVALID_GROUP_ID)
            if not shortest <= request.session_timeout_ms <= longest:
                raise KafkaError(ErrorCode.INVALID_SESSION_TIMEOUT)
            if any(len(text.encode()) > STRING_BYTES_MAX for text in strings):
                raise KafkaError(ErrorCode.INVALID_REQUEST)
            shard = self._shard(group_id)
            if request.member_id and group_id not in shard.groups:
                raise KafkaError(ErrorCode.UNKNOWN_MEMBER_ID)
            self._make_room_for(shard, group_id, request)
        except KafkaError as error:
            return JoinGroupResponse(error_code=error.code, member_id=request.member_id)
        now = self._now()
        group = shard.group(group_id, now.wall_ms)
        self._perform(shard, group, group.join(request, reply, now))
        shard.forget_if_vacant(group_id)
        return reply.take()

    def _make_room_for(self, shard: Shard, group_id: str, request: Joining) -> None:
        """Raise unless the member may take the memory that it asks for; one that does not grow always may."""
        weight = weight_of(request.client_id, request.group_instance_id, request.protocols)
        group = shard.groups.get(group_id)
        if group is not None:
            members = group.members
            weight -= members.weight_of_member(request.member_id, request.group_instance_id)
        self._make_room(weight)

    def sync(
        self,
        group_id: str,
        member_id: str,
        instance_id: str | None,
        generation: int,
        protocol_type: str | None,
        protocol_name: str | None,
        assignments: dict[str, bytes],
    ) -> SyncGroupResponse | asyncio.Future[SyncGroupResponse]:
        """SyncGroup: answered when the generation's assignment is committed, or at once with an error."""
        reply: Reply[SyncGroupResponse] = Reply()
        try:
            shard, group = self._member_group(group_id)
            if assignments:
                assigned = sum(len(member.assignment) for member in group.members)
                self._make_room(sum(map(len, assignments.values())) - assigned)
            outcome = group.sync(
                member_id,
                instance_id,
                generation,
                protocol_type,
                protocol_name,
                assignments,
                reply,
                self._now(),
            )
        except KafkaError as error:
            # The rebalance that it belongs to was lost with the coordinator's memory, and clients do not
            # expect the other word here: Java's would give up (``GroupCoordinator.doSyncGroup``).
            is_loading = error.code is ErrorCode.COORDINATOR_LOAD_IN_PROGRESS
            code = ErrorCode.REBALANCE_IN_PROGRESS if is_loading else error.code
            return SyncGroupResponse(error_code=code)
        self._perform(shard, group, outcome)
        return reply.take()

    def heartbeat(
        self, group_id: str, member_id: str, instance_id: str | None, generation: int
    ) -> ErrorCode:
        """Heartbeat: NONE, or why the member should do something else."""
        try:
            shard, group = self._member_group(group_id)
            code = group.heartbeat(member_id, instance_id, generation, self._now())
        except KafkaError as error:
            # While its group is being loaded nobody's session can end: there is nothing to tell.
            is_loading = error.code is ErrorCode.COORDINATOR_LOAD_IN_PROGRESS
            return ErrorCode.NONE if is_loading else error.code
        self._set_alarm(shard, group)
        return code

    def leave(
        self, group_id: str, members: Sequence[tuple[str, str | None]]
    ) -> tuple[ErrorCode, list[ErrorCode]] | asyncio.Future[tuple[ErrorCode, list[ErrorCode]]]:
        """LeaveGroup of (member id, instance id) pairs: an error for all, and one for each."""
        try:
            shard, group = self._member_group(group_id)
        except KafkaError as error:
            if error.code is ErrorCode.UNKNOWN_MEMBER_ID:
                return ErrorCode.NONE, [error.code] * len(members)
            return error.code, []
        codes, outcome = group.leave(list(members), self._now())
        has_record = outcome.store is not None
        self._perform(shard, group, outcome)
        shard.forget_if_vacant(group_id)
        end_offset = shard.readable_at(group_id) if has_record else 0
        answer = (ErrorCode.NONE, codes)
        return self._parked(shard, end_offset, answer, lambda code: (answer_for(code), []))

    # --- offsets ---

    def commit_offsets(
        self,
        group_id: str,
        member_id: str,
        instance_id: str | None,
        generation: int,
        commits: Sequence[Commit],
        *,
        retention_ms: int = -1,
        unknown_group: ErrorCode = ErrorCode.ILLEGAL_GENERATION,
    ) -> list[ErrorCode] | asyncio.Future[list[ErrorCode]]:
        """OffsetCommit: an error code for each of ``commits``, once they are committed.

        A generation below 0 is a client that does not let itself be managed. ``retention_ms`` is the
        offsets' own retention (OffsetCommit up to version 4), -1 for the broker's.
        """

        def failed(code: ErrorCode) -> list[ErrorCode]:
            told = answer_for(code, too_large=ErrorCode.INVALID_COMMIT_OFFSET_SIZE)
            return [told if own is ErrorCode.NONE else own for own in codes]

        codes = [self._check_metadata(commit) for commit in commits]
        now = self._now()
        try:
            shard = self._shard(group_id)
            if group_id not in shard.groups and generation >= 0:
                raise KafkaError(unknown_group)
            group = shard.group(group_id, now.wall_ms)
            try:
                group.check_commit(member_id, instance_id, generation, now)
                self._set_alarm(shard, group)
                end_offset = self._store_offsets(shard, group_id, commits, codes, retention_ms)
            finally:
                shard.forget_if_vacant(group_id)
        except KafkaError as error:
            return failed(error.code)
        return self._parked(shard, end_offset, codes, failed)

    def _store_offsets(
        self,
        shard: Shard,
        group_id: str,
        commits: Sequence[Commit],
        codes: list[ErrorCode],
        retention_ms: int,
    ) -> int:
        now_ms = self._clock.now_ms()
        expiry_ms = (
            min(now_ms + retention_ms, _TIMESTAMP_MAX) if retention_ms >= 0 else NO_TIMESTAMP
        )
        kept = []
        for commit, code in zip(commits, codes, strict=True):
            if code is ErrorCode.NONE:
                committed = CommittedOffset(
                    commit.offset, commit.leader_epoch, commit.metadata, now_ms, expiry_ms
                )
                kept.append((commit.topic, commit.partition, committed))
        if not kept:
            return 0
        records = [offset_record(group_id, *each) for each in kept]
        end_offset = self._append(shard, group_id, records)
        for topic, partition, committed in kept:
            shard.offsets.put(group_id, topic, partition, committed)
        return end_offset

    def _check_metadata(self, commit: Commit) -> ErrorCode:
        # Kafka's limit is called bytes and counts UTF-16 units.
        text = commit.metadata
        limit = self._settings.offset_metadata_max_bytes
        if text and not text.isascii():
            encoded = text.encode("utf-16-le", "surrogatepass")
            is_too_large = len(encoded) // 2 > limit or len(text) * 4 > STRING_BYTES_MAX
        else:
            is_too_large = len(text) > min(limit, STRING_BYTES_MAX)
        return ErrorCode.OFFSET_METADATA_TOO_LARGE if is_too_large else ErrorCode.NONE

    def fetch_offsets(
        self, group_id: str, wanted: Sequence[tuple[str, Sequence[int]]] | None
    ) -> FetchedOffsets | asyncio.Future[FetchedOffsets]:
        """OffsetFetch of one group: the wanted partitions of topics, or (None) everything it committed."""

        def failed(code: ErrorCode) -> FetchedOffsets:
            # Clients before Kafka 3.9 know no other word for "look for the coordinator again".
            told = answer_for(code)
            if told is ErrorCode.COORDINATOR_NOT_AVAILABLE and code is not told:
                told = ErrorCode.NOT_COORDINATOR
            return FetchedOffsets(told, [])

        try:
            shard = self._shard(group_id)
        except KafkaError as error:
            return failed(error.code)
        known = shard.offsets.of(group_id)
        topics: list[tuple[str, list[tuple[int, CommittedOffset | None]]]]
        if wanted is None:
            topics = [(topic, list(partitions.items())) for topic, partitions in known.items()]
        else:
            topics = []
            for topic, numbers in wanted:
                partitions = known.get(topic, {})
                topics.append((topic, [(number, partitions.get(number)) for number in numbers]))
        answer = FetchedOffsets(ErrorCode.NONE, topics)
        return self._parked(shard, shard.readable_at(group_id), answer, failed)

    # --- administration ---

    def describe(self, group_id: str) -> DescribedGroup | asyncio.Future[DescribedGroup]:
        """DescribeGroups of one group; GROUP_ID_NOT_FOUND and state Dead for one that is not known."""

        def failed(code: ErrorCode) -> DescribedGroup:
            return DescribedGroup(group_id=group_id, error_code=answer_for(code))

        try:
            shard = self._shard(group_id)
        except KafkaError as error:
            return failed(error.code)
        group = shard.groups.get(group_id)
        if group is None:
            described = DescribedGroup(
                group_id=group_id,
                group_state=GroupState.DEAD.value,
                error_code=ErrorCode.GROUP_ID_NOT_FOUND,
                error_message=f"Group {group_id} not found.",
            )
        else:
            described = _describe(group)
        return self._parked(shard, shard.readable_at(group_id), described, failed)

    def list_groups(
        self, states: Collection[str] = (), types: Collection[str] = ()
    ) -> ListedGroups | asyncio.Future[ListedGroups]:
        """ListGroups: all groups of our partitions, in one of ``states`` and ``types`` where given."""
        if self._is_closed or self._is_fenced():
            return ListedGroups(ErrorCode.COORDINATOR_NOT_AVAILABLE, [])
        shards = list(self._shards.values())
        if any(shard.is_loading for shard in shards):
            return ListedGroups(ErrorCode.COORDINATOR_LOAD_IN_PROGRESS, [])
        wanted = {state.strip().lower() for state in states}
        is_wanted_type = not types or "classic" in {name.strip().lower() for name in types}
        parts: list[ListedGroups | asyncio.Future[ListedGroups]] = []
        for shard in shards:
            listed = [
                ListedGroup(
                    group_id=group.group_id,
                    protocol_type=group.protocol_type or "",
                    group_state=group.state.value,
                    group_type="classic",
                )
                for group in shard.groups.values()
                if is_wanted_type and (not states or group.state.lower() in wanted)
            ]
            part = ListedGroups(ErrorCode.NONE, listed)
            parts.append(self._parked(shard, shard.end_offset, part, _not_listed))
        return then(gather(parts), _join_lists)

    def delete_group(self, group_id: str) -> ErrorCode | asyncio.Future[ErrorCode]:
        """DeleteGroups of one group: it must be empty; its offsets go with it."""
        try:
            shard = self._shard(group_id)
            group = shard.groups.get(group_id)
            if group is None:
                raise KafkaError(ErrorCode.GROUP_ID_NOT_FOUND)
            if not group.is_empty:
                raise KafkaError(ErrorCode.NON_EMPTY_GROUP)
            topics = shard.offsets.of(group_id).items()
            self._bury(shard, group_id, [(topic, n) for topic, each in topics for n in each])
            self._bury_group(shard, group)
        except KafkaError as error:
            return answer_for(error.code)
        self._forget_when_committed(shard, group_id)
        return self._parked(shard, shard.readable_at(group_id), ErrorCode.NONE, answer_for)

    def delete_offsets(
        self, group_id: str, wanted: Sequence[tuple[str, int]]
    ) -> DeletedOffsets | asyncio.Future[DeletedOffsets]:
        """OffsetDelete: forget what a group has committed in some topics' partitions.

        The topics that its members read are not touched. A group that is left with nothing is forgotten.
        """

        def failed(code: ErrorCode) -> DeletedOffsets:
            return DeletedOffsets(answer_for(code), {})

        try:
            if not group_id:
                raise KafkaError(ErrorCode.INVALID_GROUP_ID)
            shard = self._shard(group_id)
            group = shard.groups.get(group_id)
            if group is None:
                raise KafkaError(ErrorCode.GROUP_ID_NOT_FOUND)
            if not group.is_empty and not group.is_consumer:
                raise KafkaError(ErrorCode.NON_EMPTY_GROUP)
            codes = {
                (topic, number): ErrorCode.GROUP_SUBSCRIBED_TO_TOPIC
                if group.reads(topic)
                else ErrorCode.NONE
                for topic, number in wanted
            }
            known = shard.offsets.of(group_id)
            self._bury(
                shard,
                group_id,
                [
                    (topic, number)
                    for (topic, number), code in codes.items()
                    if code is ErrorCode.NONE and number in known.get(topic, {})
                ],
            )
            shard.forget_if_vacant(group_id)
        except KafkaError as error:
            return failed(error.code)
        self._forget_when_committed(shard, group_id)
        answer = DeletedOffsets(ErrorCode.NONE, codes)
        return self._parked(shard, shard.readable_at(group_id), answer, failed)

    # --- helpers ---

    def _member_group(self, group_id: str) -> tuple[Shard, Group]:
        """Where a member's request goes; raises UNKNOWN_MEMBER_ID for a group that is not known."""
        if not group_id:
            raise KafkaError(ErrorCode.INVALID_GROUP_ID)
        shard = self._shard(group_id)
        group = shard.groups.get(group_id)
        if group is None:
            raise KafkaError(ErrorCode.UNKNOWN_MEMBER_ID)
        return shard, group

    def _parked(
        self, shard: Shard, end_offset: int, answer: T, failed: Callable[[ErrorCode], T]
    ) -> T | asyncio.Future[T]:
        """``answer`` once everything below ``end_offset`` is committed, or what ``failed`` makes of why not."""
        if end_offset <= shard.parking.end:
            return answer
        reply: Reply[T] = Reply()

        def deliver(code: ErrorCode) -> None:
            reply.give(answer if code is ErrorCode.NONE else failed(code))

        shard.parking.after(end_offset, deliver)
        return reply.take()


def _describe(group: Group) -> DescribedGroup:
    protocol = group.protocol_name if group.state is GroupState.STABLE else None
    return DescribedGroup(
        group_id=group.group_id,
        group_state=group.state.value,
        protocol_type=group.protocol_type or "",
        protocol_data=protocol or "",
        members=[
            DescribedGroupMember(
                member_id=member.member_id,
                group_instance_id=member.group_instance_id,
                client_id=member.client_id,
                client_host=member.client_host,
                member_metadata=member.protocols[protocol] if protocol is not None else b"",
                member_assignment=member.assignment,
            )
            for member in group.members
        ],
    )


def _not_listed(code: ErrorCode) -> ListedGroups:
    # A partition that went away meanwhile has its groups listed by its next leader.
    told = answer_for(code)
    return ListedGroups(ErrorCode.NONE if told is ErrorCode.NOT_COORDINATOR else told, [])


def _join_lists(parts: list[ListedGroups]) -> ListedGroups:
    error = next((part.error for part in parts if part.error), ErrorCode.NONE)
    if error is not ErrorCode.NONE:
        return ListedGroups(error, [])
    return ListedGroups(error, [group for part in parts for group in part.groups])
