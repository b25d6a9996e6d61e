"""Small Produce requests that come at one moment on several connections are handled together.

Producers that have a few requests on their way each bring one or some with every read, and most of what it costs is not
the append: the write, the objects around it, the way to its answer. So requests that came with a read that begins with a
whole one, and may be like the last one on their connection, wait until what the selector has found ready is read,
which is at once where there is no more of it. Then they are handled one after the other, each in a run of its kind
(``request.Kind``), with one settlement, and answered. All of that is one call of the event loop: as with the
requests of one read, nothing else runs between an append and its write. One that is not for a run is handled by its
connection like any, after those before it are settled.

Requests for several partitions are handled in their connection's turn, and so are those behind them. What is put off, until what
is ready is read or ``LATE_MAX`` connections have brought such, is the settlement at the turn's end: one write a partition for all of them
(``late``). Whatever is not a Produce, and could look at what is not written yet, has them settled first (``settle_late``).

A connection that waits here counts as queued, as one does that waits for its turn. What is handled in one call takes about as
long as a turn, and is at most as many requests of each connection as a turn has.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING

from ottla.logs import logger
from ottla.loops import rest_of
from ottla.network.request import Answers, Kind, Run

if TYPE_CHECKING:
    import asyncio

    from ottla.network.answering import Answering
    from ottla.network.connection import Connection
    from ottla.network.parked import Parked
    from ottla.network.server import Server

log = logger(__name__)

Runs = dict["Kind", tuple["Run", list["Connection"]]]
"""By kind: the run, and for each request in it whose it is, in their order. Those of a connection lie together."""

Part = tuple["Connection", int, int]

LATE_MAX = 3
"""How many connections' large requests are written together at most: each holds a window (``framing``). Five gave no more."""


class Joining:
    """The connections of one event loop whose requests wait for each other."""

    __slots__ = ("_called", "_late", "_rest", "_server", "_waiting", "more_comes")

    def __init__(self, server: Server) -> None:
        self._server = server
        self._waiting: deque[Connection] = deque()
        self._called = False
        self._late: list[Answering] = []
        self._rest: Callable[[], bool] = rest_of(server.loop)
        self.more_comes = False
        """Whether more is being read, and ``read_over`` called then."""

    def add(self, connection: Connection) -> None:
        """Its request waits until everything is read that was ready with it."""
        self._waiting.append(connection)
        if not self._called and not self.more_comes:
            if self._rest():
                self._called = True
                self._server.loop.call_soon(self._run)
            else:
                self._run()

    def begin(
        self, kind: Kind, runs: Runs, received_ms: int
    ) -> tuple[Run, list[Connection]] | None:
        """A run of a kind, which is one of ``runs`` then; None where what was known of the kind does not hold any more."""
        server = self._server
        started_s = monotonic() if server.meter is not None else 0.0
        run = kind.begin(received_ms, started_s, server.budget)
        if run is None:
            return None
        found = runs[kind] = run, []
        return found

    def late(self, connection: Answering) -> bool:
        """Whether what was appended for it is written together with what the others bring that are read with it."""
        if not self.more_comes:
            return False
        self._late.append(connection)
        if len(self._late) >= LATE_MAX:
            self.settle_late()
        return True

    def settle_late(self) -> None:
        """Write what waits for others, and answer it."""
        if not self._late:
            return
        late, self._late = self._late, []
        self._server.settle()
        for connection in late:
            try:
                connection.settle_late()
            except Exception as error:  # ours to mend, and no other's
                log.error("requests failed", error=error, peer=connection.connection_id)
                connection.abort("a request failed")

    def read_over(self) -> None:
        """What was ready has been read."""
        self.more_comes = False
        self.settle_late()
        if self._waiting and not self._called:
            self._run()

    def _run(self) -> None:
        """Handle those that wait, as many as there is time for; the others behind what is ready by now."""
        waiting = self._waiting
        turns = self._server.turns
        now_ms = self._server.clock.now_ms()
        now = turns.time()
        end = turns.end(now)
        runs: Runs = {}
        try:
            while waiting and now <= end:
                connection = waiting.popleft()
                if not connection.join(runs, now_ms):
                    self._settle(runs)
                    runs = {}
                    connection.go_on()
                now = turns.time()
            self._settle(runs)
        finally:
            self._called = bool(waiting)
            if waiting:
                self._server.loop.call_soon(self._run)
                for connection in waiting:
                    connection.wait_longer()

    def _settle(self, runs: Runs) -> None:
        """Write what was appended, and answer, or park the answers."""
        if not runs:
            return
        try:
            self._server.settle()
        except Exception as error:  # ours to mend: what has become of them is not known
            log.error("requests failed", error=error)
            for run, connections in runs.values():
                run.release()
                for connection in connections:
                    connection.close("a request failed", api_key=run.api_key)
            return
        for run, connections in runs.values():
            if not connections:
                continue  # the first one that was for it was refused by it
            try:
                answers: Answers | asyncio.Future[Answers] = run.settle()
            except Exception as error:
                run.release()
                log.error("requests failed", error=error, api_key=run.api_key)
                for connection in connections:
                    connection.close("a request failed", api_key=run.api_key)
                continue
            if isinstance(answers, Answers):
                self._count(run, answers)
                self._answer(connections, answers.apart)
            else:
                parts = parts_of(connections)
                parked = [one.park_joined(last - first) for one, first, last in parts]
                answers.add_done_callback(partial(self._settled, run, parts, parked))

    def _answer(self, connections: list[Connection], apart: Sequence[bytes]) -> None:
        """Each its own, with one write."""
        if len(set(connections)) == len(connections):  # a request each, as most have
            for connection, answer in zip(connections, apart, strict=True):
                connection.answer_joined(answer)
            return
        for connection, first, last in parts_of(connections):
            connection.answer_joined(b"".join(apart[first:last]))

    def _settled(
        self, run: Run, parts: list[Part], parked: list[Parked], done: asyncio.Future[Answers]
    ) -> None:
        """What the answers of a run waited for is there, or will never be."""
        answers = done.result()
        self._count(run, answers)
        for (connection, first, last), one in zip(parts, parked, strict=True):
            connection.joined_answered(one, Answers(b"".join(answers.apart[first:last])))

    def _count(self, run: Run, answers: Answers) -> None:
        if self._server.meter is not None:
            self._server.meter.run_answered(run, answers)


def parts_of(connections: list[Connection]) -> list[Part]:
    """Which of a run's requests are whose: a connection, its first one, and the one behind its last."""
    parts: list[Part] = []
    first = 0
    before = connections[0]
    for index, connection in enumerate(connections):
        if connection is not before:
            parts.append((before, first, index))
            before, first = connection, index
    parts.append((before, first, len(connections)))
    return parts
