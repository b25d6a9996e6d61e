"""The application's thread reads what it waits for itself, in the place of the loop's thread.

Two threads that wake each other for every answer sleep while they do, and the loop's gets the interpreter's lock only
when the application's lets it go: so the loop lends the connections over which answers are to come, and the thread
that polls reads them, decodes them and sends the next Fetch, as a visitor of the loop (``LoopThread.visit``).
Everything else stays with the loop: connecting, what is not plain records, heartbeats, timers.

Rules:
- A connection that nobody has visited for ``LOOK_S`` is read by the loop again: an application that works on what it has,
  or has stopped to poll, neither keeps answers from being taken in nor brokers from being heard of.
- A visit that a signal's handler has cut off, or in which it had the loop do something, leaves nobody knows what: the
  connections are given up, and what did not reach the application is fetched again.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import suppress

from ottla import capabilities
from ottla.capabilities import POLL_IN
from ottla.client.consumer.core import ConsumerCore
from ottla.client.loop_thread import LoopThread
from ottla.network.channel import Channel

LOOK_S = 0.5
"""How often the loop looks whether what it has lent is visited."""

VISIT_RECORDS = 2_000
"""After so many records what has come is read, though there are more to hand out."""


class DirectReading:
    """Used by the thread that polls, but for what says that it is for the loop."""

    def __init__(self, thread: LoopThread, core: ConsumerCore) -> None:
        self._thread = thread
        self._core = core
        self._lent: list[Channel] = []
        self._visited = False
        self._reading = False
        """Whether a visit is under way, or was when it was cut off: then there is none before ``clear_up``."""
        self._waiting = False
        self._room = False
        self._bell: tuple[socket.socket, socket.socket] | None = None
        self._looks = False

    @property
    def is_possible(self) -> bool:
        """Whether this system, and the kind of loop that the application has chosen, allow it."""
        return self._thread.can_be_visited and capabilities.poll is not None

    # In the thread that polls

    def visit(self, *, wait: bool = False, room: bool = False) -> bool:
        """Take in what has come, if it is ours to read; whether it was, and the loop had time.

        ``room`` says that a Fetch may leave that waited for it.
        """
        if not self._lent or self._reading:
            return False
        core, thread = self._core, self._thread
        self._room = room
        try:
            return thread.visit(self._read, wait=wait)
        except BaseException as error:
            core.doubt()
            if core.closed and isinstance(error, RuntimeError):
                return False  # by a signal's handler: there is no loop any more
            raise
        finally:
            if thread.disturbed:
                thread.disturbed = False
                self._reading = True
                core.doubt()

    def _read(self) -> None:
        fetcher = self._core.fetcher
        self._reading = self._visited = True
        fetcher.elsewhere = self._thread.call_soon
        try:
            if self._room:
                fetcher.maintain()
            for channel in tuple(self._lent):
                if not channel.read_lent():
                    self._lent = [other for other in self._lent if other is not channel]
                    self._thread.call_soon(channel.give_back)
        finally:
            fetcher.elsewhere = None
        self._reading = False

    def wait(self, timeout: float, news: threading.Lock) -> bool:
        """Wait until something has come, or ``news`` can be acquired (which it is); False if nothing is ours to read."""
        if capabilities.poll is None:
            return False
        self._waiting = True
        try:
            sockets = [channel.lent for channel in self._lent]
            places = [sock.fileno() for sock in sockets if sock is not None]
            if not any(place >= 0 for place in places):
                return False
            bell = self._bell = self._bell or _new_bell()
            asked = capabilities.poll()
            for place in (*places, bell[0].fileno()):
                if place >= 0:
                    asked.register(place, POLL_IN)
            if not news.acquire(blocking=False):
                asked.poll(timeout * 1000)
                news.acquire(blocking=False)
        finally:
            self._waiting = False
        with suppress(OSError):  # it has not rung, or has been closed
            bell[0].recv(4096)
        return True

    def ask(self) -> None:
        """Have the loop lend what answers are to come over."""
        if self.is_possible:
            self.soon(self._lend)

    def leave(self) -> None:
        """Have the loop read again what it has lent: this thread is about to wait for the loop."""
        if self._lent:
            self.soon(self._give_back)

    def soon(self, callback: Callable[[], object]) -> None:
        """Have the loop call it; nothing happens where another thread has closed the consumer meanwhile, and its loop."""
        try:
            self._thread.call_soon(callback)
        except RuntimeError:
            if not self._core.closed:
                raise

    def close(self) -> None:
        """Once the loop has ended."""
        if self._bell is not None:
            for end in self._bell:
                end.close()
            self._bell = None

    # On the loop

    def ring(self) -> None:
        """There is news: end a ``wait``; on the loop."""
        if self._waiting and self._bell is not None:
            with suppress(OSError):  # it has rung often enough, or nobody listens any more
                self._bell[1].send(b"\0")

    def _lend(self) -> None:
        """On the loop."""
        core = self._core
        lent = [channel for channel in core.fetcher.channels() if channel.lend()]
        if core.closed or not lent:
            return
        self._lent = self._lent + lent
        self._visited = True
        if not self._looks:
            self._look()
        core.tell()  # who waits is to wait for these, too

    def _look(self) -> None:
        """On the loop."""
        self.clear_up()
        if not (self._visited or self._waiting):
            self._give_back()
        self._visited = False
        self._looks = bool(self._lent)
        if self._looks:
            self._thread.loop.call_later(LOOK_S, self._look)
            self._lend()

    def _give_back(self) -> None:
        """On the loop."""
        self.clear_up()
        if self._reading:
            return
        lent, self._lent = self._lent, []
        for channel in lent:
            channel.give_back()

    def clear_up(self) -> None:
        """Give up what a visit has left in the middle; on the loop, so that none is under way, or one that will go on."""
        if not self._reading or self._thread.suspended:
            return
        self._reading = False
        lent, self._lent = self._lent, []
        for channel in lent:
            channel.abort("reading from it was interrupted")
        self._core.fetcher.start_over()
        self._core.doubt()


def _new_bell() -> tuple[socket.socket, socket.socket]:
    bell = socket.socketpair()
    for end in bell:
        end.setblocking(False)
    return bell
