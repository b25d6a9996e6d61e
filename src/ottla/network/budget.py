"""How many bytes of requests the broker holds at once: ``queued.max.request.bytes``.

Rules: bytes are reserved before memory is taken for a request and given back when it has been answered, or
earlier when its handler needs them no more. Whoever does not fit waits in order of arrival, so that a large
request is not starved by small ones. A request that is larger than the whole budget proceeds once nothing
else holds a part of it: there is no deadlock.

A large frame reserves in steps, as its bytes come (``Grower``): whoever announces much and sends little holds little.
Frames that have come in part must not wait for each other for ever, so:
- all of them together hold at most half of the budget;
- of those that have filled what they hold and wait for more, the first one *leads*: it has what it needs before anybody
  else, out of the other half. A frame above that half does not grow, but reserves its whole size first;
- all else that is held is whole, and is given back when it has been handled.

A part of the budget is for small requests alone (``SharedBudget``): peers that announce large requests and send
them slowly, or never, can make each other wait, but not those who only want to say that they are alive.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import NamedTuple

FIRST_BYTES = 256 * 1024
"""What a large frame reserves first."""

GROWTH = 8
"""A frame under way holds at most so many times what has come of it, once that is more than the first step."""


class Grower:
    """A frame that reserves in steps: its ``size``, and the bytes that are ``held`` for it."""

    __slots__ = ("held", "size")

    def __init__(self, size: int, held: int) -> None:
        self.size = size
        self.held = held


class Waiter(NamedTuple):
    """One connection that waits for ``size`` bytes; for more of a frame under way, if there is a ``grower``."""

    size: int
    granted: Callable[[], None]
    grower: Grower | None = None


class RequestBudget:
    """The bytes of all requests that are being read, handled or parked. Sans-IO."""

    __slots__ = ("_growing_bytes", "_leader", "_waiting", "limit_bytes", "used_bytes")

    def __init__(self, limit_bytes: int = -1) -> None:
        """``limit_bytes`` of -1 means no limit, as in Kafka."""
        self.limit_bytes = limit_bytes
        self.used_bytes = 0
        self._waiting: deque[Waiter] = deque()
        self._growing_bytes = 0
        self._leader: Grower | None = None

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

    def first(self, size: int) -> int:
        """How many bytes a frame of ``size`` reserves first: all, or the first step of a ``grower``."""
        return FIRST_BYTES if FIRST_BYTES < size <= self.limit_bytes // 2 else size

    def grower(self, size: int, held: int) -> Grower:
        """A frame of ``size`` for which ``held`` bytes have been reserved: ``first``, or what has come."""
        grower = Grower(size, held)
        self._growing_bytes += grower.held
        return grower

    def grow(self, grower: Grower, held: int, *, must: bool) -> bool:
        """Hold ``held`` bytes for it from now on, if that may be; ``must``: it has filled what it holds."""
        more = held - grower.held
        if not self._may_grow(grower, more, waits=False):
            if not must or self._leader is not None:
                return False
            self._leader = grower
            if not self._may_grow(grower, more, waits=False):
                return False
        self._hold(grower, more)
        return True

    def leave(self, grower: Grower) -> None:
        """No more is going to come of it. What is held for it is the caller's to release."""
        if grower.held < grower.size:
            self._growing_bytes -= grower.held
        if self._leader is grower:
            self._leader = None

    def wait(self, size: int, granted: Callable[[], None], grower: Grower | None = None) -> Waiter:
        """Queue for ``size`` bytes that ``reserve`` or ``grow`` has refused; ``granted`` is called once they are reserved.

        It is called from within another connection's ``release`` and must return at once.
        """
        waiter = Waiter(size, granted, grower)
        self._waiting.append(waiter)
        return waiter

    def withdraw(self, waiter: Waiter) -> None:
        """Give up waiting; does nothing if the bytes have been granted already."""
        self._remove(waiter)
        self._grant()

    def release(self, size: int) -> None:
        """Give ``size`` reserved bytes back."""
        self.used_bytes -= size
        if self._waiting:
            self._grant()

    def _may_grow(self, grower: Grower, more: int, *, waits: bool) -> bool:
        if self.used_bytes + more > self.limit_bytes:
            return False
        if grower is self._leader:
            return True
        half = self.limit_bytes - self.limit_bytes // 2
        return self._growing_bytes + more <= half and (waits or not self._waiting)

    def _hold(self, grower: Grower, more: int) -> None:
        self.used_bytes += more
        grower.held += more
        self._growing_bytes += more
        if grower.held == grower.size:  # whole: it waits for nobody any more
            self._growing_bytes -= grower.held
            if self._leader is grower:
                self._leader = None

    def _grant(self) -> None:
        self._grant_leaders()
        while self._waiting:
            waiter = self._waiting[0]
            size = waiter.size
            if waiter.grower is not None:
                if not self._may_grow(waiter.grower, size, waits=True):
                    return
                self._waiting.popleft()
                self._hold(waiter.grower, size)
            else:
                if self.used_bytes + size > self.limit_bytes and self.used_bytes:
                    return
                self._waiting.popleft()
                self.used_bytes += size
            waiter.granted()

    def _grant_leaders(self) -> None:
        """Give the leader what it waits for, and the next one, as far as that goes."""
        while True:
            waiting = (each for each in self._waiting if each.grower is not None)
            if self._leader is None:
                found = next(waiting, None)
                if found is None:
                    return
                self._leader = found.grower
            else:
                found = next((each for each in waiting if each.grower is self._leader), None)
            if found is None or self.used_bytes + found.size > self.limit_bytes:
                return
            assert found.grower is not None
            self._remove(found)
            self._hold(found.grower, found.size)
            found.granted()

    def _remove(self, waiter: Waiter) -> None:
        for index, waiting in enumerate(self._waiting):
            if waiting is waiter:
                del self._waiting[index]
                break


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

    def first(self, size: int) -> int:
        """What a frame of ``size`` reserves first, as ``RequestBudget.first``."""
        return self._large.first(size)

    def grower(self, size: int, held: int) -> Grower:
        """As ``RequestBudget.grower``."""
        return self._large.grower(size, held)

    def grow(self, grower: Grower, held: int, *, must: bool) -> bool:
        """As ``RequestBudget.grow``."""
        return self._large.grow(grower, held, must=must)

    def leave(self, grower: Grower) -> None:
        """As ``RequestBudget.leave``."""
        self._large.leave(grower)

    def wait(self, size: int, granted: Callable[[], None], grower: Grower | None = None) -> Waiter:
        """Queue for ``size`` bytes, as ``RequestBudget.wait``."""
        part = self._large if grower is not None else self._part(size)
        return part.wait(size, granted, grower)

    def withdraw(self, waiter: Waiter) -> None:
        """Give up waiting; does nothing if the bytes have been granted already."""
        part = self._large if waiter.grower is not None else self._part(waiter.size)
        part.withdraw(waiter)

    def release(self, size: int) -> None:
        """Give the ``size`` bytes of one request back."""
        (self._small if size <= SMALL_BYTES_MAX else self._large).release(size)

    def release_small(self, size: int) -> None:
        """Give back ``size`` bytes of several requests, none of more than ``SMALL_BYTES_MAX``."""
        self._small.release(size)

    def _part(self, size: int) -> RequestBudget:
        return self._small if size <= SMALL_BYTES_MAX else self._large
