"""One classic group: what JoinGroup, SyncGroup, Heartbeat, LeaveGroup and OffsetCommit do to it.

The rules, from ``GroupMetadataManager.java`` and ``ClassicGroup.java``:

- A generation's leader gets the members, assigns, and syncs; every member of the generation gets that one
  assignment. A generation without an assignment leaves no record.
- A record is written when an assignment comes, when a static member takes another id in a stable group, and
  when a group becomes empty.
- A request with another generation changes nothing (ILLEGAL_GENERATION), nor does one from a member that is
  not in the group (UNKNOWN_MEMBER_ID) or was replaced (FENCED_INSTANCE_ID).

Differences from Kafka: a request that takes the place of one that still waits (a client that sent the same
JoinGroup or SyncGroup twice) has the earlier one answered with REBALANCE_IN_PROGRESS rather than never; a
replaced static member shows the client id and host of its new connection; no record is written for a group
that has only handed out a member id.
"""

from __future__ import annotations

from typing import NamedTuple

from ottla.errors import ErrorCode, KafkaError
from ottla.groups.lifecycle import GroupState, Lifecycle
from ottla.groups.membership import NEVER, Member
from ottla.groups.outcome import Moment, Outcome, Store, Waiter
from ottla.groups.settings import GroupSettings
from ottla.messages.group_log import GroupMetadataValue
from ottla.messages.sync_group import SyncGroupResponse

__all__ = ["Group", "GroupState", "Joining"]


class Joining(NamedTuple):
    """A JoinGroup, without its versions. Timeouts in milliseconds."""

    member_id: str
    """Empty for a client that has none yet."""
    group_instance_id: str | None
    client_id: str
    client_host: str
    session_timeout_ms: int
    rebalance_timeout_ms: int
    protocol_type: str
    protocols: dict[str, bytes]
    """Metadata by name, the preferred one first."""
    reason: str
    new_member_id: str
    """The id to give, if one is to be given."""
    knows_member_ids: bool
    """From version 4 on: a new dynamic member is told its id first, and joins with it (KIP-394)."""
    knows_skipping: bool
    """From version 9 on: a static leader that comes back leads on without assigning (KIP-814)."""


class Group(Lifecycle):
    """A group. Every operation takes the moment and returns what is to be done, or raises ``KafkaError``."""

    __slots__ = ()

    @classmethod
    def load(cls, group_id: str, value: GroupMetadataValue, settings: GroupSettings) -> Group:
        """The group of a record: stable if it has members, else empty."""
        group = cls(group_id, settings, value.current_state_timestamp)
        group.generation = value.generation
        group.protocol_type = value.protocol_type or None
        group.protocol_name = value.protocol
        group.persisted = True
        for stored in value.members:
            timeout = stored.rebalance_timeout
            member = Member(
                stored.member_id,
                stored.group_instance_id,
                stored.client_id,
                stored.client_host,
                stored.session_timeout if timeout == -1 else timeout,
                stored.session_timeout,
                {value.protocol or "": stored.subscription},
                stored.assignment,
            )
            group.members.add(member)
        if group.members:
            group.state = GroupState.STABLE
        group.members.leader_id = value.leader
        group._learn_topics()
        return group

    def activate(self, now: Moment) -> Outcome:
        """Let the sessions of a loaded group run from now on; one that is too large by now rebalances."""
        out = Outcome()
        for member in self.members:
            self._extend(member, now)
        if len(self.members) > self._settings.group_max_size:
            self._prepare(out, now, "the group is over group.max.size")
        return out

    def close(self) -> Outcome:
        """Answer everyone who waits: the group is another coordinator's now, or gone."""
        out = Outcome()
        for member in self.members:
            if (waiter := self.members.release_join(member)) is not None:
                self._refuse_join(out, waiter, ErrorCode.NOT_COORDINATOR, member.member_id)
            if (waiter := self.members.release_sync(member)) is not None:
                out.answer(waiter, SyncGroupResponse(error_code=ErrorCode.NOT_COORDINATOR))
        self.state = GroupState.DEAD
        self.wake_ms = NEVER
        return out

    # --- JoinGroup ---

    def join(self, request: Joining, waiter: Waiter, now: Moment) -> Outcome:
        """Let a client in, or in again. The answer is among the outcome's, or comes with a later one."""
        out = Outcome()
        member_id = request.member_id
        if self.state is GroupState.DEAD:
            self._refuse_join(out, waiter, ErrorCode.COORDINATOR_NOT_AVAILABLE, member_id)
        elif not self._has_room(member_id):
            self._drop(out, member_id)
            self._refuse_join(out, waiter, ErrorCode.GROUP_MAX_SIZE_REACHED)
            self._complete_if_joined(out, now)
        elif not self._can_speak(request):
            self._refuse_join(out, waiter, ErrorCode.INCONSISTENT_GROUP_PROTOCOL, member_id)
        elif member_id:
            self._join_known(out, request, waiter, now)
        elif request.group_instance_id is not None:
            if self.members.static_id(request.group_instance_id) is None:
                self._admit(out, request, request.new_member_id, waiter, now)
            else:
                self._replace_static(out, request, waiter, now)
        elif request.knows_member_ids:
            self._promise(out, request, waiter, now)
        else:
            self._admit(out, request, request.new_member_id, waiter, now)
        return out

    def _has_room(self, member_id: str) -> bool:
        limit = self._settings.group_max_size
        member = self.members.get(member_id)
        if self.state is GroupState.EMPTY:
            return True
        if self.state is GroupState.PREPARING:
            # Those who come back first stay: the group may be over a limit that was lowered.
            return (member is not None and member.joining is not None) or (
                self.members.joining < limit
            )
        return member is not None or len(self.members) < limit

    def _can_speak(self, request: Joining) -> bool:
        if self.state is GroupState.EMPTY:
            return bool(request.protocol_type and request.protocols)
        return self.protocol_type == request.protocol_type and self.members.supports_any(
            request.protocols
        )

    def _promise(self, out: Outcome, request: Joining, waiter: Waiter, now: Moment) -> None:
        """Tell a new client its id, and keep a place for it for one session."""
        if len(self.members.pending) >= self._settings.group_max_pending_members:
            self._refuse_join(out, waiter, ErrorCode.GROUP_MAX_SIZE_REACHED)
            return
        deadline_ms = now.monotonic_ms + request.session_timeout_ms
        self.members.promise(request.new_member_id, deadline_ms)
        self._wake_by(deadline_ms)
        self._refuse_join(out, waiter, ErrorCode.MEMBER_ID_REQUIRED, request.new_member_id)

    def _admit(
        self, out: Outcome, request: Joining, member_id: str, waiter: Waiter, now: Moment
    ) -> None:
        member = Member(
            member_id,
            request.group_instance_id,
            request.client_id,
            request.client_host,
            request.rebalance_timeout_ms,
            request.session_timeout_ms,
            request.protocols,
        )
        member.is_new = True
        if self.state is GroupState.PREPARING and self._previous is GroupState.EMPTY:
            self._joined_in_delay = True
        if not self.members:
            self.protocol_type = request.protocol_type
        self.members.add(member, waiter)
        # It cannot heartbeat before it knows its id, and a broken connection does not show while the
        # answer is parked: its first wait is bounded instead.
        self._extend(member, now, self._settings.group_new_member_join_timeout_ms)
        self._rebalance(out, now, f"new member {member_id}: {request.reason}")

    def _join_known(self, out: Outcome, request: Joining, waiter: Waiter, now: Moment) -> None:
        member_id = request.member_id
        if member_id in self.members.pending and request.group_instance_id is None:
            self._admit(out, request, member_id, waiter, now)
            return
        try:
            member = self.members.check(member_id, request.group_instance_id)
        except KafkaError as error:
            self._refuse_join(out, waiter, error.code, member_id)
            return
        changed = member.protocols != request.protocols or (
            list(member.protocols) != list(request.protocols)
        )
        leads_again = self.state is GroupState.STABLE and self.members.leader_id == member_id
        if self.state is GroupState.PREPARING or changed or leads_again:
            self._update(out, member, request, waiter)
            self._rebalance(out, now, f"member {member_id} joined again: {request.reason}")
        else:
            # It missed the answer to its JoinGroup: the generation goes on.
            out.answer(waiter, self._joined(member))

    def _update(self, out: Outcome, member: Member, request: Joining, waiter: Waiter) -> None:
        self.members.set_protocols(member, request.protocols)
        member.rebalance_timeout_ms = request.rebalance_timeout_ms
        member.session_timeout_ms = request.session_timeout_ms
        before = self.members.park_join(member, waiter)
        if before is not None:
            self._refuse_join(out, before, ErrorCode.REBALANCE_IN_PROGRESS, member.member_id)

    # --- static members ---

    def _replace_static(self, out: Outcome, request: Joining, waiter: Waiter, now: Moment) -> None:
        """A static member came back under its instance id: it gets a new member id, the old one is fenced."""
        instance_id = request.group_instance_id or ""
        old_leader_id = self.members.leader_id or ""
        old, member = self._rename_static(out, instance_id, request.new_member_id, now)
        member.client_id, member.client_host = request.client_id, request.client_host
        self._update(out, member, request, waiter)
        if self.state is GroupState.STABLE and self.members.vote() == self.protocol_name:
            self._keep_generation(out, request, old, old_leader_id)
        elif self.state is GroupState.PREPARING:
            self._complete_if_joined(out, now)
        else:
            # In CompletingRebalance the leader may be assigning to the old id.
            self._prepare(out, now, f"static member {instance_id} came back: {request.reason}")

    def _rename_static(
        self, out: Outcome, instance_id: str, member_id: str, now: Moment
    ) -> tuple[Member, Member]:
        old_id = self.members.static_id(instance_id) or ""
        old = self.members.check(old_id, instance_id)
        if (waiter := self.members.release_join(old)) is not None:
            self._refuse_join(out, waiter, ErrorCode.FENCED_INSTANCE_ID, old_id)
        if (waiter := self.members.release_sync(old)) is not None:
            out.answer(waiter, SyncGroupResponse(error_code=ErrorCode.FENCED_INSTANCE_ID))
        member = self.members.replace_static(instance_id, member_id)
        if old_id in self._pending_sync:
            self._pending_sync.remove(old_id)
            self._pending_sync.add(member_id)
        self._extend(member, now)
        return old, member

    def _keep_generation(
        self, out: Outcome, request: Joining, old: Member, old_leader_id: str
    ) -> None:
        """The new id is written down, and the generation goes on as if nothing had happened."""
        member_id = request.new_member_id

        def accepted(now: Moment) -> Outcome:
            then = Outcome()
            member = self.members.get(member_id)
            waiter = self.members.release_join(member) if member is not None else None
            if member is not None and waiter is not None:
                self._extend(member, now)
                response = self._joined(member)
                if request.knows_skipping:
                    response.skip_assignment = self.members.leader_id == member_id
                else:
                    # A leader would assign, and the group would not listen: let it not know itself.
                    response.leader, response.members = old_leader_id, []
                then.guard(waiter, response)
            return then

        def refused(code: ErrorCode, now: Moment) -> Outcome:
            then = Outcome()
            member = self.members.get(member_id)
            waiter = self.members.release_join(member) if member is not None else None
            if member is not None:
                self.members.set_protocols(member, old.protocols)
                _, back = self._rename_static(then, old.group_instance_id or "", old.member_id, now)
                back.rebalance_timeout_ms = old.rebalance_timeout_ms
                back.session_timeout_ms = old.session_timeout_ms
                back.client_id, back.client_host = old.client_id, old.client_host
            if waiter is not None:
                self._refuse_join(then, waiter, code)
            return then

        out.put(Store(self.value(), accepted, refused))

    # --- SyncGroup ---

    def sync(
        self,
        member_id: str,
        instance_id: str | None,
        generation: int,
        protocol_type: str | None,
        protocol_name: str | None,
        assignments: dict[str, bytes],
        waiter: Waiter,
        now: Moment,
    ) -> Outcome:
        """Take the leader's assignment, or wait for it. The answer may come with a later outcome."""
        member = self.check_member(member_id, instance_id, generation)
        for given, own in (
            (protocol_type, self.protocol_type),
            (protocol_name, self.protocol_name),
        ):
            if given is not None and own is not None and given != own:
                raise KafkaError(ErrorCode.INCONSISTENT_GROUP_PROTOCOL)
        out = Outcome()
        if self.state is GroupState.PREPARING:
            raise KafkaError(ErrorCode.REBALANCE_IN_PROGRESS)
        self._pending_sync.discard(member_id)
        if not self._pending_sync:
            self._sync_deadline_ms = NEVER
        if self.state is GroupState.STABLE:
            out.guard(waiter, self._synced(member))
            return out
        before = self.members.release_sync(member)
        if before is not None:
            code = ErrorCode.REBALANCE_IN_PROGRESS
            out.answer(before, SyncGroupResponse(error_code=code))
        member.syncing = waiter
        if self.members.leader_id == member_id:
            self._store_assignment(out, assignments)
        return out

    def _store_assignment(self, out: Outcome, assignments: dict[str, bytes]) -> None:
        def accepted(now: Moment) -> Outcome:
            then = Outcome()
            self.members.assign(assignments)
            for member in self.members:
                waiter = self.members.release_sync(member)
                if waiter is not None:
                    self._extend(member, now)
                    then.guard(waiter, self._synced(member))
            self._enter(GroupState.STABLE, now)
            return then

        def refused(code: ErrorCode, now: Moment) -> Outcome:
            then = Outcome()
            self._fail_syncs(then, code, now)
            self._prepare(then, now, f"the assignment could not be stored: {code.name}")
            return then

        out.put(Store(self.value(assignments), accepted, refused))

    def _synced(self, member: Member) -> SyncGroupResponse:
        return SyncGroupResponse(
            protocol_type=self.protocol_type,
            protocol_name=self.protocol_name,
            assignment=member.assignment,
        )

    # --- Heartbeat, LeaveGroup, OffsetCommit ---

    def check_member(self, member_id: str, instance_id: str | None, generation: int) -> Member:
        """The member behind a request; raises what Kafka's ``validateMember`` and generation check do."""
        if self.state is GroupState.DEAD:
            raise KafkaError(ErrorCode.COORDINATOR_NOT_AVAILABLE)
        member = self.members.check(member_id, instance_id)
        if generation != self.generation:
            raise KafkaError(ErrorCode.ILLEGAL_GENERATION)
        return member

    def heartbeat(
        self, member_id: str, instance_id: str | None, generation: int, now: Moment
    ) -> ErrorCode:
        """Extend a session. The answer is NONE, or REBALANCE_IN_PROGRESS to one who should join again."""
        member = self.check_member(member_id, instance_id, generation)
        self._extend(member, now)
        if self.state is GroupState.PREPARING:
            return ErrorCode.REBALANCE_IN_PROGRESS
        return ErrorCode.NONE

    def leave(
        self, leaving: list[tuple[str, str | None]], now: Moment
    ) -> tuple[list[ErrorCode], Outcome]:
        """Let members go, each a pair of member id and instance id; one error code for each.

        An empty member id with an instance id is an administrator removing a static member.
        """
        out = Outcome()
        codes = []
        for member_id, instance_id in leaving:
            try:
                self._leave_one(out, member_id, instance_id)
            except KafkaError as error:
                codes.append(error.code)
            else:
                codes.append(ErrorCode.NONE)
        if ErrorCode.NONE in codes:
            if self.state in (GroupState.STABLE, GroupState.COMPLETING):
                self._prepare(out, now, f"{codes.count(ErrorCode.NONE)} members left")
            else:
                self._complete_if_joined(out, now)
        return codes, out

    def _leave_one(self, out: Outcome, member_id: str, instance_id: str | None) -> None:
        if self.state is GroupState.DEAD:
            raise KafkaError(ErrorCode.COORDINATOR_NOT_AVAILABLE)
        if not member_id:
            member_id = self.members.static_id(instance_id) or ""
        if member_id not in self.members.pending:
            self.members.check(member_id, instance_id)
        self._drop(out, member_id)

    def check_commit(
        self, member_id: str, instance_id: str | None, generation: int, now: Moment
    ) -> None:
        """Raise unless these offsets may be committed; a member's commit extends its session.

        Without a generation, offsets may be committed while nobody manages the group. Members commit in
        their generation only, and not while its assignment is not there yet.
        """
        if self.state is GroupState.DEAD:
            raise KafkaError(ErrorCode.COORDINATOR_NOT_AVAILABLE)
        if generation < 0 and self.is_empty:
            return
        if generation < 0 and not member_id and instance_id is None:
            raise KafkaError(ErrorCode.UNKNOWN_MEMBER_ID)
        member = self.check_member(member_id, instance_id, generation)
        if self.state is GroupState.COMPLETING:
            raise KafkaError(ErrorCode.REBALANCE_IN_PROGRESS)
        self._extend(member, now)
