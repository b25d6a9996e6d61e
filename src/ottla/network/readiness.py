"""Accepted connections without TLS are read in one call of the event loop, as many as have something to be read.

asyncio takes each socket's event by itself: a handle, its context, a transport's layers; with many connections that bring a
small request each, this was a quarter of the broker's work. Here all such sockets are in one ``epoll``, which is itself
what the event loop watches; when it says so, everybody who is ready is read (``transport.PlainTransport``), and then what
they brought is handled together (``joining``).

Rules:
- A call reads ``AT_ONCE`` sockets at most, each once; then it is the turn of whatever else the event loop has. Who is
  left is still ready, and the kernel tells of those first who were not told of last.
- Who hangs up is gone with the loop's next turn and not before, so that a descriptor is one connection's as long as a
  call takes.
- One connection's error ends that connection and is no other's.

Where there is no ``epoll``, and with TLS, the transports are asyncio's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ottla.capabilities import POLL_IN, POLL_OUT

if TYPE_CHECKING:
    import asyncio

    from ottla.network.joining import Joining
    from ottla.network.turns import Turns

AT_ONCE = 256
"""How many sockets are read before others have their turn."""


class Readable:
    """Somebody who has a socket here."""

    __slots__ = ()

    def read_ready(self) -> None:
        """There is something to read, or the peer has gone."""

    def write_ready(self) -> None:
        """The socket takes bytes again."""


class Readiness:
    """The sockets of one event loop that are looked at together; ``joining`` and ``turns`` are told when they are read."""

    __slots__ = ("_epoll", "_joining", "_loop", "_poll", "_there", "_turns")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, epoll: Any, joining: Joining, turns: Turns
    ) -> None:
        """``epoll`` is closed by ``close``."""
        self._loop = loop
        self._epoll = epoll
        self._poll = epoll.poll
        self._joining = joining
        self._turns = turns
        self._there: dict[int, Readable] = {}
        loop.add_reader(epoll.fileno(), self._ready)

    def watch(self, descriptor: int, wanted: int, before: int, who: Readable) -> None:
        """Tell ``who`` of what it wants (``POLL_IN``, ``POLL_OUT``, both, 0) from now on; ``before`` is what it wanted until now.

        Who wants nothing is told of nothing, not even that its peer has hung up. Raises ``OSError``: all is as it was.
        """
        if not before:
            self._epoll.register(descriptor, wanted)
            self._there[descriptor] = who
        elif self._there.get(descriptor) is not who:
            return  # it is another's now
        elif wanted:
            self._epoll.modify(descriptor, wanted)
        else:
            del self._there[descriptor]
            self._epoll.unregister(descriptor)

    def close(self) -> None:
        """Look no more; nobody is here any more."""
        if not self._epoll.closed:
            self._loop.remove_reader(self._epoll.fileno())
            self._epoll.close()

    def _ready(self) -> None:
        there = self._there
        self._joining.more_comes = True
        self._turns.reading()
        try:
            for descriptor, event in self._poll(0, AT_ONCE):
                who = there.get(descriptor)
                if who is None:
                    continue  # one before it has had it closed
                if event == POLL_IN:
                    who.read_ready()
                    continue
                # An error or a hang-up is met by reading or writing, whatever was asked for.
                if event & ~POLL_IN:
                    who.write_ready()
                if event & ~POLL_OUT:
                    who.read_ready()
        finally:
            try:
                self._joining.read_over()
            finally:
                self._turns.read_over()
