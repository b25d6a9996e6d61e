"""A group's states, generations and deadlines: what happens to it by itself and by time.

    Empty → PreparingRebalance → CompletingRebalance → Stable → PreparingRebalance …   (Dead once unloaded)

The rules, from ``GroupMetadataManager.java`` and ``ClassicGroup.java``:

- A generation begins when everybody who was waited for has joined, or the rebalance timeout is over; those
  who are not there then are out, static members aside.
- Deadlines are kept, not scheduled: ``wake_ms`` is never after the earliest of them, and the shell calls
  ``expire`` then. A heartbeat moves its member's deadline and costs nothing else.
- Nobody who waits is forgotten: whoever is removed or overtaken while a request of his is parked gets an
  error at once.
"""

from __future__ import annotations

from enum import StrEnum

from ottla.errors import ErrorCode
from ottla.groups.membership import NEVER, Member, Membership
from ottla.groups.outcome import Moment, Outcome, Store, Waiter
from ottla.groups.settings import GroupSettings
from ottla.groups.subscription import CONSUMER, subscribed_topics
from ottla.logs import logger
from ottla.messages.group_log import GroupMetadataValue, MemberMetadata
from ottla.messages.join_group import JoinGroupResponse, JoinGroupResponseMember
from ottla.messages.sync_group import SyncGroupResponse

log = logger(__name__)

REBALANCE_RETRY_MS_MIN = 100
"""How soon, at the earliest, a rebalance to which nobody came is looked at again."""


class GroupState(StrEnum):
    """The states, by the names that ListGroups and DescribeGroups show."""

    EMPTY = "Empty"
    PREPARING = "PreparingRebalance"
    COMPLETING = "CompletingRebalance"
    STABLE = "Stable"
    DEAD = "Dead"


class Lifecycle:
    """What ``Group`` stands on: no request is known here."""

    __slots__ = (
        "_delay_left_ms",
        "_delay_ms",
        "_join_deadline_ms",
        "_joined_in_delay",
        "_pending_sync",
        "_previous",
        "_settings",
        "_sync_deadline_ms",
        "generation",
        "group_id",
        "kept_bytes",
        "members",
        "persisted",
        "protocol_name",
        "protocol_type",
        "rebalances",
        "state",
        "state_since_ms",
        "topics",
        "wake_ms",
    )

    def __init__(self, group_id: str, settings: GroupSettings, now_ms: int) -> None:
        self.group_id = group_id
        self.state = GroupState.EMPTY
        self.rebalances = 0
        self.state_since_ms = now_ms
        """Wall time of the last change of state; -1 where an old record does not tell."""
        self.generation = 0
        self.protocol_type: str | None = None
        """None for a group that only keeps offsets ("simple")."""
        self.protocol_name: str | None = None
        self.members = Membership()
        self.topics: frozenset[str] | None = None
        """What the members of a consumer group read; None where that is not known."""
        self.kept_bytes = 0
        """What its shard counts for it."""
        self.persisted = False
        """Whether the log may hold a record of the group."""
        self.wake_ms = NEVER
        self._settings = settings
        self._previous = GroupState.DEAD
        self._pending_sync: set[str] = set()
        self._join_deadline_ms = NEVER
        self._sync_deadline_ms = NEVER
        self._delay_ms = 0
        self._delay_left_ms = 0
        self._joined_in_delay = False

    # --- what the group is ---

    @property
    def is_empty(self) -> bool:
        """Whether the group has no members (it may have handed out ids)."""
        return self.state is GroupState.EMPTY

    @property
    def is_consumer(self) -> bool:
        """Whether its members are consumers (and not, say, Connect workers)."""
        return self.protocol_type == CONSUMER

    def reads(self, topic: str) -> bool:
        """Whether the group is subscribed to ``topic``; where nobody knows, a consumer group is."""
        return topic in self.topics if self.topics is not None else self.is_consumer

    def value(self, assignments: dict[str, bytes] | None = None) -> GroupMetadataValue:
        """The group's record, with the assignments that it has or with others."""
        protocol = self.protocol_name
        return GroupMetadataValue(
            protocol_type=self.protocol_type or "",
            generation=self.generation,
            protocol=protocol,
            leader=self.members.leader_id,
            current_state_timestamp=self.state_since_ms,
            members=[
                MemberMetadata(
                    member_id=member.member_id,
                    group_instance_id=member.group_instance_id,
                    client_id=member.client_id,
                    client_host=member.client_host,
                    rebalance_timeout=member.rebalance_timeout_ms,
                    session_timeout=member.session_timeout_ms,
                    subscription=member.protocols[protocol or ""],
                    assignment=member.assignment
                    if assignments is None
                    else assignments.get(member.member_id, b""),
                )
                for member in self.members
            ],
        )

    # --- time ---

    def expire(self, now: Moment) -> Outcome:
        """Do everything whose time has come; ``wake_ms`` is right afterwards."""
        out = Outcome()
        self.wake_ms = NEVER
        now_ms = now.monotonic_ms
        for member_id in [key for key, due in self.members.pending.items() if due <= now_ms]:
            self._drop(out, member_id)
            if self.state is GroupState.PREPARING and self.members.all_joined:
                self._complete_join(out, now)
        for member in [member for member in self.members if member.deadline_ms <= now_ms]:
            self._end_session(out, member, now)
        if self._join_deadline_ms <= now_ms:
            self._end_of_waiting(out, now)
        if self._sync_deadline_ms <= now_ms:
            self._end_of_syncing(out, now)
        deadlines = [member.deadline_ms for member in self.members]
        deadlines += self.members.pending.values()
        deadlines += (self._join_deadline_ms, self._sync_deadline_ms)
        self.wake_ms = min(deadlines)
        return out

    def spare(self, now: Moment, deaf_until_ms: int = -1, *, stalled: bool = True) -> None:
        """The broker itself heard nobody: sessions that ended meanwhile begin anew.

        It stood still (``stalled``): once for each member until it is heard of, so that a broker that is
        always late is rid of the dead. Or it turned everybody away until ``deaf_until_ms``: whose session
        began before.
        """
        for member in self.members:
            if member.deadline_ms > now.monotonic_ms:
                continue
            if member.deadline_ms - member.session_timeout_ms <= deaf_until_ms:
                self._extend(member, now)
            elif stalled and not member.is_spared:
                self._extend(member, now)
                member.is_spared = True

    def _end_session(self, out: Outcome, member: Member, now: Moment) -> None:
        if (
            self.members.get(member.member_id) is not member
            or member.deadline_ms > now.monotonic_ms
        ):
            return  # what an earlier member's end brought about has removed or renewed this one
        member.deadline_ms = NEVER
        if member.is_excused:
            return
        log.info("a member's session ended", group=self.group_id, member=member.member_id)
        self._drop(out, member.member_id)
        if self.state in (GroupState.STABLE, GroupState.COMPLETING):
            self._prepare(out, now, f"the session of {member.member_id} ended")
        elif self.state is GroupState.PREPARING and self.members.all_joined:
            self._complete_join(out, now)

    def _end_of_waiting(self, out: Outcome, now: Moment) -> None:
        """The initial delay or the rebalance timeout is over."""
        self._join_deadline_ms = NEVER
        if self.state is not GroupState.PREPARING:
            return
        if self._previous is GroupState.EMPTY and self._joined_in_delay and self._delay_left_ms:
            self._joined_in_delay = False
            delay_ms = min(self._settings.group_initial_rebalance_delay_ms, self._delay_left_ms)
            self._delay_left_ms = max(self._delay_left_ms - self._delay_ms, 0)
            self._delay_ms = delay_ms
            self._join_by(now.monotonic_ms + delay_ms)
        else:
            self._complete_join(out, now)

    def _end_of_syncing(self, out: Outcome, now: Moment) -> None:
        """The members of the generation that never synced are gone."""
        self._sync_deadline_ms = NEVER
        if not self._pending_sync:
            return
        for member_id in sorted(self._pending_sync):
            self._drop(out, member_id)
        self._prepare(out, now, "members did not sync")

    # --- rebalances ---

    def _rebalance(self, out: Outcome, now: Moment, reason: str) -> None:
        if self.state is GroupState.PREPARING:
            self._complete_if_joined(out, now)
        else:
            self._prepare(out, now, reason)

    def _prepare(self, out: Outcome, now: Moment, reason: str) -> None:
        """Begin a rebalance; it completes at once when nobody has to be waited for."""
        if self.state is GroupState.COMPLETING:
            self._fail_syncs(out, ErrorCode.REBALANCE_IN_PROGRESS, now)
        self._pending_sync.clear()
        self._sync_deadline_ms = NEVER
        log.info(
            "a group rebalances", group=self.group_id, generation=self.generation, reason=reason
        )
        self.rebalances += 1
        is_initial = self.is_empty
        self._enter(GroupState.PREPARING, now)
        timeout_ms = self.members.rebalance_timeout_ms
        if not is_initial:
            if self.members.all_joined:
                self._complete_join(out, now)
            else:
                self._join_by(now.monotonic_ms + timeout_ms)
            return
        # A new group gives the others who are starting too time to come (KIP-134).
        delay_ms = self._settings.group_initial_rebalance_delay_ms
        self._delay_ms, self._delay_left_ms = delay_ms, max(timeout_ms - delay_ms, 0)
        self._joined_in_delay = False
        if delay_ms <= 0:
            self._complete_join(out, now)
        else:
            self._join_by(now.monotonic_ms + delay_ms)

    def _complete_if_joined(self, out: Outcome, now: Moment) -> None:
        if (
            self.state is GroupState.PREPARING
            and self._previous is not GroupState.EMPTY
            and self.members.all_joined
        ):
            self._complete_join(out, now)

    def _complete_join(self, out: Outcome, now: Moment) -> None:
        """Begin the next generation with those who are here."""
        self._join_deadline_ms = NEVER
        for member in [m for m in self.members if m.joining is None and not m.is_static]:
            self._drop(out, member.member_id)
        if not self.members.elect_joined_leader() and self.members:
            # Only static members are left, and none of them is here: their sessions decide.
            wait_ms = max(self.members.rebalance_timeout_ms, REBALANCE_RETRY_MS_MIN)
            self._join_by(now.monotonic_ms + wait_ms)
            return
        self.generation = (self.generation + 1) & 0x7FFFFFFF
        self._pending_sync.clear()
        if not self.members:
            self.protocol_name = None
            self._learn_topics()
            self._enter(GroupState.EMPTY, now)
            log.info("a group is empty", group=self.group_id, generation=self.generation)
            out.put(Store(self.value(), _nothing, self._forget_refusal))
            return
        self.protocol_name = self.members.vote()
        self._learn_topics()
        self._enter(GroupState.COMPLETING, now)
        for member in self.members:
            waiter = self.members.release_join(member)
            if waiter is not None:
                out.answer(waiter, self._joined(member))
            member.is_new = False
            self._extend(member, now)
            self._pending_sync.add(member.member_id)
        self._sync_deadline_ms = now.monotonic_ms + self.members.rebalance_timeout_ms
        self._wake_by(self._sync_deadline_ms)

    def _forget_refusal(self, code: ErrorCode, now: Moment) -> Outcome:
        # Until the next record the log shows an earlier generation, whose members time out: no harm.
        log.warning("an empty group could not be stored", group=self.group_id, error=code.name)
        return Outcome()

    def _joined(self, member: Member) -> JoinGroupResponse:
        leads = self.members.leader_id == member.member_id
        protocol = self.protocol_name or ""
        return JoinGroupResponse(
            generation_id=self.generation,
            protocol_type=self.protocol_type,
            protocol_name=self.protocol_name,
            leader=self.members.leader_id or "",
            member_id=member.member_id,
            members=[
                JoinGroupResponseMember(
                    member_id=each.member_id,
                    group_instance_id=each.group_instance_id,
                    metadata=each.protocols[protocol],
                )
                for each in self.members
            ]
            if leads
            else [],
        )

    # --- small things ---

    def _fail_syncs(self, out: Outcome, code: ErrorCode, now: Moment) -> None:
        self.members.assign({})
        for member in self.members:
            waiter = self.members.release_sync(member)
            if waiter is not None:
                self._extend(member, now)
                out.answer(waiter, SyncGroupResponse(error_code=code))

    def _drop(self, out: Outcome, member_id: str) -> None:
        """Remove a member or a pending one. If it waits, it shall come again as a new one."""
        joining, syncing = self.members.remove(member_id)
        self._pending_sync.discard(member_id)
        if joining is not None:
            self._refuse_join(out, joining, ErrorCode.UNKNOWN_MEMBER_ID)
        if syncing is not None:
            out.answer(syncing, SyncGroupResponse(error_code=ErrorCode.UNKNOWN_MEMBER_ID))

    def _refuse_join(
        self, out: Outcome, waiter: Waiter, code: ErrorCode, member_id: str = ""
    ) -> None:
        out.answer(waiter, JoinGroupResponse(error_code=code, member_id=member_id))

    def _enter(self, state: GroupState, now: Moment) -> None:
        self._previous, self.state = self.state, state
        self.state_since_ms = now.wall_ms

    def _learn_topics(self) -> None:
        protocol = self.protocol_name
        if not self.is_consumer:
            self.topics = None
        elif not self.members:
            self.topics = frozenset()
        elif protocol is not None:
            self.topics = subscribed_topics(member.protocols[protocol] for member in self.members)

    def _extend(self, member: Member, now: Moment, timeout_ms: int | None = None) -> None:
        wait_ms = member.session_timeout_ms if timeout_ms is None else timeout_ms
        member.deadline_ms = deadline_ms = now.monotonic_ms + wait_ms
        member.is_spared = False
        if deadline_ms < self.wake_ms:
            self.wake_ms = deadline_ms

    def _join_by(self, deadline_ms: int) -> None:
        self._join_deadline_ms = deadline_ms
        self._wake_by(deadline_ms)

    def _wake_by(self, deadline_ms: int) -> None:
        self.wake_ms = min(self.wake_ms, deadline_ms)


def _nothing(now: Moment) -> Outcome:
    return Outcome()
