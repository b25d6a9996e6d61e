"""How many bytes of requests the broker holds at once: ``queued.max.request.bytes``.

Rules: bytes are reserved before memory is taken for a request and given back when it has been answered, or
earlier when its handler needs them no more. Whoever does not fit waits in order of arrival, so that a large
request is not starved by small ones. A request that is larger than the whole budget proceeds once nothing
else holds a part of it: there is no deadlock.

A part of the budget is for small requests alone (``SharedBudget``): peers that announce large requests and send
them slowly, or never, can make each other wait, but not those who only want to say that they are alive.
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

    def take(self, size: int) -> None:
        """Count ``size`` bytes that are taken in any case: others wait the longer."""
        self.used_bytes += size

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


SMALL_BYTES_MAX = 64 * 1024
"""What counts as small."""

SMALL_PART = 8
"""One part in so many is for small requests."""

SPLIT_FROM_BYTES = 8 * 1024 * 1024
"""A smaller budget is not split: neither part would be of use."""


class SharedBudget:
    """A budget of which a part is kept for small requests. Sans-IO."""

    __slots__ = ("_large", "_small")

    def __init__(self, limit_bytes: int = -1) -> None:
        """``limit_bytes`` of -1 means no limit, as in Kafka."""
        split = limit_bytes >= SPLIT_FROM_BYTES
        small_bytes = limit_bytes // SMALL_PART if split else 0
        self._large = RequestBudget(limit_bytes - small_bytes)
        self._small = RequestBudget(small_bytes) if split else self._large

    @property
    def used_bytes(self) -> int:
        """The bytes of all requests."""
        if self._small is self._large:
            return self._large.used_bytes
        return self._large.used_bytes + self._small.used_bytes

    @property
    def contended(self) -> bool:
        """Whether somebody waits."""
        return self._large.contended or self._small.contended

    def reserve(self, size: int) -> bool:
        """Take ``size`` bytes if they are free and nobody of the like waits for them already."""
        return (self._small if size <= SMALL_BYTES_MAX else self._large).reserve(size)

    def take(self, size: int) -> None:
        """Count ``size`` bytes, as ``RequestBudget.take``."""
        self._part(size).take(size)

    def wait(self, size: int, granted: Callable[[], None]) -> Waiter:
        """Queue for ``size`` bytes, as ``RequestBudget.wait``."""
        return self._part(size).wait(size, granted)

    def withdraw(self, waiter: Waiter) -> None:
        """Give up waiting; does nothing if the bytes have been granted already."""
        self._part(waiter.size).withdraw(waiter)

    def release(self, size: int) -> None:
        """Give the ``size`` bytes of one request back."""
        (self._small if size <= SMALL_BYTES_MAX else self._large).release(size)

    def release_small(self, size: int) -> None:
        """Give back ``size`` bytes of several requests, none of more than ``SMALL_BYTES_MAX``."""
        self._small.release(size)

    def _part(self, size: int) -> RequestBudget:
        return self._small if size <= SMALL_BYTES_MAX else self._large
