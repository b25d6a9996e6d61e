"""How fast a broker replicates what it is told to replicate slowly (KIP-73). Sans-IO.

Rules:
- Which replicas are throttled a topic's settings say (``leader.`` and ``follower.replication.throttled.replicas``):
  ``partition:broker``, with the leader's or the follower's own id, or ``*``.
- All of a broker's throttled replicas share one rate, measured over ``replication.quota.window.num`` samples. What
  is transferred is counted once it is; nobody waits for a transfer that has begun.
- A leader holds up only who is not in the ISR: a throttle makes nobody fall out of it.

Sources: ``ReplicationQuotaManager``, ``SimpleRate``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

EVERYBODY = "*"


def is_throttled(replicas: Sequence[str], index: int, broker_id: int) -> bool:
    """Whether a topic's list of throttled replicas has this one."""
    return bool(replicas) and (EVERYBODY in replicas or f"{index}:{broker_id}" in replicas)


class ReplicationQuota:
    """What was transferred lately, in one direction, and whether that is too much."""

    __slots__ = ("_bytes_per_second", "_now_s", "_samples", "_total", "_window_s", "_windows")

    def __init__(
        self,
        bytes_per_second: Callable[[], int],
        now_s: Callable[[], float],
        *,
        windows: int = 11,
        window_s: int = 1,
    ) -> None:
        """``bytes_per_second`` is asked each time; ``now_s`` is a steady clock."""
        self._bytes_per_second = bytes_per_second
        self._now_s = now_s
        self._windows = windows
        self._window_s = window_s
        self._samples: deque[list[float]] = deque()
        """Of each window when it began, and its bytes."""
        self._total = 0.0

    def record(self, size_bytes: int) -> None:
        """So much was transferred of throttled replicas."""
        now = self._now_s()
        self._forget(now)
        samples = self._samples
        if not samples or now - samples[-1][0] >= self._window_s:
            samples.append([now, 0.0])
        samples[-1][1] += size_bytes
        self._total += size_bytes

    @property
    def rate(self) -> float:
        """Bytes a second since the oldest window that counts; the first one counts as a whole."""
        now = self._now_s()
        self._forget(now)
        if not self._samples:
            return 0.0
        return self._total / max(now - self._samples[0][0], self._window_s)

    @property
    def is_exceeded(self) -> bool:
        """Whether throttled replicas have to wait."""
        return bool(self._samples) and self.rate > self._bytes_per_second()

    def _forget(self, now: float) -> None:
        samples = self._samples
        while samples and now - samples[0][0] >= self._windows * self._window_s:
            self._total -= samples.popleft()[1]
