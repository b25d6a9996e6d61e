"""What the sweep over the connections remembers of one, and whom it cuts off.

Sans-IO. Rules: a peer that takes nothing of an answer for ``write_stall_ms`` is cut off; one that holds memory which
others wait for must send, after a grace, at least ``SLOW_BYTES_PER_S``, while it is not we who make it wait; one on whose connection nothing
moves is idle.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ottla.network.budget import SharedBudget
    from ottla.network.framing import Framer
    from ottla.network.limits import NetworkLimits
    from ottla.network.outbox import Outbox

SLOW_GRACE_S = 5.0
SLOW_BYTES_PER_S = 256 * 1024
"""A peer that holds memory which others wait for has a grace, and then to send at least so fast."""


class Watch:
    """Of one connection, the times (seconds of the loop's clock) since when it owes us something."""

    __slots__ = ("_filled", "_large_frames", "_waiting_since", "active_at", "progressed_at")

    def __init__(self, now: float) -> None:
        self.active_at = self.progressed_at = self._waiting_since = now
        self._large_frames = 0
        self._filled = 0

    def verdict(
        self,
        now: float,
        framer: Framer,
        outbox: Outbox,
        limits: NetworkLimits,
        budget: SharedBudget,
    ) -> str | None:
        """Why this peer is to be cut off; None if it is not."""
        if outbox.progressed():
            self.progressed_at = now
        elif (now - self.progressed_at) * 1000 > limits.write_stall_ms:
            return "the peer does not read its answers"
        if not framer.reserved or framer.starved or framer.large_frames != self._large_frames:
            self._large_frames = framer.large_frames
            self._waiting_since = now
            self._filled = framer.filled
        elif budget.contended:
            grace_s = min(limits.write_stall_ms / 1000, SLOW_GRACE_S)
            due_bytes = (now - self._waiting_since - grace_s) * SLOW_BYTES_PER_S
            if framer.filled - self._filled < due_bytes:
                return "a request comes too slowly while others wait for memory"
        return None

    def is_idle(self, now: float, idle_ms: int) -> bool:
        """Whether nothing has moved for ``idle_ms`` (-1: never mind)."""
        return idle_ms >= 0 and (now - self.active_at) * 1000 > idle_ms
