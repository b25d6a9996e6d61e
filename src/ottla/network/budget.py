"""How many bytes of requests the broker holds at once: ``queued.max.request.bytes``.

Rules: bytes are reserved before memory is taken for a request and given back when it has been answered, or
earlier when its handler needs them no more. Whoever does not fit waits in order of arrival, so that a large
request is not starved by small ones. A request that is larger than the whole budget proceeds once nothing
else holds a part of it: there is no deadlock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import NamedTuple


class Waiter(NamedTuple):
    """One connection that waits for ``size`` bytes."""

    size: int
    granted: Callable[[], None]


class RequestBudget:
    """The bytes of all requests that are being read, handled or parked. Sans-IO."""

    __slots__ = ("_waiting", "limit_bytes", "used_bytes")

    def __init__(self, limit_bytes: int = -1) -> None:
        """``limit_bytes`` of -1 means no limit, as in Kafka."""
        self.limit_bytes = limit_bytes
        self.used_bytes = 0
        self._waiting: deque[Waiter] = deque()

    @property
    def contended(self) -> bool:
        """Whether somebody waits."""
        return bool(self._waiting)

    def reserve(self, size: int) -> bool:
        """Take ``size`` bytes if they are free and nobody waits for them already."""
        used = self.used_bytes
        if self.limit_bytes < 0 or (
            not self._waiting and (used + size <= self.limit_bytes or used == 0)
        ):
            self.used_bytes = used + size
            return True
        return False

    def wait(self, size: int, granted: Callable[[], None]) -> Waiter:
        """Queue for ``size`` bytes that ``reserve`` has refused; ``granted`` is called once they are reserved.

        It is called from within another connection's ``release`` and must return at once.
        """
        waiter = Waiter(size, granted)
        self._waiting.append(waiter)
        return waiter

    def withdraw(self, waiter: Waiter) -> None:
        """Give up waiting; does nothing if the bytes have been granted already."""
        for index, waiting in enumerate(self._waiting):
            if waiting is waiter:
                del self._waiting[index]
                break
        self._grant()

    def release(self, size: int) -> None:
        """Give ``size`` reserved bytes back."""
        self.used_bytes -= size
        if self._waiting:
            self._grant()

    def _grant(self) -> None:
        while self._waiting:
            size = self._waiting[0].size
            if self.used_bytes + size > self.limit_bytes and self.used_bytes:
                return
            waiter = self._waiting.popleft()
            self.used_bytes += size
            waiter.granted()
