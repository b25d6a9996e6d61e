"""What a partition's leader has to know of the cluster around it, and whom it asks for a change of its ISR."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from ottla.clock import Clock, SystemClock

if TYPE_CHECKING:
    from ottla.replication.in_sync import Proposal
    from ottla.replication.leading import LeadingReplica
    from ottla.replication.partition import Partition
    from ottla.replication.quota import ReplicationQuota

LAG_MAX_MS = 30_000
"""The default of ``replica.lag.time.max.ms``."""


class Changes(Protocol):
    """Brings proposals before the controller: ``isr_changes.IsrChanges``."""

    def submit(self, partition: Partition, proposal: Proposal) -> None:
        """Ask for it; the partition is told of the answer."""
        ...

    async def close(self) -> None:
        """Ask for nothing any more."""
        ...


def every_broker(broker_id: int) -> bool:
    """All brokers are alive."""
    return True


class Peers:
    """One for a broker: its partitions share it, and ask each time."""

    __slots__ = (
        "_clock",
        "changes",
        "is_alive",
        "lag_max_ms",
        "leader_quota",
        "on_stuck",
        "selects_replicas",
    )

    def __init__(
        self,
        clock: Clock | None = None,
        *,
        lag_max_ms: Callable[[], int] = lambda: LAG_MAX_MS,
        is_alive: Callable[[int], bool] = every_broker,
        changes: Changes | None = None,
        leader_quota: ReplicationQuota | None = None,
    ) -> None:
        """``lag_max_ms`` is ``replica.lag.time.max.ms``.

        Without ``changes`` no ISR changes but by the controller's own doing.
        """
        self._clock: Clock = clock if clock is not None else SystemClock()
        self.lag_max_ms = lag_max_ms
        self.is_alive = is_alive
        self.changes = changes
        self.leader_quota = leader_quota
        """What leaders here may send of throttled replicas; None: they send all."""
        self.on_stuck: Callable[[LeadingReplica, int], None] | None = None
        """Told of the offset that a follower asks a leader for and does not get past."""
        self.selects_replicas = False
        """Whether consumers read from followers (KIP-392), so that those hear of a high watermark at once."""

    def now_ms(self) -> int:
        """Milliseconds that never go back: how far behind a follower is does not hang on the wall's clock."""
        return int(self._clock.monotonic() * 1000)
