"""The members of one group: dynamic, static (KIP-345) and pending (KIP-394), and their votes.

Rules: a member id stands for one member, and an instance id for one static member. Whoever waits for a
JoinGroup or SyncGroup answer is on his member, and is answered or handed back before the member goes. What
clients have sent and is kept here is weighed, in bytes: they decide how much it is (``kept_bytes``).
Source: ``ClassicGroup.java``, ``ClassicGroupMember.java``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from ottla.errors import ErrorCode, KafkaError
from ottla.groups.outcome import Waiter

NEVER = 1 << 62
"""A deadline that does not come."""

_MEMBER_BYTES = 1_000
_PROTOCOL_BYTES = 160
_PENDING_BYTES = 200
"""What Python takes for each, beside what is in it."""


def weight_of(client_id: str, instance_id: str | None, protocols: Mapping[str, bytes]) -> int:
    """About how many bytes of memory a member takes that has no assignment."""
    kept_bytes = _MEMBER_BYTES + len(client_id) + len(instance_id or "")
    for name, metadata in protocols.items():
        kept_bytes += _PROTOCOL_BYTES + len(name) + len(metadata)
    return kept_bytes


class Member:
    """One member. Timeouts in milliseconds, the deadline on the steady clock."""

    __slots__ = (
        "assignment",
        "client_host",
        "client_id",
        "deadline_ms",
        "group_instance_id",
        "is_new",
        "is_spared",
        "joining",
        "kept_bytes",
        "member_id",
        "protocols",
        "rebalance_timeout_ms",
        "session_timeout_ms",
        "syncing",
    )

    def __init__(
        self,
        member_id: str,
        group_instance_id: str | None,
        client_id: str,
        client_host: str,
        rebalance_timeout_ms: int,
        session_timeout_ms: int,
        protocols: dict[str, bytes],
        assignment: bytes = b"",
    ) -> None:
        self.member_id = member_id
        self.group_instance_id = group_instance_id
        self.client_id = client_id
        self.client_host = client_host
        self.rebalance_timeout_ms = rebalance_timeout_ms
        self.session_timeout_ms = session_timeout_ms
        self.protocols = protocols
        self.assignment = assignment
        self.joining: Waiter | None = None
        self.syncing: Waiter | None = None
        self.is_new = False
        self.is_spared = False
        """Whether its session goes on only because the broker stood still."""
        self.deadline_ms = NEVER
        self.kept_bytes = 0
        """What its group counts for it."""

    @property
    def is_static(self) -> bool:
        """Whether the member has an instance id, and keeps its place over a restart."""
        return self.group_instance_id is not None

    @property
    def is_excused(self) -> bool:
        """Whether it need not heartbeat now: it waits for us. A new member's wait is bounded all the same."""
        return not self.is_new and (self.joining is not None or self.syncing is not None)


class Membership:
    """The members of a group, in the order in which they came."""

    __slots__ = (
        "_joining",
        "_members",
        "_statics",
        "_supporters",
        "kept_bytes",
        "leader_id",
        "pending",
    )

    def __init__(self) -> None:
        self._members: dict[str, Member] = {}
        self._statics: dict[str, str] = {}
        self._supporters: dict[str, int] = {}
        self._joining = 0
        self.leader_id: str | None = None
        self.pending: dict[str, int] = {}
        """Ids that were given out and not yet used, each with its deadline on the steady clock."""
        self.kept_bytes = 0
        """About how much memory the members and the pending ones take."""

    def __len__(self) -> int:
        return len(self._members)

    def __iter__(self) -> Iterator[Member]:
        return iter(self._members.values())

    def __contains__(self, member_id: str) -> bool:
        return member_id in self._members

    def get(self, member_id: str) -> Member | None:
        """The member, if it is one."""
        return self._members.get(member_id)

    def weight_of_member(self, member_id: str, instance_id: str | None) -> int:
        """The ``kept_bytes`` of the member that has one of these ids; 0 if none has."""
        member = self._members.get(member_id or self.static_id(instance_id) or "")
        return member.kept_bytes if member is not None else 0

    def static_id(self, instance_id: str | None) -> str | None:
        """The member id that an instance id stands for now."""
        return self._statics.get(instance_id) if instance_id is not None else None

    @property
    def joining(self) -> int:
        """How many members wait for a JoinGroup answer."""
        return self._joining

    @property
    def all_joined(self) -> bool:
        """Whether nobody has to be waited for: every member is joining, and no id is out."""
        return self._joining == len(self._members) and not self.pending

    @property
    def rebalance_timeout_ms(self) -> int:
        """The longest that any member asks for."""
        return max((member.rebalance_timeout_ms for member in self), default=0)

    def check(self, member_id: str, instance_id: str | None) -> Member:
        """The member that a request is from; raises UNKNOWN_MEMBER_ID or FENCED_INSTANCE_ID."""
        if instance_id is not None:
            holder = self._statics.get(instance_id)
            if holder is None:
                raise KafkaError(ErrorCode.UNKNOWN_MEMBER_ID)
            if holder != member_id:
                raise KafkaError(ErrorCode.FENCED_INSTANCE_ID)
        member = self._members.get(member_id)
        if member is None:
            raise KafkaError(ErrorCode.UNKNOWN_MEMBER_ID)
        return member

    def promise(self, member_id: str, deadline_ms: int) -> None:
        """Keep a place for the id that a new client was told, until ``deadline_ms`` on the steady clock."""
        self.pending[member_id] = deadline_ms
        self.kept_bytes += _PENDING_BYTES + len(member_id)

    def add(self, member: Member, waiter: Waiter | None = None) -> None:
        """Take ``member`` in; the first one leads."""
        self._members[member.member_id] = member
        if member.group_instance_id is not None:
            self._statics[member.group_instance_id] = member.member_id
        if self.leader_id is None:
            self.leader_id = member.member_id
        self._count(member, 1)
        self._weigh(member)
        self._end_promise(member.member_id)
        if waiter is not None:
            self.park_join(member, waiter)

    def remove(self, member_id: str) -> tuple[Waiter | None, Waiter | None]:
        """Let a member or a pending one go; whoever waited on it for a join and a sync is handed back."""
        self._end_promise(member_id)
        member = self._members.pop(member_id, None)
        if member is None:
            return None, None
        self._count(member, -1)
        self.kept_bytes -= member.kept_bytes
        if member.group_instance_id is not None:
            del self._statics[member.group_instance_id]
        if self.leader_id == member_id:
            self.leader_id = next(iter(self._members), None)
        return self.release_join(member), self.release_sync(member)

    def replace_static(self, instance_id: str, member_id: str) -> Member:
        """Give a static member a new id; it keeps its place, its lead and its assignment."""
        old_id = self._statics[instance_id]
        old = self._members.pop(old_id)
        new = Member(
            member_id,
            instance_id,
            old.client_id,
            old.client_host,
            old.rebalance_timeout_ms,
            old.session_timeout_ms,
            old.protocols,
            old.assignment,
        )
        new.kept_bytes = old.kept_bytes
        self._members[member_id] = new
        self._statics[instance_id] = member_id
        if self.leader_id == old_id:
            self.leader_id = member_id
        return new

    def set_protocols(self, member: Member, protocols: dict[str, bytes]) -> None:
        """Let ``member`` offer other protocols than before."""
        self._count(member, -1)
        member.protocols = protocols
        self._count(member, 1)
        self._weigh(member)

    def assign(self, assignments: Mapping[str, bytes]) -> None:
        """Give every member its part of ``assignments``, by member id; nothing where it has none."""
        for member in self:
            member.assignment = assignments.get(member.member_id, b"")
            self._weigh(member)

    def park_join(self, member: Member, waiter: Waiter) -> Waiter | None:
        """Let ``waiter`` wait for the member's JoinGroup answer; the one that it takes the place of comes back."""
        before = self.release_join(member)
        member.joining = waiter
        self._joining += 1
        return before

    def release_join(self, member: Member) -> Waiter | None:
        """Whoever waits for the member's JoinGroup answer; nobody does afterwards."""
        waiter = member.joining
        if waiter is not None:
            member.joining = None
            self._joining -= 1
        return waiter

    def release_sync(self, member: Member) -> Waiter | None:
        """Whoever waits for the member's SyncGroup answer; nobody does afterwards."""
        waiter, member.syncing = member.syncing, None
        return waiter

    def elect_joined_leader(self) -> bool:
        """Whether a joining member leads now; a leader that did not come back loses to the first that did."""
        leader = self._members.get(self.leader_id) if self.leader_id is not None else None
        if leader is None:
            return False
        if leader.joining is None:
            heir = next((member for member in self if member.joining is not None), None)
            if heir is None:
                return False
            self.leader_id = heir.member_id
        return True

    def supports_any(self, names: Iterable[str]) -> bool:
        """Whether every member offers at least one of ``names``."""
        everyone = len(self._members)
        return any(self._supporters.get(name, 0) == everyone for name in names)

    def vote(self) -> str:
        """The protocol that wins: each member votes for the first of its own that all have.

        A tie goes to what was voted for first. There is always one: whoever has none in common is not let in.
        """
        everyone = len(self._members)
        votes: dict[str, int] = {}
        for member in self:
            choice = next(name for name in member.protocols if self._supporters[name] == everyone)
            votes[choice] = votes.get(choice, 0) + 1
        return max(votes, key=votes.__getitem__)

    def _weigh(self, member: Member) -> None:
        kept_bytes = len(member.assignment) + weight_of(
            member.client_id, member.group_instance_id, member.protocols
        )
        self.kept_bytes += kept_bytes - member.kept_bytes
        member.kept_bytes = kept_bytes

    def _end_promise(self, member_id: str) -> None:
        if self.pending.pop(member_id, None) is not None:
            self.kept_bytes -= _PENDING_BYTES + len(member_id)

    def _count(self, member: Member, step: int) -> None:
        supporters = self._supporters
        for name in member.protocols:
            count = supporters.get(name, 0) + step
            if count:
                supporters[name] = count
            else:
                supporters.pop(name, None)
