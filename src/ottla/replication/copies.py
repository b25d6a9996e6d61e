"""One partition that is copied from a leader: what it waits for, where it is, what is to be cut of it. Sans-IO."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from ottla.messages.fetch import PartitionData
    from ottla.replication.replica import Replica


class Limits(NamedTuple):
    """What the settings ``replica.fetch.*`` say. Sizes in bytes, times in milliseconds."""

    max_bytes: int
    response_max_bytes: int
    min_bytes: int
    wait_max_ms: int
    backoff_ms: int


class State(Enum):
    """What a partition waits for."""

    READY = "ready"
    """To be asked for, or for the answer."""
    DELAYED = "delayed"
    """For some time to pass: something failed."""
    HELD = "held"
    """For its log to be cut, or for the leader to say where its log starts and ends."""
    STOPPED = "stopped"
    """For the controller: its log directory failed, or it is damaged."""


class Position(NamedTuple):
    """Where a follower is, as it tells the leader."""

    fetch_offset: int
    log_start_offset: int
    leader_epoch: int
    last_fetched_epoch: int


class Copy:
    """One partition that is copied from this leader, in one epoch of it."""

    __slots__ = ("due", "failures", "lag", "leader_epoch", "leader_start", "replica", "state")

    def __init__(self, replica: Replica) -> None:
        self.replica = replica
        self.leader_epoch = replica.leader_epoch
        self.state = State.READY
        self.due = 0.0
        self.failures = 0
        self.lag: int | None = None
        """How many records the leader has committed that are missing here; None before the first answer."""
        self.leader_start = 0
        """Where the leader's log starts."""

    def __repr__(self) -> str:
        return f"Copy({self.replica!r}, epoch {self.leader_epoch}, {self.state.value})"

    @property
    def position(self) -> Position:
        """What to ask for now."""
        of = self.replica.log
        return Position(of.log_end_offset, of.log_start_offset, self.leader_epoch, of.latest_epoch)

    @property
    def is_caught_up(self) -> bool:
        """Whether nothing that the leader has committed was missing at its last answer."""
        return self.lag == 0


class Cut(NamedTuple):
    """A log is to be cut to ``offset``; ``fully``: to drop everything and begin there, with ``data`` if it is given."""

    copy: Copy
    offset: int
    fully: bool
    why: str
    data: PartitionData | None
